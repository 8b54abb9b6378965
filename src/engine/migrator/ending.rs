//! What comes after the swap, and the clean-up of what a migration leaves.

use super::End;
use crate::engine::checkpoint::{Stage, StateTable, fenced};
use crate::engine::cutover::{self, Swap};
use crate::engine::error::EngineError;
use crate::engine::inspector;
use crate::engine::old_table;
use crate::engine::prepare::{self, Leftovers};
use crate::engine::progress::Publisher;
use crate::engine::reason::Reason;
use crate::engine::snapshot::{Outcome, Phase};
use crate::engine::spec::{Controls, MigrationSpec, OldTable};
use crate::engine::takeover::{self, Owned};
use crate::mysql::Session;
use crate::mysql::server::ServerFacts;
use crate::mysql::session::{LONG, SHORT};
use crate::sql::names::TableNames;
use crate::sql::quote;
use tokio::sync::watch;

/// After the swap: marks it, drops what is to be dropped.
pub(super) async fn finish(
    spec: &MigrationSpec,
    publisher: &Publisher,
    controls: &watch::Receiver<Controls>,
    control: &mut Session,
    leftovers: Leftovers,
    owned: &mut Option<Owned>,
) -> Result<End, EngineError> {
    publisher.phase(Phase::CleaningUp);
    let swapped = leftovers.swapped();
    let Leftovers { state, mut record, epoch } = leftovers;
    record.stage = Stage::Swapped;
    state.store(control, epoch, &record, None).await?;
    // From here on a state table that is gone is our own doing: the connection may break when it is dropped.
    *owned = Some(swapped);
    let names = TableNames::for_table(&spec.table);
    let drop_now = controls.borrow().old_table == OldTable::DropNow;
    if record.native {
        // No table was swapped out.
        publisher.update(|s| s.tables.old.clear());
    }
    if drop_now {
        drop_old(control, spec, &names, &state, record.native, Some(epoch)).await?;
    }
    publisher.update(|s| {
        s.progress.copy_complete = true;
        s.progress.backlog = 0;
    });
    Ok(End::Over(Outcome::Succeeded))
}

/// Drops the old table, unless `state_only`, and the state table. With an epoch behind the fence: both are locked meanwhile, so a successor
/// comes before (and this fails) or after. An engine that wakes late would else drop a later migration's tables, which have these names.
async fn drop_old(
    control: &mut Session,
    spec: &MigrationSpec,
    names: &TableNames,
    state: &StateTable,
    state_only: bool,
    epoch: Option<u64>,
) -> Result<(), EngineError> {
    let with_old = !state_only && inspector::exists(control, &spec.database, &names.old).await?;
    if let Some(epoch) = epoch {
        let more = if with_old { format!(", {} WRITE", quote::qualified(&spec.database, &names.old)) } else { String::new() };
        control.run("lock what is left", SHORT, &format!("LOCK TABLES {} WRITE{more}", state.qualified())).await?;
        if !state.is_owner(control, epoch).await? {
            control.run("unlock what is left", SHORT, "UNLOCK TABLES").await?;
            return Err(fenced());
        }
    }
    if with_old {
        let version = control.version();
        old_table::drop_in_steps(control, version, &spec.database, &names.old).await?;
    }
    control.run("drop the state table", LONG, &format!("DROP TABLE IF EXISTS {}", state.qualified())).await?;
    if epoch.is_some() {
        control.run("unlock what was left", SHORT, "UNLOCK TABLES").await?;
    }
    Ok(())
}

/// See [`crate::engine::clean_up`].
///
/// # Errors
/// As there.
pub async fn clean_up(spec: &MigrationSpec, old_too: bool) -> Result<(), EngineError> {
    let Some(native) = clean_up_unless_swapped(spec).await? else {
        return Ok(());
    };
    let names = TableNames::for_table(&spec.table);
    let state = StateTable::new(&spec.database, &names.state);
    let mut control = Session::open(&spec.server).await?;
    drop_old(&mut control, spec, &names, &state, native || !old_too, None).await?;
    control.close().await;
    Ok(())
}

/// Drops ghost and state table, if they are this migration's and the change has not been made. `Some`: it has (and whether natively).
pub(super) async fn clean_up_unless_swapped(spec: &MigrationSpec) -> Result<Option<bool>, EngineError> {
    let mut control = Session::open(&spec.server).await?;
    let mut guard = Session::open(&spec.server).await?;
    let names = TableNames::for_table(&spec.table);
    let state = StateTable::new(&spec.database, &names.state);
    let found = match state.load(&mut control, &spec.database).await {
        Err(error) if error.is_transient() => {
            // A former owner that is frozen may have it locked.
            prepare::take_lock(&mut guard, spec).await?;
            state.free(&mut control).await?;
            state.load(&mut control, &spec.database).await?
        }
        found => found?,
    };
    let Some(mut stored) = found else {
        return Ok(None);
    };
    if !stored.record.id.is_empty() && stored.record.id != spec.id {
        // Somebody else's: nothing of ours is there.
        return Ok(None);
    }
    prepare::take_lock(&mut guard, spec).await?;
    let facts = ServerFacts::read(&mut control).await?;
    guard.check_server(&facts.uuid)?;
    takeover::check_promoted(&mut control, &facts, &stored.record.server_uuid).await?;
    if stored.record.server_uuid != facts.uuid {
        stored.record.forget_ids();
    }
    let swapped = match stored.record.stage {
        Stage::Swapped => true,
        Stage::Swapping => match cutover::outcome(&mut control, &spec.database, &spec.table, &names, &stored.record).await? {
            Swap::Happened => true,
            Swap::DidNot => false,
            Swap::Unknown => {
                return Err(EngineError::terminal(
                    Reason::OutcomeUnknown,
                    &format!("nothing tells whether {} was swapped, so nothing was dropped", quote::qualified(&spec.database, &spec.table)),
                ));
            }
        },
        Stage::Native => {
            let now = inspector::show_create(&mut control, &spec.database, &spec.table).await?;
            prepare::normalise(&now)? == stored.record.ghost_definition
        }
        Stage::Preparing | Stage::Copying => false,
    };
    if !swapped {
        if stored.epoch > 0 {
            // A frozen engine must not write to a table that is about to go.
            state.take_over(&mut guard).await?;
        }
        prepare::drop_ours(&mut guard, spec, &names).await?;
    }
    prepare::release_lock(guard).await;
    control.close().await;
    Ok(swapped.then_some(stored.record.native))
}
