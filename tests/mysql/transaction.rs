//! The transaction on the ghost: rows of the ghost are written behind the fence or not at all, and nothing that was not committed is ever
//! committed by what comes next on the same session.
use crate::{scribe, support};

use mysql_async::prelude::Queryable;
use scribe::{ALTER, Scribe, assert_account, fill};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use support::{Db, PrivateServer, controls};
use theseus::engine::contract::error::EngineError;
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::Outcome;
use theseus::engine::contract::spec::Controls;
use theseus::engine::rows::conflict;
use theseus::engine::rows::migration::Migration;
use theseus::engine::rows::transaction::{self, Commit, Failure, GhostTransaction, Unwritten};
use theseus::mysql::Session;
use theseus::sql::key::{Key, KeyRange, Side};

/// A prepared migration of `t`, and its rows' keys.
async fn prepared(db: &Db, alter: &str) -> (Arc<Migration>, Vec<Key>) {
    let (ready, mut control, _publisher) = support::ready(db, alter).await;
    let m = ready.migration;
    let all = m.keys_of(&KeyRange { lo: None, hi: None }, 1000);
    let rows: Vec<mysql_async::Row> = control.rows("read the keys", Duration::from_secs(10), &all).await.expect("keys");
    let keys = rows.into_iter().map(|row| m.codec.encode_row(&row.unwrap()).expect("a key")).collect();
    (m, keys)
}

const ROWS: u64 = 100;

/// A ghost with all rows.
async fn copied(db: &mut Db) -> (Arc<Migration>, Vec<Key>, Session) {
    fill(db, ROWS).await;
    let (m, keys) = prepared(db, ALTER).await;
    let mut session = m.session().await.expect("connect");
    let all = KeyRange { lo: None, hi: None };
    let done = transaction::write(&m, &mut session, async |ghost| {
        let rows = ghost.copy_range("copy all", &all).await?;
        Ok::<_, Failure>((Commit::Keys { aside: false }, rows))
    });
    assert_eq!(done.await.unwrap_or_else(|_| panic!("copied")), ROWS);
    (m, keys, session)
}

async fn rows(db: &mut Db) -> u64 {
    db.value("SELECT COUNT(*) FROM _t_gho").await
}

/// What commits whatever is open on a session.
async fn commit(session: &mut Session) -> bool {
    session.run("begin something else", Duration::from_secs(10), "START TRANSACTION; COMMIT").await.is_ok()
}

async fn removal(ghost: &mut GhostTransaction<'_>, keys: &[Key]) -> Result<(), Failure> {
    ghost.delete("remove", keys).await.map_err(Failure::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_stays_undone() {
    let mut db = Db::new("transaction").await;
    let (m, keys, mut session) = copied(&mut db).await;

    // Given up by whoever asked for it.
    let failed: Result<(), Failure> = transaction::write(&m, &mut session, async |ghost| {
        removal(ghost, &keys).await?;
        Err(EngineError::internal("too many rows are in the way").into())
    })
    .await;
    assert!(matches!(failed, Err(Failure::Over(_))));
    assert!(commit(&mut session).await, "the session goes on");
    assert_eq!(rows(&mut db).await, ROWS);

    // Refused by the server.
    let refused: Result<(), Failure> = transaction::write(&m, &mut session, async |ghost| {
        removal(ghost, &keys[1..]).await?;
        ghost.copy_keys("copy", &keys).await?;
        Ok((Commit::Keys { aside: false }, ()))
    })
    .await;
    assert!(matches!(refused, Err(Failure::Conflict(_))), "the first row is there still");
    assert!(commit(&mut session).await, "the session goes on");
    assert_eq!(rows(&mut db).await, ROWS);

    // Only tried out.
    let tried = transaction::try_out(&m, &mut session, async |ghost| removal(ghost, &keys).await);
    assert!(tried.await.is_ok());
    assert!(commit(&mut session).await, "the session goes on");
    assert_eq!(rows(&mut db).await, ROWS);

    // Nobody waits for its end any more: between two statements, and within one.
    for within in [false, true] {
        let mut session = m.session().await.expect("connect");
        let removed = tokio::sync::Notify::new();
        let sleep = format!("DO SLEEP(60) /* {} */", db.name);
        let asleep = format!("SELECT COUNT(*) FROM performance_schema.processlist WHERE INFO = '{sleep}'");
        let work = transaction::write(&m, &mut session, async |ghost| {
            removal(ghost, &keys).await?;
            removed.notify_one();
            if within {
                ghost.session().run("take time", Duration::from_secs(60), &sleep).await?;
            } else {
                std::future::pending::<()>().await;
            }
            Ok::<_, Failure>((Commit::Keys { aside: false }, ()))
        });
        tokio::select! {
            _ = work => panic!("it has no end"),
            () = async {
                removed.notified().await;
                while within && db.value::<u64>(&asleep).await == 0 {}
            } => {}
        }
        assert!(!commit(&mut session).await, "a session with an open transaction takes no other statement");
        drop(session);
        assert_eq!(rows(&mut db).await, ROWS, "{within}");
    }
    db.drop().await;
}

/// A former engine writes nothing, and leaves no transaction open that holds the owner's row.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_fenced_writes_nothing() {
    let mut db = Db::new("transaction").await;
    let (m, keys, mut session) = copied(&mut db).await;
    let mut locked = m.session().await.expect("connect");
    let lock = format!("LOCK TABLES {} WRITE, {} WRITE, {} WRITE", m.original_name(), m.ghost_name(), m.state.qualified());

    // Ours still: what is done under the lock is done, statement by statement.
    locked.run("lock", Duration::from_secs(10), &lock).await.expect("lock");
    let mut ghost = GhostTransaction::under_lock(&m, &mut locked).await.expect("ask").expect("ours");
    ghost.delete("remove", &keys[..10]).await.expect("remove");
    assert!(matches!(ghost.copy_keys("copy", &keys[..11]).await, Err(Unwritten::Refused(_))), "the last of them is there still");
    drop(ghost);
    locked.run("unlock", Duration::from_secs(10), "UNLOCK TABLES").await.expect("the session takes statements");
    assert_eq!(rows(&mut db).await, ROWS - 10);

    let mut other = m.own_session().await.expect("connect");
    m.state.take_over(&mut other).await.expect("another engine takes over");
    let refused: Result<(), Failure> = transaction::write(&m, &mut session, async |ghost| {
        removal(ghost, &keys).await?;
        Ok((Commit::Keys { aside: false }, ()))
    })
    .await;
    let Err(Failure::Over(error)) = refused else { panic!("it was not refused") };
    assert_eq!(error.reason, Reason::Fenced);
    m.state.take_over(&mut other).await.expect("nothing holds the owner's row");
    locked.run("lock", Duration::from_secs(10), &lock).await.expect("lock");
    assert!(GhostTransaction::under_lock(&m, &mut locked).await.expect("ask").is_none());
    drop(locked);
    assert_eq!(rows(&mut db).await, ROWS - 10);
    db.drop().await;
}

/// Whether two rows have one value cannot be shown while somebody holds them: that is no end of the attempt, and once they are let go it is shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_meets_locks_is_no_failure() {
    let mut db = Db::new("proof").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, v INT)").await;
    db.run("INSERT INTO t VALUES (1, 7), (2, 7)").await;
    let (m, keys) = prepared(&db, "ADD UNIQUE KEY u (v)").await;
    let mut session = m.session().await.expect("connect");
    session.run("wait for a second", Duration::from_secs(10), "SET SESSION innodb_lock_wait_timeout = 1").await.expect("set");
    let copied: Result<(), Failure> = transaction::write(&m, &mut session, async |ghost| {
        ghost.copy_keys("copy", &keys[..1]).await?;
        Ok((Commit::Keys { aside: false }, ()))
    })
    .await;
    assert!(copied.is_ok());
    let refused: Result<(), Failure> = transaction::write(&m, &mut session, async |ghost| {
        ghost.copy_keys("copy", &keys[1..2]).await?;
        Ok((Commit::Keys { aside: false }, ()))
    })
    .await;
    let Err(Failure::Conflict(error)) = refused else { panic!("the value is there") };
    let condition = m.codec.in_list(Side::Original, keys[1..2].iter());
    let mut other = db.connect().await;
    for held in ["_t_gho", "t"] {
        other.query_drop("BEGIN").await.expect("begin");
        other.query_drop(format!("SELECT * FROM {held} WHERE id = 1 FOR UPDATE")).await.expect("hold a row");
        let proof = conflict::prove(&m, &mut session, &error, &condition, &keys[..1]).await;
        assert!(proof.is_ok(), "{held}: {proof:?}");
        other.query_drop("ROLLBACK").await.expect("let it go");
    }
    let proof = conflict::prove(&m, &mut session, &error, &condition, &keys[..1]).await.expect_err("both rows have the value");
    assert_eq!(proof.reason, Reason::DuplicateKey);
    assert!(proof.to_string().contains("(1) and (2)") || proof.to_string().contains("1 and 2"), "{proof}");
    db.drop().await;
}

/// The server's own record of a whole migration: every statement that changed rows of the ghost came behind the fence, in the transaction that
/// had passed it, or under the lock of a session that had asked.
#[tokio::test(flavor = "multi_thread")]
async fn every_statement_on_the_ghost_is_behind_the_fence() {
    const ROWS: u64 = 3000;
    let server = PrivateServer::start(&["--log-output=TABLE", "--general-log=ON"]).await;
    let mut db = Db::on(&server.url, "fence").await;
    fill(&mut db, ROWS).await;
    let scribe = Scribe::start(&server.url, &db.name, ROWS, fastrand::u64(..));
    let controls = Controls { workers: 2, ..controls() };
    let handle = theseus::engine::start_in(support::chunks_of(200), db.spec("t", ALTER), controls);
    assert_eq!(support::join(handle).await, Outcome::Succeeded);
    assert_account(&mut db, &scribe.account().await, "the migration").await;

    db.run("SET GLOBAL general_log = OFF").await;
    // In the order in which it was written.
    let log = "SELECT thread_id, CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE command_type = 'Query'";
    let log: Vec<(u64, String)> = db.conn.query(log).await.expect("read the log");
    let (ghost, state) = (format!("`{}`.`_t_gho`", db.name), format!("`{}`.`_t_ghc`", db.name));
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    enum Door {
        #[default]
        Closed,
        Begun,
        Fenced,
        Locked,
        LockedAndFenced,
    }
    let mut doors: BTreeMap<u64, Door> = BTreeMap::new();
    let mut kinds = BTreeSet::new();
    for (thread, sql) in &log {
        let (door, sql) = (doors.entry(*thread).or_default(), sql.trim_end_matches(';').trim());
        let asks = sql.starts_with(&format!("SELECT value FROM {state} WHERE kind = 'owner'"));
        let writes = ["INSERT", "REPLACE", "DELETE", "UPDATE"].iter().any(|verb| sql.starts_with(verb))
            && [format!("INTO {ghost}"), format!("FROM {ghost}"), format!("UPDATE {ghost}")].iter().any(|target| sql.contains(target));
        if writes {
            assert!(matches!(door, Door::Fenced | Door::LockedAndFenced), "{door:?}: {sql}");
            kinds.insert((sql.split(' ').next().map(str::to_owned), *door == Door::Fenced));
        }
        *door = match (*door, sql) {
            (_, "START TRANSACTION") => Door::Begun,
            (Door::Begun, sql) if asks && sql.ends_with("FOR SHARE") => Door::Fenced,
            (Door::Begun | Door::Fenced, "COMMIT" | "ROLLBACK") => Door::Closed,
            (_, sql) if sql.starts_with("LOCK TABLES") => Door::Locked,
            (Door::Locked, _) if asks => Door::LockedAndFenced,
            (_, "UNLOCK TABLES") => Door::Closed,
            (door, _) => door,
        };
    }
    let seen = |verb: &str, transaction| kinds.contains(&(Some(verb.to_owned()), transaction));
    assert!(seen("INSERT", true) && seen("DELETE", true), "hardly anything was seen: {kinds:?} in {} statements", log.len());
    db.drop().await;
}
