#!/usr/bin/env bash
# Guess: the `;` between two statements of one message belongs to neither.
# What happens: when a trigger whose body is one statement is made and another statement follows in the same message, the `;` becomes the end of the
#   trigger's stored text. That text, with a `;` behind it once more, is a syntax error. A body in BEGIN … END is stored as it is.
# Versions: MySQL 9.7.4.
# Why it matters: tools that send several statements at once make triggers that differ from their source, and that they cannot make again from what
#   SHOW CREATE TRIGGER says.
#
# Seen: CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1
#> one statement, alone: SET NEW.a = 1
#> one statement, another behind it: SET NEW.a = 1;
#> a block, another behind it: BEGIN SET NEW.a = 1; END
#> made again from its own text, another behind it: ERROR 1064
. "$(dirname "$0")/lib.sh"

mysql_server m
body() { sql m "SELECT ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'd'"; }
# A statement of the client ends at `//`, so that what has a `;` in it is one message.
message() { sql m "$(printf 'USE d; DROP TRIGGER IF EXISTS x;\ndelimiter //\n%s//\n' "$1")" || true; }

sql m "CREATE DATABASE d; CREATE TABLE d.t (a INT)"
message "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1"
see 'one statement, alone' "$(body)"
message "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1; DO 1"
see 'one statement, another behind it' "$(body)"
again=$(body)
message "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN SET NEW.a = 1; END; DO 1"
see 'a block, another behind it' "$(body)"
see 'made again from its own text, another behind it' "$(message "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW $again; DO 1" | grep -o 'ERROR [0-9]*')"
verdict
