//! The definition after a migration is the one that the native ALTER leaves, to the letter.
//!
//! Each case runs natively in a database of its own and through the engine, with secondary indexes deferred and not.
use crate::support;

use futures::StreamExt;
use mysql_async::prelude::Queryable;
use support::{Db, controls, migrate};
use theseus::engine::contract::snapshot::Outcome;
use theseus::engine::contract::spec::{Controls, DeferIndexes};

struct Case {
    name: &'static str,
    /// Statements that make `t`, divided by semicolons.
    table: &'static str,
    alter: &'static str,
    /// Where the engine's definition is another one: from, to.
    except: &'static [(&'static str, &'static str)],
}

const fn case(name: &'static str, table: &'static str, alter: &'static str) -> Case {
    Case { name, table, alter, except: &[] }
}

const CASES: &[Case] = &[
    case("force", "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT); INSERT INTO t (a) VALUES (1), (2), (3)", "FORCE"),
    case(
        "auto increment ahead of the last row",
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT); INSERT INTO t (a) VALUES (1), (2), (3), (4); DELETE FROM t WHERE id > 1",
        "ADD COLUMN b INT",
    ),
    case("auto increment of an empty table", "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT=77", "ADD COLUMN b INT"),
    case(
        "auto increment set by the ALTER",
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY); INSERT INTO t VALUES (NULL), (NULL)",
        "ADD COLUMN b INT, AUTO_INCREMENT=500",
    ),
    case(
        "auto increment set too low",
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY); INSERT INTO t VALUES (NULL), (50)",
        "ADD COLUMN b INT, AUTO_INCREMENT=5",
    ),
    case(
        "auto increment taken away",
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY); INSERT INTO t VALUES (NULL), (NULL)",
        "MODIFY id BIGINT NOT NULL",
    ),
    case(
        "auto increment given",
        "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (3), (9)",
        "MODIFY id INT NOT NULL AUTO_INCREMENT",
    ),
    case(
        "an auto increment column is added",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT); INSERT INTO t VALUES (30, 3), (10, 1), (20, 2), (-5, 0), (7, 7)",
        "ADD COLUMN n INT NOT NULL AUTO_INCREMENT UNIQUE",
    ),
    case(
        "an auto increment column is added, from a number on",
        "CREATE TABLE t (id VARCHAR(10) PRIMARY KEY, a INT); INSERT INTO t VALUES ('b', 3), ('B2', 1), ('a', 2), ('z', 0)",
        "ADD COLUMN n TINYINT NOT NULL AUTO_INCREMENT FIRST, ADD KEY (n), AUTO_INCREMENT=50",
    ),
    case(
        "an auto increment column becomes the primary key",
        "CREATE TABLE t (id INT, b INT, PRIMARY KEY (id DESC, b)); INSERT INTO t VALUES (30, 3), (10, 1), (20, 2), (20, 1)",
        "DROP PRIMARY KEY, ADD COLUMN n BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, ADD UNIQUE KEY was (id, b)",
    ),
    case(
        "auto increment is not the first column of the key",
        "CREATE TABLE t (a INT, id INT NOT NULL AUTO_INCREMENT, PRIMARY KEY (a, id), KEY i (id), KEY x (a)); INSERT INTO t (a) VALUES (1), (1); DELETE FROM t WHERE id = 2",
        "ADD COLUMN b INT, ADD KEY y (a, b)",
    ),
    case(
        "columns added in places",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)",
        "ADD COLUMN x INT FIRST, ADD COLUMN y VARCHAR(10) NOT NULL DEFAULT 'it''s' COMMENT 'why; not, `so`' AFTER a, ADD z JSON",
    ),
    case("columns moved", "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, c INT)", "MODIFY c INT FIRST, MODIFY a BIGINT AFTER c"),
    case(
        "columns changed and renamed",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, KEY ab (a, b), KEY b (b DESC)); INSERT INTO t VALUES (1, 2, 3)",
        "CHANGE a b INT UNSIGNED NOT NULL DEFAULT 7, CHANGE b a BIGINT, RENAME COLUMN id TO number",
    ),
    case(
        "columns dropped from indexes",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, KEY ab (a, b), KEY a (a), KEY bid (b, id))",
        "DROP COLUMN a",
    ),
    case(
        "generated columns",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, v INT AS (a + 1) VIRTUAL, s INT GENERATED ALWAYS AS (a * 2) STORED NOT NULL, KEY v (v)); INSERT INTO t (id, a) VALUES (1, 1)",
        "MODIFY a BIGINT, ADD COLUMN w VARCHAR(20) AS (CONCAT(a, 'x')) STORED COMMENT 'w', ADD KEY w (w)",
    ),
    case(
        "invisible columns",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT INVISIBLE DEFAULT 4, b INT)",
        "ALTER COLUMN a SET VISIBLE, MODIFY b INT INVISIBLE, ADD COLUMN c INT NOT NULL DEFAULT 1 INVISIBLE",
    ),
    case(
        "defaults",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT DEFAULT 3, b VARCHAR(40) DEFAULT (UUID()), c TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, d JSON DEFAULT (JSON_OBJECT('a', 1)), e BIT(3) DEFAULT b'101', f CHAR(3) DEFAULT '')",
        "ALTER COLUMN a DROP DEFAULT, ALTER COLUMN f SET DEFAULT 'x', ADD COLUMN g DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), ADD COLUMN h BLOB DEFAULT ('abc')",
    ),
    case(
        "an added time stamp",
        "CREATE TABLE t (id INT PRIMARY KEY)",
        "ADD COLUMN c TIMESTAMP NULL DEFAULT NULL, ADD d TIMESTAMP NOT NULL DEFAULT '2020-01-01 00:00:00'",
    ),
    case(
        "indexes of all kinds",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL, b VARCHAR(100), c TEXT, j JSON, p POINT NOT NULL SRID 4326, UNIQUE KEY u (a), KEY one (b(10), a DESC), KEY two (a) INVISIBLE, KEY three ((LOWER(b))), KEY four (a, id) COMMENT 'four' KEY_BLOCK_SIZE=4, FULLTEXT KEY ft (b, c), SPATIAL KEY sp (p), KEY mv ((CAST(j->'$[*]' AS UNSIGNED ARRAY))))",
        "ADD COLUMN d INT, ADD KEY five (d DESC, b(5)), ALTER INDEX two VISIBLE, ALTER INDEX one INVISIBLE, RENAME INDEX four TO `for`, DROP INDEX three, ADD UNIQUE KEY six (a, id), ADD KEY seven ((a + 1)) COMMENT 'x'",
    ),
    case(
        "secondary indexes that move",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, c INT NOT NULL, KEY k1 (a), UNIQUE KEY u1 (c), KEY k2 (b), UNIQUE KEY u2 (a, b), KEY k3 (c))",
        "ADD KEY k4 (a, c), ADD UNIQUE u3 (b, c), DROP KEY k1, MODIFY a BIGINT NOT NULL",
    ),
    case(
        "full text",
        "CREATE TABLE t (id INT PRIMARY KEY, a TEXT, b TEXT, n INT, KEY n (n)); INSERT INTO t VALUES (1, 'some words', 'more', 2)",
        "ADD FULLTEXT KEY ft (a, b), ADD FULLTEXT KEY fu (b) WITH PARSER ngram",
    ),
    case("an index on the same columns twice", "CREATE TABLE t (id INT PRIMARY KEY, a INT, KEY a (a))", "ADD KEY a_2 (a), ADD KEY (a)"),
    case(
        "names that the server picks",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)",
        "ADD KEY (a, b), ADD UNIQUE (a), ADD INDEX (b), ADD KEY ((a + b)), ADD CHECK (a > 0)",
    ),
    case(
        "another primary key",
        "CREATE TABLE t (id INT NOT NULL, a INT NOT NULL, PRIMARY KEY (id), KEY a (a)); INSERT INTO t VALUES (1, 1)",
        "DROP PRIMARY KEY, ADD PRIMARY KEY (a, id), ADD UNIQUE KEY rows_by (id)",
    ),
    case(
        "a primary key for a unique one",
        "CREATE TABLE t (id INT NOT NULL, a INT, UNIQUE KEY u (id), KEY a (a))",
        "DROP KEY u, ADD PRIMARY KEY (id DESC)",
    ),
    case(
        "options",
        "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(20)) ROW_FORMAT=COMPACT COMMENT='old' STATS_PERSISTENT=1 DEFAULT CHARSET=latin1",
        "ROW_FORMAT=DYNAMIC, COMMENT='it''s \"new\"', STATS_SAMPLE_PAGES=30, STATS_AUTO_RECALC=0, KEY_BLOCK_SIZE=0, DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    ),
    case("compressed", "CREATE TABLE t (id INT PRIMARY KEY, a TEXT)", "ROW_FORMAT=COMPRESSED, KEY_BLOCK_SIZE=8"),
    case("page compression", "CREATE TABLE t (id INT PRIMARY KEY, a TEXT) COMPRESSION='zlib'", "ADD b INT, COMPRESSION='lz4'"),
    case(
        "conversion of the charset",
        "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(20) COLLATE latin1_bin, b TEXT, c CHAR(3) CHARACTER SET utf8mb4, d ENUM('a','b'), e VARBINARY(5), KEY a (a), KEY b (b(20))) DEFAULT CHARSET=latin1; INSERT INTO t VALUES (1, 'ä', 'ö', 'é', 'a', x'00')",
        "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs",
    ),
    case(
        "conversion to the default",
        "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(20), b TINYTEXT) DEFAULT CHARSET=latin1",
        "CONVERT TO CHARACTER SET utf8mb4, MODIFY b MEDIUMTEXT CHARACTER SET ascii",
    ),
    case(
        "generated names of constraints",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT CHECK (a > 0), b INT, CHECK (b > a), CHECK (b <> 7) NOT ENFORCED); INSERT INTO t VALUES (1, 1, 2)",
        "ADD COLUMN c INT CHECK (c < 100), ADD CHECK (a < 1000), DROP CHECK t_chk_2, ALTER CHECK t_chk_3 ENFORCED",
    ),
    case(
        "a constraint with a name is added",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT)",
        "ADD CONSTRAINT positive CHECK (a > 0), ADD CONSTRAINT t_chk_mine CHECK (a > 1) NOT ENFORCED",
    ),
    case(
        "a constraint with a name is dropped",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, CONSTRAINT positive CHECK (a > 0), CHECK (a < 10))",
        "DROP CONSTRAINT positive, ADD COLUMN b INT",
    ),
    Case {
        name: "a constraint with a name is kept",
        table: "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, CONSTRAINT positive CHECK (a > 0), CONSTRAINT `t_chk_positive` CHECK (b > 0), CONSTRAINT `17` CHECK (b <> 5), CHECK (a <> b))",
        alter: "ADD CHECK (a > 5), ALTER CHECK positive NOT ENFORCED",
        // Names are unique in a schema, and the old table still has these (docs/reference/conversions.md).
        except: &[("CONSTRAINT `positive`", "CONSTRAINT `t_chk_positive_1`"), ("CONSTRAINT `17`", "CONSTRAINT `t_chk__17`")],
    },
    case(
        "partitions stay",
        "CREATE TABLE t (id INT, a INT, PRIMARY KEY (id, a), KEY a (a)) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (10) COMMENT='first', PARTITION p1 VALUES LESS THAN MAXVALUE); INSERT INTO t VALUES (1, 1), (2, 50)",
        "ADD COLUMN b INT, ADD KEY b (b)",
    ),
    case(
        "partitions come",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT); INSERT INTO t VALUES (1, 1), (2, 50)",
        "PARTITION BY HASH (id) PARTITIONS 4",
    ),
    case(
        "partitions go",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT) PARTITION BY KEY (id) PARTITIONS 3; INSERT INTO t VALUES (1, 1), (2, 50)",
        "REMOVE PARTITIONING",
    ),
    case(
        "columns and partitions",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT)",
        "ADD COLUMN b INT, MODIFY a BIGINT PARTITION BY LINEAR KEY (id) PARTITIONS 2",
    ),
    case(
        "partitions rearranged",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20)); INSERT INTO t VALUES (1, 1), (15, 2)",
        "REORGANIZE PARTITION p0, p1 INTO (PARTITION q VALUES LESS THAN (100))",
    ),
    case(
        "names that need quotes",
        "CREATE TABLE t (`a``b` INT PRIMARY KEY, `select` INT, `ö ä` INT, KEY `k,1` (`select`), CHECK (`ö ä` > 0))",
        "MODIFY `select` BIGINT COMMENT 'CHECK (1)', ADD KEY `(` (`ö ä`), ADD COLUMN `;` INT",
    ),
    case(
        "case of names",
        "CREATE TABLE t (Id INT PRIMARY KEY, A INT, KEY Ka (A))",
        "CHANGE a a BIGINT, RENAME INDEX ka TO KA, MODIFY ID BIGINT",
    ),
    case(
        "zerofill and display widths",
        "CREATE TABLE t (id INT(5) ZEROFILL PRIMARY KEY, a TINYINT(1), b YEAR, c FLOAT(7,2), d DECIMAL(5,1) UNSIGNED)",
        "MODIFY a TINYINT(1) NOT NULL DEFAULT 1, MODIFY c DOUBLE(9,3), ADD e BOOL",
    ),
    case(
        "unique column attributes",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT)",
        "MODIFY a INT UNIQUE, ADD COLUMN b INT NOT NULL UNIQUE COMMENT 'b'",
    ),
    case(
        "an instant column before",
        "CREATE TABLE t (id INT PRIMARY KEY, a INT); INSERT INTO t VALUES (1, 2); ALTER TABLE t ADD COLUMN b INT DEFAULT 7, ALGORITHM=INSTANT; ALTER TABLE t DROP COLUMN a, ALGORITHM=INSTANT",
        "ADD COLUMN c INT NOT NULL",
    ),
    case(
        "a generated invisible primary key",
        "SET sql_generate_invisible_primary_key=1; CREATE TABLE t (a INT NOT NULL, KEY a (a)); SET sql_generate_invisible_primary_key=0; INSERT INTO t (a) VALUES (1), (1); DELETE FROM t WHERE my_row_id = 2",
        "ADD COLUMN b INT, MODIFY a BIGINT",
    ),
    case("encrypted or not", "CREATE TABLE t (id INT PRIMARY KEY) ENCRYPTION='N'", "ADD b INT"),
];

/// The lines in an order of their own: the server shows constraints by name, so other names stand elsewhere.
fn lines(definition: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = definition.lines().map(|l| l.trim_end_matches(',')).collect();
    lines.sort_unstable();
    lines
}

/// The native definition, in a database of its own, under the same name.
async fn native(case: &Case) -> Result<String, String> {
    let mut db = Db::new("native").await;
    db.run(case.table).await;
    let mut result = db.conn.query_drop(format!("ALTER TABLE t {}, ALGORITHM=COPY", case.alter)).await;
    if result.is_err() {
        result = db.conn.query_drop(format!("ALTER TABLE t {}", case.alter)).await;
    }
    let definition = db.definition("t").await;
    db.drop().await;
    result.map(|()| definition).map_err(|e| e.to_string())
}

async fn ours(case: &Case, defer_indexes: DeferIndexes) -> Result<String, String> {
    let mut db = Db::new("definition").await;
    db.run(case.table).await;
    let outcome = migrate(db.spec("t", case.alter), Controls { defer_indexes, ..controls() }).await;
    let definition = db.definition("t").await;
    let left = db.tables().await;
    if outcome != Outcome::Succeeded {
        return Err(format!("{outcome:?}"));
    }
    db.drop().await;
    if left == ["t"] { Ok(definition) } else { Err(format!("left behind: {left:?}")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_the_native_alters() {
    let only = std::env::var("THESEUS_CASE").ok();
    let cases = CASES.iter().filter(|c| only.as_ref().is_none_or(|o| c.name.contains(o.as_str())));
    let runs = futures::stream::iter(cases.map(|case| async move {
        let mut wanted = native(case).await;
        for (from, to) in case.except {
            wanted = wanted.map(|w| w.replace(from, to));
        }
        let mut failures = Vec::new();
        for defer in [DeferIndexes::Never, DeferIndexes::Always] {
            let got = ours(case, defer).await;
            let same = match (&got, &wanted) {
                (Ok(got), Ok(wanted)) if case.except.is_empty() => got == wanted,
                (Ok(got), Ok(wanted)) => lines(got) == lines(wanted),
                _ => false,
            };
            if !same {
                let show = |r: &Result<String, String>| match r {
                    Ok(text) => text.clone(),
                    Err(e) => format!("ERROR {e}"),
                };
                failures.push(format!("=== {} ({defer:?})\n{}\n--- native\n{}\n", case.name, show(&got), show(&wanted)));
            }
        }
        failures
    }));
    let failures: Vec<String> = runs.buffer_unordered(4).concat().await;
    for failure in &failures {
        eprintln!("{failure}");
    }
    assert!(failures.is_empty(), "{} definitions differ", failures.len());
}

/// Why a CHECK constraint with a name of the user's own gets another one (docs/reference/conversions.md): the name is taken while the
/// original is there, and nothing but a rebuild gives an enforced constraint to a table that has rows. The day this test fails, the
/// cut-over can do it.
#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_check_cannot_be_given_without_a_rebuild() {
    let mut db = Db::new("check").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, CONSTRAINT positive CHECK (a > 0))").await;
    let code = |result: Result<(), mysql_async::Error>| match result {
        Err(mysql_async::Error::Server(error)) => error.code,
        other => panic!("{other:?}"),
    };
    let twice = db.conn.query_drop("CREATE TABLE g (id INT PRIMARY KEY, a INT, CONSTRAINT Positive CHECK (a > 0))").await;
    assert_eq!(code(twice), 3822, "a name that is taken");
    db.run("CREATE TABLE g (id INT PRIMARY KEY, a INT, CONSTRAINT g_positive CHECK (a > 0))").await;
    db.run("ALTER TABLE t DROP CHECK positive, ALGORITHM=INSTANT").await;
    for algorithm in ["INSTANT", "INPLACE"] {
        let add = format!("ALTER TABLE g DROP CHECK g_positive, ADD CONSTRAINT positive CHECK (a > 0), ALGORITHM={algorithm}");
        assert_eq!(code(db.conn.query_drop(add).await), 1845, "not without a copy");
    }
    db.run("ALTER TABLE g ADD CONSTRAINT positive CHECK (a > 0) NOT ENFORCED, ALGORITHM=INSTANT").await;
    let enforce = db.conn.query_drop("ALTER TABLE g ALTER CHECK positive ENFORCED, ALGORITHM=INPLACE").await;
    assert_eq!(code(enforce), 1845, "nor by the way of one that is not enforced");
    db.drop().await;
}
