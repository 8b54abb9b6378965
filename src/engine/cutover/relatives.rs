//! Carries foreign keys and triggers over a swap, under its lock.
//!
//! Before the RENAME the ghost gets the constraints and triggers that the new table is to have ([`arm`]); afterwards the old table's are dropped,
//! and the names and the constraints of other tables are moved to the new one ([`settle`]). What is to be is in the state table before the first of
//! these statements, and each of them is worked out from what the tables have, so whoever comes after a death goes on from there
//! ([`complete`]), or takes back what was only begun ([`disarm`]).
//!
//! Promises: the live table is never without one of its constraints or triggers; a child that the server let refer to the old table (between the RENAME
//! and the child's own statement) is locked until it refers to the new one. If the connection is lost just there, the child checks against the
//! old table until the next engine comes, which begins with this.
//! Relies on: [`crate::sql::foreign_key`]; ALTER TABLE and RENAME TABLE being allowed on tables that the session has locked.

use crate::engine::contract::error::EngineError;
use crate::engine::contract::spec::{MigrationSpec, ServerAddress};
use crate::engine::state::store::{StateTable, fenced};
use crate::engine::table::{inspector, relatives::foreign_keys_of, triggers};
use crate::mysql::Session;
use crate::mysql::session::{LONG, SHORT};
use crate::sql::foreign_key::{ForeignKey, Relatives, TableName, passing, step};
use crate::sql::names::TableNames;
use crate::sql::quote;
use crate::sql::trigger::drop_statement;
use std::time::Duration;

/// Statements on one table until its constraints are as they are to be; there are at most three pictures on the way.
const STEPS: usize = 6;

/// The tables of a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swapped {
    /// The table itself.
    pub table: TableName,
    pub ghost: TableName,
    /// What the table is called afterwards that had the name.
    pub old: TableName,
}

impl Swapped {
    pub fn new(spec: &MigrationSpec, names: &TableNames) -> Self {
        let name = |name: &str| TableName::new(&spec.database, name);
        Self { table: name(&spec.table), ghost: name(&names.ghost), old: name(&names.old) }
    }
}

/// `, … WRITE` for all tables of a list.
pub fn locks(tables: &[TableName]) -> String {
    tables.iter().map(|table| format!(", {} WRITE", table.quoted())).collect()
}

async fn alter(session: &mut Session, what: &str, table: &TableName, clauses: &str) -> Result<(), EngineError> {
    Ok(session.run(what, LONG, &format!("ALTER TABLE {} {clauses}, ALGORITHM=INPLACE, LOCK=NONE", table.quoted())).await?)
}

/// Constraints are added without a look at the rows: what they demand, the tables that had them have demanded of the same rows. The session's
/// own settings are kept for [`make_trigger`].
///
/// # Errors
/// A lost connection.
pub async fn unchecked(session: &mut Session) -> Result<(), EngineError> {
    let sql = "SET SESSION foreign_key_checks=0, @theseus_modes=@@SESSION.sql_mode, @theseus_client=@@SESSION.character_set_client, \
               @theseus_connection=@@SESSION.collation_connection";
    Ok(session.run("leave foreign keys unchecked", SHORT, sql).await?)
}

/// Says a message that makes a trigger, in the trigger's settings, and goes back to the session's own: the server's texts are read in these.
async fn make_trigger(session: &mut Session, message: &str) -> Result<(), EngineError> {
    let made = session.run("make a trigger on the new table", LONG, message).await;
    let back = "SET SESSION sql_mode=@theseus_modes, character_set_client=@theseus_client, collation_connection=@theseus_connection";
    session.run("go back to the session's settings", SHORT, back).await?;
    Ok(made?)
}

/// Gives the locked ghost the constraints that the new table is to have, under passing names. From here on until the RENAME, or [`disarm`],
/// changes of the parents check the ghost's rows, too: it comes last.
///
/// # Errors
/// The server's.
pub async fn arm(session: &mut Session, relatives: &Relatives, tables: &Swapped) -> Result<(), EngineError> {
    for one in &relatives.triggers {
        let sql = one.create(&one.passing_name(&tables.ghost.table), &tables.ghost);
        make_trigger(session, &sql).await?;
    }
    let want = relatives.on_ghost(&tables.table, &tables.ghost);
    let adds: Vec<String> =
        want.iter().filter(|key| !relatives.carried.contains(&key.name)).map(|key| format!("ADD {}", key.clause())).collect();
    match adds.is_empty() {
        true => Ok(()),
        false => alter(session, "add the foreign keys to the ghost", &tables.ghost, &adds.join(", ")).await,
    }
}

/// How long [`settle`] may take, by how long [`arm`] has taken and how many statements each of them is. Pure.
pub fn time_to_settle(armed: Duration, relatives: &Relatives) -> Duration {
    let (own, triggers, children) = (usize::from(!relatives.own.is_empty()), relatives.triggers.len(), relatives.children.len());
    // One statement adds the ghost's foreign keys. They are dropped from the old table, and their names move in two; so does each child's.
    // A trigger is dropped from the old table, looked for, made again, and dropped where it had its passing name.
    let (done, left) = (own + triggers, 3 * own + 4 * triggers + 2 * children);
    let times = |number: usize| u32::try_from(number.max(1)).unwrap_or(u32::MAX);
    armed * times(left) / times(done)
}

/// Takes the constraints of an attempt that did not come to its RENAME away from the ghost.
///
/// # Errors
/// The server's.
pub async fn disarm(session: &mut Session, relatives: &Relatives, tables: &Swapped) -> Result<(), EngineError> {
    // Whatever the record says: triggers that have come since are tried on the ghost before they are in it.
    let there = triggers::on(session, &[&tables.ghost]).await?;
    let all: Vec<String> = there.iter().map(|(name, _)| drop_statement(&tables.ghost.schema, name)).collect();
    if !all.is_empty() {
        session.run("drop the triggers on the ghost", LONG, &all.join("; ")).await?;
    }
    if relatives.own.is_empty() {
        return Ok(());
    }
    let have = foreign_keys_of(session, &tables.ghost).await?;
    let drops: Vec<String> = have
        .iter()
        .filter(|key| !relatives.carried.contains(&key.name))
        .map(|key| format!("DROP FOREIGN KEY {}", quote::identifier(&key.name)))
        .collect();
    match drops.is_empty() {
        true => Ok(()),
        false => {
            let (what, clauses) = ("take the foreign keys away from the ghost", drops.join(", "));
            let sql = format!("ALTER TABLE {} {clauses}, ALGORITHM=INPLACE, LOCK=NONE", tables.ghost.quoted());
            Ok(session.run_patiently(None, what, LONG, &sql).await?)
        }
    }
}

/// What remains to be done on one table, as the clauses of its next ALTER TABLE.
async fn pending(
    session: &mut Session,
    relatives: &Relatives,
    tables: &Swapped,
    one: &Remaining<'_>,
) -> Result<Option<String>, EngineError> {
    let have = foreign_keys_of(session, one.table()).await?;
    Ok(match one {
        // The table that was swapped out demands nothing any more, and hinders nobody.
        Remaining::Old(_) if have.is_empty() => None,
        Remaining::Old(_) => {
            let drops: Vec<String> = have.iter().map(|key| format!("DROP FOREIGN KEY {}", quote::identifier(&key.name))).collect();
            Some(drops.join(", "))
        }
        Remaining::New(_) => step(&have, &relatives.own, |key| key.passing_name(&tables.ghost.table, &tables.table.table)),
        Remaining::Child(_, want) => step(&have, want, |key| passing(&tables.ghost.table, &key.name)),
    })
}

/// What remains to be done about triggers after the RENAME: those of the old table go, since their names are wanted, and those of the new one get
/// theirs. As messages to the server, each to its end whatever becomes of the connection; only the last statement of one may make a trigger.
async fn pending_triggers(session: &mut Session, relatives: &Relatives, tables: &Swapped) -> Result<Vec<String>, EngineError> {
    if relatives.triggers.is_empty() {
        return Ok(Vec::new());
    }
    let there = triggers::on(session, &[&tables.table, &tables.old]).await?;
    let is_on = |name: &str, table: &TableName| there.iter().any(|(n, t)| n.to_lowercase() == name.to_lowercase() && *t == table.table);
    let schema = &tables.table.schema;
    let (mut messages, mut message) = (Vec::new(), Vec::new());
    for one in &relatives.triggers {
        let passing = one.passing_name(&tables.ghost.table);
        if is_on(&one.name, &tables.old) {
            message.push(drop_statement(schema, &one.name));
        }
        if !is_on(&one.name, &tables.table) {
            message.push(one.create(&one.name, &tables.table));
            messages.push(std::mem::take(&mut message).join("; "));
        }
        if is_on(&passing, &tables.table) {
            message.push(drop_statement(schema, &passing));
        }
    }
    messages.extend((!message.is_empty()).then(|| message.join("; ")));
    Ok(messages)
}

/// A table with something to do after the RENAME.
enum Remaining<'a> {
    /// First: the names of its constraints become free.
    Old(&'a TableName),
    New(&'a TableName),
    Child(&'a TableName, &'a [ForeignKey]),
}

impl Remaining<'_> {
    fn table(&self) -> &TableName {
        match self {
            Self::Old(table) | Self::New(table) | Self::Child(table, _) => table,
        }
    }

    fn of<'a>(relatives: &'a Relatives, tables: &'a Swapped, old_is_there: bool) -> Vec<Remaining<'a>> {
        let children = relatives.children.iter().map(|child| Remaining::Child(&child.table, &child.keys));
        old_is_there.then_some(Remaining::Old(&tables.old)).into_iter().chain([Remaining::New(&tables.table)]).chain(children).collect()
    }
}

/// After the RENAME, under the lock: brings everybody's constraints, and the table's triggers, to what is to be.
///
/// # Errors
/// The server's.
pub async fn settle(session: &mut Session, relatives: &Relatives, tables: &Swapped, old_is_there: bool) -> Result<(), EngineError> {
    for message in pending_triggers(session, relatives, tables).await? {
        make_trigger(session, &message).await?;
    }
    for one in Remaining::of(relatives, tables, old_is_there) {
        let mut steps = 0;
        while let Some(clauses) = pending(session, relatives, tables, &one).await? {
            steps += 1;
            if steps > STEPS {
                return Err(EngineError::internal(&format!(
                    "the foreign keys of {} do not become what they are to be",
                    one.table().quoted()
                )));
            }
            alter(session, "move foreign keys to the new table", one.table(), &clauses).await?;
        }
    }
    Ok(())
}

/// Who finishes what a swap has left of this.
pub struct Finisher<'a> {
    pub server: &'a ServerAddress,
    pub state: &'a StateTable,
    pub epoch: u64,
}

/// Finishes what an engine has left that swapped the tables and did not come to the end of [`settle`]. Locks the tables only where there is
/// something to do. True: there was.
///
/// # Errors
/// [`fenced`]; the server's.
pub async fn complete(
    finisher: &Finisher<'_>,
    control: &mut Session,
    relatives: &Relatives,
    tables: &Swapped,
) -> Result<bool, EngineError> {
    if relatives.is_empty() {
        return Ok(false);
    }
    let old_is_there = inspector::exists(control, &tables.old.schema, &tables.old.table).await?;
    let mut nothing = pending_triggers(control, relatives, tables).await?.is_empty();
    for one in Remaining::of(relatives, tables, old_is_there) {
        nothing &= pending(control, relatives, tables, &one).await?.is_none();
    }
    if nothing {
        return Ok(false);
    }
    let mut session = Session::open_in(finisher.server, &tables.table.schema).await?;
    session.check_server(control.server_uuid())?;
    unchecked(&mut session).await?;
    let mut locked = vec![tables.table.clone()];
    locked.extend(old_is_there.then(|| tables.old.clone()));
    locked.extend(relatives.tables(&tables.table));
    let statement = format!("LOCK TABLES {} WRITE{}", finisher.state.qualified(), locks(&locked));
    session.run("lock the tables to finish a swap", LONG, &statement).await?;
    let settled = if finisher.state.is_owner(&mut session, finisher.epoch).await? {
        settle(&mut session, relatives, tables, old_is_there).await
    } else {
        Err(fenced())
    };
    // A session that is closed unlocks as well.
    session.close().await;
    settled.map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::foreign_key::Child;
    use crate::sql::trigger::Trigger;

    #[test]
    fn many_triggers_take_many_times_as_long_as_one_and_not_the_square_of_it() {
        let text = String::new;
        let trigger = Trigger {
            name: text(),
            moment: text(),
            definer: text(),
            body: text(),
            sql_mode: text(),
            character_set_client: text(),
            collation_connection: text(),
            database_collation: text(),
        };
        let with = |triggers, children| Relatives {
            triggers: vec![trigger.clone(); triggers],
            children: vec![Child { table: TableName::new("d", "c"), keys: Vec::new() }; children],
            ..Relatives::default()
        };
        let each = Duration::from_millis(10);
        assert_eq!(time_to_settle(each, &with(1, 0)), each * 4);
        // Ten were made.
        assert_eq!(time_to_settle(each * 10, &with(10, 0)), each * 40);
        assert_eq!(time_to_settle(each, &with(0, 15)), each * 30);
    }
}
