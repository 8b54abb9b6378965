//! Ends that are right although they are not the native ALTER's: each with its reason.

use super::trial::Ended;
use super::values::Scope;
use super::{Not, Tried};
use theseus::engine::contract::reason::Reason;

/// What may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The engine refuses, or fails, with this.
    Refuses(Reason),
    /// The engine changes it, though the native ALTER is refused.
    Changes,
    /// Both change it, and these are the only words in the lines that differ.
    Differs(&'static str),
}

/// One exception: variable, value (`*`: each), subject (`*`: each), and the reason.
pub struct Exception {
    variable: &'static str,
    value: &'static str,
    subject: &'static str,
    pub end: End,
    pub why: &'static str,
}

const fn exception(variable: &'static str, value: &'static str, subject: &'static str, end: End, why: &'static str) -> Exception {
    Exception { variable, value, subject, end, why }
}

const MEMORY: &str = "reading a definition takes more memory than a connection may have";
const CACHE: &str = "a transaction that writes rows needs more of the cache; a native ALTER writes one line to the log";
const WARNINGS: &str = "each warning is read, since one may say that a value was changed; the account may not set it for its session";
const PREPARED: &str = "statements with bound values are prepared";
const CUT: &str = "natively values are cut without strict mode; a migration never cuts one";
const ZONE: &str = "'SET SESSION time_zone=\"+05:30\", sql_mode=\"ANSI\"'";
const COLLATION: &str = "'SET NAMES utf8mb4 COLLATE utf8mb4_0900_as_cs'";
const GLOBAL: &str = "the server's global values count, since not every client gets those of init_connect; `theseus check` names them";
const LENIENT: &str = "REPLACE(@@GLOBAL.sql_mode, 'STRICT_TRANS_TABLES', '')";
const ENGINE: &str = "natively the server takes its default engine instead";
const QUOTES: &str = "natively checks are stored without the quotes of their names";
const TWICE: &str = "natively a TIMESTAMP of the hour that comes twice becomes the other one; a migration keeps it";
const STEPS: &str = "natively, in place, the first number of the series is left out; a migration gives those of ALGORITHM=COPY";
const CLOCK: &str = "a client whose clock stands still has the past as its present";
const ROWS: &str = "other formats do not log which rows changed";

const EXCEPTIONS: &[Exception] = &[
    exception("binlog_format", "*", "*", End::Refuses(Reason::ServerNotSupported), ROWS),
    exception("connection_memory_limit", "2097152", "*", End::Refuses(Reason::ServerError), MEMORY),
    exception("init_connect", ZONE, "*", End::Differs(""), GLOBAL),
    exception("init_connect", COLLATION, "*", End::Differs(""), GLOBAL),
    exception("max_binlog_cache_size", "4096", "*", End::Refuses(Reason::ServerError), CACHE),
    exception("max_error_count", "0", "*", End::Refuses(Reason::ServerNotSupported), WARNINGS),
    exception("max_prepared_stmt_count", "0", "*", End::Refuses(Reason::ServerError), PREPARED),
    exception("require_row_format", "ON", "*", End::Refuses(Reason::ServerError), "no session with it may make a temporary table"),
    exception("sql_mode", "''", "an engine that does not exist", End::Refuses(Reason::AlterNotSupported), ENGINE),
    exception(
        "sql_mode",
        "REPLACE(@@GLOBAL.sql_mode, 'NO_ENGINE_SUBSTITUTION', '')",
        "an engine that does not exist",
        End::Refuses(Reason::AlterNotSupported),
        ENGINE,
    ),
    exception("sql_mode", LENIENT, "a date of zeros is added", End::Refuses(Reason::DataDoesNotFit), CUT),
    exception("sql_mode", LENIENT, "a text of zeros becomes a date", End::Refuses(Reason::DataDoesNotFit), CUT),
    exception("sql_mode", LENIENT, "a division by zero is stored", End::Refuses(Reason::DataDoesNotFit), CUT),
    exception("time_zone", "'Test/Berlin'", "everything", End::Differs("row, ours: at=2024-10-27 01:"), TWICE),
    exception("auto_increment_increment", "1000", "numbers are given", End::Differs(", ours: "), STEPS),
    exception("timestamp", "*", "*", End::Differs("row, ours: now_"), CLOCK),
    exception("transaction_read_only", "ON", "*", End::Changes, "the engine's sessions write whatever sessions do by default"),
    exception(
        "server_id",
        "0",
        "*",
        End::Refuses(Reason::ServerNotSupported),
        "with that value the server sends its binary log to no client",
    ),
    exception("sql_quote_show_create", "OFF", "*", End::Differs("CONSTRAINT `t_chk_"), QUOTES),
    exception("sql_mode", "*", "a text is cut", End::Refuses(Reason::DataDoesNotFit), CUT),
    exception("sql_mode", "*", "a number is cut", End::Refuses(Reason::DataDoesNotFit), CUT),
    exception("sql_mode", "*", "NULL becomes NOT NULL", End::Refuses(Reason::DataDoesNotFit), CUT),
];

/// The exception that a trial ends by.
pub fn exception_for(variable: &str, value: &str, subject: &str, ended: &Ended) -> Option<&'static Exception> {
    let is = |pattern: &str, text: &str| pattern == "*" || pattern == text;
    EXCEPTIONS.iter().find(|e| {
        is(e.variable, variable)
            && is(e.value, value)
            && is(e.subject, subject)
            && match (e.end, ended) {
                (End::Refuses(wanted), Ended::OnlyNative(reason, _)) => wanted == *reason,
                (End::Changes, Ended::OnlyOurs(_)) => true,
                (End::Differs(words), Ended::Differs(difference)) => difference.lines().skip(1).all(|line| line.contains(words)),
                _ => false,
            }
    })
}

/// Whether there are exceptions for a variable.
pub fn has_exceptions(name: &str) -> bool {
    EXCEPTIONS.iter().any(|e| e.variable == name)
}

/// What must not be, in words.
pub fn failures(tried: &[Tried], all: bool) -> Vec<String> {
    let mut failures = Vec::new();
    let mut met = vec![false; EXCEPTIONS.len()];
    for Tried { name, scope, values, not } in tried {
        if *scope != Scope::Global && theseus::mysql::variables::class_of(name).is_none() {
            failures.push(format!("{name}: a session has this variable, and src/mysql/variables.rs does not know it"));
        }
        for value in values {
            for (subject, _, ended) in &value.ends {
                let fine = match ended {
                    Ended::Equal => true,
                    Ended::BothRefuse(_, reason) => *reason != Reason::Internal,
                    _ => false,
                };
                if let Some(exception) = exception_for(name, &value.shown, subject, ended) {
                    let at = EXCEPTIONS.iter().position(|e| std::ptr::eq(e, exception)).expect("it is one of them");
                    met[at] = true;
                } else if !fine {
                    failures.push(format!("{name} = {}: {subject}: {ended:?}", value.shown));
                }
            }
            failures.extend(value.left.iter().map(|left| format!("{name} = {}: afterwards {left}", value.shown)));
        }
        // A text that means something has to be given a value that the server takes.
        if let Not::Refused(sql, code) = not
            && values.is_empty()
            && sql == "'theseus'"
        {
            failures.push(format!(
                "{name}: the server refuses {sql} ({code}); tests/mysql/variables/values.rs needs a value for it, or a reason"
            ));
        }
    }
    if all {
        let unmet = EXCEPTIONS.iter().zip(met).filter(|(_, met)| !met);
        failures.extend(unmet.map(|(e, _)| format!("the exception for {} = {}, {} is met by nothing", e.variable, e.value, e.subject)));
    }
    failures
}
