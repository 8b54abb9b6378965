//! What an account sees. The server shows an account what it has a privilege for and is silent about the rest, so "nothing found" is an
//! answer only for an account that would see it. This is the one place that knows, for each [`Fact`] that decides something, which privilege
//! shows it and what follows where that is missing. `check`, the start of a run, a takeover and the cut-over under its lock all ask here.
//!
//! Promises: foreign keys and triggers are complete, or there is an error; an id that is not known is never taken for another one.
//! Relies on (MySQL manual, "INFORMATION_SCHEMA Tables", and tests/mysql/account.rs on the server itself):
//! * `REFERENTIAL_CONSTRAINTS` shows a foreign key to accounts that have some privilege on the *child*, so only an account with one on all
//!   tables sees all of them; `INNODB_FOREIGN` shows all to PROCESS and is an error without it. Both hold names as they are written, unlike
//!   `INNODB_TABLES`, which holds names of files.
//! * `TRIGGERS` is empty without the TRIGGER privilege.
//! * What an account may do on the whole server a session learns when it connects; `SHOW GRANTS` says what the next one will.

use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::mysql::session::SHORT;
use crate::mysql::{MySqlError, Session, codes};
use crate::sql::grants::Grants;
use crate::sql::quote;
use mysql_async::Value;

/// Whether the server refused to show something.
pub fn is_refusal(error: &MySqlError) -> bool {
    matches!(error.code, codes::SPECIFIC_ACCESS_DENIED_ERROR | codes::DBACCESS_DENIED_ERROR | codes::TABLEACCESS_DENIED_ERROR)
}

/// An older server has no such thing to show.
const NO_SUCH_THING: [u16; 4] = [codes::BAD_FIELD_ERROR, codes::NO_SUCH_TABLE, codes::UNKNOWN_TABLE, codes::UNKNOWN_SYSTEM_VARIABLE];

/// Whether a query cannot be used on this server, or for this account. Any other error says nothing, and is no answer.
pub fn is_not_there(error: &MySqlError) -> bool {
    is_refusal(error) || NO_SUCH_THING.contains(&error.code)
}

/// What decides something, and is not shown to each account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// Foreign keys of tables in any schema that refer to the table.
    ForeignKeys,
    /// Triggers on the table.
    Triggers,
    /// Where the binary log ends, and what is left out of it.
    LogEnd,
    /// Replicas that the server lists.
    Replicas,
    /// The size of the files, where `throttle.maxDiskUsage` asks for it.
    DiskUsage,
    /// XA transactions that were prepared before the migration began.
    Prepared,
    /// Sessions that hold a metadata lock on the table.
    Blockers,
    /// InnoDB's ids of tables.
    TableIds,
    /// The length of the history list.
    HistoryList,
}

/// What follows where a fact is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// The migration is refused with [`Reason::MissingPrivilege`].
    Refused,
    /// It runs, and says once what it cannot tell.
    Said,
}

impl Fact {
    /// All of them, for docs and tests.
    pub const ALL: &'static [Fact] = &[
        Fact::ForeignKeys,
        Fact::Triggers,
        Fact::LogEnd,
        Fact::Replicas,
        Fact::DiskUsage,
        Fact::Prepared,
        Fact::Blockers,
        Fact::TableIds,
        Fact::HistoryList,
    ];

    /// In a few words.
    pub fn what(self) -> &'static str {
        match self {
            Fact::ForeignKeys => "foreign keys of other tables, in any schema, that refer to the table",
            Fact::Triggers => "triggers on the table",
            Fact::LogEnd => "the end of the binary log, and which databases are left out of it",
            Fact::Replicas => "the replicas that the server lists",
            Fact::DiskUsage => "the size of tablespaces and binary logs (only where `throttle.maxDiskUsage` is set)",
            Fact::Prepared => "XA transactions on the table that were prepared before the migration began",
            Fact::Blockers => "sessions that hold the table",
            Fact::TableIds => "InnoDB's id of the table",
            Fact::HistoryList => "the length of the history list",
        }
    }

    /// What shows it.
    pub fn privileges(self) -> &'static str {
        match self {
            Fact::ForeignKeys => "PROCESS; or REFERENCES (or any other privilege on tables) on `*.*`",
            Fact::Triggers => "TRIGGER on the database",
            Fact::LogEnd => "REPLICATION CLIENT",
            Fact::Replicas => "REPLICATION SLAVE",
            Fact::DiskUsage => "PROCESS and REPLICATION CLIENT",
            Fact::Prepared | Fact::Blockers => "PROCESS, and SELECT on `performance_schema.*`",
            Fact::TableIds | Fact::HistoryList => "PROCESS",
        }
    }

    /// Whether it is refused or said.
    pub fn without(self) -> Without {
        match self {
            Fact::ForeignKeys | Fact::Triggers | Fact::LogEnd | Fact::Replicas | Fact::DiskUsage => Without::Refused,
            Fact::Prepared | Fact::Blockers | Fact::TableIds | Fact::HistoryList => Without::Said,
        }
    }

    /// What cannot be told without it, or would go wrong.
    pub fn consequence(self) -> &'static str {
        match self {
            Fact::ForeignKeys => "the foreign key would still refer to the old table, and its checks would be wrong after the swap",
            Fact::Triggers => "triggers would stay on the old table",
            Fact::LogEnd => "the start position would be unknown, and so would databases that are not logged",
            Fact::Replicas => "replica lag could not be checked",
            Fact::DiskUsage => "the limit could not be enforced",
            Fact::Prepared => {
                "only the comparison before the cut-over finds such a transaction; commit or roll back what XA RECOVER lists before starting"
            }
            Fact::Blockers => {
                "sessions that block a cut-over are not reported, and `cutOver.killBlockersAfter` and the force token find none to kill; attempts are still made, each bounded by `cutOver.lockTimeout`"
            }
            Fact::TableIds => {
                "only the binary log shows whether a table was replaced by one of the same definition, and only the table names show the outcome of a swap whose connection was lost"
            }
            Fact::HistoryList => "`throttle.maxHistoryListLength` has no effect",
        }
    }

    /// What to do.
    pub fn grant(self, database: &str) -> String {
        match self {
            Fact::ForeignKeys => "GRANT PROCESS ON *.* TO the account, or GRANT REFERENCES ON *.* TO the account".to_owned(),
            Fact::Triggers => format!("GRANT TRIGGER ON {}.* TO the account", quote::identifier(database)),
            Fact::LogEnd => "GRANT REPLICATION CLIENT ON *.* TO the account".to_owned(),
            Fact::Replicas => "GRANT REPLICATION SLAVE ON *.* TO the account".to_owned(),
            Fact::DiskUsage => "GRANT PROCESS, REPLICATION CLIENT ON *.* TO the account".to_owned(),
            Fact::Prepared | Fact::Blockers => {
                "GRANT PROCESS ON *.* TO the account, and GRANT SELECT ON performance_schema.* TO the account".to_owned()
            }
            Fact::TableIds | Fact::HistoryList => "GRANT PROCESS ON *.* TO the account".to_owned(),
        }
    }

    /// The refusal where it cannot be seen.
    pub fn missing(self, database: &str) -> EngineError {
        EngineError::terminal(
            Reason::MissingPrivilege,
            &format!("the account cannot see {}: {}. {}", plain(self.what()), plain(self.consequence()), self.grant(database)),
        )
    }
}

/// Without the marks of a page.
pub fn plain(words: &str) -> String {
    words.replace('`', "")
}

/// The account's grants, as the next session has them, with the active roles in them.
///
/// # Errors
/// The server's.
pub async fn grants(session: &mut Session) -> Result<Grants, MySqlError> {
    let what = "read the account's grants";
    let role: Option<String> = session.first(what, SHORT, "SELECT CURRENT_ROLE()").await?;
    let sql = match role.as_deref() {
        None | Some("NONE" | "") => "SHOW GRANTS".to_owned(),
        Some(roles) => format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}"),
    };
    Ok(Grants::new(session.rows(what, SHORT, &sql).await?))
}

/// A foreign key that the table takes part in, as far as the server lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Schema of the child.
    pub schema: String,
    /// The table that has the constraint.
    pub child: String,
    /// The name of the constraint.
    pub name: String,
    /// The table that it refers to.
    pub parent: String,
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { schema, child, name, parent } = self;
        write!(f, "{} on {} → {}", quote::identifier(name), quote::qualified(schema, child), quote::identifier(parent))
    }
}

/// All foreign keys that a table takes part in, as child and as parent, whatever schema the other table is in.
///
/// # Errors
/// [`Reason::MissingPrivilege`] where there may be some that the account does not see; the server's.
pub async fn foreign_keys(session: &mut Session, database: &str, table: &str) -> Result<Vec<Reference>, EngineError> {
    let grants = grants(session).await?;
    foreign_keys_by(&grants, session, database, table).await
}

async fn foreign_keys_by(grants: &Grants, session: &mut Session, database: &str, table: &str) -> Result<Vec<Reference>, EngineError> {
    let rows: Vec<(String, String, String, String)> = session
        .select(
            "look for foreign keys",
            "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, REFERENCED_TABLE_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS \
             WHERE (CONSTRAINT_SCHEMA = ? AND TABLE_NAME = ?) OR (UNIQUE_CONSTRAINT_SCHEMA = ? AND REFERENCED_TABLE_NAME = ?) ORDER BY 1, 2, 3",
            vec![Value::from(database), Value::from(table), Value::from(database), Value::from(table)],
        )
        .await?;
    let mut found: Vec<Reference> =
        rows.into_iter().map(|(schema, child, name, parent)| Reference { schema, child, name, parent }).collect();
    if sees_all_tables(grants, session).await? {
        return Ok(found);
    }
    // Names as they are written, `schema/name`. It looks through all tables (20 µs for each foreign key of the server), so it comes last.
    let whole = format!("{database}/{table}");
    let sql = "SELECT ID, FOR_NAME, REF_NAME FROM information_schema.INNODB_FOREIGN WHERE FOR_NAME = ? OR REF_NAME = ? ORDER BY 1";
    let hidden: Vec<(String, String, String)> =
        match session.select("look for foreign keys of other databases", sql, vec![Value::from(&whole), Value::from(&whole)]).await {
            Ok(rows) => rows,
            Err(error) if is_refusal(&error) => return Err(Fact::ForeignKeys.missing(database)),
            Err(error) => return Err(error.into()),
        };
    for (id, child, parent) in hidden {
        let (schema, child) = child.split_once('/').unwrap_or(("", &child));
        let name = id.strip_prefix(&format!("{schema}/")).unwrap_or(&id);
        let parent = parent.strip_prefix(&format!("{database}/")).unwrap_or(&parent);
        let key = Reference { schema: schema.to_owned(), child: child.to_owned(), name: name.to_owned(), parent: parent.to_owned() };
        let same = |one: &Reference| {
            one.schema.eq_ignore_ascii_case(&key.schema)
                && one.child.eq_ignore_ascii_case(&key.child)
                && one.name.eq_ignore_ascii_case(&key.name)
        };
        if !found.iter().any(same) {
            found.push(key);
        }
    }
    Ok(found)
}

/// Whether this session is shown every table. A privilege that was granted since it connected is in the grants and not in the session, so
/// a table that only such a session is shown has to be there too.
async fn sees_all_tables(grants: &Grants, session: &mut Session) -> Result<bool, EngineError> {
    if !grants.sees_all_tables() {
        return Ok(false);
    }
    let sql = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'user'";
    Ok(session.first::<u64>("check whether the account can see all tables", SHORT, sql).await? == Some(1))
}

/// All triggers on a table.
///
/// # Errors
/// [`Reason::MissingPrivilege`] without TRIGGER; the server's.
pub async fn triggers(session: &mut Session, database: &str, table: &str) -> Result<Vec<String>, EngineError> {
    sees_triggers(&grants(session).await?, database)?;
    let sql = "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ? ORDER BY 1";
    Ok(session.select("look for triggers", sql, vec![Value::from(database), Value::from(table)]).await?)
}

fn sees_triggers(grants: &Grants, database: &str) -> Result<(), EngineError> {
    if grants.gives("TRIGGER", database) { Ok(()) } else { Err(Fact::Triggers.missing(database)) }
}

/// What binds a table to others: the foreign keys that it takes part in.
///
/// # Errors
/// [`Reason::MissingPrivilege`] where there may be some, or triggers, that the account does not see; the server's.
pub async fn relations(session: &mut Session, database: &str, table: &str) -> Result<Vec<Reference>, EngineError> {
    let grants = grants(session).await?;
    let foreign = foreign_keys_by(&grants, session, database, table).await;
    let triggers = sees_triggers(&grants, database);
    if let (Err(one), Err(other)) = (&foreign, &triggers)
        && (one.reason, other.reason) == (Reason::MissingPrivilege, Reason::MissingPrivilege)
    {
        // Both at once: nobody wants to be sent away twice.
        return Err(EngineError::terminal(Reason::MissingPrivilege, &format!("{one}; and {other}")));
    }
    triggers?;
    foreign
}

/// Whether a table is another one than it was. An id that is not known, then or now, proves nothing.
pub fn replaced(then: Option<u64>, now: Option<u64>) -> bool {
    matches!((then, now), (Some(then), Some(now)) if then != now)
}

/// Facts that the account does not see and that are no reason to refuse, [`Without::Said`]. It looks at what shows them, and not only at the
/// privilege: a performance schema that is off, or does not watch metadata locks, is empty for everybody.
///
/// # Errors
/// A lost connection.
pub async fn unseen(session: &mut Session) -> Result<Vec<Fact>, EngineError> {
    // Not LIMIT 0, for which the server does not look at the table, nor at the privilege.
    let process = shown(session, "SELECT COUNT(*) FROM information_schema.INNODB_TRX").await?;
    let watched = |name: &str| {
        format!(
            "SELECT COUNT(*) FROM performance_schema.setup_instruments WHERE NAME = '{name}' AND ENABLED = 'YES' AND @@performance_schema = 1"
        )
    };
    let locks = process
        && shown(session, "SELECT 1 FROM performance_schema.metadata_locks LIMIT 0").await?
        && counted(session, &watched("wait/lock/metadata/sql/mdl")).await?;
    // One that lists prepared transactions sees at least that there are none.
    let prepared = process
        && shown(session, "SELECT 1 FROM performance_schema.data_locks LIMIT 0").await?
        && counted(session, &watched("transaction")).await?;
    Ok(Fact::ALL
        .iter()
        .copied()
        .filter(|fact| match fact {
            Fact::Prepared => !prepared,
            Fact::Blockers => !locks,
            Fact::TableIds | Fact::HistoryList => !process,
            _ => false,
        })
        .collect())
}

async fn shown(session: &mut Session, sql: &str) -> Result<bool, EngineError> {
    match session.rows::<mysql_async::Row>("check what the account can see", SHORT, sql).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_there(&error) => Ok(false),
        // The server was already listing rows: it cannot show a statement of another session that has a character of four bytes.
        Err(error) if error.code == codes::CANNOT_CONVERT_STRING => Ok(true),
        Err(error) => Err(error.into()),
    }
}

async fn counted(session: &mut Session, sql: &str) -> Result<bool, EngineError> {
    match session.first::<u64>("check what the server instruments", SHORT, sql).await {
        Ok(count) => Ok(count.is_some_and(|n| n > 0)),
        Err(error) if is_not_there(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// One sentence for people about facts that are not seen; `None` when there are none. Pure.
pub fn tell(unseen: &[Fact], database: &str) -> Option<String> {
    let first = unseen.first()?;
    let parts: Vec<String> = unseen.iter().map(|fact| format!("{} ({})", plain(fact.what()), plain(fact.consequence()))).collect();
    // The one that needs most names what the others need.
    let most = unseen.iter().find(|fact| matches!(fact, Fact::Prepared | Fact::Blockers)).unwrap_or(first);
    Some(format!("the account cannot see: {}. {}", parts.join("; "), most.grant(database)))
}

/// Whether the size of the server's files can be read.
///
/// # Errors
/// [`Reason::MissingPrivilege`]; a lost connection.
pub async fn check_disk(session: &mut Session, database: &str) -> Result<(), EngineError> {
    for sql in ["SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES", "SHOW BINARY LOGS"] {
        match session.rows::<mysql_async::Row>("check whether the account can see file sizes", SHORT, sql).await {
            Err(error) if is_refusal(&error) => return Err(Fact::DiskUsage.missing(database)),
            Err(error) if error.is_connection() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_id_is_no_other_table() {
        for (then, now, expected) in
            [(Some(1), Some(1), false), (Some(1), Some(2), true), (Some(1), None, false), (None, Some(1), false), (None, None, false)]
        {
            assert_eq!(replaced(then, now), expected, "{then:?} {now:?}");
        }
    }

    #[test]
    fn one_sentence_tells_what_is_not_seen() {
        assert_eq!(tell(&[], "d"), None);
        let words = tell(&[Fact::Prepared, Fact::HistoryList], "d").unwrap_or_default();
        for part in ["XA RECOVER", "maxHistoryListLength has no effect", "SELECT ON performance_schema.*", "GRANT PROCESS"] {
            assert!(words.contains(part), "{words}");
        }
    }
}
