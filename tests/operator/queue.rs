//! Who waits for whom.
use crate::proxy::{Line, Proxy};
use crate::shop::{Shop, with};
use crate::support::{address, mysql_url};
use serde_json::json;

#[tokio::test]
async fn a_second_migration_of_a_table_waits_for_the_first() {
    let mut shop = Shop::new("queue").await;
    shop.table("orders", 100).await;
    let mut first = shop.migrate("first", "orders", json!({"cutOver": {"policy": "Manual"}}), &[]).await;
    first.phase("AwaitingCutOver").await;
    let mut second = shop.migrate("second", "orders", json!({"alter": "ADD COLUMN more INT"}), &[]).await;
    let queued = second.phase("Queued").await;
    let queued = if queued.message("Ready").contains("first") {
        queued
    } else {
        second.until("it says for whom it waits", |version| version.message("Ready").contains("first")).await
    };
    assert_eq!(queued.condition("Ready"), "False/Queued");
    assert_eq!(queued.condition("Validated"), "Unknown/Queued");
    let wanted = format!("waiting for {}/first, which is using the table {}.orders", shop.namespace, shop.db.name);
    assert_eq!(queued.message("Ready"), wanted);
    let (_, note) = second.event("Queued").await;
    assert_eq!(note, wanted);
    assert_eq!(queued.status().started_at, None);

    first.annotate("cut-over", Some("approved")).await;
    let end = first.succeeded().await;
    second.succeeded().await;
    let began = second.latest().status().started_at.unwrap();
    assert!(began >= end.status().completed_at.unwrap(), "the second has begun at {began:?}");
    let definition = shop.db.definition("orders").await;
    assert!(definition.contains("`status`") && definition.contains("`more`"), "{definition}");
    shop.end(&[]).await;
}

/// An old table that stays keeps nobody waiting, and who waits is told of clauses that no place would help.
#[tokio::test]
async fn an_old_table_is_no_lock_and_nonsense_does_not_wait() {
    let mut shop = Shop::new("oldlock").await;
    shop.table("orders", 100).await;
    let day = || json!({"oldTable": {"retention": "24h"}});
    let mut first = shop.migrate("first", "orders", day(), &[]).await;
    assert_eq!(first.succeeded().await.status().tables.unwrap().old, "_orders_del");
    let mut second =
        shop.migrate("second", "orders", json!({"alter": "MODIFY status VARCHAR(41)", "oldTable": {"retention": "2s"}}), &[]).await;
    let old = second.succeeded().await.status().tables.unwrap().old;
    assert!(old.starts_with("_orders_20") && old.ends_with("_del"), "{old}");
    let mut instant = shop.migrate("instant", "orders", json!({"alter": "ADD COLUMN more INT", "algorithm": "Instant"}), &[]).await;
    instant.succeeded().await;
    second.event("OldTableDropped").await;
    assert!(shop.db.tables().await.contains(&"_orders_del".to_owned()) && !shop.db.tables().await.contains(&old));

    let mut waiting = shop.migrate("waiting", "orders", json!({"alter": "ADD COLUMN w INT", "cutOver": {"policy": "Manual"}}), &[]).await;
    waiting.phase("AwaitingCutOver").await;
    for (name, alter, reason) in
        [("typo", "ADD COLUM x INT,", "AlterNotSupported"), ("renamed", "RENAME TO elsewhere", "AlterNotSupported")]
    {
        let mut bad = shop.migrate(name, "orders", json!({"alter": alter}), &[]).await;
        let end =
            bad.until("it is refused while another one has the table", |version| version.condition("Succeeded").starts_with("False")).await;
        assert_eq!(end.condition("Succeeded"), format!("False/{reason}"));
        assert_eq!(end.status().started_at, None);
    }
    waiting.annotate("cut-over", Some("approved")).await;
    waiting.succeeded().await;
    // The first one's old table goes with its own retention, and not with anybody else's.
    first.patch(json!({"spec": {"oldTable": {"retention": "1s"}}})).await;
    first.event("OldTableDropped").await;
    shop.end(&[]).await;
}

/// What neither the place nor those before it would change is reported while a migration waits, and what they may still change is not final.
#[tokio::test]
async fn who_waits_is_refused_at_once_where_no_place_would_help() {
    let mut shop = Shop::new("ahead").await;
    shop.table("orders", 100).await;
    shop.db.run("CREATE TABLE keyless (a INT, b INT)").await;
    // An account that may read and nothing else, on the same server.
    let (poor, password) = (format!("p{:x}", fastrand::u64(..)), shop.password.clone());
    shop.db.run(&format!("CREATE USER '{poor}'@'%' IDENTIFIED BY '{password}'")).await;
    shop.db.run(&format!("GRANT SELECT ON `{}`.* TO '{poor}'@'%'", shop.db.name)).await;
    shop.secret("poor", &[("username", &poor), ("password", &password)]).await;
    let port = address(&mysql_url()).port;

    let manual = json!({"alter": "ADD COLUMN w INT", "cutOver": {"policy": "Manual"}});
    let mut first = shop.migrate("first", "orders", manual.clone(), &[]).await;
    first.phase("AwaitingCutOver").await;
    let no_login = json!({"target": {"serverRef": null, "host": "127.0.0.1", "port": port, "credentialsSecretRef": {"name": "poor"}}});
    for (name, change, reason, word) in [
        ("rights", with(json!({"alter": "MODIFY customer BIGINT"}), no_login), "MissingPrivilege", "INSERT"),
        ("column", json!({"alter": "MODIFY nope BIGINT"}), "AlterRejected", "nope"),
        ("key", json!({"alter": "DROP COLUMN id, DROP COLUMN reference"}), "NoUsableKey", "key"),
    ] {
        let mut bad = shop.migrate(name, "orders", change, &[]).await;
        let end = bad.until("it is refused while it waits", |version| version.condition("Succeeded").starts_with("False")).await;
        assert_eq!(end.condition("Stalled"), format!("True/{reason}"), "{name}: {}", end.message("Stalled"));
        assert_eq!(end.condition("Validated"), format!("False/{reason}"));
        assert!(end.message("Stalled").contains(word), "{name}: {}", end.message("Stalled"));
        assert_eq!(end.status().started_at, None);
        // It is not in the way of the next one.
        assert!(first.latest().is("Succeeded", "Unknown"));
    }
    // The one before it adds the column: that is no refusal.
    let mut builds_on_it = shop.migrate("builds-on-it", "orders", json!({"alter": "MODIFY w BIGINT"}), &[]).await;
    let told = builds_on_it.until("it is said what it depends on", |version| version.message("Ready").contains("AlterRejected")).await;
    assert_eq!(told.condition("Ready"), "False/Queued");
    assert!(told.message("Ready").starts_with(&format!("waiting for {}/first", shop.namespace)), "{}", told.message("Ready"));
    first.annotate("cut-over", Some("approved")).await;
    first.succeeded().await;
    builds_on_it.succeeded().await;
    shop.db.run(&format!("DROP USER '{poor}'@'%'")).await;
    shop.end(&[]).await;
}

/// The same for one that waits for a place on its server only.
#[tokio::test]
async fn who_waits_for_a_place_is_refused_at_once_too() {
    let mut shop = Shop::new("aheadlimit").await;
    let url = address(&mysql_url());
    let proxy = Proxy::start(format!("{}:{}", url.host, url.port).parse().unwrap(), Line::Open).await;
    shop.server("small", proxy.port, 1).await;
    shop.table("orders", 50).await;
    shop.table("items", 50).await;
    shop.db.run("CREATE TABLE keyless (a INT, b INT)").await;
    let on = |change: serde_json::Value| with(json!({"target": {"serverRef": {"name": "small"}}, "cutOver": {"policy": "Manual"}}), change);
    let mut first = shop.migrate("first", "orders", on(json!({})), &[]).await;
    first.phase("AwaitingCutOver").await;
    for (name, table, alter, reason) in [
        ("missing", "nothing-there", "ADD COLUMN a2 INT", "TableNotFound"),
        ("keyless", "keyless", "ADD COLUMN a2 INT", "NoUsableKey"),
        ("rejected", "items", "ADD COLUMN id INT", "AlterRejected"),
    ] {
        let mut bad = shop.migrate(name, table, on(json!({"alter": alter})), &[]).await;
        let end = bad.until("it is refused while it waits", |version| version.condition("Succeeded").starts_with("False")).await;
        assert_eq!(end.condition("Stalled"), format!("True/{reason}"), "{name}: {}", end.message("Stalled"));
        assert_eq!(end.status().started_at, None);
    }
    let mut good = shop.migrate("good", "items", on(json!({"cutOver": {"policy": "Automatic"}})), &[]).await;
    let queued = good.until("it waits for a place", |version| version.message("Ready").contains("free slot")).await;
    assert_eq!(queued.message("Ready"), format!("waiting for a free slot on 127.0.0.1:{} (1 in use)", proxy.port));
    first.annotate("cut-over", Some("approved")).await;
    first.succeeded().await;
    good.succeeded().await;
    shop.end(&[]).await;
}

#[tokio::test]
async fn a_server_takes_as_many_as_its_object_says() {
    let mut shop = Shop::new("limit").await;
    // An address that no other test has: places are counted by it.
    let url = address(&mysql_url());
    let proxy = Proxy::start(format!("{}:{}", url.host, url.port).parse().unwrap(), Line::Open).await;
    shop.server("small", proxy.port, 1).await;
    for table in ["a", "b", "c"] {
        shop.table(table, 50).await;
    }
    let waits = || json!({"target": {"serverRef": {"name": "small"}}, "cutOver": {"policy": "Manual"}});
    let mut first = shop.migrate("first", "a", waits(), &[]).await;
    first.phase("AwaitingCutOver").await;
    let mut second = shop.migrate("second", "b", waits(), &[]).await;
    let queued = second.until("it waits for a place", |version| version.message("Ready").contains("free slot")).await;
    assert_eq!(queued.message("Ready"), format!("waiting for a free slot on 127.0.0.1:{} (1 in use)", proxy.port));
    assert_eq!(queued.condition("Ready"), "False/Queued");
    // A bigger server: the one that waits is told by the change.
    shop.server("small", proxy.port, 2).await;
    second.phase("AwaitingCutOver").await;
    // A paused one gives its place back.
    let mut third = shop.migrate("third", "c", waits(), &[]).await;
    third.until("it waits for a place", |version| version.message("Ready").contains("(2 in use)")).await;
    first.annotate("pause", Some("true")).await;
    third.phase("AwaitingCutOver").await;
    // And waits for one when it wants to go on.
    first.until("it is paused", |version| version.is("Paused", "True")).await;
    first.annotate("pause", None).await;
    first.phase("Queued").await;
    second.annotate("cut-over", Some("approved")).await;
    second.succeeded().await;
    first.phase("AwaitingCutOver").await;
    for migration in [&mut first, &mut third] {
        migration.annotate("cut-over", Some("approved")).await;
        migration.succeeded().await;
    }
    shop.end(&[]).await;
}
