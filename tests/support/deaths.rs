//! Deaths in a swap: each statement of it is held before the server has it, or before its answer is back, and there the engine dies, or its
//! connection. The next engine, or the same one, has to finish; a suite says which statements there are and what is to be true afterwards.
use crate::proxy::{Hold, Proxy, plain};
use crate::support::{self, controls};
use futures::StreamExt;
use std::time::Duration;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy, MigrationSpec};

/// Cells at a time: most of one is waiting.
const AT_ONCE: usize = 4;

/// A statement of the swap, by its words in a database, as [`Proxy::trap`] takes them.
pub struct Statement {
    pub what: &'static str,
    pub words: fn(&str) -> String,
}

/// One cell for each statement, each place of the hold, and each who dies. `make` makes tables of a cell's own and says what is migrated;
/// `finished` gets them back, with what happened in words.
pub async fn in_each<T>(
    statements: &[Statement],
    make: impl AsyncFn() -> (T, MigrationSpec),
    finished: impl AsyncFn(T, &MigrationSpec, &str),
) {
    let cells = statements.iter().flat_map(|statement| {
        [(Hold::Request, true), (Hold::Request, false), (Hold::Answer, true), (Hold::Answer, false)]
            .map(|(hold, engine_dies)| (statement, hold, engine_dies))
    });
    let (make, finished) = (&make, &finished);
    let cells = futures::stream::iter(cells).map(|(statement, hold, engine_dies)| async move {
        let (tables, spec) = make().await;
        let what = format!("{}, {hold:?} held, {}", statement.what, if engine_dies { "the engine dies" } else { "the connection" });
        cell(&spec, statement, hold, engine_dies, &what).await;
        finished(tables, &spec, &what).await;
        println!("{what}: finished");
    });
    let count = cells.buffer_unordered(AT_ONCE).count().await;
    assert_eq!(count, statements.len() * 4);
}

async fn cell(spec: &MigrationSpec, statement: &Statement, hold: Hold, engine_dies: bool, what: &str) {
    let proxy = Proxy::start(spec.server.port).await;
    let spec = plain(spec.clone(), &proxy);
    // On a busy machine an attempt may take its time.
    let open = Controls { lock_timeout: Duration::from_secs(30), ..controls() };
    let gate = Controls { cut_over_policy: CutOverPolicy::Manual, ..open.clone() };
    let handle = theseus::engine::start(spec.clone(), gate);
    support::until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    // Only now: the same words are said on the empty ghost before.
    let mut caught = proxy.trap(&(statement.words)(&spec.database), hold);
    handle.control(open.clone());
    caught.sprung().await;
    let handle = if engine_dies {
        drop(handle);
        let next = theseus::engine::start(spec, open);
        tokio::time::sleep(Duration::from_millis(50)).await;
        caught.tear();
        next
    } else {
        caught.tear();
        handle
    };
    assert_eq!(support::join(handle).await, Outcome::Succeeded, "{what}");
}
