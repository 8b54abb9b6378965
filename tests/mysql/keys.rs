//! Keys that are not a primary key which stays: a helper index for the time of the copy, and what is proposed where there is no key at all.
use crate::mirror::Mirror;
use crate::proxy::{Hold, Proxy, plain};
use crate::scribe::Scribe;
use crate::support::{Db, address, connect, controls, join, migrate, mysql_url, until};
use mysql_async::prelude::Queryable as _;
use std::time::Duration;
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, DeferIndexes, MigrationSpec, Mode};

/// Rows of several chunks.
const ROWS: &str = "WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 4000)";

/// The new table has no index on the old key, or none that is unique; afterwards its definition is that of a native ALTER, to the letter.
#[tokio::test(flavor = "multi_thread")]
async fn the_new_table_needs_no_index_for_the_key() {
    let change = |p: u32| {
        [
            format!("UPDATE {{t}} SET n = n + 1 WHERE x % 31 = {p}"),
            format!("UPDATE {{t}} SET id = id + 100000 WHERE x % 37 = {p}"),
            format!("DELETE FROM {{t}} WHERE x % 41 = {p}"),
            format!("INSERT INTO {{t}} (id, s, n, x) SELECT id + 200000, CONCAT(s, '+'), n, x + 50000 FROM {{t}} WHERE x % 43 = {p}"),
            format!("UPDATE {{t}} SET s = UPPER(s) WHERE x % 29 = {p}"),
        ]
    };
    let (one, two, three) = (change(1), change(2), change(3));
    for (key, alter) in [
        ("id INT NOT NULL, s VARCHAR(40) NOT NULL, PRIMARY KEY (id)", "DROP PRIMARY KEY, ADD PRIMARY KEY (x, id), MODIFY n BIGINT"),
        ("id INT NOT NULL, s VARCHAR(40) NOT NULL, PRIMARY KEY (s, id DESC)", "DROP PRIMARY KEY, ADD PRIMARY KEY (x), ADD KEY (n)"),
        // Keys that only the server can tell apart.
        (
            "id INT NOT NULL, s VARCHAR(40) COLLATE utf8mb4_0900_ai_ci NOT NULL, UNIQUE KEY u (s)",
            "DROP KEY u, ADD UNIQUE KEY first_one (x), ADD KEY (n), ADD KEY (s)",
        ),
        // No primary key afterwards either, but a unique one that clusters the rows.
        ("id INT NOT NULL, s VARCHAR(40) NOT NULL, UNIQUE KEY u (id)", "DROP KEY u, ADD UNIQUE KEY v (x, s), COMMENT 'none'"),
        // A key that may be NULL, and is not, and an index that would be unique beside it.
        ("id INT NULL, s VARCHAR(40) NOT NULL, UNIQUE KEY u (id)", "DROP KEY u, ADD KEY u (id), ADD UNIQUE KEY w (id, x), MODIFY n BIGINT"),
        // The index that stays is invisible.
        (
            "id INT NOT NULL, s VARCHAR(40) NOT NULL, PRIMARY KEY (id)",
            "DROP PRIMARY KEY, ADD PRIMARY KEY (x), ADD UNIQUE KEY i (id) INVISIBLE",
        ),
    ] {
        let create = format!("CREATE TABLE {{t}} (n INT, x INT NOT NULL, {key}) DEFAULT CHARSET=utf8mb4");
        let fill = format!("INSERT INTO {{t}} (id, s, n, x) {ROWS} SELECT i, CONCAT('key ', i), i % 7, i FROM i");
        let mut mirror = Mirror::new(&mysql_url(), "helper", &["SET SESSION cte_max_recursion_depth = 10000", &create, &fill]).await;
        mirror
            .migrate(alter, &one.each_ref().map(String::as_str), &two.each_ref().map(String::as_str), &three.each_ref().map(String::as_str))
            .await;
        mirror.drop().await;
    }
}

/// A new AUTO_INCREMENT primary key in the place of another one: numbers as a native ALTER gives them.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_numbered_primary_key_takes_the_old_ones_place() {
    let mut mirror = Mirror::new(
        &mysql_url(),
        "helper_ai",
        &[
            "SET SESSION cte_max_recursion_depth = 10000",
            "CREATE TABLE {t} (a INT NOT NULL, b VARCHAR(20) NOT NULL, n INT, PRIMARY KEY (a, b))",
            &format!("INSERT INTO {{t}} {ROWS} SELECT i DIV 10, CONCAT('b', i), i FROM i"),
        ],
    )
    .await;
    mirror
        .migrate(
            "DROP PRIMARY KEY, ADD COLUMN id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY FIRST",
            &["UPDATE {t} SET n = n + 1 WHERE n % 5 = 0"],
            &["UPDATE {t} SET n = n + 1 WHERE n % 7 = 0"],
            &["UPDATE {t} SET n = n + 1 WHERE n % 11 = 0"],
        )
        .await;
    mirror.drop().await;
}

/// Where the helper index would be the clustered one, or would take for equal what the old key told apart, the refusal stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_helper_index_that_would_not_be_the_keys_is_not_made() {
    let mut db = Db::new("nohelper").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    db.run("CREATE TABLE s (k VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY, id INT NOT NULL)").await;
    db.run("INSERT INTO s VALUES ('a', 1), ('A', 2)").await;
    db.run("CREATE TABLE p (id INT PRIMARY KEY, a INT NOT NULL)").await;
    let before = db.tables().await;
    for (table, alter, words) in [
        ("t", "DROP PRIMARY KEY", "neither a primary key nor a unique index"),
        ("s", "DROP PRIMARY KEY, ADD PRIMARY KEY (id), MODIFY k VARCHAR(20) COLLATE utf8mb4_0900_ai_ci NOT NULL", "another collation"),
        ("p", "DROP PRIMARY KEY, ADD PRIMARY KEY (a) PARTITION BY HASH (a) PARTITIONS 2", ""),
    ] {
        match migrate(db.spec(table, alter), controls()).await {
            Outcome::Refused { reason: Reason::NoUsableKey | Reason::AlterNotSupported, message } => {
                assert!(message.contains(words), "{alter}: {message}");
            }
            outcome => panic!("{table}: {alter}: {outcome:?}"),
        }
        assert_eq!(db.tables().await, before, "{alter}");
    }
    // Of a partitioned table each unique index has the columns that it is partitioned by.
    db.run("CREATE TABLE parts (id INT NOT NULL, a INT NOT NULL, b INT NOT NULL, PRIMARY KEY (id, a)) PARTITION BY HASH (a) PARTITIONS 2")
        .await;
    let outcome = migrate(db.spec("parts", "DROP PRIMARY KEY, ADD PRIMARY KEY (a, b)"), controls()).await;
    assert_eq!(outcome, Outcome::Succeeded);
    db.drop().await;
}

/// Deaths around the moment at which the helper index is dropped: whoever goes on has it again, and nothing of it is left.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_beside_the_helper_index_leaves_a_table_without_it() {
    for (words, hold, killed) in [
        ("DROP INDEX `_theseus_key`", Hold::Request, false),
        ("DROP INDEX `_theseus_key`", Hold::Answer, false),
        ("RENAME TABLE `", Hold::Request, false),
        ("RENAME TABLE `", Hold::Request, true),
        ("RENAME TABLE `", Hold::Answer, true),
    ] {
        let mut db = Db::new("helper_death").await;
        db.run("CREATE TABLE t (id INT NOT NULL PRIMARY KEY, s VARCHAR(40) NOT NULL, n BIGINT NOT NULL)").await;
        db.run("SET SESSION cte_max_recursion_depth = 10000").await;
        db.run(&format!("INSERT INTO t {ROWS} SELECT i, CONCAT('key ', i), 0 FROM i")).await;
        let proxy = Proxy::start(address(&db.url).port).await;
        // As documented: no privilege more.
        let user = format!("h{:x}", fastrand::u64(..));
        db.documented(&user, "pw").await;
        let mut spec = plain(db.spec("t", "DROP PRIMARY KEY, ADD PRIMARY KEY (s), MODIFY n DECIMAL(20) NOT NULL, ADD KEY (n)"), &proxy);
        (spec.server.username, spec.server.password) = (user.clone(), "pw".to_owned());
        let gated = Controls { cut_over_policy: CutOverPolicy::Manual, defer_indexes: DeferIndexes::Always, ..controls() };
        let handle = theseus::engine::start(spec.clone(), gated.clone());
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        assert!(db.definition("_t_gho").await.contains("UNIQUE KEY `_theseus_key` (`id`)"));
        let mut caught = proxy.trap(words, hold);
        db.run("UPDATE t SET n = n + 1 WHERE id <= 1000").await;
        handle.control(Controls { approved: true, ..gated.clone() });
        caught.sprung().await;
        let outcome = if killed {
            // The whole engine: another one takes the work up.
            drop(handle);
            caught.tear();
            migrate(spec, controls()).await
        } else {
            // The attempt alone; changes come before the next one.
            caught.tear();
            handle.control(gated.clone());
            until(&handle, "the attempt has failed", |s| s.cut_over.last_failure.is_some()).await;
            db.run("UPDATE t SET n = n + 1, s = CONCAT(s, '!') WHERE id BETWEEN 900 AND 1100").await;
            db.run("DELETE FROM t WHERE id = 1001").await;
            until(&handle, "the gate is reached again", |s| s.phase == Phase::AwaitingCutOver && s.progress.backlog == 0).await;
            assert!(db.definition("_t_gho").await.contains("UNIQUE KEY `_theseus_key` (`id`)"), "{words}");
            handle.control(controls());
            join(handle).await
        };
        assert_eq!(outcome, Outcome::Succeeded, "{words}, {hold:?}");
        let definition = db.definition("t").await;
        assert!(
            !definition.contains("_theseus_key") && definition.contains("PRIMARY KEY (`s`)") && definition.contains("KEY `n`"),
            "{definition}"
        );
        let changed: u64 = db.value("SELECT CAST(SUM(n) AS UNSIGNED) FROM t").await;
        let expected = if killed { 1000 } else { 1000 + 201 - 1 };
        assert_eq!(changed, expected, "{words}, {hold:?}");
        assert_eq!(db.tables().await, ["t"]);
        db.run(&format!("DROP USER '{user}'@'%'")).await;
        db.drop().await;
    }
}

/// A table without any key: the statement that the check and the refusal show, as it stands, makes the same change possible.
#[tokio::test(flavor = "multi_thread")]
async fn the_statement_that_is_proposed_works() {
    let mut db = Db::new("propose").await;
    db.run("CREATE TABLE bare (a INT, b INT)").await;
    db.run("CREATE TABLE nulls (a INT, `My_Row_ID` INT, UNIQUE KEY u (a))").await;
    db.run("CREATE TABLE floating (a DOUBLE NOT NULL PRIMARY KEY, `b``c` INT)").await;
    db.run("CREATE TABLE `num``bered` (a INT NOT NULL AUTO_INCREMENT, b INT, KEY (a))").await;
    for table in ["bare", "nulls", "floating", "num`bered"] {
        let quoted = format!("`{}`", table.replace('`', "``"));
        db.run(&format!("INSERT INTO {quoted} SELECT 1, 1 UNION ALL SELECT 2, 2")).await;
        if matches!(table, "bare" | "nulls") {
            db.run(&format!("INSERT INTO {quoted} VALUES (NULL, 1), (NULL, 1)")).await;
        }
        let change = "ADD COLUMN added INT";
        let base = MigrationSpec { algorithm: Algorithm::Copy, ..db.spec(table, change) };
        let spec = || base.clone();
        let statement_of =
            |text: &str| text.find("ALTER TABLE").map(|at| text[at..].to_owned()).unwrap_or_else(|| panic!("{table}: {text}"));
        let refused = match migrate(spec(), controls()).await {
            Outcome::Refused { reason: Reason::NoUsableKey, message } => statement_of(&message),
            outcome => panic!("{table}: {outcome:?}"),
        };
        let report = theseus::engine::preflight::check(&spec(), &controls()).await;
        let finding = report.findings.iter().find(|f| f.reason == Reason::NoUsableKey.as_str()).expect("a finding");
        assert_eq!(statement_of(&finding.advice), refused);
        // Word for word.
        let mut conn = connect(&mysql_url()).await;
        conn.query_drop(&refused).await.unwrap_or_else(|error| panic!("{refused}: {error}"));
        if table != "num`bered" {
            assert!(db.rows(&format!("SELECT * FROM {quoted}")).await.iter().all(|row| row.len() == 2), "{refused}: nobody sees it");
        }
        let rows: u64 = db.value(&format!("SELECT COUNT(*) FROM {quoted}")).await;
        assert_eq!(migrate(spec(), controls()).await, Outcome::Succeeded, "{table} after {refused}");
        assert_eq!(db.value::<u64>(&format!("SELECT COUNT(added IS NULL) FROM {quoted}")).await, rows);
    }
    // A table that has a key gets no such advice: the change itself takes it away.
    db.run("CREATE TABLE good (id INT PRIMARY KEY, a INT)").await;
    let spec = MigrationSpec { mode: Mode::DryRun, ..db.spec("good", "DROP PRIMARY KEY") };
    match migrate(spec, controls()).await {
        Outcome::Refused { reason: Reason::NoUsableKey, message } => assert!(!message.contains("ALTER TABLE"), "{message}"),
        outcome => panic!("{outcome:?}"),
    }
    db.drop().await;
}

/// A unique key whose column may be NULL, and never is: under a writer that keeps its account, and at the moments of a mirror.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_be_null_and_is_not_serves() {
    let mut db = Db::new("maybe").await;
    db.run("CREATE TABLE t (id INT NULL, v BIGINT NOT NULL, pad VARCHAR(100) NOT NULL DEFAULT 'x', UNIQUE KEY u (id))").await;
    db.run("SET SESSION cte_max_recursion_depth = 10000").await;
    db.run(&format!("INSERT INTO t (id, v) {ROWS} SELECT i, 0 FROM i")).await;
    let scribe = Scribe::start(&db.url, &db.name, 4000, fastrand::u64(..));
    for (n, alter) in ["MODIFY v DECIMAL(20,0) NOT NULL, ADD KEY (v)", "MODIFY v BIGINT NOT NULL FIRST, DROP KEY v"].into_iter().enumerate()
    {
        let spec = MigrationSpec { id: format!("{}-{n}", db.name), ..db.spec("t", alter) };
        let slow = Controls { target_chunk_time: Duration::from_millis(10), ..controls() };
        assert_eq!(migrate(spec, slow).await, Outcome::Succeeded, "{alter}");
    }
    let account = scribe.account().await;
    let found: Vec<(u64, u64)> = db.conn.query("SELECT id, v FROM t ORDER BY id").await.expect("the rows");
    assert!(found == account, "{} rows, {} in the account", found.len(), account.len());
    db.drop().await;

    let mut mirror = Mirror::new(
        &mysql_url(),
        "maybe_mirror",
        &[
            "SET SESSION cte_max_recursion_depth = 10000",
            // The one that cannot be NULL has no unique key of its own.
            "CREATE TABLE {t} (a INT NOT NULL, b VARCHAR(20) COLLATE utf8mb4_0900_ai_ci, n INT, UNIQUE KEY u (a, b), KEY shows (b))",
            &format!("INSERT INTO {{t}} {ROWS} SELECT i DIV 10, CONCAT('b', i), i FROM i"),
        ],
    )
    .await;
    mirror
        .migrate(
            "MODIFY n BIGINT, ADD COLUMN id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY",
            &["UPDATE {t} SET n = n + 1 WHERE n % 5 = 0", "UPDATE {t} SET b = UPPER(b) WHERE n % 17 = 0"],
            &["UPDATE {t} SET n = n + 1 WHERE n % 7 = 0"],
            &["UPDATE {t} SET n = n + 1 WHERE n % 11 = 0"],
        )
        .await;
    mirror.drop().await;
}

/// NULL in the key: there at the beginning it is a refusal, coming later it ends the migration, and what the log does not show is found under
/// the lock. The rows are given a value, and a retry makes the change.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_key_is_never_left_out() {
    let mut db = Db::new("nullkey").await;
    db.run("CREATE TABLE t (id INT NULL, v INT NOT NULL, UNIQUE KEY u (id))").await;
    db.run("SET SESSION cte_max_recursion_depth = 10000").await;
    db.run(&format!("INSERT INTO t {ROWS} SELECT i, 0 FROM i")).await;
    let spec = db.spec("t", "MODIFY v BIGINT NOT NULL");
    let gated = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    db.run("INSERT INTO t VALUES (NULL, 1)").await;
    match migrate(spec.clone(), controls()).await {
        Outcome::Refused { reason: Reason::NoUsableKey, message } => {
            assert!(message.contains("column `id` of the index `u` is NULL") && message.contains("my_row_id"), "{message}");
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(db.tables().await, ["t"]);
    db.run("DELETE FROM t WHERE id IS NULL").await;
    for (words, logged) in [
        ("INSERT INTO t VALUES (NULL, 7)", true),
        ("UPDATE t SET id = NULL WHERE id = 77", true),
        // Nobody is told of these but those who look under the lock.
        ("INSERT INTO t VALUES (NULL, 7)", false),
    ] {
        let handle = theseus::engine::start(spec.clone(), gated.clone());
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        db.run(&format!("SET SESSION sql_log_bin = {}", u8::from(logged))).await;
        db.run(words).await;
        db.run("SET SESSION sql_log_bin = 1").await;
        handle.control(Controls { approved: true, ..gated.clone() });
        match join(handle).await {
            Outcome::Failed { reason: Reason::NullInKey, message } => {
                assert!(
                    message.contains("NULL in column `id` of the key `u`") && !message.replace(&db.name, "").contains('7'),
                    "{message}"
                );
            }
            outcome => panic!("{words}: {outcome:?}"),
        }
        assert!(db.definition("t").await.contains("`v` int"), "{words}: the tables were swapped");
        assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t WHERE id IS NULL").await, 1);
        db.run("UPDATE t SET id = 77777 + v WHERE id IS NULL").await;
        // The log still has the row without a key: the work begins anew, and comes to an end.
        let handle = theseus::engine::start(spec.clone(), gated.clone());
        until(&handle, "the gate is reached again", |s| s.phase == Phase::AwaitingCutOver).await;
        handle.control(Controls { cancel: true, ..gated.clone() });
        assert_eq!(join(handle).await, Outcome::Cancelled);
        db.run("DELETE FROM t WHERE id > 77777").await;
    }
    assert_eq!(migrate(spec, controls()).await, Outcome::Succeeded);
    assert!(db.definition("t").await.contains("`v` bigint"));
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// A child table whose key is also its constraint's column, and which loses the index for both: the constraint comes to rest on an index of the
/// new table's own, not on the helper.
#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_does_not_rest_on_the_helper_index() {
    let mut db = Db::new("helper_fk").await;
    db.run("CREATE TABLE parent (id INT PRIMARY KEY)").await;
    let child =
        "(p INT NOT NULL PRIMARY KEY, x INT NOT NULL, v INT, CONSTRAINT {name} FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)";
    let alter = "DROP PRIMARY KEY, ADD PRIMARY KEY (x), ADD KEY k (p), MODIFY v BIGINT";
    db.run("SET SESSION cte_max_recursion_depth = 10000").await;
    db.run(&format!("INSERT INTO parent {ROWS} SELECT i FROM i")).await;
    for (table, name) in [("t", "to_parent"), ("m", "to_parent_too")] {
        db.run(&format!("CREATE TABLE {table} {}", child.replace("{name}", name))).await;
        db.run(&format!("INSERT INTO {table} {ROWS} SELECT i, -i, 0 FROM i")).await;
    }
    let gated = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let handle = theseus::engine::start(db.spec("t", alter), gated.clone());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    db.run("UPDATE t SET v = v + 1 WHERE p <= 1000").await;
    db.run("DELETE FROM parent WHERE id BETWEEN 900 AND 1100").await;
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    db.run(&format!("ALTER TABLE m {alter}")).await;
    let native = db.definition("m").await.replace("`m`", "`t`").replace("to_parent_too", "to_parent");
    assert_eq!(db.definition("t").await, native);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 4000 - 201);
    assert_eq!(db.value::<u64>("SELECT CAST(SUM(v) AS UNSIGNED) FROM t").await, 899);
    db.run("DELETE FROM parent WHERE id = 1").await;
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t WHERE p = 1").await, 0, "it cascades");
    db.drop().await;
}
