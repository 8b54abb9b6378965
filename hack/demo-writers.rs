//! The application of `make demo`: makes a database, an account and a table, and writes to it while keeping its own account of every row.
//!
//! ```text
//! demo-writers prepare URL DATABASE ROWS USER PASSWORD   the database, the table with its rows, and the migration's account
//! demo-writers run URL DATABASE ROWS DIR                 write until SIGTERM; SIGUSR1: compare now, and go on
//! demo-writers show URL DATABASE                         the table's definition
//! demo-writers drop URL DATABASE USER                    what `prepare` has made
//! ```
//! In DIR it keeps `status` (one line, each half second) and, after a comparison, `report` (lines of `name=value` for a shell).
//! `WRITERS` (4) is the number of connections, `RATE` (60) the transactions per second of each; 0: as fast as the server answers.
#[path = "../tests/support/workload.rs"]
mod workload;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use workload::{Plan, Workload, create};

const TABLE: &str = "orders";

/// What the README tells people to grant.
const README: &str = include_str!("../README.md");

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["prepare", url, database, rows, user, password] => prepare(url, database, rows, user, password).await,
        ["run", url, database, rows, folder] => run(url, database, rows, Path::new(folder)).await,
        ["show", url, database] => show(url, database).await,
        ["drop", url, database, user] => drop_all(url, database, user).await,
        _ => Err("demo-writers prepare|run|show|drop …; hack/demo calls it".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("demo-writers: {why}");
            ExitCode::FAILURE
        }
    }
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> Result<T, String> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name}={text} is not a number")),
        Err(_) => Ok(default),
    }
}

fn parse_rows(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|rows| *rows >= 100).ok_or_else(|| format!("ROWS={text} is not a number of at least 100"))
}

async fn connect(url: &str) -> Result<Conn, String> {
    let opts = Opts::from_url(url)
        .map_err(|error| format!("the MySQL URL cannot be read ({error}); it looks like mysql://USER:PASSWORD@HOST:PORT"))?;
    Conn::new(opts).await.map_err(|error| format!("cannot connect to the MySQL server: {error}"))
}

async fn prepare(url: &str, database: &str, rows: &str, user: &str, password: &str) -> Result<(), String> {
    let rows = parse_rows(rows)?;
    let mut conn = connect(url).await?;
    let there: Option<String> = conn
        .exec_first("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?", (database,))
        .await
        .map_err(|error| error.to_string())?;
    if there.is_some() {
        return Err(format!(
            "the database {database} is there already; the demo makes one of its own and drops it at the end: drop it, or choose another by DATABASE="
        ));
    }
    let mut statements = vec![format!("CREATE DATABASE `{database}`"), format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")];
    // The same account that the README asks for: what is missing there is missing here.
    for line in README.lines().filter(|line| line.starts_with("GRANT ")) {
        statements.push(
            line.replace(" shop.*", &format!(" `{database}`.*"))
                .replace("theseus@'%'", &format!("'{user}'@'%'"))
                .trim_end_matches(';')
                .to_owned(),
        );
    }
    for statement in &statements {
        conn.query_drop(statement).await.map_err(|error| format!("{}: {error}", statement.split(" BY ").next().unwrap_or_default()))?;
    }
    create(&mut conn, database, TABLE, rows, setting("WRITERS", 4)?)
        .await
        .map_err(|error| format!("the table cannot be loaded: {error}"))?;
    conn.query_drop(format!("ANALYZE TABLE `{database}`.`{TABLE}`")).await.map_err(|error| error.to_string())?;
    let _ = conn.disconnect().await;
    Ok(())
}

async fn show(url: &str, database: &str) -> Result<(), String> {
    let mut conn = connect(url).await?;
    let row: Option<(String, String)> =
        conn.query_first(format!("SHOW CREATE TABLE `{database}`.`{TABLE}`")).await.map_err(|error| error.to_string())?;
    println!("{}", row.map(|(_, definition)| definition).unwrap_or_default());
    let _ = conn.disconnect().await;
    Ok(())
}

async fn drop_all(url: &str, database: &str, user: &str) -> Result<(), String> {
    let mut conn = connect(url).await?;
    conn.query_drop(format!("DROP DATABASE IF EXISTS `{database}`")).await.map_err(|error| error.to_string())?;
    conn.query_drop(format!("DROP USER IF EXISTS '{user}'@'%'")).await.map_err(|error| error.to_string())?;
    let _ = conn.disconnect().await;
    Ok(())
}

async fn run(url: &str, database: &str, rows: &str, folder: &Path) -> Result<(), String> {
    let rate: f64 = setting("RATE", 60.0)?;
    let plan = Plan {
        url: url.to_owned(),
        database: database.to_owned(),
        table: TABLE.to_owned(),
        rows: parse_rows(rows)?,
        writers: setting("WRITERS", 4)?,
        rate: (rate > 0.0).then_some(rate),
        seed: setting("SEED", 1)?,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut compare = signal(SignalKind::user_defined1()).map_err(|error| error.to_string())?;
    let mut workload = Workload::start(plan).await.map_err(|error| format!("the writers cannot start: {error}"))?;
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let (mut last, mut at) = (0, Instant::now());
    loop {
        // Cancel-safe: signals and ticks wait.
        tokio::select! {
            _ = terminate.recv() => {
                workload.stop().await;
                return report(&workload, folder).await;
            }
            _ = compare.recv() => {
                let _ = report(&workload, folder).await;
            }
            _ = tick.tick() => {
                let totals = workload.totals();
                let rate = (totals.committed - last) as f64 / at.elapsed().as_secs_f64().max(0.001);
                (last, at) = (totals.committed, Instant::now());
                let status = format!(
                    "{rate:.0} transactions/s, longest wait {} ms, {} failed",
                    totals.latency.max().as_millis(),
                    totals.failures.len()
                );
                write(folder, "status", &status)?;
            }
        }
    }
}

/// Compares, and writes what a shell can read.
async fn report(workload: &Workload, folder: &Path) -> Result<(), String> {
    let verified = workload.verify().await;
    let totals = workload.totals();
    let latency = &totals.latency;
    let (rows, differences) = match &verified {
        Ok(rows) => (*rows, String::new()),
        Err(differences) => (0, differences.clone()),
    };
    write(folder, "differences", &differences)?;
    let milliseconds = |d: Duration| format!("{:.1}", d.as_secs_f64() * 1e3);
    write(
        folder,
        "report",
        &format!(
            "equal={}\nrows={rows}\nstatements={}\ntransactions={}\nrolled_back={}\ndeadlocks={}\nfailed={}\nlongest={}\nmedian={}\np99={}",
            u8::from(verified.is_ok()),
            totals.statements,
            totals.committed,
            totals.rolled_back,
            totals.deadlocks,
            totals.failures.len(),
            milliseconds(latency.max()),
            milliseconds(latency.quantile(0.5)),
            milliseconds(latency.quantile(0.99)),
        ),
    )?;
    verified.map(|_| ())
}

/// Whole or not at all.
fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let new = folder.join(format!(".{name}"));
    std::fs::write(&new, format!("{text}\n"))
        .and_then(|()| std::fs::rename(&new, folder.join(name)))
        .map_err(|error| format!("{}: {error}", new.display()))
}
