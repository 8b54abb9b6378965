//! What a table is and what becomes of it: reading it and its server ([`inspector`], [`sight`], [`replica`]), what a server must be
//! ([`server`]), comparing definitions and making
//! the empty clone ([`definition`]), the clauses that lead to a definition ([`desired`]), what the clauses are evaluated in ([`evaluation`]), which algorithm makes the change ([`chooser`]), and the
//! tables that foreign keys bind it to ([`relatives`]) and its triggers ([`triggers`]).
//!
//! Promises: what cannot be seen is not absent ([`sight`] knows for each fact which privilege shows it); nothing here writes rows.
pub mod chooser;
pub mod definition;
pub mod desired;
pub mod evaluation;
pub mod inspector;
pub mod relatives;
pub mod replica;
pub mod server;
pub mod sight;
pub mod triggers;
