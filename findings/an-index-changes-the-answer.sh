#!/usr/bin/env bash
# Guess: a TIMESTAMP is an instant, kept as seconds since 1970, so two of them are equal when the instants are; an index changes how fast a query
#   is and not what it says.
# What happens: what is found through an index is compared as instants, what is compared row by row, or is put into a table made for a subquery, as
#   local times of the session's zone. In the hour that comes twice in autumn the two differ: COUNT(DISTINCT) and a join give other answers
#   with the index than without it, = (SELECT MAX(…)) and IN (SELECT MAX(…)) disagree, and a value that passes through a subquery's table comes out as
#   another instant.
# Versions: MySQL 9.7.4.
# Why it matters: a report, or a comparison of two tables, changes its result with the plan; rows that differ by an hour are "equal", and equal rows
#   are joined twice.
#
# Seen: two rows, 00:30 and 01:30 UTC, both 02:30 in Berlin, asked by a session in that zone
#> SELECT COUNT(DISTINCT ts) FROM t: 2
#> SELECT COUNT(DISTINCT ts) FROM t IGNORE INDEX (ts): 1
#> SELECT COUNT(*) FROM t a JOIN t b ON a.ts = b.ts: 2
#> SELECT COUNT(*) FROM t a JOIN t b IGNORE INDEX (ts) ON a.ts = b.ts: 4
#> SELECT id FROM t WHERE ts = (SELECT MAX(ts) FROM t): 1
#> SELECT id FROM t WHERE ts IN (SELECT MAX(ts) FROM t): 1 2
#> SELECT UNIX_TIMESTAMP(ts) FROM t ORDER BY id: 1729989000 1729992600
#> SELECT UNIX_TIMESTAMP(ts) FROM (SELECT id, ts FROM t LIMIT 9) d ORDER BY id: 1729989000 1729989000
. "$(dirname "$0")/lib.sh"

mysql_server m
load_zone m
sql m "CREATE DATABASE d; USE d; SET time_zone='+00:00';
    CREATE TABLE t (id INT PRIMARY KEY, ts TIMESTAMP NOT NULL, KEY (ts));
    INSERT INTO t VALUES (1, '2024-10-27 00:30:00'), (2, '2024-10-27 01:30:00')"
ask() { see "$1" "$(sql m "USE d; SET time_zone='Europe/Berlin'; $1" | tr '\t\n' '  ' | sed 's/ $//')"; }
ask 'SELECT COUNT(DISTINCT ts) FROM t'
ask 'SELECT COUNT(DISTINCT ts) FROM t IGNORE INDEX (ts)'
ask 'SELECT COUNT(*) FROM t a JOIN t b ON a.ts = b.ts'
ask 'SELECT COUNT(*) FROM t a JOIN t b IGNORE INDEX (ts) ON a.ts = b.ts'
ask 'SELECT id FROM t WHERE ts = (SELECT MAX(ts) FROM t)'
ask 'SELECT id FROM t WHERE ts IN (SELECT MAX(ts) FROM t)'
ask 'SELECT UNIX_TIMESTAMP(ts) FROM t ORDER BY id'
ask 'SELECT UNIX_TIMESTAMP(ts) FROM (SELECT id, ts FROM t LIMIT 9) d ORDER BY id'
verdict
