//! Names the engine gives: ghost, state and old table, the owner's lock.

use sha2::{Digest, Sha256};

use super::quote::hex;

/// Longest generated table name, in characters.
///
/// MySQL allows 64, but it names an unnamed CHECK constraint `{table}_chk_{n}` and renames those along with the table, and
/// that name has the same limit: 8 characters are left for `_chk_` and three digits.
const MAX_TABLE_NAME: usize = 56;

/// Longest identifier in MySQL, in characters.
pub const MAX_IDENTIFIER: usize = 64;

/// InnoDB names a file after the table and writes every character that is not an ASCII letter, digit or `_` as up to five
/// (`@0123`); Linux takes 255 bytes, `.ibd` and a partition's suffix included.
const MAX_FILE_NAME: usize = 200;

/// The three tables beside the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableNames {
    /// `_T_gho`: the table with the new definition.
    pub ghost: String,
    /// `_T_ghc`: the migration's state (gh-ost calls it the changelog).
    pub state: String,
    /// `_T_del`: what the original is called after the cut-over; `_T_20261129031500_del` where an earlier migration's old table, or
    /// someone else's, has that name.
    pub old: String,
}

impl TableNames {
    /// The names for a table. The same table always gives the same names; two tables never share one.
    pub fn for_table(table: &str) -> TableNames {
        TableNames { ghost: derived(table, "_gho"), state: derived(table, "_ghc"), old: derived(table, "_del") }
    }

    /// The names for a migration on a replica alone: other ones, because those above may arrive from its source at any time, and a table
    /// that is there already would stop the replica.
    pub fn on_replica(table: &str) -> TableNames {
        TableNames { ghost: derived(table, "_rgho"), state: derived(table, "_rghc"), old: derived(table, "_rdel") }
    }
}

/// A point of time as it stands in names, `20261129031500`: UTC, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64);

/// Digits of a [`Stamp`].
const STAMP_DIGITS: usize = 14;

impl Stamp {
    /// Of 14 digits as a number; more are cut off.
    pub fn new(digits: u64) -> Self {
        Self(digits % 10_u64.pow(14))
    }

    /// What an old table is called at this time.
    pub fn old(self, table: &str, on_replica: bool) -> String {
        self.name(table, if on_replica { "_rdel" } else { "_del" })
    }

    /// What the state table of a finished migration is called when a later one needs the name: it says whose the old table is.
    pub fn kept_state(self, table: &str, on_replica: bool) -> String {
        self.name(table, kept(on_replica))
    }

    fn name(self, table: &str, suffix: &str) -> String {
        derived(table, &format!("_{:014}{suffix}", self.0))
    }
}

fn kept(on_replica: bool) -> &'static str {
    if on_replica { "_rghc" } else { "_ghc" }
}

/// Whether a name is one that [`Stamp::kept_state`] gives for this table at some time.
pub fn is_kept_state(table: &str, on_replica: bool, name: &str) -> bool {
    let digits = name.strip_suffix(kept(on_replica)).and_then(|rest| rest.get(rest.len().checked_sub(STAMP_DIGITS)?..));
    let stamp = digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit())).and_then(|d| d.parse().ok());
    stamp.is_some_and(|stamp| Stamp(stamp).kept_state(table, on_replica) == name)
}

/// `_{table}{suffix}`, with the end of a long table name replaced by a hash of all of it.
fn derived(table: &str, suffix: &str) -> String {
    let plain = format!("_{table}{suffix}");
    if plain.chars().count() <= MAX_TABLE_NAME && file_length(&plain) <= MAX_FILE_NAME {
        return plain;
    }
    let hash = digest(&[table], 10);
    let tail = format!("_{hash}{suffix}");
    let mut name = String::from("_");
    for c in table.chars() {
        let longer = name.chars().count() + 1 + tail.chars().count();
        let encoded = file_length(&name) + file_length(c.encode_utf8(&mut [0; 4])) + tail.len();
        if longer > MAX_TABLE_NAME || encoded > MAX_FILE_NAME {
            break;
        }
        name.push(c);
    }
    name + &tail
}

/// Upper bound for the bytes of a name in a file name.
fn file_length(name: &str) -> usize {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { 1 } else { 5 }).sum()
}

/// As a server of `lower_case_table_names=1` keeps the name of a schema or a table: one character for one.
pub fn lower(name: &str) -> String {
    name.chars()
        .map(|c| {
            let mut lower = c.to_lowercase();
            if lower.len() == 1 { lower.next().unwrap_or(c) } else { c }
        })
        .collect()
}

/// Whether a name stands in a text as a word of its own, quoted or not, in any case.
pub fn stands_in(text: &str, name: &str) -> bool {
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    !name.is_empty()
        && text.match_indices(&name).any(|(at, found)| {
            !text[..at].chars().next_back().is_some_and(part) && !text[at + found.len()..].chars().next().is_some_and(part)
        })
}

/// The first `digits` hexadecimal digits (lower case) of a SHA-256 over the parts.
fn digest(parts: &[&str], digits: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        // No identifier holds a NUL, so ("a", "bc") and ("ab", "c") differ.
        hash.update([0]);
    }
    let mut text = hex(&hash.finalize()).to_lowercase();
    text.truncate(digits);
    text
}

/// `name` if it has at most `limit` characters, else its beginning and a hash of all of it.
pub(crate) fn shortened(name: &str, limit: usize) -> String {
    if name.chars().count() <= limit {
        return name.to_owned();
    }
    let tail = format!("_{}", digest(&[name], 10));
    name.chars().take(limit.saturating_sub(tail.len())).chain(tail.chars()).collect()
}

/// The name for `GET_LOCK` that makes one engine the owner of a table: at most 64 characters.
///
/// A hash is always part of it, because lock names ignore case and table names may not.
pub fn lock_name(db: &str, table: &str) -> String {
    let readable: String = format!("{db}.{table}").chars().take(36).collect();
    format!("theseus:{readable}:{}", digest(&[db, table], 16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn short_names_are_ghosts_own() {
        let names = TableNames::for_table("orders");
        assert_eq!((names.ghost.as_str(), names.state.as_str(), names.old.as_str()), ("_orders_gho", "_orders_ghc", "_orders_del"));
    }

    #[test]
    fn long_names_are_short_stable_and_distinct() {
        let mut seen = HashSet::new();
        for table in ["x".repeat(64), "x".repeat(63) + "y", "ж".repeat(64), "ж".repeat(40), "a".repeat(50), "a".repeat(52)] {
            let (names, there) = (TableNames::for_table(&table), TableNames::on_replica(&table));
            assert_eq!(names, TableNames::for_table(&table));
            for name in [names.ghost, names.state, names.old, there.ghost, there.state, there.old] {
                assert!(name.chars().count() <= MAX_TABLE_NAME, "{name}");
                assert!(file_length(&name) <= MAX_FILE_NAME, "{name}");
                assert!(seen.insert(name));
            }
        }
        assert_eq!(TableNames::for_table(&"a".repeat(51)).ghost, format!("_{}_gho", "a".repeat(51)));
    }

    #[test]
    fn names_with_a_time_are_told_apart() {
        let stamp = Stamp::new(20_261_129_031_500);
        assert_eq!(
            (stamp.old("orders", false).as_str(), stamp.old("orders", true).as_str()),
            ("_orders_20261129031500_del", "_orders_20261129031500_rdel")
        );
        for table in ["orders", "ordérs", &"x".repeat(64), &"ж".repeat(64), "a_20250101000000"] {
            for on_replica in [false, true] {
                let name = stamp.kept_state(table, on_replica);
                assert!(name.chars().count() <= MAX_TABLE_NAME && file_length(&name) <= MAX_FILE_NAME, "{name}");
                assert!(is_kept_state(table, on_replica, &name), "{name}");
                assert!(!is_kept_state("other", on_replica, &name) && !is_kept_state(table, !on_replica, &name), "{name}");
            }
        }
        for name in ["_orders_ghc", "_orders_2026112903150_ghc", "_orders_20261129031500_del", "_ghc", "é_ghc"] {
            assert!(!is_kept_state("orders", false, name), "{name}");
        }
    }

    #[test]
    fn locks() {
        assert!(lock_name("shop", "orders").starts_with("theseus:shop.orders:"));
        assert!(lock_name(&"ж".repeat(64), &"x".repeat(64)).chars().count() <= 64);
        assert_ne!(lock_name("shop", "orders"), lock_name("shop", "Orders"));
        assert_ne!(lock_name("a.b", "c"), lock_name("a", "b.c"));
    }

    #[test]
    fn words_are_whole_words() {
        for (text, name, expected) in [
            ("select `a`.`Status` from a", "status", true),
            ("select old_status from a", "status", false),
            ("status", "status", true),
            ("NEW.status=1", "STATUS", true),
            ("statuses", "status", false),
            ("SET NEW.`status` = 1", "STATUS", true),
            ("", "x", false),
            ("x", "", false),
        ] {
            assert_eq!(stands_in(text, name), expected, "{name} in {text}");
        }
    }
}
