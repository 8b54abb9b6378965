//! What people see is published here, and what it is derived from is counted here. The snapshot is written and never read back: an engine
//! that took its decisions from what it shows would have two memories.

use super::notice;
use super::snapshot::{Notice, Progress, Snapshot, Throttle, Verification};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// Notices kept for a front end that looks rarely.
const NOTICES: usize = 32;

/// Publishes snapshots. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    session: Arc<str>,
    sender: Arc<watch::Sender<Snapshot>>,
    held: Arc<Mutex<Held>>,
}

/// What holds copying back, since when, and how long anything has.
#[derive(Debug, Default)]
struct Held {
    since: Option<(Instant, Throttle)>,
    total: Duration,
    long: LongThrottle,
}

impl Publisher {
    /// A publisher and the first watcher.
    pub fn new(session: String) -> (Self, watch::Receiver<Snapshot>) {
        let id: Arc<str> = session.as_str().into();
        let (sender, receiver) = watch::channel(Snapshot { session, ..Snapshot::default() });
        (Self { session: id, sender: Arc::new(sender), held: Arc::default() }, receiver)
    }

    /// This engine's random id.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Changes the snapshot; watchers wake only when it is another one then.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        self.sender.send_if_modified(|s| {
            let before = s.clone();
            change(s);
            *s != before
        });
    }

    /// The clauses that were derived, where any were.
    pub fn clauses(&self) -> Option<String> {
        self.sender.borrow().clauses.clone()
    }

    /// Adds a notice (an Event for people).
    pub fn notice(&self, reason: &'static str, warning: bool, message: String) {
        if warning {
            tracing::warn!(reason, "{message}");
        } else {
            tracing::info!(reason, "{message}");
        }
        self.sender.send_modify(|s| {
            let sequence = s.notices.last().map_or(1, |n| n.sequence + 1);
            if s.notices.len() == NOTICES {
                s.notices.remove(0);
            }
            s.notices.push(Notice { sequence, reason, warning, message });
        });
    }

    /// All time that copying was held back, up to now.
    pub fn throttled(&self) -> Duration {
        let held = self.held.lock();
        held.total + held.since.as_ref().map(|(since, _)| since.elapsed()).unwrap_or_default()
    }

    /// Says that copying waits, or that it does not any more, and adds up the time. To be called as long as it waits: a long throttle is a
    /// notice of its own.
    pub fn throttle(&self, now: Option<(&'static str, String)>) {
        self.show(now, |_| {});
    }

    /// The same together with something else, so that nobody sees the one without the other.
    pub fn show(&self, now: Option<(&'static str, String)>, change: impl FnOnce(&mut Snapshot)) {
        let by = now.as_ref().map(|(reason, _)| *reason);
        let (told, throttle, total) = {
            let mut held = self.held.lock();
            let told = held.long.observe(Instant::now(), by);
            let same = matches!((&held.since, &by), (Some((_, old)), Some(reason)) if old.reason == *reason);
            if !same && let Some((since, _)) = held.since.take() {
                held.total += since.elapsed();
            }
            held.since = now.map(|(reason, detail)| match held.since.take() {
                Some((since, old)) => (since, Throttle { detail, ..old }),
                None => (Instant::now(), Throttle { reason, detail, since: SystemTime::now() }),
            });
            (told, held.since.as_ref().map(|(_, throttle)| throttle.clone()), held.total)
        };
        // No numbers: equal Events are counted as one.
        match (told, by) {
            (Some(Told::Held), Some(BY_A_PERSON)) => self.notice(notice::THROTTLED, false, "copying is throttled: User".to_owned()),
            (Some(Told::Held), _) => {
                let by = by.unwrap_or_default();
                self.notice(notice::THROTTLED, false, format!("copying has been throttled for more than a minute: {by}"));
            }
            (Some(Told::Released), _) => self.notice(notice::UNTHROTTLED, false, "copying continues".to_owned()),
            (None, _) => {}
        }
        self.update(|s| {
            (s.throttle, s.throttled_total) = (throttle, total);
            change(s);
        });
    }
}

/// What the tasks of an engine count, over all its attempts: the published progress is derived from it. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Tally {
    counts: Arc<Mutex<Counts>>,
    publisher: Publisher,
}

/// See [`Tally`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Rows and changes.
    pub progress: Progress,
    /// How long the last chunk took.
    pub last_chunk: Option<Duration>,
    /// The comparison, once it has begun.
    pub verification: Option<Verification>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(publisher: Publisher) -> Self {
        Self { counts: Arc::default(), publisher }
    }

    /// Rows and changes so far.
    pub fn progress(&self) -> Progress {
        self.counts.lock().progress.clone()
    }

    /// Counts, and publishes.
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        // Held until it is published, so that nobody publishes an older count after a newer one.
        let mut counts = self.counts.lock();
        change(&mut counts);
        counts.progress.rows_estimated = counts.progress.rows_estimated.max(counts.progress.rows_copied);
        self.publisher.update(|s| {
            s.progress.clone_from(&counts.progress);
            s.last_chunk = counts.last_chunk;
            s.verification.clone_from(&counts.verification);
        });
    }

    /// Counts something of the comparison.
    pub fn compared(&self, change: impl FnOnce(&mut Verification)) {
        self.count(|counts| change(counts.verification.get_or_insert_default()));
    }
}

/// How fast rows are copied while copying is allowed, smoothed, for the estimate of the time left.
///
/// Throttled time is left out: how long a throttle lasts is nobody's to know, and a rate with that time in it goes down while the throttle
/// lasts and up after it, and the estimate with it.
#[derive(Debug)]
pub struct Rate {
    began: Instant,
    /// All throttled time before `began`.
    throttled: Duration,
    /// Time of copying, and the rows by then, at the last reading.
    at: Duration,
    rows: u64,
    smoothed: Option<f64>,
}

/// The weight of a reading falls to a third in so much time of copying.
const MEMORY: f64 = 10.0;

impl Rate {
    /// Starts at `rows`, when all throttled time so far was `throttled`.
    pub fn new(now: Instant, throttled: Duration, rows: u64) -> Self {
        Self { began: now, throttled, at: Duration::ZERO, rows, smoothed: None }
    }

    /// Takes a new reading (`throttled` is all throttled time so far) and tells how much time of copying the rest needs, if that can be told.
    pub fn eta(&mut self, now: Instant, throttled: Duration, rows: u64, total: u64) -> Option<Duration> {
        let copying = now.duration_since(self.began).saturating_sub(throttled.saturating_sub(self.throttled));
        let seconds = copying.saturating_sub(self.at).as_secs_f64();
        if seconds >= 1.0 {
            #[allow(clippy::cast_precision_loss, reason = "an estimate")]
            let rate = rows.saturating_sub(self.rows) as f64 / seconds;
            let weight = 1.0 - (-seconds / MEMORY).exp();
            self.smoothed = Some(self.smoothed.map_or(rate, |old| old + weight * (rate - old)));
            (self.at, self.rows) = (copying, rows);
        }
        let rate = self.smoothed.filter(|r| *r > 0.0)?;
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let left = total.saturating_sub(rows) as f64;
        Duration::try_from_secs_f64(left / rate).ok()
    }
}

/// A throttle that has held copying back for so long is worth an Event.
const LONG: Duration = Duration::from_secs(60);
/// It is over when copying went on for so long: one that comes back at once is the same.
const CALM: Duration = Duration::from_secs(10);
/// The throttle that a person asks for is told at once, and so is its end.
const BY_A_PERSON: &str = "User";

/// What [`LongThrottle::observe`] has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Copying has been held back for long.
    Held,
    /// It goes on.
    Released,
}

/// Decides which throttles are worth an Event: long ones, however they are chopped. One that is there for 50 s of each minute is long; one
/// that is there for a second now and then is not. Pure: the clock is passed in.
#[derive(Debug, Default)]
struct LongThrottle {
    looked: Option<Instant>,
    held: bool,
    /// Throttled time, less the time since; from nothing to [`LONG`].
    level: Duration,
    told: Option<&'static str>,
}

impl LongThrottle {
    /// What throttles copying now, and whether it became news by that.
    pub fn observe(&mut self, now: Instant, by: Option<&'static str>) -> Option<Told> {
        let passed = self.looked.map_or(Duration::ZERO, |at| now.duration_since(at));
        self.level = if self.held { (self.level + passed).min(LONG) } else { self.level.saturating_sub(passed) };
        (self.looked, self.held) = (Some(now), by.is_some());
        match (self.told, by) {
            (None, Some(reason)) if reason == BY_A_PERSON || self.level >= LONG => {
                self.told = Some(reason);
                Some(Told::Held)
            }
            (Some(reason), None) if reason == BY_A_PERSON || self.level + CALM <= LONG => {
                (self.told, self.level) = (None, Duration::ZERO);
                Some(Told::Released)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_follows_the_rate() {
        let start = Instant::now();
        let mut rate = Rate::new(start, Duration::ZERO, 0);
        let eta = |rate: &mut Rate, ms, rows| rate.eta(start + Duration::from_millis(ms), Duration::ZERO, rows, 110);
        assert_eq!(eta(&mut rate, 0, 0), None, "nothing is known yet");
        assert_eq!(eta(&mut rate, 1000, 10), Some(Duration::from_secs(10)));
        assert_eq!(eta(&mut rate, 1500, 10), Some(Duration::from_secs(10)), "a short interval tells nothing new");
    }

    /// 100 rows a second while copying is allowed, of 60 000: whatever the throttle does, the estimate is what is left of ten minutes.
    #[test]
    fn throttled_time_is_not_in_the_estimate() {
        let s = Duration::from_secs;
        for (what, held) in [
            ("never", Box::new(|_| false) as Box<dyn Fn(u64) -> bool>),
            ("50 s of each minute", Box::new(|second| second % 60 >= 10)),
            ("for five minutes", Box::new(|second| (20..320).contains(&second))),
            ("each other second", Box::new(|second| second % 2 == 1)),
            ("from the start", Box::new(|second| second < 90)),
        ] {
            let start = Instant::now();
            let mut rate = Rate::new(start, s(7), 0);
            let (mut throttled, mut rows) = (s(7), 0);
            for second in 0..900 {
                if held(second) {
                    throttled += s(1);
                } else {
                    rows += 100;
                }
                let eta = rate.eta(start + s(second + 1), throttled, rows, 60_000);
                match eta {
                    None => assert_eq!(rows, 0, "{what}, second {second}"),
                    Some(left) => {
                        let exact = (60_000_f64 - f64::from(u32::try_from(rows).expect("few"))).max(0.0) / 100.0;
                        assert!(
                            (left.as_secs_f64() - exact).abs() <= 0.01 * exact + 0.01,
                            "{what}, second {second}: {left:?}, not {exact}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn an_event_for_a_long_throttle_and_one_for_its_end() {
        type Pattern = fn(u64) -> Option<&'static str>;
        let cases: [(&str, Pattern, &[(u64, Told)]); 7] = [
            ("none", |_| None, &[]),
            ("a minute less a second", |t| (10..69).contains(&t).then_some("Load"), &[]),
            ("two minutes", |t| (10..130).contains(&t).then_some("Load"), &[(70, Told::Held), (140, Told::Released)]),
            // A second's gap is no end, and another reason no new throttle.
            (
                "with gaps and reasons",
                |t| (10..130).contains(&t).then_some(if t < 50 { "Load" } else { "ReplicaLag" }).filter(|_| t % 20 != 0),
                &[(76, Told::Held), (140, Told::Released)],
            ),
            ("50 s of each minute", |t| (t % 60 >= 10 && t < 290).then_some("HistoryLength"), &[(90, Told::Held), (300, Told::Released)]),
            ("a second of each ten", |t| (t % 10 == 0).then_some("Load"), &[]),
            ("a person's", |t| (10..15).contains(&t).then_some(BY_A_PERSON), &[(10, Told::Held), (15, Told::Released)]),
        ];
        for (what, pattern, expected) in cases {
            let (start, mut throttle) = (Instant::now(), LongThrottle::default());
            let told: Vec<_> = (0..400).filter_map(|t| Some((t, throttle.observe(start + Duration::from_secs(t), pattern(t))?))).collect();
            println!("{what}: {told:?}");
            assert_eq!(told, expected, "{what}");
        }
    }

    #[test]
    fn throttled_time_adds_up_and_repeats_wake_nobody() {
        let (publisher, mut watch) = Publisher::new("s".into());
        publisher.throttle(Some(("User", "a".into())));
        assert!(watch.has_changed().expect("open"));
        watch.mark_unchanged();
        publisher.throttle(Some(("User", "a".into())));
        assert!(!watch.has_changed().expect("open"));
        publisher.throttle(None);
        assert!(watch.borrow_and_update().throttle.is_none());
    }
}
