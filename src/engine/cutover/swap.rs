//! One attempt at the swap, `method: LockAndRename`, and the recovery of its outcome. Promises and what they rest on: see [`super`].

use super::gate::{Clock, Gate, gate_of};
use super::relatives::{self, Swapped};
use super::watchdog::{self, Force, Second};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{Controls, Mode};
use crate::engine::rows::applier::Applier;
use crate::engine::rows::helper_index;
use crate::engine::rows::inbox::Inbox;
use crate::engine::rows::key_nulls;
use crate::engine::rows::migration::Migration;
use crate::engine::rows::orphans;
use crate::engine::rows::transaction::{GhostTransaction, Unwritten, undo_under_lock};
use crate::engine::state::record::{Record, SafePosition};
use crate::engine::state::store::fenced;
use crate::engine::table::definition::normalise;
use crate::engine::table::{inspector, sight, triggers};
use crate::mysql::codes::QUERY_INTERRUPTED;
use crate::mysql::session::{LONG, SHORT};
use crate::mysql::{MySqlError, Purpose, Session};
use crate::sql::foreign_key::{Relatives, TableName};
use crate::sql::key::Key;
use crate::sql::{create, quote};
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The original has its new definition; clients waited this long.
    Swapped(Duration),
    /// It was given up; everything is as before.
    GivenUp {
        /// Why, with the reason and the server's error.
        why: EngineError,
        /// How long clients waited.
        locked: Duration,
    },
    /// The connection died at the rename: [`crate::engine::state::outcome`] tells.
    Ambiguous,
}

/// Why an attempt stops half-way.
#[derive(Debug)]
enum Stop {
    /// The next attempt may succeed.
    GiveUp(EngineError),
    /// None will.
    Over(EngineError),
}

impl Stop {
    fn give_up(why: &str) -> Self {
        Self::GiveUp(EngineError::transient(Reason::StatementInterrupted, why))
    }
}

impl From<MySqlError> for Stop {
    fn from(error: MySqlError) -> Self {
        // In the server's own words: what to do about an account or a disk is told where the migration ends by it.
        let message = error.to_string();
        EngineError { message, ..error.into() }.into()
    }
}

impl From<EngineError> for Stop {
    /// A failed attempt never fails the migration. But what the account may not do it may not do the next time either: each attempt would
    /// make clients wait for nothing.
    fn from(error: EngineError) -> Self {
        match error.reason {
            Reason::MissingPrivilege if !error.is_transient() => Self::Over(came_meanwhile(error)),
            _ => Self::GiveUp(error),
        }
    }
}

/// How far an attempt has come: what is to be made of one that was broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The lock was asked for.
    Waiting,
    /// It was granted; nothing is changed but the ghost.
    Locked,
    /// The ghost gets the foreign keys of the new table.
    Arming,
    /// The rename was sent.
    Renaming,
    /// It was answered.
    Renamed,
}

/// Who takes part in an attempt.
pub struct Parties<'a> {
    /// The session that locks and renames: a fresh one, not to be used afterwards.
    pub lock: &'a mut Session,
    /// The watchdog's, opened before: see [`watchdog`].
    pub second: &'a mut Session,
    /// For what is done before the lock.
    pub control: &'a mut Session,
    /// Whom the watchdog may kill besides.
    pub force: Option<Force<'a>>,
}

/// One attempt. When it returns, the tables are unlocked, or the session that locked them is killed, or the server closes it by itself
/// within [`watchdog::server_bounds`].
///
/// # Errors
/// What ends the migration: the definition was changed by others, we are fenced, or a value does not fit. Before the lock: a lost connection.
pub async fn attempt(
    m: &Migration,
    record: &Record,
    applier: &mut Applier,
    inbox: &Inbox,
    parties: Parties<'_>,
    controls: &mut watch::Receiver<Controls>,
    clock: &Clock,
) -> Result<Attempt, EngineError> {
    let Parties { lock, second, control, force } = parties;
    let mut second = Second { session: second, server: &m.spec.server };
    let budget = controls.borrow().lock_timeout;
    raise_auto_increment(m, control).await?;
    lock.run("prepare the cut-over", SHORT, &watchdog::server_bounds(budget)).await?;
    let id = lock.id();
    let (step, seen) = watch::channel(Step::Waiting);
    let began = Instant::now();
    let deadline = began + budget;
    let mut taken = Vec::new();
    let worked = {
        let work = async {
            let result = locked(m, record, applier, inbox, lock, controls, clock, deadline, &mut taken, &step).await;
            if result.is_err() && *step.borrow() == Step::Arming {
                // Else changes of the parents would check the ghost's rows, which are no longer kept current by this lock. Where it fails, the
                // driver does it.
                let _ = relatives::disarm(lock, &record.relatives, &swapped(m)).await;
            }
            if result.is_err()
                && m.turned.is_some()
                && let Err(error) = undo_under_lock(lock).await
            {
                // The session is ended, and the server rolls back.
                return (result, Err(error));
            }
            // After the rename too: the lock goes by name, and clients wait for it.
            let unlocked = lock.run("unlock the tables", SHORT, "UNLOCK TABLES").await;
            (result, unlocked)
        };
        let watch = watchdog::watch_over(&mut second, id, began, budget, seen, force);
        tokio::select! {
            // A session that is broken off in the middle of a statement knows it, and takes no other.
            done = work => Some(done),
            () = watch => None,
        }
    };
    let waited = began.elapsed();
    // Then no statement of the session is still on its way.
    let answered = worked.as_ref().is_some_and(|(_, unlocked)| unlocked.is_ok());
    let (result, unlocked) = match worked {
        Some((result, unlocked)) => (result, unlocked.is_ok()),
        // It has killed the session already.
        None => (Err(Stop::give_up("lockTimeout expired, and the locking session was ended")), true),
    };
    if !unlocked {
        // A lost connection unlocks as well, once the server has noticed that it is lost.
        watchdog::kill(&mut second, id).await;
    }
    let step = *step.borrow();
    if step == Step::Renamed {
        return Ok(Attempt::Swapped(waited));
    }
    applier.give_back(taken);
    match (result, step) {
        (_, Step::Renaming) => Ok(Attempt::Ambiguous),
        // The statement that was broken off may yet give the ghost a constraint or a trigger: its end is waited for before they are taken away.
        (_, Step::Arming) if !answered => Ok(Attempt::Ambiguous),
        (Err(Stop::Over(error)), _) => Err(error),
        (Err(Stop::GiveUp(why)), _) => Ok(Attempt::GivenUp { why, locked: waited }),
        // `locked` succeeds only behind the rename.
        (Ok(()), _) => Ok(Attempt::Ambiguous),
    }
}

async fn locked(
    m: &Migration,
    record: &Record,
    applier: &mut Applier,
    inbox: &Inbox,
    lock: &mut Session,
    controls: &mut watch::Receiver<Controls>,
    clock: &Clock,
    deadline: Instant,
    taken: &mut Vec<Key>,
    step: &watch::Sender<Step>,
) -> Result<(), Stop> {
    let in_time =
        |step: &str| if Instant::now() < deadline { Ok(()) } else { Err(Stop::give_up(&format!("lockTimeout expired while {step}"))) };
    let (original, ghost) = (m.original_name(), m.ghost_name());
    let tables = swapped(m);
    let more = relatives::locks(&record.relatives.tables(&tables.table));
    let statement = format!("LOCK TABLES {original} WRITE, {ghost} WRITE, {} WRITE{more}", m.state.qualified());
    match lock.run("lock the tables", LONG, &statement).await {
        Ok(()) => {
            step.send_replace(Step::Locked);
        }
        // The watchdog took it back after half of the budget (the rest is for what is done under the lock), or the server did.
        Err(error) if error.code == QUERY_INTERRUPTED || error.is_contention() => {
            return Err(Stop::give_up("could not lock the tables in time: another session holds a metadata lock"));
        }
        Err(error) => return Err(error.into()),
    }
    let locked_at = Instant::now();
    // The approval can be taken back until the tables are locked, and a window may have closed meanwhile.
    if gate_of(m, &controls.borrow_and_update(), clock()) != Gate::Open {
        return Err(Stop::give_up("the cut-over gate closed again (approval, window or throttle)"));
    }
    let Some(mut rows) = GhostTransaction::under_lock(m, lock).await? else {
        return Err(Stop::Over(fenced()));
    };
    let definition = inspector::show_create(rows.session(), &m.spec.database, &m.spec.table).await?;
    unchanged(&definition, &record.original_definition, || definition_changed(m)).map_err(Stop::Over)?;
    // Neither can come as long as the tables are locked.
    match sight::relations(rows.session(), &m.spec.database, &m.spec.table).await {
        Ok(found) if are_these(&found, &record.relatives, &tables.table) => {}
        Ok(_) => return Err(Stop::give_up("other tables have got or lost foreign keys that refer to the table")),
        Err(error) if error.is_transient() => return Err(Stop::GiveUp(error)),
        Err(error) => return Err(Stop::Over(came_meanwhile(error))),
    }
    if let Some(column) = key_nulls::find(rows.session(), &original, &m.key).await? {
        return Err(Stop::Over(key_nulls::came(m, column)));
    }
    if triggers::of(rows.session(), &tables.table).await? != record.relatives.triggers {
        return Err(Stop::give_up("the triggers of the table are not those that the attempt was planned with"));
    }
    let (position, _) = m.facts.log_end(rows.session()).await?;
    let mut received = inbox.positions();
    let reached = async {
        // Cancel-safe: a watch loses nothing.
        while *received.borrow_and_update() < position {
            if received.changed().await.is_err() {
                return false;
            }
        }
        true
    };
    match tokio::time::timeout_at(deadline.into(), reached).await {
        Ok(true) => {}
        Ok(false) => return Err(Stop::give_up("the binary log stream ended")),
        Err(_) => return Err(Stop::give_up("the binary log stream did not reach the lock's position in time")),
    }
    if inbox.noticed() {
        // DDL or text that came last, before the lock was granted: the next cycle looks at it.
        return Err(Stop::give_up("the log has another session's statement that must be checked first"));
    }
    let reached_at = Instant::now();
    // Everything on the original is committed, visible and received: these are the last dirty keys.
    *taken = applier.take_for_cut_over();
    let gone = applier.gone();
    if !taken.is_empty() || !gone.is_empty() {
        rows.session().wear(Purpose::Rows(&m.rows)).await?;
    }
    // All deletes before all inserts: no value of a stale row is in the way.
    for batch in taken.chunks(500) {
        in_time("the last changes were applied")?;
        rows.delete("remove the last changed rows", batch).await?;
    }
    for batch in taken.chunks(500) {
        in_time("the last changes were applied")?;
        match rows.copy_keys("copy the last changed rows", batch).await {
            Ok(_) => {}
            // A duplicate here is left to the next cycle, which can prove it.
            Err(Unwritten::Refused(error))
                if error.is_duplicate() || error.is_orphan() || error.is_connection() || error.class != crate::mysql::Class::Terminal =>
            {
                return Err(error.into());
            }
            Err(Unwritten::Refused(error)) => return Err(Stop::Over(error.into())),
            Err(Unwritten::Changed(error)) => return Err(Stop::Over(error)),
        }
    }
    rows.settle().await?;
    orphans::check_under_lock(m, lock, taken, &gone).await.map_err(over_by_data)?;
    lock.wear(Purpose::Own).await?;
    if let Some(next) = auto_increment_to_set(m, lock).await? {
        lock.run("raise AUTO_INCREMENT", SHORT, &format!("ALTER TABLE {ghost} AUTO_INCREMENT={next}")).await?;
    }
    in_time("the last changes were applied")?;
    // As the last thing before the rename: an attempt that ends here makes it again.
    helper_index::drop_under_lock(lock, &ghost, &m.key).await?;
    let definition = inspector::show_create(lock, &m.spec.database, &m.names.ghost).await?;
    let recorded = create::with_foreign_keys(&record.ghost_definition, &record.relatives.carried);
    unchanged(&definition, &recorded, || ghost_changed(m)).map_err(Stop::Over)?;
    in_time("the last changes were applied")?;
    let applied_at = Instant::now();
    // A test swaps back in the same statement: everybody's constraints come back with it.
    let bound = !record.relatives.is_empty() && m.spec.mode != Mode::TestOnReplica;
    if bound {
        relatives::unchecked(lock).await?;
        step.send_replace(Step::Arming);
        relatives::arm(lock, &record.relatives, &tables).await?;
        // What follows the RENAME is not to be broken off.
        let needed = relatives::time_to_settle(applied_at.elapsed(), &record.relatives);
        if Instant::now() + needed > deadline {
            return Err(Stop::give_up("too little of lockTimeout is left to move foreign keys and triggers"));
        }
    }
    let armed_at = Instant::now();
    if record.way_back {
        // From here on the two tables are the same, and this session's statement is the next on either.
        let (position, executed) = m.facts.log_end(lock).await?;
        let safe = SafePosition { position, executed: executed.to_string(), applied: applier.total().applied };
        lock.run("store the position of the swap", SHORT, &m.state.position_under_lock(&safe)?).await?;
    }
    step.send_replace(Step::Renaming);
    let mut swap = swap_statement(&original, &ghost, &quote::qualified(&m.spec.database, &m.names.old));
    if m.spec.mode == Mode::TestOnReplica {
        // Back in the same statement, which is done as a whole or not at all.
        let old = quote::qualified(&m.spec.database, &m.names.old);
        let _ = write!(swap, ", {original} TO {ghost}, {old} TO {original}");
    }
    let renamed = lock.run("swap the tables", SHORT, &swap).await;
    tracing::debug!(
        checked_and_reached = ?(reached_at - locked_at),
        keys = taken.len(),
        applied = ?(applied_at - reached_at),
        armed = ?(armed_at - applied_at),
        renamed = ?armed_at.elapsed(),
        "under the lock"
    );
    match renamed {
        Ok(()) => {
            step.send_replace(Step::Renamed);
            if bound {
                relatives::settle(lock, &record.relatives, &tables, true).await?;
                tracing::debug!(settled = ?armed_at.elapsed(), "foreign keys moved");
            }
            Ok(())
        }
        // Whether it happened must be found out.
        Err(error) if error.is_connection() => Err(error.into()),
        // The server says that it did not.
        Err(error) => {
            step.send_replace(if bound { Step::Arming } else { Step::Locked });
            Err(error.into())
        }
    }
}

/// What the rows themselves rule out is no failure of the attempt.
fn over_by_data(error: EngineError) -> Stop {
    if error.reason == Reason::DataDoesNotFit { Stop::Over(error) } else { error.into() }
}

/// The statement that swaps the tables, of quoted names.
pub fn swap_statement(original: &str, ghost: &str, old: &str) -> String {
    format!("RENAME TABLE {original} TO {old}, {ghost} TO {original}")
}

/// The tables of the swap by their full names.
pub fn swapped(m: &Migration) -> Swapped {
    Swapped::new(&m.spec, &m.names)
}

/// Whether the foreign keys that refer to the table are those that the attempt was planned with. Its own are a part of its definition. Pure.
pub fn are_these(found: &[sight::Reference], relatives: &Relatives, table: &TableName) -> bool {
    let mut found: Vec<(&str, &str, &str)> = found
        .iter()
        .filter(|one| one.schema != table.schema || one.child != table.table)
        .map(|one| (one.schema.as_str(), one.child.as_str(), one.name.as_str()))
        .collect();
    let planned = relatives.children.iter().flat_map(|child| {
        let TableName { schema, table } = &child.table;
        child.keys.iter().map(move |key| (schema.as_str(), table.as_str(), key.name.as_str()))
    });
    let mut planned: Vec<(&str, &str, &str)> = planned.collect();
    found.sort_unstable();
    planned.sort_unstable();
    found == planned
}

/// Somebody put the original's rows, or the table itself, out of the way without a row in the log (rule 12).
pub fn replaced(m: &Migration) -> EngineError {
    EngineError::terminal(
        Reason::DefinitionChanged,
        &format!(
            "someone else renamed or dropped {} or one of its columns, or dropped, emptied or exchanged a partition of it, during the migration: the binary log does not show which rows that changed. The tables were not swapped and the original is as they left it. The ghost is no longer usable: retry to start over, or delete the migration",
            m.original_name()
        ),
    )
}

/// Holds a definition, as the server writes it, against the one that was recorded. Pure.
///
/// # Errors
/// `changed`; or that the text is not understood, which is not the same: it was, when the migration began.
pub fn unchanged(show_create: &str, recorded: &str, changed: impl FnOnce() -> EngineError) -> Result<(), EngineError> {
    match normalise(show_create) {
        Ok(now) if now == recorded => Ok(()),
        Ok(now) => {
            tracing::warn!(now, recorded, "a definition is not the one that was recorded");
            Err(changed())
        }
        Err(error) => Err(error.and(
            "; it was when the migration began: someone changed it, or the server has a different version now. The tables were not swapped and the original is untouched; delete the migration, which removes the ghost, and create it again",
        )),
    }
}

/// Somebody emptied the original: what was copied is gone, and nothing else is changed, so the copy begins again.
pub fn truncated(m: &Migration) -> EngineError {
    EngineError::transient(
        Reason::TableTruncated,
        &format!("someone else emptied {} (TRUNCATE TABLE) during the migration: the copy starts over", m.original_name()),
    )
}

/// Somebody changed the original's definition (rule 12).
pub fn definition_changed(m: &Migration) -> EngineError {
    EngineError::terminal(
        Reason::DefinitionChanged,
        &format!(
            "someone else changed the definition of {} during the migration. The tables were not swapped and the original is as they left it. The ghost is no longer usable: retry to start over, or delete the migration",
            m.original_name()
        ),
    )
}

/// What stands in the way of a swap, and did not when the migration began.
pub fn came_meanwhile(error: EngineError) -> EngineError {
    match error.reason {
        _ if error.is_transient() => error,
        Reason::ForeignKeys | Reason::Triggers => error.and(
            ". This was not so when the migration began. The tables were not swapped and the original is unchanged. The work so far is kept: drop what was added and retry to resume, or delete the migration to remove it",
        ),
        Reason::MissingPrivilege => error.and(
            ". The account could do this when the migration began. The tables were not swapped and the original is unchanged. The work so far is kept: grant the privilege and retry to resume, or delete the migration to remove it",
        ),
        _ => error,
    }
}

/// Somebody changed the ghost's definition, past the log.
fn ghost_changed(m: &Migration) -> EngineError {
    EngineError::terminal(
        Reason::GhostWritten,
        &format!(
            "someone else changed the definition of the ghost table {}. The tables were not swapped and the original is untouched: retry to start over, or delete the migration",
            m.ghost_name()
        ),
    )
}

/// The value that the ghost's AUTO_INCREMENT lacks (rule 14), if any: the original's may be ahead of its highest row.
///
/// # Errors
/// A lost connection is one, and stays one: what is terminal here would fail a migration that only has to try again.
async fn auto_increment_to_set(m: &Migration, session: &mut Session) -> Result<Option<u64>, EngineError> {
    let counts = |t: &crate::sql::table::TableDefinition| t.columns.iter().any(|c| c.auto_increment);
    // A value that the ALTER itself sets is the user's, as in a native ALTER.
    if m.alter_sets_auto_increment || !counts(&m.original.definition) || !counts(&m.ghost) {
        return Ok(None);
    }
    // Cheaper under the lock than information_schema, and exact: the handler's own counter.
    let mut next = [0, 0];
    for (table, next) in [&m.spec.table, &m.names.ghost].into_iter().zip(&mut next) {
        let text = inspector::show_create(session, &m.spec.database, table).await?;
        *next =
            create::auto_increment(&text).map_err(|e| EngineError::internal(&format!("AUTO_INCREMENT cannot be read: {e}")))?.unwrap_or(1);
    }
    let [original, ghost] = next;
    Ok((original > ghost).then_some(original))
}

/// Before the lock, so that it is seldom needed under it.
async fn raise_auto_increment(m: &Migration, session: &mut Session) -> Result<(), EngineError> {
    if let Some(next) = auto_increment_to_set(m, session).await? {
        session.run("raise AUTO_INCREMENT", SHORT, &format!("ALTER TABLE {} AUTO_INCREMENT={next}", m.ghost_name())).await?;
    }
    Ok(())
}

/// Waits until a session is gone from the server, so that what it was doing is decided.
///
/// # Errors
/// The server's, or the session is still there after the limit.
pub async fn wait_gone(control: &mut Session, id: u32, limit: Duration) -> Result<(), EngineError> {
    let end = Instant::now() + limit;
    loop {
        // Not information_schema.PROCESSLIST, which cannot show every statement and lists nobody then.
        let sessions: Vec<mysql_async::Row> = control.rows("check whether a session has ended", SHORT, "SHOW PROCESSLIST").await?;
        if !sessions.iter().any(|row| row.get::<u64, _>(0) == Some(u64::from(id))) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(EngineError::transient(
                Reason::ConnectionFailed,
                "the session that was swapping the tables is still running on the server",
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::{Class, codes};

    #[test]
    fn a_definition_that_is_not_understood_is_not_called_another_one() {
        let changed = || EngineError::terminal(Reason::DefinitionChanged, "it was changed");
        let text = "CREATE TABLE `t` (\n  `id` int NOT NULL,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB";
        let recorded = normalise(text).unwrap();
        assert_eq!(unchanged(text, &recorded, changed), Ok(()));
        assert_eq!(unchanged(&text.replace("int", "bigint"), &recorded, changed), Err(changed()));
        let error = unchanged("CREATE SOMETHING ELSE", &recorded, changed).unwrap_err();
        assert!(
            error.reason == Reason::TableNotSupported
                && error.message.starts_with("cannot parse the table's definition: it is not a table; "),
            "{error}"
        );
    }

    /// Only what no later attempt may do either ends the migration; all of it is kept.
    #[test]
    fn an_attempt_that_is_given_up_keeps_its_cause() {
        let error = |code, class| MySqlError { what: "swap the tables".into(), code, message: "no".into(), class, index: None };
        for (code, class, over, reason) in [
            (codes::TABLEACCESS_DENIED_ERROR, Class::Terminal, true, Reason::MissingPrivilege),
            (codes::NO_SUCH_TABLE, Class::Terminal, false, Reason::TableNotFound),
            (codes::LOCK_DEADLOCK, Class::Transient, false, Reason::StatementInterrupted),
            (0, Class::Transient, false, Reason::ConnectionFailed),
        ] {
            let (ended, why) = match Stop::from(error(code, class)) {
                Stop::Over(why) => (true, why),
                Stop::GiveUp(why) => (false, why),
            };
            assert_eq!((ended, why.reason, why.code(), why.class), (over, reason, code, class));
            assert!(why.message.starts_with("swap the tables: no"), "{why}");
        }
    }
}
