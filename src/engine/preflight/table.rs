//! The table and what is around it.
use super::{Copies, Look, Severity, Topic};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::state::store::StateTable;
use crate::engine::table::inspector::{self, Inspected};
use crate::engine::table::relatives::{self, Planning};
use crate::engine::table::sight::{self, Fact};
use crate::mysql::codes;
use crate::mysql::session::SHORT;
use crate::sql::alter::Alter;
use crate::sql::foreign_key::TableName;
use crate::sql::names::stands_in;
use crate::sql::quote;
use mysql_async::Value;

/// What is shown of a long list.
const SHOWN: usize = 10;

/// The definition; `None` when it cannot be had, which is then a finding.
pub async fn original(look: &mut Look<'_>) -> Result<Option<Inspected>, EngineError> {
    let table = look.table();
    match inspector::table(&mut look.session, &look.spec.database, &look.spec.table).await {
        Ok(Some(found)) => {
            if found.partitioned {
                look.report.add(
                    Severity::Info,
                    Topic::Partitions,
                    table,
                    "the table is partitioned, so it has no single InnoDB id: if the connection is lost during the swap, the definitions decide whether it happened",
                    "",
                );
            }
            Ok(Some(found))
        }
        Ok(None) => {
            look.report.add(
                Severity::Refuse,
                Reason::TableNotFound,
                table,
                "the table does not exist, or the account cannot see it",
                "check the names and the account's grants",
            );
            Ok(None)
        }
        Err(error) if error.is_transient() => Err(error),
        Err(error) => {
            look.report.refuse(&error, table);
            Ok(None)
        }
    }
}

/// Tables under our names; whether an earlier run of this change made them.
pub async fn names(look: &mut Look<'_>) -> Result<bool, EngineError> {
    let (database, table) = (look.spec.database.clone(), look.spec.table.clone());
    let names = look.spec.names();
    if !names.ghost.starts_with(&format!("_{table}_")) {
        look.report.add(
            Severity::Info,
            Topic::Names,
            look.table(),
            format!(
                "the name is long, so the names of the migration's tables are shortened: {}, {}, {}",
                names.ghost, names.state, names.old
            ),
            "",
        );
    }
    let state = StateTable::new(&database, &names.state);
    let mut ours = false;
    match state.load(&mut look.session, &database).await {
        Ok(None) => {}
        Ok(Some(stored)) if stored.record.id == look.spec.id || stored.record.id.is_empty() => {
            ours = true;
            look.report.add(
                Severity::Info,
                Topic::EarlierRun,
                names.state.clone(),
                format!(
                    "an earlier run of this change left its work ({} chunks): the next run resumes it if possible",
                    stored.chunks.len()
                ),
                "",
            );
        }
        // Its state table gives way, and its old table has a name of its own.
        Ok(Some(stored)) if stored.record.is_over() => {}
        Ok(Some(stored)) => look.report.add(
            Severity::Refuse,
            Reason::NameTaken,
            names.state.clone(),
            format!("{} and {} belong to another migration: {}", names.ghost, names.state, stored.record.display_name),
            "finish, cancel or delete that migration first",
        ),
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => look.report.refuse(&error, names.state.clone()),
    }
    if !ours && inspector::exists(&mut look.session, &database, &names.ghost).await? {
        look.report.add(
            Severity::Refuse,
            Reason::NameTaken,
            quote::qualified(&database, &names.ghost),
            "the table exists and this migration did not make it (gh-ost uses the same names)",
            "drop it if it is no longer needed",
        );
    }
    if !ours && inspector::exists(&mut look.session, &database, &names.old).await? {
        look.report.add(
            Severity::Info,
            Topic::Names,
            quote::qualified(&database, &names.old),
            "a table with this name exists and is left alone: after a copy, the old table gets a name with a timestamp instead",
            "",
        );
    }
    Ok(ours)
}

/// Tables that other tools make beside a table (pure): for LIKE, with `\` as escape.
fn patterns(table: &str) -> Vec<(String, &'static str)> {
    let t: String = table.chars().flat_map(|c| if matches!(c, '_' | '%' | '\\') { vec!['\\', c] } else { vec![c] }).collect();
    vec![
        (format!("\\_{t}\\_new"), "pt-online-schema-change or spirit"),
        (format!("\\_\\_{t}\\_new"), "pt-online-schema-change"),
        (format!("\\_{t}\\_old%"), "pt-online-schema-change or spirit"),
        (format!("\\_\\_{t}\\_old"), "pt-online-schema-change"),
        (format!("\\_{t}\\_chkpnt"), "spirit"),
        (format!("\\_{t}\\_ghk"), "gh-ost (a checkpoint)"),
        (format!("\\_{t}\\_20%\\_del"), "gh-ost (an old table)"),
        (format!("\\_\\_osc\\_%\\_{t}"), "fb-osc"),
        (format!("lhm%\\_{t}"), "lhm"),
        ("\\_vt\\_%".to_owned(), "Vitess (its names do not show which table)"),
    ]
}

/// Another tool's run on the table, or what it left.
pub async fn other_tools(look: &mut Look<'_>) -> Result<(), EngineError> {
    let kept = StateTable::all_kept(&mut look.session, look.spec).await?;
    let mut own: Vec<String> = kept.into_iter().map(|(_, stored)| stored.record.old).collect();
    let state = StateTable::new(&look.spec.database, &look.spec.names().state);
    if let Ok(Some(stored)) = state.load(&mut look.session, &look.spec.database).await {
        own.push(stored.record.old);
    }
    for (pattern, tool) in patterns(&look.spec.table) {
        let found: Vec<String> = look
            .session
            .select(
                "look for tables of other tools",
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME LIKE ? ORDER BY 1 LIMIT 3",
                vec![Value::from(&look.spec.database), Value::from(pattern)],
            )
            .await?;
        for name in found.into_iter().filter(|name| *name != look.spec.table && !own.contains(name)) {
            look.report.add(
                Severity::Warning,
                Topic::OtherTool,
                quote::qualified(&look.spec.database, &name),
                format!("this looks like a table of {tool}: is another change of the table in progress?"),
                "let that change finish, or drop what it left",
            );
        }
    }
    Ok(())
}

/// What is seen; that something is not is a finding.
fn seen<T>(look: &mut Look<'_>, result: Result<T, EngineError>, object: &str) -> Result<Option<T>, EngineError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.reason == Reason::MissingPrivilege => {
            look.rules_out_a_copy(error.reason, object, error.message, "grant it");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Foreign keys and triggers.
pub async fn relations(look: &mut Look<'_>, original: &Inspected, alter: Option<&Alter>) -> Result<(), EngineError> {
    let (database, table) = (look.spec.database.clone(), look.spec.table.clone());
    let foreign = sight::foreign_keys(&mut look.session, &database, &table).await;
    let foreign = seen(look, foreign, "PROCESS")?;
    let triggers = sight::triggers(&mut look.session, &database, &table).await;
    let triggers = seen(look, triggers, "TRIGGER")?;
    for trigger in triggers.iter().flatten().filter(|trigger| trigger.starts_with("pt_osc_")) {
        look.report.add(
            Severity::Warning,
            Topic::OtherTool,
            quote::qualified(&database, trigger),
            "pt-online-schema-change made this trigger: is it running?",
            "let that change finish, or drop what it left",
        );
    }
    if let (Some(found), Some(triggers), Some(alter)) = (foreign, triggers, alter)
        && !(found.is_empty() && triggers.is_empty())
    {
        bound(look, original, alter, &found, &triggers).await?;
    }
    if alter.is_some_and(Alter::adds_foreign_keys) {
        look.report.add(
            Severity::Info,
            Topic::Relatives,
            quote::qualified(&database, &table),
            "the change adds a foreign key: the table that it refers to is locked with this one at the swap, and a row without a parent ends the migration (DataDoesNotFit), before the swap at the latest",
            "mode DryRun searches the rows for some seconds, as a migration does before it copies them",
        );
    }
    Ok(())
}

/// What becomes of foreign keys and triggers where the table is swapped.
async fn bound(
    look: &mut Look<'_>,
    original: &Inspected,
    alter: &Alter,
    found: &[sight::Reference],
    triggers: &[String],
) -> Result<(), EngineError> {
    let name = TableName::new(&look.spec.database, &look.spec.table);
    let super::predict::Prediction { definition: new, modified, .. } = super::predict::predict(&original.definition, alter);
    let most = look.controls.max_locked_tables;
    let result = async {
        let old = look.spec.names().old;
        let planning = Planning { table: &name, original, alter, old: &old, most, added: &[] };
        planning.plan_with(&mut look.session, found, &new, false).await
    };
    let keys: Vec<String> = found.iter().map(ToString::to_string).collect();
    match result.await {
        Ok(after) => {
            for (key, column) in
                relatives::needs(&after, &name).filter(|(_, column)| modified.iter().any(|m| m.eq_ignore_ascii_case(column)))
            {
                look.report.add(
                    Severity::Warning,
                    Reason::ForeignKeys,
                    column,
                    format!("the change redefines the column, which the foreign key {} stands on: a copy is refused if that changes its type, unless a VARCHAR becomes longer", quote::identifier(&key.name)),
                    "mode DryRun shows whether it does",
                );
            }
            let others: Vec<String> = after.tables(&name).iter().map(TableName::quoted).collect();
            let with = if others.is_empty() { String::new() } else { format!("; a swap locks {} with it", others.join(", ")) };
            let mut moved = Vec::new();
            if !keys.is_empty() {
                moved.push(format!("foreign keys: {}{with}", keys.join("; ")));
            }
            if !triggers.is_empty() {
                moved.push(format!("triggers: {}", triggers.join(", ")));
            }
            if look.copies != Copies::No {
                look.report.add(
                    Severity::Info,
                    Topic::Relatives,
                    name.quoted(),
                    format!("these move to the new table under the lock of the swap: {}", moved.join(". ")),
                    "",
                );
            }
        }
        Err(error) if matches!(error.reason, Reason::ForeignKeys | Reason::Triggers) => {
            let advice = if error.reason == Reason::Triggers { "change the trigger first" } else { "change the foreign keys first" };
            look.rules_out_a_copy(error.reason, name.quoted(), error.message, advice);
        }
        Err(error) if error.reason == Reason::MissingPrivilege => {
            look.rules_out_a_copy(error.reason, name.quoted(), error.message, "grant it");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What the account is not shown, and no refusal comes of.
pub async fn unseen(look: &mut Look<'_>) -> Result<(), EngineError> {
    let database = look.spec.database.clone();
    let limits = look.controls.limits.clone();
    for fact in sight::unseen(&mut look.session).await? {
        if fact == Fact::HistoryList && limits.max_history_list_length.is_none() {
            continue;
        }
        let message = format!("the account cannot see {}: {}", sight::plain(fact.what()), sight::plain(fact.consequence()));
        look.report.add(Severity::Warning, Topic::NotSeen, fact.privileges().replace('`', ""), message, fact.grant(&database));
    }
    if limits.max_disk_usage.is_some() {
        match sight::check_disk(&mut look.session, &database).await {
            Err(error) if error.reason == Reason::MissingPrivilege => look.report.refuse(&error, "throttle.maxDiskUsage"),
            other => other?,
        }
    }
    Ok(())
}

/// Sessions that hold the table now: a cut-over waits for them.
pub async fn blockers(look: &mut Look<'_>) -> Result<(), EngineError> {
    let what = "look for sessions that hold the table";
    let sql = |age: &str, source: &str| {
        format!(
            "SELECT t.PROCESSLIST_ID, {age}, t.PROCESSLIST_USER FROM performance_schema.metadata_locks l \
             LEFT JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID LEFT JOIN {source} \
             WHERE l.OBJECT_TYPE = 'TABLE' AND l.OBJECT_SCHEMA = ? AND l.OBJECT_NAME = ? AND l.LOCK_STATUS = 'GRANTED' \
             AND (t.PROCESSLIST_ID IS NULL OR t.PROCESSLIST_ID <> CONNECTION_ID()) ORDER BY 2 DESC LIMIT 50"
        )
    };
    let by_innodb =
        sql("TIMESTAMPDIFF(SECOND, x.trx_started, NOW())", "information_schema.INNODB_TRX x ON x.trx_mysql_thread_id = t.PROCESSLIST_ID");
    type Line = (Option<u64>, Option<i64>, Option<String>);
    let values = || vec![Value::from(&look.spec.database), Value::from(&look.spec.table)];
    let mut found = look.session.select::<Line>(what, &by_innodb, values()).await;
    if found.as_ref().is_err_and(|error| error.code == codes::CANNOT_CONVERT_STRING) {
        // Some session runs a statement that INNODB_TRX cannot show, and it lists none then.
        let by_events = sql(
            "CAST(e.TIMER_WAIT DIV 1000000000000 AS SIGNED)",
            "performance_schema.events_transactions_current e ON e.THREAD_ID = t.THREAD_ID AND e.STATE = 'ACTIVE' AND e.AUTOCOMMIT = 'NO'",
        );
        found = look.session.select::<Line>(what, &by_events, values()).await;
    }
    let found = match found {
        Ok(found) => found,
        // [`unseen`] tells.
        Err(error) if sight::is_not_there(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for (id, seconds, user) in found.into_iter().take(SHOWN) {
        let (object, message) = match (id, seconds) {
            (None, _) => (
                "XA".to_owned(),
                "a prepared XA transaction holds the table and blocks both the start of the copy and the cut-over (XA RECOVER lists it)"
                    .to_owned(),
            ),
            (Some(id), Some(seconds)) => (
                format!("connection {id}"),
                format!(
                    "a transaction of {} has held the table for {seconds} s: the cut-over would wait for it to end",
                    user.unwrap_or_default()
                ),
            ),
            (Some(id), None) => {
                (format!("connection {id}"), format!("a statement of {} is running on the table", user.unwrap_or_default()))
            }
        };
        look.report.add(Severity::Warning, Topic::Blocker, object, message, "make sure that it ends before the cut-over");
    }
    Ok(())
}

/// Who names a column that goes away, or gets another name, in the same breath as the table.
pub async fn dependents(look: &mut Look<'_>, alter: &Alter) -> Result<(), EngineError> {
    let mut gone: Vec<String> = alter.dropped_columns();
    gone.extend(alter.renames().into_iter().map(|(old, _)| old));
    if gone.is_empty() {
        return Ok(());
    }
    let (database, table) = (look.spec.database.clone(), look.spec.table.clone());
    let advice = "change the objects that use the column at the same time";
    let views = look
        .session
        .select::<(String, String, Option<String>)>(
            "look for views of the table",
            "SELECT u.VIEW_SCHEMA, u.VIEW_NAME, v.VIEW_DEFINITION FROM information_schema.VIEW_TABLE_USAGE u \
             LEFT JOIN information_schema.VIEWS v ON v.TABLE_SCHEMA = u.VIEW_SCHEMA AND v.TABLE_NAME = u.VIEW_NAME \
             WHERE u.TABLE_SCHEMA = ? AND u.TABLE_NAME = ? ORDER BY 1, 2",
            vec![Value::from(&database), Value::from(&table)],
        )
        .await;
    for (schema, view, definition) in
        look.seen(views, "views", "could not check whether views use the columns that go away", "")?.into_iter().flatten()
    {
        let object = quote::qualified(&schema, &view);
        match definition.filter(|text| !text.is_empty()) {
            None => look.report.add(
                Severity::Warning,
                Topic::Dependents,
                object,
                "the account may not read the text of this view of the table; it may use a column that goes away",
                "GRANT SHOW VIEW, or check it yourself",
            ),
            Some(text) => {
                let named: Vec<&str> = gone.iter().filter(|c| stands_in(&text, c)).map(String::as_str).collect();
                if !named.is_empty() {
                    look.report.add(
                        Severity::Warning,
                        Topic::Dependents,
                        object,
                        format!("the view uses {}, which goes away: it would become invalid", named.join(", ")),
                        advice,
                    );
                }
            }
        }
    }
    let sources = [
        (
            "routine",
            "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE INSTR(LOWER(ROUTINE_DEFINITION), ?) > 0 LIMIT 200",
        ),
        (
            "event",
            "SELECT EVENT_SCHEMA, EVENT_NAME, EVENT_DEFINITION FROM information_schema.EVENTS WHERE INSTR(LOWER(EVENT_DEFINITION), ?) > 0 LIMIT 200",
        ),
        (
            "trigger",
            "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE INSTR(LOWER(ACTION_STATEMENT), ?) > 0 LIMIT 200",
        ),
    ];
    for (kind, sql) in sources {
        let rows = look
            .session
            .select::<(String, String, Option<String>)>(
                "look for routines, events and triggers that use the table",
                sql,
                vec![Value::from(table.to_lowercase())],
            )
            .await;
        let rows = look.seen(rows, kind, "could not check whether others use the columns that go away", "")?;
        for (schema, name, text) in rows.into_iter().flatten() {
            let text = text.unwrap_or_default();
            let named: Vec<&str> = gone.iter().filter(|c| stands_in(&text, &table) && stands_in(&text, c)).map(String::as_str).collect();
            if schema != "sys" && !named.is_empty() {
                look.report.add(
                    Severity::Warning,
                    Topic::Dependents,
                    quote::qualified(&schema, &name),
                    format!("a {kind} mentions the table and {}, which goes away", named.join(", ")),
                    advice,
                );
            }
        }
    }
    look.session.run("keep the connection alive", SHORT, "DO 1").await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_escape_the_table() {
        assert!(patterns("a_b").iter().any(|(p, _)| p == "\\_a\\_b\\_new"));
    }
}
