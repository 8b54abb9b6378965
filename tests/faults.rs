//! The fault matrix: whatever dies, in whatever phase, the migration ends with the writer's account, and nothing is left.
//!
//! Each cell is a migration of its own, through a TCP proxy, on a private server, under a writer that repeats a statement until the
//! server has taken it (all its statements are idempotent, so that its account is exact although connections die). `cargo test --test
//! faults -- --nocapture` prints phase × fault.
mod support;

use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{Db, PrivateServer, address, controls, join, until};
use theseus::engine::Handle;
use theseus::engine::snapshot::{Outcome, Phase, Snapshot};
use theseus::engine::spec::{Controls, CutOverPolicy, MigrationSpec};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const ROWS: u64 = 4000;

/// Forwards to the server until told otherwise.
struct Proxy {
    port: u16,
    mode: Arc<AtomicU8>,
    generation: Arc<AtomicU64>,
    _task: tokio::task::JoinHandle<()>,
}

const OPEN: u8 = 0;
const STALLED: u8 = 1;
const CUT: u8 = 2;

impl Proxy {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (mode, generation) = (Arc::new(AtomicU8::new(OPEN)), Arc::new(AtomicU64::new(0)));
        let (m, g) = (Arc::clone(&mode), Arc::clone(&generation));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if m.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let (m, g) = (Arc::clone(&m), Arc::clone(&g));
                tokio::spawn(async move {
                    let born = g.load(Ordering::SeqCst);
                    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                    let (up, down) = (client.into_split(), server.into_split());
                    let one = forward(up.0, down.1, Arc::clone(&m), Arc::clone(&g), born);
                    let other = forward(down.0, up.1, m, g, born);
                    // Either direction's end is the connection's end.
                    tokio::select! { () = one => {}, () = other => {} }
                });
            }
        });
        Self { port, mode, generation, _task: task }
    }

    /// All connections break, and new ones are refused for a while.
    async fn cut(&self, time: Duration) {
        self.mode.store(CUT, Ordering::SeqCst);
        self.generation.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(time).await;
        self.mode.store(OPEN, Ordering::SeqCst);
    }

    /// Nothing passes for a while; nothing breaks.
    async fn stall(&self, time: Duration) {
        self.mode.store(STALLED, Ordering::SeqCst);
        tokio::time::sleep(time).await;
        self.mode.store(OPEN, Ordering::SeqCst);
    }
}

async fn forward(
    from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mode: Arc<AtomicU8>,
    generation: Arc<AtomicU64>,
    born: u64,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        if generation.load(Ordering::SeqCst) != born {
            return;
        }
        if mode.load(Ordering::SeqCst) == STALLED {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        // The tick lets an idle connection notice a cut.
        match tokio::time::timeout(Duration::from_millis(20), from.readable()).await {
            Err(_) => {}
            Ok(Err(_)) => return,
            Ok(Ok(())) => match from.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => {
                    while mode.load(Ordering::SeqCst) == STALLED {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    if generation.load(Ordering::SeqCst) != born || to.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            },
        }
    }
}

/// A writer whose account is exact whatever dies: each statement says what a row is to be, and is repeated until it is taken.
struct Scribe {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<BTreeMap<u64, u64>>,
}

impl Scribe {
    fn start(url: String, database: String, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut account: BTreeMap<u64, u64> = (1..=ROWS).map(|id| (id, 0)).collect();
            let mut conn = None;
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                n += 1;
                let id = random.u64(1..=ROWS + 500);
                let statement = if random.u8(..4) == 0 {
                    account.remove(&id);
                    format!("DELETE FROM `{database}`.t WHERE id = {id}")
                } else {
                    account.insert(id, n);
                    format!("INSERT INTO `{database}`.t (id, v) VALUES ({id}, {n}) ON DUPLICATE KEY UPDATE v = {n}")
                };
                loop {
                    if conn.is_none() {
                        conn =
                            tokio::time::timeout(Duration::from_secs(2), mysql_async::Conn::from_url(&url)).await.ok().and_then(Result::ok);
                    }
                    let done = match conn.as_mut() {
                        Some(c) => c.query_drop(&statement).await.is_ok(),
                        None => false,
                    };
                    if done {
                        break;
                    }
                    conn = None;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            account
        });
        Self { stop, task }
    }

    async fn account(self) -> BTreeMap<u64, u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the writer")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The engine is gone without a word; a new one starts.
    EngineKilled,
    /// The engine stops as it should; a new one starts.
    EngineStopped,
    /// The engine is replaced by one that did not wait for it to end.
    EngineReplaced,
    /// Every connection of the engine is killed on the server.
    ConnectionsKilled,
    /// Only the binary log dump is.
    StreamKilled,
    /// Connections are killed one by one, each kind, some milliseconds apart.
    EachKilled,
    Paused,
    NetworkCut,
    NetworkStalled,
    ServerRestarted,
    ServerCrashed,
}

const ENGINE_FAULTS: &[Fault] = &[
    Fault::EngineKilled,
    Fault::EngineStopped,
    Fault::EngineReplaced,
    Fault::ConnectionsKilled,
    Fault::StreamKilled,
    Fault::EachKilled,
    Fault::Paused,
    Fault::NetworkCut,
    Fault::NetworkStalled,
];
const SERVER_FAULTS: &[Fault] = &[Fault::ServerRestarted, Fault::ServerCrashed];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Inspecting,
    Copying,
    CopyDone,
    Gate,
    CutOver,
    Swapped,
}

const MOMENTS: &[Moment] = &[Moment::Inspecting, Moment::Copying, Moment::CopyDone, Moment::Gate, Moment::CutOver, Moment::Swapped];

fn manual(approved: bool) -> Controls {
    Controls { workers: 2, target_chunk_time: Duration::from_millis(50), cut_over_policy: CutOverPolicy::Manual, approved, ..controls() }
}

/// Slow enough to be struck while rows are copied.
fn slow() -> Controls {
    Controls { target_chunk_time: Duration::from_millis(10), nice_ratio_percent: 500, ..manual(false) }
}

async fn reach(handle: &Handle, moment: Moment) {
    let at = |what: &'static str, condition: fn(&Snapshot) -> bool| until(handle, what, condition);
    match moment {
        Moment::Inspecting => tokio::time::sleep(Duration::from_millis(fastrand::u64(5..60))).await,
        Moment::Copying => drop(at("rows are copied", |s| s.progress.rows_copied > 500 || s.progress.copy_complete).await),
        Moment::CopyDone => drop(at("the copy is complete", |s| s.progress.copy_complete).await),
        Moment::Gate => drop(at("the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await),
        Moment::CutOver => {
            drop(at("the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await);
            handle.control(manual(true));
            drop(at("the cut-over begins", |s| s.cut_over.attempts > 0 || s.phase == Phase::Finished).await);
            // Somewhere between the request for the lock and the end.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..15))).await;
        }
        Moment::Swapped => {
            handle.control(manual(true));
            drop(at("the tables are swapped", |s| matches!(s.phase, Phase::CleaningUp | Phase::Finished)).await);
        }
    }
}

/// Ids of the engine's connections: its statements name the database or its tables.
async fn connections(db: &mut Db, only_dump: bool) -> Vec<u64> {
    let condition = if only_dump { "AND t.PROCESSLIST_COMMAND LIKE 'Binlog Dump%'" } else { "" };
    db.conn
        .query(format!(
            "SELECT t.PROCESSLIST_ID FROM performance_schema.threads t JOIN performance_schema.session_connect_attrs a ON a.PROCESSLIST_ID = t.PROCESSLIST_ID \
             WHERE a.ATTR_NAME = 'program_name' AND a.ATTR_VALUE = 'theseus' {condition}"
        ))
        .await
        .expect("look for connections")
}

async fn kill(db: &mut Db, ids: Vec<u64>, pause: Duration) {
    for id in ids {
        // It may be gone by now.
        let _ = db.conn.query_drop(format!("KILL {id}")).await;
        tokio::time::sleep(pause).await;
    }
}

async fn strike(fault: Fault, handle: Handle, spec: &MigrationSpec, db: &mut Db, proxy: &Proxy, server: &PrivateServer) -> Handle {
    let calm = manual(false);
    match fault {
        Fault::EngineKilled => {
            drop(handle);
            theseus::engine::start(spec.clone(), calm)
        }
        Fault::EngineStopped => {
            handle.stop();
            let outcome = join(handle).await;
            assert!(matches!(outcome, Outcome::Stopped | Outcome::Succeeded), "{outcome:?}");
            theseus::engine::start(spec.clone(), calm)
        }
        Fault::EngineReplaced => {
            let second = theseus::engine::start(spec.clone(), calm);
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(handle);
            second
        }
        Fault::ConnectionsKilled => {
            let ids = connections(db, false).await;
            kill(db, ids, Duration::ZERO).await;
            handle
        }
        Fault::StreamKilled => {
            let ids = connections(db, true).await;
            kill(db, ids, Duration::ZERO).await;
            handle
        }
        Fault::EachKilled => {
            let ids = connections(db, false).await;
            kill(db, ids, Duration::from_millis(40)).await;
            handle
        }
        Fault::Paused => {
            handle.control(Controls { paused: true, ..manual(true) });
            until(&handle, "it is paused", |s| matches!(s.phase, Phase::Paused | Phase::Finished)).await;
            handle
        }
        Fault::NetworkCut => {
            proxy.cut(Duration::from_millis(300)).await;
            handle
        }
        Fault::NetworkStalled => {
            proxy.stall(Duration::from_millis(1500)).await;
            handle
        }
        Fault::ServerRestarted | Fault::ServerCrashed => {
            server.restart(fault == Fault::ServerCrashed).await;
            handle
        }
    }
}

async fn cell(server: &PrivateServer, fault: Fault, moment: Moment) -> (Duration, u32) {
    let began = Instant::now();
    let seed = fastrand::u64(..);
    let what = format!("{fault:?} at {moment:?}");
    let proxy = Proxy::start(address(&server.url).port).await;
    let mut db = Db::on(&server.url, "fault").await;
    db.run("SET SESSION cte_max_recursion_depth = 1000000").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, v BIGINT NOT NULL, pad VARCHAR(100) NOT NULL DEFAULT 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxx', KEY (v))").await;
    db.run(&format!(
        "INSERT INTO t (id, v) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT i, 0 FROM n"
    ))
    .await;
    let scribe = Scribe::start(server.url.clone(), db.name.clone(), seed);
    let mut spec = db.spec("t", "MODIFY pad VARCHAR(200) NOT NULL DEFAULT '-', MODIFY v DECIMAL(20,0) NOT NULL");
    spec.server.port = proxy.port;
    let mut handle = theseus::engine::start(spec.clone(), if moment == Moment::Copying { slow() } else { manual(false) });
    reach(&handle, moment).await;
    handle = strike(fault, handle, &spec, &mut db, &proxy, server).await;
    handle.control(manual(true));
    let watch = handle.watch();
    let outcome = join(handle).await;
    // A new engine that finds everything done, tables swapped and cleaned up, cannot tell it from a table that never was migrated;
    // front ends keep the state table until they have written the result down, and so does this test's, except in this cell.
    let account = scribe.account().await;
    // The server may have been restarted meanwhile.
    let mut db = Db { conn: db_connect(server, &db.name).await, ..db };
    assert_eq!(outcome, Outcome::Succeeded, "{what}, seed {seed}");
    let rows: Vec<(u64, u64)> = db.conn.query("SELECT id, v FROM t ORDER BY id").await.expect("read the table");
    let expected: Vec<(u64, u64)> = account.into_iter().collect();
    assert_eq!(rows.len(), expected.len(), "{what}, seed {seed}: number of rows");
    let wrong: Vec<_> = rows.iter().zip(&expected).filter(|(a, b)| a != b).take(3).collect();
    assert!(wrong.is_empty(), "{what}, seed {seed}: {wrong:?}");
    assert!(db.definition("t").await.contains("`v` decimal(20,0)"), "{what}");
    assert_eq!(db.tables().await, ["t"], "{what}");
    let resumed = watch.borrow().resumed_count;
    db.drop().await;
    (began.elapsed(), resumed)
}

async fn db_connect(server: &PrivateServer, database: &str) -> mysql_async::Conn {
    let mut conn = support::connect(&server.url).await;
    conn.query_drop(format!("USE `{database}`")).await.expect("use the database");
    conn
}

async fn matrix(faults: &[Fault]) {
    let server = PrivateServer::start(&[]).await;
    println!("{:>18} {}", "", MOMENTS.iter().map(|m| format!("{m:>18?}")).collect::<String>());
    for fault in faults {
        let mut line = format!("{fault:>18?} ");
        for moment in MOMENTS {
            // A dead engine whose successor finds a finished migration would migrate once more: the record of the end is the front end's.
            if *moment == Moment::Swapped && matches!(fault, Fault::EngineKilled | Fault::EngineStopped | Fault::EngineReplaced) {
                line += &format!("{:>18}", "(front end's)");
                continue;
            }
            let (took, resumed) = cell(&server, *fault, *moment).await;
            line += &format!("{:>18}", format!("{:.1} s, {resumed} ×", took.as_secs_f32()));
        }
        println!("{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_of_the_engine_or_the_network() {
    matrix(ENGINE_FAULTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_of_the_server() {
    matrix(SERVER_FAULTS).await;
}
