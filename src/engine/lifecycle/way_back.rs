//! The preparation of the way back: whether there is one, and from the record of a swap to a migration that is turned round.
//!
//! Promises: once the tables are swapped, nothing that is met here makes the change undone or the migration a failure: what cannot be kept current
//! ends the possibility to take the change back, and says why.

use super::prepare::{Prepared, Ready, Wishes, codec, free_name, mapping, start_of};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::notice;
use crate::engine::contract::progress::Publisher;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::Revert;
use crate::engine::contract::spec::MigrationSpec;
use crate::engine::cutover::{swap_statement, unchanged};
use crate::engine::rows::board::Board;
use crate::engine::rows::migration::{Migration, Visibility};
use crate::engine::rows::turned::Turned;
use crate::engine::state::fence::Leftovers;
use crate::engine::state::record::{ChunkId, Record, SafePosition, Stage, Stored};
use crate::engine::state::store::StateTable;
use crate::engine::state::takeover;
use crate::engine::table::definition::{check_alter_as, normalise};
use crate::engine::table::evaluation;
use crate::engine::table::inspector::{self, Inspected};
use crate::engine::table::relatives::no_way_back;
use crate::engine::table::sight::{self, Reference};
use crate::mysql::server::ServerFacts;
use crate::mysql::{BinlogPosition, Session};
use crate::sql::foreign_key::Relatives;
use crate::sql::key::{self, Zone};
use crate::sql::mapping::ColumnMapping;
use crate::sql::names::{Stamp, TableNames};
use crate::sql::{create, quote, way_back};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Why the old table could not be kept current after the swap; `None`: it can. Pure.
pub(super) fn missing(
    original: &Inspected,
    new: &Inspected,
    change: &ColumnMapping,
    relatives: &Relatives,
    facts: &ServerFacts,
) -> Option<String> {
    let bound = !original.foreign_keys.is_empty() || !relatives.own.is_empty() || !relatives.children.is_empty();
    let triggers: Vec<String> = relatives.triggers.iter().map(|trigger| trigger.name.clone()).collect();
    if let Some(why) = no_way_back(bound, &triggers) {
        return Some(why);
    }
    match way_back::way_back(&original.definition, &new.definition, change) {
        Err(why) => Some(why),
        Ok(back) => key::not_logged(&back.key, &facts.binlog_row_image),
    }
}

/// As [`check`], by what binds the table to others: before anything is asked that only a change without a way back needs.
///
/// # Errors
/// As there; the server's.
pub(super) async fn check_bound(
    spec: &MigrationSpec,
    original: &Inspected,
    found: &[Reference],
    control: &mut Session,
) -> Result<(), EngineError> {
    let triggers = sight::triggers(control, &spec.database, &spec.table).await?;
    check(spec, no_way_back(!original.foreign_keys.is_empty() || !found.is_empty(), &triggers).as_ref())
}

/// Refuses a migration whose `revert.window` could not be kept.
///
/// # Errors
/// [`Reason::NoWayBack`].
pub(super) fn check(spec: &MigrationSpec, missing: Option<&String>) -> Result<(), EngineError> {
    match missing {
        None => Ok(()),
        Some(why) => Err(EngineError::terminal(
            Reason::NoWayBack,
            &format!(
                "revert.window is set, but {} cannot be kept current after the change: {why}. Nothing is left behind; set revert.window to 0s to make the change without a way back",
                quote::qualified(&spec.database, &spec.table)
            ),
        )),
    }
}

/// What the preparation of the way back works with.
pub(super) struct Found<'a> {
    pub spec: &'a MigrationSpec,
    pub wishes: Wishes<'a>,
    pub facts: &'a ServerFacts,
    /// The server's time zone as it is now.
    pub zone_print: u64,
    pub state: &'a StateTable,
    pub stored: Stored,
    pub publisher: &'a Publisher,
}

/// The tables are swapped: turns the record round, if that is not done, and the engine with it.
///
/// # Errors
/// The server's that pass. What does not ends the possibility.
pub(super) async fn turned(found: Found<'_>, control: &mut Session) -> Result<Prepared, EngineError> {
    let Found { spec, wishes, facts, state, stored, publisher, .. } = &found;
    let epoch = stored.epoch;
    let mut record = stored.record.clone();
    let ended = record.is_turned() && !wishes.revert && window_end(record.opened_at, wishes.window) <= wishes.now;
    // Once the window has ended, nobody needs what has become of the old table, or of the logs, meanwhile.
    let why = if ended {
        window_ended()
    } else {
        let begun = async {
            let just_swapped = !record.is_turned();
            if just_swapped {
                record = turn(spec, &record, control).await?;
                state.store(control, epoch, &record, None).await?;
            }
            begin(&found, record.clone(), just_swapped, control).await
        };
        match begun.await {
            Ok(ready) => return Ok(Prepared::Turned(Box::new(ready))),
            Err(error) if error.is_transient() && !error.reason.restarts_copy() || error.reason == Reason::Fenced => return Err(error),
            Err(error) => why_over(&quote::qualified(&spec.database, &spec.table), &error),
        }
    };
    let mut record = close(publisher, record, why);
    record.server_uuid.clone_from(&facts.uuid);
    Ok(Prepared::Swapped(Box::new(Leftovers { state: (*state).clone(), record, epoch })))
}

/// The change cannot be taken back any more: says so, and why.
pub(super) fn close(publisher: &Publisher, record: Record, (word, sentence): (&str, String)) -> Record {
    let warning = word != Revert::WINDOW_ENDED;
    publisher.notice(notice::REVERT_OVER, warning, format!("the change cannot be taken back any more: {sentence}"));
    record.closed(word, &sentence)
}

/// When the window ends that was opened at `opened` (seconds since 1970). Pure.
pub(super) fn window_end(opened: u64, window: Duration) -> SystemTime {
    let opened = UNIX_EPOCH.checked_add(Duration::from_secs(opened)).unwrap_or(UNIX_EPOCH);
    // A window that no clock reaches.
    opened.checked_add(window).unwrap_or_else(|| opened + Duration::from_secs(u64::from(u32::MAX)))
}

/// Turns the record of a swap that has just happened.
async fn turn(spec: &MigrationSpec, change: &Record, control: &mut Session) -> Result<Record, EngineError> {
    let names = change.names(&spec.names());
    let (new, old) = both(spec, &names.old, control).await?;
    let is = |table: &Inspected, expected: &str| normalise(&table.show_create).map(|now| lines(&now) == lines(expected));
    if !is(&new, &change.definition_after(&names.ghost, &spec.table))? || sight::replaced(change.ghost_id, new.table_id) {
        return Err(changed(spec));
    }
    let expected = create::as_renamed(&change.original_definition, &spec.table, &names.old);
    if !is(&old, &expected)? || sight::replaced(change.original_id, old.table_id) {
        return Err(old_changed(spec, &names.old));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Ok(Record {
        stage: Stage::Turned,
        original_definition: normalise(&new.show_create)?,
        ghost_definition: normalise(&old.show_create)?,
        original_id: new.table_id.or(change.ghost_id),
        ghost_id: old.table_id.or(change.original_id),
        old: free_name(control, spec, Stamp::old).await?,
        ghost: names.old,
        relatives: Relatives::default(),
        deferred_indexes: Vec::new(),
        helper_index: String::new(),
        way_back: false,
        opened_at: now,
        change: Some(Box::new(change.clone())),
        ..change.clone()
    })
}

/// The lines of a definition in an order of their own: the server shows CHECK constraints by their names, some of which a RENAME changes.
fn lines(definition: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = definition.lines().map(|line| line.trim_end_matches(',')).collect();
    lines.sort_unstable();
    lines
}

/// The new table, and the old one under its name.
async fn both(spec: &MigrationSpec, old: &str, control: &mut Session) -> Result<(Inspected, Inspected), EngineError> {
    let new = inspector::table(control, &spec.database, &spec.table).await?.ok_or_else(|| changed(spec))?;
    let old = inspector::table(control, &spec.database, old).await?.ok_or_else(|| old_changed(spec, old))?;
    Ok((new, old))
}

fn changed(spec: &MigrationSpec) -> EngineError {
    let table = quote::qualified(&spec.database, &spec.table);
    EngineError::terminal(Reason::DefinitionChanged, &format!("someone else changed the definition of {table}, or its rows past the log"))
}

fn old_changed(spec: &MigrationSpec, old: &str) -> EngineError {
    let table = quote::qualified(&spec.database, old);
    EngineError::terminal(Reason::GhostWritten, &format!("someone else wrote to the old table {table}, or changed, renamed or dropped it"))
}

/// `just_swapped`: no engine has written to the old table yet.
async fn begin(found: &Found<'_>, mut record: Record, just_swapped: bool, control: &mut Session) -> Result<Ready, EngineError> {
    let Found { spec, facts, zone_print, state, stored, .. } = found;
    let mut names = record.names(&spec.names());
    let (new, old) = both(spec, &names.ghost, control).await?;
    unchanged(&new.show_create, &record.original_definition, || changed(spec))?;
    unchanged(&old.show_create, &record.ghost_definition, || old_changed(spec, &names.ghost))?;
    if sight::replaced(record.original_id, new.table_id) {
        return Err(changed(spec));
    }
    if sight::replaced(record.ghost_id, old.table_id) {
        return Err(old_changed(spec, &names.ghost));
    }
    takeover::check_position(control, facts, &record, &stored.safe).await?;
    let Some(values) = record.server_values.clone().filter(|values| values.zone_print == *zone_print) else {
        return Err(EngineError::terminal(Reason::ServerChanged, "the server has another time zone than when the change was made"));
    };
    let alter = check_alter_as(&spec.alter, values.grammar())?;
    let mut change = mapping(&old, &new, &alter)?;
    let no_key = |why: String| EngineError::terminal(Reason::NoWayBack, &why);
    let back = way_back::way_back(&old.definition, &new.definition, &change).map_err(no_key)?;
    let mut mapping = back.mapping;
    let rows = evaluation::row_settings(&values, &new.definition, &old, &mapping);
    if evaluation::zone(&rows) == Zone::Shifting {
        mapping = mapping.by_instants(&new.definition, &old.definition);
        change = change.by_instants(&old.definition, &new.definition);
    }
    if inspector::exists(control, &spec.database, &names.old).await? {
        names.old = free_name(control, spec, Stamp::old).await?;
    }
    let same_server = record.server_uuid == facts.uuid;
    record.old.clone_from(&names.old);
    record.key_index.clone_from(&back.key.index);
    record.original_id = new.table_id.or(record.original_id);
    record.ghost_id = old.table_id.or(record.ghost_id);
    record.server_uuid.clone_from(&facts.uuid);
    record.resumed_count += 1;
    let safe = stored.safe.clone();
    let safe = if same_server { safe } else { SafePosition { position: BinlogPosition::default(), ..safe } };
    state.store(control, stored.epoch, &record, Some(&safe)).await?;
    let name = |name: &str| quote::qualified(&spec.database, name);
    let swap = swap_statement(&name(&spec.table), &name(&spec.names().ghost), &name(&names.ghost));
    let kept = back.kept.iter().map(|column| quote::identifier(column)).collect();
    let codec = codec(&new, &old.definition, &back.key, &rows)?;
    let chunks: Vec<_> = stored.chunks.iter().map(|(first, chunk)| (ChunkId { first: *first, last: chunk.last }, chunk.clone())).collect();
    let copied: u64 = chunks.iter().map(|(_, chunk)| chunk.rows).sum();
    let migration = Migration {
        spec: (*spec).clone(),
        visibility: Visibility::on(facts),
        facts: (*facts).clone(),
        names: TableNames { ..names },
        original: new,
        ghost: old.definition,
        rows,
        mapping,
        key: back.key,
        codec,
        numbering: None,
        turned: Some(Turned { change, swap, kept, untouched: just_swapped && same_server }),
        demands: Vec::new(),
        no_way_back: None,
        alter_sets_auto_increment: false,
        state: (*state).clone(),
        epoch: stored.epoch,
    };
    Ok(Ready {
        migration: Arc::new(migration),
        rows_estimated: record.rows_estimated.max(copied),
        record,
        board: Board::default(),
        chunks,
        start: start_of(facts, &safe, same_server),
        applied: safe.applied,
        safe,
    })
}

/// Why a change cannot be taken back any more, as a word and a sentence without values of rows. Pure.
pub(super) fn why_over(table: &str, error: &EngineError) -> (&'static str, String) {
    let said = error.source.as_ref().map(|error| format!(" (MySQL: {})", error.message)).unwrap_or_default();
    let why = match error.reason {
        Reason::DataDoesNotFit => format!("a row that was written after the change does not fit the former definition of {table}{said}"),
        Reason::DuplicateKey => {
            let index = error.source.as_ref().and_then(|error| error.index.as_ref());
            let which = index.map(|index| format!(" ({index})")).unwrap_or_default();
            format!("rows written after the change have one value in a unique key{which} that {table} had before")
        }
        Reason::NullInKey => format!("a row of {table} has NULL in its key since the change"),
        Reason::DefinitionChanged => format!("someone else changed the definition of {table} after the change, or its rows past the log"),
        Reason::TableTruncated => format!("someone else emptied {table} after the change (TRUNCATE TABLE)"),
        Reason::GhostWritten => format!("someone else wrote to the old table of {table}, or changed, renamed or dropped it"),
        Reason::StatementLogged => {
            format!("a statement that may have changed {table} was logged as text, so it is unknown which rows changed")
        }
        Reason::BinlogPurged => format!("the binary logs that the old table of {table} needs to be kept current are gone"),
        Reason::VerificationFailed => {
            format!("a row of {table} differs from the one of the old table, and no change in the binary log explains it")
        }
        _ => error.message.clone(),
    };
    (error.reason.as_str(), why)
}

/// The word and the sentence of a window that has ended.
pub(super) fn window_ended() -> (&'static str, String) {
    (Revert::WINDOW_ENDED, "the revert window has ended".to_owned())
}
