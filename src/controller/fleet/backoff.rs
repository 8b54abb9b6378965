//! When to try again: exponential, jittered, bounded. Pure.
use std::time::Duration;

/// The first delay.
const FIRST: Duration = Duration::from_secs(1);
/// No delay is longer: a person who has mended something does not wait longer than this for it to be noticed.
const LONGEST: Duration = Duration::from_secs(60);

/// The delay before attempt number `attempt` + 1, where `attempt` failures have happened in a row and `random` is in 0.0–1.0.
///
/// Half of the delay is fixed and half is random, so that many objects that failed together do not come back together.
pub fn delay(attempt: u32, random: f64) -> Duration {
    let full = FIRST.saturating_mul(1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX)).min(LONGEST);
    // Not a number counts as 1.
    let random = if random.is_nan() { 1.0 } else { random.clamp(0.0, 1.0) };
    full.mul_f64(0.5 + 0.5 * random)
}

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts(u32);

impl Attempts {
    /// One more failure: how long to wait now.
    pub fn failed(&mut self) -> Duration {
        self.0 = self.0.saturating_add(1);
        delay(self.0, fastrand::f64())
    }

    /// It went well.
    pub fn succeeded(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_doubles_up_to_a_minute_and_half_of_it_is_random() {
        for (attempt, full) in [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (40, 60.0), (u32::MAX, 60.0)] {
            assert_eq!(delay(attempt, 0.0).as_secs_f64(), full / 2.0, "attempt {attempt}");
            assert_eq!(delay(attempt, 1.0).as_secs_f64(), full, "attempt {attempt}");
        }
        assert!(delay(1, f64::NAN) <= LONGEST);
    }
}
