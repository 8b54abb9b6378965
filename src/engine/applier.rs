//! The flush cycle (rules 4–8): dirty keys → barrier → look at the chunks → reconcile, drop or keep; and the safe position.
//!
//! Promises: after a cycle every key that was taken is reconciled, dropped because its chunk reads after the barrier, or kept; the safe
//! position is stored after the work that it describes. Relies on READ COMMITTED: each INSERT … SELECT has a snapshot of its own, taken
//! after the barrier. Owned and driven by the migrator; spawns nothing.

use super::board::{Board, ChunkId, Place, place};
use super::checkpoint::{ChunkRecord, SafePosition, fenced};
use super::conflict::{self, Failure};
use super::copier::{check_warnings, rollback};
use super::error::EngineError;
use super::inbox::{Inbox, StreamNotice, StreamPoint, Taken};
use super::migration::Migration;
use super::reason::Reason;
use crate::mysql::Session;
use crate::mysql::session::{LONG, SHORT};
use crate::sql::key::{Key, KeyRange, Side};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Keys in one transaction: enough to make the commit's cost small, few enough to hold row locks on the ghost only briefly.
const BATCH: usize = 500;
/// Keys whose place the server is asked for in one statement.
const CLASSIFY_BATCH: usize = 1000;
/// The checkpoint costs one commit; this often is enough to make a restart cheap, and to know how long a commit takes ([`super::pace`]).
const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);
/// A connection that a quiet table leaves idle must not run into `wait_timeout` (600 s, see the session's settings).
pub const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(60);

/// What a cycle did, for those who wait for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Cycles finished.
    pub cycles: u64,
    /// Keys reconciled or dropped, in total.
    pub applied: u64,
}

/// What one cycle did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cycle {
    /// Keys taken from the inbox or kept from before.
    pub taken: usize,
    /// Keys made equal on the ghost.
    pub reconciled: usize,
    /// Keys kept because their chunk is under way.
    pub kept: usize,
    /// Something to look at in the stream.
    pub notice: Option<StreamNotice>,
}

/// The applier of one attempt.
pub struct Applier {
    migration: Arc<Migration>,
    inbox: Arc<Inbox>,
    board: Arc<Mutex<Board>>,
    records: Arc<Mutex<Vec<(ChunkId, ChunkRecord)>>>,
    /// The first one also takes barriers, asks for places and stores checkpoints.
    sessions: Vec<Session>,
    /// Keys kept from former cycles, with the safe point that they hold.
    kept: HashMap<Key, u64>,
    /// Safe points by number, for the kept keys.
    points: VecDeque<(u64, StreamPoint)>,
    last_point: StreamPoint,
    generation: u64,
    safe: StreamPoint,
    stored: Option<SafePosition>,
    stored_at: Instant,
    kept_alive_at: Instant,
    /// Chunk records merged so far: the contiguous beginning, with the id of its record.
    merged: Option<(u64, ChunkRecord)>,
    total: Flushed,
    /// Everything is copied: no key needs to be placed any more.
    copied: bool,
    /// How long checkpoints took since [`Applier::latencies`] was asked.
    latencies: Vec<Duration>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Applier {
    /// Opens `workers` connections (at least one).
    ///
    /// # Errors
    /// Unreachable.
    pub async fn open(
        migration: Arc<Migration>,
        inbox: Arc<Inbox>,
        board: Arc<Mutex<Board>>,
        records: Arc<Mutex<Vec<(ChunkId, ChunkRecord)>>>,
        workers: usize,
        start: StreamPoint,
        stored: &[(ChunkId, ChunkRecord)],
        applied: u64,
    ) -> Result<Self, EngineError> {
        let mut sessions = Vec::new();
        for _ in 0..workers.max(1) {
            sessions.push(migration.session().await?);
        }
        // What a former engine recorded is merged on with the rest.
        locked(&records).extend(stored.iter().cloned());
        Ok(Self {
            migration,
            inbox,
            board,
            records,
            sessions,
            kept: HashMap::new(),
            points: VecDeque::new(),
            last_point: start.clone(),
            generation: 0,
            safe: start,
            stored: None,
            stored_at: Instant::now(),
            kept_alive_at: Instant::now(),
            merged: None,
            total: Flushed { cycles: 0, applied },
            copied: false,
            latencies: Vec::new(),
        })
    }

    /// Keys waiting: in the inbox and kept.
    pub fn backlog(&self) -> usize {
        self.inbox.counts().0 + self.kept.len()
    }

    /// Totals so far.
    pub fn total(&self) -> Flushed {
        self.total
    }

    /// The copy is complete (all chunks committed before this call): no key needs to be placed from now on.
    pub fn copy_complete(&mut self) {
        self.copied = true;
    }

    /// One cycle.
    ///
    /// # Errors
    /// Whatever ends the attempt. The keys taken are lost then: the next attempt streams them again from the safe position.
    pub async fn cycle(&mut self) -> Result<Cycle, EngineError> {
        let mut taken = self.inbox.take();
        let mut keys = std::mem::take(&mut taken.keys);
        keys.extend(self.kept.keys().cloned());
        // Sorting gives the batches locality in the ghost's index; for keys that only the server compares it is harmless.
        keys.sort_unstable();
        keys.dedup();
        let mut cycle = Cycle { taken: keys.len(), notice: taken.notice, ..Cycle::default() };
        if !keys.is_empty() {
            let m = Arc::clone(&self.migration);
            m.barrier(&mut self.sessions[0], &taken.fresh).await?;
            // Only now, after the barrier, the chunks are looked at: sampling earlier would drop a key whose chunk read before it.
            let (reconcile, keep, dropped) = self.place_all(keys).await?;
            cycle.reconciled = reconcile.len();
            cycle.kept = keep.len();
            self.reconcile_all(&reconcile).await?;
            self.total.applied += (reconcile.len() + dropped) as u64;
            self.keep(keep);
        } else {
            self.keep(Vec::new());
        }
        self.advance(&taken);
        self.total.cycles += 1;
        self.keep_alive().await?;
        self.checkpoint(false).await?;
        Ok(cycle)
    }

    /// Uses each connection now and then. To be called while no cycle runs, too.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn keep_alive(&mut self) -> Result<(), EngineError> {
        if self.kept_alive_at.elapsed() >= KEEP_ALIVE_EVERY {
            self.kept_alive_at = Instant::now();
            for session in &mut self.sessions {
                session.run("keep the connection alive", SHORT, "DO 1").await?;
            }
        }
        Ok(())
    }

    /// Flushes on this many connections (at least one) from the next cycle on.
    ///
    /// # Errors
    /// Unreachable.
    pub async fn widen(&mut self, workers: usize) -> Result<(), EngineError> {
        while self.sessions.len() > workers.max(1) {
            if let Some(session) = self.sessions.pop() {
                session.close().await;
            }
        }
        while self.sessions.len() < workers {
            self.sessions.push(self.migration.session().await?);
        }
        Ok(())
    }

    /// How long the checkpoints took since this was last asked.
    pub fn latencies(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.latencies)
    }

    /// Keeps these keys; a key that was kept before goes on holding its old point.
    fn keep(&mut self, keys: Vec<Key>) {
        let old = std::mem::take(&mut self.kept);
        let mut opened = false;
        for key in keys {
            let generation = old.get(&key).copied().unwrap_or_else(|| {
                opened = true;
                self.generation
            });
            self.kept.insert(key, generation);
        }
        if opened {
            self.points.push_back((self.generation, self.last_point.clone()));
        }
        self.generation += 1;
    }

    /// The safe position after a cycle that took everything up to `taken.point`.
    fn advance(&mut self, taken: &Taken) {
        self.last_point = taken.point.clone();
        let oldest = self.kept.values().min().copied();
        while self.points.front().is_some_and(|(generation, _)| oldest.is_none_or(|o| *generation < o)) {
            self.points.pop_front();
        }
        let mut safe = self.points.front().map_or_else(|| taken.point.clone(), |(_, point)| point.clone());
        if let Some(held) = &taken.held_at {
            if held.position < safe.position {
                safe = held.clone();
            }
        }
        self.safe = safe;
    }

    /// Stores the safe position and merges chunk records, not more often than [`CHECKPOINT_EVERY`] unless `now`.
    ///
    /// # Errors
    /// Fenced, or the server's.
    pub async fn checkpoint(&mut self, now: bool) -> Result<(), EngineError> {
        if !now && self.stored.is_some() && self.stored_at.elapsed() < CHECKPOINT_EVERY {
            return Ok(());
        }
        let safe = SafePosition::at(&self.safe, self.total.applied);
        let merged = self.merge();
        if !now && merged.is_none() && self.stored.as_ref().is_some_and(|s| s.position == safe.position) {
            return Ok(());
        }
        let m = Arc::clone(&self.migration);
        let merged = merged.as_ref().map(|(first, chunk)| (*first, chunk));
        let began = Instant::now();
        m.state.checkpoint(&mut self.sessions[0], m.epoch, &safe, merged).await?;
        self.latencies.push(began.elapsed());
        self.stored = Some(safe);
        self.stored_at = Instant::now();
        Ok(())
    }

    /// Merges finished chunks that follow each other without a gap, so that the state table stays small. `None`: nothing new.
    fn merge(&mut self) -> Option<(u64, ChunkRecord)> {
        let mut records = locked(&self.records);
        records.sort_by_key(|(id, _)| *id);
        let mut used = 0;
        let mut grew = false;
        for (id, chunk) in records.iter() {
            match &mut self.merged {
                // Only the very first chunk begins at minus infinity.
                None if chunk.range.lo.is_none() => self.merged = Some((id.first, chunk.clone())),
                Some((_, whole)) if chunk.range.lo == whole.range.hi && whole.range.hi.is_some() && id.first == whole.last + 1 => {
                    whole.last = id.last;
                    whole.range.hi = chunk.range.hi.clone();
                    whole.rows += chunk.rows;
                    grew = true;
                }
                _ => break,
            }
            used += 1;
        }
        records.drain(..used);
        if grew { self.merged.clone() } else { None }
    }

    /// Divides keys into those to reconcile, those to keep, and the number of those dropped.
    async fn place_all(&mut self, keys: Vec<Key>) -> Result<(Vec<Key>, Vec<Key>, usize), EngineError> {
        if self.copied {
            return Ok((keys, Vec::new(), 0));
        }
        let (in_flight, ahead) = locked(&self.board).ranges();
        if in_flight.is_empty() && ahead.is_empty() {
            return Ok((keys, Vec::new(), 0));
        }
        let (mut reconcile, mut keep, mut dropped) = (Vec::new(), Vec::new(), 0);
        let mut put = |key: Key, place: Place| match place {
            Place::Copied => reconcile.push(key),
            Place::InFlight => keep.push(key),
            Place::Ahead => dropped += 1,
        };
        if self.migration.codec.client_comparable() {
            for key in keys {
                let place = place(&key, &in_flight, &ahead);
                put(key, place);
            }
            return Ok((reconcile, keep, dropped));
        }
        // Rule 7: only the server knows this order.
        let ranges: Vec<KeyRange> = in_flight.iter().chain(&ahead).cloned().collect();
        for part in keys.chunks(CLASSIFY_BATCH) {
            let sql = self.migration.codec.classify_sql(part, None, &ranges);
            let places: Vec<(usize, usize)> = self.sessions[0].rows("ask where keys lie", LONG, &sql).await?;
            let mut found = vec![0; part.len()];
            for (index, range) in places {
                *found.get_mut(index).ok_or_else(|| EngineError::internal("the server placed a key that it was not asked for"))? = range;
            }
            for (key, range) in part.iter().zip(found) {
                let place = match range {
                    0 => Place::Copied,
                    n if n <= in_flight.len() => Place::InFlight,
                    _ => Place::Ahead,
                };
                put(key.clone(), place);
            }
        }
        Ok((reconcile, keep, dropped))
    }

    /// Reconciles distinct keys: batches in parallel, then the losers one after the other.
    async fn reconcile_all(&mut self, keys: &[Key]) -> Result<(), EngineError> {
        if keys.is_empty() {
            return Ok(());
        }
        let m = &self.migration;
        let workers = self.sessions.len().min(keys.len().div_ceil(BATCH));
        // Few keys are shared out evenly: the time of a cycle is that of its longest batch.
        let size = keys.len().div_ceil(workers).clamp(1, BATCH);
        let queue: Mutex<VecDeque<&[Key]>> = Mutex::new(keys.chunks(size).collect());
        let losers: Mutex<Vec<&[Key]>> = Mutex::new(Vec::new());
        let work = self.sessions.iter_mut().take(workers).map(|session| {
            let (queue, losers) = (&queue, &losers);
            async move {
                loop {
                    let Some(batch) = locked(queue).pop_front() else {
                        return Ok::<(), EngineError>(());
                    };
                    match reconcile(m, session, batch).await {
                        Ok(()) => {}
                        Err(Failure::Lost(_) | Failure::Conflict(_)) => {
                            rollback(session).await?;
                            locked(losers).push(batch);
                        }
                        Err(Failure::Over(error)) => return Err(error),
                    }
                }
            }
        });
        futures::future::try_join_all(work).await?;
        let losers = losers.into_inner().unwrap_or_else(PoisonError::into_inner);
        for batch in losers {
            reconcile_patiently(m, &mut self.sessions[0], batch).await?;
        }
        Ok(())
    }

    /// Hands the keys that are dirty now to the cut-over, which reconciles them under its lock. When the attempt fails it gives them back
    /// by [`Applier::give_back`].
    pub fn take_for_cut_over(&mut self) -> Vec<Key> {
        let taken = self.inbox.take();
        let mut keys = taken.keys;
        keys.extend(self.kept.keys().cloned());
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The cut-over did not happen: these keys are dirty again.
    pub fn give_back(&mut self, keys: Vec<Key>) {
        // They were dirty at or after the safe position, which has not moved since.
        self.keep(keys);
    }

    /// The connection that checkpoints use, for short statements of the migrator.
    pub fn session(&mut self) -> &mut Session {
        &mut self.sessions[0]
    }

    /// Closes the connections.
    pub async fn close(self) {
        for session in self.sessions {
            session.close().await;
        }
    }
}

/// Makes the ghost's rows of these keys equal to the original's present rows, in one transaction behind the fence.
async fn reconcile(m: &Migration, session: &mut Session, keys: &[Key]) -> Result<(), Failure> {
    if !m.state.begin(session, m.epoch).await.map_err(Failure::of)? {
        return Err(Failure::Over(fenced()));
    }
    session.run("remove changed rows from the ghost", LONG, &m.delete_keys(keys)).await.map_err(Failure::of)?;
    let written = session.write("copy changed rows", LONG, &m.copy_keys(keys)).await.map_err(Failure::of)?;
    if written.warnings > 0 {
        check_warnings(session).await.map_err(Failure::Over)?;
    }
    session.run("commit changed rows", LONG, "COMMIT").await.map_err(Failure::of)
}

/// Repeats a batch that lost or met a unique conflict, alone, growing it by the holders of conflicting values.
async fn reconcile_patiently(m: &Migration, session: &mut Session, batch: &[Key]) -> Result<(), EngineError> {
    let mut keys = batch.to_vec();
    let mut stuck = 0_u32;
    for round in 0..100_u32 {
        match reconcile(m, session, &keys).await {
            Ok(()) => return Ok(()),
            Err(Failure::Lost(error)) => {
                rollback(session).await?;
                if round > 20 {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=10 * u64::from(round + 1)))).await;
            }
            Err(Failure::Conflict(error)) => {
                rollback(session).await?;
                let condition = m.codec.in_list(Side::Original, keys.iter());
                let before = keys.len();
                keys.extend(conflict::holders(m, session, &error, &condition).await?);
                keys.sort_unstable();
                keys.dedup();
                tracing::debug!(index = error.index, keys = keys.len(), round, "unique conflict in a batch");
                if keys.len() == before {
                    // Nobody outside the batch holds it: two of its own rows, or rows that moved between the two statements.
                    stuck += 1;
                    if stuck >= 3 {
                        conflict::prove(m, session, &error, &condition, &[]).await?;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            Err(Failure::Over(error)) => return Err(error),
        }
    }
    Err(EngineError::transient(
        Reason::DuplicateKey,
        "rows keep exchanging a unique value faster than they can be reconciled; they are tried again",
    ))
}
