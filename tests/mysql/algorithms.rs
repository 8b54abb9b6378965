//! The cheapest way that the server accepts, told with its reason; what is asked for and refused is never done another way.
use crate::support;

use mysql_async::prelude::Queryable;
use std::time::Duration;
use support::{Db, controls, join, until};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, OldTable};

async fn table(prefix: &str) -> Db {
    let mut db = Db::new(prefix).await;
    db.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(20) NOT NULL, b INT, KEY (b), KEY old_name (a))").await;
    db.run("INSERT INTO t (a, b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT CONCAT('r', i), i FROM n").await;
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cheapest_way_is_found_by_trying() {
    // The shared test server may have a replica: an index build in place is then left to small tables, as this one is.
    let cases = [
        ("ADD COLUMN c INT NOT NULL DEFAULT 7", Algorithm::Instant, "dictionary"),
        ("RENAME COLUMN b TO bb", Algorithm::Instant, "dictionary"),
        ("ALTER INDEX b INVISIBLE", Algorithm::Inplace, "dictionary"),
        ("RENAME INDEX old_name TO new_name", Algorithm::Inplace, "dictionary"),
        ("DROP INDEX old_name", Algorithm::Inplace, "dictionary"),
        ("MODIFY a VARCHAR(60) NOT NULL", Algorithm::Inplace, "dictionary"),
        ("ADD INDEX (b, a)", Algorithm::Inplace, "in place"),
        ("MODIFY b BIGINT", Algorithm::Copy, "INPLACE refused"),
        ("ENGINE=InnoDB", Algorithm::Copy, "rebuild"),
        ("MODIFY a VARCHAR(300) NOT NULL", Algorithm::Copy, "INPLACE refused"),
        ("COMMENT='new'", Algorithm::Inplace, "dictionary"),
        ("MODIFY b INT", Algorithm::Instant, "nothing to do"),
    ];
    for (alter, want, words) in cases {
        let mut db = table("cheapest").await;
        db.run("CREATE TABLE native LIKE t").await;
        db.run(&format!("ALTER TABLE native {alter}")).await;
        let mut spec = db.spec("t", alter);
        spec.algorithm = Algorithm::Auto;
        let handle = theseus::engine::start(spec, controls());
        let watch = handle.watch();
        assert_eq!(join(handle).await, Outcome::Succeeded, "{alter}");
        let chosen = watch.borrow().algorithm.clone().expect("an algorithm");
        assert_eq!(chosen.chosen, want, "{alter}: {}", chosen.reason);
        assert!(chosen.reason.contains(words), "{alter}: {}", chosen.reason);
        assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 500);
        let strip = |text: String| text.replace("`native`", "`t`").replace(" AUTO_INCREMENT=501", "").replace(" AUTO_INCREMENT=512", "");
        assert_eq!(strip(db.definition("t").await), strip(db.definition("native").await), "{alter}");
        assert_eq!(db.tables().await, ["native", "t"], "{alter}");
        db.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_algorithm_that_is_refused_is_never_replaced_silently() {
    let mut db = table("asked").await;
    let definition = db.definition("t").await;
    for (algorithm, alter) in
        [(Algorithm::Instant, "MODIFY b BIGINT"), (Algorithm::Instant, "ADD INDEX (b, a)"), (Algorithm::Inplace, "MODIFY b BIGINT")]
    {
        let mut spec = db.spec("t", alter);
        spec.algorithm = algorithm;
        match support::migrate(spec, controls()).await {
            Outcome::Refused { reason: Reason::AlgorithmNotSupported, message } => {
                assert!(message.contains("1845") || message.contains("1846"), "the server's words: {message}")
            }
            outcome => panic!("{alter}: {outcome:?}"),
        }
    }
    let mut spec = db.spec("t", "ADD COLUMN a INT");
    spec.algorithm = Algorithm::Instant;
    assert!(matches!(support::migrate(spec, controls()).await, Outcome::Refused { reason: Reason::AlterRejected, .. }));
    assert_eq!(db.definition("t").await, definition);
    assert_eq!(db.tables().await, ["t"]);
    // Asked for and possible, also where Auto would rather copy.
    let mut spec = db.spec("t", "ENGINE=InnoDB");
    spec.algorithm = Algorithm::Inplace;
    assert_eq!(support::migrate(spec, controls()).await, Outcome::Succeeded);
    db.drop().await;
}

/// The gate, a blocker and a cancel, as at a cut-over.
#[tokio::test(flavor = "multi_thread")]
async fn a_native_change_passes_the_same_gate() {
    let mut db = table("nativegate").await;
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let mut spec = db.spec("t", "ADD COLUMN c INT");
    spec.algorithm = Algorithm::Auto;
    let handle = theseus::engine::start(spec.clone(), manual.clone());
    let s = until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    assert_eq!(s.algorithm.map(|a| a.chosen), Some(Algorithm::Instant));
    assert!(!db.definition("t").await.contains("`c`"));
    handle.control(Controls { cancel: true, ..manual.clone() });
    assert_eq!(join(handle).await, Outcome::Cancelled);
    assert_eq!(db.tables().await, ["t"]);

    let mut blocker = db.connect().await;
    blocker.query_drop("START TRANSACTION; SELECT COUNT(*) FROM t").await.expect("block");
    let short = Controls { lock_timeout: Duration::from_secs(1), ..controls() };
    let handle = theseus::engine::start(spec.clone(), short);
    until(&handle, "the blocker is met", |s| s.cut_over.last_failure.is_some() || s.cut_over.blocked_by.is_some()).await;
    // Clients do not queue behind the request once it is given up.
    // (The blocker stays: otherwise they would for ever.)
    tokio::time::timeout(support::soon(Duration::from_secs(3)), db.value::<u64>("SELECT COUNT(*) FROM t"))
        .await
        .expect("no client waits for long");
    blocker.query_drop("ROLLBACK").await.expect("unblock");
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert!(db.definition("t").await.contains("`c`"));
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// The engine dies after the change and before it could say so: the next one sees by the definition that it is done.
#[tokio::test(flavor = "multi_thread")]
async fn the_definition_tells_whether_a_native_change_was_made() {
    let mut db = table("nativedeath").await;
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let mut spec = db.spec("t", "ADD COLUMN c INT");
    spec.algorithm = Algorithm::Auto;
    let handle = theseus::engine::start(spec.clone(), manual.clone());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    drop(handle);
    db.run("ALTER TABLE t ADD COLUMN c INT, ALGORITHM=INSTANT").await;
    assert_eq!(support::migrate(spec.clone(), Controls { old_table: OldTable::Keep, ..controls() }).await, Outcome::Succeeded);
    db.run("CREATE TABLE _t_del (id INT)").await;
    theseus::engine::clean_up(&spec, true).await.expect("clean up");
    assert_eq!(db.tables().await, ["_t_del", "t"], "a table that was never ours is not dropped");
    db.drop().await;
}

/// Foreign keys, triggers and the lack of a key rule out a swap, and nothing else: what the server does itself is done.
#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_swap_is_made_whatever_rules_out_a_copy() {
    let mut db = Db::new("noswap").await;
    db.run("CREATE TABLE parent (id INT PRIMARY KEY, u INT, a VARCHAR(20), CONSTRAINT small CHECK (u < 1000), UNIQUE KEY (u))").await;
    db.run(
        "CREATE TABLE child (id INT PRIMARY KEY, p INT, q INT, b INT, CONSTRAINT to_parent FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE, \
         CONSTRAINT `to u` FOREIGN KEY (q) REFERENCES parent (u), CONSTRAINT positive CHECK (b > 0))",
    )
    .await;
    db.run("CREATE TABLE triggered (id INT PRIMARY KEY, a INT)").await;
    db.run("CREATE TRIGGER on_insert BEFORE INSERT ON triggered FOR EACH ROW SET NEW.a = 1").await;
    db.run("CREATE TABLE nokey (a INT, b INT UNIQUE)").await;
    db.run("INSERT INTO parent VALUES (1, 10, 'x'); INSERT INTO child VALUES (1, 1, 10, 5); INSERT INTO triggered VALUES (1, 0); INSERT INTO nokey VALUES (1, NULL)").await;
    let tables = db.tables().await;
    let cases = [
        ("parent", "ADD COLUMN c INT", Algorithm::Auto, Algorithm::Instant),
        ("child", "ADD COLUMN c INT NOT NULL DEFAULT 3", Algorithm::Instant, Algorithm::Instant),
        ("child", "ADD INDEX by_b (b)", Algorithm::Auto, Algorithm::Inplace),
        ("child", "RENAME INDEX by_b TO by_bb", Algorithm::Inplace, Algorithm::Inplace),
        ("triggered", "ADD COLUMN c INT", Algorithm::Auto, Algorithm::Instant),
        ("nokey", "ADD COLUMN c INT", Algorithm::Auto, Algorithm::Instant),
        ("nokey", "ADD INDEX (a)", Algorithm::Auto, Algorithm::Inplace),
        ("child", "RENAME COLUMN p TO pp", Algorithm::Auto, Algorithm::Instant),
        // INSTANT is refused on the table (1846), not on the clone, which has no foreign keys.
        ("parent", "RENAME COLUMN id TO parent_id", Algorithm::Auto, Algorithm::Inplace),
        ("child", "DROP FOREIGN KEY `to u`", Algorithm::Auto, Algorithm::Inplace),
        ("child", "DROP CONSTRAINT to_parent, DROP INDEX to_parent", Algorithm::Auto, Algorithm::Inplace),
    ];
    for (table, alter, asked, want) in cases {
        let spec = theseus::engine::contract::spec::MigrationSpec { algorithm: asked, ..db.spec(table, alter) };
        let before = db.definition(table).await;
        let handle = theseus::engine::start(spec.clone(), controls());
        let watch = handle.watch();
        assert_eq!(join(handle).await, Outcome::Succeeded, "{table}: {alter}");
        let chosen = watch.borrow().algorithm.clone().expect("an algorithm");
        assert_eq!(chosen.chosen, want, "{table}: {alter}: {}", chosen.reason);
        assert_ne!(db.definition(table).await, before, "{table}: {alter}");
        assert_eq!(db.tables().await, tables, "{table}: {alter}");
    }
    let definition = db.definition("child").await;
    assert!(definition.contains("`pp`") && !definition.contains("FOREIGN KEY") && definition.contains("positive"), "{definition}");
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM child WHERE c = 3 AND b = 5").await, 1);
    db.drop().await;
}

/// What a foreign key rules out is told in the server's words, and a copy of such a table is still refused. Nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_key_rules_out_is_refused_and_nothing_is_left() {
    let mut db = Db::new("fkrefuse").await;
    db.run("CREATE TABLE parent (id INT PRIMARY KEY, u INT, UNIQUE KEY (u))").await;
    db.run("CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT to_parent FOREIGN KEY (p) REFERENCES parent (id))").await;
    db.run("CREATE TABLE triggered (id INT PRIMARY KEY, a INT)").await;
    db.run("CREATE TRIGGER on_insert BEFORE INSERT ON triggered FOR EACH ROW SET NEW.a = 1").await;
    db.run("CREATE TABLE nokey (a INT)").await;
    let tables = db.tables().await;
    let cases = [
        ("child", "DROP INDEX to_parent", Reason::AlterRejected, "1553"),
        ("child", "DROP COLUMN p", Reason::ForeignKeys, "1828"),
        ("parent", "DROP COLUMN id", Reason::ForeignKeys, "the change drops the column `id`"),
        ("child", "DROP FOREIGN KEY absent", Reason::AlterRejected, "absent"),
        ("child", "MODIFY p BIGINT", Reason::ForeignKeys, "3780"),
        ("parent", "MODIFY id BIGINT", Reason::ForeignKeys, "to_parent"),
        ("triggered", "DROP COLUMN a, ADD COLUMN b INT NOT NULL AUTO_INCREMENT UNIQUE", Reason::Triggers, "on_insert"),
        ("nokey", "MODIFY a BIGINT", Reason::NoUsableKey, "nokey"),
    ];
    for (table, alter, reason, words) in cases {
        let before = db.definition(table).await;
        let spec = theseus::engine::contract::spec::MigrationSpec { algorithm: Algorithm::Auto, ..db.spec(table, alter) };
        match support::migrate(spec, controls()).await {
            Outcome::Refused { reason: got, message } => {
                assert_eq!(got, reason, "{table}: {alter}: {message}");
                assert!(message.contains(words), "{table}: {alter}: the message lacks {words}: {message}");
            }
            outcome => panic!("{table}: {alter}: {outcome:?}"),
        }
        assert_eq!(db.definition(table).await, before, "{table}: {alter}");
        assert_eq!(db.tables().await, tables, "{table}: {alter}");
    }
    db.drop().await;
}

/// Whether a table would be rebuilt is told without any privilege, and for partitions too.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_told_of_partitions_and_without_process() {
    let mut db = Db::new("rebuilt").await;
    let user = format!("x{}", std::process::id());
    db.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secretword'")).await;
    db.run(&format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT, REFERENCES ON *.* TO '{user}'@'%'")).await;
    db.run(&format!("GRANT ALL ON `{}`.* TO '{user}'@'%'", db.name)).await;
    for process in [true, false] {
        for partitions in [
            "",
            "PARTITION BY HASH (id) PARTITIONS 3",
            "PARTITION BY RANGE (id) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 (PARTITION `a-b` VALUES LESS THAN (5), PARTITION z VALUES LESS THAN MAXVALUE)",
        ] {
            for (alter, want) in [
                ("ADD INDEX (a)", Algorithm::Inplace),
                ("COMMENT='new'", Algorithm::Inplace),
                ("ENGINE=InnoDB", Algorithm::Copy),
                ("ROW_FORMAT=COMPACT", Algorithm::Copy),
            ] {
                db.run(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id INT PRIMARY KEY, a INT) {partitions}")).await;
                db.run("INSERT INTO t VALUES (1, 1), (2, 2), (9, 9)").await;
                let mut spec = db.spec("t", alter);
                spec.algorithm = Algorithm::Auto;
                if !process {
                    spec.server.username.clone_from(&user);
                    spec.server.password = "secretword".into();
                }
                let handle = theseus::engine::start(spec, controls());
                let watch = handle.watch();
                assert_eq!(join(handle).await, Outcome::Succeeded, "{alter} {partitions}");
                let chosen = watch.borrow().algorithm.clone().expect("an algorithm");
                assert_eq!(chosen.chosen, want, "{alter} {partitions}, PROCESS: {process}: {}", chosen.reason);
                assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 3);
            }
        }
    }
    db.run(&format!("DROP USER '{user}'@'%'")).await;
    db.drop().await;
}

/// Where a change is copied only because its clauses stand together, the reason says how to write it as two, and those do need no copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_two_migrations_would_not_need_is_told() {
    let cases = [
        ("ADD COLUMN c INT, ADD INDEX (c)", Some(["ADD COLUMN c INT", "ADD INDEX (c)"])),
        // A column of an index is dropped instantly only behind the index.
        ("DROP COLUMN b, COMMENT='it''s new', DROP INDEX b", Some(["COMMENT='it''s new', DROP INDEX b", "DROP COLUMN b"])),
        ("ADD COLUMN c INT CHECK (c > 0), ADD INDEX (c)", None),
        ("ADD COLUMN c INT, ROW_FORMAT=COMPACT", None),
        ("ADD COLUMN c INT, MODIFY b BIGINT", None),
    ];
    for (alter, parts) in cases {
        let mut db = table("parts").await;
        db.run("CREATE TABLE native LIKE t; CREATE TABLE whole LIKE t").await;
        db.run(&format!("INSERT INTO whole SELECT * FROM t; ALTER TABLE native {alter}")).await;
        let native = db.definition("native").await.replace("`native", "`t");
        let without_counter = |text: String| text.replace(" AUTO_INCREMENT=501", "").replace(" AUTO_INCREMENT=512", "");
        let run = async |table: &str, alter: &str| {
            let spec = theseus::engine::contract::spec::MigrationSpec { algorithm: Algorithm::Auto, ..db.spec(table, alter) };
            let handle = theseus::engine::start(spec, controls());
            let watch = handle.watch();
            assert_eq!(join(handle).await, Outcome::Succeeded, "{alter}");
            watch.borrow().algorithm.clone().expect("an algorithm")
        };
        let whole = run("whole", alter).await;
        assert_eq!(whole.chosen, Algorithm::Copy, "{alter}: {}", whole.reason);
        let Some([first, second]) = parts else {
            assert!(!whole.reason.contains("two migrations"), "{alter}: {}", whole.reason);
            db.drop().await;
            continue;
        };
        let told = format!("two migrations, `{first}` and, with spec.after, `{second}`, need no copy");
        assert!(whole.reason.contains(&told), "{alter}: {}", whole.reason);
        for part in [first, second] {
            assert_ne!(run("t", part).await.chosen, Algorithm::Copy, "{part}");
        }
        assert_eq!(without_counter(db.definition("t").await), native, "{alter}");
        assert_eq!(without_counter(db.definition("whole").await.replace("`whole", "`t")), native, "{alter}");
        assert_eq!(db.tables().await, ["native", "t", "whole"]);
        db.drop().await;
    }
}

/// Clauses for partitions: what the server does in place without a lock is left to it, the rest is copied and never refused for its grammar.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_added_in_place_where_no_row_moves() {
    let range = "PARTITION BY RANGE (id) (PARTITION `a-b` VALUES LESS THAN (5), PARTITION z VALUES LESS THAN (20))";
    let list = "PARTITION BY LIST (id) (PARTITION p VALUES IN (1, 2, 9), PARTITION q VALUES IN (3))";
    let below = "PARTITION BY RANGE (id) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 (PARTITION p VALUES LESS THAN (50))";
    let hash = "PARTITION BY HASH (id) PARTITIONS 3";
    let cases = [
        (range, "ADD PARTITION (PARTITION y VALUES LESS THAN (30), PARTITION x VALUES LESS THAN MAXVALUE)", Algorithm::Inplace),
        (list, "ADD PARTITION (PARTITION r VALUES IN (4, NULL))", Algorithm::Inplace),
        (below, "ADD PARTITION (PARTITION q VALUES LESS THAN MAXVALUE)", Algorithm::Inplace),
        (range, "REORGANIZE PARTITION z INTO (PARTITION y VALUES LESS THAN (9), PARTITION x VALUES LESS THAN (20))", Algorithm::Copy),
        (hash, "ADD PARTITION PARTITIONS 2", Algorithm::Copy),
        (hash, "COALESCE PARTITION 2", Algorithm::Copy),
        (hash, "REORGANIZE PARTITION", Algorithm::Copy),
        (hash, "REBUILD PARTITION ALL", Algorithm::Copy),
        (hash, "REMOVE PARTITIONING", Algorithm::Copy),
        ("", "PARTITION BY KEY (id) PARTITIONS 2", Algorithm::Copy),
        (hash, "ADD COLUMN c INT PARTITION BY LINEAR HASH (id) PARTITIONS 4", Algorithm::Copy),
    ];
    let mut db = Db::new("partitions").await;
    for (partitions, alter, want) in cases {
        let all = partitions == range || alter == "REMOVE PARTITIONING";
        for asked in [Algorithm::Auto, Algorithm::Inplace, Algorithm::Instant].into_iter().take(if all { 3 } else { 1 }) {
            for table in ["t", "native"] {
                db.run(&format!("DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id INT PRIMARY KEY, a INT) {partitions}")).await;
            }
            db.run("INSERT INTO t VALUES (1, 1), (2, 2), (9, 9)").await;
            let before = db.definition("t").await;
            let handle = theseus::engine::start(
                theseus::engine::contract::spec::MigrationSpec { algorithm: asked, ..db.spec("t", alter) },
                controls(),
            );
            let watch = handle.watch();
            match (join(handle).await, asked == Algorithm::Auto || asked == want) {
                (Outcome::Succeeded, true) => {
                    let chosen = watch.borrow().algorithm.clone().expect("an algorithm");
                    assert_eq!(chosen.chosen, want, "{alter} {partitions}: {}", chosen.reason);
                    assert!(!chosen.reason.contains("syntax"), "{alter} {partitions}: {}", chosen.reason);
                    db.run(&format!("ALTER TABLE native {alter}")).await;
                    let native = db.definition("native").await.replace("`native`", "`t`");
                    assert_eq!(db.definition("t").await, native, "{alter} {partitions}");
                }
                (Outcome::Refused { reason: Reason::AlgorithmNotSupported, message }, false) => {
                    assert!(message.contains("184"), "the server's words: {message}");
                    assert_eq!(db.definition("t").await, before, "{alter} {partitions}");
                }
                (outcome, _) => panic!("{alter} {partitions} by {asked:?}: {outcome:?}"),
            }
            assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 3);
            assert_eq!(db.tables().await, ["native", "t"], "{alter} {partitions}");
        }
    }
    db.drop().await;
}

/// A table whose rows have used all their versions takes no instant ADD COLUMN: that is seen before anything is tried on it.
#[tokio::test(flavor = "multi_thread")]
async fn used_up_row_versions_are_seen_beforehand() {
    let mut db = Db::new("versions").await;
    let user = format!("y{}", std::process::id());
    db.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secretword'")).await;
    db.run(&format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT, REFERENCES ON *.* TO '{user}'@'%'")).await;
    db.run(&format!("GRANT ALL ON `{}`.* TO '{user}'@'%'", db.name)).await;
    let limit = theseus::engine::table::chooser::row_versions_limit((9, 7, 0));
    db.run("CREATE TABLE t (id INT PRIMARY KEY, CONSTRAINT low CHECK (id < 9000))").await;
    db.run("INSERT INTO t VALUES (1), (2)").await;
    for i in 0..limit {
        let change = if i % 2 == 0 { "ADD COLUMN z INT" } else { "DROP COLUMN z" };
        db.run(&format!("ALTER TABLE t {change}, ALGORITHM=INSTANT")).await;
    }
    let before = db.definition("t").await;
    for mode in [theseus::engine::contract::spec::Mode::DryRun, theseus::engine::contract::spec::Mode::Execute] {
        let mut spec = db.spec("t", "ADD COLUMN c INT");
        spec.algorithm = Algorithm::Instant;
        spec.mode = mode;
        match support::migrate(spec, controls()).await {
            Outcome::Refused { reason: Reason::AlgorithmNotSupported, message } => assert!(message.contains("row versions"), "{message}"),
            outcome => panic!("{mode:?}: {outcome:?}"),
        }
    }
    assert_eq!((db.definition("t").await, db.tables().await), (before, vec!["t".to_owned()]));
    // What takes no version is still instant.
    let mut spec = db.spec("t", "RENAME COLUMN z TO zz");
    spec.algorithm = Algorithm::Instant;
    assert_eq!(support::migrate(spec, controls()).await, Outcome::Succeeded);
    for (name, account) in [("c", None), ("d", Some(&user))] {
        if account.is_some() {
            // What the account may not see is met at the change itself; the copy just made has given the versions back.
            for i in 0..limit {
                let change = if i % 2 == 0 { "ADD COLUMN y INT" } else { "DROP COLUMN y" };
                db.run(&format!("ALTER TABLE t {change}, ALGORITHM=INSTANT")).await;
            }
        }
        let mut spec = db.spec("t", &format!("ADD COLUMN {name} INT"));
        spec.algorithm = Algorithm::Auto;
        if let Some(user) = account {
            spec.server.username.clone_from(user);
            spec.server.password = "secretword".into();
        }
        let handle = theseus::engine::start(spec, controls());
        let watch = handle.watch();
        assert_eq!(join(handle).await, Outcome::Succeeded);
        let chosen = watch.borrow().algorithm.clone().expect("an algorithm");
        assert_eq!(chosen.chosen, Algorithm::Copy);
        assert!(chosen.reason.contains("4092") && chosen.reason.contains("INPLACE would rebuild"), "{}", chosen.reason);
        assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 2);
        assert_eq!(db.tables().await, ["t"]);
    }
    db.run(&format!("DROP USER '{user}'@'%'")).await;
    db.drop().await;
}
