//! Triggers move to the new table: with definer, order, sql_mode and character sets; at no moment is the table without them, and none fires for
//! the engine's own writes.
use crate::deaths::{self, Statement};
use crate::proxy::{Hold, Proxy, plain};
use crate::support::{self, Db, PrivateServer, controls, migrate};
use mysql_async::prelude::Queryable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, MigrationSpec, ServerAddress};

/// Everything that a trigger can be, in an order that is not that of their names.
const TRIGGERS: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20))",
    "CREATE TABLE audit (n INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(100))",
    "INSERT INTO t VALUES (1, 1, 'x'), (2, 2, 'y')",
    "CREATE TRIGGER zz AFTER INSERT ON t FOR EACH ROW INSERT INTO audit (what) VALUES (CONCAT('zz', NEW.id))",
    "CREATE TRIGGER aa AFTER INSERT ON t FOR EACH ROW PRECEDES zz INSERT INTO audit (what) VALUES (CONCAT('aa', NEW.id))",
    "CREATE TRIGGER mm AFTER INSERT ON t FOR EACH ROW FOLLOWS aa BEGIN DECLARE n INT; /* a comment; with FOR EACH ROW */ SET n = NEW.id; \
       IF n > 0 THEN INSERT INTO audit (what) VALUES (CONCAT('mm; ', n)); END IF; END",
    "CREATE TRIGGER bi BEFORE INSERT ON t FOR EACH ROW SET NEW.a = IFNULL(NEW.a, 7)",
    "CREATE TRIGGER bu BEFORE UPDATE ON t FOR EACH ROW SET NEW.b = CONCAT('ü', NEW.b)",
    "CREATE TRIGGER au AFTER UPDATE ON t FOR EACH ROW INSERT INTO audit (what) VALUES (CONCAT(OLD.a, '→', NEW.a))",
    "CREATE TRIGGER bd BEFORE DELETE ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('bd')",
    "CREATE TRIGGER ad AFTER DELETE ON t FOR EACH ROW INSERT INTO audit (what) VALUES (CONCAT('ad', OLD.id))",
    "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
    "CREATE TRIGGER \"in another mode\" AFTER DELETE ON t FOR EACH ROW INSERT INTO audit (what) VALUES (CONCAT('a\\', \"OLD\".\"id\"))",
    "SET sql_mode = DEFAULT, character_set_client = latin1, collation_connection = latin1_german1_ci",
    "CREATE TRIGGER latin BEFORE UPDATE ON t FOR EACH ROW FOLLOWS bu SET NEW.a = NEW.a + 1",
    "SET NAMES utf8mb4",
    "CREATE DEFINER=`somebody else`@`nowhere` TRIGGER theirs AFTER UPDATE ON t FOR EACH ROW SET @x = 1",
    "CREATE TRIGGER a_name_that_is_as_long_as_the_name_of_a_trigger_may_be_in_mysql_ BEFORE UPDATE ON t FOR EACH ROW SET NEW.a = NEW.a",
];

async fn make(url: &str, prefix: &str) -> Db {
    let mut db = Db::on(url, prefix).await;
    for statement in TRIGGERS {
        db.run(statement).await;
    }
    db
}

/// The table and its triggers as the server shows them, but for the time at which they were made.
async fn picture(db: &mut Db) -> Vec<String> {
    let sql = format!(
        "SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME, EVENT_MANIPULATION, ACTION_TIMING, ACTION_ORDER, ACTION_STATEMENT, DEFINER, SQL_MODE, CHARACTER_SET_CLIENT, \
         COLLATION_CONNECTION, DATABASE_COLLATION FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{}' ORDER BY 1, 3, 4, 5",
        db.name
    );
    let mut all: Vec<String> = db.rows(&sql).await.into_iter().map(|row| row.join(" | ")).collect();
    all.push(db.definition("t").await);
    all.push(format!("{:?}", db.rows("SELECT * FROM t ORDER BY id").await));
    all.push(format!("{:?}", db.rows("SELECT * FROM audit ORDER BY n").await));
    all
}

fn copy(db: &Db, alter: &str) -> MigrationSpec {
    MigrationSpec { algorithm: Algorithm::Copy, ..db.spec("t", alter) }
}

/// A server where others than SUPER may make triggers.
async fn trusting() -> PrivateServer {
    PrivateServer::start(&["--log-bin-trust-function-creators=ON"]).await
}

/// The account of the README, with what triggers of other accounts need.
async fn documented(db: &mut Db, more: &str) -> ServerAddress {
    let user = db.user();
    let url = db.documented(&user, "secretword").await;
    db.run(&format!("GRANT {more} ON *.* TO '{user}'@'%'")).await;
    support::address(&url)
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_those_that_a_native_alter_leaves() {
    let url = support::mysql_url();
    let (mut native, mut ours) = (make(&url, "tr_native").await, make(&url, "tr_ours").await);
    native.run("ALTER TABLE t MODIFY a BIGINT").await;
    assert_eq!(migrate(copy(&ours, "MODIFY a BIGINT"), controls()).await, Outcome::Succeeded);
    assert_eq!(picture(&mut ours).await, picture(&mut native).await);
    for db in [&mut ours, &mut native] {
        db.run("DROP TRIGGER theirs").await;
        db.run("INSERT INTO t VALUES (3, NULL, 'z')").await;
        db.run("UPDATE t SET b = 'q' WHERE id = 1").await;
        db.run("DELETE FROM t WHERE id = 2").await;
    }
    assert_eq!(picture(&mut ours).await, picture(&mut native).await, "they do the same");
    assert_eq!(ours.tables().await, ["audit", "t"]);
    ours.drop().await;
    native.drop().await;
}

/// What the application writes is in the audit exactly once, through four swaps, and nothing of what the engine writes is.
#[tokio::test(flavor = "multi_thread")]
async fn each_write_of_the_application_fires_once() {
    let server = trusting().await;
    let url = server.url.clone();
    let mut db = Db::on(&url, "tr_load").await;
    db.run("CREATE USER application").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL)").await;
    db.run("CREATE TABLE audit (n BIGINT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(10), id INT, a INT)").await;
    db.run("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, 0 FROM n").await;
    for event in ["INSERT", "UPDATE", "DELETE"] {
        let row = if event == "DELETE" { "OLD" } else { "NEW" };
        db.run(&format!("CREATE DEFINER=application TRIGGER on_{event} AFTER {event} ON t FOR EACH ROW INSERT INTO audit (what, id, a) VALUES ('{event}', {row}.id, {row}.a)")).await;
    }
    db.run(&format!("GRANT ALL ON `{}`.* TO application", db.name)).await;
    let address = documented(&mut db, "SET_ANY_DEFINER").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for worker in 0..4_u32 {
        let (url, name, stop) = (url.clone(), db.name.clone(), Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            let mut conn = support::connect(&url).await;
            conn.query_drop(format!("USE `{name}`")).await.expect("use");
            let mut random = fastrand::Rng::with_seed(worker.into());
            let mut expected = Vec::new();
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                // Rows of its own.
                let id = random.u32(0..250) * 4 + worker + 1;
                let (event, sql) = match random.u8(..3) {
                    0 => ("INSERT", format!("INSERT IGNORE INTO t VALUES ({id}, {n})")),
                    1 => ("UPDATE", format!("UPDATE t SET a = {n} WHERE id = {id}")),
                    _ => ("DELETE", format!("DELETE FROM t WHERE id = {id}")),
                };
                conn.query_drop(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
                if conn.affected_rows() == 1 {
                    expected.push((event.to_owned(), id));
                }
            }
            expected
        }));
    }
    for (round, alter) in
        ["MODIFY a BIGINT NOT NULL", "ADD COLUMN c INT DEFAULT 5 FIRST", "DROP COLUMN c", "MODIFY a INT NOT NULL"].into_iter().enumerate()
    {
        let mut spec = MigrationSpec { server: address.clone(), ..copy(&db, alter) };
        spec.id = format!("{}-{round}", spec.id);
        if alter.starts_with("ADD") {
            // The writers name no columns.
            spec.alter = "ADD COLUMN c INT INVISIBLE DEFAULT 5".into();
        }
        let patient = Controls { lock_timeout: Duration::from_secs(10), ..controls() };
        assert_eq!(migrate(spec, patient).await, Outcome::Succeeded, "{alter}");
    }
    stop.store(true, Ordering::SeqCst);
    let mut expected = Vec::new();
    for writer in writers {
        expected.extend(writer.await.expect("a writer"));
    }
    let found: Vec<(String, u32)> = db.conn.query("SELECT what, id FROM audit ORDER BY n").await.expect("read the audit");
    let count = |of: &[(String, u32)], one: &(String, u32)| of.iter().filter(|other| *other == one).count();
    assert!(expected.len() > 100, "{}", expected.len());
    for one in &expected {
        assert_eq!(count(&found, one), count(&expected, one), "{one:?}");
    }
    assert_eq!(found.len(), expected.len(), "nothing else is in the audit");
    println!("{} writes, each in the audit once", expected.len());
    db.drop().await;
}

const STATEMENTS: &[Statement] = &[
    Statement { what: "a trigger is made on the ghost", words: |db| format!("TRIGGER `{db}`.`_t_gho_tr_") },
    Statement { what: "the rename", words: |db| format!("^RENAME TABLE `{db}`.`t`") },
    Statement { what: "a trigger is moved", words: |db| format!("DROP TRIGGER IF EXISTS `{db}`.`zz`") },
    Statement { what: "the tables are unlocked", words: |_| "^UNLOCK TABLES".to_owned() },
];

/// Whoever dies in the swap: the next engine finishes it, and everything is as a native ALTER leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn a_death_in_the_swap_is_finished() {
    let server = trusting().await;
    let mut native = make(&server.url, "tr_dead_native").await;
    native.run("ALTER TABLE t MODIFY a BIGINT").await;
    let expected = picture(&mut native).await;
    let make = async || {
        let mut db = make(&server.url, "tr_dead").await;
        let mut spec = copy(&db, "MODIFY a BIGINT");
        spec.server = documented(&mut db, "SET_ANY_DEFINER, SYSTEM_USER, ALLOW_NONEXISTENT_DEFINER").await;
        (db, spec)
    };
    deaths::in_each(STATEMENTS, make, async |mut db, _, what| {
        assert_eq!(picture(&mut db).await, expected, "{what}");
        assert_eq!(db.tables().await, ["audit", "t"], "{what}: nothing is left");
        db.drop().await;
    })
    .await;
    native.drop().await;
}

/// With the documented account: refused where the server lets it make no triggers, or none of another account's; else it works.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_again_is_refused_by_name() {
    let server = PrivateServer::start(&[]).await;
    let mut db = make(&server.url, "tr_refused").await;
    let url = db.documented("triggering", "secretword").await;
    let spec = |db: &Db, alter: &str| MigrationSpec { server: support::address(&url), ..copy(db, alter) };
    let refused = async |db: &mut Db, alter: &str, reason: Reason, words: &[&str]| {
        let before = picture(db).await;
        match migrate(spec(db, alter), controls()).await {
            Outcome::Refused { reason: found, message } => {
                assert_eq!(found, reason, "{alter}: {message}");
                for word in words {
                    assert!(message.contains(word), "{alter}: no {word} in {message}");
                }
            }
            outcome => panic!("{alter}: {outcome:?}"),
        }
        assert_eq!(picture(db).await, before, "{alter}");
        assert_eq!(db.tables().await, ["audit", "t"], "{alter}: nothing is left");
    };
    refused(&mut db, "MODIFY a BIGINT", Reason::Triggers, &["1419", "log_bin_trust_function_creators", "`bi`"]).await;
    db.run("SET GLOBAL log_bin_trust_function_creators = ON").await;
    refused(&mut db, "MODIFY a BIGINT", Reason::MissingPrivilege, &["GRANT SET_ANY_DEFINER", "definer"]).await;
    db.run("GRANT SET_ANY_DEFINER ON *.* TO triggering@'%'").await;
    // The others are root's.
    refused(&mut db, "MODIFY a BIGINT", Reason::MissingPrivilege, &["`bi`", "SYSTEM_USER"]).await;
    db.run("GRANT SYSTEM_USER ON *.* TO triggering@'%'").await;
    // A definer that does not exist.
    refused(&mut db, "MODIFY a BIGINT", Reason::MissingPrivilege, &["`theirs`", "ALLOW_NONEXISTENT_DEFINER"]).await;
    db.run("DROP TRIGGER theirs").await;
    refused(&mut db, "DROP COLUMN b", Reason::Triggers, &["`bu`", "`b`", "drops or renames"]).await;
    refused(&mut db, "RENAME COLUMN a TO c", Reason::Triggers, &["`a`"]).await;
    db.run("ALTER DATABASE COLLATE utf8mb4_bin").await;
    refused(&mut db, "MODIFY a BIGINT", Reason::Triggers, &["utf8mb4_0900_ai_ci", "CREATE TRIGGER"]).await;
    db.run("ALTER DATABASE COLLATE utf8mb4_0900_ai_ci").await;
    assert_eq!(migrate(spec(&db, "MODIFY a BIGINT"), controls()).await, Outcome::Succeeded);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()").await, 11);
    db.drop().await;
}

/// A trigger that comes, or is made anew, while the migration waits is the one that the new table has.
#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_change_meanwhile_are_those_of_then() {
    let mut db = make(&support::mysql_url(), "tr_late").await;
    let handle = theseus::engine::start(copy(&db, "MODIFY a BIGINT"), Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() });
    support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    db.run("DROP TRIGGER zz").await;
    db.run("DROP TRIGGER bi").await;
    db.run("CREATE TRIGGER bi BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 8").await;
    let mut expected = picture(&mut db).await;
    handle.control(controls());
    assert_eq!(support::join(handle).await, Outcome::Succeeded);
    let mut found = picture(&mut db).await;
    for all in [&mut expected, &mut found] {
        all.retain(|line| !line.starts_with("CREATE TABLE"));
    }
    assert_eq!(found, expected);
    db.drop().await;
}

/// A trigger that came meanwhile is tried on the full ghost. Where the engine dies between making it there and dropping it, the next one drops
/// it before it writes to the ghost: it would fire for the engine's own writes.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_death_left_on_the_ghost_fires_for_nobody() {
    let mut db = Db::new("tr_left").await;
    for sql in [
        "CREATE TABLE t (id INT PRIMARY KEY, a INT)",
        "INSERT INTO t VALUES (1, 1), (2, 2)",
        "CREATE TABLE audit (n INT AUTO_INCREMENT PRIMARY KEY, id INT)",
    ] {
        db.run(sql).await;
    }
    let proxy = Proxy::start(support::address(&db.url).port).await;
    let spec = plain(copy(&db, "MODIFY a BIGINT"), &proxy);
    let gate = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let handle = theseus::engine::start(spec.clone(), gate.clone());
    support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    db.run("CREATE TRIGGER late AFTER INSERT ON t FOR EACH ROW INSERT INTO audit (id) VALUES (NEW.id)").await;
    let mut caught = proxy.trap("^DROP TRIGGER", Hold::Request);
    handle.control(controls());
    caught.sprung().await;
    drop(handle);
    caught.tear();
    let on_ghost = "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() AND EVENT_OBJECT_TABLE = '_t_gho'";
    assert_eq!(db.value::<u64>(on_ghost).await, 1, "this is the picture that the death leaves");
    let handle = theseus::engine::start(spec, gate);
    support::until(&handle, "the gate is reached again", |s| s.phase == Phase::AwaitingCutOver).await;
    db.run("INSERT INTO t VALUES (3, 3)").await;
    db.run("UPDATE t SET a = 5 WHERE id = 1").await;
    support::until(&handle, "the changes are applied", |s| s.progress.changes_applied >= 2).await;
    assert_eq!(db.rows("SELECT id FROM audit").await, [["'3'"]], "only the application's own insert");
    handle.control(controls());
    assert_eq!(support::join(handle).await, Outcome::Succeeded);
    db.run("INSERT INTO t VALUES (4, 4)").await;
    assert_eq!(db.rows("SELECT id FROM audit ORDER BY n").await, [["'3'"], ["'4'"]]);
    db.drop().await;
}
