//! A namespace, a database and a MySQL account of a test's own.
use crate::cluster::{Operator, PATIENCE, PRIVATE, Plane, Release, Shared, next, until};
use crate::migration::Migration;
use crate::support::{Db, address, mysql_url};
use crate::workload;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Client, ResourceExt as _};
use mysql_async::prelude::Queryable as _;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use theseus::api::{MySQLServer, SchemaMigration};

/// What a test changes, unless it says otherwise: nothing that the server can do by itself, and the writers' statements stay valid.
pub const ALTER: &str = "ADD COLUMN status VARCHAR(20) NOT NULL DEFAULT 'new', ADD INDEX (status), MODIFY customer BIGINT NOT NULL";

pub struct Shop {
    pub db: Db,
    pub client: Client,
    pub namespace: String,
    pub user: String,
    pub password: String,
    private: bool,
    began: Instant,
}

impl Shop {
    /// One that the shared operator looks after.
    pub async fn new(prefix: &str) -> Self {
        Shared::get().await;
        Self::make(prefix, false).await
    }

    /// One that the shared operator leaves alone, and a release of the chart that watches it only.
    pub async fn private(prefix: &str, values: &[&str]) -> (Self, Release) {
        Shared::get().await;
        let shop = Self::make(prefix, true).await;
        let watch = format!("watchNamespaces={{{}}}", shop.namespace);
        let mut all = vec!["crds.enabled=false", watch.as_str()];
        all.extend(values);
        let release = Release::install(&shop.namespace, &all);
        (shop, release)
    }

    async fn make(prefix: &str, private: bool) -> Self {
        let client = Plane::get().client().await;
        let mut db = Db::new(&format!("op_{prefix}")).await;
        let namespace = format!("{}-{}", prefix.replace('_', "-"), next());
        let object = json!({"metadata": {"name": namespace}});
        let object: Namespace = serde_json::from_value(object).unwrap();
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let (user, password) = (format!("u{:x}", fastrand::u64(..)), format!("pw-{:x}", fastrand::u64(..)));
        db.documented(&user, &password).await;
        let shop = Self { db, client, namespace, user, password, private, began: Instant::now() };
        let password = shop.password.clone();
        shop.secret("login", &[("username", &shop.user), ("password", &password)]).await;
        let port = address(&mysql_url()).port;
        shop.server("mysql", port, 60).await;
        shop
    }

    /// What docs/reference/mysqlserver.md calls optional: the account is shown who holds a table.
    pub async fn sees_blockers(&mut self) {
        let user = self.user.clone();
        self.db.run(&format!("GRANT SELECT ON performance_schema.* TO '{user}'@'%'")).await;
    }

    /// Makes a Secret, or changes it.
    pub async fn secret(&self, name: &str, keys: &[(&str, &str)]) {
        let data: serde_json::Map<String, Value> = keys.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        self.api::<Secret>().patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await.unwrap();
    }

    /// Makes a `MySQLServer`, or changes it.
    pub async fn server(&self, name: &str, port: u16, limit: u32) {
        let spec = json!({"host": "127.0.0.1", "port": port, "credentialsSecretRef": {"name": "login"}, "maxConcurrentMigrations": limit});
        let object = json!({"apiVersion": "theseus.dev/v1alpha1", "kind": "MySQLServer", "metadata": {"name": name}, "spec": spec});
        self.api::<MySQLServer>().patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await.unwrap();
    }

    pub fn api<K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The same objects through another version of the resource.
    pub fn lax_api(&self) -> Api<DynamicObject> {
        let mut resource = kube::discovery::ApiResource::erase::<SchemaMigration>(&());
        resource.version = crate::cluster::LAX.to_owned();
        resource.api_version = format!("theseus.dev/{}", crate::cluster::LAX);
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// A table with rows, as the writers know it.
    pub async fn table(&mut self, name: &str, rows: u64) {
        let database = self.db.name.clone();
        workload::create(&mut self.db.conn, &database, name, rows, WRITERS).await.unwrap();
    }

    /// Writers of a table that [`Shop::table`] made with so many rows.
    pub async fn writers(&self, table: &str, rows: u64, rate: f64) -> workload::Workload {
        let seed = fastrand::u64(..);
        eprintln!("{}: writers with seed {seed}", self.namespace);
        let (url, database, table) = (mysql_url(), self.db.name.clone(), table.to_owned());
        workload::Workload::start(workload::Plan { url, database, table, rows, writers: WRITERS, rate: Some(rate), seed }).await.unwrap()
    }

    /// A migration of `table` by [`ALTER`] and by copying, which keeps no old table; `change` is merged into the spec.
    pub async fn migrate(&self, name: &str, table: &str, change: Value, annotations: &[(&str, &str)]) -> Migration {
        let mut spec = json!({
            "target": {"serverRef": {"name": "mysql"}}, "database": self.db.name, "table": table, "alter": ALTER, "algorithm": "Copy",
            "oldTable": {"retention": "0s"},
        });
        merge(&mut spec, change);
        self.create(name, spec, annotations).await
    }

    /// A migration with exactly this spec.
    pub async fn create(&self, name: &str, spec: Value, annotations: &[(&str, &str)]) -> Migration {
        let annotations: serde_json::Map<String, Value> =
            annotations.iter().map(|(name, value)| (format!("theseus.dev/{name}"), json!(value))).collect();
        let labels = if self.private { json!({PRIVATE: "true"}) } else { json!({}) };
        let object = json!({"metadata": {"name": name, "annotations": annotations, "labels": labels}, "spec": spec,
            "apiVersion": "theseus.dev/v1alpha1", "kind": "SchemaMigration"});
        let watched = Migration::watch(self.api(), name);
        // Typed objects would fill in defaults of their own.
        let resource = kube::discovery::ApiResource::erase::<SchemaMigration>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        watched
    }

    /// Tables that are not the test's own `known` ones.
    pub async fn strange_tables(&mut self, known: &[&str]) -> Vec<String> {
        let mut tables = self.db.tables().await;
        tables.retain(|table| !known.contains(&table.as_str()));
        tables
    }

    /// Whether the table has the column that [`ALTER`] adds.
    pub async fn is_migrated(&mut self, table: &str) -> bool {
        self.db.definition(table).await.contains("`status`")
    }

    /// Nothing of a migration is in the database and the table is as it was.
    #[track_caller]
    pub fn untouched<'a>(&'a mut self, table: &'a str, rows: u64) -> impl Future<Output = ()> + use<'a> {
        let caller = std::panic::Location::caller();
        async move {
            assert_eq!(self.strange_tables(&[table]).await, [""; 0], "left behind, {caller}");
            assert!(!self.is_migrated(table).await, "the table was changed, {caller}");
            let found: u64 = self.db.value(&format!("SELECT COUNT(*) FROM `{table}`")).await;
            assert_eq!(found, rows, "{caller}");
        }
    }

    /// Connections of the migrations' account.
    pub async fn connections(&mut self) -> u64 {
        let user = self.user.clone();
        self.db.value(&format!("SELECT COUNT(*) FROM performance_schema.processlist WHERE user = '{user}'")).await
    }

    /// Changes a row as an application does, and waits until the ghost table has it: changes flow. Then the row is as it was; no writers may be
    /// at work.
    pub async fn changes_flow(&mut self, table: &str) {
        let amount = fastrand::u32(1..1_000_000);
        let id: i64 = self.db.value(&format!("SELECT MIN(id) FROM `_{table}_gho`")).await;
        let before: String = self.db.value(&format!("SELECT CAST(amount AS CHAR) FROM `{table}` WHERE id = {id}")).await;
        self.db.run(&format!("UPDATE `{table}` SET amount = {amount} WHERE id = {id}")).await;
        until("a change reaches the ghost table", async || {
            let found: Option<u32> =
                self.db.conn.query_first(format!("SELECT CAST(amount AS UNSIGNED) FROM `_{table}_gho` WHERE id = {id}")).await.unwrap();
            found == Some(amount)
        })
        .await;
        self.db.run(&format!("UPDATE `{table}` SET amount = {before} WHERE id = {id}")).await;
    }

    /// The end of every test: the operator was refused nothing, no password is anywhere, and the database goes.
    pub async fn end(self, operators: &[&Operator]) {
        let mut logs = vec![Shared::get().await.log()];
        logs.extend(operators.iter().map(|operator| operator.log()));
        for log in &logs {
            for line in log.lines() {
                assert!(!line.to_lowercase().contains("forbidden"), "the operator was refused something: {line}");
                assert!(!line.contains(&self.password), "a password is in the log: {line}");
                assert!(!line.contains("panicked"), "{line}");
            }
        }
        // What comes after a success is part of it.
        until("old tables without a retention are dropped", async || {
            let migrations = self.api::<SchemaMigration>().list(&Default::default()).await.unwrap();
            migrations.items.iter().all(|migration| {
                let status = migration.status.clone().unwrap_or_default();
                let succeeded = status.phase.as_deref() == Some("Succeeded");
                let at_once = serde_json::to_value(&migration.spec.old_table).unwrap() == json!({"retention": "0s"});
                !(succeeded && at_once) || status.tables.is_none_or(|tables| tables.is_empty())
            })
        })
        .await;
        let migrations = self.api::<SchemaMigration>().list_metadata(&Default::default()).await.unwrap();
        let everything = ["schemamigrations.theseus.dev", "mysqlservers.theseus.dev", "events.events.k8s.io"];
        let plane = Plane::get();
        let said = plane.kubectl(&["get", &everything.join(","), "-n", &self.namespace, "-o", "json"], "").stdout();
        assert!(!said.contains(&self.password), "a password is in an object");
        for migration in migrations.items {
            // The database goes, so nothing may be at work in it.
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"theseus.dev/cancel": "true"}}}));
            let _ = self.api::<SchemaMigration>().patch(&migration.name_any(), &PatchParams::default(), &patch).await;
        }
        eprintln!("{}: {:.1} s", self.namespace, self.began.elapsed().as_secs_f64());
        let mut db = self.db;
        db.run(&format!("DROP USER '{}'@'%'", self.user)).await;
        db.drop().await;
    }
}

/// Writers of a table: part of what its rows are.
pub const WRITERS: u64 = 2;

/// So slow that a few ten thousand rows last for seconds.
pub fn slowly() -> Value {
    json!({"copy": {"workers": 1, "targetChunkTime": "10ms"}, "throttle": {"niceRatioPercent": 1000}})
}

/// `change` wins; objects are merged.
pub fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

/// Both.
pub fn with(mut one: Value, other: Value) -> Value {
    merge(&mut one, other);
    one
}

/// How long a cancelled or deleted migration may take to go.
pub const BOUND: Duration = PATIENCE;
