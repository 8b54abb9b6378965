//! Verification bites (rule 11): damage that no event tells of is found before the swap, repaired once, and fails the migration when it
//! comes back; a busy table is never blamed.
use crate::support;

use mysql_async::prelude::Queryable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Db, controls, join, until};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy};

async fn table(prefix: &str) -> Db {
    let mut db = Db::new(prefix).await;
    db.run("SET SESSION cte_max_recursion_depth = 1000000").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL, b VARCHAR(50) CHARACTER SET latin1, d DATETIME(6), f FLOAT, j JSON, e ENUM('x','y'))").await;
    db.run("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT i, i, CONCAT('v', i), '2024-05-06 07:08:09.123456', i / 7, JSON_OBJECT('i', i), 'x' FROM n").await;
    db
}

fn manual() -> Controls {
    Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() }
}

/// One kind of damage.
type Damage = &'static [&'static str];

const DAMAGES: &[Damage] = &[
    &["UPDATE _t_gho SET a = -1 WHERE id = 17"],
    &["UPDATE _t_gho SET b = NULL WHERE id = 18"],
    &["UPDATE _t_gho SET f = f + 0.0001 WHERE id = 19"],
    &["DELETE FROM _t_gho WHERE id = 2999"],
    &["INSERT INTO _t_gho SELECT 700000, a, b, d, f, j, e FROM t WHERE id = 1"],
    &["UPDATE t SET a = a + 1 WHERE id = 21"],
    &["DELETE FROM t WHERE id = 22"],
    &["INSERT INTO t SELECT 800000, a, b, d, f, j, e FROM t WHERE id = 1"],
];

/// Both for columns that are compared by an expression and for those that go through a temporary table.
const ALTERS: &[&str] =
    &["MODIFY a BIGINT NOT NULL, MODIFY b VARCHAR(60) CHARACTER SET utf8mb4", "MODIFY a VARCHAR(20) NOT NULL, MODIFY e VARCHAR(5)"];

/// Damage done behind the log's back at the closed gate: the next pass finds and repairs it.
#[tokio::test(flavor = "multi_thread")]
async fn silent_damage_is_found_and_repaired_before_the_swap() {
    for alter in ALTERS {
        let mut db = table("damage").await;
        let handle = theseus::engine::start(db.spec("t", alter), manual());
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        db.run("SET SESSION sql_log_bin = 0").await;
        for damage in DAMAGES {
            for sql in *damage {
                db.run(sql).await;
            }
        }
        db.run("SET SESSION sql_log_bin = 1").await;
        let s = until(&handle, "all of it is found", |s| s.verification.as_ref().is_some_and(|v| v.rows_repaired >= DAMAGES.len() as u64))
            .await;
        let found = s.verification.map(|v| (v.rows_repaired, v.rows_different));
        assert_eq!(found, Some((DAMAGES.len() as u64, DAMAGES.len() as u64)), "and nothing else");
        assert_eq!(s.phase, Phase::AwaitingCutOver);
        let expected = db.rows("SELECT id, CAST(a AS CHAR), CONVERT(b USING utf8mb4), d, f, j, CAST(e AS CHAR) FROM t ORDER BY id").await;
        handle.control(Controls { approved: true, ..manual() });
        assert_eq!(join(handle).await, Outcome::Succeeded, "{alter}");
        let now = db.rows("SELECT id, CAST(a AS CHAR), CONVERT(b USING utf8mb4), d, f, j, CAST(e AS CHAR) FROM t ORDER BY id").await;
        assert_eq!(now.len(), 3000 - 1 + 1);
        assert_eq!(now, expected, "{alter}");
        db.drop().await;
    }
}

/// Damage done while rows are copied is found by the first pass, without anybody waiting.
#[tokio::test(flavor = "multi_thread")]
async fn damage_done_during_the_copy_is_found_by_the_first_pass() {
    let mut db = table("early").await;
    let slow = Controls { target_chunk_time: Duration::from_millis(1), nice_ratio_percent: 1000, workers: 1, ..controls() };
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), slow);
    until(&handle, "rows are copied", |s| s.progress.rows_copied > 100).await;
    db.run("SET SESSION sql_log_bin = 0").await;
    db.run("UPDATE t SET a = 4242 WHERE id = 1").await;
    db.run("DELETE FROM _t_gho WHERE id = 2").await;
    db.run("SET SESSION sql_log_bin = 1").await;
    handle.control(controls());
    let watch = handle.watch();
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert!(watch.borrow().verification.as_ref().is_some_and(|v| v.complete && v.rows_repaired == 2), "{:?}", watch.borrow().verification);
    assert_eq!(db.value::<i64>("SELECT a FROM t WHERE id = 1").await, 4242);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, 3000);
    db.drop().await;
}

/// A difference that comes back although it is repaired fails the migration, with key and column.
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_that_comes_back_fails_with_key_and_column() {
    let mut db = table("stubborn").await;
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), manual());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    // A ghost that is wrong whatever is written to it.
    let mut other = db.connect().await;
    other.query_drop("SET SESSION sql_log_bin = 0").await.expect("no log");
    other
        .query_drop("CREATE TRIGGER spoil BEFORE INSERT ON _t_gho FOR EACH ROW SET NEW.a = IF(NEW.id = 33, -33, NEW.a)")
        .await
        .expect("a trigger");
    db.run("UPDATE t SET f = 0.5 WHERE id = 33").await;
    match join(handle).await {
        Outcome::Failed { reason: Reason::VerificationFailed, message } => {
            assert!(message.contains("= 33 ") && message.contains("`a`") && !message.contains("`b`"), "{message}");
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(db.value::<i64>("SELECT a FROM t WHERE id = 33").await, 33);
    db.drop().await;
}

/// Rows that change all the time differ at every look and are never blamed.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_table_is_never_blamed() {
    let db = table("busy").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for n in 0..3_u32 {
        let mut conn = db.connect().await;
        let stop = Arc::clone(&stop);
        writers.push(tokio::spawn(async move {
            let mut i = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                i += 1;
                conn.query_drop(format!("UPDATE t SET a = a + 1 WHERE id IN ({}, {})", 1 + n, 1 + (i * 7 + n) % 3000))
                    .await
                    .expect("update");
            }
        }));
    }
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), manual());
    let s = until(&handle, "three passes are done", |s| s.verification.as_ref().is_some_and(|v| v.chunks_checked >= 3)).await;
    assert_eq!(s.verification.map(|v| v.rows_repaired), Some(0), "every difference was explained by an event");
    handle.control(Controls { approved: true, ..manual() });
    assert_eq!(join(handle).await, Outcome::Succeeded);
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no statement of a writer failed");
    }
    db.drop().await;
}

/// While the gate is closed comparing goes on at leisure; what holds the copy holds it too.
#[tokio::test(flavor = "multi_thread")]
async fn comparing_goes_on_at_the_gate_and_rests_while_a_person_throttles() {
    let db = table("rests").await;
    let handle = theseus::engine::start(db.spec("t", ALTERS[0]), manual());
    let checked = |s: &theseus::engine::contract::snapshot::Snapshot| s.verification.as_ref().map_or(0, |v| v.chunks_checked);
    let first = checked(&until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await);
    until(&handle, "a pass without a change", |s| checked(s) > first).await;
    // Where nothing changes, passes become rare.
    let mut writer = db.connect().await;
    let writing = tokio::spawn(async move {
        loop {
            for value in [1, 2] {
                writer.query_drop(format!("UPDATE t SET a = {value} WHERE id = 1")).await.expect("write");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let first = checked(&handle.watch().borrow().clone());
    until(&handle, "passes go on", |s| checked(s) >= first + 2).await;
    handle.control(Controls { throttled_by_user: true, ..manual() });
    // The ranges until it hears of that; after them the one under way may end. A pass begins every two seconds otherwise.
    tokio::time::sleep(support::soon(Duration::from_millis(300))).await;
    let held = checked(&handle.watch().borrow().clone());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = checked(&handle.watch().borrow().clone());
    assert!(after <= held + 1, "{held} ranges when it was held, {after} five seconds later");
    handle.control(manual());
    until(&handle, "it goes on", |s| checked(s) >= after + 2).await;
    writing.abort();
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    db.drop().await;
}

/// The same damage in two rows, or in many, is as visible as in one: what adds the rows up must not take one for the other's remedy.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_damage_in_an_even_number_of_rows_is_found() {
    let mut db = table("even").await;
    let handle = theseus::engine::start(db.spec("t", ALTERS[0]), manual());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    db.run("SET SESSION sql_log_bin = 0").await;
    let mut found = 0;
    for rows in [2_u64, 2, 2, 1000] {
        let first = 1 + found;
        db.run(&format!("UPDATE _t_gho SET e = 'y', d = d + INTERVAL 1 DAY WHERE id >= {first} AND id < {}", first + rows)).await;
        found += rows;
        until(&handle, "all of them are found", |s| s.verification.as_ref().is_some_and(|v| v.rows_repaired >= found)).await;
    }
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t WHERE e = 'x' AND d = '2024-05-06 07:08:09.123456'").await, 3000);
    db.drop().await;
}

/// A table with a stored generated column whose value depends on the session that wrote it: 22:00 UTC is the next day in +08:00.
async fn dated(prefix: &str, zone: &str) -> Db {
    let mut db = Db::new(prefix).await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL, ts TIMESTAMP NULL, d DATE AS (DATE(ts)) STORED, v INT AS (a + 1) VIRTUAL, KEY v (v))").await;
    db.run(&format!("SET SESSION cte_max_recursion_depth = 1000000, time_zone = '{zone}'")).await;
    db.run("INSERT INTO t (id, a, ts) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT i, i, FROM_UNIXTIME(1717279200) FROM n").await;
    db.run("SET SESSION time_zone = '+00:00'").await;
    db
}

/// Nobody writes to a generated column, and it may be wrong all the same: it is compared as it is stored.
#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_stored_generated_column_is_found() {
    let mut db = dated("computed", "+00:00").await;
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), manual());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let wanted = db.rows("SELECT id, a, ts, d, v FROM t ORDER BY id").await;
    db.run("SET SESSION sql_log_bin = 0, time_zone = '+08:00'").await;
    for sql in [
        "UPDATE _t_gho SET ts = ts + INTERVAL 1 SECOND WHERE id IN (5, 1999)",
        "UPDATE _t_gho SET ts = ts - INTERVAL 1 SECOND WHERE id IN (5, 1999)",
    ] {
        db.run(sql).await;
    }
    db.run("SET SESSION sql_log_bin = 1, time_zone = '+00:00'").await;
    assert_eq!(
        db.value::<u64>("SELECT COUNT(*) FROM t JOIN _t_gho g USING (id) WHERE t.ts = g.ts AND t.d <> g.d").await,
        2,
        "only d differs"
    );
    let s = until(&handle, "both are found", |s| s.verification.as_ref().is_some_and(|v| v.rows_repaired >= 2)).await;
    let verification = s.verification.expect("just seen");
    assert_eq!((verification.rows_repaired, verification.rows_different), (2, 2));
    assert_eq!(
        verification.scope,
        "3 columns as stored, 1 after the change of type (1 of them also by samples of what the server shows), not comparable: \
         values that are not stored in rows (virtual columns, expressions) in the indexes v"
    );
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.rows("SELECT id, a, ts, d, v FROM t ORDER BY id").await, wanted);
    db.drop().await;
}

/// Values that other sessions computed, with another time zone, are computed anew by a native ALTER too: no damage, and told.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_native_alter_computes_anew_is_no_damage() {
    let mut db = dated("anew", "+08:00").await;
    db.run("CREATE TABLE m LIKE t").await;
    db.run("SET SESSION time_zone = '+08:00'").await;
    db.run("INSERT INTO m (id, a, ts) SELECT id, a, ts FROM t").await;
    db.run("SET SESSION time_zone = '+00:00'").await;
    db.run("ALTER TABLE m MODIFY a BIGINT NOT NULL, ALGORITHM=COPY").await;
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), controls());
    let watch = handle.watch();
    assert_eq!(join(handle).await, Outcome::Succeeded);
    let verification = watch.borrow().verification.clone().expect("it was compared");
    assert!(verification.scope.ends_with("recomputed: d"), "{verification:?}");
    assert_eq!((verification.rows_repaired, verification.rows_different), (0, 0));
    assert_eq!(db.rows("SELECT id, a, ts, d FROM t ORDER BY id").await, db.rows("SELECT id, a, ts, d FROM m ORDER BY id").await);
    db.drop().await;
}

/// What cannot be compared is named.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_told() {
    let mut db = dated("scope", "+00:00").await;
    db.run("ALTER TABLE t ADD s BIGINT AS (a * 2) STORED, ADD w VARCHAR(20), ADD x INT").await;
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL, MODIFY w INT, ADD n INT, DROP x"), controls());
    let watch = handle.watch();
    assert_eq!(join(handle).await, Outcome::Succeeded);
    let verification = watch.borrow().verification.clone().expect("it was compared");
    assert_eq!(
        verification.scope,
        "3 columns as stored, 2 after the change of type (1 of them also by samples of what the server shows), not comparable: s, values that are not stored in rows (virtual columns, expressions) in the indexes v"
    );
    db.drop().await;
}
