//! The whole as a `stateright::Model`: the steps of the database and of the engines, and the properties.

use stateright::{Model, Property};

use crate::database::{Database, KEYS, Keys, Table, Write, each};
use crate::engine::{BATCHES, CHUNKS, Chunk, Cut, Durable, Engine, Flush, Open, Sample, Tx};
use crate::rules::{Barrier, Conflict, CutFence, Fence, Latch, Record, Rules, Safe, Size, Start};

/// The model: rules and sizes.
#[derive(Clone, Debug)]
pub struct World {
    pub rules: Rules,
    pub size: Size,
    /// Only this property. stateright keeps the last discovery of a block of states, and stops at the first one only when no
    /// property is left to look for; so a shortest trace needs a run of its own.
    pub only: Option<&'static str>,
}

/// One state of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub database: Database,
    pub durable: Durable,
    /// The owner, and an earlier one that still lives.
    pub engines: [Option<Engine>; 2],
    pub crashes: u8,
    pub takeovers: u8,
    pub outcome: Outcome,
    /// A unique conflict has been met (only with `Size::remember`).
    pub conflict: bool,
    /// A cut-over attempt has failed (only with `Size::remember`).
    pub attempt_failed: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Running,
    /// The ghost is the table now.
    Swapped,
    /// The engine met a duplicate that it cannot explain.
    Failed,
    /// Nothing can happen any more.
    Stuck,
}

/// The slot of a transaction in an engine: a chunk, or a batch of the flush.
pub type Slot = usize;

/// Who acts: 0 is the owner, 1 an earlier one.
pub type Who = usize;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The application commits; the transaction is in the log.
    Log(Write),
    /// A transaction in the log becomes visible (counted from 0).
    Visible(u8),
    /// The engine fixes where its stream begins.
    Start(Who),
    /// The next transaction of the log reaches the engine.
    Deliver(Who),
    /// A chunk is handed to a worker.
    Dispatch(Who, usize),
    /// A transaction begins: fence, DELETE, snapshot of the original.
    Read(Who, Slot),
    /// It writes, records and commits; or meets 1062 and rolls back.
    Commit(Who, Slot),
    /// The chunk's record, on its own (`Record::Later`).
    RecordChunk(Who, usize),
    /// The flush takes the dirty keys.
    Take(Who),
    /// The barrier returns, and the flush looks at the chunks.
    Sample(Who),
    /// The safe position is stored.
    Store(Who),
    /// The cycle ends without storing it.
    SkipStore(Who),
    /// LOCK TABLES.
    Lock(Who),
    /// The last reconcile, under the lock.
    LastReconcile(Who),
    /// RENAME.
    Swap(Who),
    /// The attempt is given up.
    Unlock(Who),
    /// The engine dies and another goes on from what MySQL keeps.
    Crash,
    /// Another takes over while the old one lives.
    TakeOver,
    /// Another takes over and begins again with an empty ghost.
    TakeOverFresh,
    /// Nothing was left to do.
    Stuck,
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let durable = Durable { ghost: [0; KEYS], records: 0, safe: None, epoch: 1 };
        vec![State {
            database: Database::new(self.size.initial),
            durable,
            engines: [Some(Engine::resume(&durable, self.size.chunks.len())), None],
            crashes: 0,
            takeovers: 0,
            outcome: Outcome::Running,
            conflict: false,
            attempt_failed: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.outcome != Outcome::Running {
            return;
        }
        let locked = state.engines.iter().flatten().any(|e| e.cut != Cut::No);
        if !locked {
            let mut writes = Vec::new();
            state.database.writes(&self.size, &mut writes);
            steps.extend(writes.into_iter().map(Step::Log));
        }
        steps.extend(state.database.next_visible(self.size.ordered).map(Step::Visible));
        for (who, engine) in state.engines.iter().enumerate() {
            if let Some(engine) = engine {
                if engine.cut == Cut::No {
                    self.engine_steps(state, who, engine, locked, steps);
                } else {
                    self.cut_steps(state, who, engine, steps);
                }
            }
        }
        if state.crashes < self.size.crashes {
            steps.push(Step::Crash);
        }
        if state.takeovers < self.size.takeovers && state.engines[1].is_none() {
            steps.push(Step::TakeOver);
            if self.size.fresh {
                steps.push(Step::TakeOverFresh);
            }
        }
        if steps.is_empty() {
            steps.push(Step::Stuck);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        self.step(&mut next, step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(EQUAL, |_, s: &State| s.outcome != Outcome::Swapped || s.durable.ghost == s.database.read()),
            Property::always(NO_FALSE_DUPLICATE, |_, s: &State| s.outcome != Outcome::Failed),
            Property::always(NEVER_STUCK, |_, s: &State| s.outcome != Outcome::Stuck),
        ];
        if self.size.remember {
            properties.extend(reachable());
        }
        if let Some(only) = self.only {
            properties.retain(|property| property.name == only);
        }
        properties
    }
}

pub const EQUAL: &str = "at the swap the ghost equals the original";
pub const NO_FALSE_DUPLICATE: &str = "no duplicate is reported where the original has none";
pub const NEVER_STUCK: &str = "there is always a next step";

/// What must be possible, lest the other properties hold of nothing.
fn reachable() -> Vec<Property<World>> {
    fn swapped(s: &State) -> bool {
        s.outcome == Outcome::Swapped
    }
    vec![
        Property::sometimes(SWAP, |w: &World, s: &State| swapped(s) && s.database.logged == w.size.transactions),
        Property::sometimes(CONFLICT, |_, s: &State| swapped(s) && s.conflict),
        Property::sometimes(ATTEMPT, |_, s: &State| swapped(s) && s.attempt_failed),
        Property::sometimes(CRASH, |_, s: &State| swapped(s) && s.crashes > 0),
        Property::sometimes(RESUME, |_, s: &State| {
            s.engines[0].is_some_and(|e| e.epoch > 1 && e.base > Some(0) && !e.copied() && s.durable.records != 0)
        }),
        Property::sometimes(FENCED, |_, s: &State| swapped(s) && s.takeovers > 0 && s.engines[1].is_none()),
    ]
}

pub const SWAP: &str = "the swap is reached after every write";
pub const CONFLICT: &str = "a unique conflict was met and resolved, and the swap reached";
pub const ATTEMPT: &str = "a cut-over attempt failed, and a later one swapped";
pub const CRASH: &str = "a crash, a resume, and the swap";
pub const RESUME: &str = "a resume found a chunk's record and a later safe position";
pub const FENCED: &str = "an old owner was fenced off, and the new one swapped";

impl World {
    /// What an engine that holds no lock can do next.
    fn engine_steps(&self, state: &State, who: Who, engine: &Engine, locked: bool, steps: &mut Vec<Step>) {
        let rules = &self.rules;
        let Some(base) = engine.base else {
            let first_chunk_read = match engine.chunks[0] {
                Chunk::Todo => false,
                Chunk::InFlight(tx) => tx.open.is_some(),
                Chunk::Unrecorded | Chunk::Done => true,
            };
            if rules.start != Start::AfterFirstChunk || first_chunk_read {
                steps.push(Step::Start(who));
            } else if engine.chunks[0] == Chunk::Todo {
                steps.push(Step::Dispatch(who, 0));
            } else {
                steps.push(Step::Read(who, 0));
            }
            return;
        };
        if engine.delivered < state.database.logged {
            steps.push(Step::Deliver(who));
        }

        let in_flight = engine.chunks.iter().filter(|c| matches!(c, Chunk::InFlight(_) | Chunk::Unrecorded)).count();
        if in_flight < usize::from(self.size.workers)
            && let Some(next) = engine.chunks.iter().position(|c| *c == Chunk::Todo)
        {
            steps.push(Step::Dispatch(who, next));
        }
        for (i, chunk) in engine.chunks.iter().enumerate() {
            if *chunk == Chunk::Unrecorded {
                steps.push(Step::RecordChunk(who, i));
            }
        }

        let slots = engine.slots();
        for (slot, tx) in slots.iter().enumerate() {
            let Some(tx) = tx else { continue };
            if tx.open.is_some() {
                steps.push(Step::Commit(who, slot));
            } else if !locked && self.may_read(state, base, &slots, slot, tx) {
                steps.push(Step::Read(who, slot));
            }
        }

        match &engine.flush {
            Flush::Idle if Engine::dirty_keys(&engine.dirty) != 0 => steps.push(Step::Take(who)),
            Flush::Barrier { taken, upto, .. } if self.barrier_returns(state, taken, *upto) => steps.push(Step::Sample(who)),
            Flush::Store if !locked => steps.extend([Step::Store(who), Step::SkipStore(who)]),
            _ => {}
        }

        let quiet = engine.copied() && engine.flush == Flush::Idle && state.database.all_visible(state.database.logged);
        if quiet && !locked && !state.engines.iter().flatten().any(Engine::has_open) {
            steps.push(Step::Lock(who));
        }
    }

    /// What the engine that holds the lock can do next.
    fn cut_steps(&self, state: &State, who: Who, engine: &Engine, steps: &mut Vec<Step>) {
        if engine.delivered < state.database.logged {
            steps.push(Step::Deliver(who));
        }
        match engine.cut {
            Cut::Locked if engine.delivered == state.database.logged || !self.rules.wait_for_position => {
                steps.push(Step::LastReconcile(who));
            }
            Cut::Reconciled => steps.push(Step::Swap(who)),
            Cut::Locked | Cut::No => {}
        }
        steps.push(Step::Unlock(who));
    }

    /// Whether a transaction may begin.
    fn may_read(&self, state: &State, base: u8, slots: &[Option<Tx>], slot: Slot, tx: &Tx) -> bool {
        let is_chunk = slot < CHUNKS;
        if is_chunk && self.rules.start != Start::PositionWithoutBarrier && !state.database.all_visible(base) {
            return false;
        }
        if !is_chunk && self.rules.barrier == Barrier::LockingReadAtReconcile && state.database.locked() & tx.all() != 0 {
            return false;
        }
        match self.rules.latch {
            Latch::Key => {
                slots.iter().enumerate().all(|(other, o)| other == slot || o.is_none_or(|o| o.open.is_none() || o.all() & tx.all() == 0))
            }
            Latch::RowLocks => {
                let deleted = if is_chunk { tx.extra } else { tx.all() };
                state.engines.iter().flatten().flat_map(Engine::slots).flatten().filter_map(|o| o.open).all(|o| o.locked & deleted == 0)
            }
        }
    }

    fn barrier_returns(&self, state: &State, taken: &[u8; KEYS], upto: u8) -> bool {
        match self.rules.barrier {
            Barrier::Executed | Barrier::OneBehind => state.database.all_visible(upto),
            // The marker's commit returns after those before it only if commits are in order.
            Barrier::Marker => !self.size.ordered || state.database.all_visible(upto),
            Barrier::LockingReadBeforeSampling => state.database.locked() & Engine::dirty_keys(taken) == 0,
            Barrier::LockingReadAtReconcile | Barrier::None => true,
        }
    }

    fn step(&self, state: &mut State, step: Step) {
        match step {
            Step::Log(write) => state.database.log(write),
            Step::Visible(transaction) => state.database.make_visible(transaction),
            Step::Crash => {
                state.crashes += 1;
                self.take_over(state, false, false);
            }
            Step::TakeOver => {
                state.takeovers += 1;
                self.take_over(state, true, false);
            }
            Step::TakeOverFresh => {
                state.takeovers += 1;
                self.take_over(state, true, true);
            }
            Step::Stuck => state.outcome = Outcome::Stuck,
            Step::Start(who)
            | Step::Deliver(who)
            | Step::Dispatch(who, _)
            | Step::Read(who, _)
            | Step::Commit(who, _)
            | Step::RecordChunk(who, _)
            | Step::Take(who)
            | Step::Sample(who)
            | Step::Store(who)
            | Step::SkipStore(who)
            | Step::Lock(who)
            | Step::LastReconcile(who)
            | Step::Swap(who)
            | Step::Unlock(who) => {
                let mut engine = state.engines[who].expect("only living engines are offered steps");
                let lives = self.engine_step(state, &mut engine, step);
                state.engines[who] = lives.then_some(engine);
            }
        }
    }

    /// Rule 1.
    fn start(&self, state: &mut State, engine: &mut Engine) {
        let base = match self.rules.start {
            Start::ExecutedSet => state.database.executed(),
            Start::PositionThenBarrier | Start::PositionWithoutBarrier | Start::AfterFirstChunk => state.database.logged,
        };
        state.durable.safe = Some(base);
        engine.base = Some(base);
        engine.delivered = base;
    }

    /// A new owner bumps the epoch, then reads what MySQL keeps. The bump needs the row that open transactions have locked
    /// `FOR SHARE`, so it comes after they committed (another interleaving) or after the server ended them.
    fn take_over(&self, state: &mut State, old_lives: bool, fresh: bool) {
        state.durable.epoch += 1;
        if fresh {
            state.durable = Durable { ghost: [0; KEYS], records: 0, safe: None, epoch: state.durable.epoch };
        }
        let old = state.engines[0].take();
        state.engines[0] = Some(Engine::resume(&state.durable, self.size.chunks.len()));
        if old_lives {
            state.engines[1] = old.map(|mut old| {
                old.cut = Cut::No;
                if self.rules.fence == Fence::Locking {
                    old.break_open();
                }
                old
            });
        }
    }

    /// A step of one engine. False: it was fenced off and stops.
    fn engine_step(&self, state: &mut State, engine: &mut Engine, step: Step) -> bool {
        let rules = &self.rules;
        let owner = rules.fence == Fence::None || engine.epoch == state.durable.epoch;
        match step {
            Step::Start(_) => {
                if !owner {
                    return false;
                }
                self.start(state, engine);
            }
            Step::Deliver(_) => engine.deliver(state.database.at(engine.delivered + 1).keys),
            Step::Dispatch(_, i) => engine.chunks[i] = Chunk::InFlight(Tx::new(self.size.chunks[i])),
            Step::Read(_, slot) => {
                if !owner {
                    return false;
                }
                self.read(state, engine, slot);
            }
            Step::Commit(_, slot) => return self.commit(state, engine, slot),
            Step::RecordChunk(_, i) => {
                if !owner {
                    return false;
                }
                state.durable.records |= 1 << i;
                engine.chunks[i] = Chunk::Done;
            }
            Step::Take(_) => {
                let taken = std::mem::take(&mut engine.dirty);
                let upto = match rules.barrier {
                    Barrier::Marker => state.database.logged,
                    Barrier::OneBehind => engine.delivered.saturating_sub(1),
                    Barrier::Executed | Barrier::LockingReadBeforeSampling | Barrier::LockingReadAtReconcile | Barrier::None => {
                        engine.delivered
                    }
                };
                let sampled = (!rules.sample_after_barrier).then(|| engine.sample(&taken, self.size.chunks, rules.in_flight));
                engine.flush = Flush::Barrier { taken, upto, sampled };
                if rules.safe == Safe::AtTake && self.stores() {
                    if !owner {
                        return false;
                    }
                    self.store(state, engine.frontier());
                }
            }
            Step::Sample(_) => self.sample(engine),
            Step::Store(_) => {
                if !owner {
                    return false;
                }
                let position = if rules.safe == Safe::AfterWork { engine.frontier() } else { engine.delivered };
                self.store(state, position);
                engine.flush = Flush::Idle;
            }
            Step::SkipStore(_) => engine.flush = Flush::Idle,
            Step::Lock(_) => {
                if !owner && rules.cut_fence == CutFence::BeforeReconcile {
                    return false;
                }
                engine.cut = Cut::Locked;
            }
            Step::LastReconcile(_) => self.last_reconcile(state, engine),
            Step::Swap(_) => {
                if !owner && rules.cut_fence != CutFence::None {
                    return false;
                }
                state.outcome = Outcome::Swapped;
            }
            Step::Unlock(_) => {
                engine.cut = Cut::No;
                state.attempt_failed = self.size.remember;
            }
            Step::Log(_) | Step::Visible(_) | Step::Crash | Step::TakeOver | Step::TakeOverFresh | Step::Stuck => {}
        }
        true
    }

    /// Whether a stored position can ever be read again.
    fn stores(&self) -> bool {
        self.size.crashes + self.size.takeovers > 0
    }

    fn store(&self, state: &mut State, position: u8) {
        state.durable.safe = state.durable.safe.max(Some(position));
    }

    fn read(&self, state: &mut State, engine: &mut Engine, slot: Slot) {
        let mut tx = engine.slots()[slot].expect("only transactions that exist are offered");
        let is_chunk = slot < CHUNKS;
        let original = state.database.read();
        let mut rows = [0; KEYS];
        each(tx.all()).for_each(|k| rows[k] = original[k]);
        let deleted = if is_chunk { tx.extra } else { tx.all() };
        let locked = match self.rules.latch {
            Latch::Key => 0,
            Latch::RowLocks => deleted & present(&state.durable.ghost),
        };
        tx.open = Some(Open { rows, locked, broken: false });
        engine.set_slot(slot, tx);
        if is_chunk && self.rules.record == Record::Earlier {
            state.durable.records |= 1 << slot;
        }
    }

    /// The write and the commit of a transaction. False: fenced off.
    fn commit(&self, state: &mut State, engine: &mut Engine, slot: Slot) -> bool {
        let mut tx = engine.slots()[slot].expect("only transactions that exist are offered");
        let open = tx.open.take().expect("only open transactions commit");
        if open.broken {
            return false;
        }
        let is_chunk = slot < CHUNKS;
        let deleted = match self.rules.latch {
            Latch::Key if is_chunk => tx.extra,
            Latch::Key => tx.all(),
            Latch::RowLocks => open.locked,
        };
        let mut ghost = state.durable.ghost;
        each(deleted).for_each(|k| ghost[k] = 0);

        if present(&ghost) & present(&open.rows) & tx.all() != 0 {
            // 1062 on the key itself. A row that came in beside the DELETE is met by trying again; a chunk has no such excuse.
            if is_chunk && present(&ghost) & present(&open.rows) & tx.keys != 0 {
                state.outcome = Outcome::Failed;
            }
            engine.set_slot(slot, tx);
            return true;
        }
        let mut inserted = insert(&mut ghost, &open.rows, tx.all(), self.rules.conflict);
        let pending = match &engine.flush {
            // The batch that was not begun yet.
            Flush::Work(batches) if !is_chunk => batches
                .iter()
                .enumerate()
                .filter(|(i, _)| i + CHUNKS != slot)
                .filter_map(|(_, b)| *b)
                .filter(|b| b.open.is_none())
                .map(|b| b.all())
                .fold(0, |a, b| a | b),
            _ => 0,
        };
        if matches!(self.rules.conflict, Conflict::Pending | Conflict::PendingForgotten) && inserted & pending != 0 {
            let removed = inserted & pending;
            ghost = state.durable.ghost;
            each(deleted | removed).for_each(|k| ghost[k] = 0);
            inserted = insert(&mut ghost, &open.rows, tx.all(), self.rules.conflict);
            if inserted == 0
                && self.rules.conflict == Conflict::PendingForgotten
                && let Flush::Work(batches) = &mut engine.flush
            {
                batches.iter_mut().enumerate().filter(|(i, _)| i + CHUNKS != slot).for_each(|(_, batch)| {
                    *batch = batch.and_then(|b| (b.keys & !removed != 0).then_some(Tx { keys: b.keys & !removed, ..b }));
                });
            }
        }
        match inserted {
            0 => {}
            holders => {
                state.conflict |= self.size.remember;
                engine.mark(holders, engine.delivered.max(1));
                let hands_over = matches!(self.rules.conflict, Conflict::HandOver | Conflict::Pending | Conflict::PendingForgotten);
                if !(is_chunk && hands_over) {
                    tx.extra |= holders;
                }
                engine.set_slot(slot, tx);
                return true;
            }
        }
        state.durable.ghost = ghost;
        if is_chunk {
            if self.rules.record == Record::Later {
                engine.chunks[slot] = Chunk::Unrecorded;
            } else {
                state.durable.records |= 1 << slot;
                engine.chunks[slot] = Chunk::Done;
            }
        } else if let Flush::Work(batches) = &mut engine.flush {
            batches[slot - CHUNKS] = None;
            if *batches == [None; BATCHES] {
                engine.flush = self.after_work();
            }
        }
        true
    }

    /// Rule 4, after the barrier.
    fn sample(&self, engine: &mut Engine) {
        let Flush::Barrier { taken, sampled, .. } = engine.flush else { return };
        let Sample { keep, reconcile } = sampled.unwrap_or_else(|| engine.sample(&taken, self.size.chunks, self.rules.in_flight));
        for k in each(keep) {
            engine.mark(1 << k, taken[k]);
        }
        let first = if self.size.parallel_flush { reconcile & reconcile.wrapping_neg() } else { reconcile };
        let batches = [first, reconcile & !first].map(|keys| (keys != 0).then(|| Tx::new(keys)));
        engine.flush = if reconcile == 0 { self.after_work() } else { Flush::Work(batches) };
    }

    fn after_work(&self) -> Flush {
        if self.stores() && self.rules.safe != Safe::AtTake { Flush::Store } else { Flush::Idle }
    }

    /// Under the lock nothing else happens to these tables, so this is one step.
    fn last_reconcile(&self, state: &mut State, engine: &mut Engine) {
        let original = state.database.read();
        let mut keys = Engine::dirty_keys(&engine.dirty);
        loop {
            let mut ghost = state.durable.ghost;
            each(keys).for_each(|k| ghost[k] = 0);
            match insert(&mut ghost, &original, keys, self.rules.conflict) {
                0 => {
                    state.durable.ghost = ghost;
                    break;
                }
                holders => keys |= holders,
            }
        }
        engine.dirty = [0; KEYS];
        engine.cut = Cut::Reconciled;
    }
}

/// Keys that have a row.
fn present(table: &Table) -> Keys {
    (0..KEYS).filter(|k| table[*k] != 0).fold(0, |keys, k| keys | 1 << k)
}

/// Inserts rows under the unique key on the value. Returns the keys of the rows that hold a wanted value (1062), if the rule is not
/// to go over them.
fn insert(ghost: &mut Table, rows: &Table, keys: Keys, rule: Conflict) -> Keys {
    let mut holders = 0;
    for k in each(keys & present(rows)) {
        match ghost.iter().position(|v| *v == rows[k]) {
            None => ghost[k] = rows[k],
            Some(holder) => match rule {
                Conflict::Include | Conflict::HandOver | Conflict::Pending | Conflict::PendingForgotten => holders |= 1 << holder,
                Conflict::Ignore => {}
                Conflict::Replace => {
                    ghost[holder] = 0;
                    ghost[k] = rows[k];
                }
            },
        }
    }
    holders
}
