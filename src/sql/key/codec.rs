//! The whole tuple of key columns: encode, decode, compare.

use std::cmp::Ordering;

use mysql_async::Value;
use smallvec::SmallVec;
use thiserror::Error;

use super::super::quote;
use super::super::table::{Column, ColumnType, TableDefinition};
use super::choose::MigrationKey;
use super::value::{Kind, Origin};
use super::{Key, Side, Zone};

/// Inside a string that is not the last column a zero byte is written as these two …
const ESCAPED_ZERO: [u8; 2] = [0, 0xff];
/// … and these two end it, so that memcmp of tuples is right: shorter first.
const TERMINATOR: [u8; 2] = [0, 0];

/// A value or definition that cannot be used as a key. No variant carries a row's value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// A key column that one of the definitions does not have.
    #[error("key column {0} is missing from the table's definition")]
    MissingColumn(String),
    /// A key column of a type that cannot be one.
    #[error("key column {0} has a type that cannot be part of a key")]
    UnusableType(String),
    /// Another number of values than the key has columns.
    #[error("the key has {expected} columns, but {found} values were read")]
    WrongCount {
        /// The key's columns.
        expected: usize,
        /// The values given.
        found: usize,
    },
    /// NULL in a NOT NULL column, or a value of another type: the table is not what it was.
    #[error("the value read for key column {column} is not of type {expected}; was the table changed meanwhile?")]
    UnexpectedValue {
        /// The column of the original.
        column: String,
        /// The type of the column, as MySQL writes it.
        expected: String,
    },
    /// NULL in a column that may be NULL, and of which the original was proven to hold none.
    #[error("key column {0} is NULL in a row")]
    Null(String),
    /// Stored bytes that are no key of this table.
    #[error("the stored key does not match this table; was its definition changed meanwhile?")]
    Malformed,
}

/// Reads and writes the values of one migration key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCodec {
    pub(super) columns: Vec<CodecColumn>,
    positions: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CodecColumn {
    pub name: String,
    pub type_text: String,
    pub kind: Kind,
    /// Quoted.
    pub original: String,
    /// Quoted.
    pub ghost: String,
    pub descending: bool,
    /// Whether the original's may be NULL: such rows are in no range.
    pub nullable: bool,
    /// Set where the ghost's column compares otherwise: the ghost's value in the original's character set and collation.
    pub ghost_as_original: Option<String>,
    ghost_select: String,
}

impl KeyCodec {
    /// The codec for a key that [`super::choose()`] chose.
    ///
    /// # Errors
    /// [`KeyError::MissingColumn`] or [`KeyError::UnusableType`] if the key is not of these tables.
    pub fn new(original: &TableDefinition, ghost: &TableDefinition, key: &MigrationKey) -> Result<KeyCodec, KeyError> {
        let mut codec = KeyCodec { columns: Vec::new(), positions: Vec::new() };
        for part in &key.columns {
            let missing = || KeyError::MissingColumn(part.original.clone());
            let position = original.columns.iter().position(|c| c.name == part.original).ok_or_else(missing)?;
            let from = original.columns.get(position).ok_or_else(missing)?;
            let to = ghost.column(&part.ghost).ok_or_else(|| KeyError::MissingColumn(part.ghost.clone()))?;
            let kind = Kind::of(from).ok_or_else(|| KeyError::UnusableType(from.name.clone()))?;
            let ghost = quote::identifier(&to.name);
            let (ghost_as_original, ghost_select) = ghost_expressions(&ghost, &kind, to);
            codec.positions.push(position);
            codec.columns.push(CodecColumn {
                name: from.name.clone(),
                type_text: from.type_text.clone(),
                original: quote::identifier(&from.name),
                ghost,
                descending: part.descending,
                nullable: from.nullable,
                ghost_as_original,
                ghost_select,
                kind,
            });
        }
        Ok(codec)
    }

    /// The same for sessions in another time zone than UTC.
    #[must_use]
    pub fn in_zone(mut self, of_sessions: Zone) -> KeyCodec {
        for column in &mut self.columns {
            if let Kind::Timestamp { zone, .. } = &mut column.kind {
                *zone = of_sessions;
            }
        }
        self
    }

    /// Whether a column is a TIMESTAMP in sessions whose clock shifts: two of its values may look alike, and are one to the server where it looks
    /// them up.
    pub fn has_instants(&self) -> bool {
        self.columns.iter().any(|c| c.kind.is_instant())
    }

    /// Where the key's columns are among the original's columns (all of them, in table order), in the key's order.
    pub fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// What to select for [`KeyCodec::encode_row`], one expression for each key column. Not for ORDER BY: see
    /// [`KeyCodec::order_by`].
    pub fn select_list(&self, side: Side) -> String {
        let expressions = self.columns.iter().map(|c| match side {
            Side::Original => c.kind.select(&c.original),
            Side::Ghost => c.ghost_select.clone(),
        });
        expressions.collect::<Vec<_>>().join(", ")
    }

    /// The key from a row of [`KeyCodec::select_list`], by either protocol.
    ///
    /// # Errors
    /// [`KeyError::UnexpectedValue`] if a value is not of its column's type.
    pub fn encode_row(&self, values: &[Value]) -> Result<Key, KeyError> {
        self.encode(values.iter().map(|v| (v, Origin::Row)).collect())
    }

    /// The key from the binary log: the values of the key's columns, in the key's order, as mysql_common decodes them.
    ///
    /// # Errors
    /// [`KeyError::UnexpectedValue`] if a value is not of its column's type.
    pub fn encode_binlog(&self, values: &[Value]) -> Result<Key, KeyError> {
        self.encode(values.iter().map(|v| (v, Origin::Log)).collect())
    }

    /// The same where the log may leave columns out (`binlog_row_image=MINIMAL`: what an INSERT does not name): such a column has its
    /// default, given as a row of [`KeyCodec::select_list`] has it.
    ///
    /// # Errors
    /// [`KeyError::UnexpectedValue`] also if a column without a default is left out.
    pub fn encode_binlog_or(&self, values: &[Option<Value>], defaults: &[Value]) -> Result<Key, KeyError> {
        let absent = Value::NULL;
        let value = |(i, value): (usize, &'_ Option<Value>)| match value {
            Some(value) => (value.clone(), Origin::Log),
            None => (defaults.get(i).unwrap_or(&absent).clone(), Origin::Row),
        };
        let values: Vec<(Value, Origin)> = values.iter().enumerate().map(value).collect();
        self.encode(values.iter().map(|(v, origin)| (v, *origin)).collect())
    }

    fn encode(&self, values: SmallVec<[(&Value, Origin); 4]>) -> Result<Key, KeyError> {
        if values.len() != self.columns.len() {
            return Err(KeyError::WrongCount { expected: self.columns.len(), found: values.len() });
        }
        let mut out: SmallVec<[u8; 16]> = SmallVec::new();
        for (i, (column, (value, origin))) in self.columns.iter().zip(values).enumerate() {
            if column.nullable && *value == Value::NULL {
                return Err(KeyError::Null(column.name.clone()));
            }
            let Some(bytes) = column.kind.encode(value, origin) else {
                let expected = column.type_text.clone();
                return Err(KeyError::UnexpectedValue { column: column.name.clone(), expected });
            };
            let start = out.len();
            if self.is_delimited(i) {
                for byte in bytes {
                    match byte {
                        0 => out.extend_from_slice(&ESCAPED_ZERO),
                        byte => out.push(byte),
                    }
                }
                out.extend_from_slice(&TERMINATOR);
            } else {
                out.extend_from_slice(&bytes);
            }
            if column.descending {
                out.iter_mut().skip(start).for_each(|b| *b = !*b);
            }
        }
        Ok(Key(out))
    }

    /// Whether a column's encoding needs an end mark: it varies in length, and more follows or its order is turned round.
    fn is_delimited(&self, index: usize) -> bool {
        self.columns.get(index).is_some_and(|c| c.kind.fixed_length().is_none() && (c.descending || index + 1 < self.columns.len()))
    }

    /// The encoded columns as they stand in the key, and each one's value.
    pub(super) fn split<'k>(&self, key: &'k Key) -> Option<Vec<Part<'k>>> {
        let mut rest = key.as_bytes();
        let mut parts = Vec::with_capacity(self.columns.len());
        for (i, column) in self.columns.iter().enumerate() {
            let turn = |bytes: &[u8]| -> Vec<u8> { bytes.iter().map(|b| if column.descending { !b } else { *b }).collect() };
            let length = match column.kind.fixed_length() {
                Some(length) => length,
                None if self.is_delimited(i) => end_of_delimited(rest, column.descending)?,
                None => rest.len(),
            };
            let encoded = rest.get(..length)?;
            rest = rest.get(length..)?;
            let mut value = turn(encoded);
            if self.is_delimited(i) {
                value = unescape(value.strip_suffix(&TERMINATOR)?)?;
            }
            parts.push(Part { encoded, value });
        }
        rest.is_empty().then_some(parts)
    }

    /// Whether bytes from outside (stored state) are a key of this table.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] if not.
    pub fn check(&self, key: &Key) -> Result<(), KeyError> {
        let parts = self.split(key).ok_or(KeyError::Malformed)?;
        let well_formed = self.columns.iter().zip(&parts).all(|(c, p)| c.kind.literal(&p.value).is_some());
        if well_formed { Ok(()) } else { Err(KeyError::Malformed) }
    }

    /// The order of two keys in the index; `None` where only the server may say (different strings with a collation).
    pub fn compare(&self, a: &Key, b: &Key) -> Option<Ordering> {
        if a == b {
            return Some(Ordering::Equal);
        }
        if self.client_comparable() {
            return Some(a.cmp(b));
        }
        let (a, b) = (self.split(a)?, self.split(b)?);
        for ((column, a), b) in self.columns.iter().zip(&a).zip(&b) {
            if a.encoded != b.encoded {
                return column.kind.comparable().then(|| a.encoded.cmp(b.encoded));
            }
        }
        Some(Ordering::Equal)
    }

    /// Whether the client may compare any two keys: no column has a collation.
    pub fn client_comparable(&self) -> bool {
        self.columns.iter().all(|c| c.kind.comparable())
    }

    /// Whether both sides order and equate keys alike. If not (a key column changes its collation), a range on the ghost
    /// cannot use its index, and two keys of one side may be one to the other.
    pub fn same_order(&self) -> bool {
        self.columns.iter().all(|c| c.ghost_as_original.is_none())
    }
}

/// One column of a key.
pub(super) struct Part<'k> {
    /// As it stands in the key: ascending in the index's order.
    pub encoded: &'k [u8],
    /// What [`Kind::literal`] takes.
    pub value: Vec<u8>,
}

/// The length of a delimited column, its end mark included.
fn end_of_delimited(bytes: &[u8], descending: bool) -> Option<usize> {
    let at = |i: usize| bytes.get(i).map(|b| if descending { !b } else { *b });
    let mut i = 0;
    loop {
        match at(i)? {
            0 if at(i + 1)? == 0 => return Some(i + 2),
            0 => i += 2,
            _ => i += 1,
        }
    }
}

fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut iter = bytes.iter();
    while let Some(byte) = iter.next() {
        if *byte == 0 && iter.next() != Some(&0xff) {
            return None;
        }
        out.push(*byte);
    }
    Some(out)
}

/// The ghost's column in the original's character set and collation, where it has others, and what to select.
fn ghost_expressions(ghost: &str, kind: &Kind, to: &Column) -> (Option<String>, String) {
    let Kind::Text { charset, collation, .. } = kind else { return (None, kind.select(ghost)) };
    let text = matches!(to.column_type, ColumnType::Char { .. } | ColumnType::VarChar { .. });
    let same_charset = text && to.charset.as_deref() == Some(charset);
    let converted = if same_charset { ghost.to_owned() } else { format!("CONVERT({ghost} USING {charset})") };
    let select = kind.select(&converted);
    let same_collation = same_charset && to.collation.as_deref() == Some(collation);
    ((!same_collation).then(|| format!("{converted} COLLATE {collation}")), select)
}
