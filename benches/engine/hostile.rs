//! What converges beside values that move: a table with a second unique key, whose changed rows collide with what the ghost still holds.
//!
//! `backlog` makes a backlog of each size at once, by one transaction, and measures how fast it is flushed: the rate must not fall as it
//! grows, whatever the keys collide with. `hostile` lets many connections write at a share of what they reach alone (ids used again,
//! changed primary keys, values exchanged, transactions rolled back), and the migration must come to its end.
use crate::report::Report;
use crate::support::{self, Db};
use crate::workload::{self, Plan, Workload};
use crate::{child, progress, setting};
use mysql_async::prelude::Queryable;
use std::time::{Duration, Instant};
use theseus::engine::contract::snapshot::Phase;
use theseus::engine::contract::spec::{Controls, CutOverPolicy, OldTable, VerifyPolicy};

const TABLE: &str = "orders";

/// What a transaction does to N rows from the id A on, whose values are a permutation of their ids: no value is new, all of them move far.
const KINDS: [(&str, &str); 3] = [
    ("plain", "UPDATE orders SET customer = customer + 1 WHERE id BETWEEN {a} AND {a} + {n} - 1"),
    (
        "swapped",
        "UPDATE orders SET reference = -reference WHERE id BETWEEN {a} AND {a} + {n} - 1; \
         UPDATE orders SET reference = 2 * {a} + {n} - 1 + reference WHERE id BETWEEN {a} AND {a} + {n} - 1",
    ),
    (
        "rotated",
        "UPDATE orders SET reference = -reference WHERE id BETWEEN {a} AND {a} + {n} - 1; \
         UPDATE orders SET reference = {a} + (-reference - {a} + {n} DIV 3 + 1) % {n} WHERE id BETWEEN {a} AND {a} + {n} - 1",
    ),
];

/// Keys flushed per second as the backlog grows.
pub async fn backlog(db: &mut Db, report: &mut Report) {
    let sizes: [u64; 3] = [1_000, 10_000, setting("BACKLOG", 100_000)];
    progress("loading a table with a second unique key");
    workload::create(&mut db.conn, &db.name.clone(), TABLE, sizes.iter().sum(), 1).await.expect("load the table");
    let controls = Controls {
        old_table: OldTable::DropNow,
        verify: VerifyPolicy::Never,
        cut_over_policy: CutOverPolicy::Manual,
        ..Controls::default()
    };
    let handle = theseus::engine::start(db.spec(TABLE, "MODIFY customer BIGINT NOT NULL"), controls);
    support::until(&handle, "everything is copied", |s| s.phase == Phase::AwaitingCutOver).await;
    let limit = Duration::from_secs(setting("LIMIT", 120));
    for (kind, change) in KINDS {
        let (mut rates, mut first) = (Vec::new(), 1);
        for n in sizes {
            let before = handle.watch().borrow().progress.changes_applied;
            db.run("BEGIN").await;
            db.run(&change.replace("{n}", &n.to_string()).replace("{a}", &first.to_string())).await;
            first += n;
            let began = Instant::now();
            db.run("COMMIT").await;
            let mut watch = handle.watch();
            let done = tokio::time::timeout(limit, watch.wait_for(|s| s.progress.changes_applied >= before + n)).await.is_ok();
            let took = began.elapsed();
            assert!(!handle.is_finished(), "the engine gave up: {:#?}", *handle.watch().borrow());
            if !done {
                progress(&format!("{kind}, {n} keys: not flushed after {} s", limit.as_secs()));
                rates.push(0.0);
                break;
            }
            rates.push(n as f64 / took.as_secs_f64());
            progress(&format!("{kind}, {n} keys: flushed in {:.2} s, {:.0} keys/s", took.as_secs_f64(), n as f64 / took.as_secs_f64()));
            report.note(&format!("{n} keys, {kind}: flushed per second"), n as f64 / took.as_secs_f64(), "");
        }
        let best = rates.iter().copied().fold(0.0, f64::max);
        report.at_least(
            &format!("{kind}: rate of the largest backlog ÷ best rate"),
            rates.last().copied().unwrap_or_default() / best,
            0.5,
            "×",
        );
    }
    handle.control(Controls { cancel: true, ..Controls::default() });
    support::join(handle).await;
    db.run(&format!("DROP TABLE {TABLE}")).await;
}

/// A migration beside an open loop of hostile writers.
pub async fn hostile(db: &mut Db, report: &mut Report) {
    let rows = setting("HOSTILE_ROWS", 100_000);
    let writers = setting("HOSTILE_WRITERS", 16);
    let share: f64 = setting("HOSTILE_SHARE", 0.6);
    progress(&format!("hostile: loading {rows} rows"));
    let database = db.name.clone();
    workload::create(&mut db.conn, &database, TABLE, rows, writers).await.expect("load the table");
    let mut plan = Plan { url: db.url.clone(), database, table: TABLE.into(), rows, writers, rate: None, seed: 1 };
    let mut alone = Workload::start(plan.clone()).await.expect("start the writers");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, began) = (alone.totals().committed, Instant::now());
    tokio::time::sleep(Duration::from_secs(8)).await;
    let most = (alone.totals().committed - before) as f64 / began.elapsed().as_secs_f64();
    alone.stop().await;
    drop(alone);
    db.run(&format!("DROP TABLE {TABLE}")).await;
    let database = db.name.clone();
    workload::create(&mut db.conn, &database, TABLE, rows, writers).await.expect("load the table");
    plan.rate = Some(most * share / writers as f64);
    let mut open = Workload::start(plan).await.expect("start the writers");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, began) = (open.totals().committed, Instant::now());
    let limit = Duration::from_secs(setting("LIMIT", 120));
    let run = child::run_for(db, TABLE, "MODIFY customer BIGINT NOT NULL", limit).await;
    let beside = (open.totals().committed - before) as f64 / began.elapsed().as_secs_f64();
    let verified = open.verify().await;
    let totals = open.stop().await;
    progress(&format!(
        "hostile: {most:.0} transactions/s alone, {beside:.0}/s beside; {}; longest wait {} ms",
        run.as_ref().map_or_else(|| format!("not done after {} s", limit.as_secs()), child::Run::told),
        totals.latency.max().as_millis()
    ));
    report.note("hostile: transactions of the writers alone", most, "tx/s");
    report.note("hostile: transactions beside the migration", beside, "tx/s");
    report.at_least("hostile: finishes", f64::from(u8::from(run.is_some())), 1.0, "");
    report.at_least("hostile: every row is what its writer says", f64::from(u8::from(verified.is_ok())), 1.0, "");
    if let Some(run) = run {
        report.list("hostile.engine_seconds", &[run.took]);
        report.note("hostile: time to the swap", run.took.as_secs_f64(), "s");
        report.memory(run.peak_kib);
    }
    if let Err(differences) = verified {
        eprintln!("{differences}");
    }
    db.conn.query_drop(format!("DROP TABLE {TABLE}")).await.expect("drop the table");
}
