//! Who is in the way of a cut-over: sessions that hold a metadata lock on the original or the ghost. They are looked for before each
//! attempt, named in the status, and killed where the user has asked for that: after `killBlockersAfter`, or once, by the force token.
//!
//! What is never killed: replication, the server's own threads, binary log readers, sessions of this process, and who holds a lock on the
//! whole server (a backup). Relies on `performance_schema.metadata_locks` (instrumented by default since 8.0).

use crate::engine::contract::error::EngineError;
use crate::engine::contract::notice;
use crate::engine::contract::progress::Publisher;
use crate::engine::contract::spec::ServerAddress;
use crate::engine::table::sight;
use crate::mysql::own::own_connections;
use crate::mysql::session::SHORT;
use crate::mysql::{Session, codes};
use crate::sql::foreign_key::TableName;
use crate::sql::quote;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How often it is looked again while someone is in the way.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// After a kill: the session is gone in a moment, unless it has much to roll back.
const AFTER_KILL: Duration = Duration::from_millis(100);

/// What an attempt locks: who holds any of it is in the way.
#[derive(Debug, Clone, Copy)]
pub struct TablesToLock<'a> {
    pub server: &'a ServerAddress,
    /// Schema.
    pub database: &'a str,
    /// Tables that are to be locked: the original, and the ghost if there is one.
    pub tables: &'a [&'a str],
    /// Those that are locked with them, since foreign keys bind them.
    pub relatives: &'a [TableName],
}

/// A session that holds a lock which an attempt needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Connection id, as in the process list.
    pub id: u64,
    /// Account name, without the host.
    pub user: String,
    /// The thread's name in the performance schema.
    pub thread: String,
    /// What it does: `Sleep`, `Query`, `Binlog Dump`, …
    pub command: String,
    /// Whether the lock is on a table (and not on the whole server).
    pub on_table: bool,
    /// Whether it is sure to keep it beyond this moment: it does more than look at a definition, or is idle.
    pub firm: bool,
    /// What tells its transaction from the connection's others: the performance schema's number, or the time when it began. `None` if it has
    /// none.
    pub transaction: Option<String>,
    /// For how long it holds the lock at least: the age of its transaction, or of its present state.
    pub held: Duration,
}

impl Holder {
    /// Why it is never killed, if so. Pure.
    fn protected(&self) -> Option<&'static str> {
        let command = self.command.as_str();
        let thread = self.thread.strip_prefix("thread/").unwrap_or(&self.thread);
        if command.starts_with("Binlog Dump") || command == "Connect" || command == "Register Slave" || command == "Register Replica" {
            return Some("it belongs to replication");
        }
        if ["sql/replica_", "sql/slave_", "group_rpl/", "plugin_group"].iter().any(|start| thread.starts_with(start)) {
            return Some("it belongs to replication");
        }
        if command == "Daemon" || thread.starts_with("sql/event_") {
            return Some("it is a server thread");
        }
        if ["", "system user", "event_scheduler", "mysql.session", "mysql.sys", "mysql.infoschema"].contains(&self.user.as_str()) {
            return Some("it is a server thread");
        }
        (!self.on_table).then_some("it holds a server-wide lock, as a backup does")
    }

    /// In a few words, without anything that is secret.
    pub fn describe(&self) -> String {
        let seconds = self.held.as_secs();
        let what = match (&self.transaction, self.command.as_str()) {
            _ if !self.on_table => format!("a server-wide lock for {seconds} s"),
            (Some(_), _) => format!("a transaction open for {seconds} s"),
            (None, "Sleep") => format!("a lock on the table, idle for {seconds} s"),
            (None, _) => format!("a statement running for {seconds} s"),
        };
        match self.user.as_str() {
            "" => format!("connection {}: {what}", self.id),
            user => format!("connection {} ({user}): {what}", self.id),
        }
    }
}

/// Sessions that have held their lock for `least`, the longest first; nobody where the account may not look.
///
/// # Errors
/// A lost connection.
pub async fn find(session: &mut Session, to_lock: TablesToLock<'_>, least: Duration) -> Result<Vec<Holder>, EngineError> {
    let tables: Vec<String> = to_lock.tables.iter().map(|table| quote::string(table)).collect();
    let relatives: String = to_lock
        .relatives
        .iter()
        .map(|one| format!(" OR l.OBJECT_SCHEMA = {} AND l.OBJECT_NAME = {}", quote::string(&one.schema), quote::string(&one.table)))
        .collect();
    let ours: Vec<String> = own_connections(to_lock.server).iter().map(u32::to_string).collect();
    // Looking at a definition takes a lock (SHARED_HIGH_PRIO, SHARED) that a table lock does not mind, and the rename does: mostly for a moment,
    // but an idle session that has one (by HANDLER, or DESCRIBE in a transaction) keeps it.
    // INNODB_TRX tells local time (of the server's own zone, whatever the session's). A state's time is how long it lasts: a lock that a
    // session has without a transaction (LOCK TABLES, HANDLER) is at least as old, since it takes a statement to get one.
    let sql = |innodb: bool| {
        // The performance schema's number of a transaction comes first, so that one that is checked in both ways stays the same one.
        let (started, age, source) = if innodb {
            (
                "DATE_FORMAT(x.trx_started, '%Y-%m-%d %H:%i:%s')",
                "TIMESTAMPDIFF(SECOND, x.trx_started, CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', 'SYSTEM'))",
                "LEFT JOIN information_schema.INNODB_TRX x ON x.trx_mysql_thread_id = t.PROCESSLIST_ID",
            )
        } else {
            // Counted in picoseconds, up to now while it is active.
            ("NULL", "e.TIMER_WAIT DIV 1000000000000", "")
        };
        format!(
            "SELECT id, MAX(user), MAX(name), MAX(command), MAX(on_table), MAX(firm), MAX(started), CAST(MAX(held) AS SIGNED) AS age FROM ( \
               SELECT t.PROCESSLIST_ID AS id, IFNULL(t.PROCESSLIST_USER, '') AS user, t.NAME AS name, IFNULL(t.PROCESSLIST_COMMAND, '') AS command, \
                 l.OBJECT_TYPE = 'TABLE' AS on_table, \
                 l.LOCK_TYPE NOT IN ('SHARED', 'SHARED_HIGH_PRIO') OR t.PROCESSLIST_COMMAND = 'Sleep' OR l.OBJECT_TYPE <> 'TABLE' AS firm, \
                 COALESCE(CONCAT(e.THREAD_ID, '-', e.EVENT_ID), {started}) AS started, \
                 COALESCE({age}, t.PROCESSLIST_TIME, 0) AS held \
               FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID \
               LEFT JOIN performance_schema.events_transactions_current e \
                 ON e.THREAD_ID = t.THREAD_ID AND e.STATE = 'ACTIVE' AND e.AUTOCOMMIT = 'NO' \
               {source} \
               WHERE l.LOCK_STATUS = 'GRANTED' AND t.PROCESSLIST_ID IS NOT NULL AND t.PROCESSLIST_ID NOT IN (CONNECTION_ID(){}{}) \
                 AND (l.OBJECT_TYPE = 'TABLE' AND (l.OBJECT_SCHEMA = {} AND l.OBJECT_NAME IN ({}){relatives}) \
                   OR l.OBJECT_TYPE IN ('GLOBAL', 'BACKUP LOCK') AND l.LOCK_TYPE = 'SHARED')) AS holders \
             GROUP BY id HAVING age >= {} ORDER BY age DESC",
            if ours.is_empty() { "" } else { ", " },
            ours.join(", "),
            quote::string(to_lock.database),
            tables.join(", "),
            least.as_secs()
        )
    };
    type Row = (u64, String, String, String, u8, u8, Option<String>, i64);
    let what = "look for sessions that hold the table";
    let found = match session.rows::<Row>(what, SHORT, &sql(true)).await {
        // Some session runs a statement that INNODB_TRX cannot show, and shows nothing then.
        Err(error) if error.code == codes::CANNOT_CONVERT_STRING => session.rows::<Row>(what, SHORT, &sql(false)).await,
        found => found,
    };
    match found {
        Ok(rows) => Ok(rows
            .into_iter()
            .map(|(id, user, thread, command, on_table, firm, transaction, held)| Holder {
                id,
                user,
                thread,
                command,
                on_table: on_table != 0,
                firm: firm != 0,
                transaction,
                held: Duration::from_secs(u64::try_from(held).unwrap_or(0)),
            })
            .collect()),
        Err(error) if error.is_connection() => Err(error.into()),
        // Without the privileges there is nothing to see ([`sight::Fact::Blockers`]); the attempt itself is bounded.
        Err(error) if sight::is_not_there(&error) => Ok(Vec::new()),
        Err(error) => {
            tracing::warn!("could not check which sessions block the cut-over: {error}");
            Ok(Vec::new())
        }
    }
}

/// Whether an attempt is worth making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clearance {
    /// Nobody is known to be in the way.
    Free,
    /// Someone is.
    Blocked {
        /// When to look again.
        look_again: Duration,
    },
}

/// Remembers who has been in the way, since when, and what was done about it.
#[derive(Debug, Default)]
pub struct Blockers {
    /// A connection with its transaction (another transaction of it is another blocker), and since when it has been in the way.
    since: BTreeMap<(u64, Option<String>), Instant>,
    killed: BTreeSet<u64>,
    /// Told about already.
    said: BTreeSet<u64>,
    /// Who is in the way now, in words.
    named: Option<String>,
}

impl Blockers {
    /// Notes who is in the way now. Pure.
    fn note(&mut self, holders: &[Holder], now: Instant) {
        let key = |holder: &Holder| (holder.id, holder.transaction.clone());
        let present: BTreeSet<_> = holders.iter().map(key).collect();
        self.since.retain(|key, _| present.contains(key));
        for key in present {
            self.since.entry(key).or_insert(now);
        }
        self.killed.retain(|id| holders.iter().any(|holder| holder.id == *id));
        self.said.retain(|id| holders.iter().any(|holder| holder.id == *id));
    }

    /// The gate is closed: nobody is in anybody's way, and time does not count.
    pub fn forget(&mut self) {
        self.since.clear();
        self.named = None;
    }

    /// Who was in the way when it was last looked: the one that has been there longest, and how many more.
    pub fn named(&self) -> Option<&str> {
        self.named.as_deref()
    }

    /// Whether one has been in the way for so long. Pure.
    fn due(&self, holder: &Holder, now: Instant, after: Option<Duration>) -> bool {
        let since = self.since.get(&(holder.id, holder.transaction.clone()));
        after.is_some_and(|after| since.is_some_and(|since| now.duration_since(*since) >= after))
    }

    /// Looks who is in the way, and kills who is to be killed: those who have been in it for `kill_after`, all with `force`.
    /// Only those count who have held their lock for `least`: others may be gone by the time of the attempt, which is bounded anyway.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn clear_the_way(
        &mut self,
        session: &mut Session,
        to_lock: TablesToLock<'_>,
        least: Duration,
        kill_after: Option<Duration>,
        force: bool,
        publisher: &Publisher,
    ) -> Result<Clearance, EngineError> {
        let holders = find(session, to_lock, least.max(Duration::from_secs(1))).await?;
        let now = Instant::now();
        self.note(&holders, now);
        self.named = self.words(&holders);
        if holders.is_empty() {
            return Ok(Clearance::Free);
        }
        let due: Vec<Holder> = holders.into_iter().filter(|holder| force || self.due(holder, now, kill_after)).collect();
        let killed = self.kill(session, &due, publisher).await?;
        Ok(Clearance::Blocked { look_again: if killed { AFTER_KILL } else { LOOK_AGAIN } })
    }

    fn words(&self, holders: &[Holder]) -> Option<String> {
        let first = holders.first()?;
        let rolling_back = if self.killed.contains(&first.id) { ", killed, still rolling back" } else { "" };
        Some(match holders.len() - 1 {
            0 => format!("{}{rolling_back}", first.describe()),
            more => format!("{}{rolling_back}; and {more} more", first.describe()),
        })
    }

    /// Kills sessions, each once, and tells of each. True: at least one was killed now.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn kill(&mut self, session: &mut Session, holders: &[Holder], publisher: &Publisher) -> Result<bool, EngineError> {
        let mut any = false;
        for holder in holders {
            if self.killed.contains(&holder.id) || !holder.firm {
                continue;
            }
            if let Some(why) = holder.protected() {
                if self.said.insert(holder.id) {
                    publisher.notice(
                        notice::BLOCKER_NOT_KILLED,
                        true,
                        format!("connection {} blocks the cut-over and is not killed: {why}; the cut-over waits", holder.id),
                    );
                }
                continue;
            }
            match session.run("kill a session that holds the table", SHORT, &format!("KILL {}", holder.id)).await {
                Ok(()) => {
                    any = true;
                    self.killed.insert(holder.id);
                    publisher.notice(
                        notice::BLOCKER_KILLED,
                        true,
                        format!("killed, because it blocked the cut-over: {}", holder.describe()),
                    );
                }
                Err(error) if error.is_connection() => return Err(error.into()),
                Err(error) if error.code == codes::NO_SUCH_THREAD => any = true,
                Err(error) => {
                    if self.said.insert(holder.id) {
                        publisher.notice(
                            notice::BLOCKER_NOT_KILLED,
                            true,
                            format!(
                                "connection {} blocks the cut-over and could not be killed ({}): grant CONNECTION_ADMIN to the migration's account, or end it yourself; the cut-over waits",
                                holder.id, error.message
                            ),
                        );
                    }
                }
            }
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(id: u64, transaction: Option<&str>) -> Holder {
        Holder {
            id,
            user: "app".into(),
            thread: "thread/sql/one_connection".into(),
            command: "Sleep".into(),
            on_table: true,
            firm: true,
            transaction: transaction.map(str::to_owned),
            held: Duration::from_secs(12),
        }
    }

    #[test]
    fn replication_the_server_and_backups_are_never_killed() {
        let app = holder(7, Some("t"));
        assert_eq!(app.protected(), None);
        assert_eq!(Holder { command: "Query".into(), transaction: None, ..app.clone() }.protected(), None);
        assert_eq!(Holder { thread: "thread/thread_pool/tp_one_connection".into(), ..app.clone() }.protected(), None);
        for protected in [
            Holder { thread: "thread/sql/replica_sql".into(), ..app.clone() },
            Holder { thread: "thread/sql/replica_worker".into(), ..app.clone() },
            Holder { thread: "thread/sql/slave_worker".into(), ..app.clone() },
            Holder { thread: "thread/group_rpl/THD_applier_module_receiver".into(), ..app.clone() },
            Holder { thread: "thread/sql/event_worker".into(), ..app.clone() },
            Holder { command: "Binlog Dump GTID".into(), ..app.clone() },
            Holder { command: "Binlog Dump".into(), ..app.clone() },
            Holder { command: "Connect".into(), ..app.clone() },
            Holder { command: "Daemon".into(), ..app.clone() },
            Holder { user: "system user".into(), ..app.clone() },
            Holder { user: "event_scheduler".into(), ..app.clone() },
            Holder { user: String::new(), ..app.clone() },
            Holder { on_table: false, ..app.clone() },
        ] {
            assert!(protected.protected().is_some(), "{protected:?}");
        }
    }

    #[test]
    fn only_who_has_been_in_the_way_for_so_long_is_due() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let after = |seconds| Some(Duration::from_secs(seconds));
        let (old, young) = (holder(1, Some("a")), holder(2, None));
        let mut blockers = Blockers::default();
        blockers.note(std::slice::from_ref(&old), at(0));
        blockers.note(&[old.clone(), young.clone()], at(8));
        assert!(!blockers.due(&old, at(9), after(10)) && blockers.due(&old, at(10), after(10)));
        assert!(!blockers.due(&young, at(10), after(10)) && blockers.due(&young, at(18), after(10)));
        assert!(!blockers.due(&old, at(10_000), None), "without the setting nobody is killed");
        // The same connection with another transaction is another blocker.
        let next = holder(1, Some("b"));
        blockers.note(std::slice::from_ref(&next), at(10));
        assert!(!blockers.due(&next, at(12), after(10)) && !blockers.due(&old, at(12), after(10)));
        // While the gate is closed no time passes.
        blockers.forget();
        assert!(!blockers.due(&next, at(1000), after(10)));
        // Who was away begins again.
        blockers.note(&[], at(13));
        blockers.note(std::slice::from_ref(&next), at(14));
        assert!(!blockers.due(&next, at(21), after(10)));
    }

    #[test]
    fn a_blocker_is_described_without_what_it_says() {
        let words = |holder: Holder| Blockers::default().words(&[holder]).expect("words");
        assert_eq!(words(holder(7, Some("t"))), "connection 7 (app): a transaction open for 12 s");
        assert_eq!(words(holder(7, None)), "connection 7 (app): a lock on the table, idle for 12 s");
        assert_eq!(words(Holder { command: "Query".into(), ..holder(7, None) }), "connection 7 (app): a statement running for 12 s");
        assert_eq!(words(Holder { on_table: false, ..holder(7, None) }), "connection 7 (app): a server-wide lock for 12 s");
        let mut blockers = Blockers::default();
        blockers.killed.insert(7);
        assert_eq!(
            blockers.words(&[holder(7, Some("t")), holder(8, None)]).as_deref(),
            Some("connection 7 (app): a transaction open for 12 s, killed, still rolling back; and 1 more")
        );
        assert_eq!(blockers.words(&[]), None);
    }
}
