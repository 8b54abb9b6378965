//! Makes a change that the server makes itself. The lifecycle says when, by the same rules as for a swap.
//!
//! Promises: clients never queue behind it for longer than `lockTimeout`; a lost connection is settled by the definition (DDL is atomic
//! since MySQL 8.0).

use super::blockers;
use super::watchdog::Force;
use crate::engine::contract::spec::MigrationSpec;
use crate::engine::state::fence::Leftovers;
use crate::engine::table::chooser::Native;
use crate::mysql::session::{LONG, SHORT};
use crate::mysql::{MySqlError, Purpose, ServerValues, Session};
use crate::sql::{alter, quote};
use std::time::{Duration, Instant};

/// What is to be done.
pub struct Change<'a> {
    /// On which table.
    pub spec: &'a MigrationSpec,
    /// By which algorithm.
    pub native: &'a Native,
    /// As the user wrote them.
    pub clauses: &'a str,
    /// What they are run in.
    pub values: &'a ServerValues,
    /// How long clients may wait.
    pub budget: Duration,
}

/// Makes the change on the session that holds the migration's named lock: as long as the statement may be at work, or on its way, no other
/// engine can have the lock, look at a definition that is about to change, and make the change a second time.
///
/// # Errors
/// The server's.
pub async fn change(change: Change<'_>, guard: &mut Session, control: &mut Session, force: Option<Force<'_>>) -> Result<(), MySqlError> {
    guard.wear(Purpose::Clauses(change.values)).await?;
    let result = dressed(change, guard, control, force).await;
    if result.as_ref().err().is_none_or(|error| !error.is_connection()) {
        guard.wear(Purpose::Own).await?;
    }
    result
}

async fn dressed(change: Change<'_>, guard: &mut Session, control: &mut Session, force: Option<Force<'_>>) -> Result<(), MySqlError> {
    let Change { spec, native, clauses, budget, .. } = change;
    let id = guard.id();
    // The server bounds each wait for the metadata lock: at the start, and at the end of work in place.
    guard.run("prepare the change", SHORT, &format!("SET SESSION lock_wait_timeout={}", budget.as_secs().max(1))).await?;
    let statement = format!("ALTER TABLE {} {}", quote::qualified(&spec.database, &spec.table), alter::done_by(native.how, clauses));
    let began = Instant::now();
    let change = guard.run("change the table", LONG, &statement);
    tokio::pin!(change);
    // Who holds the table after half of the budget has held it since before the request: later ones queue behind it.
    if let Some(Force { to_lock, blockers, publisher }) = force {
        tokio::select! {
            done = &mut change => return done,
            () = tokio::time::sleep(budget / 2) => {
                if waits_for_lock(control, id).await? {
                    let killed = async {
                        let holders = blockers::find(control, to_lock, Duration::ZERO).await?;
                        blockers.kill(control, &holders, publisher).await
                    };
                    if let Err(error) = killed.await {
                        tracing::warn!("could not kill the sessions that block the change: {error}");
                    }
                }
            }
        }
    }
    if native.works {
        // Its duration is the work's, and clients do not wait for it.
        return change.await;
    }
    tokio::select! {
        done = &mut change => done,
        () = tokio::time::sleep_until((began + budget).into()) => {
            control.run("withdraw the lock request", SHORT, &format!("KILL QUERY {id}")).await?;
            change.await
        }
    }
}

/// Whether a session waits for a metadata lock. Work in place holds one and must not make room for itself.
async fn waits_for_lock(control: &mut Session, id: u32) -> Result<bool, MySqlError> {
    let sql = format!(
        "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_ID = {id} AND PROCESSLIST_STATE LIKE 'Waiting for%lock%'"
    );
    let waits: Option<u64> = control.first("check what the change is waiting for", SHORT, &sql).await?;
    Ok(waits.is_some_and(|n| n > 0))
}

/// A native change ready to run.
pub struct NativeReady {
    /// How.
    pub native: Native,
    /// The state table with its record and our epoch.
    pub leftovers: Leftovers,
    /// The clauses, as the user wrote them.
    pub clauses: String,
    /// What they are run in.
    pub values: ServerValues,
}
