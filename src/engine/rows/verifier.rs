//! Compares both tables before the swap (rule 11), and goes on doing so while the gate is closed.
//!
//! A pass reads, for each range, one number of each side in one statement (one snapshot under READ COMMITTED), without locks. A range
//! that differs is narrowed to keys by one more statement. Those keys are suspects, most of them only dirty: after what is dirty has been
//! flushed, a key that differs although *no event touched it* differs silently. It is repaired, and fails the migration when it differs
//! again. So a busy row is never blamed, and a silent difference is never excused.
//!
//! It does not see by the copy's eyes alone: that each column has its counterpart is proven from SHOW CREATE TABLE, what the change does not
//! touch is compared as it is stored, stored generated columns too, and of what is converted samples are compared by the values that the
//! server shows. What cannot be compared is told in the status.
//!
//! Reads hold a metadata lock for their own duration: the cut-over keeps them out by [`Verifier::quiet`].

use super::applier::Flushed;
use super::inbox::Inbox;
use super::migration::Migration;
use super::numbers;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::progress::Tally;
use crate::engine::contract::reason::Reason;
use crate::engine::table::definition::not_readable;
use crate::engine::table::inspector;
use crate::engine::throttle;
use crate::engine::throttle::decide::Decision;
use crate::mysql::session::{KEEP_ALIVE_EVERY, LONG, SHORT};
use crate::mysql::{Purpose, Session};
use crate::sql::create::{self, CreatedColumn};
use crate::sql::digest::{self, Compared, How, Plan};
use crate::sql::key::{Key, KeyColumn, KeyRange, Side};
use crate::sql::quote;
use crate::sql::table::{Column, ColumnType};
use crate::sql::values::{self, Rule};
use mysql_async::Value;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as AsyncMutex, RwLock, watch};
use tokio_util::sync::CancellationToken;

/// Rows in a range: about 50 ms of reading for common rows, so that the cut-over never waits long for one.
const RANGE_ROWS: u64 = 20_000;
/// Connections that compare in the first pass. The comparison is the server's work, mostly of its processors, so
/// there are as many only where the copy found that the server can take them; later passes have time.
const READERS: u16 = 2;
/// Keys compared in one statement.
const SUSPECTS: usize = 500;
/// Suspects are judged together when there are this many, …
const JUDGED_TOGETHER: usize = 5_000;
/// … or when the first of them has waited this long: each judgement waits for two flush cycles, which a busy table must not pay for
/// each range.
const JUDGED_AFTER: Duration = Duration::from_secs(5);
/// In the background a range is followed by this many times its own duration of rest.
const BACKGROUND_REST: u32 = 9;
/// And between two passes at least this long.
const BACKGROUND_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause while the log tells of no change. The tables are compared all the same, since somebody may write without the log
/// (`sql_log_bin=0`), but the less often the longer nothing has changed.
const UNCHANGED_PAUSE: Duration = Duration::from_secs(600);
/// How long the stream may take to reach the end of the log when a suspect is judged.
const JUDGE_LIMIT: Duration = Duration::from_secs(60);
/// The temporary table for conversions that have no expression; private to its session.
const SCRATCH: &str = "_theseus_verify";
/// As above, for rows whose generated columns are computed once more.
const RECOMPUTED: &str = "_theseus_computed";
/// Of each range as many rows, its first ones, are compared by the values that the server shows: about a millisecond.
const VALUED_ROWS: usize = 100;
/// As many characters of a value are checked then.
const SHOWN_LENGTH: u32 = 200;

/// Compares the tables of one attempt.
pub struct Verifier {
    pub migration: Arc<Migration>,
    /// Where suspects become dirty, and events are noticed.
    pub inbox: Arc<Inbox>,
    /// Wakes after each flush cycle.
    pub flushed: watch::Receiver<Flushed>,
    /// Whether the tables may be read now: what holds the copy holds the comparison.
    pub decided: watch::Receiver<Decision>,
    /// Where it counts.
    pub tally: Tally,
    /// Held for reading by each statement on the tables, for writing by the cut-over.
    pub quiet: Arc<RwLock<()>>,
    /// How many connections may read in the first pass, up to [`READERS`].
    pub readers: u16,
    /// How far it is.
    pub pass: watch::Sender<Pass>,
    /// Stored generated columns that are found to be recomputed by the change.
    pub computed_anew: Mutex<HashSet<String>>,
}

/// How far the comparison is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The first whole pass.
    First,
    /// A later one.
    Later,
    /// All rows are compared as they are now: it waits for the next change.
    Rest,
}

/// One connection that compares.
struct Reader {
    session: Session,
    comparison: Comparison,
}

/// What the readers of one pass share.
struct Walk {
    /// Where the next range begins; `None` when the last one is under way.
    next: AsyncMutex<Option<Option<Key>>>,
    suspects: AsyncMutex<Option<Suspects>>,
    /// The inbox notices events for one judgement at a time.
    judging: AsyncMutex<()>,
}

/// Keys that differed when they were read.
struct Suspects {
    keys: Vec<Key>,
    oldest: Instant,
}

/// How rows are compared.
struct Comparison {
    plan: Plan,
    /// All columns are first converted into [`SCRATCH`], the key's among them: the two tables have no key in common to be joined by.
    all_through_table: bool,
}

impl Comparison {
    fn new(mut plan: Plan, key: &[KeyColumn]) -> Self {
        let through = |column: &Compared| column.how == How::ThroughTable;
        let all_through_table = plan.compared.iter().any(|c| through(c) && key.iter().any(|part| part.ghost == c.ghost));
        if all_through_table {
            // There is no row of the original to hold them against.
            let computed = plan.compared.extract_if(.., |c| c.how == How::Computed);
            plan.not_comparable.extend(computed.map(|c| c.ghost));
        }
        Self { plan, all_through_table }
    }

    /// Columns that are compared with the original's own, but for those that were found to be recomputed.
    fn direct<'a>(&'a self, recomputed: &'a HashSet<String>) -> Vec<&'a Compared> {
        let direct = |c: &&Compared| match c.how {
            How::Stored | How::Converted => !self.all_through_table,
            How::Computed => !self.all_through_table && !recomputed.contains(&c.ghost),
            How::ThroughTable => false,
        };
        self.plan.compared.iter().filter(direct).collect()
    }

    /// Columns that are compared with what the server makes of the original's in a temporary table.
    fn through_table(&self) -> Vec<&Compared> {
        let through = |c: &&Compared| c.how == How::ThroughTable || self.all_through_table && c.how != How::Computed;
        self.plan.compared.iter().filter(through).collect()
    }

    /// Columns of which samples are compared by what the server shows.
    fn valued(&self) -> Vec<(&Compared, Rule)> {
        self.plan.compared.iter().filter_map(|c| Some((c, c.rule?))).collect()
    }
}

/// One number of the columns, over the original or over the ghost.
fn left(columns: &[&Compared], alias: &str) -> String {
    digest::row(&columns.iter().map(|c| c.left.as_str()).collect::<Vec<_>>(), alias)
}

fn right(columns: &[&Compared], alias: &str) -> String {
    digest::row(&columns.iter().map(|c| c.right.as_str()).collect::<Vec<_>>(), alias)
}

impl Verifier {
    /// Passes until cancelled: the first at full speed, the others at leisure.
    ///
    /// # Errors
    /// [`Reason::VerificationFailed`], or the server's.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), EngineError> {
        let mut readers = Vec::new();
        let count = if self.tally.progress().rows_estimated > 2 * RANGE_ROWS { self.readers.clamp(1, READERS) } else { 1 };
        for _ in 0..count {
            let mut session = self.migration.session().await?;
            let comparison = self.comparison(&mut session).await?;
            let scope = comparison.plan.scope();
            self.tally.compared(|v| v.scope = scope);
            readers.push(Reader { session, comparison });
        }
        let mut first = true;
        let mut changed = (self.flushed.borrow().applied, Instant::now());
        loop {
            let before = self.flushed.borrow().applied;
            if before != changed.0 {
                changed = (before, Instant::now());
            }
            let done = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                done = self.pass(&mut readers, first) => done,
            };
            done?;
            if first {
                self.tally.compared(|v| v.complete = true);
                first = false;
                for reader in readers.drain(1..) {
                    reader.session.close().await;
                }
            }
            self.pass.send_replace(Pass::Rest);
            let Some(reader) = readers.first_mut() else { return Err(EngineError::internal("a comparison has no reader")) };
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                rested = self.wait_for_changes(&mut reader.session, before, changed.1.elapsed()) => rested?,
            }
            self.pass.send_replace(Pass::Later);
        }
    }

    /// Until there is something to compare: a change was applied since so many had been, or nothing has changed for so long once more.
    async fn wait_for_changes(&self, session: &mut Session, before: u64, unchanged: Duration) -> Result<(), EngineError> {
        tokio::time::sleep(BACKGROUND_PAUSE).await;
        let end = Instant::now() + unchanged.min(UNCHANGED_PAUSE);
        let mut flushed = self.flushed.clone();
        while Instant::now() < end {
            // Cancel-safe: a watch loses nothing.
            tokio::select! {
                changed = async { flushed.wait_for(|flushed| flushed.applied != before).await.is_ok() } => {
                    if !changed {
                        // Nobody flushes any more; the attempt is about to end.
                        std::future::pending::<()>().await;
                    }
                    return Ok(());
                }
                () = tokio::time::sleep_until(end.min(Instant::now() + KEEP_ALIVE_EVERY).into()) => {
                    session.run("keep the connection alive", SHORT, "DO 1").await?;
                }
            }
        }
        Ok(())
    }

    async fn comparison(&self, session: &mut Session) -> Result<Comparison, EngineError> {
        let m = &self.migration;
        // Read apart from what the copy was planned by, and compared with it.
        let original = columns_shown(session, &m.spec.database, &m.spec.table).await?;
        let ghost = columns_shown(session, &m.spec.database, &m.names.ghost).await?;
        if let Some(why) = m.mapping.unaccounted(&original, &ghost) {
            return Err(EngineError::terminal(
                Reason::VerificationFailed,
                &format!(
                    "{why} ({} and its ghost {}). The tables were not swapped and the original is untouched; retry to start over",
                    m.original_name(),
                    m.ghost_name()
                ),
            ));
        }
        let plan = match &m.turned {
            None => digest::plan(&m.original.definition, &m.ghost, &m.mapping, (&original, &ghost)),
            // What the change makes of the old table is what the new one must have.
            Some(turned) => digest::plan(&m.ghost, &m.original.definition, &turned.change, (&ghost, &original)).exchanged(),
        };
        let comparison = Comparison::new(plan, &m.key.columns);
        let through = comparison.through_table();
        if !through.is_empty() {
            let names = self.scratch_columns(&through);
            let sql = format!(
                "CREATE TEMPORARY TABLE {} ({}, INDEX ({})) ENGINE=InnoDB SELECT {} FROM {} LIMIT 0",
                self.scratch(),
                quote::row_number(&names),
                m.codec.columns(Side::Ghost),
                names.iter().map(|c| quote::identifier(c)).collect::<Vec<_>>().join(", "),
                m.ghost_name()
            );
            // The ghost's columns as they are: a definition that is read, with whatever defaults the server's clauses have left in it.
            session.wear(Purpose::Definition(&m.rows.values)).await?;
            session.run("create a temporary table for the comparison (CREATE TEMPORARY TABLES)", SHORT, &sql).await?;
            session.wear(Purpose::Rows(&m.rows)).await?;
        }
        Ok(comparison)
    }

    /// Of the ghost's columns those that the temporary table has: the key's, and those that are compared through it.
    fn scratch_columns(&self, through: &[&Compared]) -> Vec<String> {
        let mut columns: Vec<String> = self.migration.key.columns.iter().map(|part| part.ghost.clone()).collect();
        columns.extend(through.iter().map(|c| c.ghost.clone()).filter(|name| !self.migration.key.columns.iter().any(|p| p.ghost == *name)));
        columns
    }

    /// Columns whose values were found to be recomputed by the change, as a native ALTER computes them.
    fn recomputed(&self) -> HashSet<String> {
        self.computed_anew.lock().clone()
    }

    fn scratch(&self) -> String {
        quote::qualified(&self.migration.spec.database, SCRATCH)
    }

    /// Each range once, by all readers.
    async fn pass(&self, readers: &mut [Reader], hurry: bool) -> Result<(), EngineError> {
        let walk = Walk { next: AsyncMutex::new(Some(None)), suspects: AsyncMutex::default(), judging: AsyncMutex::default() };
        futures::future::try_join_all(readers.iter_mut().map(|reader| self.walk(reader, &walk, hurry))).await?;
        let rest = walk.suspects.into_inner();
        if let (Some(reader), Some(suspects)) = (readers.first_mut(), rest) {
            self.confirm(&mut reader.session, &reader.comparison, &suspects.keys).await?;
        }
        tracing::debug!(table = self.migration.spec.table, "a verification pass is complete");
        Ok(())
    }

    /// One reader's part of a pass.
    async fn walk(&self, reader: &mut Reader, walk: &Walk, hurry: bool) -> Result<(), EngineError> {
        let Reader { session, comparison } = reader;
        loop {
            throttle::while_held(&self.decided, session).await?;
            let began = Instant::now();
            let found = {
                let _quiet = self.quiet.read().await;
                let range = {
                    // One end is sought at a time: the next range begins there.
                    let mut next = walk.next.lock().await;
                    let Some(lo) = next.take() else { return Ok(()) };
                    let hi = self.boundary(session, lo.clone()).await?;
                    *next = hi.clone().map(Some);
                    KeyRange { lo, hi }
                };
                self.range(session, comparison, &range).await?
            };
            self.tally.compared(|v| v.chunks_checked += 1);
            let due = {
                let mut suspects = walk.suspects.lock().await;
                if !found.is_empty() {
                    suspects.get_or_insert_with(|| Suspects { keys: Vec::new(), oldest: began }).keys.extend(found);
                }
                suspects.take_if(|s| s.keys.len() >= JUDGED_TOGETHER || s.oldest.elapsed() >= JUDGED_AFTER)
            };
            if let Some(suspects) = due {
                let _one_at_a_time = walk.judging.lock().await;
                self.confirm(session, comparison, &suspects.keys).await?;
            }
            if !hurry {
                tokio::time::sleep(began.elapsed() * BACKGROUND_REST).await;
            }
        }
    }

    /// The end of the next range, by the original's key; rows that only the ghost has lie in some range too.
    async fn boundary(&self, session: &mut Session, lo: Option<Key>) -> Result<Option<Key>, EngineError> {
        let sql = self.migration.range_end(lo, RANGE_ROWS);
        Ok(self.keys(session, "find the end of a range", &sql).await?.into_iter().next())
    }

    async fn keys(&self, session: &mut Session, what: &str, sql: &str) -> Result<Vec<Key>, EngineError> {
        let rows: Vec<mysql_async::Row> = session.rows(what, LONG, sql).await?;
        Ok(rows.into_iter().map(|row| self.migration.key_of(what, row)).collect::<Result<_, _>>()?)
    }

    /// The keys of a range whose rows differ now.
    async fn range(&self, session: &mut Session, comparison: &Comparison, range: &KeyRange) -> Result<Vec<Key>, EngineError> {
        let m = &self.migration;
        let (on_original, on_ghost) = (m.codec.range(Side::Original, range), m.codec.range(Side::Ghost, range));
        let recomputed = self.recomputed();
        let (direct, through) = (comparison.direct(&recomputed), comparison.through_table());
        if !through.is_empty() {
            self.fill(session, &through, &on_original).await?;
        }
        let mut keys = self.shown_differently(session, comparison, &on_original, VALUED_ROWS).await?;
        // Where the two sides order keys differently, a range of one is no range of the other, so there is nothing to add up.
        if m.codec.same_order() {
            let sums = |rows: &[String]| rows.iter().map(|row| digest::sum(row)).collect::<Vec<_>>().join(", ");
            let mut lefts = Vec::new();
            let mut rows = Vec::new();
            if !comparison.all_through_table {
                let table = format!("{} FORCE INDEX ({})", m.original_name(), quote::identifier(&m.key.index));
                lefts.push(format!("(SELECT {} FROM {table} WHERE {on_original})", sums(&[left(&direct, "")])));
                rows.push(right(&direct, ""));
            }
            if !through.is_empty() {
                lefts.push(format!("(SELECT {} FROM {})", sums(&[right(&through, "")]), self.scratch()));
                rows.push(right(&through, ""));
            }
            let right = format!("(SELECT CONCAT_WS(' ', {}) FROM {} WHERE {on_ghost})", sums(&rows), m.ghost_name());
            let sql = format!("SELECT CONCAT_WS(' ', {}), {right}", lefts.join(", "));
            let both: Option<(String, String)> = session.first("compare a range", LONG, &sql).await?;
            if both.is_some_and(|(left, right)| left == right) {
                return Ok(keys);
            }
        }
        keys.extend(self.different(session, comparison, &on_original, &on_ghost).await?);
        Ok(keys)
    }

    /// Converts rows of the original as the server stores them in the ghost.
    async fn fill(&self, session: &mut Session, through: &[&Compared], condition: &str) -> Result<(), EngineError> {
        let sql = self.migration.convert_into(&self.scratch(), &self.scratch_columns(through), condition);
        Ok(session.run("convert a range", LONG, &sql).await?)
    }

    /// Keys of rows that one side lacks or that differ. [`SCRATCH`] holds the rows that `on_original` names, if it is needed.
    async fn different(
        &self,
        session: &mut Session,
        comparison: &Comparison,
        on_original: &str,
        on_ghost: &str,
    ) -> Result<Vec<Key>, EngineError> {
        let m = &self.migration;
        let ghost = m.ghost_name();
        let recomputed = self.recomputed();
        let (direct, through) = (comparison.direct(&recomputed), comparison.through_table());
        let what = "find the keys of a difference";
        let matching = self.matching();
        let mut keys = Vec::new();
        if !comparison.all_through_table {
            let sql = format!(
                "SELECT {} FROM {} o FORCE INDEX ({}) WHERE ({on_original}) AND NOT EXISTS ({matching} FROM {ghost} g WHERE {} AND {} = {})",
                m.codec.select_list(Side::Original),
                m.original_name(),
                quote::identifier(&m.key.index),
                self.same_key(true, false, on_ghost),
                left(&direct, "o"),
                right(&direct, "g"),
            );
            keys.extend(self.keys(session, what, &sql).await?);
        }
        if !through.is_empty() {
            let sql = format!(
                "SELECT {} FROM {} o WHERE NOT EXISTS ({matching} FROM {ghost} g WHERE {} AND {} = {})",
                m.codec.select_list(Side::Ghost),
                self.scratch(),
                self.same_key(true, true, on_ghost),
                right(&through, "o"),
                right(&through, "g"),
            );
            keys.extend(self.keys(session, what, &sql).await?);
        }
        let sql = format!(
            "SELECT {} FROM {ghost} g WHERE ({on_ghost}) AND NOT EXISTS ({matching} FROM {} o WHERE {})",
            m.codec.select_list(Side::Ghost),
            m.original_name(),
            self.same_key(false, false, on_original)
        );
        keys.extend(self.keys(session, what, &sql).await?);
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// Keys of rows, of the first `limit` that `on_original` names, whose values the server shows as two different ones. Nothing that copies
    /// rows or computes digests has a part in it. A row that one side lacks is the digests' business.
    async fn shown_differently(
        &self,
        session: &mut Session,
        comparison: &Comparison,
        on_original: &str,
        limit: usize,
    ) -> Result<Vec<Key>, EngineError> {
        Ok(self.values_of(session, comparison, on_original, limit).await?.into_iter().map(|(key, _)| key).collect())
    }

    /// As above, with the names of the columns on the ghost.
    async fn values_of(
        &self,
        session: &mut Session,
        comparison: &Comparison,
        on_original: &str,
        limit: usize,
    ) -> Result<Vec<(Key, Vec<String>)>, EngineError> {
        let m = &self.migration;
        let valued = comparison.valued();
        if valued.is_empty() {
            return Ok(Vec::new());
        }
        let what = "read values to compare them as text";
        let list = |side, name: fn(&Compared) -> &str| {
            let mut list = m.codec.select_list(side);
            for (column, _) in &valued {
                // Of a long value the beginning.
                list.push_str(&format!(", LEFT({}, {SHOWN_LENGTH})", quote::identifier(name(column))));
            }
            list
        };
        let sql = format!(
            "SELECT {} FROM {} FORCE INDEX ({}) WHERE {on_original} ORDER BY {} LIMIT {limit}",
            list(Side::Original, |c| &c.original),
            m.original_name(),
            quote::identifier(&m.key.index),
            m.codec.order_by(Side::Original),
        );
        let original = self.values(session, what, &sql).await?;
        if original.is_empty() {
            return Ok(Vec::new());
        }
        let on_ghost = m.codec.in_list(Side::Ghost, original.iter().map(|(key, _)| key));
        let sql = format!("SELECT {} FROM {} WHERE {on_ghost}", list(Side::Ghost, |c| &c.ghost), m.ghost_name());
        let ghost: HashMap<Key, Vec<Value>> = self.values(session, what, &sql).await?.into_iter().collect();
        let text = |value: Option<&Value>| match value {
            Some(Value::Bytes(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        let mut found = Vec::new();
        for (key, from) in original {
            let Some(to) = ghost.get(&key) else { continue };
            let mut columns = Vec::new();
            for (at, (column, rule)) in valued.iter().enumerate() {
                let (a, b) = (text(from.get(at)), text(to.get(at)));
                if !values::agree(*rule, a.as_deref(), b.as_deref()) {
                    columns.push(column.ghost.clone());
                }
            }
            if !columns.is_empty() {
                found.push((key, columns));
            }
        }
        Ok(found)
    }

    /// Rows of a statement whose first columns are the key.
    async fn values(&self, session: &mut Session, what: &str, sql: &str) -> Result<Vec<(Key, Vec<Value>)>, EngineError> {
        let m = &self.migration;
        let rows: Vec<mysql_async::Row> = session.rows(what, LONG, sql).await?;
        Ok(rows.into_iter().map(|row| m.key_and_rest(what, row)).collect::<Result<_, _>>()?)
    }

    /// `o`'s key equals `g`'s. Converted on the side that is read first, so that the other side's index serves. `within` are the rows of the side
    /// that is looked up, over its columns: for keys that no index finds.
    fn same_key(&self, ghost_is_looked_up: bool, like_ghost: bool, within: &str) -> String {
        let m = &self.migration;
        let instants = m.codec.has_instants();
        let parts = m.key.columns.iter().map(|part| {
            let original = m.original.definition.column(&part.original);
            let ghost = m.ghost.column(&part.ghost);
            let left = format!("o.{}", quote::identifier(if like_ghost { &part.ghost } else { &part.original }));
            let right = format!("g.{}", quote::identifier(&part.ghost));
            let collation = |c: Option<&Column>| c.and_then(|c| Some((c.charset.clone()?, c.collation.clone()?)));
            match (collation(original), collation(ghost)) {
                (Some(from), Some(to)) if from != to && !like_ghost => {
                    let as_ghost = format!("CONVERT({left} USING {}) COLLATE {}", to.0, to.1);
                    let as_original = format!("CONVERT({right} USING {}) COLLATE {}", from.0, from.1);
                    if ghost_is_looked_up {
                        format!("{right} = {as_ghost} AND {as_original} = {left}")
                    } else {
                        format!("{left} = {as_original}")
                    }
                }
                // Two instants may look alike on a clock that shifts. Not beside them as they are: the server looks a TIMESTAMP up, and keeps it in
                // the tables that it makes of a subquery, by way of the clock, where one of the two becomes the other (seen on 9.7).
                _ if instants && original.is_some_and(|c| matches!(c.column_type, ColumnType::Timestamp { .. })) => {
                    format!("UNIX_TIMESTAMP({left}) = UNIX_TIMESTAMP({right})")
                }
                _ => format!("{left} = {right}"),
            }
        });
        let same = parts.collect::<Vec<_>>().join(" AND ");
        if instants { format!("{same} AND ({within})") } else { same }
    }

    /// What a subquery with [`Self::same_key`] begins with. Without an index the server shall join by hash, also where `optimizer_switch` has no
    /// semijoins: rows by rows it took 80 s for a range.
    fn matching(&self) -> &'static str {
        if self.migration.codec.has_instants() { "SELECT /*+ SEMIJOIN(MATERIALIZATION, FIRSTMATCH) */ 1" } else { "SELECT 1" }
    }

    /// How many of the ghost's rows, of those that `on_ghost` names, have another value of this column than the row of their key in a temporary
    /// table like the ghost.
    fn differing_from(&self, scratch: &str, column: &Compared, on_ghost: &str) -> String {
        let one = [column];
        format!(
            "SELECT COUNT(*) FROM {} g WHERE ({on_ghost}) AND EXISTS ({} FROM {scratch} o WHERE {} AND {} <> {})",
            self.migration.ghost_name(),
            self.matching(),
            self.same_key(false, true, "TRUE"),
            right(&one, "o"),
            right(&one, "g"),
        )
    }

    /// Tells dirt from damage. First everything that the log has told of is flushed: a suspect that still differs, although no event has
    /// touched it meanwhile, differs silently. It is repaired, and fails the migration if it differs again without an event. Suspects that
    /// events do touch are busy: their next reconciliation writes them anyway, and they are left to the next pass.
    async fn confirm(&self, session: &mut Session, comparison: &Comparison, suspects: &[Key]) -> Result<(), EngineError> {
        let mut silent = self.untouched_differences(session, comparison, suspects, false).await?;
        if !silent.is_empty() && self.is_recomputed(session, comparison, &silent).await? {
            silent = self.untouched_differences(session, comparison, &silent, false).await?;
        }
        if silent.is_empty() {
            return Ok(());
        }
        self.tally.compared(|v| v.rows_different += silent.len() as u64);
        tracing::warn!(rows = silent.len(), "rows differ without an event that explains it; repairing them");
        let lasting = self.untouched_differences(session, comparison, &silent, true).await?;
        self.tally.compared(|v| v.rows_repaired += (silent.len() - lasting.len()) as u64);
        match lasting.first() {
            Some(key) => Err(self.failed(session, comparison, key).await),
            None => Ok(()),
        }
    }

    /// Flushes what is dirty (and these keys too, if `repair`), compares these keys, and returns those that differ although no event named
    /// them between the start of this and a position after the comparison.
    async fn untouched_differences(
        &self,
        session: &mut Session,
        comparison: &Comparison,
        suspects: &[Key],
        repair: bool,
    ) -> Result<Vec<Key>, EngineError> {
        let m = &self.migration;
        self.inbox.observe(suspects);
        let mut flushed = self.flushed.clone();
        let seen = flushed.borrow_and_update().cycles;
        if repair {
            self.inbox.add(suspects.iter().cloned());
        }
        // Two cycles: the one under way may have taken its keys before.
        while flushed.borrow_and_update().cycles < seen + 2 {
            self.inbox.hurry();
            if flushed.changed().await.is_err() {
                return Ok(Vec::new());
            }
        }
        let mut different = Vec::new();
        for part in suspects.chunks(SUSPECTS) {
            let condition = |side| m.codec.in_list(side, part.iter());
            let _quiet = self.quiet.read().await;
            let through = comparison.through_table();
            if !through.is_empty() {
                self.fill(session, &through, &condition(Side::Original)).await?;
            }
            different.extend(self.different(session, comparison, &condition(Side::Original), &condition(Side::Ghost)).await?);
            different.extend(self.shown_differently(session, comparison, &condition(Side::Original), SUSPECTS).await?);
        }
        different.sort_unstable();
        different.dedup();
        if different.is_empty() {
            return Ok(different);
        }
        // Everything that the comparison could have seen is behind the stream then.
        let (end, _) = m.facts.log_end(session).await?;
        self.reach(&end).await?;
        let touched = self.inbox.observed();
        // A key that was not observed is another spelling under the collation: a later pass finds it by itself.
        let suspects: HashSet<&Key> = suspects.iter().collect();
        Ok(different.into_iter().filter(|key| suspects.contains(key) && !touched.contains(key)).collect())
    }

    /// Whether what differs is only what the server computes and stores, and is recomputed by the change, as by a native ALTER: the old value
    /// came from a session with another time zone or another sql_mode, or from an older server. The new one is then right, and the
    /// column is not compared from now on.
    async fn is_recomputed(&self, session: &mut Session, comparison: &Comparison, keys: &[Key]) -> Result<bool, EngineError> {
        let m = &self.migration;
        let before = self.recomputed();
        let computed: Vec<&Compared> = comparison.direct(&before).into_iter().filter(|c| c.how == How::Computed).collect();
        if computed.is_empty() {
            return Ok(false);
        }
        let scratch = quote::qualified(&m.spec.database, RECOMPUTED);
        let made = format!("CREATE TEMPORARY TABLE IF NOT EXISTS {scratch} LIKE {}", m.ghost_name());
        match session.run("create a temporary table like the ghost (CREATE TEMPORARY TABLES)", SHORT, &made).await {
            Ok(()) => {}
            Err(error) if error.is_connection() => return Err(error.into()),
            // A partitioned table has none that is like it. The difference stands.
            Err(_) => return Ok(false),
        }
        let written: Vec<String> = m.mapping.shared.iter().map(|c| c.ghost.clone()).collect();
        let part = keys.get(..keys.len().min(SUSPECTS)).unwrap_or_default();
        let condition = m.codec.in_list(Side::Original, part.iter());
        session.run("recompute rows", LONG, &m.convert_into(&scratch, &written, &condition)).await?;
        let mut recomputed = Vec::new();
        for column in &computed {
            // Wrong is what differs from the recomputed value.
            let wrong = self.differing_from(&scratch, column, &m.codec.in_list(Side::Ghost, part.iter()));
            if session.first::<u64>("compare computed values", LONG, &wrong).await? == Some(0) {
                recomputed.push(column.ghost.clone());
            }
        }
        if recomputed.is_empty() {
            return Ok(false);
        }
        // Of those only the ones that differ: the rest goes on being compared.
        let mut now = before.clone();
        for name in recomputed {
            let only: Vec<&Compared> = computed.iter().copied().filter(|c| c.ghost == name).collect();
            if self.differs_in(session, &only, part).await? {
                now.insert(name);
            }
        }
        let grown = now.len() > self.recomputed().len();
        if grown {
            let names = {
                let mut names: Vec<&str> = now.iter().map(String::as_str).collect();
                names.sort_unstable();
                names.join(", ")
            };
            tracing::info!(columns = names, "the change recomputes stored generated columns");
            let scope = format!("{}, recomputed: {names}", comparison.plan.scope());
            self.tally.compared(|v| v.scope = scope);
            *self.computed_anew.lock() = now;
        }
        Ok(grown)
    }

    /// Whether rows of these keys differ in these columns.
    async fn differs_in(&self, session: &mut Session, columns: &[&Compared], keys: &[Key]) -> Result<bool, EngineError> {
        let m = &self.migration;
        let sql = format!(
            "SELECT {} FROM {} o FORCE INDEX ({}) WHERE ({}) AND NOT EXISTS ({} FROM {} g WHERE {} AND {} = {}) LIMIT 1",
            m.codec.select_list(Side::Original),
            m.original_name(),
            quote::identifier(&m.key.index),
            m.codec.in_list(Side::Original, keys.iter()),
            self.matching(),
            m.ghost_name(),
            self.same_key(true, false, &m.codec.in_list(Side::Ghost, keys.iter())),
            left(columns, "o"),
            right(columns, "g"),
        );
        Ok(!self.keys(session, "find the columns that differ", &sql).await?.is_empty())
    }

    async fn reach(&self, end: &crate::mysql::BinlogPosition) -> Result<(), EngineError> {
        let mut position = self.inbox.positions();
        let reached = async {
            while *position.borrow_and_update() < *end {
                if position.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::pin!(reached);
        let mut seen = self.inbox.counts().1;
        // Cancel-safe: a watch loses nothing.
        while tokio::time::timeout(JUDGE_LIMIT, &mut reached).await.is_err() {
            // A large transaction moves the position at its end only, and may take long.
            let now = self.inbox.counts().1;
            if now == seen && !self.inbox.full() {
                let why = "the binary log stream is too far behind to judge a difference";
                return Err(EngineError::transient(Reason::ConnectionFailed, why));
            }
            seen = now;
        }
        Ok(())
    }

    /// The error, with the key and the columns that differ.
    async fn failed(&self, session: &mut Session, comparison: &Comparison, key: &Key) -> EngineError {
        let m = &self.migration;
        let mut columns: Vec<String> = Vec::new();
        let recomputed = self.recomputed();
        let key_only = std::slice::from_ref(key);
        for column in comparison.direct(&recomputed) {
            if let Ok(true) = self.differs_in(session, &[column], key_only).await {
                columns.push(column.ghost.clone());
            }
        }
        let condition = m.codec.in_list(Side::Original, key_only.iter());
        if let Ok(found) = self.values_of(session, comparison, &condition, 1).await {
            columns.extend(found.into_iter().flat_map(|(_, names)| names));
        }
        let through = comparison.through_table();
        if !through.is_empty() && self.fill(session, &through, &condition).await.is_ok() {
            for column in through {
                let sql = self.differing_from(&self.scratch(), column, &m.codec.in_list(Side::Ghost, key_only.iter()));
                if let Ok(Some(1)) = session.first::<u64>("find the columns that differ", LONG, &sql).await {
                    columns.push(column.ghost.clone());
                }
            }
        }
        columns.sort_unstable();
        columns.dedup();
        if let Some(null) = self.null_that_is_numbered(session, &columns, &condition).await {
            return null;
        }
        let columns: Vec<String> = columns.iter().map(|c| quote::identifier(c)).collect();
        let columns = if columns.is_empty() {
            "the row is missing in one of the tables".to_owned()
        } else {
            format!("columns {}", columns.join(", "))
        };
        EngineError::terminal(
            Reason::VerificationFailed,
            &format!(
                "the row with {} = {} differs between {} and its ghost, and no change in the binary log explains it: {columns}. The tables were not swapped and the original is untouched; a session may be writing without the binary log (sql_log_bin=0), or to the ghost. Retry to start over",
                m.key.index,
                m.codec.tuple(key),
                m.original_name()
            ),
        )
    }

    /// A row that came meanwhile with a NULL where the change makes AUTO_INCREMENT: the ghost has a number there.
    async fn null_that_is_numbered(&self, session: &mut Session, columns: &[String], condition: &str) -> Option<EngineError> {
        let m = &self.migration;
        for name in numbers::numbered_nulls(&m.original.definition, &m.ghost, &m.mapping) {
            let ghost = m.mapping.from_original(name).map(|c| c.ghost.clone())?;
            let quoted = quote::identifier(name);
            let sql = format!("SELECT COUNT(*) FROM {} WHERE ({condition}) AND {quoted} IS NULL", m.original_name());
            if columns.contains(&ghost) && session.first::<u64>("look for a NULL", LONG, &sql).await.is_ok_and(|n| n > Some(0)) {
                return Some(numbers::null_found(&m.original_name(), &quoted));
            }
        }
        None
    }
}

/// The columns of a table by SHOW CREATE TABLE.
async fn columns_shown(session: &mut Session, database: &str, table: &str) -> Result<Vec<CreatedColumn>, EngineError> {
    let text = inspector::show_create(session, database, table).await?;
    create::columns(&text).map_err(not_readable)
}
