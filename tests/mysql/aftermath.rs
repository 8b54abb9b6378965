//! What a death leaves behind: work that is done again, connection ids that others get, a statement that outlives its engine.
use crate::{proxy, scribe, support};

use mysql_async::prelude::Queryable;
use proxy::{Hold, Proxy, plain};
use scribe::fill;
use std::time::{Duration, Instant};
use support::{Db, PrivateServer, address, connect, controls, join, until};
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy};

const ROWS: u64 = 4000;
/// Made twice, it fails.
const ALTER: &str = "MODIFY pad VARCHAR(200) NOT NULL DEFAULT '-', MODIFY v DECIMAL(20,0) NOT NULL, ADD c INT";

fn manual(approved: bool) -> Controls {
    Controls { workers: 2, target_chunk_time: Duration::from_millis(50), cut_over_policy: CutOverPolicy::Manual, approved, ..controls() }
}

/// What an engine's death costs: no more than two chunks for each worker are copied again.
#[tokio::test(flavor = "multi_thread")]
async fn a_death_costs_two_chunks_a_worker_at_most() {
    const CHUNK: u64 = 50;
    const DEATHS: usize = 4;
    const WORKERS: u16 = 2;
    let server = PrivateServer::start(&[]).await;
    let proxy = Proxy::start(address(&server.url).port).await;
    let mut db = Db::on(&server.url, "repeat").await;
    fill(&mut db, ROWS).await;
    let spec = plain(db.spec("t", ALTER), &proxy);
    let controls = Controls { workers: WORKERS, ..controls() };
    let mut copied = 0;
    for _ in 0..DEATHS {
        let handle = theseus::engine::start_in(support::chunks_of(CHUNK), spec.clone(), controls.clone());
        copied += ROWS / (DEATHS as u64 + 1);
        until(&handle, "some rows are copied", |s| s.progress.rows_copied >= copied).await;
        // In the middle of a chunk: its statement has run, its end has not come.
        let mut caught = proxy.trap(&format!("^INSERT INTO `{}`.`_t_ghc` (kind, id, value) VALUES ('chunk'", db.name), Hold::Request);
        caught.sprung().await;
        drop(handle);
        caught.tear();
    }
    assert_eq!(join(theseus::engine::start_in(support::chunks_of(CHUNK), spec, controls)).await, Outcome::Succeeded);
    let chunks = proxy.said_since(0).iter().filter(|s| s.starts_with(&format!("INSERT INTO `{}`.`_t_gho`", db.name))).count();
    // One more for what lies beyond the last row.
    let needed = usize::try_from(ROWS / CHUNK).expect("small") + 1;
    println!("{chunks} chunks copied, {needed} needed, {DEATHS} deaths");
    assert!(chunks >= needed - 1, "the statements are counted: {chunks}");
    assert!(chunks > needed, "a death in a chunk repeats it: {chunks}");
    assert!(chunks <= needed + DEATHS * 2 * usize::from(WORKERS), "{chunks} chunks were copied, {needed} were needed");
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS);
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// After a restart the server gives the ids of our former connections to others. What those do is not ours: a TRUNCATE, which the log does
/// not say in rows, must not pass for our own statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_gives_our_connection_ids_to_others() {
    let server = PrivateServer::start(&[]).await;
    let mut db = Db::on(&server.url, "ids").await;
    fill(&mut db, 1000).await;
    // Far from the first ids, so that others can have them after the restart.
    let mut others = Vec::new();
    for _ in 0..60 {
        others.push(connect(&server.url).await);
    }
    let proxy = Proxy::start(address(&server.url).port).await;
    let never = Controls { verify: theseus::engine::contract::spec::VerifyPolicy::Never, ..manual(false) };
    let handle = theseus::engine::start(plain(db.spec("t", ALTER), &proxy), never);
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let ports: Vec<u16> = proxy.links().into_iter().map(|(port, _)| port).collect();
    let all: Vec<(u32, String)> = db.conn.query("SELECT ID, HOST FROM performance_schema.processlist").await.expect("list connections");
    let ours: Vec<u32> =
        all.into_iter().filter(|(_, host)| ports.iter().any(|p| host.ends_with(&format!(":{p}")))).map(|(id, _)| id).collect();
    assert!(ours.len() >= 4, "{ours:?}");
    drop(others);
    server.restart(true).await;
    until(&handle, "it is back", |s| s.resumed_count >= 1 && s.phase == Phase::AwaitingCutOver).await;
    let mut taken = Vec::new();
    let mut stranger = loop {
        let conn = connect(&server.url).await;
        assert!(taken.len() < 200, "no connection had one of {ours:?}");
        if ours.contains(&conn.id()) {
            break conn;
        }
        taken.push(conn);
    };
    stranger.query_drop(format!("TRUNCATE TABLE `{}`.t", db.name)).await.expect("truncate");
    let truncated = theseus::engine::contract::reason::Reason::TableTruncated;
    until(&handle, "the TRUNCATE is seen as somebody else's", |s| s.retrying.as_ref().is_some_and(|r| r.reason == truncated)).await;
    assert_eq!(stranger.query_first::<u64, _>(format!("SELECT COUNT(*) FROM `{}`.t", db.name)).await.expect("count"), Some(0));
}

/// A former engine's index build comes to its end while its successor's waits for the table: the indexes are there, and that is all.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_build_that_outlives_its_engine_is_no_failure() {
    let server = PrivateServer::start(&[]).await;
    let proxy = Proxy::start(address(&server.url).port).await;
    let mut db = Db::on(&server.url, "build").await;
    fill(&mut db, ROWS).await;
    let spec = plain(db.spec("t", ALTER), &proxy);
    let controls = Controls { defer_indexes: theseus::engine::contract::spec::DeferIndexes::Always, ..manual(true) };
    let words = format!("ALTER TABLE `{}`.`_t_gho` ADD KEY", db.name);
    let mut first = proxy.trap(&words, Hold::Request);
    let handle = theseus::engine::start(spec.clone(), controls.clone());
    first.sprung().await;
    drop(handle);
    let mut second = proxy.trap(&words, Hold::Request);
    let handle = theseus::engine::start(spec, controls);
    second.sprung().await;
    first.release();
    let end = Instant::now() + support::PATIENCE;
    while !db.definition("_t_gho").await.contains("KEY `v`") {
        assert!(Instant::now() < end, "the former engine's build is made");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    second.release();
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert!(db.definition("t").await.contains("KEY `v`"));
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

fn kept() -> Controls {
    Controls { old_table: theseus::engine::contract::spec::OldTable::Keep, ..controls() }
}

async fn small(prefix: &str) -> Db {
    let mut db = Db::new(prefix).await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL, CONSTRAINT t_chk_1 CHECK (a < 100))").await;
    db.run("INSERT INTO t VALUES (1, 1), (2, 2)").await;
    db
}

fn spec(db: &Db, id: &str, alter: &str) -> theseus::engine::contract::spec::MigrationSpec {
    theseus::engine::contract::spec::MigrationSpec { id: id.into(), ..db.spec("t", alter) }
}

/// The old table's name is no lock: each migration's old table has its own name, stays for its own time, and is dropped by its own clean-up.
#[tokio::test(flavor = "multi_thread")]
async fn each_migration_of_a_day_keeps_its_own_old_table() {
    let mut db = small("oldnames").await;
    let mut olds = Vec::new();
    for (id, alter) in [("first", "MODIFY a BIGINT NOT NULL"), ("second", "ADD b INT"), ("third", "ADD c INT"), ("fourth", "ADD d INT")] {
        let mut spec = spec(&db, id, alter);
        if id == "fourth" {
            spec.algorithm = theseus::engine::contract::spec::Algorithm::Instant;
        }
        let handle = theseus::engine::start(spec, kept());
        let watch = handle.watch();
        assert_eq!(join(handle).await, Outcome::Succeeded, "{id}");
        olds.push(watch.borrow().tables.old.clone());
    }
    assert_eq!((olds[0].as_str(), olds[3].as_str()), ("_t_del", ""));
    assert!(olds[1].starts_with("_t_20") && olds[1].ends_with("_del") && olds[1] != olds[2], "{olds:?}");
    for (old, columns) in [(&olds[0], 2), (&olds[1], 2), (&olds[2], 3)] {
        let sql = format!("SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{old}'");
        assert_eq!(db.value::<u64>(&sql).await, columns, "{old}");
        assert_eq!(db.value::<u64>(&format!("SELECT COUNT(*) FROM `{old}`")).await, 2, "{old}");
    }
    // The same command again finds its end, though its state was moved.
    let handle = theseus::engine::start(spec(&db, "third", "ADD c INT"), kept());
    let watch = handle.watch();
    assert!(
        matches!(join(handle).await, Outcome::Refused { reason: theseus::engine::contract::reason::Reason::AlterRejected, .. }),
        "it was changed since"
    );
    db.run("ALTER TABLE t DROP COLUMN d").await;
    let handle = theseus::engine::start(spec(&db, "third", "ADD c INT"), kept());
    drop(watch);
    let watch = handle.watch();
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(watch.borrow().tables.old, olds[2]);
    // In any order, and beside one that is at work.
    let working = theseus::engine::start(spec(&db, "fifth", "ADD e INT"), manual(false));
    until(&working, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    for (id, old) in [("third", &olds[2]), ("first", &olds[0]), ("second", &olds[1])] {
        assert!(db.tables().await.contains(old), "{id}");
        theseus::engine::clean_up(&spec(&db, id, "ADD b INT"), true).await.expect(id);
        assert!(!db.tables().await.contains(old), "{id}");
    }
    theseus::engine::clean_up(&spec(&db, "fourth", "ADD d INT"), false).await.expect("fourth");
    assert_eq!(db.tables().await, ["_t_ghc", "_t_gho", "t"]);
    working.control(manual(true));
    assert_eq!(join(working).await, Outcome::Succeeded);
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// A table under the old table's name that is somebody else's is left alone, whether it is there at the start, comes during the copy, or
/// takes the place of the old table afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_somebody_else_under_the_old_name_is_left_alone() {
    let mut db = small("oldtaken").await;
    let mine = "CREATE TABLE _t_del (mine INT); INSERT INTO _t_del VALUES (42)";
    db.run(mine).await;
    assert_eq!(support::migrate(spec(&db, "first", "ADD b INT"), controls()).await, Outcome::Succeeded);
    assert_eq!(db.tables().await, ["_t_del", "t"]);
    assert_eq!(db.value::<u64>("SELECT mine FROM _t_del").await, 42);
    db.run("DROP TABLE _t_del").await;

    let handle = theseus::engine::start(spec(&db, "second", "ADD c INT"), Controls { cut_over_policy: CutOverPolicy::Manual, ..kept() });
    let s = until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    assert_eq!(s.tables.old, "_t_del");
    db.run(mine).await;
    handle.control(kept());
    let watch = handle.watch();
    assert_eq!(join(handle).await, Outcome::Succeeded);
    let s = watch.borrow().clone();
    assert!(s.tables.old.starts_with("_t_20") && s.resumed_count == 1, "{s:?}");
    assert_eq!(db.value::<u64>("SELECT mine FROM _t_del").await, 42);

    db.run(&format!("DROP TABLE `{0}`; CREATE TABLE `{0}` (mine INT)", s.tables.old)).await;
    let error = theseus::engine::clean_up(&spec(&db, "second", "ADD c INT"), true).await.expect_err("not ours");
    assert_eq!(error.reason, theseus::engine::contract::reason::Reason::NameTaken);
    assert!(db.tables().await.contains(&s.tables.old), "what is not ours is not dropped");
    db.drop().await;
}
