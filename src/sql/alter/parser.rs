//! From tokens to clauses: one function for each verb.

mod elements;

use super::AlterError;
use super::clause::{Clause, ParsedClause};
use super::refusal::excerpt;
use crate::sql::token::{Grammar, Span, Token, TokenKind, character_position, tokenize_as};

pub(super) struct Parsed {
    pub clauses: Vec<ParsedClause>,
    pub constraint_names: Vec<(Span, String)>,
}

type Result<T> = std::result::Result<T, AlterError>;

/// Words reserved in every version of MySQL: as a name they need backticks, and meeting one where a name should be means
/// that the text is something else than it seems.
const RESERVED: [&str; 44] = [
    "ADD",
    "ALTER",
    "AND",
    "AS",
    "BY",
    "CHANGE",
    "CHECK",
    "COLLATE",
    "COLUMN",
    "CONSTRAINT",
    "CONVERT",
    "CREATE",
    "DEFAULT",
    "DELETE",
    "DROP",
    "EXISTS",
    "FORCE",
    "FOREIGN",
    "FROM",
    "FULLTEXT",
    "GENERATED",
    "IF",
    "IN",
    "INDEX",
    "INSERT",
    "KEY",
    "KEYS",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "PARTITION",
    "PRIMARY",
    "REFERENCES",
    "RENAME",
    "SELECT",
    "SET",
    "SPATIAL",
    "TABLE",
    "TO",
    "UNIQUE",
    "USING",
    "WITH",
];

/// Table options of one word; those of two words are handled where options are read.
const TABLE_OPTIONS: [&str; 29] = [
    "ENGINE",
    "AUTO_INCREMENT",
    "AVG_ROW_LENGTH",
    "CHECKSUM",
    "TABLE_CHECKSUM",
    "COMMENT",
    "COMPRESSION",
    "CONNECTION",
    "DELAY_KEY_WRITE",
    "ENCRYPTION",
    "ENGINE_ATTRIBUTE",
    "INSERT_METHOD",
    "KEY_BLOCK_SIZE",
    "MAX_ROWS",
    "MIN_ROWS",
    "PACK_KEYS",
    "PASSWORD",
    "ROW_FORMAT",
    "SECONDARY_ENGINE",
    "SECONDARY_ENGINE_ATTRIBUTE",
    "STATS_AUTO_RECALC",
    "STATS_PERSISTENT",
    "STATS_SAMPLE_PAGES",
    "TABLESPACE",
    "UNION",
    "AUTOEXTEND_SIZE",
    "CHARSET",
    "COLLATE",
    "STORAGE",
];

pub(super) fn parse(source: &str, grammar: Grammar) -> Result<Parsed> {
    let tokens = tokenize_as(source, grammar)?;
    check_statement(source, &tokens)?;
    let mut constraint_names = Vec::new();
    let mut clauses = Vec::new();
    for segment in segments(source, &tokens)? {
        let mut parser = Parser { source, tokens: segment, at: 0, constraint_names: Vec::new() };
        while parser.at < segment.len() {
            let first = parser.at;
            let clause = parser.clause(first > 0)?;
            let tokens: Vec<Span> = segment.get(first..parser.at).unwrap_or_default().iter().map(|t| t.span).collect();
            let span = Span { start: tokens.first().map_or(0, |s| s.start), end: tokens.last().map_or(0, |s| s.end) };
            clauses.push(ParsedClause { clause, span, tokens });
        }
        constraint_names.append(&mut parser.constraint_names);
    }
    Ok(Parsed { clauses, constraint_names })
}

fn syntax(source: &str, offset: usize, message: impl Into<String>) -> AlterError {
    let near = excerpt(source.get(offset..).unwrap_or_default(), 40);
    AlterError::Syntax { position: character_position(source, offset), near, message: message.into() }
}

/// What concerns the text as a whole.
fn check_statement(source: &str, tokens: &[Token]) -> Result<()> {
    let first = tokens.first().ok_or(AlterError::Empty)?;
    for token in tokens {
        let message = match token.kind {
            TokenKind::ExecutableOpen => "executable comments are not accepted: their effect depends on the server's version",
            TokenKind::Hint => "optimizer hints are not accepted",
            TokenKind::Symbol if token.text(source) == ";" => {
                "one statement without a semicolon; several changes of a table are clauses separated by commas"
            }
            _ => continue,
        };
        return Err(syntax(source, token.span.start, message));
    }
    let mut words = tokens.iter().map(|t| t.text(source).to_ascii_uppercase());
    let (one, two) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if first.kind == TokenKind::Word && one == "ALTER" && matches!(two.as_str(), "TABLE" | "IGNORE" | "ONLINE" | "OFFLINE") {
        let message = "leave out ALTER TABLE and the table's name (spec.table has it); write only the clauses, such as ADD COLUMN c INT";
        return Err(syntax(source, first.span.start, message));
    }
    Ok(())
}

/// Verbs before PARTITION that keep every row,
const REARRANGE: [&str; 4] = ["ADD", "REORGANIZE", "COALESCE", "REBUILD"];
/// that change which rows there are,
const DATA: [&str; 5] = ["DROP", "TRUNCATE", "EXCHANGE", "DISCARD", "IMPORT"];
/// and that change no definition.
const MAINTAIN: [&str; 4] = ["ANALYZE", "CHECK", "OPTIMIZE", "REPAIR"];

/// The tokens between top-level commas; lists that belong to one clause (`ORDER BY a, b`, partition names) stay together.
fn segments<'t>(source: &str, tokens: &'t [Token]) -> Result<Vec<&'t [Token]>> {
    let mut bounds = vec![];
    let (mut depth, mut start) = (0_usize, 0);
    for (i, token) in tokens.iter().enumerate() {
        if token.kind != TokenKind::Symbol {
            continue;
        }
        match token.text(source) {
            "(" => depth += 1,
            ")" if depth == 0 => return Err(syntax(source, token.span.start, "this parenthesis was not opened")),
            ")" => depth -= 1,
            "," if depth == 0 => {
                bounds.push((start, i));
                start = i + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(syntax(source, source.len(), "a parenthesis is not closed"));
    }
    bounds.push((start, tokens.len()));

    let mut out: Vec<(usize, usize)> = Vec::new();
    for (start, end) in bounds {
        let segment = tokens.get(start..end).unwrap_or_default();
        if segment.is_empty() {
            let offset = tokens.get(start.saturating_sub(1)).map_or(0, |t| t.span.start);
            return Err(syntax(source, offset, "a clause is missing next to the comma"));
        }
        if let Some(last) = out.last_mut() {
            let before = tokens.get(last.0..last.1).unwrap_or_default();
            let word = |i: usize, w: &str| before.get(i).is_some_and(|t| t.is_word(source, w));
            let order_by = word(0, "ORDER") && word(1, "BY") && is_order_item(source, segment);
            // `DROP PARTITION p0, p1`: stands alone, so everything that follows belongs to it.
            let verb = || [REARRANGE.as_slice(), &DATA, &MAINTAIN].concat().iter().any(|verb| word(0, verb));
            if order_by || word(1, "PARTITION") && verb() {
                last.1 = end;
                continue;
            }
        }
        out.push((start, end));
    }
    Ok(out.into_iter().map(|(start, end)| tokens.get(start..end).unwrap_or_default()).collect())
}

/// `name`, `t.name`, `name DESC`
fn is_order_item(source: &str, segment: &[Token]) -> bool {
    let is_name = |t: &Token| t.name(source).is_some() && !is_reserved(source, t);
    let names = match segment.last() {
        Some(last) if segment.len() > 1 && (last.is_word(source, "ASC") || last.is_word(source, "DESC")) => segment.len() - 1,
        _ => segment.len(),
    };
    names % 2 == 1 && segment.iter().take(names).enumerate().all(|(i, t)| if i % 2 == 0 { is_name(t) } else { t.is_symbol(source, ".") })
}

fn is_reserved(source: &str, token: &Token) -> bool {
    token.kind == TokenKind::Word && RESERVED.contains(&token.text(source).to_ascii_uppercase().as_str())
}

/// A cursor over the tokens of one segment.
struct Parser<'a> {
    source: &'a str,
    tokens: &'a [Token],
    at: usize,
    constraint_names: Vec<(Span, String)>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn is_word_at(&self, ahead: usize, word: &str) -> bool {
        self.tokens.get(self.at + ahead).is_some_and(|t| t.is_word(self.source, word))
    }

    fn is_symbol_at(&self, ahead: usize, symbol: &str) -> bool {
        self.tokens.get(self.at + ahead).is_some_and(|t| t.is_symbol(self.source, symbol))
    }

    fn eat(&mut self, word: &str) -> bool {
        let eaten = self.is_word_at(0, word);
        self.at += usize::from(eaten);
        eaten
    }

    fn eat_symbol(&mut self, symbol: &str) -> bool {
        let eaten = self.is_symbol_at(0, symbol);
        self.at += usize::from(eaten);
        eaten
    }

    fn eat_any(&mut self, words: &[&'static str]) -> Option<&'static str> {
        words.iter().find(|w| self.eat(w)).copied()
    }

    /// An error at the cursor.
    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        let end = self.tokens.last().map_or(self.source.len(), |t| t.span.end);
        Err(syntax(self.source, self.peek().map_or(end, |t| t.span.start), message))
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        if self.eat(word) { Ok(()) } else { self.error(format!("{word} was expected")) }
    }

    fn name(&mut self, what: &str) -> Result<String> {
        if let Some(token) = self.peek() {
            if is_reserved(self.source, token) {
                return self.error(format!("{what} was expected, and {} needs backticks to be a name", token.text(self.source)));
            }
            if token.kind == TokenKind::String {
                return self.error(format!("{what} was expected; names are quoted with backticks"));
            }
            if let Some(name) = token.name(self.source)
                && !name.is_empty()
            {
                self.at += 1;
                return Ok(name);
            }
        }
        self.error(format!("{what} was expected"))
    }

    /// A constraint's name, remembered for renaming.
    fn constraint_name(&mut self) -> Result<String> {
        let span = self.peek().map(|t| t.span);
        let name = self.name("the name of a constraint")?;
        if let Some(span) = span {
            self.constraint_names.push((span, name.clone()));
        }
        Ok(name)
    }

    fn end(&self) -> Result<()> {
        if self.at < self.tokens.len() { self.error("the clause was expected to end here") } else { Ok(()) }
    }

    fn skip_rest(&mut self) {
        self.at = self.tokens.len();
    }

    /// Moves past a parenthesized group; the parentheses are balanced.
    fn group(&mut self, what: &str) -> Result<()> {
        if !self.eat_symbol("(") {
            return self.error(format!("{what} in parentheses was expected"));
        }
        let mut depth = 1_usize;
        while let Some(token) = self.peek() {
            if token.is_symbol(self.source, "(") {
                depth += 1;
            } else if token.is_symbol(self.source, ")") {
                depth -= 1;
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        self.error("a parenthesis is not closed")
    }

    /// One clause. `following` is true behind another clause of the same segment: there, without a comma, only partitioning
    /// and further table options may stand.
    fn clause(&mut self, following: bool) -> Result<Clause> {
        if self.is_word_at(0, "PARTITION") && self.is_word_at(1, "BY") {
            self.skip_rest();
            return Ok(Clause::PartitionBy);
        }
        if self.eat("REMOVE") {
            self.expect("PARTITIONING")?;
            self.end()?;
            return Ok(Clause::RemovePartitioning);
        }
        let clause = match following {
            true => match self.table_option()? {
                Some(clause) => return Ok(clause),
                None => return self.error("the clause was expected to end here"),
            },
            false => self.verb()?,
        };
        if !self.is_option(&clause) && !self.at_partitioning() {
            self.end()?;
        }
        Ok(clause)
    }

    fn is_option(&self, clause: &Clause) -> bool {
        matches!(clause, Clause::TableOption { .. })
    }

    /// Whether what follows is the partitioning that may stand behind the last clause.
    fn at_partitioning(&self) -> bool {
        (self.is_word_at(0, "PARTITION") && self.is_word_at(1, "BY"))
            || (self.is_word_at(0, "REMOVE") && self.is_word_at(1, "PARTITIONING"))
    }

    fn verb(&mut self) -> Result<Clause> {
        if self.peek().is_none_or(|t| t.kind != TokenKind::Word) {
            return self.error("a clause begins with a keyword such as ADD, DROP or MODIFY");
        }
        if let Some(clause) = self.partition_verb()? {
            return Ok(clause);
        }
        if self.eat("ADD") {
            return self.add();
        }
        if self.eat("DROP") {
            return self.drop();
        }
        if self.eat("MODIFY") {
            self.eat("COLUMN");
            return Ok(Clause::ModifyColumn(self.column(false)?));
        }
        if self.eat("CHANGE") {
            self.eat("COLUMN");
            let old = self.name("the column's current name")?;
            return Ok(Clause::ChangeColumn { old, new: self.column(false)? });
        }
        if self.eat("ALTER") {
            return self.alter();
        }
        if self.eat("RENAME") {
            return self.rename();
        }
        if self.eat("CONVERT") {
            return self.convert();
        }
        if self.eat("ORDER") {
            self.expect("BY")?;
            if self.peek().is_none() {
                return self.error("a column was expected");
            }
            while self.peek().is_some() && !self.at_partitioning() {
                self.at += 1;
            }
            return Ok(Clause::OrderBy);
        }
        if self.eat("FORCE") {
            return Ok(Clause::Force);
        }
        if self.eat_any(&["ENABLE", "DISABLE"]).is_some() {
            self.expect("KEYS")?;
            return Ok(Clause::Keys);
        }
        if self.eat_any(&["WITH", "WITHOUT"]).is_some() {
            self.expect("VALIDATION")?;
            return Ok(Clause::Validation);
        }
        if self.eat_any(&["DISCARD", "IMPORT"]).is_some() {
            self.expect("TABLESPACE")?;
            return Ok(Clause::Tablespace);
        }
        if self.eat_any(&["SECONDARY_LOAD", "SECONDARY_UNLOAD"]).is_some() {
            return Ok(Clause::SecondaryEngineLoad);
        }
        if let Some(verb) = self.eat_any(&["ALGORITHM", "LOCK"]) {
            self.eat_symbol("=");
            if self.peek().is_none_or(|t| t.kind != TokenKind::Word) {
                return self.error("a value was expected");
            }
            self.at += 1;
            return Ok(if verb == "LOCK" { Clause::Lock } else { Clause::Algorithm });
        }
        match self.table_option()? {
            Some(clause) => Ok(clause),
            None => self.error("this is not an ALTER TABLE clause that Theseus knows"),
        }
    }

    /// `verb PARTITION …`; `None` if it is something else.
    fn partition_verb(&mut self) -> Result<Option<Clause>> {
        if !self.is_word_at(1, "PARTITION") {
            return Ok(None);
        }
        let clause = if let Some(verb) = self.eat_any(&REARRANGE) {
            Clause::RearrangePartition { verb }
        } else if let Some(verb) = self.eat_any(&DATA) {
            Clause::ChangePartitionData { verb }
        } else if let Some(verb) = self.eat_any(&MAINTAIN) {
            Clause::MaintainPartition { verb }
        } else {
            return Ok(None);
        };
        self.at += 1;
        if self.peek().is_none() && !matches!(clause, Clause::RearrangePartition { verb: "REORGANIZE" }) {
            return self.error("a partition was expected");
        }
        self.skip_rest();
        Ok(Some(clause))
    }

    fn drop(&mut self) -> Result<Clause> {
        if self.eat("PRIMARY") {
            self.expect("KEY")?;
            return Ok(Clause::DropPrimaryKey);
        }
        if self.eat_any(&["INDEX", "KEY"]).is_some() {
            return Ok(Clause::DropIndex { name: self.index_name()? });
        }
        if self.eat("FOREIGN") {
            self.expect("KEY")?;
            return Ok(Clause::DropForeignKey { name: self.name("the name of a foreign key")? });
        }
        if self.eat("CHECK") {
            return Ok(Clause::DropCheck { name: self.constraint_name()? });
        }
        if self.eat("CONSTRAINT") {
            return Ok(Clause::DropConstraint { name: self.constraint_name()? });
        }
        self.eat("COLUMN");
        let name = self.name("the name of a column")?;
        let _ = self.eat_any(&["RESTRICT", "CASCADE"]);
        Ok(Clause::DropColumn { name })
    }

    /// `PRIMARY` in backticks is the primary key's name; unquoted it is a reserved word.
    fn index_name(&mut self) -> Result<String> {
        self.name("the name of an index")
    }

    fn alter(&mut self) -> Result<Clause> {
        if self.eat("INDEX") {
            let name = self.index_name()?;
            return match self.eat_any(&["VISIBLE", "INVISIBLE"]) {
                Some(word) => Ok(Clause::AlterIndexVisibility { name, visible: word == "VISIBLE" }),
                None => self.error("VISIBLE or INVISIBLE was expected"),
            };
        }
        if self.eat_any(&["CHECK", "CONSTRAINT"]).is_some() {
            let name = self.constraint_name()?;
            let enforced = !self.eat("NOT");
            self.expect("ENFORCED")?;
            return Ok(Clause::AlterCheck { name, enforced });
        }
        self.eat("COLUMN");
        let name = self.name("the name of a column")?;
        if self.eat("DROP") {
            self.expect("DEFAULT")?;
            return Ok(Clause::AlterColumnDefault { name });
        }
        self.expect("SET")?;
        if let Some(word) = self.eat_any(&["VISIBLE", "INVISIBLE"]) {
            return Ok(Clause::AlterColumnVisibility { name, visible: word == "VISIBLE" });
        }
        self.expect("DEFAULT")?;
        if self.peek().is_none() {
            return self.error("a value was expected");
        }
        while self.peek().is_some() && !self.at_partitioning() {
            self.at += 1;
        }
        Ok(Clause::AlterColumnDefault { name })
    }

    fn rename(&mut self) -> Result<Clause> {
        if self.eat("COLUMN") {
            let old = self.name("the column's current name")?;
            self.expect("TO")?;
            return Ok(Clause::RenameColumn { old, new: self.name("the column's new name")? });
        }
        if self.eat_any(&["INDEX", "KEY"]).is_some() {
            let old = self.index_name()?;
            self.expect("TO")?;
            return Ok(Clause::RenameIndex { old, new: self.index_name()? });
        }
        if self.eat_any(&["TO", "AS"]).is_none() {
            self.eat_symbol("=");
        }
        let mut new = self.name("the table's new name")?;
        if self.eat_symbol(".") {
            new = format!("{new}.{}", self.name("the table's new name")?);
        }
        Ok(Clause::RenameTable { new })
    }

    fn convert(&mut self) -> Result<Clause> {
        self.expect("TO")?;
        self.charset_words()?;
        let charset = self.value()?;
        let collation = if self.eat("COLLATE") { Some(self.value()?) } else { None };
        Ok(Clause::ConvertToCharset { charset, collation })
    }

    /// `CHARACTER SET`, `CHAR SET` or `CHARSET`
    fn charset_words(&mut self) -> Result<()> {
        if self.eat("CHARSET") {
            return Ok(());
        }
        if self.eat_any(&["CHARACTER", "CHAR"]).is_none() {
            return self.error("CHARACTER SET was expected");
        }
        self.expect("SET")
    }

    /// A word, number, name or string as written; a string without its quotes.
    fn value(&mut self) -> Result<String> {
        let Some(token) = self.peek() else { return self.error("a value was expected") };
        let value = match token.kind {
            TokenKind::Symbol => return self.error("a value was expected"),
            TokenKind::String => token.string_value(self.source).unwrap_or_default(),
            TokenKind::QuotedName => token.name(self.source).unwrap_or_default(),
            _ => token.text(self.source).to_owned(),
        };
        self.at += 1;
        Ok(value)
    }

    /// One table option; `None` if there is none at the cursor.
    fn table_option(&mut self) -> Result<Option<Clause>> {
        let defaulted = self.is_word_at(0, "DEFAULT");
        let ahead = usize::from(defaulted);
        let name = if ["CHARACTER", "CHAR"].iter().any(|w| self.is_word_at(ahead, w)) || self.is_word_at(ahead, "CHARSET") {
            self.at += ahead;
            self.charset_words()?;
            "CHARSET".to_owned()
        } else if self.is_word_at(ahead, "COLLATE") {
            self.at += ahead + 1;
            "COLLATE".to_owned()
        } else if defaulted {
            return Ok(None);
        } else if let Some(word) = ["DATA", "INDEX"].iter().find(|w| self.is_word_at(0, w) && self.is_word_at(1, "DIRECTORY")) {
            self.at += 2;
            format!("{word} DIRECTORY")
        } else if let Some(word) = TABLE_OPTIONS.iter().find(|w| self.is_word_at(0, w)) {
            self.at += 1;
            (*word).to_owned()
        } else {
            return Ok(None);
        };
        self.eat_symbol("=");
        let value = if name == "UNION" {
            let from = self.at;
            self.group("a list of tables")?;
            let tokens = self.tokens.get(from..self.at).unwrap_or_default();
            tokens.iter().map(|t| t.text(self.source)).collect()
        } else {
            self.value()?
        };
        Ok(Some(Clause::TableOption { name, value }))
    }
}
