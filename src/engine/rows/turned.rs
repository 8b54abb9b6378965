//! The engine turned round: after the swap it follows the new table and keeps the old one current, so that the change can be taken back.
//!
//! Everything is as before the swap with the two tables in each other's place (the new table is the *original* of such a
//! [`super::migration::Migration`], the old one its *ghost*), but for this: rows that live through the change keep what they have in columns
//! that the change dropped. So a row is put aside with these values before it is removed, and comes back with them in the same transaction.
//!
//! Promises: nothing that a row has in such a column is lost by a crash, because no transaction removes a row that another one writes again.
//! Relies on temporary tables of InnoDB being rolled back with the transaction.

use super::numbers::Tables;
use crate::sql::key::{KeyCodec, MigrationKey, Side};
use crate::sql::mapping::ColumnMapping;
use crate::sql::quote;

/// The rows that are about to be written again; private to its session.
const KEPT: &str = "_theseus_kept";

/// What is different where the engine is turned round.
#[derive(Debug)]
pub struct Turned {
    /// How the change itself maps the old table's columns to the new one's: the comparison goes by it.
    pub change: ColumnMapping,
    /// The statement that swapped the tables, as it stands in the log.
    pub swap: String,
    /// Columns of the old table that the change dropped, quoted.
    pub kept: Vec<String>,
    /// The tables have just been swapped on this server: no engine, whose connections this one may not know, has written to the old table yet.
    pub untouched: bool,
}

fn table(database: &str) -> String {
    quote::qualified(database, KEPT)
}

fn keys(key: &MigrationKey) -> Vec<String> {
    (0..key.columns.len()).map(|at| format!("_theseus_key{at}")).collect()
}

impl Turned {
    /// Whether rows are put aside before they are removed.
    pub fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    fn columns(&self) -> Vec<String> {
        (0..self.kept.len()).map(|at| format!("_theseus_column{at}")).collect()
    }

    /// What goes before a DELETE of the ghost's rows that `condition` names.
    pub fn put_aside(&self, tables: Tables<'_>, key: &MigrationKey, codec: &KeyCodec, condition: &str) -> String {
        let Tables { database, original, ghost } = tables;
        let (kept, keys, columns) = (table(database), keys(key), self.columns());
        // Keys of the original's types: rows are found by them.
        let of_key = codec.exact(Side::Original, &format!("{original}."));
        let made = of_key.iter().zip(&keys).map(|(value, name)| format!("{value} AS {name}"));
        let values = self.kept.iter().zip(&columns).map(|(column, name)| format!("{ghost}.{column} AS {name}"));
        let read: Vec<String> = codec.exact(Side::Ghost, "").into_iter().chain(self.kept.iter().cloned()).collect();
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {kept} (PRIMARY KEY ({})) SELECT {} FROM {original}, {ghost} LIMIT 0; \
             REPLACE INTO {kept} ({}) SELECT {} FROM {ghost} WHERE {condition}; ",
            keys.join(", "),
            made.chain(values).collect::<Vec<_>>().join(", "),
            keys.iter().chain(&columns).cloned().collect::<Vec<_>>().join(", "),
            read.join(", "),
        )
    }

    /// The two statements that one INSERT … SELECT becomes: rows that were put aside, which keep their values, and rows that are new. Each is told as
    /// what is inserted besides, what is selected besides, what is joined, and which rows it is for.
    pub fn two_kinds(&self, tables: Tables<'_>, key: &MigrationKey, codec: &KeyCodec) -> [[String; 4]; 2] {
        let kept = table(tables.database);
        let values = codec.exact(Side::Original, &format!("{}.", tables.original));
        let on = keys(key).iter().zip(values).map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(" AND ");
        [
            [
                format!(", {}", self.kept.join(", ")),
                format!(", {}", self.columns().join(", ")),
                format!(" JOIN {kept} ON {on}"),
                String::new(),
            ],
            [String::new(), String::new(), format!(" LEFT JOIN {kept} ON {on}"), " AND _theseus_key0 IS NULL".to_owned()],
        ]
    }

    /// What goes before a COMMIT.
    pub fn forget(database: &str) -> String {
        format!("DELETE FROM {}; ", table(database))
    }
}
