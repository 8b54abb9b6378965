//! The fault matrix: whatever dies, in whatever phase, the migration ends with the writer's account, and nothing is left.
//!
//! Each cell is a migration of its own, through a proxy that stops it at an exact statement, under a writer whose statements are repeated
//! until the server has taken them, and a reader that never may miss the table. `cargo test --test mysql faults:: -- --nocapture` prints phase ×
//! fault with the time of each cell and how often the work was taken up. Promotion of a replica: `failover`; frozen processes: `fencing`.
use crate::{proxy, scribe, support};

use mysql_async::prelude::Queryable;
use proxy::{Caught, Hold, Kind, Proxy, plain};
use scribe::{Scribe, Watcher, assert_account, fill};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Db, PrivateServer, address, connect, controls, join, until};
use theseus::engine::Handle;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy, MigrationSpec};
use tokio::sync::Semaphore;

const ROWS: u64 = 4000;
/// Made twice, it fails: a migration that is over is not made again.
const ALTER: &str = "MODIFY pad VARCHAR(200) NOT NULL DEFAULT '-', MODIFY v DECIMAL(20,0) NOT NULL, ADD c INT";
/// Cells of one server at a time: most of a cell is waiting.
const AT_ONCE: usize = 5;
/// Servers for the faults that no two cells can share.
const SERVERS: usize = 3;
/// Of the servers, in seconds.
const WAIT_TIMEOUT: u64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The engine is gone without a word; a new one starts.
    EngineKilled,
    /// The engine stops as it should; a new one starts.
    EngineStopped,
    /// The engine is replaced by one that did not wait for it to end.
    EngineReplaced,
    /// Every connection of the engine is killed on the server.
    AllKilled,
    /// Those of one kind are.
    Killed(Kind),
    /// Paused for longer than the server's `wait_timeout`.
    PausedLong,
    NetworkCut,
    NetworkStalled,
    /// Each piece takes 20 ms from now on.
    NetworkSlow,
    ServerRestarted,
    ServerCrashed,
}

const FAULTS: &[Fault] = &[
    Fault::EngineKilled,
    Fault::EngineStopped,
    Fault::EngineReplaced,
    Fault::AllKilled,
    Fault::Killed(Kind::Guard),
    Fault::Killed(Kind::Stream),
    Fault::Killed(Kind::Control),
    Fault::Killed(Kind::Copy),
    Fault::Killed(Kind::Flush),
    Fault::Killed(Kind::Lock),
    Fault::PausedLong,
    Fault::NetworkCut,
    Fault::NetworkStalled,
    Fault::NetworkSlow,
];
const SERVER_FAULTS: &[Fault] = &[Fault::ServerRestarted, Fault::ServerCrashed];

/// Where the engine stands when it is struck. The statement is under way in each but `Gate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// The ghost is made, and the answer is not there.
    Inspect,
    /// A chunk is committed, and the answer is not there.
    Copy,
    /// A batch of changes has not reached the server.
    CatchUp,
    /// A range is compared.
    Verify,
    Gate,
    /// The last look at AUTO_INCREMENT before the tables are locked.
    BeforeLock,
    /// The tables are locked, and the answer is not there.
    Locked,
    /// The swap has not reached the server.
    SwapAsked,
    /// The tables are swapped, and the answer is not there.
    Swapped,
    /// The tables are swapped and locked still.
    Unlock,
    /// The old table is dropped, and the answer is not there.
    CleanUp,
    /// The state table is dropped, and the answer is not there.
    End,
}

const MOMENTS: &[Moment] = &[
    Moment::Inspect,
    Moment::Copy,
    Moment::CatchUp,
    Moment::Verify,
    Moment::Gate,
    Moment::BeforeLock,
    Moment::Locked,
    Moment::SwapAsked,
    Moment::Swapped,
    Moment::Unlock,
    Moment::CleanUp,
    Moment::End,
];

/// Whether there is such a cell.
fn exists(fault: Fault, moment: Moment) -> bool {
    match fault {
        // A new engine that finds everything gone cannot know that it was done: the record of the end is the front end's.
        Fault::EngineKilled | Fault::EngineStopped | Fault::EngineReplaced => moment != Moment::End,
        Fault::Killed(Kind::Copy) => moment == Moment::Copy,
        // Until then the guard does the work.
        Fault::Killed(Kind::Control) => moment >= Moment::Copy,
        Fault::Killed(Kind::Flush) => (Moment::CatchUp..=Moment::Unlock).contains(&moment),
        Fault::Killed(Kind::Lock) => (Moment::Locked..=Moment::Unlock).contains(&moment),
        Fault::Killed(Kind::Stream) => (Moment::Copy..=Moment::Unlock).contains(&moment),
        // A clean restart waits for the sessions' statements; one before and one under the lock are as good as all.
        Fault::ServerRestarted => matches!(moment, Moment::Copy | Moment::Gate | Moment::Locked | Moment::Swapped),
        _ => true,
    }
}

fn manual(approved: bool) -> Controls {
    Controls { workers: 2, target_chunk_time: Duration::from_millis(50), cut_over_policy: CutOverPolicy::Manual, approved, ..controls() }
}

/// Slow enough to be struck while rows are copied.
fn slow() -> Controls {
    Controls { target_chunk_time: Duration::from_millis(10), nice_ratio_percent: 500, ..manual(false) }
}

/// Leads the engine to the moment; what holds it there.
async fn reach(handle: &Handle, moment: Moment, proxy: &Proxy, database: &str) -> Option<(Caught, u16)> {
    let table = |name: &str| format!("`{database}`.`{name}`");
    let (words, hold) = match moment {
        Moment::Inspect => (format!("CREATE TABLE {}", table("_t_gho")), Hold::Answer),
        Moment::Copy => (format!("^INSERT INTO {} (kind, id, value) VALUES ('chunk'", table("_t_ghc")), Hold::Answer),
        Moment::CatchUp => (format!("DELETE FROM {}", table("_t_gho")), Hold::Request),
        Moment::Verify => ("CONCAT(COUNT(*)".to_owned(), Hold::Answer),
        Moment::Gate => (String::new(), Hold::Request),
        Moment::BeforeLock => (format!("SHOW CREATE TABLE {}", table("_t_gho")), Hold::Answer),
        Moment::Locked => (format!("LOCK TABLES {} ", table("t")), Hold::Answer),
        Moment::SwapAsked => (format!("RENAME TABLE {} ", table("t")), Hold::Request),
        Moment::Swapped => (format!("RENAME TABLE {} ", table("t")), Hold::Answer),
        Moment::Unlock => ("UNLOCK TABLES".to_owned(), Hold::Request),
        Moment::CleanUp => (format!("DROP TABLE IF EXISTS {}", table("_t_del")), Hold::Answer),
        Moment::End => (format!("DROP TABLE IF EXISTS {}", table("_t_ghc")), Hold::Answer),
    };
    match moment {
        Moment::Inspect | Moment::Verify => {}
        Moment::Copy => drop(until(handle, "rows are copied", |s| s.progress.rows_copied > 500).await),
        Moment::CatchUp => drop(until(handle, "the copy is complete", |s| s.progress.copy_complete).await),
        _ => drop(until(handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await),
    }
    if moment == Moment::Gate {
        return None;
    }
    let mut caught = proxy.trap(&words, hold);
    if moment > Moment::Gate {
        handle.control(manual(true));
    }
    let port = caught.sprung().await;
    Some((caught, port))
}

/// Ends connections on the server; they are known there by their port. The number of those that were there.
async fn kill(db: &mut Db, ports: &[u16]) -> usize {
    let all: Vec<(u64, String)> = db.conn.query("SELECT ID, HOST FROM performance_schema.processlist").await.expect("list connections");
    let ids = all.into_iter().filter(|(_, host)| host.rsplit(':').next().is_some_and(|p| p.parse().is_ok_and(|p: u16| ports.contains(&p))));
    let mut killed = 0;
    for (id, _) in ids {
        // It may be gone by now.
        killed += usize::from(db.conn.query_drop(format!("KILL {id}")).await.is_ok());
    }
    killed
}

struct Scene<'a> {
    spec: &'a MigrationSpec,
    db: &'a mut Db,
    proxy: &'a Proxy,
    server: &'a PrivateServer,
}

/// Strikes; the engine that goes on, unless the migration is over.
async fn strike(fault: Fault, handle: Handle, held: Option<(Caught, u16)>, scene: Scene<'_>) -> Option<Handle> {
    let calm = manual(false);
    let Scene { spec, db, proxy, server } = scene;
    let goes_on = match fault {
        Fault::EngineKilled => {
            drop(handle);
            let second = theseus::engine::start(spec.clone(), calm);
            // What was on its way when it died arrives while its successor begins.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..40))).await;
            drop(held);
            second
        }
        Fault::EngineStopped => {
            handle.stop();
            drop(held);
            match join(handle).await {
                Outcome::Stopped => {}
                // A cut-over that holds the lock is finished first.
                Outcome::Succeeded => return None,
                outcome => panic!("{outcome:?}"),
            }
            theseus::engine::start(spec.clone(), calm)
        }
        Fault::EngineReplaced => {
            let second = theseus::engine::start(spec.clone(), calm);
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(handle);
            drop(held);
            second
        }
        Fault::AllKilled | Fault::Killed(_) => {
            let end = Instant::now() + support::PATIENCE;
            let ports = loop {
                let ports: Vec<u16> = proxy
                    .links()
                    .into_iter()
                    .filter(|(_, kind)| fault == Fault::AllKilled || fault == Fault::Killed(*kind))
                    .map(|(port, _)| port)
                    .collect();
                if kill(db, &ports).await > 0 {
                    break ports;
                }
                // A busy machine lets a session idle for longer than the server's wait_timeout: then there is another one soon.
                assert!(Instant::now() < end, "there is nothing to kill: {:?}", proxy.links());
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            match held {
                // Its answer is lost with it.
                Some((caught, port)) if ports.contains(&port) => caught.tear(),
                held => drop(held),
            }
            handle
        }
        Fault::PausedLong => {
            handle.control(Controls { paused: true, ..manual(true) });
            drop(held);
            let s = until(&handle, "it is paused", |s| matches!(s.phase, Phase::Paused | Phase::Finished)).await;
            if s.phase == Phase::Paused {
                tokio::time::sleep(Duration::from_secs(WAIT_TIMEOUT) + Duration::from_millis(500)).await;
            }
            handle
        }
        Fault::NetworkCut => {
            proxy.cut(Duration::from_millis(300)).await;
            drop(held);
            handle
        }
        Fault::NetworkStalled => {
            proxy.stall(Duration::from_millis(1500)).await;
            drop(held);
            handle
        }
        Fault::NetworkSlow => {
            proxy.slow(Duration::from_millis(20));
            drop(held);
            handle
        }
        Fault::ServerRestarted | Fault::ServerCrashed => {
            server.restart_with(fault == Fault::ServerCrashed, &options()).await;
            if let Some((caught, _)) = held {
                caught.tear();
            }
            handle
        }
    };
    Some(goes_on)
}

fn options() -> [String; 1] {
    [format!("--wait-timeout={WAIT_TIMEOUT}")]
}

/// The time that it took, and how often the work was taken up.
async fn cell(server: &PrivateServer, fault: Fault, moment: Moment) -> (Duration, u32) {
    let began = Instant::now();
    let what = format!("{fault:?} at {moment:?}");
    let proxy = Proxy::start(address(&server.url).port).await;
    let mut db = Db::on(&server.url, "fault").await;
    db.run("SET SESSION wait_timeout = 28800").await;
    fill(&mut db, ROWS).await;
    let scribe = Scribe::start(&server.url, &db.name, ROWS, fastrand::u64(..));
    let watcher = Watcher::start(&server.url, &db.name);
    let spec = plain(db.spec("t", ALTER), &proxy);
    let handle = theseus::engine::start(spec.clone(), if moment == Moment::Copy { slow() } else { manual(false) });
    let held = reach(&handle, moment, &proxy, &db.name).await;
    let mut resumed = 0;
    if let Some(handle) = strike(fault, handle, held, Scene { spec: &spec, db: &mut db, proxy: &proxy, server }).await {
        handle.control(manual(true));
        let watch = handle.watch();
        assert_eq!(join(handle).await, Outcome::Succeeded, "{what}");
        resumed = watch.borrow().resumed_count;
    }
    let account = scribe.account().await;
    watcher.judge(&what).await;
    // The server may have been restarted meanwhile.
    let mut conn = connect(&server.url).await;
    conn.query_drop(format!("USE `{}`; SET SESSION wait_timeout = 28800", db.name)).await.expect("use the database");
    let mut db = Db { conn, ..db };
    assert_account(&mut db, &account, &what).await;
    assert!(db.definition("t").await.contains("`v` decimal(20,0)"), "{what}");
    assert_eq!(db.tables().await, ["t"], "{what}");
    db.drop().await;
    (began.elapsed(), resumed)
}

type Results = Arc<Mutex<BTreeMap<(Fault, Moment), String>>>;

/// Runs cells, some at a time on each server; prints all of them, and fails if one did.
async fn matrix(faults: &[Fault], servers: usize, at_once: usize) {
    let mut cells: Vec<(Fault, Moment)> =
        faults.iter().flat_map(|f| MOMENTS.iter().map(|m| (*f, *m))).filter(|(f, m)| exists(*f, *m)).collect();
    let results: Results = Results::default();
    let mut work = tokio::task::JoinSet::new();
    let queues: Vec<Vec<(Fault, Moment)>> = {
        let mut queues = vec![Vec::new(); servers];
        for (at, cell) in cells.drain(..).enumerate() {
            queues[at % servers].push(cell);
        }
        queues
    };
    for queue in queues {
        let results = Arc::clone(&results);
        work.spawn(async move {
            let options = options();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let server = Arc::new(PrivateServer::start(&options).await);
            let places = Arc::new(Semaphore::new(at_once));
            let mut cells = tokio::task::JoinSet::new();
            for (fault, moment) in queue {
                let place = Arc::clone(&places).acquire_owned().await.expect("open");
                let (server, results) = (Arc::clone(&server), Arc::clone(&results));
                results.lock().expect("no panic").insert((fault, moment), "FAILED".to_owned());
                cells.spawn(async move {
                    let (took, resumed) = cell(&server, fault, moment).await;
                    results.lock().expect("no panic").insert((fault, moment), format!("{:.1} s {resumed}×", took.as_secs_f32()));
                    drop(place);
                });
            }
            // A cell that panics has printed why, and stays FAILED.
            while cells.join_next().await.is_some() {}
        });
    }
    while let Some(done) = work.join_next().await {
        done.expect("a server's cells");
    }
    let results = results.lock().expect("no panic");
    println!("{:>16}{}", "", MOMENTS.iter().map(|m| format!("{:>10}", format!("{m:?}"))).collect::<String>());
    for fault in faults {
        let name = match fault {
            Fault::Killed(kind) => format!("{kind:?}Killed"),
            fault => format!("{fault:?}"),
        };
        let line: String = MOMENTS.iter().map(|m| format!("{:>10}", results.get(&(*fault, *m)).map_or("–", String::as_str))).collect();
        println!("{name:>16}{line}");
    }
    let failed: Vec<_> = results.iter().filter(|(_, result)| *result == "FAILED").map(|(cell, _)| cell).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_of_the_engine_or_the_network() {
    matrix(FAULTS, 1, AT_ONCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_of_the_server() {
    matrix(SERVER_FAULTS, SERVERS, 1).await;
}

/// A connection that is lost before the lock makes a failed attempt, never a failed migration.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_before_the_lock_is_no_failure() {
    let options = options();
    let server = PrivateServer::start(&options.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for fault in [Fault::AllKilled, Fault::Killed(Kind::Control), Fault::NetworkCut] {
        cell(&server, fault, Moment::BeforeLock).await;
    }
}

/// A change that the server makes itself is made once, whatever becomes of the statement: this one can be made twice, and it would show.
#[tokio::test(flavor = "multi_thread")]
async fn a_native_change_in_doubt_is_made_once() {
    let server = PrivateServer::start(&[]).await;
    for fault in [Fault::EngineKilled, Fault::EngineReplaced, Fault::AllKilled, Fault::NetworkCut] {
        for hold in [Hold::Request, Hold::Answer] {
            let what = format!("{fault:?}, {hold:?} held");
            let began = Instant::now();
            let proxy = Proxy::start(address(&server.url).port).await;
            let mut db = Db::on(&server.url, "native").await;
            fill(&mut db, ROWS).await;
            let mut spec = plain(db.spec("t", "ADD INDEX (v)"), &proxy);
            spec.algorithm = theseus::engine::contract::spec::Algorithm::Inplace;
            let mut caught = proxy.trap(&format!("ALTER TABLE `{}`.`t` ", db.name), hold);
            let handle = theseus::engine::start(spec.clone(), manual(true));
            let port = caught.sprung().await;
            let scene = Scene { spec: &spec, db: &mut db, proxy: &proxy, server: &server };
            let handle = strike(fault, handle, Some((caught, port)), scene).await.expect("an engine that goes on");
            handle.control(manual(true));
            assert_eq!(join(handle).await, Outcome::Succeeded, "{what}");
            // Until the last statement on it has come to its end.
            let _: u64 = db.value("SELECT COUNT(*) FROM t").await;
            let indexes: u64 = db.value(&format!("SELECT COUNT(DISTINCT INDEX_NAME) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = 't' AND COLUMN_NAME = 'v'", db.name)).await;
            assert_eq!(indexes, 2, "{what}: {}", db.definition("t").await);
            assert_eq!(db.tables().await, ["t"], "{what}");
            println!("{what}: {:.1} s", began.elapsed().as_secs_f32());
            db.drop().await;
        }
    }
}
