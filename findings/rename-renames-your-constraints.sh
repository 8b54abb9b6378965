#!/usr/bin/env bash
# Guess: RENAME TABLE gives new names to the constraints that the server named itself; a name that was written in
#   CREATE TABLE stays. And whether a RENAME works depends on the tables' names only.
# What happens: what counts is how the name begins. `CONSTRAINT orders_chk_positive` on a table `orders` is renamed with the
#   table, as if the server had chosen it; `positive` is not. And a table name that is well within 64 characters is
#   refused because the name that a constraint would get is not.
# Versions: MySQL 9.7.4.
# Why it matters: after a swap of two tables, names that applications, error handlers and later migrations (`DROP CHECK
#   orders_chk_positive`) rely on belong to the old table or are gone; and a swap can fail for a name nobody gave.
#
# Seen:
#> before: orders_chk_1 orders_chk_positive orders_ibfk_customer positive
#> after RENAME TO _orders_del: _orders_del_chk_1 _orders_del_chk_positive _orders_del_ibfk_customer positive
#> RENAME to a name of 50 characters: done
#> RENAME to a name of 51 characters: ERROR 1059 (42000) at line 1: Identifier name 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx_ibfk_customer' is too long
. "$(dirname "$0")/lib.sh"

mysql_server m
sql m 'CREATE DATABASE d; USE d;
    CREATE TABLE customers (id INT PRIMARY KEY);
    CREATE TABLE orders (id INT PRIMARY KEY, a INT, b INT, CHECK (a > 0), CONSTRAINT orders_chk_positive CHECK (b > 0),
        CONSTRAINT positive CHECK (a + b > 0),
        CONSTRAINT orders_ibfk_customer FOREIGN KEY (b) REFERENCES customers (id))'
names() {
    sql m "SELECT GROUP_CONCAT(constraint_name ORDER BY constraint_name SEPARATOR ' ') FROM information_schema.table_constraints
        WHERE table_schema = 'd' AND constraint_name <> 'PRIMARY'"
}
to() {
    local name error
    name=$(printf "%${1}s" | tr ' ' x)
    error=$(sql m "RENAME TABLE d._orders_del TO d.$name")
    see "RENAME to a name of $1 characters" "${error:-done}"
    [[ -n $error ]] || sql m "RENAME TABLE d.$name TO d._orders_del"
}

see before "$(names)"
sql m 'RENAME TABLE d.orders TO d._orders_del'
see 'after RENAME TO _orders_del' "$(names)"
to 50
to 51
verdict
