//! The tables that a swap touches besides: those that the table refers to by foreign key, and those that refer to it. What is to be true of
//! them afterwards is [`Relatives`]; [`crate::engine::cutover`] makes it so.
//!
//! Promises: a change that the foreign keys rule out is refused before a row is copied, by the name of the constraint and the column; nothing
//! is changed here but the empty ghost, which is left as it was found.

use super::inspector::{self, Inspected};
use super::sight::{self, Reference};
use super::triggers;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::ServerAddress;
use crate::engine::table::definition::not_readable;
use crate::mysql::session::SHORT;
use crate::mysql::{MySqlError, Session, codes};
use crate::sql::alter::Alter;
use crate::sql::foreign_key::{Child, ForeignKey, Relatives, TableName, named_for, passing};
use crate::sql::grants::Grants;
use crate::sql::names::MAX_IDENTIFIER;
use crate::sql::table::{Column, ColumnType, TableDefinition, leads};
use crate::sql::{create, quote};
use std::collections::BTreeSet;

/// Whether what cascades do is in the binary log as rows. Since 9.6 the server itself runs them, unless `innodb_native_foreign_keys` leaves
/// them to InnoDB, as all servers before did.
///
/// # Errors
/// A lost connection.
async fn cascades_are_logged(session: &mut Session) -> Result<bool, EngineError> {
    match session.first::<u8>("read who runs cascades", SHORT, "SELECT @@global.innodb_native_foreign_keys").await {
        Ok(native) => Ok(native == Some(0)),
        Err(error) if error.code == codes::UNKNOWN_SYSTEM_VARIABLE => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a foreign key must refer to a unique index of exactly its columns (8.4 and later, unless a server switches it off).
async fn standard_keys_only(session: &mut Session) -> Result<bool, EngineError> {
    let what = "read which keys foreign keys may refer to";
    match session.first::<u8>(what, SHORT, "SELECT @@SESSION.restrict_fk_on_non_standard_key").await {
        Ok(restricted) => Ok(restricted != Some(0)),
        Err(error) if error.code == codes::UNKNOWN_SYSTEM_VARIABLE => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the server would take a child's foreign key that it has already, once more: it may have been made without checks. Stricter than the
/// server where two types differ in more than a length, which few schemas have. Pure.
fn accepted(key: &ForeignKey, child: &TableDefinition, parent: &TableDefinition, standard: bool) -> bool {
    let alike = key.columns.iter().zip(&key.parent_columns).all(|(from, to)| match (child.column(from), parent.column(to)) {
        (Some(from), Some(to)) => {
            let text = from.charset.is_some() && to.charset.is_some();
            (text || from.column_type == to.column_type) && from.charset == to.charset && from.collation == to.collation
        }
        _ => false,
    });
    alike && (!standard || parent.indexes.iter().any(|index| index.unique && leads(&index.parts, &key.parent_columns, true)))
}

/// The foreign keys of a table as it has them.
///
/// # Errors
/// The server's; its text is not understood.
pub async fn foreign_keys_of(session: &mut Session, table: &TableName) -> Result<Vec<ForeignKey>, EngineError> {
    let text = inspector::show_create(session, &table.schema, &table.table).await?;
    create::foreign_keys(&text, &table.schema).map_err(not_readable)
}

/// What is to be true of the foreign keys after the change. `found`: those that the table takes part in.
///
/// # Errors
/// [`Reason::MissingPrivilege`] where a relative cannot be locked and changed; [`Reason::ForeignKeys`] with constraint and column where the change drops a column
/// that one needs; the server's.
async fn after(
    session: &mut Session,
    table: &TableName,
    original: &Inspected,
    found: &[Reference],
    alter: &Alter,
    added: &[ForeignKey],
) -> Result<Relatives, EngineError> {
    let left = alter.foreign_keys_after(&original.foreign_key_names());
    let own = original.foreign_keys.iter().filter(|key| left.contains(&key.name)).cloned().collect();
    let grants = sight::grants(session).await?;
    let standard = standard_keys_only(session).await?;
    for key in &original.foreign_keys {
        may_move(&grants, &key.parent, PARENT, &key.name, table)?;
    }
    let mut children: Vec<Child> = Vec::new();
    for reference in found {
        let child = TableName::new(&reference.schema, &reference.child);
        if child == *table || children.iter().any(|known| known.table == child) {
            continue;
        }
        may_move(&grants, &child, CHILD, &reference.name, table)?;
        let keys = foreign_keys_of(session, &child).await?;
        let definition = inspector::table(session, &child.schema, &child.table).await?.map(|read| read.definition);
        if definition.is_none_or(|definition| {
            keys.iter().filter(|key| key.parent == *table).any(|key| !accepted(key, &definition, &original.definition, standard))
        }) {
            return Err(EngineError::terminal(
                Reason::ForeignKeys,
                &format!(
                    "the server would not accept the foreign key {} of {} again, as a swap of {} needs: its columns are not of the type, character set and collation of those that it refers to, or those have no unique index of their own (restrict_fk_on_non_standard_key). It was made while that was not checked",
                    quote::identifier(&reference.name),
                    child.quoted(),
                    table.quoted()
                ),
            ));
        }
        let mut keys: Vec<ForeignKey> = keys.into_iter().filter(|key| key.parent == *table).collect();
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        children.push(Child { table: child, keys });
    }
    children.sort_by(|one, other| one.table.cmp(&other.table));
    let triggers = triggers::of(session, table).await?;
    triggers::check(session, &grants, &triggers, table, alter).await?;
    for key in added {
        may_move(&grants, &key.parent, PARENT, &key.name, table)?;
    }
    let relatives = Relatives { own, children, triggers, ..Relatives::default() };
    let dropped = alter.dropped_columns();
    if let Some((key, column)) =
        needs(&relatives, table).find(|(_, column)| dropped.iter().any(|d| d.to_lowercase() == column.to_lowercase()))
    {
        return Err(EngineError::terminal(
            Reason::ForeignKeys,
            &format!(
                "the change drops the column {} of {}, which the foreign key {} needs (natively 1828 or 1829): drop the foreign key in the same change, or before",
                quote::identifier(column),
                table.quoted(),
                quote::identifier(&key.name)
            ),
        ));
    }
    let mut relatives = relatives.with_renamed_columns(table, &alter.renames());
    relatives.added = added.iter().map(|key| key.name.clone()).collect();
    relatives.own.extend_from_slice(added);
    Ok(relatives)
}

/// Why a table that others are bound to cannot be kept current once it is swapped out; `None`: nothing binds it. Asked before it is known what
/// else foreign keys and triggers need: that would be of no help. Pure.
pub fn no_way_back(has_foreign_keys: bool, triggers: &[String]) -> Option<String> {
    if has_foreign_keys {
        return Some("foreign keys bind the table to others, and the old table would have none".to_owned());
    }
    let trigger = triggers.first()?;
    Some(format!("the table has triggers ({}), and the old table would have none", quote::identifier(trigger)))
}

/// A change of a table, for which is planned what becomes of those that it is bound to.
#[derive(Clone, Copy)]
pub struct Planning<'a> {
    /// By the name that the server keeps.
    pub table: &'a TableName,
    pub original: &'a Inspected,
    pub alter: &'a Alter,
    /// What the table is to be called when it is swapped out.
    pub old: &'a str,
    /// How many tables may be locked at once.
    pub most: u16,
    /// The foreign keys that the change adds, where they are known: the ghost tells.
    pub added: &'a [ForeignKey],
}

impl Planning<'_> {
    /// What is to be true afterwards, with all the checks that need no new definition. `found`: the foreign keys that the table takes part in.
    ///
    /// # Errors
    /// As [`after`]; [`Reason::ForeignKeys`] with what rules the swap out.
    pub async fn plan(&self, session: &mut Session, found: &[Reference]) -> Result<Relatives, EngineError> {
        let Self { table, original, alter, old, most, added } = *self;
        let relatives = after(session, table, original, found, alter, added).await?;
        check_number(&relatives, table, most)?;
        check_names(original, table, old)?;
        check_cascades(session, &relatives, original, table).await?;
        Ok(relatives)
    }

    /// [`Planning::plan`], and the checks of the new definition.
    ///
    /// # Errors
    /// As there; [`Reason::ForeignKeys`] with what of the new definition rules the swap out.
    pub async fn plan_with(
        &self,
        session: &mut Session,
        found: &[Reference],
        new: &TableDefinition,
        partitioned: bool,
    ) -> Result<Relatives, EngineError> {
        let relatives = self.plan(session, found).await?;
        check_partitions(&relatives, self.table, partitioned)?;
        check_columns(&relatives, self.table, &self.original.definition, new, &self.alter.renames())?;
        Ok(relatives)
    }
}

/// Privileges on the schema of a table whose foreign keys are moved.
const CHILD: &[&str] = &["SELECT", "ALTER", "LOCK TABLES", "REFERENCES"];
/// On that of one that foreign keys refer to.
const PARENT: &[&str] = &["SELECT", "LOCK TABLES", "REFERENCES"];

/// Refuses what the account may not do to a relative, before it is known by trying, which would be under the lock. Pure.
fn may_move(grants: &Grants, relative: &TableName, needed: &[&str], key: &str, table: &TableName) -> Result<(), EngineError> {
    if needed.iter().all(|privilege| grants.gives(privilege, &relative.schema)) {
        return Ok(());
    }
    Err(EngineError::terminal(
        Reason::MissingPrivilege,
        &format!(
            "the foreign key {} binds {} to {}, which a swap locks and changes with it, and the account lacks a privilege there: GRANT {} ON {}.* TO the account",
            quote::identifier(key),
            relative.quoted(),
            table.quoted(),
            needed.join(", "),
            quote::identifier(&relative.schema)
        ),
    ))
}

/// The columns of the table that its own and others' foreign keys stand on. Not those of its own that the change adds: they ask for nothing yet.
pub fn needs<'a>(relatives: &'a Relatives, table: &'a TableName) -> impl Iterator<Item = (&'a ForeignKey, &'a str)> {
    let own = relatives.kept().flat_map(|key| key.columns.iter().map(move |column| (key, column.as_str())));
    own.chain(referring(relatives, table).flat_map(|key| key.parent_columns.iter().map(move |column| (key, column.as_str()))))
}

/// The foreign keys that refer to the table, its own among them.
fn referring<'a>(relatives: &'a Relatives, table: &'a TableName) -> impl Iterator<Item = &'a ForeignKey> {
    let to_itself = relatives.kept().filter(move |key| key.parent == *table);
    to_itself.chain(relatives.children.iter().flat_map(|child| child.keys.iter()))
}

fn name_before<'a>(name: &'a str, renames: &'a [(String, String)]) -> &'a str {
    renames.iter().find(|(_, after)| after.to_lowercase() == name.to_lowercase()).map_or(name, |(before, _)| before)
}

/// Refuses partitions of a table that takes part in foreign keys, which the server does not have together (1506). Pure.
///
/// # Errors
/// [`Reason::ForeignKeys`] with the constraint.
fn check_partitions(relatives: &Relatives, table: &TableName, partitioned: bool) -> Result<(), EngineError> {
    let mut keys = relatives.own.iter().chain(relatives.children.iter().flat_map(|child| child.keys.iter()));
    match keys.next().filter(|_| partitioned) {
        None => Ok(()),
        Some(key) => Err(EngineError::terminal(
            Reason::ForeignKeys,
            &format!(
                "the change partitions {}, which the foreign key {} binds to another table: MySQL has no foreign keys on partitioned tables (natively 1506)",
                table.quoted(),
                quote::identifier(&key.name)
            ),
        )),
    }
}

/// Refuses a change of a column that a foreign key stands on, where it is more than a longer VARCHAR: the server refuses it natively (1832,
/// 1833, 3780), since the values on both sides would no longer be the same. `relatives` as they are after the change. Pure.
///
/// # Errors
/// [`Reason::ForeignKeys`] with constraint and column.
fn check_columns(
    relatives: &Relatives,
    table: &TableName,
    original: &TableDefinition,
    new: &TableDefinition,
    renames: &[(String, String)],
) -> Result<(), EngineError> {
    for key in referring(relatives, table) {
        // The server takes an index that begins with the columns in their order; only a unique one of exactly these is standard SQL, and where
        // that is not demanded (restrict_fk_on_non_standard_key), one that was not unique does.
        let of = |table: &TableDefinition, unique: bool| {
            table
                .indexes
                .iter()
                .any(|index| index.kind == "BTREE" && (index.unique || !unique) && leads(&index.parts, &key.parent_columns, unique))
        };
        let old_columns: Vec<String> = key.parent_columns.iter().map(|name| name_before(name, renames).to_owned()).collect();
        let was_unique = original.indexes.iter().any(|index| index.unique && leads(&index.parts, &old_columns, true));
        if !of(new, was_unique) {
            return Err(EngineError::terminal(
                Reason::ForeignKeys,
                &format!(
                    "the change drops the index of {} that the foreign key {} refers to (natively 1553): drop the foreign key before, or keep an index of ({})",
                    table.quoted(),
                    quote::identifier(&key.name),
                    key.parent_columns.iter().map(|name| quote::identifier(name)).collect::<Vec<_>>().join(", ")
                ),
            ));
        }
    }
    for (key, name) in needs(relatives, table) {
        let before = name_before(name, renames);
        let as_before = match (original.column(before), new.column(name)) {
            (Some(before), Some(after)) => holds_the_same(before, after),
            _ => false,
        };
        if !as_before {
            return Err(EngineError::terminal(
                Reason::ForeignKeys,
                &format!(
                    "the change redefines the column {} of {}, which the foreign key {} stands on: both sides of a foreign key must have the same type (natively 1832, 1833 or 3780), so both tables would have to change at once",
                    quote::identifier(before),
                    table.quoted(),
                    quote::identifier(&key.name)
                ),
            ));
        }
    }
    Ok(())
}

/// Whether each value of a column is the same value in the other one, and compares alike (pure).
fn holds_the_same(before: &Column, after: &Column) -> bool {
    let longer = match (&before.column_type, &after.column_type) {
        (ColumnType::VarChar { length: a }, ColumnType::VarChar { length: b }) => a <= b,
        (ColumnType::VarBinary { length: a }, ColumnType::VarBinary { length: b }) => a <= b,
        _ => before.type_text == after.type_text,
    };
    longer && before.charset == after.charset && before.collation == after.collation && before.generated == after.generated
}

/// Makes the indexes that the server once made for the table's foreign keys the ghost's own: it has none of the foreign keys yet, and each one
/// that is added would have its index built anew, under the constraint's name.
///
/// # Errors
/// The server's.
pub async fn keep_indexes(session: &mut Session, relatives: &Relatives, ghost: &TableName) -> Result<(), EngineError> {
    let text = inspector::show_create(session, &ghost.schema, &ghost.table).await?;
    let there = create::split_secondary_indexes(&text, &[]).map_err(not_readable)?;
    let kept: Vec<&str> = relatives
        .own
        .iter()
        .flat_map(|key| {
            there.iter().filter(|index| !index.unique && leads(&index.parts, &key.columns, true)).map(|index| index.name.as_str())
        })
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let passing = |name: &str| quote::identifier(&passing(&ghost.table, name));
    for back in [false, true] {
        let renames: Vec<String> = kept
            .iter()
            .map(|name| (quote::identifier(name), passing(name)))
            .map(|(own, passing)| if back { (passing, own) } else { (own, passing) })
            .map(|(from, to)| format!("RENAME INDEX {from} TO {to}"))
            .collect();
        if !renames.is_empty() {
            let sql = format!("ALTER TABLE {} {}", ghost.quoted(), renames.join(", "));
            session.run("keep the indexes of foreign keys", SHORT, &sql).await?;
        }
    }
    Ok(())
}

/// Takes the foreign keys that the clauses have made on the empty ghost away from it, and says what they are to be on the table. Rows are copied
/// without them: with one, a row of the ghost that is still to be removed would refuse the application the parent's deletion.
///
/// # Errors
/// [`Reason::ForeignKeys`] where nothing would show that a parent has gone; the server's.
pub async fn take_added(
    session: &mut Session,
    original: &Inspected,
    table: &TableName,
    ghost: &TableName,
    row_image: &str,
) -> Result<Vec<ForeignKey>, EngineError> {
    let made = foreign_keys_of(session, ghost).await?;
    if made.is_empty() {
        return Ok(Vec::new());
    }
    let drops: Vec<String> = made.iter().map(|key| format!("DROP FOREIGN KEY {}", quote::identifier(&key.name))).collect();
    let sql = format!("ALTER TABLE {} {}", ghost.quoted(), drops.join(", "));
    session.run_patiently(None, "take the new foreign keys away from the empty ghost table", SHORT, &sql).await?;
    let added = named_for(made, &ghost.table, &table.table, &original.foreign_key_names());
    for key in &added {
        check_added(session, key, table, row_image).await?;
    }
    Ok(added)
}

/// Refuses a new foreign key where rows of the table that it refers to could go without the log showing which. The log is followed for them.
async fn check_added(session: &mut Session, key: &ForeignKey, table: &TableName, row_image: &str) -> Result<(), EngineError> {
    let refused = |why: &str| {
        let message = format!(
            "the change adds the foreign key {} to {}, and {why}: rows of {} could go unseen while the rows are copied",
            quote::identifier(&key.name),
            table.quoted(),
            key.parent.quoted()
        );
        EngineError::terminal(Reason::ForeignKeys, &message)
    };
    let Some(parent) = inspector::table(session, &key.parent.schema, &key.parent.table).await? else {
        return Err(refused("the table that it refers to is gone"));
    };
    let by_primary = parent.definition.indexes.iter().any(|i| {
        i.name == "PRIMARY"
            && key.parent_columns.iter().all(|c| {
                i.parts
                    .iter()
                    .any(|part| part.prefix.is_none() && part.column.as_deref().is_some_and(|of| of.to_lowercase() == c.to_lowercase()))
            })
    });
    if row_image == "MINIMAL" && !by_primary {
        return Err(refused(
            "binlog_row_image=MINIMAL logs the primary key only, which it does not refer to; set binlog_row_image=FULL or NOBLOB",
        ));
    }
    if parent.foreign_keys.iter().any(ForeignKey::cascades) && !cascades_are_logged(session).await? {
        return Err(refused(
            "that table has a foreign key that cascades, which this server does not log (MySQL 9.6 and later do, with innodb_native_foreign_keys=OFF)",
        ));
    }
    Ok(())
}

/// Has the server say on the ghost what it will say of the table's own constraints and triggers at the swap: each is added to it and taken away.
/// Nothing writes to the ghost meanwhile.
///
/// # Errors
/// [`Reason::ForeignKeys`] or [`Reason::Triggers`] with the object and the server's words; [`Reason::MissingPrivilege`]; the server's.
pub async fn prove(
    session: &mut Session,
    server: &ServerAddress,
    relatives: &Relatives,
    table: &TableName,
    ghost: &TableName,
) -> Result<(), EngineError> {
    if !relatives.own.is_empty() {
        prove_keys(session, relatives, table, ghost).await?;
    }
    triggers::prove(server, &relatives.triggers, ghost).await
}

async fn prove_keys(session: &mut Session, relatives: &Relatives, table: &TableName, ghost: &TableName) -> Result<(), EngineError> {
    let refused = |error: MySqlError, name: &str| {
        if error.is_transient() {
            return error.into();
        }
        let reason = match crate::engine::contract::error::reason_of(&error) {
            Reason::MissingPrivilege => Reason::MissingPrivilege,
            _ => Reason::ForeignKeys,
        };
        let message = format!(
            "the server does not accept the foreign key {} with the new definition of {}: {}",
            quote::identifier(name),
            table.quoted(),
            error.message
        );
        EngineError::of_server(&error, reason, &message)
    };
    let before = inspector::show_create(session, &ghost.schema, &ghost.table).await?;
    session.run("leave foreign keys unchecked", SHORT, "SET SESSION foreign_key_checks=0").await?;
    let proven = async {
        for (name, key) in relatives.own_names().into_iter().zip(relatives.on_ghost(table, ghost)) {
            // The ALTER has made it on this very ghost.
            if relatives.added.contains(&name) {
                continue;
            }
            let what = "try a foreign key on the empty ghost table";
            let add = format!("ALTER TABLE {} ADD {}, ALGORITHM=INPLACE, LOCK=NONE", ghost.quoted(), key.clause());
            let tried = session.run_patiently(None, what, SHORT, &add).await;
            tried.map_err(|error| refused(error, &name))?;
            let drop = format!("ALTER TABLE {} DROP FOREIGN KEY {}", ghost.quoted(), quote::identifier(&key.name));
            let what = "take the foreign key away from the ghost table";
            session.run_patiently(None, what, SHORT, &drop).await?;
            // The server makes an index where there is none for the constraint, and leaves it behind.
            if inspector::show_create(session, &ghost.schema, &ghost.table).await? != before {
                return Err(EngineError::terminal(
                    Reason::ForeignKeys,
                    &format!(
                        "the change drops the index of {} that the foreign key {} needs (natively 1553): drop the foreign key in the same change, or leave an index that begins with its columns",
                        table.quoted(),
                        quote::identifier(&name)
                    ),
                ));
            }
        }
        Ok(())
    }
    .await;
    session.run("check foreign keys again", SHORT, "SET SESSION foreign_key_checks=1").await?;
    proven
}

/// The constraints of the table's own that change its rows by themselves, where the server does not log the rows that cascades change.
///
/// # Errors
/// [`Reason::ForeignKeys`] where the ghost cannot have such a constraint while rows are copied; a lost connection.
async fn check_cascades(
    session: &mut Session,
    relatives: &Relatives,
    original: &Inspected,
    table: &TableName,
) -> Result<bool, EngineError> {
    let cascading: Vec<&ForeignKey> = original.foreign_keys.iter().filter(|key| key.cascades()).collect();
    if cascading.is_empty() || cascades_are_logged(session).await? {
        return Ok(false);
    }
    for key in cascading {
        let why = if key.parent == *table {
            "refers to the table itself, where a cascade would take other rows of the ghost than of the table"
        } else if !relatives.own.iter().any(|kept| kept.name == key.name) {
            "is dropped by the change, so the new table cannot have it while rows are copied; drop it in a change of its own"
        } else {
            continue;
        };
        return Err(EngineError::terminal(
            Reason::ForeignKeys,
            &format!(
                "this server does not log the rows that cascades change, and the foreign key {} of {} {why} (MySQL 9.6 and later log them, with innodb_native_foreign_keys=OFF)",
                quote::identifier(&key.name),
                table.quoted()
            ),
        ));
    }
    Ok(true)
}

/// Where the log does not say what cascades do to the table's rows, gives the empty ghost those constraints from the start: a cascade then
/// reaches both tables alike, in the transaction that causes it.
///
/// # Errors
/// As [`check_cascades`]; the server's.
pub async fn carry(
    session: &mut Session,
    relatives: &mut Relatives,
    original: &Inspected,
    table: &TableName,
    ghost: &TableName,
) -> Result<(), EngineError> {
    if !check_cascades(session, relatives, original, table).await? {
        return Ok(());
    }
    let carried: Vec<ForeignKey> = relatives.on_ghost(table, ghost).into_iter().filter(ForeignKey::cascades).collect();
    let adds: Vec<String> = carried.iter().map(|key| format!("ADD {}", key.clause())).collect();
    let add = format!("ALTER TABLE {} {}", ghost.quoted(), adds.join(", "));
    session.run_patiently(None, "add the foreign keys that cascade to the ghost", SHORT, &add).await?;
    relatives.carried = carried.into_iter().map(|key| key.name).collect();
    Ok(())
}

/// Refuses a constraint whose name goes by the table's and would become too long when the table is swapped out (1059). Pure.
///
/// # Errors
/// [`Reason::ForeignKeys`], with the constraint.
fn check_names(original: &Inspected, table: &TableName, old: &str) -> Result<(), EngineError> {
    let too_long = |key: &&ForeignKey| key.name_after_rename(&table.table, old).chars().count() > MAX_IDENTIFIER;
    match original.foreign_keys.iter().find(too_long) {
        None => Ok(()),
        Some(key) => Err(EngineError::terminal(
            Reason::ForeignKeys,
            &format!(
                "the name of the foreign key {} of {} becomes longer than 64 characters when the table is renamed to {}, since it begins with the table's; give it a shorter one first",
                quote::identifier(&key.name),
                table.quoted(),
                quote::identifier(old)
            ),
        )),
    }
}

/// Refuses more tables under one lock than are allowed. Pure.
///
/// # Errors
/// [`Reason::ForeignKeys`], with all of them.
pub fn check_number(relatives: &Relatives, table: &TableName, most: u16) -> Result<(), EngineError> {
    let others = relatives.tables(table);
    let count = others.len() + 1;
    if others.is_empty() || count <= usize::from(most) {
        return Ok(());
    }
    let list: Vec<String> = others.iter().map(TableName::quoted).collect();
    Err(EngineError::terminal(
        Reason::ForeignKeys,
        &format!(
            "a swap of {} locks {count} tables, since foreign keys bind it to others, and cutOver.maxLockedTables allows {most}: {}",
            table.quoted(),
            list.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::mapping::tests::{INT, column};
    use crate::sql::table::{Index, IndexPart};

    fn key(name: &str, columns: &[&str], parent: &str, parent_columns: &[&str]) -> ForeignKey {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        ForeignKey {
            name: name.into(),
            columns: list(columns),
            parent: TableName::new("d", parent),
            parent_columns: list(parent_columns),
            actions: String::new(),
            index: None,
        }
    }

    fn family() -> Relatives {
        Relatives {
            own: vec![key("up", &["p"], "parent", &["id"]), key("self", &["boss"], "t", &["id"])],
            children: vec![Child { table: TableName::new("e", "child"), keys: vec![key("down", &["t"], "t", &["id"])] }],
            ..Relatives::default()
        }
    }

    #[test]
    fn columns_that_foreign_keys_stand_on_stay_as_they_are() {
        let table = TableName::new("d", "t");
        let names = ["id", "p", "boss", "free"];
        let part = IndexPart { column: Some("id".into()), prefix: None, descending: false };
        let primary = Index { name: "PRIMARY".into(), unique: true, visible: true, kind: "BTREE".into(), parts: vec![part] };
        let original =
            TableDefinition { name: "t".into(), columns: names.iter().map(|n| column(n, INT)).collect(), indexes: vec![primary] };
        let of = |change: fn(&mut TableDefinition)| {
            let mut new = original.clone();
            change(&mut new);
            check_columns(&family(), &table, &original, &new, &[]).map_err(|error| error.message)
        };
        assert_eq!(of(|_| {}), Ok(()));
        assert_eq!(of(|new| new.columns[3].type_text = "bigint".into()), Ok(()));
        let error = of(|new| new.indexes.clear()).unwrap_err();
        assert!(error.contains("drops the index") && error.contains("1553"), "{error}");
        for (at, name, constraint) in [(0, "`id`", "`self`"), (1, "`p`", "`up`"), (2, "`boss`", "`self`")] {
            let mut new = original.clone();
            new.columns[at].type_text = "bigint".into();
            let error = check_columns(&family(), &table, &original, &new, &[]).unwrap_err();
            assert!(error.message.contains(name) && error.message.contains(constraint), "{error}");
        }
    }

    #[test]
    fn a_foreign_key_that_was_made_unchecked_is_not_made_again() {
        let part = |name: &str| IndexPart { column: Some(name.into()), prefix: None, descending: false };
        let index = |unique, columns: &[&str]| Index {
            name: "i".into(),
            unique,
            visible: true,
            kind: "BTREE".into(),
            parts: columns.iter().map(|c| part(c)).collect(),
        };
        let table = |columns: Vec<Column>, indexes| TableDefinition { name: "x".into(), columns, indexes };
        let text = |collation: &str| Column {
            charset: Some("utf8mb4".into()),
            collation: Some(collation.into()),
            ..column("id", ColumnType::VarChar { length: 9 })
        };
        let one = key("k", &["t"], "p", &["id"]);
        let child = |column: Column| table(vec![Column { name: "t".into(), ..column }], vec![]);
        let unique = |column: Column| table(vec![column], vec![index(true, &["id"])]);
        assert!(accepted(&one, &child(column("t", INT)), &unique(column("id", INT)), true));
        assert!(!accepted(&one, &child(column("t", ColumnType::Integer { bits: 64, unsigned: false })), &unique(column("id", INT)), true));
        assert!(accepted(&one, &child(text("utf8mb4_bin")), &unique(text("utf8mb4_bin")), true));
        assert!(!accepted(&one, &child(text("utf8mb4_bin")), &unique(text("utf8mb4_0900_ai_ci")), false));
        let wider = |unique| table(vec![column("id", INT), column("n", INT)], vec![index(unique, &["id", "n"])]);
        assert!(!accepted(&one, &child(column("t", INT)), &wider(true), true));
        assert!(accepted(&one, &child(column("t", INT)), &wider(false), false));
    }

    #[test]
    fn a_longer_varchar_holds_the_same() {
        let varchar = |length| Column { type_text: format!("varchar({length})"), ..column("v", ColumnType::VarChar { length }) };
        assert!(holds_the_same(&varchar(10), &varchar(20)));
        assert!(!holds_the_same(&varchar(20), &varchar(10)));
        assert!(!holds_the_same(&varchar(10), &Column { collation: Some("utf8mb4_bin".into()), ..varchar(10) }));
    }

    #[test]
    fn all_tables_of_a_swap_are_counted() {
        let table = TableName::new("d", "t");
        assert_eq!(check_number(&family(), &table, 3), Ok(()));
        let error = check_number(&family(), &table, 2).unwrap_err();
        assert!(error.message.contains("locks 3 tables") && error.message.contains("`d`.`parent`, `e`.`child`"), "{error}");
        assert_eq!(check_number(&Relatives::default(), &table, 0), Ok(()));
    }
}
