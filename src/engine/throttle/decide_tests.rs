use super::decide::*;
use crate::engine::contract::spec::{Controls, CriticalLoadAction, Limits};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A world that a case changes: readings, controls, and time in milliseconds since the start.
struct World {
    start: Instant,
    now: Instant,
    readings: Readings,
    controls: Controls,
    decision: Decision,
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        let limits = Limits {
            max_load: map("Threads_running", 50),
            critical_load: map("Threads_running", 1000),
            throttle_query: Some("SELECT 0".into()),
            throttle_http_url: Some("http://x/".into()),
            max_disk_usage: Some(5 << 30),
            ..Limits::default()
        };
        let mut world = Self {
            start,
            now: start,
            readings: Readings::new(start),
            controls: Controls { limits, ..Controls::default() },
            decision: Decision::first(),
        };
        world.readings.replicas_known = true;
        world.readings.arrived.extend(["db-2".to_owned(), "db-3".to_owned()]);
        world.lag("db-2", 0).threads(1).history(10).disk(1 << 30).query(0.0).http(200);
        world.readings.heartbeat.get_or_insert_with(|| Signal::new(start)).read((), start);
        world
    }

    fn at(&mut self, milliseconds: u64) -> &mut Self {
        self.now = self.start + Duration::from_millis(milliseconds);
        self
    }

    fn lag(&mut self, name: &str, milliseconds: u64) -> &mut Self {
        let (start, now) = (self.start, self.now);
        self.readings.replicas.entry(name.into()).or_insert_with(|| Signal::new(start)).read(Duration::from_millis(milliseconds), now);
        self
    }

    fn threads(&mut self, n: u64) -> &mut Self {
        let (start, now) = (self.start, self.now);
        self.readings.load.get_or_insert_with(|| Signal::new(start)).read(BTreeMap::from([("Threads_running".into(), Some(n))]), now);
        self
    }

    fn history(&mut self, n: u64) -> &mut Self {
        let (start, now) = (self.start, self.now);
        self.readings.history.get_or_insert_with(|| Signal::new(start)).read(n, now);
        self
    }

    fn disk(&mut self, n: u64) -> &mut Self {
        let (start, now) = (self.start, self.now);
        self.readings.disk.get_or_insert_with(|| Signal::new(start)).read(n, now);
        self
    }

    fn query(&mut self, n: f64) -> &mut Self {
        let (start, now) = (self.start, self.now);
        self.readings.query.get_or_insert_with(|| Signal::new(start)).read(n, now);
        self
    }

    fn http(&mut self, code: u16) -> &mut Self {
        let (start, now) = (self.start, self.now);
        self.readings.http.get_or_insert_with(|| Signal::new(start)).read((code, "http://x/".into()), now);
        self
    }

    /// Everything is read again as it is.
    fn all_read(&mut self) -> &mut Self {
        self.lag("db-2", 0).threads(1).history(10).disk(1 << 30).query(0.0).http(200);
        let now = self.now;
        if let Some(heartbeat) = &mut self.readings.heartbeat {
            heartbeat.read((), now);
        }
        self
    }

    fn decide(&mut self) -> &mut Self {
        self.decision = decide(&self.decision, &self.readings, &self.controls, self.now);
        self
    }

    fn copy(&self) -> (&'static str, &str) {
        self.decision.copy.as_ref().map_or(("", ""), |h| (h.reason, h.detail.as_str()))
    }
}

fn map(name: &str, limit: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(name.to_owned(), limit)])
}

#[test]
fn each_signal_holds_copying_alone_and_says_what_was_measured() {
    type Change = fn(&mut World);
    let cases: [(Change, &str, &str); 15] = [
        (|_| {}, "", ""),
        (|w| w.controls.throttled_by_user = true, "User", "annotation theseus.dev/throttle, or the command throttle"),
        (
            |w| {
                w.lag("db-2", 12_345);
            },
            "ReplicaLag",
            "12 s on db-2, above 10 s",
        ),
        (
            |w| {
                w.lag("db-2", 11_000).lag("db-3", 22_000);
            },
            "ReplicaLag",
            "22 s on db-3, above 10 s",
        ),
        (
            |w| {
                w.lag("db-2", 10_000);
            },
            "",
            "",
        ),
        (
            |w| {
                w.threads(51);
            },
            "Load",
            "Threads_running is 51, above 50",
        ),
        (
            |w| {
                w.threads(50);
            },
            "",
            "",
        ),
        (
            |w| {
                w.history(1_000_001);
            },
            "HistoryLength",
            "1000001 unpurged transactions, above 1000000",
        ),
        (
            |w| {
                w.disk((5 << 30) + (1 << 29));
            },
            "DiskUsage",
            "tablespaces and binary logs take 5.5 GiB, above 5.0 GiB",
        ),
        (
            |w| {
                w.disk(5 << 30);
            },
            "",
            "",
        ),
        (
            |w| {
                w.query(3.0);
            },
            "Query",
            "throttle.query returned 3",
        ),
        (
            |w| w.readings.query.as_mut().expect("it is there").failed("1146: no such table".into()),
            "Query",
            "throttle.query failed: 1146: no such table",
        ),
        (
            |w| {
                w.http(503);
            },
            "Http",
            "503 from http://x/",
        ),
        (
            |w| {
                w.http(204);
            },
            "Http",
            "204 from http://x/",
        ),
        (|w| w.readings.http.as_mut().expect("it is there").failed("refused".into()), "Http", "throttle.httpUrl failed: refused"),
    ];
    for (change, reason, detail) in cases {
        let mut world = World::new();
        change(&mut world);
        world.decide();
        assert_eq!(world.copy(), (reason, detail));
        assert_eq!(world.decision.may_copy(), reason.is_empty());
        assert_eq!((world.decision.apply.is_none(), world.decision.critical.is_none()), (true, true), "changes go on: {reason}");
    }
}

#[test]
fn a_limit_that_is_taken_away_holds_no_longer_than_the_dwell() {
    let mut world = World::new();
    world.lag("db-2", 60_000).history(9_000_000).threads(900).decide();
    assert_eq!(world.copy().0, "Load");
    world.controls.limits = Limits { max_replica_lag: None, max_history_list_length: None, max_load: BTreeMap::new(), ..Limits::default() };
    world.at(1001).decide();
    assert_eq!(world.copy().0, "");
}

#[test]
fn the_most_important_cause_is_told_and_the_others_come_forward() {
    let mut world = World::new();
    world.controls.throttled_by_user = true;
    world.controls.limits.critical_load_action = CriticalLoadAction::Hibernate;
    world.lag("db-2", 60_000).threads(2000).history(9_000_000).disk(6 << 30).query(1.0).http(500).decide();
    world.at(2000).decide();
    let mut told = Vec::new();
    loop {
        told.push(world.copy().0);
        match world.copy().0 {
            "CriticalLoad" => {
                world.controls.limits.critical_load.clear();
            }
            "User" => world.controls.throttled_by_user = false,
            "Load" => world.readings.load = None,
            "ReplicaLag" => world.controls.limits.max_replica_lag = None,
            "DiskUsage" => world.controls.limits.max_disk_usage = None,
            "HistoryLength" => world.controls.limits.max_history_list_length = None,
            "Query" => world.readings.query = None,
            "Http" => world.readings.http = None,
            _ => break,
        }
        let later = u64::try_from(world.now.duration_since(world.start).as_millis()).expect("it is there") + 1000;
        world.at(later).decide();
    }
    told.pop();
    assert_eq!(told, ORDER);
}

#[test]
fn a_value_that_dances_around_its_limit_does_not_start_and_stop_the_copy() {
    let mut world = World::new();
    world.threads(51).decide();
    for at in (200..3000).step_by(200) {
        world.at(at).threads(if at % 400 == 0 { 51 } else { 50 }).decide();
        assert_eq!(world.copy().0, "Load", "at {at} ms");
    }
    // The last value above the limit was seen at 2800 ms.
    world.at(3799).threads(50).decide();
    assert_eq!(world.copy(), ("Load", "Threads_running is 51, above 50"));
    world.at(3800).threads(50).decide();
    assert_eq!(world.copy().0, "");
}

#[test]
fn the_users_word_counts_at_once_both_ways() {
    let mut world = World::new();
    world.controls.throttled_by_user = true;
    assert!(!world.decide().decision.may_copy());
    world.controls.throttled_by_user = false;
    assert!(world.decide().decision.may_copy());
}

#[test]
fn what_is_not_readable_holds_after_the_grace_and_says_so() {
    /// Never read since the start, with or without an error.
    fn unread<T>(start: Instant, error: &str) -> Signal<T> {
        let mut signal = Signal::new(start);
        if !error.is_empty() {
            signal.failed(error.to_owned());
        }
        signal
    }
    type Break = fn(&mut World);
    let cases: [(Break, &str, &str); 7] = [
        (
            |w| {
                w.readings.replicas.insert("db-2".into(), unread(w.start, "refused"));
            },
            "ReplicaLag",
            "replica db-2 could not be read for 10 s: refused",
        ),
        (
            |w| {
                w.readings.replicas.insert("db-9".into(), unread(w.start, ""));
            },
            "ReplicaLag",
            "replica db-9 could not be read for 10 s",
        ),
        (
            |w| w.readings.heartbeat = Some(unread(w.start, "no")),
            "ReplicaLag",
            "the heartbeat on the primary could not be read for 10 s: no",
        ),
        (|w| w.readings.load = Some(unread(w.start, "no answer")), "Load", "the server's status could not be read for 10 s: no answer"),
        (
            |w| w.readings.history = Some(unread(w.start, "no")),
            "HistoryLength",
            "the length of the history list could not be read for 10 s: no",
        ),
        // A poller that hangs gives no error at all.
        (|w| w.readings.query = Some(unread(w.start, "")), "Query", "throttle.query could not be read for 10 s"),
        (|w| w.readings.http = Some(unread(w.start, "")), "Http", "throttle.httpUrl could not be read for 10 s"),
    ];
    for (break_it, reason, detail) in cases {
        for (at, expected) in [(9_999, ("", "")), (10_000, (reason, detail))] {
            let mut world = World::new();
            world.at(at).all_read();
            break_it(&mut world);
            world.decide();
            assert_eq!(world.copy(), expected, "{reason} at {at} ms");
        }
    }
}

#[test]
fn a_misspelt_variable_is_not_silently_no_limit() {
    let mut world = World::new();
    world.controls.limits.max_load = map("Threads_runing", 50);
    let now = world.now;
    world
        .readings
        .load
        .as_mut()
        .expect("it is there")
        .read(BTreeMap::from([("Threads_runing".into(), None), ("Threads_running".into(), Some(1))]), now);
    world.decide();
    assert_eq!(world.copy(), ("Load", "SHOW GLOBAL STATUS has no numeric variable Threads_runing"));
}

#[test]
fn a_critical_load_fails_only_when_it_lasts() {
    let mut world = World::new();
    for at in [0, 200, 1000, 1900] {
        world.at(at).threads(1001).decide();
        assert_eq!((world.decision.critical.clone(), world.copy().0), (None, "Load"), "at {at} ms");
    }
    world.at(1950).threads(1000).decide();
    world.at(2100).threads(1001).decide();
    assert_eq!(world.decision.critical, None, "one better reading begins it anew");
    world.at(4099).threads(1001).decide();
    assert_eq!(world.decision.critical, None);
    world.at(4100).threads(1001).decide();
    assert_eq!(world.decision.critical.as_deref(), Some("Threads_running is 1001, above 1000"));
    assert_eq!(world.decision.apply, None);
}

#[test]
fn a_hibernation_stops_everything_until_the_load_has_been_lower_for_a_while() {
    let mut world = World::new();
    world.controls.limits.critical_load_action = CriticalLoadAction::Hibernate;
    world.threads(1001).decide();
    world.at(2000).threads(1001).decide();
    assert_eq!(world.decision.critical, None);
    assert_eq!(
        world.copy(),
        ("CriticalLoad", "Threads_running is 1001, above 1000; nothing is written until it has been below the limit for 60 s")
    );
    assert!(world.decision.apply.is_some());
    // A short relapse makes it longer.
    world.at(30_000).all_read().decide();
    world.at(40_000).all_read().threads(5000).decide();
    world.at(99_999).all_read().decide();
    assert_eq!(world.copy().0, "CriticalLoad");
    world.at(100_000).all_read().decide();
    assert_eq!((world.copy().0, world.decision.apply.is_none()), ("", true));
    // Changing the action while it hibernates takes effect.
    world.at(110_000).all_read().threads(1001).decide();
    world.at(112_000).all_read().threads(1001).decide();
    assert!(world.decision.apply.is_some());
    world.at(113_000).all_read().decide();
    world.controls.limits.critical_load_action = CriticalLoadAction::Fail;
    world.decide();
    assert!(world.decision.apply.is_none());
}

#[test]
fn copying_waits_for_first_readings_but_not_for_long() {
    let mut world = World::new();
    assert!(world.decide().decision.may_copy(), "all have answered");
    type Change = fn(&mut Readings, Instant);
    let cases: [Change; 6] = [
        |r, now| (r.replicas_known, r.started) = (false, now),
        |r, now| {
            r.replicas.insert("db-3".into(), Signal::new(now));
        },
        |r, now| r.load = Some(Signal::new(now)),
        |r, now| r.history = Some(Signal::new(now)),
        |r, now| r.query = Some(Signal::new(now)),
        |r, now| r.http = Some(Signal::new(now)),
    ];
    // At the start, and when a limit is set later.
    for (case, from) in cases.iter().zip([0, 5000, 0, 5000, 0, 5000]) {
        let mut world = World::new();
        world.at(from).all_read();
        let now = world.now;
        case(&mut world.readings, now);
        for (after, may) in [(0, false), (1999, false), (2000, true)] {
            world.at(from + after).decide();
            assert_eq!((world.decision.may_copy(), world.decision.copy.clone()), (may, None), "waiting for a moment is no throttle");
        }
        // A swap waits for them; only for replicas that may or may not be there it does not.
        assert_eq!(world.decision.may_swap(&world.controls.limits), !world.readings.replicas_known);
    }
    // Nor is there a swap by a decision that was made before a limit was set.
    let mut world = World::new();
    world.decide();
    let limits = world.controls.limits.clone();
    assert!(world.decision.may_swap(&limits));
    assert!(!world.decision.may_swap(&Limits { throttle_query: Some("SELECT 2".into()), ..limits }));
    // The poller has not even seen the limit.
    world.readings.query = None;
    assert!(!world.decide().decision.may_copy());
}

/// What the account is not shown says nothing: neither now nor after any time.
#[test]
fn a_hidden_signal_holds_nothing() {
    let mut w = World::new();
    w.decide();
    // It could be read before, and was above the limit.
    w.history(u64::MAX).at(1000).decide();
    assert_eq!(w.copy().0, "HistoryLength");
    if let Some(history) = &mut w.readings.history {
        history.hide();
    }
    for at in [3000, 60_000, 600_000] {
        w.at(at).lag("db-2", 0).threads(1).disk(1).query(0.0).http(200);
        let now = w.now;
        if let Some(heartbeat) = &mut w.readings.heartbeat {
            heartbeat.read((), now);
        }
        w.decide();
        assert_eq!(w.copy(), ("", ""), "at {at} ms");
        assert!(!w.decision.pending && w.decision.may_swap(&w.controls.limits), "at {at} ms");
    }
    // It is shown again, and counts.
    w.history(u64::MAX).decide();
    assert_eq!(w.copy().0, "HistoryLength");
}

/// A chunk waits a while for the migration's tables to arrive on each replica that answers; the swap waits for as long as it takes.
#[test]
fn the_tables_must_have_arrived_before_the_swap() {
    let mut w = World::new();
    w.decide();
    assert!(!w.decision.pending);
    let start = w.start;
    w.readings.arrived.remove("db-3");
    w.readings.replicas.insert("db-3".into(), Signal::new(start));
    w.at(500).all_read().lag("db-3", 400).decide();
    assert!(w.decision.pending);
    w.at(9900).all_read().lag("db-3", 9000).decide();
    assert!(w.decision.pending);
    // It merely lags.
    w.at(10_100).all_read().lag("db-3", 9500).decide();
    assert!(w.decision.may_copy() && !w.decision.may_swap(&w.controls.limits));
    w.readings.arrived.insert("db-3".into());
    w.decide();
    assert!(w.decision.may_swap(&w.controls.limits));
}
