//! Every session variable of the server, in exactly one class, with the reason: a session is defined, not inherited. Pure.
//!
//! The names are those of `performance_schema.session_variables` that have a value for a session (MySQL 9.7), and those that only 8.0 and 8.4
//! have, from their manuals. <https://dev.mysql.com/doc/refman/9.7/en/server-system-variable-reference.html>

use Class::{Mixed, NoEffect, Ours, Servers};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Who says what a variable is in a session of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Fixed: our own statements rely on it.
    Ours(&'static str),
    /// The server's global value, as it was when the migration began: the user's clauses, expressions and conversions are evaluated in it, as
    /// a native ALTER by that server's clients would be.
    Servers,
    /// Both: see [`super::settings`].
    Mixed,
    /// Nothing that a migration reads or writes depends on it.
    NoEffect,
}

impl Class {
    /// For people.
    pub fn words(self) -> String {
        match self {
            Ours(value) => format!("ours: `{value}`"),
            Servers => "the server's".to_owned(),
            Mixed => "mixed".to_owned(),
            NoEffect => "without effect".to_owned(),
        }
    }
}

/// Variables of one class for one reason.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Their class.
    pub class: Class,
    /// Why they are in this class; the page of sessions has it.
    pub why: &'static str,
    /// Their names.
    pub names: &'static [&'static str],
}

const fn group(class: Class, why: &'static str, names: &'static [&'static str]) -> Group {
    Group { class, why, names }
}

/// All of them. In the order in which the fixed ones are set: setting `max_join_size` clears `sql_big_selects`.
pub const GROUPS: &[Group] = &[
    group(Ours("1"), "a statement outside a transaction commits by itself, which also releases its metadata lock", &["autocommit"]),
    group(Ours("READ-COMMITTED"), "INSERT … SELECT reads without locks, each statement in its own snapshot", &["transaction_isolation"]),
    group(Ours("0"), "our sessions write the ghost and the state table", &["transaction_read_only"]),
    group(Ours("NO_CHAIN"), "COMMIT neither starts another transaction nor ends the connection", &["completion_type"]),
    group(Ours("18446744073709551615"), "a limit would cut rows and columns out of what is read", &["sql_select_limit"]),
    group(Ours("18446744073709551615"), "our statements are not refused for the number of rows they may read", &["max_join_size"]),
    group(
        Ours("1"),
        "our statements are not refused for the number of rows they may read; setting max_join_size clears it",
        &["sql_big_selects"],
    ),
    group(Ours("0"), "statements have our own time limits", &["max_execution_time"]),
    group(Ours("0"), "conditions use keys; the engine chooses the index itself", &["sql_safe_updates"]),
    group(Ours("0"), "`IS NULL` means NULL", &["sql_auto_is_null"]),
    group(Ours("0"), "a chunk is not put into a temporary table first", &["sql_buffer_result"]),
    group(Ours("1"), "definitions are read in one known form", &["sql_quote_show_create"]),
    group(Ours("0"), "definitions are read in one known form", &["show_create_table_verbosity"]),
    group(Ours("0"), "definitions are read whole", &["show_create_table_skip_secondary_engine"]),
    group(
        Ours("1"),
        "a generated invisible primary key is in the log's rows, so it must also be in the definition that is read",
        &["show_gipk_in_create_table_and_information_schema"],
    ),
    group(Ours("0"), "definitions are read in one known form (8.0)", &["show_old_temporals"]),
    group(Ours("1"), "every warning is read", &["sql_notes"]),
    group(Ours("64"), "every warning is read; a larger value stays as it is", &["max_error_count"]),
    group(Ours("en_US"), "names are parsed from the server's messages", &["lc_messages"]),
    group(Ours("utf8mb4"), "the character set of our statements", &["character_set_client"]),
    group(Ours("utf8mb4"), "the character set of the answers", &["character_set_results"]),
    group(Ours("5"), "a session that waits for a metadata lock blocks others", &["lock_wait_timeout"]),
    group(Ours("5"), "a batch that waits for a row lock is retried", &["innodb_lock_wait_timeout"]),
    group(Ours("600"), "the server ends a connection that this process has lost", &["wait_timeout"]),
    group(Ours("60"), "as for wait_timeout", &["net_read_timeout", "net_write_timeout"]),
    group(Ours("0"), "a long list of keys never becomes a table scan", &["range_optimizer_max_mem_size"]),
    group(Ours("0"), "estimates are current", &["information_schema_stats_expiry"]),
    group(Ours("0"), "the algorithm is named in the statement, or chosen by the server", &["old_alter_table"]),
    group(Ours("1"), "constraints of a new definition are checked", &["foreign_key_checks"]),
    group(Ours("1"), "unique keys of a new definition are checked", &["unique_checks"]),
    group(Ours("InnoDB"), "temporary tables support every type and take part in transactions", &["default_tmp_storage_engine"]),
    group(Ours("OFF"), "rows are read from InnoDB: a secondary engine lags behind", &["use_secondary_engine"]),
    group(Ours("FULL"), "the driver reads answers by their metadata", &["resultset_metadata"]),
    group(Ours("NONE"), "thread states are matched by their current names (8.0.26)", &["terminology_use_previous"]),
    group(
        Mixed,
        "the server's modes, plus strict: STRICT_ALL_TABLES, STRICT_TRANS_TABLES; NO_AUTO_VALUE_ON_ZERO where rows are copied, so that a stored 0 stays 0",
        &["sql_mode"],
    ),
    group(Mixed, "1; 0 in the modes for replicas (TestOnReplica, ExecuteOnReplica)", &["sql_log_bin"]),
    group(
        Mixed,
        "the server's clock; if row values depend on it, the time at which the migration began, the same for every row",
        &["timestamp"],
    ),
    group(
        Servers,
        "the zone in which a TIMESTAMP is converted to another type or read by an expression; keys are compared exactly in any zone",
        &["time_zone"],
    ),
    group(
        Servers,
        "the character set of literals, CAST(… AS CHAR) and functional keys in clauses",
        &["collation_connection", "character_set_connection"],
    ),
    group(Servers, "the collation of utf8mb4 where none is named", &["default_collation_for_utf8mb4"]),
    group(Servers, "the meaning of a TIMESTAMP column without NULL and DEFAULT", &["explicit_defaults_for_timestamp"]),
    group(Servers, "used by definitions that do not specify it", &["default_storage_engine", "default_table_encryption"]),
    group(Servers, "which table options are refused", &["innodb_strict_mode"]),
    group(Servers, "whether a table that loses its primary key gets an invisible one", &["sql_generate_invisible_primary_key"]),
    group(Servers, "whether a table may have no primary key; our temporary tables have one", &["sql_require_primary_key"]),
    group(
        Servers,
        "which foreign keys are allowed, and what their cascades do",
        &["restrict_fk_on_non_standard_key", "enable_cascade_triggers"],
    ),
    group(Servers, "the words that a FULLTEXT index omits", &["innodb_ft_enable_stopword", "innodb_ft_user_stopword_table"]),
    group(
        Servers,
        "values of functions in expressions",
        &[
            "default_week_format",
            "div_precision_increment",
            "lc_time_names",
            "block_encryption_mode",
            "group_concat_max_len",
            "max_points_in_geometry",
        ],
    ),
    group(Servers, "the numbers that a new AUTO_INCREMENT column assigns", &["auto_increment_increment", "auto_increment_offset"]),
    group(NoEffect, "what a transaction in a replication group waits for; no value depends on it", &["group_replication_consistency"]),
    group(
        NoEffect,
        "how rows are written to the binary log: no value depends on it, and a migration is refused before it begins if it cannot follow the format",
        &[
            "binlog_format",
            "binlog_row_image",
            "binlog_row_value_options",
            "binlog_rows_query_log_events",
            "binlog_transaction_compression",
            "binlog_transaction_compression_level_zstd",
            "binlog_direct_non_transactional_updates",
        ],
    ),
    group(NoEffect, "follow the default database; a definition uses its own database's", &["character_set_database", "collation_database"]),
    group(NoEffect, "only for new databases", &["character_set_server", "collation_server"]),
    group(NoEffect, "only for file names", &["character_set_filesystem"]),
    group(
        NoEffect,
        "memory, threads and files; no result depends on it",
        &[
            "big_tables",
            "internal_tmp_mem_storage_engine",
            "tmp_table_size",
            "max_heap_table_size",
            "bulk_insert_buffer_size",
            "join_buffer_size",
            "sort_buffer_size",
            "read_buffer_size",
            "read_rnd_buffer_size",
            "preload_buffer_size",
            "range_alloc_block_size",
            "query_alloc_block_size",
            "query_prealloc_size",
            "transaction_alloc_block_size",
            "transaction_prealloc_size",
            "set_operations_buffer_size",
            "select_into_buffer_size",
            "select_into_disk_sync",
            "select_into_disk_sync_delay",
            "innodb_ddl_buffer_size",
            "innodb_ddl_threads",
            "innodb_parallel_read_threads",
            "innodb_tmpdir",
            "myisam_sort_buffer_size",
            "myisam_stats_method",
            "histogram_generation_max_mem_size",
            "max_length_for_sort_data",
            "net_buffer_length",
        ],
    ),
    group(
        NoEffect,
        "query plans only; statements over many rows name their index",
        &[
            "optimizer_switch",
            "optimizer_prune_level",
            "optimizer_search_depth",
            "optimizer_max_subgraph_pairs",
            "eq_range_index_dive_limit",
            "max_seeks_for_key",
            "secondary_engine_cost_threshold",
            "enable_secondary_engine_statistics",
        ],
    ),
    group(
        NoEffect,
        "logs and traces",
        &[
            "optimizer_trace",
            "optimizer_trace_features",
            "optimizer_trace_limit",
            "optimizer_trace_max_mem_size",
            "optimizer_trace_offset",
            "profiling",
            "profiling_history_size",
            "long_query_time",
            "min_examined_row_limit",
            "sql_log_off",
            "end_markers_in_json",
            "explain_format",
            "explain_json_format_version",
            "sql_warnings",
        ],
    ),
    group(
        NoEffect,
        "extra information in answers, which the driver ignores",
        &[
            "session_track_gtids",
            "session_track_schema",
            "session_track_state_change",
            "session_track_system_variables",
            "session_track_transaction_info",
        ],
    ),
    group(NoEffect, "our statements do not sort long strings by their beginnings: keys are read in index order", &["max_sort_length"]),
    group(
        NoEffect,
        "for statements that a migration does not use",
        &[
            "cte_max_recursion_depth",
            "windowing_use_high_precision",
            "max_sp_recursion_depth",
            "updatable_views_with_limit",
            "print_identified_with_as_hex",
            "generated_random_password_length",
        ],
    ),
    group(
        NoEffect,
        "for other engines, or for sessions without autocommit",
        &[
            "low_priority_updates",
            "max_delayed_threads",
            "max_insert_delayed_threads",
            "keep_files_on_create",
            "external_table_storage_engine",
            "external_table_secondary_storage_engine",
            "transaction_allow_batching",
            "innodb_table_locks",
        ],
    ),
    group(NoEffect, "for interactive clients; see wait_timeout", &["interactive_timeout"]),
    group(NoEffect, "for interrupted network reads", &["net_retry_count"]),
    group(NoEffect, "cannot be set for a session; statements stay below the server's limit", &["max_allowed_packet"]),
    group(
        NoEffect,
        "resource limits: a session beyond them is refused or ended, and the attempt is repeated",
        &[
            "max_user_connections",
            "connection_memory_limit",
            "connection_memory_chunk_size",
            "global_connection_memory_tracking",
            "parser_max_mem_size",
        ],
    ),
    group(
        NoEffect,
        "for replication; each connection starts with the default",
        &[
            "gtid_next",
            "gtid_owned",
            "xa_detach_on_prepare",
            "rbr_exec_mode",
            "require_row_format",
            "original_commit_timestamp",
            "original_server_version",
            "immediate_server_version",
            "pseudo_replica_mode",
            "pseudo_slave_mode",
            "pseudo_thread_id",
            "transaction_write_set_extraction",
        ],
    ),
    group(
        NoEffect,
        "reports about the session itself",
        &[
            "error_count",
            "warning_count",
            "identity",
            "last_insert_id",
            "insert_id",
            "rand_seed1",
            "rand_seed2",
            "statement_id",
            "external_user",
            "proxy_user",
        ],
    ),
    group(NoEffect, "no effect since 8.0", &["new"]),
];

/// Of the server's class, those that say what a definition may be or means, and nothing of a row's values.
const OF_DEFINITIONS: &[&str] = &[
    "default_storage_engine",
    "default_table_encryption",
    "enable_cascade_triggers",
    "innodb_strict_mode",
    "restrict_fk_on_non_standard_key",
    "sql_generate_invisible_primary_key",
    "sql_require_primary_key",
];

/// By name: each new session is asked about several hundred.
static CLASSES: LazyLock<HashMap<&str, Class>> =
    LazyLock::new(|| GROUPS.iter().flat_map(|group| group.names.iter().map(|name| (*name, group.class))).collect());

/// The class of a variable; `None` for one that is not known.
pub fn class_of(name: &str) -> Option<Class> {
    CLASSES.get(name).copied()
}

/// The fixed ones and their values, in the order to set them in.
pub fn ours() -> impl Iterator<Item = (&'static str, &'static str)> {
    GROUPS
        .iter()
        .filter_map(|group| match group.class {
            Ours(value) => Some(group.names.iter().map(move |name| (*name, value))),
            _ => None,
        })
        .flatten()
}

/// The server's.
pub fn servers() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().filter(|group| group.class == Servers).flat_map(|group| group.names.iter().copied())
}

/// Whether a variable of the server's class counts where rows are copied, and not only where a definition is made.
pub(super) fn counts_for_rows(name: &str) -> bool {
    !OF_DEFINITIONS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_name_is_in_one_class() {
        let mut seen = BTreeSet::new();
        for group in GROUPS {
            assert!(!group.names.is_empty() && !group.why.is_empty(), "{group:?}");
            for name in group.names {
                assert!(seen.insert(name), "{name} is in two classes");
            }
        }
        for name in OF_DEFINITIONS {
            assert_eq!(class_of(name), Some(Servers), "{name}");
        }
        let order: Vec<&str> = ours().map(|(name, _)| name).filter(|n| matches!(*n, "max_join_size" | "sql_big_selects")).collect();
        assert_eq!(order, ["max_join_size", "sql_big_selects"]);
    }
}
