#!/usr/bin/env bash
# Guess: ADD COLUMN of a generated column whose expression fails for a row that exists fails, in a strict session, and changes nothing.
# What happens: a STORED one does. A VIRTUAL one is added without looking at a row. From then on SELECT * fails, and so does each later ALTER
#   that copies, and INSERT … SELECT of the table; only statements that name the other columns work.
# Versions: MySQL 9.7.4.
# Why it matters: the ALTER that says "OK" in a millisecond is the outage. Read the expression over all rows before.
#
# Seen, of t (id, a INT UNSIGNED, b INT UNSIGNED) with a row 1, 1, 5:
#> ALTER TABLE t ADD v INT AS (a - b) STORED: ERROR 1690 (22003) at line 1: BIGINT UNSIGNED value is out of range in '(`a` - `b`)'
#> ALTER TABLE t ADD v INT AS (a - b) VIRTUAL: done
#> SELECT * FROM t: ERROR 1690 (22003) at line 1: BIGINT UNSIGNED value is out of range in '(`a` - `b`)'
#> SELECT id, a, b FROM t: 1 1 5
#> ALTER TABLE t ADD z INT, ALGORITHM=COPY: ERROR 1690 (22003) at line 1: BIGINT UNSIGNED value is out of range in '(`a` - `b`)'
#> ALTER TABLE t ADD z INT, ALGORITHM=INPLACE: done
#> ALTER TABLE t DROP v: done
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m 'CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, a INT UNSIGNED, b INT UNSIGNED); INSERT INTO d.t VALUES (1, 1, 5)'
try() {
    local came
    came=$(sql m "USE d; $1" | tr '\t' ' ')
    see "$1" "${came:-done}"
}
try 'ALTER TABLE t ADD v INT AS (a - b) STORED'
try 'ALTER TABLE t ADD v INT AS (a - b) VIRTUAL'
try 'SELECT * FROM t'
try 'SELECT id, a, b FROM t'
try 'ALTER TABLE t ADD z INT, ALGORITHM=COPY'
try 'ALTER TABLE t ADD z INT, ALGORITHM=INPLACE'
try 'ALTER TABLE t DROP v'
verdict
