//! The condition table: what each situation looks like in `status.conditions`. Pure.
//!
//! Every condition is there from the first visit, each time (server-side apply removes what is not sent). Reasons are API, messages are not.
use crate::api::annotations::InvalidAnnotation;
use crate::api::conditions::{
    ACCEPTED, CUT_OVER_READY, NO_WINDOW, PAUSED, READY, RECONCILING, REVERT_POSSIBLE, STALLED, SUCCEEDED, THROTTLED, Truth, VALIDATED,
    WINDOW_OPEN, Wanted,
};
use crate::controller::fleet::state::{End, State, Success, WayBack};
use crate::engine::contract::snapshot::{Phase, Snapshot};

/// What was observed of a migration: the conditions follow from it.
#[derive(Debug)]
pub struct Observed<'a> {
    /// Where the migration is.
    pub state: &'a State,
    /// What the engine says; only looked at while it works.
    pub snapshot: Option<&'a Snapshot>,
    /// Whether the inspector has accepted the change, now or in an earlier life of the operator.
    pub validated: bool,
    /// Whether the change can be taken back: then it is made, whatever becomes of the engine that keeps the old table current.
    pub way_back: &'a WayBack,
    /// The engine waits, paused, for a slot: the reason.
    pub waits_for_slot: Option<&'a str>,
    /// Annotations that are not valid.
    pub invalid_annotations: &'a [InvalidAnnotation],
    /// A changed field of the spec that is not valid; the value before it stays in force.
    pub invalid_controls: Option<&'a str>,
}

/// The situations that a migration can be in (`docs/reference/schemamigration.md`), and how `Ready` and `Reconciling` look in them.
struct Row {
    ready: Truth,
    reconciling: Truth,
    stalled: Truth,
    succeeded: Truth,
    reason: String,
    /// For people.
    message: String,
}

impl Row {
    fn going_on(reason: &str, message: impl Into<String>) -> Self {
        Self {
            ready: Truth::False,
            reconciling: Truth::True,
            stalled: Truth::False,
            succeeded: Truth::Unknown,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    fn over(reason: &str, succeeded: Truth, message: impl Into<String>) -> Self {
        let good = succeeded == Truth::True;
        Self {
            ready: good.into(),
            reconciling: Truth::False,
            stalled: (!good).into(),
            succeeded,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// The word of a phase in reasons: one per row of the table.
fn reason_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Inspecting => "Inspecting",
        Phase::Copying | Phase::CatchingUp | Phase::Verifying => "Copying",
        Phase::AwaitingCutOver => "AwaitingCutOver",
        Phase::CuttingOver | Phase::Revertible | Phase::CleaningUp | Phase::Finished => "CuttingOver",
        Phase::Paused => "Paused",
    }
}

fn row(observed: &Observed<'_>, message: &str) -> Row {
    if observed.way_back.is_made() && !matches!(observed.state, State::Ended(_)) {
        let reason = if observed.way_back.is_taken_back() { "Reverted" } else { "Succeeded" };
        return Row::over(reason, Truth::True, message);
    }
    match observed.state {
        State::New => Row::going_on("Queued", message),
        State::Queued(_) => Row::going_on("Queued", message),
        State::Paused => Row::going_on("Paused", message),
        State::Retrying(_) => Row::going_on("Retrying", message),
        State::Blocked(trouble) => Row::over(trouble.reason.as_str(), Truth::Unknown, message),
        State::Working => match observed.snapshot {
            _ if observed.waits_for_slot.is_some() => Row::going_on("Queued", message),
            Some(snapshot) if snapshot.retrying.is_some() => Row::going_on("Retrying", message),
            Some(snapshot) => Row::going_on(reason_of(snapshot.phase), message),
            None => Row::going_on("Inspecting", message),
        },
        State::Ended(End::Succeeded(Success::Reverted)) => Row::over("Reverted", Truth::True, message),
        State::Ended(End::Succeeded(_)) => Row::over("Succeeded", Truth::True, message),
        State::Ended(End::Cancelled { .. }) => Row::over("Cancelled", Truth::False, message),
        State::Ended(End::Refused { reason, .. } | End::Failed { reason, .. }) => Row::over(reason, Truth::False, message),
        State::Ended(End::Unknown { .. }) => Row::over("OutcomeUnknown", Truth::Unknown, message),
    }
}

/// The whole set. `message` is the present state in a sentence.
pub fn table(observed: &Observed<'_>, message: &str) -> Vec<Wanted> {
    let row = row(observed, message);
    let reason = || row.reason.clone();
    let working = match observed.state {
        State::Working => observed.snapshot,
        _ => None,
    };
    let paused = *observed.state == State::Paused
        || working.is_some_and(|snapshot| snapshot.phase == Phase::Paused && observed.waits_for_slot.is_none());
    let throttle = working.and_then(|snapshot| snapshot.throttle.as_ref()).filter(|_| !paused);
    let cut_over_ready = !observed.way_back.is_made()
        && working.is_some_and(|snapshot| matches!(snapshot.phase, Phase::AwaitingCutOver | Phase::CuttingOver));
    vec![
        accepted(observed),
        match observed.state {
            State::Ended(End::Refused { reason, message }) => Wanted::new(VALIDATED, Truth::False, reason.as_str(), message.as_str()),
            _ if observed.validated => Wanted::new(VALIDATED, Truth::True, "Validated", "the change can be made"),
            State::Ended(End::Succeeded(_)) => Wanted::new(VALIDATED, Truth::True, "Validated", "the change can be made"),
            _ => Wanted::new(VALIDATED, Truth::Unknown, reason(), "the change has not been tried on the server yet"),
        },
        Wanted::new(READY, row.ready, reason(), row.message.as_str()),
        Wanted::new(RECONCILING, row.reconciling, reason(), if row.reconciling == Truth::True { row.message.as_str() } else { "" }),
        Wanted::new(STALLED, row.stalled, reason(), if row.stalled == Truth::True { row.message.as_str() } else { "" }),
        Wanted::new(
            SUCCEEDED,
            row.succeeded,
            reason(),
            if row.succeeded == Truth::Unknown && row.stalled != Truth::True { "" } else { row.message.as_str() },
        ),
        match throttle {
            Some(throttle) => Wanted::new(THROTTLED, true, throttle.reason, throttle.detail.as_str()),
            None => Wanted::new(THROTTLED, false, "NotThrottled", ""),
        },
        Wanted::new(PAUSED, paused, if paused { "Paused" } else { "NotPaused" }, ""),
        match (cut_over_ready, observed.state) {
            (true, _) => Wanted::new(CUT_OVER_READY, true, reason(), "the copy is complete, verified and current"),
            (false, _) => Wanted::new(CUT_OVER_READY, false, reason(), ""),
        },
        revert_possible(observed),
    ]
}

fn revert_possible(observed: &Observed<'_>) -> Wanted {
    match (observed.way_back, observed.state) {
        (_, State::Ended(End::Succeeded(Success::Reverted))) => {
            Wanted::new(REVERT_POSSIBLE, false, "Reverted", "the change was taken back")
        }
        (WayBack::Open { until }, state) if !matches!(state, State::Ended(_)) => {
            let until = until.map(|until| format!(" until {until:.0}")).unwrap_or_default();
            let message = format!("the annotation theseus.dev/revert=true takes the change back without loss{until}");
            Wanted::new(REVERT_POSSIBLE, true, WINDOW_OPEN, message)
        }
        (WayBack::Over { reason, message }, _) => Wanted::new(REVERT_POSSIBLE, false, reason.as_str(), message.as_str()),
        (WayBack::None | WayBack::Open { .. }, _) => Wanted::new(REVERT_POSSIBLE, false, NO_WINDOW, ""),
    }
}

fn accepted(observed: &Observed<'_>) -> Wanted {
    if let Some(problem) = observed.invalid_controls {
        return Wanted::new(ACCEPTED, false, "InvalidSpec", format!("{problem}; the previous values stay in force"));
    }
    if observed.invalid_annotations.is_empty() {
        return Wanted::new(ACCEPTED, true, "Accepted", "");
    }
    let problems: Vec<String> = observed.invalid_annotations.iter().map(ToString::to_string).collect();
    Wanted::new(ACCEPTED, false, "InvalidAnnotation", problems.join("; "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::controller::fleet::state::{Success, Trouble};
    use crate::engine::contract::reason::Reason;
    use crate::engine::contract::snapshot::{Retrying, Throttle};
    use k8s_openapi::jiff::Timestamp;
    use std::time::SystemTime;

    fn observed<'a>(state: &'a State, snapshot: Option<&'a Snapshot>) -> Observed<'a> {
        Observed {
            state,
            snapshot,
            validated: snapshot.is_some_and(|s| s.validated),
            way_back: &WayBack::None,
            waits_for_slot: None,
            invalid_annotations: &[],
            invalid_controls: None,
        }
    }

    fn in_phase(phase: Phase) -> Snapshot {
        Snapshot { phase, validated: phase != Phase::Inspecting, ..Snapshot::default() }
    }

    /// `Type=Status/Reason` of the conditions that a row of the table speaks of.
    fn line(observed: &Observed<'_>) -> String {
        let table = table(observed, "message");
        let word =
            |type_: &str| table.iter().find(|wanted| wanted.type_ == type_).map(|w| format!("{}/{}", w.truth.as_str(), w.reason)).unwrap();
        let flag = |type_: &str| table.iter().any(|wanted| wanted.type_ == type_ && wanted.truth == Truth::True);
        let mut line = format!("Ready={} Reconciling={}", word(READY), word(RECONCILING));
        if flag(STALLED) {
            line += &format!(" Stalled={}", word(STALLED));
        }
        line += &format!(" Succeeded={}", word(SUCCEEDED));
        line += &format!(" Validated={}", word(VALIDATED).split('/').next().unwrap());
        for type_ in [THROTTLED, PAUSED, CUT_OVER_READY] {
            if flag(type_) {
                line += &format!(" {type_}=True");
            }
        }
        line
    }

    #[test]
    fn the_table_of_the_contract() {
        let text = String::new;
        let trouble = || Trouble { reason: Reason::SecretNotFound, message: text(), next_attempt: Timestamp::UNIX_EPOCH };
        let throttled = Snapshot {
            throttle: Some(Throttle { reason: "User", detail: text(), since: SystemTime::UNIX_EPOCH }),
            ..in_phase(Phase::Copying)
        };
        let retrying = Snapshot {
            retrying: Some(Retrying { reason: Reason::ConnectionFailed, message: text(), next_attempt: SystemTime::UNIX_EPOCH }),
            ..in_phase(Phase::Copying)
        };
        let phase = |phase| (State::Working, Some(in_phase(phase)));
        for ((state, snapshot), expected) in [
            ((State::Queued(text()), None), "Ready=False/Queued Reconciling=True/Queued Succeeded=Unknown/Queued Validated=Unknown"),
            (phase(Phase::Inspecting), "Ready=False/Inspecting Reconciling=True/Inspecting Succeeded=Unknown/Inspecting Validated=Unknown"),
            (phase(Phase::Copying), "Ready=False/Copying Reconciling=True/Copying Succeeded=Unknown/Copying Validated=True"),
            (phase(Phase::CatchingUp), "Ready=False/Copying Reconciling=True/Copying Succeeded=Unknown/Copying Validated=True"),
            (
                (State::Working, Some(throttled)),
                "Ready=False/Copying Reconciling=True/Copying Succeeded=Unknown/Copying Validated=True Throttled=True",
            ),
            (phase(Phase::Paused), "Ready=False/Paused Reconciling=True/Paused Succeeded=Unknown/Paused Validated=True Paused=True"),
            ((State::Paused, None), "Ready=False/Paused Reconciling=True/Paused Succeeded=Unknown/Paused Validated=Unknown Paused=True"),
            (
                phase(Phase::AwaitingCutOver),
                "Ready=False/AwaitingCutOver Reconciling=True/AwaitingCutOver Succeeded=Unknown/AwaitingCutOver Validated=True CutOverReady=True",
            ),
            (
                phase(Phase::CuttingOver),
                "Ready=False/CuttingOver Reconciling=True/CuttingOver Succeeded=Unknown/CuttingOver Validated=True CutOverReady=True",
            ),
            (phase(Phase::CleaningUp), "Ready=False/CuttingOver Reconciling=True/CuttingOver Succeeded=Unknown/CuttingOver Validated=True"),
            ((State::Working, Some(retrying)), "Ready=False/Retrying Reconciling=True/Retrying Succeeded=Unknown/Retrying Validated=True"),
            (
                (State::Retrying(trouble()), None),
                "Ready=False/Retrying Reconciling=True/Retrying Succeeded=Unknown/Retrying Validated=Unknown",
            ),
            (
                (State::Blocked(trouble()), None),
                "Ready=False/SecretNotFound Reconciling=False/SecretNotFound Stalled=True/SecretNotFound Succeeded=Unknown/SecretNotFound Validated=Unknown",
            ),
            (
                (State::Ended(End::Refused { reason: "NoUsableKey".to_owned(), message: text() }), None),
                "Ready=False/NoUsableKey Reconciling=False/NoUsableKey Stalled=True/NoUsableKey Succeeded=False/NoUsableKey Validated=False",
            ),
            (
                (State::Ended(End::Failed { reason: "DuplicateKey".to_owned(), message: text() }), Some(in_phase(Phase::Finished))),
                "Ready=False/DuplicateKey Reconciling=False/DuplicateKey Stalled=True/DuplicateKey Succeeded=False/DuplicateKey Validated=True",
            ),
            (
                (State::Ended(End::Unknown { message: text() }), Some(in_phase(Phase::Finished))),
                "Ready=False/OutcomeUnknown Reconciling=False/OutcomeUnknown Stalled=True/OutcomeUnknown Succeeded=Unknown/OutcomeUnknown Validated=True",
            ),
            (
                (State::Ended(End::Cancelled { message: text() }), Some(in_phase(Phase::Finished))),
                "Ready=False/Cancelled Reconciling=False/Cancelled Stalled=True/Cancelled Succeeded=False/Cancelled Validated=True",
            ),
            (
                (State::Ended(End::Succeeded(Success::Changed)), Some(in_phase(Phase::Finished))),
                "Ready=True/Succeeded Reconciling=False/Succeeded Succeeded=True/Succeeded Validated=True",
            ),
        ] {
            assert_eq!(line(&observed(&state, snapshot.as_ref())), expected);
        }
    }

    /// Whoever waits for `Succeeded` has it from the swap on, whatever happens to the engine in its revert window.
    #[test]
    fn a_change_that_can_be_taken_back_is_made() {
        let trouble = || Trouble { reason: Reason::ConnectionFailed, message: String::new(), next_attempt: Timestamp::UNIX_EPOCH };
        let open = WayBack::Open { until: Some(Timestamp::UNIX_EPOCH) };
        let done = "Ready=True/Succeeded Reconciling=False/Succeeded Succeeded=True/Succeeded Validated=True";
        for (state, phase) in [
            (State::New, None),
            (State::Queued(String::new()), None),
            (State::Retrying(trouble()), Some(Phase::Revertible)),
            (State::Blocked(trouble()), Some(Phase::Inspecting)),
            (State::Working, None),
            (State::Working, Some(Phase::Revertible)),
            (State::Working, Some(Phase::CleaningUp)),
        ] {
            let snapshot = phase.map(in_phase);
            let observed = Observed { way_back: &open, validated: true, ..observed(&state, snapshot.as_ref()) };
            assert_eq!(line(&observed), done, "{state:?} {phase:?}");
            let possible = table(&observed, "m").into_iter().find(|wanted| wanted.type_ == REVERT_POSSIBLE).unwrap();
            assert_eq!((possible.truth, possible.reason.as_str()), (Truth::True, WINDOW_OPEN));
        }
        let over = WayBack::Over { reason: "DataDoesNotFit".to_owned(), message: "a row".to_owned() };
        // The engine says so a moment before it ends.
        let ending = in_phase(Phase::CleaningUp);
        assert_eq!(line(&Observed { way_back: &over, ..observed(&State::Working, Some(&ending)) }), done);
        for (success, way_back, reason) in [
            (Success::Changed, &over, "DataDoesNotFit"),
            (Success::Changed, &WayBack::None, NO_WINDOW),
            (Success::Reverted, &WayBack::None, "Reverted"),
        ] {
            let state = State::Ended(End::Succeeded(success));
            let possible = table(&Observed { way_back, ..observed(&state, None) }, "m").pop().unwrap();
            assert_eq!((possible.type_, possible.truth, possible.reason.as_str()), (REVERT_POSSIBLE, Truth::False, reason));
        }
        let state = State::Ended(End::Succeeded(Success::Reverted));
        assert_eq!(line(&observed(&state, None)), "Ready=True/Reverted Reconciling=False/Reverted Succeeded=True/Reverted Validated=True");
    }

    #[test]
    fn the_set_is_always_whole_and_has_no_empty_reason() {
        let states =
            [State::New, State::Queued(String::new()), State::Paused, State::Working, State::Ended(End::Succeeded(Success::Proven))];
        for state in states {
            let table = table(&observed(&state, None), "");
            let types: Vec<_> = table.iter().map(|wanted| wanted.type_).collect();
            assert_eq!(
                types,
                [ACCEPTED, VALIDATED, READY, RECONCILING, STALLED, SUCCEEDED, THROTTLED, PAUSED, CUT_OVER_READY, REVERT_POSSIBLE]
            );
            assert!(table.iter().all(|wanted| !wanted.reason.is_empty()), "{state:?}");
        }
    }

    #[test]
    fn an_invalid_annotation_is_a_condition_and_changes_nothing_else() {
        let invalid_annotations =
            [InvalidAnnotation { annotation: "theseus.dev/pause".to_owned(), expected: "the value must be \"true\" or \"false\"" }];
        let snapshot = in_phase(Phase::Copying);
        let with = table(&Observed { invalid_annotations: &invalid_annotations, ..observed(&State::Working, Some(&snapshot)) }, "m");
        let without = table(&observed(&State::Working, Some(&snapshot)), "m");
        assert_eq!((with[0].truth, with[0].reason.as_str()), (Truth::False, "InvalidAnnotation"));
        assert!(with[0].message.contains("theseus.dev/pause"));
        assert_eq!(with[1..], without[1..]);
    }

    #[test]
    fn an_engine_that_is_paused_only_because_it_has_no_slot_is_queued() {
        let snapshot = in_phase(Phase::Paused);
        let observed = Observed { waits_for_slot: Some("waits"), ..observed(&State::Working, Some(&snapshot)) };
        assert_eq!(line(&observed), "Ready=False/Queued Reconciling=True/Queued Succeeded=Unknown/Queued Validated=True");
    }
}

#[cfg(test)]
#[path = "adoption_tests.rs"]
mod adoption_tests;
