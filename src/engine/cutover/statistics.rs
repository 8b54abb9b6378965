//! Statistics of the new table, gathered before it is needed: without them the optimizer would guess for the first seconds after the swap.
//!
//! The statement goes to the binary log: replicas serve reads too, and InnoDB's own recalculation there is asynchronous, or off
//! (`STATS_AUTO_RECALC=0`). Nobody reads the ghost, so there is nobody whom an ANALYZE could make wait, here or there.
//! <https://dev.mysql.com/doc/refman/8.4/en/analyze-table.html>

use crate::engine::migration::Migration;
use crate::mysql::MySqlError;
use crate::mysql::session::LONG;

/// Analyses the ghost on a connection of its own. A table without fresh statistics is no reason not to swap it: a refusal is logged.
///
/// # Errors
/// A lost connection.
pub async fn gather(m: &Migration) -> Result<(), MySqlError> {
    let mut session = m.session().await?;
    // Errors of the table come as rows.
    type Line = (String, String, String, String);
    let sql = format!("ANALYZE TABLE {}", m.ghost_name());
    match session.rows::<Line>("gather statistics of the new table", LONG, &sql).await {
        Ok(lines) => {
            for (_, _, kind, text) in lines.iter().filter(|(_, _, kind, _)| kind != "status") {
                tracing::warn!(kind, "statistics of the new table: {text}");
            }
        }
        Err(error) if error.is_connection() => return Err(error),
        Err(error) => tracing::warn!("the new table has no fresh statistics: {error}"),
    }
    session.close().await;
    Ok(())
}
