//! What a session is for, and what its variables are then. Pure; [`super::session`] sets them and reads them back.
//!
//! | purpose | grammar and modes | time zone |
//! |---|---|---|
//! | [`Purpose::Own`]: look, lock, keep state | the default grammar, strict, any date | UTC |
//! | [`Purpose::Definition`]: make a table from its own definition | the same, and the server's settings for definitions | UTC |
//! | [`Purpose::Clauses`]: the user's clauses | the server's, strict besides | the server's |
//! | [`Purpose::Rows`]: copy and compare rows | the server's modes for values, the default grammar (no text of the user's is parsed), strict besides | the server's, or UTC where no value depends on it |

use super::variables;
use crate::sql::token::Grammar;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// UTC, as an offset: a server's tables of zones may be empty.
const UTC: &str = "+00:00";
/// Strict, so a value that does not fit is an error and never silently another value; NO_AUTO_VALUE_ON_ZERO, so a stored 0 stays 0.
const OWN_MODES: [&str; 3] = [STRICT[0], STRICT[1], AS_STORED];
const STRICT: [&str; 2] = ["STRICT_ALL_TABLES", "STRICT_TRANS_TABLES"];
const AS_STORED: &str = "NO_AUTO_VALUE_ON_ZERO";
/// Names of tables and columns that are bound to statements must survive the connection's character set.
const OWN_COLLATION: &str = "utf8mb4_0900_ai_ci";

/// Off, the first TIMESTAMP column of a definition without DEFAULT gets one.
const IMPLICIT_TIMESTAMPS: &str = "explicit_defaults_for_timestamp";

/// Modes that say how a text is read. Combinations (`ANSI`, `TRADITIONAL`) are shown by the server beside what they stand for.
const GRAMMAR: [&str; 8] = [
    "ANSI_QUOTES",
    "NO_BACKSLASH_ESCAPES",
    "PIPES_AS_CONCAT",
    "IGNORE_SPACE",
    "HIGH_NOT_PRECEDENCE",
    "REAL_AS_FLOAT",
    "ONLY_FULL_GROUP_BY",
    "ANSI",
];
/// Modes that say which dates may be stored.
const DATES: [&str; 3] = ["NO_ZERO_DATE", "NO_ZERO_IN_DATE", "ALLOW_INVALID_DATES"];

/// The server's class of variables as it was when a migration began, and the time of that moment: all of *f* that is not in the rows. Stored
/// with the work, so that every session of every engine evaluates alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerValues {
    /// By name, as SHOW GLOBAL VARIABLES gives them.
    pub variables: BTreeMap<String, String>,
    /// Seconds since 1970 with six digits after the point.
    pub now: String,
    /// The same as a date and time in the server's zone.
    pub now_there: String,
    /// Seconds east of UTC, if the server's zone never changes between 1970 and 2038.
    pub offset: Option<i32>,
    /// Tells one zone from another, whatever it is called: `SYSTEM` is each server's own.
    pub zone_print: u64,
}

impl ServerValues {
    /// A variable; empty when the server does not have it.
    pub fn get(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    fn modes(&self) -> impl Iterator<Item = &str> {
        self.get("sql_mode").split(',').map(str::trim).filter(|mode| !mode.is_empty())
    }

    /// Whether a mode is set.
    pub fn has_mode(&self, mode: &str) -> bool {
        self.modes().any(|m| m == mode)
    }

    /// The same without the modes for dates: for a definition that has what they refuse already.
    #[must_use]
    pub fn with_any_date(&self) -> Self {
        let kept: Vec<&str> = self.modes().filter(|mode| !DATES.contains(mode)).collect();
        let mut values = self.clone();
        values.variables.insert("sql_mode".to_owned(), modes(kept.into_iter()));
        values
    }

    /// How the server's clients write.
    pub fn grammar(&self) -> Grammar {
        Grammar { ansi_quotes: self.has_mode("ANSI_QUOTES"), no_backslash_escapes: self.has_mode("NO_BACKSLASH_ESCAPES") }
    }
}

/// How rows are evaluated: see [`Purpose::Rows`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowSettings {
    /// The server's.
    pub values: ServerValues,
    /// Whether a value of a row depends on the time zone.
    pub in_servers_zone: bool,
    /// Whether dates are only moved and none is made: then what is stored is copied, zero and invalid dates as well.
    pub any_date: bool,
    /// Whether a value depends on the present time.
    pub fixed_time: bool,
}

impl RowSettings {
    fn modes(&self, own: &[&str]) -> String {
        let of_values = self.values.modes().filter(|mode| !(GRAMMAR.contains(mode) || self.any_date && DATES.contains(mode)));
        let more = if self.any_date { Some("ALLOW_INVALID_DATES") } else { None };
        modes(of_values.chain(own.iter().copied()).chain(more).filter(|mode| !STRICT.contains(mode) || own.contains(mode)))
    }

    /// `sql_mode` in such a session, for a statement that is not to be strict.
    pub fn modes_but_strict(&self) -> String {
        self.modes(&[AS_STORED])
    }
}

/// What a session is for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'a> {
    /// Look, lock, keep state.
    Own,
    /// Make a table from its own definition, as it is read in [`Purpose::Own`].
    Definition(&'a ServerValues),
    /// The user's clauses.
    Clauses(&'a ServerValues),
    /// Copy and compare rows.
    Rows(&'a RowSettings),
}

impl Purpose<'_> {
    /// Variables that differ by the purpose, and their values. `timestamp` is `0` for the server's clock.
    pub fn wanted(&self) -> Vec<(String, String)> {
        let own = OWN_MODES.iter().copied();
        let (zone, modes, time) = match self {
            Purpose::Own | Purpose::Definition(_) => (UTC, modes(own), "0"),
            Purpose::Clauses(values) => (values.get("time_zone"), modes(values.modes().chain(own.take(2))), "0"),
            Purpose::Rows(rows) => {
                let zone = if rows.in_servers_zone { rows.values.get("time_zone") } else { UTC };
                (zone, rows.modes(&OWN_MODES), if rows.fixed_time { rows.values.now.as_str() } else { "0" })
            }
        };
        let mut wanted: Vec<(String, String)> = [("time_zone", zone), ("sql_mode", &modes), ("timestamp", time)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let (values, rows_only) = match self {
            Purpose::Own => {
                wanted.push(("collation_connection".to_owned(), OWN_COLLATION.to_owned()));
                return wanted;
            }
            Purpose::Definition(values) | Purpose::Clauses(values) => (*values, false),
            Purpose::Rows(rows) => (&rows.values, true),
        };
        // A definition that is read says what a TIMESTAMP column is; the clauses may not, and then it is the server's to say.
        let definition = matches!(self, Purpose::Definition(_));
        if definition {
            wanted.push((IMPLICIT_TIMESTAMPS.to_owned(), "ON".to_owned()));
        }
        for (name, value) in &values.variables {
            // The character set goes with the collation.
            let done =
                matches!(name.as_str(), "time_zone" | "sql_mode" | "character_set_connection") || definition && name == IMPLICIT_TIMESTAMPS;
            if !done && (!rows_only || variables::counts_for_rows(name)) {
                wanted.push((name.clone(), value.clone()));
            }
        }
        wanted
    }
}

/// A list of modes without those that stand for several: the server shows these beside what they stand for, and would add to it.
fn modes<'m>(all: impl Iterator<Item = &'m str>) -> String {
    let mut list: Vec<&str> = all.filter(|mode| !matches!(*mode, "ANSI" | "TRADITIONAL")).collect();
    list.sort_unstable();
    list.dedup();
    list.join(",")
}

/// Whether a variable has a value, in whatever form the server shows either.
pub fn same(name: &str, has: &str, wanted: &str) -> bool {
    let plain = |value: &str| match value.trim().to_ascii_uppercase().as_str() {
        "ON" | "YES" | "TRUE" => "1".to_owned(),
        "OFF" | "NO" | "FALSE" => "0".to_owned(),
        "NULL" => String::new(),
        other => other.to_owned(),
    };
    match name {
        "sql_mode" => modes(has.split(',').map(str::trim).filter(|m| !m.is_empty())) == modes(wanted.split(',').filter(|m| !m.is_empty())),
        "max_error_count" => matches!((has.parse::<u64>(), wanted.parse::<u64>()), (Ok(has), Ok(wanted)) if has >= wanted),
        "timestamp" => match (has.parse::<f64>(), wanted.parse::<f64>()) {
            // A double has no more digits; and the clock is never at a fixed time.
            (Ok(has), Ok(wanted)) => wanted == 0.0 || (has - wanted).abs() < 1e-5,
            _ => false,
        },
        _ => plain(has) == plain(wanted),
    }
}

/// A value as SET takes it.
pub fn literal(value: &str) -> String {
    let number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match value {
        number_text if number => number_text.to_owned(),
        "" | "NULL" => "DEFAULT".to_owned(),
        // With an introducer: a plain text would have the connection's character set, and nobody finds a time zone by its name in UTF-16.
        text => format!("_utf8mb4'{}'", text.replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(modes: &str) -> ServerValues {
        let variables = [("sql_mode", modes), ("time_zone", "Europe/Berlin"), ("default_week_format", "3"), ("innodb_strict_mode", "OFF")];
        ServerValues {
            variables: variables.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
            now: "1.500000".into(),
            ..ServerValues::default()
        }
    }

    fn of<'w>(wanted: &'w [(String, String)], name: &str) -> Option<&'w str> {
        wanted.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    #[test]
    fn each_purpose_has_its_values() {
        let server = values("ANSI,ANSI_QUOTES,PIPES_AS_CONCAT,NO_ZERO_DATE,NO_UNSIGNED_SUBTRACTION");
        let own = Purpose::Own.wanted();
        assert_eq!((of(&own, "time_zone"), of(&own, "default_week_format")), (Some("+00:00"), None));
        let clauses = Purpose::Clauses(&server).wanted();
        assert_eq!(of(&clauses, "time_zone"), Some("Europe/Berlin"));
        assert_eq!(
            of(&clauses, "sql_mode"),
            Some("ANSI_QUOTES,NO_UNSIGNED_SUBTRACTION,NO_ZERO_DATE,PIPES_AS_CONCAT,STRICT_ALL_TABLES,STRICT_TRANS_TABLES")
        );
        assert_eq!(of(&clauses, "innodb_strict_mode"), Some("OFF"));
        let mut rows = RowSettings { values: server, in_servers_zone: false, any_date: true, fixed_time: true };
        let wanted = Purpose::Rows(&rows).wanted();
        assert_eq!((of(&wanted, "time_zone"), of(&wanted, "timestamp")), (Some("+00:00"), Some("1.500000")));
        assert_eq!(
            of(&wanted, "sql_mode"),
            Some("ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_UNSIGNED_SUBTRACTION,STRICT_ALL_TABLES,STRICT_TRANS_TABLES")
        );
        assert_eq!((of(&wanted, "innodb_strict_mode"), of(&wanted, "default_week_format")), (None, Some("3")));
        rows.any_date = false;
        assert!(of(&Purpose::Rows(&rows).wanted(), "sql_mode").is_some_and(|m| m.contains("NO_ZERO_DATE")));
    }

    #[test]
    fn values_are_compared_as_values() {
        for (name, has, wanted, expected) in [
            ("autocommit", "ON", "1", true),
            ("autocommit", "OFF", "1", false),
            ("sql_mode", "B,A", "A,B", true),
            ("sql_mode", "ANSI,A", "A", true),
            ("sql_mode", "A", "", false),
            ("max_error_count", "1024", "64", true),
            ("max_error_count", "0", "64", false),
            ("timestamp", "1732842000.123456", "1732842000.123456", true),
            ("timestamp", "1732842000.1", "0", true),
            ("timestamp", "1732842001", "1732842000.123456", false),
            ("time_zone", "SYSTEM", "system", true),
            ("innodb_ft_user_stopword_table", "NULL", "", true),
        ] {
            assert_eq!(same(name, has, wanted), expected, "{name}: {has} and {wanted}");
        }
    }
}
