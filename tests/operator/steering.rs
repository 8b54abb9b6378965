//! Steering while it runs: throttle, pause, suspend, live settings, nonsense; and how often the status is written meanwhile.
use crate::shop::{Shop, slowly};
use crate::support::soon;
use serde_json::json;
use std::time::{Duration, Instant};

const ROWS: u64 = 40_000;

async fn copied(shop: &mut Shop) -> u64 {
    shop.db.value("SELECT COUNT(*) FROM _orders_gho").await
}

#[tokio::test]
async fn throttling_stops_the_copying_within_a_second_and_changes_still_flow() {
    let mut shop = Shop::new("throttle").await;
    shop.table("orders", ROWS).await;
    let mut migration = shop.migrate("m", "orders", slowly(), &[]).await;
    migration.until("it copies", |version| version.reason() == "Copying").await;
    crate::cluster::until("some rows are copied", async || copied(&mut shop).await > 0).await;

    migration.annotate("throttle", Some("true")).await;
    let since = Instant::now();
    let limit = soon(Duration::from_secs(1));
    tokio::time::sleep_until((since + limit).into()).await;
    let then = copied(&mut shop).await;
    assert!((1..ROWS).contains(&then), "{then} of {ROWS}: the test's table is too small for this machine");
    let throttled = migration.until("it is throttled", |version| version.is("Throttled", "True")).await;
    assert_eq!(throttled.condition("Throttled"), "True/User");
    assert_eq!(throttled.condition("Ready"), "False/Copying");
    let status = throttled.status().throttle.unwrap();
    assert!(status.active && status.reason.as_deref() == Some("User") && status.since.is_some(), "{status:?}");

    shop.changes_flow("orders").await;
    // Writers move numbers all the time: those are written every ten seconds, and not more often.
    let writers = shop.writers("orders", ROWS, 20.0).await;
    let first = migration.until("changes are counted", |version| applied(version) > 0).await;
    let second = migration.until("and more of them", |version| applied(version) > applied(&first)).await;
    let between = second.at - first.at;
    assert!(between > rarely(), "numbers alone were written again after {between:?}");
    let rows: u64 = shop.db.value("SELECT COUNT(*) FROM _orders_gho WHERE id BETWEEN 1 AND 40000").await;
    assert!(rows <= then, "{then} rows were copied when it was throttled, {rows} now");
    let progress = second.status().progress.unwrap();
    assert_eq!(progress.rows_copied, first.status().progress.unwrap().rows_copied);

    migration.annotate("throttle", None).await;
    let released = migration.until("it is released", |version| version.is("Throttled", "False")).await;
    assert!(released.status().throttle.is_some_and(|throttle| !throttle.active && throttle.total_seconds >= 8));
    // A changed setting takes effect while it runs.
    migration.patch(json!({"spec": {"throttle": {"niceRatioPercent": 0}, "copy": {"targetChunkTime": "500ms"}}})).await;
    migration.succeeded().await;
    let mut writers = writers;
    writers.stop().await;
    writers.verify().await.unwrap();
    number_writes_are_rare(&migration);
    let events = migration.events().await;
    assert!(events.iter().any(|event| event == "Throttled") && events.iter().any(|event| event == "Unthrottled"), "{events:?}");
    shop.end(&[]).await;
}

fn applied(version: &crate::migration::Version) -> i64 {
    version.status().progress.map_or(0, |progress| progress.changes_applied)
}

/// Numbers alone are written every ten seconds; the watch may bunch versions together, more so on a busy machine.
fn rarely() -> Duration {
    Duration::from_secs(10).saturating_sub(soon(Duration::from_secs(2))).max(Duration::from_secs(2))
}

/// Between two versions that differ in numbers and sentences only there is so much time.
#[track_caller]
fn number_writes_are_rare(migration: &crate::migration::Migration) {
    let versions = migration.versions();
    for pair in versions.windows(2) {
        let essence = |version: &crate::migration::Version| {
            let mut object = version.object.clone();
            let mut status = object.status.take().unwrap_or_default();
            (status.progress, status.message, status.verification) = (None, None, None);
            status.conditions.iter_mut().for_each(|condition| condition.message = String::new());
            if let Some(throttle) = &mut status.throttle {
                (throttle.total_seconds, throttle.detail) = (0, None);
            }
            (object.spec, object.metadata.annotations, object.metadata.finalizers, status)
        };
        let apart = pair[1].at - pair[0].at;
        let same = essence(&pair[0]) == essence(&pair[1]);
        assert!(!same || apart > rarely(), "after {apart:?}: {:#?}\n{:#?}", pair[0].status(), pair[1].status());
    }
}

#[tokio::test]
async fn pausing_gives_everything_back_and_the_work_goes_on_where_it_was() {
    let mut shop = Shop::new("pause").await;
    shop.table("orders", ROWS).await;
    let mut migration = shop.migrate("m", "orders", slowly(), &[]).await;
    crate::cluster::until("some rows are copied", async || {
        shop.strange_tables(&["orders"]).await.contains(&"_orders_gho".to_owned()) && copied(&mut shop).await > 0
    })
    .await;

    migration.annotate("pause", Some("true")).await;
    let paused = migration.until("it is paused", |version| version.is("Paused", "True")).await;
    assert_eq!(paused.condition("Ready"), "False/Paused");
    crate::cluster::until("its connections are gone", async || shop.connections().await == 0).await;
    let then = copied(&mut shop).await;
    assert!((1..ROWS).contains(&then), "{then}");
    migration.annotate("pause", Some("false")).await;
    let resumed = migration.until("it goes on", |version| version.reason() == "Copying").await;
    assert!(resumed.status().engine.unwrap().resumed_count >= 1);
    assert!(copied(&mut shop).await >= then, "the work was kept");

    migration.patch(json!({"spec": {"suspend": true}})).await;
    migration.until("it is suspended", |version| version.is("Paused", "True")).await;
    crate::cluster::until("its connections are gone", async || shop.connections().await == 0).await;
    migration.patch(json!({"spec": {"suspend": false, "throttle": {"niceRatioPercent": 0}}})).await;
    let end = migration.succeeded().await;
    assert!(end.status().engine.unwrap().resumed_count >= 2);
    assert_eq!(shop.db.value::<u64>("SELECT COUNT(*) FROM orders").await, ROWS);
    assert!(shop.is_migrated("orders").await);
    let events = migration.events().await;
    assert!(events.iter().any(|event| event == "Paused") && events.iter().any(|event| event == "Resumed"), "{events:?}");
    shop.end(&[]).await;
}

#[tokio::test]
async fn nonsense_is_told_and_ignored() {
    let mut shop = Shop::new("nonsense").await;
    shop.table("orders", 100).await;
    let annotations = [("throttle", "yes"), ("pause", "1"), ("cut-over", "true"), ("cancel", "please"), ("trottle", "true"), ("retry", "")];
    let mut migration = shop.migrate("m", "orders", json!({"cutOver": {"policy": "Manual"}}), &annotations).await;
    let waiting = migration.phase("AwaitingCutOver").await;
    assert_eq!(waiting.condition("Accepted"), "False/InvalidAnnotation");
    let message = waiting.message("Accepted");
    for (name, _) in annotations {
        assert!(message.contains(&format!("theseus.dev/{name} ")), "{name}: {message}");
    }
    let (type_, note) = migration.event("NotAccepted").await;
    assert!(type_ == "Warning" && note.contains("theseus.dev/throttle"), "{type_} {note}");
    migration
        .patch(json!({"metadata": {"annotations": annotations.map(|(name, _)| (format!("theseus.dev/{name}"), serde_json::Value::Null))
        .into_iter().collect::<serde_json::Map<_, _>>()}}))
        .await;
    migration.until("it is accepted", |version| version.is("Accepted", "True")).await;
    migration.annotate("cut-over", Some("approved")).await;
    migration.succeeded().await;
    shop.end(&[]).await;
}
