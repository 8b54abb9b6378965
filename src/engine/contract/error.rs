//! The engine's one error: a documented reason, a class, and a sentence for people.

use super::reason::Reason;
use crate::mysql::error::UNSUPPORTED_SERVER;
use crate::mysql::{Class, MySqlError};

/// An error that ends or delays a migration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// From the documented enum.
    pub reason: Reason,
    /// Whether a retry may cure it.
    pub class: Class,
    /// What, where, what is left behind, what to do.
    pub message: String,
}

impl EngineError {
    /// An error that no retry cures.
    pub fn terminal(reason: Reason, message: &str) -> Self {
        Self { reason, class: Class::Terminal, message: message.to_owned() }
    }

    /// An error that the next attempt may not meet.
    pub fn transient(reason: Reason, message: &str) -> Self {
        Self { reason, class: Class::Transient, message: message.to_owned() }
    }

    /// A broken invariant.
    pub fn internal(message: &str) -> Self {
        Self::terminal(Reason::Internal, &format!("{message}; this is a bug in theseus, please report it with the log"))
    }

    /// With more words: what is left behind, what to do.
    #[must_use]
    pub fn and(mut self, words: &str) -> Self {
        self.message.push_str(words);
        self
    }

    /// Whether a retry may cure it.
    pub fn is_transient(&self) -> bool {
        self.class != Class::Terminal
    }
}

impl From<MySqlError> for EngineError {
    fn from(error: MySqlError) -> Self {
        let reason = reason_of(&error);
        let access = advice_on_access(&error);
        let advice = match reason {
            _ if !access.is_empty() => access,
            // Whoever makes room at that moment should not find it taken again.
            Reason::DiskFull => {
                ". The original table is untouched; any ghost and state tables are kept: free disk space and retry, or delete the migration, which frees the space they use"
            }
            _ => "",
        };
        // A wrong password does not become right by trying, but a Secret may be about to change: the front end decides; here it is final.
        Self { reason, class: error.class, message: format!("{error}{advice}") }
    }
}

/// What to do where the server keeps the account out, or takes a session away from it.
fn advice_on_access(error: &MySqlError) -> &'static str {
    let of_resource = |name: &str| error.message.contains(name);
    match error.code {
        1040 => "; the server has no free connection (max_connections): retrying; raise max_connections if this persists",
        1184 if error.message.contains("init_connect") => {
            "; init_connect fails for this account: fix it (SET GLOBAL init_connect), or GRANT CONNECTION_ADMIN ON *.* TO the account, whose sessions then skip it"
        }
        1203 => "; a copy needs 11 concurrent sessions: raise the server's max_user_connections",
        1226 if of_resource("max_user_connections") => {
            "; a copy needs 11 concurrent sessions: ALTER USER … WITH MAX_USER_CONNECTIONS, 0 for no limit"
        }
        1226 if of_resource("max_questions") => "; lift the limit: ALTER USER … WITH MAX_QUERIES_PER_HOUR 0",
        1226 if of_resource("max_updates") => "; lift the limit: ALTER USER … WITH MAX_UPDATES_PER_HOUR 0",
        1226 if of_resource("max_connections_per_hour") => "; lift the limit: ALTER USER … WITH MAX_CONNECTIONS_PER_HOUR 0",
        1251 => "; ALTER USER … IDENTIFIED WITH caching_sha2_password BY …",
        1820 | 1862 => "; set a new password (ALTER USER … IDENTIFIED BY …) and update the Secret",
        3118 => "; unlock it with ALTER USER … ACCOUNT UNLOCK",
        3159 => "; set tls.mode to Required or stricter",
        _ => "",
    }
}

/// The documented reason of a server's error number.
pub fn reason_of(error: &MySqlError) -> Reason {
    match error.code {
        0 if error.class == Class::Terminal => Reason::ServerError,
        0 if error.message.contains("TLS") || error.message.contains("certificate") => Reason::TlsFailed,
        0 => Reason::ConnectionFailed,
        // Access denied for user / to database / no password / account locked / expired / authentication method not supported.
        1045 | 1251 | 1698 | 1820 | 1862 | 3118 | 3878 => Reason::AccessDenied,
        1044 | 1142 | 1143 | 1227 | 1370 | 3955 => Reason::MissingPrivilege,
        1049 | 1146 => Reason::TableNotFound,
        // Connections using insecure transport are prohibited.
        3159 => Reason::TlsFailed,
        1290 | 1836 | 3100 => Reason::ReadOnly,
        1040 | 1053 | 1203 | 1226 | 3032 | 3169 => Reason::ConnectionFailed,
        1062 | 1586 => Reason::DuplicateKey,
        // Data too long, out of range, incorrect value, NULL in NOT NULL, invalid JSON/GIS, CHECK violated, no partition, invalid default.
        1048 | 1138 | 1264 | 1265 | 1292 | 1364 | 1365 | 1366 | 1367 | 1406 | 1411 | 1416 | 1441 | 1525 | 1526 | 1690 | 1748 | 3140
        | 3141 | 3144 | 3155 | 3156 | 3819 | 3854 | 6136 => Reason::DataDoesNotFit,
        1184 if error.message.contains("init_connect") => Reason::ServerNotSupported,
        // Unknown system variable, wrong value or type for one, one that has no value for a session.
        1193 | 1231 | 1232 | 1238 => Reason::ServerNotSupported,
        // Disk full, the table is full.
        1021 | 1114 => Reason::DiskFull,
        1235 | 1845 | 1846 => Reason::AlgorithmNotSupported,
        UNSUPPORTED_SERVER => Reason::ServerNotSupported,
        // A text of the clauses has characters that the connection's character set lacks.
        1300 => Reason::AlterRejected,
        _ if error.class != Class::Terminal => Reason::StatementInterrupted,
        _ => Reason::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::error::TRANSIENT;

    /// `ServerError` says that no retry cures it; what is retried has another reason.
    #[test]
    fn what_is_retried_has_no_final_reason() {
        for code in TRANSIENT {
            let error =
                MySqlError { what: "copy a chunk".into(), code: *code, message: String::new(), class: Class::Transient, index: None };
            assert_ne!(reason_of(&error), Reason::ServerError, "{code}");
        }
    }
}
