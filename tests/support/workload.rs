//! Writers that keep their own account, for the lost-write oracle and the demo.
//!
//! Each writer is one connection that behaves like an application: inserts, updates of hot and cold rows, deletes, changes of the primary
//! key, values of a unique column that move from row to row, transactions of several statements that commit, roll back, or roll back to a
//! savepoint, and reads of what it wrote. Every row belongs to one writer, which alone touches it and remembers what it must look like, so
//! that at any pause between transactions the whole table can be compared with the accounts ([`Workload::verify`]).
//!
//! The statements name their columns, so that they are valid before and after an ALTER that adds columns or indexes or widens a type. An
//! error of a statement is a failure of whoever else is at work on the table; only a deadlock (1213) is taken as an application takes it:
//! the transaction is made anew, and counted.
#![allow(dead_code, reason = "the oracle and the demo each use their own part")]

use fastrand::Rng;
use futures::TryStreamExt as _;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Params, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as AsyncMutex, RwLock};
use tokio::task::JoinHandle;

/// Rows of a writer that get a large share of its updates.
const HOT_ROWS: i64 = 4;
/// ER_LOCK_DEADLOCK: the server has rolled the transaction back, and says to make it anew.
const DEADLOCK: u16 = 1213;
/// Differences that a report names.
const NAMED: usize = 20;

/// What to write to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `mysql://USER:PASSWORD@HOST:PORT`
    pub url: String,
    /// Schema.
    pub database: String,
    /// Table, as [`create`] made it.
    pub table: String,
    /// Rows that [`create`] loaded.
    pub rows: u64,
    /// Connections.
    pub writers: u64,
    /// Transactions per second and writer; `None`: as fast as the server answers (closed loop).
    pub rate: Option<f64>,
    /// For repeating a run (of each writer alone: what the server interleaves is its own affair).
    pub seed: u64,
}

/// A row, as far as the writers know it: columns that a migration adds are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    writer: u64,
    customer: i64,
    /// Cents.
    amount: i64,
    /// Unique.
    reference: Option<i64>,
    note: String,
}

impl Row {
    /// What [`create`] loads under an id.
    fn loaded(id: i64, writers: u64) -> Self {
        let length = usize::try_from(id % 60).unwrap_or(0);
        Self {
            writer: id.unsigned_abs() % writers,
            customer: id * 7919 % 100_003,
            amount: id * 31 % 100_000,
            reference: Some(id),
            note: format!("order {id} {}", "·".repeat(length)),
        }
    }
}

/// Makes the table and loads it.
///
/// # Errors
/// The server's.
pub async fn create(conn: &mut Conn, database: &str, table: &str, rows: u64, writers: u64) -> Result<(), mysql_async::Error> {
    conn.query_drop(format!(
        "CREATE TABLE `{database}`.`{table}` (\
         id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, writer SMALLINT NOT NULL, customer INT NOT NULL, amount DECIMAL(10,2) NOT NULL, \
         reference BIGINT NULL, note VARCHAR(200) NOT NULL, UNIQUE KEY reference (reference), KEY customer (customer)) \
         DEFAULT CHARSET=utf8mb4"
    ))
    .await?;
    const STEP: u64 = 20_000;
    conn.query_drop(format!("SET SESSION cte_max_recursion_depth = {STEP}")).await?;
    let mut from = 1;
    while from <= rows {
        let to = (from + STEP - 1).min(rows);
        conn.query_drop(format!(
            "INSERT INTO `{database}`.`{table}` (id, writer, customer, amount, reference, note) \
             WITH RECURSIVE n (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to}) \
             SELECT i, i % {writers}, i * 7919 % 100003, (i * 31 % 100000) / 100, i, CONCAT('order ', i, ' ', REPEAT('·', i % 60)) FROM n"
        ))
        .await?;
        from = to + 1;
    }
    Ok(())
}

/// How long statements took: buckets of an eighth of a power of two (within 6 %), and the longest exactly.
#[derive(Clone, Debug)]
pub struct Latency {
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: vec![0; 8 * 64], count: 0, max: Duration::ZERO }
    }
}

impl Latency {
    /// One more.
    pub fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(8);
        let power = micros.ilog2();
        let eighth = (micros >> (power - 3)) & 7;
        let bucket = usize::try_from(u64::from(power) * 8 + eighth).unwrap_or(0);
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(took);
    }

    /// The time that this share (0–1) of the statements did not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut sum = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            sum += n;
            if sum >= wanted.max(1) {
                let (power, eighth) = (bucket / 8, bucket % 8);
                let end = ((8 + eighth as u64 + 1) << power) >> 3;
                return Duration::from_micros(end).min(self.max);
            }
        }
        self.max
    }

    /// Statements.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// Both together.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }
}

/// What the writers did so far.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Statements that the server has answered.
    pub statements: u64,
    /// Transactions committed.
    pub committed: u64,
    /// Transactions rolled back on purpose.
    pub rolled_back: u64,
    /// Transactions made anew after a deadlock.
    pub deadlocks: u64,
    /// Statements that failed: each is a failure of the run.
    pub failures: Vec<String>,
    /// How long statements took, since the last [`Workload::reset_latency`].
    pub latency: Latency,
}

/// What one writer knows of its rows: the difference from what [`create`] loaded.
struct Account {
    writer: u64,
    writers: u64,
    rows: u64,
    /// Present rows, and `None` for those that are gone.
    changed: HashMap<i64, Option<Row>>,
    /// Ids that this writer has made, for choosing one; some are gone again.
    made: Vec<i64>,
    /// Ids free to be used again.
    freed: Vec<i64>,
    next_negative: i64,
    next_reference: i64,
}

impl Account {
    fn new(writer: u64, plan: &Plan) -> Self {
        let own = i64::try_from(writer + 1).unwrap_or(1) << 40;
        Self {
            writer,
            writers: plan.writers,
            rows: plan.rows,
            changed: HashMap::new(),
            made: Vec::new(),
            freed: Vec::new(),
            next_negative: -own,
            next_reference: own,
        }
    }

    fn was_loaded(&self, id: i64) -> bool {
        id > 0 && id.unsigned_abs() <= self.rows && id.unsigned_abs() % self.writers == self.writer
    }

    fn get(&self, id: i64) -> Option<Row> {
        match self.changed.get(&id) {
            Some(row) => row.clone(),
            None if self.was_loaded(id) => Some(Row::loaded(id, self.writers)),
            None => None,
        }
    }

    fn commit(&mut self, draft: Draft) {
        for (id, row) in draft.changes {
            match &row {
                Some(_) if !self.was_loaded(id) && self.get(id).is_none() => self.made.push(id),
                None if self.freed.len() < 200 => self.freed.push(id),
                _ => {}
            }
            self.changed.insert(id, row);
        }
        if self.made.len() > 10_000 {
            let changed = &self.changed;
            self.made.retain(|id| changed.get(id).is_some_and(Option::is_some));
            self.made.sort_unstable();
            self.made.dedup();
        }
    }
}

/// What a transaction under way would change.
#[derive(Clone, Default)]
struct Draft {
    changes: BTreeMap<i64, Option<Row>>,
}

impl Draft {
    fn get(&self, account: &Account, id: i64) -> Option<Row> {
        self.changes.get(&id).cloned().unwrap_or_else(|| account.get(id))
    }
}

/// Running writers.
pub struct Workload {
    plan: Plan,
    accounts: Vec<Arc<AsyncMutex<Account>>>,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    /// Read by a writer for the time of a transaction, written by whoever wants them all to pause.
    pause: RwLock<()>,
    totals: Mutex<Totals>,
    committed: AtomicU64,
    /// The bits of [`Plan::rate`]; zero: as fast as the server answers.
    rate: AtomicU64,
}

impl Shared {
    fn totals(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workload {
    /// Connects the writers and lets them write.
    ///
    /// # Errors
    /// A connection that cannot be made.
    pub async fn start(plan: Plan) -> Result<Self, mysql_async::Error> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            pause: RwLock::new(()),
            totals: Mutex::new(Totals::default()),
            committed: AtomicU64::new(0),
            rate: AtomicU64::new(plan.rate.unwrap_or(0.0).to_bits()),
        });
        let (mut accounts, mut tasks) = (Vec::new(), Vec::new());
        for writer in 0..plan.writers {
            let account = Arc::new(AsyncMutex::new(Account::new(writer, &plan)));
            let conn = Conn::new(
                OptsBuilder::from_opts(Opts::from_url(&plan.url)?).db_name(Some(plan.database.clone())).prefer_socket(Some(false)),
            )
            .await?;
            let one = Writer {
                conn,
                table: format!("`{}`", plan.table),
                rng: Rng::with_seed(plan.seed.wrapping_mul(1_000_003).wrapping_add(writer)),
                shared: Arc::clone(&shared),
                latency: Latency::default(),
                statements: 0,
            };
            tasks.push(tokio::spawn(one.run(Arc::clone(&account))));
            accounts.push(account);
        }
        Ok(Self { plan, accounts, shared, tasks })
    }

    /// From now on, [`Plan::rate`] is this.
    pub fn pace(&self, rate: Option<f64>) {
        self.shared.rate.store(rate.unwrap_or(0.0).to_bits(), Ordering::Relaxed);
    }

    /// What was done so far.
    pub fn totals(&self) -> Totals {
        let mut totals = self.shared.totals().clone();
        totals.committed = self.shared.committed.load(Ordering::Relaxed);
        totals
    }

    /// Begins a new measurement of latency, and returns the one that ends.
    pub fn reset_latency(&self) -> Latency {
        std::mem::take(&mut self.shared.totals().latency)
    }

    /// Compares every row of the table with the accounts, while the writers pause between two transactions. `Ok`: rows compared.
    ///
    /// # Errors
    /// A sentence for each difference, and for each statement of a writer that failed.
    pub async fn verify(&self) -> Result<u64, String> {
        let _paused = self.shared.pause.write().await;
        let failures = self.totals().failures;
        if !failures.is_empty() {
            return Err(format!("{} statements of the writers failed: {}", failures.len(), failures.join("; ")));
        }
        let mut changed = HashMap::new();
        for account in &self.accounts {
            let account = account.lock().await;
            for (id, row) in &account.changed {
                if let Some(other) = changed.insert(*id, row.clone()) {
                    return Err(format!("two writers own row {id}: {row:?}, {other:?}; the test is wrong"));
                }
            }
        }
        compare(&self.plan, &changed).await
    }

    /// Ends the writers and returns what they did; [`Workload::verify`] goes on working.
    pub async fn stop(&mut self) -> Totals {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            if let Err(error) = task.await {
                self.shared.totals().failures.push(format!("a writer's task ended: {error}"));
            }
        }
        self.totals()
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Reads the table in key order beside what must be there.
async fn compare(plan: &Plan, changed: &HashMap<i64, Option<Row>>) -> Result<u64, String> {
    let loaded = |id: i64| id > 0 && id.unsigned_abs() <= plan.rows;
    let expected = |id: i64| match changed.get(&id) {
        Some(row) => row.clone(),
        None if loaded(id) => Some(Row::loaded(id, plan.writers)),
        None => None,
    };
    let gone = changed.iter().filter(|(id, row)| loaded(**id) && row.is_none()).count() as u64;
    let made = changed.iter().filter(|(id, row)| !loaded(**id) && row.is_some()).count() as u64;
    let wanted = plan.rows - gone + made;

    let mut differences = Vec::new();
    let mut found = 0_u64;
    let mut present = std::collections::HashSet::new();
    let read = async {
        let opts = OptsBuilder::from_opts(Opts::from_url(&plan.url)?).prefer_socket(Some(false));
        let mut conn = Conn::new(opts).await?;
        let sql = format!(
            "SELECT id, writer, customer, CAST(amount * 100 AS SIGNED), reference, note FROM `{}`.`{}` FORCE INDEX (PRIMARY) ORDER BY id",
            plan.database, plan.table
        );
        {
            let mut rows = conn.exec_stream::<(i64, u64, i64, i64, Option<i64>, String), _, _>(sql, ()).await?;
            while let Some((id, writer, customer, amount, reference, note)) = rows.try_next().await? {
                found += 1;
                present.insert(id);
                let is = Some(Row { writer, customer, amount, reference, note });
                let must = expected(id);
                if is != must && differences.len() < NAMED {
                    differences.push(format!("row {id} is {is:?}, must be {must:?}"));
                }
            }
        }
        conn.disconnect().await
    };
    read.await.map_err(|error| format!("the table cannot be read for the comparison: {error}"))?;
    if found != wanted {
        let missing = changed
            .iter()
            .filter(|(_, row)| row.is_some())
            .map(|(id, _)| *id)
            .chain((1..=i64::try_from(plan.rows).unwrap_or(0)).filter(|id| !changed.contains_key(id)));
        let missing: Vec<i64> = missing.filter(|id| !present.contains(id)).take(NAMED).collect();
        differences.push(format!("{found} rows, must be {wanted}; missing: {missing:?}"));
    }
    if differences.is_empty() { Ok(found) } else { Err(differences.join("\n")) }
}

struct Writer {
    conn: Conn,
    table: String,
    rng: Rng,
    shared: Arc<Shared>,
    latency: Latency,
    statements: u64,
}

/// Why a transaction did not get to its end.
enum Undone {
    Deadlock,
    Failed(String),
}

/// One step of a transaction.
#[derive(Clone, Copy, Debug)]
enum Step {
    Insert,
    Again,
    UpdateHot,
    UpdateCold,
    Delete,
    Move,
    PassReference,
    Read,
}

const STEPS: [(Step, u32); 8] = [
    (Step::Insert, 12),
    (Step::Again, 6),
    (Step::UpdateHot, 30),
    (Step::UpdateCold, 24),
    (Step::Delete, 10),
    (Step::Move, 6),
    (Step::PassReference, 4),
    (Step::Read, 8),
];

impl Writer {
    async fn run(mut self, account: Arc<AsyncMutex<Account>>) {
        let mut due = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            let rate = f64::from_bits(self.shared.rate.load(Ordering::Relaxed));
            if rate > 0.0 {
                due = (due + Duration::from_secs_f64(self.rng.f64() * 2.0 / rate)).max(Instant::now() - Duration::from_secs(1));
                tokio::time::sleep_until(due.into()).await;
            }
            let shared = Arc::clone(&self.shared);
            let _running = shared.pause.read().await;
            let mut account = account.lock().await;
            let result = self.transaction(&mut account).await;
            {
                let mut totals = shared.totals();
                totals.latency.merge(&std::mem::take(&mut self.latency));
                totals.statements += std::mem::take(&mut self.statements);
                match result {
                    Ok(true) => {
                        shared.committed.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(false) => totals.rolled_back += 1,
                    Err(Undone::Deadlock) => totals.deadlocks += 1,
                    Err(Undone::Failed(why)) => {
                        totals.failures.push(format!("writer {}: {why}", account.writer));
                        // What the account says is uncertain from here on.
                        return;
                    }
                }
            }
        }
        let _ = self.conn.disconnect().await;
    }

    /// One transaction: true if it committed.
    async fn transaction(&mut self, account: &mut Account) -> Result<bool, Undone> {
        let mut draft = Draft::default();
        // Half of them are one statement of its own.
        if self.rng.u8(..2) == 0 {
            let step = self.choose();
            // Two statements that belong together need a transaction.
            if !matches!(step, Step::PassReference) {
                self.step(step, account, &mut draft).await?;
                account.commit(draft);
                return Ok(true);
            }
        }
        let result = self.several(account, &mut draft).await;
        match result {
            Ok(true) => account.commit(draft),
            Err(Undone::Deadlock) => {
                self.statement("ROLLBACK", Params::Empty).await?;
            }
            _ => {}
        }
        result
    }

    async fn several(&mut self, account: &mut Account, draft: &mut Draft) -> Result<bool, Undone> {
        self.statement("START TRANSACTION", Params::Empty).await?;
        let steps = self.rng.u8(2..8);
        for _ in 0..steps {
            let savepoint = (self.rng.u8(..8) == 0).then(|| draft.clone());
            if savepoint.is_some() {
                self.statement("SAVEPOINT s", Params::Empty).await?;
            }
            let step = self.choose();
            self.step(step, account, draft).await?;
            if let Some(before) = savepoint {
                self.statement("ROLLBACK TO SAVEPOINT s", Params::Empty).await?;
                *draft = before;
            }
        }
        let commit = self.rng.u8(..5) > 0;
        self.statement(if commit { "COMMIT" } else { "ROLLBACK" }, Params::Empty).await?;
        Ok(commit)
    }

    fn choose(&mut self) -> Step {
        let total: u32 = STEPS.iter().map(|(_, weight)| weight).sum();
        let mut left = self.rng.u32(..total);
        for (step, weight) in STEPS {
            if left < weight {
                return step;
            }
            left -= weight;
        }
        Step::Read
    }

    /// A row of ours that is there.
    fn pick(&mut self, account: &Account, draft: &Draft) -> Option<(i64, Row)> {
        for _ in 0..10 {
            let id = if account.made.is_empty() || self.rng.bool() {
                let nth = self.rng.u64(..(account.rows / account.writers).max(1));
                i64::try_from(nth * account.writers + account.writer).unwrap_or(0)
            } else {
                account.made[self.rng.usize(..account.made.len())]
            };
            if let Some(row) = draft.get(account, id) {
                return Some((id, row));
            }
        }
        None
    }

    fn note(&mut self, why: &str) -> String {
        let length = self.rng.usize(..40);
        format!("{why} {} {}", self.rng.u32(..), "ß".repeat(length))
    }

    async fn step(&mut self, step: Step, account: &mut Account, draft: &mut Draft) -> Result<(), Undone> {
        match step {
            Step::Insert => self.insert(None, account, draft).await,
            Step::Again => {
                if account.freed.is_empty() {
                    return Ok(());
                }
                let id = account.freed[self.rng.usize(..account.freed.len())];
                self.insert(Some(id), account, draft).await
            }
            Step::UpdateHot => {
                let hot =
                    i64::try_from(account.writer).unwrap_or(0) + i64::try_from(account.writers).unwrap_or(1) * self.rng.i64(1..=HOT_ROWS);
                match draft.get(account, hot) {
                    Some(row) => self.update(hot, row, draft).await,
                    None => self.insert(Some(hot), account, draft).await,
                }
            }
            Step::UpdateCold => match self.pick(account, draft) {
                Some((id, row)) => self.update(id, row, draft).await,
                None => Ok(()),
            },
            Step::Delete => {
                let Some((id, _)) = self.pick(account, draft) else { return Ok(()) };
                self.one("DELETE FROM {t} WHERE id = ?", (id,)).await?;
                draft.changes.insert(id, None);
                Ok(())
            }
            Step::Move => {
                let Some((id, row)) = self.pick(account, draft) else { return Ok(()) };
                // Below zero nobody else makes ids, and AUTO_INCREMENT does not follow.
                let to = if !account.freed.is_empty() && self.rng.bool() {
                    account.freed[self.rng.usize(..account.freed.len())]
                } else {
                    account.next_negative -= 1;
                    account.next_negative
                };
                if draft.get(account, to).is_some() {
                    return Ok(());
                }
                self.one("UPDATE {t} SET id = ? WHERE id = ?", (to, id)).await?;
                draft.changes.insert(id, None);
                draft.changes.insert(to, Some(row));
                Ok(())
            }
            Step::PassReference => self.pass_reference(account, draft).await,
            Step::Read => {
                let Some((id, row)) = self.pick(account, draft) else { return Ok(()) };
                let found = self.read(id).await?;
                if found.as_ref() == Some(&row) {
                    Ok(())
                } else {
                    Err(Undone::Failed(format!("row {id} reads as {found:?}, was written as {row:?}")))
                }
            }
        }
    }

    async fn insert(&mut self, id: Option<i64>, account: &mut Account, draft: &mut Draft) -> Result<(), Undone> {
        if id.is_some_and(|id| draft.get(account, id).is_some()) {
            return Ok(());
        }
        let reference = (self.rng.u8(..4) > 0).then(|| {
            account.next_reference += 1;
            account.next_reference
        });
        let row = Row {
            writer: account.writer,
            customer: self.rng.i64(0..100_003),
            amount: self.rng.i64(0..1_000_000),
            reference,
            note: self.note("new"),
        };
        let values = (id, row.writer, row.customer, row.amount, row.reference, row.note.clone());
        self.one("INSERT INTO {t} (id, writer, customer, amount, reference, note) VALUES (?, ?, ?, ? / 100, ?, ?)", values).await?;
        let id = match id {
            Some(id) => id,
            None => self
                .conn
                .last_insert_id()
                .and_then(|id| i64::try_from(id).ok())
                .ok_or_else(|| Undone::Failed("an insert gave no id".into()))?,
        };
        if let Some(there) = draft.get(account, id) {
            return Err(Undone::Failed(format!("AUTO_INCREMENT gave {id} again, which is {there:?}")));
        }
        draft.changes.insert(id, Some(row));
        Ok(())
    }

    async fn update(&mut self, id: i64, mut row: Row, draft: &mut Draft) -> Result<(), Undone> {
        // Relative, as applications do: an update that was lost shows in every later value.
        row.customer = (row.customer + 1) % 1_000_000;
        row.amount += 1;
        if self.rng.bool() {
            self.one("UPDATE {t} SET customer = (customer + 1) % 1000000, amount = amount + 0.01 WHERE id = ?", (id,)).await?;
        } else {
            row.note = self.note("changed");
            let note = row.note.clone();
            self.one("UPDATE {t} SET customer = (customer + 1) % 1000000, amount = amount + 0.01, note = ? WHERE id = ?", (note, id))
                .await?;
        }
        draft.changes.insert(id, Some(row));
        Ok(())
    }

    /// A unique value leaves one row for another, or two rows exchange theirs.
    async fn pass_reference(&mut self, account: &Account, draft: &mut Draft) -> Result<(), Undone> {
        let (Some((a, mut row_a)), Some((b, mut row_b))) = (self.pick(account, draft), self.pick(account, draft)) else { return Ok(()) };
        let (Some(of_a), of_b) = (row_a.reference, row_b.reference) else { return Ok(()) };
        if a == b {
            return Ok(());
        }
        let set = "UPDATE {t} SET reference = ? WHERE id = ?";
        self.one(set, (None::<i64>, a)).await?;
        self.one(set, (of_a, b)).await?;
        row_b.reference = Some(of_a);
        row_a.reference = None;
        if of_b.is_some() && self.rng.bool() {
            self.one(set, (of_b, a)).await?;
            row_a.reference = of_b;
        }
        draft.changes.insert(a, Some(row_a));
        draft.changes.insert(b, Some(row_b));
        Ok(())
    }

    async fn read(&mut self, id: i64) -> Result<Option<Row>, Undone> {
        let sql = format!("SELECT writer, customer, CAST(amount * 100 AS SIGNED), reference, note FROM {} WHERE id = ?", self.table);
        let began = Instant::now();
        let found: Result<Option<(u64, i64, i64, Option<i64>, String)>, _> = self.conn.exec_first(sql.as_str(), (id,)).await;
        self.took(began);
        let found = found.map_err(|error| undone(&sql, error))?;
        Ok(found.map(|(writer, customer, amount, reference, note)| Row { writer, customer, amount, reference, note }))
    }

    /// A statement that must change exactly one row.
    async fn one(&mut self, sql: &str, values: impl Into<Params>) -> Result<(), Undone> {
        let sql = sql.replace("{t}", &self.table);
        let values = values.into();
        let shown = format!("{sql} with {}", shown(&values));
        self.statement(&sql, values).await?;
        match self.conn.affected_rows() {
            1 => Ok(()),
            n => Err(Undone::Failed(format!("{shown} changed {n} rows"))),
        }
    }

    async fn statement(&mut self, sql: &str, values: Params) -> Result<(), Undone> {
        let began = Instant::now();
        let result = if matches!(values, Params::Empty) { self.conn.query_drop(sql).await } else { self.conn.exec_drop(sql, values).await };
        self.took(began);
        result.map_err(|error| undone(sql, error))
    }

    fn took(&mut self, began: Instant) {
        self.statements += 1;
        self.latency.record(began.elapsed());
    }
}

fn undone(sql: &str, error: mysql_async::Error) -> Undone {
    match error {
        mysql_async::Error::Server(error) if error.code == DEADLOCK => Undone::Deadlock,
        error => Undone::Failed(format!("{sql}: {error}")),
    }
}

fn shown(values: &Params) -> String {
    match values {
        Params::Positional(values) => values.iter().map(|value: &Value| value.as_sql(true)).collect::<Vec<_>>().join(", "),
        _ => String::new(),
    }
}
