//! The application: connections that run sysbench's `oltp_write_only` transaction in a closed loop, without think time.
//!
//! One transaction: `UPDATE k = k + 1` by id (touches an index), `UPDATE c` by id, `DELETE` and `INSERT` of one id; prepared statements.
//! Ids are drawn as sysbench 1.0 draws them by default (`special`: three quarters of the draws fall on a hundredth of the ids), or evenly
//! with `BENCH_RAND=uniform`.
use crate::support::Db;
use fastrand::Rng;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// ER_LOCK_DEADLOCK
const DEADLOCK: u16 = 1213;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    committed: AtomicU64,
    deadlocks: AtomicU64,
    /// Microseconds, since it was last asked for.
    longest: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// The running application.
pub struct App {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// A moment of it.
pub struct Moment {
    committed: u64,
    at: Instant,
}

/// What it did since a moment.
pub struct Since {
    /// Transactions committed per second.
    pub per_second: f64,
    /// The longest that one statement waited.
    pub longest: Duration,
}

/// How it ended.
pub struct Ended {
    /// Transactions that a deadlock undid.
    pub deadlocks: u64,
    /// Statements that failed.
    pub failures: Vec<String>,
}

impl App {
    /// Starts it.
    pub async fn start(db: &Db, table: &str, rows: u64, writers: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = Vec::new();
        let uniform = crate::setting("BENCH_RAND", "special".to_owned()) == "uniform";
        for writer in 0..writers {
            let one = Writer {
                conn: db.connect().await,
                table: table.to_owned(),
                rows: i64::try_from(rows).unwrap_or(i64::MAX),
                rng: Rng::with_seed(writer),
                uniform,
                shared: Arc::clone(&shared),
            };
            tasks.push(tokio::spawn(one.run()));
        }
        Self { shared, tasks }
    }

    /// Now; the longest wait is measured anew from here on.
    pub fn totals(&self) -> Moment {
        self.shared.longest.store(0, Ordering::Relaxed);
        Moment { committed: self.shared.committed.load(Ordering::Relaxed), at: Instant::now() }
    }

    /// Since then.
    pub fn since(&self, moment: &Moment) -> Since {
        let done = self.shared.committed.load(Ordering::Relaxed) - moment.committed;
        Since {
            per_second: done as f64 / moment.at.elapsed().as_secs_f64(),
            longest: Duration::from_micros(self.shared.longest.load(Ordering::Relaxed)),
        }
    }

    /// Ends it.
    pub async fn stop(self) -> Ended {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer's task");
        }
        let failures = self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ended { deadlocks: self.shared.deadlocks.load(Ordering::Relaxed), failures }
    }
}

struct Writer {
    conn: Conn,
    table: String,
    rows: i64,
    rng: Rng,
    uniform: bool,
    shared: Arc<Shared>,
}

impl Writer {
    async fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            match self.transaction().await {
                Ok(()) => {
                    self.shared.committed.fetch_add(1, Ordering::Relaxed);
                }
                Err(mysql_async::Error::Server(error)) if error.code == DEADLOCK => {
                    self.shared.deadlocks.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
                    return;
                }
            }
        }
        let _ = self.conn.disconnect().await;
    }

    fn id(&mut self) -> i64 {
        // sysbench's defaults: 75 % of the draws from 1 % of the range, in its middle.
        if self.uniform || self.rng.u8(..4) == 0 {
            self.rng.i64(1..=self.rows)
        } else {
            let width = (self.rows / 100).max(1);
            (self.rows - width) / 2 + self.rng.i64(1..=width)
        }
    }

    fn text(&mut self, groups: usize) -> String {
        (0..groups).map(|_| format!("{:011}", self.rng.u64(..100_000_000_000))).collect::<Vec<_>>().join("-")
    }

    async fn transaction(&mut self) -> Result<(), mysql_async::Error> {
        let (first, second, third) = (self.id(), self.id(), self.id());
        let (c, again, pad) = (self.text(10), self.text(10), self.text(5));
        let k = self.rng.i64(1..=self.rows);
        let table = self.table.clone();
        self.timed("BEGIN", None).await?;
        self.timed(&format!("UPDATE {table} SET k = k + 1 WHERE id = ?"), Some((first,).into())).await?;
        self.timed(&format!("UPDATE {table} SET c = ? WHERE id = ?"), Some((c, second).into())).await?;
        self.timed(&format!("DELETE FROM {table} WHERE id = ?"), Some((third,).into())).await?;
        self.timed(&format!("INSERT INTO {table} (id, k, c, pad) VALUES (?, ?, ?, ?)"), Some((third, k, again, pad).into())).await?;
        self.timed("COMMIT", None).await
    }

    /// With values: a prepared statement.
    async fn timed(&mut self, sql: &str, values: Option<mysql_async::Params>) -> Result<(), mysql_async::Error> {
        let began = Instant::now();
        let result = match values {
            Some(values) => self.conn.exec_drop(sql, values).await,
            None => self.conn.query_drop(sql).await,
        };
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.longest.fetch_max(micros, Ordering::Relaxed);
        result
    }
}
