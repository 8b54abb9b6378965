//! What a migration remembers, as values; [`super::store`] keeps them in MySQL.
use crate::mysql::{BinlogPosition, GtidSet, ServerValues};
use crate::sql::create;
use crate::sql::foreign_key::Relatives;
use crate::sql::key::KeyRange;
use crate::sql::names::TableNames;
use serde::{Deserialize, Serialize};

/// Version of the table's layout and of the JSON in it, as this binary writes it. What is added in a version has a default, so that an
/// older binary's work goes on; what changes its meaning raises the number, and a binary refuses numbers above its own.
pub const VERSION: u32 = 1;

/// What is fixed for a migration, and its phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`]
    pub version: u32,
    /// Identity of the migration that owns the tables.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// Digest of server-independent parts of the spec: database, table, alter.
    pub spec_digest: String,
    /// The clauses that were derived from `spec.desired`; empty where the user wrote clauses.
    #[serde(default)]
    pub clauses: String,
    /// Where the work is.
    pub stage: Stage,
    /// `server_uuid` of the server that the position is from.
    pub server_uuid: String,
    /// Normalised definition of the original at the start.
    pub original_definition: String,
    /// Normalised definition that the ghost must have at the swap, without foreign keys; where the server makes the change itself, the one that
    /// it leaves.
    pub ghost_definition: String,
    /// The foreign keys that the table takes part in, as they are to be after the swap. Stored before the first statement of an attempt, so that
    /// the next engine can finish what this one began.
    #[serde(default)]
    pub relatives: Relatives,
    /// InnoDB's ids, where they can be read.
    pub original_id: Option<u64>,
    /// As above, of the ghost.
    pub ghost_id: Option<u64>,
    /// Definitions of secondary indexes that are built after the rows.
    pub deferred_indexes: Vec<String>,
    /// Whether the server changed the table itself: then there is no old table.
    #[serde(default)]
    pub native: bool,
    /// Mode TestOnReplica: whether the replica's applier is stopped, or about to be. Whoever finds this starts it again.
    #[serde(default)]
    pub applier_stopped: bool,
    /// What clauses and rows are evaluated in. `None`: written by a version that did not keep it, whose rows are copied again.
    #[serde(default)]
    pub server_values: Option<ServerValues>,
    /// The index of the original that chunks walk along.
    pub key_index: String,
    /// An index of ours that the ghost has until the swap; empty where the new table has one for the key itself.
    #[serde(default)]
    pub helper_index: String,
    /// Rows thought to be there at the start, or counted.
    pub rows_estimated: u64,
    /// Whether they were counted (`copy.exactRowCount`).
    #[serde(default)]
    pub rows_counted: bool,
    /// Seconds since 1970.
    pub started_at: u64,
    /// How often the work was resumed.
    pub resumed_count: u32,
    /// What the old table is called after the swap; empty in records of binaries that knew one name only.
    #[serde(default)]
    pub old: String,
    /// The old table is to be kept current after the swap. Stored before it, and the position of the swap is then the safe position.
    #[serde(default)]
    pub way_back: bool,
    /// Set while the old table is kept current: the record of the change. Then everything else in this one is that of the way back, in which the
    /// new table is the original and the old one the ghost.
    #[serde(default)]
    pub change: Option<Box<Record>>,
    /// What the ghost is called, where that is not the name that the table gives.
    #[serde(default)]
    pub ghost: String,
    /// Seconds since 1970: when the way back was opened.
    #[serde(default)]
    pub opened_at: u64,
    /// The hooks know that the change is made.
    #[serde(default)]
    pub told: bool,
    /// Why the change cannot be taken back any more: a word and a sentence.
    #[serde(default)]
    pub closed: Option<(String, String)>,
}

impl Record {
    /// On another server than the one that they were read from, table ids mean nothing: another table may have them there.
    pub fn forget_ids(&mut self) {
        self.original_id = None;
        self.ghost_id = None;
    }

    /// The record of a table whose engine died before writing one.
    pub(crate) fn empty() -> Self {
        Self { version: VERSION, ..Self::default() }
    }

    /// Normalised definition of the table once the change is made. `ghost` and `table` are names.
    pub fn definition_after(&self, ghost: &str, table: &str) -> String {
        if self.stage == Stage::Tested {
            self.original_definition.clone()
        } else if self.native {
            self.ghost_definition.clone()
        } else {
            create::with_foreign_keys(&create::as_renamed(&self.ghost_definition, ghost, table), &self.relatives.own_names())
        }
    }

    /// The names of the migration's tables, where `names` are those that the table gives by itself.
    pub fn names(&self, names: &TableNames) -> TableNames {
        let or = |own: &String, name: &String| if own.is_empty() { name.clone() } else { own.clone() };
        TableNames { old: or(&self.old, &names.old), ghost: or(&self.ghost, &names.ghost), ..names.clone() }
    }

    /// Whether it is that of the way back.
    pub fn is_turned(&self) -> bool {
        self.change.is_some()
    }

    /// The record of the change, for which there is no way back any more; itself where it is no other's.
    #[must_use]
    pub fn closed(self, word: &str, sentence: &str) -> Self {
        let told = self.told;
        let change = match self.change {
            // The tables may have other ids by now: someone has rebuilt one, or this is another server.
            Some(change) => Self { original_id: self.ghost_id, ghost_id: self.original_id, server_uuid: self.server_uuid, ..*change },
            None => self,
        };
        Self { stage: Stage::Swapped, way_back: false, told, closed: Some((word.to_owned(), sentence.to_owned())), ..change }
    }

    /// Whether the migration is over and only its old table (and this record, which says whose that is) is left.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Swapped | Stage::Reverted)
    }
}

/// How far a migration is, as far as the next engine must know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The ghost is being made; nothing in it counts yet.
    #[default]
    Preparing,
    /// The ghost is ready; chunks may be recorded.
    Copying,
    /// The server changes the table itself (or is about to: the definition tells); there is no ghost.
    Native,
    /// The tables are swapped (or about to be: the table ids tell).
    Swapping,
    /// The tables are swapped for sure; only leftovers are to be removed.
    Swapped,
    /// The tables are swapped, and the old one is kept current.
    Turned,
    /// The tables are swapped back for sure; only leftovers are to be removed.
    Reverted,
    /// Mode TestOnReplica: they were swapped and swapped back, and the ghost is left on purpose.
    Tested,
}

/// The largest position such that every key made dirty at or before it has been reconciled or dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafePosition {
    /// In the log of the server named by [`Record::server_uuid`].
    pub position: BinlogPosition,
    /// The GTIDs executed there; empty without GTIDs.
    pub executed: String,
    /// Changes applied so far, for the status.
    #[serde(default)]
    pub applied: u64,
}

impl SafePosition {
    /// As a point of a stream.
    pub fn point(&self) -> StreamPoint {
        StreamPoint { position: self.position.clone(), executed: GtidSet::parse(&self.executed).unwrap_or_default() }
    }

    /// From a point of a stream.
    pub fn at(point: &StreamPoint, applied: u64) -> Self {
        Self { position: point.position.clone(), executed: point.executed.to_string(), applied }
    }
}

/// A range that is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// Exclusive lower, inclusive upper end.
    pub range: KeyRange,
    /// Rows copied in it.
    pub rows: u64,
    /// The last chunk number that it stands for; the first one is the row's id.
    pub last: u64,
}

/// What a new engine finds.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The fixed part.
    pub record: Record,
    /// Where to stream from.
    pub safe: SafePosition,
    /// Copied ranges, by id (the order of dispatch).
    pub chunks: Vec<(u64, ChunkRecord)>,
    /// The present owner's epoch.
    pub epoch: u64,
}

/// Number of a chunk in the order of keys. A chunk that fills a hole stands for all the numbers that were lost there, so that the numbers
/// of records are always in key order, whoever wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkId {
    /// The record's id.
    pub first: u64,
    /// The last number it stands for.
    pub last: u64,
}

/// A point in the stream: between two transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamPoint {
    /// In the log of the server that is read.
    pub position: BinlogPosition,
    /// All GTIDs at or before it; empty without GTIDs.
    pub executed: GtidSet,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_a_change_comes_back_from_its_way_back() {
        let named = |old: &str| Record {
            stage: Stage::Swapping,
            original_id: Some(1),
            ghost_id: Some(2),
            old: old.into(),
            way_back: true,
            ..Record::empty()
        };
        let turned = Record {
            stage: Stage::Turned,
            server_uuid: "promoted".into(),
            original_id: Some(20),
            ghost_id: Some(10),
            old: "_t_2026_del".into(),
            ghost: "_t_del".into(),
            told: true,
            change: Some(Box::new(named("_t_del"))),
            ..Record::empty()
        };
        let closed = turned.clone().closed("WindowEnded", "it has ended");
        assert_eq!((closed.stage, closed.original_id, closed.ghost_id), (Stage::Swapped, Some(10), Some(20)));
        assert_eq!((closed.old.as_str(), closed.ghost.as_str(), closed.server_uuid.as_str()), ("_t_del", "", "promoted"));
        assert!(closed.told && !closed.way_back && !closed.is_turned() && closed.is_over() && !turned.is_over());
        let never = named("_t_del").closed("NoWayBack", "no");
        assert_eq!(
            (never.stage, never.original_id, never.closed.map(|(word, _)| word)),
            (Stage::Swapped, Some(1), Some("NoWayBack".into()))
        );
    }
}
