//! The visibility hole and the barrier that closes it, on a server whose commits are held between the binary log and the
//! engine: semi-synchronous replication waits there for a replica that does not exist.
use crate::support;

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Db, PrivateServer, controls, join, until};
use theseus::engine::ChunkRows;
use theseus::engine::contract::error::EngineError;
use theseus::engine::contract::progress::Tally;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy};
use theseus::engine::rows::applier::{Applier, Cycle};
use theseus::engine::rows::copier::Copier;
use theseus::engine::rows::inbox::Inbox;
use theseus::engine::rows::migration::Visibility;
use theseus::engine::rows::streamer::Streamer;
use theseus::engine::rows::watched::watched_tables;
use theseus::engine::throttle::decide::Decision;
use theseus::mysql::Session;
use theseus::mysql::server::ServerFacts;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const OPTIONS: &[&str] = &[
    "--plugin-load-add=semisync_source.so",
    "--loose-rpl-semi-sync-source-wait-point=AFTER_SYNC",
    "--loose-rpl-semi-sync-source-timeout=2000",
];

/// Holds the next commits between log and engine for two seconds.
async fn hold_commits(db: &mut Db) {
    db.run("SET GLOBAL rpl_semi_sync_source_enabled = 0").await;
    db.run("SET GLOBAL rpl_semi_sync_source_enabled = 1").await;
}

/// The parts of an engine that follow the log, each step of them in a test's hands.
struct Following {
    inbox: Arc<Inbox>,
    applier: Applier,
    copier: Arc<Copier>,
    facts: ServerFacts,
    control: Session,
    cancel: CancellationToken,
    streamer: Option<Streamer>,
    stream: Option<tokio::task::JoinHandle<Result<(), EngineError>>>,
    steering: watch::Sender<Controls>,
    _watched: Box<dyn std::any::Any + Send>,
}

impl Following {
    /// With so many bytes for dirty keys.
    async fn start(db: &Db, alter: &str, visibility: Option<Visibility>, limit: usize) -> Self {
        let mut following = Self::behind(db, alter, visibility, limit, controls(), ChunkRows::default()).await;
        following.follow();
        following
    }

    /// The stream brings nothing before [`Following::follow`].
    async fn behind(db: &Db, alter: &str, visibility: Option<Visibility>, limit: usize, controls: Controls, chunk_rows: ChunkRows) -> Self {
        let (mut ready, control, (publisher, snapshots)) = support::ready(db, alter).await;
        if let Some(visibility) = visibility {
            Arc::get_mut(&mut ready.migration).expect("not shared yet").visibility = visibility;
        }
        let m = ready.migration;
        let inbox = Arc::new(Inbox::new(ready.safe.point(), limit));
        let cancel = CancellationToken::new();
        let streamer =
            Streamer::open(&m.spec.server, ready.start, &ready.safe.position, watched_tables(&m, 0).expect("a key"), Arc::clone(&inbox))
                .await
                .expect("a stream");
        let board = Arc::new(Mutex::new(ready.board));
        let records = Arc::new(Mutex::new(Vec::new()));
        let applier =
            Applier::open(Arc::clone(&m), Arc::clone(&inbox), Arc::clone(&board), Arc::clone(&records), 1, ready.safe.point(), &[], 0)
                .await
                .expect("an applier");
        let (steering, control_levels) = watch::channel(controls);
        let (number, allowed) = watch::channel(1);
        let (decision, decided) = watch::channel(Decision::free());
        let copier = Arc::new(Copier::new(
            Arc::clone(&m),
            board,
            Arc::clone(&inbox),
            control_levels,
            allowed,
            decided,
            Tally::new(publisher),
            records,
            chunk_rows,
        ));
        let facts = m.facts.clone();
        let streamer = Some(streamer);
        Self {
            inbox,
            applier,
            copier,
            facts,
            control,
            cancel,
            streamer,
            stream: None,
            steering,
            _watched: Box::new((number, decision, snapshots)),
        }
    }

    fn follow(&mut self) {
        self.stream = self.streamer.take().map(|streamer| tokio::spawn(streamer.run(self.cancel.clone())));
    }

    async fn cycle(&mut self) -> Cycle {
        self.applier.cycle(&|| false).await.expect("a cycle")
    }

    async fn copy(&mut self) {
        Arc::clone(&self.copier).worker(0, self.cancel.clone()).await.expect("the rows are copied");
    }

    /// Cycles until all that is in the log now is applied. Returns the largest number of dirty keys that were in memory at a time.
    async fn catch_up(&mut self) -> usize {
        let (end, _) = self.facts.log_end(&mut self.control).await.expect("the end of the log");
        let position = self.inbox.positions();
        let mut most = 0;
        let late = Instant::now() + support::PATIENCE;
        loop {
            let there = *position.borrow() >= end;
            let cycle = self.cycle().await;
            most = most.max(cycle.taken);
            if there && cycle.kept == 0 && self.applier.backlog() == 0 {
                return most;
            }
            assert!(Instant::now() < late, "it does not catch up: {cycle:?}, {:?} of {end:?}", position.borrow());
            assert!(self.stream.as_ref().is_some_and(|stream| !stream.is_finished()), "the stream has ended");
        }
    }

    async fn end(self) {
        self.cancel.cancel();
        if let Some(stream) = self.stream {
            stream.await.expect("joined").expect("the stream ends well");
        }
    }
}

/// The ghost's value of the first changed row after one flush cycle that began right when the change was received. With a small limit the
/// transaction is received in parts, and its end is not.
async fn ghost_after_a_cycle(server: &PrivateServer, visibility: Visibility, gtid: bool, limit: usize) -> u64 {
    let mut db = Db::on(&server.url, "hole").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL)").await;
    db.run("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, 0 FROM n").await;
    let mut engine = Following::start(&db, "MODIFY v BIGINT NOT NULL", Some(visibility), limit).await;
    assert_eq!(engine.facts.gtid, gtid);
    engine.copy().await;
    engine.cycle().await;

    hold_commits(&mut db).await;
    let mut writer = db.connect().await;
    let update = tokio::spawn(async move {
        mysql_async::prelude::Queryable::query_drop(&mut writer, "UPDATE t SET v = 1").await.expect("update");
    });
    tokio::time::timeout(support::PATIENCE, async {
        while engine.inbox.counts().0 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the change is received while its commit is held");
    assert!(!update.is_finished(), "the server does not hold the commit: the test would show nothing");
    assert_eq!(engine.inbox.partial(), limit != LIMIT);
    let past: i32 = db.value("SELECT v FROM t WHERE id = 1").await;
    assert_eq!(past, 0, "this is the hole: who reads now, without a barrier, reads the past, and the change is lost");
    assert!(!update.is_finished(), "it was held until then");
    let cycle = engine.cycle().await;
    if limit == LIMIT {
        assert_eq!(cycle.reconciled, 900);
    } else {
        assert!((10..700).contains(&cycle.reconciled), "a part: {cycle:?}");
    }
    let value = db.value("SELECT v FROM _t_gho WHERE id = 1").await;
    update.await.expect("the update returns");
    engine.catch_up().await;
    engine.end().await;
    db.drop().await;
    value
}

const LIMIT: usize = 1 << 20;
/// The keys of 900 rows are several times as much.
const SMALL: usize = 8 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_received_change_is_read_only_behind_the_barrier() {
    let server = PrivateServer::start(OPTIONS).await;
    assert_eq!(ghost_after_a_cycle(&server, Visibility::Gtids, true, LIMIT).await, 1);
    assert_eq!(ghost_after_a_cycle(&server, Visibility::Marker, true, LIMIT).await, 1);
    // And so is the first part of a transaction, before its end is received.
    assert_eq!(ghost_after_a_cycle(&server, Visibility::Gtids, true, SMALL).await, 1);
    assert_eq!(ghost_after_a_cycle(&server, Visibility::Marker, true, SMALL).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_gtids_and_ordered_commits_row_locks_are_the_barrier() {
    let options: Vec<&str> =
        OPTIONS.iter().copied().chain(["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", "--binlog-order-commits=OFF"]).collect();
    let server = PrivateServer::start(&options).await;
    for limit in [LIMIT, SMALL] {
        assert_eq!(ghost_after_a_cycle(&server, Visibility::RowLocks, false, limit).await, 1);
    }
}

/// The whole engine, with commits held while rows are copied, while the tail is applied and at the cut-over.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_commits_are_held() {
    let server = PrivateServer::start(OPTIONS).await;
    let mut db = Db::on(&server.url, "held").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL)").await;
    db.run("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, 0 FROM n").await;
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    hold_commits(&mut db).await;
    let mut before = db.connect().await;
    let first = tokio::spawn(async move {
        mysql_async::prelude::Queryable::query_drop(&mut before, "UPDATE t SET v = 1 WHERE id <= 300").await.expect("update");
    });
    let handle = theseus::engine::start(db.spec("t", "MODIFY v BIGINT NOT NULL"), manual.clone());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    first.await.expect("joined");
    hold_commits(&mut db).await;
    db.run("UPDATE t SET v = v + 2 WHERE id BETWEEN 200 AND 500").await;
    hold_commits(&mut db).await;
    let mut last = db.connect().await;
    let held = tokio::spawn(async move {
        mysql_async::prelude::Queryable::query_drop(&mut last, "UPDATE t SET v = v + 4 WHERE id BETWEEN 400 AND 900")
            .await
            .expect("update");
    });
    handle.control(Controls { approved: true, ..manual });
    assert_eq!(join(handle).await, Outcome::Succeeded);
    held.await.expect("joined");
    let wrong =
        "SELECT COUNT(*) FROM t WHERE v <> IF(id <= 300, 1, 0) + IF(id BETWEEN 200 AND 500, 2, 0) + IF(id BETWEEN 400 AND 900, 4, 0)";
    assert_eq!(db.value::<u64>(wrong).await, 0);
    db.drop().await;
}

/// Transactions that are larger than the memory for their keys, of every kind, while rows are copied and afterwards: what they have left is
/// on the ghost, and never more keys were in memory than there is room for.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_are_larger_than_memory() {
    const ROWS: u64 = 3000;
    let anonymous = PrivateServer::start(&["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]).await;
    let x = fastrand::u64(..);
    let xa = |name: &str, work: &str, end: &str| format!("XA START '{name}-{x:x}'; {work}; XA END '{name}-{x:x}'; {end} '{name}-{x:x}'");
    let moved = "UPDATE t SET u = -u";
    // The keys are text in a collation, and in another order than the numbers.
    let table = "CREATE TABLE t (id VARCHAR(100) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, u INT NOT NULL, v INT, UNIQUE KEY (u))";
    let transactions = [
        // Every value goes to the next row: behind a detour, and against the order of the keys.
        format!("START TRANSACTION; {moved}; UPDATE t SET u = 1 - u; COMMIT"),
        "UPDATE t SET u = u + 1 ORDER BY u DESC".to_owned(),
        format!("START TRANSACTION; {moved}; UPDATE t SET u = IF(u = -1, 3001, -u - 1) ORDER BY id; COMMIT"),
        "START TRANSACTION; UPDATE t SET v = 1; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; UPDATE t SET v = v + 1; COMMIT".to_owned(),
        "START TRANSACTION; DELETE FROM t WHERE u % 3 = 0; INSERT INTO t SELECT CONCAT('new', id), -u, 7 FROM t WHERE u % 3 = 1; COMMIT"
            .to_owned(),
        xa("one", "UPDATE t SET v = 5", "XA COMMIT") + " ONE PHASE",
        // Prepared, with others in between, and ended later: as far as is left open here, at the end of the test.
        xa("two", "UPDATE t SET v = v + 1000 WHERE u % 2 = 0", "XA PREPARE"),
        "UPDATE t SET v = v + 3 WHERE u % 2 = 1".to_owned(),
        format!("XA COMMIT 'two-{x:x}'"),
        xa("three", "DELETE FROM t WHERE u % 2 = 1", "XA PREPARE"),
        format!("XA ROLLBACK 'three-{x:x}'"),
        xa("four", "UPDATE t SET u = u + 100000 WHERE u % 7 = 1", "XA PREPARE"),
        "UPDATE t SET v = v + 3 WHERE u % 7 = 2".to_owned(),
    ];
    for (url, copied) in [(support::mysql_url(), true), (support::mysql_url(), false), (anonymous.url.clone(), true)] {
        let mut db = Db::on(&url, "parts").await;
        db.run("SET SESSION cte_max_recursion_depth = 100000").await;
        db.run(table).await;
        db.run(&format!("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT CONCAT('Key ', SHA2(i, 224)), i, 0 FROM n")).await;
        let mut engine = Following::start(&db, "MODIFY v BIGINT", None, 4 * SMALL).await;
        if copied {
            engine.copy().await;
        }
        let mut most = 0;
        let equal = "SELECT COUNT(*) FROM t LEFT JOIN _t_gho g USING (id) WHERE t.u = g.u AND t.v <=> g.v";
        for transaction in &transactions {
            let mut writer = db.connect().await;
            // So that a prepared transaction locks its own rows only.
            let sql = format!("SET SESSION transaction_isolation='READ-COMMITTED'; {transaction}");
            mysql_async::prelude::Queryable::query_drop(&mut writer, sql).await.unwrap_or_else(|e| panic!("{transaction}: {e}"));
            drop(writer);
            if copied {
                most = most.max(engine.catch_up().await);
                let rows: u64 = db.value("SELECT COUNT(*) FROM t").await;
                assert_eq!(db.value::<u64>(equal).await, rows, "{transaction}");
                assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM _t_gho").await, rows, "{transaction}");
            }
        }
        if !copied {
            let copier = Arc::clone(&engine.copier);
            let (copy, cancel) = (tokio::spawn(copier.worker(0, engine.cancel.clone())), engine.cancel.clone());
            most = most.max(engine.catch_up().await);
            copy.await.expect("joined").expect("the rows are copied");
            assert!(!cancel.is_cancelled());
        }
        db.run(&format!("XA COMMIT 'four-{x:x}'")).await;
        most = most.max(engine.catch_up().await);
        let rows: u64 = db.value("SELECT COUNT(*) FROM t").await;
        assert_eq!(db.value::<u64>(equal).await, rows);
        assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM _t_gho").await, rows);
        // 32 kB for keys of 36 bytes, and what a part may be beyond that.
        assert!((50..600).contains(&most), "{most} keys at a time");
        engine.end().await;
        db.drop().await;
    }
}

/// Values of a unique index go from copied rows to rows that are yet to be copied, while the stream is behind: the ghost's rows that still
/// have them are stale, and no duplicates, however often the chunk meets them. Of each kind of index.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_change_rows_while_the_stream_is_behind_are_no_duplicates() {
    const ROWS: u64 = 30;
    for (index, value) in [
        ("v", "v"),
        ("(ABS(v))", "v"),
        ("(CAST(j AS UNSIGNED ARRAY))", "j"),
        ("(CAST(j->'$.all' AS DECIMAL(8,2) ARRAY))", "j"),
        ("f, (CAST(j->'$.names' AS CHAR(20) ARRAY))", "j"),
    ] {
        let mut db = Db::new("stale").await;
        db.run(&format!("CREATE TABLE t (id INT PRIMARY KEY, v INT, j JSON, f INT NOT NULL DEFAULT 1, UNIQUE KEY u ({index}))")).await;
        let json = match index {
            i if i.contains("all") => "JSON_OBJECT('all', JSON_ARRAY(i, i + 0.25))",
            i if i.contains("names") => "JSON_OBJECT('names', JSON_ARRAY(CONCAT('a', i), CONCAT('b', i), CONCAT('b', i)))",
            _ => "JSON_ARRAY(i, i + 1000)",
        };
        db.run(&format!("INSERT INTO t (id, v, j) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT i, i, {json} FROM n")).await;
        // Ten rows in a chunk, and a long rest after the first one, in which the copy is throttled.
        let slow = Controls { nice_ratio_percent: u16::MAX, ..controls() };
        let mut engine = Following::behind(&db, "ADD COLUMN x INT", None, LIMIT, slow.clone(), support::chunks_of(10).chunk_rows).await;
        let copier = Arc::clone(&engine.copier);
        let copy = tokio::spawn(copier.worker(0, engine.cancel.clone()));
        while engine.copier.done(false).chunks == 0 {
            assert!(!copy.is_finished(), "{index}");
            tokio::task::yield_now().await;
        }
        let free = Controls { nice_ratio_percent: 0, ..slow };
        engine.steering.send_replace(Controls { throttled_by_user: true, ..free.clone() });
        db.run(&format!(
            "CREATE TABLE moved SELECT id + 10 AS id, v, j FROM t WHERE id <= 10; \
             START TRANSACTION; UPDATE t SET v = NULL, j = NULL WHERE id <= 20; UPDATE t JOIN moved USING (id) SET t.{value} = moved.{value}; COMMIT"
        ))
        .await;
        assert_eq!(engine.copier.done(false).chunks, 1, "{index}");
        engine.steering.send_replace(free);
        let late = Instant::now() + Duration::from_secs(60);
        while !copy.is_finished() {
            engine.cycle().await;
            assert!(Instant::now() < late, "{index}: nobody looks for whoever is in the way");
        }
        copy.await.expect("joined").unwrap_or_else(|e| panic!("{index}: {e:?}"));
        engine.follow();
        engine.catch_up().await;
        let equal = "SELECT COUNT(*) FROM t JOIN _t_gho g USING (id) WHERE t.v <=> g.v AND t.j <=> g.j";
        assert_eq!(db.value::<u64>(equal).await, ROWS, "{index}");
        engine.end().await;
        db.drop().await;
    }
}

/// The same of rows that change values again and again while they are copied and while changes are applied, with all parts of the engine at
/// work; and of values that are equal for the index's type alone.
#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_multi_valued_index_change_rows_under_load() {
    const ROWS: u64 = 600;
    let mut db = Db::new("multi").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, j JSON, UNIQUE KEY u ((CAST(j AS UNSIGNED ARRAY))))").await;
    db.run(&format!("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT i, JSON_ARRAY(i, i + 1000) FROM n")).await;
    let stop = CancellationToken::new();
    let mut writer = db.connect().await;
    let stopped = stop.clone();
    let writes = tokio::spawn(async move {
        let mut exchanged = 0_u64;
        while !stopped.is_cancelled() {
            let (a, b) = (fastrand::u64(1..=ROWS), fastrand::u64(1..=ROWS));
            if a != b {
                let sql = format!(
                    "START TRANSACTION; SELECT j INTO @a FROM t WHERE id = {a} FOR UPDATE; SELECT j INTO @b FROM t WHERE id = {b} FOR UPDATE; \
                     UPDATE t SET j = NULL WHERE id = {a}; UPDATE t SET j = @a WHERE id = {b}; UPDATE t SET j = @b WHERE id = {a}; COMMIT"
                );
                mysql_async::prelude::Queryable::query_drop(&mut writer, sql).await.expect("exchange");
                exchanged += 1;
            }
        }
        exchanged
    });
    let closed = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let handle = theseus::engine::start_in(support::chunks_of(20), db.spec("t", "ADD COLUMN x INT"), closed);
    let copied = until(&handle, "all rows are copied", |s| s.progress.copy_complete).await.progress.changes_applied;
    until(&handle, "as many changes again are applied", |s| s.progress.changes_applied > copied + ROWS).await;
    // One that changes each row within a cycle, on a machine that is slow enough, is never caught up with.
    stop.cancel();
    println!("{} exchanges", writes.await.expect("the writer"));
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    let sums = "SELECT CONCAT(COUNT(*), ' ', SUM(j->'$[0]'), ' ', SUM(j->'$[1]')) FROM t";
    let sum = ROWS * (ROWS + 1) / 2;
    assert_eq!(db.value::<String>(sums).await, format!("{ROWS} {sum} {}", sum + 1000 * ROWS));

    // Two numbers that are one when they are rounded for the index.
    db.run("CREATE TABLE r (id INT PRIMARY KEY, j JSON); INSERT INTO r VALUES (1, '[1.04]'), (2, '[2.5]'), (3, '[1.01]')").await;
    let duplicate = support::migrate(db.spec("r", "ADD UNIQUE KEY u ((CAST(j AS DECIMAL(4,1) ARRAY)))"), controls()).await;
    let Outcome::Failed { reason, message } = duplicate else { panic!("{duplicate:?}") };
    assert_eq!(reason, theseus::engine::contract::reason::Reason::DuplicateKey, "{message}");
    db.drop().await;
}
