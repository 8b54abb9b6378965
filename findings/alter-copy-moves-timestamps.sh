#!/usr/bin/env bash
# Guess: an ALTER that does not name a TIMESTAMP column leaves its values alone. They are stored as seconds since
#   1970, so no time zone has a part in copying them from one table to another of the same definition.
# What happens: ALGORITHM=COPY, and INSERT … SELECT while NO_ZERO_IN_DATE or NO_ZERO_DATE is in sql_mode (as it is
#   by default), pass the value through the session's local time. In a zone with summer time, the hour that comes
#   twice each autumn comes back as its first pass: values of the second pass are an hour early. No warning.
#   CREATE TABLE … SELECT does it too; INSERT … SELECT without those modes, and INPLACE, do not.
# Versions: MySQL 9.7.4.
# Why it matters: an hour of a year's events is changed by an ALTER of another column, or by a tool that copies rows
#   in a session that has the server's zone; a UNIQUE or primary key that holds the time can collide, too.
#   Copy in '+00:00'.
#
# Seen:
#> INSERT … SELECT, default sql_mode: 00:30 00:30
#> INSERT … SELECT, sql_mode='': 00:30 01:30
#> INSERT … SELECT, sql_mode=NO_ZERO_IN_DATE: 00:30 00:30
#> CREATE TABLE … SELECT, default sql_mode: 00:30 00:30
#> ALTER … ADD x INT, ALGORITHM=COPY, default sql_mode: 00:30 00:30
#> ALTER … ADD x INT, ALGORITHM=COPY, sql_mode='': 00:30 00:30
#> ALTER … ADD x INT, ALGORITHM=INPLACE: 00:30 01:30
#> INSERT … SELECT in +00:00: 00:30 01:30
#> ALTER … ADD x INT, ALGORITHM=COPY in +00:00: 00:30 01:30
. "$(dirname "$0")/lib.sh"

mysql_server m
load_zone m

# try LABEL TABLE SESSION-SETTINGS STATEMENT : two TIMESTAMPs an hour apart, both 02:30 in Berlin; what are they after it?
try() {
    see "$1" "$(sql m "
        DROP DATABASE IF EXISTS d; CREATE DATABASE d; USE d;
        CREATE TABLE t (id INT PRIMARY KEY, ts TIMESTAMP NULL);
        CREATE TABLE o LIKE t;
        SET time_zone='+00:00';
        INSERT INTO t VALUES (1, '2024-10-27 00:30:00'), (2, '2024-10-27 01:30:00');
        SET time_zone='Europe/Berlin';
        $3; $4;
        SET time_zone='+00:00';
        SELECT GROUP_CONCAT(DATE_FORMAT(ts, '%H:%i') ORDER BY id SEPARATOR ' ') FROM $2")"
}

try 'INSERT … SELECT, default sql_mode' o 'DO 0' 'INSERT INTO o SELECT * FROM t'
try "INSERT … SELECT, sql_mode=''" o "SET sql_mode=''" 'INSERT INTO o SELECT * FROM t'
try 'INSERT … SELECT, sql_mode=NO_ZERO_IN_DATE' o "SET sql_mode='NO_ZERO_IN_DATE'" 'INSERT INTO o SELECT * FROM t'
try 'CREATE TABLE … SELECT, default sql_mode' c 'DO 0' 'CREATE TABLE c SELECT * FROM t'
try 'ALTER … ADD x INT, ALGORITHM=COPY, default sql_mode' t 'DO 0' 'ALTER TABLE t ADD x INT, ALGORITHM=COPY'
try "ALTER … ADD x INT, ALGORITHM=COPY, sql_mode=''" t "SET sql_mode=''" 'ALTER TABLE t ADD x INT, ALGORITHM=COPY'
try 'ALTER … ADD x INT, ALGORITHM=INPLACE' t 'DO 0' 'ALTER TABLE t ADD x INT, ALGORITHM=INPLACE'
try 'INSERT … SELECT in +00:00' o "SET time_zone='+00:00'" 'INSERT INTO o SELECT * FROM t'
try 'ALTER … ADD x INT, ALGORITHM=COPY in +00:00' t "SET time_zone='+00:00'" 'ALTER TABLE t ADD x INT, ALGORITHM=COPY'
verdict
