//! Looks before anything is touched: the server, the account, the table; reads definitions as values.
//!
//! Relies on `information_schema` (MySQL manual, chapter 28) with `information_schema_stats_expiry=0`.

use super::evaluation::NowDefault;
use super::server::{Against, Known, server_problems};
use super::sight;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::Mode;
use crate::mysql::server::ServerFacts;
use crate::mysql::session::SHORT;
use crate::mysql::{MySqlError, Session, codes};
use crate::sql::foreign_key::ForeignKey;
use crate::sql::key::KeyCodec;
use crate::sql::table::{Column, ColumnType, Generated, Index, IndexPart, TableDefinition};
use crate::sql::{create, quote};
use mysql_async::Value;
use std::time::Duration;

/// A table with what only the server knows about it.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// Columns and indexes.
    pub definition: TableDefinition,
    /// `SHOW CREATE TABLE`, to the letter.
    pub show_create: String,
    /// Rows by the server's statistics.
    pub rows_estimated: u64,
    /// Bytes of data and indexes by the server's statistics.
    pub bytes_estimated: u64,
    /// InnoDB's id of the table, which it keeps through a rename; `None` without the PROCESS privilege, or for partitioned tables.
    pub table_id: Option<u64>,
    /// Whether the table is partitioned.
    pub partitioned: bool,
    /// The foreign keys by which the table refers to others.
    pub foreign_keys: Vec<ForeignKey>,
}

impl Inspected {
    /// Their names.
    pub fn foreign_key_names(&self) -> Vec<String> {
        self.foreign_keys.iter().map(|key| key.name.clone()).collect()
    }
}

/// Refuses servers that nothing can be written to.
///
/// # Errors
/// [`Reason::ReadOnly`], with what to do.
pub fn check_server(facts: &ServerFacts, mode: Mode) -> Result<(), EngineError> {
    first(Known { facts: Some(facts), ..Known::default() }, mode, Against::Everything)
}

/// The refusal for the first problem of a kind.
fn first(known: Known<'_>, mode: Mode, against: Against) -> Result<(), EngineError> {
    server_problems(known, Some(mode)).into_iter().find(|problem| problem.against == against).map_or(Ok(()), |problem| Err(problem.error()))
}

/// Refuses servers whose binary log does not have the changes that are made while rows are copied. What the server changes by itself needs none.
///
/// # Errors
/// [`Reason::ServerNotSupported`], with the setting and what to do; the server's.
pub async fn check_log(session: &mut Session, facts: &ServerFacts, database: &str) -> Result<(), EngineError> {
    // The mode is of no matter to what a copy needs.
    let mode = Mode::default();
    first(Known { facts: Some(facts), ..Known::default() }, mode, Against::ACopy)?;
    let server_id = Some(ServerFacts::server_id(session).await?);
    first(Known { server_id, ..Known::default() }, mode, Against::ACopy)?;
    let not_logged = (!facts.logs_database(session, database).await?).then_some(database);
    first(Known { not_logged, ..Known::default() }, mode, Against::ACopy)
}

/// Sessions that a copy has at once: measured, with as few copy workers as there are by default.
pub(super) const SESSIONS: u32 = 11;

/// Refuses accounts that may not have as many sessions as a copy needs.
///
/// # Errors
/// [`Reason::ServerNotSupported`], with the variable and what to do; the server's.
pub async fn check_sessions(session: &mut Session) -> Result<(), EngineError> {
    first(Known { sessions: Some(sessions_allowed(session).await?), ..Known::default() }, Mode::default(), Against::ACopy)
}

/// How many sessions the account may have; 0 is no limit.
///
/// # Errors
/// A lost connection.
pub async fn sessions_allowed(session: &mut Session) -> Result<u32, MySqlError> {
    let what = "read how many sessions the account may have";
    Ok(session.first(what, SHORT, "SELECT @@SESSION.max_user_connections").await?.unwrap_or(0))
}

/// Reads a table's definition; `None` when it does not exist.
///
/// # Errors
/// [`Reason::TableNotSupported`] for views and other engines, or an error of the server.
pub async fn table(session: &mut Session, database: &str, table: &str) -> Result<Option<Inspected>, EngineError> {
    let names = || vec![Value::from(database), Value::from(table)];
    let what = "read the table's definition";
    let found: Vec<(String, String, Option<String>, Option<u64>, Option<u64>, Option<u64>, Option<String>)> = session
        .select(
            what,
            "SELECT TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_ROWS, DATA_LENGTH, INDEX_LENGTH, CREATE_OPTIONS FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            names(),
        )
        .await?;
    let Some((name, kind, engine, rows, data, index, options)) = found.into_iter().next() else {
        return Ok(None);
    };
    if kind != "BASE TABLE" {
        return Err(EngineError::terminal(
            Reason::TableNotSupported,
            &format!("{} is a {}, not a table", quote::qualified(database, table), kind.to_lowercase()),
        ));
    }
    let engine = engine.unwrap_or_default();
    if !engine.eq_ignore_ascii_case("InnoDB") {
        return Err(EngineError::terminal(
            Reason::TableNotSupported,
            &format!(
                "{} uses the engine {engine}; only InnoDB tables can be migrated: where the server crashes in a swap, a table of another engine may be left under no name at all. Make it an InnoDB table first, with a native ALTER while nothing writes to it",
                quote::qualified(database, table)
            ),
        ));
    }
    let (definition, show_create) = read_definition(session, database, table, &name).await?;
    check_hidden_key(session, database, table, &definition).await?;
    let partitioned = options.is_some_and(|o| o.contains("partitioned"));
    let table_id = if partitioned { None } else { table_id(session, database, &name).await? };
    let foreign_keys = create::foreign_keys(&show_create, database).map_err(crate::engine::table::definition::not_readable)?;
    Ok(Some(Inspected {
        foreign_keys,
        definition,
        show_create,
        rows_estimated: rows.unwrap_or(0),
        bytes_estimated: data.unwrap_or(0) + index.unwrap_or(0),
        table_id,
        partitioned,
    }))
}

/// How often a definition is read before its two halves count as different ones: another session's DDL may come in between.
const READS: u32 = 3;

/// The definition, from `information_schema` and by SHOW CREATE TABLE, which must agree.
async fn read_definition(session: &mut Session, database: &str, table: &str, name: &str) -> Result<(TableDefinition, String), EngineError> {
    let mut reads = 0;
    loop {
        reads += 1;
        let columns = columns(session, database, table).await?;
        let indexes = indexes(session, database, table).await?;
        let definition = TableDefinition { name: name.to_owned(), columns, indexes };
        let show_create = show_create(session, database, table).await?;
        match create::disagreement(&definition, &show_create).map_err(crate::engine::table::definition::not_readable)? {
            None => return Ok((definition, show_create)),
            Some(_) if reads < READS => {}
            Some(why) => {
                return Err(EngineError::terminal(
                    Reason::ServerNotSupported,
                    &format!(
                        "information_schema and SHOW CREATE TABLE disagree about the definition of {}: {why}. Nothing was touched: a column that one of them hides would be lost",
                        quote::qualified(database, table)
                    ),
                ));
            }
        }
    }
}

/// The generated invisible primary key, which a server may hide from every definition while the rows have it.
const HIDDEN_KEY: &str = "my_row_id";

/// Refuses a table whose generated primary key is hidden (`show_gipk_in_create_table_and_information_schema=OFF`): it can be selected all
/// the same.
async fn check_hidden_key(session: &mut Session, database: &str, table: &str, definition: &TableDefinition) -> Result<(), EngineError> {
    if definition.indexes.iter().any(|index| index.name == "PRIMARY") || definition.column(HIDDEN_KEY).is_some() {
        return Ok(());
    }
    let name = quote::qualified(database, table);
    let sql = format!("SELECT {HIDDEN_KEY} FROM {name} LIMIT 0");
    match session.run("look for a hidden primary key", SHORT, &sql).await {
        Err(error) if error.code == codes::BAD_FIELD_ERROR => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => Err(EngineError::terminal(
            Reason::ServerNotSupported,
            &format!(
                "the server hides the generated invisible primary key ({HIDDEN_KEY}) of {name} from its definition, so rows would be looked up by the wrong column. Nothing was touched; set show_gipk_in_create_table_and_information_schema=ON on the server, then retry"
            ),
        )),
    }
}

/// `SHOW CREATE TABLE`.
///
/// # Errors
/// The server's.
pub async fn show_create(session: &mut Session, database: &str, table: &str) -> Result<String, EngineError> {
    let what = "read the table's definition";
    let row: Option<(String, String)> =
        session.first(what, SHORT, &format!("SHOW CREATE TABLE {}", quote::qualified(database, table))).await?;
    row.map(|(_, text)| text).ok_or_else(|| EngineError::transient(Reason::StatementInterrupted, "SHOW CREATE TABLE returned no row"))
}

/// Whether a table or view of this name exists.
///
/// # Errors
/// The server's.
pub async fn exists(session: &mut Session, database: &str, table: &str) -> Result<bool, EngineError> {
    let rows: Vec<u64> = session
        .select(
            "look for a table",
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            vec![Value::from(database), Value::from(table)],
        )
        .await?;
    Ok(rows.first().is_some_and(|n| *n > 0))
}

/// The partitions of a table, in their order; none of one that is not partitioned.
///
/// # Errors
/// The server's.
pub async fn partitions(session: &mut Session, database: &str, table: &str) -> Result<Vec<String>, EngineError> {
    let sql = "SELECT DISTINCT PARTITION_NAME, PARTITION_ORDINAL_POSITION FROM information_schema.PARTITIONS \
               WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND PARTITION_NAME IS NOT NULL ORDER BY 2";
    let rows: Vec<(String, u64)> =
        session.select("read the table's partitions", sql, vec![Value::from(database), Value::from(table)]).await?;
    Ok(rows.into_iter().map(|(name, _)| name).collect())
}

/// InnoDB's table id: kept through RENAME TABLE, new after TRUNCATE or a rebuild. `None` when it cannot be told ([`sight::Fact::TableIds`]):
/// compare with [`sight::replaced`].
///
/// # Errors
/// The server's.
pub async fn table_id(session: &mut Session, database: &str, table: &str) -> Result<Option<u64>, EngineError> {
    let name = format!("{}/{}", file_name(database), file_name(table));
    match session
        .select::<u64>(
            "read the table's id",
            "SELECT TABLE_ID FROM information_schema.INNODB_TABLES WHERE NAME = ?",
            vec![Value::from(name)],
        )
        .await
    {
        Ok(ids) => Ok(ids.into_iter().next()),
        // The ids are an additional proof, not a need.
        Err(error) if sight::is_refusal(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How many versions the rows of a table (of a partition of it) may have: one more with each INSTANT change that adds or drops a column.
/// `None` when it cannot be told: without PROCESS, and before 8.0.29, where there are none.
///
/// # Errors
/// The server's, but for a refusal to show it.
pub async fn row_versions(session: &mut Session, database: &str, table: &str) -> Result<Option<u64>, EngineError> {
    let name = format!("{}/{}", file_name(database), file_name(table));
    // A partition is a table of its own, `db/t#p#p0`; `#` in a name would be written as `@0023`.
    let sql = "SELECT CAST(MAX(TOTAL_ROW_VERSIONS) AS UNSIGNED) FROM information_schema.INNODB_TABLES WHERE NAME = ? OR LEFT(NAME, CHAR_LENGTH(?)) = ?";
    let partitions = format!("{name}#p#");
    match session
        .select::<Option<u64>>("read the table's row versions", sql, vec![name.into(), partitions.clone().into(), partitions.into()])
        .await
    {
        Ok(found) => Ok(found.into_iter().next().flatten()),
        Err(error) if sight::is_not_there(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The name that the table of this id has now, quoted; `None` where it cannot be read, or holds what InnoDB keeps in another form.
///
/// # Errors
/// The server's, but for a refusal to show it.
pub async fn name_of(session: &mut Session, id: u64) -> Result<Option<String>, EngineError> {
    let sql = "SELECT NAME FROM information_schema.INNODB_TABLES WHERE TABLE_ID = ?";
    match session.select::<String>("read a table's name", sql, vec![Value::from(id)]).await {
        Ok(names) => Ok(names.first().and_then(|name| {
            let (database, table) = name.split_once('/')?;
            let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            (plain(database) && plain(table)).then(|| quote::qualified(database, table))
        })),
        Err(error) if sight::is_not_there(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The name as InnoDB keeps it: other characters than letters, digits and `_` as `@` and four hexadecimal digits
/// (MySQL manual, "Mapping of Identifiers to File Names"). Letters with a table of their own there are not handled: the id is then unknown.
pub(crate) fn file_name(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            out.push(c);
        } else {
            out.push_str(&format!("@{:04x}", u32::from(c)));
        }
    }
    out
}

/// What binds the table to others, before anything is touched.
///
/// # Errors
/// As [`sight::relations`].
pub async fn check_relations(session: &mut Session, database: &str, table: &str) -> Result<Vec<sight::Reference>, EngineError> {
    sight::relations(session, database, table).await.map_err(|error| {
        let advice = match error.reason {
            Reason::MissingPrivilege => ". Nothing was touched",
            _ => "",
        };
        error.and(advice)
    })
}

/// Columns whose default is a date with zeros in it, which the default `sql_mode` refuses.
///
/// # Errors
/// The server's.
pub async fn zero_date_defaults(session: &mut Session, database: &str, table: &str) -> Result<Vec<String>, EngineError> {
    let sql = "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
               AND COLUMN_DEFAULT LIKE '____-%' AND COLUMN_DEFAULT LIKE '%-00%' AND DATA_TYPE IN ('date', 'datetime', 'timestamp') \
               ORDER BY ORDINAL_POSITION";
    Ok(session.select("read the table's defaults", sql, vec![Value::from(database), Value::from(table)]).await?)
}

/// Columns with `DEFAULT CURRENT_TIMESTAMP`.
///
/// # Errors
/// The server's.
pub async fn now_defaults(session: &mut Session, database: &str, table: &str) -> Result<Vec<NowDefault>, EngineError> {
    let rows: Vec<(String, String, Option<u64>)> = session
        .select(
            "read the table's defaults",
            "SELECT COLUMN_NAME, DATA_TYPE, DATETIME_PRECISION FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
             AND COLUMN_DEFAULT LIKE 'CURRENT_TIMESTAMP%' AND DATA_TYPE IN ('timestamp', 'datetime') ORDER BY ORDINAL_POSITION",
            vec![Value::from(database), Value::from(table)],
        )
        .await?;
    let default = |(column, kind, fsp): (String, String, Option<u64>)| NowDefault {
        column,
        timestamp: kind.eq_ignore_ascii_case("timestamp"),
        fsp: fsp.and_then(|n| u8::try_from(n).ok()).unwrap_or(0),
    };
    Ok(rows.into_iter().map(default).collect())
}

/// The defaults of the key's columns as the codec reads values; NULL for a column without one. For `binlog_row_image=MINIMAL`.
///
/// # Errors
/// A lost connection.
pub async fn key_defaults(
    session: &mut Session,
    database: &str,
    original: &TableDefinition,
    codec: &KeyCodec,
) -> Result<Vec<Value>, EngineError> {
    let columns: Vec<&Column> = codec.positions().iter().filter_map(|at| original.columns.get(*at)).collect();
    let none = vec![Value::NULL; columns.len()];
    if !columns.iter().any(|c| has_plain_default(c)) {
        return Ok(none);
    }
    let rows: Vec<(String, Option<String>, String)> = session
        .select(
            "read the key's defaults",
            "SELECT COLUMN_NAME, COLUMN_DEFAULT, EXTRA FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            vec![Value::from(database), Value::from(&original.name)],
        )
        .await?;
    let mut values = none;
    for (value, column) in values.iter_mut().zip(columns).filter(|(_, c)| has_plain_default(c)) {
        // An expression's value is in the log.
        let found = rows.iter().find(|(name, _, extra)| *name == column.name && !extra.contains("DEFAULT_GENERATED"));
        let Some((_, Some(text), _)) = found else { continue };
        *value = match &column.column_type {
            ColumnType::Enum { labels } => labels.iter().position(|l| l == text).map_or(Value::NULL, |at| Value::UInt(at as u64 + 1)),
            ColumnType::Set { labels } => {
                let bits =
                    labels.iter().enumerate().filter(|(_, l)| text.split(',').any(|t| t == *l)).fold(0, |bits, (at, _)| bits | 1 << at);
                Value::UInt(bits)
            }
            ColumnType::Char { .. } | ColumnType::VarChar { .. } => {
                let charset = column.charset.as_deref().unwrap_or("utf8mb4");
                let sql = format!("SELECT CAST(CONVERT({} USING {charset}) AS BINARY)", quote::text_literal(text));
                session.first::<Vec<u8>>("read the key's defaults", SHORT, &sql).await?.map_or(Value::NULL, Value::Bytes)
            }
            _ => Value::Bytes(text.clone().into_bytes()),
        };
    }
    Ok(values)
}

/// Whether a column has a default that is a plain value which can be read back.
pub fn has_plain_default(column: &Column) -> bool {
    let readable = matches!(
        column.column_type,
        ColumnType::Integer { .. }
            | ColumnType::Decimal { .. }
            | ColumnType::Char { .. }
            | ColumnType::VarChar { .. }
            | ColumnType::Enum { .. }
            | ColumnType::Set { .. }
            | ColumnType::Date
            | ColumnType::Time { .. }
            | ColumnType::Year
    );
    column.has_default && readable && column.generated == Generated::No
}

/// Refuses (for the moment) a table on which an XA transaction is prepared: its rows are in the log already, before the place where our
/// stream begins, and no chunk can see them before XA COMMIT, which names no rows.
///
/// Relies on a prepared transaction that changed a table holding InnoDB's IX lock on it, and on `trx_mysql_thread_id` 0 for one that no
/// session has (`xa_detach_on_prepare`, a restart of the server). Without PROCESS and SELECT on performance_schema nothing can be seen, and
/// the comparison before the cut-over has to find it.
///
/// # Errors
/// [`Reason::PreparedTransaction`] (transient), or a lost connection.
pub async fn check_prepared(session: &mut Session, database: &str, table: &str) -> Result<(), EngineError> {
    let shown = quote::qualified(database, table);
    // On most servers there are none at all, and the account may ask (XA_RECOVER_ADMIN).
    match session.rows::<mysql_async::Row>("list prepared transactions", SHORT, "XA RECOVER").await {
        Ok(none) if none.is_empty() => return Ok(()),
        Err(error) if error.is_connection() => return Err(error.into()),
        _ => {}
    }
    let result = match prepared_on(session, database, table).await {
        Err(error) if error.code == codes::CANNOT_CONVERT_STRING => prepared_by_locks(session, database, table).await,
        // The account may not look: [`sight::Fact::Prepared`].
        Err(error) if sight::is_refusal(&error) => Ok(0),
        result => result.map_err(EngineError::from),
    };
    let ended = session.run("end the check for transactions", SHORT, "ROLLBACK").await;
    match result {
        Ok(0) => ended.map_err(EngineError::from),
        Ok(n) => Err(EngineError::transient(
            Reason::PreparedTransaction,
            &format!(
                "{n} prepared XA transactions changed {shown} before the migration began; waiting until they are committed or rolled back (XA RECOVER lists them). No row was copied"
            ),
        )),
        Err(error) => Err(error),
    }
}

/// The same, while INNODB_TRX cannot be read because of some session's statement. Relies on a prepared transaction keeping its metadata
/// lock, also when its session does something else or is gone, and after a restart of the server (9.7): then the lock belongs to no
/// transaction that its thread has now.
async fn prepared_by_locks(session: &mut Session, database: &str, table: &str) -> Result<u64, EngineError> {
    let what = "look for prepared transactions by their locks";
    let instruments = "SELECT COUNT(*) FROM performance_schema.setup_instruments \
                       WHERE NAME IN ('wait/lock/metadata/sql/mdl', 'transaction') AND ENABLED = 'YES' AND @@performance_schema = 1";
    if session.first::<u64>(what, SHORT, instruments).await? != Some(2) {
        return Err(EngineError::transient(
            Reason::StatementInterrupted,
            "cannot check for prepared XA transactions on the table: while a statement of another session has a 4-byte character, the server \
             does not list transactions (information_schema.INNODB_TRX), and the performance schema does not record metadata locks and \
             transactions. Enable the instruments wait/lock/metadata/sql/mdl and transaction, or GRANT XA_RECOVER_ADMIN ON *.* TO the account. \
             No row was copied",
        ));
    }
    let sql = format!(
        "SELECT COUNT(*) FROM performance_schema.metadata_locks l WHERE l.OBJECT_TYPE = 'TABLE' AND l.OBJECT_SCHEMA = {} \
         AND l.OBJECT_NAME = {} AND l.LOCK_STATUS = 'GRANTED' AND l.LOCK_TYPE = 'SHARED_WRITE' \
         AND NOT EXISTS (SELECT * FROM performance_schema.threads t JOIN performance_schema.events_transactions_current e USING (THREAD_ID) \
           WHERE t.THREAD_ID = l.OWNER_THREAD_ID AND t.PROCESSLIST_ID IS NOT NULL AND e.STATE = 'ACTIVE' \
           AND COALESCE(e.XA_STATE, '') <> 'PREPARED' AND e.EVENT_ID <= l.OWNER_EVENT_ID)",
        quote::string(database),
        quote::string(table)
    );
    Ok(session.first(what, SHORT, &sql).await?.unwrap_or(0))
}

/// The number of prepared transactions on a table now. Leaves a transaction open.
async fn prepared_on(session: &mut Session, database: &str, table: &str) -> Result<u64, MySqlError> {
    let what = "look for prepared transactions";
    // InnoDB serves INNODB_TRX from a copy until nobody has read it for 0.1 s. A copy that shows this very statement is of now.
    session.run(what, SHORT, &format!("START TRANSACTION; SELECT 1 FROM {} LIMIT 1", quote::qualified(database, table))).await?;
    let own = session.id();
    let mut transactions = Vec::new();
    for _ in 0..50 {
        let mark = format!("look {:016x}", fastrand::u64(..));
        let sql = format!(
            "SELECT CAST(x.trx_id AS UNSIGNED), x.trx_mysql_thread_id = {own} AND COALESCE(x.trx_query LIKE '%{mark}%', FALSE), \
             x.trx_mysql_thread_id = 0 OR EXISTS (SELECT * FROM performance_schema.threads t \
             JOIN performance_schema.events_transactions_current e USING (THREAD_ID) \
             WHERE t.PROCESSLIST_ID = x.trx_mysql_thread_id AND e.STATE = 'ACTIVE' AND e.XA_STATE = 'PREPARED') \
             FROM information_schema.INNODB_TRX x"
        );
        let rows: Vec<(u64, bool, bool)> = session.rows(what, SHORT, &sql).await?;
        if rows.iter().any(|(_, this, _)| *this) {
            transactions = rows;
            break;
        }
        // Others look as well: at one pace nobody would ever find a moment of rest.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(110..500))).await;
    }
    if transactions.is_empty() {
        return Err(MySqlError::timeout(what, Duration::from_secs(15)));
    }
    let ids: Vec<String> = transactions.iter().filter(|(_, _, prepared)| *prepared).map(|(id, ..)| id.to_string()).collect();
    if ids.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "SELECT COUNT(*) FROM performance_schema.data_locks WHERE ENGINE_TRANSACTION_ID IN ({}) AND LOCK_TYPE = 'TABLE' AND LOCK_MODE LIKE 'IX%' \
         AND OBJECT_SCHEMA = {} AND OBJECT_NAME = {}",
        ids.join(", "),
        quote::string(database),
        quote::string(table)
    );
    Ok(session.first(what, SHORT, &sql).await?.unwrap_or(0))
}

async fn columns(session: &mut Session, database: &str, table: &str) -> Result<Vec<Column>, EngineError> {
    let rows: Vec<mysql_async::Row> = session
        .select(
            "read the table's columns",
            "SELECT COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, IS_NULLABLE, EXTRA, CHARACTER_MAXIMUM_LENGTH, \
             NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, COLUMN_DEFAULT IS NOT NULL \
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            vec![Value::from(database), Value::from(table)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let text = |i: usize| row.get::<Option<String>, _>(i).flatten();
            let number = |i: usize| row.get::<Option<u64>, _>(i).flatten().unwrap_or(0);
            let (Some(name), Some(type_text), Some(data_type)) = (text(0), text(1), text(2)) else {
                return Err(EngineError::transient(Reason::StatementInterrupted, "a column has no name or type"));
            };
            let extra = text(6).unwrap_or_default().to_uppercase();
            let facts = TypeFacts { length: number(7), precision: number(8), scale: number(9), fsp: number(10) };
            Ok(Column {
                column_type: column_type(&data_type, &type_text, facts),
                name,
                type_text,
                charset: text(3),
                collation: text(4),
                nullable: text(5).as_deref() == Some("YES"),
                generated: if extra.contains("VIRTUAL GENERATED") {
                    Generated::Virtual
                } else if extra.contains("STORED GENERATED") {
                    Generated::Stored
                } else {
                    Generated::No
                },
                auto_increment: extra.contains("AUTO_INCREMENT"),
                has_default: number(11) != 0 || extra.contains("DEFAULT_GENERATED"),
                invisible: extra.contains("INVISIBLE"),
            })
        })
        .collect()
}

struct TypeFacts {
    length: u64,
    precision: u64,
    scale: u64,
    fsp: u64,
}

fn column_type(data_type: &str, type_text: &str, facts: TypeFacts) -> ColumnType {
    let unsigned = type_text.to_lowercase().contains("unsigned");
    let small = |n: u64| u8::try_from(n).unwrap_or(u8::MAX);
    let length = u32::try_from(facts.length).unwrap_or(u32::MAX);
    let fsp = small(facts.fsp);
    let integer = |bits| ColumnType::Integer { bits, unsigned };
    match data_type.to_lowercase().as_str() {
        "tinyint" => integer(8),
        "smallint" => integer(16),
        "mediumint" => integer(24),
        "int" => integer(32),
        "bigint" => integer(64),
        "decimal" => ColumnType::Decimal { precision: small(facts.precision), scale: small(facts.scale), unsigned },
        "float" => ColumnType::Float { double: false },
        "double" => ColumnType::Float { double: true },
        "bit" => ColumnType::Bit { width: small(facts.precision) },
        "year" => ColumnType::Year,
        "date" => ColumnType::Date,
        "time" => ColumnType::Time { fsp },
        "datetime" => ColumnType::DateTime { fsp },
        "timestamp" => ColumnType::Timestamp { fsp },
        "char" => ColumnType::Char { length },
        "varchar" => ColumnType::VarChar { length },
        "tinytext" | "text" | "mediumtext" | "longtext" => ColumnType::Text,
        "binary" => ColumnType::Binary { length },
        "varbinary" => ColumnType::VarBinary { length },
        "tinyblob" | "blob" | "mediumblob" | "longblob" => ColumnType::Blob,
        "enum" => ColumnType::Enum { labels: labels(type_text) },
        "set" => ColumnType::Set { labels: labels(type_text) },
        "json" => ColumnType::Json,
        "vector" => ColumnType::Vector,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon" | "geomcollection"
        | "geometrycollection" => ColumnType::Geometry,
        other => ColumnType::Other(other.to_owned()),
    }
}

/// The labels of `enum('a','it''s')`.
fn labels(type_text: &str) -> Vec<String> {
    let inside = type_text.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(inside, _)| inside);
    let mut labels = Vec::new();
    let mut current: Option<String> = None;
    let mut characters = inside.chars().peekable();
    while let Some(c) = characters.next() {
        match (&mut current, c) {
            (None, '\'') => current = Some(String::new()),
            (None, _) => {}
            (Some(label), '\'') if characters.peek() == Some(&'\'') => {
                characters.next();
                label.push('\'');
            }
            (Some(_), '\'') => labels.extend(current.take()),
            (Some(label), c) => label.push(c),
        }
    }
    labels
}

async fn indexes(session: &mut Session, database: &str, table: &str) -> Result<Vec<Index>, EngineError> {
    let rows: Vec<(String, u8, Option<String>, Option<u32>, String, Option<String>, String)> = session
        .select(
            "read the table's indexes",
            "SELECT INDEX_NAME, NON_UNIQUE, COLUMN_NAME, SUB_PART, INDEX_TYPE, COLLATION, IS_VISIBLE FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX",
            vec![Value::from(database), Value::from(table)],
        )
        .await?;
    let mut indexes: Vec<Index> = Vec::new();
    for (name, non_unique, column, prefix, kind, direction, visible) in rows {
        let part = IndexPart { column, prefix, descending: direction.as_deref() == Some("D") };
        match indexes.last_mut() {
            Some(index) if index.name == name => index.parts.push(part),
            _ => indexes.push(Index { name, unique: non_unique == 0, visible: visible == "YES", kind, parts: vec![part] }),
        }
    }
    Ok(indexes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn labels_are_unescaped() {
        assert_eq!(labels("enum('a','it''s','b,c','')"), ["a", "it's", "b,c", ""]);
        assert_eq!(labels("int"), Vec::<String>::new());
    }

    #[test]
    fn file_names_follow_the_manual() {
        assert_eq!(file_name("orders_1"), "orders_1");
        assert_eq!(file_name("a-b $"), "a@002db@0020@0024");
    }
}
