//! Takes the key columns, and nothing else, out of a rows event.
//!
//! The other columns are skipped by their length alone, so no charset, JSON, floating point or time-zone rule can go wrong here.
//! Format: <https://dev.mysql.com/doc/dev/mysql-server/latest/classbinary__log_1_1Rows__event.html>

use mysql_async::Value;
use mysql_async::binlog::events::{RowsEventData, TableMapEvent};
use mysql_async::binlog::value::BinlogValue;
use mysql_async::consts::ColumnType;
use mysql_common::io::ParseBuf;
use mysql_common::proto::MyDeserialize;
use std::io;

/// A key column: its place in the table and whether it is unsigned (the log does not always say).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyColumn {
    /// From 0, in table order.
    pub ordinal: usize,
    /// For integers.
    pub unsigned: bool,
    /// An INSERT may leave it to its default, which a MINIMAL image then does not hold.
    pub has_default: bool,
}

/// What is wrong with an event.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The event ends too early or names a type that is not known.
    #[error("a rows event cannot be decoded: {0}")]
    Malformed(#[from] io::Error),
    /// A row image does not hold the key (`binlog_row_image` is not FULL and the key is not the primary key).
    #[error("the row image in the binary log has no key column number {0}; set binlog_row_image=FULL or use the primary key")]
    KeyNotLogged(usize),
    /// The table has fewer columns than its definition.
    #[error("the table in the binary log has {0} columns, too few for the key")]
    FewerColumns(usize),
}

/// Calls `found` with the key of each row image of the event: one for an insert or delete, two for an update whose key may have changed.
/// A column that the image of an INSERT leaves out, and that has a default, is `None`.
///
/// # Errors
/// The event does not fit its table map, or lacks the key.
pub fn keys_of<'a>(
    event: &'a RowsEventData<'a>,
    table: &'a TableMapEvent<'a>,
    key: &[KeyColumn],
    mut found: impl FnMut(&[Option<Value>]),
) -> Result<u64, RowsError> {
    each_row(event, table, key, |old, new| match (old, new) {
        (Some(old), Some(new)) => {
            found(old);
            if new != old {
                found(new);
            }
        }
        (Some(one), None) | (None, Some(one)) => found(one),
        (None, None) => {}
    })
}

/// Calls `found` with the key that each row had which is deleted by the event, or has another key after it.
///
/// # Errors
/// As [`keys_of`].
pub fn keys_gone<'a>(
    event: &'a RowsEventData<'a>,
    table: &'a TableMapEvent<'a>,
    key: &[KeyColumn],
    mut found: impl FnMut(&[Option<Value>]),
) -> Result<u64, RowsError> {
    each_row(event, table, key, |old, new| {
        if let Some(old) = old.filter(|old| new != Some(old)) {
            found(old);
        }
    })
}

/// Calls `found` with the key of each row before and after the event. Returns how many rows there are.
fn each_row<'a>(
    event: &'a RowsEventData<'a>,
    table: &'a TableMapEvent<'a>,
    key: &[KeyColumn],
    mut found: impl FnMut(Option<&[Option<Value>]>, Option<&[Option<Value>]>),
) -> Result<u64, RowsError> {
    let columns = usize::try_from(event.num_columns()).unwrap_or(usize::MAX);
    if key.iter().any(|k| k.ordinal >= columns) {
        return Err(RowsError::FewerColumns(columns));
    }
    let before = event.columns_before_image().map(|bits| bits.iter().map(|b| *b).collect::<Vec<_>>());
    let after = event.columns_after_image().map(|bits| bits.iter().map(|b| *b).collect::<Vec<_>>());
    let partial = matches!(event, RowsEventData::PartialUpdateRowsEvent(_));
    let mut buffer = ParseBuf(event.rows_data());
    let mut rows = 0;
    while !buffer.is_empty() {
        rows += 1;
        let old = before.as_ref().map(|present| image(&mut buffer, present, false, table, key)).transpose()?;
        let new = after.as_ref().map(|present| image(&mut buffer, present, partial, table, key)).transpose()?;
        match (old, new) {
            (Some(old), Some(new)) => {
                // MINIMAL logs in the after image only what changed: an absent key column has its old value.
                let merged: Vec<Option<Value>> = new.into_iter().zip(&old).map(|(new, old)| new.or_else(|| old.clone())).collect();
                found(Some(&complete(old, key, false)?), Some(&complete(merged, key, false)?));
            }
            (Some(one), None) => found(Some(&complete(one, key, false)?), None),
            (None, Some(one)) => found(None, Some(&complete(one, key, true)?)),
            (None, None) => return Err(RowsError::Malformed(io::Error::from(io::ErrorKind::InvalidData))),
        }
    }
    Ok(rows)
}

fn complete(values: Vec<Option<Value>>, key: &[KeyColumn], inserted: bool) -> Result<Vec<Option<Value>>, RowsError> {
    match values.iter().zip(key).find(|(value, column)| value.is_none() && !(inserted && column.has_default)) {
        Some((_, column)) => Err(RowsError::KeyNotLogged(column.ordinal + 1)),
        None => Ok(values),
    }
}

/// Reads one row image and returns its key columns, in the key's order.
fn image<'a>(
    buffer: &mut ParseBuf<'a>,
    present: &[bool],
    partial: bool,
    table: &'a TableMapEvent<'_>,
    key: &[KeyColumn],
) -> io::Result<Vec<Option<Value>>> {
    if partial {
        // value_options, and which JSON columns are given as differences: their length is coded the same way.
        if packed_integer(buffer)? & 1 != 0 {
            skip(buffer, table.json_column_count().div_ceil(8))?;
        }
    }
    let logged = present.iter().filter(|p| **p).count();
    let nulls = take(buffer, logged.div_ceil(8))?;
    let mut values = vec![None; key.len()];
    for (index, (ordinal, _)) in present.iter().enumerate().filter(|(_, p)| **p).enumerate() {
        let null = nulls.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0);
        let slot = key.iter().position(|k| k.ordinal == ordinal);
        if null {
            if let Some(slot) = slot {
                values[slot] = Some(Value::NULL);
            }
            continue;
        }
        let kind = column_type(table, ordinal)?;
        let meta = table.get_column_metadata(ordinal).unwrap_or_default();
        match slot {
            Some(slot) => {
                // The driver knows DATE by its storage name only.
                let kind = if kind == ColumnType::MYSQL_TYPE_DATE { ColumnType::MYSQL_TYPE_NEWDATE } else { kind };
                let value = BinlogValue::deserialize((kind, meta, key[slot].unsigned, false), buffer)?;
                values[slot] = Some(Value::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?);
            }
            None => {
                let length = stored_length(kind, meta, buffer)?;
                skip(buffer, length)?;
            }
        }
    }
    Ok(values)
}

fn column_type(table: &TableMapEvent<'_>, ordinal: usize) -> io::Result<ColumnType> {
    match table.get_column_type(ordinal) {
        Ok(Some(kind)) => Ok(kind),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("column {} has an unknown type", ordinal + 1))),
    }
}

/// The bytes that a value occupies; for types with a length in front of it, reads that length.
fn stored_length(kind: ColumnType, meta: &[u8], buffer: &mut ParseBuf<'_>) -> io::Result<usize> {
    let meta_at = |i: usize| meta.get(i).copied().map(usize::from).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof));
    // Fractional seconds: two digits a byte.
    let fraction = |i| meta_at(i).map(|digits| digits.div_ceil(2));
    Ok(match kind {
        ColumnType::MYSQL_TYPE_TINY | ColumnType::MYSQL_TYPE_YEAR => 1,
        ColumnType::MYSQL_TYPE_SHORT => 2,
        ColumnType::MYSQL_TYPE_INT24 | ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE | ColumnType::MYSQL_TYPE_TIME => 3,
        ColumnType::MYSQL_TYPE_LONG | ColumnType::MYSQL_TYPE_FLOAT | ColumnType::MYSQL_TYPE_TIMESTAMP => 4,
        ColumnType::MYSQL_TYPE_LONGLONG | ColumnType::MYSQL_TYPE_DOUBLE | ColumnType::MYSQL_TYPE_DATETIME => 8,
        ColumnType::MYSQL_TYPE_TIMESTAMP2 => 4 + fraction(0)?,
        ColumnType::MYSQL_TYPE_DATETIME2 => 5 + fraction(0)?,
        ColumnType::MYSQL_TYPE_TIME2 => 3 + fraction(0)?,
        ColumnType::MYSQL_TYPE_NEWDECIMAL => decimal_length(meta_at(0)?, meta_at(1)?),
        ColumnType::MYSQL_TYPE_BIT => (meta_at(1)? * 8 + meta_at(0)?).div_ceil(8),
        ColumnType::MYSQL_TYPE_ENUM | ColumnType::MYSQL_TYPE_SET => meta_at(1)?,
        ColumnType::MYSQL_TYPE_VARCHAR | ColumnType::MYSQL_TYPE_VAR_STRING => {
            let longest = meta_at(0)? | meta_at(1)? << 8;
            little_endian(buffer, if longest < 256 { 1 } else { 2 })?
        }
        ColumnType::MYSQL_TYPE_STRING => {
            // Lengths over 255 borrow two bits of the type's byte, inverted (MySQL bug 37426).
            let (type_byte, low) = (meta_at(0)?, meta_at(1)?);
            let longest = if type_byte & 0x30 == 0x30 { low } else { low | ((type_byte & 0x30) ^ 0x30) << 4 };
            little_endian(buffer, if longest < 256 { 1 } else { 2 })?
        }
        ColumnType::MYSQL_TYPE_TINY_BLOB
        | ColumnType::MYSQL_TYPE_MEDIUM_BLOB
        | ColumnType::MYSQL_TYPE_LONG_BLOB
        | ColumnType::MYSQL_TYPE_BLOB
        | ColumnType::MYSQL_TYPE_GEOMETRY
        | ColumnType::MYSQL_TYPE_VECTOR
        | ColumnType::MYSQL_TYPE_JSON => {
            let width = meta_at(0)?;
            if !(1..=4).contains(&width) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a length of more than 4 bytes"));
            }
            little_endian(buffer, width)?
        }
        other => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("columns of type {other:?} are not supported in the binary log"),
            ));
        }
    })
}

/// DECIMAL(p, s): nine digits in four bytes, fewer in what they need, for each side of the point.
fn decimal_length(precision: usize, scale: usize) -> usize {
    const BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let side = |digits: usize| digits / 9 * 4 + BYTES[digits % 9];
    side(precision.saturating_sub(scale)) + side(scale)
}

fn take<'a>(buffer: &mut ParseBuf<'a>, length: usize) -> io::Result<&'a [u8]> {
    buffer.checked_eat(length).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
}

fn skip(buffer: &mut ParseBuf<'_>, length: usize) -> io::Result<()> {
    take(buffer, length).map(|_| ())
}

fn little_endian(buffer: &mut ParseBuf<'_>, width: usize) -> io::Result<usize> {
    Ok(take(buffer, width)?.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
}

/// The protocol's length-encoded integer.
fn packed_integer(buffer: &mut ParseBuf<'_>) -> io::Result<usize> {
    match take(buffer, 1)?[0] {
        small @ 0..=250 => Ok(usize::from(small)),
        252 => little_endian(buffer, 2),
        253 => little_endian(buffer, 3),
        254 => little_endian(buffer, 8),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_the_manuals_lengths() {
        // https://dev.mysql.com/doc/refman/9.7/en/precision-math-decimal-characteristics.html
        for (precision, scale, bytes) in [(20, 6, 10), (18, 9, 8), (10, 0, 5), (1, 1, 1), (65, 30, 30)] {
            assert_eq!(decimal_length(precision, scale), bytes, "DECIMAL({precision},{scale})");
        }
    }

    #[test]
    fn lengths_in_front_of_values() {
        let data = [3, 0, 1, 2, 3];
        let mut buffer = ParseBuf(&data);
        assert_eq!(stored_length(ColumnType::MYSQL_TYPE_VARCHAR, &[0, 2], &mut buffer).ok(), Some(3));
        let mut buffer = ParseBuf(&data);
        assert_eq!(stored_length(ColumnType::MYSQL_TYPE_VARCHAR, &[255, 0], &mut buffer).ok(), Some(3));
        let mut buffer = ParseBuf(&data[..1]);
        assert!(
            stored_length(ColumnType::MYSQL_TYPE_BLOB, &[2], &mut buffer).is_err(),
            "an event that ends early is an error, not a panic"
        );
        assert!(stored_length(ColumnType::MYSQL_TYPE_BLOB, &[], &mut buffer).is_err());
    }
}
