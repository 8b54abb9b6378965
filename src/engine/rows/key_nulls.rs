//! Keys whose columns may be NULL: proven to hold none before the first row is copied, watched in the log, and proven again under the lock.
//!
//! A row with NULL in its key is found by no range and no key, and two of them may be equal. So while a migration walks along such a key there must be
//! none. The first look comes after the stream has begun: what was committed before is seen by it, and what comes later is in the log, where the first
//! such row ends the migration. No index look-up of these is more than a descent.

use super::migration::Migration;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::mysql::session::SHORT;
use crate::mysql::{MySqlError, Session};
use crate::sql::key::MigrationKey;
use crate::sql::quote;

/// The first column of the key that is NULL in some row.
///
/// # Errors
/// The server's.
pub async fn find<'k>(session: &mut Session, table: &str, key: &'k MigrationKey) -> Result<Option<&'k str>, MySqlError> {
    for nullable in &key.nullable {
        let (column, index) = (quote::identifier(&nullable.column), quote::identifier(&nullable.index));
        let sql = format!("SELECT 1 FROM {table} FORCE INDEX ({index}) WHERE {column} IS NULL LIMIT 1");
        if session.first::<u8>("look for rows without a key", SHORT, &sql).await?.is_some() {
            return Ok(Some(&nullable.column));
        }
    }
    Ok(None)
}

/// There are such rows, so that the key cannot be used. `table` and what is shown are quoted here.
pub fn no_key(table: &str, index: &str, column: &str) -> EngineError {
    EngineError::terminal(
        Reason::NoUsableKey,
        &format!(
            "{table} has no unique key that a migration can use: column {} of the index {} is NULL in some rows, and NULLs are not unique. Give these rows a value and retry, or add a key",
            quote::identifier(column),
            quote::identifier(index)
        ),
    )
}

/// One came meanwhile.
pub fn came(m: &Migration, column: &str) -> EngineError {
    came_to(&m.original_name(), &m.key.index, column)
}

/// The same, where there is no migration at hand.
pub fn came_to(table: &str, index: &str, column: &str) -> EngineError {
    EngineError::terminal(
        Reason::NullInKey,
        &format!(
            "a row of {table} got NULL in column {} of the key {} during the migration; there was none when it began, and rows without a key cannot be followed. The tables were not swapped and the original is unchanged. Give these rows a value and retry, which starts over, or delete the migration",
            quote::identifier(column),
            quote::identifier(index)
        ),
    )
}
