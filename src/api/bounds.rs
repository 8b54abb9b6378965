//! The bounds of fields that take a duration or a number, said once: the schema's rules, the validation, and the live setters of
//! `theseus ctl` agree because they read them here (a test compares the schema).

use super::duration::KubeDuration;
use std::collections::BTreeMap;
use std::time::Duration;

/// The bounds of a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationBounds {
    /// The field, below `spec`.
    pub field: &'static str,
    /// The shortest.
    pub least: Duration,
    /// The longest.
    pub most: Duration,
    /// Whether `0s` switches off what the field is for.
    pub zero: bool,
}

/// The bounds of a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberBounds {
    /// The field, below `spec`.
    pub field: &'static str,
    /// The smallest.
    pub least: u16,
    /// The largest.
    pub most: u16,
}

const fn bounds(field: &'static str, least: Duration, most: Duration, zero: bool) -> DurationBounds {
    DurationBounds { field, least, most, zero }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A chunk much shorter than 10 ms is all commits; one longer than 10 s cannot be throttled.
pub const TARGET_CHUNK_TIME: DurationBounds = bounds("copy.targetChunkTime", Duration::from_millis(10), Duration::from_secs(10), false);
/// A heartbeat is written five times a second: a limit below a second would measure the heartbeat.
pub const MAX_REPLICA_LAG: DurationBounds = bounds("throttle.maxReplicaLag", SECOND, DAY, true);
/// Locks are granted by the second (`lock_wait_timeout`); clients wait as long as this.
pub const LOCK_TIMEOUT: DurationBounds = bounds("cutOver.lockTimeout", SECOND, MINUTE, false);
/// Ages of transactions have a resolution of a second.
pub const KILL_BLOCKERS_AFTER: DurationBounds = bounds("cutOver.killBlockersAfter", SECOND, DAY, true);
/// Shorter than a minute nobody could use it; longer than a month is a table that is kept twice.
pub const REVERT_WINDOW: DurationBounds = bounds("revert.window", MINUTE, Duration::from_secs(30 * 24 * 3600), true);
/// A hook holds the swap for as long.
pub const HOOK_TIMEOUT: DurationBounds = bounds("hooks[].timeout", SECOND, MINUTE, false);
/// More connections than this gain nothing on any server that was measured.
pub const WORKERS: NumberBounds = NumberBounds { field: "copy.workers", least: 0, most: 64 };
/// 1000 % is an eleventh of the speed.
pub const NICE_RATIO_PERCENT: NumberBounds = NumberBounds { field: "throttle.niceRatioPercent", least: 0, most: 1000 };
/// Each table bound by a foreign key takes some 10 to 50 ms under the lock: 200 of them are seconds.
pub const MAX_LOCKED_TABLES: NumberBounds = NumberBounds { field: "cutOver.maxLockedTables", least: 1, most: 200 };

/// A schedule has whole minutes, and repeats itself after a week in practice. The engine holds the same (a test compares).
pub const WINDOW_DURATION: DurationBounds = bounds("cutOver.windows[].duration", MINUTE, Duration::from_secs(7 * 24 * 3600), false);
/// Characters of `spec.alter`, and of `spec.desired`.
pub const ALTER_LENGTH: usize = 32_768;

/// Every duration with bounds, for the test of the schema.
pub const DURATIONS: [DurationBounds; 7] =
    [TARGET_CHUNK_TIME, MAX_REPLICA_LAG, LOCK_TIMEOUT, KILL_BLOCKERS_AFTER, REVERT_WINDOW, HOOK_TIMEOUT, WINDOW_DURATION];
/// Every number with bounds, for the test of the schema.
pub const NUMBERS: [NumberBounds; 3] = [WORKERS, NICE_RATIO_PERCENT, MAX_LOCKED_TABLES];

impl DurationBounds {
    /// `between 1s and 1m`, `0s, or between 1s and 24h`.
    pub fn words(&self) -> String {
        let zero = if self.zero { "0s, or " } else { "" };
        format!("{zero}between {} and {}", KubeDuration(self.least), KubeDuration(self.most))
    }

    /// The value, where it is inside; `name` is what the user knows the field by.
    ///
    /// # Errors
    /// A sentence with the bounds and the value.
    pub fn check(&self, name: &str, value: Duration) -> Result<Duration, String> {
        if (self.least..=self.most).contains(&value) || (self.zero && value.is_zero()) {
            return Ok(value);
        }
        Err(format!("{name} must be {}; it is {}", self.words(), KubeDuration(value)))
    }

    /// As [`DurationBounds::check`]; `None` for the zero that switches off.
    ///
    /// # Errors
    /// As [`DurationBounds::check`].
    pub fn check_or_off(&self, name: &str, value: Duration) -> Result<Option<Duration>, String> {
        self.check(name, value).map(|value| Some(value).filter(|value| !value.is_zero()))
    }
}

impl NumberBounds {
    /// The value, where it is inside.
    ///
    /// # Errors
    /// A sentence with the bounds and the value.
    pub fn check(&self, name: &str, value: i64) -> Result<u16, String> {
        let inside = u16::try_from(value).ok().filter(|value| (self.least..=self.most).contains(value));
        inside.ok_or_else(|| format!("{name} must be a number between {} and {}; it is {value}", self.least, self.most))
    }
}

/// Limits of status variables (`maxLoad`, `criticalLoad`). Whether the server has a variable of that name, only the server can tell.
///
/// # Errors
/// A sentence with the name and the number.
pub fn load(name: &str, limits: impl IntoIterator<Item = (String, i64)>) -> Result<BTreeMap<String, u64>, String> {
    let one = |(variable, limit): (String, i64)| match u64::try_from(limit) {
        Ok(limit) if !variable.is_empty() && variable.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => Ok((variable, limit)),
        _ => Err(format!("{name} must map status variables to numbers of 0 or more; it has {variable:?}: {limit}")),
    };
    limits.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SchemaMigration;
    use kube::CustomResourceExt as _;
    use serde_json::Value;

    fn schema(field: &str) -> Value {
        let crd = serde_json::to_value(SchemaMigration::crd()).unwrap();
        let mut at = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone();
        for step in field.split('.') {
            let (name, list) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
            at = at["properties"][name].clone();
            if list {
                at = at["items"].clone();
            }
        }
        assert!(at.is_object(), "the schema has no field {field}");
        at
    }

    /// The API server refuses what the validation refuses, in the same words.
    #[test]
    fn the_schema_has_these_bounds() {
        for bounds in DURATIONS {
            let found = schema(bounds.field);
            let name = bounds.field.rsplit('.').next().unwrap();
            let rules = found["x-kubernetes-validations"].as_array().unwrap();
            let message = format!("{name} must be {}", bounds.words());
            let rule = rules.iter().find(|rule| rule["message"] == message.as_str());
            let rule = rule.unwrap_or_else(|| panic!("{} has no rule with the message {message:?}: {rules:?}", bounds.field))["rule"]
                .as_str()
                .unwrap();
            for limit in [format!(">= duration('{}')", KubeDuration(bounds.least)), format!("<= duration('{}')", KubeDuration(bounds.most))]
            {
                assert!(rule.contains(&limit), "{}: {rule} has no {limit}", bounds.field);
            }
            assert_eq!(rule.contains("== duration('0s')"), bounds.zero, "{}: {rule}", bounds.field);
        }
        for bounds in NUMBERS {
            let found = schema(bounds.field);
            assert_eq!(
                (found["minimum"].as_f64(), found["maximum"].as_f64()),
                (Some(f64::from(bounds.least)), Some(f64::from(bounds.most))),
                "{}",
                bounds.field
            );
        }
    }

    #[test]
    fn the_schema_has_these_lengths() {
        use crate::api::schema_migration::{MAX_AFTER, MAX_HOOKS, MAX_WINDOWS};
        for (field, bound, most) in [
            ("alter", "maxLength", ALTER_LENGTH),
            ("hooks", "maxItems", MAX_HOOKS),
            ("cutOver.windows", "maxItems", MAX_WINDOWS),
            ("after", "maxItems", MAX_AFTER),
        ] {
            assert_eq!(schema(field)[bound].as_u64(), Some(most as u64), "{field}");
        }
    }

    #[test]
    fn bounds_are_kept() {
        let ms = Duration::from_millis;
        for (bounds, value, good) in [
            (MAX_REPLICA_LAG, ms(0), true),
            (MAX_REPLICA_LAG, ms(1), false),
            (MAX_REPLICA_LAG, ms(999), false),
            (MAX_REPLICA_LAG, ms(1000), true),
            (MAX_REPLICA_LAG, DAY + ms(1), false),
            (LOCK_TIMEOUT, ms(0), false),
            (LOCK_TIMEOUT, MINUTE, true),
            (TARGET_CHUNK_TIME, ms(9), false),
        ] {
            assert_eq!(bounds.check("x", value).is_ok(), good, "{} {value:?}", bounds.field);
        }
        assert_eq!(MAX_REPLICA_LAG.check_or_off("x", ms(0)), Ok(None));
        assert_eq!(WORKERS.check("workers", 65), Err("workers must be a number between 0 and 64; it is 65".to_owned()));
        assert!(WORKERS.check("workers", -1).is_err());
    }
}
