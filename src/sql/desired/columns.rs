//! Whether a column that is redefined still holds every value that it may hold now.

use super::shown::ShownColumn;

const CHARACTERS: [&str; 8] = ["char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"];

impl ShownColumn {
    /// Whether it has a character set.
    pub(super) fn has_charset(&self) -> bool {
        CHARACTERS.contains(&self.kind.0.as_str())
    }

    /// Whether the text says its character set itself; else the table's default says it, and the collation.
    pub(super) fn says_charset(&self) -> bool {
        self.words.iter().any(|word| word == "SET")
    }

    fn charset(&self, default: &str) -> String {
        let after = |word: &str| self.words.iter().position(|w| w == word).and_then(|at| self.words.get(at + 1));
        match (after("SET"), after("COLLATE")) {
            (Some(charset), _) => charset.to_lowercase(),
            // A collation begins with the name of its character set.
            (None, Some(collation)) => collation.split('_').next().unwrap_or_default().to_lowercase(),
            (None, None) => default.to_lowercase(),
        }
    }

    /// Whether the server computes it.
    pub(super) fn is_generated(&self) -> bool {
        self.words.iter().any(|word| word == "GENERATED")
    }

    fn number(&self, at: usize, default: u64) -> u64 {
        self.kind.1.get(at).and_then(|text| text.parse().ok()).unwrap_or(default)
    }
}

/// The least and the greatest value of an integer type.
fn range(column: &ShownColumn) -> Option<(i128, i128)> {
    let bits = match column.kind.0.as_str() {
        "tinyint" => 8,
        "smallint" => 16,
        "mediumint" => 24,
        "int" => 32,
        "bigint" => 64,
        _ => return None,
    };
    let unsigned = column.words.iter().any(|word| word == "UNSIGNED");
    Some(if unsigned { (0, (1 << bits) - 1) } else { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) })
}

/// The most bytes that a TEXT or BLOB type holds.
fn capacity(kind: &str) -> Option<u64> {
    Some(match kind {
        "tinytext" | "tinyblob" => (1 << 8) - 1,
        "text" | "blob" => (1 << 16) - 1,
        "mediumtext" | "mediumblob" => (1 << 24) - 1,
        "longtext" | "longblob" => (1 << 32) - 1,
        _ => return None,
    })
}

/// Whether every value that `old` may hold is the same value in `new`. Where that is not known, it is not so. `charsets` are the defaults of the
/// table before and after.
pub(super) fn holds(old: &ShownColumn, new: &ShownColumn, charsets: (&str, &str)) -> bool {
    let (was, becomes) = (old.kind.0.as_str(), new.kind.0.as_str());
    let unsigned = |column: &ShownColumn| column.words.iter().any(|word| word == "UNSIGNED");
    if new.has_charset() {
        let (from, to) = (old.charset(charsets.0), new.charset(charsets.1));
        let utf8 = |name: &str| matches!(name, "utf8" | "utf8mb3");
        let same = from == to || utf8(&from) && utf8(&to);
        let wider = to == "utf8mb4" && from != "binary" || from == "ascii" && (utf8(&to) || to == "latin1");
        if !old.has_charset() || !(same || wider) {
            return false;
        }
    }
    if let (Some(old), Some(new)) = (range(old), range(new)) {
        return new.0 <= old.0 && old.1 <= new.1;
    }
    match (was, becomes) {
        ("decimal", "decimal") => {
            let digits = |column: &ShownColumn| (column.number(0, 10), column.number(1, 0));
            let ((p, s), (q, t)) = (digits(old), digits(new));
            t >= s && q.saturating_sub(t) >= p.saturating_sub(s) && (unsigned(old) || !unsigned(new))
        }
        (_, "decimal") if range(old).is_some() => {
            let (least, most) = range(old).unwrap_or_default();
            let digits = u64::try_from(most.max(-least).to_string().len()).unwrap_or(u64::MAX);
            new.number(0, 10).saturating_sub(new.number(1, 0)) >= digits && (least == 0 || !unsigned(new))
        }
        ("float", "float" | "double") | ("double", "double") => {
            new.kind.1.is_empty() | (old.kind == new.kind) && (unsigned(old) || !unsigned(new))
        }
        ("bit", "bit") => new.number(0, 1) >= old.number(0, 1),
        ("datetime", "datetime") | ("timestamp", "timestamp") | ("time", "time") => new.number(0, 0) >= old.number(0, 0),
        ("date", "datetime") => true,
        // A CHAR loses blanks at the end of what a VARCHAR has.
        ("char", "char") | ("char" | "varchar", "varchar") => new.number(0, 1) >= old.number(0, 1),
        ("varbinary" | "binary", "varbinary") => new.number(0, 1) >= old.number(0, 1),
        // A longer BINARY pads with zeros.
        ("binary", "binary") => new.number(0, 1) == old.number(0, 1),
        ("char" | "varchar", _) if new.has_charset() => capacity(becomes).is_some_and(|bytes| bytes >= old.number(0, 1) * 4),
        ("binary" | "varbinary", _) if becomes.ends_with("blob") => capacity(becomes).is_some_and(|bytes| bytes >= old.number(0, 1)),
        ("enum", "enum") | ("set", "set") => old.kind.1.iter().all(|label| new.kind.1.contains(label)),
        _ => match (capacity(was), capacity(becomes)) {
            (Some(old_bytes), Some(bytes)) => old.has_charset() == new.has_charset() && bytes >= old_bytes,
            _ => old.kind == new.kind && (unsigned(old) || !unsigned(new)),
        },
    }
}
