//! A writer whose account is exact whatever dies, and a reader that never may miss the table.
#![allow(dead_code, reason = "each suite uses its own part")]

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long one statement may take before its connection counts as dead.
const PATIENCE: Duration = Duration::from_secs(30);

/// ER_NO_SUCH_TABLE
const NO_SUCH_TABLE: u16 = 1146;

async fn open(url: &str) -> Option<Conn> {
    tokio::time::timeout(Duration::from_secs(10), Conn::from_url(url)).await.ok()?.ok()
}

/// A table `t (id INT PRIMARY KEY, v BIGINT NOT NULL, …)` with `rows` rows whose `v` is 0.
pub async fn fill(db: &mut crate::support::Db, rows: u64) {
    db.run("SET SESSION cte_max_recursion_depth = 1000000").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v BIGINT NOT NULL, pad VARCHAR(100) NOT NULL DEFAULT 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxx', KEY (v))").await;
    db.run(&format!(
        "INSERT INTO t (id, v) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT i, 0 FROM n"
    ))
    .await;
}

/// What is migrated with it: two columns change, one of them the writer's.
pub const ALTER: &str = "MODIFY pad VARCHAR(200) NOT NULL DEFAULT '-', MODIFY v DECIMAL(20,0) NOT NULL";

/// Between two statements. There are many of both at a time: with a shorter one they would have the machine for themselves.
const PAUSE: Duration = Duration::from_millis(10);

/// Each statement says what a row is to be, and is repeated until it is taken.
pub struct Scribe {
    stop: Arc<AtomicBool>,
    /// Where to write; `None`: nowhere for now.
    to: watch::Sender<Option<String>>,
    /// Statements begun and ended.
    begun: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<BTreeMap<u64, u64>>,
}

impl Scribe {
    /// Writes to the table `t` of a database filled by [`fill`].
    pub fn start(url: &str, database: &str, rows: u64, seed: u64) -> Self {
        println!("writer of {database}: seed {seed}");
        let stop = Arc::new(AtomicBool::new(false));
        let (to, mut where_to) = watch::channel(Some(url.to_owned()));
        let (begun, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stopped, begins, ends) = (Arc::clone(&stop), Arc::clone(&begun), Arc::clone(&ended));
        let database = database.to_owned();
        let task = tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut account: BTreeMap<u64, u64> = (1..=rows).map(|id| (id, 0)).collect();
            let mut conn: Option<Conn> = None;
            let mut n = 0;
            while !stopped.load(Ordering::SeqCst) {
                begins.fetch_add(1, Ordering::SeqCst);
                // After the mark, so that a pause sees either the mark or no statement.
                if where_to.borrow_and_update().is_none() {
                    ends.fetch_add(1, Ordering::SeqCst);
                    conn = None;
                    tokio::select! {
                        _ = where_to.changed() => {}
                        () = tokio::time::sleep(Duration::from_millis(50)) => {}
                    }
                    continue;
                }
                n += 1;
                let id = random.u64(1..=rows + 500);
                let statement = if random.u8(..4) == 0 {
                    account.remove(&id);
                    format!("DELETE FROM `{database}`.t WHERE id = {id}")
                } else {
                    account.insert(id, n);
                    format!("INSERT INTO `{database}`.t (id, v) VALUES ({id}, {n}) ON DUPLICATE KEY UPDATE v = {n}")
                };
                loop {
                    if conn.is_none() {
                        let url = where_to.borrow().clone();
                        conn = open(url.as_deref().unwrap_or_default()).await;
                    }
                    let done = match conn.as_mut() {
                        Some(c) => matches!(tokio::time::timeout(PATIENCE, c.query_drop(&statement)).await, Ok(Ok(()))),
                        None => false,
                    };
                    if done {
                        break;
                    }
                    conn = None;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                ends.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(PAUSE).await;
            }
            account
        });
        Self { stop, to, begun, ended, task }
    }

    /// Writes no more, and returns when nothing is under way.
    pub async fn pause(&self) {
        self.to.send_replace(None);
        let end = std::time::Instant::now() + crate::support::PATIENCE;
        while self.begun.load(Ordering::SeqCst) != self.ended.load(Ordering::SeqCst) {
            assert!(std::time::Instant::now() < end, "the writer's statement does not end");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Goes on, on this server.
    pub fn resume(&self, url: &str) {
        self.to.send_replace(Some(url.to_owned()));
    }

    /// What the table must hold.
    pub async fn account(self) -> Vec<(u64, u64)> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the writer").into_iter().collect()
    }
}

/// Reads the table all the time, not through the proxy. At no moment may it be missing.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(u64, bool)>,
}

impl Watcher {
    pub fn start(url: &str, database: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (url, sql) = (url.to_owned(), format!("SELECT 1 FROM `{database}`.t LIMIT 1"));
        let task = tokio::spawn(async move {
            let mut conn: Option<Conn> = None;
            let (mut reads, mut missing) = (0, false);
            while !stopped.load(Ordering::SeqCst) {
                match conn.as_mut() {
                    None => conn = open(&url).await,
                    Some(c) => match tokio::time::timeout(PATIENCE, c.query_drop(&sql)).await {
                        Ok(Ok(())) => reads += 1,
                        Ok(Err(Error::Server(e))) if e.code == NO_SUCH_TABLE => missing = true,
                        _ => conn = None,
                    },
                }
                tokio::time::sleep(PAUSE).await;
            }
            (reads, missing)
        });
        Self { stop, task }
    }

    /// Fails when the table was missing once, or was never read.
    pub async fn judge(self, what: &str) {
        self.stop.store(true, Ordering::SeqCst);
        let (reads, missing) = self.task.await.expect("the reader");
        assert!(!missing, "{what}: the table was missing for a moment");
        assert!(reads > 0, "{what}: the reader has read nothing");
    }
}

/// The table has the account's rows.
pub async fn assert_account(db: &mut crate::support::Db, account: &[(u64, u64)], what: &str) {
    let rows: Vec<(u64, u64)> = db.conn.query("SELECT id, v FROM t ORDER BY id").await.expect("read the table");
    let wrong: Vec<_> = rows.iter().zip(account).filter(|(a, b)| a != b).take(3).collect();
    assert!(wrong.is_empty(), "{what}: (found, expected): {wrong:?}");
    assert_eq!(rows.len(), account.len(), "{what}: number of rows");
}
