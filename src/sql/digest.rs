//! What to compute from a row on both sides so that equal rows give equal numbers: for the verifier. Pure.
//!
//! A column whose type changes must be compared after the conversion. Where an expression gives exactly what the server stores, it is
//! used; where none is sure to, [`expressions`] says so and the verifier converts through a temporary table made like the ghost.

use super::mapping::ColumnMapping;
use super::quote;
use super::table::{Column, ColumnType as T, TableDefinition};

/// Expressions over the original's and the ghost's columns that are equal for equal values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expressions {
    /// Over the original.
    pub original: Vec<String>,
    /// Over the ghost, in the same order.
    pub ghost: Vec<String>,
}

/// Both sides' expressions; `None` when a column's conversion has no sure expression.
pub fn expressions(original: &TableDefinition, ghost: &TableDefinition, mapping: &ColumnMapping) -> Option<Expressions> {
    let mut out = Expressions { original: Vec::new(), ghost: Vec::new() };
    for shared in &mapping.shared {
        let (from, to) = (original.column(&shared.original)?, ghost.column(&shared.ghost)?);
        out.original.push(converted(from, to)?);
        out.ghost.push(plain(to));
    }
    Some(out)
}

/// The ghost's expressions on both sides, for a table of the ghost's own types.
pub fn ghost_expressions(ghost: &TableDefinition, mapping: &ColumnMapping) -> Vec<String> {
    mapping.shared.iter().filter_map(|shared| ghost.column(&shared.ghost)).map(plain).collect()
}

/// One number for a row. A checksum for each column, so that columns of different character sets never meet in one string, and NULL is
/// different from every value.
pub fn row(expressions: &[String], alias: &str) -> String {
    let columns: Vec<String> = expressions
        .iter()
        .map(|e| {
            format!("IFNULL(CRC32({}), 'n')", e.replace(COLUMN_OF, &if alias.is_empty() { String::new() } else { format!("{alias}.") }))
        })
        .collect();
    format!("CRC32(CONCAT_WS(',', {}))", columns.join(", "))
}

/// Stands in front of a column's name until [`row`] knows the table's alias. No identifier can hold it.
const COLUMN_OF: &str = "\u{0}";

fn name(column: &Column) -> String {
    format!("{COLUMN_OF}{}", quote::identifier(&column.name))
}

/// A column of the ghost, such that its text has all of its value.
fn plain(column: &Column) -> String {
    let name = name(column);
    match &column.column_type {
        // The text of a FLOAT has six digits; as a DOUBLE it has all.
        T::Float { .. } => format!("({name} + 0e0)"),
        // The number of a label, not its text: cheap, and exact.
        T::Enum { .. } | T::Set { .. } => format!("({name} + 0)"),
        // ZEROFILL is a way of showing.
        T::Integer { .. } | T::Decimal { .. } if column.type_text.to_lowercase().contains("zerofill") => format!("({name} + 0)"),
        T::Timestamp { .. } => instant(&name),
        _ => name,
    }
}

/// A TIMESTAMP as its instant, whatever its number of digits: two instants may look alike in the session's time zone.
fn instant(expression: &str) -> String {
    format!("CAST(UNIX_TIMESTAMP({expression}) AS DECIMAL(17,6))")
}

/// A column of the original as the ghost has it.
fn converted(from: &Column, to: &Column) -> Option<String> {
    let column = name(from);
    let text = |t: &T| matches!(t, T::Char { .. } | T::VarChar { .. } | T::Text);
    let same_text = from.charset == to.charset;
    match (&from.column_type, &to.column_type) {
        (T::Integer { .. }, T::Integer { .. }) => {
            Some(if from.type_text.to_lowercase().contains("zerofill") || to.type_text.to_lowercase().contains("zerofill") {
                format!("({column} + 0)")
            } else {
                column
            })
        }
        (T::Decimal { .. }, T::Decimal { precision, scale, .. }) => Some(format!("CAST(({column} + 0) AS DECIMAL({precision},{scale}))")),
        (a, b) if text(a) && text(b) => {
            let charset = to.charset.as_deref()?;
            let value = if same_text { column } else { format!("CONVERT({column} USING {charset})") };
            // A CHAR loses its trailing spaces when it is read.
            Some(match (a, b) {
                (T::Char { .. }, _) => value,
                (_, T::Char { .. }) => format!("TRIM(TRAILING ' ' FROM {value})"),
                _ => value,
            })
        }
        (T::VarBinary { .. } | T::Blob | T::Binary { .. }, T::VarBinary { .. } | T::Blob) => Some(column),
        (T::Binary { length: a }, T::Binary { length: b }) if a == b => Some(column),
        (T::Enum { labels: a }, T::Enum { labels: b }) | (T::Set { labels: a }, T::Set { labels: b }) if b.starts_with(a) => {
            Some(format!("({column} + 0)"))
        }
        (T::Timestamp { fsp: a }, T::Timestamp { fsp: b }) => (a <= b).then(|| instant(&column)),
        (T::DateTime { .. }, T::Timestamp { fsp }) => Some(instant(&format!("CAST({column} AS DATETIME({fsp}))"))),
        (T::DateTime { .. } | T::Timestamp { .. }, T::DateTime { fsp }) => Some(format!("CAST({column} AS DATETIME({fsp}))")),
        (T::Time { .. }, T::Time { fsp }) => Some(format!("CAST({column} AS TIME({fsp}))")),
        (T::Float { double: a }, T::Float { double: b }) if a == b && from.type_text == to.type_text => Some(format!("({column} + 0e0)")),
        (T::Bit { width: a }, T::Bit { width: b }) if a == b => Some(column),
        (T::Year, T::Year) | (T::Date, T::Date) | (T::Json, T::Json) | (T::Geometry, T::Geometry) | (T::Vector, T::Vector) => Some(column),
        (T::Other(a), T::Other(b)) if a == b => Some(column),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::table::Generated;

    fn column(column_type: T, type_text: &str, charset: Option<&str>) -> Column {
        Column {
            name: "c".into(),
            column_type,
            type_text: type_text.into(),
            charset: charset.map(Into::into),
            collation: None,
            nullable: true,
            generated: Generated::No,
            auto_increment: false,
            has_default: false,
            invisible: false,
        }
    }

    #[test]
    fn each_pair_has_its_expression_or_none() {
        let int = || column(T::Integer { bits: 32, unsigned: false }, "int", None);
        let latin = || column(T::VarChar { length: 5 }, "varchar(5)", Some("latin1"));
        let utf8 = || column(T::VarChar { length: 5 }, "varchar(5)", Some("utf8mb4"));
        let labels = |l: &[&str]| column(T::Enum { labels: l.iter().map(|s| (*s).to_owned()).collect() }, "enum", Some("utf8mb4"));
        let cases = [
            (int(), column(T::Integer { bits: 64, unsigned: true }, "bigint unsigned", None), Some("c")),
            (latin(), utf8(), Some("CONVERT(c USING utf8mb4)")),
            (utf8(), column(T::Char { length: 5 }, "char(5)", Some("utf8mb4")), Some("TRIM(TRAILING ' ' FROM c)")),
            (utf8(), int(), None),
            (int(), utf8(), None),
            (labels(&["a"]), labels(&["a", "b"]), Some("(c + 0)")),
            (labels(&["a", "b"]), labels(&["b", "a"]), None),
            (
                column(T::DateTime { fsp: 0 }, "datetime", None),
                column(T::Timestamp { fsp: 3 }, "timestamp(3)", None),
                Some("CAST(UNIX_TIMESTAMP(CAST(c AS DATETIME(3))) AS DECIMAL(17,6))"),
            ),
            (
                column(T::Timestamp { fsp: 0 }, "timestamp", None),
                column(T::Timestamp { fsp: 3 }, "timestamp(3)", None),
                Some("CAST(UNIX_TIMESTAMP(c) AS DECIMAL(17,6))"),
            ),
            (column(T::Timestamp { fsp: 3 }, "timestamp(3)", None), column(T::Timestamp { fsp: 0 }, "timestamp", None), None),
        ];
        for (from, to, want) in cases {
            let got = converted(&from, &to).map(|e| e.replace(COLUMN_OF, "").replace('`', ""));
            assert_eq!(got.as_deref(), want, "{} → {}", from.type_text, to.type_text);
        }
    }

    #[test]
    fn a_row_is_one_number_and_null_is_no_value() {
        let sql = row(&[plain(&column(T::Json, "json", None))], "g");
        assert_eq!(sql, "CRC32(CONCAT_WS(',', IFNULL(CRC32(g.`c`), 'n')))");
    }
}
