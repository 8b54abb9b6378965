//! The cheapest way that the server accepts, told with its reason; what is asked for and refused is never done another way.
mod support;

use mysql_async::prelude::Queryable;
use std::time::Duration;
use support::{Db, controls, join, until};
use theseus::engine::reason::Reason;
use theseus::engine::snapshot::{Outcome, Phase};
use theseus::engine::spec::{Algorithm, Controls, CutOverPolicy, OldTable};

async fn table(prefix: &str) -> Db {
    let mut db = Db::new(prefix).await;
    db.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(20) NOT NULL, b INT, KEY (b), KEY old_name (a))").await;
    db.run("INSERT INTO t (a, b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT CONCAT('r', i), i FROM n").await;
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cheapest_way_is_found_by_trying() {
    // The shared test server may have a replica: an index build in place is then left to small tables, as this one is.
    let cases = [
        ("ADD COLUMN c INT NOT NULL DEFAULT 7", Algorithm::Instant, "dictionary"),
        ("RENAME COLUMN b TO bb", Algorithm::Instant, "dictionary"),
        ("ALTER INDEX b INVISIBLE", Algorithm::Inplace, "dictionary"),
        ("RENAME INDEX old_name TO new_name", Algorithm::Inplace, "dictionary"),
        ("DROP INDEX old_name", Algorithm::Inplace, "dictionary"),
        ("MODIFY a VARCHAR(60) NOT NULL", Algorithm::Inplace, "dictionary"),
        ("ADD INDEX (b, a)", Algorithm::Inplace, "in place"),
        ("MODIFY b BIGINT", Algorithm::Copy, "INPLACE refused"),
        ("ENGINE=InnoDB", Algorithm::Copy, "rebuild"),
        ("MODIFY a VARCHAR(300) NOT NULL", Algorithm::Copy, "INPLACE refused"),
        ("COMMENT='new'", Algorithm::Inplace, "dictionary"),
        ("MODIFY b INT", Algorithm::Instant, "nothing to do"),
    ];
    for (alter, want, words) in cases {
        let mut db = table("cheapest").await;
        db.run("CREATE TABLE native LIKE t").await;
        db.run(&format!("ALTER TABLE native {alter}")).await;
        let mut spec = db.spec("t", alter);
        spec.algorithm = Algorithm::Auto;
        let handle = theseus::engine::start(spec, controls());
        let watch = handle.watch();
        assert_eq!(join(handle).await, Outcome::Succeeded, "{alter}");
        let chosen = watch.borrow().algorithm.clone().expect("an algorithm");
        assert_eq!(chosen.chosen, want, "{alter}: {}", chosen.reason);
        assert!(chosen.reason.contains(words), "{alter}: {}", chosen.reason);
        assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 500);
        let strip = |text: String| text.replace("`native`", "`t`").replace(" AUTO_INCREMENT=501", "").replace(" AUTO_INCREMENT=512", "");
        assert_eq!(strip(db.definition("t").await), strip(db.definition("native").await), "{alter}");
        assert_eq!(db.tables().await, ["native", "t"], "{alter}");
        db.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_algorithm_that_is_refused_is_never_replaced_silently() {
    let mut db = table("asked").await;
    let definition = db.definition("t").await;
    for (algorithm, alter) in
        [(Algorithm::Instant, "MODIFY b BIGINT"), (Algorithm::Instant, "ADD INDEX (b, a)"), (Algorithm::Inplace, "MODIFY b BIGINT")]
    {
        let mut spec = db.spec("t", alter);
        spec.algorithm = algorithm;
        match support::migrate(spec, controls()).await {
            Outcome::Refused { reason: Reason::AlgorithmNotSupported, message } => {
                assert!(message.contains("1845") || message.contains("1846"), "the server's words: {message}")
            }
            outcome => panic!("{alter}: {outcome:?}"),
        }
    }
    let mut spec = db.spec("t", "ADD COLUMN a INT");
    spec.algorithm = Algorithm::Instant;
    assert!(matches!(support::migrate(spec, controls()).await, Outcome::Refused { reason: Reason::AlterRejected, .. }));
    assert_eq!(db.definition("t").await, definition);
    assert_eq!(db.tables().await, ["t"]);
    // Asked for and possible, also where Auto would rather copy.
    let mut spec = db.spec("t", "ENGINE=InnoDB");
    spec.algorithm = Algorithm::Inplace;
    assert_eq!(support::migrate(spec, controls()).await, Outcome::Succeeded);
    db.drop().await;
}

/// The gate, a blocker and a cancel, as at a cut-over.
#[tokio::test(flavor = "multi_thread")]
async fn a_native_change_passes_the_same_gate() {
    let mut db = table("nativegate").await;
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let mut spec = db.spec("t", "ADD COLUMN c INT");
    spec.algorithm = Algorithm::Auto;
    let handle = theseus::engine::start(spec.clone(), manual.clone());
    let s = until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    assert_eq!(s.algorithm.map(|a| a.chosen), Some(Algorithm::Instant));
    assert!(!db.definition("t").await.contains("`c`"));
    handle.control(Controls { cancel: true, ..manual.clone() });
    assert_eq!(join(handle).await, Outcome::Cancelled);
    assert_eq!(db.tables().await, ["t"]);

    let mut blocker = db.connect().await;
    blocker.query_drop("START TRANSACTION; SELECT COUNT(*) FROM t").await.expect("block");
    let short = Controls { lock_timeout: Duration::from_secs(1), ..controls() };
    let handle = theseus::engine::start(spec.clone(), short);
    until(&handle, "the blocker is met", |s| s.cut_over.last_failure.is_some() || s.cut_over.blocked_by.is_some()).await;
    // Clients do not queue behind the request once it is given up.
    tokio::time::timeout(Duration::from_secs(3), db.value::<u64>("SELECT COUNT(*) FROM t")).await.expect("no client waits for long");
    blocker.query_drop("ROLLBACK").await.expect("unblock");
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert!(db.definition("t").await.contains("`c`"));
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// The engine dies after the change and before it could say so: the next one sees by the definition that it is done.
#[tokio::test(flavor = "multi_thread")]
async fn the_definition_tells_whether_a_native_change_was_made() {
    let mut db = table("nativedeath").await;
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let mut spec = db.spec("t", "ADD COLUMN c INT");
    spec.algorithm = Algorithm::Auto;
    let handle = theseus::engine::start(spec.clone(), manual.clone());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    drop(handle);
    db.run("ALTER TABLE t ADD COLUMN c INT, ALGORITHM=INSTANT").await;
    assert_eq!(support::migrate(spec.clone(), Controls { old_table: OldTable::Keep, ..controls() }).await, Outcome::Succeeded);
    db.run("CREATE TABLE _t_del (id INT)").await;
    theseus::engine::clean_up(&spec, true).await.expect("clean up");
    assert_eq!(db.tables().await, ["_t_del", "t"], "a table that was never ours is not dropped");
    db.drop().await;
}
