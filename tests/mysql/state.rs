//! A new binary over an old state table, and an old one over a new: what is readable goes on, what is not is refused by name, and nothing
//! is touched.
use crate::support;

use support::{Db, controls, join, migrate, until};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy, MigrationSpec};

const ROWS: u64 = 2000;

/// Work that was stopped at the gate.
async fn stopped(prefix: &str) -> (Db, MigrationSpec) {
    let mut db = Db::new(prefix).await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL)").await;
    db.run("SET SESSION cte_max_recursion_depth = 10000").await;
    db.run(&format!("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT i, i FROM n"))
        .await;
    let spec = db.spec("t", "MODIFY a BIGINT NOT NULL");
    let handle = theseus::engine::start(spec.clone(), Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() });
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    handle.stop();
    assert_eq!(join(handle).await, Outcome::Stopped);
    db.run("UPDATE t SET a = -1 WHERE id = 7").await;
    (db, spec)
}

async fn goes_on(mut db: Db, spec: MigrationSpec, what: &str) {
    let handle = theseus::engine::start(spec, controls());
    let watch = handle.watch();
    assert_eq!(join(handle).await, Outcome::Succeeded, "{what}");
    assert_eq!(watch.borrow().resumed_count, 1, "{what}: the work is taken up");
    assert_eq!(db.value::<i64>("SELECT a FROM t WHERE id = 7").await, -1, "{what}");
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS, "{what}");
    assert_eq!(db.tables().await, ["t"], "{what}");
    db.drop().await;
}

/// What was added to the first version since has a default: a table without it is read, and written in today's form.
#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_layout_is_taken_up() {
    let (mut db, spec) = stopped("state_old").await;
    db.run("ALTER TABLE _t_ghc DROP COLUMN updated").await;
    db.run("UPDATE _t_ghc SET value = JSON_REMOVE(value, '$.native') WHERE kind = 'migration'").await;
    db.run("UPDATE _t_ghc SET value = JSON_REMOVE(value, '$.applied') WHERE kind = 'position'").await;
    goes_on(db, spec, "an earlier layout").await;
}

/// What a later version added without changing a meaning is no harm.
#[tokio::test(flavor = "multi_thread")]
async fn additions_of_a_later_binary_are_no_harm() {
    let (mut db, spec) = stopped("state_more").await;
    db.run("ALTER TABLE _t_ghc ADD COLUMN later INT NULL").await;
    db.run("UPDATE _t_ghc SET value = JSON_SET(value, '$.later', 1) WHERE kind IN ('migration', 'position', 'chunk')").await;
    db.run("INSERT INTO _t_ghc (kind, id, value) VALUES ('later', 0, 'x')").await;
    goes_on(db, spec, "additions").await;
}

/// Everything else is refused, by name; the tables stay as they are, and what made them can go on.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_and_left_alone() {
    let comment = |version: &str| format!("ALTER TABLE _t_ghc COMMENT = 'Theseus migration state, version {version}'");
    let cases = [
        (comment("2"), comment("1"), "version 2, from a newer Theseus"),
        (comment("0"), comment("1"), "version 0"),
        (comment("x"), comment("1"), "version is not readable"),
        (
            "UPDATE _t_ghc SET value = JSON_SET(value, '$.version', 99) WHERE kind = 'migration'".into(),
            "UPDATE _t_ghc SET value = JSON_SET(value, '$.version', 1) WHERE kind = 'migration'".into(),
            "version 99, from a newer Theseus",
        ),
        (
            "ALTER TABLE _t_ghc RENAME COLUMN value TO payload".into(),
            "ALTER TABLE _t_ghc RENAME COLUMN payload TO value".into(),
            "columns are different",
        ),
        (
            "UPDATE _t_ghc SET value = JSON_SET(value, '$.stage', 'Thinking') WHERE kind = 'migration'".into(),
            "UPDATE _t_ghc SET value = JSON_SET(value, '$.stage', 'Copying') WHERE kind = 'migration'".into(),
            "record is not readable",
        ),
        // What is there and cannot be read is not missing: the work would be taken for none, or the stream would begin elsewhere.
        (
            "UPDATE _t_ghc SET value = CONCAT('x', value) WHERE kind = 'owner'".into(),
            "UPDATE _t_ghc SET value = SUBSTR(value, 2) WHERE kind = 'owner'".into(),
            "epoch is not readable",
        ),
        (
            "UPDATE _t_ghc SET value = JSON_SET(value, '$.executed', CONCAT('x', value->>'$.executed')) WHERE kind = 'position'".into(),
            "UPDATE _t_ghc SET value = JSON_SET(value, '$.executed', SUBSTR(value->>'$.executed', 2)) WHERE kind = 'position'".into(),
            "position is not readable",
        ),
    ];
    let (mut db, spec) = stopped("state_new").await;
    for (break_it, mend_it, words) in cases {
        db.run(&break_it).await;
        let checksum = db.rows("CHECKSUM TABLE t, _t_gho, _t_ghc").await;
        match migrate(spec.clone(), controls()).await {
            Outcome::Refused { reason: Reason::StateNotReadable, message } => {
                assert!(message.contains(words) && message.contains("_t_ghc") && message.contains("untouched"), "{message}");
            }
            outcome => panic!("{words}: {outcome:?}"),
        }
        assert_eq!(db.rows("CHECKSUM TABLE t, _t_gho, _t_ghc").await, checksum, "{words}: nothing was written");
        db.run(&mend_it).await;
    }
    goes_on(db, spec, "mended").await;
}

/// A state table that no version can read, and its ghost, are the user's to drop; then it starts anew.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_unreadable_tables_it_starts_anew() {
    let (mut db, spec) = stopped("state_drop").await;
    db.run("UPDATE _t_ghc SET value = '{' WHERE kind = 'chunk'").await;
    match migrate(spec.clone(), controls()).await {
        Outcome::Refused { reason: Reason::StateNotReadable, message } => assert!(message.contains("chunk record"), "{message}"),
        outcome => panic!("{outcome:?}"),
    }
    db.run("DROP TABLE _t_gho, _t_ghc").await;
    assert_eq!(migrate(spec, controls()).await, Outcome::Succeeded);
    assert_eq!(db.value::<i64>("SELECT a FROM t WHERE id = 7").await, -1);
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// What others may do to a migration's tables while it runs, and what it says to that.
struct Loss {
    /// Done at the gate, behind which a row is changed.
    done: &'static str,
    reason: Reason,
    words: &'static [&'static str],
    /// Tables that the end leaves.
    left: &'static [&'static str],
    /// What has to be done before a rerun; empty: nothing.
    advice: &'static str,
}

const LOSSES: &[Loss] = &[
    Loss {
        done: "DROP TABLE _t_ghc",
        reason: Reason::StateNotReadable,
        words: &["dropped or renamed the state table", "`_t_ghc`", "was dropped", "retry to start over"],
        left: &["t"],
        advice: "",
    },
    Loss {
        done: "RENAME TABLE _t_ghc TO away",
        reason: Reason::StateNotReadable,
        words: &["dropped or renamed the state table", "`_t_ghc`"],
        left: &["away", "t"],
        advice: "",
    },
    Loss {
        done: "TRUNCATE TABLE _t_ghc",
        reason: Reason::StateNotReadable,
        words: &["emptied the state table", "`_t_ghc`", "retry to start over"],
        left: &["_t_ghc", "_t_gho", "t"],
        advice: "",
    },
    Loss {
        done: "ALTER TABLE _t_ghc DROP COLUMN value",
        reason: Reason::StateNotReadable,
        words: &["`_t_ghc`", "columns are different", "drop the ghost and state tables"],
        left: &["_t_ghc", "_t_gho", "t"],
        advice: "DROP TABLE _t_gho, _t_ghc",
    },
    Loss {
        done: "DROP TABLE _t_gho",
        reason: Reason::GhostWritten,
        words: &["dropped", "`_t_gho`", "untouched"],
        left: &["_t_ghc", "t"],
        advice: "",
    },
    Loss {
        done: "RENAME TABLE _t_gho TO away",
        reason: Reason::GhostWritten,
        words: &["renamed", "`_t_gho`", "untouched"],
        left: &["_t_ghc", "away", "t"],
        advice: "",
    },
    Loss {
        done: "ALTER TABLE _t_gho ADD COLUMN more INT",
        reason: Reason::GhostWritten,
        words: &["`_t_gho`", "untouched"],
        left: &["_t_ghc", "_t_gho", "t"],
        advice: "",
    },
    // Past the log: the lock finds it.
    Loss {
        done: "SET SESSION sql_log_bin = 0; ALTER TABLE _t_gho ADD COLUMN more INT; SET SESSION sql_log_bin = 1",
        reason: Reason::GhostWritten,
        words: &["definition of the ghost table", "`_t_gho`", "untouched"],
        left: &["_t_ghc", "_t_gho", "t"],
        advice: "",
    },
    Loss {
        done: "SET SESSION sql_log_bin = 0; RENAME TABLE _t_gho TO away; SET SESSION sql_log_bin = 1",
        reason: Reason::GhostWritten,
        words: &["dropped or renamed the ghost", "is now called", "`away`"],
        left: &["_t_ghc", "away", "t"],
        advice: "",
    },
    Loss { done: "DROP TABLE _t_gho, _t_ghc", reason: Reason::GhostWritten, words: &["`_t_gho`"], left: &["t"], advice: "" },
];

/// Each has a reason and a sentence that are true, leaves what it says, and the rerun works once the advice is followed.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_others_take_away_are_told_by_name() {
    for loss in LOSSES {
        let (mut db, spec) = stopped("lost").await;
        let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
        let handle = theseus::engine::start(spec.clone(), manual);
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        db.run(loss.done).await;
        db.run("UPDATE t SET a = -2 WHERE id = 9").await;
        handle.control(controls());
        match join(handle).await {
            Outcome::Failed { reason, message } => {
                // Both are gone: whichever is missed first is the one that is told.
                let either = loss.done == "DROP TABLE _t_gho, _t_ghc" && reason == Reason::Fenced;
                assert!(reason == loss.reason || either, "{}: {reason}: {message}", loss.done);
                assert!(either || loss.words.iter().all(|word| message.contains(word)), "{}: {message}", loss.done);
            }
            outcome => panic!("{}: {outcome:?}", loss.done),
        }
        assert_eq!(db.tables().await, loss.left, "{}", loss.done);
        assert!(db.definition("t").await.contains("`a` int"), "{}: not swapped", loss.done);
        if !loss.advice.is_empty() {
            db.run(loss.advice).await;
        }
        assert_eq!(migrate(spec, controls()).await, Outcome::Succeeded, "{}: a rerun", loss.done);
        assert_eq!(db.value::<i64>("SELECT a FROM t WHERE id = 9").await, -2, "{}", loss.done);
        db.run("DROP TABLE IF EXISTS away").await;
        assert_eq!(db.tables().await, ["t"], "{}", loss.done);
        db.drop().await;
    }
}

/// While no engine runs, the state table is all that says whose the ghost is: without it neither a rerun nor a cancellation touches the
/// ghost, and both say so.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_state_table_a_ghost_is_nobodys() {
    let (mut db, spec) = stopped("orphan").await;
    db.run("DROP TABLE _t_ghc").await;
    let cancel = Controls { cancel: true, ..controls() };
    for (controls, words) in [(controls(), "says that this migration made it"), (cancel, "was not dropped")] {
        match migrate(spec.clone(), controls).await {
            Outcome::Refused { reason: Reason::NameTaken, message } => {
                assert!(message.contains(words) && message.contains("DROP TABLE") && message.contains("_t_gho"), "{message}");
            }
            outcome => panic!("{words}: {outcome:?}"),
        }
        assert_eq!(db.tables().await, ["_t_gho", "t"]);
    }
    db.run("DROP TABLE _t_gho").await;
    assert_eq!(migrate(spec, controls()).await, Outcome::Succeeded);
    db.drop().await;
}
