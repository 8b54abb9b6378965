//! Queued migrations: what can be known ahead of their turn is reported while they wait.
//!
//! The look itself is the engine's ([`preflight::ahead`]). It runs beside the visits, once for each object that is queued, and again when its spec
//! or its login has changed; not when someone else comes or goes. Few look at once ([`Places`]), each within [`LIMIT`].
//!
//! # Ownership
//! The object's entry owns the [`Lookout`], whose task ends with it, with the look, or with the term, whatever comes first. It holds one
//! session for reading and nothing else.
use super::wake::Wakers;
use crate::engine::contract::spec::{Controls, MigrationSpec};
use crate::engine::preflight::{self, Ahead};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A server sees this many looks at once, however many objects wait.
const PER_SERVER: usize = 2;
/// The whole operator has this many under way.
const IN_ALL: usize = 8;
/// It reads a few small things; a server that takes longer has other worries.
const LIMIT: Duration = Duration::from_secs(30);
/// A look that came to nothing (no connection) is repeated after this.
const AGAIN: Duration = Duration::from_secs(300);

/// How many look at once.
pub struct Places {
    in_all: Arc<Semaphore>,
    on_server: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Default for Places {
    fn default() -> Self {
        Self { in_all: Arc::new(Semaphore::new(IN_ALL)), on_server: Mutex::default() }
    }
}

impl Places {
    fn of(&self, server: &str) -> (Arc<Semaphore>, Arc<Semaphore>) {
        let mut servers = self.on_server.lock().unwrap_or_else(PoisonError::into_inner);
        // Only servers at which someone looks now are remembered.
        servers.retain(|_, places| Arc::strong_count(places) > 1);
        let there = servers.entry(server.to_lowercase()).or_insert_with(|| Arc::new(Semaphore::new(PER_SERVER)));
        (there.clone(), self.in_all.clone())
    }
}

/// Who is to be woken, and when to give up.
pub struct Observer {
    /// The object's namespace.
    pub namespace: String,
    pub name: String,
    /// How to ask for a visit.
    pub wakers: Wakers,
    pub term: CancellationToken,
}

/// A look ahead, under way or done.
pub struct Lookout {
    spec: MigrationSpec,
    max_disk_usage: Option<u64>,
    began: Instant,
    answer: Arc<OnceLock<Option<Ahead>>>,
    task: JoinHandle<()>,
}

impl Lookout {
    /// Begins to look.
    pub fn begin(spec: MigrationSpec, controls: Controls, before: Vec<String>, places: &Places, observer: Observer) -> Self {
        let (there, in_all) = places.of(&format!("{}:{}", spec.server.host, spec.server.port));
        let answer = Arc::new(OnceLock::new());
        let (max_disk_usage, began) = (controls.limits.max_disk_usage, Instant::now());
        let task = tokio::spawn({
            let (spec, answer) = (spec.clone(), answer.clone());
            async move {
                let Observer { namespace, name, wakers, term } = observer;
                let look = async {
                    // The server's first: who waits for it must not keep the others from theirs.
                    let _there = there.acquire().await;
                    let _in_all = in_all.acquire().await;
                    tokio::time::timeout(LIMIT, preflight::ahead(&spec, &controls, &before)).await
                };
                let found = tokio::select! {
                    found = look => found,
                    () = term.cancelled() => return,
                };
                let found = match found {
                    Ok(Ok(found)) => Some(found),
                    Ok(Err(error)) => {
                        tracing::debug!(namespace, name, %error, "the check of a waiting migration failed");
                        None
                    }
                    Err(_) => {
                        tracing::debug!(namespace, name, "the check of a waiting migration took too long");
                        None
                    }
                };
                let news = !matches!(found, None | Some(Ahead::Fine));
                // Set once, here.
                let _ = answer.set(found);
                if news {
                    wakers.wake(&namespace, &name);
                }
            }
        });
        Self { spec, max_disk_usage, began, answer, task }
    }

    /// Whether it is about this.
    pub fn is_about(&self, spec: &MigrationSpec, controls: &Controls) -> bool {
        let failed = matches!(self.answer.get(), Some(None)) && self.began.elapsed() > AGAIN;
        self.spec == *spec && self.max_disk_usage == controls.limits.max_disk_usage && !failed
    }

    /// What was found, once it was.
    pub fn answer(&self) -> Option<&Ahead> {
        self.answer.get().and_then(Option::as_ref)
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.task.abort();
    }
}
