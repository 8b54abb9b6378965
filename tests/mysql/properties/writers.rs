//! Writers that do what applications do to a table, several at a time.

use super::model::{PARENTS, Plan, some_parent};
use crate::support::Db;
use fastrand::Rng;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// What a random statement may meet: duplicate, deadlock, lock wait, and values that a key, CHECK or foreign key refuses (1761: a cascade
/// would). The transaction is rolled back then.
const EXPECTED: &[u16] = &[1062, 1213, 1205, 1048, 1264, 1406, 1292, 1366, 3819, 1451, 1452, 1761];

/// The writers of a case.
pub struct Writers {
    plan: Arc<Plan>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<u64, String>>>,
}

/// `n` of the rows that no writer touches.
const POISON: &str = "n = 1000000";

impl Writers {
    pub fn new(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), stop: Arc::new(AtomicBool::new(false)), tasks: Vec::new() }
    }

    /// The rows at the beginning.
    ///
    /// False: there is no room for the rows that the case needs.
    pub async fn load(&mut self, db: &mut Db, rng: &mut Rng) -> bool {
        let plan = &self.plan;
        let list = plan.stored_columns().join(", ");
        db.run("SET unique_checks=0").await;
        let rows: Vec<String> = (0..plan.rows).map(|_| format!("({})", plan.row(rng).join(", "))).collect();
        for rows in rows.chunks(50) {
            let sql = format!("INSERT IGNORE INTO t ({list}) VALUES {}", rows.join(", "));
            db.conn.query_drop(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        if plan.poison {
            // Two at least; a key of few values may have no room for them.
            for _ in 0..20 {
                let mut row = plan.row(rng);
                let n = row.len() - 1;
                row[n] = "1000000".to_owned();
                // And no parent or unique value by which it goes.
                for at in 1..=1 + plan.relations.columns().len() {
                    row[n - at] = "NULL".to_owned();
                }
                db.run(&format!("INSERT IGNORE INTO t ({list}) VALUES ({})", row.join(", "))).await;
            }
        }
        if plan.through {
            db.run(&format!("INSERT INTO m ({list}) SELECT {list} FROM t")).await;
        }
        !plan.poison || db.value::<u64>(&format!("SELECT COUNT(*) FROM t WHERE {POISON}")).await >= 2
    }

    pub async fn start(&mut self, db: &Db, rng: &mut Rng) {
        for _ in 0..rng.usize(1..=4) {
            let (conn, plan, stop) = (db.connect().await, Arc::clone(&self.plan), Arc::clone(&self.stop));
            let rng = rng.fork();
            self.tasks.push(tokio::spawn(write(conn, plan, stop, rng)));
        }
    }

    /// Waits until the last one is done.
    pub async fn stop(&mut self) -> Result<u64, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut statements = 0;
        for task in self.tasks.drain(..) {
            statements += task.await.map_err(|e| e.to_string())??;
        }
        Ok(statements)
    }
}

async fn write(mut conn: Conn, plan: Arc<Plan>, stop: Arc<AtomicBool>, mut rng: Rng) -> Result<u64, String> {
    // A mirror needs gap locks: with READ COMMITTED a row may come between the statement that does not find it and the mirror's.
    let level = ["REPEATABLE READ", "SERIALIZABLE", "READ COMMITTED"][rng.usize(..if plan.through { 2 } else { 3 })];
    for setting in [format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}"), "SET SESSION innodb_lock_wait_timeout = 3".to_owned()] {
        conn.query_drop(setting).await.map_err(|e| e.to_string())?;
    }
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let statements = if plan.relations.any() && rng.u8(..8) == 0 {
            relative(&plan, &mut rng)
        } else if plan.through {
            mirrored(&operation(&plan, &mut rng))
        } else {
            free(&plan, &mut rng)
        };
        for sql in &statements {
            match conn.query_drop(sql).await {
                Ok(()) => count += 1,
                Err(mysql_async::Error::Server(e)) if EXPECTED.contains(&e.code) => {
                    if e.code == 1062 && sql.contains("/* mirror */") {
                        return Err(format!("the mirror is not the table any more: {sql}: {e}"));
                    }
                    conn.query_drop("ROLLBACK").await.map_err(|e| e.to_string())?;
                    break;
                }
                Err(error) => return Err(format!("a writer failed: {sql}: {error}")),
            }
        }
        if rng.bool() {
            tokio::time::sleep(Duration::from_micros(rng.u64(..3000))).await;
        }
    }
    Ok(count)
}

fn insert(plan: &Plan, rng: &mut Rng, verb: &str) -> String {
    format!("{verb} INTO t ({}) VALUES ({})", plan.stored_columns().join(", "), plan.row(rng).join(", "))
}

/// `k0 = …, p1 = …`
fn assignments(plan: &Plan, rng: &mut Rng, keys: bool) -> String {
    let mut out = Vec::new();
    if keys {
        let c = &plan.key[rng.usize(..plan.key.len())];
        out.push(format!("{} = {}", c.name, c.value(rng)));
    }
    if !keys || rng.bool() {
        let c = &plan.payload[rng.usize(..plan.payload.len())];
        out.push(format!("{} = {}", c.name, c.value(rng)));
    }
    if rng.u8(..3) == 0 {
        out.push(format!("n = {}", rng.u8(..100)));
    }
    if rng.u8(..3) == 0 {
        out.push(format!("u = {}", plan.unique_value(rng)));
    }
    if plan.relations.parent.is_some() && rng.u8(..3) == 0 {
        out.push(format!("f = {}", some_parent(rng)));
    }
    if plan.relations.own && rng.u8(..6) == 0 {
        out.push(format!("boss = {}", plan.unique_value(rng)));
    }
    out.join(", ")
}

/// A transaction whose statements name rows by their keys only, so that a mirror can follow.
fn operation(plan: &Plan, rng: &mut Rng) -> Vec<String> {
    let spare = || format!("NOT ({POISON})");
    let begin = || "BEGIN".to_owned();
    let commit = |rng: &mut Rng| if rng.u8(..6) == 0 { "ROLLBACK".to_owned() } else { "COMMIT".to_owned() };
    match rng.u8(..12) {
        0..=2 => vec![begin(), insert(plan, rng, "INSERT"), commit(rng)],
        3 | 4 => vec![
            begin(),
            format!("UPDATE t SET {} WHERE {} AND {}", assignments(plan, rng, false), plan.some_key(rng), spare()),
            commit(rng),
        ],
        // The row gets another key.
        5 | 6 => vec![
            begin(),
            format!("UPDATE t SET {} WHERE {} AND {}", assignments(plan, rng, true), plan.some_key(rng), spare()),
            commit(rng),
        ],
        7 => vec![begin(), format!("DELETE FROM t WHERE {} AND {}", plan.some_key(rng), spare()), commit(rng)],
        // Two rows exchange a unique value.
        8 => {
            let (a, b) = (plan.some_key(rng), plan.some_key(rng));
            vec![
                begin(),
                "SET @a = -1, @b = -1".to_owned(),
                format!("SELECT u INTO @a FROM t WHERE {a} AND {} FOR UPDATE", spare()),
                format!("SELECT u INTO @b FROM t WHERE {b} AND {} FOR UPDATE", spare()),
                format!("UPDATE t SET u = NULL WHERE {a} AND @b <> -1 AND @a <> -1 AND {}", spare()),
                format!("UPDATE t SET u = @a WHERE {b} AND @b <> -1 AND @a <> -1 AND {}", spare()),
                format!("UPDATE t SET u = @b WHERE {a} AND @b <> -1 AND @a <> -1 AND {}", spare()),
                commit(rng),
            ]
        }
        // Part of a transaction is taken back.
        9 => vec![
            begin(),
            insert(plan, rng, "INSERT"),
            "SAVEPOINT s".to_owned(),
            format!("DELETE FROM t WHERE {} AND {}", plan.some_key(rng), spare()),
            insert(plan, rng, "INSERT"),
            "ROLLBACK TO SAVEPOINT s".to_owned(),
            format!("UPDATE t SET {} WHERE {} AND {}", assignments(plan, rng, false), plan.some_key(rng), spare()),
            commit(rng),
        ],
        // One row again and again.
        10 => {
            let key = plan.some_key(rng);
            let mut out = vec![begin()];
            out.extend(
                (0..rng.usize(1..12)).map(|_| format!("UPDATE t SET {} WHERE {key} AND {}", assignments(plan, rng, false), spare())),
            );
            out.push(commit(rng));
            out
        }
        // A row goes and another one comes with its unique value, or its key.
        _ => {
            let key = plan.some_key(rng);
            vec![
                begin(),
                "SET @a = NULL".to_owned(),
                format!("SELECT u INTO @a FROM t WHERE {key} AND {} FOR UPDATE", spare()),
                format!("DELETE FROM t WHERE {key} AND {}", spare()),
                insert(plan, rng, "INSERT"),
                format!("UPDATE t SET u = @a WHERE {} AND {}", plan.some_key(rng), spare()),
                commit(rng),
            ]
        }
    }
}

/// What happens to the tables that the table is bound to. A cascade reaches table and mirror alike.
fn relative(plan: &Plan, rng: &mut Rng) -> Vec<String> {
    let id = rng.u8(1..=PARENTS);
    if plan.relations.parent.is_none() || (plan.relations.child.is_some() && rng.bool()) {
        if plan.relations.child.is_none() {
            return Vec::new();
        }
        return vec![match rng.u8(..3) {
            0 => format!("DELETE FROM ch WHERE id % 20 = {id}"),
            1 => format!("UPDATE ch SET u = {} WHERE id % 20 = {id}", plan.unique_value(rng)),
            _ => format!("INSERT INTO ch (u) VALUES ({})", plan.unique_value(rng)),
        }];
    }
    match rng.u8(..4) {
        0 => vec![format!("DELETE FROM p WHERE id = {id}")],
        1 => vec![format!("UPDATE p SET id = {} WHERE id = {id}", rng.u8(1..=PARENTS))],
        _ => vec![format!("INSERT IGNORE INTO p VALUES ({id})")],
    }
}

/// Each change of `t` to `m` as well.
fn mirrored(statements: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for sql in statements {
        out.push(sql.clone());
        let other =
            sql.replacen("INTO t ", "INTO m ", 1).replacen("UPDATE t ", "UPDATE m ", 1).replacen("DELETE FROM t ", "DELETE FROM m ", 1);
        if other != *sql && !sql.starts_with("SELECT") {
            out.push(other + " /* mirror */");
        }
    }
    out
}

/// [`operation`], or what only a table of its own can take.
fn free(plan: &Plan, rng: &mut Rng) -> Vec<String> {
    let spare = format!("NOT ({POISON})");
    match rng.u8(..24) {
        0 if !plan.poison => vec![format!("{} ON DUPLICATE KEY UPDATE {}", insert(plan, rng, "INSERT"), assignments(plan, rng, false))],
        1 if !plan.poison => vec![insert(plan, rng, "REPLACE")],
        2 => vec![insert(plan, rng, "INSERT IGNORE")],
        3 => vec![format!("UPDATE t SET {} WHERE {spare} ORDER BY k0 LIMIT {}", assignments(plan, rng, false), rng.u8(1..20))],
        4 => vec![format!("DELETE FROM t WHERE {spare} ORDER BY k0 DESC LIMIT {}", rng.u8(1..4))],
        5 => vec![format!("UPDATE t SET n = n + 1 WHERE {spare} AND n < 100")],
        6 if rng.u8(..50) == 0 => vec![format!("DELETE FROM t WHERE {spare}")],
        7 => {
            let mut out = vec!["BEGIN".to_owned()];
            out.extend((0..rng.usize(1..30)).map(|_| insert(plan, rng, "INSERT IGNORE")));
            out.push(if rng.u8(..5) == 0 { "ROLLBACK" } else { "COMMIT" }.to_owned());
            out
        }
        // Outside of a transaction.
        8 => vec![format!("UPDATE t SET {} WHERE {} AND {spare}", assignments(plan, rng, true), plan.some_key(rng))],
        _ => operation(plan, rng),
    }
}
