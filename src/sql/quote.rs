//! Quoting of names and strings: the only place that does it.
//!
//! Relies on backticks being identifier quotes in every `sql_mode`
//! (<https://dev.mysql.com/doc/refman/8.4/en/identifiers.html>).

use std::fmt::Write;

/// A name in backticks; backticks inside are doubled.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `` `db`.`table` ``
pub fn qualified(db: &str, table: &str) -> String {
    format!("{}.{}", identifier(db), identifier(table))
}

/// The definition of a column that numbers the rows of a table with these columns, as its primary key: servers may want each table to have one
/// (`sql_require_primary_key`), temporary ones as well.
pub fn row_number(columns: &[String]) -> String {
    let taken = |name: &str| columns.iter().any(|column| column.to_lowercase() == name);
    let mut name = "_theseus_row".to_owned();
    while taken(&name) {
        name.push('_');
    }
    format!("{} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY", identifier(&name))
}

/// A utf8mb4 string as an SQL *expression*.
///
/// Plain printable ASCII stays readable (`'abc'`); everything else, a quote or a backslash included, becomes
/// `_utf8mb4 X'…'`, which means the same in every `sql_mode`. Not for places whose grammar takes only a text literal
/// (`COMMENT '…'`, `LIKE '…'` of SHOW): use [`text_literal`] there.
pub fn string(text: &str) -> String {
    if text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'\'' && b != b'\\') {
        format!("'{text}'")
    } else {
        format!("_utf8mb4 X'{}'", hex(text.as_bytes()))
    }
}

/// A string in quotes where the grammar takes nothing else; right while backslash escapes are on (MySQL's default).
pub fn text_literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{1a}' => out.push_str("\\Z"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Upper-case hexadecimal digits, two for each byte.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02X}");
    }
    out
}

/// The bytes of [`hex`]; `None` if the text is not an even number of hexadecimal digits.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |b: u8| (b as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digits.chunks(2).map(|pair| Some(nibble(*pair.first()?)? << 4 | nibble(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_strings() {
        for (name, quoted) in [("a", "`a`"), ("a`b", "`a``b`"), ("", "``"), ("naïve $", "`naïve $`")] {
            assert_eq!(identifier(name), quoted);
        }
        assert_eq!(qualified("d.b", "t"), "`d.b`.`t`");
        for (text, quoted) in [
            ("", "''"),
            ("abc 1", "'abc 1'"),
            ("it's", "_utf8mb4 X'69742773'"),
            ("a\\", "_utf8mb4 X'615C'"),
            ("ü", "_utf8mb4 X'C3BC'"),
            ("\n", "_utf8mb4 X'0A'"),
        ] {
            assert_eq!(string(text), quoted);
        }
        assert_eq!(text_literal("it's \\ \n"), "'it''s \\\\ \\n'");
        let number = |columns: &[&str]| row_number(&columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
        assert_eq!(number(&["a"]), "`_theseus_row` BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY");
        assert!(number(&["_THESEUS_row"]).starts_with("`_theseus_row_` "));
    }

    #[test]
    fn hexadecimal() {
        assert_eq!(hex(&[0, 255, 16]), "00FF10");
        assert_eq!(unhex("00ff10"), Some(vec![0, 255, 16]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("é"), None);
    }
}
