//! Copies the rows: workers take ranges from the board in key order, one transaction for each chunk, its record inside.
//!
//! Promises: no lock on the original; a chunk is in the ghost if and only if its record is in the state table; a value that does not fit
//! is an error. Owned by the migrator, which joins the workers; they stop between two chunks, or at once when the attempt is cancelled
//! (the server rolls back).

use super::board::{Board, Next};
use super::conflict;
use super::inbox::Inbox;
use super::migration::Migration;
use super::transaction::{self, Commit, Failure};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::progress::Tally;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::Controls;
use crate::engine::state::record::{ChunkId, ChunkRecord};
use crate::engine::throttle::decide::Decision;
use crate::mysql::session::{KEEP_ALIVE_EVERY, LONG, SHORT};
use crate::mysql::{MySqlError, Session};
use crate::sql::key::{Key, KeyRange, Side};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio_util::sync::CancellationToken;

/// A chunk is one transaction: its undo and its binary log event group must stay moderate.
const LARGEST_CHUNK: u64 = 100_000;
/// Bytes of rows in one chunk, by the table's mean row length: the binary log cache spills to disk far above this.
const CHUNK_BYTES: u64 = 32 << 20;
/// How long a chunk may meet values of other rows again and again before the attempt is given up.
const EXCHANGING: Duration = Duration::from_secs(600);

/// How long a row that does not fit is looked for, once a chunk has failed.
const NAMING_LIMIT: Duration = Duration::from_secs(5);

/// How many rows a chunk may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRows {
    /// In the first one.
    pub first: u64,
    /// Wide rows make smaller chunks all the same, by their bytes.
    pub smallest: u64,
    /// As far as their bytes allow.
    pub largest: u64,
}

impl Default for ChunkRows {
    fn default() -> Self {
        Self {
            // Over quickly on any table.
            first: 1000,
            // Below this a chunk's time is that of its round trips and its commit, which fewer rows do not shorten: on a busy server a
            // smaller limit made chunks shrink to single rows, and the copy never ended.
            smallest: 200,
            largest: LARGEST_CHUNK,
        }
    }
}

/// Steers the size of chunks by time and bytes. Pure.
#[derive(Debug, Clone)]
struct ChunkSizer {
    rows: u64,
    smallest: u64,
    ceiling: u64,
}

impl ChunkSizer {
    /// For rows of `row_bytes` on the mean.
    pub fn new(rows: ChunkRows, row_bytes: u64) -> Self {
        let ceiling = (CHUNK_BYTES / row_bytes.max(1)).min(rows.largest).max(1);
        Self { rows: rows.first.min(ceiling), smallest: rows.smallest, ceiling }
    }

    /// Rows of the next chunk.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Learns from a chunk. Grows at most fourfold at a time, shrinks at once.
    pub fn learn(&mut self, rows: u64, took: Duration, target: Duration) {
        if rows == 0 || rows < self.rows / 2 {
            // The end of the table or of a hole: tells nothing about a full chunk, unless it was slow all the same.
            if took <= target {
                return;
            }
        }
        let took = took.as_micros().max(1);
        let wanted = u128::from(rows.max(1)) * target.as_micros() / took;
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        self.rows = wanted.clamp(self.smallest, self.rows.saturating_mul(4).max(self.smallest)).min(self.ceiling);
    }
}

/// Chunks that were copied, all workers' together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// How many.
    pub chunks: u64,
    /// Their rows.
    pub rows: u64,
    /// The time that their workers worked.
    pub took: Duration,
}

impl Done {
    fn add(&mut self, rows: u64, took: Duration) {
        self.chunks += 1;
        self.rows += rows;
        self.took += took;
    }
}

/// What the workers share.
pub struct Copier {
    /// The migration.
    pub migration: Arc<Migration>,
    /// Ranges.
    pub board: Arc<Mutex<Board>>,
    /// For keys that hold a conflicting value.
    pub inbox: Arc<Inbox>,
    /// The controls.
    pub controls: watch::Receiver<Controls>,
    /// How many of the workers may work now.
    pub allowed: watch::Receiver<u16>,
    /// Whether a chunk may begin.
    pub decided: watch::Receiver<Decision>,
    /// Where it counts.
    pub tally: Tally,
    /// Finished chunks that the checkpoint has not merged yet.
    pub records: Arc<Mutex<Vec<(ChunkId, ChunkRecord)>>>,
    sizer: Mutex<ChunkSizer>,
    done: Mutex<Done>,
    /// One boundary is sought at a time: the next one starts where it ends.
    dispatch: AsyncMutex<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> parking_lot::MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half-way through a change.
    mutex.lock()
}

impl Copier {
    /// For one attempt.
    pub fn new(
        migration: Arc<Migration>,
        board: Arc<Mutex<Board>>,
        inbox: Arc<Inbox>,
        controls: watch::Receiver<Controls>,
        allowed: watch::Receiver<u16>,
        decided: watch::Receiver<Decision>,
        tally: Tally,
        records: Arc<Mutex<Vec<(ChunkId, ChunkRecord)>>>,
        chunk_rows: ChunkRows,
    ) -> Self {
        let row_bytes = migration.original.bytes_estimated / migration.original.rows_estimated.max(1);
        Self {
            migration,
            board,
            inbox,
            controls,
            allowed,
            decided,
            tally,
            records,
            sizer: Mutex::new(ChunkSizer::new(chunk_rows, row_bytes)),
            done: Mutex::default(),
            dispatch: AsyncMutex::new(()),
        }
    }

    /// Chunks done so far, or since this was last asked.
    pub fn done(&self, and_forget: bool) -> Done {
        let mut done = locked(&self.done);
        if and_forget { std::mem::take(&mut done) } else { *done }
    }

    /// One worker, number `index` from 0, until nothing is left to dispatch.
    ///
    /// # Errors
    /// Whatever ends the attempt.
    pub async fn worker(self: Arc<Self>, index: u16, stop: CancellationToken) -> Result<(), EngineError> {
        let mut session = self.migration.session().await?;
        loop {
            if !self.may_go_on(&mut session, index, &stop).await? {
                break;
            }
            let Some((id, range)) = self.next(&mut session).await? else {
                break;
            };
            let began = Instant::now();
            let rows = self.chunk(&mut session, id, &range, &stop).await?;
            let took = began.elapsed();
            let target = self.controls.borrow().target_chunk_time;
            locked(&self.sizer).learn(rows, took, target);
            locked(&self.done).add(rows, took);
            self.tally.count(|counts| {
                counts.progress.rows_copied += rows;
                counts.progress.chunks += 1;
                counts.last_chunk = Some(took);
            });
            if !self.pause_after(took, &stop).await {
                break;
            }
        }
        session.close().await;
        Ok(())
    }

    /// Rests for the share of a chunk's time that is asked for now: a change of it counts at once. False: stop.
    async fn pause_after(&self, took: Duration, stop: &CancellationToken) -> bool {
        let mut controls = self.controls.clone();
        let began = Instant::now();
        loop {
            let rest = took * u32::from(controls.borrow_and_update().nice_ratio_percent) / 100;
            let left = rest.saturating_sub(began.elapsed());
            if left.is_zero() {
                return true;
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                changed = controls.changed() => if changed.is_err() { return false },
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// Waits while this worker may not copy. False: stop.
    async fn may_go_on(&self, session: &mut Session, index: u16, stop: &CancellationToken) -> Result<bool, EngineError> {
        let (mut decided, mut allowed) = (self.decided.clone(), self.allowed.clone());
        let mut used = Instant::now();
        loop {
            // The throttler's task obeys a person at once, this one even before it runs.
            let may = decided.borrow_and_update().may_copy() && !self.controls.borrow().throttled_by_user;
            let wanted = index < *allowed.borrow_and_update();
            if may && wanted {
                return Ok(!stop.is_cancelled());
            }
            if locked(&self.board).complete() {
                return Ok(false);
            }
            if used.elapsed() >= KEEP_ALIVE_EVERY {
                used = Instant::now();
                session.run("keep the connection alive", SHORT, "DO 1").await?;
            }
            // Cancel-safe: watch receivers lose nothing. The tick lets a worker that is not needed any more see that the copy is complete.
            tokio::select! {
                () = stop.cancelled() => return Ok(false),
                changed = decided.changed() => if changed.is_err() { return Ok(false) },
                changed = allowed.changed() => if changed.is_err() { return Ok(false) },
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
    }

    /// Dispatches the next range.
    async fn next(&self, session: &mut Session) -> Result<Option<(ChunkId, KeyRange)>, EngineError> {
        let _one_at_a_time = self.dispatch.lock().await;
        let next = locked(&self.board).next();
        let lo = match next {
            Next::Nothing => return Ok(None),
            Next::Hole(id, range) => return Ok(Some((id, range))),
            Next::From(lo) => lo,
        };
        let rows = locked(&self.sizer).rows();
        let hi = self.boundary(session, lo, rows).await?;
        Ok(Some(locked(&self.board).dispatch(hi)))
    }

    /// The key of the `rows`-th row beyond `lo`; `None` when fewer are left.
    async fn boundary(&self, session: &mut Session, lo: Option<Key>, rows: u64) -> Result<Option<Key>, EngineError> {
        let m = &self.migration;
        let what = "find the end of a chunk";
        let row: Option<mysql_async::Row> = session.first(what, LONG, &m.range_end(lo, rows)).await?;
        Ok(row.map(|row| m.key_of(what, row)).transpose()?)
    }

    /// Copies one range in one transaction; repeats it when it lost against others.
    async fn chunk(&self, session: &mut Session, id: ChunkId, range: &KeyRange, stop: &CancellationToken) -> Result<u64, EngineError> {
        let mut losses: u32 = 0;
        let mut conflicts: u32 = 0;
        let began = Instant::now();
        loop {
            match self.try_chunk(session, id, range).await {
                Ok(rows) => {
                    locked(&self.records).push((id, ChunkRecord { range: range.clone(), rows, last: id.last }));
                    locked(&self.board).done(id);
                    return Ok(rows);
                }
                Err(Failure::Lost(error)) => {
                    losses += 1;
                    // A minute of losing means that something holds the ghost for good.
                    if losses > 12 {
                        return Err(error.into());
                    }
                    let pause = Duration::from_millis(u64::from(losses) * fastrand::u64(5..50));
                    tokio::select! {
                        () = stop.cancelled() => return Err(error.into()),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                Err(Failure::Conflict(error)) => {
                    conflicts += 1;
                    self.resolve(session, range, &error, conflicts, began, stop).await?;
                }
                Err(Failure::Over(error)) if error.reason == Reason::DataDoesNotFit => {
                    // What the server says names the column at best.
                    return Err(match self.failing_row(session, range).await {
                        Some(row) => error.and(&format!(" (the row with {row})")),
                        None => error,
                    });
                }
                Err(Failure::Over(error)) => return Err(error),
            }
        }
    }

    /// The key of a row of the range that does not fit: halves the range, in transactions that are rolled back. `None` when it is not found
    /// in a few seconds, or something else is in the way: the error is told without it.
    async fn failing_row(&self, session: &mut Session, range: &KeyRange) -> Option<String> {
        let m = &self.migration;
        let end = Instant::now() + NAMING_LIMIT;
        let what = "read the keys of a chunk";
        let rows: Vec<mysql_async::Row> = session.rows(what, LONG, &m.keys_of(range, LARGEST_CHUNK)).await.ok()?;
        let keys: Vec<Key> = rows.into_iter().map(|row| m.key_of(what, row).ok()).collect::<Option<_>>()?;
        // It is among keys[low..high].
        let (mut low, mut high) = (0, keys.len());
        while high > low {
            let middle = if high - low == 1 { high } else { low + (high - low) / 2 };
            let lo = if low == 0 { range.lo.clone() } else { keys.get(low - 1).cloned() };
            let part = KeyRange { lo, hi: Some(keys.get(middle - 1)?.clone()) };
            if Instant::now() > end {
                return None;
            }
            let tried = transaction::try_out(m, session, async |ghost| {
                ghost.copy_range("look for a row that does not fit", &part).await.map_err(Failure::from)
            });
            match tried.await {
                Ok(_) => low = middle,
                Err(Failure::Over(error)) if error.reason == Reason::DataDoesNotFit => {
                    if high - low == 1 {
                        return Some(format!("{} = {}", m.codec.columns(Side::Original), m.codec.tuple(&keys[low])));
                    }
                    high = middle;
                }
                Err(_) => return None,
            }
        }
        None
    }

    async fn try_chunk(&self, session: &mut Session, id: ChunkId, range: &KeyRange) -> Result<u64, Failure> {
        transaction::write(&self.migration, session, async |ghost| {
            let rows = ghost.copy_range("copy a chunk", range).await?;
            Ok((Commit::Chunk(id, ChunkRecord { range: range.clone(), rows, last: id.last }), rows))
        })
        .await
    }

    /// A row of the chunk has a value under a unique key that a ghost row holds already (rule 6).
    async fn resolve(
        &self,
        session: &mut Session,
        range: &KeyRange,
        error: &MySqlError,
        round: u32,
        since: Instant,
        stop: &CancellationToken,
    ) -> Result<(), EngineError> {
        let m = &self.migration;
        let condition = m.codec.range(Side::Original, range);
        let holders = conflict::holders(m, session, error, &condition).await?;
        tracing::debug!(index = error.index, holders = holders.len(), round, "unique conflict in a chunk");
        // From the third round on the holders have been reconciled: a conflict that is still there may be real. Not while a transaction is
        // coming in that memory does not hold: nobody can say then which rows of it are still to be reconciled.
        if round >= 3 && !self.inbox.partial() {
            conflict::prove(m, session, error, &condition, &holders).await?;
        }
        if since.elapsed() > EXCHANGING {
            return Err(EngineError::transient(
                Reason::StatementInterrupted,
                &format!("{error}: rows keep exchanging a unique value faster than they can be copied; the chunk will be retried later"),
            ));
        }
        // The holders are stale rows. They must not be written from here: an older state of such a row could come after a newer one that
        // the applier writes. It reconciles them between two of its batches, however many wait.
        let nobody = holders.is_empty();
        let done = self.inbox.ask(holders, error.clone());
        let pause = Duration::from_millis(if nobody { u64::from(round) * fastrand::u64(5..20) } else { 0 }).min(Duration::from_secs(1));
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
            _ = done => tokio::time::sleep(pause).await,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_steered_to_the_target_time() {
        let target = Duration::from_millis(500);
        // (rows, took in ms) → next size, from 1000 rows
        for (rows, took, want) in [
            (1000, 500, 1000),
            (1000, 1000, 500),
            (1000, 250, 2000),
            (1000, 1, 4000),
            (1000, 60_000, 200),
            (3, 1, 1000),
            (3, 5000, 200),
            (0, 1, 1000),
        ] {
            let mut sizer = ChunkSizer::new(ChunkRows::default(), 100);
            sizer.learn(rows, Duration::from_millis(took), target);
            assert_eq!(sizer.rows(), want, "{rows} rows in {took} ms");
        }
    }

    #[test]
    fn wide_rows_make_small_chunks() {
        assert_eq!(ChunkSizer::new(ChunkRows::default(), 1 << 20).rows(), 32);
        let mut sizer = ChunkSizer::new(ChunkRows::default(), 3200);
        for _ in 0..20 {
            let rows = sizer.rows();
            sizer.learn(rows, Duration::from_millis(1), Duration::from_millis(500));
        }
        assert_eq!(sizer.rows(), (32 << 20) / 3200);
    }
}
