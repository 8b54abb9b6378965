//! Whatever a server is told, a migration leaves what a native ALTER by that server's clients leaves, or refuses as that does.
//!
//! Each variable of the server that the test runs on is set globally to something else, on servers of the test's own: one at a time if our
//! sessions or the server's clients could feel it, else some together, and each alone if that is not equal. Tables with every type are migrated under writes, their twins are altered by the `mysql` client, and both are compared by a third party
//! (`oracle.rs`). `profiles.rs` does the same on servers with the settings of managed services.
//!
//! `THESEUS_VARIABLE=a,b` tries these variables only (also `a*`, `SESSION`, `GLOBAL`); `THESEUS_VARIABLE_SERVERS` (3) are used at once; `THESEUS_UPDATE=1` writes `docs/reference/session-variables.md` anew.

mod client;
mod expected;
mod oracle;
mod page;
mod profiles;
mod subject;
mod trial;
mod values;

use crate::support::{self, Db};
use oracle::Reader;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use theseus::engine::contract::spec::Algorithm;
use theseus::mysql::variables::Class;
use trial::{Bench, Ended, NotSet};
use values::{Plan, Scope, Variable};

/// Servers at once.
const SERVERS: usize = 3;

/// Variables that are set together; of those that no session has, a third can only be read.
const TOGETHER: usize = 20;

/// What came of a variable.
pub struct Tried {
    name: String,
    scope: Scope,
    values: Vec<Value>,
    not: Not,
}

/// Why there is no value, or none of some.
#[derive(Clone, PartialEq, Eq)]
pub enum Not {
    /// There is.
    Tried,
    ReadOnly,
    /// What was tried, and the number of the server's error.
    Refused(String, u16),
    Why(&'static str),
}

/// One value of a variable.
pub struct Value {
    shown: String,
    ends: Vec<(&'static str, Algorithm, Ended)>,
    /// Global variables that could not be set back.
    left: Vec<String>,
}

async fn one_value(bench: &mut Bench, name: &str, sql: &str, shown: String) -> Value {
    let mut client = bench.client();
    let mut value = Value { shown, ends: Vec::new(), left: Vec::new() };
    for subject in subject::subjects(name, sql) {
        let began = Instant::now();
        let ended = bench.trial(subject, &mut client).await;
        eprintln!("{name} = {}: {}: {ended:?} ({} ms)", value.shown, subject.name, began.elapsed().as_millis());
        value.ends.push((subject.name, subject.algorithm, ended));
    }
    value.left = bench.reset().await;
    value
}

async fn try_all(bench: &mut Bench, variable: &Variable) -> Tried {
    let mut tried = Tried { name: variable.name.clone(), scope: variable.scope, values: Vec::new(), not: Not::Tried };
    let (values, by_number) = match values::plan(variable) {
        Plan::Values(values) => (values, false),
        Plan::Words => ((0..16).map(|n| n.to_string()).collect(), true),
        Plan::Not(why) => {
            tried.not = Not::Why(why);
            return tried;
        }
    };
    let mut seen = vec![variable.value.clone()];
    for sql in values {
        let now = match bench.set(variable, &sql).await {
            Ok(now) => now,
            Err(NotSet::ReadOnly) => {
                tried.not = Not::ReadOnly;
                break;
            }
            // Beyond the last word.
            Err(NotSet::Refused(_)) if by_number && sql != "0" && seen.len() > 1 => break,
            Err(NotSet::Refused(code)) => {
                if tried.not == Not::Tried {
                    tried.not = Not::Refused(sql, code);
                }
                continue;
            }
        };
        if by_number && seen.contains(&now) {
            continue;
        }
        seen.push(now.clone());
        let shown = if by_number { now } else { sql.clone() };
        tried.values.push(one_value(bench, &variable.name, &sql, shown).await);
    }
    bench.reset().await;
    tried
}

/// Whether a variable may be set together with others: no session has it, or nothing that a migration does depends on it, and it has neither
/// rules nor exceptions.
fn is_remote(variable: &Variable) -> bool {
    let name = variable.name.as_str();
    let remote = match variable.scope {
        Scope::Global => true,
        Scope::Both => theseus::mysql::variables::class_of(name) == Some(Class::NoEffect),
        Scope::Session => false,
    };
    // How many words there are is found by trying.
    remote
        && !matches!(values::plan(variable), Plan::Words)
        && !expected::has_exceptions(name)
        && subject::RULES.iter().all(|rule| !rule.with.contains(&name))
}

/// Tries variables together: if all is equal, it is for each of them. If not, or if one is in another's way, each is tried alone.
async fn try_together(bench: &mut Bench, variables: &[Variable]) -> Vec<Tried> {
    let mut all: Vec<Option<Tried>> = Vec::new();
    let mut plans: Vec<VecDeque<String>> = Vec::new();
    for variable in variables {
        let (plan, not) = match values::plan(variable) {
            Plan::Values(values) => (values.into(), Not::Tried),
            Plan::Not(why) => (VecDeque::new(), Not::Why(why)),
            Plan::Words => panic!("how many words {} has is found by trying them one after the other", variable.name),
        };
        plans.push(plan);
        all.push(Some(Tried { name: variable.name.clone(), scope: variable.scope, values: Vec::new(), not }));
    }
    while plans.iter().any(|plan| !plan.is_empty()) {
        let mut set = Vec::new();
        for ((variable, plan), tried) in variables.iter().zip(&mut plans).zip(&mut all) {
            let (Some(one), Some(sql)) = (tried.as_mut(), plan.pop_front()) else { continue };
            match bench.set(variable, &sql).await {
                Ok(now) => set.push((variable.name.as_str(), sql, now)),
                Err(NotSet::ReadOnly) => (one.not, *plan) = (Not::ReadOnly, VecDeque::new()),
                // Perhaps because of what another one is now.
                Err(NotSet::Refused(_)) => (*tried, *plan) = (None, VecDeque::new()),
            }
        }
        if set.is_empty() {
            continue;
        }
        let now = values::globals(&mut bench.admin).await;
        let kept = set.iter().all(|(name, _, value)| now.get(*name).is_some_and(|now| now == value));
        let what = set.iter().map(|(name, sql, _)| format!("{name} = {sql}")).collect::<Vec<_>>().join(", ");
        let together = one_value(bench, set[0].0, &set[0].1, what).await;
        let equal = kept && together.left.is_empty() && together.ends.iter().all(|(_, _, ended)| *ended == Ended::Equal);
        for ((variable, plan), tried) in variables.iter().zip(&mut plans).zip(&mut all) {
            let Some((_, sql, _)) = set.iter().find(|(name, _, _)| *name == variable.name) else { continue };
            match tried {
                Some(one) if equal => one.values.push(Value { shown: sql.clone(), ends: together.ends.clone(), left: Vec::new() }),
                _ => (*tried, *plan) = (None, VecDeque::new()),
            }
        }
    }
    let mut done = Vec::new();
    for (variable, tried) in variables.iter().zip(all) {
        done.push(match tried {
            Some(tried) => tried,
            None => try_all(bench, variable).await,
        });
    }
    done
}

/// Whether `THESEUS_VARIABLE` means it: by its name, by the beginning of it (`a*`), or as one of those that sessions have (`SESSION`) or have not.
fn is(name: &str, variable: &Variable) -> bool {
    match (name, variable.scope) {
        ("SESSION", scope) => scope != Scope::Global,
        ("GLOBAL", scope) => scope == Scope::Global,
        (name, _) => name.strip_suffix('*').map_or(name == variable.name, |start| variable.name.starts_with(start)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_variable_of_the_server() {
    let only: Option<Vec<String>> = std::env::var("THESEUS_VARIABLE").ok().map(|names| names.split(',').map(str::to_owned).collect());
    let mut first = Bench::start(&[], &[]).await;
    let version = first.version().await;
    let all: Vec<Variable> = values::all(&mut first.admin).await;
    let mut all: Vec<_> = all.into_iter().filter(|v| only.as_ref().is_none_or(|names| names.iter().any(|name| is(name, v)))).collect();
    // Those that a session has first: what is wrong is there.
    all.sort_by_key(|v| v.scope == Scope::Global);
    let number = all.len();
    let (remote, near): (Vec<_>, Vec<_>) = all.into_iter().partition(is_remote);
    let queue: VecDeque<Vec<Variable>> = near.into_iter().map(|one| vec![one]).chain(remote.chunks(TOGETHER).map(<[_]>::to_vec)).collect();
    let queue = Arc::new(Mutex::new(queue));
    let mut benches = vec![first];
    let servers = std::env::var("THESEUS_VARIABLE_SERVERS").ok().and_then(|n| n.parse().ok()).unwrap_or(SERVERS);
    for _ in 1..servers {
        benches.push(Bench::start(&[], &[]).await);
    }
    let workers = benches.into_iter().enumerate().map(|(i, mut bench)| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move {
            let mut tried = Vec::new();
            if i == 0 {
                // With nothing set at all.
                let value = one_value(&mut bench, "", "''", "as it starts".to_owned()).await;
                tried.push(Tried { name: String::new(), scope: Scope::Global, values: vec![value], not: Not::Tried });
            }
            loop {
                let Some(variables) = queue.lock().expect("the queue").pop_front() else { break tried };
                match variables.as_slice() {
                    [variable] => tried.push(try_all(&mut bench, variable).await),
                    variables => tried.extend(try_together(&mut bench, variables).await),
                }
            }
        })
    });
    let mut tried: Vec<Tried> = Vec::new();
    for worker in futures::future::join_all(workers).await {
        tried.extend(worker.expect("a worker"));
    }
    tried.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(tried.len(), number + 1, "each variable has an end");

    let mut failures = expected::failures(&tried, only.is_none());
    failures.extend(page::compare(&tried, only.is_none(), &version));
    for failure in &failures {
        eprintln!("FAILED {failure}");
    }
    assert!(failures.is_empty(), "{} failures, each in a line of its own above:\n{}", failures.len(), failures.join("\n"));
}

/// A comparison that finds nothing proves nothing: each kind of difference is planted.
#[tokio::test(flavor = "multi_thread")]
async fn the_comparison_finds_what_is_planted() {
    let make = subject::CREATE.replace("{db}.", "");
    let fill = subject::FILL.replace("{db}.", "");
    let (mut ours, mut native) = (Db::new("planted").await, Db::new("planted").await);
    let mut reader = Reader::open(&support::mysql_url()).await;
    for db in [&mut ours, &mut native] {
        db.run(&format!("ALTER DATABASE `{}` CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci", db.name)).await;
        db.run("SET NAMES utf8mb4 COLLATE utf8mb4_0900_ai_ci").await;
        db.run("SET SESSION sql_mode = DEFAULT").await;
        db.run(&make).await;
        db.run(&fill).await;
    }
    assert_eq!(reader.difference(&ours.name, &native.name, 0).await, None);
    for (plant, words) in [
        ("UPDATE t SET dt = dt + INTERVAL 1 MICROSECOND WHERE id = 100", "row"),
        ("UPDATE t SET a = 'X' WHERE a = 'x' LIMIT 1", "row"),
        ("UPDATE t SET la = CONCAT(la, ' ') WHERE id = 100", "row"),
        ("UPDATE t SET r = r + 1e-15 WHERE id = 100", "row"),
        ("UPDATE t SET at = at + INTERVAL 1 HOUR WHERE id = 100", "row"),
        ("UPDATE t SET bl = CONCAT(bl, x'00') WHERE id = 100", "row"),
        ("UPDATE t SET j = NULL WHERE id = 100", "row"),
        ("UPDATE t SET a = NULL WHERE a = '' LIMIT 1", "row"),
        ("DELETE FROM t WHERE id = 100", "rows"),
        ("INSERT INTO t (at) VALUES ('2024-01-01')", "rows"),
        // What another time zone leaves in a stored column.
        ("SET time_zone = '+08:00'; ALTER TABLE t FORCE, ALGORITHM=COPY; SET time_zone = '+00:00'", "s_hour"),
        ("ALTER TABLE t ADD extra INT", "definition"),
        ("ALTER TABLE t ALTER u SET DEFAULT 1", "definition"),
        ("ALTER TABLE t DROP CHECK t_chk_1", "definition"),
        ("ALTER TABLE t ALTER INDEX day_of INVISIBLE", "definition"),
        ("ALTER TABLE t ROW_FORMAT=COMPACT", "definition"),
        ("ALTER TABLE t AUTO_INCREMENT = 70000", "AUTO_INCREMENT"),
        // The expression's collation: nothing shows it.
        (
            "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci; ALTER TABLE t DROP INDEX j_of, ADD KEY j_of ((CAST(j->>'$.k' AS CHAR(20)))); SET NAMES utf8mb4 COLLATE utf8mb4_0900_ai_ci",
            "found by index",
        ),
    ] {
        ours.run("DROP TABLE t").await;
        ours.run(&make).await;
        ours.run(&fill).await;
        ours.run(plant).await;
        let found = reader.difference(&ours.name, &native.name, 0).await.unwrap_or_else(|| panic!("not found: {plant}"));
        assert!(found.contains(words), "{plant}: {found}");
    }
    ours.drop().await;
    native.drop().await;
}
