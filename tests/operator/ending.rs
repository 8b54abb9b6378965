//! Cancelled or deleted in each phase: nothing is left in the database, and the table is as it was.
use crate::cluster::until;
use crate::migration::Migration;
use crate::proxy::{Line, Proxy};
use crate::shop::{BOUND, Shop, slowly, with};
use crate::support::{address, mysql_url};
use futures::future::join_all;
use serde_json::json;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Queued,
    Inspecting,
    Copying,
    Throttled,
    Paused,
    AwaitingCutOver,
}

const PHASES: [Phase; 6] = [Phase::Queued, Phase::Inspecting, Phase::Copying, Phase::Throttled, Phase::Paused, Phase::AwaitingCutOver];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Cancelled,
    Deleted,
}

const ROWS: u64 = 30_000;

/// What a phase needs to be held.
struct Held {
    migration: Migration,
    rows: u64,
    proxy: Option<Proxy>,
    /// Has the table that the migration waits for.
    other: Option<Migration>,
}

async fn hold(shop: &mut Shop, phase: Phase) -> Held {
    let rows = if matches!(phase, Phase::Copying | Phase::Throttled | Phase::Paused) { ROWS } else { 200 };
    shop.table("orders", rows).await;
    let (mut proxy, mut other) = (None, None);
    let migration = match phase {
        Phase::Queued => {
            let mut first = shop.migrate("first", "orders", json!({"cutOver": {"policy": "Manual"}}), &[]).await;
            first.phase("AwaitingCutOver").await;
            other = Some(first);
            let mut second = shop.migrate("m", "orders", json!({}), &[]).await;
            second.phase("Queued").await;
            second
        }
        Phase::Inspecting => {
            let url = address(&mysql_url());
            let line = Proxy::start(format!("{}:{}", url.host, url.port).parse().unwrap(), Line::Hanging).await;
            shop.server("hanging", line.port, 10).await;
            proxy = Some(line);
            let mut migration = shop.migrate("m", "orders", json!({"target": {"serverRef": {"name": "hanging"}}}), &[]).await;
            migration.until("it inspects", |version| version.reason() == "Inspecting").await;
            migration
        }
        Phase::Copying | Phase::Throttled | Phase::Paused => {
            let mut migration = shop.migrate("m", "orders", slowly(), &[]).await;
            migration.until("it copies", |version| version.reason() == "Copying").await;
            until("some rows are copied", async || shop.db.value::<u64>("SELECT COUNT(*) FROM _orders_gho").await > 0).await;
            if phase == Phase::Throttled {
                migration.annotate("throttle", Some("true")).await;
                migration.until("it is throttled", |version| version.is("Throttled", "True")).await;
            }
            if phase == Phase::Paused {
                migration.annotate("pause", Some("true")).await;
                migration.until("it is paused", |version| version.is("Paused", "True")).await;
            }
            migration
        }
        Phase::AwaitingCutOver => {
            let mut migration = shop.migrate("m", "orders", json!({"cutOver": {"policy": "Manual"}}), &[]).await;
            migration.phase("AwaitingCutOver").await;
            migration
        }
    };
    Held { migration, rows, proxy, other }
}

async fn ended_while(phase: Phase, end: End) {
    let mut shop = Shop::new("ending").await;
    eprintln!("{end:?} while {phase:?}: {}", shop.namespace);
    let Held { mut migration, rows, proxy, other } = hold(&mut shop, phase).await;
    match end {
        End::Cancelled => migration.annotate("cancel", Some("true")).await,
        End::Deleted => migration.delete().await,
    }
    if let Some(proxy) = &proxy {
        proxy.set(Line::Open);
    }
    match end {
        End::Cancelled => {
            let cancelled = migration.within(BOUND, "it is cancelled", |version| version.is("Succeeded", "False")).await;
            assert_eq!(cancelled.condition("Succeeded"), "False/Cancelled", "{phase:?}");
            assert_eq!(cancelled.phase(), "Cancelled");
            migration.event("Cancelled").await;
        }
        End::Deleted => migration.gone(BOUND).await,
    }
    if let Some(mut other) = other {
        // Whoever has the table is not disturbed.
        assert_eq!(other.latest().phase(), "AwaitingCutOver");
        other.annotate("cancel", Some("true")).await;
        other.until("it is cancelled", |version| version.is("Succeeded", "False")).await;
    }
    shop.untouched("orders", rows).await;
    until("its connections are gone", async || shop.connections().await == 0).await;
    shop.end(&[]).await;
}

#[tokio::test]
async fn cancelled_in_each_phase_nothing_is_left() {
    join_all(PHASES.map(|phase| ended_while(phase, End::Cancelled))).await;
}

#[tokio::test]
async fn deleted_in_each_phase_nothing_is_left() {
    futures::join!(join_all(PHASES.map(|phase| ended_while(phase, End::Deleted))), deleted_while_the_server_is_away());
}

/// What is left is removed when the server comes back in time; else the object goes all the same, and says what is left and where.
async fn deleted_while_the_server_is_away() {
    let mut shop = Shop::new("away").await;
    let url = address(&mysql_url());
    let (mut migrations, mut lines) = (Vec::new(), Vec::new());
    for table in ["orders", "items"] {
        shop.table(table, 200).await;
        let line = Proxy::start(format!("{}:{}", url.host, url.port).parse().unwrap(), Line::Open).await;
        shop.server(table, line.port, 10).await;
        let change = json!({"target": {"serverRef": {"name": table}}, "cutOver": {"policy": "Manual"}});
        let mut migration = shop.migrate(table, table, change, &[]).await;
        migration.phase("AwaitingCutOver").await;
        migrations.push(migration);
        lines.push(line);
    }
    for (migration, line) in migrations.iter().zip(&lines) {
        line.set(Line::Cut);
        migration.delete().await;
    }
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(shop.strange_tables(&["orders", "items"]).await, ["_items_ghc", "_items_gho", "_orders_ghc", "_orders_gho"]);
    lines[0].set(Line::Open);
    let [mut back, mut gone]: [Migration; 2] = migrations.try_into().ok().unwrap();
    back.gone(BOUND).await;
    assert_eq!(shop.strange_tables(&["orders", "items"]).await, ["_items_ghc", "_items_gho"]);
    gone.gone(theseus::controller::visit::cleanup::BOUND + BOUND).await;
    let (type_, note) = gone.event("CleanUpAbandoned").await;
    for word in ["_items_gho", "_items_ghc", "127.0.0.1"] {
        assert!(type_ == "Warning" && note.contains(word), "{note}");
    }
    assert!(!shop.is_migrated("orders").await && !shop.is_migrated("items").await);
    shop.end(&[]).await;
}

/// With the policy Orphan the tables stay: for whoever wants to look at them, or takes the object away for a while.
#[tokio::test]
async fn orphans_stay() {
    let mut shop = Shop::new("orphan").await;
    for table in ["deleted", "cancelled"] {
        shop.table(table, 200).await;
    }
    let spec = || json!({"deletionPolicy": "Orphan", "cutOver": {"policy": "Manual"}});
    let mut deleted = shop.migrate("deleted", "deleted", spec(), &[]).await;
    let mut cancelled = shop.migrate("cancelled", "cancelled", with(spec(), json!({})), &[]).await;
    deleted.phase("AwaitingCutOver").await;
    cancelled.phase("AwaitingCutOver").await;
    deleted.delete().await;
    cancelled.annotate("cancel", Some("true")).await;
    deleted.gone(BOUND).await;
    let end = cancelled.until("it is cancelled", |version| version.is("Succeeded", "False")).await;
    assert_eq!(end.condition("Succeeded"), "False/Cancelled");
    let tables = shop.strange_tables(&["deleted", "cancelled"]).await;
    assert_eq!(tables, ["_cancelled_ghc", "_cancelled_gho", "_deleted_ghc", "_deleted_gho"]);
    assert!(!shop.is_migrated("deleted").await && !shop.is_migrated("cancelled").await);
    until("its connections are gone", async || shop.connections().await == 0).await;
    let note = deleted_event(&shop).await;
    assert!(note.contains("_deleted_gho"), "{note}");
    shop.end(&[]).await;
}

/// The Event of an object that is gone.
async fn deleted_event(shop: &Shop) -> String {
    let mut note = None;
    until("the Event Orphaned", async || {
        let events = shop.api::<k8s_openapi::api::events::v1::Event>().list(&Default::default()).await.unwrap().items;
        note = events.into_iter().find(|event| event.reason.as_deref() == Some("Orphaned")).and_then(|event| event.note);
        note.is_some()
    })
    .await;
    note.unwrap()
}
