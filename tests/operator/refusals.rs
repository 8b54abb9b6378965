//! What cannot be: refused by the API server with a sentence, or ended as Stalled with the documented reason and nothing touched; and what may
//! go away by itself, or be mended.
use crate::cluster::{Plane, until};
use crate::proxy::{Line, Proxy};
use crate::shop::Shop;
use crate::support::{MariaDb, address, mysql_url, soon};
use futures::future::join_all;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use theseus::api::MySQLServer;

/// YAML as people write it, and the words of the refusal.
const BAD: [(&str, &str); 24] = [
    ("alter: ADD COLUMN a INT\n  tabel: orders", r#"unknown field "spec.tabel""#),
    ("alter: ADD COLUMN a INT\n  cutover: {policy: Manual}", r#"unknown field "spec.cutover""#),
    (
        "alter: ADD COLUMN a INT\n  target: {serverRef: {name: s}, host: db, credentialsSecretRef: {name: l}}",
        "exactly one of serverRef and host must be set",
    ),
    ("alter: ADD COLUMN a INT\n  target: {}", "exactly one of serverRef and host must be set"),
    ("alter: ADD COLUMN a INT\n  target: {host: db}", "host needs credentialsSecretRef"),
    ("alter: ''", "spec.alter: Invalid value"),
    ("alter: ADD COLUMN a INT\n  table: ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt", "spec.table: Too long"),
    ("alter: ADD COLUMN a INT\n  mode: Quickly", r#"spec.mode: Unsupported value: "Quickly""#),
    ("alter: ADD COLUMN a INT\n  cutOver: {policy: manual}", r#"spec.cutOver.policy: Unsupported value: "manual""#),
    ("alter: ADD COLUMN a INT\n  cutOver: {killBlockersAfter: 500ms}", "killBlockersAfter must be 0s, or between 1s and 24h"),
    ("alter: ADD COLUMN a INT\n  cutOver: {windows: [{schedule: 0 2 * * *}]}", "duration: Required value"),
    ("alter: ADD COLUMN a INT\n  cutOver: {windows: [{schedule: 0 2 * *, duration: 1h}]}", "spec.cutOver.windows[0].schedule"),
    ("alter: ADD COLUMN a INT\n  cutOver: {windows: [{schedule: 0 2 * * *, duration: 0s}]}", "duration must be between 1m and 168h"),
    ("alter: ADD COLUMN a INT\n  cutOver: {windows: [{schedule: 0 2 * * *, duration: 200h}]}", "duration must be between 1m and 168h"),
    ("alter: ADD COLUMN a INT\n  oldTable: {retention: 1day}", "spec.oldTable.retention"),
    ("alter: ADD COLUMN a INT\n  revert: {window: 30s}", "window must be 0s, or between 1m and 720h"),
    ("alter: ADD COLUMN a INT\n  mode: TestOnReplica\n  revert: {window: 1h}", "revert.window needs mode Execute"),
    ("alter: ADD COLUMN a INT\n  copy: {targetChunkTime: 1h}", "targetChunkTime must be between 10ms and 10s"),
    ("alter: ADD COLUMN a INT\n  copy: {workers: -1}", "spec.copy.workers"),
    ("alter: ADD COLUMN a INT\n  suspend: 'yes'", "spec.suspend"),
    ("algorithm: Copy", "exactly one of alter and desired must be set"),
    ("alter: ADD COLUMN a INT\n  desired: CREATE TABLE orders (a INT)", "exactly one of alter and desired must be set"),
    ("alter: ADD COLUMN a INT\n  allowDestructive: true", "allowDestructive goes with desired"),
    ("desired: ''", "spec.desired: Invalid value"),
];

fn yaml(rest: &str) -> String {
    let mut lines = vec!["target: {serverRef: {name: mysql}}", "database: shop", "table: orders"];
    // What the case says itself is not said twice.
    lines.retain(|line| !rest.contains(&format!("\n  {}:", line.split(':').next().unwrap())));
    let head = "apiVersion: theseus.dev/v1alpha1\nkind: SchemaMigration\nmetadata: {name: m}\nspec:\n  ";
    format!("{head}{}\n  {rest}\n", lines.join("\n  "))
}

#[tokio::test]
async fn bad_yaml_is_refused_with_a_sentence() {
    let shop = Shop::new("yaml").await;
    let plane = Plane::get();
    let create = ["create", "-n", &shop.namespace, "-f", "-"];
    for (rest, words) in BAD {
        let refusal = plane.kubectl(&create, &yaml(rest)).refusal();
        assert!(refusal.contains(words), "{rest}: {words}:\n{refusal}");
    }
    // Each of them differs from something that is taken only by what it is refused for.
    let good = yaml("alter: ADD COLUMN a INT\n  suspend: true");
    plane.kubectl(&create, &good).stdout();
    for (change, words) in [
        (r#"{"spec":{"table":"items"}}"#, "table is immutable: create a new SchemaMigration"),
        (r#"{"spec":{"alter":"DROP COLUMN a"}}"#, "alter is immutable: create a new SchemaMigration"),
        (r#"{"spec":{"desired":"CREATE TABLE orders (a INT)"}}"#, "exactly one of alter and desired must be set"),
        (r#"{"spec":{"target":{"serverRef":{"name":"other"}}}}"#, "target is immutable: create a new SchemaMigration"),
    ] {
        let refusal = plane.kubectl(&["patch", "smig", "m", "-n", &shop.namespace, "--type=merge", "-p", change], "").refusal();
        assert!(refusal.contains(words), "{change}: {refusal}");
    }
    shop.end(&[]).await;
}

#[tokio::test]
async fn what_cannot_be_done_ends_stalled_and_touches_nothing() {
    let mut shop = Shop::new("refused").await;
    shop.table("orders", 10).await;
    for sql in [
        "CREATE TABLE keyless (a INT, b INT)",
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id))",
        "CREATE TABLE watched (id INT PRIMARY KEY, a INT)",
        "CREATE TRIGGER w BEFORE INSERT ON watched FOR EACH ROW SET NEW.a = 1",
        "CREATE TABLE taken (id INT PRIMARY KEY)",
        "CREATE TABLE _taken_gho (precious INT)",
        "CREATE VIEW looked AS SELECT * FROM parent",
    ] {
        shop.db.run(sql).await;
    }
    // Without it the server does not show triggers: see docs/reference/mysqlserver.md.
    shop.db.run(&format!("GRANT TRIGGER ON `{}`.* TO '{}'@'%'", shop.db.name.replace('_', "\\_"), shop.user)).await;
    let before = shop.db.tables().await;
    let add = "ADD COLUMN a2 INT";
    let cases = [
        ("missing", "nothing-there", add, "TableNotFound", "nothing-there"),
        ("keyless", "keyless", add, "NoUsableKey", "key"),
        ("child", "child", "MODIFY p BIGINT", "ForeignKeys", "foreign key"),
        ("parent", "parent", "MODIFY id BIGINT", "ForeignKeys", "foreign key"),
        ("trigger", "watched", "MODIFY a BIGINT", "Triggers", "log_bin_trust_function_creators"),
        ("rejected", "orders", "ADD COLUMN id INT", "AlterRejected", "Duplicate column name"),
        ("taken", "taken", add, "NameTaken", "_taken_gho"),
        ("view", "looked", add, "TableNotSupported", "view"),
        ("rename", "orders", "RENAME TO elsewhere", "AlterNotSupported", "RENAME"),
        ("nonsense", "orders", "PLEASE ADD A COLUMN", "AlterNotSupported", ""),
    ];
    join_all(cases.map(async |(name, table, alter, reason, word)| {
        let mut migration = shop.migrate(name, table, json!({"alter": alter}), &[]).await;
        let end = migration.until("it is over", |version| version.is("Stalled", "True") || version.is("Succeeded", "True")).await;
        assert_eq!(end.condition("Stalled"), format!("True/{reason}"), "{name}: {}", end.message("Stalled"));
        assert_eq!(end.condition("Succeeded"), format!("False/{reason}"));
        assert_eq!(end.condition("Validated"), format!("False/{reason}"));
        assert_eq!(end.phase(), "Refused");
        let message = end.message("Stalled");
        assert!(message.to_lowercase().contains(&word.to_lowercase()), "{name}: {message}");
        let (type_, note) = migration.event(reason).await;
        assert_eq!((type_.as_str(), note.as_str()), ("Warning", message.as_str()), "{name}");
    }))
    .await;
    assert_eq!(shop.db.tables().await, before);
    assert!(shop.db.definition("_taken_gho").await.contains("precious"));

    // Mended and told to retry, it goes on.
    shop.db.run("DROP TABLE _taken_gho").await;
    let mut taken = crate::migration::Migration::watch(shop.api(), "taken");
    taken.annotate("retry", Some("the name is free")).await;
    let end = taken.until("it succeeds", |version| version.is("Succeeded", "True")).await;
    assert_eq!(end.status().handled_tokens.unwrap().retry, "the name is free");
    // A token acts once.
    taken.annotate("pause", Some("true")).await;
    assert!(shop.db.definition("taken").await.contains("`a2`"));
    shop.end(&[]).await;
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let mut shop = Shop::new("away").await;
    shop.table("orders", 5_000).await;
    let url = address(&mysql_url());
    let proxy = Proxy::start(format!("{}:{}", url.host, url.port).parse().unwrap(), Line::Cut).await;
    shop.server("away", proxy.port, 10).await;
    let spec = json!({"target": {"serverRef": {"name": "away"}}, "cutOver": {"policy": "Manual"}});
    let mut migration = shop.migrate("m", "orders", spec, &[]).await;
    let retrying = migration.until("it retries", |version| version.reason() == "Retrying").await;
    let message = retrying.message("Reconciling");
    assert!(message.contains("next attempt at"), "{message}");
    migration.event("Retrying").await;
    proxy.set(Line::Open);
    migration.phase("AwaitingCutOver").await;
    // And again in the middle.
    proxy.set(Line::Cut);
    migration.until("it retries", |version| version.reason() == "Retrying").await;
    proxy.set(Line::Open);
    migration.phase("AwaitingCutOver").await;
    migration.annotate("cut-over", Some("approved")).await;
    migration.succeeded().await;
    assert_eq!(shop.db.value::<u64>("SELECT COUNT(*) FROM orders WHERE status = 'new'").await, 5_000);
    shop.end(&[]).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_at_once_and_a_right_one_goes_on() {
    let mut shop = Shop::new("password").await;
    shop.table("orders", 10).await;
    shop.secret("login", &[("username", &shop.user), ("password", "wr0ng-and-secret")]).await;
    let mut migration = shop.migrate("m", "orders", json!({}), &[]).await;
    let end = migration.until("it is over", |version| version.is("Stalled", "True")).await;
    assert_eq!(end.condition("Stalled"), "True/AccessDenied");
    assert!(!serde_json::to_string(&end.object).unwrap().contains("wr0ng-and-secret"));
    assert!(!crate::cluster::Shared::get().await.log().contains("wr0ng-and-secret"));
    shop.secret("login", &[("username", &shop.user), ("password", &shop.password)]).await;
    migration.annotate("retry", Some("1")).await;
    migration.until("it succeeds", |version| version.is("Succeeded", "True")).await;
    shop.end(&[]).await;
}

/// The status of the server says what it is and that nothing can run there; a migration is refused for the same reason, and nothing is written.
#[tokio::test]
async fn mariadb_is_refused_and_its_server_says_so() {
    let (shop, mariadb) = (Shop::new("mariadb").await, MariaDb::start("11.8").await);
    let login = address(&mariadb.url);
    let before = mariadb.trace().await;
    shop.secret("root", &[("username", &login.username), ("password", &login.password)]).await;
    let spec = json!({"host": "127.0.0.1", "port": login.port, "credentialsSecretRef": {"name": "root"}});
    let object = json!({"apiVersion": "theseus.dev/v1alpha1", "kind": "MySQLServer", "metadata": {"name": "mariadb"}, "spec": spec});
    let servers = shop.api::<MySQLServer>();
    servers.patch("mariadb", &PatchParams::apply("test").force(), &Patch::Apply(object)).await.unwrap();
    until("the server's status says what it is", async || {
        let server = servers.get("mariadb").await.unwrap();
        let status = server.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        ready.is_some_and(|ready| {
            assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "ServerNotSupported"), "{}: {ready:?}", server.name_any());
            assert!(ready.message.contains("MariaDB 11.8.") && ready.message.contains("8.0.13 or later"), "{ready:?}");
            assert_eq!(status.flavour.as_deref(), Some("MariaDB"));
            assert!(status.version.as_deref().is_some_and(|version| version.starts_with("11.8.")), "{:?}", status.version);
            true
        })
    })
    .await;
    let spec = json!({"target": {"serverRef": {"name": "mariadb"}}, "database": "d", "table": "t", "alter": "ADD COLUMN z INT"});
    let mut migration = shop.create("m", spec, &[]).await;
    let refused = migration.until("it is refused", |version| version.is("Stalled", "True")).await;
    assert_eq!(refused.condition("Stalled"), "True/ServerNotSupported");
    assert!(refused.message("Stalled").contains("MariaDB 11.8."), "{}", refused.message("Stalled"));
    assert_eq!(mariadb.trace().await, before);
    shop.end(&[]).await;
}

/// A Secret or a server that is not there yet may be on its way; after a minute somebody has to look.
#[tokio::test]
async fn what_is_missing_is_waited_for_and_then_asked_for() {
    let mut shop = Shop::new("absent").await;
    for table in ["a", "b", "c", "d"] {
        shop.table(table, 10).await;
    }
    let url = address(&mysql_url());
    let inline = |secret: &str| json!({"host": url.host, "port": url.port, "credentialsSecretRef": {"name": secret}, "serverRef": null});
    let mut migrations = Vec::new();
    shop.secret("half", &[("username", &shop.user)]).await;
    for (name, table, target, reason, words) in [
        ("no-secret", "a", inline("absent"), "SecretNotFound", "the Secret absent does not exist"),
        ("half-secret", "b", inline("half"), "SecretNotFound", "the Secret half has no usable key password"),
        ("no-server", "c", json!({"serverRef": {"name": "absent"}}), "ServerNotFound", "the MySQLServer absent does not exist"),
    ] {
        let spec = json!({"target": target, "database": shop.db.name, "table": table, "alter": "ADD COLUMN z INT", "oldTable": {"retention": "0s"}});
        let mut spec = spec;
        spec["target"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let mut migration = shop.create(name, spec, &[]).await;
        let retrying = migration.until("it retries", |version| version.reason() == "Retrying").await;
        assert!(retrying.message("Ready").contains(words), "{}", retrying.message("Ready"));
        migrations.push((migration, reason, words));
    }
    // One that is mended in time was never stalled.
    let hooks = json!([{"when": ["Failed"], "url": "http://127.0.0.1:1/", "secretRef": {"name": "late-key"}}]);
    let mut spec = json!({"target": inline("late"), "database": shop.db.name, "table": "d", "alter": "ADD COLUMN z INT", "hooks": hooks});
    spec["target"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let mut late = shop.create("late", spec, &[]).await;
    late.until("it retries", |version| version.reason() == "Retrying").await;
    shop.secret("late", &[("username", &shop.user), ("password", &shop.password)]).await;
    // The key of a hook is waited for as well.
    late.until("it wants the key", |version| version.message("Ready").contains("the Secret late-key does not exist")).await;
    shop.secret("late-key", &[("key", "k")]).await;
    late.annotate("retry", Some("the key is there")).await;
    late.succeeded().await;
    assert!(late.versions().iter().all(|version| !version.is("Stalled", "True")));

    for (migration, reason, words) in &mut migrations {
        let stalled = migration.until("it asks for help", |version| version.is("Stalled", "True")).await;
        assert_eq!(stalled.condition("Stalled"), format!("True/{reason}"));
        assert_eq!(stalled.condition("Succeeded"), format!("Unknown/{reason}"));
        assert!(stalled.message("Stalled").contains(*words));
        let (type_, _) = migration.event(reason).await;
        assert_eq!(type_, "Warning");
    }
    for secret in ["absent", "half"] {
        shop.secret(secret, &[("username", &shop.user), ("password", &shop.password)]).await;
    }
    shop.server("absent", url.port, 10).await;
    for (migration, ..) in &mut migrations {
        // Not at the next attempt, which may be a minute away.
        migration.annotate("retry", Some("it is there now")).await;
        let now = std::time::Instant::now();
        let end = migration.until("it succeeds", |version| version.is("Succeeded", "True")).await;
        eprintln!("{} went on {:?} after it was told", migration.name, end.at.saturating_duration_since(now));
        assert!(end.at.saturating_duration_since(now) < soon(std::time::Duration::from_secs(20)));
        // Where the machine is slow, an attempt that was due anyway may have been made before the token was seen.
        if let Some(tokens) = end.status().handled_tokens {
            assert_eq!(tokens.retry, "it is there now");
        }
    }
    shop.end(&[]).await;
}
