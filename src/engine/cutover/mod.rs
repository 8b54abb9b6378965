//! The cut-over: when an attempt may be made ([`mod@gate`], [`crate::engine::contract::window`]), who is in its way ([`blockers`]), the attempt itself
//! ([`swap`]), the foreign keys that it carries over ([`relatives`]), and what ends it when nothing else does ([`watchdog`]).
//!
//! Promises: a failed attempt leaves the original in place, unlocked, and the engine alive and current; clients wait no longer than the
//! budget of one attempt; the swap happens only while both tables and the state table are locked by one session; nobody is killed who was
//! not asked to be, and never replication. Changes that the server makes itself (`INSTANT`, `INPLACE`) go through the same gate and the same
//! rules for blockers. It spawns nothing: an attempt and its watchdog are one future of the driver.
//!
//! Relies on: RENAME TABLE under LOCK TABLES … WRITE (MySQL 8.0.13 and later), atomic DDL (8.0), and metadata locks being released only
//! after a transaction is visible, so that the position read under the lock is behind every transaction on the original.
pub mod blockers;
pub mod gate;
pub mod native;
pub mod relatives;
pub mod statistics;
pub mod swap;
pub mod watchdog;

pub use gate::{Clock, Gate, gate, gate_of, system_clock};
pub use swap::{
    Attempt, are_these, attempt, came_meanwhile, definition_changed, replaced, swap_statement, swapped, truncated, unchanged, wait_gone,
};
