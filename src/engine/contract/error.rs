//! The engine's one error: a documented reason, a class, and a sentence for people.

use crate::engine::contract::reason::Reason;
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
        let advice = match reason {
            // Whoever makes room at that moment should not find it taken again.
            Reason::DiskFull => {
                ". The original table is untouched; what there is of the ghost and state tables is kept: make room and retry, or delete the \
                 migration, which gives back what they take"
            }
            _ => "",
        };
        // A wrong password does not become right by trying, but a Secret may be about to change: the front end decides; here it is final.
        Self { reason, class: error.class, message: format!("{error}{advice}") }
    }
}

/// The documented reason of a server's error number.
pub fn reason_of(error: &MySqlError) -> Reason {
    match error.code {
        0 if error.class == Class::Terminal => Reason::ServerError,
        0 if error.message.contains("TLS") || error.message.contains("certificate") => Reason::TlsFailed,
        0 => Reason::ConnectionFailed,
        // Access denied for user / to database / no password / account locked / expired / authentication method not supported.
        1045 | 1251 | 1698 | 3118 | 1862 | 3878 => Reason::AccessDenied,
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
