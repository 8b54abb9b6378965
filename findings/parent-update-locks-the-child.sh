#!/usr/bin/env bash
# Guess: an UPDATE of a parent table that does not touch the referenced column has nothing to do with the child, and none that matches no
#   row, or is only explained, has. Nor has the child's DELETE with the parent.
# What happens: an UPDATE or DELETE of the parent takes the child's metadata lock before it knows which columns and rows it will change, and
#   keeps it until its transaction ends, as does EXPLAIN UPDATE. The child's DML holds the parent's in the same way, even a DELETE that
#   can violate nothing. INSERT into the parent, and SELECT … FOR UPDATE, do not.
# Versions: MySQL 9.7.4.
# Why it matters: an ALTER, RENAME or LOCK TABLES of either table waits for transactions that never named it, and by waiting it blocks both
#   tables' writers. Looking for the blocker by the table's name in the statements finds nobody.
#
# Seen: after the statement, in a transaction, ALTER TABLE of the other table
#> UPDATE parent SET note = 1: child blocked
#> UPDATE parent SET note = 1 WHERE FALSE: child blocked
#> EXPLAIN UPDATE parent SET note = 1: child blocked
#> DELETE FROM parent WHERE FALSE: child blocked
#> INSERT INTO parent VALUES (3, 3): child works
#> SELECT * FROM parent FOR UPDATE: child works
#> DELETE FROM child WHERE FALSE: parent blocked
#> UPDATE child SET note = 1 WHERE FALSE: parent blocked
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m 'CREATE DATABASE d; USE d; CREATE TABLE parent (id INT PRIMARY KEY, note INT);
    CREATE TABLE child (id INT PRIMARY KEY, p INT, note INT, FOREIGN KEY (p) REFERENCES parent (id));
    INSERT INTO parent VALUES (1, 1), (2, 2); INSERT INTO child VALUES (1, 1, 1)'
session holder m
after() {
    local error
    tell holder "USE d; BEGIN; $1" >/dev/null
    error=$(sql m "SET lock_wait_timeout=1; ALTER TABLE d.$2 COMMENT='x$RANDOM'")
    tell holder ROLLBACK
    case $error in
    '') see "$1" "$2 works" ;;
    'ERROR 1205'*) see "$1" "$2 blocked" ;;
    *) see "$1" "$2: $error" ;;
    esac
}
after 'UPDATE parent SET note = 1' child
after 'UPDATE parent SET note = 1 WHERE FALSE' child
after 'EXPLAIN UPDATE parent SET note = 1' child
after 'DELETE FROM parent WHERE FALSE' child
after 'INSERT INTO parent VALUES (3, 3)' child
after 'SELECT * FROM parent FOR UPDATE' child
after 'DELETE FROM child WHERE FALSE' parent
after 'UPDATE child SET note = 1 WHERE FALSE' parent
verdict
