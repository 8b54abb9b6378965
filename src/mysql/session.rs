//! One connection with fixed settings. Statements have a name (for errors and logs) and a limit.

use super::error::MySqlError;
use super::own::{Connections, Registered, ServerRun};
use super::versions::{Product, Version};
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{ClientIdentity, Conn, Opts, OptsBuilder, Row, SslOpts};
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
    /// The mode.
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

/// The settings of every session, and why:
/// * READ COMMITTED: INSERT … SELECT reads without locks (InnoDB, "Locks Set by Different SQL Statements"), each statement its own snapshot;
/// * UTC, so TIMESTAMP values pass unchanged on both sides;
/// * strict, so a value that does not fit is an error and never silently another value; NO_AUTO_VALUE_ON_ZERO, so a stored 0 stays 0;
///   no NO_ZERO_DATE, so that zero dates that are stored already can be copied;
/// * utf8mb4, the charset of our literals;
/// * no limit on the range optimizer's memory: a long IN list must never fall back to a table scan;
/// * `sql_auto_is_null` off and the like are defaults since 8.0.
pub const SESSION_SETTINGS: &str = "SET SESSION transaction_isolation='READ-COMMITTED', time_zone='+00:00', \
     sql_mode='STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO', lock_wait_timeout=5, innodb_lock_wait_timeout=5, \
     range_optimizer_max_mem_size=0, foreign_key_checks=1, unique_checks=1, wait_timeout=600, net_read_timeout=60, net_write_timeout=60, \
     information_schema_stats_expiry=0";

/// What [`ServerAddress::unlogged`] adds; needs SESSION_VARIABLES_ADMIN (manual, `sql_log_bin`).
pub const UNLOGGED: &str = "SET SESSION sql_log_bin=0";

/// How long connecting and logging in may take.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long a short statement (metadata, state, barrier) may take.
pub const SHORT: Duration = Duration::from_secs(15);
/// How long a statement that moves rows or builds indexes may take before the connection counts as lost.
pub const LONG: Duration = Duration::from_secs(24 * 3600);

/// A logged-in connection.
pub struct Session {
    conn: Conn,
    registered: Registered,
    run: ServerRun,
    product: Product,
}

impl Session {
    /// Connects and applies [`SESSION_SETTINGS`].
    ///
    /// # Errors
    /// Unreachable, refused, TLS not as asked for, or a server that lacks one of the settings.
    pub async fn open(address: &ServerAddress) -> Result<Self, MySqlError> {
        let mut session = Self::open_raw(address).await?;
        session.run("apply the session's settings", SHORT, SESSION_SETTINGS).await?;
        if address.unlogged {
            session.run("leave the session's writes out of the binary log", SHORT, UNLOGGED).await?;
        }
        Ok(session)
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

    /// Whether it is on the server with this `server_uuid`. Servers that do not tell theirs are not told apart.
    ///
    /// # Errors
    /// Another server answered (transient).
    pub fn check_server(&self, uuid: &str) -> Result<(), MySqlError> {
        if uuid.is_empty() || self.run.uuid == uuid {
            return Ok(());
        }
        Err(MySqlError::connection(
            "see which server answers",
            &format!("the address leads to another server now ({}) than for the other connections ({uuid})", self.run.uuid),
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
        Ok(Self { conn, registered, run, product })
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

    /// Hands out the driver's connection, and its entry in the list of this process's connections, to be kept as long.
    pub fn into_conn(self) -> (Conn, Registered) {
        (self.conn, self.registered)
    }

    /// Runs a statement, or several divided by semicolons, without looking at results.
    ///
    /// # Errors
    /// The server's refusal, a lost connection, or the limit.
    pub async fn run(&mut self, what: &str, limit: Duration, sql: &str) -> Result<(), MySqlError> {
        tracing::trace!(what, sql);
        within(what, limit, self.conn.query_drop(sql)).await
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
        let rows: Vec<Row> = within(what, limit, self.conn.query(sql)).await?;
        rows.into_iter()
            .map(|row| mysql_async::from_row_opt(row).map_err(|_| MySqlError::unexpected(what, "a column of the answer has another type")))
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
        let row: Option<Row> = within(what, limit, async move {
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
        row.map(|row| mysql_async::from_row_opt(row).map_err(|_| MySqlError::unexpected(what, "a column of the answer has another type")))
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
        within(what, limit, self.conn.exec_drop(sql, params)).await?;
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
        let rows: Vec<Row> = within(what, SHORT, self.conn.exec(sql, params)).await?;
        rows.into_iter()
            .map(|row| mysql_async::from_row_opt(row).map_err(|_| MySqlError::unexpected(what, "a column of the answer has another type")))
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

/// What a writing statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Rows affected, as the server counts.
    pub rows: u64,
    /// Number of warnings.
    pub warnings: u16,
}

async fn within<T>(what: &str, limit: Duration, work: impl Future<Output = Result<T, mysql_async::Error>>) -> Result<T, MySqlError> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(MySqlError::new(what, &error)),
        Err(_) => Err(MySqlError::timeout(what, limit)),
    }
}

const WHICH_SERVER: &str = "see which server answers";

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
    let row: Option<(String, String)> = within(WHICH_SERVER, SHORT, conn.query_first("SELECT @@version, @@version_comment")).await?;
    let (version, comment) = row.ok_or_else(|| MySqlError::unexpected(WHICH_SERVER, "no answer"))?;
    Ok(Product::new(&version, &comment))
}

async fn server_run(conn: &mut Conn) -> Result<ServerRun, MySqlError> {
    let what = WHICH_SERVER;
    // Both terms have the statement's own second, so the difference is exact. The table may be read by everybody.
    let sql = "SELECT @@server_uuid, (SELECT UNIX_TIMESTAMP() - CAST(VARIABLE_VALUE AS UNSIGNED) FROM performance_schema.global_status \
               WHERE VARIABLE_NAME = 'Uptime')";
    let row: Option<Row> = match within(what, SHORT, conn.query_first(sql)).await {
        Err(error) if error.is_connection() => return Err(error),
        // Somebody has taken the right to read the performance schema away.
        Err(_) => None,
        Ok(row) => row,
    };
    Ok(row.map_or_else(ServerRun::default, |row| ServerRun {
        uuid: row.get_opt(0).and_then(Result::ok).unwrap_or_default(),
        started: row.get_opt(1).and_then(Result::ok).unwrap_or_default(),
    }))
}

async fn connect(address: &ServerAddress) -> Result<Conn, MySqlError> {
    let what = "connect";
    let attempt = |ssl: Option<SslOpts>| {
        let opts = Opts::from(options(address, ssl));
        within(what, CONNECT_LIMIT, async move { Conn::new(opts).await })
    };
    match (address.tls.mode, ssl_options(&address.tls)) {
        (TlsMode::Disabled, _) => attempt(None).await,
        (TlsMode::Preferred, ssl) => {
            // "Preferred" falls back only when the server offers no TLS, never when the handshake failed.
            let opts = Opts::from(options(address, Some(ssl)));
            match tokio::time::timeout(CONNECT_LIMIT, Conn::new(opts)).await {
                Ok(Ok(conn)) => Ok(conn),
                Ok(Err(mysql_async::Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer))) => attempt(None).await,
                Ok(Err(error)) => Err(MySqlError::new(what, &error)),
                Err(_) => Err(MySqlError::timeout(what, CONNECT_LIMIT)),
            }
        }
        (_, ssl) => attempt(Some(ssl)).await,
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
