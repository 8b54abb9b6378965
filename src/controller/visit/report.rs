//! The status of one migration and the Events of what has changed in it: built here, written by `apply`, by nobody else.
use super::apply;
use super::conditions::Observed;
use super::context::{Error, REFRESH, Visit};
use super::events::{Note, transitions};
use super::status::{self, Urgency};
use crate::api::annotations::{InvalidAnnotation, REVERT};
use crate::controller::fleet::entry::Entry;
use crate::controller::fleet::state::{End, State, Success};
use std::time::Instant;

impl Visit<'_> {
    /// Builds the status and writes it if it is time, with the Events of what has changed.
    ///
    /// Returns how urgent what is *not yet* written is. `force` writes whatever has changed.
    ///
    /// # Errors
    /// The API server did not take it.
    pub async fn write(&self, entry: &mut Entry, problem: Option<&str>, force: bool) -> Result<Urgency, Error> {
        let mut invalid_annotations = self.intents.invalid_annotations.clone();
        // After a revert it is what was asked for.
        if self.intents.revert && entry.state == State::Ended(End::Succeeded(Success::Changed)) {
            let expected = "the change cannot be taken back any more; the condition RevertPossible says why";
            invalid_annotations.push(InvalidAnnotation { annotation: REVERT.to_owned(), expected });
        }
        let observed = Observed {
            state: &entry.state,
            snapshot: entry.snapshot.as_ref(),
            validated: entry.validated,
            way_back: &entry.way_back,
            waits_for_slot: entry.waits_for_slot.as_deref(),
            invalid_annotations: &invalid_annotations,
            invalid_controls: problem,
        };
        let phase = status::phase(&observed);
        let next = status::status(&status::StatusFacts {
            observed,
            previous: &entry.written,
            generation: self.object.metadata.generation,
            instance: &self.ctx.instance,
            server: entry.ticket.as_ref().map(|ticket| ticket.server.as_str()),
            engine_started: entry.engine.as_ref().map(|engine| engine.started),
            handled_retry: &entry.handled_retry,
            handled_force: &entry.handled_force,
            after: &entry.after,
            tables: &entry.tables,
            started_at: entry.started_at,
            completed_at: entry.completed_at,
            approved: self.intents.approved,
            now: self.now,
        });
        self.ctx.registry.note_phase(&self.identity.uid, phase);
        let urgency = status::urgency(&entry.written, &next);
        let due = entry.written_at.is_none_or(|at| at.elapsed() >= REFRESH);
        if urgency == Urgency::None || (urgency == Urgency::Whenever && !due && !force) {
            self.tell_notices(entry).await;
            return Ok(urgency);
        }
        if self.ctx.registry.is_closing() && !force {
            // An engine that has stopped because the term ended would look like one that failed.
            return Err(Error::TermEnded);
        }
        if !self.ctx.validity.holds() {
            return Err(Error::LeaseEnded);
        }
        entry.written_version = apply::migration_status(&self.ctx.client, &self.object.metadata, &next).await?;
        let notes = transitions(&entry.written, &next);
        entry.written = next;
        entry.written_at = Some(Instant::now());
        for note in notes {
            tracing::info!(reason = note.reason, "{}", note.note);
            self.ctx.publisher.publish(&self.reference(), note).await;
        }
        self.tell_notices(entry).await;
        Ok(Urgency::None)
    }

    /// The engine's own notices become Events, each once.
    async fn tell_notices(&self, entry: &mut Entry) {
        let Some(snapshot) = &entry.snapshot else { return };
        if entry.noticed.0 != snapshot.session {
            entry.noticed = (snapshot.session.clone(), 0);
        }
        let fresh: Vec<_> = snapshot.notices.iter().filter(|notice| notice.sequence > entry.noticed.1).cloned().collect();
        for notice in fresh {
            entry.noticed.1 = notice.sequence;
            let note = Note { reason: notice.reason.to_owned(), warning: notice.warning, note: notice.message };
            self.ctx.publisher.publish(&self.reference(), note).await;
        }
    }
}
