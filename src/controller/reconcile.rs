//! One visit to one migration: dereference → validate → plan → drive → status → apply.
//!
//! A visit never runs migration work: it starts, steers and observes engines, writes down what it sees, and says when to come back.
//! It is level-triggered: why it was called is not known and does not matter.
use super::ahead::{Lookout, Observer};
use super::conditions::Scene;
use super::dereference::{self, HookKeys};
use super::entry::{Entry, ticket};
use super::events::{Note, transitions};
use super::plan::{self, Directive, Target};
use super::queue::Place;
use super::registry::Identity;
use super::state::State;
use super::status::{self, Urgency};
use super::{Context, Guarded, apply, cleanup, drive, validate};
use crate::api::annotations::Intents;
use crate::api::conditions::{ACCEPTED, READY, RECONCILING, STALLED, SUCCEEDED, Truth, Wanted, settle};
use crate::api::schema_migration::{DeletionPolicy, SchemaMigration};
use crate::api::status::SchemaMigrationStatus;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::Phase;
use crate::engine::contract::spec::{Controls, MigrationSpec};
use crate::engine::preflight::Ahead;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Instrument;

/// A working migration is visited this often, and its numbers are written as often at most.
pub const REFRESH: Duration = Duration::from_secs(10);
/// Whoever waits is woken when it may run; what it waits for, as its status says, may change unseen.
const WAITING: Duration = Duration::from_secs(15);
/// Visits that are under way when the term ends have this long.
const LAST_VISITS: Duration = Duration::from_secs(5);
/// Not within this visit, and without a noticeable delay.
const AT_ONCE: Duration = Duration::from_millis(50);
/// Even where nothing is expected to change: a safety net.
const RARELY: Duration = Duration::from_secs(600);

/// A visit that has to be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not take what was written.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// The API server did not say what was asked.
    #[error(transparent)]
    Dereference(#[from] dereference::Error),
    /// The Lease could not be renewed in time, or this process stood still: somebody else may lead by now.
    #[error("the Lease was not renewed in time; nothing is written until it is known who leads")]
    LeaseEnded,
    /// The Lease was lost, or the operator shuts down.
    #[error("the visit was broken off at the end of the term")]
    TermEnded,
    /// An object without a name, a namespace or a UID.
    #[error("the API server sent an object without {0}")]
    Incomplete(&'static str),
}

/// What a visit is about.
pub struct Visit<'a> {
    /// The operator's parts.
    pub ctx: &'a Context,
    /// The object.
    pub object: &'a SchemaMigration,
    /// Its identity.
    pub identity: Identity,
    /// What its annotations ask for.
    pub intents: Intents,
    /// The time of the visit.
    pub now: Timestamp,
}

/// The entry point for kube's controller.
///
/// # Errors
/// The visit has to be repeated.
pub async fn reconcile(object: Arc<Guarded>, ctx: Arc<Context>) -> Result<Action, Error> {
    let began = Instant::now();
    let identity = identity(object.meta())?;
    let span = tracing::info_span!("migration", namespace = identity.namespace, name = identity.name, uid = identity.uid);
    let visit = async {
        match &object.0 {
            Ok(migration) => visit(migration, identity.clone(), &ctx).await,
            Err(invalid) => undecodable(invalid, &ctx).await,
        }
    };
    // Whatever a visit does may be broken off and done again by the next leader.
    let result = tokio::select! {
        result = visit.instrument(span) => result,
        () = too_late(&ctx) => Err(Error::TermEnded),
    };
    ctx.registry.visited(&identity.uid);
    if result.is_ok() {
        ctx.forget_failures(&identity.uid);
    }
    ctx.metrics.reconciliation(if result.is_ok() { "succeeded" } else { "failed" }, began.elapsed());
    result
}

/// Some time after the end of the term.
async fn too_late(ctx: &Context) {
    ctx.registry.term().cancelled().await;
    tokio::time::sleep(LAST_VISITS).await;
}

/// When to repeat a visit that failed.
pub fn error_policy(object: Arc<Guarded>, error: &Error, ctx: Arc<Context>) -> Action {
    let meta = object.meta();
    if matches!(error, Error::TermEnded) {
        return Action::await_change();
    }
    let delay = ctx.failed(meta.uid.as_deref().unwrap_or_default());
    tracing::warn!(namespace = meta.namespace, name = meta.name, %error, ?delay, "a visit failed and will be repeated");
    Action::requeue(delay)
}

fn identity(meta: &kube::core::ObjectMeta) -> Result<Identity, Error> {
    Ok(Identity {
        namespace: meta.namespace.clone().ok_or(Error::Incomplete("a namespace"))?,
        name: meta.name.clone().ok_or(Error::Incomplete("a name"))?,
        uid: meta.uid.clone().ok_or(Error::Incomplete("a UID"))?,
    })
}

async fn visit(object: &SchemaMigration, identity: Identity, ctx: &Context) -> Result<Action, Error> {
    let entry = ctx.registry.entry(&identity, || Entry::adopt(object));
    // Held for the whole visit: see the registry.
    let mut entry = entry.lock().await;
    if ctx.registry.is_closing() {
        return Ok(Action::await_change());
    }
    let intents = Intents::read(object.metadata.annotations.as_ref().unwrap_or(&Default::default()));
    let visit = Visit { ctx, object, identity, intents, now: Timestamp::now() };
    if object.metadata.deletion_timestamp.is_some() {
        return cleanup::visit(&visit, &mut entry).await;
    }
    apply::add_finalizer(&ctx.client, &object.metadata).await?;
    visit.migrate(&mut entry).await
}

impl Visit<'_> {
    /// A reference to the object, for Events.
    pub fn reference(&self) -> ObjectReference {
        self.object.object_ref(&())
    }

    /// Whether the migration should stand still.
    pub fn pause(&self) -> bool {
        self.object.spec.suspend || self.intents.pause
    }

    /// Whether tables of an unfinished migration are dropped.
    pub fn cleans_up(&self) -> bool {
        self.object.spec.deletion_policy == DeletionPolicy::Cleanup
    }

    async fn migrate(&self, entry: &mut Entry) -> Result<Action, Error> {
        entry.notice_other_writers(self.object);
        entry.observe(self.pause(), self.now).await;
        let force = self.intents.force_cut_over.as_deref().unwrap_or_default();
        if matches!(entry.state, State::Ended(_)) && !force.is_empty() {
            // Seen when there was nothing to force: it must not kill anybody after a retry.
            entry.handled_force = force.to_owned();
        }
        let keys = match dereference::hook_keys(&self.ctx.client, &self.identity.namespace, &self.object.spec.hooks).await {
            Ok(keys) => keys,
            Err(error) if error.is_of_the_api_server() => return Err(error.into()),
            // Before the engine starts that is trouble (see `resolve`); later the former hooks stay in force.
            Err(_) => HookKeys::new(),
        };
        let (mut controls, invalid_controls) = match validate::controls(&self.object.spec, &self.intents, &keys) {
            Ok(controls) => (controls, None),
            // The schema's bounds make this a matter of objects older than the schema: what was in force stays.
            Err(invalid) => (entry.engine.as_ref().map(|engine| engine.controls.clone()).unwrap_or_default(), Some(invalid)),
        };
        controls.force_cut_over = controls.force_cut_over.filter(|token| *token != entry.handled_force);
        let new_token = self.intents.retry.as_deref().filter(|token| *token != entry.handled_retry).map(str::to_owned);
        if new_token.is_some() && matches!(entry.state, State::Retrying(_) | State::Blocked(_)) {
            // Somebody has mended something and does not want to wait for the next attempt.
            entry.well();
        }
        if self.decide(entry, new_token.is_some(), controls.clone(), invalid_controls.as_ref()).await? == Directive::Restart {
            tracing::info!("the migration starts again");
            entry.restart();
            entry.handled_retry = new_token.clone().unwrap_or_default();
            self.decide(entry, false, controls, invalid_controls.as_ref()).await?;
        }
        // A token that was seen when there was nothing to retry is used up: it must not fire at a later failure.
        if let Some(token) = new_token {
            entry.handled_retry = token;
        }
        if entry.state == State::New && !entry.written.conditions.is_empty() {
            // Just after a start: what was written before is a better description than "not looked at yet".
            return Ok(Action::requeue(WAITING));
        }
        let problem = invalid_controls.filter(|_| entry.engine.is_some()).map(|invalid| invalid.message);
        self.write(entry, problem.as_deref(), false).await?;
        let after = drive::aftermath(self, entry).await?;
        if self.write(entry, problem.as_deref(), false).await? == Urgency::Whenever {
            let next = [after, entry.wait()].into_iter().flatten().min().unwrap_or(REFRESH);
            return Ok(Action::requeue(next.min(REFRESH)));
        }
        Ok(Action::requeue(next_visit(&entry.state, after, entry.wait())))
    }

    /// Dereference, validate, plan, drive.
    async fn decide(
        &self,
        entry: &mut Entry,
        new_token: bool,
        controls: Controls,
        invalid: Option<&validate::Invalid>,
    ) -> Result<Directive, Error> {
        let (pause, cancel) = (self.pause(), self.intents.cancel);
        let mut resolved = None;
        let stands_still = entry.snapshot.as_ref().is_some_and(|snapshot| snapshot.phase == Phase::Paused);
        if entry.engine.is_some() && stands_still && !pause && !cancel {
            // It asks for a place anew, and the server's limit may have changed; if that cannot be read, the old one counts.
            let _ = self.resolve(entry).await?;
        }
        let mut target = if plan::needs_target(&entry.state, entry.engine.is_some(), pause, cancel, entry.begun, self.cleans_up()) {
            match (self.resolve(entry).await?, invalid) {
                (Ok(_), Some(invalid)) => Target::Invalid(invalid.clone()),
                (Ok(spec), None) => match crate::engine::table::definition::check_alter(&spec.alter) {
                    // Who may have to wait for a place is told of clauses that no place would help. Tables that are there already are the
                    // engine's business.
                    Err(error) if !entry.begun => Target::Invalid(validate::Invalid { reason: error.reason, message: error.message }),
                    _ => {
                        resolved = Some(spec);
                        Target::Known
                    }
                },
                (Err(target), _) => target,
            }
        } else {
            Target::NotLookedAt
        };
        let mut place = match (&entry.ticket, &target) {
            (Some(ticket), Target::Known) if !cancel => Some(self.ctx.registry.enter(&self.identity.uid, ticket.clone(), entry.begun)),
            _ => None,
        };
        match (&mut place, &resolved) {
            (Some(Place::Waits(why)), Some(spec)) if !entry.begun => match self.look_ahead(entry, spec, &controls) {
                Some(Ahead::Refused(reason, message)) => target = Target::Invalid(validate::Invalid { reason, message }),
                Some(Ahead::Doubtful(reason, message)) => {
                    why.push_str(&format!("; if the table stays as it is, this one will then be refused ({reason}): {message}"));
                }
                Some(Ahead::Fine) | None => {}
            },
            _ => entry.ahead = None,
        }
        let directive = plan::plan(&plan::Facts {
            state: &entry.state,
            engine: entry.engine.is_some(),
            begun: entry.begun,
            pause,
            cancel,
            new_retry_token: new_token,
            cleans_up: self.cleans_up(),
            must_wait: entry.wait().is_some(),
            target: &target,
            place: place.as_ref(),
        });
        tracing::debug!(?directive, "decided");
        let controls = validate::with_defaults_of_server(controls, &entry.replicas);
        drive::drive(self, entry, &directive, resolved, controls).await?;
        Ok(directive)
    }

    /// What is known of a queued migration ahead of its turn; the first call begins to look.
    fn look_ahead(&self, entry: &mut Entry, spec: &MigrationSpec, controls: &Controls) -> Option<Ahead> {
        if !entry.ahead.as_ref().is_some_and(|ahead| ahead.is_about(spec, controls)) {
            let Context { registry, places, wakers, .. } = self.ctx;
            let Identity { namespace, name, uid } = self.identity.clone();
            let observer = Observer { namespace, name, wakers: wakers.clone(), term: registry.term() };
            // Ended first: one look for each object.
            entry.ahead = None;
            entry.ahead = Some(Lookout::begin(spec.clone(), controls.clone(), registry.before(&uid), places, observer));
        }
        entry.ahead.as_ref().and_then(Lookout::answer).cloned()
    }

    /// The engine's spec; or what is missing or makes no sense.
    ///
    /// # Errors
    /// The API server did not answer as it should: that is no property of the migration.
    pub async fn resolve(&self, entry: &mut Entry) -> Result<Result<MigrationSpec, Target>, Error> {
        let server = match dereference::dereference(&self.ctx.client, &self.identity.namespace, &self.object.spec.target).await {
            Ok(server) => server,
            Err(error) if error.is_of_the_api_server() => return Err(error.into()),
            Err(error @ dereference::Error::Target(_)) => {
                return Ok(Err(Target::Invalid(validate::Invalid { reason: Reason::InvalidSpec, message: error.to_string() })));
            }
            Err(error) => return Ok(Err(Target::Trouble(error.reason(), error.to_string()))),
        };
        match dereference::hook_keys(&self.ctx.client, &self.identity.namespace, &self.object.spec.hooks).await {
            Ok(_) => {}
            Err(error) if error.is_of_the_api_server() => return Err(error.into()),
            Err(error) => return Ok(Err(Target::Trouble(error.reason(), error.to_string()))),
        }
        let address = format!("{}:{}", server.address.host, server.address.port);
        entry.ticket = Some(ticket(self.object, address, server.max_concurrent_migrations));
        entry.replicas.clone_from(&server.replicas);
        let display_name = format!("{}/{}", self.identity.namespace, self.identity.name);
        Ok(validate::migration(&self.identity.uid, &display_name, &self.object.spec, server).map_err(Target::Invalid))
    }

    /// Builds the status and writes it if it is time, with the Events of what has changed.
    ///
    /// Returns how urgent what is *not yet* written is. `force` writes whatever has changed.
    ///
    /// # Errors
    /// The API server did not take it.
    pub async fn write(&self, entry: &mut Entry, problem: Option<&str>, force: bool) -> Result<Urgency, Error> {
        let scene = Scene {
            state: &entry.state,
            snapshot: entry.snapshot.as_ref(),
            validated: entry.validated,
            waits_for_slot: entry.waits_for_slot.as_deref(),
            nonsense: &self.intents.nonsense,
            invalid_controls: problem,
        };
        let phase = status::phase(&scene);
        let next = status::status(&status::Facts {
            scene,
            previous: &entry.written,
            generation: self.object.metadata.generation,
            instance: &self.ctx.instance,
            server: entry.ticket.as_ref().map(|ticket| ticket.server.as_str()),
            engine_started: entry.engine.as_ref().map(|engine| engine.started),
            handled_retry: &entry.handled_retry,
            handled_force: &entry.handled_force,
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

/// When to come back, where nothing unwritten says so. Pure. `wait` is what is left until the next attempt.
fn next_visit(state: &State, after: Option<Duration>, wait: Option<Duration>) -> Duration {
    match (state, after) {
        (State::Working, _) => REFRESH,
        (State::Queued(_), _) => WAITING,
        // The time of the next attempt may have come while this visit went on.
        (State::Retrying(_) | State::Blocked(_), _) => wait.unwrap_or(AT_ONCE),
        (State::Ended(_), Some(after)) => after,
        _ => wait.unwrap_or(RARELY),
    }
}

/// An object that this version cannot read: it is told so, and stops nobody else. It may have been stored by another version of the schema.
async fn undecodable(invalid: &InvalidObject, ctx: &Context) -> Result<Action, Error> {
    let meta = &invalid.metadata;
    let uid = meta.uid.as_deref().unwrap_or_default();
    if meta.deletion_timestamp.is_some() {
        // What is not understood cannot be cleaned up; keeping the object for ever would help nobody.
        apply::remove_finalizer(&ctx.client, meta).await?;
        ctx.registry.forget(uid);
        return Ok(Action::await_change());
    }
    let message = format!("this version of the operator cannot read the object: {}", invalid.error);
    tracing::warn!("{message}");
    let reason = Reason::InvalidSpec.as_str();
    let wanted = vec![
        Wanted::new(ACCEPTED, Truth::False, reason, message.as_str()),
        Wanted::new(READY, Truth::False, reason, message.as_str()),
        Wanted::new(RECONCILING, Truth::False, reason, ""),
        Wanted::new(STALLED, Truth::True, reason, message.as_str()),
        Wanted::new(SUCCEEDED, Truth::Unknown, reason, message.as_str()),
    ];
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
    let status = SchemaMigrationStatus {
        observed_generation: meta.generation,
        phase: Some("Invalid".to_owned()),
        message: Some(message),
        conditions: settle(&[], wanted, meta.generation, &now),
        ..SchemaMigrationStatus::default()
    };
    apply::migration_status(&ctx.client, meta, &status).await?;
    Ok(Action::await_change())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::state::{End, Success, Trouble};

    #[test]
    fn whoever_retries_comes_back_for_the_next_attempt() {
        let trouble = Trouble { reason: Reason::SecretNotFound, message: String::new(), next_attempt: Timestamp::UNIX_EPOCH };
        let second = Duration::from_secs(1);
        for (state, after, wait, expected) in [
            (State::Working, None, None, REFRESH),
            (State::Queued(String::new()), None, None, WAITING),
            (State::Retrying(trouble.clone()), None, Some(second), second),
            (State::Retrying(trouble.clone()), None, None, AT_ONCE),
            (State::Blocked(trouble), None, None, AT_ONCE),
            (State::Paused, None, None, RARELY),
            (State::Ended(End::Succeeded(Success::Changed)), Some(second), None, second),
            (State::Ended(End::Succeeded(Success::Changed)), None, None, RARELY),
        ] {
            assert_eq!(next_visit(&state, after, wait), expected, "{state:?}");
        }
    }
}
