//! `theseus operator`: the controller, until SIGTERM or SIGINT.
use crate::controller::lead::leadership::Lease;
use crate::controller::{self, Options};
use crate::http;
use crate::telemetry::{LogFormat, Metrics, logging};
use kube::Config;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Where a Pod reads its own namespace when the chart has not set `POD_NAMESPACE`.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// When the operator has ended, what is left of the runtime is given this long.
const RUNTIME_LIMIT: Duration = Duration::from_secs(2);

/// `theseus operator`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Watch this namespace only; may be repeated. Default: all namespaces.
    #[arg(long, value_name = "NAMESPACE")]
    pub watch_namespace: Vec<String>,
    /// Handle only SchemaMigrations with these labels, e.g. theseus.dev/shard=a. An operator with another selector uses another Lease.
    #[arg(long, value_name = "SELECTOR")]
    pub watch_label_selector: Option<String>,
    /// Use leader election with a Lease, so that only one of several replicas is active.
    #[arg(long)]
    pub leader_elect: bool,
    /// Address on which to serve /healthz, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_bind: SocketAddr,
    /// How many migrations run at once; the others wait as Queued.
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_concurrent_migrations: u16,
    /// json or text.
    #[arg(long, value_name = "FORMAT", default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// The name of this process in the Lease, the status and Events; default: the host name.
    #[arg(long, value_name = "NAME", env = "POD_NAME", hide = true)]
    pub pod_name: Option<String>,
    /// The operator's own namespace, which holds the Lease.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", hide = true)]
    pub pod_namespace: Option<String>,
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Logging(#[from] logging::LoggingError),
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    #[error("no Kubernetes configuration: {0}")]
    Config(#[from] kube::config::InferConfigError),
    #[error("{0}")]
    Http(#[from] http::HttpError),
    #[error("{0}")]
    Controller(#[from] controller::Error),
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Runs the operator; 0 after a signal, 1 when it cannot go on.
pub fn run(args: Args) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator is stopping");
            eprintln!("theseus operator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> Result<(), Error> {
    logging::init(args.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let result = runtime.block_on(operate(args));
    runtime.shutdown_timeout(RUNTIME_LIMIT);
    result
}

async fn operate(args: Args) -> Result<(), Error> {
    let config = Config::infer().await?;
    let options = options(&args, &config);
    let (metrics, readiness, shutdown) = (Metrics::new(), http::Readiness::new(), CancellationToken::new());
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let server = http::Server::bind(args.http_bind, metrics.clone(), readiness.clone()).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        instance = options.instance,
        http = %server.local_addr(),
        lease = options.lease.as_ref().map(|lease| lease.name.as_str()),
        "the operator is starting"
    );
    // Probes are answered until everything else has ended.
    let serving = CancellationToken::new();
    let server = tokio::spawn(server.run(serving.clone()));
    let mut operator = tokio::spawn(controller::run(config, options, metrics, readiness, shutdown.clone()));
    // A signal only cancels the token; the operator is then waited for: its own waits are bounded.
    let result = tokio::select! {
        result = &mut operator => result,
        _ = terminate.recv() => {
            tracing::info!("SIGTERM: stopping");
            shutdown.cancel();
            operator.await
        }
        _ = interrupt.recv() => {
            tracing::info!("SIGINT: stopping");
            shutdown.cancel();
            operator.await
        }
    };
    serving.cancel();
    let served = server.await;
    result??;
    served??;
    tracing::info!("the operator has ended");
    Ok(())
}

fn options(args: &Args, config: &Config) -> Options {
    let instance = args.pod_name.clone().filter(|name| !name.is_empty()).or_else(host_name).unwrap_or_else(|| "theseus".to_owned());
    let namespace = args
        .pod_namespace
        .clone()
        .filter(|name| !name.is_empty())
        .or_else(|| std::fs::read_to_string(NAMESPACE_FILE).ok().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()))
        .unwrap_or_else(|| config.default_namespace.clone());
    let lease = args.leader_elect.then(|| Lease {
        name: lease_name(&args.watch_namespace, args.watch_label_selector.as_deref()),
        namespace,
        identity: instance.clone(),
    });
    Options {
        namespaces: args.watch_namespace.clone(),
        label_selector: args.watch_label_selector.clone(),
        lease,
        max_concurrent_migrations: usize::from(args.max_concurrent_migrations),
        instance,
    }
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// One Lease per set of objects: operators that watch different ones are all active.
fn lease_name(namespaces: &[String], label_selector: Option<&str>) -> String {
    if namespaces.is_empty() && label_selector.is_none() {
        return "theseus-operator".to_owned();
    }
    let mut namespaces = namespaces.to_vec();
    namespaces.sort();
    namespaces.dedup();
    let digest = Sha256::digest(format!("{}\n{}", namespaces.join(","), label_selector.unwrap_or_default()));
    format!("theseus-operator-{:.8}", format!("{digest:x}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_set_of_objects_has_its_lease() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(lease_name(&[], None), "theseus-operator");
        assert_eq!(lease_name(&names(&["a", "b"]), None), lease_name(&names(&["b", "a", "a"]), None));
        let different = [
            lease_name(&[], None),
            lease_name(&[], Some("shard=a")),
            lease_name(&[], Some("shard=b")),
            lease_name(&names(&["a"]), None),
            lease_name(&names(&["a"]), Some("shard=a")),
        ];
        let unique: std::collections::BTreeSet<_> = different.iter().collect();
        assert_eq!(unique.len(), different.len(), "{different:?}");
    }
}
