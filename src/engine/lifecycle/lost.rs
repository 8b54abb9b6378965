//! What has become of a migration's own tables when a statement on one of them was refused, or the fence has nothing to say: someone has
//! dropped, renamed, emptied or changed one of them, or another engine has taken over. Each has its own sentence and its own clean-up.
//!
//! Promises: a table is only removed when its id proves that this engine made it; nothing is guessed.

use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::MigrationSpec;
use crate::engine::state::store::StateTable;
use crate::engine::state::takeover::{Fate, Owned};
use crate::engine::table::inspector;
use crate::mysql::Session;
use crate::mysql::session::LONG;
use crate::sql::quote;

/// What is there now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct There {
    /// The state table; with the owner's epoch where it has one.
    pub state: Option<Option<u64>>,
    /// The ghost; with its id where that can be read.
    pub ghost: Option<Option<u64>>,
    /// The table itself.
    pub original: bool,
}

/// What is the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that can be told from here.
    Nothing,
    /// Another engine has followed, or finished the work: [`Owned::fate`] tells.
    Followed,
    /// The state table is gone, and the ghost is there: no engine leaves that behind, since the ghost always goes first.
    State {
        /// The ghost is the one that this engine made, by its id.
        ghost_is_ours: bool,
    },
    /// The state table has no owner any more.
    Emptied,
    /// The ghost is gone.
    Ghost,
    /// The table itself is gone.
    Original,
}

/// Tells what is the matter (pure).
pub fn loss(owned: &Owned, there: There) -> Loss {
    match (there.state, there.ghost) {
        // Another one of the name: the work was finished, and someone else works on the table now.
        (None, Some(Some(id))) if owned.ghost_id.is_some_and(|ours| ours != id) => Loss::Followed,
        (None, Some(id)) => Loss::State { ghost_is_ours: owned.ghost_id.is_some() && id == owned.ghost_id },
        (None, None) => Loss::Followed,
        (Some(None), _) => Loss::Emptied,
        (Some(Some(epoch)), _) if epoch > owned.epoch => Loss::Followed,
        _ if !there.original => Loss::Original,
        (Some(Some(_)), None) => Loss::Ghost,
        _ => Loss::Nothing,
    }
}

/// Looks, removes what is proven to be this engine's and can serve nobody, and returns the error that tells of it. `Ok(None)`: nothing is
/// known that `error` does not say; `Ok(Some(Fate::Done))`: another engine has finished the work.
///
/// # Errors
/// What has happened; or the server's.
pub async fn explain(owned: &Owned, spec: &MigrationSpec, state: &StateTable, control: &mut Session) -> Result<Option<Fate>, EngineError> {
    if owned.swapped.is_some() || control.server_uuid() != owned.server_uuid {
        return owned.fate(spec, state, control).await.map(Some);
    }
    let names = spec.names();
    let id = async |control: &mut Session, name: &str| -> Result<Option<Option<u64>>, EngineError> {
        if !inspector::exists(control, &spec.database, name).await? {
            return Ok(None);
        }
        inspector::table_id(control, &spec.database, name).await.map(Some)
    };
    let loaded = state.load(control, &spec.database).await?;
    let there = There {
        state: match loaded {
            None => None,
            Some(stored) if stored.record.id.is_empty() => Some(None),
            // The same name, made for another migration since: this one is over.
            Some(stored) if stored.record.id != spec.id => Some(Some(u64::MAX)),
            Some(stored) => Some(Some(stored.epoch)),
        },
        ghost: id(control, &names.ghost).await?,
        original: inspector::exists(control, &spec.database, &spec.table).await?,
    };
    let table = quote::qualified(&spec.database, &spec.table);
    let (ghost, shown) = (quote::qualified(&spec.database, &names.ghost), state.qualified());
    match loss(owned, there) {
        Loss::Nothing => Ok(None),
        Loss::Followed => owned.fate(spec, state, control).await.map(Some),
        Loss::State { ghost_is_ours } => {
            let left = if ghost_is_ours {
                control.run("drop the ghost table", LONG, &format!("DROP TABLE IF EXISTS {ghost}")).await?;
                format!("The ghost table {ghost} was dropped; retry to start over")
            } else {
                format!(
                    "The ghost table {ghost} is left, because nothing shows any longer that it belongs to this migration: DROP TABLE {ghost}, then retry to start over"
                )
            };
            Err(EngineError::terminal(
                Reason::StateNotReadable,
                &format!(
                    "someone else dropped or renamed the state table {shown}, which the migration needs to continue. {table} is untouched and was not swapped. {left}"
                ),
            ))
        }
        Loss::Emptied => Err(EngineError::terminal(
            Reason::StateNotReadable,
            &format!(
                "someone else emptied the state table {shown}, which the migration needs to continue. {table} is untouched and was not swapped; retry to start over, or delete the migration, which drops {ghost} and {shown}"
            ),
        )),
        Loss::Ghost => {
            let now = match owned.ghost_id {
                Some(id) => inspector::name_of(control, id).await?,
                None => None,
            };
            let now = now.map_or_else(String::new, |name| format!(" It is now called {name}: drop it when you no longer need it."));
            Err(EngineError::terminal(
                Reason::GhostWritten,
                &format!(
                    "someone else dropped or renamed the ghost table {ghost}.{now} {table} is untouched and was not swapped; retry to start over, or delete the migration"
                ),
            ))
        }
        Loss::Original => Err(EngineError::terminal(
            Reason::TableNotFound,
            &format!(
                "someone else dropped or renamed {table} during the migration; nothing was swapped. {ghost} and {shown} are left: delete the migration, which drops them, or restore the table and retry to start over"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_is_told_apart() {
        let owned = Owned { epoch: 7, server_uuid: "a".into(), ghost_id: Some(20), swapped: None, reverted: false };
        let whole = There { state: Some(Some(7)), ghost: Some(Some(20)), original: true };
        for (there, want) in [
            (whole, Loss::Nothing),
            (There { state: Some(Some(8)), ..whole }, Loss::Followed),
            (There { state: None, ghost: None, ..whole }, Loss::Followed),
            (There { state: None, ..whole }, Loss::State { ghost_is_ours: true }),
            (There { state: None, ghost: Some(Some(21)), ..whole }, Loss::Followed),
            (There { state: None, ghost: Some(None), ..whole }, Loss::State { ghost_is_ours: false }),
            (There { state: Some(None), ..whole }, Loss::Emptied),
            (There { ghost: None, ..whole }, Loss::Ghost),
            (There { original: false, ..whole }, Loss::Original),
            (There { original: false, ghost: None, ..whole }, Loss::Original),
        ] {
            assert_eq!(loss(&owned, there), want, "{there:?}");
        }
        let unread = Owned { ghost_id: None, ..owned };
        assert_eq!(loss(&unread, There { state: None, ghost: Some(None), ..whole }), Loss::State { ghost_is_ours: false });
    }
}
