#!/usr/bin/env bash
# Guess: a BINARY(16) value has 16 bytes wherever one meets it.
# What happens: in row events the server leaves out trailing zero bytes (as it does trailing spaces of a CHAR). Only the table map
#   knows the width, and readers that do not pad, mysqlbinlog among them, show a shorter value: of a key that ends in 00, another key.
# Versions: mysqlbinlog 9.7.4; mysql-replication 1.0.17 (PyPI).
# Why it matters: UUIDs in BINARY(16) keys: one of 256 ends in 00. A lookup by the shorter value finds nothing, so a row is missed or
#   inserted twice, once in some hundred rows.
#
# Seen, of id BINARY(4) = x'01020000':
#> WHERE id = x'01020000': 1 row
#> mysqlbinlog: @1='\x01\x02'
#> python-mysql-replication: b'\x01\x02'
#> WHERE id = x'0102': 0 rows
. "$(dirname "$0")/lib.sh"

mysql_server m --binlog-row-metadata=FULL
python_with mysql-replication==1.0.17 pymysql==1.2.4 cryptography==50.0.2
sql m "CREATE USER r@localhost IDENTIFIED BY 'r'; GRANT ALL ON *.* TO r@localhost;
    CREATE DATABASE d; CREATE TABLE d.t (id BINARY(4) PRIMARY KEY); INSERT INTO d.t VALUES (x'01020000')"
see "WHERE id = x'01020000'" "$(sql m "SELECT COUNT(*) FROM d.t WHERE id = x'01020000'") row"
see mysqlbinlog "$(rows_of_log m | sed -n 's/^### *\(@1=.*\)/\1/p')"
see python-mysql-replication "$("$PYTHON" - "${PORT[m]}" <<'P'
import sys
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import WriteRowsEvent
for event in BinLogStreamReader(
    connection_settings=dict(host="127.0.0.1", port=int(sys.argv[1]), user="r", passwd="r"), server_id=99, blocking=False,
    only_events=[WriteRowsEvent]):
    print(event.rows[0]["values"]["id"])
P
)"
see "WHERE id = x'0102'" "$(sql m "SELECT COUNT(*) FROM d.t WHERE id = x'0102'") rows"
verdict
