//! The engine's one error: a documented reason, a class, and a sentence for people.

use super::reason::{Passes, Reason};
use crate::mysql::{Class, MySqlError, codes};

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
    /// The server's or the driver's error that it comes from, with its number.
    #[source]
    pub source: Option<Box<MySqlError>>,
}

impl EngineError {
    /// An error that no retry cures.
    pub fn terminal(reason: Reason, message: &str) -> Self {
        Self { reason, class: Class::Terminal, message: message.to_owned(), source: None }
    }

    /// An error that the next attempt may not meet. Its reason must be one that passes ([`Reason::passes`]): who looks up a word that stands
    /// beside "retrying" must not read that it is final.
    pub fn transient(reason: Reason, message: &str) -> Self {
        debug_assert!(reason.passes() != Passes::Never, "{reason} is retried: {message}");
        Self { reason, class: Class::Transient, message: message.to_owned(), source: None }
    }

    /// The server's error under a reason and in words that say more than its own. What passes by itself stays so, under its own reason.
    pub fn of_server(error: &MySqlError, reason: Reason, message: &str) -> Self {
        let reason = if error.is_transient() { reason_of(error) } else { reason };
        Self { reason, class: error.class, message: message.to_owned(), source: Some(Box::new(error.clone())) }
    }

    /// The number of the server's error that it comes from; 0 where there was none.
    pub fn code(&self) -> u16 {
        self.source.as_ref().map_or(0, |error| error.code)
    }

    /// A broken invariant.
    pub fn internal(message: &str) -> Self {
        Self::terminal(Reason::Internal, &format!("{message}; this is a bug in Theseus, please report it with the log"))
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
        Self { reason, class: error.class, message: format!("{error}{advice}"), source: Some(Box::new(error)) }
    }
}

/// What to do where the server keeps the account out, or takes a session away from it.
fn advice_on_access(error: &MySqlError) -> &'static str {
    let of_resource = |name: &str| error.message.contains(name);
    match error.code {
        codes::CON_COUNT_ERROR => "; the server has no free connection (max_connections): retrying; raise max_connections if this persists",
        codes::NEW_ABORTING_CONNECTION if error.message.contains("init_connect") => {
            "; init_connect fails for this account: fix it (SET GLOBAL init_connect), or GRANT CONNECTION_ADMIN ON *.* TO the account, whose sessions then skip it"
        }
        codes::TOO_MANY_USER_CONNECTIONS => "; a copy needs 11 concurrent sessions: raise the server's max_user_connections",
        codes::USER_LIMIT_REACHED if of_resource("max_user_connections") => {
            "; a copy needs 11 concurrent sessions: ALTER USER … WITH MAX_USER_CONNECTIONS, 0 for no limit"
        }
        codes::USER_LIMIT_REACHED if of_resource("max_questions") => "; lift the limit: ALTER USER … WITH MAX_QUERIES_PER_HOUR 0",
        codes::USER_LIMIT_REACHED if of_resource("max_updates") => "; lift the limit: ALTER USER … WITH MAX_UPDATES_PER_HOUR 0",
        codes::USER_LIMIT_REACHED if of_resource("max_connections_per_hour") => {
            "; lift the limit: ALTER USER … WITH MAX_CONNECTIONS_PER_HOUR 0"
        }
        codes::NOT_SUPPORTED_AUTH_MODE => "; ALTER USER … IDENTIFIED WITH caching_sha2_password BY …",
        codes::MUST_CHANGE_PASSWORD | codes::MUST_CHANGE_PASSWORD_LOGIN => {
            "; set a new password (ALTER USER … IDENTIFIED BY …) and update the Secret"
        }
        codes::ACCOUNT_HAS_BEEN_LOCKED => "; unlock it with ALTER USER … ACCOUNT UNLOCK",
        codes::SECURE_TRANSPORT_REQUIRED => "; set tls.mode to Required or stricter",
        _ => "",
    }
}

/// The documented reason of a server's error number.
pub fn reason_of(error: &MySqlError) -> Reason {
    match error.code {
        0 if error.class == Class::Terminal => Reason::ServerError,
        0 => Reason::ConnectionFailed,
        codes::ACCESS_DENIED_ERROR
        | codes::NOT_SUPPORTED_AUTH_MODE
        | codes::ACCESS_DENIED_NO_PASSWORD_ERROR
        | codes::MUST_CHANGE_PASSWORD
        | codes::MUST_CHANGE_PASSWORD_LOGIN
        | codes::ACCOUNT_HAS_BEEN_LOCKED
        | codes::USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK => Reason::AccessDenied,
        codes::DBACCESS_DENIED_ERROR
        | codes::TABLEACCESS_DENIED_ERROR
        | codes::COLUMNACCESS_DENIED_ERROR
        | codes::SPECIFIC_ACCESS_DENIED_ERROR
        | codes::PROCACCESS_DENIED_ERROR => Reason::MissingPrivilege,
        codes::BAD_DB_ERROR | codes::NO_SUCH_TABLE => Reason::TableNotFound,
        codes::SECURE_TRANSPORT_REQUIRED | codes::SSL_CONNECTION_ERROR => Reason::TlsFailed,
        codes::OPTION_PREVENTS_STATEMENT | codes::READ_ONLY_MODE | codes::RUN_HOOK_ERROR => Reason::ReadOnly,
        codes::CON_COUNT_ERROR
        | codes::SERVER_SHUTDOWN
        | codes::TOO_MANY_USER_CONNECTIONS
        | codes::USER_LIMIT_REACHED
        | codes::SERVER_OFFLINE_MODE
        | codes::SESSION_WAS_KILLED => Reason::ConnectionFailed,
        codes::DUP_ENTRY | codes::DUP_ENTRY_WITH_KEY_NAME => Reason::DuplicateKey,
        codes::BAD_NULL_ERROR
        | codes::NO_REFERENCED_ROW
        | codes::NO_REFERENCED_ROW_2
        | codes::INVALID_USE_OF_NULL
        | codes::WARN_DATA_OUT_OF_RANGE
        | codes::DATA_TRUNCATED
        | codes::TRUNCATED_WRONG_VALUE
        | codes::NO_DEFAULT_FOR_FIELD
        | codes::DIVISION_BY_ZERO
        | codes::TRUNCATED_WRONG_VALUE_FOR_FIELD
        | codes::ILLEGAL_VALUE_FOR_TYPE
        | codes::DATA_TOO_LONG
        | codes::WRONG_VALUE_FOR_TYPE
        | codes::CANT_CREATE_GEOMETRY_OBJECT
        | codes::DATETIME_FUNCTION_OVERFLOW
        | codes::WRONG_VALUE
        | codes::NO_PARTITION_FOR_GIVEN_VALUE
        | codes::DATA_OUT_OF_RANGE
        | codes::ROW_DOES_NOT_MATCH_GIVEN_PARTITION_SET
        | codes::INVALID_JSON_TEXT
        | codes::INVALID_JSON_TEXT_IN_PARAM
        | codes::INVALID_JSON_CHARSET
        | codes::NUMERIC_JSON_VALUE_OUT_OF_RANGE
        | codes::INVALID_JSON_VALUE_FOR_CAST
        | codes::CHECK_CONSTRAINT_VIOLATED
        | codes::CANNOT_CONVERT_STRING
        | codes::DATA_INCOMPATIBLE_WITH_VECTOR => Reason::DataDoesNotFit,
        codes::NEW_ABORTING_CONNECTION if error.message.contains("init_connect") => Reason::ServerNotSupported,
        codes::UNKNOWN_SYSTEM_VARIABLE
        | codes::WRONG_VALUE_FOR_VAR
        | codes::WRONG_TYPE_FOR_VAR
        | codes::INCORRECT_GLOBAL_LOCAL_VAR
        | codes::UNSUPPORTED_SERVER => Reason::ServerNotSupported,
        codes::DISK_FULL | codes::RECORD_FILE_FULL => Reason::DiskFull,
        codes::NOT_SUPPORTED_YET | codes::ALTER_OPERATION_NOT_SUPPORTED | codes::ALTER_OPERATION_NOT_SUPPORTED_REASON => {
            Reason::AlgorithmNotSupported
        }
        // A text of the clauses has characters that the connection's character set lacks.
        codes::INVALID_CHARACTER_STRING => Reason::AlterRejected,
        _ if error.is_transient() => Reason::StatementInterrupted,
        _ => Reason::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::error::TRANSIENT;

    fn error(code: u16, class: Class) -> MySqlError {
        MySqlError { what: "copy a chunk".into(), code, message: String::new(), class, index: None }
    }

    /// What is retried has a reason that passes, and what is final one that does not, but where the front end starts another engine.
    #[test]
    fn class_and_reason_of_each_number_agree() {
        for code in TRANSIENT {
            let reason = reason_of(&error(*code, Class::Transient));
            assert_ne!(reason.passes(), Passes::Never, "{code} is retried as {reason}");
        }
        for (name, code) in codes::ALL.iter().filter(|(_, code)| !TRANSIENT.contains(code)) {
            let reason = reason_of(&error(*code, Class::Terminal));
            assert_ne!(reason.passes(), Passes::ByItself, "{name} is final as {reason}");
        }
        for code in [0, codes::SSL_CONNECTION_ERROR] {
            assert_eq!(reason_of(&error(code, Class::Transient)).passes(), Passes::ByItself);
        }
        assert_eq!(reason_of(&error(0, Class::Terminal)), Reason::ServerError);
    }

    #[test]
    fn an_error_keeps_its_cause() {
        use std::error::Error as _;
        let refused = error(codes::DATA_TOO_LONG, Class::Terminal);
        let kept = EngineError::from(refused.clone()).and(". The original is untouched");
        assert_eq!((kept.code(), kept.reason), (codes::DATA_TOO_LONG, Reason::DataDoesNotFit));
        assert_eq!(kept.source().map(ToString::to_string), Some(refused.to_string()));
        let worded = EngineError::of_server(&refused, Reason::AlterRejected, "the server refuses the ALTER");
        assert_eq!((worded.code(), worded.reason, worded.is_transient()), (codes::DATA_TOO_LONG, Reason::AlterRejected, false));
        // What passes is no refusal, whatever it was asked for.
        let passing = EngineError::of_server(&error(codes::SERVER_SHUTDOWN, Class::Transient), Reason::AlterRejected, "x");
        assert_eq!((passing.reason, passing.is_transient()), (Reason::ConnectionFailed, true));
        assert_eq!(EngineError::internal("x").code(), 0);
    }
}
