//! What the log does not say in rows (rule 13), and what others do to the two tables (rule 12).
use crate::{mirror, server, support};

use mirror::Mirror;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use server::Server;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::{Db, controls, join, migrate, mysql_url, until};
use theseus::engine::Handle;
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy};
use tokio::process::{Child, Command};

const ALTER: &str = "MODIFY a BIGINT";

fn manual() -> Controls {
    Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() }
}

fn throttled() -> Controls {
    Controls { throttled_by_user: true, ..manual() }
}

async fn ten_rows(prefix: &str, url: &str) -> Mirror {
    Mirror::new(
        url,
        prefix,
        &[
            "CREATE TABLE {t} (id INT PRIMARY KEY, a INT, b VARCHAR(100))",
            "INSERT INTO {t} WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 10) SELECT i, i, 'x' FROM i",
        ],
    )
    .await
}

async fn gate(handle: &Handle) {
    until(handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
}

async fn run(conn: &mut Conn, sql: &str) {
    conn.query_drop(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// Ends the migration and compares.
async fn finish(mut mirror: Mirror, handle: Handle) {
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    mirror.assert_equal(ALTER).await;
    mirror.drop().await;
}

/// The xid must be unique on the server.
fn xid(name: &str) -> String {
    format!("'{name}-{:x}'", fastrand::u64(..))
}

/// Prepared before the migration: it waits, says so, and goes on when the transaction is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_prepared_before_is_waited_for() {
    for (attached, end) in [(false, "COMMIT"), (true, "COMMIT"), (false, "ROLLBACK")] {
        let mut mirror = ten_rows("xa_before", &mysql_url()).await;
        let x = xid("before");
        let mut holder = mirror.db.connect().await;
        if attached {
            run(&mut holder, "SET SESSION xa_detach_on_prepare=OFF").await;
        }
        run(&mut holder, &format!("XA START {x}; UPDATE t SET a = 100 WHERE id = 3; XA END {x}; XA PREPARE {x}")).await;
        let handle = theseus::engine::start(mirror.db.spec("t", ALTER), manual());
        let s = until(&handle, "it waits", |s| s.retrying.is_some()).await;
        let retrying = s.retrying.expect("just seen");
        assert_eq!(retrying.reason, Reason::PreparedTransaction, "{}", retrying.message);
        assert!(retrying.message.contains("`t`") && retrying.message.contains("XA RECOVER"), "{}", retrying.message);
        assert_eq!(mirror.db.tables().await, ["m", "t"], "nothing is made while it waits");
        run(&mut holder, &format!("XA {end} {x}")).await;
        gate(&handle).await;
        if end == "COMMIT" {
            mirror.db.run("UPDATE m SET a = 100 WHERE id = 3").await;
        }
        finish(mirror, handle).await;
    }
}

/// The same while the server lists no transaction, since a statement of some session has a character of four bytes: by the locks, whether the
/// session waits, does something else or is gone, and after a restart of the server. Sessions that only write are nobody's business.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_prepared_before_is_seen_beside_any_statement() {
    let server = support::PrivateServer::start(&[]).await;
    for case in ["attached", "waiting", "elsewhere", "gone", "restarted"] {
        let mut mirror = ten_rows("xa_bytes", &server.url).await;
        let x = xid("bytes");
        let mut holder = mirror.db.connect().await;
        if case == "attached" {
            run(&mut holder, "SET SESSION xa_detach_on_prepare=OFF").await;
        }
        run(&mut holder, &format!("XA START {x}; UPDATE t SET a = 100 WHERE id = 3; XA END {x}; XA PREPARE {x}")).await;
        if case == "elsewhere" {
            run(&mut holder, "BEGIN; SELECT * FROM t").await;
        }
        if case == "restarted" {
            server.restart(true).await;
            mirror.db.conn = mirror.db.connect().await;
            holder = mirror.db.connect().await;
        } else if case == "gone" {
            holder = mirror.db.connect().await;
        }
        let mut writer = mirror.db.connect().await;
        run(&mut writer, "BEGIN; UPDATE t SET b = 'z' WHERE id = 9").await;
        let mut other = mirror.db.connect().await;
        let riding = other.id();
        let rides = tokio::spawn(async move { other.query_drop("BEGIN; SELECT * FROM m; DO SLEEP(1000) + ('🚲' = 'x')").await });
        // The server answers from a copy until nobody has asked for 0.1 s.
        let hidden = async |db: &mut Db| {
            while db.conn.query_drop("SELECT COUNT(*) FROM information_schema.INNODB_TRX").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        };
        tokio::time::timeout(support::PATIENCE, hidden(&mut mirror.db)).await.expect("transactions are not listed");
        let handle = theseus::engine::start(mirror.db.spec("t", ALTER), manual());
        let s = until(&handle, "it waits", |s| s.retrying.is_some()).await;
        let retrying = s.retrying.expect("just seen");
        assert_eq!(retrying.reason, Reason::PreparedTransaction, "{case}: {}", retrying.message);
        assert!(retrying.message.starts_with("1 prepared XA transaction"), "{case}: {}", retrying.message);
        run(&mut writer, "ROLLBACK").await;
        if case == "elsewhere" {
            run(&mut holder, "COMMIT").await;
        }
        run(&mut holder, &format!("XA COMMIT {x}")).await;
        // On another table, which is nobody's business: the account may list it, so it is looked for.
        run(
            &mut holder,
            &format!("CREATE TABLE other (id INT PRIMARY KEY); XA START {x}; INSERT INTO other VALUES (1); XA END {x}; XA PREPARE {x}"),
        )
        .await;
        gate(&handle).await;
        tokio::time::timeout(support::PATIENCE, hidden(&mut mirror.db)).await.expect("transactions are not listed until now");
        mirror.db.run(&format!("KILL {riding}")).await;
        assert!(rides.await.expect("the other one").is_err());
        run(&mut holder, &format!("XA ROLLBACK {x}; DROP TABLE other")).await;
        mirror.db.run("UPDATE m SET a = 100 WHERE id = 3").await;
        finish(mirror, handle).await;
    }
}

/// A transaction prepared on another table is nobody's business.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_prepared_elsewhere_is_not() {
    let mirror = ten_rows("xa_other", &mysql_url()).await;
    let x = xid("other");
    let mut holder = mirror.db.connect().await;
    run(&mut holder, "CREATE TABLE other (id INT PRIMARY KEY)").await;
    run(&mut holder, &format!("XA START {x}; INSERT INTO other VALUES (1); XA END {x}; XA PREPARE {x}")).await;
    let handle = theseus::engine::start(mirror.db.spec("t", ALTER), manual());
    gate(&handle).await;
    run(&mut holder, &format!("XA ROLLBACK {x}; DROP TABLE other")).await;
    finish(mirror, handle).await;
}

/// Prepared and ended while rows are copied and at the gate, in each way; the rows are visible at the end only.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_prepared_during_a_migration() {
    let mut mirror = ten_rows("xa_during", &mysql_url()).await;
    let handle = theseus::engine::start(mirror.db.spec("t", ALTER), throttled());
    until(&handle, "it follows the log", |s| s.phase == Phase::Copying).await;
    let (mut one, mut two, mut three, mut four) =
        (mirror.db.connect().await, mirror.db.connect().await, mirror.db.connect().await, mirror.db.connect().await);
    let (x1, x2, x3, x4) = (xid("one"), xid("two"), xid("three"), format!("X'00ff27', X'5c', {}", fastrand::i32(1..)));
    run(
        &mut one,
        &format!("XA START {x1}; UPDATE t SET a = 11 WHERE id = 1; INSERT INTO t VALUES (11, 11, 'xa'); XA END {x1}; XA PREPARE {x1}"),
    )
    .await;
    run(&mut two, &format!("XA START {x2}; DELETE FROM t WHERE id = 2; XA END {x2}; XA PREPARE {x2}")).await;
    run(&mut three, &format!("XA START {x3}; UPDATE t SET a = 33 WHERE id = 3; XA END {x3}; XA COMMIT {x3} ONE PHASE")).await;
    handle.control(manual());
    gate(&handle).await;
    run(&mut four, &format!("XA START {x4}; UPDATE t SET id = 44 WHERE id = 4; XA END {x4}; XA PREPARE {x4}")).await;
    assert_eq!(mirror.db.rows("SELECT id, a FROM _t_gho WHERE id IN (1, 2, 3, 4, 11) ORDER BY id").await.len(), 4);
    assert_eq!(mirror.db.value::<i64>("SELECT a FROM _t_gho WHERE id = 1").await, 1, "prepared is not committed");
    run(&mut one, &format!("XA COMMIT {x1}")).await;
    run(&mut two, &format!("XA ROLLBACK {x2}")).await;
    run(&mut three, &format!("XA COMMIT {x4}")).await;
    mirror
        .db
        .run("UPDATE m SET a = 11 WHERE id = 1; INSERT INTO m VALUES (11, 11, 'xa'); UPDATE m SET a = 33 WHERE id = 3; UPDATE m SET id = 44 WHERE id = 4")
        .await;
    finish(mirror, handle).await;
}

/// The engine dies between PREPARE and COMMIT: the next one starts before the former. With and without GTIDs, and over a restart of the
/// server, which recovers the prepared transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_prepare_and_commit() {
    let anonymous = Server::start(&["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]);
    for url in [mysql_url(), anonymous.url.clone()] {
        let mut mirror = ten_rows("xa_restart", &url).await;
        let spec = mirror.db.spec("t", ALTER);
        let handle = theseus::engine::start(spec.clone(), manual());
        gate(&handle).await;
        let x = xid("restart");
        let mut holder = mirror.db.connect().await;
        run(
            &mut holder,
            &format!("XA START {x}; UPDATE t SET a = 50 WHERE id = 5; DELETE FROM t WHERE id = 6; XA END {x}; XA PREPARE {x}"),
        )
        .await;
        mirror.change(&["UPDATE {t} SET b = 'y' WHERE id > 6"]).await;
        // Several checkpoints, which must not pass the prepared transaction.
        // Those of the prepared one become dirty when it is committed.
        until(&handle, "later changes are applied", |s| s.progress.changes_applied >= 4).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        drop(handle);
        let handle = theseus::engine::start(spec.clone(), manual());
        until(&handle, "the work is taken up", |s| s.resumed_count >= 1).await;
        handle.stop();
        join(handle).await;
        let handle = theseus::engine::start(spec, manual());
        until(&handle, "the work is taken up", |s| s.resumed_count >= 2).await;
        gate(&handle).await;
        run(&mut holder, &format!("XA COMMIT {x}")).await;
        mirror.db.run("UPDATE m SET a = 50 WHERE id = 5; DELETE FROM m WHERE id = 6").await;
        finish(mirror, handle).await;
    }
}

/// Statements of every kind that are logged as rows, in whatever frame.
#[tokio::test(flavor = "multi_thread")]
async fn statements_in_every_frame() {
    let file = std::env::temp_dir().join(format!("theseus-load-{}-{:x}", std::process::id(), fastrand::u64(..)));
    std::fs::write(&file, "3\t300\tloaded\n200\t1\tloaded\n201\t1\tloaded\n").expect("write a file");
    let load = format!("LOAD DATA INFILE '{}' REPLACE INTO TABLE {{t}}", file.display());
    let statements: Vec<&str> = vec![
        "START TRANSACTION; UPDATE {t} SET a = 1; SAVEPOINT s; UPDATE {t} SET a = 2 WHERE id < 5; DELETE FROM {t} WHERE id = 6; ROLLBACK TO s; UPDATE {t} SET b = 'z' WHERE id = 7; COMMIT",
        "START TRANSACTION; SAVEPOINT s; DELETE FROM {t}; ROLLBACK TO s; RELEASE SAVEPOINT s; COMMIT",
        "CREATE TABLE made_{t} AS SELECT * FROM {t}",
        "CREATE TABLE made_keyed_{t} (PRIMARY KEY (id)) SELECT * FROM {t}",
        "START TRANSACTION; UPDATE {t} SET a = 5 WHERE id = 5; CREATE TEMPORARY TABLE tmp AS SELECT * FROM {t}; UPDATE {t} SET b = 'tmp' WHERE id = 5; DROP TEMPORARY TABLE tmp; COMMIT",
        &load,
        "INSERT INTO {t} VALUES (1, 1, 'dup'), (100, 1, 'new') ON DUPLICATE KEY UPDATE a = a + 1000, id = id + 1000",
        "REPLACE INTO {t} VALUES (2, -2, 'replaced'), (102, 1, 'new')",
        "INSERT IGNORE INTO {t} VALUES (2, 0, 'ignored'), (103, 1, 'new')",
        "UPDATE {t} x JOIN made_{t} y USING (id) SET x.a = y.a + 1, y.b = 'joined' WHERE id > 7",
        "DELETE x, y FROM {t} x JOIN made_{t} y USING (id) WHERE id = 9",
        "DROP TABLE made_{t}, made_keyed_{t}",
        "ANALYZE TABLE {t}",
        "GRANT SELECT ON {t} TO root@localhost",
        "CREATE VIEW seen AS SELECT * FROM {t}; DROP VIEW seen",
        "UPDATE {t} SET a = NULL WHERE id = 4",
    ];
    // Both engines in one transaction, which GTIDs rule out: when it is rolled back the one part stays.
    let mixed = [
        "START TRANSACTION; INSERT INTO plain VALUES (1); UPDATE {t} SET a = 99; INSERT INTO plain VALUES (2); ROLLBACK",
        "START TRANSACTION; UPDATE {t} SET a = 98 WHERE id = 1; INSERT INTO plain SELECT a FROM {t}; ROLLBACK",
        "START TRANSACTION; UPDATE {t} SET a = a + 1 WHERE id = 1; INSERT INTO plain VALUES (3); COMMIT",
    ];
    let with = Server::start(&["--secure-file-priv="]);
    let without = Server::start(&["--secure-file-priv=", "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]);
    for (url, mixed, moment) in
        [(&with.url, &[][..], "ahead"), (&with.url, &[], "behind"), (&without.url, &mixed, "ahead"), (&without.url, &mixed, "behind")]
    {
        let mut mirror = ten_rows("frames", url).await;
        mirror.db.run("CREATE TABLE plain (id INT) ENGINE=MyISAM").await;
        let handle = theseus::engine::start(mirror.db.spec("t", ALTER), if moment == "ahead" { throttled() } else { manual() });
        if moment == "ahead" {
            until(&handle, "it follows the log", |s| s.phase == Phase::Copying).await;
        } else {
            gate(&handle).await;
        }
        for statement in statements.iter().chain(mixed) {
            mirror.change(&[statement]).await;
        }
        mirror.db.run("DROP TABLE plain").await;
        finish(mirror, handle).await;
    }
    std::fs::remove_file(file).expect("remove the file");
}

/// DML of a session that logs text: unknown rows, so the migration fails and never swaps; on other tables it is nobody's business.
#[tokio::test(flavor = "multi_thread")]
async fn statements_logged_as_text() {
    let file = std::env::temp_dir().join(format!("theseus-text-{}-{:x}", std::process::id(), fastrand::u64(..)));
    std::fs::write(&file, "300\t300\tloaded\n").expect("write a file");
    let load = format!("LOAD DATA INFILE '{}' INTO TABLE t", file.display());
    let cases = [
        "UPDATE t SET a = 5 WHERE id = 1",
        "/* app */ DELETE FROM `t` WHERE id = 1",
        "INSERT INTO t (id) SELECT 50",
        "REPLACE INTO T2 SELECT 1; UPDATE t2 JOIN t ON TRUE SET t.a = 1",
        load.as_str(),
        "SELECT f()",
    ];
    let server = Server::start(&["--secure-file-priv=", "--log-bin-trust-function-creators=ON"]);
    for sql in cases {
        let mirror = ten_rows("text", &server.url).await;
        let mut db = mirror.db;
        db.run("CREATE TABLE t2 (id INT PRIMARY KEY); CREATE TABLE T2 (id INT PRIMARY KEY)").await;
        db.run("CREATE FUNCTION f() RETURNS INT BEGIN UPDATE t SET a = 77 WHERE id = 2; RETURN 1; END").await;
        let handle = theseus::engine::start(db.spec("t", ALTER), manual());
        gate(&handle).await;
        let mut text = db.connect().await;
        run(&mut text, "SET SESSION binlog_format=STATEMENT, SESSION transaction_isolation='REPEATABLE-READ'").await;
        run(&mut text, "INSERT INTO t2 VALUES (7)").await;
        db.run("UPDATE t SET b = 'rows' WHERE id = 10").await;
        until(&handle, "the rows are applied", |s| s.progress.changes_applied >= 1).await;
        run(&mut text, sql).await;
        match join(handle).await {
            Outcome::Failed { reason: Reason::StatementLogged, message } => assert!(message.contains("`t`"), "{message}"),
            outcome => panic!("{sql}: {outcome:?}"),
        }
        assert!(db.definition("t").await.contains("`a` int DEFAULT NULL"), "{sql}");
        db.drop().await;
    }
    std::fs::remove_file(file).expect("remove the file");
}

/// Somebody else's DDL on the original, at each moment: never swapped, and what they did stays. (Triggers and foreign keys that come meanwhile go
/// along: triggers.rs and foreign_keys.rs.)
#[tokio::test(flavor = "multi_thread")]
async fn ddl_by_others_is_never_swapped_away() {
    let plain = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(100))";
    let parts = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(100)) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (5000), PARTITION p1 VALUES LESS THAN (10000), PARTITION p2 VALUES LESS THAN MAXVALUE)";
    let cases = [
        (plain, "ALTER TABLE t ADD INDEX other (b)"),
        (plain, "ALTER TABLE t DROP COLUMN b"),
        (plain, "ALTER TABLE t DROP COLUMN b, ALGORITHM=INSTANT; ALTER TABLE t ADD COLUMN b VARCHAR(100), ALGORITHM=INSTANT"),
        (plain, "ALTER TABLE t ORDER BY a"),
        (plain, "RENAME TABLE t TO away; UPDATE away SET a = -1; RENAME TABLE away TO t"),
        (plain, "DROP TABLE t"),
        (parts, "ALTER TABLE t TRUNCATE PARTITION p0"),
        (parts, "ALTER TABLE t DROP PARTITION p0"),
        (
            parts,
            "ALTER TABLE t REORGANIZE PARTITION p2 INTO (PARTITION p2 VALUES LESS THAN (20000), PARTITION p3 VALUES LESS THAN MAXVALUE)",
        ),
        (parts, "CREATE TABLE x (id INT PRIMARY KEY, a INT, b VARCHAR(100)); ALTER TABLE t EXCHANGE PARTITION p0 WITH TABLE x"),
    ];
    for (create, ddl) in cases {
        for moment in ["copying", "gate"] {
            let mut db = Db::new("ddl").await;
            db.run(create).await;
            db.run("SET SESSION cte_max_recursion_depth = 100000").await;
            db.run("INSERT INTO t WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 8000) SELECT i, i, 'x' FROM i")
                .await;
            let slow = Controls { target_chunk_time: Duration::from_millis(10), nice_ratio_percent: 500, ..manual() };
            let handle =
                theseus::engine::start(db.spec("t", "MODIFY a BIGINT, ADD c INT"), if moment == "gate" { manual() } else { slow.clone() });
            if moment == "gate" {
                gate(&handle).await;
            } else {
                until(&handle, "rows are copied", |s| s.progress.rows_copied > 0).await;
            }
            db.run(ddl).await;
            let left = db
                .rows("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 't'")
                .await
                .len();
            let definition = if left == 1 { db.definition("t").await } else { String::new() };
            handle.control(controls());
            match join(handle).await {
                Outcome::Failed { reason: Reason::DefinitionChanged | Reason::TableNotFound, message } => {
                    assert!(message.contains("t"), "{message}")
                }
                outcome => panic!("{moment}: {ddl}: {outcome:?}"),
            }
            if left == 1 {
                assert_eq!(db.definition("t").await, definition, "{moment}: {ddl}");
            }
            db.drop().await;
        }
    }
}

/// What makes the table anew, or only looks at it, is no reason to stop: the rows are the same, and the engine knows the new id.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_made_anew_is_followed_on() {
    let others =
        ["OPTIMIZE TABLE t", "ALTER TABLE t FORCE", "ALTER TABLE t ENGINE=InnoDB, ALGORITHM=COPY", "ANALYZE TABLE t", "REPAIR TABLE t"];
    for moment in ["copying", "gate"] {
        let mut mirror = ten_rows("anew", &mysql_url()).await;
        mirror
            .change(&[
                "INSERT INTO {t} WITH RECURSIVE i (i) AS (SELECT 11 UNION ALL SELECT i + 1 FROM i WHERE i < 900) SELECT i, i, 'x' FROM i",
            ])
            .await;
        let slow = Controls { target_chunk_time: Duration::from_millis(5), nice_ratio_percent: 900, workers: 1, ..manual() };
        let handle = theseus::engine::start(mirror.db.spec("t", ALTER), if moment == "gate" { manual() } else { slow });
        if moment == "gate" {
            gate(&handle).await;
        } else {
            until(&handle, "rows are copied", |s| s.progress.rows_copied > 0).await;
        }
        for (n, sql) in others.iter().enumerate() {
            mirror
                .change(&[&format!("UPDATE {{t}} SET a = a + 1 WHERE id % 7 = {n}"), &format!("DELETE FROM {{t}} WHERE id = {}", 100 + n)])
                .await;
            mirror.db.run(sql).await;
            mirror.change(&[&format!("INSERT INTO {{t}} VALUES ({}, {n}, 'new')", 2000 + n)]).await;
        }
        handle.control(manual());
        gate(&handle).await;
        mirror.change(&["UPDATE {t} SET b = 'after'"]).await;
        // The stored id becomes the present one, and then a successor takes the work up.
        let stored = "SELECT COUNT(*) FROM _t_ghc JOIN information_schema.INNODB_TABLES ON NAME = CONCAT(DATABASE(), '/t') \
                      WHERE kind = 'migration' AND JSON_EXTRACT(value, '$.original_id') = TABLE_ID";
        let end = Instant::now() + support::PATIENCE;
        while mirror.db.value::<u64>(stored).await == 0 {
            assert!(Instant::now() < end, "the new id is not stored");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        handle.stop();
        assert_eq!(join(handle).await, Outcome::Stopped);
        let handle = theseus::engine::start(mirror.db.spec("t", ALTER), manual());
        until(&handle, "the work is taken up", |s| s.resumed_count >= 1).await;
        finish(mirror, handle).await;
    }
}

/// TRUNCATE TABLE changes nothing but the rows: the copy begins again by itself, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_table_is_copied_anew() {
    for moment in ["copying", "gate"] {
        let mut mirror = ten_rows("emptied", &mysql_url()).await;
        let handle = theseus::engine::start(mirror.db.spec("t", ALTER), if moment == "gate" { manual() } else { throttled() });
        if moment == "gate" {
            gate(&handle).await;
        } else {
            until(&handle, "it follows the log", |s| s.phase == Phase::Copying).await;
        }
        mirror.db.run("TRUNCATE TABLE t; TRUNCATE TABLE m").await;
        mirror.change(&["INSERT INTO {t} VALUES (1, 2, 'three'), (500, 1, 'z')"]).await;
        let s = until(&handle, "it says so", |s| s.retrying.is_some()).await;
        let retrying = s.retrying.expect("just seen");
        assert_eq!(retrying.reason, Reason::TableTruncated, "{}", retrying.message);
        assert!(retrying.message.contains("TRUNCATE") && retrying.message.contains("starts over"), "{}", retrying.message);
        finish(mirror, handle).await;
    }
}

/// Rows in the log that have other columns than those that were read are never looked at, however the table came to have them: here by
/// DDL that is not in the log.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_other_columns_stop_the_stream() {
    let alters = [
        ("ALTER TABLE t ADD COLUMN x INT FIRST", "ALTER TABLE t DROP COLUMN x", "have 4 columns"),
        ("ALTER TABLE t MODIFY a BIGINT UNSIGNED", "ALTER TABLE t MODIFY a INT", "a different column 2"),
        ("ALTER TABLE t MODIFY a INT AFTER b", "ALTER TABLE t MODIFY a INT AFTER id", "a different column 2"),
    ];
    for (there, back, words) in alters {
        let mut mirror = ten_rows("columns", &mysql_url()).await;
        let handle = theseus::engine::start(mirror.db.spec("t", ALTER), manual());
        gate(&handle).await;
        mirror.change(&["UPDATE {t} SET b = 'before' WHERE id = 1"]).await;
        let mut other = mirror.db.connect().await;
        run(&mut other, &format!("SET SESSION sql_log_bin = 0; {there}; SET SESSION sql_log_bin = 1")).await;
        run(&mut other, "UPDATE t SET b = 'between' WHERE id = 2").await;
        run(&mut other, &format!("SET SESSION sql_log_bin = 0; {back}; SET SESSION sql_log_bin = 1")).await;
        match join(handle).await {
            Outcome::Failed { reason: Reason::DefinitionChanged, message } => assert!(message.contains(words), "{message}"),
            outcome => panic!("{there}: {outcome:?}"),
        }
        assert!(mirror.db.definition("t").await.contains("`a` int"), "not swapped");
        mirror.drop().await;
    }
}

/// A server that hides generated invisible primary keys: the table is migrated rightly all the same, or refused with what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_primary_key_costs_no_row() {
    let server = Server::start(&["--show-gipk-in-create-table-and-information-schema=OFF", "--sql-generate-invisible-primary-key=ON"]);
    for (create, writes) in [
        ("CREATE TABLE t (a INT NOT NULL, b INT); ALTER TABLE t ADD UNIQUE KEY a (a)", true),
        ("CREATE TABLE t (a INT NOT NULL, b INT); ALTER TABLE t ADD UNIQUE KEY a (a)", false),
        ("CREATE TABLE t (a INT, b INT)", true),
    ] {
        let mut db = Db::on(&server.url, "hidden").await;
        db.run(create).await;
        db.run(
            "INSERT INTO t (a, b) WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 900) SELECT i * 3, i FROM i",
        )
        .await;
        db.run("DELETE FROM t WHERE a % 2 = 0").await;
        let handle = theseus::engine::start(db.spec("t", "MODIFY b BIGINT"), manual());
        let mut watch = handle.watch();
        let reached =
            tokio::time::timeout(support::PATIENCE, watch.wait_for(|s| matches!(s.phase, Phase::AwaitingCutOver | Phase::Finished)));
        reached.await.expect("in time").expect("a snapshot");
        if writes {
            db.run("UPDATE t SET b = -b WHERE a % 5 = 0; DELETE FROM t WHERE a % 7 = 0; INSERT INTO t (a, b) VALUES (10000, 1)").await;
        }
        let wanted = db.rows("SELECT my_row_id, a, b FROM t ORDER BY my_row_id").await;
        handle.control(controls());
        match join(handle).await {
            Outcome::Succeeded => assert!(db.definition("t").await.contains("`b` bigint")),
            Outcome::Refused { reason: Reason::ServerNotSupported, message } => {
                assert!(
                    message.contains("my_row_id") && message.contains("show_gipk_in_create_table_and_information_schema=ON"),
                    "{message}"
                );
                assert_eq!(db.tables().await, ["t"]);
            }
            outcome => panic!("{create}: {outcome:?}"),
        }
        assert_eq!(db.rows("SELECT my_row_id, a, b FROM t ORDER BY my_row_id").await, wanted, "{create}");
        db.drop().await;
    }
}

/// Another session's DDL that waits for the same lock as the cut-over. Whoever came first: the server serves an exclusive request before
/// LOCK TABLES, so the engine gets its lock on a table that is not the same any more, with the DDL as the last thing in the log.
#[tokio::test(flavor = "multi_thread")]
async fn ddl_that_waits_beside_the_cut_over() {
    for (ahead, ddl) in [(true, "TRUNCATE TABLE t"), (true, "ALTER TABLE t ADD INDEX o (b)"), (false, "TRUNCATE TABLE t")] {
        let mut mirror = ten_rows("queue", &mysql_url()).await;
        let db = &mut mirror.db;
        let handle = theseus::engine::start(db.spec("t", ALTER), manual());
        gate(&handle).await;
        let mut blocker = db.connect().await;
        run(&mut blocker, "START TRANSACTION; SELECT * FROM t LIMIT 1").await;
        let mut other = db.connect().await;
        let name = db.name.clone();
        let waiting = format!(
            "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_SCHEMA = '{name}' AND OBJECT_NAME = 't' AND LOCK_STATUS = 'PENDING'"
        );
        let pending = async |db: &mut Db, n: u64| {
            let end = Instant::now() + support::PATIENCE;
            while db.value::<u64>(&waiting).await < n {
                assert!(Instant::now() < end, "nobody waits");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let approved = Controls { approved: true, lock_timeout: Duration::from_secs(20), ..manual() };
        if !ahead {
            handle.control(approved.clone());
            pending(db, 1).await;
        }
        let task = tokio::spawn(async move { other.query_drop(ddl).await });
        pending(db, if ahead { 1 } else { 2 }).await;
        if ahead {
            handle.control(approved);
            pending(db, 2).await;
        }
        run(&mut blocker, "COMMIT").await;
        let _ = task.await.expect("the task ends");
        match (join(handle).await, ddl.starts_with("TRUNCATE")) {
            (Outcome::Failed { reason: Reason::DefinitionChanged, .. }, false) => {
                assert!(db.definition("t").await.contains("`a` int"), "not swapped");
            }
            (Outcome::Succeeded, true) => {
                assert!(db.definition("t").await.contains("`a` bigint"), "copied anew, and swapped");
                assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 0, "what was emptied stays empty");
            }
            (outcome, _) => panic!("{ahead} {ddl}: {outcome:?}"),
        }
        mirror.drop().await;
    }
}

/// Rows of others on the ghost, and their DDL on it; at the gate and while rows are copied, also by an engine that took up the work.
#[tokio::test(flavor = "multi_thread")]
async fn writes_to_the_ghost_by_others_are_seen() {
    let zip = "SET SESSION binlog_transaction_compression=ON; UPDATE _t_gho SET b = 'zip' WHERE id = 3";
    for sql in [
        "UPDATE _t_gho SET b = 'damaged' WHERE id = 3",
        "DELETE FROM _t_gho",
        "INSERT INTO _t_gho (id) VALUES (1000)",
        zip,
        "TRUNCATE TABLE _t_gho",
        "ALTER TABLE _t_gho DROP COLUMN b",
    ] {
        for restart in [false, true] {
            let mut mirror = ten_rows("ghost", &mysql_url()).await;
            let spec = mirror.db.spec("t", ALTER);
            let mut handle = theseus::engine::start(spec.clone(), manual());
            gate(&handle).await;
            mirror.change(&["UPDATE {t} SET a = a + 1"]).await;
            if restart {
                drop(handle);
                handle = theseus::engine::start(spec, manual());
                until(&handle, "the work is taken up", |s| s.resumed_count >= 1).await;
                mirror.change(&["UPDATE {t} SET a = a + 1"]).await;
            }
            gate(&handle).await;
            until(&handle, "our own changes are no reason", |s| s.progress.changes_applied >= 10 && s.progress.backlog == 0).await;
            let mut other = mirror.db.connect().await;
            run(&mut other, sql).await;
            match join(handle).await {
                Outcome::Failed { reason: Reason::GhostWritten, message } => assert!(message.contains("_t_gho"), "{message}"),
                outcome => panic!("{sql}: {outcome:?}"),
            }
            assert!(mirror.db.definition("t").await.contains("`a` int"));
            mirror.drop().await;
        }
    }
}

/// What a process that runs one migration may have: code, stacks and all (kB). The kernel refuses it more.
const MEMORY: u64 = 128 << 10;

/// `theseus run` with little memory.
struct Small {
    child: Child,
    folder: tempfile::TempDir,
}

impl Small {
    fn start(db: &Db, alter: &str) -> Self {
        let server = support::address(&db.url);
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{username: '{}', password: '{}'}}\n---\n\
             apiVersion: theseus.dev/v1alpha1\nkind: MySQLServer\nmetadata: {{name: server}}\n\
             spec: {{host: '{}', port: {}, credentialsSecretRef: {{name: login}}}}\n---\n\
             apiVersion: theseus.dev/v1alpha1\nkind: SchemaMigration\nmetadata: {{name: change}}\n\
             spec:\n  target: {{serverRef: {{name: server}}}}\n  database: {}\n  table: t\n  alter: \"{alter}\"\n  algorithm: Copy\n  \
             oldTable: {{retention: 0s}}\n  cutOver: {{policy: Manual}}\n",
            server.username, server.password, server.host, server.port, db.name
        );
        std::fs::write(folder.path().join("migration.yaml"), text).expect("write the file");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file for what it says");
        let mut command = Command::new("sh");
        // RLIMIT_DATA: all that is private and writable, touched or not.
        command.args(["-c", "ulimit -d $0 && exec \"$@\"", &MEMORY.to_string(), env!("CARGO_BIN_EXE_theseus"), "run"]);
        command.arg("-f").arg(folder.path().join("migration.yaml")).arg("--socket").arg(folder.path().join("s"));
        command.env("TMPDIR", folder.path()).env_remove("THESEUS_PASSWORD").env("THESEUS_LOG", "warn").kill_on_drop(true);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("it again")).stderr(log).spawn().expect("start theseus");
        Self { child, folder }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("what it said")
    }

    /// Waits until a query says 1.
    async fn until(&mut self, db: &mut Db, what: &str, sql: &str) {
        let end = Instant::now() + Duration::from_secs(3600);
        while db.conn.query_first::<u64, _>(sql).await.ok().flatten() != Some(1) {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < end, "{what}: {ended:?}\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until it says something.
    async fn says(&mut self, words: &str) {
        let end = Instant::now() + Duration::from_secs(3600);
        while !self.said().contains(words) {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < end, "{words}: {ended:?}\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// kB: the peak of what it had in memory, and of what it might have had.
    fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().expect("it runs"))).expect("Linux");
        let of = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).expect("a line of it");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        (of("VmHWM:"), of("VmData:"))
    }

    /// Approves the swap, and waits for the end.
    async fn finish(mut self) {
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_theseus"));
        ctl.arg("ctl").arg("--socket").arg(self.folder.path().join("s")).arg("approve");
        let answer = ctl.output().await.expect("start theseus");
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        let end = tokio::time::timeout(Duration::from_secs(1800), self.child.wait()).await.expect("it ends").expect("a child");
        assert!(end.success(), "{end:?}\n{}", self.said());
    }
}

/// One transaction that changes more rows than memory has room for, even for their keys: it is applied in parts as it is read, by a
/// process that cannot have more memory however many they are, and by another one after it was killed in the middle. The keys are long, so
/// that fewer rows are enough, and only the server knows their order; `THESEUS_TEST_ROWS` for that many rows with short ones.
#[tokio::test(flavor = "multi_thread")]
async fn one_transaction_of_any_size_fits_into_memory() {
    let asked = std::env::var("THESEUS_TEST_ROWS").ok().and_then(|n| n.parse::<u64>().ok());
    let (rows, id, expression) = match asked {
        Some(rows) => (rows, "INT", "{n}"),
        None => (400_000, "VARCHAR(255) CHARACTER SET ascii", "CONCAT(REPEAT('k', 190), LPAD({n}, 10, '0'))"),
    };
    let id_of = |n: &str| expression.replace("{n}", n);
    let mut db = Db::new("huge").await;
    let began = Instant::now();
    db.run(&format!("CREATE TABLE t (id {id} PRIMARY KEY, n INT NOT NULL, a INT)")).await;
    db.run(&format!("INSERT INTO t VALUES ({}, 1, 1)", id_of("1"))).await;
    let mut there = 1;
    while there < rows {
        let more = there.min(rows - there);
        let next = format!("n + {there}");
        db.run(&format!("INSERT INTO t SELECT {}, {next}, {next} FROM t WHERE n <= {more}", id_of(&next))).await;
        there += more;
    }
    println!("{rows} rows are made after {:?}", began.elapsed());
    let mut first = Small::start(&db, ALTER);
    first.says("To swap the tables").await;
    println!("they are copied after {:?}; memory {:?} kB", began.elapsed(), first.memory());
    db.run("UPDATE t SET a = -a").await;
    println!("they are changed after {:?}", began.elapsed());
    let begun = format!("SELECT a < 0 FROM _t_gho WHERE id = {}", id_of("1"));
    let done = format!("SELECT a < 0 FROM _t_gho WHERE id = {}", id_of(&rows.to_string()));
    first.until(&mut db, "the first rows are applied", &begun).await;
    println!("the first are applied after {:?}; memory {:?} kB", began.elapsed(), first.memory());
    first.child.kill().await.expect("kill");
    assert_eq!(db.value::<u64>(&done).await, 0, "it was not in the middle of it");
    drop(first);
    let mut second = Small::start(&db, ALTER);
    second.until(&mut db, "the last rows are applied", &done).await;
    println!("the last are applied after {:?}; memory {:?} kB", began.elapsed(), second.memory());
    second.says("To swap the tables").await;
    println!("they are compared after {:?}; memory {:?} kB", began.elapsed(), second.memory());
    second.finish().await;
    assert!(db.definition("t").await.contains("`a` bigint"));
    assert_eq!(db.value::<u64>(&format!("SELECT COUNT(*) FROM t WHERE a = -n AND id = {}", id_of("n"))).await, rows);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, rows);
    println!("all is done after {:?}", began.elapsed());
    db.drop().await;
}

/// A plain migration has no notice to stumble over: its own DDL and rows are its own.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_statements_are_no_reason() {
    let mut db = Db::new("own").await;
    db.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT, KEY (a)); SET SESSION cte_max_recursion_depth = 100000").await;
    db.run("INSERT INTO t (a) WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 12000) SELECT i FROM i").await;
    db.run("INSERT INTO t VALUES (500000, 1); DELETE FROM t WHERE id = 500000").await;
    let controls = Controls { defer_indexes: theseus::engine::contract::spec::DeferIndexes::Always, ..controls() };
    assert_eq!(migrate(db.spec("t", "MODIFY a BIGINT, ADD KEY k (a, id)"), controls).await, Outcome::Succeeded);
    db.drop().await;
}
