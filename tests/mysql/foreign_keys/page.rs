//! What `docs/foreign-keys.md` says besides, by the account of the README: each claim would fail here if it were not so.
use super::{FAMILY, dismiss, documented, make, remove};
use crate::support::{self, Db, PATIENCE, PrivateServer, controls, migrate};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::time::{Duration, Instant};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy, DeferIndexes, MigrationSpec};

/// A migration is refused with this reason and these words, and nothing is left.
async fn refused(db: &mut Db, spec: MigrationSpec, words: &[&str]) {
    let before = db.tables().await;
    let what = format!("{} {}", spec.table, spec.alter);
    match migrate(spec, controls()).await {
        Outcome::Refused { reason: Reason::ForeignKeys, message } => {
            for word in words {
                assert!(message.contains(word), "{what}: no {word} in {message}");
            }
        }
        outcome => panic!("{what}: {outcome:?}"),
    }
    assert_eq!(db.tables().await, before, "{what}: nothing is left");
}

/// Waits until so many sessions wait for the lock of a table of this database.
async fn waiting(db: &mut Db, table: &str, sessions: u64) {
    let sql = format!(
        "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_SCHEMA = '{}' AND OBJECT_NAME = '{table}' AND LOCK_STATUS = 'PENDING'",
        db.name
    );
    let end = Instant::now() + PATIENCE;
    while db.value::<u64>(&sql).await < sessions {
        assert!(Instant::now() < end, "{sessions} wait for {table}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn run(mut conn: Conn, statements: &'static [&'static str]) -> tokio::task::JoinHandle<Result<(), u16>> {
    tokio::spawn(async move {
        for sql in statements {
            match conn.query_drop(*sql).await {
                Ok(()) => {}
                Err(mysql_async::Error::Server(error)) => return Err(error.code),
                Err(error) => panic!("{sql}: {error}"),
            }
        }
        Ok(())
    })
}

/// Sessions that have one table of the swap and want another, which the swap has while it wants theirs. Single statements are stopped halfway by a
/// third table, which is not the swap's.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_statement_meets_no_deadlock_and_a_transaction_is_its_victim() {
    for transactions in [false, true] {
        let (mut db, mut other) = make(FAMILY, "fk_deadlock").await;
        db.run("CREATE TABLE z (id INT PRIMARY KEY)").await;
        db.run("INSERT INTO z VALUES (1)").await;
        let spec = documented(&mut db, &mut other, "t", "MODIFY a BIGINT").await;
        // No attempt may be given up on a slow machine while it is looked for.
        let open = Controls { lock_timeout: PATIENCE, ..controls() };
        let handle = theseus::engine::start(spec.clone(), Controls { cut_over_policy: CutOverPolicy::Manual, ..open.clone() });
        support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        // Whichever table the swap locks first, one of these has the later one.
        let (one, two): (&[&str], &[&str]) = if transactions {
            (
                &["BEGIN", "SELECT * FROM t", "SELECT * FROM z", "UPDATE p SET a = 'y' WHERE id = 1", "COMMIT"],
                &["BEGIN", "SELECT * FROM p", "SELECT * FROM z", "UPDATE t SET a = 7 WHERE id = 1", "COMMIT"],
            )
        } else {
            (
                &["UPDATE t, z, p SET p.a = 'y' WHERE t.id = 1 AND z.id = 1 AND p.id = 1"],
                &["UPDATE p, z, t SET t.a = 7 WHERE p.id = 1 AND z.id = 1 AND t.id = 1"],
            )
        };
        let mut third = db.connect().await;
        third.query_drop("LOCK TABLES z WRITE").await.expect("lock");
        let (one, two) = (run(db.connect().await, one), run(db.connect().await, two));
        waiting(&mut db, "z", 2).await;
        handle.control(open);
        // For the first that is held: the swap has the tables before it.
        let sql = format!(
            "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_SCHEMA = '{}' AND OBJECT_NAME IN ('p', 't') AND LOCK_STATUS = 'PENDING'",
            db.name
        );
        let end = Instant::now() + PATIENCE;
        while db.value::<u64>(&sql).await == 0 {
            assert!(Instant::now() < end, "the swap waits for a table");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        third.query_drop("UNLOCK TABLES").await.expect("unlock");
        let ends = [one.await.expect("the first"), two.await.expect("the second")];
        println!("transactions {transactions}: {ends:?}");
        if transactions {
            assert!(ends.contains(&Err(1213)), "one is a victim: {ends:?}");
        } else {
            assert_eq!(ends, [Ok(()), Ok(())]);
        }
        assert_eq!(support::join(handle).await, Outcome::Succeeded);
        if !transactions {
            assert_eq!(db.rows("SELECT p.a, t.a FROM p, t WHERE p.id = 1 AND t.id = 1").await, [["'y'", "'7'"]]);
        }
        dismiss(&mut db, &spec).await;
        remove(other).await;
        remove(db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_different_where_cascades_are_not_logged() {
    let server = PrivateServer::start(&["--innodb-native-foreign-keys=ON"]).await;
    for (url, logged) in [(support::mysql_url(), true), (server.url.clone(), false)] {
        let mut db = Db::on(&url, "fk_unlogged").await;
        for statement in FAMILY.split(';') {
            db.run(statement).await;
        }
        db.run("CREATE TABLE own (id INT PRIMARY KEY, up INT, CONSTRAINT own FOREIGN KEY (up) REFERENCES own (id) ON DELETE CASCADE)")
            .await;
        let user = db.user();
        let address = support::address(&db.documented(&user, "secretword").await);
        let spec = |db: &Db, table: &str, alter: &str| MigrationSpec { server: address.clone(), ..db.spec(table, alter) };
        // Indexes are built after the rows, or are there from the start.
        let still = Controls { defer_indexes: DeferIndexes::Always, throttled_by_user: true, ..controls() };
        let handle = theseus::engine::start(spec(&db, "c", "ADD KEY later (n, t)"), still.clone());
        support::until(&handle, "rows could be copied", |s| s.phase == Phase::Copying).await;
        let ghost = db.definition("_c_gho").await;
        assert_eq!(!ghost.contains("`later`"), logged, "{ghost}");
        // There the ghost has the constraints that cascade, and no other.
        assert_eq!(ghost.matches("FOREIGN KEY").count(), usize::from(!logged), "{ghost}");
        assert_eq!(ghost.contains("ON DELETE CASCADE"), !logged, "{ghost}");
        handle.control(Controls { throttled_by_user: false, ..still });
        assert_eq!(support::join(handle).await, Outcome::Succeeded);
        let found = db.definition("c").await;
        assert!(found.contains("`later`") && found.matches("FOREIGN KEY").count() == 2, "{found}");
        for (table, alter, words) in [
            ("own", "MODIFY up INT NOT NULL DEFAULT 0", &["`own`", "refers to the table itself", "innodb_native_foreign_keys"][..]),
            ("t", "DROP FOREIGN KEY to_p, MODIFY a BIGINT", &["`to_p`", "is dropped by the change", "a change of its own"][..]),
        ] {
            let spec = spec(&db, table, alter);
            match logged {
                true => assert_eq!(migrate(spec, controls()).await, Outcome::Succeeded, "{table} {alter}"),
                false => refused(&mut db, spec, words).await,
            }
        }
        db.run(&format!("DROP USER '{user}'@'%'")).await;
        remove(db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_old_table_makes_too_long_is_refused() {
    // What a table is called when it is swapped out has 56 characters at most.
    let table = "n".repeat(51);
    for (name, fits) in [(format!("{table}_ibfk_10"), true), (format!("{table}_ibfk_100"), false)] {
        let tables = format!(
            "CREATE TABLE p (id INT PRIMARY KEY); CREATE TABLE {table} (id INT PRIMARY KEY, p INT, CONSTRAINT {name} FOREIGN KEY (p) REFERENCES p (id))"
        );
        let (mut db, mut other) = make(&tables, "fk_long").await;
        let before = db.definition(&table).await;
        let spec = documented(&mut db, &mut other, &table, "FORCE").await;
        if fits {
            assert_eq!(migrate(spec.clone(), controls()).await, Outcome::Succeeded);
        } else {
            refused(&mut db, spec.clone(), &[&format!("`{name}`"), "longer than 64 characters"]).await;
        }
        assert_eq!(db.definition(&table).await, before);
        dismiss(&mut db, &spec).await;
        remove(other).await;
        remove(db).await;
    }
}

/// An index that the server made for a foreign key gives way to a wider one. After a migration it does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_stays_beside_a_wider_one() {
    let wider = [("t", "to_p", "ALTER TABLE t ADD KEY wider (p, a)"), ("c", "t", "ALTER TABLE c ADD KEY wider (t, n)")];
    let (mut native, native_other) = make(FAMILY, "fk_wider_native").await;
    let (mut db, mut other) = make(FAMILY, "fk_wider").await;
    native.run("ALTER TABLE t MODIFY a BIGINT").await;
    let spec = documented(&mut db, &mut other, "t", "MODIFY a BIGINT").await;
    assert_eq!(migrate(spec.clone(), controls()).await, Outcome::Succeeded);
    for (table, index, alter) in wider {
        native.run(alter).await;
        db.run(alter).await;
        let (ours, theirs) = (db.definition(table).await, native.definition(table).await);
        let index = format!("KEY `{index}` (");
        assert!(ours.contains(&index) && !theirs.contains(&index), "{ours}\n{theirs}");
    }
    dismiss(&mut db, &spec).await;
    for one in [native_other, native, other, db] {
        remove(one).await;
    }
}

/// Foreign keys that were made while nothing was checked.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_would_not_accept_again_is_refused() {
    for (name, made) in [
        (
            "of another character set",
            "CREATE TABLE p (id VARCHAR(9) PRIMARY KEY, n INT, KEY (n)) CHARSET utf8mb4; CREATE TABLE c (id INT PRIMARY KEY, p VARCHAR(9), \
                CONSTRAINT odd FOREIGN KEY (p) REFERENCES p (id)) CHARSET utf8mb4; ALTER TABLE c MODIFY p VARCHAR(9) CHARACTER SET latin1",
        ),
        (
            "to a key that is not unique",
            "SET restrict_fk_on_non_standard_key=OFF; CREATE TABLE p (id INT PRIMARY KEY, n INT, KEY (n)); \
            CREATE TABLE c (id INT PRIMARY KEY, p INT, CONSTRAINT odd FOREIGN KEY (p) REFERENCES p (n)); SET restrict_fk_on_non_standard_key=ON",
        ),
    ] {
        println!("{name}");
        let (mut db, mut other) = make(made, "fk_odd").await;
        let before = (db.definition("p").await, db.definition("c").await);
        let spec = documented(&mut db, &mut other, "p", "MODIFY n INT NOT NULL DEFAULT 1").await;
        let child = format!("`{}`.`c`", db.name);
        refused(&mut db, spec.clone(), &["would not accept the foreign key `odd`", &child]).await;
        let own = MigrationSpec { id: "own".to_owned(), table: "c".to_owned(), alter: "FORCE".to_owned(), ..spec.clone() };
        refused(&mut db, own, &["`odd`"]).await;
        assert_eq!((db.definition("p").await, db.definition("c").await), before);
        dismiss(&mut db, &spec).await;
        remove(other).await;
        remove(db).await;
    }
}
