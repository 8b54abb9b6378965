//! The clauses of an `ALTER TABLE`: what a migration changes, read from the text the user gave.
//!
//! [`Alter::parse`] takes the clause list that follows `ALTER TABLE t`, splits it on a real tokenizer and classifies every
//! clause. It promises two things: it never panics, and what it does not understand it refuses, naming the place. Column and
//! expression syntax inside a clause is the server's business (the ghost is altered with the same text); what must be known
//! here is which columns, indexes and constraints come, go and change their names.
//!
//! Names in clauses mean the table *before* the ALTER: `RENAME COLUMN a TO b, RENAME COLUMN b TO a` swaps, and a column
//! dropped and added again is a new one (<https://dev.mysql.com/doc/refman/8.4/en/alter-table.html>).

mod clause;
mod parser;
mod refusal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use thiserror::Error;

pub use clause::{AddedIndex, Clause, ColumnAttributes, ColumnSpec, IndexKind, ParsedClause, Position, TableElement};
pub use refusal::{Refusal, RefusalKind};

use super::quote;
use super::token::{Grammar, Span, TokenError};

/// A text that is not a clause list this version understands.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AlterError {
    /// Nothing but blanks and comments.
    #[error("the ALTER is empty; write the clauses that would follow ALTER TABLE t, such as ADD COLUMN c INT")]
    Empty,
    /// Not even tokens.
    #[error("cannot parse the ALTER: {0}")]
    Token(#[from] TokenError),
    /// Something else than what the grammar allows there.
    #[error("cannot parse the ALTER at character {position}, near \"{near}\": {message}")]
    Syntax {
        /// In characters, from 1.
        position: usize,
        /// The text there, cut off.
        near: String,
        /// What was expected, or what to do.
        message: String,
    },
}

/// Clauses as [`Alter::to_sql`] writes them, behind how they are to be done (`ALGORITHM=…`). There it may stand before every clause; behind
/// those for partitions it may not, and they follow it without a comma where they are the options of the whole table.
pub fn done_by(algorithm: &str, clauses: &str) -> String {
    let first = clauses.split_ascii_whitespace().next().unwrap_or_default();
    // No other clause begins with one of these words.
    let options = ["PARTITION", "REMOVE"].iter().any(|word| first.eq_ignore_ascii_case(word));
    format!("{algorithm}{}{clauses}", if options { " " } else { ", " })
}

/// How to write a change as two ([`Alter::parts`]), for people: the beginning of a sentence.
pub fn two_migrations(first: &Alter, second: &Alter) -> String {
    let quoted = |alter: &Alter| format!("`{}`", refusal::excerpt(&alter.to_sql(), 200));
    format!("two migrations, {} and, with spec.after, {},", quoted(first), quoted(second))
}

/// Which of the table's foreign keys a clause drops.
fn dropped_foreign_key<'a>(clause: &Clause, foreign_keys: &'a [String]) -> Option<&'a str> {
    let (Clause::DropForeignKey { name } | Clause::DropConstraint { name }) = clause else { return None };
    foreign_keys.iter().map(String::as_str).find(|key| key.to_lowercase() == name.to_lowercase())
}

/// A parsed clause list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alter {
    text: String,
    grammar: Grammar,
    clauses: Vec<ParsedClause>,
    /// Names of CHECK (or unspecified) constraints in clauses, in textual order.
    constraint_names: Vec<(Span, String)>,
}

impl Alter {
    /// Parses the clauses that follow `ALTER TABLE t`, by the default grammar: see [`Alter::parse_as`].
    ///
    /// # Errors
    /// As there.
    pub fn parse(text: &str) -> Result<Alter, AlterError> {
        Self::parse_as(text, Grammar::default())
    }

    /// Parses as [`Alter::parse_as`] where the server's grammar is not known yet: by the first one that understands the text.
    ///
    /// # Errors
    /// What the default grammar says, if none does.
    pub fn parse_as_any(text: &str) -> Result<Alter, AlterError> {
        Self::parse(text).or_else(|error| Grammar::ALL.into_iter().find_map(|grammar| Self::parse_as(text, grammar).ok()).ok_or(error))
    }

    /// Parses the clauses that follow `ALTER TABLE t`, as the server's clients write them.
    ///
    /// # Errors
    /// [`AlterError`] if the text is empty, holds several statements, names the table, or holds a clause that is not known.
    /// Clauses that are known but not taken are not errors here: see [`Alter::refusals`].
    pub fn parse_as(text: &str, grammar: Grammar) -> Result<Alter, AlterError> {
        let parsed = parser::parse(text, grammar)?;
        Ok(Alter { text: text.to_owned(), grammar, clauses: parsed.clauses, constraint_names: parsed.constraint_names })
    }

    /// The grammar it was read by.
    pub fn grammar(&self) -> Grammar {
        self.grammar
    }

    /// The clauses in their order.
    pub fn clauses(&self) -> &[ParsedClause] {
        &self.clauses
    }

    /// Clauses this engine does not run, each with a stable reason; empty if all is well.
    pub fn refusals(&self) -> Vec<Refusal> {
        refusal::refusals(&self.text, &self.clauses)
    }

    /// Columns that get another name: (old, new), as written.
    pub fn renames(&self) -> Vec<(String, String)> {
        let pairs = self.clauses.iter().filter_map(|c| match &c.clause {
            Clause::RenameColumn { old, new } => Some((old.clone(), new.clone())),
            Clause::ChangeColumn { old, new } if *old != new.name => Some((old.clone(), new.name.clone())),
            _ => None,
        });
        pairs.collect()
    }

    /// Columns of the table before the ALTER that are dropped.
    pub fn dropped_columns(&self) -> Vec<String> {
        let dropped = self.clauses.iter().filter_map(|c| match &c.clause {
            Clause::DropColumn { name } => Some(name.clone()),
            _ => None,
        });
        dropped.collect()
    }

    /// Columns whose definition or default a clause gives: (before, after), of an added one only after.
    pub fn defined_columns(&self) -> Vec<(Option<String>, String)> {
        let mut out: Vec<(Option<String>, String)> = self.added_columns().into_iter().map(|name| (None, name)).collect();
        out.extend(self.clauses.iter().filter_map(|c| match &c.clause {
            Clause::ModifyColumn(ColumnSpec { name, .. }) | Clause::AlterColumnDefault { name } => Some((Some(name.clone()), name.clone())),
            Clause::ChangeColumn { old, new } => Some((Some(old.clone()), new.name.clone())),
            _ => None,
        }));
        out
    }

    /// Columns that the ALTER adds; one that is also dropped is a new column of the same name.
    pub fn added_columns(&self) -> Vec<String> {
        self.added_column_specs().map(|c| c.name.clone()).collect()
    }

    /// [`Alter::added_columns`] with what is known of each.
    pub fn added_column_specs(&self) -> impl Iterator<Item = &ColumnSpec> {
        self.elements().filter_map(|e| match e {
            TableElement::Column(column) => Some(column),
            _ => None,
        })
    }

    /// Indexes that `ADD INDEX` clauses add, the primary key excluded; not those that a column's `UNIQUE` attribute makes.
    pub fn added_secondary_indexes(&self) -> Vec<AddedIndex> {
        let added = self.elements().filter_map(|e| match e {
            TableElement::Index(index) => Some(index.clone()),
            _ => None,
        });
        added.collect()
    }

    fn elements(&self) -> impl Iterator<Item = &TableElement> {
        self.clauses.iter().flat_map(|c| match &c.clause {
            Clause::Add { elements } => elements.as_slice(),
            _ => &[],
        })
    }

    /// Whether the table option `AUTO_INCREMENT = n` is given: then the user chose the counter.
    pub fn sets_auto_increment(&self) -> bool {
        self.table_option("AUTO_INCREMENT").is_some()
    }

    /// Added columns with the AUTO_INCREMENT attribute: the server numbers the rows as they are inserted, so a ghost row
    /// that is written again gets another number.
    pub fn added_auto_increment_columns(&self) -> Vec<String> {
        self.added_column_specs().filter(|c| c.attributes.auto_increment).map(|c| c.name.clone()).collect()
    }

    /// The value of a table option as written; the last one counts. Names are upper case: `ENGINE`, `ROW_FORMAT`, `CHARSET`, …
    pub fn table_option(&self, option: &str) -> Option<&str> {
        self.clauses.iter().rev().find_map(|c| match &c.clause {
            Clause::TableOption { name, value } if name == option => Some(value.as_str()),
            _ => None,
        })
    }

    /// Names in the clauses that stand for a CHECK constraint or, for DROP/ALTER CONSTRAINT, may do so.
    pub fn constraint_names(&self) -> Vec<&str> {
        self.constraint_names.iter().map(|(_, name)| name.as_str()).collect()
    }

    /// The clause list as text, comments left out, each clause as written.
    pub fn to_sql(&self) -> String {
        self.with_check_names(&BTreeMap::new())
    }

    /// [`Alter::to_sql`] with CHECK constraints renamed: `map` takes the name on the original to the name on the ghost
    /// (constraint names are unique in a schema, so the ghost's are others).
    ///
    /// Names in `DROP CHECK`, `DROP CONSTRAINT`, `ALTER CHECK`, `ALTER CONSTRAINT` are looked up without regard to case. A
    /// constraint that is *added* under a name in the map (dropped and added again) is renamed as well, else it would
    /// collide with the original's.
    pub(super) fn with_check_names(&self, map: &BTreeMap<String, String>) -> String {
        self.for_clone(map, &[])
    }

    /// [`Alter::with_check_names`] without the clauses that drop one of these foreign keys of the table, which a clone of it does not
    /// have; may be empty.
    pub fn for_clone(&self, map: &BTreeMap<String, String>, foreign_keys: &[String]) -> String {
        let mut out = String::new();
        for clause in self.clauses.iter().filter(|c| dropped_foreign_key(&c.clause, foreign_keys).is_none()) {
            if !out.is_empty() {
                // Partitioning follows the list without a comma.
                out.push_str(if matches!(clause.clause, Clause::PartitionBy | Clause::RemovePartitioning) { " " } else { ", " });
            }
            let mut previous: Option<Span> = None;
            for span in &clause.tokens {
                // One blank where there was anything between two tokens: a comment is a separator as well.
                if previous.is_some_and(|p| p.end < span.start) {
                    out.push(' ');
                }
                match self.replacement(*span, map) {
                    Some(name) => out.push_str(&name),
                    None => out.push_str(span.of(&self.text)),
                }
                previous = Some(*span);
            }
        }
        out
    }

    /// The clauses in two parts, where the first one may be a change of the dictionary alone and only the second one not: columns that come, go or
    /// change their names or defaults, and everything else. `None` if there is nothing to part. Which order works, and whether it leads to the same
    /// definition, is for the server to say.
    pub fn parts(&self) -> Option<(Alter, Alter)> {
        let comes = |element: &TableElement| match element {
            TableElement::Column(column) => {
                let ColumnAttributes { auto_increment, unique, primary, check, references, .. } = column.attributes;
                !(auto_increment || unique || primary || check || references)
            }
            _ => false,
        };
        let of_columns = |clause: &Clause| match clause {
            Clause::Add { elements } => elements.iter().all(comes),
            Clause::DropColumn { .. }
            | Clause::RenameColumn { .. }
            | Clause::AlterColumnDefault { .. }
            | Clause::AlterColumnVisibility { .. } => true,
            _ => false,
        };
        if self.clauses.iter().any(|c| matches!(c.clause, Clause::PartitionBy | Clause::RemovePartitioning)) {
            return None;
        }
        let (columns, rest): (Vec<_>, Vec<_>) = self.clauses.iter().cloned().partition(|c| of_columns(&c.clause));
        let moves = columns.iter().any(|c| matches!(c.clause, Clause::Add { .. } | Clause::DropColumn { .. }));
        let part = |clauses| Alter { clauses, ..self.clone() };
        (moves && !rest.is_empty()).then(|| (part(columns), part(rest)))
    }

    /// Whether the clauses drop one of these foreign keys of the table.
    pub fn drops_foreign_keys(&self, foreign_keys: &[String]) -> bool {
        self.clauses.iter().any(|c| dropped_foreign_key(&c.clause, foreign_keys).is_some())
    }

    /// What the clauses leave of these foreign keys of the table.
    pub fn foreign_keys_after(&self, foreign_keys: &[String]) -> Vec<String> {
        let dropped: Vec<&str> = self.clauses.iter().filter_map(|c| dropped_foreign_key(&c.clause, foreign_keys)).collect();
        foreign_keys.iter().filter(|name| !dropped.contains(&name.as_str())).cloned().collect()
    }

    /// Whether the clauses add a foreign key. Servers before 9.0 take `REFERENCES` in the definition of a column for a comment.
    pub fn adds_foreign_keys(&self) -> bool {
        let adds = |element: &TableElement| match element {
            TableElement::ForeignKey { .. } => true,
            TableElement::Column(column) => column.attributes.references,
            _ => false,
        };
        self.clauses.iter().any(|parsed| match &parsed.clause {
            Clause::Add { elements } => elements.iter().any(adds),
            Clause::ModifyColumn(column) | Clause::ChangeColumn { new: column, .. } => column.attributes.references,
            _ => false,
        })
    }

    /// Without the clauses that add a foreign key and nothing else: a temporary table has none, and their indexes are clauses of their own.
    #[must_use]
    pub fn without_new_foreign_keys(mut self) -> Self {
        let only = |element: &TableElement| matches!(element, TableElement::ForeignKey { .. });
        self.clauses.retain(|parsed| !matches!(&parsed.clause, Clause::Add { elements } if elements.iter().all(only)));
        self
    }

    /// Names in `DROP FOREIGN KEY` that the table has no foreign key of.
    pub fn unknown_foreign_keys(&self, foreign_keys: &[String]) -> Vec<&str> {
        let unknown = self.clauses.iter().filter_map(|c| match &c.clause {
            Clause::DropForeignKey { name } if dropped_foreign_key(&c.clause, foreign_keys).is_none() => Some(name.as_str()),
            _ => None,
        });
        unknown.collect()
    }

    fn replacement(&self, span: Span, map: &BTreeMap<String, String>) -> Option<String> {
        let (_, name) = self.constraint_names.iter().find(|(s, _)| *s == span)?;
        let (_, new) = map.iter().find(|(old, _)| old.to_lowercase() == name.to_lowercase())?;
        Some(quote::identifier(new))
    }
}
