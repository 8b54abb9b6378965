//! `theseus check`: all findings at once, by reading only, with an account that can do nothing else.
use crate::support;

use mysql_async::prelude::Queryable;
use serde_json::Value;
use support::{Db, address};

/// An account that may only read; dropped with [`Reader::drop`].
struct Reader {
    name: String,
}

impl Reader {
    async fn new(db: &mut Db, more: &str) -> Self {
        let name = format!("r_{}", &db.name[db.name.len().saturating_sub(28)..]);
        db.run(&format!("CREATE USER '{name}'@'%' IDENTIFIED BY 'sesame-open'")).await;
        db.run(&format!("GRANT SELECT, SHOW VIEW, TRIGGER ON `{}`.* TO '{name}'@'%'", db.name)).await;
        db.run(&format!("GRANT REPLICATION CLIENT, PROCESS ON *.* TO '{name}'@'%'")).await;
        if !more.is_empty() {
            db.run(&format!("{more} TO '{name}'@'%'")).await;
        }
        Self { name }
    }

    async fn drop(self, db: &mut Db) {
        db.run(&format!("DROP USER '{}'@'%'", self.name)).await;
    }
}

/// The report and the exit code; `user` is the test's own account when `None`.
async fn check(db: &Db, user: Option<&str>, table: &str, alter: &str) -> (i32, Value) {
    check_with(db, user, table, alter, "").await
}

/// As above, with more fields of the spec.
async fn check_with(db: &Db, user: Option<&str>, table: &str, alter: &str, more: &str) -> (i32, Value) {
    let server = address(&db.url);
    let alter = alter.replace('\'', "''");
    let text = format!(
        "apiVersion: theseus.dev/v1alpha1\nkind: SchemaMigration\nmetadata: {{name: change}}\n\
         spec: {{target: {{host: '{}', port: {}}}, database: '{}', table: '{table}', alter: '{alter}'{more}}}\n",
        server.host, server.port, db.name
    );
    let (user, password) = match user {
        Some(user) => (user.to_owned(), "sesame-open".to_owned()),
        None => (server.username, server.password),
    };
    let (code, report) = support::check(&text, &user, &password).await;
    assert!(!report.to_string().contains("sesame"), "{report}");
    (code.unwrap_or(-1), report)
}

/// With `revert.window`: what has no way back is said before.
#[tokio::test]
async fn a_way_back_is_looked_for_where_it_is_asked_for() {
    let mut db = Db::new("check_revert").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, must INT NOT NULL)").await;
    db.run("CREATE TABLE child (id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES t (id))").await;
    db.run("CREATE TABLE plain (id INT PRIMARY KEY, a INT, must INT NOT NULL)").await;
    let window = ", revert: {window: 1h}";
    let copy = ", revert: {window: 1h}, algorithm: Copy";
    let (code, report) = check_with(&db, None, "plain", "ADD b INT", window).await;
    assert_eq!(code, 0);
    found(&report, "warning WayBack", &["could not be taken back"]);
    let (code, report) = check_with(&db, None, "plain", "DROP must", copy).await;
    assert_eq!(code, 2);
    found(&report, "refuse NoWayBack", &["`must`", "default"]);
    let (code, report) = check_with(&db, None, "t", "MODIFY a BIGINT", copy).await;
    assert_eq!(code, 2);
    found(&report, "refuse NoWayBack", &["foreign keys"]);
    // What rules the way back out comes first: what else foreign keys and triggers need does not help then.
    db.run("CREATE TABLE fires LIKE plain; CREATE TRIGGER bell BEFORE INSERT ON fires FOR EACH ROW SET NEW.a = 1").await;
    let user = db.user();
    db.documented(&user, "sesame-open").await;
    for alter in ["MODIFY a BIGINT", "DROP a"] {
        let (code, report) = check_with(&db, Some(&user), "fires", alter, copy).await;
        assert_eq!(code, 2);
        let first = lines(&report).into_iter().next().unwrap_or_default();
        assert!(first.starts_with("refuse NoWayBack") && first.contains("`bell`"), "{report:#}");
    }
    let (code, report) = check_with(&db, None, "plain", "MODIFY a BIGINT", copy).await;
    assert_eq!(code, 0, "{report}");
    found(&report, "info WayBack", &["redefines"]);
    let (code, report) = check_with(&db, None, "plain", "MODIFY a BIGINT", ", algorithm: Copy").await;
    assert!(code == 0 && !report.to_string().contains("WayBack"), "{report}");
    db.drop().await;
}

/// The findings as `severity reason [object] message`.
fn lines(report: &Value) -> Vec<String> {
    let word = |f: &Value, name: &str| f[name].as_str().unwrap_or_default().to_owned();
    report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|f| format!("{} {} [{}] {}", word(f, "severity"), word(f, "reason"), word(f, "object"), word(f, "message")))
        .collect()
}

#[track_caller]
fn found(report: &Value, start: &str, words: &[&str]) {
    let lines = lines(report);
    assert!(
        lines.iter().any(|line| line.starts_with(start) && words.iter().all(|w| line.contains(w))),
        "no {start:?} with {words:?} in {lines:#?}"
    );
}

#[track_caller]
fn absent(report: &Value, start: &str) {
    let lines = lines(report);
    assert!(!lines.iter().any(|line| line.starts_with(start)), "{start:?} in {lines:#?}");
}

/// A change that nothing speaks against, with an account that can do it.
#[tokio::test(flavor = "multi_thread")]
async fn a_good_change_has_no_refusals() {
    let mut db = Db::new("check_good").await;
    db.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT NOT NULL, b VARCHAR(100), UNIQUE KEY u (a))").await;
    db.run("INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y')").await;
    let (code, report) = check(&db, None, "t", "ADD COLUMN c INT, MODIFY a BIGINT NOT NULL").await;
    assert_eq!((code, &report["refused"]), (0, &false.into()), "{report:#}");
    found(&report, "info Server", &["server_uuid"]);
    found(&report, "info Size", &["rows"]);
    found(&report, "info Disk", &["binary log"]);
    found(&report, "info Algorithm", &["Copy", "column a is redefined"]);
    found(&report, "info Key [PRIMARY]", &["(id)", "other unique keys: u"]);
    assert_eq!((&report["key"], &report["algorithm"]), (&"PRIMARY".into(), &"Copy".into()));
    let (_, report) = check(&db, None, "t", "ADD COLUMN c INT").await;
    found(&report, "info Algorithm", &["Instant"]);
    db.drop().await;
}

/// Everything about one table that speaks against it, at once.
#[tokio::test(flavor = "multi_thread")]
async fn all_findings_come_at_once() {
    let mut db = Db::new("check_all").await;
    let name = db.name.clone();
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, s VARCHAR(50), status VARCHAR(20))").await;
    db.run("INSERT INTO t VALUES (1, 70000, 'topsecret', 'x'), (2, NULL, 'topsecret', 'y'), (5, -1, 'short', NULL)").await;
    db.run("CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT to_t FOREIGN KEY (p) REFERENCES t (id))").await;
    db.run("CREATE TRIGGER on_insert BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1").await;
    db.run("CREATE VIEW v AS SELECT status FROM t").await;
    db.run("CREATE VIEW harmless AS SELECT id FROM t").await;
    db.run("CREATE PROCEDURE p() SELECT status FROM t").await;
    db.run("CREATE TABLE _t_new (id INT)").await;
    db.run("CREATE TABLE _t_gho (mine INT)").await;
    let (code, report) = check(
        &db,
        None,
        "t",
        "MODIFY a SMALLINT NOT NULL, MODIFY s VARCHAR(6), DROP COLUMN status, ADD UNIQUE KEY us (s), ADD COLUMN d DATE",
    )
    .await;
    assert_eq!((code, &report["refused"]), (2, &true.into()));
    found(&report, "info Relatives", &["`to_t`", "`child` with it"]);
    found(&report, "info Relatives", &["triggers: on_insert"]);
    found(&report, "refuse NameTaken", &["_t_gho"]);
    found(&report, "refuse DataDoesNotFit [a]", &["`id` = 2", "NULL"]);
    found(&report, "refuse DataDoesNotFit [a]", &["`id` = 1", "range"]);
    found(&report, "refuse DataDoesNotFit [s]", &["`id` = 1, 2", "longer"]);
    found(&report, "refuse DuplicateKey [us]", &["1, 2"]);
    found(&report, "warning Dependents", &["`v`", "status"]);
    found(&report, "warning Dependents", &["`p`", "status"]);
    found(&report, "warning OtherTool", &["_t_new"]);
    absent(&report, &format!("warning Dependents [`{name}`.`harmless`]"));
    let all = lines(&report).join("\n");
    assert!(!all.contains("topsecret") && !all.contains("70000"), "values are not told: {all}");
    let severities: Vec<&str> = report["findings"].as_array().expect("findings").iter().filter_map(|f| f["severity"].as_str()).collect();
    assert!(severities.is_sorted_by_key(|s| ["refuse", "warning", "info"].iter().position(|w| w == s)), "{severities:?}");
    db.drop().await;
}

/// Clauses, tables and keys that no migration takes.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_migration_takes_is_told() {
    let mut db = Db::new("check_bad").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    db.run("CREATE TABLE nokey (a INT, UNIQUE KEY u (a))").await;
    db.run("INSERT INTO nokey VALUES (NULL)").await;
    db.run("CREATE TABLE maybe (a INT, UNIQUE KEY u (a))").await;
    db.run("CREATE TABLE floating (a DOUBLE NOT NULL PRIMARY KEY)").await;
    db.run("CREATE TABLE isam (id INT PRIMARY KEY) ENGINE=MyISAM").await;
    db.run("CREATE VIEW v AS SELECT * FROM t").await;
    let long = "x".repeat(60);
    db.run(&format!("CREATE TABLE {long} (id INT PRIMARY KEY)")).await;
    for (table, alter, start, words) in [
        ("absent", "ADD c INT", "refuse TableNotFound", &["does not exist"][..]),
        ("v", "ADD c INT", "refuse TableNotSupported", &["view"]),
        ("isam", "ADD c INT", "refuse TableNotSupported", &["MyISAM"]),
        ("isam", "ENGINE=InnoDB", "refuse TableNotSupported", &["MyISAM", "crashes", "native ALTER"]),
        ("t", "EXCHANGE PARTITION p WITH TABLE t", "refuse AlterNotSupported", &["which rows"]),
        ("nokey", "MODIFY a BIGINT", "refuse NoUsableKey", &["is NULL in some rows"]),
        ("maybe", "MODIFY a BIGINT", "info Key [u]", &["a may be NULL, and is in no row now"]),
        ("floating", "ADD c INT PRIMARY KEY", "refuse NoUsableKey", &["double"]),
        // What the server does itself needs no key.
        ("nokey", "ADD c INT", "info NoUsableKey", &["no problem", "is NULL in some rows"]),
        ("nokey", "ADD INDEX (a)", "info NoUsableKey", &["no problem"]),
        ("nokey", "COMPRESSION='zlib'", "warning NoUsableKey", &["refused unless the server makes the change natively"]),
        ("t", "DROP PRIMARY KEY", "refuse NoUsableKey", &["PRIMARY"]),
        ("t", "DROP PRIMARY KEY, ADD PRIMARY KEY (a)", "info Key [PRIMARY]", &["no unique index on id", "_theseus_key"]),
        ("t", "RENAME TO u", "refuse AlterNotSupported", &["RENAME"]),
        ("t", "ADD FOREIGN KEY (a) REFERENCES t (id)", "info Relatives", &["a row without a parent ends the migration"]),
        ("t", "nonsense", "refuse AlterNotSupported [spec.alter]", &[]),
        ("t", "MODIFY id BIGINT NOT NULL", "info Key [id]", &["redefines"]),
        ("t", "ADD UNIQUE u ((a + 1))", "info DataUnknown [u]", &["only the copy will show"]),
        (&long, "ADD c INT", "info Names", &["shortened"]),
    ] {
        let (code, report) = check(&db, None, table, alter).await;
        found(&report, start, words);
        assert_eq!(code, if start.starts_with("refuse") { 2 } else { 0 }, "{table} {alter}: {report:#}");
    }
    db.drop().await;
}

/// What the server would make itself is not refused for what rules out a copy: `run` makes it, too (tests/mysql/algorithms.rs).
#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_swap_is_not_refused() {
    let mut db = Db::new("check_native").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, v VARCHAR(20))").await;
    db.run("CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT to_t FOREIGN KEY (p) REFERENCES t (id))").await;
    for (alter, more, code, severity) in [
        ("ADD c INT", "", 0, "info"),
        ("ADD INDEX (a)", "", 0, "info"),
        ("MODIFY v VARCHAR(60)", "", 0, "info"),
        ("MODIFY a INT COMMENT 'x'", "", 0, "warning"),
        ("MODIFY a BIGINT", "", 2, "refuse"),
        ("ADD c INT", ", algorithm: Copy", 2, "refuse"),
        ("MODIFY a BIGINT", ", algorithm: Inplace", 0, "info"),
    ] {
        // A swap would lock the child, too.
        let (got, report) = check_with(&db, None, "t", alter, &format!("{more}, cutOver: {{maxLockedTables: 1}}")).await;
        assert_eq!(got, code, "{alter}{more}: {report:#}");
        found(&report, &format!("{severity} ForeignKeys"), &["maxLockedTables", "`child`"]);
    }
    let (got, report) = check_with(&db, None, "child", "MODIFY p BIGINT", ", algorithm: Copy").await;
    assert_eq!(got, 0, "{report:#}");
    found(&report, "warning ForeignKeys [p]", &["`to_t`", "type"]);
    let (got, report) = check_with(&db, None, "child", "DROP COLUMN p", ", algorithm: Copy").await;
    assert_eq!(got, 2, "{report:#}");
    found(&report, "refuse ForeignKeys", &["`to_t`", "`p`"]);
    // A column that comes beside anything else makes the server rebuild the table.
    let (got, report) = check(&db, None, "t", "ADD c INT, ADD INDEX (c)").await;
    assert_eq!((got, &report["algorithm"]), (0, &"Copy".into()), "{report:#}");
    found(&report, "info Algorithm", &["two migrations, `ADD c INT` and, with spec.after, `ADD INDEX (c)`, may need no copy"]);
    let (got, report) = check_with(&db, None, "t", "ADD c INT, ADD INDEX (c)", ", algorithm: Inplace").await;
    assert_eq!((got, &report["algorithm"]), (0, &"Inplace".into()), "{report:#}");
    let (got, report) = check(&db, None, "child", "DROP FOREIGN KEY to_t").await;
    assert_eq!((got, &report["algorithm"]), (0, &"Inplace".into()), "{report:#}");
    db.drop().await;
}

/// Rows whose versions are used up take no more columns instantly; the run says the same (tests/mysql/algorithms.rs).
#[tokio::test(flavor = "multi_thread")]
async fn used_up_row_versions_are_told() {
    let mut db = Db::new("check_versions").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    for i in 0..theseus::engine::table::chooser::row_versions_limit((9, 7, 0)) {
        db.run(&format!("ALTER TABLE t {}, ALGORITHM=INSTANT", if i % 2 == 0 { "ADD COLUMN z INT" } else { "DROP COLUMN z" })).await;
    }
    let (code, report) = check(&db, None, "t", "ADD c INT").await;
    assert_eq!((code, &report["algorithm"]), (0, &"Copy".into()), "{report:#}");
    found(&report, "info Algorithm", &["4092"]);
    let (code, report) = check_with(&db, None, "t", "ADD c INT", ", algorithm: Instant").await;
    assert_eq!(code, 2, "{report:#}");
    found(&report, "refuse AlgorithmNotSupported [spec.algorithm]", &["row versions"]);
    let (code, report) = check_with(&db, None, "t", "RENAME COLUMN z TO y", ", algorithm: Instant").await;
    assert_eq!(code, 0, "{report:#}");
    db.drop().await;
}

/// An expression that fails on a row that is there: for a virtual column the change itself would succeed, and reading fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_is_computed_beforehand() {
    let mut db = Db::new("check_computed").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT UNSIGNED NOT NULL)").await;
    db.run("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i, IF(i = 317, 3, 4711 + i) FROM n").await;
    let (code, report) = check(&db, None, "t", "ADD v INT UNSIGNED AS (a - 4000)").await;
    assert_eq!(code, 0, "{report:#}");
    found(&report, "warning DataDoesNotFit [v]", &["`id` = 317", "1690", "`a` - ?", "SELECT *"]);
    let (code, report) = check(&db, None, "t", "ADD (x INT, s INT UNSIGNED AS (a - 4000) STORED)").await;
    assert_eq!(code, 2, "{report:#}");
    found(&report, "refuse DataDoesNotFit [s]", &["`id` = 317"]);
    assert!(!lines(&report).join("").contains("4711"));
    let (_, report) = check(&db, None, "t", "ADD v INT AS (a + 1), ADD w INT AS (v + 1)").await;
    absent(&report, "warning DataDoesNotFit");
    found(&report, "info DataUnknown [w]", &["`w`", "could not check"]);
    db.drop().await;
}

/// A session that holds the table is told, and so is the work of an earlier engine.
#[tokio::test(flavor = "multi_thread")]
async fn who_holds_the_table_is_told() {
    let mut db = Db::new("check_held").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    db.run("INSERT INTO t VALUES (1, 1)").await;
    let mut blocker = db.connect().await;
    blocker.query_drop("START TRANSACTION; SELECT * FROM t WHERE id = 1 FOR UPDATE").await.expect("block");
    let id = blocker.id();
    let (code, report) = check(&db, None, "t", "ADD c INT").await;
    assert_eq!(code, 0, "{report:#}");
    found(&report, &format!("warning Blocker [connection {id}]"), &["has held the table"]);
    blocker.query_drop("ROLLBACK").await.expect("unblock");
    drop(blocker);
    db.drop().await;
}

/// What changed anything, by the server's own counters, and the end of its binary log. `Com_insert`, `Com_update` and `Com_delete` are left out:
/// they count an EXPLAIN of such a statement, too, and one that was refused.
async fn writes(db: &mut Db) -> Vec<Vec<String>> {
    let mut all = db
        .rows(
            "SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_create_table', 'Com_alter_table', 'Com_drop_table', 'Com_rename_table', 'Com_lock_tables', 'Com_truncate', \
             'Innodb_rows_inserted', 'Innodb_rows_updated', 'Innodb_rows_deleted')",
        )
        .await;
    all.extend(db.rows("SHOW BINARY LOG STATUS").await);
    all
}

/// With an account that can only read: all is told, the missing privileges too, and nothing on the server changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_it_all_and_nothing_changes() {
    // A server of its own: the counters are the whole server's.
    let server = support::PrivateServer::start(&[]).await;
    let mut db = Db::on(&server.url, "check_read").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20))").await;
    db.run("INSERT INTO t VALUES (1, 1, 'x'), (2, NULL, 'x')").await;
    // A foreign key that the reader's information_schema does not show.
    let other = format!("{}_other", db.name);
    db.run(&format!("CREATE DATABASE `{other}`")).await;
    db.run(&format!(
        "CREATE TABLE `{other}`.child (id INT PRIMARY KEY, p INT, CONSTRAINT hidden FOREIGN KEY (p) REFERENCES `{}`.t (id))",
        db.name
    ))
    .await;
    let reader = Reader::new(&mut db, "").await;
    let (tables, definition, before) = (db.tables().await, db.definition("t").await, writes(&mut db).await);
    let (code, report) =
        check(&db, Some(&reader.name), "t", "MODIFY a INT NOT NULL, ADD UNIQUE KEY u (b), DROP COLUMN b, ADD COLUMN b INT").await;
    assert_eq!(writes(&mut db).await, before, "nothing was written, logged or locked");
    assert_eq!((db.tables().await, db.definition("t").await), (tables, definition));
    assert_eq!(code, 2);
    for privilege in ["INSERT", "UPDATE", "DELETE", "CREATE", "REPLICATION SLAVE"] {
        found(&report, &format!("refuse MissingPrivilege [{privilege}]"), &[]);
    }
    for privilege in ["ALTER", "DROP", "LOCK TABLES", "CREATE TEMPORARY TABLES"] {
        found(&report, &format!("warning MissingPrivilege [{privilege}]"), &["SHOW GRANTS"]);
    }
    absent(&report, "refuse MissingPrivilege [SELECT]");
    found(&report, "warning NotSeen [PROCESS, and SELECT on performance_schema.*]", &["sessions that hold the table"]);
    found(&report, "refuse MissingPrivilege", &["`hidden`", "child"]);
    found(&report, "refuse DataDoesNotFit [a]", &["`id` = 2"]);
    found(&report, "info Size", &[]);
    found(&report, "info Key [PRIMARY]", &[]);
    reader.drop(&mut db).await;
    // What a role gives counts.
    db.run("CREATE ROLE migrator").await;
    db.run(&format!(
        "GRANT ALTER, DROP, LOCK TABLES, CREATE TEMPORARY TABLES, INSERT, UPDATE, DELETE, CREATE ON `{}`.* TO migrator",
        db.name
    ))
    .await;
    let reader = Reader::new(&mut db, "GRANT migrator").await;
    db.run(&format!("SET DEFAULT ROLE migrator TO '{}'@'%'", reader.name)).await;
    let kills = ", cutOver: {killBlockersAfter: 5s}";
    let (_, report) = check_with(&db, Some(&reader.name), "t", "ADD c INT", kills).await;
    found(&report, "warning MissingPrivilege [CONNECTION_ADMIN]", &["killBlockersAfter"]);
    db.run(&format!("GRANT CONNECTION_ADMIN ON *.* TO '{}'@'%'", reader.name)).await;
    let (_, report) = check_with(&db, Some(&reader.name), "t", "ADD c INT", kills).await;
    absent(&report, "warning MissingPrivilege [CONNECTION_ADMIN]");
    for privilege in ["INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "LOCK TABLES", "CREATE TEMPORARY TABLES"] {
        absent(&report, &format!("refuse MissingPrivilege [{privilege}]"));
        absent(&report, &format!("warning MissingPrivilege [{privilege}]"));
    }
    reader.drop(&mut db).await;
    db.run(&format!("DROP DATABASE `{other}`")).await;
    db.drop().await;
}

/// A server whose settings rule a migration out: each of them is told.
#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_are_told_all_at_once() {
    let server =
        support::PrivateServer::start(&["--binlog-format=MIXED", "--binlog-expire-logs-seconds=60", "--binlog-ignore-db=ignored"]).await;
    let mut db = Db::on(&server.url, "check_set").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    db.run("CREATE DATABASE ignored").await;
    db.run("CREATE TABLE ignored.t (id INT PRIMARY KEY)").await;
    db.run("SET GLOBAL read_only = ON").await;
    let copied = "MODIFY id BIGINT";
    let (code, report) = check(&db, None, "t", copied).await;
    assert_eq!(code, 2);
    found(&report, "refuse ServerNotSupported [binlog_format]", &["MIXED"]);
    found(&report, "refuse ReadOnly", &[]);
    found(&report, "warning BinlogRetention", &["60 s"]);
    absent(&report, "refuse ServerNotSupported [binlog-do-db, binlog-ignore-db]");
    db.name = "ignored".into();
    let (_, report) = check(&db, None, "t", copied).await;
    found(&report, "refuse ServerNotSupported [binlog-do-db, binlog-ignore-db]", &["ignored"]);
    // What the server does by itself needs no binary log.
    db.run("SET GLOBAL read_only = OFF").await;
    let (code, report) = check(&db, None, "t", "ADD c INT").await;
    assert_eq!(code, 0, "{report}");
    found(&report, "info ServerNotSupported [binlog-do-db, binlog-ignore-db]", &["ignored"]);
    found(&report, "info ServerNotSupported [binlog_format]", &["MIXED"]);
    let (code, report) = check(&db, None, "t", "DROP nope").await;
    assert_eq!(code, 2);
    found(&report, "refuse AlterRejected", &["no column `nope` (1091)"]);
}

/// A wrong password and a server that is not there are findings too.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_let_us_in_is_a_finding() {
    let db = Db::new("check_login").await;
    let (code, report) = check(&db, Some("nobody"), "t", "ADD c INT").await;
    assert_eq!(code, 2);
    found(&report, "refuse AccessDenied", &[]);
    db.drop().await;
}

/// The text for people, and a file that makes no sense.
#[tokio::test(flavor = "multi_thread")]
async fn the_text_has_a_verdict() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_theseus"))
        .args(["check", "-f", "/nowhere.yaml", "-o", "json"])
        .output()
        .await
        .expect("start theseus");
    assert_eq!(output.status.code(), Some(2));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    found(&report, "refuse InvalidSpec [the file]", &["/nowhere.yaml"]);
}

/// Each topic has its line in the reference, and so has each command.
#[test]
fn the_reference_has_every_topic_command_and_flag() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/cli.md")).expect("docs/reference/cli.md");
    for topic in theseus::engine::preflight::Topic::ALL {
        assert!(page.contains(&format!("| `{}` |", topic.as_str())), "docs/reference/cli.md lacks the topic {}", topic.as_str());
    }
    for line in theseus::cli::run::command::HELP.lines() {
        let command = line.split([' ', '=']).next().unwrap_or_default();
        assert!(page.contains(&format!("`{command}")), "docs/reference/cli.md lacks the command {command}");
    }
    use clap::CommandFactory;
    for subcommand in theseus::cli::Cli::command().get_subcommands() {
        assert!(
            page.contains(&format!("theseus {}", subcommand.get_name())),
            "docs/reference/cli.md lacks theseus {}",
            subcommand.get_name()
        );
        for flag in subcommand.get_arguments().filter(|a| !a.is_hide_set()).filter_map(clap::Arg::get_long).filter(|l| *l != "help") {
            assert!(page.contains(&format!("`--{flag}")), "docs/reference/cli.md lacks --{flag} of {}", subcommand.get_name());
        }
    }
}
