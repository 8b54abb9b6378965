//! Whether the rows in the log have the columns that were read: a key is taken out of a row by its place alone, so a table whose columns are
//! not the ones that the engine knows must not be followed for one row.
//!
//! The log says of each table how many columns it has, their types with the lengths that matter, which may be NULL, which numbers are
//! unsigned, and their names where `binlog_row_metadata=FULL`
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/classbinary__log_1_1Table__map__event.html>). All of it is compared. What the log does
//! not say, or says in a form that is not known here, is not held against it. Pure.

use crate::sql::table::{Column, ColumnType as T};
use mysql_async::binlog::events::TableMapEvent;
use mysql_async::consts::ColumnType as Logged;
use mysql_common::binlog::events::OptionalMetaExtractor;

/// A column as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its type; `None` where the driver does not know it.
    pub kind: Option<Logged>,
    /// The type's metadata.
    pub meta: Vec<u8>,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Of a number, where the log says so.
    pub unsigned: Option<bool>,
    /// Where the log says so.
    pub name: Option<String>,
}

/// What the log says of a table.
pub fn seen(table: &TableMapEvent<'_>) -> Vec<Seen> {
    let count = usize::try_from(table.columns_count()).unwrap_or(usize::MAX);
    let more = OptionalMetaExtractor::new(table.iter_optional_meta()).ok();
    let mut signs = more.iter().flat_map(OptionalMetaExtractor::iter_signedness);
    let mut names = more.iter().flat_map(OptionalMetaExtractor::iter_column_name);
    let nulls = table.null_bitmask();
    (0..count)
        .map(|at| {
            let kind = table.get_column_type(at).ok().flatten();
            Seen {
                meta: table.get_column_metadata(at).unwrap_or_default().to_vec(),
                nullable: nulls.get(at).is_some_and(|bit| *bit),
                // YEAR is one of them.
                unsigned: if kind.is_some_and(|kind| kind.is_numeric_type()) { signs.next() } else { None },
                name: names.next().and_then(Result::ok).map(|name| name.name().into_owned()),
                kind,
            }
        })
        .collect()
}

/// In what the columns of the log are others than those that were read; `None`: in nothing.
pub fn difference(read: &[Column], seen: &[Seen]) -> Option<String> {
    if read.len() != seen.len() {
        let names: Vec<&str> = read.iter().map(|c| c.name.as_str()).collect();
        return Some(format!("have {} columns, but the table's definition has {} ({})", seen.len(), read.len(), names.join(", ")));
    }
    read.iter().zip(seen).enumerate().find_map(|(at, (read, seen))| {
        let why = column(read, seen)?;
        Some(format!("have a different column {} from the table's definition, where it is {} {}: {why}", at + 1, read.name, read.type_text))
    })
}

fn column(read: &Column, seen: &Seen) -> Option<String> {
    if let Some(name) = &seen.name
        && *name != read.name
    {
        return Some(format!("its name is {name}"));
    }
    if let Some(kind) = seen.kind
        && !fits(read, kind, &seen.meta)
    {
        return Some(format!("its type is {kind:?} {:?}", seen.meta));
    }
    let unsigned = match &read.column_type {
        T::Integer { unsigned, .. } | T::Decimal { unsigned, .. } => Some(*unsigned),
        T::Float { .. } => Some(read.type_text.to_lowercase().contains("unsigned")),
        _ => None,
    };
    if let (Some(read), Some(seen)) = (unsigned, seen.unsigned)
        && read != seen
    {
        return Some(if seen { "it is unsigned".into() } else { "it is signed".into() });
    }
    if read.nullable != seen.nullable {
        return Some(if seen.nullable { "it may be NULL".into() } else { "it is NOT NULL".into() });
    }
    None
}

/// Whether a column of this type and metadata in the log may be the one that was read.
fn fits(read: &Column, kind: Logged, meta: &[u8]) -> bool {
    use Logged as L;
    let digits = |fsp: u8| meta.first().is_none_or(|m| *m == fsp);
    match &read.column_type {
        T::Integer { bits, .. } => {
            kind == match bits {
                8 => L::MYSQL_TYPE_TINY,
                16 => L::MYSQL_TYPE_SHORT,
                24 => L::MYSQL_TYPE_INT24,
                32 => L::MYSQL_TYPE_LONG,
                _ => L::MYSQL_TYPE_LONGLONG,
            }
        }
        T::Decimal { precision, scale, .. } => kind == L::MYSQL_TYPE_NEWDECIMAL && meta == [*precision, *scale],
        T::Float { double } => kind == if *double { L::MYSQL_TYPE_DOUBLE } else { L::MYSQL_TYPE_FLOAT },
        T::Bit { width } => kind == L::MYSQL_TYPE_BIT && meta == [*width % 8, *width / 8],
        T::Year => kind == L::MYSQL_TYPE_YEAR,
        T::Date => matches!(kind, L::MYSQL_TYPE_DATE | L::MYSQL_TYPE_NEWDATE),
        // Columns that were made before 5.6 have the types without a 2.
        T::Time { fsp } => kind == L::MYSQL_TYPE_TIME || kind == L::MYSQL_TYPE_TIME2 && digits(*fsp),
        T::DateTime { fsp } => kind == L::MYSQL_TYPE_DATETIME || kind == L::MYSQL_TYPE_DATETIME2 && digits(*fsp),
        T::Timestamp { fsp } => kind == L::MYSQL_TYPE_TIMESTAMP || kind == L::MYSQL_TYPE_TIMESTAMP2 && digits(*fsp),
        T::Char { .. } | T::Binary { .. } => kind == L::MYSQL_TYPE_STRING,
        T::VarChar { length } | T::VarBinary { length } => {
            let bytes = meta.iter().take(2).rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
            // A character has one to four bytes.
            matches!(kind, L::MYSQL_TYPE_VARCHAR | L::MYSQL_TYPE_VAR_STRING) && bytes >= *length && bytes <= length.saturating_mul(4)
        }
        T::Text | T::Blob => {
            let text = read.type_text.to_lowercase();
            let width = match text.get(..4) {
                Some("tiny") => 1,
                Some("medi") => 3,
                Some("long") => 4,
                _ => 2,
            };
            kind == L::MYSQL_TYPE_BLOB && meta == [width]
        }
        T::Enum { .. } => kind == L::MYSQL_TYPE_ENUM,
        T::Set { .. } => kind == L::MYSQL_TYPE_SET,
        T::Json => kind == L::MYSQL_TYPE_JSON,
        T::Geometry => kind == L::MYSQL_TYPE_GEOMETRY,
        T::Vector => kind == L::MYSQL_TYPE_VECTOR,
        T::Other(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::mapping::tests::{INT, column};

    fn of(kind: Logged, meta: &[u8]) -> Seen {
        Seen { kind: Some(kind), meta: meta.to_vec(), nullable: true, unsigned: None, name: None }
    }

    #[test]
    fn columns_that_are_others_are_told() {
        use Logged as L;
        let int = || column("a", INT);
        let seen = || of(L::MYSQL_TYPE_LONG, &[]);
        let mut text = column("b", T::Text);
        text.type_text = "mediumtext".into();
        assert_eq!(difference(&[int(), text.clone()], &[seen(), of(L::MYSQL_TYPE_BLOB, &[3])]), None);
        for (read, logged, words) in [
            (vec![int()], vec![of(L::MYSQL_TYPE_LONGLONG, &[]), seen()], "have 2 columns, but the table's definition has 1 (a)"),
            (vec![int(), int()], vec![seen()], "have 1 columns"),
            (vec![int()], vec![of(L::MYSQL_TYPE_LONGLONG, &[])], "LONGLONG"),
            (vec![int()], vec![Seen { nullable: false, ..seen() }], "NOT NULL"),
            (vec![int()], vec![Seen { unsigned: Some(true), ..seen() }], "unsigned"),
            (vec![int()], vec![Seen { name: Some("b".into()), ..seen() }], "its name is b"),
            (vec![text], vec![of(L::MYSQL_TYPE_BLOB, &[2])], "BLOB"),
            (
                vec![column("d", T::Decimal { precision: 10, scale: 2, unsigned: false })],
                vec![of(L::MYSQL_TYPE_NEWDECIMAL, &[10, 3])],
                "NEWDECIMAL",
            ),
            (vec![column("v", T::VarChar { length: 10 })], vec![of(L::MYSQL_TYPE_VARCHAR, &[41, 0])], "VARCHAR"),
            (vec![column("t", T::DateTime { fsp: 6 })], vec![of(L::MYSQL_TYPE_DATETIME2, &[0])], "DATETIME2"),
        ] {
            let told = difference(&read, &logged).unwrap_or_default();
            assert!(told.contains(words), "{words}: {told}");
        }
    }
}
