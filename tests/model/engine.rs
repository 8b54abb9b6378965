//! The engine's side of the model: what an engine remembers, and what MySQL keeps for it.
//!
//! Every public method is one atomic step. Between two steps anything else may happen, the engine's death included.

use crate::database::{KEYS, Keys, Table, each};
use crate::rules::InFlight;

/// Chunks a run can have.
pub const CHUNKS: usize = 3;
/// Transactions of one flush that can run side by side.
pub const BATCHES: usize = 2;

/// What survives the engine: the ghost, and the state table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Durable {
    /// The ghost table.
    pub ghost: Table,
    /// Which chunks have a record, one bit each.
    pub records: u8,
    /// The safe position, once the stream's start is known.
    pub safe: Option<u8>,
    /// The owner's epoch.
    pub epoch: u8,
}

/// A transaction that writes the ghost: a chunk, or a batch of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tx {
    /// The keys it is there for.
    pub keys: Keys,
    /// Holders of unique values that it took along after 1062.
    pub extra: Keys,
    /// What it has read. None: not begun, or rolled back to try again.
    pub open: Option<Open>,
}

/// A transaction between its read and its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    /// The original as the INSERT … SELECT saw it.
    pub rows: Table,
    /// Ghost rows that its DELETE found and locked. Only kept where the row locks are the rule (`Latch::RowLocks`).
    pub locked: Keys,
    /// Ended by the server, because a new owner took the epoch's row lock.
    pub broken: bool,
}

impl Tx {
    pub fn new(keys: Keys) -> Self {
        Self { keys, extra: 0, open: None }
    }

    /// All the keys it writes.
    pub fn all(&self) -> Keys {
        self.keys | self.extra
    }
}

/// A chunk as the engine knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chunk {
    /// Not dispatched.
    Todo,
    /// Dispatched: in flight, whether or not its read has begun.
    InFlight(Tx),
    /// Its rows are committed, its record is not (`Record::Later` only).
    Unrecorded,
    /// Copied.
    Done,
}

/// For each key the position since which it is dirty, 0 if it is clean.
pub type Dirty = [u8; KEYS];

/// The flush cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flush {
    Idle,
    /// The keys are taken; the barrier for the position is awaited.
    Barrier {
        taken: Dirty,
        /// What the barrier waits for.
        upto: u8,
        /// The chunks looked at too early (`sample_after_barrier: false` only).
        sampled: Option<Sample>,
    },
    /// Reconciling.
    Work([Option<Tx>; BATCHES]),
    /// All written; the safe position may be stored.
    Store,
}

/// What becomes of the taken keys; those in neither mask are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sample {
    pub keep: Keys,
    pub reconcile: Keys,
}

/// The cut-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    No,
    /// The tables are locked.
    Locked,
    /// The last dirty keys are reconciled, under the lock.
    Reconciled,
}

/// An engine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Engine {
    /// The epoch it took.
    pub epoch: u8,
    /// Where its stream began.
    pub base: Option<u8>,
    /// How far its stream has come.
    pub delivered: u8,
    pub dirty: Dirty,
    pub chunks: [Chunk; CHUNKS],
    pub flush: Flush,
    pub cut: Cut,
}

impl Engine {
    /// A new engine over what MySQL keeps, for a table of so many chunks.
    pub fn resume(durable: &Durable, chunks: usize) -> Self {
        let mut state = [Chunk::Done; CHUNKS];
        for (i, chunk) in state.iter_mut().enumerate().take(chunks) {
            if durable.records & (1 << i) == 0 {
                *chunk = Chunk::Todo;
            }
        }
        Self {
            epoch: durable.epoch,
            base: durable.safe,
            delivered: durable.safe.unwrap_or(0),
            dirty: [0; KEYS],
            chunks: state,
            flush: Flush::Idle,
            cut: Cut::No,
        }
    }

    /// Rule 2: an event makes its keys dirty.
    pub fn deliver(&mut self, keys: Keys) {
        self.delivered += 1;
        self.mark(keys, self.delivered);
    }

    /// Makes keys dirty since a position, or since the earlier one they already have.
    pub fn mark(&mut self, keys: Keys, position: u8) {
        for k in each(keys) {
            if self.dirty[k] == 0 || self.dirty[k] > position {
                self.dirty[k] = position;
            }
        }
    }

    /// Keys that are dirty.
    pub fn dirty_keys(dirty: &Dirty) -> Keys {
        (0..KEYS).filter(|k| dirty[*k] != 0).fold(0, |keys, k| keys | 1 << k)
    }

    /// Rule 4: looks at the chunks and decides about the taken keys.
    pub fn sample(&self, taken: &Dirty, layout: &[Keys], rule: InFlight) -> Sample {
        let (mut todo, mut in_flight) = (0, 0);
        for (chunk, keys) in self.chunks.iter().zip(layout) {
            match chunk {
                Chunk::Todo => todo |= keys,
                Chunk::InFlight(_) => in_flight |= keys,
                Chunk::Unrecorded | Chunk::Done => {}
            }
        }
        let taken = Self::dirty_keys(taken);
        let copied = taken & !todo & !in_flight;
        match rule {
            InFlight::Keep => Sample { keep: taken & in_flight, reconcile: copied },
            InFlight::Drop => Sample { keep: 0, reconcile: copied },
            InFlight::Reconcile => Sample { keep: 0, reconcile: taken & !todo },
        }
    }

    /// Rule 8: the largest position with nothing dirty at or before it.
    pub fn frontier(&self) -> u8 {
        self.dirty.iter().filter(|p| **p != 0).min().map_or(self.delivered, |p| p - 1)
    }

    /// The transactions it has, by slot: the chunks first, then the flush's batches.
    pub fn slots(&self) -> [Option<Tx>; CHUNKS + BATCHES] {
        let mut slots = [None; CHUNKS + BATCHES];
        for (slot, chunk) in slots.iter_mut().zip(&self.chunks) {
            if let Chunk::InFlight(tx) = chunk {
                *slot = Some(*tx);
            }
        }
        if let Flush::Work(batches) = &self.flush {
            slots[CHUNKS..].copy_from_slice(batches);
        }
        slots
    }

    /// Puts a transaction back into its slot.
    pub fn set_slot(&mut self, slot: usize, tx: Tx) {
        if slot < CHUNKS {
            self.chunks[slot] = Chunk::InFlight(tx);
        } else if let Flush::Work(batches) = &mut self.flush {
            batches[slot - CHUNKS] = Some(tx);
        }
    }

    /// Whether any of its transactions is between read and commit.
    pub fn has_open(&self) -> bool {
        self.slots().iter().flatten().any(|tx| tx.open.is_some())
    }

    /// The server ends its open transactions: a new owner has taken the epoch.
    pub fn break_open(&mut self) {
        for (slot, tx) in self.slots().into_iter().enumerate() {
            if let Some(mut tx) = tx
                && let Some(open) = &mut tx.open
            {
                open.broken = true;
                self.set_slot(slot, tx);
            }
        }
    }

    /// Whether every chunk is copied.
    pub fn copied(&self) -> bool {
        self.chunks.iter().all(|c| *c == Chunk::Done)
    }
}
