//! The visibility hole (DESIGN 1.1) and the barrier that closes it, on a server whose commits are held between the binary log and the
//! engine: semi-synchronous replication waits there for a replica that does not exist.
mod support;

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use support::{Db, PrivateServer, controls, join, until};
use theseus::engine::contract::progress::Publisher;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy, DeferIndexes, OldTable};
use theseus::engine::lifecycle::migrator::watched;
use theseus::engine::lifecycle::prepare::{Prepared, Wishes, prepare};
use theseus::engine::rows::applier::Applier;
use theseus::engine::rows::copier::Copier;
use theseus::engine::rows::inbox::Inbox;
use theseus::engine::rows::migration::Visibility;
use theseus::engine::rows::streamer::Streamer;
use theseus::engine::table::chooser::Refused;
use theseus::engine::throttle::decide::Decision;
use theseus::mysql::Session;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const OPTIONS: &[&str] = &[
    "--plugin-load-add=semisync_source.so",
    "--loose-rpl-semi-sync-source-wait-point=AFTER_SYNC",
    "--loose-rpl-semi-sync-source-timeout=2000",
];

/// Holds the next commits between log and engine for two seconds.
async fn hold_commits(db: &mut Db) {
    db.run("SET GLOBAL rpl_semi_sync_source_enabled = 0").await;
    db.run("SET GLOBAL rpl_semi_sync_source_enabled = 1").await;
}

/// The ghost's value of the changed row after one flush cycle that began right when the change was received.
async fn ghost_after_a_cycle(server: &PrivateServer, visibility: Visibility, gtid: bool) -> u64 {
    let mut db = Db::on(&server.url, "hole").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL)").await;
    db.run("INSERT INTO t VALUES (1, 0), (2, 0)").await;
    let spec = db.spec("t", "MODIFY v BIGINT NOT NULL");
    let mut control = Session::open(&spec.server).await.expect("connect");
    let (publisher, _snapshots) = Publisher::new("test".into());
    let mut touched = false;
    let refused = Refused::default();
    let wishes = Wishes { defer: DeferIndexes::Never, refused: &refused, old_table: OldTable::DropNow };
    let Ok(Prepared::Run(ready)) = prepare(&spec, wishes, &mut control, &publisher, &mut touched).await else {
        panic!("the migration is not refused");
    };
    let mut ready = *ready;
    assert_eq!(ready.migration.facts.gtid, gtid);
    Arc::get_mut(&mut ready.migration).expect("not shared yet").visibility = visibility;
    let m = ready.migration;
    let inbox = Arc::new(Inbox::new(ready.safe.point(), 1 << 20));
    let cancel = CancellationToken::new();
    let streamer = Streamer::open(&spec.server, ready.start, &ready.safe.position, watched(&m, 0).expect("a key"), Arc::clone(&inbox))
        .await
        .expect("a stream");
    let stream = tokio::spawn(streamer.run(cancel.clone()));
    let board = Arc::new(Mutex::new(ready.board));
    let records = Arc::new(Mutex::new(Vec::new()));
    let mut applier =
        Applier::open(Arc::clone(&m), Arc::clone(&inbox), Arc::clone(&board), Arc::clone(&records), 1, ready.safe.point(), &[], 0)
            .await
            .expect("an applier");
    let (_controls, control_levels) = watch::channel(controls());
    let (_allowed, allowed) = watch::channel(1);
    let (_decided, decided) = watch::channel(Decision::free());
    let copier = Arc::new(Copier::new(Arc::clone(&m), board, Arc::clone(&inbox), control_levels, allowed, decided, publisher, records));
    copier.worker(0, cancel.clone()).await.expect("the rows are copied");
    applier.cycle(&|| false).await.expect("a cycle");

    hold_commits(&mut db).await;
    let mut writer = db.connect().await;
    let update = tokio::spawn(async move {
        mysql_async::prelude::Queryable::query_drop(&mut writer, "UPDATE t SET v = 1 WHERE id = 1").await.expect("update");
    });
    let mut position = inbox.follow();
    tokio::time::timeout(Duration::from_secs(10), async {
        while inbox.counts().0 == 0 {
            position.changed().await.expect("the stream is alive");
        }
    })
    .await
    .expect("the change is received while its commit is held");
    assert!(!update.is_finished(), "the server does not hold the commit: the test would show nothing");
    let cycle = applier.cycle(&|| false).await.expect("a cycle");
    assert_eq!(cycle.reconciled, 1);
    let value = db.value("SELECT v FROM _t_gho WHERE id = 1").await;
    update.await.expect("the update returns");
    cancel.cancel();
    stream.await.expect("joined").expect("the stream ends well");
    db.drop().await;
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_received_change_is_read_only_behind_the_barrier() {
    let server = PrivateServer::start(OPTIONS).await;
    assert_eq!(
        ghost_after_a_cycle(&server, Visibility::Unchecked, true).await,
        0,
        "without the barrier the past is read and the change is lost"
    );
    assert_eq!(ghost_after_a_cycle(&server, Visibility::Gtids, true).await, 1);
    assert_eq!(ghost_after_a_cycle(&server, Visibility::Marker, true).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_gtids_and_ordered_commits_row_locks_are_the_barrier() {
    let options: Vec<&str> =
        OPTIONS.iter().copied().chain(["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", "--binlog-order-commits=OFF"]).collect();
    let server = PrivateServer::start(&options).await;
    assert_eq!(ghost_after_a_cycle(&server, Visibility::Unchecked, false).await, 0);
    assert_eq!(ghost_after_a_cycle(&server, Visibility::RowLocks, false).await, 1);
}

/// The whole engine, with commits held while rows are copied, while the tail is applied and at the cut-over.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_commits_are_held() {
    let server = PrivateServer::start(OPTIONS).await;
    let mut db = Db::on(&server.url, "held").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL)").await;
    db.run("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, 0 FROM n").await;
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    hold_commits(&mut db).await;
    let mut before = db.connect().await;
    let first = tokio::spawn(async move {
        mysql_async::prelude::Queryable::query_drop(&mut before, "UPDATE t SET v = 1 WHERE id <= 300").await.expect("update");
    });
    let handle = theseus::engine::start(db.spec("t", "MODIFY v BIGINT NOT NULL"), manual.clone());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    first.await.expect("joined");
    hold_commits(&mut db).await;
    db.run("UPDATE t SET v = v + 2 WHERE id BETWEEN 200 AND 500").await;
    hold_commits(&mut db).await;
    let mut last = db.connect().await;
    let held = tokio::spawn(async move {
        mysql_async::prelude::Queryable::query_drop(&mut last, "UPDATE t SET v = v + 4 WHERE id BETWEEN 400 AND 900")
            .await
            .expect("update");
    });
    handle.control(Controls { approved: true, ..manual });
    assert_eq!(join(handle).await, Outcome::Succeeded);
    held.await.expect("joined");
    let wrong =
        "SELECT COUNT(*) FROM t WHERE v <> IF(id <= 300, 1, 0) + IF(id BETWEEN 200 AND 500, 2, 0) + IF(id BETWEEN 400 AND 900, 4, 0)";
    assert_eq!(db.value::<u64>(wrong).await, 0);
    db.drop().await;
}
