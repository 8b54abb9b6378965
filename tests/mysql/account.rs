//! The account that `docs/reference/mysqlserver.md` and the README tell people to make: it suffices, and nothing in it is too much.
use crate::support;

use mysql_async::{Conn, prelude::Queryable};
use std::time::Duration;
use support::{Db, controls, mysql_url};
use theseus::engine::{
    Handle,
    contract::notice,
    contract::reason::Reason,
    contract::snapshot::{Outcome, Phase, Snapshot},
    contract::spec::{Algorithm, Controls, CutOverPolicy, Limits, MigrationSpec, ServerAddress},
    preflight, start,
};
use tokio::time::timeout;

const LIMIT: Duration = support::PATIENCE;

/// One `GRANT` of the page: its privileges and what they are granted on.
#[derive(Clone, Debug, PartialEq)]
struct Grant {
    privileges: Vec<String>,
    on: String,
}

/// What the line of the page begins with that parts the grants that are needed from those that are useful.
const OPTIONAL: &str = "-- Optional";

/// The grants in a page's SQL: `all`, or those up to the line that calls the rest optional.
fn grants(page: &str, all: bool) -> Vec<Grant> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let sql = text.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the page has a block of SQL");
    let sql = if all { sql } else { sql.split_once(OPTIONAL).unwrap_or_else(|| panic!("{page} has no line `{OPTIONAL}`")).0 };
    let grants: Vec<Grant> = sql
        .lines()
        .filter_map(|line| line.strip_prefix("GRANT "))
        .map(|line| {
            let (privileges, rest) = line.split_once(" ON ").expect("GRANT … ON …");
            let (on, _) = rest.split_once(" TO theseus@'%';").expect("… TO theseus@'%';");
            Grant { privileges: privileges.split(", ").map(str::to_owned).collect(), on: on.to_owned() }
        })
        .collect();
    assert!(grants.len() > 1, "{page} has only {grants:?}");
    grants
}

/// An account with these grants, for a database of the test's own.
struct Account {
    name: String,
    admin: Conn,
}

impl Account {
    async fn new(db: &Db, grants: &[Grant]) -> Self {
        let mut admin = support::connect(&mysql_url()).await;
        // 32 characters at most.
        let name = format!("a{:x}", fastrand::u64(..));
        let mut statements = vec![format!("CREATE USER '{name}'@'%' IDENTIFIED BY 'secret'")];
        for Grant { privileges, on } in grants.iter().filter(|grant| !grant.privileges.is_empty()) {
            statements.push(format!("GRANT {} ON {} TO '{name}'@'%'", privileges.join(", "), on_database(on, db)));
        }
        for statement in statements {
            admin.query_drop(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        Self { name, admin }
    }

    fn spec(&self, db: &Db) -> MigrationSpec {
        let spec = db.spec("t", "ADD COLUMN c INT NOT NULL DEFAULT 7, ADD INDEX (b)");
        MigrationSpec {
            server: ServerAddress { username: self.name.clone(), password: "secret".to_owned(), ..spec.server.clone() },
            ..spec
        }
    }

    async fn grant(&mut self, what: &str, on: &str) {
        self.admin.query_drop(format!("GRANT {what} ON {on} TO '{}'@'%'", self.name)).await.expect(what);
    }

    async fn revoke(&mut self, what: &str, on: &str) {
        self.admin.query_drop(format!("REVOKE {what} ON {on} FROM '{}'@'%'", self.name)).await.expect(what);
    }

    async fn drop(mut self) {
        self.admin.query_drop(format!("DROP USER '{}'@'%'", self.name)).await.expect("drop the account");
        let _ = self.admin.disconnect().await;
    }
}

/// What the page grants on `shop`, for a test's database.
fn on_database(on: &str, db: &Db) -> String {
    // `_` is a wildcard in a database's name here.
    on.replace("shop.", &format!("`{}`.", db.name.replace('_', "\\_")))
}

/// The documented grants without PROCESS, and others on all of the server instead.
fn instead_of_process(others: &[&str]) -> Vec<Grant> {
    let mut grants = grants("README.md", true);
    for grant in &mut grants {
        if grant.on == "*.*" {
            grant.privileges.retain(|privilege| privilege != "PROCESS");
            grant.privileges.extend(others.iter().map(|other| (*other).to_owned()));
        }
    }
    grants
}

async fn db_with_table() -> Db {
    let mut db = Db::new("account").await;
    db.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, b INT NOT NULL)").await;
    db.run("INSERT INTO t (b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT i FROM n").await;
    db
}

/// How a migration went: over, or still trying after an attempt to swap that failed with these words.
#[derive(Debug, PartialEq)]
enum End {
    Over(Outcome),
    CannotSwap(String),
}

/// Two engines, as after a restart of the operator: the second takes over what the first has left at the closed gate.
async fn two_engines(spec: MigrationSpec) -> End {
    let first = start(spec.clone(), Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() });
    let mut snapshots = first.watch();
    // Ends early when the engine does, which drops the sender.
    let _ = timeout(LIMIT, snapshots.wait_for(|now| now.phase == Phase::AwaitingCutOver)).await;
    first.stop();
    match support::join(first).await {
        Outcome::Stopped => {}
        over => return End::Over(over),
    }
    let second = start(spec, controls());
    let mut snapshots = second.watch();
    let _ = timeout(LIMIT, snapshots.wait_for(|now| now.cut_over.last_failure.is_some())).await;
    let failure = second.watch().borrow().cut_over.last_failure.clone();
    second.stop();
    match (support::join(second).await, failure) {
        (Outcome::Stopped, Some(failure)) => End::CannotSwap(failure),
        (over, _) => End::Over(over),
    }
}

async fn migrate_as(grants: &[Grant]) -> (End, Vec<String>, u64) {
    let mut db = db_with_table().await;
    // REFERENCES is for those that have foreign keys.
    db.run("CREATE TABLE c (id INT PRIMARY KEY, t INT, CONSTRAINT to_t FOREIGN KEY (t) REFERENCES t (id))").await;
    let account = Account::new(&db, grants).await;
    let end = two_engines(account.spec(&db)).await;
    let tables = db.tables().await;
    let columns: u64 =
        db.value("SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 't'").await;
    account.drop().await;
    db.drop().await;
    (end, tables, columns)
}

#[test]
fn the_readme_has_the_same_grants() {
    assert_eq!(grants("README.md", true), grants("docs/reference/mysqlserver.md", false));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_suffices() {
    let (end, tables, columns) = migrate_as(&grants("docs/reference/mysqlserver.md", false)).await;
    assert_eq!((end, tables, columns), (End::Over(Outcome::Succeeded), vec!["c".to_owned(), "t".to_owned()], 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_useful_does_no_harm() {
    let (end, tables, columns) = migrate_as(&grants("docs/reference/mysqlserver.md", true)).await;
    assert_eq!((end, tables, columns), (End::Over(Outcome::Succeeded), vec!["c".to_owned(), "t".to_owned()], 3));
}

/// Each privilege left out: the migration says so, and the original is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_it_is_too_much() {
    let needed = grants("docs/reference/mysqlserver.md", false);
    for (i, grant) in needed.iter().enumerate() {
        for privilege in &grant.privileges {
            let mut fewer = needed.clone();
            fewer[i].privileges.retain(|other| other != privilege);
            let (end, tables, columns) = migrate_as(&fewer).await;
            let message = match end {
                End::Over(Outcome::Refused { reason, message } | Outcome::Failed { reason, message }) => {
                    let expected: &[Reason] = match privilege.as_str() {
                        // The table cannot even be seen.
                        "SELECT" => &[Reason::MissingPrivilege, Reason::TableNotFound],
                        // The server says "access denied for user" (1045) to a reader of the log that may not, as if the password were wrong.
                        "REPLICATION SLAVE" => &[Reason::MissingPrivilege, Reason::AccessDenied],
                        _ => &[Reason::MissingPrivilege],
                    };
                    assert!(expected.contains(&reason), "without {privilege}: {reason}: {message}");
                    message
                }
                End::CannotSwap(failure) => {
                    assert!(failure.to_lowercase().contains("denied"), "without {privilege}: {failure}");
                    failure
                }
                other => panic!("without {privilege} the migration ended as {other:?}"),
            };
            assert!(tables.contains(&"t".to_owned()) && columns == 2, "without {privilege}: {tables:?}, {columns} columns");
            eprintln!("without {privilege}: {message}; left: {tables:?}");
        }
    }
}

/// A child of `t` in a schema that the account has no privilege on.
async fn child_elsewhere(db: &Db, logged: bool) -> Db {
    let mut other = Db::new("elsewhere").await;
    if !logged {
        other.run("SET SESSION sql_log_bin=0").await;
    }
    other.run(&format!("CREATE TABLE c (id INT PRIMARY KEY, p INT, CONSTRAINT far FOREIGN KEY (p) REFERENCES `{}`.t (id))", db.name)).await;
    other
}

/// The end of a migration that copies, and what was said on the way.
async fn copied(spec: MigrationSpec, controls: Controls) -> (Outcome, Snapshot) {
    let handle = start(MigrationSpec { algorithm: Algorithm::Copy, ..spec }, controls);
    let snapshots = handle.watch();
    let outcome = support::join(handle).await;
    let last = snapshots.borrow().clone();
    (outcome, last)
}

fn said(snapshot: &Snapshot, reason: &str) -> Option<String> {
    snapshot.notices.iter().find(|notice| notice.reason == reason).map(|notice| notice.message.clone())
}

/// Which privilege an account has, whether another schema has a child of the table, and what follows: in `check` and in a run.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_account_does_not_see_is_refused_or_said() {
    enum Then {
        Refused(Reason, &'static str),
        Runs { unseen: bool },
    }
    let all = [
        (&["PROCESS"][..], true, Then::Refused(Reason::MissingPrivilege, "far")),
        (&["PROCESS"], false, Then::Runs { unseen: true }),
        // A privilege on all tables shows all of them, whatever it allows.
        (&["REFERENCES"], true, Then::Refused(Reason::MissingPrivilege, "far")),
        (&["REFERENCES"], false, Then::Runs { unseen: true }),
        (&["SHOW VIEW"], true, Then::Refused(Reason::MissingPrivilege, "far")),
        // These show none.
        (&[], true, Then::Refused(Reason::MissingPrivilege, "GRANT REFERENCES ON *.*")),
        (&[], false, Then::Refused(Reason::MissingPrivilege, "GRANT PROCESS ON *.*")),
        (&["LOCK TABLES", "EXECUTE", "SHOW DATABASES"], true, Then::Refused(Reason::MissingPrivilege, "GRANT PROCESS ON *.*")),
    ];
    for (privileges, child, then) in all {
        let mut db = db_with_table().await;
        let account = Account::new(&db, &instead_of_process(privileges)).await;
        let other = if child { Some(child_elsewhere(&db, true).await) } else { None };
        let spec = account.spec(&db);
        let report = preflight::check(&spec, &controls()).await;
        let (outcome, last) = copied(spec, controls()).await;
        let what = format!("{privileges:?}, child: {child}");
        assert_eq!(db.tables().await, ["t"], "{what}: {outcome:?}");
        match then {
            Then::Refused(reason, words) => {
                assert!(
                    report.findings.iter().any(|f| f.severity == preflight::Severity::Refuse
                        && f.reason == reason.as_str()
                        && (f.message.contains(words) || f.object.contains(words))),
                    "{what}: {report:?}"
                );
                assert!(
                    matches!(&outcome, Outcome::Refused { reason: r, message } if *r == reason && message.contains(words) && message.contains("Nothing was touched")),
                    "{what}: {outcome:?}"
                );
            }
            Then::Runs { unseen } => {
                assert!(!report.refused(), "{what}: {report:?}");
                assert_eq!(outcome, Outcome::Succeeded, "{what}");
                assert_eq!(said(&last, notice::NOT_SEEN).is_some(), unseen, "{what}: {:?}", last.notices);
                let history = said(&last, notice::SIGNAL_NOT_AVAILABLE);
                assert_eq!(history.is_some(), !privileges.contains(&"PROCESS"), "{what}: {history:?}");
            }
        }
        // The child first.
        if let Some(other) = other {
            other.drop().await;
        }
        account.drop().await;
        db.drop().await;
    }
}

/// With all that the page calls useful nothing is left to say.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_sees_all_is_told_nothing() {
    let db = db_with_table().await;
    let account = Account::new(&db, &grants("docs/reference/mysqlserver.md", true)).await;
    let (outcome, last) = copied(account.spec(&db), controls()).await;
    assert_eq!((outcome, said(&last, notice::NOT_SEEN)), (Outcome::Succeeded, None));
    account.drop().await;
    db.drop().await;
}

/// A limit that somebody has set and that the account cannot read would hold for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_cannot_be_read_is_refused() {
    let mut db = db_with_table().await;
    let account = Account::new(&db, &instead_of_process(&["REFERENCES"])).await;
    let limited = Controls { limits: Limits { max_disk_usage: Some(u64::MAX), ..Limits::default() }, ..controls() };
    let report = preflight::check(&account.spec(&db), &limited).await;
    assert!(report.findings.iter().any(|f| f.reason == "MissingPrivilege" && f.object == "throttle.maxDiskUsage"), "{report:?}");
    match copied(account.spec(&db), limited).await.0 {
        Outcome::Refused { reason: Reason::MissingPrivilege, message } => {
            assert!(message.contains("PROCESS") && message.contains("maxDiskUsage"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(db.tables().await, ["t"]);
    account.drop().await;
    db.drop().await;
}

/// The same limit, set while the migration runs: it holds, and says what is to be granted.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_set_midway_and_cannot_be_read_holds() {
    let mut db = db_with_table().await;
    db.run("SET SESSION cte_max_recursion_depth = 100000").await;
    db.run("INSERT INTO t (b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) SELECT i FROM n").await;
    let account = Account::new(&db, &instead_of_process(&["REFERENCES"])).await;
    let nice = Controls { target_chunk_time: Duration::from_millis(2), nice_ratio_percent: 3000, workers: 1, ..controls() };
    let handle = start(MigrationSpec { algorithm: Algorithm::Copy, ..account.spec(&db) }, nice.clone());
    let mut snapshots = handle.watch();
    let begun = timeout(LIMIT, snapshots.wait_for(|now| now.validated)).await;
    assert!(matches!(begun, Ok(Ok(_))), "it has begun");
    drop(begun);
    handle.control(Controls { limits: Limits { max_disk_usage: Some(u64::MAX), ..nice.limits.clone() }, ..nice });
    let held = timeout(LIMIT, snapshots.wait_for(|now| now.throttle.as_ref().is_some_and(|t| t.detail.contains("GRANT PROCESS")))).await;
    assert!(matches!(held, Ok(Ok(_))), "not held: {:?}", handle.watch().borrow().throttle);
    drop(held);
    drop(handle);
    account.drop().await;
    db.drop().await;
}

/// An engine that copies and stands before the closed gate.
async fn at_the_gate(spec: &MigrationSpec) -> Handle {
    let spec = MigrationSpec { algorithm: Algorithm::Copy, ..spec.clone() };
    let handle = start(spec, Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() });
    let mut snapshots = handle.watch();
    let ready = timeout(LIMIT, snapshots.wait_for(|now| now.phase == Phase::AwaitingCutOver)).await;
    assert!(matches!(ready, Ok(Ok(_))), "not ready: {:?}", handle.watch().borrow().retrying);
    drop(ready);
    handle
}

/// What comes, or is taken away, while the migration waits for its approval: it is seen under the lock, and the tables are not swapped.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_looked_at_again_under_the_lock() {
    // A child and a trigger that are not in the log, so that nothing but looking finds them; and privileges that are gone.
    for (case, reason, words) in [
        ("child", Reason::MissingPrivilege, "far"),
        ("trigger", Reason::Triggers, "late"),
        ("PROCESS", Reason::MissingPrivilege, "GRANT PROCESS"),
        ("TRIGGER", Reason::MissingPrivilege, "GRANT TRIGGER"),
        ("REPLICATION CLIENT", Reason::MissingPrivilege, "REPLICATION CLIENT"),
        ("DROP", Reason::MissingPrivilege, "DROP"),
    ] {
        let mut db = db_with_table().await;
        let mut account = Account::new(&db, &grants("README.md", true)).await;
        let spec = account.spec(&db);
        let handle = at_the_gate(&spec).await;
        let on = on_database("shop.*", &db);
        let mut other = None;
        match case {
            "child" => other = Some(child_elsewhere(&db, false).await),
            "trigger" => {
                db.run("SET SESSION sql_log_bin=0").await;
                db.run("CREATE TRIGGER late BEFORE INSERT ON t FOR EACH ROW SET NEW.b = 1").await;
            }
            "PROCESS" | "REPLICATION CLIENT" => account.revoke(case, "*.*").await,
            privilege => account.revoke(privilege, &on).await,
        }
        handle.control(controls());
        match support::join(handle).await {
            Outcome::Failed { reason: r, message } => {
                assert!(r == reason && message.contains(words) && message.contains("not swapped"), "{case}: {r}: {message}");
            }
            over => panic!("{case}: {over:?}"),
        }
        let columns: u64 =
            db.value("SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 't'").await;
        assert_eq!(columns, 2, "{case}");
        // The work is kept, and goes on when what was in the way is gone.
        match case {
            "child" => other.take().expect("it is there").drop().await,
            "trigger" => db.run("DROP TRIGGER late").await,
            "PROCESS" | "REPLICATION CLIENT" => account.grant(case, "*.*").await,
            privilege => account.grant(privilege, &on).await,
        }
        let (outcome, last) = copied(spec, controls()).await;
        assert_eq!((outcome, said(&last, notice::STARTED_OVER)), (Outcome::Succeeded, None), "{case}");
        assert!(said(&last, notice::RESUMED).is_some(), "{case}");
        assert_eq!(db.tables().await, ["t"], "{case}");
        account.drop().await;
        db.drop().await;
    }
}

/// A child in a schema that the account may not change comes while the engine runs: the migration ends, and says which.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_comes_meanwhile_is_named() {
    let db = db_with_table().await;
    let account = Account::new(&db, &grants("README.md", true)).await;
    let handle = at_the_gate(&account.spec(&db)).await;
    let other = child_elsewhere(&db, true).await;
    handle.control(controls());
    match support::join(handle).await {
        Outcome::Failed { reason: Reason::MissingPrivilege, message } => {
            assert!(message.contains("far") && message.contains("LOCK TABLES"), "{message}")
        }
        over => panic!("{over:?}"),
    }
    other.drop().await;
    account.drop().await;
    db.drop().await;
}

/// Table ids are shown to PROCESS: one that is not shown any more, or is shown for the first time, is no other table.
#[tokio::test(flavor = "multi_thread")]
async fn a_privilege_that_comes_or_goes_between_two_engines_costs_no_work() {
    for goes in [true, false] {
        let mut db = db_with_table().await;
        let privileges: &[&str] = if goes { &["PROCESS", "REFERENCES"] } else { &["REFERENCES"] };
        let mut account = Account::new(&db, &instead_of_process(privileges)).await;
        let spec = account.spec(&db);
        let first = at_the_gate(&spec).await;
        first.stop();
        assert_eq!(support::join(first).await, Outcome::Stopped);
        if goes {
            account.revoke("PROCESS", "*.*").await
        } else {
            account.grant("PROCESS", "*.*").await
        }
        let (outcome, last) = copied(spec, controls()).await;
        assert_eq!((outcome, said(&last, notice::STARTED_OVER)), (Outcome::Succeeded, None), "goes: {goes}");
        assert!(said(&last, notice::RESUMED).is_some(), "goes: {goes}");
        assert_eq!(db.tables().await, ["t"]);
        account.drop().await;
        db.drop().await;
    }
}

/// Names are compared as they are written, whatever InnoDB's files are called.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_are_seen_whatever_the_names_are() {
    let db = Db::new("names").await;
    // PROCESS alone: nothing but InnoDB's list shows the other schema's tables.
    let account = Account::new(&db, &grants("README.md", true)).await;
    let address = account.spec(&db).server;
    let mut admin = support::connect(&mysql_url()).await;
    let schema = |suffix: &str| format!("{}{suffix}", db.name);
    let (odd, other) = (schema("-ü x"), schema("@002d"));
    for name in [&odd, &other] {
        admin.query_drop(format!("CREATE DATABASE `{name}`")).await.expect("a schema");
    }
    admin.query_drop(format!("GRANT SELECT, TRIGGER ON `{}`.* TO '{}'@'%'", odd.replace('_', "\\_"), account.name)).await.expect("grants");
    let mut session = theseus::mysql::Session::open(&address).await.expect("a session");
    let names = ["t", "c-t", "a b", "ü", "Straße", "日本", "x@y", "x@002dy", "x@0040y", "1a$", "a`b", "a.b", "100%", "a_b"];
    for (i, name) in names.into_iter().enumerate() {
        let quoted = name.replace('`', "``");
        admin.query_drop(format!("CREATE TABLE `{odd}`.`{quoted}` (id INT PRIMARY KEY)")).await.expect(name);
        admin
            .query_drop(format!(
                "CREATE TABLE `{other}`.`{quoted}` (id INT PRIMARY KEY, p INT, CONSTRAINT `f-{i}` FOREIGN KEY (p) REFERENCES `{odd}`.`{quoted}` (id))"
            ))
            .await
            .expect(name);
    }
    // One whose encoded name is another's plain one has no child.
    admin.query_drop(format!("CREATE TABLE `{odd}`.`x-y` (id INT PRIMARY KEY)")).await.expect("a table");
    for (i, name) in names.into_iter().enumerate() {
        let found = theseus::engine::table::sight::foreign_keys(&mut session, &odd, name).await.expect(name);
        let found: Vec<_> =
            found.iter().map(|key| (key.schema.as_str(), key.child.as_str(), key.name.clone(), key.parent.as_str())).collect();
        assert_eq!(found, [(other.as_str(), name, format!("f-{i}"), name)]);
        // And the id, or nothing, but never another table's.
        let id = theseus::engine::table::inspector::table_id(&mut session, &odd, name).await.expect(name);
        assert!(id.is_some() || !name.is_ascii() || !odd.is_ascii(), "{name}");
    }
    assert_eq!(theseus::engine::table::sight::foreign_keys(&mut session, &odd, "x-y").await.expect("x-y"), []);
    session.close().await;
    for name in [&other, &odd] {
        admin.query_drop(format!("DROP DATABASE `{name}`")).await.expect("drop a schema");
    }
    account.drop().await;
    db.drop().await;
}
