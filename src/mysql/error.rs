//! Errors of the server and the driver, with a class and without row values.

use thiserror::Error;

/// What a caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try again: deadlock, lock wait time-out, lost connection, server shutting down.
    Transient,
    /// The same statement will fail again.
    Terminal,
    /// The connection was lost while a statement was under way: it may have taken effect.
    Ambiguous,
}

/// An error of one statement or connection attempt.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: {message}")]
pub struct MySqlError {
    /// What was being done, e.g. `copy a chunk`.
    pub what: String,
    /// The server's error number; 0 for errors of the connection.
    pub code: u16,
    /// The server's words without the values in them.
    pub message: String,
    /// What a caller may do about it.
    pub class: Class,
    /// For [`DUPLICATE_ENTRY`]: the name of the index, without the table.
    pub index: Option<String>,
}

/// ER_DUP_ENTRY
pub const DUPLICATE_ENTRY: u16 = 1062;
/// ER_DUP_ENTRY_WITH_KEY_NAME
pub const DUPLICATE_ENTRY_WITH_KEY_NAME: u16 = 1586;
/// ER_LOCK_WAIT_TIMEOUT
pub const LOCK_WAIT_TIMEOUT: u16 = 1205;
/// ER_LOCK_DEADLOCK
pub const DEADLOCK: u16 = 1213;
/// ER_QUERY_INTERRUPTED
pub const QUERY_INTERRUPTED: u16 = 1317;
/// ER_BINLOG_FATAL_ERROR: also "could not find first log file name in binary log index file" and purged GTIDs.
pub const BINLOG_FATAL: u16 = 1236;

/// ER_NOT_SUPPORTED_AUTH_MODE: the client lacks the method of authentication that the server asks for.
pub const AUTH_METHOD: u16 = 1251;

/// Server errors that a retry may cure. Source: MySQL 9.x error message reference.
pub(crate) const TRANSIENT: &[u16] = &[
    1020, // ER_CHECKREAD
    1040, // ER_CON_COUNT_ERROR
    1053, // ER_SERVER_SHUTDOWN
    1077, // ER_NORMAL_SHUTDOWN
    1152, // ER_ABORTING_CONNECTION
    1158,
    1159,
    1160,
    1161, // ER_NET_*
    1203, // ER_TOO_MANY_USER_CONNECTIONS
    LOCK_WAIT_TIMEOUT,
    1206, // ER_LOCK_TABLE_FULL
    DEADLOCK,
    1226, // ER_USER_LIMIT_REACHED
    1290, // ER_OPTION_PREVENTS_STATEMENT (read only: a failover under way)
    QUERY_INTERRUPTED,
    1836, // ER_READ_ONLY_MODE
    1877, // ER_TEMP_TABLE_PREVENTS_SWITCH
    1927, // ER_CONNECTION_KILLED (MariaDB)
    3024, // ER_QUERY_TIMEOUT
    3032, // ER_SERVER_OFFLINE_MODE
    3169, // ER_SESSION_WAS_KILLED
    3572, // ER_LOCK_NOWAIT
    4031, // ER_CLIENT_INTERACTION_TIMEOUT
];

impl MySqlError {
    /// Gives an error of the driver its class, and takes the values out of its text.
    pub fn new(what: &str, error: &mysql_async::Error) -> Self {
        match error {
            mysql_async::Error::Server(e) => Self {
                what: what.to_owned(),
                code: e.code,
                message: format!("{} ({}): {}", e.code, e.state, without_values(e.code, &e.message)),
                class: if TRANSIENT.contains(&e.code) { Class::Transient } else { Class::Terminal },
                index: duplicate_index(e.code, &e.message),
            },
            // rustls words it as a lack of `close_notify`, but an end of the stream says nothing about TLS.
            mysql_async::Error::Io(mysql_async::IoError::Io(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::connection(what, "the connection was closed")
            }
            mysql_async::Error::Io(e) => Self::connection(what, &e.to_string()),
            mysql_async::Error::Driver(mysql_async::DriverError::ConnectionClosed) => Self::connection(what, "the connection was closed"),
            // A server also invents a method for an account that it does not have (it differs from start to start), so that nobody learns
            // which accounts there are.
            mysql_async::Error::Driver(mysql_async::DriverError::UnknownAuthPlugin { name }) => Self {
                what: what.to_owned(),
                code: AUTH_METHOD,
                message: format!("the server asks for authentication by {name}, which is not supported; or it has no such account"),
                class: Class::Terminal,
                index: None,
            },
            // The other driver errors may print values; their kind is enough.
            mysql_async::Error::Driver(_) => Self::connection(what, "the driver could not go on with this connection"),
            mysql_async::Error::Other(_) => Self::connection(what, "the connection failed"),
            mysql_async::Error::Url(_) => {
                Self { what: what.to_owned(), code: 0, message: "the address is not usable".into(), class: Class::Terminal, index: None }
            }
        }
    }

    /// A lost or refused connection.
    pub fn connection(what: &str, message: &str) -> Self {
        Self { what: what.to_owned(), code: 0, message: message.to_owned(), class: Class::Transient, index: None }
    }

    /// A wait that passed its limit.
    pub fn timeout(what: &str, limit: std::time::Duration) -> Self {
        Self::connection(what, &format!("no answer within {} s", limit.as_secs_f32()))
    }

    /// An answer of another shape than the statement asked for.
    pub fn unexpected(what: &str, message: &str) -> Self {
        Self { what: what.to_owned(), code: 0, message: message.to_owned(), class: Class::Terminal, index: None }
    }

    /// Whether the connection is gone (as opposed to a refused statement).
    pub fn is_connection(&self) -> bool {
        self.code == 0 && self.class != Class::Terminal
    }

    /// Whether a transaction lost against another one and may simply run again on the same connection.
    pub fn is_contention(&self) -> bool {
        matches!(self.code, DEADLOCK | LOCK_WAIT_TIMEOUT)
    }

    /// Whether a unique key of the written table was hit.
    pub fn is_duplicate(&self) -> bool {
        matches!(self.code, DUPLICATE_ENTRY | DUPLICATE_ENTRY_WITH_KEY_NAME)
    }
}

/// The name of the violated index: `… for key '_t_gho.u'` (8.0.19 and later) or `… for key 'u'`.
fn duplicate_index(code: u16, message: &str) -> Option<String> {
    if !matches!(code, DUPLICATE_ENTRY | DUPLICATE_ENTRY_WITH_KEY_NAME) {
        return None;
    }
    // The value comes first and may hold anything, so the name is taken from the end.
    let end = message.rfind('\'')?;
    let start = message.get(..end)?.rfind("for key '")? + "for key '".len();
    let name = message.get(start..end)?;
    // Neither name is escaped in the message; the ghost's name never contains a dot that the index's could be mistaken for,
    // unless the table's does: the caller compares with the names of the indexes it knows.
    Some(name.to_owned())
}

/// Errors whose text quotes values of rows. Source: messages_to_clients.txt of MySQL 9.x.
const WITH_VALUES: &[u16] = &[
    DUPLICATE_ENTRY,
    DUPLICATE_ENTRY_WITH_KEY_NAME,
    1292, // Truncated incorrect %s value: '%s'
    1366, // Incorrect %s value: '%s' for column '%s' at row %ld
    1411, // Incorrect %s value: '%s' for function %s
    1525, // Incorrect %s value: '%s'
    1526, // Table has no partition for value %s
    1690, // %s value is out of range in '%s'
    4095,
    4096, // Delimiter %s in position %u in datetime value %s is deprecated
    1739,
    3140, // Invalid JSON text: … in value for column '%s'
    3141,
    3156,
    3751,
    3902,
    3903,
];

/// The server's message with every value taken out; names of columns and indexes stay.
pub fn without_values(code: u16, message: &str) -> String {
    if !WITH_VALUES.contains(&code) {
        return message.to_owned();
    }
    match code {
        DUPLICATE_ENTRY | DUPLICATE_ENTRY_WITH_KEY_NAME => match duplicate_index(code, message) {
            Some(index) => format!("Duplicate entry for key '{index}'"),
            None => "Duplicate entry".to_owned(),
        },
        1526 => "Table has no partition for a value".to_owned(),
        _ => {
            // `Incorrect integer value: 'abc' for column 'c' at row 3`: what follows the last "for column" is a name.
            let head = message.split(['\'', ':']).next().unwrap_or_default().trim();
            match message.rfind(" for column ") {
                Some(at) => format!("{head}{}", &message[at..]),
                None => head.to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_out_and_names_stay() {
        let cases: &[(u16, &str, &str)] = &[
            (1062, "Duplicate entry 'secret' for key '_t_gho.u'", "Duplicate entry for key '_t_gho.u'"),
            (1062, "Duplicate entry 'it''s for key 'x'' for key '_t_gho.PRIMARY'", "Duplicate entry for key '_t_gho.PRIMARY'"),
            (1366, "Incorrect integer value: 'secret' for column 'c' at row 3", "Incorrect integer value for column 'c' at row 3"),
            (1292, "Incorrect datetime value: 'sec: ret' for column 'd' at row 1", "Incorrect datetime value for column 'd' at row 1"),
            (1292, "Truncated incorrect DOUBLE value: 'secret'", "Truncated incorrect DOUBLE value"),
            (1264, "Out of range value for column 'c' at row 1", "Out of range value for column 'c' at row 1"),
            (1526, "Table has no partition for value secret", "Table has no partition for a value"),
        ];
        for (code, message, want) in cases {
            assert_eq!(&without_values(*code, message), want);
        }
    }

    #[test]
    fn the_end_of_a_connection_is_no_error_of_tls() {
        let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "peer closed connection without sending TLS close_notify");
        assert_eq!(MySqlError::new("read", &cut.into()), MySqlError::connection("read", "the connection was closed"));
    }

    /// A made-up account is refused as one, whatever method the server invents for it.
    #[test]
    fn an_unknown_method_of_authentication_is_told() {
        let error = mysql_async::DriverError::UnknownAuthPlugin { name: "sha256_password".into() };
        let error = MySqlError::new("connect", &error.into());
        assert_eq!((error.code, error.class), (AUTH_METHOD, Class::Terminal));
        assert!(error.message.contains("sha256_password"), "{error}");
    }

    #[test]
    fn the_index_of_a_duplicate_is_named() {
        assert_eq!(duplicate_index(1062, "Duplicate entry 'a' for key '_t_gho.u'").as_deref(), Some("_t_gho.u"));
        assert_eq!(duplicate_index(1062, "Duplicate entry 'a' for key 'u'").as_deref(), Some("u"));
        assert_eq!(duplicate_index(1213, "Deadlock"), None);
    }
}
