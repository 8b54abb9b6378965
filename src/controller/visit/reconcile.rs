//! One visit to one migration: dereference → validate → plan → drive → status → apply.
//!
//! A visit never runs migration work: it starts, steers and observes engines, writes down what it sees, and says when to come back.
//! It is level-triggered: why it was called is not known and does not matter.
use super::context::{Context, Error, REFRESH, Visit};
use super::plan::{self, Directive, Target};
use super::status::Urgency;
use super::{apply, cleanup, drive};
use crate::api::annotations::Intents;
use crate::api::conditions::{ACCEPTED, READY, RECONCILING, STALLED, SUCCEEDED, Truth, Wanted, settle};
use crate::api::schema_migration::SchemaMigration;
use crate::api::status::{AfterStatus, SchemaMigrationStatus};
use crate::controller::fleet::ahead::{Lookout, Observer};
use crate::controller::fleet::entry::Entry;
use crate::controller::fleet::order::After;
use crate::controller::fleet::queue::{Admission, Holding};
use crate::controller::fleet::registry::Identity;
use crate::controller::fleet::state::State;
use crate::controller::fleet::wake::Guarded;
use crate::controller::intake::dereference::{self, HookKeys};
use crate::controller::intake::validate;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::Phase;
use crate::engine::contract::spec::{Controls, MigrationSpec};
use crate::engine::preflight::Ahead;
use crate::engine::table::desired::check_change;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Instrument;

/// Whoever waits is woken when it may run; what it waits for, as its status says, may change unseen.
const WAITING: Duration = Duration::from_secs(15);
/// Visits that are under way when the term ends have this long.
const LAST_VISITS: Duration = Duration::from_secs(5);
/// Not within this visit, and without a noticeable delay.
const AT_ONCE: Duration = Duration::from_millis(50);
/// Even where nothing is expected to change: a safety net.
const RARELY: Duration = Duration::from_secs(600);

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
            // Someone has fixed something and does not want to wait for the next attempt.
            entry.well();
        }
        if self.decide(entry, new_token.is_some(), controls.clone(), invalid_controls.as_ref()).await? == Directive::Restart {
            tracing::info!("the migration restarts");
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
        Ok(Action::requeue(next_visit(&entry.state, entry.after.waits_for.is_some(), after, entry.wait())))
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
            // It asks for a place again, and the server's limit may have changed; if that cannot be read, the old one counts.
            let _ = self.resolve(entry).await?;
        }
        let looks = plan::needs_target(&entry.state, entry.engine.is_some(), pause, cancel, entry.begun, self.cleans_up());
        let after = if looks && !cancel {
            self.after(entry)
        } else {
            entry.after.waits_for = None;
            After::Clear(Vec::new())
        };
        let mut target = if let After::Cycle(way) = &after {
            Target::Invalid(validate::Invalid::cycle(way))
        } else if !matches!(after, After::Clear(_)) {
            // It claims neither a table nor a slot: another migration of the same table may go first.
            self.ctx.registry.leave(&self.identity.uid);
            // Nonsense is refused at once all the same; nothing else is looked at before its turn.
            match check_change(self.object.spec.alter.as_deref().unwrap_or_default(), self.object.spec.desired.as_deref()) {
                Err(error) => Target::Invalid(validate::Invalid { reason: error.reason, message: error.message }),
                Ok(()) => Target::NotLookedAt,
            }
        } else if looks {
            match (self.resolve(entry).await?, invalid) {
                (Ok(_), Some(invalid)) => Target::Invalid(invalid.clone()),
                (Ok(spec), None) => match check_change(&spec.alter, spec.definition()) {
                    // Who may have to wait for a place is notified of clauses that no place would help. Tables that are there already are the
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
            (Some(ticket), Target::Known) if !cancel && entry.way_back.is_open() => {
                let Context { registry, .. } = self.ctx;
                registry.hold_table(&self.identity.uid, ticket.clone(), Holding::Revertible);
                Some(if registry.is_settled() { Admission::Granted } else { Admission::NotYet })
            }
            (Some(ticket), Target::Known) if !cancel => Some(self.ctx.registry.enter(&self.identity.uid, ticket.clone(), entry.begun)),
            _ => None,
        };
        match (&mut place, &resolved) {
            (Some(Admission::Waits(why)), Some(spec)) if !entry.begun => match self.look_ahead(entry, spec, &controls) {
                Some(Ahead::Refused(reason, message)) => target = Target::Invalid(validate::Invalid { reason, message }),
                Some(Ahead::Doubtful(reason, message)) => {
                    why.push_str(&format!("; unless the table changes, this migration will then be refused ({reason}): {message}"));
                }
                Some(Ahead::Fine) | None => {}
            },
            _ => entry.ahead = None,
        }
        let directive = plan::plan(&plan::PlanFacts {
            state: &entry.state,
            engine: entry.engine.is_some(),
            begun: entry.begun,
            pause,
            cancel,
            new_retry_token: new_token,
            cleans_up: self.cleans_up(),
            must_wait: entry.wait().is_some(),
            waits_for: match &after {
                After::Waits { message, .. } => Some(message),
                _ => None,
            },
            target: &target,
            place: place.as_ref(),
        });
        tracing::debug!(?directive, "decided");
        let controls = validate::with_defaults_of_server(controls, &entry.replicas);
        drive::drive(self, entry, &directive, resolved, controls).await?;
        Ok(directive)
    }

    /// What `spec.after` means now, and notes it for the status. One that has begun looks at nobody.
    fn after(&self, entry: &mut Entry) -> After {
        if entry.begun {
            entry.after.waits_for = None;
            return After::Clear(Vec::new());
        }
        let Identity { namespace, name, .. } = &self.identity;
        let after = self.ctx.order.after(namespace, name, &self.object.spec.after, &entry.after.succeeded);
        match &after {
            After::Clear(succeeded) => entry.after = AfterStatus { waits_for: None, succeeded: succeeded.clone() },
            After::Waits { waits_for, succeeded, .. } => {
                entry.after = AfterStatus { waits_for: Some(waits_for.clone()), succeeded: succeeded.clone() };
            }
            After::Cycle(_) => entry.after.waits_for = None,
            After::NotYet => {}
        }
        after
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
}

/// When to come back, where nothing unwritten says so. Pure. `for_others`: it waits for those of `spec.after`, whose changes wake it; `wait` is
/// what is left until the next attempt.
fn next_visit(state: &State, for_others: bool, after: Option<Duration>, wait: Option<Duration>) -> Duration {
    match (state, after) {
        (State::Working, _) => REFRESH,
        (State::Queued(_), _) if for_others => RARELY,
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
    let message = format!("this version of the operator cannot read this object: {}", invalid.error);
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
    use crate::controller::fleet::state::{End, Success, Trouble};

    #[test]
    fn whoever_retries_comes_back_for_the_next_attempt() {
        let trouble = Trouble { reason: Reason::SecretNotFound, message: String::new(), next_attempt: Timestamp::UNIX_EPOCH };
        let second = Duration::from_secs(1);
        assert_eq!(next_visit(&State::Queued(String::new()), true, None, None), RARELY, "the others wake it");
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
            assert_eq!(next_visit(&state, false, after, wait), expected, "{state:?}");
        }
    }
}
