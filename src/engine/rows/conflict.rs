//! Unique conflicts on the ghost (rule 6): who holds the value, and whether two rows of the original really have it.
//!
//! A 1062 is usually a stale ghost row that still holds a value which has moved on. The holder is found by the ghost's own index, made
//! dirty and reconciled; only two rows that have the same value in one snapshot of the original fail the migration.

use super::migration::Migration;
use super::transaction::{self, Failure, GhostTransaction, Unwritten};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::mysql::session::{LONG, SHORT};
use crate::mysql::{MySqlError, Session, codes};
use crate::sql::key::{Key, Side};
use crate::sql::mapping::Conversion;
use crate::sql::quote;
use crate::sql::table::{Generated, Index, IndexPart};

/// How often holders are put aside in a proof.
const ROUNDS: usize = 10;
/// Holders that are part of one proof.
const MOST_PROVEN: usize = 1000;
/// Temporary tables of converted rows; private to a session.
const SCRATCH: &str = "_theseus_unique";

/// The index of the ghost that a duplicate was found in.
pub fn violated<'a>(m: &'a Migration, error: &MySqlError) -> Option<&'a Index> {
    let name = error.index.as_deref()?;
    // `table.index` since 8.0.19; both names may hold dots, so the known names decide.
    let prefix = format!("{}.", m.names.ghost);
    let short = name.strip_prefix(&prefix).unwrap_or(name);
    m.ghost.indexes.iter().find(|i| i.name.eq_ignore_ascii_case(short))
}

/// Whether the columns of a unique index hold the whole key: two rows cannot collide there unless the ghost takes their keys for equal.
pub(super) fn follows_from_key(m: &Migration, index: &Index) -> bool {
    let has = |name: &str| index.parts.iter().any(|p| p.prefix.is_none() && p.column.as_deref().is_some_and(|c| same(c, name)));
    m.key.columns.iter().all(|part| has(&part.ghost))
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// A unique index as something to look rows up by.
///
/// Only the server knows what it makes of a value: which texts are equal, how a number is rounded for the new type. So rows of the
/// original are first converted into a temporary table with the ghost's columns ([`SCRATCH`]), and equal is what is equal there.
pub(super) struct Lookup {
    /// Its name.
    pub index: String,
    /// Whether the server finds rows by it when the values come from another table: not by a prefix, nor by an expression.
    pub indexed: bool,
    /// Whether it can be named in a hint.
    visible: bool,
    /// The original's columns for its parts, where their values are the ghost's as they are: same type, same collation.
    direct: Option<Vec<String>>,
    /// The name of the temporary table, quoted; one for each index.
    scratch: String,
    /// Its columns, of the ghost: those of the key and of the index, or all of them where the index has expressions.
    columns: Vec<String>,
    /// The parts of the index, on the ghost and on the temporary table. Of a multi-valued part: the JSON value that has the values.
    ghost: Vec<String>,
    made: Vec<String>,
    /// The multi-valued part; an index has one at most.
    array: Option<Array>,
}

/// A multi-valued part of an index: `CAST(… AS … ARRAY)`.
///
/// Two JSON values may differ and be one value of the index's type (1.234 and 1.23 as DECIMAL(8,2)), and not every look at them is in that
/// type. So what is not found proves nothing; a proof is always the index's own ([`Lookup::proven`]).
struct Array {
    /// Which part.
    at: usize,
    /// As in the definition.
    cast: String,
}

impl Lookup {
    /// `None` where the server shows no expression for a part, or the index is not known.
    ///
    /// # Errors
    /// The server's.
    pub async fn new(m: &Migration, session: &mut Session, error: &MySqlError) -> Result<Option<Self>, EngineError> {
        let Some(index) = violated(m, error) else { return Ok(None) };
        let stored = |name: &str| m.ghost.column(name).is_some_and(|c| c.generated == Generated::No);
        let simple = index.parts.iter().all(|p| p.column.as_deref().is_some_and(stored));
        let number = m.ghost.indexes.iter().position(|i| i.name == index.name).unwrap_or_default();
        let mut lookup = Self {
            index: index.name.clone(),
            indexed: index.parts.iter().all(|p| p.column.is_some() && p.prefix.is_none()),
            visible: index.visible,
            direct: direct(m, index),
            scratch: quote::qualified(&m.spec.database, &format!("{SCRATCH}{number}")),
            columns: Vec::new(),
            ghost: Vec::new(),
            made: Vec::new(),
            array: None,
        };
        if simple {
            lookup.columns.extend(m.key.columns.iter().map(|part| part.ghost.clone()));
            for part in &index.parts {
                let name = part.column.clone().unwrap_or_default();
                if !lookup.columns.iter().any(|c| c.to_lowercase() == name.to_lowercase()) {
                    lookup.columns.push(name);
                }
            }
        } else {
            lookup.columns.extend(m.ghost.columns.iter().filter(|c| c.generated == Generated::No).map(|c| c.name.clone()));
        }
        let expressions = if simple { Vec::new() } else { expressions(m, session, index).await? };
        for (at, part) in index.parts.iter().enumerate() {
            let (on_ghost, made) = match (&part.column, expressions.get(at)) {
                (Some(name), _) if stored(name) => (quote::identifier(name), quote::identifier(name)),
                // A generated column is there on the ghost; the temporary table has what it is made of.
                (Some(name), Some(Some(expression))) => (quote::identifier(name), format!("({expression})")),
                (None, Some(Some(expression))) => {
                    let inner = array_of(expression);
                    if inner.is_some() {
                        lookup.array = Some(Array { at, cast: expression.clone() });
                    }
                    let value = format!("({})", inner.unwrap_or(expression));
                    (value.clone(), value)
                }
                _ => return Ok(None),
            };
            let of = |text: String| part.prefix.map_or_else(|| text.clone(), |length| format!("LEFT({text}, {length})"));
            lookup.ghost.push(of(on_ghost));
            lookup.made.push(of(made));
        }
        Ok(Some(lookup))
    }

    /// Converts the rows of the original that `condition` names.
    async fn fill(&self, m: &Migration, session: &mut Session, condition: &str) -> Result<(), MySqlError> {
        let columns: Vec<String> = self.columns.iter().map(|c| quote::identifier(c)).collect();
        let sql = format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {} ({}) ENGINE=InnoDB SELECT {} FROM {} LIMIT 0; {}",
            self.scratch,
            quote::row_number(&self.columns),
            columns.join(", "),
            m.ghost_name(),
            m.convert_into(&self.scratch, &self.columns, condition)
        );
        session.run("convert rows to look for their unique values (CREATE TEMPORARY TABLES)", LONG, &sql).await
    }

    /// Keys of ghost rows that hold a value which the original's rows that `condition` names have now.
    ///
    /// # Errors
    /// The server's.
    pub async fn holders(&self, m: &Migration, session: &mut Session, condition: &str) -> Result<Vec<Key>, MySqlError> {
        let source = match &self.direct {
            Some(columns) => {
                let columns: Vec<String> =
                    columns.iter().enumerate().map(|(n, c)| format!("{} AS _theseus_{n}", quote::identifier(c))).collect();
                let key = quote::identifier(&m.key.index);
                format!("SELECT {} FROM {} FORCE INDEX ({key}) WHERE {condition}", columns.join(", "), m.original_name())
            }
            None => {
                self.fill(m, session, condition).await?;
                self.values("")
            }
        };
        self.held(m, session, &source).await
    }

    /// The values of the converted rows, part by part, with `first` before them: of a multi-valued part each one in a row of its own.
    fn values(&self, first: &str) -> String {
        let value = |(n, made): (usize, &String)| match &self.array {
            Some(array) if array.at == n => format!("_theseus_element AS _theseus_{n}"),
            _ => format!("{made} AS _theseus_{n}"),
        };
        let made: Vec<String> = self.made.iter().enumerate().map(value).collect();
        let each = self.array.as_ref().map(|array| {
            let json = &self.made[array.at];
            format!(
                ", JSON_TABLE(IF(JSON_TYPE({json}) = 'ARRAY', {json}, JSON_ARRAY({json})), '$[*]' COLUMNS (_theseus_element JSON PATH '$')) elements \
                 WHERE {json} IS NOT NULL AND JSON_TYPE(_theseus_element) <> 'NULL'"
            )
        });
        format!("SELECT {first}{} FROM {}{}", made.join(", "), self.scratch, each.unwrap_or_default())
    }

    /// Keys of ghost rows that hold a value of the converted rows.
    async fn holders_of_made(&self, m: &Migration, session: &mut Session) -> Result<Vec<Key>, MySqlError> {
        self.held(m, session, &self.values("")).await
    }

    /// The other table comes first, whatever the server thinks of its size: a scan of the ghost for each batch would never end.
    async fn held(&self, m: &Migration, session: &mut Session, source: &str) -> Result<Vec<Key>, MySqlError> {
        let equal = |(n, part): (usize, &String)| match &self.array {
            Some(array) if array.at == n => format!("wanted._theseus_{n} MEMBER OF{part}"),
            _ => format!("{part} = wanted._theseus_{n}"),
        };
        let mut equal: Vec<String> = self.ghost.iter().enumerate().map(equal).collect();
        let mut source = format!("({source}) AS wanted {} ", if self.indexed { "STRAIGHT_JOIN" } else { "JOIN" });
        if let Some(array) = &self.array {
            // In a join the server does not use such an index; for a constant it does, and it compares in the index's type.
            let sql = format!("SET @_theseus_values = (SELECT JSON_ARRAYAGG(_theseus_{}) FROM ({}) each_value)", array.at, self.values(""));
            session.run("collect the values of a multi-valued index", LONG, &sql).await?;
            let overlaps = format!("JSON_OVERLAPS({}, CAST(@_theseus_values AS JSON))", self.ghost[array.at]);
            if equal.len() == 1 {
                source.clear();
                equal = vec![overlaps];
            } else {
                equal.push(overlaps);
            }
        }
        let hint = if self.indexed && self.visible { format!(" FORCE INDEX ({})", quote::identifier(&self.index)) } else { String::new() };
        let sql = format!(
            "SELECT DISTINCT {} FROM {source}{}{hint} WHERE {}",
            m.codec.select_list(Side::Ghost),
            m.ghost_name(),
            equal.join(" AND "),
        );
        keys(m, session, "look for the holders of a unique value", &sql).await
    }

    /// A converted row, other than the holder's, that has the holder's value.
    async fn rival(&self, m: &Migration, session: &mut Session, holder: &Key) -> Result<Option<Key>, MySqlError> {
        let has = match &self.array {
            None => format!(
                "{} IN (SELECT {} FROM {} WHERE {})",
                list(&self.made),
                self.ghost.join(", "),
                m.ghost_name(),
                m.codec.equals(Side::Ghost, holder)
            ),
            Some(array) => {
                let of_holder: Vec<String> = self.ghost.iter().enumerate().map(|(n, part)| format!("{part} AS _theseus_{n}")).collect();
                let equal = |(n, made): (usize, &String)| match array.at == n {
                    true => format!("JSON_OVERLAPS({made}, held._theseus_{n})"),
                    false => format!("{made} = held._theseus_{n}"),
                };
                format!(
                    "EXISTS (SELECT 1 FROM (SELECT {} FROM {} WHERE {}) held WHERE {})",
                    of_holder.join(", "),
                    m.ghost_name(),
                    m.codec.equals(Side::Ghost, holder),
                    self.made.iter().enumerate().map(equal).collect::<Vec<_>>().join(" AND ")
                )
            }
        };
        let sql = format!(
            "SELECT {} FROM {} WHERE NOT ({}) AND {has} LIMIT 1",
            m.codec.select_list(Side::Ghost),
            self.scratch,
            m.codec.equals(Side::Ghost, holder),
        );
        Ok(keys(m, session, "look for a second row with a unique value", &sql).await?.pop())
    }

    /// Two converted rows with one value.
    async fn pair(&self, m: &Migration, session: &mut Session) -> Result<Vec<Key>, MySqlError> {
        let (mut parts, mut from) = (self.made.clone(), self.scratch.clone());
        if let Some(array) = &self.array {
            parts = (0..parts.len()).map(|n| format!("_theseus_{n}")).collect();
            parts[array.at] = format!("CAST(_theseus_{} AS BINARY)", array.at);
            // A row may have one value twice.
            from =
                format!("(SELECT DISTINCT * FROM ({}) each_value) expanded", self.values(&format!("{}, ", m.codec.columns(Side::Ghost))));
        }
        let not_null: Vec<String> = parts.iter().map(|e| format!("{e} IS NOT NULL")).collect();
        let parts = parts.join(", ");
        // A temporary table can be named but once in a statement.
        let sql = format!(
            "SELECT {} FROM (SELECT {}, COUNT(*) OVER (PARTITION BY {parts}) AS _theseus_times, RANK() OVER (ORDER BY {parts}) AS _theseus_value \
             FROM {from} WHERE {}) one_value WHERE _theseus_times > 1 ORDER BY _theseus_value LIMIT 2",
            m.codec.select_list(Side::Ghost),
            m.codec.columns(Side::Ghost),
            not_null.join(" AND "),
        );
        keys(m, session, "look for two rows with a unique value", &sql).await
    }

    /// Whether two of the original's rows that `condition` names, read in one snapshot, have one value: an index of that kind is made over
    /// them, and the server says. False where that cannot be shown: there are rows that several statements convert (empty vectors), which is
    /// several snapshots. To be called in no transaction, which an ALTER of a temporary table would commit.
    async fn proven(&self, m: &Migration, session: &mut Session, array: &Array, condition: &str) -> Result<bool, MySqlError> {
        if m.mapping.inserts(|_| true).len() > 1 {
            return Ok(false);
        }
        self.fill(m, session, condition).await?;
        let part = |(n, part): (usize, &String)| if array.at == n { format!("({})", array.cast) } else { part.clone() };
        let parts: Vec<String> = self.made.iter().enumerate().map(part).collect();
        let what = "check whether rows have the same value";
        let made =
            session.run(what, LONG, &format!("ALTER TABLE {} ADD UNIQUE KEY _theseus_proof ({})", self.scratch, parts.join(", "))).await;
        match made {
            Ok(()) => {
                session.run(what, SHORT, &format!("ALTER TABLE {} DROP KEY _theseus_proof", self.scratch)).await?;
                Ok(false)
            }
            Err(error) if error.is_duplicate() => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// The JSON value whose values are in a multi-valued part of an index.
fn array_of(expression: &str) -> Option<&str> {
    let cast = expression.strip_suffix(" array)")?.strip_prefix("cast(")?;
    Some(cast.rsplit_once(" as ")?.0)
}

/// The expressions of an index, part by part: of a functional part, or of a generated column.
async fn expressions(m: &Migration, session: &mut Session, index: &Index) -> Result<Vec<Option<String>>, EngineError> {
    // Not bound: the names must survive the character set of this session's connection.
    let sql = format!(
        "SELECT COALESCE(s.EXPRESSION, c.GENERATION_EXPRESSION) FROM information_schema.STATISTICS s \
         LEFT JOIN information_schema.COLUMNS c USING (TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME) \
         WHERE s.TABLE_SCHEMA = {} AND s.TABLE_NAME = {} AND s.INDEX_NAME = {} ORDER BY s.SEQ_IN_INDEX",
        quote::string(&m.spec.database),
        quote::string(&m.names.ghost),
        quote::string(&index.name)
    );
    let found: Vec<Option<String>> = session.rows("read the columns of an index", SHORT, &sql).await?;
    Ok(found.into_iter().map(|e| Some(unescaped(&e?)).filter(|e| !e.is_empty())).collect())
}

/// The server shows quotes and backslashes of an expression's literals escaped once more there.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        out.push(if c == '\\' { characters.next().unwrap_or(c) } else { c });
    }
    out
}

fn list(parts: &[String]) -> String {
    if parts.len() == 1 { parts[0].clone() } else { format!("({})", parts.join(", ")) }
}

/// The ghost rows that hold a value which the original's rows named by `condition` have now. None where other sessions' locks are in the way
/// of finding them: the next look sees more.
///
/// # Errors
/// The server's.
pub async fn holders(m: &Migration, session: &mut Session, error: &MySqlError, condition: &str) -> Result<Vec<Key>, EngineError> {
    let Some(lookup) = Lookup::new(m, session, error).await? else { return Ok(Vec::new()) };
    match lookup.holders(m, session, condition).await {
        Err(error) if error.is_contention() => Ok(Vec::new()),
        found => Ok(found?),
    }
}

async fn keys(m: &Migration, session: &mut Session, what: &str, sql: &str) -> Result<Vec<Key>, MySqlError> {
    let rows: Vec<mysql_async::Row> = session.rows(what, LONG, sql).await?;
    rows.into_iter().map(|row| m.key_of(what, row)).collect()
}

/// The original's columns for the parts of an index, if each is copied as it is.
fn direct(m: &Migration, index: &Index) -> Option<Vec<String>> {
    let of = |part: &IndexPart| {
        let shared = m.mapping.to_ghost(part.column.as_deref()?).filter(|s| s.conversion == Conversion::Direct)?;
        let (from, to) = (m.original.definition.column(&shared.original)?, m.ghost.column(&shared.ghost)?);
        let alike = from.type_text == to.type_text && from.charset == to.charset && from.collation == to.collation;
        (alike && part.prefix.is_none()).then(|| shared.original.clone())
    };
    index.parts.iter().map(of).collect()
}

/// Fails the migration if two rows of the original, one of them named by `condition`, have the same value under the violated index.
/// Returns `Ok` when that cannot be shown, because the conflict is with a stale row or other sessions' locks are in the way: a retry cures it.
///
/// The proof is the server's own: both rows, locked on the original and inserted by one statement behind the deletion of what the ghost
/// had for them and of all that held their values, collide with each other. In a multi-valued index they collide in an index over nothing else.
///
/// # Errors
/// [`Reason::DuplicateKey`] with both keys; the server's errors.
pub async fn prove(m: &Migration, session: &mut Session, error: &MySqlError, condition: &str, holders: &[Key]) -> Result<(), EngineError> {
    match search(m, session, error, condition, holders).await {
        Ok(()) => Ok(()),
        Err(Failure::Lost(lost)) => {
            tracing::debug!("{lost}");
            Ok(())
        }
        Err(Failure::Conflict(error)) => Err(error.into()),
        Err(Failure::Over(error)) => Err(error),
    }
}

async fn search(m: &Migration, session: &mut Session, error: &MySqlError, condition: &str, holders: &[Key]) -> Result<(), Failure> {
    let name = violated(m, error).map_or_else(|| error.index.clone().unwrap_or_default(), |i| i.name.clone());
    let Some(lookup) = Lookup::new(m, session, error).await? else { return Ok(()) };
    lookup.fill(m, session, condition).await?;
    let mut pairs = Vec::new();
    for holder in holders.iter().take(20) {
        pairs.extend(lookup.rival(m, session, holder).await?.map(|rival| [holder.clone(), rival]));
    }
    // Two of the rows themselves.
    pairs.extend(<[Key; 2]>::try_from(lookup.pair(m, session).await?));
    for pair in pairs {
        if collide(m, session, &lookup, &pair).await? {
            return Err(duplicate(m, &name, Some((&pair[0], &pair[1]))).into());
        }
    }
    if let Some(array) = &lookup.array {
        // Values that are one value only in the index's type.
        let mut all = format!("({condition}");
        if !holders.is_empty() {
            let holders = m.codec.in_list(Side::Original, holders.iter().take(MOST_PROVEN));
            all.push_str(&format!(" OR {holders}"));
        }
        all.push(')');
        if lookup.proven(m, session, array, &all).await? {
            return Err(duplicate(m, &name, None).into());
        }
    }
    Ok(())
}

/// Whether these two rows of the original collide with each other under a unique key of the ghost. Always rolled back.
async fn collide(m: &Migration, session: &mut Session, lookup: &Lookup, pair: &[Key; 2]) -> Result<bool, Failure> {
    if let Some(array) = &lookup.array {
        return Ok(lookup.proven(m, session, array, &m.codec.in_list(Side::Original, pair.iter())).await?);
    }
    transaction::try_out(m, session, async |ghost| try_collision(m, ghost, lookup, pair).await).await
}

async fn try_collision(m: &Migration, ghost: &mut GhostTransaction<'_>, lookup: &Lookup, pair: &[Key; 2]) -> Result<bool, Failure> {
    let what = "try two rows";
    ghost.delete(what, pair).await?;
    // They must not move until all is seen; nobody is waited for.
    let condition = m.codec.in_list(Side::Original, pair.iter());
    let lock =
        format!("SELECT 1 FROM {} FORCE INDEX ({}) WHERE {condition} FOR SHARE NOWAIT", m.original_name(), quote::identifier(&m.key.index));
    match ghost.session().rows::<u8>("hold two rows for a moment", LONG, &lock).await {
        Ok(rows) if rows.len() == 2 => {}
        // One is gone, or in somebody's hands: the next try sees more.
        Ok(_) => return Ok(false),
        Err(error) if error.code == codes::LOCK_NOWAIT => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    for _ in 0..ROUNDS {
        match ghost.copy_keys(what, pair).await {
            Err(Unwritten::Refused(error)) if error.is_duplicate() => {}
            other => return other.map(|_| false).map_err(Into::into),
        }
        lookup.fill(m, ghost.session(), &condition).await?;
        let others = lookup.holders_of_made(m, ghost.session()).await?;
        if others.is_empty() {
            return Ok(true);
        }
        // Whoever else holds the value is out of the way for this transaction.
        ghost.delete(what, &others).await?;
    }
    Ok(false)
}

fn duplicate(m: &Migration, index: &str, pair: Option<(&Key, &Key)>) -> EngineError {
    let which = match pair {
        Some((a, b)) => format!("the rows with {} {} and {}", m.key.index, m.codec.tuple(a), m.codec.tuple(b)),
        None => "two rows".to_owned(),
    };
    EngineError::terminal(
        Reason::DuplicateKey,
        &format!(
            "{which} of {} have the same value under the unique key {} of the new definition. The original table is untouched; the ghost and state tables are kept: change one of the rows and retry, or delete the migration",
            m.original_name(),
            quote::identifier(index)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_a_multi_valued_part_is_found() {
        for (expression, want) in [
            ("cast(`j` as unsigned array)", Some("`j`")),
            ("cast(json_extract(`j`,_utf8mb4'$.as x') as char(20) array)", Some("json_extract(`j`,_utf8mb4'$.as x')")),
            ("cast(`a as b` as date array)", Some("`a as b`")),
            ("cast(`j` as decimal(10,2) array)", Some("`j`")),
            ("cast(`j` as unsigned)", None),
            ("lower(`a`)", None),
        ] {
            assert_eq!(array_of(expression), want, "{expression}");
        }
    }

    #[test]
    fn expressions_of_the_catalog_are_unescaped() {
        for (shown, want) in [
            ("lower(`a`)", "lower(`a`)"),
            (r"concat(`a`,_utf8mb4\'it\\\'s\')", r"concat(`a`,_utf8mb4'it\'s')"),
            (r"_utf8mb4\'\\n\'", r"_utf8mb4'\n'"),
            ("", ""),
        ] {
            assert_eq!(unescaped(shown), want);
        }
    }
}
