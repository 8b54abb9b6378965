//! The driver's part of the row count: it begins it, takes in its result, and ends it when nobody needs it any more.

use super::run::{Run, spawn};
use crate::engine::contract::error::EngineError;
use crate::engine::lifecycle::approach::Task;
use crate::engine::{contract::notice, rows::row_count};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::JoinSet;
use tokio_util::sync::DropGuard;

/// The name of the task that counts.
pub(super) const COUNT: &str = "row count";

/// How far the count of the original's rows is.
#[derive(Debug, Default)]
pub(super) enum Count {
    /// Not asked for.
    #[default]
    None,
    /// Under way; ends when this is dropped.
    UnderWay { rows: oneshot::Receiver<u64>, _ends: DropGuard },
    /// It could not be made. The next attempt tries again.
    Failed,
}

impl Run {
    /// Begins or ends the count as the controls want it, and takes in its result.
    pub(super) async fn count_rows(&mut self, tasks: &mut JoinSet<Task>) -> Result<(), EngineError> {
        // A copy that is over knows the number.
        if !self.controls.borrow().exact_row_count || self.copied || self.record.rows_counted {
            self.count = Count::None;
            return Ok(());
        }
        match &mut self.count {
            Count::None => {
                let cancel = self.cancel.child_token();
                let (send, rows) = oneshot::channel();
                self.count = Count::UnderWay { rows, _ends: cancel.clone().drop_guard() };
                let (m, decided, publisher) = (Arc::clone(&self.migration), self.decided.clone(), self.publisher.clone());
                spawn(tasks, COUNT, async move {
                    let counted = tokio::select! {
                        () = cancel.cancelled() => return Ok(()),
                        counted = row_count::count(&m, decided) => counted,
                    };
                    match counted {
                        Ok(rows) => {
                            // Nobody waits for it any more: the copy is over.
                            let _ = send.send(rows);
                        }
                        Err(error) => publisher.notice(
                            notice::ROWS_NOT_COUNTED,
                            true,
                            format!(
                                "could not count the rows of {} ({error}); progress is based on the server's estimate",
                                m.original_name()
                            ),
                        ),
                    }
                    Ok(())
                });
            }
            Count::UnderWay { rows, .. } => match rows.try_recv() {
                Ok(rows) => {
                    self.count = Count::None;
                    (self.record.rows_estimated, self.record.rows_counted) = (rows, true);
                    self.tally.count(|counts| counts.progress.rows_estimated = rows);
                    // The next engine need not count again.
                    let m = Arc::clone(&self.migration);
                    m.state.store(&mut self.control, m.epoch, &self.record, None).await?;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed) => self.count = Count::Failed,
            },
            Count::Failed => {}
        }
        Ok(())
    }
}
