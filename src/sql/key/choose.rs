//! Which unique key a migration walks along.

use std::fmt;

use super::super::mapping::{ColumnMapping, Conversion, SharedColumn};
use super::super::quote;
use super::super::table::{Column, ColumnType, Generated, Index, IndexPart, TableDefinition};

/// A column of the migration key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name on the original.
    pub original: String,
    /// Its name on the ghost.
    pub ghost: String,
    /// Whether the original's index has it in descending order.
    pub descending: bool,
}

/// A column of the key that may be NULL, and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NullableColumn {
    /// Its name on the original.
    pub column: String,
    /// A visible index of the original that begins with it, so that one look shows whether it is NULL somewhere.
    pub index: String,
}

/// The key that was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigrationKey {
    /// The index of the original; visible, so FORCE INDEX may name it.
    pub index: String,
    /// Its columns in the index's order.
    pub columns: Vec<KeyColumn>,
    /// The ghost's unique index that makes the key unique there; it must exist during the copy, visible or not.
    pub ghost_unique_index: String,
    /// The ghost's visible index that finds a row by the key; often the same one. It must exist during the copy.
    pub ghost_index: String,
    /// Its columns that may be NULL. Rows that are NULL there are not unique, no range and no key finds them, and nobody copies them: the original
    /// must have none, from the beginning to the swap.
    pub nullable: Vec<NullableColumn>,
    /// Set where both of these are an index of ours, which the new table does not have: it is made on the empty ghost, and dropped under the
    /// lock of the swap.
    pub helper: Option<String>,
}

impl MigrationKey {
    /// The helper index, as the ghost has it during the copy.
    pub fn helper_index(&self) -> Option<Index> {
        let part = |c: &KeyColumn| IndexPart { column: Some(c.ghost.clone()), prefix: None, descending: c.descending };
        let parts = self.columns.iter().map(part).collect();
        Some(Index { name: self.helper.clone()?, unique: true, visible: true, kind: "BTREE".to_owned(), parts })
    }

    /// The clause of ALTER TABLE that makes the helper index. UNIQUE: two rows of the ghost with one key are an error at once.
    pub fn add_helper(&self) -> Option<String> {
        let part = |c: &KeyColumn| format!("{}{}", quote::identifier(&c.ghost), if c.descending { " DESC" } else { "" });
        let parts: Vec<String> = self.columns.iter().map(part).collect();
        Some(format!("ADD UNIQUE INDEX {} ({})", quote::identifier(self.helper.as_ref()?), parts.join(", ")))
    }
}

/// What the helper index is called; a number is added where the new table has an index of that name.
const HELPER: &str = "_theseus_key";

/// Why an index cannot be the migration key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// It cannot be named in FORCE INDEX.
    Invisible,
    /// Not a BTREE.
    Kind(String),
    /// A part is an expression.
    Expression,
    /// A part is a prefix of this column.
    Prefix(String),
    /// This column may be NULL, NULLs are not unique, and no index shows whether there are any.
    Nullable(String),
    /// This column's type cannot be compared exactly.
    Type(String, String),
    /// This column is VIRTUAL.
    Virtual(String),
    /// This column is STORED and generated.
    Stored(String),
    /// A column that the table does not list.
    UnknownColumn(String),
    /// The ALTER drops this column, or makes it a generated one.
    NotShared(String),
    /// The ALTER changes this column's type so that key values do not stay the same: column, from, to.
    Conversion(String, String, String),
    /// The ghost has no unique index on these columns or some of them.
    NotUniqueOnGhost,
    /// The ghost has no visible index to look rows up by.
    NoLookUpOnGhost,
    /// The ghost has no index for it, and none can be added: it would become the clustered one, in whose order the rows are.
    NoClusteredOnGhost,
    /// The ghost has no index for it, and this column has another collation there, by which two keys may be one.
    CollationOnGhost(String),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejection::Invisible => write!(f, "it is invisible"),
            Rejection::Kind(kind) => write!(f, "it is a {kind} index, not a BTREE"),
            Rejection::Expression => write!(f, "one of its parts is an expression"),
            Rejection::Prefix(c) => write!(f, "it has only a prefix of column {c}"),
            Rejection::Nullable(c) => write!(f, "column {c} may be NULL, and no index that begins with it shows whether it is"),
            Rejection::Type(c, t) => write!(f, "column {c} has the type {t}, which cannot be used as a key"),
            Rejection::Virtual(c) => write!(f, "column {c} is a virtual generated column"),
            Rejection::Stored(c) => {
                write!(f, "column {c} is a stored generated column, which the new table recomputes: a row might get another value there")
            }
            Rejection::UnknownColumn(c) => write!(f, "column {c} is not known"),
            Rejection::NotShared(c) => write!(f, "column {c} is dropped or becomes a generated column"),
            Rejection::Conversion(c, from, to) => write!(f, "column {c} changes from {from} to {to}, which may change its values"),
            Rejection::NotUniqueOnGhost => {
                write!(f, "after the ALTER no unique index (without prefixes and expressions) covers its columns")
            }
            Rejection::NoLookUpOnGhost => write!(f, "after the ALTER no visible index can find rows by its columns"),
            Rejection::NoClusteredOnGhost => write!(
                f,
                "after the ALTER no unique index covers its columns, and a table that has neither a primary key nor a unique index on NOT NULL columns cannot be given one for the time of the copy"
            ),
            Rejection::CollationOnGhost(c) => write!(
                f,
                "after the ALTER no unique index covers its columns, and column {c} has another collation there, in which two of its values may be equal"
            ),
        }
    }
}

/// No index can be the migration key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct NoUsableKey {
    /// The table as it is named in the message.
    pub table: String,
    /// Each unique index looked at, and why not.
    pub rejected: Vec<(String, Rejection)>,
}

impl fmt::Display for NoUsableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} has no unique key that a migration can use", self.table)?;
        if self.rejected.is_empty() {
            write!(f, ": it has no unique index at all")?;
        }
        for (i, (index, why)) in self.rejected.iter().enumerate() {
            write!(f, "{} index {index}: {why}", if i == 0 { ":" } else { ";" })?;
        }
        write!(
            f,
            ". A migration needs a unique index on NOT NULL columns that the table has before and after the change with the same values; add one, or split the change in two migrations so that each keeps one key"
        )
    }
}

/// Chooses the migration key.
///
/// # Which can
/// A visible unique BTREE index of the original with plain columns (no prefix, no expression, no FLOAT, DOUBLE, JSON, TEXT, BLOB or spatial
/// type, not generated; nullable only where an index shows that there is no NULL), all of them kept by the ALTER under a conversion that keeps the value
/// ([`conversion_keeps_key`]). On the ghost a unique index on some of these columns makes the key unique there, and a visible index finds
/// a row by them; where the new table has none, a helper index does both ([`MigrationKey::helper`]).
///
/// # Which is taken
/// 1. one whose columns cannot be NULL;
/// 2. one that needs no helper index;
/// 3. the primary key, since it is the order of the rows;
/// 4. a key of integers only;
/// 5. fewer columns;
/// 6. fewer bytes;
/// 7. the name that comes first.
///
/// # Errors
/// [`NoUsableKey`] names every unique index and why it cannot be used.
pub fn choose(original: &TableDefinition, ghost: &TableDefinition, mapping: &ColumnMapping) -> Result<MigrationKey, NoUsableKey> {
    let mut rejected = Vec::new();
    let mut best: Option<((bool, bool, Rank), MigrationKey)> = None;
    for index in original.indexes.iter().filter(|i| i.unique) {
        match candidate(index, original, ghost, mapping) {
            Err(why) => rejected.push((index.name.clone(), why)),
            Ok(key) => {
                let rank = (!key.nullable.is_empty(), key.helper.is_some(), rank(index, original));
                if best.as_ref().is_none_or(|(b, _)| rank < *b) {
                    best = Some((rank, key));
                }
            }
        }
    }
    best.map(|(_, key)| key).ok_or_else(|| NoUsableKey { table: original.name.clone(), rejected })
}

/// Why rows of the log cannot be found by a key, if they cannot: images other than `MINIMAL` are sure to hold every key, that one the primary key
/// only (MySQL manual, `binlog_row_image`). [`ANOTHER_IMAGE`] cures it.
pub fn not_logged(key: &MigrationKey, binlog_row_image: &str) -> Option<String> {
    (binlog_row_image == "MINIMAL" && !key.index.eq_ignore_ascii_case("PRIMARY")).then(|| {
        format!("binlog_row_image=MINIMAL logs the primary key only, and the migration would have to use {}", quote::identifier(&key.index))
    })
}

/// What to do where a key is [`not_logged`].
pub const ANOTHER_IMAGE: &str = "set binlog_row_image=FULL or NOBLOB";

/// Smaller is better.
type Rank = (bool, bool, usize, u64, String);

fn rank(index: &Index, table: &TableDefinition) -> Rank {
    let columns: Vec<&Column> = index.parts.iter().filter_map(|p| table.column(p.column.as_deref()?)).collect();
    let integers = columns.iter().all(|c| matches!(c.column_type, ColumnType::Integer { .. }));
    let width = columns.iter().map(|c| width(&c.column_type)).sum();
    (!is_primary(index), !integers, index.parts.len(), width, index.name.clone())
}

fn is_primary(index: &Index) -> bool {
    index.name.eq_ignore_ascii_case("PRIMARY")
}

/// Bytes of a value at most, roughly.
fn width(column_type: &ColumnType) -> u64 {
    match column_type {
        ColumnType::Integer { bits, .. } => u64::from(*bits) / 8,
        ColumnType::Decimal { precision, .. } => u64::from(*precision) / 2 + 1,
        ColumnType::Bit { width } => u64::from(*width).div_ceil(8),
        ColumnType::Year => 1,
        ColumnType::Date | ColumnType::Time { .. } => 3,
        ColumnType::Enum { .. } => 2,
        ColumnType::Char { length } | ColumnType::VarChar { length } => u64::from(*length) * 4,
        ColumnType::Binary { length } | ColumnType::VarBinary { length } => u64::from(*length),
        _ => 8,
    }
}

/// The columns of an index that can be walked along, whatever becomes of the table.
fn own_columns<'t>(index: &Index, original: &'t TableDefinition) -> Result<Vec<&'t Column>, Rejection> {
    if !index.visible {
        return Err(Rejection::Invisible);
    }
    if !index.kind.eq_ignore_ascii_case("BTREE") {
        return Err(Rejection::Kind(index.kind.clone()));
    }
    let mut columns = Vec::new();
    for part in &index.parts {
        let name = part.column.as_deref().ok_or(Rejection::Expression)?;
        if part.prefix.is_some() {
            return Err(Rejection::Prefix(name.to_owned()));
        }
        let column = original.column(name).ok_or_else(|| Rejection::UnknownColumn(name.to_owned()))?;
        usable_column(column)?;
        if column.nullable && shows_nulls(original, column).is_none() {
            return Err(Rejection::Nullable(column.name.clone()));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// The index that shows by one look whether a column is NULL somewhere.
fn shows_nulls<'t>(table: &'t TableDefinition, column: &Column) -> Option<&'t Index> {
    let begins = |i: &&Index| {
        let first = i.parts.first();
        i.visible
            && i.kind.eq_ignore_ascii_case("BTREE")
            && first
                .is_some_and(|p| p.prefix.is_none() && p.column.as_deref().is_some_and(|c| c.to_lowercase() == column.name.to_lowercase()))
    };
    table.indexes.iter().find(begins)
}

/// Whether the table has a key that a change which keeps it can use.
pub(super) fn stands_alone(table: &TableDefinition) -> bool {
    let usable = |index: &Index| own_columns(index, table).is_ok_and(|columns| columns.iter().all(|column| !column.nullable));
    table.indexes.iter().any(|index| index.unique && usable(index))
}

fn candidate(
    index: &Index,
    original: &TableDefinition,
    ghost: &TableDefinition,
    mapping: &ColumnMapping,
) -> Result<MigrationKey, Rejection> {
    let (mut columns, mut nullable) = (Vec::new(), Vec::new());
    for (part, column) in index.parts.iter().zip(own_columns(index, original)?) {
        if column.nullable
            && let Some(shows) = shows_nulls(original, column)
        {
            nullable.push(NullableColumn { column: column.name.clone(), index: shows.name.clone() });
        }
        let shared = mapping.from_original(&column.name).ok_or_else(|| Rejection::NotShared(column.name.clone()))?;
        let to = ghost.column(&shared.ghost).ok_or_else(|| Rejection::NotShared(column.name.clone()))?;
        if !keeps_key(column, to, shared) {
            return Err(Rejection::Conversion(column.name.clone(), type_name(column), type_name(to)));
        }
        columns.push(KeyColumn { original: column.name.clone(), ghost: to.name.clone(), descending: part.descending });
    }
    let unique = best_on_ghost(ghost, |i| i.unique && within(i, &columns)).ok_or(Rejection::NotUniqueOnGhost);
    let look_up = best_on_ghost(ghost, |i| i.visible && ((i.unique && within(i, &columns)) || begins_with_all(i, &columns)))
        .ok_or(Rejection::NoLookUpOnGhost);
    let (ghost_unique_index, ghost_index, helper) = match (unique, look_up) {
        (Ok(unique), Ok(look_up)) => (unique.name.clone(), look_up.name.clone(), None),
        (Err(why), _) | (_, Err(why)) => {
            let name = helper(original, ghost, &columns, why)?;
            (name.clone(), name.clone(), Some(name))
        }
    };
    Ok(MigrationKey { index: index.name.clone(), columns, ghost_unique_index, ghost_index, nullable, helper })
}

/// The name of a helper index on these columns of the ghost, where one can be made whose rows are unique exactly where the original's are.
fn helper(original: &TableDefinition, ghost: &TableDefinition, columns: &[KeyColumn], why: Rejection) -> Result<String, Rejection> {
    let not_null = |name: Option<&str>| name.and_then(|name| ghost.column(name)).is_some_and(|c| !c.nullable);
    let clusters = |i: &Index| is_primary(i) || i.unique && i.parts.iter().all(|p| p.prefix.is_none() && not_null(p.column.as_deref()));
    // One with a part that may be NULL never becomes the clustered one.
    if columns.iter().all(|c| not_null(Some(&c.ghost))) && !ghost.indexes.iter().any(clusters) {
        // A unique index that is there already, but invisible, is reported as what it is.
        return Err(if why == Rejection::NotUniqueOnGhost { Rejection::NoClusteredOnGhost } else { why });
    }
    for part in columns {
        let text = |c: Option<&Column>| c.map(|c| (c.charset.clone(), c.collation.clone()));
        if text(original.column(&part.original)) != text(ghost.column(&part.ghost)) {
            return Err(Rejection::CollationOnGhost(part.original.clone()));
        }
    }
    let taken = |name: &str| ghost.indexes.iter().any(|i| i.name.eq_ignore_ascii_case(name));
    let names = std::iter::once(HELPER.to_owned()).chain((2..).map(|n| format!("{HELPER}_{n}")));
    names.into_iter().find(|name| !taken(name)).ok_or(why)
}

/// The primary key if it serves, else a unique one, else the first.
fn best_on_ghost(ghost: &TableDefinition, serves: impl Fn(&Index) -> bool) -> Option<&Index> {
    let plain = |i: &&Index| i.kind.eq_ignore_ascii_case("BTREE") && i.parts.iter().all(|p| p.column.is_some() && p.prefix.is_none());
    ghost.indexes.iter().filter(plain).filter(|i| serves(i)).min_by_key(|i| (!is_primary(i), !i.unique, !i.visible))
}

fn is_key_column(name: Option<&str>, key: &[KeyColumn]) -> bool {
    name.is_some_and(|n| key.iter().any(|c| c.ghost.to_lowercase() == n.to_lowercase()))
}

/// Whether all columns of the index are columns of the key: then its uniqueness makes the key unique.
fn within(index: &Index, key: &[KeyColumn]) -> bool {
    index.parts.iter().all(|p| is_key_column(p.column.as_deref(), key))
}

/// Whether the index begins with all columns of the key, in any order.
fn begins_with_all(index: &Index, key: &[KeyColumn]) -> bool {
    index.parts.len() >= key.len() && index.parts.iter().take(key.len()).all(|p| is_key_column(p.column.as_deref(), key))
}

fn type_name(column: &Column) -> String {
    if column.type_text.is_empty() { format!("{:?}", column.column_type) } else { column.type_text.clone() }
}

fn usable_column(column: &Column) -> Result<(), Rejection> {
    use ColumnType as T;
    if column.generated == Generated::Virtual {
        return Err(Rejection::Virtual(column.name.clone()));
    }
    if column.generated == Generated::Stored {
        return Err(Rejection::Stored(column.name.clone()));
    }
    match column.column_type {
        T::Float { .. } | T::Text | T::Blob | T::Json | T::Geometry | T::Vector | T::Other(_) => {
            Err(Rejection::Type(column.name.clone(), type_name(column)))
        }
        // mysql_common 0.37 decodes negative values of these wrongly from the binary log (the fraction is taken as unsigned).
        T::Time { fsp: 1 | 2 } => Err(Rejection::Type(column.name.clone(), type_name(column))),
        // A string whose character set is not known could not be written as a literal.
        T::Char { .. } | T::VarChar { .. } if column.charset.is_none() || column.collation.is_none() => {
            Err(Rejection::Type(column.name.clone(), type_name(column)))
        }
        _ => Ok(()),
    }
}

fn keeps_key(from: &Column, to: &Column, shared: &SharedColumn) -> bool {
    matches!(shared.conversion, Conversion::Direct | Conversion::ThroughInstant) && conversion_keeps_key(&from.column_type, &to.column_type)
}

/// Whether every value stays the same one, comparable by the same literal, under a change of type (or is refused by the
/// server, which fails the migration as it fails the native ALTER).
pub fn conversion_keeps_key(from: &ColumnType, to: &ColumnType) -> bool {
    use ColumnType as T;
    match (from, to) {
        // Out of range is an error in strict mode.
        (T::Integer { .. }, T::Integer { .. }) | (T::Bit { .. }, T::Bit { .. }) | (T::Year, T::Year) | (T::Date, T::Date) => true,
        (T::Decimal { precision: p, scale: s, .. }, T::Decimal { precision: q, scale: t, .. }) => {
            t >= s && q.saturating_sub(*t) >= p.saturating_sub(*s)
        }
        (T::Time { fsp: a }, T::Time { fsp: b })
        | (T::DateTime { fsp: a }, T::DateTime { fsp: b })
        | (T::Timestamp { fsp: a }, T::Timestamp { fsp: b }) => b >= a,
        // VARCHAR → CHAR would lose trailing blanks.
        (T::Char { .. }, T::Char { .. } | T::VarChar { .. }) | (T::VarChar { .. }, T::VarChar { .. }) => true,
        // A longer BINARY is padded, which is another value.
        (T::Binary { length: a }, T::Binary { length: b }) => a == b,
        (T::Binary { .. } | T::VarBinary { .. }, T::VarBinary { .. }) => true,
        (T::Enum { labels: a }, T::Enum { labels: b }) | (T::Set { labels: a }, T::Set { labels: b }) => b.starts_with(a),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::alter::Alter;
    use crate::sql::mapping::tests::{INT, column};
    use crate::sql::table::IndexPart;

    fn not_null(name: &str, column_type: ColumnType) -> Column {
        Column { nullable: false, charset: Some("utf8mb4".into()), collation: Some("utf8mb4_bin".into()), ..column(name, column_type) }
    }

    fn index(name: &str, unique: bool, columns: &[&str]) -> Index {
        let parts = columns.iter().map(|c| IndexPart { column: Some((*c).into()), prefix: None, descending: false });
        Index { name: name.into(), unique, visible: true, kind: "BTREE".into(), parts: parts.collect() }
    }

    fn table(columns: Vec<Column>, indexes: Vec<Index>) -> TableDefinition {
        TableDefinition { name: "t".into(), columns, indexes }
    }

    fn chosen(original: &TableDefinition, ghost: &TableDefinition, alter: &str) -> Result<MigrationKey, NoUsableKey> {
        let mapping = ColumnMapping::new(original, ghost, &Alter::parse(alter).unwrap()).unwrap();
        choose(original, ghost, &mapping)
    }

    const BIG: ColumnType = ColumnType::Integer { bits: 64, unsigned: true };
    const NAME: ColumnType = ColumnType::VarChar { length: 20 };

    #[test]
    fn ranking() {
        let columns = || vec![not_null("a", INT), not_null("b", BIG), not_null("c", NAME), not_null("d", INT)];
        for (indexes, expected) in [
            (vec![index("u", true, &["a"]), index("PRIMARY", true, &["c"])], "PRIMARY"),
            (vec![index("s", true, &["c"]), index("two", true, &["a", "d"])], "two"),
            (vec![index("two", true, &["a", "d"]), index("wide", true, &["b"])], "wide"),
            (vec![index("wide", true, &["b"]), index("narrow", true, &["a"])], "narrow"),
            (vec![index("z", true, &["a"]), index("y", true, &["d"])], "y"),
            (vec![index("plain", false, &["a"]), index("s", true, &["c"])], "s"),
        ] {
            let t = table(columns(), indexes);
            assert_eq!(chosen(&t, &t, "FORCE").map(|k| k.index).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn rejections() {
        let only = |column: Column, index: Index| {
            let t = table(vec![column, not_null("x", INT)], vec![index]);
            chosen(&t, &t, "FORCE").map_err(|e| e.rejected[0].1.clone())
        };
        let a = || index("u", true, &["a"]);
        let c = |s: &str| s.to_owned();
        assert_eq!(only(not_null("a", INT), Index { visible: false, ..a() }), Err(Rejection::Invisible));
        assert_eq!(only(not_null("a", INT), Index { kind: "HASH".into(), ..a() }), Err(Rejection::Kind(c("HASH"))));
        let nullable = only(column("a", INT), a()).unwrap().nullable;
        assert_eq!(nullable, [NullableColumn { column: c("a"), index: c("u") }]);
        let second = table(vec![not_null("a", INT), column("b", INT)], vec![index("u", true, &["a", "b"])]);
        assert_eq!(
            chosen(&second, &second, "FORCE").unwrap_err().rejected[0].1,
            Rejection::Nullable(c("b")),
            "nothing shows it in one look"
        );
        let shown = table(second.columns.clone(), vec![index("u", true, &["a", "b"]), index("k", false, &["b"])]);
        assert_eq!(chosen(&shown, &shown, "FORCE").unwrap().nullable, [NullableColumn { column: c("b"), index: c("k") }]);
        let better = table(second.columns.clone(), vec![index("k", true, &["b"]), index("wide", true, &["a"])]);
        assert_eq!(chosen(&better, &better, "FORCE").unwrap().index, "wide");
        let mut prefix = a();
        prefix.parts[0].prefix = Some(3);
        assert_eq!(only(not_null("a", NAME), prefix), Err(Rejection::Prefix(c("a"))));
        let mut expression = a();
        expression.parts[0].column = None;
        assert_eq!(only(not_null("a", INT), expression), Err(Rejection::Expression));
        assert!(matches!(only(not_null("a", ColumnType::Float { double: true }), a()), Err(Rejection::Type(..))));
        assert_eq!(only(Column { generated: Generated::Virtual, ..not_null("a", INT) }, a()), Err(Rejection::Virtual(c("a"))));
        let none = table(vec![not_null("a", INT)], vec![]);
        assert!(chosen(&none, &none, "FORCE").is_err_and(|e| e.to_string().contains("no unique index at all")));
    }

    #[test]
    fn the_ghosts_side() {
        let original = table(vec![not_null("a", INT), not_null("b", INT)], vec![index("PRIMARY", true, &["a", "b"])]);
        let ghost = |indexes| table(vec![not_null("a", INT), not_null("b", INT)], indexes);
        let key = |indexes| {
            chosen(&original, &ghost(indexes), "FORCE").map(|k| (k.ghost_unique_index, k.ghost_index)).map_err(|e| e.rejected[0].1.clone())
        };
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(key(vec![index("PRIMARY", true, &["b", "a"])]), pair("PRIMARY", "PRIMARY"));
        assert_eq!(key(vec![index("u", true, &["b"])]), pair("u", "u"));
        assert_eq!(key(vec![index("k", false, &["a", "b"])]), Err(Rejection::NoClusteredOnGhost));
        let hidden = || Index { visible: false, ..index("u", true, &["a"]) };
        assert_eq!(key(vec![hidden(), index("k", false, &["b", "a"])]), pair("u", "k"));
        // Where the new table has no index for the key, it gets one of ours, beside what clusters its rows.
        let ours = || pair("_theseus_key", "_theseus_key");
        assert_eq!(key(vec![index("PRIMARY", true, &["a", "b", "c"])]), ours());
        assert_eq!(key(vec![index("u", true, &["b", "b2"]), index("PRIMARY", true, &["c"])]), ours());
        assert_eq!(key(vec![hidden()]), ours(), "an invisible one clusters rows, and finds none");
        let taken = index("_Theseus_Key", false, &["b"]);
        assert_eq!(key(vec![index("PRIMARY", true, &["c"]), taken]), pair("_theseus_key_2", "_theseus_key_2"));
        let half = table(vec![not_null("a", INT), not_null("b", INT)], vec![index("k", true, &["a", "c"])]);
        assert!(matches!(chosen(&original, &half, "FORCE"), Err(e) if e.rejected[0].1 == Rejection::NoClusteredOnGhost));
        let nullable =
            table(vec![Column { nullable: true, ..not_null("a", INT) }, not_null("b", INT)], vec![index("k", true, &["a", "c"])]);
        assert!(chosen(&original, &nullable, "FORCE").is_ok_and(|key| key.helper.is_some()), "it clusters nothing");
        let helped = chosen(&original, &ghost(vec![index("PRIMARY", true, &["c"])]), "FORCE").unwrap();
        assert_eq!(helped.add_helper().as_deref(), Some("ADD UNIQUE INDEX `_theseus_key` (`a`, `b`)"));
        assert_eq!(helped.helper_index().unwrap().parts.len(), 2);
        // Another key that needs none is better, and another collation may make two keys one.
        let two = table(vec![not_null("a", INT), not_null("b", INT)], vec![index("PRIMARY", true, &["a"]), index("u", true, &["b"])]);
        let left = table(vec![not_null("a", INT), not_null("b", INT)], vec![index("u", true, &["b"])]);
        assert_eq!(chosen(&two, &left, "FORCE").map(|k| (k.index, k.helper)), Ok(("u".to_owned(), None)));
        let named = |collation: &str| Column { collation: Some(collation.into()), ..not_null("n", NAME) };
        let by_name = table(vec![named("utf8mb4_bin"), not_null("c", INT)], vec![index("PRIMARY", true, &["n"])]);
        let other = |collation| table(vec![named(collation), not_null("c", INT)], vec![index("PRIMARY", true, &["c"])]);
        assert!(chosen(&by_name, &other("utf8mb4_bin"), "FORCE").is_ok_and(|k| k.helper.is_some()));
        let refused =
            chosen(&by_name, &other("utf8mb4_0900_ai_ci"), "MODIFY n VARCHAR(20) COLLATE utf8mb4_0900_ai_ci NOT NULL").unwrap_err();
        assert_eq!(refused.rejected[0].1, Rejection::CollationOnGhost("n".into()));
        // Renamed columns are followed.
        let renamed = table(vec![not_null("x", BIG), not_null("y", INT)], vec![index("PRIMARY", true, &["x", "y"])]);
        let key = chosen(&original, &renamed, "CHANGE a x BIGINT UNSIGNED, RENAME COLUMN b TO y").unwrap();
        assert_eq!(key.columns.iter().map(|c| c.ghost.as_str()).collect::<Vec<_>>(), ["x", "y"]);
        // A changed type names itself.
        let changed = table(vec![not_null("a", NAME), not_null("b", INT)], vec![index("PRIMARY", true, &["a", "b"])]);
        let error = chosen(&original, &changed, "MODIFY a VARCHAR(20)").unwrap_err();
        assert!(error.to_string().contains("index PRIMARY: column a changes"), "{error}");
    }

    #[test]
    fn types_that_keep_the_key() {
        use ColumnType as T;
        let decimal = |precision, scale| T::Decimal { precision, scale, unsigned: false };
        let labels = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let set = |l: &[&str]| T::Enum { labels: labels(l) };
        for (from, to, keeps) in [
            (INT, BIG, true),
            (BIG, INT, true),
            (INT, NAME, false),
            (decimal(10, 2), decimal(12, 4), true),
            (decimal(10, 2), decimal(10, 3), false),
            (decimal(10, 2), decimal(11, 1), false),
            (T::DateTime { fsp: 0 }, T::DateTime { fsp: 3 }, true),
            (T::DateTime { fsp: 6 }, T::DateTime { fsp: 3 }, false),
            (T::DateTime { fsp: 0 }, T::Timestamp { fsp: 0 }, false),
            (T::Char { length: 3 }, NAME, true),
            (NAME, T::Char { length: 30 }, false),
            (T::Binary { length: 4 }, T::Binary { length: 5 }, false),
            (T::Binary { length: 4 }, T::VarBinary { length: 5 }, true),
            (T::VarBinary { length: 4 }, T::Binary { length: 4 }, false),
            (set(&["a"]), set(&["a", "b"]), true),
            (set(&["a", "b"]), set(&["b", "a"]), false),
            (T::Bit { width: 3 }, T::Bit { width: 9 }, true),
            (T::Year, INT, false),
        ] {
            assert_eq!(conversion_keeps_key(&from, &to), keeps, "{from:?} to {to:?}");
        }
    }
}
