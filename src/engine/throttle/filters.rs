//! Replicas that leave tables out (`replicate-ignore-db`, `replicate-wild-ignore-table`, …). One that does not get the migration's own tables
//! would keep the old definition after the swap and break at the first value that does not fit it, or show a lag that never ends.
//!
//! Promises: the filters of each replica that is checked are read before anything is touched, and again before each attempt at the swap; a
//! replica that merely lags, or cannot be reached, is not taken for one that filters. That the tables really arrive is the heartbeat's
//! business ([`super::replicas`]).
//! Relies on the order of the rules (MySQL manual, "How Servers Evaluate Replication Filtering Rules"), for rows; and on `SHOW REPLICA
//! STATUS` naming the filters of a channel.

use super::replicas::{discovered, normal, split};
use super::signals::{READING_LIMIT, text};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{Limits, MigrationSpec, Replicas};
use crate::engine::table::replica::channel;
use crate::engine::table::sight;
use crate::mysql::{MySqlError, ServerAddress, Session};
use crate::sql::grants::like;
use crate::sql::quote;
use mysql_async::Row;

/// The filters of one channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filters {
    do_db: Vec<String>,
    ignore_db: Vec<String>,
    do_table: Vec<String>,
    ignore_table: Vec<String>,
    wild_do_table: Vec<String>,
    wild_ignore_table: Vec<String>,
    rewrite_db: Vec<String>,
}

impl Filters {
    /// Of a row of `SHOW REPLICA STATUS`.
    fn of(row: &Row) -> Self {
        let list = |name: &str| -> Vec<String> {
            let at = row.columns_ref().iter().position(|c| c.name_str() == name);
            let list = at.and_then(|at| text(row, at)).unwrap_or_default();
            list.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
        };
        let pairs = list("Replicate_Rewrite_DB");
        Self {
            do_db: list("Replicate_Do_DB"),
            ignore_db: list("Replicate_Ignore_DB"),
            do_table: list("Replicate_Do_Table"),
            ignore_table: list("Replicate_Ignore_Table"),
            wild_do_table: list("Replicate_Wild_Do_Table"),
            wild_ignore_table: list("Replicate_Wild_Ignore_Table"),
            // `(from,to)`, each cut in two at its comma.
            rewrite_db: pairs.iter().filter_map(|half| half.strip_prefix('(')).map(str::to_owned).collect(),
        }
    }

    /// The variable that leaves a table out, and its value, if one does (pure).
    pub fn drops(&self, database: &str, table: &str) -> Option<(&'static str, String)> {
        let told = |name, list: &[String]| Some((name, list.join(",")));
        let has = |list: &[String], what: &str| list.iter().any(|one| one == what);
        if has(&self.rewrite_db, database) {
            return told("replicate-rewrite-db", &self.rewrite_db);
        }
        if !self.do_db.is_empty() {
            if !has(&self.do_db, database) {
                return told("replicate-do-db", &self.do_db);
            }
        } else if has(&self.ignore_db, database) {
            return told("replicate-ignore-db", &self.ignore_db);
        }
        let name = format!("{database}.{table}");
        let matches = |list: &[String]| list.iter().any(|pattern| like(pattern, &name));
        if has(&self.do_table, &name) {
            return None;
        }
        if has(&self.ignore_table, &name) {
            return told("replicate-ignore-table", &self.ignore_table);
        }
        if matches(&self.wild_do_table) {
            return None;
        }
        if matches(&self.wild_ignore_table) {
            return told("replicate-wild-ignore-table", &self.wild_ignore_table);
        }
        if !self.do_table.is_empty() {
            return told("replicate-do-table", &self.do_table);
        }
        if !self.wild_do_table.is_empty() {
            return told("replicate-wild-do-table", &self.wild_do_table);
        }
        None
    }
}

/// What `SHOW REPLICA STATUS` says, whatever the version calls it.
pub async fn status(session: &mut Session) -> Result<Vec<Row>, MySqlError> {
    let what = "read a replica's filters";
    match session.rows(what, READING_LIMIT, "SHOW REPLICA STATUS").await {
        // Servers before 8.0.22.
        Err(error) if error.code == crate::mysql::codes::PARSE_ERROR => session.rows(what, READING_LIMIT, "SHOW SLAVE STATUS").await,
        other => other,
    }
}

/// The filters that what the primary logs passes on a replica: those of the channel from the primary, or of the only channel.
fn on_the_way(rows: &[Row], primary: &str) -> Option<Filters> {
    let direct = rows.iter().find(|row| channel(row).is_ok_and(|c| c.source_uuid == primary));
    let only = if rows.len() == 1 { rows.first() } else { None };
    direct.or(only).map(Filters::of)
}

/// A replica has applied all that the primary had, and the table is not there, or its rows do not come.
pub(super) fn arrives_not(replica: &str, table: &str) -> EngineError {
    filtered(
        replica,
        table,
        "has applied everything that the primary had logged, so a replicate-* option on it, or on a server in between, filters the table out",
    )
}

/// The refusal, with the replica, the table and what filters it.
fn filtered(replica: &str, table: &str, why: &str) -> EngineError {
    EngineError::terminal(
        Reason::ReplicaFiltered,
        &format!(
            "the replica {replica} does not replicate the table {table}: it {why}. After the swap it would keep the old definition, and stop at the first change that does not fit it. Remove the filter, or, if that replica should not have the table, list only the other replicas in throttle.replicas.hosts"
        ),
    )
}

/// Refuses where a replica leaves one of the migration's tables out. Replicas that cannot be asked are passed over.
///
/// # Errors
/// [`Reason::ReplicaFiltered`]; a lost connection.
pub async fn check(session: &mut Session, spec: &MigrationSpec, limits: &Limits) -> Result<(), EngineError> {
    if spec.server.unlogged || limits.max_replica_lag.is_none() {
        return Ok(());
    }
    let replicas = match &limits.replicas {
        Replicas::None => return Ok(()),
        Replicas::Hosts(hosts) => hosts.iter().map(|host| normal(host)).collect(),
        Replicas::Auto => match discovered(session).await {
            Ok(found) => found.into_iter().filter_map(Result::ok).collect::<Vec<_>>(),
            // The throttler says so.
            Err(error) if sight::is_refusal(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        },
    };
    let primary = session.server_uuid().to_owned();
    let looks = replicas.into_iter().map(|name| check_replica(spec, name, &primary));
    for found in futures::future::join_all(looks).await {
        found?;
    }
    Ok(())
}

async fn check_replica(spec: &MigrationSpec, name: String, primary: &str) -> Result<(), EngineError> {
    let (host, port) = split(&name);
    let address = ServerAddress { host, port, ..spec.server.clone() };
    let asked = async {
        let mut session = Session::open(&address).await?;
        let rows = status(&mut session).await;
        session.close().await;
        rows
    };
    let rows = match tokio::time::timeout(READING_LIMIT, asked).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => {
            tracing::debug!(replica = name, "its filters cannot be read: {error}");
            return Ok(());
        }
        Err(_) => return Ok(()),
    };
    let Some(filters) = on_the_way(&rows, primary) else { return Ok(()) };
    let names = spec.names();
    for table in [&names.state, &names.ghost, &names.old, &spec.table] {
        if let Some(by) = filters.drops(&spec.database, table) {
            let (variable, value) = by;
            return Err(filtered(&name, &quote::qualified(&spec.database, table), &format!("has {variable}={value}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_taken_in_the_order_of_the_server() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let none = Filters::default;
        for (filters, table, expected) in [
            (none(), "_t_ghc", None),
            (Filters { wild_ignore_table: list(&["d.\\_%"]), ..none() }, "_t_ghc", Some("replicate-wild-ignore-table")),
            (Filters { wild_ignore_table: list(&["d.\\_%"]), ..none() }, "t", None),
            (Filters { wild_ignore_table: list(&["%._t_g__"]), ..none() }, "_t_gho", Some("replicate-wild-ignore-table")),
            (Filters { wild_ignore_table: list(&["other.%"]), ..none() }, "_t_gho", None),
            (Filters { ignore_db: list(&["x", "d"]), ..none() }, "t", Some("replicate-ignore-db")),
            (Filters { do_db: list(&["d"]), ignore_db: list(&["d"]), ..none() }, "t", None),
            (Filters { do_db: list(&["x"]), ..none() }, "t", Some("replicate-do-db")),
            (Filters { ignore_table: list(&["d._t_del"]), ..none() }, "_t_del", Some("replicate-ignore-table")),
            (Filters { do_table: list(&["d.t"]), ..none() }, "t", None),
            (Filters { do_table: list(&["d.t"]), ..none() }, "_t_gho", Some("replicate-do-table")),
            (Filters { wild_do_table: list(&["d.%"]), wild_ignore_table: list(&["d.\\_%"]), ..none() }, "_t_gho", None),
            (Filters { wild_do_table: list(&["d.t%"]), ..none() }, "_t_gho", Some("replicate-wild-do-table")),
            (Filters { rewrite_db: list(&["d"]), ..none() }, "t", Some("replicate-rewrite-db")),
        ] {
            assert_eq!(filters.drops("d", table).map(|(variable, _)| variable), expected, "{filters:?} {table}");
        }
    }
}
