#![allow(clippy::unwrap_used)]
use super::*;
use crate::api::SchemaMigrationSpec;
use crate::engine::contract::snapshot::Tables;

/// An object with a status, as it was found.
pub(crate) fn object(status: SchemaMigrationStatus) -> SchemaMigration {
    let spec: SchemaMigrationSpec = serde_json::from_value(serde_json::json!({
        "target": {"serverRef": {"name": "s"}}, "database": "shop", "table": "orders", "alter": "ADD COLUMN a INT",
    }))
    .unwrap();
    SchemaMigration { status: Some(status), ..SchemaMigration::new("orders", spec) }
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
        entry.conclude(EngineEnd { outcome: outcome.clone(), snapshot: snapshot(), orphans: orphan }, false, Timestamp::UNIX_EPOCH);
        let tables = &entry.tables;
        assert_eq!((tables.ghost.as_str(), tables.state.as_str(), tables.old.as_str()), left, "{outcome:?}");
        assert!(matches!(entry.state, State::Ended(_)) && entry.completed_at.is_some());
    }
}

#[test]
fn a_stop_is_a_pause_if_that_was_wanted_and_else_a_trouble() {
    let mut entry = Entry::adopt(&object(SchemaMigrationStatus::default()));
    let stopped = || EngineEnd { outcome: Outcome::Stopped, snapshot: snapshot(), orphans: false };
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
    assert!(visible_state(&before) == visible_state(&numbers));
    assert!(visible_state(&before) != visible_state(&Snapshot { phase: Phase::Copying, ..before.clone() }));
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
