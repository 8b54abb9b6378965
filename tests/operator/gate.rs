//! The gate of the cut-over: opened, closed again while the cut-over cannot get its lock, opened again.
use crate::shop::Shop;
use mysql_async::prelude::Queryable as _;
use serde_json::json;

#[tokio::test]
async fn the_gate_can_be_closed_again_until_the_tables_are_locked() {
    let mut shop = Shop::new("gate").await;
    shop.table("orders", 500).await;
    shop.sees_blockers().await;
    // No attempt is made where a transaction is known to have lasted for longer than an attempt may: this one must be younger for a while.
    let manual = json!({"cutOver": {"policy": "Manual", "lockTimeout": "10s"}});
    let mut migration = shop.migrate("m", "orders", manual, &[]).await;
    let waiting = migration.phase("AwaitingCutOver").await;
    assert_eq!(waiting.condition("CutOverReady"), "True/AwaitingCutOver");
    assert!(waiting.message("Ready").contains("theseus.dev/cut-over=approved"), "{}", waiting.message("Ready"));
    shop.changes_flow("orders").await;

    // A transaction that has read the table holds its metadata lock, so that the tables cannot be locked.
    let mut blocker = shop.db.connect().await;
    blocker.query_drop("START TRANSACTION").await.unwrap();
    blocker.query_drop("SELECT * FROM orders LIMIT 1").await.unwrap();
    migration.annotate("cut-over", Some("approved")).await;
    let failed = migration
        .until("an attempt has failed", |version| {
            version.status().cut_over.is_some_and(|cut_over| cut_over.attempts > 0 && cut_over.last_failure.is_some())
        })
        .await;
    assert!(failed.status().cut_over.unwrap().approved_at.is_some());
    assert_eq!(failed.condition("Ready"), "False/CuttingOver");
    let blocked = migration.until("it says by whom", |version| version.status().cut_over.is_some_and(|it| it.blocked_by.is_some())).await;
    let by = blocked.status().cut_over.unwrap().blocked_by.unwrap();
    assert!(by.contains(&blocker.id().to_string()), "session {}: {by}", blocker.id());

    migration.annotate("cut-over", None).await;
    let closed = migration.phase("AwaitingCutOver").await;
    assert_eq!(closed.status().cut_over.unwrap().approved_at, None);
    blocker.query_drop("COMMIT").await.unwrap();
    // It is at work, and does not swap.
    shop.changes_flow("orders").await;
    assert!(!shop.is_migrated("orders").await);
    let attempts = migration.latest().status().cut_over.unwrap().attempts;
    shop.changes_flow("orders").await;
    assert_eq!(migration.latest().status().cut_over.unwrap().attempts, attempts);
    assert!(!shop.is_migrated("orders").await);

    migration.annotate("cut-over", Some("approved")).await;
    migration.succeeded().await;
    assert!(shop.is_migrated("orders").await);
    let (type_, _) = migration.event("CutOverAttemptFailed").await;
    assert_eq!(type_, "Warning");
    shop.end(&[]).await;
}

/// Approval may be there from the start: then nothing waits at the gate.
#[tokio::test]
async fn an_approval_in_advance_counts() {
    let mut shop = Shop::new("advance").await;
    shop.table("orders", 100).await;
    let mut migration = shop.migrate("m", "orders", json!({"cutOver": {"policy": "Manual"}}), &[("cut-over", "approved")]).await;
    migration.succeeded().await;
    assert!(migration.versions().iter().all(|version| version.reason() != "AwaitingCutOver"));
    shop.end(&[]).await;
}
