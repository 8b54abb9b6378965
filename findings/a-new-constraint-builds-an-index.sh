#!/usr/bin/env bash
# Guess: with foreign_key_checks=0, dropping a foreign key and adding it under another name, in place, changes only the dictionary.
# What happens: an index that the server itself once made for the constraint is replaced by one of the new name, built from the rows: it has another
#   id. CREATE TABLE … LIKE copies no foreign keys, but it copies this property of an index. Nothing shows it. RENAME INDEX ends it, in the same
#   ALTER, too.
# Versions: MySQL 9.7.4.
# Why it matters: a statement that is thought to take milliseconds under a lock takes as long as an index build, and indexes that hints name get
#   other names.
#
# Seen: ALTER TABLE … DROP FOREIGN KEY …, ADD CONSTRAINT … FOREIGN KEY …, ALGORITHM=INPLACE, LOCK=NONE
#> the server's index, constraint renamed: fk2, another index
#> the same beside RENAME INDEX: fk3, the same index
#> an index of one's own: own, the same index
#> a copy by LIKE, a first constraint: other, another index
. "$(dirname "$0")/lib.sh"

mysql_server m
index() {
    sql m "SELECT i.NAME, i.INDEX_ID FROM information_schema.INNODB_INDEXES i JOIN information_schema.INNODB_TABLES t USING (TABLE_ID)
           WHERE t.NAME = 'd/$1' AND i.NAME <> 'PRIMARY'"
}
# after TABLE CLAUSES : the index, and whether it is the one of before.
after() {
    local before now
    before=$(index "$1" | cut -f 2)
    sql m "USE d; SET foreign_key_checks = 0; ALTER TABLE $1 $2, ALGORITHM=INPLACE, LOCK=NONE"
    now=$(index "$1")
    printf '%s, %s index\n' "$(cut -f 1 <<<"$now")" "$([[ $(cut -f 2 <<<"$now") == "$before" ]] && echo 'the same' || echo another)"
}

sql m "CREATE DATABASE d; USE d; CREATE TABLE p (id INT PRIMARY KEY); CREATE TABLE c (id INT PRIMARY KEY, p INT, CONSTRAINT fk1 FOREIGN KEY (p) REFERENCES p (id));
       CREATE TABLE e (id INT PRIMARY KEY, p INT, KEY own (p), CONSTRAINT e1 FOREIGN KEY (p) REFERENCES p (id));
       CREATE TABLE l LIKE c"
key="FOREIGN KEY (p) REFERENCES p (id)"
see "the server's index, constraint renamed" "$(after c "DROP FOREIGN KEY fk1, ADD CONSTRAINT fk2 $key")"
see 'the same beside RENAME INDEX' "$(after c "DROP FOREIGN KEY fk2, RENAME INDEX fk2 TO fk3, ADD CONSTRAINT fk3 $key")"
see "an index of one's own" "$(after e "DROP FOREIGN KEY e1, ADD CONSTRAINT e2 $key")"
see 'a copy by LIKE, a first constraint' "$(after l "ADD CONSTRAINT other $key")"
verdict
