//! Good files and bad ones.
use super::*;

const GOOD: &str = "
apiVersion: v1
kind: Secret
metadata: {name: login}
data: {username: dGhlc2V1cw==}
stringData: {password: sesame-open}
---
apiVersion: theseus.dev/v1alpha1
kind: MySQLServer
metadata: {name: primary}
spec: {host: db.example, port: 3307, credentialsSecretRef: {name: login}}
---
apiVersion: theseus.dev/v1alpha1
kind: SchemaMigration
metadata:
  name: change
  namespace: shop
  annotations: {theseus.dev/throttle: 'true', theseus.dev/cut-over: approved, theseus.dev/pause: maybe}
spec:
  target: {serverRef: {name: primary}}
  database: shop
  table: orders
  alter: ADD COLUMN a INT
  copy:
  oldTable: {retention: 0s}
";

fn read(text: &str) -> Result<Job, Refused> {
    job(text, &Login::default())
}

#[test]
fn a_file_of_three_documents() {
    let job = read(GOOD).unwrap();
    let m = &job.migration;
    assert_eq!((m.server.host.as_str(), m.server.port), ("db.example", 3307));
    assert_eq!((m.server.username.as_str(), m.server.password.as_str()), ("theseus", "sesame-open"));
    assert_eq!((m.display_name.as_str(), m.database.as_str(), m.table.as_str()), ("shop/change", "shop", "orders"));
    assert!(job.controls.throttled_by_user && job.controls.approved && !job.controls.paused);
    assert_eq!(job.controls.old_table, OldTable::DropNow);
    assert_eq!(job.invalid_annotations.len(), 1);
    assert!(m.id.starts_with("run-") && job.after.is_empty());
    assert_eq!(read(&GOOD.replace("  copy:", "  after: [widen-id, other]")).unwrap().after, ["widen-id", "other"]);
}

#[test]
fn the_identity_is_that_of_the_change_and_not_of_its_name_or_pace() {
    let id = |text: &str| read(text).unwrap().migration.id;
    let same = GOOD.replace("name: change", "name: other").replace("0s}", "Keep}").replace("theseus.dev/throttle: 'true', ", "");
    assert_eq!(id(GOOD), id(&same));
    for (from, to) in [
        ("a INT", "b INT"),
        ("table: orders", "table: items"),
        ("database: shop", "database: test"),
        ("3307", "3308"),
        ("db.example", "db"),
    ] {
        assert_ne!(id(GOOD), id(&GOOD.replace(from, to)), "{from} → {to}");
    }
    assert_ne!(id(GOOD), id(&GOOD.replace("  copy:", "  mode: DryRun")), "a dry run must not drop the work of a run");
    assert_ne!(id(GOOD), id(&GOOD.replace("  copy:", "  mode: TestOnReplica")), "nor a test");
}

#[test]
fn the_command_line_wins_over_secrets_and_replaces_them() {
    let login = Login { user: Some("root".into()), password: Some("other".into()) };
    let account = |text: &str, login: &Login| job(text, login).map(|j| (j.migration.server.username, j.migration.server.password));
    assert_eq!(account(GOOD, &login).unwrap(), ("root".into(), "other".into()));
    let password = Login { user: None, password: Some("other".into()) };
    assert_eq!(account(GOOD, &password).unwrap(), ("theseus".into(), "other".into()));
    let host = GOOD.replace("serverRef: {name: primary}", "host: db");
    assert_eq!(account(&host, &login).unwrap(), ("root".into(), "other".into()), "without any Secret");
    assert_eq!(read(&host).unwrap_err().reason, Reason::InvalidSpec);
    let no_secret = GOOD.replace("name: login}\ndata", "name: elsewhere}\ndata");
    assert_eq!(account(&no_secret, &login).unwrap(), ("root".into(), "other".into()));
    assert_eq!(read(&no_secret).unwrap_err().reason, Reason::SecretNotFound);
    assert_eq!(account(&no_secret, &password).unwrap_err().reason, Reason::SecretNotFound, "a password alone is no login");
    let user = Login { user: Some("root".into()), password: None };
    assert!(account(&host, &user).unwrap_err().message.contains("THESEUS_PASSWORD"));
}

#[test]
fn what_makes_no_sense_is_named_by_its_path_and_secrets_stay_secret() {
    for (from, to, reason, words) in [
        ("  copy:", "  copy: {wrokers: 2}", Reason::InvalidSpec, &["SchemaMigration change", "spec.copy.wrokers", "workers"][..]),
        ("  copy:", "  throtle: {}", Reason::InvalidSpec, &["spec.throtle"]),
        ("  copy:", "  copy: {workers: two}", Reason::InvalidSpec, &["spec.copy.workers", "integer"]),
        ("  copy:", "  copy: {workers: 65}", Reason::InvalidSpec, &["spec.copy.workers", "64"]),
        ("  copy:", "  copy: []", Reason::InvalidSpec, &["spec.copy", "object"]),
        ("  copy:", "  copy: {targetChunkTime: 5 seconds}", Reason::InvalidSpec, &["spec.copy.targetChunkTime", "500ms"]),
        ("  copy:", "  copy: {targetChunkTime: 1ms}", Reason::InvalidSpec, &["spec.copy.targetChunkTime", "10ms"]),
        ("  copy:", "  algorithm: Fast", Reason::InvalidSpec, &["spec.algorithm", "Instant"]),
        ("  copy:", "  copy: {workers: 65}\n  suspend: 'no'", Reason::InvalidSpec, &["spec.copy.workers", "spec.suspend"]),
        ("  copy:", "  after: widen-id", Reason::InvalidSpec, &["spec.after must be an array"]),
        ("  copy:", "  after: [Widen]", Reason::InvalidSpec, &["spec.after[0]", "Widen"]),
        ("  copy:", "  after: [a, a]", Reason::InvalidSpec, &["spec.after[1]", "second time"]),
        ("  copy:", "  after: [change]", Reason::AfterCycle, &["spec.after", "itself"]),
        ("  table: orders", "", Reason::InvalidSpec, &["spec.table is missing"]),
        ("  table: orders", "  table: 7", Reason::InvalidSpec, &["spec.table", "quotes"]),
        ("  table: orders", "  table: a/b", Reason::InvalidSpec, &["spec.table"]),
        ("ADD COLUMN a INT", "''", Reason::InvalidSpec, &["spec.alter"]),
        ("retention: 0s", "retention: forever", Reason::InvalidSpec, &["spec.oldTable.retention"]),
        ("{serverRef: {name: primary}}", "{serverRef: {name: primary}, port: 3306}", Reason::InvalidSpec, &["spec.target", "MySQLServer"]),
        ("{serverRef: {name: primary}}", "{}", Reason::InvalidSpec, &["exactly one of serverRef and host"]),
        ("{serverRef: {name: primary}}", "{serverRef: {name: secondary}}", Reason::ServerNotFound, &["secondary"]),
        ("metadata: {name: login}", "metadata: {name: login, namespace: other}", Reason::SecretNotFound, &["login"]),
        ("name: change", "nmae: change", Reason::InvalidSpec, &["metadata.nmae", "metadata.name is missing"]),
        ("'true'", "true", Reason::InvalidSpec, &["metadata.annotations.theseus.dev/throttle", "quotes"]),
        ("dGhlc2V1cw==", "sesame!", Reason::InvalidSpec, &["Secret login", "data.username", "base64"]),
        ("sesame-open", "[sesame]", Reason::InvalidSpec, &["stringData.password"]),
        ("sesame-open}", "sesame-open", Reason::InvalidSpec, &["not YAML", "line"]),
        ("password: sesame-open", "password: 12345sesame: x", Reason::InvalidSpec, &[]),
        ("password: sesame-open", "passwrod: sesame-open", Reason::SecretNotFound, &["login", "password"]),
        ("theseus.dev/v1alpha1\nkind: SchemaMigration", "theseus.dev/v1\nkind: SchemaMigration", Reason::InvalidSpec, &["v1alpha1"]),
        ("kind: MySQLServer", "kind: ConfigMap", Reason::InvalidSpec, &["document 2", "ConfigMap"]),
        ("kind: SchemaMigration", "kind: MySQLServer", Reason::InvalidSpec, &["spec.target"]),
        ("apiVersion: v1\n", "- a\n---\n", Reason::InvalidSpec, &["document 1"]),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let refused = read(&GOOD.replace(from, to)).expect_err(to);
        assert_eq!(refused.reason, reason, "{to}: {refused}");
        for word in words {
            assert!(refused.message.contains(word), "{to}: the message lacks {word:?}: {refused}");
        }
        assert!(!refused.message.contains("sesame"), "{to}: {refused}");
    }
    assert!(read("").unwrap_err().message.contains("no SchemaMigration"));
    assert!(read(&format!("{GOOD}---\n{}", GOOD.split("---").last().unwrap())).unwrap_err().message.contains("2 SchemaMigrations"));
}

#[test]
fn an_object_copied_from_a_cluster_is_understood() {
    let copied = GOOD.replace("  name: change", "  name: change\n  uid: x\n  managedFields: [{manager: kubectl}]\n  generation: 3")
        + "status: {phase: Copying}\n";
    assert!(read(&copied).is_ok());
}
