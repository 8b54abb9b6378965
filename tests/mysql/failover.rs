//! The server is replaced by its replica while a table is migrated: a name that leads to another server, with the old one gone.
//!
//! The engine and nobody else goes through a proxy that stands for that name. The writer waits from just before the primary's death until
//! the replica is the primary, and until the replica has its last row: what asynchronous replication loses is nobody's fault here. What
//! the engine wrote last may be lost, and in one case the swap is.
use crate::{proxy, scribe, support};

use mysql_async::prelude::Queryable;
use proxy::{Hold, Proxy, plain};
use scribe::{ALTER, Scribe, Watcher, assert_account, fill};
use std::time::{Duration, Instant};
use support::{Db, PrivateServer, address, connect, controls, join, migrate, until};
use theseus::engine::Handle;
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy, MigrationSpec};

const ROWS: u64 = 4000;

fn manual(approved: bool) -> Controls {
    Controls { workers: 2, target_chunk_time: Duration::from_millis(50), cut_over_policy: CutOverPolicy::Manual, approved, ..controls() }
}

/// Slow enough to be struck while rows are copied.
fn slow() -> Controls {
    Controls { target_chunk_time: Duration::from_millis(10), nice_ratio_percent: 500, ..manual(false) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Copying,
    /// The first range is about to be compared.
    Verifying,
    Gate,
    /// The tables are locked; the engine does not know it yet.
    Locked,
    /// The tables are swapped, the replica knows it, the engine does not.
    Swapped,
    /// As above, but the swap was lost with the primary.
    SwapLost,
    /// Swapped, and the old table is about to be dropped.
    CleaningUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Same,
    New,
}

async fn port(server: &PrivateServer) -> u16 {
    address(&server.url).port
}

/// Waits until the replica has applied all that the primary has.
async fn caught_up(primary: &PrivateServer, replica: &PrivateServer) {
    let set: Option<String> = connect(&primary.url).await.query_first("SELECT @@global.gtid_executed").await.expect("read GTIDs");
    let sql = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{}', 180)", set.unwrap_or_default());
    let waited: Option<u8> = connect(&replica.url).await.query_first(sql).await.expect("wait for the replica");
    assert_eq!(waited, Some(0), "the replica catches up");
}

async fn promote(replica: &PrivateServer) {
    let mut conn = connect(&replica.url).await;
    conn.query_drop("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF")
        .await
        .expect("promote");
}

/// A primary whose table ids differ from the replica's, and the replica.
async fn pair() -> (PrivateServer, PrivateServer) {
    let primary = PrivateServer::start(&[]).await;
    let replica = PrivateServer::replica_of(&primary).await;
    let mut conn = connect(&primary.url).await;
    conn.query_drop("SET sql_log_bin = 0; CREATE DATABASE aside; CREATE TABLE aside.a (i INT); CREATE TABLE aside.b (i INT)")
        .await
        .expect("tables that the replica does not have");
    (primary, replica)
}

/// What is there before the primary dies: a name that leads to it, a table, who writes to it and who watches that it is always there.
struct Scene {
    primary: PrivateServer,
    replica: PrivateServer,
    proxy: Proxy,
    db: Db,
    scribe: Scribe,
    watcher: Watcher,
}

impl Scene {
    async fn set() -> Self {
        let (primary, replica) = pair().await;
        let proxy = Proxy::start(port(&primary).await).await;
        let mut db = Db::on(&primary.url, "failover").await;
        fill(&mut db, ROWS).await;
        caught_up(&primary, &replica).await;
        let scribe = Scribe::start(&primary.url, &db.name, ROWS, fastrand::u64(..));
        let watcher = Watcher::start(&primary.url, &db.name);
        Self { primary, replica, proxy, db, scribe, watcher }
    }
}

/// The primary dies, and the engine before it, where another one is to go on.
async fn lose(primary: &PrivateServer, proxy: &Proxy, engine: Engine, handle: Handle, spec: &MigrationSpec, controls: &Controls) -> Handle {
    let left = (engine == Engine::Same).then_some(handle);
    primary.kill().await;
    proxy.close();
    left.unwrap_or_else(|| theseus::engine::start(spec.clone(), controls.clone()))
}

/// The same database on the replica.
async fn there(db: Db, replica: &PrivateServer) -> Db {
    let mut conn = connect(&replica.url).await;
    conn.query_drop(format!("USE `{}`", db.name)).await.expect("use the database");
    Db { conn, url: replica.url.clone(), name: db.name }
}

async fn promotion(moment: Moment, engine: Engine) {
    let began = Instant::now();
    let what = format!("{moment:?}, {engine:?} engine");
    let Scene { primary, replica, proxy, mut db, scribe, watcher } = Scene::set().await;
    let spec = plain(db.spec("t", ALTER), &proxy);
    // Holds the engine's connection until the primary is gone.
    let mut held = (moment == Moment::Verifying).then(|| proxy.trap("IFNULL(BIT_XOR", Hold::Request));
    let mut handle = theseus::engine::start(spec.clone(), if moment == Moment::Copying { slow() } else { manual(false) });
    if let Some(caught) = &mut held {
        caught.sprung().await;
        assert_eq!(handle.watch().borrow().phase, Phase::Verifying, "{what}");
        scribe.pause().await;
        caught_up(&primary, &replica).await;
    } else if moment == Moment::Copying {
        until(&handle, "rows are copied", |s| s.progress.rows_copied > 500).await;
        scribe.pause().await;
        caught_up(&primary, &replica).await;
    } else {
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        scribe.pause().await;
        caught_up(&primary, &replica).await;
        if moment == Moment::SwapLost {
            // The attempt is announced in the state table first: that one arrives, the swap does not.
            let mut caught = proxy.trap("LOCK TABLES `", Hold::Request);
            handle.control(manual(true));
            caught.sprung().await;
            caught_up(&primary, &replica).await;
            connect(&replica.url).await.query_drop("STOP REPLICA").await.expect("stop the replica");
            let mut swap = proxy.trap("RENAME TABLE", Hold::Answer);
            caught.release();
            swap.sprung().await;
            wait_for_swap(&mut db, true).await;
            held = Some(swap);
        } else if moment != Moment::Gate {
            let (words, hold) = match moment {
                Moment::Locked => ("LOCK TABLES `", Hold::Answer),
                Moment::CleaningUp => ("DROP TABLE", Hold::Request),
                _ => ("RENAME TABLE", Hold::Answer),
            };
            let mut caught = proxy.trap(words, hold);
            handle.control(manual(true));
            caught.sprung().await;
            if moment != Moment::Locked {
                wait_for_swap(&mut db, true).await;
                caught_up(&primary, &replica).await;
            }
            held = Some(caught);
        }
    }
    handle = lose(&primary, &proxy, engine, handle, &spec, &manual(true)).await;
    drop(held);
    watcher.judge(&what).await;
    // The name leads to the replica before it is promoted: the engine waits.
    proxy.lead_to(port(&replica).await);
    let s = until(&handle, "it waits for the promotion", |s| s.retrying.as_ref().is_some_and(|r| r.reason == Reason::ReadOnly)).await;
    assert!(s.retrying.is_some(), "{what}");
    promote(&replica).await;
    scribe.resume(&replica.url);
    let watcher = Watcher::start(&replica.url, &db.name);
    handle.control(manual(false));
    if !matches!(moment, Moment::Swapped | Moment::CleaningUp) {
        let s = until(&handle, "the gate is reached again", |s| s.phase == Phase::AwaitingCutOver).await;
        assert!(s.resumed_count > 0, "{what}: the work is taken up");
        assert!(s.notices.iter().all(|n| n.reason != "StartedOver"), "{what}: {:?}", s.notices);
        tokio::time::sleep(Duration::from_millis(200)).await;
        handle.control(manual(true));
    }
    assert_eq!(join(handle).await, Outcome::Succeeded, "{what}");
    let account = scribe.account().await;
    watcher.judge(&what).await;
    let mut db = there(db, &replica).await;
    assert_account(&mut db, &account, &what).await;
    assert!(db.definition("t").await.contains("`v` decimal(20,0)"), "{what}");
    assert_eq!(db.tables().await, ["t"], "{what}");
    println!("{what:>24}: {:.1} s", began.elapsed().as_secs_f32());
}

/// The swap has happened on the server, whoever knows it: there is an old table under its name, or, after the swap back, there is none.
async fn wait_for_swap(db: &mut Db, there: bool) {
    let end = Instant::now() + support::PATIENCE;
    while db.tables().await.contains(&"_t_del".to_owned()) != there {
        assert!(Instant::now() < end, "the swap happens");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The same in a revert window, or at the swap back: the new primary's old table is kept current, and it is its table in the end.
async fn promotion_on_the_way_back(at_swap: bool, engine: Engine) {
    let what = format!("at the swap back: {at_swap}, {engine:?} engine");
    let Scene { primary, replica, proxy, mut db, scribe, watcher } = Scene::set().await;
    let spec = plain(db.spec("t", "ADD added INT NOT NULL DEFAULT 1, DROP pad, MODIFY id BIGINT AUTO_INCREMENT"), &proxy);
    let window = Controls { revert_window: Duration::from_secs(3600), ..manual(true) };
    let mut handle = theseus::engine::start(spec.clone(), window.clone());
    until(&handle, "the change is made", |s| s.phase == Phase::Revertible).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    scribe.pause().await;
    let mut held = None;
    if at_swap {
        let mut caught = proxy.trap("RENAME TABLE", Hold::Answer);
        handle.control(Controls { revert: true, ..window.clone() });
        caught.sprung().await;
        wait_for_swap(&mut db, false).await;
        held = Some(caught);
    }
    caught_up(&primary, &replica).await;
    handle = lose(&primary, &proxy, engine, handle, &spec, &window).await;
    drop(held);
    watcher.judge(&what).await;
    promote(&replica).await;
    proxy.lead_to(port(&replica).await);
    scribe.resume(&replica.url);
    if !at_swap {
        let s = until(&handle, "it goes on", |s| s.phase == Phase::Revertible && s.retrying.is_none() && s.progress.changes_seen > 0).await;
        assert!(s.notices.iter().all(|n| n.reason != "RevertOver"), "{what}: {:?}", s.notices);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    handle.control(Controls { revert: true, ..window });
    assert_eq!(join(handle).await, Outcome::Reverted, "{what}");
    let account = scribe.account().await;
    let mut db = there(db, &replica).await;
    assert_account(&mut db, &account, &what).await;
    let definition = db.definition("t").await;
    assert!(definition.contains("`pad`") && !definition.contains("`added`"), "{what}: {definition}");
    // Each row that lived through it has what only the old table had.
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t WHERE CHAR_LENGTH(pad) <> 29").await, 0, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_promoted_in_a_revert_window() {
    promotion_on_the_way_back(false, Engine::Same).await;
    promotion_on_the_way_back(false, Engine::New).await;
    promotion_on_the_way_back(true, Engine::Same).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_promoted_while_rows_are_copied() {
    promotion(Moment::Copying, Engine::Same).await;
    promotion(Moment::Copying, Engine::New).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_promoted_at_the_gate_and_under_the_lock() {
    promotion(Moment::Gate, Engine::Same).await;
    promotion(Moment::Locked, Engine::Same).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_promoted_right_after_the_swap() {
    promotion(Moment::Swapped, Engine::Same).await;
    promotion(Moment::Swapped, Engine::New).await;
    promotion(Moment::SwapLost, Engine::Same).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_promoted_while_rows_are_compared_and_while_leftovers_are_removed() {
    promotion(Moment::Verifying, Engine::Same).await;
    promotion(Moment::CleaningUp, Engine::Same).await;
    promotion(Moment::CleaningUp, Engine::New).await;
}

/// The name leads elsewhere while connections to the old server are alive: no engine has connections to two servers, and a replica that
/// still replicates is not written to, even where it would let us.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_two_servers_are_never_mixed() {
    let (primary, replica) = pair().await;
    connect(&replica.url)
        .await
        .query_drop("SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF")
        .await
        .expect("let it be written");
    let proxy = Proxy::start(port(&primary).await).await;
    let mut db = Db::on(&primary.url, "mixed").await;
    fill(&mut db, ROWS).await;
    caught_up(&primary, &replica).await;
    let scribe = Scribe::start(&primary.url, &db.name, ROWS, fastrand::u64(..));
    let watcher = Watcher::start(&primary.url, &db.name);
    let handle = theseus::engine::start(plain(db.spec("t", ALTER), &proxy), manual(false));
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    proxy.lead_to(port(&replica).await);
    // The cut-over wants a new connection.
    handle.control(manual(true));
    let s = until(&handle, "the other server is noticed", |s| s.retrying.is_some()).await;
    let message = s.retrying.map(|r| r.message).unwrap_or_default();
    assert!(message.contains("a different server"), "{message}");
    // While changes flow it may first be told that the replica has some to apply.
    let s = until(&handle, "it says what to do", |s| {
        s.retrying.as_ref().is_some_and(|r| r.message.contains("replicates from the previous one"))
    })
    .await;
    assert_eq!(s.retrying.map(|r| r.reason), Some(Reason::ReadOnly));
    // Nothing was written there: all transactions are the primary's.
    caught_up(&primary, &replica).await;
    let own: Option<u8> = connect(&replica.url)
        .await
        .query_first("SELECT @@global.gtid_executed LIKE CONCAT('%', @@server_uuid, '%')")
        .await
        .expect("read GTIDs");
    assert_eq!(own, Some(0), "nothing was written to the replica");
    proxy.lead_to(port(&primary).await);
    assert_eq!(join(handle).await, Outcome::Succeeded);
    let account = scribe.account().await;
    watcher.judge("two servers").await;
    assert_account(&mut db, &account, "two servers").await;
    assert_eq!(db.tables().await, ["t"]);
}

/// Without GTIDs nothing tells where another server's log goes on: failed by a reason of its own, the original untouched, and a retry
/// starts anew.
#[tokio::test(flavor = "multi_thread")]
async fn without_gtids_a_promotion_is_a_new_start() {
    let off = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"];
    let (primary, replica) = (PrivateServer::start(&off).await, PrivateServer::start(&off).await);
    let mut status = connect(&primary.url).await;
    let row: mysql_async::Row = status.query_first("SHOW BINARY LOG STATUS").await.expect("ask").expect("a row");
    let (file, position): (String, u64) = (row.get(0).expect("a file"), row.get(1).expect("a position"));
    let source = address(&primary.url);
    let mut conn = connect(&replica.url).await;
    conn.query_drop(format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='{}', SOURCE_PASSWORD='{}', SOURCE_LOG_FILE='{file}', SOURCE_LOG_POS={position}, GET_SOURCE_PUBLIC_KEY=1; START REPLICA",
        source.port, source.username, source.password
    ))
    .await
    .expect("replicate");
    let proxy = Proxy::start(source.port).await;
    let mut db = Db::on(&primary.url, "nogtid").await;
    fill(&mut db, ROWS).await;
    let spec = plain(db.spec("t", ALTER), &proxy);
    let handle = theseus::engine::start(spec.clone(), manual(false));
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let last: mysql_async::Row = status.query_first("SHOW BINARY LOG STATUS").await.expect("ask").expect("a row");
    let (file, position): (String, u64) = (last.get(0).expect("a file"), last.get(1).expect("a position"));
    let waited: Option<Option<i64>> =
        conn.query_first(format!("SELECT SOURCE_POS_WAIT('{file}', {position}, 180)")).await.expect("wait for the replica");
    assert!(waited.flatten().is_some_and(|n| n >= 0), "the replica catches up: {waited:?}");
    primary.kill().await;
    proxy.close();
    promote(&replica).await;
    proxy.lead_to(port(&replica).await);
    match join(handle).await {
        Outcome::Failed { reason: Reason::ServerChanged, message } => assert!(message.contains("retry to start over"), "{message}"),
        outcome => panic!("{outcome:?}"),
    }
    conn.query_drop(format!("USE `{}`", db.name)).await.expect("use it");
    let mut db = Db { conn, url: replica.url.clone(), ..db };
    assert!(db.definition("t").await.contains("`v` bigint"), "the original is untouched");
    assert_eq!(migrate(spec, controls()).await, Outcome::Succeeded);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS);
    assert_eq!(db.tables().await, ["t"]);
}

/// The work of an engine that stopped at the gate.
async fn stopped_at_the_gate(db: &Db) -> MigrationSpec {
    let spec = db.spec("t", ALTER);
    let handle: Handle = theseus::engine::start(spec.clone(), manual(false));
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    handle.stop();
    assert_eq!(join(handle).await, Outcome::Stopped);
    spec
}

/// Logs that are needed are gone: said so, the original untouched, and a retry starts anew.
async fn purged(server: &PrivateServer, db: &mut Db, spec: &MigrationSpec, gone: &str) {
    match migrate(spec.clone(), controls()).await {
        Outcome::Failed { reason: Reason::BinlogPurged, message } => {
            assert!(message.contains("original table is untouched") && message.contains("retry"), "{message}");
        }
        outcome => panic!("{gone}: {outcome:?}"),
    }
    assert!(db.definition("t").await.contains("`v` bigint"), "{gone}: the original is untouched");
    let scribe = Scribe::start(&server.url, &db.name, ROWS, fastrand::u64(..));
    // The writer begins with an account of its own.
    db.run("UPDATE t SET v = 0 WHERE v <> 0 AND id < 0").await;
    assert_eq!(migrate(spec.clone(), controls()).await, Outcome::Succeeded, "{gone}");
    let account = scribe.account().await;
    assert_account(db, &account, gone).await;
    assert_eq!(db.tables().await, ["t"], "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_are_gone_are_said_to_be_and_a_retry_starts_anew() {
    let (primary, replica) = pair().await;
    for (gone, statement) in [("purged", "FLUSH BINARY LOGS; PURGE BINARY LOGS TO '{last}'"), ("reset", "RESET BINARY LOGS AND GTIDS")] {
        if gone == "reset" {
            // A replica could not follow it.
            connect(&replica.url).await.query_drop("STOP REPLICA; RESET REPLICA ALL").await.expect("part them");
        }
        let mut db = Db::on(&primary.url, gone).await;
        fill(&mut db, ROWS).await;
        let spec = stopped_at_the_gate(&db).await;
        db.run("INSERT INTO t (id, v) VALUES (-1, 1)").await;
        db.run("DELETE FROM t WHERE id = -1").await;
        if gone == "purged" {
            // The promoted replica has the work, but not the logs since then.
            caught_up(&primary, &replica).await;
            purge(&mut db, statement).await;
            let mut conn = connect(&replica.url).await;
            conn.query_drop("STOP REPLICA; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF").await.expect("promote");
            conn.query_drop(format!("USE `{}`", db.name)).await.expect("use it");
            let mut there = Db { name: db.name.clone(), url: replica.url.clone(), conn };
            purge(&mut there, statement).await;
            let mut elsewhere = spec.clone();
            elsewhere.server = address(&replica.url);
            purged(&replica, &mut there, &elsewhere, "purged on the promoted replica").await;
        } else {
            purge(&mut db, statement).await;
        }
        purged(&primary, &mut db, &spec, gone).await;
    }
}

async fn purge(db: &mut Db, statement: &str) {
    if statement.contains("{last}") {
        db.run("FLUSH BINARY LOGS").await;
        // A file that somebody still reads is left out: the stopped engine's stream, until the server misses it.
        let end = Instant::now() + support::PATIENCE;
        loop {
            let rows: Vec<mysql_async::Row> = db.conn.query("SHOW BINARY LOGS").await.expect("list logs");
            if rows.len() == 1 {
                return;
            }
            assert!(Instant::now() < end, "the logs are purged");
            let last: String = rows.last().and_then(|row| row.get(0)).expect("a log");
            db.run(&format!("PURGE BINARY LOGS TO '{last}'")).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    } else {
        db.run(statement).await;
    }
}
