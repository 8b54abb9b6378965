//! Unique conflicts on the ghost (rule 6): who holds the value, and whether two rows of the original really have it.
//!
//! A 1062 is usually a stale ghost row that still holds a value which has moved on. The holder is found by the ghost's own index, made
//! dirty and reconciled; only two rows that have the same value in one snapshot of the original fail the migration.

use super::copier::rollback;
use super::error::EngineError;
use super::migration::Migration;
use super::reason::Reason;
use crate::mysql::session::LONG;
use crate::mysql::{MySqlError, Session};
use crate::sql::key::{Key, Side};
use crate::sql::quote;
use crate::sql::table::Index;

/// How many holders one look-up returns: more come with the next try.
const HOLDERS: usize = 1000;

/// The index of the ghost that a duplicate was found in.
fn violated<'a>(m: &'a Migration, error: &MySqlError) -> Option<&'a Index> {
    let name = error.index.as_deref()?;
    // `table.index` since 8.0.19; both names may hold dots, so the known names decide.
    let prefix = format!("{}.", m.names.ghost);
    let short = name.strip_prefix(&prefix).unwrap_or(name);
    m.ghost.indexes.iter().find(|i| i.name.eq_ignore_ascii_case(short))
}

/// For each part of the index: the ghost's expression and the same value computed from the original. `None` when a part cannot be
/// computed from the original (an expression, or a column that the original lacks).
fn sides(m: &Migration, index: &Index) -> Option<(Vec<String>, Vec<String>)> {
    let (mut ghost, mut original) = (Vec::new(), Vec::new());
    for part in &index.parts {
        let name = part.column.as_deref()?;
        let shared = m.mapping.shared.iter().find(|c| c.ghost.eq_ignore_ascii_case(name))?;
        let column = m.ghost.column(name)?;
        let mut left = quote::identifier(&column.name);
        let mut right = shared.conversion.expression(&quote::identifier(&shared.original));
        if let (Some(charset), Some(collation)) = (&column.charset, &column.collation) {
            right = format!("CONVERT({right} USING {charset}) COLLATE {collation}");
        }
        if let Some(length) = part.prefix {
            left = format!("LEFT({left}, {length})");
            right = format!("LEFT({right}, {length})");
        }
        ghost.push(left);
        original.push(right);
    }
    Some((ghost, original))
}

fn list(parts: &[String]) -> String {
    if parts.len() == 1 { parts[0].clone() } else { format!("({})", parts.join(", ")) }
}

/// The ghost rows that hold a value which the original's rows named by `condition` have now.
///
/// # Errors
/// The server's.
pub async fn holders(m: &Migration, session: &mut Session, error: &MySqlError, condition: &str) -> Result<Vec<Key>, EngineError> {
    let Some((ghost, original)) = violated(m, error).and_then(|index| sides(m, index)) else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "SELECT {} FROM {} WHERE {} IN (SELECT {} FROM {} FORCE INDEX ({}) WHERE {condition}) LIMIT {HOLDERS}",
        m.codec.select_list(Side::Ghost),
        m.ghost_name(),
        list(&ghost),
        original.join(", "),
        m.original_name(),
        quote::identifier(&m.key.index),
    );
    keys(m, session, "look for the holders of a unique value", &sql).await
}

async fn keys(m: &Migration, session: &mut Session, what: &str, sql: &str) -> Result<Vec<Key>, EngineError> {
    let rows: Vec<mysql_async::Row> = session.rows(what, LONG, sql).await?;
    rows.into_iter()
        .map(|row| m.codec.encode_row(&row.unwrap()).map_err(|e| EngineError::internal(&format!("a key cannot be read: {e}"))))
        .collect()
}

/// Fails the migration if two rows of the original, one of them named by `condition`, have the same value under the violated index in
/// one snapshot. Returns `Ok` when that cannot be shown: then the conflict is with a stale row, and a retry cures it.
///
/// The proof is the server's own: both rows, inserted by one statement (one snapshot) behind the deletion of what the ghost had for
/// them, collide with each other and with nobody else.
///
/// # Errors
/// [`Reason::DuplicateKey`] with both keys; the server's errors.
pub async fn prove(m: &Migration, session: &mut Session, error: &MySqlError, condition: &str, holders: &[Key]) -> Result<(), EngineError> {
    let index = violated(m, error);
    let name = index.map_or_else(|| error.index.clone().unwrap_or_default(), |i| i.name.clone());
    let Some((ghost, original)) = index.and_then(|index| sides(m, index)) else {
        return Err(duplicate(m, &name, None));
    };
    for holder in holders.iter().take(20) {
        // Rows of the original that have the holder's value now, the holder itself aside.
        let sql = format!(
            "SELECT {} FROM {} FORCE INDEX ({}) WHERE ({condition}) AND NOT ({}) AND {} IN (SELECT {} FROM {} WHERE {}) LIMIT 1",
            m.codec.select_list(Side::Original),
            m.original_name(),
            quote::identifier(&m.key.index),
            m.codec.equals(Side::Original, holder),
            list(&original),
            ghost.join(", "),
            m.ghost_name(),
            m.codec.equals(Side::Ghost, holder),
        );
        for rival in keys(m, session, "look for a second row with a unique value", &sql).await? {
            if collide(m, session, &[holder.clone(), rival.clone()]).await? {
                return Err(duplicate(m, &name, Some((holder, &rival))));
            }
        }
    }
    // Two rows of the chunk itself.
    let groups: Vec<String> = original.clone();
    let not_null: Vec<String> = original.iter().map(|e| format!("{e} IS NOT NULL")).collect();
    let sql = format!(
        "SELECT {} FROM {} WHERE ({condition}) AND {} IN (SELECT * FROM (SELECT {} FROM {} WHERE ({condition}) AND {} GROUP BY {} HAVING COUNT(*) > 1 LIMIT 1) one_value) LIMIT 2",
        m.codec.select_list(Side::Original),
        m.original_name(),
        list(&original),
        original.join(", "),
        m.original_name(),
        not_null.join(" AND "),
        groups.join(", "),
    );
    let pair = keys(m, session, "look for two rows with a unique value", &sql).await?;
    if let [a, b] = pair.as_slice() {
        if collide(m, session, &[a.clone(), b.clone()]).await? {
            return Err(duplicate(m, &name, Some((a, b))));
        }
    }
    Ok(())
}

/// Whether these rows of the original, and no others, collide under the ghost's unique keys in one snapshot. Always rolled back.
async fn collide(m: &Migration, session: &mut Session, pair: &[Key]) -> Result<bool, EngineError> {
    if !m.state.begin(session, m.epoch).await? {
        return Err(super::checkpoint::fenced());
    }
    session.run("try two rows", LONG, &m.delete_keys(pair)).await?;
    let tried = session.run("try two rows", LONG, &m.copy_keys(pair)).await;
    let collision = match tried {
        Err(error) if error.is_duplicate() => {
            // Somebody else may hold the value: then it is no proof.
            let others = holders(m, session, &error, &m.codec.in_list(Side::Original, pair.iter())).await?;
            others.is_empty()
        }
        Err(error) if error.is_connection() => return Err(error.into()),
        _ => false,
    };
    rollback(session).await?;
    Ok(collision)
}

fn duplicate(m: &Migration, index: &str, pair: Option<(&Key, &Key)>) -> EngineError {
    let which = match pair {
        Some((a, b)) => format!("the rows with {} {} and {}", m.key.index, m.codec.tuple(a), m.codec.tuple(b)),
        None => "two rows".to_owned(),
    };
    EngineError::terminal(
        Reason::DuplicateKey,
        &format!(
            "{which} of {} have the same value under the unique key {} of the new definition. The original table is untouched; the ghost and state tables are kept: change one of the rows and retry, or delete the migration",
            m.original_name(),
            quote::identifier(index)
        ),
    )
}
