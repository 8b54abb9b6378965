#!/usr/bin/env bash
# Guess: a reader of the binary log that does not know compressed transactions stops with an error at the first one.
# What happens: python-mysql-replication shows the transaction's GTID, then the next transaction. Its rows are not there, and there is no
#   error, warning or unknown event to be seen. Any client can switch the compression on for its own session.
# Versions: mysql-replication 1.0.17 (PyPI), MySQL 9.7.4.
# Why it matters: a copy that is kept up by such a reader lacks rows and passes for complete; auto-positioning counts them as done.
#   A reader must refuse events that it does not know.
#
# Seen, of INSERTs of 1, of 2 with SET binlog_transaction_compression=ON, and of 3:
#> events: GtidEvent WriteRowsEvent[1] GtidEvent GtidEvent WriteRowsEvent[3]
#> rows in the table: 1 2 3
. "$(dirname "$0")/lib.sh"

mysql_server m
python_with mysql-replication==1.0.17 pymysql==1.2.4 cryptography==50.0.2
sql m "CREATE USER r@localhost IDENTIFIED BY 'r'; GRANT ALL ON *.* TO r@localhost;
    CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY);
    RESET BINARY LOGS AND GTIDS;
    INSERT INTO d.t VALUES (1);
    SET binlog_transaction_compression=ON; INSERT INTO d.t VALUES (2);
    SET binlog_transaction_compression=OFF; INSERT INTO d.t VALUES (3)"
see events "$("$PYTHON" - "${PORT[m]}" <<'P'
import sys
from pymysqlreplication import BinLogStreamReader
stream = BinLogStreamReader(
    connection_settings=dict(host="127.0.0.1", port=int(sys.argv[1]), user="r", passwd="r"), server_id=99, blocking=False)
seen = []
for event in stream:
    name = type(event).__name__
    if name == "WriteRowsEvent":
        seen.append(f"{name}{[row['values']['id'] if 'id' in row['values'] else list(row['values'].values())[0] for row in event.rows]}")
    elif name not in ("RotateEvent", "FormatDescriptionEvent", "PreviousGtidsEvent", "QueryEvent", "TableMapEvent", "XidEvent"):
        seen.append(name)
print(*seen)
P
)"
see 'rows in the table' "$(sql m "SELECT GROUP_CONCAT(id ORDER BY id SEPARATOR ' ') FROM d.t")"
verdict
