//! What the user wrote: one CREATE TABLE, taken apart as far as needed to make an empty table of it under another name.

use thiserror::Error;

use super::super::create::matching;
use super::super::quote;
use super::super::token::{Grammar, Span, Token, TokenError, TokenKind, character_position, tokenize_as};

/// A text that cannot be what a table is to become.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DesiredError {
    /// Nothing but blanks and comments.
    #[error("the definition is empty; write the whole CREATE TABLE")]
    Empty,
    /// Not even tokens.
    #[error("cannot parse the definition: {0}")]
    Token(#[from] TokenError),
    /// Something that a definition must not have, or that is not understood.
    #[error("cannot take the definition at character {position}, near \"{near}\": {message}")]
    Refused {
        /// In characters, from 1.
        position: usize,
        /// The text there, cut off.
        near: String,
        /// What is wrong, and what to do.
        message: String,
    },
    /// The server's text, or a difference that no clause makes.
    #[error("{0}")]
    Difference(String),
}

/// A CHECK constraint as written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WrittenCheck {
    /// `None`: the server gives it one.
    name: Option<String>,
    /// The name, or where there is none, the word CHECK.
    at: Span,
    /// Whether `CONSTRAINT` is there already.
    has_word: bool,
}

/// A foreign key as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredForeignKey {
    /// `None`: the server gives it one.
    pub name: Option<String>,
    /// `FOREIGN KEY name (…)`: what an index is called that the server makes for it, where the constraint has no name.
    pub index: Option<String>,
    /// In order.
    pub columns: Vec<String>,
    /// Schema (where written) and table that it refers to.
    pub parent: (Option<String>, String),
    /// In order.
    pub parent_columns: Vec<String>,
    /// As the server writes them; empty for NO ACTION, which is what none means.
    pub on_delete: String,
    /// As above.
    pub on_update: String,
}

/// A column, an index or a constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Element {
    tokens: Vec<Token>,
    /// Whether it is a foreign key, and which.
    foreign_key: Option<usize>,
}

/// A CREATE TABLE as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    source: String,
    elements: Vec<Element>,
    /// What follows the parenthesis.
    options: Vec<Token>,
    schema: Option<String>,
    table: String,
    checks: Vec<WrittenCheck>,
    foreign_keys: Vec<DesiredForeignKey>,
    /// The versions in comments that MySQL executes.
    versions: Vec<u32>,
}

/// Table options that a definition may have. The others say where the data is, or belong to other engines.
const OPTIONS: [&str; 18] = [
    "ENGINE",
    "AUTO_INCREMENT",
    "AVG_ROW_LENGTH",
    "CHECKSUM",
    "COMMENT",
    "COMPRESSION",
    "DELAY_KEY_WRITE",
    "ENCRYPTION",
    "KEY_BLOCK_SIZE",
    "MAX_ROWS",
    "MIN_ROWS",
    "PACK_KEYS",
    "ROW_FORMAT",
    "STATS_AUTO_RECALC",
    "STATS_PERSISTENT",
    "STATS_SAMPLE_PAGES",
    "CHARSET",
    "COLLATE",
];

/// Words that begin an element that is no column.
const CONSTRAINTS: [&str; 9] = ["CONSTRAINT", "CHECK", "FOREIGN", "PRIMARY", "UNIQUE", "KEY", "INDEX", "FULLTEXT", "SPATIAL"];

impl Statement {
    /// Reads a text where the server's grammar is not known yet: by the first one that understands it.
    ///
    /// # Errors
    /// What the default grammar says, if none does.
    pub fn parse_as_any(text: &str) -> Result<Self, DesiredError> {
        let default = Self::parse_as(text, Grammar::default());
        default.or_else(|error| Grammar::ALL.into_iter().find_map(|grammar| Self::parse_as(text, grammar).ok()).ok_or(error))
    }

    /// Reads a text as the server's clients write it.
    ///
    /// # Errors
    /// It is not one CREATE TABLE with columns, or has something that a definition must not have.
    pub fn parse_as(text: &str, grammar: Grammar) -> Result<Self, DesiredError> {
        let all = tokenize_as(text, grammar)?;
        if all.is_empty() {
            return Err(DesiredError::Empty);
        }
        let opens = all.iter().filter(|token| token.kind == TokenKind::ExecutableOpen);
        let versions = opens.filter_map(|token| token.text(text).get(3..).and_then(|digits| digits.parse().ok())).collect();
        let tokens: Vec<Token> =
            all.into_iter().filter(|t| !matches!(t.kind, TokenKind::ExecutableOpen | TokenKind::ExecutableClose)).collect();
        let ends = tokens.iter().rposition(|t| !t.is_symbol(text, ";")).map_or(0, |last| last + 1);
        let tokens = tokens.get(..ends).unwrap_or_default();
        Reader { source: text, tokens, at: 0 }.statement(versions)
    }

    /// The name of the table, and the schema where it is written.
    pub fn name(&self) -> (Option<&str>, &str) {
        (self.schema.as_deref(), &self.table)
    }

    /// The number in a comment that only a later server than this one executes: `90800` in `/*!90800 … */`. `server` is written the same way.
    pub fn later_than(&self, server: u32) -> Option<u32> {
        self.versions.iter().copied().find(|number| *number > server)
    }

    /// The foreign keys, in the order of the text.
    pub fn foreign_keys(&self) -> &[DesiredForeignKey] {
        &self.foreign_keys
    }

    /// The names that CHECK constraints have, by the number that [`Statement::scratch`] gives them.
    pub fn check_names(&self) -> Vec<Option<&str>> {
        self.checks.iter().map(|check| check.name.as_deref()).collect()
    }

    /// The statement that makes an empty table of it under another name. CHECK constraints get names by their number, since names are unique in a
    /// schema. Foreign keys are left out; those in `indexed` leave the index behind that the server would make for them.
    pub fn scratch(&self, create: &str, table: &str, check_name: impl Fn(usize) -> String, indexed: &[usize]) -> String {
        let elements = self.elements.iter().filter_map(|element| match element.foreign_key {
            Some(number) if indexed.contains(&number) => {
                let key = self.foreign_keys.get(number)?;
                let columns: Vec<String> = key.columns.iter().map(|column| quote::identifier(column)).collect();
                let name = key.name.as_ref().or(key.index.as_ref()).map(|name| quote::identifier(name)).unwrap_or_default();
                Some(format!("KEY {name} ({})", columns.join(", ")))
            }
            Some(_) => None,
            None => Some(self.text(&element.tokens, &check_name)),
        });
        let elements: Vec<String> = elements.collect();
        format!("{create} {table} (\n  {}\n) {}", elements.join(",\n  "), self.text(&self.options, &check_name))
    }

    /// The tokens as written, without comments, and with names of CHECK constraints.
    fn text(&self, tokens: &[Token], check_name: &impl Fn(usize) -> String) -> String {
        let mut out = String::new();
        let mut previous: Option<Span> = None;
        for token in tokens {
            // One blank where there was anything between two tokens: a comment is a separator as well.
            if previous.is_some_and(|p| p.end < token.span.start) {
                out.push(' ');
            }
            previous = Some(token.span);
            let check = self.checks.iter().enumerate().find(|(_, check)| check.at.start == token.span.start);
            match check {
                None => out.push_str(token.text(&self.source)),
                Some((number, check)) => {
                    let name = quote::identifier(&check_name(number));
                    match (check.name.is_some(), check.has_word) {
                        (true, _) => out.push_str(&name),
                        (false, true) => out.push_str(&format!("{name} {}", token.text(&self.source))),
                        (false, false) => out.push_str(&format!("CONSTRAINT {name} {}", token.text(&self.source))),
                    }
                }
            }
        }
        out
    }
}

/// A cursor over the tokens.
struct Reader<'a> {
    source: &'a str,
    tokens: &'a [Token],
    at: usize,
}

type Result<T, E = DesiredError> = std::result::Result<T, E>;

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn is(&self, ahead: usize, word: &str) -> bool {
        self.tokens.get(self.at + ahead).is_some_and(|t| t.is_word(self.source, word))
    }

    fn eat(&mut self, word: &str) -> bool {
        let eaten = self.is(0, word);
        self.at += usize::from(eaten);
        eaten
    }

    fn eat_symbol(&mut self, symbol: &str) -> bool {
        let eaten = self.peek().is_some_and(|t| t.is_symbol(self.source, symbol));
        self.at += usize::from(eaten);
        eaten
    }

    fn refuse<T>(&self, message: impl Into<String>) -> Result<T> {
        let end = self.tokens.last().map_or(self.source.len(), |t| t.span.end);
        Err(self.refusal(self.peek().map_or(end, |t| t.span.start), message))
    }

    fn refusal(&self, offset: usize, message: impl Into<String>) -> DesiredError {
        let rest = self.source.get(offset..).unwrap_or_default();
        let mut near: String = rest.chars().take(40).collect();
        if near.len() < rest.len() {
            near.push('…');
        }
        DesiredError::Refused { position: character_position(self.source, offset), near, message: message.into() }
    }

    fn name(&mut self, what: &str) -> Result<String> {
        match self.peek().and_then(|t| t.name(self.source)).filter(|name| !name.is_empty()) {
            Some(name) => {
                self.at += 1;
                Ok(name)
            }
            None => self.refuse(format!("{what} was expected")),
        }
    }

    fn statement(mut self, versions: Vec<u32>) -> Result<Statement> {
        for token in self.tokens {
            let message = match token.kind {
                TokenKind::Hint => "optimizer hints are not accepted",
                TokenKind::Symbol if token.is_symbol(self.source, ";") => "write one statement: a single CREATE TABLE",
                TokenKind::Word if token.is_word(self.source, "SELECT") => "a definition has no query: write the columns",
                _ => continue,
            };
            return Err(self.refusal(token.span.start, message));
        }
        if !self.eat("CREATE") {
            return self.refuse("spec.desired has the whole CREATE TABLE; single clauses such as ADD COLUMN go into spec.alter");
        }
        if self.is(0, "TEMPORARY") {
            return self.refuse("a migration changes permanent tables; leave out TEMPORARY");
        }
        if !self.eat("TABLE") {
            return self.refuse("CREATE TABLE was expected");
        }
        if self.eat("IF") && !(self.eat("NOT") && self.eat("EXISTS")) {
            return self.refuse("IF NOT EXISTS was expected");
        }
        let mut table = self.name("the table's name")?;
        let mut schema = None;
        if self.eat_symbol(".") {
            schema = Some(std::mem::replace(&mut table, self.name("the table's name")?));
        }
        if !self.peek().is_some_and(|t| t.is_symbol(self.source, "(")) {
            return self.refuse("the columns in parentheses were expected");
        }
        let opened = self.at;
        let Some(close) = matching(self.source, self.tokens, opened) else {
            return self.refuse("a parenthesis is not closed");
        };
        let body = self.tokens.get(opened + 1..close).unwrap_or_default();
        let mut statement = Statement {
            source: self.source.to_owned(),
            elements: Vec::new(),
            options: self.tokens.get(close + 1..).unwrap_or_default().to_vec(),
            schema,
            table,
            checks: Vec::new(),
            foreign_keys: Vec::new(),
            versions,
        };
        for element in split(self.source, body) {
            let mut reader = Reader { source: self.source, tokens: element, at: 0 };
            let foreign_keys = statement.foreign_keys.len();
            reader.element(&mut statement)?;
            let foreign_key = (statement.foreign_keys.len() > foreign_keys).then_some(foreign_keys);
            statement.elements.push(Element { tokens: element.to_vec(), foreign_key });
        }
        self.at = close + 1;
        self.options()?;
        Ok(statement)
    }

    /// A column, an index or a constraint.
    fn element(&mut self, statement: &mut Statement) -> Result<()> {
        let Some(first) = self.peek() else { return self.refuse("a column was expected between two commas") };
        if self.is(0, "LIKE") {
            return self.refuse("a definition is written out: CREATE TABLE … LIKE is not accepted");
        }
        let is_constraint = first.kind == TokenKind::Word && CONSTRAINTS.iter().any(|word| first.is_word(self.source, word));
        if !is_constraint {
            if first.name(self.source).is_none() {
                return self.refuse("a column, an index or a constraint was expected");
            }
            return self.column(statement);
        }
        let word = self.eat("CONSTRAINT");
        let mut name = None;
        if word && !["CHECK", "FOREIGN", "PRIMARY", "UNIQUE"].iter().any(|next| self.is(0, next)) {
            name = Some((self.peek().map_or(first.span, |t| t.span), self.name("the name of a constraint")?));
        }
        if self.is(0, "CHECK") {
            let at = self.peek().map_or(first.span, |t| t.span);
            statement.checks.push(written(name, at, word));
        } else if self.eat("FOREIGN") {
            let key = self.foreign_key(name.map(|(_, name)| name))?;
            statement.foreign_keys.push(key);
        }
        Ok(())
    }

    fn column(&mut self, statement: &mut Statement) -> Result<()> {
        self.at = 1;
        let mut depth = 0_usize;
        let mut constraint: Option<Option<(Span, String)>> = None;
        while let Some(token) = self.peek() {
            if token.is_symbol(self.source, "(") {
                depth += 1;
            } else if token.is_symbol(self.source, ")") {
                depth = depth.saturating_sub(1);
            } else if depth == 0 && token.is_word(self.source, "REFERENCES") {
                return self.refuse(
                    "whether REFERENCES at a column is a constraint depends on the server's version: write FOREIGN KEY (…) REFERENCES …",
                );
            } else if depth == 0 && token.is_word(self.source, "CONSTRAINT") {
                self.at += 1;
                let span = self.peek().map(|t| t.span);
                constraint = Some(match (self.is(0, "CHECK"), span) {
                    (false, Some(span)) => Some((span, self.name("the name of a constraint")?)),
                    _ => None,
                });
                continue;
            } else if depth == 0 && token.is_word(self.source, "CHECK") {
                let word = constraint.is_some();
                statement.checks.push(written(constraint.take().flatten(), token.span, word));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Behind FOREIGN.
    fn foreign_key(&mut self, name: Option<String>) -> Result<DesiredForeignKey> {
        if !self.eat("KEY") {
            return self.refuse("FOREIGN KEY was expected");
        }
        let index = match self.peek() {
            Some(token) if !token.is_symbol(self.source, "(") => Some(self.name("the columns in parentheses")?),
            _ => None,
        };
        let columns = self.names()?;
        if !self.eat("REFERENCES") {
            return self.refuse("REFERENCES was expected");
        }
        let mut parent = (None, self.name("the referenced table")?);
        if self.eat_symbol(".") {
            parent = (Some(parent.1), self.name("the referenced table")?);
        }
        let parent_columns = self.names()?;
        if self.eat("MATCH") {
            self.at += 1;
        }
        let (mut on_delete, mut on_update) = (String::new(), String::new());
        while self.eat("ON") {
            let which = if self.eat("DELETE") {
                &mut on_delete
            } else if self.eat("UPDATE") {
                &mut on_update
            } else {
                return self.refuse("DELETE or UPDATE was expected");
            };
            *which = if self.eat("RESTRICT") {
                "RESTRICT".to_owned()
            } else if self.eat("CASCADE") {
                "CASCADE".to_owned()
            } else if self.eat("NO") && self.eat("ACTION") {
                String::new()
            } else if self.eat("SET") && (self.is(0, "NULL") || self.is(0, "DEFAULT")) {
                self.at += 1;
                let default = self.tokens.get(self.at - 1).is_some_and(|t| t.is_word(self.source, "DEFAULT"));
                if default { "SET DEFAULT".to_owned() } else { "SET NULL".to_owned() }
            } else {
                return self.refuse("RESTRICT, CASCADE, SET NULL or NO ACTION was expected");
            };
        }
        if self.peek().is_some() {
            return self.refuse("the foreign key was expected to end here");
        }
        Ok(DesiredForeignKey { name, index, columns, parent, parent_columns, on_delete, on_update })
    }

    /// Names in parentheses.
    fn names(&mut self) -> Result<Vec<String>> {
        if !self.eat_symbol("(") {
            return self.refuse("columns in parentheses were expected");
        }
        let mut names = vec![self.name("a column")?];
        while self.eat_symbol(",") {
            names.push(self.name("a column")?);
        }
        if !self.eat_symbol(")") {
            return self.refuse("a column, or the end of the parentheses, was expected");
        }
        Ok(names)
    }

    /// What follows the columns.
    fn options(&mut self) -> Result<()> {
        let place = ["DIRECTORY", "TABLESPACE"];
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        if let Some(token) = rest.iter().find(|t| place.iter().any(|word| t.is_word(self.source, word))) {
            let message = "a migration does not decide where the data is stored; leave out DATA DIRECTORY, INDEX DIRECTORY and TABLESPACE";
            return Err(self.refusal(token.span.start, message));
        }
        // What a query begins with: partitions are taken as they are written, and one may stand behind them.
        let begins = |at: usize| {
            let word = |ahead: usize, word: &str| rest.get(at + ahead).is_some_and(|t| t.is_word(self.source, word));
            word(0, "TABLE") || word(0, "WITH") || word(0, "VALUES") && word(1, "ROW")
        };
        if let Some(token) = (0..rest.len()).find(|at| begins(*at)).and_then(|at| rest.get(at)) {
            return Err(self.refusal(token.span.start, "a definition has no query: write the columns"));
        }
        while let Some(token) = self.peek() {
            if self.is(0, "PARTITION") && self.is(1, "BY") {
                return Ok(());
            }
            if self.eat_symbol(",") {
                continue;
            }
            self.eat("DEFAULT");
            if self.eat("CHARACTER") || self.eat("CHAR") {
                if !self.eat("SET") {
                    return self.refuse("CHARACTER SET was expected");
                }
            } else if token.kind == TokenKind::Word && OPTIONS.iter().any(|option| self.is(0, option)) {
                self.at += 1;
            } else {
                return self.refuse("this is not a table option that a definition may have");
            }
            self.eat_symbol("=");
            if self.peek().is_none_or(|t| t.kind == TokenKind::Symbol) {
                return self.refuse("a value was expected");
            }
            self.at += 1;
        }
        Ok(())
    }
}

/// A CHECK constraint: `at` is where the word CHECK stands, `word` whether CONSTRAINT stands before it.
fn written(name: Option<(Span, String)>, at: Span, word: bool) -> WrittenCheck {
    match name {
        Some((at, name)) => WrittenCheck { name: Some(name), at, has_word: true },
        None => WrittenCheck { name: None, at, has_word: word },
    }
}

/// At the commas outside of parentheses.
fn split<'a>(source: &str, tokens: &'a [Token]) -> Vec<&'a [Token]> {
    let (mut depth, mut start) = (0_usize, 0);
    let mut out = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.is_symbol(source, "(") {
            depth += 1;
        } else if token.is_symbol(source, ")") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && token.is_symbol(source, ",") {
            out.push(tokens.get(start..at).unwrap_or_default());
            start = at + 1;
        }
    }
    out.push(tokens.get(start..).unwrap_or_default());
    out
}
