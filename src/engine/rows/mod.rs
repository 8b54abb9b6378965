//! The rows: which are to be written and how they get there. Copying ([`copier`], [`board`]), following the log ([`streamer`], [`inbox`]),
//! making rows equal ([`applier`], [`reconcile`], [`conflict`]), all of them through one transaction ([`transaction`]), proving that they are ([`verifier`]), and what helps them.
//!
//! Promises: an event says which key is dirty, nothing else; a row of the ghost is only ever written from the original's present row, after a
//! barrier, behind the fence. Tasks are spawned and joined by `lifecycle`.
pub mod applier;
pub mod board;
pub mod conflict;
pub mod copier;
pub mod helper_index;
pub mod inbox;
pub mod index_build;
pub mod key_nulls;
pub mod migration;
pub mod numbers;
pub mod orphans;
pub mod pace;
pub mod reconcile;
pub mod row_count;
pub mod safe_points;
pub mod streamer;
pub mod transaction;
pub mod turned;
pub mod verifier;
pub mod watched;
