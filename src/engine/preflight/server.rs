//! The server and the account.
use super::{Look, Severity, Topic};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::Mode;
use crate::engine::table::inspector::{self, Inspected};
use crate::engine::table::server::{Against, Known, Problem, server_problems};
use crate::engine::table::{replica, sight};
use crate::engine::throttle;
use crate::mysql::server::ServerFacts;
use crate::mysql::session::{SHORT, UNLOGGED};
use crate::mysql::versions::REPLICA_STATEMENTS;
use crate::mysql::{Session, settings};
use crate::sql::quote;
use crate::sql::token::Grammar;
use std::collections::BTreeSet;

/// How many connections are compared: a load balancer in front of several servers shows itself soon.
const CONNECTIONS: usize = 3;

/// What the account may do, by asking the server to plan it, never to do it. The session must not be read only yet.
pub async fn privileges(look: &mut Look<'_>) -> Result<(), EngineError> {
    let database = look.spec.database.clone();
    let names = look.spec.names();
    let ghost = quote::qualified(&database, &names.ghost);
    let original = look.table();
    let grant = |what: &str| format!("GRANT {what} ON {}.* TO …", quote::identifier(&database));
    let tests = [
        ("SELECT", format!("SELECT 1 FROM {original} LIMIT 0"), grant("SELECT")),
        // The names of the ghost: its privileges are what counts. One column is enough to be refused by name or by number, later.
        ("INSERT", format!("EXPLAIN INSERT INTO {ghost} VALUES (1)"), grant("INSERT")),
        ("UPDATE", format!("EXPLAIN UPDATE {ghost} SET a = 1"), grant("UPDATE")),
        ("DELETE", format!("EXPLAIN DELETE FROM {ghost}"), grant("DELETE")),
        // Checked when it is prepared; it is never executed.
        (
            "CREATE",
            format!("PREPARE theseus_preflight FROM 'CREATE TABLE {} LIKE {}'", escaped(&ghost), escaped(&original)),
            grant("CREATE"),
        ),
        ("REPLICATION SLAVE", "SHOW REPLICAS".to_owned(), "GRANT REPLICATION SLAVE ON *.* TO …".to_owned()),
    ];
    for (privilege, sql, advice) in tests {
        let sql = if privilege == "REPLICATION SLAVE" && !REPLICA_STATEMENTS.of(look.session.version()) {
            "SHOW SLAVE HOSTS".to_owned()
        } else {
            sql
        };
        match look.session.rows::<mysql_async::Row>("try a privilege", SHORT, &sql).await {
            Ok(_) => {}
            Err(error) if error.is_connection() => return Err(error.into()),
            Err(error)
                if crate::engine::contract::error::reason_of(&error) == Reason::MissingPrivilege && privilege == "REPLICATION SLAVE" =>
            {
                look.against_a_copy(Reason::MissingPrivilege, privilege, error.message, advice);
            }
            Err(error) if crate::engine::contract::error::reason_of(&error) == Reason::MissingPrivilege => {
                look.report.add(Severity::Refuse, Reason::MissingPrivilege, privilege, error.message, advice);
            }
            // The privilege is there; what is wrong is another check's business (no such table, another number of columns).
            Err(_) => {}
        }
    }
    let _ = look.session.run("forget a statement", SHORT, "DEALLOCATE PREPARE theseus_preflight").await;
    granted(look, &grant).await
}

/// A name inside a text literal, under the session's sql_mode.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('\'', "''")
}

/// What only doing would prove, by the words of SHOW GRANTS.
async fn granted(look: &mut Look<'_>, grant: &(dyn Fn(&str) -> String + Sync)) -> Result<(), EngineError> {
    let lines = sight::grants(&mut look.session).await;
    let Some(lines) = look.seen(
        lines,
        "SHOW GRANTS",
        "could not check whether the account may ALTER, DROP, LOCK TABLES and CREATE TEMPORARY TABLES",
        "",
    )?
    else {
        return Ok(());
    };
    let database = look.spec.database.clone();
    for privilege in ["ALTER", "DROP", "LOCK TABLES", "CREATE TEMPORARY TABLES"] {
        if !lines.gives(privilege, &database) {
            look.report.add(
                Severity::Warning,
                Reason::MissingPrivilege,
                privilege,
                format!("SHOW GRANTS lists no {privilege} on the database; only using the privilege would prove it"),
                grant(privilege),
            );
        }
    }
    let may = |privilege| lines.gives(privilege, &database) || lines.gives("SUPER", &database);
    if look.spec.mode == Mode::TestOnReplica && !may("REPLICATION_SLAVE_ADMIN") {
        look.report.add(
            Severity::Warning,
            Reason::MissingPrivilege,
            "REPLICATION_SLAVE_ADMIN",
            "SHOW GRANTS lists no REPLICATION_SLAVE_ADMIN, which mode TestOnReplica needs to stop and restart the replica's applier",
            "GRANT REPLICATION_SLAVE_ADMIN ON *.* TO …",
        );
    }
    if look.spec.mode.on_replica() && !may("CONNECTION_ADMIN") {
        look.report.add(
            Severity::Warning,
            Reason::MissingPrivilege,
            "CONNECTION_ADMIN",
            "SHOW GRANTS lists no CONNECTION_ADMIN: with read_only on, the account could not write to the replica",
            "GRANT CONNECTION_ADMIN ON *.* TO …; not needed if the replica is not read-only",
        );
    }
    if look.controls.kill_blockers_after.is_some() && !may("CONNECTION_ADMIN") {
        look.report.add(
            Severity::Warning,
            Reason::MissingPrivilege,
            "CONNECTION_ADMIN",
            "SHOW GRANTS lists no CONNECTION_ADMIN: cutOver.killBlockersAfter is set, but the account could not kill sessions of other accounts",
            "GRANT CONNECTION_ADMIN ON *.* TO …; or remove killBlockersAfter",
        );
    }
    Ok(())
}

/// Settings, all of them.
pub async fn settings(look: &mut Look<'_>) -> Result<ServerFacts, EngineError> {
    let facts = ServerFacts::read(&mut look.session).await?;
    let server_id = ServerFacts::server_id(&mut look.session).await?;
    let sessions = Some(inspector::sessions_allowed(&mut look.session).await?);
    let known = Known { facts: Some(&facts), server_id: Some(server_id), sessions, not_logged: None };
    for problem in server_problems(known, Some(look.spec.mode)) {
        told(look, problem);
    }
    let report = &mut look.report;
    if !facts.order_commits && !facts.gtid {
        report.add(
            Severity::Warning,
            Topic::ServerSetting,
            "binlog_order_commits",
            "binlog_order_commits=OFF without GTIDs: rows are read with FOR SHARE, which waits for the application's row locks",
            "set binlog_order_commits=ON or gtid_mode=ON",
        );
    }
    let gtid = if facts.gtid { "GTIDs are on" } else { "no GTIDs: a failover of the primary ends the migration" };
    report.add(
        Severity::Info,
        Topic::Server,
        format!("{}:{}", look.spec.server.host, look.spec.server.port),
        format!(
            "{} {}: {}; server_uuid {}, binlog_row_image={}, {gtid}",
            facts.flavour,
            facts.version_text,
            facts.product().standing(),
            facts.uuid,
            facts.binlog_row_image
        ),
        "",
    );
    log(look, &facts).await?;
    replica(look, &facts).await?;
    Ok(facts)
}

/// A problem of the server, as a finding.
fn told(look: &mut Look<'_>, problem: Problem) {
    let Problem { reason, setting, against, message, advice } = problem;
    match against {
        Against::Everything => look.report.add(Severity::Refuse, reason, setting, message, advice),
        Against::ACopy => look.against_a_copy(reason, setting, message, advice),
    }
}

/// Sessions: what `init_connect` makes of them, and what is not known of them. Returns how the server's clients write.
pub async fn sessions(look: &mut Look<'_>) -> Result<Grammar, EngineError> {
    let values = look.session.server_values().await?;
    let given = look.session.given().clone();
    let differing = values.variables.iter().filter_map(|(name, global)| {
        // Every client asks for its own character set when it connects.
        let has = given.get(name).filter(|_| !matches!(name.as_str(), "collation_connection" | "character_set_connection"))?;
        (!settings::same(name, has, global)).then_some((name, has, global))
    });
    for (name, has, global) in differing {
        look.report.add(
            Severity::Warning,
            Topic::ServerSetting,
            name.clone(),
            format!(
                "sessions of this account start with {name}={has} (init_connect), those of other accounts with the server's {global}: clauses and rows are evaluated with {global}, as in a native ALTER by another account"
            ),
            "if the value matters, spell it out in the clauses or set it globally",
        );
    }
    let unknown = look.session.unknown_variables().await?;
    if !unknown.is_empty() {
        look.report.add(
            Severity::Warning,
            Topic::ServerSetting,
            unknown.join(", "),
            "this version of Theseus does not know these session variables, nor whether row values depend on them",
            "look them up in the server's manual; if they are not at their defaults, test the change on a copy of the table first",
        );
    }
    Ok(values.grammar())
}

/// A table without a primary key, where the server wants one.
pub(super) fn primary_key(look: &mut Look<'_>, original: &Inspected) {
    let wanted = look.session.given().get("sql_require_primary_key").is_some_and(|v| settings::same("sql_require_primary_key", v, "1"));
    if wanted && !original.definition.indexes.iter().any(|index| index.name == "PRIMARY") {
        let table = look.table();
        look.report.add(
            Severity::Refuse,
            Reason::ServerNotSupported,
            "sql_require_primary_key",
            format!("{table} has no primary key, and the server refuses to create or alter such a table, natively too"),
            "SET GLOBAL sql_require_primary_key=OFF, add the primary key, and set it ON again",
        );
    }
}

/// The binary log: whether the account may see its end, and whether the database is in it.
async fn log(look: &mut Look<'_>, facts: &ServerFacts) -> Result<(), EngineError> {
    if !facts.log_bin {
        return Ok(());
    }
    let database = look.spec.database.clone();
    match facts.logs_database(&mut look.session, &database).await {
        Ok(logged) => {
            let known = Known { not_logged: (!logged).then_some(&database), ..Known::default() };
            for problem in server_problems(known, Some(look.spec.mode)) {
                told(look, problem);
            }
        }
        Err(error) if !sight::is_refusal(&error) => return Err(error.into()),
        Err(error) => {
            let advice = "GRANT REPLICATION CLIENT ON *.* TO …";
            look.against_a_copy(Reason::MissingPrivilege, "REPLICATION CLIENT", error.message, advice);
        }
    }
    Ok(())
}

/// Writing to a replica makes it differ from its source, and some modes want just that.
async fn replica(look: &mut Look<'_>, facts: &ServerFacts) -> Result<(), EngineError> {
    let channels = replica::channels(&mut look.session).await;
    let channels = look.seen(
        channels,
        "SHOW REPLICA STATUS",
        "could not check whether the server is itself a replica",
        "GRANT REPLICATION CLIENT ON *.* TO …",
    )?;
    let mode = look.spec.mode;
    if mode.on_replica() {
        if let Some((reason, message)) = channels.and_then(|channels| replica::unfit(mode, facts, &channels)) {
            look.report.add(Severity::Refuse, reason, "replica", message, "");
        }
        let what = "try a privilege (SESSION_VARIABLES_ADMIN)";
        match look.session.run(what, SHORT, &format!("{UNLOGGED}; SET SESSION sql_log_bin=1")).await {
            Err(error) if !sight::is_refusal(&error) => return Err(error.into()),
            Err(error) => look.report.add(
                Severity::Refuse,
                Reason::MissingPrivilege,
                "SESSION_VARIABLES_ADMIN",
                error.message,
                "GRANT SESSION_VARIABLES_ADMIN ON *.* TO …",
            ),
            Ok(()) => {}
        }
    } else if channels.is_some_and(|channels| !channels.is_empty()) {
        look.report.add(
            Severity::Warning,
            Topic::ServerSetting,
            "replica",
            "the server is a replica and not read-only: a change made here is not made on its source",
            "point the migration at the primary, unless this is intended",
        );
    }
    Ok(())
}

/// Replicas that would not get the migration's tables.
pub async fn filters(look: &mut Look<'_>) -> Result<(), EngineError> {
    match throttle::filters::check(&mut look.session, look.spec, &look.controls.limits).await {
        Err(error) if error.reason == Reason::ReplicaFiltered => {
            look.rules_out_a_copy(error.reason, "replicas", error.message, "remove the filter, or exclude the replica");
        }
        other => other?,
    }
    Ok(())
}

/// Whether several connections reach one server.
pub async fn connections(look: &mut Look<'_>) -> Result<(), EngineError> {
    let mut uuids = BTreeSet::new();
    for _ in 0..CONNECTIONS {
        let mut session = Session::open(&look.spec.server).await?;
        let uuid: Option<String> = session.first("read the server's id", SHORT, "SELECT @@server_uuid").await?;
        uuids.extend(uuid);
        session.close().await;
    }
    if uuids.len() > 1 {
        look.report.add(
            Severity::Refuse,
            Reason::ServerNotSupported,
            "server_uuid",
            format!(
                "{CONNECTIONS} connections to {}:{} reached {} different servers",
                look.spec.server.host,
                look.spec.server.port,
                uuids.len()
            ),
            "use the primary's own address, not a load balancer's",
        );
    }
    let lock = crate::sql::names::lock_name(&look.spec.database, &look.spec.table);
    let holder: Option<Option<u64>> =
        look.session.first("check who holds the lock", SHORT, &format!("SELECT IS_USED_LOCK({})", quote::string(&lock))).await?;
    if let Some(id) = holder.flatten() {
        look.report.add(
            Severity::Warning,
            Reason::LockHeldElsewhere,
            look.table(),
            format!("another engine is working on the table (connection {id})"),
            "wait for it to finish, or cancel it",
        );
    }
    Ok(())
}
