//! Errors of the server and the driver, with a class and without row values.

use super::codes::{self, DUP_ENTRY, DUP_ENTRY_WITH_KEY_NAME};
use crate::sql::token::{self, TokenKind};
use thiserror::Error;

/// What a caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try again: deadlock, lock wait time-out, lost connection, server shutting down.
    Transient,
    /// The same statement will fail again.
    Terminal,
}

/// An error of one statement or connection attempt.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: {message}")]
pub struct MySqlError {
    /// What was being done, e.g. `copy a chunk`.
    pub what: String,
    /// The server's error number; 0, or [`codes::SSL_CONNECTION_ERROR`], for errors of the connection.
    pub code: u16,
    /// The server's words without the values in them.
    pub message: String,
    /// What a caller may do about it.
    pub class: Class,
    /// For [`codes::DUP_ENTRY`]: the name of the index, without the table.
    pub index: Option<String>,
}

/// Server errors that a retry may cure. Source: MySQL 9.x error message reference.
pub(crate) const TRANSIENT: &[u16] = &[
    codes::CHECKREAD,
    codes::CON_COUNT_ERROR,
    codes::SERVER_SHUTDOWN,
    codes::NORMAL_SHUTDOWN,
    codes::ABORTING_CONNECTION,
    codes::NET_READ_ERROR,
    codes::NET_READ_INTERRUPTED,
    codes::NET_ERROR_ON_WRITE,
    codes::NET_WRITE_INTERRUPTED,
    codes::TOO_MANY_USER_CONNECTIONS,
    codes::LOCK_WAIT_TIMEOUT,
    codes::LOCK_TABLE_FULL,
    codes::LOCK_DEADLOCK,
    codes::USER_LIMIT_REACHED,
    // Read only: a failover under way.
    codes::OPTION_PREVENTS_STATEMENT,
    codes::QUERY_INTERRUPTED,
    codes::READ_ONLY_MODE,
    codes::CONNECTION_KILLED,
    codes::QUERY_TIMEOUT,
    codes::SERVER_OFFLINE_MODE,
    codes::SECURE_TRANSPORT_REQUIRED,
    codes::SESSION_WAS_KILLED,
    codes::LOCK_NOWAIT,
    codes::CLIENT_INTERACTION_TIMEOUT,
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
            mysql_async::Error::Io(mysql_async::IoError::Tls(e)) => Self::tls(what, &e.to_string()),
            mysql_async::Error::Io(mysql_async::IoError::Io(e)) if e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                Self::tls(what, &e.to_string())
            }
            mysql_async::Error::Io(e @ mysql_async::IoError::Io(_)) => Self::connection(what, &e.to_string()),
            mysql_async::Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer) => {
                Self::tls(what, "the server offers no TLS, which tls.mode requires")
            }
            mysql_async::Error::Driver(mysql_async::DriverError::ConnectionClosed) => Self::connection(what, "the connection was closed"),
            // A server also invents a method for an account that it does not have (it differs from start to start), so that nobody learns
            // which accounts there are.
            mysql_async::Error::Driver(mysql_async::DriverError::UnknownAuthPlugin { name }) => Self {
                what: what.to_owned(),
                code: codes::NOT_SUPPORTED_AUTH_MODE,
                message: format!("the server asks for authentication by {name}, which is not supported; or it has no such account"),
                class: Class::Terminal,
                index: None,
            },
            // The other driver errors may print values; their kind is enough.
            mysql_async::Error::Driver(_) => Self::connection(what, "the driver could not use this connection any further"),
            mysql_async::Error::Other(_) => Self::connection(what, "the connection failed"),
            mysql_async::Error::Url(_) => {
                Self { what: what.to_owned(), code: 0, message: "the address is not valid".into(), class: Class::Terminal, index: None }
            }
        }
    }

    /// A lost or refused connection.
    pub fn connection(what: &str, message: &str) -> Self {
        Self { what: what.to_owned(), code: 0, message: message.to_owned(), class: Class::Transient, index: None }
    }

    /// A connection that cannot be made secure as was asked for. Tried again, as every connection.
    fn tls(what: &str, message: &str) -> Self {
        Self { code: codes::SSL_CONNECTION_ERROR, ..Self::connection(what, message) }
    }

    /// The server is none that a migration can run on.
    pub(super) fn unsupported_server(what: &str, message: String) -> Self {
        Self { what: what.to_owned(), code: codes::UNSUPPORTED_SERVER, message, class: Class::Terminal, index: None }
    }

    /// A setting of the server, or of the account's sessions, that rules a migration out; the message names it.
    pub fn setting(what: &str, message: String) -> Self {
        Self { what: what.to_owned(), code: codes::WRONG_VALUE_FOR_VAR, message, class: Class::Terminal, index: None }
    }

    /// A wait that passed its limit.
    pub fn timeout(what: &str, limit: std::time::Duration) -> Self {
        Self::connection(what, &format!("no answer within {} s", limit.as_secs_f32()))
    }

    /// An answer of another shape than the statement asked for.
    pub fn unexpected(what: &str, message: &str) -> Self {
        Self { what: what.to_owned(), code: 0, message: message.to_owned(), class: Class::Terminal, index: None }
    }

    /// Whether it says nothing about the statement: it may succeed the next time.
    pub fn is_transient(&self) -> bool {
        self.class != Class::Terminal
    }

    /// Whether the connection is gone (as opposed to a refused statement).
    pub fn is_connection(&self) -> bool {
        matches!(self.code, 0 | codes::SSL_CONNECTION_ERROR) && self.is_transient()
    }

    /// Whether a transaction lost against another one and may simply run again on the same connection.
    pub fn is_contention(&self) -> bool {
        matches!(self.code, codes::LOCK_DEADLOCK | codes::LOCK_WAIT_TIMEOUT)
    }

    /// Whether the row's parent is not there.
    pub fn is_orphan(&self) -> bool {
        matches!(self.code, codes::NO_REFERENCED_ROW | codes::NO_REFERENCED_ROW_2)
    }

    /// Whether a unique key of the written table was hit.
    pub fn is_duplicate(&self) -> bool {
        matches!(self.code, DUP_ENTRY | DUP_ENTRY_WITH_KEY_NAME)
    }
}

/// The name of the violated index: `… for key '_t_gho.u'` (8.0.19 and later) or `… for key 'u'`.
fn duplicate_index(code: u16, message: &str) -> Option<String> {
    if !matches!(code, DUP_ENTRY | DUP_ENTRY_WITH_KEY_NAME) {
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

/// Errors whose text quotes values of rows: what the server writes, and what is kept of it. Source: `perror` of MySQL 9.7, which prints the
/// server's own formats.
///
/// `%v` is a value, `%e` an expression of the definition (column names stay, literals go), `%n` a name, type or function, `%d` a number of a
/// row or position. Of several formats of one code the first that fits counts; where none does, nothing is kept but what the code means.
const WITH_VALUES: &[(u16, &str, &str)] = &[
    (1292, "Incorrect %n value: '%v' for column '%n' at row %d", "Incorrect %n value for column '%n' at row %d"),
    (1292, "Incorrect %n value: '%v'", "Incorrect %n value"),
    (1292, "Truncated incorrect %n value: '%v'", "Truncated incorrect %n value"),
    (1300, "Invalid %n character string: '%v'", "Invalid %n character string"),
    (1366, "Incorrect %n value: '%v' for column '%n' at row %d", "Incorrect %n value for column '%n' at row %d"),
    (1367, "Illegal %n '%v' value found during parsing", "Illegal %n value found during parsing"),
    (1411, "Incorrect %n value: '%v' for function %n", "Incorrect %n value for function %n"),
    (1525, "Incorrect %n value: '%v'", "Incorrect %n value"),
    (1526, "Table has no partition for value %v", "Table has no partition for a value"),
    (
        1569,
        "ALTER TABLE causes auto_increment resequencing, resulting in duplicate entry '%v' for key '%n'",
        "ALTER TABLE causes auto_increment resequencing, resulting in a duplicate entry for key '%n'",
    ),
    (1690, "%n value is out of range in '%e'", "%n value is out of range in '%e'"),
    (
        1761,
        "Foreign key constraint for table '%n', record '%v' would lead to a duplicate entry in table '%n', key '%n'",
        "Foreign key constraint for table '%n' would lead to a duplicate entry in table '%n', key '%n'",
    ),
    (
        1762,
        "Foreign key constraint for table '%n', record '%v' would lead to a duplicate entry in a child table",
        "Foreign key constraint for table '%n' would lead to a duplicate entry in a child table",
    ),
    (3048, "Out of range error: %v in function %n.", "Out of range error in function %n"),
    (3050, "Range error: %v in function %n.", "Range error in function %n"),
    (3069, "Invalid JSON data provided to function %n: %v", "Invalid JSON data provided to function %n"),
    (
        3140,
        "Invalid JSON text: \"%v\" at position %d in value for column '%n'.",
        "Invalid JSON text at position %d in value for column '%n'",
    ),
    (
        3141,
        "Invalid JSON text in argument %d to function %n: \"%v\" at position %d.",
        "Invalid JSON text in argument %d to function %n at position %d",
    ),
    (
        3145,
        "Invalid JSON character data provided to function %n: '%v'; utf8 is required.",
        "Invalid JSON character data provided to function %n",
    ),
    (
        3155,
        "Out of range JSON value for CAST to %n from column %n at row %d",
        "Out of range JSON value for CAST to %n from column %n at row %d",
    ),
    (3156, "Invalid JSON value for CAST to %n from column %n at row %d", "Invalid JSON value for CAST to %n from column %n at row %d"),
    (3616, "Longitude %v is out of range in function %n. It %v", "Longitude is out of range in function %n"),
    (3617, "Latitude %v is out of range in function %n. It %v", "Latitude is out of range in function %n"),
    (
        3731,
        "A parameter of function %n contains a geometry with longitude %v, which is out of range. It %v",
        "A parameter of function %n contains a geometry whose longitude is out of range",
    ),
    (
        3732,
        "A parameter of function %n contains a geometry with latitude %v, which is out of range. It %v",
        "A parameter of function %n contains a geometry whose latitude is out of range",
    ),
    (3751, "Data truncated for functional index '%n' at row %d", "Data truncated for functional index '%n' at row %d"),
    (3854, "Cannot convert string '%v' from %n to %n", "Cannot convert a string from %n to %n"),
    (3902, "There's no unit of measure named '%v'.", "There's no such unit of measure"),
    (
        4095,
        "Delimiter '%v' in position %d in datetime value '%v' at row %d is deprecated. Prefer the standard '%v'.",
        "A delimiter in position %d in a datetime value at row %d is deprecated",
    ),
    (
        4096,
        "Delimiter '%v' in position %d in datetime value '%v' at row %d is superfluous and is deprecated. Please remove.",
        "A delimiter in position %d in a datetime value at row %d is superfluous and deprecated",
    ),
    (
        6136,
        "Value of type '%n, size: %d' cannot be converted to 'vector' type.",
        "Value of type '%n, size: %d' cannot be converted to 'vector' type",
    ),
    (6138, "Data cannot be converted to a valid vector: '%v'", "Data cannot be converted to a valid vector"),
];

/// A piece of a format.
enum Piece<'a> {
    Text(&'a str),
    Hole(char),
}

fn pieces(format: &str) -> Vec<Piece<'_>> {
    let mut out = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        if at > 0 {
            out.push(Piece::Text(&rest[..at]));
        }
        let hole = rest[at + 1..].chars().next().unwrap_or('v');
        out.push(Piece::Hole(hole));
        rest = &rest[at + 1 + hole.len_utf8()..];
    }
    if !rest.is_empty() {
        out.push(Piece::Text(rest));
    }
    out
}

/// What stands in the holes of a format, in order, if the message is of it. A value may hold any text, so what comes before the first one is
/// read from the left and the rest from the right.
fn fill<'a>(format: &str, message: &'a str) -> Option<Vec<(char, &'a str)>> {
    let pieces = pieces(format);
    let first = pieces.iter().position(|p| matches!(p, Piece::Hole('v'))).unwrap_or(pieces.len());
    let mut rest = message;
    let mut left = Vec::new();
    let mut at = 0;
    while at < first {
        match &pieces[at] {
            Piece::Text(text) => rest = rest.strip_prefix(text)?,
            Piece::Hole(hole) => {
                let end = match pieces.get(at + 1) {
                    Some(Piece::Text(text)) if at + 1 == pieces.len() - 1 => {
                        rest.len().checked_sub(text.len()).filter(|_| rest.ends_with(text))?
                    }
                    Some(Piece::Text(text)) => rest.find(text)?,
                    Some(Piece::Hole(_)) => return None,
                    None => rest.len(),
                };
                left.push((*hole, rest.get(..end)?));
                rest = rest.get(end..)?;
            }
        }
        at += 1;
    }
    let mut right = Vec::new();
    let mut at = pieces.len();
    while at > first {
        at -= 1;
        match &pieces[at] {
            Piece::Text(text) => rest = rest.strip_suffix(text)?,
            Piece::Hole(hole) => {
                let start = if at == first {
                    0
                } else {
                    match &pieces[at - 1] {
                        Piece::Text(text) => rest.rfind(text)? + text.len(),
                        Piece::Hole(_) => return None,
                    }
                };
                right.push((*hole, rest.get(start..)?));
                rest = rest.get(..start)?;
            }
        }
    }
    right.reverse();
    left.extend(right);
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    left.iter().all(|(hole, text)| *hole != 'd' || number(text)).then_some(left)
}

/// An expression with its literals taken out.
fn without_literals(expression: &str) -> String {
    let Ok(tokens) = token::tokenize(expression) else { return "an expression".to_owned() };
    let mut out = String::new();
    let mut end = None;
    for token in tokens {
        if end.is_some_and(|end| end < token.span.start) {
            out.push(' ');
        }
        end = Some(token.span.end);
        match token.kind {
            TokenKind::Number | TokenKind::String | TokenKind::Bits => out.push('?'),
            _ => out.push_str(token.text(expression)),
        }
    }
    out
}

/// The server's message with every value taken out; names of columns and indexes stay.
pub(super) fn without_values(code: u16, message: &str) -> String {
    if matches!(code, DUP_ENTRY | DUP_ENTRY_WITH_KEY_NAME) {
        return match duplicate_index(code, message) {
            Some(index) => format!("Duplicate entry for key '{index}'"),
            None => "Duplicate entry".to_owned(),
        };
    }
    let mut formats = WITH_VALUES.iter().filter(|(c, ..)| *c == code).peekable();
    let Some((_, _, meaning)) = formats.peek() else { return message.to_owned() };
    for (_, format, kept) in formats {
        let Some(found) = fill(format, message) else { continue };
        let mut found = found.into_iter();
        let mut out = String::new();
        for piece in pieces(kept) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                // The next one of its kind: values between are left out.
                Piece::Hole(hole) => match (hole, found.find(|(h, _)| *h == hole)) {
                    ('e', Some((_, text))) => out.push_str(&without_literals(text)),
                    (_, Some((_, text))) => out.push_str(text),
                    (_, None) => {}
                },
            }
        }
        return out;
    }
    // Another wording, as of another version: only what the code means.
    pieces(meaning).iter().map(|piece| if let Piece::Text(text) = piece { text } else { "…" }).collect()
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
            (
                1690,
                "BIGINT UNSIGNED value is out of range in '(`d`.`t`.`a` - 4711)'",
                "BIGINT UNSIGNED value is out of range in '(`d`.`t`.`a` - ?)'",
            ),
            (1690, "DOUBLE value is out of range in 'pow(`d`.`t`.`it's`,'x')'", "DOUBLE value is out of range in 'pow(`d`.`t`.`it's`,?)'"),
            (1690, "DOUBLE value is out of range in 'cut", "… value is out of range in '…'"),
            (1292, "Truncated incorrect DOUBLE value: 'x' for column 'secret' at row 1'", "Truncated incorrect DOUBLE value"),
            (
                1366,
                "Incorrect string value: 'a' for column 'secret' at row 7' for column 'c' at row 3",
                "Incorrect string value for column 'c' at row 3",
            ),
            (1411, "Incorrect datetime value: 'secret' for function str_to_date", "Incorrect datetime value for function str_to_date"),
            (1300, "Invalid utf8mb4 character string: 'secret'", "Invalid utf8mb4 character string"),
            (
                3140,
                "Invalid JSON text: \"Invalid value.\" at position 0 in value for column 't.j'.",
                "Invalid JSON text at position 0 in value for column 't.j'",
            ),
            (
                3141,
                "Invalid JSON text in argument 1 to function json_extract: \"Invalid value.\" at position 7.",
                "Invalid JSON text in argument 1 to function json_extract at position 7",
            ),
            (
                3156,
                "Invalid JSON value for CAST to INTEGER from column json_extract at row 2",
                "Invalid JSON value for CAST to INTEGER from column json_extract at row 2",
            ),
            (
                3617,
                "Latitude 91.250000 is out of range in function st_geomfromtext. It must be within [-90.000000, 90.000000].",
                "Latitude is out of range in function st_geomfromtext",
            ),
            (3854, "Cannot convert string 'secret' from utf8mb4 to latin1", "Cannot convert a string from utf8mb4 to latin1"),
            (
                4095,
                "Delimiter '.' in position 4 in datetime value '2020.secret' at row 1 is deprecated. Prefer the standard '-'.",
                "A delimiter in position 4 in a datetime value at row 1 is deprecated",
            ),
            (1366, "Eine andere Sprache: 'secret'", "Incorrect … value for column '…' at row …"),
            (1054, "Unknown column 'x' in 'field list'", "Unknown column 'x' in 'field list'"),
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

    /// By its type, whatever it says: few of these texts name TLS.
    #[test]
    fn what_is_wrong_with_tls_is_known_by_its_type() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        assert!(!alert.to_string().contains("TLS") && !alert.to_string().contains("certificate"));
        let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, alert.clone());
        let missing = mysql_async::Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer);
        for error in
            [MySqlError::new("connect", &wrapped.into()), MySqlError::new("connect", &alert.into()), MySqlError::new("connect", &missing)]
        {
            assert_eq!((error.code, error.class, error.is_connection()), (codes::SSL_CONNECTION_ERROR, Class::Transient, true), "{error}");
        }
        let other = std::io::Error::new(std::io::ErrorKind::InvalidData, "a packet about TLS that cannot be read");
        assert_eq!(MySqlError::new("read", &other.into()).code, 0);
    }

    /// A made-up account is refused as one, whatever method the server invents for it.
    #[test]
    fn an_unknown_method_of_authentication_is_told() {
        let error = mysql_async::DriverError::UnknownAuthPlugin { name: "sha256_password".into() };
        let error = MySqlError::new("connect", &error.into());
        assert_eq!((error.code, error.class), (codes::NOT_SUPPORTED_AUTH_MODE, Class::Terminal));
        assert!(error.message.contains("sha256_password"), "{error}");
    }

    #[test]
    fn the_index_of_a_duplicate_is_named() {
        assert_eq!(duplicate_index(1062, "Duplicate entry 'a' for key '_t_gho.u'").as_deref(), Some("_t_gho.u"));
        assert_eq!(duplicate_index(1062, "Duplicate entry 'a' for key 'u'").as_deref(), Some("u"));
        assert_eq!(duplicate_index(1213, "Deadlock"), None);
    }
}
