//! Where the streamer puts dirty keys and the applier takes them: the dirty set, with the position up to which it is complete.
//!
//! Invariant: every key of every transaction on the original that ends at or before [`Inbox::position`] is in the set, or was taken.
//! Bounded, whatever one transaction changes: past the limit the streamer waits (back-pressure; the server keeps the log). A transaction
//! enters as a whole, at its end, unless its keys alone are too many: then they enter in parts, as they are read ([`Inbox::part`]). That is
//! right, since the server sends nothing of a transaction before all of it is in the log and about to be committed: the barrier of a part
//! waits for the transaction itself. The position moves at its end only, so a successor reads all of it once more.

use super::orphans::{Gone, MOST_GONE};
use crate::engine::state::record::StreamPoint;
use crate::mysql::{BinlogPosition, GtidSet, MySqlError};
use crate::sql::key::Key;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use tokio::sync::{Notify, oneshot, watch};

/// Something in the stream that a person or the inspector must look at; the gravest one is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamNotice {
    /// A statement of someone else that may have rebuilt the original's table and changed neither its definition nor its rows: OPTIMIZE,
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

/// Something in the stream about a table that a new foreign key refers to ([`super::orphans`]); the graver one is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParentNotice {
    /// A statement that names it and may have changed its definition.
    Ddl,
    /// Its rows in the log have other columns than those that were read.
    Columns,
    /// Rows of it may have gone without being named in the log, or are too many to be remembered.
    Changed,
}

/// Source (with its tag) and number of a transaction.
pub(super) type Gtid = ([u8; 16], String, u64);

/// What a prepared XA transaction has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// These keys.
    Keys(Vec<Key>),
    /// Too many to be remembered: they are read again from the log, between the point before it and this position.
    InLog(BinlogPosition),
}

/// The end of a prepared XA transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreparedEnd<'a> {
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
    prepared: Vec<(String, StreamPoint, Changed)>,
    /// Of the keys of the prepared ones.
    prepared_bytes: usize,
    /// Parts of a transaction are in, and its end is not.
    partial: bool,
    /// Beside a graver one.
    rebuilt: bool,
    notice: Option<StreamNotice>,
    parent: Option<ParentNotice>,
    /// One about the transaction that is about to end.
    parent_to_come: Option<ParentNotice>,
    /// Rows that have left the parents of new foreign keys, by transactions that are in.
    gone: HashSet<Gone>,
    /// The same of the transaction that is about to end.
    going: Vec<Gone>,
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
    /// Someone waits for a flush.
    urgent: Notify,
    /// There is something to do after there was nothing.
    news: Notify,
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
    /// The gravest one about a parent since the last take.
    pub parent: Option<ParentNotice>,
    /// Rows that have left the parents of new foreign keys.
    pub gone: HashSet<Gone>,
    /// Those of the keys that were added without an event: no stream brings them once more.
    pub added: HashSet<Key>,
    /// More than memory holds is coming in: the rest of a transaction, or of many.
    pub more: bool,
}

impl State {
    fn nothing_is_dirty(&self) -> bool {
        self.keys.is_empty() && self.gone.is_empty()
    }
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
                prepared_bytes: 0,
                partial: false,
                rebuilt: false,
                notice: None,
                parent: None,
                parent_to_come: None,
                gone: HashSet::new(),
                going: Vec::new(),
                seen: 0,
                observed: HashMap::new(),
                added: HashSet::new(),
                asked: Vec::new(),
            }),
            position,
            room: Notify::new(),
            urgent: Notify::new(),
            news: Notify::new(),
            limit,
        }
    }

    /// Ends when a key has become dirty, or there is something to look at, where nothing was before. Perhaps once too often. Cancel-safe.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Tells it, if the set is no longer empty.
    fn tell(&self, state: &State, was_empty: bool) {
        if was_empty && !(state.nothing_is_dirty() && state.notice.is_none() && !state.rebuilt && state.parent.is_none()) {
            self.news.notify_one();
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
        prepared: Option<PreparedEnd<'_>>,
        gtid: Option<Gtid>,
        images: u64,
        position: BinlogPosition,
    ) {
        {
            let mut state = self.lock();
            let was_empty = state.nothing_is_dirty();
            state.seen += images;
            state.partial = false;
            if let Some(end) = prepared
                && let Some(at) = state.prepared.iter().position(|(xid, _, _)| xid == end.xid)
            {
                // Those in the log have come in parts.
                if let (_, _, Changed::Keys(prepared_keys)) = state.prepared.swap_remove(at) {
                    state.prepared_bytes -= prepared_keys.iter().map(weight).sum::<usize>();
                    if end.committed {
                        keys.extend(prepared_keys);
                    }
                }
            }
            add_logged(&mut state, keys);
            let going = std::mem::take(&mut state.going);
            state.gone.extend(going);
            state.parent = state.parent.max(state.parent_to_come.take());
            if state.gone.len() > MOST_GONE {
                state.gone.clear();
                state.parent = Some(ParentNotice::Changed);
            }
            if let Some((uuid, tag, number)) = gtid {
                state.fresh.insert(uuid, &tag, number);
                state.executed.insert(uuid, &tag, number);
            }
            // Under the lock, so that nobody sees the position without the keys.
            self.position.send_replace(position);
            self.tell(&state, was_empty);
        }
        loop {
            let room = self.room.notified();
            if self.lock().bytes <= self.limit {
                return;
            }
            room.await;
        }
    }

    /// Rows that the transaction which ends next takes out of the parents of new foreign keys.
    pub(super) fn going(&self, rows: Vec<Gone>) {
        self.lock().going = rows;
    }

    /// Remembers something about a parent. It is told when the transaction under way ends: whoever hears of it waits until that is visible.
    pub(super) fn notice_parent(&self, notice: ParentNotice) {
        let mut state = self.lock();
        state.parent_to_come = state.parent_to_come.max(Some(notice));
    }

    /// Some keys of a transaction whose end is still to come, as soon as there is room for them: they become dirty, and the position stays.
    /// `gtid` is that of the transaction whose commit makes them visible.
    pub async fn part(&self, keys: &mut Vec<Key>, gtid: Option<&Gtid>, images: u64) {
        let bytes: usize = keys.iter().map(weight).sum();
        loop {
            let room = self.room.notified();
            {
                let mut state = self.lock();
                if state.bytes == 0 || state.bytes + bytes <= self.limit {
                    let was_empty = state.nothing_is_dirty();
                    state.partial = true;
                    state.seen += images;
                    add_logged(&mut state, keys);
                    self.tell(&state, was_empty);
                    if let Some((uuid, tag, number)) = gtid {
                        // What the barrier waits for. Executed is what has been received whole.
                        state.fresh.insert(*uuid, tag, *number);
                    }
                    return;
                }
            }
            room.await;
        }
    }

    /// Bytes of keys, by [`weight`], beyond which a transaction enters in parts.
    pub(super) fn part_size(&self) -> usize {
        self.limit / 2
    }

    /// Whether the set has parts of a transaction whose end is still to come: whoever misses a row may get it by waiting.
    pub fn partial(&self) -> bool {
        self.lock().partial
    }

    /// Whether the streamer cannot go on before something is taken.
    pub fn full(&self) -> bool {
        let state = self.lock();
        state.bytes > self.limit || (state.partial && state.bytes + self.part_size() > self.limit)
    }

    /// A transaction on the original was prepared under `xid`, and its events end at `end`: its keys become dirty again when it is
    /// committed. `None`: they are too many.
    pub fn prepare(&self, xid: String, before: StreamPoint, keys: Option<Vec<Key>>, end: BinlogPosition) {
        let mut state = self.lock();
        let bytes = keys.iter().flatten().map(weight).sum::<usize>();
        let changed = match keys {
            Some(keys) if state.prepared_bytes + bytes <= self.part_size() => {
                state.prepared_bytes += bytes;
                Changed::Keys(keys)
            }
            _ => Changed::InLog(end),
        };
        state.prepared.push((xid, before, changed));
    }

    /// The stretch of the log that has what a prepared transaction changed, if it was too much to be remembered.
    pub(super) fn in_log(&self, xid: &str) -> Option<(StreamPoint, BinlogPosition)> {
        self.lock().prepared.iter().find_map(|(name, before, changed)| match changed {
            Changed::InLog(end) if name == xid => Some((before.clone(), end.clone())),
            _ => None,
        })
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
            // What rebuilt the table explains its new id to whoever looks at another notice.
            StreamNotice::Rebuilt => state.rebuilt = true,
            _ => state.notice = state.notice.max(Some(notice)),
        }
        self.tell(&state, true);
    }

    /// Whether there is something to look at.
    pub fn noticed(&self) -> bool {
        let state = self.lock();
        state.rebuilt || state.notice.is_some() || state.parent.is_some()
    }

    /// Takes the whole set.
    pub fn take(&self) -> Taken {
        let mut state = self.lock();
        let more = state.partial || state.bytes > self.part_size();
        state.bytes = 0;
        let taken = Taken {
            keys: std::mem::take(&mut state.keys).into_iter().collect(),
            point: StreamPoint { position: self.position.borrow().clone(), executed: state.executed.clone() },
            held_at: held_at(&state),
            fresh: std::mem::take(&mut state.fresh),
            rebuilt: std::mem::take(&mut state.rebuilt),
            notice: state.notice.take(),
            parent: state.parent.take(),
            gone: std::mem::take(&mut state.gone),
            added: std::mem::take(&mut state.added),
            more,
        };
        drop(state);
        self.room.notify_waiters();
        taken
    }

    /// Takes no key: the stream is to wait. `point` is that of the last take.
    pub(super) fn take_none(&self, point: &StreamPoint) -> Taken {
        let mut state = self.lock();
        Taken {
            keys: Vec::new(),
            point: point.clone(),
            held_at: held_at(&state),
            fresh: GtidSet::default(),
            rebuilt: std::mem::take(&mut state.rebuilt),
            notice: state.notice.take(),
            parent: state.parent.take(),
            gone: HashSet::new(),
            added: HashSet::new(),
            more: true,
        }
    }

    /// Makes keys dirty that no event named: rows found different.
    pub fn add(&self, keys: impl IntoIterator<Item = Key>) {
        let keys: Vec<Key> = keys.into_iter().collect();
        let mut state = self.lock();
        let was_empty = state.nothing_is_dirty();
        state.added.extend(keys.iter().cloned());
        add(&mut state, keys.into_iter());
        self.tell(&state, was_empty);
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
    pub(super) fn is_asked(&self) -> bool {
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

    /// Ends when someone has called [`Inbox::hurry`] since it ended last. Cancel-safe.
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
        (state.keys.len() + state.gone.len(), state.seen)
    }

    /// The present position.
    pub fn position(&self) -> BinlogPosition {
        self.position.borrow().clone()
    }

    /// The position as it moves.
    pub fn positions(&self) -> watch::Receiver<BinlogPosition> {
        self.position.subscribe()
    }
}

fn held_at(state: &State) -> Option<StreamPoint> {
    state.prepared.iter().map(|(_, at, _)| at).min_by(|a, b| a.position.cmp(&b.position)).cloned()
}

/// Leaves each key once; in order. What they cost.
pub(super) fn distinct(keys: &mut Vec<Key>) -> usize {
    keys.sort_unstable();
    keys.dedup();
    keys.iter().map(weight).sum()
}

/// What a key costs in memory.
pub fn weight(key: &Key) -> usize {
    key.memory() + KEY_OVERHEAD
}

/// Keys that events named.
fn add_logged(state: &mut State, keys: &mut Vec<Key>) {
    if !state.observed.is_empty() {
        for key in keys.iter() {
            if let Some(touched) = state.observed.get_mut(key) {
                *touched = true;
            }
        }
    }
    add(state, keys.drain(..));
}

fn add(state: &mut State, keys: impl Iterator<Item = Key>) {
    for key in keys {
        let bytes = weight(&key);
        if state.keys.insert(key) {
            state.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn keys(of: std::ops::Range<u16>) -> Vec<Key> {
        of.map(|n| Key::from_bytes(&n.to_be_bytes())).collect()
    }

    fn at(offset: u64) -> BinlogPosition {
        BinlogPosition { file: "binlog.000001".into(), offset }
    }

    fn inbox(room: usize) -> Inbox {
        let start = StreamPoint { position: at(4), executed: GtidSet::default() };
        Inbox::new(start, room * weight(&Key::from_bytes(&[0, 0])))
    }

    #[test]
    fn a_key_that_a_transaction_changed_more_than_once_counts_once() {
        let mut twice: Vec<Key> = keys(0..8).into_iter().chain(keys(2..10)).collect();
        assert_eq!(distinct(&mut twice), 10 * weight(&twice[0]));
        assert_eq!(twice, keys(0..10));
    }

    #[tokio::test]
    async fn a_part_is_behind_its_own_barrier_and_moves_no_position() {
        let inbox = inbox(10);
        let gtid = ([7; 16], String::new(), 3);
        let before = inbox.point();
        inbox.part(&mut keys(0..8), Some(&gtid), 8).await;
        let part = inbox.take();
        assert_eq!((part.keys.len(), part.more, &part.point), (8, true, &before));
        let mut expected = GtidSet::default();
        expected.insert(gtid.0, "", 3);
        assert_eq!(part.fresh, expected, "the barrier waits for it");
        assert!(part.point.executed.is_empty(), "it was not received whole");
        inbox.commit(&mut keys(8..9), None, Some(gtid), 1, at(100)).await;
        let rest = inbox.take();
        assert_eq!((rest.keys.len(), rest.more, &rest.point.position), (1, false, &at(100)));
        assert_eq!((rest.point.executed, inbox.counts()), (expected, (0, 9)));
    }

    #[tokio::test]
    async fn a_part_waits_for_room() {
        let inbox = Arc::new(inbox(10));
        inbox.part(&mut keys(0..8), None, 8).await;
        let other = Arc::clone(&inbox);
        let second = tokio::spawn(async move { other.part(&mut keys(8..16), None, 8).await });
        tokio::task::yield_now().await;
        assert_eq!((inbox.counts().0, inbox.full(), second.is_finished()), (8, true, false));
        assert_eq!(inbox.take_none(&inbox.point()).keys.len(), 0);
        assert_eq!(inbox.take().keys.len(), 8);
        second.await.expect("it went in");
        assert_eq!(inbox.counts().0, 8);
    }

    #[tokio::test]
    async fn prepared_transactions_share_a_part_of_the_memory() {
        let inbox = inbox(10);
        inbox.prepare("a".into(), inbox.point(), Some(keys(0..3)), at(10));
        inbox.prepare("b".into(), inbox.point(), Some(keys(3..6)), at(20));
        inbox.prepare("c".into(), inbox.point(), None, at(30));
        let in_log = |name: &str| inbox.in_log(name).map(|(_, end)| end);
        assert_eq!((in_log("a"), in_log("b"), in_log("c")), (None, Some(at(20)), Some(at(30))));
        inbox.commit(&mut Vec::new(), Some(PreparedEnd { xid: "a", committed: true }), None, 0, at(40)).await;
        inbox.prepare("d".into(), inbox.point(), Some(keys(6..9)), at(50));
        assert_eq!(in_log("d"), None, "there is room again");
        let taken = inbox.take();
        assert_eq!((taken.keys.len(), taken.held_at.map(|p| p.position)), (3, Some(at(4))));
    }
}
