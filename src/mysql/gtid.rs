//! GTID sets: `uuid:1-5:7,uuid:tag:1-3`. <https://dev.mysql.com/doc/refman/9.7/en/replication-gtids-concepts.html>

use std::collections::BTreeMap;
use std::fmt;
use uuid::Uuid;

/// One source of GTIDs: a server, and the tag that 8.3 and later may add.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The 16 bytes of the server's UUID.
    pub uuid: [u8; 16],
    /// Empty for untagged GTIDs.
    pub tag: String,
}

/// A set of GTIDs as disjoint, ascending, closed intervals for each source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GtidSet(BTreeMap<Source, Vec<(u64, u64)>>);

impl GtidSet {
    /// Reads the server's notation; white space and line breaks are ignored. `None` when it is no GTID set.
    pub fn parse(text: &str) -> Option<Self> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let mut pieces = part.split(':').map(str::trim);
            let uuid = Uuid::try_parse(pieces.next()?).ok()?.into_bytes();
            let mut source = Source { uuid, tag: String::new() };
            for piece in pieces {
                if piece.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    source.tag = piece.to_ascii_lowercase();
                    continue;
                }
                let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
                let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                if first == 0 || last < first {
                    return None;
                }
                set.insert_interval(source.clone(), first, last);
            }
        }
        Some(set)
    }

    /// Adds one GTID.
    pub fn insert(&mut self, uuid: [u8; 16], tag: &str, number: u64) {
        // The common case extends the last interval of a known source: no allocation.
        let source = Source { uuid, tag: tag.to_owned() };
        self.insert_interval(source, number, number);
    }

    fn insert_interval(&mut self, source: Source, first: u64, last: u64) {
        let intervals = self.0.entry(source).or_default();
        // Intervals that touch or overlap [first-1, last+1] are merged.
        let start = intervals.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let end = intervals.partition_point(|&(begin, _)| begin <= last.saturating_add(1));
        if start >= end {
            intervals.insert(start, (first, last));
        } else {
            let merged = (intervals[start].0.min(first), intervals[end - 1].1.max(last));
            intervals.splice(start..end, [merged]);
        }
    }

    /// Adds a whole set.
    pub fn union(&mut self, other: &GtidSet) {
        for (source, intervals) in &other.0 {
            for &(first, last) in intervals {
                self.insert_interval(source.clone(), first, last);
            }
        }
    }

    /// Whether every GTID of `other` is in this set.
    pub fn contains(&self, other: &GtidSet) -> bool {
        other.0.iter().all(|(source, intervals)| {
            let ours = self.0.get(source).map(Vec::as_slice).unwrap_or_default();
            intervals.iter().all(|&(first, last)| ours.iter().any(|&(a, b)| a <= first && last <= b))
        })
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sources with their intervals, for the driver.
    pub fn iter(&self) -> impl Iterator<Item = (&Source, &[(u64, u64)])> {
        self.0.iter().map(|(s, i)| (s, i.as_slice()))
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (source, intervals)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}", Uuid::from_bytes(source.uuid))?;
            if !source.tag.is_empty() {
                write!(f, ":{}", source.tag)?;
            }
            for (first, last) in intervals {
                if first == last {
                    write!(f, ":{first}")?;
                } else {
                    write!(f, ":{first}-{last}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn notation_round_trips() {
        for text in ["", &format!("{A}:1-5:7"), &format!("{A}:1-5,{A}:tag:9")] {
            assert_eq!(GtidSet::parse(text).expect("a GTID set").to_string(), text);
        }
        assert_eq!(GtidSet::parse(&format!("{A}:1-3,\n{A}:4")).expect("a set").to_string(), format!("{A}:1-4"));
        for bad in ["x", "3e11:1", &format!("{A}:0"), &format!("{A}:5-2"), &format!("{A}:1-x")] {
            assert_eq!(GtidSet::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn intervals_merge_in_any_order() {
        let uuid = Uuid::try_parse(A).expect("a uuid").into_bytes();
        for order in [[1, 2, 3, 5], [5, 3, 2, 1], [2, 5, 1, 3]] {
            let mut set = GtidSet::default();
            for n in order {
                set.insert(uuid, "", n);
            }
            assert_eq!(set.to_string(), format!("{A}:1-3:5"));
        }
    }

    #[test]
    fn containment() {
        let big = GtidSet::parse(&format!("{A}:1-10,{A}:t:1-2")).expect("a set");
        for (text, want) in [
            (format!("{A}:3-4"), true),
            (format!("{A}:3-11"), false),
            (format!("{A}:t:2"), true),
            (format!("{A}:u:1"), false),
            (String::new(), true),
        ] {
            assert_eq!(big.contains(&GtidSet::parse(&text).expect("a set")), want, "{text}");
        }
    }
}
