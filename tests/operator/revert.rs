//! The revert window: `Succeeded` from the swap on, the annotation that takes the change back, and whoever waits.
use crate::cluster::{Operator, until};
use crate::restarts::NO_LEASE;
use crate::shop::{ALTER, BOUND, Shop, with};
use serde_json::{Value, json};

fn window() -> Value {
    json!({"revert": {"window": "1h"}})
}

#[tokio::test]
async fn a_change_is_taken_back_and_the_next_one_has_waited() {
    let mut shop = Shop::new("revert").await;
    shop.table("orders", 300).await;
    shop.table("items", 100).await;
    // One slot: the window needs none.
    shop.server("mysql", crate::support::address(&crate::support::mysql_url()).port, 1).await;
    let before = shop.db.definition("orders").await;
    let mut migration = shop.migrate("m", "orders", window(), &[]).await;
    let made = migration.succeeded().await;
    assert_eq!(made.condition("Succeeded"), "True/Succeeded");
    let open = migration.until("the window is open", |version| version.is("RevertPossible", "True")).await;
    assert_eq!((open.condition("RevertPossible").as_str(), open.phase().as_str()), ("True/WindowOpen", "Revertible"));
    assert!(open.message("RevertPossible").contains("theseus.dev/revert=true") && open.message("RevertPossible").contains("until 20"));
    assert_eq!(open.status().tables.unwrap().old, "_orders_del");
    assert!(shop.is_migrated("orders").await);
    migration.event("RevertPossible").await;

    let mut next = shop.migrate("next", "orders", json!({"alter": "ADD COLUMN later INT"}), &[]).await;
    let waits = next.until("it waits", |version| version.reason() == "Queued" && version.message("Ready").contains("reverted")).await;
    assert!(waits.message("Ready").contains("spec.revert.window"), "{}", waits.message("Ready"));
    let mut other = shop.migrate("other", "items", json!({}), &[]).await;
    other.succeeded().await;

    let mut writers = shop.writers("orders", 300, 50.0).await;
    until("rows are written", async || writers.totals().committed > 50).await;
    migration.annotate("revert", Some("true")).await;
    let end = migration.until("it is taken back", |version| version.reason() == "Reverted").await;
    assert_eq!((end.condition("Succeeded").as_str(), end.condition("RevertPossible").as_str()), ("True/Reverted", "False/Reverted"));
    assert_eq!((end.condition("Accepted").as_str(), end.phase().as_str()), ("True/Accepted", "Reverted"));
    assert!(end.status().message.unwrap().contains("taken back"));
    next.succeeded().await;
    let totals = writers.stop().await;
    assert!(totals.failures.is_empty(), "{:#?}", totals.failures);
    writers.verify().await.unwrap();
    let after = shop.db.definition("orders").await;
    assert!(!after.contains("`status`") && after.contains("`later`") && before.contains("`customer` int"), "{after}");
    migration.event("Reverted").await;
    until("nothing is left", async || shop.strange_tables(&["orders", "items"]).await.is_empty()).await;
    // Succeeded never was anything else once it was true.
    let versions = migration.versions();
    let first = versions.iter().position(|version| version.is("Succeeded", "True")).unwrap();
    assert!(versions[first..].iter().all(|version| version.is("Succeeded", "True") && version.is("Ready", "True")));
    shop.end(&[]).await;
}

#[tokio::test]
async fn the_window_outlives_operators() {
    let (mut shop, release) = Shop::private("revertkill", &[NO_LEASE]).await;
    shop.table("orders", 300).await;
    let mut first = Operator::start(&release).await;
    let mut migration = shop.migrate("m", "orders", with(window(), json!({"oldTable": {"retention": "1h"}})), &[]).await;
    migration.until("the window is open", |version| version.is("RevertPossible", "True")).await;
    first.kill();
    let mut writers = shop.writers("orders", 300, 50.0).await;
    until("rows are written", async || writers.totals().committed > 30).await;
    let mut second = Operator::start(&release).await;
    let session = |version: &crate::migration::Version| version.status().engine.and_then(|engine| engine.session);
    let before = session(&migration.latest());
    migration.until("another engine keeps the table current", |version| session(version).is_some_and(|now| Some(now) != before)).await;
    second.kill();
    // Asked for while nobody is there.
    migration.annotate("revert", Some("true")).await;
    until("more rows are written", async || writers.totals().committed > 80).await;
    let mut third = Operator::start(&release).await;
    migration.until("it is taken back", |version| version.reason() == "Reverted").await;
    writers.stop().await;
    writers.verify().await.unwrap();
    assert!(!shop.is_migrated("orders").await);
    let versions = migration.versions();
    let made = versions.iter().position(|version| version.is("Succeeded", "True")).unwrap();
    assert!(versions[made..].iter().all(|version| version.is("Succeeded", "True") && version.is("Ready", "True")));
    // What is over stays over.
    let tables = shop.db.tables().await;
    assert_eq!(tables.len(), 3, "{tables:?}");
    third.kill();
    let fourth = Operator::start(&release).await;
    let mut next = shop.migrate("next", "orders", json!({"alter": "ADD COLUMN later INT"}), &[]).await;
    next.succeeded().await;
    assert_eq!(migration.latest().reason(), "Reverted");
    assert!(!shop.is_migrated("orders").await);
    shop.end(&[&first, &second, &third, &fourth]).await;
}

#[tokio::test]
async fn the_window_ends_and_a_late_revert_is_told() {
    let mut shop = Shop::new("revertends").await;
    for table in ["orders", "items", "parts"] {
        shop.table(table, 100).await;
    }
    // Nobody wants it any more.
    let mut ended = shop.migrate("ended", "orders", window(), &[]).await;
    ended.until("the window is open", |version| version.is("RevertPossible", "True")).await;
    ended.patch(json!({"spec": {"revert": {"window": "0s"}}})).await;
    ended.until("the window has ended", |version| version.condition("RevertPossible") == "False/WindowEnded").await;
    ended.annotate("revert", Some("true")).await;
    let told = ended.until("it is told", |version| version.is("Accepted", "False")).await;
    assert!(told.message("Accepted").contains("theseus.dev/revert") && told.is("Ready", "True"), "{}", told.message("Accepted"));
    assert!(shop.is_migrated("orders").await);

    // A row that the old table cannot hold.
    let narrow = json!({"alter": "MODIFY customer BIGINT NOT NULL"});
    let mut wide = shop.migrate("wide", "items", with(window(), narrow), &[]).await;
    wide.until("the window is open", |version| version.is("RevertPossible", "True")).await;
    shop.db.run("UPDATE items SET customer = 8000000000 WHERE id = 1").await;
    let over = wide.until("it is over", |version| version.is("RevertPossible", "False") && version.phase() == "Succeeded").await;
    assert_eq!(
        (over.condition("RevertPossible").as_str(), over.condition("Succeeded").as_str()),
        ("False/DataDoesNotFit", "True/Succeeded")
    );
    assert!(over.message("RevertPossible").contains("customer") && !over.message("RevertPossible").contains("8000000000"));
    let (type_, note) = wide.event("RevertOver").await;
    assert!(type_ == "Warning" && !note.contains("8000000000"), "{type_} {note}");
    assert_eq!(shop.db.value::<u64>("SELECT customer FROM items WHERE id = 1").await, 8_000_000_000);

    // Deleted in its window: the change stays, and the old table.
    let mut deleted = shop.migrate("deleted", "parts", window(), &[]).await;
    deleted.until("the window is open", |version| version.is("RevertPossible", "True")).await;
    deleted.delete().await;
    deleted.gone(BOUND).await;
    until("what may go is gone", async || shop.strange_tables(&["orders", "items", "parts"]).await.iter().all(|t| t.starts_with("_parts")))
        .await;
    assert!(shop.strange_tables(&["orders", "items", "parts"]).await.contains(&"_parts_del".to_owned()));
    assert!(shop.is_migrated("parts").await);
    shop.end(&[]).await;
}

#[tokio::test]
async fn what_has_no_way_back_says_so() {
    let mut shop = Shop::new("revertnone").await;
    shop.table("orders", 100).await;
    let instant = json!({"alter": "ADD COLUMN a INT", "algorithm": "Auto"});
    let mut instant = shop.migrate("instant", "orders", with(window(), instant), &[]).await;
    let end = instant.succeeded().await;
    assert_eq!(end.condition("RevertPossible"), "False/NoWayBack");
    shop.db.run("ALTER TABLE orders ADD COLUMN must INT NOT NULL").await;
    let mut refused = shop.migrate("refused", "orders", with(window(), json!({"alter": "DROP COLUMN must"})), &[]).await;
    let end = refused.until("it is refused", |version| version.is("Stalled", "True")).await;
    assert_eq!(end.reason(), "NoWayBack");
    assert!(end.message("Stalled").contains("`must`"), "{}", end.message("Stalled"));
    assert!(ALTER.contains("status") && !shop.is_migrated("orders").await);
    until("nothing is left", async || shop.strange_tables(&["orders"]).await.is_empty()).await;
    shop.end(&[]).await;
}
