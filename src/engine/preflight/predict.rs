//! What the clauses leave of a table, as far as the clauses themselves tell: the ghost's definition is the server's word, and it is not
//! asked here. Pure.
use crate::engine::spec::Algorithm;
use crate::sql::alter::{Alter, Clause, ColumnSpec, IndexKind, TableElement};
use crate::sql::table::{Column, ColumnType, Generated, Index, IndexPart, TableDefinition};

/// The table after the clauses.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// Columns and indexes. A column that is redefined keeps its old type here.
    pub definition: TableDefinition,
    /// Columns (by their names before) that are redefined.
    pub modified: Vec<String>,
    /// Unique keys that the change adds or makes narrower: name for people, parts in terms of the columns before.
    pub new_unique: Vec<(String, Vec<IndexPart>)>,
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// Applies the clauses.
pub fn predict(original: &TableDefinition, alter: &Alter) -> Prediction {
    let (renames, dropped) = (alter.renames(), alter.dropped_columns());
    let renamed = |name: &str| renames.iter().find(|(old, _)| same(old, name)).map_or_else(|| name.to_owned(), |(_, new)| new.clone());
    let is_dropped = |name: &str| dropped.iter().any(|d| same(d, name));
    let before = |name: &str| {
        renames
            .iter()
            .find(|(_, new)| same(new, name))
            .map_or_else(|| original.column(name).filter(|c| !is_dropped(&c.name)).map(|c| c.name.clone()), |(old, _)| Some(old.clone()))
    };

    let mut columns: Vec<Column> =
        original.columns.iter().filter(|c| !is_dropped(&c.name)).map(|c| Column { name: renamed(&c.name), ..c.clone() }).collect();
    columns.extend(alter.added_column_specs().map(new_column));
    let mut modified = Vec::new();

    let mut indexes: Vec<Index> = original.indexes.clone();
    let mut new_unique = Vec::new();
    for index in &mut indexes {
        let parts = index.parts.len();
        index.parts.retain(|p| p.column.as_deref().is_none_or(|c| !is_dropped(c)));
        if index.unique && !index.parts.is_empty() && index.parts.len() < parts {
            new_unique.push((index.name.clone(), index.parts.clone()));
        }
        for part in &mut index.parts {
            part.column = part.column.as_deref().map(renamed);
        }
    }
    indexes.retain(|i| !i.parts.is_empty());

    let mut add = |indexes: &mut Vec<Index>, name: String, unique: bool, kind: &str, parts: &[IndexPart]| {
        if unique {
            // Only what the table has now can be looked at.
            let known: Option<Vec<IndexPart>> =
                parts.iter().map(|p| Some(IndexPart { column: Some(before(p.column.as_deref()?)?), ..p.clone() })).collect();
            new_unique.push((name.clone(), known.unwrap_or_default()));
        }
        indexes.push(Index { name, unique, visible: true, kind: kind.to_owned(), parts: parts.to_vec() });
    };
    let by_column = |column: &ColumnSpec| vec![IndexPart { column: Some(column.name.clone()), prefix: None, descending: false }];
    for parsed in alter.clauses() {
        match &parsed.clause {
            Clause::ModifyColumn(spec) => modified.push(spec.name.clone()),
            Clause::ChangeColumn { old, .. } => modified.push(old.clone()),
            Clause::DropPrimaryKey => indexes.retain(|i| !same(&i.name, "PRIMARY")),
            Clause::DropIndex { name } | Clause::DropConstraint { name } => indexes.retain(|i| !same(&i.name, name)),
            Clause::RenameIndex { old, new } => {
                for index in indexes.iter_mut().filter(|i| same(&i.name, old)) {
                    index.name.clone_from(new);
                }
            }
            Clause::AlterIndexVisibility { name, visible } => {
                for index in indexes.iter_mut().filter(|i| same(&i.name, name)) {
                    index.visible = *visible;
                }
            }
            _ => {}
        }
        // The table as it is before has no index that this one adds, so the order of adding and dropping does not matter.
        let definitions: Vec<&ColumnSpec> = match &parsed.clause {
            Clause::ModifyColumn(spec) => vec![spec],
            Clause::ChangeColumn { new, .. } => vec![new],
            Clause::Add { elements } => {
                elements.iter().filter_map(|e| if let TableElement::Column(spec) = e { Some(spec) } else { None }).collect()
            }
            _ => vec![],
        };
        for spec in definitions {
            if spec.attributes.primary {
                add(&mut indexes, "PRIMARY".into(), true, "BTREE", &by_column(spec));
            } else if spec.attributes.unique {
                add(&mut indexes, spec.name.clone(), true, "BTREE", &by_column(spec));
            }
        }
        if let Clause::Add { elements } = &parsed.clause {
            for element in elements {
                match element {
                    TableElement::PrimaryKey { parts } => add(&mut indexes, "PRIMARY".into(), true, "BTREE", parts),
                    TableElement::Index(index) => {
                        let kind = match index.kind {
                            IndexKind::BTree => "BTREE",
                            IndexKind::FullText => "FULLTEXT",
                            IndexKind::Spatial => "SPATIAL",
                        };
                        let first = index.parts.first().and_then(|p| p.column.clone()).unwrap_or_else(|| "functional_index".into());
                        add(&mut indexes, index.name.clone().unwrap_or(first), index.unique, kind, &index.parts);
                    }
                    _ => {}
                }
            }
        }
    }
    // A primary key makes its columns NOT NULL.
    let primary: Vec<String> =
        indexes.iter().filter(|i| same(&i.name, "PRIMARY")).flat_map(|i| i.parts.iter().filter_map(|p| p.column.clone())).collect();
    for column in columns.iter_mut().filter(|c| primary.iter().any(|p| same(p, &c.name))) {
        column.nullable = false;
    }
    Prediction { definition: TableDefinition { name: original.name.clone(), columns, indexes }, modified, new_unique }
}

fn new_column(spec: &ColumnSpec) -> Column {
    Column {
        name: spec.name.clone(),
        column_type: ColumnType::Other("new".into()),
        type_text: String::new(),
        charset: None,
        collation: None,
        nullable: true,
        generated: if spec.attributes.generated { Generated::Virtual } else { Generated::No },
        auto_increment: spec.attributes.auto_increment,
        has_default: false,
        invisible: false,
    }
}

/// The cheapest algorithm that the manual gives for these clauses, and why not a cheaper one. A forecast: the engine tries.
/// <https://dev.mysql.com/doc/refman/8.4/en/innodb-online-ddl-operations.html>
pub fn algorithm(alter: &Alter, prediction: &Prediction) -> (Algorithm, String) {
    // (weight, algorithm, words) of the dearest clause.
    let mut worst = (0, Algorithm::Instant, "the clauses change the dictionary only".to_owned());
    for parsed in alter.clauses() {
        let (weight, algorithm, why) = match &parsed.clause {
            Clause::Add { elements } => elements
                .iter()
                .map(|element| match element {
                    TableElement::Column(c) if c.attributes.primary || c.attributes.auto_increment => {
                        (2, Algorithm::Copy, format!("column {} needs the rows rebuilt", c.name))
                    }
                    TableElement::Column(c) if c.attributes.unique => {
                        (1, Algorithm::Inplace, format!("column {} needs an index built", c.name))
                    }
                    TableElement::Column(_) => (0, Algorithm::Instant, String::new()),
                    TableElement::Index(_) => (1, Algorithm::Inplace, "an index is built, which the server can do in place".to_owned()),
                    TableElement::PrimaryKey { .. } => (2, Algorithm::Copy, "another primary key needs the rows rebuilt".to_owned()),
                    TableElement::Check { .. } => (2, Algorithm::Copy, "a CHECK is checked by a copy only".to_owned()),
                    TableElement::ForeignKey { .. } => (2, Algorithm::Copy, "foreign keys".to_owned()),
                })
                .max_by_key(|(weight, _, _)| *weight)
                .unwrap_or((0, Algorithm::Instant, String::new())),
            Clause::DropColumn { .. }
            | Clause::RenameColumn { .. }
            | Clause::AlterColumnDefault { .. }
            | Clause::AlterColumnVisibility { .. }
            | Clause::AlterIndexVisibility { .. }
            | Clause::RenameIndex { .. }
            | Clause::Keys
            | Clause::Validation => (0, Algorithm::Instant, String::new()),
            Clause::DropIndex { .. } => (1, Algorithm::Inplace, "an index is dropped, in place".to_owned()),
            Clause::ModifyColumn(spec) => (
                2,
                Algorithm::Copy,
                format!(
                    "column {} is redefined, which mostly needs the rows rebuilt (a longer VARCHAR or more ENUM labels do not)",
                    spec.name
                ),
            ),
            Clause::ChangeColumn { old, .. } => {
                (2, Algorithm::Copy, format!("column {old} is redefined, which mostly needs the rows rebuilt"))
            }
            Clause::TableOption { name, .. }
                if matches!(
                    name.as_str(),
                    "COMMENT" | "AUTO_INCREMENT" | "STATS_PERSISTENT" | "STATS_AUTO_RECALC" | "STATS_SAMPLE_PAGES"
                ) =>
            {
                (1, Algorithm::Inplace, "a table option is set, in place".to_owned())
            }
            _ => (2, Algorithm::Copy, "the table is rebuilt".to_owned()),
        };
        if weight > worst.0 {
            worst = (weight, algorithm, why);
        }
    }
    if worst.0 < 2 && prediction.new_unique.iter().any(|(_, parts)| parts.is_empty()) {
        worst = (1, Algorithm::Inplace, "a unique key over new columns or expressions is built".to_owned());
    }
    (worst.1, worst.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TableDefinition {
        let column = |name: &str, nullable: bool| Column {
            name: name.into(),
            column_type: ColumnType::Integer { bits: 32, unsigned: false },
            type_text: "int".into(),
            charset: None,
            collation: None,
            nullable,
            generated: Generated::No,
            auto_increment: false,
            has_default: false,
            invisible: false,
        };
        let part = |name: &str| IndexPart { column: Some(name.into()), prefix: None, descending: false };
        let index = |name: &str, parts: &[&str]| Index {
            name: name.into(),
            unique: true,
            visible: true,
            kind: "BTREE".into(),
            parts: parts.iter().map(|p| part(p)).collect(),
        };
        TableDefinition {
            name: "t".into(),
            columns: vec![column("id", false), column("a", false), column("b", true)],
            indexes: vec![index("PRIMARY", &["id"]), index("ab", &["a", "b"])],
        }
    }

    #[test]
    fn clauses_are_applied() {
        for (alter, columns, indexes, unique) in [
            ("ADD c INT", "id a b c", "PRIMARY(id) ab(a,b)", ""),
            ("DROP b", "id a", "PRIMARY(id) ab(a)", "ab(a)"),
            ("RENAME COLUMN a TO x", "id x b", "PRIMARY(id) ab(x,b)", ""),
            ("CHANGE a x INT, ADD UNIQUE u (x)", "id x b", "PRIMARY(id) ab(x,b) u(x)", "u(a)"),
            ("DROP PRIMARY KEY, ADD PRIMARY KEY (a)", "id a b", "ab(a,b) PRIMARY(a)", "PRIMARY(a)"),
            ("DROP PRIMARY KEY, RENAME INDEX ab TO x", "id a b", "x(a,b)", ""),
            ("DROP b, ADD b INT UNIQUE", "id a b", "PRIMARY(id) ab(a) b(b)", "ab(a) b()"),
            ("ADD UNIQUE ((a + 1))", "id a b", "PRIMARY(id) ab(a,b) functional_index(?)", "functional_index()"),
        ] {
            let p = predict(&table(), &Alter::parse(alter).unwrap());
            let part = |parts: &[IndexPart]| parts.iter().map(|p| p.column.clone().unwrap_or("?".into())).collect::<Vec<_>>().join(",");
            let names: Vec<&str> = p.definition.columns.iter().map(|c| c.name.as_str()).collect();
            let found: Vec<String> = p.definition.indexes.iter().map(|i| format!("{}({})", i.name, part(&i.parts))).collect();
            let new: Vec<String> = p.new_unique.iter().map(|(n, parts)| format!("{n}({})", part(parts))).collect();
            assert_eq!((names.join(" ").as_str(), found.join(" ").as_str(), new.join(" ").as_str()), (columns, indexes, unique), "{alter}");
        }
    }

    #[test]
    fn the_dearest_clause_decides() {
        for (alter, expected) in [
            ("ADD c INT", Algorithm::Instant),
            ("DROP b, RENAME COLUMN a TO x", Algorithm::Instant),
            ("ADD c INT, ADD INDEX (a)", Algorithm::Inplace),
            ("ADD INDEX (a), MODIFY b BIGINT", Algorithm::Copy),
            ("ENGINE=InnoDB", Algorithm::Copy),
            ("COMMENT='x'", Algorithm::Inplace),
            ("ADD c INT UNIQUE", Algorithm::Inplace),
        ] {
            let alter_parsed = Alter::parse(alter).unwrap();
            assert_eq!(algorithm(&alter_parsed, &predict(&table(), &alter_parsed)).0, expected, "{alter}");
        }
    }
}
