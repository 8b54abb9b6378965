#!/usr/bin/env bash
# Guess: ADD COLUMN of a VECTOR(4) NOT NULL without a default is refused for a table with rows, or fills in zeros; and what a column
#   holds can be inserted into a column of the same type.
# What happens: the rows get a value of no bytes, which is no vector: INSERT … SELECT of it into the same definition fails, as do the vector
#   functions. ALTER … ALGORITHM=COPY carries it over, so a native ALTER works where a copy by statements does not.
# Versions: MySQL 9.7.4.
# Why it matters: from then on tools that copy rows by SQL fail on the table, and no statement says so before. (An INSERT that leaves the column out,
#   in a sql_mode that is not strict, stores the same.)
#
# Seen, after ALTER TABLE t ADD w VECTOR(4) NOT NULL:
#> bytes in w: 0, IS NULL: 0
#> INSERT INTO copy SELECT * FROM t: ERROR 6136 (HY000) at line 1: Value of type 'string, size: 0' cannot be converted to 'vector' type.
#> SELECT VECTOR_DIM(w): ERROR 6138 (HY000) at line 1: Data cannot be converted to a valid vector: ''
#> ALTER TABLE t ADD x INT, ALGORITHM=COPY: done
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m 'CREATE DATABASE d; USE d; CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1);
    ALTER TABLE t ADD w VECTOR(4) NOT NULL; CREATE TABLE copy LIKE t'
see 'bytes in w' "$(sql m "SELECT CONCAT(LENGTH(w), ', IS NULL: ', w IS NULL) FROM d.t")"
see 'INSERT INTO copy SELECT * FROM t' "$(sql m 'INSERT INTO d.copy SELECT * FROM d.t')"
see 'SELECT VECTOR_DIM(w)' "$(sql m 'SELECT VECTOR_DIM(w) FROM d.t')"
done=$(sql m 'ALTER TABLE d.t ADD x INT, ALGORITHM=COPY')
see 'ALTER TABLE t ADD x INT, ALGORITHM=COPY' "${done:-done}"
verdict
