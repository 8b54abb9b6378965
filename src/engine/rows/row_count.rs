//! Counts the original's rows beside the copy (`copy.exactRowCount`).
//!
//! One `SELECT COUNT(*)` over a large table would keep a read view, which holds up purge, and a metadata lock for as long as it takes, and it
//! would go on after its connection is gone: the server notices that only when it answers. So the index that the copy goes by is walked in
//! short statements without locks: each finds the end of a range of [`RANGE_ROWS`] rows, and what is left at the end is counted. Rows that
//! come and go meanwhile count as they are when their range is read.
//!
//! The migrator owns the task and ends it by dropping this future; the statement under way is over soon by itself.

use super::migration::Migration;
use crate::engine::contract::error::EngineError;
use crate::engine::throttle;
use crate::engine::throttle::decide::Decision;
use crate::mysql::session::LONG;
use crate::sql::key::{Key, KeyRange, Side};
use crate::sql::quote;
use tokio::sync::watch;

/// Rows of one statement: some milliseconds of reading in memory, a moment from a disk.
const RANGE_ROWS: u64 = 20_000;

/// The number of rows. What holds the copy holds the count, which reads a whole index.
///
/// # Errors
/// The server's.
pub async fn count(m: &Migration, decided: watch::Receiver<Decision>) -> Result<u64, EngineError> {
    let mut session = m.session().await?;
    let mut rows = 0;
    let mut lo: Option<Key> = None;
    loop {
        throttle::while_held(&decided, &mut session).await?;
        let what = "count the rows of a range";
        let end: Option<mysql_async::Row> = session.first(what, LONG, &m.range_end(lo.clone(), RANGE_ROWS)).await?;
        let Some(end) = end else { break };
        lo = Some(m.key_of(what, end)?);
        rows += RANGE_ROWS;
    }
    let sql = format!(
        "SELECT COUNT(*) FROM {} FORCE INDEX ({}) WHERE {}",
        m.original_name(),
        quote::identifier(&m.key.index),
        m.codec.range(Side::Original, &KeyRange { lo, hi: None })
    );
    let rest: Option<u64> = session.first("count the last rows", LONG, &sql).await?;
    session.close().await;
    Ok(rows + rest.unwrap_or(0))
}
