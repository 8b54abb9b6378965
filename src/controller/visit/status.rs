//! Step 5: the status, whole, as it is written. Pure.
//!
//! Numbers are taken from the engine while there is one and from the status before otherwise, so that a finished migration keeps its figures
//! over restarts of the operator. [`urgency`] says how soon a new status has to be written.
use super::conditions::{Observed, table};
use crate::api::conditions::{settle, shorten};
use crate::api::duration::KubeDuration;
use crate::api::status::{
    AfterStatus, AlgorithmStatus, CutOverStatus, EngineStatus, HandledTokens, ProgressStatus, SchemaMigrationStatus, TablesStatus,
    ThrottleStatus, VerificationStatus,
};
use crate::controller::fleet::state::{End, State, Success, WayBack};
use crate::engine::contract::snapshot::{Phase, Progress, Snapshot, Waits};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::time::{Duration, SystemTime};

/// What the status shows besides the conditions.
#[derive(Debug)]
pub struct StatusFacts<'a> {
    /// What the conditions are about.
    pub observed: Observed<'a>,
    /// The status as last written.
    pub previous: &'a SchemaMigrationStatus,
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// The operator's Pod.
    pub instance: &'a str,
    /// `host:port`, where known.
    pub server: Option<&'a str>,
    /// When the present engine was started.
    pub engine_started: Option<Timestamp>,
    /// The retry token that was acted upon, or seen while there was nothing to retry.
    pub handled_retry: &'a str,
    /// The force token that was acted upon, or seen after the end.
    pub handled_force: &'a str,
    /// What became of those that it has to wait for.
    pub after: &'a AfterStatus,
    /// The tables that are there.
    pub tables: &'a TablesStatus,
    /// When the migration first got to work.
    pub started_at: Option<Timestamp>,
    /// When it finished.
    pub completed_at: Option<Timestamp>,
    /// The annotation `cut-over` is there.
    pub approved: bool,
    /// Now.
    pub now: Timestamp,
}

/// Kubernetes' times have whole seconds; so have ours, or a status would differ from itself after a round trip.
fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn system_time(at: SystemTime) -> Option<Time> {
    Timestamp::try_from(at).ok().map(time)
}

/// Of the derived clauses: as much as a user could have written.
const MOST_OF_CLAUSES: usize = crate::api::bounds::ALTER_LENGTH;

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Builds the status.
pub fn status(facts: &StatusFacts<'_>) -> SchemaMigrationStatus {
    let previous = facts.previous;
    let message = message(&facts.observed);
    let conditions = settle(&previous.conditions, table(&facts.observed, &message), facts.generation, &time(facts.now));
    let snapshot = facts.observed.snapshot;
    let over = matches!(facts.observed.state, State::Ended(_));
    SchemaMigrationStatus {
        observed_generation: facts.generation,
        phase: Some(phase(&facts.observed).to_owned()),
        message: Some(message),
        server: facts.server.map(str::to_owned).or_else(|| previous.server.clone()),
        after: (*facts.after != AfterStatus::default()).then(|| AfterStatus {
            waits_for: facts.after.waits_for.clone().map(|waits_for| shorten(waits_for, 1024)),
            succeeded: facts.after.succeeded.clone(),
        }),
        clauses: snapshot
            .and_then(|snapshot| snapshot.clauses.clone())
            .map(|clauses| shorten(clauses, MOST_OF_CLAUSES))
            .or_else(|| previous.clauses.clone()),
        algorithm: snapshot
            .and_then(|snapshot| snapshot.algorithm.as_ref())
            .map(|algorithm| AlgorithmStatus { chosen: format!("{:?}", algorithm.chosen), reason: shorten(algorithm.reason.clone(), 1024) })
            .or_else(|| previous.algorithm.clone()),
        progress: match snapshot {
            Some(snapshot) => Some(progress(&snapshot.progress, over)),
            None => previous.progress.clone(),
        },
        throttle: throttle(facts),
        cut_over: cut_over(facts),
        verification: match snapshot.and_then(|snapshot| snapshot.verification.as_ref()) {
            Some(verification) => Some(VerificationStatus {
                chunks_checked: number(verification.chunks_checked),
                rows_repaired: number(verification.rows_repaired),
                result: match (verification.complete, verification.scope.as_str()) {
                    (false, _) => "Running".to_owned(),
                    (true, "") => "Same".to_owned(),
                    (true, scope) => shorten(format!("Same: {scope}"), 1024),
                },
            }),
            None => previous.verification.clone(),
        },
        engine: match (facts.engine_started, snapshot) {
            (Some(started), snapshot) => Some(EngineStatus {
                instance: facts.instance.to_owned(),
                session: snapshot.map(|snapshot| snapshot.session.clone()).filter(|session| !session.is_empty()),
                started_at: Some(time(started)),
                resumed_count: snapshot.map_or(0, |snapshot| i32::try_from(snapshot.resumed_count).unwrap_or(i32::MAX)),
            }),
            (None, _) => previous.engine.clone(),
        },
        tables: (!facts.tables.is_empty() || previous.tables.is_some()).then(|| facts.tables.clone()),
        handled_tokens: (!facts.handled_retry.is_empty() || !facts.handled_force.is_empty())
            .then(|| HandledTokens { retry: facts.handled_retry.to_owned(), force_cut_over: facts.handled_force.to_owned() }),
        started_at: facts.started_at.map(time),
        completed_at: facts.completed_at.map(time),
        conditions,
    }
}

fn progress(progress: &Progress, over: bool) -> ProgressStatus {
    ProgressStatus {
        rows_copied: number(progress.rows_copied),
        rows_estimated: number(progress.rows_estimated),
        percent: i32::from(progress.percent()),
        eta: progress.eta.filter(|_| !over && !progress.copy_complete).map(|eta| rounded(eta).to_string()),
        changes_seen: number(progress.changes_seen),
        changes_applied: number(progress.changes_applied),
        backlog: number(progress.backlog),
    }
}

/// An estimate has no milliseconds.
fn rounded(time: Duration) -> KubeDuration {
    KubeDuration::from_secs(time.as_secs())
}

fn throttle(facts: &StatusFacts<'_>) -> Option<ThrottleStatus> {
    let Some(snapshot) = facts.observed.snapshot else {
        return facts
            .previous
            .throttle
            .as_ref()
            .map(|before| ThrottleStatus { total_seconds: before.total_seconds, ..ThrottleStatus::default() });
    };
    let now = snapshot.throttle.as_ref().filter(|_| *facts.observed.state == State::Working);
    if now.is_none() && snapshot.throttled_total.is_zero() && facts.previous.throttle.is_none() {
        return None;
    }
    Some(ThrottleStatus {
        active: now.is_some(),
        reason: now.map(|throttle| throttle.reason.to_owned()),
        detail: now.map(|throttle| shorten(throttle.detail.clone(), 1024)).filter(|detail| !detail.is_empty()),
        since: now.and_then(|throttle| system_time(throttle.since)),
        total_seconds: number(snapshot.throttled_total.as_secs()),
    })
}

fn window_opens_at(facts: &StatusFacts<'_>) -> Option<Time> {
    match (facts.observed.state, facts.observed.snapshot?.cut_over.waits?) {
        (State::Working, Waits::Window { opens }) => opens.and_then(system_time),
        _ => None,
    }
}

fn cut_over(facts: &StatusFacts<'_>) -> Option<CutOverStatus> {
    let before = facts.previous.cut_over.as_ref();
    let mut next = match facts.observed.snapshot.map(|snapshot| &snapshot.cut_over) {
        // An engine that has resumed the work knows nothing of the attempts of the one before.
        Some(cut_over) if cut_over.attempts == 0 && before.is_some_and(|before| before.attempts > 0) => CutOverStatus {
            blocked_by: cut_over.blocked_by.clone().map(|blocker| shorten(blocker, 1024)),
            window_opens_at: window_opens_at(facts),
            ..before.cloned().unwrap_or_default()
        },
        Some(cut_over) => CutOverStatus {
            attempts: i32::try_from(cut_over.attempts).unwrap_or(i32::MAX),
            last_attempt: cut_over.last_attempt.and_then(system_time),
            last_failure: cut_over.last_failure.clone().map(|failure| shorten(failure, 1024)),
            blocked_by: cut_over.blocked_by.clone().map(|blocker| shorten(blocker, 1024)),
            locked_milliseconds: cut_over.locked.map(|locked| i64::try_from(locked.as_millis()).unwrap_or(i64::MAX)),
            window_opens_at: window_opens_at(facts),
            approved_at: None,
        },
        None => CutOverStatus { window_opens_at: None, ..before.cloned().unwrap_or_default() },
    };
    next.approved_at = match (facts.approved, &facts.observed.state) {
        (true, _) => before.and_then(|before| before.approved_at.clone()).or_else(|| Some(time(facts.now))),
        // What opened the gate is kept for the record once it is over.
        (false, State::Ended(_)) => before.and_then(|before| before.approved_at.clone()),
        (false, _) => None,
    };
    (next != CutOverStatus::default()).then_some(next)
}

/// The word for people.
pub fn phase(observed: &Observed<'_>) -> &'static str {
    // As the conditions have it, also in the moment before the engine has ended.
    match observed.way_back {
        _ if matches!(observed.state, State::Ended(_)) => {}
        WayBack::Open { .. } => return "Revertible",
        way_back if way_back.is_taken_back() => return "Reverted",
        _ => {}
    }
    match observed.state {
        State::New | State::Queued(_) => "Queued",
        State::Paused => "Paused",
        State::Retrying(_) => "Retrying",
        State::Blocked(_) => "Blocked",
        State::Working => match observed.snapshot {
            _ if observed.waits_for_slot.is_some() => "Queued",
            Some(snapshot) if snapshot.retrying.is_some() => "Retrying",
            Some(snapshot) => match snapshot.phase {
                Phase::Inspecting => "Inspecting",
                Phase::Copying => "Copying",
                Phase::CatchingUp => "CatchingUp",
                Phase::Verifying => "Verifying",
                Phase::AwaitingCutOver => "AwaitingCutOver",
                Phase::CuttingOver => "CuttingOver",
                Phase::Revertible => "Revertible",
                Phase::CleaningUp | Phase::Finished => "CleaningUp",
                Phase::Paused => "Paused",
            },
            None => "Inspecting",
        },
        State::Ended(End::Succeeded(Success::Reverted)) => "Reverted",
        State::Ended(End::Succeeded(_)) => "Succeeded",
        State::Ended(End::Cancelled { .. }) => "Cancelled",
        State::Ended(End::Refused { .. }) => "Refused",
        State::Ended(End::Failed { .. }) => "Failed",
        State::Ended(End::Unknown { .. }) => "OutcomeUnknown",
    }
}

/// All words of [`phase`], for metrics.
pub const PHASES: [&str; 18] = [
    "Queued",
    "Inspecting",
    "Copying",
    "CatchingUp",
    "Verifying",
    "AwaitingCutOver",
    "CuttingOver",
    "Revertible",
    "CleaningUp",
    "Paused",
    "Retrying",
    "Blocked",
    "Succeeded",
    "Reverted",
    "Cancelled",
    "Refused",
    "Failed",
    "OutcomeUnknown",
];

/// What a person reads of a revert.
const TAKEN_BACK: &str = "the change was taken back: the table has its former definition";

fn message(observed: &Observed<'_>) -> String {
    match observed.way_back {
        _ if matches!(observed.state, State::Ended(_)) => {}
        WayBack::Open { until } => return revertible(observed, *until),
        way_back if way_back.is_taken_back() => return TAKEN_BACK.to_owned(),
        _ => {}
    }
    match observed.state {
        State::New => "not processed yet".to_owned(),
        State::Queued(why) => why.clone(),
        State::Paused => "paused; the work is kept".to_owned(),
        State::Retrying(trouble) | State::Blocked(trouble) => {
            format!("{}{NEXT_ATTEMPT}{}", trouble.message, clock(trouble.next_attempt))
        }
        State::Working => working(observed),
        State::Ended(End::Succeeded(Success::Proven)) => "dry run: the change can be made; nothing was changed".to_owned(),
        State::Ended(End::Succeeded(Success::Tested)) => {
            "tested: the tables were swapped and swapped back; the table is unchanged, and the new one is kept beside it".to_owned()
        }
        State::Ended(End::Succeeded(Success::Reverted)) => TAKEN_BACK.to_owned(),
        State::Ended(End::Succeeded(Success::Changed)) => "the table has its new definition".to_owned(),
        State::Ended(
            End::Cancelled { message } | End::Refused { message, .. } | End::Failed { message, .. } | End::Unknown { message },
        ) => message.clone(),
    }
}

/// The change is made; an engine keeps the old table current, or should.
fn revertible(observed: &Observed<'_>, until: Option<Timestamp>) -> String {
    let until = until.map(|until| format!(" until {}", clock(until))).unwrap_or_default();
    let made = format!("the table has its new definition; the change can be taken back{until}");
    match (observed.state, observed.snapshot) {
        (State::Paused, _) => format!("{made}; paused: the old table is not kept current meanwhile"),
        (State::Retrying(trouble) | State::Blocked(trouble), _) => {
            format!("{made}; {}{NEXT_ATTEMPT}{}", trouble.message, clock(trouble.next_attempt))
        }
        (_, Some(Snapshot { retrying: Some(retrying), .. })) => {
            let next = Timestamp::try_from(retrying.next_attempt).map(|at| format!("{NEXT_ATTEMPT}{}", clock(at))).unwrap_or_default();
            format!("{made}; {}: {}{next}", retrying.reason, retrying.message)
        }
        (_, Some(Snapshot { phase: Phase::CuttingOver, cut_over, .. })) => match (&cut_over.blocked_by, &cut_over.last_failure) {
            (Some(blocker), _) => format!("taking the change back: waiting for {blocker}"),
            (None, Some(failure)) => format!("taking the change back; the last attempt failed: {failure}"),
            (None, None) => "taking the change back".to_owned(),
        },
        _ => made,
    }
}

fn working(observed: &Observed<'_>) -> String {
    if let Some(why) = observed.waits_for_slot {
        return why.to_owned();
    }
    let Some(snapshot) = observed.snapshot else { return "starting".to_owned() };
    if let Some(retrying) = &snapshot.retrying {
        let next = Timestamp::try_from(retrying.next_attempt).map(|at| format!("{NEXT_ATTEMPT}{}", clock(at))).unwrap_or_default();
        return format!("{}: {}{next}", retrying.reason, retrying.message);
    }
    let progress = &snapshot.progress;
    let throttle = snapshot.throttle.as_ref().map(|throttle| format!("; throttled by {}", throttle_words(throttle))).unwrap_or_default();
    match snapshot.phase {
        Phase::Inspecting => "reading definitions and trying the change on an empty table".to_owned(),
        Phase::Copying => {
            let when = if snapshot.throttle.is_some() { " once the throttle ends" } else { "" };
            let left = progress.eta.map(|eta| format!(", {} left{when}", rounded(eta))).unwrap_or_default();
            format!("{} % copied{left}{throttle}", progress.percent())
        }
        Phase::CatchingUp => match &snapshot.stuck {
            Some(why) => format!("all rows are copied; {why}{throttle}"),
            None => format!("all rows are copied; {} changed keys are waiting{throttle}", progress.backlog),
        },
        Phase::Verifying => format!("comparing both tables{throttle}"),
        Phase::AwaitingCutOver => format!("ready for the cut-over; {}", waits(&snapshot.cut_over)),
        Phase::CuttingOver => match (&snapshot.cut_over.blocked_by, &snapshot.cut_over.last_failure) {
            (Some(blocker), _) => format!("the cut-over is waiting for {blocker}"),
            (None, Some(failure)) => format!("swapping the tables; the last attempt failed: {failure}"),
            (None, None) => "swapping the tables".to_owned(),
        },
        Phase::Revertible | Phase::CleaningUp | Phase::Finished => "finished; removing leftovers".to_owned(),
        Phase::Paused => "paused; the work is kept".to_owned(),
    }
}

fn waits(cut_over: &crate::engine::contract::snapshot::CutOver) -> String {
    match cut_over.waits {
        Some(Waits::Hook) => {
            format!("waiting for a hook's consent: {}", cut_over.vetoed_by.as_deref().unwrap_or("it will be asked again soon"))
        }
        Some(Waits::Throttle) => "waiting until the throttle ends".to_owned(),
        Some(Waits::Window { opens }) => match opens.and_then(|opens| Timestamp::try_from(opens).ok()) {
            Some(opens) => format!("waiting for the window that opens at {}", clock(opens)),
            None => "none of its windows ever opens".to_owned(),
        },
        Some(Waits::Approval) | None => "waiting for the annotation theseus.dev/cut-over=approved".to_owned(),
    }
}

fn throttle_words(throttle: &crate::engine::contract::snapshot::Throttle) -> String {
    if throttle.detail.is_empty() { throttle.reason.to_owned() } else { format!("{} ({})", throttle.reason, throttle.detail) }
}

fn clock(at: Timestamp) -> String {
    time(at).0.to_string()
}

/// What stands between an error and the time of the next attempt, at the end of a message.
const NEXT_ATTEMPT: &str = "; next attempt at ";

/// A message without the time of the next attempt: what is wrong, which is the same at each attempt.
pub(super) fn what_is_wrong(message: &str) -> &str {
    message.rsplit_once(NEXT_ATTEMPT).map_or(message, |(wrong, _)| wrong)
}

/// How soon a status has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// It is what is there.
    None,
    /// Only numbers and sentences moved.
    Whenever,
    /// Something changed that a program may wait for.
    Now,
}

/// Compares the status that was written with the one that should be.
pub(super) fn urgency(written: &SchemaMigrationStatus, next: &SchemaMigrationStatus) -> Urgency {
    if written == next {
        return Urgency::None;
    }
    if essence(written) == essence(next) { Urgency::Whenever } else { Urgency::Now }
}

/// The status without what moves all the time.
fn essence(status: &SchemaMigrationStatus) -> SchemaMigrationStatus {
    let mut essence = status.clone();
    essence.message = None;
    essence.progress = None;
    essence.verification = None;
    if let Some(throttle) = &mut essence.throttle {
        throttle.detail = None;
        throttle.total_seconds = 0;
    }
    if essence.throttle == Some(ThrottleStatus::default()) {
        essence.throttle = None;
    }
    for condition in &mut essence.conditions {
        // An error that becomes another one is news.
        condition.message =
            if condition.message.contains(NEXT_ATTEMPT) { what_is_wrong(&condition.message).to_owned() } else { String::new() };
    }
    essence
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
