//! The cut-over: its windows, who is in its way and what is done about it, its limit under a server that does not answer.
use crate::{server, stall, support};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use server::Server;
use stall::{Lost, Stall, Whom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use support::{Db, PATIENCE, address, controls, join, soon, until};
use theseus::engine::contract::notice;
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase, Snapshot, Waits};
use theseus::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, MigrationSpec, TlsMode, Window};
use theseus::engine::cutover::Clock;
use theseus::engine::{Environment, Handle};

const ROWS: u64 = 2000;
const WIDEN: &str = "MODIFY a BIGINT NOT NULL";
const SECOND: Duration = Duration::from_secs(1);

async fn fill(db: &mut Db) {
    db.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT NOT NULL, KEY (a))").await;
    db.run("SET SESSION cte_max_recursion_depth = 1000000").await;
    db.run(&format!("INSERT INTO t (a) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT 0 FROM n"))
        .await;
}

async fn table(prefix: &str) -> Db {
    let mut db = Db::new(prefix).await;
    fill(&mut db).await;
    db
}

fn quick() -> Controls {
    Controls { lock_timeout: SECOND, ..controls() }
}

/// A session that is in the way: what it did, and the connection.
async fn blocker(db: &Db, statements: &str) -> Conn {
    let mut conn = db.connect().await;
    conn.query_drop(statements).await.expect("block");
    conn
}

fn blocked_by(id: u32) -> impl Fn(&Snapshot) -> bool {
    move |s| s.cut_over.blocked_by.as_ref().is_some_and(|by| by.starts_with(&format!("connection {id} ")))
}

fn notices(s: &Snapshot, reason: &str) -> Vec<String> {
    s.notices.iter().filter(|n| n.reason == reason).map(|n| n.message.clone()).collect()
}

/// The end, and the last snapshot.
async fn ends(handle: Handle) -> (Outcome, Snapshot) {
    let watch = handle.watch();
    let outcome = join(handle).await;
    let last = watch.borrow().clone();
    (outcome, last)
}

/// A clock that stands where it is put.
fn clock(at: &str) -> (Clock, Arc<Mutex<jiff::Timestamp>>) {
    let now = Arc::new(Mutex::new(at.parse().expect("a time")));
    let shared = Arc::clone(&now);
    (Arc::new(move || *shared.lock().expect("the clock")), now)
}

/// Windows open by this clock.
fn at(clock: Clock) -> Environment {
    Environment { clock, ..Environment::default() }
}

fn put(clock: &Mutex<jiff::Timestamp>, at: &str) {
    *clock.lock().expect("the clock") = at.parse().expect("a time");
}

fn nightly() -> Vec<Window> {
    vec![Window::parse("0 2 * * *", "Europe/Berlin", Duration::from_secs(7200)).expect("a window")]
}

fn waits_until(at: &str) -> Option<Waits> {
    Some(Waits::Window { opens: Some(at.parse::<jiff::Timestamp>().expect("a time").into()) })
}

/// The ghost has what was just written to the original.
async fn changes_flow(db: &mut Db, handle: &Handle, value: u64) {
    let seen = handle.watch().borrow().progress.changes_seen;
    db.run(&format!("UPDATE t SET a = {value} WHERE id = 7")).await;
    until(handle, "the change is applied", |s| s.progress.changes_seen > seen && s.progress.backlog == 0).await;
    assert_eq!(db.value::<u64>("SELECT a FROM _t_gho WHERE id = 7").await, value);
}

/// A window that closes while nobody could get the lock is followed by the next one; the ghost stays current all the time.
#[tokio::test(flavor = "multi_thread")]
async fn windows_open_and_close_and_the_next_one_is_waited_for() {
    let mut db = table("window").await;
    let (clock, time) = clock("2026-03-28T20:00:00Z");
    let handle = theseus::engine::start_in(at(clock), db.spec("t", WIDEN), Controls { windows: nightly(), ..quick() });
    // That night clocks go forward at 02:00, which is when it opens.
    let s = until(&handle, "it waits for the window", |s| s.phase == Phase::AwaitingCutOver).await;
    assert_eq!(s.cut_over.waits, waits_until("2026-03-29T01:00:00Z"));
    changes_flow(&mut db, &handle, 1).await;
    let mut blocker = blocker(&db, "BEGIN; SELECT * FROM t WHERE id = 1 FOR UPDATE").await;
    put(&time, "2026-03-29T01:00:00Z");
    let s = until(&handle, "it is blocked inside the window", |s| s.cut_over.blocked_by.is_some()).await;
    assert_eq!((s.phase, s.cut_over.waits), (Phase::CuttingOver, None));
    put(&time, "2026-03-29T03:00:00Z");
    let s = until(&handle, "the window has closed", |s| s.phase == Phase::AwaitingCutOver).await;
    assert_eq!((s.cut_over.waits, s.cut_over.blocked_by), (waits_until("2026-03-30T00:00:00Z"), None));
    let attempts = s.cut_over.attempts;
    blocker.query_drop("ROLLBACK").await.expect("unblock");
    // Nobody is in the way, and the clock stands still: nothing happens but that changes flow.
    changes_flow(&mut db, &handle, 2).await;
    changes_flow(&mut db, &handle, 3).await;
    assert_eq!(until(&handle, "a look", |_| true).await.cut_over.attempts, attempts);
    put(&time, "2026-03-30T00:00:00Z");
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.value::<u64>("SELECT a FROM t WHERE id = 7").await, 3);
    db.drop().await;
}

/// Changes that the server makes itself wait at the same gate.
#[tokio::test(flavor = "multi_thread")]
async fn native_changes_wait_for_their_window_and_an_approval_stands_above_it() {
    for (algorithm, alter) in [(Algorithm::Instant, "ADD COLUMN b INT"), (Algorithm::Inplace, "ADD INDEX b (a, id)")] {
        let mut db = table("native").await;
        let definition = db.definition("t").await;
        let (clock, _time) = clock("2026-07-01T12:00:00Z");
        let spec = MigrationSpec { algorithm, ..db.spec("t", alter) };
        // Nobody is in the way: what is too late for a second would be a second attempt.
        let closed = Controls { windows: nightly(), lock_timeout: PATIENCE, ..quick() };
        let handle = theseus::engine::start_in(at(clock), spec, closed.clone());
        let s = until(&handle, "it waits for the window", |s| s.phase == Phase::AwaitingCutOver).await;
        assert_eq!(s.cut_over.waits, waits_until("2026-07-02T00:00:00Z"), "{algorithm:?}");
        assert_eq!(db.definition("t").await, definition);
        handle.control(Controls { approved: true, ..closed });
        let (outcome, last) = ends(handle).await;
        assert_eq!(outcome, Outcome::Succeeded, "{algorithm:?}");
        assert_ne!(db.definition("t").await, definition);
        assert_eq!((last.cut_over.attempts, notices(&last, notice::SWAPPED).len()), (1, 1));
        db.drop().await;
    }
}

/// Every kind of holder is seen, named, left alone while nothing asks for more, and killed alone when it has been in the way for so long.
#[tokio::test(flavor = "multi_thread")]
async fn who_blocks_for_too_long_is_killed_and_nobody_else() {
    let cases = [
        ("an idle transaction", "BEGIN; SELECT * FROM t WHERE id = 1", "a transaction open for"),
        ("uncommitted changes", "BEGIN; UPDATE t SET a = 9 WHERE id = 1", "a transaction open for"),
        ("a read lock", "LOCK TABLES t READ", "a lock on the table, idle for"),
        ("a definition kept", "BEGIN; DESCRIBE t", "a transaction open for"),
        ("an open handler", "HANDLER t OPEN", "a lock on the table, idle for"),
    ];
    for (what, statements, words) in cases {
        let mut db = table("kill").await;
        let mut blocking = blocker(&db, statements).await;
        // In a transaction as well, but on another table.
        db.run("CREATE TABLE other (id INT PRIMARY KEY)").await;
        let mut bystander = blocker(&db, "BEGIN; INSERT INTO other VALUES (1)").await;
        let waiting = Controls { cut_over_policy: CutOverPolicy::Manual, ..quick() };
        let handle = theseus::engine::start(db.spec("t", WIDEN), waiting.clone());
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        let open = Controls { approved: true, ..waiting };
        handle.control(open.clone());
        let s = until(&handle, what, blocked_by(blocking.id())).await;
        let by = s.cut_over.blocked_by.clone().unwrap_or_default();
        assert!(by.contains(words), "{what}: {by}");
        assert_eq!(notices(&s, notice::BLOCKER_KILLED), [""; 0], "{what}");
        let allowed = Instant::now();
        handle.control(Controls { kill_blockers_after: Some(2 * SECOND), ..open });
        let (outcome, last) = ends(handle).await;
        assert_eq!(outcome, Outcome::Succeeded, "{what}");
        let killed = notices(&last, notice::BLOCKER_KILLED);
        assert_eq!(killed.len(), 1, "{what}: {killed:?}");
        assert!(killed[0].contains(&format!("connection {} (root): {words}", blocking.id())), "{what}: {killed:?}");
        assert!(allowed.elapsed() < soon(10 * SECOND), "{what}: it took {:?}", allowed.elapsed());
        assert!(blocking.query_drop("SELECT 1").await.is_err(), "{what}: it lives");
        bystander.query_drop("COMMIT").await.expect("the bystander lives");
        assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t WHERE a = 9").await, 0);
        drop((blocking, bystander));
        db.drop().await;
    }
}

/// While any session's statement has a character of four bytes, the server lists neither transactions nor (in information_schema) sessions.
/// Who is in the way is found and killed all the same, with the age of the transaction and not of the last statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_with_a_character_of_four_bytes_hides_nobody() {
    // For the others on the shared server nothing is hidden.
    let server = Server::start(&[]);
    for (algorithm, alter) in [(Algorithm::Copy, WIDEN), (Algorithm::Instant, "ADD COLUMN b INT")] {
        let mut db = Db::on(&server.url, "bytes").await;
        fill(&mut db).await;
        db.run("CREATE TABLE other (id INT PRIMARY KEY, v VARCHAR(20))").await;
        let mut bystander = db.connect().await;
        let id = bystander.id();
        let riding = tokio::spawn(async move {
            bystander.query_drop("BEGIN; INSERT INTO other VALUES (1, '🚲'); DO SLEEP(1000) + ('🚲' = 'x')").await
        });
        until_hidden(&mut db).await;
        // It is never idle for a second.
        let mut blocking = blocker(&db, "BEGIN; SELECT * FROM t WHERE id = 1").await;
        let blocks = blocking.id();
        let busy = tokio::spawn(async move { while blocking.query_drop("DO SLEEP(0.2)").await.is_ok() {} });
        let spec = MigrationSpec { algorithm, ..db.spec("t", alter) };
        let report = theseus::engine::preflight::check(&spec, &quick()).await;
        let held = report.findings.iter().find(|finding| finding.object == format!("connection {blocks}"));
        assert!(held.is_some_and(|finding| finding.message.contains("a transaction of root has held the table")), "{report:?}");
        let handle = theseus::engine::start(spec, Controls { kill_blockers_after: Some(SECOND), ..quick() });
        let (outcome, last) = ends(handle).await;
        assert_eq!(outcome, Outcome::Succeeded, "{algorithm:?}");
        let killed = notices(&last, notice::BLOCKER_KILLED);
        let words = format!("connection {blocks} (root): a transaction open for ");
        assert!(killed.len() == 1 && killed[0].contains(&words), "{algorithm:?}: {killed:?}");
        busy.await.expect("the blocker is killed");
        until_hidden(&mut db).await;
        db.run(&format!("KILL {id}")).await;
        assert!(riding.await.expect("the bystander").is_err(), "{algorithm:?}: it lived until now");
        db.drop().await;
    }
}

/// The server does not list transactions.
async fn until_hidden(db: &mut Db) {
    let end = Instant::now() + PATIENCE;
    while db.conn.query_first::<u64, _>("SELECT COUNT(*) FROM information_schema.INNODB_TRX").await.is_ok() {
        assert!(Instant::now() < end, "a statement with a character of four bytes hides no transaction on this server");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// A statement that runs for long is as much in the way, and so is it for a change that the server makes itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_statement_is_killed_also_for_a_native_change() {
    for (algorithm, alter) in [(Algorithm::Copy, WIDEN), (Algorithm::Instant, "ADD COLUMN b INT")] {
        let db = table("long").await;
        let mut conn = db.connect().await;
        let id = conn.id();
        let sleeper = tokio::spawn(async move { conn.query_drop("SELECT SLEEP(100) FROM t LIMIT 1").await });
        let spec = MigrationSpec { algorithm, ..db.spec("t", alter) };
        let handle = theseus::engine::start(spec, Controls { kill_blockers_after: Some(SECOND), ..quick() });
        let (outcome, last) = ends(handle).await;
        assert_eq!(outcome, Outcome::Succeeded, "{algorithm:?}");
        let killed = notices(&last, notice::BLOCKER_KILLED);
        assert!(killed.len() == 1 && killed[0].contains(&format!("connection {id} ")), "{algorithm:?}: {killed:?}");
        assert!(sleeper.await.expect("the sleeper").is_err(), "{algorithm:?}: it slept on");
        db.drop().await;
    }
}

/// A server that takes no writes for a moment (a failover) has not answered to the change: it is tried again, and not refused for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_read_only_for_a_moment_is_asked_again() {
    let server = Server::start(&[]);
    for (algorithm, alter) in [(Algorithm::Instant, "ADD COLUMN b INT"), (Algorithm::Inplace, "ADD INDEX b (a, id)")] {
        let mut db = Db::on(&server.url, "moment").await;
        fill(&mut db).await;
        let waiting = Controls { cut_over_policy: CutOverPolicy::Manual, ..quick() };
        let handle = theseus::engine::start(MigrationSpec { algorithm, ..db.spec("t", alter) }, waiting.clone());
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        db.run("SET GLOBAL super_read_only = ON").await;
        handle.control(Controls { approved: true, ..waiting });
        let s = until(&handle, "it is retried", |s| s.retrying.is_some()).await;
        assert_eq!(s.retrying.map(|r| r.reason), Some(Reason::ReadOnly), "{algorithm:?}");
        db.run("SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF").await;
        assert_eq!(join(handle).await, Outcome::Succeeded, "{algorithm:?}");
        db.drop().await;
    }
}

/// The token acts once; it does not open the gate; what it was given for may be younger than a whole attempt.
#[tokio::test(flavor = "multi_thread")]
async fn the_force_token_acts_once() {
    for (algorithm, alter) in [(Algorithm::Copy, WIDEN), (Algorithm::Instant, "ADD COLUMN b INT")] {
        let db = table("force").await;
        let mut blocking = blocker(&db, "BEGIN; SELECT * FROM t WHERE id = 1").await;
        let spec = MigrationSpec { algorithm, ..db.spec("t", alter) };
        let gated = Controls { cut_over_policy: CutOverPolicy::Manual, force_cut_over: Some("1".into()), ..quick() };
        let handle = theseus::engine::start(spec.clone(), gated.clone());
        let s = until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        assert_eq!(s.cut_over.handled_force, None);
        blocking.query_drop("SELECT 1").await.expect("it lives while the gate is closed");
        handle.control(Controls { approved: true, ..gated });
        let (outcome, last) = ends(handle).await;
        assert_eq!(outcome, Outcome::Succeeded, "{algorithm:?}");
        assert_eq!(notices(&last, notice::BLOCKER_KILLED).len(), 1, "{algorithm:?}");
        assert_eq!(last.cut_over.handled_force.as_deref(), Some("1"));
        assert!(blocking.query_drop("SELECT 1").await.is_err());
        db.drop().await;
    }
    // A blocker that begins only when the attempt does is found by the attempt itself.
    for (algorithm, alter) in [(Algorithm::Copy, WIDEN), (Algorithm::Instant, "ADD COLUMN b INT")] {
        let db = table("forceyoung").await;
        let gated =
            Controls { cut_over_policy: CutOverPolicy::Manual, lock_timeout: 4 * SECOND, force_cut_over: Some("1".into()), ..controls() };
        let handle = theseus::engine::start(MigrationSpec { algorithm, ..db.spec("t", alter) }, gated.clone());
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        let mut young = blocker(&db, "BEGIN; SELECT * FROM t WHERE id = 1").await;
        handle.control(Controls { approved: true, ..gated });
        let (outcome, last) = ends(handle).await;
        assert_eq!(outcome, Outcome::Succeeded, "{algorithm:?}");
        // By the first one: the token acts upon no other.
        assert_eq!(notices(&last, notice::BLOCKER_KILLED).len(), 1, "{algorithm:?}: {last:#?}");
        assert_eq!(last.cut_over.handled_force.as_deref(), Some("1"));
        assert!(young.query_drop("SELECT 1").await.is_err());
        db.drop().await;
    }
}

/// A long transaction that only looks at the table's definition now and then is in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn who_only_looks_at_the_definition_is_left_alone() {
    let mut db = table("looks").await;
    db.run("CREATE TABLE other (id INT PRIMARY KEY)").await;
    let mut looking = blocker(&db, "BEGIN; INSERT INTO other VALUES (1); SELECT SLEEP(1.5); SHOW CREATE TABLE t").await;
    let handle = theseus::engine::start(db.spec("t", WIDEN), Controls { kill_blockers_after: Some(SECOND), ..quick() });
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let looks = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            looking.query_drop("SHOW CREATE TABLE t").await.expect("a look");
        }
        looking.query_drop("COMMIT").await.expect("it lives");
    });
    let (outcome, last) = ends(handle).await;
    stop.store(true, Ordering::Relaxed);
    looks.await.expect("it lives");
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!(notices(&last, notice::BLOCKER_KILLED), [""; 0]);
    db.drop().await;
}

/// A used token does nothing more: the second blocker lives. Nor is a backup killed for a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_kills_nobody_and_no_token_kills_a_backup() {
    let db = table("used").await;
    // The attempt that the token is for fails in a way of its own.
    let stall = Stall::start(address(&db.url).port, "LOCK TABLES `", Lost::Answer, Whom::That).await;
    let mut spec = db.spec("t", WIDEN);
    (spec.server.host, spec.server.port, spec.server.tls.mode) = ("127.0.0.1".into(), stall.port, TlsMode::Disabled);
    let gated = Controls { cut_over_policy: CutOverPolicy::Manual, force_cut_over: Some("1".into()), ..quick() };
    let handle = theseus::engine::start(spec, gated.clone());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    stall.arm();
    let forced = Controls { approved: true, ..gated };
    handle.control(forced.clone());
    let s = until(&handle, "the attempt is given up", |s| s.cut_over.last_failure.is_some()).await;
    assert_eq!(s.cut_over.handled_force.as_deref(), Some("1"));
    let mut second = blocker(&db, "BEGIN; SELECT * FROM t WHERE id = 1").await;
    until(&handle, "the second blocker is seen", blocked_by(second.id())).await;
    let mut backup = blocker(&db, "LOCK INSTANCE FOR BACKUP").await;
    second.query_drop("COMMIT").await.expect("it lives");
    until(&handle, "the backup is seen", blocked_by(backup.id())).await;
    handle.control(Controls { force_cut_over: Some("2".into()), ..forced });
    let s = until(&handle, "it says that it kills no backup", |s| !notices(s, notice::BLOCKER_NOT_KILLED).is_empty()).await;
    assert_eq!(notices(&s, notice::BLOCKER_KILLED), [""; 0]);
    backup.query_drop("UNLOCK INSTANCE").await.expect("it lives");
    assert_eq!(join(handle).await, Outcome::Succeeded);
    db.drop().await;
}

/// Without the privilege it says so, once, and goes on waiting.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_privilege_it_says_so_and_waits() {
    let mut db = table("denied").await;
    let account = db.name.clone();
    db.run(&format!("CREATE USER '{account}'@'%' IDENTIFIED BY 'secretword'")).await;
    db.run(&format!("GRANT ALL ON `{account}`.* TO '{account}'@'%'")).await;
    db.run(&format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT, PROCESS ON *.* TO '{account}'@'%'")).await;
    db.run(&format!("GRANT SELECT ON performance_schema.* TO '{account}'@'%'")).await;
    let mut spec = db.spec("t", WIDEN);
    (spec.server.username, spec.server.password) = (account.clone(), "secretword".into());
    let mut blocking = blocker(&db, "BEGIN; SELECT * FROM t WHERE id = 1").await;
    let handle = theseus::engine::start(spec, Controls { kill_blockers_after: Some(SECOND), ..quick() });
    let s = until(&handle, "it says that it may not", |s| !notices(s, notice::BLOCKER_NOT_KILLED).is_empty()).await;
    let told = notices(&s, notice::BLOCKER_NOT_KILLED);
    assert!(told[0].contains("CONNECTION_ADMIN") && told[0].contains(&blocking.id().to_string()), "{told:?}");
    // Two more looks, a second apart.
    let attempts = s.cut_over.attempts;
    for value in 1..=3 {
        changes_flow(&mut db, &handle, value).await;
        let mut watch = handle.watch();
        watch.mark_unchanged();
        watch.changed().await.expect("it is alive");
    }
    let s = until(&handle, "a look", |_| true).await;
    assert_eq!((notices(&s, notice::BLOCKER_NOT_KILLED).len(), s.cut_over.attempts), (1, attempts));
    blocking.query_drop("COMMIT").await.expect("it lives");
    assert_eq!(join(handle).await, Outcome::Succeeded);
    db.run(&format!("DROP USER '{account}'@'%'")).await;
    db.drop().await;
}

/// While somebody is in the way the ghost stays current; soon after, the tables are swapped.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocker_that_stays_costs_nothing_but_time() {
    let mut db = table("stays").await;
    let mut blocking = blocker(&db, "BEGIN; SELECT * FROM t WHERE id = 1").await;
    let handle = theseus::engine::start(db.spec("t", WIDEN), quick());
    until(&handle, "it is seen", blocked_by(blocking.id())).await;
    let watch = handle.watch();
    let (since, mut value) = (Instant::now(), 0);
    while since.elapsed() < 4 * SECOND || value <= 10 {
        value += 1;
        changes_flow(&mut db, &handle, value).await;
        let s = watch.borrow().clone();
        assert!(s.progress.backlog < 10 && blocked_by(blocking.id())(&s), "{s:#?}");
        assert!(s.cut_over.locked.is_none_or(|locked| locked < SECOND + soon(SECOND / 2)), "{:?}", s.cut_over);
    }
    let free = Instant::now();
    blocking.query_drop("COMMIT").await.expect("unblock");
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert!(free.elapsed() < soon(4 * SECOND), "swapped only {:?} after", free.elapsed());
    assert_eq!(db.value::<u64>("SELECT a FROM t WHERE id = 7").await, value);
    db.drop().await;
}

/// InnoDB tells the beginning of a transaction in the server's own time zone.
#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_a_blocker_does_not_depend_on_the_servers_time_zone() {
    for zone in ["America/New_York", "Asia/Tokyo"] {
        let server = Server::start_with(&[("TZ", zone)], &[]);
        let mut db = Db::on(&server.url, "zone").await;
        fill(&mut db).await;
        let offset: i64 = db.value("SELECT TIMESTAMPDIFF(HOUR, UTC_TIMESTAMP(), CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', 'SYSTEM'))").await;
        assert_ne!(offset, 0, "the server does not live in {zone}");
        let mut blocking = blocker(&db, "BEGIN; SELECT * FROM t WHERE id = 1").await;
        let handle = theseus::engine::start(db.spec("t", WIDEN), quick());
        let s = until(&handle, "it is seen", blocked_by(blocking.id())).await;
        let by = s.cut_over.blocked_by.unwrap_or_default();
        let seconds: u64 =
            by.split("open for ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse().ok()).expect("an age");
        // A zone would be hours.
        assert!((1..=3000).contains(&seconds), "{zone}: {by}");
        blocking.query_drop("COMMIT").await.expect("unblock");
        assert_eq!(join(handle).await, Outcome::Succeeded);
        db.drop().await;
    }
}

/// An application that writes all the time, keeps its account, and notes the longest that it had to wait.
struct Client {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(u64, Duration)>,
}

impl Client {
    async fn start(db: &Db) -> Self {
        let mut conn = db.connect().await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut written, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                conn.query_drop("UPDATE t SET a = a + 1 WHERE id = 1").await.expect("a write");
                written += 1;
                longest = longest.max(began.elapsed());
            }
            (written, longest)
        });
        Self { stop, task }
    }

    async fn stop(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the client")
    }
}

/// The answer to a statement under the lock never comes. What the clients wait for, at most, is the budget (and a margin); the account is
/// exact.
async fn stalled(prefix: &str, (statement, lost): (&'static str, Lost), whom: Whom, budget: Duration, most: Duration) {
    let mut db = table(prefix).await;
    let stall = Stall::start(address(&db.url).port, statement, lost, whom).await;
    let mut spec = db.spec("t", WIDEN);
    spec.server.port = stall.port;
    spec.server.host = "127.0.0.1".into();
    // The proxy has to read along.
    spec.server.tls.mode = TlsMode::Disabled;
    let gated = Controls { cut_over_policy: CutOverPolicy::Manual, lock_timeout: budget, ..controls() };
    let handle = theseus::engine::start(spec, gated.clone());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let client = Client::start(&db).await;
    stall.arm();
    let stalled_at = Instant::now();
    handle.control(Controls { approved: true, ..gated.clone() });
    if whom == Whom::All {
        // Nothing of the engine gets through. That the lock is gone is what the client's next write tells.
        while stall.seen() == 0 {
            assert!(stalled_at.elapsed() < PATIENCE, "the tables were never locked");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let locked_at = Instant::now();
        let mut probe = db.connect().await;
        probe.query_drop("UPDATE t SET a = a WHERE id = 2").await.expect("the lock is gone");
        let waited = locked_at.elapsed();
        eprintln!("{prefix}: free after {waited:?}");
        assert!(waited < most + soon(MARGIN), "the lock lasted {waited:?}");
        stall.mend();
    } else if statement.starts_with("LOCK") {
        let s = until(&handle, "the attempt is given up", |s| s.cut_over.last_failure.is_some()).await;
        assert!(s.cut_over.last_failure.as_ref().is_some_and(|why| why.contains("lockTimeout expired")), "{:?}", s.cut_over);
    }
    let (outcome, last) = ends(handle).await;
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!(stall.seen(), 1, "the statement was not seen: the test is of no use");
    let (written, longest) = client.stop().await;
    eprintln!("{prefix}: {written} writes, the longest waited {longest:?}; {} attempts", last.cut_over.attempts);
    assert!(longest < most + soon(MARGIN), "a client waited {longest:?}");
    assert_eq!(db.value::<u64>("SELECT a FROM t WHERE id = 1").await, written, "writes were lost or repeated");
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS);
    assert!(db.definition("t").await.contains("bigint"));
    db.drop().await;
}

const MARGIN: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_whose_answer_never_comes_ends_in_time() {
    stalled("stall_lock", ("LOCK TABLES `", Lost::Answer), Whom::That, 2 * SECOND, 2 * SECOND).await;
}

/// The swap may have happened or not: it is found out.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_whose_answer_never_comes_ends_in_time() {
    stalled("stall_rename", ("RENAME TABLE `", Lost::Answer), Whom::That, 2 * SECOND, 2 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_does_not_arrive_ends_in_time() {
    stalled("stall_norename", ("RENAME TABLE `", Lost::Statement), Whom::That, 2 * SECOND, 2 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlock_that_does_not_arrive_ends_in_time() {
    stalled("stall_unlock", ("UNLOCK TABLES", Lost::Statement), Whom::That, 2 * SECOND, 2 * SECOND).await;
}

/// With the watchdog's connection dead as well, the server lets go: a second after the budget.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_cut_off_as_a_whole_leaves_no_lock() {
    stalled("stall_all", ("LOCK TABLES `", Lost::Answer), Whom::All, 2 * SECOND, 4 * SECOND).await;
}

/// The optimizer knows the new table at once, here and on replicas.
#[tokio::test(flavor = "multi_thread")]
async fn the_new_table_has_statistics_from_the_start() {
    let primary = support::PrivateServer::start(&[]).await;
    let replica = support::PrivateServer::replica_of(&primary).await;
    let mut db = Db::on(&primary.url, "statistics").await;
    // InnoDB would gather none by itself.
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL, KEY k (a)) STATS_PERSISTENT=1, STATS_AUTO_RECALC=0").await;
    db.run("SET SESSION cte_max_recursion_depth = 1000000").await;
    db.run(&format!(
        "INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT i, i % 10 FROM n"
    ))
    .await;
    db.run("ANALYZE TABLE t UPDATE HISTOGRAM ON a WITH 7 BUCKETS").await;
    assert_eq!(support::migrate(db.spec("t", WIDEN), controls()).await, Outcome::Succeeded);
    let buckets = "SELECT CAST(HISTOGRAM->>'$.\"number-of-buckets-specified\"' AS UNSIGNED) FROM information_schema.COLUMN_STATISTICS WHERE SCHEMA_NAME = DATABASE() AND TABLE_NAME = 't' AND COLUMN_NAME = 'a'";
    assert_eq!(db.value::<u64>(buckets).await, 7, "its histogram as well");
    let rows = format!("SELECT n_rows FROM mysql.innodb_table_stats WHERE database_name = '{}' AND table_name = 't'", db.name);
    assert_eq!(db.value::<u64>(&rows).await, ROWS);
    let distinct = format!(
        "SELECT stat_value FROM mysql.innodb_index_stats WHERE database_name = '{}' AND table_name = 't' AND index_name = 'k' AND stat_name = 'n_diff_pfx01'",
        db.name
    );
    assert_eq!(db.value::<u64>(&distinct).await, 10);
    // Nor would a replica.
    let mut replica = support::connect(&replica.url).await;
    let end = Instant::now() + 30 * SECOND;
    let on_replica = loop {
        let found: Option<u64> = replica.query_first(&rows).await.expect("ask the replica");
        if found.is_some_and(|rows| rows > 0) || Instant::now() > end {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(on_replica, Some(ROWS));
    db.drop().await;
}

/// Whatever it is partitioned by, also below, a big old table is emptied in steps before it is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_emptied_one_by_one() {
    let mut db = Db::new("partitions").await;
    for (kind, steps) in [
        ("PARTITION BY RANGE (id) (PARTITION `a b` VALUES LESS THAN (5000), PARTITION p1 VALUES LESS THAN MAXVALUE)", 2),
        ("PARTITION BY LIST (id DIV 5000) (PARTITION p0 VALUES IN (0), PARTITION p1 VALUES IN (1, 2), PARTITION none VALUES IN (3))", 2),
        ("PARTITION BY KEY (id) PARTITIONS 2", 2),
        (
            "PARTITION BY RANGE (id) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 (PARTITION p0 VALUES LESS THAN (5000), PARTITION p1 VALUES LESS THAN MAXVALUE)",
            2,
        ),
        ("", 0),
    ] {
        db.run(&format!("CREATE TABLE _t_del (id INT PRIMARY KEY, a CHAR(250) NOT NULL) CHARSET=utf8mb3 STATS_AUTO_RECALC=0 {kind}")).await;
        db.run("SET SESSION cte_max_recursion_depth = 1000000").await;
        db.run("INSERT INTO _t_del WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) SELECT i, REPEAT('x', 250) FROM n").await;
        db.run("ANALYZE TABLE _t_del").await;
        let mut session = theseus::mysql::Session::open(&address(&db.url)).await.expect("a session");
        // As if the server were one that walks through its buffer pool.
        let emptied =
            theseus::engine::lifecycle::old_table::drop_in_steps(&mut session, (8, 0, 22), &db.name, "_t_del").await.expect("dropped");
        assert_eq!(emptied, steps, "{kind}");
        assert_eq!(db.tables().await, [""; 0], "{kind}");
        // It may have been dropped by a former attempt.
        let again = theseus::engine::lifecycle::old_table::drop_in_steps(&mut session, (8, 0, 22), &db.name, "_t_del")
            .await
            .expect("nothing to drop");
        assert_eq!(again, 0);
        session.close().await;
    }
    db.drop().await;
}

/// When the last attempt was made is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_has_a_time() {
    let db = table("time").await;
    let before = SystemTime::now();
    let (outcome, last) = ends(theseus::engine::start(db.spec("t", WIDEN), controls())).await;
    assert_eq!(outcome, Outcome::Succeeded);
    assert!(last.cut_over.last_attempt.is_some_and(|at| at >= before && at <= SystemTime::now()), "{:?}", last.cut_over);
    db.drop().await;
}

/// A table whose every row changes within each cycle, without a pause, never has a small backlog. It is swapped all the same, where the last
/// changes take little of the lock's time; and where they would take too much, people are told, and what they can do.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_table_that_is_always_hot_is_swapped() {
    let mut db = table("hot").await;
    let user = db.user();
    db.url = db.documented(&user, "secretword").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (mut conn, stop) = (db.connect().await, Arc::clone(&stop));
        tokio::spawn(async move {
            let mut rounds = 0_u64;
            while !stop.load(Ordering::SeqCst) {
                conn.query_drop("UPDATE t SET a = a + 1").await.expect("the application is never refused");
                rounds += 1;
            }
            rounds
        })
    };
    // A second is the least that may be set: a quarter of it is too little for so many keys on one connection.
    let spec = MigrationSpec { algorithm: Algorithm::Copy, ..db.spec("t", WIDEN) };
    let handle = theseus::engine::start(spec, Controls { workers: 1, ..quick() });
    until(&handle, "all rows are copied", |s| s.progress.copy_complete).await;
    until(&handle, "it is told, or was quick enough", |s| {
        s.phase == Phase::Finished
            || s.notices.iter().any(|n| n.reason == notice::BACKLOG_STAYS_LARGE && n.message.contains("cutOver.lockTimeout"))
    })
    .await;
    handle.control(Controls { workers: 1, lock_timeout: Duration::from_secs(60), ..controls() });
    assert_eq!(join(handle).await, Outcome::Succeeded);
    stop.store(true, Ordering::SeqCst);
    let rounds = writer.await.expect("the writer");
    let sql = format!("SELECT COUNT(*) FROM t WHERE a = {rounds}");
    assert_eq!(db.value::<u64>(&sql).await, ROWS, "{rounds} rounds, each row in each of them");
    db.drop().await;
}
