//! Modes ExecuteOnReplica and TestOnReplica, on a real replica that applies what a writer does to its primary.
use crate::{proxy, scribe, support};

use mysql_async::prelude::Queryable;
use proxy::{Hold, Proxy, plain};
use scribe::{Scribe, Watcher, assert_account, fill};
use std::time::Duration;
use support::{Db, PrivateServer, address, connect, controls, join, migrate, until};
use theseus::engine::Handle;
use theseus::engine::contract::hook::{FailurePolicy, Hook, Moment, Target};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase, Snapshot};
use theseus::engine::contract::spec::{
    Algorithm, Controls, CriticalLoadAction, CutOverPolicy, DeletionPolicy, Limits, MigrationSpec, Mode, OldTable,
};
use theseus::engine::outside::hooks::ASK_AGAIN;

const ROWS: u64 = 4000;
/// Rows of the primary can still be applied afterwards.
const ADD: &str = "ADD COLUMN c INT NOT NULL DEFAULT 7, ADD INDEX (c)";

fn manual(approved: bool) -> Controls {
    Controls { workers: 2, target_chunk_time: Duration::from_millis(50), cut_over_policy: CutOverPolicy::Manual, approved, ..controls() }
}

/// A primary and its replica, which is read only for accounts that may not pass that, with a filled table.
struct Pair {
    primary: PrivateServer,
    replica: PrivateServer,
    /// On the primary.
    db: Db,
}

impl Pair {
    async fn new() -> Self {
        let primary = PrivateServer::start(&[]).await;
        let replica = PrivateServer::replica_of(&primary).await;
        connect(&replica.url).await.query_drop("SET GLOBAL super_read_only = OFF").await.expect("let accounts pass read_only");
        let mut db = Db::on(&primary.url, "onreplica").await;
        fill(&mut db, ROWS).await;
        let pair = Self { primary, replica, db };
        pair.caught_up().await;
        pair
    }

    fn spec(&self, mode: Mode) -> MigrationSpec {
        MigrationSpec { mode, server: address(&self.replica.url), algorithm: Algorithm::Copy, ..self.db.spec("t", ADD) }
    }

    /// The same database on the replica.
    async fn there(&self) -> Db {
        let mut conn = connect(&self.replica.url).await;
        conn.query_drop(format!("USE `{}`", self.db.name)).await.expect("use the database");
        Db { conn, url: self.replica.url.clone(), name: self.db.name.clone() }
    }

    /// Waits until the replica has applied all that the primary has: that it still can is proven by that.
    async fn caught_up(&self) {
        let set: Option<String> = connect(&self.primary.url).await.query_first("SELECT @@global.gtid_executed").await.expect("read GTIDs");
        let sql = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{}', 180)", set.unwrap_or_default());
        let waited: Option<u8> = connect(&self.replica.url).await.query_first(sql).await.expect("wait for the replica");
        assert_eq!(waited, Some(0), "the replica applies what the primary has");
    }

    /// Nothing on the replica looks like a transaction of its own.
    async fn assert_no_errant_transaction(&self) {
        let own: Option<u8> = connect(&self.replica.url)
            .await
            .query_first("SELECT @@global.gtid_executed LIKE CONCAT('%', @@server_uuid, '%')")
            .await
            .expect("read GTIDs");
        assert_eq!(own, Some(0), "nothing of it is in the replica's binary log");
    }

    async fn applying(&self) -> bool {
        let row: mysql_async::Row = connect(&self.replica.url).await.query_first("SHOW REPLICA STATUS").await.expect("ask").expect("a row");
        row.get::<String, _>("Replica_SQL_Running").expect("a column") == "Yes"
    }

    async fn assert_untouched_but_for(&self, tables: &[&str]) {
        let mut there = self.there().await;
        assert!(!there.definition("t").await.contains("`c`"), "the table is as it was");
        assert_eq!(there.tables().await, tables);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_changed_alone() {
    let mut pair = Pair::new().await;
    let scribe = Scribe::start(&pair.primary.url, &pair.db.name, ROWS, fastrand::u64(..));
    let watcher = Watcher::start(&pair.replica.url, &pair.db.name);
    assert_eq!(migrate(pair.spec(Mode::ExecuteOnReplica), manual(true)).await, Outcome::Succeeded);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let account = scribe.account().await;
    watcher.judge("a replica alone").await;
    pair.caught_up().await;
    pair.assert_no_errant_transaction().await;
    let mut there = pair.there().await;
    assert_account(&mut there, &account, "on the replica").await;
    assert!(there.definition("t").await.contains("`c` int NOT NULL DEFAULT '7'"));
    assert_eq!(there.value::<u64>("SELECT COUNT(*) FROM t WHERE c = 7").await, account.len() as u64);
    assert_eq!(there.tables().await, ["t"]);
    assert_account(&mut pair.db, &account, "on the primary").await;
    assert!(!pair.db.definition("t").await.contains("`c`"), "the primary is as it was");
    assert_eq!(pair.db.tables().await, ["t"]);
}

/// The server makes it itself, and that is not in the log either.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_changed_alone_without_a_copy() {
    let mut pair = Pair::new().await;
    let spec = MigrationSpec {
        algorithm: Algorithm::Auto,
        alter: "ADD COLUMN c INT NOT NULL DEFAULT 7".into(),
        ..pair.spec(Mode::ExecuteOnReplica)
    };
    assert_eq!(migrate(spec, manual(true)).await, Outcome::Succeeded);
    pair.db.run("INSERT INTO t (id, v) VALUES (100000, 1)").await;
    pair.caught_up().await;
    pair.assert_no_errant_transaction().await;
    let mut there = pair.there().await;
    assert_eq!(there.value::<u64>("SELECT c FROM t WHERE id = 100000").await, 7);
    assert!(!pair.db.definition("t").await.contains("`c`"));
}

/// Without GTIDs nothing but the row locks of the applier tells what is visible: our commits are not in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_changed_alone_without_gtids() {
    let off = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"];
    let (primary, replica) = (PrivateServer::start(&off).await, PrivateServer::start(&off).await);
    let end = async |server: &PrivateServer| -> (String, u64) {
        let row: mysql_async::Row = connect(&server.url).await.query_first("SHOW BINARY LOG STATUS").await.expect("ask").expect("a row");
        (row.get(0).expect("a file"), row.get(1).expect("a position"))
    };
    let ((file, position), source) = (end(&primary).await, address(&primary.url));
    let mut there = connect(&replica.url).await;
    there
        .query_drop(format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='{}', SOURCE_PASSWORD='{}', \
             SOURCE_LOG_FILE='{file}', SOURCE_LOG_POS={position}, GET_SOURCE_PUBLIC_KEY=1; START REPLICA",
            source.port, source.username, source.password
        ))
        .await
        .expect("replicate");
    let mut db = Db::on(&primary.url, "onreplica").await;
    fill(&mut db, ROWS).await;
    let caught_up = async |conn: &mut mysql_async::Conn| {
        let (file, position) = end(&primary).await;
        let sql = format!("SELECT SOURCE_POS_WAIT('{file}', {position}, 180)");
        let waited: Option<Option<i64>> = conn.query_first(sql).await.expect("wait for the replica");
        assert!(waited.flatten().is_some_and(|n| n >= 0), "the replica applies what the primary has: {waited:?}");
    };
    caught_up(&mut there).await;
    let (_, before) = end(&replica).await;
    let spec =
        MigrationSpec { mode: Mode::ExecuteOnReplica, server: address(&replica.url), algorithm: Algorithm::Copy, ..db.spec("t", ADD) };
    // Nobody writes: the log of the replica does not grow by what is done there.
    let test = MigrationSpec { mode: Mode::TestOnReplica, ..spec.clone() };
    assert_eq!(migrate(test, Controls { old_table: OldTable::DropNow, ..manual(true) }).await, Outcome::Tested);
    assert_eq!(end(&replica).await.1, before, "nothing of it is in the replica's binary log");
    let scribe = Scribe::start(&primary.url, &db.name, ROWS, fastrand::u64(..));
    assert_eq!(migrate(spec, manual(true)).await, Outcome::Succeeded);
    let account = scribe.account().await;
    caught_up(&mut there).await;
    there.query_drop(format!("USE `{}`", db.name)).await.expect("use the database");
    let mut there = Db { conn: there, url: replica.url.clone(), name: db.name.clone() };
    assert_account(&mut there, &account, "without GTIDs").await;
    assert!(there.definition("t").await.contains("`c` int NOT NULL DEFAULT '7'"));
}

/// What makes the replica late holds the copy: its own lag is what counts there.
#[tokio::test(flavor = "multi_thread")]
async fn the_replicas_own_lag_holds_the_copy() {
    let mut pair = Pair::new().await;
    let delay = async |seconds: u8| {
        let sql = format!("STOP REPLICA SQL_THREAD; CHANGE REPLICATION SOURCE TO SOURCE_DELAY={seconds}; START REPLICA SQL_THREAD");
        connect(&pair.replica.url).await.query_drop(sql).await.expect("a delay");
    };
    delay(10).await;
    pair.db.run("UPDATE t SET v = v + 1 WHERE id < 10").await;
    // It stays late, however long the engine takes until it looks.
    let mut writer = connect(&pair.primary.url).await;
    let touch = format!("UPDATE `{}`.t SET pad = UUID() WHERE id = 100", pair.db.name);
    let writing = tokio::spawn(async move {
        loop {
            writer.query_drop(&touch).await.expect("write");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    // Until the replica is late by whole seconds: an engine that is quick would be done before.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let limits = Limits { max_replica_lag: Some(Duration::from_secs(1)), ..controls().limits };
    let handle = theseus::engine::start(pair.spec(Mode::ExecuteOnReplica), Controls { limits, ..manual(true) });
    let s = until(&handle, "it is held by the lag", |s| s.throttle.as_ref().is_some_and(|t| t.reason == "ReplicaLag")).await;
    let detail = s.throttle.map(|t| t.detail).unwrap_or_default();
    assert!(detail.contains(&address(&pair.replica.url).port.to_string()), "{detail}");
    writing.abort();
    delay(0).await;
    assert_eq!(join(handle).await, Outcome::Succeeded);
    pair.caught_up().await;
    assert_eq!(pair.there().await.value::<u64>("SELECT COUNT(*) FROM t WHERE v = 1").await, 9);
}

/// A definition without the counter, which the rows of the meantime have moved.
fn uncounted(definition: &str) -> String {
    definition.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT=")).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_compares_at_rest_and_leaves_both_tables() {
    let mut pair = Pair::new().await;
    let before = pair.db.definition("t").await;
    let scribe = Scribe::start(&pair.primary.url, &pair.db.name, ROWS, fastrand::u64(..));
    let watcher = Watcher::start(&pair.replica.url, &pair.db.name);
    let handle = theseus::engine::start(pair.spec(Mode::TestOnReplica), Controls { old_table: OldTable::Keep, ..manual(false) });
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    assert!(pair.applying().await, "nothing rests before the gate is open");
    // So that what the new table has can be compared with what the old one still has afterwards.
    scribe.pause().await;
    pair.caught_up().await;
    let mut snapshots = handle.watch();
    // Time for one attempt, however slow the machine is: a second one would stop the applier a second time.
    handle.control(Controls { old_table: OldTable::Keep, lock_timeout: support::PATIENCE, ..manual(true) });
    assert_eq!(join(handle).await, Outcome::Tested);
    let last = snapshots.borrow_and_update().clone();
    let said: Vec<&str> = last.notices.iter().map(|n| n.reason).filter(|r| r.starts_with("Replication") || *r == "Swapped").collect();
    assert_eq!(said, ["ReplicationStopped", "Swapped", "ReplicationStarted"]);
    assert!(last.cut_over.locked.is_some_and(|locked| locked > Duration::ZERO), "it tells how long clients would wait");
    assert!(pair.applying().await, "the replica applies changes again");
    let mut there = pair.there().await;
    assert_eq!(there.tables().await, ["_t_rghc", "_t_rgho", "t"]);
    assert_eq!(uncounted(&there.definition("t").await), uncounted(&before));
    assert!(there.definition("_t_rgho").await.contains("`c` int NOT NULL DEFAULT '7'"));
    let different = "SELECT COUNT(*) FROM t LEFT JOIN _t_rgho g USING (id, v, pad) WHERE g.id IS NULL";
    assert_eq!(there.value::<u64>(different).await, 0);
    assert_eq!(there.value::<u64>("SELECT COUNT(*) FROM _t_rgho").await, there.value::<u64>("SELECT COUNT(*) FROM t").await);
    scribe.resume(&pair.primary.url);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let account = scribe.account().await;
    watcher.judge("a test").await;
    pair.caught_up().await;
    pair.assert_no_errant_transaction().await;
    assert_account(&mut there, &account, "after the test").await;
    // Made again it has nothing to do; told to drop what is left, it does.
    let again = migrate(pair.spec(Mode::TestOnReplica), Controls { old_table: OldTable::DropNow, ..manual(false) }).await;
    assert_eq!(again, Outcome::Tested);
    pair.assert_untouched_but_for(&["t"]).await;
}

/// A row that differs silently is found while everything rests, and replication goes on all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_fails_starts_replication_again() {
    let pair = Pair::new().await;
    let proxy = Proxy::start(address(&pair.replica.url).port).await;
    let handle = theseus::engine::start(plain(pair.spec(Mode::TestOnReplica), &proxy), manual(false));
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let mut stopped = proxy.trap("STOP REPLICA SQL_THREAD", Hold::Answer);
    handle.control(manual(true));
    stopped.sprung().await;
    let mut there = pair.there().await;
    // Again and again, so that the repair does not help.
    there.run("SET sql_log_bin = 0; CREATE TRIGGER ghost_is_wrong BEFORE INSERT ON _t_rgho FOR EACH ROW SET NEW.v = NEW.v + 1; UPDATE _t_rgho SET v = v + 1 WHERE id = 17").await;
    stopped.release();
    match join(handle).await {
        Outcome::Failed { reason: Reason::VerificationFailed, message } => assert!(message.contains("17"), "{message}"),
        outcome => panic!("{outcome:?}"),
    }
    assert!(pair.applying().await, "the replica applies changes again");
    pair.caught_up().await;
}

/// What a test leaves, and its names, are not in the way of what comes from the primary: the real change.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_not_in_the_way_of_the_real_change() {
    let mut pair = Pair::new().await;
    pair.db.run("ALTER TABLE t ADD CHECK (v < 18446744073709551615), ADD CONSTRAINT sane CHECK (v >= 0)").await;
    pair.caught_up().await;
    assert_eq!(migrate(pair.spec(Mode::TestOnReplica), Controls { old_table: OldTable::Keep, ..manual(true) }).await, Outcome::Tested);
    let real = MigrationSpec { server: address(&pair.primary.url), ..pair.spec(Mode::Execute) };
    assert_eq!(migrate(real, Controls { old_table: OldTable::Keep, ..manual(true) }).await, Outcome::Succeeded);
    pair.caught_up().await;
    let mut there = pair.there().await;
    assert_eq!(there.tables().await, ["_t_del", "_t_ghc", "_t_rghc", "_t_rgho", "t"]);
    assert!(there.definition("t").await.contains("`c` int NOT NULL DEFAULT '7'"));
    theseus::engine::clean_up(&pair.spec(Mode::TestOnReplica), true).await.expect("drop what the test left");
    assert_eq!(there.tables().await, ["_t_del", "_t_ghc", "t"]);
    // And when it comes while a test is at work, there is nothing to test any more.
    theseus::engine::clean_up(&MigrationSpec { server: address(&pair.primary.url), ..pair.spec(Mode::Execute) }, true)
        .await
        .expect("drop the old table");
    let again = |mode| MigrationSpec { alter: "ADD COLUMN d INT NOT NULL DEFAULT 7".into(), ..pair.spec(mode) };
    let test = theseus::engine::start(again(Mode::TestOnReplica), manual(false));
    until(&test, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let real = MigrationSpec { server: address(&pair.primary.url), ..again(Mode::Execute) };
    assert_eq!(migrate(real, manual(true)).await, Outcome::Succeeded);
    match join(test).await {
        Outcome::Failed { reason: Reason::DefinitionChanged, .. } => {}
        outcome => panic!("{outcome:?}"),
    }
    pair.caught_up().await;
    pair.assert_no_errant_transaction().await;
}

/// Waits for the gate, and until the comparison in the background has just ended a pass: the next statement of one that a test sees is
/// that of the comparison at rest.
async fn gate_between_passes(handle: &Handle) {
    let compared = |s: &Snapshot| s.verification.as_ref().map_or(0, |v| v.chunks_checked);
    let s = until(handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    until(handle, "a pass has ended", |now| compared(now) > compared(&s)).await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    /// The engine is gone, and so is all that it could have done; another one comes.
    Successor,
    /// The object is deleted.
    CleanUp,
    /// It is cancelled, and the tables are to stay.
    CancelledOrphan,
    /// The connection breaks.
    Torn,
    /// The approval is taken back.
    GateClosed,
    /// A person throttles.
    Throttled,
    /// A transaction has read the table and stays open.
    Blocked,
    /// The load is critical, and nothing is to be written.
    Hibernating,
}

/// While the applier rests, the worst happens: it is started again, by whoever comes.
async fn while_it_rests(strike: Strike) {
    let pair = Pair::new().await;
    let proxy = Proxy::start(address(&pair.replica.url).port).await;
    let spec = plain(pair.spec(Mode::TestOnReplica), &proxy);
    let handle = theseus::engine::start(spec.clone(), manual(false));
    gate_between_passes(&handle).await;
    let mut stopped = proxy.trap("STOP REPLICA SQL_THREAD", Hold::Answer);
    handle.control(manual(true));
    stopped.sprung().await;
    // The statement is on its way; its answer is held.
    let end = std::time::Instant::now() + support::PATIENCE;
    while pair.applying().await {
        assert!(std::time::Instant::now() < end, "{strike:?}: it rests");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    match strike {
        Strike::Successor => {
            // As if its process were killed.
            drop(handle);
            drop(stopped);
            let next = theseus::engine::start(pair.spec(Mode::TestOnReplica), manual(false));
            until(&next, "the gate is reached again", |s| s.phase == Phase::AwaitingCutOver).await;
            assert!(pair.applying().await, "{strike:?}");
            next.control(manual(true));
            assert_eq!(join(next).await, Outcome::Tested);
        }
        Strike::CleanUp => {
            drop(handle);
            drop(stopped);
            let end = std::time::Instant::now() + support::PATIENCE;
            while let Err(error) = theseus::engine::clean_up(&pair.spec(Mode::TestOnReplica), true).await {
                assert!(error.is_transient() && std::time::Instant::now() < end, "{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            pair.assert_untouched_but_for(&["t"]).await;
        }
        Strike::CancelledOrphan => {
            drop(handle);
            drop(stopped);
            let orphan = MigrationSpec { deletion_policy: DeletionPolicy::Orphan, ..pair.spec(Mode::TestOnReplica) };
            assert_eq!(migrate(orphan, Controls { cancel: true, ..manual(false) }).await, Outcome::Cancelled);
            pair.assert_untouched_but_for(&["_t_rghc", "_t_rgho", "t"]).await;
        }
        Strike::Torn => {
            stopped.tear();
            assert_eq!(join(handle).await, Outcome::Tested);
        }
        Strike::Hibernating => {
            let critical_load = std::collections::BTreeMap::from([("Uptime".to_owned(), 1)]);
            let (critical_load_action, hibernation) = (CriticalLoadAction::Hibernate, Duration::from_secs(1));
            let limits = Limits { critical_load, critical_load_action, hibernation, ..controls().limits };
            // The comparison takes its time.
            let mut comparing = proxy.trap("IFNULL(BIT_XOR", Hold::Request);
            handle.control(Controls { limits, ..manual(true) });
            stopped.release();
            comparing.sprung().await;
            until(&handle, "replication goes on", |s| s.notices.iter().any(|n| n.reason == "ReplicationStarted")).await;
            until(&handle, "it sleeps", |s| s.throttle.as_ref().is_some_and(|t| t.reason == "CriticalLoad")).await;
            comparing.release();
            handle.control(manual(true));
            assert_eq!(join(handle).await, Outcome::Tested);
        }
        Strike::GateClosed | Strike::Throttled | Strike::Blocked => {
            let mut reader = pair.there().await;
            match strike {
                Strike::GateClosed => handle.control(manual(false)),
                Strike::Throttled => handle.control(Controls { throttled_by_user: true, ..manual(true) }),
                _ => reader.run("BEGIN; SELECT COUNT(*) FROM t").await,
            }
            stopped.release();
            let s = until(&handle, "replication goes on", |s| s.notices.iter().any(|n| n.reason == "ReplicationStarted")).await;
            assert!(s.notices.iter().all(|n| n.reason != "Swapped"), "{:?}", s.notices);
            assert!(pair.applying().await, "{strike:?}");
            reader.run("COMMIT").await;
            handle.control(manual(true));
            assert_eq!(join(handle).await, Outcome::Tested);
        }
    }
    assert!(pair.applying().await, "{strike:?}: the replica applies changes again");
    pair.caught_up().await;
    pair.assert_no_errant_transaction().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_never_stays_stopped_when_the_engine_dies() {
    while_it_rests(Strike::Successor).await;
    while_it_rests(Strike::CleanUp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_never_stays_stopped_when_somebody_changes_their_mind() {
    while_it_rests(Strike::CancelledOrphan).await;
    while_it_rests(Strike::GateClosed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_stands_still_for_nobody() {
    while_it_rests(Strike::Throttled).await;
    while_it_rests(Strike::Blocked).await;
    while_it_rests(Strike::Hibernating).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_never_stays_stopped_when_a_connection_breaks() {
    while_it_rests(Strike::Torn).await;
}

async fn refused(spec: MigrationSpec, expected: Reason, words: &str) {
    match migrate(spec, manual(true)).await {
        Outcome::Refused { reason, message } => {
            assert_eq!(reason, expected, "{message}");
            assert!(message.contains(words), "{message}");
        }
        outcome => panic!("expected {expected}: {outcome:?}"),
    }
}

/// A consent counts for the attempt: the replica does not stand still for a second question, however long the comparison takes.
#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_asked_before_the_applier_is_stopped() {
    let pair = Pair::new().await;
    let proxy = Proxy::start(address(&pair.replica.url).port).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (hook, asked) = (folder.path().join("hook"), folder.path().join("asked"));
    // Written by another process: a file that this one has open for writing cannot be run.
    let script = format!("printf '#!/bin/sh\\necho asked >>\"%s\"\\n' '{}' >'{}' && chmod +x '{1}'", asked.display(), hook.display());
    assert!(std::process::Command::new("sh").args(["-c", &script]).status().expect("sh").success());
    let hooks = vec![Hook {
        when: vec![Moment::BeforeCutOver],
        target: Target::Program(hook),
        timeout: Duration::from_secs(20),
        failure_policy: FailurePolicy::Fail,
    }];
    let handle = theseus::engine::start(plain(pair.spec(Mode::TestOnReplica), &proxy), Controls { hooks: hooks.clone(), ..manual(false) });
    gate_between_passes(&handle).await;
    let mut stopped = proxy.trap("STOP REPLICA SQL_THREAD", Hold::Answer);
    // Time for one attempt, however slow the machine is: before a second one they are asked again.
    handle.control(Controls { hooks, lock_timeout: support::PATIENCE, ..manual(true) });
    stopped.sprung().await;
    let mut comparing = proxy.trap("IFNULL(BIT_XOR", Hold::Request);
    stopped.release();
    comparing.sprung().await;
    tokio::time::sleep(ASK_AGAIN + Duration::from_secs(1)).await;
    comparing.release();
    assert_eq!(join(handle).await, Outcome::Tested);
    assert_eq!(std::fs::read_to_string(&asked).expect("it was asked").lines().count(), 1);
}

/// Before anything is touched, each for its reason.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_fit_replica_is_refused() {
    let pair = Pair::new().await;
    let mut admin = connect(&pair.replica.url).await;
    let there = address(&pair.replica.url);
    for mode in [Mode::ExecuteOnReplica, Mode::TestOnReplica] {
        let primary = MigrationSpec { server: address(&pair.primary.url), ..pair.spec(mode) };
        refused(primary, Reason::NotAReplica, "has no replication source").await;
        admin.query_drop("SET GLOBAL super_read_only = ON").await.expect("a setting");
        refused(pair.spec(mode), Reason::ReadOnly, "super_read_only").await;
        admin.query_drop("SET GLOBAL super_read_only = OFF").await.expect("a setting");
    }
    let seen = async |spec: &MigrationSpec| theseus::engine::preflight::check(spec, &manual(true)).await;
    let on_primary = MigrationSpec { server: address(&pair.primary.url), ..pair.spec(Mode::TestOnReplica) };
    let report = seen(&on_primary).await;
    assert!(report.findings.iter().any(|f| f.reason == "NotAReplica"), "{report:?}");
    let report = seen(&pair.spec(Mode::TestOnReplica)).await;
    assert!(!report.refused(), "{report:?}");
    let said = |topic| report.findings.iter().find(|f| f.reason == topic).map(|f| f.message.clone()).unwrap_or_default();
    assert!(said("Disk").contains("nothing in the binary log") && said("Algorithm").contains("rehearses"), "{report:?}");
    assert!(!report.findings.iter().any(|f| f.reason == "Names"), "its names are not shortened: {report:?}");
    admin.query_drop("STOP REPLICA SQL_THREAD").await.expect("stop");
    refused(pair.spec(Mode::TestOnReplica), Reason::NotAReplica, "START REPLICA").await;
    admin.query_drop("START REPLICA SQL_THREAD").await.expect("start");
    // Rows of the primary could not be applied any more, or would end up in other columns.
    for (alter, words) in [
        ("ADD COLUMN c INT NOT NULL DEFAULT 7 FIRST", "only columns at the end"),
        ("DROP COLUMN v", "only columns at the end"),
        ("MODIFY v DECIMAL(20,0) NOT NULL", "a different type"),
    ] {
        for algorithm in [Algorithm::Copy, Algorithm::Auto] {
            let spec = MigrationSpec { alter: alter.into(), algorithm, ..pair.spec(Mode::ExecuteOnReplica) };
            refused(spec, Reason::AlterNotSupported, words).await;
        }
    }
    // What the account may not do is said before the first row is copied.
    admin
        .query_drop(format!(
            "SET sql_log_bin = 0; CREATE USER few@'%' IDENTIFIED BY 'secret'; GRANT REPLICATION SLAVE, REPLICATION CLIENT, PROCESS ON *.* TO few@'%'; \
             GRANT ALL ON `{}`.* TO few@'%'",
            pair.db.name.replace('_', "\\_")
        ))
        .await
        .expect("an account");
    let few = |mode| MigrationSpec {
        server: theseus::engine::contract::spec::ServerAddress { username: "few".into(), password: "secret".into(), ..there.clone() },
        ..pair.spec(mode)
    };
    refused(few(Mode::ExecuteOnReplica), Reason::MissingPrivilege, "SESSION_VARIABLES_ADMIN").await;
    admin.query_drop("GRANT SESSION_VARIABLES_ADMIN ON *.* TO few@'%'").await.expect("a grant");
    refused(few(Mode::TestOnReplica), Reason::MissingPrivilege, "REPLICATION_SLAVE_ADMIN").await;
    refused(few(Mode::ExecuteOnReplica), Reason::MissingPrivilege, "CONNECTION_ADMIN").await;
    admin.query_drop("GRANT REPLICATION_SLAVE_ADMIN, CONNECTION_ADMIN ON *.* TO few@'%'").await.expect("a grant");
    pair.assert_untouched_but_for(&["t"]).await;
    assert_eq!(migrate(few(Mode::TestOnReplica), Controls { old_table: OldTable::DropNow, ..manual(true) }).await, Outcome::Tested);
    assert_eq!(migrate(few(Mode::ExecuteOnReplica), manual(true)).await, Outcome::Succeeded);
    pair.assert_no_errant_transaction().await;
}

/// A replica that is promoted meanwhile is a primary: a change made there alone would be lost, or break its replicas.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_promoted_is_left_alone() {
    let pair = Pair::new().await;
    let handle = theseus::engine::start(pair.spec(Mode::ExecuteOnReplica), manual(false));
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    connect(&pair.replica.url).await.query_drop("STOP REPLICA; RESET REPLICA ALL").await.expect("promote");
    handle.control(manual(true));
    match join(handle).await {
        Outcome::Failed { reason: Reason::NotAReplica, message } => assert!(message.contains("promoted"), "{message}"),
        outcome => panic!("{outcome:?}"),
    }
    pair.assert_untouched_but_for(&["_t_rghc", "_t_rgho", "t"]).await;
}

/// What binds a table to others, and its triggers, on the replica: as before a test after it, and on the new table after the change.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_and_triggers_move_on_a_replica() {
    async fn picture(there: &mut Db) -> Vec<String> {
        let triggers =
            "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()";
        let triggers = format!("{:?}", there.rows(triggers).await);
        vec![uncounted(&there.definition("t").await), there.definition("child").await, triggers]
    }
    let mut pair = Pair::new().await;
    for url in [&pair.primary.url, &pair.replica.url] {
        connect(url).await.query_drop("SET GLOBAL log_bin_trust_function_creators = ON").await.expect("let accounts make triggers");
    }
    for sql in [
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "INSERT INTO parent VALUES (1)",
        "ALTER TABLE t ADD COLUMN p INT NULL, ADD CONSTRAINT up FOREIGN KEY (p) REFERENCES parent (id)",
        "CREATE TABLE child (id INT PRIMARY KEY, t INT, CONSTRAINT down FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE)",
        "INSERT INTO child VALUES (1, 1), (2, 2)",
        "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.p = 1",
    ] {
        pair.db.run(sql).await;
    }
    pair.caught_up().await;
    let mut there = pair.there().await;
    let before = picture(&mut there).await;
    let test = pair.spec(Mode::TestOnReplica);
    assert_eq!(migrate(test.clone(), manual(true)).await, Outcome::Tested);
    assert_eq!(picture(&mut there).await, before);
    theseus::engine::clean_up(&test, true).await.expect("what the test left goes");
    assert_eq!(migrate(pair.spec(Mode::ExecuteOnReplica), manual(true)).await, Outcome::Succeeded);
    let after = picture(&mut there).await;
    assert!(after[0].contains("`c` int NOT NULL DEFAULT '7'") && after[0].contains("CONSTRAINT `up` FOREIGN KEY (`p`)"), "{after:?}");
    assert_eq!(after[1..], before[1..]);
    pair.db.run("DELETE FROM t WHERE id = 1").await;
    pair.caught_up().await;
    assert_eq!(there.rows("SELECT id FROM child").await, [["'2'"]], "the cascade of the primary is applied");
    there.conn.query_drop("INSERT INTO child VALUES (3, 100000)").await.expect_err("the constraint holds on the new table");
    assert_eq!(there.tables().await, ["child", "parent", "t"]);
    pair.assert_no_errant_transaction().await;
}
