//! Runs a change that the server makes itself, under the same gate and the same rules for blockers as a cut-over.
//!
//! Promises: clients never queue behind it for longer than `lockTimeout`; a lost connection is settled by the definition (DDL is atomic
//! since MySQL 8.0); what the server refuses on the real table is never done another way behind the user's back, except that Auto goes on
//! to the next one.

use super::blockers::{self, Blockers, Place, Way};
use super::{Clock, Gate, gate};
use crate::engine::contract::error::{EngineError, reason_of};
use crate::engine::contract::notice;
use crate::engine::contract::progress::Publisher;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::retry::back_off;
use crate::engine::contract::snapshot::{ChosenAlgorithm, Phase};
use crate::engine::contract::spec::{Algorithm, Controls, MigrationSpec};
use crate::engine::outside::hooks;
use crate::engine::state::fence::Leftovers;
use crate::engine::table::chooser::{Native, is_algorithm_refusal};
use crate::engine::table::definition::normalise;
use crate::engine::table::inspector;
use crate::mysql::session::{LONG, SHORT};
use crate::mysql::{MySqlError, Purpose, ServerValues, Session};
use crate::sql::quote;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How it ended.
pub enum Ended {
    /// The table has its new definition.
    Done,
    /// Stop, pause or cancel.
    Interrupted,
    /// The server refuses on the real table what it took on the clone: Auto goes another way.
    AnotherWay(String),
}

/// What may change while it runs.
pub struct Conditions<'a> {
    /// The levels.
    pub controls: &'a mut watch::Receiver<Controls>,
    /// A graceful stop.
    pub stop: &'a CancellationToken,
    /// What the windows are looked at by.
    pub clock: &'a Clock,
}

/// Waits for the gate and makes the change.
///
/// # Errors
/// The server's refusal; somebody else's DDL.
pub async fn run(
    spec: &MigrationSpec,
    ready: &NativeReady,
    control: &mut Session,
    guard: &mut Session,
    publisher: &Publisher,
    conditions: Conditions<'_>,
) -> Result<Ended, EngineError> {
    let Conditions { controls, stop, clock } = conditions;
    publisher.update(|s| {
        s.validated = true;
        s.retrying = None;
        s.algorithm = Some(ChosenAlgorithm { chosen: ready.native.algorithm, reason: ready.native.reason.clone() });
    });
    let mut failures = 0;
    let mut blockers = Blockers::default();
    let tables = [spec.table.as_str()];
    let place = Place { server: &spec.server, database: &spec.database, tables: &tables };
    loop {
        let levels = controls.borrow_and_update().clone();
        if stop.is_cancelled() || levels.paused || levels.cancel {
            return Ok(Ended::Interrupted);
        }
        let mut pause = Duration::from_secs(1);
        let gate = gate(&levels, clock());
        let vetoed = gate == Gate::Open && publisher.cut_over().vetoed_by.is_some();
        if !vetoed {
            publisher.waits(gate.waits());
        }
        if gate == Gate::Open {
            if !vetoed {
                publisher.phase(Phase::CuttingOver);
            }
            let token = &levels.force_cut_over;
            let force = token.is_some() && *token != publisher.cut_over().handled_force;
            let way = blockers.clear_the_way(control, place, levels.lock_timeout, levels.kill_blockers_after, force, publisher).await?;
            let veto = if way == Way::Free { consent(&levels, spec, guard, publisher, stop).await? } else { None };
            if stop.is_cancelled() {
                return Ok(Ended::Interrupted);
            }
            if let Way::Blocked { look_again } = way {
                pause = look_again;
            } else if let Some(why) = veto {
                if publisher.cut_over().vetoed_by.is_none() {
                    publisher.notice(notice::CUT_OVER_VETOED, true, format!("a hook vetoed the change: {why}; it will be asked again"));
                }
                publisher.vetoed(Some(why));
                pause = hooks::ASK_AGAIN;
            } else {
                publisher.vetoed(None);
                publisher.waits(None);
                publisher.phase(Phase::CuttingOver);
                let definition = inspector::show_create(control, &spec.database, &spec.table).await?;
                if normalise(&definition)? != ready.leftovers.record.original_definition {
                    return Err(EngineError::terminal(
                        Reason::DefinitionChanged,
                        &format!(
                            "someone else changed the definition of {} before this change was made, so it was not made",
                            quote::qualified(&spec.database, &spec.table)
                        ),
                    ));
                }
                publisher.update(|s| {
                    s.cut_over.attempts += 1;
                    s.cut_over.last_attempt = Some(SystemTime::now());
                    if force {
                        s.cut_over.handled_force.clone_from(token);
                    }
                });
                let began = Instant::now();
                let values = &ready.values;
                let change = Change { spec, native: &ready.native, clauses: &ready.clauses, values, budget: levels.lock_timeout };
                let force = force.then_some((place, &mut blockers, publisher));
                match attempt(change, guard, control, force).await {
                    Ok(()) => {
                        publisher.update(|s| s.cut_over.locked = (!ready.native.works).then(|| began.elapsed()));
                        let name = quote::qualified(&spec.database, &spec.table);
                        publisher.notice(notice::SWAPPED, false, format!("{name} has its new definition"));
                        return Ok(Ended::Done);
                    }
                    Err(error) if error.is_connection() => return Err(error.into()),
                    Err(error) if is_algorithm_refusal(&error) && spec.algorithm == Algorithm::Auto => {
                        return Ok(Ended::AnotherWay(error.message));
                    }
                    Err(error) if error.is_contention() || error.code == crate::mysql::codes::QUERY_INTERRUPTED => {
                        failures += 1;
                        pause = back_off(failures);
                        publisher.update(|s| s.cut_over.last_failure = Some(error.message.clone()));
                        publisher.notice(
                            notice::CUT_OVER_ATTEMPT_FAILED,
                            true,
                            format!("could not lock the table in time ({}); nothing was changed", error.message),
                        );
                    }
                    // The server shuts down, or is read only for a moment: that is no answer to the change.
                    Err(error) if error.is_transient() => return Err(error.into()),
                    Err(error) => {
                        let reason = if is_algorithm_refusal(&error) { Reason::AlgorithmNotSupported } else { reason_of(&error) };
                        let reason = if reason == Reason::ServerError { Reason::AlterRejected } else { reason };
                        return Err(EngineError::of_server(
                            &error,
                            reason,
                            &format!(
                                "the server refused the change to {}: {}. The table is unchanged",
                                quote::qualified(&spec.database, &spec.table),
                                error.message
                            ),
                        ));
                    }
                }
            }
        } else {
            blockers.forget();
            publisher.phase(Phase::AwaitingCutOver);
        }
        // The lock that keeps a second engine out lives on this connection.
        guard.run("keep the migration's lock", SHORT, "DO 1").await?;
        tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Interrupted),
            changed = controls.changed() => if changed.is_err() { return Ok(Ended::Interrupted) },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What a hook has against the change, if any has; nothing when the engine is being stopped. The lock that keeps a second engine out lives on `guard`.
async fn consent(
    levels: &Controls,
    spec: &MigrationSpec,
    guard: &mut Session,
    publisher: &Publisher,
    stop: &CancellationToken,
) -> Result<Option<String>, EngineError> {
    let snapshot = publisher.snapshot();
    let asked = hooks::ask(&levels.hooks, spec, &snapshot);
    tokio::pin!(asked);
    loop {
        tokio::select! {
            said = &mut asked => return Ok(said.err()),
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(Duration::from_secs(2)) => guard.run("keep the migration's lock", SHORT, "DO 1").await?,
        }
    }
}

/// What is to be done.
struct Change<'a> {
    spec: &'a MigrationSpec,
    native: &'a Native,
    clauses: &'a str,
    values: &'a ServerValues,
    budget: Duration,
}

/// Makes the change on the session that holds the migration's named lock: as long as the statement may be at work, or on its way, no other
/// engine can have the lock, look at a definition that is about to change, and make the change a second time.
async fn attempt(
    change: Change<'_>,
    guard: &mut Session,
    control: &mut Session,
    force: Option<(Place<'_>, &mut Blockers, &Publisher)>,
) -> Result<(), MySqlError> {
    guard.wear(Purpose::Clauses(change.values)).await?;
    let result = dressed(change, guard, control, force).await;
    if result.as_ref().err().is_none_or(|error| !error.is_connection()) {
        guard.wear(Purpose::Own).await?;
    }
    result
}

async fn dressed(
    change: Change<'_>,
    guard: &mut Session,
    control: &mut Session,
    force: Option<(Place<'_>, &mut Blockers, &Publisher)>,
) -> Result<(), MySqlError> {
    let Change { spec, native, clauses, budget, .. } = change;
    let id = guard.id();
    // The server bounds each wait for the metadata lock: at the start, and at the end of work in place.
    guard.run("prepare the change", SHORT, &format!("SET SESSION lock_wait_timeout={}", budget.as_secs().max(1))).await?;
    let statement = format!("ALTER TABLE {} {clauses}, {}", quote::qualified(&spec.database, &spec.table), native.suffix);
    let began = Instant::now();
    let change = guard.run("change the table", LONG, &statement);
    tokio::pin!(change);
    // Who holds the table after half of the budget has held it since before the request: later ones queue behind it.
    if let Some((place, blockers, publisher)) = force {
        tokio::select! {
            done = &mut change => return done,
            () = tokio::time::sleep(budget / 2) => {
                if waits_for_lock(control, id).await? {
                    let killed = async {
                        let holders = blockers::find(control, place, Duration::ZERO).await?;
                        blockers.kill(control, &holders, publisher).await
                    };
                    if let Err(error) = killed.await {
                        tracing::warn!("could not kill the sessions that block the change: {error}");
                    }
                }
            }
        }
    }
    if native.works {
        // Its duration is the work's, and clients do not wait for it.
        return change.await;
    }
    tokio::select! {
        done = &mut change => done,
        () = tokio::time::sleep_until((began + budget).into()) => {
            control.run("withdraw the lock request", SHORT, &format!("KILL QUERY {id}")).await?;
            change.await
        }
    }
}

/// Whether a session waits for a metadata lock. Work in place holds one and must not make room for itself.
async fn waits_for_lock(control: &mut Session, id: u32) -> Result<bool, MySqlError> {
    let sql = format!(
        "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_ID = {id} AND PROCESSLIST_STATE LIKE 'Waiting for%lock%'"
    );
    let waits: Option<u64> = control.first("check what the change is waiting for", SHORT, &sql).await?;
    Ok(waits.is_some_and(|n| n > 0))
}

/// A native change ready to run.
pub struct NativeReady {
    /// How.
    pub native: Native,
    /// The state table with its record and our epoch.
    pub leftovers: Leftovers,
    /// The clauses, as the user wrote them.
    pub clauses: String,
    /// What they are run in.
    pub values: ServerValues,
}
