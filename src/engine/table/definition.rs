//! What becomes of the definition: which clauses are accepted, the text that two definitions are compared by, and the empty clone.
use super::inspector::Inspected;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::MigrationSpec;
use crate::mysql::session::SHORT;
use crate::mysql::{MySqlError, Purpose, ServerValues, Session};
use crate::sql::alter::{Alter, AlterError};
use crate::sql::names::TableNames;
use crate::sql::token::Grammar;
use crate::sql::{create, quote};

/// Parses the ALTER and refuses what a migration must not do, before the server's grammar is known: see [`check_alter_as`]. Pure.
///
/// # Errors
/// [`Reason::AlterNotSupported`] or [`Reason::ForeignKeys`] with the clause.
pub fn check_alter(text: &str) -> Result<Alter, EngineError> {
    acceptable(Alter::parse_as_any(text))
}

/// The same as the server's clients write it (`sql_mode`: ANSI_QUOTES, NO_BACKSLASH_ESCAPES). Pure.
///
/// # Errors
/// As [`check_alter`].
pub fn check_alter_as(text: &str, grammar: Grammar) -> Result<Alter, EngineError> {
    acceptable(Alter::parse_as(text, grammar))
}

pub(crate) fn acceptable(parsed: Result<Alter, AlterError>) -> Result<Alter, EngineError> {
    let alter =
        parsed.map_err(|error| EngineError::terminal(Reason::AlterNotSupported, &format!("spec.alter: {error}. Nothing was touched")))?;
    let refusals = alter.refusals();
    if !refusals.is_empty() {
        let all: Vec<String> = refusals.iter().map(|r| r.message.clone()).collect();
        return Err(EngineError::terminal(Reason::AlterNotSupported, &format!("spec.alter: {}. Nothing was touched", all.join("; "))));
    }
    Ok(alter)
}

/// The definition without name and AUTO_INCREMENT.
///
/// # Errors
/// The server's text is not understood.
pub fn normalise(show_create: &str) -> Result<String, EngineError> {
    create::normalise_definition(show_create).map_err(not_readable)
}

/// The server's text is not understood, or rules a migration out.
pub(crate) fn not_readable(error: create::CreateError) -> EngineError {
    EngineError::terminal(Reason::TableNotSupported, &error.to_string())
}

/// Makes an empty clone of the original, and returns the clauses as they apply to it.
///
/// # Errors
/// The server's; a CHECK constraint whose name cannot be changed.
pub(crate) async fn make_clone(
    spec: &MigrationSpec,
    alter: &Alter,
    values: &ServerValues,
    names: &TableNames,
    original: &Inspected,
    control: &mut Session,
) -> Result<String, EngineError> {
    let ghost_name = quote::qualified(&spec.database, &names.ghost);
    let checks = create::check_constraints(&original.show_create).map_err(not_readable)?;
    let renamed = create::ghost_check_names(&spec.table, &names.ghost, &names.old, &checks).map_err(not_readable)?;
    if checks.is_empty() {
        let sql = format!("CREATE TABLE {ghost_name} LIKE {}", quote::qualified(&spec.database, &spec.table));
        control.run_as(Purpose::Definition(values), "create the ghost table", SHORT, &sql).await.map_err(|e| needs_key(spec, e))?;
    } else {
        // CREATE TABLE … LIKE would number the CHECK constraints again.
        let text = create::rename_for_ghost(&original.show_create, &names.ghost, &renamed).map_err(not_readable)?;
        let sql = format!("USE {}; {text}", quote::identifier(&spec.database));
        control.run_as(Purpose::Definition(values), "create the ghost table", SHORT, &sql).await.map_err(|e| needs_key(spec, e))?;
    }
    Ok(alter.for_clone(&renamed, &original.foreign_key_names()))
}

/// A table without a primary key cannot be changed at all where the server wants one, natively neither.
pub(crate) fn needs_key(spec: &MigrationSpec, error: MySqlError) -> EngineError {
    if error.code != crate::mysql::codes::TABLE_WITHOUT_PK {
        return error.into();
    }
    EngineError::terminal(
        Reason::ServerNotSupported,
        &format!(
            "{} has no primary key, and the server refuses to create or alter such a table (sql_require_primary_key=ON), natively too. Nothing is left behind; SET GLOBAL sql_require_primary_key=OFF, add the primary key, and set it ON again",
            quote::qualified(&spec.database, &spec.table)
        ),
    )
}
