#!/usr/bin/env bash
# Guess: REPLACE deletes the rows that are in the way and inserts a new one, and is logged as that. An UPDATE event that changes a
#   primary key comes from an UPDATE that says so.
# What happens: when the last of the table's unique keys is the one that collides, the log has one UPDATE event, which turns the old row into the new one,
#   primary key and all. When an earlier key collides it has a DELETE and an INSERT; with several rows in the way, a mixture.
#   Which key is last is the order of SHOW CREATE TABLE.
# Versions: MySQL 9.7.4.
# Why it matters: an applier that looks the row up by the new key, or updates all columns but the key, loses the row. Test with REPLACE on
#   secondary unique keys, not with UPDATE only.
#
# Seen, of (id PRIMARY KEY, u UNIQUE, w UNIQUE) with rows (1, 1, 1), (2, 2, 2), (3, 3, 3), in the log:
#> REPLACE (9, 9, 2): UPDATE WHERE @1=2 @2=2 @3=2 SET @1=9 @2=9 @3=2
#> REPLACE (8, 1, 8): DELETE FROM WHERE @1=1 @2=1 @3=1 INSERT INTO SET @1=8 @2=1 @3=8
#> REPLACE (8, 9, 3): DELETE FROM WHERE @1=8 @2=1 @3=8 DELETE FROM WHERE @1=9 @2=9 @3=2 UPDATE WHERE @1=3 @2=3 @3=3 SET @1=8 @2=9 @3=3
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m 'CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, u INT, w INT, UNIQUE (u), UNIQUE (w)); INSERT INTO d.t VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3)'
logged() {
    sql m "RESET BINARY LOGS AND GTIDS; REPLACE INTO d.t VALUES $1"
    see "REPLACE $1" "$(rows_of_log m | sed -n 's/^### *//p' | sed 's/ `d`.`t`//; s/ *$//' | paste -sd' ')"
}
logged '(9, 9, 2)'
logged '(8, 1, 8)'
logged '(8, 9, 3)'
verdict
