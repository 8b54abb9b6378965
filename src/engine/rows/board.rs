//! Which ranges of keys are copied, in flight, or still to be dispatched. Pure.
//!
//! Ranges are dispatched in key order, so what is dispatched is everything up to the frontier, less the holes that a former engine left.

use crate::engine::state::record::{ChunkId, ChunkRecord};
use crate::sql::key::{Key, KeyRange};
use std::collections::{BTreeMap, VecDeque};

/// Where a key lies, as far as a flush cycle must know (rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyState {
    /// Not dispatched: its chunk will read it after the barrier. Drop.
    Ahead,
    /// In a chunk that is under way. Keep for the next cycle.
    InFlight,
    /// Copied. Reconcile.
    Copied,
}

/// Which ranges of the key are copied, in flight, or still to do.
#[derive(Debug, Default)]
pub struct Board {
    /// Ranges left over by a former engine below the frontier, to be dispatched first.
    holes: VecDeque<(ChunkId, KeyRange)>,
    in_flight: BTreeMap<u64, KeyRange>,
    frontier: Frontier,
    next_id: u64,
}

/// How far ranges have been dispatched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Frontier {
    /// Nothing is.
    #[default]
    Start,
    /// Everything up to and including this key.
    At(Key),
    /// Everything.
    End,
}

/// What a copy worker is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// This whole range, which has its id already.
    Hole(ChunkId, KeyRange),
    /// Ask the index for an end beyond this frontier.
    From(Option<Key>),
    /// Nothing is left to dispatch.
    Nothing,
}

impl Board {
    /// Takes up the ranges that a former engine has recorded, in their order of dispatch (= key order).
    ///
    /// Returns `None` when they are not in order: then the records are not ours to trust.
    pub fn resume(chunks: &[(ChunkId, KeyRange)]) -> Option<Self> {
        let mut board = Self::default();
        let mut reached: Option<Key> = None;
        let mut ended = false;
        for (id, range) in chunks {
            if ended || id.first < board.next_id {
                return None;
            }
            if range.lo != reached {
                // The lost chunks had numbers of their own.
                let lost = ChunkId { first: board.next_id, last: id.first.checked_sub(1)? };
                let hi = range.lo.clone()?;
                if lost.last < lost.first {
                    return None;
                }
                board.holes.push_back((lost, KeyRange { lo: reached.clone(), hi: Some(hi) }));
            }
            reached = range.hi.clone();
            ended = range.hi.is_none();
            board.next_id = id.last + 1;
        }
        board.frontier = match (reached, ended) {
            (_, true) => Frontier::End,
            (Some(key), false) => Frontier::At(key),
            (None, false) => Frontier::Start,
        };
        Some(board)
    }

    /// What to dispatch next. A hole is in flight from now on.
    #[allow(clippy::should_implement_trait, reason = "a board is no iterator: what is next depends on what is dispatched")]
    pub fn next(&mut self) -> Next {
        if let Some((id, range)) = self.holes.pop_front() {
            self.in_flight.insert(id.first, range.clone());
            return Next::Hole(id, range);
        }
        match &self.frontier {
            Frontier::Start => Next::From(None),
            Frontier::At(key) => Next::From(Some(key.clone())),
            Frontier::End => Next::Nothing,
        }
    }

    /// Dispatches the range from the frontier to `hi` (`None`: to the end). It is in flight from now on; the caller reads afterwards.
    pub(super) fn dispatch(&mut self, hi: Option<Key>) -> (ChunkId, KeyRange) {
        let lo = match &self.frontier {
            Frontier::At(key) => Some(key.clone()),
            Frontier::Start | Frontier::End => None,
        };
        let id = ChunkId { first: self.next_id, last: self.next_id };
        self.next_id += 1;
        self.frontier = hi.clone().map_or(Frontier::End, Frontier::At);
        let range = KeyRange { lo, hi };
        self.in_flight.insert(id.first, range.clone());
        (id, range)
    }

    /// The chunk's transaction is committed.
    pub fn done(&mut self, id: ChunkId) {
        self.in_flight.remove(&id.first);
    }

    /// Whether every range is copied.
    pub fn complete(&self) -> bool {
        self.frontier == Frontier::End && self.holes.is_empty() && self.in_flight.is_empty()
    }

    /// The ranges a key must be compared with, for the server to compare: in flight first, then those not dispatched.
    pub fn ranges(&self) -> (Vec<KeyRange>, Vec<KeyRange>) {
        let in_flight = self.in_flight.values().cloned().collect();
        let mut ahead: Vec<KeyRange> = self.holes.iter().map(|(_, range)| range.clone()).collect();
        match &self.frontier {
            Frontier::Start => ahead.push(KeyRange { lo: None, hi: None }),
            Frontier::At(key) => ahead.push(KeyRange { lo: Some(key.clone()), hi: None }),
            Frontier::End => {}
        }
        (in_flight, ahead)
    }
}

/// The contiguous beginning of what is copied: records of neighbours are merged into one, so that the state table stays small.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    /// With the id of its record.
    whole: Option<(u64, ChunkRecord)>,
}

impl Beginning {
    /// Takes the records that go on from here without a gap; the others stay. What replaces all records that it stands for; `None`: nothing new.
    pub fn merge(&mut self, records: &mut Vec<(ChunkId, ChunkRecord)>) -> Option<(u64, ChunkRecord)> {
        records.sort_by_key(|(id, _)| *id);
        let (mut used, mut grew) = (0, false);
        for (id, chunk) in records.iter() {
            match &mut self.whole {
                // Only the very first chunk begins at minus infinity.
                None if chunk.range.lo.is_none() => self.whole = Some((id.first, chunk.clone())),
                Some((_, whole)) if chunk.range.lo == whole.range.hi && whole.range.hi.is_some() && id.first == whole.last + 1 => {
                    whole.last = id.last;
                    whole.range.hi = chunk.range.hi.clone();
                    whole.rows += chunk.rows;
                    grew = true;
                }
                _ => break,
            }
            used += 1;
        }
        records.drain(..used);
        if grew { self.whole.clone() } else { None }
    }
}

/// Places a key among sampled ranges by comparing encodings: right only where the client may compare (see `KeyCodec::client_comparable`).
pub(super) fn copy_state(key: &Key, in_flight: &[KeyRange], ahead: &[KeyRange]) -> CopyState {
    let inside = |range: &KeyRange| range.lo.as_ref().is_none_or(|lo| key > lo) && range.hi.as_ref().is_none_or(|hi| key <= hi);
    if in_flight.iter().any(inside) {
        CopyState::InFlight
    } else if ahead.iter().any(inside) {
        CopyState::Ahead
    } else {
        CopyState::Copied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key::from_bytes(&[n])
    }

    fn id(first: u64, last: u64) -> ChunkId {
        ChunkId { first, last }
    }

    fn range(lo: Option<u8>, hi: Option<u8>) -> KeyRange {
        KeyRange { lo: lo.map(key), hi: hi.map(key) }
    }

    fn copy_states(board: &Board) -> Vec<CopyState> {
        let (in_flight, ahead) = board.ranges();
        (0..5).map(|n| copy_state(&key(n), &in_flight, &ahead)).collect()
    }

    #[test]
    fn keys_move_from_ahead_through_flight_to_copied() {
        use CopyState::{Ahead, Copied, InFlight};
        let mut board = Board::default();
        assert_eq!(copy_states(&board), [Ahead; 5]);
        assert_eq!(board.next(), Next::From(None));
        let (first, r) = board.dispatch(Some(key(1)));
        assert_eq!(r, range(None, Some(1)));
        assert_eq!(copy_states(&board), [InFlight, InFlight, Ahead, Ahead, Ahead]);
        let (second, r) = board.dispatch(None);
        assert_eq!(r, range(Some(1), None));
        board.done(first);
        assert_eq!(copy_states(&board), [Copied, Copied, InFlight, InFlight, InFlight]);
        assert!(!board.complete());
        board.done(second);
        assert_eq!(copy_states(&board), [Copied; 5]);
        assert!(board.complete());
        assert_eq!(board.next(), Next::Nothing);
    }

    #[test]
    fn a_resumed_board_has_the_holes_of_the_old_one() {
        use CopyState::{Ahead, Copied};
        let chunks = [(id(0, 0), range(None, Some(0))), (id(3, 3), range(Some(1), Some(2))), (id(4, 4), range(Some(2), Some(3)))];
        let mut board = Board::resume(&chunks).expect("in order");
        assert_eq!(copy_states(&board), [Copied, Ahead, Copied, Copied, Ahead]);
        assert_eq!(board.next(), Next::Hole(id(1, 2), range(Some(0), Some(1))), "two lost chunks become one that keeps both numbers");
        assert_eq!(board.next(), Next::From(Some(key(3))));
        assert_eq!(board.dispatch(None), (id(5, 5), range(Some(3), None)));
    }

    #[test]
    fn a_resumed_board_that_was_complete_is_complete() {
        assert!(Board::resume(&[(id(0, 7), range(None, None))]).expect("in order").complete());
        assert!(!Board::resume(&[]).expect("in order").complete());
    }

    #[test]
    #[allow(clippy::type_complexity, reason = "a table")]
    fn records_of_neighbours_become_one() {
        let record = |last, lo, hi| ChunkRecord { range: range(lo, hi), rows: 10, last };
        let mut beginning = Beginning::default();
        type Chunk = (u64, u64, Option<u8>, Option<u8>);
        type Merged = Option<(u64, Option<u8>, u64)>;
        // Cycle after cycle: chunks that were committed → ids and end of the merged record, and how many wait.
        let cycles: &[(&[Chunk], Merged, usize)] = &[
            // The second one is there before the first.
            (&[(1, 1, Some(1), Some(2))], None, 1),
            (&[(0, 0, None, Some(1))], Some((1, Some(2), 20)), 0),
            (&[], None, 0),
            // A hole that a former engine left has the numbers of two chunks.
            (&[(4, 4, Some(4), Some(5))], None, 1),
            (&[(2, 3, Some(2), Some(4)), (6, 6, Some(6), None)], Some((4, Some(5), 40)), 1),
            (&[(5, 5, Some(5), Some(6))], Some((6, None, 60)), 0),
        ];
        let mut records = Vec::new();
        for (n, (chunks, merged, waiting)) in cycles.iter().enumerate() {
            records.extend(chunks.iter().map(|(first, last, lo, hi)| (id(*first, *last), record(*last, *lo, *hi))));
            let expected = merged.map(|(last, hi, rows)| (0, ChunkRecord { range: range(None, hi), rows, last }));
            assert_eq!((beginning.merge(&mut records), records.len()), (expected, *waiting), "{n}");
        }
        // Nothing comes behind the end.
        let mut records = vec![(id(7, 7), record(7, None, Some(1)))];
        assert_eq!(beginning.merge(&mut records), None);
    }

    #[test]
    fn records_out_of_order_are_not_trusted() {
        assert!(Board::resume(&[(id(0, 0), range(None, None)), (id(1, 1), range(Some(1), None))]).is_none());
        assert!(Board::resume(&[(id(0, 0), range(None, Some(1))), (id(1, 1), range(None, Some(2)))]).is_none());
    }
}
