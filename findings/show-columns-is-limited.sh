#!/usr/bin/env bash
# Guess: `sql_select_limit` cuts the results of SELECT; a SHOW tells the whole truth.
# What happens: SHOW COLUMNS, SHOW INDEX, SHOW TABLES, SHOW ENGINES and SHOW PLUGINS are SELECTs from views inside the server, and
#   are cut without a warning. SHOW CREATE TABLE and SHOW BINLOG EVENTS are not.
# Versions: MySQL 9.7.4.
# Why it matters: a tool that asks for a table's columns or keys in a session where somebody set the variable
#   (globally, or by `init_connect`) sees a table with fewer columns, and has no way to notice from the answer.
#
# Seen, of a table with 4 columns and 4 keys, with sql_select_limit=2:
#> SHOW COLUMNS: id a
#> SHOW INDEX: PRIMARY ka
#> SHOW TABLES, of 3: t u
#> information_schema.columns: id a
#> columns within SHOW CREATE TABLE: 4
#> SHOW ENGINES: 2 lines
#> SHOW PLUGINS: 2 lines
#> SHOW BINLOG EVENTS: more than 2 lines
#> INSERT … SELECT of 4 rows: 4 inserted
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m 'CREATE DATABASE d; USE d;
    CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, c INT, KEY ka (a), KEY kb (b), KEY kc (c));
    INSERT INTO t VALUES (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3), (4, 4, 4, 4);
    CREATE TABLE u LIKE t; CREATE TABLE v LIKE t'
limited() { sql m "USE d; SET sql_select_limit=2; $1"; }
column() { cut -f "$1" | tr '\n' ' ' | sed 's/ $//'; }

see 'SHOW COLUMNS' "$(limited 'SHOW COLUMNS FROM t' | column 1)"
see 'SHOW INDEX' "$(limited 'SHOW INDEX FROM t' | column 3)"
see 'SHOW TABLES, of 3' "$(limited 'SHOW TABLES' | column 1)"
see 'information_schema.columns' "$(limited "SELECT column_name FROM information_schema.columns
    WHERE table_schema = 'd' AND table_name = 't' ORDER BY ordinal_position" | column 1)"
see 'columns within SHOW CREATE TABLE' "$(limited 'SHOW CREATE TABLE t' | grep -c '^  `')"
see 'SHOW ENGINES' "$(limited 'SHOW ENGINES' | wc -l) lines"
see 'SHOW PLUGINS' "$(limited 'SHOW PLUGINS' | wc -l) lines"
see 'SHOW BINLOG EVENTS' "$(limited 'SHOW BINLOG EVENTS' | awk 'END {print (NR > 2 ? "more than 2" : NR) " lines"}')"
see 'INSERT … SELECT of 4 rows' "$(limited 'INSERT INTO u SELECT * FROM t; SELECT ROW_COUNT()') inserted"
verdict
