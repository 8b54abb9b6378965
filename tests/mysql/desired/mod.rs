//! `spec.desired`: a whole CREATE TABLE instead of clauses, with the documented account.
use crate::support;

mod projects;

use crate::proxy::{Hold, Proxy, plain};
use support::{Db, address, controls, join};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::Outcome;
use theseus::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, Desired, MigrationSpec, Mode};

/// A database and the account of the README.
struct Place {
    db: Db,
    url: String,
    user: String,
}

impl Place {
    async fn new(name: &str) -> Self {
        let mut db = Db::new(name).await;
        let user = format!("d_{}", &db.name[db.name.len().saturating_sub(28)..]);
        let url = db.documented(&user, "sesame-open").await;
        Self { db, url, user }
    }

    fn spec(&self, table: &str, definition: &str) -> MigrationSpec {
        MigrationSpec {
            server: address(&self.url),
            desired: Some(Desired { definition: definition.to_owned(), allow_destructive: true }),
            algorithm: Algorithm::Auto,
            ..self.db.spec(table, "")
        }
    }

    /// What it comes to, and how it ended.
    async fn run(&self, spec: MigrationSpec) -> (String, Outcome) {
        let handle = theseus::engine::start(spec, controls());
        let snapshot = handle.watch();
        let outcome = join(handle).await;
        let clauses = snapshot.borrow().clauses.clone().unwrap_or_default();
        (clauses, outcome)
    }

    /// What the server makes of the definition, in a database of its own.
    async fn wanted(&mut self, table: &str, definition: &str) -> String {
        let beside = format!("{}_w", self.db.name);
        self.db.run(&format!("CREATE DATABASE `{beside}`; USE `{beside}`; SET foreign_key_checks = 0")).await;
        self.db.run(definition).await;
        let text = self.db.definition(table).await;
        self.db.run(&format!("DROP DATABASE `{beside}`; USE `{}`; SET foreign_key_checks = 1", self.db.name)).await;
        comparable(&text)
    }

    async fn now(&mut self, table: &str) -> String {
        comparable(&self.db.definition(table).await)
    }

    async fn end(mut self) {
        self.db.run(&format!("DROP USER '{}'@'%'", self.user)).await;
        self.db.drop().await;
    }
}

/// Without the counter.
fn comparable(definition: &str) -> String {
    let Some(at) = definition.rfind(" AUTO_INCREMENT=") else { return definition.to_owned() };
    let rest = &definition[at + " AUTO_INCREMENT=".len()..];
    format!("{}{}", &definition[..at], rest.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// Each kind of difference, by whatever way the server takes and by a copy; and twice the same is nothing.
async fn arrives_to_the_letter(algorithm: Algorithm) {
    let mut place = Place::new("desired").await;
    let base = "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, a INT, b VARCHAR(20), c VARCHAR(20) DEFAULT 'x', d DATETIME(6)";
    let cases: &[(&str, &str, &str)] = &[
        // name, before, after
        (
            "add",
            base,
            "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, n INT NOT NULL DEFAULT 7 COMMENT 'it''s', a INT, b VARCHAR(20), c VARCHAR(20) DEFAULT 'x', d DATETIME(6), z JSON",
        ),
        ("gone", base, "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, b VARCHAR(20), d DATETIME(6)"),
        ("moved", base, "d DATETIME(6), id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, c VARCHAR(20) DEFAULT 'x', b VARCHAR(20), a INT"),
        ("typed", base, "id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, a BIGINT UNSIGNED, b TEXT, c VARCHAR(20) DEFAULT 'y', d DATETIME"),
        ("cased", base, "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, A INT, b VARCHAR(20), c VARCHAR(20) DEFAULT 'x', d DATETIME(6)"),
        (
            "indexed",
            "id INT PRIMARY KEY, a INT, b VARCHAR(20), KEY one (a), KEY three (b), UNIQUE KEY u (a, b)",
            "id INT PRIMARY KEY, a INT, b VARCHAR(20), KEY one (a) INVISIBLE, KEY two (b, a DESC), KEY three (b), UNIQUE KEY u2 (b, a), FULLTEXT KEY f (b), KEY low ((LOWER(b)))",
        ),
        ("renamed", "id INT PRIMARY KEY, a INT, KEY one (a)", "id INT PRIMARY KEY, a INT, KEY another (a)"),
        (
            "keyed",
            "id INT PRIMARY KEY, a INT NOT NULL, UNIQUE KEY u (a)",
            "id INT NOT NULL, a INT NOT NULL, PRIMARY KEY (a), UNIQUE KEY i (id)",
        ),
        (
            "checked",
            "id INT PRIMARY KEY, a INT CHECK (a > 0), CONSTRAINT mine CHECK (a < 9)",
            "id INT PRIMARY KEY, a INT CHECK (a > 0), CONSTRAINT mine CHECK (a < 99), CHECK (id > 0) NOT ENFORCED",
        ),
        (
            "computed",
            "id INT PRIMARY KEY, a INT, g INT AS (a + 1) VIRTUAL",
            "id INT PRIMARY KEY, a INT INVISIBLE, g INT AS (a + 2) STORED, h INT AS (a * 2) VIRTUAL, KEY (h)",
        ),
        (
            "bound",
            "id INT PRIMARY KEY, a INT",
            "id INT PRIMARY KEY, a INT, b INT, c INT, KEY mine (c, a), CONSTRAINT up FOREIGN KEY (a) REFERENCES roots (id) ON DELETE CASCADE, FOREIGN KEY (b) REFERENCES roots (id), FOREIGN KEY (c) REFERENCES roots (id)",
        ),
        ("parted", "id INT PRIMARY KEY, a INT", "id INT PRIMARY KEY, a INT) PARTITION BY HASH (id) PARTITIONS 3 --"),
        (
            "set",
            "id INT PRIMARY KEY, b VARCHAR(20), e ENUM('a','b')) CHARSET=latin1 COMMENT='old' ROW_FORMAT=COMPACT --",
            "id INT PRIMARY KEY, b VARCHAR(20), e ENUM('a','b','c')) CHARSET=utf8mb4 COLLATE=utf8mb4_bin STATS_PERSISTENT=1 --",
        ),
        (
            "same_charset",
            "id INT PRIMARY KEY, b VARCHAR(20)) CHARSET=latin1 --",
            "id INT PRIMARY KEY, b VARCHAR(20) CHARACTER SET latin1) CHARSET=utf8mb4 --",
        ),
    ];
    place.db.run("CREATE TABLE roots (id INT PRIMARY KEY)").await;
    {
        for (name, before, after) in cases {
            let table = format!("{name}_{algorithm:?}").to_lowercase();
            let statement = |body: &str| match body.strip_suffix(" --") {
                Some(whole) => format!("CREATE TABLE `{table}` ({whole}"),
                None => format!("CREATE TABLE `{table}` ({body})"),
            };
            place.db.run(&statement(before)).await;
            if *name != "keyed" {
                place.db.run(&format!("INSERT INTO `{table}` (id) VALUES (1), (2), (3)")).await;
            }
            let wanted = place.wanted(&table, &statement(after)).await;
            let spec = MigrationSpec { algorithm, ..place.spec(&table, &statement(after)) };
            let (clauses, outcome) = place.run(spec.clone()).await;
            assert_eq!(outcome, Outcome::Succeeded, "{table}: {clauses}");
            assert!(!clauses.is_empty(), "{table}");
            let now = place.now(&table).await;
            // A copy gives CHECK constraints that stay the table's name in front.
            let now = now.replace(&format!("`{table}_chk_mine`"), "`mine`");
            assert_eq!(now, wanted, "{table}: {clauses}");
            // Another object with the same wish: nothing to do, at once.
            let again = MigrationSpec { id: format!("again-{table}"), ..spec };
            let (clauses, outcome) = place.run(again).await;
            assert_eq!((clauses.as_str(), outcome), ("", Outcome::Succeeded), "{table}");
        }
    }
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arrives_to_the_letter_by_the_cheapest_algorithm() {
    arrives_to_the_letter(Algorithm::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arrives_to_the_letter_by_a_copy() {
    arrives_to_the_letter(Algorithm::Copy).await;
}

/// Each table of the projects, from the earlier release to the later one, with a row in it.
async fn release(name: &str, tables: &[projects::Table]) {
    let mut place = Place::new(name).await;
    for (table, before, _) in tables {
        place.db.run(&format!("CREATE TABLE `{table}` {before}")).await;
    }
    place.db.run("SET SESSION sql_mode = ''").await;
    // Parents come first.
    for (table, before, _) in tables {
        let row = if before.contains("FOREIGN KEY (user_id)") { "(user_id) VALUES (1)" } else { "() VALUES ()" };
        place.db.run(&format!("INSERT INTO `{table}` {row}")).await;
    }
    place.db.run("SET SESSION sql_mode = DEFAULT").await;
    for (table, _, after) in tables {
        let statement = format!("CREATE TABLE `{table}` {after}");
        let wanted = place.wanted(table, &statement).await;
        let (clauses, outcome) = place.run(place.spec(table, &statement)).await;
        assert_eq!(outcome, Outcome::Succeeded, "{table}: {clauses}");
        assert!(!clauses.is_empty(), "{table}");
        assert_eq!(place.now(table).await, wanted, "{table}: {clauses}");
        assert_eq!(place.db.value::<u64>(&format!("SELECT COUNT(*) FROM `{table}`")).await, 1, "{table}");
        let again = MigrationSpec { id: format!("again-{table}"), ..place.spec(table, &statement) };
        assert_eq!(place.run(again).await, (String::new(), Outcome::Succeeded), "{table}");
    }
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roundcube_from_1_0_to_1_5() {
    release("roundcube", projects::ROUNDCUBE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn powerdns_from_3_4_to_4_7() {
    release("powerdns", projects::POWERDNS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mediawiki_from_1_35_to_1_43() {
    release("mediawiki", projects::MEDIAWIKI).await;
}

/// What loses something is refused with each loss, a rename is not guessed, bad texts are refused; nothing is left, and nothing is changed.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_what_is_wrong_and_leave_nothing() {
    let mut place = Place::new("desired_refused").await;
    place.db.run("CREATE TABLE p (id INT PRIMARY KEY)").await;
    place.db.run("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(20), b INT, UNIQUE KEY u (b), CONSTRAINT c CHECK (b > 0), CONSTRAINT f FOREIGN KEY (b) REFERENCES p (id))").await;
    place.db.run("CREATE TABLE free (id INT PRIMARY KEY, a VARCHAR(20))").await;
    let (tables, before) = (place.db.tables().await, place.db.definition("t").await);
    let whole = "id INT PRIMARY KEY, a VARCHAR(20), b INT, UNIQUE KEY u (b), CONSTRAINT c CHECK (b > 0), CONSTRAINT f FOREIGN KEY (b) REFERENCES p (id)";
    let secret = "hunter2-hunter2";
    let cases: Vec<(String, Reason, &[&str])> = vec![
        (
            format!("CREATE TABLE t ({})", whole.replace("a VARCHAR(20)", "email VARCHAR(20)")),
            Reason::DestructiveChange,
            &["the column `a` is dropped", "`email`", "a rename is never guessed", "RENAME COLUMN", "allowDestructive"],
        ),
        (
            "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(10), b INT)".to_owned(),
            Reason::DestructiveChange,
            &["from varchar(20) to varchar(10)", "unique index `u`", "CHECK constraint `c`", "foreign key `f`"],
        ),
        (format!("CREATE TABLE other ({whole})"), Reason::DesiredNotSupported, &["`other`", "`t`"]),
        (format!("CREATE TABLE elsewhere.t ({whole})"), Reason::DesiredNotSupported, &["`elsewhere`.`t`"]),
        (format!("CREATE TABLE t ({whole}); DROP TABLE t"), Reason::DesiredNotSupported, &["one statement"]),
        ("CREATE TABLE t LIKE p".to_owned(), Reason::DesiredNotSupported, &["columns in parentheses"]),
        ("CREATE TABLE t (id INT PRIMARY KEY) SELECT 1 AS id".to_owned(), Reason::DesiredNotSupported, &["no query"]),
        (format!("CREATE TABLE t ({whole}) DATA DIRECTORY = '/tmp'"), Reason::DesiredNotSupported, &["where the data is stored"]),
        (format!("CREATE TABLE t ({whole}) ENGINE=MyISAM"), Reason::DesiredNotSupported, &["InnoDB"]),
        (format!("CREATE TABLE t ({whole}) /*!990000 COMMENT='x' */"), Reason::DesiredNotSupported, &["990000", "later server"]),
        (format!("CREATE TABLE t ({whole}, x NOTATYPE)"), Reason::AlterRejected, &["1064"]),
        (format!("CREATE TABLE t ({whole}, KEY (nothere))"), Reason::AlterRejected, &["nothere"]),
        (format!("CREATE TABLE t ({whole}) CONNECTION='mysql://root:{secret}@h/d'"), Reason::DesiredNotSupported, &["not a table option"]),
    ];
    for (text, reason, words) in cases {
        for mode in [Mode::Execute, Mode::DryRun] {
            let mut spec = MigrationSpec { mode, ..place.spec("t", &text) };
            if let Some(desired) = &mut spec.desired {
                desired.allow_destructive = false;
            }
            match place.run(spec).await {
                (_, Outcome::Refused { reason: got, message }) => {
                    assert_eq!(got, reason, "{text}: {message}");
                    assert!(words.iter().all(|word| message.contains(word)), "{text}: {message}");
                }
                other => panic!("{text}: {other:?}"),
            }
            assert_eq!(place.db.tables().await, tables, "{text}");
            assert_eq!(place.db.definition("t").await, before, "{text}");
        }
    }
    // A table of somebody else's under the ghost's name is not touched.
    place.db.run("CREATE TABLE _free_gho (mine INT)").await;
    let (_, outcome) = place.run(place.spec("free", "CREATE TABLE free (id INT PRIMARY KEY)")).await;
    assert!(matches!(outcome, Outcome::Refused { reason: Reason::NameTaken, .. }), "{outcome:?}");
    assert_eq!(place.db.definition("_free_gho").await.matches("mine").count(), 1);
    place.end().await;
}

/// The report of `theseus check`: the clauses, what they lose, and that nothing was made.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_shows_the_clauses() {
    let mut place = Place::new("desired_check").await;
    place.db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20), CONSTRAINT c CHECK (a > 0))").await;
    let tables = place.db.tables().await;
    let server = address(&place.url);
    let check = async |definition: &str, more: &str| {
        let text = format!(
            "apiVersion: theseus.dev/v1alpha1\nkind: SchemaMigration\nmetadata: {{name: change}}\n\
             spec: {{target: {{host: '{}', port: {}}}, database: '{}', table: t, desired: '{definition}'{more}}}\n",
            server.host, server.port, place.db.name
        );
        let (code, report) = support::check(&text, &server.username, &server.password).await;
        let found =
            report["findings"].as_array().expect("findings").iter().map(|f| format!("{} {}: {}", f["severity"], f["reason"], f["message"]));
        (code.unwrap_or(-1), report["alter"].as_str().map(str::to_owned), found.collect::<Vec<_>>().join("\n"))
    };
    let same = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20), CONSTRAINT c CHECK (a > 0))";
    let (code, alter, found) = check(same, "").await;
    assert_eq!((code, alter.as_deref()), (0, Some("")), "{found}");
    assert!(found.contains("there is nothing to do"), "{found}");
    let (code, alter, found) = check(&same.replace("a INT,", "a BIGINT, n DATE,"), "").await;
    let clauses = "MODIFY COLUMN `a` bigint DEFAULT NULL, ADD COLUMN `n` date DEFAULT NULL AFTER `a`";
    assert_eq!((code, alter.as_deref()), (0, Some(clauses)), "{found}");
    assert!(found.contains("\"info\" \"Algorithm\"") && found.contains("\"info\" \"Key\""), "{found}");
    let renamed = same.replace("b VARCHAR(20)", "email VARCHAR(20)");
    let (code, alter, found) = check(&renamed, "").await;
    assert_eq!((code, alter.as_deref()), (2, Some("DROP COLUMN `b`, ADD COLUMN `email` varchar(20) DEFAULT NULL")), "{found}");
    assert!(found.contains("DestructiveChange") && found.contains("a rename is never guessed"), "{found}");
    let (code, _, found) = check(&renamed, ", allowDestructive: true").await;
    assert_eq!(code, 0, "{found}");
    assert!(found.contains("\"warning\" \"Desired\": \"the column `b` is dropped"), "{found}");
    // What no temporary table can be is said to be unknown; what is wrong is refused.
    let (code, alter, found) = check(&same.replace("a INT,", "a INT, FULLTEXT KEY (b),"), "").await;
    assert_eq!((code, alter), (0, None), "{found}");
    assert!(found.contains("mode DryRun") || found.contains("temporary"), "{found}");
    for (bad, word) in [
        ("CREATE TABLE t LIKE u", "DesiredNotSupported"),
        ("CREATE TABLE t (id NOTATYPE)", "AlterRejected"),
        ("CREATE TABLE u (id INT)", "DesiredNotSupported"),
    ] {
        let (code, alter, found) = check(bad, "").await;
        assert_eq!((code, alter), (2, None), "{bad}: {found}");
        assert!(found.contains(word), "{bad}: {found}");
    }
    assert_eq!(place.db.tables().await, tables);
    place.end().await;
}

/// An engine that stops in the middle of the copy, and the one after it: the clauses are those of the beginning, and the work goes on.
#[tokio::test(flavor = "multi_thread")]
async fn another_engine_resumes_the_copy() {
    let mut place = Place::new("desired_resumed").await;
    place.db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20))").await;
    place.db.run("SET SESSION cte_max_recursion_depth = 100000; INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i, i, i FROM n").await;
    let statement = "CREATE TABLE t (a BIGINT NOT NULL, id INT PRIMARY KEY, b VARCHAR(20), c INT NOT NULL DEFAULT 7, KEY (b))";
    let wanted = place.wanted("t", statement).await;
    let spec = MigrationSpec { algorithm: Algorithm::Copy, ..place.spec("t", statement) };
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let first = theseus::engine::start_in(support::chunks_of(500), spec.clone(), manual.clone());
    let copied = support::until(&first, "rows are copied", |s| s.progress.rows_copied > 0).await;
    let clauses = copied.clauses.expect("they are known");
    first.stop();
    assert_eq!(join(first).await, Outcome::Stopped);
    place.db.run("UPDATE t SET a = a + 1 WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 0").await;
    let second = theseus::engine::start(spec, controls());
    let snapshot = second.watch();
    assert_eq!(join(second).await, Outcome::Succeeded);
    assert_eq!((snapshot.borrow().resumed_count, snapshot.borrow().clauses.clone()), (1, Some(clauses)));
    assert_eq!(place.now("t").await, wanted);
    let sums = place.db.rows("SELECT COUNT(*), SUM(id), SUM(a), SUM(c) FROM t").await;
    let rows: Vec<u64> = (1..=5000).filter(|id| id % 11 != 0).collect();
    let a: u64 = rows.iter().map(|id| id + u64::from(id % 7 == 0)).sum();
    let want = [rows.len() as u64, rows.iter().sum(), a, 7 * rows.len() as u64].map(|n| format!("'{n}'"));
    assert_eq!(sums, [want.to_vec()]);
    place.end().await;
}

/// An engine that dies while it derives leaves its scratch table under a name that the state table says is its own, so the next one removes it.
/// A definition that changes between the derivation and the migration is derived from again.
#[tokio::test(flavor = "multi_thread")]
async fn a_death_and_a_change_while_deriving() {
    let mut place = Place::new("desired_death").await;
    place.db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    let statement = "CREATE TABLE t (id INT PRIMARY KEY, a BIGINT, b INT NOT NULL DEFAULT 7)";
    let wanted = place.wanted("t", statement).await;
    let proxy = Proxy::start(address(&place.url).port).await;
    let spec = MigrationSpec { algorithm: Algorithm::Copy, ..place.spec("t", statement) };
    let mut caught = proxy.trap(&format!("SHOW CREATE TABLE `{}`.`_t_gho`", place.db.name), Hold::Request);
    let handle = theseus::engine::start(plain(spec.clone(), &proxy), controls());
    caught.sprung().await;
    drop(handle);
    caught.tear();
    assert_eq!(place.db.tables().await, ["_t_ghc", "_t_gho", "t"], "this is the picture that the death leaves");

    let mut caught = proxy.trap(&format!("DROP TABLE IF EXISTS `{}`.`_t_ghc`", place.db.name), Hold::Request);
    let handle = theseus::engine::start(plain(spec.clone(), &proxy), controls());
    // What the death left goes first.
    caught.sprung().await;
    let mut derived = proxy.trap(&format!("DROP TABLE IF EXISTS `{}`.`_t_ghc`", place.db.name), Hold::Request);
    caught.release();
    derived.sprung().await;
    place.db.run("ALTER TABLE t ADD COLUMN meanwhile INT").await;
    let snapshot = handle.watch();
    derived.release();
    assert_eq!(join(handle).await, Outcome::Succeeded);
    let clauses = snapshot.borrow().clauses.clone().expect("they are known");
    assert!(clauses.contains("DROP COLUMN `meanwhile`"), "{clauses}");
    assert_eq!(place.now("t").await, wanted);
    assert_eq!(place.db.tables().await, ["t"]);
    place.end().await;
}

/// A server whose clients write names in double quotes and backslashes as they are, and a table with a default that its modes refuse now.
#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_read_as_the_servers_clients_write_it() {
    let server =
        support::PrivateServer::start(&["--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE"])
            .await;
    let mut db = Db::on(&server.url, "desired_modes").await;
    db.run("SET SESSION sql_mode = ''; CREATE TABLE t (id INT PRIMARY KEY, z DATE NOT NULL DEFAULT '0000-00-00'); SET SESSION sql_mode = DEFAULT").await;
    let definition = r#"CREATE TABLE "t" ("id" BIGINT PRIMARY KEY, z DATE NOT NULL DEFAULT '0000-00-00', "p" VARCHAR(20) DEFAULT 'C:\temp\' COMMENT 'it''s \n', KEY "k" ("p"))"#;
    let desired = Some(Desired { definition: definition.to_owned(), allow_destructive: false });
    for id in ["first", "second"] {
        let handle = theseus::engine::start(MigrationSpec { id: id.into(), desired: desired.clone(), ..db.spec("t", "") }, controls());
        let snapshot = handle.watch();
        assert_eq!(join(handle).await, Outcome::Succeeded);
        assert_eq!(snapshot.borrow().clauses.as_deref() == Some(""), id == "second", "{:?}", snapshot.borrow().clauses);
    }
    let column = db
        .rows("SELECT COLUMN_DEFAULT, COLUMN_COMMENT FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND COLUMN_NAME = 'p'")
        .await;
    assert_eq!(column.len(), 1);
    assert!(column[0][0].contains(r"C:\") && column[0][0].contains("temp") && column[0][1].contains(r"\"), "{column:?}");
    let length: u64 = db.value("SELECT CHAR_LENGTH(COLUMN_DEFAULT) + 100 * CHAR_LENGTH(COLUMN_COMMENT) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND COLUMN_NAME = 'p'").await;
    assert_eq!(length, 8 + 100 * 7);
    db.drop().await;
    server.stop().await;
}
