//! The variables of a server, and the values that each is tried with.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;

/// A variable, as the server's `variables_metadata` describes it.
#[derive(Clone, Debug)]
pub struct Variable {
    pub name: String,
    pub scope: Scope,
    kind: Kind,
    least: Option<i128>,
    most: Option<i128>,
    /// What it is on a server that was just started.
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Global,
    /// A session's, with a global value that new sessions get.
    Both,
    /// A session's alone: a server can say it in `init_connect` only.
    Session,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Boolean,
    Number,
    Words,
    Text,
}

/// What one variable is tried with.
pub enum Plan {
    /// These values, as SQL.
    Values(Vec<String>),
    /// Its words, by their numbers.
    Words,
    /// None, because.
    Not(&'static str),
}

/// All that the server has.
pub async fn all(conn: &mut Conn) -> Vec<Variable> {
    let rows: Vec<(String, String, String, Option<String>, Option<String>, Option<String>)> = conn
        .query(
            "SELECT m.VARIABLE_NAME, m.VARIABLE_SCOPE, m.DATA_TYPE, m.MIN_VALUE, m.MAX_VALUE, \
             COALESCE(g.VARIABLE_VALUE, s.VARIABLE_VALUE) FROM performance_schema.variables_metadata m \
             LEFT JOIN performance_schema.global_variables g USING (VARIABLE_NAME) \
             LEFT JOIN performance_schema.session_variables s USING (VARIABLE_NAME) ORDER BY 1",
        )
        .await
        .expect("the server's variables");
    rows.into_iter()
        .map(|(name, scope, kind, least, most, value)| Variable {
            name: name.to_lowercase(),
            scope: match scope.as_str() {
                "GLOBAL" => Scope::Global,
                "SESSION" => Scope::Both,
                "SESSION_ONLY" => Scope::Session,
                other => panic!("{name}: scope {other}"),
            },
            kind: match kind.as_str() {
                "Boolean" => Kind::Boolean,
                "Integer" | "Numeric" => Kind::Number,
                "Enumeration" | "Set" => Kind::Words,
                "String" => Kind::Text,
                other => panic!("{name}: type {other}"),
            },
            least: least.and_then(|n| n.parse().ok()),
            most: most.and_then(|n| n.parse().ok()),
            value: value.unwrap_or_default(),
        })
        .collect()
}

/// The global values, to see what a trial has left behind.
pub async fn globals(conn: &mut Conn) -> BTreeMap<String, String> {
    let rows: Vec<(String, Option<String>)> =
        conn.query("SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.global_variables").await.expect("the global values");
    rows.into_iter().map(|(name, value)| (name.to_lowercase(), value.unwrap_or_default())).collect()
}

/// The statement that sets a variable back.
pub fn back(name: &str, value: &str) -> String {
    if value.is_empty() && !["sql_mode", "init_connect"].contains(&name) {
        return format!("SET GLOBAL {name} = DEFAULT");
    }
    match value.parse::<f64>() {
        Ok(_) => format!("SET GLOBAL {name} = {value}"),
        Err(_) => format!("SET GLOBAL {name} = '{}'", value.replace('\\', "\\\\").replace('\'', "''")),
    }
}

/// Values that are not derived from the type: where the type's own would stop the server or the test, or where there is more to try.
const SPECIAL: &[(&str, &[&str])] = &[
    ("authentication_policy", &["'*'"]),
    ("character_set_client", &["latin1"]),
    ("character_set_connection", &["latin1", "utf16"]),
    ("character_set_database", &["latin1"]),
    ("character_set_filesystem", &["latin1"]),
    ("character_set_results", &["latin1", "NULL"]),
    ("character_set_server", &["latin1"]),
    ("collation_connection", &["latin1_bin"]),
    ("collation_database", &["utf8mb4_bin"]),
    ("collation_server", &["utf8mb4_bin"]),
    ("default_collation_for_utf8mb4", &["utf8mb4_general_ci"]),
    ("default_storage_engine", &["MyISAM", "MEMORY"]),
    ("default_tmp_storage_engine", &["MyISAM", "MEMORY"]),
    ("ft_boolean_syntax", &["' +-><()~*:\"\"&|'", "'+ -><()~*:\"\"&|'", "' |-><()~*:\"\"&^'"]),
    // For accounts without CONNECTION_ADMIN, as the documented one.
    (
        "init_connect",
        &[
            "'SET SESSION sql_select_limit=3'",
            "'SET SESSION autocommit=0'",
            "'SET SESSION time_zone=\"+05:30\", sql_mode=\"ANSI\"'",
            "'SET NAMES utf8mb4 COLLATE utf8mb4_0900_as_cs'",
        ],
    ),
    ("innodb_buffer_pool_size", &["134217728"]),
    ("innodb_change_buffering", &["none"]),
    ("innodb_default_row_format", &["compact", "redundant"]),
    // Nothing in the tables or the changes encrypts: one of its sixteen words stands for all.
    ("block_encryption_mode", &["'aes-256-cbc'"]),
    ("caching_sha2_password_storage_format", &["PBKDF2"]),
    ("enforce_gtid_consistency", &["WARN"]),
    ("external_table_storage_engine", &["InnoDB"]),
    ("external_table_secondary_storage_engine", &["InnoDB"]),
    ("innodb_checksum_algorithm", &["strict_crc32"]),
    ("innodb_doublewrite", &["OFF"]),
    ("innodb_stats_method", &["nulls_unequal"]),
    ("innodb_thread_concurrency", &["1"]),
    ("innodb_log_writer_threads", &["ON", "OFF"]),
    ("innodb_redo_log_capacity", &["134217728"]),
    ("innodb_ft_server_stopword_table", &["'template/stopwords'"]),
    ("innodb_ft_user_stopword_table", &["'template/stopwords'"]),
    ("innodb_tmpdir", &["@@GLOBAL.tmpdir"]),
    ("lc_messages", &["de_DE"]),
    ("lc_time_names", &["fr_FR"]),
    ("log_error_services", &["'log_sink_internal'"]),
    ("log_error_suppression_list", &["'MY-010914'"]),
    ("log_output", &["'TABLE'", "'FILE,TABLE'", "'NONE'"]),
    ("mandatory_roles", &["'a_role'"]),
    ("max_allowed_packet", &["1024", "16384", "1073741824"]),
    ("max_connections", &["100"]),
    ("max_execution_time", &["1"]),
    ("max_prepared_stmt_count", &["0", "100"]),
    ("max_user_connections", &["1000"]),
    ("myisam_stats_method", &["nulls_equal"]),
    ("innodb_autoextend_increment", &["8"]),
    ("optimizer_trace_offset", &["0"]),
    ("server_id", &["0", "77"]),
    ("optimizer_switch", &["REPLACE(REPLACE(REPLACE(@@GLOBAL.optimizer_switch, '=on', '=1'), '=off', '=on'), '=1', '=off')"]),
    ("optimizer_trace", &["'enabled=on,one_line=on'"]),
    ("optimizer_trace_features", &["'greedy_search=off,range_optimizer=off,dynamic_range=off,repeated_subselect=off'"]),
    ("protocol_compression_algorithms", &["'zstd,uncompressed'"]),
    ("replica_type_conversions", &["'ALL_LOSSY'"]),
    ("session_track_system_variables", &["'*'", "''"]),
    ("slave_type_conversions", &["'ALL_LOSSY'"]),
    (
        "sql_mode",
        &[
            "''",
            "'ANSI'",
            "'TRADITIONAL'",
            "'STRICT_ALL_TABLES'",
            "CONCAT(@@GLOBAL.sql_mode, ',STRICT_ALL_TABLES')",
            "REPLACE(@@GLOBAL.sql_mode, 'STRICT_TRANS_TABLES', '')",
            "REPLACE(@@GLOBAL.sql_mode, 'ONLY_FULL_GROUP_BY', '')",
            "REPLACE(@@GLOBAL.sql_mode, 'NO_ZERO_IN_DATE', '')",
            "REPLACE(@@GLOBAL.sql_mode, 'NO_ZERO_DATE', '')",
            "REPLACE(@@GLOBAL.sql_mode, 'ERROR_FOR_DIVISION_BY_ZERO', '')",
            "REPLACE(@@GLOBAL.sql_mode, 'NO_ENGINE_SUBSTITUTION', '')",
            "CONCAT(@@GLOBAL.sql_mode, ',REAL_AS_FLOAT')",
            "CONCAT(@@GLOBAL.sql_mode, ',PIPES_AS_CONCAT')",
            "CONCAT(@@GLOBAL.sql_mode, ',ANSI_QUOTES')",
            "CONCAT(@@GLOBAL.sql_mode, ',IGNORE_SPACE')",
            "CONCAT(@@GLOBAL.sql_mode, ',NO_UNSIGNED_SUBTRACTION')",
            "CONCAT(@@GLOBAL.sql_mode, ',NO_DIR_IN_CREATE')",
            "CONCAT(@@GLOBAL.sql_mode, ',NO_AUTO_VALUE_ON_ZERO')",
            "CONCAT(@@GLOBAL.sql_mode, ',NO_BACKSLASH_ESCAPES')",
            "CONCAT(@@GLOBAL.sql_mode, ',ALLOW_INVALID_DATES')",
            "CONCAT(@@GLOBAL.sql_mode, ',HIGH_NOT_PRECEDENCE')",
            "CONCAT(@@GLOBAL.sql_mode, ',PAD_CHAR_TO_FULL_LENGTH')",
            "CONCAT(@@GLOBAL.sql_mode, ',TIME_TRUNCATE_FRACTIONAL')",
        ],
    ),
    ("sql_select_limit", &["3", "0"]),
    ("time_zone", &["'+08:00'", "'-03:30'", "'Test/Berlin'"]),
    // Set in `init_connect`.
    ("timestamp", &["1717200000.25"]),
    ("pseudo_thread_id", &["77"]),
    ("gtid_next", &["'AUTOMATIC:theseus'"]),
    ("immediate_server_version", &["80000"]),
    ("original_server_version", &["80000"]),
    ("original_commit_timestamp", &["1"]),
];

/// Not tried, and why. A name that ends in `*` stands for all that begin with it.
const NOT: &[(&str, &str)] = &[
    ("admin_*", "the administrators' listener: no session of a client uses it"),
    ("ssl_*", "read at the next handshake after ALTER INSTANCE RELOAD TLS; says nothing to a session"),
    ("tls_*", "read at the next handshake after ALTER INSTANCE RELOAD TLS; says nothing to a session"),
    ("innodb_ft_aux_table", "the table that information_schema shows the full-text parts of; no session's setting"),
    ("innodb_buffer_pool_dump_now", "a command"),
    ("innodb_buffer_pool_load_abort", "a command"),
    ("innodb_buffer_pool_load_now", "a command"),
    ("innodb_monitor_*", "a command to switch counters on or off; it has no value to go back to"),
    ("offline_mode", "the server turns all clients away, for the native ALTER as well"),
    ("innodb_redo_log_archive_dirs", "wants labelled directories; where a backup puts the redo log"),
    ("super_read_only", "stops the test's own administrator too; read_only stops the account, and is tried"),
    ("gtid_purged", "a statement about the history of transactions, not a setting"),
    ("insert_id", "counts for the session's next statement only"),
    ("last_insert_id", "counts for the session's next statement only"),
    ("identity", "another name of last_insert_id"),
];

/// What to try a variable with.
pub fn plan(variable: &Variable) -> Plan {
    let name = variable.name.as_str();
    let is = |pattern: &str| pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start));
    if let Some((_, why)) = NOT.iter().find(|(pattern, _)| is(pattern)) {
        return Plan::Not(why);
    }
    if let Some((_, values)) = SPECIAL.iter().find(|(special, _)| *special == name) {
        return Plan::Values(values.iter().map(|v| (*v).to_owned()).collect());
    }
    match variable.kind {
        Kind::Boolean => Plan::Values(vec![if matches!(variable.value.as_str(), "ON" | "1" | "YES") { "OFF" } else { "ON" }.to_owned()]),
        Kind::Number => Plan::Values(numbers(variable)),
        Kind::Words => Plan::Words,
        Kind::Text => Plan::Values(vec!["'theseus'".to_owned()]),
    }
}

/// A small one and a large one, the same on every machine: what a variable has by default may depend on the number of cores.
fn numbers(variable: &Variable) -> Vec<String> {
    const LARGE: i128 = 64 << 20;
    let least = variable.least.unwrap_or(0).max(0);
    let large = if least == 0 { 1000 } else { least.saturating_mul(1000).min(LARGE).max(least * 2) };
    let large = variable.most.filter(|most| *most > 0).map_or(large, |most| large.min(most));
    let mut values = vec![least, large];
    values.dedup();
    // Of sizes in bytes, and of what is not a session's, the hardest is enough.
    values.truncate(if variable.scope == Scope::Global || least >= 1000 { 1 } else { 2 });
    values.into_iter().map(|n| n.to_string()).collect()
}
