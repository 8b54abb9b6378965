//! Two processes on one migration: the first is frozen (SIGSTOP) at its worst moments, the second takes the work over and ends it, then the
//! first wakes. Its writes and its swap are refused, and it says so.
//!
//! The first goes through a proxy that stops it at an exact statement and notes what it says. Its guard connection is killed, as the server
//! does with a silent one after a minute; all its other sessions stay as they are, with their transactions and locks.
use crate::{proxy, scribe, support};

use mysql_async::prelude::Queryable;
use proxy::{Hold, Kind, Proxy};
use scribe::{ALTER, Scribe, Watcher, assert_account, fill};
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::{Db, address};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

const ROWS: u64 = 4000;
/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(300);

struct Process {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Process {
    fn start(db: &Db, port: u16, rest: &str) -> Self {
        let server = address(&db.url);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("migration.yaml");
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{username: '{}', password: '{}'}}\n---\n\
             apiVersion: theseus.dev/v1alpha1\nkind: MySQLServer\nmetadata: {{name: server}}\n\
             spec: {{host: '{}', port: {port}, credentialsSecretRef: {{name: login}}, tls: {{mode: Disabled}}}}\n---\n\
             apiVersion: theseus.dev/v1alpha1\nkind: SchemaMigration\nmetadata:\n  name: change\n\
             spec:\n  target: {{serverRef: {{name: server}}}}\n  database: {}\n  table: t\n  alter: \"{ALTER}\"\n  algorithm: Copy\n{rest}",
            server.username, server.password, server.host, db.name
        );
        std::fs::write(&path, text).expect("write the file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_theseus"));
        command.args(["run", "-f"]).arg(&path).env("TMPDIR", folder.path()).env_remove("THESEUS_PASSWORD").env("THESEUS_LOG", "warn");
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("start theseus");
        Self { child, _folder: folder }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args([name, &id]).status().expect("kill").success());
    }

    /// Exit code and everything it said.
    async fn end(mut self, what: &str) -> (i32, String) {
        let (mut out, mut errors) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (self.child.stdout.take().expect("stdout"), self.child.stderr.take().expect("stderr"));
        let rest = async {
            let _ = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut errors));
            self.child.wait().await.expect("wait")
        };
        let status = tokio::time::timeout(LIMIT, rest).await.unwrap_or_else(|_| panic!("{what}: it does not end"));
        (status.code().unwrap_or(-1), format!("{out}\n{errors}"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// In a chunk's transaction, behind the fence, before its rows.
    InChunk,
    /// Every session idle, changes coming.
    AtGate,
    /// The tables are locked.
    LockHeld,
    /// The tables are locked, the last rows applied, the swap is on its way.
    BeforeRename,
}

/// Ends the connections of a kind that the proxy leads.
async fn kill(db: &mut Db, proxy: &Proxy, kind: Kind) {
    let ports: Vec<u16> = proxy.links().into_iter().filter(|(_, k)| *k == kind).map(|(port, _)| port).collect();
    assert!(!ports.is_empty(), "there is a connection of kind {kind:?}");
    for port in ports {
        let sql = format!("SELECT ID FROM performance_schema.processlist WHERE HOST LIKE '%:{port}'");
        let id: u64 = db.value(&sql).await;
        db.run(&format!("KILL {id}")).await;
    }
}

async fn wait(db: &mut Db, what: &str, sql: &str) {
    let end = Instant::now() + LIMIT;
    while db.conn.query_first::<u64, _>(sql).await.ok().flatten().unwrap_or(0) == 0 {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The definition, without the number that the application's own inserts raise all the time.
async fn definition(db: &mut Db) -> String {
    let text = db.definition("t").await;
    text.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT=")).collect::<Vec<_>>().join(" ")
}

async fn frozen(moment: Moment) {
    let began = Instant::now();
    let what = format!("frozen at {moment:?}");
    let mut db = Db::new("fencing").await;
    fill(&mut db, ROWS).await;
    let proxy = Proxy::start(address(&db.url).port).await;
    let scribe = Scribe::start(&db.url, &db.name, ROWS, fastrand::u64(..));
    let watcher = Watcher::start(&db.url, &db.name);
    let kept = moment == Moment::AtGate;
    let retention = format!("  oldTable: {{retention: {}}}\n", if kept { "24h" } else { "0s" });
    let gate = if matches!(moment, Moment::InChunk | Moment::AtGate) { "  cutOver: {policy: Manual}\n" } else { "" };
    let slow = "  copy: {workers: 1, targetChunkTime: 10ms}\n  throttle: {niceRatioPercent: 200}\n";
    // The preparation tries both statements on the ghost: the table's name tells the real ones.
    let trap = match moment {
        Moment::LockHeld => Some(proxy.trap(&format!("LOCK TABLES `{}`.`t` ", db.name), Hold::Answer)),
        Moment::BeforeRename => Some(proxy.trap(&format!("RENAME TABLE `{}`.`t` ", db.name), Hold::Request)),
        _ => None,
    };
    let first = Process::start(&db, proxy.port, &format!("{retention}{gate}{slow}"));
    let mut trap = match (moment, trap) {
        (Moment::InChunk, _) => {
            wait(&mut db, "some rows are copied", "SELECT COUNT(*) > 300 FROM _t_gho").await;
            let mut trap = proxy.trap("INSERT INTO", Hold::Request);
            trap.sprung().await;
            Some(trap)
        }
        (Moment::AtGate, _) => {
            wait(&mut db, "everything is copied", "SELECT COUNT(*) FROM _t_ghc WHERE kind = 'chunk' AND value LIKE '%\"hi\":null%'").await;
            // It does not learn at once that its guard is gone: the fence is what stops it.
            let mut trap = proxy.trap("DO 1", Hold::Answer);
            trap.sprung().await;
            Some(trap)
        }
        (_, Some(mut trap)) => {
            trap.sprung().await;
            Some(trap)
        }
        _ => None,
    };
    if moment == Moment::LockHeld {
        let locks = format!(
            "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_SCHEMA = '{}' AND OBJECT_NAME = 't' AND LOCK_TYPE = 'SHARED_NO_READ_WRITE' AND LOCK_STATUS = 'GRANTED'",
            db.name
        );
        wait(&mut db, "the tables are locked", &locks).await;
    }
    first.signal("-STOP");
    // Under the lock nobody could read it.
    let epoch: u64 = if kept { db.value("SELECT CAST(value AS UNSIGNED) FROM _t_ghc WHERE kind = 'owner'").await } else { 0 };
    kill(&mut db, &proxy, Kind::Guard).await;
    // The frozen one's own sessions are as they were.
    let second = Process::start(&db, proxy.port, &retention);
    let (code, said) = second.end(&what).await;
    assert_eq!(code, 0, "{what}: {said}");
    assert!(said.contains("run 2 of this migration"), "{what}: the work was taken over: {said}");
    let definition = definition(&mut db).await;
    let tables = db.tables().await;
    if kept {
        let now: u64 = db.value("SELECT CAST(value AS UNSIGNED) FROM _t_ghc WHERE kind = 'owner'").await;
        assert!(now > epoch, "{what}");
    }
    let mark = proxy.mark();
    first.signal("-CONT");
    if moment != Moment::AtGate {
        trap = None;
    }
    let (code, said) = first.end(&what).await;
    drop(trap);
    assert_eq!(code, 1, "{what}: {said}");
    assert!(said.contains("Failed (Fenced)") && said.contains("another engine"), "{what}: {said}");
    // It tried, and wrote nothing. (What it had sent before it froze is not in this list.)
    let after = proxy.said_since(mark);
    assert!(!after.is_empty(), "{what}: it said something");
    if kept {
        // Which of its sessions comes to the fence first is chance: a writing transaction reads the owner FOR SHARE, a look reads the state table.
        assert!(
            after.iter().any(|s| s.contains("FOR SHARE") || (s.contains("SELECT") && s.contains("_t_ghc"))),
            "{what}: its fence was read: {after:#?}"
        );
    }
    let writes = ["INSERT INTO", "REPLACE", "DELETE FROM", "RENAME", "DROP", "CREATE", "ALTER", "UPDATE"];
    // The heartbeat is no work: a row of its own in the state table. Nor is the verification's temporary table. SHOW CREATE TABLE only reads.
    let wrote: Vec<&String> = after
        .iter()
        .filter(|s| {
            !s.starts_with("SHOW CREATE")
                && writes.iter().any(|w| s.contains(w))
                && !s.contains("'heartbeat'")
                && !s.contains("TEMPORARY")
                && !s.contains("_theseus_verify")
        })
        .collect();
    assert!(wrote.is_empty(), "{what}: it wrote: {wrote:#?}");
    assert_eq!(self::definition(&mut db).await, definition, "{what}");
    assert_eq!(db.tables().await, tables, "{what}");
    let account = scribe.account().await;
    watcher.judge(&what).await;
    assert_account(&mut db, &account, &what).await;
    assert!(definition.contains("`v` decimal(20,0)"), "{what}");
    println!("{what:>24}: {:.1} s", began.elapsed().as_secs_f32());
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_frozen_in_a_chunk_writes_no_more() {
    frozen(Moment::InChunk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_frozen_at_the_gate_writes_no_more() {
    frozen(Moment::AtGate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_frozen_with_the_tables_locked_does_not_swap_them() {
    frozen(Moment::LockHeld).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_frozen_at_its_swap_does_not_make_it() {
    frozen(Moment::BeforeRename).await;
}

/// kill -9: its transaction in flight arrives after its death, and the next process goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_is_followed_by_one_that_goes_on() {
    let mut db = Db::new("killed").await;
    fill(&mut db, ROWS).await;
    let proxy = Proxy::start(address(&db.url).port).await;
    let scribe = Scribe::start(&db.url, &db.name, ROWS, fastrand::u64(..));
    let watcher = Watcher::start(&db.url, &db.name);
    let rest = "  oldTable: {retention: 0s}\n";
    let slow = "  copy: {workers: 1, targetChunkTime: 10ms}\n  throttle: {niceRatioPercent: 200}\n";
    let first = Process::start(&db, proxy.port, &format!("{rest}{slow}"));
    wait(&mut db, "some rows are copied", "SELECT COUNT(*) > 300 FROM _t_gho").await;
    let mut trap = proxy.trap(&format!("^INSERT INTO `{}`.`_t_ghc` (kind, id, value) VALUES ('chunk'", db.name), Hold::Request);
    trap.sprung().await;
    first.signal("-KILL");
    let (code, said) = first.end("killed").await;
    assert_eq!(code, -1, "{said}");
    let second = Process::start(&db, proxy.port, rest);
    trap.release();
    let (code, said) = second.end("after a kill").await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("run 2 of this migration"), "the work was taken up: {said}");
    let account = scribe.account().await;
    watcher.judge("after a kill").await;
    assert_account(&mut db, &account, "after a kill").await;
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// Frozen when it is about to drop what its migration left: by the time it wakes, the same names are a later migration's.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_frozen_at_its_clean_up_drops_nothing_of_a_later_migration() {
    let mut db = Db::new("late").await;
    fill(&mut db, ROWS).await;
    let proxy = Proxy::start(address(&db.url).port).await;
    let watcher = Watcher::start(&db.url, &db.name);
    let rest = "  oldTable: {retention: 0s}\n";
    let mut trap = proxy.trap(&format!("DROP TABLE IF EXISTS `{}`.`_t_del`", db.name), Hold::Request);
    let first = Process::start(&db, proxy.port, rest);
    trap.sprung().await;
    first.signal("-STOP");
    kill(&mut db, &proxy, Kind::Guard).await;
    let (code, said) = Process::start(&db, proxy.port, rest).end("the second").await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(db.tables().await, ["t"]);
    let keep =
        theseus::engine::contract::spec::Controls { old_table: theseus::engine::contract::spec::OldTable::Keep, ..support::controls() };
    let outcome = support::migrate(db.spec("t", "ADD d INT"), keep).await;
    assert_eq!(outcome, theseus::engine::contract::snapshot::Outcome::Succeeded);
    let tables = db.tables().await;
    assert_eq!(tables, ["_t_del", "_t_ghc", "t"]);
    first.signal("-CONT");
    trap.release();
    // It did swap the tables, and everything of its migration is gone, so that is no failure.
    let (code, said) = first.end("the first").await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(db.tables().await, tables, "what is a later migration's is not dropped");
    watcher.judge("a late clean-up").await;
    db.drop().await;
}
