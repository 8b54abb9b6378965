//! A migration from start to end and everything that may come in between: gate, throttle, pause, cancel, death, a second owner.
use crate::support;

use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::{Db, PATIENCE, PrivateServer, controls, join, migrate, soon, stands_still, until};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy, OldTable};

const ROWS: u64 = 20_000;

async fn table(prefix: &str) -> Db {
    filled(Db::new(prefix).await).await
}

async fn filled(mut db: Db) -> Db {
    db.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT NOT NULL, b VARCHAR(100), KEY (a))").await;
    db.run("SET SESSION cte_max_recursion_depth = 1000000").await;
    db.run(&format!("INSERT INTO t (a, b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT i, REPEAT('x', 50) FROM n")).await;
    db
}

fn manual() -> Controls {
    Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() }
}

/// Slow enough to be caught in the middle.
fn slow() -> Controls {
    Controls { target_chunk_time: Duration::from_millis(2), nice_ratio_percent: 1000, workers: 2, ..controls() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_opens_closes_and_opens_and_changes_still_flow() {
    let mut db = table("gate").await;
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), manual());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    db.run("UPDATE t SET b = 'changed' WHERE id = 7").await;
    db.run("DELETE FROM t WHERE id = 8").await;
    db.run("UPDATE t SET id = 100000 WHERE id = 9").await;
    until(&handle, "the changes are applied", |s| s.progress.changes_applied >= 4 && s.progress.backlog == 0).await;
    // The ghost is current while the gate is closed.
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM _t_gho WHERE b = 'changed' AND id = 7").await, 1);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM _t_gho WHERE id IN (8, 9)").await, 0);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM _t_gho WHERE id = 100000").await, 1);
    // An open transaction keeps the approved cut-over from happening; the approval is taken back meanwhile.
    let mut blocker = db.connect().await;
    Queryable::query_drop(&mut blocker, "START TRANSACTION; SELECT * FROM t WHERE id = 1 FOR UPDATE").await.expect("block");
    handle.control(Controls { approved: true, lock_timeout: Duration::from_secs(1), ..manual() });
    let s =
        until(&handle, "an attempt fails or is not made", |s| s.cut_over.last_failure.is_some() || s.cut_over.blocked_by.is_some()).await;
    assert!(
        s.cut_over.locked.is_none_or(|l| l < Duration::from_secs(1) + soon(Duration::from_millis(500))),
        "clients waited {:?}",
        s.cut_over.locked
    );
    handle.control(manual());
    Queryable::query_drop(&mut blocker, "ROLLBACK").await.expect("unblock");
    until(&handle, "the gate is closed again", |s| s.phase == Phase::AwaitingCutOver).await;
    db.run("INSERT INTO t (a, b) VALUES (-1, 'late')").await;
    handle.control(Controls { approved: true, ..manual() });
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.tables().await, ["t"]);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t WHERE a = -1").await, 1);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttle_stops_copying_within_a_second_while_changes_flow() {
    let mut db = table("throttle").await;
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), slow());
    until(&handle, "rows are copied", |s| s.progress.rows_copied > 0).await;
    handle.control(Controls { throttled_by_user: true, ..slow() });
    let asked = Instant::now();
    let s = until(&handle, "the throttle is told", |s| s.throttle.is_some()).await;
    assert!(asked.elapsed() < soon(Duration::from_secs(1)), "{:?}", asked.elapsed());
    assert_eq!(s.throttle.map(|t| t.reason), Some("User"));
    let copied = stands_still(&handle).await;
    assert!(copied < ROWS, "the test is of no use when the copy is over");
    // A row that is copied already: its change must arrive while copying stands still.
    db.run("UPDATE t SET b = 'flows' WHERE id = 1").await;
    until(&handle, "the change is applied", |s| s.progress.changes_seen >= 1 && s.progress.backlog == 0).await;
    assert_eq!(db.value::<String>("SELECT b FROM _t_gho WHERE id = 1").await, "flows");
    assert_eq!(until(&handle, "a look", |_| true).await.progress.rows_copied, copied, "nothing was copied meanwhile");
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.value::<String>("SELECT b FROM t WHERE id = 1").await, "flows");
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pausing_releases_connections_and_resuming_repeats_little() {
    let mut db = table("pause").await;
    // An account of its own tells the migration's sessions from those of the tests beside it.
    let account = db.name.clone();
    db.run(&format!("CREATE USER '{account}'@'%' IDENTIFIED BY 'secretword'")).await;
    db.run(&format!("GRANT ALL ON *.* TO '{account}'@'%'")).await;
    let mut spec = db.spec("t", "MODIFY a BIGINT NOT NULL");
    (spec.server.username, spec.server.password) = (account.clone(), "secretword".into());
    let handle = theseus::engine::start(spec, slow());
    until(&handle, "rows are copied", |s| s.progress.rows_copied > 2000).await;
    let sessions = format!("SELECT COUNT(*) FROM performance_schema.processlist WHERE USER = '{account}'");
    assert!(db.value::<u64>(&sessions).await >= 5, "stream, lock, copy and flush have sessions");
    handle.control(Controls { paused: true, ..slow() });
    let s = until(&handle, "it is paused", |s| s.phase == Phase::Paused).await;
    let copied = s.progress.rows_copied;
    // A closed connection leaves the list of the server a moment later.
    let end = Instant::now() + PATIENCE;
    while db.value::<u64>(&sessions).await > 0 {
        assert!(Instant::now() < end, "connections are kept while it is paused");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    db.run("UPDATE t SET b = 'while paused' WHERE id <= 100").await;
    handle.control(slow());
    let s = until(&handle, "it goes on", |s| s.resumed_count >= 1).await;
    assert!(s.progress.rows_copied >= copied, "recorded chunks are not repeated: {} < {copied}", s.progress.rows_copied);
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t WHERE b = 'while paused'").await, 100);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS);
    db.run(&format!("DROP USER '{account}'@'%'")).await;
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_at_each_phase_leaves_nothing_and_the_original_untouched() {
    let mut db = table("cancel").await;
    let definition = db.definition("t").await;
    let phases: [(&str, fn(&theseus::engine::contract::snapshot::Snapshot) -> bool); 4] = [
        ("at once", |_| true),
        ("validated", |s| s.validated),
        ("copying", |s| s.progress.rows_copied > 0),
        ("awaiting the cut-over", |s| s.phase == Phase::AwaitingCutOver),
    ];
    for (what, condition) in phases {
        let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), manual());
        until(&handle, what, condition).await;
        handle.control(Controls { cancel: true, ..manual() });
        assert_eq!(join(handle).await, Outcome::Cancelled, "{what}");
        assert_eq!(db.tables().await, ["t"], "{what}");
        assert_eq!(db.definition("t").await, definition, "{what}");
    }
    db.drop().await;
}

/// The engine dies without a word (its tasks are aborted, its connections dropped) at many moments; a new one ends the work.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_is_followed_by_one_that_goes_on() {
    let mut db = table("death").await;
    let spec = db.spec("t", "MODIFY a BIGINT NOT NULL, ADD KEY (b(10))");
    let mut died = 0;
    let mut expected = Vec::new();
    for round in 0..12_u64 {
        let handle = theseus::engine::start(spec.clone(), Controls { cut_over_policy: CutOverPolicy::Manual, ..slow() });
        let moment = Duration::from_millis(30 + 37 * round);
        db.run(&format!("UPDATE t SET b = 'round {round}' WHERE id % 97 = {round}")).await;
        expected.push(round);
        tokio::time::sleep(moment).await;
        drop(handle);
        died += 1;
    }
    assert_eq!(died, 12);
    assert_eq!(migrate(spec, controls()).await, Outcome::Succeeded);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS);
    for round in expected {
        assert_eq!(
            db.value::<u64>(&format!("SELECT COUNT(*) FROM t WHERE b = 'round {round}'")).await,
            db.value::<u64>(&format!("SELECT COUNT(*) FROM t WHERE id % 97 = {round}")).await
        );
    }
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// A graceful stop keeps the work.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_keeps_the_work() {
    let mut db = table("stop").await;
    let spec = db.spec("t", "MODIFY a BIGINT NOT NULL");
    let handle = theseus::engine::start(spec.clone(), slow());
    until(&handle, "rows are copied", |s| s.progress.rows_copied > 1000).await;
    let asked = Instant::now();
    handle.stop();
    assert_eq!(join(handle).await, Outcome::Stopped);
    assert!(asked.elapsed() < soon(Duration::from_secs(6)), "a stop is bounded");
    assert_eq!(db.tables().await, ["_t_ghc", "_t_gho", "t"]);
    let handle = theseus::engine::start(spec, controls());
    until(&handle, "the work is taken up", |s| s.resumed_count >= 1 || s.phase == Phase::Finished).await;
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS);
    db.drop().await;
}

/// Two engines on one migration: the second waits for the lock; a table of another migration is not touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_engine_waits_and_another_migration_is_refused() {
    let db = table("second").await;
    let first = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), manual());
    until(&first, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let second = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), controls());
    let s = until(&second, "it is kept out", |s| s.retrying.is_some()).await;
    assert_eq!(s.retrying.map(|r| r.reason), Some(Reason::LockHeldElsewhere));
    drop(second);
    first.stop();
    assert_eq!(join(first).await, Outcome::Stopped);
    let mut other = db.spec("t", "ADD c INT");
    other.id = "another".into();
    match migrate(other, controls()).await {
        Outcome::Refused { reason: Reason::NameTaken, message } => assert!(message.contains("_t_gho"), "{message}"),
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(migrate(db.spec("t", "MODIFY a BIGINT NOT NULL"), controls()).await, Outcome::Succeeded);
    db.drop().await;
}

/// The epoch keeps out an engine that lost the lock without noticing: its next transaction fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_owner_fences_the_older_one() {
    let mut db = table("fence").await;
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), slow());
    until(&handle, "rows are copied", |s| s.progress.rows_copied > 0).await;
    db.run("UPDATE _t_ghc SET value = CAST(value AS UNSIGNED) + 1 WHERE kind = 'owner'").await;
    match join(handle).await {
        Outcome::Failed { reason: Reason::Fenced, .. } => {}
        outcome => panic!("{outcome:?}"),
    }
    let rows = db.value::<u64>("SELECT COUNT(*) FROM _t_gho").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM _t_gho").await, rows, "nothing is written after the fence");
    db.drop().await;
}

/// Somebody else's DDL: the migration fails with what happened and never swaps.
#[tokio::test(flavor = "multi_thread")]
async fn a_definition_changed_by_others_is_never_swapped() {
    for ddl in ["ALTER TABLE t ADD COLUMN other INT", "ALTER TABLE t ADD INDEX other (b)"] {
        let mut db = table("ddl").await;
        let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), manual());
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        db.run(ddl).await;
        let definition = db.definition("t").await;
        match join(handle).await {
            Outcome::Failed { reason: Reason::DefinitionChanged, .. } => {}
            outcome => panic!("{ddl}: {outcome:?}"),
        }
        assert_eq!(db.definition("t").await, definition, "{ddl}");
        // A retry starts anew, on the table as it is now.
        assert_eq!(migrate(db.spec("t", "MODIFY a BIGINT NOT NULL"), controls()).await, Outcome::Succeeded, "{ddl}");
        assert_eq!(db.tables().await, ["t"]);
        db.drop().await;
    }
}

/// The old table stays until its time is over, and only its own migration's clean-up drops it.
#[tokio::test(flavor = "multi_thread")]
async fn the_old_table_is_kept_and_dropped_by_its_own_clean_up() {
    let mut db = table("keep").await;
    let spec = db.spec("t", "MODIFY a BIGINT NOT NULL");
    assert_eq!(migrate(spec.clone(), Controls { old_table: OldTable::Keep, ..controls() }).await, Outcome::Succeeded);
    assert_eq!(db.tables().await, ["_t_del", "_t_ghc", "t"]);
    let mut other = spec.clone();
    other.id = "another".into();
    theseus::engine::clean_up(&other, true).await.expect("clean up");
    assert_eq!(db.tables().await, ["_t_del", "_t_ghc", "t"], "another migration's clean-up leaves it");
    theseus::engine::clean_up(&spec, true).await.expect("clean up");
    assert_eq!(db.tables().await, ["t"]);
    // Without a word about the old table it stays, and only what proves whose it was goes.
    let spec = db.spec("t", "MODIFY a INT NOT NULL");
    assert_eq!(migrate(spec.clone(), Controls { old_table: OldTable::Keep, ..controls() }).await, Outcome::Succeeded);
    theseus::engine::clean_up(&spec, false).await.expect("clean up");
    assert_eq!(db.tables().await, ["_t_del", "t"]);
    theseus::engine::clean_up(&spec, true).await.expect("clean up");
    assert_eq!(db.tables().await, ["_t_del", "t"]);
    db.drop().await;
}

/// A migration that waits for a person on a server where nothing happens: it sends what keeps its connections and its lock, and nothing else,
/// and tells nothing that did not change. As soon as something does happen it is awake.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_at_its_gate_lets_a_quiet_server_be() {
    // Of its own: on another one other tests write.
    let server = PrivateServer::start(&[]).await;
    let mut db = filled(Db::on(&server.url, "quiet").await).await;
    let user = "quiet";
    let url = db.documented(user, "pw").await;
    let mut spec = db.spec("t", "MODIFY a BIGINT NOT NULL");
    spec.server = support::address(&url);
    // By no session of the account: what it counts is not what is counted.
    let sent = "SELECT EVENT_NAME, COUNT_STAR FROM performance_schema.events_statements_summary_by_user_by_event_name \
                WHERE USER = '{user}' AND COUNT_STAR > 0 AND EVENT_NAME <> 'statement/com/Ping' ORDER BY EVENT_NAME"
        .replace("{user}", user);
    let handle = theseus::engine::start(spec, manual());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    // Ten seconds without a change and the readings stop. The tables are compared less and less often: the pauses are twice as long each time.
    let mut watch = handle.watch();
    let begun = Instant::now();
    loop {
        let before: BTreeMap<String, u64> = db.conn.query(&sent).await.expect("counts").into_iter().collect();
        watch.mark_unchanged();
        let (mut wakes, began) = (0, Instant::now());
        while began.elapsed() < Duration::from_secs(10) {
            if tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_ok() {
                wakes += 1;
            }
        }
        let mut added: BTreeMap<String, u64> = db.conn.query(&sent).await.expect("counts").into_iter().collect();
        let seconds = began.elapsed().as_secs();
        added.retain(|name, count| {
            *count -= before.get(name).copied().unwrap_or(0);
            *count > 0
        });
        println!("in {seconds} s: {added:?}, {wakes} changes of the snapshot");
        let kept_alive = added.remove("statement/sql/do").unwrap_or(0);
        // A look at the end of the log, once a minute, keeps another connection.
        added.remove("statement/sql/show_binary_log_status");
        added.remove("statement/sql/show_replicas");
        if added.is_empty() && kept_alive <= seconds && wakes <= seconds * 2 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(240), "it never came to rest: {added:?}, {kept_alive} DO, {wakes} wakes");
    }
    // Awake at once.
    db.run("UPDATE t SET b = 'changed' WHERE id = 7").await;
    until(&handle, "the change is applied", |s| s.progress.changes_applied >= 1 && s.progress.backlog == 0).await;
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM _t_gho WHERE b = 'changed'").await, 1);
    handle.control(Controls { approved: true, ..manual() });
    assert_eq!(join(handle).await, Outcome::Succeeded);
    db.drop().await;
    server.stop().await;
}
