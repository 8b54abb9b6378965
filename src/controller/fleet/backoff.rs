//! Failures in a row, and how long to wait after the latest.
use crate::engine::contract::retry::back_off;
use std::time::Duration;

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts(u32);

impl Attempts {
    /// One more failure: how long to wait now.
    pub fn failed(&mut self) -> Duration {
        self.0 = self.0.saturating_add(1);
        back_off(self.0)
    }

    /// It went well.
    pub fn succeeded(&mut self) {
        self.0 = 0;
    }
}
