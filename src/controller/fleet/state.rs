//! What the operator knows of one migration, as values: the words that plan, drive, conditions and status share.
use crate::engine::contract::reason::{Passes, Reason};
use crate::engine::contract::snapshot::{Outcome, Revert};
use k8s_openapi::jiff::Timestamp;

/// Where a migration is, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Seen, nothing decided.
    New,
    /// It waits for its table or a slot, and this is why.
    Queued(String),
    /// Stopped on request; no engine works for it.
    Paused,
    /// Something went wrong that may go away by itself.
    Retrying(Trouble),
    /// The same for so long that somebody will have to do something; it is still retried.
    Blocked(Trouble),
    /// An engine works for it.
    Working,
    /// It is over.
    Ended(End),
}

/// What went wrong outside the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// From the documented enum.
    pub reason: Reason,
    /// What, where, what to do.
    pub message: String,
    /// When it is tried again.
    pub next_attempt: Timestamp,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// The table has its new definition.
    Changed,
    /// It had, and the change was taken back.
    Reverted,
    /// Nothing was changed: mode DryRun.
    Proven,
    /// Nothing was changed, and the new table is there: mode TestOnReplica.
    Tested,
}

/// Whether a change can be taken back, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WayBack {
    /// It is not made, or nobody wanted a way back.
    #[default]
    None,
    /// It is made, and can be taken back: an engine keeps the old table current.
    Open {
        /// The end of the window, where it is known.
        until: Option<Timestamp>,
    },
    /// Not any more, or it never could be.
    Over {
        /// CamelCase.
        reason: String,
        /// For people.
        message: String,
    },
}

impl WayBack {
    /// Whether the change is made: only then there is a way back, or none any more.
    pub fn is_made(&self) -> bool {
        *self != Self::None
    }

    /// Whether it was taken back.
    pub fn is_taken_back(&self) -> bool {
        matches!(self, Self::Over { reason, .. } if reason == Revert::REVERTED)
    }

    /// Whether it can be taken back.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

impl From<&Revert> for WayBack {
    fn from(revert: &Revert) -> Self {
        match revert {
            Revert::Possible { until } => Self::Open { until: Timestamp::try_from(*until).ok() },
            Revert::Over { reason, message } => Self::Over { reason: (*reason).to_owned(), message: message.clone() },
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// What was asked for is done.
    Succeeded(Success),
    /// On request, before the swap.
    Cancelled {
        /// What became of the tables.
        message: String,
    },
    /// Before anything was touched.
    Refused {
        /// A word of the documented enum.
        reason: String,
        /// What, where, what to do.
        message: String,
    },
    /// For good; the original is untouched.
    Failed {
        /// A word of the documented enum.
        reason: String,
        /// What, where, what is left behind, what to do.
        message: String,
    },
    /// Whether the swap happened cannot be told.
    Unknown {
        /// What was tried and what to look at.
        message: String,
    },
}

impl End {
    /// Whether the annotation `retry` may start it again. A cancelled one is over, and about an unknown outcome nobody guesses.
    pub fn can_be_retried(&self) -> bool {
        matches!(self, End::Refused { .. } | End::Failed { .. })
    }
}

/// What an engine's outcome means for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// The migration is over.
    Ends(End),
    /// The engine stopped as it was asked to (or for no reason it gave); the work is kept.
    Stopped,
    /// Another engine may be started in a while.
    TryAgain {
        /// From the documented enum.
        reason: Reason,
        /// The engine's message.
        message: String,
    },
}

/// Reads an engine's outcome.
///
/// What passes by itself ([`Reason::passes`]) is tried again; `validated`: the migration had begun.
pub fn consequence(outcome: Outcome, validated: bool) -> Consequence {
    let passes = |reason: Reason| match reason.passes() {
        Passes::ByItself => true,
        Passes::OnceBegun => validated,
        Passes::Never => false,
    };
    match outcome {
        Outcome::Succeeded => Consequence::Ends(End::Succeeded(Success::Changed)),
        Outcome::Reverted => Consequence::Ends(End::Succeeded(Success::Reverted)),
        Outcome::Proven => Consequence::Ends(End::Succeeded(Success::Proven)),
        Outcome::Tested => Consequence::Ends(End::Succeeded(Success::Tested)),
        Outcome::Cancelled => {
            Consequence::Ends(End::Cancelled { message: "cancelled before the swap; the original table is unchanged".to_owned() })
        }
        Outcome::Stopped => Consequence::Stopped,
        Outcome::Refused { reason, message } | Outcome::Failed { reason, message } if passes(reason) => {
            Consequence::TryAgain { reason, message }
        }
        Outcome::Refused { reason, message } => Consequence::Ends(End::Refused { reason: reason.to_string(), message }),
        Outcome::Failed { reason: Reason::Cancelled, message } => Consequence::Ends(End::Cancelled { message }),
        Outcome::Failed { reason, message } => Consequence::Ends(End::Failed { reason: reason.to_string(), message }),
        Outcome::Unknown { message } => Consequence::Ends(End::Unknown { message }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_outcome_has_its_consequence() {
        let message = String::new;
        for reason in Reason::ALL.iter().copied() {
            for begun in [false, true] {
                let expected = match (reason.passes(), begun) {
                    (Passes::ByItself, _) | (Passes::OnceBegun, true) => Consequence::TryAgain { reason, message: message() },
                    _ if reason == Reason::Cancelled => Consequence::Ends(End::Cancelled { message: message() }),
                    _ => Consequence::Ends(End::Failed { reason: reason.to_string(), message: message() }),
                };
                assert_eq!(consequence(Outcome::Failed { reason, message: message() }, begun), expected);
            }
        }
        let denied = Outcome::Refused { reason: Reason::AccessDenied, message: message() };
        assert_eq!(consequence(denied, true), Consequence::TryAgain { reason: Reason::AccessDenied, message: message() });
        assert_eq!(consequence(Outcome::Stopped, false), Consequence::Stopped);
        assert_eq!(consequence(Outcome::Proven, false), Consequence::Ends(End::Succeeded(Success::Proven)));
        assert_eq!(consequence(Outcome::Reverted, true), Consequence::Ends(End::Succeeded(Success::Reverted)));
        assert_eq!(consequence(Outcome::Tested, false), Consequence::Ends(End::Succeeded(Success::Tested)));
        assert_eq!(consequence(Outcome::Unknown { message: message() }, false), Consequence::Ends(End::Unknown { message: message() }));
        let refused = Outcome::Refused { reason: Reason::NoUsableKey, message: message() };
        assert_eq!(consequence(refused, false), Consequence::Ends(End::Refused { reason: "NoUsableKey".to_owned(), message: message() }));
    }

    #[test]
    fn only_failures_can_be_retried() {
        let (reason, message) = (String::new, String::new);
        for (end, can) in [
            (End::Succeeded(Success::Changed), false),
            (End::Cancelled { message: message() }, false),
            (End::Unknown { message: message() }, false),
            (End::Refused { reason: reason(), message: message() }, true),
            (End::Failed { reason: reason(), message: message() }, true),
        ] {
            assert_eq!(end.can_be_retried(), can, "{end:?}");
        }
    }
}
