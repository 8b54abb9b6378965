#!/usr/bin/env bash
# Guess: mysqlbinlog --verbose shows all values of a row; of a type that it cannot write as text it shows hexadecimal digits.
# What happens: at a GEOMETRY it gives up on the row in the middle. No column behind it is shown, of an UPDATE not even the part
#   with the new values, not even when the geometry is NULL; and the exit code is 0.
# Versions: mysqlbinlog 9.7.4, with the server of the same version.
# Why it matters: people undo a bad statement, or look for the write that a migration lost, in this output. A table with a POINT has
#   updates in it that seem to set nothing.
#
# Seen, of CREATE TABLE t (id INT PRIMARY KEY, place POINT, a INT):
#> INSERT (1, POINT(1, 2), 3): SET @1=1 @2=!! Don't know how to handle column type=255 meta=4 (0004)
#> UPDATE a=4: WHERE @1=1 @2=!! Don't know how to handle column type=255 meta=4 (0004)
#> INSERT (2, NULL, 5): SET @1=2 @2=!! Don't know how to handle column type=255 meta=4 (0004)
#> exit code: 0
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m 'CREATE DATABASE d; USE d;
    CREATE TABLE t (id INT PRIMARY KEY, place POINT, a INT);
    INSERT INTO t VALUES (1, POINT(1, 2), 3);
    UPDATE t SET a = 4;
    INSERT INTO t VALUES (2, NULL, 5)'
status=0
rows_of_log m >"$WORK/log" || status=$?
grep '^###' "$WORK/log" | sed 's/^### *//' >"$WORK/rows"
statement() { awk -v n="$1" '/^(INSERT INTO|UPDATE|DELETE)/ {i++; next} i == n' "$WORK/rows" | tr '\n' ' ' | sed 's/ *$//'; }
see 'INSERT (1, POINT(1, 2), 3)' "$(statement 1)"
see 'UPDATE a=4' "$(statement 2)"
see 'INSERT (2, NULL, 5)' "$(statement 3)"
see 'exit code' "$status"
verdict
