//! Numbers of bytes as Kubernetes writes them: `500Gi`, `2T`, `1048576`.
//!
//! Whole numbers with the suffixes of a resource quantity, decimal (`k` … `P`) and binary (`Ki` … `Pi`).
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::str::FromStr;

/// The pattern of the schema; `parse` accepts exactly this.
const PATTERN: &str = "^([0-9]{1,15}([kMGTP]|[KMGTP]i)?)?$";
/// The longest text that the pattern matches.
const MAX_LENGTH: u32 = 17;
/// Suffixes with their factors; where both fit, the larger one is written.
const UNITS: [(&str, u64); 10] = [
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

/// A limit in bytes; `""` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ByteLimit(pub Option<u64>);

/// Text that is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a number of bytes: write a whole number with or without a unit of k, M, G, T, P, Ki, Mi, Gi, Ti or Pi, for example 500Gi"
)]
pub struct InvalidBytes(String);

impl FromStr for ByteLimit {
    type Err = InvalidBytes;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let invalid = || InvalidBytes(text.chars().take(64).collect());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=15).contains(&digits) {
            return Err(invalid());
        }
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "" => 1,
            unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?.1,
        };
        let number: u64 = number.parse().map_err(|_| invalid())?;
        Ok(Self(Some(number.saturating_mul(factor))))
    }
}

impl std::fmt::Display for ByteLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(bytes) = self.0 else { return Ok(()) };
        match UNITS.iter().find(|(_, factor)| bytes > 0 && bytes % factor == 0) {
            Some((unit, factor)) => write!(f, "{}{unit}", bytes / factor),
            None => write!(f, "{bytes}"),
        }
    }
}

impl Serialize for ByteLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for ByteLimit {
    fn schema_name() -> Cow<'static, str> {
        "ByteLimit".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_kubernetes_writes_them() {
        for (text, bytes) in [
            ("", None),
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("500Gi", Some(500 << 30)),
            ("2T", Some(2_000_000_000_000)),
            ("7k", Some(7000)),
            ("7Ki", Some(7168)),
            ("999999999999999Pi", Some(u64::MAX)),
        ] {
            assert_eq!(text.parse(), Ok(ByteLimit(bytes)), "{text}");
        }
        for text in ["Gi", "5 Gi", "5gi", "5K", "-1", "1.5Gi", "1e3", "1000000000000000", "5GiB", "٣"] {
            assert!(text.parse::<ByteLimit>().is_err(), "{text:?} was read");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for bytes in [None, Some(0), Some(1), Some(1000), Some(1024), Some(1_000_000), Some(500 << 30), Some(3 << 50), Some(123_456_789)] {
            let text = ByteLimit(bytes).to_string();
            assert_eq!(text.parse(), Ok(ByteLimit(bytes)), "{text}");
        }
    }
}
