//! A definition as the server shows it, taken apart.

use super::super::create::{Definition, foreign_keys};
use super::super::foreign_key::ForeignKey;
use super::super::table::IndexPart;
use super::super::token::{Span, Token, TokenKind};
use super::statement::DesiredError;

/// A CHECK constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    /// `None`: the server names it, whatever it is called now.
    pub name: Option<String>,
    /// `CHECK (…)`
    pub clause: String,
    pub enforced: bool,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShownColumn {
    pub name: String,
    /// All of it, the name as well.
    pub text: String,
    /// The same as a clause takes it: a collation that is shown without a character set is the table's, and would not be so any more if it were
    /// written.
    pub clause: String,
    /// The type: a word, and what stands in the parentheses behind it.
    pub kind: (String, Vec<String>),
    /// Words behind the type outside of parentheses, in upper case, up to a string or a parenthesis.
    pub words: Vec<String>,
}

/// An index other than the primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShownIndex {
    pub name: String,
    /// What ADD takes.
    pub text: String,
    pub unique: bool,
    pub full_text: bool,
    pub visible: bool,
    pub parts: Vec<IndexPart>,
}

impl ShownIndex {
    /// The text without the name.
    pub fn nameless(&self) -> String {
        self.text.replacen(&super::super::quote::identifier(&self.name), "", 1)
    }

    /// The text without INVISIBLE.
    pub fn visible_text(&self) -> &str {
        self.text.strip_suffix(" INVISIBLE").unwrap_or(&self.text)
    }
}

/// What SHOW CREATE TABLE says of a table, taken apart. Comments that only MySQL executes are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub(super) columns: Vec<ShownColumn>,
    /// `PRIMARY KEY (…)`, and its parts.
    pub(super) primary: Option<(String, Vec<IndexPart>)>,
    pub(super) indexes: Vec<ShownIndex>,
    pub(super) checks: Vec<Check>,
    pub(super) foreign_keys: Vec<ForeignKey>,
    /// Table options but AUTO_INCREMENT and what concerns the character set: name and value as shown.
    pub(super) options: Vec<(String, String)>,
    pub(super) charset: String,
    pub(super) collation: Option<String>,
    /// From PARTITION BY on.
    pub(super) partitions: Option<String>,
    /// Their names.
    pub(super) partition_names: Vec<String>,
}

impl Shown {
    /// Takes a definition apart. `check_name` says what a CHECK constraint of this name is called in the end; `None`: the server names it.
    ///
    /// # Errors
    /// The text is not what SHOW CREATE TABLE gives.
    pub fn parse(show_create: &str, schema: &str, check_name: impl Fn(&str) -> Option<String>) -> Result<Self, DesiredError> {
        let unreadable = |error: super::super::create::CreateError| DesiredError::Difference(error.to_string());
        let definition = Definition::parse(show_create).map_err(unreadable)?;
        let mut shown = Self {
            columns: Vec::new(),
            primary: None,
            indexes: Vec::new(),
            checks: Vec::new(),
            foreign_keys: foreign_keys(show_create, schema).map_err(unreadable)?,
            options: Vec::new(),
            charset: String::new(),
            collation: None,
            partitions: None,
            partition_names: Vec::new(),
        };
        for element in &definition.elements {
            let tokens = plain(element);
            let Some(first) = tokens.first() else { continue };
            let word = |at: usize, word: &str| tokens.get(at).is_some_and(|t: &Token| t.is_word(show_create, word));
            if first.kind == TokenKind::QuotedName {
                shown.columns.push(column(show_create, &tokens));
            } else if word(0, "PRIMARY") {
                shown.primary = Some((text(show_create, &tokens), definition.parts(element).map_err(unreadable)?));
            } else if definition.foreign_key(element).is_some() || definition.check(element).is_some() {
            } else {
                let (unique, full_text) = (word(0, "UNIQUE"), word(0, "FULLTEXT"));
                let at = usize::from(unique || full_text || word(0, "SPATIAL")) + 1;
                let name = tokens.get(at).and_then(|t| t.name(show_create));
                let name = name.ok_or_else(|| DesiredError::Difference("an index of the table is not understood".to_owned()))?;
                let parts = definition.parts(element).map_err(unreadable)?;
                let visible = !tokens.last().is_some_and(|t| t.is_word(show_create, "INVISIBLE"));
                shown.indexes.push(ShownIndex { name, text: text(show_create, &tokens), unique, full_text, visible, parts });
            }
        }
        let checks = super::super::create::check_constraints(show_create).map_err(unreadable)?;
        shown.checks =
            checks.into_iter().map(|c| Check { name: check_name(&c.name), clause: c.clause_text, enforced: c.enforced }).collect();
        shown.read_options(show_create, &plain(&definition.options))?;
        Ok(shown)
    }

    fn read_options(&mut self, source: &str, tokens: &[Token]) -> Result<(), DesiredError> {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if token.is_word(source, "PARTITION") && tokens.get(at + 1).is_some_and(|t| t.is_word(source, "BY")) {
                let rest = tokens.get(at..).unwrap_or_default();
                self.partitions = Some(text(source, rest));
                let names = rest.windows(3).filter(
                    |w| matches!(w, [a, b, _] if a.is_word(source, "PARTITION") && !b.is_word(source, "BY") && b.name(source).is_some()),
                );
                self.partition_names = names.filter_map(|w| w.get(1)?.name(source)).collect();
                return Ok(());
            }
            let mut name = Vec::new();
            while let Some(word) = tokens.get(at).filter(|t| t.kind == TokenKind::Word) {
                name.push(word.text(source).to_ascii_uppercase());
                at += 1;
            }
            let name = name.join(" ");
            if tokens.get(at).is_some_and(|t| t.is_symbol(source, "=")) {
                at += 1;
            }
            let Some(value) = tokens.get(at).filter(|_| !name.is_empty()) else {
                return Err(DesiredError::Difference(format!("the table option {name} is not understood")));
            };
            at += 1;
            let value = value.text(source).to_owned();
            match name.as_str() {
                "AUTO_INCREMENT" => {}
                "DEFAULT CHARSET" | "CHARSET" => self.charset = value,
                "COLLATE" => self.collation = Some(value),
                _ => self.options.push((name, value)),
            }
        }
        Ok(())
    }

    /// The storage engine.
    pub fn engine(&self) -> Option<&str> {
        self.options.iter().find(|(name, _)| name == "ENGINE").map(|(_, value)| value.as_str())
    }

    /// Whether an index serves a foreign key on these columns, the primary key included.
    pub fn serves(&self, columns: &[String]) -> bool {
        let begins = |parts: &[IndexPart]| {
            parts.len() >= columns.len()
                && parts.iter().zip(columns).all(|(part, column)| {
                    part.prefix.is_none() && part.column.as_ref().is_some_and(|name| name.to_lowercase() == column.to_lowercase())
                })
        };
        self.primary.as_ref().is_some_and(|(_, parts)| begins(parts))
            || self.indexes.iter().any(|index| !index.full_text && !index.text.starts_with("SPATIAL") && begins(&index.parts))
    }
}

fn plain(tokens: &[Token]) -> Vec<Token> {
    tokens.iter().filter(|t| !matches!(t.kind, TokenKind::ExecutableOpen | TokenKind::ExecutableClose)).copied().collect()
}

/// The tokens as shown, with one blank where there was anything between two.
pub(super) fn text(source: &str, tokens: &[Token]) -> String {
    let mut out = String::new();
    let mut previous: Option<Span> = None;
    for token in tokens {
        if previous.is_some_and(|p| p.end < token.span.start) {
            out.push(' ');
        }
        out.push_str(token.text(source));
        previous = Some(token.span);
    }
    out
}

fn column(source: &str, tokens: &[Token]) -> ShownColumn {
    let name = tokens.first().and_then(|t| t.name(source)).unwrap_or_default();
    let kind = tokens.get(1).map(|t| t.text(source).to_ascii_lowercase()).unwrap_or_default();
    let mut at = 2;
    let mut arguments = Vec::new();
    if tokens.get(at).is_some_and(|t| t.is_symbol(source, "(")) {
        at += 1;
        while let Some(token) = tokens.get(at).filter(|t| !t.is_symbol(source, ")")) {
            if !token.is_symbol(source, ",") {
                arguments.push(token.string_value(source).unwrap_or_else(|| token.text(source).to_owned()));
            }
            at += 1;
        }
        at += 1;
    }
    let words = tokens.get(at..).unwrap_or_default().iter().take_while(|t| t.kind == TokenKind::Word);
    let words: Vec<String> = words.map(|t| t.text(source).to_ascii_uppercase()).collect();
    let mut clause = tokens.to_vec();
    if let Some(collate) = words.iter().position(|word| word == "COLLATE").filter(|_| !words.iter().any(|word| word == "SET")) {
        clause.drain(at + collate..(at + collate + 2).min(tokens.len()));
    }
    ShownColumn { name, text: text(source, tokens), clause: text(source, &clause), kind: (kind, arguments), words }
}
