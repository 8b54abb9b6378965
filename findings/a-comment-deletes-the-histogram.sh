#!/usr/bin/env bash
# Guess: a histogram describes a column's values, so only changes of the values' type take it away. A new comment, or another place in
#   the row, does not; RENAME TABLE, which swaps a copy in, does not either.
# What happens: each MODIFY of the column deletes its histogram, without a warning, also when only the comment changes and no row is touched.
#   A rebuild, and MODIFY of other columns by a full copy, keep it. And in a swap it goes with the old table: it belongs to the
#   table and not to the name.
# Versions: MySQL 9.7.4.
# Why it matters: plans change after an ALTER that changed nothing, or after an online migration of another column. ANALYZE TABLE …
#   UPDATE HISTOGRAM has to be run again afterwards, and nothing says so.
#
# Seen: columns with a histogram, of table h and its column a, after
#> ALTER TABLE h ENGINE=InnoDB: h.a
#> ALTER TABLE h MODIFY x BIGINT, ALGORITHM=COPY: h.a
#> ALTER TABLE h ALTER a SET DEFAULT 5: h.a
#> ALTER TABLE h MODIFY a INT COMMENT 'new', ALGORITHM=INSTANT: none
#> ALTER TABLE h MODIFY a INT AFTER x: none
#> RENAME TABLE h TO old, copy TO h: old.a
. "$(dirname "$0")/lib.sh"

mysql_server m
after() {
    local left
    sql m 'DROP DATABASE IF EXISTS d; CREATE DATABASE d; USE d;
        CREATE TABLE h (id INT PRIMARY KEY, a INT, x INT); INSERT INTO h VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3);
        ANALYZE TABLE h UPDATE HISTOGRAM ON a;
        CREATE TABLE copy LIKE h; INSERT INTO copy SELECT * FROM h' >/dev/null
    left=$(sql m "USE d; $1; SELECT CONCAT(table_name, '.', column_name) FROM information_schema.column_statistics")
    see "$1" "${left:-none}"
}
after 'ALTER TABLE h ENGINE=InnoDB'
after 'ALTER TABLE h MODIFY x BIGINT, ALGORITHM=COPY'
after 'ALTER TABLE h ALTER a SET DEFAULT 5'
after "ALTER TABLE h MODIFY a INT COMMENT 'new', ALGORITHM=INSTANT"
after 'ALTER TABLE h MODIFY a INT AFTER x'
after 'RENAME TABLE h TO old, copy TO h'
verdict
