//! The helper index: where no index of the new table finds a row by the migration's key, or makes the key unique, the ghost has one of ours.
//!
//! Made on the empty ghost, and dropped under the lock of the swap: a change of metadata that keeps the locks, so that clients never meet a table
//! that has it. Promises: nothing writes rows of the ghost without it. An attempt that dropped it and did not come to the rename makes it again
//! ([`ensure`]) before the applier goes on, and so does an engine that takes up the work.

use crate::engine::contract::error::EngineError;
use crate::engine::table::inspector;
use crate::mysql::Session;
use crate::mysql::session::{LONG, SHORT};
use crate::sql::key::MigrationKey;
use crate::sql::quote;

/// Makes the helper index, where the key has one and the ghost has not.
///
/// # Errors
/// The server's.
pub async fn ensure(session: &mut Session, database: &str, ghost: &str, key: &MigrationKey) -> Result<(), EngineError> {
    let (Some(name), Some(add)) = (&key.helper, key.add_helper()) else { return Ok(()) };
    let found = inspector::table(session, database, ghost).await?;
    if found.is_some_and(|ghost| ghost.definition.indexes.iter().any(|index| index.name == *name)) {
        return Ok(());
    }
    let sql = format!("ALTER TABLE {} {add}", quote::qualified(database, ghost));
    Ok(session.run("add the index for the migration's key to the ghost", LONG, &sql).await?)
}

/// Drops it, in the session that has the ghost locked.
///
/// # Errors
/// The server's.
pub async fn drop_under_lock(session: &mut Session, ghost_name: &str, key: &MigrationKey) -> Result<(), EngineError> {
    let Some(name) = &key.helper else { return Ok(()) };
    let sql = format!("ALTER TABLE {ghost_name} DROP INDEX {}, ALGORITHM=INPLACE", quote::identifier(name));
    Ok(session.run("drop the index for the migration's key from the ghost", SHORT, &sql).await?)
}
