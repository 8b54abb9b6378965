//! What a visit is about, and the parts of the operator that it uses.
use super::apply;
use super::events::EventPublisher;
use super::plan::Target;
use crate::api::annotations::Intents;
use crate::api::schema_migration::{DeletionPolicy, SchemaMigration};
use crate::controller::fleet::ahead;
use crate::controller::fleet::backoff::Attempts;
use crate::controller::fleet::entry::{Entry, ticket};
use crate::controller::fleet::order::Order;
use crate::controller::fleet::queue::Uid;
use crate::controller::fleet::registry::{Identity, Registry};
use crate::controller::fleet::validity::Validity;
use crate::controller::fleet::wake::Wakers;
use crate::controller::intake::{dereference, validate};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::MigrationSpec;
use crate::telemetry::Metrics;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Client, Resource};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A working migration is visited this often, and its numbers are written as often at most.
pub(super) const REFRESH: Duration = Duration::from_secs(10);

/// Visits that failed, in a row.
type Failures = Mutex<HashMap<Uid, Attempts>>;

/// The parts that every visit uses.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Memory and engines.
    pub registry: Registry,
    /// Events.
    pub publisher: EventPublisher,
    /// Who waits for whom.
    pub order: Order,
    /// Metrics.
    pub metrics: Metrics,
    /// How engines ask for a visit.
    pub wakers: Wakers,
    /// The operator's Pod.
    pub instance: String,
    /// How many look ahead at once.
    pub places: ahead::Places,
    /// Whether this process may still write: see [`Validity`].
    pub validity: Validity,
    /// Visits that failed, in a row.
    pub failures: Failures,
}

impl Context {
    /// Counts a failed visit: how long until the next.
    pub fn failed(&self, uid: &str) -> Duration {
        let mut failures = self.failures.lock();
        failures.entry(uid.to_owned()).or_default().failed()
    }

    /// A visit went well.
    pub fn forget_failures(&self, uid: &str) {
        self.failures.lock().remove(uid);
    }
}

/// A visit that has to be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not take what was written.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// The API server did not say what was asked.
    #[error(transparent)]
    Dereference(#[from] dereference::Error),
    /// The Lease could not be renewed in time, or this process stood still: someone else may lead by now.
    #[error("the Lease was not renewed in time; nothing is written until the leader is known")]
    LeaseEnded,
    /// The Lease was lost, or the operator shuts down.
    #[error("the reconcile was stopped because this process is no longer the leader")]
    TermEnded,
    /// An object without a name, a namespace or a UID.
    #[error("the API server sent an object without {0}")]
    Incomplete(&'static str),
}

/// When to repeat a visit that failed, of either kind of object.
pub fn error_policy<K: Resource<DynamicType = ()>>(object: Arc<DeserializeGuard<K>>, error: &Error, ctx: Arc<Context>) -> Action {
    let meta = object.meta();
    if matches!(error, Error::TermEnded) {
        return Action::await_change();
    }
    let delay = ctx.failed(meta.uid.as_deref().unwrap_or_default());
    tracing::warn!(kind = %K::kind(&()), namespace = meta.namespace, name = meta.name, %error, ?delay, "reconcile failed; requeued");
    Action::requeue(delay)
}

/// What a visit is about.
pub struct Visit<'a> {
    /// The operator's parts.
    pub ctx: &'a Context,
    pub object: &'a SchemaMigration,
    pub identity: Identity,
    /// What its annotations ask for.
    pub intents: Intents,
    /// The time of the visit.
    pub now: Timestamp,
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
    pub(super) fn cleans_up(&self) -> bool {
        self.object.spec.deletion_policy == DeletionPolicy::Cleanup
    }

    /// The engine's spec; or what is missing or is not valid.
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
}
