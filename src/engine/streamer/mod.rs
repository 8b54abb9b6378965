//! Reads the binary log of the server and turns events into dirty keys, a transaction at a time.
//!
//! Promises: the keys of a transaction enter the [`Inbox`] when it ends, with the position after it; nothing else of a row is looked at.
//! Relies on: the server sends a transaction's events together and in commit order (MySQL manual, "The Binary Log"); row events name
//! their table by the table map in front of them. The task ends with an error when the stream does; its owner (the migrator) starts anew
//! from the safe position.
pub mod rows;

use super::EngineError;
use super::inbox::{Inbox, StreamNotice, StreamPoint};
use super::reason::Reason;
use crate::mysql::{BinlogPosition, Class, GtidSet, MySqlError, ServerAddress, Session};
use crate::mysql::session::Registered;
use crate::sql::key::{Key, KeyCodec};
use futures::StreamExt;
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{EventData, TransactionPayloadEvent};
use mysql_common::packets::Tag;
use mysql_async::{BinlogStream, BinlogStreamRequest, GnoInterval, Sid};
use rows::KeyColumn;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What to look for.
pub struct Watched {
    /// Schema of the table.
    pub database: String,
    /// The original.
    pub table: String,
    /// Key columns, in the key's order.
    pub key: Vec<KeyColumn>,
    /// Turns their values into keys.
    pub codec: Arc<KeyCodec>,
}

/// Where a stream begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// In the log of the very server that the position is from.
    Position(BinlogPosition),
    /// After all of these, on whatever server.
    Executed(GtidSet),
}

/// Streams register with a random server id from here upwards, so that they meet neither a real server's id nor each other's.
pub const FIRST_SERVER_ID: u64 = 1 << 31;
/// The server sends a heartbeat event when it has nothing else for this long, so a silent connection is a dead one.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence after which the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(15);

/// An open stream, before its first event.
pub struct Streamer {
    stream: BinlogStream,
    watched: Watched,
    inbox: Arc<Inbox>,
    position: BinlogPosition,
    /// Of the transaction under way.
    keys: Vec<Key>,
    images: u64,
    gtid: Option<([u8; 16], String, u64)>,
    before: StreamPoint,
    /// Inside a compressed transaction events carry no position of their own: the enclosing event's counts.
    inside_payload: bool,
    /// Length of the name of a file of this log.
    name_length: usize,
    /// The connection counts as the engine's own as long as the stream is open.
    _registered: Registered,
}

impl Streamer {
    /// Connects and asks for the log.
    ///
    /// # Errors
    /// Unreachable, REPLICATION SLAVE missing, or the log is gone ([`Reason::BinlogPurged`], told at the first event).
    pub async fn open(address: &ServerAddress, start: Start, log_end: &BinlogPosition, watched: Watched, inbox: Arc<Inbox>) -> Result<Self, EngineError> {
        let mut session = Session::open_raw(address).await?;
        let nanoseconds = HEARTBEAT.as_nanos();
        session
            .run(
                "ask for heartbeats in the binary log stream",
                crate::mysql::session::SHORT,
                // The old name is what servers before 8.0.26 know.
                &format!("SET @master_heartbeat_period={nanoseconds}, @source_heartbeat_period={nanoseconds}, @source_binlog_checksum='CRC32', @slave_uuid=UUID(), @replica_uuid=@slave_uuid"),
            )
            .await?;
        let server_id = fastrand::u32(FIRST_SERVER_ID as u32..u32::MAX);
        let (position, request) = match &start {
            Start::Position(at) => {
                (at.clone(), BinlogStreamRequest::new(server_id).with_filename(at.file.as_bytes()).with_pos(at.offset))
            }
            Start::Executed(set) => (
                // The server says by a rotate event where it begins.
                BinlogPosition::default(),
                BinlogStreamRequest::new(server_id).with_gtid().with_gtid_set(sids(set)),
            ),
        };
        let (conn, registered) = session.into_conn();
        let stream = conn
            .get_binlog_stream(request)
            .await
            .map_err(|error| {
                let error = EngineError::from(MySqlError::new("start the binary log stream", &error));
                // The login was good: what is denied is the dump.
                match error.reason {
                    Reason::AccessDenied => EngineError::terminal(
                        Reason::MissingPrivilege,
                        &format!("{error}: the account needs REPLICATION SLAVE to read the binary log"),
                    ),
                    _ => error,
                }
            })?;
        let before = inbox.point();
        let name_length = log_end.file.len();
        Ok(Self { stream, watched, inbox, position, keys: Vec::new(), images: 0, gtid: None, before, inside_payload: false, name_length, _registered: registered })
    }

    /// Reads until cancelled.
    ///
    /// # Errors
    /// The stream broke, the log is gone, or an event on the original cannot be decoded.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), EngineError> {
        loop {
            // Cancel-safe: `next` keeps a half-read packet in the stream.
            let next = tokio::select! {
                () = cancel.cancelled() => break,
                next = tokio::time::timeout(SILENCE, self.stream.next()) => next,
            };
            match next {
                Ok(Some(Ok(event))) => {
                    // Back-pressure waits inside; a cancelled engine must not hang there.
                    tokio::select! {
                        () = cancel.cancelled() => break,
                        done = self.event(&event) => done?,
                    }
                }
                Ok(Some(Err(error))) => return Err(stream_error(&error)),
                Ok(None) => return Err(EngineError::transient(Reason::ConnectionFailed, "the server ended the binary log stream")),
                Err(_) => return Err(MySqlError::timeout("read the binary log", SILENCE).into()),
            }
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), self.stream.close()).await;
        Ok(())
    }

    async fn event(&mut self, event: &mysql_async::binlog::events::Event) -> Result<(), EngineError> {
        let header = event.header();
        let Ok(kind) = header.event_type() else {
            // Events that a later server adds are ignorable, or they would change the protocol's version.
            return Ok(());
        };
        let end = if self.inside_payload { 0 } else { u64::from(header.log_pos()) };
        match kind {
            EventType::GTID_EVENT | EventType::GTID_TAGGED_LOG_EVENT | EventType::ANONYMOUS_GTID_EVENT => {
                self.forget();
                self.inside_payload = false;
                self.before = self.inbox.point();
                if let Some(EventData::GtidEvent(gtid)) = event.read_data().map_err(malformed)? {
                    let tag = gtid.tag().map(|t| t.as_str().to_owned()).unwrap_or_default();
                    self.gtid = Some((gtid.sid(), tag, gtid.gno()));
                }
                self.moved(end);
            }
            EventType::TABLE_MAP_EVENT => self.moved(end),
            EventType::WRITE_ROWS_EVENT
            | EventType::UPDATE_ROWS_EVENT
            | EventType::DELETE_ROWS_EVENT
            | EventType::PARTIAL_UPDATE_ROWS_EVENT
            | EventType::WRITE_ROWS_EVENT_V1
            | EventType::UPDATE_ROWS_EVENT_V1
            | EventType::DELETE_ROWS_EVENT_V1 => {
                self.rows(event)?;
                self.moved(end);
            }
            EventType::XID_EVENT => {
                self.moved(end);
                self.commit().await;
            }
            EventType::QUERY_EVENT => {
                self.moved(end);
                if let Some(EventData::QueryEvent(query)) = event.read_data().map_err(malformed)? {
                    self.statement(&query.query(), &query.schema()).await;
                }
            }
            EventType::XA_PREPARE_LOG_EVENT => {
                self.moved(end);
                if let Some(EventData::XaPrepareLogEvent(data)) = event.read_data().map_err(malformed)? {
                    self.xa_prepare(&data).await;
                }
            }
            EventType::ROTATE_EVENT => {
                if let Some(EventData::RotateEvent(rotate)) = event.read_data().map_err(malformed)? {
                    self.position = BinlogPosition { file: file_name(rotate.name_raw(), self.name_length), offset: rotate.position() };
                }
            }
            EventType::TRANSACTION_PAYLOAD_EVENT => {
                self.moved(end);
                // The driver goes on silently when it cannot unpack a payload; rows would be lost.
                event.read_event::<TransactionPayloadEvent<'_>>().map_err(malformed)?;
                self.inside_payload = true;
            }
            EventType::INCIDENT_EVENT => {
                return Err(EngineError::terminal(
                    Reason::StatementLogged,
                    "the binary log reports an incident (LOST_EVENTS): changes may be missing in it. The original table is untouched; delete the migration and start it anew",
                ));
            }
            // Sent again, out of place, whenever a stream starts in the middle of a file.
            EventType::FORMAT_DESCRIPTION_EVENT | EventType::PREVIOUS_GTIDS_EVENT | EventType::HEARTBEAT_EVENT => {}
            _ => self.moved(end),
        }
        Ok(())
    }

    fn moved(&mut self, end: u64) {
        if end != 0 {
            // log_pos has 32 bits; a file that one large transaction made longer than 4 GiB wraps it.
            let high = self.position.offset & !0xffff_ffff;
            let candidate = high | end;
            self.position.offset = if candidate < self.position.offset { candidate + (1 << 32) } else { candidate };
        }
    }

    fn forget(&mut self) {
        self.keys.clear();
        self.images = 0;
        self.gtid = None;
    }

    async fn commit(&mut self) {
        let gtid = self.gtid.take();
        let images = std::mem::take(&mut self.images);
        self.inbox.commit(&mut self.keys, gtid, images, self.position.clone()).await;
    }

    fn rows(&mut self, event: &mysql_async::binlog::events::Event) -> Result<(), EngineError> {
        let Some(EventData::RowsEvent(rows)) = event.read_data().map_err(malformed)? else {
            return Ok(());
        };
        let Some(table) = self.stream.get_tme(rows.table_id()) else {
            return Err(EngineError::transient(Reason::ServerError, "a rows event came without its table map"));
        };
        if table.database_name() != self.watched.database || table.table_name() != self.watched.table {
            return Ok(());
        }
        let (keys, codec) = (&mut self.keys, &self.watched.codec);
        let mut bad = None;
        self.images += rows::keys_of(&rows, table, &self.watched.key, |values| match codec.encode_binlog(values) {
            Ok(key) => keys.push(key),
            Err(error) => bad = Some(error),
        })
        .map_err(|error| EngineError::terminal(Reason::ServerNotSupported, &format!("{error}; the original table is untouched")))?;
        match bad {
            None => Ok(()),
            Some(error) => Err(EngineError::terminal(Reason::Internal, &format!("a key in the binary log cannot be read: {error}"))),
        }
    }

    /// A statement in the log: the frame of a transaction, DDL, or DML of a session with another binlog_format.
    async fn statement(&mut self, text: &str, schema: &str) {
        match classify(text) {
            Statement::Begin => {}
            Statement::Commit => self.commit().await,
            Statement::Rollback => {
                // Only transactions that touched a non-transactional table are logged with ROLLBACK; ours did not commit.
                self.keys.clear();
                self.commit().await;
            }
            Statement::XaCommit(xid) => {
                self.keys = self.inbox.take_prepared(&xid).unwrap_or_default();
                self.commit().await;
            }
            Statement::XaRollback(xid) => {
                self.inbox.take_prepared(&xid);
                self.commit().await;
            }
            Statement::Within => {}
            Statement::Dml => {
                if mentions(text, &self.watched.table) && (schema == self.watched.database || mentions(text, &self.watched.database)) {
                    self.inbox.notice(StreamNotice::StatementDml);
                }
            }
            Statement::Other => {
                // DDL ends a transaction of its own.
                if schema == self.watched.database || mentions(text, &self.watched.database) {
                    self.inbox.notice(StreamNotice::Ddl);
                }
                self.commit().await;
            }
        }
    }

    async fn xa_prepare(&mut self, data: &[u8]) {
        // one_phase (1 byte), formatID, gtrid length, bqual length (4 bytes each), data.
        let word = |at: usize| data.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_le_bytes);
        let one_phase = data.first() == Some(&1);
        if let (false, Some(format), Some(gtrid), Some(bqual)) = (one_phase, word(1), word(5), word(9)) {
            let (gtrid, bqual) = (usize::try_from(gtrid).unwrap_or(0), usize::try_from(bqual).unwrap_or(0));
            let part = |from: usize, length: usize| data.get(from..from + length).unwrap_or_default();
            if !self.keys.is_empty() {
                self.inbox.prepare(xid(part(13, gtrid), part(13 + gtrid, bqual), format), self.before.clone(), self.keys.clone());
            }
        }
        self.commit().await;
    }
}

/// As the server writes it into the log: `X'gtrid',X'bqual',format`.
fn xid(gtrid: &[u8], bqual: &[u8], format: i32) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    format!("x'{}',x'{}',{format}", hex(gtrid), hex(bqual))
}

#[derive(Debug, PartialEq, Eq)]
enum Statement {
    Begin,
    Commit,
    Rollback,
    XaCommit(String),
    XaRollback(String),
    /// SAVEPOINT and the like, inside a transaction.
    Within,
    Dml,
    Other,
}

fn classify(text: &str) -> Statement {
    let text = strip_comments(text);
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default().trim_end_matches(';').to_ascii_uppercase();
    let second = words.next().unwrap_or_default().to_ascii_uppercase();
    let rest = || words.clone().collect::<String>().to_ascii_lowercase();
    match (first.as_str(), second.as_str()) {
        ("BEGIN", _) | ("START", "TRANSACTION") | ("XA", "START" | "BEGIN" | "END") => Statement::Begin,
        ("COMMIT", _) => Statement::Commit,
        ("ROLLBACK", "") => Statement::Rollback,
        ("SAVEPOINT" | "RELEASE", _) | ("ROLLBACK", _) => Statement::Within,
        ("XA", "COMMIT") => Statement::XaCommit(rest().trim_end_matches("onephase").to_owned()),
        ("XA", "ROLLBACK") => Statement::XaRollback(rest()),
        ("INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "WITH", _) => Statement::Dml,
        _ => Statement::Other,
    }
}

/// Leading comments, which clients put in front of statements.
fn strip_comments(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        match text.strip_prefix("/*").filter(|t| !t.starts_with('!')).and_then(|t| t.split_once("*/")) {
            Some((_, rest)) => text = rest,
            None => return text,
        }
    }
}

/// Whether a name occurs in a statement at all: errs on the side of looking once more.
fn mentions(text: &str, name: &str) -> bool {
    text.to_lowercase().contains(&name.to_lowercase())
}

/// The name in a rotate event. The first one comes before the event that says whether events carry a checksum, so the driver leaves four
/// bytes of checksum at its end; the length of another name of the same log tells.
fn file_name(raw: &[u8], length: usize) -> String {
    let digits = |name: &[u8]| name.rsplit(|b| *b == b'.').next().is_some_and(|tail| !tail.is_empty() && tail.iter().all(u8::is_ascii_digit));
    let cut = raw.len().saturating_sub(4);
    let name = if raw.len() == length || (cut != length && digits(raw)) { raw } else { &raw[..cut] };
    String::from_utf8_lossy(name).into_owned()
}

fn sids(set: &GtidSet) -> Vec<Sid<'static>> {
    set.iter()
        .map(|(source, intervals)| {
            let mut sid = Sid::new(source.uuid);
            if let Ok(tag) = Tag::new(source.tag.clone())
                && !source.tag.is_empty()
            {
                sid = sid.with_tag(tag);
            }
            for &(first, last) in intervals {
                sid = sid.with_interval(GnoInterval::new(first, last + 1));
            }
            sid
        })
        .collect()
}

fn malformed(error: std::io::Error) -> EngineError {
    EngineError::transient(Reason::ServerError, &format!("an event of the binary log cannot be decoded: {error}"))
}

fn stream_error(error: &mysql_async::Error) -> EngineError {
    let error = MySqlError::new("read the binary log", error);
    if error.code == crate::mysql::error::BINLOG_FATAL {
        let gone = ["purged", "Could not find first log", "log file name", "does not exist"].iter().any(|w| error.message.contains(w));
        if gone {
            return EngineError::terminal(
                Reason::BinlogPurged,
                &format!("the binary logs that are needed to go on are gone ({}). The original table is untouched; delete the migration, keep logs longer (binlog_expire_logs_seconds) and start it anew", error.message),
            );
        }
        return EngineError { reason: Reason::ServerError, class: Class::Transient, message: error.to_string() };
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_apart() {
        let cases = [
            ("BEGIN", Statement::Begin),
            ("COMMIT", Statement::Commit),
            ("ROLLBACK", Statement::Rollback),
            ("ROLLBACK TO `sp`", Statement::Within),
            ("SAVEPOINT `a`", Statement::Within),
            ("XA START X'61',X'',1", Statement::Begin),
            ("XA COMMIT X'61',X'',1", Statement::XaCommit("x'61',x'',1".into())),
            ("XA COMMIT X'61',X'',1 ONE PHASE", Statement::XaCommit("x'61',x'',1".into())),
            ("XA ROLLBACK X'61',X'',1", Statement::XaRollback("x'61',x'',1".into())),
            ("/* app */ update t set a=1", Statement::Dml),
            ("ALTER TABLE t ADD b INT", Statement::Other),
            ("TRUNCATE t", Statement::Other),
            ("", Statement::Other),
        ];
        for (text, want) in cases {
            assert_eq!(classify(text), want, "{text}");
        }
        assert_eq!(xid(b"a", b"", 1), "x'61',x'',1");
    }

    #[test]
    fn a_checksum_is_no_part_of_a_file_name() {
        for (raw, want) in [
            (&b"binlog.000001"[..], "binlog.000001"),
            (b"binlog.000001\xff{\\r", "binlog.000001"),
            (b"binlog.0000011234", "binlog.000001"),
            (b"binlog.1000000", "binlog.1000000"),
            (b"binlog.1000000\x01abc", "binlog.1000000"),
            (b"", ""),
        ] {
            assert_eq!(file_name(raw, "binlog.000001".len()), want);
        }
    }
}
