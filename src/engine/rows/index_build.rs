//! Builds the secondary indexes that were left off the ghost: in one statement, each one sorted, in one pass.
//!
//! Changes are applied to the ghost meanwhile, which the server notes in a log of its own and adds to the new index at the end. That has
//! limits that have nothing to do with the rows: the log has a size (`innodb_online_alter_log_max_size`), and its replay may meet an entry
//! twice although the table never held it twice (MySQL manual, "Online DDL Limitations": error 1062; seen as 1859 for an index that is not
//! unique). Such a build is made again while no change is applied: the ghost has no other writers, so the application notices nothing.

use super::migration::Migration;
use crate::engine::contract::error::EngineError;
use crate::engine::table::inspector;
use crate::mysql::Session;
use crate::mysql::codes;
use crate::mysql::session::{LONG, SHORT};
use crate::mysql::versions::INDEX_THREADS;
use tokio_util::sync::CancellationToken;

/// What changes beside a build may cause. The deferred indexes are not unique, so a duplicate is never the rows' fault.
const DISTURBANCES: &[u16] =
    &[codes::DUP_ENTRY, codes::DUP_ENTRY_WITH_KEY_NAME, codes::INNODB_ONLINE_LOG_TOO_BIG, codes::DUP_UNKNOWN_IN_INDEX];

/// What happens to changes during a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// They are applied as always.
    Applied,
    /// They wait: whoever starts the build lets no flush run until it is over.
    Held,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Built {
    /// The indexes are there.
    Done,
    /// It must be made again with [`Changes::Held`].
    Disturbed,
}

/// Builds these indexes, unless they are there; in one thread of the server, where more would take too much from others. Cancelling ends the connection; the server takes the statement back.
///
/// # Errors
/// The server's.
pub async fn build(
    m: &Migration,
    definitions: &[String],
    changes: Changes,
    one_thread: bool,
    cancel: CancellationToken,
) -> Result<Built, EngineError> {
    let mut session = m.own_session().await?;
    if one_thread && INDEX_THREADS.of(m.facts.version) {
        let sql = "SET SESSION innodb_ddl_threads = 1, innodb_parallel_read_threads = 1";
        session.run("limit the index build to one thread", SHORT, sql).await?;
    }
    let mut clauses: Vec<String> = definitions.iter().map(|d| format!("ADD {d}")).collect();
    if changes == Changes::Held {
        // No online log at all.
        clauses.push("LOCK=SHARED".to_owned());
    }
    let work = async {
        // A former engine may have built them just before it died.
        if built(m, definitions, &mut session).await? {
            return Ok(Built::Done);
        }
        let sql = format!("ALTER TABLE {} {}", m.ghost_name(), clauses.join(", "));
        match session.run("build the secondary indexes", LONG, &sql).await {
            Ok(()) => Ok(Built::Done),
            Err(error) if changes == Changes::Applied && DISTURBANCES.contains(&error.code) => {
                tracing::warn!(
                    table = m.spec.table,
                    "{error}: changes arrived meanwhile; building the indexes again, with changes on hold"
                );
                Ok(Built::Disturbed)
            }
            // Or after: the server does not notice that it is gone while the statement works, and ours waited for that.
            Err(error) if error.code == codes::DUP_KEYNAME && built(m, definitions, &mut session).await? => Ok(Built::Done),
            Err(error) => Err(error.into()),
        }
    };
    tokio::select! {
        () = cancel.cancelled() => Ok(Built::Done),
        done = work => done,
    }
}

/// Whether all of them are there: one statement makes all or none.
async fn built(m: &Migration, definitions: &[String], session: &mut Session) -> Result<bool, EngineError> {
    let ghost = inspector::table(session, &m.spec.database, &m.names.ghost).await?;
    Ok(ghost.is_some_and(|g| definitions.iter().all(|d| g.show_create.contains(d.as_str()))))
}
