#![allow(clippy::unwrap_used)]
use super::*;
use crate::api::SchemaMigrationSpec;
use crate::api::conditions::settle;
use crate::controller::conditions::{Scene, table};
use crate::engine::contract::snapshot::Tables;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn object(status: SchemaMigrationStatus) -> SchemaMigration {
    let spec: SchemaMigrationSpec = serde_json::from_value(serde_json::json!({
        "target": {"serverRef": {"name": "s"}}, "database": "shop", "table": "orders", "alter": "ADD COLUMN a INT",
    }))
    .unwrap();
    SchemaMigration { status: Some(status), ..SchemaMigration::new("orders", spec) }
}

fn written(state: &State, validated: bool) -> SchemaMigrationStatus {
    let scene = Scene { state, snapshot: None, validated, waits_for_slot: None, nonsense: &[], invalid_controls: None };
    let conditions = settle(&[], table(&scene, "m"), Some(1), &Time(Timestamp::UNIX_EPOCH));
    SchemaMigrationStatus { conditions, ..SchemaMigrationStatus::default() }
}

#[test]
fn an_end_is_read_back_from_the_conditions_and_nothing_else_is() {
    let m = || "m".to_owned();
    let trouble = Trouble { reason: Reason::SecretNotFound, message: m(), next_attempt: Timestamp::UNIX_EPOCH };
    for (state, validated, adopted) in [
        (State::Ended(End::Succeeded(Success::Changed)), true, true),
        (State::Ended(End::Cancelled { message: m() }), true, true),
        (State::Ended(End::Refused { reason: "NoUsableKey".to_owned(), message: m() }), false, true),
        (State::Ended(End::Failed { reason: "DuplicateKey".to_owned(), message: m() }), true, true),
        (State::Ended(End::Unknown { message: m() }), true, true),
        (State::Blocked(trouble.clone()), false, false),
        (State::Retrying(trouble), false, false),
        (State::Queued(m()), false, false),
        (State::Working, true, false),
        (State::Paused, true, false),
    ] {
        let entry = Entry::adopt(&object(written(&state, validated)));
        assert_eq!(entry.state, if adopted { state.clone() } else { State::New }, "{state:?}");
        assert_eq!(entry.validated, validated && !matches!(state, State::Ended(End::Refused { .. })), "{state:?}");
    }
}

fn snapshot() -> Snapshot {
    let tables = Tables { ghost: "g".to_owned(), state: "s".to_owned(), old: "o".to_owned() };
    Snapshot { tables, ..Snapshot::default() }
}

#[test]
fn what_is_left_behind_follows_from_the_end() {
    let message = String::new;
    let reason = Reason::DuplicateKey;
    for (outcome, orphan, left) in [
        (Outcome::Succeeded, false, ("", "s", "o")),
        (Outcome::Proven, false, ("", "", "")),
        (Outcome::Cancelled, false, ("", "", "")),
        (Outcome::Cancelled, true, ("g", "s", "")),
        (Outcome::Refused { reason, message: message() }, false, ("", "", "")),
        (Outcome::Failed { reason, message: message() }, false, ("g", "s", "")),
        (Outcome::Unknown { message: message() }, false, ("g", "s", "o")),
    ] {
        let mut entry = Entry::adopt(&object(SchemaMigrationStatus::default()));
        entry.conclude(Ended { outcome: outcome.clone(), snapshot: snapshot(), orphans: orphan }, false, Timestamp::UNIX_EPOCH);
        let tables = &entry.tables;
        assert_eq!((tables.ghost.as_str(), tables.state.as_str(), tables.old.as_str()), left, "{outcome:?}");
        assert!(matches!(entry.state, State::Ended(_)) && entry.completed_at.is_some());
    }
}

#[test]
fn a_stop_is_a_pause_if_that_was_wanted_and_else_a_trouble() {
    let mut entry = Entry::adopt(&object(SchemaMigrationStatus::default()));
    let stopped = || Ended { outcome: Outcome::Stopped, snapshot: snapshot(), orphans: false };
    entry.conclude(stopped(), true, Timestamp::UNIX_EPOCH);
    assert_eq!(entry.state, State::Paused);
    entry.conclude(stopped(), false, Timestamp::UNIX_EPOCH);
    assert!(matches!(entry.state, State::Retrying(_)));
    assert!(entry.wait().is_some());
    entry.well();
    assert!(entry.wait().is_none());
}

#[test]
fn numbers_are_no_news_and_a_phase_is() {
    let before = snapshot();
    let mut numbers = before.clone();
    numbers.progress.rows_copied = 7;
    numbers.throttled_total = Duration::from_secs(1);
    assert!(face(&before) == face(&numbers));
    assert!(face(&before) != face(&Snapshot { phase: Phase::Copying, ..before.clone() }));
}

/// What an engine says of its chunks and attempts is counted once each.
#[test]
fn chunks_and_attempts_are_counted_once() {
    use crate::engine::contract::snapshot::{CutOver, Notice, Progress};
    let metrics = Metrics::new();
    let mut meter =
        Meter { namespace: "shop".to_owned(), name: "orders".to_owned(), metrics: metrics.clone(), sampled: None, notice: 0, chunks: 0 };
    let said = |sequence, reason| Notice { sequence, reason, warning: false, message: String::new() };
    let chunk = Some(Duration::from_millis(400));
    let failed = said(1, notice::CUT_OVER_ATTEMPT_FAILED);
    for (chunks, notices) in [
        (1, vec![]),
        (1, vec![failed.clone()]),
        (2, vec![failed.clone(), said(2, notice::RESUMED)]),
        (2, vec![failed, said(2, notice::RESUMED), said(3, notice::SWAPPED)]),
    ] {
        let snapshot = Snapshot {
            last_chunk: chunk,
            progress: Progress { chunks, rows_copied: chunks * 10, ..Progress::default() },
            cut_over: CutOver { locked: Some(Duration::from_millis(20)), ..CutOver::default() },
            notices,
            ..Snapshot::default()
        };
        meter.read(&snapshot, chunks == 2);
    }
    let text = metrics.encode();
    for line in [
        "theseus_chunk_seconds_count 2",
        "theseus_cut_over_attempts_total{outcome=\"failed\"} 1",
        "theseus_cut_over_attempts_total{outcome=\"succeeded\"} 1",
        "theseus_cut_over_lock_seconds_count 2",
        "theseus_rows_copied_total{namespace=\"shop\",name=\"orders\"} 20",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

/// A token that an engine acted upon outlives it, and is news to be written down.
#[test]
fn the_force_token_is_remembered() {
    use crate::api::status::HandledTokens;
    use crate::engine::contract::snapshot::CutOver;
    let forced =
        |token: &str| Snapshot { cut_over: CutOver { handled_force: Some(token.to_owned()), ..CutOver::default() }, ..Snapshot::default() };
    let tokens = HandledTokens { force_cut_over: "a".to_owned(), ..HandledTokens::default() };
    let status = SchemaMigrationStatus { handled_tokens: Some(tokens), ..written(&State::Working, true) };
    let mut entry = Entry::adopt(&object(status));
    assert_eq!(entry.handled_force, "a");
    entry.take_over(Snapshot::default());
    assert_eq!(entry.handled_force, "a", "an engine that has not forced anything forgets nothing");
    entry.take_over(forced("b"));
    assert_eq!(entry.handled_force, "b");
    assert!(face(&forced("b")) != face(&forced("c")));
}
