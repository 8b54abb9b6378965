//! The throttler: reads what should hold the migration back, each signal on its own rhythm, and decides.
//!
//! Who says "not now": a person, replicas that lag, load, a query, an HTTP address, a long history list, a disk that fills
//! ([`decide::ORDER`]). Most hold copying and the cut-over, while changes go on being applied (they would only pile up); a critical load
//! stops everything. The decision is one pure function ([`decide::decide`]); the pollers ([`primary`], [`replicas`], [`http`]) only bring readings.
//!
//! Promises: a user's word is obeyed at once, a reading as soon as it is there; no reading takes more than a tenth of its signal's time,
//! none blocks another one, and none lasts longer than three seconds. What cannot be read holds after [`decide::GRACE`].
//! Nothing here is spawned but the connections of the HTTP client: the pollers live in the one future that [`start`] returns, which the migrator
//! owns and joins.

pub mod decide;
pub mod filters;
mod http;
mod primary;
mod replicas;
mod signals;

#[cfg(test)]
mod decide_tests;

use crate::engine::contract::error::EngineError;
use crate::engine::contract::progress::{Publisher, Tally};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{Controls, ServerAddress};
use crate::engine::state::store::StateTable;
use crate::mysql::session::{KEEP_ALIVE_EVERY, SHORT};
use crate::mysql::{MySqlError, Session};
use decide::{Decision, Readings, decide};
use signals::Signals;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Decisions also change when time passes (a dwell ends, a signal grows stale).
const TICK: Duration = Duration::from_millis(100);
/// While nobody needs one.
const TICK_RESTING: Duration = Duration::from_secs(1);

/// The decisions, and the future that makes them until `cancel`. Only the server with `server_uuid` counts as the primary.
/// `resting`: nobody needs a decision now, so nothing is read but the lag of replicas; afterwards everything is read first.
///
/// The future ends with [`Reason::CriticalLoad`] when the load is critical and the controls want the migration to fail then, and with
/// [`Reason::ReplicaFiltered`] when a replica does not get the migration's tables.
pub fn start(
    server: &ServerAddress,
    server_uuid: &str,
    state: StateTable,
    ghost: String,
    controls: watch::Receiver<Controls>,
    resting: watch::Receiver<bool>,
    (publisher, tally): (Publisher, Tally),
    cancel: CancellationToken,
) -> (watch::Receiver<Decision>, impl Future<Output = Result<(), EngineError>> + Send + 'static) {
    let readings = Readings::new(Instant::now());
    let first = decide(&Decision::first(), &readings, &controls.borrow(), Instant::now());
    let (decisions, decided) = watch::channel(first);
    let (readings, latest) = watch::channel(readings);
    let signals =
        Signals::new(server.clone(), server_uuid.to_owned(), state, ghost, (controls.clone(), resting.clone()), readings, publisher);
    let work = async move {
        let beat = replicas::HeartbeatClock::new();
        let pollers = async {
            tokio::join!(
                primary::watch_load(&signals),
                primary::watch_history(&signals),
                primary::watch_disk(&signals),
                primary::watch_query(&signals),
                http::watch(&signals),
                async {
                    // What is not logged makes no replica late but this one.
                    if signals.server.unlogged {
                        replicas::watch_itself(&signals).await;
                    } else {
                        tokio::join!(replicas::write_heartbeat(&signals, &beat), replicas::watch(&signals, &beat));
                    }
                },
            )
        };
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            _ = pollers => Err(EngineError::internal("the pollers of the throttler ended")),
            ended = keep_deciding(&decisions, latest, controls, resting, &tally) => ended,
        }
    };
    (decided, work)
}

/// Waits while something holds the copy, on behalf of long reads beside it, and keeps their connection alive meanwhile.
///
/// # Errors
/// The connection is lost.
pub(super) async fn while_held(decided: &watch::Receiver<Decision>, session: &mut Session) -> Result<(), MySqlError> {
    let mut decided = decided.clone();
    while !decided.borrow_and_update().may_copy() {
        // Cancel-safe: a watch receiver loses nothing.
        tokio::select! {
            changed = decided.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(KEEP_ALIVE_EVERY) => session.run("keep the connection alive", SHORT, "DO 1").await?,
        }
    }
    Ok(())
}

/// Decides whenever something is read, said, or grows old.
async fn keep_deciding(
    decisions: &watch::Sender<Decision>,
    mut latest: watch::Receiver<Readings>,
    mut controls: watch::Receiver<Controls>,
    resting: watch::Receiver<bool>,
    tally: &Tally,
) -> Result<(), EngineError> {
    loop {
        let critical = decisions.borrow().critical.clone();
        if let Some(words) = critical {
            return Err(EngineError::terminal(
                Reason::CriticalLoad,
                &format!(
                    "the load on the server became critical: {words}. The original table is untouched; the ghost and state tables are kept, and a retry resumes from there"
                ),
            ));
        }
        let filtered = latest.borrow().filtered.clone();
        if let Some((replica, table)) = filtered {
            return Err(filters::arrives_not(&replica, &table));
        }
        // Cancel-safe: watches lose nothing.
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return Ok(()) },
            changed = controls.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(if *resting.borrow() { TICK_RESTING } else { TICK }) => {}
        }
        let lag = latest.borrow().replica_lag();
        if tally.progress().replica_lag != lag {
            tally.count(|counts| counts.progress.replica_lag = lag);
        }
        decisions.send_if_modified(|present| {
            let next = decide(present, &latest.borrow_and_update(), &controls.borrow_and_update(), Instant::now());
            let same = next.says_as(present);
            *present = next;
            !same
        });
    }
}
