//! What a server must be, said once. A run refuses at the first problem ([`super::inspector`]), `theseus check` reports each, and the status of a
//! MySQLServer has all of them in a sentence.

use super::inspector::SESSIONS;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::Mode;
use crate::mysql::server::ServerFacts;
use crate::sql::quote;

/// What is known of a server; what was not asked for is no problem.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Its settings.
    pub facts: Option<&'a ServerFacts>,
    /// `server_id`.
    pub server_id: Option<u32>,
    /// A database that its binary log leaves out.
    pub not_logged: Option<&'a str>,
    /// How many sessions the account may have; 0 is no limit. The session's value is that of the account, or the server's where the account
    /// has none. <https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html#sysvar_max_user_connections>
    pub sessions: Option<u32>,
}

/// What a problem stands in the way of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// Any change.
    Everything,
    /// A copy. What the server changes by itself needs neither a log nor many sessions.
    ACopy,
}

/// Something that rules migrations out on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From the documented enum.
    pub reason: Reason,
    /// The setting.
    pub setting: &'static str,
    /// What it stands in the way of.
    pub against: Against,
    /// What is so.
    pub message: String,
    /// What to do.
    pub advice: &'static str,
}

impl Problem {
    /// The refusal.
    pub fn error(&self) -> EngineError {
        EngineError::terminal(self.reason, &format!("{}: {}", self.message, self.advice))
    }
}

/// All that is wrong with a server, the worst first. Pure. Without a mode it is asked of the server and not of a migration: a replica is as good
/// as its use.
pub fn server_problems(known: Known<'_>, mode: Option<Mode>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |reason, setting, against, message: String, advice| problems.push(Problem { reason, setting, against, message, advice });
    let unsupported = Reason::ServerNotSupported;
    if let Some(facts) = known.facts {
        // A replica is read only as a rule; see `replica`.
        if facts.read_only && !mode.is_some_and(Mode::on_replica) {
            let advice = match mode {
                Some(_) => "point the migration at the primary",
                None => "if it is a replica, only the replica modes can run there",
            };
            let message = "the server is read-only (read_only or super_read_only is set)".to_owned();
            add(Reason::ReadOnly, "read_only", Against::Everything, message, advice);
        }
        if facts.lower_case_table_names == 2 {
            let message = "the server keeps names of tables as they were written, and compares them in lower case (lower_case_table_names=2, as on macOS): which table is meant, and whether it is still the same one, could not be told from its name".to_owned();
            let advice = "use a server with lower_case_table_names=0 or 1, for example in a Linux container";
            add(unsupported, "lower_case_table_names", Against::Everything, message, advice);
        }
        if !facts.log_bin {
            let message = "the server writes no binary log (log_bin=OFF), so changes made during the copy would be missed".to_owned();
            add(unsupported, "log_bin", Against::ACopy, message, "set log_bin");
        } else if facts.binlog_format != "ROW" {
            let message =
                format!("binlog_format is {}; a copy needs ROW, because other formats do not log which rows changed", facts.binlog_format);
            add(unsupported, "binlog_format", Against::ACopy, message, "SET GLOBAL binlog_format = ROW, and have sessions reconnect");
        }
    }
    if known.server_id == Some(0) {
        let message = "server_id is 0, and with that value the server sends its binary log to no client".to_owned();
        add(unsupported, "server_id", Against::ACopy, message, "SET GLOBAL server_id to a unique number");
    }
    if let Some(database) = known.not_logged {
        let message = format!(
            "the server leaves {} out of its binary log (binlog-do-db or binlog-ignore-db), so changes made during the copy would be missed",
            quote::identifier(database)
        );
        add(unsupported, "binlog-do-db, binlog-ignore-db", Against::ACopy, message, "remove the filter");
    }
    if let Some(limit) = known.sessions.filter(|limit| *limit > 0 && *limit < SESSIONS) {
        let message = format!("the account may have {limit} concurrent sessions (max_user_connections), and a copy needs {SESSIONS}");
        let advice = "ALTER USER … WITH MAX_USER_CONNECTIONS, or SET GLOBAL max_user_connections; 0 means no limit";
        add(unsupported, "max_user_connections", Against::ACopy, message, advice);
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::server::tests::good_server;

    fn facts(log_bin: bool, binlog_format: &str, read_only: bool) -> ServerFacts {
        ServerFacts { log_bin, binlog_format: binlog_format.into(), read_only, ..good_server() }
    }

    #[test]
    fn each_problem_is_named_and_ordered() {
        let good = facts(true, "ROW", false);
        let two = ServerFacts { lower_case_table_names: 2, ..good_server() };
        let one = ServerFacts { lower_case_table_names: 1, ..good_server() };
        let (mixed, off, replica) = (facts(true, "MIXED", false), facts(false, "STATEMENT", true), facts(true, "ROW", true));
        let run = Some(Mode::Execute);
        let known = |facts| Known { facts: Some(facts), ..Known::default() };
        for (known, mode, settings) in [
            (Known::default(), run, &[][..]),
            (known(&good), run, &[]),
            (known(&good), None, &[]),
            (known(&mixed), run, &["binlog_format"]),
            // One that has no log has no format worth a word.
            (known(&off), run, &["read_only", "log_bin"]),
            (known(&off), Some(Mode::TestOnReplica), &["log_bin"]),
            (known(&replica), run, &["read_only"]),
            (known(&one), run, &[]),
            (known(&two), run, &["lower_case_table_names"]),
            (known(&two), Some(Mode::TestOnReplica), &["lower_case_table_names"]),
            (known(&replica), Some(Mode::ExecuteOnReplica), &[]),
            (known(&replica), None, &["read_only"]),
            (Known { server_id: Some(0), ..known(&good) }, run, &["server_id"]),
            (Known { server_id: Some(1), sessions: Some(SESSIONS), ..known(&good) }, run, &[]),
            (Known { sessions: Some(0), ..known(&good) }, run, &[]),
            (Known { sessions: Some(SESSIONS - 1), ..known(&good) }, run, &["max_user_connections"]),
            (Known { not_logged: Some("shop"), ..known(&mixed) }, run, &["binlog_format", "binlog-do-db, binlog-ignore-db"]),
        ] {
            let problems = server_problems(known, mode);
            assert_eq!(problems.iter().map(|p| p.setting).collect::<Vec<_>>(), settings, "{known:?} {mode:?}");
            for problem in &problems {
                let read_only = problem.setting == "read_only";
                assert_eq!(problem.reason, if read_only { Reason::ReadOnly } else { Reason::ServerNotSupported });
                let everything = read_only || problem.setting == "lower_case_table_names";
                assert_eq!(problem.against, if everything { Against::Everything } else { Against::ACopy });
                assert_eq!(problem.error().message, format!("{}: {}", problem.message, problem.advice));
            }
        }
    }
}
