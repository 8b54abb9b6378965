//! Whether two values are one value under two types, told from the text that the server gives for each: rules of their own, which share
//! nothing with the expressions that copy ([`super::mapping`]) or digest ([`super::digest`]). For the verifier. Pure.

use super::table::{Column, ColumnType as T};

/// What makes two texts one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The same text.
    Same,
    /// The same text, but for blanks at its end: a CHAR does not keep them.
    Unpadded,
    /// The same number: 7, 007, 7.0 and 7.000 are one.
    Number,
    /// The same moment with more digits: `12:00:00` is `12:00:00.000`.
    MoreDigits,
    /// A date is the beginning of its day.
    DayBegins,
}

/// The rule for this pair of types; `None` where the change may round, cut or parse, or the server's text does not tell all of a value.
pub fn rule(from: &Column, to: &Column) -> Option<Rule> {
    let text = |t: &T| matches!(t, T::Char { .. } | T::VarChar { .. } | T::Text);
    let moment = |t: &T| match t {
        T::DateTime { fsp } | T::Timestamp { fsp } => Some(*fsp),
        _ => None,
    };
    let zerofill = from.type_text.to_lowercase().contains("zerofill");
    match (&from.column_type, &to.column_type) {
        (T::Integer { .. } | T::Year, T::Integer { .. } | T::Decimal { .. }) => Some(Rule::Number),
        (T::Decimal { scale: a, .. }, T::Decimal { scale: b, .. }) if b >= a => Some(Rule::Number),
        (T::Integer { .. } | T::Decimal { .. } | T::Year, to) if text(to) && !zerofill => Some(Rule::Same),
        (T::Char { .. }, to) if text(to) => Some(Rule::Unpadded),
        (from, T::Char { .. }) if text(from) => Some(Rule::Unpadded),
        (a, b) if text(a) && text(b) => Some(if keeps_blanks(from, to) { Rule::Same } else { Rule::Unpadded }),
        (T::VarBinary { .. } | T::Blob, T::VarBinary { .. } | T::Blob) => Some(Rule::Same),
        (T::Enum { .. }, T::Enum { .. }) => Some(Rule::Same),
        // A SET is shown in the order of its members: the same one where they change places is another text.
        (T::Set { labels: from }, T::Set { labels: to }) if to.starts_with(from) => Some(Rule::Same),
        (T::Enum { .. } | T::Set { .. } | T::Date | T::Time { .. }, to) if text(to) => Some(Rule::Same),
        (from, to) if moment(from).is_some() && text(to) => Some(Rule::Same),
        (from, to) if moment(from).zip(moment(to)).is_some_and(|(a, b)| b >= a) => Some(Rule::MoreDigits),
        (T::Time { fsp: a }, T::Time { fsp: b }) if b >= a => Some(Rule::MoreDigits),
        (T::Date, to) if moment(to).is_some() => Some(Rule::DayBegins),
        _ => None,
    }
}

/// Whether blanks at the end stay whatever the text is: what is beyond the new length is cut without a word if it is blanks. Not for CHAR,
/// which has none.
pub(super) fn keeps_blanks(from: &Column, to: &Column) -> bool {
    // Bytes that the TEXT types take.
    let room = |column: &Column| match column.type_text.to_lowercase().split_whitespace().next() {
        Some("tinytext") => 255_u64,
        Some("mediumtext") => 16_777_215,
        Some("longtext") => u64::from(u32::MAX),
        _ => 65_535,
    };
    match (&from.column_type, &to.column_type) {
        (T::VarChar { length: from }, T::VarChar { length: to }) => from <= to,
        // Four bytes a character at the most.
        (T::VarChar { length }, T::Text) => u64::from(*length) * 4 <= room(to),
        (T::Text, T::Text) => room(from) <= room(to),
        _ => false,
    }
}

/// Whether the two texts (`None` is NULL) are one value by this rule.
pub fn agree(rule: Rule, from: Option<&[u8]>, to: Option<&[u8]>) -> bool {
    let (Some(from), Some(to)) = (from, to) else { return from.is_none() && to.is_none() };
    match rule {
        Rule::Same => from == to,
        Rule::Unpadded => unpadded(from) == unpadded(to),
        Rule::Number => number(from) == number(to),
        Rule::MoreDigits => to.strip_prefix(from).is_some_and(only_more_digits),
        Rule::DayBegins => to.strip_prefix(from).and_then(|rest| rest.strip_prefix(b" 00:00:00")).is_some_and(only_more_digits),
    }
}

fn unpadded(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| *b != b' ').map_or(0, |at| at + 1);
    text.get(..end).unwrap_or_default()
}

/// Nothing, or zeros: those that follow a point that is there already, or with it.
fn only_more_digits(rest: &[u8]) -> bool {
    let digits = rest.strip_prefix(b".").unwrap_or(rest);
    digits.iter().all(|b| *b == b'0')
}

/// Sign, digits before the point and digits after it, without zeros that say nothing.
fn number(text: &[u8]) -> (bool, &[u8], &[u8]) {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = match digits.iter().position(|b| *b == b'.') {
        Some(at) => (digits.get(..at).unwrap_or_default(), digits.get(at + 1..).unwrap_or_default()),
        None => (digits, &[][..]),
    };
    let whole = whole.get(whole.iter().position(|b| *b != b'0').unwrap_or(whole.len())..).unwrap_or_default();
    let part = part.get(..part.iter().rposition(|b| *b != b'0').map_or(0, |at| at + 1)).unwrap_or_default();
    (negative && !(whole.is_empty() && part.is_empty()), whole, part)
}

#[cfg(test)]
mod tests {
    use super::super::mapping::tests::{INT, column};
    use super::*;

    #[test]
    fn pairs_have_rules_of_their_own() {
        let decimal = |scale| T::Decimal { precision: 10, scale, unsigned: false };
        let labels = || vec!["x".to_owned()];
        for (from, to, want) in [
            (INT, T::Integer { bits: 64, unsigned: true }, Some(Rule::Number)),
            (INT, decimal(2), Some(Rule::Number)),
            (INT, T::VarChar { length: 20 }, Some(Rule::Same)),
            (INT, T::Float { double: true }, None),
            (decimal(2), decimal(4), Some(Rule::Number)),
            (decimal(4), decimal(2), None),
            (T::VarChar { length: 20 }, T::Text, Some(Rule::Same)),
            (T::VarChar { length: 20 }, T::Char { length: 20 }, Some(Rule::Unpadded)),
            (T::VarChar { length: 20 }, T::VarChar { length: 20 }, Some(Rule::Same)),
            (T::VarChar { length: 20 }, T::VarChar { length: 2 }, Some(Rule::Unpadded)),
            (T::Text, T::VarChar { length: 20 }, Some(Rule::Unpadded)),
            (T::VarChar { length: 20 }, INT, None),
            (T::VarChar { length: 20 }, T::Json, None),
            (T::Enum { labels: labels() }, T::VarChar { length: 20 }, Some(Rule::Same)),
            (T::Enum { labels: labels() }, INT, None),
            (T::DateTime { fsp: 0 }, T::Timestamp { fsp: 3 }, Some(Rule::MoreDigits)),
            (T::DateTime { fsp: 6 }, T::DateTime { fsp: 0 }, None),
            (T::Date, T::DateTime { fsp: 6 }, Some(Rule::DayBegins)),
            (T::DateTime { fsp: 0 }, T::Date, None),
            (T::Blob, T::VarBinary { length: 9 }, Some(Rule::Same)),
        ] {
            assert_eq!(rule(&column("a", from.clone()), &column("a", to.clone())), want, "{from:?} to {to:?}");
        }
        let mut padded = column("a", INT);
        padded.type_text = "int(5) unsigned zerofill".into();
        assert_eq!(rule(&padded, &column("a", T::Text)), None);
    }

    #[test]
    fn texts_of_one_value() {
        for (rule, from, to, want) in [
            (Rule::Same, "a", "a", true),
            (Rule::Same, "a", "A", false),
            (Rule::Same, "a", "a ", false),
            (Rule::Unpadded, "a  ", "a", true),
            (Rule::Unpadded, " a", "a", false),
            (Rule::Number, "007", "7", true),
            (Rule::Number, "-7", "-7.00", true),
            (Rule::Number, "7", "-7", false),
            (Rule::Number, "0", "-0.0", true),
            (Rule::Number, "70", "7", false),
            (Rule::Number, "1.5", "1.50", true),
            (Rule::Number, "1.5", "1.05", false),
            (Rule::MoreDigits, "2024-01-01 12:00:00", "2024-01-01 12:00:00.000", true),
            (Rule::MoreDigits, "2024-01-01 12:00:00.5", "2024-01-01 12:00:00.500", true),
            (Rule::MoreDigits, "2024-01-01 12:00:00", "2024-01-01 12:00:00.001", false),
            (Rule::MoreDigits, "2024-01-01 12:00:00", "2024-01-01 13:00:00", false),
            (Rule::DayBegins, "2024-01-01", "2024-01-01 00:00:00.000", true),
            (Rule::DayBegins, "2024-01-01", "2024-01-01 08:00:00", false),
        ] {
            assert_eq!(agree(rule, Some(from.as_bytes()), Some(to.as_bytes())), want, "{rule:?} {from} {to}");
        }
        assert!(agree(Rule::Same, None, None) && !agree(Rule::Same, None, Some(b"")) && !agree(Rule::Number, Some(b"0"), None));
    }
}
