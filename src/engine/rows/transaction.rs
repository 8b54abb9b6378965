//! The transaction on the ghost: the one place where rows of the ghost are written.
//!
//! Fence → DELETE → INSERT … SELECT → warnings → COMMIT. Copier, applier and cut-over say which rows; how they are written stands here, and the
//! statements that write them are made nowhere else (`tests/architecture.rs` holds that).
//!
//! Promises:
//! * no statement changes rows of the ghost unless the fence was passed and holds until the change is committed ([`GhostTransaction`]);
//! * a row is written from the original's present row, and every warning of the statement is read;
//! * what [`write()`] returns as done is committed. After an error, and after [`try_out`], the session is rolled back or, where that did not
//!   succeed or somebody dropped the future half-way, broken: it takes no statement any more, and the server rolls back when it is closed.
//!   So no later transaction on the same session can commit what an earlier one has left.
//! * where rows get numbers ([`super::numbers`]), one transaction at a time is under way, from the reading of the highest number to the end.
//!
//! Relies on READ COMMITTED: each INSERT … SELECT has a snapshot of its own.

use super::migration::{Migration, Visibility};
use super::numbers;
use super::turned::Turned;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::state::record::{ChunkId, ChunkRecord};
use crate::engine::state::store::fenced;
use crate::mysql::session::{LONG, SHORT};
use crate::mysql::{MySqlError, Session, codes};
use crate::sql::key::{Key, KeyRange, Side};
use crate::sql::mapping::{Insert, MaybeEmpty};
use crate::sql::quote;
use std::time::Duration;
use tokio::sync::MutexGuard;

/// Why a transaction that writes to the ghost did not come about.
pub enum Failure {
    /// Deadlock or lock wait: again. Also a row whose parent has just gone, where the ghost has constraints of its own: the next look does not see
    /// the row any more.
    Lost(MySqlError),
    /// A unique key.
    Conflict(MySqlError),
    /// Nothing that trying again here can cure.
    Over(EngineError),
}

impl From<MySqlError> for Failure {
    fn from(error: MySqlError) -> Self {
        if error.is_contention() || error.is_orphan() {
            Self::Lost(error)
        } else if error.is_duplicate() {
            Self::Conflict(error)
        } else {
            Self::Over(error.into())
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Over(error)
    }
}

/// Why rows were not written.
pub enum Unwritten {
    /// The server refuses it.
    Refused(MySqlError),
    /// A warning says that a value was changed.
    Changed(EngineError),
}

impl From<Unwritten> for Failure {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Refused(error) => error.into(),
            Unwritten::Changed(error) => Self::Over(error),
        }
    }
}

/// How a transaction ends that has done its work.
pub enum Commit {
    /// A range was copied: its record goes with it, so that a chunk is in the ghost if and only if its record is in the state table.
    Chunk(ChunkId, ChunkRecord),
    /// Rows of keys were written.
    Keys {
        /// Rows were removed that later transactions of this session write again.
        aside: bool,
    },
}

/// Rows of the ghost being written, behind the fence.
///
/// There are two doors. [`write()`] and [`try_out`] begin a transaction that share-locks the owner's row in the state table, so that a new
/// owner's epoch comes either before it (and nothing is written) or after it has ended.
///
/// [`GhostTransaction::under_lock`] is for the session that holds the tables for the swap. START TRANSACTION would release its table locks
/// (MySQL manual, "Interaction of Table Locking and Transactions"), so there is none: each statement commits by itself, which nobody can see,
/// since the ghost is locked. Nor can the owner change between two of them: the state table is locked, too. Nothing is rolled back: an attempt that
/// is given up has left some keys' rows equal to the original's, or removed, and hands all of its keys back to the applier.
pub struct GhostTransaction<'a> {
    m: &'a Migration,
    session: &'a mut Session,
    /// How long a statement that writes rows may take.
    limit: Duration,
    /// A transaction is under way.
    open: bool,
    /// Rows were removed.
    written: bool,
    /// Nothing is committed before [`GhostTransaction::settle`].
    settles: bool,
    _turn: Option<MutexGuard<'a, ()>>,
}

/// Writes rows of the ghost in one transaction: commits when `work` returns how, and rolls back when it fails.
///
/// # Errors
/// Those of `work`; fenced; the server's.
pub async fn write<T, E: From<Failure>>(
    m: &Migration,
    session: &mut Session,
    work: impl AsyncFnOnce(&mut GhostTransaction<'_>) -> Result<(Commit, T), E>,
) -> Result<T, E> {
    let mut ghost = GhostTransaction::begin(m, session).await?;
    let done = match work(&mut ghost).await {
        Ok((how, value)) => ghost.commit(how).await.map(|()| value).map_err(E::from),
        Err(error) => Err(error),
    };
    if done.is_err() {
        ghost.roll_back().await;
    }
    done
}

/// Writes rows of the ghost and rolls back, whatever comes of it: to see what the server says of them.
///
/// # Errors
/// Those of `work`; fenced; the server's.
pub async fn try_out<T, E: From<Failure>>(
    m: &Migration,
    session: &mut Session,
    work: impl AsyncFnOnce(&mut GhostTransaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let mut ghost = GhostTransaction::begin(m, session).await?;
    let seen = work(&mut ghost).await;
    ghost.roll_back().await;
    seen
}

/// Under the lock, after a change that is committed as a whole and did not come about: UNLOCK TABLES would commit what is half done.
///
/// # Errors
/// The server's: then the session must not unlock, but end.
pub async fn undo_under_lock(session: &mut Session) -> Result<(), MySqlError> {
    session.run("roll back", SHORT, "ROLLBACK").await
}

impl<'a> GhostTransaction<'a> {
    async fn begin(m: &'a Migration, session: &'a mut Session) -> Result<Self, Failure> {
        let turn = match &m.numbering {
            Some(numbering) => Some(numbering.turn().await),
            None => None,
        };
        let mut ghost = Self { m, session, limit: LONG, open: true, written: false, settles: false, _turn: turn };
        match m.state.begin(ghost.session, m.epoch).await {
            Ok(true) => Ok(ghost),
            Ok(false) => {
                ghost.roll_back().await;
                Err(Failure::Over(fenced()))
            }
            Err(error) => {
                ghost.roll_back().await;
                Err(error.into())
            }
        }
    }

    /// For a session that has locked the original, the ghost and the state table. `None`: another engine has taken over.
    ///
    /// # Errors
    /// The server's.
    pub async fn under_lock(m: &'a Migration, session: &'a mut Session) -> Result<Option<Self>, MySqlError> {
        let ours = m.state.is_owner(session, m.epoch).await?;
        if ours && m.keeps() {
            session.run("begin a change that is committed as a whole", SHORT, "SET SESSION autocommit = 0").await?;
        }
        Ok(ours.then_some(Self { m, session, limit: SHORT, open: false, written: false, settles: m.keeps(), _turn: None }))
    }

    /// Under the lock, after the last row: commits what was written, where it is committed as a whole. COMMIT keeps the table locks.
    ///
    /// # Errors
    /// The server's.
    pub async fn settle(self) -> Result<(), MySqlError> {
        if self.settles {
            let sql = format!(
                "{}COMMIT; SET SESSION autocommit = 1",
                if self.written { Turned::forget(&self.m.spec.database) } else { String::new() }
            );
            self.session.run("commit the last changed rows", SHORT, &sql).await?;
        }
        Ok(())
    }

    /// The session, for statements that write no rows of the ghost.
    pub fn session(&mut self) -> &mut Session {
        self.session
    }

    /// Removes the ghost's rows of these keys. `what` names the statement.
    ///
    /// # Errors
    /// The server's.
    pub async fn delete(&mut self, what: &str, keys: &[Key]) -> Result<(), MySqlError> {
        let sql = delete_keys(self.m, keys);
        self.written = true;
        self.session.run(what, self.limit, &sql).await
    }

    /// Copies the rows of these keys that exist; the ghost may have had them.
    ///
    /// # Errors
    /// The server's, or a value would be changed.
    pub async fn copy_keys(&mut self, what: &str, keys: &[Key]) -> Result<u64, Unwritten> {
        let condition = self.m.codec.in_list(Side::Original, keys.iter());
        self.copy(what, &insert_select(self.m, &condition, true)).await
    }

    /// Copies the rows of a range, which the ghost does not have. Returns how many.
    ///
    /// # Errors
    /// The server's, or a value would be changed.
    pub async fn copy_range(&mut self, what: &str, range: &KeyRange) -> Result<u64, Unwritten> {
        let condition = self.m.codec.range(Side::Original, range);
        self.copy(what, &insert_select(self.m, &condition, false)).await
    }

    async fn copy(&mut self, what: &str, statements: &[String]) -> Result<u64, Unwritten> {
        let mut rows = 0;
        for sql in statements {
            let written = self.session.write(what, self.limit, sql).await.map_err(Unwritten::Refused)?;
            if written.warnings > 0 {
                let count = usize::from(written.warnings);
                check_warnings(self.session, &self.m.mapping.vectors, count, self.m.turned.is_some()).await.map_err(Unwritten::Changed)?;
            }
            rows += written.rows;
        }
        Ok(rows)
    }

    async fn commit(&mut self, how: Commit) -> Result<(), Failure> {
        let m = self.m;
        match how {
            Commit::Chunk(id, chunk) => {
                let record = m.state.record_chunk(id, &chunk)?;
                self.session.run("commit a chunk", SHORT, &format!("{record}; COMMIT")).await?;
            }
            Commit::Keys { aside } => {
                let mut sql = "COMMIT".to_owned();
                match &m.numbering {
                    // Their numbers stay theirs.
                    Some(numbering) if aside => {
                        let highest = numbering.highest_kept(&m.spec.database);
                        let highest = self.session.first::<u64>("read the saved row numbers", LONG, &highest).await?;
                        numbering.reserve(highest.unwrap_or(0));
                    }
                    Some(numbering) => sql = format!("{}COMMIT", numbering.forget(&m.spec.database)),
                    None if m.keeps() && self.written => sql = format!("{}COMMIT", Turned::forget(&m.spec.database)),
                    None => {}
                }
                self.session.run("commit changed rows", LONG, &sql).await?;
            }
        }
        self.open = false;
        Ok(())
    }

    /// Where that does not succeed the session is broken when the transaction is dropped.
    async fn roll_back(&mut self) {
        if self.open && !self.session.is_broken() {
            match self.session.run("roll back", SHORT, "ROLLBACK").await {
                Ok(()) => self.open = false,
                Err(error) => tracing::debug!("{error}"),
            }
        }
    }
}

impl Drop for GhostTransaction<'_> {
    fn drop(&mut self) {
        if self.open {
            self.session.give_up();
        }
    }
}

/// `INSERT INTO G (…) SELECT … FROM O` for the rows that `condition` (over the original's columns) names: mostly one statement. Without locks
/// on O, except where the server can give no other barrier ([`Visibility::RowLocks`]).
/// `keys`: they are rows that the ghost may have had.
fn insert_select(m: &Migration, condition: &str, keys: bool) -> Vec<String> {
    let (original, ghost) = (m.original_name(), m.ghost_name());
    let one = |insert: Insert| {
        let (mut into, mut values) = (insert.into, insert.values);
        let (mut before, mut join) = (String::new(), String::new());
        if let Some(numbering) = &m.numbering {
            let tables = numbers::Tables { database: &m.spec.database, original: &original, ghost: &ghost };
            before = numbering.begin(tables, keys);
            if keys {
                join = numbering.join(tables, &m.key, &m.codec);
            }
            into = format!("{into}, {}", numbering.column());
            values = format!("{values}, {}", numbering.number(&m.codec, keys));
        }
        format!(
            "{before}INSERT{} INTO {ghost} ({into}) SELECT {values} FROM {original} FORCE INDEX ({}){join} WHERE {condition}{}{}",
            m.leniently(insert.lenient),
            quote::identifier(&m.key.index),
            insert.only.map(|only| format!(" AND {only}")).unwrap_or_default(),
            if m.visibility == Visibility::RowLocks { " FOR SHARE" } else { "" }
        )
    };
    let Some(turned) = m.turned.as_ref().filter(|turned| turned.keeps()) else {
        return m.mapping.inserts(|_| true).into_iter().map(one).collect();
    };
    let tables = numbers::Tables { database: &m.spec.database, original: &original, ghost: &ghost };
    let kinds = turned.two_kinds(tables, &m.key, &m.codec);
    let two = |insert: Insert| {
        kinds.clone().map(|[into, values, join, only]| {
            format!(
                "INSERT INTO {ghost} ({}{into}) SELECT {}{values} FROM {original} FORCE INDEX ({}){join} WHERE {condition}{only}{}",
                insert.into,
                insert.values,
                quote::identifier(&m.key.index),
                if m.visibility == Visibility::RowLocks { " FOR SHARE" } else { "" }
            )
        })
    };
    m.mapping.inserts(|_| true).into_iter().flat_map(two).collect()
}

/// Removes the ghost's rows of these keys; their numbers are remembered, where the change makes numbers.
fn delete_keys(m: &Migration, keys: &[Key]) -> String {
    let (original, ghost) = (m.original_name(), m.ghost_name());
    let condition = m.codec.in_list(Side::Ghost, keys.iter());
    let tables = numbers::Tables { database: &m.spec.database, original: &original, ghost: &ghost };
    let before = match (&m.numbering, &m.turned) {
        (Some(numbering), _) => numbering.keep(tables, &m.key, &m.codec, &condition),
        (None, Some(turned)) if turned.keeps() => turned.put_aside(tables, &m.key, &m.codec, &condition),
        (None, _) => String::new(),
    };
    format!("{before}DELETE FROM {ghost} WHERE {condition}")
}

/// Reads the warnings of the last statement (rule 3): one that means a changed value ends the migration.
///
/// In strict mode the server makes errors of them; what is left at level Note is what a native ALTER in strict mode accepts too
/// (rounding to fewer decimals), and codes that speak of deprecation only. One that may be is that a VECTOR was left out
/// ([`MaybeEmpty`]): such a statement is not strict, and everything else that it warns of is an error. `count` is how many it has.
/// `notes`: a note means a changed value, too.
///
/// # Errors
/// [`Reason::DataDoesNotFit`]; the server's.
pub async fn check_warnings(session: &mut Session, vectors: &[MaybeEmpty], count: usize, notes: bool) -> Result<(), EngineError> {
    let changed = |what: &str| {
        EngineError::terminal(
            Reason::DataDoesNotFit,
            &format!(
                "a row's value would change under the new definition ({what}). The original table is untouched; the ghost and state tables are kept for a retry"
            ),
        )
    };
    let left_out = |text: &str| vectors.iter().any(|v| text == format!("Field '{}' doesn't have a default value", v.ghost));
    let warnings = session.warnings().await?;
    let (shown, mut lenient) = (warnings.len(), false);
    for (level, code, text) in warnings {
        if code == codes::NO_DEFAULT_FOR_FIELD && left_out(&text) {
            lenient = true;
        } else if (level != "Note" || notes) && !DEPRECATIONS.contains(&code) {
            return Err(changed(&format!("{code}: {text}")));
        }
    }
    // The server keeps max_error_count of them.
    if lenient && count > shown {
        return Err(changed(&format!("{} more warnings than the server keeps", count - shown)));
    }
    Ok(())
}

/// They say nothing about values. The last two speak of delimiters in dates and times, which native ALTERs accept.
const DEPRECATIONS: &[u16] = &[
    codes::WARN_DEPRECATED_SYNTAX,
    codes::WARN_DEPRECATED_SYNTAX_NO_REPLACEMENT,
    codes::DUP_INDEX,
    codes::WARN_DEPRECATED_SQLMODE,
    codes::SQL_MODE_MERGED,
    codes::DEPRECATED_UTF8_ALIAS,
    codes::DEPRECATED_NATIONAL,
    codes::WARN_DEPRECATED_UTF8MB3_COLLATION,
    codes::WARN_DEPRECATED_COLLATION,
    codes::WARN_DEPRECATED_DATETIME_DELIMITER,
    codes::WARN_DEPRECATED_SUPERFLUOUS_DELIMITER,
];
