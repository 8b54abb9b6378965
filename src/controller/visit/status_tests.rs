#![allow(clippy::unwrap_used)]
use super::*;
use crate::api::conditions::{READY, SUCCEEDED, Truth, find, is};
use crate::engine::contract::snapshot::{ChosenAlgorithm, CutOver, Snapshot, Throttle};
use crate::engine::contract::spec::Algorithm;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

struct Given {
    state: State,
    snapshot: Option<Snapshot>,
    previous: SchemaMigrationStatus,
    tables: TablesStatus,
    approved: bool,
    now: i64,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            state: State::Working,
            snapshot: None,
            previous: SchemaMigrationStatus::default(),
            tables: TablesStatus::default(),
            approved: false,
            now: 1000,
        }
    }
}

fn built(given: &Given) -> SchemaMigrationStatus {
    status(&StatusFacts {
        observed: Observed {
            state: &given.state,
            snapshot: given.snapshot.as_ref(),
            validated: false,
            way_back: &WayBack::None,
            waits_for_slot: None,
            invalid_annotations: &[],
            invalid_controls: None,
        },
        previous: &given.previous,
        generation: Some(3),
        instance: "pod",
        server: Some("db:3306"),
        engine_started: given.snapshot.as_ref().map(|_| at(900)),
        handled_retry: "",
        handled_force: "",
        after: &AfterStatus::default(),
        tables: &given.tables,
        started_at: Some(at(900)),
        completed_at: None,
        approved: given.approved,
        now: at(given.now),
    })
}

fn copying(rows: u64) -> Snapshot {
    Snapshot {
        phase: Phase::Copying,
        validated: true,
        algorithm: Some(ChosenAlgorithm { chosen: Algorithm::Copy, reason: "INSTANT refused".to_owned() }),
        progress: Progress { rows_copied: rows, rows_estimated: 1000, eta: Some(Duration::from_millis(130_500)), ..Progress::default() },
        session: "s".to_owned(),
        ..Snapshot::default()
    }
}

#[test]
fn a_status_survives_the_api_server_unchanged() {
    let throttled =
        Snapshot { throttle: Some(Throttle { reason: "User", detail: "d".to_owned(), since: SystemTime::now() }), ..copying(410) };
    let status = built(&Given { snapshot: Some(throttled), approved: true, ..Given::default() });
    let back: SchemaMigrationStatus = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
    assert_eq!(back, status);
    assert_eq!(status.message.as_deref(), Some("41 % copied, 2m10s left once the throttle ends; throttled by User (d)"));
    assert_eq!(status.algorithm.unwrap().chosen, "Copy");
    assert_eq!(status.progress.unwrap().eta.as_deref(), Some("2m10s"));
}

#[test]
fn figures_stay_when_the_engine_is_gone() {
    let running = built(&Given { snapshot: Some(copying(410)), ..Given::default() });
    let state = State::Ended(End::Succeeded(Success::Changed));
    let after = built(&Given { state, previous: running.clone(), now: 2000, ..Given::default() });
    assert_eq!((after.progress, after.algorithm, after.engine), (running.progress, running.algorithm, running.engine));
    assert!(is(&after.conditions, SUCCEEDED, Truth::True));
    assert_eq!(find(&after.conditions, READY).unwrap().last_transition_time, time(at(2000)));
}

#[test]
fn only_what_programs_wait_for_is_urgent() {
    let before = built(&Given { snapshot: Some(copying(410)), ..Given::default() });
    let written = |given: Given| built(&Given { previous: before.clone(), now: 1005, ..given });
    let same = written(Given { snapshot: Some(copying(410)), ..Given::default() });
    assert_eq!(urgency(&before, &same), Urgency::None);
    let numbers = written(Given { snapshot: Some(copying(500)), ..Given::default() });
    assert_eq!(urgency(&before, &numbers), Urgency::Whenever);
    let waited = Snapshot { throttled_total: Duration::from_secs(9), ..copying(410) };
    assert_eq!(urgency(&before, &written(Given { snapshot: Some(waited), ..Given::default() })), Urgency::Whenever);
    for (case, given) in [
        ("phase", Given { snapshot: Some(Snapshot { phase: Phase::CatchingUp, ..copying(410) }), ..Given::default() }),
        (
            "throttle",
            Given {
                snapshot: Some(Snapshot {
                    throttle: Some(Throttle { reason: "User", detail: String::new(), since: SystemTime::UNIX_EPOCH }),
                    ..copying(410)
                }),
                ..Given::default()
            },
        ),
        (
            "cut-over",
            Given {
                snapshot: Some(Snapshot { cut_over: CutOver { attempts: 1, ..CutOver::default() }, ..copying(410) }),
                ..Given::default()
            },
        ),
        (
            "tables",
            Given {
                snapshot: Some(copying(410)),
                tables: TablesStatus { ghost: "g".to_owned(), ..TablesStatus::default() },
                ..Given::default()
            },
        ),
        ("approval", Given { snapshot: Some(copying(410)), approved: true, ..Given::default() }),
        ("end", Given { state: State::Ended(End::Succeeded(Success::Changed)), ..Given::default() }),
    ] {
        assert_eq!(urgency(&before, &written(given)), Urgency::Now, "{case}");
    }
}

#[test]
fn the_approval_has_a_time_while_it_lasts() {
    let approved_at = |status: &SchemaMigrationStatus| status.cut_over.as_ref().and_then(|cut_over| cut_over.approved_at.clone());
    let none = built(&Given { snapshot: Some(copying(1)), ..Given::default() });
    assert_eq!(approved_at(&none), None);
    let given = built(&Given { snapshot: Some(copying(1)), previous: none, approved: true, now: 50, ..Given::default() });
    assert_eq!(approved_at(&given), Some(time(at(50))));
    let still = built(&Given { snapshot: Some(copying(1)), previous: given.clone(), approved: true, now: 60, ..Given::default() });
    assert_eq!(approved_at(&still), Some(time(at(50))));
    let taken_back = built(&Given { snapshot: Some(copying(1)), previous: still.clone(), now: 70, ..Given::default() });
    assert_eq!(approved_at(&taken_back), None);
    let over = built(&Given { state: State::Ended(End::Succeeded(Success::Changed)), previous: still, now: 80, ..Given::default() });
    assert_eq!(approved_at(&over), Some(time(at(50))));
}

#[test]
fn every_phase_is_in_the_list_for_metrics() {
    let phases = [
        Phase::Inspecting,
        Phase::Copying,
        Phase::CatchingUp,
        Phase::Verifying,
        Phase::AwaitingCutOver,
        Phase::CuttingOver,
        Phase::Revertible,
        Phase::CleaningUp,
        Phase::Paused,
        Phase::Finished,
    ];
    for engine_phase in phases {
        let status = built(&Given { snapshot: Some(Snapshot { phase: engine_phase, ..Snapshot::default() }), ..Given::default() });
        assert!(PHASES.contains(&status.phase.as_deref().unwrap()), "{engine_phase:?}");
    }
}

#[test]
fn an_error_that_becomes_another_one_is_urgent_and_its_next_attempt_is_not() {
    let retrying = |message: &str, at_second| Given {
        state: State::Retrying(crate::controller::fleet::state::Trouble {
            reason: crate::engine::contract::reason::Reason::SecretNotFound,
            message: message.to_owned(),
            next_attempt: at(at_second),
        }),
        ..Given::default()
    };
    let before = built(&retrying("no Secret", 1));
    assert_eq!(before.message.as_deref(), Some("no Secret; next attempt at 1970-01-01T00:00:01Z"));
    assert_eq!(what_is_wrong(before.message.as_deref().unwrap()), "no Secret");
    let again = |given: Given| built(&Given { previous: before.clone(), ..given });
    assert_eq!(urgency(&before, &again(retrying("no Secret", 2))), Urgency::Whenever);
    assert_eq!(urgency(&before, &again(retrying("no server", 2))), Urgency::Now);
}

#[test]
fn what_the_gate_waits_for_is_told() {
    let opens = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_232_800);
    let status = |waits| {
        let cut_over = CutOver { waits, last_attempt: Some(SystemTime::UNIX_EPOCH), ..CutOver::default() };
        built(&Given { snapshot: Some(Snapshot { phase: Phase::AwaitingCutOver, cut_over, ..copying(1) }), ..Given::default() })
    };
    for (waits, words, opens_at) in [
        (Waits::Approval, "waiting for the annotation theseus.dev/cut-over=approved", None),
        (Waits::Throttle, "waiting until the throttle ends", None),
        (Waits::Window { opens: Some(opens) }, "waiting for the window that opens at 2026-01-01T02:00:00Z", Some(time(at(1_767_232_800)))),
        (Waits::Window { opens: None }, "none of its windows ever opens", None),
    ] {
        let status = status(Some(waits));
        let message = format!("ready for the cut-over; {words}");
        assert_eq!(status.message.as_ref(), Some(&message));
        assert_eq!(find(&status.conditions, READY).unwrap().message, message);
        assert_eq!(status.cut_over.as_ref().unwrap().window_opens_at, opens_at);
        assert_eq!(status.cut_over.unwrap().last_attempt, Some(time(at(0))));
    }
    // Gone with the engine.
    let before = status(Some(Waits::Window { opens: Some(opens) }));
    let after = built(&Given { state: State::Paused, previous: before, ..Given::default() });
    assert_eq!(after.cut_over.unwrap().window_opens_at, None);
}

/// An engine that has resumed the work has made no attempt yet; those before are not forgotten.
#[test]
fn attempts_outlive_the_engine_that_made_them() {
    let with = |attempts, failure: Option<&str>| Snapshot {
        phase: Phase::CuttingOver,
        cut_over: CutOver {
            attempts,
            last_attempt: (attempts > 0).then_some(SystemTime::UNIX_EPOCH),
            last_failure: failure.map(str::to_owned),
            ..CutOver::default()
        },
        ..copying(1)
    };
    let first = built(&Given { snapshot: Some(with(3, Some("blocked"))), ..Given::default() });
    let second = built(&Given { snapshot: Some(with(0, None)), previous: first.clone(), ..Given::default() });
    assert_eq!(second.cut_over, first.cut_over);
    let third = built(&Given { snapshot: Some(with(1, None)), previous: second, ..Given::default() });
    let cut_over = third.cut_over.unwrap();
    assert_eq!((cut_over.attempts, cut_over.last_failure), (1, None));
}
