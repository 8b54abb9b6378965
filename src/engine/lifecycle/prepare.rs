//! From a spec to a [`Migration`] that can run: inspects, takes the lock and the epoch, makes the ghost or takes up a former engine's work.
//!
//! Promises: what is refused is refused before anything is touched, or with everything removed again; nothing that this migration did not
//! make is ever written or dropped.

use super::desired;
use super::way_back;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::notice;
use crate::engine::contract::progress::Publisher;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::{ChosenAlgorithm, Tables};
use crate::engine::contract::spec::{Algorithm, DeferIndexes, MigrationSpec, Mode, OldTable};
use crate::engine::cutover::native::NativeReady;
use crate::engine::cutover::{self, relatives::Swapped};
use crate::engine::rows::board::Board;
use crate::engine::rows::helper_index;
use crate::engine::rows::key_nulls;
use crate::engine::rows::migration::{Migration, Visibility};
use crate::engine::rows::numbers::{self, Numbering};
use crate::engine::rows::orphans::{self, Demand, demands};
use crate::engine::rows::streamer::Start;
use crate::engine::state::fence::{Leftovers, drop_ours};
use crate::engine::state::outcome::{Swap, outcome};
use crate::engine::state::record::{ChunkId, Record, SafePosition, Stage, Stored};
use crate::engine::state::store::StateTable;
use crate::engine::state::takeover::{self, Owned};
use crate::engine::table::chooser::{self, Choice, Native, Refused};
use crate::engine::table::definition::{check_alter_as, make_clone, normalise, not_readable};
use crate::engine::table::inspector::{self, Inspected};
use crate::engine::table::relatives::{self, Planning};
use crate::engine::table::{evaluation, replica, sight};
use crate::mysql::codes;
use crate::mysql::server::ServerFacts;
use crate::mysql::session::SHORT;
use crate::mysql::versions::{INVISIBLE_COLUMNS, OFFSET_LITERALS};
use crate::mysql::{BinlogPosition, GtidSet, Purpose, RowSettings, ServerValues, Session};
use crate::sql::alter::Alter;
use crate::sql::foreign_key::{ForeignKey, Relatives, TableName};
use crate::sql::key::{self, KeyCodec, KeyRange};
use crate::sql::mapping::ColumnMapping;
use crate::sql::names::{Stamp, TableNames};
use crate::sql::table::{ColumnType, TableDefinition};
use crate::sql::{create, quote};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the preparation comes to.
pub enum Prepared {
    /// Copy and follow.
    Run(Box<Ready>),
    /// Mode DryRun: the ALTER works and a key is there; nothing is left.
    Proven,
    /// The server can make the change itself; nothing but the state table is there.
    Native(Box<NativeReady>),
    /// The table is as asked for; nothing is left.
    Nothing,
    /// The tables are swapped; keep the old one current.
    Turned(Box<Ready>),
    /// A former engine had swapped the tables already, or, in mode TestOnReplica, had swapped them back.
    Swapped(Box<Leftovers>),
    /// A former engine died at the swap, and nothing tells whether it happened.
    Unknown {
        /// The name that the original would have then.
        old: String,
    },
}

/// A migration ready to run.
pub struct Ready {
    /// Everything decided.
    pub migration: Arc<Migration>,
    /// As stored.
    pub record: Record,
    /// Which ranges are copied.
    pub board: Board,
    /// Their records.
    pub chunks: Vec<(ChunkId, crate::engine::state::record::ChunkRecord)>,
    /// Rows that the table is thought to have.
    pub rows_estimated: u64,
    /// Where the stream starts.
    pub start: Start,
    /// The same as a point.
    pub safe: SafePosition,
    /// Changes applied by former engines.
    pub applied: u64,
}

impl Ready {
    /// The work, by which it is told whether another engine has it.
    pub(super) fn owned(&self) -> Owned {
        Owned {
            epoch: self.migration.epoch,
            server_uuid: self.migration.facts.uuid.clone(),
            ghost_id: self.record.ghost_id,
            swapped: None,
            reverted: false,
        }
    }
}

/// Names that are tried for a table that is kept.
const TRIES: i64 = 20;

/// Rows under which building indexes later gains nothing.
const DEFER_FROM_ROWS: u64 = 10_000;

/// Digest of what a migration is, to tell whether the tables found were made for it.
pub fn spec_digest(spec: &MigrationSpec) -> String {
    let mut hash = Sha256::new();
    for part in [spec.database.as_str(), &spec.table, spec.asked()] {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    format!("{:x}", hash.finalize())
}

/// What a front end, or a former attempt, has to say to the preparation.
#[derive(Debug, Clone, Copy)]
pub struct Wishes<'a> {
    /// When secondary indexes are built.
    pub defer: DeferIndexes,
    /// Ways that the server refused on the table itself.
    pub refused: &'a Refused,
    /// What is to become of the old table.
    pub old_table: OldTable,
    /// How many tables a swap may lock.
    pub max_locked_tables: u16,
    /// For how long the old table is to be kept current after the swap; nothing: not at all.
    pub window: Duration,
    /// The change is to be taken back.
    pub revert: bool,
    /// The time, by the clock that windows are looked at.
    pub now: SystemTime,
}

impl Wishes<'_> {
    fn way_back(&self) -> bool {
        !self.window.is_zero()
    }
}

/// Inspects and prepares. The caller holds the migration's named lock ([`crate::engine::state::fence::take_lock`]). `touched` tells the caller whether tables of ours exist when an error comes back.
///
/// # Errors
/// Every reason of refusal; the server's.
pub async fn prepare(
    spec: &MigrationSpec,
    wishes: Wishes<'_>,
    control: &mut Session,
    publisher: &Publisher,
    touched: &mut bool,
) -> Result<Prepared, EngineError> {
    let mut facts = ServerFacts::read(control).await?;
    if spec.server.unlogged {
        // A commit that is not logged waits for no earlier one.
        facts.order_commits = false;
    }
    let names = spec.names();
    let state = StateTable::new(&spec.database, &names.state);
    state.free(control).await?;
    match inspector::check_server(&facts, spec.mode) {
        // In the middle of a failover the address may lead to a replica that is about to be promoted, or to the primary that was.
        Err(error)
            if error.reason == Reason::ReadOnly
                && state.load(control, &spec.database).await?.is_some_and(|stored| stored.record.id == spec.id) =>
        {
            *touched = true;
            return Err(EngineError::transient(
                Reason::ReadOnly,
                &format!("{error}; the work so far is kept, and continues when the server accepts writes"),
            ));
        }
        checked => checked?,
    }
    if spec.copies() {
        inspector::check_log(control, &facts, &spec.database).await.map_err(|error| left(error, ". Nothing was touched"))?;
    }
    publish(publisher, &names);

    let values = control.server_values().await?;
    let mut found = state.load(control, &spec.database).await?;
    if found.as_ref().is_none_or(|stored| !stored.record.id.is_empty() && stored.record.id != spec.id)
        && let Some((kept, stored)) = StateTable::kept(control, spec).await?
    {
        // This migration was finished, and a later one has come since. `run` knows a change by what it is: asked for once more after it was
        // undone, it is another one.
        if is_as_left(control, spec, &stored.record, &names).await? {
            return Ok(over(&facts, kept, stored, publisher, &names));
        }
    }
    // The same change once more: nothing is to be done only if the table is as the change left it. Where the old table is to go, that is what
    // the earlier run has left to do.
    let asked_again = spec.can_be_asked_for_again() && wishes.old_table == OldTable::Keep;
    let again = match &found {
        Some(stored) if asked_again && stored.record.id == spec.id && stored.record.is_over() => {
            original(spec, control).await?;
            !is_as_left(control, spec, &stored.record, &names).await?
        }
        _ => false,
    };
    if again {
        let table = quote::qualified(&spec.database, &spec.table);
        let message = format!("an earlier run made this change to {table}, but its definition has changed since: making the change again");
        publisher.notice(notice::STARTED_OVER, true, message);
    }
    if let Some(stored) = &found
        && !stored.record.id.is_empty()
        && (stored.record.id != spec.id || again)
        && stored.record.is_over()
    {
        // Its old table stays, and this goes on saying whose that is.
        let kept = free_name(control, spec, Stamp::kept_state).await?;
        state.keep_as(control, &kept).await?;
        found = None;
    }
    if let Some(stored) = found {
        if !stored.record.id.is_empty() && stored.record.id != spec.id {
            return Err(EngineError::terminal(
                Reason::NameTaken,
                &format!(
                    "the tables {} and {} belong to another migration ({}). Nothing was touched; finish or delete that migration first",
                    names.ghost, names.state, stored.record.display_name
                ),
            ));
        }
        *touched = true;
        replica::still(control, spec).await?;
        let known = desired::as_recorded(spec, &stored.record, publisher);
        if let Some(prepared) = resume(&known, wishes, &values, &facts, &names, &state, stored, control, publisher).await? {
            return Ok(prepared);
        }
        // What was there describes no work that can be resumed: it is ours, so it goes.
        drop_ours(control, spec, &names).await?;
        *touched = false;
    }
    let derived = match &spec.desired {
        None => None,
        Some(wanted) => match desired::with_clauses(spec, wanted, &values, &facts, &state, control, publisher, touched).await? {
            None => return Ok(Prepared::Nothing),
            derived => derived,
        },
    };
    let spec = derived.as_ref().map_or(spec, |derived| &derived.spec);
    let alter = check_alter_as(&spec.alter, values.grammar())?;
    fresh(spec, &alter, derived.as_ref(), values, facts, names, wishes, control, publisher, touched).await
}

/// What is left behind, where it ends with this error.
fn left(error: EngineError, words: &str) -> EngineError {
    if error.is_transient() { error } else { error.and(words) }
}

fn publish(publisher: &Publisher, names: &TableNames) {
    publisher.update(|s| {
        // Once the change is made, the tables beside are told by whoever knows which way it goes.
        if s.revert.is_none() {
            s.tables = Tables { ghost: names.ghost.clone(), state: names.state.clone(), old: names.old.clone() };
        }
    });
}

/// Whether the table has the definition that a finished migration left.
async fn is_as_left(control: &mut Session, spec: &MigrationSpec, record: &Record, names: &TableNames) -> Result<bool, EngineError> {
    let now = inspector::table(control, &spec.database, &spec.table).await?;
    let left = record.definition_after(&record.names(names).ghost, &spec.table);
    Ok(now.is_some_and(|now| normalise(&now.show_create).is_ok_and(|now| now == left)))
}

/// A migration that is finished but for what it left.
fn over(facts: &ServerFacts, state: StateTable, stored: Stored, publisher: &Publisher, names: &TableNames) -> Prepared {
    let Stored { mut record, epoch, .. } = stored;
    if record.server_uuid != facts.uuid {
        record.forget_ids();
        record.server_uuid.clone_from(&facts.uuid);
    }
    publish(publisher, &TableNames { state: state.name().to_owned(), ..record.names(names) });
    Prepared::Swapped(Box::new(Leftovers { state, record, epoch }))
}

/// A name with the present time in it that no table has.
pub(super) async fn free_name(
    control: &mut Session,
    spec: &MigrationSpec,
    name: fn(Stamp, &str, bool) -> String,
) -> Result<String, EngineError> {
    let now = jiff::Timestamp::now();
    let mut last = String::new();
    for second in 0..TRIES {
        let at = now.saturating_add(jiff::SignedDuration::from_secs(second)).unwrap_or(now);
        let digits = at.strftime("%Y%m%d%H%M%S").to_string();
        last = name(Stamp::new(digits.parse().unwrap_or_default()), &spec.table, spec.mode.on_replica());
        if !inspector::exists(control, &spec.database, &last).await? {
            return Ok(last);
        }
    }
    Err(EngineError::terminal(
        Reason::NameTaken,
        &format!(
            "the table {} exists, and so do tables with the following timestamps in their names. Nothing was touched; drop the ones that are no longer needed",
            quote::qualified(&spec.database, &last)
        ),
    ))
}

/// What the old table is to be called: `_T_del`, or, where a table of any kind has that name, one with the time in it. What is there is an
/// earlier migration's old table, which stays for its retention, or someone else's: it is never touched.
async fn name_old(control: &mut Session, spec: &MigrationSpec) -> Result<String, EngineError> {
    let plain = spec.names().old;
    if inspector::exists(control, &spec.database, &plain).await? { free_name(control, spec, Stamp::old).await } else { Ok(plain) }
}

/// The original, or why it cannot be migrated.
pub(super) async fn original(spec: &MigrationSpec, control: &mut Session) -> Result<Inspected, EngineError> {
    inspector::table(control, &spec.database, &spec.table).await?.ok_or_else(|| {
        EngineError::terminal(
            Reason::TableNotFound,
            &format!("{} does not exist, or the account cannot see it. Nothing was touched", quote::qualified(&spec.database, &spec.table)),
        )
    })
}

async fn fresh(
    spec: &MigrationSpec,
    alter: &Alter,
    derived: Option<&desired::Derivation>,
    values: ServerValues,
    facts: ServerFacts,
    mut names: TableNames,
    wishes: Wishes<'_>,
    control: &mut Session,
    publisher: &Publisher,
    touched: &mut bool,
) -> Result<Prepared, EngineError> {
    let state = StateTable::new(&spec.database, &names.state);
    if spec.mode.on_replica() {
        replica::check(control, spec.mode, &facts).await?;
    }
    if wishes.way_back() && spec.mode.on_replica() {
        let why =
            "revert.window needs mode Execute: a change on a replica alone leaves nothing that could be taken back. Nothing was touched";
        return Err(EngineError::terminal(Reason::InvalidSpec, why));
    }
    let original = original(spec, control).await?;
    derived.map_or(Ok(()), |derived| derived.check(&original))?;
    if spec.copies() {
        let found = inspector::check_relations(control, &spec.database, &spec.table).await?;
        if wishes.way_back() {
            way_back::check_bound(spec, &original, &found, control).await?;
        }
        // What of it is known without the ghost.
        let table = TableName::new(&spec.database, &spec.table);
        let planning = Planning { table: &table, original: &original, alter, old: &names.old, most: wishes.max_locked_tables, added: &[] };
        planning.plan(control, &found).await.map_err(|error| left(error, ". Nothing was touched"))?;
        inspector::check_sessions(control).await.map_err(|error| left(error, ". Nothing was touched"))?;
    }
    if let Some(name) = alter.unknown_foreign_keys(&original.foreign_key_names()).first() {
        return Err(EngineError::terminal(
            Reason::AlterRejected,
            &format!(
                "{} has no foreign key {} to drop. Nothing was touched",
                quote::qualified(&spec.database, &spec.table),
                quote::identifier(name)
            ),
        ));
    }
    inspector::check_prepared(control, &spec.database, &spec.table).await?;
    check_ghost_name(control, spec, &names).await?;
    names.old = name_old(control, spec).await?;
    publish(publisher, &names);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut record = Record {
        id: spec.id.clone(),
        display_name: spec.display_name.clone(),
        spec_digest: spec_digest(spec),
        clauses: spec.desired.as_ref().map(|_| spec.alter.clone()).unwrap_or_default(),
        server_uuid: facts.uuid.clone(),
        original_definition: normalise(&original.show_create)?,
        original_id: original.table_id,
        server_values: Some(values.clone()),
        rows_estimated: original.rows_estimated,
        started_at: now,
        old: names.old.clone(),
        ..Record::empty()
    };
    let epoch = create_state(&state, &record, spec, &names, control, touched).await?;
    match make(spec, alter, &values, &facts, &names, &original, wishes, control, &mut record, publisher).await {
        Ok(Made::Nothing) => {
            drop_ours(control, spec, &names).await?;
            *touched = false;
            Ok(Prepared::Nothing)
        }
        Ok(Made::Native(native)) => {
            // The clone has told what there was to tell.
            control
                .run("drop the clone", SHORT, &format!("DROP TABLE IF EXISTS {}", quote::qualified(&spec.database, &names.ghost)))
                .await?;
            if spec.mode == Mode::DryRun {
                drop_ours(control, spec, &names).await?;
                *touched = false;
                return Ok(Prepared::Proven);
            }
            record.stage = Stage::Native;
            record.native = true;
            record.ghost_definition.clone_from(&native.expected);
            state.store(control, epoch, &record, None).await?;
            publisher.update(|s| s.started_at = Some(SystemTime::now()));
            let leftovers = Leftovers { state, record, epoch };
            let values = clause_values(spec, alter, &values, control).await?;
            Ok(Prepared::Native(Box::new(NativeReady { native, leftovers, clauses: alter.to_sql(), values })))
        }
        Ok(Made::Ghost(made)) => {
            let Ghost { definition: ghost, mapping, key, rows, numbering, demands, no_way_back } = *made;
            if spec.mode == Mode::DryRun {
                drop_ours(control, spec, &names).await?;
                *touched = false;
                return Ok(Prepared::Proven);
            }
            let (position, executed) = facts.log_end(control).await?;
            // One that was prepared meanwhile: what is prepared from here on is in the stream.
            inspector::check_prepared(control, &spec.database, &spec.table).await?;
            let safe = SafePosition { position, executed: executed.to_string(), applied: 0 };
            record.stage = Stage::Copying;
            // This commit is the first barrier too: with binlog_order_commits it returns after everything before `position` is visible.
            state.store(control, epoch, &record, Some(&safe)).await?;
            // Whatever comes after this look is in the stream, and under the lock of the swap it is looked once more.
            if let Err(error) = check_key_nulls(spec, &facts, &original, &key, control).await {
                return Err(undo(control, spec, &names, touched, error).await);
            }
            publisher.update(|s| s.started_at = Some(SystemTime::now()));
            let rows_estimated = original.rows_estimated;
            let codec = codec(&original, &ghost, &key, &rows)?;
            let start = start_of(&facts, &safe, true);
            let migration = Migration {
                spec: spec.clone(),
                visibility: Visibility::on(&facts),
                facts,
                names,
                original,
                ghost,
                rows,
                mapping,
                key,
                codec,
                numbering,
                turned: None,
                demands,
                no_way_back,
                alter_sets_auto_increment: alter.sets_auto_increment(),
                state,
                epoch,
            };
            Ok(Prepared::Run(Box::new(Ready {
                migration: Arc::new(migration),
                record,
                board: Board::default(),
                chunks: Vec::new(),
                start,
                rows_estimated,
                safe,
                applied: 0,
            })))
        }
        Err(error) => Err(undo(control, spec, &names, touched, error).await),
    }
}

/// Makes the state table, which says whose the other tables are; the epoch. Nothing is left of it where that is refused.
pub(super) async fn create_state(
    state: &StateTable,
    record: &Record,
    spec: &MigrationSpec,
    names: &TableNames,
    control: &mut Session,
    touched: &mut bool,
) -> Result<u64, EngineError> {
    *touched = true;
    match state.create(control, record).await {
        Ok(epoch) => Ok(epoch),
        Err(error) => {
            let error = if spec.mode.on_replica() { replica::may_not_write(error) } else { error };
            // Refused before it existed: there is nothing to remove, and the account may not even be allowed to try.
            if !error.is_transient() && !inspector::exists(control, &spec.database, &names.state).await? {
                *touched = false;
                return Err(error);
            }
            Err(undo(control, spec, names, touched, error).await)
        }
    }
}

/// The ghost's name is free: what stands there is never touched.
pub(super) async fn check_ghost_name(control: &mut Session, spec: &MigrationSpec, names: &TableNames) -> Result<(), EngineError> {
    if !inspector::exists(control, &spec.database, &names.ghost).await? {
        return Ok(());
    }
    Err(EngineError::terminal(
        Reason::NameTaken,
        &format!(
            "the table {name} exists, and no state table {} says that this migration made it. Nothing was touched. If it is left from a migration that is finished or lost its state table, DROP TABLE {name}, then retry",
            quote::identifier(&names.state),
            name = quote::qualified(&spec.database, &names.ghost)
        ),
    ))
}

/// Removes what was made for a migration that is then refused, so that nothing is left behind.
pub(super) async fn undo(
    control: &mut Session,
    spec: &MigrationSpec,
    names: &TableNames,
    touched: &mut bool,
    error: EngineError,
) -> EngineError {
    if error.is_transient() {
        // The next attempt finds the state table and removes it.
        return error;
    }
    match drop_ours(control, spec, names).await {
        Ok(()) => {
            *touched = false;
            error
        }
        Err(left) => EngineError {
            message: format!("{}; and could not drop the tables {} and {} ({left})", error.message, names.ghost, names.state),
            ..error
        },
    }
}

/// What became of the clone.
enum Made {
    Ghost(Box<Ghost>),
    Native(Native),
    Nothing,
}

struct Ghost {
    definition: TableDefinition,
    mapping: ColumnMapping,
    key: key::MigrationKey,
    rows: RowSettings,
    numbering: Option<Numbering>,
    demands: Vec<Demand>,
    no_way_back: Option<String>,
}

async fn make(
    spec: &MigrationSpec,
    alter: &Alter,
    values: &ServerValues,
    facts: &ServerFacts,
    names: &TableNames,
    original: &Inspected,
    wishes: Wishes<'_>,
    control: &mut Session,
    record: &mut Record,
    publisher: &Publisher,
) -> Result<Made, EngineError> {
    let ghost_name = quote::qualified(&spec.database, &names.ghost);
    let server_values = values;
    let values = &clause_values(spec, alter, server_values, control).await?;
    let clauses = make_clone(spec, alter, values, names, original, control).await?;
    let replicas = !spec.server.unlogged && has_replicas(facts, control).await?;
    let question = chooser::Question {
        spec,
        alter,
        clone_clauses: &clauses,
        names,
        original,
        replicas,
        values,
        refused: wishes.refused,
        foreign_keys_after: &alter.foreign_keys_after(&original.foreign_key_names()),
    };
    match chooser::choose(&question, control).await? {
        Choice::Nothing => return Ok(Made::Nothing),
        Choice::Native(native) => {
            check_defaults(spec, alter, server_values, values, names, control).await?;
            if spec.mode == Mode::ExecuteOnReplica {
                let clone = ghost(spec, names, control).await?;
                let mapping = mapping(original, &clone, alter)?;
                replica::check_columns(control, &original.definition, &clone.definition, &mapping).await?;
            }
            return Ok(Made::Native(native));
        }
        Choice::Copy { reason } => {
            if !spec.copies() {
                // What the server could do itself would not have been refused.
                let but = |error: EngineError| EngineError {
                    message: format!("the change needs a copy ({reason}), but {}", error.message),
                    ..error
                };
                inspector::check_log(control, facts, &spec.database).await.map_err(|error| left(but(error), ". Nothing is left behind"))?;
                inspector::check_sessions(control).await.map_err(|error| left(but(error), ". Nothing is left behind"))?;
                inspector::check_relations(control, &spec.database, &spec.table).await.map_err(but)?;
            }
            if !inspector::exists(control, &spec.database, &names.ghost).await? {
                make_clone(spec, alter, values, names, original, control).await?;
            }
            publisher.update(|s| s.algorithm = Some(ChosenAlgorithm { chosen: Algorithm::Copy, reason }));
        }
    }
    // On an empty table COPY accepts everything that any algorithm does, and leaves no trace of instant columns.
    let copy = format!("ALTER TABLE {ghost_name} {}", crate::sql::alter::done_by("ALGORITHM=COPY", &clauses));
    let plain = format!("ALTER TABLE {ghost_name} {clauses}");
    let what = "apply the ALTER to the empty ghost table";
    let copied = control.run_patiently(Some(Purpose::Clauses(values)), what, SHORT, &copy).await;
    if let Err(error) = copied {
        // What passes by itself says nothing about the change.
        if error.is_transient() || matches!(error.code, codes::WRONG_VALUE_FOR_VAR | codes::INVALID_CHARACTER_STRING) {
            return Err(error.into());
        }
        if let Err(error) = control.run_as(Purpose::Clauses(values), what, SHORT, &plain).await {
            let reason = match crate::engine::contract::error::reason_of(&error) {
                Reason::MissingPrivilege => Reason::MissingPrivilege,
                _ => Reason::AlterRejected,
            };
            return Err(EngineError::of_server(
                &error,
                reason,
                &format!(
                    "the server refused the ALTER on an empty copy of {}: {}. Nothing is left behind",
                    quote::qualified(&spec.database, &spec.table),
                    error.message.trim_end_matches('.')
                ),
            ));
        }
    }
    let tables = Swapped::new(spec, names);
    let added = relatives::take_added(control, original, &tables.table, &tables.ghost, &facts.binlog_row_image).await;
    let added = added.map_err(|error| left(error, ". Nothing is left behind"))?;
    check_defaults(spec, alter, server_values, values, names, control).await?;
    let values = server_values;
    let full = ghost(spec, names, control).await?;
    let mapping = mapping(original, &full, alter)?;
    let (mapping, rows) = evaluated(spec, values, facts, original, &full, mapping, control).await?;
    check_filled_dates(spec, values, &mapping, control).await?;
    if spec.mode == Mode::ExecuteOnReplica {
        replica::check_columns(control, &original.definition, &full.definition, &mapping).await?;
    }
    numbers::check_nulls(control, spec, &original.definition, &full.definition, &mapping).await?;
    let key = choose_key(spec, facts, original, &full.definition, &mapping)?;
    check_key_nulls(spec, facts, original, &key, control).await?;
    record.key_index.clone_from(&key.index);
    record.helper_index = key.helper.clone().unwrap_or_default();
    record.ghost_definition = normalise(&full.show_create)?;
    record.relatives = bound(spec, alter, names, original, &full, &added, wishes, control).await?;
    let demands = demands(control, &record.relatives, &tables.table, &original.definition, &full.definition, &mapping).await;
    let demands = demands.map_err(|error| left(error, ". Nothing is left behind"))?;
    let no_way_back = way_back::missing(original, &full, &mapping, &record.relatives, facts);
    if wishes.way_back() {
        way_back::check(spec, no_way_back.as_ref())?;
    }
    let both = (&original.definition, &full.definition, &mapping);
    orphans::look_ahead(control, &demands, both, &tables.table, &*codec(original, &full.definition, &key, &rows)?).await?;
    // After the constraints, none of which may come to rest upon it.
    helper_index::ensure(control, &spec.database, &names.ghost, &key).await.map_err(|error| no_helper(spec, &key, error))?;
    let wanted = match wishes.defer {
        DeferIndexes::Never => false,
        // A constraint that the ghost has needs its index.
        _ if !record.relatives.carried.is_empty() => false,
        // Rows that refer to a parent are looked for by it.
        _ if !record.relatives.added.is_empty() => false,
        DeferIndexes::Always => true,
        // A replica would stand still for as long as the build takes.
        DeferIndexes::Auto => original.rows_estimated >= DEFER_FROM_ROWS && !replicas,
    };
    if wanted {
        record.deferred_indexes = drop_deferrable(&ghost_name, &full, &key, control).await?;
    }
    probe_privileges(spec, names, control).await?;
    record.ghost_id = inspector::table_id(control, &spec.database, &names.ghost).await?;
    let numbering = Numbering::new(&full.definition, &mapping, &full.show_create)?;
    let mut definition = full.definition;
    definition.indexes.extend(key.helper_index());
    Ok(Made::Ghost(Box::new(Ghost { definition, mapping, key, rows, numbering, demands, no_way_back })))
}

/// What the clauses are run in: the server's values. A column that no clause names may have a default that the server's modes refuse now; then the
/// modes for dates are left out, and [`check_defaults`] sees to the columns that the clauses do name.
async fn clause_values(
    spec: &MigrationSpec,
    alter: &Alter,
    values: &ServerValues,
    control: &mut Session,
) -> Result<ServerValues, EngineError> {
    let defined = alter.defined_columns();
    let named = |name: &String| defined.iter().any(|(before, _)| before.as_ref().is_some_and(|b| b.to_lowercase() == name.to_lowercase()));
    let old = inspector::zero_date_defaults(control, &spec.database, &spec.table).await?;
    Ok(if old.iter().all(named) { values.clone() } else { values.with_any_date() })
}

/// Refuses what the server's modes would have refused of the columns that the clauses name, where the clauses were run without them. Where they
/// were run in them, the server has had its say: one of the two modes takes what the other refuses.
async fn check_defaults(
    spec: &MigrationSpec,
    alter: &Alter,
    values: &ServerValues,
    run_in: &ServerValues,
    names: &TableNames,
    control: &mut Session,
) -> Result<(), EngineError> {
    if values == run_in || (!values.has_mode("NO_ZERO_DATE") && !values.has_mode("NO_ZERO_IN_DATE")) {
        return Ok(());
    }
    let defined = alter.defined_columns();
    let zero = inspector::zero_date_defaults(control, &spec.database, &names.ghost).await?;
    match zero.iter().find(|name| defined.iter().any(|(_, after)| after.to_lowercase() == name.to_lowercase())) {
        None => Ok(()),
        Some(column) => Err(EngineError::terminal(
            Reason::AlterRejected,
            &format!(
                "the server's sql_mode does not accept the default of {} as a date (1067, Invalid default value). Nothing is left behind",
                quote::identifier(column)
            ),
        )),
    }
}

/// A new date column that must not be NULL and has no default would be a zero date in every row there is.
async fn check_filled_dates(
    spec: &MigrationSpec,
    values: &ServerValues,
    mapping: &ColumnMapping,
    control: &mut Session,
) -> Result<(), EngineError> {
    let Some(column) = mapping.filled.iter().find(|filled| filled.value.starts_with("'0000-00-00")) else { return Ok(()) };
    if !values.has_mode("NO_ZERO_DATE") {
        return Ok(());
    }
    let table = quote::qualified(&spec.database, &spec.table);
    let row: Option<u8> = control.first("check whether the table has rows", SHORT, &format!("SELECT 1 FROM {table} LIMIT 1")).await?;
    if row.is_none() {
        return Ok(());
    }
    Err(EngineError::terminal(
        Reason::DataDoesNotFit,
        &format!(
            "the new column {} of {table} is NOT NULL and has no default, so every row would get a zero date, which sql_mode refuses \
             (NO_ZERO_DATE; natively 1292). Nothing is left behind; give it a default, or allow NULL",
            quote::identifier(&column.ghost)
        ),
    ))
}

/// In which settings rows are evaluated, and the mapping as it is in them.
async fn evaluated(
    spec: &MigrationSpec,
    values: &ServerValues,
    facts: &ServerFacts,
    original: &Inspected,
    ghost: &Inspected,
    mut mapping: ColumnMapping,
    control: &mut Session,
) -> Result<(ColumnMapping, RowSettings), EngineError> {
    let rows = evaluation::row_settings(values, &original.definition, ghost, &mapping);
    for default in inspector::now_defaults(control, &spec.database, &ghost.definition.name).await? {
        if mapping.added.contains(&default.column) && !mapping.filled.iter().any(|f| f.ghost == default.column) {
            mapping.filled.push(evaluation::filled(&rows, &default));
        }
    }
    if evaluation::zone(&rows) == key::Zone::Shifting {
        let has_timestamp = |d: &TableDefinition| d.columns.iter().any(|c| matches!(c.column_type, ColumnType::Timestamp { .. }));
        if !OFFSET_LITERALS.of(facts.version) && has_timestamp(&original.definition) {
            return Err(EngineError::terminal(
                Reason::ServerNotSupported,
                &format!(
                    "the change depends on time_zone ({}), which has daylight saving time, and {} has TIMESTAMP columns, which servers before 8.0.19 cannot then copy exactly. Nothing is left behind; SET GLOBAL time_zone='+00:00' if that is correct for the change",
                    values.get("time_zone"),
                    quote::qualified(&spec.database, &spec.table)
                ),
            ));
        }
        mapping = mapping.by_instants(&original.definition, &ghost.definition);
    }
    Ok((mapping, rows))
}

pub(super) fn mapping(original: &Inspected, new: &Inspected, alter: &Alter) -> Result<ColumnMapping, EngineError> {
    let mapping = ColumnMapping::new(&original.definition, &new.definition, alter)
        .map_err(|error| EngineError::terminal(Reason::AlterNotSupported, &format!("{error}. Nothing is left behind")))?;
    let shown = |inspected: &Inspected| create::columns(&inspected.show_create).map_err(not_readable);
    match mapping.unaccounted(&shown(original)?, &shown(new)?) {
        None => Ok(mapping),
        Some(why) => Err(EngineError::internal(&format!("{why}; nothing is left behind"))),
    }
}

/// What becomes of the foreign keys that bind the table to others: refused now where the change or the server does not let it.
async fn bound(
    spec: &MigrationSpec,
    alter: &Alter,
    names: &TableNames,
    original: &Inspected,
    new: &Inspected,
    added: &[ForeignKey],
    wishes: Wishes<'_>,
    control: &mut Session,
) -> Result<Relatives, EngineError> {
    let nothing_left = |error: EngineError| if error.is_transient() { error } else { error.and(". Nothing is left behind") };
    let found = sight::relations(control, &spec.database, &spec.table).await.map_err(nothing_left)?;
    if wishes.way_back() {
        way_back::check_bound(spec, original, &found, control).await?;
    }
    let tables = Swapped::new(spec, names);
    let planned = async {
        let most = wishes.max_locked_tables;
        let planning = Planning { table: &tables.table, original, alter, old: &names.old, most, added };
        let mut after = planning.plan_with(control, &found, &new.definition, new.partitioned).await?;
        relatives::keep_indexes(control, &after, &tables.ghost).await?;
        relatives::prove(control, &spec.server, &after, &tables.table, &tables.ghost).await?;
        relatives::carry(control, &mut after, original, &tables.table, &tables.ghost).await?;
        Ok(after)
    };
    planned.await.map_err(nothing_left)
}

/// Does to the empty ghost what the cut-over will do: a privilege that is missing then is missed now, not after hours of copying.
async fn probe_privileges(spec: &MigrationSpec, names: &TableNames, control: &mut Session) -> Result<(), EngineError> {
    let (ghost, old) = (quote::qualified(&spec.database, &names.ghost), quote::qualified(&spec.database, &names.old));
    let state = quote::qualified(&spec.database, &names.state);
    control
        .run(
            "try what the cut-over needs (LOCK TABLES, RENAME)",
            SHORT,
            &format!("LOCK TABLES {ghost} WRITE, {state} WRITE; UNLOCK TABLES; RENAME TABLE {ghost} TO {old}, {old} TO {ghost}"),
        )
        .await?;
    // Where only the server can tell whether two values are equal, rows are converted into one.
    let scratch = quote::qualified(&spec.database, "_theseus_probe");
    control
        .run(
            "try what comparing rows needs (CREATE TEMPORARY TABLES)",
            SHORT,
            &format!("CREATE TEMPORARY TABLE {scratch} (a INT PRIMARY KEY) ENGINE=InnoDB; DROP TEMPORARY TABLE {scratch}"),
        )
        .await?;
    Ok(())
}

async fn ghost(spec: &MigrationSpec, names: &TableNames, control: &mut Session) -> Result<Inspected, EngineError> {
    inspector::table(control, &spec.database, &names.ghost).await?.ok_or_else(|| {
        EngineError::transient(Reason::StatementInterrupted, "someone else dropped the ghost table while it was being created")
    })
}

/// What gives the table a key, where it has none of its own.
fn advice(spec: &MigrationSpec, facts: &ServerFacts, original: &Inspected) -> String {
    let statement = key::propose(&spec.database, &original.definition, original.partitioned, INVISIBLE_COLUMNS.of(facts.version));
    statement.map(|statement| format!("; this statement gives it one (it blocks writes while it runs): {statement}")).unwrap_or_default()
}

/// Refuses a key whose columns may be NULL, and are in some row.
async fn check_key_nulls(
    spec: &MigrationSpec,
    facts: &ServerFacts,
    original: &Inspected,
    key: &key::MigrationKey,
    control: &mut Session,
) -> Result<(), EngineError> {
    let table = quote::qualified(&spec.database, &spec.table);
    match key_nulls::find(control, &table, key).await? {
        None => Ok(()),
        Some(column) => Err(key_nulls::no_key(&table, &key.index, column).and(&advice(spec, facts, original))),
    }
}

fn choose_key(
    spec: &MigrationSpec,
    facts: &ServerFacts,
    original: &Inspected,
    ghost: &TableDefinition,
    mapping: &ColumnMapping,
) -> Result<key::MigrationKey, EngineError> {
    let key = key::choose(&original.definition, ghost, mapping).map_err(|error| {
        let table = quote::qualified(&spec.database, &spec.table);
        EngineError::terminal(Reason::NoUsableKey, &format!("{table}: {error}{}", advice(spec, facts, original)))
    })?;
    match key::not_logged(&key, &facts.binlog_row_image) {
        None => Ok(key),
        Some(why) => Err(EngineError::terminal(
            Reason::NoUsableKey,
            &format!("{}: {why}; {}", quote::qualified(&spec.database, &spec.table), key::ANOTHER_IMAGE),
        )),
    }
}

/// The helper index cannot be made: a partitioned table takes no unique index without the columns that it is partitioned by, for instance.
fn no_helper(spec: &MigrationSpec, key: &key::MigrationKey, error: EngineError) -> EngineError {
    if error.is_transient() {
        return error;
    }
    EngineError {
        reason: Reason::NoUsableKey,
        message: format!(
            "{}: after the ALTER no unique index covers the columns of {}, and the new table cannot be given one for the time of the copy: {}. Nothing is left behind",
            quote::qualified(&spec.database, &spec.table),
            quote::identifier(&key.index),
            error.message
        ),
        ..error
    }
}

async fn has_replicas(facts: &ServerFacts, control: &mut Session) -> Result<bool, EngineError> {
    let sql = if crate::mysql::versions::REPLICA_STATEMENTS.of(facts.version) { "SHOW REPLICAS" } else { "SHOW SLAVE HOSTS" };
    match control.rows::<mysql_async::Row>("look for replicas", SHORT, sql).await {
        // Streams of other engines register too, with ids in the upper half (see the streamer).
        Ok(rows) => {
            Ok(rows.iter().any(|row| row.get::<Option<u64>, _>(0).flatten().is_none_or(|id| id < crate::mysql::session::FIRST_SERVER_ID)))
        }
        Err(error) if error.is_connection() => Err(error.into()),
        // Not allowed to look: be careful.
        Err(_) => Ok(true),
    }
}

/// Drops the non-unique secondary indexes that can be built after the rows; returns their definitions.
async fn drop_deferrable(
    ghost_name: &str,
    ghost: &Inspected,
    key: &key::MigrationKey,
    control: &mut Session,
) -> Result<Vec<String>, EngineError> {
    // The one that finds rows by the key may be one that is not unique.
    let indexes = create::split_secondary_indexes(&ghost.show_create, &[&key.ghost_index]).map_err(not_readable)?;
    // SHOW CREATE does not say the collation that an expression has.
    let plain = |index: &create::SecondaryIndex| index.parts.iter().all(|part| part.column.is_some());
    let later: Vec<_> = indexes
        .iter()
        .filter(|i| i.stays.is_none() && !i.unique && !i.full_text && !i.definition.starts_with("SPATIAL") && plain(i))
        .collect();
    // The order of the remaining ones must stay what a native ALTER leaves: FULLTEXT and SPATIAL come last, and an index that stays in
    // between would move up.
    let last_later = indexes.iter().rposition(|i| later.iter().any(|l| l.name == i.name));
    let first_later = indexes.iter().position(|i| later.iter().any(|l| l.name == i.name));
    let contiguous = match (first_later, last_later) {
        (Some(first), Some(last)) => last - first + 1 == later.len() && last + 1 == indexes.len(),
        _ => false,
    };
    if !contiguous {
        return Ok(Vec::new());
    }
    let drops: Vec<String> = later.iter().map(|i| format!("DROP INDEX {}", quote::identifier(&i.name))).collect();
    control.run("drop secondary indexes of the ghost", SHORT, &format!("ALTER TABLE {ghost_name} {}", drops.join(", "))).await?;
    Ok(later.iter().map(|i| i.definition.clone()).collect())
}

pub(super) fn codec(
    original: &Inspected,
    ghost: &TableDefinition,
    key: &key::MigrationKey,
    rows: &RowSettings,
) -> Result<Arc<KeyCodec>, EngineError> {
    KeyCodec::new(&original.definition, ghost, key)
        .map(|codec| Arc::new(codec.in_zone(evaluation::zone(rows))))
        .map_err(|error| EngineError::internal(&format!("the chosen key cannot be encoded: {error}")))
}

/// Takes up the work of a former engine; `None` when there is none to take up.
async fn resume(
    spec: &MigrationSpec,
    wishes: Wishes<'_>,
    now: &ServerValues,
    facts: &ServerFacts,
    names: &TableNames,
    state: &StateTable,
    stored: Stored,
    control: &mut Session,
    publisher: &Publisher,
) -> Result<Option<Prepared>, EngineError> {
    // Before anything is written.
    takeover::check_promoted(control, facts, &stored.record.server_uuid).await?;
    if stored.record.stage == Stage::Preparing || spec.mode == Mode::DryRun {
        return Ok(None);
    }
    let epoch = state.take_over(control).await?;
    // Read again behind the new epoch: until then a former owner that is not quite dead may have recorded a chunk.
    let Some(stored) = state.load(control, &spec.database).await? else {
        return Ok(None);
    };
    let Stored { mut record, safe, chunks, .. } = stored.clone();
    if record.applier_stopped {
        replica::resume(control, spec).await?;
        record.applier_stopped = false;
        state.store(control, epoch, &record, None).await?;
    }
    let same_server = record.server_uuid == facts.uuid;
    if !same_server {
        record.forget_ids();
    }
    let mut names = record.names(names);
    publish(publisher, &names);
    if record.stage == Stage::Swapping {
        match outcome(control, &spec.database, &spec.table, &names, &record).await? {
            Swap::Happened if record.way_back => {
                let stored = Stored { record, epoch, ..stored };
                let found = way_back::Found { spec, wishes, facts, zone_print: now.zone_print, state, stored, publisher };
                return way_back::turned(found, control).await.map(Some);
            }
            // What may be left of it comes before the record that says so.
            Swap::Happened => {
                record.server_uuid.clone_from(&facts.uuid);
                return Ok(Some(Prepared::Swapped(Box::new(Leftovers { state: state.clone(), record, epoch }))));
            }
            Swap::DidNot if record.is_turned() => record.stage = Stage::Turned,
            Swap::DidNot => {
                let tables = Swapped::new(spec, &names);
                cutover::relatives::disarm(control, &record.relatives, &tables).await?;
                record.stage = Stage::Copying;
            }
            Swap::Unknown => return Ok(Some(Prepared::Unknown { old: names.old })),
        }
    }
    if record.stage == Stage::Turned {
        let stored = Stored { record, epoch, ..stored };
        let found = way_back::Found { spec, wishes, facts, zone_print: now.zone_print, state, stored, publisher };
        return way_back::turned(found, control).await.map(Some);
    }
    if matches!(record.stage, Stage::Swapped | Stage::Tested | Stage::Reverted) {
        state.store(control, epoch, &record, None).await?;
        record.server_uuid.clone_from(&facts.uuid);
        return Ok(Some(Prepared::Swapped(Box::new(Leftovers { state: state.clone(), record, epoch }))));
    }
    if record.spec_digest != spec_digest(spec) {
        return Ok(None);
    }
    let original = original(spec, control).await?;
    if record.stage == Stage::Native {
        // Atomic DDL: the definition is the old one or the new one.
        if normalise(&original.show_create)? == record.ghost_definition {
            record.stage = Stage::Swapped;
            state.store(control, epoch, &record, None).await?;
            record.server_uuid.clone_from(&facts.uuid);
            return Ok(Some(Prepared::Swapped(Box::new(Leftovers { state: state.clone(), record, epoch }))));
        }
        return Ok(None);
    }
    inspector::check_log(control, facts, &spec.database).await.map_err(|error| {
        left(
            error,
            ". The original is unchanged and the work so far is kept: fix this and retry to resume, or delete the migration to remove it",
        )
    })?;
    let Some(values) = record.server_values.clone().filter(|values| values.zone_print == now.zone_print) else {
        publisher.notice(
            notice::STARTED_OVER,
            true,
            "the rows so far were copied under other server settings (time zone, or an older version): the copy starts over".into(),
        );
        return Ok(None);
    };
    let alter = &check_alter_as(&spec.alter, values.grammar())?;
    sight::relations(control, &spec.database, &spec.table).await.map(drop).map_err(|error| match error.is_transient() {
        true => error,
        false => error.and(
            ". The original is unchanged and the work so far is kept: fix this and retry to resume, or delete the migration to remove it",
        ),
    })?;
    if normalise(&original.show_create)? != record.original_definition || sight::replaced(record.original_id, original.table_id) {
        publisher.notice(
            notice::STARTED_OVER,
            true,
            format!("someone else changed or rebuilt {} while no engine was running: the copy starts over", spec.table),
        );
        return Ok(None);
    }
    let Some(mut ghost) = inspector::table(control, &spec.database, &names.ghost).await? else {
        publisher.notice(notice::STARTED_OVER, true, "someone else dropped the ghost table: the copy starts over".into());
        return Ok(None);
    };
    if sight::replaced(record.ghost_id, ghost.table_id) {
        publisher.notice(notice::STARTED_OVER, true, "someone else replaced the ghost table: the copy starts over".into());
        return Ok(None);
    }
    // A trial of its triggers that was broken off by a crash.
    let tables = Swapped::new(spec, &names);
    cutover::relatives::disarm(control, &record.relatives, &tables).await?;
    if let Err(error) = takeover::check_position(control, facts, &record, &safe).await {
        if !error.is_transient() {
            // A retry starts over.
            record.stage = Stage::Preparing;
            state.store(control, epoch, &record, None).await?;
        }
        return Err(error);
    }
    // The definition as it will be with its deferred indexes is what counts for the key; they are never unique.
    let mapping = ColumnMapping::new(&original.definition, &ghost.definition, alter)
        .map_err(|error| EngineError::terminal(Reason::AlterNotSupported, &error.to_string()))?;
    let (mapping, row_settings) = evaluated(spec, &values, facts, &original, &ghost, mapping, control).await?;
    // The key as it was chosen: by a definition that had no helper index yet.
    ghost.definition.indexes.retain(|index| index.name != record.helper_index);
    let key = choose_key(spec, facts, &original, &ghost.definition, &mapping)?;
    let ranges: Vec<(ChunkId, KeyRange)> =
        chunks.iter().map(|(first, chunk)| (ChunkId { first: *first, last: chunk.last }, chunk.range.clone())).collect();
    let board = match Board::resume(&ranges) {
        Some(board) if key.index == record.key_index && key.helper.as_deref().unwrap_or_default() == record.helper_index => board,
        _ => {
            publisher.notice(notice::STARTED_OVER, true, "the recorded chunks do not match the key: the copy starts over".into());
            return Ok(None);
        }
    };
    if inspector::exists(control, &spec.database, &names.old).await? {
        // Someone has made a table of that name since.
        names.old = free_name(control, spec, Stamp::old).await?;
        // It is longer than the first one: a CHECK constraint that takes the table's name along must still fit.
        let checks = create::check_constraints(&original.show_create).map_err(not_readable)?;
        create::ghost_check_names(&spec.table, &names.ghost, &names.old, &checks).map_err(not_readable)?;
        publish(publisher, &names);
    }
    match helper_index::ensure(control, &spec.database, &names.ghost, &key).await {
        Ok(()) => ghost.definition.indexes.extend(key.helper_index()),
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => {
            tracing::warn!("{error}");
            let message =
                format!("the ghost's index for the migration's key is missing and cannot be made again ({error}): the copy starts over");
            publisher.notice(notice::STARTED_OVER, true, message);
            return Ok(None);
        }
    }
    record.old.clone_from(&names.old);
    record.resumed_count += 1;
    record.server_uuid.clone_from(&facts.uuid);
    // What was known stays known when the account is not shown it any more.
    record.original_id = original.table_id.or(record.original_id);
    record.ghost_id = ghost.table_id.or(record.ghost_id);
    // Positions are of one server's log: on another one only the GTIDs count, until the stream has told where it is.
    let safe = if same_server { safe } else { SafePosition { position: BinlogPosition::default(), ..safe } };
    // The new epoch is committed: everything that was logged before it is visible now.
    state.store(control, epoch, &record, Some(&safe)).await?;
    let rows: u64 = chunks.iter().map(|(_, c)| c.rows).sum();
    let numbering = Numbering::new(&ghost.definition, &mapping, &ghost.show_create)?;
    let no_way_back = way_back::missing(&original, &ghost, &mapping, &record.relatives, facts);
    let deferred = std::mem::take(&mut ghost.show_create);
    tracing::debug!(definition = deferred, "ghost as found");
    publisher.update(|s| {
        s.resumed_count = record.resumed_count;
        s.started_at = UNIX_EPOCH.checked_add(Duration::from_secs(record.started_at));
    });
    // A count knows more than the server's estimate.
    let estimated = if record.rows_counted { 0 } else { original.rows_estimated };
    let rows_estimated = record.rows_estimated.max(rows).max(estimated);
    publisher.notice(notice::RESUMED, false, format!("resumed the work of an earlier engine: {rows} rows were already copied"));
    let codec = codec(&original, &ghost.definition, &key, &row_settings)?;
    let demands = demands(control, &record.relatives, &tables.table, &original.definition, &ghost.definition, &mapping).await;
    let demands = demands.map_err(cutover::came_meanwhile)?;
    let migration = Migration {
        spec: spec.clone(),
        visibility: Visibility::on(facts),
        facts: facts.clone(),
        names: names.clone(),
        original,
        ghost: ghost.definition,
        rows: row_settings,
        mapping,
        key,
        codec,
        numbering,
        turned: None,
        demands,
        no_way_back,
        alter_sets_auto_increment: alter.sets_auto_increment(),
        state: state.clone(),
        epoch,
    };
    let start = start_of(facts, &safe, same_server);
    let chunks = chunks.into_iter().map(|(first, chunk)| (ChunkId { first, last: chunk.last }, chunk)).collect();
    let applied = safe.applied;
    Ok(Some(Prepared::Run(Box::new(Ready { migration: Arc::new(migration), record, board, chunks, rows_estimated, start, safe, applied }))))
}

/// By position where that is exact; by GTIDs on another server, and where a logged transaction may still be invisible
/// (`binlog_order_commits=OFF`): a GTID is in the executed set only when its transaction is visible.
pub(super) fn start_of(facts: &ServerFacts, safe: &SafePosition, same_server: bool) -> Start {
    if facts.gtid && (!same_server || !facts.order_commits || safe.position.file.is_empty()) {
        Start::Executed(GtidSet::parse(&safe.executed).unwrap_or_default())
    } else {
        Start::Position(safe.position.clone())
    }
}
