//! An object that this version cannot read: it stops nobody else, is told so, and can be deleted.
//!
//! It is stored through a second version of the resource that takes anything, as a laxer schema of the past would have left it behind.
use crate::cluster::until;
use crate::shop::{BOUND, Shop};
use kube::api::{DeleteParams, PostParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};

#[tokio::test]
async fn an_undecodable_object_stops_nobody_else() {
    let mut shop = Shop::new("odd").await;
    shop.table("orders", 100).await;
    let lax = shop.lax_api();
    let target = json!({"serverRef": {"name": "mysql"}});
    let bad = [
        ("no-table", json!({"target": target, "database": shop.db.name, "alter": "ADD COLUMN a INT"})),
        ("bad-mode", json!({"target": target, "database": shop.db.name, "table": "orders", "alter": "ADD COLUMN a INT", "mode": "Fast"})),
        ("no-spec", Value::Null),
    ];
    for (name, spec) in &bad {
        let object = json!({"apiVersion": "theseus.dev/v1alpha0", "kind": "SchemaMigration", "metadata": {"name": name}, "spec": spec});
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        until("the lax version is served", async || match lax.create(&PostParams::default(), &object).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 409 => true,
            Err(error) => {
                eprintln!("{name}: {error}");
                false
            }
        })
        .await;
    }
    let mut good = shop.migrate("good", "orders", json!({}), &[]).await;
    good.succeeded().await;
    for (name, _) in &bad {
        until(&format!("{name} is told"), async || {
            let object = lax.get(name).await.unwrap();
            let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let word = |type_: &str| {
                let found = conditions.iter().find(|condition| condition["type"] == type_);
                found.map(|condition| format!("{}/{}", condition["status"], condition["reason"]).replace('"', "")).unwrap_or_default()
            };
            word("Accepted") == "False/InvalidSpec" && word("Stalled") == "True/InvalidSpec" && word("Ready") == "False/InvalidSpec"
        })
        .await;
        lax.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let began = std::time::Instant::now();
    until("they can be deleted", async || lax.list(&Default::default()).await.unwrap().items.len() == 1).await;
    assert!(began.elapsed() < BOUND);
    shop.end(&[]).await;
}
