//! What the driver does next: one pure function from what it knows ([`State`]) and what it sees ([`Seen`]) to a [`Step`]. The order of its
//! lines is the algorithm: flushing goes first, then the copy, the deferred indexes, the comparison, the statistics, and then the way to an
//! attempt, which a change that the server makes itself shares with a swap. What people are shown is derived here from the same two values
//! ([`phase`], [`waits`], [`shows_throttle`]).
//!
//! [`Step::Wait`] says until when nothing can change by time alone. Everything else that is seen wakes the driver by itself: a task that ends, a
//! dirty key, the controls, the throttler, a stop.

use crate::engine::contract::snapshot::{Phase, Waits};
use crate::engine::cutover::Gate;
use std::time::{Duration, Instant};

/// A cycle while rows are copied: long enough that hot rows are written once for many changes, short enough to keep the backlog small.
const CYCLE_COPYING: Duration = Duration::from_millis(300);
/// A cycle afterwards: the backlog must be small when the gate opens.
pub(super) const CYCLE_TAIL: Duration = Duration::from_millis(50);
/// A cycle while nothing is dirty: it only moves the safe position. The driver wakes no less often, to look at the clock for the windows.
const CYCLE_IDLE: Duration = Duration::from_secs(1);
/// Dirty keys at which a cycle begins at once.
const CYCLE_KEYS: usize = 20_000;
/// Keys that the last cycle may have had for the cut-over to be tried: they are reconciled well within the lock's budget.
const SMALL_BACKLOG: usize = 500;
/// After so long with more in each cycle, rows change as fast as they are applied, and the backlog does not become smaller by waiting: then what
/// counts is how long the last changes would take under the lock. A judgement, not a measurement.
const STAYS_LARGE: Duration = Duration::from_secs(10);
/// The part of `cutOver.lockTimeout` that they may take: clients wait for it, and the rest is for the lock itself and the rename.
const LOCK_SHARE: u32 = 4;
/// How far the stream may be behind the end of the log then.
const SMALL_LAG: Duration = Duration::from_secs(2);
/// How often the end of the log is read, to know how far the stream is behind. It is no older when an attempt is made.
const LAG_EVERY: Duration = Duration::from_secs(1);
/// How often it is read while the gate is closed and the log hardly grows: it also keeps the connection alive.
const LAG_AT_REST: Duration = Duration::from_secs(60);
/// After so long without a dirty key, a migration that waits at its gate is at rest: nothing needs to be read for it. Longer than the pauses
/// between the writes of a table in use, so that it does not go to rest and wake all the time; waking costs one reading of each signal. A
/// judgement, not a measurement.
pub const CALM: Duration = Duration::from_secs(10);

/// What the driver has done, as far as the next step depends on it.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The rows' part; `None`: the server makes the change itself.
    pub rows: Option<Rows>,
    /// What the hooks say to an attempt.
    pub consent: Consent,
    /// They vetoed the last one, and have not agreed since.
    pub vetoed: bool,
    /// No attempt is made before: an attempt failed, or somebody is in the way.
    pub next_attempt: Instant,
}

/// The rows' part.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Copy workers have not ended.
    pub copying: bool,
    /// Secondary indexes that are built after the copy.
    pub indexes: Indexes,
    /// The comparison of both tables.
    pub comparison: Comparison,
    /// For rows that a new foreign key forbids.
    pub search: Search,
    /// Of the new table.
    pub statistics: Statistics,
    /// A replica's applier rests for the attempt.
    pub applier_stopped: bool,
    /// The last flush cycle.
    pub cycle: LastCycle,
}

impl Rows {
    /// Whether everything that looks at all rows after the copy is done, once.
    fn is_checked(&self) -> bool {
        self.search == Search::Done && matches!(self.comparison, Comparison::Off | Comparison::Passed { .. })
    }
}

/// The last flush cycle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LastCycle {
    /// When it ended.
    pub at: Instant,
    /// Keys that it had.
    pub taken: usize,
    /// Not all of them are settled: the stream must bring more first.
    pub deferred: bool,
    /// How long it would have taken on one connection, which is all there is under the lock, at most.
    pub alone: Duration,
    /// Since when no cycle has been small, with all rows copied.
    pub large_since: Option<Instant>,
}

impl LastCycle {
    /// A cycle that has ended at `at`, after the one before.
    #[must_use]
    pub fn then(self, at: Instant, taken: usize, deferred: bool, alone: Duration, copying: bool) -> Self {
        let large = !copying && taken >= SMALL_BACKLOG;
        Self { at, taken, deferred, alone, large_since: large.then(|| self.large_since.unwrap_or(at)) }
    }

    /// Whether the changes that come by the next one can be applied under the lock.
    fn is_small(self, now: Instant, lock_timeout: Duration) -> bool {
        self.taken < SMALL_BACKLOG || self.stays_large(now) && self.alone <= lock_timeout / LOCK_SHARE
    }

    fn stays_large(self, now: Instant) -> bool {
        self.large_since.is_some_and(|since| now.saturating_duration_since(since) >= STAYS_LARGE)
    }
}

/// Why a migration does not come to its gate, where rows change as fast as they are applied and the last changes would take too long under the
/// lock; for people, who can do something about it.
pub(super) fn stuck(rows: &Rows, seen: &Seen) -> Option<String> {
    let LastCycle { taken, alone, .. } = rows.cycle;
    (!rows.copying && rows.cycle.stays_large(seen.now) && !rows.cycle.is_small(seen.now, seen.lock_timeout)).then(|| {
        format!(
            "rows change as fast as they are applied: the last {taken} changed keys would lock the table for up to {} ms, and only a quarter of cutOver.lockTimeout ({} ms) is allowed for them. Raise cutOver.lockTimeout, or wait for a quieter hour",
            alone.as_millis(),
            (seen.lock_timeout / LOCK_SHARE).as_millis()
        )
    })
}

/// Secondary indexes that are built after the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indexes {
    /// There are none, or they are built.
    Built,
    /// To be built.
    Deferred,
    /// Being built; `held`: changes wait meanwhile.
    Building {
        /// Changes wait meanwhile.
        held: bool,
    },
}

/// The comparison of both tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Not asked for (`verify.policy: Never`).
    Off,
    /// To be started.
    NotStarted,
    /// Its first whole pass is under way.
    FirstPass,
    /// The first pass is done; it goes on beside the work.
    Passed {
        /// It waits for the next change.
        at_rest: bool,
    },
    /// Being ended, so that another one begins.
    Ending,
}

/// The search for rows without a parent, where the change adds foreign keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// To be started, once all rows are copied.
    NotStarted,
    /// Under way.
    UnderWay,
    /// It is done, or there is nothing to look for.
    Done,
}

/// The new table's statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistics {
    /// Not asked for yet.
    None,
    /// Being gathered.
    UnderWay,
    /// There.
    Gathered,
}

/// What the hooks say to the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Not asked, or all agree.
    Free,
    /// Being asked.
    Awaited,
    /// A veto, until they are asked again.
    Vetoed {
        /// When they are asked again.
        until: Instant,
    },
}

/// What the driver sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The time.
    pub now: Instant,
    /// A stop, a pause or a cancel.
    pub interrupted: bool,
    /// The gate.
    pub gate: Gate,
    /// `cutOver.lockTimeout`.
    pub lock_timeout: Duration,
    /// The throttler lets chunks begin.
    pub may_copy: bool,
    /// It says why they may not.
    pub held: bool,
    /// It holds everything, changes too.
    pub apply_held: bool,
    /// It lets the tables be swapped under the present limits.
    pub may_swap: bool,
    /// Somebody is to be asked before an attempt.
    pub hooks: bool,
    /// Row images of the table that the stream has brought: for people.
    pub changes_seen: u64,
    /// Keys waiting to be applied.
    pub dirty: usize,
    /// Since when none has been.
    pub clean_since: Instant,
    /// A chunk or the comparison waits for a cycle, or the stream has something to look at.
    pub hurried: bool,
    /// How far the stream is behind, if that is known.
    pub lag: Option<Duration>,
    /// The end of the log is awaited in the stream.
    pub lag_awaited: bool,
    /// When the end of the log was last read.
    pub lag_read: Option<Instant>,
    /// The log has grown since by more than heartbeats.
    pub log_grew: bool,
}

impl Seen {
    /// Where no rows are copied: nothing is dirty, and no throttler asked.
    pub(super) fn without_rows(now: Instant) -> Self {
        Self {
            now,
            interrupted: false,
            gate: Gate::Open,
            lock_timeout: Duration::ZERO,
            may_copy: true,
            held: false,
            apply_held: false,
            may_swap: true,
            hooks: false,
            changes_seen: 0,
            dirty: 0,
            clean_since: now,
            hurried: false,
            lag: None,
            lag_awaited: false,
            lag_read: None,
            log_grew: false,
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Leave.
    Interrupt,
    /// Start the replica's applier again: it does not stand still for somebody who is waited for.
    StartApplier,
    /// One flush cycle.
    Flush,
    /// Read the end of the log.
    ReadLag,
    /// Start building the deferred indexes.
    BuildIndexes,
    /// Start looking for rows without a parent.
    Search,
    /// Start comparing.
    Compare,
    /// Start gathering the new table's statistics.
    GatherStatistics,
    /// Look who is in the way, ask the hooks, and make an attempt if nobody objects.
    Attempt,
    /// Nothing changes by time alone before.
    Wait(Instant),
}

/// The next step.
pub fn next(state: &State, seen: &Seen) -> Step {
    if seen.interrupted {
        return Step::Interrupt;
    }
    let Some(rows) = &state.rows else { return approach(state, seen, seen.now + CYCLE_IDLE) };
    if rows.applier_stopped && !(seen.may_copy && seen.gate == Gate::Open) {
        return Step::StartApplier;
    }
    if seen.apply_held || rows.indexes == (Indexes::Building { held: true }) {
        // Keys gather in the inbox; when it is full the stream waits.
        return Step::Wait(seen.now + CYCLE_IDLE);
    }
    let due = flush_due(rows, seen);
    if due <= seen.now {
        return Step::Flush;
    }
    if let Some(due) = lag_due(seen, rows.copying)
        && due <= seen.now
    {
        return Step::ReadLag;
    }
    if rows.copying {
        return Step::Wait(due);
    }
    if rows.search == Search::NotStarted {
        return Step::Search;
    }
    match (rows.indexes, rows.comparison) {
        // A build cannot be held once it runs.
        (Indexes::Deferred, _) if !seen.held => return Step::BuildIndexes,
        (Indexes::Deferred, _) => return Step::Wait(due),
        // The build keeps one core busy and changes no row: the rows are compared meanwhile.
        (_, Comparison::NotStarted) => return Step::Compare,
        (Indexes::Building { .. }, _) | (_, Comparison::FirstPass | Comparison::Ending) => return Step::Wait(due),
        (Indexes::Built, Comparison::Off | Comparison::Passed { .. }) => {}
    }
    if rows.search == Search::UnderWay {
        return Step::Wait(due);
    }
    match rows.statistics {
        Statistics::None => return Step::GatherStatistics,
        Statistics::UnderWay => return Step::Wait(due),
        Statistics::Gathered => {}
    }
    if !caught_up(rows, seen) {
        return Step::Wait(due);
    }
    // Tables are not locked on a server, or under replicas, that have enough to do.
    if seen.gate == Gate::Open && !seen.may_swap {
        return Step::Wait(due);
    }
    approach(state, seen, due)
}

/// The way to an attempt; nothing is to be done before `due`.
fn approach(state: &State, seen: &Seen, due: Instant) -> Step {
    if seen.gate != Gate::Open {
        return Step::Wait(due);
    }
    if state.next_attempt > seen.now {
        return Step::Wait(due.min(state.next_attempt));
    }
    match state.consent {
        Consent::Awaited => Step::Wait(due),
        Consent::Vetoed { until } if seen.hooks && until > seen.now => Step::Wait(due.min(until)),
        Consent::Vetoed { .. } | Consent::Free => Step::Attempt,
    }
}

/// When the next cycle begins.
fn flush_due(rows: &Rows, seen: &Seen) -> Instant {
    let LastCycle { at, deferred, .. } = rows.cycle;
    let large = !rows.copying && !rows.cycle.is_small(seen.now, seen.lock_timeout);
    // One that was deferred is not repeated in haste: the stream must bring more first.
    let hurry = !deferred && (seen.dirty >= CYCLE_KEYS || large);
    if hurry || seen.hurried {
        return seen.now;
    }
    at + match (rows.copying, seen.dirty) {
        (true, _) => CYCLE_COPYING,
        (false, 0) if !seen.lag_awaited => CYCLE_IDLE,
        (false, _) => CYCLE_TAIL,
    }
}

/// When the end of the log is read again; `None`: when the stream has reached the one that was read last.
fn lag_due(seen: &Seen, copying: bool) -> Option<Instant> {
    if seen.lag_awaited {
        return None;
    }
    let at_rest = !copying && seen.gate != Gate::Open && seen.dirty == 0 && !seen.log_grew;
    Some(seen.lag_read.map_or(seen.now, |at| at + if at_rest { LAG_AT_REST } else { LAG_EVERY }))
}

/// Whether the changes are applied but for a few.
fn caught_up(rows: &Rows, seen: &Seen) -> bool {
    rows.cycle.is_small(seen.now, seen.lock_timeout) && !rows.cycle.deferred && seen.lag.is_some_and(|lag| lag < SMALL_LAG)
}

/// Whether all that comes before the gate is done.
fn at_the_gate(state: &State, seen: &Seen) -> bool {
    state.rows.as_ref().is_none_or(|rows| {
        !rows.copying
            && rows.indexes == Indexes::Built
            && rows.is_checked()
            && rows.statistics == Statistics::Gathered
            && caught_up(rows, seen)
    })
}

/// Whether nothing needs to be read for the migration: it waits at its gate, nothing changes in the table, and nothing holds it back.
pub fn calm(state: &State, seen: &Seen) -> bool {
    let compared = state.rows.as_ref().is_none_or(|rows| matches!(rows.comparison, Comparison::Off | Comparison::Passed { at_rest: true }));
    at_the_gate(state, seen)
        && compared
        && seen.gate != Gate::Open
        && !seen.held
        && !seen.apply_held
        && seen.dirty == 0
        && seen.now.saturating_duration_since(seen.clean_since) >= CALM
}

/// Where the migration is, for people.
pub fn phase(state: &State, seen: &Seen) -> Phase {
    if let Some(rows) = &state.rows {
        if rows.copying {
            return Phase::Copying;
        }
        if rows.indexes != Indexes::Built {
            return Phase::CatchingUp;
        }
        if !rows.is_checked() {
            return Phase::Verifying;
        }
    }
    if !at_the_gate(state, seen) {
        return Phase::CatchingUp;
    }
    if seen.gate == Gate::Open && !state.vetoed { Phase::CuttingOver } else { Phase::AwaitingCutOver }
}

/// What an attempt waits for, once everything before it is done.
pub fn waits(state: &State, seen: &Seen) -> Option<Waits> {
    if !at_the_gate(state, seen) {
        return None;
    }
    seen.gate.waits().or_else(|| state.vetoed.then_some(Waits::Hook))
}

/// Whether what holds the migration back is told: not while something else is waited for.
pub(super) fn shows_throttle(state: &State, seen: &Seen) -> bool {
    let Some(rows) = &state.rows else { return false };
    if seen.apply_held
        || rows.copying
        || rows.indexes != Indexes::Built
        || !matches!(rows.comparison, Comparison::Off | Comparison::Passed { .. })
    {
        return true;
    }
    at_the_gate(state, seen) && matches!(seen.gate, Gate::Open | Gate::Throttled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A migration that has come to its open gate at `now`, with everything done.
    fn ready(now: Instant) -> (State, Seen) {
        let rows = Rows {
            copying: false,
            indexes: Indexes::Built,
            comparison: Comparison::Passed { at_rest: true },
            search: Search::Done,
            statistics: Statistics::Gathered,
            applier_stopped: false,
            cycle: LastCycle { at: now, taken: 0, deferred: false, alone: Duration::ZERO, large_since: None },
        };
        let state = State { rows: Some(rows), consent: Consent::Free, vetoed: false, next_attempt: now };
        let seen = Seen { lag: Some(Duration::ZERO), lag_read: Some(now), lock_timeout: MS(3000), ..Seen::without_rows(now) };
        (state, seen)
    }

    /// Since when cycles are large: not while rows are copied, and a small one ends it.
    #[test]
    fn a_small_cycle_ends_what_was_large() {
        let now = Instant::now();
        let first = LastCycle { at: now, taken: usize::MAX, deferred: false, alone: Duration::ZERO, large_since: None };
        let copied = first.then(now + MS(1), 9_000, false, MS(5), true);
        assert_eq!(copied.large_since, None);
        let large = copied.then(now + MS(2), 9_000, false, MS(5), false).then(now + MS(3), SMALL_BACKLOG, false, MS(5), false);
        assert_eq!(large.large_since, Some(now + MS(2)));
        assert_eq!(large.then(now + MS(4), SMALL_BACKLOG - 1, false, MS(5), false).large_since, None);
    }

    /// What people can do about is told, and only then.
    #[test]
    fn who_does_not_come_to_the_gate_is_told_why() {
        let now = Instant::now();
        let (mut state, seen) = ready(now);
        let cycle = &mut rows(&mut state).cycle;
        (cycle.taken, cycle.alone, cycle.large_since) = (24_000, MS(4_800), now.checked_sub(STAYS_LARGE));
        let told = stuck(rows(&mut state), &seen).expect("told");
        assert!(told.contains("24000 changed keys") && told.contains("4800 ms") && told.contains("(750 ms)"), "{told}");
        assert_eq!(stuck(rows(&mut state), &Seen { lock_timeout: MS(20_000), ..seen.clone() }), None);
        rows(&mut state).copying = true;
        assert_eq!(stuck(rows(&mut state), &seen), None);
    }

    type Change = fn(&mut State, &mut Seen);

    fn rows(state: &mut State) -> &mut Rows {
        state.rows.as_mut().expect("rows")
    }

    fn closed(seen: &mut Seen) {
        seen.gate = Gate::NeedsApproval;
    }

    /// The whole of it: what is different from a migration that is ready, and what is done and shown then. `Wait` is told in milliseconds.
    #[test]
    fn one_step_follows_from_what_is_known() {
        use Phase::{AwaitingCutOver, CatchingUp, Copying, CuttingOver, Verifying};
        let wait = |ms| Err::<Step, u64>(ms);
        let cases: &[(&str, Change, Result<Step, u64>, Phase)] = &[
            ("ready", |_, _| {}, Ok(Step::Attempt), CuttingOver),
            (
                "a stop comes before everything",
                |s, v| {
                    v.interrupted = true;
                    rows(s).copying = true;
                    v.dirty = 90_000
                },
                Ok(Step::Interrupt),
                Copying,
            ),
            // The copy.
            ("copying", |s, _| rows(s).copying = true, wait(300), Copying),
            (
                "copying, changes",
                |s, v| {
                    rows(s).copying = true;
                    v.dirty = 7
                },
                wait(300),
                Copying,
            ),
            (
                "copying, many changes",
                |s, v| {
                    rows(s).copying = true;
                    v.dirty = CYCLE_KEYS
                },
                Ok(Step::Flush),
                Copying,
            ),
            (
                "copying, a chunk asks",
                |s, v| {
                    rows(s).copying = true;
                    v.hurried = true
                },
                Ok(Step::Flush),
                Copying,
            ),
            (
                "copying, a cycle is due",
                |s, v| {
                    rows(s).copying = true;
                    v.now += MS(300)
                },
                Ok(Step::Flush),
                Copying,
            ),
            (
                "copying, held",
                |s, v| {
                    rows(s).copying = true;
                    (v.held, v.may_copy) = (true, false)
                },
                wait(300),
                Copying,
            ),
            (
                "copying, everything held",
                |s, v| {
                    rows(s).copying = true;
                    v.apply_held = true;
                    v.dirty = 90_000
                },
                wait(1000),
                Copying,
            ),
            (
                "copying, the log's end is old",
                |s, v| {
                    rows(s).copying = true;
                    rows(s).cycle.at += MS(1000);
                    v.now += MS(1000)
                },
                Ok(Step::ReadLag),
                Copying,
            ),
            // Changes go first, whatever else could be done.
            ("a change", |_, v| v.dirty = 1, Ok(Step::Attempt), CuttingOver),
            (
                "a change, a cycle is due",
                |_, v| {
                    v.dirty = 1;
                    v.now += MS(50)
                },
                Ok(Step::Flush),
                CuttingOver,
            ),
            (
                "nothing dirty, a cycle is not due",
                |_, v| {
                    closed(v);
                    v.now += MS(50)
                },
                wait(950),
                AwaitingCutOver,
            ),
            (
                "nothing dirty, the idle cycle",
                |_, v| {
                    closed(v);
                    v.now += MS(1000)
                },
                Ok(Step::Flush),
                AwaitingCutOver,
            ),
            ("the last cycle was large", |s, _| rows(s).cycle.taken = SMALL_BACKLOG, Ok(Step::Flush), CatchingUp),
            (
                "cycles stay large, and would not hold the lock for long",
                |s, v| {
                    let cycle = &mut rows(s).cycle;
                    (cycle.taken, cycle.alone) = (900, MS(750));
                    cycle.large_since = v.now.checked_sub(STAYS_LARGE);
                },
                Ok(Step::Attempt),
                CuttingOver,
            ),
            (
                "and would hold it for too long",
                |s, v| {
                    let cycle = &mut rows(s).cycle;
                    (cycle.taken, cycle.alone) = (900, MS(751));
                    cycle.large_since = v.now.checked_sub(STAYS_LARGE);
                },
                Ok(Step::Flush),
                CatchingUp,
            ),
            (
                "and have been large for a moment only",
                |s, v| {
                    let cycle = &mut rows(s).cycle;
                    (cycle.taken, cycle.alone) = (900, MS(1));
                    cycle.large_since = v.now.checked_sub(MS(9999));
                },
                Ok(Step::Flush),
                CatchingUp,
            ),
            (
                "deferred: in no haste",
                |s, v| {
                    rows(s).cycle.taken = 900;
                    rows(s).cycle.deferred = true;
                    v.dirty = 900
                },
                wait(50),
                CatchingUp,
            ),
            // Behind the end of the log.
            ("not read yet", |_, v| (v.lag, v.lag_read) = (None, None), Ok(Step::ReadLag), CatchingUp),
            (
                "not reached yet",
                |_, v| {
                    v.lag_awaited = true;
                    v.lag = Some(MS(1999))
                },
                Ok(Step::Attempt),
                CuttingOver,
            ),
            (
                "far behind",
                |_, v| {
                    v.lag_awaited = true;
                    v.lag = Some(SMALL_LAG)
                },
                wait(50),
                CatchingUp,
            ),
            (
                "read a second ago, the gate opens",
                |s, v| {
                    rows(s).cycle.at += MS(1000);
                    v.now += MS(1000)
                },
                Ok(Step::ReadLag),
                CuttingOver,
            ),
            (
                "read a second ago, closed, little log",
                |s, v| {
                    closed(v);
                    rows(s).cycle.at += MS(1000);
                    v.now += MS(1000)
                },
                wait(1000),
                AwaitingCutOver,
            ),
            (
                "read a second ago, closed, much log",
                |s, v| {
                    closed(v);
                    v.log_grew = true;
                    rows(s).cycle.at += MS(1000);
                    v.now += MS(1000)
                },
                Ok(Step::ReadLag),
                AwaitingCutOver,
            ),
            (
                "read a minute ago, closed",
                |s, v| {
                    closed(v);
                    rows(s).cycle.at += LAG_AT_REST;
                    v.now += LAG_AT_REST
                },
                Ok(Step::ReadLag),
                AwaitingCutOver,
            ),
            // Deferred indexes.
            ("indexes", |s, _| rows(s).indexes = Indexes::Deferred, Ok(Step::BuildIndexes), CatchingUp),
            (
                "indexes, held",
                |s, v| {
                    rows(s).indexes = Indexes::Deferred;
                    v.held = true
                },
                wait(1000),
                CatchingUp,
            ),
            (
                "building, nothing compared",
                |s, _| {
                    rows(s).indexes = Indexes::Building { held: false };
                    rows(s).comparison = Comparison::NotStarted
                },
                Ok(Step::Compare),
                CatchingUp,
            ),
            ("building, compared", |s, _| rows(s).indexes = Indexes::Building { held: false }, wait(1000), CatchingUp),
            (
                "building with changes held",
                |s, v| {
                    rows(s).indexes = Indexes::Building { held: true };
                    v.dirty = 90_000;
                    v.hurried = true
                },
                wait(1000),
                CatchingUp,
            ),
            // The comparison.
            ("not compared", |s, _| rows(s).comparison = Comparison::NotStarted, Ok(Step::Compare), Verifying),
            ("not searched for rows without a parent", |s, _| rows(s).search = Search::NotStarted, Ok(Step::Search), Verifying),
            (
                "not searched, nor compared",
                |s, _| (rows(s).search, rows(s).comparison) = (Search::NotStarted, Comparison::NotStarted),
                Ok(Step::Search),
                Verifying,
            ),
            ("being searched", |s, _| rows(s).search = Search::UnderWay, wait(1000), Verifying),
            (
                "being searched, and still copying",
                |s, _| (rows(s).search, rows(s).copying) = (Search::NotStarted, true),
                wait(300),
                Copying,
            ),
            ("being compared", |s, _| rows(s).comparison = Comparison::FirstPass, wait(1000), Verifying),
            ("to be compared again", |s, _| rows(s).comparison = Comparison::Ending, wait(1000), Verifying),
            ("a later pass", |s, _| rows(s).comparison = Comparison::Passed { at_rest: false }, Ok(Step::Attempt), CuttingOver),
            ("no comparison", |s, _| rows(s).comparison = Comparison::Off, Ok(Step::Attempt), CuttingOver),
            // Statistics.
            ("no statistics", |s, _| rows(s).statistics = Statistics::None, Ok(Step::GatherStatistics), CatchingUp),
            ("being gathered", |s, _| rows(s).statistics = Statistics::UnderWay, wait(1000), CatchingUp),
            // The gate.
            ("no approval", |_, v| closed(v), wait(1000), AwaitingCutOver),
            ("a person throttles", |_, v| v.gate = Gate::Throttled, wait(1000), AwaitingCutOver),
            ("no window", |_, v| v.gate = Gate::OutsideWindows { opens: Some(Timestamp::UNIX_EPOCH) }, wait(1000), AwaitingCutOver),
            ("the server has enough to do", |_, v| v.may_swap = false, wait(1000), CuttingOver),
            ("somebody is in the way", |s, v| s.next_attempt = v.now + MS(400), wait(400), CuttingOver),
            ("a long pause", |s, v| s.next_attempt = v.now + MS(5000), wait(1000), CuttingOver),
            // Hooks.
            (
                "being asked",
                |s, v| {
                    s.consent = Consent::Awaited;
                    v.hooks = true
                },
                wait(1000),
                CuttingOver,
            ),
            (
                "vetoed",
                |s, v| {
                    (s.consent, s.vetoed) = (Consent::Vetoed { until: v.now + MS(600) }, true);
                    v.hooks = true
                },
                wait(600),
                AwaitingCutOver,
            ),
            (
                "vetoed, time to ask again",
                |s, v| {
                    (s.consent, s.vetoed) = (Consent::Vetoed { until: v.now }, true);
                    v.hooks = true
                },
                Ok(Step::Attempt),
                AwaitingCutOver,
            ),
            (
                "vetoed by a hook that is gone",
                |s, v| (s.consent, s.vetoed) = (Consent::Vetoed { until: v.now + MS(600) }, true),
                Ok(Step::Attempt),
                AwaitingCutOver,
            ),
            // A replica that is tested.
            ("its applier rests", |s, _| rows(s).applier_stopped = true, Ok(Step::Attempt), CuttingOver),
            (
                "its applier rests, the gate closes",
                |s, v| {
                    rows(s).applier_stopped = true;
                    closed(v)
                },
                Ok(Step::StartApplier),
                AwaitingCutOver,
            ),
            (
                "its applier rests, the copy is held",
                |s, v| {
                    rows(s).applier_stopped = true;
                    v.may_copy = false
                },
                Ok(Step::StartApplier),
                CuttingOver,
            ),
            // A change that the server makes.
            ("by the server", |s, _| s.rows = None, Ok(Step::Attempt), CuttingOver),
            (
                "by the server, closed",
                |s, v| {
                    s.rows = None;
                    closed(v)
                },
                wait(1000),
                AwaitingCutOver,
            ),
            (
                "by the server, being asked",
                |s, v| {
                    s.rows = None;
                    s.consent = Consent::Awaited;
                    v.hooks = true
                },
                wait(1000),
                CuttingOver,
            ),
            (
                "by the server, somebody is in the way",
                |s, v| {
                    s.rows = None;
                    s.next_attempt = v.now + MS(100)
                },
                wait(100),
                CuttingOver,
            ),
            (
                "by the server, stopped",
                |s, v| {
                    s.rows = None;
                    v.interrupted = true
                },
                Ok(Step::Interrupt),
                CuttingOver,
            ),
        ];
        for (what, change, expected, shown) in cases {
            let (mut state, mut seen) = ready(Instant::now());
            change(&mut state, &mut seen);
            let expected = expected.unwrap_or_else(|ms| Step::Wait(seen.now + MS(ms)));
            assert_eq!(next(&state, &seen), expected, "{what}");
            assert_eq!(phase(&state, &seen), *shown, "{what}");
        }
    }

    /// A migration that waits for a person on a quiet server: two wakes a second at most, and each minute one look at the log.
    #[test]
    fn at_its_gate_it_sleeps() {
        let began = Instant::now();
        let (mut state, mut seen) = ready(began);
        closed(&mut seen);
        let (mut wakes, mut looks) = (0, 0);
        while seen.now < began + Duration::from_secs(600) {
            match next(&state, &seen) {
                Step::Wait(until) => {
                    assert!(until > seen.now, "it would spin");
                    wakes += 1;
                    seen.now = until;
                }
                Step::Flush => rows(&mut state).cycle.at = seen.now,
                Step::ReadLag => {
                    looks += 1;
                    seen.lag_read = Some(seen.now);
                }
                step => panic!("{step:?}"),
            }
        }
        assert!(wakes <= 1200 && looks <= 10, "{wakes} wakes, {looks} looks at the log");
    }

    #[test]
    fn what_an_attempt_waits_for() {
        let cases: &[(&str, Change, Option<Waits>, bool)] = &[
            ("nothing", |_, _| {}, None, true),
            ("an approval", |_, v| closed(v), Some(Waits::Approval), false),
            ("a throttle", |_, v| v.gate = Gate::Throttled, Some(Waits::Throttle), true),
            ("a hook", |s, _| s.vetoed = true, Some(Waits::Hook), true),
            (
                "the gate before a hook",
                |s, v| {
                    s.vetoed = true;
                    closed(v)
                },
                Some(Waits::Approval),
                false,
            ),
            (
                "not while rows are copied",
                |s, v| {
                    rows(s).copying = true;
                    closed(v)
                },
                None,
                true,
            ),
            (
                "not while rows are compared",
                |s, v| {
                    rows(s).comparison = Comparison::FirstPass;
                    closed(v)
                },
                None,
                true,
            ),
            (
                "not while changes are many",
                |s, v| {
                    rows(s).cycle.taken = 9000;
                    closed(v)
                },
                None,
                false,
            ),
            (
                "by the server",
                |s, v| {
                    s.rows = None;
                    closed(v)
                },
                Some(Waits::Approval),
                false,
            ),
        ];
        for (what, change, expected, throttle) in cases {
            let (mut state, mut seen) = ready(Instant::now());
            change(&mut state, &mut seen);
            assert_eq!((waits(&state, &seen), shows_throttle(&state, &seen)), (*expected, *throttle), "{what}");
        }
    }

    #[test]
    fn it_is_calm_only_where_nothing_can_need_a_reading() {
        let now = Instant::now();
        let (state, mut calm_seen) = ready(now);
        closed(&mut calm_seen);
        calm_seen.clean_since = now.checked_sub(CALM).expect("a while ago");
        assert!(calm(&state, &calm_seen));
        let cases: &[(&str, Change)] = &[
            ("the gate is open", |_, v| v.gate = Gate::Open),
            ("a change waits", |_, v| v.dirty = 1),
            ("a change came a moment ago", |_, v| v.clean_since = v.now),
            ("something holds the copy", |_, v| v.held = true),
            ("something holds everything", |_, v| v.apply_held = true),
            ("rows are copied", |s, _| rows(s).copying = true),
            ("rows are compared", |s, _| rows(s).comparison = Comparison::Passed { at_rest: false }),
            ("statistics are gathered", |s, _| rows(s).statistics = Statistics::UnderWay),
            ("the stream is behind", |_, v| v.lag = Some(SMALL_LAG)),
        ];
        for (what, change) in cases {
            let (mut state, mut seen) = (state.clone(), calm_seen.clone());
            change(&mut state, &mut seen);
            assert!(!calm(&state, &seen), "{what}");
        }
    }
}
