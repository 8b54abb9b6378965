//! A TCP proxy before a MySQL server that a test steers: it leads new connections elsewhere, breaks, stalls or slows them, and stops a
//! connection at an exact statement.
//!
//! It reads the protocol, so whoever goes through it must not use TLS ([`plain`]). Statements are known by their text.
#![allow(dead_code, reason = "each suite uses its own part")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use theseus::engine::contract::spec::{MigrationSpec, TlsMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Leads a migration through a proxy.
pub fn plain(mut spec: MigrationSpec, proxy: &Proxy) -> MigrationSpec {
    spec.server.port = proxy.port;
    spec.server.tls.mode = TlsMode::Disabled;
    spec
}

/// What a connection of the engine is for, by what was said on it: the first that fits (a flush connection merges chunk records too).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Guard,
    Stream,
    Lock,
    Flush,
    Copy,
    Control,
    /// None of the above was said yet: throttle, verification.
    Other,
}

/// Words of a statement that only one kind says.
const WORDS: &[(&str, Kind)] = &[
    ("GET_LOCK(", Kind::Guard),
    ("_heartbeat_period", Kind::Stream),
    ("VALUES ('chunk'", Kind::Copy),
    ("DELETE FROM", Kind::Flush),
    ("SET SESSION lock_wait_timeout=", Kind::Lock),
    ("BINARY LOG STATUS", Kind::Control),
];

#[derive(Debug, Clone, Copy)]
struct Weather {
    server: u16,
    /// Connections that are older than this break.
    generation: u64,
    refusing: bool,
    stalled: bool,
    /// For each piece that passes.
    delay: Duration,
}

/// Where a trapped connection is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The server never sees the statement, until the release.
    Request,
    /// The server has it, and its answer does not come back, until the release.
    Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grip {
    Closed,
    /// What was held passes.
    Open,
    /// What was held is lost, and the connection with it.
    Torn,
}

struct Trap {
    words: String,
    hold: Hold,
    sprung: watch::Sender<Option<u16>>,
    grip: watch::Receiver<Grip>,
}

/// A trap that was set. Dropping it releases what it holds.
pub struct Caught {
    sprung: watch::Receiver<Option<u16>>,
    grip: watch::Sender<Grip>,
}

impl Caught {
    /// Waits until a connection is held: its port on the server's side.
    pub async fn sprung(&mut self) -> u16 {
        let port = tokio::time::timeout(crate::support::PATIENCE, self.sprung.wait_for(Option::is_some)).await;
        let port = *port.expect("the statement comes").expect("the proxy is alive");
        port.unwrap_or_default()
    }

    /// Lets go.
    pub fn release(self) {
        self.grip.send_replace(Grip::Open);
    }

    /// Lets nothing of it through: the connection ends.
    pub fn tear(self) {
        self.grip.send_replace(Grip::Torn);
    }
}

#[derive(Default)]
struct Seen {
    /// Port on the server's side, kinds of statements, alive.
    links: Vec<Link>,
    trap: Option<Trap>,
    /// Every statement, shortened, in the order of arrival.
    said: Vec<String>,
}

struct Link {
    port: u16,
    kinds: BTreeSet<Kind>,
    alive: bool,
}

pub struct Proxy {
    pub port: u16,
    weather: Arc<watch::Sender<Weather>>,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.weather.send_modify(|w| w.generation += 1);
    }
}

impl Proxy {
    /// Leads to the server on this port.
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let weather = Weather { server, generation: 0, refusing: false, stalled: false, delay: Duration::ZERO };
        let weather = Arc::new(watch::channel(weather).0);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (all_weather, all_seen) = (Arc::clone(&weather), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let now = *all_weather.borrow();
                if now.refusing {
                    continue;
                }
                tokio::spawn(link(client, now, all_weather.subscribe(), Arc::clone(&all_seen)));
            }
        });
        Self { port, weather, seen, task }
    }

    /// All connections break, and new ones are refused for a while.
    pub async fn cut(&self, time: Duration) {
        self.close();
        tokio::time::sleep(time).await;
        self.weather.send_modify(|w| w.refusing = false);
    }

    /// All connections break, and new ones are refused until [`Proxy::lead_to`].
    pub fn close(&self) {
        self.weather.send_modify(|w| {
            w.refusing = true;
            w.generation += 1;
        });
    }

    /// Nothing passes for a while; nothing breaks.
    pub async fn stall(&self, time: Duration) {
        self.weather.send_modify(|w| w.stalled = true);
        tokio::time::sleep(time).await;
        self.weather.send_modify(|w| w.stalled = false);
    }

    /// From now on each piece takes this long.
    pub fn slow(&self, delay: Duration) {
        self.weather.send_modify(|w| w.delay = delay);
    }

    /// New connections go to this server; those that are there stay where they are.
    pub fn lead_to(&self, server: u16) {
        self.weather.send_modify(|w| {
            w.server = server;
            w.refusing = false;
        });
    }

    /// Holds the next connection that says these words (once); with `^` in front of them, that begins with them.
    pub fn trap(&self, words: &str, hold: Hold) -> Caught {
        let (sprung, sprung_rx) = watch::channel(None);
        let (grip, grip_rx) = watch::channel(Grip::Closed);
        self.seen.lock().expect("no panic").trap = Some(Trap { words: words.to_owned(), hold, sprung, grip: grip_rx });
        Caught { sprung: sprung_rx, grip }
    }

    /// Ports, on the server's side, of the connections that are alive, with their kinds.
    pub fn links(&self) -> Vec<(u16, Kind)> {
        let seen = self.seen.lock().expect("no panic");
        seen.links.iter().filter(|l| l.alive).map(|l| (l.port, l.kinds.first().copied().unwrap_or(Kind::Other))).collect()
    }

    /// How many statements have passed so far: a mark for [`Proxy::said_since`].
    pub fn mark(&self) -> usize {
        self.seen.lock().expect("no panic").said.len()
    }

    /// The beginnings of the statements that came after a mark.
    pub fn said_since(&self, mark: usize) -> Vec<String> {
        self.seen.lock().expect("no panic").said[mark..].to_vec()
    }
}

async fn link(client: TcpStream, born: Weather, weather: watch::Receiver<Weather>, seen: Arc<Mutex<Seen>>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", born.server)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let port = server.local_addr().expect("an address").port();
    let index = {
        let mut seen = seen.lock().expect("no panic");
        seen.links.push(Link { port, kinds: BTreeSet::new(), alive: true });
        seen.links.len() - 1
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // True: the answers of this connection are held.
    let (answers, held) = watch::channel(false);
    let mut life = weather.clone();
    // Any end is the connection's end.
    tokio::select! {
        () = requests(from_client, to_server, weather.clone(), (Arc::clone(&seen), index, port), answers) => {}
        () = replies(from_server, to_client, weather, held) => {}
        _ = life.wait_for(|w| w.generation != born.generation) => {}
    }
    seen.lock().expect("no panic").links[index].alive = false;
}

/// Waits until something may pass.
async fn pass(weather: &mut watch::Receiver<Weather>) {
    let delay = weather.borrow().delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let _ = weather.wait_for(|w| !w.stalled).await;
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    (seen, index, port): (Arc<Mutex<Seen>>, usize, u16),
    answers: watch::Sender<bool>,
) {
    let mut packet = vec![0; 4];
    loop {
        packet.truncate(4);
        if from.read_exact(&mut packet).await.is_err() {
            return;
        }
        let length = usize::from(packet[0]) | usize::from(packet[1]) << 8 | usize::from(packet[2]) << 16;
        packet.resize(4 + length, 0);
        if from.read_exact(&mut packet[4..]).await.is_err() {
            return;
        }
        pass(&mut weather).await;
        // COM_QUERY and COM_STMT_PREPARE are followed by the text.
        let text = match packet.get(4) {
            Some(3 | 0x16) => String::from_utf8_lossy(&packet[5..]).into_owned(),
            _ => String::new(),
        };
        let trap = if text.is_empty() { None } else { look(&text, &seen, index) };
        if let Some(trap) = trap {
            let mut grip = trap.grip.clone();
            if trap.hold == Hold::Request {
                trap.sprung.send_replace(Some(port));
                if opened(&mut grip).await == Grip::Torn {
                    return;
                }
            } else {
                answers.send_replace(true);
                if to.write_all(&packet).await.is_err() {
                    return;
                }
                trap.sprung.send_replace(Some(port));
                if opened(&mut grip).await == Grip::Torn {
                    return;
                }
                answers.send_replace(false);
                continue;
            }
        }
        if to.write_all(&packet).await.is_err() {
            return;
        }
    }
}

/// A trap that is dropped opens.
async fn opened(grip: &mut watch::Receiver<Grip>) -> Grip {
    grip.wait_for(|g| *g != Grip::Closed).await.map_or(Grip::Open, |g| *g)
}

/// Notes a statement; the trap that it springs.
fn look(text: &str, seen: &Mutex<Seen>, index: usize) -> Option<Trap> {
    let mut seen = seen.lock().expect("no panic");
    for (words, kind) in WORDS {
        if text.contains(words) {
            seen.links[index].kinds.insert(*kind);
        }
    }
    seen.said.push(text.chars().take(200).collect());
    seen.trap.take_if(|trap| match trap.words.strip_prefix('^') {
        Some(words) => text.starts_with(words),
        None => text.contains(&trap.words),
    })
}

async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut weather: watch::Receiver<Weather>, mut held: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(n) if n > 0 => n,
            _ => {
                // A held answer may be the server's good-bye: the client must not learn of it early.
                let _ = held.wait_for(|h| !*h).await;
                return;
            }
        };
        pass(&mut weather).await;
        let _ = held.wait_for(|h| !*h).await;
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
