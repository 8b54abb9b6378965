//! What a death leaves behind: work that is done again, connection ids that others get, a statement that outlives its engine.
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/scribe.rs"]
mod scribe;
mod support;

use mysql_async::prelude::Queryable;
use proxy::{Hold, Proxy, plain};
use scribe::fill;
use std::time::{Duration, Instant};
use support::{Db, PrivateServer, address, connect, controls, join, until};
use theseus::engine::snapshot::{Outcome, Phase};
use theseus::engine::spec::{Controls, CutOverPolicy};

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
    // Below a millisecond it is the number of rows.
    let controls = Controls { workers: WORKERS, target_chunk_time: Duration::from_micros(CHUNK), ..controls() };
    let mut copied = 0;
    for _ in 0..DEATHS {
        let handle = theseus::engine::start(spec.clone(), controls.clone());
        copied += ROWS / (DEATHS as u64 + 1);
        until(&handle, "some rows are copied", |s| s.progress.rows_copied >= copied).await;
        // In the middle of a chunk: its statement has run, its end has not come.
        let mut caught = proxy.trap(&format!("^INSERT INTO `{}`.`_t_ghc` (kind, id, value) VALUES ('chunk'", db.name), Hold::Request);
        caught.sprung().await;
        drop(handle);
        caught.tear();
    }
    assert_eq!(support::migrate(spec, controls).await, Outcome::Succeeded);
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
    let never = Controls { verify: theseus::engine::spec::VerifyPolicy::Never, ..manual(false) };
    let handle = theseus::engine::start(plain(db.spec("t", ALTER), &proxy), never);
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    let ports: Vec<u16> = proxy.links().into_iter().map(|(port, _)| port).collect();
    let all: Vec<(u32, String)> = db.conn.query("SELECT ID, HOST FROM information_schema.PROCESSLIST").await.expect("list connections");
    let ours: Vec<u32> =
        all.into_iter().filter(|(_, host)| ports.iter().any(|p| host.ends_with(&format!(":{p}")))).map(|(id, _)| id).collect();
    assert!(ours.len() >= 4, "{ours:?}");
    drop(others);
    server.restart(true).await;
    until(&handle, "it is back", |s| s.resumed_count == 1 && s.phase == Phase::AwaitingCutOver).await;
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
    match join(handle).await {
        Outcome::Failed { reason: theseus::engine::reason::Reason::DefinitionChanged, .. } => {}
        outcome => panic!("{outcome:?}"),
    }
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
    let controls = Controls { defer_indexes: theseus::engine::spec::DeferIndexes::Always, ..manual(true) };
    let words = format!("ALTER TABLE `{}`.`_t_gho` ADD KEY", db.name);
    let mut first = proxy.trap(&words, Hold::Request);
    let handle = theseus::engine::start(spec.clone(), controls.clone());
    first.sprung().await;
    drop(handle);
    let mut second = proxy.trap(&words, Hold::Request);
    let handle = theseus::engine::start(spec, controls);
    second.sprung().await;
    first.release();
    let end = Instant::now() + Duration::from_secs(20);
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
