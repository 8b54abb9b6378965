//! The one lifecycle driver: attempts a migration until it is over, holding every task of it.
//!
//! An attempt takes what is in MySQL (nothing, or a former engine's work), runs until the swap, and is simply made again after a
//! transient error: there is no other recovery path. Tasks of an attempt (stream, guard, copy workers, row count, index build) live in one
//! [`JoinSet`]; the applier and the cut-over run in the driver itself, so that nothing flushes while the tables are locked.

use super::lost;
use super::prepare::{self, Prepared, Ready, Wishes};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::notice;
use crate::engine::contract::progress::{Publisher, Rate};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::retry::back_off;
use crate::engine::contract::snapshot::{ChosenAlgorithm, Outcome, Phase, Retrying, Tables};
use crate::engine::contract::spec::{Algorithm, Controls, DeletionPolicy, MigrationSpec, Mode, VerifyPolicy};
use crate::engine::cutover::blockers::Blockers;
use crate::engine::cutover::native::NativeReady;
use crate::engine::cutover::{self, Clock, Gate, definition_changed, gate, native, replaced, truncated};
use crate::engine::outside::hooks;
use crate::engine::rows::applier::{Applier, Flushed};
use crate::engine::rows::copier::Copier;
use crate::engine::rows::inbox::{Inbox, StreamNotice};
use crate::engine::rows::index_build::{self, Built, Changes};
use crate::engine::rows::migration::Migration;
use crate::engine::rows::pace::{self, Pace, Pressure};
use crate::engine::rows::streamer::rows::KeyColumn;
use crate::engine::rows::streamer::{Streamer, Watched, Writer};
use crate::engine::rows::verifier::Verifier;
use crate::engine::state::fence::{Leftovers, keep_lock};
use crate::engine::state::record::{Record, Stage};
use crate::engine::state::store::StateTable;
use crate::engine::state::takeover::{Owned, Still};
use crate::engine::table::chooser::Refused;
use crate::engine::table::{inspector, sight};
use crate::engine::throttle;
use crate::engine::throttle::decide::Decision;
use crate::mysql::Session;
use crate::mysql::server::ServerFacts;
use crate::mysql::session::SHORT;
use crate::sql::quote;
use counting::{COUNT, Count};
use ending::{Beside, clean_up_unless_swapped, done, drop_left, finish, start_applier_again};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use swapping::{HOOKS, STATISTICS, Statistics};
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod counting;
mod ending;
mod rehearsal;
mod swapping;

pub use ending::clean_up;

/// Memory for dirty keys: some 300 000 small ones. Past it the stream waits. While as many are being applied, the same again is filled.
const DIRTY_LIMIT: usize = 24 << 20;
/// A cycle while rows are copied: long enough that hot rows are written once for many changes, short enough to keep the backlog small.
const CYCLE_COPYING: Duration = Duration::from_millis(300);
/// A cycle afterwards: the backlog must be small when the gate opens.
const CYCLE_TAIL: Duration = Duration::from_millis(50);
/// Dirty keys at which a cycle begins at once.
const CYCLE_KEYS: usize = 20_000;
/// Keys that the last cycle may have had for the cut-over to be tried: they are reconciled well within the lock's budget.
const SMALL_BACKLOG: usize = 500;
/// How often the end of the log is looked at, to know how far the stream is behind.
const LAG_EVERY: Duration = Duration::from_secs(1);
/// Rows under which one worker of each kind is enough.
const SMALL_TABLE: u64 = 5_000;
/// How long tasks may take to stop before they are aborted (their transactions roll back).
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// An attempt that ran this long was healthy: the next error starts the back-off anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// Drives one migration.
pub struct Migrator {
    spec: MigrationSpec,
    controls: watch::Receiver<Controls>,
    publisher: Publisher,
    /// Cancelled by the owner for a graceful stop.
    stop: CancellationToken,
    /// The work of the last attempt: whoever finds it in other hands stops.
    owned: Option<Owned>,
    /// What the windows are looked at by.
    clock: Clock,
    /// Ways that the server took on an empty clone and refused on the table.
    refused: Refused,
    /// What the account does not see has been told.
    said_unseen: bool,
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
        clock: Clock,
    ) -> Self {
        Self { spec, controls, publisher, stop, owned: None, clock, refused: Refused::default(), said_unseen: false }
    }

    /// Runs to the end.
    pub async fn run(mut self) -> Outcome {
        let outcome = self.drive().await;
        let hooks = self.controls.borrow().hooks.clone();
        for why in hooks::tell(&hooks, &self.spec, &self.publisher.snapshot(), &outcome).await {
            self.publisher.notice(notice::HOOK_FAILED, true, format!("could not notify a hook that the migration ended: {why}"));
        }
        tracing::info!(migration = self.spec.display_name, ?outcome, "the engine has ended");
        self.publisher.throttle(None);
        self.publisher.update(|s| {
            s.phase = Phase::Finished;
            s.retrying = None;
        });
        outcome
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
                self.publisher.phase(Phase::Paused);
                self.wait(None, &controls).await;
                continue;
            } else {
                self.attempt(&mut touched).await
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
            Ok(Some(left)) if left.beside == Beside::Ghost => {
                let mut control = Session::open_in(&self.spec.server, &self.spec.database).await?;
                drop_left(&mut control, &self.spec, &left, None).await?;
                Ok(End::Over(Outcome::Cancelled))
            }
            // Too late: finish.
            Ok(Some(_)) => {
                let mut touched = true;
                self.attempt(&mut touched).await
            }
            Err(error) => Err(error),
        }
    }

    async fn attempt(&mut self, touched: &mut bool) -> Result<End, EngineError> {
        self.publisher.phase(Phase::Inspecting);
        crate::engine::table::definition::check_alter(&self.spec.alter)?;
        let control = Session::open_in(&self.spec.server, &self.spec.database).await?;
        let mut guard = Session::open_in(&self.spec.server, &self.spec.database).await?;
        // It is used every two seconds: should this process's machine vanish, the lock is free again after a minute.
        guard.run("shorten the wait for a vanished engine", SHORT, "SET SESSION wait_timeout=60").await?;
        guard.check_server(control.server_uuid())?;
        let mut guard = Some(guard);
        let result = self.attempt_behind(&mut guard, control, touched).await;
        if let Some(guard) = guard {
            crate::engine::state::fence::release_lock(guard).await;
        }
        result
    }

    /// The attempt on these connections; it takes the guard away where a task keeps it.
    async fn attempt_behind(&mut self, guard: &mut Option<Session>, mut control: Session, touched: &mut bool) -> Result<End, EngineError> {
        let Some(session) = guard.as_mut() else { return Err(EngineError::internal("an attempt has no guard")) };
        let locked = crate::engine::state::fence::take_lock(session, &self.spec).await;
        // Also when another engine holds the lock: waiting for it would be waiting to do its work again.
        if let Some(owned) = self.owned.take() {
            match owned.still(&self.spec, &state_table(&self.spec), &mut control).await {
                Ok(Still::Done) => return Ok(End::Over(done(&self.spec))),
                Ok(Still::Unknown) => {}
                Ok(Still::Ours) => self.owned = Some(owned),
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
            Wishes { defer: controls.defer_indexes, refused: &refused, old_table: controls.old_table }
        };
        // On the session that has the lock: a statement that outlives this engine, on its way or at work, keeps the next one out until it is over.
        match prepare::prepare(&self.spec, wishes, session, &self.publisher, touched).await? {
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
                let conditions = native::Conditions { controls: &mut self.controls, stop: &self.stop, clock: &self.clock };
                match native::run(&self.spec, &ready, &mut control, session, &self.publisher, conditions).await {
                    Ok(native::Ended::Done) => {
                        let NativeReady { leftovers, .. } = *ready;
                        finish(&self.spec, &self.publisher, &self.controls, &mut control, leftovers, &mut self.owned).await
                    }
                    Ok(native::Ended::Interrupted) => Ok(End::Interrupted),
                    Ok(native::Ended::AnotherWay(words)) => {
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
            Prepared::Unknown => Ok(End::Over(Outcome::Unknown { message: self.unknown() })),
            Prepared::Swapped(leftovers) => {
                self.publisher.update(|s| s.validated = true);
                self.owned = Some(leftovers.owned());
                finish(&self.spec, &self.publisher, &self.controls, &mut control, *leftovers, &mut self.owned).await
            }
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
                let cancel = CancellationToken::new();
                let mut tasks = JoinSet::new();
                self.owned = Some(Owned {
                    epoch: ready.migration.epoch,
                    server_uuid: ready.migration.facts.uuid.clone(),
                    ghost_id: ready.record.ghost_id,
                    swapped: None,
                });
                let begun = ready.record.resumed_count > 0;
                let Some(guard) = guard.take() else { return Err(EngineError::internal("an attempt has no guard")) };
                let mut result = self.run_ready(*ready, control, guard, &mut tasks, &cancel).await;
                cancel.cancel();
                stop_all(&mut tasks).await;
                if let (Err(error), Some(owned)) = (&result, &self.owned)
                    && matches!(error.reason, Reason::TableNotFound | Reason::Fenced | Reason::ServerError)
                    && !error.is_transient()
                {
                    // Did somebody drop a table, or has another engine finished the work? Then that is what is to be told.
                    let mut control = Session::open_in(&self.spec.server, &self.spec.database).await?;
                    match lost::explain(owned, &self.spec, &state_table(&self.spec), &mut control).await {
                        Ok(Some(Still::Done)) => result = Ok(End::Over(done(&self.spec))),
                        Err(lost) => result = Err(lost),
                        Ok(_) => {}
                    }
                }
                let fresh = !begun && self.publisher.progress().chunks == 0;
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

    fn unknown(&self) -> String {
        let names = self.spec.names();
        format!(
            "the connection was lost during the swap, and nothing shows whether the swap happened. Check {}, {} and {}: if the first has the new definition, it did. Nothing was dropped",
            quote::qualified(&self.spec.database, &self.spec.table),
            names.ghost,
            self.publisher.snapshot().tables.old
        )
    }

    async fn run_ready(
        &mut self,
        ready: Ready,
        control: Session,
        guard: Session,
        tasks: &mut JoinSet<Task>,
        cancel: &CancellationToken,
    ) -> Result<End, EngineError> {
        let Ready { migration, record, board, chunks, start, safe, applied } = ready;
        let mut control = control;
        let (log_end, _) = migration.facts.log_end(&mut control).await?;
        let inbox = Arc::new(Inbox::new(safe.point(), DIRTY_LIMIT));
        let server_id = ServerFacts::server_id(&mut control).await?;
        let mut watched = watched(&migration, server_id)?;
        watched.key_defaults =
            inspector::key_defaults(&mut control, &migration.spec.database, &migration.original.definition, &migration.codec).await?;
        let streamer = Streamer::open(&self.spec.server, start, &log_end, watched, Arc::clone(&inbox)).await?;
        spawn(tasks, "binlog stream", streamer.run(cancel.clone()));
        spawn(tasks, "guard", keep_lock(guard, cancel.clone()));
        let (decided, throttler) = throttle::start(
            &self.spec.server,
            &migration.facts.uuid,
            migration.state.clone(),
            migration.ghost_name(),
            self.controls.clone(),
            self.publisher.clone(),
            cancel.clone(),
        );
        spawn(tasks, "throttler", throttler);

        let board = Arc::new(Mutex::new(board));
        let records = Arc::new(Mutex::new(Vec::new()));
        let pace = if record.rows_estimated < SMALL_TABLE {
            None
        } else {
            // Where the workers are given, nobody asks what the server can take.
            let given = self.controls.borrow().workers > 0;
            Some(Pace::beside(if given { 0 } else { statements_of_others(&mut control).await? }))
        };
        let applier = Applier::open(
            Arc::clone(&migration),
            Arc::clone(&inbox),
            Arc::clone(&board),
            Arc::clone(&records),
            pace.as_ref().map_or(1, |pace| pace.width().flush),
            safe.point(),
            &chunks,
            applied,
        )
        .await?;
        let (flushed_tx, _) = watch::channel(applier.total());
        let (allowed_tx, allowed) = watch::channel(0);
        let copier = Arc::new(Copier::new(
            Arc::clone(&migration),
            Arc::clone(&board),
            Arc::clone(&inbox),
            self.controls.clone(),
            allowed,
            decided.clone(),
            self.publisher.clone(),
            records,
        ));
        let mut run = Run {
            migration,
            record,
            inbox,
            applier,
            control,
            clock: Arc::clone(&self.clock),
            publisher: self.publisher.clone(),
            controls: self.controls.clone(),
            decided,
            stop: self.stop.clone(),
            cancel: cancel.clone(),
            flushed: flushed_tx,
            copier,
            copying: 0,
            copied: false,
            count: Count::None,
            allowed: allowed_tx,
            pace,
            window: None,
            index_build: None,
            build_with: Changes::Beside,
            verified: None,
            quiet: Arc::default(),
            rate: Rate::new(Instant::now(), self.publisher.throttled(), self.publisher.progress().rows_copied),
            lag: Lag::default(),
            blockers: Blockers::default(),
            statistics: Statistics::None,
            question: hooks::Question::default(),
            failures: 0,
            next_cut_over: Instant::now(),
            swap_announced: false,
            comparing: cancel.child_token(),
        };
        run.keep_pace(tasks).await?;
        let mut result = run.follow(tasks).await;
        // Whatever has happened; where it cannot be done now, the next attempt begins with it.
        if let Err(error) = run.apply_again(result.as_ref().err()).await {
            result = Err(error);
        }
        if let Ok(Some(())) = result {
            let Run { migration, record, control: mut session, applier, .. } = run;
            applier.close().await;
            let leftovers = Leftovers { state: migration.state.clone(), record, epoch: migration.epoch };
            return finish(&self.spec, &self.publisher, &self.controls, &mut session, leftovers, &mut self.owned).await;
        }
        // Whatever is done is stored, so that the next engine repeats as little as possible.
        if result.is_ok() {
            run.applier.checkpoint(true).await?;
        }
        match result {
            Err(error) if run.swap_announced && error.reason == Reason::OutcomeUnknown => {
                Ok(End::Over(Outcome::Unknown { message: self.unknown() }))
            }
            Err(error) => {
                if error.reason.restarts_copy() {
                    run.forget().await;
                }
                Err(error)
            }
            Ok(_) => Ok(End::Interrupted),
        }
    }
}

/// How many statements the server is sent while we look.
async fn statements_of_others(control: &mut Session) -> Result<u64, EngineError> {
    let mut counts = [0, 0];
    for (at, count) in counts.iter_mut().enumerate() {
        if at > 0 {
            tokio::time::sleep(pace::LOOK).await;
        }
        let sql = "SHOW GLOBAL STATUS LIKE 'Questions'";
        let row: Option<(String, u64)> = control.first("check whether the server is busy", SHORT, sql).await?;
        *count = row.map_or(0, |(_, count)| count);
    }
    let [before, after] = counts;
    // The second look is one of ours.
    Ok(after.saturating_sub(before).saturating_sub(1))
}

fn state_table(spec: &MigrationSpec) -> StateTable {
    StateTable::new(&spec.database, &spec.names().state)
}

type Task = (&'static str, Result<(), EngineError>);
const COPY: &str = "copy";
const VERIFICATION: &str = "verification";
const BUILD: &str = "index build";
/// The build did not stand the changes beside it.
const DISTURBED: &str = "index build, disturbed";

fn spawn(tasks: &mut JoinSet<Task>, name: &'static str, work: impl Future<Output = Result<(), EngineError>> + Send + 'static) {
    tasks.spawn(async move { (name, work.await) });
}

async fn stop_all(tasks: &mut JoinSet<Task>) {
    let joined = tokio::time::timeout(STOP_LIMIT, async { while tasks.join_next().await.is_some() {} }).await;
    if joined.is_err() {
        tasks.shutdown().await;
    }
}

/// What the streamer must look for.
///
/// # Errors
/// The key names a column that the table lacks: a bug.
pub fn watched(m: &Migration, server_id: u32) -> Result<Watched, EngineError> {
    let key = m
        .key
        .columns
        .iter()
        .map(|part| {
            let columns = &m.original.definition.columns;
            let ordinal = columns.iter().position(|c| c.name.eq_ignore_ascii_case(&part.original))?;
            let unsigned = matches!(columns[ordinal].column_type, crate::sql::table::ColumnType::Integer { unsigned: true, .. });
            Some(KeyColumn { ordinal, unsigned, has_default: inspector::has_plain_default(&columns[ordinal]) })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| EngineError::internal("the key names a column that the table lacks"))?;
    Ok(Watched {
        database: m.spec.database.clone(),
        table: m.original.definition.name.clone(),
        columns: m.original.definition.columns.clone(),
        key,
        codec: Arc::clone(&m.codec),
        key_defaults: Vec::new(),
        ghost: m.names.ghost.clone(),
        writer: Writer { address: m.spec.server.clone(), server_id, server_uuid: m.facts.uuid.clone() },
        names_ignore_case: m.facts.lower_case_table_names != 0,
    })
}

/// How far the stream is behind the end of the log.
#[derive(Default)]
struct Lag {
    /// An end of the log, and when it was read.
    target: Option<(crate::mysql::BinlogPosition, Instant)>,
    looked: Option<Instant>,
    known: Option<Duration>,
}

/// The part of an attempt after everything is started.
struct Run {
    migration: Arc<Migration>,
    record: Record,
    inbox: Arc<Inbox>,
    applier: Applier,
    control: Session,
    clock: Clock,
    publisher: Publisher,
    controls: watch::Receiver<Controls>,
    decided: watch::Receiver<Decision>,
    stop: CancellationToken,
    cancel: CancellationToken,
    flushed: watch::Sender<Flushed>,
    copier: Arc<Copier>,
    /// Copy workers that have not ended; those beyond `allowed` wait.
    copying: u16,
    /// A worker found nothing left to dispatch: no more of them are needed.
    copied: bool,
    /// The original's rows.
    count: Count,
    allowed: watch::Sender<u16>,
    /// How many workers there should be; `None` for a small table.
    pace: Option<Pace>,
    /// Since when the pace is being measured.
    window: Option<Instant>,
    /// The index build under way.
    index_build: Option<Changes>,
    /// How the next one is made.
    build_with: Changes,
    /// The verification's first whole pass, once it is under way.
    verified: Option<watch::Receiver<bool>>,
    /// Keeps the verification's reads out of the cut-over.
    quiet: Arc<RwLock<()>>,
    rate: Rate,
    lag: Lag,
    blockers: Blockers,
    /// Of the new table.
    statistics: Statistics,
    /// What the hooks say to an attempt.
    question: hooks::Question,
    /// Attempts at the cut-over that failed.
    failures: u32,
    next_cut_over: Instant,
    swap_announced: bool,
    /// Ends the verification under way, so that another one begins.
    comparing: CancellationToken,
}

impl Run {
    /// Until the swap (`Some`), or an interruption (`None`).
    async fn follow(&mut self, tasks: &mut JoinSet<Task>) -> Result<Option<()>, EngineError> {
        let mut last_cycle = Instant::now();
        let mut last_taken = usize::MAX;
        let mut last_deferred = false;
        loop {
            // 1. Wait for something to do.
            let pause = if self.copying > 0 { CYCLE_COPYING } else { CYCLE_TAIL };
            let due = last_cycle + pause;
            let resting = self.decided.borrow().apply.is_some() || self.index_build == Some(Changes::Held);
            let hurry = !last_deferred && (self.applier.backlog() >= CYCLE_KEYS || last_taken >= SMALL_BACKLOG && self.copying == 0);
            if resting || !hurry {
                tokio::select! {
                    () = self.stop.cancelled() => return Ok(None),
                    Some(done) = tasks.join_next() => self.joined(done)?,
                    changed = self.controls.changed() => {
                        if changed.is_err() {
                            return Ok(None);
                        }
                    }
                    // Its end is seen below, among the tasks.
                    Ok(()) = self.decided.changed() => {}
                    () = self.inbox.hurried(), if !resting => {}
                    () = tokio::time::sleep_until(due.into()) => {}
                }
            }
            while let Some(done) = tasks.try_join_next() {
                self.joined(done)?;
            }
            {
                let controls = self.controls.borrow_and_update();
                if controls.paused || controls.cancel || self.stop.is_cancelled() {
                    drop(controls);
                    return Ok(None);
                }
            }
            let held = self.decided.borrow_and_update().clone();
            if self.record.applier_stopped && !(held.may_copy() && gate(&self.controls.borrow(), (self.clock)()) == Gate::Open) {
                // A replica does not stand still for somebody who is waited for.
                self.apply_again(None).await?;
            }
            if held.apply.is_some() || self.index_build == Some(Changes::Held) {
                // Keys gather in the inbox; when it is full the stream waits.
                self.show(&held);
                self.window = None;
                self.applier.keep_alive().await?;
                last_cycle = Instant::now();
                self.report();
                continue;
            }
            self.count_rows(tasks).await?;
            if self.copying > 0 {
                self.measure(&held);
                self.keep_pace(tasks).await?;
                self.show(&held);
            }
            // 2. Flush.
            let (stop, controls) = (self.stop.clone(), self.controls.clone());
            let halt = move || {
                let controls = controls.borrow();
                stop.is_cancelled() || controls.paused || controls.cancel
            };
            let cycle = self.applier.cycle(&halt).await?;
            if cycle.halted {
                return Ok(None);
            }
            last_cycle = Instant::now();
            // One that was deferred is not repeated in haste: the stream must bring more first.
            last_deferred = cycle.deferred;
            last_taken = cycle.taken;
            self.flushed.send_replace(self.applier.total());
            if cycle.rebuilt {
                self.rebuilt().await?;
            }
            if let Some(notice) = cycle.notice {
                self.look_at(notice).await?;
            }
            self.look_at_lag().await?;
            self.report();
            if self.copying > 0 {
                continue;
            }
            // 3. The tail.
            self.applier.copy_complete();
            if !self.record.deferred_indexes.is_empty() {
                if self.index_build.is_none() {
                    self.publisher.phase(Phase::CatchingUp);
                    // A build cannot be held once it runs.
                    self.show(&held);
                    if held.copy.is_some() {
                        continue;
                    }
                    let (m, definitions, cancel) = (Arc::clone(&self.migration), self.record.deferred_indexes.clone(), self.cancel.clone());
                    let alone = self.width_found() == 1;
                    let changes = *self.index_build.insert(self.build_with);
                    tasks.spawn(async move {
                        match index_build::build(&m, &definitions, changes, alone, cancel).await {
                            Ok(Built::Done) => (BUILD, Ok(())),
                            Ok(Built::Disturbed) => (DISTURBED, Ok(())),
                            Err(error) => (BUILD, Err(error)),
                        }
                    });
                }
                // The build keeps one core busy and changes no row: the rows are compared meanwhile.
                self.verification(tasks);
                continue;
            }
            if !self.verification(tasks) {
                // What holds the copy holds the comparison, which reads both tables whole.
                self.show(&held);
                self.publisher.phase(Phase::Verifying);
                continue;
            }
            let caught_up =
                cycle.taken < SMALL_BACKLOG && !cycle.deferred && self.lag.known.is_some_and(|lag| lag < Duration::from_secs(2));
            let gathered = self.statistics(tasks);
            let gate = gate(&self.controls.borrow(), (self.clock)());
            let vetoed = gate == Gate::Open && self.publisher.cut_over().vetoed_by.is_some();
            if !vetoed {
                self.publisher.waits(gate.waits());
            }
            if gate != Gate::Open {
                self.blockers.forget();
            }
            match gate {
                _ if !caught_up || !gathered => {
                    self.publisher.throttle(None);
                    self.publisher.phase(Phase::CatchingUp);
                }
                Gate::NeedsApproval | Gate::OutsideWindows { .. } => {
                    self.publisher.throttle(None);
                    self.publisher.phase(Phase::AwaitingCutOver);
                }
                Gate::Throttled => {
                    self.show(&held);
                    self.publisher.phase(Phase::AwaitingCutOver);
                }
                Gate::Open => {
                    if !vetoed {
                        self.publisher.phase(Phase::CuttingOver);
                    }
                    self.show(&held);
                    // Tables are not locked on a server, or under replicas, that have enough to do.
                    if held.may_swap(&self.controls.borrow().limits) && Instant::now() >= self.next_cut_over && self.cut_over(tasks).await?
                    {
                        return Ok(Some(()));
                    }
                }
            }
        }
    }

    /// Starts the verification, and tells whether a first whole pass is done.
    fn verification(&mut self, tasks: &mut JoinSet<Task>) -> bool {
        if self.controls.borrow().verify == VerifyPolicy::Never {
            return true;
        }
        if self.comparing.is_cancelled() {
            // The former one is about to end.
            return false;
        }
        let cancel = &self.comparing;
        let readers = self.width_found();
        let verified = self.verified.get_or_insert_with(|| {
            let (verified, done) = watch::channel(false);
            let verifier = Verifier {
                migration: Arc::clone(&self.migration),
                inbox: Arc::clone(&self.inbox),
                flushed: self.flushed.subscribe(),
                decided: self.decided.clone(),
                publisher: self.publisher.clone(),
                quiet: Arc::clone(&self.quiet),
                readers,
                verified,
                computed_anew: Mutex::default(),
            };
            spawn(tasks, VERIFICATION, verifier.run(cancel.clone()));
            done
        });
        *verified.borrow()
    }

    /// Tells what holds the migration back, if anything does.
    fn show(&self, held: &Decision) {
        let held = held.copy.as_ref().map(|hold| (hold.reason, hold.detail.clone()));
        self.publisher.throttle(held.or_else(|| self.pressed()));
    }

    /// Changes that pile up hold copying as well.
    fn pressed(&self) -> Option<(&'static str, String)> {
        if self.copying == 0 || self.controls.borrow().workers > 0 {
            return None;
        }
        let pressure = self.pace.as_ref().map(Pace::pressure)?;
        let waiting = self.publisher.progress().backlog;
        match pressure {
            Pressure::None => None,
            Pressure::Shared => {
                Some((pace::BACKLOG_GROWS, format!("{waiting} changed rows are waiting to be applied; copying is paused half of the time")))
            }
            Pressure::Overwhelming => Some((
                pace::BACKLOG_GROWS,
                format!("{waiting} changed rows are waiting to be applied, and their number grows although copying is paused"),
            )),
        }
    }

    /// Ends a measurement when it is due, and begins the next. One in which something held the copy back says nothing.
    fn measure(&mut self, held: &Decision) {
        let Some(pace) = self.pace.as_mut() else { return };
        if !held.may_copy() {
            self.window = None;
            return;
        }
        let Some(began) = self.window else {
            self.applier.latencies();
            self.copier.done(true);
            self.window = Some(Instant::now());
            return;
        };
        let done = self.copier.done(false);
        let took = began.elapsed();
        // A few of each, so that one slow chunk is no measure; and not for ever.
        if took < pace::WINDOW || (done.chunks < pace::CHUNKS && took < 5 * pace::WINDOW) {
            return;
        }
        self.copier.done(true);
        let measured = pace::Window {
            rows: done.rows,
            worked: done.took,
            latency: pace::median(&mut self.applier.latencies()),
            backlog: self.applier.backlog() as u64,
        };
        pace.learn(&measured);
        tracing::debug!(?measured, now = ?pace.width(), "pace");
        self.window = Some(Instant::now());
    }

    /// How many connections may keep the server at work, as far as the copy has found out.
    fn width_found(&self) -> u16 {
        match (self.controls.borrow().workers, &self.pace) {
            (0, Some(pace)) => pace.proven(),
            (0, None) => 1,
            (asked, _) => asked,
        }
    }

    /// As many workers as there should be.
    async fn keep_pace(&mut self, tasks: &mut JoinSet<Task>) -> Result<(), EngineError> {
        let asked = self.controls.borrow().workers;
        let width = self.pace.as_ref().map(Pace::width);
        let allowed = match (asked, width) {
            // Rows are numbered in the order of the key.
            _ if self.migration.numbering.is_some() => 1,
            (0, Some(width)) => width.copy,
            (0, None) => 1,
            (asked, _) => asked,
        };
        if let Some(width) = width {
            self.applier.widen(width.flush).await?;
        }
        // Workers that are not needed any more wait for their turn, so numbers count up.
        while !self.copied && self.copying < allowed {
            spawn(tasks, COPY, Arc::clone(&self.copier).worker(self.copying, self.cancel.clone()));
            self.copying += 1;
        }
        self.allowed.send_if_modified(|now| std::mem::replace(now, allowed) != allowed);
        Ok(())
    }

    /// A task ended: copy workers and the index build do so when they are done, the others only by an error.
    fn joined(&mut self, done: Result<Task, tokio::task::JoinError>) -> Result<(), EngineError> {
        let (name, result) = done.map_err(|error| EngineError::internal(&format!("a task of the engine ended: {error}")))?;
        result?;
        match name {
            COPY => {
                self.copied = true;
                self.copying -= 1;
                if self.copying == 0 {
                    self.publisher.update(|s| {
                        s.progress.copy_complete = true;
                        s.progress.eta = None;
                    });
                }
                Ok(())
            }
            BUILD => {
                self.record.deferred_indexes.clear();
                self.index_build = None;
                Ok(())
            }
            DISTURBED => {
                self.build_with = Changes::Held;
                self.index_build = None;
                Ok(())
            }
            HOOKS | COUNT => Ok(()),
            VERIFICATION if self.comparing.is_cancelled() && !self.cancel.is_cancelled() => {
                self.verified = None;
                self.comparing = self.cancel.child_token();
                Ok(())
            }
            STATISTICS => {
                self.statistics = Statistics::Gathered;
                Ok(())
            }
            _ if self.cancel.is_cancelled() => Ok(()),
            name => Err(EngineError::transient(Reason::ConnectionFailed, &format!("the {name} ended"))),
        }
    }

    /// Someone else made the original's table anew, as OPTIMIZE TABLE does: the rows are the same, and those that are changed meanwhile are in
    /// the log as ever. It has another id from now on, by which the outcome of the swap and a successor know it.
    async fn rebuilt(&mut self) -> Result<(), EngineError> {
        let m = Arc::clone(&self.migration);
        let now = inspector::table(&mut self.control, &m.spec.database, &m.spec.table).await?.ok_or_else(|| definition_changed(&m))?;
        if crate::engine::table::definition::normalise(&now.show_create)? != self.record.original_definition {
            return Err(definition_changed(&m));
        }
        if now.table_id.is_some() && self.record.original_id.is_some() && now.table_id != self.record.original_id {
            tracing::info!(before = self.record.original_id, now = now.table_id, "someone else rebuilt the original table");
            self.record.original_id = now.table_id;
            m.state.store(self.applier.session(), m.epoch, &self.record, None).await?;
        }
        Ok(())
    }

    async fn look_at(&mut self, notice: StreamNotice) -> Result<(), EngineError> {
        let m = &self.migration;
        match notice {
            StreamNotice::StatementDml => Err(EngineError::terminal(
                Reason::StatementLogged,
                &format!(
                    "a statement that may have changed {} was logged as text (a session with binlog_format=STATEMENT), so it is unknown which rows changed. The original is untouched; retry to start over, or delete the migration",
                    m.original_name()
                ),
            )),
            StreamNotice::GhostWritten => Err(EngineError::terminal(
                Reason::GhostWritten,
                &format!(
                    "someone else wrote to the ghost table {}, or changed, renamed or dropped it, so it no longer matches the original. The original is untouched and was not swapped; find out who did it, then retry to start over, or delete the migration",
                    m.ghost_name()
                ),
            )),
            StreamNotice::Replaced => Err(replaced(m)),
            StreamNotice::Truncated => Err(truncated(m)),
            StreamNotice::Rebuilt => self.rebuilt().await,
            StreamNotice::Ddl => {
                let now = inspector::table(&mut self.control, &m.spec.database, &m.spec.table).await?;
                let Some(now) = now else { return Err(definition_changed(m)) };
                cutover::unchanged(&now.show_create, &self.record.original_definition, || definition_changed(m))?;
                // The same definition again, of another table, or after an ALTER that made all rows anew.
                if sight::replaced(self.record.original_id, now.table_id) {
                    return Err(replaced(m));
                }
                // Triggers and foreign keys of others follow the old table, and its definition does not show them.
                sight::relations(&mut self.control, &m.spec.database, &m.spec.table).await.map_err(cutover::came_meanwhile)
            }
        }
    }

    async fn look_at_lag(&mut self) -> Result<(), EngineError> {
        let received = self.inbox.follow().borrow().clone();
        if let Some((target, read)) = &self.lag.target {
            if received >= *target {
                self.lag.known = Some(Duration::ZERO);
                self.lag.target = None;
            } else {
                self.lag.known = Some(read.elapsed());
            }
        }
        if self.lag.target.is_none() && self.lag.looked.is_none_or(|at| at.elapsed() >= LAG_EVERY) {
            let (end, _) = self.migration.facts.log_end(&mut self.control).await?;
            self.lag.looked = Some(Instant::now());
            if received >= end {
                self.lag.known = Some(Duration::ZERO);
            } else {
                self.lag.target = Some((end, Instant::now()));
            }
        }
        Ok(())
    }

    fn report(&mut self) {
        let (_, seen) = self.inbox.counts();
        let backlog = self.applier.backlog();
        let applied = self.applier.total().applied;
        let lag = self.lag.known;
        let copying = self.copying;
        let workers = copying.min(*self.allowed.borrow());
        let progress = self.publisher.progress();
        let eta = if copying > 0 {
            self.rate.eta(Instant::now(), self.publisher.throttled(), progress.rows_copied, progress.rows_estimated)
        } else {
            None
        };
        self.publisher.update(|s| {
            s.progress.changes_seen = seen;
            s.progress.changes_applied = applied;
            s.progress.backlog = backlog as u64;
            s.progress.binlog_lag = lag;
            s.progress.eta = eta;
            s.progress.copy_workers = workers;
        });
    }

    /// The next engine must start anew.
    async fn forget(&mut self) {
        self.record.stage = Stage::Preparing;
        let m = Arc::clone(&self.migration);
        if let Err(error) = m.state.store(&mut self.control, m.epoch, &self.record, None).await {
            tracing::warn!("could not mark the state table for a fresh start: {error}");
        }
    }
}
