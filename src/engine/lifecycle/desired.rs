//! The clauses of a migration that was declared (`spec.desired`): derived once, before anything else is made, and kept with the migration's record.
//!
//! Promises: the scratch tables stand under the ghost's name while the state table says whose that is, so that whoever comes after a crash removes
//! them; when this returns, nothing is left but after an error that passes.

use super::prepare::{check_ghost_name, create_state, original, spec_digest, undo};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::progress::Publisher;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{Desired, MigrationSpec};
use crate::engine::state::fence::drop_ours;
use crate::engine::state::record::Record;
use crate::engine::state::store::StateTable;
use crate::engine::table::definition::normalise;
use crate::engine::table::desired::{Place, check_losses, derive};
use crate::engine::table::inspector::Inspected;
use crate::engine::table::replica;
use crate::mysql::server::ServerFacts;
use crate::mysql::{ServerValues, Session};
use crate::sql::quote;
use std::borrow::Cow;

/// The migration with its clauses, where they were derived before; what else it is stays as it is.
pub(super) fn as_recorded<'a>(spec: &'a MigrationSpec, record: &Record, publisher: &Publisher) -> Cow<'a, MigrationSpec> {
    if spec.desired.is_none() || record.clauses.is_empty() {
        return Cow::Borrowed(spec);
    }
    publisher.update(|s| s.clauses = Some(record.clauses.clone()));
    Cow::Owned(MigrationSpec { alter: record.clauses.clone(), ..spec.clone() })
}

/// A migration with the clauses that lead to its definition.
pub(super) struct Derivation {
    pub spec: MigrationSpec,
    /// The normalised definition that they were derived from.
    from: String,
}

impl Derivation {
    /// Whether the table is still what the clauses were derived from: from another definition they would lead somewhere else.
    ///
    /// # Errors
    /// It is not; the next attempt derives them again.
    pub(super) fn check(&self, original: &Inspected) -> Result<(), EngineError> {
        if normalise(&original.show_create)? == self.from {
            return Ok(());
        }
        let table = quote::qualified(&self.spec.database, &self.spec.table);
        Err(EngineError::transient(
            Reason::StatementInterrupted,
            &format!("someone else changed the definition of {table} while the clauses were derived from it; deriving them again"),
        ))
    }
}

/// The clauses that lead to the definition; `None` if the table has that definition.
///
/// # Errors
/// What [`derive()`] and [`check_losses`] refuse; the server's.
pub(super) async fn with_clauses(
    spec: &MigrationSpec,
    desired: &Desired,
    values: &ServerValues,
    facts: &ServerFacts,
    state: &StateTable,
    control: &mut Session,
    publisher: &Publisher,
    touched: &mut bool,
) -> Result<Option<Derivation>, EngineError> {
    let names = spec.names();
    if spec.mode.on_replica() {
        replica::check(control, spec.mode, facts).await?;
    }
    let original = original(spec, control).await?;
    check_ghost_name(control, spec, &names).await?;
    let record = Record {
        id: spec.id.clone(),
        display_name: spec.display_name.clone(),
        spec_digest: spec_digest(spec),
        server_uuid: facts.uuid.clone(),
        old: names.old.clone(),
        ..Record::empty()
    };
    create_state(state, &record, spec, &names, control, touched).await?;
    let derived = derive(spec, desired, values, &original, &names, control, Place::Schema).await;
    let derived = derived.and_then(|derived| check_losses(spec, desired, &derived).map(|()| derived));
    let derived = match derived {
        Ok(derived) => derived,
        Err(error) => return Err(undo(control, spec, &names, touched, error).await),
    };
    drop_ours(control, spec, &names).await?;
    *touched = false;
    publisher.update(|s| s.clauses = Some(derived.clauses.clone()));
    tracing::info!(migration = spec.display_name, clauses = derived.clauses, "derived from spec.desired");
    let from = normalise(&original.show_create)?;
    Ok((!derived.clauses.is_empty()).then(|| Derivation { spec: MigrationSpec { alter: derived.clauses, ..spec.clone() }, from }))
}
