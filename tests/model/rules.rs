//! The rules of the engine as switches, and the sizes of a run.
//!
//! `Rules::default()` is what the engine does. Every other value of a switch is a mistake one could make, or another way of
//! doing it that deserves its own proof.

use crate::database::Table;

/// How the engine fixes the place where the stream begins (rule 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Read the log's end, then wait until everything up to it is visible; only then the first chunk is read.
    PositionThenBarrier,
    /// `gtid_executed`: what is visible now. No wait is needed, the rest will be streamed.
    ExecutedSet,
    /// Mistake: the log's end (file and position), without the wait.
    PositionWithoutBarrier,
    /// Mistake: begin the stream after the first chunk was read.
    AfterFirstChunk,
}

/// What stands between taking the dirty keys and looking at the chunks (the barrier, rule 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// `WAIT_FOR_EXECUTED_GTID_SET`: every transaction up to p is visible.
    Executed,
    /// Commit a marker row after receiving p. Worth something only if commits become visible in the log's order.
    Marker,
    /// A locking read (`FOR SHARE`) of every key taken, before the chunks are looked at.
    LockingReadBeforeSampling,
    /// Mistake: only the reconcile's own read is `FOR SHARE`; keys that are dropped are never waited for.
    LockingReadAtReconcile,
    /// Mistake: wait for what lies before the transaction whose keys were taken.
    OneBehind,
    /// Mistake: nothing.
    None,
}

/// What becomes of dirty keys of a range whose chunk is in flight (rule 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// They stay dirty, since the position they had.
    Keep,
    /// Mistake: dropped, like those of a range that was not dispatched.
    Drop,
    /// Mistake: reconciled, like those of a copied range.
    Reconcile,
}

/// What is done about 1062 on a secondary unique key (rule 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Roll back, make the ghost row that holds the value dirty, include it, read again.
    Include,
    /// The same for a flush; a chunk only makes the holder dirty and tries again, and the flush does the work.
    HandOver,
    /// As `HandOver`; and a flush only removes holders that are pending, whose own batch is still to come in this cycle. Others join it.
    Pending,
    /// Mistake: the same, and the batch to come forgets those that were removed.
    PendingForgotten,
    /// Mistake: `INSERT IGNORE`.
    Ignore,
    /// Mistake: `REPLACE`.
    Replace,
}

/// What keeps two transactions of one engine from writing the same ghost key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latch {
    /// A latch per key in the engine, held from before the read to after the commit.
    Key,
    /// Only InnoDB's row locks: a DELETE locks the rows it finds, and nothing where it finds none.
    RowLocks,
}

/// How a transaction makes sure that its engine still owns the migration (rule 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// The epoch is read `FOR SHARE` in the transaction: the bump waits for it or ends it, and afterwards it fails.
    Locking,
    /// Mistake: a plain read of the epoch when the transaction begins.
    PlainRead,
    /// Mistake: none.
    None,
}

/// Where the fence is checked in the cut-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutFence {
    /// At once when the lock is held, before anything is written.
    BeforeReconcile,
    /// Mistake: just before the swap, after the last reconcile.
    BeforeSwap,
    /// Mistake: not at all.
    None,
}

/// When the chunk's record becomes durable (rule 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// In the chunk's transaction.
    Same,
    /// Mistake: in one before it.
    Earlier,
    /// Mistake: in one after it.
    Later,
}

/// When the safe position is stored (rule 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safe {
    /// After the work it describes.
    AfterWork,
    /// Mistake: when the keys are taken.
    AtTake,
    /// Mistake: after the work, but keys kept for a chunk in flight are forgotten.
    ForgetsKept,
}

/// One choice for every rule.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Rule 1.
    pub start: Start,
    /// What a flush waits for before it reads.
    pub barrier: Barrier,
    /// Rule 4: the chunks are looked at after the barrier (false: before it).
    pub sample_after_barrier: bool,
    /// Rule 4.
    pub in_flight: InFlight,
    /// Rule 3.
    pub record: Record,
    /// Rule 6.
    pub conflict: Conflict,
    /// What rule 6 needs beside it.
    pub latch: Latch,
    /// Rule 8.
    pub safe: Safe,
    /// Rule 15.
    pub fence: Fence,
    /// Rule 15, under the lock of the cut-over.
    pub cut_fence: CutFence,
    /// The cut-over: wait for the position that was read under the lock.
    pub wait_for_position: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            start: Start::PositionThenBarrier,
            barrier: Barrier::Executed,
            sample_after_barrier: true,
            in_flight: InFlight::Keep,
            record: Record::Same,
            conflict: Conflict::Include,
            latch: Latch::Key,
            safe: Safe::AfterWork,
            fence: Fence::Locking,
            cut_fence: CutFence::BeforeReconcile,
            wait_for_position: true,
        }
    }
}

/// The sizes of a run: what the checker enumerates.
#[derive(Clone, Debug)]
pub struct Size {
    /// The original when the engine starts. Absent rows are 0.
    pub initial: Table,
    /// Number of keys, at most `database::KEYS`.
    pub keys: u8,
    /// Unique values that rows may take: 1..=values.
    pub values: u8,
    /// Transactions of the application; which ones is left to the checker.
    pub transactions: u8,
    /// Whether transactions that hand a value from one row to another, or swap two, are among them.
    pub two_row_writes: bool,
    /// The keys of each chunk, as bit masks.
    pub chunks: &'static [u8],
    /// Chunks that may be in flight at once.
    pub workers: u8,
    /// Whether a flush runs as two transactions side by side.
    pub parallel_flush: bool,
    /// How often the engine may die and be started again.
    pub crashes: u8,
    /// How often another engine may take over while the old one lives on.
    pub takeovers: u8,
    /// Whether a new engine may also throw the ghost away and begin again.
    pub fresh: bool,
    /// Whether commits become visible in the log's order (`binlog_order_commits`).
    pub ordered: bool,
    /// Whether the state remembers that a conflict happened (for the reachability run; it multiplies the states).
    pub remember: bool,
}

impl Size {
    /// Two keys in two chunks, no faults.
    pub const fn small() -> Self {
        Self {
            initial: [1, 0, 0],
            keys: 2,
            values: 2,
            transactions: 2,
            two_row_writes: true,
            chunks: &[0b001, 0b010],
            workers: 2,
            parallel_flush: false,
            crashes: 0,
            takeovers: 0,
            fresh: false,
            ordered: true,
            remember: false,
        }
    }
}
