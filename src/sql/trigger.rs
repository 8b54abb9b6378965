//! Triggers as SHOW CREATE TRIGGER gives them, and the statements that make them again on another table, under another name. Pure.

use super::foreign_key::TableName;
use super::names::{MAX_IDENTIFIER, shortened, stands_in};
use super::quote;
use super::token::{Grammar, Token, TokenKind, tokenize_as};
use serde::{Deserialize, Serialize};

/// A trigger with everything that it is evaluated in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    pub name: String,
    /// `BEFORE INSERT`, …
    pub moment: String,
    /// As it is written: `` `app`@`%` ``.
    pub definer: String,
    /// What follows FOR EACH ROW, to the letter.
    pub body: String,
    /// The session's that made it, and that it runs in.
    pub sql_mode: String,
    pub character_set_client: String,
    pub collation_connection: String,
    /// The schema's collation when it was made.
    pub database_collation: String,
}

/// What SHOW CREATE TRIGGER tells beside the statement.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    pub sql_mode: &'a str,
    pub character_set_client: &'a str,
    pub collation_connection: &'a str,
    pub database_collation: &'a str,
}

impl Trigger {
    /// Reads a trigger's statement; `None`: it is not understood.
    pub fn parse(statement: &str, settings: Settings<'_>) -> Option<Self> {
        let grammar = Grammar {
            ansi_quotes: settings.sql_mode.split(',').any(|mode| mode == "ANSI_QUOTES"),
            no_backslash_escapes: settings.sql_mode.split(',').any(|mode| mode == "NO_BACKSLASH_ESCAPES"),
        };
        let tokens: Vec<Token> = tokenize_as(statement, grammar).ok()?;
        let tokens = tokens.as_slice();
        let word = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is_word(statement, word));
        let symbol = |at: usize, symbol: &str| tokens.get(at).is_some_and(|token| token.is_symbol(statement, symbol));
        if !word(0, "CREATE") || !word(1, "DEFINER") || !symbol(2, "=") {
            return None;
        }
        let mut at = (3..tokens.len()).find(|at| word(*at, "TRIGGER"))?;
        let definer = statement.get(tokens.get(3)?.span.start..tokens.get(at - 1)?.span.end)?.to_owned();
        at += 1;
        if word(at, "IF") {
            at += 3;
        }
        // The last part of a name that may have its schema before it.
        let name = |at: &mut usize| {
            if symbol(*at + 1, ".") {
                *at += 2;
            }
            let name = tokens.get(*at)?.name(statement);
            *at += 1;
            name
        };
        let own = name(&mut at)?;
        let moment = format!("{} {}", tokens.get(at)?.text(statement), tokens.get(at + 1)?.text(statement)).to_uppercase();
        at += 2;
        if !word(at, "ON") {
            return None;
        }
        at += 1;
        name(&mut at)?;
        if !word(at, "FOR") || !word(at + 1, "EACH") || !word(at + 2, "ROW") {
            return None;
        }
        let mut end = tokens.get(at + 2)?.span.end;
        at += 3;
        if (word(at, "FOLLOWS") || word(at, "PRECEDES")) && tokens.get(at + 1)?.kind != TokenKind::Symbol {
            at += 1;
            name(&mut at)?;
            end = tokens.get(at - 1)?.span.end;
        }
        Some(Self {
            name: own,
            moment,
            definer,
            body: statement.get(end..)?.trim().to_owned(),
            sql_mode: settings.sql_mode.to_owned(),
            character_set_client: settings.character_set_client.to_owned(),
            collation_connection: settings.collation_connection.to_owned(),
            database_collation: settings.database_collation.to_owned(),
        })
    }

    /// What it is called while its name is taken.
    pub fn passing_name(&self, ghost: &str) -> String {
        shortened(&format!("{ghost}_tr_{}", self.name), MAX_IDENTIFIER)
    }

    /// The statements that make it under this name on this table, in a session whose own settings they leave changed. Nothing may follow in the
    /// same message: the server takes a `;` behind the body for a part of it (9.7.4), so that it could not be made again.
    pub fn create(&self, name: &str, on: &TableName) -> String {
        format!(
            "SET SESSION sql_mode={}, character_set_client={}, collation_connection={}; CREATE DEFINER={} TRIGGER {} {} ON {} FOR EACH ROW {}",
            quote::string(&self.sql_mode),
            self.character_set_client,
            self.collation_connection,
            self.definer,
            quote::qualified(&on.schema, name),
            self.moment,
            on.quoted(),
            self.body
        )
    }

    /// Whether its text is the same bytes in the character set that it was written in as in ours.
    pub fn is_readable(&self) -> bool {
        self.body.is_ascii() && self.definer.is_ascii() || self.character_set_client.starts_with("utf8")
    }

    /// Which of these columns it names, if any: as a word of its own, or quoted. Pure, and on the careful side.
    pub fn mentions<'a>(&self, columns: &'a [String]) -> Option<&'a str> {
        columns.iter().map(String::as_str).find(|column| stands_in(&self.body, column))
    }
}

/// The statement that drops a trigger.
pub fn drop_statement(schema: &str, name: &str) -> String {
    format!("DROP TRIGGER IF EXISTS {}", quote::qualified(schema, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings<'_> = Settings {
        sql_mode: "STRICT_TRANS_TABLES",
        character_set_client: "utf8mb4",
        collation_connection: "utf8mb4_bin",
        database_collation: "utf8mb4_bin",
    };

    #[test]
    fn the_body_is_kept_to_the_letter() {
        for header in [
            "CREATE DEFINER=`ro``ot`@`%` TRIGGER `ta` AFTER INSERT ON `t` FOR EACH ROW ",
            "CREATE DEFINER=`ro``ot`@`%` TRIGGER IF NOT EXISTS `d`.`ta` after insert ON `d`.`t` FOR EACH ROW ",
            "CREATE DEFINER=`ro``ot`@`%` /* x */ TRIGGER ta AFTER INSERT ON d.t FOR EACH ROW FOLLOWS `other` ",
        ] {
            let body = "BEGIN INSERT INTO audit VALUES ('FOR EACH ROW; -- ', NEW.`a`); /* x */ END";
            let trigger = Trigger::parse(&format!("{header}{body}"), SETTINGS).unwrap_or_else(|| panic!("{header}"));
            assert_eq!((trigger.name.as_str(), trigger.moment.as_str(), trigger.body.as_str()), ("ta", "AFTER INSERT", body), "{header}");
            assert!(trigger.definer.starts_with("`ro``ot`@`%`"), "{}", trigger.definer);
        }
        assert_eq!(Trigger::parse("CREATE TABLE t (a INT)", SETTINGS), None);
    }

    #[test]
    fn it_is_made_again_elsewhere() {
        let trigger =
            Trigger::parse("CREATE DEFINER=`a`@`b` TRIGGER `x` BEFORE UPDATE ON `t` FOR EACH ROW SET NEW.a = 1", SETTINGS).unwrap();
        assert_eq!(
            trigger.create(&trigger.passing_name("_t_gho"), &TableName::new("d", "_t_gho")),
            "SET SESSION sql_mode='STRICT_TRANS_TABLES', character_set_client=utf8mb4, collation_connection=utf8mb4_bin; \
             CREATE DEFINER=`a`@`b` TRIGGER `d`.`_t_gho_tr_x` BEFORE UPDATE ON `d`.`_t_gho` FOR EACH ROW SET NEW.a = 1"
        );
        assert!(Trigger { name: "y".repeat(64), ..trigger }.passing_name("_t_gho").chars().count() <= 64);
    }
}
