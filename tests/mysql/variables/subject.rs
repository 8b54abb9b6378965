//! What is migrated: a table with every type and with expressions that a session's settings have a part in, its rows, what an application
//! writes meanwhile, and the changes; and small tables, each for one rule.

use theseus::engine::contract::spec::Algorithm;

/// A table, what happens to it, and how it is to be changed.
pub struct Subject {
    pub name: &'static str,
    /// Statements that make `{db}.t`, in a session with default settings.
    pub make: &'static [&'static str],
    /// What an application writes, in a session with the server's settings: before or while rows are copied.
    pub first: &'static [&'static str],
    /// And at the closed gate.
    pub second: &'static [&'static str],
    pub alter: &'static str,
    pub algorithm: Algorithm,
    /// With which variables, and modes of `sql_mode`, it is tried; always with none. Empty: with every variable.
    pub with: &'static [&'static str],
}

/// The columns that rows give values to.
macro_rules! columns {
    () => {
        "at, id, n, u, v, big, de, f, r, tiny, b, a, c, la, vb, bi, tx, bl, e, s, num, d, tm, dt, ts, y, j, g, \
     dt_ts, ts_dt, ts_text, ts_d, ts_n, text_ts, cut, tm_text"
    };
}

/// The table, for `{db}`. Its key is a point in time: the hour that comes twice in Berlin has rows.
pub const CREATE: &str = "CREATE TABLE {db}.t (\
     at TIMESTAMP(6) NOT NULL, id INT UNSIGNED NOT NULL AUTO_INCREMENT, \
     n INT, u INT UNSIGNED, v INT UNSIGNED, big BIGINT UNSIGNED, de DECIMAL(30,10), f FLOAT, r DOUBLE, tiny TINYINT(1), b BIT(9), \
     a VARCHAR(40), c CHAR(10), la VARCHAR(40) CHARACTER SET latin1, vb VARBINARY(40), bi BINARY(6), tx TEXT, bl BLOB, \
     e ENUM('x','y','zet'), s SET('one','two','three'), num VARCHAR(20), \
     d DATE, tm TIME(2), dt DATETIME(6), ts TIMESTAMP(6) NULL, y YEAR, j JSON, g GEOMETRY, \
     dt_ts DATETIME(6), ts_dt TIMESTAMP(6) NULL, ts_text TIMESTAMP(6) NULL, ts_d TIMESTAMP NULL, ts_n TIMESTAMP NULL, \
     text_ts VARCHAR(30), cut DATETIME(6), tm_text TIME(3), \
     v_day DATE AS (DATE(ts)) VIRTUAL, s_day DATE AS (DATE(ts)) STORED, s_hour INT AS (HOUR(ts)) STORED, s_week INT AS (WEEK(d)) STORED, \
     v_month VARCHAR(40) AS (DATE_FORMAT(d, '%M %a')) VIRTUAL, s_month VARCHAR(40) AS (DATE_FORMAT(d, '%M %a')) STORED, \
     s_div DECIMAL(30,20) AS (n / 7) STORED, s_diff INT AS (u - v) STORED, v_text VARCHAR(90) AS (CONCAT(UPPER(a), '-', la)) VIRTUAL, \
     s_from DATETIME AS (FROM_UNIXTIME(u)) STORED, \
     PRIMARY KEY (at, id), KEY (id), KEY day_of (v_day), KEY hour_of ((HOUR(ts))), KEY j_of ((CAST(j->>'$.k' AS CHAR(20)))), \
     KEY many ((CAST(j->'$.m' AS UNSIGNED ARRAY))), \
     CHECK (HOUR(ts) < 24), CHECK (u >= v), CHECK (DATE_FORMAT(d, '%M') <> 'Brumaire')) \
     DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_0900_ai_ci";

/// Forty rows, written in UTC.
pub const FILL: &str = concat!(
    "INSERT INTO {db}.t (",
    columns!(),
    ") WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 40) \
     SELECT '2024-10-27 00:30:00' + INTERVAL i DIV 4 HOUR + INTERVAL i MOD 4 MICROSECOND, i * 10, i - 12, i * 50, i, i << 50, i / 3, \
     i / 3, i / 7, i MOD 2, i, ELT(1 + i MOD 5, 'x', 'straße', 'Zebra ', '', NULL), ELT(1 + i MOD 3, 'c', 'd  ', 'char'), \
     ELT(1 + i MOD 3, 'é', 'ÿ', 'latin'), UNHEX(HEX(i * 65537)), UNHEX(HEX(i * 300)), REPEAT('the text ', i), REPEAT(UNHEX('00ff'), i), \
     1 + i MOD 3, i MOD 8, i * 3, '2024-01-01' + INTERVAL i * 9 DAY, SEC_TO_TIME(i * 1234.56), \
     '2024-06-01 03:00:00.123456' + INTERVAL i * 37 HOUR, '2024-06-01 03:00:00.654321' + INTERVAL i * 29 HOUR, 2000 + i, \
     JSON_OBJECT('k', ELT(1 + i MOD 4, 'a', 'a ', 'straße', 'strasse'), 'm', JSON_ARRAY(i, i * 2)), \
     ST_GeomFromText(CONCAT('POINT(', i, ' ', -i, ')')), '2024-07-01 12:00:00.5' + INTERVAL i HOUR, \
     '2024-07-01 12:00:00.5' + INTERVAL i HOUR, '2024-07-01 12:00:00.25' + INTERVAL i HOUR, '2024-07-01 12:00:00' + INTERVAL i HOUR, \
     '2024-07-01 12:00:00' + INTERVAL i HOUR, '2024-07-01 12:00:00' + INTERVAL i HOUR, '2024-07-01 12:00:00.777777' + INTERVAL i HOUR, \
     SEC_TO_TIME(i * 7.123) FROM i"
);

/// What an application writes in the settings of its own session while rows are copied: all of it by key, so that a session with
/// `sql_safe_updates` may too. One that the settings refuse is refused on both tables.
const FIRST: &[&str] = &[
    "INSERT INTO {db}.t (at, n, u, v, a, d, ts, j) VALUES ('2024-06-30 23:30:00', 3, 9, 1, 'new', '2024-02-29', '2024-06-30 23:30:00.5', '{\"k\": \"b\", \"m\": [1]}')",
    "UPDATE {db}.t SET n = n + 1, ts = '2024-03-31 01:30:00', dt_ts = '2024-08-01 00:00:00' WHERE id = 20",
    "UPDATE {db}.t SET at = at + INTERVAL 1 SECOND, c = 'moved ' WHERE id = 30",
    "DELETE FROM {db}.t WHERE id = 40",
    // Only a session without unsigned subtraction may.
    "UPDATE {db}.t SET u = 1, v = 1, s = 'one,three', f = 0.1 WHERE id = 50",
    "INSERT INTO {db}.t (at, id, n, num, a) VALUES ('2024-10-27 02:30:00', 4001, NULL, '7', 'straße') ON DUPLICATE KEY UPDATE n = 5",
];
/// And while the gate is closed.
const SECOND: &[&str] = &[
    "INSERT INTO {db}.t (at, n, u, v, a, tm_text, text_ts) VALUES ('2024-10-27 03:00:00', 1, 2, 1, 'late', '-12:00:00.5', '2024-12-24 18:00:00')",
    "UPDATE {db}.t SET at = '2024-10-27 02:30:00', ts_d = '2024-01-01 00:30:00' WHERE id = 60",
    "UPDATE {db}.t SET ts = NULL, d = NULL, j = NULL WHERE id = 70",
    "DELETE FROM {db}.t WHERE id = 80",
    "REPLACE INTO {db}.t (at, id, n, u, v, a) VALUES ('2024-10-27 02:59:59.999999', 4002, -1, 1, 1, '')",
];

/// A change that has to copy: conversions that a time zone or a mode has a part in, literals, expressions, defaults, indexes, checks.
/// Nothing in it is refused by a server with default settings.
const COPY: &str = "MODIFY n BIGINT, MODIFY dt_ts TIMESTAMP(6) NULL, MODIFY ts_dt DATETIME(6), MODIFY ts_text VARCHAR(30), MODIFY ts_d DATE, \
     MODIFY ts_n BIGINT, MODIFY text_ts TIMESTAMP NULL, MODIFY cut DATETIME, MODIFY tm_text VARCHAR(20), MODIFY c VARCHAR(20), \
     MODIFY la VARCHAR(40) CHARACTER SET utf8mb4, MODIFY e VARCHAR(10), MODIFY f DOUBLE, MODIFY num INT, MODIFY de DECIMAL(20,4), \
     MODIFY y INT, MODIFY bl LONGBLOB, ADD path VARCHAR(20) NOT NULL DEFAULT 'C:\\temp', ADD pipes VARCHAR(90) AS (num || u) VIRTUAL, \
     ADD quoted VARCHAR(20) AS (upper(\"a\")) STORED, ADD nots INT AS (NOT n BETWEEN -5 AND 5) STORED, ADD re REAL, \
     ADD stamp TIMESTAMP NOT NULL DEFAULT '2024-01-01 00:00:00', ADD now_dt DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP, \
     ADD now_ts TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), ADD wk INT AS (WEEK(d)) VIRTUAL, \
     ADD lit VARCHAR(20) AS (CONCAT('é', n)) STORED, ADD pad INT AS ('a' = 'a ') STORED, \
     ADD m VARCHAR(40) DEFAULT (DATE_FORMAT('2024-03-05', '%M')), ADD third DECIMAL(30,20) NOT NULL DEFAULT (1 / 3), \
     ADD from_ DATETIME DEFAULT (FROM_UNIXTIME(1717200000)), ADD unix_ BIGINT DEFAULT (UNIX_TIMESTAMP('2024-06-01 00:00:00')), \
     ADD conv DATETIME DEFAULT (CAST(TIMESTAMP'2024-06-01 00:00:00+02:00' AS DATETIME)), \
     ADD KEY j_too ((CAST(j->>'$.k' AS CHAR(20)))), ADD KEY d_too ((DATE(ts))), ADD CHECK (HOUR(at) < 24), ADD CHECK (a <> 'zz'), \
     ADD UNIQUE KEY once (id, v_day)";

/// One that the dictionary makes.
const INSTANT: &str = "ADD path VARCHAR(20) NOT NULL DEFAULT 'C:\\temp', ADD stamp TIMESTAMP NOT NULL DEFAULT '2024-01-01 00:00:00', \
     ADD now_dt DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP, ADD re REAL, ADD pipes VARCHAR(90) AS (num || u) VIRTUAL, \
     ADD quoted VARCHAR(20) AS (upper(\"a\")) VIRTUAL, ADD nots INT AS (NOT n BETWEEN -5 AND 5) VIRTUAL, ADD wk INT AS (WEEK(d)) VIRTUAL, \
     ADD pad INT AS ('a' = 'a ') VIRTUAL";

/// Both of these go over every variable.
pub const EVERYTHING: &[Subject] = &[
    Subject { name: "everything", make: TEMPLATE, first: FIRST, second: SECOND, alter: COPY, algorithm: Algorithm::Copy, with: &[] },
    Subject { name: "at once", make: TEMPLATE, first: FIRST, second: SECOND, alter: INSTANT, algorithm: Algorithm::Auto, with: &[] },
];

/// The table as it was made once for each server.
const TEMPLATE: &[&str] =
    &["CREATE TABLE {db}.t LIKE template.t", concat!("INSERT INTO {db}.t (", columns!(), ") SELECT ", columns!(), " FROM template.t")];

const fn small(
    name: &'static str,
    make: &'static [&'static str],
    first: &'static [&'static str],
    alter: &'static str,
    with: &'static [&'static str],
) -> Subject {
    Subject { name, make, first, second: &[], alter, algorithm: Algorithm::Copy, with }
}

/// One row, and nothing but a key.
const ONE: &[&str] = &["CREATE TABLE {db}.t (id INT PRIMARY KEY, n INT, tx VARCHAR(40))", "INSERT INTO {db}.t VALUES (1, 300, 'the text')"];

/// A table with a parent, a child and itself as another, and with a trigger of the account's. Triggers may be made at all.
const RELATIVES: &[&str] = &[
    "SET GLOBAL log_bin_trust_function_creators = ON",
    "CREATE TABLE {db}.p (id INT PRIMARY KEY, v VARCHAR(20))",
    "CREATE TABLE {db}.t (id INT PRIMARY KEY, p INT, boss INT, n INT, tx VARCHAR(40), \
       CONSTRAINT up FOREIGN KEY (p) REFERENCES {db}.p (id) ON DELETE CASCADE, FOREIGN KEY (boss) REFERENCES {db}.t (id))",
    "CREATE TABLE {db}.c (id INT PRIMARY KEY, t INT, CONSTRAINT down FOREIGN KEY (t) REFERENCES {db}.t (id) ON DELETE SET NULL ON UPDATE CASCADE)",
    "INSERT INTO {db}.p VALUES (1, 'x'), (2, 'y'), (3, 'z'), (4, 'z')",
    "INSERT INTO {db}.t VALUES (1, 1, NULL, 1, 'a'), (2, 2, 1, 2, 'b'), (3, 3, 1, 3, 'c'), (4, 4, 1, 4, 'd'), (5, NULL, NULL, 5, 'e')",
    "INSERT INTO {db}.c VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)",
    "CREATE DEFINER=theseus@`%` TRIGGER {db}.marks BEFORE UPDATE ON {db}.t FOR EACH ROW SET NEW.tx = CONCAT(NEW.tx, '+')",
];

/// The same as servers before 8.4 let it be: referring to keys that are not unique.
const LOOSE: &[&str] = &[
    "CREATE TABLE {db}.p (id INT PRIMARY KEY, k INT, KEY (k))",
    "CREATE TABLE {db}.t (id INT PRIMARY KEY, p INT, n INT, KEY (n), CONSTRAINT up FOREIGN KEY (p) REFERENCES {db}.p (k) ON DELETE CASCADE)",
    "CREATE TABLE {db}.c (id INT PRIMARY KEY, n INT, CONSTRAINT down FOREIGN KEY (n) REFERENCES {db}.t (n))",
    "INSERT INTO {db}.p VALUES (1, 1), (2, 2), (3, 2)",
    "INSERT INTO {db}.t VALUES (1, 1, 7), (2, 1, 7), (3, 2, 8), (4, 2, 9)",
    "INSERT INTO {db}.c VALUES (1, 7), (2, 8)",
];

/// Rules of single variables and modes: what one of them refuses and another takes.
pub const RULES: &[Subject] = &[
    small("a date of zeros is added", ONE, &[], "ADD p DATE NOT NULL", &["NO_ZERO_DATE", "STRICT_TRANS_TABLES"]),
    small("a default with a day of zero", ONE, &[], "ADD p DATE NOT NULL DEFAULT '2023-02-00'", &["NO_ZERO_IN_DATE"]),
    small("a default that no calendar has", ONE, &[], "ADD p DATE NOT NULL DEFAULT '2023-02-31'", &["ALLOW_INVALID_DATES"]),
    small(
        "a text of zeros becomes a date",
        &["CREATE TABLE {db}.t (id INT PRIMARY KEY, v VARCHAR(20))", "INSERT INTO {db}.t VALUES (1, '0000-00-00')"],
        &["INSERT INTO {db}.t VALUES (2, '2024-02-00')"],
        "MODIFY v DATE",
        &["NO_ZERO_DATE", "NO_ZERO_IN_DATE", "STRICT_TRANS_TABLES"],
    ),
    small(
        "a division by zero is stored",
        &["CREATE TABLE {db}.t (id INT PRIMARY KEY, a INT, b INT)", "INSERT INTO {db}.t VALUES (1, 1, 0)"],
        &[],
        "ADD q INT AS (a / b) STORED",
        &["ERROR_FOR_DIVISION_BY_ZERO", "STRICT_TRANS_TABLES"],
    ),
    small(
        "a difference below zero",
        &[
            "CREATE TABLE {db}.t (id INT PRIMARY KEY, a INT UNSIGNED, b INT UNSIGNED, diff INT AS (a - b) STORED)",
            "INSERT INTO {db}.t (id, a, b) VALUES (1, 5, 1)",
        ],
        &["INSERT INTO {db}.t (id, a, b) VALUES (2, 1, 5)"],
        "ADD x INT, MODIFY id BIGINT",
        &["NO_UNSIGNED_SUBTRACTION"],
    ),
    small("a number is cut", ONE, &[], "MODIFY n TINYINT", &["STRICT_TRANS_TABLES"]),
    small("a text is cut", ONE, &[], "MODIFY tx VARCHAR(4)", &["STRICT_TRANS_TABLES"]),
    small("NULL becomes NOT NULL", ONE, &["INSERT INTO {db}.t (id) VALUES (2)"], "MODIFY n INT NOT NULL", &["STRICT_TRANS_TABLES"]),
    small("a space after a function's name", ONE, &[], "ADD s VARCHAR(10) AS (SUBSTR (tx, 1, 2)) STORED", &["IGNORE_SPACE"]),
    small("names in double quotes", ONE, &[], "ADD \"new one\" INT AFTER \"id\"", &["ANSI_QUOTES"]),
    small("an escaped quote", ONE, &[], "ADD p VARCHAR(20) NOT NULL DEFAULT 'it\\'s' /* ' */", &["NO_BACKSLASH_ESCAPES"]),
    small("an engine that does not exist", ONE, &[], "ENGINE=NoSuch", &["NO_ENGINE_SUBSTITUTION"]),
    small(
        "timestamps without NULL or DEFAULT",
        ONE,
        &[],
        "ADD c TIMESTAMP, ADD d TIMESTAMP",
        &["explicit_defaults_for_timestamp", "NO_ZERO_DATE"],
    ),
    small("a page size that does not exist", ONE, &[], "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=3", &["innodb_strict_mode"]),
    small(
        "a hidden key",
        &[
            "SET SESSION sql_generate_invisible_primary_key = 1",
            "CREATE TABLE {db}.t (a INT NOT NULL, b INT)",
            "SET SESSION sql_generate_invisible_primary_key = 0",
            "ALTER TABLE {db}.t ADD UNIQUE KEY (a)",
            "INSERT INTO {db}.t VALUES (1, 1), (2, 2), (3, 3)",
            "DELETE FROM {db}.t WHERE a = 2",
        ],
        &["UPDATE {db}.t SET b = 7 WHERE a = 3", "INSERT INTO {db}.t VALUES (2, 4)", "DELETE FROM {db}.t WHERE a = 1"],
        "MODIFY b BIGINT",
        &["show_gipk_in_create_table_and_information_schema", "sql_generate_invisible_primary_key", "sql_require_primary_key"],
    ),
    small(
        "the primary key goes",
        &["CREATE TABLE {db}.t (id INT PRIMARY KEY, u INT NOT NULL UNIQUE)", "INSERT INTO {db}.t VALUES (1, 1), (2, 2)"],
        &["UPDATE {db}.t SET u = 7 WHERE id = 2"],
        "DROP PRIMARY KEY, MODIFY id BIGINT",
        &["sql_require_primary_key", "sql_generate_invisible_primary_key"],
    ),
    small(
        "there is no primary key",
        &["CREATE TABLE {db}.t (id INT NOT NULL, b INT, UNIQUE KEY (id))", "INSERT INTO {db}.t VALUES (1, 1), (2, 2)"],
        &["UPDATE {db}.t SET b = 7 WHERE id = 2"],
        "MODIFY b BIGINT",
        &["sql_require_primary_key", "sql_generate_invisible_primary_key"],
    ),
    small(
        "numbers are given",
        &["CREATE TABLE {db}.t (id INT PRIMARY KEY, b INT)", "INSERT INTO {db}.t VALUES (1, 1), (2, 2), (5, 5)"],
        &["DELETE FROM {db}.t WHERE id = 2"],
        "ADD n INT NOT NULL AUTO_INCREMENT UNIQUE",
        &["auto_increment_increment", "auto_increment_offset", "NO_AUTO_VALUE_ON_ZERO"],
    ),
    small(
        "a unique key over an expression",
        &["CREATE TABLE {db}.t (id INT PRIMARY KEY, j JSON)", "INSERT INTO {db}.t VALUES (1, '{\"k\": \"a\"}'), (2, '{\"k\": \"a \"}')"],
        &[],
        "ADD UNIQUE KEY j_of ((CAST(j->>'$.k' AS CHAR(20))))",
        &["collation_connection", "character_set_connection", "default_collation_for_utf8mb4", "init_connect"],
    ),
    small(
        "another character set, with its default collation",
        &["CREATE TABLE {db}.t (id INT PRIMARY KEY, v VARCHAR(20)) DEFAULT CHARSET latin1", "INSERT INTO {db}.t VALUES (1, 'é')"],
        &[],
        "CONVERT TO CHARACTER SET utf8mb4",
        &["default_collation_for_utf8mb4", "collation_server", "collation_database", "character_set_server"],
    ),
    small(
        "words are indexed",
        ONE,
        &[],
        "ADD FULLTEXT KEY words (tx)",
        &["innodb_ft_enable_stopword", "innodb_ft_server_stopword_table", "innodb_ft_user_stopword_table"],
    ),
    Subject {
        name: "a child, a parent and a trigger",
        make: RELATIVES,
        first: &[
            "UPDATE {db}.t SET n = 10 WHERE id = 1",
            "UPDATE {db}.t SET id = 20 WHERE id = 2",
            "DELETE FROM {db}.p WHERE id = 3",
            "INSERT INTO {db}.t VALUES (6, 999, NULL, 6, 'orphan')",
        ],
        second: &[
            "DELETE FROM {db}.t WHERE id = 5",
            "DELETE FROM {db}.p WHERE id = 4",
            "INSERT INTO {db}.t VALUES (7, 1, 1, 7, 'new')",
            "INSERT INTO {db}.c VALUES (7, 7), (8, 888)",
            "UPDATE {db}.t SET boss = 7 WHERE id = 20",
        ],
        alter: "MODIFY n BIGINT, ADD x VARCHAR(20) DEFAULT 'x' FIRST",
        algorithm: Algorithm::Copy,
        with: &[
            "foreign_key_checks",
            "restrict_fk_on_non_standard_key",
            "log_bin_trust_function_creators",
            "autocommit",
            "binlog_row_image",
            "character_set_client",
            "collation_connection",
            "default_collation_for_utf8mb4",
            "init_connect",
            "lock_wait_timeout",
            "innodb_lock_wait_timeout",
            "sql_quote_show_create",
            "sql_safe_updates",
            "transaction_isolation",
            "ANSI_QUOTES",
            "NO_BACKSLASH_ESCAPES",
        ],
    },
    small(
        "foreign keys to keys that are not unique",
        LOOSE,
        &["DELETE FROM {db}.p WHERE id = 1", "UPDATE {db}.t SET n = 8 WHERE id = 4", "INSERT INTO {db}.c VALUES (3, 8)"],
        "MODIFY id BIGINT, ADD x INT",
        // Only where a server is started so: others do not have such tables.
        &[],
    ),
];

/// The subjects to try a variable with, and a value of it as SQL.
pub fn subjects(variable: &str, value: &str) -> Vec<&'static Subject> {
    // A value of modes names those that it is about; none at all is about all.
    let about = |word: &&str| {
        variable.is_empty()
            || *word == variable
            || (variable == "sql_mode" && (value.contains(*word) || (value == "''" && word.chars().all(|c| c.is_uppercase() || c == '_'))))
    };
    EVERYTHING.iter().chain(RULES.iter().filter(|rule| rule.with.iter().any(&about))).collect()
}
