//! The operator: thin, level-triggered, and never in the way.
//!
//! Four rooms, each using only those before it: [`intake`] (objects and annotations → wishes), [`fleet`] (what is remembered of each migration, and
//! whose turn it is), [`visit`] (one visit to one object), [`lead`] (the Lease, and everything that runs under it).
//!
//! A visit ([`visit::reconcile`]) goes one way: `dereference` (Secrets, server) → `validate` (pure) → `plan` (pure) → `drive` (engines) →
//! `status` and `conditions` (pure) → `apply`. Deletions go through `cleanup`. The status has one writer, [`visit::apply::migration_status`].
//!
//! # Who owns what
//! [`run`] is the whole operator. Under the Lease ([`lead::leadership`]) it runs one [`lead::scope`]: watches, controllers, and the [`fleet::registry`] of engines.
//! When the Lease is lost or at shutdown the scope stops its controllers, then its engines, and joins all of them before it returns. Nothing
//! is detached. The fence in MySQL makes it safe that a Lease is only advisory.
//!
//! # Rules of Kubernetes relied upon
//! Two visits to one object never overlap (kube). A deletion raises `metadata.generation`, so the predicate on generation, annotations and
//! finalizers lets it through and keeps our own status writes out. Status is written by server-side apply without a resource version: it
//! cannot conflict. <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

pub mod fleet;
pub mod intake;
pub mod lead;
pub mod visit;

use crate::api::MySQLServer;
use crate::http::Readiness;
use crate::telemetry::Metrics;
use fleet::validity::Validity;
use fleet::wake::Guarded;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Config};
pub use lead::scope::Options;
use lead::{leadership, scope};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use visit::apply::api;

/// How often it is looked whether the custom resources are installed.
const CRD_RETRY: Duration = Duration::from_secs(3);

/// Why the operator could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No client can be made of the configuration.
    #[error("cannot make a Kubernetes client: {0}")]
    Client(#[source] kube::Error),
    /// The Lease or the work under it.
    #[error(transparent)]
    Leadership(#[from] leadership::Error),
    /// The leader's work ended without being asked to.
    #[error("the operator's work ended: {0}")]
    Work(String),
}

/// Runs the operator until `shutdown`: waits for the custom resources, then leads whenever it holds the Lease.
///
/// A standby is ready too: readiness says that the API server answers and that the custom resources are there, never anything of a database.
///
/// # Errors
/// No client can be made, or the work ended without being asked to.
pub async fn run(
    config: Config,
    options: Options,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let client = Client::try_from(config.clone()).map_err(Error::Client)?;
    if !custom_resources_are_there(&client, &options, &readiness, &shutdown).await {
        return Ok(());
    }
    readiness.ready();
    let work = |term: CancellationToken, validity: Validity| {
        scope::lead(client.clone(), options.clone(), metrics.clone(), validity, term, shutdown.clone())
    };
    match &options.lease {
        Some(lease) => leadership::lead(&config, lease, &metrics, &shutdown, work).await?,
        None => {
            metrics.leader(true);
            let term = shutdown.child_token();
            let result = work(term.clone(), Validity::endless()).await;
            term.cancel();
            metrics.leader(false);
            result.map_err(Error::Work)?;
        }
    }
    Ok(())
}

/// Waits until both kinds can be listed; `false` at shutdown.
async fn custom_resources_are_there(client: &Client, options: &Options, readiness: &Readiness, shutdown: &CancellationToken) -> bool {
    loop {
        let missing = tokio::select! {
            missing = missing(client, options) => missing,
            () = shutdown.cancelled() => return false,
        };
        let Some(missing) = missing else { return true };
        tracing::warn!("{missing}; retrying");
        readiness.not_ready(missing);
        tokio::select! {
            () = tokio::time::sleep(CRD_RETRY) => {}
            () = shutdown.cancelled() => return false,
        }
    }
}

async fn missing(client: &Client, options: &Options) -> Option<String> {
    let one = ListParams::default().limit(1);
    let namespaces: Vec<Option<&str>> =
        if options.namespaces.is_empty() { vec![None] } else { options.namespaces.iter().map(|name| Some(name.as_str())).collect() };
    for namespace in namespaces {
        let migrations: Api<Guarded> = api(client, namespace);
        let servers: Api<DeserializeGuard<MySQLServer>> = api(client, namespace);
        let listing = async {
            migrations.list_metadata(&one).await.map_err(|error| ("SchemaMigrations", error))?;
            servers.list_metadata(&one).await.map_err(|error| ("MySQLServers", error))?;
            Ok(())
        };
        match tokio::time::timeout(Duration::from_secs(10), listing).await {
            Ok(Ok(())) => {}
            Ok(Err((what, error))) => {
                let place = namespace.map(|name| format!(" in namespace {name}")).unwrap_or_default();
                return Some(format!("cannot list {what}{place} (are the custom resource definitions installed?): {error}"));
            }
            Err(_) => return Some("the API server does not answer".to_owned()),
        }
    }
    None
}
