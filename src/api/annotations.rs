//! What people and pipelines say while a migration runs: annotations with the prefix `theseus.dev/`.
//!
//! Annotations, not spec fields, because a GitOps tool does not revert what is not in Git. Most are levels: the effect lasts while the
//! annotation is there. `retry` and `force-cut-over` are tokens: a new value acts once, and the value acted upon is kept in `status.handledTokens`.
use std::collections::BTreeMap;

/// Level: copying stops while it is `true`; changes are still applied.
const THROTTLE: &str = "theseus.dev/throttle";
/// Level: as `spec.suspend`.
pub const PAUSE: &str = "theseus.dev/pause";
/// Level: `approved` opens the gate of the policy Manual.
const CUT_OVER: &str = "theseus.dev/cut-over";
/// Final: `true` stops the migration and cleans up.
const CANCEL: &str = "theseus.dev/cancel";
/// Level while the revert window is open: `true` takes the change back.
pub const REVERT: &str = "theseus.dev/revert";
/// Token: a new value starts a failed migration again.
const RETRY: &str = "theseus.dev/retry";

/// Token: with a new value the next attempt at the cut-over may kill what blocks it.
const FORCE_CUT_OVER: &str = "theseus.dev/force-cut-over";

const PREFIX: &str = "theseus.dev/";
/// The longest token: it is copied to the status.
const MAX_TOKEN_LENGTH: usize = 128;

/// What the annotations ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intents {
    /// Copying should stop.
    pub throttle: bool,
    /// The migration should stop and keep its work.
    pub pause: bool,
    /// The cut-over is approved.
    pub approved: bool,
    /// The migration should end and clean up.
    pub cancel: bool,
    /// The change should be taken back.
    pub revert: bool,
    /// The present retry token.
    pub retry: Option<String>,
    /// The present force token.
    pub force_cut_over: Option<String>,
    /// What was not valid; it is reported and ignored.
    pub invalid_annotations: Vec<InvalidAnnotation>,
}

/// An annotation of ours that is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAnnotation {
    /// The annotation.
    pub annotation: String,
    /// What would make sense.
    pub expected: &'static str,
}

impl std::fmt::Display for InvalidAnnotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "annotation {} is ignored: {}", self.annotation, self.expected)
    }
}

impl Intents {
    /// Reads the annotations of an object.
    pub fn read(annotations: &BTreeMap<String, String>) -> Self {
        let mut intents = Self::default();
        for (name, value) in annotations.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            let understood = match name.as_str() {
                THROTTLE => switch(value, &mut intents.throttle),
                PAUSE => switch(value, &mut intents.pause),
                CANCEL => switch(value, &mut intents.cancel),
                REVERT => switch(value, &mut intents.revert),
                CUT_OVER if value == "approved" => {
                    intents.approved = true;
                    Ok(())
                }
                CUT_OVER => Err("the value must be \"approved\"; remove the annotation to close the gate"),
                RETRY => token(value, &mut intents.retry),
                FORCE_CUT_OVER => token(value, &mut intents.force_cut_over),
                _ => Err("this version supports theseus.dev/throttle, pause, cut-over, force-cut-over, cancel, revert and retry"),
            };
            if let Err(expected) = understood {
                intents.invalid_annotations.push(InvalidAnnotation { annotation: name.clone(), expected });
            }
        }
        intents
    }
}

fn token(value: &str, token: &mut Option<String>) -> Result<(), &'static str> {
    if !(1..=MAX_TOKEN_LENGTH).contains(&value.len()) {
        return Err("the value must be a token of 1 to 128 characters, for example the time");
    }
    *token = Some(value.to_owned());
    Ok(())
}

fn switch(value: &str, on: &mut bool) -> Result<(), &'static str> {
    match value {
        "true" => *on = true,
        "false" => *on = false,
        _ => return Err("the value must be \"true\" or \"false\""),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Intents {
        Intents::read(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn values_that_make_sense() {
        let nothing = Intents::default();
        for (name, value, expected) in [
            (THROTTLE, "true", Intents { throttle: true, ..nothing.clone() }),
            (THROTTLE, "false", nothing.clone()),
            (PAUSE, "true", Intents { pause: true, ..nothing.clone() }),
            (CUT_OVER, "approved", Intents { approved: true, ..nothing.clone() }),
            (CANCEL, "true", Intents { cancel: true, ..nothing.clone() }),
            (REVERT, "true", Intents { revert: true, ..nothing.clone() }),
            (RETRY, "2026-01-01", Intents { retry: Some("2026-01-01".into()), ..nothing.clone() }),
            (FORCE_CUT_OVER, "now", Intents { force_cut_over: Some("now".into()), ..nothing.clone() }),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}", nothing.clone()),
            ("example.com/theseus.dev", "x", nothing.clone()),
        ] {
            assert_eq!(read(&[(name, value)]), expected, "{name}={value}");
        }
    }

    #[test]
    fn an_invalid_annotation_is_reported_and_the_rest_still_counts() {
        let long = "x".repeat(129);
        for (name, value) in [
            (THROTTLE, "yes"),
            (THROTTLE, ""),
            (PAUSE, "True"),
            (CANCEL, "1"),
            (CUT_OVER, "true"),
            (CUT_OVER, "Approved"),
            (CUT_OVER, ""),
            (RETRY, ""),
            (RETRY, &long),
            ("theseus.dev/trottle", "true"),
            (FORCE_CUT_OVER, ""),
            (FORCE_CUT_OVER, &long),
            (REVERT, "now"),
        ] {
            let intents = read(&[(name, value), (PAUSE, if name == PAUSE { value } else { "true" })]);
            assert_eq!(intents.invalid_annotations.len(), 1, "{name}={value}");
            assert_eq!(intents.invalid_annotations[0].annotation, name);
            assert_eq!(intents.pause, name != PAUSE);
            assert!(
                !intents.approved
                    && !intents.cancel
                    && !intents.throttle
                    && !intents.revert
                    && intents.retry.is_none()
                    && intents.force_cut_over.is_none()
            );
        }
    }
}
