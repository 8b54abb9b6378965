//! The gate: whether an attempt may be made now. Pure.

use crate::engine::contract::snapshot::Waits;
use crate::engine::contract::spec::{Controls, CutOverPolicy};
use crate::engine::contract::window::{self, Verdict};
use crate::engine::rows::migration::Migration;
use jiff::Timestamp;
use std::sync::Arc;

/// Tells the time of day; passed in, so that a test need not wait for it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's clock.
pub fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open,
    /// Policy Manual, and nobody has approved.
    NeedsApproval,
    /// The tables are swapped, and nobody has asked for the change to be taken back.
    NotReverted,
    /// A user throttles.
    Throttled,
    /// No window is open, and nobody has approved.
    OutsideWindows {
        /// When the next one opens.
        opens: Option<Timestamp>,
    },
}

impl Gate {
    /// What a person reads; `None` when it is open.
    pub fn waits(self) -> Option<Waits> {
        match self {
            Self::Open | Self::NotReverted => None,
            Self::NeedsApproval => Some(Waits::Approval),
            Self::Throttled => Some(Waits::Throttle),
            Self::OutsideWindows { opens } => Some(Waits::Window { opens: opens.map(Into::into) }),
        }
    }
}

/// The gate: all of it must be open, and it is asked again when the tables are locked. An approval stands above the windows.
pub fn gate(controls: &Controls, now: Timestamp) -> Gate {
    if controls.cut_over_policy == CutOverPolicy::Manual && !controls.approved {
        return Gate::NeedsApproval;
    }
    if controls.throttled_by_user {
        return Gate::Throttled;
    }
    match window::verdict(&controls.windows, now) {
        Verdict::Closed { opens } if !controls.approved => Gate::OutsideWindows { opens },
        _ => Gate::Open,
    }
}

/// The gate of the way back. Whoever takes a change back does not wait for a window, and has approved by that.
pub fn gate_back(controls: &Controls) -> Gate {
    match (controls.revert, controls.throttled_by_user) {
        (false, _) => Gate::NotReverted,
        (true, true) => Gate::Throttled,
        (true, false) => Gate::Open,
    }
}

/// The gate of a migration.
pub fn gate_of(m: &Migration, controls: &Controls, now: Timestamp) -> Gate {
    if m.turned.is_some() { gate_back(controls) } else { gate(controls, now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::contract::window::Window;
    use std::time::Duration;

    #[test]
    fn all_of_it_must_be_open() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let nightly = Window::parse("0 2 * * *", "UTC", Duration::from_secs(7200)).expect("a window");
        let (open, closed) = (at("2026-05-04T03:00:00Z"), at("2026-05-04T04:00:00Z"));
        let outside = Gate::OutsideWindows { opens: Some(at("2026-05-05T02:00:00Z")) };
        let automatic = Controls::default();
        let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..Controls::default() };
        let with = |controls: &Controls, approved, throttled_by_user, windows: bool| Controls {
            approved,
            throttled_by_user,
            windows: if windows { vec![nightly.clone()] } else { Vec::new() },
            ..controls.clone()
        };
        // policy, approved, throttled, windows, now → gate
        for (policy, approved, throttled, windows, now, expected) in [
            (&automatic, false, false, false, closed, Gate::Open),
            (&automatic, false, true, false, closed, Gate::Throttled),
            (&automatic, false, false, true, open, Gate::Open),
            (&automatic, false, false, true, closed, outside),
            (&automatic, true, false, true, closed, Gate::Open),
            (&automatic, true, true, true, closed, Gate::Throttled),
            (&manual, false, false, false, closed, Gate::NeedsApproval),
            (&manual, false, false, true, open, Gate::NeedsApproval),
            (&manual, true, false, false, closed, Gate::Open),
            (&manual, true, false, true, closed, Gate::Open),
            (&manual, true, true, true, open, Gate::Throttled),
        ] {
            let controls = with(policy, approved, throttled, windows);
            assert_eq!(
                gate(&controls, now),
                expected,
                "{:?} approved {approved} throttled {throttled} windows {windows}",
                policy.cut_over_policy
            );
        }
    }
}
