//! The operator's own HTTP side: `/healthz`, `/readyz`, `/metrics`.
//!
//! * `/healthz` is 200 while the process can answer: a liveness probe must not restart an operator because a database is down.
//! * `/readyz` is 200 once the operator has set [`Readiness`], before and otherwise 503 with a sentence that says what is missing.
//! * `/metrics` is OpenMetrics text.
//!
//! Nothing here is secret and nothing can be changed through it. [`Server::run`] spawns no task that outlives it: it ends when its token is
//! cancelled, after answering what is being asked, at the latest after [`DRAIN`].

use crate::telemetry::metrics::{CONTENT_TYPE, Metrics};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use parking_lot::RwLock;
use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The longest that open connections may delay the end. A scrape takes milliseconds; a client that holds its connection must not cost the
/// operator its grace period.
const DRAIN: Duration = Duration::from_secs(2);

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// What was requested.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The listening socket failed.
    #[error("the HTTP server on {address} ended: {source}")]
    Serve {
        /// Where it listened.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Whether the operator is ready, shared with whoever makes it so. A clone is the same value. Not ready at first.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<RwLock<Result<(), Cow<'static, str>>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Not ready yet.
    pub fn new() -> Self {
        Self(Arc::new(RwLock::new(Err(Cow::Borrowed("the operator is starting")))))
    }

    /// Everything needed is there.
    pub fn ready(&self) {
        self.set(Ok(()));
    }

    /// Not ready; `sentence` says what is missing.
    pub fn not_ready(&self, sentence: impl Into<Cow<'static, str>>) {
        self.set(Err(sentence.into()));
    }

    /// Ready, or the sentence that says what is missing.
    ///
    /// # Errors
    /// The sentence, while not ready.
    pub fn get(&self) -> Result<(), Cow<'static, str>> {
        self.0.read().clone()
    }

    fn set(&self, value: Result<(), Cow<'static, str>>) {
        *self.0.write() = value;
    }
}

/// A bound socket, not serving yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    metrics: Metrics,
    readiness: Readiness,
}

impl Server {
    /// Takes the address; port 0 takes any free port.
    ///
    /// # Errors
    /// The address is taken or not this machine's.
    pub async fn bind(address: SocketAddr, metrics: Metrics, readiness: Readiness) -> Result<Self, HttpError> {
        let bind = async {
            let listener = TcpListener::bind(address).await?;
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        };
        let (listener, bound) = bind.await.map_err(|source| HttpError::Bind { address, source })?;
        Ok(Self { listener, address: bound, metrics, readiness })
    }

    /// The address taken, with the port that it really is.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `cancel` is cancelled, then lets what is being answered end, for at most [`DRAIN`].
    ///
    /// # Errors
    /// The listening socket failed.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), HttpError> {
        let address = self.address;
        let app = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state((self.metrics, self.readiness));
        let stop = cancel.clone();
        let serve = axum::serve(self.listener, app).with_graceful_shutdown(async move { stop.cancelled().await });
        let drained = async {
            cancel.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        // Both sides are dropped whole whichever ends first; neither is polled again.
        tokio::select! {
            served = serve.into_future() => served.map_err(|source| HttpError::Serve { address, source }),
            () = drained => Ok(()),
        }
    }
}

/// Binds and answers until `cancel` is cancelled.
///
/// # Errors
/// As [`Server::bind`] and [`Server::run`].
pub async fn serve(address: SocketAddr, metrics: Metrics, readiness: Readiness, cancel: CancellationToken) -> Result<(), HttpError> {
    let server = Server::bind(address, metrics, readiness).await?;
    tracing::info!(address = %server.local_addr(), "listening for probes and scrapes");
    server.run(cancel).await
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State((_, readiness)): State<(Metrics, Readiness)>) -> impl IntoResponse {
    match readiness.get() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(sentence) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {sentence}\n")),
    }
}

async fn metrics(State((metrics, _)): State<(Metrics, Readiness)>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.encode())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        task::JoinHandle,
        time::timeout,
    };

    struct Running {
        address: SocketAddr,
        metrics: Metrics,
        readiness: Readiness,
        cancel: CancellationToken,
        task: JoinHandle<Result<(), HttpError>>,
    }

    async fn start() -> Running {
        let (metrics, readiness, cancel) = (Metrics::new(), Readiness::new(), CancellationToken::new());
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), metrics.clone(), readiness.clone()).await.unwrap();
        let address = server.local_addr();
        let task = tokio::spawn(server.run(cancel.clone()));
        Running { address, metrics, readiness, cancel, task }
    }

    /// Status line, headers and body of one request on a connection of its own.
    async fn request(address: SocketAddr, line: &str) -> (String, String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap();
        (status.to_owned(), headers.to_lowercase(), body.to_owned())
    }

    #[tokio::test]
    async fn ready_only_once_it_is_said_and_alive_all_the_time() {
        let running = start().await;
        let (status, _, body) = request(running.address, "GET /readyz").await;
        assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 503 Service Unavailable", "not ready: the operator is starting\n"));
        assert_eq!(request(running.address, "GET /healthz").await.0, "HTTP/1.1 200 OK");
        running.readiness.ready();
        assert_eq!(request(running.address, "GET /readyz").await.0, "HTTP/1.1 200 OK");
        running.readiness.not_ready(format!("the CRD {} is not there", "schemamigrations.theseus.dev"));
        let (status, _, body) = request(running.address, "GET /readyz").await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        assert_eq!(body, "not ready: the CRD schemamigrations.theseus.dev is not there\n");
    }

    #[tokio::test]
    async fn metrics_are_openmetrics_text() {
        let running = start().await;
        running.metrics.leader(true);
        let (status, headers, body) = request(running.address, "GET /metrics").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(headers.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{headers}");
        assert!(body.contains("theseus_leader 1\n") && body.ends_with("# EOF\n"), "{body}");
    }

    #[tokio::test]
    async fn nothing_else_is_served_and_nothing_can_be_posted() {
        let running = start().await;
        assert_eq!(request(running.address, "GET /").await.0, "HTTP/1.1 404 Not Found");
        assert_eq!(request(running.address, "POST /healthz").await.0, "HTTP/1.1 405 Method Not Allowed");
    }

    #[tokio::test]
    async fn it_ends_at_the_token_and_frees_the_port() {
        let running = start().await;
        request(running.address, "GET /healthz").await;
        running.cancel.cancel();
        timeout(DRAIN, running.task).await.unwrap().unwrap().unwrap();
        TcpListener::bind(running.address).await.unwrap();
    }

    /// A client that has sent half a request does not hold the end up for longer than [`DRAIN`].
    #[tokio::test]
    async fn a_client_that_hangs_does_not_hold_it_up() {
        let running = start().await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        // An answer on a later connection proves that the server has accepted the first.
        request(running.address, "GET /healthz").await;
        let began = tokio::time::Instant::now();
        running.cancel.cancel();
        running.task.await.unwrap().unwrap();
        assert!(began.elapsed() <= DRAIN + Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let running = start().await;
        let error = Server::bind(running.address, Metrics::new(), Readiness::new()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {}", running.address)), "{error}");
    }
}
