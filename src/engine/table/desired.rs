//! `spec.desired`: the clauses that lead to a whole CREATE TABLE, by the server's own reading of it.
//!
//! The server makes an empty table of the definition, and shows it; [`crate::sql::desired`] compares that with what it shows of the table. The
//! clauses are then tried on an empty clone, which must come out as the definition to the letter, the order of the indexes included. The scratch
//! tables have the ghost's name, one after the other: whoever calls owns that name, and drops what is left of an error.
//!
//! Relied upon: names of CHECK constraints are unique in a schema, so the scratch table's are numbered; a foreign key locks the table that it refers
//! to, so it has none, and what they say is compared as written. A temporary table is seen by its session alone, and is not logged in row format
//! (<https://dev.mysql.com/doc/refman/8.4/en/create-temporary-table.html>).

use super::definition::{acceptable, check_alter, make_clone, not_readable};
use super::inspector::{self, Inspected};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{Desired, MigrationSpec};
use crate::mysql::session::SHORT;
use crate::mysql::{MySqlError, Purpose, ServerValues, Session};
use crate::sql::alter::Alter;
use crate::sql::desired::{self, Derived, DesiredError, Difference, Shown, Statement};
use crate::sql::names::TableNames;
use crate::sql::{create, quote};

/// Where the scratch tables are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the schema, under a name that is the migration's.
    Schema,
    /// For this session alone. Not every definition can be a temporary table: FULLTEXT indexes and partitions cannot.
    Session,
}

/// Refuses what can be refused by the text alone: of the clauses, or of the definition. Pure.
///
/// # Errors
/// As [`check_alter`], or [`Reason::DesiredNotSupported`].
pub fn check_change(alter: &str, definition: Option<&str>) -> Result<(), EngineError> {
    match definition {
        None => check_alter(alter).map(drop),
        Some(text) => Statement::parse_as_any(text).map(drop).map_err(|error| refused(&error)),
    }
}

fn refused(error: &DesiredError) -> EngineError {
    EngineError::terminal(Reason::DesiredNotSupported, &format!("spec.desired: {error}. Nothing was touched"))
}

/// What stands in the definition that this table and this server have no use for.
fn check(statement: &Statement, spec: &MigrationSpec, control: &Session, names_in_any_case: bool) -> Result<(), EngineError> {
    let same = |one: &str, other: &str| one == other || names_in_any_case && one.to_lowercase() == other.to_lowercase();
    let (schema, table) = statement.name();
    let not = |what: &str| {
        let message = format!("spec.desired: {what}. Nothing was touched");
        Err(EngineError::terminal(Reason::DesiredNotSupported, &message))
    };
    if schema.is_some_and(|schema| !same(schema, &spec.database)) || !same(table, &spec.table) {
        let written = schema.map_or_else(|| quote::identifier(table), |schema| quote::qualified(schema, table));
        return not(&format!("it defines {written}, and the migration is of {}", quote::qualified(&spec.database, &spec.table)));
    }
    let (major, minor, patch) = control.version();
    match statement.later_than(u32::from(major) * 10_000 + u32::from(minor) * 100 + u32::from(patch)) {
        None => Ok(()),
        Some(version) => not(&format!("the comment /*!{version} … */ is for a later server than this one: leave it out")),
    }
}

/// The clauses that lead from `original` to what `wanted` says, tried on an empty clone; what they lose is in the answer, and refused by
/// [`check_losses`]. Under the name of the ghost, which must be free, nothing is left unless there is an error.
///
/// # Errors
/// The text is refused, or the server refuses the definition or the clauses; the outcome is not the definition; the server's.
pub async fn derive(
    spec: &MigrationSpec,
    wanted: &Desired,
    values: &ServerValues,
    original: &Inspected,
    names: &TableNames,
    control: &mut Session,
    place: Place,
) -> Result<Derived, EngineError> {
    let names_in_any_case = control.lower_case_names();
    let statement = Statement::parse_as(&wanted.definition, values.grammar()).map_err(|error| refused(&error))?;
    check(&statement, spec, control, names_in_any_case)?;
    // Of a column that stays as it is, a default may be one that the server's modes refuse now. What the clauses name is looked at by itself later.
    let values = &values.with_any_date();
    let scratch = Scratch { spec, names, values, place };
    let desired = scratch.read(&statement, control).await?;
    let whole =
        |error: DesiredError| EngineError::terminal(Reason::DesiredNotSupported, &format!("spec.desired: {error}. Nothing is left behind"));
    let present = Shown::parse(&original.show_create, &spec.database, |name| Some(name.to_owned())).map_err(whole)?;
    let table = (spec.database.as_str(), spec.table.as_str());
    let mut all_indexes = false;
    loop {
        let mut derived =
            desired::derive(&present, &desired, statement.foreign_keys(), table, names_in_any_case, all_indexes).map_err(whole)?;
        if derived.clauses.is_empty() {
            return Ok(derived);
        }
        derived.clauses = desired::in_grammar(&derived.clauses, values.grammar());
        let outcome = scratch.try_clauses(&derived.clauses, original, control).await?;
        match desired::difference(&outcome, &desired) {
            None => return Ok(derived),
            Some(Difference::IndexOrder(_)) if !all_indexes => all_indexes = true,
            Some(Difference::IndexOrder(what) | Difference::Other(what)) => {
                return Err(EngineError::terminal(
                    Reason::DesiredNotSupported,
                    &format!(
                        "spec.desired: the clauses that were derived do not lead to the definition: {what}. Nothing is left behind; write the change with spec.alter"
                    ),
                ));
            }
        }
    }
}

/// Refuses what loses something, unless it is allowed.
///
/// # Errors
/// [`Reason::DestructiveChange`] with everything that may be lost.
pub fn check_losses(spec: &MigrationSpec, wanted: &Desired, derived: &Derived) -> Result<(), EngineError> {
    if wanted.allow_destructive || derived.destructive.is_empty() {
        return Ok(());
    }
    let rename = derived.renames.as_ref().map(|words| format!(". {words}")).unwrap_or_default();
    Err(EngineError::terminal(
        Reason::DestructiveChange,
        &format!(
            "to make {} what spec.desired says, something would be lost: {}{rename}. Nothing is left behind; if that is meant, create the migration with spec.allowDestructive: true",
            quote::qualified(&spec.database, &spec.table),
            derived.destructive.join("; ")
        ),
    ))
}

/// A table under the ghost's name.
struct Scratch<'a> {
    spec: &'a MigrationSpec,
    names: &'a TableNames,
    values: &'a ServerValues,
    place: Place,
}

impl Scratch<'_> {
    fn name(&self) -> String {
        quote::qualified(&self.spec.database, &self.names.ghost)
    }

    fn create(&self) -> &'static str {
        match self.place {
            Place::Schema => "CREATE TABLE",
            Place::Session => "CREATE TEMPORARY TABLE",
        }
    }

    async fn drop(&self, control: &mut Session) -> Result<(), EngineError> {
        let temporary = if self.place == Place::Session { "TEMPORARY " } else { "" };
        Ok(control.run("drop the scratch table", SHORT, &format!("DROP {temporary}TABLE IF EXISTS {}", self.name())).await?)
    }

    /// What the server makes of the definition.
    async fn read(&self, statement: &Statement, control: &mut Session) -> Result<Shown, EngineError> {
        let shown = self.read_with(statement, &[], control).await?;
        // The index that the server would make for a foreign key.
        let keys = statement.foreign_keys().iter().enumerate();
        let indexed: Vec<usize> = keys.filter(|(_, key)| !shown.serves(&key.columns)).map(|(number, _)| number).collect();
        if indexed.is_empty() { Ok(shown) } else { self.read_with(statement, &indexed, control).await }
    }

    async fn read_with(&self, statement: &Statement, indexed: &[usize], control: &mut Session) -> Result<Shown, EngineError> {
        let check_name = |number: usize| format!("{}_{number}", create_prefix(&self.names.ghost));
        let text = statement.scratch(self.create(), &self.name(), check_name, indexed);
        let sql = format!("USE {}; {text}", quote::identifier(&self.spec.database));
        let made = control.run_as(Purpose::Clauses(self.values), "create an empty table of the definition", SHORT, &sql).await;
        made.map_err(|error| rejected(&error, "the server refuses the definition in spec.desired"))?;
        let shown = inspector::show_create(control, &self.spec.database, &self.names.ghost).await?;
        let given = statement.check_names();
        let final_name = |name: &str| (0..given.len()).find(|n| check_name(*n) == name).and_then(|n| given.get(n).copied().flatten());
        let parsed = Shown::parse(&shown, &self.spec.database, |name| final_name(name).map(str::to_owned));
        self.drop(control).await?;
        let parsed = parsed.map_err(|error| refused(&error))?;
        if parsed.engine().is_some_and(|engine| !engine.eq_ignore_ascii_case("InnoDB")) {
            let message = "spec.desired: only InnoDB tables can be migrated online. Nothing is left behind; write ENGINE=InnoDB";
            return Err(EngineError::terminal(Reason::DesiredNotSupported, message));
        }
        Ok(parsed)
    }

    /// What the clauses make of an empty clone.
    async fn try_clauses(&self, clauses: &str, original: &Inspected, control: &mut Session) -> Result<Shown, EngineError> {
        let alter = acceptable(Alter::parse_as(clauses, self.values.grammar())).map_err(|error| EngineError {
            message: error.message.replacen("spec.alter", "spec.desired comes to clauses that a migration does not make", 1),
            ..error
        })?;
        let alter = alter.without_new_foreign_keys();
        let checks = create::check_constraints(&original.show_create).map_err(not_readable)?;
        let renamed = create::ghost_check_names(&self.spec.table, &self.names.ghost, &self.names.old, &checks).map_err(not_readable)?;
        let on_clone = match self.place {
            Place::Schema => make_clone(self.spec, &alter, self.values, self.names, original, control).await?,
            Place::Session => {
                let text = create::rename_for_ghost(&original.show_create, &self.names.ghost, &renamed).map_err(not_readable)?;
                let text = text.replacen("CREATE TABLE", self.create(), 1);
                let sql = format!("USE {}; {text}", quote::identifier(&self.spec.database));
                let made = control.run_as(Purpose::Definition(self.values), "create a temporary clone of the table", SHORT, &sql).await;
                made.map_err(|error| rejected(&error, "the server makes no temporary table like this one"))?;
                alter.for_clone(&renamed, &original.foreign_key_names())
            }
        };
        if !on_clone.is_empty() {
            let sql = format!("ALTER TABLE {} {on_clone}", self.name());
            let tried = control.run_as(Purpose::Clauses(self.values), "try the derived clauses on an empty clone", SHORT, &sql).await;
            tried.map_err(|error| rejected(&error, &format!("the server refuses the clauses that spec.desired comes to ({clauses})")))?;
        }
        let shown = inspector::show_create(control, &self.spec.database, &self.names.ghost).await?;
        self.drop(control).await?;
        let before = |name: &str| renamed.iter().find(|(_, ghost)| *ghost == name).map_or(name, |(before, _)| before).to_owned();
        Shown::parse(&shown, &self.spec.database, |name| Some(before(name))).map_err(|error| refused(&error))
    }
}

/// What names of CHECK constraints of the scratch table begin with: 64 characters with a number.
fn create_prefix(ghost: &str) -> String {
    crate::sql::names::shortened(ghost, 56)
}

/// The server's refusal, in words that say of what.
fn rejected(error: &MySqlError, what: &str) -> EngineError {
    let reason = match crate::engine::contract::error::reason_of(error) {
        Reason::MissingPrivilege => Reason::MissingPrivilege,
        _ => Reason::AlterRejected,
    };
    EngineError::of_server(error, reason, &format!("{what}: {}. Nothing is left behind", error.message))
}
