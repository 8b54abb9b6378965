//! Statistics of the new table, gathered before it is needed: without them the optimizer would guess for the first seconds after the swap.
//!
//! The statement goes to the binary log: replicas serve reads too, and InnoDB's own recalculation there is asynchronous, or off
//! (`STATS_AUTO_RECALC=0`). Nobody reads the ghost, so there is nobody whom an ANALYZE could make wait, here or there.
//!
//! Histograms go by the table, not by the name: those of the original would go with it. They are recreated with as many buckets.
//! <https://dev.mysql.com/doc/refman/8.4/en/analyze-table.html>

use crate::engine::rows::migration::Migration;
use crate::mysql::session::{LONG, SHORT};
use crate::mysql::{MySqlError, Session};
use crate::sql::quote;

/// Analyses the ghost on a connection of its own. A table without fresh statistics is no reason not to swap it: a refusal is logged.
///
/// # Errors
/// A lost connection.
pub async fn gather(m: &Migration) -> Result<(), MySqlError> {
    let mut session = m.session().await?;
    let ghost = m.ghost_name();
    analyze(&mut session, &format!("ANALYZE TABLE {ghost}")).await?;
    for (column, buckets, auto) in histograms(m, &mut session).await? {
        let Some(shared) = m.mapping.shared.iter().find(|shared| shared.original.eq_ignore_ascii_case(&column)) else { continue };
        // `AUTO UPDATE` is of 8.4 and later, and so is a histogram that has it.
        let auto = if auto { " AUTO UPDATE" } else { "" };
        let column = quote::identifier(&shared.ghost);
        analyze(&mut session, &format!("ANALYZE TABLE {ghost} UPDATE HISTOGRAM ON {column} WITH {buckets} BUCKETS{auto}")).await?;
    }
    session.close().await;
    Ok(())
}

/// Columns of the original that have a histogram, with its number of buckets and whether the server keeps it up to date.
async fn histograms(m: &Migration, session: &mut Session) -> Result<Vec<(String, u64, bool)>, MySqlError> {
    let sql = format!(
        "SELECT COLUMN_NAME, CAST(IFNULL(HISTOGRAM->>'$.\"number-of-buckets-specified\"', 100) AS UNSIGNED), \
         IFNULL(HISTOGRAM->>'$.\"auto-update\"', 'false') = 'true' FROM information_schema.COLUMN_STATISTICS \
         WHERE SCHEMA_NAME = {} AND TABLE_NAME = {} ORDER BY COLUMN_NAME",
        quote::string(&m.spec.database),
        quote::string(&m.spec.table)
    );
    match session.rows("read the original's histograms", SHORT, &sql).await {
        Err(error) if !error.is_connection() => {
            tracing::warn!("could not read the original's histograms, so the new table has none: {error}");
            Ok(Vec::new())
        }
        found => found,
    }
}

async fn analyze(session: &mut Session, sql: &str) -> Result<(), MySqlError> {
    // Errors of the table come as rows.
    type Row = (String, String, String, String);
    match session.rows::<Row>("collect statistics of the new table", LONG, sql).await {
        Ok(lines) => {
            for (_, _, kind, text) in lines.iter().filter(|(_, _, kind, _)| kind != "status") {
                tracing::warn!(kind, "statistics of the new table: {text}");
            }
            Ok(())
        }
        Err(error) if error.is_connection() => Err(error),
        Err(error) => {
            tracing::warn!("could not collect statistics of the new table: {error}");
            Ok(())
        }
    }
}
