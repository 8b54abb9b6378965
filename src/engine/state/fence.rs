//! Who may write: the named lock that keeps two engines apart while both are alive, and what the owner of the state table may end and drop.
//! The epoch in the state table ([`super::store`]) keeps a frozen engine apart.
use super::record::Record;
use super::store::StateTable;
use super::takeover::Owned;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::MigrationSpec;
use crate::engine::table::sight::is_not_there;
use crate::mysql::Session;
use crate::mysql::session::{LONG, SHORT};
use crate::sql::names::{TableNames, lock_name};
use crate::sql::quote;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Takes the named lock that keeps two engines apart while both are alive; the epoch keeps a frozen one apart.
///
/// # Errors
/// [`Reason::LockHeldElsewhere`] (transient).
pub async fn take_lock(guard: &mut Session, spec: &MigrationSpec) -> Result<(), EngineError> {
    let name = lock_name(&spec.database, &spec.table);
    let got: Option<Option<u8>> =
        guard.first("take the migration's lock", SHORT, &format!("SELECT GET_LOCK({}, 0)", quote::string(&name))).await?;
    if got.flatten() == Some(1) {
        return Ok(());
    }
    let holder: Option<Option<u64>> =
        guard.first("check who holds the lock", SHORT, &format!("SELECT IS_USED_LOCK({})", quote::string(&name))).await?;
    Err(EngineError::transient(
        Reason::LockHeldElsewhere,
        &format!(
            "another engine is working on {} (connection {} holds the lock {name}); retrying until it is gone",
            quote::qualified(&spec.database, &spec.table),
            holder.flatten().map_or_else(|| "?".to_owned(), |id| id.to_string())
        ),
    ))
}

/// Gives the named lock back and closes the connection. A server lets go of a closed connection's locks when it comes to it; whoever is
/// told that an engine has ended may want the lock at once.
pub async fn release_lock(mut guard: Session) {
    // A connection that is gone, or hangs, has its locks taken away by the server.
    let _ = tokio::time::timeout(Duration::from_secs(1), guard.run("release the migration's lock", SHORT, "DO RELEASE_ALL_LOCKS()")).await;
    guard.close().await;
}

/// What is left to do after a swap.
pub struct Leftovers {
    /// The state table.
    pub state: StateTable,
    pub record: Record,
    /// Our epoch.
    pub epoch: u64,
}

impl Leftovers {
    /// As an engine remembers them while the change is not made.
    pub fn owned(&self) -> Owned {
        Owned {
            epoch: self.epoch,
            server_uuid: self.record.server_uuid.clone(),
            ghost_id: self.record.ghost_id,
            swapped: None,
            reverted: false,
        }
    }

    /// As an engine remembers them once the change is made. `ghost` and `table` are names.
    pub fn swapped(&self, ghost: &str, table: &str) -> Owned {
        Owned {
            swapped: Some(self.record.definition_after(ghost, table)),
            reverted: self.record.stage == super::record::Stage::Reverted,
            ..self.owned()
        }
    }
}

/// Holds the named lock by keeping its connection alive.
pub(crate) async fn keep_lock(mut guard: Session, cancel: CancellationToken) -> Result<(), EngineError> {
    loop {
        tokio::select! {
            () = cancel.cancelled() => {
                release_lock(guard).await;
                return Ok(());
            }
            () = tokio::time::sleep(Duration::from_secs(2)) => guard.run("keep the migration's lock", SHORT, "DO 1").await?,
        }
    }
}

/// Ends the sessions of this account that have a lock on the state table. A former owner that is frozen in the middle of a transaction, or
/// of a cut-over, would else keep its successor out, and the application's sessions waiting, until the server misses it (`wait_timeout`).
/// What it was doing is rolled back, or done: the caller's next statement on the state table comes after it.
///
/// # Errors
/// A lost connection. Without SELECT on the performance schema nobody is found.
pub(super) async fn put_out(control: &mut Session, database: &str, state: &str) -> Result<(), EngineError> {
    // No account needs a privilege to end sessions of its own.
    let sql = format!(
        "SELECT DISTINCT t.PROCESSLIST_ID FROM performance_schema.metadata_locks l \
         JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID \
         WHERE l.OBJECT_TYPE = 'TABLE' AND l.OBJECT_SCHEMA = {} AND l.OBJECT_NAME = {} AND l.LOCK_STATUS = 'GRANTED' \
         AND t.PROCESSLIST_ID <> CONNECTION_ID() AND CONCAT(t.PROCESSLIST_USER, '@') = LEFT(USER(), LENGTH(t.PROCESSLIST_USER) + 1)",
        quote::string(database),
        quote::string(state)
    );
    let found = match control.rows::<u64>("look for an earlier owner's sessions", SHORT, &sql).await {
        Ok(found) => found,
        // Then its own end is waited for.
        Err(error) if is_not_there(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    for id in found {
        tracing::warn!(connection = id, state, "an earlier owner holds the state table; ending its session");
        match control.run("end an earlier owner's session", SHORT, &format!("KILL {id}")).await {
            Err(error) if error.is_connection() => return Err(error.into()),
            // It is gone by now.
            _ => {}
        }
    }
    Ok(())
}

/// Drops ghost and state table of this migration, ghost first: as long as the state table is there, the ghost is known to be ours.
///
/// # Errors
/// The server's.
pub async fn drop_ours(control: &mut Session, spec: &MigrationSpec, names: &TableNames) -> Result<(), EngineError> {
    for name in [&names.ghost, &names.state] {
        let sql = format!("DROP TABLE IF EXISTS {}", quote::qualified(&spec.database, name));
        control.run_patiently(None, "drop a table of the migration", LONG, &sql).await?;
    }
    Ok(())
}
