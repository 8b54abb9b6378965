//! One connection with defined variables ([`variables`], [`settings`]). Statements have a name (for errors and logs) and a limit.

use super::codes;
use super::codes::INVALID_CHARACTER_STRING;
use super::error::MySqlError;
use super::own::{Connections, Registered, ServerRun};
use super::settings::{self, Purpose, ServerValues};
use super::variables;
use super::versions::{Product, Version};
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{ClientIdentity, Conn, Opts, OptsBuilder, Row, SslOpts};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where a server is and how to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// Host name or address.
    pub host: String,
    /// TCP port, 3306 by default.
    pub port: u16,
    /// Account name.
    pub username: String,
    /// Account password; never printed.
    pub password: String,
    /// Transport security.
    pub tls: Tls,
    /// Whether sessions keep what they write out of the server's binary log: what is done on a replica alone must not look like
    /// transactions of its own there (errant GTIDs), nor reach its replicas.
    pub unlogged: bool,
}

impl std::fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the account nor the password belongs in a log.
        f.debug_struct("ServerAddress")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls.mode)
            .field("unlogged", &self.unlogged)
            .finish_non_exhaustive()
    }
}

/// TLS towards MySQL, with MySQL's own mode names.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tls {
    pub mode: TlsMode,
    /// PEM bundle of certificate authorities.
    pub ca_pem: Option<Vec<u8>>,
    /// PEM client certificate chain and its key.
    pub client_identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// `--ssl-mode` of the MySQL clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Plain text.
    Disabled,
    /// TLS when the server offers it, plain text otherwise.
    #[default]
    Preferred,
    /// TLS, certificate not checked.
    Required,
    /// TLS, the chain is checked against the CA.
    VerifyCa,
    /// TLS, chain and host name are checked.
    VerifyIdentity,
}

/// What must hold before a session's own variables can be read: SHOW is a SELECT to the server, with its limits.
const BEFORE_LOOKING: &str = "SET SESSION autocommit=1, sql_select_limit=18446744073709551615, max_join_size=18446744073709551615, \
     sql_big_selects=1, sql_safe_updates=0, timestamp=DEFAULT";

/// What [`ServerAddress::unlogged`] adds; needs SESSION_VARIABLES_ADMIN (manual, `sql_log_bin`).
pub const UNLOGGED: &str = "SET SESSION sql_log_bin=0";

/// How long connecting and logging in may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long [`Session::run_patiently`] asks.
const LOCKS_PATIENCE: Duration = Duration::from_secs(30);
/// How long a short statement (metadata, state, barrier) may take.
pub const SHORT: Duration = Duration::from_secs(15);
/// How long a statement that moves rows or builds indexes may take before the connection counts as lost.
pub const LONG: Duration = Duration::from_secs(24 * 3600);

/// A logged-in connection.
pub struct Session {
    conn: Conn,
    registered: Registered,
    run: ServerRun,
    /// `lower_case_table_names=1`.
    lower_case_names: bool,
    /// A statement is under way, or was broken off: its answer may still come, and would be taken for that of the next one. Or a transaction
    /// was.
    broken: bool,
    product: Product,
    /// Its variables, as far as [`variables`] knows them, by name.
    variables: BTreeMap<String, String>,
    /// The same as the server gave them to the connection: its global values, and what `init_connect` made of them.
    given: BTreeMap<String, String>,
}

impl Session {
    /// Connects, and defines every variable that a session of ours has a say in ([`variables`]), for [`Purpose::Own`].
    ///
    /// # Errors
    /// Unreachable, refused, TLS not as asked for; or a variable that does not take its value, named
    /// ([`crate::mysql::codes::WRONG_VALUE_FOR_VAR`]).
    pub async fn open(address: &ServerAddress) -> Result<Self, MySqlError> {
        let mut session = Self::open_raw(address).await?;
        session.define().await?;
        if address.unlogged {
            session.run("leave the session's writes out of the binary log", SHORT, UNLOGGED).await?;
        }
        Ok(session)
    }

    async fn define(&mut self) -> Result<(), MySqlError> {
        self.run("apply the session's settings", SHORT, BEFORE_LOOKING).await?;
        let shown: Vec<(String, Vec<u8>)> = self.rows("read the session's variables", SHORT, "SHOW SESSION VARIABLES").await?;
        for (name, value) in shown {
            if name == "version" && String::from_utf8_lossy(&value).contains("MariaDB") {
                let message = format!("the server is MariaDB ({}); MySQL 8.0.13 or later is needed", String::from_utf8_lossy(&value));
                return Err(MySqlError::setting("check which server answers", message));
            }
            if name == "lower_case_table_names" {
                self.lower_case_names = value == b"1";
            }
            if variables::class_of(&name).is_some() {
                self.variables.insert(name, String::from_utf8_lossy(&value).into_owned());
            }
        }
        self.variables.insert("timestamp".to_owned(), "0".to_owned());
        self.given.clone_from(&self.variables);
        let mut wanted: Vec<(String, String)> = variables::ours().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        wanted.extend(Purpose::Own.wanted());
        self.set(&wanted).await
    }

    /// Gives the session the variables of a purpose; says nothing to the server where they are the same.
    ///
    /// # Errors
    /// A variable that does not take its value, named ([`crate::mysql::codes::WRONG_VALUE_FOR_VAR`]); a lost connection.
    pub async fn wear(&mut self, purpose: Purpose<'_>) -> Result<(), MySqlError> {
        self.set(&purpose.wanted()).await
    }

    /// Runs a statement for another purpose than [`Purpose::Own`], and comes back. A text that the connection's character set lacks, which
    /// the server changes with a warning, is an error.
    ///
    /// # Errors
    /// As [`Session::run`] and [`Session::wear`].
    pub async fn run_as(&mut self, purpose: Purpose<'_>, what: &str, limit: Duration, sql: &str) -> Result<(), MySqlError> {
        self.wear(purpose).await?;
        let result = self.write(what, limit, sql).await;
        let lost = match &result {
            Ok(written) if written.warnings > 0 => self.warnings().await?.iter().any(|(_, code, _)| *code == INVALID_CHARACTER_STRING),
            _ => false,
        };
        if result.as_ref().err().is_none_or(|error| !error.is_connection()) {
            self.wear(Purpose::Own).await?;
        }
        if lost {
            return Err(MySqlError {
                code: INVALID_CHARACTER_STRING,
                ..MySqlError::setting(
                    what,
                    format!(
                        "{INVALID_CHARACTER_STRING}: a string in the clauses has characters that are not in the server's character_set_connection; write it with an introducer, as in _utf8mb4'…'"
                    ),
                )
            });
        }
        result.map(|_| ())
    }

    /// Sets what differs, in one statement, and reads it back. A variable that the server does not have is passed over.
    async fn set(&mut self, wanted: &[(String, String)]) -> Result<(), MySqlError> {
        let differs = |(name, value): &&(String, String)| self.variables.get(name).is_some_and(|has| !settings::same(name, has, value));
        let change: Vec<(String, String)> = wanted.iter().filter(differs).cloned().collect();
        if change.is_empty() {
            return Ok(());
        }
        let what = "set the session's variables";
        let assignment = |(name, value): &(String, String)| {
            let value = if name == "timestamp" && value == "0" { "DEFAULT".to_owned() } else { settings::literal(value) };
            format!("{name}={value}")
        };
        let list: Vec<String> = change.iter().map(assignment).collect();
        let names: Vec<String> = change.iter().map(|(name, _)| format!("@@SESSION.{name}")).collect();
        let sql = format!("SET SESSION {}; SELECT {}", list.join(", "), names.join(", "));
        let row: Row = match self.last_set(what, SHORT, &sql).await {
            Ok(row) => row.ok_or_else(|| MySqlError::unexpected(what, "no answer"))?,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => return Err(self.blame(&change, &list, error).await),
        };
        for ((name, value), has) in change.into_iter().zip(values_of(what, row)?) {
            let has = text_of(&has);
            if !settings::same(&name, &has, &value) {
                return Err(refused(&name, &has, &value, "the server kept its own value"));
            }
            // Two that go with others.
            if name == "collation_connection" {
                self.variables.remove("character_set_connection");
            }
            self.variables.insert(name, value);
        }
        Ok(())
    }

    /// Finds the variable that the server does not let us set: none of them is set then.
    async fn blame(&mut self, change: &[(String, String)], list: &[String], error: MySqlError) -> MySqlError {
        for ((name, value), assignment) in change.iter().zip(list) {
            match self.run("set a session variable", SHORT, &format!("SET SESSION {assignment}")).await {
                Ok(()) => {}
                Err(one) if one.is_transient() => return one,
                Err(one) => {
                    let has = self.variables.get(name).cloned().unwrap_or_default();
                    return refused(name, &has, value, &one.message);
                }
            }
        }
        error
    }

    /// The variables that the connection was given, as far as they are known here: the global values at that moment, and what `init_connect`
    /// made of them.
    pub fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }

    /// Variables that the server has for a session and that are in no class: this program does not know what they do.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn unknown_variables(&mut self) -> Result<Vec<String>, MySqlError> {
        let shown: Vec<(String, Vec<u8>)> = self.rows("read the session's variables", SHORT, "SHOW SESSION VARIABLES").await?;
        let mut unknown = Vec::new();
        for name in shown.into_iter().map(|(name, _)| name).filter(|name| variables::class_of(name).is_none()) {
            // Names of components have a dot, and none has a character that wants quotes.
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.') {
                unknown.push(name);
                continue;
            }
            match self.run("check whether a variable has a session value", SHORT, &format!("SELECT @@SESSION.{name} LIMIT 0")).await {
                Ok(()) => unknown.push(name),
                Err(error) if error.is_transient() => return Err(error),
                // ER_INCORRECT_GLOBAL_LOCAL_VAR: the server has one value for all.
                Err(_) => {}
            }
        }
        Ok(unknown)
    }

    /// The server's values now ([`variables::Class::Servers`]), and its present time.
    ///
    /// # Errors
    /// The server's.
    pub async fn server_values(&mut self) -> Result<ServerValues, MySqlError> {
        let what = "read the server's variables";
        let shown: Vec<(String, Vec<u8>)> = self.rows(what, SHORT, "SHOW GLOBAL VARIABLES").await?;
        let wanted = |name: &str| name == "sql_mode" || variables::class_of(name) == Some(variables::Class::Servers);
        let values =
            shown.into_iter().filter(|(name, _)| wanted(name)).map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()));
        let mut found = ServerValues { variables: values.collect(), ..ServerValues::default() };
        // One look for each week until TIMESTAMP ends: no zone has a summer time shorter than that.
        let digits = "(SELECT 0 n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 \
                      UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
        let sql = format!(
            "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) AS CHAR), CAST(CONVERT_TZ(NOW(6), '+00:00', @@GLOBAL.time_zone) AS CHAR), \
             MIN(away), MAX(away), BIT_XOR(CRC32(CONCAT(week, ' ', away))) FROM (SELECT week, \
             TIMESTAMPDIFF(SECOND, week, CONVERT_TZ(week, '+00:00', @@GLOBAL.time_zone)) away FROM (SELECT \
             '1970-01-02' + INTERVAL (a.n + 10 * b.n + 100 * c.n + 1000 * d.n) WEEK week FROM {digits} a, {digits} b, {digits} c, {digits} d) weeks \
             WHERE week < '2038-01-18') zone"
        );
        let row: Option<(String, Option<String>, Option<i32>, Option<i32>, u64)> = self.first(what, SHORT, &sql).await?;
        let Some((now, Some(there), Some(least), Some(most), print)) = row else {
            return Err(MySqlError::setting(
                what,
                format!("the server's time_zone ({}) cannot be evaluated: load its time zone tables", found.get("time_zone")),
            ));
        };
        found.offset = (least == most).then_some(least);
        (found.now, found.now_there, found.zone_print) = (now, there, print);
        Ok(found)
    }

    /// As [`Session::open`], on the server with this `server_uuid` only. A name may lead to another server from one connection to the next
    /// (a Service that follows a failover): whoever has several connections must not have them on two servers.
    ///
    /// # Errors
    /// As [`Session::open`]; transient when another server answered.
    pub async fn open_on(address: &ServerAddress, uuid: &str) -> Result<Self, MySqlError> {
        let session = Self::open(address).await?;
        session.check_server(uuid)?;
        Ok(session)
    }

    /// As [`Session::open`], with the default database that the server's clients have. A replica's `replicate-do-db` and `replicate-ignore-db` go
    /// by it for all that is no row (MySQL manual, "Evaluation of Database-Level Replication and Binary Logging Options"): a statement without
    /// one would be run on a replica that has neither the table nor the database, and stop it.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn open_in(address: &ServerAddress, database: &str) -> Result<Self, MySqlError> {
        let mut session = Self::open(address).await?;
        let sql = format!("USE {}", crate::sql::quote::identifier(database));
        match session.run("select the default database", SHORT, &sql).await {
            // That it is not there, or not for this account, is found where the table is looked for.
            Err(error) if !error.is_transient() => {}
            other => other?,
        }
        Ok(session)
    }

    /// Whether it is on the server with this `server_uuid`. Servers that do not tell theirs are not told apart.
    ///
    /// # Errors
    /// Another server answered (transient).
    pub fn check_server(&self, uuid: &str) -> Result<(), MySqlError> {
        if uuid.is_empty() || self.run.uuid == uuid {
            return Ok(());
        }
        Err(MySqlError::connection(
            "check which server answers",
            &format!("the address now leads to a different server ({}) than for the other connections ({uuid})", self.run.uuid),
        ))
    }

    /// `server_uuid` of the server; empty where there is none.
    pub fn server_uuid(&self) -> &str {
        &self.run.uuid
    }

    /// The run of the server that the connection's id is of.
    pub fn server_run(&self) -> &ServerRun {
        &self.run
    }

    /// Connects for a binary log dump; the settings of a dump thread are other ones.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn open_raw(address: &ServerAddress) -> Result<Self, MySqlError> {
        let mut conn = connect(address).await?;
        let product = product_of(&mut conn).await?;
        if let Some(why) = product.refusal() {
            let _ = tokio::time::timeout(Duration::from_secs(1), conn.disconnect()).await;
            return Err(MySqlError::unsupported_server(WHICH_SERVER, why));
        }
        let run = server_run(&mut conn).await?;
        let registered = Connections::of(address, &run).register(conn.id());
        Ok(Self {
            conn,
            registered,
            run,
            product,
            variables: BTreeMap::new(),
            given: BTreeMap::new(),
            lower_case_names: false,
            broken: false,
        })
    }

    /// Whether names of schemas and tables are kept in lower case, however people write them.
    pub fn lower_case_names(&self) -> bool {
        self.lower_case_names
    }

    /// The connection's id, as in the process list.
    pub fn id(&self) -> u32 {
        self.conn.id()
    }

    /// The server's version, e.g. `(9, 7, 4)`: as the server says it, since a proxy may greet with another one.
    pub fn version(&self) -> Version {
        self.product.version
    }

    /// What the server is.
    pub fn product(&self) -> &Product {
        &self.product
    }

    /// Whether a statement was broken off, or [`Session::give_up`] was called: it takes no other.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Takes no statement any more: a transaction is open on it that must not be committed by what someone does next.
    pub fn give_up(&mut self) {
        self.broken = true;
    }

    /// Hands out the driver's connection, and its entry in the list of this process's connections, to be kept as long.
    pub fn into_conn(self) -> (Conn, Registered) {
        (self.conn, self.registered)
    }

    /// Runs a statement, or several separated by semicolons, without looking at results.
    ///
    /// # Errors
    /// The server's refusal, a lost connection, or the limit.
    pub async fn run(&mut self, what: &str, limit: Duration, sql: &str) -> Result<(), MySqlError> {
        tracing::trace!(what, sql);
        whole(&mut self.broken, what, limit, self.conn.query_drop(sql)).await
    }

    /// [`Session::run`], or [`Session::run_as`], for DDL that needs locks of tables which clients use. A request that waits keeps the clients out that
    /// come after it, and may wait for one of these itself, so that neither goes on: it waits for a second at a time, lets them go on, and asks again.
    ///
    /// # Errors
    /// As there; [`codes::LOCK_WAIT_TIMEOUT`] when all of that was in vain.
    pub async fn run_patiently(&mut self, purpose: Option<Purpose<'_>>, what: &str, limit: Duration, sql: &str) -> Result<(), MySqlError> {
        let wait = "SET @theseus_wait=@@SESSION.lock_wait_timeout, SESSION lock_wait_timeout=1";
        self.run("wait for locks for a second", SHORT, wait).await?;
        let end = tokio::time::Instant::now() + LOCKS_PATIENCE;
        let done = loop {
            let done = match purpose {
                Some(purpose) => self.run_as(purpose, what, limit, sql).await,
                None => self.run(what, limit, sql).await,
            };
            match done {
                Err(error) if error.code == codes::LOCK_WAIT_TIMEOUT && tokio::time::Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(100..500))).await;
                }
                done => break done,
            }
        };
        if !self.is_broken() {
            self.run("wait for locks as before", SHORT, "SET SESSION lock_wait_timeout=@theseus_wait").await?;
        }
        done
    }

    /// Runs a statement and tells the rows it changed and the number of warnings.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn write(&mut self, what: &str, limit: Duration, sql: &str) -> Result<Written, MySqlError> {
        self.run(what, limit, sql).await?;
        Ok(Written { rows: self.conn.affected_rows(), warnings: self.conn.get_warnings() })
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn rows<T: FromRow + Send + 'static>(&mut self, what: &str, limit: Duration, sql: &str) -> Result<Vec<T>, MySqlError> {
        tracing::trace!(what, sql);
        let rows: Vec<Row> = whole(&mut self.broken, what, limit, self.conn.query(sql)).await?;
        rows.into_iter()
            .map(|row| {
                mysql_async::from_row_opt(row).map_err(|_| MySqlError::unexpected(what, "a column of the answer has an unexpected type"))
            })
            .collect()
    }

    /// The first row of a query.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn first<T: FromRow + Send + 'static>(&mut self, what: &str, limit: Duration, sql: &str) -> Result<Option<T>, MySqlError> {
        Ok(self.rows(what, limit, sql).await?.into_iter().next())
    }

    /// Runs several statements of which only the last one has rows, and returns its first row.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn last_set<T: FromRow + Send + 'static>(&mut self, what: &str, limit: Duration, sql: &str) -> Result<Option<T>, MySqlError> {
        tracing::trace!(what, sql);
        let conn = &mut self.conn;
        let row: Option<Row> = whole(&mut self.broken, what, limit, async move {
            let mut result = conn.query_iter(sql).await?;
            let mut last = None;
            // One round for each statement; one without rows has an empty set.
            while !result.is_empty() || last.is_none() {
                match result.next().await? {
                    Some(row) => last = Some(row),
                    None if result.is_empty() => break,
                    None => {}
                }
            }
            result.drop_result().await?;
            Ok(last)
        })
        .await?;
        row.map(|row| {
            mysql_async::from_row_opt(row).map_err(|_| MySqlError::unexpected(what, "a column of the answer has an unexpected type"))
        })
        .transpose()
    }

    /// Bound values go through a prepared statement.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn execute(
        &mut self,
        what: &str,
        limit: Duration,
        sql: &str,
        params: Vec<mysql_async::Value>,
    ) -> Result<Written, MySqlError> {
        tracing::trace!(what, sql);
        let params = if params.is_empty() { mysql_async::Params::Empty } else { mysql_async::Params::Positional(params) };
        whole(&mut self.broken, what, limit, self.conn.exec_drop(sql, params)).await?;
        Ok(Written { rows: self.conn.affected_rows(), warnings: self.conn.get_warnings() })
    }

    /// All rows of a query with bound values.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn select<T: FromRow + Send + 'static>(
        &mut self,
        what: &str,
        sql: &str,
        params: Vec<mysql_async::Value>,
    ) -> Result<Vec<T>, MySqlError> {
        tracing::trace!(what, sql);
        let params = if params.is_empty() { mysql_async::Params::Empty } else { mysql_async::Params::Positional(params) };
        let rows: Vec<Row> = whole(&mut self.broken, what, SHORT, self.conn.exec(sql, params)).await?;
        rows.into_iter()
            .map(|row| {
                mysql_async::from_row_opt(row).map_err(|_| MySqlError::unexpected(what, "a column of the answer has an unexpected type"))
            })
            .collect()
    }

    /// Warnings of the last statement: level, code, text without values.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn warnings(&mut self) -> Result<Vec<(String, u16, String)>, MySqlError> {
        let rows: Vec<(String, u16, String)> = self.rows("read warnings", SHORT, "SHOW WARNINGS").await?;
        Ok(rows.into_iter().map(|(level, code, text)| (level, code, super::error::without_values(code, &text))).collect())
    }

    /// Says good-bye; errors do not matter any more.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.conn.disconnect()).await;
    }
}

/// The values of a row; the driver's own way to them panics where one was taken out.
///
/// # Errors
/// One was taken out.
pub fn values_of(what: &str, row: Row) -> Result<Vec<mysql_async::Value>, MySqlError> {
    row.unwrap_raw().into_iter().collect::<Option<_>>().ok_or_else(|| MySqlError::unexpected(what, "a value of a row is gone"))
}

/// A value of a variable, as text.
fn text_of(value: &mysql_async::Value) -> String {
    match value {
        mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        mysql_async::Value::Int(n) => n.to_string(),
        mysql_async::Value::UInt(n) => n.to_string(),
        mysql_async::Value::Float(n) => n.to_string(),
        mysql_async::Value::Double(n) => n.to_string(),
        _ => String::new(),
    }
}

fn refused(name: &str, has: &str, wanted: &str, words: &str) -> MySqlError {
    MySqlError::setting(
        "set the session's variables",
        format!(
            "{name} is {} in sessions of this account; a migration needs {} and could not set it ({words}); SET GLOBAL {name}, remove it from init_connect, or GRANT SESSION_VARIABLES_ADMIN to the account",
            if has.is_empty() { "empty" } else { has },
            if wanted.is_empty() { "empty" } else { wanted },
        ),
    )
}

/// What a writing statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Rows affected, as the server counts.
    pub rows: u64,
    /// Number of warnings.
    pub warnings: u16,
}

async fn within<T>(what: &str, limit: Duration, work: impl Future<Output = Result<T, mysql_async::Error>>) -> Result<T, MySqlError> {
    whole(&mut false, what, limit, work).await
}

/// Lets a statement come to its end, or never again uses the connection: whoever gives up waiting (the limit here, or a caller who drops the
/// future) leaves an answer on its way.
async fn whole<T>(
    broken: &mut bool,
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, mysql_async::Error>>,
) -> Result<T, MySqlError> {
    if *broken {
        return Err(MySqlError::connection(what, "an earlier statement or transaction on this connection was interrupted"));
    }
    *broken = true;
    let result = tokio::time::timeout(limit, work).await;
    // The server's refusal is a whole answer, too.
    *broken = !matches!(result, Ok(Ok(_) | Err(mysql_async::Error::Server(_))));
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(MySqlError::new(what, &error)),
        Err(_) => Err(MySqlError::timeout(what, limit)),
    }
}

const WHICH_SERVER: &str = "check which server answers";

/// What a server is, whether or not a migration can run on it: the settings of our sessions are not known to each.
///
/// # Errors
/// Unreachable, refused, TLS not as asked for.
pub async fn product(address: &ServerAddress) -> Result<Product, MySqlError> {
    let mut conn = connect(address).await?;
    let product = product_of(&mut conn).await?;
    let _ = tokio::time::timeout(Duration::from_secs(1), conn.disconnect()).await;
    Ok(product)
}

async fn product_of(conn: &mut Conn) -> Result<Product, MySqlError> {
    let row: Option<(String, String)> =
        within(WHICH_SERVER, SHORT, conn.query_first("SELECT @@version, @@version_comment LIMIT 1")).await?;
    let (version, comment) = row.ok_or_else(|| MySqlError::unexpected(WHICH_SERVER, "no answer"))?;
    Ok(Product::new(&version, &comment))
}

async fn server_run(conn: &mut Conn) -> Result<ServerRun, MySqlError> {
    let what = WHICH_SERVER;
    // The answer must not depend on chance: a session that was cut off would be one at another run of the server, and its transactions someone
    // else's. Nor on a clock that init_connect has stopped.
    within(what, SHORT, conn.query_drop("SET SESSION max_execution_time=0, timestamp=DEFAULT")).await?;
    // Both terms have the statement's own second, so the difference is exact. The table may be read by everybody. A limit of its own
    // stands above sql_select_limit, which is the server's still: a look without a row would be one at another server.
    let sql = "SELECT @@server_uuid, (SELECT UNIX_TIMESTAMP() - CAST(VARIABLE_VALUE AS UNSIGNED) FROM performance_schema.global_status \
               WHERE VARIABLE_NAME = 'Uptime') LIMIT 1";
    let row: Option<Row> = match within(what, SHORT, conn.query_first(sql)).await {
        Err(error) if error.is_transient() => return Err(error),
        // Somebody has taken the right to read the performance schema away.
        Err(_) => match within(what, SHORT, conn.query_first("SELECT @@server_uuid, NULL LIMIT 1")).await {
            Err(error) if error.is_connection() => return Err(error),
            Err(_) => None,
            Ok(row) => row,
        },
        Ok(row) => row,
    };
    Ok(row.map_or_else(ServerRun::default, |row| ServerRun {
        uuid: row.get_opt(0).and_then(Result::ok).unwrap_or_default(),
        started: row.get_opt(1).and_then(Result::ok).unwrap_or_default(),
    }))
}

async fn connect(address: &ServerAddress) -> Result<Conn, MySqlError> {
    let what = "connect";
    let log_in = |ssl: Option<SslOpts>| {
        let opts = Opts::from(options(address, ssl));
        within(what, CONNECT_LIMIT, async move { Conn::new(opts).await })
    };
    match (address.tls.mode, ssl_options(&address.tls)) {
        (TlsMode::Disabled, _) => log_in(None).await,
        (TlsMode::Preferred, ssl) => {
            // "Preferred" falls back only when the server offers no TLS, never when the handshake failed.
            let opts = Opts::from(options(address, Some(ssl)));
            match tokio::time::timeout(CONNECT_LIMIT, Conn::new(opts)).await {
                Ok(Ok(conn)) => Ok(conn),
                Ok(Err(mysql_async::Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer))) => log_in(None).await,
                Ok(Err(error)) => Err(MySqlError::new(what, &error)),
                Err(_) => Err(MySqlError::timeout(what, CONNECT_LIMIT)),
            }
        }
        (_, ssl) => log_in(Some(ssl)).await,
    }
}

fn ssl_options(tls: &Tls) -> SslOpts {
    let mut ssl = SslOpts::default();
    if let Some(ca) = &tls.ca_pem {
        ssl = ssl.with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true);
    }
    if let Some((certificate, key)) = &tls.client_identity {
        ssl = ssl.with_client_identity(Some(ClientIdentity::new(certificate.clone().into(), key.clone().into())));
    }
    match tls.mode {
        TlsMode::Disabled | TlsMode::Preferred | TlsMode::Required => {
            ssl.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true)
        }
        TlsMode::VerifyCa => ssl.with_danger_skip_domain_validation(true),
        TlsMode::VerifyIdentity => ssl,
    }
}

fn options(address: &ServerAddress, ssl: Option<SslOpts>) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname(address.host.clone())
        .tcp_port(address.port)
        .user(Some(address.username.clone()))
        .pass(Some(address.password.clone()))
        .ssl_opts(ssl)
        .prefer_socket(Some(false))
        // The driver would ask the server for these two; the values are the protocol's largest packet and our own wait_timeout.
        .max_allowed_packet(Some(1 << 30))
        .wait_timeout(Some(600))
        .tcp_keepalive(Some(Duration::from_secs(20)))
        .tcp_nodelay(true)
        .connect_attribute("program_name", "theseus")
}

/// A connection that a quiet table leaves idle must not run into `wait_timeout` (600 s, see the session's settings).
pub const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(60);

/// Streams register with a random server id from here upwards, so that they meet neither a real server's id nor each other's.
pub const FIRST_SERVER_ID: u64 = 1 << 31;
