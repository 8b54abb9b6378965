//! The matrix of column type pairs: what the engine's mapping stores for a value is what the native ALTER stores, or both refuse it.
//!
//! The statements are those of the engine ([`Conversion::expression`] in an INSERT … SELECT, warnings read by
//! [`check_warnings`]) in a session of its own kind. Temporary tables make thousands of ALTERs cheap; the code that converts
//! a value is the same for them (`copy_data_between_tables` in the server).
use crate::{server, support};

use futures::StreamExt;
use server::Server;
use std::collections::BTreeMap;
use support::types::{TYPES, TypeCase};
use support::{Db, address, controls, join, until};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::Outcome;
use theseus::engine::contract::spec::{Controls, CutOverPolicy};
use theseus::engine::rows::transaction::check_warnings;
use theseus::engine::{EngineError, start, table::inspector};
use theseus::mysql::Session;
use theseus::mysql::session::SHORT;
use theseus::sql::mapping::conversion;
use theseus::sql::table::{Column, ColumnType};

/// What to read of a stored value so that two different ones never look alike.
fn reading(column: &Column) -> &'static str {
    match column.column_type {
        ColumnType::Enum { .. } | ColumnType::Set { .. } => "CONCAT(CAST(v AS UNSIGNED), ':', HEX(CAST(v AS BINARY)))",
        ColumnType::Bit { .. } => "HEX(CAST(v AS UNSIGNED))",
        ColumnType::Json => "CONCAT(JSON_TYPE(v), ':', CAST(v AS CHAR))",
        // Sixteen digits tell all values apart.
        ColumnType::Float { .. } => "CONCAT(FORMAT(CAST(v AS DOUBLE), 30), ':', CAST(v AS CHAR), ':', CAST(CAST(v AS DOUBLE) AS CHAR))",
        ColumnType::Geometry | ColumnType::Vector => "HEX(v)",
        _ => "HEX(CAST(v AS BINARY))",
    }
}

async fn run(session: &mut Session, sql: &str) -> Result<(), String> {
    session.run("matrix", SHORT, sql).await.map_err(|e| e.to_string())
}

async fn must(session: &mut Session, sql: &str) {
    run(session, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

type Stored = BTreeMap<u32, Option<String>>;

async fn stored(session: &mut Session, table: &str, column: &Column) -> Stored {
    let sql = format!("SELECT id, {} FROM {table}", reading(column));
    let rows: Vec<(u32, Option<Vec<u8>>)> = session.rows("matrix", SHORT, &sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    rows.into_iter().map(|(id, v)| (id, v.map(|v| String::from_utf8_lossy(&v).into_owned()))).collect()
}

/// Where the engine refuses what the native ALTER takes: each changes data there without a word. From, to, and what the server does
/// with it; the same words stand in `docs/reference/conversions.md`.
const STRICTER: &[(&str, &str, &str)] = &[
    ("TEXT, BLOB", "DECIMAL", "reads the leading number of the text: `2024-01-31` becomes 2024"),
    ("TEXT, BLOB", "BIT", "reads the leading number of the text: `1.5` becomes 1, `a` and the empty string become 0"),
    ("CHAR, VARCHAR in utf16, utf16le, utf32, ucs2", "BIT", "the same"),
    ("GEOMETRY, VECTOR", "BIT", "stores 0"),
    ("FLOAT", "BIGINT", "stores the lowest BIGINT for every value beyond 64 bits"),
    ("BLOB, BIT", "VECTOR", "stores bytes that are not a vector"),
];

type Exception = &'static (&'static str, &'static str, &'static str);

/// The row of [`STRICTER`] for a pair.
fn stricter(from: &Column, to: &Column) -> Option<Exception> {
    use ColumnType as T;
    let wide = || from.charset.as_deref().is_some_and(|c| c.starts_with("utf16") || c == "utf32" || c == "ucs2");
    let row = match (&from.column_type, &to.column_type) {
        (T::Text | T::Blob, T::Decimal { .. }) => 0,
        (T::Text | T::Blob, T::Bit { .. }) => 1,
        (T::Char { .. } | T::VarChar { .. }, T::Bit { .. }) if wide() => 2,
        (T::Geometry | T::Vector, T::Bit { .. }) => 3,
        (T::Float { double: false }, T::Integer { bits: 64, unsigned: false }) => 4,
        (T::Blob | T::Bit { .. }, T::Vector) => 5,
        _ => return None,
    };
    STRICTER.get(row)
}

/// What is kept where the native ALTER refuses or loses it: dates that no calendar has, left by sessions with ALLOW_INVALID_DATES, in a
/// column whose type stays; the bits of a VECTOR that BIT has room for.
fn kept(from: &Column, to: &Column, value: &str) -> bool {
    let bits = matches!((&from.column_type, &to.column_type), (ColumnType::Vector, ColumnType::Bit { .. }));
    bits || (from.column_type == to.column_type && value == INVALID_DATE)
}

const INVALID_DATE: &str = "'2023-02-31'";

/// One difference between the native ALTER and the engine.
#[derive(Debug)]
struct Difference {
    from: &'static str,
    to: &'static str,
    conversion: String,
    value: String,
    native: String,
    ours: String,
}

/// Column definitions as the inspector reads them.
async fn columns(db: &mut Db) -> Vec<Column> {
    let mut session = Session::open(&address(&db.url)).await.expect("connect");
    let mut out = Vec::new();
    for case in TYPES {
        db.run("DROP TABLE IF EXISTS one").await;
        db.run(&format!("CREATE TABLE one (id INT PRIMARY KEY, v {} NULL)", case.ddl)).await;
        let table = inspector::table(&mut session, &db.name, "one").await.expect("inspect").expect("there");
        out.push(table.definition.columns[1].clone());
    }
    db.run("DROP TABLE one").await;
    out
}

struct Matrix {
    session: Session,
    /// `n` is not like `o` any more.
    altered: bool,
    columns: Vec<Column>,
}

impl Matrix {
    async fn open(db: &Db, columns: Vec<Column>) -> Self {
        let mut session = Session::open(&address(&db.url)).await.expect("connect");
        must(&mut session, &format!("USE `{}`", db.name)).await;
        for (i, case) in TYPES.iter().enumerate() {
            must(&mut session, &format!("CREATE TEMPORARY TABLE g{i} (id INT PRIMARY KEY, v {} NULL)", case.ddl)).await;
        }
        Self { session, altered: true, columns }
    }

    /// Fills `o` with the values that the type takes; returns them by id.
    async fn fill(&mut self, case: &TypeCase) -> BTreeMap<u32, &'static str> {
        self.altered = true;
        let s = &mut self.session;
        must(s, "DROP TEMPORARY TABLE IF EXISTS o").await;
        must(s, &format!("CREATE TEMPORARY TABLE o (id INT PRIMARY KEY, v {} NULL)", case.ddl)).await;
        let mut values = BTreeMap::from([(0, "NULL")]);
        must(s, "INSERT INTO o VALUES (0, NULL)").await;
        for (i, value) in case.values.iter().enumerate() {
            let id = u32::try_from(i).expect("few") + 1;
            if run(s, &format!("INSERT INTO o VALUES ({id}, {value})")).await.is_ok() {
                values.insert(id, value);
            }
        }
        if case.ddl.starts_with("ENUM") {
            // What a session without strict mode leaves.
            must(s, "SET sql_mode=''").await;
            must(s, "INSERT INTO o VALUES (1000, 'no such label')").await;
            must(s, "SET sql_mode='STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'").await;
            values.insert(1000, "(the error value)");
        }
        if case.ddl.starts_with("DATE") {
            must(s, "SET sql_mode='ALLOW_INVALID_DATES'").await;
            must(s, &format!("INSERT INTO o VALUES (1000, {INVALID_DATE})")).await;
            must(s, "SET sql_mode='STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'").await;
            values.insert(1000, INVALID_DATE);
        }
        values
    }

    /// The native ALTER of a copy with these rows.
    async fn native(&mut self, ids: &str, to: usize) -> Result<Stored, String> {
        let s = &mut self.session;
        let fresh = if self.altered { "DROP TEMPORARY TABLE IF EXISTS n; CREATE TEMPORARY TABLE n LIKE o" } else { "DELETE FROM n" };
        // A refused ALTER leaves `n` as it was.
        self.altered = false;
        must(s, &format!("{fresh}; INSERT INTO n SELECT * FROM o WHERE id IN ({ids})")).await;
        run(s, &format!("ALTER TABLE n MODIFY v {} NULL, ALGORITHM=COPY", TYPES[to].ddl)).await?;
        self.altered = true;
        Ok(stored(s, "n", &self.columns[to].clone()).await)
    }

    /// The engine's statement for these rows.
    async fn ours(&mut self, ids: &str, expression: &str, to: usize) -> Result<(), EngineError> {
        let s = &mut self.session;
        let sql = format!("INSERT INTO g{to} (id, v) SELECT id, {expression} FROM o WHERE id IN ({ids})");
        let written = s.write("matrix", SHORT, &sql).await?;
        if written.warnings > 0
            && let Err(error) = check_warnings(s, &[], 0, false).await
        {
            must(s, &format!("DELETE FROM g{to} WHERE id IN ({ids})")).await;
            return Err(error);
        }
        Ok(())
    }

    /// Compares one pair; returns the number of values.
    async fn pair(
        &mut self,
        from: usize,
        to: usize,
        values: &BTreeMap<u32, &'static str>,
        out: &mut Vec<Difference>,
        seen: &mut Vec<Exception>,
    ) -> usize {
        let chosen = conversion(&self.columns[from], &self.columns[to]);
        let expression = chosen.expression("`v`");
        let mut difference = |value: &str, native: String, ours: String| {
            out.push(Difference {
                from: TYPES[from].ddl,
                to: TYPES[to].ddl,
                conversion: format!("{chosen:?}"),
                value: value.to_owned(),
                native,
                ours,
            });
        };
        must(&mut self.session, &format!("DELETE FROM g{to}")).await;
        let list = |ids: &[u32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        // All at once; where one of them is refused, each alone.
        let mut taken: Vec<u32> = values.keys().copied().collect();
        let mut refused = Vec::new();
        if self.ours(&list(&taken), &expression, to).await.is_err() {
            taken.clear();
            for id in values.keys() {
                match self.ours(&id.to_string(), &expression, to).await {
                    Ok(()) => taken.push(*id),
                    Err(error) => refused.push((*id, error)),
                }
            }
        }
        let column = self.columns[to].clone();
        let ours = stored(&mut self.session, &format!("g{to}"), &column).await;
        match self.native(&list(&taken), to).await {
            Ok(native) => {
                for id in &taken {
                    if native[id] != ours[id] && !kept(&self.columns[from], &column, values[id]) {
                        difference(values[id], format!("{:?}", native[id]), format!("{:?}", ours[id]));
                    }
                }
            }
            Err(_) => {
                for id in &taken {
                    match self.native(&id.to_string(), to).await {
                        Ok(native) if native[id] == ours[id] => {}
                        _ if kept(&self.columns[from], &column, values[id]) => {}
                        Ok(native) => difference(values[id], format!("{:?}", native[id]), format!("{:?}", ours[id])),
                        Err(error) => difference(values[id], error, format!("{:?}", ours[id])),
                    }
                }
            }
        }
        for (id, error) in refused {
            if error.reason != Reason::DataDoesNotFit {
                difference(values[&id], "(a refusal must have the reason DataDoesNotFit)".into(), format!("{}: {error}", error.reason));
            }
            if let Ok(native) = self.native(&id.to_string(), to).await {
                match stricter(&self.columns[from], &column) {
                    Some(row) => seen.push(row),
                    None => difference(values[&id], format!("{:?}", native[&id]), error.to_string()),
                }
            }
        }
        values.len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_stores_what_the_native_alter_stores() {
    let mut db = Db::new("conversions").await;
    let columns = columns(&mut db).await;
    let next = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let only = std::env::var("THESEUS_FROM").ok();
    let mut workers = Vec::new();
    let began = std::time::Instant::now();
    for _ in 0..3 {
        let mut matrix = Matrix::open(&db, columns.clone()).await;
        let (next, only) = (next.clone(), only.clone());
        workers.push(tokio::spawn(async move {
            let (mut out, mut seen, mut count) = (Vec::new(), Vec::new(), 0);
            loop {
                let from = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(case) = TYPES.get(from) else { break };
                if only.as_ref().is_some_and(|o| !case.ddl.starts_with(o.as_str())) {
                    continue;
                }
                let values = matrix.fill(case).await;
                for to in 0..TYPES.len() {
                    count += matrix.pair(from, to, &values, &mut out, &mut seen).await;
                }
            }
            (out, seen, count)
        }));
    }
    let (mut differences, mut exceptions, mut count) = (Vec::new(), Vec::new(), 0);
    for worker in workers {
        let (out, seen, n) = worker.await.expect("a worker");
        differences.extend(out);
        exceptions.extend(seen);
        count += n;
    }
    eprintln!("{} pairs, {count} values, {:.1} s", TYPES.len() * TYPES.len(), began.elapsed().as_secs_f32());
    db.drop().await;
    for d in &differences {
        eprintln!("DIFF {} -> {} [{}] {}\n    native {}\n    ours   {}", d.from, d.to, d.conversion, d.value, d.native, d.ours);
    }
    assert!(differences.is_empty(), "{} values differ", differences.len());
    if only.is_none() {
        for row in STRICTER {
            assert!(exceptions.contains(&row), "{row:?} is no exception any more: take it out, here and in the page");
        }
    }
}

#[test]
fn the_page_has_the_exceptions() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/conversions.md")).expect("the page");
    for (from, to, what) in STRICTER {
        let row = format!("| {from} | {to} | {what} |");
        assert!(page.contains(&row), "docs/reference/conversions.md lacks the row\n{row}");
    }
}

/// Columns of one table of the engine's part.
const COLUMNS: usize = 16;

/// A column that an engine migrates: from, to, and values that both sides take.
struct Migrated {
    from: &'static str,
    to: &'static str,
    column: Column,
    values: Vec<&'static str>,
}

impl Matrix {
    /// Three targets for each type.
    async fn migrated(&mut self) -> Vec<Migrated> {
        let mut out = Vec::new();
        for (from, case) in TYPES.iter().enumerate() {
            let values = self.fill(case).await;
            for k in 1..=3 {
                let to = (from + k * 19) % TYPES.len();
                let expression = conversion(&self.columns[from], &self.columns[to]).expression("`v`");
                must(&mut self.session, &format!("DELETE FROM g{to}")).await;
                let mut taken = Vec::new();
                for (id, value) in &values {
                    let literal = *id < 1000;
                    if literal
                        && self.native(&id.to_string(), to).await.is_ok()
                        && self.ours(&id.to_string(), &expression, to).await.is_ok()
                    {
                        taken.push(*value);
                    }
                }
                out.push(Migrated { from: case.ddl, to: TYPES[to].ddl, column: self.columns[to].clone(), values: taken });
            }
        }
        out
    }
}

/// The whole engine, some forty rows: half of them copied, the others changed or inserted after the copy.
async fn migrate_columns(url: &str, columns: &[Migrated]) -> Vec<String> {
    let mut db = Db::on(url, "converted").await;
    let rows = columns.iter().map(|c| c.values.len()).max().unwrap_or(0);
    let define = |c: &Migrated, i: usize| format!("c{i} {} NULL", c.from);
    let definitions: Vec<String> = columns.iter().enumerate().map(|(i, c)| define(c, i)).collect();
    db.run(&format!("CREATE TABLE t (id INT PRIMARY KEY, {})", definitions.join(", "))).await;
    let row = |n: usize| columns.iter().map(|c| c.values[n % c.values.len()]).collect::<Vec<_>>();
    for n in 0..rows {
        db.run(&format!("INSERT INTO t VALUES ({n}, {})", row(n).join(", "))).await;
    }
    let clauses: Vec<String> = columns.iter().enumerate().map(|(i, c)| format!("MODIFY c{i} {} NULL", c.to)).collect();
    let alter = clauses.join(", ");
    let waiting = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let handle = start(db.spec("t", &alter), waiting.clone());
    until(&handle, "all is copied", |s| s.progress.copy_complete).await;
    for n in (0..rows).step_by(2) {
        let values = row(n + 1).iter().enumerate().map(|(i, v)| format!("c{i} = {v}")).collect::<Vec<_>>().join(", ");
        db.run(&format!("UPDATE t SET {values} WHERE id = {n}")).await;
        db.run(&format!("INSERT INTO t VALUES ({}, {})", 1000 + n, row(n + 2).join(", "))).await;
    }
    db.run("DELETE FROM t WHERE id IN (1, 2, 1004)").await;
    db.run("CREATE TABLE n LIKE t").await;
    db.run("INSERT INTO n SELECT * FROM t").await;
    handle.control(Controls { approved: true, ..waiting });
    let outcome = join(handle).await;
    if outcome != Outcome::Succeeded {
        return vec![format!("{alter}: {outcome:?}")];
    }
    db.run(&format!("ALTER TABLE n {alter}, ALGORITHM=COPY")).await;
    let mut differences = Vec::new();
    for (i, c) in columns.iter().enumerate() {
        let read = reading(&c.column).replace("v AS", &format!("c{i} AS")).replace("(v)", &format!("(c{i})"));
        let sql = |table: &str| format!("SELECT id, {read} FROM {table} ORDER BY id");
        let (ours, native) = (db.rows(&sql("t")).await, db.rows(&sql("n")).await);
        let unequal: Vec<String> = ours.iter().zip(&native).filter(|(a, b)| a != b).map(|(a, b)| format!("{a:?}, native {b:?}")).collect();
        if !unequal.is_empty() || ours.len() != native.len() {
            differences.push(format!("{} to {}: {}", c.from, c.to, unequal.join("; ")));
        }
    }
    db.drop().await;
    differences
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_converts_copied_and_changed_rows() {
    let mut db = Db::new("columns").await;
    let columns = columns(&mut db).await;
    let mut matrix = Matrix::open(&db, columns).await;
    let migrated = matrix.migrated().await;
    // Dates with zeros in them are among the values: a migration takes those that its server takes.
    let server = Server::start(&["--sql-mode=STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO"]);
    let tables = futures::stream::iter(migrated.chunks(COLUMNS).map(|columns| migrate_columns(&server.url, columns)));
    let differences: Vec<String> = tables.buffer_unordered(3).concat().await;
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    eprintln!("{} columns through the engine", migrated.len());
    db.drop().await;
}

/// A value that does not fit: column, change, value that fits, value that does not.
const MISFITS: &[(&str, &str, &str, &str)] = &[
    ("INT", "TINYINT", "1", "300"),
    ("INT", "INT UNSIGNED", "1", "-1"),
    ("VARCHAR(20)", "VARCHAR(3)", "'abc'", "'abcd'"),
    ("VARCHAR(20) CHARACTER SET utf8mb4", "VARCHAR(20) CHARACTER SET latin1", "'é'", "'😀'"),
    ("VARCHAR(20)", "INT", "'12'", "'12x'"),
    ("VARCHAR(20)", "DATE", "'2024-02-29'", "'2024-02-30'"),
    ("VARCHAR(20)", "JSON", "'[1]'", "'[1'"),
    ("INT", "INT NOT NULL", "1", "NULL"),
    ("ENUM('a','b')", "ENUM('a')", "'a'", "'b'"),
    ("DATETIME", "TIMESTAMP", "'2024-01-01'", "'2039-01-01'"),
    ("TEXT", "DECIMAL(10,2)", "'1.5'", "'2024-01-31'"),
    ("INT", "INT CHECK (v < 10)", "1", "11"),
];

async fn misfit((from, to, good, bad): (&str, &str, &str, &str), later: bool) {
    let mut db = Db::new("misfit").await;
    let pair = format!("{from} to {to}, {bad}, {}", if later { "changed" } else { "copied" });
    db.run(&format!("CREATE TABLE t (id INT PRIMARY KEY, v {from})")).await;
    db.run(&format!("INSERT INTO t VALUES (1, {good}), (2, {good})")).await;
    let waiting = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let change = format!("UPDATE t SET v = {bad} WHERE id = 2");
    if !later {
        db.run(&change).await;
    }
    let handle = start(db.spec("t", &format!("MODIFY v {to}")), waiting);
    if later {
        until(&handle, "all is copied", |s| s.progress.copy_complete).await;
        db.run(&change).await;
    }
    let before = (db.definition("t").await, db.rows("SELECT * FROM t ORDER BY id").await);
    match join(handle).await {
        Outcome::Failed { reason: Reason::DataDoesNotFit, message } => {
            assert!(message.to_lowercase().contains("column") || message.contains("constraint"), "{pair}: {message}")
        }
        other => panic!("{pair}: {other:?}"),
    }
    assert_eq!((db.definition("t").await, db.rows("SELECT * FROM t ORDER BY id").await), before, "{pair}: the original was touched");
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_do_not_fit_fail_the_migration() {
    let both = MISFITS.iter().flat_map(|m| [(*m, false), (*m, true)]);
    futures::stream::iter(both).map(|(m, later)| misfit(m, later)).buffer_unordered(4).collect::<Vec<()>>().await;
}
