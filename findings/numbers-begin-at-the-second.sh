#!/usr/bin/env bash
# Guess: with auto_increment_increment=1000, the usual setting of several writable servers, a new AUTO_INCREMENT column numbers the rows 1, 1001, 2001,
#   … as inserts into an empty table do; which algorithm the server takes changes how long it lasts and not what is stored.
# What happens: only ALGORITHM=COPY does. In place, which is the default, the first number of the series is left out and rows get 1001, 2001, ….
#   With the default increment of 1 both agree.
# Versions: MySQL 9.7.4.
# Why it matters: the same statement stores other keys on two servers of which one could not do it in place (another index, a full-text index, a
#   setting); a test on a small copy by COPY says nothing about the keys in production.
#
# Seen: the numbers of three rows after ADD n INT NOT NULL AUTO_INCREMENT UNIQUE, and the statement's next insert
#> increment 1, COPY: 1 2 3, then 4
#> increment 1, INPLACE: 1 2 3, then 4
#> increment 1000, COPY: 1 1001 2001, then 3001
#> increment 1000, INPLACE: 1001 2001 3001, then 4001
. "$(dirname "$0")/lib.sh"

mysql_server m
numbers() {
    sql m "SET auto_increment_increment=$1, auto_increment_offset=1;
        DROP DATABASE IF EXISTS d; CREATE DATABASE d; USE d;
        CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (10), (20), (30);
        ALTER TABLE t ADD n INT NOT NULL AUTO_INCREMENT UNIQUE, ALGORITHM=$2;
        INSERT INTO t (id) VALUES (40);
        SELECT CONCAT(GROUP_CONCAT(IF(id < 40, n, NULL) ORDER BY id SEPARATOR ' '), ', then ', MAX(IF(id = 40, n, NULL))) FROM t"
}
for increment in 1 1000; do
    for algorithm in COPY INPLACE; do
        see "increment $increment, $algorithm" "$(numbers $increment $algorithm)"
    done
done
verdict
