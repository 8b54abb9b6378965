//! The cut-over: `method: LockAndRename` (DESIGN 1.3), its gate, its back-off, and the recovery of its outcome.
//!
//! Promises: a failed attempt leaves the original in place, unlocked, and the engine alive and current; clients wait no longer than the
//! budget of one attempt; the swap happens only while both tables and the state table are locked by one session. Relies on: RENAME TABLE
//! under LOCK TABLES … WRITE (MySQL 8.0.13 and later), atomic DDL (8.0), and metadata locks being released only after a transaction is
//! visible, so that the position read under the lock is behind every transaction on the original.

use super::applier::Applier;
use super::checkpoint::{Record, fenced};
use super::copier::check_warnings;
use super::error::EngineError;
use super::inbox::Inbox;
use super::inspector;
use super::migration::Migration;
use super::reason::Reason;
use super::spec::{Controls, CutOverPolicy};
use crate::mysql::session::{LONG, SHORT};
use crate::mysql::{MySqlError, Session};
use crate::sql::create;
use crate::sql::key::Key;
use crate::sql::quote;
use std::time::{Duration, Instant};

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open,
    /// Policy Manual, and nobody has approved.
    NeedsApproval,
    /// A user throttles.
    Throttled,
}

/// The gate (pure): all of it must be open, and it is asked again when the tables are locked.
pub fn gate(controls: &Controls) -> Gate {
    if controls.cut_over_policy == CutOverPolicy::Manual && !controls.approved {
        Gate::NeedsApproval
    } else if controls.throttled_by_user {
        Gate::Throttled
    } else {
        Gate::Open
    }
}

/// The pause after the `failures`-th failed attempt (from 1), before jitter: doubling from 1 s to 1 min.
pub fn back_off(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The original has its new definition; clients waited this long.
    Swapped(Duration),
    /// It was given up; everything is as before.
    GivenUp {
        /// Why.
        why: String,
        /// How long clients waited.
        locked: Duration,
    },
    /// The connection died at the rename: [`outcome`] tells.
    Ambiguous,
}

/// Why an attempt stops half-way.
enum Stop {
    GiveUp(String),
    Over(EngineError),
    Ambiguous,
}

impl From<MySqlError> for Stop {
    fn from(error: MySqlError) -> Self {
        // A failed attempt never fails the migration.
        Self::GiveUp(error.to_string())
    }
}

/// One attempt. `lock` is the session that locks and renames, `control` a second one that can interrupt it.
///
/// # Errors
/// What ends the migration: the definition was changed by others, we are fenced, or a value does not fit.
pub async fn attempt(
    m: &Migration,
    record: &Record,
    applier: &mut Applier,
    inbox: &Inbox,
    lock: &mut Session,
    control: &mut Session,
    controls: &mut tokio::sync::watch::Receiver<Controls>,
) -> Result<Attempt, EngineError> {
    let budget = controls.borrow().lock_timeout;
    raise_auto_increment(m, control).await?;
    let whole_seconds = budget.as_secs().max(1);
    // The ghost's lock never waits long; the original's may.
    lock.run("prepare the cut-over", SHORT, &format!("SET SESSION lock_wait_timeout={whole_seconds}")).await?;
    let began = Instant::now();
    let deadline = began + budget;
    let mut taken = Vec::new();
    let result = locked(m, record, applier, inbox, lock, control, controls, deadline, &mut taken).await;
    if let Err(Stop::Ambiguous) = result {
        applier.give_back(taken);
        return Ok(Attempt::Ambiguous);
    }
    // After the rename too: the lock goes by name, and clients wait for it.
    let unlocked = lock.run("unlock the tables", SHORT, "UNLOCK TABLES").await;
    let waited = began.elapsed();
    match result {
        // A lost connection unlocks as well.
        Ok(()) => Ok(Attempt::Swapped(waited)),
        Err(stop) => {
            applier.give_back(taken);
            if let Stop::Over(error) = stop {
                return Err(error);
            }
            unlocked?;
            let why = match stop {
                Stop::GiveUp(why) => why,
                Stop::Over(_) | Stop::Ambiguous => String::new(),
            };
            Ok(Attempt::GivenUp { why, locked: waited })
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "one step of `attempt`, split off so that every exit passes its unlock")]
async fn locked(
    m: &Migration,
    record: &Record,
    applier: &mut Applier,
    inbox: &Inbox,
    lock: &mut Session,
    control: &mut Session,
    controls: &mut tokio::sync::watch::Receiver<Controls>,
    deadline: Instant,
    taken: &mut Vec<Key>,
) -> Result<(), Stop> {
    let in_time =
        |step: &str| if Instant::now() < deadline { Ok(()) } else { Err(Stop::GiveUp(format!("lockTimeout passed while {step}"))) };
    let (original, ghost) = (m.original_name(), m.ghost_name());
    let statement = format!("LOCK TABLES {original} WRITE, {ghost} WRITE, {} WRITE", m.state.qualified());
    let id = lock.id();
    {
        // Half of the budget at most: the rest is for what is done under the lock.
        let waiting = lock.run("lock the tables", LONG, &statement);
        tokio::pin!(waiting);
        let half = deadline.duration_since(Instant::now()) / 2;
        tokio::select! {
            done = &mut waiting => done?,
            () = tokio::time::sleep(half) => {
                // Dropping the future would leave the request in the server's queue, with every client behind it.
                control.run("take back the lock request", SHORT, &format!("KILL QUERY {id}")).await?;
                // The lock may have been granted in the same moment; then the caller's UNLOCK TABLES frees it.
                let _ = waiting.await;
                return Err(Stop::GiveUp("the tables could not be locked in time: another session holds a metadata lock".into()));
            }
        }
    }
    let locked_at = Instant::now();
    // The approval can be taken back until the tables are locked.
    if gate(&controls.borrow_and_update()) != Gate::Open {
        return Err(Stop::GiveUp("the gate was closed again".into()));
    }
    let epoch: Option<String> =
        lock.first("check the fence", SHORT, &format!("SELECT value FROM {} WHERE kind = 'owner' AND id = 0", m.state.qualified())).await?;
    if epoch != Some(m.epoch.to_string()) {
        return Err(Stop::Over(fenced()));
    }
    let definition = inspector::show_create(lock, &m.spec.database, &m.spec.table).await.map_err(|e| Stop::GiveUp(e.message))?;
    if super::prepare::normalise(&definition).ok().as_ref() != Some(&record.original_definition) {
        return Err(Stop::Over(definition_changed(m)));
    }
    let (position, _) = m.facts.log_end(lock).await?;
    let mut received = inbox.follow();
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
        Ok(false) => return Err(Stop::GiveUp("the binary log stream ended".into())),
        Err(_) => return Err(Stop::GiveUp("the binary log stream did not reach the lock's position in time".into())),
    }
    if inbox.noticed() {
        // DDL or text that came last, before the lock was granted: the next cycle looks at it.
        return Err(Stop::GiveUp("the log has a statement of someone else that must be looked at first".into()));
    }
    let reached_at = Instant::now();
    // Everything on the original is committed, visible and received: these are the last dirty keys.
    *taken = applier.take_for_cut_over();
    // All deletes before all inserts: no value of a stale row is in the way.
    for batch in taken.chunks(500) {
        in_time("the last changes were applied")?;
        lock.run("remove the last changed rows", SHORT, &m.delete_keys(batch)).await?;
    }
    for batch in taken.chunks(500) {
        in_time("the last changes were applied")?;
        let written = match lock.write("copy the last changed rows", SHORT, &m.copy_keys(batch)).await {
            Ok(written) => written,
            // A duplicate here is left to the next cycle, which can prove it.
            Err(error) if error.is_duplicate() || error.is_connection() || error.class != crate::mysql::Class::Terminal => {
                return Err(error.into());
            }
            Err(error) => return Err(Stop::Over(error.into())),
        };
        if written.warnings > 0 {
            check_warnings(lock).await.map_err(Stop::Over)?;
        }
    }
    if let Some(next) = auto_increment_to_set(m, lock).await? {
        lock.run("raise AUTO_INCREMENT", SHORT, &format!("ALTER TABLE {ghost} AUTO_INCREMENT={next}")).await?;
    }
    in_time("the last changes were applied")?;
    let applied_at = Instant::now();
    let old = quote::qualified(&m.spec.database, &m.names.old);
    let renamed = lock.run("swap the tables", SHORT, &format!("RENAME TABLE {original} TO {old}, {ghost} TO {original}")).await;
    tracing::debug!(
        checked_and_reached = ?(reached_at - locked_at),
        keys = taken.len(),
        applied = ?(applied_at - reached_at),
        renamed = ?applied_at.elapsed(),
        "under the lock"
    );
    match renamed {
        Ok(()) => Ok(()),
        Err(error) if error.is_connection() => Err(Stop::Ambiguous),
        Err(error) => Err(error.into()),
    }
}

/// Somebody changed the original's definition (rule 12).
pub fn definition_changed(m: &Migration) -> EngineError {
    EngineError::terminal(
        Reason::DefinitionChanged,
        &format!(
            "the definition of {} was changed by someone else while it was being migrated; the tables were not swapped. The original is as they left it; the ghost is of no use any more: retry to start anew, or delete the migration",
            m.original_name()
        ),
    )
}

/// The value that the ghost's AUTO_INCREMENT lacks (rule 14), if any: the original's may be ahead of its highest row.
async fn auto_increment_to_set(m: &Migration, session: &mut Session) -> Result<Option<u64>, MySqlError> {
    let counts = |t: &crate::sql::table::TableDefinition| t.columns.iter().any(|c| c.auto_increment);
    // A value that the ALTER itself sets is the user's, as in a native ALTER.
    if m.alter_sets_auto_increment || !counts(&m.original.definition) || !counts(&m.ghost) {
        return Ok(None);
    }
    // Cheaper under the lock than information_schema, and exact: the handler's own counter.
    let mut next = [0, 0];
    for (table, next) in [&m.spec.table, &m.names.ghost].into_iter().zip(&mut next) {
        let text = inspector::show_create(session, &m.spec.database, table)
            .await
            .map_err(|e| MySqlError::unexpected("read AUTO_INCREMENT", &e.message))?;
        *next = create::auto_increment(&text).map_err(|e| MySqlError::unexpected("read AUTO_INCREMENT", &e.to_string()))?.unwrap_or(1);
    }
    let [original, ghost] = next;
    Ok((original > ghost).then_some(original))
}

/// Before the lock, so that it is seldom needed under it.
async fn raise_auto_increment(m: &Migration, session: &mut Session) -> Result<(), MySqlError> {
    if let Some(next) = auto_increment_to_set(m, session).await? {
        session.run("raise AUTO_INCREMENT", SHORT, &format!("ALTER TABLE {} AUTO_INCREMENT={next}", m.ghost_name())).await?;
    }
    Ok(())
}

/// Whether the swap happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// The original's name belongs to the new table.
    Happened,
    /// It belongs to the old one.
    DidNot,
    /// It cannot be told; nobody guesses.
    Unknown,
}

/// Tells whether a swap happened, from what is there (pure). Table ids are the proof (a table keeps its id through a rename); without
/// them, atomic DDL leaves only two pictures of the three names.
pub fn judge(record: &Record, table_id: Option<u64>, ghost_exists: bool, old_exists: bool) -> Swap {
    match (table_id, record.original_id, record.ghost_id) {
        (Some(now), Some(original), Some(ghost)) if original != ghost => {
            return if now == ghost {
                Swap::Happened
            } else if now == original {
                Swap::DidNot
            } else {
                Swap::Unknown
            };
        }
        _ => {}
    }
    match (ghost_exists, old_exists) {
        (false, true) => Swap::Happened,
        (true, false) => Swap::DidNot,
        _ => Swap::Unknown,
    }
}

/// Reads what [`judge`] needs.
///
/// # Errors
/// The server's.
pub async fn outcome(
    session: &mut Session,
    database: &str,
    table: &str,
    names: &crate::sql::names::TableNames,
    record: &Record,
) -> Result<Swap, EngineError> {
    let id = inspector::table_id(session, database, table).await?;
    let ghost = inspector::exists(session, database, &names.ghost).await?;
    let old = inspector::exists(session, database, &names.old).await?;
    Ok(judge(record, id, ghost, old))
}

/// Waits until a session is gone from the server, so that what it was doing is decided.
///
/// # Errors
/// The server's, or the session is still there after the limit.
pub async fn wait_gone(control: &mut Session, id: u32, limit: Duration) -> Result<(), EngineError> {
    let end = Instant::now() + limit;
    loop {
        let there: Option<u64> = control
            .first("look for a session", SHORT, &format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id}"))
            .await?;
        if there == Some(0) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(EngineError::transient(
                Reason::ConnectionFailed,
                "the session that was swapping the tables is still at work on the server",
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::checkpoint::Stage;

    #[test]
    fn the_gate() {
        let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..Controls::default() };
        assert_eq!(gate(&Controls::default()), Gate::Open);
        assert_eq!(gate(&manual), Gate::NeedsApproval);
        assert_eq!(gate(&Controls { approved: true, ..manual.clone() }), Gate::Open);
        assert_eq!(gate(&Controls { approved: true, throttled_by_user: true, ..manual }), Gate::Throttled);
        assert_eq!(gate(&Controls { throttled_by_user: true, ..Controls::default() }), Gate::Throttled);
    }

    #[test]
    fn attempts_back_off_to_a_minute() {
        let seconds: Vec<u64> = (1..=9).map(|n| back_off(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn the_outcome_is_told_by_ids_and_never_guessed() {
        let record = |original_id, ghost_id| Record {
            version: 1,
            id: String::new(),
            display_name: String::new(),
            spec_digest: String::new(),
            stage: Stage::Swapping,
            server_uuid: String::new(),
            original_definition: String::new(),
            ghost_definition: String::new(),
            original_id,
            ghost_id,
            deferred_indexes: Vec::new(),
            native: false,
            key_index: String::new(),
            rows_estimated: 0,
            started_at: 0,
            resumed_count: 0,
        };
        let ids = record(Some(1), Some(2));
        assert_eq!(judge(&ids, Some(2), false, true), Swap::Happened);
        assert_eq!(judge(&ids, Some(1), true, false), Swap::DidNot);
        assert_eq!(judge(&ids, Some(3), false, true), Swap::Unknown, "a third table under the name");
        assert_eq!(judge(&ids, None, false, true), Swap::Happened, "atomic DDL leaves no other way to this picture");
        let none = record(None, None);
        assert_eq!(judge(&none, None, true, false), Swap::DidNot);
        assert_eq!(judge(&none, None, true, true), Swap::Unknown);
        assert_eq!(judge(&none, None, false, false), Swap::Unknown);
    }
}
