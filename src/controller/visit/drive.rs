//! Step 4: what was decided is done: engines are started and steered, tables dropped.
use super::apply;
use super::context::{Error, Visit};
use super::events::Note;
use super::plan::{self, Afterlife, Aftermath, Directive};
use crate::api::duration::Retention;
use crate::controller::fleet::entry::{Attendance, Engine, Entry};
use crate::controller::fleet::queue::{Admission, Holding};
use crate::controller::fleet::state::{End, State, Success, WayBack};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::Phase;
use crate::engine::contract::spec::{Controls, MigrationSpec};
use crate::engine::{self, EngineError};
use std::time::Duration;

/// Dropping a big table takes seconds; more than this is a server that does not answer.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(60);

/// Does what was decided.
///
/// # Errors
/// The API server did not take what must be written first.
pub async fn drive(
    visit: &Visit<'_>,
    entry: &mut Entry,
    directive: &Directive,
    spec: Option<MigrationSpec>,
    controls: Controls,
) -> Result<(), Error> {
    match directive {
        Directive::Rest | Directive::Restart | Directive::Linger => {}
        Directive::Steer => steer(visit, entry, controls),
        Directive::Start => {
            if let Some(spec) = spec {
                start(visit, entry, spec, controls).await?;
            }
        }
        Directive::Wait(why) => {
            entry.well();
            entry.state = State::Queued(why.clone());
        }
        Directive::Park => {
            entry.well();
            entry.state = State::Paused;
            claim(visit, entry);
        }
        Directive::Retry(reason, message) => {
            // Visits come for many reasons; the delay grows only with attempts that were due.
            if entry.wait().is_none() {
                entry.trouble(*reason, message.clone(), visit.now);
            }
        }
        Directive::Refuse(invalid) => {
            finish(visit, entry, End::Refused { reason: invalid.reason.to_string(), message: invalid.message.clone() });
        }
        Directive::Cancel(message) => finish(visit, entry, End::Cancelled { message: (*message).to_owned() }),
        Directive::CleanUpAndCancel => {
            if let Some(spec) = spec {
                match clean_up(&spec, false).await {
                    Ok(()) => {
                        entry.tables = Default::default();
                        finish(visit, entry, End::Cancelled { message: "cancelled before the swap; its tables were dropped".to_owned() });
                    }
                    Err(error) if !error.is_transient() => {
                        let message = format!("cancelled before the swap; could not drop everything: {error}");
                        finish(visit, entry, End::Cancelled { message });
                    }
                    Err(error) => entry.trouble(error.reason, format!("cannot clean up: {error}"), visit.now),
                }
            }
        }
    }
    if matches!(entry.state, State::Ended(_)) {
        claim(visit, entry);
        visit.ctx.metrics.migration_gone(&visit.identity.namespace, &visit.identity.name);
    }
    Ok(())
}

fn finish(visit: &Visit<'_>, entry: &mut Entry, end: End) {
    let end = match end {
        // The change is made; it cannot be taken back any more.
        End::Cancelled { message } | End::Refused { message, .. } if entry.way_back.is_open() => {
            entry.way_back = WayBack::Over { reason: "Cancelled".to_owned(), message };
            End::Succeeded(Success::Changed)
        }
        end => end,
    };
    entry.end(end, visit.now);
}

/// That an engine is about to start is written down first: after a crash, tables may be there.
async fn start(visit: &Visit<'_>, entry: &mut Entry, spec: MigrationSpec, controls: Controls) -> Result<(), Error> {
    entry.begun = true;
    entry.started_at.get_or_insert(visit.now);
    let before = std::mem::replace(&mut entry.state, State::Working);
    if let Err(error) = visit.write(entry, None, true).await {
        entry.state = before;
        return Err(error);
    }
    if visit.ctx.registry.is_closing() {
        return Ok(());
    }
    tracing::info!(server = ?spec.server, database = spec.database, table = spec.table, "starting an engine");
    let attendance = Attendance {
        namespace: visit.identity.namespace.clone(),
        name: visit.identity.name.clone(),
        wakers: visit.ctx.wakers.clone(),
        metrics: visit.ctx.metrics.clone(),
    };
    entry.snapshot = None;
    entry.engine = Some(Engine::start(spec, controls, attendance, visit.ctx.registry.term(), visit.now));
    Ok(())
}

/// An engine that should work needs a slot; one that is paused gives it back, but not before it stands still.
fn steer(visit: &Visit<'_>, entry: &mut Entry, mut controls: Controls) {
    let (registry, uid) = (&visit.ctx.registry, visit.identity.uid.as_str());
    let stands_still = entry.snapshot.as_ref().is_some_and(|snapshot| snapshot.phase == Phase::Paused);
    entry.waits_for_slot = None;
    match entry.ticket.clone() {
        // It copies nothing: what it does beside the table's own work needs no slot, and may go on for days.
        Some(ticket) if entry.way_back.is_open() => registry.hold_table(uid, ticket, Holding::Revertible),
        Some(ticket) if controls.paused && stands_still && !controls.cancel => registry.hold_table(uid, ticket, Holding::Paused),
        Some(ticket) if !controls.paused && !controls.cancel => {
            match registry.enter(uid, ticket, true) {
                Admission::Granted => {}
                Admission::Waits(why) => {
                    controls.paused = true;
                    entry.waits_for_slot = Some(why);
                }
                // There is no engine before the queue has settled.
                Admission::NotYet => controls.paused = true,
            }
        }
        _ => {}
    }
    if let Some(engine) = &mut entry.engine {
        entry.state = State::Working;
        engine.control(controls);
    }
}

/// What a migration without an engine still holds in the queue.
pub fn claim(visit: &Visit<'_>, entry: &Entry) {
    let holding = match &entry.state {
        State::Paused if entry.begun => Some(Holding::Paused),
        State::Ended(End::Succeeded(_)) if entry.tables.is_empty() || entry.gave_up_dropping => None,
        // The new table of a test has the name that the next one needs.
        State::Ended(End::Succeeded(Success::Tested)) => Some(Holding::TestTable),
        // An old table has a name of its own, and stays beside later migrations; what goes now goes first.
        State::Ended(End::Succeeded(_)) => {
            let stays = match visit.object.spec.old_table.retention {
                Retention::Keep => true,
                Retention::For(retention) => !retention.0.is_zero(),
            };
            (!stays || entry.tables.old.is_empty()).then_some(Holding::CleanUp)
        }
        State::Ended(End::Failed { .. } | End::Unknown { .. }) if !entry.tables.is_empty() => Some(Holding::Failed),
        _ => None,
    };
    match (holding, &entry.ticket) {
        (Some(holding), Some(ticket)) => visit.ctx.registry.hold_table(&visit.identity.uid, ticket.clone(), holding),
        _ => visit.ctx.registry.leave(&visit.identity.uid),
    }
}

/// Drops what a migration made, within [`CLEAN_UP_LIMIT`].
///
/// # Errors
/// The engine's, or that it took too long.
pub async fn clean_up(spec: &MigrationSpec, old_too: bool) -> Result<(), EngineError> {
    match tokio::time::timeout(CLEAN_UP_LIMIT, engine::clean_up(spec, old_too)).await {
        Ok(result) => result,
        Err(_) => {
            Err(EngineError::transient(Reason::ConnectionFailed, &format!("the server did not drop the tables within {CLEAN_UP_LIMIT:?}")))
        }
    }
}

/// What comes after the end: the tables go when their time has come, then the object. Returns when to look again.
///
/// # Errors
/// The API server did not answer as it should.
pub async fn aftermath(visit: &Visit<'_>, entry: &mut Entry) -> Result<Option<Duration>, Error> {
    let State::Ended(end) = &entry.state else { return Ok(None) };
    let spec = &visit.object.spec;
    // The new table of a test stays and goes as an old table does.
    let test = *end == End::Succeeded(Success::Tested);
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let after = Afterlife {
        end,
        completed_at: entry.completed_at.unwrap_or(visit.now).as_second(),
        state_left: !entry.tables.state.is_empty() || !test && !entry.tables.ghost.is_empty(),
        old_left: !entry.tables.old.is_empty() || test && !entry.tables.ghost.is_empty(),
        retention: match spec.old_table.retention {
            Retention::Keep => None,
            Retention::For(retention) => Some(seconds(retention.0)),
        },
        time_to_live: spec.ttl_after_finished.0.map(|ttl| seconds(ttl.0)),
        gave_up: entry.gave_up_dropping,
    };
    match plan::aftermath(after, visit.now.as_second()) {
        Aftermath::Nothing => Ok(None),
        // No timer is set for longer than a day: clocks move.
        Aftermath::LookAgainAt(at) => {
            let left = u64::try_from(at.saturating_sub(visit.now.as_second())).unwrap_or(0);
            Ok(Some(Duration::from_secs(left.clamp(1, 86_400))))
        }
        Aftermath::DeleteObject => {
            tracing::info!("the object's time to live has expired");
            apply::delete(&visit.ctx.client, &visit.object.metadata).await?;
            Ok(None)
        }
        Aftermath::Drop { old_too } => match entry.wait() {
            Some(wait) => Ok(Some(wait)),
            None => drop_tables(visit, entry, old_too).await,
        },
    }
}

async fn drop_tables(visit: &Visit<'_>, entry: &mut Entry, old_too: bool) -> Result<Option<Duration>, Error> {
    let old = entry.tables.old.clone();
    let ghost = entry.tables.ghost.clone();
    let result = match visit.resolve(entry).await? {
        Ok(spec) => clean_up(&spec, old_too).await,
        Err(plan::Target::Trouble(reason, message)) => Err(EngineError::transient(reason, &message)),
        Err(plan::Target::Invalid(invalid)) => Err(EngineError::terminal(invalid.reason, &invalid.message)),
        Err(_) => return Ok(Some(CLEAN_UP_LIMIT)),
    };
    let note = match result {
        Ok(()) => {
            entry.well();
            entry.tables = Default::default();
            if !old_too {
                entry.tables.old = old;
                entry.tables.ghost = ghost;
            } else if !ghost.is_empty() {
                let note =
                    Note::normal("TestTableDropped", format!("the new table {ghost} of the test was dropped at the end of its retention"));
                visit.ctx.publisher.publish(&visit.reference(), note).await;
            } else if !old.is_empty() {
                let note = Note::normal("OldTableDropped", format!("the old table {old} was dropped at the end of its retention"));
                visit.ctx.publisher.publish(&visit.reference(), note).await;
            }
            claim(visit, entry);
            // The object's own time to live may be next.
            return Ok(Some(Duration::from_secs(1)));
        }
        Err(error) if !error.is_transient() => {
            entry.gave_up_dropping = true;
            claim(visit, entry);
            Note::warning("CleanUpAbandoned", format!("the tables of this migration are kept: {error}"))
        }
        Err(error) => {
            let delay = entry.attempts.failed();
            entry.not_before = Some(std::time::Instant::now() + delay);
            Note::warning("CleanUpDelayed", format!("cannot drop the tables of this migration yet: {error}"))
        }
    };
    tracing::warn!(reason = note.reason, "{}", note.note);
    visit.ctx.publisher.publish(&visit.reference(), note).await;
    // The time of the next attempt may have come while the Event was sent.
    Ok((!entry.gave_up_dropping).then(|| entry.wait().unwrap_or(Duration::from_secs(1))))
}
