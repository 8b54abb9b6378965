#!/usr/bin/env bash
# Guess: a VIRTUAL generated column is stored nowhere, so the row events of the binary log do not have it.
# What happens: they do, with its value, before and after. With binlog_row_image=MINIMAL it is in an update's after image
#   whenever its value changed, though no statement can assign to it.
# Versions: MySQL 9.7.4.
# Why it matters: a reader that counts columns without the virtual ones puts every value behind them into the wrong column;
#   one that writes all it reads into a table with the same definition gets error 3105.
#
# Seen, of CREATE TABLE t (id INT PRIMARY KEY, a INT, v INT AS (a * 10) VIRTUAL, z INT):
#> INSERT (1, 2, 3): @1=1 @2=2 @3=20 @4=3
#> UPDATE a=4, FULL: before @1=1 @2=2 @3=20 @4=3, after @1=1 @2=4 @3=40 @4=3
#> UPDATE a=5, MINIMAL: before @1=1, after @2=5 @3=50
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m 'CREATE DATABASE d; USE d;
    CREATE TABLE t (id INT PRIMARY KEY, a INT, v INT AS (a * 10) VIRTUAL, z INT);
    INSERT INTO t (id, a, z) VALUES (1, 2, 3);
    UPDATE t SET a = 4;
    SET binlog_row_image=MINIMAL;
    UPDATE t SET a = 5'
rows_of_log m | awk '/^### (INSERT|UPDATE)/ {n++} /^###   @/ {print n, $2} /^### SET/ && n > 1 {print n, "after"} /^### WHERE/ {print n, "before"}' >"$WORK/rows"
image() { awk -v n="$1" '$1 == n {print $2}' "$WORK/rows" | tr '\n' ' ' | sed 's/ after/, after/; s/ $//'; }
see 'INSERT (1, 2, 3)' "$(image 1)"
see 'UPDATE a=4, FULL' "$(image 2)"
see 'UPDATE a=5, MINIMAL' "$(image 3)"
verdict
