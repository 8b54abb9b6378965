//! The flush cycle (rules 4–8): dirty keys → barrier → look at the chunks → reconcile, drop or keep; and the safe position.
//!
//! Promises: after a cycle every key that was taken is reconciled, dropped because its chunk reads after the barrier, or kept; the safe
//! position is stored after the work that it describes. Relies on READ COMMITTED: each INSERT … SELECT has a snapshot of its own, taken
//! after the barrier. Owned and driven by the migrator; spawns nothing.

use super::board::{Beginning, Board, CopyState, copy_state};
use super::inbox::{Asked, Inbox, ParentNotice, StreamNotice, Taken, weight};
use super::migration::Migration;
use super::orphans::{self, Gone};
use super::reconcile::{self, Collisions, Pending, Settled};
use super::safe_points::SafePoints;
use super::transaction::Failure;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::state::record::{ChunkId, ChunkRecord, SafePosition, StreamPoint};
use crate::mysql::session::{KEEP_ALIVE_EVERY, LONG, SHORT};
use crate::mysql::{MySqlError, Session};
use crate::sql::key::{Key, KeyRange};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys in one transaction: enough to make the commit's cost small, few enough to hold row locks on the ghost only briefly.
const BATCH: usize = 500;
/// Keys whose place the server is asked for in one statement.
const CLASSIFY_BATCH: usize = 1000;
/// The checkpoint costs one commit; this often is enough to make a restart cheap, and to know how long a commit takes ([`crate::engine::rows::pace`]).
const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);
/// Once everything is copied, bytes of the log without a change of the table that a successor may have to read once more: a mebibyte takes
/// about as long to send and to read as the statements by which it begins. A judgement, not a measurement.
const WORTH_STORING: u64 = 1 << 20;
/// After batches that ran in parallel lost against each other, they run one after the other for so long: a unique key locks the gaps around
/// what is inserted, and then each of two batches soon waits for the other.
const ALONE: Duration = Duration::from_secs(30);
/// How long cycles may be broken off one after the other because the stream must bring more first.
const DEFERRED: Duration = Duration::from_secs(600);
/// How long one barrier may take before the server counts as stuck: commits that are delayed longer are not normal operation.
const BARRIER_LIMIT: Duration = Duration::from_secs(60);

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
    /// Keys kept because their chunk is under way, or deferred.
    pub kept: usize,
    /// Not all that was taken is settled: the stream must bring more first.
    pub deferred: bool,
    /// It was broken off. What was taken is gone; the safe position lies before it.
    pub halted: bool,
    /// Someone else may have made the original's table anew.
    pub rebuilt: bool,
    /// Something to look at in the stream.
    pub notice: Option<StreamNotice>,
    /// The same about a table that a new foreign key refers to.
    pub parent: Option<ParentNotice>,
}

/// The applier of one attempt.
pub struct Applier {
    migration: Arc<Migration>,
    inbox: Arc<Inbox>,
    board: Arc<Mutex<Board>>,
    records: Arc<Mutex<Vec<(ChunkId, ChunkRecord)>>>,
    /// The first one also takes barriers, asks for places and stores checkpoints.
    sessions: Vec<Session>,
    /// Keys kept from former cycles, and the safe position.
    points: SafePoints,
    /// What they take of the memory for dirty keys, where all of them wait for chunks.
    waiting: usize,
    stored: Option<SafePosition>,
    stored_at: Instant,
    kept_alive_at: Instant,
    /// The contiguous beginning of what is copied.
    beginning: Beginning,
    total: Flushed,
    /// Everything is copied: no key needs to be placed any more.
    copied: bool,
    /// How long checkpoints took since [`Applier::latencies`] was asked.
    latencies: Vec<Duration>,
    /// Unique keys in which values have collided.
    collisions: Collisions,
    /// Batches that ran in parallel got into each other's way.
    alone_until: Instant,
    /// Keys taken or kept that no event named.
    unlogged: HashSet<Key>,
    /// Since when no cycle was finished.
    /// Rows that left the parents of new foreign keys, still to be looked at.
    gone: HashSet<Gone>,
    /// The ghost has been, or is being, searched for rows without a parent.
    searched: bool,
    deferred_since: Option<Instant>,
}

/// Whether somebody wants the engine to stop: asked between any two batches.
type Halt = dyn Fn() -> bool + Sync;

/// What is left of a cycle.
enum Rest {
    None,
    Halted,
    Deferred(Vec<Key>),
}

fn locked<T>(mutex: &Mutex<T>) -> parking_lot::MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half-way through a change.
    mutex.lock()
}

/// A connection to flush on. A batch is small: it waits for a row lock for a second, then others have their turn.
async fn session(m: &Migration) -> Result<Session, MySqlError> {
    let mut session = m.session().await?;
    // An invisible unique key still holds values; the look-ahead must find them by it.
    let sql = "SET SESSION innodb_lock_wait_timeout = 1, optimizer_switch = _utf8mb4'use_invisible_indexes=on'";
    session.run("apply the settings for flushing", SHORT, sql).await?;
    Ok(session)
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
            sessions.push(session(&migration).await?);
        }
        // What a former engine recorded is merged on with the rest.
        locked(&records).extend(stored.iter().cloned());
        Ok(Self {
            migration,
            inbox,
            board,
            records,
            sessions,
            points: SafePoints::new(start),
            waiting: 0,
            stored: None,
            stored_at: Instant::now(),
            kept_alive_at: Instant::now(),
            beginning: Beginning::default(),
            total: Flushed { cycles: 0, applied },
            copied: false,
            latencies: Vec::new(),
            collisions: Collisions::default(),
            alone_until: Instant::now(),
            unlogged: HashSet::new(),
            gone: HashSet::new(),
            searched: false,
            deferred_since: None,
        })
    }

    /// Keys waiting: in the inbox and kept.
    pub fn backlog(&self) -> usize {
        self.inbox.counts().0 + self.points.count() + self.gone.len()
    }

    /// Totals so far.
    pub fn total(&self) -> Flushed {
        self.total
    }

    /// The copy is complete (all chunks committed before this call): no key needs to be placed from now on.
    pub fn copy_complete(&mut self) {
        self.copied = true;
    }

    /// From now on the rows that are reconciled are looked at, and those that refer to what leaves the parents of new foreign keys. To be called
    /// with all rows copied, before the ghost is searched. What left the parents before is visible: its cycle has waited for it.
    pub fn search_begins(&mut self) {
        self.searched = true;
    }

    /// One cycle.
    ///
    /// # Errors
    /// Whatever ends the attempt. The keys taken are lost then: the next attempt streams them again from the safe position.
    pub async fn cycle(&mut self, halt: &Halt) -> Result<Cycle, EngineError> {
        // A chunk under way may keep any number of keys, as the last one does, which has no end: they count as dirty keys do. Chunks end.
        let crowded = self.waiting > self.inbox.part_size();
        let mut taken = if crowded { self.inbox.take_none(self.points.last()) } else { self.inbox.take() };
        self.collisions.expect_more(taken.more);
        let mut keys = std::mem::take(&mut taken.keys);
        self.unlogged.extend(taken.added.drain());
        keys.extend(self.points.kept().cloned());
        // Sorting gives the batches locality in the ghost's index; for keys that only the server compares it is harmless.
        keys.sort_unstable();
        keys.dedup();
        let mut cycle = Cycle { taken: keys.len(), rebuilt: taken.rebuilt, notice: taken.notice, parent: taken.parent, ..Cycle::default() };
        let mut keep = Vec::new();
        self.gone.extend(taken.gone.drain());
        if !keys.is_empty() || !self.gone.is_empty() || cycle.parent.is_some() {
            if !self.barrier(&taken, halt).await? {
                return Ok(Cycle { halted: true, ..cycle });
            }
            // Only now, after the barrier, the chunks are looked at: sampling earlier would drop a key whose chunk read before it.
            let (reconcile, in_flight, dropped) = self.split_by_copy_state(keys).await?;
            keep = in_flight;
            cycle.reconciled = reconcile.len();
            self.total.applied += dropped as u64;
            match self.reconcile_all(&reconcile, halt).await? {
                Rest::None => self.deferred_since = None,
                // The safe position has not moved: the next attempt has all of it from the stream.
                Rest::Halted => return Ok(Cycle { halted: true, ..cycle }),
                Rest::Deferred(keys) => {
                    if taken.more {
                        self.deferred_since = None;
                    }
                    if self.deferred_since.get_or_insert_with(Instant::now).elapsed() > DEFERRED {
                        return Err(EngineError::transient(
                            Reason::StatementInterrupted,
                            "rows keep exchanging unique values faster than the binary log shows it; they will be retried",
                        ));
                    }
                    tracing::debug!(
                        keys = keys.len(),
                        "rows block each other's unique values, and their changes have not arrived yet; retrying later"
                    );
                    cycle.reconciled -= keys.len();
                    cycle.deferred = true;
                    keep.extend(keys);
                }
            }
            self.total.applied += cycle.reconciled as u64;
            if self.searched {
                let m = Arc::clone(&self.migration);
                let gone: Vec<Gone> = self.gone.iter().cloned().collect();
                match orphans::check(&m, &mut self.sessions[0], &reconcile, &gone).await? {
                    Some(unproven) => {
                        keep.extend(unproven);
                        self.gone.clear();
                    }
                    None => keep.extend(reconcile),
                }
            } else {
                // The search comes later, and sees it.
                self.gone.clear();
            }
        } else {
            // A chunk may ask.
            self.reconcile_all(&[], halt).await?;
        }
        cycle.kept = keep.len();
        self.waiting = if cycle.deferred { 0 } else { keep.iter().map(weight).sum() };
        self.points.ended(keep, taken.point, taken.held_at.as_ref());
        self.unlogged.retain(|key| self.points.keeps(key));
        // Whoever waits for a cycle relies on everything that was taken being settled.
        if !cycle.deferred && !crowded {
            self.total.cycles += 1;
        }
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
            self.sessions.push(session(&self.migration).await?);
        }
        Ok(())
    }

    /// How many connections it flushes on.
    pub fn connections(&self) -> u32 {
        u32::try_from(self.sessions.len()).unwrap_or(u32::MAX)
    }

    /// How long the checkpoints took since this was last asked.
    pub fn latencies(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.latencies)
    }

    /// The barrier, in steps of a second. False: halted.
    async fn barrier(&mut self, taken: &Taken, halt: &Halt) -> Result<bool, EngineError> {
        let m = Arc::clone(&self.migration);
        let end = Instant::now() + BARRIER_LIMIT;
        while !m.barrier(&mut self.sessions[0], &taken.fresh).await? {
            if halt() {
                return Ok(false);
            }
            if Instant::now() > end {
                return Err(MySqlError::timeout("wait until received transactions are visible", BARRIER_LIMIT).into());
            }
        }
        Ok(true)
    }

    /// Stores the safe position and merges chunk records, not more often than [`CHECKPOINT_EVERY`] unless `now`.
    ///
    /// # Errors
    /// Fenced, or the server's.
    pub async fn checkpoint(&mut self, now: bool) -> Result<(), EngineError> {
        if !now && self.stored.is_some() && self.stored_at.elapsed() < CHECKPOINT_EVERY {
            return Ok(());
        }
        let safe = SafePosition::at(self.points.safe(), self.total.applied);
        let merged = self.beginning.merge(&mut locked(&self.records));
        if !now && merged.is_none() && self.stored.as_ref().is_some_and(|stored| self.is_near(stored, &safe)) {
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

    /// Whether a successor would lose next to nothing by starting at the stored position and not at the present one. Our own heartbeats and
    /// checkpoints are in the log too: what they alone have moved is not worth the next checkpoint.
    fn is_near(&self, stored: &SafePosition, safe: &SafePosition) -> bool {
        if !self.copied {
            return stored.position == safe.position;
        }
        stored.applied == safe.applied
            && stored.position.file == safe.position.file
            && safe.position.offset.saturating_sub(stored.position.offset) < WORTH_STORING
    }

    /// Divides keys into those to reconcile, those to keep, and the number of those dropped.
    async fn split_by_copy_state(&mut self, keys: Vec<Key>) -> Result<(Vec<Key>, Vec<Key>, usize), EngineError> {
        if self.copied {
            return Ok((keys, Vec::new(), 0));
        }
        let (in_flight, ahead) = locked(&self.board).ranges();
        if in_flight.is_empty() && ahead.is_empty() {
            return Ok((keys, Vec::new(), 0));
        }
        let (mut reconcile, mut keep, mut dropped) = (Vec::new(), Vec::new(), 0);
        let mut put = |key: Key, state: CopyState| match state {
            CopyState::Copied => reconcile.push(key),
            CopyState::InFlight => keep.push(key),
            CopyState::Ahead => dropped += 1,
        };
        if self.migration.codec.client_comparable() {
            for key in keys {
                let state = copy_state(&key, &in_flight, &ahead);
                put(key, state);
            }
            return Ok((reconcile, keep, dropped));
        }
        // Rule 7: only the server knows this order.
        let ranges: Vec<KeyRange> = in_flight.iter().chain(&ahead).cloned().collect();
        for part in keys.chunks(CLASSIFY_BATCH) {
            let sql = self.migration.codec.classify_sql(part, None, &ranges);
            let found_in: Vec<(usize, usize)> = self.sessions[0].rows("find the ranges of changed keys", LONG, &sql).await?;
            let mut found = vec![0; part.len()];
            for (index, range) in found_in {
                *found.get_mut(index).ok_or_else(|| EngineError::internal("the server's answer has a key that was not asked for"))? = range;
            }
            for (key, range) in part.iter().zip(found) {
                let state = match range {
                    0 => CopyState::Copied,
                    n if n <= in_flight.len() => CopyState::InFlight,
                    _ => CopyState::Ahead,
                };
                put(key.clone(), state);
            }
        }
        Ok((reconcile, keep, dropped))
    }

    /// Reconciles distinct keys. Batches run in parallel as long as they do not get into each other's way; where values collide, or row
    /// locks do, they run one after the other, and whoever is in the way is looked for before he is met ([`reconcile`]). What chunks ask
    /// for goes first, between any two batches.
    async fn reconcile_all(&mut self, keys: &[Key], halt: &Halt) -> Result<Rest, EngineError> {
        let unlogged = std::mem::take(&mut self.unlogged);
        let rest = self.reconcile_beside(keys, &unlogged, halt).await;
        self.unlogged = unlogged;
        rest
    }

    async fn reconcile_beside(&mut self, keys: &[Key], unlogged: &HashSet<Key>, halt: &Halt) -> Result<Rest, EngineError> {
        let mut pending = if keys.is_empty() || self.collisions.any() || Instant::now() < self.alone_until {
            Pending::new([keys], unlogged)
        } else {
            Pending::new(self.in_parallel(keys, halt).await?, unlogged)
        }
        .together(self.migration.keeps());
        let mut removed = false;
        // Batches that are left for the next cycle.
        let mut aside: Vec<Key> = Vec::new();
        loop {
            for asked in self.inbox.asked() {
                self.serve(asked, &pending, halt).await?;
            }
            if pending.is_empty() {
                return Ok(if aside.is_empty() { Rest::None } else { Rest::Deferred(aside) });
            }
            if halt() {
                return Ok(Rest::Halted);
            }
            if self.collisions.blind() && !removed {
                removed = true;
                for batch in pending.removable(BATCH) {
                    self.remove(&batch, halt).await?;
                }
                continue;
            }
            let Some(batch) = pending.next(BATCH) else { continue };
            let m = Arc::clone(&self.migration);
            match reconcile::patiently(&m, &mut self.sessions[0], batch, &mut self.collisions, &pending, halt).await? {
                Settled::Done => {}
                Settled::Halted => return Ok(Rest::Halted),
                Settled::Blind => pending.again(batch),
                // What is in the way is never pending all at once: the rest must not wait for it. Fewer keys have fewer in their way.
                Settled::Full if self.collisions.more_to_come() && batch.len() > 1 => {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    pending.again(second);
                    pending.again(first);
                }
                Settled::Full | Settled::Deferred if self.collisions.more_to_come() => aside.extend_from_slice(batch),
                // The stream brings more; then all of it is pending.
                Settled::Full | Settled::Deferred => {
                    pending.again(batch);
                    return Ok(Rest::Deferred(pending.keys()));
                }
            }
        }
    }

    /// Batches in parallel, until they get into each other's way. Returns what is left.
    async fn in_parallel<'k>(&mut self, keys: &'k [Key], halt: &Halt) -> Result<Vec<&'k [Key]>, EngineError> {
        let m = &self.migration;
        let workers = self.sessions.len().min(keys.len().div_ceil(BATCH));
        // Few keys are shared out evenly: the time of a cycle is that of its longest batch.
        let size = keys.len().div_ceil(workers).clamp(1, BATCH);
        let queue: Mutex<&[Key]> = Mutex::new(keys);
        let losers: Mutex<Vec<&[Key]>> = Mutex::default();
        let conflict: Mutex<Option<MySqlError>> = Mutex::default();
        let inbox = &self.inbox;
        let work = self.sessions.iter_mut().take(workers).map(|session| {
            let (queue, losers, conflict) = (&queue, &losers, &conflict);
            async move {
                loop {
                    if !locked(losers).is_empty() || inbox.is_asked() || halt() {
                        return Ok::<(), EngineError>(());
                    }
                    let batch = {
                        let mut queue = locked(queue);
                        let left: &[Key] = *queue;
                        let (batch, rest) = left.split_at(size.min(left.len()));
                        *queue = rest;
                        batch
                    };
                    if batch.is_empty() {
                        return Ok(());
                    }
                    match reconcile::plainly(m, session, batch).await {
                        Ok(()) => {}
                        Err(failure @ (Failure::Lost(_) | Failure::Conflict(_))) => {
                            locked(losers).push(batch);
                            if let Failure::Conflict(error) = failure {
                                locked(conflict).get_or_insert(error);
                            }
                        }
                        Err(Failure::Over(error)) => return Err(error),
                    }
                }
            }
        });
        futures::future::try_join_all(work).await?;
        let mut left = losers.into_inner();
        if !left.is_empty() {
            self.alone_until = Instant::now() + ALONE;
        }
        if let Some(error) = conflict.into_inner() {
            let m = Arc::clone(&self.migration);
            self.collisions.learn(&m, &mut self.sessions[0], &error).await?;
        }
        left.push(queue.into_inner());
        Ok(left)
    }

    /// Reconciles rows that are in a chunk's way. They are on the ghost, so their chunk is done, and there is nothing to place.
    async fn serve(&mut self, asked: Asked, pending: &Pending<'_>, halt: &Halt) -> Result<(), EngineError> {
        let m = Arc::clone(&self.migration);
        self.collisions.learn(&m, &mut self.sessions[0], &asked.error).await?;
        for batch in asked.keys.chunks(BATCH) {
            reconcile::patiently(&m, &mut self.sessions[0], batch, &mut self.collisions, pending, halt).await?;
        }
        // The chunk may have ended.
        let _ = asked.done.send(());
        Ok(())
    }

    /// Removes the ghost's rows of pending keys.
    async fn remove(&mut self, keys: &[Key], halt: &Halt) -> Result<(), EngineError> {
        let mut losses = 0;
        while !keys.is_empty() && !halt() {
            match reconcile::remove(&self.migration, &mut self.sessions[0], keys).await {
                Ok(()) => break,
                Err(Failure::Lost(_)) if losses < 20 => losses += 1,
                Err(Failure::Lost(error) | Failure::Conflict(error)) => return Err(error.into()),
                Err(Failure::Over(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands the keys that are dirty now to the cut-over, which reconciles them under its lock. When the attempt fails it gives them back
    /// by [`Applier::give_back`].
    pub fn take_for_cut_over(&mut self) -> Vec<Key> {
        let taken = self.inbox.take();
        self.unlogged.extend(taken.added);
        self.gone.extend(taken.gone);
        let mut keys = taken.keys;
        keys.extend(self.points.kept().cloned());
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Rows that left the parents of new foreign keys, and were not looked at yet.
    pub fn gone(&self) -> Vec<Gone> {
        self.gone.iter().cloned().collect()
    }

    /// The cut-over did not happen: these keys are dirty again.
    pub fn give_back(&mut self, mut keys: Vec<Key>) {
        // They were dirty at or after the safe position, which has not moved since. An attempt may have ended before it took any.
        keys.extend(self.points.kept().cloned());
        self.points.keep(keys);
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
