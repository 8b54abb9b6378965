#!/usr/bin/env bash
# Guess: SHOW CREATE TABLE says all there is to a table: two tables of which it says the same behave the same.
# What happens: a functional index over CAST(… AS CHAR) gets the collation that the creating session's connection had, which is printed nowhere.
#   Of two tables with the same text, one's index serves a query and the other's does not; and a UNIQUE one decides by that
#   collation what is a duplicate.
# Versions: MySQL 9.7.4.
# Why it matters: drivers connect with collations of their own (utf8mb4_general_ci is common). An index that a migration creates again from the text is
#   another index when the tool's connection is another one: no query uses it, or inserts fail, or duplicates get in.
#
# Seen: tables created with a UNIQUE KEY ((CAST(j->>'$.k' AS CHAR(20)))) by two connections
#> SHOW CREATE TABLE says the same: yes
#> index used, of the one by utf8mb4_0900_ai_ci: k
#> index used, of the one by utf8mb4_general_ci: none
#> 'a' and 'a ' in the one by utf8mb4_0900_ai_ci: both
#> 'a' and 'a ' in the one by utf8mb4_general_ci: ERROR 1062 (23000) at line 1: Duplicate entry 'a ' for key 't.k'
. "$(dirname "$0")/lib.sh"

mysql_server m
for collation in utf8mb4_0900_ai_ci utf8mb4_general_ci; do
    sql m "CREATE DATABASE $collation COLLATE utf8mb4_0900_ai_ci; USE $collation; SET NAMES utf8mb4 COLLATE $collation;
        CREATE TABLE t (id INT PRIMARY KEY, j JSON, UNIQUE KEY k ((CAST(j->>'\$.k' AS CHAR(20)))))"
    sql m "SHOW CREATE TABLE $collation.t" >"$WORK/$collation"
done
see 'SHOW CREATE TABLE says the same' "$(cmp -s "$WORK/utf8mb4_0900_ai_ci" "$WORK/utf8mb4_general_ci" && echo yes || echo no)"
# The client says utf8mb4 without a collation, so its connection has the default one, utf8mb4_0900_ai_ci.
for collation in utf8mb4_0900_ai_ci utf8mb4_general_ci; do
    sql m "INSERT INTO $collation.t VALUES (9, '{\"k\": \"z\"}'), (8, '{\"k\": \"y\"}')"
    used=$(sql m "EXPLAIN FORMAT=JSON SELECT * FROM $collation.t WHERE CAST(j->>'\$.k' AS CHAR(20)) = 'nothing like it'" |
        grep -oE '"(key|index_name|message)": *"[^"]*"|impossible|no matching' | tr '\n' ' ' || true)
    [[ $used == *'"k"'* || $used == *matching* ]] && used=k
    see "index used, of the one by $collation" "${used:-none}"
done
for collation in utf8mb4_0900_ai_ci utf8mb4_general_ci; do
    done=$(sql m "INSERT INTO $collation.t VALUES (1, '{\"k\": \"a\"}'), (2, '{\"k\": \"a \"}')")
    see "'a' and 'a ' in the one by $collation" "${done:-both}"
done
verdict
