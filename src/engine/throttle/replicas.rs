//! Replica lag by a heartbeat row: the engine writes the time into the state table on the primary, and reads it on each replica.
//!
//! The time is the engine's own, on both sides, so clocks of servers do not matter; it includes everything a change passes on its way.
//! A migration that runs on a replica writes nothing that could arrive elsewhere: there the server's own lag is read, by its own word.
//! Relies on replicas applying in commit order as seen from one row, and on the account being known there (it is replicated too).

use super::decide::{Readings, Signal};
use super::signals::{PolledSession, Signals, pause_after, text};
use crate::engine::contract::notice;
use crate::engine::contract::spec::{Replicas, ServerAddress};
use crate::engine::table::replica::channel;
use crate::mysql::session::{FIRST_SERVER_ID, SHORT};
use crate::mysql::{GtidSet, MySqlError, Session, codes};
use futures::StreamExt;
use futures::future::{AbortHandle, Abortable};
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the primary is asked for its replicas.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// As above while nobody needs to know: it also keeps the connection alive.
const LOOK_AT_REST: Duration = Duration::from_secs(60);
/// A replica that the primary does not list any more and that has not been readable for this long was taken away.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// The server's own word has whole seconds.
const ITS_OWN_EVERY: Duration = Duration::from_secs(1);
/// The port of an address that names none.
const PORT: u16 = 3306;
/// A heartbeat that is later than this may have been left out by the replica: it is asked what it has applied.
const SUSPECT_AFTER: Duration = Duration::from_secs(2);
/// The table's creation has not arrived yet.
const NOT_ARRIVED: [u16; 2] = [codes::BAD_DB_ERROR, codes::NO_SUCH_TABLE];

/// Microseconds since 1970 that never go backwards, and what was written with them.
pub(super) struct HeartbeatClock {
    base: u64,
    began: Instant,
    first: AtomicU64,
    last: AtomicU64,
}

impl HeartbeatClock {
    /// A clock that begins at the system's time.
    pub fn new() -> Self {
        let base = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| u64::try_from(d.as_micros()).unwrap_or(1));
        Self { base, began: Instant::now(), first: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        self.base + u64::try_from(self.began.elapsed().as_micros()).unwrap_or(0)
    }

    fn written(&self, at: u64) {
        let _ = self.first.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed);
        self.last.store(at, Ordering::Relaxed);
    }

    /// The lag of a replica that shows `value` (`None`: the row or the table has not arrived). `None`: nothing was written yet.
    fn lag(&self, value: Option<u64>) -> Option<Duration> {
        lag(self.first.load(Ordering::Relaxed), self.last.load(Ordering::Relaxed), value, self.now())
    }
}

/// Pure: the lag of a replica that shows `value`, when heartbeats from `first` to `last` have been written.
///
/// A replica that shows the last one lacks nothing, however long ago that was: a heartbeat that cannot be written is not its fault. A value
/// from before the first one is a former engine's, perhaps by another clock: that ours have not arrived is what is known.
fn lag(first: u64, last: u64, value: Option<u64>, now: u64) -> Option<Duration> {
    if first == 0 {
        return None;
    }
    match value {
        Some(value) if value >= last => Some(Duration::ZERO),
        Some(value) if value >= first => Some(Duration::from_micros(now.saturating_sub(value))),
        _ => Some(Duration::from_micros(now.saturating_sub(first))),
    }
}

fn heartbeat(readings: &mut Readings) -> &mut Option<Signal<()>> {
    &mut readings.heartbeat
}

/// Writes the heartbeat while there are replicas to look at. Never ends.
pub(super) async fn write_heartbeat(signals: &Signals, beat: &HeartbeatClock) {
    let mut polled = PolledSession::primary(signals, "");
    let mut readings = signals.readings.subscribe();
    loop {
        if readings.borrow_and_update().replicas.is_empty() {
            signals.forget(heartbeat);
            polled.close().await;
            if readings.wait_for(|r| !r.replicas.is_empty()).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        signals.begin(heartbeat);
        let began = Instant::now();
        let at = beat.now();
        let written = polled.rows("write the heartbeat", &signals.state.heartbeat(at), false).await;
        let pause = pause_after(began.elapsed(), written.is_err());
        if written.is_ok() {
            beat.written(at);
        }
        signals.put(heartbeat, written.map(|_| ()).map_err(|error| error.to_string()));
        tokio::time::sleep(pause).await;
    }
}

/// A replica that is checked.
struct ReplicaTask {
    abort: AbortHandle,
    listed: bool,
}

/// Finds the replicas and looks at each of them. Never ends.
pub async fn watch(signals: &Signals, beat: &HeartbeatClock) {
    let mut polled = PolledSession::primary(signals, "");
    let mut live = signals.live_limits();
    let mut tasks: BTreeMap<String, ReplicaTask> = BTreeMap::new();
    let mut work = FuturesUnordered::new();
    loop {
        let limits = live.limits();
        let asked = if limits.max_replica_lag.is_some() { limits.replicas } else { Replicas::None };
        let mut pause = LOOK_EVERY;
        // `None`: they could not be found out, so those that are known stay.
        let found: Option<Vec<String>> = match &asked {
            Replicas::None => Some(Vec::new()),
            Replicas::Hosts(hosts) => Some(hosts.iter().map(|host| normal(host)).collect()),
            Replicas::Auto => match discover(signals, &mut polled).await {
                Ok(found) => Some(found),
                Err(error) => {
                    signals.notice(
                        notice::SIGNAL_NOT_AVAILABLE,
                        format!("cannot list the primary's replicas: {error}; list them in throttle.replicas.hosts"),
                    );
                    pause = Duration::from_secs(1);
                    None
                }
            },
        };
        if asked != Replicas::Auto {
            polled.close().await;
        }
        if let Some(found) = found {
            let forget = |name: &str, task: &ReplicaTask| {
                let gone =
                    || signals.readings.borrow().replicas.get(name).is_none_or(|signal| signal.silence(Instant::now()) > FORGET_AFTER);
                !task.listed && (asked != Replicas::Auto || gone())
            };
            for (name, task) in &mut tasks {
                task.listed = found.contains(name);
            }
            tasks.retain(|name, task| {
                let forgotten = forget(name, task);
                if forgotten {
                    task.abort.abort();
                    if asked == Replicas::Auto {
                        signals.notice(
                            notice::REPLICA_FORGOTTEN,
                            format!(
                                "replica {name} is no longer registered with the primary and cannot be reached; its lag is no longer checked"
                            ),
                        );
                    }
                }
                !forgotten
            });
            for name in found {
                tasks.entry(name.clone()).or_insert_with(|| {
                    let (abort, registration) = AbortHandle::new_pair();
                    let began = Instant::now();
                    signals.update(|r| {
                        r.replicas.entry(name.clone()).or_insert_with(|| Signal::new(began));
                    });
                    work.push(Abortable::new(watch_one(signals, beat, name), registration));
                    ReplicaTask { abort, listed: true }
                });
            }
        }
        signals.readings.send_if_modified(|readings| {
            let before = (readings.replicas.len(), readings.replicas_known);
            readings.replicas.retain(|name, _| tasks.contains_key(name));
            readings.replicas_known = true;
            before != (readings.replicas.len(), true)
        });
        let pause = match asked {
            Replicas::Auto if live.is_resting() => LOOK_AT_REST,
            Replicas::Auto => pause,
            _ => Duration::from_secs(3600),
        };
        let rest = live.wait(pause);
        tokio::pin!(rest);
        loop {
            // Cancel-safe: both are only polled again.
            tokio::select! {
                () = &mut rest => break,
                // An aborted task ends; the others never do.
                Some(_) = work.next() => {}
            }
        }
    }
}

/// Looks at the lag of the server itself, which is a replica, by its own word: it has no heartbeat of ours. Never ends.
pub(super) async fn watch_itself(signals: &Signals) {
    let mut polled = PolledSession::primary(signals, "");
    let mut live = signals.live_limits();
    let name = normal(&format!("[{}]:{}", signals.server.host, signals.server.port));
    loop {
        if live.limits().max_replica_lag.is_none() {
            polled.close().await;
            signals.update(|readings| readings.replicas.clear());
            live.wait(Duration::from_secs(3600)).await;
            continue;
        }
        let began = Instant::now();
        let what = "read the replica's lag";
        let reading = match polled.rows(what, "SHOW REPLICA STATUS", false).await {
            // Servers before 8.0.22.
            Err(error) if error.code == codes::PARSE_ERROR => polled.rows(what, "SHOW SLAVE STATUS", false).await,
            other => other,
        };
        let pause = pause_after(began.elapsed(), reading.is_err()).max(ITS_OWN_EVERY);
        let now = Instant::now();
        signals.update(|readings| {
            readings.replicas_known = true;
            // The migration's tables are made there, and need not arrive.
            readings.arrived.insert(name.clone());
            let signal = readings.replicas.entry(name.clone()).or_insert_with(|| Signal::new(now));
            match reading {
                // A replica that does not replicate now does not tell: nothing of ours makes it late.
                Ok(rows) => match rows.iter().map(channel).collect::<Result<Vec<_>, _>>() {
                    Ok(channels) => signal.read(Duration::from_secs(channels.iter().filter_map(|c| c.behind).max().unwrap_or(0)), now),
                    Err(column) => signal.failed(format!("{column} is not readable")),
                },
                Err(error) => signal.failed(error.to_string()),
            }
        });
        live.wait(pause).await;
    }
}

/// The addresses of the replicas that the primary lists; of one that has not told its address, its `server_id`.
fn listed(rows: &[mysql_async::Row]) -> Vec<Result<String, u64>> {
    let mut found = Vec::new();
    // Server_Id, Host, Port, Source_Id, Replica_UUID; with show-replica-auth-info User and Password come after Host.
    for row in rows {
        let column =
            |name: &str| row.columns_ref().iter().position(|c| c.name_str().eq_ignore_ascii_case(name)).and_then(|at| text(row, at));
        let id: u64 = column("Server_Id").and_then(|id| id.parse().ok()).unwrap_or(0);
        if id >= FIRST_SERVER_ID {
            // An engine that reads the log.
            continue;
        }
        let host = column("Host").unwrap_or_default();
        if host.is_empty() {
            found.push(Err(id));
            continue;
        }
        let port = column("Port").and_then(|port| port.parse().ok()).filter(|port| *port != 0).unwrap_or(PORT);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        found.push(Ok(format!("{host}:{port}")));
    }
    found
}

/// As [`listed`], once and on any session of the primary.
///
/// # Errors
/// REPLICATION SLAVE is missing; a lost connection.
pub(super) async fn discovered(session: &mut Session) -> Result<Vec<Result<String, u64>>, MySqlError> {
    let what = "list the replicas";
    let rows = match session.rows(what, SHORT, "SHOW REPLICAS").await {
        // Servers before 8.0.22.
        Err(error) if error.code == codes::PARSE_ERROR => session.rows(what, SHORT, "SHOW SLAVE HOSTS").await?,
        other => other?,
    };
    Ok(listed(&rows))
}

async fn discover(signals: &Signals, polled: &mut PolledSession) -> Result<Vec<String>, MySqlError> {
    let what = "list the replicas";
    let rows = match polled.rows(what, "SHOW REPLICAS", false).await {
        // Servers before 8.0.22.
        Err(error) if error.code == codes::PARSE_ERROR => polled.rows(what, "SHOW SLAVE HOSTS", false).await?,
        other => other?,
    };
    Ok(listed(&rows)
        .into_iter()
        .filter_map(|one| {
            one.map_err(|id| {
                signals.notice(
                    notice::REPLICA_WITHOUT_ADDRESS,
                    format!("the replica with server_id {id} does not report its address to the primary, so its lag is not checked: set report_host there, or list it in throttle.replicas.hosts"),
                );
            })
            .ok()
        })
        .collect())
}

/// Looks at one replica. Never ends.
async fn watch_one(signals: &Signals, beat: &HeartbeatClock, name: String) {
    let (host, port) = split(&name);
    let address = ServerAddress { host, port, ..signals.server.clone() };
    let mut polled = PolledSession::new(address, "");
    let sql = signals.state.read_heartbeat();
    let mut suspicion = Suspicion::default();
    loop {
        let began = Instant::now();
        let reading = match polled.rows("read the heartbeat", &sql, false).await {
            Ok(rows) => beat_of(&rows),
            Err(error) if NOT_ARRIVED.contains(&error.code) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        let pause = pause_after(began.elapsed(), reading.is_err());
        let now = Instant::now();
        let lag = reading.clone().map(|value| beat.lag(value));
        signals.readings.send_if_modified(|readings| {
            let Some(signal) = readings.replicas.get_mut(&name) else { return false };
            match lag {
                Ok(Some(lag)) => signal.read(lag, now),
                // The first heartbeat is being written.
                Ok(None) => return false,
                Err(words) => signal.failed(words),
            }
            true
        });
        if let Ok(value) = reading {
            suspicion.check(signals, beat, &name, &mut polled, value).await;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Whether a heartbeat is late because the replica is, or because the replica does not get it.
#[derive(Default)]
struct Suspicion {
    /// The primary, asked for the end of its log.
    primary: Option<PolledSession>,
    /// A heartbeat that was written, and the GTIDs that the primary had executed afterwards.
    awaited: Option<(u64, GtidSet)>,
    /// The ghost table is there, and a heartbeat of ours has come.
    arrived: bool,
}

impl Suspicion {
    /// After a reading: `value` is what the replica shows.
    async fn check(&mut self, signals: &Signals, beat: &HeartbeatClock, name: &str, polled: &mut PolledSession, value: Option<u64>) {
        let (first, last) = (beat.first.load(Ordering::Relaxed), beat.last.load(Ordering::Relaxed));
        if first == 0 {
            return;
        }
        let come = value.is_some_and(|value| value >= first);
        if come && !self.arrived {
            match polled.rows("look for the ghost table", &format!("SELECT 1 FROM {} LIMIT 0", signals.ghost), false).await {
                Ok(_) => {
                    self.arrived = true;
                    signals.update(|readings| {
                        readings.arrived.insert(name.to_owned());
                    });
                }
                // It was made before the heartbeat was written.
                Err(error) if NOT_ARRIVED.contains(&error.code) => signals.filtered(name, &signals.ghost),
                Err(_) => {}
            }
        }
        if self.awaited.as_ref().is_some_and(|(awaited, _)| value.is_some_and(|value| value >= *awaited)) {
            self.awaited = None;
        }
        if beat.lag(value).is_none_or(|lag| lag <= SUSPECT_AFTER) {
            return;
        }
        match &self.awaited {
            None => {
                let polled = self.primary.get_or_insert_with(|| PolledSession::primary(signals, ""));
                // Without GTIDs nothing shows what a replica has applied, of which log.
                if let Some(executed) = executed(polled).await.filter(|set| !set.is_empty()) {
                    self.awaited = Some((last, executed));
                }
            }
            Some((awaited, target)) => {
                if !executed(polled).await.is_some_and(|now| now.contains(target)) {
                    return;
                }
                // All that the primary had is applied there. Once more, after that was known.
                let sql = signals.state.read_heartbeat();
                let there = match polled.rows("read the heartbeat", &sql, false).await {
                    Ok(rows) => match beat_of(&rows) {
                        Ok(value) => value,
                        Err(_) => return,
                    },
                    Err(error) if NOT_ARRIVED.contains(&error.code) => None,
                    Err(_) => return,
                };
                if there.is_none_or(|value| value < *awaited) {
                    signals.filtered(name, signals.state.qualified());
                }
            }
        }
    }
}

/// The heartbeat that a replica has; `None`: none yet. What cannot be read is an error, and no missing one.
fn beat_of(rows: &[mysql_async::Row]) -> Result<Option<u64>, String> {
    let Some(row) = rows.first() else { return Ok(None) };
    text(row, 0).and_then(|value| value.parse().ok()).map(Some).ok_or_else(|| "its heartbeat is not readable".to_owned())
}

/// `gtid_executed` of a server; `None` when it cannot be read.
async fn executed(polled: &mut PolledSession) -> Option<GtidSet> {
    let rows = polled.rows("read the executed GTIDs", "SELECT @@global.gtid_executed", false).await.ok()?;
    GtidSet::parse(&text(rows.first()?, 0)?)
}

/// `host:port` of what a person wrote.
pub fn normal(address: &str) -> String {
    let (host, port) = split(address.trim());
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Host and port of `host`, `host:port`, `[::1]:port`, `::1`.
pub fn split(address: &str) -> (String, u16) {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (host.to_owned(), port.strip_prefix(':').and_then(|p| p.parse().ok()).unwrap_or(PORT));
    }
    match address.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host.to_owned(), port.parse().unwrap_or(PORT)),
        _ => (address.to_owned(), PORT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_what_the_replica_lacks() {
        let ms = |n: u64| Some(Duration::from_micros(n));
        for (first, last, value, now, expected, what) in [
            (0, 0, Some(5), 10, None, "nothing written yet"),
            (100, 300, Some(300), 350, ms(0), "it has the last one"),
            (100, 300, Some(300), 90_000, ms(0), "and goes on having it while none can be written"),
            (100, 300, Some(200), 350, ms(150), "it lacks the one after 200"),
            (100, 300, Some(50), 350, ms(250), "a former engine's"),
            (100, 300, None, 350, ms(250), "no row, or no table"),
            (100, 300, Some(400), 350, ms(0), "a former engine's fast clock"),
        ] {
            assert_eq!(lag(first, last, value, now), expected, "{what}");
        }
    }

    #[test]
    fn addresses() {
        for (written, expected) in [
            ("db-2", "db-2:3306"),
            (" db-2:3307 ", "db-2:3307"),
            ("10.0.0.1", "10.0.0.1:3306"),
            ("[::1]:33", "[::1]:33"),
            ("::1", "[::1]:3306"),
            ("[::1]", "[::1]:3306"),
        ] {
            assert_eq!(normal(written), expected);
            assert_eq!(normal(expected), expected);
        }
    }
}
