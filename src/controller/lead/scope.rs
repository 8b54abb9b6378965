//! What the leader does: watches, controllers, and the care for the registry, all under one token.
//!
//! One controller for migrations and one for servers per watched namespace (one each for all namespaces), with bounded concurrency.
use super::leadership::Lease;
use super::server;
use crate::api::annotations::Intents;
use crate::api::{MySQLServer, SchemaMigration};
use crate::controller::fleet::registry::{Identity, Registry};
use crate::controller::fleet::state::State;
use crate::controller::fleet::validity::Validity;
use crate::controller::fleet::wake::{Guarded, Wakers};
use crate::controller::visit::apply::api;
use crate::controller::visit::cleanup::is_worth_writing;
use crate::controller::visit::context::{Context, Visit, error_policy};
use crate::controller::visit::events::EventPublisher;
use crate::controller::visit::reconcile::reconcile;
use crate::telemetry::Metrics;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Config as ControllerConfig, Error as ControllerError};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{Controller, Predicate, WatchStreamExt, predicates};
use kube::{Client, Resource};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Visits at once, per watched namespace. A visit waits for the API server and now and then for a DROP TABLE; it uses next to no CPU.
const CONCURRENCY: u16 = 16;
/// How often the registry is looked after.
const CARE_INTERVAL: Duration = Duration::from_secs(5);
/// One object whose first visit hangs must not keep all others from starting.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
/// An engine that holds the tables locked for its cut-over ends within `lockTimeout` (60 s at most, 3 s by default); others end with their
/// present chunk. The chart's grace period is longer than this.
pub const STOP_LIMIT: Duration = Duration::from_secs(45);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespaces to watch; all when empty.
    pub namespaces: Vec<String>,
    /// Only objects with these labels.
    pub label_selector: Option<String>,
    /// The Lease to hold; `None` leads at once.
    pub lease: Option<Lease>,
    /// How many engines run at once.
    pub max_concurrent_migrations: usize,
    /// The Pod, for status and Events.
    pub instance: String,
}

/// Leads until `term` is cancelled; then stops and joins everything.
///
/// # Errors
/// A part ended without being asked to.
pub async fn lead(
    client: Client,
    options: Options,
    metrics: Metrics,
    validity: Validity,
    term: CancellationToken,
    shutdown: CancellationToken,
) -> Result<(), String> {
    let wakers = Wakers::new(&options.namespaces);
    let ctx = Arc::new(Context {
        order: Default::default(),
        places: Default::default(),
        publisher: EventPublisher::new(client.clone(), &options.instance),
        registry: Registry::new(options.max_concurrent_migrations, wakers.clone(), term.clone()),
        client,
        metrics,
        wakers,
        instance: options.instance.clone(),
        validity,
        failures: Default::default(),
    });
    let namespaces: Vec<Option<String>> =
        if options.namespaces.is_empty() { vec![None] } else { options.namespaces.iter().cloned().map(Some).collect() };
    let mut parts = JoinSet::new();
    let mut stores = Vec::new();
    let mut listed = Vec::new();
    for namespace in namespaces {
        let (store, writer) = reflector::store();
        let first_list = CancellationToken::new();
        stores.push(store);
        listed.push(first_list.clone());
        let watched_selector = options.label_selector.clone();
        let watched = Watch { namespace: namespace.clone(), label_selector: watched_selector.clone(), first_list };
        parts.spawn(migrations(ctx.clone(), watched, writer, term.clone()));
        if watched_selector.is_some() {
            parts.spawn(others(ctx.clone(), namespace.clone(), term.clone()));
        }
        parts.spawn(server::servers(ctx.clone(), namespace, term.clone()));
    }
    parts.spawn(care(ctx.clone(), stores.clone(), listed, term.clone()));

    let mut failure = None;
    while let Some(ended) = parts.join_next().await {
        if let Err(error) = ended {
            failure.get_or_insert_with(|| format!("a task failed: {error}"));
        } else if !term.is_cancelled() {
            failure.get_or_insert_with(|| "a watch ended".to_owned());
        }
        // One part is no use without the others.
        term.cancel();
    }
    let ended = ctx.registry.stop(STOP_LIMIT).await;
    // Who has lost the Lease leaves the status to the new leader, whose engine finds out from the state table.
    if shutdown.is_cancelled() {
        for (identity, entry, ended) in ended {
            let mut entry = entry.lock().await;
            if let Some(ended) = ended.filter(|ended| is_worth_writing(&ended.outcome)) {
                entry.conclude(ended, false, Timestamp::now());
            }
            // Also one whose last visit was broken off before it could write.
            if matches!(entry.state, State::Ended(_))
                && let Some(object) = find(&stores, &identity)
            {
                write_last(&ctx, &object, identity, &mut entry).await;
            }
        }
    }
    ctx.metrics.phases([]);
    failure.map_or(Ok(()), Err)
}

/// An engine that finished while it was being stopped: its result must not be lost.
async fn write_last(ctx: &Context, object: &SchemaMigration, identity: Identity, entry: &mut crate::controller::fleet::entry::Entry) {
    let intents = Intents::read(object.metadata.annotations.as_ref().unwrap_or(&Default::default()));
    let visit = Visit { ctx, object, identity, intents, now: Timestamp::now() };
    if let Err(error) = visit.write(entry, None, true).await {
        tracing::error!(%error, name = visit.identity.name, "could not write the result of a migration; the next leader reads it from the state table");
    }
}

fn find(stores: &[Store<Guarded>], identity: &Identity) -> Option<SchemaMigration> {
    let reference = ObjectRef::new(&identity.name).within(&identity.namespace);
    let object = stores.iter().find_map(|store| store.get(&reference))?;
    object.0.as_ref().ok().filter(|object| object.metadata.uid.as_deref() == Some(identity.uid.as_str())).cloned()
}

fn watch_config(label_selector: Option<&str>) -> watcher::Config {
    let config = watcher::Config::default();
    match label_selector {
        Some(selector) => config.labels(selector),
        None => config,
    }
}

/// What one controller watches.
struct Watch {
    namespace: Option<String>,
    label_selector: Option<String>,
    /// Cancelled once the first list is in the store. (`Store::wait_until_ready` is the controller's own: it wakes only one of several that wait.)
    first_list: CancellationToken,
}

async fn migrations(ctx: Arc<Context>, watched: Watch, writer: reflector::store::Writer<Guarded>, term: CancellationToken) {
    let Watch { namespace, label_selector, first_list } = watched;
    let store = writer.as_reader();
    let order = label_selector.is_none().then(|| (ctx.clone(), namespace.clone()));
    let changes = watcher(api::<Guarded>(&ctx.client, namespace.as_deref()), watch_config(label_selector.as_deref()))
        .default_backoff()
        .reflect(writer)
        .inspect_ok(move |event| {
            if let Some((ctx, namespace)) = &order {
                note_order(ctx, namespace.as_ref(), event);
            }
            if matches!(event, watcher::Event::InitDone) {
                first_list.cancel();
            }
        })
        .applied_objects()
        .predicate_filter(predicates::generation.combine(predicates::annotations).combine(predicates::finalizers), Default::default());
    // Servers are shared by all shards, so the selector does not apply to them.
    let servers = watcher(api::<DeserializeGuard<MySQLServer>>(&ctx.client, namespace.as_deref()), watcher::Config::default())
        .default_backoff()
        .touched_objects()
        .predicate_filter(predicates::generation, Default::default());
    let known = store.clone();
    let mut controller = Controller::for_stream(changes, store)
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
        .watches_stream(servers, move |server| users_of(&known, server.meta()))
        .graceful_shutdown_on(term.clone().cancelled_owned());
    if let Some(wakes) = ctx.wakers.of(namespace.as_deref().unwrap_or_default()) {
        controller = controller.reconcile_on(wakes.stream());
    }
    controller
        .run(reconcile, error_policy, ctx)
        .for_each(|result| async move {
            match result {
                Err(ControllerError::QueueError(error)) => tracing::warn!(%error, "the watch on SchemaMigrations failed; restarting it"),
                Err(ControllerError::RunnerError(error)) => tracing::error!(%error, "the controller's queue failed"),
                // A failed visit was logged by the error policy; an object that has gone needs no visit.
                Err(ControllerError::ReconcilerFailed(..) | ControllerError::ObjectNotFound(_)) | Ok(_) => {}
            }
        })
        .await;
}

/// Takes an event over for `spec.after`, and wakes those that it concerns. The watch leaves out nothing: a controller's own filter hides changes of
/// the status.
fn note_order(ctx: &Context, watched: Option<&String>, event: &watcher::Event<Guarded>) {
    for (namespace, name) in ctx.order.take(watched, event) {
        ctx.wakers.wake(&namespace, &name);
    }
}

/// Migrations wait for others whatever these are labelled: one shard of the operator has to know those of the others too.
async fn others(ctx: Arc<Context>, namespace: Option<String>, term: CancellationToken) {
    let events = watcher(api::<Guarded>(&ctx.client, namespace.as_deref()), watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events.take_until(term.cancelled_owned()));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => note_order(&ctx, namespace.as_ref(), &event),
            Err(error) => tracing::warn!(%error, "the watch on all SchemaMigrations failed; restarting it"),
        }
    }
}

/// The migrations that refer to a server: a change of it, or its coming, may be what they wait for.
fn users_of(store: &Store<Guarded>, server: &kube::core::ObjectMeta) -> Vec<ObjectRef<Guarded>> {
    let uses = |object: &Guarded| {
        let Ok(migration) = &object.0 else { return false };
        let reference = migration.spec.target.server_ref.as_ref();
        migration.metadata.namespace == server.namespace && reference.map(|reference| &reference.name) == server.name.as_ref()
    };
    store.state_filter(|object| uses(object)).iter().map(|object| ObjectRef::from_obj(&**object)).collect()
}

/// Looks after the registry: settles the queue once all objects have been seen, forgets what has gone, counts phases.
async fn care(ctx: Arc<Context>, stores: Vec<Store<Guarded>>, listed: Vec<CancellationToken>, term: CancellationToken) {
    // A watch that cannot begin keeps trying, and nothing starts before: who waits for which table is not known.
    tokio::select! {
        _ = futures::future::join_all(listed.iter().map(CancellationToken::cancelled)) => {}
        () = term.cancelled() => return,
    }
    let uids = || stores.iter().flat_map(Store::state).filter_map(|object| object.meta().uid.clone());
    ctx.registry.expect(uids());
    let settle_at = tokio::time::Instant::now() + SETTLE_LIMIT;
    loop {
        tokio::select! {
            () = tokio::time::sleep(CARE_INTERVAL) => {}
            () = term.cancelled() => return,
        }
        if tokio::time::Instant::now() >= settle_at {
            ctx.registry.settle();
        }
        ctx.registry.sweep(&uids().collect::<HashSet<_>>()).await;
        ctx.metrics.phases(ctx.registry.phases());
    }
}
