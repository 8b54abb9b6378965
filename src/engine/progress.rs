//! The one place where the snapshot is kept: everybody reports here, front ends watch.

use super::snapshot::{CutOver, Notice, Phase, Progress, Snapshot, Throttle, Waits};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// Notices kept for a front end that looks rarely.
const NOTICES: usize = 32;

/// Publishes snapshots. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    sender: Arc<watch::Sender<Snapshot>>,
}

impl Publisher {
    /// A publisher and the first watcher.
    pub fn new(session: String) -> (Self, watch::Receiver<Snapshot>) {
        let (sender, receiver) = watch::channel(Snapshot { session, ..Snapshot::default() });
        (Self { sender: Arc::new(sender) }, receiver)
    }

    /// Changes the snapshot; watchers wake.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        self.sender.send_modify(change);
    }

    /// Sets the phase; watchers wake only when it changed.
    pub fn phase(&self, phase: Phase) {
        self.sender.send_if_modified(|s| {
            let changed = s.phase != phase;
            s.phase = phase;
            changed
        });
    }

    /// The progress so far.
    pub fn progress(&self) -> Progress {
        self.sender.borrow().progress.clone()
    }

    /// All of it.
    pub fn snapshot(&self) -> Snapshot {
        self.sender.borrow().clone()
    }

    /// The cut-over so far.
    pub fn cut_over(&self) -> CutOver {
        self.sender.borrow().cut_over.clone()
    }

    /// Says what the gate waits for, or that it is open; watchers wake only when it changed.
    pub fn waits(&self, waits: Option<Waits>) {
        self.sender.send_if_modified(|s| {
            let changed = s.cut_over.waits != waits;
            if waits.is_some() {
                // Nobody is looked for while the gate is closed.
                s.cut_over.blocked_by = None;
            }
            s.cut_over.waits = waits;
            changed
        });
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

    /// Says that a hook vetoed the attempt, or that none does.
    pub fn vetoed(&self, by: Option<String>) {
        self.sender.send_if_modified(|s| {
            let changed = s.cut_over.vetoed_by != by;
            if by.is_some() {
                s.cut_over.waits = Some(Waits::Hook);
                s.phase = Phase::AwaitingCutOver;
            }
            s.cut_over.vetoed_by = by;
            changed
        });
    }

    /// Says that copying waits, or that it does not any more, and adds up the time.
    pub fn throttle(&self, now: Option<(&'static str, String)>) {
        self.sender.send_if_modified(|s| match (&mut s.throttle, now) {
            (None, None) => false,
            (Some(throttle), Some((reason, detail))) if throttle.reason == reason => {
                let changed = throttle.detail != detail;
                throttle.detail = detail;
                changed
            }
            (present, now) => {
                if let Some(old) = present.take() {
                    s.throttled_total += old.since.elapsed().unwrap_or_default();
                }
                *present = now.map(|(reason, detail)| Throttle { reason, detail, since: SystemTime::now() });
                true
            }
        });
    }
}

/// Rows for each second, smoothed, for the estimate of the time left.
#[derive(Debug)]
pub struct Rate {
    at: Instant,
    rows: u64,
    smoothed: Option<f64>,
}

/// Weight of the newest interval: about the last ten seconds count.
const WEIGHT: f64 = 0.1;

impl Rate {
    /// Starts at `rows`.
    pub fn new(now: Instant, rows: u64) -> Self {
        Self { at: now, rows, smoothed: None }
    }

    /// Takes a new reading and tells how long the rest will take, if that can be told.
    pub fn eta(&mut self, now: Instant, rows: u64, total: u64) -> Option<Duration> {
        let seconds = now.duration_since(self.at).as_secs_f64();
        if seconds >= 1.0 {
            #[allow(clippy::cast_precision_loss, reason = "an estimate")]
            let rate = rows.saturating_sub(self.rows) as f64 / seconds;
            self.smoothed = Some(self.smoothed.map_or(rate, |old| old + WEIGHT * (rate - old)));
            (self.at, self.rows) = (now, rows);
        }
        let rate = self.smoothed.filter(|r| *r > 0.0)?;
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let left = total.saturating_sub(rows) as f64;
        Duration::try_from_secs_f64(left / rate).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_follows_the_rate() {
        let start = Instant::now();
        let mut rate = Rate::new(start, 0);
        assert_eq!(rate.eta(start, 0, 100), None, "nothing is known yet");
        assert_eq!(rate.eta(start + Duration::from_secs(1), 10, 110), Some(Duration::from_secs(10)));
        assert_eq!(
            rate.eta(start + Duration::from_millis(1500), 10, 110),
            Some(Duration::from_secs(10)),
            "a short interval tells nothing new"
        );
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
