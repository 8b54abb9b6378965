//! What a server is: version, flavour, log settings. Read once for each connection attempt.

use super::error::MySqlError;
use super::gtid::GtidSet;
use super::position::BinlogPosition;
use super::session::{SHORT, Session};
use super::versions::{BINARY_LOG_STATUS, Flavour, Product, REPLICA_VARIABLES, Version};

/// Settings that matter to a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// E.g. `9.7.4`.
    pub version_text: String,
    /// E.g. `(9, 7, 4)`.
    pub version: Version,
    /// Who made it.
    pub flavour: Flavour,
    /// `server_uuid`.
    pub uuid: String,
    /// `log_bin`.
    pub log_bin: bool,
    /// `binlog_format`: `ROW`, `MIXED`, `STATEMENT`.
    pub binlog_format: String,
    /// `binlog_row_image`: `FULL`, `MINIMAL`, `NOBLOB`.
    pub binlog_row_image: String,
    /// `gtid_mode` is `ON`.
    pub gtid: bool,
    /// `binlog_order_commits`.
    pub order_commits: bool,
    /// `read_only` or `super_read_only`.
    pub read_only: bool,
    /// `super_read_only`: nobody can write, whatever the account.
    pub super_read_only: bool,
    /// `log_replica_updates`: what a replica applies is in its own binary log.
    pub log_replica_updates: bool,
    /// `lower_case_table_names`.
    pub lower_case_table_names: u8,
    /// `max_allowed_packet` in bytes.
    pub max_allowed_packet: u64,
}

impl ServerFacts {
    /// Asks the server.
    ///
    /// # Errors
    /// The server's refusal or a lost connection.
    pub async fn read(session: &mut Session) -> Result<Self, MySqlError> {
        let what = "read the server's settings";
        // Renamed in 8.0.26.
        let updates = if REPLICA_VARIABLES.of(session.version()) { "log_replica_updates" } else { "log_slave_updates" };
        let (log_bin, binlog_format, read_only, lower_case_table_names, max_allowed_packet): (u8, String, u8, u8, u64) = session
            .first(
                what,
                SHORT,
                "SELECT @@log_bin, @@global.binlog_format, @@global.read_only, @@lower_case_table_names, @@max_allowed_packet",
            )
            .await?
            .ok_or_else(|| MySqlError::unexpected(what, "no answer"))?;
        let sql = format!(
            "SELECT @@server_uuid, @@global.binlog_row_image, @@global.gtid_mode, @@global.binlog_order_commits, \
             @@global.super_read_only, @@global.{updates}"
        );
        let (uuid, binlog_row_image, gtid_mode, order_commits, super_read_only, log_replica_updates): (String, String, String, u8, u8, u8) =
            session.first(what, SHORT, &sql).await?.ok_or_else(|| MySqlError::unexpected(what, "no answer"))?;
        Ok(Self {
            version: session.version(),
            version_text: session.product().text.clone(),
            flavour: session.product().flavour,
            uuid,
            log_bin: log_bin != 0,
            binlog_format,
            binlog_row_image,
            gtid: gtid_mode == "ON",
            order_commits: order_commits != 0,
            read_only: read_only != 0,
            super_read_only: super_read_only != 0,
            log_replica_updates: log_replica_updates != 0,
            lower_case_table_names,
            max_allowed_packet,
        })
    }

    /// `@@server_id`, which the events of transactions that began on this server carry.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn server_id(session: &mut Session) -> Result<u32, MySqlError> {
        let what = "read the server's id";
        session.first(what, SHORT, "SELECT @@server_id").await?.ok_or_else(|| MySqlError::unexpected(what, "no answer"))
    }

    /// The statement that tells the end of the binary log and its filters. Renamed in 8.2, the old name removed in 8.4.
    fn show_log_status(&self) -> &'static str {
        if BINARY_LOG_STATUS.of(self.version) { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }
    }

    /// What the server is.
    pub fn product(&self) -> Product {
        Product { flavour: self.flavour, version: self.version, text: self.version_text.clone() }
    }

    /// Whether changes of a database are logged: `binlog-do-db` and `binlog-ignore-db` leave others out.
    ///
    /// # Errors
    /// The account lacks REPLICATION CLIENT, or the connection was lost.
    pub async fn logs_database(&self, session: &mut Session, database: &str) -> Result<bool, MySqlError> {
        let what = "read the filters of the binary log";
        let sql = self.show_log_status();
        let row: Option<mysql_async::Row> = session.first(what, SHORT, sql).await?;
        let listed = |at: usize| row.as_ref().and_then(|r| r.get::<Option<String>, _>(at).flatten()).unwrap_or_default();
        let (only, never) = (listed(2), listed(3));
        let names = |list: &str| list.split(',').any(|name| name.trim() == database);
        Ok((only.is_empty() || names(&only)) && !names(&never))
    }

    /// The end of the binary log, and the GTIDs executed.
    ///
    /// # Errors
    /// The account lacks REPLICATION CLIENT, or the connection was lost.
    pub async fn log_end(&self, session: &mut Session) -> Result<(BinlogPosition, GtidSet), MySqlError> {
        let what = "read the end of the binary log";
        let sql = self.show_log_status();
        let row: mysql_async::Row =
            session.first(what, SHORT, sql).await?.ok_or_else(|| MySqlError::unexpected(what, "the server reports no binary log"))?;
        let file: Option<String> = row.get(0);
        let offset: Option<u64> = row.get(1);
        let gtids: Option<Option<String>> = row.get(4);
        match (file, offset) {
            (Some(file), Some(offset)) => {
                // A set that cannot be read is not an empty one.
                let gtids = gtids.flatten().unwrap_or_default();
                let gtids = GtidSet::parse(&gtids).ok_or_else(|| MySqlError::unexpected(what, "the executed GTIDs are not readable"))?;
                Ok((BinlogPosition { file, offset }, gtids))
            }
            _ => Err(MySqlError::unexpected(what, "the answer has an unexpected shape")),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A server on which everything is as it should be.
    pub(crate) fn good_server() -> ServerFacts {
        ServerFacts {
            version_text: "9.7.4".into(),
            version: (9, 7, 4),
            flavour: Flavour::MySql,
            uuid: String::new(),
            log_bin: true,
            binlog_format: "ROW".into(),
            binlog_row_image: "FULL".into(),
            gtid: true,
            order_commits: true,
            read_only: false,
            super_read_only: false,
            log_replica_updates: true,
            lower_case_table_names: 0,
            max_allowed_packet: 64 << 20,
        }
    }
}
