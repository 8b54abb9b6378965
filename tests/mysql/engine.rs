//! The engine against a real server: one migration at a time, each thing it promises.
use crate::{proxy, support};

use proxy::{Hold, Proxy, plain};
use std::time::{Duration, Instant};
use support::{Db, address, controls, join, migrate, until};
use theseus::engine::contract::notice::ROWS_NOT_COUNTED;
use theseus::engine::contract::snapshot::Outcome;
use theseus::engine::contract::spec::{Controls, MigrationSpec, VerifyPolicy};
use theseus::engine::{ChunkRows, Environment, Handle};

/// The plainest case: rows arrive, the definition is the new one, nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_migrated_and_nothing_is_left() {
    let mut db = Db::new("plain").await;
    db.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(20) NOT NULL, b INT, KEY (b))").await;
    db.run("INSERT INTO t (a, b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT CONCAT('row ', i), i FROM n").await;
    let outcome =
        migrate(db.spec("t", "ADD COLUMN status VARCHAR(20) NOT NULL DEFAULT 'new', ADD INDEX (status), MODIFY b BIGINT"), controls())
            .await;
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!(db.tables().await, ["t"]);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t WHERE status = 'new' AND a = CONCAT('row ', b) AND id = b").await, 1000);
    assert!(db.definition("t").await.contains("`b` bigint DEFAULT NULL"));
    db.drop().await;
}

/// Each looks for prepared transactions, in a view that the server refreshes only when nobody has read it for a moment: at one pace they
/// kept each other from ever seeing the present. With and without the privilege to list them directly.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_start_together_do_not_hold_each_other_up() {
    let mut db = Db::new("together").await;
    let user = format!("together_{}", std::process::id());
    db.run(&format!("CREATE USER {user} IDENTIFIED BY 'secret'")).await;
    db.run(&format!("GRANT ALL ON `{}`.* TO {user}", db.name)).await;
    db.run(&format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT, PROCESS ON *.* TO {user}")).await;
    db.run(&format!("GRANT SELECT ON performance_schema.* TO {user}")).await;
    let mut running = Vec::new();
    for n in 0..8 {
        db.run(&format!("CREATE TABLE t{n} (id INT PRIMARY KEY)")).await;
        db.run(&format!("INSERT INTO t{n} VALUES (1)")).await;
        let mut spec = db.spec(&format!("t{n}"), "ADD COLUMN a INT");
        if n % 2 == 0 {
            (spec.server.username, spec.server.password) = (user.clone(), "secret".to_owned());
        }
        running.push(tokio::spawn(async move {
            let handle = theseus::engine::start(spec, controls());
            let mut watch = handle.watch();
            let retried =
                tokio::spawn(async move { watch.wait_for(|s| s.retrying.is_some()).await.map(|s| s.retrying.clone()).ok().flatten() });
            (join(handle).await, retried.await.expect("a watcher"))
        }));
    }
    for run in running {
        assert_eq!(run.await.expect("a migration"), (Outcome::Succeeded, None));
    }
    db.run(&format!("DROP USER {user}")).await;
    db.drop().await;
}

const ROWS: u64 = 5000;
/// What the server thinks that there are.
const THOUGHT: u64 = 1_000_000;
/// How the walk along the index goes from range to range.
const STEP: &str = "OFFSET 19999";

/// A table whose statistics are far off, and stay so.
async fn misjudged(prefix: &str) -> Db {
    let mut db = Db::new(prefix).await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL) STATS_PERSISTENT=1, STATS_AUTO_RECALC=0").await;
    db.run(&format!("INSERT INTO t SELECT n, n FROM (WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) SELECT a.n + 1000 * (b.n - 1) n FROM n a JOIN n b ON b.n <= {}) s", ROWS / 1000)).await;
    misjudge(&mut db).await;
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS);
    db
}

/// The server goes on from this number, whatever comes and goes.
async fn misjudge(db: &mut Db) {
    db.run(&format!("UPDATE mysql.innodb_table_stats SET n_rows = {THOUGHT} WHERE database_name = DATABASE() AND table_name = 't'")).await;
    db.run("FLUSH TABLES t").await;
}

/// Chunks of 20 rows with long rests between: nothing ends before it is looked at.
fn crawling(exact_row_count: bool) -> Controls {
    Controls { workers: 1, target_chunk_time: Duration::from_millis(1), nice_ratio_percent: 1000, exact_row_count, ..controls() }
}

/// Starts with chunks of 20 rows, which grow once they may take longer.
fn start(spec: MigrationSpec, controls: Controls) -> Handle {
    let chunk_rows = ChunkRows { first: 20, smallest: 20, ..ChunkRows::default() };
    theseus::engine::start_in(Environment { chunk_rows, ..Environment::default() }, spec, controls)
}

/// The server's estimate stays without the count; with it, the number is exact at once, also for the engine that comes after.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_counted_where_that_is_asked_for() {
    let mut db = misjudged("counted").await;
    let spec = || db.spec("t", "MODIFY a BIGINT NOT NULL");
    let handle = start(spec(), crawling(false));
    let s = until(&handle, "rows are copied", |s| s.progress.chunks >= 20).await;
    assert_eq!((s.progress.rows_estimated, s.progress.copy_complete), (THOUGHT, false), "the test is of no use");
    handle.control(crawling(true));
    let s = until(&handle, "the rows are counted", |s| s.progress.rows_estimated != THOUGHT).await;
    assert_eq!((s.progress.rows_estimated, s.progress.copy_complete), (ROWS, false));
    assert_eq!(u64::from(s.progress.percent()), s.progress.rows_copied * 100 / ROWS);
    // The number is written down a moment after it is told.
    until(&handle, "more rows are copied", |now| now.progress.chunks > s.progress.chunks + 10).await;
    handle.stop();
    assert_eq!(join(handle).await, Outcome::Stopped);

    let handle = start(spec(), crawling(false));
    let s = until(&handle, "the work is taken up", |s| s.resumed_count >= 1 && s.progress.rows_copied > 0).await;
    assert_eq!((s.progress.rows_estimated, s.progress.copy_complete), (ROWS, false));
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS);
    db.drop().await;
}

/// More ranges than one, and a rest; the count waits while copying is held.
#[tokio::test(flavor = "multi_thread")]
async fn the_count_rests_while_copying_is_held_and_walks_every_range() {
    let mut db = misjudged("count_ranges").await;
    db.run("INSERT INTO t SELECT id + 10000, a FROM t; INSERT INTO t SELECT id + 20000, a FROM t; INSERT INTO t SELECT id + 40000, a FROM t; INSERT INTO t SELECT id + 80000, a FROM t WHERE id < 12346").await;
    misjudge(&mut db).await;
    let rows = db.value::<u64>("SELECT COUNT(*) FROM t").await;
    assert!(rows > 40_000 && rows % 20_000 > 0, "{rows} rows: the test is of no use");
    let proxy = Proxy::start(address(&db.url).port).await;
    let spec = plain(db.spec("t", "MODIFY a BIGINT NOT NULL"), &proxy);
    let handle = start(spec, Controls { throttled_by_user: true, ..crawling(true) });
    // Changes are applied all the time, so the engine is at work.
    until(&handle, "it is throttled", |s| s.throttle.is_some()).await;
    db.run("UPDATE t SET a = a + 1 WHERE id <= 100").await;
    until(&handle, "changes are applied", |s| s.progress.changes_applied >= 100).await;
    assert!(!proxy.said_since(0).iter().any(|said| said.contains(STEP)), "it counts although copying is held");
    handle.control(crawling(true));
    let s = until(&handle, "the rows are counted", |s| s.progress.rows_estimated != THOUGHT).await;
    assert_eq!((s.progress.rows_estimated, s.progress.copy_complete), (rows, false));
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    db.drop().await;
}

/// A count that does not answer holds nothing up, and one that fails is told of and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_hangs_or_fails_is_not_the_migrations_business() {
    let db = misjudged("count_fails").await;
    let proxy = Proxy::start(address(&db.url).port).await;
    // The verification walks in the same way.
    let with = |controls: Controls| Controls { verify: VerifyPolicy::Never, exact_row_count: true, ..controls };
    let mut trap = proxy.trap(STEP, Hold::Answer);
    let handle = start(plain(db.spec("t", "MODIFY a BIGINT NOT NULL"), &proxy), with(crawling(true)));
    trap.sprung().await;
    // Stopping does not wait for it.
    let asked = Instant::now();
    handle.stop();
    assert_eq!(join(handle).await, Outcome::Stopped);
    assert!(asked.elapsed() < support::soon(Duration::from_secs(3)), "{:?}", asked.elapsed());
    trap.release();
    // Nor does the end of the copy.
    let mut trap = proxy.trap(STEP, Hold::Answer);
    let handle = start(plain(db.spec("t", "MODIFY a BIGINT NOT NULL"), &proxy), with(crawling(true)));
    trap.sprung().await;
    let watch = handle.watch();
    handle.control(with(controls()));
    assert_eq!(join(handle).await, Outcome::Succeeded);
    let s = watch.borrow().clone();
    assert!(s.progress.copy_complete && s.notices.iter().all(|n| n.reason != ROWS_NOT_COUNTED), "{:?}", s.notices);
    trap.release();

    let mut trap = proxy.trap(STEP, Hold::Answer);
    let handle = start(plain(db.spec("t", "MODIFY a INT NOT NULL"), &proxy), with(crawling(true)));
    trap.sprung().await;
    trap.tear();
    let s = until(&handle, "it is told", |s| s.notices.iter().any(|n| n.reason == ROWS_NOT_COUNTED)).await;
    assert!(!s.progress.copy_complete && s.retrying.is_none());
    let watch = handle.watch();
    handle.control(with(controls()));
    assert_eq!(join(handle).await, Outcome::Succeeded);
    let s = watch.borrow().clone();
    assert_eq!((s.resumed_count, s.notices.iter().filter(|n| n.reason == ROWS_NOT_COUNTED).count()), (0, 1));
    db.drop().await;
}
