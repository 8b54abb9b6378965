//! What the streamer of a migration looks for.

use super::migration::Migration;
use super::streamer::rows::KeyColumn;
use super::streamer::{WatchedTables, Writer};
use crate::engine::contract::error::EngineError;
use crate::engine::table::inspector;
use std::sync::Arc;

/// What the streamer must look for.
///
/// # Errors
/// The key names a column that the table lacks: a bug.
pub fn watched_tables(m: &Arc<Migration>, server_id: u32) -> Result<WatchedTables, EngineError> {
    let key = m
        .key
        .columns
        .iter()
        .map(|part| {
            let columns = &m.original.definition.columns;
            let ordinal = columns.iter().position(|c| c.name.eq_ignore_ascii_case(&part.original))?;
            let unsigned = matches!(columns[ordinal].column_type, crate::sql::table::ColumnType::Integer { unsigned: true, .. });
            Some(KeyColumn { ordinal, unsigned, has_default: inspector::has_plain_default(&columns[ordinal]) })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| EngineError::internal("the key names a column that the table lacks"))?;
    Ok(WatchedTables {
        database: m.spec.database.clone(),
        table: m.original.definition.name.clone(),
        columns: m.original.definition.columns.clone(),
        key,
        key_index: m.key.index.clone(),
        codec: Arc::clone(&m.codec),
        key_defaults: Vec::new(),
        ghost: m.names.ghost.clone(),
        migration: Arc::clone(m),
        known: m.turned.as_ref().map(|turned| turned.swap.clone()),
        writer: Writer { address: m.spec.server.clone(), server_id, server_uuid: m.facts.uuid.clone() },
        names_ignore_case: m.facts.lower_case_table_names != 0,
    })
}
