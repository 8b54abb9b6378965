//! Which column of the ghost comes from which column of the original, and through which conversion.
//!
//! The rows are copied by `INSERT INTO ghost (insert_list) SELECT select_list FROM original`. What must come out is what the
//! native ALTER would store, and the two are not always the same: ALTER copies field to field, and for some pairs of types it
//! goes through text or through an integer where INSERT … SELECT stores a number directly. [`conversion`] is the one table of
//! those pairs; it follows `Copy_field::get_copy_func` against `field_conv` in the server's `sql/field_conv.cc`.

use thiserror::Error;

use super::alter::Alter;
use super::create::CreatedColumn;
use super::quote;
use super::table::{Column, ColumnType, Generated, TableDefinition};

/// How a value becomes the new type so that it is what the native ALTER stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// The server's own assignment.
    Direct,
    /// As text: a number's digits, zero-filled if it is, rather than its value.
    ThroughText,
    /// As the bytes of a BIT value.
    ThroughBytes,
    /// As an integer, rounded: what BIT takes from everything.
    ThroughInteger,
    /// As a double, so that digits and range of the new type are checked.
    ThroughDouble,
    /// TIMESTAMP to TIMESTAMP as an instant, in a session whose clock shifts: by way of the clock, which is the server's own for most
    /// modes, one of the two hours that look alike would become the other.
    ThroughInstant,
}

impl Conversion {
    /// The expression to select, from a column already quoted.
    pub fn expression(self, quoted_column: &str) -> String {
        match self {
            Conversion::Direct => quoted_column.to_owned(),
            Conversion::ThroughText => format!("CAST({quoted_column} AS CHAR)"),
            Conversion::ThroughBytes => format!("CAST({quoted_column} AS BINARY)"),
            Conversion::ThroughInteger => format!("CAST({quoted_column} AS SIGNED)"),
            // CAST … AS DOUBLE only came with 8.0.17. A product keeps the sign of zero, a sum does not.
            Conversion::ThroughDouble => format!("({quoted_column} * 1e0)"),
            // A text with its offset is known since 8.0.19.
            Conversion::ThroughInstant => format!(
                "IF(UNIX_TIMESTAMP({quoted_column}) = 0, '0000-00-00 00:00:00', CONCAT(TIMESTAMPADD(MICROSECOND, \
                 UNIX_TIMESTAMP({quoted_column}) * 1000000, '1970-01-01 00:00:00'), '+00:00'))"
            ),
        }
    }
}

/// The table of conversions: from a column of the original to a column of the ghost.
///
/// `tests/mysql/conversions.rs` compares it with `ALTER … ALGORITHM=COPY`, value by value; the exceptions, all of them data that the
/// native ALTER changes without a word and this engine refuses, are in `docs/reference/conversions.md`.
pub fn conversion(from: &Column, to: &Column) -> Conversion {
    use ColumnType as T;
    let (source, target) = (&from.column_type, &to.column_type);
    match (source, target) {
        // A BIT's bytes for the blob family (JSON is one of it), its number for the rest.
        (T::Bit { .. }, T::Text | T::Blob | T::Json) => Conversion::ThroughBytes,
        (T::Bit { .. }, _) => Conversion::Direct,
        // BIT takes the integer value from everything: not the bytes of a text, not a number's own rounding.
        (T::Integer { .. } | T::Enum { .. } | T::Set { .. } | T::Year, T::Bit { .. }) => Conversion::Direct,
        (T::Decimal { .. } | T::Float { .. } | T::Json, T::Bit { .. }) => Conversion::ThroughInteger,
        (source, T::Bit { .. }) if is_string(source) || is_temporal(source) => Conversion::ThroughInteger,
        // Numbers go by their text into anything that is not a number. Stored directly, ENUM and SET would take the number as
        // an index or bits, JSON would refuse it, FLOAT would show a double's digits and ZEROFILL would lose its zeros;
        // temporal types parse the digits.
        (T::Integer { .. } | T::Decimal { .. } | T::Float { .. } | T::Year, target)
            if is_string(target) || is_temporal(target) || matches!(target, T::Enum { .. } | T::Set { .. } | T::Json) =>
        {
            Conversion::ThroughText
        }
        // FLOAT and FLOAT(10,2) are one type to INSERT … SELECT, which copies the bytes without rounding or a check.
        (T::Float { .. }, T::Float { .. }) if from.type_text != to.type_text => Conversion::ThroughDouble,
        // By way of a signed integer: what is beyond 63 bits is refused, -0.4 is 0 and no value below it, 1.5 is the year 2002.
        (T::Float { .. }, T::Integer { bits: 64, unsigned: true }) => Conversion::ThroughInteger,
        (T::Decimal { .. }, T::Integer { unsigned: true, .. }) => Conversion::ThroughInteger,
        (T::Decimal { .. } | T::Float { .. }, T::Year) => Conversion::ThroughInteger,
        // JSON is parsed from text: a date is no JSON text, and the native ALTER says so.
        (T::Enum { .. } | T::Set { .. }, T::Json) => Conversion::ThroughText,
        (source, T::Json) if is_temporal(source) => Conversion::ThroughText,
        // The other way it is its text: `"5"` with its quotes is no number, and `true` is none either.
        (T::Json, T::Integer { .. } | T::Float { .. } | T::Year) => Conversion::ThroughText,
        (T::Json, target) if is_temporal(target) => Conversion::ThroughText,
        // As a number, 20200229, which is no year.
        (T::Date, T::Year) => Conversion::ThroughInteger,
        _ => Conversion::Direct,
    }
}

fn is_string(column_type: &ColumnType) -> bool {
    use ColumnType as T;
    matches!(column_type, T::Char { .. } | T::VarChar { .. } | T::Text | T::Binary { .. } | T::VarBinary { .. } | T::Blob)
}

fn is_temporal(column_type: &ColumnType) -> bool {
    use ColumnType as T;
    matches!(column_type, T::Date | T::Time { .. } | T::DateTime { .. } | T::Timestamp { .. })
}

/// A ghost column whose values come from an original column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedColumn {
    /// Its name on the original; the original column may be generated.
    pub original: String,
    /// Its name on the ghost, where it is not generated.
    pub ghost: String,
    /// How its values get there.
    pub conversion: Conversion,
}

/// A new column that must be written explicitly: NOT NULL without a default. The native ALTER gives existing rows the type's
/// implicit default; an INSERT that leaves the column out is refused in strict mode (1364).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilledColumn {
    /// Its name on the ghost.
    pub ghost: String,
    /// An SQL expression.
    pub value: String,
}

/// How the columns of the original and the ghost belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMapping {
    /// Columns copied from the original, in the ghost's order.
    pub shared: Vec<SharedColumn>,
    /// New columns that need a value, in the ghost's order.
    pub filled: Vec<FilledColumn>,
    /// Columns of the ghost that the original does not have (generated and filled ones included), in the ghost's order.
    pub added: Vec<String>,
    /// Columns that the ghost computes itself and the original has too, in the ghost's order.
    pub computed: Vec<ComputedColumn>,
    /// Columns of the original that the ghost does not have, in the original's order.
    pub dropped: Vec<String>,
    /// Columns of the ghost that may have an empty vector: see [`ColumnMapping::inserts`].
    pub vectors: Vec<MaybeEmpty>,
}

/// A VECTOR NOT NULL without a default on the ghost. A native ALTER that adds one stores a vector of no dimension in each row, and copies such
/// values as they are. No INSERT can write one (6136, whatever the sql_mode), except by leaving the column out where the mode is not strict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaybeEmpty {
    /// Its name on the ghost.
    pub ghost: String,
    /// The VECTOR of the original that its values come from; `None`: it is new, and empty in each row.
    pub original: Option<String>,
}

/// One statement of those that copy rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// The ghost's columns, quoted.
    pub into: String,
    /// What to select for them.
    pub values: String,
    /// Which of the rows it copies; `None`: all.
    pub only: Option<String>,
    /// Whether it leaves out a column that must have a value: only a session that is not strict may.
    pub lenient: bool,
}

/// Columns with vectors of which some may be empty: each doubles the statements. Those beyond are refused by the server when one is.
const MOST_VECTORS: usize = 3;

/// A column that the server computes on the ghost, and the one of the original that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputedColumn {
    /// Its name on the original.
    pub original: String,
    /// Its name on the ghost.
    pub ghost: String,
}

/// Columns that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MappingError {
    /// A ghost column that neither the original nor the ALTER explains.
    #[error("column {column} of the ghost is neither in the original nor in the ALTER; was the original changed meanwhile?")]
    Unexplained {
        /// On the ghost.
        column: String,
    },
    /// An original column that vanished without being dropped.
    #[error(
        "column {column} of the original is missing from the ghost, but the ALTER does not drop it; was the original changed meanwhile?"
    )]
    Vanished {
        /// On the original.
        column: String,
    },
    /// Nothing to copy.
    #[error("the ghost has no column of the original")]
    NothingShared,
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

impl ColumnMapping {
    /// Maps the columns of a ghost that `alter` was applied to.
    ///
    /// # Errors
    /// [`MappingError`] if the ghost is not the original after this ALTER.
    pub fn new(original: &TableDefinition, ghost: &TableDefinition, alter: &Alter) -> Result<ColumnMapping, MappingError> {
        let (renames, dropped, new) = (alter.renames(), alter.dropped_columns(), alter.added_columns());
        let mut mapping =
            ColumnMapping { shared: vec![], filled: vec![], added: vec![], computed: vec![], dropped: vec![], vectors: vec![] };
        let mut origins = Vec::new();
        for column in &ghost.columns {
            match origin(original, &column.name, &renames, &dropped, &new) {
                Some(from) => {
                    origins.push(from.name.as_str());
                    if column.generated == Generated::No {
                        if from.column_type == ColumnType::Vector && has_empty_vectors(column) {
                            mapping.vectors.push(MaybeEmpty { ghost: column.name.clone(), original: Some(from.name.clone()) });
                        }
                        let conversion = conversion(from, column);
                        mapping.shared.push(SharedColumn { original: from.name.clone(), ghost: column.name.clone(), conversion });
                    } else {
                        mapping.computed.push(ComputedColumn { original: from.name.clone(), ghost: column.name.clone() });
                    }
                }
                None if new.iter().any(|n| same(n, &column.name)) => {
                    if has_empty_vectors(column) {
                        mapping.vectors.push(MaybeEmpty { ghost: column.name.clone(), original: None });
                    }
                    mapping.added.push(column.name.clone());
                    if let Some(value) = implicit_default(column) {
                        mapping.filled.push(FilledColumn { ghost: column.name.clone(), value });
                    }
                }
                // The server adds `my_row_id` itself where a primary key is missing and the server makes one.
                None if same(&column.name, "my_row_id") && column.invisible && column.auto_increment => {
                    mapping.added.push(column.name.clone());
                }
                None => return Err(MappingError::Unexplained { column: column.name.clone() }),
            }
        }
        for column in &original.columns {
            if origins.iter().any(|o| same(o, &column.name)) {
                continue;
            }
            let generated_key = same(&column.name, "my_row_id") && column.invisible && column.auto_increment;
            if !generated_key && !dropped.iter().any(|d| same(d, &column.name)) {
                return Err(MappingError::Vanished { column: column.name.clone() });
            }
            mapping.dropped.push(column.name.clone());
        }
        if mapping.shared.is_empty() {
            return Err(MappingError::NothingShared);
        }
        Ok(mapping)
    }

    /// For sessions whose time zone shifts: TIMESTAMP columns that stay so are copied as instants.
    #[must_use]
    pub fn by_instants(mut self, original: &TableDefinition, ghost: &TableDefinition) -> ColumnMapping {
        let stays = |c: &SharedColumn| {
            let is = |column: Option<&Column>| column.is_some_and(|c| matches!(c.column_type, ColumnType::Timestamp { .. }));
            is(original.column(&c.original)) && is(ghost.column(&c.ghost))
        };
        for column in self.shared.iter_mut().filter(|c| stays(c)) {
            column.conversion = Conversion::ThroughInstant;
        }
        self
    }

    /// A column of either table that this mapping says nothing of, by the names that the tables themselves show (SHOW CREATE TABLE), which are
    /// read apart from the definitions that the mapping was made of. `None`: every column has its counterpart, or the ALTER adds or drops it.
    pub fn unaccounted(&self, original: &[CreatedColumn], ghost: &[CreatedColumn]) -> Option<String> {
        let shared =
            |name: &str| self.shared.iter().any(|c| same(&c.original, name)) || self.computed.iter().any(|c| same(&c.original, name));
        let lost = original.iter().find(|c| !shared(&c.name) && !self.dropped.iter().any(|d| same(d, &c.name)));
        if let Some(column) = lost {
            return Some(format!("the column {} of the original has no counterpart in the copy", quote::identifier(&column.name)));
        }
        let made = |name: &str| {
            self.shared.iter().any(|c| same(&c.ghost, name))
                || self.computed.iter().any(|c| same(&c.ghost, name))
                || self.added.iter().any(|a| same(a, name))
        };
        let strange = ghost.iter().find(|c| !made(&c.name));
        strange.map(|column| format!("the column {} of the ghost has no source", quote::identifier(&column.name)))
    }

    /// The columns and expressions to select from the original, quoted; goes with [`ColumnMapping::insert_list`].
    pub fn select_list(&self) -> String {
        let shared = self.shared.iter().map(|c| c.conversion.expression(&quote::identifier(&c.original)));
        let filled = self.filled.iter().map(|c| c.value.clone());
        shared.chain(filled).collect::<Vec<_>>().join(", ")
    }

    /// The ghost's columns to insert into, quoted.
    fn insert_list(&self) -> String {
        let names = self.shared.iter().map(|c| &c.ghost).chain(self.filled.iter().map(|c| &c.ghost));
        names.map(|n| quote::identifier(n)).collect::<Vec<_>>().join(", ")
    }

    /// Of both lists, the columns that `wanted` names by their name on the ghost.
    fn lists_of(&self, wanted: impl Fn(&str) -> bool) -> (String, String) {
        let part = ColumnMapping {
            shared: self.shared.iter().filter(|c| wanted(&c.ghost)).cloned().collect(),
            filled: self.filled.iter().filter(|c| wanted(&c.ghost)).cloned().collect(),
            added: Vec::new(),
            computed: Vec::new(),
            dropped: Vec::new(),
            vectors: Vec::new(),
        };
        (part.insert_list(), part.select_list())
    }

    /// The statements that write the columns which `wanted` names by their name on the ghost; each row is copied by one of them. One does, but
    /// for columns that may have an empty vector: rows that have one are copied without that column, so that the server gives it one.
    pub fn inserts(&self, wanted: impl Fn(&str) -> bool) -> Vec<Insert> {
        let vectors: Vec<&MaybeEmpty> = self.vectors.iter().filter(|v| wanted(&v.ghost)).collect();
        let new = vectors.iter().any(|v| v.original.is_none());
        let known: Vec<(&str, String)> =
            vectors.iter().filter_map(|v| Some((v.ghost.as_str(), quote::identifier(v.original.as_deref()?)))).take(MOST_VECTORS).collect();
        let each = |empty: usize| {
            let is_empty = |n: usize| empty & (1 << n) != 0;
            let out: Vec<&str> = known.iter().enumerate().filter(|(n, _)| is_empty(*n)).map(|(_, (ghost, _))| *ghost).collect();
            let (into, values) = self.lists_of(|name| wanted(name) && !out.iter().any(|o| same(o, name)));
            let of = |(n, (_, column)): (usize, &(&str, String))| match is_empty(n) {
                true => format!("LENGTH({column}) = 0"),
                false => format!("COALESCE(LENGTH({column}), 1) > 0"),
            };
            let only: Vec<String> = known.iter().enumerate().map(of).collect();
            Insert { into, values, only: (!only.is_empty()).then(|| only.join(" AND ")), lenient: new || !out.is_empty() }
        };
        (0..1 << known.len()).map(each).collect()
    }

    /// The shared column that comes from this one of the original.
    pub fn from_original(&self, original: &str) -> Option<&SharedColumn> {
        self.shared.iter().find(|c| same(&c.original, original))
    }

    /// The shared column of this name on the ghost.
    pub fn to_ghost(&self, ghost: &str) -> Option<&SharedColumn> {
        self.shared.iter().find(|c| same(&c.ghost, ghost))
    }
}

/// Whether a native ALTER leaves empty vectors in this column.
fn has_empty_vectors(column: &Column) -> bool {
    column.column_type == ColumnType::Vector && !column.nullable && !column.has_default && column.generated == Generated::No
}

/// The original column that a ghost column comes from.
fn origin<'a>(
    original: &'a TableDefinition,
    ghost: &str,
    renames: &[(String, String)],
    dropped: &[String],
    new: &[String],
) -> Option<&'a Column> {
    if let Some((old, _)) = renames.iter().find(|(_, n)| same(n, ghost)) {
        return original.column(old);
    }
    let gone = dropped.iter().any(|d| same(d, ghost)) || renames.iter().any(|(old, _)| same(old, ghost));
    if gone || new.iter().any(|n| same(n, ghost)) {
        return None;
    }
    original.column(ghost)
}

/// The value a native ALTER gives existing rows for a new column without a default; `None` if the column may be left out.
fn implicit_default(column: &Column) -> Option<String> {
    use ColumnType as T;
    if column.nullable || column.has_default || column.auto_increment || column.generated != Generated::No {
        return None;
    }
    let value = match column.column_type {
        T::Integer { .. } | T::Decimal { .. } | T::Float { .. } | T::Bit { .. } | T::Year => "0",
        T::Char { .. } | T::VarChar { .. } | T::Text | T::Binary { .. } | T::VarBinary { .. } | T::Blob | T::Set { .. } => "''",
        // The first label.
        T::Enum { .. } => "1",
        T::Time { .. } => "'00:00:00'",
        // Refused in strict mode with NO_ZERO_DATE, as the native ALTER is.
        T::Date => "'0000-00-00'",
        T::DateTime { .. } | T::Timestamp { .. } => "'0000-00-00 00:00:00'",
        T::Json => "'null'",
        // No implicit default is known: the server refuses, and says which column. (A native ALTER that adds a GEOMETRY fails as well, 1138;
        // of a VECTOR see MaybeEmpty.)
        T::Geometry | T::Vector | T::Other(_) => return None,
    };
    Some(value.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn column(name: &str, column_type: ColumnType) -> Column {
        Column {
            name: name.into(),
            column_type,
            type_text: String::new(),
            charset: None,
            collation: None,
            nullable: true,
            generated: Generated::No,
            auto_increment: false,
            has_default: false,
            invisible: false,
        }
    }

    pub(crate) const INT: ColumnType = ColumnType::Integer { bits: 32, unsigned: false };

    fn table(columns: &[(&str, ColumnType)]) -> TableDefinition {
        TableDefinition { name: "t".into(), columns: columns.iter().map(|(n, t)| column(n, t.clone())).collect(), indexes: vec![] }
    }

    fn ints(names: &[&str]) -> TableDefinition {
        table(&names.iter().map(|n| (*n, INT)).collect::<Vec<_>>())
    }

    #[test]
    fn who_comes_from_whom() {
        let pairs = |m: &ColumnMapping| m.shared.iter().map(|c| format!("{}>{}", c.original, c.ghost)).collect::<Vec<_>>().join(" ");
        for (original, ghost, alter, shared, added, dropped) in [
            (&["a", "b"][..], &["A", "b"][..], "FORCE", "a>A b>b", &[][..], &[][..]),
            (&["a", "b"], &["b", "a"], "CHANGE a b INT, CHANGE b a INT", "a>b b>a", &[], &[]),
            (&["a", "b"], &["b", "a"], "MODIFY a INT AFTER b", "b>b a>a", &[], &[]),
            (&["a", "b"], &["a", "b"], "DROP a, ADD a INT FIRST", "b>b", &["a"], &["a"]),
            (&["a", "b"], &["a", "b"], "DROP b, RENAME COLUMN a TO b, ADD a INT", "a>b", &["a"], &["b"]),
            (&["a", "b"], &["c", "d"], "RENAME COLUMN a TO c, DROP b, ADD d INT", "a>c", &["d"], &["b"]),
        ] {
            let alter_parsed = Alter::parse(alter).unwrap();
            let mapping = ColumnMapping::new(&ints(original), &ints(ghost), &alter_parsed).unwrap();
            assert_eq!(
                (pairs(&mapping).as_str(), &mapping.added[..], &mapping.dropped[..]),
                (
                    shared,
                    &added.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..],
                    &dropped.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]
                ),
                "{alter}"
            );
        }
        let force = Alter::parse("FORCE").unwrap();
        assert_eq!(ColumnMapping::new(&ints(&["a"]), &ints(&["a", "b"]), &force), Err(MappingError::Unexplained { column: "b".into() }));
        assert_eq!(ColumnMapping::new(&ints(&["a", "b"]), &ints(&["a"]), &force), Err(MappingError::Vanished { column: "b".into() }));
    }

    #[test]
    fn empty_vectors_are_copied_by_leaving_the_column_out() {
        let add = Alter::parse("ADD v VECTOR(4)").unwrap();
        let mut ghost = ints(&["a", "v", "w"]);
        let mut original = ints(&["a", "w"]);
        let shown = |original: &TableDefinition, ghost: &TableDefinition| -> Vec<(String, String, bool)> {
            let mapping = ColumnMapping::new(original, ghost, &add).unwrap();
            mapping.inserts(|_| true).into_iter().map(|i| (i.into, i.only.unwrap_or_default(), i.lenient)).collect()
        };
        let row = |into: &str, only: &str, lenient: bool| (into.to_owned(), only.to_owned(), lenient);
        ghost.columns[1].column_type = ColumnType::Vector;
        assert_eq!(shown(&original, &ghost), [row("`a`, `w`", "", false)], "NULL is its default");
        ghost.columns[1].nullable = false;
        assert_eq!(shown(&original, &ghost), [row("`a`, `w`", "", true)]);
        ghost.columns[2].column_type = ColumnType::Vector;
        original.columns[1].column_type = ColumnType::Vector;
        assert_eq!(shown(&original, &ghost), [row("`a`, `w`", "", true)], "NULL cannot be left out for an empty one");
        ghost.columns[2].nullable = false;
        assert_eq!(shown(&original, &ghost), [row("`a`, `w`", "COALESCE(LENGTH(`w`), 1) > 0", true), row("`a`", "LENGTH(`w`) = 0", true)]);
        ghost.columns[1].has_default = true;
        ghost.columns[2].has_default = true;
        assert_eq!(shown(&original, &ghost), [row("`a`, `w`", "", false)]);
    }

    #[test]
    fn lists() {
        let mut ghost = table(&[("id", INT), ("j", ColumnType::Json), ("g", INT), ("n", INT), ("d", INT)]);
        ghost.columns[2].generated = Generated::Stored;
        ghost.columns[3].nullable = false;
        ghost.columns[4].nullable = false;
        ghost.columns[4].has_default = true;
        let alter = Alter::parse("MODIFY j JSON, ADD n INT NOT NULL, ADD d INT NOT NULL DEFAULT 3").unwrap();
        let mapping = ColumnMapping::new(&ints(&["id", "j", "g"]), &ghost, &alter).unwrap();
        assert_eq!(mapping.select_list(), "`id`, CAST(`j` AS CHAR), 0");
        assert_eq!(mapping.insert_list(), "`id`, `j`, `n`");
        assert_eq!(mapping.added, ["n", "d"]);
        assert_eq!(mapping.dropped, Vec::<String>::new());
    }

    /// What the engine believed to see, and what is there: a column that is left out must not be lost.
    #[test]
    fn a_column_that_a_mapping_omits_is_told() {
        let shown = |names: &[&str]| {
            names
                .iter()
                .map(|n| CreatedColumn { name: (*n).into(), generated: Generated::No, expression: None, made_of: vec![] })
                .collect::<Vec<_>>()
        };
        let alter = Alter::parse("CHANGE a z BIGINT, DROP c, ADD n INT").unwrap();
        let whole = ColumnMapping::new(&ints(&["id", "a", "b", "c"]), &ints(&["id", "z", "b", "n"]), &alter).unwrap();
        let (original, ghost) = (shown(&["id", "a", "b", "c"]), shown(&["id", "z", "b", "n"]));
        assert_eq!(whole.unaccounted(&original, &ghost), None);
        let told =
            |mapping: &ColumnMapping, original: &[CreatedColumn], ghost: &[CreatedColumn]| mapping.unaccounted(original, ghost).unwrap();
        let mut cut = whole.clone();
        cut.shared.retain(|c| c.original != "b");
        assert!(told(&cut, &original, &ghost).contains("`b` of the original"));
        // Cut on both sides alike, as the two are when one session reads both.
        let blind =
            ColumnMapping::new(&ints(&["id", "a"]), &ints(&["id", "z", "n"]), &Alter::parse("CHANGE a z BIGINT, ADD n INT").unwrap())
                .unwrap();
        assert!(told(&blind, &original, &ghost).contains("`b` of the original"));
        assert!(told(&whole, &original, &shown(&["id", "z", "b", "n", "my_row_id"])).contains("`my_row_id` of the ghost"));
        // The server computes it on both sides.
        let mut ghost_with = ints(&["id", "a"]);
        ghost_with.columns[1].generated = Generated::Stored;
        let computed = ColumnMapping::new(&ints(&["id", "a"]), &ghost_with, &Alter::parse("FORCE").unwrap()).unwrap();
        assert_eq!(computed.unaccounted(&shown(&["id", "a"]), &shown(&["id", "a"])), None);
    }

    #[test]
    fn conversions() {
        use ColumnType as T;
        let labels = || vec!["x".to_owned()];
        for (from, to, expected) in [
            (INT, T::Integer { bits: 64, unsigned: true }, Conversion::Direct),
            (INT, T::Enum { labels: labels() }, Conversion::ThroughText),
            (INT, T::Json, Conversion::ThroughText),
            (T::Float { double: false }, T::VarChar { length: 20 }, Conversion::ThroughText),
            (T::Float { double: true }, INT, Conversion::Direct),
            (T::Year, T::Date, Conversion::ThroughText),
            (T::Date, T::Json, Conversion::ThroughText),
            (T::Date, T::VarChar { length: 20 }, Conversion::Direct),
            (T::Bit { width: 8 }, T::Text, Conversion::ThroughBytes),
            (T::Bit { width: 8 }, T::VarChar { length: 20 }, Conversion::Direct),
            (T::VarChar { length: 20 }, T::Bit { width: 8 }, Conversion::ThroughInteger),
            (T::Enum { labels: labels() }, INT, Conversion::Direct),
            (T::Json, T::Text, Conversion::Direct),
            (T::Json, INT, Conversion::ThroughText),
            (T::Json, T::Bit { width: 8 }, Conversion::ThroughInteger),
            (T::Date, T::Year, Conversion::ThroughInteger),
            (T::Decimal { precision: 5, scale: 2, unsigned: false }, T::Bit { width: 8 }, Conversion::ThroughInteger),
        ] {
            assert_eq!(conversion(&column("a", from.clone()), &column("a", to.clone())), expected, "{from:?} to {to:?}");
        }
        let float = |text: &str| Column { type_text: text.into(), ..column("a", T::Float { double: false }) };
        assert_eq!(conversion(&float("float"), &float("float")), Conversion::Direct);
        assert_eq!(conversion(&float("float"), &float("float(10,2)")), Conversion::ThroughDouble);
    }
}
