//! The engine's algorithm as a model, checked in every interleaving for small sizes.
//!
//! `docs/model.md` explains it: what is modelled, what is not, and how to read a counter-example.
//! `THESEUS_MODEL_SIZE=large` checks more, `THESEUS_MODEL_TRACE=1` prints the counter-examples step by step.

mod database;
mod engine;
mod rules;
mod world;

use std::io::Write as _;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use engine::{CHUNKS, Chunk, Flush};
use rules::{Barrier, Conflict, CutFence, Fence, InFlight, Latch, Record, Rules, Safe, Size, Start};
use world::{ATTEMPT, CONFLICT, CRASH, EQUAL, FENCED, NO_FALSE_DUPLICATE, RESUME, SWAP, State, Step, World};

/// Straight to stderr: libtest would keep back what a passing test prints, and these figures are part of the result.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "model: {line}");
}

fn large() -> bool {
    std::env::var("THESEUS_MODEL_SIZE").is_ok_and(|size| size == "large")
}

/// Checks that the properties hold in every reachable state.
fn holds(name: &str, rules: Rules, size: Size) {
    let started = Instant::now();
    let checker = World { rules, size, only: None }.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let failures = checker.discoveries();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    say(&format!("{name}: holds in {states} states ({steps} steps, {depth} deep, {:.1} s)", started.elapsed().as_secs_f32()));
    if let Some((property, path)) = failures.into_iter().next() {
        print_trace(name, checker.model(), path);
        panic!("{name}: violated: {property}");
    }
}

/// Checks that a mistake is found, and that it shows as the given property.
fn breaks(name: &str, property: &'static str, rules: Rules, size: Size) {
    // Breadth first and on one thread: the trace is a shortest one.
    let checker = World { rules, size, only: Some(property) }.checker().spawn_bfs().join();
    let Some(path) = checker.discovery(property) else {
        panic!("{name}: not found in {} states; expected a violation of: {property}", checker.unique_state_count());
    };
    let length = path.clone().into_actions().len();
    say(&format!("{name}: counter-example of {length} steps after {} states", checker.unique_state_count()));
    if std::env::var_os("THESEUS_MODEL_TRACE").is_some() {
        print_trace(name, checker.model(), path);
    }
}

fn print_trace(name: &str, model: &World, path: Path<State, Step>) {
    say(&format!("  {name}: keys 0..{}, initially {:?}", model.size.keys, model.size.initial));
    let path = path.into_vec();
    for (step, after) in path.iter().zip(path.iter().skip(1)).map(|((_, step), (after, _))| (step, after)) {
        let step = step.map_or_else(String::new, |step| format!("{step:?}"));
        say(&format!(
            "  {step:22} original {:?} (log {}) ghost {:?} {}",
            after.database.read(),
            after.database.logged,
            after.durable.ghost,
            engines(after, model.size.chunks.len())
        ));
    }
}

/// What the engines know, in short.
fn engines(state: &State, chunks: usize) -> String {
    let one = |engine: &engine::Engine| {
        let chunks: String = engine
            .chunks
            .iter()
            .take(chunks)
            .map(|chunk| match chunk {
                Chunk::Todo => '.',
                Chunk::InFlight(tx) if tx.open.is_some() => 'r',
                Chunk::InFlight(_) | Chunk::Unrecorded => 'f',
                Chunk::Done => 'd',
            })
            .collect();
        let flush = match engine.flush {
            Flush::Idle => String::new(),
            Flush::Barrier { taken, .. } => format!(" barrier{taken:?}"),
            Flush::Work(batches) => {
                let open =
                    |tx: &engine::Tx| tx.open.map_or_else(|| format!("{:#b}", tx.all()), |o| format!("{:#b} read {:?}", tx.all(), o.rows));
                format!(" flush[{}]", batches.iter().flatten().map(open).collect::<Vec<_>>().join(", "))
            }
            Flush::Store => " store".to_owned(),
        };
        let read: String =
            engine.slots()[..CHUNKS].iter().flatten().filter_map(|tx| tx.open.map(|open| format!(" chunk read {:?}", open.rows))).collect();
        format!("at {} dirty {:?} chunks {chunks}{read}{flush}", engine.delivered, engine.dirty)
    };
    let [owner, old] = &state.engines;
    let old = old.as_ref().map_or_else(String::new, |e| format!(" | old: {}", one(e)));
    format!("safe {:?} | {}{old}", state.durable.safe, owner.as_ref().map_or_else(String::new, one))
}

fn small() -> Size {
    Size::small()
}

/// One key in one chunk: enough where the mistake is about who may write.
fn one_key() -> Size {
    Size { keys: 1, values: 1, transactions: 1, chunks: &[0b001], ..small() }
}

/// Three keys, two of them in one chunk.
fn three_keys() -> Size {
    Size { keys: 3, initial: [1, 2, 0], chunks: &[0b001, 0b110], ..small() }
}

#[test]
fn the_rules_hold_without_faults() {
    let rules = Rules::default();
    holds("2 keys, 3 transactions", rules, Size { transactions: 3, ..small() });
    holds("3 keys, 2 transactions, parallel batches", rules, Size { parallel_flush: true, chunks: &[1, 2, 4], ..three_keys() });
    holds("3 keys, 3 transactions, 1 worker", rules, Size { transactions: 3, workers: 1, ..three_keys() });
    if large() {
        holds("3 keys, 3 transactions", rules, Size { transactions: 3, ..three_keys() });
        holds("2 keys, 4 transactions", rules, Size { transactions: 4, ..small() });
        let size = Size { parallel_flush: true, chunks: &[1, 2, 4], transactions: 3, ..three_keys() };
        holds("3 keys, 3 transactions, parallel batches", rules, size);
    }
}

#[test]
fn the_rules_hold_with_crashes() {
    let rules = Rules::default();
    holds("2 keys, 3 transactions, a crash", rules, Size { crashes: 1, transactions: 3, ..small() });
    holds("2 keys, 2 transactions, 2 crashes", rules, Size { crashes: 2, ..small() });
    holds("3 keys, 2 transactions, a crash", rules, Size { crashes: 1, ..three_keys() });
    if large() {
        holds("2 keys, 3 transactions, 2 crashes", rules, Size { crashes: 2, transactions: 3, ..small() });
        holds("3 keys, 3 transactions, a crash", rules, Size { crashes: 1, transactions: 3, ..three_keys() });
    }
}

#[test]
fn the_rules_hold_with_a_second_owner() {
    let rules = Rules::default();
    let one_value = Size { takeovers: 1, values: 1, fresh: true, ..small() };
    holds("2 keys, 1 transaction, a second owner", rules, Size { takeovers: 1, transactions: 1, fresh: true, ..small() });
    holds("2 keys in 1 chunk, 2 transactions of 1 value, a second owner", rules, Size { chunks: &[0b011], ..one_value.clone() });
    let size = Size { takeovers: 1, crashes: 1, transactions: 1, fresh: true, ..small() };
    holds("2 keys, 1 transaction, a second owner and a crash", rules, size);
    if large() {
        holds("2 keys, 2 transactions of 1 value, a second owner", rules, one_value);
        holds("2 keys, 2 transactions, a second owner", rules, Size { takeovers: 1, fresh: true, ..small() });
    }
}

/// Other ways to keep a rule, each right by its own proof.
#[test]
fn the_variants_hold() {
    let rules = Rules::default();
    let three = Size { transactions: 3, ..small() };
    let unordered = Size { ordered: false, ..three.clone() };
    holds("variant: the stream begins at gtid_executed", Rules { start: Start::ExecutedSet, ..rules }, three.clone());
    holds("variant: a marker row, commits in order", Rules { barrier: Barrier::Marker, ..rules }, three.clone());
    holds("variant: GTID barrier, commits not in order", rules, unordered.clone());
    let locking = Rules { barrier: Barrier::LockingReadBeforeSampling, ..rules };
    holds("variant: locking read before the sampling, commits not in order", locking, unordered);
    holds("variant: a chunk hands the conflict to the flush", Rules { conflict: Conflict::HandOver, ..rules }, three);
    // Chunks then write only their own range, and no cycle begins before the last one's batches have ended: no latch is needed.
    let rules = Rules { conflict: Conflict::HandOver, latch: Latch::RowLocks, ..rules };
    let size = Size { parallel_flush: true, ..small() };
    holds("variant: the same with row locks only, parallel batches", rules, Size { transactions: 3, ..size.clone() });
    holds("variant: the same, and a crash", rules, Size { crashes: 1, ..size.clone() });
    holds("variant: the same, and a second owner", rules, Size { takeovers: 1, transactions: 1, fresh: true, ..size.clone() });
    // Batches one after the other, as they run where values collide: holders whose own batch is to come are only removed.
    let rules = Rules { conflict: Conflict::Pending, ..Rules::default() };
    let size = Size { parallel_flush: true, chunks: &[1, 2, 4], ..three_keys() };
    holds("variant: pending holders are removed, the others join", rules, size.clone());
    holds("variant: the same, and a crash", rules, Size { crashes: 1, ..Size { parallel_flush: true, ..small() } });
    if large() {
        holds("variant: the same, more of all, three keys and a crash", rules, Size { crashes: 1, ..size });
    }
    let rules = Rules { conflict: Conflict::HandOver, latch: Latch::RowLocks, ..Rules::default() };
    let size = Size { parallel_flush: true, ..small() };
    if large() {
        holds("variant: the same, more of all", rules, Size { transactions: 3, crashes: 1, ..size });
    }
}

/// Each rule is needed: without it the checker finds a way to a wrong table (or to a failure that has no reason).
#[test]
fn every_rule_is_needed() {
    let rules = Rules::default();
    let crash = Size { crashes: 1, ..small() };
    let second = Size { takeovers: 1, ..one_key() };
    let fresh = Size { fresh: true, ..second.clone() };
    let unordered = Size { ordered: false, ..small() };

    // Rule 1
    breaks("the stream begins after the first chunk", EQUAL, Rules { start: Start::AfterFirstChunk, ..rules }, small());
    breaks("no barrier at the stream's beginning", EQUAL, Rules { start: Start::PositionWithoutBarrier, ..rules }, small());
    // The barrier
    breaks("no barrier", EQUAL, Rules { barrier: Barrier::None, ..rules }, small());
    breaks("the barrier is one transaction behind", EQUAL, Rules { barrier: Barrier::OneBehind, ..rules }, small());
    breaks("marker row, commits not in order", EQUAL, Rules { barrier: Barrier::Marker, ..rules }, unordered.clone());
    breaks("FOR SHARE only in the reconcile", EQUAL, Rules { barrier: Barrier::LockingReadAtReconcile, ..rules }, unordered);
    // Rule 4
    breaks("sampling before the barrier", EQUAL, Rules { sample_after_barrier: false, ..rules }, small());
    breaks("keys in flight dropped", EQUAL, Rules { in_flight: InFlight::Drop, ..rules }, small());
    let reconciled = Rules { in_flight: InFlight::Reconcile, ..rules };
    breaks("keys in flight reconciled", EQUAL, Rules { latch: Latch::RowLocks, ..reconciled }, small());
    breaks("keys in flight reconciled, with a latch", NO_FALSE_DUPLICATE, reconciled, small());
    // Rule 3
    breaks("chunk record before its transaction", EQUAL, Rules { record: Record::Earlier, ..rules }, crash.clone());
    breaks("chunk record after its transaction", EQUAL, Rules { record: Record::Later, ..rules }, crash.clone());
    breaks("chunk record after its transaction (failure)", NO_FALSE_DUPLICATE, Rules { record: Record::Later, ..rules }, crash.clone());
    // Rule 6
    breaks("INSERT IGNORE", EQUAL, Rules { conflict: Conflict::Ignore, ..rules }, small());
    let forgotten = Rules { conflict: Conflict::PendingForgotten, ..rules };
    breaks("a pending holder removed and forgotten", EQUAL, forgotten, Size { parallel_flush: true, ..small() });
    breaks("REPLACE", EQUAL, Rules { conflict: Conflict::Replace, ..rules }, small());
    let three = Size { transactions: 3, workers: 1, ..small() };
    breaks("holder included by a chunk, row locks only", EQUAL, Rules { latch: Latch::RowLocks, ..rules }, three);
    // Rule 8
    breaks("safe position stored when the keys are taken", EQUAL, Rules { safe: Safe::AtTake, ..rules }, crash.clone());
    breaks("safe position forgets the keys kept", EQUAL, Rules { safe: Safe::ForgetsKept, ..rules }, crash);
    // Rule 15, with InnoDB's row locks in force, so that the traces are real ones.
    let locks = Rules { latch: Latch::RowLocks, ..rules };
    breaks("no fence", EQUAL, Rules { fence: Fence::None, ..locks }, second.clone());
    breaks("fence read without a lock", EQUAL, Rules { fence: Fence::PlainRead, ..locks }, second);
    breaks("no fence under the lock", EQUAL, Rules { cut_fence: CutFence::None, ..rules }, fresh.clone());
    breaks(
        "fence under the lock only after the reconcile",
        NO_FALSE_DUPLICATE,
        Rules { cut_fence: CutFence::BeforeSwap, ..rules },
        Size { values: 2, ..fresh },
    );
    // The cut-over
    breaks("no wait for the position under the lock", EQUAL, Rules { wait_for_position: false, ..rules }, small());
}

/// The properties would also hold of a model in which nothing happens.
#[test]
fn what_should_happen_can_happen() {
    let remember = Size { remember: true, ..small() };
    let crash = Size { crashes: 1, ..remember.clone() };
    let second = Size { takeovers: 1, transactions: 1, ..remember.clone() };
    let cases = [(SWAP, &remember), (CONFLICT, &remember), (ATTEMPT, &remember), (CRASH, &crash), (RESUME, &crash), (FENCED, &second)];
    for (name, size) in cases {
        let world = World { rules: Rules::default(), size: size.clone(), only: Some(name) };
        let checker = world.checker().spawn_bfs().join();
        let path = checker.discovery(name).unwrap_or_else(|| panic!("never happens: {name}"));
        say(&format!("happens: {name} ({} steps, {} states)", path.into_actions().len(), checker.unique_state_count()));
    }
}
