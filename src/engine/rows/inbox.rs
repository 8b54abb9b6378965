//! Where the streamer puts dirty keys and the applier takes them: the dirty set, with the position up to which it is complete.
//!
//! Invariant: every key of every transaction on the original that ends at or before [`Inbox::position`] is in the set, or was taken.
//! A transaction enters as a whole, at its end. Bounded: past the limit [`Inbox::commit`] makes the streamer wait (back-pressure; the
//! server keeps the log), unless the set is empty.

use crate::engine::state::record::StreamPoint;
use crate::mysql::{BinlogPosition, GtidSet, MySqlError};
use crate::sql::key::Key;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use tokio::sync::{Notify, oneshot, watch};

/// Something in the stream that a person or the inspector must look at; the gravest one is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamNotice {
    /// A statement of someone else that may have made the original's table anew and changed neither its definition nor its rows: OPTIMIZE,
    /// REPAIR, ALTER TABLE … FORCE.
    Rebuilt,
    /// A statement of someone else that names the original and may have changed its definition.
    Ddl,
    /// Someone else wrote rows of the ghost, or changed its definition.
    GhostWritten,
    /// A statement in text form that may have changed rows of the original.
    StatementDml,
    /// The original was emptied by TRUNCATE TABLE: nothing else is changed.
    Truncated,
    /// A statement that surely changed the original without rows in the log: RENAME, DROP, DROP COLUMN, partition maintenance.
    Replaced,
}

/// The end of a prepared XA transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared<'a> {
    /// Its name, as [`Inbox::prepare`] had it.
    pub xid: &'a str,
    /// Committed, or rolled back.
    pub committed: bool,
}

struct State {
    keys: HashSet<Key>,
    bytes: usize,
    /// GTIDs received since the last take.
    fresh: GtidSet,
    executed: GtidSet,
    /// Prepared XA transactions on the original hold the safe position back: (xid, point before it, its keys).
    prepared: Vec<(String, StreamPoint, Vec<Key>)>,
    /// Beside a graver one.
    rebuilt: bool,
    notice: Option<StreamNotice>,
    seen: u64,
    /// Keys that the verifier observes, and whether an event has named them since.
    observed: HashMap<Key, bool>,
    /// Keys in the set that were added without an event.
    added: HashSet<Key>,
    asked: Vec<Asked>,
}

/// The dirty set.
pub struct Inbox {
    state: Mutex<State>,
    position: watch::Sender<BinlogPosition>,
    room: Notify,
    /// Somebody waits for a flush.
    urgent: Notify,
    limit: usize,
}

/// Rows of the ghost that a chunk met: they hold values of its own rows. To be reconciled before anything else.
pub struct Asked {
    /// Their keys.
    pub keys: Vec<Key>,
    /// What the server said.
    pub error: MySqlError,
    /// Tells the chunk.
    pub done: oneshot::Sender<()>,
}

/// What one flush cycle works on.
#[derive(Debug)]
pub struct Taken {
    /// Distinct dirty keys, unordered.
    pub keys: Vec<Key>,
    /// The set is complete up to here.
    pub point: StreamPoint,
    /// The safe position may not pass this: the start of the oldest prepared XA transaction.
    pub held_at: Option<StreamPoint>,
    /// GTIDs received since the last take: what the barrier has to wait for.
    pub fresh: GtidSet,
    /// Whether there was a [`StreamNotice::Rebuilt`] since the last take.
    pub rebuilt: bool,
    /// The gravest other one since the last take.
    pub notice: Option<StreamNotice>,
    /// Those of the keys that were added without an event: no stream brings them once more.
    pub added: HashSet<Key>,
}

/// Memory of one key beside its own bytes, measured on x86-64: the table's slot and load factor.
const KEY_OVERHEAD: usize = 48;

impl Inbox {
    /// An empty set at the point where the stream starts. `limit` is in bytes.
    pub fn new(start: StreamPoint, limit: usize) -> Self {
        let (position, _) = watch::channel(start.position);
        Self {
            state: Mutex::new(State {
                keys: HashSet::new(),
                bytes: 0,
                fresh: GtidSet::default(),
                executed: start.executed,
                prepared: Vec::new(),
                rebuilt: false,
                notice: None,
                seen: 0,
                observed: HashMap::new(),
                added: HashSet::new(),
                asked: Vec::new(),
            }),
            position,
            room: Notify::new(),
            urgent: Notify::new(),
            limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock()
    }

    /// Ends a transaction: its keys become dirty and the position moves. Waits while the set is over its limit.
    /// Cancel-safe: the transaction is in before the wait.
    /// `prepared`: it is the end of a prepared one, whose keys become dirty now (none when it was not on the original). In one step with
    /// the position: the safe position is held back until the keys are in.
    pub async fn commit(
        &self,
        keys: &mut Vec<Key>,
        prepared: Option<Prepared<'_>>,
        gtid: Option<([u8; 16], String, u64)>,
        images: u64,
        position: BinlogPosition,
    ) {
        {
            let mut state = self.lock();
            state.seen += images;
            if let Some(end) = prepared
                && let Some(at) = state.prepared.iter().position(|(xid, _, _)| xid == end.xid)
            {
                let (_, _, prepared_keys) = state.prepared.swap_remove(at);
                if end.committed {
                    keys.extend(prepared_keys);
                }
            }
            if !state.observed.is_empty() {
                for key in keys.iter() {
                    if let Some(touched) = state.observed.get_mut(key) {
                        *touched = true;
                    }
                }
            }
            add(&mut state, keys.drain(..));
            if let Some((uuid, tag, number)) = gtid {
                state.fresh.insert(uuid, &tag, number);
                state.executed.insert(uuid, &tag, number);
            }
            // Under the lock, so that nobody sees the position without the keys.
            self.position.send_replace(position);
        }
        loop {
            let room = self.room.notified();
            if self.lock().bytes <= self.limit {
                return;
            }
            room.await;
        }
    }

    /// A transaction on the original was prepared under `xid`: its keys become dirty again when it is committed.
    pub fn prepare(&self, xid: String, before: StreamPoint, keys: Vec<Key>) {
        self.lock().prepared.push((xid, before, keys));
    }

    /// Moves the position by something that is no transaction. Never back.
    pub fn advance(&self, position: &BinlogPosition) {
        let _state = self.lock();
        self.position.send_if_modified(|now| {
            let further = *now < *position;
            if further {
                now.clone_from(position);
            }
            further
        });
    }

    /// Remembers something to look at.
    pub fn notice(&self, notice: StreamNotice) {
        let mut state = self.lock();
        match notice {
            // What made the table anew explains its new id to whoever looks at another notice.
            StreamNotice::Rebuilt => state.rebuilt = true,
            _ => state.notice = state.notice.max(Some(notice)),
        }
    }

    /// Whether there is something to look at.
    pub fn noticed(&self) -> bool {
        let state = self.lock();
        state.rebuilt || state.notice.is_some()
    }

    /// Takes the whole set.
    pub fn take(&self) -> Taken {
        let mut state = self.lock();
        state.bytes = 0;
        let taken = Taken {
            keys: std::mem::take(&mut state.keys).into_iter().collect(),
            point: StreamPoint { position: self.position.borrow().clone(), executed: state.executed.clone() },
            held_at: state.prepared.iter().map(|(_, at, _)| at).min_by(|a, b| a.position.cmp(&b.position)).cloned(),
            fresh: std::mem::take(&mut state.fresh),
            rebuilt: std::mem::take(&mut state.rebuilt),
            notice: state.notice.take(),
            added: std::mem::take(&mut state.added),
        };
        drop(state);
        self.room.notify_waiters();
        taken
    }

    /// Makes keys dirty that no event named: rows found different.
    pub fn add(&self, keys: impl IntoIterator<Item = Key>) {
        let keys: Vec<Key> = keys.into_iter().collect();
        let mut state = self.lock();
        state.added.extend(keys.iter().cloned());
        add(&mut state, keys.into_iter());
    }

    /// Asks for these rows of the ghost, which hold values that a chunk is about to insert, to be reconciled at once. The receiver hears of
    /// it, or that nobody is there to do it.
    pub fn ask(&self, keys: Vec<Key>, error: MySqlError) -> oneshot::Receiver<()> {
        let (done, hear) = oneshot::channel();
        self.lock().asked.push(Asked { keys, error, done });
        self.hurry();
        hear
    }

    /// What chunks have asked for.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().asked)
    }

    /// Whether a chunk asks for something.
    pub fn is_asked(&self) -> bool {
        !self.lock().asked.is_empty()
    }

    /// Starts to notice events on these keys, and on no others.
    pub fn observe(&self, keys: &[Key]) {
        self.lock().observed = keys.iter().map(|k| (k.clone(), false)).collect();
    }

    /// The observed keys that an event has named since; observing ends.
    pub fn observed(&self) -> HashSet<Key> {
        std::mem::take(&mut self.lock().observed).into_iter().filter_map(|(key, touched)| touched.then_some(key)).collect()
    }

    /// Asks for a flush cycle now: a chunk or a comparison waits for it, and the pause between cycles would be all that it waits for.
    pub fn hurry(&self) {
        self.urgent.notify_one();
    }

    /// Ends when somebody has called [`Inbox::hurry`] since it ended last. Cancel-safe.
    pub async fn hurried(&self) {
        self.urgent.notified().await;
    }

    /// The present point.
    pub fn point(&self) -> StreamPoint {
        let state = self.lock();
        StreamPoint { position: self.position.borrow().clone(), executed: state.executed.clone() }
    }

    /// Number of dirty keys, and row images seen so far.
    pub fn counts(&self) -> (usize, u64) {
        let state = self.lock();
        (state.keys.len(), state.seen)
    }

    /// Follows the position.
    pub fn follow(&self) -> watch::Receiver<BinlogPosition> {
        self.position.subscribe()
    }
}

fn add(state: &mut State, keys: impl Iterator<Item = Key>) {
    for key in keys {
        let bytes = key.memory() + KEY_OVERHEAD;
        if state.keys.insert(key) {
            state.bytes += bytes;
        }
    }
}
