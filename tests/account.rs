//! The account that `docs/reference/mysqlserver.md` and the README tell people to make: it suffices, and nothing in it is too much.
mod support;

use mysql_async::{Conn, prelude::Queryable};
use std::time::Duration;
use support::{Db, controls, mysql_url};
use theseus::engine::{
    reason::Reason,
    snapshot::{Outcome, Phase},
    spec::{Controls, CutOverPolicy, MigrationSpec, ServerAddress},
    start,
};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

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
            // `_` is a wildcard in a database's name here.
            let on = on.replace("shop.", &format!("`{}`.", db.name.replace('_', "\\_")));
            statements.push(format!("GRANT {} ON {on} TO '{name}'@'%'", privileges.join(", ")));
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

    async fn drop(mut self) {
        self.admin.query_drop(format!("DROP USER '{}'@'%'", self.name)).await.expect("drop the account");
        let _ = self.admin.disconnect().await;
    }
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
    assert_eq!((end, tables, columns), (End::Over(Outcome::Succeeded), vec!["t".to_owned()], 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_useful_does_no_harm() {
    let (end, tables, columns) = migrate_as(&grants("docs/reference/mysqlserver.md", true)).await;
    assert_eq!((end, tables, columns), (End::Over(Outcome::Succeeded), vec!["t".to_owned()], 3));
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
