//! The clauses of a migration that was declared (`spec.desired`): derived once, before anything else is made, and kept with the migration's record.
//!
//! Promises: the scratch tables stand under the ghost's name while the state table says whose that is, so that whoever comes after a crash removes
//! them; when this returns, nothing is left but after an error that passes.

use super::prepare::{check_ghost_name, create_state, original, spec_digest, undo};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::progress::Publisher;
use crate::engine::contract::spec::{Desired, MigrationSpec};
use crate::engine::state::fence::drop_ours;
use crate::engine::state::record::Record;
use crate::engine::state::store::StateTable;
use crate::engine::table::desired::{Place, check_losses, derive};
use crate::engine::table::replica;
use crate::mysql::server::ServerFacts;
use crate::mysql::{ServerValues, Session};
use std::borrow::Cow;

/// The migration with its clauses, where they were derived before; what else it is stays as it is.
pub(super) fn as_recorded<'a>(spec: &'a MigrationSpec, record: &Record, publisher: &Publisher) -> Cow<'a, MigrationSpec> {
    if spec.desired.is_none() || record.clauses.is_empty() {
        return Cow::Borrowed(spec);
    }
    publisher.update(|s| s.clauses = Some(record.clauses.clone()));
    Cow::Owned(MigrationSpec { alter: record.clauses.clone(), ..spec.clone() })
}

/// The migration with the clauses that lead to its definition; `None` if the table has that definition.
///
/// # Errors
/// What [`derive`] and [`check_losses`] refuse; the server's.
pub(super) async fn with_clauses(
    spec: &MigrationSpec,
    desired: &Desired,
    values: &ServerValues,
    facts: &ServerFacts,
    state: &StateTable,
    control: &mut Session,
    publisher: &Publisher,
    touched: &mut bool,
) -> Result<Option<MigrationSpec>, EngineError> {
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
    Ok((!derived.clauses.is_empty()).then(|| MigrationSpec { alter: derived.clauses, ..spec.clone() }))
}
