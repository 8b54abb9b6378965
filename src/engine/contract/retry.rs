//! How long to wait before the next attempt: one law for everybody who tries again.
use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// No pause is longer: a person who has put something right does not wait longer than this for it to be noticed.
const LONGEST: Duration = Duration::from_secs(60);

/// The pause after `failures` failures in a row (from 1), where `random` is in 0.0–1.0: doubling from 1 s to 1 min. Pure.
///
/// Half of it is fixed and half is random, so that those that failed together do not come back together.
pub fn pause(failures: u32, random: f64) -> Duration {
    let full = FIRST.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(LONGEST);
    // Not a number counts as 1.
    let random = if random.is_nan() { 1.0 } else { random.clamp(0.0, 1.0) };
    full.mul_f64(0.5 + 0.5 * random)
}

/// As [`pause`], by chance.
pub fn back_off(failures: u32) -> Duration {
    pause(failures, fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_minute_and_half_of_it_is_random() {
        for (failures, full) in
            [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60), (33, 60), (40, 60), (u32::MAX, 60)]
        {
            assert_eq!(pause(failures, 0.0), Duration::from_secs(full) / 2, "after {failures}");
            assert_eq!(pause(failures, 1.0), Duration::from_secs(full), "after {failures}");
        }
        assert!(pause(1, f64::NAN) <= LONGEST);
        assert!((1..=100).map(|_| back_off(7)).all(|pause| pause >= LONGEST / 2 && pause <= LONGEST));
    }
}
