//! Deletion: what happens between `kubectl delete` and the object's end, held open by the finalizer.
//!
//! Before the swap it cancels the migration and drops what it made (or leaves it, `deletionPolicy: Orphan`); afterwards it only removes the
//! record: an old table is never dropped by a deletion. It is bounded: what cannot be dropped within [`BOUND`] is named in an Event and left,
//! because an object that cannot be deleted while a database is away makes people strip finalizers by hand.
use super::context::{Error, REFRESH, Visit};
use super::events::Note;
use super::plan::Target;
use super::{apply, drive};
use crate::controller::fleet::entry::Entry;
use crate::controller::fleet::state::{Consequence, End, State, Success, consequence};
use crate::engine::EngineError;
use kube::runtime::controller::Action;
use std::time::{Duration, Instant};

/// For how long it is tried before the object is let go whatever is left. Time in which no operator was there does not count.
pub const BOUND: Duration = Duration::from_secs(120);

/// What to do about a deletion. Pure.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Nothing of it is in the database, or it is to stay there.
    Release,
    /// Tell the engine to stop, and wait for its end. It keeps its tables.
    Stop,
    /// Tell the engine to cancel, and wait for its end.
    Cancel,
    /// Drop what an earlier engine left.
    CleanUp,
    /// Let go, and say what is left.
    GiveUp,
}

#[derive(Debug, Clone, Copy)]
struct CleanUpFacts<'a> {
    state: &'a State,
    engine: bool,
    begun: bool,
    cleans_up: bool,
    out_of_time: bool,
}

fn step(facts: CleanUpFacts<'_>) -> Step {
    if facts.engine {
        return match (facts.out_of_time, facts.cleans_up) {
            (true, _) => Step::GiveUp,
            (false, true) => Step::Cancel,
            (false, false) => Step::Stop,
        };
    }
    match facts.state {
        State::Ended(
            End::Succeeded(Success::Changed | Success::Reverted | Success::Proven) | End::Cancelled { .. } | End::Refused { .. },
        ) => Step::Release,
        // Whether the swap happened is not known: which table is which must not be guessed by dropping one.
        State::Ended(End::Unknown { .. }) => Step::GiveUp,
        _ if !facts.begun || !facts.cleans_up => Step::Release,
        _ if facts.out_of_time => Step::GiveUp,
        _ => Step::CleanUp,
    }
}

/// One visit to an object that is being deleted.
///
/// # Errors
/// The API server did not take what was written.
pub async fn visit(visit: &Visit<'_>, entry: &mut Entry) -> Result<Action, Error> {
    if entry.released {
        // The watch has not told yet that the object is gone.
        return Ok(Action::await_change());
    }
    let had_engine = entry.engine.is_some();
    observe(visit, entry).await;
    let since = entry.deleting_since.get_or_insert_with(Instant::now).elapsed();
    let facts = CleanUpFacts {
        state: &entry.state,
        engine: entry.engine.is_some(),
        begun: entry.begun,
        cleans_up: visit.cleans_up(),
        out_of_time: since >= BOUND,
    };
    let step = step(facts);
    tracing::info!(?step, had_engine, "the object is being deleted");
    match step {
        Step::Release => release(visit, entry, None).await,
        Step::GiveUp => {
            let left = left(entry);
            if let Some(engine) = entry.engine.take() {
                engine.stop();
                engine.join().await;
            }
            release(visit, entry, Some(left)).await
        }
        Step::Stop => {
            if let Some(engine) = &entry.engine {
                engine.stop();
            }
            Ok(Action::requeue(REFRESH))
        }
        Step::Cancel => {
            if let Some(engine) = &mut entry.engine {
                let mut controls = engine.controls.clone();
                controls.cancel = true;
                engine.control(controls);
            }
            visit.write(entry, None, false).await?;
            Ok(Action::requeue(REFRESH))
        }
        Step::CleanUp => drop_tables(visit, entry, since).await,
    }
}

/// As at any visit, but that a stop is what was wanted.
async fn observe(visit: &Visit<'_>, entry: &mut Entry) {
    let orphaned = entry.engine.as_ref().is_some_and(|engine| engine.orphans);
    entry.observe(true, visit.now).await;
    // The policy was changed after the engine had started: it has left what is to be dropped.
    if orphaned && visit.cleans_up() && matches!(entry.state, State::Ended(End::Cancelled { .. })) && !entry.tables.is_empty() {
        entry.state = State::Paused;
    }
}

async fn drop_tables(visit: &Visit<'_>, entry: &mut Entry, since: Duration) -> Result<Action, Error> {
    if let Some(wait) = entry.wait() {
        return Ok(Action::requeue(wait));
    }
    let result = match visit.resolve(entry).await? {
        // The new table of a test is nobody's but this object's.
        Ok(spec) => drive::clean_up(&spec, entry.state == State::Ended(End::Succeeded(Success::Tested))).await,
        Err(Target::Trouble(reason, message)) => Err(EngineError::transient(reason, &message)),
        Err(Target::Invalid(invalid)) => Err(EngineError::terminal(invalid.reason, &invalid.message)),
        Err(_) => return Ok(Action::requeue(REFRESH)),
    };
    match result {
        Ok(()) => release(visit, entry, None).await,
        Err(error) if !error.is_transient() => {
            let left = format!("{}: {error}", left(entry));
            release(visit, entry, Some(left)).await
        }
        Err(error) => {
            let delay = entry.attempts.failed().min(BOUND.saturating_sub(since)).max(Duration::from_secs(1));
            entry.not_before = Some(Instant::now() + delay);
            let note = format!("cannot drop the tables yet: {error}; the finalizer is removed after at most {} s", BOUND.as_secs());
            tracing::warn!("{note}");
            visit.ctx.publisher.publish(&visit.reference(), Note::warning("CleanUpDelayed", note)).await;
            Ok(Action::requeue(delay))
        }
    }
}

/// Names what stays in the database.
fn left(entry: &Entry) -> String {
    let tables = &entry.tables;
    let names: Vec<&str> =
        [&tables.ghost, &tables.state, &tables.old].into_iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let server = entry.ticket.as_ref().map_or("the server", |ticket| ticket.server.as_str());
    if names.is_empty() {
        return format!("tables of this migration (names ending in _gho, _ghc) may be left on {server}");
    }
    format!("left on {server}: {}", names.join(", "))
}

async fn release(visit: &Visit<'_>, entry: &mut Entry, left_behind: Option<String>) -> Result<Action, Error> {
    match left_behind {
        Some(left) => {
            tracing::warn!("the finalizer is removed; {left}");
            visit.ctx.publisher.publish(&visit.reference(), Note::warning("CleanUpAbandoned", left)).await;
        }
        None if !visit.cleans_up() && !entry.tables.is_empty() => {
            visit.ctx.publisher.publish(&visit.reference(), Note::normal("Orphaned", left(entry))).await;
        }
        None => {}
    }
    apply::remove_finalizer(&visit.ctx.client, &visit.object.metadata).await?;
    visit.ctx.metrics.migration_gone(&visit.identity.namespace, &visit.identity.name);
    visit.ctx.registry.leave(&visit.identity.uid);
    entry.engine = None;
    entry.released = true;
    Ok(Action::await_change())
}

/// What a shutdown has to write down: an engine that finished while it was being stopped.
pub fn is_worth_writing(outcome: &crate::engine::contract::snapshot::Outcome) -> bool {
    matches!(consequence(outcome.clone(), true), Consequence::Ends(_))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_deletion_before_the_swap_cleans_up_and_after_it_only_lets_go() {
        let text = String::new;
        let failed = || State::Ended(End::Failed { reason: text(), message: text() });
        // state, engine, begun, cleans up, out of time
        for (state, engine, begun, cleans_up, out_of_time, expected) in [
            (State::Queued(text()), false, false, true, false, Step::Release),
            (State::Working, true, true, true, false, Step::Cancel),
            (State::Working, true, true, false, false, Step::Stop),
            (State::Working, true, true, true, true, Step::GiveUp),
            (State::Paused, false, true, true, false, Step::CleanUp),
            (State::Paused, false, true, true, true, Step::GiveUp),
            (State::Paused, false, true, false, false, Step::Release),
            (State::New, false, true, true, false, Step::CleanUp),
            (failed(), false, true, true, false, Step::CleanUp),
            (failed(), false, true, false, false, Step::Release),
            (State::Ended(End::Succeeded(Success::Changed)), false, true, true, false, Step::Release),
            (State::Ended(End::Succeeded(Success::Tested)), false, true, true, false, Step::CleanUp),
            (State::Ended(End::Succeeded(Success::Tested)), false, true, false, false, Step::Release),
            (State::Ended(End::Cancelled { message: text() }), false, true, true, false, Step::Release),
            (State::Ended(End::Refused { reason: text(), message: text() }), false, true, true, false, Step::Release),
            (State::Ended(End::Unknown { message: text() }), false, true, true, false, Step::GiveUp),
        ] {
            let facts = CleanUpFacts { state: &state, engine, begun, cleans_up, out_of_time };
            assert_eq!(step(facts), expected, "{facts:?}");
        }
    }
}
