//! A rehearsal on a replica, through the API server.
use crate::cluster::until;
use crate::shop::{BOUND, Shop, with};
use crate::support::{PrivateServer, address, connect};
use kube::api::{Patch, PatchParams};
use mysql_async::prelude::Queryable;
use serde_json::json;
use std::time::Duration;
use theseus::api::MySQLServer;

/// The tables of a database on a server.
async fn tables(server: &PrivateServer) -> Vec<String> {
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'rehearsal' ORDER BY 1";
    connect(&server.url).await.query(sql).await.unwrap()
}

#[tokio::test]
async fn a_test_on_a_replica_leaves_the_new_table_until_the_object_goes() {
    let shop = Shop::new("rehearsal").await;
    let primary = PrivateServer::start(&[]).await;
    let replica = PrivateServer::replica_of(&primary).await;
    connect(&replica.url).await.query_drop("SET GLOBAL super_read_only = OFF").await.unwrap();
    let mut conn = connect(&primary.url).await;
    conn.query_drop(
        "CREATE DATABASE rehearsal; CREATE TABLE rehearsal.orders (id INT AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL); \
         INSERT INTO rehearsal.orders (v) VALUES (1), (2), (3)",
    )
    .await
    .unwrap();
    until("the replica has the rows", async || tables(&replica).await == ["orders"]).await;
    let login = address(&replica.url);
    shop.secret("replica", &[("username", &login.username), ("password", &login.password)]).await;
    let spec = |server: &PrivateServer, mode: &str| {
        json!({
            "target": {"host": "127.0.0.1", "port": address(&server.url).port, "credentialsSecretRef": {"name": "replica"}},
            "database": "rehearsal", "table": "orders", "alter": "MODIFY v BIGINT NOT NULL", "mode": mode,
        })
    };
    // Pointed at the primary by mistake.
    let mut wrong = shop.create("wrong", spec(&primary, "TestOnReplica"), &[]).await;
    let refused = wrong.until("it is refused", |version| version.is("Stalled", "True")).await;
    assert_eq!(refused.condition("Stalled"), "True/NotAReplica");
    assert_eq!(tables(&primary).await, ["orders"]);

    let mut test = shop.create("right", spec(&replica, "TestOnReplica"), &[]).await;
    let over = test.succeeded().await;
    assert!(over.message("Ready").contains("swapped back"), "{}", over.message("Ready"));
    let left = over.status().tables.unwrap();
    assert_eq!((left.ghost.as_str(), left.old.as_str()), ("_orders_rgho", ""));
    for event in ["ReplicationStopped", "Swapped", "ReplicationStarted"] {
        test.event(event).await;
    }
    assert_eq!(tables(&replica).await, ["_orders_rghc", "_orders_rgho", "orders"]);
    let bigint =
        "SELECT column_type FROM information_schema.columns WHERE table_schema = 'rehearsal' AND column_name = 'v' ORDER BY table_name";
    let types: Vec<String> = connect(&replica.url).await.query(bigint).await.unwrap();
    assert_eq!(types, ["bigint", "int"], "the new table, and the table as it was");
    // The new table is nobody's but the object's.
    test.delete().await;
    test.gone(BOUND).await;
    assert_eq!(tables(&replica).await, ["orders"]);

    // Without a retention nothing of it stays.
    let at_once = with(spec(&replica, "TestOnReplica"), json!({"oldTable": {"retention": "0s"}}));
    let mut at_once = shop.create("at-once", at_once, &[]).await;
    at_once.succeeded().await;
    until("it is gone", async || tables(&replica).await == ["orders"]).await;
    at_once.event("TestTableDropped").await;
    shop.end(&[]).await;
}

/// A `MySQLServer` tells its replicas to the migrations that do not say themselves.
#[tokio::test]
async fn a_server_tells_whose_lag_counts() {
    let mut shop = Shop::new("lag").await;
    shop.table("orders", 200).await;
    shop.table("items", 200).await;
    // Nobody listens there: not knowing is not "all is well".
    let change = Patch::Merge(json!({"spec": {"replicas": {"hosts": ["127.0.0.1:1"]}}}));
    shop.api::<MySQLServer>().patch("mysql", &PatchParams::default(), &change).await.unwrap();
    let mut held = shop.migrate("held", "orders", json!({}), &[("throttle", "true")]).await;
    held.until("a person holds it", |version| version.condition("Throttled") == "True/User").await;
    // A replica that cannot be read is given ten seconds.
    tokio::time::sleep(Duration::from_secs(12)).await;
    held.annotate("throttle", None).await;
    let version = held.until("its replica holds it", |version| version.condition("Throttled") == "True/ReplicaLag").await;
    assert!(version.message("Throttled").contains("127.0.0.1:1"), "{}", version.message("Throttled"));
    // Whoever says it itself is not held, and neither is this one from now on.
    let none = json!({"throttle": {"replicas": {"discovery": "None"}}});
    shop.migrate("free", "items", none.clone(), &[]).await.succeeded().await;
    held.patch(json!({"spec": none})).await;
    held.succeeded().await;
    shop.end(&[]).await;
}
