//! Statements in the log: what frames a transaction, and what may change the original or the ghost without rows. Pure.
//!
//! Errs on the side of looking once more: a name in quotes of any kind counts, in any case.

use crate::engine::rows::inbox::StreamNotice;
use crate::sql::token::{Grammar, Token, TokenKind, tokenize_as};

/// What a statement in the log is.
#[derive(Debug, PartialEq, Eq)]
pub enum Statement {
    /// BEGIN.
    Begin,
    /// XA START or XA END.
    XaBegin,
    /// COMMIT of a transaction without an engine that has its own.
    Commit,
    /// ROLLBACK, logged only where something could not be rolled back.
    Rollback,
    /// The end of a prepared transaction, by its name.
    XaCommit(String),
    /// The same for a rollback.
    XaRollback(String),
    /// SAVEPOINT and the like, inside a transaction.
    Within,
    /// Rows changed by text.
    Dml,
    /// DDL, and what is like it.
    Other,
}

/// Tells what a statement is by its first words.
pub(super) fn classify(text: &str) -> Statement {
    let text = strip_comments(text);
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default().trim_end_matches(';').to_ascii_uppercase();
    let second = words.next().unwrap_or_default().to_ascii_uppercase();
    let rest = || words.clone().collect::<String>().to_ascii_lowercase();
    match (first.as_str(), second.as_str()) {
        ("BEGIN", _) | ("START", "TRANSACTION") => Statement::Begin,
        ("XA", "START" | "BEGIN" | "END") => Statement::XaBegin,
        ("COMMIT", _) => Statement::Commit,
        ("ROLLBACK", "") => Statement::Rollback,
        ("SAVEPOINT" | "RELEASE", _) | ("ROLLBACK", _) => Statement::Within,
        ("XA", "COMMIT") => Statement::XaCommit(rest().trim_end_matches("onephase").to_owned()),
        ("XA", "ROLLBACK") => Statement::XaRollback(rest()),
        ("INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "WITH" | "SELECT" | "DO" | "CALL" | "IMPORT" | "(SELECT", _) => {
            Statement::Dml
        }
        _ => Statement::Other,
    }
}

/// Leading comments, which clients put in front of statements.
fn strip_comments(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        match text.strip_prefix("/*").filter(|t| !t.starts_with('!')).and_then(|t| t.split_once("*/")) {
            Some((_, rest)) => text = rest,
            None => return text,
        }
    }
}

/// What a statement names, and its keywords.
struct Words {
    names: Vec<String>,
    keywords: Vec<String>,
}

/// `None`: the text is not understood.
fn words(text: &str) -> Option<Words> {
    // Whatever the grammar of the session was: under another one a name may look like a string, or lie inside of one.
    let readings: Vec<Vec<Token>> = Grammar::ALL.into_iter().filter_map(|grammar| tokenize_as(text, grammar).ok()).collect();
    let first = readings.first()?;
    let name = |t: &Token| t.name(text).or_else(|| t.string_value(text)).map(|n| n.to_lowercase());
    let keyword = |t: &&Token| t.kind == TokenKind::Word;
    let mut keywords: Vec<String> = first.iter().filter(keyword).map(|t| t.text(text).to_uppercase()).collect();
    keywords.extend(readings.iter().skip(1).flatten().filter(keyword).map(|t| t.text(text).to_uppercase()));
    Some(Words { names: readings.iter().flatten().filter_map(name).collect(), keywords })
}

/// Whether rows that a statement changed by text may be the original's.
pub fn may_write(text: &str, schema: &str, database: &str, table: &str) -> bool {
    let Some(words) = words(text) else { return true };
    let named = |name: &str| words.names.contains(&name.to_lowercase());
    if schema.to_lowercase() != database.to_lowercase() && !named(database) {
        return false;
    }
    // A function that is logged by its call may write anything.
    let by_call = matches!(words.keywords.first().map(String::as_str), Some("SELECT" | "DO" | "CALL"));
    named(table) || by_call
}

/// What DDL means for the migration; `None`: nothing.
pub fn ddl(text: &str, schema: &str, database: &str, table: &str, ghost: &str) -> Option<StreamNotice> {
    let Some(words) = words(text) else { return Some(StreamNotice::Ddl) };
    let named = |name: &str| words.names.contains(&name.to_lowercase());
    let says = |word: &str| words.keywords.iter().any(|w| w == word);
    let first = words.keywords.first().map_or("", String::as_str);
    if first == "DROP" && (says("DATABASE") || says("SCHEMA")) && named(database) {
        return Some(StreamNotice::Replaced);
    }
    if schema.to_lowercase() != database.to_lowercase() && !named(database) {
        return None;
    }
    let changes = matches!(first, "ALTER" | "DROP" | "TRUNCATE" | "RENAME") || first == "CREATE" && says("INDEX");
    if named(table) {
        if keeps_rows(text) {
            return Some(StreamNotice::Rebuilt);
        }
        if first == "TRUNCATE" {
            return Some(StreamNotice::Truncated);
        }
        // These change rows or give the name to another table; the definition and, of a partitioned table, the id do not tell.
        // RENAME away and back hides what was written in between, and a column that is dropped and added again has lost its values.
        let certain = changes && ["TRUNCATE", "RENAME", "EXCHANGE", "DISCARD", "IMPORT"].iter().any(|w| says(w));
        return Some(if certain || first == "DROP" && !says("INDEX") && !says("TRIGGER") || first == "ALTER" && drops_values(text) {
            StreamNotice::Replaced
        } else {
            StreamNotice::Ddl
        });
    }
    (named(ghost) && changes).then_some(StreamNotice::GhostWritten)
}

/// Whether a statement can do no more than rebuild a table, or read it: its definition and its rows stay.
fn keeps_rows(text: &str) -> bool {
    // In whatever grammar it is read.
    Grammar::ALL.into_iter().all(|grammar| tokenize_as(text, grammar).is_ok_and(|tokens| are_harmless(text, &tokens)))
}

fn are_harmless(text: &str, tokens: &[Token]) -> bool {
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|t| t.is_word(text, word));
    if ["OPTIMIZE", "ANALYZE", "REPAIR", "CHECK", "FLUSH"].iter().any(|word| is(0, word)) {
        return true;
    }
    if !is(0, "ALTER") || !is(1, "TABLE") {
        return false;
    }
    let qualified = tokens.get(3).is_some_and(|t| t.is_symbol(text, "."));
    let clauses = tokens.get(if qualified { 5 } else { 3 }..).unwrap_or_default();
    let word = |at: usize, words: &[&str]| clauses.get(at).is_some_and(|t| words.iter().any(|w| t.is_word(text, w)));
    if word(0, &["ANALYZE", "CHECK", "OPTIMIZE", "REBUILD", "REPAIR"]) && word(1, &["PARTITION"]) {
        return true;
    }
    // FORCE and ENGINE=InnoDB, with how they are to be done.
    const HARMLESS: &[&str] =
        &["FORCE", "ENGINE", "INNODB", "ALGORITHM", "LOCK", "INPLACE", "INSTANT", "COPY", "DEFAULT", "NONE", "SHARED", "EXCLUSIVE"];
    let sign = |t: &Token| t.is_symbol(text, "=") || t.is_symbol(text, ",");
    !clauses.is_empty() && clauses.iter().all(|t| sign(t) || HARMLESS.iter().any(|w| t.is_word(text, w)))
}

/// Whether an ALTER drops something that holds values: a column or a partition, and not an index or a constraint.
fn drops_values(text: &str) -> bool {
    let holds_none = ["INDEX", "KEY", "PRIMARY", "FOREIGN", "CONSTRAINT", "CHECK", "DEFAULT"];
    Grammar::ALL.into_iter().filter_map(|grammar| tokenize_as(text, grammar).ok()).any(|tokens| {
        tokens.iter().enumerate().any(|(at, token)| {
            token.is_word(text, "DROP") && !tokens.get(at + 1).is_some_and(|next| holds_none.iter().any(|word| next.is_word(text, word)))
        })
    })
}

/// `CREATE TABLE … START TRANSACTION`: how CREATE TABLE … SELECT is logged since 8.0.21, with its rows behind it.
pub(super) fn opens_transaction(text: &str) -> bool {
    let text = text.trim_end().to_ascii_uppercase();
    text.ends_with("START TRANSACTION")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_apart() {
        let cases = [
            ("BEGIN", Statement::Begin),
            ("COMMIT", Statement::Commit),
            ("ROLLBACK", Statement::Rollback),
            ("ROLLBACK TO `sp`", Statement::Within),
            ("SAVEPOINT `a`", Statement::Within),
            ("XA START X'61',X'',1", Statement::XaBegin),
            ("XA COMMIT X'61',X'',1", Statement::XaCommit("x'61',x'',1".into())),
            ("XA COMMIT X'61',X'',1 ONE PHASE", Statement::XaCommit("x'61',x'',1".into())),
            ("XA ROLLBACK X'61',X'',1", Statement::XaRollback("x'61',x'',1".into())),
            ("/* app */ update t set a=1", Statement::Dml),
            ("ALTER TABLE t ADD b INT", Statement::Other),
            ("TRUNCATE t", Statement::Other),
            ("", Statement::Other),
        ];
        for (text, want) in cases {
            assert_eq!(classify(text), want, "{text}");
        }
    }

    #[test]
    fn ddl_is_judged_by_what_it_names() {
        let cases = [
            ("ALTER TABLE t ADD b INT", "d", Some(StreamNotice::Ddl)),
            ("alter table `T` add index (b)", "d", Some(StreamNotice::Ddl)),
            ("ALTER TABLE d.t ADD b INT", "other", Some(StreamNotice::Ddl)),
            ("ALTER TABLE t ADD b INT", "other", None),
            ("ALTER TABLE t2 ADD t3 INT", "d", None),
            ("ALTER TABLE \"t\" ADD b INT", "d", Some(StreamNotice::Ddl)),
            ("CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1", "d", Some(StreamNotice::Ddl)),
            ("TRUNCATE TABLE t", "d", Some(StreamNotice::Truncated)),
            ("TRUNCATE `t`", "d", Some(StreamNotice::Truncated)),
            ("OPTIMIZE TABLE t", "d", Some(StreamNotice::Rebuilt)),
            ("OPTIMIZE TABLE other, `t`", "d", Some(StreamNotice::Rebuilt)),
            ("analyze table d.t", "d", Some(StreamNotice::Rebuilt)),
            ("ALTER TABLE t FORCE", "d", Some(StreamNotice::Rebuilt)),
            ("ALTER TABLE `d`.`t` ENGINE=InnoDB, ALGORITHM=INPLACE, LOCK=NONE", "d", Some(StreamNotice::Rebuilt)),
            ("ALTER TABLE t ENGINE=MyISAM", "d", Some(StreamNotice::Ddl)),
            ("ALTER TABLE t FORCE, MODIFY a INT", "d", Some(StreamNotice::Ddl)),
            ("ALTER TABLE t", "d", Some(StreamNotice::Ddl)),
            ("ALTER TABLE t DROP INDEX i, DROP CHECK c, ALTER a DROP DEFAULT", "d", Some(StreamNotice::Ddl)),
            ("ALTER TABLE t DROP COLUMN a, ADD COLUMN a INT", "d", Some(StreamNotice::Replaced)),
            ("ALTER TABLE t DROP `index`", "d", Some(StreamNotice::Replaced)),
            ("DROP INDEX i ON t", "d", Some(StreamNotice::Ddl)),
            ("RENAME TABLE t TO away", "d", Some(StreamNotice::Replaced)),
            ("RENAME TABLE away TO t", "d", Some(StreamNotice::Replaced)),
            ("DROP TABLE IF EXISTS `t`", "d", Some(StreamNotice::Replaced)),
            ("DROP DATABASE d", "", Some(StreamNotice::Replaced)),
            ("DROP DATABASE e", "", None),
            ("ALTER TABLE p EXCHANGE PARTITION p0 WITH TABLE t", "d", Some(StreamNotice::Replaced)),
            ("ALTER TABLE t TRUNCATE PARTITION p0", "d", Some(StreamNotice::Replaced)),
            ("ALTER TABLE t ANALYZE PARTITION p0", "d", Some(StreamNotice::Rebuilt)),
            ("ALTER TABLE t DROP PARTITION p0", "d", Some(StreamNotice::Replaced)),
            ("CREATE TABLE x LIKE t", "d", Some(StreamNotice::Ddl)),
            ("TRUNCATE _t_gho", "d", Some(StreamNotice::GhostWritten)),
            ("CREATE TABLE x LIKE _t_gho", "d", None),
            ("CREATE INDEX i ON _t_gho (a)", "d", Some(StreamNotice::GhostWritten)),
            ("DROP TABLE 'unended", "d", Some(StreamNotice::Ddl)),
        ];
        for (text, schema, want) in cases {
            assert_eq!(ddl(text, schema, "d", "t", "_t_gho"), want, "{text}");
        }
    }

    #[test]
    fn text_that_may_change_rows() {
        let cases = [
            ("UPDATE t SET a = 1", "d", true),
            ("UPDATE d.t SET a = 1", "e", true),
            ("UPDATE t SET a = 1", "e", false),
            ("UPDATE other SET a = 't'", "d", true),
            ("UPDATE other SET a = 1", "d", false),
            ("SELECT `d`.`f`(1)", "d", true),
            ("SELECT `e`.`f`(1)", "e", false),
        ];
        for (text, schema, want) in cases {
            assert_eq!(may_write(text, schema, "d", "t"), want, "{text}");
        }
        assert!(opens_transaction("CREATE TABLE `x` (`a` int) START TRANSACTION"));
        assert!(!opens_transaction("CREATE TABLE x (a INT)"));
    }
}
