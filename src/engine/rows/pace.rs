//! How many workers copy and how many flush (rule 10). Pure: the migrator brings a window's numbers and obeys.
//!
//! The number of copy workers is sought by trying: one more or one less for a window, kept when the *power* grows. Power is throughput
//! divided by latency, and its greatest value is the point beyond which more work in the server only makes everybody wait (L. Kleinrock,
//! "Power and deterministic rules of thumb for probabilistic problems in computer communications", 1979); the latency is squared, since
//! the application's counts more than our speed. It is measured on a small durable transaction of our own, the checkpoint's: that goes
//! through the same queues for processor, log and disk as the application's commits, so no thread of the application needs to be
//! counted. On two idle cores the power is greatest with two workers, on a large server with more, on one that the application fills
//! with a share of what the application has.
//!
//! Flushing goes first: while changes pile up, the workers that copy become fewer, then rest; a rest is followed by work, so that copying
//! always has a share.

use std::time::Duration;

/// What the status says when changes pile up.
pub const BACKLOG_GROWS: &str = "Backlog";
/// How long one measurement takes at least: several checkpoints fall into it, …
pub const MEASURE_FOR: Duration = Duration::from_secs(3);
/// … and so many chunks shall.
pub const CHUNKS: u64 = 3;
/// The most copy workers that are tried: each is a connection, and a chunk each of undo log and binary log cache.
const MOST: u16 = 8;
/// Copy workers to begin with on a server that has nothing else to do; on one that has, a single one: who is there goes first.
const FIRST: u16 = 2;
/// Statements of others in a second from which on a server is at work.
const BUSY: u64 = 200;
/// For how long they are counted.
pub const LOOK: Duration = Duration::from_millis(100);
/// Flush connections as a rule, and while changes pile up.
const FLUSH: [usize; 2] = [2, 4];
/// Fewer workers are kept when the power grows by this factor; less may be noise.
const GAIN_OF_LESS: f64 = 1.05;
/// One more is kept when the power grows by this share of what one more of so many can bring at best.
const GAIN_OF_MORE: f64 = 0.5;
/// After a trial that brought nothing, this many windows pass before the next; twice as many each time, up to `SELDOM`.
const SOON: u32 = 4;
const SELDOM: u32 = 64;
/// Dirty keys that one flush cycle settles in well under a second. Fewer than that are no backlog.
const BACKLOG: u64 = 5_000;
/// A backlog that grew in so many windows one after the other is a trend.
const TREND: u32 = 2;

/// What was measured in one window in which nothing held the copy back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// Rows of the chunks that were done in it, …
    pub rows: u64,
    /// … and how long their workers worked for them: more than the window's length where there are several.
    pub worked: Duration,
    /// The median time of the small transactions in it, if there were any.
    pub latency: Option<Duration>,
    /// Dirty keys at its end.
    pub backlog: u64,
}

/// How many may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Width {
    /// Copy workers; 0 is a rest of one window.
    pub copy: u16,
    /// Flush connections.
    pub flush: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Trial {
    /// None until this many windows have passed.
    Waiting(u32),
    /// The chunks of the former width still end.
    Settling { from: u16, power: f64 },
    /// Being measured.
    Measuring { from: u16, power: f64 },
}

/// The memory between windows.
#[derive(Debug, Clone)]
pub struct Pace {
    workers: u16,
    trial: Trial,
    /// Windows before the next trial, when this one brings nothing.
    wait: u32,
    /// Whether the next trial is of one more.
    upwards: bool,
    backlog: u64,
    growing: u32,
    resting: bool,
    pressure: Pressure,
}

/// What changes do to the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Pressure {
    /// They are no trouble.
    #[default]
    None,
    /// They pile up, so that copying rests every other window.
    Shared,
    /// They pile up also while copying rests: more rows change than the server can reconcile.
    Overwhelming,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            workers: FIRST,
            trial: Trial::Waiting(0),
            wait: SOON,
            upwards: true,
            backlog: 0,
            growing: 0,
            resting: false,
            pressure: Pressure::None,
        }
    }
}

impl Pace {
    /// For a server that was sent so many statements while we looked for [`LOOK`].
    pub fn beside(statements: u64) -> Self {
        let busy = u128::from(statements) * 1000 >= u128::from(BUSY) * LOOK.as_millis();
        Self { workers: if busy { 1 } else { FIRST }, ..Self::default() }
    }

    /// The width now.
    pub fn width(&self) -> Width {
        Width { copy: if self.resting { 0 } else { self.workers }, flush: FLUSH[usize::from(self.backlog > BACKLOG)] }
    }

    /// How many have shown that the server can take them: what is only being tried does not count.
    pub fn proven(&self) -> u16 {
        match self.trial {
            Trial::Waiting(_) => self.workers,
            Trial::Settling { from, .. } | Trial::Measuring { from, .. } => self.workers.min(from),
        }
    }

    /// What changes do to the copy.
    pub fn pressure(&self) -> Pressure {
        self.pressure
    }

    /// Takes a window's numbers.
    pub fn learn(&mut self, window: &Measurement) {
        self.growing = if window.backlog > BACKLOG && window.backlog > self.backlog { self.growing + 1 } else { 0 };
        self.backlog = window.backlog;
        if self.resting {
            // One window of rest, then its share.
            self.resting = false;
            if self.growing > 0 {
                self.pressure = Pressure::Overwhelming;
            }
            return;
        }
        if self.growing == 0 {
            self.pressure = Pressure::None;
        }
        if self.growing >= TREND {
            if self.workers > 1 {
                self.workers = (self.workers / 2).max(1);
                self.growing = 0;
            } else {
                self.resting = true;
                self.pressure = self.pressure.max(Pressure::Shared);
            }
            self.trial = Trial::Waiting(self.wait);
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "a ratio of measurements")]
        let power = window.latency.map(|latency| {
            let speed = window.rows as f64 / window.worked.as_secs_f64() * f64::from(self.workers);
            speed / latency.as_secs_f64().max(1e-6).powi(2)
        });
        // A window without a measure says nothing.
        let Some(power) = power.filter(|power| power.is_finite() && *power > 0.0) else { return };
        self.trial = match self.trial {
            Trial::Waiting(0) => self.begin(power),
            Trial::Waiting(left) => Trial::Waiting(left - 1),
            Trial::Settling { from, power } => Trial::Measuring { from, power },
            Trial::Measuring { from, power: before } if power >= before * gain(from, self.workers) => {
                // The same way again at once.
                self.upwards = self.workers > from;
                self.wait = SOON;
                Trial::Waiting(0)
            }
            Trial::Measuring { from, .. } => {
                self.workers = from;
                self.upwards = !self.upwards;
                let wait = self.wait;
                self.wait = (self.wait * 2).min(SELDOM);
                Trial::Waiting(wait)
            }
        };
    }

    fn begin(&mut self, power: f64) -> Trial {
        let from = self.workers;
        let next = match (self.upwards, from) {
            (true, MOST..) => from - 1,
            (true, _) => from + 1,
            (false, ..=1) => from + 1,
            (false, _) => from - 1,
        };
        self.upwards = next > from;
        self.workers = next;
        Trial::Settling { from, power }
    }
}

/// The factor by which the power has to grow for a change of the number of workers to be kept.
fn gain(from: u16, to: u16) -> f64 {
    if to > from { 1.0 + GAIN_OF_MORE * (f64::from(to) / f64::from(from) - 1.0) } else { GAIN_OF_LESS }
}

/// The median of some times; it leaves `times` empty.
pub fn median(times: &mut Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied();
    times.clear();
    middle
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server on which one worker alone copies 100 000 rows/s: up to `cores` of them scale, beyond that all wait for each other.
    fn server(cores: u16, application: u16) -> impl Fn(u16) -> (u64, Duration) {
        move |workers| {
            let all = f64::from(workers + application);
            let share = (f64::from(cores) / all).min(1.0);
            let rows = f64::from(workers) * 300_000.0 * share;
            // A queue's latency: flat below saturation, then in proportion.
            let latency = 0.002 * (all / f64::from(cores)).max(1.0) * (1.0 + 0.2 * f64::from(workers + application) / f64::from(cores));
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a test's numbers")]
            (rows as u64, Duration::from_secs_f64(latency))
        }
    }

    fn settle(pace: &mut Pace, server: impl Fn(u16) -> (u64, Duration), windows: u32) -> f64 {
        let mut sum = 0;
        for _ in 0..windows {
            let (rows, latency) = server(pace.width().copy);
            pace.learn(&Measurement { rows, worked: MEASURE_FOR * u32::from(pace.width().copy), latency: Some(latency), backlog: 0 });
            sum += u32::from(pace.width().copy);
        }
        f64::from(sum) / f64::from(windows)
    }

    #[test]
    fn the_number_follows_the_server() {
        for (cores, application, least, most) in
            [(2, 0, 1.8, 2.2), (16, 0, 7.0, 8.0), (16, 12, 3.5, 5.0), (2, 4, 1.0, 2.2), (1, 0, 1.0, 1.3)]
        {
            let mut pace = Pace::default();
            settle(&mut pace, server(cores, application), 100);
            let mean = settle(&mut pace, server(cores, application), 200);
            assert!((least..=most).contains(&mean), "{cores} cores, {application} of the application: {mean} workers");
        }
    }

    #[test]
    fn who_is_there_goes_first() {
        for (statements, workers) in [(0, 2), (2, 2), (19, 2), (20, 1), (1000, 1), (u64::MAX, 1)] {
            let mut pace = Pace::beside(statements);
            assert_eq!((pace.width().copy, pace.proven()), (workers, workers), "{statements} statements");
            // One more is tried, and not believed in before it has been measured.
            pace.learn(&Measurement { rows: 1000, worked: MEASURE_FOR, latency: Some(Duration::from_millis(5)), backlog: 0 });
            assert_eq!((pace.width().copy, pace.proven()), (workers + 1, workers), "{statements} statements");
        }
    }

    #[test]
    fn it_follows_a_change_of_load() {
        let mut pace = Pace::default();
        settle(&mut pace, server(16, 0), 100);
        // Most of it is taken away.
        settle(&mut pace, server(3, 4), 400);
        let mean = settle(&mut pace, server(3, 4), 100);
        assert!(mean < 3.5, "{mean}");
        settle(&mut pace, server(16, 0), 400);
        let mean = settle(&mut pace, server(16, 0), 100);
        assert!(mean > 6.0, "{mean}");
    }

    #[test]
    fn a_growing_backlog_makes_room_and_copying_keeps_a_share() {
        // The trial of one less is under way.
        let mut pace = Pace { workers: 8, ..Pace::default() };
        let mut backlog = 10_000;
        let mut widths = Vec::new();
        for _ in 0..20 {
            backlog += 5_000;
            pace.learn(&Measurement { rows: 1000, worked: MEASURE_FOR, latency: Some(Duration::from_millis(5)), backlog });
            widths.push(pace.width().copy);
            assert_eq!(pace.width().flush, 4);
        }
        assert_eq!(widths[..6], [7, 3, 3, 1, 1, 0], "{widths:?}");
        let late = &widths[10..];
        let rests = late.iter().filter(|w| **w == 0).count();
        assert!((4..=6).contains(&rests), "half of the time: {widths:?}");
        assert!(late.iter().all(|w| *w <= 1) && pace.pressure() == Pressure::Overwhelming);
        // Settled again.
        for _ in 0..3 {
            pace.learn(&Measurement { rows: 1000, worked: MEASURE_FOR, latency: Some(Duration::from_millis(5)), backlog: 10 });
        }
        assert_eq!(pace.width(), Width { copy: pace.workers, flush: 2 });
        assert!(pace.pressure() == Pressure::None && pace.workers >= 1);
    }

    #[test]
    fn a_large_backlog_that_shrinks_costs_no_worker() {
        let mut pace = Pace { trial: Trial::Waiting(100), ..Pace::default() };
        for backlog in [90_000, 80_000, 70_000, 60_000] {
            pace.learn(&Measurement { rows: 1000, worked: MEASURE_FOR, latency: None, backlog });
        }
        assert_eq!(pace.width().copy, FIRST);
    }

    #[test]
    fn the_median_needs_a_time() {
        let ms = Duration::from_millis;
        let mut times = vec![ms(5), ms(1), ms(100)];
        assert_eq!(median(&mut times), Some(ms(5)));
        assert_eq!(median(&mut times), None);
    }
}
