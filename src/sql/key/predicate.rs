//! Key values as SQL: lists, ranges, and the question which range a key lies in.
//!
//! Columns stand bare in every predicate an index should serve, and literals have the column's own type, so that the range
//! optimizer takes them (<https://dev.mysql.com/doc/refman/8.4/en/range-optimization.html>).

use super::codec::{CodecColumn, KeyCodec};
use super::value::Kind;
use super::{Key, KeyRange, Side};
use crate::sql::quote;

/// Stands where the literal of a key should that is none of this table: no column has this name, so the server refuses the
/// statement (1054) rather than matching nothing. [`KeyCodec::check`] comes first wherever keys are read from outside.
const MALFORMED: &str = "`not a key of this table`";

/// What [`KeyCodec::classify_sql`] says of a key beyond the frontier.
pub const BEYOND_FRONTIER: i64 = -1;

/// What [`KeyCodec::classify_sql`] says of a key in none of the ranges.
pub const IN_NO_RANGE: i64 = 0;

impl KeyCodec {
    /// The SQL literals of a key's columns.
    pub fn literals(&self, key: &Key) -> Vec<String> {
        match self.split(key) {
            Some(parts) => {
                let literals = self.columns.iter().zip(&parts).map(|(c, p)| c.kind.literal(&p.value));
                literals.map(|l| l.unwrap_or_else(|| MALFORMED.to_owned())).collect()
            }
            None => vec![MALFORMED.to_owned(); self.columns.len()],
        }
    }

    /// `5`, or `(5, 'x')`.
    pub fn tuple(&self, key: &Key) -> String {
        row(self.literals(key))
    }

    /// The key's columns, quoted: `` `a`, `b` ``.
    pub fn columns(&self, side: Side) -> String {
        self.columns.iter().map(|c| c.bare(side)).collect::<Vec<_>>().join(", ")
    }

    /// The key's columns for a table that is joined by them, `prefix` before each: as they are, but instants in seconds
    /// ([`KeyCodec::has_instants`]).
    pub fn exact(&self, side: Side, prefix: &str) -> Vec<String> {
        let exact = |c: &CodecColumn| {
            let column = format!("{prefix}{}", c.bare(side));
            if c.kind.is_instant() { format!("COALESCE(UNIX_TIMESTAMP({column}), 0)") } else { column }
        };
        self.columns.iter().map(exact).collect()
    }

    /// What to order by so that rows come in the index's order.
    pub fn order_by(&self, side: Side) -> String {
        let terms = self.columns.iter().map(|c| format!("{}{}", c.ordered(side), if c.descending { " DESC" } else { "" }));
        terms.collect::<Vec<_>>().join(", ")
    }

    /// The row of this key.
    pub fn equals(&self, side: Side, key: &Key) -> String {
        let literals = self.literals(key);
        let bare = self.columns.iter().zip(&literals).map(|(c, l)| match c.kind.is_instant() {
            true => instant(&c.bare(side), "=", l),
            false => format!("{} = {l}", c.bare(side)),
        });
        let differing = self.columns.iter().zip(&literals).filter(|(c, _)| c.differs(side));
        let exact = differing.map(|(c, l)| format!("{} = {l}", c.ordered(side)));
        conjunction(bare.chain(exact).collect())
    }

    /// The original's row of this key, as `alias.column = value` for each column: for a look at one row, without an index.
    pub fn is_row(&self, alias: &str, key: &Key) -> String {
        let terms = self.columns.iter().zip(self.literals(key)).map(|(c, literal)| {
            let column = format!("{alias}.{}", c.original);
            if c.kind.is_instant() { instant(&column, "=", &literal) } else { format!("{column} = {literal}") }
        });
        conjunction(terms.collect())
    }

    /// The rows of these keys: `` `id` IN (1, 2) ``, `` (`a`, `b`) IN ((1, 2), (3, 4)) ``; `FALSE` if there are none.
    ///
    /// On a ghost whose key has another collation, keys that only the ghost takes for equal are told apart by the original's
    /// collation: reconciling `'a'` must not touch the row `'A'` that is another one on the original.
    pub fn in_list<'k>(&self, side: Side, keys: impl Iterator<Item = &'k Key>) -> String {
        let keys: Vec<&Key> = keys.collect();
        if keys.is_empty() {
            return "FALSE".to_owned();
        }
        if self.columns.iter().any(|c| c.kind.is_instant() || self.columns.len() > 1 && c.kind.is_text_in_rows()) {
            return format!("({})", keys.iter().map(|k| self.equals(side, k)).collect::<Vec<_>>().join(" OR "));
        }
        let tuples = keys.iter().map(|k| self.tuple(k)).collect::<Vec<_>>().join(", ");
        let mut terms = vec![format!("{} IN ({tuples})", row(self.columns.iter().map(|c| c.bare(side)).collect()))];
        if self.columns.iter().any(|c| c.differs(side)) {
            terms.push(format!("{} IN ({tuples})", row(self.columns.iter().map(|c| c.ordered(side)).collect())));
        }
        conjunction(terms)
    }

    /// The rows with `lo < K <= hi` in the original's order; `TRUE` without bounds. Rows of the original without a key, with NULL in a column of it,
    /// are in no range.
    ///
    /// A tuple is compared column by column with the leading column's bound once more on its own: a row constructor
    /// (`(a, b) > (1, 2)`) is no range to the optimizer.
    pub fn range(&self, side: Side, range: &KeyRange) -> String {
        let comparand = |c: &CodecColumn| Comparand {
            text: c.ordered(side),
            descending: c.descending,
            largest: c.kind.enumerable(),
            instant: c.kind.is_instant(),
        };
        let columns: Vec<Comparand> = self.columns.iter().map(comparand).collect();
        let bound = |key: &Option<Key>| key.as_ref().map(|k| self.literals(k));
        let range = range_terms(&columns, bound(&range.lo).as_deref(), bound(&range.hi).as_deref());
        let not_null = self.columns.iter().filter(|c| c.nullable && side == Side::Original).map(|c| format!("{} IS NOT NULL", c.original));
        let mut terms: Vec<String> = not_null.collect();
        if terms.is_empty() || range != "TRUE" {
            terms.insert(0, range);
        }
        conjunction(terms)
    }

    /// A query that says for each key in which of the ranges it lies, compared as the original's index does: rows
    /// `(n, class)` in any order, `n` the key's place in `keys` from 0, `class` the range's place in `ranges` from 1,
    /// [`IN_NO_RANGE`], or [`BEYOND_FRONTIER`] if a frontier is given and the key is greater.
    ///
    /// Reads no table. Both columns are integers.
    pub fn classify_sql(&self, keys: &[Key], frontier: Option<&Key>, ranges: &[KeyRange]) -> String {
        if keys.is_empty() {
            return "SELECT 0 AS n, 0 AS class FROM DUAL WHERE FALSE".to_owned();
        }
        let columns: Vec<Comparand> = self
            .columns
            .iter()
            .enumerate()
            // What the client may compare is compared by its encoding, which is turned round where the index is.
            .map(|(i, c)| Comparand {
                text: format!("k{i}"),
                descending: c.descending && !c.kind.comparable(),
                largest: None,
                instant: false,
            })
            .collect();
        let bound = |key: Option<&Key>| key.map(|k| self.comparison_literals(k));
        let mut cases = String::new();
        if let Some(frontier) = frontier {
            let beyond = range_terms(&columns, bound(Some(frontier)).as_deref(), None);
            cases.push_str(&format!(" WHEN {beyond} THEN {BEYOND_FRONTIER}"));
        }
        for (i, range) in ranges.iter().enumerate() {
            let inside = range_terms(&columns, bound(range.lo.as_ref()).as_deref(), bound(range.hi.as_ref()).as_deref());
            cases.push_str(&format!(" WHEN {inside} THEN {}", i + 1));
        }
        let class = if cases.is_empty() { IN_NO_RANGE.to_string() } else { format!("CASE{cases} ELSE {IN_NO_RANGE} END") };
        let rows = keys.iter().enumerate().map(|(n, key)| {
            let values =
                self.comparison_literals(key).into_iter().zip(&self.columns).enumerate().map(|(i, (literal, column))| match &column.kind {
                    Kind::Text { collation, .. } if !column.kind.comparable() => format!("{literal} COLLATE {collation} AS k{i}"),
                    _ => format!("{literal} AS k{i}"),
                });
            format!("SELECT {n} AS n, {}", values.collect::<Vec<_>>().join(", "))
        });
        let rows = rows.collect::<Vec<_>>().join(" UNION ALL ");
        format!("SELECT n, {class} AS class FROM ({rows}) AS dirty_keys")
    }

    /// Like [`KeyCodec::literals`], but what the client may compare as its encoding: no zero date, YEAR or ENUM then
    /// depends on how the server reads a literal without a column beside it.
    fn comparison_literals(&self, key: &Key) -> Vec<String> {
        let Some(parts) = self.split(key) else { return vec![MALFORMED.to_owned(); self.columns.len()] };
        let literals = self.columns.iter().zip(&parts).map(|(column, part)| match column.kind.comparable() {
            true => format!("_binary X'{}'", quote::hex(part.encoded)),
            false => column.kind.literal(&part.value).unwrap_or_else(|| MALFORMED.to_owned()),
        });
        literals.collect()
    }
}

impl CodecColumn {
    fn bare(&self, side: Side) -> String {
        match side {
            Side::Original => self.original.clone(),
            Side::Ghost => self.ghost.clone(),
        }
    }

    /// Whether the side compares otherwise than the original.
    fn differs(&self, side: Side) -> bool {
        side == Side::Ghost && self.ghost_as_original.is_some()
    }

    /// An expression that compares as the original's column does.
    fn ordered(&self, side: Side) -> String {
        match (&self.ghost_as_original, side) {
            (Some(expression), Side::Ghost) => expression.clone(),
            _ => self.bare(side),
        }
    }
}

/// What a bound is compared with.
struct Comparand {
    text: String,
    descending: bool,
    /// Set if a bound is to be written as a list of the numbers from 0 to this one.
    largest: Option<u64>,
    /// Set if a bound is an instant in a zone that shifts.
    instant: bool,
}

/// How much the clock may be put back at once, with a margin.
const SHIFT: i64 = 10_800;
/// A day, which is more.
const DAY: i64 = 86_400;
/// The last second of TIMESTAMP. Servers before 8.0.28 know no later one.
const LAST: i64 = i32::MAX as i64;

/// A condition on a TIMESTAMP column for an instant, given as seconds since 1970, in a zone that shifts.
///
/// The server compares what the clock shows, and of an hour that comes twice it takes either. So the seconds decide; beside them stands what
/// the clock shows at most or at least on that side of the instant, for the index: the clock itself, or, where it is put back soon after (or was
/// shortly before), the clock as if that were done already (or not yet).
fn instant(column: &str, operator: &str, seconds: &str) -> String {
    let (whole, fraction) = seconds.split_once('.').map_or((seconds, String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let Ok(whole) = whole.parse::<i64>() else { return format!("UNIX_TIMESTAMP({column}) {operator} {seconds}") };
    let clock = |seconds: i64| format!("FROM_UNIXTIME({seconds}{fraction})");
    let mut terms = Vec::new();
    // The zero date counts as 0, and lies before everything. On the first day there is next to nothing to pass over.
    if operator != "<" && operator != "<=" && whole >= DAY {
        let least = match whole {
            _ if whole > LAST - SHIFT => clock(whole - DAY),
            _ => format!("LEAST({}, {} - INTERVAL {SHIFT} SECOND)", clock(whole), clock(whole + SHIFT)),
        };
        terms.push(format!("{column} >= {least}"));
    }
    if operator != ">" && operator != ">=" {
        let most = match whole {
            _ if whole < DAY => clock(whole + 2 * DAY),
            _ => format!("GREATEST({}, {} + INTERVAL {SHIFT} SECOND)", clock(whole), clock(whole - SHIFT)),
        };
        terms.push(format!("{column} <= {most}"));
    }
    terms.push(format!("UNIX_TIMESTAMP({column}) {operator} {seconds}"));
    conjunction(terms)
}

#[derive(Clone, Copy)]
enum Bound {
    /// `K > key`
    Lower,
    /// `K <= key`
    Upper,
}

impl Comparand {
    /// Strictly behind a lower bound, or before an upper one.
    fn strict(&self, bound: Bound) -> &'static str {
        match (bound, self.descending) {
            (Bound::Lower, false) | (Bound::Upper, true) => ">",
            (Bound::Lower, true) | (Bound::Upper, false) => "<",
        }
    }

    /// `column = literal`
    fn equal(&self, literal: &str) -> String {
        if self.instant { instant(&self.text, "=", literal) } else { format!("{} = {literal}", self.text) }
    }

    /// `column operator literal`
    fn compare(&self, operator: &str, literal: &str) -> String {
        if self.instant {
            return instant(&self.text, operator, literal);
        }
        let (Some(largest), Ok(number)) = (self.largest, literal.parse::<u64>()) else {
            return format!("{} {operator} {literal}", self.text);
        };
        let fits = |n: &u64| match operator {
            ">" => *n > number,
            ">=" => *n >= number,
            "<" => *n < number,
            _ => *n <= number,
        };
        let numbers: Vec<String> = (0..=largest).filter(fits).map(|n| n.to_string()).collect();
        if numbers.is_empty() { "FALSE".to_owned() } else { format!("{} IN ({})", self.text, numbers.join(", ")) }
    }

    fn inclusive(&self, bound: Bound) -> &'static str {
        if self.strict(bound) == ">" { ">=" } else { "<=" }
    }
}

fn range_terms(columns: &[Comparand], lo: Option<&[String]>, hi: Option<&[String]>) -> String {
    let shared = match (lo, hi) {
        (Some(lo), Some(hi)) => lo.iter().zip(hi).take_while(|(a, b)| a == b).count(),
        _ => 0,
    };
    if shared == columns.len() && shared > 0 {
        // K > key AND K <= key
        return "FALSE".to_owned();
    }
    let (fixed, open) = columns.split_at(shared.min(columns.len()));
    let mut terms: Vec<String> = fixed.iter().zip(lo.unwrap_or_default()).map(|(c, l)| c.equal(l)).collect();
    for (bound, literals) in [(Bound::Lower, lo), (Bound::Upper, hi)] {
        if let Some(literals) = literals {
            bound_terms(open, literals.get(shared..).unwrap_or_default(), bound, &mut terms);
        }
    }
    conjunction(terms)
}

/// `a > x`, or for a tuple `a >= x AND (a > x OR (a = x AND b > y))`.
fn bound_terms(columns: &[Comparand], literals: &[String], bound: Bound, terms: &mut Vec<String>) {
    let last_operator = |c: &Comparand| match bound {
        Bound::Lower => c.strict(bound),
        Bound::Upper => c.inclusive(bound),
    };
    let pairs: Vec<(&Comparand, &String)> = columns.iter().zip(literals).collect();
    let Some((first, rest)) = pairs.split_first() else { return };
    if rest.is_empty() {
        terms.push(first.0.compare(last_operator(first.0), first.1));
        return;
    }
    let mut alternatives = Vec::new();
    for (i, (column, literal)) in pairs.iter().enumerate() {
        let operator = if i + 1 == pairs.len() { last_operator(column) } else { column.strict(bound) };
        let equal = pairs.iter().take(i).map(|(c, l)| c.equal(l));
        alternatives.push(conjunction(equal.chain([column.compare(operator, literal)]).collect()));
    }
    terms.push(first.0.compare(first.0.inclusive(bound), first.1));
    terms.push(format!("({})", alternatives.join(" OR ")));
}

/// All terms, in parentheses if there are several.
fn conjunction(terms: Vec<String>) -> String {
    match terms.as_slice() {
        [] => "TRUE".to_owned(),
        [term] => term.clone(),
        _ => format!("({})", terms.join(" AND ")),
    }
}

/// One value as it is, several as a row.
fn row(values: Vec<String>) -> String {
    match values.as_slice() {
        [value] => value.clone(),
        _ => format!("({})", values.join(", ")),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
