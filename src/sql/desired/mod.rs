//! Declared instead of told: the whole `CREATE TABLE` that a table is to have, and the clauses that lead there. Pure.
//!
//! [`Statement`] reads what the user wrote: one CREATE TABLE of this one table, and nothing that a migration does not decide. The server makes an
//! empty table of it, and *its* reading of that table ([`Shown`]) is compared with its reading of the present one: [`derive()`] gives the clauses,
//! [`difference`] says what is still different once they were tried. What a clause loses is named ([`Derived::destructive`]); that a column is
//! another one under a new name is never guessed.
//!
//! Relied upon (<https://dev.mysql.com/doc/refman/8.4/en/alter-table.html>): names in clauses mean the table before; columns that stay keep their
//! order, and those that are added or moved are put in their places in the order of the clauses; indexes that stay come before those that are added,
//! then the server sorts them by kind and leaves the order otherwise.

mod columns;
mod diff;
mod shown;
mod statement;
#[cfg(test)]
mod tests;

pub use diff::{Derived, Difference, derive, difference};
pub use shown::Shown;
pub use statement::{DesiredError, DesiredForeignKey, Statement};

use super::token::{Grammar, TokenKind, tokenize};

/// Clauses in the server's own grammar, which they are derived in, as its clients write them: only what a backslash is may differ, since the server
/// quotes names with backticks and strings with `'`.
pub fn in_grammar(clauses: &str, grammar: Grammar) -> String {
    if !grammar.no_backslash_escapes {
        return clauses.to_owned();
    }
    let Ok(tokens) = tokenize(clauses) else { return clauses.to_owned() };
    let strings = tokens.iter().filter(|token| token.kind == TokenKind::String);
    let strings: Vec<_> =
        strings.filter_map(|token| Some((token.span, format!("'{}'", token.string_value(clauses)?.replace('\'', "''"))))).collect();
    super::create::replace(clauses, &strings)
}
