//! Step 3: what to do now. Pure: from what is known to one [`Directive`].
use crate::controller::fleet::queue::Admission;
use crate::controller::fleet::state::{End, State};
use crate::controller::intake::validate::Invalid;
use crate::engine::contract::reason::Reason;

/// What is known at this visit.
#[derive(Debug)]
pub struct PlanFacts<'a> {
    /// Where the migration is.
    pub state: &'a State,
    /// Whether an engine is there for it.
    pub engine: bool,
    /// Whether an engine ever was: tables may be there.
    pub begun: bool,
    /// `suspend`, or the annotation `pause`.
    pub pause: bool,
    /// The annotation `cancel`.
    pub cancel: bool,
    /// The annotation `retry` has a value that was not acted upon.
    pub new_retry_token: bool,
    /// Whether tables are dropped when an unfinished migration ends.
    pub cleans_up: bool,
    /// A new engine must not be started yet: the last one ended in a way that needs time.
    pub must_wait: bool,
    /// Why it must not begin yet, by `spec.after`.
    pub waits_for: Option<&'a str>,
    /// What the spec refers to.
    pub target: &'a Target,
    /// The place in the queue, where it was asked for.
    pub place: Option<&'a Admission>,
}

/// What the spec refers to, as far as it was checked.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// There was no need.
    NotLookedAt,
    /// Everything is there and is valid.
    Known,
    /// Something is missing.
    Trouble(Reason, String),
    /// Something is not valid.
    Invalid(Invalid),
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Directive {
    /// It is over.
    Rest,
    /// It failed and was told to try again: forget the end, and look again.
    Restart,
    /// Tell the engine what is wanted now.
    Steer,
    /// Give it an engine.
    Start,
    /// Let it wait for its table or a slot.
    Wait(String),
    /// Let it wait until it is time for another attempt.
    Linger,
    /// It is paused and has no engine.
    Park,
    /// Something is missing: try again later.
    Retry(Reason, String),
    /// It is over before it began.
    Refuse(Invalid),
    /// Drop what an earlier engine made, then it is cancelled.
    CleanUpAndCancel,
    /// It is cancelled; nothing is to be dropped.
    Cancel(&'static str),
}

/// Whether the decision needs to know what the spec refers to. A running engine does not mind a Secret that has gone.
pub(super) fn needs_target(state: &State, engine: bool, pause: bool, cancel: bool, begun: bool, cleans_up: bool) -> bool {
    match state {
        State::Ended(_) => false,
        _ if engine => false,
        _ if cancel => begun && cleans_up,
        _ => !pause,
    }
}

/// Decides.
pub fn plan(facts: &PlanFacts<'_>) -> Directive {
    if let State::Ended(end) = facts.state {
        return if facts.new_retry_token && !facts.cancel && end.can_be_retried() { Directive::Restart } else { Directive::Rest };
    }
    if facts.engine {
        return Directive::Steer;
    }
    if facts.cancel {
        return match facts.target {
            _ if !facts.begun => Directive::Cancel("cancelled before it began; nothing was touched"),
            _ if !facts.cleans_up => {
                Directive::Cancel("cancelled before the swap; its tables are kept, as spec.deletionPolicy Orphan requests")
            }
            Target::Known if facts.must_wait => Directive::Linger,
            Target::Known => Directive::CleanUpAndCancel,
            Target::Trouble(reason, message) => Directive::Retry(*reason, format!("cannot clean up: {message}")),
            Target::Invalid(invalid) => Directive::Retry(invalid.reason, format!("cannot clean up: {invalid}")),
            Target::NotLookedAt => Directive::Linger,
        };
    }
    if facts.pause {
        return Directive::Park;
    }
    if let (Some(why), false) = (facts.waits_for, matches!(facts.target, Target::Invalid(_))) {
        return Directive::Wait(why.to_owned());
    }
    match (facts.target, facts.place) {
        (Target::Invalid(invalid), _) => Directive::Refuse(invalid.clone()),
        (Target::Trouble(reason, message), _) => Directive::Retry(*reason, message.clone()),
        (Target::NotLookedAt, _) => Directive::Linger,
        (Target::Known, _) if facts.must_wait => Directive::Linger,
        (Target::Known, Some(Admission::Granted)) => Directive::Start,
        (Target::Known, Some(Admission::Waits(why))) => Directive::Wait(why.clone()),
        (Target::Known, Some(Admission::NotYet) | None) => Directive::Linger,
    }
}

/// What is left to do for a migration that is over.
#[derive(Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// Nothing.
    Nothing,
    /// Drop its tables now; `old_too` says whether the old table is among them.
    Drop {
        /// Also the old table.
        old_too: bool,
    },
    /// Look again at this time (seconds since 1970).
    LookAgainAt(i64),
    /// Delete the object.
    DeleteObject,
}

/// What an ended migration still has to do, in order: the tables, then the object itself.
#[derive(Debug, Clone, Copy)]
pub struct Afterlife<'a> {
    /// How it ended.
    pub end: &'a End,
    /// When, in seconds since 1970.
    pub completed_at: i64,
    /// Whether the state table (or the ghost) is still there.
    pub state_left: bool,
    /// Whether the old table is still there.
    pub old_left: bool,
    /// Seconds for which the old table stays; `None` for ever.
    pub retention: Option<i64>,
    /// Seconds for which the object stays; `None` for ever.
    pub time_to_live: Option<i64>,
    /// Dropping was given up: a table of that name is not ours.
    pub gave_up: bool,
}

/// Decides what comes after the end.
pub fn aftermath(after: Afterlife<'_>, now: i64) -> Aftermath {
    let mut next = None;
    if matches!(after.end, End::Succeeded(_)) && !after.gave_up && (after.state_left || after.old_left) {
        match after.retention {
            // Kept for ever: only the proof of ownership goes.
            None if after.state_left => return Aftermath::Drop { old_too: false },
            // The server changed the table itself: there is no old one to wait for.
            Some(_) if !after.old_left => return Aftermath::Drop { old_too: false },
            None => {}
            Some(retention) => {
                let due = after.completed_at.saturating_add(retention);
                if due <= now {
                    return Aftermath::Drop { old_too: true };
                }
                next = Some(due);
            }
        }
    }
    // The object is what remembers that the old table has to go, so it outlives the retention.
    match (next, after.time_to_live) {
        (Some(due), _) => Aftermath::LookAgainAt(due),
        (None, Some(ttl)) if after.completed_at.saturating_add(ttl) <= now => Aftermath::DeleteObject,
        (None, Some(ttl)) => Aftermath::LookAgainAt(after.completed_at.saturating_add(ttl)),
        (None, None) => Aftermath::Nothing,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::controller::fleet::state::Success;

    const KNOWN: Target = Target::Known;

    fn facts<'a>(state: &'a State, target: &'a Target, place: Option<&'a Admission>) -> PlanFacts<'a> {
        PlanFacts {
            state,
            engine: false,
            begun: false,
            pause: false,
            cancel: false,
            new_retry_token: false,
            cleans_up: true,
            must_wait: false,
            waits_for: None,
            target,
            place,
        }
    }

    fn failed() -> State {
        State::Ended(End::Failed { reason: "DuplicateKey".to_owned(), message: String::new() })
    }

    fn trouble() -> Target {
        Target::Trouble(Reason::SecretNotFound, "no Secret".to_owned())
    }

    #[test]
    fn a_new_migration_starts_when_it_has_a_place() {
        let waits = Admission::Waits("w".to_owned());
        let invalid = Invalid { reason: Reason::InvalidSpec, message: "bad".to_owned() };
        for (target, place, expected) in [
            (Target::Known, Some(Admission::Granted), Directive::Start),
            (Target::Known, Some(waits.clone()), Directive::Wait("w".to_owned())),
            (Target::Known, Some(Admission::NotYet), Directive::Linger),
            (trouble(), None, Directive::Retry(Reason::SecretNotFound, "no Secret".to_owned())),
            (Target::Invalid(invalid.clone()), None, Directive::Refuse(invalid.clone())),
        ] {
            assert_eq!(plan(&facts(&State::New, &target, place.as_ref())), expected);
        }
        let others = PlanFacts { waits_for: Some("others"), ..facts(&State::New, &Target::NotLookedAt, None) };
        assert_eq!(plan(&others), Directive::Wait("others".to_owned()));
        let nonsense = Target::Invalid(invalid.clone());
        assert_eq!(plan(&PlanFacts { target: &nonsense, ..others }), Directive::Refuse(invalid));
        assert_eq!(plan(&PlanFacts { pause: true, ..others }), Directive::Park);
        let later = PlanFacts { must_wait: true, ..facts(&State::New, &KNOWN, Some(&Admission::Granted)) };
        assert_eq!(plan(&later), Directive::Linger);
    }

    #[test]
    fn an_end_is_an_end_unless_a_failure_gets_a_new_token() {
        let cancelled = State::Ended(End::Cancelled { message: String::new() });
        let succeeded = State::Ended(End::Succeeded(Success::Changed));
        let unknown = State::Ended(End::Unknown { message: String::new() });
        for (state, token, cancel, expected) in [
            (failed(), false, false, Directive::Rest),
            (failed(), true, false, Directive::Restart),
            (failed(), true, true, Directive::Rest),
            (cancelled, true, false, Directive::Rest),
            (succeeded, true, false, Directive::Rest),
            (unknown, true, false, Directive::Rest),
        ] {
            let facts = PlanFacts { new_retry_token: token, cancel, pause: true, ..facts(&state, &Target::NotLookedAt, None) };
            assert_eq!(plan(&facts), expected, "{state:?} token {token} cancel {cancel}");
        }
    }

    #[test]
    fn an_engine_is_steered_whatever_is_asked_for() {
        for (pause, cancel) in [(false, false), (true, false), (false, true), (true, true)] {
            let facts = PlanFacts { engine: true, begun: true, pause, cancel, ..facts(&State::Working, &Target::NotLookedAt, None) };
            assert_eq!(plan(&facts), Directive::Steer);
        }
    }

    #[test]
    fn cancelling_without_an_engine_cleans_up_only_what_may_be_there() {
        let paused = State::Paused;
        let cancel =
            |begun, cleans_up, target| plan(&PlanFacts { cancel: true, pause: true, begun, cleans_up, ..facts(&paused, target, None) });
        assert!(matches!(cancel(false, true, &Target::NotLookedAt), Directive::Cancel(_)));
        assert!(matches!(cancel(true, false, &Target::NotLookedAt), Directive::Cancel(_)));
        assert_eq!(cancel(true, true, &KNOWN), Directive::CleanUpAndCancel);
        assert!(
            matches!(cancel(true, true, &trouble()), Directive::Retry(Reason::SecretNotFound, message) if message.contains("clean up"))
        );
    }

    #[test]
    fn a_paused_migration_has_no_engine_and_needs_nothing() {
        let facts = PlanFacts { pause: true, ..facts(&State::New, &Target::NotLookedAt, None) };
        assert_eq!(plan(&facts), Directive::Park);
        assert!(!needs_target(&State::New, false, true, false, false, true));
    }

    #[test]
    fn the_target_is_looked_at_only_when_it_matters() {
        // state, engine, pause, cancel, begun, cleans_up → needed
        for (state, engine, pause, cancel, begun, cleans_up, needed) in [
            (State::New, false, false, false, false, true, true),
            (State::Paused, false, false, false, true, true, true),
            (State::Working, true, false, false, true, true, false),
            (State::Working, true, false, true, true, true, false),
            (failed(), false, false, false, true, true, false),
            (State::New, false, false, true, false, true, false),
            (State::Paused, false, true, true, true, true, true),
            (State::Paused, false, true, true, true, false, false),
        ] {
            assert_eq!(
                needs_target(&state, engine, pause, cancel, begun, cleans_up),
                needed,
                "{state:?} {engine} {pause} {cancel} {begun}"
            );
        }
    }

    #[test]
    fn after_the_end_come_the_tables_and_then_the_object() {
        let succeeded = End::Succeeded(Success::Changed);
        let failed = End::Failed { reason: String::new(), message: String::new() };
        let base = Afterlife {
            end: &succeeded,
            completed_at: 1000,
            state_left: true,
            old_left: true,
            retention: Some(100),
            time_to_live: None,
            gave_up: false,
        };
        let gone = Afterlife { state_left: false, old_left: false, ..base };
        for (case, after, now, expected) in [
            ("before the retention ends", base, 1050, Aftermath::LookAgainAt(1100)),
            ("when it ends", base, 1100, Aftermath::Drop { old_too: true }),
            ("at once", Afterlife { retention: Some(0), ..base }, 1000, Aftermath::Drop { old_too: true }),
            ("no old table: the state goes at once", Afterlife { old_left: false, ..base }, 1000, Aftermath::Drop { old_too: false }),
            ("kept for ever: the state goes", Afterlife { retention: None, ..base }, 1000, Aftermath::Drop { old_too: false }),
            ("kept for ever", Afterlife { retention: None, state_left: false, ..base }, 9999, Aftermath::Nothing),
            ("given up", Afterlife { gave_up: true, ..base }, 9999, Aftermath::Nothing),
            ("nothing left", gone, 9999, Aftermath::Nothing),
            ("a failure keeps its tables", Afterlife { end: &failed, ..base }, 9999, Aftermath::Nothing),
            ("its object goes", Afterlife { end: &failed, time_to_live: Some(5), ..base }, 1005, Aftermath::DeleteObject),
            ("the object waits", Afterlife { time_to_live: Some(5), ..gone }, 1004, Aftermath::LookAgainAt(1005)),
            ("and goes", Afterlife { time_to_live: Some(5), ..gone }, 1005, Aftermath::DeleteObject),
            ("but not before the old table", Afterlife { time_to_live: Some(5), ..base }, 1050, Aftermath::LookAgainAt(1100)),
            (
                "which is kept for ever",
                Afterlife { time_to_live: Some(5), retention: None, state_left: false, ..base },
                1050,
                Aftermath::DeleteObject,
            ),
            ("far away", Afterlife { retention: Some(i64::MAX), ..base }, 1050, Aftermath::LookAgainAt(i64::MAX)),
        ] {
            assert_eq!(aftermath(after, now), expected, "{case}");
        }
    }
}
