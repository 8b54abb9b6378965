//! What bad input gets: a refusal before anything is touched, with a documented reason, the thing named, and nothing left behind.
use crate::support;

use support::{Db, PrivateServer, controls, join, migrate, until};
use theseus::engine::Environment;
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, MigrationSpec};

async fn refused(spec: MigrationSpec, reason: Reason, words: &[&str]) {
    let password = spec.server.password.clone();
    // The test server's password is the product's name, which messages do hold.
    let secret = password != "theseus";
    match migrate(spec, controls()).await {
        Outcome::Refused { reason: got, message } => {
            assert_eq!(got, reason, "{message}");
            for word in words {
                assert!(message.contains(word), "the message lacks {word:?}: {message}");
            }
            assert!(!secret || !message.contains(&password), "a message never holds a password");
        }
        other => panic!("refused with {reason} was expected, got {other:?}"),
    }
}

/// Each bad table or ALTER, and that the table is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn bad_tables_and_alters_are_refused_and_nothing_is_left() {
    let mut db = Db::new("refused").await;
    db.run("CREATE TABLE good (id INT PRIMARY KEY, a INT, j JSON)").await;
    db.run("INSERT INTO good VALUES (1, 1, NULL)").await;
    db.run("CREATE TABLE nokey (a INT, b INT UNIQUE)").await;
    db.run("CREATE TABLE nullable (a INT, UNIQUE KEY u (a))").await;
    db.run("INSERT INTO nullable VALUES (NULL), (1)").await;
    db.run("INSERT INTO nokey VALUES (1, NULL), (1, NULL)").await;
    db.run("CREATE TABLE unseen (a INT NOT NULL, b INT, UNIQUE KEY u (a, b))").await;
    db.run("CREATE TABLE floating (a DOUBLE NOT NULL PRIMARY KEY)").await;
    db.run("CREATE TABLE prefixed (a VARCHAR(50) NOT NULL, UNIQUE KEY p (a(3)))").await;
    db.run("CREATE TABLE computed (a INT NOT NULL, k INT AS (a * 2) STORED NOT NULL PRIMARY KEY)").await;
    db.run("CREATE TABLE parent (id INT PRIMARY KEY, other INT NOT NULL UNIQUE)").await;
    db.run("CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT to_parent FOREIGN KEY (p) REFERENCES parent (id))").await;
    db.run("CREATE TABLE base (id INT PRIMARY KEY)").await;
    db.run("CREATE TABLE leaf (id INT PRIMARY KEY, CONSTRAINT to_base FOREIGN KEY (id) REFERENCES base (id))").await;
    db.run("CREATE TABLE triggered (id INT PRIMARY KEY, a INT)").await;
    db.run("CREATE TRIGGER on_insert BEFORE INSERT ON triggered FOR EACH ROW SET NEW.a = 1").await;
    db.run("CREATE TABLE isam (id INT PRIMARY KEY) ENGINE=MyISAM").await;
    db.run("CREATE TABLE heap (id INT PRIMARY KEY) ENGINE=MEMORY").await;
    db.run("CREATE TABLE hashed (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2").await;
    db.run("CREATE VIEW seen AS SELECT * FROM good").await;
    let before = db.tables().await;
    let definition = db.definition("good").await;
    let cases: &[(&str, &str, Reason, &[&str])] = &[
        ("absent", "ADD b INT", Reason::TableNotFound, &["`absent`"]),
        ("seen", "ADD b INT", Reason::TableNotSupported, &["view"]),
        ("isam", "ADD b INT", Reason::TableNotSupported, &["MyISAM"]),
        ("isam", "ENGINE=InnoDB, ADD b INT", Reason::TableNotSupported, &["MyISAM", "crashes", "native ALTER"]),
        ("heap", "ENGINE=InnoDB", Reason::TableNotSupported, &["MEMORY"]),
        ("hashed", "DROP PARTITION p0", Reason::AlterNotSupported, &["which rows"]),
        ("hashed", "OPTIMIZE PARTITION ALL", Reason::AlterNotSupported, &["changes no definition"]),
        ("hashed", "COALESCE PARTITION 9", Reason::AlterRejected, &["1508"]),
        ("good", "COALESCE PARTITION 1", Reason::AlterRejected, &["1505"]),
        ("nokey", "ADD c INT", Reason::NoUsableKey, &["nokey"]),
        ("nullable", "ADD c INT", Reason::NoUsableKey, &["u", "a"]),
        ("unseen", "ADD c INT", Reason::NoUsableKey, &["column b may be NULL", "my_row_id"]),
        ("floating", "ADD c INT", Reason::NoUsableKey, &["PRIMARY"]),
        ("prefixed", "ADD c INT", Reason::NoUsableKey, &["p", "a"]),
        ("computed", "ADD c INT", Reason::NoUsableKey, &["column k is a stored generated column"]),
        ("parent", "MODIFY id BIGINT", Reason::ForeignKeys, &["to_parent", "`id`", "3780"]),
        ("child", "MODIFY p BIGINT", Reason::ForeignKeys, &["to_parent", "`p`"]),
        ("child", "DROP COLUMN p", Reason::ForeignKeys, &["to_parent", "`p`"]),
        ("child", "DROP INDEX to_parent", Reason::ForeignKeys, &["to_parent", "1553"]),
        ("parent", "DROP PRIMARY KEY, ADD PRIMARY KEY (other)", Reason::ForeignKeys, &["to_parent", "1553"]),
        ("base", "PARTITION BY HASH (id) PARTITIONS 2", Reason::ForeignKeys, &["to_base", "1506"]),
        ("child", "PARTITION BY HASH (id) PARTITIONS 2", Reason::ForeignKeys, &["to_parent", "1506"]),
        ("triggered", "DROP COLUMN a", Reason::Triggers, &["on_insert", "`a`"]),
        ("good", "ADD COLUMN a INT", Reason::AlterRejected, &["Duplicate column"]),
        ("good", "MODIFY nothere INT", Reason::AlterRejected, &["nothere"]),
        ("good", "ADD COLUMN x NOTATYPE", Reason::AlterRejected, &[]),
        ("good", "ADD COLUMN x INT; DROP TABLE good", Reason::AlterNotSupported, &[]),
        ("good", "RENAME TO better", Reason::AlterNotSupported, &["RENAME"]),
        ("good", "ADD COLUMN x INT, ALGORITHM=INPLACE", Reason::AlterNotSupported, &["spec.algorithm"]),
        ("good", "ENGINE=MyISAM", Reason::AlterNotSupported, &["InnoDB"]),
        ("good", "DROP PRIMARY KEY", Reason::NoUsableKey, &["good"]),
        ("good", "DROP COLUMN id, ADD COLUMN id2 INT PRIMARY KEY", Reason::NoUsableKey, &[]),
        ("good", "", Reason::AlterNotSupported, &[]),
    ];
    for (table, alter, reason, words) in cases {
        refused(db.spec(table, alter), *reason, words).await;
        assert_eq!(db.tables().await, before, "after {table}: {alter}");
    }
    assert_eq!(db.definition("good").await, definition);
    db.drop().await;
}

/// A table under one of our names that this migration did not make is neither written nor dropped.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken_are_left_alone() {
    let mut db = Db::new("taken").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    db.run("INSERT INTO t VALUES (1, 1)").await;
    for name in ["_t_gho", "_t_ghc"] {
        db.run(&format!("CREATE TABLE {name} (mine INT)")).await;
        db.run(&format!("INSERT INTO {name} VALUES (42)")).await;
        refused(db.spec("t", "ADD b INT"), Reason::NameTaken, &[name]).await;
        assert_eq!(db.value::<u64>(&format!("SELECT mine FROM {name}")).await, 42);
        assert_eq!(db.tables().await, [name, "t"]);
        db.run(&format!("DROP TABLE {name}")).await;
    }
    db.drop().await;
}

/// Wrong credentials and a server that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_refused_without_showing_them() {
    let db = Db::new("creds").await;
    let mut spec = db.spec("t", "ADD b INT");
    spec.server.password = "not-the-password".into();
    refused(spec, Reason::AccessDenied, &[]).await;
    db.drop().await;
}

/// An account that lacks a privilege is told which statement it was refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_privilege_is_refused() {
    let mut db = Db::new("privilege").await;
    let user = format!("u{}", std::process::id());
    db.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    db.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secretword'")).await;
    db.run(&format!("GRANT SELECT ON `{}`.* TO '{user}'@'%'", db.name)).await;
    let mut spec = db.spec("t", "ADD b INT");
    spec.server.username.clone_from(&user);
    spec.server.password = "secretword".into();
    refused(spec, Reason::MissingPrivilege, &[]).await;
    assert_eq!(db.tables().await, ["t"]);
    db.run(&format!("DROP USER '{user}'@'%'")).await;
    db.drop().await;
}

/// DryRun proves the ALTER and leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_proves_and_leaves_nothing() {
    let mut db = Db::new("dry").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    let definition = db.definition("t").await;
    let mut spec = db.spec("t", "ADD b INT");
    spec.mode = theseus::engine::contract::spec::Mode::DryRun;
    assert_eq!(migrate(spec.clone(), controls()).await, Outcome::Proven);
    spec.alter = "ADD a INT".into();
    refused(spec, Reason::AlterRejected, &["Duplicate column"]).await;
    assert_eq!(db.tables().await, ["t"]);
    assert_eq!(db.definition("t").await, definition);
    db.drop().await;
}

/// Data that does not fit fails the migration by name, leaves the original as it was, and shows no value.
#[tokio::test(flavor = "multi_thread")]
async fn data_that_does_not_fit_fails_without_showing_it() {
    let mut db = Db::new("nofit").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(50), b INT)").await;
    db.run("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT i, '1', 1 FROM n").await;
    db.run("UPDATE t SET a = 'topsecretvalue', b = 70000 WHERE id = 217; UPDATE t SET a = NULL WHERE id = 218").await;
    let cases = [
        ("MODIFY a INT", "'a'", 217),
        ("MODIFY a VARCHAR(3)", "'a'", 217),
        ("MODIFY b SMALLINT", "'b'", 217),
        ("MODIFY a VARCHAR(50) NOT NULL", "'a'", 218),
        // 1690 names no row and no column but in its expression.
        ("ADD c BIGINT AS (b * 922337203685477580) STORED", "`b` * ?", 217),
    ];
    // A statement that makes an empty vector is not strict, and cuts no value all the same.
    let strict =
        ["", "ADD x VECTOR(4) NOT NULL, "].into_iter().flat_map(|more| cases.map(|(alter, c, k)| (format!("{more}{alter}"), c, k)));
    for (alter, column, key) in strict {
        let alter = alter.as_str();
        match migrate(db.spec("t", alter), controls()).await {
            Outcome::Failed { reason, message } => {
                assert_eq!(reason, Reason::DataDoesNotFit, "{alter}: {message}");
                assert!(message.contains(column), "{alter}: the column is named: {message}");
                assert!(message.contains(&format!("(the row with `id` = {key})")), "{alter}: the row is named: {message}");
                assert!(!message.contains("topsecret") && !message.contains("70000"), "{alter}: no value is shown: {message}");
            }
            other => panic!("{alter}: {other:?}"),
        }
        assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 300);
        theseus::engine::clean_up(&db.spec("t", alter), true).await.expect("clean up");
        assert_eq!(db.tables().await, ["t"], "{alter}");
    }
    // A vector without a dimension, which only an ALTER of the server's own makes, is kept where the new column is as the old one.
    db.run("CREATE TABLE e (id INT PRIMARY KEY); INSERT INTO e VALUES (1), (2); ALTER TABLE e ADD w VECTOR(4) NOT NULL").await;
    db.run("UPDATE e SET w = TO_VECTOR('[1,2.5,-3e-30,3.3e38]') WHERE id = 1").await;
    match migrate(db.spec("e", "MODIFY w VECTOR(4)"), controls()).await {
        Outcome::Failed { reason: Reason::DataDoesNotFit, message } => assert!(message.contains("`id` = 2"), "{message}"),
        other => panic!("{other:?}"),
    }
    theseus::engine::clean_up(&db.spec("e", "MODIFY w VECTOR(4)"), true).await.expect("clean up");
    assert_eq!(db.tables().await, ["e", "t"]);
    // All others are copied to the bit.
    db.run("DELETE FROM e WHERE id = 2; INSERT INTO e VALUES (3, 0x0000008000008000)").await;
    let all = "SELECT GROUP_CONCAT(HEX(w) ORDER BY id) FROM e";
    let before = db.value::<String>(all).await;
    assert_eq!(migrate(db.spec("e", "ADD c INT"), controls()).await, Outcome::Succeeded);
    assert_eq!(db.value::<String>(all).await, before);
    db.drop().await;
}

/// So does a row that fits no partition of the new table.
#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_partition_fail_the_migration() {
    let mut db = Db::new("nopartition").await;
    db.run("CREATE TABLE plain (id INT PRIMARY KEY, a INT); INSERT INTO plain VALUES (1, 1), (4711, 1)").await;
    db.run("CREATE TABLE listed (id INT PRIMARY KEY, a INT) PARTITION BY LIST (id) (PARTITION p VALUES IN (1, 4711), PARTITION q VALUES IN (3))").await;
    db.run("INSERT INTO listed SELECT * FROM plain").await;
    for (table, alter) in [
        ("plain", "PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (4711))"),
        ("listed", "REORGANIZE PARTITION p INTO (PARTITION p VALUES IN (1))"),
    ] {
        let definition = db.definition(table).await;
        let spec = db.spec(table, alter);
        match migrate(spec.clone(), controls()).await {
            Outcome::Failed { reason, message } => {
                assert_eq!(reason, Reason::DataDoesNotFit, "{alter}: {message}");
                assert!(message.contains("no partition"), "{alter}: {message}");
            }
            other => panic!("{alter}: {other:?}"),
        }
        assert_eq!(db.definition(table).await, definition);
        assert_eq!(db.value::<u64>(&format!("SELECT COUNT(*) FROM {table}")).await, 2);
        theseus::engine::clean_up(&spec, true).await.expect("clean up");
        assert_eq!(db.tables().await, ["listed", "plain"], "{alter}");
    }
    db.drop().await;
}

/// Two rows that are equal under a new unique key fail it, with both keys, whatever makes them equal and however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn duplicates_under_a_new_unique_key_are_named() {
    let mut db = Db::new("dup").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(50) COLLATE utf8mb4_bin, d DECIMAL(8,2), j JSON, n INT, g INT AS (n DIV 10))")
        .await;
    db.run(
        "INSERT INTO t (id, a, d, j, n) VALUES (1, 'x', 0.1, '[1]', 1000), (7, 'same', 1.2, '[7]', 51), (9, 'SAME', 0.9, '[9, 7]', 52),\
         (12, NULL, 5, '[]', 1000), (13, NULL, 7, NULL, 1000), (14, 'y', 8, '[3]', 1000), (15, 'z', 9, '[4]', 77)",
    )
    .await;
    // In one chunk, or spread over some; with the keys of the rows that are equal.
    let cases: &[(&str, &[u32])] = &[
        ("MODIFY a VARCHAR(50) COLLATE utf8mb4_0900_ai_ci, ADD UNIQUE KEY u (a)", &[7, 9]),
        ("ADD UNIQUE KEY u ((LOWER(a)))", &[7, 9]),
        ("ADD UNIQUE KEY u ((CONCAT(LOWER(a), 'it''s')))", &[7, 9]),
        ("MODIFY d INT, ADD UNIQUE KEY u (d)", &[7, 9]),
        ("ADD UNIQUE KEY u (n)", &[1, 12, 13, 14]),
        (
            "DROP COLUMN g, ADD COLUMN h INT AS (n DIV 10), ADD COLUMN e INT NOT NULL DEFAULT 3, ADD UNIQUE KEY u (h, e)",
            &[1, 7, 9, 12, 13, 14],
        ),
        ("ADD COLUMN e INT NOT NULL, ADD UNIQUE KEY u (e)", &[1, 7, 9, 12, 13, 14, 15]),
        ("ADD UNIQUE KEY u ((CAST(j AS UNSIGNED ARRAY)))", &[7, 9]),
        ("ADD COLUMN e INT NOT NULL DEFAULT 1, ADD UNIQUE KEY u (e, (CAST(j->'$' AS DECIMAL(6,1) ARRAY)))", &[7, 9]),
    ];
    for environment in [support::chunks_of(1), Environment::default()] {
        for (alter, rows) in cases {
            match join(theseus::engine::start_in(environment.clone(), db.spec("t", alter), controls())).await {
                Outcome::Failed { reason, message } => {
                    assert_eq!(reason, Reason::DuplicateKey, "{alter}: {message}");
                    assert!(message.contains("`u`"), "{alter}: {message}");
                    let named = rows.iter().filter(|id| message.contains(&format!(" {id} "))).count();
                    assert_eq!(named, if rows.is_empty() { 0 } else { 2 }, "{alter}: both keys are named: {message}");
                    assert!(!message.to_lowercase().contains("same'"), "{message}");
                }
                other => panic!("{alter}: {other:?}"),
            }
            theseus::engine::clean_up(&db.spec("t", alter), true).await.expect("clean up");
            assert_eq!(db.tables().await, ["t"]);
        }
    }
    db.drop().await;
}

/// Rows that become equal while the gate is closed fail it too, also when there are more than two.
#[tokio::test(flavor = "multi_thread")]
async fn duplicates_that_come_later_are_named() {
    let mut db = Db::new("duplater").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, d DECIMAL(8,2))").await;
    for equal in [2, 7] {
        db.run("REPLACE INTO t VALUES (1, 10), (2, 20), (3, 30), (4, 40), (5, 50), (6, 60), (7, 70)").await;
        let handle = theseus::engine::start(
            db.spec("t", "MODIFY d INT, ADD UNIQUE KEY u (d)"),
            Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() },
        );
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        db.run(&format!("UPDATE t SET d = 5 + id / 100 WHERE id <= {equal}")).await;
        match join(handle).await {
            Outcome::Failed { reason, message } => {
                assert_eq!(reason, Reason::DuplicateKey, "{message}");
                let named = (1..=equal).filter(|id| message.contains(&format!(" {id} "))).count();
                assert_eq!(named, 2, "both keys are named: {message}");
            }
            other => panic!("{other:?}"),
        }
        theseus::engine::clean_up(&db.spec("t", "MODIFY d INT, ADD UNIQUE KEY u (d)"), true).await.expect("clean up");
    }
    db.drop().await;
}

/// A tablespace without room ends the migration, with what is left and what to do; nothing is tried again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_copy() {
    let server = PrivateServer::start(&["--innodb-data-file-path=ibdata1:12M"]).await;
    let mut db = Db::on(&server.url, "full").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(1000)); SET SESSION cte_max_recursion_depth = 100000").await;
    db.run(
        "INSERT INTO t WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 20000) SELECT i, REPEAT('x', 1000) FROM i",
    )
    .await;
    // From now on tables go where there are a few megabytes, and never more.
    db.run("SET GLOBAL innodb_file_per_table = OFF").await;
    let (definition, checksum) = (db.definition("t").await, db.value::<u64>("SELECT BIT_XOR(CRC32(CONCAT(id, a))) FROM t").await);
    let alter = "MODIFY a VARCHAR(1100)";
    match migrate(db.spec("t", alter), controls()).await {
        Outcome::Failed { reason, message } => {
            assert_eq!(reason, Reason::DiskFull, "{message}");
            for words in ["copy a chunk", "1114", "_t_gho", "free disk space and retry"] {
                assert!(message.contains(words), "{words}: {message}");
            }
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((db.definition("t").await, db.value::<u64>("SELECT BIT_XOR(CRC32(CONCAT(id, a))) FROM t").await), (definition, checksum));
    theseus::engine::clean_up(&db.spec("t", alter), true).await.expect("clean up");
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// Triggers that the account may not see would stay on the old table: without the privilege to see them nothing is done.
#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_cannot_be_seen_are_refused() {
    let mut db = Db::new("unseen").await;
    let user = format!("v{}", std::process::id());
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    db.run("CREATE TRIGGER on_insert BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1").await;
    db.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secretword'")).await;
    db.run(&format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT, PROCESS ON *.* TO '{user}'@'%'")).await;
    db.run(&format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, CREATE TEMPORARY TABLES, DROP, ALTER, LOCK TABLES ON `{}`.* TO '{user}'@'%'",
        db.name
    ))
    .await;
    let mut spec = db.spec("t", "MODIFY a BIGINT");
    spec.server.username.clone_from(&user);
    spec.server.password = "secretword".into();
    refused(spec.clone(), Reason::MissingPrivilege, &["TRIGGER"]).await;
    db.run(&format!("GRANT TRIGGER ON `{}`.* TO '{user}'@'%'", db.name)).await;
    refused(spec, Reason::Triggers, &["on_insert"]).await;
    assert_eq!(db.tables().await, ["t"]);
    db.run(&format!("DROP USER '{user}'@'%'")).await;
    db.drop().await;
}

/// Foreign keys of a database that the account may not see are seen by InnoDB's own list.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_in_another_database_is_seen() {
    let mut db = Db::new("parent").await;
    let mut other = Db::new("child").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    other.run(&format!("CREATE TABLE c (id INT PRIMARY KEY, p INT, CONSTRAINT far FOREIGN KEY (p) REFERENCES `{}`.t (id))", db.name)).await;
    let user = format!("w{}", std::process::id());
    db.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secretword'")).await;
    db.run(&format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT, PROCESS ON *.* TO '{user}'@'%'")).await;
    db.run(&format!("GRANT ALL ON `{}`.* TO '{user}'@'%'", db.name)).await;
    let mut spec = db.spec("t", "ADD b INT");
    spec.server.username.clone_from(&user);
    spec.server.password = "secretword".into();
    refused(spec, Reason::MissingPrivilege, &["far", "GRANT SELECT, ALTER, LOCK TABLES, REFERENCES"]).await;
    db.run(&format!("DROP USER '{user}'@'%'")).await;
    other.drop().await;
    db.drop().await;
}

/// A database that the server leaves out of its binary log: its changes could not be seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_logged_is_refused() {
    let server = PrivateServer::start(&["--binlog-do-db=logged"]).await;
    let mut db = Db::on(&server.url, "unlogged").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    refused(db.spec("t", "ADD b INT"), Reason::ServerNotSupported, &["binlog-do-db", &db.name.clone()]).await;
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// What the server changes by itself needs no binary log; a copy is refused with the setting's name.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_copy_needs_the_binary_log() {
    for (option, word) in [
        ("--binlog-format=MIXED", "binlog_format"),
        ("--binlog-format=STATEMENT", "binlog_format"),
        ("--skip-log-bin", "log_bin"),
        ("--binlog-do-db=logged", "binlog-do-db"),
    ] {
        let server = PrivateServer::start(&[option]).await;
        let mut db = Db::on(&server.url, "nolog").await;
        db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
        db.run("INSERT INTO t VALUES (1, 1), (2, 2)").await;
        for alter in ["ADD b INT", "ADD KEY k (a)"] {
            let spec = MigrationSpec { algorithm: Algorithm::Auto, ..db.spec("t", alter) };
            assert_eq!(migrate(spec, controls()).await, Outcome::Succeeded, "{option}: {alter}");
        }
        let definition = db.definition("t").await;
        assert!(definition.contains("`b` int") && definition.contains("KEY `k`"), "{option}: {definition}");
        let copy = MigrationSpec { algorithm: Algorithm::Auto, ..db.spec("t", "MODIFY a BIGINT") };
        refused(copy, Reason::ServerNotSupported, &[word, "needs a copy"]).await;
        refused(db.spec("t", "MODIFY a BIGINT"), Reason::ServerNotSupported, &[word]).await;
        assert_eq!(db.tables().await, ["t"], "{option}");
        db.drop().await;
    }
}

/// NULLs in a column that becomes AUTO_INCREMENT, which a native ALTER numbers: refused before a row is copied, with the column; without
/// any the change is made.
#[tokio::test(flavor = "multi_thread")]
async fn nulls_that_would_be_numbered_are_refused_before_the_copy() {
    let mut db = Db::new("numbered").await;
    db.run("CREATE TABLE t (k INT PRIMARY KEY, `id no` INT, UNIQUE KEY u (`id no`))").await;
    db.run("INSERT INTO t VALUES (1, NULL), (2, 5), (3, 0), (4, NULL)").await;
    for alter in ["MODIFY `id no` INT NOT NULL AUTO_INCREMENT", "CHANGE `id no` id BIGINT AUTO_INCREMENT"] {
        refused(db.spec("t", alter), Reason::DataDoesNotFit, &["`id no`", "AUTO_INCREMENT", "UPDATE"]).await;
        assert_eq!(db.tables().await, ["t"]);
    }
    db.run("UPDATE t SET `id no` = 100 + k WHERE `id no` IS NULL").await;
    assert_eq!(migrate(db.spec("t", "MODIFY `id no` INT NOT NULL AUTO_INCREMENT"), controls()).await, Outcome::Succeeded);
    assert_eq!(db.rows("SELECT k, `id no` FROM t ORDER BY k").await, [["'1'", "'101'"], ["'2'", "'5'"], ["'3'", "'0'"], ["'4'", "'104'"]]);
    assert!(db.definition("t").await.contains("AUTO_INCREMENT=105"));
    db.drop().await;
}
