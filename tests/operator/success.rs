//! From `kubectl apply` to the end, and what people, programs and Prometheus see of it.
use crate::cluster::{Plane, Shared, http_get, until};
use crate::shop::{Shop, slowly, with};
use serde_json::json;

const ROWS: u64 = 12_000;

/// Reasons of `Ready` in the order in which they came.
fn reasons(migration: &crate::migration::Migration) -> Vec<String> {
    let mut reasons: Vec<String> =
        migration.versions().iter().map(|version| version.reason()).filter(|reason| !reason.is_empty()).collect();
    reasons.dedup();
    reasons
}

#[tokio::test]
async fn a_migration_goes_its_way_and_says_so() {
    let mut shop = Shop::new("success").await;
    shop.table("orders", ROWS).await;
    let mut migration =
        shop.migrate("m", "orders", with(slowly(), json!({"cutOver": {"policy": "Manual", "lockTimeout": "60s"}})), &[]).await;

    let copying = migration.until("it copies", |version| version.reason() == "Copying").await;
    assert_eq!(copying.condition("Throttled"), "False/NotThrottled");
    assert_eq!(copying.condition("Paused"), "False/NotPaused");
    assert_eq!(copying.condition("Accepted"), "True/Accepted");
    // Live numbers are in the metrics.
    let address = Shared::get().await.address;
    let series = format!("{{namespace=\"{}\",name=\"m\"}}", shop.namespace);
    until("the metrics know it", async || {
        let (status, metrics) = http_get(address, "/metrics").await;
        status == 200 && metrics.contains(&format!("theseus_rows_copied_total{series}"))
    })
    .await;
    assert_eq!((http_get(address, "/healthz").await.0, http_get(address, "/readyz").await.0), (200, 200));
    assert_eq!(http_get(address, "/nothing").await.0, 404);

    // What `kubectl get` shows, narrow and wide.
    let plane = Plane::get();
    migration.phase("AwaitingCutOver").await;
    let get = |wide: &[&str]| {
        let arguments = [&["get", "smig", "m", "-n", &shop.namespace], wide].concat();
        plane.kubectl(&arguments, "").stdout().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let narrow = get(&[]);
    assert_eq!(narrow[0].split_whitespace().collect::<Vec<_>>(), ["NAME", "TABLE", "PHASE", "PROGRESS", "ETA", "AGE"]);
    let row: Vec<&str> = narrow[1].split_whitespace().collect();
    assert_eq!(row[..3], ["m", "orders", "AwaitingCutOver"]);
    assert!(row[3].starts_with("100"), "{row:?}");
    let wide = get(&["-o", "wide"]);
    assert!(wide[0].contains("SERVER") && wide[0].contains("THROTTLED BY") && wide[0].contains("ALGORITHM"), "{wide:?}");
    assert!(wide[1].contains("127.0.0.1:") && wide[1].contains(" Copy ") && wide[1].contains("ready for the cut-over"), "{wide:?}");

    // What scripts do.
    let (namespace, waiter) = (shop.namespace.clone(), tokio::task::spawn_blocking);
    let waiting =
        waiter(move || Plane::get().kubectl(&["wait", "--for=condition=Ready", "smig/m", "-n", &namespace, "--timeout=180s"], "").stdout());
    migration.annotate("cut-over", Some("approved")).await;
    assert!(waiting.await.unwrap().contains("condition met"));

    let end = migration.succeeded().await;
    let status = end.status();
    assert_eq!(end.condition("Succeeded"), "True/Succeeded");
    assert_eq!(end.condition("CutOverReady"), "False/Succeeded");
    assert_eq!(end.phase(), "Succeeded");
    assert_eq!(status.message.as_deref(), Some("the table has its new definition"));
    assert_eq!(status.observed_generation, end.object.metadata.generation);
    assert_eq!(status.algorithm.as_ref().unwrap().chosen, "Copy");
    let progress = status.progress.unwrap();
    assert_eq!((progress.rows_copied, progress.percent, progress.backlog, progress.eta), (12_000, 100, 0, None));
    let cut_over = status.cut_over.unwrap();
    assert!(cut_over.attempts == 1 && cut_over.locked_milliseconds.is_some() && cut_over.approved_at.is_some(), "{cut_over:?}");
    let verification = status.verification.unwrap();
    assert!(verification.result.starts_with("Same: ") && verification.chunks_checked > 0, "{verification:?}");
    assert!(status.engine.unwrap().instance.starts_with("operator-"));
    assert!(status.started_at.unwrap() <= status.completed_at.unwrap());

    // Nothing is left, and the status says so too.
    migration.until("no table is left", |version| version.status().tables.is_some_and(|tables| tables.is_empty())).await;
    assert_eq!(shop.strange_tables(&["orders"]).await, [""; 0]);
    assert!(shop.is_migrated("orders").await);
    assert_eq!(shop.db.value::<u64>("SELECT COUNT(*) FROM orders WHERE status = 'new'").await, ROWS);

    // "Queued" and "CuttingOver" may be too short to be written.
    let mut way = reasons(&migration);
    way.retain(|reason| !["Queued", "CuttingOver"].contains(&reason.as_str()));
    assert_eq!(way, ["Inspecting", "Copying", "AwaitingCutOver", "Succeeded"]);
    migration.event("Succeeded").await;
    migration.event("OldTableDropped").await;
    let events = migration.events().await;
    for reason in ["Started", "Copying", "AwaitingCutOver", "Succeeded"] {
        assert!(events.iter().any(|event| event == reason), "{reason}: {events:?}");
    }
    for (reason, type_, note) in migration.event_notes().await {
        assert_eq!(type_, "Normal", "{reason}: {note}");
    }
    until("its series are gone", async || !http_get(address, "/metrics").await.1.contains(&series)).await;
    shop.end(&[]).await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_auto_takes_the_cheap_way() {
    let mut shop = Shop::new("cheap").await;
    shop.table("orders", 100).await;
    let mut dry = shop.migrate("dry", "orders", json!({"mode": "DryRun"}), &[]).await;
    let end = dry.succeeded().await;
    assert!(end.status().message.unwrap().starts_with("dry run"), "{:?}", end.status().message);
    shop.untouched("orders", 100).await;
    let mut instant = shop.migrate("instant", "orders", json!({"alter": "ADD COLUMN a INT", "algorithm": "Auto"}), &[]).await;
    let end = instant.succeeded().await;
    assert_eq!(end.status().algorithm.unwrap().chosen, "Instant");
    until("no table is left", async || shop.strange_tables(&["orders"]).await.is_empty()).await;
    assert!(shop.db.definition("orders").await.contains("`a` int"));
    shop.end(&[]).await;
}

/// A finished migration may keep the old table, and deleting the object does not take it away.
#[tokio::test]
async fn the_old_table_stays_for_its_retention_and_survives_the_object() {
    let mut shop = Shop::new("retention").await;
    shop.table("orders", 100).await;
    shop.table("items", 100).await;
    let mut kept = shop.migrate("kept", "orders", json!({"oldTable": {"retention": "1h"}}), &[]).await;
    let mut brief = shop.migrate("brief", "items", json!({"oldTable": {"retention": "2s"}, "ttlAfterFinished": "3s"}), &[]).await;
    assert_eq!(kept.succeeded().await.status().tables.unwrap().old, "_orders_del");
    brief.succeeded().await;
    brief.gone(crate::shop::BOUND).await;
    kept.delete().await;
    kept.gone(crate::shop::BOUND).await;
    let mut tables = shop.strange_tables(&["orders", "items"]).await;
    tables.retain(|table| table != "_orders_ghc");
    assert_eq!(tables, ["_orders_del"], "the old table is never dropped by a deletion");
    assert!(shop.is_migrated("orders").await && shop.is_migrated("items").await);
    shop.end(&[]).await;
}

/// A definition instead of clauses: what it comes to is in the status, twice the same is nothing, and what loses something is refused.
#[tokio::test]
async fn a_definition_comes_to_clauses() {
    let mut shop = Shop::new("desired").await;
    shop.db.run("CREATE TABLE items (id INT PRIMARY KEY, a INT)").await;
    shop.db.run("INSERT INTO items VALUES (1, 1), (2, 2)").await;
    let spec = |definition: &str| json!({"target": {"serverRef": {"name": "mysql"}}, "database": shop.db.name, "table": "items", "desired": definition, "oldTable": {"retention": "0s"}});
    let definition = "CREATE TABLE items (id INT PRIMARY KEY, a BIGINT, b VARCHAR(20) NOT NULL DEFAULT 'it''s', KEY (b))";
    let mut first = shop.create("first", spec(definition), &[]).await;
    let end = first.succeeded().await;
    let clauses = "MODIFY COLUMN `a` bigint DEFAULT NULL, ADD COLUMN `b` varchar(20) NOT NULL DEFAULT 'it''s', ADD KEY `b` (`b`)";
    assert_eq!(end.status().clauses.as_deref(), Some(clauses));
    let mut second = shop.create("second", spec(definition), &[]).await;
    let end = second.succeeded().await;
    let status = end.status();
    assert_eq!(status.clauses.as_deref(), Some(""));
    assert!(status.algorithm.unwrap().reason.contains("nothing to do"));
    let less = spec("CREATE TABLE items (id INT PRIMARY KEY, a BIGINT)");
    let mut refused = shop.create("refused", less.clone(), &[]).await;
    let end = refused.until("it is over", |version| version.is("Stalled", "True")).await;
    assert_eq!(end.condition("Stalled"), "True/DestructiveChange");
    assert!(end.message("Stalled").contains("the column `b` is dropped"), "{}", end.message("Stalled"));
    let mut allowed = shop.create("allowed", with(less, json!({"allowDestructive": true})), &[]).await;
    allowed.succeeded().await;
    assert!(!shop.db.definition("items").await.contains("`b`"));
    shop.end(&[]).await;
}
