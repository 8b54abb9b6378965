//! How long to wait before the next attempt: one law for everybody who tries again.
use std::time::Duration;

/// The pause after the `failures`-th failed attempt (from 1), before jitter: doubling from 1 s to 1 min.
pub fn back_off(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

/// Adds up to a fifth either way, so that engines that failed together do not come back together.
pub fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_back_off_to_a_minute() {
        let seconds: Vec<u64> = (1..=9).map(|n| back_off(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(back_off(u32::MAX).as_secs(), 60);
    }
}
