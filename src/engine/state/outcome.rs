//! Whether the swap happened, by the ids that tables keep through a rename; never guessed.
use super::record::Record;
use crate::engine::contract::error::EngineError;
use crate::engine::table::inspector;
use crate::mysql::Session;

/// Whether the swap happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// The original's name belongs to the new table.
    Happened,
    /// It belongs to the old one.
    DidNot,
    /// It cannot be told; nobody guesses.
    Unknown,
}

/// What is found under the three names: whether there is a table, and its id where it can be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// The table's own name.
    pub table_id: Option<u64>,
    /// The ghost's.
    pub ghost: bool,
    /// As above.
    pub ghost_id: Option<u64>,
    /// The old table's.
    pub old: bool,
    /// As above.
    pub old_id: Option<u64>,
}

/// Tells whether a swap happened, from what is there (pure). Table ids are the proof (a table keeps its id through a rename); without
/// them, atomic DDL leaves only two pictures of the three names.
fn swap_of(record: &Record, found: Found) -> Swap {
    match (found.table_id, record.original_id, record.ghost_id) {
        (Some(now), Some(original), Some(ghost)) if original != ghost => {
            return if now == ghost {
                Swap::Happened
            } else if now == original {
                Swap::DidNot
            } else if found.ghost_id == Some(ghost) {
                // The original was recreated meanwhile (OPTIMIZE TABLE); the one RENAME would have taken the ghost along.
                Swap::DidNot
            } else if found.old_id == Some(original) {
                // The new one was.
                Swap::Happened
            } else {
                Swap::Unknown
            };
        }
        _ => {}
    }
    match (found.ghost, found.old) {
        (false, true) => Swap::Happened,
        (true, false) => Swap::DidNot,
        _ => Swap::Unknown,
    }
}

/// Reads what [`swap_of`] needs.
///
/// # Errors
/// The server's.
pub async fn outcome(
    session: &mut Session,
    database: &str,
    table: &str,
    names: &crate::sql::names::TableNames,
    record: &Record,
) -> Result<Swap, EngineError> {
    let found = Found {
        table_id: inspector::table_id(session, database, table).await?,
        ghost: inspector::exists(session, database, &names.ghost).await?,
        ghost_id: inspector::table_id(session, database, &names.ghost).await?,
        old: inspector::exists(session, database, &names.old).await?,
        old_id: inspector::table_id(session, database, &names.old).await?,
    };
    Ok(swap_of(record, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::record::Stage;

    #[test]
    fn the_outcome_is_told_by_ids_and_never_guessed() {
        let record = |original_id, ghost_id| Record { stage: Stage::Swapping, original_id, ghost_id, ..Record::empty() };
        let found = |table_id, ghost: (bool, Option<u64>), old: (bool, Option<u64>)| Found {
            table_id,
            ghost: ghost.0,
            ghost_id: ghost.1,
            old: old.0,
            old_id: old.1,
        };
        let none = (false, None);
        let ids = record(Some(1), Some(2));
        assert_eq!(swap_of(&ids, found(Some(2), none, (true, Some(1)))), Swap::Happened);
        assert_eq!(swap_of(&ids, found(Some(1), (true, Some(2)), none)), Swap::DidNot);
        assert_eq!(swap_of(&ids, found(Some(3), none, (true, Some(4)))), Swap::Unknown, "a third table under the name");
        assert_eq!(swap_of(&ids, found(Some(3), (true, Some(4)), none)), Swap::Unknown, "and another ghost");
        assert_eq!(swap_of(&ids, found(Some(3), (true, Some(2)), none)), Swap::DidNot, "the original was made anew");
        assert_eq!(swap_of(&ids, found(Some(3), none, (true, Some(1)))), Swap::Happened, "the new table was made anew");
        assert_eq!(swap_of(&ids, found(None, none, (true, None))), Swap::Happened, "atomic DDL leaves no other way to this picture");
        let unread = record(None, None);
        assert_eq!(swap_of(&unread, found(None, (true, None), none)), Swap::DidNot);
        assert_eq!(swap_of(&unread, found(None, (true, None), (true, None))), Swap::Unknown);
        assert_eq!(swap_of(&unread, found(None, none, none)), Swap::Unknown);
    }
}
