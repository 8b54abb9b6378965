//! The connections that this process has, or had, open to servers: they tell its own transactions in a binary log from others'.
//!
//! A list of our own, because nothing on the server tells reliably: the driver's connection attributes get lost with TLS (its SSL request
//! lacks `CLIENT_CONNECT_ATTRS`), and the account may be shared. A stream asks once for the list of its server's run ([`Connections::of`])
//! and then for each transaction of the server, so an answer takes the same short time however many connections there were, and streams
//! of different servers do not wait for each other.

use super::session::ServerAddress;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// A run of a server process: its `server_uuid` and when it was started. Connection ids are one run's: after a restart, and on another server
/// behind the same address, they begin again and belong to others.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerRun {
    /// Empty where the server does not tell.
    pub(super) uuid: String,
    /// Seconds since 1970; 0 where the performance schema does not tell.
    pub(super) started: u64,
}

/// How many closed connections of a run are remembered: their transactions may still come in a stream that is behind. Hours of many
/// migrations, a quarter of a megabyte.
const CLOSED_KEPT: usize = 16_384;
/// How many runs of servers are remembered that nobody is connected to any more.
const RUNS_KEPT: usize = 256;

#[derive(Default)]
struct Ids {
    open: HashSet<u32>,
    closed: HashSet<u32>,
    /// The closed ones, the oldest first.
    order: VecDeque<u32>,
}

/// Host, port, run.
type ServerKey = (String, u16, ServerRun);

static RUNS: Mutex<Option<HashMap<ServerKey, Connections>>> = Mutex::new(None);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half-way through a change.
    mutex.lock()
}

/// This process's connections to one run of a server.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Ids>>);

impl Connections {
    /// Those to the run of the server that answers at an address.
    pub fn of(address: &ServerAddress, run: &ServerRun) -> Self {
        let mut runs = locked(&RUNS);
        let runs = runs.get_or_insert_default();
        let place = (address.host.clone(), address.port, run.clone());
        if !runs.contains_key(&place) && runs.len() >= RUNS_KEPT {
            // The lists that someone holds are in use: an open connection, or a stream.
            let unused = runs.iter().filter(|(_, ids)| Arc::strong_count(&ids.0) == 1).map(|(place, _)| place);
            if let Some(oldest) = unused.min_by_key(|(_, _, run)| run.started).cloned() {
                runs.remove(&oldest);
            }
        }
        runs.entry(place).or_default().clone()
    }

    /// Whether a connection is or was one of this process's.
    pub fn has(&self, id: u32) -> bool {
        let ids = locked(&self.0);
        ids.open.contains(&id) || ids.closed.contains(&id)
    }

    /// Adds one; it moves to the closed ones when what is returned is dropped.
    pub(super) fn register(&self, id: u32) -> Registered {
        locked(&self.0).open.insert(id);
        Registered { connections: self.clone(), id }
    }
}

/// An entry in the list of this process's connections.
pub struct Registered {
    connections: Connections,
    id: u32,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut ids = locked(&self.connections.0);
        ids.open.remove(&self.id);
        if ids.closed.insert(self.id) {
            ids.order.push_back(self.id);
        }
        if ids.order.len() > CLOSED_KEPT
            && let Some(oldest) = ids.order.pop_front()
        {
            ids.closed.remove(&oldest);
        }
    }
}

/// Ids of the connections that this process has open to a server now, of all its migrations.
pub fn own_connections(address: &ServerAddress) -> Vec<u32> {
    let runs = locked(&RUNS);
    let here = runs.iter().flatten().filter(|((host, port, _), _)| *host == address.host && *port == address.port);
    here.flat_map(|(_, connections)| locked(&connections.0).open.iter().copied().collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::session::Tls;
    use std::time::{Duration, Instant};

    fn address(host: &str) -> ServerAddress {
        let (username, password) = (String::new(), String::new());
        ServerAddress { host: host.into(), port: 3306, username, password, tls: Tls::default(), unlogged: false }
    }

    fn run(uuid: &str) -> ServerRun {
        ServerRun { uuid: uuid.into(), started: 1 }
    }

    #[test]
    fn a_connection_is_ours_while_it_is_open_and_afterwards() {
        let (here, there) = (address("own-1"), address("own-2"));
        let ours = Connections::of(&here, &run("a"));
        let open = ours.register(7);
        let others = [Connections::of(&here, &run("b")), Connections::of(&there, &run("a"))];
        assert!(Connections::of(&here, &run("a")).has(7) && !ours.has(8));
        assert!(others.iter().all(|c| !c.has(7)), "another run, another server");
        assert_eq!((own_connections(&here), own_connections(&there)), (vec![7], Vec::new()));
        drop(open);
        assert!(ours.has(7), "its transactions may still come");
        assert!(own_connections(&here).is_empty());
    }

    #[test]
    fn the_oldest_closed_connections_are_forgotten() {
        let ours = Connections::default();
        for id in 0..=u32::try_from(CLOSED_KEPT).expect("small") {
            drop(ours.register(id));
        }
        assert!(!ours.has(0) && ours.has(1) && ours.has(2));
    }

    /// Each transaction of a server asks, and nearly all of them are someone else's.
    #[test]
    fn an_answer_takes_no_longer_after_many_connections() {
        let (few, many) = (Connections::default(), Connections::default());
        drop(few.register(1));
        for id in 0..20_000 {
            drop(many.register(id));
        }
        // The best of several rounds: a busy machine slows some of them.
        let best = |connections: &Connections| {
            let round = |_| {
                let began = Instant::now();
                assert!((1_000_000..1_005_000).all(|id| !std::hint::black_box(connections).has(id)));
                began.elapsed()
            };
            (0..20).map(round).min().unwrap_or_default().max(Duration::from_nanos(1))
        };
        let (few, many) = (best(&few), best(&many));
        assert!(many < few * 50, "{few:?} after one connection, {many:?} after many");
    }
}
