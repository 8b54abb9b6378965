//! Existing rows under the new definition: NULLs, values that are too long or out of range, duplicates. Found by looking, in bounded time;
//! of rows that do not fit only the keys are told.
//!
//! The server would say the same at the copy, hours later. What is asked here is a condition for each redefined column, derived from its new
//! definition's own words ([`NewType`]); where no condition is known, the report says that only the copy tells.
use super::predict::Prediction;
use super::{Look, Severity, Topic};
use crate::engine::contract::error::{EngineError, reason_of};
use crate::engine::contract::reason::Reason;
use crate::engine::table::inspector::Inspected;
use crate::mysql::codes;
use crate::mysql::session::{SHORT, values_of};
use crate::sql::alter::{Alter, Clause, ColumnSpec, ParsedClause, TableElement};
use crate::sql::key::{KeyCodec, Side};
use crate::sql::quote;
use crate::sql::table::{Column, ColumnType, IndexPart};
use crate::sql::token::{self, Grammar};
use std::time::{Duration, Instant};

/// How long the server may look for one kind of row, in milliseconds (`MAX_EXECUTION_TIME`).
const LIMIT_MILLIS: u32 = 3000;
/// Keys that are told.
const KEYS: usize = 3;

/// The words of a column's new definition that say which values it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewType {
    /// Upper case: `VARCHAR`, `INT`.
    pub name: String,
    /// Numbers in the type's parentheses.
    pub numbers: Vec<u64>,
    /// Labels of ENUM and SET.
    pub labels: Vec<String>,
    /// `UNSIGNED` or `ZEROFILL`.
    pub unsigned: bool,
    /// `NOT NULL`, a primary key, or AUTO_INCREMENT.
    pub not_null: bool,
    /// `CHARACTER SET x`
    pub charset: Option<String>,
}

/// Reads the definition in a MODIFY or CHANGE clause; `None` when it is not understood. `source` is the text of the ALTER, read by this
/// grammar. Pure.
pub(super) fn new_type(source: &str, grammar: Grammar, clause: &ParsedClause) -> Option<NewType> {
    let names = match &clause.clause {
        Clause::ModifyColumn(_) => 1,
        Clause::ChangeColumn { .. } => 2,
        _ => return None,
    };
    let text = clause.span.of(source);
    let tokens = token::tokenize_as(text, grammar).ok()?;
    // MODIFY [COLUMN] name | CHANGE [COLUMN] old new; a column may itself be called `column`, in quotes.
    let mut at = 1 + usize::from(tokens.get(1)?.is_word(text, "COLUMN")) + names;
    let mut found = NewType { name: tokens.get(at)?.text(text).to_uppercase(), ..NewType::default() };
    if tokens.get(at + 1).is_some_and(|t| t.is_symbol(text, "(")) {
        at += 2;
        while !tokens.get(at)?.is_symbol(text, ")") {
            if let Ok(number) = tokens[at].text(text).parse() {
                found.numbers.push(number);
            } else if let Some(label) = tokens[at].string_value(text) {
                found.labels.push(label);
            }
            at += 1;
        }
    }
    let mut depth = 0;
    let rest = tokens.get(at + 1..).unwrap_or_default();
    for (i, token) in rest.iter().enumerate() {
        let next = |word: &str| rest.get(i + 1).is_some_and(|t| t.is_word(text, word));
        match () {
            () if token.is_symbol(text, "(") => depth += 1,
            () if token.is_symbol(text, ")") => depth -= 1,
            () if depth > 0 => {}
            () if token.is_word(text, "UNSIGNED") || token.is_word(text, "ZEROFILL") => found.unsigned = true,
            () if token.is_word(text, "NOT") && next("NULL") || token.is_word(text, "PRIMARY") || token.is_word(text, "AUTO_INCREMENT") => {
                found.not_null = true;
            }
            () if token.is_word(text, "CHARSET")
                || token.is_word(text, "SET") && i > 0 && (rest[i - 1].is_word(text, "CHARACTER") || rest[i - 1].is_word(text, "CHAR")) =>
            {
                found.charset = rest.get(i + 1)?.name(text);
            }
            () => {}
        }
    }
    Some(found)
}

/// What is asked of a column's values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// SQL conditions that name rows which do not fit, with words for people.
    pub conditions: Vec<(String, &'static str)>,
    /// Values that do not fit may escape the conditions.
    pub incomplete: bool,
}

/// The conditions for a column under its new type (pure).
pub fn question(column: &Column, new: &NewType) -> Question {
    use ColumnType as T;
    let c = quote::identifier(&column.name);
    let mut q = Question::default();
    if new.not_null && column.nullable {
        q.conditions.push((format!("{c} IS NULL"), "are NULL in a column that becomes NOT NULL"));
    }
    let old = &column.column_type;
    let text = matches!(old, T::Char { .. } | T::VarChar { .. } | T::Text);
    let bytes = matches!(old, T::Binary { .. } | T::VarBinary { .. } | T::Blob);
    let number = matches!(old, T::Integer { .. } | T::Decimal { .. } | T::Float { .. } | T::Year);
    let first = new.numbers.first().copied();
    let too_long = "are longer than the new type";
    match new.name.as_str() {
        "CHAR" | "VARCHAR" | "CHARACTER" => {
            let length = first.unwrap_or(1);
            match old {
                T::Char { length: old } | T::VarChar { length: old } if u64::from(*old) <= length => {}
                _ if text => q.conditions.push((format!("CHAR_LENGTH({c}) > {length}"), too_long)),
                _ if bytes => {
                    q.conditions.push((format!("LENGTH({c}) > {length}"), too_long));
                    q.incomplete = true;
                }
                _ => q.conditions.push((format!("CHAR_LENGTH(CAST({c} AS CHAR)) > {length}"), too_long)),
            }
        }
        "BINARY" | "VARBINARY" => {
            let length = first.unwrap_or(1);
            match old {
                T::Binary { length: old } | T::VarBinary { length: old } if u64::from(*old) <= length => {}
                _ => q.conditions.push((format!("LENGTH({c}) > {length}"), too_long)),
            }
        }
        "TINYTEXT" | "TINYBLOB" if text || bytes => q.conditions.push((format!("LENGTH({c}) > 255"), too_long)),
        "TEXT" | "BLOB" if text || bytes => q.conditions.push((format!("LENGTH({c}) > 65535"), too_long)),
        "MEDIUMTEXT" | "MEDIUMBLOB" if text || bytes => q.conditions.push((format!("LENGTH({c}) > 16777215"), too_long)),
        "LONGTEXT" | "LONGBLOB" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" => {}
        name if integer_bits(name).is_some() => {
            let bits = integer_bits(name).unwrap_or(64);
            let (low, high) =
                if new.unsigned { (0_i128, (1_i128 << bits) - 1) } else { (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1) };
            let inside = matches!(old, T::Integer { bits: b, unsigned } if {
                let (l, h) = if *unsigned { (0, (1_i128 << b) - 1) } else { (-(1_i128 << (b - 1)), (1_i128 << (b - 1)) - 1) };
                low <= l && h <= high
            });
            if inside {
            } else if number {
                q.conditions.push((format!("({c} < {low} OR {c} > {high})"), "are out of the new type's range"));
            } else if text {
                q.conditions
                    .push((format!("{c} NOT REGEXP '^ *[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)? *$'"), "are not numbers"));
                q.incomplete = true;
            } else {
                q.incomplete = true;
            }
        }
        "DECIMAL" | "NUMERIC" | "DEC" | "FIXED" => {
            let (precision, scale) = (first.unwrap_or(10), new.numbers.get(1).copied().unwrap_or(0));
            let wider = matches!(old, T::Decimal { precision: p, scale: s, unsigned } if precision.saturating_sub(scale) >= u64::from(p.saturating_sub(*s)) && scale >= u64::from(*s) && (!new.unsigned || *unsigned));
            if wider {
            } else if number && precision <= 65 && scale <= precision {
                let limit = format!("1{}", "0".repeat(usize::try_from(precision - scale).unwrap_or(0)));
                q.conditions.push((format!("ABS(ROUND({c}, {scale})) >= {limit}"), "are out of the new type's range"));
                if new.unsigned {
                    q.conditions.push((format!("{c} < 0"), "are negative, and the new type is unsigned"));
                }
            } else {
                q.incomplete = true;
            }
        }
        "ENUM" if !new.labels.is_empty() => {
            let labels: Vec<String> = new.labels.iter().map(|l| quote::string(l)).collect();
            match old {
                T::Enum { labels: old } if old.iter().all(|l| new.labels.contains(l)) => {}
                T::Enum { .. } => q
                    .conditions
                    .push((format!("CAST({c} AS CHAR) NOT IN ({})", labels.join(", ")), "have a label that is not in the new ENUM")),
                _ if text => q.conditions.push((format!("{c} NOT IN ({})", labels.join(", ")), "are not labels of the new ENUM")),
                _ => q.incomplete = true,
            }
        }
        "FLOAT" | "DOUBLE" | "REAL" if number => {}
        "DATETIME" | "TIMESTAMP" if matches!(old, T::DateTime { .. } | T::Timestamp { .. } | T::Date) && new.name == "DATETIME" => {}
        "TIMESTAMP" if matches!(old, T::Timestamp { .. }) => {}
        "JSON" if matches!(old, T::Json) => {}
        "JSON" if text => q.conditions.push((format!("JSON_VALID({c}) = 0"), "are not JSON")),
        "DATE" if matches!(old, T::Date) => {}
        "TIME" if matches!(old, T::Time { .. }) => {}
        _ => q.incomplete = true,
    }
    if let (Some(charset), Some(from)) = (&new.charset, &column.charset) {
        charset_question(&c, charset, from, &mut q);
    }
    q
}

fn charset_question(column: &str, to: &str, from: &str, q: &mut Question) {
    let known = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric());
    if !to.eq_ignore_ascii_case(from) && !to.eq_ignore_ascii_case("utf8mb4") && known(to) && known(from) {
        q.conditions.push((
            format!("CAST(CONVERT(CONVERT({column} USING {to}) USING {from}) AS BINARY) <> CAST({column} AS BINARY)"),
            "have characters that are not in the new character set",
        ));
    }
}

pub(super) fn integer_bits(name: &str) -> Option<u32> {
    Some(match name {
        "TINYINT" | "BOOL" | "BOOLEAN" | "INT1" => 8,
        "SMALLINT" | "INT2" => 16,
        "MEDIUMINT" | "INT3" | "MIDDLEINT" => 24,
        "INT" | "INTEGER" | "INT4" => 32,
        "BIGINT" | "INT8" => 64,
        _ => return None,
    })
}

/// Asks all of it.
pub(super) async fn probe(
    look: &mut Look<'_>,
    original: &Inspected,
    alter: &Alter,
    prediction: &Prediction,
    codec: Option<&KeyCodec>,
) -> Result<(), EngineError> {
    let source = look.spec.alter.clone();
    let definition = &original.definition;
    let mut asked: Vec<(String, Question)> = Vec::new();
    for clause in alter.clauses() {
        let name = match &clause.clause {
            Clause::ModifyColumn(spec) => &spec.name,
            Clause::ChangeColumn { old, .. } => old,
            Clause::ConvertToCharset { charset, .. } => {
                for column in &definition.columns {
                    let mut q = Question::default();
                    if let Some(from) = &column.charset {
                        charset_question(&quote::identifier(&column.name), charset, from, &mut q);
                    }
                    asked.push((column.name.clone(), q));
                }
                continue;
            }
            _ => continue,
        };
        let Some(column) = definition.column(name) else { continue };
        let q = new_type(&source, alter.grammar(), clause)
            .map_or(Question { incomplete: true, ..Question::default() }, |new| question(column, &new));
        asked.push((column.name.clone(), q));
    }
    // A new primary key takes no NULL.
    for after in prediction.definition.columns.iter().filter(|c| !c.nullable) {
        let before = alter
            .renames()
            .iter()
            .find(|(_, new)| new.eq_ignore_ascii_case(&after.name))
            .map_or_else(|| after.name.clone(), |(old, _)| old.clone());
        let added = alter.added_columns().iter().any(|new| new.eq_ignore_ascii_case(&after.name));
        if let Some(column) = definition.column(&before).filter(|c| c.nullable && !added) {
            let is_null = format!("{} IS NULL", quote::identifier(&column.name));
            if asked.iter().any(|(_, q)| q.conditions.iter().any(|(condition, _)| *condition == is_null)) {
                continue;
            }
            let condition = (is_null, "are NULL in a column of the new primary key");
            asked.push((column.name.clone(), Question { conditions: vec![condition], incomplete: false }));
        }
    }
    for (column, q) in asked {
        for (condition, words) in q.conditions {
            rows(look, codec, &column, &condition, words).await?;
        }
        if q.incomplete {
            look.report.add(
                Severity::Info,
                Topic::DataUnknown,
                column.clone(),
                format!("only the copy will show whether every value of {} fits its new definition; it fails at the first one that does not and leaves the table as it is", quote::identifier(&column)),
                "",
            );
        }
    }
    for (name, parts) in &prediction.new_unique {
        duplicates(look, codec, name, parts).await?;
    }
    for clause in alter.clauses() {
        for computed in computed(&source, clause) {
            evaluate(look, codec, &computed).await?;
        }
    }
    Ok(())
}

/// A generated column that the change adds or redefines.
#[derive(Debug, PartialEq, Eq)]
struct Computed {
    column: String,
    /// In parentheses.
    expression: String,
    stored: bool,
}

/// Reads them from a clause. Pure.
fn computed(source: &str, clause: &ParsedClause) -> Vec<Computed> {
    let specs: Vec<&ColumnSpec> = match &clause.clause {
        Clause::ModifyColumn(spec) | Clause::ChangeColumn { new: spec, .. } => vec![spec],
        Clause::Add { elements } => {
            elements.iter().filter_map(|e| if let TableElement::Column(spec) = e { Some(spec) } else { None }).collect()
        }
        _ => return Vec::new(),
    };
    let mut specs = specs.into_iter().filter(|spec| spec.attributes.generated);
    let text = clause.span.of(source);
    let Ok(tokens) = token::tokenize(text) else { return Vec::new() };
    let mut found: Vec<Computed> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        // `AS (…)` outside of expressions; a CAST has a type behind its AS.
        if !(tokens[at].is_word(text, "AS") && tokens.get(at + 1).is_some_and(|t| t.is_symbol(text, "("))) {
            if tokens[at].is_word(text, "STORED")
                && let Some(last) = found.last_mut()
            {
                last.stored = true;
            }
            at += 1;
            continue;
        }
        let mut depth = 0_usize;
        let Some(close) = tokens.iter().enumerate().skip(at + 1).find_map(|(i, t)| {
            if t.is_symbol(text, "(") {
                depth += 1;
            } else if t.is_symbol(text, ")") {
                depth -= 1;
                return (depth == 0).then_some(i);
            }
            None
        }) else {
            break;
        };
        let Some(spec) = specs.next() else { break };
        let expression = text.get(tokens[at + 1].span.start..tokens[close].span.end).unwrap_or_default().to_owned();
        found.push(Computed { column: spec.name.clone(), expression, stored: false });
        at = close + 1;
    }
    found
}

/// Computes a new column over the rows: an expression that fails on one fails the copy, or, for a virtual column, each later SELECT of it.
async fn evaluate(look: &mut Look<'_>, codec: Option<&KeyCodec>, computed: &Computed) -> Result<(), EngineError> {
    let Computed { column, expression, stored } = computed;
    let table = look.table();
    let hint = format!("/*+ MAX_EXECUTION_TIME({LIMIT_MILLIS}) */");
    // LENGTH has it computed for each row, whatever the optimizer knows of NULLs.
    let what = "compute a new column";
    let sql = format!("SELECT {hint} MAX(LENGTH({expression})) FROM {table}");
    let error = match look.session.rows::<mysql_async::Row>(what, SHORT, &sql).await {
        Ok(_) => return Ok(()),
        Err(error) if error.is_connection() => return Err(error.into()),
        Err(error) => error,
    };
    let object = quote::identifier(column);
    if reason_of(&error) != Reason::DataDoesNotFit {
        let why = match error.code {
            codes::QUERY_TIMEOUT => format!("the check took longer than {} s and was stopped", LIMIT_MILLIS / 1000),
            _ => error.message,
        };
        let message = format!("could not check whether {object} can be computed for every row: {why}");
        look.report.add(Severity::Info, Topic::DataUnknown, column.clone(), message, "");
        return Ok(());
    }
    let mut place = String::new();
    if let Some(codec) = codec
        && let Some(key) = first_failing(look, codec, expression, &hint).await?
    {
        place = format!(" for the row with {} = {key}", codec.columns(Side::Original));
    }
    let (severity, then) = match stored {
        true => (Severity::Refuse, "the copy would fail there"),
        // As a native ALTER.
        false => {
            (Severity::Warning, "the server accepts the change, and then every SELECT of the column (SELECT * too) fails on such a row")
        }
    };
    look.report.add(
        severity,
        Reason::DataDoesNotFit,
        column.clone(),
        format!("{object} cannot be computed{place}: {}; {then}", error.message),
        "fix the rows, or choose an expression that works for all of them",
    );
    Ok(())
}

/// The first row, in the key's order, at which an expression fails: halves the rows until it is found, for as long as one look may take.
async fn first_failing(look: &mut Look<'_>, codec: &KeyCodec, expression: &str, hint: &str) -> Result<Option<String>, EngineError> {
    let (table, order) = (look.table(), codec.order_by(Side::Original));
    let end = Instant::now() + Duration::from_millis(u64::from(LIMIT_MILLIS));
    let what = "look for the row that cannot be computed";
    let rows = match look.session.first::<u64>(what, SHORT, &format!("SELECT {hint} COUNT(*) FROM {table}")).await {
        Ok(Some(rows)) if rows > 0 => rows,
        Err(error) if error.is_connection() => return Err(error.into()),
        // Not within the limit, then.
        _ => return Ok(None),
    };
    // It is among the first `high`, and not among the first `low`.
    let (mut low, mut high) = (0, rows);
    while high > low + 1 {
        let half = low + (high - low) / 2;
        if Instant::now() > end {
            return Ok(None);
        }
        let sql = format!(
            "SELECT {hint} MAX(d.l) FROM (SELECT LENGTH({expression}) AS l FROM {table} ORDER BY {order} LIMIT {low}, {}) d",
            half - low
        );
        match look.session.rows::<mysql_async::Row>(what, SHORT, &sql).await {
            Ok(_) => low = half,
            Err(error) if error.is_connection() => return Err(error.into()),
            Err(error) if reason_of(&error) == Reason::DataDoesNotFit => high = half,
            Err(_) => return Ok(None),
        }
    }
    let sql = format!("SELECT {hint} {} FROM {table} ORDER BY {order} LIMIT {low}, 1", codec.select_list(Side::Original));
    match look.session.rows::<mysql_async::Row>(what, SHORT, &sql).await {
        Ok(rows) => {
            Ok(rows.into_iter().next().and_then(|row| codec.encode_row(&values_of(what, row).ok()?).ok()).map(|key| codec.tuple(&key)))
        }
        Err(error) if error.is_connection() => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Rows that fulfil a condition: the keys of the first few.
async fn rows(look: &mut Look<'_>, codec: Option<&KeyCodec>, column: &str, condition: &str, words: &str) -> Result<(), EngineError> {
    let table = look.table();
    let list = codec.map_or_else(|| "1".to_owned(), |codec| codec.select_list(Side::Original));
    let sql = format!("SELECT /*+ MAX_EXECUTION_TIME({LIMIT_MILLIS}) */ {list} FROM {table} WHERE {condition} LIMIT {}", KEYS + 1);
    let Some(keys) = ask(look, codec, column, &sql, words).await? else { return Ok(()) };
    if !keys.is_empty() {
        look.report.add(
            Severity::Refuse,
            Reason::DataDoesNotFit,
            column,
            format!("{} {words}", told(codec, &keys)),
            "fix these values, or choose a type that accepts them",
        );
    }
    Ok(())
}

/// Two rows with one value under a new unique key.
async fn duplicates(look: &mut Look<'_>, codec: Option<&KeyCodec>, name: &str, parts: &[IndexPart]) -> Result<(), EngineError> {
    let words = "have the same value under the new unique key";
    let expressions: Option<Vec<String>> = parts
        .iter()
        .map(|p| {
            let column = quote::identifier(p.column.as_deref()?);
            Some(p.prefix.map_or_else(|| format!("o.{column}"), |n| format!("LEFT(o.{column}, {n})")))
        })
        .collect();
    let Some(expressions) = expressions.filter(|e| !e.is_empty()) else {
        look.report.add(
            Severity::Info,
            Topic::DataUnknown,
            name,
            format!(
                "the unique key {} covers new columns or expressions: only the copy will show whether two rows have the same value",
                quote::identifier(name)
            ),
            "",
        );
        return Ok(());
    };
    let table = look.table();
    let named: Vec<String> = expressions.iter().enumerate().map(|(i, e)| format!("{e} AS theseus_{i}")).collect();
    let not_null: Vec<String> = expressions.iter().map(|e| format!("{e} IS NOT NULL")).collect();
    let joined: Vec<String> = expressions.iter().enumerate().map(|(i, e)| format!("{e} = d.theseus_{i}")).collect();
    let positions: Vec<String> = (1..=expressions.len()).map(|i| i.to_string()).collect();
    let list = codec.map_or_else(|| "1".to_owned(), |codec| codec.select_list(Side::Original));
    let sql = format!(
        "SELECT /*+ MAX_EXECUTION_TIME({LIMIT_MILLIS}) */ {list} FROM {table} o JOIN (SELECT {} FROM {table} o WHERE {} GROUP BY {} HAVING COUNT(*) > 1 LIMIT 1) d ON {} LIMIT {}",
        named.join(", "),
        not_null.join(" AND "),
        positions.join(", "),
        joined.join(" AND "),
        KEYS + 1
    );
    let Some(keys) = ask(look, codec, name, &sql, words).await? else { return Ok(()) };
    if !keys.is_empty() {
        look.report.add(
            Severity::Refuse,
            Reason::DuplicateKey,
            name,
            format!("{} {words} {}, compared in the columns' current collation", told(codec, &keys), quote::identifier(name)),
            "change or remove all but one of them; there may be more such groups",
        );
    }
    Ok(())
}

/// Keys as literals; `None` when the answer did not come in time, which is then a finding.
async fn ask(
    look: &mut Look<'_>,
    codec: Option<&KeyCodec>,
    object: &str,
    sql: &str,
    words: &str,
) -> Result<Option<Vec<String>>, EngineError> {
    let what = "look for rows that do not fit";
    match look.session.rows::<mysql_async::Row>(what, SHORT, sql).await {
        Ok(rows) => Ok(Some(
            rows.into_iter()
                .map(|row| {
                    codec
                        .and_then(|codec| codec.encode_row(&values_of(what, row).ok()?).ok().map(|key| codec.tuple(&key)))
                        .unwrap_or_default()
                })
                .collect(),
        )),
        Err(error) if error.is_connection() => Err(error.into()),
        Err(error) => {
            let why = if error.code == codes::QUERY_TIMEOUT {
                format!("the check took longer than {} s and was stopped", LIMIT_MILLIS / 1000)
            } else {
                error.message
            };
            look.report.add(
                Severity::Info,
                Topic::DataUnknown,
                object,
                format!("could not check whether rows {words}: {why}; only the copy will show"),
                "",
            );
            Ok(None)
        }
    }
}

fn told(codec: Option<&KeyCodec>, keys: &[String]) -> String {
    let Some(codec) = codec else { return "rows".to_owned() };
    let more = if keys.len() > KEYS { ", …" } else { "" };
    format!("the rows with {} = {}{more}", codec.columns(Side::Original), keys.iter().take(KEYS).cloned().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(alter: &str) -> NewType {
        let parsed = Alter::parse(alter).unwrap();
        new_type(alter, parsed.grammar(), &parsed.clauses()[0]).unwrap()
    }

    #[test]
    fn generated_columns_are_read() {
        for (alter, expected) in [
            ("ADD c INT AS (a - (b)) STORED NOT NULL", &[("c", "(a - (b))", true)][..]),
            ("ADD c INT GENERATED ALWAYS AS (CAST(a AS CHAR(3)))", &[("c", "(CAST(a AS CHAR(3)))", false)]),
            ("ADD (x INT, c INT AS (a), d INT AS (')')STORED)", &[("c", "(a)", false), ("d", "(')')", true)]),
            ("ADD c VARCHAR(9) DEFAULT (CAST(1 AS CHAR))", &[]),
            ("CHANGE b c INT AS (a) VIRTUAL", &[("c", "(a)", false)]),
        ] {
            let parsed = Alter::parse(alter).unwrap();
            let found = computed(alter, &parsed.clauses()[0]);
            let found: Vec<_> = found.iter().map(|c| (c.column.as_str(), c.expression.as_str(), c.stored)).collect();
            assert_eq!(found, expected, "{alter}");
        }
    }

    #[test]
    fn definitions_are_read() {
        let new = read("MODIFY COLUMN a VARCHAR(20) CHARACTER SET latin1 NOT NULL DEFAULT 'x' COMMENT 'UNSIGNED'");
        assert_eq!(
            new,
            NewType { name: "VARCHAR".into(), numbers: vec![20], not_null: true, charset: Some("latin1".into()), ..NewType::default() }
        );
        let new = read("CHANGE a b decimal(10,2) unsigned");
        assert_eq!(new, NewType { name: "DECIMAL".into(), numbers: vec![10, 2], unsigned: true, ..NewType::default() });
        assert_eq!(read("MODIFY `column` ENUM('a','it''s') NULL").labels, ["a", "it's"]);
        assert!(!read("MODIFY a INT CHECK (a IS NOT NULL)").not_null, "what stands in parentheses is not the column's");
        assert!(read("MODIFY a INT PRIMARY KEY").not_null);
    }

    #[test]
    fn questions_are_asked_only_where_values_may_not_fit() {
        let column = |column_type: ColumnType| Column {
            name: "a".into(),
            column_type,
            type_text: String::new(),
            charset: Some("utf8mb4".into()),
            collation: None,
            nullable: true,
            generated: crate::sql::table::Generated::No,
            auto_increment: false,
            has_default: false,
            invisible: false,
        };
        let int = || ColumnType::Integer { bits: 32, unsigned: false };
        for (old, new, conditions, incomplete) in [
            (int(), "BIGINT", "", false),
            (int(), "SMALLINT", "(`a` < -32768 OR `a` > 32767)", false),
            (int(), "INT UNSIGNED", "(`a` < 0 OR `a` > 4294967295)", false),
            (int(), "INT NOT NULL", "`a` IS NULL", false),
            (int(), "VARCHAR(3)", "CHAR_LENGTH(CAST(`a` AS CHAR)) > 3", false),
            (int(), "DATE", "", true),
            (int(), "DECIMAL(4,1)", "ABS(ROUND(`a`, 1)) >= 1000", false),
            (ColumnType::VarChar { length: 10 }, "VARCHAR(20)", "", false),
            (ColumnType::VarChar { length: 10 }, "VARCHAR(5)", "CHAR_LENGTH(`a`) > 5", false),
            (
                ColumnType::VarChar { length: 10 },
                "VARCHAR(20) CHARSET latin1",
                "CAST(CONVERT(CONVERT(`a` USING latin1) USING utf8mb4) AS BINARY) <> CAST(`a` AS BINARY)",
                false,
            ),
            (ColumnType::Text, "JSON", "JSON_VALID(`a`) = 0", false),
            (ColumnType::Enum { labels: vec!["x".into()] }, "ENUM('x','y')", "", false),
            (ColumnType::Enum { labels: vec!["x".into(), "y".into()] }, "ENUM('x')", "CAST(`a` AS CHAR) NOT IN ('x')", false),
            (ColumnType::Decimal { precision: 10, scale: 2, unsigned: false }, "DECIMAL(12,2)", "", false),
        ] {
            let q = question(&column(old.clone()), &read(&format!("MODIFY a {new}")));
            let found: Vec<&str> = q.conditions.iter().map(|(c, _)| c.as_str()).collect();
            assert_eq!((found.join("; ").as_str(), q.incomplete), (conditions, incomplete), "{old:?} to {new}");
        }
    }
}
