//! Random tables, random ALTERs, random concurrent writers: what comes out is what the native ALTER makes of the final rows.
//!
//! Two kinds of cases. *Stopped*: writers with free choice of statements work while the table is copied, stop, and then the gate is
//! opened; the oracle is a native ALTER of a copy taken after they stopped. If that fails, the migration must fail, and the reverse.
//! *Through*: writers go on before, during and after the cut-over and write each change to a mirror table in the same
//! transaction; the oracle is the mirror, altered natively.
//!
//! `THESEUS_PROPERTY_CASES` (240) cases run; a failure prints the line that runs its case again (its writers race as they like).
use crate::{server, support};

mod model;
mod writers;

use fastrand::Rng;
use model::{Plan, Relations};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use server::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use support::{Db, join};
use theseus::engine::Handle;
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase, Snapshot};
use theseus::engine::contract::spec::{Controls, CutOverPolicy, DeferIndexes, OldTable, VerifyPolicy};
use theseus::sql::create::normalise_definition;
use writers::Writers;

/// More than any step takes.
const LONG: Duration = Duration::from_secs(60);

/// What a case came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Migrated, and every row is right.
    Equal,
    /// Both the engine and the native ALTER refused the rows.
    BothFailed,
    /// The engine refused before it copied anything, or the key that it chose got its first NULL on the way.
    Refused,
}

/// All values of all rows as text that tells any two apart, sorted.
async fn rows(conn: &mut Conn, database: &str, table: &str) -> Vec<String> {
    let columns: Vec<(String, String)> = conn
        .query(format!(
            "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{database}' AND TABLE_NAME = '{table}' ORDER BY ORDINAL_POSITION"
        ))
        .await
        .expect("columns");
    let parts: Vec<String> = columns
        .iter()
        .map(|(name, data_type)| {
            let read = match data_type.as_str() {
                "bit" => format!("HEX(CAST(`{name}` AS UNSIGNED))"),
                "float" => format!("CAST(CAST(`{name}` AS DOUBLE) AS CHAR)"),
                "enum" | "set" => format!("CONCAT(CAST(`{name}` AS UNSIGNED), HEX(CAST(`{name}` AS BINARY)))"),
                "json" | "int" | "bigint" | "double" | "decimal" => format!("CAST(`{name}` AS CHAR)"),
                _ => format!("HEX(CAST(`{name}` AS BINARY))"),
            };
            format!("'{name}=', IFNULL({read}, 'NULL')")
        })
        .collect();
    let sql = format!("SELECT CONCAT({}) FROM `{table}`", parts.join(", ' ', "));
    let mut rows: Vec<String> = conn.query(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    rows.sort_unstable();
    rows
}

async fn definition(conn: &mut Conn, table: &str) -> String {
    let row: (String, String) = conn.query_first(format!("SHOW CREATE TABLE `{table}`")).await.expect("definition").expect("a row");
    normalise_definition(&row.1).expect("understood")
}

/// The child's definition, and the triggers of the table.
async fn relatives(db: &mut Db) -> Vec<String> {
    let sql = "SELECT CONCAT_WS(' ', TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION, ACTION_STATEMENT, DEFINER, SQL_MODE) \
               FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() AND EVENT_OBJECT_TABLE = 't' ORDER BY TRIGGER_NAME";
    let mut all: Vec<String> = db.conn.query(sql).await.expect("triggers");
    if db.tables().await.iter().any(|table| table == "ch") {
        all.push(normalise_definition(&db.definition("ch").await).expect("understood"));
    }
    all
}

/// The rows on one side only.
fn difference(ours: &[String], native: &[String]) -> String {
    let only =
        |a: &[String], b: &[String]| a.iter().filter(|r| b.binary_search(r).is_err()).take(5).cloned().collect::<Vec<_>>().join("\n    ");
    format!(
        "{} rows, native {}\n  only ours:\n    {}\n  only native:\n    {}",
        ours.len(),
        native.len(),
        only(ours, native),
        only(native, ours)
    )
}

fn random_controls(rng: &mut Rng) -> Controls {
    Controls {
        workers: rng.u16(1..=4),
        nice_ratio_percent: [0, 50, 200][rng.usize(..3)],
        defer_indexes: [DeferIndexes::Auto, DeferIndexes::Always, DeferIndexes::Never][rng.usize(..3)],
        // Without it a wrong row cannot be repaired behind the test's back.
        verify: [VerifyPolicy::Always, VerifyPolicy::Never][rng.usize(..2)],
        cut_over_policy: CutOverPolicy::Manual,
        lock_timeout: Duration::from_secs(10),
        old_table: OldTable::DropNow,
        ..Controls::default()
    }
}

/// Holds chunks in flight for longer than a flush cycle, by locking the whole ghost: rows change under a chunk that has read them, and
/// cycles pass meanwhile.
async fn hold_chunks(mut conn: Conn, times: u64) {
    let mut held = 0;
    for _ in 0..200 {
        conn.query_drop("BEGIN").await.expect("begin");
        // As long as there is no ghost, or none any more, there is nothing to hold.
        if conn.query_drop("SELECT n FROM _t_gho FOR UPDATE").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(400)).await;
            held += 1;
        }
        conn.query_drop("ROLLBACK").await.expect("roll back");
        if held == times {
            break;
        }
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    let _ = conn.disconnect().await;
}

/// Waits for a condition, or for the time.
async fn reached(handle: &Handle, limit: Duration, condition: impl Fn(&Snapshot) -> bool) {
    let mut watch = handle.watch();
    let _ = tokio::time::timeout(limit, watch.wait_for(|s| condition(s))).await;
}

async fn case(url: String, seed: u64) -> Result<Verdict, String> {
    let mut rng = Rng::with_seed(seed);
    let plan = Arc::new(Plan::random(&mut rng));
    let mut db = Db::on(&url, "property").await;
    let verdict = run(&mut db, &plan, &mut rng).await.map_err(|e| {
        format!(
            "{e}\n  {}\n  ALTER TABLE t {}\n  database {}\n  again: THESEUS_SEED={seed} cargo test --test mysql properties::",
            plan.create("t"),
            plan.alter,
            db.name
        )
    })?;
    db.drop().await;
    Ok(verdict)
}

async fn run(db: &mut Db, plan: &Arc<Plan>, rng: &mut Rng) -> Result<Verdict, String> {
    for sql in plan.relations.parents() {
        db.run(&sql).await;
    }
    db.run(&plan.create("t")).await;
    if plan.through {
        db.run(&plan.create("m")).await;
    }
    let mut writers = Writers::new(plan);
    if !writers.load(db, rng).await {
        return Ok(Verdict::Refused);
    }
    let empty = {
        // What the ALTER is worth without rows.
        db.run("CREATE TABLE e LIKE t").await;
        let result = db.conn.query_drop(format!("ALTER TABLE e {}, ALGORITHM=COPY", plan.alter)).await;
        db.run("DROP TABLE e").await;
        result
    };
    // Names that a swap has to bring back.
    let mut bound = plan.relations.children();
    bound.extend(plan.relations.triggers("t"));
    if plan.through {
        bound.extend(plan.relations.triggers("m"));
    }
    for sql in bound {
        db.run(&sql).await;
    }
    let relatives = relatives(db).await;
    writers.start(db, rng).await;
    let controls = random_controls(rng);
    let chunks = support::chunks_of(rng.u64(1 + plan.rows as u64 / 80..=1 + plan.rows as u64 / 10));
    let at_first = Controls { throttled_by_user: rng.bool(), ..controls.clone() };
    let handle = theseus::engine::start_in(chunks, db.spec("t", &plan.alter), at_first);
    let over = |s: &Snapshot| s.phase == Phase::Finished;
    reached(&handle, LONG, |s| over(s) || s.phase != Phase::Inspecting).await;
    // From here on changes are seen; the copy begins at once, or in a moment.
    let brake = rng.bool().then(|| rng.u64(1..=2));
    let brake = match brake {
        Some(times) => Some(tokio::spawn(hold_chunks(db.connect().await, times))),
        None => None,
    };
    reached(&handle, Duration::from_millis(rng.u64(0..60)), over).await;
    handle.control(controls.clone());
    // Through the whole copy and a while more, or stopped in the middle.
    let busy = rng.u64(20..600);
    if rng.bool() {
        reached(&handle, Duration::from_secs(2), |s| over(s) || s.progress.copy_complete).await;
    }
    reached(&handle, Duration::from_millis(busy), over).await;
    if let Some(brake) = brake {
        brake.await.map_err(|e| e.to_string())?;
    }
    if !plan.through {
        writers.stop().await?;
    }
    let oracle = if plan.through { "m" } else { "c" };
    if !plan.through {
        // Nobody writes any more: the copy is what the migration must be equal to.
        let list = plan.stored_columns().join(", ");
        db.run(&plan.create("c")).await;
        db.run("SET foreign_key_checks=0").await;
        db.run(&format!("INSERT INTO c ({list}) SELECT {list} FROM t")).await;
        db.run("SET foreign_key_checks=1").await;
    }
    handle.control(Controls { approved: true, ..controls });
    let last = handle.watch();
    let outcome = join(handle).await;
    if std::env::var_os("THESEUS_PROPERTY_VERBOSE").is_some() {
        let s = last.borrow().clone();
        eprintln!(
            "{} rows, through {}, busy {busy} ms: {} copied in {} chunks, {} changes seen, {} applied",
            plan.rows, plan.through, s.progress.rows_copied, s.progress.chunks, s.progress.changes_seen, s.progress.changes_applied
        );
    }
    let repaired = last.borrow().verification.as_ref().map_or(0, |v| v.rows_repaired);
    if repaired > 0 {
        return Err(format!("{repaired} rows differed before the swap and were repaired"));
    }
    if plan.through {
        tokio::time::sleep(Duration::from_millis(30)).await;
        writers.stop().await?;
    }
    let native = db.conn.query_drop(format!("ALTER TABLE {oracle} {}, ALGORITHM=COPY", plan.alter)).await;
    match (outcome, native) {
        (Outcome::Succeeded, Ok(())) => {}
        (Outcome::Succeeded, Err(error)) => return Err(format!("the migration succeeded, the native ALTER fails: {error}")),
        (Outcome::Refused { reason, message }, native) => {
            let key = reason == Reason::NoUsableKey;
            let both = empty.is_err() && native.is_err();
            return if key || both { Ok(Verdict::Refused) } else { Err(format!("refused: {reason}: {message}; native: {native:?}")) };
        }
        (Outcome::Failed { .. }, Err(_)) => return Ok(Verdict::BothFailed),
        // No row had a NULL in `u` at first, so that the engine could take it for the key; then a writer put one there.
        (Outcome::Failed { reason: Reason::NullInKey, message }, _)
            if plan.unique && plan.key_may_be_null && message.contains("NULL in column `u` of the key `uu`") =>
        {
            return Ok(Verdict::Refused);
        }
        (outcome, native) => return Err(format!("the migration ended as {outcome:?}; native: {native:?}")),
    }
    let theirs = Relations::as_t(&definition(&mut db.conn, oracle).await, oracle);
    let ours = definition(&mut db.conn, "t").await;
    if ours != theirs {
        return Err(format!("the definitions differ:\n{ours}\nnative:\n{theirs}"));
    }
    let (ours, theirs) = (rows(&mut db.conn, &db.name, "t").await, rows(&mut db.conn, &db.name, oracle).await);
    if ours != theirs {
        return Err(format!("the rows differ: {}", difference(&ours, &theirs)));
    }
    let tables: Vec<String> = db.tables().await.into_iter().filter(|table| !["p", "ch"].contains(&table.as_str())).collect();
    if tables != [oracle, "t"] {
        return Err(format!("left behind: {tables:?}"));
    }
    let now = self::relatives(db).await;
    if now != relatives {
        return Err(format!("the child or the triggers differ: {now:?}\nbefore: {relatives:?}"));
    }
    for (columns, orphans) in plan.relations.orphans() {
        let found: u64 = db.value(&orphans).await;
        if found > 0 {
            return Err(format!("{found} rows break the foreign key of {columns}"));
        }
    }
    Ok(Verdict::Equal)
}

#[tokio::test(flavor = "multi_thread")]
async fn random_migrations_give_what_the_native_alter_gives() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let one = number("THESEUS_SEED");
    let first = one.unwrap_or_else(|| fastrand::u64(..1 << 48));
    let cases = if one.is_some() { number("THESEUS_PROPERTY_CASES").unwrap_or(1) } else { number("THESEUS_PROPERTY_CASES").unwrap_or(240) };
    eprintln!("{cases} cases from seed {first}");
    let began = std::time::Instant::now();
    // Dates with zeros in them are among the values: a migration takes those that its server takes.
    let server = Server::start(&["--sql-mode=STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO"]);
    let (next, counts) = (Arc::new(AtomicU64::new(0)), Arc::new([const { AtomicUsize::new(0) }; 3]));
    let workers = (0..number("THESEUS_PROPERTY_WORKERS").unwrap_or(6)).map(|_| {
        let (next, counts, url) = (Arc::clone(&next), Arc::clone(&counts), server.url.clone());
        tokio::spawn(async move {
            let mut failures = Vec::new();
            while failures.len() < 3 {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= cases {
                    break;
                }
                let seed = first + n;
                // A panic in a case is its failure, with its seed.
                match tokio::spawn(case(url.clone(), seed))
                    .await
                    .unwrap_or_else(|panic| Err(format!("{panic}\n  again: THESEUS_SEED={seed} cargo test --test mysql properties::")))
                {
                    Ok(verdict) => {
                        counts[verdict as usize].fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        eprintln!("FAILED {error}");
                        failures.push(error);
                    }
                }
            }
            failures
        })
    });
    let failures: Vec<String> = futures::future::join_all(workers).await.into_iter().flat_map(|f| f.expect("a worker")).collect();
    let [equal, both, refused] = [0, 1, 2].map(|i: usize| counts[i].load(Ordering::Relaxed));
    eprintln!("{equal} equal, {both} failed on both sides, {refused} refused; {:.0} s", began.elapsed().as_secs_f32());
    assert!(failures.is_empty(), "{} of {cases} cases failed; the first:\n{}", failures.len(), failures[0]);
    assert!(one.is_some() || equal as u64 * 10 >= cases * 7, "too few cases migrate: the generator is of no use");
}
