//! How far the safe position may go. Pure.
//!
//! Everything that the log says up to the safe position is on the ghost, or in a chunk that has yet to read its rows: the next engine streams
//! from there. A cycle takes all keys up to a point. Those that it could not settle are kept, and hold the safe position at the point where the
//! cycle before it had ended: no event of theirs lies before that. A prepared XA transaction holds it where it began, and a transaction that
//! enters in parts holds it by itself, since the inbox does not move its own position before the end.

use crate::engine::state::record::StreamPoint;
use crate::sql::key::Key;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Keys that are kept from one cycle to the next, and the safe position.
pub(super) struct SafePoints {
    /// Keys, with the number of the point that they hold.
    kept: HashMap<Key, u64>,
    /// The points that kept keys hold. Numbers rise, and so do the points.
    points: BTreeMap<u64, StreamPoint>,
    /// Of the next point.
    number: u64,
    /// Where the last cycle ended.
    last: StreamPoint,
    safe: StreamPoint,
}

impl SafePoints {
    /// Nothing is kept, and all before `start` is done.
    pub fn new(start: StreamPoint) -> Self {
        Self { kept: HashMap::new(), points: BTreeMap::new(), number: 0, last: start.clone(), safe: start }
    }

    /// The keys that are kept.
    pub fn kept(&self) -> impl Iterator<Item = &Key> {
        self.kept.keys()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.kept.len()
    }

    /// Whether this key is kept.
    pub fn keeps(&self, key: &Key) -> bool {
        self.kept.contains_key(key)
    }

    /// Where the last cycle ended.
    pub fn last(&self) -> &StreamPoint {
        &self.last
    }

    /// The safe position.
    pub fn safe(&self) -> &StreamPoint {
        &self.safe
    }

    /// These keys, and no others, are kept from now on. What became dirty did so at or after [`SafePoints::last`]; a key that was kept before
    /// goes on holding its old point.
    pub fn keep(&mut self, keys: Vec<Key>) {
        let old = std::mem::take(&mut self.kept);
        for key in keys {
            let number = old.get(&key).copied().unwrap_or(self.number);
            self.kept.insert(key, number);
        }
        self.points.insert(self.number, self.last.clone());
        self.number += 1;
        let held: BTreeSet<u64> = self.kept.values().copied().collect();
        self.points.retain(|number, _| held.contains(number));
    }

    /// A cycle has ended that took everything up to `end`, and keeps these keys. `held`: where the oldest prepared transaction begins.
    pub fn ended(&mut self, kept: Vec<Key>, end: StreamPoint, held: Option<&StreamPoint>) {
        self.keep(kept);
        let oldest = self.points.values().next().unwrap_or(&end);
        self.safe = held.filter(|held| held.position < oldest.position).unwrap_or(oldest).clone();
        self.last = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::{BinlogPosition, GtidSet};

    fn at(offset: u64) -> StreamPoint {
        let mut executed = GtidSet::default();
        executed.insert([7; 16], "", offset);
        StreamPoint { position: BinlogPosition { file: "binlog.000001".into(), offset }, executed }
    }

    fn keys(names: &str) -> Vec<Key> {
        names.bytes().map(|name| Key::from_bytes(&[name])).collect()
    }

    #[test]
    fn the_safe_position_waits_for_what_is_not_settled() {
        // Cycle after cycle: (up to where it took, what it keeps, where a prepared transaction begins) → the safe position.
        type Cycle = (u64, &'static str, Option<u64>, u64);
        let cases: &[(&str, &[Cycle])] = &[
            ("all is settled", &[(20, "", None, 20), (30, "", None, 30), (30, "", None, 30)]),
            (
                "a kept key holds the point before its cycle",
                &[(20, "", None, 20), (30, "a", None, 20), (40, "a", None, 20), (50, "", None, 50)],
            ),
            ("a key of the first cycle holds the start", &[(20, "a", None, 10), (30, "a", None, 10), (40, "", None, 40)]),
            (
                "the oldest of several counts",
                &[(20, "a", None, 10), (30, "ab", None, 10), (40, "bc", None, 20), (50, "c", None, 30), (60, "", None, 60)],
            ),
            (
                "a key that was settled and is dirty again holds a later point",
                &[(20, "a", None, 10), (30, "", None, 30), (40, "a", None, 30)],
            ),
            ("an event on a key that is kept already changes nothing", &[(20, "a", None, 10), (30, "a", None, 10), (40, "b", None, 30)]),
            // The inbox stays where the transaction begins until its end is in.
            (
                "a transaction in parts",
                &[(20, "", None, 20), (20, "", None, 20), (20, "a", None, 20), (20, "", None, 20), (50, "", None, 50)],
            ),
            ("a key of a part is kept beyond its end", &[(20, "", None, 20), (20, "a", None, 20), (50, "a", None, 20), (60, "", None, 60)]),
            (
                "a prepared transaction holds its beginning",
                &[(20, "", None, 20), (40, "", Some(30), 30), (50, "", Some(30), 30), (60, "", None, 60)],
            ),
            (
                "the earlier of kept key and prepared transaction",
                &[(20, "", None, 20), (40, "a", Some(30), 20), (50, "", Some(30), 30), (60, "b", Some(55), 50), (70, "b", None, 50)],
            ),
            ("one that was prepared before another and ended first", &[(50, "", Some(20), 20), (60, "", Some(40), 40), (70, "", None, 70)]),
            ("a prepared one that begins where a kept key holds", &[(20, "", None, 20), (30, "a", Some(20), 20), (40, "", Some(20), 20)]),
        ];
        for (what, cycles) in cases {
            let mut points = SafePoints::new(at(10));
            for (n, (end, kept, held, safe)) in cycles.iter().enumerate() {
                points.ended(keys(kept), at(*end), held.map(at).as_ref());
                assert_eq!(*points.safe(), at(*safe), "{what}, cycle {n}");
                assert_eq!((points.count(), points.last()), (kept.len(), &at(*end)), "{what}, cycle {n}");
            }
        }
    }

    #[test]
    fn keys_given_back_hold_the_end_of_the_last_cycle() {
        let mut points = SafePoints::new(at(10));
        points.ended(keys("a"), at(20), None);
        // The cut-over took what was dirty, and was given up; the safe position lies before all of it.
        points.keep(keys("abc"));
        assert_eq!(*points.safe(), at(10));
        points.ended(keys("bc"), at(30), None);
        assert_eq!(*points.safe(), at(20));
        assert!(points.keeps(&keys("b")[0]) && !points.keeps(&keys("a")[0]));
        points.ended(Vec::new(), at(40), None);
        assert_eq!((points.safe(), points.kept().count()), (&at(40), 0));
    }

    #[test]
    fn a_key_that_is_kept_for_long_costs_one_point() {
        let mut points = SafePoints::new(at(10));
        for n in 0..1000 {
            // One stays; another comes and goes.
            let other = ["b", "c"][n % 2];
            points.ended(keys(&format!("a{other}")), at(20 + n as u64), None);
        }
        assert_eq!(*points.safe(), at(10));
        assert!(points.points.len() <= 2, "{} points for two keys", points.points.len());
    }
}
