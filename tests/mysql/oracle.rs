//! The lost-write oracle: real migrations of one table, one after the other, under writers that keep their own account of every row.
//!
//! `THESEUS_ORACLE_MIGRATIONS` (50), `THESEUS_ORACLE_ROWS` (10000) and `THESEUS_ORACLE_SEED` change a run; a failure prints what repeats it.
use crate::{support, workload};

use std::time::{Duration, Instant};
use support::{Db, PrivateServer, controls, migrate};
use theseus::engine::contract::snapshot::{Outcome, Phase, Snapshot};
use theseus::engine::contract::spec::{Controls, CutOverPolicy, DeferIndexes};
use workload::{Plan, Workload};

/// Pairs of changes, there and back: the writers' statements are valid on all sides.
const CHANGES: &[&str] = &[
    "MODIFY customer BIGINT NOT NULL",
    "ADD COLUMN status VARCHAR(20) NOT NULL DEFAULT 'new', ADD INDEX status (status)",
    "MODIFY note VARCHAR(300) NOT NULL, ADD INDEX note (note(20))",
    "DROP INDEX customer",
    "MODIFY amount DECIMAL(14,2) NOT NULL FIRST",
    "DROP COLUMN status",
    "ADD COLUMN total DECIMAL(12,2) AS (amount * 1.19) STORED, ADD INDEX customer (customer, writer)",
    "MODIFY customer INT NOT NULL AFTER id, DROP INDEX note",
    "DROP COLUMN total, ADD UNIQUE KEY both_of_them (writer, id)",
    "DROP INDEX reference, ADD UNIQUE KEY reference (reference, id), ADD UNIQUE KEY reference_alone (reference)",
    "DROP INDEX both_of_them, DROP INDEX customer, ADD INDEX customer (customer), MODIFY amount DECIMAL(10,2) NOT NULL AFTER customer",
    "DROP INDEX reference, DROP INDEX reference_alone, ADD UNIQUE KEY reference (reference), MODIFY note VARCHAR(200) NOT NULL",
];

/// Transactions of a writer in a second, where it does not write as fast as it can: that costs as much again as the migrations do, and on a
/// slow machine the longer they take, the more.
const PACE: f64 = 40.0;
/// Transactions of the paced writers beside one migration; from then on they write a tenth as often. A migration on a quiet machine does not
/// last so long. On a busy one all the rest would be for nothing but to make it last longer.
const BESIDE: u64 = 400;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// A table under writers.
struct Oracle {
    db: Db,
    workload: Workload,
    paced: bool,
    seed: u64,
    longest_lock: Duration,
    attempts: u32,
}

impl Oracle {
    async fn new(prefix: &str, writers: u64) -> Self {
        let rows = number("THESEUS_ORACLE_ROWS", 10_000);
        let seed = number("THESEUS_ORACLE_SEED", fastrand::u64(..1_000_000));
        eprintln!("{prefix}: THESEUS_ORACLE_SEED={seed} THESEUS_ORACLE_ROWS={rows}, {writers} writers");
        let mut db = Db::new(prefix).await;
        let name = db.name.clone();
        workload::create(&mut db.conn, &name, "orders", rows, writers).await.expect("load the table");
        let plan = Plan { url: db.url.clone(), database: name, table: "orders".to_owned(), rows, writers, rate: None, seed };
        let workload = Workload::start(plan).await.expect("start the writers");
        Self { db, workload, paced: false, seed, longest_lock: Duration::ZERO, attempts: 0 }
    }

    /// How the writers write from now on.
    fn pace(&mut self, paced: bool) {
        self.paced = paced;
        self.workload.pace(paced.then_some(PACE));
    }

    /// One migration; `steer` is called with every snapshot and says which controls are to hold from then on.
    async fn migrate(&mut self, number: usize, alter: &str, start: Controls, mut steer: impl FnMut(&Snapshot) -> Option<Controls>) {
        let mut spec = self.db.spec("orders", alter);
        spec.id = format!("{}-{number}", spec.id);
        let began = Instant::now();
        let before = self.workload.totals();
        self.workload.reset_latency();
        let handle = theseus::engine::start(spec, start);
        let mut watch = handle.watch();
        let end = Instant::now() + support::PATIENCE;
        while !handle.is_finished() {
            let change = {
                let snapshot = watch.borrow_and_update();
                assert!(Instant::now() < end, "migration {number} ({alter}), seed {}: not over in time: {:#?}", self.seed, *snapshot);
                steer(&snapshot)
            };
            if let Some(controls) = change {
                handle.control(controls);
            }
            // Ends with the engine, or goes round for the deadline.
            let _ = tokio::time::timeout(Duration::from_millis(200), watch.changed()).await;
            let now = self.workload.totals();
            assert!(
                now.failures.is_empty(),
                "migration {number} ({alter}), seed {}: statements of the writers failed: {:#?}\n{:#?}",
                self.seed,
                now.failures,
                *watch.borrow()
            );
            if self.paced && now.committed > before.committed + BESIDE {
                self.workload.pace(Some(PACE / 10.0));
            }
        }
        let last = watch.borrow().clone();
        let outcome = handle.join().await;
        assert_eq!(outcome, Outcome::Succeeded, "migration {number} ({alter}), seed {}: {last:#?}", self.seed);
        let locked = last.cut_over.locked.unwrap_or_default();
        self.longest_lock = self.longest_lock.max(locked);
        self.attempts += last.cut_over.attempts;
        let totals = self.workload.totals();
        eprintln!(
            "{number:3} {:5.2} s, locked {:4} ms, {} attempts, {} transactions beside it, longest wait {:4} ms, {} changes: {alter}",
            began.elapsed().as_secs_f64(),
            locked.as_millis(),
            last.cut_over.attempts,
            totals.committed - before.committed,
            totals.latency.max().as_millis(),
            last.progress.changes_seen,
        );
    }

    async fn verify(&self, number: usize, alter: &str) -> u64 {
        match self.workload.verify().await {
            Ok(rows) => rows,
            Err(differences) => panic!(
                "after migration {number} ({alter}), THESEUS_ORACLE_SEED={}: the table and the writers' account differ (database {} is kept):\n{differences}",
                self.seed, self.db.name
            ),
        }
    }

    async fn end(mut self, began: Instant) {
        let totals = self.workload.stop().await;
        assert!(totals.failures.is_empty(), "seed {}: {:#?}", self.seed, totals.failures);
        let rows = self.verify(0, "the end").await;
        assert!(totals.committed > 1000, "the writers hardly wrote: {totals:?}");
        eprintln!(
            "{:.1} s; {} statements in {} transactions ({} rolled back, {} deadlocks among the writers), none failed; {rows} rows as they must be; tables locked {} ms at most, {} attempts",
            began.elapsed().as_secs_f64(),
            totals.statements,
            totals.committed,
            totals.rolled_back,
            totals.deadlocks,
            self.longest_lock.as_millis(),
            self.attempts,
        );
        self.db.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_lost_in_fifty_migrations_in_a_row() {
    let began = Instant::now();
    let count = usize::try_from(number("THESEUS_ORACLE_MIGRATIONS", 50)).expect("a number of migrations");
    let mut oracle = Oracle::new("oracle", 4).await;
    for n in 1..=count {
        let alter = CHANGES[(n - 1) % CHANGES.len()];
        let defer_indexes = if n % 2 == 0 { DeferIndexes::Always } else { DeferIndexes::Never };
        // Small chunks: many boundaries among the writes.
        let target_chunk_time = Duration::from_millis(if n % 3 == 0 { 10 } else { 100 });
        let workers = u16::try_from(n % 4).expect("small");
        oracle.pace(n % 5 != 1);
        oracle.migrate(n, alter, Controls { defer_indexes, target_chunk_time, workers, ..controls() }, |_| None).await;
        if n % 5 == 0 {
            oracle.verify(n, alter).await;
        }
    }
    oracle.end(began).await;
}

/// Each second change takes the only key away from the new table: its rows are found by a helper index.
#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_lost_where_the_new_table_has_no_index_for_the_key() {
    let began = Instant::now();
    let mut oracle = Oracle::new("oracle_key", 4).await;
    let changes = [
        "DROP PRIMARY KEY, ADD PRIMARY KEY (customer, id), ADD KEY numbers (id)",
        "DROP PRIMARY KEY, ADD PRIMARY KEY (id), DROP KEY numbers, MODIFY note VARCHAR(210) NOT NULL",
        "DROP PRIMARY KEY, ADD PRIMARY KEY (writer, customer, id), ADD KEY numbers (id), MODIFY note VARCHAR(200) NOT NULL",
        "DROP PRIMARY KEY, ADD PRIMARY KEY (id), DROP KEY numbers",
    ];
    for n in 1..=8 {
        let alter = changes[(n - 1) % changes.len()];
        let defer_indexes = if n % 2 == 0 { DeferIndexes::Always } else { DeferIndexes::Never };
        let target_chunk_time = Duration::from_millis(if n % 3 == 0 { 10 } else { 100 });
        oracle.pace(n % 4 != 1);
        oracle.migrate(n, alter, Controls { defer_indexes, target_chunk_time, ..controls() }, |_| None).await;
        oracle.verify(n, alter).await;
    }
    oracle.end(began).await;
}

/// Rows move between partitions while they change: into them, between more and fewer, and out again.
#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_lost_while_rows_move_between_partitions() {
    let began = Instant::now();
    let mut oracle = Oracle::new("oracle_parts", 4).await;
    // Each unique key of a partitioned table has the column that it is partitioned by.
    let changes = [
        "DROP INDEX reference, ADD UNIQUE KEY reference (reference, id) PARTITION BY HASH (id) PARTITIONS 3",
        "ADD PARTITION PARTITIONS 2",
        "COALESCE PARTITION 3",
        "PARTITION BY RANGE (id) (PARTITION a VALUES LESS THAN (3000), PARTITION b VALUES LESS THAN MAXVALUE)",
        "REORGANIZE PARTITION b INTO (PARTITION b VALUES LESS THAN (7000), PARTITION c VALUES LESS THAN MAXVALUE)",
        "DROP INDEX reference, ADD UNIQUE KEY reference (reference) REMOVE PARTITIONING",
    ];
    for (n, alter) in changes.into_iter().enumerate() {
        let target_chunk_time = Duration::from_millis(if n % 3 == 0 { 10 } else { 100 });
        oracle.pace(n % 2 == 0);
        oracle.migrate(n + 1, alter, Controls { target_chunk_time, ..controls() }, |_| None).await;
        oracle.verify(n + 1, alter).await;
    }
    oracle.end(began).await;
}

/// The same with people in between: throttled and released while rows are copied, approved, taken back, approved.
#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_lost_while_people_throttle_and_approve() {
    let began = Instant::now();
    let mut oracle = Oracle::new("oracle_manual", 3).await;
    for (n, alter) in CHANGES.iter().enumerate() {
        oracle.pace(n % 4 != 0);
        let start = Controls { cut_over_policy: CutOverPolicy::Manual, target_chunk_time: Duration::from_millis(20), ..controls() };
        let mut now = start.clone();
        let mut toggles = 0;
        let mut waiting = 0;
        let mut last = Instant::now();
        oracle
            .migrate(n + 1, alter, start, move |snapshot| {
                match snapshot.phase {
                    Phase::Copying if toggles < 6 && last.elapsed() > Duration::from_millis(40) => {
                        toggles += 1;
                        last = Instant::now();
                        now.throttled_by_user = toggles % 2 == 1;
                    }
                    Phase::AwaitingCutOver if now.throttled_by_user => now.throttled_by_user = false,
                    Phase::AwaitingCutOver => {
                        // A while of changes that reach a complete copy.
                        waiting += 1;
                        if waiting < 4 {
                            return None;
                        }
                        now.approved = true;
                    }
                    // Taken back in the last moment, now and then: the swap happens or it does not, and the next round approves again.
                    Phase::CuttingOver if waiting == 4 && n % 3 == 0 => {
                        waiting = 0;
                        now.approved = false;
                    }
                    _ if now.throttled_by_user && last.elapsed() > Duration::from_millis(40) => now.throttled_by_user = false,
                    _ => return None,
                }
                Some(now.clone())
            })
            .await;
        if n % 3 == 2 {
            oracle.verify(n + 1, alter).await;
        }
    }
    oracle.end(began).await;
}

/// The server's log of changes beside an index build is as small as it can be, so that the build fails under writers; it is made again
/// while changes wait.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_build_that_changes_disturb_is_made_again_without_them() {
    let server = PrivateServer::start(&["--innodb-online-alter-log-max-size=65536", "--innodb-sort-buffer-size=65536"]).await;
    let mut db = Db::on(&server.url, "oracle_build").await;
    let name = db.name.clone();
    let rows = 100_000;
    workload::create(&mut db.conn, &name, "orders", rows, 4).await.expect("load the table");
    let plan = Plan { url: db.url.clone(), database: name, table: "orders".to_owned(), rows, writers: 4, rate: None, seed: 1 };
    let mut workload = Workload::start(plan).await.expect("start the writers");
    // The text of every row is in the new index, and so in the log.
    let mut spec = db.spec("orders", "ADD INDEX note (note, customer, amount), ADD INDEX again (note, amount, customer)");
    spec.id = "build".to_owned();
    let outcome = migrate(spec, Controls { defer_indexes: DeferIndexes::Always, ..controls() }).await;
    let totals = workload.stop().await;
    assert_eq!(outcome, Outcome::Succeeded);
    assert!(totals.failures.is_empty(), "{:#?}", totals.failures);
    assert!(totals.committed > 100, "{totals:?}");
    workload.verify().await.expect("as the writers wrote");
    let definition = db.definition("orders").await;
    assert!(definition.contains("`note`,`customer`,`amount`") && definition.contains("`note`,`amount`,`customer`"), "{definition}");
    db.drop().await;
    server.stop().await;
}

/// An oracle that notices nothing would prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_account_notices_each_kind_of_difference() {
    let mut db = Db::new("oracle_self").await;
    let name = db.name.clone();
    workload::create(&mut db.conn, &name, "orders", 500, 2).await.expect("load the table");
    let plan = Plan { url: db.url.clone(), database: name, table: "orders".to_owned(), rows: 500, writers: 2, rate: Some(200.0), seed: 1 };
    let mut workload = Workload::start(plan).await.expect("start the writers");
    let end = Instant::now() + support::PATIENCE;
    while workload.totals().committed < 50 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let totals = workload.stop().await;
    assert!(totals.failures.is_empty() && totals.committed >= 50, "{totals:?}");
    let rows = workload.verify().await.expect("nothing has happened yet");
    assert_eq!(rows, db.value::<u64>("SELECT COUNT(*) FROM orders").await);
    for (change, undo, says) in [
        (
            "UPDATE orders SET amount = amount + 0.01 ORDER BY id DESC LIMIT 1",
            "UPDATE orders SET amount = amount - 0.01 ORDER BY id DESC LIMIT 1",
            "must be",
        ),
        ("UPDATE orders SET note = UPPER(note) WHERE id = (SELECT * FROM (SELECT MIN(id) FROM orders) x)", "", "must be"),
        (
            "INSERT INTO orders (id, writer, customer, amount, note) VALUES (4611686018427387904, 0, 0, 0, '')",
            "DELETE FROM orders WHERE id = 4611686018427387904",
            "must be None",
        ),
        ("DELETE FROM orders WHERE reference BETWEEN 1 AND 500 LIMIT 1", "", "missing"),
    ] {
        db.run(change).await;
        let differences = workload.verify().await.expect_err(change);
        assert!(differences.contains(says), "{change}: {differences}");
        if undo.is_empty() {
            continue;
        }
        db.run(undo).await;
    }
    db.drop().await;
}
