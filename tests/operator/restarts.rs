//! The operator's process ends, in every way, and the next one goes on. Each test has operators of its own.
use crate::cluster::{Operator, until};
use crate::shop::{Shop, slowly};
use crate::support::soon;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use std::time::{Duration, Instant};

const ROWS: u64 = 30_000;
pub const NO_LEASE: &str = "leaderElection.enabled=false";
/// The chart's grace period.
const GRACE: Duration = Duration::from_secs(90);

async fn some_rows_are_copied(shop: &mut Shop) {
    until("some rows are copied", async || {
        shop.strange_tables(&["orders"]).await.contains(&"_orders_gho".to_owned())
            && shop.db.value::<u64>("SELECT COUNT(*) FROM _orders_gho").await > 0
    })
    .await;
}

fn fast() -> serde_json::Value {
    json!({"spec": {"throttle": {"niceRatioPercent": 0}, "copy": {"targetChunkTime": "500ms"}}})
}

#[tokio::test]
async fn killed_in_the_middle_the_next_one_goes_on_and_no_row_is_lost() {
    let (mut shop, release) = Shop::private("kill", &[]).await;
    shop.table("orders", ROWS).await;
    let mut writers = shop.writers("orders", ROWS, 30.0).await;
    let mut first = Operator::start(&release).await;
    let mut migration = shop.migrate("m", "orders", slowly(), &[]).await;
    some_rows_are_copied(&mut shop).await;
    let before = migration.until("it copies", |version| version.reason() == "Copying").await.status().engine.unwrap();
    let second = Operator::start(&release).await;
    first.kill();
    let killed = Instant::now();
    assert!(shop.db.value::<u64>("SELECT COUNT(*) FROM _orders_gho WHERE id BETWEEN 1 AND 30000").await < ROWS, "too late");
    // It has not given its Lease back, so the standby waits for its end: 10 s.
    let resumed = migration
        .until("the next one copies", |version| {
            version.reason() == "Copying" && version.status().engine.is_some_and(|engine| engine.instance != before.instance)
        })
        .await;
    eprintln!("the standby was at work after {:?}", resumed.at - killed);
    assert!(resumed.at - killed < Duration::from_secs(10) + soon(Duration::from_secs(20)), "it took {:?}", resumed.at - killed);
    let engine = resumed.status().engine.unwrap();
    assert!(engine.resumed_count >= 1 && engine.session != before.session, "{engine:?} after {before:?}");
    migration.patch(fast()).await;
    migration.succeeded().await;
    let totals = writers.stop().await;
    let rows = writers.verify().await.unwrap();
    eprintln!("{rows} rows are as {} transactions have left them", totals.committed);
    assert!(shop.is_migrated("orders").await);
    shop.end(&[&first, &second]).await;
}

#[tokio::test]
async fn killed_again_and_again_it_gets_there() {
    let (mut shop, release) = Shop::private("again", &[NO_LEASE]).await;
    shop.table("orders", ROWS).await;
    let mut writers = shop.writers("orders", ROWS, 20.0).await;
    let mut migration = shop.migrate("m", "orders", slowly(), &[]).await;
    let seed = fastrand::u64(..);
    eprintln!("times of death with seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut operators = Vec::new();
    for _ in 0..5 {
        let mut operator = Operator::start(&release).await;
        // When it dies is what the test is about; nothing waits for what it does meanwhile.
        tokio::time::sleep(Duration::from_millis(random.u64(0..1500))).await;
        operator.kill();
        operators.push(operator);
    }
    operators.push(Operator::start(&release).await);
    migration.patch(fast()).await;
    migration.succeeded().await;
    writers.stop().await;
    writers.verify().await.unwrap();
    until("nothing is left", async || shop.strange_tables(&["orders"]).await.is_empty()).await;
    shop.end(&operators.iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn killed_at_the_gate_and_after_the_end() {
    let (mut shop, release) = Shop::private("killgate", &[NO_LEASE]).await;
    for table in ["orders", "items"] {
        shop.table(table, 300).await;
    }
    let mut first = Operator::start(&release).await;
    let manual = json!({"cutOver": {"policy": "Manual"}, "oldTable": {"retention": "1h"}});
    let mut migration = shop.migrate("m", "orders", manual, &[]).await;
    migration.phase("AwaitingCutOver").await;
    let writers = shop.writers("orders", 300, 30.0).await;
    first.kill();
    // Approved while nobody is there.
    migration.annotate("cut-over", Some("approved")).await;
    let mut second = Operator::start(&release).await;
    let end = migration.succeeded().await.status();
    assert!(end.engine.as_ref().unwrap().resumed_count >= 1, "{:?}", end.engine);
    let mut writers = writers;
    writers.stop().await;
    writers.verify().await.unwrap();

    // What is over stays over: the next operator writes nothing about it and makes nothing for it.
    until("the last Event is written", async || migration.events().await.iter().any(|event| event == "Succeeded")).await;
    let (tables, definition) = (shop.db.tables().await, shop.db.definition("orders").await);
    second.kill();
    let before = migration.now().await;
    let third = Operator::start(&release).await;
    let mut other = shop.migrate("other", "items", json!({}), &[]).await;
    other.succeeded().await;
    until("the other has cleaned up", async || shop.db.tables().await == tables).await;
    assert_eq!(shop.db.definition("orders").await, definition);
    assert_eq!(migration.now().await.metadata.resource_version, before.metadata.resource_version);
    shop.end(&[&first, &second, &third]).await;
}

#[tokio::test]
async fn asked_to_end_it_ends_in_order_and_the_next_one_follows_at_once() {
    let (mut shop, release) = Shop::private("term", &[]).await;
    shop.table("orders", ROWS).await;
    let mut first = Operator::start(&release).await;
    let mut migration = shop.migrate("m", "orders", slowly(), &[]).await;
    some_rows_are_copied(&mut shop).await;
    migration.until("it copies", |version| version.reason() == "Copying").await;
    let leases: Api<Lease> = Api::namespaced(shop.client.clone(), release.namespace());
    let holder = async || {
        let lease = leases.list(&Default::default()).await.unwrap().items.into_iter().next().expect("a Lease");
        lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty())
    };
    let name = holder().await.expect("it is held");
    assert!(name.starts_with("operator-"), "{name}");
    let (status, took) = first.terminate(GRACE).await;
    assert_eq!(status.code(), Some(0), "{}", first.log());
    eprintln!("it ended within {took:?}");
    assert!(took < soon(Duration::from_secs(20)), "it took {took:?}");
    assert_eq!(holder().await, None, "the Lease was not given back");
    until("its connections are gone", async || shop.connections().await <= 1).await;
    let status = migration.now().await.status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Copying"));
    assert_eq!(status.completed_at, None);

    let began = Instant::now();
    let second = Operator::start(&release).await;
    let resumed = migration
        .until("the next one copies", |version| {
            version.reason() == "Copying" && version.status().engine.is_some_and(|engine| engine.resumed_count > 0)
        })
        .await;
    eprintln!("the next one was at work after {:?}", resumed.at - began);
    migration.patch(fast()).await;
    migration.succeeded().await;
    assert_eq!(shop.db.value::<u64>("SELECT COUNT(*) FROM orders WHERE status = 'new'").await, ROWS);
    shop.end(&[&first, &second]).await;
}
