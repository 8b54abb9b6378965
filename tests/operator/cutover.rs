//! Windows, blockers and the force token, as objects say and show them; and the old table's end, whatever happens to the operator.
use crate::cluster::{Operator, until};
use crate::shop::Shop;
use crate::support::{address, mysql_url};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};
use serde_json::json;
use std::time::Duration;

/// A transaction of the migration's own account, which it may kill, that has read the table.
async fn blocker(shop: &Shop) -> Conn {
    let server = address(&mysql_url());
    let options = OptsBuilder::default()
        .ip_or_hostname(server.host)
        .tcp_port(server.port)
        .user(Some(&shop.user))
        .pass(Some(&shop.password))
        .db_name(Some(&shop.db.name))
        .prefer_socket(Some(false));
    let mut conn = Conn::new(options).await.unwrap();
    conn.query_drop("START TRANSACTION").await.unwrap();
    conn.query_drop("SELECT * FROM orders LIMIT 1").await.unwrap();
    conn
}

/// A window that is closed now and for some days: in three days at this hour, for an hour.
fn closed() -> (serde_json::Value, String) {
    let opens = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC) + jiff::Span::new().days(3);
    let schedule = format!("0 {} {} {} *", opens.hour(), opens.day(), opens.month());
    let at = format!("{}T{:02}:00:00Z", opens.date(), opens.hour());
    (json!({"schedule": schedule, "duration": "1h"}), at)
}

#[tokio::test]
async fn a_window_is_waited_for_and_a_token_clears_the_way() {
    let mut shop = Shop::new("window").await;
    shop.table("orders", 500).await;
    shop.sees_blockers().await;
    let mut blocking = blocker(&shop).await;
    let (window, at) = closed();
    let mut migration = shop.migrate("m", "orders", json!({"cutOver": {"lockTimeout": "1s", "windows": [window]}}), &[]).await;
    let waiting = migration.phase("AwaitingCutOver").await;
    let status = waiting.status();
    assert_eq!(waiting.condition("CutOverReady"), "True/AwaitingCutOver");
    let message = format!("ready for the cut-over; waiting for the window that opens at {at}");
    assert_eq!((status.message.as_ref(), waiting.message("Ready")), (Some(&message), message.clone()));
    assert_eq!(status.cut_over.unwrap().window_opens_at.unwrap().0.to_string(), at);
    assert_eq!(migration.event("AwaitingCutOver").await.1, message);
    shop.changes_flow("orders").await;

    // An approval stands above the windows; then somebody is in the way.
    migration.annotate("cut-over", Some("approved")).await;
    let blocked = migration.until("it says by whom", |version| version.status().cut_over.is_some_and(|it| it.blocked_by.is_some())).await;
    let cut_over = blocked.status().cut_over.unwrap();
    assert!(cut_over.blocked_by.as_ref().unwrap().starts_with(&format!("connection {} ", blocking.id())), "{cut_over:?}");
    assert_eq!(cut_over.window_opens_at, None);
    assert_eq!(blocked.status().handled_tokens, None);
    blocking.query_drop("SELECT 1").await.unwrap();

    migration.annotate("force-cut-over", Some("now")).await;
    let end = migration.succeeded().await.status();
    assert_eq!(end.handled_tokens.unwrap().force_cut_over, "now");
    let cut_over = end.cut_over.unwrap();
    assert!(cut_over.last_attempt.is_some_and(|at| at >= end.started_at.unwrap() && at <= end.completed_at.unwrap()));
    assert_eq!(cut_over.blocked_by, None);
    assert!(blocking.query_drop("SELECT 1").await.is_err(), "it lives");
    let (type_, note) = migration.event("BlockerKilled").await;
    assert!(type_ == "Warning" && note.contains(&format!("connection {} ", blocking.id())), "{type_} {note}");
    assert!(shop.is_migrated("orders").await);
    shop.end(&[]).await;
}

/// A live change of the setting is enough, and works for a change that the server makes itself.
#[tokio::test]
async fn blockers_are_killed_once_that_is_asked_for() {
    let mut shop = Shop::new("blockers").await;
    shop.table("orders", 100).await;
    shop.sees_blockers().await;
    let mut blocking = blocker(&shop).await;
    let change = json!({"alter": "ADD COLUMN a INT", "algorithm": "Instant", "cutOver": {"lockTimeout": "1s"}});
    let mut migration = shop.migrate("m", "orders", change, &[]).await;
    migration.until("it is blocked", |version| version.status().cut_over.is_some_and(|it| it.blocked_by.is_some())).await;
    blocking.query_drop("SELECT 1").await.unwrap();
    migration.patch(json!({"spec": {"cutOver": {"killBlockersAfter": "1s"}}})).await;
    migration.succeeded().await;
    assert!(blocking.query_drop("SELECT 1").await.is_err(), "it lives");
    migration.event("BlockerKilled").await;
    shop.end(&[]).await;
}

/// What the schema cannot see is refused by its reason before anything is touched; a running migration keeps what it had.
#[tokio::test]
async fn windows_that_make_no_sense_are_refused() {
    let mut shop = Shop::new("nowindow").await;
    shop.table("orders", 100).await;
    for (index, (window, words)) in [
        (json!({"schedule": "0 25 * * *", "duration": "1h"}), "spec.cutOver.windows[0]: schedule"),
        (json!({"schedule": "0 2 * * *", "duration": "1h", "timeZone": "Mars/Olympus"}), "spec.cutOver.windows[0]: timeZone"),
    ]
    .into_iter()
    .enumerate()
    {
        let change = json!({"cutOver": {"windows": [window]}});
        let mut migration = shop.migrate(&format!("m{index}"), "orders", change, &[]).await;
        let refused = migration.until("it is refused", |version| version.is("Succeeded", "False")).await;
        assert_eq!(refused.condition("Stalled"), "True/InvalidSpec");
        assert!(refused.message("Stalled").starts_with(words), "{}", refused.message("Stalled"));
        shop.untouched("orders", 100).await;
    }
    let mut running = shop.migrate("running", "orders", json!({"cutOver": {"policy": "Manual"}}), &[]).await;
    running.phase("AwaitingCutOver").await;
    running.patch(json!({"spec": {"cutOver": {"windows": [{"schedule": "x 2 * * *", "duration": "1h"}]}}})).await;
    let told = running.until("it is told", |version| version.is("Accepted", "False")).await;
    assert!(told.message("Accepted").contains("spec.cutOver.windows[0]: schedule"), "{}", told.message("Accepted"));
    assert_eq!(told.reason(), "AwaitingCutOver");
    running.patch(json!({"spec": {"cutOver": {"windows": []}}})).await;
    running.annotate("cut-over", Some("approved")).await;
    running.succeeded().await;
    shop.end(&[]).await;
}

/// Who drops the old table may be another process than who made it.
#[tokio::test]
async fn the_old_table_goes_after_its_retention_although_the_operator_was_killed() {
    let (mut shop, release) = Shop::private("retained", &["leaderElection.enabled=false"]).await;
    shop.table("orders", 100).await;
    let mut first = Operator::start(&release).await;
    let retention = jiff::SignedDuration::from_secs(6);
    let change = json!({"oldTable": {"retention": "6s"}});
    let mut migration = shop.migrate("m", "orders", change, &[]).await;
    let end = migration.succeeded().await.status();
    first.kill();
    let completed = end.completed_at.unwrap().0;
    let tables = shop.strange_tables(&["orders"]).await;
    assert!(jiff::Timestamp::now() < completed + retention, "this machine is too slow for the test");
    assert_eq!(tables, ["_orders_del", "_orders_ghc"]);
    let second = Operator::start(&release).await;
    until("the old table is gone", async || shop.strange_tables(&["orders"]).await.is_empty()).await;
    assert!(jiff::Timestamp::now() >= completed + retention, "it was dropped too early");
    let last = migration
        .within(Duration::from_secs(30), "its status says so", |version| version.status().tables.is_some_and(|tables| tables.is_empty()));
    assert_eq!(last.await.status().completed_at.unwrap().0, completed);
    migration.event("OldTableDropped").await;
    assert!(shop.is_migrated("orders").await);
    shop.end(&[&first, &second]).await;
}
