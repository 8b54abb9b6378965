//! What the suites share: a database of one's own on the real server, a migration spec for it, waiting for snapshots.
//!
//! `THESEUS_TEST_MYSQL_URL` names the server (`hack/with-parts --mysql -- …` sets it). Without it a suite fails with a sentence; nothing is skipped.
#![allow(dead_code, reason = "each suite uses its own part")]

pub mod types;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use theseus::engine::contract::progress::Publisher;
use theseus::engine::contract::snapshot::{Outcome, Snapshot};
use theseus::engine::contract::spec::{Controls, DeferIndexes, MigrationSpec, OldTable, ServerAddress, Tls};
use theseus::engine::lifecycle::prepare::{Prepared, Ready, Wishes, prepare};
use theseus::engine::table::chooser::Refused;
use theseus::engine::{ChunkRows, Environment, Handle};
use theseus::mysql::Session;
use tokio::sync::watch;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// For what has to happen, whenever that is: a busy machine takes its time, and waiting costs nothing where it does happen.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A limit for what is promised to happen soon, as long as the machine is: where each processor has other work, so many times as long.
pub fn soon(limit: Duration) -> Duration {
    // 0.52 0.61 0.55 3/321 4711: the load of the last minute, and what would run now.
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let number = |at: usize| text.split([' ', '/']).nth(at).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    let processors = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    limit.mul_f64((2.0 * number(0).max(number(3)) / processors).max(1.0))
}

/// The server's URL.
pub fn mysql_url() -> String {
    std::env::var("THESEUS_TEST_MYSQL_URL")
        .expect("THESEUS_TEST_MYSQL_URL is not set: run the tests by `make test`, or `hack/with-parts --mysql --kube -- cargo test`")
}

/// The address of a URL as the engine takes it.
pub fn address(url: &str) -> ServerAddress {
    let opts = Opts::from_url(url).expect("a MySQL URL");
    ServerAddress {
        host: opts.ip_or_hostname().to_owned(),
        port: opts.tcp_port(),
        username: opts.user().unwrap_or_default().to_owned(),
        password: opts.pass().unwrap_or_default().to_owned(),
        tls: Tls::default(),
        unlogged: false,
    }
}

/// A database of a test's own; dropped by [`Db::drop`].
pub struct Db {
    /// Its name.
    pub name: String,
    /// The server.
    pub url: String,
    /// A connection with it as default, UTC, utf8mb4, and the engine's sql_mode.
    pub conn: Conn,
}

impl Db {
    /// Makes a database whose name starts with `prefix`.
    pub async fn new(prefix: &str) -> Self {
        Self::on(&mysql_url(), prefix).await
    }

    /// Makes one on a given server.
    pub async fn on(url: &str, prefix: &str) -> Self {
        // THESEUS_LOG=theseus=trace shows each statement.
        let filter = tracing_subscriber::EnvFilter::try_from_env("THESEUS_LOG").unwrap_or_else(|_| "off".into());
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let name = format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut conn = connect(url).await;
        conn.query_drop(format!("CREATE DATABASE `{name}`")).await.expect("create a database");
        conn.query_drop(format!("USE `{name}`")).await.expect("use it");
        Self { name, url: url.to_owned(), conn }
    }

    /// Another connection like [`Db::conn`].
    pub async fn connect(&self) -> Conn {
        let mut conn = connect(&self.url).await;
        conn.query_drop(format!("USE `{}`", self.name)).await.expect("use the database");
        conn
    }

    /// Runs statements.
    pub async fn run(&mut self, sql: &str) {
        self.conn.query_drop(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// One value.
    pub async fn value<T: mysql_async::prelude::FromValue + Send + 'static>(&mut self, sql: &str) -> T {
        self.conn.query_first(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).unwrap_or_else(|| panic!("{sql}: no row"))
    }

    /// All rows, each as text, for comparing.
    pub async fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        let rows: Vec<mysql_async::Row> = self.conn.query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        rows.into_iter().map(|row| row.unwrap().iter().map(|v| v.as_sql(true)).collect()).collect()
    }

    /// Tables of the database, in order.
    pub async fn tables(&mut self) -> Vec<String> {
        self.conn.query("SHOW TABLES").await.expect("show tables")
    }

    /// `SHOW CREATE TABLE`.
    pub async fn definition(&mut self, table: &str) -> String {
        let row: (String, String) =
            self.conn.query_first(format!("SHOW CREATE TABLE `{table}`")).await.expect("show create table").expect("a row");
        row.1
    }

    /// A migration of a table of this database.
    pub fn spec(&self, table: &str, alter: &str) -> MigrationSpec {
        MigrationSpec {
            id: format!("test-{}-{table}", self.name),
            display_name: format!("{}/{table}", self.name),
            server: address(&self.url),
            database: self.name.clone(),
            table: table.to_owned(),
            alter: alter.to_owned(),
            desired: None,
            mode: theseus::engine::contract::spec::Mode::Execute,
            algorithm: theseus::engine::contract::spec::Algorithm::Copy,
            deletion_policy: theseus::engine::contract::spec::DeletionPolicy::Cleanup,
        }
    }

    /// A name for an account of this database's own.
    pub fn user(&self) -> String {
        // 32 characters at most, and the numbers are at the end.
        format!("u{}", &self.name[self.name.len().saturating_sub(20)..])
    }

    /// Makes the account of the README, on this database, and tells its URL.
    pub async fn documented(&mut self, user: &str, password: &str) -> String {
        self.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")).await;
        for grant in documented_grants(user, &self.name) {
            self.run(&grant).await;
        }
        let server = address(&self.url);
        format!("mysql://{user}:{password}@{}:{}", server.host, server.port)
    }

    /// Drops the database. A test that panics leaves it for a look.
    pub async fn drop(mut self) {
        self.run(&format!("DROP DATABASE `{}`", self.name)).await;
        let _ = self.conn.disconnect().await;
    }
}

/// The GRANTs of the README for an account and a database: what people are told to grant is what is tested.
pub fn documented_grants(user: &str, database: &str) -> Vec<String> {
    // `_` is a wildcard in a database's name here.
    let database = format!(" `{}`.", database.replace('_', "\\_"));
    let grants: Vec<String> = include_str!("../../README.md")
        .lines()
        .filter(|line| line.starts_with("GRANT "))
        .map(|line| line.replace(" shop.", &database).replace("theseus@'%';", &format!("'{user}'@'%'")))
        .collect();
    assert!(grants.len() > 1 && grants.iter().all(|grant| grant.contains(user)), "the README's grants: {grants:?}");
    grants
}

/// A connection. Where the machine is so busy that the server gives up waiting for the handshake (`connect_timeout`), it is asked for again.
pub async fn open(url: &str) -> Conn {
    let mut tries = 5;
    loop {
        tries -= 1;
        match Conn::new(Opts::from_url(url).expect("a MySQL URL")).await {
            Ok(conn) => return conn,
            Err(mysql_async::Error::Io(_)) if tries > 0 => {}
            Err(error) => panic!("connect to the test server: {error}"),
        }
    }
}

/// A connection with the engine's settings.
pub async fn connect(url: &str) -> Conn {
    let mut conn = open(url).await;
    conn.query_drop(
        "SET SESSION time_zone='+00:00', sql_mode='STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO', information_schema_stats_expiry=0",
    )
    .await
    .expect("settings");
    conn
}

/// A prepared copy of `t`, as an engine would begin it; the session that prepared it, and who publishes for it.
pub async fn ready(db: &Db, alter: &str) -> (Ready, Session, (Publisher, watch::Receiver<Snapshot>)) {
    let spec = db.spec("t", alter);
    let mut control = Session::open(&spec.server).await.expect("connect");
    let (publisher, snapshots) = Publisher::new("test".into());
    let refused = Refused::default();
    let (window, now) = (Duration::ZERO, std::time::SystemTime::now());
    let (defer, old_table) = (DeferIndexes::Never, OldTable::DropNow);
    let wishes = Wishes { defer, refused: &refused, old_table, max_locked_tables: 16, window, revert: false, now };
    let end = Instant::now() + PATIENCE;
    loop {
        match prepare(&spec, wishes, &mut control, &publisher, &mut false).await {
            Ok(Prepared::Run(ready)) => return (*ready, control, (publisher, snapshots)),
            Ok(_) => panic!("a copy is made"),
            // Another test's transaction is prepared, or the machine is busy.
            Err(error) if error.is_transient() && Instant::now() < end => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(error) => panic!("{}: {error}", error.reason),
        }
    }
}

/// Controls for a test: swap at once, leave nothing.
pub fn controls() -> Controls {
    Controls { old_table: OldTable::DropNow, ..Controls::default() }
}

/// Each chunk has so many rows: small tables take many of them.
pub fn chunks_of(rows: u64) -> Environment {
    Environment { chunk_rows: ChunkRows { first: rows, smallest: rows, largest: rows }, ..Environment::default() }
}

/// Migrates to the end.
pub async fn migrate(spec: MigrationSpec, controls: Controls) -> Outcome {
    let handle = theseus::engine::start(spec, controls);
    join(handle).await
}

/// How long a migration may take; `THESEUS_TEST_JOIN_SECONDS` for impatient people.
fn join_seconds() -> u64 {
    std::env::var("THESEUS_TEST_JOIN_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(300)
}

/// Waits for the end, [`join_seconds`] at most.
pub async fn join(handle: Handle) -> Outcome {
    let watch = handle.watch();
    match tokio::time::timeout(Duration::from_secs(join_seconds()), handle.join()).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("the engine did not end in time; last snapshot: {:#?}", *watch.borrow()),
    }
}

/// Waits until a snapshot fulfils a condition, [`PATIENCE`] at most.
pub async fn until(handle: &Handle, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let mut watch = handle.watch();
    let end = Instant::now() + PATIENCE;
    loop {
        {
            let snapshot = watch.borrow_and_update();
            if condition(&snapshot) {
                return snapshot.clone();
            }
        }
        match tokio::time::timeout_at(end.into(), watch.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => panic!("the engine ended while waiting until {what}; last snapshot: {:#?}", *watch.borrow()),
            Err(_) => panic!("waited in vain until {what}; last snapshot: {:#?}", *watch.borrow()),
        }
    }
}

/// `theseus check` as this account on a migration in YAML: its exit code, and what it says as JSON.
pub async fn check(yaml: &str, user: &str, password: &str) -> (Option<i32>, serde_json::Value) {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_theseus"))
        .args(["check", "-o", "json", "-f", "-", "--user", user])
        .env("THESEUS_PASSWORD", password)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("start theseus");
    let mut input = child.stdin.take().expect("its input");
    tokio::io::AsyncWriteExt::write_all(&mut input, yaml.as_bytes()).await.expect("write");
    drop(input);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("in time").expect("an end");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}")))
}

/// Waits until no row has been copied for a while: the chunk that was under way when the copying was held is over. Returns the number.
pub async fn stands_still(handle: &Handle) -> u64 {
    let end = Instant::now() + PATIENCE;
    let mut copied = handle.watch().borrow().progress.rows_copied;
    loop {
        tokio::time::sleep(soon(Duration::from_millis(500))).await;
        let now = handle.watch().borrow().progress.rows_copied;
        if now == copied {
            return now;
        }
        assert!(Instant::now() < end, "rows are copied all the time");
        copied = now;
    }
}

/// A program for `sh` in a folder. Another process writes it: a file that this one has open for writing, or a child that a test beside this
/// one forks meanwhile, cannot be run (ETXTBSY).
pub fn script(folder: &std::path::Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod +x \"$1\"", "sh"]).arg(&path).arg(text);
    assert!(command.status().expect("sh").success(), "{}", path.display());
    path
}

/// Waits until these processes are dead. A dead one may wait for whoever is to collect it.
pub async fn dead(pids: &str) {
    assert!(!pids.trim().is_empty(), "no process is named");
    for pid in pids.split_whitespace() {
        let end = Instant::now() + PATIENCE;
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < end, "process {pid} lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A server of a test's own, for settings that others must not see. Stopped when dropped.
pub struct PrivateServer {
    /// Its URL.
    pub url: String,
    /// Its folder.
    pub dir: String,
}

impl PrivateServer {
    /// Starts one with more options for `mysqld`.
    pub async fn start(options: &[&str]) -> Self {
        Self::launch(&[], options).await
    }

    /// Starts a replica of another one.
    pub async fn replica_of(source: &Self) -> Self {
        Self::replica_with(source, &[]).await
    }

    /// As above, with more options for `mysqld`.
    pub async fn replica_with(source: &Self, options: &[&str]) -> Self {
        Self::launch(&["--replica-of", &address(&source.url).port.to_string()], options).await
    }

    /// Kills it as a crash would, for good.
    pub async fn kill(&self) {
        let script = std::env::var("THESEUS_TEST_MYSQLD").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/hack/mysql").into());
        let status = tokio::process::Command::new(&script).args(["kill", &self.dir]).stdout(std::process::Stdio::null()).status().await;
        assert!(status.unwrap_or_else(|e| panic!("{script}: {e}")).success(), "the server in {} was not killed", self.dir);
    }

    /// Stops the server and leaves its folder; to be used once.
    pub async fn stop(&self) {
        let script = std::env::var("THESEUS_TEST_MYSQLD").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/hack/mysql").into());
        let status = tokio::process::Command::new(&script).args(["stop", &self.dir]).stdout(std::process::Stdio::null()).status().await;
        assert!(status.unwrap_or_else(|e| panic!("{script}: {e}")).success(), "the server in {} was not stopped", self.dir);
    }

    /// Stops it, or kills it as a crash would, and starts it again on its data and its port.
    pub async fn restart(&self, crash: bool) {
        self.restart_with(crash, &[]).await;
    }

    /// As above, with more options for `mysqld`.
    pub async fn restart_with(&self, crash: bool, options: &[String]) {
        let script = std::env::var("THESEUS_TEST_MYSQLD").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/hack/mysql").into());
        let port = address(&self.url).port.to_string();
        let how = if crash { "kill" } else { "stop" };
        let mut start = vec!["start", "--fast", "--data", &self.dir, "--port", &port, "--"];
        start.extend(options.iter().map(String::as_str));
        for arguments in [vec![how, &self.dir], start] {
            let output = tokio::process::Command::new(&script).args(&arguments).output().await.unwrap_or_else(|e| panic!("{script}: {e}"));
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    async fn launch(arguments: &[&str], options: &[&str]) -> Self {
        let script = std::env::var("THESEUS_TEST_MYSQLD").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/hack/mysql").into());
        let mut command = tokio::process::Command::new(&script);
        command.args(["start", "--fast"]).args(arguments).arg("--").args(options).stdin(std::process::Stdio::null());
        let output = command.output().await.unwrap_or_else(|e| panic!("{script}: {e}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script} failed: {}", String::from_utf8_lossy(&output.stderr));
        let of = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_else(|| panic!("{script} did not print {name}: {text}"))
                .trim_matches('\'')
                .to_owned()
        };
        Self { url: of("MYSQL_URL"), dir: of("MYSQL_DIR") }
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        let script = std::env::var("THESEUS_TEST_MYSQLD").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/hack/mysql").into());
        // A server that was started for a test has nothing worth a slow end: a clean one waits ten seconds for its replica.
        // A test may have killed it already; that is no news.
        let _ = std::process::Command::new(script).args(["kill", &self.dir]).output();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A MariaDB of a test's own, with an empty database `d`. Stopped when dropped.
pub struct MariaDb {
    /// Its URL, with an account that may do anything.
    pub url: String,
    dir: String,
}

impl MariaDb {
    /// Starts one of this series; the first time it is downloaded, and without a mirror that fails with a sentence.
    pub async fn start(series: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/mariadb");
        let output =
            tokio::process::Command::new(script).args(["start", series]).output().await.unwrap_or_else(|e| panic!("{script}: {e}"));
        let out = String::from_utf8_lossy(&output.stdout);
        let value = |name: &str| {
            let line = out.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
            line.unwrap_or_else(|| panic!("MariaDB {series} did not start: {}", String::from_utf8_lossy(&output.stderr))).to_owned()
        };
        let server = Self { url: value("MYSQL_URL"), dir: value("MYSQL_DIR") };
        server.connect().await.query_drop("CREATE DATABASE d").await.expect("a database");
        server
    }

    /// A session with the server's own settings: those of [`connect`] are MySQL's.
    pub async fn connect(&self) -> Conn {
        Conn::new(Opts::from_url(&self.url).expect("a URL")).await.unwrap_or_else(|e| panic!("connect to MariaDB: {e}"))
    }

    /// What would show that somebody has written: the end of the binary log, and the tables.
    pub async fn trace(&self) -> (String, u64, Vec<String>) {
        let mut conn = self.connect().await;
        let end: mysql_async::Row = conn.query_first("SHOW MASTER STATUS").await.expect("its answer").expect("a binary log");
        let tables = conn.query("SHOW TABLES FROM d").await.expect("tables");
        (end.get(0).expect("a file"), end.get(1).expect("an offset"), tables)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/mariadb");
        let _ = std::process::Command::new(script).args(["stop", &self.dir]).output();
    }
}
