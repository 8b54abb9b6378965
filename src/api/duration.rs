//! Durations as Kubernetes writes them: `500ms`, `3s`, `1h30m`, `24h`.
//!
//! The syntax is that of GEP-2257 (a subset of Go's): up to four numbers of up to five digits, each with a unit of `h`, `m`, `s` or `ms`.
//! It is what CEL's `duration()` reads too, so that the schema's rules can state bounds.
//! <https://gateway-api.sigs.k8s.io/geps/gep-2257/>
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

/// The pattern of the schema; `parse` accepts exactly this.
const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// The longest text that the pattern matches: four times five digits and two letters.
const MAX_LENGTH: u32 = 28;

/// A length of time, written `500ms`, `3s` or `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KubeDuration(pub Duration);

/// Text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write numbers with the units h, m, s or ms, for example 500ms or 1h30m")]
pub struct InvalidDuration(String);

impl KubeDuration {
    /// From milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// From seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

impl FromStr for KubeDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDuration(text.chars().take(64).collect());
        let mut rest = text;
        let mut total = Duration::ZERO;
        let mut parts = 0;
        while !rest.is_empty() {
            parts += 1;
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if parts > 4 || !(1..=5).contains(&digits) {
                return Err(invalid());
            }
            let (number, tail) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| invalid())?;
            // "ms" before "m": the longer unit wins, as in the pattern's own reading.
            let (millis, tail) = if let Some(tail) = tail.strip_prefix("ms") {
                (1, tail)
            } else if let Some(tail) = tail.strip_prefix('h') {
                (3_600_000, tail)
            } else if let Some(tail) = tail.strip_prefix('m') {
                (60_000, tail)
            } else if let Some(tail) = tail.strip_prefix('s') {
                (1_000, tail)
            } else {
                return Err(invalid());
            };
            total += Duration::from_millis(number * millis);
            rest = tail;
        }
        if parts == 0 { Err(invalid()) } else { Ok(Self(total)) }
    }
}

impl std::fmt::Display for KubeDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        let (hours, millis) = (millis / 3_600_000, millis % 3_600_000);
        let (minutes, millis) = (millis / 60_000, millis % 60_000);
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        for (number, unit) in [(hours, "h"), (minutes, "m"), (seconds, "s"), (millis, "ms")] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for KubeDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KubeDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for KubeDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH})
    }
}

/// How long the old table stays after the swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// `Keep`: it is never dropped.
    Keep,
    /// It is dropped this long after the migration has completed; `0s` drops it at once.
    For(KubeDuration),
}

impl Default for Retention {
    fn default() -> Self {
        Self::For(KubeDuration::from_secs(24 * 3600))
    }
}

impl Serialize for Retention {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep => serializer.serialize_str("Keep"),
            Self::For(duration) => duration.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Cow::<'de, str>::deserialize(deserializer)?.as_ref() {
            "Keep" => Ok(Self::Keep),
            text => text.parse().map(Self::For).map_err(de::Error::custom),
        }
    }
}

impl JsonSchema for Retention {
    fn schema_name() -> Cow<'static, str> {
        "Retention".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^(Keep|([0-9]{1,5}(h|m|s|ms)){1,4})$", "maxLength": MAX_LENGTH})
    }
}

/// `ttlAfterFinished`: empty keeps the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TimeToLive(pub Option<KubeDuration>);

impl Serialize for TimeToLive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            None => serializer.serialize_str(""),
            Some(duration) => duration.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for TimeToLive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Cow::<'de, str>::deserialize(deserializer)?.as_ref() {
            "" => Ok(Self(None)),
            text => text.parse().map(|duration| Self(Some(duration))).map_err(de::Error::custom),
        }
    }
}

impl JsonSchema for TimeToLive {
    fn schema_name() -> Cow<'static, str> {
        "TimeToLive".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^(|([0-9]{1,5}(h|m|s|ms)){1,4})$", "maxLength": MAX_LENGTH})
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_pattern_matches_and_nothing_else() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("3s", 3_000),
            ("1m", 60_000),
            ("24h", 86_400_000),
            ("1h30m", 5_400_000),
            ("1h2m3s4ms", 3_723_004),
            ("99999h", 99_999 * 3_600_000),
        ] {
            assert_eq!(text.parse(), Ok(KubeDuration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "-1s", "1.5h", "1d", "1h 2m", " 1s", "1s ", "100000s", "1s1s1s1s1s", "ms", "s", "１s", "1µs", "1h2"] {
            assert!(text.parse::<KubeDuration>().is_err(), "{text:?} was read");
        }
    }

    #[test]
    fn retention_and_time_to_live_have_their_words() {
        let read = |text: &str| serde_json::from_value::<Retention>(text.into());
        assert_eq!(read("Keep").ok(), Some(Retention::Keep));
        assert_eq!(read("0s").ok(), Some(Retention::For(KubeDuration::from_secs(0))));
        assert!(read("keep").is_err());
        assert!(read("").is_err());
        assert_eq!(serde_json::to_value(Retention::default()).ok(), Some("24h".into()));
        let read = |text: &str| serde_json::from_value::<TimeToLive>(text.into());
        assert_eq!(read("").ok(), Some(TimeToLive(None)));
        assert_eq!(read("1h").ok(), Some(TimeToLive(Some(KubeDuration::from_secs(3600)))));
        assert!(read("never").is_err());
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(millis in 0..(99_999u64 * 3_600_000)) {
            let duration = KubeDuration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn reading_never_panics(text in "\\PC*") {
            let _ = text.parse::<KubeDuration>();
        }
    }
}
