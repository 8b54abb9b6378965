//! Compares both tables before the swap (rule 11), and goes on doing so while the gate is closed.
//!
//! A pass reads, for each range, one number of each side in one statement (one snapshot under READ COMMITTED), without locks. A range
//! that differs is narrowed to keys by one more statement. Those keys are suspects, most of them only dirty: after what is dirty has been
//! flushed, a key that differs although *no event touched it* differs silently. It is repaired, and fails the migration when it differs
//! again. So a busy row is never blamed, and a silent difference is never excused.
//!
//! Reads hold a metadata lock for their own duration: the cut-over keeps them out by [`Verifier::quiet`].

use super::applier::Flushed;
use super::error::EngineError;
use super::inbox::Inbox;
use super::migration::Migration;
use super::progress::Publisher;
use super::reason::Reason;
use super::snapshot::Verification;
use super::throttler;
use super::throttler::decide::Decision;
use crate::mysql::Session;
use crate::mysql::session::{LONG, SHORT};
use crate::sql::digest;
use crate::sql::key::{Key, KeyRange, Side};
use crate::sql::quote;
use crate::sql::table::{Column, ColumnType};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as AsyncMutex, RwLock, watch};
use tokio_util::sync::CancellationToken;

/// Rows in a range: about 50 ms of reading for common rows, so that the cut-over never waits long for one.
const RANGE_ROWS: u64 = 20_000;
/// Connections that compare in the first pass. The comparison is the server's work, mostly of its processors, so
/// there are as many only where the copy found that the server can take them; later passes have time.
pub const READERS: u16 = 2;
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
/// How long the stream may take to reach the end of the log when a suspect is judged.
const JUDGE_LIMIT: Duration = Duration::from_secs(60);
/// The temporary table for conversions that have no expression; private to its session.
const SCRATCH: &str = "_theseus_verify";

/// Compares the tables of one attempt.
pub struct Verifier {
    /// The migration.
    pub migration: Arc<Migration>,
    /// Where suspects become dirty, and events are noticed.
    pub inbox: Arc<Inbox>,
    /// Wakes after each flush cycle.
    pub flushed: watch::Receiver<Flushed>,
    /// Whether the tables may be read now: what holds the copy holds the comparison.
    pub decided: watch::Receiver<Decision>,
    /// Where to report.
    pub publisher: Publisher,
    /// Held for reading by each statement on the tables, for writing by the cut-over.
    pub quiet: Arc<RwLock<()>>,
    /// How many connections may read in the first pass, up to [`READERS`].
    pub readers: u16,
    /// True from the end of the first whole pass on.
    pub verified: watch::Sender<bool>,
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
    /// Over the left side's columns.
    left: Vec<String>,
    /// Over the ghost's.
    right: Vec<String>,
    /// Rows of the original are first converted into [`SCRATCH`], which then is the left side.
    through_table: bool,
}

impl Verifier {
    /// Passes until cancelled: the first at full speed, the others at leisure.
    ///
    /// # Errors
    /// [`Reason::VerificationFailed`], or the server's.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), EngineError> {
        let mut readers = Vec::new();
        let count = if self.publisher.progress().rows_estimated > 2 * RANGE_ROWS { self.readers.clamp(1, READERS) } else { 1 };
        for _ in 0..count {
            let mut session = self.migration.session().await?;
            let comparison = self.comparison(&mut session).await?;
            readers.push(Reader { session, comparison });
        }
        let mut first = true;
        loop {
            let done = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                done = self.pass(&mut readers, first) => done,
            };
            done?;
            if first {
                self.publisher.update(|s| s.verification.get_or_insert_with(Verification::default).complete = true);
                self.verified.send_replace(true);
                first = false;
                for reader in readers.drain(1..) {
                    reader.session.close().await;
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(BACKGROUND_PAUSE) => {}
            }
        }
    }

    async fn comparison(&self, session: &mut Session) -> Result<Comparison, EngineError> {
        let m = &self.migration;
        if let Some(expressions) = digest::expressions(&m.original.definition, &m.ghost, &m.mapping) {
            return Ok(Comparison { left: expressions.original, right: expressions.ghost, through_table: false });
        }
        let right = digest::ghost_expressions(&m.ghost, &m.mapping);
        let names: Vec<String> = m.mapping.shared.iter().map(|c| c.ghost.clone()).collect();
        let columns: Vec<String> = names.iter().map(|c| quote::identifier(c)).collect();
        let sql = format!(
            "CREATE TEMPORARY TABLE {} ({}, INDEX ({})) ENGINE=InnoDB SELECT {} FROM {} LIMIT 0",
            self.scratch(),
            quote::row_number(&names),
            m.codec.columns(Side::Ghost),
            columns.join(", "),
            m.ghost_name()
        );
        session.run("make a temporary table for the comparison (CREATE TEMPORARY TABLES)", SHORT, &sql).await?;
        Ok(Comparison { left: right.clone(), right, through_table: true })
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
            self.judge(&mut reader.session, &reader.comparison, &suspects.keys).await?;
        }
        tracing::debug!(table = self.migration.spec.table, "a verification pass is complete");
        Ok(())
    }

    /// One reader's part of a pass.
    async fn walk(&self, reader: &mut Reader, walk: &Walk, hurry: bool) -> Result<(), EngineError> {
        let Reader { session, comparison } = reader;
        loop {
            throttler::while_held(&self.decided, session).await?;
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
            self.publisher.update(|s| s.verification.get_or_insert_with(Verification::default).chunks_checked += 1);
            let due = {
                let mut suspects = walk.suspects.lock().await;
                if !found.is_empty() {
                    suspects.get_or_insert_with(|| Suspects { keys: Vec::new(), oldest: began }).keys.extend(found);
                }
                suspects.take_if(|s| s.keys.len() >= JUDGED_TOGETHER || s.oldest.elapsed() >= JUDGED_AFTER)
            };
            if let Some(suspects) = due {
                let _one_at_a_time = walk.judging.lock().await;
                self.judge(session, comparison, &suspects.keys).await?;
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
        rows.into_iter()
            .map(|row| {
                self.migration.codec.encode_row(&row.unwrap()).map_err(|e| EngineError::internal(&format!("a key cannot be read: {e}")))
            })
            .collect()
    }

    /// The keys of a range whose rows differ now.
    async fn range(&self, session: &mut Session, comparison: &Comparison, range: &KeyRange) -> Result<Vec<Key>, EngineError> {
        let m = &self.migration;
        let (on_original, on_ghost) = (m.codec.range(Side::Original, range), m.codec.range(Side::Ghost, range));
        if comparison.through_table {
            self.fill(session, &on_original).await?;
        }
        // Where the two sides order keys differently, a range of one is no range of the other, so there is nothing to add up.
        if m.codec.same_order() {
            let digest = |table: String, row: String, condition: &str| {
                format!("(SELECT CONCAT(COUNT(*), '/', IFNULL(BIT_XOR({row}), 0)) FROM {table} WHERE {condition})")
            };
            let left = if comparison.through_table {
                digest(self.scratch(), digest::row(&comparison.left, ""), "TRUE")
            } else {
                let table = format!("{} FORCE INDEX ({})", m.original_name(), quote::identifier(&m.key.index));
                digest(table, digest::row(&comparison.left, ""), &on_original)
            };
            let right = digest(m.ghost_name(), digest::row(&comparison.right, ""), &on_ghost);
            let both: Option<(String, String)> = session.first("compare a range", LONG, &format!("SELECT {left}, {right}")).await?;
            if both.is_some_and(|(left, right)| left == right) {
                return Ok(Vec::new());
            }
        }
        self.different(session, comparison, &on_original, &on_ghost).await
    }

    /// Converts rows of the original as the server stores them in the ghost.
    async fn fill(&self, session: &mut Session, condition: &str) -> Result<(), EngineError> {
        let m = &self.migration;
        let columns: Vec<String> = m.mapping.shared.iter().map(|c| c.ghost.clone()).collect();
        let sql = m.convert_into(&self.scratch(), &columns, condition);
        Ok(session.run("convert a range", LONG, &sql).await?)
    }

    /// Keys of rows that one side lacks or that differ, in one statement for each direction.
    async fn different(
        &self,
        session: &mut Session,
        comparison: &Comparison,
        on_original: &str,
        on_ghost: &str,
    ) -> Result<Vec<Key>, EngineError> {
        let m = &self.migration;
        let ghost = m.ghost_name();
        let same_row = format!("{} = {}", digest::row(&comparison.left, "o"), digest::row(&comparison.right, "g"));
        let (table, condition, side) = if comparison.through_table {
            (format!("{} o", self.scratch()), "TRUE", Side::Ghost)
        } else {
            (format!("{} o FORCE INDEX ({})", m.original_name(), quote::identifier(&m.key.index)), on_original, Side::Original)
        };
        let sql = format!(
            "SELECT {} FROM {table} WHERE ({condition}) AND NOT EXISTS (SELECT 1 FROM {ghost} g WHERE {} AND {same_row})",
            m.codec.select_list(side),
            self.same_key(true, comparison.through_table)
        );
        let mut keys = self.keys(session, "narrow a difference to keys", &sql).await?;
        let sql = format!(
            "SELECT {} FROM {ghost} g WHERE ({on_ghost}) AND NOT EXISTS (SELECT 1 FROM {} o WHERE {})",
            m.codec.select_list(Side::Ghost),
            m.original_name(),
            self.same_key(false, false)
        );
        keys.extend(self.keys(session, "narrow a difference to keys", &sql).await?);
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// `o`'s key equals `g`'s. Converted on the side that is read first, so that the other side's index serves.
    fn same_key(&self, ghost_is_looked_up: bool, like_ghost: bool) -> String {
        let m = &self.migration;
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
                // Two instants may look alike on a clock that shifts.
                _ if original.is_some_and(|c| matches!(c.column_type, ColumnType::Timestamp { .. })) => {
                    format!("{left} = {right} AND UNIX_TIMESTAMP({left}) = UNIX_TIMESTAMP({right})")
                }
                _ => format!("{left} = {right}"),
            }
        });
        parts.collect::<Vec<_>>().join(" AND ")
    }

    /// Tells dirt from damage. First everything that the log has told of is flushed: a suspect that still differs, although no event has
    /// touched it meanwhile, differs silently. It is repaired, and fails the migration if it differs again without an event. Suspects that
    /// events do touch are busy: their next reconciliation writes them anyway, and they are left to the next pass.
    async fn judge(&self, session: &mut Session, comparison: &Comparison, suspects: &[Key]) -> Result<(), EngineError> {
        let silent = self.untouched_differences(session, comparison, suspects, false).await?;
        if silent.is_empty() {
            return Ok(());
        }
        self.publisher.update(|s| s.verification.get_or_insert_with(Verification::default).rows_different += silent.len() as u64);
        tracing::warn!(rows = silent.len(), "rows differ without an event that explains it; repairing them");
        let lasting = self.untouched_differences(session, comparison, &silent, true).await?;
        self.publisher
            .update(|s| s.verification.get_or_insert_with(Verification::default).rows_repaired += (silent.len() - lasting.len()) as u64);
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
            if comparison.through_table {
                self.fill(session, &condition(Side::Original)).await?;
            }
            different.extend(self.different(session, comparison, &condition(Side::Original), &condition(Side::Ghost)).await?);
        }
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

    async fn reach(&self, end: &crate::mysql::BinlogPosition) -> Result<(), EngineError> {
        let mut position = self.inbox.follow();
        let reached = async {
            while *position.borrow_and_update() < *end {
                if position.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(JUDGE_LIMIT, reached)
            .await
            .map_err(|_| EngineError::transient(Reason::ConnectionFailed, "the binary log stream is too far behind to judge a difference"))
    }

    /// The error, with the key and the columns that differ.
    async fn failed(&self, session: &mut Session, comparison: &Comparison, key: &Key) -> EngineError {
        let m = &self.migration;
        let mut columns = Vec::new();
        if !comparison.through_table {
            for (shared, (left, right)) in m.mapping.shared.iter().zip(comparison.left.iter().zip(&comparison.right)) {
                let sql = format!(
                    "SELECT COUNT(*) FROM {} o JOIN {} g ON {} WHERE {} <> {}",
                    m.original_name(),
                    m.ghost_name(),
                    self.same_key(true, false),
                    digest::row(std::slice::from_ref(left), "o"),
                    digest::row(std::slice::from_ref(right), "g"),
                );
                let sql = format!("{sql} AND {}", m.codec.is_row("o", key));
                if let Ok(Some(1)) = session.first::<u64>("name the columns that differ", LONG, &sql).await {
                    columns.push(quote::identifier(&shared.ghost));
                }
            }
        }
        let columns = if columns.is_empty() {
            "the row is missing on one side, or differs after its conversion".to_owned()
        } else {
            format!("columns {}", columns.join(", "))
        };
        EngineError::terminal(
            Reason::VerificationFailed,
            &format!(
                "the row with {} = {} differs between {} and its ghost, and no change in the binary log explains it: {columns}. The tables were not swapped and the original is untouched; somebody writes past the binary log (sql_log_bin=0), or to the ghost. Retry to start anew",
                m.key.index,
                m.codec.tuple(key),
                m.original_name()
            ),
        )
    }
}
