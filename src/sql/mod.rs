//! SQL without a server: names, the ALTER clauses, tables as values, which key a migration walks along, how columns map.
//!
//! Everything here is pure: text and values in, text and values out. The one exception to "built in one place" is nothing:
//! identifiers are quoted by [`quote::identifier`] only, key values become SQL by [`key::KeyCodec`] only.
pub mod table;
