//! What the readings mean: one pure function from the latest readings, the limits and the time to what is held and why.
//!
//! * A cause that was seen less than [`DWELL`] ago still holds, so that a value that dances around its limit does not start and stop the
//!   copy with each reading. Only the user's word counts at once both ways.
//! * A signal without a good reading for [`GRACE`] holds as if its limit were passed, and says that it is not readable: not knowing is not
//!   "all is well". A query or an address that answers with an error holds at once.
//! * One cause is told, the most important one ([`ORDER`]); the others come forward when it ends.

use crate::engine::contract::spec::{Controls, CriticalLoadAction, Limits};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A signal that has had no good reading for this long holds. Long enough for a restart of a replica's connection, and as long as the
/// default of `maxReplicaLag`: an unreadable replica is not trusted for longer than a lagging one.
pub const GRACE: Duration = Duration::from_secs(10);
/// A cause holds for this long after it was last seen: some five readings.
const DWELL: Duration = Duration::from_secs(1);
/// A critical load counts when every reading for this long (three of them at least) was critical: a server that stalls on one flush has a
/// thousand running threads for a moment, and no migration need end for that.
const CRITICAL_FOR: Duration = Duration::from_secs(2);
/// How long copying waits for a signal's first reading.
const FIRST_READINGS: Duration = Duration::from_secs(2);

/// A person throttles.
pub const USER: &str = "User";
/// `criticalLoad`, while hibernating.
const CRITICAL_LOAD: &str = "CriticalLoad";
/// `maxLoad`.
pub const LOAD: &str = "Load";
/// `maxReplicaLag`.
const REPLICA_LAG: &str = "ReplicaLag";
/// `maxHistoryListLength`.
const HISTORY_LENGTH: &str = "HistoryLength";
/// `maxDiskUsage`.
const DISK_USAGE: &str = "DiskUsage";
/// `query`.
pub const QUERY: &str = "Query";
/// `httpUrl`.
pub const HTTP: &str = "Http";

/// Reasons, the most important first: what stops everything; a person's word, which does not end by itself; then what endangers the
/// server, its replicas, its storage; then what others ask for.
pub const ORDER: [&str; 8] = [CRITICAL_LOAD, USER, LOAD, REPLICA_LAG, DISK_USAGE, HISTORY_LENGTH, QUERY, HTTP];

/// One signal: its newest good reading, and what went wrong since.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal<T> {
    since: Instant,
    good: Option<(T, Instant)>,
    error: Option<String>,
    /// The account is not shown it.
    hidden: bool,
}

impl<T> Signal<T> {
    /// Watched from now on; nothing was read yet.
    pub fn new(now: Instant) -> Self {
        Self { since: now, good: None, error: None, hidden: false }
    }

    /// A good reading.
    pub fn read(&mut self, value: T, now: Instant) {
        self.good = Some((value, now));
        self.error = None;
        self.hidden = false;
    }

    /// The account lacks the privilege for it: it says nothing, and its silence holds nobody.
    pub fn hide(&mut self) {
        self.good = None;
        self.error = None;
        self.hidden = true;
    }

    /// A reading that failed; the last good one stays.
    pub fn failed(&mut self, words: String) {
        self.error = Some(words);
    }

    /// Whether it has not answered yet, and may still be waited for.
    fn awaited(&self, now: Instant) -> bool {
        self.unread() && now.saturating_duration_since(self.since) < FIRST_READINGS
    }

    /// Whether nothing is known of it, neither good nor bad.
    fn unread(&self) -> bool {
        self.good.is_none() && self.error.is_none() && !self.hidden
    }

    /// For how long there has been no good reading.
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.good.as_ref().map_or(self.since, |(_, at)| *at))
    }

    fn value(&self) -> Option<&T> {
        self.good.as_ref().map(|(value, _)| value)
    }

    /// The words for a signal that is not readable, if it has been so for too long.
    fn stale(&self, what: &str, now: Instant) -> Option<String> {
        let silence = self.silence(now);
        (silence >= GRACE && !self.hidden).then(|| {
            let error = self.error.as_ref().map(|words| format!(": {words}")).unwrap_or_default();
            format!("{what} could not be read for {}{error}", seconds(silence))
        })
    }
}

/// Values of status variables; `None`: the server has no such variable, or its value is no number.
pub type Status = BTreeMap<String, Option<u64>>;

/// The latest readings. A signal that is not asked for is absent.
#[derive(Debug, Clone, PartialEq)]
pub struct Readings {
    /// When reading began.
    pub started: Instant,
    /// Lag of each replica by its address.
    pub replicas: BTreeMap<String, Signal<Duration>>,
    /// Whether the replicas to look at have been found.
    pub replicas_known: bool,
    /// Replicas on which the migration's tables have arrived.
    pub arrived: BTreeSet<String>,
    /// A replica that does not get them, and the table.
    pub filtered: Option<(String, String)>,
    /// Whether the heartbeat gets written on the primary.
    pub heartbeat: Option<Signal<()>>,
    /// Status variables.
    pub load: Option<Signal<Status>>,
    /// Length of the history list.
    pub history: Option<Signal<u64>>,
    /// Bytes that tablespaces and binary logs take.
    pub disk: Option<Signal<u64>>,
    /// First column of the query's first row.
    pub query: Option<Signal<f64>>,
    /// Status code of the address, and the address without what may be secret.
    pub http: Option<Signal<(u16, String)>>,
}

impl Readings {
    /// Nothing read yet.
    pub fn new(now: Instant) -> Self {
        Self {
            started: now,
            replicas: BTreeMap::new(),
            replicas_known: false,
            arrived: BTreeSet::new(),
            filtered: None,
            heartbeat: None,
            load: None,
            history: None,
            disk: None,
            query: None,
            http: None,
        }
    }

    /// The lag of the replica that is furthest behind, by the newest good readings.
    pub fn replica_lag(&self) -> Option<Duration> {
        self.replicas.values().filter_map(|signal| signal.value().copied()).max()
    }

    /// Whether the first reading of a signal that the limits ask for is still missing: at the start, or when a limit has just been set.
    /// With a time: only if it may still be waited for.
    fn missing(&self, limits: &Limits, now: Option<Instant>) -> bool {
        // A signal that is absent is begun as soon as its poller sees the limit.
        fn missing<T>(wanted: bool, signal: Option<&Signal<T>>, now: Option<Instant>) -> bool {
            wanted && signal.is_none_or(|signal| now.map_or_else(|| signal.unread(), |now| signal.awaited(now)))
        }
        let load = !limits.max_load.is_empty() || !limits.critical_load.is_empty();
        let looking = now.is_some_and(|now| !self.replicas_known && now.saturating_duration_since(self.started) < FIRST_READINGS);
        missing(load, self.load.as_ref(), now)
            || missing(limits.throttle_query.is_some(), self.query.as_ref(), now)
            || missing(limits.throttle_http_url.is_some(), self.http.as_ref(), now)
            || missing(limits.max_history_list_length.is_some(), self.history.as_ref(), now)
            || missing(limits.max_disk_usage.is_some(), self.disk.as_ref(), now)
            || (limits.max_replica_lag.is_some()
                && (looking || self.replicas.values().any(|signal| missing(true, Some(signal), now)) || self.under_way(now)))
    }

    /// Whether the migration's tables have not arrived yet on a replica that answers. With a time: only if that may still be waited for,
    /// which a replica that merely lags is not for long; the swap waits for as long as it takes.
    fn under_way(&self, now: Option<Instant>) -> bool {
        self.replicas.iter().any(|(name, signal)| {
            let waits = now.is_none_or(|now| now.saturating_duration_since(signal.since) < GRACE);
            waits && (signal.value().is_some() || signal.error.is_none()) && !self.arrived.contains(name)
        })
    }
}

/// A cause that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// One of [`ORDER`].
    pub reason: &'static str,
    /// What was measured, for people.
    pub detail: String,
    /// When the cause was last seen.
    seen: Instant,
}

/// What is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Set: no new chunk begins, and the tables are not swapped.
    pub copy: Option<Hold>,
    /// Set: changes are not applied either.
    pub apply: Option<Hold>,
    /// Set: the migration fails, with these words.
    pub critical: Option<String>,
    /// The first readings are still awaited.
    pub pending: bool,
    /// Everything that holds, the most important first.
    held: Vec<Hold>,
    critical_since: Option<Instant>,
    /// Nothing is known yet of a signal that the limits ask for, however long it has been waited for.
    unread: bool,
    /// What it was decided by.
    limits: Limits,
}

impl Decision {
    /// Before any reading.
    pub fn first() -> Self {
        Self {
            copy: None,
            apply: None,
            critical: None,
            pending: true,
            held: Vec::new(),
            critical_since: None,
            unread: true,
            limits: Limits::default(),
        }
    }

    /// Nothing is held, and nothing is awaited.
    pub fn free() -> Self {
        Self { pending: false, unread: false, ..Self::first() }
    }

    /// Whether a chunk may begin.
    pub fn may_copy(&self) -> bool {
        !self.pending && self.copy.is_none()
    }

    /// Whether the tables may be swapped under these limits: a chunk is not worth a long wait for a first reading, a swap is, and a limit
    /// that was set a moment ago counts for it.
    pub fn may_swap(&self, limits: &Limits) -> bool {
        self.may_copy() && !self.unread && self.limits == *limits
    }

    /// Whether both say the same to those who obey them.
    pub(super) fn says_as(&self, other: &Self) -> bool {
        let words = |hold: &Option<Hold>| hold.as_ref().map(|h| (h.reason, h.detail.clone()));
        self.pending == other.pending
            && self.critical == other.critical
            && words(&self.copy) == words(&other.copy)
            && words(&self.apply) == words(&other.apply)
    }
}

/// Decides. `previous` is the last decision (the memory for dwelling and for a critical load that lasts).
pub fn decide(previous: &Decision, readings: &Readings, controls: &Controls, now: Instant) -> Decision {
    let limits = &controls.limits;
    let critical_now = critical(readings, limits);
    let critical_since = critical_now.as_ref().map(|_| previous.critical_since.unwrap_or(now));
    let sustained = critical_since.is_some_and(|since| now.saturating_duration_since(since) >= CRITICAL_FOR);
    let hibernates = limits.critical_load_action == CriticalLoadAction::Hibernate && !limits.critical_load.is_empty();

    let seen = |reason: &'static str| -> Option<String> {
        match reason {
            USER => controls.throttled_by_user.then(|| "annotation theseus.dev/throttle, or the command throttle".to_owned()),
            // While it hibernates any critical reading makes it longer.
            CRITICAL_LOAD => critical_now
                .clone()
                .filter(|_| hibernates && (sustained || previous.apply.is_some()))
                .map(|words| format!("{words}; nothing is written until it has been below the limit for {}", seconds(limits.hibernation))),
            LOAD => load(readings, limits, now),
            REPLICA_LAG => replica_lag(readings, limits, now),
            DISK_USAGE => disk(readings, limits, now),
            HISTORY_LENGTH => history(readings, limits, now),
            QUERY => query(readings, now),
            HTTP => http(readings, now),
            _ => None,
        }
    };
    let dwell = |reason: &'static str| match reason {
        USER => Duration::ZERO,
        CRITICAL_LOAD if hibernates => limits.hibernation,
        CRITICAL_LOAD => Duration::ZERO,
        _ => DWELL,
    };
    let held: Vec<Hold> = ORDER
        .into_iter()
        .filter_map(|reason| match seen(reason) {
            Some(detail) => Some(Hold { reason, detail, seen: now }),
            None => previous.held.iter().find(|h| h.reason == reason && now.saturating_duration_since(h.seen) < dwell(reason)).cloned(),
        })
        .collect();
    Decision {
        copy: held.first().cloned(),
        apply: held.iter().find(|h| h.reason == CRITICAL_LOAD).cloned(),
        critical: critical_now.filter(|_| sustained && !hibernates),
        pending: readings.missing(limits, Some(now)),
        held,
        critical_since,
        unread: readings.missing(limits, None),
        limits: limits.clone(),
    }
}

fn above(status: &Status, limits: &BTreeMap<String, u64>) -> Option<String> {
    limits.iter().find_map(|(name, limit)| match status.get(name) {
        Some(Some(value)) if value > limit => Some(format!("{name} is {value}, above {limit}")),
        _ => None,
    })
}

fn critical(readings: &Readings, limits: &Limits) -> Option<String> {
    above(readings.load.as_ref()?.value()?, &limits.critical_load)
}

fn load(readings: &Readings, limits: &Limits, now: Instant) -> Option<String> {
    let signal = readings.load.as_ref()?;
    // A limit with a misspelt name protects nothing, so it must not look as if it did.
    let unknown = |status: &Status| {
        let names = limits.max_load.keys().chain(limits.critical_load.keys());
        names
            .into_iter()
            .find(|name| status.get(*name) == Some(&None))
            .map(|name| format!("SHOW GLOBAL STATUS has no numeric variable {name}"))
    };
    signal
        .stale("the server's status", now)
        .or_else(|| signal.value().and_then(|status| above(status, &limits.max_load).or_else(|| unknown(status))))
}

fn replica_lag(readings: &Readings, limits: &Limits, now: Instant) -> Option<String> {
    let limit = limits.max_replica_lag?;
    if let Some(words) = readings
        .heartbeat
        .as_ref()
        .filter(|_| !readings.replicas.is_empty())
        .and_then(|signal| signal.stale("the heartbeat on the primary", now))
    {
        return Some(words);
    }
    let worst =
        readings.replicas.iter().filter_map(|(name, signal)| signal.value().map(|lag| (*lag, name))).filter(|(lag, _)| *lag > limit).max();
    if let Some((lag, name)) = worst {
        return Some(format!("{} on {name}, above {}", seconds(lag), seconds(limit)));
    }
    readings.replicas.iter().find_map(|(name, signal)| signal.stale(&format!("replica {name}"), now))
}

fn history(readings: &Readings, limits: &Limits, now: Instant) -> Option<String> {
    let (signal, limit) = (readings.history.as_ref()?, limits.max_history_list_length?);
    let over = signal.value().filter(|length| **length > limit).map(|length| format!("{length} unpurged transactions, above {limit}"));
    over.or_else(|| signal.stale("the length of the history list", now))
}

fn disk(readings: &Readings, limits: &Limits, now: Instant) -> Option<String> {
    let (signal, limit) = (readings.disk.as_ref()?, limits.max_disk_usage?);
    let over = signal.value().filter(|bytes| **bytes > limit).map(|bytes| {
        format!(
            "tablespaces and binary logs take {}, above {}",
            crate::engine::contract::text::bytes(*bytes),
            crate::engine::contract::text::bytes(limit)
        )
    });
    over.or_else(|| signal.stale("the size of tablespaces and binary logs", now))
}

fn query(readings: &Readings, now: Instant) -> Option<String> {
    let signal = readings.query.as_ref()?;
    if let Some(words) = &signal.error {
        return Some(format!("throttle.query failed: {words}"));
    }
    let over = signal.value().filter(|value| **value > 0.0).map(|value| format!("throttle.query returned {value}"));
    over.or_else(|| signal.stale("throttle.query", now))
}

fn http(readings: &Readings, now: Instant) -> Option<String> {
    let signal = readings.http.as_ref()?;
    if let Some(words) = &signal.error {
        return Some(format!("throttle.httpUrl failed: {words}"));
    }
    let other = signal.value().filter(|(code, _)| *code != 200).map(|(code, from)| format!("{code} from {from}"));
    other.or_else(|| signal.stale("throttle.httpUrl", now))
}

/// Whole seconds from ten upwards, tenths below.
fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(10) && duration.subsec_millis() >= 50 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} s", duration.as_secs())
    }
}
