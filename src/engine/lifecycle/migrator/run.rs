//! The part of an attempt that copies and follows, after everything is prepared: starts the tasks, gathers what is to be seen, does what
//! [`next()`] says, and sleeps until something of that can change.

use super::Environment;
use super::counting::{COUNT, Count};
use super::swapping::STATISTICS;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::notice;
use crate::engine::contract::progress::{Publisher, Rate, Tally};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::{Phase, Revert};
use crate::engine::contract::spec::{Controls, VerifyPolicy};
use crate::engine::cutover::{Clock, Gate, gate_of};
use crate::engine::lifecycle::approach::{Approach, HOOKS, Task};
use crate::engine::lifecycle::next::{self, Comparison, Indexes, LastCycle, Rows, Search, Seen, State, Statistics, Step, next};
use crate::engine::lifecycle::prepare::Ready;
use crate::engine::outside::hooks;
use crate::engine::rows::applier::{Applier, Flushed};
use crate::engine::rows::copier::Copier;
use crate::engine::rows::inbox::Inbox;
use crate::engine::rows::index_build::{self, Built, Changes};
use crate::engine::rows::migration::Migration;
use crate::engine::rows::orphans;
use crate::engine::rows::pace::{self, Pace};
use crate::engine::rows::streamer::Streamer;
use crate::engine::rows::verifier::{Pass, Verifier};
use crate::engine::rows::watched::watched_tables;
use crate::engine::state::fence::keep_lock;
use crate::engine::state::record::{Record, Stage};
use crate::engine::table::inspector;
use crate::engine::throttle;
use crate::engine::throttle::decide::Decision;
use crate::mysql::server::ServerFacts;
use crate::mysql::session::SHORT;
use crate::mysql::{BinlogPosition, Session};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Memory for dirty keys: some 300 000 small ones. Past it the stream waits. While as many are being applied, the same again is filled.
const DIRTY_LIMIT: usize = 24 << 20;
/// Rows under which one worker of each kind is enough.
const SMALL_TABLE: u64 = 5_000;
/// A log that grows by less than this between two looks has heartbeats of ours and little else in it: one takes 376 bytes (measured on MySQL
/// 9.7, short names), so this is half a minute of five a second. Beyond it the end of the log is read each second, as for a busy one: one
/// short statement.
const LITTLE_LOG: u64 = 64 << 10;

/// Names of tasks, by which their ends are known.
pub(super) const COPY: &str = "copy";
const SEARCH: &str = "search for rows without a parent";
const VERIFICATION: &str = "verification";
const BUILD: &str = "index build";
/// The build did not stand the changes beside it.
const DISTURBED: &str = "index build, disturbed";

/// What an attempt gets from the driver of all attempts.
pub(super) struct Surroundings {
    pub publisher: Publisher,
    pub tally: Tally,
    pub controls: watch::Receiver<Controls>,
    pub environment: Environment,
    /// A graceful stop: the work is kept.
    pub stop: CancellationToken,
    /// Ends the tasks of this attempt.
    pub cancel: CancellationToken,
    pub approach: Approach,
}

/// How far the stream is behind the end of the log.
#[derive(Default)]
struct Lag {
    /// An end of the log, and when it was read.
    target: Option<(BinlogPosition, Instant)>,
    read: Option<Instant>,
    /// How far the stream was then.
    received: BinlogPosition,
    known: Option<Duration>,
}

/// The part of an attempt after everything is started. Its tasks live in the [`JoinSet`] that its methods are given: the caller stops them.
pub(super) struct Run {
    pub(super) migration: Arc<Migration>,
    /// As it is in the state table, or is stored next.
    pub(super) record: Record,
    /// What the driver has done.
    pub(super) state: State,
    pub(super) approach: Approach,
    pub(super) inbox: Arc<Inbox>,
    /// Flushes in the driver itself, so that nothing is written to the ghost while the tables are locked.
    pub(super) applier: Applier,
    /// For everything but rows.
    pub(super) control: Session,
    pub(super) clock: Clock,
    pub(super) publisher: Publisher,
    pub(super) tally: Tally,
    pub(super) controls: watch::Receiver<Controls>,
    pub(super) decided: watch::Receiver<Decision>,
    /// A graceful stop; the tasks go on until the driver has left.
    pub(super) stop: CancellationToken,
    /// Ends all tasks.
    pub(super) cancel: CancellationToken,
    /// Tells whoever waits for a cycle; closed when the driver leaves.
    flushed: watch::Sender<Flushed>,
    /// Nobody needs to read anything for this migration.
    resting: watch::Sender<bool>,
    pub(super) copier: Arc<Copier>,
    /// Copy workers that have not ended; those beyond `allowed` wait.
    pub(super) copying: u16,
    /// A worker found nothing left to dispatch: no more of them are needed.
    pub(super) copied: bool,
    /// The original's rows; ends when this is dropped.
    pub(super) count: Count,
    pub(super) allowed: watch::Sender<u16>,
    /// How many workers there should be; `None` for a small table.
    pub(super) pace: Option<Pace>,
    /// Since when the pace is being measured.
    pub(super) measuring: Option<Instant>,
    /// How the deferred indexes are built.
    build_with: Changes,
    /// The search under way is followed by another one.
    searching_again: bool,
    /// How far the verification is, once it is under way.
    pass: Option<watch::Receiver<Pass>>,
    /// Ends the verification under way, so that another one begins; a child of `cancel`.
    comparing: CancellationToken,
    /// Keeps the verification's reads out of the cut-over.
    pub(super) quiet: Arc<RwLock<()>>,
    rate: Rate,
    lag: Lag,
    clean_since: Instant,
    hurried: bool,
    /// It was told that the backlog stays large.
    stuck: bool,
    /// The next engine must look whether the swap happened.
    pub(super) swap_announced: bool,
    /// The window in which the change could be taken back has ended.
    pub(super) closed: bool,
}

impl Run {
    /// Starts the tasks.
    ///
    /// # Errors
    /// The server's; the log is gone.
    pub(super) async fn start(
        ready: Ready,
        mut control: Session,
        guard: Session,
        around: Surroundings,
        tasks: &mut JoinSet<Task>,
    ) -> Result<Self, EngineError> {
        let Ready { migration, record, board, chunks, rows_estimated, start, safe, applied } = ready;
        let Surroundings { publisher, tally, controls, environment: Environment { clock, chunk_rows }, stop, cancel, approach } = around;
        tally.count(|counts| {
            let progress = &mut counts.progress;
            // Where it starts anew, what was copied before does not count.
            progress.rows_copied = chunks.iter().map(|(_, chunk)| chunk.rows).sum();
            progress.chunks = chunks.len() as u64;
            progress.rows_estimated = rows_estimated;
            progress.changes_applied = applied;
            progress.copy_complete = migration.turned.is_some();
        });
        let (log_end, _) = migration.facts.log_end(&mut control).await?;
        let inbox = Arc::new(Inbox::new(safe.point(), DIRTY_LIMIT));
        let server_id = ServerFacts::server_id(&mut control).await?;
        let mut watched = watched_tables(&migration, server_id)?;
        watched.key_defaults =
            inspector::key_defaults(&mut control, &migration.spec.database, &migration.original.definition, &migration.codec).await?;
        // What was written to the ghost before may be a former engine's, unless there was none.
        let untouched = migration.turned.as_ref().is_some_and(|turned| turned.untouched);
        let strangers_from = if untouched { &safe.position } else { &log_end };
        let streamer = Streamer::open(&migration.spec.server, start, strangers_from, watched, Arc::clone(&inbox)).await?;
        spawn(tasks, "binlog stream", streamer.run(cancel.clone()));
        spawn(tasks, "guard", keep_lock(guard, cancel.clone()));
        let (resting, rests) = watch::channel(false);
        let (decided, throttler) = throttle::start(
            &migration.spec.server,
            &migration.facts.uuid,
            migration.state.clone(),
            migration.ghost_name(),
            controls.clone(),
            rests,
            (publisher.clone(), tally.clone()),
            cancel.clone(),
        );
        spawn(tasks, "throttler", throttler);

        let board = Arc::new(Mutex::new(board));
        let records = Arc::new(Mutex::new(Vec::new()));
        let pace = if record.rows_estimated < SMALL_TABLE {
            None
        } else {
            // Where the workers are given, nobody asks what the server can take.
            let given = controls.borrow().workers > 0;
            Some(Pace::beside(if given { 0 } else { statements_of_others(&mut control).await? }))
        };
        let applier = Applier::open(
            Arc::clone(&migration),
            Arc::clone(&inbox),
            Arc::clone(&board),
            Arc::clone(&records),
            pace.as_ref().map_or(1, |pace| pace.width().flush),
            safe.point(),
            // Their keys are of the change, and they are done.
            if migration.turned.is_some() { &[] } else { chunks.as_slice() },
            applied,
        )
        .await?;
        let (flushed, _) = watch::channel(applier.total());
        let (allowed, allowing) = watch::channel(0);
        let copier = Arc::new(Copier::new(
            Arc::clone(&migration),
            Arc::clone(&board),
            Arc::clone(&inbox),
            controls.clone(),
            allowing,
            decided.clone(),
            tally.clone(),
            records,
            chunk_rows,
        ));
        let now = Instant::now();
        let copied = migration.turned.is_some();
        let rows = Rows {
            copying: migration.turned.is_none(),
            indexes: if record.deferred_indexes.is_empty() { Indexes::Built } else { Indexes::Deferred },
            comparison: Comparison::NotStarted,
            search: if migration.demands.is_empty() { Search::Done } else { Search::NotStarted },
            statistics: Statistics::None,
            applier_stopped: record.applier_stopped,
            cycle: LastCycle { at: now, taken: usize::MAX, deferred: false, alone: Duration::ZERO, large_since: None },
        };
        let mut run = Self {
            migration,
            record,
            state: State { rows: Some(rows), consent: next::Consent::Free, vetoed: approach.is_vetoed(), next_attempt: now },
            approach,
            inbox,
            applier,
            control,
            clock,
            rate: Rate::new(now, publisher.throttled(), tally.progress().rows_copied),
            publisher,
            tally,
            controls,
            decided,
            stop,
            comparing: cancel.child_token(),
            cancel,
            flushed,
            resting,
            copier,
            copying: 0,
            copied,
            closed: false,
            count: Count::None,
            allowed,
            pace,
            measuring: None,
            build_with: Changes::Applied,
            searching_again: false,
            pass: None,
            quiet: Arc::default(),
            lag: Lag::default(),
            clean_since: now,
            hurried: false,
            stuck: false,
            swap_announced: false,
        };
        run.keep_pace(tasks).await?;
        Ok(run)
    }

    /// The rows' part of the state.
    pub(super) fn rows(&mut self) -> Result<&mut Rows, EngineError> {
        self.state.rows.as_mut().ok_or_else(|| EngineError::internal("a copy has no rows"))
    }

    /// Until the swap (`true`), or an interruption.
    ///
    /// # Errors
    /// Whatever ends the attempt.
    pub(super) async fn run_to_swap(&mut self, tasks: &mut JoinSet<Task>) -> Result<bool, EngineError> {
        loop {
            while let Some(done) = tasks.try_join_next() {
                self.joined(done)?;
            }
            if self.window_is_over() {
                self.closed = true;
                return Ok(false);
            }
            let (seen, held) = self.gather()?;
            if !seen.interrupted && !seen.apply_held {
                self.count_rows(tasks).await?;
                if self.copying > 0 {
                    self.measure(&held);
                    self.keep_pace(tasks).await?;
                } else {
                    self.applier.copy_complete();
                }
            } else {
                self.measuring = None;
            }
            let step = next(&self.state, &seen);
            self.show(&seen, &held);
            match step {
                Step::Interrupt => return Ok(false),
                Step::StartApplier => self.apply_again(None).await?,
                Step::Flush => {
                    if !self.flush().await? {
                        return Ok(false);
                    }
                }
                Step::ReadLag => self.read_lag().await?,
                Step::BuildIndexes => self.build_indexes(tasks)?,
                Step::Search => self.search(tasks)?,
                Step::Compare => self.compare(tasks)?,
                Step::GatherStatistics => self.gather_statistics(tasks)?,
                Step::Attempt => {
                    if self.cut_over(tasks).await? {
                        return Ok(true);
                    }
                }
                Step::Wait(until) => {
                    self.applier.keep_alive().await?;
                    if !self.sleep(until, &seen, tasks).await? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// All that the next step depends on, and what the throttler says.
    fn gather(&mut self) -> Result<(Seen, Decision), EngineError> {
        let now = Instant::now();
        let held = self.decided.borrow_and_update().clone();
        let (interrupted, gate, may_swap, hooks, verify, lock_timeout) = {
            let controls = self.controls.borrow_and_update();
            (
                controls.paused || controls.cancel || self.stop.is_cancelled(),
                gate_of(&self.migration, &controls, (self.clock)()),
                // The load may be what the change is taken back for.
                self.migration.turned.is_some() || held.may_swap(&controls.limits),
                hooks::asks(&controls.hooks),
                controls.verify != VerifyPolicy::Never,
                controls.lock_timeout,
            )
        };
        if gate != Gate::Open {
            self.approach.blockers.forget();
        }
        // In this order: a change that counts as seen is in the backlog, or applied.
        let (_, changes_seen) = self.inbox.counts();
        let dirty = self.applier.backlog();
        if dirty > 0 {
            self.clean_since = now;
        }
        let received = self.inbox.position();
        if let Some((target, read)) = &self.lag.target {
            if received >= *target {
                self.lag.known = Some(Duration::ZERO);
                self.lag.target = None;
            } else {
                self.lag.known = Some(read.elapsed());
            }
        }
        let log_grew = received.file != self.lag.received.file || received.offset.saturating_sub(self.lag.received.offset) > LITTLE_LOG;
        self.state.consent = self.approach.consent(now, "cut-over", &self.publisher);
        self.state.vetoed = self.approach.is_vetoed();
        self.state.next_attempt = self.approach.next_attempt(now);
        let (copying, applier_stopped) = (self.copying > 0, self.record.applier_stopped);
        let pass = self.pass.as_mut().map(|pass| *pass.borrow_and_update());
        let ending = self.comparing.is_cancelled();
        let turned = self.migration.turned.is_some();
        let rows = self.rows()?;
        rows.copying = copying;
        rows.applier_stopped = applier_stopped;
        rows.comparison = match pass {
            _ if !verify => Comparison::Off,
            _ if ending => Comparison::Ending,
            None => Comparison::NotStarted,
            // Both were the same at the swap, and who takes a change back may not have the time that a pass takes.
            Some(Pass::First) if turned => Comparison::Passed { at_rest: false },
            Some(Pass::First) => Comparison::FirstPass,
            Some(pass) => Comparison::Passed { at_rest: pass == Pass::Rest },
        };
        let seen = Seen {
            now,
            interrupted,
            gate,
            lock_timeout,
            may_copy: held.may_copy(),
            held: held.copy.is_some(),
            apply_held: held.apply.is_some(),
            may_swap,
            hooks,
            changes_seen,
            dirty,
            clean_since: self.clean_since,
            hurried: self.hurried || self.inbox.noticed(),
            lag: self.lag.known,
            lag_awaited: self.lag.target.is_some(),
            lag_read: self.lag.read,
            log_grew,
        };
        let calm = next::calm(&self.state, &seen);
        self.resting.send_if_modified(|resting| std::mem::replace(resting, calm) != calm);
        Ok((seen, held))
    }

    /// Until this time, or until something that was seen may have changed. False: nobody steers any more.
    async fn sleep(&mut self, until: Instant, seen: &Seen, tasks: &mut JoinSet<Task>) -> Result<bool, EngineError> {
        let idle = seen.dirty == 0 && !seen.hurried && !seen.apply_held;
        let pass = async {
            match &mut self.pass {
                Some(pass) => pass.changed().await,
                None => std::future::pending().await,
            }
        };
        // All are cancel-safe: nothing is taken before the branch is chosen, and a task that ends is given back by its handle.
        tokio::select! {
            () = self.stop.cancelled() => {}
            Some(done) = tasks.join_next() => self.joined(done)?,
            changed = self.controls.changed() => return Ok(changed.is_ok()),
            // Its end is seen among the tasks.
            Ok(()) = self.decided.changed() => {}
            Ok(()) = pass => {}
            () = self.inbox.hurried(), if !seen.apply_held => self.hurried = true,
            () = self.inbox.news(), if idle => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
        Ok(true)
    }

    /// One flush cycle. False: interrupted in it.
    async fn flush(&mut self) -> Result<bool, EngineError> {
        let (stop, controls) = (self.stop.clone(), self.controls.clone());
        let halt = move || {
            let controls = controls.borrow();
            stop.is_cancelled() || controls.paused || controls.cancel
        };
        self.hurried = false;
        let began = Instant::now();
        let cycle = self.applier.cycle(&halt).await?;
        if cycle.halted {
            return Ok(false);
        }
        let alone = began.elapsed() * self.applier.connections();
        let rows = self.rows()?;
        rows.cycle = rows.cycle.then(Instant::now(), cycle.taken, cycle.deferred, alone, rows.copying);
        if cycle.taken > 0 {
            self.clean_since = Instant::now();
        }
        self.flushed.send_replace(self.applier.total());
        if cycle.rebuilt {
            self.rebuilt().await?;
        }
        if let Some(notice) = cycle.notice {
            self.look_at(notice).await?;
        }
        if let Some(notice) = cycle.parent {
            self.look_at_parents(notice).await?;
        }
        Ok(true)
    }

    async fn read_lag(&mut self) -> Result<(), EngineError> {
        let (end, _) = self.migration.facts.log_end(&mut self.control).await?;
        let received = self.inbox.position();
        let now = Instant::now();
        if received >= end {
            self.lag.known = Some(Duration::ZERO);
        } else {
            self.lag.target = Some((end, now));
        }
        (self.lag.read, self.lag.received) = (Some(now), received);
        Ok(())
    }

    /// The end of the log is read once more before an attempt.
    pub(super) fn forget_lag(&mut self) {
        self.lag.read = None;
    }

    /// Ends the comparison under way, if there is one: another one begins.
    pub(super) fn end_comparison(&self) {
        if self.pass.is_some() {
            self.comparing.cancel();
        }
    }

    fn build_indexes(&mut self, tasks: &mut JoinSet<Task>) -> Result<(), EngineError> {
        let (m, definitions, cancel) = (Arc::clone(&self.migration), self.record.deferred_indexes.clone(), self.cancel.clone());
        let (alone, changes) = (self.width_found() == 1, self.build_with);
        self.rows()?.indexes = Indexes::Building { held: changes == Changes::Held };
        tasks.spawn(async move {
            match index_build::build(&m, &definitions, changes, alone, cancel).await {
                Ok(Built::Done) => (BUILD, Ok(())),
                Ok(Built::Disturbed) => (DISTURBED, Ok(())),
                Err(error) => (BUILD, Err(error)),
            }
        });
        Ok(())
    }

    /// Starts looking for rows that the new foreign keys forbid.
    fn search(&mut self, tasks: &mut JoinSet<Task>) -> Result<(), EngineError> {
        self.applier.search_begins();
        let (m, inbox, decided) = (Arc::clone(&self.migration), Arc::clone(&self.inbox), self.decided.clone());
        spawn(tasks, SEARCH, orphans::search(m, inbox, decided, self.cancel.clone()));
        self.rows()?.search = Search::UnderWay;
        Ok(())
    }

    /// What a search has seen, or will have seen when it ends, is not enough.
    pub(super) fn search_again(&mut self) -> Result<(), EngineError> {
        let rows = self.rows()?;
        match rows.search {
            Search::UnderWay => self.searching_again = true,
            Search::Done => rows.search = Search::NotStarted,
            Search::NotStarted => {}
        }
        Ok(())
    }

    /// Starts the verification.
    fn compare(&mut self, tasks: &mut JoinSet<Task>) -> Result<(), EngineError> {
        let (pass, watched) = watch::channel(Pass::First);
        let verifier = Verifier {
            migration: Arc::clone(&self.migration),
            inbox: Arc::clone(&self.inbox),
            flushed: self.flushed.subscribe(),
            decided: self.decided.clone(),
            tally: self.tally.clone(),
            quiet: Arc::clone(&self.quiet),
            readers: self.width_found(),
            pass,
            computed_anew: Mutex::default(),
        };
        spawn(tasks, VERIFICATION, verifier.run(self.comparing.clone()));
        self.pass = Some(watched);
        self.rows()?.comparison = Comparison::FirstPass;
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
            }
            BUILD => {
                self.record.deferred_indexes.clear();
                self.rows()?.indexes = Indexes::Built;
            }
            DISTURBED => {
                self.build_with = Changes::Held;
                self.rows()?.indexes = Indexes::Deferred;
            }
            SEARCH => {
                let again = std::mem::take(&mut self.searching_again);
                self.rows()?.search = if again { Search::NotStarted } else { Search::Done };
            }
            HOOKS | COUNT => {}
            VERIFICATION if self.comparing.is_cancelled() && !self.cancel.is_cancelled() => {
                self.pass = None;
                self.comparing = self.cancel.child_token();
            }
            STATISTICS => self.rows()?.statistics = Statistics::Gathered,
            _ if self.cancel.is_cancelled() => {}
            name => return Err(EngineError::transient(Reason::ConnectionFailed, &format!("the {name} ended"))),
        }
        Ok(())
    }

    /// Derives what people see from what is known here. The one place while rows are copied and followed.
    pub(super) fn show(&mut self, seen: &Seen, held: &Decision) {
        let by = held.copy.as_ref().map(|hold| (hold.reason, hold.detail.clone())).or_else(|| self.pressed(seen.dirty));
        let by = by.filter(|_| next::shows_throttle(&self.state, seen));
        let applied = self.applier.total().applied;
        let workers = self.copying.min(*self.allowed.borrow());
        let copied = self.copying == 0;
        let throttled = self.publisher.throttled();
        let rate = &mut self.rate;
        self.tally.count(|counts| {
            let progress = &mut counts.progress;
            progress.changes_seen = seen.changes_seen;
            progress.changes_applied = applied;
            progress.backlog = seen.dirty as u64;
            progress.binlog_lag = seen.lag;
            progress.copy_workers = workers;
            progress.copy_complete = copied;
            progress.eta = if copied { None } else { rate.eta(seen.now, throttled, progress.rows_copied, progress.rows_estimated) };
        });
        let stuck = self.state.rows.as_ref().and_then(|rows| next::stuck(rows, seen));
        if let Some(why) = stuck.as_ref().filter(|_| !self.stuck) {
            self.publisher.notice(notice::BACKLOG_STAYS_LARGE, true, why.clone());
        }
        self.stuck = stuck.is_some();
        let (mut phase, cut_over) = (next::phase(&self.state, seen), self.approach.shown(next::waits(&self.state, seen)));
        let revert = self.window_end().map(|until| Revert::Possible { until });
        if revert.is_some() && phase != Phase::CuttingOver {
            phase = Phase::Revertible;
        }
        self.publisher.show(by, |s| {
            (s.phase, s.cut_over, s.stuck) = (phase, cut_over, stuck);
            if revert.is_some() {
                s.revert = revert;
            }
        });
    }

    /// The next engine must start anew.
    pub(super) async fn forget(&mut self) {
        self.record.stage = Stage::Preparing;
        let m = Arc::clone(&self.migration);
        if let Err(error) = m.state.store(&mut self.control, m.epoch, &self.record, None).await {
            tracing::warn!("could not mark the state table for a fresh start: {error}");
        }
    }
}

pub(super) fn spawn(tasks: &mut JoinSet<Task>, name: &'static str, work: impl Future<Output = Result<(), EngineError>> + Send + 'static) {
    tasks.spawn(async move { (name, work.await) });
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
