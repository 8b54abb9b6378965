//! Foreign keys that the change adds: each row of the new table must have its parent, at the moment of the swap and none later.
//!
//! The ghost does not have them while it is filled: a constraint there would refuse the application the deletion of a parent as long as one stale
//! row of the ghost refers to it, and would lock parents for each row that is copied. Instead:
//! * once all rows are copied, the ghost is searched for rows without a parent ([`search`]);
//! * from then on, the rows that each cycle reconciles are looked at ([`check`]), and those that refer to a row which left the parent, by the log;
//! * under the lock of the swap, which holds the parents too, the last of both are looked at ([`check_under_lock`]), and then the constraints are added.
//!
//! Promises: when [`check_under_lock`] finds none, every row of the ghost has its parent, or has NULL in the constraint's columns (MATCH SIMPLE, as
//! InnoDB has it). A row without a parent ends the migration only where that was so in the original at one moment ([`prove`]).
//! Relies on: whatever takes a row out of a parent is in the log as rows, or becomes a notice ([`super::inbox::ParentNotice`]), after
//! which everything is searched again, when it is visible; the barrier of a cycle ([`Migration::barrier`]) is for the parents' changes, too.

use super::inbox::Inbox;
use super::migration::{Migration, Visibility};
use super::streamer::rows::KeyColumn;
use super::transaction::{self, Failure, Unwritten};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::table::definition::normalise;
use crate::engine::table::inspector::{self, Inspected};
use crate::engine::table::sight;
use crate::engine::throttle;
use crate::engine::throttle::decide::Decision;
use crate::mysql::session::{LONG, values_of};
use crate::mysql::{MySqlError, Session, codes};
use crate::sql::foreign_key::{ForeignKey, Relatives, TableName};
use crate::sql::key::{self, Key, KeyCodec, KeyRange, MigrationKey, Side};
use crate::sql::mapping::{ColumnMapping, Conversion};
use crate::sql::quote;
use crate::sql::table::{Column, ColumnType, TableDefinition};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Rows of one statement of the search.
const RANGE_ROWS: u64 = 10_000;
/// Rows without a parent that one statement finds: more are found by the next one.
const MOST: u64 = 1_000;
const LOCKS: &str = " FOR SHARE";
/// How long the look at the original may take, before a row is copied (milliseconds). It saves waiting for what the search finds, and no more.
const FIRST_LOOK: u32 = 5_000;
/// Before a range is searched again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(200);
/// Keys or values of one statement.
const BATCH: usize = 500;

/// A foreign key that the change adds.
pub struct Demand {
    /// As it is to be on the new table.
    pub key: ForeignKey,
    /// Its columns in the table that it refers to, as that is now: of the table itself, before the change.
    columns: Vec<String>,
    /// Values of these columns; on [`Side::Ghost`], as values of the ghost's that refer to them.
    pub codec: KeyCodec,
    /// The columns of the table that it refers to.
    pub parent: Vec<Column>,
    /// Where those that it refers to are among them.
    pub places: Vec<KeyColumn>,
    /// Its definition, and its id where that is shown.
    found: (String, Option<u64>),
}

/// What the change demands of rows that nothing has demanded of them before.
///
/// # Errors
/// [`Reason::ForeignKeys`] where that cannot be followed; the server's.
pub async fn demands(
    session: &mut Session,
    relatives: &Relatives,
    table: &TableName,
    original: &TableDefinition,
    ghost: &TableDefinition,
    mapping: &ColumnMapping,
) -> Result<Vec<Demand>, EngineError> {
    let mut demands = Vec::new();
    for key in relatives.added() {
        let parent = inspector::table(session, &key.parent.schema, &key.parent.table).await?;
        demands.push(demand(key, table, original, ghost, mapping, parent)?);
    }
    Ok(demands)
}

fn demand(
    key: &ForeignKey,
    table: &TableName,
    original: &TableDefinition,
    ghost: &TableDefinition,
    mapping: &ColumnMapping,
    parent: Option<Inspected>,
) -> Result<Demand, EngineError> {
    let refused = |why: &str| {
        let message = format!("the change adds the foreign key {} to {}, and {why}", quote::identifier(&key.name), table.quoted());
        EngineError::terminal(Reason::ForeignKeys, &message)
    };
    let to_itself = key.parent == *table;
    let Some(parent) = parent else {
        return Err(refused(&format!("{}, which it refers to, is gone", key.parent.quoted())));
    };
    let found = (normalise(&parent.show_create)?, parent.table_id);
    let parent = parent.definition;
    let mut columns = Vec::new();
    for name in &key.parent_columns {
        let now = if to_itself { as_it_is(name, original, ghost, mapping) } else { parent.column(name).map(|column| column.name.clone()) };
        columns.push(now.ok_or_else(|| {
            refused(&format!(
                "the column {} of {}, which it refers to, is not what it was when the migration began, or is changed by it: {}",
                quote::identifier(name),
                key.parent.quoted(),
                "add the foreign key in a change of its own"
            ))
        })?);
    }
    let parts = columns.iter().zip(&key.columns).map(|(original, ghost)| key::KeyColumn {
        original: original.clone(),
        ghost: ghost.clone(),
        descending: false,
    });
    let parts = MigrationKey { columns: parts.collect(), ..MigrationKey::default() };
    let codec = KeyCodec::new(&parent, ghost, &parts)
        .map_err(|error| refused(&format!("its columns are of a type whose values cannot be followed in the binary log ({error})")))?;
    let places = codec.positions().iter().map(|ordinal| KeyColumn {
        ordinal: *ordinal,
        unsigned: matches!(parent.columns[*ordinal].column_type, ColumnType::Integer { unsigned: true, .. }),
        has_default: false,
    });
    Ok(Demand { key: key.clone(), columns, places: places.collect(), codec, parent: parent.columns, found })
}

/// The name that a column of the new table has in the original, if it has the same values there.
fn as_it_is(name: &str, original: &TableDefinition, ghost: &TableDefinition, mapping: &ColumnMapping) -> Option<String> {
    let shared = mapping.to_ghost(name).filter(|shared| shared.conversion == Conversion::Direct)?;
    let (before, after) = (original.column(&shared.original)?, ghost.column(&shared.ghost)?);
    let alike = before.type_text == after.type_text && before.charset == after.charset && before.collation == after.collation;
    alike.then(|| before.name.clone())
}

impl Demand {
    /// Whether the table that it refers to is the one that was found, as it was.
    ///
    /// # Errors
    /// The server's.
    pub async fn is_on_the_same_table(&self, session: &mut Session) -> Result<bool, EngineError> {
        let Some(now) = inspector::table(session, &self.key.parent.schema, &self.key.parent.table).await? else { return Ok(false) };
        Ok(normalise(&now.show_create)? == self.found.0 && !sight::replaced(self.found.1, now.table_id))
    }

    /// Some rows of `from`, which is called `child`, that have no parent, of those that `condition` names; `select` is what is read of them.
    fn orphans(&self, select: &str, (from, child): (&str, &str), columns: &[String], condition: &str, end: &str) -> String {
        let parent = self.key.parent.quoted();
        let of = |table: &str, column: &str| format!("{table}.{}", quote::identifier(column));
        let set: Vec<String> = columns.iter().map(|column| format!("{} IS NOT NULL", of(child, column))).collect();
        let equal: Vec<String> =
            self.columns.iter().zip(columns).map(|(up, down)| format!("{} = {}", of(&parent, up), of(child, down))).collect();
        // Row by row: what is read of the parent must not grow with the parent.
        format!(
            "SELECT {select} FROM {from} WHERE ({condition}) AND {} AND NOT EXISTS (SELECT /*+ NO_SEMIJOIN() */ 1 FROM {parent} WHERE {}{}){end}",
            set.join(" AND "),
            equal.join(" AND "),
            if end.ends_with(LOCKS) { LOCKS } else { "" },
        )
    }

    /// The keys of the ghost's rows without a parent, of those that `condition` names.
    async fn find(&self, m: &Migration, session: &mut Session, condition: &str) -> Result<Vec<Key>, MySqlError> {
        let what = "look for rows without a parent";
        // Where there is no barrier, a row that is being deleted is waited for.
        let end = format!(" LIMIT {MOST}{}", if m.visibility == Visibility::RowLocks { LOCKS } else { "" });
        // Without an alias: under LOCK TABLES each would have to be locked.
        let ghost = m.ghost_name();
        let sql = self.orphans(&m.codec.select_list(Side::Ghost), (&ghost, &ghost), &self.key.columns, condition, &end);
        let rows: Vec<mysql_async::Row> = session.rows(what, LONG, &sql).await?;
        rows.into_iter().map(|row| m.key_of(what, row)).collect()
    }

    /// The rows of the ghost that refer to one of these rows of the parent.
    fn referring(&self, gone: &[Key]) -> String {
        self.codec.in_list(Side::Ghost, gone.iter())
    }

    fn broken_by(&self, m: &Migration, key: &Key) -> EngineError {
        self.broken(
            &m.original_name(),
            &m.codec,
            key,
            "The original table is untouched; the ghost and state tables are kept: correct such rows and retry, or delete the migration",
        )
    }

    fn broken(&self, table: &str, codec: &KeyCodec, key: &Key, left: &str) -> EngineError {
        EngineError::terminal(
            Reason::DataDoesNotFit,
            &format!(
                "the row of {table} with {} = {} refers to a row that {} does not have, which the new foreign key {} forbids (natively 1452). {left}",
                codec.columns(Side::Original),
                codec.tuple(key),
                self.key.parent.quoted(),
                quote::identifier(&self.key.name)
            ),
        )
    }
}

/// The rows of a table that they refer to have other columns in the log than the server shows.
pub fn not_readable(demands: &[Demand]) -> EngineError {
    let parents: Vec<String> = demands.iter().map(|demand| demand.key.parent.quoted()).collect();
    let message = format!(
        "rows of a table that a new foreign key refers to ({}) have other columns in the binary log than in its definition: the server may hide some (a generated invisible primary key, where show_gipk_in_create_table_and_information_schema is OFF). The original table is untouched; the ghost and state tables are kept: show the columns and retry, or delete the migration",
        parents.join(", ")
    );
    EngineError::terminal(Reason::ForeignKeys, &message)
}

/// Looks for a row without a parent before anything is copied, where the columns are there already; not for long.
///
/// # Errors
/// [`Reason::DataDoesNotFit`], with the row's key; the server's.
pub async fn look_ahead(
    session: &mut Session,
    demands: &[Demand],
    tables: (&TableDefinition, &TableDefinition, &ColumnMapping),
    table: &TableName,
    codec: &KeyCodec,
) -> Result<(), EngineError> {
    let (original, ghost, mapping) = tables;
    let what = "look for rows without a parent before they are copied";
    for demand in demands {
        let columns: Option<Vec<String>> = demand.key.columns.iter().map(|column| as_it_is(column, original, ghost, mapping)).collect();
        let Some(columns) = columns else { continue };
        let select = format!("/*+ MAX_EXECUTION_TIME({FIRST_LOOK}) */ {}", codec.select_list(Side::Original));
        // It may be the parent, too.
        let from = format!("{} AS _theseus_child", table.quoted());
        let sql = demand.orphans(&select, (&from, "_theseus_child"), &columns, "TRUE", " LIMIT 1");
        match session.first::<mysql_async::Row>(what, LONG, &sql).await {
            Ok(None) => {}
            Ok(Some(row)) => {
                let key = codec.encode_row(&values_of(what, row)?);
                let key = key.map_err(|error| EngineError::internal(&format!("a key cannot be read: {error}")))?;
                return Err(demand.broken(&table.quoted(), codec, &key, "Nothing is left behind: correct such rows and retry"));
            }
            Err(error) if error.code == codes::QUERY_TIMEOUT => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Rows of parents that have gone, or have another value: which of the [`Demand`]s they were for, and the value.
pub type Gone = (usize, Key);

/// Of these, how many are remembered; beyond that, all of the new table's rows are looked at once more.
pub(super) const MOST_GONE: usize = 100_000;

/// Ranges of the ghost, one after the other, while the throttler lets it: rows without a parent become dirty, so that the next cycle looks whether
/// they are so in the original.
///
/// # Errors
/// The server's.
pub async fn search(
    m: Arc<Migration>,
    inbox: Arc<Inbox>,
    decided: watch::Receiver<Decision>,
    cancel: CancellationToken,
) -> Result<(), EngineError> {
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        searched = search_all(&m, &inbox, &decided) => searched,
    }
}

async fn search_all(m: &Migration, inbox: &Inbox, decided: &watch::Receiver<Decision>) -> Result<(), EngineError> {
    let mut session = m.session().await?;
    let mut lo = None;
    loop {
        throttle::while_held(decided, &mut session).await?;
        let what = "find the end of a range";
        // Rows that only the ghost has lie in some range, too.
        let end: Option<mysql_async::Row> = session.first(what, LONG, &m.range_end(lo.clone(), RANGE_ROWS)).await?;
        let hi = end.map(|row| m.key_of(what, row)).transpose()?;
        let condition = m.codec.range(Side::Ghost, &KeyRange { lo: lo.clone(), hi: hi.clone() });
        let mut all = true;
        for demand in &m.demands {
            match demand.find(m, &mut session, &condition).await {
                Ok(found) => {
                    // The range is searched again as soon as these are what they are in the original, where there may be more.
                    all &= u64::try_from(found.len()).is_ok_and(|found| found < MOST);
                    if !found.is_empty() {
                        inbox.add(found);
                    }
                }
                Err(error) if error.is_contention() => all = false,
                Err(error) => return Err(error.into()),
            }
        }
        match hi {
            _ if !all => tokio::time::sleep(AGAIN).await,
            Some(_) => lo = hi,
            None => break,
        }
    }
    session.close().await;
    Ok(())
}

/// Looks at rows that were reconciled, and at those that refer to what has gone. Returns the keys of which it could not be shown that they have
/// a parent, nor that they have none: they are to be reconciled and looked at once more. `None`: that goes for all, since locks
/// are in the way, or there are too many.
///
/// # Errors
/// [`Reason::DataDoesNotFit`] for a row that has no parent; the server's.
pub async fn check(m: &Migration, session: &mut Session, reconciled: &[Key], gone: &[Gone]) -> Result<Option<Vec<Key>>, EngineError> {
    let (mut unproven, mut more) = (Vec::new(), false);
    for (n, condition) in conditions(m, reconciled, gone) {
        let demand = &m.demands[n];
        let found = match demand.find(m, session, &condition).await {
            Ok(found) => found,
            Err(error) if error.is_contention() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        more |= u64::try_from(found.len()).is_ok_and(|found| found >= MOST);
        for key in found {
            if prove(m, session, demand, &key).await? {
                return Err(demand.broken_by(m, &key));
            }
            unproven.push(key);
        }
    }
    Ok((!more).then_some(unproven))
}

/// As [`check`], for the session that has locked all of these tables: what it finds is so.
///
/// # Errors
/// As [`check`].
pub async fn check_under_lock(m: &Migration, session: &mut Session, reconciled: &[Key], gone: &[Gone]) -> Result<(), EngineError> {
    for (n, condition) in conditions(m, reconciled, gone) {
        let demand = &m.demands[n];
        if let Some(key) = demand.find(m, session, &condition).await?.first() {
            return Err(demand.broken_by(m, key));
        }
    }
    Ok(())
}

/// Which rows of the ghost are to be looked at for which demand.
fn conditions<'a>(m: &'a Migration, reconciled: &'a [Key], gone: &'a [Gone]) -> impl Iterator<Item = (usize, String)> {
    m.demands.iter().enumerate().flat_map(move |(n, demand)| {
        let rows = reconciled.chunks(BATCH).map(move |keys| (n, m.codec.in_list(Side::Ghost, keys.iter())));
        let values: Vec<Key> = gone.iter().filter(|(of, _)| *of == n).map(|(_, key)| key.clone()).collect();
        let referring: Vec<(usize, String)> = values.chunks(BATCH).map(|values| (n, demand.referring(values))).collect();
        rows.chain(referring)
    })
}

/// Whether the original's row of this key has no parent: locked, so that it stays as it is, copied, and looked at. Always rolled back.
async fn prove(m: &Migration, session: &mut Session, demand: &Demand, key: &Key) -> Result<bool, EngineError> {
    let tried = transaction::try_out(m, session, async |ghost| {
        let what = "look at a row without a parent";
        let keys = std::slice::from_ref(key);
        let condition = m.codec.in_list(Side::Original, keys.iter());
        let lock = format!(
            "SELECT 1 FROM {} FORCE INDEX ({}) WHERE {condition} FOR SHARE NOWAIT",
            m.original_name(),
            quote::identifier(&m.key.index)
        );
        match ghost.session().rows::<u8>("hold a row for a moment", LONG, &lock).await {
            Ok(rows) if rows.len() == 1 => {}
            // It is gone, or in somebody's hands: the next look sees more.
            Ok(_) => return Ok(false),
            Err(error) if error.code == codes::LOCK_NOWAIT => return Ok(false),
            Err(error) => return Err(Failure::from(error)),
        }
        ghost.delete(what, keys).await?;
        match ghost.copy_keys(what, keys).await {
            Err(Unwritten::Refused(error)) if error.is_duplicate() => return Ok(false),
            other => other.map_err(Failure::from)?,
        };
        let found = demand.find(m, ghost.session(), &m.codec.in_list(Side::Ghost, keys.iter())).await?;
        Ok(!found.is_empty())
    });
    match tried.await {
        Ok(proven) => Ok(proven),
        Err(Failure::Lost(_) | Failure::Conflict(_)) => Ok(false),
        Err(Failure::Over(error)) => Err(error),
    }
}
