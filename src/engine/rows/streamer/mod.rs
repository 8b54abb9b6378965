//! Reads the binary log of the server and turns events into dirty keys, a transaction at a time.
//!
//! Promises: the keys of a transaction enter the [`Inbox`] when it ends, with the position after it, and those of a very large one in parts
//! before that, so that no transaction is too large for memory; nothing else of a row is checked. A prepared transaction (XA) that is too
//! large to be remembered until its commit is read from the log once more then.
//! What the log does not say in rows (rules 12 and 13: DDL, text, prepared transactions, rows of others on the ghost) becomes a notice.
//! Relies on: the server sends a transaction's events together and in commit order (MySQL manual, "The Binary Log"); row events name
//! their table by the table map in front of them. The task ends with an error when the stream does; its owner (the migrator) starts over
//! from the safe position.
pub mod columns;
pub mod rows;
pub mod statement;

use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::rows::inbox::{Gtid, Inbox, ParentNotice, PreparedEnd, StreamNotice, distinct, weight};
use crate::engine::rows::key_nulls;
use crate::engine::rows::migration::Migration;
use crate::engine::rows::orphans::{Gone, MOST_GONE};
use crate::engine::state::record::StreamPoint;
use crate::mysql::own::{Connections, Registered};
use crate::mysql::session::FIRST_SERVER_ID;
use crate::mysql::{BinlogPosition, Class, GtidSet, MySqlError, ServerAddress, Session};
use crate::sql::foreign_key::TableName;
use crate::sql::key::{Key, KeyCodec, KeyError};
use crate::sql::quote;
use crate::sql::table::Column;
use futures::StreamExt;
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{EventData, TransactionPayloadEvent};
use mysql_async::{BinlogStream, BinlogStreamRequest, GnoInterval, Sid, Value};
use mysql_common::packets::Tag;
use rows::KeyColumn;
use statement::{Statement, classify};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What to look for.
pub struct WatchedTables {
    /// Schema of the table.
    pub database: String,
    /// The original table, whose rows become dirty keys.
    pub table: String,
    /// Its columns as they were read: those that its rows in the log must have.
    pub columns: Vec<Column>,
    /// Key columns, in the key's order.
    pub key: Vec<KeyColumn>,
    /// The index that the key is.
    pub key_index: String,
    /// Turns their values into keys.
    pub codec: Arc<KeyCodec>,
    /// Defaults of the key's columns, as rows of the codec's select list; NULL where there is none.
    pub key_defaults: Vec<Value>,
    /// The ghost, which nobody but us may write.
    pub ghost: String,
    /// What the change demands of the rows that nothing has demanded before: the tables that new foreign keys refer to are followed, too.
    pub migration: Arc<Migration>,
    /// A statement that is known: the one by which a former engine swapped the tables.
    pub known: Option<String>,
    /// Who we are in the log.
    pub writer: Writer,
    /// `lower_case_table_names` is not 0: the log may hold a name in another case.
    pub names_ignore_case: bool,
}

/// The server that this process writes to, as its transactions show it.
pub struct Writer {
    /// Its address, under which our connections are known.
    pub address: ServerAddress,
    /// `@@server_id`
    pub server_id: u32,
    /// `@@server_uuid`, which must be that of the server that sends the log
    pub server_uuid: String,
}

impl WatchedTables {
    fn same(&self, a: &str, b: &str) -> bool {
        if self.names_ignore_case { a.to_lowercase() == b.to_lowercase() } else { a == b }
    }
}

/// Where a stream begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// In the log of the very server that the position is from.
    Position(BinlogPosition),
    /// After all of these, on whatever server.
    Executed(GtidSet),
}

/// The server sends a heartbeat event when it has nothing else for this long, so a silent connection is a dead one.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence after which the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(15);
/// How long the server may wait for us to read on (seconds; 60 by default): while changes are applied that fill the memory for them, and
/// that may be slow or held, nothing is read. To be cut off then would mean to read the same once more, for ever.
const PATIENCE: u32 = 24 * 60 * 60;

/// What becomes of what a stream reads.
enum Purpose {
    /// Everything goes to the inbox: keys at the end of their transaction, and the position with them.
    Follow,
    /// Whatever changed in a stretch of the log becomes dirty, as parts of the transaction that ends now; nothing else is of interest.
    /// The barrier is that of this transaction's commit, whatever group the rows are in.
    MakeDirty(Option<Gtid>),
}

/// An open stream, before its first event.
pub struct Streamer {
    stream: BinlogStream,
    address: ServerAddress,
    watched: Arc<WatchedTables>,
    inbox: Arc<Inbox>,
    position: BinlogPosition,
    /// The stream begins before this position, and what comes before it is known.
    skipped: Option<BinlogPosition>,
    /// From here on every connection that writes to the ghost is known: where the log ended when the stream was asked for, as a rule. What is
    /// before it may be from a former engine.
    strangers_from: BinlogPosition,
    /// Between the first event of a group and its last one: no point to start a stream from.
    in_group: bool,
    /// A BEGIN was read in this group: a statement is then one of several.
    in_transaction: bool,
    /// Whether a connection of this process wrote the transaction; `None` until that is known.
    own: Option<bool>,
    /// Of the transaction under way.
    keys: Vec<Key>,
    /// Of the keys, as they count in memory.
    bytes: usize,
    /// It began with XA START: its rows are not visible before it is committed, which may be later.
    xa: bool,
    /// It has too many keys to be remembered.
    left_out: bool,
    /// Rows that the transaction takes out of the parents of new foreign keys.
    gone: Vec<Gone>,
    /// It takes out more than is remembered.
    gone_lost: bool,
    /// The same of prepared ones, by their names; those that took none out, too.
    prepared_gone: HashMap<String, Vec<Gone>>,
    /// As `known`, of each parent.
    known_parents: Vec<Option<u64>>,
    images: u64,
    gtid: Option<Gtid>,
    before: StreamPoint,
    purpose: Purpose,
    /// Inside a compressed transaction events carry no position of their own: the enclosing event's counts.
    inside_payload: bool,
    /// The table id of the log whose columns are known to be the original's. The server gives a table another id whenever it may have
    /// changed; ids begin again when the server does, with a new file.
    known: Option<u64>,
    /// Length of the name of a file of this log.
    name_length: usize,
    /// Whose connection ids the log names, as far as it is from now on.
    connections: Connections,
    /// The connection counts as the engine's own as long as the stream is open.
    _registered: Registered,
}

impl Streamer {
    /// Connects and asks for the log.
    ///
    /// # Errors
    /// Unreachable, REPLICATION SLAVE missing, or the log is gone ([`Reason::BinlogPurged`], told at the first event).
    pub async fn open(
        address: &ServerAddress,
        start: Start,
        strangers_from: &BinlogPosition,
        watched: WatchedTables,
        inbox: Arc<Inbox>,
    ) -> Result<Self, EngineError> {
        Self::connect(address.clone(), start, strangers_from.clone(), Arc::new(watched), inbox, Purpose::Follow).await
    }

    async fn connect(
        address: ServerAddress,
        start: Start,
        strangers_from: BinlogPosition,
        watched: Arc<WatchedTables>,
        inbox: Arc<Inbox>,
        purpose: Purpose,
    ) -> Result<Self, EngineError> {
        let mut session = Session::open_raw(&address).await?;
        session.check_server(&watched.writer.server_uuid)?;
        let connections = Connections::of(&watched.writer.address, session.server_run());
        let nanoseconds = HEARTBEAT.as_nanos();
        session
            .run(
                "ask for heartbeats in the binary log stream",
                crate::mysql::session::SHORT,
                // The old name is what servers before 8.0.26 know.
                &format!("SET @master_heartbeat_period={nanoseconds}, @source_heartbeat_period={nanoseconds}, @source_binlog_checksum='CRC32', @slave_uuid=UUID(), @replica_uuid=@slave_uuid, SESSION net_write_timeout={PATIENCE}"),
            )
            .await?;
        let server_id = fastrand::u32(FIRST_SERVER_ID as u32..u32::MAX);
        let (position, request) = match &start {
            Start::Position(at) => {
                let asked = at.asked_for();
                let request = BinlogStreamRequest::new(server_id).with_filename(at.file.as_bytes()).with_pos(asked.offset);
                (asked, request)
            }
            Start::Executed(set) => (
                // The server says by a rotate event where it begins.
                BinlogPosition::default(),
                BinlogStreamRequest::new(server_id).with_gtid().with_gtid_set(sids(set)),
            ),
        };
        let (conn, registered) = session.into_conn();
        let stream = conn.get_binlog_stream(request).await.map_err(|error| {
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
        let (before, demands) = (inbox.point(), watched.migration.demands.len());
        let skipped = match start {
            Start::Position(at) if at != position => Some(at),
            _ => None,
        };
        Ok(Self {
            skipped,
            stream,
            address,
            watched,
            inbox,
            position,
            name_length: strangers_from.file.len(),
            strangers_from,
            in_group: false,
            in_transaction: false,
            own: None,
            keys: Vec::new(),
            bytes: 0,
            xa: false,
            left_out: false,
            gone: Vec::new(),
            gone_lost: false,
            prepared_gone: HashMap::new(),
            known_parents: vec![None; demands],
            images: 0,
            gtid: None,
            before,
            purpose,
            inside_payload: false,
            known: None,
            connections,
            _registered: registered,
        })
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
        let end = if self.inside_payload { 0 } else { header.log_pos() };
        if self.skip(kind, end) {
            return Ok(());
        }
        match kind {
            EventType::GTID_EVENT | EventType::GTID_TAGGED_LOG_EVENT | EventType::ANONYMOUS_GTID_EVENT => {
                self.forget();
                self.inside_payload = false;
                self.before = self.inbox.point();
                self.in_group = true;
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
                self.divide().await;
            }
            EventType::XID_EVENT => {
                self.moved(end);
                self.commit().await?;
            }
            EventType::QUERY_EVENT => {
                self.moved(end);
                if let Some(EventData::QueryEvent(query)) = event.read_data().map_err(malformed)? {
                    let writer = &self.watched.writer;
                    self.own = Some(header.server_id() == writer.server_id && self.connections.has(query.thread_id()));
                    self.statement(&query.query(), &query.schema()).await?;
                }
            }
            // LOAD DATA as text.
            EventType::EXECUTE_LOAD_QUERY_EVENT => {
                self.moved(end);
                if let Some(EventData::ExecuteLoadQueryEvent(query)) = event.read_data().map_err(malformed)? {
                    self.statement(&query.query(), &query.schema()).await?;
                }
            }
            EventType::XA_PREPARE_LOG_EVENT => {
                self.moved(end);
                if let Some(EventData::XaPrepareLogEvent(data)) = event.read_data().map_err(malformed)? {
                    self.xa_prepare(&data).await?;
                }
            }
            EventType::ROTATE_EVENT => {
                if let Some(EventData::RotateEvent(rotate)) = event.read_data().map_err(malformed)? {
                    self.position = BinlogPosition { file: file_name(rotate.name_raw(), self.name_length), offset: rotate.position() };
                    self.known = None;
                    self.known_parents.fill(None);
                    self.at_rest(0);
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
                    "the binary log reports an incident (LOST_EVENTS): changes may be missing in it. The original table is untouched; delete the migration and create it again",
                ));
            }
            // Sent again, out of place, whenever a stream starts in the middle of a file.
            EventType::FORMAT_DESCRIPTION_EVENT | EventType::PREVIOUS_GTIDS_EVENT => self.at_rest(header.log_pos()),
            // Says how far the server has read, when that is further than what it sent.
            EventType::HEARTBEAT_EVENT => self.at_rest(header.log_pos()),
            _ => self.moved(end),
        }
        Ok(())
    }

    /// Whether the event lies before the position that was asked for. The file that has the position is as long as that without a rotation.
    fn skip(&mut self, kind: EventType, end: u32) -> bool {
        let Some(to) = &self.skipped else { return false };
        if self.position >= *to {
            self.skipped = None;
            return false;
        }
        match kind {
            // Says which file it is, and where it begins.
            EventType::ROTATE_EVENT => return false,
            EventType::GTID_EVENT | EventType::GTID_TAGGED_LOG_EVENT | EventType::ANONYMOUS_GTID_EVENT => self.inside_payload = false,
            EventType::TRANSACTION_PAYLOAD_EVENT => self.inside_payload = true,
            _ => {}
        }
        self.moved(end);
        true
    }

    /// To where an event ends; never back.
    fn moved(&mut self, end: u32) {
        if end != 0 {
            self.position.offset = self.position.offset.max(self.position.nearest(end));
        }
    }

    /// Between two transactions the position moves by what is no transaction too (the beginning of a file): whoever waits for the end of
    /// the log need not wait for the next transaction.
    fn at_rest(&mut self, end: u32) {
        if self.in_group {
            return;
        }
        self.moved(end);
        if self.follows() {
            self.inbox.advance(&self.position);
        }
    }

    fn follows(&self) -> bool {
        matches!(self.purpose, Purpose::Follow)
    }

    fn notice(&self, notice: StreamNotice) {
        if self.follows() {
            self.inbox.notice(notice);
        }
    }

    fn forget(&mut self) {
        self.forget_keys();
        self.xa = false;
        self.images = 0;
        self.gtid = None;
        self.own = None;
        self.in_transaction = false;
    }

    fn forget_keys(&mut self) {
        self.keys.clear();
        self.gone.clear();
        self.gone_lost = false;
        self.bytes = 0;
        self.left_out = false;
    }

    /// Of a transaction with very many keys those that were read enter now. What is not visible at its end cannot, and is left out.
    async fn divide(&mut self) {
        if self.bytes < self.inbox.part_size() {
            return;
        }
        // A part is applied while the rest is still coming, and a row that the rest changes once more is applied once more. One that was changed
        // several times so far counts once. A part that is hardly filled is none: it would only be sorted again and again.
        self.bytes = distinct(&mut self.keys);
        if self.bytes < self.inbox.part_size() / 4 * 3 {
            return;
        }
        if self.xa && self.follows() {
            self.keys = Vec::new();
            self.bytes = 0;
            self.left_out = true;
            return;
        }
        self.part().await;
    }

    async fn part(&mut self) {
        let images = std::mem::take(&mut self.images);
        match &self.purpose {
            Purpose::Follow => self.inbox.part(&mut self.keys, self.gtid.as_ref(), images).await,
            // They were counted when they were first read.
            Purpose::MakeDirty(gtid) => self.inbox.part(&mut self.keys, gtid.as_ref(), 0).await,
        }
        self.bytes = 0;
    }

    async fn commit(&mut self) -> Result<(), EngineError> {
        self.end(None).await
    }

    /// The end of a transaction, which may end a prepared one.
    async fn end(&mut self, prepared: Option<PreparedEnd<'_>>) -> Result<(), EngineError> {
        self.in_group = false;
        self.in_transaction = false;
        if !self.follows() {
            self.part().await;
            return Ok(());
        }
        if self.left_out {
            // In one phase.
            let from = self.before.clone();
            self.read_again(from, self.position.clone()).await?;
        }
        if let Some(PreparedEnd { xid, committed: true }) = prepared
            && let Some((from, to)) = self.inbox.in_log(xid)
        {
            self.read_again(from, to).await?;
        }
        if !self.watched.migration.demands.is_empty() {
            self.end_on_parents(prepared);
        }
        let gtid = self.gtid.take();
        let images = std::mem::take(&mut self.images);
        self.inbox.commit(&mut self.keys, prepared, gtid, images, self.position.clone()).await;
        self.forget_keys();
        Ok(())
    }

    /// What has left the parents by the transaction that ends, or by the prepared one that it ends.
    fn end_on_parents(&mut self, prepared: Option<PreparedEnd<'_>>) {
        let mut gone = std::mem::take(&mut self.gone);
        if std::mem::take(&mut self.gone_lost) {
            self.inbox.notice_parent(ParentNotice::Changed);
        }
        if let Some(PreparedEnd { xid, committed }) = prepared {
            match self.prepared_gone.remove(xid) {
                Some(rows) if committed => gone.extend(rows),
                // It was prepared before the stream began, or takes out more than is remembered.
                None if committed => self.inbox.notice_parent(ParentNotice::Changed),
                _ => {}
            }
        }
        self.inbox.going(gone);
    }

    /// Makes dirty what changed in a stretch of the log, as parts of the transaction that is about to end: its commit made that visible.
    /// The position is before that still, so a successor that finds this half-done does it again.
    async fn read_again(&mut self, from: StreamPoint, to: BinlogPosition) -> Result<(), EngineError> {
        tracing::debug!("a prepared transaction was too large to keep in memory; reading its keys from the log again");
        let (address, watched, inbox) = (self.address.clone(), Arc::clone(&self.watched), Arc::clone(&self.inbox));
        let purpose = Purpose::MakeDirty(self.gtid.clone());
        let mut second =
            Self::connect(address, Start::Position(from.position), self.strangers_from.clone(), watched, inbox, purpose).await?;
        while second.in_group || second.position < to {
            let event = match tokio::time::timeout(SILENCE, second.stream.next()).await {
                Ok(Some(event)) => event.map_err(|error| stream_error(&error))?,
                Ok(None) => return Err(EngineError::transient(Reason::ConnectionFailed, "the server ended the binary log stream")),
                Err(_) => return Err(MySqlError::timeout("read the binary log", SILENCE).into()),
            };
            // One level deep: a second look takes no third.
            Box::pin(second.event(&event)).await?;
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), second.stream.close()).await;
        Ok(())
    }

    /// Whether the transaction under way is surely someone else's.
    fn is_foreign(&self) -> bool {
        // Before that point a former engine may have written.
        self.own == Some(false) && self.position > self.strangers_from
    }

    fn rows(&mut self, event: &mysql_async::binlog::events::Event) -> Result<(), EngineError> {
        let Some(EventData::RowsEvent(rows)) = event.read_data().map_err(malformed)? else {
            return Ok(());
        };
        let Some(table) = self.stream.get_tme(rows.table_id()) else {
            return Err(EngineError::transient(Reason::StatementInterrupted, "a rows event arrived without its table map"));
        };
        if self.follows() {
            let (names, demands) = ((table.database_name(), table.table_name()), &self.watched.migration.demands);
            for (n, demand) in demands.iter().enumerate() {
                let TableName { schema, table: name } = &demand.key.parent;
                if !self.watched.same(&names.0, schema) || !self.watched.same(&names.1, name) {
                    continue;
                }
                if self.known_parents[n] != Some(rows.table_id()) {
                    if columns::difference(&demand.parent, &columns::seen(table)).is_some() {
                        // What was logged before its columns were read is visible since then: the ALTER has waited for it.
                        if self.position > self.strangers_from {
                            self.inbox.notice_parent(ParentNotice::Columns);
                        }
                        continue;
                    }
                    self.known_parents[n] = Some(rows.table_id());
                }
                let gone = &mut self.gone;
                let read = rows::keys_gone(&rows, table, &demand.places, |values| {
                    // What has NULL in it was nobody's parent.
                    if let Ok(key) = demand.codec.encode_binlog_or(values, &[]) {
                        gone.push((n, key));
                    }
                });
                if read.is_err() || gone.len() > MOST_GONE {
                    self.gone = Vec::new();
                    self.gone_lost = true;
                }
            }
        }
        if !self.watched.same(&table.database_name(), &self.watched.database) {
            return Ok(());
        }
        if self.watched.same(&table.table_name(), &self.watched.ghost) {
            if self.is_foreign() {
                self.notice(StreamNotice::GhostWritten);
            }
            return Ok(());
        }
        if !self.watched.same(&table.table_name(), &self.watched.table) {
            return Ok(());
        }
        if self.known != Some(rows.table_id()) {
            // A key is taken out of a row by its place: not one row of other columns may be looked at.
            if let Some(why) = columns::difference(&self.watched.columns, &columns::seen(table)) {
                return Err(other_columns(&self.watched, &why));
            }
            self.known = Some(rows.table_id());
        }
        let (keys, bytes, left_out) = (&mut self.keys, &mut self.bytes, self.left_out);
        let (codec, defaults) = (&self.watched.codec, &self.watched.key_defaults);
        let mut bad = None;
        self.images += rows::keys_of(&rows, table, &self.watched.key, |values| match codec.encode_binlog_or(values, defaults) {
            Ok(_) if left_out => {}
            Ok(key) => {
                *bytes += weight(&key);
                keys.push(key);
            }
            Err(error) => bad = Some(error),
        })
        .map_err(|error| EngineError::terminal(Reason::ServerNotSupported, &format!("{error}; the original table is untouched")))?;
        match bad {
            None => Ok(()),
            Some(KeyError::Null(column)) => {
                let table = quote::qualified(&self.watched.database, &self.watched.table);
                Err(key_nulls::came_to(&table, &self.watched.key_index, &column))
            }
            Some(error) => Err(EngineError::terminal(Reason::Internal, &format!("a key in the binary log cannot be read: {error}"))),
        }
    }

    /// What a statement may have done to the parents of new foreign keys.
    fn about_parents(&self, text: &str, schema: &str, rows: bool) {
        if !self.follows() {
            return;
        }
        for demand in &self.watched.migration.demands {
            let TableName { schema: of, table } = &demand.key.parent;
            let notice = match rows {
                true => statement::may_write(text, schema, of, table).then_some(ParentNotice::Changed),
                false => match statement::ddl(text, schema, of, table, "") {
                    Some(StreamNotice::Truncated | StreamNotice::Replaced) => Some(ParentNotice::Changed),
                    Some(StreamNotice::Ddl) => Some(ParentNotice::Ddl),
                    _ => None,
                },
            };
            if let Some(notice) = notice {
                self.inbox.notice_parent(notice);
            }
        }
    }

    /// A statement in the log: the frame of a transaction, DDL, or DML of a session with another binlog_format.
    async fn statement(&mut self, text: &str, schema: &str) -> Result<(), EngineError> {
        match classify(text) {
            Statement::Begin => self.in_transaction = true,
            Statement::XaBegin => {
                self.in_transaction = true;
                self.xa = true;
            }
            Statement::Commit => self.commit().await?,
            Statement::Rollback => {
                // Only transactions that touched a non-transactional table are logged with ROLLBACK; ours did not commit.
                self.forget_keys();
                self.commit().await?;
            }
            Statement::XaCommit(xid) => self.end(Some(PreparedEnd { xid: &xid, committed: true })).await?,
            Statement::XaRollback(xid) => self.end(Some(PreparedEnd { xid: &xid, committed: false })).await?,
            Statement::Within => {}
            Statement::Dml => {
                self.about_parents(text, schema, true);
                if statement::may_write(text, schema, &self.watched.database, &self.watched.table) {
                    self.notice(StreamNotice::StatementDml);
                }
            }
            Statement::Other => {
                // Ours adds foreign keys to the ghost, at most.
                if self.own != Some(true) {
                    self.about_parents(text, schema, false);
                }
                if self.watched.known.as_deref() == Some(text) {
                    // It comes once, and after it the names are those that are watched.
                } else if let Some(notice) = statement::ddl(text, schema, &self.watched.database, &self.watched.table, &self.watched.ghost)
                {
                    // What we do ourselves is known; what a former engine of this migration did to the ghost was right.
                    if self.is_foreign() || notice != StreamNotice::GhostWritten && self.own != Some(true) {
                        self.notice(notice);
                    }
                }
                if statement::opens_transaction(text) {
                    // CREATE TABLE … SELECT: its rows follow.
                    self.in_transaction = true;
                } else if !self.in_transaction {
                    // DDL is a group of its own; DROP TEMPORARY TABLE may stand inside a transaction.
                    self.commit().await?;
                }
            }
        }
        Ok(())
    }

    async fn xa_prepare(&mut self, data: &[u8]) -> Result<(), EngineError> {
        // one_phase (1 byte), formatID, gtrid length, bqual length (4 bytes each), data.
        let word = |at: usize| data.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_le_bytes);
        let one_phase = data.first() == Some(&1);
        if let (false, Some(format), Some(gtrid), Some(bqual)) = (one_phase, word(1), word(5), word(9)) {
            let (gtrid, bqual) = (usize::try_from(gtrid).unwrap_or(0), usize::try_from(bqual).unwrap_or(0));
            let part = |from: usize, length: usize| data.get(from..from + length).unwrap_or_default();
            if self.follows() && !self.watched.migration.demands.is_empty() {
                let xid = xid(part(13, gtrid), part(13 + gtrid, bqual), format);
                let gone = std::mem::take(&mut self.gone);
                if !std::mem::take(&mut self.gone_lost) {
                    self.prepared_gone.insert(xid, gone);
                }
            }
            if self.follows() && (self.left_out || !self.keys.is_empty()) {
                let keys = (!self.left_out).then(|| std::mem::take(&mut self.keys));
                let xid = xid(part(13, gtrid), part(13 + gtrid, bqual), format);
                self.inbox.prepare(xid, self.before.clone(), keys, self.position.clone());
                self.forget_keys();
            }
        }
        self.commit().await
    }
}

/// The rows of the original in the log have other columns than those that were read.
fn other_columns(watched: &WatchedTables, why: &str) -> EngineError {
    EngineError::terminal(
        Reason::DefinitionChanged,
        &format!(
            "the rows of {} in the binary log {why}. The table changed meanwhile, or the server hides some of its columns (a generated invisible primary key, where show_gipk_in_create_table_and_information_schema is OFF). The tables were not swapped and the original is unchanged. The ghost is no longer usable: retry to start over, or delete the migration",
            quote::qualified(&watched.database, &watched.table)
        ),
    )
}

/// As the server writes it into the log: `X'gtrid',X'bqual',format`.
fn xid(gtrid: &[u8], bqual: &[u8], format: i32) -> String {
    // In lower case, as statements are compared.
    format!("X'{}',X'{}',{format}", quote::hex(gtrid), quote::hex(bqual)).to_ascii_lowercase()
}

/// The name in a rotate event. The first one comes before the event that says whether events carry a checksum, so the driver leaves four
/// bytes of checksum at its end; the length of another name of the same log tells.
fn file_name(raw: &[u8], length: usize) -> String {
    let digits =
        |name: &[u8]| name.rsplit(|b| *b == b'.').next().is_some_and(|tail| !tail.is_empty() && tail.iter().all(u8::is_ascii_digit));
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
    EngineError::transient(Reason::StatementInterrupted, &format!("an event of the binary log cannot be decoded: {error}"))
}

/// Whether the log that was asked for is gone. The number alone does not say it: 1236 is whatever ends a dump, and the server writes these
/// sentences in English in whatever language (`binlog.cc`, `rpl_binlog_sender.cc`).
fn is_purged(message: &str) -> bool {
    ["purged", "Could not find first log", "log file name", "does not exist"].iter().any(|words| message.contains(words))
}

fn stream_error(error: &mysql_async::Error) -> EngineError {
    let error = MySqlError::new("read the binary log", error);
    if error.code == crate::mysql::codes::SOURCE_FATAL_ERROR_READING_BINLOG {
        if is_purged(&error.message) {
            return EngineError::of_server(
                &error,
                Reason::BinlogPurged,
                &format!(
                    "the binary logs needed to resume are gone ({}). The original table is untouched; keep logs longer (binlog_expire_logs_seconds), then retry to start over",
                    error.message
                ),
            );
        }
        return EngineError { class: Class::Transient, ..EngineError::of_server(&error, Reason::StatementInterrupted, &error.to_string()) };
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_transaction_has_the_name_that_its_commit_has() {
        assert_eq!(Statement::XaCommit(xid(b"a", b"", 1)), classify("XA COMMIT X'61',X'',1"));
    }

    #[test]
    fn a_purged_log_is_told_by_the_servers_words() {
        for (message, gone) in [
            // 8.0 and 8.4
            ("Could not find first log file name in binary log index file", true),
            (
                "Cannot replicate because the source purged required binary logs. Replicate the missing transactions from elsewhere, or provision a new replica from backup. Consider increasing the source's binary log expiration period. The GTID sets and the missing purged transactions are too long to print in this message. For more information, please see the source's error log or the manual for GTID_SUBTRACT.",
                true,
            ),
            // 8.0.13 to 8.0.25
            (
                "Cannot replicate because the master purged required binary logs. Replicate the missing transactions from elsewhere, or provision a new slave from backup. Consider increasing the master's binary log expiration period. To find the missing transactions, see the master's error log or the manual for GTID_SUBTRACT.",
                true,
            ),
            (
                "The slave is connecting using CHANGE MASTER TO MASTER_AUTO_POSITION = 1, but the master has purged binary logs containing GTIDs that the slave requires.",
                true,
            ),
            ("log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source", false),
            ("A replica with the same server_uuid/server_id as this replica has connected to the source", false),
            ("Client requested source to start replication from position > file size", false),
            ("could not open log file", false),
        ] {
            assert_eq!(is_purged(message), gone, "{message}");
        }
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
