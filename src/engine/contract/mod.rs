//! What goes in and out of an engine, as values: the wish ([`spec`], [`hook`], [`window`]), what is shown of it ([`snapshot`], [`progress`],
//! [`notice`]), and what an error is ([`error`], [`reason`], [`retry`]).
//!
//! Promises: nothing here connects, waits or spawns, and nothing here knows another room of the engine; front ends need this room only.
pub mod error;
pub mod hook;
pub mod notice;
pub mod progress;
pub mod reason;
pub mod retry;
pub mod snapshot;
pub mod spec;
pub mod text;
pub mod window;
