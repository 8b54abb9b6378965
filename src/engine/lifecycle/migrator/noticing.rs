//! What is done about what the stream brings beside rows: DDL of others, statements without rows, writes to the ghost.

use super::run::Run;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::cutover::{self, definition_changed, replaced, truncated};
use crate::engine::rows::inbox::{ParentNotice, StreamNotice};
use crate::engine::rows::orphans;
use crate::engine::table::definition::normalise;
use crate::engine::table::{inspector, sight};
use std::sync::Arc;

impl Run {
    pub(super) async fn look_at(&mut self, notice: StreamNotice) -> Result<(), EngineError> {
        let m = &self.migration;
        match notice {
            StreamNotice::StatementDml => Err(EngineError::terminal(
                Reason::StatementLogged,
                &format!(
                    "a statement that may have changed {} was logged as text (a session with binlog_format=STATEMENT), so it is unknown which rows changed. The original is untouched; retry to start over, or delete the migration",
                    m.original_name()
                ),
            )),
            StreamNotice::GhostWritten => Err(EngineError::terminal(
                Reason::GhostWritten,
                &format!(
                    "someone else wrote to the ghost table {}, or changed, renamed or dropped it, so it no longer matches the original. The original is untouched and was not swapped; find out who did it, then retry to start over, or delete the migration",
                    m.ghost_name()
                ),
            )),
            StreamNotice::Replaced => Err(replaced(m)),
            StreamNotice::Truncated => Err(truncated(m)),
            StreamNotice::Rebuilt => self.rebuilt().await,
            StreamNotice::Ddl => {
                let now = inspector::table(&mut self.control, &m.spec.database, &m.spec.table).await?;
                let Some(now) = now else { return Err(definition_changed(m)) };
                cutover::unchanged(&now.show_create, &self.record.original_definition, || definition_changed(m))?;
                // The same definition again, of another table, or after an ALTER that made all rows anew.
                if sight::replaced(self.record.original_id, now.table_id) {
                    return Err(replaced(m));
                }
                // Triggers stay with the old table, and its definition does not show them. Foreign keys are looked at before each attempt.
                sight::relations(&mut self.control, &m.spec.database, &m.spec.table).await.map(drop).map_err(cutover::came_meanwhile)
            }
        }
    }

    /// Something happened to a table that a new foreign key refers to. What the log does not say in rows is seen by another search, which begins
    /// when it is visible. Where the table is another one, its rows in the log are read by its new columns, in another attempt.
    pub(super) async fn look_at_parents(&mut self, notice: ParentNotice) -> Result<(), EngineError> {
        let m = Arc::clone(&self.migration);
        let mut same = true;
        for demand in &m.demands {
            same &= demand.is_on_the_same_table(&mut self.control).await?;
        }
        match notice {
            _ if !same => {
                self.applier.checkpoint(true).await?;
                Err(EngineError::transient(
                    Reason::StatementInterrupted,
                    "someone else changed the definition of a table that a new foreign key refers to: every row of the new table is checked once more",
                ))
            }
            // The next attempt would read the same.
            ParentNotice::Columns => Err(orphans::not_readable(&m.demands)),
            ParentNotice::Changed => self.search_again(),
            ParentNotice::Ddl => Ok(()),
        }
    }

    /// Someone else made the original's table anew, as OPTIMIZE TABLE does: the rows are the same, and those that are changed meanwhile are in
    /// the log as ever. It has another id from now on, by which the outcome of the swap and a successor know it.
    pub(super) async fn rebuilt(&mut self) -> Result<(), EngineError> {
        let m = Arc::clone(&self.migration);
        let now = inspector::table(&mut self.control, &m.spec.database, &m.spec.table).await?.ok_or_else(|| definition_changed(&m))?;
        if normalise(&now.show_create)? != self.record.original_definition {
            return Err(definition_changed(&m));
        }
        if now.table_id.is_some() && self.record.original_id.is_some() && now.table_id != self.record.original_id {
            tracing::info!(before = self.record.original_id, now = now.table_id, "someone else rebuilt the original table");
            self.record.original_id = now.table_id;
            m.state.store(self.applier.session(), m.epoch, &self.record, None).await?;
        }
        Ok(())
    }
}
