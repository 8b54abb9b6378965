//! Conditions: their types, and how a wanted set becomes the list that is written.
//!
//! Polarity as kstatus wants it (`Ready`, `Reconciling`, `Stalled`), plus `Succeeded` for an object that runs to an end.
//! The whole set is written each time: server-side apply removes what is no longer sent.
//! <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Spec and annotations make sense.
pub const ACCEPTED: &str = "Accepted";
/// The inspector has accepted the change.
pub const VALIDATED: &str = "Validated";
/// The table has its new definition (for a server: migrations can run there).
pub const READY: &str = "Ready";
/// Work goes on, or will without anybody's doing.
pub const RECONCILING: &str = "Reconciling";
/// Nothing goes on without someone's doing.
pub const STALLED: &str = "Stalled";
/// The end: True, False, or Unknown before it.
pub const SUCCEEDED: &str = "Succeeded";
/// Copying is held back.
pub const THROTTLED: &str = "Throttled";
/// Stopped on request.
pub const PAUSED: &str = "Paused";
/// Everything is ready for the swap.
pub const CUT_OVER_READY: &str = "CutOverReady";

/// The change is made and can be taken back without loss.
pub const REVERT_POSSIBLE: &str = "RevertPossible";
/// Its reason while the change is not made, or where no window was asked for.
pub const NO_WINDOW: &str = "NoWindow";
/// Its reason while it is true.
pub const WINDOW_OPEN: &str = "WindowOpen";

/// The longest message that is written; the API server's limit is 32768.
const MAX_MESSAGE_LENGTH: usize = 2048;

/// `True`, `False` or `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truth {
    /// `True`
    True,
    /// `False`
    False,
    /// `Unknown`
    Unknown,
}

impl Truth {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Truth::True } else { Truth::False }
    }
}

/// A condition before it has a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// One of this module's constants.
    pub type_: &'static str,
    /// Its value.
    pub truth: Truth,
    /// CamelCase, never empty.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Wanted {
    /// A condition.
    pub fn new(type_: &'static str, truth: impl Into<Truth>, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { type_, truth: truth.into(), reason: reason.into(), message: message.into() }
    }
}

/// Gives each wanted condition its transition time: that of the previous one while the value stays the same, else `now`.
pub fn settle(previous: &[Condition], wanted: Vec<Wanted>, generation: Option<i64>, now: &Time) -> Vec<Condition> {
    wanted
        .into_iter()
        .map(|wanted| {
            let since = find(previous, wanted.type_)
                .filter(|old| old.status == wanted.truth.as_str())
                .map_or_else(|| now.clone(), |old| old.last_transition_time.clone());
            Condition {
                type_: wanted.type_.to_owned(),
                status: wanted.truth.as_str().to_owned(),
                reason: wanted.reason,
                message: shorten(wanted.message, MAX_MESSAGE_LENGTH),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// The condition of a type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether a condition is there with this value.
pub fn is(conditions: &[Condition], type_: &str, truth: Truth) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == truth.as_str())
}

/// Cuts a text at a character boundary.
pub fn shorten(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit.saturating_sub('…'.len_utf8())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_transition_time_moves_only_with_the_value() {
        let first = settle(&[], vec![Wanted::new(READY, Truth::False, "Queued", "waits")], Some(1), &at(10));
        assert_eq!(first[0].last_transition_time, at(10));
        let reason = settle(&first, vec![Wanted::new(READY, Truth::False, "Copying", "works")], Some(2), &at(20));
        assert_eq!((reason[0].last_transition_time.clone(), reason[0].observed_generation), (at(10), Some(2)));
        let value = settle(&reason, vec![Wanted::new(READY, Truth::True, "Succeeded", "")], Some(2), &at(30));
        assert_eq!(value[0].last_transition_time, at(30));
    }

    #[test]
    fn shortening_keeps_characters_whole() {
        for limit in 3..12 {
            let text = shorten("aäöü€€€€".to_owned(), limit);
            assert!(text.len() <= limit, "{text:?} is longer than {limit}");
        }
        assert_eq!(shorten("abc".to_owned(), 3), "abc");
    }
}
