#![allow(clippy::unwrap_used)]
use super::{Observed, table};
use crate::api::conditions::settle;
use crate::api::status::SchemaMigrationStatus;
use crate::controller::fleet::entry::tests::object;
use crate::controller::fleet::entry::{Entry, visible_state};
use crate::controller::fleet::state::{End, State, Success, Trouble, WayBack};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::Snapshot;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

fn written(state: &State, validated: bool) -> SchemaMigrationStatus {
    let observed = Observed {
        state,
        snapshot: None,
        validated,
        way_back: &WayBack::None,
        waits_for_slot: None,
        invalid_annotations: &[],
        invalid_controls: None,
    };
    let conditions = settle(&[], table(&observed, "m"), Some(1), &Time(Timestamp::UNIX_EPOCH));
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

/// A change that can be taken back gets an engine again, and why it cannot be is not forgotten.
#[test]
fn a_way_back_is_read_back() {
    let over = WayBack::Over { reason: "DataDoesNotFit".to_owned(), message: "a row".to_owned() };
    let open = WayBack::Open { until: None };
    let changed = || State::Ended(End::Succeeded(Success::Changed));
    let reverted = || State::Ended(End::Succeeded(Success::Reverted));
    let taken_back = WayBack::Over { reason: "Reverted".to_owned(), message: "the change was taken back".to_owned() };
    for (state, way_back, adopted, remembered) in [
        (State::Working, &open, State::New, &open),
        (State::Paused, &open, State::New, &open),
        (changed(), &over, changed(), &over),
        (changed(), &WayBack::None, changed(), &WayBack::None),
        (reverted(), &WayBack::None, reverted(), &taken_back),
    ] {
        let observed = Observed {
            state: &state,
            snapshot: None,
            validated: true,
            way_back,
            waits_for_slot: None,
            invalid_annotations: &[],
            invalid_controls: None,
        };
        let conditions = settle(&[], table(&observed, "m"), Some(1), &Time(Timestamp::UNIX_EPOCH));
        let entry = Entry::adopt(&object(SchemaMigrationStatus { conditions, ..SchemaMigrationStatus::default() }));
        assert_eq!((&entry.state, &entry.way_back), (&adopted, remembered), "{state:?} {way_back:?}");
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
    assert!(visible_state(&forced("b")) != visible_state(&forced("c")));
}
