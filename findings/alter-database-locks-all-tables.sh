#!/usr/bin/env bash
# Guess: ALTER DATABASE … COLLATE sets what later CREATE TABLEs inherit. It touches no table, so it waits for no reader and blocks none.
# What happens: it takes an exclusive metadata lock on the schema and on each table of it, even if nothing changes. While it waits for one
#   transaction that has read one table, nobody can read or write the other tables, for up to lock_wait_timeout (a year by default).
# Versions: MySQL 9.7.4.
# Why it matters: the harmless first half of "change the default, then convert the tables one by one" is the half that can stop everything.
#
# Seen:
#> ALTER DATABASE, while a transaction that read table busy is open: Waiting for schema metadata lock
#> SELECT from table other meanwhile: ERROR 1205 (HY000) at line 1: Lock wait timeout exceeded; try restarting transaction
#> SELECT from table other after the reader's COMMIT: 0
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m 'CREATE DATABASE d COLLATE utf8mb4_0900_ai_ci; CREATE TABLE d.busy (id INT PRIMARY KEY); CREATE TABLE d.other (id INT PRIMARY KEY)'
session reader m
tell reader 'BEGIN; SELECT * FROM d.busy'
sql m 'ALTER DATABASE d COLLATE utf8mb4_0900_ai_ci' &
STARTED+=($!)
waiting() { sql m "SELECT state FROM performance_schema.processlist WHERE info LIKE 'ALTER DATABASE%'" | grep -i 'waiting'; }
wait_for 20 'ALTER DATABASE to wait' waiting
see 'ALTER DATABASE, while a transaction that read table busy is open' "$(waiting)"
see 'SELECT from table other meanwhile' "$(sql m 'SET lock_wait_timeout=1; SELECT COUNT(*) FROM d.other')"
tell reader COMMIT
see "SELECT from table other after the reader's COMMIT" "$(sql m 'SELECT COUNT(*) FROM d.other')"
verdict
