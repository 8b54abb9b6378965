//! The throttle against real servers: each signal holds and lets go, the status says who, why and since when, and changes go on being
//! applied unless the load is critical.
use crate::support;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime};
use support::{Db, PrivateServer, address, controls, join, soon, stands_still, until};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase, Snapshot};
use theseus::engine::contract::spec::{Controls, CriticalLoadAction, CutOverPolicy, Limits, Replicas};
use theseus::engine::{Handle, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Half a minute of slow copying: longer than any test holds and lets go.
const ROWS: u64 = 60_000;
/// The promise is 250 ms after the signal (docs/throttling.md). The machines that run this have other work as well ([`soon`]).
const SOON: Duration = Duration::from_secs(3);

async fn table(db: &mut Db) {
    db.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT NOT NULL, b VARCHAR(100))").await;
    db.run("SET SESSION cte_max_recursion_depth = 1000000").await;
    db.run(&format!("INSERT INTO t (a, b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT i, REPEAT('x', 50) FROM n")).await;
}

/// Nothing holds but what a test sets.
fn unlimited() -> Limits {
    Limits {
        max_replica_lag: None,
        replicas: Replicas::None,
        max_load: BTreeMap::new(),
        critical_load: BTreeMap::new(),
        max_history_list_length: None,
        ..Limits::default()
    }
}

/// What tablespaces and binary logs take.
async fn taken(db: &mut Db) -> u64 {
    let tables: u64 = db.value("SELECT CAST(SUM(ALLOCATED_SIZE) AS UNSIGNED) FROM information_schema.INNODB_TABLESPACES").await;
    let logs: Vec<mysql_async::Row> = db.conn.query("SHOW BINARY LOGS").await.expect("list logs");
    tables + logs.iter().map(|log| log.get::<u64, _>(1).expect("a size")).sum::<u64>()
}

/// Slow enough to be caught in the middle.
fn slow(limits: Limits) -> Controls {
    Controls { target_chunk_time: Duration::from_millis(2), nice_ratio_percent: 3000, workers: 1, limits, ..controls() }
}

fn load(limit: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([("Threads_connected".to_owned(), limit)])
}

/// A migration that copies, slowly.
async fn copying(db: &Db, limits: Limits) -> Handle {
    let handle = start(db.spec("t", "MODIFY a BIGINT NOT NULL"), slow(limits));
    until(&handle, "rows are copied", |s| s.progress.rows_copied > 0).await;
    handle
}

/// Waits until it is held for this reason, and checks what the status says.
async fn held(handle: &Handle, reason: &str, words: &str) -> Snapshot {
    let asked = (Instant::now(), SystemTime::now());
    let s = until(handle, &format!("it is held by {reason}: {words}"), |s| {
        s.throttle.as_ref().is_some_and(|t| t.reason == reason && t.detail.contains(words))
    })
    .await;
    let throttle = s.throttle.clone().expect("it is there");
    eprintln!("held after {:?}: {} ({})", asked.0.elapsed(), throttle.reason, throttle.detail);
    assert!(throttle.since + Duration::from_secs(60) > asked.1 && throttle.since <= SystemTime::now(), "since when: {throttle:?}");
    s
}

async fn let_go(handle: &Handle) {
    let asked = Instant::now();
    until(handle, "it is let go", |s| s.throttle.is_none()).await;
    eprintln!("let go after {:?}", asked.elapsed());
    let copied = handle.watch().borrow().progress.rows_copied;
    until(handle, "copying goes on", |s| s.progress.rows_copied > copied || s.progress.copy_complete).await;
}

/// A change of a row that is copied already arrives in the ghost.
async fn a_change_flows(db: &mut Db, handle: &Handle, value: &str) {
    let seen = handle.watch().borrow().progress.changes_seen;
    db.run(&format!("UPDATE t SET b = '{value}' WHERE id = 1")).await;
    until(handle, "the change is applied", |s| s.progress.changes_seen > seen && s.progress.backlog == 0).await;
    assert_eq!(db.value::<String>("SELECT b FROM _t_gho WHERE id = 1").await, value);
}

/// Copying stands still while changes flow.
async fn only_changes_flow(db: &mut Db, handle: &Handle) {
    a_change_flows(db, handle, "one").await;
    let copied = stands_still(handle).await;
    assert!(copied < ROWS, "the test is of no use when the copy is over");
    a_change_flows(db, handle, "two").await;
    assert_eq!(handle.watch().borrow().progress.rows_copied, copied, "nothing is copied while it is held");
}

async fn succeeds(mut db: Db, handle: Handle) {
    handle.control(Controls { limits: unlimited(), ..controls() });
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_obeyed_at_once() {
    let mut db = Db::new("person").await;
    table(&mut db).await;
    let handle = copying(&db, unlimited()).await;
    let asked = Instant::now();
    handle.control(Controls { throttled_by_user: true, ..slow(unlimited()) });
    held(&handle, "User", "theseus.dev/throttle").await;
    assert!(asked.elapsed() < soon(SOON), "{:?}", asked.elapsed());
    only_changes_flow(&mut db, &handle).await;
    let total = handle.watch().borrow().throttled_total;
    handle.control(slow(unlimited()));
    let_go(&handle).await;
    assert!(handle.watch().borrow().throttled_total > total, "the time adds up");
    succeeds(db, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_holds_by_its_answer_and_by_its_errors() {
    let mut db = Db::new("query").await;
    table(&mut db).await;
    db.run("CREATE TABLE brake (v INT) SELECT 0 AS v").await;
    let limits = Limits { throttle_query: Some(format!("SELECT v FROM `{}`.brake", db.name)), ..unlimited() };
    let handle = copying(&db, limits.clone()).await;
    assert_eq!(until(&handle, "a look", |_| true).await.throttle, None);
    db.run("UPDATE brake SET v = 3").await;
    let asked = Instant::now();
    held(&handle, "Query", "throttle.query returned 3").await;
    assert!(asked.elapsed() < soon(SOON), "{:?}", asked.elapsed());
    only_changes_flow(&mut db, &handle).await;
    db.run("UPDATE brake SET v = NULL").await;
    let_go(&handle).await;
    // In the server's words.
    db.run("RENAME TABLE brake TO other").await;
    held(&handle, "Query", "1146").await;
    db.run("RENAME TABLE other TO brake").await;
    let_go(&handle).await;
    // It must not write, nor be two statements.
    let writes = format!("DELETE FROM `{}`.brake", db.name);
    let two = format!("SELECT 0; DELETE FROM `{}`.brake", db.name);
    for (query, code) in [(writes, "1792"), (two, "1064"), ("SELECT 'x'".to_owned(), "not a number")] {
        handle.control(slow(Limits { throttle_query: Some(query), ..unlimited() }));
        held(&handle, "Query", code).await;
    }
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM brake").await, 1);
    succeeds(db, handle).await;
}

/// Answers each request with the present code.
async fn service() -> (String, Arc<AtomicU16>, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/may-i?token=secret", listener.local_addr().expect("its address"));
    let code = Arc::new(AtomicU16::new(200));
    let answers = Arc::clone(&code);
    let task = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await;
            let code = answers.load(Ordering::SeqCst);
            let answer = format!("HTTP/1.1 {code} x\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (url, code, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_holds_unless_it_says_200() {
    let mut db = Db::new("http").await;
    table(&mut db).await;
    let (url, code, task) = service().await;
    let handle = copying(&db, Limits { throttle_http_url: Some(url), ..unlimited() }).await;
    code.store(503, Ordering::SeqCst);
    let asked = Instant::now();
    let s = held(&handle, "Http", "503 from http://127.0.0.1:").await;
    assert!(asked.elapsed() < soon(SOON), "{:?}", asked.elapsed());
    assert!(!s.throttle.expect("it is there").detail.contains("secret"));
    only_changes_flow(&mut db, &handle).await;
    code.store(200, Ordering::SeqCst);
    let_go(&handle).await;
    // A redirect is not followed.
    code.store(302, Ordering::SeqCst);
    held(&handle, "Http", "302 from").await;
    code.store(200, Ordering::SeqCst);
    let_go(&handle).await;
    task.abort();
    held(&handle, "Http", "throttle.httpUrl failed: http://127.0.0.1:").await;
    succeeds(db, handle).await;
}

/// A signal that holds from the start: not one row is copied.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_chunk_waits_for_the_first_readings() {
    let mut db = Db::new("first").await;
    table(&mut db).await;
    let handle = start(db.spec("t", "MODIFY a BIGINT NOT NULL"), slow(Limits { throttle_query: Some("SELECT 1".into()), ..unlimited() }));
    assert_eq!(held(&handle, "Query", "returned 1").await.progress.rows_copied, 0);
    succeeds(db, handle).await;
}

/// The tables are not swapped on a server that has enough to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_delays_the_cut_over_and_says_so() {
    let mut db = Db::new("cutover").await;
    table(&mut db).await;
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, limits: unlimited(), ..controls() };
    let handle = start(db.spec("t", "MODIFY a BIGINT NOT NULL"), manual.clone());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let holds = Limits { throttle_query: Some("SELECT 1".into()), ..unlimited() };
    handle.control(Controls { limits: holds.clone(), ..manual.clone() });
    // At a closed gate it delays nothing, so it is not told.
    a_change_flows(&mut db, &handle, "at the gate").await;
    handle.control(Controls { limits: holds, approved: true, ..manual.clone() });
    held(&handle, "Query", "returned 1").await;
    // Phase and throttle are two changes of the snapshot.
    let s = until(&handle, "it would swap the tables", |s| s.phase == Phase::CuttingOver && s.throttle.is_some()).await;
    assert_eq!(s.cut_over.attempts, 0);
    a_change_flows(&mut db, &handle, "delayed").await;
    assert_eq!(handle.watch().borrow().cut_over.attempts, 0);
    succeeds(db, handle).await;
}

/// Connections of nobody in particular.
async fn crowd(server: &PrivateServer, size: usize) -> Vec<Conn> {
    let mut crowd = Vec::new();
    for _ in 0..size {
        crowd.push(support::connect(&server.url).await);
    }
    crowd
}

async fn go_home(crowd: Vec<Conn>) {
    for conn in crowd {
        let _ = conn.disconnect().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_holds_fails_or_sends_to_sleep() {
    let server = PrivateServer::start(&[]).await;

    // maxLoad. The engine itself has more connections than that: they do not count.
    let mut db = Db::on(&server.url, "load").await;
    table(&mut db).await;
    let limits = Limits { max_load: load(5), ..unlimited() };
    let handle = copying(&db, limits.clone()).await;
    let connected: (String, u64) =
        db.conn.query_first("SHOW GLOBAL STATUS LIKE 'Threads_connected'").await.expect("status").expect("a row");
    assert!(connected.1 > 5, "the engine has {} connections", connected.1);
    assert_eq!(until(&handle, "a look", |_| true).await.throttle, None);
    let others = crowd(&server, 10).await;
    let asked = Instant::now();
    held(&handle, "Load", "Threads_connected is 11, above 5").await;
    assert!(asked.elapsed() < soon(SOON), "{:?}", asked.elapsed());
    only_changes_flow(&mut db, &handle).await;
    go_home(others).await;
    let_go(&handle).await;
    handle.control(slow(Limits { max_load: BTreeMap::from([("Threads_conected".into(), 5)]), ..unlimited() }));
    held(&handle, "Load", "SHOW GLOBAL STATUS has no numeric variable Threads_conected").await;
    succeeds(db, handle).await;

    // The history list: an old snapshot keeps what was changed since from being purged.
    let mut db = Db::on(&server.url, "history").await;
    table(&mut db).await;
    db.run("CREATE TABLE busy (id INT PRIMARY KEY, v INT NOT NULL)").await;
    db.run("INSERT INTO busy VALUES (1, 0)").await;
    let handle = copying(&db, Limits { max_history_list_length: Some(200), ..unlimited() }).await;
    let mut old = db.connect().await;
    old.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT; SELECT * FROM busy").await.expect("a snapshot");
    for _ in 0..300 {
        db.run("UPDATE busy SET v = v + 1").await;
    }
    held(&handle, "HistoryLength", "unpurged transactions, above 200").await;
    only_changes_flow(&mut db, &handle).await;
    old.disconnect().await.expect("end it");
    // Purging is the server's own time.
    let_go(&handle).await;
    succeeds(db, handle).await;

    // The files: of the server, whoever fills them.
    let mut db = Db::on(&server.url, "disk").await;
    table(&mut db).await;
    let handle = copying(&db, Limits { max_disk_usage: Some(1 << 50), ..unlimited() }).await;
    handle.control(slow(Limits { max_disk_usage: Some(1), ..unlimited() }));
    held(&handle, "DiskUsage", "tablespaces and binary logs take").await;
    only_changes_flow(&mut db, &handle).await;
    let limit = taken(&mut db).await + (64 << 20);
    handle.control(slow(Limits { max_disk_usage: Some(limit), ..unlimited() }));
    let_go(&handle).await;
    db.run("SET sql_log_bin = 0; CREATE TABLE large (b LONGBLOB)").await;
    for _ in 0..10 {
        db.run("INSERT INTO large VALUES (REPEAT('x', 10000000))").await;
    }
    held(&handle, "DiskUsage", "above").await;
    db.run("DROP TABLE large; SET sql_log_bin = 1").await;
    let_go(&handle).await;
    succeeds(db, handle).await;

    // criticalLoad: Fail. What was done is kept, and a retry goes on with it.
    let mut db = Db::on(&server.url, "critical").await;
    table(&mut db).await;
    let handle = copying(&db, Limits { critical_load: load(5), ..unlimited() }).await;
    let others = crowd(&server, 10).await;
    match join(handle).await {
        Outcome::Failed { reason: Reason::CriticalLoad, message } => {
            // It may have looked while they came.
            let many = (6..=11).any(|n| message.contains(&format!("Threads_connected is {n}, above 5")));
            assert!(many && message.contains("retry"), "{message}");
        }
        outcome => panic!("{outcome:?}"),
    }
    go_home(others).await;
    let handle = start(db.spec("t", "MODIFY a BIGINT NOT NULL"), slow(Limits { critical_load: load(5), ..unlimited() }));
    until(&handle, "the work is taken up", |s| s.resumed_count >= 1 && s.progress.rows_copied > 0).await;
    succeeds(db, handle).await;

    // criticalLoad: Hibernate. Not even changes are applied.
    let mut db = Db::on(&server.url, "hibernate").await;
    table(&mut db).await;
    let limits = Limits {
        critical_load: load(5),
        critical_load_action: CriticalLoadAction::Hibernate,
        hibernation: Duration::from_secs(2),
        ..unlimited()
    };
    let handle = copying(&db, limits).await;
    let others = crowd(&server, 10).await;
    held(&handle, "CriticalLoad", "nothing is written until it has been below the limit for 2 s").await;
    db.run("UPDATE t SET b = 'asleep' WHERE id = 1").await;
    let s = until(&handle, "the change waits", |s| s.progress.backlog > 0).await;
    assert_ne!(db.value::<String>("SELECT b FROM _t_gho WHERE id = 1").await, "asleep");
    let copied = s.progress.rows_copied;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Looked at while it sleeps: once it wakes, rows may be copied before anybody looks.
    let s = until(&handle, "it sleeps", |s| s.throttle.is_some()).await;
    assert_eq!(s.progress.rows_copied, copied);
    let calm = Instant::now();
    go_home(others).await;
    until(&handle, "it wakes", |s| s.throttle.is_none()).await;
    assert!(calm.elapsed() > Duration::from_millis(1500), "it slept on for {:?}", calm.elapsed());
    until(&handle, "the change is applied", |s| s.progress.backlog == 0).await;
    assert_eq!(db.value::<String>("SELECT b FROM _t_gho WHERE id = 1").await, "asleep");
    succeeds(db, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_or_is_gone_holds() {
    let primary = PrivateServer::start(&[]).await;
    let replica = PrivateServer::replica_of(&primary).await;
    let place = format!("127.0.0.1:{}", address(&replica.url).port);
    let mut control = support::connect(&replica.url).await;
    for replicas in [Replicas::Auto, Replicas::Hosts(vec![place.clone()])] {
        let mut db = Db::on(&primary.url, "lag").await;
        table(&mut db).await;
        let limits = Limits { max_replica_lag: Some(Duration::from_secs(1)), replicas: replicas.clone(), ..unlimited() };
        let handle = copying(&db, limits.clone()).await;
        until(&handle, "the replica is up to date", |s| s.throttle.is_none()).await;
        control.query_drop("STOP REPLICA SQL_THREAD").await.expect("stop it");
        let asked = Instant::now();
        let s = held(&handle, "ReplicaLag", &format!(" s on {place}, above 1 s")).await;
        assert!(s.progress.replica_lag > Some(Duration::from_millis(900)), "the metric: {:?}", s.progress.replica_lag);
        // The limit itself has to pass first.
        assert!(asked.elapsed() < Duration::from_secs(1) + soon(SOON), "{:?}", asked.elapsed());
        only_changes_flow(&mut db, &handle).await;
        control.query_drop("START REPLICA SQL_THREAD").await.expect("start it");
        let_go(&handle).await;
        if replicas == Replicas::Auto {
            succeeds(db, handle).await;
            continue;
        }
        // Gone: after the grace, and in words. The primary does not list it any more.
        handle.control(slow(Limits { max_replica_lag: Some(Duration::from_secs(60)), ..limits }));
        let asked = Instant::now();
        replica.stop().await;
        held(&handle, "ReplicaLag", &format!("replica {place} could not be read for 1")).await;
        assert!(
            asked.elapsed() > Duration::from_secs(10).saturating_sub(soon(Duration::from_secs(1))),
            "a replica that restarts holds nothing: {:?}",
            asked.elapsed()
        );
        only_changes_flow(&mut db, &handle).await;
        handle.control(slow(unlimited()));
        let_go(&handle).await;
        succeeds(db, handle).await;
    }
}

/// A replica that leaves the migration's tables out: the migration is refused by name, and nothing is left behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_filters_is_refused_and_one_that_lags_is_not() {
    let user = "theseus_filters";
    for (option, variable) in [
        ("--replicate-wild-ignore-table=filter\\_%.\\_%", "replicate-wild-ignore-table"),
        ("--replicate-ignore-db=filter_1", "replicate-ignore-db"),
    ] {
        // Servers of its own: a replica begins with all that its primary has logged.
        let primary = PrivateServer::start(&[]).await;
        let mut admin = Db::on(&primary.url, "filters").await;
        let documented = admin.documented(user, "secret").await;
        let replica = PrivateServer::replica_with(&primary, &[option]).await;
        let place = format!("127.0.0.1:{}", address(&replica.url).port);
        let limits =
            || Limits { max_replica_lag: Some(Duration::from_secs(60)), replicas: Replicas::Hosts(vec![place.clone()]), ..unlimited() };
        admin.run("CREATE DATABASE filter_1").await;
        for grant in support::documented_grants(user, "filter_1") {
            admin.run(&grant).await;
        }
        // With the database as the default one: replicate-ignore-db goes by that for what is no row.
        admin.run("USE filter_1; CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20)); INSERT INTO t VALUES (1, 1, 'x')").await;
        let mut there = support::connect(&replica.url).await;
        let executed: String = admin.value("SELECT @@global.gtid_executed").await;
        let caught_up = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 180)");
        assert_eq!(there.query_first::<u8, _>(caught_up).await.expect("wait"), Some(0), "the replica does not catch up");
        // What the filter keeps away is there, too, or replication would stop at the first statement that is not a row.
        there
            .query_drop("SET GLOBAL super_read_only=OFF; SET sql_log_bin=0; CREATE DATABASE IF NOT EXISTS filter_1; CREATE TABLE IF NOT EXISTS filter_1.t (id INT PRIMARY KEY, a INT, b VARCHAR(20))")
            .await
            .expect("a database");
        let spec = theseus::engine::contract::spec::MigrationSpec {
            server: address(&documented),
            database: "filter_1".into(),
            ..admin.spec("t", "MODIFY a BIGINT")
        };
        let tables = "SELECT GROUP_CONCAT(table_name) FROM information_schema.tables WHERE table_schema = 'filter_1'";
        let controls = || Controls { limits: limits(), ..controls() };
        // Refused, unless a busy machine has copied the one chunk meanwhile.
        let refused = |outcome: Outcome, words: &[&str]| match outcome {
            Outcome::Refused { reason: Reason::ReplicaFiltered, message }
            | Outcome::Failed { reason: Reason::ReplicaFiltered, message } => {
                assert!(words.iter().all(|word| message.contains(word)) && message.contains(&place), "{message}");
            }
            other => panic!("{variable}: {other:?}"),
        };
        let report = theseus::engine::preflight::check(&spec, &controls()).await;
        assert!(report.findings.iter().any(|f| f.reason == "ReplicaFiltered" && f.message.contains(variable)), "{report:?}");
        refused(join(start(spec.clone(), controls())).await, &[variable]);
        assert_eq!(admin.value::<String>(tables).await, "t");
        // Where the account may not ask for the filters, the tables that do not arrive tell.
        there.query_drop(format!("SET sql_log_bin=0; REVOKE REPLICATION CLIENT ON *.* FROM '{user}'@'%'")).await.expect("revoke");
        refused(join(start(spec.clone(), controls())).await, &["has applied everything that the primary had logged"]);
        assert_eq!(admin.value::<String>(tables).await, "t");
        // What the server makes itself needs no table of ours there. All that is logged for it has the database as the default one, and is left
        // out like the application's own statements, although the table is not there any more.
        if variable == "replicate-ignore-db" {
            there.query_drop("SET sql_log_bin=0; DROP DATABASE filter_1").await.expect("drop it");
            let auto = theseus::engine::contract::spec::MigrationSpec {
                algorithm: theseus::engine::contract::spec::Algorithm::Auto,
                alter: "MODIFY a BIGINT".into(),
                ..spec.clone()
            };
            let instant = theseus::engine::contract::spec::MigrationSpec { alter: "ADD c INT".into(), ..auto.clone() };
            for spec in [instant, auto] {
                let outcome = join(start(spec.clone(), controls())).await;
                let executed: String = admin.value("SELECT @@global.gtid_executed").await;
                let caught_up = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 180)");
                assert_eq!(there.query_first::<u8, _>(caught_up).await.expect("wait"), Some(0), "it stopped: {} {outcome:?}", spec.alter);
                match spec.alter.as_str() {
                    "ADD c INT" => assert_eq!(outcome, Outcome::Succeeded),
                    _ => refused(outcome, &[]),
                }
            }
            assert_eq!(admin.value::<String>(tables).await, "t");
        }
        // Nobody looks at it.
        let without = Controls { limits: unlimited(), ..controls() };
        if variable == "replicate-wild-ignore-table" {
            assert_eq!(join(start(spec, without)).await, Outcome::Succeeded);
        }
        drop((replica, primary));
    }

    // One that has not applied anything yet lags, and no more; a filter that comes later is found before the swap.
    let primary = PrivateServer::start(&[]).await;
    let replica = PrivateServer::replica_of(&primary).await;
    let place = format!("127.0.0.1:{}", address(&replica.url).port);
    let mut there = support::connect(&replica.url).await;
    there.query_drop("STOP REPLICA SQL_THREAD").await.expect("stop it");
    let mut db = Db::on(&primary.url, "late").await;
    table(&mut db).await;
    let limits = Limits { max_replica_lag: Some(Duration::from_secs(1)), replicas: Replicas::Hosts(vec![place]), ..unlimited() };
    let manual = Controls { limits, cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let handle = start(db.spec("t", "MODIFY a BIGINT NOT NULL"), manual.clone());
    // Longer than it takes to find a filter.
    let s = until(&handle, "it lags for long", |s| s.progress.replica_lag > Some(Duration::from_secs(6))).await;
    assert!(s.progress.rows_copied == 0 && s.retrying.is_none(), "{s:?}");
    there.query_drop("START REPLICA SQL_THREAD").await.expect("start it");
    until(&handle, "it is ready", |s| s.phase == Phase::AwaitingCutOver).await;
    there
        .query_drop(
            "STOP REPLICA SQL_THREAD; CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE = ('late%._t_gho'); START REPLICA SQL_THREAD",
        )
        .await
        .expect("filter");
    handle.control(Controls { cut_over_policy: CutOverPolicy::Automatic, ..manual });
    match join(handle).await {
        Outcome::Failed { reason: Reason::ReplicaFiltered, message } => assert!(message.contains("_t_gho"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(db.definition("t").await.contains("`a` int"), "not swapped");
    db.drop().await;
}
