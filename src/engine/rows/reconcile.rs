//! One batch of dirty keys, made equal on the ghost in one transaction (rules 5 and 6).
//!
//! A value that has left one row for another is still held by a stale row of the ghost until that row is reconciled, too. The first such
//! collision costs a rollback and is remembered ([`Collisions`]); from then on each batch looks ahead: one join per unique key, by the
//! server's comparison, finds the rows of the ghost that hold a value which the batch is about to insert, and they go first.
//!
//! Promises: a ghost row that is removed is written again by the same transaction, or its key is *pending*: an event made it dirty, the
//! safe position lies before that event, and its own batch follows in the same cycle. So a crash at any moment leaves nothing missing that
//! the next engine would not be told of, and a chain of values, however long, costs one removal and one insertion for each of its rows.

use super::conflict::{self, Lookup};
use super::migration::Migration;
use super::transaction::{self, Commit, Failure, GhostTransaction};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::mysql::{MySqlError, Session};
use crate::sql::key::{Key, Side};
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Holders that one batch takes with it. More of them at a time are the work of a transaction that the stream has not brought yet, and
/// then they are pending in the next cycle.
const MOST_JOINED: usize = 2_000;
/// Batches after which an index that met nobody is not looked at any more.
const FORGET: u32 = 200;
/// How long a conflict that cannot be looked into may stay before it is taken for a real duplicate: the stream may be behind.
const UNEXPLAINED: Duration = Duration::from_secs(15);
/// How often a batch is tried again after a deadlock or a lock wait of a second before the attempt is given up.
const LOSSES: u32 = 20;
/// How often a batch is tried again after a conflict.
const CONFLICTS: u32 = 100;

/// The unique keys of the ghost in which values have collided.
#[derive(Default)]
pub(super) struct Collisions {
    met: Vec<Met>,
    more: bool,
}

struct Met {
    index: String,
    /// `None`: the server shows no expression for what is in the index.
    lookup: Option<Lookup>,
    /// Batches since a holder was found.
    quiet: u32,
    /// Since when no batch was done, in an index that cannot be looked into.
    unexplained: Option<Instant>,
}

impl Met {
    /// The look-up, if an index serves it.
    fn ahead(&self) -> Option<&Lookup> {
        self.lookup.as_ref().filter(|lookup| lookup.indexed)
    }
}

impl Collisions {
    /// Whether there is anything to look ahead for.
    pub fn any(&self) -> bool {
        !self.met.is_empty()
    }

    /// Whether the stream is about to bring more than memory holds at a time, so that what is pending is never all that changed together.
    pub(super) fn expect_more(&mut self, more: bool) {
        self.more = more;
    }

    /// As it was said.
    pub(super) fn more_to_come(&self) -> bool {
        self.more
    }

    /// Whether there are some whose holders no index finds (prefixes, expressions): only removing all that is pending helps there.
    pub fn blind(&self) -> bool {
        self.met.iter().any(|met| met.ahead().is_none())
    }

    /// Whether batches look ahead for the index that an error names.
    fn looks_ahead(&self, m: &Migration, error: &MySqlError) -> bool {
        let index = conflict::violated(m, error);
        self.met.iter().any(|met| met.ahead().is_some() && index.is_some_and(|index| index.name == met.index))
    }

    /// Whether the holders in this index are still to come: pending rows are out of the way, and nobody can say who is in it.
    fn wait_for_more(&mut self, m: &Migration, error: &MySqlError) -> bool {
        let index = conflict::violated(m, error);
        let met = self.met.iter_mut().find(|met| met.lookup.is_none() && index.is_some_and(|index| index.name == met.index));
        if self.more {
            // It takes as long as it takes.
            return met.map(|met| met.unexplained = None).is_some();
        }
        met.is_some_and(|met| met.unexplained.get_or_insert_with(Instant::now).elapsed() <= UNEXPLAINED)
    }

    /// Remembers the index that an error names. False: it was known, or is the key's own.
    ///
    /// # Errors
    /// The server's.
    pub async fn learn(&mut self, m: &Migration, session: &mut Session, error: &MySqlError) -> Result<bool, EngineError> {
        let Some(index) = conflict::violated(m, error) else { return Ok(false) };
        if self.met.iter().any(|met| met.index == index.name) || conflict::follows_from_key(m, index) {
            return Ok(false);
        }
        let met = Met { index: index.name.clone(), lookup: Lookup::new(m, session, error).await?, quiet: 0, unexplained: None };
        tracing::debug!(
            index = met.index,
            ahead = met.ahead().is_some(),
            "unique values collide here; checking for collisions from now on"
        );
        self.met.push(met);
        Ok(true)
    }

    /// Rows of the ghost that hold a value which the original's rows of these keys have.
    async fn holders(&mut self, m: &Migration, session: &mut Session, keys: &[Key]) -> Result<HashSet<Key>, Failure> {
        let mut found = HashSet::new();
        let condition = m.codec.in_list(Side::Original, keys.iter());
        for met in &mut self.met {
            let Some(lookup) = met.ahead() else { continue };
            let holders = lookup.holders(m, session, &condition).await?;
            met.quiet = if holders.is_empty() { met.quiet + 1 } else { 0 };
            found.extend(holders);
        }
        Ok(found)
    }

    /// A batch is done.
    fn done(&mut self) {
        self.met.retain(|met| met.quiet < FORGET);
        for met in &mut self.met {
            met.unexplained = None;
            if met.ahead().is_none() {
                met.quiet += 1;
            }
        }
    }
}

/// The keys of a cycle whose batches are still to come, in stretches of the sorted keys that were taken: no copy is made of them.
pub struct Pending<'a> {
    stretches: VecDeque<&'a [Key]>,
    /// No stream brings these once more, so their rows may not be missing for a moment.
    unlogged: &'a HashSet<Key>,
    /// No row may be: each holds what only it knows.
    together: bool,
}

impl<'a> Pending<'a> {
    /// Each stretch is sorted.
    pub fn new(stretches: impl IntoIterator<Item = &'a [Key]>, unlogged: &'a HashSet<Key>) -> Self {
        Self { stretches: stretches.into_iter().filter(|keys| !keys.is_empty()).collect(), unlogged, together: false }
    }

    /// Rows that are removed are written again by the same transaction, whoever's they are.
    #[must_use]
    pub(super) fn together(self, together: bool) -> Self {
        Self { together, ..self }
    }

    /// The next batch, of at most `size` keys: they are not pending any more.
    pub fn next(&mut self, size: usize) -> Option<&'a [Key]> {
        let keys = self.stretches.pop_front()?;
        let (batch, rest) = keys.split_at(size.min(keys.len()));
        if !rest.is_empty() {
            self.stretches.push_front(rest);
        }
        Some(batch)
    }

    /// A batch is to come once more.
    pub fn again(&mut self, batch: &'a [Key]) {
        self.stretches.push_front(batch);
    }

    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Whether the row of this key may be removed and left to its own batch.
    pub fn contains(&self, key: &Key) -> bool {
        !self.together && !self.unlogged.contains(key) && self.stretches.iter().any(|keys| keys.binary_search(key).is_ok())
    }

    /// All that is to come.
    pub fn keys(&self) -> Vec<Key> {
        self.stretches.iter().copied().flatten().cloned().collect()
    }

    /// What may be removed at once, in batches.
    pub(super) fn removable(&self, size: usize) -> impl Iterator<Item = Vec<Key>> {
        let (unlogged, stretches) = (self.unlogged, if self.together { None } else { Some(&self.stretches) });
        let batches = stretches.into_iter().flatten().flat_map(move |keys| keys.chunks(size));
        batches.map(move |batch| batch.iter().filter(|key| !unlogged.contains(*key)).cloned().collect())
    }
}

/// Why a batch's transaction did not come about.
enum Undone {
    /// Too many rows are in the way.
    Full,
    /// Something else.
    Failed(Failure),
}

impl<T: Into<Failure>> From<T> for Undone {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

const REMOVE: &str = "remove changed rows from the ghost";
const COPY: &str = "copy changed rows";

/// Makes the ghost's rows of these keys equal to the original's present rows, in one transaction. No row is looked for that may be in the way.
///
/// # Errors
/// As [`transaction::write`].
pub(super) async fn plainly(m: &Migration, session: &mut Session, keys: &[Key]) -> Result<(), Failure> {
    transaction::write(m, session, async |ghost| {
        ghost.delete(REMOVE, keys).await?;
        ghost.copy_keys(COPY, keys).await?;
        Ok((Commit::Keys { aside: false }, ()))
    })
    .await
}

/// As [`plainly`], with whoever is in the way: rows that hold a value which is about to be inserted are removed first. Those that are
/// pending come back with their own batch; the others join this one, so that their present rows are written with it.
async fn with_holders(
    m: &Migration,
    session: &mut Session,
    keys: &mut Vec<Key>,
    collisions: &mut Collisions,
    pending: &Pending<'_>,
    room: usize,
) -> Result<(), Undone> {
    transaction::write(m, session, async |ghost| {
        ghost.delete(REMOVE, keys).await?;
        remove_holders(m, ghost, keys, collisions, pending, room).await?;
        ghost.copy_keys(COPY, keys).await?;
        Ok((Commit::Keys { aside: !pending.is_empty() }, ()))
    })
    .await
}

async fn remove_holders(
    m: &Migration,
    ghost: &mut GhostTransaction<'_>,
    keys: &mut Vec<Key>,
    collisions: &mut Collisions,
    pending: &Pending<'_>,
    room: usize,
) -> Result<(), Undone> {
    let mut looked = 0;
    while looked < keys.len() {
        // Rows that this transaction has removed are not found again.
        let holders = collisions.holders(m, ghost.session(), &keys[looked..]).await?;
        looked = keys.len();
        if holders.is_empty() {
            break;
        }
        let holders: Vec<Key> = holders.into_iter().collect();
        ghost.delete("remove rows that hold a unique value another row needs", &holders).await?;
        keys.extend(holders.into_iter().filter(|key| !pending.contains(key)));
        if keys.len() > room {
            return Err(Undone::Full);
        }
    }
    Ok(())
}

/// Removes the ghost's rows of pending keys, so that none of them is in another's way.
///
/// # Errors
/// As [`transaction::write`].
pub async fn remove(m: &Migration, session: &mut Session, keys: &[Key]) -> Result<(), Failure> {
    transaction::write(m, session, async |ghost| {
        ghost.delete(REMOVE, keys).await?;
        Ok((Commit::Keys { aside: true }, ()))
    })
    .await
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// The rows are equal.
    Done,
    /// Too many rows are in the way: the stream will bring them.
    Full,
    /// Nobody can say what is in the way: the stream will bring it.
    Deferred,
    /// A collision that can only be met by removing all that is pending first.
    Blind,
    /// Somebody wants the engine to stop.
    Halted,
}

/// Repeats a batch until it is done, alone: nobody else reconciles meanwhile. Two rows of the original that have one value under the new
/// definition end the migration.
///
/// # Errors
/// [`Reason::DuplicateKey`]; whatever ends the attempt.
pub(super) async fn patiently(
    m: &Migration,
    session: &mut Session,
    batch: &[Key],
    collisions: &mut Collisions,
    pending: &Pending<'_>,
    halt: &(dyn Fn() -> bool + Sync),
) -> Result<Settled, EngineError> {
    let mut batch = batch.to_vec();
    let room = batch.len() + MOST_JOINED;
    let (mut losses, mut conflicts, mut stuck) = (0_u32, 0_u32, 0_u32);
    while !halt() {
        let mut keys = batch.clone();
        match with_holders(m, session, &mut keys, collisions, pending, room).await {
            Ok(()) => {
                collisions.done();
                return Ok(Settled::Done);
            }
            Err(Undone::Full) => return Ok(Settled::Full),
            Err(Undone::Failed(Failure::Over(error))) => return Err(error),
            Err(Undone::Failed(Failure::Lost(error))) => {
                losses += 1;
                if losses > LOSSES {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=10 * u64::from(losses)))).await;
            }
            Err(Undone::Failed(Failure::Conflict(error))) => {
                conflicts += 1;
                tracing::debug!(index = error.index, keys = keys.len(), conflicts, "unique conflict in a batch");
                if conflicts > CONFLICTS {
                    return Err(EngineError::transient(
                        Reason::StatementInterrupted,
                        "rows keep exchanging a unique value faster than they can be reconciled; they will be retried",
                    ));
                }
                if collisions.learn(m, session, &error).await? {
                    if collisions.blind() {
                        return Ok(Settled::Blind);
                    }
                    continue;
                }
                if collisions.wait_for_more(m, &error) {
                    return Ok(Settled::Deferred);
                }
                // Whoever joined stays: two of these rows may be a real duplicate.
                let known = batch.len();
                batch = keys;
                let condition = m.codec.in_list(Side::Original, batch.iter());
                if !collisions.looks_ahead(m, &error) {
                    batch.extend(conflict::holders(m, session, &error, &condition).await?);
                    batch.sort_unstable();
                    batch.dedup();
                }
                if batch.len() == known {
                    // Nobody outside the batch holds it: two of its own rows, or rows that moved between the two statements.
                    stuck += 1;
                    if stuck >= 3 {
                        conflict::prove(m, session, &error, &condition, &[]).await?;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        }
    }
    Ok(Settled::Halted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(of: impl IntoIterator<Item = u8>) -> Vec<Key> {
        of.into_iter().map(|n| Key::from_bytes(&[n])).collect()
    }

    #[test]
    fn keys_are_pending_until_their_batch_begins() {
        let (all, unlogged) = (keys(0..10), keys([7]).into_iter().collect());
        // The first batch ran in parallel and is done, the second lost.
        let mut pending = Pending::new([&all[2..4], &all[4..]], &unlogged);
        let named = |pending: &Pending<'_>| -> Vec<u8> { (0..12).filter(|n| pending.contains(&Key::from_bytes(&[*n]))).collect() };
        assert_eq!(named(&pending), [2, 3, 4, 5, 6, 8, 9], "what no event named is never left to its batch");
        assert_eq!(pending.next(3), Some(&all[2..4]));
        let batch = pending.next(3).expect("more");
        assert_eq!(batch, &all[4..7]);
        assert_eq!(named(&pending), [8, 9]);
        pending.again(batch);
        assert_eq!(pending.keys(), all[4..]);
        assert_eq!(pending.removable(2).flatten().collect::<Vec<_>>(), keys([4, 5, 6, 8, 9]));
    }
}
