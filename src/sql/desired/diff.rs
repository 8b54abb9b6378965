//! From two definitions to the clauses, what they lose, and what is still different once they were tried.

use super::super::foreign_key::ForeignKey;
use super::super::quote;
use super::super::table::IndexPart;
use super::columns::holds;
use super::shown::{Check, Shown, ShownColumn, ShownIndex};
use super::statement::{DesiredError, DesiredForeignKey};

/// What leads from one definition to the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Derived {
    /// The clauses of ALTER TABLE; empty if there is nothing to do. Strings are in the server's default grammar.
    pub clauses: String,
    /// What may be lost, each in a sentence.
    pub destructive: Vec<String>,
    /// Where a column goes and another one comes: what to do if it is the same under a new name.
    pub renames: Option<String>,
}

/// Names that differ in case only are one name.
fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn position<T>(list: &[T], name: &str, of: impl Fn(&T) -> &str) -> Option<usize> {
    list.iter().position(|item| same(of(item), name))
}

/// The clauses that lead from `present` to `desired`, where `keys` are the foreign keys that are desired (the scratch table has none), `table` is
/// `(schema, name)` and `names_in_any_case` says that the server takes names of tables that differ in case for one.
///
/// With `all_indexes`, each secondary index is dropped and added again, in the order of the desired definition: where what stays, and what the
/// server sorts, do not come out in that order.
///
/// # Errors
/// A difference that no clause makes.
pub fn derive(
    present: &Shown,
    desired: &Shown,
    keys: &[DesiredForeignKey],
    table: (&str, &str),
    names_in_any_case: bool,
    all_indexes: bool,
) -> Result<Derived, DesiredError> {
    let mut making = Making { table: table.1, replaced: replaced(present, desired), ..Making::default() };
    making.foreign_keys(present, keys, table.0, names_in_any_case);
    making.checks(present, desired);
    making.indexes(present, desired, all_indexes);
    making.columns(present, desired);
    making.options(present, desired)?;
    making.partitions(present, desired);
    let Making { drops, columns, adds, partitions, destructive, renames, .. } = making;
    let mut clauses = [drops, columns, adds].concat().join(", ");
    if let Some(partitions) = partitions {
        // Partitioning follows the list without a comma.
        clauses = if clauses.is_empty() { partitions } else { format!("{clauses} {partitions}") };
    }
    Ok(Derived { clauses, destructive, renames })
}

#[derive(Default)]
struct Making<'a> {
    table: &'a str,
    /// Columns that no MODIFY makes of what they are: they are dropped and added.
    replaced: Vec<String>,
    drops: Vec<String>,
    columns: Vec<String>,
    adds: Vec<String>,
    partitions: Option<String>,
    destructive: Vec<String>,
    renames: Option<String>,
}

impl Making<'_> {
    fn foreign_keys(&mut self, present: &Shown, keys: &[DesiredForeignKey], schema: &str, names_in_any_case: bool) {
        let mut left: Vec<&ForeignKey> = present.foreign_keys.iter().collect();
        // Those with a name first: one without takes what they leave.
        let mut new = Vec::new();
        let (named, nameless): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.name.is_some());
        for key in named.into_iter().chain(nameless) {
            let found = left
                .iter()
                .position(|has| key.name.as_ref().is_none_or(|name| same(name, &has.name)) && is_this(has, key, schema, names_in_any_case));
            match found {
                Some(at) => {
                    left.remove(at);
                }
                None => new.push(key),
            }
        }
        for key in left {
            let name = quote::identifier(&key.name);
            self.drops.push(format!("DROP FOREIGN KEY {name}"));
            self.destructive.push(format!("the foreign key {name} is dropped"));
        }
        self.adds.extend(new.into_iter().map(written));
    }

    fn checks(&mut self, present: &Shown, desired: &Shown) {
        let named = |check: &Check| check.name.clone().unwrap_or_default();
        let prefix = format!("{}_chk_", self.table);
        let fits = |has: &Check, wanted: &Check| match &wanted.name {
            // A copy gives a name of the user's own the table's name in front.
            Some(name) => same(&named(has), name) || same(&named(has), &format!("{prefix}{name}")),
            None => true,
        };
        let mut left: Vec<&Check> = present.checks.iter().collect();
        let mut new = Vec::new();
        let (names, nameless): (Vec<_>, Vec<_>) = desired.checks.iter().partition(|check| check.name.is_some());
        for wanted in names.into_iter().chain(nameless) {
            // The same name before the name with the table's in front.
            let exact =
                left.iter().position(|has| has.clause == wanted.clause && wanted.name.as_ref().is_some_and(|n| same(n, &named(has))));
            let found = exact.or_else(|| left.iter().position(|has| has.clause == wanted.clause && fits(has, wanted)));
            let Some(at) = found else {
                new.push(wanted);
                continue;
            };
            let has = left.remove(at);
            if has.enforced != wanted.enforced {
                let name = quote::identifier(&named(has));
                self.adds.push(format!("ALTER CHECK {name} {}", if wanted.enforced { "ENFORCED" } else { "NOT ENFORCED" }));
                if !wanted.enforced {
                    self.destructive.push(format!("the CHECK constraint {name} is no longer enforced"));
                }
            }
        }
        for check in left {
            let name = quote::identifier(&named(check));
            self.drops.push(format!("DROP CHECK {name}"));
            self.destructive.push(format!("the CHECK constraint {name} is dropped, or replaced by another one"));
        }
        for check in new {
            let name = check.name.as_ref().map(|name| format!("CONSTRAINT {} ", quote::identifier(name))).unwrap_or_default();
            self.adds.push(format!("ADD {name}{}{}", check.clause, if check.enforced { "" } else { " NOT ENFORCED" }));
        }
    }

    fn indexes(&mut self, present: &Shown, desired: &Shown, all: bool) {
        match (&present.primary, &desired.primary) {
            (Some((old, parts)), Some((new, _))) if old == new && !self.rests_on_replaced(old, parts) => {}
            (old, new) => {
                if old.is_some() {
                    self.drops.push("DROP PRIMARY KEY".to_owned());
                }
                self.adds.extend(new.iter().map(|(text, _)| format!("ADD {text}")));
            }
        }
        let stays = |index: &ShownIndex| !all && !self.rests_on_replaced(&index.text, &index.parts);
        let kept = kept_indexes(present, desired, stays);
        for (at, old) in present.indexes.iter().enumerate() {
            if !kept.iter().any(|keep| keep.old == at) {
                self.drops.push(format!("DROP INDEX {}", quote::identifier(&old.name)));
            }
        }
        for (at, new) in desired.indexes.iter().enumerate() {
            let Some(keep) = kept.iter().find(|keep| keep.new == at) else {
                self.adds.push(format!("ADD {}", new.text));
                continue;
            };
            let Some(old) = present.indexes.get(keep.old) else { continue };
            let name = quote::identifier(&new.name);
            if old.name != new.name {
                self.adds.push(format!("RENAME INDEX {} TO {name}", quote::identifier(&old.name)));
            }
            if old.visible != new.visible {
                self.adds.push(format!("ALTER INDEX {name} {}", if new.visible { "VISIBLE" } else { "INVISIBLE" }));
            }
        }
        let unique = |shown: &Shown| -> Vec<(String, Vec<IndexPart>, String)> {
            let primary = shown.primary.iter().map(|(text, parts)| ("the primary key".to_owned(), parts.clone(), text.clone()));
            let others = shown.indexes.iter().filter(|index| index.unique);
            let others = others.map(|i| (format!("the unique index {}", quote::identifier(&i.name)), i.parts.clone(), i.nameless()));
            primary.chain(others).collect()
        };
        let after = unique(desired);
        for (name, parts, text) in unique(present) {
            // Unique over fewer columns is unique over these.
            let is_plain = parts.iter().all(|part| part.column.is_some());
            let part_of = |part: &IndexPart| {
                parts.iter().any(|p| {
                    p.prefix == part.prefix && p.column.as_deref().map(str::to_lowercase) == part.column.as_deref().map(str::to_lowercase)
                })
            };
            let kept = after.iter().any(|(_, new, new_text)| match is_plain {
                true => new.iter().all(|part| part.column.is_some() && part_of(part)),
                false => *new_text == text,
            });
            if !kept {
                self.destructive.push(format!("{name} is dropped, and nothing else keeps these values unique"));
            }
        }
    }

    /// Whether an index would lose a part with a column that is replaced.
    fn rests_on_replaced(&self, text: &str, parts: &[IndexPart]) -> bool {
        let names = |column: &String| {
            let quoted = quote::identifier(column);
            parts.iter().any(|part| part.column.as_ref().is_some_and(|name| same(name, column)))
                || parts.iter().any(|part| part.column.is_none()) && text.contains(&quoted)
        };
        self.replaced.iter().any(names)
    }

    fn columns(&mut self, present: &Shown, desired: &Shown) {
        let mut gone = Vec::new();
        for old in present.columns.iter().filter(|old| position(&desired.columns, &old.name, |c| &c.name).is_none()) {
            let name = quote::identifier(&old.name);
            self.drops.push(format!("DROP COLUMN {name}"));
            self.destructive.push(if old.is_generated() {
                format!("the generated column {name} is dropped")
            } else {
                format!("the column {name} is dropped, with its values")
            });
            gone.push(name);
        }
        // Where the columns that stay are now, in the order in which they are to be.
        let is_replaced = |name: &str| self.replaced.iter().any(|replaced| same(replaced, name));
        let now = desired.columns.iter().map(|new| position(&present.columns, &new.name, |c| &c.name).filter(|_| !is_replaced(&new.name)));
        let now: Vec<Option<usize>> = now.collect();
        self.drops.extend(self.replaced.iter().map(|name| format!("DROP COLUMN {}", quote::identifier(name))));
        let stays = longest_increasing(&now);
        let mut order: Vec<usize> = (0..desired.columns.len()).filter(|at| stays.contains(at)).collect();
        let mut come = Vec::new();
        let default_changed = (&present.charset, &present.collation) != (&desired.charset, &desired.collation);
        for (at, new) in desired.columns.iter().enumerate() {
            let place = if stays.contains(&at) {
                String::new()
            } else {
                let before = at.checked_sub(1).and_then(|before| desired.columns.get(before).map(|column| (before, column)));
                let index = before.and_then(|(before, _)| order.iter().position(|o| *o == before)).map_or(0, |i| i + 1);
                let last = index == order.len();
                order.insert(index, at);
                match before {
                    None => " FIRST".to_owned(),
                    Some(_) if last && now.get(at).copied().flatten().is_none() => String::new(),
                    Some((_, column)) => format!(" AFTER {}", quote::identifier(&column.name)),
                }
            };
            let Some(old) = now.get(at).copied().flatten().and_then(|now| present.columns.get(now)) else {
                self.columns.push(format!("ADD COLUMN {}{place}", new.clause));
                match present.columns.iter().find(|old| same(&old.name, &new.name)) {
                    Some(old) => self.narrows(old, new, (&present.charset, &desired.charset)),
                    None => come.push(quote::identifier(&new.name)),
                }
                continue;
            };
            let by_default = default_changed && new.has_charset() && !new.says_charset();
            if old.name != new.name {
                self.columns.push(format!("CHANGE COLUMN {} {}{place}", quote::identifier(&old.name), new.clause));
            } else if old.text != new.text || !place.is_empty() || by_default {
                self.columns.push(format!("MODIFY COLUMN {}{place}", new.clause));
            }
            self.narrows(old, new, (&present.charset, &desired.charset));
        }
        if !gone.is_empty() && !come.is_empty() {
            self.renames = Some(format!(
                "{} would be dropped and {} added as new: a rename is never guessed. If it is the same column under another name, write spec.alter with RENAME COLUMN … TO … instead",
                gone.join(", "),
                come.join(", ")
            ));
        }
    }

    fn narrows(&mut self, old: &ShownColumn, new: &ShownColumn, charsets: (&str, &str)) {
        let name = quote::identifier(&new.name);
        match (old.is_generated(), new.is_generated()) {
            (false, true) => self.destructive.push(format!("the column {name} becomes a generated one and loses its values")),
            // Computed again.
            (true, true) => {}
            _ if holds(old, new, charsets) => {}
            _ => self.destructive.push(format!(
                "the column {name} changes its type from {} to {}, which may not hold every value",
                kind(old),
                kind(new)
            )),
        }
    }

    fn options(&mut self, present: &Shown, desired: &Shown) -> Result<(), DesiredError> {
        if (&present.charset, &present.collation) != (&desired.charset, &desired.collation) {
            let collation = desired.collation.as_ref().map(|name| format!(" COLLATE={name}")).unwrap_or_default();
            self.adds.push(format!("DEFAULT CHARSET={}{collation}", desired.charset));
        }
        let value = |shown: &Shown, name: &str| shown.options.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        for (name, new) in &desired.options {
            if value(present, name).as_ref() != Some(new) {
                self.adds.push(format!("{name}={new}"));
            }
        }
        for (name, old) in present.options.iter().filter(|(name, _)| value(desired, name).is_none()) {
            let default = match name.as_str() {
                "COMMENT" | "COMPRESSION" => "''",
                "ENCRYPTION" => {
                    self.destructive.push("the table is no longer encrypted".to_owned());
                    "'N'"
                }
                "ROW_FORMAT" | "PACK_KEYS" | "STATS_PERSISTENT" | "STATS_AUTO_RECALC" | "STATS_SAMPLE_PAGES" => "DEFAULT",
                "MIN_ROWS" | "MAX_ROWS" | "AVG_ROW_LENGTH" | "CHECKSUM" | "DELAY_KEY_WRITE" | "KEY_BLOCK_SIZE" => "0",
                _ => {
                    return Err(DesiredError::Difference(format!(
                        "the table has {name}={old}, and a definition cannot say that, or take it away: write the change with spec.alter"
                    )));
                }
            };
            self.adds.push(format!("{name}={default}"));
        }
        Ok(())
    }

    fn partitions(&mut self, present: &Shown, desired: &Shown) {
        self.partitions = match (&present.partitions, &desired.partitions) {
            (old, new) if old == new => return,
            (_, Some(new)) => Some(new.clone()),
            (_, None) => Some("REMOVE PARTITIONING".to_owned()),
        };
        if present.partitions.is_some() {
            let names: Vec<String> = present.partition_names.iter().map(|name| quote::identifier(name)).collect();
            let which = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
            self.destructive.push(format!("the present partitions{which} are replaced"));
        }
    }
}

/// The type for people.
fn kind(column: &ShownColumn) -> String {
    let rest = column.text.strip_prefix(&quote::identifier(&column.name)).unwrap_or(&column.text).trim_start();
    let end = rest.find(')').filter(|_| !column.kind.1.is_empty()).map_or_else(|| rest.find(' ').unwrap_or(rest.len()), |at| at + 1);
    let mut text = rest.get(..end).unwrap_or(rest).to_owned();
    if column.words.iter().any(|word| word == "UNSIGNED") {
        text.push_str(" unsigned");
    }
    text
}

/// Whether a foreign key of the table is the one that is desired, names aside.
fn is_this(has: &ForeignKey, key: &DesiredForeignKey, schema: &str, names_in_any_case: bool) -> bool {
    let list = |one: &[String], other: &[String]| one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b));
    let table = |one: &str, other: &str| one == other || names_in_any_case && same(one, other);
    let actions = [("ON DELETE", &key.on_delete), ("ON UPDATE", &key.on_update)];
    let actions: Vec<String> =
        actions.iter().filter(|(_, action)| !action.is_empty()).map(|(when, action)| format!("{when} {action}")).collect();
    list(&has.columns, &key.columns)
        && list(&has.parent_columns, &key.parent_columns)
        && table(&has.parent.schema, key.parent.0.as_deref().unwrap_or(schema))
        && table(&has.parent.table, &key.parent.1)
        && has.actions == actions.join(" ")
}

/// The clause that adds a foreign key.
fn written(key: &DesiredForeignKey) -> String {
    let list = |names: &[String]| names.iter().map(|name| quote::identifier(name)).collect::<Vec<_>>().join(", ");
    let name = key.name.as_ref().map(|name| format!("CONSTRAINT {} ", quote::identifier(name))).unwrap_or_default();
    let parent = match &key.parent {
        (Some(schema), table) => quote::qualified(schema, table),
        (None, table) => quote::identifier(table),
    };
    let mut text = format!("ADD {name}FOREIGN KEY ({}) REFERENCES {parent} ({})", list(&key.columns), list(&key.parent_columns));
    for (when, action) in [("DELETE", &key.on_delete), ("UPDATE", &key.on_update)] {
        if !action.is_empty() {
            text.push_str(&format!(" ON {when} {action}"));
        }
    }
    text
}

/// Columns, by their present names, that the server does not let MODIFY change: between stored and virtual, and from a value to a virtual one.
fn replaced(present: &Shown, desired: &Shown) -> Vec<String> {
    let is_virtual = |column: &ShownColumn| column.is_generated() && column.text.contains(") VIRTUAL");
    let pairs = present.columns.iter().filter_map(|old| Some((old, desired.columns.iter().find(|new| same(&new.name, &old.name))?)));
    let replaced = pairs.filter(|(old, new)| is_virtual(old) != is_virtual(new) && new.is_generated());
    replaced.map(|(old, _)| old.name.clone()).collect()
}

/// An index that stays, by its places.
struct Kept {
    old: usize,
    new: usize,
}

/// The indexes that stay: those that come out in their places when the others are added behind them.
fn kept_indexes(present: &Shown, desired: &Shown, stays: impl Fn(&ShownIndex) -> bool) -> Vec<Kept> {
    let mut kept = Vec::new();
    // Of each kind, by which the server sorts.
    let mut ended: Vec<(u8, Option<usize>, bool)> = Vec::new();
    for (new, index) in desired.indexes.iter().enumerate() {
        let kind = rank(desired, index);
        if !ended.iter().any(|(k, ..)| *k == kind) {
            ended.push((kind, None, false));
        }
        let Some((_, last, over)) = ended.iter_mut().find(|(k, ..)| *k == kind) else { continue };
        let found = counterpart(present, desired, index).filter(|old| stays(index) && last.is_none_or(|last| last < *old));
        match found {
            Some(old) if !*over => {
                *last = Some(old);
                kept.push(Kept { old, new });
            }
            _ => *over = true,
        }
    }
    kept
}

/// The index of the table that is this one: of the same name, or, where nothing else can be meant, with another one.
fn counterpart(present: &Shown, desired: &Shown, index: &ShownIndex) -> Option<usize> {
    if let Some(at) = position(&present.indexes, &index.name, |i| &i.name) {
        let old = present.indexes.get(at)?;
        let text = |index: &ShownIndex| index.visible_text().replacen(&quote::identifier(&index.name), "", 1);
        return (text(old) == text(index)).then_some(at);
    }
    let alike = |i: &&ShownIndex| i.nameless() == index.nameless();
    let is_gone = |i: &ShownIndex| position(&desired.indexes, &i.name, |d| &d.name).is_none();
    let is_new = |i: &ShownIndex| position(&present.indexes, &i.name, |p| &p.name).is_none();
    let old: Vec<&ShownIndex> = present.indexes.iter().filter(alike).filter(|i| is_gone(i)).collect();
    let new = desired.indexes.iter().filter(alike).filter(|i| is_new(i)).count();
    match (old.as_slice(), new) {
        ([one], 1) => position(&present.indexes, &one.name, |i| &i.name),
        _ => None,
    }
}

/// Where the server sorts an index among the others.
fn rank(shown: &Shown, index: &ShownIndex) -> u8 {
    let nullable = |part: &IndexPart| {
        let column = part.column.as_ref().and_then(|name| shown.columns.iter().find(|c| same(&c.name, name)));
        column.is_none_or(|column| !column.words.windows(2).any(|w| w == ["NOT", "NULL"]) && !column.text.contains(" NOT NULL"))
    };
    match (index.unique, index.full_text) {
        (true, _) => u8::from(index.parts.iter().any(nullable)),
        (false, false) => 2,
        (false, true) => 3,
    }
}

/// The places of a longest increasing subsequence: these stay, and the fewest move.
fn longest_increasing(values: &[Option<usize>]) -> Vec<usize> {
    let mut best: Vec<(usize, Option<usize>)> = vec![(0, None); values.len()];
    let mut last: Option<usize> = None;
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        let mut here = (1, None);
        for (before, other) in values.iter().enumerate().take(at) {
            let length = best.get(before).map_or(0, |b| b.0);
            if other.is_some_and(|other| other < *value) && length + 1 > here.0 {
                here = (length + 1, Some(before));
            }
        }
        if let Some(slot) = best.get_mut(at) {
            *slot = here;
        }
        if last.is_none_or(|last| best.get(last).is_none_or(|b| here.0 > b.0)) {
            last = Some(at);
        }
    }
    let mut places = Vec::new();
    while let Some(at) = last {
        places.push(at);
        last = best.get(at).and_then(|b| b.1);
    }
    places.reverse();
    places
}

/// In what the outcome is not the desired definition; `None`: in nothing. Foreign keys are left out: a trial has none.
pub fn difference(outcome: &Shown, desired: &Shown) -> Option<Difference> {
    let texts = |shown: &Shown| shown.columns.iter().map(|c| c.text.clone()).collect::<Vec<_>>();
    if let Some(what) = first_difference("the column", &texts(outcome), &texts(desired)) {
        return Some(Difference::Other(what));
    }
    let primary = |shown: &Shown| shown.primary.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>();
    if let Some(what) = first_difference("the primary key", &primary(outcome), &primary(desired)) {
        return Some(Difference::Other(what));
    }
    let checks = |shown: &Shown| {
        let mut all: Vec<String> =
            shown.checks.iter().map(|c| format!("{}{}", c.clause, if c.enforced { "" } else { " NOT ENFORCED" })).collect();
        all.sort();
        all
    };
    if let Some(what) = first_difference("the constraint", &checks(outcome), &checks(desired)) {
        return Some(Difference::Other(what));
    }
    let mut options = [&outcome, &desired].map(|shown| {
        let charset = ("DEFAULT CHARSET".to_owned(), shown.charset.clone());
        let collation = shown.collation.iter().map(|name| ("COLLATE".to_owned(), name.clone()));
        let mut all: Vec<String> =
            shown.options.iter().cloned().chain([charset]).chain(collation).map(|(name, value)| format!("{name}={value}")).collect();
        all.sort();
        all
    });
    if let Some(what) = first_difference("the option", &options[0], &options[1]) {
        return Some(Difference::Other(what));
    }
    options = [outcome, desired].map(|shown| shown.partitions.iter().cloned().collect());
    if let Some(what) = first_difference("the partitioning", &options[0], &options[1]) {
        return Some(Difference::Other(what));
    }
    let indexes = |shown: &Shown| shown.indexes.iter().map(|i| i.text.clone()).collect::<Vec<_>>();
    let (is, wanted) = (indexes(outcome), indexes(desired));
    let what = first_difference("the index", &is, &wanted)?;
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    Some(if sorted(is) == sorted(wanted) { Difference::IndexOrder(what) } else { Difference::Other(what) })
}

/// What is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Nothing but the order of the indexes.
    IndexOrder(String),
    /// Something else.
    Other(String),
}

fn first_difference(what: &str, is: &[String], wanted: &[String]) -> Option<String> {
    let at = (0..is.len().max(wanted.len())).find(|at| is.get(*at) != wanted.get(*at))?;
    let text = |list: &[String]| list.get(at).cloned().unwrap_or_else(|| "nothing".to_owned());
    Some(format!("{what} would be {}, and is to be {}", text(is), text(wanted)))
}
