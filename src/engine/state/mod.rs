//! What a migration remembers, and who may write: the values ([`record`]), the state table that keeps them in MySQL ([`store`]), the named lock
//! and what its holder may end and drop ([`fence`]), whether a swap happened ([`outcome`]), and another engine's or server's work resumed
//! ([`takeover`]).
//!
//! Promises: everything is written in the transaction that it describes, and only by the owner of the epoch. Relies on GET_LOCK being released
//! with its session, and on `FOR SHARE` being a current read.
pub mod fence;
pub mod outcome;
pub mod record;
pub mod store;
pub mod takeover;
