//! What the operator remembers of one migration, and its engine if it has one.
//!
//! Memory wins over the object: the object in the watch cache may be older than what was written a moment ago. Only when there is no memory
//! (after a start) is the status read back, by [`Entry::adopt`].
use super::ahead::Lookout;
use super::backoff::Attempts;
use super::queue::Ticket;
use super::state::{Consequence, End, State, Success, Trouble, WayBack, consequence};
use super::wake::Wakers;
use crate::api::conditions::NO_WINDOW;
use crate::api::conditions::{READY, REVERT_POSSIBLE, STALLED, SUCCEEDED, Truth, VALIDATED, find, is};
use crate::api::schema_migration::{Mode, ReplicasSpec, SchemaMigration};
use crate::api::status::{AfterStatus, SchemaMigrationStatus, TablesStatus};
use crate::engine::contract::notice;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::{Outcome, Phase, Revert, Snapshot, Waits};
use crate::engine::contract::spec::{Controls, DeletionPolicy, MigrationSpec};
use crate::engine::{self, Handle};
use crate::telemetry::{Metrics, MigrationSample};
use k8s_openapi::jiff::Timestamp;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// An engine that has dropped its snapshot channel is about to end; more than this means that it hangs.
const JOIN_LIMIT: Duration = Duration::from_secs(30);
/// The attendant ends with the engine's channel; more than this means that a dropped engine has not let go of it.
const ATTENDANT_LIMIT: Duration = Duration::from_secs(5);
/// Metrics are scraped every 15 s or so: more samples than this are not seen.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// For so long a missing Secret is thought to be on its way; after that someone has to look.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is remembered of one migration.
pub struct Entry {
    /// Where it is.
    pub state: State,
    /// The engine that works for it.
    pub engine: Option<Engine>,
    /// The last thing that an engine said, also one that has ended since.
    pub snapshot: Option<Snapshot>,
    /// Whether an engine ever worked for it; what is left may then have to be dropped.
    pub begun: bool,
    /// Whether the inspector has ever accepted it.
    pub validated: bool,
    /// Whether the change can be taken back.
    pub way_back: WayBack,
    /// When it first got to work.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
    /// The tables that are there.
    pub tables: TablesStatus,
    /// What became of those that it has to wait for.
    pub after: AfterStatus,
    /// The retry token that is not acted upon any more.
    pub handled_retry: String,
    /// The force token that is not acted upon any more.
    pub handled_force: String,
    /// The status as last written.
    pub written: SchemaMigrationStatus,
    /// The version that the object had then.
    pub written_version: Option<u64>,
    /// When that was; `None` before the first time in this process.
    pub written_at: Option<Instant>,
    /// How to ask for a place in the queue.
    pub ticket: Option<Ticket>,
    /// What the `MySQLServer` said of its replicas when it was last looked at.
    pub replicas: ReplicasSpec,
    /// The engine is there but has no slot: the reason.
    pub waits_for_slot: Option<String>,
    /// What is known ahead of its turn, while it is queued.
    pub ahead: Option<Lookout>,
    /// Failures in a row of what is tried without an engine.
    pub attempts: Attempts,
    /// Since when it has been failing.
    pub failing_since: Option<Instant>,
    /// No new engine before this.
    pub not_before: Option<Instant>,
    /// Dropping the tables was given up, since one of them is not ours.
    pub gave_up_dropping: bool,
    /// Since when this process has been cleaning up for the object's deletion.
    pub deleting_since: Option<Instant>,
    /// The finalizer was taken away: the object is as good as gone.
    pub released: bool,
    /// Session and number of the engine's last notice that became an Event.
    pub noticed: (String, u64),
}

impl Entry {
    /// What the object itself says, after a start of the operator.
    pub fn adopt(object: &SchemaMigration) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.as_ref().map(|time| time.0);
        Self {
            state: end_of(&status, object.spec.mode).map_or(State::New, State::Ended),
            engine: None,
            snapshot: None,
            begun: status.started_at.is_some(),
            validated: is(&status.conditions, VALIDATED, Truth::True),
            way_back: way_back_of(&status),
            started_at: time(&status.started_at),
            completed_at: time(&status.completed_at),
            tables: status.tables.clone().unwrap_or_default(),
            after: status.after.clone().unwrap_or_default(),
            handled_retry: status.handled_tokens.clone().unwrap_or_default().retry,
            handled_force: status.handled_tokens.clone().unwrap_or_default().force_cut_over,
            ticket: status.server.clone().map(|server| ticket(object, server, usize::MAX)),
            replicas: ReplicasSpec::default(),
            written: status,
            written_version: None,
            written_at: None,
            waits_for_slot: None,
            ahead: None,
            attempts: Attempts::default(),
            failing_since: None,
            not_before: None,
            gave_up_dropping: false,
            deleting_since: None,
            released: false,
            noticed: (String::new(), 0),
        }
    }

    /// Takes over what the engine says, and its end. `pause` says whether a stop is what was wanted.
    pub async fn observe(&mut self, pause: bool, now: Timestamp) {
        let Some(engine) = &mut self.engine else { return };
        let snapshot = engine.snapshot.borrow_and_update().clone();
        // The sender is dropped when the engine's task ends.
        let over = engine.handle.is_finished() || engine.snapshot.has_changed().is_err();
        self.take_over(snapshot);
        if self.way_back.is_made() {
            // What people wait for is done.
            self.completed_at.get_or_insert(now);
        }
        if over && let Some(engine) = self.engine.take() {
            let ended = engine.join().await;
            self.conclude(ended, pause, now);
        }
    }

    pub(crate) fn take_over(&mut self, snapshot: Snapshot) {
        self.validated |= snapshot.validated;
        if let Some(token) = &snapshot.cut_over.handled_force {
            self.handled_force.clone_from(token);
        }
        if !snapshot.tables.ghost.is_empty() || !snapshot.tables.state.is_empty() {
            self.tables = tables(&snapshot, snapshot.phase == Phase::CleaningUp || snapshot.revert.is_some());
        }
        if let Some(revert) = &snapshot.revert {
            self.way_back = revert.into();
        }
        self.snapshot = Some(snapshot);
    }

    /// What the end of an engine means.
    pub fn conclude(&mut self, ended: EngineEnd, pause: bool, now: Timestamp) {
        let EngineEnd { outcome, snapshot, orphans } = ended;
        tracing::info!(?outcome, "an engine has ended");
        let made = tables(&snapshot, true);
        let made_before = self.way_back.is_made();
        self.take_over(snapshot);
        self.waits_for_slot = None;
        let consequence = match consequence(outcome, self.validated) {
            // The change is made: what cannot be done any more is to take it back.
            Consequence::Ends(End::Failed { reason, message } | End::Refused { reason, message }) if made_before => {
                self.way_back = WayBack::Over { reason, message };
                Consequence::Ends(End::Succeeded(Success::Changed))
            }
            Consequence::Ends(End::Cancelled { .. }) if made_before => {
                self.way_back = WayBack::Over { reason: "Cancelled".to_owned(), message: "cancelled in its revert window".to_owned() };
                Consequence::Ends(End::Succeeded(Success::Changed))
            }
            other => other,
        };
        match consequence {
            Consequence::Ends(end) => {
                self.tables = match &end {
                    // A dry run has dropped what it made, a refusal made nothing, a cancelled one cleaned up unless it was told not to.
                    End::Succeeded(Success::Proven) | End::Refused { .. } => TablesStatus::default(),
                    End::Cancelled { .. } if !orphans => TablesStatus::default(),
                    End::Succeeded(Success::Changed | Success::Reverted) => TablesStatus { ghost: String::new(), ..made },
                    // A test leaves the new table where another change leaves the old one.
                    End::Succeeded(Success::Tested) | End::Cancelled { .. } | End::Failed { .. } => {
                        TablesStatus { old: String::new(), ..made }
                    }
                    End::Unknown { .. } => made,
                };
                self.end(end, now);
            }
            Consequence::Stopped if pause => self.state = State::Paused,
            Consequence::Stopped => self.trouble(Reason::Internal, "the engine stopped without being told to".to_owned(), now),
            Consequence::TryAgain { reason, message } => self.trouble(reason, message, now),
        }
    }

    /// It is over.
    pub fn end(&mut self, end: End, now: Timestamp) {
        // The end of a revert window is no other end than the swap was.
        let known = self.completed_at.filter(|_| end == End::Succeeded(Success::Changed));
        self.completed_at = known.or(Some(now));
        self.state = State::Ended(end);
        self.well();
    }

    /// Something went wrong that is tried again.
    pub fn trouble(&mut self, reason: Reason, message: String, now: Timestamp) {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let patience_left = PATIENCE.saturating_sub(since.elapsed());
        // One attempt comes when the patience ends: otherwise it would be up to a minute later that help is asked for.
        let delay = match self.attempts.failed() {
            delay if patience_left.is_zero() => delay,
            delay => delay.min(patience_left),
        };
        self.not_before = Some(Instant::now() + delay);
        let next_attempt = now.checked_add(delay).unwrap_or(now);
        let trouble = Trouble { reason, message, next_attempt };
        self.state = if since.elapsed() < PATIENCE { State::Retrying(trouble) } else { State::Blocked(trouble) };
    }

    /// Nothing is wrong any more.
    pub fn well(&mut self) {
        self.attempts.succeeded();
        self.failing_since = None;
        self.not_before = None;
    }

    /// Someone else has written the status since: a former leader that had stood still, or a person. Taking what is there for what was
    /// written makes the next write put it right.
    pub fn notice_other_writers(&mut self, object: &SchemaMigration) {
        let newer = matches!((self.written_version, version(&object.metadata)), (Some(ours), Some(theirs)) if theirs > ours);
        if newer
            && let Some(status) = &object.status
            && *status != self.written
        {
            tracing::warn!("another writer changed the status; overwriting it");
            self.written = status.clone();
        }
    }

    /// How long to wait before the next attempt.
    pub fn wait(&self) -> Option<Duration> {
        self.not_before.map(|at| at.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// A failed one starts again.
    pub fn restart(&mut self) {
        self.state = State::New;
        self.snapshot = None;
        self.ahead = None;
        self.completed_at = None;
        self.way_back = WayBack::None;
        self.gave_up_dropping = false;
        self.well();
    }
}

/// How it ended, if the status says that it did.
fn end_of(status: &SchemaMigrationStatus, mode: Mode) -> Option<End> {
    let conditions = &status.conditions;
    let (reason, message) = find(conditions, READY).map(|ready| (ready.reason.clone(), ready.message.clone())).unwrap_or_default();
    if is(conditions, SUCCEEDED, Truth::True) {
        if is(conditions, REVERT_POSSIBLE, Truth::True) {
            // An engine has to keep the old table current.
            return None;
        }
        if reason == "Reverted" {
            return Some(End::Succeeded(Success::Reverted));
        }
        return Some(End::Succeeded(match mode {
            Mode::DryRun => Success::Proven,
            Mode::TestOnReplica => Success::Tested,
            Mode::Execute | Mode::ExecuteOnReplica => Success::Changed,
        }));
    }
    if is(conditions, SUCCEEDED, Truth::False) {
        return Some(match reason.as_str() {
            "Cancelled" => End::Cancelled { message },
            _ if is(conditions, VALIDATED, Truth::False) => End::Refused { reason, message },
            _ => End::Failed { reason, message },
        });
    }
    (is(conditions, STALLED, Truth::True) && reason == "OutcomeUnknown").then_some(End::Unknown { message })
}

/// What the status says of a way back.
fn way_back_of(status: &SchemaMigrationStatus) -> WayBack {
    match find(&status.conditions, REVERT_POSSIBLE) {
        Some(condition) if condition.status == Truth::True.as_str() => WayBack::Open { until: None },
        Some(condition) if condition.reason != NO_WINDOW => {
            WayBack::Over { reason: condition.reason.clone(), message: condition.message.clone() }
        }
        _ => WayBack::None,
    }
}

fn tables(snapshot: &Snapshot, swapped: bool) -> TablesStatus {
    let old = if swapped { snapshot.tables.old.clone() } else { String::new() };
    TablesStatus { ghost: snapshot.tables.ghost.clone(), state: snapshot.tables.state.clone(), old }
}

/// The ticket of an object for the queue.
pub fn ticket(object: &SchemaMigration, server: String, server_limit: usize) -> Ticket {
    let meta = &object.metadata;
    Ticket {
        created: meta.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second()),
        display_name: format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default()),
        server,
        server_limit,
        table: (object.spec.database.clone(), object.spec.table.clone()),
        alter: object.spec.alter.clone().unwrap_or_default(),
    }
}

/// A running engine, and the task that looks after it.
pub struct Engine {
    /// The attendant has a weak one.
    handle: Arc<Handle>,
    snapshot: watch::Receiver<Snapshot>,
    /// Wakes the object on the engine's news and stops the engine at the end of the term; ends with the engine.
    attendant: JoinHandle<()>,
    /// What was last told to it.
    pub controls: Controls,
    /// When it was started.
    pub started: Timestamp,
    /// It leaves its tables when it is cancelled.
    pub orphans: bool,
}

impl Engine {
    /// Starts one. It is told to stop when `term` is cancelled, whatever else goes on then.
    pub fn start(spec: MigrationSpec, controls: Controls, attendance: Attendance, term: CancellationToken, now: Timestamp) -> Self {
        let orphans = spec.deletion_policy == DeletionPolicy::Orphan;
        let handle = Arc::new(engine::start(spec, controls.clone()));
        let snapshot = handle.watch();
        let attendant = tokio::spawn(attend(handle.watch(), Arc::downgrade(&handle), attendance, term));
        Self { handle, snapshot, attendant, controls, started: now, orphans }
    }

    /// Tells it what is wanted now.
    pub fn control(&mut self, controls: Controls) {
        if self.controls != controls {
            self.controls = controls.clone();
            self.handle.control(controls);
        }
    }

    /// Asks it to stop and keep its work.
    pub fn stop(&self) {
        self.handle.stop();
    }

    /// Waits for its end, within 30 s.
    pub async fn join(self) -> EngineEnd {
        self.join_within(JOIN_LIMIT).await
    }

    /// Waits for its end; one that does not end is dropped, which ends it at once.
    pub(super) async fn join_within(mut self, limit: Duration) -> EngineEnd {
        // The attendant holds the handle for an instant at most, when it passes on the end of the term.
        let handle = loop {
            match Arc::try_unwrap(self.handle) {
                Ok(handle) => break handle,
                Err(shared) => self.handle = shared,
            }
            tokio::task::yield_now().await;
        };
        let outcome = tokio::time::timeout(limit, handle.join()).await.unwrap_or_else(|_| {
            tracing::error!("an engine did not end within {limit:?} and was dropped");
            Outcome::Stopped
        });
        // Its channel is closed now, so the attendant ends by itself, after the last sample.
        if tokio::time::timeout(ATTENDANT_LIMIT, &mut self.attendant).await.is_err() {
            self.attendant.abort();
        }
        let snapshot = self.snapshot.borrow_and_update().clone();
        EngineEnd { outcome, snapshot, orphans: self.orphans }
    }
}

/// What is left of an engine.
#[derive(Debug)]
pub struct EngineEnd {
    /// How it ended.
    pub outcome: Outcome,
    /// The last thing it said.
    pub snapshot: Snapshot,
    /// It leaves its tables when it is cancelled.
    pub orphans: bool,
}

/// Whom an engine's news concern.
pub struct Attendance {
    /// The object's namespace.
    pub namespace: String,
    pub name: String,
    /// How to ask for a visit.
    pub wakers: Wakers,
    /// Where samples go.
    pub metrics: Metrics,
}

/// Wakes the object whenever something changed that a program may wait for, feeds the metrics, and stops the engine at the end of
/// the term.
///
/// Numbers alone wake nobody: a working migration is visited every ten seconds anyway.
async fn attend(mut snapshots: watch::Receiver<Snapshot>, engine: Weak<Handle>, attendance: Attendance, term: CancellationToken) {
    let Attendance { namespace, name, wakers, metrics } = attendance;
    let mut seen = visible_state(&snapshots.borrow_and_update());
    let mut meter = Meter { namespace: namespace.clone(), name: name.clone(), metrics, sampled: None, notice: 0, chunks: 0 };
    let mut told = false;
    loop {
        // Both are cancel-safe: nothing is taken before the branch is chosen.
        let changed = tokio::select! {
            changed = snapshots.changed() => changed,
            () = term.cancelled(), if !told => {
                told = true;
                if let Some(engine) = engine.upgrade() {
                    engine.stop();
                }
                continue;
            }
        };
        if changed.is_err() {
            break;
        }
        let now = {
            let snapshot = snapshots.borrow_and_update();
            meter.read(&snapshot, false);
            visible_state(&snapshot)
        };
        if now != seen {
            seen = now;
            wakers.wake(&namespace, &name);
        }
    }
    // The end comes within a second of the swap: without this, the last numbers would be those before it.
    meter.read(&snapshots.borrow(), true);
    wakers.wake(&namespace, &name);
}

/// Turns the snapshots of one engine into metrics. Snapshots that were replaced before they were read are not seen: of many short chunks
/// some are counted.
struct Meter {
    namespace: String,
    name: String,
    metrics: Metrics,
    sampled: Option<Instant>,
    notice: u64,
    chunks: u64,
}

impl Meter {
    fn read(&mut self, snapshot: &Snapshot, last: bool) {
        for notice in snapshot.notices.iter().filter(|notice| notice.sequence > self.notice) {
            let outcome = match notice.reason {
                notice::SWAPPED => "succeeded",
                notice::CUT_OVER_ATTEMPT_FAILED => "failed",
                _ => continue,
            };
            self.metrics.cut_over_attempt(outcome);
            if let Some(locked) = snapshot.cut_over.locked {
                self.metrics.cut_over_locked(locked);
            }
        }
        self.notice = snapshot.notices.iter().map(|notice| notice.sequence).max().unwrap_or(0).max(self.notice);
        if let Some(took) = snapshot.last_chunk.filter(|_| snapshot.progress.chunks != self.chunks) {
            self.metrics.chunk(took);
        }
        self.chunks = snapshot.progress.chunks;
        if last || self.sampled.is_none_or(|at| at.elapsed() >= SAMPLE_EVERY) {
            self.metrics.observe_migration(&sample(&self.namespace, &self.name, snapshot));
            self.sampled = Some(Instant::now());
        }
    }
}

/// What of a snapshot is news.
#[derive(PartialEq)]
pub(crate) struct VisibleState {
    phase: Phase,
    validated: bool,
    copy_complete: bool,
    algorithm: bool,
    throttle: Option<&'static str>,
    retrying: Option<Reason>,
    attempts: u32,
    blocked: bool,
    waits: Option<Waits>,
    forced: Option<String>,
    verified: bool,
    tables: (bool, bool, bool),
    revert: Option<Revert>,
    notice: u64,
}

pub(crate) fn visible_state(snapshot: &Snapshot) -> VisibleState {
    let tables = &snapshot.tables;
    VisibleState {
        phase: snapshot.phase,
        validated: snapshot.validated,
        copy_complete: snapshot.progress.copy_complete,
        algorithm: snapshot.algorithm.is_some(),
        throttle: snapshot.throttle.as_ref().map(|throttle| throttle.reason),
        retrying: snapshot.retrying.as_ref().map(|retrying| retrying.reason),
        attempts: snapshot.cut_over.attempts,
        blocked: snapshot.cut_over.blocked_by.is_some(),
        waits: snapshot.cut_over.waits,
        forced: snapshot.cut_over.handled_force.clone(),
        verified: snapshot.verification.as_ref().is_some_and(|verification| verification.complete),
        tables: (tables.ghost.is_empty(), tables.state.is_empty(), tables.old.is_empty()),
        revert: snapshot.revert.clone(),
        notice: snapshot.notices.iter().map(|notice| notice.sequence).max().unwrap_or(0),
    }
}

fn sample(namespace: &str, name: &str, snapshot: &Snapshot) -> MigrationSample {
    let progress = &snapshot.progress;
    MigrationSample {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        rows_copied: progress.rows_copied,
        copy_progress: f64::from(progress.percent()) / 100.0,
        binlog_events: progress.changes_seen,
        changes_applied: progress.changes_applied,
        backlog_keys: progress.backlog,
        binlog_lag: progress.binlog_lag,
        heartbeat_lag: progress.replica_lag,
        verify_mismatches: snapshot.verification.as_ref().map_or(0, |verification| verification.rows_different),
        throttled: snapshot.throttle.as_ref().map(|throttle| throttle.reason),
        throttled_total: snapshot.throttled_total,
    }
}

/// The resource version as a number, to tell which of two is newer: API servers since 1.35 promise that it is one, older ones made it so.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>
pub fn version(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<u64> {
    meta.resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
#[path = "entry_tests.rs"]
pub(crate) mod tests;
