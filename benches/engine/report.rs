//! What was measured, beside what must be reached; the table for people, `target/bench.json` for machines.
use crate::app::Ended;
use crate::support::Db;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The middle one (of an even number: the lower middle).
pub fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// The largest.
pub fn worst(times: &[Duration]) -> Duration {
    times.iter().max().copied().unwrap_or_default()
}

/// Peak memory of the engine's process.
const MEMORY_MB: f64 = 80.0;

struct Line {
    what: String,
    value: f64,
    unit: &'static str,
    /// The bound, and whether it is an upper one.
    target: Option<(f64, bool)>,
}

impl Line {
    fn reached(&self) -> bool {
        self.target.is_none_or(|(bound, upper)| if upper { self.value <= bound } else { self.value >= bound })
    }
}

/// The report.
#[derive(Default)]
pub struct Report {
    lines: Vec<Line>,
    raw: Map<String, Value>,
    peak_kib: u64,
    deadlocks: u64,
    failures: Vec<String>,
}

impl Report {
    /// What was measured on.
    pub async fn server(&mut self, db: &mut Db, rows: u64) {
        let version: String = db.value("SELECT VERSION()").await;
        let durable: (u64, u64, u64) = (
            db.value("SELECT @@innodb_flush_log_at_trx_commit").await,
            db.value("SELECT @@sync_binlog").await,
            db.value("SELECT @@innodb_buffer_pool_size").await,
        );
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        eprintln!(
            "bench: MySQL {version}, innodb_flush_log_at_trx_commit={}, sync_binlog={}, buffer pool {} MB, {cores} cores, {rows} rows",
            durable.0,
            durable.1,
            durable.2 >> 20
        );
        self.raw.insert("server".into(), json!({"version": version, "flush_log_at_trx_commit": durable.0, "sync_binlog": durable.1, "buffer_pool": durable.2, "cores": cores, "rows": rows}));
    }

    /// A figure that must not be larger.
    pub fn at_most(&mut self, what: &str, value: f64, bound: f64, unit: &'static str) {
        self.lines.push(Line { what: what.to_owned(), value, unit, target: Some((bound, true)) });
    }

    /// A figure that must not be smaller.
    pub fn at_least(&mut self, what: &str, value: f64, bound: f64, unit: &'static str) {
        self.lines.push(Line { what: what.to_owned(), value, unit, target: Some((bound, false)) });
    }

    /// A figure beside them.
    pub fn note(&mut self, what: &str, value: f64, unit: &'static str) {
        self.lines.push(Line { what: what.to_owned(), value, unit, target: None });
    }

    /// For the JSON only.
    pub fn number(&mut self, name: &str, value: f64) {
        self.raw.insert(name.to_owned(), json!(value));
    }

    /// For the JSON only, in seconds.
    pub fn list(&mut self, name: &str, times: &[Duration]) {
        self.raw.insert(name.to_owned(), times.iter().map(Duration::as_secs_f64).collect());
    }

    /// The largest counts.
    pub fn memory(&mut self, kib: u64) {
        self.peak_kib = self.peak_kib.max(kib);
    }

    /// How an application ended: nothing of it may have failed.
    pub fn application(&mut self, ended: Ended) {
        self.deadlocks += ended.deadlocks;
        self.failures.extend(ended.failures);
    }

    /// Prints and writes everything. Returns the number of targets missed.
    pub fn finish(mut self) -> usize {
        if self.peak_kib > 0 {
            self.at_most("peak memory of the engine's process", self.peak_kib as f64 / 1024.0, MEMORY_MB, "MB");
        }
        self.at_most("failed statements of the application", self.failures.len() as f64, 0.0, "");
        for failure in &self.failures {
            eprintln!("bench: a statement of the application failed: {failure}");
        }
        let missed = self.lines.iter().filter(|line| !line.reached()).count();
        println!();
        for line in &self.lines {
            let target = match line.target {
                Some((bound, true)) => format!("≤ {bound} {}", line.unit),
                Some((bound, false)) => format!("≥ {bound} {}", line.unit),
                None => String::new(),
            };
            let verdict = match (line.target, line.reached()) {
                (None, _) => "",
                (_, true) => "reached",
                (_, false) => "MISSED",
            };
            println!("{:<64} {:>9.2} {:<5} {:<10} {verdict}", line.what, line.value, line.unit, target);
        }
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|line| json!({"what": line.what, "value": line.value, "unit": line.unit, "target": line.target.map(|t| t.0), "reached": line.target.map(|_| line.reached())}))
            .collect();
        let all = json!({"lines": lines, "missed": missed, "deadlocks": self.deadlocks, "failures": self.failures, "raw": self.raw});
        let path = std::env::var("BENCH_JSON").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench.json").to_owned());
        let text = serde_json::to_string_pretty(&all).expect("plain values");
        match std::path::Path::new(&path).parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text + "\n"))
        {
            Ok(()) => println!("\n{} of {} targets missed; {path}", missed, self.lines.iter().filter(|l| l.target.is_some()).count()),
            Err(error) => println!("\n{missed} targets missed; {path} could not be written: {error}"),
        }
        missed
    }
}
