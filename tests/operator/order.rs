//! Who comes first by `spec.after`.
use crate::cluster::{Operator, PATIENCE, until};
use crate::migration::{Migration, Version};
use crate::restarts::NO_LEASE;
use crate::shop::{Shop, with};
use serde_json::json;

/// Nothing of these waits is a poll: who waits for others is visited again after ten minutes, and a test is patient for less.
#[tokio::test]
async fn the_order_is_kept_whatever_is_created_first() {
    let mut shop = Shop::new("order").await;
    for table in ["customers", "orders"] {
        shop.table(table, 100).await;
    }
    // The last first, as a GitOps tool may apply them: nobody of these names is there yet.
    let mut last = shop.migrate("last", "orders", json!({"after": ["first", "second"], "alter": "ADD COLUMN z INT"}), &[]).await;
    let missing = last.until("it waits for all", |version| version.message("Ready").contains("second (does not exist)")).await;
    assert_eq!(missing.condition("Ready"), "False/Queued");
    assert_eq!(missing.phase(), "Queued");
    let after = missing.status().after.unwrap();
    assert_eq!(after.waits_for.as_deref(), Some("first (does not exist), second (does not exist)"));
    assert!(missing.message("Ready").contains("first does not exist in this namespace: create it"), "{}", missing.message("Ready"));
    assert_eq!((missing.status().started_at, missing.status().server), (None, None), "no engine, and no look at the server");
    // The MySQLServer's own look has one for a moment.
    until("it has no connection", async || shop.connections().await == 0).await;

    let manual = json!({"cutOver": {"policy": "Manual"}});
    let mut second = shop.migrate("second", "customers", with(manual.clone(), json!({"after": ["first"]})), &[]).await;
    second.until("it waits for the first", |version| version.message("Ready").contains("first (does not exist)")).await;
    last.until("it knows the second", |version| version.message("Ready").contains("second (Queued)")).await;
    // The same table as the last one's, and younger: who waits for others keeps nobody from it.
    let mut first = shop.migrate("first", "orders", manual, &[]).await;
    first.phase("AwaitingCutOver").await;
    last.until("it is said how the first is doing", |version| version.message("Ready").contains("first (AwaitingCutOver)")).await;
    second.until("it is said how the first is doing", |version| version.message("Ready").contains("first (AwaitingCutOver)")).await;
    first.annotate("cut-over", Some("approved")).await;
    let first_end = first.succeeded().await;

    second.phase("AwaitingCutOver").await;
    let halfway = last.until("one is done", |version| version.status().after.is_some_and(|after| after.succeeded == ["first"])).await;
    assert!(halfway.status().after.unwrap().waits_for.unwrap().starts_with("second ("));
    // Cleared away: those that had seen it succeed go on.
    first.delete().await;
    first.gone(PATIENCE).await;
    second.annotate("cut-over", Some("approved")).await;
    let second_end = second.succeeded().await;
    let last_end = last.succeeded().await;
    let began = |end: &Version| end.status().started_at.unwrap();
    let completed = |end: &Version| end.status().completed_at.unwrap();
    assert!(began(&second_end) >= completed(&first_end) && began(&last_end) >= completed(&second_end));
    assert_eq!(
        last_end.status().after.unwrap(),
        theseus::api::status::AfterStatus { waits_for: None, succeeded: vec!["first".to_owned(), "second".to_owned()] }
    );
    // Of one that has gone a younger one knows nothing.
    let mut late = shop.migrate("late", "orders", json!({"after": ["first"], "alter": "ADD COLUMN y INT"}), &[]).await;
    late.until("it waits", |version| version.message("Ready").contains("first (does not exist)")).await;
    shop.end(&[]).await;
}

/// Another operator knows who had succeeded, though the object has gone.
#[tokio::test]
async fn who_had_succeeded_is_remembered_through_a_restart() {
    let (mut shop, release) = Shop::private("orderagain", &[NO_LEASE]).await;
    shop.table("orders", 50).await;
    let mut operator = Operator::start(&release).await;
    let mut first = shop.migrate("first", "orders", json!({}), &[]).await;
    let mut last = shop.migrate("last", "orders", json!({"after": ["first", "second"], "alter": "ADD COLUMN z INT"}), &[]).await;
    first.succeeded().await;
    last.until("it has seen it", |version| version.status().after.is_some_and(|after| after.succeeded == ["first"])).await;
    first.delete().await;
    first.gone(PATIENCE).await;
    operator.kill();
    let operator = Operator::start(&release).await;
    let mut second = shop.migrate("second", "orders", json!({"after": ["first"], "alter": "ADD COLUMN y INT"}), &[]).await;
    second.until("it has seen nobody", |version| version.message("Ready").contains("first (does not exist)")).await;
    second.annotate("cancel", Some("true")).await;
    last.until("the second was cancelled", |version| version.message("Ready").contains("waiting for second (cancelled)")).await;
    second.delete().await;
    second.gone(PATIENCE).await;
    let mut second = shop.migrate("second", "orders", json!({"alter": "ADD COLUMN y INT"}), &[]).await;
    second.succeeded().await;
    last.succeeded().await;
    shop.end(&[&operator]).await;
}

/// A failure, a refusal or a cancellation of one that others wait for is no end for these.
#[tokio::test]
async fn who_waits_for_a_failed_one_goes_on_waiting_until_it_succeeds() {
    let mut shop = Shop::new("orderfail").await;
    shop.table("orders", 100).await;
    shop.db.run("CREATE TABLE _orders_gho (precious INT)").await;
    let mut first = shop.migrate("first", "orders", json!({}), &[]).await;
    first.until("it is refused", |version| version.is("Succeeded", "False")).await;
    let mut second = shop.migrate("second", "orders", json!({"after": ["first"], "alter": "ADD COLUMN z INT"}), &[]).await;
    let waits = second.until("it is said what became of the first", |version| version.message("Ready").contains("failed")).await;
    assert_eq!(waits.status().after.unwrap().waits_for.as_deref(), Some("first (failed: NameTaken)"));
    assert!(waits.message("Ready").contains("first has failed: retry it (theseus.dev/retry)"), "{}", waits.message("Ready"));
    assert_eq!(waits.condition("Succeeded"), "Unknown/Queued");
    // What cannot be parsed is refused before its turn.
    let nonsense = json!({"after": ["first"], "alter": "ADD COLUM x INT,"});
    let mut bad = shop.migrate("nonsense", "orders", nonsense, &[]).await;
    let refused = bad.until("it is refused", |version| version.is("Succeeded", "False")).await;
    assert_eq!((refused.condition("Stalled").as_str(), refused.status().started_at), ("True/AlterNotSupported", None));

    shop.db.run("DROP TABLE _orders_gho").await;
    first.annotate("retry", Some("mended")).await;
    first.until("it is tried again", |version| version.is("Succeeded", "Unknown")).await;
    first.succeeded().await;
    second.succeeded().await;

    // Cancelled, deleted and created again.
    let mut third = shop.migrate("third", "orders", json!({"alter": "ADD COLUMN a INT", "suspend": true}), &[]).await;
    let mut fourth = shop.migrate("fourth", "orders", json!({"after": ["third"], "alter": "ADD COLUMN b INT"}), &[]).await;
    third.until("it is paused", |version| version.is("Paused", "True")).await;
    third.annotate("cancel", Some("true")).await;
    fourth.until("the third was cancelled", |version| version.message("Ready").contains("third was cancelled: create it again")).await;
    third.delete().await;
    third.gone(PATIENCE).await;
    fourth.until("the third has gone", |version| version.message("Ready").contains("third (does not exist)")).await;
    let mut again = shop.migrate("third", "orders", json!({"alter": "ADD COLUMN a INT"}), &[]).await;
    again.succeeded().await;
    fourth.succeeded().await;
    shop.end(&[]).await;
}

#[tokio::test]
async fn a_cycle_is_refused_by_name_and_touches_nothing() {
    let mut shop = Shop::new("ordercycle").await;
    shop.table("orders", 10).await;
    let waits_for = |others: &[&str]| json!({"after": others});
    let refused = async |migration: &mut Migration, way: &str| {
        let end = migration.until("it is over", |version| version.is("Stalled", "True") || version.is("Succeeded", "True")).await;
        assert_eq!(end.condition("Stalled"), "True/AfterCycle", "{}", end.message("Stalled"));
        assert_eq!((end.phase().as_str(), end.status().started_at), ("Refused", None));
        assert!(end.message("Stalled").contains(way), "{}", end.message("Stalled"));
    };
    let mut alone = shop.migrate("alone", "orders", waits_for(&["alone"]), &[]).await;
    refused(&mut alone, "alone").await;

    let mut a = shop.migrate("a", "orders", waits_for(&["b"]), &[]).await;
    let mut b = shop.migrate("b", "orders", waits_for(&["c"]), &[]).await;
    let mut outside = shop.migrate("outside", "orders", waits_for(&["a"]), &[]).await;
    for migration in [&mut a, &mut b, &mut outside] {
        migration.phase("Queued").await;
    }
    // It closes the circle: all three are refused, also those that had been waiting.
    let mut c = shop.migrate("c", "orders", waits_for(&["a"]), &[]).await;
    refused(&mut c, "c waits for a waits for b waits for c").await;
    refused(&mut a, "a waits for b waits for c waits for a").await;
    refused(&mut b, "b waits for c waits for a waits for b").await;
    let waits = outside.until("it waits for a member", |version| version.message("Ready").contains("a (failed: AfterCycle)")).await;
    assert_eq!(waits.condition("Ready"), "False/Queued");
    shop.untouched("orders", 10).await;
    until("none has a connection", async || shop.connections().await == 0).await;

    // Opened again: one is made anew, the others are told to retry.
    c.delete().await;
    c.gone(PATIENCE).await;
    let mut c = shop.migrate("c", "orders", json!({"alter": "ADD COLUMN c INT"}), &[]).await;
    c.succeeded().await;
    b.annotate("retry", Some("1")).await;
    b.until("it has begun", |version| version.status().started_at.is_some()).await;
    shop.end(&[]).await;
}
