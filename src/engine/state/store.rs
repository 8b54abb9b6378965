//! The state table `_T_ghc`: all that a new engine must know, in MySQL, written in the transactions that it describes.
//!
//! | kind | id | value |
//! |---|---|---|
//! | `owner` | 0 | the owner's epoch: every writing transaction reads it `FOR SHARE`; taking over increments it (the fence) |
//! | `migration` | 0 | [`Record`] as JSON |
//! | `position` | 0 | [`SafePosition`] as JSON |
//! | `heartbeat` | 0 | the engine's time in microseconds, read on replicas to know their lag; written outside of the fence: a stale one only tells a lag |
//! | `chunk` | n | [`ChunkRecord`] as JSON, written in the chunk's own transaction; neighbours are merged at checkpoints (`last` is then larger than the id) |
//!
//! The table's comment says whose it is, so that a person who finds it knows, and so that nobody else's table is ever taken for ours.

use super::record::{ChunkId, ChunkRecord, Record, SafePosition, Stored, VERSION};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::MigrationSpec;
use crate::mysql::session::SHORT;
use crate::mysql::{GtidSet, MySqlError, Session};
use crate::sql::names::is_kept_state;
use crate::sql::quote;
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// The oldest version that is still read.
const OLDEST: u32 = 1;
/// How the table says whose it is; the version follows.
const COMMENT: &str = "Theseus migration state, version ";

/// Why a version cannot be used, if it cannot (pure).
fn other_version(version: Option<u32>) -> Option<String> {
    match version {
        Some(v) if v > VERSION => Some(format!("it has version {v}, from a newer Theseus; this one reads versions up to {VERSION}")),
        Some(v) if v < OLDEST => Some(format!("it has version {v}; this Theseus reads versions {OLDEST} to {VERSION}")),
        Some(_) => None,
        None => Some("its version is not readable".to_owned()),
    }
}

/// The state table of one migration.
#[derive(Debug, Clone)]
pub struct StateTable {
    database: String,
    qualified: String,
    shown: String,
}

impl StateTable {
    /// Names it; touches nothing.
    pub fn new(database: &str, name: &str) -> Self {
        Self { database: database.to_owned(), qualified: quote::qualified(database, name), shown: name.to_owned() }
    }

    /// The name, without the schema and without quotes.
    pub fn name(&self) -> &str {
        &self.shown
    }

    /// The quoted name.
    pub fn qualified(&self) -> &str {
        &self.qualified
    }

    /// Makes the table and takes ownership. The first epoch is the time in microseconds, so that it differs from every epoch of a state
    /// table that had this name before: an engine of then stays fenced out.
    ///
    /// # Errors
    /// The server's; the name is known to be free.
    pub async fn create(&self, session: &mut Session, record: &Record) -> Result<u64, EngineError> {
        let t = &self.qualified;
        session
            .run(
                "create the state table",
                SHORT,
                &format!(
                    "CREATE TABLE {t} (kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, id BIGINT UNSIGNED NOT NULL, \
                     value LONGTEXT CHARACTER SET utf8mb4 NOT NULL, updated TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), \
                     PRIMARY KEY (kind, id)) ENGINE=InnoDB COMMENT={}",
                    quote::string(&format!("{COMMENT}{VERSION}"))
                ),
            )
            .await?;
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| u64::try_from(d.as_micros()).unwrap_or(1));
        session
            .run(
                "write the state table",
                SHORT,
                &format!(
                    "INSERT INTO {t} (kind, id, value) VALUES ('owner', 0, '{epoch}'), ('migration', 0, {})",
                    quote::string(&json(record)?)
                ),
            )
            .await?;
        Ok(epoch)
    }

    /// Reads everything; `None` when the table does not exist.
    ///
    /// # Errors
    /// [`Reason::NameTaken`] when the table is not one of ours, [`Reason::StateNotReadable`] when it is of another version or damaged.
    pub async fn load(&self, session: &mut Session, database: &str) -> Result<Option<Stored>, EngineError> {
        let comments: Vec<String> = session
            .select(
                "look for the state table",
                "SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
                vec![database.into(), self.shown.clone().into()],
            )
            .await?;
        let Some(comment) = comments.first() else {
            return Ok(None);
        };
        if !comment.starts_with("Theseus migration state") {
            return Err(self.taken());
        }
        if let Some(why) = other_version(comment.strip_prefix(COMMENT).and_then(|v| v.parse().ok())) {
            return Err(self.unreadable(&why));
        }
        let read =
            session.rows("read the state table", SHORT, &format!("SELECT kind, id, value FROM {} ORDER BY kind, id", self.qualified)).await;
        let rows: Vec<(String, u64, String)> = match read {
            Err(error) if error.code == crate::mysql::codes::BAD_FIELD_ERROR => return Err(self.unreadable("its columns are different")),
            read => read?,
        };
        let (mut record, mut safe, mut chunks, mut epoch) = (None, None, Vec::new(), None);
        for (kind, id, value) in rows {
            match kind.as_str() {
                "owner" => epoch = Some(value.parse().map_err(|_| self.unreadable("its owner's epoch is not readable"))?),
                "migration" => record = Some(parse::<Record>(&value).ok_or_else(|| self.unreadable("its record is not readable"))?),
                "position" => {
                    // GTIDs that cannot be read are not none: the stream would begin elsewhere.
                    let readable = parse::<SafePosition>(&value).filter(|safe| GtidSet::parse(&safe.executed).is_some());
                    safe = Some(readable.ok_or_else(|| self.unreadable("its position is not readable"))?);
                }
                "chunk" => {
                    chunks.push((id, parse::<ChunkRecord>(&value).ok_or_else(|| self.unreadable("a chunk record is not readable"))?))
                }
                _ => {}
            }
        }
        match (record, epoch) {
            (Some(mut record), Some(epoch)) => match other_version(Some(record.version)) {
                Some(why) => Err(self.unreadable(&why)),
                None => {
                    // As it is written from now on.
                    record.version = VERSION;
                    Ok(Some(Stored { record, safe: safe.unwrap_or_default(), chunks, epoch }))
                }
            },
            // The engine died between making the table and its first row: it describes no work, and its comment says that it is ours.
            (None, None) if chunks.is_empty() => {
                Ok(Some(Stored { record: Record::empty(), safe: SafePosition::default(), chunks, epoch: 0 }))
            }
            _ => Err(self.unreadable("rows are missing from it")),
        }
    }

    /// The state table that this migration, which is finished, has under another name: a later one needed its own.
    ///
    /// # Errors
    /// The server's.
    pub async fn kept(session: &mut Session, spec: &MigrationSpec) -> Result<Option<(Self, Stored)>, EngineError> {
        Ok(Self::all_kept(session, spec).await?.into_iter().find(|(_, stored)| stored.record.id == spec.id))
    }

    /// Those of all finished migrations of the table.
    ///
    /// # Errors
    /// The server's. A state table that cannot be read is nobody's here.
    pub async fn all_kept(session: &mut Session, spec: &MigrationSpec) -> Result<Vec<(Self, Stored)>, EngineError> {
        let names: Vec<String> = session
            .select(
                "look for kept state tables",
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_COMMENT LIKE 'Theseus migration state%' ORDER BY 1",
                vec![spec.database.clone().into()],
            )
            .await?;
        let mut kept = Vec::new();
        for name in names.into_iter().filter(|name| is_kept_state(&spec.table, spec.mode.on_replica(), name)) {
            let state = Self::new(&spec.database, &name);
            match state.load(session, &spec.database).await {
                Ok(Some(stored)) => kept.push((state, stored)),
                Err(error) if error.is_transient() => return Err(error),
                _ => {}
            }
        }
        Ok(kept)
    }

    /// Moves the state table of a finished migration out of the way of a later one. The caller holds the table's named lock, so no engine is
    /// at work for the finished one; one that is frozen at its clean-up finds another epoch under the name, or none.
    ///
    /// # Errors
    /// The server's.
    pub async fn keep_as(&self, session: &mut Session, name: &str) -> Result<(), EngineError> {
        let kept = quote::qualified(&self.database, name);
        session
            .run("move a finished migration's state table out of the way", SHORT, &format!("RENAME TABLE {} TO {kept}", self.qualified))
            .await?;
        Ok(())
    }

    fn taken(&self) -> EngineError {
        EngineError::terminal(
            Reason::NameTaken,
            &format!(
                "the table {} exists and was not created by Theseus. Nothing was touched; rename or drop it, then retry",
                self.qualified
            ),
        )
    }

    fn unreadable(&self, why: &str) -> EngineError {
        EngineError::terminal(
            Reason::StateNotReadable,
            &format!(
                "the state table {} cannot be used: {why}. The original table is untouched; drop the ghost and state tables to start over",
                self.qualified
            ),
        )
    }

    /// Makes sure that the table, if it is there, can be read: a frozen former owner may have it locked. As for
    /// [`StateTable::take_over`], the caller holds the migration's named lock.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn free(&self, session: &mut Session) -> Result<(), EngineError> {
        let sql = format!("SELECT 1 FROM {} LIMIT 1", self.qualified);
        match session.run("check whether the state table is locked", SHORT, &sql).await {
            Err(error) if error.is_contention() => crate::engine::state::fence::put_out(session, &self.database, &self.shown).await,
            Err(error) if error.is_connection() => Err(error.into()),
            // It does not exist, or the caller will see for itself.
            _ => Ok(()),
        }
    }

    /// Takes ownership: from now on transactions of earlier owners fail at the fence. The caller holds the migration's named lock, so
    /// whoever of this account keeps the owner's row or the table locked is a former owner that is frozen or cut off: it is put out.
    ///
    /// # Errors
    /// The server's.
    pub async fn take_over(&self, session: &mut Session) -> Result<u64, EngineError> {
        let t = &self.qualified;
        let what = "take over the migration";
        let sql = format!("UPDATE {t} SET value = CAST(value AS UNSIGNED) + 1 WHERE kind = 'owner' AND id = 0");
        match session.run(what, SHORT, &sql).await {
            Err(error) if error.is_contention() => {
                crate::engine::state::fence::put_out(session, &self.database, &self.shown).await?;
                session.run(what, SHORT, &sql).await?;
            }
            done => done?,
        }
        let epoch: Option<String> =
            session.first("take over the migration", SHORT, &format!("SELECT value FROM {t} WHERE kind = 'owner' AND id = 0")).await?;
        epoch.and_then(|e| e.parse().ok()).ok_or_else(|| self.unreadable("the owner row is missing"))
    }

    /// Begins a transaction on `session` behind the fence: the owner's row stays share-locked until the transaction ends, so that a new
    /// owner's epoch comes either before (and this fails) or after it.
    ///
    /// # Errors
    /// `Ok(false)` when another engine has taken over; the server's errors.
    pub async fn begin(&self, session: &mut Session, epoch: u64) -> Result<bool, MySqlError> {
        let sql = format!("START TRANSACTION; SELECT value FROM {} WHERE kind = 'owner' AND id = 0 FOR SHARE", self.qualified);
        let now: Option<String> = session.last_set("check the fence", SHORT, &sql).await?;
        Ok(now.is_some_and(|e| e == epoch.to_string()))
    }

    /// Whether the owner's epoch is this one. The caller has locked the table, so it stays so.
    ///
    /// # Errors
    /// The server's.
    pub async fn is_owner(&self, session: &mut Session, epoch: u64) -> Result<bool, MySqlError> {
        let sql = format!("SELECT value FROM {} WHERE kind = 'owner' AND id = 0", self.qualified);
        let now: Option<String> = session.first("check the fence", SHORT, &sql).await?;
        Ok(now.is_some_and(|e| e == epoch.to_string()))
    }

    /// The statement that records a chunk, to run inside its transaction.
    ///
    /// # Errors
    /// Never in practice: the record is made of plain values.
    pub fn record_chunk(&self, id: ChunkId, chunk: &ChunkRecord) -> Result<String, EngineError> {
        Ok(format!("INSERT INTO {} (kind, id, value) VALUES ('chunk', {}, {})", self.qualified, id.first, quote::string(&json(chunk)?)))
    }

    /// Stores the safe position, and merges chunk records: `merged` replaces all records that it stands for.
    ///
    /// # Errors
    /// [`Reason::Fenced`], or the server's.
    pub async fn checkpoint(
        &self,
        session: &mut Session,
        epoch: u64,
        safe: &SafePosition,
        merged: Option<(u64, &ChunkRecord)>,
    ) -> Result<(), EngineError> {
        if !self.begin(session, epoch).await? {
            return Err(fenced());
        }
        let t = &self.qualified;
        let mut sql = format!("REPLACE INTO {t} (kind, id, value) VALUES ('position', 0, {})", quote::string(&json(safe)?));
        if let Some((first, chunk)) = merged {
            sql.push_str(&format!(
                "; DELETE FROM {t} WHERE kind = 'chunk' AND id BETWEEN {first} AND {}; INSERT INTO {t} (kind, id, value) VALUES ('chunk', {first}, {})",
                chunk.last,
                quote::string(&json(chunk)?)
            ));
        }
        sql.push_str("; COMMIT");
        session.run("store the checkpoint", SHORT, &sql).await?;
        Ok(())
    }

    /// The statement that stores the safe position of a session that has this table locked: nobody else can be its owner meanwhile.
    ///
    /// # Errors
    /// Never in practice: the position is made of plain values.
    pub fn position_under_lock(&self, safe: &SafePosition) -> Result<String, EngineError> {
        Ok(format!("REPLACE INTO {} (kind, id, value) VALUES ('position', 0, {})", self.qualified, quote::string(&json(safe)?)))
    }

    /// Stores the fixed part again, with a new stage.
    ///
    /// # Errors
    /// [`Reason::Fenced`], or the server's.
    pub async fn store(&self, session: &mut Session, epoch: u64, record: &Record, start: Option<&SafePosition>) -> Result<(), EngineError> {
        if !self.begin(session, epoch).await? {
            return Err(fenced());
        }
        let t = &self.qualified;
        let mut sql = format!("REPLACE INTO {t} (kind, id, value) VALUES ('migration', 0, {})", quote::string(&json(record)?));
        if let Some(start) = start {
            sql.push_str(&format!("; REPLACE INTO {t} (kind, id, value) VALUES ('position', 0, {})", quote::string(&json(start)?)));
        }
        sql.push_str("; COMMIT");
        session.run("write the state table", SHORT, &sql).await?;
        Ok(())
    }

    /// A commit of our own on the server: with `binlog_order_commits` it returns only after all earlier ones are visible (the barrier
    /// without GTIDs).
    ///
    /// # Errors
    /// The server's.
    pub async fn commit_marker(&self, session: &mut Session) -> Result<(), MySqlError> {
        session
            .run("commit a marker", SHORT, &format!("REPLACE INTO {} (kind, id, value) VALUES ('marker', 0, UUID())", self.qualified))
            .await
    }

    /// The statement that writes the heartbeat.
    pub fn heartbeat(&self, microseconds: u64) -> String {
        format!("REPLACE INTO {} (kind, id, value) VALUES ('heartbeat', 0, '{microseconds}')", self.qualified)
    }

    /// The statement that reads it.
    pub fn read_heartbeat(&self) -> String {
        format!("SELECT value FROM {} WHERE kind = 'heartbeat' AND id = 0", self.qualified)
    }
}

/// Another engine has taken over.
pub fn fenced() -> EngineError {
    EngineError::terminal(
        Reason::Fenced,
        "another engine has taken over this migration; this one has stopped and has written nothing since",
    )
}

fn json<T: Serialize>(value: &T) -> Result<String, EngineError> {
    serde_json::to_string(value).map_err(|error| EngineError::internal(&format!("state cannot be written as JSON: {error}")))
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_layout_is_refused_and_an_older_one_in_range_is_not() {
        assert_eq!(other_version(Some(VERSION)), None);
        assert_eq!(other_version(Some(OLDEST)), None);
        assert!(other_version(Some(VERSION + 1)).is_some_and(|why| why.contains("newer")));
        assert!(other_version(Some(0)).is_some());
        assert!(other_version(None).is_some());
    }

    #[test]
    fn what_was_added_later_has_a_default() {
        let text = json(&Record::empty()).expect("json");
        let mut old: serde_json::Value = serde_json::from_str(&text).expect("json");
        old.as_object_mut().expect("an object").remove("native");
        assert_eq!(parse::<Record>(&old.to_string()), Some(Record::empty()));
        let safe: Option<SafePosition> = parse(r#"{"position": {"file": "binlog.000001", "offset": 4}, "executed": ""}"#);
        assert_eq!(safe.map(|s| s.applied), Some(0));
        // And what is unknown here is no harm: the version says whether it may be left out.
        old.as_object_mut().expect("an object").insert("later".to_owned(), 1.into());
        assert_eq!(parse::<Record>(&old.to_string()), Some(Record::empty()));
    }
}
