//! Tables that take part in foreign keys: children, parents, tables that refer to themselves, several of each, with every action, across
//! schemas. The definitions afterwards, of the table and of its relatives, are those that the native ALTER leaves, to the letter; the
//! constraints hold at every moment; and a death between any two statements of a swap is finished by the next engine.

mod added;
mod page;

use crate::deaths::{self, Statement};
use crate::proxy::{Hold, Proxy, plain};
use crate::support::{self, Db, PrivateServer, controls, migrate};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, DeferIndexes, MigrationSpec};

struct Case {
    name: &'static str,
    /// Statements that make the tables, divided by semicolons; `OTHER` stands for a second schema.
    tables: &'static str,
    /// Which of them is changed.
    table: &'static str,
    alter: &'static str,
}

const FAMILY: &str = "CREATE TABLE p (id INT PRIMARY KEY, u INT NOT NULL UNIQUE, a VARCHAR(10)); \
    CREATE TABLE t (id INT PRIMARY KEY, p INT, q INT, boss INT, a INT, CONSTRAINT to_p FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE ON UPDATE CASCADE, \
      FOREIGN KEY (q) REFERENCES p (u) ON DELETE SET NULL, CONSTRAINT boss FOREIGN KEY (boss) REFERENCES t (id)); \
    CREATE TABLE c (id INT PRIMARY KEY, t INT, n INT, FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE, CONSTRAINT zz FOREIGN KEY (n) REFERENCES t (id)); \
    INSERT INTO p VALUES (1, 10, 'a'), (2, 20, 'b'); INSERT INTO t VALUES (1, 1, 20, NULL, 5), (2, 2, 10, 1, 6); INSERT INTO c VALUES (1, 1, 2), (2, 2, 1)";

const CASES: &[Case] = &[
    Case { name: "a child of several, that refers to itself and has children", tables: FAMILY, table: "t", alter: "MODIFY a BIGINT" },
    Case { name: "a parent", tables: FAMILY, table: "p", alter: "MODIFY a VARCHAR(300)" },
    Case { name: "a child at the end of the chain", tables: FAMILY, table: "c", alter: "ADD COLUMN x INT FIRST" },
    Case {
        name: "columns that foreign keys stand on get other names",
        tables: FAMILY,
        table: "t",
        alter: "CHANGE id number INT NOT NULL, RENAME COLUMN p TO parent, RENAME COLUMN boss TO chief",
    },
    Case {
        name: "a foreign key is dropped besides",
        tables: FAMILY,
        table: "t",
        alter: "DROP FOREIGN KEY to_p, DROP INDEX to_p, DROP COLUMN p, MODIFY a BIGINT",
    },
    Case {
        name: "an index that takes the place of the generated one",
        tables: FAMILY,
        table: "t",
        alter: "ADD INDEX mine (p, a), MODIFY a BIGINT",
    },
    Case {
        name: "composite, named by the server and by hand, in no order",
        tables: "CREATE TABLE p (a INT, b VARCHAR(5), c INT, PRIMARY KEY (a, b), KEY (c), UNIQUE (a)); \
            CREATE TABLE t (id INT PRIMARY KEY, x INT, y VARCHAR(5), z INT, CONSTRAINT zeta FOREIGN KEY (x, y) REFERENCES p (a, b) ON UPDATE CASCADE, \
              FOREIGN KEY (y) REFERENCES p2 (b), CONSTRAINT alpha FOREIGN KEY (x) REFERENCES p (a), CONSTRAINT t_ibfk_7 FOREIGN KEY (x) REFERENCES p (a)); \
            INSERT INTO p VALUES (1, 'x', 1); INSERT INTO p2 VALUES ('x'); INSERT INTO t VALUES (1, 1, 'x', 9)",
        table: "t",
        alter: "MODIFY z BIGINT",
    },
    Case {
        name: "across schemas",
        tables: "CREATE TABLE OTHER.p (id INT PRIMARY KEY); CREATE TABLE t (id INT PRIMARY KEY, p INT, a INT, CONSTRAINT f FOREIGN KEY (p) REFERENCES OTHER.p (id)); \
            CREATE TABLE OTHER.c (id INT PRIMARY KEY, t INT, CONSTRAINT f FOREIGN KEY (t) REFERENCES DB.t (id) ON DELETE SET NULL); \
            INSERT INTO OTHER.p VALUES (1); INSERT INTO t VALUES (1, 1, 1); INSERT INTO OTHER.c VALUES (1, 1)",
        table: "t",
        alter: "MODIFY a BIGINT",
    },
    Case {
        name: "names as long as they may be",
        tables: "CREATE TABLE p (id INT PRIMARY KEY); CREATE TABLE a_table_whose_name_is_so_long_that_it_is_cut_off (id INT PRIMARY KEY, p INT, a INT, \
            FOREIGN KEY (p) REFERENCES p (id), CONSTRAINT a_constraint_whose_name_is_as_long_as_a_name_may_be_in_mysql____ FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE); \
            INSERT INTO p VALUES (1); INSERT INTO a_table_whose_name_is_so_long_that_it_is_cut_off VALUES (1, 1, 1)",
        table: "a_table_whose_name_is_so_long_that_it_is_cut_off",
        alter: "MODIFY a BIGINT",
    },
    Case {
        name: "twenty children",
        tables: "CREATE TABLE t (id INT PRIMARY KEY, a INT); INSERT INTO t VALUES (1, 1), (2, 2); \
            CREATE TABLE c1 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); CREATE TABLE c2 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); \
            CREATE TABLE c3 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); CREATE TABLE c4 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); \
            CREATE TABLE c5 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); CREATE TABLE c6 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); \
            INSERT INTO c1 VALUES (1); INSERT INTO c6 VALUES (2)",
        table: "t",
        alter: "MODIFY a BIGINT",
    },
];

/// Two databases, of which the second is `OTHER` in the statements.
async fn make(tables: &str, prefix: &str) -> (Db, Db) {
    let (mut db, other) = (Db::new(prefix).await, Db::new(&format!("{prefix}_other")).await);
    // Parents may come later in the text.
    db.run("SET foreign_key_checks=0").await;
    for statement in tables.split(';') {
        let statement = statement.replace("OTHER", &other.name).replace("DB", &db.name);
        if statement.contains("REFERENCES p2") {
            db.run("CREATE TABLE p2 (b VARCHAR(5) PRIMARY KEY)").await;
        }
        db.run(&statement).await;
    }
    db.run("SET foreign_key_checks=1").await;
    (db, other)
}

/// A copy by the account of the README, which is given the same on the other schema.
async fn documented(db: &mut Db, other: &mut Db, table: &str, alter: &str) -> MigrationSpec {
    let user = db.user();
    let url = db.documented(&user, "secretword").await;
    for grant in support::documented_grants(&user, &other.name) {
        other.run(&grant).await;
    }
    MigrationSpec { server: support::address(&url), algorithm: Algorithm::Copy, ..db.spec(table, alter) }
}

/// The account of [`documented`] goes.
async fn dismiss(db: &mut Db, spec: &MigrationSpec) {
    db.run(&format!("DROP USER '{}'@'%'", spec.server.username)).await;
}

async fn remove(mut db: Db) {
    // Tables of the other schema may refer to its own.
    db.run("SET foreign_key_checks=0").await;
    db.drop().await;
}

/// Definitions of all tables that are not ours, and their rows.
async fn picture(db: &mut Db, other: &mut Db) -> Vec<String> {
    let mut all = Vec::new();
    for one in [&mut *db, other] {
        for table in one.tables().await {
            if table.starts_with('_') {
                continue;
            }
            all.push(one.definition(&table).await);
            all.push(format!("{:?}", one.rows(&format!("SELECT * FROM `{table}` ORDER BY 1")).await));
        }
    }
    let (here, there) = (db.name.clone(), other.name.clone());
    all.into_iter().map(|text| text.replace(&there, "OTHER").replace(&here, "DB")).collect()
}

/// Definitions and rows after our change and after the native one.
async fn compare(case: &Case, defer: DeferIndexes) {
    let (mut native, mut native_other) = make(case.tables, "fk_native").await;
    let alter = |db: &Db, other: &Db| case.alter.replace("OTHER", &other.name).replace("DB", &db.name);
    native.run(&format!("ALTER TABLE {} {}", case.table, alter(&native, &native_other))).await;
    let (mut ours, mut ours_other) = make(case.tables, "fk_ours").await;
    let clauses = alter(&ours, &ours_other);
    let spec = documented(&mut ours, &mut ours_other, case.table, &clauses).await;
    let outcome = migrate(spec.clone(), Controls { defer_indexes: defer, ..controls() }).await;
    assert_eq!(outcome, Outcome::Succeeded, "{}", case.name);
    dismiss(&mut ours, &spec).await;
    assert_eq!(picture(&mut ours, &mut ours_other).await, picture(&mut native, &mut native_other).await, "{} ({defer:?})", case.name);
    for db in [native_other, native, ours_other, ours] {
        remove(db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_those_of_the_native_alter() {
    for case in CASES {
        for defer in [DeferIndexes::Never, DeferIndexes::Always] {
            compare(case, defer).await;
        }
    }
}

/// Writers on all three tables of [`FAMILY`], in transactions of their own shape, and probes that try to break each constraint all the time.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Counts>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    /// Statements of the application that were done.
    done: u64,
    /// Transactions that were given up for a deadlock, which an application repeats.
    deadlocks: u64,
    /// Attempts to break a constraint that were refused.
    refused: u64,
    /// Attempts that were not.
    broken: u64,
}

/// What a statement of a load came to.
async fn say(conn: &mut Conn, sql: &str, expected: &[u16]) -> Result<bool, ()> {
    match conn.query_drop(sql).await {
        Ok(()) => Ok(true),
        Err(mysql_async::Error::Server(error)) if expected.contains(&error.code) => Ok(false),
        // A deadlock, as any transaction may meet one: of rows, or of tables that are locked.
        Err(mysql_async::Error::Server(error)) if error.code == 1213 => Err(()),
        Err(error) => panic!("{sql}: {error}"),
    }
}

impl Load {
    fn start(url: &str, database: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for worker in 0..4_u64 {
            let (url, database, stop) = (url.to_owned(), database.to_owned(), Arc::clone(&stop));
            tasks.push(tokio::spawn(async move {
                let mut conn = support::connect(&url).await;
                conn.query_drop(format!("USE `{database}`")).await.expect("use");
                let mut random = fastrand::Rng::with_seed(worker);
                let mut counts = Counts::default();
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    n += 1;
                    // Each worker has parents and rows of its own, so that what it expects depends on nobody.
                    let base = 1_000 * (worker + 1);
                    let (p, t, c) = (base + random.u64(1..20), base + random.u64(1..50), base + random.u64(1..50));
                    let gone = 900_000 + n;
                    let result = async {
                        match random.u8(..8) {
                            // A parent, a row and a child of it at once, unless the parent's other key has moved away with a row of another id.
                            0 | 1 => {
                                say(&mut conn, "BEGIN", &[]).await?;
                                say(&mut conn, &format!("INSERT IGNORE INTO p VALUES ({p}, {p}, 'x')"), &[]).await?;
                                say(&mut conn, &format!("INSERT INTO t VALUES ({t}, {p}, {p}, NULL, {n}) ON DUPLICATE KEY UPDATE p = {p}, a = {n}"), &[1452]).await?;
                                say(&mut conn, &format!("REPLACE INTO c (id, t, n) VALUES ({c}, {t}, NULL)"), &[1452]).await?;
                                say(&mut conn, "COMMIT", &[]).await?;
                            }
                            // Cascades through all three.
                            2 => drop(say(&mut conn, &format!("DELETE FROM p WHERE id = {p}"), &[]).await?),
                            3 => drop(say(&mut conn, &format!("UPDATE p SET id = id + 20 WHERE id = {p} AND NOT EXISTS (SELECT 1 FROM (SELECT id FROM p) AS q WHERE q.id = {p} + 20)"), &[]).await?),
                            4 => drop(say(&mut conn, &format!("DELETE FROM t WHERE id = {t}"), &[1451]).await?),
                            5 => drop(say(&mut conn, &format!("UPDATE t SET a = a + 1 WHERE id = {t}"), &[]).await?),
                            // Probes: an orphan of each kind.
                            6 => {
                                for sql in [
                                    format!("INSERT INTO t VALUES ({gone}, {gone}, NULL, NULL, 1)"),
                                    format!("INSERT INTO c (id, t, n) VALUES ({gone}, {gone}, NULL)"),
                                    format!("INSERT INTO t VALUES ({gone}, NULL, NULL, {gone} + 1, 1)"),
                                ] {
                                    match say(&mut conn, &sql, &[1452]).await? {
                                        true => counts.broken += 1,
                                        false => counts.refused += 1,
                                    }
                                }
                            }
                            // And a parent under its child, by a constraint that only refuses.
                            _ => {
                                say(&mut conn, "BEGIN", &[]).await?;
                                say(&mut conn, &format!("INSERT INTO t VALUES ({gone}, NULL, NULL, NULL, 1)"), &[]).await?;
                                say(&mut conn, &format!("INSERT INTO c (id, t, n) VALUES ({gone}, NULL, {gone})"), &[]).await?;
                                match say(&mut conn, &format!("DELETE FROM t WHERE id = {gone}"), &[1451]).await? {
                                    true => counts.broken += 1,
                                    false => counts.refused += 1,
                                }
                                say(&mut conn, "ROLLBACK", &[]).await?;
                            }
                        }
                        Ok::<(), ()>(())
                    };
                    match result.await {
                        Ok(()) => counts.done += 1,
                        Err(()) => {
                            counts.deadlocks += 1;
                            conn.query_drop("ROLLBACK").await.expect("rollback");
                        }
                    }
                }
                counts
            }));
        }
        Self { stop, tasks }
    }

    async fn stop(self) -> Counts {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Counts::default();
        for task in self.tasks {
            let one = task.await.expect("a writer");
            all = Counts {
                done: all.done + one.done,
                deadlocks: all.deadlocks + one.deadlocks,
                refused: all.refused + one.refused,
                broken: all.broken + one.broken,
            };
        }
        all
    }
}

/// Each table of the family in turn, on a server that logs what cascades do and on one that does not.
async fn under_load(url: &str, prefix: &str) {
    let mut db = Db::on(url, prefix).await;
    for statement in FAMILY.split(';') {
        db.run(statement).await;
    }
    for id in 1..400 {
        db.run(&format!("INSERT INTO p VALUES ({0}, {0}, 'x')", 10_000 + id)).await;
        db.run(&format!("INSERT INTO t VALUES ({0}, {0}, {0}, NULL, 1)", 10_000 + id)).await;
    }
    let user = db.user();
    let server = support::address(&db.documented(&user, "secretword").await);
    let load = Load::start(url, &db.name);
    for (round, (table, alter)) in
        [("t", "MODIFY a BIGINT"), ("p", "MODIFY a VARCHAR(300)"), ("c", "ADD COLUMN x INT DEFAULT 3"), ("t", "MODIFY a INT")]
            .into_iter()
            .enumerate()
    {
        let mut spec = MigrationSpec { server: server.clone(), ..db.spec(table, alter) };
        spec.id = format!("{}-{round}", spec.id);
        // Everything is compared, too: a row that differs, or one too many, would be found.
        let patient = Controls { defer_indexes: DeferIndexes::Always, lock_timeout: Duration::from_secs(10), ..controls() };
        assert_eq!(migrate(spec, patient).await, Outcome::Succeeded, "{table} {alter}");
    }
    let counts = load.stop().await;
    println!("{prefix}: {counts:?}");
    assert_eq!(counts.broken, 0, "{counts:?}");
    assert!(counts.done > 100 && counts.refused > 20, "{counts:?}");
    // The database is what its constraints say.
    for orphans in [
        "SELECT COUNT(*) FROM t LEFT JOIN p ON t.p = p.id WHERE t.p IS NOT NULL AND p.id IS NULL",
        "SELECT COUNT(*) FROM t LEFT JOIN p ON t.q = p.u WHERE t.q IS NOT NULL AND p.id IS NULL",
        "SELECT COUNT(*) FROM t LEFT JOIN t AS b ON t.boss = b.id WHERE t.boss IS NOT NULL AND b.id IS NULL",
        "SELECT COUNT(*) FROM c LEFT JOIN t ON c.t = t.id WHERE c.t IS NOT NULL AND t.id IS NULL",
        "SELECT COUNT(*) FROM c LEFT JOIN t ON c.n = t.id WHERE c.n IS NOT NULL AND t.id IS NULL",
    ] {
        assert_eq!(db.value::<u64>(orphans).await, 0, "{orphans}");
    }
    assert_eq!(db.tables().await, ["c", "p", "t"]);
    for table in ["c", "p", "t"] {
        let definition = db.definition(table).await;
        assert!(!definition.contains("_gho") && !definition.contains("_del"), "{definition}");
    }
    db.run(&format!("DROP USER '{user}'@'%'")).await;
    remove(db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_hold_at_every_moment_and_no_row_is_lost() {
    under_load(&support::mysql_url(), "fk_load").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cascades_that_are_not_logged_reach_the_ghost() {
    let server = PrivateServer::start(&["--innodb-native-foreign-keys=ON"]).await;
    under_load(&server.url, "fk_native_load").await;
}

const STATEMENTS: &[Statement] = &[
    Statement { what: "the ghost gets its constraints", words: |db| format!("^ALTER TABLE `{db}`.`_t_gho` ADD CONSTRAINT") },
    Statement { what: "the rename", words: |db| format!("^RENAME TABLE `{db}`.`t`") },
    Statement { what: "the old table's are dropped", words: |db| format!("^ALTER TABLE `{db}`.`_t_del` DROP") },
    Statement { what: "the new table's get their names", words: |db| format!("^ALTER TABLE `{db}`.`t` DROP") },
    Statement { what: "a child's is moved", words: |db| format!("^ALTER TABLE `{db}`.`c` DROP FOREIGN KEY `c_ibfk_1`") },
    Statement { what: "a child's gets its name", words: |db| format!("^ALTER TABLE `{db}`.`c` DROP FOREIGN KEY `_t_gho_fk_c_ibfk_1`") },
    Statement { what: "the tables are unlocked", words: |_| "^UNLOCK TABLES".to_owned() },
];

/// Whoever dies between two statements of a swap, or loses its connection: the next engine, or the same one, finishes what was begun, and the
/// definitions and rows are those of the native ALTER.
#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_any_two_statements_is_finished() {
    let (mut native, mut native_other) = make(FAMILY, "fk_dead_native").await;
    native.run("ALTER TABLE t MODIFY a BIGINT").await;
    let expected = picture(&mut native, &mut native_other).await;
    let make = async || {
        let (mut db, mut other) = make(FAMILY, "fk_dead").await;
        let spec = documented(&mut db, &mut other, "t", "MODIFY a BIGINT").await;
        ((db, other), spec)
    };
    deaths::in_each(STATEMENTS, make, async |(mut db, mut other), spec, what| {
        assert_eq!(picture(&mut db, &mut other).await, expected, "{what}");
        assert_eq!(db.tables().await, ["c", "p", "t"], "{what}: nothing is left");
        dismiss(&mut db, spec).await;
        remove(other).await;
        remove(db).await;
    })
    .await;
    remove(native_other).await;
    remove(native).await;
}

/// What is deleted while its swap is half done is finished, too, before anything is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_done_swap_that_is_cleaned_up_is_finished_first() {
    let (mut native, mut native_other) = make(FAMILY, "fk_clean_native").await;
    native.run("ALTER TABLE t MODIFY a BIGINT").await;
    let expected = picture(&mut native, &mut native_other).await;
    let (mut db, mut other) = make(FAMILY, "fk_clean").await;
    let proxy = Proxy::start(support::address(&db.url).port).await;
    let spec = plain(MigrationSpec { algorithm: Algorithm::Copy, ..db.spec("t", "MODIFY a BIGINT") }, &proxy);
    let mut caught = proxy.trap(&format!("^ALTER TABLE `{}`.`c` DROP FOREIGN KEY `c_ibfk_1`", db.name), Hold::Request);
    let handle = theseus::engine::start(spec.clone(), controls());
    caught.sprung().await;
    drop(handle);
    caught.tear();
    theseus::engine::clean_up(&spec, true).await.expect("it is cleaned up");
    assert_eq!(picture(&mut db, &mut other).await, expected);
    assert_eq!(db.tables().await, ["c", "p", "t"]);
    for one in [native_other, native, other, db] {
        remove(one).await;
    }
}

/// A child that comes while rows are copied moves with the swap like the others; one table too many is refused by its name.
#[tokio::test(flavor = "multi_thread")]
async fn relatives_that_come_meanwhile_are_carried_and_too_many_are_refused() {
    let (mut db, mut other) = make(FAMILY, "fk_late").await;
    let spec = MigrationSpec { algorithm: Algorithm::Copy, ..db.spec("t", "MODIFY a BIGINT") };
    match migrate(spec.clone(), Controls { max_locked_tables: 2, ..controls() }).await {
        Outcome::Refused { reason: Reason::ForeignKeys, message } => {
            assert!(
                message.contains("locks 3 tables") && message.contains("`c`, ") && message.contains("maxLockedTables allows 2"),
                "{message}"
            );
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(db.tables().await, ["c", "p", "t"], "nothing is left");
    let handle = theseus::engine::start(spec, Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() });
    support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    other
        .run(&format!("CREATE TABLE late (id INT PRIMARY KEY, t INT, CONSTRAINT late FOREIGN KEY (t) REFERENCES `{}`.t (id))", db.name))
        .await;
    other.run("INSERT INTO late VALUES (1, 1)").await;
    db.run("DROP TABLE c").await;
    handle.control(controls());
    let watch = handle.watch();
    assert_eq!(support::join(handle).await, Outcome::Succeeded);
    let told = watch.borrow().notices.iter().any(|n| n.message.contains("`late` had to be locked with it, for "));
    assert!(told, "who stood still is told: {:?}", watch.borrow().notices);
    let definition = other.definition("late").await;
    assert!(definition.contains("CONSTRAINT `late` FOREIGN KEY (`t`)") && definition.contains(".`t` (`id`)"), "{definition}");
    assert_eq!(db.tables().await, ["p", "t"]);
    remove(other).await;
    remove(db).await;
}

/// The change partitions the table, which MySQL has not together with foreign keys: a child that comes meanwhile is seen before anything is locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_comes_while_the_table_is_being_partitioned_is_refused() {
    let mut db = Db::new("fk_partitions").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    db.run("INSERT INTO t VALUES (1, 1), (2, 2)").await;
    let spec = MigrationSpec { algorithm: Algorithm::Copy, ..db.spec("t", "PARTITION BY HASH (id) PARTITIONS 2") };
    let handle = theseus::engine::start(spec, Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() });
    support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    db.run("CREATE TABLE c (id INT PRIMARY KEY, t INT, CONSTRAINT late FOREIGN KEY (t) REFERENCES t (id))").await;
    db.run("INSERT INTO c VALUES (1, 1)").await;
    let before = (db.definition("t").await, db.definition("c").await);
    handle.control(controls());
    match support::join(handle).await {
        Outcome::Failed { reason: Reason::ForeignKeys, message } => {
            assert!(message.contains("`late`") && message.contains("1506") && message.contains("drop what was added"), "{message}");
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!((db.definition("t").await, db.definition("c").await), before);
    db.run("DROP TABLE c").await;
    db.drop().await;
}
