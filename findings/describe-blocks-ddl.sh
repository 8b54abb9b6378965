#!/usr/bin/env bash
# Guess: looking at a definition locks nothing for longer than the look, and a statement that fails leaves no lock behind. Only
#   statements that read or write rows keep a table's metadata lock until their transaction ends.
# What happens: within a transaction, DESCRIBE (SHOW COLUMNS), SHOW INDEX, EXPLAIN, and statements that fail for an unknown column or a
#   value of the wrong type keep the lock until COMMIT. SHOW CREATE TABLE, SHOW TABLE STATUS and SELECTs from information_schema
#   do not, nor does a statement that also names a table that does not exist.
# Versions: MySQL 9.7.4.
# Why it matters: drivers that open a transaction with the first statement (Python's do) and then look at the columns, or swallow an
#   error, block RENAME and ALTER for as long as the session idles, and with them all later readers of the table.
#
# Seen: after the statement, in a transaction, RENAME TABLE by another session
#> DESCRIBE t: blocked
#> SHOW INDEX FROM t: blocked
#> EXPLAIN SELECT * FROM t: blocked
#> SELECT nosuch FROM t: blocked
#> INSERT INTO t VALUES ('x', 1): blocked
#> SHOW CREATE TABLE t: works
#> SHOW TABLE STATUS LIKE 't': works
#> SELECT * FROM information_schema.columns WHERE table_schema = 'd' AND table_name = 't': works
#> SELECT * FROM t, nosuch: works
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m 'CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, a INT)'
session holder m
after() {
    local error
    tell holder "USE d; BEGIN; $1" >/dev/null
    error=$(sql m 'SET lock_wait_timeout=1; RENAME TABLE d.t TO d.t2; RENAME TABLE d.t2 TO d.t')
    tell holder COMMIT
    case $error in
    '') see "$1" works ;;
    'ERROR 1205'*) see "$1" blocked ;;
    *) see "$1" "$error" ;;
    esac
}
after 'DESCRIBE t'
after 'SHOW INDEX FROM t'
after 'EXPLAIN SELECT * FROM t'
after 'SELECT nosuch FROM t'
after "INSERT INTO t VALUES ('x', 1)"
after 'SHOW CREATE TABLE t'
after "SHOW TABLE STATUS LIKE 't'"
after "SELECT * FROM information_schema.columns WHERE table_schema = 'd' AND table_name = 't'"
after 'SELECT * FROM t, nosuch'
verdict
