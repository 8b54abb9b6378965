//! AUTO_INCREMENT columns whose numbers the change makes itself.
//!
//! Where the change adds one, a native ALTER numbers the rows in the order of the primary key. Here the number is computed: the highest one that
//! the ghost has, and on from there, in the order of the key, so that none is left out, as the server does when it reserves numbers for an
//! INSERT … SELECT. A row that is reconciled keeps the number that it has. Promises: one transaction at a time gives numbers
//! ([`Numbering::turn`]); another engine's cannot be committed, since it is fenced.
//!
//! Relies on temporary tables of InnoDB being rolled back with the transaction, and on a session's user variables.

use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::MigrationSpec;
use crate::mysql::Session;
use crate::mysql::session::LONG;
use crate::sql::key::{KeyCodec, MigrationKey, Side};
use crate::sql::mapping::ColumnMapping;
use crate::sql::table::TableDefinition;
use crate::sql::{create, quote};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Mutex, MutexGuard};

/// The numbers that rows have which are about to be written again; private to its session.
const KEPT: &str = "_theseus_numbers";

/// The AUTO_INCREMENT column that the change adds.
#[derive(Debug)]
pub struct Numbering {
    /// Quoted.
    column: String,
    /// The number of the first row, if the ALTER says so.
    first: u64,
    turn: Mutex<()>,
    /// The highest number of a row that was put aside: none up to it is given to another row until it is back.
    aside: AtomicU64,
}

impl Numbering {
    /// Of a ghost with this definition; `None` where the change adds no such column.
    ///
    /// # Errors
    /// The definition is not understood.
    pub fn new(ghost: &TableDefinition, mapping: &ColumnMapping, show_create: &str) -> Result<Option<Self>, EngineError> {
        let added = |name: &String| ghost.column(name).filter(|c| c.auto_increment);
        let Some(column) = mapping.added.iter().find_map(added) else { return Ok(None) };
        let first = create::auto_increment(show_create).map_err(crate::engine::table::definition::not_readable)?.unwrap_or(1);
        Ok(Some(Self { column: quote::identifier(&column.name), first, turn: Mutex::default(), aside: AtomicU64::new(0) }))
    }

    /// To be held from the reading of the highest number to the end of the transaction.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The column, quoted.
    pub fn column(&self) -> &str {
        &self.column
    }

    fn kept(database: &str) -> String {
        quote::qualified(database, KEPT)
    }

    /// Reads the highest number that this session remembers beyond its transaction.
    pub(super) fn highest_kept(&self, database: &str) -> String {
        format!("SELECT CAST(COALESCE(MAX(_theseus_number), 0) AS UNSIGNED) FROM {}", Self::kept(database))
    }

    /// No number up to this one is given to another row.
    pub(super) fn reserve(&self, highest: u64) {
        self.aside.fetch_max(highest, Ordering::Relaxed);
    }

    fn kept_keys(key: &MigrationKey) -> Vec<String> {
        (0..key.columns.len()).map(|at| format!("_theseus_key{at}")).collect()
    }

    /// What goes before a DELETE of the ghost's rows that `condition` names: their numbers are remembered.
    pub fn keep(&self, tables: Tables<'_>, key: &MigrationKey, codec: &KeyCodec, condition: &str) -> String {
        let Tables { database, original, ghost } = tables;
        let (kept, names, column) = (Self::kept(database), Self::kept_keys(key), &self.column);
        // Of the original's types: rows are found by them.
        let made: Vec<String> = codec
            .exact(Side::Original, &format!("{original}."))
            .iter()
            .zip(&names)
            .map(|(value, name)| format!("{value} AS {name}"))
            .collect();
        let read = codec.exact(Side::Ghost, "");
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {kept} (PRIMARY KEY ({}), INDEX (_theseus_number)) SELECT {}, {ghost}.{column} AS _theseus_number FROM {original}, {ghost} LIMIT 0; \
             REPLACE INTO {kept} ({}, _theseus_number) SELECT {}, {column} FROM {ghost} WHERE {condition}; ",
            names.join(", "),
            made.join(", "),
            names.join(", "),
            read.join(", "),
        )
    }

    /// What goes before a COMMIT: nobody was put aside whose row is still to come.
    pub fn forget(&self, database: &str) -> String {
        format!("DELETE FROM {}; ", Self::kept(database))
    }

    /// What goes before an INSERT: reads the highest number. `keys`: rows are written again whose numbers are remembered.
    pub fn begin(&self, tables: Tables<'_>, keys: bool) -> String {
        let remembered =
            if keys { format!(", (SELECT COALESCE(MAX(_theseus_number), 0) FROM {})", Self::kept(tables.database)) } else { String::new() };
        format!(
            "SET @_theseus_number = GREATEST({}, (SELECT COALESCE(MAX({}), 0) FROM {}){remembered}); ",
            self.first.saturating_sub(1).max(self.aside.load(Ordering::Relaxed)),
            self.column,
            tables.ghost
        )
    }

    /// The number of a row of the original, to be selected.
    pub fn number(&self, codec: &KeyCodec, keys: bool) -> String {
        let order = codec.order_by(Side::Original);
        let next = |rows: &str| {
            // Numbers go in steps where the server is told so: the next one above those that are there is offset + n * increment. No operand is
            // below zero: these variables and what is computed from them are unsigned. An offset beyond the increment counts by its remainder, as
            // the server's does once numbers have reached it.
            let (step, offset) = ("@@auto_increment_increment", "@@auto_increment_offset MOD @@auto_increment_increment");
            format!("((@_theseus_number + {step} - {offset}) DIV {step} + {rows} - 1) * {step} + {offset}")
        };
        if keys {
            let rows = format!("SUM(_theseus_number IS NULL) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING)");
            format!("COALESCE(_theseus_number, {})", next(&rows))
        } else {
            next(&format!("ROW_NUMBER() OVER (ORDER BY {order})"))
        }
    }

    /// What goes behind the original's name, where rows are written again.
    pub fn join(&self, tables: Tables<'_>, key: &MigrationKey, codec: &KeyCodec) -> String {
        let values = codec.exact(Side::Original, &format!("{}.", tables.original));
        let pairs: Vec<String> = Self::kept_keys(key).iter().zip(values).map(|(name, value)| format!("{name} = {value}")).collect();
        format!(" LEFT JOIN {} ON {}", Self::kept(tables.database), pairs.join(" AND "))
    }
}

/// The tables of a migration, quoted but for the database.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    /// Not quoted.
    pub database: &'a str,
    pub original: &'a str,
    pub ghost: &'a str,
}

/// Columns that may be NULL and become AUTO_INCREMENT (which is NOT NULL), by their names on the original. Pure.
pub(super) fn numbered_nulls<'a>(original: &'a TableDefinition, ghost: &TableDefinition, mapping: &ColumnMapping) -> Vec<&'a str> {
    let becomes = |shared: &crate::sql::mapping::SharedColumn| {
        let from = original.column(&shared.original)?;
        let to = ghost.column(&shared.ghost)?;
        (from.nullable && to.auto_increment).then_some(from.name.as_str())
    };
    mapping.shared.iter().filter_map(becomes).collect()
}

/// Refuses a change that would number NULLs. A native ALTER gives such rows the next free numbers, each in the moment that it copies them; here
/// a row may be copied more than once, each time with another number, and what the two tables have could not be compared.
///
/// # Errors
/// [`Reason::DataDoesNotFit`], with the column; the server's.
pub async fn check_nulls(
    session: &mut Session,
    spec: &MigrationSpec,
    original: &TableDefinition,
    ghost: &TableDefinition,
    mapping: &ColumnMapping,
) -> Result<(), EngineError> {
    let table = quote::qualified(&spec.database, &spec.table);
    for column in numbered_nulls(original, ghost, mapping) {
        let name = quote::identifier(column);
        let sql = format!("SELECT 1 FROM {table} WHERE {name} IS NULL LIMIT 1");
        if session.first::<u8>("look for NULLs in a column that becomes AUTO_INCREMENT", LONG, &sql).await?.is_some() {
            return Err(null_found(&table, &name));
        }
    }
    Ok(())
}

/// A row has NULL in a column that becomes AUTO_INCREMENT. Both names quoted.
pub(super) fn null_found(table: &str, column: &str) -> EngineError {
    EngineError::terminal(
        Reason::DataDoesNotFit,
        &format!(
            "{column} of {table} is NULL in some rows and becomes AUTO_INCREMENT: a native ALTER would number these rows, a migration does not. The original table is untouched; number them first (UPDATE … SET {column} = … WHERE {column} IS NULL), then retry"
        ),
    )
}
