#!/usr/bin/env bash
# Guess: the server's own mysqlbinlog shows the value that is in the table.
# What happens: YEAR is one byte, 0 for the year 0000 and years since 1900 otherwise. mysqlbinlog, and readers that learnt from it
#   (python-mysql-replication), add 1900 to the 0 as well. 1900 itself is no YEAR, so no table ever had the value.
# Versions: mysqlbinlog 9.7.4; mysql-replication 1.0.17 (PyPI).
# Why it matters: 0000 is what lax sessions store for a year that they do not understand. A row that was read from the log and is written
#   back fails with 1264 in a strict session, and becomes 0000 again, by luck, in a lax one.
#
# Seen:
#> in the table: 0000
#> mysqlbinlog: @2=1900
#> python-mysql-replication: 1900
#> INSERT of 1900: ERROR 1264 (22003) at line 1: Out of range value for column 'y' at row 1
. "$(dirname "$0")/lib.sh"

mysql_server m --binlog-row-metadata=FULL
python_with mysql-replication==1.0.17 pymysql==1.2.4 cryptography==50.0.2
sql m "CREATE USER r@localhost IDENTIFIED BY 'r'; GRANT ALL ON *.* TO r@localhost;
    CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, y YEAR); INSERT INTO d.t VALUES (1, 0)"
see 'in the table' "$(sql m 'SELECT y FROM d.t')"
see mysqlbinlog "$(rows_of_log m | sed -n 's/^### *\(@2=.*\)/\1/p')"
see python-mysql-replication "$("$PYTHON" - "${PORT[m]}" <<'P'
import sys
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import WriteRowsEvent
for event in BinLogStreamReader(
    connection_settings=dict(host="127.0.0.1", port=int(sys.argv[1]), user="r", passwd="r"), server_id=99, blocking=False,
    only_events=[WriteRowsEvent]):
    print(event.rows[0]["values"]["y"])
P
)"
see 'INSERT of 1900' "$(sql m 'INSERT INTO d.t VALUES (2, 1900)')"
verdict
