//! SQL without a server: names, the ALTER clauses, tables as values, which key a migration walks along, how columns map.
//!
//! Everything here is pure: text and values in, text and values out. No I/O, no clock, no async; nothing here owns a task.
//! What is built in one place only: identifiers are quoted by [`quote::identifier`], key values become SQL by
//! [`key::KeyCodec`], column values become the new type by [`mapping::ColumnMapping`], generated names come from [`names`].
//!
//! | question | where |
//! |---|---|
//! | what does this ALTER do, and do we take it? | [`alter`] |
//! | which column of the ghost comes from which column, and through which conversion? | [`mapping`] |
//! | along which unique key do we copy and reconcile? | [`key::choose()`] |
//! | how is a key value kept, compared and written as SQL? | [`key::KeyCodec`] |
//! | what does SHOW CREATE TABLE say, and how does the ghost's differ? | [`create`] |
//! | which clauses lead from one definition to another? | [`desired`] |
//! | can the old table be kept current after a change, and along which key? | [`way_back`] |
//! | what are the columns and indexes of a table, as values? | [`table`] |
//! | which foreign keys has a table, and how do they pass a swap? | [`foreign_key`] |
//! | what is a trigger, and how is it made again? | [`trigger`] |
//! | what does SHOW GRANTS say? | [`grants`] |
//! | where are clauses, names and literals in a text? | [`token`] |
//! | what is computed from a row, so that equal rows give equal numbers? | [`digest`] |
//! | are two values one value under two types? | [`values`] |
//!
//! Rules of MySQL relied upon: the session has `sql_mode` without `ANSI_QUOTES` and `NO_BACKSLASH_ESCAPES`, the connection
//! character set is utf8mb4 and the time zone `+00:00` (the engine sets all of them).
// A test that meets an unexpected value should say so by failing.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod alter;
pub mod create;
pub mod desired;
pub mod digest;
pub mod foreign_key;
pub mod grants;
pub mod key;
pub mod mapping;
pub mod names;
pub mod quote;
pub mod table;
pub mod token;
pub mod trigger;
pub mod values;
pub mod way_back;
