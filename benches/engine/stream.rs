//! What other people's transactions cost the stream: each of them must be looked at, to tell whose it is, and nearly all are of no interest.
//!
//! The log is written first, by many short transactions on another table, and read afterwards from where it began, so that the reader is not
//! slowed by the writers. The reader is a process of its own, whose CPU time is what counts. Beside it, in the same process and in turn, the
//! driver alone reads the same log and throws it away, and the stream reads a log to which nothing is added.
use crate::child::{self, cpu};
use crate::report::Report;
use crate::support::Db;
use crate::{progress, setting};
use futures::StreamExt;
use mysql_async::BinlogStreamRequest;
use mysql_async::binlog::events::EventData;
use mysql_async::prelude::Queryable;
use serde::{Deserialize, Serialize};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use theseus::engine::contract::progress::Publisher;
use theseus::engine::contract::spec::{DeferIndexes, OldTable};
use theseus::engine::lifecycle::prepare::{Prepared, Ready, Wishes, prepare};
use theseus::engine::rows::inbox::Inbox;
use theseus::engine::rows::streamer::Streamer;
use theseus::engine::rows::watched::watched_tables;
use theseus::engine::table::chooser::Refused;
use theseus::mysql::server::ServerFacts;
use theseus::mysql::{BinlogPosition, Session};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;

/// Makes this program a reader.
pub const FLAG: &str = "--stream";

const TABLE: &str = "watched";
/// Connections that write.
const WRITERS: u64 = 4;
/// What a busy server has.
const PER_SECOND: f64 = 10_000.0;
/// Rounds of which the median counts.
const ROUNDS: usize = 5;
/// Dirty keys that fit; none comes.
const ROOM: usize = 1 << 20;

/// CPU time and elapsed time of each way of reading, one for each round.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Read {
    stream: Vec<(Duration, Duration)>,
    driver: Vec<(Duration, Duration)>,
    quiet: Vec<(Duration, Duration)>,
    /// Row images of the watched table that were seen.
    images: u64,
}

/// The child: `URL DATABASE`. Says that it knows where the log is to be read from, waits for a line, reads, and prints one line of JSON.
pub async fn main(arguments: &[String]) {
    let [url, database] = arguments else { panic!("{FLAG} URL DATABASE, got {arguments:?}") };
    let spec = child::spec(url, database, TABLE, "MODIFY v BIGINT NOT NULL");
    let mut control = Session::open(&spec.server).await.expect("connect");
    let (publisher, _snapshots) = Publisher::new("bench".into());
    let refused = Refused::default();
    let wishes = Wishes {
        defer: DeferIndexes::Never,
        refused: &refused,
        old_table: OldTable::DropNow,
        max_locked_tables: 16,
        window: Duration::ZERO,
        revert: false,
        now: std::time::SystemTime::now(),
    };
    let Ok(Prepared::Run(ready)) = prepare(&spec, wishes, &mut control, &publisher, &mut false).await else {
        panic!("the migration of an empty table is refused");
    };
    let begin = ready.safe.position.clone();
    println!("ready");
    // Nothing else is to be done meanwhile.
    std::io::stdin().read_line(&mut String::new()).expect("the parent's word");
    let (end, _) = ready.migration.facts.log_end(&mut control).await.expect("the end of the log");
    let mut read = Read::default();
    for _ in 0..ROUNDS {
        let before = (cpu("self"), Instant::now());
        read.images += stream(&ready, &mut control, &begin, &end, Duration::ZERO).await;
        let took = since(before);
        read.stream.push(took);
        let before = (cpu("self"), Instant::now());
        driver(url, &begin, &end).await;
        read.driver.push(since(before));
        // As long as it took to read them all.
        let before = (cpu("self"), Instant::now());
        stream(&ready, &mut control, &end, &end, took.1).await;
        read.quiet.push(since(before));
    }
    println!("{}", serde_json::to_string(&read).expect("plain numbers"));
}

fn since((before, began): (Duration, Instant)) -> (Duration, Duration) {
    (cpu("self").saturating_sub(before), began.elapsed())
}

/// The engine's own stream, from a position up to another, and for some time at least.
async fn stream(ready: &Ready, control: &mut Session, begin: &BinlogPosition, end: &BinlogPosition, at_least: Duration) -> u64 {
    let m = &ready.migration;
    let server_id = ServerFacts::server_id(control).await.expect("the server's id");
    let mut point = ready.safe.point();
    point.position = begin.clone();
    let inbox = Arc::new(Inbox::new(point, ROOM));
    let start = theseus::engine::rows::streamer::Start::Position(begin.clone());
    let streamer = Streamer::open(&m.spec.server, start, end, watched_tables(m, server_id).expect("a key"), Arc::clone(&inbox))
        .await
        .expect("a stream");
    let cancel = CancellationToken::new();
    let mut position = inbox.positions();
    let running = tokio::spawn(streamer.run(cancel.clone()));
    tokio::time::sleep(at_least).await;
    // Looked at now and then, as the engine does: it is not to wake for each transaction.
    while *position.borrow_and_update() < *end {
        assert!(!running.is_finished(), "the stream has ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.cancel();
    running.await.expect("joined").expect("the stream ends well");
    inbox.counts().1
}

/// The driver's stream and nothing else: what it costs to receive these events.
async fn driver(url: &str, begin: &BinlogPosition, end: &BinlogPosition) {
    let conn = crate::support::connect(url).await;
    let request = BinlogStreamRequest::new(4_000_000_000).with_filename(begin.file.as_bytes()).with_pos(begin.offset);
    let mut stream = conn.get_binlog_stream(request).await.expect("a stream");
    let mut file = begin.file.clone();
    let mut first = true;
    loop {
        let event = stream.next().await.expect("the log goes on").expect("an event");
        if let Ok(Some(EventData::RotateEvent(rotate))) = event.read_data() {
            // The first one names the file that was asked for.
            if !std::mem::take(&mut first) {
                file = rotate.name().into_owned();
            }
            continue;
        }
        let here = BinlogPosition { file: file.clone(), offset: u64::from(event.header().log_pos()) };
        if here >= *end {
            break;
        }
    }
    let _ = stream.close().await;
}

/// 10 000 transactions a second of other connections: what share of a core they cost the stream.
pub async fn stream_cost(db: &mut Db, report: &mut Report) {
    let transactions: u64 = setting("STREAMED", 200_000);
    db.run(&format!("CREATE TABLE {TABLE} (id INT PRIMARY KEY, v INT NOT NULL)")).await;
    db.run("CREATE TABLE others (id INT PRIMARY KEY, v INT NOT NULL)").await;
    db.run(&format!(
        "INSERT INTO others WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {WRITERS}) SELECT i, 0 FROM n"
    ))
    .await;
    db.run(
        "CREATE PROCEDURE many (w INT, n INT) BEGIN WHILE n > 0 DO UPDATE others SET v = v + 1 WHERE id = w; SET n = n - 1; END WHILE; END",
    )
    .await;
    let mut reader = tokio::process::Command::new(std::env::current_exe().expect("our own path"))
        .args([FLAG, &child::account(db), &db.name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("start ourselves as a reader");
    let mut said = BufReader::new(reader.stdout.take().expect("its output")).lines();
    let mut next = async || said.next_line().await.expect("the reader's output").expect("the reader goes on");
    assert_eq!(next().await, "ready");

    // Nothing is measured while they are written, so they need not be durable.
    let durable: (u64, u64) = (db.value("SELECT @@sync_binlog").await, db.value("SELECT @@innodb_flush_log_at_trx_commit").await);
    db.run("SET GLOBAL sync_binlog = 0, GLOBAL innodb_flush_log_at_trx_commit = 0").await;
    let began = Instant::now();
    let writers: Vec<_> = futures::future::join_all((1..=WRITERS).map(|_| db.connect())).await;
    let each = transactions / WRITERS;
    futures::future::join_all(writers.into_iter().zip(1..).map(|(mut conn, writer)| async move {
        conn.query_drop(format!("CALL many({writer}, {each})")).await.expect("write");
        let _ = conn.disconnect().await;
    }))
    .await;
    progress(&format!("stream: {} transactions written in {:.1} s", each * WRITERS, began.elapsed().as_secs_f64()));
    db.run(&format!("SET GLOBAL sync_binlog = {}, GLOBAL innodb_flush_log_at_trx_commit = {}", durable.0, durable.1)).await;

    let mut stdin = reader.stdin.take().expect("its input");
    stdin.write_all(b"read\n").await.expect("tell the reader");
    let read: Read = serde_json::from_str(&next().await).expect("the reader's figures");
    assert!(reader.wait().await.expect("wait for the reader").success());
    assert_eq!(read.images, 0, "nobody wrote to the watched table");

    let share = |of: &[(Duration, Duration)]| {
        let mut cpu: Vec<Duration> = of.iter().map(|(cpu, _)| *cpu).collect();
        cpu.sort_unstable();
        100.0 * cpu[cpu.len() / 2].as_secs_f64() / (each * WRITERS) as f64 * PER_SECOND
    };
    let (stream, driver, quiet) = (share(&read.stream), share(&read.driver), share(&read.quiet));
    progress(&format!("stream: CPU and elapsed of each round {read:.2?}"));
    for (name, of) in [("stream", &read.stream), ("driver", &read.driver), ("quiet", &read.quiet)] {
        report.list(&format!("stream.{name}_cpu_seconds"), &of.iter().map(|(cpu, _)| *cpu).collect::<Vec<_>>());
    }
    report.at_most("10 000 transactions/s of others: the stream needs, of a core", stream - quiet, 10.0, "%");
    report.note("10 000 transactions/s of others: the driver alone needs, of a core", driver - quiet, "%");
    db.run(&format!("DROP PROCEDURE many; DROP TABLE {TABLE}, others, _{TABLE}_gho, _{TABLE}_ghc")).await;
}
