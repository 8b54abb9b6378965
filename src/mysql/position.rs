//! Places in one server's binary log.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

/// A file and an offset in it. Ordered within the log of one server only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct BinlogPosition {
    /// E.g. `binlog.000042`
    pub file: String,
    /// Offset of the next event.
    pub offset: u64,
}

impl BinlogPosition {
    /// The offset nearest to this one that an event's header means by `low`: it has the lower 32 bits only, and one transaction can make a file
    /// longer than 4 GiB. No event is longer than 1 GiB, so the nearest is meant.
    #[must_use]
    pub fn nearest(&self, low: u32) -> u64 {
        const WRAP: u64 = 1 << 32;
        let same = self.offset & !(WRAP - 1) | u64::from(low);
        match same.abs_diff(self.offset) {
            away if away <= WRAP / 2 => same,
            _ if same < self.offset => same + WRAP,
            _ => same.checked_sub(WRAP).unwrap_or(same),
        }
    }

    /// From where the server must be asked for this position: COM_BINLOG_DUMP has 32 bits for it, and beyond them the file is read from its
    /// beginning (the events begin at offset 4).
    #[must_use]
    pub fn asked_for(&self) -> Self {
        let offset = if u32::try_from(self.offset).is_ok() { self.offset } else { 4 };
        Self { file: self.file.clone(), offset }
    }

    /// The number at the end of the file's name: files are numbered upwards, and the number may outgrow its six digits.
    fn number(&self) -> u64 {
        self.file.rsplit('.').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }
}

impl PartialOrd for BinlogPosition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BinlogPosition {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number()).then(self.offset.cmp(&other.offset))
    }
}

impl fmt::Display for BinlogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, offset: u64) -> BinlogPosition {
        BinlogPosition { file: file.into(), offset }
    }

    #[test]
    fn positions_beyond_four_gigabytes_are_known_by_their_lower_half() {
        const G: u64 = 1 << 30;
        for (now, low, then) in [
            (4, 126, 126),
            (G, G + 500, G + 500),
            // Sent again, out of place.
            (G, 500, 500),
            (3 * G, 3 * G, 3 * G),
            // Across the border, and on.
            (4 * G - 10, 100, 4 * G + 100),
            (4 * G - 10, 4 * G - 1, 4 * G - 1),
            (4 * G + 100, 200, 4 * G + 200),
            (4 * G + 100, 4 * G - 20, 4 * G - 20),
            (7 * G, 3 * G + 1, 7 * G + 1),
            (8 * G - 1, G - 1, 9 * G - 1),
            (12 * G, 0, 12 * G),
        ] {
            let now = at("binlog.000001", now);
            assert_eq!(now.nearest(u32::try_from(low).expect("32 bits")), then, "{low} after {now}");
        }
    }

    #[test]
    fn what_the_protocol_cannot_ask_for_is_read_from_the_beginning_of_its_file() {
        for (offset, asked) in [(4, 4), (157, 157), (u64::from(u32::MAX), u64::from(u32::MAX)), (1 << 32, 4), ((1 << 32) + 157, 4)] {
            assert_eq!(at("binlog.000007", offset).asked_for(), at("binlog.000007", asked));
        }
    }

    #[test]
    fn files_are_ordered_by_number() {
        assert!(at("binlog.999999", 9) < at("binlog.1000000", 4));
        assert!(at("binlog.000002", 4) < at("binlog.000002", 5));
    }
}
