//! Foreign keys that the change itself adds: the definition is the native ALTER's to the letter; no statement of the application fails that did
//! not fail before; and no table gets its new definition with a row that the new foreign key forbids, whenever and however that row came.
use super::{Case, compare, dismiss, make, remove};
use crate::proxy::{Hold, Proxy, plain};
use crate::support::{self, Db, PATIENCE, PrivateServer, controls, migrate};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, DeferIndexes, MigrationSpec, Mode};

const LOOSE: &str = "CREATE TABLE p (id INT PRIMARY KEY, u INT NOT NULL UNIQUE, v VARCHAR(20) COLLATE utf8mb4_0900_ai_ci UNIQUE); \
    CREATE TABLE t (id INT PRIMARY KEY, p INT, q INT, boss INT, a INT, w VARCHAR(10), CONSTRAINT t_ibfk_3 FOREIGN KEY (q) REFERENCES p (u)); \
    INSERT INTO p VALUES (1, 10, 'a'), (2, 20, 'B'); INSERT INTO t VALUES (1, 1, 20, NULL, 5, 'A'), (2, 2, 10, 1, 6, 'b'), (3, NULL, NULL, 2, 6, NULL)";

const CASES: &[Case] = &[
    Case {
        name: "named and not, beside one that is there",
        tables: LOOSE,
        table: "t",
        alter: "ADD FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE, MODIFY a BIGINT, ADD CONSTRAINT named FOREIGN KEY (q) REFERENCES p (u) ON UPDATE SET NULL, ADD FOREIGN KEY (p) REFERENCES p (id)",
    },
    Case {
        name: "to the table itself",
        tables: LOOSE,
        table: "t",
        alter: "ADD CONSTRAINT chief FOREIGN KEY (boss) REFERENCES t (id) ON DELETE SET NULL, ADD FOREIGN KEY (boss) REFERENCES t (id)",
    },
    Case {
        name: "of a new column, in its definition and beside it",
        tables: LOOSE,
        table: "t",
        alter: "ADD COLUMN r INT REFERENCES p (id), ADD COLUMN s INT NOT NULL DEFAULT 20, ADD CONSTRAINT s FOREIGN KEY (s) REFERENCES p (u)",
    },
    Case {
        name: "of a column that becomes another one",
        tables: "CREATE TABLE p (id BIGINT PRIMARY KEY, v VARCHAR(9)); CREATE TABLE t (id INT PRIMARY KEY, p INT, KEY (p)); \
            INSERT INTO p VALUES (1, 'a'); INSERT INTO t VALUES (1, 1), (2, NULL)",
        table: "t",
        alter: "CHANGE p parent BIGINT, ADD CONSTRAINT f FOREIGN KEY (parent) REFERENCES p (id)",
    },
    Case {
        name: "of texts, which are equal by a collation",
        tables: LOOSE,
        table: "t",
        alter: "ADD CONSTRAINT w FOREIGN KEY (w) REFERENCES p (v) ON UPDATE CASCADE, MODIFY a BIGINT",
    },
    Case {
        name: "one goes and one comes, with an index of their own",
        tables: LOOSE,
        table: "t",
        alter: "DROP FOREIGN KEY t_ibfk_3, ADD FOREIGN KEY (q) REFERENCES p (u), ADD INDEX i (p, a), ADD CONSTRAINT x FOREIGN KEY (p) REFERENCES p (id)",
    },
    Case {
        name: "composite, to another schema",
        tables: "CREATE TABLE OTHER.p (a INT, b VARCHAR(5), PRIMARY KEY (a, b)); CREATE TABLE t (id INT PRIMARY KEY, x INT, y VARCHAR(5)); \
            INSERT INTO OTHER.p VALUES (1, 'x'); INSERT INTO t VALUES (1, 1, 'x'), (2, 7, NULL), (3, NULL, 'z')",
        table: "t",
        alter: "ADD FOREIGN KEY (x, y) REFERENCES OTHER.p (a, b)",
    },
    Case {
        name: "of a table that others refer to",
        tables: "CREATE TABLE p (id INT PRIMARY KEY); CREATE TABLE t (id INT PRIMARY KEY, p INT); \
            CREATE TABLE c (id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES t (id)); \
            INSERT INTO p VALUES (1); INSERT INTO t VALUES (1, 1); INSERT INTO c VALUES (1, 1)",
        table: "t",
        alter: "ADD FOREIGN KEY (p) REFERENCES p (id)",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn added_foreign_keys_are_those_of_the_native_alter() {
    for case in CASES {
        compare(case, DeferIndexes::Always).await;
    }
}

/// Tables without a foreign key between them, whose rows the application keeps in order itself.
async fn orders(url: &str, prefix: &str) -> Db {
    let mut db = Db::on(url, prefix).await;
    db.run("CREATE TABLE p (id INT PRIMARY KEY, note INT)").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, p INT NOT NULL, n INT NOT NULL, KEY (p))").await;
    db.run("SET SESSION cte_max_recursion_depth = 100000").await;
    let numbers = "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 3000) SELECT";
    db.run(&format!("INSERT INTO p {numbers} i, 0 FROM s")).await;
    db.run(&format!("INSERT INTO t {numbers} i, i, 0 FROM s")).await;
    db
}

const ADD: &str = "ADD CONSTRAINT to_p FOREIGN KEY (p) REFERENCES p (id), MODIFY n BIGINT NOT NULL";

/// Parents and rows come and go in transactions of all shapes, each of which is in order when it is committed. None may fail, but for deadlocks.
/// `prepares`: some are prepared first. (A migration does not begin while one is.)
async fn write(mut conn: Conn, worker: u64, stop: Arc<AtomicBool>, prepares: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let mut random = fastrand::Rng::with_seed(worker);
    let mut fresh = 0;
    while !stop.load(Ordering::SeqCst) {
        fresh += 1;
        // Each worker has rows of its own, and what it makes goes again.
        let (old, new) = (1 + worker + 3 * random.u64(0..1000), 10_000 + worker * 1_000_000 + fresh);
        let xa = prepares.load(Ordering::SeqCst) && random.u8(..6) == 0;
        let (begin, end) = match xa {
            true => {
                (format!("XA START '{new}'"), vec![format!("XA END '{new}'"), format!("XA PREPARE '{new}'"), format!("XA COMMIT '{new}'")])
            }
            false => ("BEGIN".to_owned(), vec!["COMMIT".to_owned()]),
        };
        let work = match random.u8(..5) {
            0 => vec![format!("INSERT INTO p VALUES ({new}, 1)"), format!("INSERT INTO t VALUES ({new}, {new}, 1)")],
            1 => vec![format!("DELETE FROM t WHERE p = {old}"), format!("DELETE FROM p WHERE id = {old}")],
            2 => vec![
                format!("INSERT INTO p VALUES ({new}, 2)"),
                format!("UPDATE t SET p = {new}, n = n + 1 WHERE p = {old}"),
                format!("DELETE FROM p WHERE id = {old}"),
            ],
            3 => vec![format!("UPDATE p SET note = note + 1 WHERE id = {old}"), format!("UPDATE t SET n = n + 1 WHERE id = {old}")],
            _ => vec![format!("REPLACE INTO p VALUES ({old}, 5)"), format!("REPLACE INTO t VALUES ({old}, {old}, 5)")],
        };
        // REPLACE deletes a parent for a moment, which no foreign key allows: it is not what people write once there is one.
        let work = if work[0].starts_with("REPLACE INTO p") {
            vec![format!("INSERT INTO p VALUES ({old}, 5) ON DUPLICATE KEY UPDATE note = 5"), work[1].clone()]
        } else {
            work
        };
        let mut failed = None;
        for sql in std::iter::once(&begin).chain(&work).chain(&end) {
            match conn.query_drop(sql).await {
                Ok(()) => {}
                Err(mysql_async::Error::Server(error)) if matches!(error.code, 1213 | 1614 | 1205) => {
                    failed = Some(());
                    break;
                }
                Err(error) => panic!("{sql} after {work:?}: {error}"),
            }
        }
        if failed.is_some() {
            let back: &[String] = if xa { &[format!("XA END '{new}'"), format!("XA ROLLBACK '{new}'")] } else { &["ROLLBACK".to_owned()] };
            for sql in back {
                let _ = conn.query_drop(sql).await;
            }
        } else {
            done.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn under_load(url: &str, prefix: &str) {
    let mut db = orders(url, prefix).await;
    let user = db.user();
    let server = support::address(&db.documented(&user, "secretword").await);
    let (stop, prepares, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = Vec::new();
    for worker in 0..3 {
        writers.push(tokio::spawn(write(db.connect().await, worker, Arc::clone(&stop), Arc::clone(&prepares), Arc::clone(&done))));
    }
    let spec = MigrationSpec { server, algorithm: Algorithm::Copy, ..db.spec("t", ADD) };
    let patient = Controls { lock_timeout: Duration::from_secs(10), ..controls() };
    let handle =
        theseus::engine::start_in(support::chunks_of(100), spec, Controls { cut_over_policy: CutOverPolicy::Manual, ..patient.clone() });
    support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    prepares.store(true, Ordering::SeqCst);
    // What a search has found in order is changed for a while.
    let (before, end) = (done.load(Ordering::SeqCst), Instant::now() + PATIENCE);
    while done.load(Ordering::SeqCst) < before + 200 {
        assert!(Instant::now() < end, "nothing is written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    handle.control(patient);
    assert_eq!(support::join(handle).await, Outcome::Succeeded);
    let at_swap = done.load(Ordering::SeqCst);
    while done.load(Ordering::SeqCst) < at_swap + 50 {
        assert!(Instant::now() < end + PATIENCE, "nothing is written to the new table");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.expect("no statement of the application fails");
    }
    let orphans = "SELECT COUNT(*) FROM t LEFT JOIN p ON t.p = p.id WHERE p.id IS NULL";
    assert_eq!(db.value::<u64>(orphans).await, 0);
    assert!(db.definition("t").await.contains("CONSTRAINT `to_p` FOREIGN KEY (`p`) REFERENCES `p` (`id`)"));
    assert!(db.conn.query_drop("INSERT INTO t VALUES (-1, -1, 0)").await.is_err(), "it holds");
    assert_eq!(db.tables().await, ["p", "t"]);
    db.run(&format!("DROP USER '{user}'@'%'")).await;
    remove(db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_key_comes_under_load_and_no_statement_fails() {
    under_load(&support::mysql_url(), "fk_added").await;
}

/// Neither GTIDs nor commits in order: whether a parent's deletion is visible, only its row's lock tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_key_comes_under_load_where_row_locks_are_the_barrier() {
    let server = PrivateServer::start(&["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", "--binlog-order-commits=OFF"]).await;
    under_load(&server.url, "fk_added_locks").await;
}

/// Someone has the parent for longer than a session waits for it: the migration begins all the same, in one attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_is_held_is_waited_for_a_second_at_a_time() {
    let mut db = orders(&support::mysql_url(), "fk_held").await;
    let mut conn = db.connect().await;
    conn.query_drop("BEGIN").await.expect("begin");
    conn.query_drop("SELECT COUNT(*) FROM p").await.expect("hold");
    let (spec, gated) = at_its_gate(&db);
    let handle = theseus::engine::start(spec, gated);
    let watch = handle.watch();
    let mut retried = false;
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end {
        retried |= watch.borrow().retrying.is_some();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Others were not kept out all the time.
    db.run("UPDATE p SET note = 1 WHERE id = 5").await;
    conn.query_drop("COMMIT").await.expect("commit");
    support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    assert!(!retried, "the attempt was given up");
    handle.control(controls());
    assert_eq!(support::join(handle).await, Outcome::Succeeded);
    remove(db).await;
}

/// The migration ends by a row that has no parent, by name; nothing is swapped.
async fn ends_by_an_orphan(db: &mut Db, outcome: Outcome, row: &str, what: &str) {
    match outcome {
        Outcome::Failed { reason: Reason::DataDoesNotFit, message } => {
            for words in [row, "`.`p` does not have", "`to_p` forbids (natively 1452)", "correct such rows and retry"] {
                assert!(message.contains(words), "{what}: no {words} in {message}");
            }
        }
        outcome => panic!("{what}: {outcome:?}"),
    }
    let definition = db.definition("t").await;
    assert!(!definition.contains("CONSTRAINT") && definition.contains("`n` int"), "{what}: {definition}");
}

fn at_its_gate(db: &Db) -> (MigrationSpec, Controls) {
    let spec = MigrationSpec { algorithm: Algorithm::Copy, ..db.spec("t", ADD) };
    (spec, Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_parent_ends_the_migration_and_a_retry_goes_on() {
    let mut db = orders(&support::mysql_url(), "fk_orphan").await;
    db.run("DELETE FROM p WHERE id = 1234").await;
    let (spec, _) = at_its_gate(&db);
    for mode in [Mode::Execute, Mode::DryRun] {
        match migrate(MigrationSpec { mode, ..spec.clone() }, controls()).await {
            Outcome::Refused { reason: Reason::DataDoesNotFit, message } => {
                assert!(
                    message.contains("`id` = 1234 ") && message.contains("`to_p`") && message.contains("Nothing is left behind"),
                    "{message}"
                );
            }
            outcome => panic!("{outcome:?}"),
        }
        assert_eq!(db.tables().await, ["p", "t"]);
    }
    // One that comes while rows are copied is found by the search.
    db.run("INSERT INTO p VALUES (1234, 0)").await;
    let still = Controls { throttled_by_user: true, ..controls() };
    let handle = theseus::engine::start(spec.clone(), still.clone());
    support::until(&handle, "rows could be copied", |s| s.phase == Phase::Copying && s.algorithm.is_some()).await;
    db.run("DELETE FROM p WHERE id = 1234").await;
    handle.control(controls());
    let outcome = support::join(handle).await;
    ends_by_an_orphan(&mut db, outcome, "`id` = 1234 ", "while rows are copied").await;
    db.run("DELETE FROM t WHERE id = 1234").await;
    assert_eq!(migrate(spec, controls()).await, Outcome::Succeeded);
    assert_eq!(db.tables().await, ["p", "t"]);
    remove(db).await;
}

/// At the gate everything has been searched. Whatever takes a parent away, or brings a row without one, is seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_goes_while_the_migration_waits_is_seen() {
    const WAYS: &[(&str, &[&str])] = &[
        ("a deletion", &["DELETE FROM p WHERE id = 7"]),
        ("another value", &["UPDATE p SET id = 70000 WHERE id = 7"]),
        ("a new row", &["INSERT INTO t VALUES (70007, 70007, 1)"]),
        ("a changed row", &["UPDATE t SET p = 70007 WHERE id = 7"]),
        ("a prepared transaction", &["XA START 'x'", "DELETE FROM p WHERE id = 7", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"]),
        ("text in the log", &["SET SESSION binlog_format = STATEMENT", "DELETE FROM p WHERE id = 7"]),
        ("the whole table at once", &["TRUNCATE TABLE p", "INSERT INTO p SELECT id, 0 FROM t WHERE id <> 7"]),
        ("another table", &["CREATE TABLE q LIKE p", "INSERT INTO q SELECT * FROM p WHERE id <> 7", "RENAME TABLE p TO r, q TO p"]),
        (
            "a large transaction",
            &["BEGIN", "DELETE FROM p WHERE id = 7", "UPDATE p SET id = id + 100000", "UPDATE p SET id = id - 100000", "COMMIT"],
        ),
    ];
    let each = WAYS.iter().map(async |(what, statements)| {
        let mut db = orders(&support::mysql_url(), "fk_gone").await;
        let (spec, gated) = at_its_gate(&db);
        let handle = theseus::engine::start(spec, gated);
        support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        let mut conn = db.connect().await;
        for sql in *statements {
            conn.query_drop(*sql).await.unwrap_or_else(|error| panic!("{what}: {sql}: {error}"));
        }
        // It is not asked to swap: it is seen at the gate.
        let row = if *what == "a new row" { "`id` = 70007 " } else { "`id` = 7 " };
        let outcome = support::join(handle).await;
        ends_by_an_orphan(&mut db, outcome, row, what).await;
        remove(db).await;
    });
    futures::future::join_all(each).await;
}

/// While nobody is there, and in the moment before the lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_goes_between_two_engines_or_before_the_lock_is_seen() {
    let mut db = orders(&support::mysql_url(), "fk_absent").await;
    let (spec, gated) = at_its_gate(&db);
    let handle = theseus::engine::start(spec.clone(), gated.clone());
    support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    handle.stop();
    assert_eq!(support::join(handle).await, Outcome::Stopped);
    let mut xa = db.connect().await;
    for sql in ["XA START 'fk_absent'", "DELETE FROM p WHERE id = 9", "XA END 'fk_absent'", "XA PREPARE 'fk_absent'"] {
        xa.query_drop(sql).await.expect(sql);
    }
    let handle = theseus::engine::start(spec.clone(), gated);
    support::until(&handle, "the gate is reached again", |s| s.phase == Phase::AwaitingCutOver).await;
    xa.query_drop("XA COMMIT 'fk_absent'").await.expect("commit");
    let outcome = support::join(handle).await;
    ends_by_an_orphan(&mut db, outcome, "`id` = 9 ", "prepared before").await;
    db.run("DELETE FROM t WHERE id = 9").await;
    // The lock is asked for, and the server does not hear of it before the parent has gone.
    let proxy = Proxy::start(support::address(&db.url).port).await;
    let mut caught = proxy.trap("^LOCK TABLES", Hold::Request);
    let handle = theseus::engine::start(plain(spec.clone(), &proxy), Controls { lock_timeout: PATIENCE, ..controls() });
    caught.sprung().await;
    db.run("DELETE FROM p WHERE id = 8").await;
    caught.release();
    let outcome = support::join(handle).await;
    ends_by_an_orphan(&mut db, outcome, "`id` = 8 ", "before the lock").await;
    db.run("DELETE FROM t WHERE id = 8").await;
    assert_eq!(migrate(spec, controls()).await, Outcome::Succeeded);
    remove(db).await;
}

/// A parent's definition that changes without losing a row is no reason to end.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_is_altered_meanwhile_is_followed_as_it_is_then() {
    let mut db = orders(&support::mysql_url(), "fk_altered").await;
    let (spec, gated) = at_its_gate(&db);
    let handle = theseus::engine::start(spec, gated);
    support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    db.run("ALTER TABLE p ADD COLUMN first INT FIRST, ALGORITHM=INSTANT").await;
    for id in 1..50 {
        db.run(&format!("DELETE t, p FROM t JOIN p ON t.p = p.id WHERE p.id = {id}")).await;
    }
    handle.control(controls());
    assert_eq!(support::join(handle).await, Outcome::Succeeded);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 2951);
    remove(db).await;
}

/// A server that hides a column of the parent from its clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_with_a_hidden_column_is_followed() {
    let server = PrivateServer::start(&["--show-gipk-in-create-table-and-information-schema=OFF"]).await;
    let mut db = orders(&server.url, "fk_hidden").await;
    db.run("RENAME TABLE p TO former").await;
    db.run("SET SESSION sql_generate_invisible_primary_key = ON").await;
    db.run("CREATE TABLE p (id INT NOT NULL UNIQUE)").await;
    db.run("INSERT INTO p SELECT id FROM former").await;
    let (spec, gated) = at_its_gate(&db);
    let handle = theseus::engine::start(spec, gated);
    support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    db.run("DELETE FROM p WHERE id = 7").await;
    let outcome = support::join(handle).await;
    ends_by_an_orphan(&mut db, outcome, "`id` = 7 ", "hidden").await;
    remove(db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_followed_is_refused() {
    let minimal = PrivateServer::start(&["--binlog-row-image=MINIMAL"]).await;
    let native = PrivateServer::start(&["--innodb-native-foreign-keys=ON"]).await;
    let tables = "CREATE TABLE g (id INT PRIMARY KEY); CREATE TABLE p (id INT PRIMARY KEY, u INT UNIQUE, g INT, FOREIGN KEY (g) REFERENCES g (id) ON DELETE CASCADE); \
        CREATE TABLE o (id INT PRIMARY KEY, u INT UNIQUE); CREATE TABLE t (id INT PRIMARY KEY, a INT, b BIGINT)";
    for (url, alter, reason, words) in [
        (
            minimal.url.clone(),
            "ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES o (u)",
            Reason::ForeignKeys,
            &["`f`", "binlog_row_image=MINIMAL"][..],
        ),
        (
            native.url.clone(),
            "ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES p (id)",
            Reason::ForeignKeys,
            &["`f`", "cascades", "innodb_native_foreign_keys"],
        ),
        (support::mysql_url(), "ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES nobody (id)", Reason::AlterRejected, &["1824", "nobody"]),
        (
            support::mysql_url(),
            "ADD CONSTRAINT f FOREIGN KEY (b) REFERENCES p (id)",
            Reason::AlterRejected,
            &["3780", "'b'", "'f'", "incompatible. Nothing"],
        ),
    ] {
        let mut db = Db::on(&url, "fk_no").await;
        for statement in tables.split(';') {
            db.run(statement).await;
        }
        match migrate(MigrationSpec { algorithm: Algorithm::Copy, ..db.spec("t", alter) }, controls()).await {
            Outcome::Refused { reason: found, message } => {
                assert_eq!(found, reason, "{message}");
                assert!(words.iter().all(|word| message.contains(word)) && message.contains("Nothing is left behind"), "{message}");
            }
            outcome => panic!("{alter}: {outcome:?}"),
        }
        assert_eq!(db.tables().await, ["g", "o", "p", "t"], "nothing is left");
        remove(db).await;
    }
}

/// The account lacks what it takes to lock a table of another schema: that is said before a row is copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_may_not_be_locked_is_refused() {
    let (mut db, mut other) =
        make("CREATE TABLE OTHER.p (id INT PRIMARY KEY); CREATE TABLE t (id INT PRIMARY KEY, p INT)", "fk_grant").await;
    let alter = format!("ADD FOREIGN KEY (p) REFERENCES `{}`.p (id)", other.name);
    let user = db.user();
    let url = db.documented(&user, "secretword").await;
    other.run(&format!("GRANT SELECT, REFERENCES ON `{}`.* TO '{user}'@'%'", other.name)).await;
    let spec = MigrationSpec { server: support::address(&url), algorithm: Algorithm::Copy, ..db.spec("t", &alter) };
    match migrate(spec.clone(), controls()).await {
        Outcome::Refused { reason: Reason::MissingPrivilege, message } => {
            assert!(message.contains("LOCK TABLES") && message.contains(&other.name), "{message}");
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(db.tables().await, ["t"], "nothing is left");
    dismiss(&mut db, &spec).await;
    remove(db).await;
    remove(other).await;
}
