//! A TCP proxy that reads along (the client must not use TLS) and swallows what goes through once a certain statement was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Whom a stall concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The connection that sent the statement.
    That,
    /// All, also new ones.
    All,
}

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The statement itself.
    Statement,
    /// Only its answer.
    Answer,
}

/// The statement's answer is swallowed, and all that comes after it, without anything being closed.
pub struct Stall {
    /// Where clients connect.
    pub port: u16,
    /// What is looked for; not armed at first.
    armed: Arc<AtomicBool>,
    /// All connections stand still.
    all: Arc<AtomicBool>,
    /// How often it was seen while armed.
    seen: Arc<AtomicU64>,
    _task: tokio::task::JoinHandle<()>,
}

impl Stall {
    /// Forwards to a server on this machine; at `statement` (part of its text) stalls `whom`.
    pub async fn start(server: u16, statement: &'static str, lost: Lost, whom: Whom) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (armed, all, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let shared = (Arc::clone(&armed), Arc::clone(&all), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (armed, all, seen) = shared.clone();
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = server.into_split();
                    let this = Arc::new(AtomicBool::new(false));
                    let up = async {
                        let (this, all) = (Arc::clone(&this), Arc::clone(&all));
                        pump(&mut from_client, &mut to_server, |bytes| {
                            let still = stands_still(&this, &all);
                            let found = bytes.windows(statement.len()).any(|window| window == statement.as_bytes());
                            // Only once: the next attempt is to succeed.
                            if found && armed.swap(false, Ordering::SeqCst) {
                                seen.fetch_add(1, Ordering::SeqCst);
                                match whom {
                                    Whom::That => this.store(true, Ordering::SeqCst),
                                    Whom::All => all.store(true, Ordering::SeqCst),
                                }
                            }
                            if found && lost == Lost::Statement { !stands_still(&this, &all) } else { !still }
                        })
                        .await;
                    };
                    let down = async {
                        let (this, all) = (Arc::clone(&this), Arc::clone(&all));
                        pump(&mut from_server, &mut to_client, |_| !stands_still(&this, &all)).await;
                        // Nobody hears of the end either.
                        if stands_still(&this, &all) {
                            std::future::pending::<()>().await;
                        }
                    };
                    // A router that is back knows nothing of the connections before.
                    let mended = async {
                        while whom == Whom::That || all.load(Ordering::SeqCst) || !this.load(Ordering::SeqCst) {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    };
                    tokio::select! { () = up => {}, () = down => {}, () = mended => {} }
                });
            }
        });
        Self { port, armed, all, seen, _task: task }
    }

    /// From now on the statement is looked for.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// How often the statement was stalled.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// Connections made from now on pass; those of which something was swallowed are closed.
    pub fn mend(&self) {
        self.all.store(false, Ordering::SeqCst);
    }
}

/// A connection of which something was swallowed never works again.
fn stands_still(this: &AtomicBool, all: &AtomicBool) -> bool {
    if all.load(Ordering::SeqCst) {
        this.store(true, Ordering::SeqCst);
    }
    this.load(Ordering::SeqCst)
}

async fn pump(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, passes: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if passes(&buffer[..length]) && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
