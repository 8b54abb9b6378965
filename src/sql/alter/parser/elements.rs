//! What an ADD clause adds, and column definitions wherever they stand.

use super::{Parser, Result};
use crate::sql::alter::clause::{AddedIndex, Clause, ColumnAttributes, ColumnSpec, IndexKind, Position, TableElement};
use crate::sql::table::IndexPart;
use crate::sql::token::TokenKind;

/// What may follow the key parts of an index.
const INDEX_OPTIONS: [&str; 8] =
    ["KEY_BLOCK_SIZE", "USING", "WITH", "COMMENT", "VISIBLE", "INVISIBLE", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE"];

impl Parser<'_> {
    pub(super) fn add(&mut self) -> Result<Clause> {
        let column = self.eat("COLUMN");
        if self.is_symbol_at(0, "(") {
            self.at += 1;
            let mut elements = Vec::new();
            loop {
                elements.push(self.element(true)?);
                if self.eat_symbol(",") {
                    continue;
                }
                if self.eat_symbol(")") {
                    return Ok(Clause::Add { elements });
                }
                return self.error("a comma or a closing parenthesis was expected");
            }
        }
        let element = if column { TableElement::Column(self.column(false)?) } else { self.element(false)? };
        Ok(Clause::Add { elements: vec![element] })
    }

    /// A column, index or constraint, in a list or alone.
    fn element(&mut self, in_list: bool) -> Result<TableElement> {
        if self.eat("CONSTRAINT") {
            let named = ["PRIMARY", "UNIQUE", "FOREIGN", "CHECK"].iter().all(|w| !self.is_word_at(0, w));
            let before = self.constraint_names.len();
            let name = if named { Some(self.constraint_name()?) } else { None };
            if !self.is_word_at(0, "CHECK") {
                // Not a check: its name is not to be rewritten.
                self.constraint_names.truncate(before);
            }
            if ["PRIMARY", "UNIQUE", "FOREIGN", "CHECK"].iter().all(|w| !self.is_word_at(0, w)) {
                return self.error("PRIMARY KEY, UNIQUE, FOREIGN KEY or CHECK was expected");
            }
            return self.constraint(name);
        }
        if ["PRIMARY", "UNIQUE", "FOREIGN", "CHECK"].iter().any(|w| self.is_word_at(0, w)) {
            return self.constraint(None);
        }
        if self.eat_any(&["INDEX", "KEY"]).is_some() {
            return self.index(false, IndexKind::BTree, None);
        }
        if let Some(kind) = self.eat_any(&["FULLTEXT", "SPATIAL"]) {
            let _ = self.eat_any(&["INDEX", "KEY"]);
            return self.index(false, if kind == "SPATIAL" { IndexKind::Spatial } else { IndexKind::FullText }, None);
        }
        Ok(TableElement::Column(self.column(in_list)?))
    }

    fn constraint(&mut self, name: Option<String>) -> Result<TableElement> {
        if self.eat("PRIMARY") {
            self.expect("KEY")?;
            // `PRIMARY KEY USING BTREE (…)`; a name is allowed there and ignored by the server.
            return match self.index(true, IndexKind::BTree, name)? {
                TableElement::Index(index) => Ok(TableElement::PrimaryKey { parts: index.parts }),
                other => Ok(other),
            };
        }
        if self.eat("UNIQUE") {
            let _ = self.eat_any(&["INDEX", "KEY"]);
            return self.index(true, IndexKind::BTree, name);
        }
        if self.eat("FOREIGN") {
            self.expect("KEY")?;
            while self.peek().is_some() && !self.is_symbol_at(0, ",") && !self.is_symbol_at(0, ")") && !self.at_partitioning() {
                if self.is_symbol_at(0, "(") {
                    self.group("the columns")?;
                } else {
                    self.at += 1;
                }
            }
            return Ok(TableElement::ForeignKey { name });
        }
        self.expect("CHECK")?;
        self.group("an expression")?;
        if self.is_word_at(0, "NOT") && self.is_word_at(1, "ENFORCED") {
            self.at += 2;
        } else {
            self.eat("ENFORCED");
        }
        Ok(TableElement::Check { name })
    }

    /// `[name] [USING …] (parts) [options]`
    fn index(&mut self, unique: bool, kind: IndexKind, constraint: Option<String>) -> Result<TableElement> {
        let named = !self.is_symbol_at(0, "(") && !self.is_word_at(0, "USING");
        let own = if named { Some(self.name("the name of an index")?) } else { None };
        if self.eat_any(&["USING", "TYPE"]).is_some() {
            self.name("BTREE or HASH")?;
        }
        if !self.eat_symbol("(") {
            return self.error("the columns of the index in parentheses were expected");
        }
        let mut parts = Vec::new();
        loop {
            parts.push(self.index_part()?);
            if self.eat_symbol(",") {
                continue;
            }
            if self.eat_symbol(")") {
                break;
            }
            return self.error("a comma or a closing parenthesis was expected");
        }
        while let Some(option) = INDEX_OPTIONS.iter().find(|w| self.is_word_at(0, w)) {
            self.at += 1;
            match *option {
                "VISIBLE" | "INVISIBLE" => continue,
                "WITH" => self.expect("PARSER")?,
                _ => {
                    self.eat_symbol("=");
                }
            }
            if self.peek().is_none_or(|t| t.kind == TokenKind::Symbol) {
                return self.error("a value was expected");
            }
            self.at += 1;
        }
        Ok(TableElement::Index(AddedIndex { name: own.or(constraint), unique, kind, parts }))
    }

    fn index_part(&mut self) -> Result<IndexPart> {
        let (mut column, mut prefix) = (None, None);
        if self.is_symbol_at(0, "(") {
            self.group("an expression")?;
        } else {
            column = Some(self.name("a column")?);
            if self.eat_symbol("(") {
                prefix = self.peek().and_then(|t| t.text(self.source).parse().ok());
                self.at += 1;
                if prefix.is_none() || !self.eat_symbol(")") {
                    self.at = self.at.saturating_sub(1);
                    return self.error("a prefix length in parentheses was expected");
                }
            }
        }
        let descending = self.eat_any(&["ASC", "DESC"]) == Some("DESC");
        Ok(IndexPart { column, prefix, descending })
    }

    /// `name definition [FIRST|AFTER name]`, up to the end of the segment, or in a list to its comma or parenthesis.
    pub(super) fn column(&mut self, in_list: bool) -> Result<ColumnSpec> {
        if self.is_word_at(0, "IF") && (self.is_word_at(1, "NOT") || self.is_word_at(1, "EXISTS")) {
            return self.error("MySQL has no IF [NOT] EXISTS for columns");
        }
        let name = self.name("the name of a column")?;
        if self.is_symbol_at(0, ".") {
            return self.error("write the column's name without its table");
        }
        let mut attributes = ColumnAttributes::default();
        let mut position = None;
        let first = self.at;
        while let Some(token) = self.peek() {
            if self.is_symbol_at(0, "(") {
                self.group("…")?;
                continue;
            }
            if self.is_symbol_at(0, ")") || self.is_symbol_at(0, ",") || self.at_partitioning() {
                break;
            }
            if self.at > first && !in_list && self.eat("FIRST") {
                position = Some(Position::First);
                break;
            }
            if self.at > first && !in_list && self.eat("AFTER") {
                position = Some(Position::After(self.name("the column after which this one goes")?));
                break;
            }
            self.at += 1;
            if token.kind != TokenKind::Word {
                continue;
            }
            match token.text(self.source).to_ascii_uppercase().as_str() {
                "AUTO_INCREMENT" => attributes.auto_increment = true,
                "UNIQUE" => {
                    attributes.unique = true;
                    self.eat("KEY");
                }
                "PRIMARY" | "KEY" => {
                    attributes.primary = true;
                    self.eat("KEY");
                }
                "GENERATED" => attributes.generated = true,
                "AS" if self.is_symbol_at(0, "(") => attributes.generated = true,
                "CHECK" => attributes.check = true,
                "REFERENCES" => attributes.references = true,
                "CONSTRAINT" if !self.is_word_at(0, "CHECK") => {
                    self.constraint_name()?;
                }
                // `COMMENT 'x'`, `COLLATE c`, `DEFAULT x`: the value is not a keyword.
                "COMMENT" | "COLLATE" | "CHARSET" => self.at += usize::from(self.peek().is_some_and(|t| t.kind != TokenKind::Symbol)),
                _ => {}
            }
        }
        if self.at == first {
            return self.error("the definition of the column was expected");
        }
        if !in_list && (self.is_symbol_at(0, ")") || self.is_symbol_at(0, ",")) {
            return self.error("the clause was expected to end here");
        }
        Ok(ColumnSpec { name, position, attributes })
    }
}
