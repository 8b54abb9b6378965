//! The way back: whether the old table can be kept current after a change, so that the change can be taken back without loss. Pure.
//!
//! From the swap on, rows of the new table are written into the old one. Only what is exact, or an error, may stand between the two: a value
//! that the server would change without a word on its way into the old table is a reason to refuse the way back before anything is touched.

use super::key::{self, MigrationKey};
use super::mapping::{ColumnMapping, ComputedColumn, SharedColumn, conversion};
use super::quote;
use super::table::{Column, ColumnType, Generated, TableDefinition};

/// How rows of the new table are written into the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayBack {
    /// From the new table (its `original`) to the old one (its `ghost`).
    pub mapping: ColumnMapping,
    /// The key that changes go by.
    pub key: MigrationKey,
    /// Columns of the old table that the change dropped: rows that live through it keep their values.
    pub kept: Vec<String>,
}

/// The way back of a change that maps `original` to `new` by `change`.
///
/// # Errors
/// Why there is none, with the column.
pub fn way_back(original: &TableDefinition, new: &TableDefinition, change: &ColumnMapping) -> Result<WayBack, String> {
    let mut mapping = ColumnMapping { shared: vec![], filled: vec![], added: vec![], computed: vec![], dropped: vec![], vectors: vec![] };
    let mut kept = Vec::new();
    let came_from = |name: &str| {
        let shared = change.shared.iter().map(|c| (&c.original, &c.ghost));
        let computed = change.computed.iter().map(|c| (&c.original, &c.ghost));
        let mut pairs = shared.chain(computed);
        pairs.find(|(before, _)| before.to_lowercase() == name.to_lowercase()).and_then(|(_, after)| new.column(after))
    };
    for old in &original.columns {
        let name = quote::identifier(&old.name);
        if old.column_type == ColumnType::Vector && !old.nullable && !old.has_default {
            return Err(format!("{name} is a VECTOR that must not be NULL and has no default, whose empty values cannot be written"));
        }
        let Some(now) = came_from(&old.name) else {
            mapping.added.push(old.name.clone());
            if old.generated != Generated::No {
                continue;
            }
            if old.auto_increment {
                return Err(format!("the change drops {name}, which is AUTO_INCREMENT: new rows would get other numbers in the old table"));
            }
            if !old.nullable && !old.has_default {
                return Err(format!(
                    "the change drops {name}, which must not be NULL and has no default: rows that are added after the change would have no value there. Give it a default first"
                ));
            }
            kept.push(old.name.clone());
            continue;
        };
        if old.generated != Generated::No {
            if now.generated == Generated::No {
                return Err(format!("{name} is computed and becomes an ordinary column, whose values the old table would compute again"));
            }
            mapping.computed.push(ComputedColumn { original: now.name.clone(), ghost: old.name.clone() });
            continue;
        }
        if !comes_back(now, old) {
            return Err(format!(
                "a value of {} ({}) might be changed without an error when it is written back to {name} ({})",
                quote::identifier(&now.name),
                now.type_text,
                old.type_text
            ));
        }
        mapping.shared.push(SharedColumn { original: now.name.clone(), ghost: old.name.clone(), conversion: conversion(now, old) });
    }
    mapping.dropped.clone_from(&change.added);
    let key = key::choose(new, original, &mapping)
        .map_err(|error| format!("rows of the new table cannot be found in the old one by a key ({error})"))?;
    if key.helper.is_some() {
        return Err(format!("the old table has no unique index for the columns of {} of the new one", quote::identifier(&key.index)));
    }
    if let Some(nullable) = key.nullable.first() {
        return Err(format!(
            "the only key after the change is {}, whose column {} may be NULL",
            key.index,
            quote::identifier(&nullable.column)
        ));
    }
    Ok(WayBack { mapping, key, kept })
}

/// Whether each value that the old type can hold becomes itself, and each that it cannot is an error or a warning in strict mode.
fn comes_back(from: &Column, to: &Column) -> bool {
    use ColumnType as T;
    let same = from.column_type == to.column_type && from.type_text.eq_ignore_ascii_case(&to.type_text);
    match (&from.column_type, &to.column_type) {
        // A character that the old character set lacks is an error.
        _ if same => true,
        (T::Integer { .. }, T::Integer { .. }) | (T::Decimal { .. }, T::Decimal { .. }) => true,
        (T::VarChar { .. } | T::Text, T::VarChar { .. } | T::Text) | (T::Char { .. }, T::Char { .. }) => true,
        (T::VarBinary { .. } | T::Blob, T::VarBinary { .. } | T::Blob) => true,
        (T::Enum { labels: now }, T::Enum { labels: old }) | (T::Set { labels: now }, T::Set { labels: old }) => now.starts_with(old),
        // Digits that are too many are rounded without a word.
        (T::Time { fsp: now }, T::Time { fsp: old })
        | (T::DateTime { fsp: now }, T::DateTime { fsp: old })
        | (T::Timestamp { fsp: now }, T::Timestamp { fsp: old }) => now <= old,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::alter::Alter;
    use crate::sql::mapping::tests::{INT, column};
    use crate::sql::table::{Index, IndexPart};

    const BIG: ColumnType = ColumnType::Integer { bits: 64, unsigned: false };

    fn table(columns: Vec<Column>) -> TableDefinition {
        let part = |name: &str| IndexPart { column: Some(name.into()), prefix: None, descending: false };
        let primary =
            Index { name: "PRIMARY".into(), unique: true, visible: true, kind: "BTREE".into(), parts: vec![part(&columns[0].name)] };
        TableDefinition { name: "t".into(), columns, indexes: vec![primary] }
    }

    fn id(column_type: ColumnType) -> Column {
        Column { nullable: false, auto_increment: true, ..column("id", column_type) }
    }

    fn back(original: Vec<Column>, new: Vec<Column>, alter: &str) -> Result<WayBack, String> {
        let (original, new) = (table(original), table(new));
        let change = ColumnMapping::new(&original, &new, &Alter::parse(alter).unwrap()).unwrap();
        way_back(&original, &new, &change)
    }

    #[test]
    fn a_change_is_turned_round() {
        let original = vec![id(INT), column("a", INT), column("gone", INT)];
        let new = vec![id(BIG), column("b", BIG), column("added", INT)];
        let back = back(original, new, "MODIFY id BIGINT AUTO_INCREMENT, CHANGE a b BIGINT, DROP gone, ADD added INT").unwrap();
        let pairs: Vec<_> = back.mapping.shared.iter().map(|c| format!("{}>{}", c.original, c.ghost)).collect();
        assert_eq!(pairs, ["id>id", "b>a"]);
        assert_eq!(
            (back.mapping.added.clone(), back.mapping.dropped.clone(), back.kept),
            (vec!["gone".into()], vec!["added".into()], vec!["gone".to_owned()])
        );
        assert_eq!((back.key.index.as_str(), back.key.columns.len()), ("PRIMARY", 1));
    }

    #[test]
    fn what_would_be_lost_is_refused_by_name() {
        let not_null = |name: &str, t: ColumnType| Column { nullable: false, ..column(name, t) };
        let with = |c: Column| vec![id(INT), c];
        let time = |fsp| ColumnType::DateTime { fsp };
        for (original, new, alter, why) in [
            (with(not_null("a", INT)), vec![id(INT)], "DROP a", Some("has no default")),
            (with(column("a", INT)), vec![id(INT)], "DROP a", None),
            (with(Column { has_default: true, ..not_null("a", INT) }), vec![id(INT)], "DROP a", None),
            (with(column("a", time(0))), with(column("a", time(6))), "MODIFY a DATETIME(6)", Some("changed without an error")),
            (with(column("a", time(6))), with(column("a", time(0))), "MODIFY a DATETIME", None),
            (with(column("a", INT)), with(column("a", ColumnType::Text)), "MODIFY a TEXT", Some("`a`")),
            (
                with(Column { generated: Generated::Stored, ..column("a", INT) }),
                with(column("a", INT)),
                "MODIFY a INT",
                Some("computed and becomes"),
            ),
            (with(Column { auto_increment: true, ..column("a", INT) }), vec![id(INT)], "DROP a", Some("AUTO_INCREMENT")),
        ] {
            let got = back(original, new, alter);
            match why {
                None => assert!(got.is_ok(), "{alter}: {got:?}"),
                Some(why) => assert!(got.as_ref().is_err_and(|e| e.contains(why)), "{alter}: {got:?}"),
            }
        }
    }
}
