//! What `SHOW CREATE TABLE` says, and how the ghost's definition differs from it.
//!
//! Relied upon: CHECK constraint names are unique in a schema, and `RENAME TABLE a TO b` renames every constraint whose name
//! begins with `a_chk_` to `b_chk_…`
//! (<https://dev.mysql.com/doc/refman/8.4/en/create-table-check-constraints.html>). So a ghost's constraints are named
//! `{ghost}_chk_…` ([`ghost_check_names`]), and the cut-over gives them their final names.

use std::collections::BTreeMap;

use thiserror::Error;

use super::foreign_key::{ForeignKey, TableName};
use super::names::{MAX_IDENTIFIER, shortened};
use super::quote;
use super::table::{Generated, IndexPart, TableDefinition, leads};
use super::token::{Span, Token, TokenError, TokenKind, tokenize};

/// A definition that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CreateError {
    /// Not even tokens.
    #[error("cannot parse the table's definition: {0}")]
    Token(#[from] TokenError),
    /// Not of the form that SHOW CREATE TABLE gives.
    #[error("cannot parse the table's definition: {0}")]
    Malformed(&'static str),
    /// A CHECK constraint that keeps the table from being renamed.
    #[error("the name of the CHECK constraint {name} becomes longer than 64 characters when the table is renamed; shorten it first")]
    CheckName { name: String },
    /// A CHECK constraint without a name for the ghost.
    #[error("the CHECK constraint {name} has no name for the ghost")]
    UnmappedCheck { name: String },
}

/// A CHECK constraint of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckConstraint {
    pub name: String,
    /// `CHECK (…)` as the server wrote it.
    pub clause_text: String,
    /// Whether it is enforced.
    pub enforced: bool,
}

/// Why an index may not be left off the ghost during the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// The server requires an index that begins with the AUTO_INCREMENT column.
    AutoIncrement,
    /// Without a primary key the first unique index without nullable columns is the clustered one.
    Clustered,
    /// The migration needs it, for look-ups or for uniqueness of the key.
    Needed,
}

/// An index other than the primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondaryIndex {
    pub name: String,
    /// What `ALTER TABLE … ADD` takes to make it again.
    pub definition: String,
    /// Whether it is UNIQUE.
    pub unique: bool,
    /// Whether it is FULLTEXT: InnoDB builds one of these at a time.
    pub full_text: bool,
    /// Its parts in order.
    pub parts: Vec<IndexPart>,
    /// Why it must stay; `None` if it may be dropped now and added later.
    pub stays: Option<Stays>,
}

/// The names of the CHECK constraints of `table` on its ghost, such that renaming the ghost to `table` gives the name back where
/// the server would have generated it. A name of the user's own becomes `{ghost}_chk_{name}`, hence `{table}_chk_{name}` in the end.
///
/// # Errors
/// [`CreateError::CheckName`] if the original could not be renamed to `old`, since a constraint's name would become too long.
pub fn ghost_check_names(table: &str, ghost: &str, old: &str, checks: &[CheckConstraint]) -> Result<BTreeMap<String, String>, CreateError> {
    let generated = format!("{table}_chk_");
    let length = |text: &str| text.chars().count();
    // What the ghost's prefix and the table's, after the swap, leave of the 64 characters.
    let room = MAX_IDENTIFIER.saturating_sub(length(table).max(length(ghost)) + "_chk_".len());
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    // Generated names first: they are the ones that must come out as they were.
    let (ours, theirs): (Vec<_>, Vec<_>) = checks.iter().partition(|c| c.name.starts_with(&generated));
    for check in ours.into_iter().chain(theirs) {
        if length(&renamed_check_name(table, old, &check.name)) > MAX_IDENTIFIER {
            return Err(CreateError::CheckName { name: check.name.clone() });
        }
        let rest = match check.name.strip_prefix(&generated) {
            Some(rest) => rest.to_owned(),
            // The server numbers its own names on from the highest.
            None if check.name.bytes().all(|b| b.is_ascii_digit()) => format!("_{}", check.name),
            None => check.name.clone(),
        };
        let candidates = (0..).map(|n| {
            let rest = if n == 0 { rest.clone() } else { format!("{rest}_{n}") };
            // Room for a hash at least; else a name that no RENAME changes.
            if room > 16 {
                format!("{ghost}_chk_{}", shortened(&rest, room))
            } else {
                shortened(&format!("{rest}_{ghost}"), MAX_IDENTIFIER)
            }
        });
        let taken = |name: &String| {
            let same = |other: &String| other.to_lowercase() == name.to_lowercase();
            names.values().any(same) || checks.iter().any(|c| same(&c.name))
        };
        let name = candidates.into_iter().find(|name| !taken(name)).ok_or(CreateError::Malformed("too many CHECK constraints"))?;
        names.insert(check.name.clone(), name);
    }
    Ok(names)
}

/// What RENAME TABLE makes of a CHECK constraint's name. If it is longer than 64 characters, the RENAME fails with 1059.
fn renamed_check_name(from: &str, to: &str, name: &str) -> String {
    match name.strip_prefix(&format!("{from}_chk_")) {
        Some(rest) => format!("{to}_chk_{rest}"),
        None => name.to_owned(),
    }
}

/// A normalised definition as it is once the table `from` is called `to` ([`renamed_check_name`]).
pub fn as_renamed(normalised: &str, from: &str, to: &str) -> String {
    let begins = |table: &str| format!("CONSTRAINT {}", quote::identifier(&format!("{table}_chk_")).trim_end_matches('`'));
    normalised.replace(&begins(from), &begins(to))
}

/// The table's CHECK constraints, in the order of the text.
///
/// # Errors
/// [`CreateError`] if the text is not what SHOW CREATE TABLE gives.
pub fn check_constraints(show_create: &str) -> Result<Vec<CheckConstraint>, CreateError> {
    let definition = Definition::parse(show_create)?;
    let mut out = Vec::new();
    for element in &definition.elements {
        if let Some((name, check)) = definition.check(element) {
            let tokens = element.get(check..).unwrap_or_default();
            let close = matching(show_create, tokens, 1).ok_or(CreateError::Malformed("a CHECK without an expression"))?;
            let (Some(first), Some(last)) = (tokens.first(), tokens.get(close)) else {
                return Err(CreateError::Malformed("a CHECK without an expression"));
            };
            let clause_text = Span { start: first.span.start, end: last.span.end }.of(show_create).to_owned();
            let tail = tokens.get(close + 1..).unwrap_or_default();
            let enforced = !tail.iter().any(|t| t.is_word(show_create, "NOT"));
            let name = name.name(show_create).ok_or(CreateError::Malformed("the name of a CHECK"))?;
            out.push(CheckConstraint { name, clause_text, enforced });
        }
    }
    Ok(out)
}

/// The statement that makes a table like this one under another name: table and CHECK constraints renamed, foreign keys left out (as
/// `CREATE TABLE … LIKE` does), all else the same.
///
/// # Errors
/// [`CreateError::UnmappedCheck`] if a constraint is not in the map (by its exact name).
pub fn rename_for_ghost(show_create: &str, new_table_name: &str, check_name_map: &BTreeMap<String, String>) -> Result<String, CreateError> {
    let definition = Definition::parse(show_create)?;
    let mut replaced = vec![(definition.table_name, quote::identifier(new_table_name))];
    for element in &definition.elements {
        if definition.foreign_key(element).is_some() {
            replaced.push((definition.span_with_comma(element), String::new()));
            continue;
        }
        if let Some((token, _)) = definition.check(element) {
            let name = token.name(show_create).unwrap_or_default();
            let Some(new) = check_name_map.get(&name) else { return Err(CreateError::UnmappedCheck { name }) };
            replaced.push((token.span, quote::identifier(new)));
        }
    }
    Ok(replace(show_create, &replaced))
}

/// The `AUTO_INCREMENT=…` option: the next value, which SHOW CREATE TABLE leaves out while it is 1.
///
/// # Errors
/// [`CreateError`] if the text is not what SHOW CREATE TABLE gives.
pub fn auto_increment(show_create: &str) -> Result<Option<u64>, CreateError> {
    let definition = Definition::parse(show_create)?;
    let options = definition.options.as_slice();
    let value = options.iter().position(|t| t.is_word(show_create, "AUTO_INCREMENT")).and_then(|at| options.get(at + 2));
    Ok(value.and_then(|token| token.span.of(show_create).parse().ok()))
}

/// The table's own foreign keys, in the order of the text. `schema` is the table's: the text leaves out the schema of a parent that is in the
/// same one.
///
/// # Errors
/// [`CreateError`] if the text is not what SHOW CREATE TABLE gives.
pub fn foreign_keys(show_create: &str, schema: &str) -> Result<Vec<ForeignKey>, CreateError> {
    let definition = Definition::parse(show_create)?;
    let malformed = || CreateError::Malformed("a foreign key");
    let indexes = split_secondary_indexes(show_create, &[])?;
    let mut keys = Vec::new();
    for element in &definition.elements {
        let Some(name) = definition.foreign_key(element) else { continue };
        // Names in parentheses, and where they end.
        let list = |open: usize| -> Option<(Vec<String>, usize)> {
            let close = matching(show_create, element, open)?;
            let names = element.get(open + 1..close)?.iter().filter(|token| token.kind == TokenKind::QuotedName);
            Some((names.map(|token| token.name(show_create)).collect::<Option<_>>()?, close + 1))
        };
        let open = element.iter().position(|token| token.is_symbol(show_create, "(")).ok_or_else(malformed)?;
        let (columns, at) = list(open).ok_or_else(malformed)?;
        if !element.get(at).is_some_and(|token| token.is_word(show_create, "REFERENCES")) {
            return Err(malformed());
        }
        let name_at = |at: usize| element.get(at).and_then(|token| token.name(show_create)).ok_or_else(malformed);
        let (parent, open) = match element.get(at + 2).is_some_and(|token| token.is_symbol(show_create, ".")) {
            true => (TableName { schema: name_at(at + 1)?, table: name_at(at + 3)? }, at + 4),
            false => (TableName { schema: schema.to_owned(), table: name_at(at + 1)? }, at + 2),
        };
        let (parent_columns, at) = list(open).ok_or_else(malformed)?;
        let rest = element.get(at..).unwrap_or_default();
        let actions = match (rest.first(), rest.last()) {
            (Some(first), Some(last)) => Span { start: first.span.start, end: last.span.end }.of(show_create).to_owned(),
            _ => String::new(),
        };
        let index = indexes.iter().find(|index| !index.unique && leads(&index.parts, &columns, true)).map(|index| index.name.clone());
        keys.push(ForeignKey { name, columns, parent, parent_columns, actions, index });
    }
    Ok(keys)
}

/// A normalised definition without foreign keys, and the names of those that it is to have.
pub fn with_foreign_keys(normalised: &str, names: &[String]) -> String {
    let mut names: Vec<String> = names.iter().map(|name| quote::identifier(name)).collect();
    names.sort();
    if names.is_empty() { normalised.to_owned() } else { format!("{normalised}\nFOREIGN KEYS {}", names.join(", ")) }
}

/// The definition without the table's name and the `AUTO_INCREMENT=…` option: equal for equal definitions. Of foreign keys only the names
/// count: a clone has none, and what it says of the rest must compare.
///
/// # Errors
/// [`CreateError`] if the text is not what SHOW CREATE TABLE gives.
pub fn normalise_definition(show_create: &str) -> Result<String, CreateError> {
    let definition = Definition::parse(show_create)?;
    let mut replaced = vec![(definition.table_name, String::new())];
    let mut foreign = Vec::new();
    for element in &definition.elements {
        if let Some(name) = definition.foreign_key(element) {
            replaced.push((definition.span_with_comma(element), String::new()));
            foreign.push(name);
        }
    }
    let options = definition.options.as_slice();
    if let Some(at) = options.iter().position(|t| t.is_word(show_create, "AUTO_INCREMENT")) {
        let end = options.get(at + 2).filter(|_| options.get(at + 1).is_some_and(|t| t.is_symbol(show_create, "=")));
        if let (Some(first), Some(last)) = (options.get(at), end) {
            // With the blank before it.
            let blank = usize::from(show_create.get(..first.span.start).is_some_and(|s| s.ends_with(' ')));
            replaced.push((Span { start: first.span.start - blank, end: last.span.end }, String::new()));
        }
    }
    Ok(with_foreign_keys(&replace(show_create, &replaced), &foreign))
}

/// A column as SHOW CREATE TABLE has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedColumn {
    pub name: String,
    /// Whether the server computes it.
    pub generated: Generated,
    /// From what: the text in the parentheses of `AS (…)`.
    pub expression: Option<String>,
    /// The columns that the expression names.
    pub made_of: Vec<String>,
}

/// The columns, in the order of the table.
///
/// # Errors
/// [`CreateError`] if the text is not what SHOW CREATE TABLE gives.
pub fn columns(show_create: &str) -> Result<Vec<CreatedColumn>, CreateError> {
    let definition = Definition::parse(show_create)?;
    let mut out = Vec::new();
    for element in definition.elements.iter().filter(|e| e.first().is_some_and(|t| t.kind == TokenKind::QuotedName)) {
        let name = element.first().and_then(|t| t.name(show_create)).ok_or(CreateError::Malformed("a column without a name"))?;
        let mut column = CreatedColumn { name, generated: Generated::No, expression: None, made_of: Vec::new() };
        let is = |at: usize, word: &str| element.get(at).is_some_and(|t| t.is_word(show_create, word));
        if let Some(open) = (0..element.len()).find(|at| is(*at, "GENERATED") && is(at + 1, "ALWAYS") && is(at + 2, "AS")).map(|at| at + 3)
        {
            let close = matching(show_create, element, open).ok_or(CreateError::Malformed("the expression of a generated column"))?;
            let inner = element.get(open + 1..close).unwrap_or_default();
            if let (Some(first), Some(last)) = (inner.first(), inner.last()) {
                column.expression = Some(Span { start: first.span.start, end: last.span.end }.of(show_create).to_owned());
            }
            column.made_of = inner.iter().filter(|t| t.kind == TokenKind::QuotedName).filter_map(|t| t.name(show_create)).collect();
            column.generated = if is(close + 1, "STORED") { Generated::Stored } else { Generated::Virtual };
        }
        out.push(column);
    }
    Ok(out)
}

/// In what a definition that was read from `information_schema` is another one than SHOW CREATE TABLE's; `None`: in nothing. The two are
/// read apart and must say the same: a column or an index that one of them leaves out would be lost.
///
/// # Errors
/// [`CreateError`] if the text is not what SHOW CREATE TABLE gives.
pub fn disagreement(read: &TableDefinition, show_create: &str) -> Result<Option<String>, CreateError> {
    let shown = columns(show_create)?;
    let names = |names: &[&str]| names.iter().map(|n| quote::identifier(n)).collect::<Vec<_>>().join(", ");
    let columns_read: Vec<&str> = read.columns.iter().map(|c| c.name.as_str()).collect();
    let columns_shown: Vec<&str> = shown.iter().map(|c| c.name.as_str()).collect();
    if columns_read != columns_shown {
        return Ok(Some(format!("the columns {} there, and {} here", names(&columns_read), names(&columns_shown))));
    }
    if let Some((column, _)) = read.columns.iter().zip(&shown).find(|(read, shown)| read.generated != shown.generated) {
        return Ok(Some(format!("the column {} is generated differently", quote::identifier(&column.name))));
    }
    let definition = Definition::parse(show_create)?;
    let mut indexes_shown: Vec<(String, usize)> =
        split_secondary_indexes(show_create, &[])?.into_iter().map(|index| (index.name, index.parts.len())).collect();
    for element in &definition.elements {
        if element.first().is_some_and(|t| t.is_word(show_create, "PRIMARY")) {
            indexes_shown.push(("PRIMARY".to_owned(), definition.parts(element)?.len()));
        }
    }
    let mut indexes_read: Vec<(String, usize)> = read.indexes.iter().map(|index| (index.name.clone(), index.parts.len())).collect();
    indexes_shown.sort();
    indexes_read.sort();
    if indexes_read != indexes_shown {
        let names = |indexes: &[(String, usize)]| {
            indexes.iter().map(|(name, parts)| format!("{} ({parts} columns)", quote::identifier(name))).collect::<Vec<_>>().join(", ")
        };
        return Ok(Some(format!("the indexes {} there, and {} here", names(&indexes_read), names(&indexes_shown))));
    }
    Ok(None)
}

/// The secondary indexes, and which must stay on the ghost during the copy: those named in `needed` (the migration key's),
/// the one the AUTO_INCREMENT column relies on, and the clustered one where there is no primary key.
///
/// # Errors
/// [`CreateError`] if the text is not what SHOW CREATE TABLE gives.
pub fn split_secondary_indexes(show_create: &str, needed: &[&str]) -> Result<Vec<SecondaryIndex>, CreateError> {
    let definition = Definition::parse(show_create)?;
    let (mut auto_increment, mut not_null) = (None, Vec::new());
    let mut primary: Option<Vec<IndexPart>> = None;
    let mut indexes = Vec::new();
    for element in &definition.elements {
        let Some(first) = element.first() else { continue };
        if first.kind == TokenKind::QuotedName {
            let name = first.name(show_create).unwrap_or_default();
            let top = top_level(show_create, element);
            if top.iter().any(|t| t.is_word(show_create, "AUTO_INCREMENT")) {
                auto_increment = Some(name.clone());
            }
            if top.windows(2).any(|w| matches!(w, [a, b] if a.is_word(show_create, "NOT") && b.is_word(show_create, "NULL"))) {
                not_null.push(name);
            }
            continue;
        }
        if first.is_word(show_create, "PRIMARY") {
            primary = Some(definition.parts(element)?);
            continue;
        }
        let word = |i: usize, w: &str| element.get(i).is_some_and(|t| t.is_word(show_create, w));
        let (unique, full_text) = (word(0, "UNIQUE"), word(0, "FULLTEXT"));
        let at = usize::from(unique || full_text || word(0, "SPATIAL"));
        if !word(at, "KEY") {
            continue;
        }
        let name = element.get(at + 1).and_then(|t| t.name(show_create)).ok_or(CreateError::Malformed("an index without a name"))?;
        let last = element.last().unwrap_or(first);
        let text = Span { start: first.span.start, end: last.span.end }.of(show_create).to_owned();
        indexes.push(SecondaryIndex { name, definition: text, unique, full_text, parts: definition.parts(element)?, stays: None });
    }

    let begins = |parts: &[IndexPart], column: &str| parts.first().is_some_and(|p| p.column.as_deref() == Some(column));
    if let Some(column) = auto_increment
        && !primary.as_ref().is_some_and(|p| begins(p, &column))
        && let Some(index) = indexes.iter_mut().find(|i| begins(&i.parts, &column))
    {
        index.stays = Some(Stays::AutoIncrement);
    }
    if primary.is_none() {
        let plain = |p: &IndexPart| p.prefix.is_none() && p.column.as_ref().is_some_and(|c| not_null.contains(c));
        if let Some(index) = indexes.iter_mut().find(|i| i.unique && i.parts.iter().all(plain)) {
            index.stays = Some(Stays::Clustered);
        }
    }
    for index in &mut indexes {
        if needed.iter().any(|n| n.to_lowercase() == index.name.to_lowercase()) {
            index.stays = Some(Stays::Needed);
        }
    }
    Ok(indexes)
}

/// A parsed SHOW CREATE TABLE.
pub(super) struct Definition<'a> {
    source: &'a str,
    table_name: Span,
    /// The tokens of each column, index and constraint.
    pub(super) elements: Vec<Vec<Token>>,
    /// What follows the closing parenthesis.
    pub(super) options: Vec<Token>,
}

impl<'a> Definition<'a> {
    pub(super) fn parse(source: &'a str) -> Result<Definition<'a>, CreateError> {
        let tokens = tokenize(source)?;
        let mut at = 0;
        let eat = |word: &str, at: &mut usize| {
            let eaten = tokens.get(*at).is_some_and(|t| t.is_word(source, word));
            *at += usize::from(eaten);
            eaten
        };
        if !eat("CREATE", &mut at) {
            return Err(CreateError::Malformed("it does not begin with CREATE"));
        }
        eat("TEMPORARY", &mut at);
        if !eat("TABLE", &mut at) {
            return Err(CreateError::Malformed("it is not a table"));
        }
        let mut name =
            tokens.get(at).filter(|t| t.name(source).is_some()).ok_or(CreateError::Malformed("the table's name is missing"))?.span;
        if tokens.get(at + 1).is_some_and(|t| t.is_symbol(source, ".")) {
            at += 2;
            name.end = tokens.get(at).ok_or(CreateError::Malformed("the table's name is missing"))?.span.end;
        }
        let body = tokens.get(at + 1..).unwrap_or_default();
        if !body.first().is_some_and(|t| t.is_symbol(source, "(")) {
            return Err(CreateError::Malformed("the columns are missing"));
        }
        let close = matching(source, body, 0).ok_or(CreateError::Malformed("a parenthesis is not closed"))?;
        let inner = body.get(1..close).unwrap_or_default();
        let mut elements = vec![Vec::new()];
        let mut depth = 0_usize;
        for token in inner {
            match token.text(source) {
                "(" if token.kind == TokenKind::Symbol => depth += 1,
                ")" if token.kind == TokenKind::Symbol => depth = depth.saturating_sub(1),
                "," if token.kind == TokenKind::Symbol && depth == 0 => {
                    elements.push(Vec::new());
                    continue;
                }
                _ => {}
            }
            if let Some(last) = elements.last_mut() {
                last.push(*token);
            }
        }
        Ok(Definition { source, table_name: name, elements, options: body.get(close + 1..).unwrap_or_default().to_vec() })
    }

    /// The name token and the index of the CHECK token, if this is a CHECK constraint.
    pub(super) fn check<'e>(&self, element: &'e [Token]) -> Option<(&'e Token, usize)> {
        let constraint = element.first()?.is_word(self.source, "CONSTRAINT") && element.get(2)?.is_word(self.source, "CHECK");
        if constraint { Some((element.get(1)?, 2)) } else { None }
    }

    /// An element with what separates it from the one before. A foreign key is never the first: it stands on columns.
    fn span_with_comma(&self, element: &[Token]) -> Span {
        let (first, last) = (element.first().map_or(0, |t| t.span.start), element.last().map_or(0, |t| t.span.end));
        let start = self.source.get(..first).and_then(|before| before.rfind(',')).unwrap_or(first);
        Span { start, end: last }
    }

    pub(super) fn foreign_key(&self, element: &[Token]) -> Option<String> {
        let at = if element.first()?.is_word(self.source, "CONSTRAINT") { 2 } else { 0 };
        if !element.get(at)?.is_word(self.source, "FOREIGN") {
            return None;
        }
        Some(element.get(1).filter(|_| at == 2).and_then(|t| t.name(self.source)).unwrap_or_default())
    }

    /// The parts of an index: what is in its first parentheses.
    pub(super) fn parts(&self, element: &[Token]) -> Result<Vec<IndexPart>, CreateError> {
        let malformed = CreateError::Malformed("the columns of an index");
        let open = element.iter().position(|t| t.is_symbol(self.source, "(")).ok_or(malformed.clone())?;
        let close = matching(self.source, element, open).ok_or(malformed.clone())?;
        let inner = element.get(open + 1..close).unwrap_or_default();
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(first) = inner.get(at) {
            let mut part = IndexPart { column: None, prefix: None, descending: false };
            if first.is_symbol(self.source, "(") {
                at = matching(self.source, inner, at).ok_or(malformed.clone())? + 1;
            } else {
                part.column = Some(first.name(self.source).ok_or(malformed.clone())?);
                at += 1;
                if inner.get(at).is_some_and(|t| t.is_symbol(self.source, "(")) {
                    part.prefix = inner.get(at + 1).and_then(|t| t.text(self.source).parse().ok());
                    at += 3;
                }
            }
            while let Some(token) = inner.get(at) {
                at += 1;
                if token.is_symbol(self.source, ",") {
                    break;
                }
                part.descending |= token.is_word(self.source, "DESC");
            }
            parts.push(part);
        }
        Ok(parts)
    }
}

/// The tokens outside of parentheses.
fn top_level(source: &str, tokens: &[Token]) -> Vec<Token> {
    let mut depth = 0_usize;
    let mut out = Vec::new();
    for token in tokens {
        if token.is_symbol(source, "(") {
            depth += 1;
        } else if token.is_symbol(source, ")") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 {
            out.push(*token);
        }
    }
    out
}

/// The index of the parenthesis that closes the one at `open`.
pub(super) fn matching(source: &str, tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        if token.is_symbol(source, "(") {
            depth += 1;
        } else if token.is_symbol(source, ")") {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(i);
            }
        } else if i == open {
            return None;
        }
    }
    None
}

/// The text with some spans, in order and apart, replaced.
pub(super) fn replace(source: &str, replaced: &[(Span, String)]) -> String {
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    for (span, text) in replaced {
        out.push_str(source.get(at..span.start).unwrap_or_default());
        out.push_str(text);
        at = span.end;
    }
    out.push_str(source.get(at..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_auto_increment_value() {
        let of = |options: &str| {
            auto_increment(&format!(
                "CREATE TABLE `t` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB{options}"
            ))
            .expect("a definition")
        };
        assert_eq!(of(" AUTO_INCREMENT=17 DEFAULT CHARSET=utf8mb4"), Some(17));
        assert_eq!(of(" DEFAULT CHARSET=utf8mb4 COMMENT='AUTO_INCREMENT=5'"), None);
    }
    use proptest::prelude::*;

    const ORDERS: &str = "CREATE TABLE `or``ders` (
  `id` bigint unsigned NOT NULL AUTO_INCREMENT,
  `a` int DEFAULT '0' COMMENT 'CONSTRAINT `x` CHECK (1), AUTO_INCREMENT=7',
  `b` varchar(20) CHARACTER SET latin1 NOT NULL,
  `c` int GENERATED ALWAYS AS ((`a` + 1)) VIRTUAL /*!80023 INVISIBLE */,
  PRIMARY KEY (`b`,`id` DESC),
  UNIQUE KEY `u` (`id`),
  KEY `k,1` (`a`,`b`(10) DESC) USING BTREE COMMENT 'it''s' /*!80000 INVISIBLE */,
  KEY `f` ((lower(`b`)),`a`),
  FULLTEXT KEY `ft` (`b`) /*!50100 WITH PARSER `ngram` */ ,
  CONSTRAINT `or``ders_chk_1` CHECK ((`a` > 0)),
  CONSTRAINT `mine` CHECK ((`b` <> _utf8mb4')')) /*!80016 NOT ENFORCED */
) ENGINE=InnoDB AUTO_INCREMENT=42 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMMENT='AUTO_INCREMENT=1'
/*!50100 PARTITION BY KEY (id) PARTITIONS 2 */";

    #[test]
    fn columns_as_they_are_shown() {
        let shown = columns(ORDERS).expect("a definition");
        let names: Vec<_> = shown.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["id", "a", "b", "c"]);
        assert_eq!((shown[3].generated, shown[3].expression.as_deref()), (Generated::Virtual, Some("(`a` + 1)")));
        assert_eq!(shown[3].made_of, ["a"]);
        assert_eq!(shown[1].expression, None);
    }

    /// What a session saw that a limit on rows had cut short (`sql_select_limit`): three of five columns.
    #[test]
    fn a_definition_that_was_cut_short_is_noticed() {
        use super::super::mapping::tests::{INT, column};
        use super::super::table::Index;
        let text = "CREATE TABLE `t` (\n  `id` int NOT NULL,\n  `a` int,\n  `b` int,\n  `c` int GENERATED ALWAYS AS (`a`) STORED,\n  PRIMARY KEY (`id`),\n  UNIQUE KEY `u` (`a`,`b`)\n) ENGINE=InnoDB";
        let part = |name: &str| IndexPart { column: Some(name.into()), prefix: None, descending: false };
        let index = |name: &str, parts: &[&str]| Index {
            name: name.into(),
            unique: true,
            visible: true,
            kind: "BTREE".into(),
            parts: parts.iter().map(|p| part(p)).collect(),
        };
        let mut whole = TableDefinition {
            name: "t".into(),
            columns: ["id", "a", "b", "c"].iter().map(|n| column(n, INT)).collect(),
            indexes: vec![index("PRIMARY", &["id"]), index("u", &["a", "b"])],
        };
        whole.columns[3].generated = Generated::Stored;
        assert_eq!(disagreement(&whole, text), Ok(None));
        let told = |change: fn(&mut TableDefinition)| {
            let mut cut = whole.clone();
            change(&mut cut);
            disagreement(&cut, text).expect("a definition").expect("something is wrong")
        };
        assert!(told(|t| t.columns.truncate(3)).contains("`id`, `a`, `b` there, and `id`, `a`, `b`, `c` here"));
        assert!(told(|t| t.columns[2].name = "x".into()).contains("`x`"));
        assert!(told(|t| t.columns[3].generated = Generated::No).contains("`c`"));
        assert!(told(|t| t.indexes.truncate(1)).contains("`u` (2 columns)"));
        assert!(told(|t| t.indexes[1].parts.truncate(1)).contains("`u` (1 columns)"));
    }

    #[test]
    fn checks() {
        let check = |name: &str, text: &str, enforced| CheckConstraint { name: name.into(), clause_text: text.into(), enforced };
        assert_eq!(
            check_constraints(ORDERS),
            Ok(vec![check("or`ders_chk_1", "CHECK ((`a` > 0))", true), check("mine", "CHECK ((`b` <> _utf8mb4')'))", false)])
        );
    }

    #[test]
    fn check_names() {
        let named = |table: &str, ghost: &str, names: &[&str]| {
            let check = |name: &&str| CheckConstraint { name: (*name).to_owned(), clause_text: String::new(), enforced: true };
            let checks: Vec<_> = names.iter().map(check).collect();
            let map = ghost_check_names(table, ghost, &format!("_{table}_del"), &checks)?;
            Ok(names.iter().map(|n| map[*n].clone()).collect::<Vec<_>>())
        };
        assert_eq!(
            named("t", "_t_gho", &["positive", "t_chk_1", "t_chk_positive", "17", "T_CHK_POSITIVE_1"]).unwrap(),
            ["_t_gho_chk_positive_1", "_t_gho_chk_1", "_t_gho_chk_positive", "_t_gho_chk__17", "_t_gho_chk_T_CHK_POSITIVE_1"]
        );
        let (x, y) = ("x".repeat(64), "x".repeat(63) + "y");
        let long = named("t", "_t_gho", &[&x, &y]).unwrap();
        assert!(long[0] != long[1] && long.iter().all(|n| n.starts_with("_t_gho_chk_x") && n.chars().count() == 64), "{long:?}");
        // A long table: no prefix that a RENAME would change.
        let table = "t".repeat(50);
        let long = named(&table, "_ghost", &[&x, "short"]).unwrap();
        assert!(long.iter().all(|n| n.chars().count() <= 64 && !n.starts_with("_ghost_chk_")), "{long:?}");
        let name = format!("t_chk_{}", "x".repeat(58));
        assert_eq!(named("t", "_t_gho", &[&name]), Err(CreateError::CheckName { name }));
        assert_eq!(renamed_check_name("_t_gho", "t", "_t_gho_chk_1"), "t_chk_1");
        assert_eq!(renamed_check_name("_t_gho", "t", "mine"), "mine");
        assert_eq!(as_renamed("x, CONSTRAINT `_t_gho_chk_1` CHECK (1)", "_t_gho", "t"), "x, CONSTRAINT `t_chk_1` CHECK (1)");
    }

    #[test]
    fn the_ghosts_definition() {
        let map = BTreeMap::from([("or`ders_chk_1".to_owned(), "g_chk_1".to_owned()), ("mine".to_owned(), "g_chk_mine".to_owned())]);
        let ghost = rename_for_ghost(ORDERS, "g", &map).unwrap();
        assert_eq!(
            ghost,
            ORDERS
                .replacen("`or``ders`", "`g`", 1)
                .replace("CONSTRAINT `or``ders_chk_1`", "CONSTRAINT `g_chk_1`")
                .replace("CONSTRAINT `mine`", "CONSTRAINT `g_chk_mine`")
        );
        let missing = BTreeMap::new();
        assert_eq!(rename_for_ghost(ORDERS, "g", &missing), Err(CreateError::UnmappedCheck { name: "or`ders_chk_1".into() }));
        let child = "CREATE TABLE `c` (`a` int, KEY `f` (`a`), CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES `p` (`id`))";
        let without = "CREATE TABLE `g` (`a` int, KEY `f` (`a`))";
        assert_eq!(rename_for_ghost(child, "g", &missing).as_deref(), Ok(without));
        let key = |schema: &str, actions: &str| ForeignKey {
            name: "f".into(),
            columns: vec!["a".into()],
            parent: TableName::new(schema, "p"),
            parent_columns: vec!["id".into()],
            actions: actions.into(),
            index: Some("f".into()),
        };
        assert_eq!(foreign_keys(child, "d"), Ok(vec![key("d", "")]));
        let elsewhere = child.replace("`p` (`id`)", "`o,`.`p` (`id`) ON DELETE SET NULL ON UPDATE CASCADE");
        assert_eq!(foreign_keys(&elsewhere, "d"), Ok(vec![key("o,", "ON DELETE SET NULL ON UPDATE CASCADE")]));
        let clone = normalise_definition(without).unwrap();
        assert_eq!(normalise_definition(child), Ok(with_foreign_keys(&clone, &["f".to_owned()])));
        assert_ne!(normalise_definition(child), Ok(clone));
    }

    #[test]
    fn normalised() {
        let other = ORDERS.replacen("`or``ders`", "`g`", 1).replacen(") ENGINE=InnoDB AUTO_INCREMENT=42", ") ENGINE=InnoDB", 1);
        assert_eq!(normalise_definition(ORDERS), normalise_definition(&other));
        assert_ne!(normalise_definition(ORDERS), normalise_definition(&ORDERS.replace("AUTO_INCREMENT=1", "x")));
        assert_ne!(normalise_definition(ORDERS), normalise_definition(&ORDERS.replace("AUTO_INCREMENT=7", "x")));
    }

    #[test]
    fn secondary_indexes() {
        let indexes = split_secondary_indexes(ORDERS, &["F"]).unwrap();
        let seen: Vec<_> = indexes.iter().map(|i| (i.name.as_str(), i.unique, i.full_text, i.stays)).collect();
        assert_eq!(
            seen,
            [
                ("u", true, false, Some(Stays::AutoIncrement)),
                ("k,1", false, false, None),
                ("f", false, false, Some(Stays::Needed)),
                ("ft", false, true, None)
            ]
        );
        assert_eq!(indexes[1].definition, "KEY `k,1` (`a`,`b`(10) DESC) USING BTREE COMMENT 'it''s' /*!80000 INVISIBLE */");
        assert_eq!(indexes[1].parts[1], IndexPart { column: Some("b".into()), prefix: Some(10), descending: true });
        assert_eq!(indexes[2].parts[0], IndexPart { column: None, prefix: None, descending: false });
        let heap = "CREATE TABLE `t` (`a` int NOT NULL, `b` int, UNIQUE KEY `n` (`b`), UNIQUE KEY `u` (`a`), UNIQUE KEY `v` (`a`))";
        let stays: Vec<_> = split_secondary_indexes(heap, &[]).unwrap().into_iter().map(|i| i.stays).collect();
        assert_eq!(stays, [None, Some(Stays::Clustered), None]);
    }

    proptest! {
        #[test]
        fn never_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(prop::sample::select(vec!['\'', '`', '(', ')', ',', '*', 'é', ' ']))), 0..6)) {
            let mut text: Vec<char> = ORDERS.chars().collect();
            for (at, character) in edits {
                let at = at.index(text.len());
                match character { Some(c) => text[at] = c, None => { text.remove(at); } }
            }
            let text: String = text.into_iter().collect();
            let _ = (check_constraints(&text), normalise_definition(&text), split_secondary_indexes(&text, &["u"]));
            let _ = rename_for_ghost(&text, "g", &BTreeMap::new());
        }
    }
}
