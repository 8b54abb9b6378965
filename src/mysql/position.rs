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

    #[test]
    fn files_are_ordered_by_number() {
        let at = |file: &str, offset| BinlogPosition { file: file.into(), offset };
        assert!(at("binlog.999999", 9) < at("binlog.1000000", 4));
        assert!(at("binlog.000002", 4) < at("binlog.000002", 5));
    }
}
