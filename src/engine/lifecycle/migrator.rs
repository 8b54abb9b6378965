//! The one lifecycle driver: attempts a migration until it is over, holding every task of it.
//!
//! An attempt takes what is in MySQL (nothing, or a former engine's work), runs until the swap, and is simply made again after a
//! transient error: there is no other recovery path. Tasks of an attempt (stream, guard, copy workers, row count, index build) live in one
//! [`JoinSet`]; the applier and the cut-over run in the driver itself, so that nothing flushes while the tables are locked.

use super::approach::{Approach, Task, about};
use super::lost;
use super::prepare::{self, Prepared, Ready, Wishes};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::hook::Hook;
use crate::engine::contract::notice;
use crate::engine::contract::progress::{Publisher, Tally};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::retry::back_off;
use crate::engine::contract::snapshot::{ChosenAlgorithm, Outcome, Phase, Retrying, Tables};
use crate::engine::contract::spec::{Algorithm, Controls, DeletionPolicy, MigrationSpec, Mode};
use crate::engine::cutover::native::NativeReady;
use crate::engine::cutover::{Clock, system_clock};
use crate::engine::outside::hooks;
use crate::engine::rows::copier::ChunkRows;
use crate::engine::state::fence::Leftovers;
use crate::engine::state::store::StateTable;
use crate::engine::state::takeover::{Fate, Owned};
use crate::engine::table::chooser::Refused;
use crate::engine::table::desired::check_change;
use crate::engine::table::{inspector, sight};
use crate::engine::throttle;
use crate::mysql::Session;
use crate::mysql::session::SHORT;
use crate::sql::quote;
use by_server::ByServer;
use ending::{LeftTable, clean_up_unless_swapped, done, drop_left, finish, start_applier_again};
use run::{Run, Surroundings};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod by_server;
mod counting;
mod ending;
mod noticing;
mod pacing;
mod rehearsal;
mod run;
mod swapping;
mod turning;

pub use ending::clean_up;

/// How long tasks may take to stop before they are aborted (their transactions roll back).
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// An attempt that ran this long was healthy: the next error starts the back-off anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// What an engine does not ask of its server or its user, passed in.
#[derive(Clone)]
pub struct Environment {
    /// What the cut-over windows are looked at by.
    pub clock: Clock,
    /// Sizes of chunks.
    pub chunk_rows: ChunkRows,
}

impl Default for Environment {
    fn default() -> Self {
        Self { clock: system_clock(), chunk_rows: ChunkRows::default() }
    }
}

/// Drives one migration.
pub struct Migrator {
    spec: MigrationSpec,
    controls: watch::Receiver<Controls>,
    publisher: Publisher,
    tally: Tally,
    approach: Approach,
    /// Cancelled by the owner for a graceful stop.
    stop: CancellationToken,
    /// The work of the last attempt: whoever finds it in other hands stops.
    owned: Option<Owned>,
    environment: Environment,
    /// Ways that the server took on an empty clone and refused on the table.
    refused: Refused,
    /// What the account does not see has been told.
    said_unseen: bool,
    /// The hooks know that the change is made.
    told: bool,
}

/// How an attempt ended without an error.
enum End {
    Over(Outcome),
    /// Stop, pause or cancel: the driver looks at the levels again.
    Interrupted,
}

/// InnoDB takes no write that is logged as a statement under READ COMMITTED (1665). Such a server gets no copy, but what it does by itself is
/// recorded in the state table as well.
const FOR_THE_LOG: &str =
    "SET SESSION transaction_isolation = IF(@@SESSION.binlog_format = 'STATEMENT', 'REPEATABLE-READ', @@SESSION.transaction_isolation)";

impl Migrator {
    /// For one migration.
    pub fn new(
        spec: MigrationSpec,
        controls: watch::Receiver<Controls>,
        publisher: Publisher,
        stop: CancellationToken,
        environment: Environment,
    ) -> Self {
        Self {
            spec,
            controls,
            tally: Tally::new(publisher.clone()),
            publisher,
            approach: Approach::default(),
            stop,
            owned: None,
            environment,
            refused: Refused::default(),
            said_unseen: false,
            told: false,
        }
    }

    /// Runs to the end.
    pub async fn run(mut self) -> Outcome {
        let outcome = self.drive().await;
        let hooks = self.controls.borrow().hooks.clone();
        if !self.told {
            self.tell(&hooks, &outcome).await;
        }
        tracing::info!(migration = self.spec.display_name, ?outcome, "the engine has ended");
        self.publisher.throttle(None);
        self.publisher.update(|s| {
            s.phase = Phase::Finished;
            s.retrying = None;
        });
        outcome
    }

    async fn tell(&mut self, hooks: &[Hook], outcome: &Outcome) {
        for why in hooks::tell(hooks, &self.spec, &about(&self.publisher, &self.tally), outcome).await {
            self.publisher.notice(notice::HOOK_FAILED, true, format!("could not notify a hook that the migration ended: {why}"));
        }
    }

    async fn drive(&mut self) -> Outcome {
        let mut failures: u32 = 0;
        loop {
            let controls = self.controls.borrow_and_update().clone();
            if self.stop.is_cancelled() {
                return Outcome::Stopped;
            }
            let began = Instant::now();
            let mut touched = false;
            let result = if controls.cancel {
                self.cancel().await
            } else if controls.paused {
                self.publisher.throttle(None);
                self.publisher.update(|s| s.phase = Phase::Paused);
                self.wait(None, &controls).await;
                continue;
            } else {
                self.attempt_migration(&mut touched).await
            };
            match result {
                Ok(End::Over(outcome)) => return outcome,
                Ok(End::Interrupted) => {}
                Err(error) if error.is_transient() => {
                    failures = if began.elapsed() > HEALTHY { 1 } else { failures + 1 };
                    let pause = back_off(failures).min(Duration::from_secs(30));
                    tracing::warn!(migration = self.spec.display_name, reason = %error.reason, "{error}; next attempt in {pause:?}");
                    self.publisher.throttle(None);
                    self.publisher.update(|s| {
                        s.retrying = Some(Retrying {
                            reason: error.reason,
                            message: error.message.clone(),
                            next_attempt: SystemTime::now() + pause,
                        });
                    });
                    self.wait(Some(pause), &controls).await;
                }
                Err(error) if touched => return Outcome::Failed { reason: error.reason, message: error.message },
                Err(error) => return Outcome::Refused { reason: error.reason, message: error.message },
            }
        }
    }

    /// Waits for a time, or until a level that the driver looks at differs from `seen`, the one that it acted on: a change that came
    /// meanwhile must not be waited for.
    async fn wait(&mut self, limit: Option<Duration>, seen: &Controls) {
        let end = limit.map(|l| Instant::now() + l);
        loop {
            {
                let now = self.controls.borrow_and_update();
                if now.paused != seen.paused || now.cancel != seen.cancel {
                    return;
                }
            }
            let sleep = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep => return,
                changed = self.controls.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Stops for good: removes what was made, unless the tables are swapped already.
    async fn cancel(&mut self) -> Result<End, EngineError> {
        if self.spec.deletion_policy == DeletionPolicy::Orphan {
            if self.spec.mode == Mode::TestOnReplica {
                start_applier_again(&self.spec).await?;
            }
            return Ok(End::Over(Outcome::Cancelled));
        }
        match clean_up_unless_swapped(&self.spec).await {
            Ok(None) => Ok(End::Over(Outcome::Cancelled)),
            // A test changed nothing: what it left is what is to go.
            Ok(Some(left)) if left.table == LeftTable::Ghost => {
                let mut control = Session::open_in(&self.spec.server, &self.spec.database).await?;
                drop_left(&mut control, &self.spec, &left, None).await?;
                Ok(End::Over(Outcome::Cancelled))
            }
            // Too late: finish.
            Ok(Some(_)) => {
                let mut touched = true;
                self.attempt_migration(&mut touched).await
            }
            Err(error) => Err(error),
        }
    }

    async fn attempt_migration(&mut self, touched: &mut bool) -> Result<End, EngineError> {
        self.publisher.update(|s| {
            // Once the change is made, nothing is looked at any more that people would wait for.
            if !matches!(s.phase, Phase::CleaningUp | Phase::Revertible) {
                s.phase = Phase::Inspecting;
            }
        });
        check_change(&self.spec.alter, self.spec.definition())?;
        let control = Session::open_in(&self.spec.server, &self.spec.database).await?;
        self.spec = self.spec.kept(control.lower_case_names());
        let mut guard = Session::open_in(&self.spec.server, &self.spec.database).await?;
        // It is used every two seconds: should this process's machine vanish, the lock is free again after a minute.
        guard.run("shorten the wait for a vanished engine", SHORT, "SET SESSION wait_timeout=60").await?;
        guard.check_server(control.server_uuid())?;
        let mut guard = Some(guard);
        let result = self.attempt_on(&mut guard, control, touched).await;
        if let Some(guard) = guard {
            crate::engine::state::fence::release_lock(guard).await;
        }
        result
    }

    /// The attempt on these connections; it takes the guard away where a task keeps it.
    async fn attempt_on(&mut self, guard: &mut Option<Session>, mut control: Session, touched: &mut bool) -> Result<End, EngineError> {
        let Some(session) = guard.as_mut() else { return Err(EngineError::internal("an attempt has no guard")) };
        let locked = crate::engine::state::fence::take_lock(session, &self.spec).await;
        // Also when another engine holds the lock: waiting for it would be waiting to do its work again.
        if let Some(owned) = self.owned.take() {
            match owned.fate(&self.spec, &state_table(&self.spec), &mut control).await {
                Ok(Fate::Done) if owned.reverted => return Ok(End::Over(Outcome::Reverted)),
                Ok(Fate::Done) => return Ok(End::Over(done(&self.spec))),
                Ok(Fate::Unknown) => {}
                Ok(Fate::Ours) => self.owned = Some(owned),
                Err(error) => {
                    *touched = true;
                    let error = match error.reason {
                        Reason::Fenced => {
                            lost::explain(&owned, &self.spec, &state_table(&self.spec), &mut control).await.err().unwrap_or(error)
                        }
                        _ => error,
                    };
                    self.owned = Some(owned);
                    return Err(error);
                }
            }
        }
        locked?;
        for session in [&mut *session, &mut control] {
            session.run("set how the session's writes are logged", SHORT, FOR_THE_LOG).await?;
        }
        // From here on this attempt may drop or remake what the last one had.
        self.owned = None;
        if let Err(error) = self.look_around(&mut control).await {
            *touched = inspector::exists(&mut control, &self.spec.database, &self.spec.names().state).await?;
            let left = if *touched { ". The work so far is kept" } else { ". Nothing was touched" };
            return Err(if error.is_transient() { error } else { error.and(left) });
        }
        let refused = self.refused.clone();
        let wishes = {
            let controls = self.controls.borrow();
            Wishes {
                defer: controls.defer_indexes,
                refused: &refused,
                old_table: controls.old_table,
                max_locked_tables: controls.max_locked_tables,
                window: controls.revert_window,
                revert: controls.revert,
                now: (self.environment.clock)().into(),
            }
        };
        // On the session that has the lock: a statement that outlives this engine, on its way or at work, keeps the next one out until it is over.
        let prepared = prepare::prepare(&self.spec, wishes, session, &self.publisher, touched).await?;
        if self.spec.desired.is_some() {
            self.spec.alter = self.publisher.clauses().unwrap_or_default();
        }
        match prepared {
            Prepared::Proven => {
                self.publisher.update(|s| s.tables = Tables::default());
                Ok(End::Over(Outcome::Proven))
            }
            Prepared::Nothing => {
                self.publisher.update(|s| {
                    s.validated = true;
                    s.tables = Tables::default();
                    s.algorithm = Some(ChosenAlgorithm {
                        chosen: Algorithm::Instant,
                        reason: "nothing to do: the table already has this definition".into(),
                    });
                });
                Ok(End::Over(Outcome::Succeeded))
            }
            Prepared::Native(ready) => {
                self.owned = Some(ready.leftovers.owned());
                let mut tasks = JoinSet::new();
                let around = self.surroundings();
                let cancel = around.cancel.clone();
                let mut change = ByServer::new(&self.spec, &ready, &mut control, session, around);
                let ended = change.run_to_change(&mut tasks).await;
                self.approach = change.leave();
                stop_all(&cancel, &mut tasks).await;
                match ended {
                    Ok(by_server::Ended::Done) => {
                        let NativeReady { leftovers, .. } = *ready;
                        finish(&self.spec, (&self.publisher, &self.tally), &self.controls, &mut control, leftovers, &mut self.owned).await
                    }
                    Ok(by_server::Ended::Interrupted) => Ok(End::Interrupted),
                    Ok(by_server::Ended::AnotherWay(words)) => {
                        let next = match ready.native.algorithm {
                            Algorithm::Instant => &mut self.refused.instant,
                            _ => &mut self.refused.inplace,
                        };
                        self.publisher.notice(
                            notice::COPY_INSTEAD,
                            false,
                            format!(
                                "the server refused on the table what it accepted on an empty clone ({words}); trying the next algorithm"
                            ),
                        );
                        *next = Some(words);
                        self.owned = None;
                        crate::engine::state::fence::drop_ours(session, &self.spec, &self.spec.names()).await?;
                        *touched = false;
                        Ok(End::Interrupted)
                    }
                    Err(error) if error.is_transient() => Err(error),
                    Err(error) => {
                        // There is no work to keep.
                        self.owned = None;
                        crate::engine::state::fence::drop_ours(session, &self.spec, &self.spec.names()).await?;
                        if matches!(error.reason, Reason::AlterRejected | Reason::AlgorithmNotSupported) {
                            // The server did not take the change: the table is as it was, and nothing is left.
                            *touched = false;
                        }
                        Err(error)
                    }
                }
            }
            Prepared::Unknown { old } => Ok(End::Over(Outcome::Unknown { message: self.unknown(&old) })),
            Prepared::Swapped(leftovers) => {
                self.told |= leftovers.record.told;
                self.publisher.update(|s| s.validated = true);
                self.owned = Some(leftovers.owned());
                finish(&self.spec, (&self.publisher, &self.tally), &self.controls, &mut control, *leftovers, &mut self.owned).await
            }
            Prepared::Turned(ready) => self.keep_way_back(*ready, control, guard).await,
            Prepared::Run(ready) => {
                self.say_what_is_not_seen(&mut control).await?;
                let limits = self.controls.borrow().limits.clone();
                if !self.spec.copies()
                    && let Err(error) = throttle::filters::check(&mut control, &self.spec, &limits).await
                {
                    if ready.record.resumed_count == 0 && !error.is_transient() {
                        crate::engine::state::fence::drop_ours(&mut control, &self.spec, &self.spec.names()).await?;
                        *touched = false;
                        return Err(error.and(". Nothing is left behind"));
                    }
                    return Err(error);
                }
                self.publisher.update(|s| {
                    s.validated = true;
                    s.retrying = None;
                    s.phase = Phase::Copying;
                    s.algorithm.get_or_insert_with(|| ChosenAlgorithm {
                        chosen: Algorithm::Copy,
                        reason: "as started by an earlier engine".into(),
                    });
                });
                self.owned = Some(ready.owned());
                let begun = ready.record.resumed_count > 0;
                let mut tasks = JoinSet::new();
                let (guard, around) = (held(guard)?, self.surroundings());
                let cancel = around.cancel.clone();
                let mut result = self.run_ready(*ready, control, guard, &mut tasks, around).await;
                stop_all(&cancel, &mut tasks).await;
                if let (Err(error), Some(owned)) = (&result, &self.owned)
                    && matches!(error.reason, Reason::TableNotFound | Reason::Fenced | Reason::ServerError)
                    && !error.is_transient()
                {
                    // Did somebody drop a table, or has another engine finished the work? Then that is what is to be told.
                    let mut control = Session::open_in(&self.spec.server, &self.spec.database).await?;
                    match lost::explain(owned, &self.spec, &state_table(&self.spec), &mut control).await {
                        Ok(Some(Fate::Done)) => result = Ok(End::Over(done(&self.spec))),
                        Err(lost) => result = Err(lost),
                        Ok(_) => {}
                    }
                }
                let fresh = !begun && self.tally.progress().chunks == 0;
                if let Err(error) = &result
                    && (error.reason == Reason::MissingPrivilege && fresh || error.reason == Reason::ReplicaFiltered)
                {
                    // Nothing was copied: it is a refusal, and nothing stays behind. What a replica did not get is of no use there.
                    self.owned = None;
                    let mut control = Session::open_in(&self.spec.server, &self.spec.database).await?;
                    crate::engine::state::fence::drop_ours(&mut control, &self.spec, &self.spec.names()).await?;
                    *touched = !fresh;
                }
                result
            }
        }
    }

    /// What must be so outside of the table, before anything is touched.
    async fn look_around(&self, control: &mut Session) -> Result<(), EngineError> {
        let limits = self.controls.borrow().limits.clone();
        if limits.max_disk_usage.is_some() {
            let readable = sight::check_disk(control, &self.spec.database).await;
            readable.map_err(|e| if e.is_transient() { e } else { e.and("; or remove throttle.maxDiskUsage") })?;
        }
        // What the server may do itself has nothing to do with tables of ours.
        if self.spec.copies() { throttle::filters::check(control, &self.spec, &limits).await } else { Ok(()) }
    }

    /// Once for each engine.
    async fn say_what_is_not_seen(&mut self, control: &mut Session) -> Result<(), EngineError> {
        if std::mem::replace(&mut self.said_unseen, true) {
            return Ok(());
        }
        let mut unseen = sight::unseen(control).await?;
        // The throttler says that itself, where there is such a limit.
        unseen.retain(|fact| *fact != sight::Fact::HistoryList);
        if let Some(words) = sight::tell(&unseen, &self.spec.database) {
            self.publisher.notice(notice::NOT_SEEN, false, words);
        }
        Ok(())
    }

    /// `old`: the name that the original would have.
    fn unknown(&self, old: &str) -> String {
        let names = self.spec.names();
        format!(
            "the connection was lost during the swap, and nothing shows whether the swap happened. Check {}, {} and {}: if the first has the new definition, it did. Nothing was dropped",
            quote::qualified(&self.spec.database, &self.spec.table),
            names.ghost,
            old
        )
    }

    /// For one attempt.
    fn surroundings(&mut self) -> Surroundings {
        let mut approach = std::mem::take(&mut self.approach);
        approach.begin();
        Surroundings {
            publisher: self.publisher.clone(),
            tally: self.tally.clone(),
            controls: self.controls.clone(),
            environment: self.environment.clone(),
            stop: self.stop.clone(),
            cancel: CancellationToken::new(),
            approach,
        }
    }

    /// How an attempt ends that was interrupted, or whose swap nobody knows the outcome of: whichever way it went. `None`: another end.
    async fn broken_off(&self, run: &mut Run, result: &Result<bool, EngineError>) -> Result<Option<End>, EngineError> {
        Ok(match result {
            Ok(false) if !run.closed => {
                // Whatever is done is stored, so that the next engine repeats as little as possible.
                run.applier.checkpoint(true).await?;
                Some(End::Interrupted)
            }
            Err(error) if run.swap_announced && error.reason == Reason::OutcomeUnknown => {
                Some(End::Over(Outcome::Unknown { message: self.unknown(&run.migration.names.old) }))
            }
            _ => None,
        })
    }

    async fn run_ready(
        &mut self,
        ready: Ready,
        control: Session,
        guard: Session,
        tasks: &mut JoinSet<Task>,
        around: Surroundings,
    ) -> Result<End, EngineError> {
        let mut run = Run::start(ready, control, guard, around, tasks).await?;
        let mut result = run.run_to_swap(tasks).await;
        self.approach = std::mem::take(&mut run.approach);
        // Whatever has happened; where it cannot be done now, the next attempt begins with it.
        if let Err(error) = run.apply_again(result.as_ref().err()).await {
            result = Err(error);
        }
        if let Some(end) = self.broken_off(&mut run, &result).await? {
            return Ok(end);
        }
        match result {
            // The next attempt finds it swapped, as it would after a death at this point, and keeps the old table current.
            Ok(_) if run.record.way_back => Ok(End::Interrupted),
            Ok(_) => {
                let Run { migration, record, control: mut session, applier, .. } = run;
                applier.close().await;
                let leftovers = Leftovers { state: migration.state.clone(), record, epoch: migration.epoch };
                finish(&self.spec, (&self.publisher, &self.tally), &self.controls, &mut session, leftovers, &mut self.owned).await
            }
            Err(error) => {
                if error.reason.restarts_copy() {
                    run.forget().await;
                }
                Err(error)
            }
        }
    }
}

/// The guard's connection, for the task that keeps the lock.
fn held(guard: &mut Option<Session>) -> Result<Session, EngineError> {
    guard.take().ok_or_else(|| EngineError::internal("an attempt has no guard"))
}

/// Ends the tasks of an attempt.
async fn stop_all(cancel: &CancellationToken, tasks: &mut JoinSet<Task>) {
    cancel.cancel();
    let joined = tokio::time::timeout(STOP_LIMIT, async { while tasks.join_next().await.is_some() {} }).await;
    if joined.is_err() {
        tasks.shutdown().await;
    }
}

fn state_table(spec: &MigrationSpec) -> StateTable {
    StateTable::new(&spec.database, &spec.names().state)
}
