//! What the clauses leave of a table, as far as the clauses themselves tell: the ghost's definition is the server's word, and it is not
//! asked here. Pure.
use super::data;
use crate::engine::contract::spec::Algorithm;
use crate::sql::alter::{self, Alter, Clause, ColumnSpec, IndexKind, ParsedClause, TableElement};
use crate::sql::quote;
use crate::sql::table::{Column, ColumnType, Generated, Index, IndexPart, TableDefinition};
use crate::sql::token;
use crate::sql::token::Grammar;

/// The table after the clauses.
#[derive(Clone, Debug)]
pub(super) struct Prediction {
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
pub(super) fn predict(original: &TableDefinition, alter: &Alter) -> Prediction {
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

/// Clauses that the server would refuse because of what the table has or lacks, each with the server's error number. Not everything that it
/// would refuse is known here; what is returned is certain.
pub(super) fn impossible(original: &TableDefinition, alter: &Alter) -> Vec<String> {
    // The server also takes letters with and without accents for one another.
    let certain = |name: &str| name.is_ascii() && original.columns.iter().all(|c| c.name.is_ascii()) && !same(name, HIDDEN_KEY);
    let certain_index = |name: &str| name.is_ascii() && original.indexes.iter().all(|i| i.name.is_ascii());
    let (added, gone, renames) = (alter.added_columns(), alter.dropped_columns(), alter.renames());
    let is_added = |name: &str| added.iter().any(|a| same(a, name));
    let mut found = Vec::new();
    let mut column = |name: &str, number: u16| {
        if certain(name) && original.column(name).is_none() && !original.columns.iter().any(|c| same(&c.name, name)) && !is_added(name) {
            found.push(format!("the table has no column {} ({number})", quote::identifier(name)));
        }
    };
    for parsed in alter.clauses() {
        match &parsed.clause {
            Clause::DropColumn { name } => column(name, 1091),
            Clause::ModifyColumn(spec) => column(&spec.name, 1054),
            Clause::ChangeColumn { old, .. } | Clause::RenameColumn { old, .. } => column(old, 1054),
            Clause::AlterColumnDefault { name } | Clause::AlterColumnVisibility { name, .. } => column(name, 1054),
            _ => {}
        }
    }
    for parsed in alter.clauses() {
        let (name, number) = match &parsed.clause {
            Clause::DropPrimaryKey => ("PRIMARY", 1091),
            Clause::DropIndex { name } => (name.as_str(), 1091),
            Clause::RenameIndex { old: name, .. } | Clause::AlterIndexVisibility { name, .. } => (name.as_str(), 1176),
            _ => continue,
        };
        if certain_index(name) && !original.indexes.iter().any(|i| same(&i.name, name)) {
            found.push(match name {
                "PRIMARY" => format!("the table has no primary key ({number})"),
                name => format!("the table has no index {} ({number})", quote::identifier(name)),
            });
        }
    }
    let leaves = |name: &str| gone.iter().any(|d| same(d, name)) || renames.iter().any(|(old, _)| same(old, name));
    for name in added.iter().filter(|name| original.columns.iter().any(|c| same(&c.name, name)) && !leaves(name)) {
        found.push(format!("the table already has a column {} (1060)", quote::identifier(name)));
    }
    found
}

/// The generated invisible primary key, which the server may hide.
const HIDDEN_KEY: &str = "my_row_id";

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

/// Whether a change comes to a copy through a ghost, as far as the clauses tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Copies {
    /// The server makes it itself.
    No,
    /// Only the server knows.
    Perhaps,
    /// It is copied.
    Yes,
}

/// What is to be expected of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forecast {
    /// The cheapest algorithm that the manual gives.
    pub algorithm: Algorithm,
    /// Whether it is copied under Auto.
    pub copies: Copies,
    /// Why not a cheaper one.
    pub why: String,
}

/// The cheapest algorithm that the manual gives for these clauses, and why not a cheaper one. A forecast: the engine tries.
/// `source` is the text of the ALTER.
/// <https://dev.mysql.com/doc/refman/8.4/en/innodb-online-ddl-operations.html>
pub(super) fn forecast(original: &TableDefinition, alter: &Alter, prediction: &Prediction, source: &str) -> Forecast {
    let mut worst =
        Forecast { algorithm: Algorithm::Instant, copies: Copies::No, why: "the clauses change only the data dictionary".to_owned() };
    let all = alter.clauses().iter().flat_map(|parsed| clause(original, parsed, source, alter.grammar()));
    for next in all.chain(rows_of(original, alter)) {
        if rank(&next) > rank(&worst) {
            worst = next;
        }
    }
    if worst.algorithm == Algorithm::Instant && prediction.new_unique.iter().any(|(_, parts)| parts.is_empty()) {
        worst = forecast_of(Algorithm::Inplace, Copies::No, "a unique key is built over new columns or expressions");
    }
    // A column that comes or goes is instant by itself only.
    let real = |name: &String| original.column(name).is_some_and(|c| c.generated == Generated::No);
    let moves = alter.added_column_specs().any(|c| !c.attributes.generated) || alter.dropped_columns().iter().any(real);
    if worst.algorithm == Algorithm::Inplace && moves {
        let how = alter.parts().map(|(columns, rest)| format!("; {} may need no copy", alter::two_migrations(&columns, &rest)));
        let why = format!(
            "a column that is added or dropped beside another change makes the server rebuild the table{}",
            how.unwrap_or_default()
        );
        worst = forecast_of(Algorithm::Inplace, Copies::Yes, why);
    }
    worst
}

fn rank(forecast: &Forecast) -> (Copies, u8) {
    let algorithm = match forecast.algorithm {
        Algorithm::Instant => 0,
        Algorithm::Inplace => 1,
        _ => 2,
    };
    (forecast.copies, algorithm)
}

fn forecast_of(algorithm: Algorithm, copies: Copies, why: impl Into<String>) -> Forecast {
    Forecast { algorithm, copies, why: why.into() }
}

/// What the kind of the table makes of columns that come and go.
fn rows_of(original: &TableDefinition, alter: &Alter) -> Option<Forecast> {
    let real = |c: &&ColumnSpec| !c.attributes.generated;
    if alter.added_column_specs().find(real).is_some() && original.indexes.iter().any(|i| i.kind == "FULLTEXT") {
        return Some(forecast_of(
            Algorithm::Copy,
            Copies::Perhaps,
            "the table has a FULLTEXT index, which mostly prevents instant ADD COLUMN",
        ));
    }
    let dropped = alter.dropped_columns();
    let part = |i: &Index| i.parts.iter().any(|p| p.column.as_deref().is_some_and(|c| dropped.iter().any(|d| same(d, c))));
    let index = original.indexes.iter().find(|i| part(i))?;
    Some(forecast_of(Algorithm::Copy, Copies::Perhaps, format!("a column of the index {} is dropped", index.name)))
}

fn clause(original: &TableDefinition, parsed: &ParsedClause, source: &str, grammar: Grammar) -> Vec<Forecast> {
    use Algorithm as A;
    let stored = || {
        let text = parsed.span.of(source);
        token::tokenize_as(text, grammar).is_ok_and(|tokens| tokens.iter().any(|t| t.is_word(text, "STORED")))
    };
    let one = match &parsed.clause {
        Clause::Add { elements } => {
            return elements
                .iter()
                .map(|element| match element {
                    TableElement::Column(c) if c.attributes.primary || c.attributes.auto_increment => {
                        forecast_of(A::Copy, Copies::Yes, format!("column {} requires a rebuild of the rows", c.name))
                    }
                    TableElement::Column(c) if c.attributes.generated && stored() => {
                        forecast_of(A::Copy, Copies::Yes, format!("the values of the stored column {} are computed", c.name))
                    }
                    TableElement::Column(c) if c.attributes.unique => {
                        forecast_of(A::Inplace, Copies::Perhaps, format!("column {} requires an index build", c.name))
                    }
                    TableElement::Column(c) if c.attributes.check => {
                        forecast_of(A::Copy, Copies::Yes, "only a copy can check a CHECK constraint")
                    }
                    TableElement::Column(_) => forecast_of(A::Instant, Copies::No, ""),
                    TableElement::Index(index) if index.kind != IndexKind::BTree => {
                        forecast_of(A::Copy, Copies::Yes, "a FULLTEXT or SPATIAL index requires a lock or a copy")
                    }
                    TableElement::Index(_) => forecast_of(A::Inplace, Copies::No, "an index is built, which the server can do in place"),
                    TableElement::PrimaryKey { .. } => {
                        forecast_of(A::Copy, Copies::Yes, "a new primary key requires a rebuild of the rows")
                    }
                    TableElement::Check { .. } => forecast_of(A::Copy, Copies::Yes, "only a copy can check a CHECK constraint"),
                    TableElement::ForeignKey { .. } => {
                        forecast_of(A::Copy, Copies::Yes, "the rows must be checked for the new foreign key")
                    }
                })
                .collect();
        }
        Clause::DropColumn { .. }
        | Clause::RenameColumn { .. }
        | Clause::AlterColumnDefault { .. }
        | Clause::AlterColumnVisibility { .. }
        | Clause::Keys
        | Clause::Validation => return Vec::new(),
        Clause::AlterIndexVisibility { .. } | Clause::RenameIndex { .. } => {
            forecast_of(A::Inplace, Copies::No, "an index is renamed or changes visibility, in place")
        }
        Clause::DropIndex { .. } => forecast_of(A::Inplace, Copies::No, "an index is dropped, in place"),
        Clause::DropForeignKey { .. } => forecast_of(A::Inplace, Copies::No, "a foreign key is dropped, in place"),
        Clause::DropConstraint { .. } | Clause::DropCheck { .. } | Clause::AlterCheck { .. } => {
            forecast_of(A::Inplace, Copies::Perhaps, "a constraint changes, which the server may do in place")
        }
        Clause::ModifyColumn(spec) => redefined(original, &spec.name, data::new_type(source, grammar, parsed)),
        Clause::ChangeColumn { old, .. } => redefined(original, old, data::new_type(source, grammar, parsed)),
        Clause::TableOption { name, .. }
            if matches!(name.as_str(), "COMMENT" | "AUTO_INCREMENT" | "STATS_PERSISTENT" | "STATS_AUTO_RECALC" | "STATS_SAMPLE_PAGES") =>
        {
            forecast_of(A::Inplace, Copies::No, "a table option is set, in place")
        }
        Clause::TableOption { name, .. } if !matches!(name.as_str(), "ENGINE" | "ROW_FORMAT" | "KEY_BLOCK_SIZE") => {
            forecast_of(A::Copy, Copies::Perhaps, format!("the option {name} may require a rebuild of the table"))
        }
        Clause::RearrangePartition { verb: "ADD" } => forecast_of(
            A::Inplace,
            Copies::Perhaps,
            "partitions are added, which the server does in place where no row moves (RANGE, LIST)",
        ),
        Clause::PartitionBy | Clause::RemovePartitioning | Clause::RearrangePartition { .. } => {
            forecast_of(A::Copy, Copies::Yes, "rows move to other partitions")
        }
        _ => forecast_of(A::Copy, Copies::Yes, "the table is rebuilt"),
    };
    vec![one]
}

/// A column under another definition. A longer VARCHAR and more ENUM labels need nothing but the dictionary; another type needs a copy.
fn redefined(original: &TableDefinition, name: &str, new: Option<data::NewType>) -> Forecast {
    use Algorithm as A;
    let words = |why: &str| format!("column {name} is redefined: {why}");
    let perhaps = forecast_of(
        A::Copy,
        Copies::Perhaps,
        words("which mostly requires a rebuild of the rows (a longer VARCHAR or more ENUM labels do not)"),
    );
    let (Some(old), Some(new)) = (original.column(name), new) else { return perhaps };
    let charset = new.charset.as_ref().is_none_or(|c| old.charset.as_ref().is_some_and(|o| o.eq_ignore_ascii_case(c)));
    if old.generated != Generated::No {
        return perhaps;
    }
    let primary =
        original.indexes.iter().any(|i| same(&i.name, "PRIMARY") && i.parts.iter().any(|p| p.column.as_deref() == Some(&old.name)));
    if !primary && new.not_null == old.nullable {
        return forecast_of(A::Copy, Copies::Yes, words("whether it may be NULL is stored in the rows"));
    }
    if !charset {
        return perhaps;
    }
    match (&old.column_type, new.name.as_str()) {
        (ColumnType::VarChar { length }, "VARCHAR") => {
            let (from, to) = (u64::from(*length), new.numbers.first().copied().unwrap_or(0));
            let width = match old.charset.as_deref() {
                Some("utf8mb4") => 4,
                Some("utf8mb3" | "utf8") => 3,
                Some("latin1" | "ascii") => 1,
                _ => return perhaps,
            };
            // The length is kept in one byte up to 255.
            if to >= from && (to * width <= 255 || from * width > 255) {
                return forecast_of(A::Inplace, Copies::No, words("a longer VARCHAR changes only the data dictionary"));
            }
            forecast_of(A::Copy, Copies::Yes, words("the length of its values is stored differently, or gets smaller"))
        }
        (ColumnType::Enum { labels }, "ENUM") | (ColumnType::Set { labels }, "SET") => {
            if new.labels.starts_with(labels) {
                forecast_of(
                    A::Instant,
                    Copies::Perhaps,
                    words("more labels change only the data dictionary, unless the stored values get longer"),
                )
            } else {
                forecast_of(A::Copy, Copies::Yes, words("its labels are renumbered"))
            }
        }
        (ColumnType::Integer { bits, unsigned }, name) if data::integer_bits(name).is_some() => {
            if data::integer_bits(name) == Some(u32::from(*bits)) && *unsigned == new.unsigned {
                perhaps
            } else {
                forecast_of(A::Copy, Copies::Yes, words("a new type requires a rebuild of the rows"))
            }
        }
        (ColumnType::Integer { .. }, _) | (_, "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "INTEGER" | "BIGINT") => {
            forecast_of(A::Copy, Copies::Yes, words("a new type requires a rebuild of the rows"))
        }
        _ => perhaps,
    }
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
    fn what_the_table_lacks_or_has_is_impossible() {
        for (alter, expected) in [
            ("ADD c INT, DROP b, DROP INDEX ab, MODIFY a BIGINT", ""),
            ("DROP nope", "no column `nope` (1091)"),
            ("MODIFY nope INT", "no column `nope` (1054)"),
            ("CHANGE nope n INT", "no column `nope` (1054)"),
            ("RENAME COLUMN nope TO n", "no column `nope` (1054)"),
            ("ALTER nope SET DEFAULT 1", "no column `nope` (1054)"),
            ("ADD c INT, ALTER c SET DEFAULT 1", ""),
            ("MODIFY B INT", ""),
            ("DROP bé", ""),
            ("DROP INDEX nope", "no index `nope` (1091)"),
            ("RENAME INDEX nope TO n", "no index `nope` (1176)"),
            ("DROP PRIMARY KEY, ADD PRIMARY KEY (a)", ""),
            ("ADD A INT", "already has a column `A` (1060)"),
            ("DROP a, ADD a INT", ""),
            ("RENAME COLUMN a TO x, ADD a INT", ""),
        ] {
            let found = impossible(&table(), &Alter::parse(alter).unwrap());
            match expected {
                "" => assert_eq!(found, [""; 0], "{alter}"),
                words => assert!(found.len() == 1 && found[0].ends_with(words), "{alter}: {found:?}"),
            }
        }
        let keyless = TableDefinition { indexes: Vec::new(), ..table() };
        assert_eq!(impossible(&keyless, &Alter::parse("DROP PRIMARY KEY").unwrap()), ["the table has no primary key (1091)"]);
    }

    #[test]
    fn a_longer_varchar_changes_the_dictionary_only() {
        let mut table = table();
        table.columns.push(Column {
            column_type: ColumnType::VarChar { length: 20 },
            charset: Some("utf8mb4".into()),
            ..table.columns[2].clone()
        });
        table.columns[3].name = "v".into();
        for (alter, expected) in [
            ("MODIFY v VARCHAR(63)", Copies::No),
            ("MODIFY v VARCHAR(64)", Copies::Yes),
            ("MODIFY v VARCHAR(10)", Copies::Yes),
            ("MODIFY v VARCHAR(63) NOT NULL", Copies::Yes),
            ("MODIFY v INT", Copies::Yes),
            ("MODIFY v DATE", Copies::Perhaps),
        ] {
            let parsed = Alter::parse(alter).unwrap();
            assert_eq!(forecast(&table, &parsed, &predict(&table, &parsed), alter).copies, expected, "{alter}");
        }
    }

    #[test]
    fn the_dearest_clause_decides() {
        for (alter, expected, copies) in [
            ("ADD c INT", Algorithm::Instant, Copies::No),
            ("DROP id, RENAME COLUMN a TO x", Algorithm::Copy, Copies::Perhaps),
            ("RENAME COLUMN a TO x", Algorithm::Instant, Copies::No),
            ("RENAME COLUMN a TO x, ADD INDEX (x)", Algorithm::Inplace, Copies::No),
            ("ADD c INT, ADD INDEX (a)", Algorithm::Inplace, Copies::Yes),
            ("ADD c INT, COMMENT='x'", Algorithm::Inplace, Copies::Yes),
            ("ADD c INT AS (a), ADD INDEX (a)", Algorithm::Inplace, Copies::No),
            ("ADD c INT, RENAME COLUMN a TO x", Algorithm::Instant, Copies::No),
            ("ADD INDEX (a), MODIFY b BIGINT", Algorithm::Copy, Copies::Yes),
            ("MODIFY b INT COMMENT 'x'", Algorithm::Copy, Copies::Perhaps),
            ("ADD FULLTEXT (a)", Algorithm::Copy, Copies::Yes),
            ("ADD c INT AS (a) STORED", Algorithm::Copy, Copies::Yes),
            ("ADD c INT AS (a)", Algorithm::Instant, Copies::No),
            ("ENGINE=InnoDB", Algorithm::Copy, Copies::Yes),
            ("COMMENT='x'", Algorithm::Inplace, Copies::No),
            ("DROP FOREIGN KEY x", Algorithm::Inplace, Copies::No),
            ("ADD c INT UNIQUE", Algorithm::Inplace, Copies::Yes),
            ("DROP b, DROP INDEX ab", Algorithm::Copy, Copies::Perhaps),
            ("ADD PARTITION (PARTITION p VALUES LESS THAN (9))", Algorithm::Inplace, Copies::Perhaps),
            ("COALESCE PARTITION 2", Algorithm::Copy, Copies::Yes),
            ("ADD c INT PARTITION BY HASH (id) PARTITIONS 2", Algorithm::Copy, Copies::Yes),
        ] {
            let parsed = Alter::parse(alter).unwrap();
            let found = forecast(&table(), &parsed, &predict(&table(), &parsed), alter);
            assert_eq!((found.algorithm, found.copies), (expected, copies), "{alter}");
        }
    }
}
