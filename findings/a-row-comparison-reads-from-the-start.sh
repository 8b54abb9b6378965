#!/usr/bin/env bash
# Guess: `(a, b) > (900, 5) ORDER BY a, b LIMIT 10` on PRIMARY KEY (a, b) starts at that key and reads ten rows. If it did not, EXPLAIN would show it.
# What happens: a comparison of rows by <, >, <= or >= is no range for the optimizer, only a filter. Each page reads the index from its first entry. EXPLAIN
#   promises ten rows for a fraction of the price of the form that does use the range, which is written with OR. `IN` with rows is a range.
# Versions: MySQL 9.7.4.
# Why it matters: chunks of a table that are read this way get slower with each chunk, and the whole copy takes quadratic time.
#
# Seen, of 1000 rows:
#> (a, b) > (900, 5): Covering index scan on t using PRIMARY, rows=10, reads 908 entries
#> a > 900 OR (a = 900 AND b > 5): Covering index range scan on t using PRIMARY over (a = 900 AND 5 < b) OR (900 < a), rows=101, reads 9 entries
#> (a, b) IN ((900, 900), (901, 901)): Covering index range scan on t using PRIMARY over (a = 900 AND b = 900) OR (a = 901 AND b = 901), rows=2, reads 0 entries
#> by EXPLAIN's cost, the cheapest of the three: (a, b) > (900, 5)
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m 'CREATE DATABASE d; CREATE TABLE d.t (a INT, b INT, c INT, PRIMARY KEY (a, b));
    INSERT INTO d.t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i, i, i FROM n;
    ANALYZE TABLE d.t' >/dev/null
page() {
    local query="SELECT a, b FROM d.t WHERE $1 ORDER BY a, b LIMIT 10" plan
    plan=$(sql m "EXPLAIN FORMAT=TREE $query" | grep 'index' | sed -E 's/^ *-> //; s/ +\(cost=([0-9.]+) (rows=[0-9]+)\)$/, \2 \1/')
    echo "${plan##* }"$'\t'"$1" >>"$WORK/costs"
    see "$1" "${plan% *}, reads $(sql m "FLUSH STATUS; SELECT COUNT(*) FROM ($query) x; SHOW SESSION STATUS LIKE 'Handler_read_next'" | sed -n 's/^Handler_read_next\t//p') entries"
}
page '(a, b) > (900, 5)'
page 'a > 900 OR (a = 900 AND b > 5)'
page '(a, b) IN ((900, 900), (901, 901))'
see "by EXPLAIN's cost, the cheapest of the three" "$(sort -g "$WORK/costs" | head -n 1 | cut -f2)"
verdict
