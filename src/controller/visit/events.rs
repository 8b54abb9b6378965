//! Events (`events.k8s.io/v1`), on transitions only. [`transitions`] is pure; [`EventPublisher`] sends.
//!
//! Notes hold no numbers that move: the recorder counts equal Events of six minutes as one and keeps the first note.
use super::status::what_is_wrong;
use crate::api::conditions::{ACCEPTED, PAUSED, READY, STALLED, SUCCEEDED, Truth, find, is, shorten};
use crate::api::status::SchemaMigrationStatus;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::time::Duration;

/// The API server's limit for a note.
const MAX_NOTE_LENGTH: usize = 1024;
/// Events are a courtesy: a slow API server must not hold up a migration.
const PUBLISH_LIMIT: Duration = Duration::from_secs(5);

/// An Event before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// CamelCase.
    pub reason: String,
    /// Whether it is a warning.
    pub warning: bool,
    /// What happened.
    pub note: String,
}

impl Note {
    /// An Event that is no warning.
    pub fn normal(reason: impl Into<String>, note: impl Into<String>) -> Self {
        Self { reason: reason.into(), warning: false, note: note.into() }
    }

    pub fn warning(reason: impl Into<String>, note: impl Into<String>) -> Self {
        Self { reason: reason.into(), warning: true, note: note.into() }
    }
}

/// What happened between two statuses.
pub fn transitions(before: &SchemaMigrationStatus, after: &SchemaMigrationStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let reason = |status: &SchemaMigrationStatus| find(&status.conditions, READY).map(|ready| ready.reason.clone());
    let turned = |type_, truth| is(&after.conditions, type_, truth) && !is(&before.conditions, type_, truth);
    let message = |type_| find(&after.conditions, type_).map(|condition| condition.message.clone()).unwrap_or_default();
    let now = reason(after).unwrap_or_default();
    if reason(before).as_deref() != Some(now.as_str()) {
        let stalled = is(&after.conditions, STALLED, Truth::True);
        notes.extend(match now.as_str() {
            "Queued" => Some(Note::normal("Queued", after.message.clone().unwrap_or_default())),
            "Inspecting" => Some(Note::normal("Started", "an engine is working on this migration")),
            "Copying" => Some(Note::normal("Copying", "rows are being copied")),
            "AwaitingCutOver" => Some(Note::normal("AwaitingCutOver", message(READY))),
            "CuttingOver" => Some(Note::normal("CuttingOver", "the tables are being swapped")),
            "Succeeded" => Some(Note::normal("Succeeded", message(SUCCEEDED))),
            "Cancelled" => Some(Note::normal("Cancelled", message(SUCCEEDED))),
            // Told by the condition Paused.
            "Paused" => None,
            "Retrying" => Some(Note::warning("Retrying", what_is_wrong(&message(READY)))),
            failure if stalled => Some(Note::warning(failure, what_is_wrong(&message(STALLED)))),
            other => Some(Note::normal(other, message(READY))),
        });
    }
    if turned(PAUSED, Truth::True) {
        notes.push(Note::normal("Paused", "stopped on request; the work is kept"));
    }
    if is(&before.conditions, PAUSED, Truth::True) && !is(&after.conditions, PAUSED, Truth::True) {
        notes.push(Note::normal("Resumed", "no longer paused"));
    }
    let complaint = |status: &SchemaMigrationStatus| {
        find(&status.conditions, ACCEPTED).filter(|condition| condition.status == "False").map(|condition| condition.message.clone())
    };
    if let Some(problem) = complaint(after).filter(|problem| complaint(before).as_ref() != Some(problem)) {
        notes.push(Note::warning("NotAccepted", problem));
    }
    notes
}

/// Sends Events. A failure is logged and forgotten: what matters is in the status.
#[derive(Clone)]
pub struct EventPublisher(Recorder);

impl EventPublisher {
    /// For the operator's Pod `instance`.
    pub fn new(client: kube::Client, instance: &str) -> Self {
        let reporter = Reporter { controller: "theseus.dev/operator".to_owned(), instance: Some(instance.to_owned()) };
        Self(Recorder::new(client, reporter))
    }

    /// Sends one Event about an object.
    pub async fn publish(&self, about: &ObjectReference, note: Note) {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: shorten(note.reason, 128),
            note: Some(shorten(note.note, MAX_NOTE_LENGTH)),
            action: "Migrate".to_owned(),
            secondary: None,
        };
        match tokio::time::timeout(PUBLISH_LIMIT, self.0.publish(&event, about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, reason = event.reason, "an Event was not accepted"),
            Err(_) => tracing::warn!(reason = event.reason, "an Event was not accepted in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::conditions::{THROTTLED, Wanted, settle};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn status(conditions: Vec<Wanted>) -> SchemaMigrationStatus {
        let conditions = settle(&[], conditions, Some(1), &Time(Timestamp::UNIX_EPOCH));
        SchemaMigrationStatus { conditions, ..SchemaMigrationStatus::default() }
    }

    fn ready(reason: &str) -> Vec<Wanted> {
        vec![Wanted::new(READY, false, reason, "m")]
    }

    fn reasons(before: &SchemaMigrationStatus, after: &SchemaMigrationStatus) -> Vec<String> {
        transitions(before, after).into_iter().map(|note| note.reason).collect()
    }

    #[test]
    fn only_transitions_are_told() {
        let nothing = SchemaMigrationStatus::default();
        assert_eq!(reasons(&nothing, &status(ready("Queued"))), ["Queued"]);
        assert_eq!(reasons(&status(ready("Queued")), &status(ready("Queued"))), [""; 0]);
        assert_eq!(reasons(&status(ready("Queued")), &status(ready("Inspecting"))), ["Started"]);
        let moved = SchemaMigrationStatus { message: Some("42 %".to_owned()), ..status(ready("Copying")) };
        assert_eq!(reasons(&status(ready("Copying")), &moved), [""; 0]);
    }

    #[test]
    fn levels_are_told_both_ways() {
        let with = |type_, truth: bool| status([ready("Copying"), vec![Wanted::new(type_, truth, "User", "12 s")]].concat());
        assert_eq!(reasons(&with(THROTTLED, false), &with(THROTTLED, true)), [""; 0], "the engine tells the long ones");
        assert_eq!(reasons(&with(PAUSED, false), &with(PAUSED, true)), ["Paused"]);
        assert_eq!(reasons(&with(PAUSED, true), &with(PAUSED, false)), ["Resumed"]);
    }

    #[test]
    fn failures_and_invalid_annotations_are_warnings() {
        let failed = status(vec![Wanted::new(READY, false, "DuplicateKey", "m"), Wanted::new(STALLED, true, "DuplicateKey", "two rows")]);
        assert_eq!(transitions(&status(ready("Copying")), &failed), [Note::warning("DuplicateKey", "two rows")]);
        let not_accepted = |text: &str| status([ready("Copying"), vec![Wanted::new(ACCEPTED, false, "InvalidAnnotation", text)]].concat());
        assert_eq!(transitions(&status(ready("Copying")), &not_accepted("a")), [Note::warning("NotAccepted", "a")]);
        assert!(transitions(&not_accepted("a"), &not_accepted("a")).is_empty());
        assert_eq!(transitions(&not_accepted("a"), &not_accepted("b")), [Note::warning("NotAccepted", "b")]);
    }
}
