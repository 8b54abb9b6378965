#!/usr/bin/env bash
# Guess: a replica that ignores tables `_…` does the part of `RENAME TABLE t TO _t_del, _t_gho TO t` that concerns t, or stops because it
#   has no _t_gho.
# What happens: as one of the statement's tables is ignored, the whole statement is, and its GTID counts as executed. The replica keeps the old t, and the rows of the
#   new t are applied to it: columns that it lacks are thrown away. Replication runs without error or lag.
# Versions: MySQL 9.7.4.
# Why it matters: filters for the temporary tables of online schema changes are common advice. The swap leaves such a replica with another definition, which
#   shows at the first value that does not fit, or after a failover.
#
# Seen, with replicate-wild-ignore-table=d.\_% and a _t_gho that has a column more:
#> source, SELECT * FROM t: 1 1 new, 2 2 new
#> replica, SELECT * FROM t: 1 1, 2 2
#> replica, tables: t
#> replica has executed all of the source's GTIDs: 1
#> replica, applier's service and errors: ON 0
. "$(dirname "$0")/lib.sh"

mysql_server source
mysql_server replica '--replicate-wild-ignore-table=d.\_%'
sql source "CREATE USER r@localhost IDENTIFIED BY 'r'; GRANT REPLICATION SLAVE ON *.* TO r@localhost;
    CREATE DATABASE d; USE d; CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1);
    CREATE TABLE _t_gho LIKE t; ALTER TABLE _t_gho ADD extra VARCHAR(9) DEFAULT 'new'; INSERT INTO _t_gho (id, v) SELECT * FROM t;
    RENAME TABLE t TO _t_del, _t_gho TO t;
    INSERT INTO t (id, v) VALUES (2, 2)"
sql replica "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=${PORT[source]}, SOURCE_USER='r', SOURCE_PASSWORD='r',
    SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA"
executed=$(sql source 'SELECT @@gtid_executed')
missing=$(sql replica "SELECT WAIT_FOR_EXECUTED_GTID_SET('$executed', 30)")
rows() { sql "$1" 'SELECT * FROM d.t ORDER BY id' | tr '\t' ' ' | paste -sd, | sed 's/,/, /g'; }
see 'source, SELECT * FROM t' "$(rows source)"
see 'replica, SELECT * FROM t' "$(rows replica)"
see 'replica, tables' "$(sql replica 'SHOW TABLES FROM d' | paste -sd' ')"
see "replica has executed all of the source's GTIDs" "$((missing == 0))"
see "replica, applier's service and errors" "$(sql replica 'SELECT service_state FROM performance_schema.replication_applier_status;
    SELECT COUNT(*) FROM performance_schema.replication_applier_status_by_worker WHERE last_error_number <> 0' | paste -sd' ')"
verdict
