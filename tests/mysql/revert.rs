//! The way back: after the swap the old table is kept current, and the change is taken back with every row that was written since.
use crate::{proxy, support, workload};

use mysql_async::prelude::Queryable;
use proxy::{Hold, Proxy, plain as through};
use std::time::Duration;
use support::{Db, PATIENCE, address, controls, join, migrate, until};
use theseus::engine::Handle;
use theseus::engine::contract::notice;
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase, Revert, Snapshot};
use theseus::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, MigrationSpec, Mode, OldTable};
use workload::{Plan, Workload};

const HOUR: Duration = Duration::from_secs(3600);

fn window() -> Controls {
    Controls { revert_window: HOUR, ..controls() }
}

fn back() -> Controls {
    Controls { revert: true, ..window() }
}

/// Starts a migration and waits until its change is made.
async fn changed(spec: &MigrationSpec, controls: Controls) -> Handle {
    let handle = theseus::engine::start(spec.clone(), controls);
    revertible(&handle).await;
    handle
}

async fn revertible(handle: &Handle) -> Snapshot {
    let there = |s: &Snapshot| s.phase == Phase::Revertible && s.retrying.is_none();
    let snapshot = until(handle, "the change can be taken back", |s| there(s) || s.phase == Phase::Finished).await;
    assert!(there(&snapshot), "it has ended: {snapshot:#?}");
    snapshot
}

/// A definition without its counter, which never goes back.
fn plain(definition: &str) -> String {
    let (before, after) = definition.split_once(" AUTO_INCREMENT=").unwrap_or((definition, ""));
    format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// Why it cannot be taken back, and how the engine ended.
async fn over(handle: Handle) -> (&'static str, String, Outcome) {
    let watch = handle.watch();
    let outcome = join(handle).await;
    match watch.borrow().revert.clone() {
        Some(Revert::Over { reason, message }) => (reason, message, outcome),
        other => panic!("{other:?} after {outcome:?}"),
    }
}

/// A database whose engines have the documented account, and no privilege more.
async fn with_account(prefix: &str) -> Db {
    let mut db = Db::new(prefix).await;
    let user = db.user();
    db.url = db.documented(&user, "secretword").await;
    db
}

/// A table whose change is interesting on the way back: a wider key, a renamed column, one that goes and one that comes.
const TABLE: &str = "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT, u INT, gone VARCHAR(20) DEFAULT 'none', when_gone DATETIME(3) NULL, \
                     UNIQUE KEY u (u), CONSTRAINT positive CHECK (u > 0), CHECK (a < 1000000))";
const ALTER: &str =
    "MODIFY id BIGINT AUTO_INCREMENT, CHANGE a c BIGINT, DROP gone, DROP when_gone, ADD added INT NOT NULL DEFAULT 7, DROP CHECK t_chk_1";

/// The table, and the documented account to change it with.
async fn table(prefix: &str) -> Db {
    let mut db = with_account(prefix).await;
    db.run(TABLE).await;
    db.run("INSERT INTO t (id, a, u, gone, when_gone) VALUES (1, 10, 1, 'one', '2026-01-01 00:00:00.125'), (2, 20, 2, 'two', NULL), (3, 30, 3, NULL, NULL), (4, 40, 4, 'four', NULL), (5, 50, NULL, 'five', NULL)").await;
    db
}

/// What the table has after the change was taken back, whatever [`writes`] did to the new one.
const AFTER: &str = "SELECT * FROM t ORDER BY id";

async fn writes(db: &mut Db) {
    db.run("UPDATE t SET c = 11 WHERE id = 1").await;
    db.run("DELETE FROM t WHERE id = 2").await;
    db.run("INSERT INTO t (c, u, added) VALUES (60, 6, 1)").await;
    // Two rows exchange a unique value, by way of a third.
    db.run("UPDATE t SET u = 99 WHERE id = 3").await;
    db.run("UPDATE t SET u = 3 WHERE id = 4").await;
    db.run("UPDATE t SET u = 4 WHERE id = 3").await;
    // A row that moves is another one: what only the old table knew of it is gone.
    db.run("UPDATE t SET id = 50 WHERE id = 5").await;
}

async fn check_after(db: &mut Db) {
    let rows = db.rows(AFTER).await;
    let words: Vec<String> = rows.iter().map(|row| row.join(" ").replace('\'', "")).collect();
    assert_eq!(
        words,
        ["1 11 1 one 2026-01-01 00:00:00.125", "3 30 4 NULL NULL", "4 40 3 four NULL", "6 60 6 none NULL", "50 50 NULL none NULL",]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_taken_back_with_every_row_written_since() {
    let mut db = table("revert").await;
    let before = db.definition("t").await;
    let spec = db.spec("t", ALTER);
    let handle = changed(&spec, window()).await;
    let snapshot = handle.watch().borrow().clone();
    assert!(matches!(snapshot.revert, Some(Revert::Possible { .. })), "{snapshot:#?}");
    assert_eq!((snapshot.tables.old.as_str(), snapshot.tables.ghost.as_str()), ("_t_del", ""));
    assert!(db.definition("t").await.contains("`added` int"));
    writes(&mut db).await;
    handle.control(back());
    let watch = handle.watch();
    assert_eq!(join(handle).await, Outcome::Reverted);
    check_after(&mut db).await;
    assert_eq!(plain(&db.definition("t").await), plain(&before));
    let last = watch.borrow().clone();
    assert_eq!(last.revert.map(|r| matches!(r, Revert::Over { reason: Revert::REVERTED, .. })), Some(true));
    // The new table is kept for the front end to drop, and the record of what happened.
    let tables = db.tables().await;
    assert_eq!(tables.len(), 3, "{tables:?}");
    assert!(tables.contains(&last.tables.old) && tables.contains(&"_t_ghc".to_owned()), "{tables:?} {:?}", last.tables);
    // Whoever asks again is told, and nothing is done again.
    assert_eq!(migrate(spec.clone(), window()).await, Outcome::Reverted);
    theseus::engine::clean_up(&spec, true).await.expect("clean up");
    assert_eq!(db.tables().await, ["t"]);
    db.run("INSERT INTO t (a) VALUES (7)").await;
    assert_eq!(db.value::<u64>("SELECT MAX(id) FROM t").await, 51, "numbers go on");
    db.drop().await;
}

/// At each point an engine is dropped, as by a crash, and rows are written while none is there.
#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_outlives_its_engines() {
    let mut db = table("revert_restart").await;
    let spec = db.spec("t", ALTER);
    drop(changed(&spec, window()).await);
    writes(&mut db).await;
    let handle = changed(&spec, window()).await;
    until(&handle, "the changes are applied", |s| s.progress.changes_applied >= 4 && s.progress.backlog == 0).await;
    handle.stop();
    assert_eq!(join(handle).await, Outcome::Stopped);
    db.run("INSERT INTO t (id, c) VALUES (51, 510)").await;
    db.run("DELETE FROM t WHERE id = 51").await;
    // Asked for while no engine is there.
    assert_eq!(migrate(spec.clone(), back()).await, Outcome::Reverted);
    check_after(&mut db).await;
    db.drop().await;
}

/// Each place at which an engine may die around the two swaps, by a connection that is killed or a task that is dropped at any time.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_anywhere_is_followed_by_one_that_goes_on() {
    let mut db = table("revert_deaths").await;
    let spec = db.spec("t", ALTER);
    let mut reached = false;
    for round in 0..40 {
        let handle = theseus::engine::start(spec.clone(), window());
        // Later each time, so that it dies at another point; once it gets as far as the window, that is enough.
        let found = tokio::time::timeout(Duration::from_millis(40 * (round + 1)), revertible(&handle)).await;
        drop(handle);
        reached |= found.is_ok();
        if reached && round % 3 == 0 {
            break;
        }
    }
    let handle = changed(&spec, window()).await;
    drop(handle);
    writes(&mut db).await;
    let mut outcome = None;
    for round in 0..60 {
        let handle = theseus::engine::start(spec.clone(), back());
        if tokio::time::timeout(Duration::from_millis(40 * (round + 1)), join_quietly(&handle)).await.is_ok() {
            outcome = Some(join(handle).await);
            break;
        }
        drop(handle);
    }
    // On a machine that is so busy that none of them came to its end, the last one has time.
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => migrate(spec, back()).await,
    };
    assert_eq!(outcome, Outcome::Reverted);
    check_after(&mut db).await;
    db.drop().await;
}

async fn join_quietly(handle: &Handle) {
    let mut watch = handle.watch();
    while watch.changed().await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_table_goes_when_the_window_ends() {
    let mut db = table("revert_window").await;
    let spec = db.spec("t", ALTER);
    let handle = changed(&spec, window()).await;
    writes(&mut db).await;
    // A window of nothing has ended.
    handle.control(Controls { revert_window: Duration::ZERO, ..controls() });
    let (reason, message, outcome) = over(handle).await;
    assert_eq!((reason, outcome), (Revert::WINDOW_ENDED, Outcome::Succeeded), "{message}");
    assert_eq!(db.tables().await, ["t"]);
    // By itself, and kept.
    let spec = MigrationSpec { id: "another".into(), ..db.spec("t", "DROP added") };
    let keep = Controls { revert_window: Duration::from_secs(6), old_table: OldTable::Keep, ..controls() };
    let handle = changed(&spec, keep.clone()).await;
    let (reason, _, outcome) = over(handle).await;
    assert_eq!((reason, outcome), (Revert::WINDOW_ENDED, Outcome::Succeeded));
    assert_eq!(db.tables().await, ["_t_del", "_t_ghc", "t"]);
    // After its window nothing is taken back, and an engine that comes late knows.
    let (reason, _, outcome) = over(theseus::engine::start(spec.clone(), Controls { revert: true, ..keep })).await;
    assert_eq!((reason, outcome), (Revert::WINDOW_ENDED, Outcome::Succeeded));
    theseus::engine::clean_up(&spec, true).await.expect("clean up");
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_ends_while_no_engine_is_there_has_ended() {
    let mut db = table("revert_late").await;
    let spec = db.spec("t", ALTER);
    let short = Controls { revert_window: Duration::from_secs(1), ..controls() };
    drop(changed(&spec, Controls { revert_window: HOUR, ..short.clone() }).await);
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Nobody kept what would have been needed within the window: that is no reason to worry anybody now.
    db.run("DROP TABLE _t_del").await;
    let handle = theseus::engine::start(spec, short);
    let watch = handle.watch();
    let (reason, _, outcome) = over(handle).await;
    let told = |s: &Snapshot| s.notices.iter().any(|n| n.reason == notice::REVERT_OVER && !n.warning);
    assert!(told(&watch.borrow()), "{:#?}", *watch.borrow());
    assert_eq!((reason, outcome), (Revert::WINDOW_ENDED, Outcome::Succeeded));
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// What ends the possibility: never the application's statement, never the change.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_table_cannot_follow_ends_the_way_back() {
    for (what, alter, statement, reason, said, check) in [
        (
            "a key that is too big",
            "MODIFY id BIGINT AUTO_INCREMENT",
            "INSERT INTO t (id, a) VALUES (3000000000, 1)",
            Reason::DataDoesNotFit,
            "`t`",
            "SELECT COUNT(*) = 1 FROM t WHERE id = 3000000000",
        ),
        (
            "a value that is too long",
            "MODIFY gone VARCHAR(50)",
            "UPDATE t SET gone = REPEAT('secret', 5) WHERE id = 1",
            Reason::DataDoesNotFit,
            "gone",
            "SELECT COUNT(*) = 1 FROM t WHERE gone = REPEAT('secret', 5)",
        ),
        (
            "blanks that would be cut with a note",
            "MODIFY gone VARCHAR(50)",
            "UPDATE t SET gone = CONCAT('secret', REPEAT(' ', 20)) WHERE id = 1",
            Reason::DataDoesNotFit,
            "`t`",
            "SELECT CHAR_LENGTH(gone) = 26 FROM t WHERE id = 1",
        ),
        (
            "two rows with one value",
            "DROP INDEX u",
            "UPDATE t SET u = 2 WHERE id = 1",
            Reason::DuplicateKey,
            "unique key",
            "SELECT COUNT(*) = 2 FROM t WHERE u = 2",
        ),
        (
            "a check that is gone",
            "DROP CHECK t_chk_1",
            "UPDATE t SET a = 2000000 WHERE id = 1",
            Reason::DataDoesNotFit,
            "`t`",
            "SELECT a = 2000000 FROM t WHERE id = 1",
        ),
        (
            "DDL",
            "ADD added INT",
            "ALTER TABLE t ADD another INT",
            Reason::DefinitionChanged,
            "`t`",
            "SELECT another IS NULL FROM t LIMIT 1",
        ),
        ("TRUNCATE", "ADD added INT", "TRUNCATE TABLE t", Reason::TableTruncated, "`t`", "SELECT COUNT(*) = 0 FROM t"),
        (
            "a writer of the old table",
            "ADD added INT",
            "DELETE FROM _t_del WHERE id = 1",
            Reason::GhostWritten,
            "old table",
            "SELECT COUNT(*) = 5 FROM t",
        ),
        ("the old table is dropped", "ADD added INT", "DROP TABLE _t_del", Reason::GhostWritten, "old table", "SELECT COUNT(*) = 5 FROM t"),
    ] {
        let mut db = table("revert_ends").await;
        let spec = db.spec("t", alter);
        let handle = changed(&spec, window()).await;
        let definition = db.definition("t").await;
        db.run(statement).await;
        let (word, message, outcome) = over(handle).await;
        assert_eq!((word, &outcome), (reason.as_str(), &Outcome::Succeeded), "{what}: {message}");
        assert!(message.contains(said) && !message.contains("secret") && !message.contains("3000000000"), "{what}: {message}");
        assert!(db.value::<bool>(check).await, "{what}");
        if !statement.starts_with("ALTER") {
            assert_eq!(plain(&db.definition("t").await), plain(&definition), "{what}");
        }
        assert_eq!(db.tables().await, ["t"], "{what}");
        db.drop().await;
    }
}

/// Before the engine follows the log again after the swap, it has not written to the old table yet, so whoever did is somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_of_the_old_table_is_seen_from_the_swap_on() {
    let mut db = table("revert_writer").await;
    let proxy = Proxy::start(address(&db.url).port).await;
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..window() };
    let handle = theseus::engine::start(through(db.spec("t", ALTER), &proxy), manual);
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let mut caught = proxy.trap(&format!("SHOW CREATE TABLE `{}`.`_t_del`", db.name), Hold::Request);
    handle.control(window());
    caught.sprung().await;
    db.run("DELETE FROM _t_del WHERE id = 1").await;
    caught.release();
    let (word, message, outcome) = over(handle).await;
    assert_eq!((word, outcome), (Reason::GhostWritten.as_str(), Outcome::Succeeded), "{message}");
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 5);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_without_a_way_back_is_refused_before_it_begins() {
    for (what, make, alter, reason, said) in [
        ("digits that would be rounded", "", "MODIFY when_gone DATETIME(6)", Reason::NoWayBack, "`when_gone`"),
        ("a column without a default", "ALTER TABLE t ADD must INT NOT NULL", "DROP must", Reason::NoWayBack, "`must`"),
        ("a number that becomes text", "", "MODIFY a TEXT", Reason::NoWayBack, "`a`"),
        (
            "a parent",
            "CREATE TABLE child (t INT, CONSTRAINT to_t FOREIGN KEY (t) REFERENCES t (id))",
            "MODIFY gone VARCHAR(30)",
            Reason::NoWayBack,
            "foreign keys",
        ),
        (
            "a column of a foreign key",
            "CREATE TABLE parent (id INT PRIMARY KEY); UPDATE t SET a = NULL; ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES parent (id)",
            "DROP a",
            Reason::NoWayBack,
            "foreign keys",
        ),
        // The account may make no triggers, as long as the server does not trust it, and none of another's. What would help a change without a
        // way back is no help here.
        (
            "a trigger",
            "CREATE TRIGGER fires BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1",
            "MODIFY gone VARCHAR(30)",
            Reason::NoWayBack,
            "`fires`",
        ),
        (
            "a trigger that names what goes",
            "CREATE TRIGGER fires BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1",
            "DROP a",
            Reason::NoWayBack,
            "`fires`",
        ),
        (
            "a key that the old table lacks",
            "",
            "DROP PRIMARY KEY, MODIFY id INT NOT NULL, ADD COLUMN k INT NOT NULL DEFAULT 0, ADD PRIMARY KEY (k, id), ADD UNIQUE KEY (id, a)",
            Reason::NoWayBack,
            "key",
        ),
    ] {
        let mut db = table("revert_refused").await;
        if !make.is_empty() {
            db.run(make).await;
        }
        let tables = db.tables().await;
        let definition = db.definition("t").await;
        // Where the server may choose, a clause is added that it makes no change with by itself.
        for (algorithm, alter) in [(Algorithm::Copy, alter.to_owned()), (Algorithm::Auto, format!("{alter}, MODIFY u BIGINT"))] {
            let what = format!("{what}, {algorithm:?}");
            match migrate(MigrationSpec { algorithm, ..db.spec("t", &alter) }, window()).await {
                Outcome::Refused { reason: got, message } => {
                    assert_eq!(got, reason, "{what}: {message}");
                    assert!(message.contains(said) && message.contains("`t`") && message.contains("Nothing is left"), "{what}: {message}");
                }
                other => panic!("{what}: {other:?}"),
            }
            assert_eq!((db.tables().await, db.definition("t").await), (tables.clone(), definition.clone()), "{what}");
        }
        db.drop().await;
    }
    // A dry run says it, too.
    let mut db = table("revert_dry").await;
    let dry = |alter: &str| MigrationSpec { mode: Mode::DryRun, ..db.spec("t", alter) };
    let (good, bad) = (dry(ALTER), dry("MODIFY a TEXT"));
    assert_eq!(migrate(good, window()).await, Outcome::Proven);
    let outcome = migrate(bad, window()).await;
    assert!(matches!(&outcome, Outcome::Refused { reason: Reason::NoWayBack, message } if message.contains("`a`")), "{outcome:?}");
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_server_makes_says_that_it_has_no_way_back() {
    let mut db = table("revert_native").await;
    for (alter, algorithm) in [("ADD instant INT", Algorithm::Instant), ("ADD INDEX (a)", Algorithm::Inplace)] {
        let spec = MigrationSpec { algorithm, id: alter.into(), ..db.spec("t", alter) };
        let (reason, message, outcome) = over(theseus::engine::start(spec, window())).await;
        assert_eq!((reason, outcome), (Revert::NO_WAY_BACK, Outcome::Succeeded));
        assert!(message.contains("INSTANT or INPLACE"), "{message}");
    }
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// Another migration of the table waits for the end of the window; after a revert the same change can be made again, and taken back again.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_migration_waits_and_a_revert_can_be_repeated() {
    let mut db = table("revert_again").await;
    let first = db.spec("t", ALTER);
    let handle = changed(&first, window()).await;
    let second = MigrationSpec { id: "second".into(), ..db.spec("t", "ADD later INT") };
    let waiting = theseus::engine::start(second, controls());
    until(&waiting, "the second one waits", |s| s.retrying.as_ref().is_some_and(|r| r.reason == Reason::LockHeldElsewhere)).await;
    writes(&mut db).await;
    handle.control(back());
    assert_eq!(join(handle).await, Outcome::Reverted);
    check_after(&mut db).await;
    assert_eq!(join(waiting).await, Outcome::Succeeded);
    assert!(db.definition("t").await.contains("`later`"));
    theseus::engine::clean_up(&first, true).await.expect("clean up");
    // The revert is reverted: the same change once more.
    let third = MigrationSpec { id: "third".into(), ..db.spec("t", &ALTER.replace("DROP gone, ", "")) };
    let handle = changed(&third, window()).await;
    db.run("UPDATE t SET c = 12, gone = 'here' WHERE id = 1").await;
    handle.control(back());
    assert_eq!(join(handle).await, Outcome::Reverted);
    assert_eq!(db.rows("SELECT a, gone, when_gone FROM t WHERE id = 1").await, [["'12'", "'here'", "'2026-01-01 00:00:00.125'"]]);
    db.drop().await;
}

/// Who holds the table holds the way back up, also beyond the end of the window; nothing is lost by an attempt that is given up.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_given_up_is_made_again() {
    let mut db = table("revert_blocked").await;
    let spec = db.spec("t", ALTER);
    let short = Controls { lock_timeout: Duration::from_secs(1), ..window() };
    let handle = changed(&spec, short.clone()).await;
    let mut blocker = db.connect().await;
    blocker.query_drop("START TRANSACTION; SELECT * FROM t WHERE id = 1 FOR UPDATE").await.expect("block");
    let asked = Controls { revert: true, ..short };
    handle.control(asked.clone());
    until(&handle, "an attempt fails or is not made", |s| s.cut_over.last_failure.is_some() || s.cut_over.blocked_by.is_some()).await;
    handle.control(Controls { revert_window: Duration::from_millis(1), ..asked });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!handle.is_finished());
    blocker.query_drop("ROLLBACK").await.expect("unblock");
    assert_eq!(join(handle).await, Outcome::Reverted);
    assert_eq!(db.rows("SELECT id, gone FROM t WHERE id = 1").await, [["'1'", "'one'"]]);
    db.drop().await;
}

/// The connection dies at each statement of either swap, before the server has it or before its answer comes. Nothing of a row is lost, also
/// what only the old table knows of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_dies_in_either_swap_costs_nothing() {
    for (words, hold, forth) in [
        ("'position', 0", Hold::Request, true),
        ("'position', 0", Hold::Answer, true),
        ("RENAME TABLE", Hold::Request, true),
        ("RENAME TABLE", Hold::Answer, true),
        ("LOCK TABLES `", Hold::Answer, false),
        ("autocommit = 0", Hold::Answer, false),
        ("DELETE FROM `", Hold::Answer, false),
        ("INSERT INTO `", Hold::Request, false),
        ("autocommit = 1", Hold::Request, false),
        ("autocommit = 1", Hold::Answer, false),
        ("RENAME TABLE", Hold::Request, false),
        ("RENAME TABLE", Hold::Answer, false),
    ] {
        let what = format!("{words}, {hold:?}, {}", if forth { "there" } else { "back" });
        let mut db = table("revert_faults").await;
        let proxy = Proxy::start(address(&db.url).port).await;
        let spec = through(db.spec("t", ALTER), &proxy);
        let slow = Controls { lock_timeout: Duration::from_secs(5), ..window() };
        let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..slow.clone() };
        let handle = theseus::engine::start(spec, if forth { manual } else { slow.clone() });
        if forth {
            until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
            let mut caught = proxy.trap(words, hold);
            handle.control(slow.clone());
            caught.sprung().await;
            caught.tear();
        }
        revertible(&handle).await;
        if forth {
            writes(&mut db).await;
        } else {
            let mut caught = proxy.trap(words, hold);
            // Asked for among the writes: some of their keys may be left for the lock.
            let (writing, ()) = tokio::join!(writes(&mut db), async { handle.control(Controls { revert: true, ..slow.clone() }) });
            let () = writing;
            tokio::select! {
                _ = caught.sprung() => caught.tear(),
                () = join_quietly(&handle) => {}
            }
        }
        handle.control(Controls { revert: true, ..slow });
        assert_eq!(join(handle).await, Outcome::Reverted, "{what}");
        check_after(&mut db).await;
        db.drop().await;
    }
}

/// What is broken by the change may overload the server: that is when it has to be taken back.
#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_server_does_not_end_the_way_back() {
    let mut db = table("revert_load").await;
    let spec = db.spec("t", ALTER);
    let mut loaded = window();
    let handle = changed(&spec, loaded.clone()).await;
    writes(&mut db).await;
    let any = || std::collections::BTreeMap::from([("Threads_connected".to_owned(), 0)]);
    (loaded.limits.critical_load, loaded.limits.max_load) = (any(), any());
    handle.control(loaded.clone());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(matches!(handle.watch().borrow().revert, Some(Revert::Possible { .. })), "{:#?}", *handle.watch().borrow());
    handle.control(Controls { revert: true, ..loaded });
    assert_eq!(join(handle).await, Outcome::Reverted);
    check_after(&mut db).await;
    db.drop().await;
}

/// There, write, back, write: the writers' own account, statement by statement, and none of them failed.
#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_lost_there_and_back() {
    const ROWS: u64 = 4_000;
    const CHANGES: &[&str] = &[
        "MODIFY customer BIGINT NOT NULL, CHANGE note note VARCHAR(250) NOT NULL",
        "DROP COLUMN kept, ADD COLUMN status VARCHAR(20) NOT NULL DEFAULT 'new', ADD INDEX status (status)",
        "DROP COLUMN kept, DROP INDEX reference, MODIFY note VARCHAR(300) NOT NULL",
    ];
    let mut db = with_account("revert_oracle").await;
    let seed = fastrand::u64(..1_000_000);
    let name = db.name.clone();
    workload::create(&mut db.conn, &name, "orders", ROWS, 3).await.expect("load the table");
    db.run("ALTER TABLE orders ADD COLUMN kept BIGINT NULL").await;
    db.run("UPDATE orders SET kept = id * 3").await;
    let before = db.definition("orders").await;
    let plan = Plan { url: db.url.clone(), database: name, table: "orders".to_owned(), rows: ROWS, writers: 3, rate: None, seed };
    let mut workload = Workload::start(plan).await.expect("start the writers");
    for (n, alter) in CHANGES.iter().enumerate() {
        let spec = MigrationSpec { id: format!("oracle-{n}"), ..db.spec("orders", alter) };
        let written = |workload: &Workload| workload.totals().committed;
        let handle = changed(&spec, window()).await;
        let start = written(&workload);
        let end = std::time::Instant::now() + PATIENCE;
        while written(&workload) < start + 300 {
            assert!(std::time::Instant::now() < end, "the writers stand still");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let handle = if n % 2 == 0 {
            handle
        } else {
            // Another engine goes on where this one died.
            drop(handle);
            changed(&spec, window()).await
        };
        handle.control(back());
        let watch = handle.watch();
        assert_eq!(join(handle).await, Outcome::Reverted, "seed {seed}: {alter}: {:#?}", *watch.borrow());
        let totals = workload.totals();
        assert!(totals.failures.is_empty(), "seed {seed}: {alter}: {:#?}", totals.failures);
        match workload.verify().await {
            Ok(rows) => eprintln!("{rows} rows as they must be after {alter}; tables locked {:?}", watch.borrow().cut_over.locked),
            Err(differences) => panic!("seed {seed}: {alter}: {differences}"),
        }
        theseus::engine::clean_up(&spec, true).await.expect("clean up");
    }
    let totals = workload.stop().await;
    assert!(totals.failures.is_empty(), "seed {seed}: {:#?}", totals.failures);
    assert_eq!(plain(&db.definition("orders").await), plain(&before));
    // Rows that lived through all of it have what only the old table knew
    // (one that got another id between two migrations has taken it along), and nobody has what was another's.
    let kept: u64 = db.value("SELECT COUNT(*) FROM orders WHERE kept = id * 3").await;
    let twice: u64 = db.value("SELECT COUNT(kept) - COUNT(DISTINCT kept) FROM orders").await;
    eprintln!("{kept} rows have kept their value");
    assert!(kept > ROWS / 4 && twice == 0, "{kept} kept, {twice} have one of another row");
    assert_eq!(db.tables().await, ["orders"]);
    db.drop().await;
}
