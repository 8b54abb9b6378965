//! What the pollers share: the readings they write, a connection that is dropped when anything goes wrong on it, and the rhythm.

use super::decide::{Readings, Signal};
use crate::engine::contract::progress::Publisher;
use crate::engine::contract::spec::{Controls, Limits, ServerAddress};
use crate::engine::state::store::StateTable;
use crate::mysql::{MySqlError, Session};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The shortest pause between two readings of one signal: what holds copying is seen within 250 ms.
const OFTEN: Duration = Duration::from_millis(200);
/// The longest one, however long a reading takes.
const SELDOM: Duration = Duration::from_secs(5);
/// After an error, so that an unreachable server is not knocked at five times a second.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long one reading may take, connecting included.
pub(super) const READING_LIMIT: Duration = Duration::from_secs(3);

/// What every poller has at hand.
pub struct Signals {
    /// The address of the primary, where most signals are read.
    pub server: ServerAddress,
    /// Its `server_uuid`: the heartbeat is not written to whatever server the address leads to next.
    pub server_uuid: String,
    /// Where the heartbeat is.
    pub state: StateTable,
    /// The ghost table, which replicas must get too.
    pub ghost: String,
    /// The limits; a poller only asks for what they need.
    pub controls: watch::Receiver<Controls>,
    /// Nobody needs a reading now.
    pub resting: watch::Receiver<bool>,
    /// Where readings go.
    pub readings: watch::Sender<Readings>,
    /// For what a person should know once.
    pub publisher: Publisher,
    said: Mutex<HashSet<String>>,
}

impl Signals {
    /// For one attempt.
    pub fn new(
        server: ServerAddress,
        server_uuid: String,
        state: StateTable,
        ghost: String,
        (controls, resting): (watch::Receiver<Controls>, watch::Receiver<bool>),
        readings: watch::Sender<Readings>,
        publisher: Publisher,
    ) -> Self {
        Self { server, server_uuid, state, ghost, controls, resting, readings, publisher, said: Mutex::new(HashSet::new()) }
    }

    /// For one poller.
    pub fn live_limits(&self) -> LiveLimits {
        LiveLimits { controls: self.controls.clone(), resting: self.resting.clone() }
    }

    /// Changes the readings, which wakes the decision.
    pub fn update(&self, change: impl FnOnce(&mut Readings)) {
        self.readings.send_modify(change);
    }

    /// Takes a signal out that nobody asks for any more; wakes nobody when it is not there.
    pub fn forget<T>(&self, which: fn(&mut Readings) -> &mut Option<Signal<T>>) {
        self.readings.send_if_modified(|readings| which(readings).take().is_some());
    }

    /// Puts one reading where it belongs.
    pub fn put<T>(&self, which: fn(&mut Readings) -> &mut Option<Signal<T>>, reading: Result<T, String>) {
        let now = Instant::now();
        self.update(|readings| {
            let signal = which(readings).get_or_insert_with(|| Signal::new(now));
            match reading {
                Ok(value) => signal.read(value, now),
                Err(words) => signal.failed(words),
            }
        });
    }

    /// A signal that the account is not shown.
    pub fn hide<T>(&self, which: fn(&mut Readings) -> &mut Option<Signal<T>>) {
        let now = Instant::now();
        self.update(|readings| which(readings).get_or_insert_with(|| Signal::new(now)).hide());
    }

    /// A signal that begins to be watched: from now on its silence counts.
    pub fn begin<T>(&self, which: fn(&mut Readings) -> &mut Option<Signal<T>>) {
        let now = Instant::now();
        self.readings.send_if_modified(|readings| {
            let slot = which(readings);
            let new = slot.is_none();
            slot.get_or_insert_with(|| Signal::new(now));
            new
        });
    }

    /// A replica has applied what the primary logged, and lacks a table of ours: that ends the migration.
    pub(super) fn filtered(&self, replica: &str, table: &str) {
        self.update(|readings| {
            readings.filtered.get_or_insert_with(|| (replica.to_owned(), table.to_owned()));
        });
    }

    /// Tells a person something (an Event), once for each attempt.
    pub fn notice(&self, reason: &'static str, message: String) {
        // Nothing that holds this lock can panic half-way through a change.
        if self.said.lock().insert(message.clone()) {
            self.publisher.notice(reason, true, message);
        }
    }
}

/// What steers one poller. Each has its own, so that none misses a change that came while it was reading, and none wakes twice for one.
pub struct LiveLimits {
    controls: watch::Receiver<Controls>,
    resting: watch::Receiver<bool>,
}

impl LiveLimits {
    /// The limits to read for now; [`LiveLimits::wait`] wakes for what comes after. At rest those of replicas alone: their heartbeat must not
    /// grow old, and everything else is read at once when it is needed.
    pub fn limits(&mut self) -> Limits {
        let limits = self.controls.borrow_and_update().limits.clone();
        if !*self.resting.borrow_and_update() {
            return limits;
        }
        Limits {
            max_load: BTreeMap::new(),
            critical_load: BTreeMap::new(),
            throttle_query: None,
            throttle_http_url: None,
            max_history_list_length: None,
            max_disk_usage: None,
            ..limits
        }
    }

    /// Whether nobody needs a reading now.
    pub(super) fn is_resting(&self) -> bool {
        *self.resting.borrow()
    }

    /// Whether a limit is still the one that a reading was made for.
    pub fn unchanged<T: PartialEq>(&self, which: impl Fn(&Limits) -> &T, value: &T) -> bool {
        which(&self.controls.borrow().limits) == value
    }

    /// Waits until the next reading is due, or the controls change. Cancel-safe.
    pub async fn wait(&mut self, pause: Duration) {
        let sleep = tokio::time::sleep(pause);
        tokio::pin!(sleep);
        tokio::select! {
            () = &mut sleep => {}
            changed = self.controls.changed() => if changed.is_err() {
                // Nobody steers any more; the attempt is about to end.
                sleep.await;
            },
            changed = self.resting.changed() => if changed.is_err() {
                sleep.await;
            }
        }
    }
}

/// The pause after a reading that took `took`: reading takes a tenth of a signal's time at most, so a dear one is read less often.
pub fn pause_after(took: Duration, failed: bool) -> Duration {
    let pause = (took * 10).clamp(OFTEN, SELDOM);
    if failed { pause.max(AFTER_ERROR) } else { pause }
}

/// A connection of one poller.
pub(super) struct PolledSession {
    address: ServerAddress,
    /// Empty for a replica: any server will do.
    uuid: String,
    settings: &'static str,
    session: Option<Session>,
}

impl PolledSession {
    /// Opens nothing yet. `settings` is a statement for each new connection, or empty.
    pub fn new(address: ServerAddress, settings: &'static str) -> Self {
        Self { address, uuid: String::new(), settings, session: None }
    }

    /// To the primary.
    pub fn primary(signals: &Signals, settings: &'static str) -> Self {
        Self { uuid: signals.server_uuid.clone(), ..Self::new(signals.server.clone(), settings) }
    }

    /// The present connection, or a new one. [`PolledSession::rows`] hands it back; one that is not handed back is closed.
    async fn take(&mut self) -> Result<Session, MySqlError> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let mut session = Session::open_on(&self.address, &self.uuid).await?;
        if !self.settings.is_empty() {
            session.run("apply the session's settings", READING_LIMIT, self.settings).await?;
        }
        Ok(session)
    }

    /// Runs one statement and hands out its rows, all within [`READING_LIMIT`]. A connection on which the statement did not come to its
    /// end is not used again: what it would answer next is unknown.
    pub async fn rows(&mut self, what: &str, sql: &str, prepared: bool) -> Result<Vec<mysql_async::Row>, MySqlError> {
        let work = async {
            let mut session = self.take().await?;
            let rows = if prepared { session.select(what, sql, Vec::new()).await } else { session.rows(what, READING_LIMIT, sql).await };
            if rows.as_ref().err().is_none_or(|error| !error.is_connection()) {
                self.session = Some(session);
            }
            rows
        };
        tokio::time::timeout(READING_LIMIT, work).await.unwrap_or_else(|_| Err(MySqlError::timeout(what, READING_LIMIT)))
    }

    /// Closes the connection, if there is one.
    pub async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }
}

/// A value of a row as a number, in whatever type the server sends it.
pub fn number(row: &mysql_async::Row, index: usize) -> Option<f64> {
    match row.as_ref(index)? {
        #[allow(clippy::cast_precision_loss, reason = "compared with limits far below 2^53")]
        mysql_async::Value::Int(n) => Some(*n as f64),
        #[allow(clippy::cast_precision_loss, reason = "as above")]
        mysql_async::Value::UInt(n) => Some(*n as f64),
        mysql_async::Value::Float(n) => Some(f64::from(*n)),
        mysql_async::Value::Double(n) => Some(*n),
        mysql_async::Value::Bytes(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        _ => None,
    }
}

/// A value of a row as text.
pub fn text(row: &mysql_async::Row, index: usize) -> Option<String> {
    row.get_opt::<String, _>(index)?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A poller that wakes again and again for one change would keep a processor at work for as long as the migration lasts.
    #[tokio::test]
    async fn a_change_wakes_once() {
        const PAUSE: Duration = Duration::from_millis(500);
        let (steer, controls) = watch::channel(Controls::default());
        let (rest, resting) = watch::channel(false);
        let mut live = LiveLimits { controls: controls.clone(), resting: resting.clone() };
        // Nobody reads that one, as in `Signals`.
        let mut other = LiveLimits { controls, resting };
        let woken = async |live: &mut LiveLimits| {
            let began = Instant::now();
            live.wait(PAUSE).await;
            began.elapsed() < PAUSE
        };
        steer.send_modify(|controls| controls.limits.max_disk_usage = Some(1));
        assert!(woken(&mut live).await, "a change that was not read yet");
        assert_eq!(live.limits().max_disk_usage, Some(1));
        assert!(!woken(&mut live).await, "it was read");
        steer.send_modify(|controls| controls.limits.max_disk_usage = Some(2));
        assert!(live.unchanged(|limits| &limits.max_disk_usage, &Some(2)), "looking does not count as reading");
        assert!(woken(&mut live).await, "it came after the reading");
        assert!(woken(&mut other).await, "each for itself");
        assert!(!woken(&mut other).await, "two changes wake once");
        // At rest nothing is asked for but what replicas say.
        steer.send_modify(|controls| controls.limits.max_load = BTreeMap::from([("Threads_running".to_owned(), 5)]));
        let asked = live.limits();
        rest.send_replace(true);
        assert!(woken(&mut live).await, "it was busy");
        let (resting, max_replica_lag) = (live.limits(), asked.max_replica_lag);
        assert!(asked.max_load.len() == 1 && asked.max_disk_usage == Some(2));
        assert_eq!((resting.max_load.len(), resting.max_disk_usage, resting.max_replica_lag), (0, None, max_replica_lag));
        assert!(!woken(&mut live).await, "it rests");
        rest.send_replace(false);
        assert!(woken(&mut live).await, "somebody needs a reading");
        assert_eq!(live.limits(), asked);
    }

    #[test]
    fn reading_takes_a_tenth_of_the_time_at_most() {
        let ms = Duration::from_millis;
        for (took, failed, pause) in [
            (0, false, 200),
            (20, false, 200),
            (21, false, 210),
            (100, false, 1000),
            (3000, false, 5000),
            (1, true, 1000),
            (300, true, 3000),
        ] {
            assert_eq!(pause_after(ms(took), failed), ms(pause), "{took} ms");
        }
    }
}
