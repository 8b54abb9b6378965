#!/usr/bin/env bash
# Guess: a SQL parser that reads the server's own SHOW CREATE TABLE and writes it for the same dialect either keeps its meaning or fails.
# What happens: sqlglot takes the versioned comments, in which the server prints what older servers do not know, for prose. It leaves the PARTITION BY
#   out, and moves the rest by one space, to `/* !80023 INVISIBLE */`, which the server takes for prose, too. No error, no warning.
# Versions: sqlglot 30.30.0 (PyPI), MySQL 9.7.4.
# Why it matters: a table that is created from such a definition (schema diffs, copies for tests, ghost tables) is not partitioned, shows
#   the column that was hidden, uses the index that was switched off, and enforces the check that was not enforced.
#
# Seen: what SHOW CREATE TABLE says in versioned comments, of the original and of a table made from sqlglot's text
#> original: INVISIBLE, INVISIBLE, NOT ENFORCED, PARTITION BY HASH (`id`)
#> by way of sqlglot: nothing
#> INSERT INTO t VALUES (2, 0): done
#> the same into the table made by sqlglot: ERROR 1136 (21S01) at line 1: Column count doesn't match value count at row 1
. "$(dirname "$0")/lib.sh"

mysql_server m
python_with sqlglot==30.30.0
sql m 'CREATE DATABASE d; CREATE DATABASE e; USE d;
    CREATE TABLE t (id INT PRIMARY KEY, a INT, hidden INT INVISIBLE, KEY k (a) INVISIBLE, CONSTRAINT c CHECK (a > 0) NOT ENFORCED)
        PARTITION BY HASH (id) PARTITIONS 2;
    INSERT INTO t (id, a) VALUES (1, 1)'
versioned() {
    local found
    found=$(sql m "SHOW CREATE TABLE $1.t" | tr '\n' ' ' | grep -oE '/\*![0-9]+ [^*]*' | sed -E 's/^...[0-9]* //; s/ *$//; s/ PARTITIONS.*//' | paste -sd, | sed 's/,/, /g' || true)
    see "$2" "${found:-nothing}"
}
sql m 'SHOW CREATE TABLE d.t' | cut -f2- >"$WORK/original.sql"
"$PYTHON" -c 'import sys, sqlglot; print(sqlglot.parse_one(sys.stdin.read(), dialect="mysql").sql(dialect="mysql"))' <"$WORK/original.sql" >"$WORK/copy.sql"
sql m "USE e; $(cat "$WORK/copy.sql")"
versioned d original
versioned e 'by way of sqlglot'
done=$(sql m 'INSERT INTO d.t VALUES (2, 0)')
see 'INSERT INTO t VALUES (2, 0)' "${done:-done}"
done=$(sql m 'INSERT INTO e.t VALUES (2, 0)')
see 'the same into the table made by sqlglot' "${done:-done}"
verdict
