//! The triggers of a table: reading them, and what keeps them from being made again on the new one.
//!
//! Promises: a trigger that would be another one on the new table, or that the account may not make, is refused by its name before a row is
//! copied.

use super::sight;
use crate::engine::contract::error::{EngineError, reason_of};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::ServerAddress;
use crate::mysql::session::SHORT;
use crate::mysql::{Session, codes};
use crate::sql::alter::Alter;
use crate::sql::foreign_key::TableName;
use crate::sql::grants::Grants;
use crate::sql::quote;
use crate::sql::trigger::{self, Settings, Trigger};
use mysql_async::Value;

/// All triggers of a table, in the order in which they fire.
///
/// # Errors
/// [`Reason::Triggers`] where one is not understood; the server's.
pub async fn of(session: &mut Session, table: &TableName) -> Result<Vec<Trigger>, EngineError> {
    let what = "read the table's triggers";
    let sql = "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ? \
               ORDER BY EVENT_MANIPULATION, ACTION_TIMING, ACTION_ORDER";
    let names: Vec<String> = session.select(what, sql, vec![Value::from(&table.schema), Value::from(&table.table)]).await?;
    let mut found = Vec::new();
    for name in names {
        let sql = format!("SHOW CREATE TRIGGER {}", quote::qualified(&table.schema, &name));
        let row: Option<mysql_async::Row> = session.first(what, SHORT, &sql).await?;
        let text = |at: usize| row.as_ref().and_then(|row| row.get::<Option<String>, _>(at).flatten()).unwrap_or_default();
        let (sql_mode, client, connection, database) = (text(1), text(3), text(4), text(5));
        let settings = Settings {
            sql_mode: &sql_mode,
            character_set_client: &client,
            collation_connection: &connection,
            database_collation: &database,
        };
        found.push(Trigger::parse(&text(2), settings).ok_or_else(|| {
            let shown = quote::qualified(&table.schema, &name);
            EngineError::terminal(
                Reason::Triggers,
                &format!("the definition of the trigger {shown} is not understood, so it cannot be made again on the new table"),
            )
        })?);
    }
    Ok(found)
}

/// Refuses triggers that cannot be made again as they are.
///
/// # Errors
/// [`Reason::Triggers`] or [`Reason::MissingPrivilege`], with the trigger and what to do; the server's.
pub async fn check(
    session: &mut Session,
    grants: &Grants,
    triggers: &[Trigger],
    table: &TableName,
    alter: &Alter,
) -> Result<(), EngineError> {
    if triggers.is_empty() {
        return Ok(());
    }
    let shown = |trigger: &Trigger| quote::qualified(&table.schema, &trigger.name);
    let gone: Vec<String> = alter.dropped_columns().into_iter().chain(alter.renames().into_iter().map(|(old, _)| old)).collect();
    if let Some((trigger, column)) = triggers.iter().find_map(|trigger| Some((trigger, trigger.mentions(&gone)?))) {
        return Err(EngineError::terminal(
            Reason::Triggers,
            &format!(
                "the trigger {} names {}, a column that the change drops or renames: it would fail on the new table. Change the trigger first",
                shown(trigger),
                quote::identifier(column)
            ),
        ));
    }
    let what = "read what triggers are made in";
    let (log_bin, trusted, account): (u8, u8, String) = session
        .first(what, SHORT, "SELECT @@log_bin, @@global.log_bin_trust_function_creators, CURRENT_USER()")
        .await?
        .ok_or_else(|| EngineError::transient(Reason::StatementInterrupted, "the server gave no answer"))?;
    if log_bin != 0 && trusted == 0 && !grants.gives("SUPER", &table.schema) {
        let names: Vec<String> = triggers.iter().map(shown).collect();
        return Err(EngineError::terminal(
            Reason::Triggers,
            &format!(
                "{} has triggers ({}), and while the binary log is on the server lets only accounts with SUPER make triggers (1419): SET GLOBAL log_bin_trust_function_creators=ON, or drop the triggers first",
                table.quoted(),
                names.join(", ")
            ),
        ));
    }
    let (user, host) = account.rsplit_once('@').unwrap_or((&account, "%"));
    let own = format!("{}@{}", quote::identifier(user), quote::identifier(host));
    let others = ["SUPER", "SET_ANY_DEFINER", "SET_USER_ID"].iter().any(|privilege| grants.gives(privilege, &table.schema));
    if let Some(trigger) = triggers.iter().find(|trigger| trigger.definer != own).filter(|_| !others) {
        return Err(EngineError::terminal(
            Reason::MissingPrivilege,
            &format!(
                "the trigger {} has another account as its definer, and the account may not make such a trigger again: GRANT SET_ANY_DEFINER ON *.* TO the account (SET_USER_ID before 8.2)",
                shown(trigger)
            ),
        ));
    }
    let sql = "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?";
    let collation: Vec<String> = session.select(what, sql, vec![Value::from(&table.schema)]).await?;
    for trigger in triggers {
        let why = if !trigger.is_readable() {
            format!(
                "has characters beyond ASCII in its text and was made by a client of the character set {}",
                trigger.character_set_client
            )
        } else if collation.first() != Some(&trigger.database_collation) {
            format!("was made while the collation of the schema was {}, which is not restored with it", trigger.database_collation)
        } else {
            continue;
        };
        return Err(EngineError::terminal(
            Reason::Triggers,
            &format!(
                "the trigger {} {why}: on the new table it would be another one. Make it again with CREATE TRIGGER in the present settings first",
                shown(trigger)
            ),
        ));
    }
    Ok(())
}

/// Has the server say on the empty ghost what it will say of the triggers at the swap: each is made there and dropped.
///
/// # Errors
/// [`Reason::Triggers`] with the trigger and the server's words; [`Reason::MissingPrivilege`]; the server's.
pub async fn prove(server: &ServerAddress, triggers: &[Trigger], ghost: &TableName) -> Result<(), EngineError> {
    if triggers.is_empty() {
        return Ok(());
    }
    // Its settings become the triggers'.
    let mut session = Session::open_in(server, &ghost.schema).await?;
    for one in triggers {
        let name = one.passing_name(&ghost.table);
        let made = session.run("try a trigger on the ghost table", SHORT, &one.create(&name, ghost)).await;
        let dropped = match made {
            Ok(()) => session.run("drop a trigger of the ghost table", SHORT, &trigger::drop_statement(&ghost.schema, &name)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = dropped {
            if error.is_transient() {
                return Err(error.into());
            }
            let reason = match reason_of(&error) {
                Reason::MissingPrivilege => Reason::MissingPrivilege,
                _ => Reason::Triggers,
            };
            let message = format!(
                "the server does not accept the trigger {} on the new definition of the table: {}",
                quote::qualified(&ghost.schema, &one.name),
                error.message
            );
            return Err(EngineError::of_server(&error, reason, &message));
        }
    }
    session.close().await;
    Ok(())
}

/// The triggers on some tables of a schema: name and table.
///
/// # Errors
/// The server's.
pub async fn on(session: &mut Session, tables: &[&TableName]) -> Result<Vec<(String, String)>, EngineError> {
    let Some(first) = tables.first() else { return Ok(Vec::new()) };
    let list: Vec<String> = tables.iter().map(|table| quote::string(&table.table)).collect();
    let sql = format!(
        "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = {} AND EVENT_OBJECT_TABLE IN ({})",
        quote::string(&first.schema),
        list.join(", ")
    );
    match session.rows("look for triggers", SHORT, &sql).await {
        Ok(found) => Ok(found),
        Err(error) if sight::is_refusal(&error) || error.code == codes::NO_SUCH_TABLE => Err(sight::Fact::Triggers.missing(&first.schema)),
        Err(error) => Err(error.into()),
    }
}
