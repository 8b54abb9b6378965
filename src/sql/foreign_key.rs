//! Foreign keys, and the clauses that carry them over a swap. Pure.
//!
//! `RENAME TABLE` takes a constraint along with the table that has it and with the table that it refers to. So after a swap the new table has
//! none of its own, and those of other tables refer to the old one. What a table has and what it is to have are lists here, and [`step`] is the
//! next `ALTER TABLE` on the way, so that whoever comes in the middle goes on from what is there.
//!
//! Relies on (found on MySQL 9.7.4, held by `tests/mysql/foreign_keys.rs`):
//! * one ALTER cannot drop a constraint and add one of the same name (1826), so that a name moves in two steps;
//! * a name that begins as the server's own do, `{table}_ibfk_…`, changes with the table's in a RENAME;
//! * with `foreign_key_checks=0` all of it is a change of the dictionary, `ALGORITHM=INPLACE, LOCK=NONE`, with one exception: an index that the
//!   server made for a constraint gives way to another one, built anew, when a constraint of another name is added. `CREATE TABLE … LIKE`
//!   makes such an index, too. RENAME INDEX makes it an index like any other, in the same statement as well.

use super::names::{MAX_IDENTIFIER, shortened};
use super::quote;
use super::trigger::Trigger;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A table by its full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    pub schema: String,
    pub table: String,
}

impl TableName {
    pub fn new(schema: &str, table: &str) -> Self {
        Self { schema: schema.to_owned(), table: table.to_owned() }
    }

    /// Quoted.
    pub fn quoted(&self) -> String {
        quote::qualified(&self.schema, &self.table)
    }
}

/// Names of constraints and columns that differ in case only are one name.
fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// A foreign key as SHOW CREATE TABLE has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    pub name: String,
    /// In order.
    pub columns: Vec<String>,
    /// The table that it refers to.
    pub parent: TableName,
    /// In order.
    pub parent_columns: Vec<String>,
    /// `ON DELETE … ON UPDATE …`, as the server writes it; empty where it is left out.
    pub actions: String,
    /// The index of the table that has these columns and no other: the server may have made it for the constraint.
    #[serde(default)]
    pub index: Option<String>,
}

impl ForeignKey {
    /// As an element of CREATE TABLE, or behind ADD.
    pub fn clause(&self) -> String {
        let list = |names: &[String]| names.iter().map(|name| quote::identifier(name)).collect::<Vec<_>>().join(", ");
        let actions = if self.actions.is_empty() { String::new() } else { format!(" {}", self.actions) };
        format!(
            "CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}){actions}",
            quote::identifier(&self.name),
            list(&self.columns),
            self.parent.quoted(),
            list(&self.parent_columns)
        )
    }

    /// Under another name.
    #[must_use]
    pub fn named(&self, name: String) -> Self {
        Self { name, ..self.clone() }
    }

    /// With another table as its parent.
    #[must_use]
    fn referring_to(&self, parent: TableName) -> Self {
        Self { parent, ..self.clone() }
    }

    /// Whether both demand the same, whatever they are called.
    fn demands_the_same(&self, other: &Self) -> bool {
        let lists = |one: &[String], other: &[String]| one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b));
        lists(&self.columns, &other.columns)
            && lists(&self.parent_columns, &other.parent_columns)
            && self.parent == other.parent
            && same(&self.actions, &other.actions)
    }

    /// Whether a change of the parent changes rows of the child, rather than being refused.
    pub fn cascades(&self) -> bool {
        ["CASCADE", "SET NULL", "SET DEFAULT"].iter().any(|action| self.actions.to_uppercase().contains(action))
    }

    /// What a RENAME of its table makes of its name.
    pub fn name_after_rename(&self, from: &str, to: &str) -> String {
        match bound_to(&self.name, from) {
            Some(rest) => format!("{to}_ibfk_{rest}"),
            None => self.name.clone(),
        }
    }

    /// Its name while its own is taken: that of a constraint of `table`, which is to be called `renamed` and then has the name by itself where
    /// it goes by the table's. Stable, so that it is known again.
    pub fn passing_name(&self, table: &str, renamed: &str) -> String {
        match bound_to(&self.name, renamed).map(|rest| format!("{table}_ibfk_{rest}")) {
            Some(name) if name.chars().count() <= MAX_IDENTIFIER => name,
            _ => passing(table, &self.name),
        }
    }
}

/// What the server would have called the foreign keys that it has given names to on `ghost`, had it made them on `table`: it counts on from the
/// highest number that a name of the table has. `had`: the names of all that the table has now.
pub fn named_for(made: Vec<ForeignKey>, ghost: &str, table: &str, had: &[String]) -> Vec<ForeignKey> {
    let number = |name: &str| bound_to(name, table)?.parse::<u64>().ok();
    let highest = had.iter().filter_map(|name| number(name)).max().unwrap_or(0);
    let name = |key: &ForeignKey| match bound_to(&key.name, ghost).and_then(|rest| rest.parse::<u64>().ok()) {
        Some(count) => format!("{table}_ibfk_{}", highest + count),
        None => key.name.clone(),
    };
    made.into_iter().map(|key| key.named(name(&key))).collect()
}

/// What a constraint or an index is called while its own name is taken. `table` is one of ours.
pub fn passing(table: &str, name: &str) -> String {
    shortened(&format!("{table}_fk_{name}"), MAX_IDENTIFIER)
}

/// What follows in a name that changes with its table's.
fn bound_to<'a>(name: &'a str, table: &str) -> Option<&'a str> {
    name.strip_prefix(table)?.strip_prefix("_ibfk_").filter(|rest| !rest.is_empty())
}

/// The clauses of the next ALTER TABLE that brings a table from the foreign keys that it has to those that it is to have; `None`: it has them.
/// `passing` is the name that a constraint has meanwhile. At each moment there is at least one constraint for each of `want`, of the table that
/// is there or of the one that was; what is in `have` besides, and neither stands for one of `want` nor has its name, stays.
pub fn step(have: &[ForeignKey], want: &[ForeignKey], passing: impl Fn(&ForeignKey) -> String) -> Option<String> {
    let mut drops = Vec::new();
    let mut adds = Vec::new();
    // Of indexes, so that none is built anew: from, to. Constraints may share one.
    let mut renames = BTreeMap::new();
    for wanted in want {
        let named = have.iter().find(|key| same(&key.name, &wanted.name));
        let under_way = have.iter().find(|key| same(&key.name, &passing(wanted)));
        match (named, under_way) {
            (Some(named), None) if named.demands_the_same(wanted) => {}
            // Both: someone was interrupted where no one can be, in the middle of a statement; the one of the passing name goes.
            (Some(named), Some(under_way)) if named.demands_the_same(wanted) => drops.push(under_way.name.clone()),
            // The name moves in two steps.
            (Some(named), _) => {
                drops.push(named.name.clone());
                if let Some(index) = &named.index {
                    renames.insert(index.clone(), passing_index(index, &passing(wanted)));
                }
                if !under_way.is_some_and(|key| key.demands_the_same(wanted)) {
                    adds.push(wanted.named(passing(wanted)));
                }
            }
            (None, under_way) => {
                drops.extend(under_way.map(|key| key.name.clone()));
                adds.push(wanted.clone());
                if let (Some(now), Some(index)) = (under_way.and_then(|key| key.index.as_ref()), &wanted.index)
                    && now != index
                {
                    renames.insert(now.clone(), index.clone());
                }
            }
        }
    }
    let drops = drops.iter().map(|name| format!("DROP FOREIGN KEY {}", quote::identifier(name)));
    let renames = renames.iter().map(|(from, to)| format!("RENAME INDEX {} TO {}", quote::identifier(from), quote::identifier(to)));
    let clauses: Vec<String> = drops.chain(renames).chain(adds.iter().map(|key| format!("ADD {}", key.clause()))).collect();
    (!clauses.is_empty()).then(|| clauses.join(", "))
}

/// What an index is called while its constraint has a passing name.
fn passing_index(index: &str, passing: &str) -> String {
    shortened(&format!("{passing}_{index}"), MAX_IDENTIFIER)
}

/// A table with foreign keys that refer to the one that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    pub table: TableName,
    /// Those that refer to it, as they are to be after the swap.
    pub keys: Vec<ForeignKey>,
}

/// What binds a table to others, and to its name, as it is to be after the change: the foreign keys that it takes part in, and its triggers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relatives {
    /// Its own.
    pub own: Vec<ForeignKey>,
    /// Those of others.
    pub children: Vec<Child>,
    /// Those of its own that the ghost has from the start, by name: the server does not log what their cascades do.
    #[serde(default)]
    pub carried: Vec<String>,
    /// Those of its own that the change adds, by name: its rows have not satisfied them so far.
    #[serde(default)]
    pub added: Vec<String>,
    /// Its triggers, in the order in which they fire.
    #[serde(default)]
    pub triggers: Vec<Trigger>,
}

impl Relatives {
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.children.is_empty() && self.triggers.is_empty()
    }

    /// Those of its own that the change adds.
    pub fn added(&self) -> impl Iterator<Item = &ForeignKey> {
        self.own.iter().filter(|key| self.added.contains(&key.name))
    }

    /// Those of its own that it has had all along.
    pub fn kept(&self) -> impl Iterator<Item = &ForeignKey> {
        self.own.iter().filter(|key| !self.added.contains(&key.name))
    }

    /// The names of its own, as they are after the change.
    pub fn own_names(&self) -> Vec<String> {
        self.own.iter().map(|key| key.name.clone()).collect()
    }

    /// Its own as the ghost has them under passing names, to refer to the ghost where they refer to the table itself.
    pub fn on_ghost(&self, table: &TableName, ghost: &TableName) -> Vec<ForeignKey> {
        let parent = |key: &ForeignKey| if key.parent == *table { ghost.clone() } else { key.parent.clone() };
        self.own.iter().map(|key| key.named(key.passing_name(&ghost.table, &table.table)).referring_to(parent(key))).collect()
    }

    /// The other tables: those that its own refer to, and those whose refer to it. In order, each once.
    pub fn tables(&self, table: &TableName) -> Vec<TableName> {
        let all = self.own.iter().map(|key| &key.parent).chain(self.children.iter().map(|child| &child.table));
        let mut all: Vec<TableName> = all.filter(|other| *other != table).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// With the columns' new names, where a change of `table` renames some (before, after).
    #[must_use]
    pub fn with_renamed_columns(mut self, table: &TableName, renames: &[(String, String)]) -> Self {
        let renamed = |columns: &mut Vec<String>| {
            for column in columns {
                if let Some((_, new)) = renames.iter().find(|(old, _)| same(old, column)) {
                    column.clone_from(new);
                }
            }
        };
        for key in &mut self.own {
            renamed(&mut key.columns);
            if key.parent == *table {
                renamed(&mut key.parent_columns);
            }
        }
        for child in &mut self.children {
            for key in &mut child.keys {
                renamed(&mut key.parent_columns);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, parent: &str) -> ForeignKey {
        ForeignKey {
            name: name.into(),
            columns: vec!["a".into()],
            parent: TableName::new("d", parent),
            parent_columns: vec!["id".into()],
            actions: "ON DELETE CASCADE".into(),
            index: None,
        }
    }

    #[test]
    fn clauses_are_those_of_show_create_with_a_full_name() {
        let one = ForeignKey { columns: vec!["a".into(), "b`".into()], actions: String::new(), ..key("f", "p") };
        assert_eq!(one.clause(), "CONSTRAINT `f` FOREIGN KEY (`a`, `b```) REFERENCES `d`.`p` (`id`)");
        assert!(key("f", "p").clause().ends_with(" (`id`) ON DELETE CASCADE"));
    }

    #[test]
    fn names_that_the_server_made_follow_their_table() {
        for (name, passing) in [
            ("c_ibfk_1", "_c_gho_ibfk_1"),
            ("c_ibfk_", "_c_gho_fk_c_ibfk_"),
            ("c_ibfk_x", "_c_gho_ibfk_x"),
            ("C_ibfk_1", "_c_gho_fk_C_ibfk_1"),
            ("to_p", "_c_gho_fk_to_p"),
        ] {
            assert_eq!(key(name, "p").passing_name("_c_gho", "c"), passing);
        }
        let long = key(&"x".repeat(64), "p").passing_name("_c_gho", "c");
        assert!(long.chars().count() <= 64 && long != key(&"x".repeat(63), "p").passing_name("_c_gho", "c"));
    }

    #[test]
    fn names_that_the_server_makes_for_the_ghost_become_those_of_the_table() {
        let named = |made: &[&str], had: &[&str]| -> Vec<String> {
            let made = made.iter().map(|name| key(name, "p")).collect();
            let had: Vec<String> = had.iter().map(|name| (*name).to_owned()).collect();
            named_for(made, "_c_gho", "c", &had).into_iter().map(|key| key.name).collect()
        };
        assert_eq!(named(&["_c_gho_ibfk_1", "f", "_c_gho_ibfk_2"], &[]), ["c_ibfk_1", "f", "c_ibfk_2"]);
        assert_eq!(named(&["_c_gho_ibfk_1"], &["c_ibfk_3", "c_ibfk_1", "other", "c_ibfk_x"]), ["c_ibfk_4"]);
    }

    #[test]
    fn only_actions_that_change_rows_cascade() {
        for (actions, cascades) in [
            ("", false),
            ("ON DELETE RESTRICT", false),
            ("ON DELETE NO ACTION ON UPDATE RESTRICT", false),
            ("ON DELETE SET NULL", true),
            ("ON UPDATE CASCADE", true),
            ("ON DELETE SET DEFAULT", true),
        ] {
            assert_eq!(ForeignKey { actions: actions.into(), ..key("f", "p") }.cascades(), cascades, "{actions}");
        }
    }

    /// From each picture that a death can leave, the steps lead to what is wanted, and no step is without a constraint.
    #[test]
    fn steps_lead_to_what_is_wanted_from_everywhere() {
        let passing = |key: &ForeignKey| format!("tmp_{}", key.name);
        let want = [key("f", "new")];
        let tmp = |parent| key("tmp_f", parent);
        for (have, steps) in [
            (vec![key("f", "new")], 0),
            (vec![key("f", "old")], 2),
            (vec![tmp("new")], 1),
            (vec![key("f", "old"), tmp("new")], 2),
            (vec![key("f", "new"), tmp("new")], 1),
            (vec![], 1),
            (vec![key("other", "x")], 1),
        ] {
            let mut now = have.clone();
            let mut taken = 0;
            while let Some(clauses) = step(&now, &want, passing) {
                assert!(!clauses.contains("DROP FOREIGN KEY `f`") || !clauses.contains("ADD CONSTRAINT `f`"), "1826: {clauses}");
                for clause in clauses.split(", ") {
                    if let Some(name) = clause.strip_prefix("DROP FOREIGN KEY ") {
                        now.retain(|key| quote::identifier(&key.name) != name);
                    } else {
                        let added = [want[0].clone(), tmp("new")].into_iter().find(|key| clause == format!("ADD {}", key.clause()));
                        now.push(added.unwrap_or_else(|| panic!("{clause}")));
                    }
                }
                taken += 1;
                assert!(taken < 5, "{have:?}");
                assert!(now.iter().any(|key| key.demands_the_same(&want[0])), "{have:?}: a moment without the constraint");
            }
            assert_eq!(taken, steps, "{have:?}");
            assert!(now.iter().any(|key| *key == want[0]));
        }
    }
}
