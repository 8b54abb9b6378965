//! A migration on a replica (modes ExecuteOnReplica and TestOnReplica): what the server must be, and its replication while the tables rest.
//!
//! Promises: the applier is stopped only behind a record that says so, and whoever finds that record starts it again ([`resume`]): the engine at
//! the end of its attempt, the next engine, or the clean-up. Sessions keep what they write out of the replica's binary log
//! ([`crate::mysql::ServerAddress::unlogged`]).
//! Relies on: `STOP REPLICA SQL_THREAD` ends behind a whole transaction, and a `START REPLICA` that comes meanwhile waits for it (manual,
//! "STOP REPLICA Statement").

use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{MigrationSpec, Mode};
use crate::mysql::server::ServerFacts;
use crate::mysql::session::SHORT;
use crate::mysql::{GtidSet, MySqlError, Session};
use crate::sql::mapping::ColumnMapping;
use crate::sql::quote;
use crate::sql::table::{Column, ColumnType, TableDefinition};
use std::time::Duration;

/// How long the applier may take to come to the end of a transaction, or to start.
const LIMIT: Duration = Duration::from_secs(60);

/// A replication channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Channel {
    /// `server_uuid` of the source.
    pub source_uuid: String,
    /// Whether transactions are received, or will be as soon as the source can be reached.
    pub receiving: bool,
    /// Whether received transactions are applied.
    pub applying: bool,
    /// The GTIDs received.
    pub received: GtidSet,
    /// Seconds behind the source; `None` while the server does not tell.
    pub behind: Option<u64>,
}

/// The channels by which a server replicates; none on a server that is no replica.
///
/// # Errors
/// The account lacks REPLICATION CLIENT, or the connection was lost.
pub async fn channels(session: &mut Session) -> Result<Vec<Channel>, MySqlError> {
    let sql = format!("SHOW {} STATUS", word(session));
    let what = "read the server's replication status";
    let rows: Vec<mysql_async::Row> = session.rows(what, SHORT, &sql).await?;
    rows.iter().map(|row| channel(row).map_err(|column| MySqlError::unexpected(what, &format!("{column} is not readable")))).collect()
}

/// A row of `SHOW REPLICA STATUS`, in the words of either version.
///
/// # Errors
/// The column that is missing, or whose value has no meaning: that is not the same as none.
pub fn channel(row: &mysql_async::Row) -> Result<Channel, &'static str> {
    let shown = |names: [&'static str; 2]| -> Result<Option<String>, &'static str> {
        names.iter().find_map(|name| row.get_opt::<Option<String>, _>(*name)).and_then(Result::ok).ok_or(names[0])
    };
    let text = |names| shown(names).map(Option::unwrap_or_default);
    let behind = match shown(["Seconds_Behind_Source", "Seconds_Behind_Master"])? {
        Some(seconds) => Some(seconds.parse().map_err(|_| "Seconds_Behind_Source")?),
        None => None,
    };
    Ok(Channel {
        source_uuid: text(["Source_UUID", "Master_UUID"])?,
        receiving: text(["Replica_IO_Running", "Slave_IO_Running"])? != "No",
        applying: text(["Replica_SQL_Running", "Slave_SQL_Running"])? != "No",
        received: GtidSet::parse(&text(["Retrieved_Gtid_Set", "Retrieved_Gtid_Set"])?).ok_or("Retrieved_Gtid_Set")?,
        behind,
    })
}

/// Whether a migration can begin on the server, before anything is touched.
///
/// # Errors
/// [`Reason::NotAReplica`], [`Reason::ReadOnly`], [`Reason::ServerNotSupported`]; [`Reason::MissingPrivilege`] in the server's own words.
pub async fn check(session: &mut Session, mode: Mode, facts: &ServerFacts) -> Result<(), EngineError> {
    if let Some((reason, message)) = unfit(mode, facts, &channels(session).await?) {
        return Err(EngineError::terminal(reason, &format!("{message}. Nothing was touched")));
    }
    if mode == Mode::TestOnReplica {
        // It runs already, so that nothing but the privilege is tried.
        start_applier(session).await?;
    }
    Ok(())
}

/// Why a mode for replicas cannot begin on a server, if it cannot (pure).
pub fn unfit(mode: Mode, facts: &ServerFacts, channels: &[Channel]) -> Option<(Reason, String)> {
    if channels.is_empty() {
        return Some((
            Reason::NotAReplica,
            format!("mode {mode:?} is for a replica, and the server has no replication source: point it at a replica, or use mode Execute"),
        ));
    }
    if facts.super_read_only {
        let message = "super_read_only is set on the replica, so no account can write there: SET GLOBAL super_read_only=OFF (read_only may stay on), and set it again afterwards";
        return Some((Reason::ReadOnly, message.to_owned()));
    }
    if !facts.log_replica_updates {
        let message =
            "log_replica_updates is off: what the replica applies is not in its binary log, so changes during the copy would be missed";
        return Some((Reason::ServerNotSupported, message.to_owned()));
    }
    if mode == Mode::TestOnReplica && channels.iter().any(|channel| !channel.applying) {
        let message = "the replica's applier is stopped, and mode TestOnReplica starts it at the end: START REPLICA first";
        return Some((Reason::NotAReplica, message.to_owned()));
    }
    None
}

/// What the first write tells on a replica that is read only for this account.
pub fn may_not_write(error: EngineError) -> EngineError {
    if error.reason != Reason::ReadOnly {
        return error;
    }
    let message = format!(
        "{error}: only accounts with CONNECTION_ADMIN can write to a read-only replica; GRANT CONNECTION_ADMIN ON *.* TO the account. Nothing was touched"
    );
    EngineError::terminal(Reason::MissingPrivilege, &message)
}

/// Whether the server is still a replica: what is done there alone must not be done on a primary.
///
/// # Errors
/// [`Reason::NotAReplica`]; the server's.
pub async fn still(session: &mut Session, spec: &MigrationSpec) -> Result<(), EngineError> {
    if !spec.mode.on_replica() || !channels(session).await?.is_empty() {
        return Ok(());
    }
    Err(EngineError::terminal(
        Reason::NotAReplica,
        &format!(
            "the server is no longer a replica: it was promoted, and the change would be made on the primary only. {} is unchanged; the ghost and state tables are kept until the migration is deleted",
            quote::qualified(&spec.database, &spec.table)
        ),
    ))
}

/// Why changes of the source would end up in other columns of the new definition, if they would (pure). The source goes on sending rows of
/// the original definition, and the replica goes by the position of a column (manual, "Replication with Differing Table Definitions on
/// Source and Replica").
pub fn misplaced(original: &TableDefinition, new: &TableDefinition, mapping: &ColumnMapping) -> Option<String> {
    original.columns.iter().zip(&new.columns).find_map(|(column, now)| {
        let name = mapping.from_original(&column.name).map_or(&column.name, |shared| &shared.ghost);
        (!name.eq_ignore_ascii_case(&now.name)).then(|| {
            format!(
                "the source's column {} would be applied to {}: only columns at the end can be added or dropped",
                quote::identifier(&column.name),
                quote::identifier(&now.name)
            )
        })
    })
}

/// Why they would stop the applier, or become other values, if they would (pure). `conversions`: the replica has some
/// `replica_type_conversions`, and judges types itself; but it takes the numbers of ENUM and SET for what they are.
pub fn retyped(original: &TableDefinition, new: &TableDefinition, conversions: bool) -> Option<String> {
    let labels = |c: &Column| matches!(c.column_type, ColumnType::Enum { .. } | ColumnType::Set { .. });
    original.columns.iter().zip(&new.columns).find_map(|(column, now)| {
        let same = column.type_text == now.type_text || conversions && !labels(column) && !labels(now);
        (!same || column.charset != now.charset || column.nullable && !now.nullable).then(|| {
            format!(
                "the column {} would have a different type from the source ({} there, {} here), or refuse its NULL{}",
                quote::identifier(&column.name),
                column.type_text,
                now.type_text,
                if conversions { "" } else { "; replica_type_conversions is empty" }
            )
        })
    })
}

/// Whether the replica can go on applying changes to the new definition.
///
/// # Errors
/// [`Reason::AlterNotSupported`]; the server's.
pub async fn check_columns(
    session: &mut Session,
    original: &TableDefinition,
    new: &TableDefinition,
    mapping: &ColumnMapping,
) -> Result<(), EngineError> {
    // Renamed in 8.0.26.
    let variable =
        if crate::mysql::versions::REPLICA_VARIABLES.of(session.version()) { "replica_type_conversions" } else { "slave_type_conversions" };
    let sql = format!("SELECT @@global.{variable}");
    let conversions: Option<String> = session.first("read which conversions the replica makes", SHORT, &sql).await?;
    let conversions = conversions.is_some_and(|c| !c.is_empty());
    match misplaced(original, new, mapping).or_else(|| retyped(original, new, conversions)) {
        Some(why) => Err(EngineError::terminal(
            Reason::AlterNotSupported,
            &format!(
                "changes of the source could not be applied to the new table: {why}. Nothing is left behind; make the change on the source, with mode Execute"
            ),
        )),
        None => Ok(()),
    }
}

/// Stops applying, behind a whole transaction; receiving goes on.
///
/// # Errors
/// REPLICATION_SLAVE_ADMIN is missing, the applier is still busy with one transaction after a minute, or the connection was lost.
pub async fn stop_applier(session: &mut Session) -> Result<(), MySqlError> {
    let word = word(session);
    session.run("stop applying changes on the replica (REPLICATION_SLAVE_ADMIN)", LIMIT, &format!("STOP {word} SQL_THREAD")).await
}

/// Starts applying; nothing happens where it runs.
///
/// # Errors
/// As [`stop_applier`].
async fn start_applier(session: &mut Session) -> Result<(), MySqlError> {
    let word = word(session);
    session.run("start applying changes on the replica (REPLICATION_SLAVE_ADMIN)", LIMIT, &format!("START {word} SQL_THREAD")).await
}

/// Starts what an engine of this migration has stopped and could not start again itself.
///
/// # Errors
/// Transient: replication stands still, and that must not be the last word.
pub async fn resume(session: &mut Session, spec: &MigrationSpec) -> Result<(), EngineError> {
    start_applier(session).await.map_err(|error| {
        // Whatever the server has against it, it is tried again.
        EngineError::transient(
            Reason::StatementInterrupted,
            &format!(
                "the replica's applier was stopped to compare {}, and could not be restarted yet: {error}; to restart it by hand, START REPLICA SQL_THREAD",
                quote::qualified(&spec.database, &spec.table)
            ),
        )
    })
}

/// How the statements call a replica: renamed in 8.0.22.
pub fn word(session: &Session) -> &'static str {
    if crate::mysql::versions::REPLICA_STATEMENTS.of(session.version()) { "REPLICA" } else { "SLAVE" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::server::tests::good_server;

    #[test]
    fn a_server_that_does_not_fit_is_told_what_is_wrong() {
        let runs = Channel { receiving: true, applying: true, ..Channel::default() };
        let rests = Channel { applying: false, ..runs.clone() };
        let good = good_server();
        let locked = ServerFacts { super_read_only: true, read_only: true, ..good.clone() };
        let silent = ServerFacts { log_replica_updates: false, ..good.clone() };
        let (execute, test) = (Mode::ExecuteOnReplica, Mode::TestOnReplica);
        for (mode, facts, channels, expected) in [
            (execute, &good, vec![runs.clone()], None),
            (execute, &ServerFacts { read_only: true, ..good.clone() }, vec![runs.clone()], None),
            (execute, &good, vec![rests.clone()], None),
            (test, &good, vec![runs.clone()], None),
            (execute, &good, vec![], Some(Reason::NotAReplica)),
            (test, &good, vec![], Some(Reason::NotAReplica)),
            (test, &good, vec![runs.clone(), rests], Some(Reason::NotAReplica)),
            (test, &locked, vec![runs.clone()], Some(Reason::ReadOnly)),
            (execute, &silent, vec![runs], Some(Reason::ServerNotSupported)),
        ] {
            let got = unfit(mode, facts, &channels);
            assert_eq!(got.as_ref().map(|(reason, _)| *reason), expected, "{mode:?} {channels:?}: {got:?}");
        }
    }

    #[test]
    fn rows_of_the_source_must_find_their_columns() {
        let column = |name: &str, type_text: &str| Column {
            name: name.into(),
            column_type: match type_text {
                "int" => ColumnType::Integer { bits: 32, unsigned: false },
                "bigint" => ColumnType::Integer { bits: 64, unsigned: false },
                _ => ColumnType::Enum { labels: Vec::new() },
            },
            type_text: type_text.into(),
            charset: None,
            collation: None,
            nullable: false,
            generated: crate::sql::table::Generated::No,
            auto_increment: false,
            has_default: false,
            invisible: false,
        };
        let table = |columns: &[(&str, &str)]| TableDefinition {
            name: "t".into(),
            columns: columns.iter().map(|(name, text)| column(name, text)).collect(),
            indexes: Vec::new(),
        };
        let original = table(&[("id", "int"), ("e", "enum('a')")]);
        // New columns, the ALTER, without and with conversions on the replica: whether it fits.
        for (columns, alter, without, with) in [
            (vec![("id", "int"), ("e", "enum('a')"), ("c", "int")], "ADD COLUMN c INT", true, true),
            (vec![("id", "int")], "DROP COLUMN e", true, true),
            (vec![("id", "int"), ("f", "enum('a')")], "RENAME COLUMN e TO f", true, true),
            (vec![("c", "int"), ("id", "int"), ("e", "enum('a')")], "ADD COLUMN c INT FIRST", false, false),
            (vec![("e", "enum('a')")], "DROP COLUMN id", false, false),
            (vec![("e", "enum('a')"), ("id", "int")], "MODIFY id INT AFTER e", false, false),
            (vec![("id", "bigint"), ("e", "enum('a')")], "MODIFY id BIGINT", false, true),
            (vec![("id", "int"), ("e", "enum('b','a')")], "MODIFY e ENUM('b','a')", false, false),
        ] {
            let new = table(&columns);
            let alter = crate::sql::alter::Alter::parse(alter).expect(alter);
            let mapping = ColumnMapping::new(&original, &new, &alter).expect("a mapping");
            for (conversions, fits) in [(false, without), (true, with)] {
                let why = misplaced(&original, &new, &mapping).or_else(|| retyped(&original, &new, conversions));
                assert_eq!(why.is_none(), fits, "{columns:?}, conversions {conversions}: {why:?}");
            }
        }
        let nullable = TableDefinition { columns: vec![Column { nullable: true, ..column("id", "int") }], ..table(&[]) };
        assert!(retyped(&nullable, &table(&[("id", "int")]), true).is_some(), "a NULL of the source has no place");
        assert_eq!(retyped(&table(&[("id", "int")]), &nullable, false), None);
    }
}
