#!/usr/bin/env bash
# Guess: a generated column may only depend on its row, so an expression that depends on the session is refused when the column is made;
#   and a STORED value changes when its row does.
# What happens: DATE(ts) of a TIMESTAMP is accepted. The value is that of the zone of the session that wrote the row, and an ALTER of another column that
#   copies computes all of them again in the zone of its own session. With an index on a VIRTUAL one, the same query answers
#   differently with the index and without.
# Versions: MySQL 9.7.4.
# Why it matters: an ALTER from a laptop, or by a tool that sets its zone, moves "the day" of millions of rows. No warning, and a comparison of
#   the other columns finds nothing.
#
# Seen, of a row written in +00:00 with ts 22:00 on June 1st:
#> stored, read in +08:00: 2024-06-01
#> virtual, read in +08:00: 2024-06-02
#> rows where virtual is June 2nd, in +08:00, by its index: 0
#> rows where virtual is June 2nd, in +08:00, without: 1
#> stored, after ALTER … MODIFY a BIGINT in +08:00: 2024-06-02
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m "CREATE DATABASE d; SET time_zone='+00:00';
    CREATE TABLE d.t (id INT PRIMARY KEY, a INT, ts TIMESTAMP, s DATE AS (DATE(ts)) STORED, v DATE AS (DATE(ts)) VIRTUAL, KEY kv (v));
    INSERT INTO d.t (id, ts) VALUES (1, '2024-06-01 22:00:00')"
east() { sql m "USE d; SET time_zone='+08:00'; $1"; }
see 'stored, read in +08:00' "$(east 'SELECT s FROM t')"
see 'virtual, read in +08:00' "$(east 'SELECT v FROM t IGNORE INDEX (kv)')"
see 'rows where virtual is June 2nd, in +08:00, by its index' "$(east "SELECT COUNT(id) FROM t FORCE INDEX (kv) WHERE v = '2024-06-02'")"
see 'rows where virtual is June 2nd, in +08:00, without' "$(east "SELECT COUNT(id) FROM t IGNORE INDEX (kv) WHERE v = '2024-06-02'")"
see 'stored, after ALTER … MODIFY a BIGINT in +08:00' "$(east 'ALTER TABLE t MODIFY a BIGINT; SELECT s FROM t')"
verdict
