//! Runs a change that the server makes itself, under the same gate and the same rules for blockers as a cut-over.
//!
//! Promises: clients never queue behind it for longer than `lockTimeout`; a lost connection is settled by the definition (DDL is atomic
//! since MySQL 8.0); what the server refuses on the real table is never done another way behind the user's back, except that Auto goes on
//! to a copy.

use super::chooser::{Native, is_algorithm_refusal};
use super::cutover::{Gate, back_off, gate};
use super::error::{EngineError, reason_of};
use super::inspector;
use super::migrator::{blocker, jitter};
use super::prepare::{NativeReady, normalise};
use super::progress::Publisher;
use super::reason::Reason;
use super::snapshot::{ChosenAlgorithm, Phase};
use super::spec::{Algorithm, Controls, MigrationSpec};
use crate::mysql::session::{LONG, SHORT};
use crate::mysql::{MySqlError, Session};
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
    /// The server refuses on the real table what it took on the clone: Auto copies.
    CopyInstead(String),
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
    controls: &mut watch::Receiver<Controls>,
    stop: &CancellationToken,
) -> Result<Ended, EngineError> {
    publisher.update(|s| {
        s.validated = true;
        s.retrying = None;
        s.algorithm = Some(ChosenAlgorithm { chosen: ready.native.algorithm, reason: ready.native.reason.clone() });
    });
    let mut failures = 0;
    loop {
        let levels = controls.borrow_and_update().clone();
        if stop.is_cancelled() || levels.paused || levels.cancel {
            return Ok(Ended::Interrupted);
        }
        let mut pause = Duration::from_secs(1);
        if gate(&levels) == Gate::Open {
            publisher.phase(Phase::CuttingOver);
            let by = blocker(&spec.database, &spec.table, control, levels.lock_timeout).await?;
            publisher.update(|s| s.cut_over.blocked_by.clone_from(&by));
            if by.is_none() {
                let definition = inspector::show_create(control, &spec.database, &spec.table).await?;
                if normalise(&definition)? != ready.leftovers.record.original_definition {
                    return Err(EngineError::terminal(
                        Reason::DefinitionChanged,
                        &format!(
                            "the definition of {} was changed by someone else before this change was made; it was not made",
                            quote::qualified(&spec.database, &spec.table)
                        ),
                    ));
                }
                publisher.update(|s| {
                    s.cut_over.attempts += 1;
                    s.cut_over.last_attempt = Some(SystemTime::now());
                });
                let began = Instant::now();
                match attempt(guard, spec, &ready.native, &ready.clauses, control, levels.lock_timeout).await {
                    Ok(()) => {
                        publisher.update(|s| s.cut_over.locked = (!ready.native.works).then(|| began.elapsed()));
                        return Ok(Ended::Done);
                    }
                    Err(error) if error.is_connection() => return Err(error.into()),
                    Err(error) if is_algorithm_refusal(&error) && spec.algorithm == Algorithm::Auto => {
                        return Ok(Ended::CopyInstead(error.message));
                    }
                    Err(error) if error.is_contention() || error.code == crate::mysql::error::QUERY_INTERRUPTED => {
                        failures += 1;
                        pause = jitter(back_off(failures));
                        publisher.update(|s| s.cut_over.last_failure = Some(error.message.clone()));
                        publisher.notice(
                            "CutOverAttemptFailed",
                            true,
                            format!("the table could not be locked in time ({}); nothing was changed", error.message),
                        );
                    }
                    Err(error) => {
                        let reason = if is_algorithm_refusal(&error) { Reason::AlgorithmNotSupported } else { reason_of(&error) };
                        let reason = if reason == Reason::ServerError { Reason::AlterRejected } else { reason };
                        return Err(EngineError::terminal(
                            reason,
                            &format!(
                                "the server refuses the change of {}: {}. The table is unchanged",
                                quote::qualified(&spec.database, &spec.table),
                                error.message
                            ),
                        ));
                    }
                }
            }
        } else {
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

/// Makes the change on the session that holds the migration's named lock: as long as the statement may be at work, or on its way, no other
/// engine can have the lock, look at a definition that is about to change, and make the change a second time.
async fn attempt(
    guard: &mut Session,
    spec: &MigrationSpec,
    native: &Native,
    clauses: &str,
    control: &mut Session,
    budget: Duration,
) -> Result<(), MySqlError> {
    let id = guard.id();
    // The server bounds each wait for the metadata lock: at the start, and at the end of work in place.
    guard.run("prepare the change", SHORT, &format!("SET SESSION lock_wait_timeout={}", budget.as_secs().max(1))).await?;
    let statement = format!("ALTER TABLE {} {clauses}, {}", quote::qualified(&spec.database, &spec.table), native.suffix);
    let change = guard.run("change the table", LONG, &statement);
    if native.works {
        // Its duration is the work's, and clients do not wait for it.
        return change.await;
    }
    tokio::pin!(change);
    tokio::select! {
        done = &mut change => done,
        () = tokio::time::sleep(budget) => {
            control.run("take back the lock request", SHORT, &format!("KILL QUERY {id}")).await?;
            change.await
        }
    }
}
