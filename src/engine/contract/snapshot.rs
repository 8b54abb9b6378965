//! What the engine tells: a value published on a watch channel, always whole, always the latest.

use super::reason::Reason;
use std::time::{Duration, SystemTime};

/// Where a migration is. For people and conditions; the engine's own logic reads its types, not this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// Connecting, reading definitions, proving the ALTER, taking the lock.
    #[default]
    Inspecting,
    /// Rows are being copied and changes applied.
    Copying,
    /// Copy complete; the tail is being applied, deferred indexes built.
    CatchingUp,
    /// Both sides are compared.
    Verifying,
    /// Everything is ready; the gate is closed.
    AwaitingCutOver,
    /// An attempt is being made or backed off from.
    CuttingOver,
    /// Swapped; the old table is kept current, so that the change can be taken back.
    Revertible,
    /// Swapped; leftovers are removed.
    CleaningUp,
    /// Stopped by `paused`; the work is kept.
    Paused,
    /// Over; see the outcome.
    Finished,
}

/// Everything a front end shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Where it is.
    pub phase: Phase,
    /// Whether the inspector has accepted the migration.
    pub validated: bool,
    /// The clauses that `spec.desired` comes to, once derived; empty if there is nothing to do.
    pub clauses: Option<String>,
    /// How the change is made and why, once decided.
    pub algorithm: Option<ChosenAlgorithm>,
    /// Rows and changes.
    pub progress: Progress,
    /// Present while copying is held back.
    pub throttle: Option<Throttle>,
    /// Sum of all throttled time.
    pub throttled_total: Duration,
    /// In [`Phase::CatchingUp`]: why the backlog does not become small, and what to do.
    pub stuck: Option<String>,
    /// Attempts and their result.
    pub cut_over: CutOver,
    /// Comparison of the two tables; `None` before it began.
    pub verification: Option<Verification>,
    /// Names of the tables made.
    pub tables: Tables,
    /// Whether the change can be taken back; `None` while it is not made, or where that was not asked for.
    pub revert: Option<Revert>,
    /// Present while the engine is getting over a transient error.
    pub retrying: Option<Retrying>,
    /// This engine's random id.
    pub session: String,
    /// How often the work was taken up again from the state table.
    pub resumed_count: u32,
    /// When this migration (not this engine) began.
    pub started_at: Option<SystemTime>,
    /// How long the last chunk took.
    pub last_chunk: Option<Duration>,
    /// Notices that a person should see once (Events): sequence number, reason, text. The last few only.
    pub notices: Vec<Notice>,
}

/// Something worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Grows by one for each notice of this engine.
    pub sequence: u64,
    /// CamelCase reason, e.g. `CutOverAttemptFailed`.
    pub reason: &'static str,
    /// Whether it is a warning.
    pub warning: bool,
    /// One sentence, free of row values and secrets.
    pub message: String,
}

/// The way chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenAlgorithm {
    /// The algorithm; never `Auto`.
    pub chosen: crate::engine::contract::spec::Algorithm,
    /// Why, in the server's words where it refused a cheaper one.
    pub reason: String,
}

/// Numbers of rows and changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Rows written by chunks.
    pub rows_copied: u64,
    /// Rows the table is thought to have: by the server's statistics, or counted (`copy.exactRowCount`).
    pub rows_estimated: u64,
    /// Whether all chunks are done.
    pub copy_complete: bool,
    /// Estimated time to the end of the copy, without throttled time.
    pub eta: Option<Duration>,
    /// Row images of the table seen in the binary log.
    pub changes_seen: u64,
    /// Keys reconciled or found not to need it.
    pub changes_applied: u64,
    /// Distinct dirty keys waiting.
    pub backlog: u64,
    /// For how long the end of the log, as last read from the server, has not been reached.
    pub binlog_lag: Option<Duration>,
    /// Lag of the replica that is furthest behind, of those that could be read.
    pub replica_lag: Option<Duration>,
    /// Chunks done.
    pub chunks: u64,
    /// Copy workers at work now.
    pub copy_workers: u16,
}

impl Progress {
    /// Share of rows copied, 0–100; 100 only when the copy is complete.
    pub fn percent(&self) -> u8 {
        if self.copy_complete {
            return 100;
        }
        if self.rows_estimated == 0 {
            return 0;
        }
        u8::try_from((self.rows_copied.saturating_mul(100) / self.rows_estimated).min(99)).unwrap_or(99)
    }
}

/// Why copying waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// `User`, `Load`, `ReplicaLag`, …
    pub reason: &'static str,
    /// E.g. `12 s on db-2`.
    pub detail: String,
    /// Since when.
    pub since: SystemTime,
}

/// The cut-over so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CutOver {
    /// Attempts made.
    pub attempts: u32,
    /// Time of the last one.
    pub last_attempt: Option<SystemTime>,
    /// What ended it.
    pub last_failure: Option<String>,
    /// The session that holds a metadata lock on the table.
    pub blocked_by: Option<String>,
    /// How long the table was locked at the swap.
    pub locked: Option<Duration>,
    /// The hook that vetoed the last attempt, and what it said.
    pub vetoed_by: Option<String>,
    /// What the gate waits for; `None`: it is open, or has not been reached.
    pub waits: Option<Waits>,
    /// The force token that was acted upon last.
    pub handled_force: Option<String>,
}

/// What the gate of the cut-over waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// An approval.
    Approval,
    /// The end of the user's throttle.
    Throttle,
    /// A hook's consent.
    Hook,
    /// A window.
    Window {
        /// When the next one opens.
        opens: Option<SystemTime>,
    },
}

/// The comparison so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Ranges compared.
    pub chunks_checked: u64,
    /// Rows found different although no event explained it: those repaired, and those that came back.
    pub rows_different: u64,
    /// Rows found different once and repaired.
    pub rows_repaired: u64,
    /// Whether one whole pass is done.
    pub complete: bool,
    /// What is compared how, and what cannot be, in words.
    pub scope: String,
}

/// Names of the tables of a migration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// `_T_gho`
    pub ghost: String,
    /// `_T_ghc`
    pub state: String,
    /// `_T_del`
    pub old: String,
}

/// Whether a change that is made can be taken back without loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revert {
    /// It can.
    Possible {
        /// The end of the window.
        until: SystemTime,
    },
    /// Not any more, or it never could be.
    Over {
        /// A word for programs: a [`Reason`], or one of [`Revert::WORDS`].
        reason: &'static str,
        /// A sentence for people.
        message: String,
    },
}

impl Revert {
    /// The window has ended.
    pub const WINDOW_ENDED: &'static str = "WindowEnded";
    /// The server made the change itself, or the old table cannot be kept current.
    pub const NO_WAY_BACK: &'static str = "NoWayBack";
    /// It was taken back.
    pub const REVERTED: &'static str = "Reverted";
    /// All words that are not a [`Reason`].
    pub const WORDS: &'static [&'static str] = &[Self::WINDOW_ENDED, Self::NO_WAY_BACK, Self::REVERTED];
}

/// A transient error being retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrying {
    /// The reason, from the documented enum.
    pub reason: Reason,
    /// The error.
    pub message: String,
    /// When the next attempt is made.
    pub next_attempt: SystemTime,
}

/// How an engine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The table has its new definition.
    Succeeded,
    /// The change was made, and taken back without loss: the table has its former definition.
    Reverted,
    /// Proven on an empty ghost; nothing changed (mode DryRun).
    Proven,
    /// Rehearsed (mode TestOnReplica): the table is as it was, and the new one is beside it.
    Tested,
    /// Cancelled before the swap; cleaned up as the deletion policy says.
    Cancelled,
    /// Stopped by shutdown or pause; the work is kept in MySQL and a new engine takes it up.
    Stopped,
    /// Refused before anything was touched: nothing is left behind.
    Refused {
        /// From the documented enum.
        reason: Reason,
        /// What, where, what to do.
        message: String,
    },
    /// Failed for good: the original is untouched; what is left is in the message.
    Failed {
        /// From the documented enum.
        reason: Reason,
        /// What, where, what is left behind, what to do.
        message: String,
    },
    /// Whether the swap happened cannot be told.
    Unknown {
        /// What was tried and what to look at.
        message: String,
    },
}
