//! What to compute from a row on both sides so that equal rows give equal numbers: for the verifier. Pure.
//!
//! A column whose type changes must be compared after the conversion. Where an expression gives exactly what the server stores, it is
//! used; where none is sure to, the verifier converts through a temporary table made like the ghost. A column that the change does not touch
//! is compared as it is stored, and of a converted one samples are compared by what the server shows ([`super::values`]): neither goes through
//! the expressions that copy.

use super::create::CreatedColumn;
use super::mapping::ColumnMapping;
use super::quote;
use super::table::{Column, ColumnType as T, Generated, IndexPart, TableDefinition};
use super::values::{self, Rule};

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The change does not touch it: what is stored is the same on both sides, and is compared as it is.
    Stored,
    /// The same, of a column that the server computes and stores.
    Computed,
    /// After an expression that gives what the server stores.
    Converted,
    /// After the server's own conversion, in a temporary table made like the ghost.
    ThroughTable,
}

/// A column that is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Its name on the original.
    pub original: String,
    /// Its name on the ghost.
    pub ghost: String,
    /// As stored, after the change of type, or not at all.
    pub how: How,
    /// Over the original; as `right` where a temporary table stands for it.
    pub left: String,
    /// Over the ghost.
    pub right: String,
    /// How the values that the server shows tell by themselves whether they are one, for a column that is converted.
    pub rule: Option<Rule>,
}

/// How two tables are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Columns of both.
    pub compared: Vec<Compared>,
    /// Stored computed columns of the ghost that the original has too but for which equal is not to be expected: their expression changes, or
    /// what it is made of.
    pub not_comparable: Vec<String>,
    /// Indexes of the ghost over virtual columns or expressions, which hold values that no row has.
    pub indexes: Vec<String>,
}

impl Plan {
    /// What is compared how, in words.
    pub fn scope(&self) -> String {
        let count = |how: &[How]| self.compared.iter().filter(|c| how.contains(&c.how)).count();
        let valued = self.compared.iter().filter(|c| c.rule.is_some()).count();
        let mut text = format!("{} columns as stored", count(&[How::Stored, How::Computed]));
        let converted = count(&[How::Converted, How::ThroughTable]);
        if converted > 0 {
            text.push_str(&format!(", {converted} after the change of type ({valued} of them also by samples of what the server shows)"));
        }
        let mut not = self.not_comparable.clone();
        if !self.indexes.is_empty() {
            not.push(format!(
                "values that are not stored in rows (virtual columns, expressions) in the indexes {}",
                self.indexes.join(", ")
            ));
        }
        if !not.is_empty() {
            text.push_str(&format!(", not comparable: {}", not.join(", ")));
        }
        text
    }
}

impl Plan {
    /// The same comparison with the two tables in each other's place: what the change makes of the old table's values is what the new one has.
    /// What only a temporary table like the new one can convert is not compared.
    #[must_use]
    pub fn exchanged(self) -> Plan {
        let mut plan = Plan::default();
        for c in self.compared {
            match c.how {
                How::Stored | How::Converted => {
                    plan.compared.push(Compared {
                        original: c.ghost,
                        ghost: c.original,
                        how: c.how,
                        left: c.right,
                        right: c.left,
                        rule: None,
                    });
                }
                How::Computed | How::ThroughTable => plan.not_comparable.push(c.original),
            }
        }
        plan
    }
}

/// Plans the comparison. `shown` are the columns by SHOW CREATE TABLE, of the original and of the ghost.
pub fn plan(
    original: &TableDefinition,
    ghost: &TableDefinition,
    mapping: &ColumnMapping,
    shown: (&[CreatedColumn], &[CreatedColumn]),
) -> Plan {
    let mut plan = Plan::default();
    for shared in &mapping.shared {
        let (Some(from), Some(to)) = (original.column(&shared.original), ghost.column(&shared.ghost)) else { continue };
        let right = plain(to);
        let (how, left) = if untouched(from, to) {
            (How::Stored, plain(from))
        } else {
            match converted(from, to) {
                Some(left) => (How::Converted, left),
                None => (How::ThroughTable, right.clone()),
            }
        };
        let rule = if how == How::Stored { None } else { values::rule(from, to) };
        plan.compared.push(Compared { original: shared.original.clone(), ghost: shared.ghost.clone(), how, left, right, rule });
    }
    for computed in &mapping.computed {
        let (Some(from), Some(to)) = (original.column(&computed.original), ghost.column(&computed.ghost)) else { continue };
        if to.generated != Generated::Stored {
            // Made whenever it is read, of columns that are compared. An index has it as it was made once.
            continue;
        }
        if same_value_computed(from, to, &plan, shown) {
            let (left, right) = (plain(from), plain(to));
            let (original, ghost) = (from.name.clone(), to.name.clone());
            plan.compared.push(Compared { original, ghost, how: How::Computed, left, right, rule: None });
        } else {
            plan.not_comparable.push(to.name.clone());
        }
    }
    let made = |part: &IndexPart| match &part.column {
        Some(name) => ghost.column(name).is_some_and(|c| c.generated == Generated::Virtual),
        None => true,
    };
    plan.indexes = ghost.indexes.iter().filter(|index| index.parts.iter().any(made)).map(|index| index.name.clone()).collect();
    plan
}

/// Whether a value is stored in the same form on both sides: then nothing stands between it and its comparison.
fn untouched(from: &Column, to: &Column) -> bool {
    from.column_type == to.column_type && from.type_text.eq_ignore_ascii_case(&to.type_text) && from.charset == to.charset
}

/// Whether both sides compute the same from the same.
fn same_value_computed(from: &Column, to: &Column, plan: &Plan, shown: (&[CreatedColumn], &[CreatedColumn])) -> bool {
    let of = |columns: &[CreatedColumn], name: &str| columns.iter().find(|c| c.name.to_lowercase() == name.to_lowercase()).cloned();
    let (Some(before), Some(after)) = (of(shown.0, &from.name), of(shown.1, &to.name)) else { return false };
    let stays = |name: &String| {
        let same = |other: &str| other.to_lowercase() == name.to_lowercase();
        plan.compared.iter().any(|c| matches!(c.how, How::Stored | How::Computed) && same(&c.original) && same(&c.ghost))
    };
    from.generated == Generated::Stored
        && untouched(from, to)
        && before.expression.is_some()
        && before.expression == after.expression
        && after.made_of.iter().all(stays)
}

/// One number for a row. A checksum for each column, so that columns of different character sets never meet in one string, and NULL is
/// different from every value.
pub fn row<E: AsRef<str>>(expressions: &[E], alias: &str) -> String {
    if expressions.is_empty() {
        return "0".to_owned();
    }
    let columns: Vec<String> = expressions
        .iter()
        .map(|e| {
            format!(
                "IFNULL(CRC32({}), 'n')",
                e.as_ref().replace(COLUMN_OF, &if alias.is_empty() { String::new() } else { format!("{alias}.") })
            )
        })
        .collect();
    format!("CRC32(CONCAT_WS(',', {}))", columns.join(", "))
}

/// One number for all rows, with their count, from the number of each.
///
/// A CRC is linear: the same change of a value in two rows changes both numbers in the same bits, and `BIT_XOR` alone would not see it, nor any
/// other even number of rows that are wrong in the same way. The carries of a multiplication make the change of each number its own. The
/// product of 32 bits and this one (2^32 divided by the golden ratio, odd) has 64.
pub fn sum(row: &str) -> String {
    format!("CONCAT(COUNT(*), '/', IFNULL(BIT_XOR({row} * 2654435761), 0))")
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
            match (a, b) {
                // A CHAR loses its trailing spaces when it is read.
                (T::Char { .. }, _) => Some(value),
                (_, T::Char { .. }) => Some(format!("TRIM(TRAILING ' ' FROM {value})")),
                // Blanks that are too many for the new length are cut, which no expression does alike.
                _ => values::keeps_blanks(from, to).then_some(value),
            }
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
        Column { type_text: type_text.into(), charset: charset.map(Into::into), ..crate::sql::mapping::tests::column("c", column_type) }
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
            (column(T::VarChar { length: 40 }, "varchar(40)", Some("ascii")), utf8(), None),
            (column(T::Text, "text", Some("utf8mb4")), column(T::Text, "mediumtext", Some("utf8mb4")), Some("c")),
            (column(T::Text, "text", Some("utf8mb4")), utf8(), None),
            (utf8(), int(), None),
            (int(), utf8(), None),
            (labels(&["a"]), labels(&["a", "b"]), Some("(c + 0)")),
            (labels(&["a", "b"]), labels(&["b", "a"]), None),
            (
                column(T::Timestamp { fsp: 0 }, "timestamp", None),
                column(T::DateTime { fsp: 3 }, "datetime(3)", None),
                Some("CAST(c AS DATETIME(3))"),
            ),
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
    fn what_the_change_does_not_touch_is_compared_as_it_is_stored() {
        let named = |name: &str, column_type: T, text: &str| Column { name: name.into(), ..column(column_type, text, None) };
        let int = || T::Integer { bits: 32, unsigned: false };
        let computed = |name: &str| Column { generated: Generated::Stored, ..named(name, int(), "int") };
        let table = |columns: Vec<Column>| TableDefinition { name: "t".into(), columns, indexes: vec![] };
        let decimal = || named("d", T::Decimal { precision: 10, scale: 2, unsigned: false }, "decimal(10,2)");
        let common = || vec![named("id", int(), "int"), decimal(), computed("twice"), computed("of_b"), computed("changed")];
        let original = table([common(), vec![named("b", int(), "int"), named("t", T::Text, "text")]].concat());
        let ghost =
            table([common(), vec![named("b", T::Integer { bits: 64, unsigned: false }, "bigint"), named("t", T::Json, "json")]].concat());
        let alter = crate::sql::alter::Alter::parse("MODIFY b BIGINT, MODIFY t JSON").expect("an ALTER");
        let mapping = ColumnMapping::new(&original, &ghost, &alter).expect("a mapping");
        let shown = |changed: &str| {
            let made = |name: &str, expression: &str, of: &str| CreatedColumn {
                name: name.into(),
                generated: Generated::Stored,
                expression: Some(expression.into()),
                made_of: vec![of.into()],
            };
            vec![made("twice", "(`id` * 2)", "id"), made("of_b", "(`b` * 2)", "b"), made("changed", changed, "id")]
        };
        let plan = plan(&original, &ghost, &mapping, (&shown("(`id` + 1)"), &shown("(`id` + 2)")));
        let seen: Vec<_> = plan.compared.iter().map(|c| (c.ghost.as_str(), c.how, c.rule)).collect();
        assert_eq!(
            seen,
            [
                ("id", How::Stored, None),
                ("d", How::Stored, None),
                ("b", How::Converted, Some(Rule::Number)),
                ("t", How::ThroughTable, None),
                ("twice", How::Computed, None),
            ]
        );
        assert_eq!(plan.compared[1].left.replace(COLUMN_OF, ""), "`d`", "nothing between it and its comparison");
        assert_eq!(plan.not_comparable, ["of_b", "changed"]);
        assert_eq!(
            plan.scope(),
            "3 columns as stored, 2 after the change of type (1 of them also by samples of what the server shows), not comparable: of_b, changed"
        );
    }

    #[test]
    fn a_row_is_one_number_and_null_is_no_value() {
        let sql = row(&[plain(&column(T::Json, "json", None))], "g");
        assert_eq!(sql, "CRC32(CONCAT_WS(',', IFNULL(CRC32(g.`c`), 'n')))");
    }
}
