//! The server's error numbers that something depends on, by the server's own names (without `ER_`), each once.
//!
//! Source: the error reference of MySQL 8.0 to 9.7. A test compares [`ALL`] with what a server calls them.

/// Constants, and the list of them.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $($(#[$doc])* pub const $name: u16 = $code;)*

        /// All of them, with their names.
        pub const ALL: &[(&str, u16)] = &[$((stringify!($name), $code)),*];
    };
}

codes! {
    /// A row was changed since it was read.
    CHECKREAD = 1020;
    /// No room on the disk. Not raised any more by 9.x.
    DISK_FULL = 1021;
    /// All of `max_connections` are in use.
    CON_COUNT_ERROR = 1040;
    /// No privilege on a database.
    DBACCESS_DENIED_ERROR = 1044;
    /// Unknown account, or wrong password.
    ACCESS_DENIED_ERROR = 1045;
    /// NULL for a NOT NULL column.
    BAD_NULL_ERROR = 1048;
    /// No such database.
    BAD_DB_ERROR = 1049;
    /// The server is shutting down.
    SERVER_SHUTDOWN = 1053;
    /// No such column.
    BAD_FIELD_ERROR = 1054;
    /// There is an index of this name.
    DUP_KEYNAME = 1061;
    /// A unique key was hit.
    DUP_ENTRY = 1062;
    /// A syntax that the server does not know, e.g. a statement of a newer version.
    PARSE_ERROR = 1064;
    /// The server is shutting down. Not raised any more by 8.0.
    NORMAL_SHUTDOWN = 1077;
    /// The session to kill has gone by itself.
    NO_SUCH_THREAD = 1094;
    /// No such table, of those that the server makes up.
    UNKNOWN_TABLE = 1109;
    /// The tablespace is full.
    RECORD_FILE_FULL = 1114;
    /// NULL where the new definition has NOT NULL.
    INVALID_USE_OF_NULL = 1138;
    /// No privilege on a table.
    TABLEACCESS_DENIED_ERROR = 1142;
    /// No privilege on a column.
    COLUMNACCESS_DENIED_ERROR = 1143;
    /// No such table.
    NO_SUCH_TABLE = 1146;
    /// The connection is given up.
    ABORTING_CONNECTION = 1152;
    /// The connection broke.
    NET_READ_ERROR = 1158;
    /// The same, by a limit of time.
    NET_READ_INTERRUPTED = 1159;
    /// The connection broke.
    NET_ERROR_ON_WRITE = 1160;
    /// The same, by a limit of time.
    NET_WRITE_INTERRUPTED = 1161;
    /// `init_connect` failed, or the connection broke before its first statement.
    NEW_ABORTING_CONNECTION = 1184;
    /// No such variable.
    UNKNOWN_SYSTEM_VARIABLE = 1193;
    /// The account has all sessions that `max_user_connections` gives each account.
    TOO_MANY_USER_CONNECTIONS = 1203;
    /// A row lock or metadata lock was not granted in time.
    LOCK_WAIT_TIMEOUT = 1205;
    /// No memory for more row locks.
    LOCK_TABLE_FULL = 1206;
    /// A deadlock: the transaction was rolled back.
    LOCK_DEADLOCK = 1213;
    /// A row refers to a row of the parent that is not there (without the constraint's name).
    NO_REFERENCED_ROW = 1216;
    /// A limit of the account is reached.
    USER_LIMIT_REACHED = 1226;
    /// A privilege for something of the whole server is missing (PROCESS and the like).
    SPECIFIC_ACCESS_DENIED_ERROR = 1227;
    /// A variable does not take its value; also what [`super::MySqlError::setting`] makes.
    WRONG_VALUE_FOR_VAR = 1231;
    /// A variable does not take a value of this type.
    WRONG_TYPE_FOR_VAR = 1232;
    /// Not supported by this version.
    NOT_SUPPORTED_YET = 1235;
    /// The binary log cannot be read as asked for: many causes, of which only the text tells.
    SOURCE_FATAL_ERROR_READING_BINLOG = 1236;
    /// A variable that has no value of a session's own, or none of the server's.
    INCORRECT_GLOBAL_LOCAL_VAR = 1238;
    /// The client lacks the method of authentication that the server asks for.
    NOT_SUPPORTED_AUTH_MODE = 1251;
    /// A number out of its column's range.
    WARN_DATA_OUT_OF_RANGE = 1264;
    /// `WARN_DATA_TRUNCATED`, without `ER_`: not one of an ENUM's words, and the like.
    DATA_TRUNCATED = 1265;
    /// Deprecated: says nothing about values.
    WARN_DEPRECATED_SYNTAX = 1287;
    /// The server is read only, or has another option that forbids the statement.
    OPTION_PREVENTS_STATEMENT = 1290;
    /// A value that its type cannot hold.
    TRUNCATED_WRONG_VALUE = 1292;
    /// A text that is none in its character set. As a warning: it was changed for want of characters.
    INVALID_CHARACTER_STRING = 1300;
    /// Someone killed the statement.
    QUERY_INTERRUPTED = 1317;
    /// A column without a default was given no value.
    NO_DEFAULT_FOR_FIELD = 1364;
    /// A division by zero.
    DIVISION_BY_ZERO = 1365;
    /// A value that its column cannot hold.
    TRUNCATED_WRONG_VALUE_FOR_FIELD = 1366;
    /// A value that its type cannot hold.
    ILLEGAL_VALUE_FOR_TYPE = 1367;
    /// No privilege on a stored routine.
    PROCACCESS_DENIED_ERROR = 1370;
    /// A value longer than its column.
    DATA_TOO_LONG = 1406;
    /// A value that a function cannot take.
    WRONG_VALUE_FOR_TYPE = 1411;
    /// The table is another one than the transaction's snapshot knows.
    TABLE_DEF_CHANGED = 1412;
    /// No geometry.
    CANT_CREATE_GEOMETRY_OBJECT = 1416;
    /// A date that no type holds.
    DATETIME_FUNCTION_OVERFLOW = 1441;
    /// A row refers to a row of the parent that is not there.
    NO_REFERENCED_ROW_2 = 1452;
    /// A value that its type cannot hold.
    WRONG_VALUE = 1525;
    /// A row that fits in no partition.
    NO_PARTITION_FOR_GIVEN_VALUE = 1526;
    /// A unique key was hit, which the server names.
    DUP_ENTRY_WITH_KEY_NAME = 1586;
    /// Deprecated: says nothing about values.
    WARN_DEPRECATED_SYNTAX_NO_REPLACEMENT = 1681;
    /// A number that its type cannot hold.
    DATA_OUT_OF_RANGE = 1690;
    /// The account has a password, and none was given.
    ACCESS_DENIED_NO_PASSWORD_ERROR = 1698;
    /// A partition that the table does not have.
    UNKNOWN_PARTITION = 1735;
    /// A row that is not of the partitions that were named.
    ROW_DOES_NOT_MATCH_GIVEN_PARTITION_SET = 1748;
    /// An index build gave up: more was changed beside it than its log holds.
    INNODB_ONLINE_LOG_TOO_BIG = 1799;
    /// The account must change its password first.
    MUST_CHANGE_PASSWORD = 1820;
    /// Two indexes of the same columns: says nothing about values.
    DUP_INDEX = 1831;
    /// The server is read only.
    READ_ONLY_MODE = 1836;
    /// The algorithm or lock is not supported for the change.
    ALTER_OPERATION_NOT_SUPPORTED = 1845;
    /// The same, with the reason.
    ALTER_OPERATION_NOT_SUPPORTED_REASON = 1846;
    /// A duplicate in the log of an index build.
    DUP_UNKNOWN_IN_INDEX = 1859;
    /// The account's password has expired, and this client cannot change it.
    MUST_CHANGE_PASSWORD_LOGIN = 1862;
    /// The statement's limit of time.
    QUERY_TIMEOUT = 3024;
    /// The server is offline for accounts like this.
    SERVER_OFFLINE_MODE = 3032;
    /// Deprecated: says nothing about values.
    WARN_DEPRECATED_SQLMODE = 3090;
    /// Group replication or semi-synchronous replication forbids the commit.
    RUN_HOOK_ERROR = 3100;
    /// The account is locked.
    ACCOUNT_HAS_BEEN_LOCKED = 3118;
    /// Deprecated: says nothing about values.
    SQL_MODE_MERGED = 3135;
    /// No JSON.
    INVALID_JSON_TEXT = 3140;
    /// No JSON, in an argument.
    INVALID_JSON_TEXT_IN_PARAM = 3141;
    /// A text that cannot become JSON.
    INVALID_JSON_CHARSET = 3144;
    /// A JSON number out of range.
    NUMERIC_JSON_VALUE_OUT_OF_RANGE = 3155;
    /// JSON that is no value of the type.
    INVALID_JSON_VALUE_FOR_CAST = 3156;
    /// Only connections with TLS are let in.
    SECURE_TRANSPORT_REQUIRED = 3159;
    /// Someone killed the session.
    SESSION_WAS_KILLED = 3169;
    /// A row lock was not to be waited for.
    LOCK_NOWAIT = 3572;
    /// Deprecated: says nothing about values.
    DEPRECATED_UTF8_ALIAS = 3719;
    /// Deprecated: says nothing about values.
    DEPRECATED_NATIONAL = 3720;
    /// `sql_require_primary_key`
    TABLE_WITHOUT_PK = 3750;
    /// Deprecated: says nothing about values.
    WARN_DEPRECATED_UTF8MB3_COLLATION = 3778;
    /// A row breaks a CHECK.
    CHECK_CONSTRAINT_VIOLATED = 3819;
    /// A text has characters that another character set lacks. Also what `information_schema.INNODB_TRX` and `PROCESSLIST` answer, whatever
    /// of them is asked for, while any session's statement has a character of four bytes (9.7).
    CANNOT_CONVERT_STRING = 3854;
    /// Too many wrong passwords: locked for a time.
    USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK = 3955;
    /// The session said nothing for `wait_timeout`.
    CLIENT_INTERACTION_TIMEOUT = 4031;
    /// Deprecated: says nothing about values.
    WARN_DEPRECATED_COLLATION = 4079;
    /// The table has as many row versions as it can.
    INNODB_MAX_ROW_VERSION = 4092;
    /// A row would be too long for an instant ADD COLUMN. Not raised any more by 9.x.
    INNODB_INSTANT_ADD_NOT_SUPPORTED_MAX_SIZE = 4093;
    /// Deprecated delimiters in dates and times, which native ALTERs accept.
    WARN_DEPRECATED_DATETIME_DELIMITER = 4095;
    /// The same.
    WARN_DEPRECATED_SUPERFLUOUS_DELIMITER = 4096;
    /// A table would have too many columns for an instant ADD COLUMN.
    INNODB_INSTANT_ADD_NOT_SUPPORTED_MAX_FIELDS = 4158;
    /// A value that is no VECTOR.
    DATA_INCOMPATIBLE_WITH_VECTOR = 6136;
}

/// MariaDB's ER_CONNECTION_KILLED: a proxy may say it for a MySQL server.
pub(super) const CONNECTION_KILLED: u16 = 1927;

/// The client's own CR_SSL_CONNECTION_ERROR: the connection could not be made secure as was asked for.
pub const SSL_CONNECTION_ERROR: u16 = 2026;

/// The client's own CR_VERSION_ERROR: the server is none that a migration can run on ([`super::versions::Product::refusal`]).
pub const UNSUPPORTED_SERVER: u16 = 2007;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_number_stands_once() {
        assert!(ALL.is_sorted_by(|(_, a), (_, b)| a < b), "in order");
        assert_eq!(ALL.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), ALL.len());
    }
}
