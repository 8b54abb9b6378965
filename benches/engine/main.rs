//! `make bench`: the figures that the engine must reach, side by side in one run against a durable server of its own (`hack/bench`).
//!
//! The table is sysbench's. Every way of copying it does the same work, `MODIFY k BIGINT` and back in turn, so that no state is favoured.
//! The engine runs in a process of its own (this program again, see [`child`]), so that its memory can be told from the application's.
//! Prints ratios with their targets, and writes everything into `target/bench.json`.
mod app;
mod child;
mod hostile;
mod others;
mod report;
mod stream;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../../tests/support/workload.rs"]
mod workload;

use app::App;
use child::Run;
use mysql_async::prelude::Queryable;
use report::{Report, median, worst};
use std::time::{Duration, Instant};
use support::Db;
use theseus::engine::contract::spec::{Controls, Limits};

/// The engine's account, with the grants of the README and no more.
pub const ACCOUNT: &str = "theseus_bench";

/// A setting from the environment.
fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} makes no sense")),
        Err(_) => default,
    }
}

/// Whether a part of the benchmark was asked for: `BENCH_ONLY=idle,load` (default: all).
fn wanted(part: &str) -> bool {
    std::env::var("BENCH_ONLY").map_or(true, |only| only.is_empty() || only.split(',').any(|p| p == part))
}

/// Client connections of the application.
const WRITERS: u64 = 4;
/// How long the application is measured alone.
const ALONE: Duration = Duration::from_secs(12);
/// A tool that is not done after this many times the idle copy is said never to finish.
const NEVER: u32 = 12;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a tokio runtime");
    if let Some(at) = arguments.iter().position(|a| a == child::FLAG) {
        runtime.block_on(child::main(&arguments[at + 1..]));
        return;
    }
    if let Some(at) = arguments.iter().position(|a| a == stream::FLAG) {
        runtime.block_on(stream::main(&arguments[at + 1..]));
        return;
    }
    let missed = runtime.block_on(bench());
    if missed > 0 && setting("BENCH_STRICT", 0) == 1 {
        std::process::exit(1);
    }
}

/// `MODIFY` to the other type.
struct Flip(bool);

impl Flip {
    fn next(&mut self) -> &'static str {
        self.0 = !self.0;
        if self.0 { "MODIFY k BIGINT NOT NULL" } else { "MODIFY k INT NOT NULL" }
    }
}

async fn bench() -> usize {
    let rows: u64 = setting("ROWS", 1_000_000);
    let rounds: usize = setting("ROUNDS", 3);
    let mut report = Report::default();
    let mut db = Db::new("bench").await;
    db.run(&format!("DROP USER IF EXISTS '{ACCOUNT}'@'%'")).await;
    db.documented(ACCOUNT, ACCOUNT).await;
    report.server(&mut db, rows).await;

    if wanted("idle") || wanted("load") || wanted("verify") {
        progress(&format!("loading {rows} rows"));
        load(&mut db, "sbtest1", rows).await;
        let mut flip = Flip(false);
        let idle = idle(&mut db, &mut flip, rounds, &mut report).await;
        if wanted("load") {
            under_load(&mut db, &mut flip, rows, idle, &mut report).await;
        }
        db.run("DROP TABLE sbtest1").await;
    }
    if wanted("cutover") {
        cut_overs(&mut db, setting("CUTOVERS", 20), &mut report).await;
    }
    if wanted("throttle") {
        throttling(&mut db, setting("HOLDS", 20), &mut report).await;
    }
    if wanted("small") {
        small(&mut db, &mut report).await;
    }
    if wanted("stream") {
        stream::stream_cost(&mut db, &mut report).await;
    }
    if wanted("backlog") {
        hostile::backlog(&mut db, &mut report).await;
    }
    if wanted("hostile") {
        hostile::hostile(&mut db, &mut report).await;
    }
    db.drop().await;
    report.finish()
}

fn progress(what: &str) {
    eprintln!("bench: {what}");
}

/// A table as sysbench's `oltp_*` scripts make it.
async fn load(db: &mut Db, table: &str, rows: u64) {
    db.run(&format!(
        "CREATE TABLE {table} (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL DEFAULT 0, c CHAR(120) NOT NULL DEFAULT '', \
         pad CHAR(60) NOT NULL DEFAULT '', KEY k_1 (k))"
    ))
    .await;
    const STEP: u64 = 25_000;
    let group = "LPAD(FLOOR(RAND() * 1e11), 11, '0')";
    let text = |groups: usize| format!("CONCAT_WS('-', {})", vec![group; groups].join(", "));
    db.run(&format!("SET SESSION cte_max_recursion_depth = {STEP}")).await;
    let mut from = 1;
    while from <= rows {
        let to = (from + STEP - 1).min(rows);
        db.run(&format!(
            "INSERT INTO {table} (id, k, c, pad) WITH RECURSIVE n (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to}) \
             SELECT i, 1 + FLOOR(RAND() * {rows}), {}, {} FROM n",
            text(10),
            text(5)
        ))
        .await;
        from = to + 1;
    }
    db.run(&format!("ANALYZE TABLE {table}")).await;
}

/// Native and engine in turn, nobody else at work. Returns the engine's median.
async fn idle(db: &mut Db, flip: &mut Flip, rounds: usize, report: &mut Report) -> Duration {
    let (mut native, mut engine, mut unverified, mut copied) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut memory, mut native_cpu) = (0, Duration::ZERO);
    let mut others: Vec<(others::Tool, Vec<Duration>)> = others::given().into_iter().map(|tool| (tool, Vec::new())).collect();
    for round in 1..=rounds {
        if wanted("idle") {
            let server = child::server_process(db).await;
            let cpu = child::cpu(&server);
            let began = Instant::now();
            db.run(&format!("ALTER TABLE sbtest1 {}, ALGORITHM=COPY", flip.next())).await;
            native.push(began.elapsed());
            native_cpu = child::cpu(&server).saturating_sub(cpu);
            for (tool, times) in &mut others {
                match tool.run(db, "sbtest1", flip.next(), Duration::from_secs(600)).await {
                    Some(took) => times.push(took),
                    None => progress(&format!("{} failed", tool.name)),
                }
            }
        }
        let run = child::run(db, "sbtest1", flip.next()).await;
        progress(&format!(
            "idle {round}/{rounds}: native {:.2} s (server {:.1} s CPU), engine {}",
            native.last().copied().unwrap_or_default().as_secs_f64(),
            native_cpu.as_secs_f64(),
            run.told()
        ));
        memory = memory.max(run.peak_kib);
        engine.push(run.took);
        copied.push(run.copied);
        if wanted("verify") {
            let run = child::run_unverified(db, "sbtest1", flip.next()).await;
            progress(&format!("idle {round}/{rounds}: unverified, engine {}", run.told()));
            unverified.push(run.took);
        }
    }
    report.list("idle.engine_seconds", &engine);
    report.memory(memory);
    if wanted("verify") {
        report.list("idle.unverified_seconds", &unverified);
        let cost = median(&engine).as_secs_f64() - median(&unverified).as_secs_f64();
        report.at_most("verification's share of the copy's time, idle", 100.0 * cost / median(&copied).as_secs_f64(), 35.0, "%");
    }
    if wanted("idle") {
        report.list("idle.native_seconds", &native);
        report.at_most("idle copy ÷ native ALGORITHM=COPY", median(&engine).as_secs_f64() / median(&native).as_secs_f64(), 1.3, "×");
    }
    for (tool, times) in others {
        report.list(&format!("idle.{}_seconds", tool.name), &times);
        report.note(&format!("idle copy by {} ÷ native", tool.name), median(&times).as_secs_f64() / median(&native).as_secs_f64(), "×");
    }
    median(&engine)
}

async fn under_load(db: &mut Db, flip: &mut Flip, rows: u64, idle: Duration, report: &mut Report) {
    let app = App::start(db, "sbtest1", rows, WRITERS).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = app.totals();
    tokio::time::sleep(ALONE).await;
    let alone = app.since(&before);
    progress(&format!("the application alone: {:.0} transactions/s, longest wait {} ms", alone.per_second, alone.longest.as_millis()));

    let before = app.totals();
    let limit = idle * NEVER;
    let run = child::run_for(db, "sbtest1", flip.next(), limit).await;
    let beside = app.since(&before);
    progress(&format!(
        "under load: {}; the application {:.0} transactions/s, longest wait {} ms",
        run.as_ref().map_or_else(|| format!("not done after {} s", limit.as_secs()), Run::told),
        beside.per_second,
        beside.longest.as_millis()
    ));
    report.note("application alone", alone.per_second, "tx/s");
    report.number("load.app_alone_tps", alone.per_second);
    report.number("load.app_beside_tps", beside.per_second);
    report.number("load.app_longest_wait_ms", beside.longest.as_secs_f64() * 1e3);
    report.at_least("under load: finishes", if run.is_some() { 1.0 } else { 0.0 }, 1.0, "");
    report.at_least("under load: the application keeps", 100.0 * beside.per_second / alone.per_second, 40.0, "%");
    let took = run.as_ref().map_or(limit, |run| run.took);
    report.list("load.engine_seconds", &[took]);
    report.at_most("under load ÷ idle", took.as_secs_f64() / idle.as_secs_f64(), 4.0, "×");
    if let Some(run) = run {
        report.memory(run.peak_kib);
    }
    for tool in others::given() {
        let before = app.totals();
        let took = tool.run(db, "sbtest1", flip.next(), limit).await;
        let beside = app.since(&before);
        let name = &tool.name;
        match took {
            Some(took) => {
                report.note(&format!("under load by {name} ÷ the engine's idle time"), took.as_secs_f64() / idle.as_secs_f64(), "×")
            }
            None => report.note(&format!("under load by {name}: not done after"), limit.as_secs_f64(), "s"),
        }
        report.note(&format!("under load: the application keeps beside {name}"), 100.0 * beside.per_second / alone.per_second, "%");
    }
    report.application(app.stop().await);
}

/// Many cut-overs of a small table while the application hammers on it.
async fn cut_overs(db: &mut Db, count: usize, report: &mut Report) {
    let rows = 20_000;
    load(db, "sbtest2", rows).await;
    let app = App::start(db, "sbtest2", rows, WRITERS).await;
    let mut flip = Flip(false);
    let (mut locked, mut waits, mut attempts) = (Vec::new(), Vec::new(), 0);
    for _ in 0..count {
        let before = app.totals();
        let run = child::run(db, "sbtest2", flip.next()).await;
        let beside = app.since(&before);
        locked.push(run.locked);
        waits.push(beside.longest);
        attempts += run.attempts;
        progress(&format!("cut-over: {}; longest wait of the application {} ms", run.told(), beside.longest.as_millis()));
    }
    report.list("cutover.locked_seconds", &locked);
    report.list("cutover.longest_wait_seconds", &waits);
    report.number("cutover.attempts", f64::from(attempts));
    report.at_most(&format!("{count} cut-overs under load: locked, median"), median(&locked).as_secs_f64() * 1e3, 40.0, "ms");
    report.at_most(&format!("{count} cut-overs under load: locked, worst"), worst(&locked).as_secs_f64() * 1e3, 250.0, "ms");
    report.note("longest wait of the application per migration, median", median(&waits).as_secs_f64() * 1e3, "ms");
    report.note("longest wait of the application per migration, worst", worst(&waits).as_secs_f64() * 1e3, "ms");
    report.application(app.stop().await);
    db.run("DROP TABLE sbtest2").await;
}

/// How soon a signal of the throttle holds the copy: a query's value is changed, and the status is watched.
async fn throttling(db: &mut Db, count: usize, report: &mut Report) {
    load(db, "sbtest4", 200_000).await;
    db.run("CREATE TABLE brake (v INT) SELECT 0 AS v").await;
    let controls = Controls {
        limits: Limits { throttle_query: Some(format!("SELECT v FROM `{}`.brake", db.name)), ..Limits::default() },
        nice_ratio_percent: 1000,
        workers: 1,
        target_chunk_time: Duration::from_millis(10),
        ..Controls::default()
    };
    let server = support::address(&child::account(db));
    let spec = theseus::engine::contract::spec::MigrationSpec { server, ..db.spec("sbtest4", "MODIFY k BIGINT NOT NULL") };
    let handle = theseus::engine::start(spec, controls);
    let mut held = Vec::new();
    support::until(&handle, "rows are copied", |s| s.progress.rows_copied > 0).await;
    for _ in 0..count {
        let began = Instant::now();
        db.run("UPDATE brake SET v = 1").await;
        support::until(&handle, "it is held", |s| s.throttle.is_some()).await;
        held.push(began.elapsed());
        db.run("UPDATE brake SET v = 0").await;
        support::until(&handle, "it is let go", |s| s.throttle.is_none()).await;
    }
    assert!(!handle.watch().borrow().progress.copy_complete, "the copy was over before the last hold");
    handle.control(Controls { cancel: true, ..Controls::default() });
    support::join(handle).await;
    report.list("throttle.held_seconds", &held);
    report.at_most(&format!("{count} holds by a query: held, median"), median(&held).as_secs_f64() * 1e3, 250.0, "ms");
    report.note("holds by a query: held, worst", worst(&held).as_secs_f64() * 1e3, "ms");
    db.run("DROP TABLE sbtest4, brake").await;
}

/// A table on which everything but the rows counts: from the start of the process to its end.
async fn small(db: &mut Db, report: &mut Report) {
    load(db, "sbtest3", 1000).await;
    let mut flip = Flip(false);
    let mut times = Vec::new();
    for _ in 0..10 {
        times.push(child::run(db, "sbtest3", flip.next()).await.whole);
    }
    progress(&format!("1 000 rows: {times:.2?}"));
    report.list("small.seconds", &times);
    report.at_most("a table of 1 000 rows, everything included, median", median(&times).as_secs_f64(), 0.5, "s");
    db.conn.query_drop("DROP TABLE sbtest3").await.expect("drop the small table");
}
