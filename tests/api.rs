//! The custom resources on a real API server: what it fills in, what it refuses and with which words, what may change, what people see.
//!
//! `THESEUS_TEST_KUBECONFIG` names the cluster (`hack/with-parts --kube -- …` sets it). Without it the suite fails with a sentence. The
//! definitions are applied to the cluster and left there; each test has a namespace of its own. No operator runs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client, Config, Resource};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use theseus::api::{MySQLServer, SchemaMigration, custom_resource_definitions};

static NEXT: AtomicU32 = AtomicU32::new(0);

struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    /// The definitions are there, and a namespace of the test's own.
    async fn new() -> Self {
        let file = std::env::var("THESEUS_TEST_KUBECONFIG").expect(
            "THESEUS_TEST_KUBECONFIG is not set: run the tests by `make test`, or `hack/with-parts --kube -- cargo test --test api`",
        );
        let kubeconfig = kube::config::Kubeconfig::read_from(file).unwrap();
        let client = Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap()).unwrap();
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for (_, definition) in custom_resource_definitions() {
            let name = definition.metadata.name.clone().unwrap();
            definitions.patch(&name, &PatchParams::apply("theseus-tests").force(), &Patch::Apply(&definition)).await.unwrap();
            until(&format!("{name} is established"), async || {
                let conditions = definitions.get(&name).await.unwrap().status.unwrap_or_default().conditions.unwrap_or_default();
                conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
            })
            .await;
        }
        let namespace = format!("api-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let object =
            Namespace { metadata: kube::core::ObjectMeta { name: Some(namespace.clone()), ..Default::default() }, ..Default::default() };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let cluster = Self { client, namespace };
        // A definition may be established a moment before every handler serves it.
        until("both kinds are served", async || {
            cluster.api::<SchemaMigration>().list(&ListParams::default()).await.is_ok()
                && cluster.api::<MySQLServer>().list(&ListParams::default()).await.is_ok()
        })
        .await;
        cluster
    }

    fn api<K: Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::erase::<K>(&()))
    }

    /// Creates an object as `kubectl create --validate=strict` does.
    async fn create<K: Resource<DynamicType = ()>>(&self, name: &str, spec: &Value) -> Result<DynamicObject, String> {
        let object = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "spec": spec});
        let params = PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply("test") };
        self.api::<K>().patch(name, &params, &Patch::Apply(object)).await.map_err(|error| error.to_string())
    }

    async fn change(&self, name: &str, spec: &Value) -> Result<DynamicObject, String> {
        let params = PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::default() };
        self.api::<SchemaMigration>().patch(name, &params, &Patch::Merge(json!({"spec": spec}))).await.map_err(|error| error.to_string())
    }
}

/// Waits for something that has to become true.
async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_true().await {
        assert!(began.elapsed() < Duration::from_secs(180), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn migration() -> Value {
    json!({"target": {"serverRef": {"name": "srv"}}, "database": "shop", "table": "orders", "alter": "ADD COLUMN a INT"})
}

fn with(change: Value) -> Value {
    let mut spec = migration();
    merge(&mut spec, change);
    spec
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, change) => *into = change,
    }
}

/// Whether everything of `part` is in `whole`, whatever else there is.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|whole| contains(whole, value)))
        }
        (whole, part) => whole == part,
    }
}

#[tokio::test]
async fn defaults_are_filled_in_and_are_those_of_the_types() {
    let cluster = Cluster::new().await;
    let stored = cluster.create::<SchemaMigration>("m", &migration()).await.unwrap();
    let expected = json!({
        "target": {"serverRef": {"name": "srv"}}, "database": "shop", "table": "orders", "alter": "ADD COLUMN a INT",
        "mode": "Execute", "algorithm": "Auto", "after": [], "suspend": false,
        "copy": {"workers": 0, "targetChunkTime": "500ms", "deferIndexes": "Auto", "exactRowCount": false},
        "verify": {"policy": "Always"},
        "cutOver": {"policy": "Automatic", "method": "Auto", "lockTimeout": "3s", "windows": [], "killBlockersAfter": "0s", "maxLockedTables": 16},
        "oldTable": {"retention": "24h"}, "deletionPolicy": "Cleanup", "ttlAfterFinished": "",
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&stored.data["spec"][field], value, "spec.{field}");
    }
    // What the API server fills in is what the types read from nothing.
    let from_nothing: theseus::api::SchemaMigrationSpec = serde_json::from_value(migration()).unwrap();
    let from_server: theseus::api::SchemaMigrationSpec = serde_json::from_value(stored.data["spec"].clone()).unwrap();
    assert_eq!(from_nothing, from_server);
    // A part that is given keeps the defaults of the rest of its group.
    let partly = cluster.create::<SchemaMigration>("partly", &with(json!({"copy": {"workers": 3}}))).await.unwrap();
    assert_eq!(
        partly.data["spec"]["copy"],
        json!({"workers": 3, "targetChunkTime": "500ms", "deferIndexes": "Auto", "exactRowCount": false})
    );

    let server = json!({"host": "db", "credentialsSecretRef": {"name": "login"}});
    let stored = cluster.create::<MySQLServer>("srv", &server).await.unwrap();
    let expected = json!({"host": "db", "port": 3306, "credentialsSecretRef": {"name": "login"}, "tls": {"mode": "Preferred"},
        "replicas": {"discovery": "Auto", "hosts": []}, "maxConcurrentMigrations": 2});
    assert_eq!(stored.data["spec"], expected);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_the_name_of_its_field() {
    let cluster = Cluster::new().await;
    let host = |change: Value| {
        let mut target = json!({"serverRef": null, "host": "db", "credentialsSecretRef": {"name": "login"}});
        merge(&mut target, json!({}));
        for (key, value) in change.as_object().unwrap() {
            target[key] = value.clone();
        }
        with(json!({"target": target}))
    };
    let accepted = [
        ("a host", host(json!({}))),
        ("a host with everything", host(json!({"port": 3307, "tls": {"mode": "VerifyIdentity", "secretRef": {"name": "tls"}}}))),
        ("names with spaces, dots, umlauts and backticks", with(json!({"database": "my shop", "table": "Größe `x`.ü"}))),
        ("64 characters", with(json!({"table": "ü".repeat(64)}))),
        (
            "bounds",
            with(json!({"copy": {"targetChunkTime": "10s", "workers": 64}, "cutOver": {"lockTimeout": "1m", "killBlockersAfter": "24h",
                    "windows": [{"schedule": "*/15 0-6 1,15 JAN-DEC MON#2", "duration": "168h", "timeZone": "Europe/Berlin"}]}, "throttle": {"niceRatioPercent": 1000}})),
        ),
        ("others that come first", with(json!({"after": ["a", "b.c-d", "x".repeat(253).as_str()]}))),
        ("an old table for ever", with(json!({"oldTable": {"retention": "Keep"}, "ttlAfterFinished": "1h30m"}))),
    ];
    for (index, (what, spec)) in accepted.iter().enumerate() {
        let result = cluster.create::<SchemaMigration>(&format!("good-{index}"), spec).await;
        assert!(result.is_ok(), "{what}: {result:?}");
    }
    let refused = [
        ("spec.target", "exactly one of serverRef and host", with(json!({"target": {"serverRef": null}}))),
        (
            "spec.target",
            "exactly one of serverRef and host",
            with(json!({"target": {"host": "db", "credentialsSecretRef": {"name": "x"}}})),
        ),
        ("spec.target", "go with host", with(json!({"target": {"port": 3306}}))),
        ("spec.target", "go with host", with(json!({"target": {"tls": {"mode": "Required"}}}))),
        ("spec.target", "host needs credentialsSecretRef", with(json!({"target": {"serverRef": null, "host": "db"}}))),
        ("spec.target.port", "65535", host(json!({"port": 65536}))),
        ("spec.target.host", "should match", host(json!({"host": "a b"}))),
        ("spec.target.tls", "need secretRef", host(json!({"tls": {"mode": "VerifyCA"}}))),
        ("spec.target.tls.mode", "Unsupported value", host(json!({"tls": {"mode": "Maybe"}}))),
        ("spec.database", "Required value", with(json!({"database": null}))),
        ("spec.database", "at least 1 chars", with(json!({"database": ""}))),
        ("spec.table", "64", with(json!({"table": "x".repeat(65)}))),
        ("spec.table", "should match", with(json!({"table": "a/b"}))),
        ("spec.table", "should match", with(json!({"table": "a "}))),
        ("spec.table", "should match", with(json!({"table": "a\nb"}))),
        ("spec.alter", "at least 1 chars", with(json!({"alter": ""}))),
        ("spec.alter", "32768", with(json!({"alter": "x".repeat(32769)}))),
        ("spec.mode", "Unsupported value", with(json!({"mode": "Test"}))),
        ("spec", "algorithm must be Auto or Copy", with(json!({"mode": "TestOnReplica", "algorithm": "Instant"}))),
        ("spec.algorithm", "Unsupported value", with(json!({"algorithm": "copy"}))),
        ("spec.after", "duplicate entries", with(json!({"after": ["a", "b", "a"]}))),
        ("spec.after[0]", "should match", with(json!({"after": ["Orders"]}))),
        ("spec.after[1]", "at least 1", with(json!({"after": ["a", ""]}))),
        ("spec.after[0]", "253", with(json!({"after": ["x".repeat(254)]}))),
        ("spec.after", "16", with(json!({"after": (0..17).map(|n| format!("m{n}")).collect::<Vec<_>>()}))),
        ("spec.copy.workers", "greater than or equal to 0", with(json!({"copy": {"workers": -1}}))),
        ("spec.copy.workers", "less than or equal to 64", with(json!({"copy": {"workers": 65}}))),
        ("spec.copy.targetChunkTime", "between 10ms and 10s", with(json!({"copy": {"targetChunkTime": "9ms"}}))),
        ("spec.copy.targetChunkTime", "between 10ms and 10s", with(json!({"copy": {"targetChunkTime": "11s"}}))),
        ("spec.copy.targetChunkTime", "should match", with(json!({"copy": {"targetChunkTime": "fast"}}))),
        ("spec.cutOver.maxLockedTables", "greater than or equal to 1", with(json!({"cutOver": {"maxLockedTables": 0}}))),
        ("spec.cutOver.lockTimeout", "between 1s and 1m", with(json!({"cutOver": {"lockTimeout": "2m"}}))),
        ("spec.cutOver.killBlockersAfter", "0s, or between 1s and 24h", with(json!({"cutOver": {"killBlockersAfter": "10ms"}}))),
        (
            "spec.cutOver.windows[0].duration",
            "between 1m and 168h",
            with(json!({"cutOver": {"windows": [{"schedule": "0 2 * * *", "duration": "30s"}]}})),
        ),
        ("spec.cutOver.windows", "16", with(json!({"cutOver": {"windows": vec![json!({"schedule": "0 2 * * *", "duration": "1h"}); 17]}}))),
        ("spec.cutOver.method", "Unsupported value", with(json!({"cutOver": {"method": "TwoStep"}}))),
        ("spec.verify.policy", "Unsupported value", with(json!({"verify": {"policy": "Sometimes"}}))),
        ("spec.cutOver.policy", "Unsupported value", with(json!({"cutOver": {"policy": "Sometimes"}}))),
        ("spec.throttle.niceRatioPercent", "1000", with(json!({"throttle": {"niceRatioPercent": 1001}}))),
        ("spec.throttle.maxReplicaLag", "between 1s and 24h", with(json!({"throttle": {"maxReplicaLag": "500ms"}}))),
        ("spec.throttle.httpUrl", "should match", with(json!({"throttle": {"httpUrl": "ftp://x"}}))),
        ("spec.throttle.replicas.discovery", "Unsupported value", with(json!({"throttle": {"replicas": {"discovery": "Maybe"}}}))),
        ("spec.oldTable.retention", "should match", with(json!({"oldTable": {"retention": "1d"}}))),
        ("spec.deletionPolicy", "Unsupported value", with(json!({"deletionPolicy": "Keep"}))),
        ("spec.ttlAfterFinished", "should match", with(json!({"ttlAfterFinished": "soon"}))),
        (".spec.tabel", "field not declared in schema", with(json!({"tabel": "orders"}))),
        // Of a later version: not accepted and ignored.
        (".spec.workSchemas", "field not declared in schema", with(json!({"workSchemas": {"old": "o"}}))),
        ("spec.revert.window", "window must be 0s, or between 1m and 720h", with(json!({"revert": {"window": "30s"}}))),
        ("spec", "revert.window needs mode Execute", with(json!({"mode": "ExecuteOnReplica", "revert": {"window": "1h"}}))),
        ("spec.hooks[0].url", "should match", with(json!({"hooks": [{"when": ["Failed"], "url": "ftp://h/"}]}))),
        ("spec.hooks[0].when", "at least 1", with(json!({"hooks": [{"when": [], "url": "http://h/"}]}))),
        ("spec.hooks[0].when[0]", "Unsupported value", with(json!({"hooks": [{"when": ["Never"], "url": "http://h/"}]}))),
        (
            "spec.hooks[0].timeout",
            "timeout must be between 1s and 1m",
            with(json!({"hooks": [{"when": ["Failed"], "url": "http://h/", "timeout": "2m"}]})),
        ),
    ];
    for (field, words, spec) in refused {
        let error = cluster.create::<SchemaMigration>("bad", &spec).await.expect_err(field);
        assert!(error.contains(field) && error.contains(words), "{field} / {words}: {error}");
    }
    for (field, spec) in [
        ("spec.credentialsSecretRef", json!({"host": "db"})),
        ("spec.host", json!({"host": "", "credentialsSecretRef": {"name": "x"}})),
        ("spec.maxConcurrentMigrations", json!({"host": "db", "credentialsSecretRef": {"name": "x"}, "maxConcurrentMigrations": 0})),
        ("spec.tls", json!({"host": "db", "credentialsSecretRef": {"name": "x"}, "tls": {"mode": "VerifyIdentity"}})),
    ] {
        let error = cluster.create::<MySQLServer>("bad", &spec).await.expect_err(field);
        assert!(error.contains(field), "{field}: {error}");
    }
}

#[tokio::test]
async fn the_what_is_immutable_and_the_refusal_says_what_to_do() {
    let cluster = Cluster::new().await;
    cluster.create::<SchemaMigration>("m", &migration()).await.unwrap();
    for (field, change) in [
        ("target", json!({"target": {"serverRef": {"name": "other"}}})),
        ("target", json!({"target": {"serverRef": null, "host": "db", "credentialsSecretRef": {"name": "x"}}})),
        ("database", json!({"database": "other"})),
        ("table", json!({"table": "other"})),
        ("alter", json!({"alter": "DROP COLUMN a"})),
        ("alter and desired", json!({"alter": null, "desired": "CREATE TABLE orders (id INT PRIMARY KEY)"})),
        ("mode", json!({"mode": "DryRun"})),
        ("algorithm", json!({"algorithm": "Copy"})),
        ("after", json!({"after": ["other"]})),
    ] {
        let error = cluster.change("m", &change).await.expect_err(field);
        let are = if field.contains(" and ") { "are" } else { "is" };
        assert!(error.contains(&format!("{field} {are} immutable: create a new SchemaMigration")), "{field}: {error}");
    }
    let how = json!({
        "suspend": true, "copy": {"workers": 4, "targetChunkTime": "1s", "deferIndexes": "Never", "exactRowCount": true}, "throttle": {"niceRatioPercent": 50},
        "verify": {"policy": "Never"}, "cutOver": {"policy": "Manual", "method": "LockAndRename", "lockTimeout": "10s", "windows": [{"schedule": "0 2 * * *", "duration": "2h", "timeZone": "UTC"}], "killBlockersAfter": "1m"}, "oldTable": {"retention": "0s"}, "deletionPolicy": "Orphan", "ttlAfterFinished": "1h",
    });
    let changed = cluster.change("m", &how).await.unwrap();
    for (field, value) in how.as_object().unwrap() {
        assert!(contains(&changed.data["spec"][field], value), "spec.{field}: {} lacks {value}", changed.data["spec"][field]);
    }
    // A null means "not given": the default comes back, and what is required is missing.
    assert_eq!(cluster.change("m", &json!({"copy": null})).await.unwrap().data["spec"]["copy"]["targetChunkTime"], json!("500ms"));
    assert!(cluster.change("m", &json!({"table": null})).await.is_err());
}

#[tokio::test]
async fn the_status_is_a_subresource_and_a_spec_write_leaves_it_alone() {
    let cluster = Cluster::new().await;
    let mut object = cluster.create::<SchemaMigration>("m", &migration()).await.unwrap();
    let generation = object.metadata.generation;
    let status = json!({"apiVersion": "theseus.dev/v1alpha1", "kind": "SchemaMigration", "status": {"phase": "Copying", "conditions": [
        {"type": "Ready", "status": "False", "reason": "Copying", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let params = PatchParams::apply("theseus").force();
    object.data = cluster.api::<SchemaMigration>().patch_status("m", &params, &Patch::Apply(status)).await.unwrap().data;
    assert_eq!(object.data["status"]["phase"], "Copying");
    let after = cluster.change("m", &json!({"suspend": true, "copy": {"workers": 1}})).await.unwrap();
    assert_eq!(after.data["status"], object.data["status"]);
    assert_eq!(after.metadata.generation, generation.map(|before| before + 1));
}

#[tokio::test]
async fn people_find_them_by_field_and_see_the_columns() {
    let cluster = Cluster::new().await;
    cluster.create::<SchemaMigration>("one", &migration()).await.unwrap();
    cluster.create::<SchemaMigration>("two", &with(json!({"table": "items"}))).await.unwrap();
    let api = cluster.api::<SchemaMigration>();
    for (selector, names) in [
        ("spec.table=items", vec!["two"]),
        ("spec.database=shop", vec!["one", "two"]),
        ("spec.database=other", vec![]),
        ("status.phase=Copying", vec![]),
    ] {
        let found = api.list(&ListParams::default().fields(selector)).await.unwrap();
        let found: Vec<_> = found.items.iter().filter_map(|object| object.metadata.name.as_deref()).collect();
        assert_eq!(found, names, "{selector}");
    }
    // What `kubectl get` asks for.
    let path = format!("/apis/theseus.dev/v1alpha1/namespaces/{}/schemamigrations", cluster.namespace);
    let request = axum::http::Request::get(path).header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").body(Vec::new()).unwrap();
    let table: Value = cluster.client.request(request).await.unwrap();
    let columns: Vec<(&str, i64)> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (column["name"].as_str().unwrap(), column["priority"].as_i64().unwrap()))
        .collect();
    let narrow: Vec<_> = columns.iter().filter(|(_, priority)| *priority == 0).map(|(name, _)| *name).collect();
    let wide: Vec<_> = columns.iter().filter(|(_, priority)| *priority == 1).map(|(name, _)| *name).collect();
    assert_eq!(narrow, ["Name", "Table", "Phase", "Progress", "ETA", "Age"]);
    assert_eq!(wide, ["Server", "Database", "Waits for", "Throttled by", "Algorithm", "Message"]);
}

#[tokio::test]
async fn short_names_and_the_category_are_served() {
    let cluster = Cluster::new().await;
    let path = "/apis/theseus.dev/v1alpha1";
    let request = axum::http::Request::get(path).body(Vec::new()).unwrap();
    let resources: Value = cluster.client.request(request).await.unwrap();
    for (plural, short) in [("schemamigrations", "smig"), ("mysqlservers", "mysrv")] {
        let resource = resources["resources"].as_array().unwrap().iter().find(|resource| resource["name"] == plural).unwrap();
        assert_eq!(resource["shortNames"], json!([short]));
        assert_eq!(resource["categories"], json!(["database"]));
    }
}
