//! Follows a change that the server makes itself: the same way to an attempt as a swap has, without rows.
//!
//! The migration's named lock lives on the guard's connection, which this keeps in use.

use super::run::Surroundings;
use crate::engine::contract::error::{EngineError, reason_of};
use crate::engine::contract::notice;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::{ChosenAlgorithm, Phase};
use crate::engine::contract::spec::{Algorithm, Controls, MigrationSpec};
use crate::engine::cutover::blockers::TablesToLock;
use crate::engine::cutover::native::{Change, NativeReady, change};
use crate::engine::cutover::watchdog::Force;
use crate::engine::cutover::{Gate, gate};
use crate::engine::lifecycle::approach::{Approach, Task, about};
use crate::engine::lifecycle::next::{self, Seen, State, Step, next};
use crate::engine::outside::hooks;
use crate::engine::table::chooser::is_algorithm_refusal;
use crate::engine::table::definition::normalise;
use crate::engine::table::inspector;
use crate::mysql::Session;
use crate::mysql::session::SHORT;
use crate::sql::quote;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often the guard's connection is used: the server drops the lock of one that is silent for a minute.
const KEEP_LOCK_EVERY: Duration = Duration::from_secs(2);

/// How it ended.
pub(super) enum Ended {
    /// The table has its new definition.
    Done,
    /// Stop, pause or cancel.
    Interrupted,
    /// The server refuses on the real table what it took on the clone: Auto goes another way.
    AnotherWay(String),
}

/// A change that the server makes.
pub(super) struct ByServer<'a> {
    spec: &'a MigrationSpec,
    ready: &'a NativeReady,
    control: &'a mut Session,
    guard: &'a mut Session,
    around: Surroundings,
    state: State,
    lock_kept: Instant,
}

impl<'a> ByServer<'a> {
    pub(super) fn new(
        spec: &'a MigrationSpec,
        ready: &'a NativeReady,
        control: &'a mut Session,
        guard: &'a mut Session,
        around: Surroundings,
    ) -> Self {
        let now = Instant::now();
        let state = State { rows: None, consent: next::Consent::Free, vetoed: around.approach.is_vetoed(), next_attempt: now };
        Self { spec, ready, control, guard, around, state, lock_kept: now }
    }

    /// Gives back what outlives this attempt.
    pub(super) fn leave(&mut self) -> Approach {
        std::mem::take(&mut self.around.approach)
    }

    /// Waits for the gate and makes the change.
    ///
    /// # Errors
    /// The server's refusal; somebody else's DDL.
    pub(super) async fn run_to_change(&mut self, tasks: &mut JoinSet<Task>) -> Result<Ended, EngineError> {
        let native = &self.ready.native;
        self.around.publisher.update(|s| {
            s.validated = true;
            s.retrying = None;
            s.algorithm = Some(ChosenAlgorithm { chosen: native.algorithm, reason: native.reason.clone() });
        });
        loop {
            while let Some(done) = tasks.try_join_next() {
                joined(done)?;
            }
            let (seen, controls) = self.gather();
            let cut_over = self.around.approach.shown(next::waits(&self.state, &seen));
            self.around.publisher.update(|s| (s.phase, s.cut_over) = (next::phase(&self.state, &seen), cut_over));
            match next(&self.state, &seen) {
                Step::Interrupt => return Ok(Ended::Interrupted),
                Step::Attempt => {
                    if let Some(ended) = self.attempt_change(&controls, tasks).await? {
                        return Ok(ended);
                    }
                }
                Step::Wait(until) => {
                    if self.lock_kept.elapsed() >= KEEP_LOCK_EVERY {
                        self.lock_kept = Instant::now();
                        self.guard.run("keep the migration's lock", SHORT, "DO 1").await?;
                    }
                    // Cancel-safe: nothing is taken before the branch is chosen.
                    tokio::select! {
                        () = self.around.stop.cancelled() => {}
                        changed = self.around.controls.changed() => if changed.is_err() { return Ok(Ended::Interrupted) },
                        Some(done) = tasks.join_next() => joined(done)?,
                        () = tokio::time::sleep_until(until.into()) => {}
                    }
                }
                step => return Err(EngineError::internal(&format!("{step:?} is no step of a change without rows"))),
            }
        }
    }

    fn gather(&mut self) -> (Seen, Controls) {
        let now = Instant::now();
        let Surroundings { publisher, controls, environment, stop, approach, .. } = &mut self.around;
        let controls = controls.borrow_and_update().clone();
        let gate = gate(&controls, (environment.clock)());
        if gate != Gate::Open {
            approach.blockers.forget();
        }
        self.state.consent = approach.consent(now, "change", publisher);
        self.state.vetoed = approach.is_vetoed();
        self.state.next_attempt = approach.next_attempt(now);
        let seen = Seen {
            interrupted: stop.is_cancelled() || controls.paused || controls.cancel,
            gate,
            hooks: hooks::asks(&controls.hooks),
            ..Seen::without_rows(now)
        };
        (seen, controls)
    }

    /// One attempt, unless somebody is in its way. `None`: none was made, or it failed.
    async fn attempt_change(&mut self, controls: &Controls, tasks: &mut JoinSet<Task>) -> Result<Option<Ended>, EngineError> {
        let Self { spec, ready, control, guard, around, .. } = self;
        let Surroundings { publisher, tally, cancel, approach, .. } = around;
        let tables = [spec.table.as_str()];
        let to_lock = TablesToLock { server: &spec.server, database: &spec.database, tables: &tables, relatives: &[] };
        let force = approach.is_forced(controls);
        if !approach.is_free(control, to_lock, controls, publisher).await?
            || !approach.is_agreed(controls, spec, about(publisher, tally), tasks, cancel)
        {
            return Ok(None);
        }
        let name = quote::qualified(&spec.database, &spec.table);
        let definition = inspector::show_create(control, &spec.database, &spec.table).await?;
        if normalise(&definition)? != ready.leftovers.record.original_definition {
            return Err(EngineError::terminal(
                Reason::DefinitionChanged,
                &format!("someone else changed the definition of {name} before this change was made, so it was not made"),
            ));
        }
        approach.made(controls.force_cut_over.as_ref().filter(|_| force));
        let cut_over = approach.shown(None);
        publisher.update(|s| (s.phase, s.cut_over) = (Phase::CuttingOver, cut_over));
        let began = Instant::now();
        let what = Change { spec, native: &ready.native, clauses: &ready.clauses, values: &ready.values, budget: controls.lock_timeout };
        let force = force.then_some(Force { to_lock, blockers: &mut approach.blockers, publisher });
        match change(what, guard, control, force).await {
            Ok(()) => {
                approach.succeeded((!ready.native.works).then(|| began.elapsed()));
                let cut_over = approach.shown(None);
                publisher.update(|s| s.cut_over = cut_over);
                publisher.notice(notice::SWAPPED, false, format!("{name} has its new definition"));
                Ok(Some(Ended::Done))
            }
            Err(error) if error.is_connection() => Err(error.into()),
            Err(error) if is_algorithm_refusal(&error) && spec.algorithm == Algorithm::Auto => Ok(Some(Ended::AnotherWay(error.message))),
            Err(error) if error.is_contention() || error.code == crate::mysql::codes::QUERY_INTERRUPTED => {
                approach.failed(&error.message, None);
                let message = format!("could not lock the table in time ({}); nothing was changed", error.message);
                publisher.notice(notice::CUT_OVER_ATTEMPT_FAILED, true, message);
                Ok(None)
            }
            // The server shuts down, or is read only for a moment: that is no answer to the change.
            Err(error) if error.is_transient() => Err(error.into()),
            Err(error) => {
                let reason = if is_algorithm_refusal(&error) { Reason::AlgorithmNotSupported } else { reason_of(&error) };
                let reason = if reason == Reason::ServerError { Reason::AlterRejected } else { reason };
                Err(EngineError::of_server(
                    &error,
                    reason,
                    &format!("the server refused the change to {name}: {}. The table is unchanged", error.message),
                ))
            }
        }
    }
}

fn joined(done: Result<Task, tokio::task::JoinError>) -> Result<(), EngineError> {
    done.map_err(|error| EngineError::internal(&format!("a task of the engine ended: {error}")))?.1
}
