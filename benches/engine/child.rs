//! The engine in a process of its own: this program again with [`FLAG`], which prints one line of JSON.
use crate::support::{Db, address};
use serde::{Deserialize, Serialize};
use std::process::Stdio;
use std::time::{Duration, Instant};
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Algorithm, Controls, MigrationSpec, OldTable, VerifyPolicy};

/// Makes this program an engine.
pub const FLAG: &str = "--engine";

/// Leaves the comparison out when it is 1, to tell what it costs.
const UNVERIFIED: &str = "BENCH_UNVERIFIED";

/// One migration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// From the engine's start to its end.
    pub took: Duration,
    /// When the copy was complete.
    pub copied: Duration,
    /// When the gate could have been opened.
    pub ready: Duration,
    /// How long the tables were locked at the swap.
    pub locked: Duration,
    /// Attempts at it.
    pub attempts: u32,
    /// Peak resident memory of the process.
    pub peak_kib: u64,
    /// Row images seen.
    pub changes: u64,
    /// CPU time of the process.
    pub cpu: Duration,
    /// From the start of the process to its end; filled in by the parent.
    #[serde(default)]
    pub whole: Duration,
    /// CPU time of the server meanwhile, where it can be seen; filled in by the parent.
    #[serde(default)]
    pub server_cpu: Duration,
}

impl Run {
    /// For people.
    pub fn told(&self) -> String {
        format!(
            "{:.2} s (copied {:.2}, ready {:.2}), locked {:.1} ms in {} attempts, {} changes, {:.1} MB, {:.1} s CPU, server {:.1} s",
            self.took.as_secs_f64(),
            self.copied.as_secs_f64(),
            self.ready.as_secs_f64(),
            self.locked.as_secs_f64() * 1e3,
            self.attempts,
            self.changes,
            self.peak_kib as f64 / 1024.0,
            self.cpu.as_secs_f64(),
            self.server_cpu.as_secs_f64(),
        )
    }
}

/// The child: `URL DATABASE TABLE ALTER`.
pub async fn main(arguments: &[String]) {
    let [url, database, table, alter] = arguments else { panic!("{FLAG} URL DATABASE TABLE ALTER, got {arguments:?}") };
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("THESEUS_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let spec = spec(url, database, table, alter);
    let mut controls = Controls { old_table: OldTable::DropNow, ..Controls::default() };
    controls.workers = crate::setting("WORKERS", controls.workers);
    if crate::setting(UNVERIFIED, 0) == 1 {
        controls.verify = VerifyPolicy::Never;
    }
    let chunk: u64 = crate::setting("CHUNK_MS", 0);
    if chunk > 0 {
        controls.target_chunk_time = Duration::from_millis(chunk);
    }
    let began = Instant::now();
    let handle = theseus::engine::start(spec, controls);
    let mut watch = handle.watch();
    let (mut copied, mut ready) = (Duration::ZERO, Duration::ZERO);
    let mut shown = Instant::now();
    let verbose = std::env::var_os("BENCH_VERBOSE").is_some();
    while !handle.is_finished() {
        {
            let s = watch.borrow_and_update();
            if copied.is_zero() && s.progress.copy_complete {
                copied = began.elapsed();
            }
            if ready.is_zero() && s.phase == Phase::CuttingOver {
                ready = began.elapsed();
            }
            if verbose && shown.elapsed() > Duration::from_secs(1) {
                shown = Instant::now();
                let p = &s.progress;
                eprintln!(
                    "  {:6.2} s {:?} {} rows, backlog {}, applied {}, seen {}, lag {:?}, chunk {:?}, workers {}",
                    began.elapsed().as_secs_f64(),
                    s.phase,
                    p.rows_copied,
                    p.backlog,
                    p.changes_applied,
                    p.changes_seen,
                    p.binlog_lag,
                    s.last_chunk,
                    p.copy_workers,
                );
            }
        }
        let _ = tokio::time::timeout(Duration::from_millis(100), watch.changed()).await;
    }
    let snapshot = watch.borrow().clone();
    let outcome = handle.join().await;
    let took = began.elapsed();
    assert_eq!(outcome, Outcome::Succeeded, "{snapshot:#?}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak_kib =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")).and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    let run = Run {
        took,
        copied,
        ready,
        locked: snapshot.cut_over.locked.unwrap_or_default(),
        attempts: snapshot.cut_over.attempts,
        peak_kib,
        changes: snapshot.progress.changes_seen,
        cpu: cpu("self"),
        whole: Duration::ZERO,
        server_cpu: Duration::ZERO,
    };
    println!("{}", serde_json::to_string(&run).expect("plain numbers"));
}

/// A migration, as a child gets to know it.
pub fn spec(url: &str, database: &str, table: &str, alter: &str) -> MigrationSpec {
    MigrationSpec {
        id: format!("bench-{}", std::process::id()),
        display_name: format!("bench/{table}"),
        server: address(url),
        database: database.to_owned(),
        table: table.to_owned(),
        alter: alter.to_owned(),
        desired: None,
        mode: theseus::engine::contract::spec::Mode::Execute,
        algorithm: Algorithm::Copy,
        deletion_policy: theseus::engine::contract::spec::DeletionPolicy::Cleanup,
    }
}

/// User and system time of a process so far: fields 14 and 15 of its `stat`, in hundredths of a second.
pub fn cpu(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The server's process, if it is on this machine.
pub async fn server_process(db: &Db) -> String {
    let mut conn = db.connect().await;
    let file: Option<String> =
        mysql_async::prelude::Queryable::query_first(&mut conn, "SELECT @@pid_file").await.expect("the server's settings");
    let pid = file.and_then(|file| std::fs::read_to_string(file).ok()).map(|pid| pid.trim().to_owned()).unwrap_or_default();
    let _ = conn.disconnect().await;
    pid
}

/// A migration to its end.
pub async fn run(db: &Db, table: &str, alter: &str) -> Run {
    run_for(db, table, alter, Duration::from_secs(900)).await.unwrap_or_else(|| panic!("{alter} on {table} was not done after 15 minutes"))
}

/// A migration without the comparison.
pub async fn run_unverified(db: &Db, table: &str, alter: &str) -> Run {
    let limit = Duration::from_secs(900);
    start(db, table, alter, limit, &[(UNVERIFIED, "1")]).await.unwrap_or_else(|| panic!("{alter} on {table} was not done after 15 minutes"))
}

/// The URL of the account that the README tells people to make; [`crate::ACCOUNT`] is made at the start.
pub fn account(db: &Db) -> String {
    let server = address(&db.url);
    format!("mysql://{0}:{0}@{1}:{2}", crate::ACCOUNT, server.host, server.port)
}

/// A migration, killed after `limit` (its tables are removed then).
pub async fn run_for(db: &Db, table: &str, alter: &str, limit: Duration) -> Option<Run> {
    start(db, table, alter, limit, &[]).await
}

async fn start(db: &Db, table: &str, alter: &str, limit: Duration, settings: &[(&str, &str)]) -> Option<Run> {
    let server = server_process(db).await;
    let cpu_before = cpu(&server);
    let began = Instant::now();
    let child = tokio::process::Command::new(std::env::current_exe().expect("our own path"))
        .args([FLAG, &account(db), &db.name, table, alter])
        .envs(settings.iter().copied())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("start ourselves as an engine");
    let Ok(output) = tokio::time::timeout(limit, child.wait_with_output()).await else {
        let mut conn = db.connect().await;
        for suffix in ["gho", "ghc"] {
            mysql_async::prelude::Queryable::query_drop(&mut conn, format!("DROP TABLE IF EXISTS _{table}_{suffix}"))
                .await
                .expect("clean up");
        }
        return None;
    };
    let output = output.expect("wait for the engine");
    let text = String::from_utf8_lossy(&output.stdout);
    let run: Run =
        serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("the engine failed on {table} ({alter}): {}", output.status));
    Some(Run { whole: began.elapsed(), server_cpu: cpu(&server).saturating_sub(cpu_before), ..run })
}
