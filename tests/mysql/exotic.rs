//! Tables as nobody would design them and everybody has them: migrated while rows change, compared with a native ALTER.
use crate::{mirror, support};

use mirror::{Mirror, Statements};
use mysql_async::prelude::Queryable;
use std::time::Duration;
use support::{Db, controls, join, mysql_url, until};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy};

/// One table: how it is made, filled, altered, and changed before the copy and behind it.
struct Case<'a> {
    name: &'a str,
    make: Statements<'a>,
    alter: &'a str,
    ahead: Statements<'a>,
    behind: Statements<'a>,
}

async fn prove(cases: &[Case<'_>]) {
    for case in cases {
        println!("{}", case.name);
        let mut mirror = Mirror::new(&mysql_url(), "exotic", case.make).await;
        mirror.migrate(case.alter, case.ahead, &[], case.behind).await;
        mirror.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_and_generated_columns() {
    prove(&[
        Case {
            name: "generated invisible primary key",
            make: &[
                "SET SESSION sql_generate_invisible_primary_key=ON",
                "CREATE TABLE {t} (a INT, b VARCHAR(20))",
                "INSERT INTO {t} VALUES (1, 'a'), (2, 'b'), (3, NULL), (3, NULL)",
                "SET SESSION sql_generate_invisible_primary_key=OFF",
            ],
            alter: "MODIFY a BIGINT, ADD c INT",
            ahead: &["UPDATE {t} SET a = 10 WHERE my_row_id = 1", "INSERT INTO {t} VALUES (4, 'd')"],
            behind: &["DELETE FROM {t} WHERE my_row_id = 2", "UPDATE {t} SET b = 'x' WHERE a = 3 LIMIT 1", "INSERT INTO {t} VALUES (5, 'e')"],
        },
        Case {
            name: "functional and multi-valued indexes",
            make: &[
                "CREATE TABLE {t} (j JSON, v VARCHAR(50), id INT PRIMARY KEY, n INT, KEY f ((LOWER(v))), UNIQUE KEY g (v, (n + 1)), KEY m ((CAST(j->'$.tags' AS CHAR(20) ARRAY))), KEY mm (n, (CAST(j->'$.ids' AS UNSIGNED ARRAY))))",
                "INSERT INTO {t} VALUES ('{\"tags\": [\"a\", \"b\"], \"ids\": [1, 2]}', 'One', 1, 1), ('{\"tags\": [], \"ids\": []}', 'Two', 2, 2), (NULL, NULL, 3, NULL)",
            ],
            alter: "MODIFY n BIGINT, ADD KEY h ((n * 2)), ADD c INT AFTER j",
            ahead: &["UPDATE {t} SET j = JSON_ARRAY_APPEND(j, '$.tags', 'x') WHERE id = 1", "INSERT INTO {t} VALUES ('{\"tags\": [\"z\"]}', 'Four', 4, 4)"],
            behind: &["UPDATE {t} SET id = 20, j = JSON_SET(j, '$.ids[0]', 77) WHERE id = 2", "DELETE FROM {t} WHERE id = 1", "UPDATE {t} SET v = 'FIVE' WHERE id = 4"],
        },
        Case {
            name: "generated columns",
            make: &[
                "CREATE TABLE {t} (v INT GENERATED ALWAYS AS (a + b) VIRTUAL, a INT NOT NULL, s INT GENERATED ALWAYS AS (a * 2) STORED NOT NULL, b INT NOT NULL, w VARCHAR(10) AS (CONCAT('w', a)) VIRTUAL, PRIMARY KEY (a, b), UNIQUE KEY (s, b), KEY (v), KEY (w))",
                "INSERT INTO {t} (a, b) VALUES (1, 1), (2, 2), (3, 3), (-1, 5)",
            ],
            alter: "ADD c INT DEFAULT 5, MODIFY b BIGINT NOT NULL",
            ahead: &["UPDATE {t} SET b = 30 WHERE a = 3", "INSERT INTO {t} (a, b) VALUES (9, 9)"],
            behind: &["UPDATE {t} SET a = 20 WHERE a = 2", "DELETE FROM {t} WHERE a = 1", "INSERT INTO {t} (a, b) VALUES (10, 0)"],
        },
        Case {
            name: "invisible columns and reserved words",
            make: &[
                "CREATE TABLE {t} (`select` INT NOT NULL INVISIBLE, `from` INT NOT NULL, `key` VARCHAR(20) INVISIBLE DEFAULT 'x', `order` INT, `a b.c$` INT, `ti``ck` INT, PRIMARY KEY (`from`, `select`), KEY `index` (`order`))",
                "INSERT INTO {t} (`select`, `from`, `key`, `order`, `a b.c$`, `ti``ck`) VALUES (1, 1, 'a', 1, 1, 1), (2, 1, NULL, 2, 2, 2)",
            ],
            alter: "MODIFY `order` BIGINT, ADD `group` INT, RENAME COLUMN `ti``ck` TO `to``ck`",
            ahead: &["UPDATE {t} SET `key` = 'b' WHERE `select` = 1", "INSERT INTO {t} (`select`, `from`) VALUES (3, 3)"],
            behind: &["UPDATE {t} SET `from` = 7 WHERE `select` = 2", "DELETE FROM {t} WHERE `select` = 1", "UPDATE {t} SET `ti``ck` = 9"],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_beside_the_key() {
    prove(&[
        Case {
            name: "geometry, vector, full text",
            make: &[
                "CREATE TABLE {t} (g POINT NOT NULL SRID 4326, h GEOMETRY, e VECTOR(3), x TEXT, id INT PRIMARY KEY, n INT, SPATIAL KEY (g), FULLTEXT KEY ft (x))",
                "INSERT INTO {t} VALUES (ST_SRID(POINT(1, 2), 4326), ST_GeomFromText('LINESTRING(0 0,1 1)'), TO_VECTOR('[1,2,3]'), 'hello world', 1, 1), (ST_SRID(POINT(3, 4), 4326), NULL, NULL, NULL, 2, 2)",
            ],
            alter: "MODIFY n BIGINT, ADD c INT",
            ahead: &["UPDATE {t} SET g = ST_SRID(POINT(5, 6), 4326), e = TO_VECTOR('[4,5,6]') WHERE id = 1", "INSERT INTO {t} SELECT g, h, e, 'new words', 3, 3 FROM {t} s WHERE id = 1"],
            behind: &["UPDATE {t} SET id = 20, h = ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))') WHERE id = 2", "UPDATE {t} SET x = 'other', e = NULL WHERE id = 3", "DELETE FROM {t} WHERE id = 1"],
        },
        Case {
            name: "empty vectors, made and kept",
            make: &[
                "CREATE TABLE {t} (id INT PRIMARY KEY, n INT, e VECTOR(3) NOT NULL, j JSON, UNIQUE KEY n (n), UNIQUE KEY x ((n + 1)))",
                "INSERT INTO {t} VALUES (1, 1, TO_VECTOR('[1,2,3]'), '{}'), (2, 2, 0x0000008000008000, NULL), (3, 3, TO_VECTOR('[9]'), NULL), (4, 4, TO_VECTOR('[8]'), NULL)",
                "ALTER TABLE {t} ADD f VECTOR(4) NOT NULL",
                "UPDATE {t} SET f = TO_VECTOR('[1,2.5,-3e-30,3.3e38]') WHERE id IN (1, 3)",
            ],
            alter: "ADD w VECTOR(4) NOT NULL, MODIFY e VECTOR(5) NOT NULL, ADD d VECTOR(2) NOT NULL DEFAULT (TO_VECTOR('[1,2]')), MODIFY n VARCHAR(9)",
            ahead: &["UPDATE {t} SET f = TO_VECTOR('[4]') WHERE id = 2", "UPDATE {t} SET n = n + 10 ORDER BY n DESC"],
            behind: &["UPDATE {t} SET id = 20 WHERE id = 4", "UPDATE {t} SET n = n + 1 ORDER BY n DESC", "DELETE FROM {t} WHERE id = 1"],
        },
        Case {
            name: "compressed rows",
            make: &["CREATE TABLE {t} (id INT PRIMARY KEY, b LONGTEXT, n INT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4", "INSERT INTO {t} VALUES (1, REPEAT('x', 50000), 1), (2, 'y', 2)"],
            alter: "MODIFY n BIGINT",
            ahead: &["UPDATE {t} SET b = REPEAT('z', 60000) WHERE id = 2"],
            behind: &["UPDATE {t} SET n = 9", "INSERT INTO {t} VALUES (3, NULL, NULL)"],
        },
        Case {
            name: "one column",
            make: &["CREATE TABLE {t} (id INT PRIMARY KEY)", "INSERT INTO {t} VALUES (1), (2), (3)"],
            alter: "MODIFY id BIGINT",
            ahead: &["UPDATE {t} SET id = 10 WHERE id = 1"],
            behind: &["DELETE FROM {t} WHERE id = 2", "INSERT INTO {t} VALUES (-5)"],
        },
        Case {
            name: "no row",
            make: &["CREATE TABLE {t} (id INT AUTO_INCREMENT PRIMARY KEY, n INT)"],
            alter: "MODIFY n BIGINT",
            ahead: &[],
            behind: &[],
        },
        Case {
            name: "no row at first",
            make: &["CREATE TABLE {t} (id INT AUTO_INCREMENT PRIMARY KEY, n INT)"],
            alter: "MODIFY n BIGINT",
            ahead: &["INSERT INTO {t} VALUES (1, 1), (2, 2)"],
            behind: &["INSERT INTO {t} VALUES (3, 3)", "DELETE FROM {t} WHERE id = 1"],
        },
        Case {
            name: "one row that goes",
            make: &["CREATE TABLE {t} (id INT PRIMARY KEY, n INT)", "INSERT INTO {t} VALUES (1, 1)"],
            alter: "MODIFY n BIGINT",
            ahead: &[],
            behind: &["DELETE FROM {t}"],
        },
        Case {
            name: "zero and the extremes of an AUTO_INCREMENT",
            make: &["CREATE TABLE {t} (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, n INT)", "INSERT INTO {t} VALUES (0, 0), (1, 1), (18446744073709551614, 2), (9223372036854775808, 3)"],
            alter: "MODIFY n BIGINT",
            ahead: &["UPDATE {t} SET n = 10 WHERE id = 0", "INSERT INTO {t} VALUES (18446744073709551615, 5)"],
            behind: &["UPDATE {t} SET n = 20 WHERE id = 18446744073709551615", "DELETE FROM {t} WHERE id = 9223372036854775808", "UPDATE {t} SET id = 7 WHERE id = 1"],
        },
        Case {
            name: "negative keys",
            make: &["CREATE TABLE {t} (id BIGINT PRIMARY KEY, n INT)", "INSERT INTO {t} VALUES (-9223372036854775808, 0), (-1, 1), (0, 2), (9223372036854775807, 3)"],
            alter: "MODIFY n BIGINT",
            ahead: &["UPDATE {t} SET n = 10 WHERE id < 0"],
            behind: &["UPDATE {t} SET n = 20 WHERE id = 9223372036854775807", "UPDATE {t} SET id = -2 WHERE id = -1", "DELETE FROM {t} WHERE id = -9223372036854775808"],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_columns() {
    let columns: Vec<String> = (1..=300).map(|i| if i % 7 == 0 { format!("c{i} VARCHAR(10)") } else { format!("c{i} INT") }).collect();
    let make = format!("CREATE TABLE {{t}} ({}, id INT PRIMARY KEY, z INT)", columns.join(", "));
    prove(&[Case {
        name: "three hundred columns",
        make: &[&make, "INSERT INTO {t} (id, c1, c7, c300) VALUES (1, 1, 'a', 5), (2, NULL, 'b', 6), (3, 3, NULL, NULL)"],
        alter: "MODIFY c300 BIGINT, ADD c301 INT, DROP COLUMN c5",
        ahead: &["UPDATE {t} SET c299 = 4 WHERE id = 1"],
        behind: &["UPDATE {t} SET id = 30 WHERE id = 3", "UPDATE {t} SET c7 = 'zz' WHERE id = 2", "DELETE FROM {t} WHERE id = 1"],
    }])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitioned_tables() {
    let changes: (Statements<'_>, Statements<'_>) = (
        &["UPDATE {t} SET n = 100 WHERE id = 1", "INSERT INTO {t} VALUES (500, 5, 5)", "UPDATE {t} SET id = 15 WHERE id = 5"],
        &[
            "UPDATE {t} SET id = 25 WHERE id = 15",
            "DELETE FROM {t} WHERE id = 2",
            "UPDATE {t} SET k = 99 WHERE id = 3",
            "INSERT INTO {t} VALUES (7000, 7, 7)",
        ],
    );
    let fill = "INSERT INTO {t} VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3), (5, 5, 5), (12, 12, 12), (28, 1, 1)";
    let mut cases = Vec::new();
    for (name, make) in [
        (
            "range",
            "CREATE TABLE {t} (id INT, k INT, n INT, PRIMARY KEY (id, k)) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN MAXVALUE)",
        ),
        ("hash", "CREATE TABLE {t} (id INT, k INT, n INT, PRIMARY KEY (k, id)) PARTITION BY HASH (id) PARTITIONS 4"),
        ("key", "CREATE TABLE {t} (id INT PRIMARY KEY, k INT, n INT) PARTITION BY KEY (id) PARTITIONS 3"),
    ] {
        cases.push((name, [make, fill]));
    }
    for alter in ["MODIFY n BIGINT, ADD c INT", "REMOVE PARTITIONING"] {
        for (name, make) in &cases {
            prove(&[Case { name, make, alter, ahead: changes.0, behind: changes.1 }]).await;
        }
    }
    // Rows move between partitions.
    cases.push(("none", ["CREATE TABLE {t} (id INT, k INT, n INT, PRIMARY KEY (id, k))", fill]));
    for (table, alter) in [
        ("range", "REORGANIZE PARTITION p0, p1 INTO (PARTITION p VALUES LESS THAN (20))"),
        ("range", "REORGANIZE PARTITION p2 INTO (PARTITION p2 VALUES LESS THAN (26), PARTITION p3 VALUES LESS THAN MAXVALUE)"),
        ("range", "MODIFY n BIGINT PARTITION BY KEY (k) PARTITIONS 5"),
        ("hash", "ADD PARTITION PARTITIONS 3"),
        ("hash", "COALESCE PARTITION 3"),
        ("key", "REBUILD PARTITION p1, p2"),
        ("key", "REORGANIZE PARTITION"),
        (
            "none",
            "PARTITION BY RANGE (id) SUBPARTITION BY HASH (k) SUBPARTITIONS 2 (PARTITION p VALUES LESS THAN (15), PARTITION q VALUES LESS THAN MAXVALUE)",
        ),
    ] {
        for (name, make) in cases.iter().filter(|(name, _)| *name == table) {
            prove(&[Case { name, make, alter, ahead: changes.0, behind: changes.1 }]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_keys() {
    let cases = [
        (
            "VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci",
            "('Ärger', 1), ('b', 2), ('ß', 3), ('zebra', 4), ('a ', 5), ('a', 6)",
            ["ARGER", "B", "Zebra", "a "],
        ),
        (
            "VARCHAR(50) CHARACTER SET latin1 COLLATE latin1_swedish_ci",
            "('Ärger', 1), ('b', 2), ('é', 3), ('zebra', 4), ('a', 6), ('y', 7)",
            ["ÄRGER", "B ", "ZEBRA", "a   "],
        ),
        (
            "CHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
            "('Arger', 1), ('b', 2), ('e', 3), ('zebra', 4), ('a', 6), ('', 7)",
            ["ÄRGER", "B ", "ZEBRA", "A"],
        ),
        (
            "VARCHAR(20) CHARACTER SET utf16 COLLATE utf16_general_ci",
            "('Arger', 1), ('b', 2), ('é', 3), ('zebra', 4), ('a', 6), ('', 7)",
            ["ARGER", "B", "ZEBRA", "A"],
        ),
        (
            "VARCHAR(20) CHARACTER SET ucs2 COLLATE ucs2_bin",
            "('Arger', 1), ('b', 2), ('é', 3), ('zebra', 4), ('a', 6), ('A', 7)",
            ["arger", "B", "ZEBRA", "a"],
        ),
        (
            "CHAR(20) CHARACTER SET sjis COLLATE sjis_japanese_ci",
            "('ｱｲｳ', 1), ('表', 2), ('ソ', 3), ('zebra', 4), ('a', 6), ('能力', 7)",
            ["ｱｲｳ", "表", "Zebra", "A"],
        ),
        (
            "VARCHAR(20) CHARACTER SET utf32",
            "('Arger', 1), ('b', 2), ('é', 3), ('zebra', 4), ('a', 6), ('', 7)",
            ["ARGER", "B", "ZEBRA", "A"],
        ),
    ];
    for (kind, rows, [first, second, third, fourth]) in cases {
        let make = format!("CREATE TABLE {{t}} (k {kind} NOT NULL PRIMARY KEY, n INT)");
        let fill = format!("INSERT INTO {{t}} VALUES {rows}");
        let ahead = [format!("UPDATE {{t}} SET k = '{first}' WHERE n = 1"), format!("UPDATE {{t}} SET n = 20 WHERE k = '{second}'")];
        let behind = [
            format!("UPDATE {{t}} SET k = '{third}', n = 40 WHERE k = '{third}'"),
            format!("UPDATE {{t}} SET n = 60 WHERE k = '{fourth}'"),
            "UPDATE {t} SET k = 'moved' WHERE n = 3".to_owned(),
            "DELETE FROM {t} WHERE n = 20".to_owned(),
        ];
        prove(&[Case {
            name: kind,
            make: &[&make, &fill],
            alter: "MODIFY n BIGINT",
            ahead: &ahead.each_ref().map(String::as_str),
            behind: &behind.each_ref().map(String::as_str),
        }])
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_other_types() {
    let cases = [
        ("ENUM('z', 'y', 'a', '')", ["'z'", "'y'", "'a'", "''"], "'a'"),
        ("SET('z', 'y', 'a')", ["''", "'z,a'", "'y'", "'a'"], "'z,y,a'"),
        ("YEAR", ["0", "1901", "2155", "2024"], "1999"),
        ("BIT(12)", ["0", "1", "b'111111111111'", "b'100000000000'"], "b'101'"),
        ("TIME(3)", ["'-838:59:59'", "'00:00:00'", "'00:00:00.001'", "'838:59:59'"], "'-00:00:00.500'"),
        ("DECIMAL(20, 6)", ["-99999999999999.999999", "0", "0.000001", "12345678901234.5"], "-0.000001"),
        ("DECIMAL(65, 30)", ["-1.000000000000000000000000000001", "0", "99999999999999999999999999999999999", "1"], "0.5"),
        ("BINARY(16)", ["X'00'", "X'0102030405060708090a0b0c0d0e0f00'", "X'FF0000'", "X'20'"], "X'0001'"),
        ("VARBINARY(16)", ["X''", "X'00'", "X'0000'", "X'20'"], "X'2000'"),
        (
            "TIMESTAMP(6)",
            ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999999'", "'2020-01-01 00:00:00.000001'", "'2020-01-01'"],
            "'2020-02-29 12:00:00.5'",
        ),
        (
            "DATETIME(2)",
            ["'1000-01-01'", "'9999-12-31 23:59:59.99'", "'2020-01-01 00:00:00.01'", "'2020-01-01'"],
            "'2020-02-29 12:00:00.5'",
        ),
        ("MEDIUMINT UNSIGNED", ["0", "16777215", "8388608", "1"], "8388607"),
        ("TINYINT", ["-128", "127", "0", "-1"], "1"),
    ];
    for (kind, values, moved) in cases {
        for direction in ["", " DESC"] {
            let rows: Vec<String> = values.iter().enumerate().map(|(i, v)| format!("({v}, {i}, {i})")).collect();
            let make = format!("CREATE TABLE {{t}} (k {kind} NOT NULL, id INT NOT NULL, n INT, PRIMARY KEY (k{direction}, id))");
            let fill = format!("INSERT INTO {{t}} VALUES {}", rows.join(", "));
            let behind = [
                format!("UPDATE {{t}} SET k = {moved} WHERE id = 0"),
                format!("DELETE FROM {{t}} WHERE k = {} AND id = 3", values[3]),
                format!("INSERT INTO {{t}} VALUES ({}, 9, 9)", values[1]),
            ];
            let name = format!("{kind}{direction}");
            prove(&[Case {
                name: &name,
                make: &[&make, &fill],
                alter: "MODIFY n BIGINT",
                ahead: &["UPDATE {t} SET n = 100 WHERE id = 1"],
                behind: &[&behind[0], "UPDATE {t} SET n = n + 1 WHERE id < 3", &behind[1], &behind[2]],
            }])
            .await;
        }
    }
}

/// Enough rows for several chunks, so that keys have to be placed among ranges.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_five_parts_in_the_middle_of_the_copy() {
    let mut mirror = Mirror::new(
        &mysql_url(),
        "five",
        &[
            "SET SESSION cte_max_recursion_depth = 10000",
            "CREATE TABLE {t} (e ENUM('b', 'a', 'c') NOT NULL, s VARCHAR(20) NOT NULL, d DECIMAL(10, 2) NOT NULL, at TIMESTAMP(6) NOT NULL, u BINARY(16) NOT NULL, n INT, PRIMARY KEY (e, s DESC, d, at DESC, u))",
            "INSERT INTO {t} WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 6000) SELECT 1 + i % 3, CONCAT('Key ', i DIV 100), (i % 7) / 100 - 0.03, FROM_UNIXTIME(1 + i DIV 10), UNHEX(LPAD(HEX(i << 8), 32, '0')), i FROM i",
        ],
    )
    .await;
    let change = |p: u32| {
        [
            format!("UPDATE {{t}} SET n = -n WHERE n % 31 = {p}"),
            format!("UPDATE {{t}} SET s = UPPER(s) WHERE n % 37 = {p}"),
            format!("UPDATE {{t}} SET e = 'c', d = -d WHERE n % 41 = {p}"),
            format!("DELETE FROM {{t}} WHERE n % 43 = {p}"),
            format!("UPDATE {{t}} SET at = at + INTERVAL 1 MICROSECOND, u = REVERSE(u) WHERE n % 47 = {p}"),
        ]
    };
    let (one, two, three) = (change(1), change(2), change(3));
    mirror
        .migrate(
            "MODIFY n BIGINT, ADD KEY (n)",
            &one.each_ref().map(String::as_str),
            &two.each_ref().map(String::as_str),
            &three.each_ref().map(String::as_str),
        )
        .await;
    mirror.drop().await;
}

/// A key with a generated part is refused: nothing says that the ghost generates the same value.
#[tokio::test(flavor = "multi_thread")]
async fn a_generated_key_is_refused() {
    let mut db = Db::new("exotic").await;
    db.run("CREATE TABLE t (a INT NOT NULL, s INT AS (a * 2) STORED NOT NULL PRIMARY KEY)").await;
    match support::migrate(db.spec("t", "ADD c INT"), controls()).await {
        Outcome::Refused { reason: Reason::NoUsableKey, message } => assert!(message.contains("generated"), "{message}"),
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// Names of 64 characters with everything in them, of the table and of its database.
#[tokio::test(flavor = "multi_thread")]
async fn names_with_everything_in_them() {
    let mut db = Db::new("names").await;
    let unique = format!("{:08x}", fastrand::u32(..));
    let filled = |start: &str| format!("{start}{}", "x".repeat(64 - start.chars().count()));
    let databases = [format!("da``ta.base $ {unique}"), format!("{unique} données")];
    let tables = [
        "order",
        "a b",
        "a.b",
        "ti`ck",
        "dol$lar",
        "größe",
        "表",
        "12",
        "a'b\"c",
        "select * from t",
        "per%cent_",
        "back\\slash",
        "Straße-ÄÖ",
        &filled("a`b.c d$"),
        &filled("größe 表 "),
    ];
    for database in databases {
        let shown = database.replace("``", "`");
        db.run(&format!("CREATE DATABASE `{database}`")).await;
        for table in tables {
            println!("{shown}.{table}");
            let quoted = format!("`{database}`.`{}`", table.replace('`', "``"));
            // The server itself cannot name a CHECK after a table of 64 characters.
            let named = if table.chars().count() == 64 { "CONSTRAINT `ch``eck` " } else { "" };
            db.run(&format!(
                "CREATE TABLE {quoted} (`i``d` INT PRIMARY KEY, `größe` INT, {named}CHECK (`größe` < 1000), KEY `k``1` (`größe`))"
            ))
            .await;
            db.run(&format!("INSERT INTO {quoted} VALUES (1, 1), (2, 2), (3, 3)")).await;
            let mut spec = db.spec("t", "MODIFY `größe` BIGINT, ADD `ne``w` INT");
            spec.id = format!("{shown}.{table}");
            spec.database.clone_from(&shown);
            spec.table = table.to_owned();
            let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
            let handle = theseus::engine::start(spec, manual);
            until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
            db.run(&format!("UPDATE {quoted} SET `größe` = 10 WHERE `i``d` = 1; DELETE FROM {quoted} WHERE `i``d` = 2; INSERT INTO {quoted} VALUES (4, 4)")).await;
            until(&handle, "the changes are seen", |s| s.progress.changes_seen >= 3).await;
            handle.control(controls());
            assert_eq!(join(handle).await, Outcome::Succeeded, "{table}");
            let rows: Vec<(i64, i64, Option<i64>)> = db.conn.query(format!("SELECT * FROM {quoted} ORDER BY 1")).await.expect("rows");
            assert_eq!(rows, [(1, 10, None), (3, 3, None), (4, 4, None)], "{table}");
            let left: Vec<String> = db.conn.query(format!("SHOW TABLES FROM `{database}`")).await.expect("tables");
            assert_eq!(left, [table], "nothing is left");
            db.run(&format!("DROP TABLE {quoted}")).await;
        }
        db.run(&format!("DROP DATABASE `{database}`")).await;
    }
    db.drop().await;
}

/// Values that only move from row to row are no duplicates, whatever the unique key is made of: the rows that still hold them on the
/// ghost are found by what the server makes of a value, rounded, folded, or generated.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_move_under_unique_keys_of_each_kind() {
    let mut db = Db::new("moves").await;
    for table in ["t", "m"] {
        db.run(&format!(
            "CREATE TABLE {table} (id INT PRIMARY KEY, d DECIMAL(8,2), f VARCHAR(20) COLLATE utf8mb4_bin, n INT, g INT AS (n DIV 10) VIRTUAL, \
             UNIQUE KEY rounded (d), UNIQUE KEY folded ((LOWER(f))), UNIQUE KEY made (g))"
        ))
        .await;
        db.run("SET SESSION cte_max_recursion_depth = 100000").await;
        db.run(&format!(
            "INSERT INTO {table} (id, d, f, n) WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 400) \
             SELECT i, i + (i % 5) / 10, CONCAT('Ab', i), i * 10 + i % 10 FROM s"
        ))
        .await;
    }
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let moves = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let movers: Vec<_> = futures::future::join_all((0..3).map(|_| db.connect()))
        .await
        .into_iter()
        .map(|mut conn| {
            let (stop, moves) = (stop.clone(), moves.clone());
            tokio::spawn(async move {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let (a, b) = (fastrand::u32(1..=400), fastrand::u32(1..=400));
                    let (a, b) = (a.min(b), a.max(b));
                    if a == b {
                        continue;
                    }
                    conn.query_drop("BEGIN").await.expect("begin");
                    let taken: Result<Vec<mysql_async::Row>, _> =
                        conn.query(format!("SELECT d, f, n INTO @d, @f, @n FROM t WHERE id = {a} FOR UPDATE")).await;
                    let mut lost = taken.is_err();
                    for table in ["t", "m"] {
                        for sql in [
                            format!("SELECT d, f, n INTO @x, @y, @z FROM {table} WHERE id = {b} FOR UPDATE"),
                            format!("UPDATE {table} SET d = NULL, f = NULL, n = NULL WHERE id = {a}"),
                            format!("UPDATE {table} SET d = @d, f = @f, n = @n WHERE id = {b}"),
                            format!("UPDATE {table} SET d = @x, f = @y, n = @z WHERE id = {a}"),
                        ] {
                            lost = lost
                                || conn.query_drop(&sql).await.is_err_and(|e| {
                                    // Movers meet each other.
                                    assert!(matches!(&e, mysql_async::Error::Server(e) if matches!(e.code, 1213 | 1205)), "{sql}: {e}");
                                    true
                                });
                        }
                    }
                    conn.query_drop(if lost { "ROLLBACK" } else { "COMMIT" }).await.expect("the end");
                    moves.fetch_add(u32::from(!lost), std::sync::atomic::Ordering::Relaxed);
                }
            })
        })
        .collect();
    let alter = "MODIFY d INT, ADD COLUMN c INT NOT NULL DEFAULT 4, ADD UNIQUE KEY again (d, c)";
    let controls = Controls {
        nice_ratio_percent: 200,
        cut_over_policy: CutOverPolicy::Manual,
        verify: theseus::engine::contract::spec::VerifyPolicy::Always,
        ..controls()
    };
    let handle = theseus::engine::start_in(support::chunks_of(10), db.spec("t", alter), controls.clone());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let end = std::time::Instant::now() + support::PATIENCE;
    let before = moves.load(std::sync::atomic::Ordering::Relaxed);
    while moves.load(std::sync::atomic::Ordering::Relaxed) < before + 100 {
        assert!(std::time::Instant::now() < end, "nothing moves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    handle.control(Controls { approved: true, ..controls });
    let snapshots = handle.watch();
    assert_eq!(join(handle).await, Outcome::Succeeded);
    let last = snapshots.borrow().clone();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for mover in movers {
        mover.await.expect("a mover");
    }
    assert_eq!(last.resumed_count, 0, "no attempt was given up");
    assert_eq!(last.verification.map(|v| v.rows_repaired), Some(0));
    db.run(&format!("ALTER TABLE m {alter}, ALGORITHM=COPY")).await;
    assert_eq!(db.rows("SELECT * FROM t ORDER BY id").await, db.rows("SELECT * FROM m ORDER BY id").await);
    db.drop().await;
}

/// Rows written to a ghost and removed from it, those of transactions that were rolled back included.
async fn ghost_writes(db: &mut Db, table: &str) -> (u64, u64) {
    let of = format!(
        "FROM performance_schema.table_io_waits_summary_by_table WHERE OBJECT_SCHEMA = '{}' AND OBJECT_NAME = '_{table}_gho'",
        db.name
    );
    (db.value(&format!("SELECT COUNT_INSERT {of}")).await, db.value(&format!("SELECT COUNT_DELETE {of}")).await)
}

/// However many rows have exchanged their unique values, and however long the chains are, each of them is removed and written about once:
/// the work does not grow faster than the backlog. All kinds of unique keys: found by an index as they are, after a conversion, of
/// a generated column; and those that no index finds, of an expression and of a prefix.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_colliding_keys_is_flushed_in_work_that_grows_with_it() {
    const SIZES: [u64; 3] = [400, 1_600, 4_800];
    let mut db = Db::new("chains").await;
    let keys = [
        ("plain", "v BIGINT, UNIQUE KEY u (v)", "v", "n"),
        ("rounded", "v DECIMAL(12,1), UNIQUE KEY u (v)", "v", "n + 0.2"),
        ("made", "v BIGINT, g BIGINT AS (v * 2) VIRTUAL, UNIQUE KEY u (g) INVISIBLE", "v", "n"),
        ("folded", "v VARCHAR(20) COLLATE utf8mb4_bin, UNIQUE KEY u ((LOWER(v)))", "v", "CONCAT('Ab', n)"),
        ("prefix", "v VARCHAR(20), UNIQUE KEY u (v(10))", "v", "CONCAT('ab', n)"),
    ];
    for (table, columns, column, of_n) in keys {
        let alter = if table == "rounded" { "MODIFY v BIGINT" } else { "MODIFY c BIGINT" };
        for name in [table.to_owned(), format!("{table}_native")] {
            db.run(&format!("CREATE TABLE {name} (id INT PRIMARY KEY, n BIGINT NOT NULL, c INT, {columns})")).await;
            db.run("SET SESSION cte_max_recursion_depth = 100000").await;
            db.run(&format!(
                "INSERT INTO {name} (id, n, c) WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {}) SELECT i, i, i FROM s",
                SIZES.iter().sum::<u64>(),
            ))
            .await;
            db.run(&format!("UPDATE {name} SET {column} = {of_n}")).await;
        }
        let controls = Controls {
            cut_over_policy: CutOverPolicy::Manual,
            verify: theseus::engine::contract::spec::VerifyPolicy::Always,
            ..controls()
        };
        let handle = theseus::engine::start(db.spec(table, alter), controls.clone());
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        let mut first = 1;
        for n in SIZES {
            let before = ghost_writes(&mut db, table).await;
            let applied = handle.watch().borrow().progress.changes_applied;
            for name in [table.to_owned(), format!("{table}_native")] {
                // One chain through all the rows, each link far from the last one.
                db.run(&format!(
                    "BEGIN; UPDATE {name} SET {column} = NULL WHERE id BETWEEN {first} AND {first} + {n} - 1; \
                     UPDATE {name} SET n = {first} + (n - {first} + {n} DIV 3 + 1) % {n}, {column} = {of_n} WHERE id BETWEEN {first} AND {first} + {n} - 1; COMMIT",
                ))
                .await;
            }
            until(&handle, "it is flushed", |s| s.progress.changes_applied >= applied + n && s.progress.backlog == 0).await;
            let after = ghost_writes(&mut db, table).await;
            let (written, removed) = (after.0 - before.0, after.1 - before.1);
            assert!(written >= n, "{table}: {written} rows written for {n}");
            assert!(written <= 2 * n + 2_000, "{table}: {written} rows written for a backlog of {n}");
            assert!(removed <= 2 * n + 2_000, "{table}: {removed} rows removed for a backlog of {n}");
            first += n;
        }
        handle.control(Controls { approved: true, ..controls });
        let snapshots = handle.watch();
        assert_eq!(join(handle).await, Outcome::Succeeded, "{table}");
        let last = snapshots.borrow().clone();
        assert_eq!(last.resumed_count, 0, "{table}: no attempt was given up");
        assert_eq!(last.verification.map(|v| v.rows_repaired), Some(0), "{table}");
        db.run(&format!("ALTER TABLE {table}_native {alter}, ALGORITHM=COPY")).await;
        let rows = format!("SELECT * FROM {table} ORDER BY id");
        assert_eq!(db.rows(&rows).await, db.rows(&rows.replace(table, &format!("{table}_native"))).await, "{table}");
    }
    db.drop().await;
}

/// A flush that waits for somebody's row locks ends soon when it is to: not after twenty waits of several seconds for each batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_waits_for_a_lock_is_broken_off() {
    let mut db = Db::new("halts").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, v INT, UNIQUE KEY v (v))").await;
    db.run("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)").await;
    let held = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let handle = theseus::engine::start(db.spec("t", "MODIFY v BIGINT"), held.clone());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let mut other = db.connect().await;
    other.query_drop("BEGIN").await.expect("begin");
    let locked: Vec<i64> = other.query("SELECT id FROM _t_gho FOR UPDATE").await.expect("lock the ghost's rows");
    assert_eq!(locked.len(), 3);
    db.run("UPDATE t SET v = v + 10").await;
    // It waits.
    let waits = "SELECT COUNT(*) FROM performance_schema.data_lock_waits w JOIN performance_schema.data_locks l \
                 ON l.ENGINE_LOCK_ID = w.REQUESTING_ENGINE_LOCK_ID WHERE l.OBJECT_NAME = '_t_gho' AND l.OBJECT_SCHEMA = DATABASE()";
    let end = std::time::Instant::now() + support::PATIENCE;
    while db.value::<u64>(waits).await == 0 {
        assert!(std::time::Instant::now() < end, "the flush waits for the lock");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The lock is held still: twenty waits of five seconds, as it was once, are longer than anybody is waited for here.
    handle.control(Controls { paused: true, ..held.clone() });
    until(&handle, "it is paused", |s| s.phase == Phase::Paused).await;
    other.query_drop("ROLLBACK").await.expect("let go");
    handle.control(Controls { approved: true, ..held });
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.value::<String>("SELECT GROUP_CONCAT(id, ':', v ORDER BY id) FROM t").await, "1:11,2:12,3:13");
    db.drop().await;
}

/// The log has the signs of numbers in a row of their own, and of a YEAR too: each must be held against its own column.
#[tokio::test(flavor = "multi_thread")]
async fn signs_of_numbers_between_columns_of_other_types() {
    prove(&[Case {
        name: "signs",
        make: &[
            "CREATE TABLE {t} (id INT PRIMARY KEY, b BIT(5), u1 INT UNSIGNED, y YEAR NOT NULL, s1 SMALLINT, e ENUM('a'), u2 TINYINT UNSIGNED ZEROFILL, st SET('a'), s2 BIGINT, ts TIMESTAMP NULL, u3 DECIMAL(5,2) UNSIGNED, d DATE, s3 DOUBLE, ti TIME(3), u4 FLOAT UNSIGNED, dt DATETIME(6) NOT NULL, u5 MEDIUMINT UNSIGNED, g INT UNSIGNED AS (u1 + 1) VIRTUAL, c CHAR(255), v VARBINARY(300), t TINYTEXT, l LONGBLOB, j JSON, p POINT, n INT)",
            "INSERT INTO {t} (id, y, dt) VALUES (1, 2024, '2020-01-01'), (2, 1999, '2021-01-01 01:02:03.000004')",
        ],
        alter: "MODIFY n BIGINT",
        ahead: &["UPDATE {t} SET u1 = 4000000000, s1 = -1 WHERE id = 1", "INSERT INTO {t} (id, y, dt, n) VALUES (3, 0, '2024-01-01', 3)"],
        behind: &["UPDATE {t} SET n = id, u5 = 9 WHERE id > 1", "DELETE FROM {t} WHERE id = 1"],
    }])
    .await;
}

/// An AUTO_INCREMENT column that the change adds: rows are numbered as by a native ALTER, keep their numbers however often they change, and no
/// number is left out; a type that has just enough numbers is enough.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_the_change_gives_are_kept_and_not_wasted() {
    let mut db = Db::new("numbers").await;
    db.run("CREATE TABLE t (k VARCHAR(20) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, a INT, u INT, UNIQUE KEY u (u))").await;
    db.run("INSERT INTO t WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 200) SELECT CONCAT('k', 1000 + i), i, i FROM i").await;
    let alter = "ADD COLUMN n TINYINT UNSIGNED NOT NULL AUTO_INCREMENT UNIQUE";
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let slow = Controls { target_chunk_time: Duration::from_millis(1), nice_ratio_percent: 900, workers: 2, ..manual.clone() };
    let handle = theseus::engine::start(db.spec("t", alter), slow);
    until(&handle, "rows are copied", |s| s.progress.rows_copied > 0).await;
    // Each row is changed many times, values of the unique key are exchanged, and rows come and go.
    let churn = async |db: &mut Db, round: u32| {
        db.run("UPDATE t SET a = a + 1").await;
        db.run("UPDATE t SET u = -u WHERE a % 2 = 0").await;
        db.run("START TRANSACTION; UPDATE t SET u = 5000 WHERE k = 'k1003'; UPDATE t SET u = 3 WHERE k = 'k1004'; UPDATE t SET u = 4 WHERE k = 'k1003'; ROLLBACK").await;
        db.run(&format!("INSERT INTO t VALUES ('new{round}', 0, {})", 10_000 + round)).await;
    };
    for round in 0..5 {
        churn(&mut db, round).await;
    }
    handle.control(manual);
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    for round in 5..15 {
        churn(&mut db, round).await;
        until(&handle, "they are applied", |s| s.progress.backlog == 0).await;
    }
    db.run("DELETE FROM t WHERE k = 'k1100'").await;
    let wanted = db.rows("SELECT k, a, u FROM t ORDER BY k").await;
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.rows("SELECT k, a, u FROM t ORDER BY k").await, wanted);
    let numbers: (u64, u64, u64) = {
        let row: Option<(u64, u64, u64)> = db.conn.query_first("SELECT COUNT(*), COUNT(DISTINCT n), MAX(n) FROM t").await.expect("rows");
        row.expect("a row")
    };
    assert_eq!((numbers.0, numbers.1), (214, 214));
    assert!(numbers.2 <= 216, "no number is left out but that of the deleted row: {numbers:?}");
    let next = format!("AUTO_INCREMENT={}", numbers.2 + 1);
    assert!(db.definition("t").await.contains(&next), "{next}");
    // Those that were there first have their numbers in the order of the key.
    let disorder = "SELECT COUNT(*) FROM t x JOIN t y ON x.k < y.k AND x.n > y.n WHERE x.k LIKE 'k1%' AND y.k LIKE 'k1%'";
    assert_eq!(db.value::<u64>(disorder).await, 0);
    db.drop().await;
}

/// Rows that are in each other's way under a unique key are put aside and come back in later batches: with the numbers that they had.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_exchange_unique_values_keep_their_numbers() {
    // An index that the engine looks ahead in, and one in which it cannot: then all that is to come is put aside.
    for unique in ["UNIQUE KEY u (u)", "UNIQUE KEY p (p(8))"] {
        let mut db = Db::new("numbers2").await;
        db.run("SET SESSION cte_max_recursion_depth = 10000").await;
        db.run(&format!("CREATE TABLE t (id INT PRIMARY KEY, u INT, p VARCHAR(20) AS (CONCAT('p', u)) STORED, {unique})")).await;
        db.run("INSERT INTO t (id, u) WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 3000) SELECT i, i FROM i")
            .await;
        let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
        let handle = theseus::engine::start(db.spec("t", "ADD COLUMN n INT NOT NULL AUTO_INCREMENT UNIQUE"), manual);
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        for round in 0..3 {
            db.run("UPDATE t SET u = u + 1 ORDER BY u DESC").await;
            db.run(&format!("INSERT INTO t (id, u) VALUES (-{}, 1)", 1 + round)).await;
            until(&handle, "they are applied", |s| s.progress.backlog == 0).await;
        }
        handle.control(controls());
        assert_eq!(join(handle).await, Outcome::Succeeded);
        assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 3003);
        assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t WHERE id > 0 AND n <> id").await, 0, "{unique}");
        assert_eq!(db.value::<u64>("SELECT MAX(n) FROM t").await, 3003, "{unique}");
        db.drop().await;
    }
}
