//! `MySQLServer`: asked once a minute what it is and whether migrations can run there.
//!
//! `judge` is pure. The probe reads settings only; it writes nothing and needs no privilege but to connect.
use crate::api::conditions::{READY, RECONCILING, STALLED, Truth, Wanted, find, settle};
use crate::api::{MySQLServer, MySQLServerStatus};
use crate::controller::intake::dereference::{self, dereference_server};
use crate::controller::visit::apply;
use crate::controller::visit::apply::api;
use crate::controller::visit::context::{Context, Error, error_policy};
use crate::engine::contract::reason::Reason;
use crate::engine::table::server::{Against, Known, server_problems};
use crate::mysql::codes::UNSUPPORTED_SERVER;
use crate::mysql::server::ServerFacts;
use crate::mysql::{MySqlError, Product, Session};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config as ControllerConfig, Error as ControllerError};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{Controller, WatchStreamExt, predicates, reflector};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

type GuardedServer = DeserializeGuard<MySQLServer>;

/// How often a server is asked.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often one is asked that is not ready: somebody may be mending it.
const INTERVAL_NOT_READY: Duration = Duration::from_secs(15);
/// Connecting and one answer.
const PROBE_LIMIT: Duration = Duration::from_secs(15);
/// Probes at once.
const CONCURRENCY: u16 = 8;

/// Runs the controller until `term` is cancelled.
///
/// A label selector divides migrations, not servers: with several shards each of them asks each server, and all write the same.
pub async fn servers(ctx: Arc<Context>, namespace: Option<String>, term: CancellationToken) {
    let (store, writer) = reflector::store();
    let changes = watcher(api::<GuardedServer>(&ctx.client, namespace.as_deref()), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation, Default::default());
    Controller::for_stream(changes, store)
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(term.cancelled_owned())
        .run(visit, error_policy, ctx)
        .for_each(|result| async move {
            if let Err(ControllerError::QueueError(error)) = result {
                tracing::warn!(%error, "the watch on MySQLServers failed; restarting it");
            }
        })
        .await;
}

/// What was found out.
enum Found {
    Facts(ServerFacts),
    /// One that no migration can run on.
    Unsupported(Product),
    Unreachable(MySqlError),
    Missing(dereference::Error),
}

async fn visit(object: Arc<GuardedServer>, ctx: Arc<Context>) -> Result<Action, Error> {
    // Asking has no effect and may be broken off anywhere.
    tokio::select! {
        result = ask(&object, &ctx) => result,
        () = ctx.registry.term().cancelled_owned() => Err(Error::TermEnded),
    }
}

async fn ask(object: &GuardedServer, ctx: &Context) -> Result<Action, Error> {
    let server = match &object.0 {
        Ok(server) => server,
        Err(invalid) => {
            let problem = format!("this version of the operator cannot read this object: {}", invalid.error);
            let verdict = Verdict { ready: false, reason: Reason::InvalidSpec.to_string(), message: problem };
            write(ctx, &invalid.metadata, &MySQLServerStatus::default(), None, None, verdict).await?;
            return Ok(Action::await_change());
        }
    };
    if server.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = server.namespace().ok_or(Error::Incomplete("a namespace"))?;
    let found = match dereference_server(&ctx.client, &namespace, &server.spec).await {
        Ok(connection) => match tokio::time::timeout(PROBE_LIMIT, probe(&connection.address)).await {
            Ok(Ok(facts)) => Found::Facts(facts),
            Ok(Err(error)) if error.code == UNSUPPORTED_SERVER => match crate::mysql::session::product(&connection.address).await {
                Ok(product) => Found::Unsupported(product),
                Err(_) => Found::Unreachable(error),
            },
            Ok(Err(error)) => Found::Unreachable(error),
            Err(_) => Found::Unreachable(MySqlError::timeout("read the server's version and settings", PROBE_LIMIT)),
        },
        Err(error) if error.is_of_the_api_server() => return Err(error.into()),
        Err(error) => Found::Missing(error),
    };
    let verdict = match &found {
        Found::Facts(facts) => judge(facts),
        Found::Unsupported(product) => Verdict {
            ready: false,
            reason: Reason::ServerNotSupported.to_string(),
            message: product.refusal().unwrap_or_else(|| format!("{} {}", product.flavour, product.text)),
        },
        Found::Unreachable(error) => {
            Verdict { ready: false, reason: crate::engine::contract::error::reason_of(error).to_string(), message: error.to_string() }
        }
        Found::Missing(error) => Verdict { ready: false, reason: error.reason().to_string(), message: error.to_string() },
    };
    let interval = if verdict.ready { INTERVAL } else { INTERVAL_NOT_READY };
    let (facts, product) = match found {
        Found::Facts(facts) => (Some(facts), None),
        // What it is can be told all the same.
        Found::Unsupported(product) => (None, Some(product)),
        _ => (None, None),
    };
    let product = product.or_else(|| facts.as_ref().map(ServerFacts::product));
    let previous = server.status.clone().unwrap_or_default();
    write(ctx, &server.metadata, &previous, facts.as_ref(), product.as_ref(), verdict).await?;
    ctx.forget_failures(server.metadata.uid.as_deref().unwrap_or_default());
    Ok(Action::requeue(interval))
}

async fn probe(address: &crate::mysql::ServerAddress) -> Result<ServerFacts, MySqlError> {
    let mut session = Session::open(address).await?;
    let facts = ServerFacts::read(&mut session).await;
    session.close().await;
    facts
}

/// Whether migrations can run on a server, and what it is.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    ready: bool,
    reason: String,
    message: String,
}

fn judge(facts: &ServerFacts) -> Verdict {
    // What a server must be for a copy comes first: it holds for each migration, wherever it is pointed.
    let mut problems = server_problems(Known { facts: Some(facts), ..Known::default() }, None);
    problems.sort_by_key(|problem| problem.against == Against::Everything);
    let gtid = if facts.gtid { "with" } else { "without" };
    let standing = facts.product().standing();
    let what = format!("{} {} ({standing}), {gtid} GTIDs, binlog_format {}", facts.flavour, facts.version_text, facts.binlog_format);
    match problems.first() {
        None => Verdict { ready: true, reason: "Reachable".to_owned(), message: what },
        Some(first) => {
            let words: Vec<String> = problems.iter().map(|problem| format!("{} ({})", problem.message, problem.advice)).collect();
            Verdict { ready: false, reason: first.reason.to_string(), message: format!("{what}: {}", words.join("; ")) }
        }
    }
}

async fn write(
    ctx: &Context,
    meta: &kube::core::ObjectMeta,
    previous: &MySQLServerStatus,
    facts: Option<&ServerFacts>,
    product: Option<&Product>,
    verdict: Verdict,
) -> Result<(), Error> {
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
    let wanted = vec![
        Wanted::new(READY, verdict.ready, verdict.reason.as_str(), verdict.message.as_str()),
        // A server that is not ready is asked again for ever, so this object never stalls.
        Wanted::new(RECONCILING, if verdict.ready { Truth::False } else { Truth::True }, verdict.reason.as_str(), ""),
        Wanted::new(STALLED, Truth::False, verdict.reason.as_str(), ""),
    ];
    let turned = find(&previous.conditions, READY).map(|ready| (ready.status.clone(), ready.reason.clone()));
    let status = MySQLServerStatus {
        observed_generation: meta.generation,
        version: product.map(|product| product.text.clone()),
        flavour: product.map(|product| product.flavour.to_string()),
        gtid_mode: facts.map(|facts| if facts.gtid { "ON" } else { "OFF" }.to_owned()),
        binlog_format: facts.map(|facts| facts.binlog_format.clone()),
        last_probe: Some(now.clone()),
        conditions: settle(&previous.conditions, wanted, meta.generation, &now),
    };
    apply::status::<MySQLServer>(&ctx.client, meta, &status).await?;
    let now_is = (Truth::from(verdict.ready).as_str().to_owned(), verdict.reason.clone());
    if turned.as_ref() != Some(&now_is) {
        tracing::info!(namespace = meta.namespace, server = meta.name, ready = verdict.ready, "{}", verdict.message);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_wrong_with_a_server_is_said() {
        let good = crate::mysql::server::tests::good_server();
        assert_eq!(judge(&good).message, "MySQL 9.7.4 (tested), with GTIDs, binlog_format ROW");
        assert!(judge(&good).ready);
        for (facts, reason, word) in [
            (ServerFacts { read_only: true, ..good.clone() }, "ReadOnly", "replica"),
            (ServerFacts { log_bin: false, ..good.clone() }, "ServerNotSupported", "log_bin"),
            (ServerFacts { binlog_format: "MIXED".to_owned(), ..good.clone() }, "ServerNotSupported", "needs ROW"),
            (ServerFacts { log_bin: false, read_only: true, ..good.clone() }, "ServerNotSupported", "replica"),
        ] {
            let verdict = judge(&facts);
            assert!(!verdict.ready && verdict.reason == reason && verdict.message.contains(word), "{verdict:?}");
        }
    }
}
