//! The migration key: along which unique key a table is copied and reconciled, and key values as values.
//!
//! A key is chosen by [`choose()`], kept as a [`Key`] (bytes, a few for each row that changed), read and written by [`KeyCodec`].
//!
//! * `choose`: which index, and why not the others.
//! * `propose`: what gives a table without one a key.
//! * `value`: one column's value: from a row or the binary log to bytes and back to a literal.
//! * `codec`: the whole tuple; encode, compare.
//! * `predicate`: the SQL: lists, ranges, classification.
//!
//! Promises: the same stored value gives the same [`Key`] whether it was read by SELECT or from the binary log; two different
//! stored values never give the same one; nothing here panics on any value. Whether two *different* keys are one to the server
//! (`'a'` and `'A'` under a case-insensitive collation) only the server says.

mod choose;
mod codec;
mod predicate;
mod propose;
mod value;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

pub use choose::{
    ANOTHER_IMAGE, KeyColumn, MigrationKey, NoUsableKey, NullableColumn, Rejection, choose, conversion_keeps_key, not_logged,
};
pub use codec::{KeyCodec, KeyError};
pub use predicate::{BEYOND_FRONTIER, IN_NO_RANGE};
pub use propose::propose;

use super::quote;

/// Which of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The table as it is.
    Original,
    /// The table as it will be.
    Ghost,
}

/// The time zone of the sessions that a key is written and read in.
///
/// Where it shifts, an hour of the clock comes twice: two instants look alike, and the server compares what they look like. So there a TIMESTAMP
/// is compared by its seconds, beside a condition on the clock that the index serves and that no row is lost by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// So many seconds east of UTC, always.
    Fixed(i32),
    /// With summer time, or a history of offsets.
    Shifting,
}

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone::Fixed(0);
}

/// One value of the migration key, encoded. Two integers fit without an allocation.
///
/// Where [`KeyCodec::client_comparable`] holds, the order of the bytes is the order of the index.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub(crate) SmallVec<[u8; 16]>);

impl Key {
    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A key from [`Key::as_bytes`]; [`KeyCodec::check`] says whether it fits the table.
    pub fn from_bytes(bytes: &[u8]) -> Key {
        Key(SmallVec::from_slice(bytes))
    }

    /// Bytes this key takes in memory, for limits.
    pub fn memory(&self) -> usize {
        size_of::<Key>() + if self.0.spilled() { self.0.capacity() } else { 0 }
    }
}

/// Hexadecimal: key values are row values, and this form is for tests and state, not for logs.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", quote::hex(&self.0))
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&quote::hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = quote::unhex(&text).ok_or_else(|| serde::de::Error::custom("a key must have an even number of hexadecimal digits"))?;
        Ok(Key::from_bytes(&bytes))
    }
}

/// The keys K with `lo < K <= hi`, in the index's order; `None` is infinity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyRange {
    /// Exclusive; `None` is −∞.
    pub lo: Option<Key>,
    /// Inclusive; `None` is +∞.
    pub hi: Option<Key>,
}

impl KeyRange {
    /// All keys.
    pub const ALL: KeyRange = KeyRange { lo: None, hi: None };
}
