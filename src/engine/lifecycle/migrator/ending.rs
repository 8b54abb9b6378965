//! What comes after the swap, and the clean-up of what a migration leaves.

use super::End;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::progress::{Publisher, Tally};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::{Outcome, Phase, Revert, Tables};
use crate::engine::contract::spec::{Controls, MigrationSpec, Mode, OldTable};
use crate::engine::cutover::relatives::{self, Finisher, Swapped};
use crate::engine::lifecycle::old_table;
use crate::engine::state::fence::Leftovers;
use crate::engine::state::outcome::Swap;
use crate::engine::state::record::{Record, Stage, Stored};
use crate::engine::state::store::{StateTable, fenced};
use crate::engine::state::takeover::{self, Owned};
use crate::engine::table::{inspector, replica};
use crate::mysql::Session;
use crate::mysql::server::ServerFacts;
use crate::mysql::session::{LONG, SHORT};
use crate::sql::names::TableNames;
use crate::sql::quote;
use tokio::sync::watch;

/// The table that a change leaves beside the one that people use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeftTable {
    /// The server made the change itself.
    Nothing,
    /// The table as it was.
    Old,
    /// The new table of a test.
    Ghost,
}

impl LeftTable {
    /// Once the change is made.
    fn of(record: &Record) -> Self {
        match record.stage {
            Stage::Tested => Self::Ghost,
            _ if record.native => Self::Nothing,
            _ => Self::Old,
        }
    }

    fn name(self, names: &TableNames) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::Old => Some(&names.old),
            Self::Ghost => Some(&names.ghost),
        }
    }
}

/// What a migration leaves that has made its change.
pub(super) struct Left {
    pub(super) table: LeftTable,
    /// It says whose the table beside is.
    pub(super) state: StateTable,
    pub(super) names: TableNames,
    /// InnoDB's id of the table that was swapped out, which it keeps, if it can be told.
    pub(super) original_id: Option<u64>,
}

impl Left {
    fn of(spec: &MigrationSpec, state: StateTable, record: &Record) -> Self {
        Self { table: LeftTable::of(record), state, names: record.names(&spec.names()), original_id: record.original_id }
    }
}

/// After the swap: marks it, drops what is to be dropped.
pub(super) async fn finish(
    spec: &MigrationSpec,
    (publisher, tally): (&Publisher, &Tally),
    controls: &watch::Receiver<Controls>,
    control: &mut Session,
    mut leftovers: Leftovers,
    owned: &mut Option<Owned>,
) -> Result<End, EngineError> {
    publisher.update(|s| s.phase = Phase::CleaningUp);
    let names = leftovers.record.names(&spec.names());
    if leftovers.record.stage == Stage::Swapping && spec.mode != Mode::TestOnReplica {
        finish_relatives(spec, control, &leftovers.state, leftovers.epoch, &leftovers.record).await?;
    }
    let back = leftovers.record.is_turned();
    leftovers.record.stage = match spec.mode {
        Mode::TestOnReplica => Stage::Tested,
        _ if back => Stage::Reverted,
        _ => Stage::Swapped,
    };
    let swapped = leftovers.swapped(&names.ghost, &spec.table);
    let Leftovers { state, record, epoch } = leftovers;
    state.store(control, epoch, &record, None).await?;
    // From here on a state table that is gone is our own doing: the connection may break when it is dropped.
    *owned = Some(swapped);
    // What was taken back is kept, with the proof of it, until the result is written down: asked for once more, the change would be made again.
    let drop_now = controls.borrow().old_table == OldTable::DropNow && !back;
    if let Some(revert) = revert_of(&record, !controls.borrow().revert_window.is_zero()) {
        publisher.update(|s| s.revert = Some(revert));
    }
    let left = Left::of(spec, state, &record);
    if back {
        publisher.update(|s| s.tables = Tables { ghost: String::new(), state: names.state.clone(), old: names.old.clone() });
    } else if left.table != LeftTable::Old {
        // No table was swapped out.
        publisher.update(|s| s.tables.old.clear());
    }
    if drop_now {
        drop_left(control, spec, &left, Some(epoch)).await?;
    }
    tally.count(|counts| {
        counts.progress.copy_complete = true;
        counts.progress.backlog = 0;
    });
    Ok(End::Over(if back { Outcome::Reverted } else { done(spec) }))
}

/// Whether a change that is over can be taken back, in words. `asked`: somebody wanted a way back.
fn revert_of(record: &Record, asked: bool) -> Option<Revert> {
    let over = |reason, message| Some(Revert::Over { reason, message });
    if record.stage == Stage::Reverted {
        return over(Revert::REVERTED, "the change was taken back".to_owned());
    }
    if let Some((word, sentence)) = &record.closed {
        let known = Revert::WORDS.iter().copied().chain(Reason::ALL.iter().map(|reason| reason.as_str())).find(|known| known == word);
        return over(known.unwrap_or(Revert::NO_WAY_BACK), sentence.clone());
    }
    match (asked, record.native) {
        (false, _) => None,
        (true, true) => {
            over(Revert::NO_WAY_BACK, "the server made the change itself (INSTANT or INPLACE), which leaves no old table".to_owned())
        }
        (true, false) => over(Revert::NO_WAY_BACK, "revert.window was set after the tables were swapped".to_owned()),
    }
}

/// Foreign keys that an engine had not moved yet when it died behind its RENAME, or lost its connection.
async fn finish_relatives(
    spec: &MigrationSpec,
    control: &mut Session,
    state: &StateTable,
    epoch: u64,
    record: &Record,
) -> Result<(), EngineError> {
    let names = record.names(&spec.names());
    let tables = Swapped::new(spec, &names);
    let finisher = Finisher { server: &spec.server, state, epoch };
    if relatives::complete(&finisher, control, &record.relatives, &tables).await? {
        tracing::info!(table = tables.table.quoted(), "moved the foreign keys that an interrupted swap had left");
    }
    Ok(())
}

/// How a migration ends that did what it was asked for.
pub(super) fn done(spec: &MigrationSpec) -> Outcome {
    if spec.mode == Mode::TestOnReplica { Outcome::Tested } else { Outcome::Succeeded }
}

/// Drops the table beside the one that people use, and the state table. With an epoch behind the fence: both are locked meanwhile, so a successor
/// comes before (and this fails) or after. An engine that wakes late would else drop a later migration's tables, which have these names.
pub(super) async fn drop_left(control: &mut Session, spec: &MigrationSpec, left: &Left, epoch: Option<u64>) -> Result<(), EngineError> {
    let Left { table, state, names, original_id } = left;
    let left = match table.name(names) {
        Some(name) if inspector::exists(control, &spec.database, name).await? => Some(name),
        _ => None,
    };
    if let (Some(name), Some(original), LeftTable::Old) = (left, original_id, table)
        && inspector::table_id(control, &spec.database, name).await?.is_some_and(|id| id != *original)
    {
        return Err(EngineError::terminal(
            Reason::NameTaken,
            &format!(
                "the table {} is not the one that this migration swapped out (its InnoDB id differs), so it was not dropped",
                quote::qualified(&spec.database, name)
            ),
        ));
    }
    if let Some(epoch) = epoch {
        let more = left.map(|name| format!(", {} WRITE", quote::qualified(&spec.database, name))).unwrap_or_default();
        control.run("lock the migration's tables", SHORT, &format!("LOCK TABLES {} WRITE{more}", state.qualified())).await?;
        if !state.is_owner(control, epoch).await? {
            control.run("unlock the migration's tables", SHORT, "UNLOCK TABLES").await?;
            return Err(fenced());
        }
    }
    if let Some(name) = left {
        let version = control.version();
        old_table::drop_in_steps(control, version, &spec.database, name).await?;
    }
    control.run("drop the state table", LONG, &format!("DROP TABLE IF EXISTS {}", state.qualified())).await?;
    if epoch.is_some() {
        control.run("unlock the migration's tables", SHORT, "UNLOCK TABLES").await?;
    }
    Ok(())
}

/// See [`crate::engine::clean_up`].
///
/// # Errors
/// As there.
pub async fn clean_up(spec: &MigrationSpec, old_too: bool) -> Result<(), EngineError> {
    let Some(mut left) = clean_up_unless_swapped(spec).await? else {
        return Ok(());
    };
    let mut control = Session::open_in(&spec.server, &spec.database).await?;
    if !old_too {
        left.table = LeftTable::Nothing;
    }
    drop_left(&mut control, spec, &left, None).await?;
    control.close().await;
    Ok(())
}

/// The applier that an engine of this migration has stopped and could not start again.
///
/// # Errors
/// The server's.
pub(super) async fn start_applier_again(spec: &MigrationSpec) -> Result<(), EngineError> {
    let mut control = Session::open_in(&spec.server, &spec.database).await?;
    let spec = &spec.kept(control.lower_case_names());
    let state = StateTable::new(&spec.database, &spec.names().state);
    let stored = state.load(&mut control, &spec.database).await?;
    if stored.is_some_and(|stored| stored.record.id == spec.id && stored.record.applier_stopped) {
        replica::resume(&mut control, spec).await?;
    }
    control.close().await;
    Ok(())
}

/// Drops ghost and state table, if they are this migration's and the change has not been made. `Some`: it has, and this is
/// left beside the table.
pub(super) async fn clean_up_unless_swapped(spec: &MigrationSpec) -> Result<Option<Left>, EngineError> {
    let mut control = Session::open_in(&spec.server, &spec.database).await?;
    let mut guard = Session::open_in(&spec.server, &spec.database).await?;
    let spec = &spec.kept(control.lower_case_names());
    let names = spec.names();
    let state = StateTable::new(&spec.database, &names.state);
    let found = match state.load(&mut control, &spec.database).await {
        Err(error) if error.is_transient() => {
            // A former owner that is frozen may have it locked.
            crate::engine::state::fence::take_lock(&mut guard, spec).await?;
            state.free(&mut control).await?;
            state.load(&mut control, &spec.database).await?
        }
        found => found?,
    };
    let absent = found.is_none();
    let ours = |stored: &Stored| stored.record.id.is_empty() || stored.record.id == spec.id;
    let Some(mut stored) = found.filter(ours) else {
        // A later migration of the table may have moved ours out of its way; that one is at work, and this needs nothing of it.
        let Some((state, mut stored)) = StateTable::kept(&mut control, spec).await? else {
            if absent && inspector::exists(&mut control, &spec.database, &names.ghost).await? {
                // Never dropped on suspicion, and never passed over in silence.
                let ghost = quote::qualified(&spec.database, &names.ghost);
                return Err(EngineError::terminal(
                    Reason::NameTaken,
                    &format!(
                        "the table {ghost} exists, and no state table {} says that this migration made it, so it was not dropped: if no other migration of {} uses it, DROP TABLE {ghost}",
                        quote::identifier(&names.state),
                        quote::qualified(&spec.database, &spec.table)
                    ),
                ));
            }
            // Nothing of ours is there.
            return Ok(None);
        };
        let facts = ServerFacts::read(&mut control).await?;
        takeover::check_promoted(&mut control, &facts, &stored.record.server_uuid).await?;
        if stored.record.server_uuid != facts.uuid {
            stored.record.forget_ids();
        }
        return Ok(Some(Left::of(spec, state, &stored.record)));
    };
    crate::engine::state::fence::take_lock(&mut guard, spec).await?;
    let facts = ServerFacts::read(&mut control).await?;
    guard.check_server(&facts.uuid)?;
    takeover::check_promoted(&mut control, &facts, &stored.record.server_uuid).await?;
    if stored.record.applier_stopped {
        // It is started again by whoever comes, and where it runs already that does nothing.
        replica::resume(&mut control, spec).await?;
    }
    if stored.record.server_uuid != facts.uuid {
        stored.record.forget_ids();
    }
    let names = stored.record.names(&names);
    let swapped = match stored.record.stage {
        Stage::Swapped | Stage::Tested | Stage::Reverted => true,
        Stage::Turned => {
            stored.record = stored.record.closed(Revert::WINDOW_ENDED, "");
            true
        }
        Stage::Swapping => match crate::engine::state::outcome::outcome(&mut control, &spec.database, &spec.table, &names, &stored.record)
            .await?
        {
            Swap::Happened if stored.record.is_turned() => {
                stored.record.stage = Stage::Reverted;
                true
            }
            Swap::DidNot if stored.record.is_turned() => {
                stored.record = stored.record.closed(Revert::WINDOW_ENDED, "");
                true
            }
            Swap::Happened => {
                let epoch = state.take_over(&mut guard).await?;
                finish_relatives(spec, &mut guard, &state, epoch, &stored.record).await?;
                true
            }
            Swap::DidNot => false,
            Swap::Unknown => {
                return Err(EngineError::terminal(
                    Reason::OutcomeUnknown,
                    &format!("nothing shows whether {} was swapped, so nothing was dropped", quote::qualified(&spec.database, &spec.table)),
                ));
            }
        },
        Stage::Native => {
            let now = inspector::show_create(&mut control, &spec.database, &spec.table).await?;
            crate::engine::table::definition::normalise(&now)? == stored.record.ghost_definition
        }
        Stage::Preparing | Stage::Copying => false,
    };
    if !swapped {
        if stored.epoch > 0 {
            // A frozen engine must not write to a table that is about to go.
            state.take_over(&mut guard).await?;
        }
        crate::engine::state::fence::drop_ours(&mut guard, spec, &names).await?;
    }
    crate::engine::state::fence::release_lock(guard).await;
    control.close().await;
    Ok(swapped.then(|| Left::of(spec, state, &stored.record)))
}
