//! The engines of this operator, owned under the leadership scope, and who waits for one.
//!
//! # Ownership
//! The registry is made when this process becomes the leader and [`Registry::stop`]ped when it is no longer or shuts down: no engine outlives
//! it, and each is told to stop the moment the term ends, whatever visits are doing then. Each entry has an async lock that a visit holds for its whole length; visits to one object never overlap anyway (kube's guarantee), so
//! only the shutdown and the sweep ever wait for it. The queue's lock is held for the time of a computation, never over an await.
use super::entry::{EngineEnd, Entry};
use super::queue::{Admission, Holding, Queue, Ticket, Uid};
use super::wake::Wakers;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;

/// Which object an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub namespace: String,
    pub name: String,
    /// The UID: another object of the same name is another migration.
    pub uid: Uid,
}

/// Memory and engines of all migrations.
pub struct Registry {
    entries: Mutex<HashMap<Uid, Slot>>,
    queue: Mutex<Queue>,
    unvisited: Mutex<Unvisited>,
    wakers: Wakers,
    /// Cancelled when no engine may run any more.
    term: CancellationToken,
}

/// Which objects that were there at the start have not been visited yet.
enum Unvisited {
    /// They are not known yet; these have been visited already.
    NotListed(HashSet<Uid>),
    Left(HashSet<Uid>),
}

struct Slot {
    identity: Identity,
    entry: Arc<AsyncMutex<Entry>>,
    phase: &'static str,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under these locks leaves a value half changed.
    mutex.lock()
}

impl Registry {
    /// For at most `total_limit` engines at once, until `term` is cancelled.
    pub fn new(total_limit: usize, wakers: Wakers, term: CancellationToken) -> Self {
        Self {
            entries: Mutex::default(),
            queue: Mutex::new(Queue::new(total_limit)),
            unvisited: Mutex::new(Unvisited::NotListed(HashSet::new())),
            wakers,
            term,
        }
    }

    /// The entry of an object, made by `adopt` if there is none.
    pub fn entry(&self, identity: &Identity, adopt: impl FnOnce() -> Entry) -> Arc<AsyncMutex<Entry>> {
        let mut entries = lock(&self.entries);
        let slot = entries.entry(identity.uid.clone()).or_insert_with(|| Slot {
            identity: identity.clone(),
            entry: Arc::new(AsyncMutex::new(adopt())),
            phase: "Queued",
        });
        slot.entry.clone()
    }

    /// Forgets an object and what it claims; its engine, if it still has one, ends at once.
    pub fn forget(&self, uid: &str) {
        lock(&self.entries).remove(uid);
        self.leave(uid);
    }

    /// Whether no engine may be started any more.
    pub fn is_closing(&self) -> bool {
        self.term.is_cancelled()
    }

    /// The term in which engines may run.
    pub fn term(&self) -> CancellationToken {
        self.term.clone()
    }

    /// Asks for a place.
    pub fn enter(&self, uid: &str, ticket: Ticket, begun: bool) -> Admission {
        let place = lock(&self.queue).enter(uid, ticket, begun);
        self.wake_runnable(uid);
        place
    }

    /// Whether the claims of all objects are known.
    pub fn is_settled(&self) -> bool {
        lock(&self.queue).is_settled()
    }

    /// The clauses of those who have or get the same table first.
    pub fn before(&self, uid: &str) -> Vec<String> {
        lock(&self.queue).before(uid)
    }

    /// Gives the slot back and keeps the table.
    pub fn hold_table(&self, uid: &str, ticket: Ticket, why: Holding) {
        lock(&self.queue).hold_table(uid, ticket, why);
        self.wake_runnable(uid);
    }

    /// Gives everything back.
    pub fn leave(&self, uid: &str) {
        lock(&self.queue).leave(uid);
        self.wake_runnable(uid);
    }

    fn wake_runnable(&self, but: &str) {
        let runnable = lock(&self.queue).runnable();
        self.wake(runnable.iter().filter(|uid| uid.as_str() != but));
    }

    fn wake<'a>(&self, uids: impl Iterator<Item = &'a Uid>) {
        let entries = lock(&self.entries);
        for slot in uids.filter_map(|uid| entries.get(uid)) {
            self.wakers.wake(&slot.identity.namespace, &slot.identity.name);
        }
    }

    /// These objects are there at the start: slots are granted once each has been visited.
    pub fn expect(&self, uids: impl IntoIterator<Item = Uid>) {
        let mut left: HashSet<Uid> = uids.into_iter().collect();
        {
            let mut unvisited = lock(&self.unvisited);
            if let Unvisited::NotListed(visited) = &*unvisited {
                left.retain(|uid| !visited.contains(uid));
            }
            if !left.is_empty() {
                *unvisited = Unvisited::Left(left);
                return;
            }
            *unvisited = Unvisited::Left(HashSet::new());
        }
        self.settle();
    }

    /// An object has been visited, whatever came of it.
    pub fn visited(&self, uid: &str) {
        let done = match &mut *lock(&self.unvisited) {
            Unvisited::NotListed(visited) => {
                visited.insert(uid.to_owned());
                false
            }
            Unvisited::Left(left) => left.remove(uid) && left.is_empty(),
        };
        if done {
            self.settle();
        }
    }

    /// Slots may be granted now, though some objects may not have been visited.
    pub fn settle(&self) {
        let waiting = {
            let mut queue = lock(&self.queue);
            if queue.is_settled() {
                return;
            }
            queue.settle();
            queue.waiting()
        };
        // All of them: those that cannot run have another reason now.
        self.wake(waiting.iter());
    }

    /// Notes an object's phase for the metrics.
    pub fn note_phase(&self, uid: &str, phase: &'static str) {
        if let Some(slot) = lock(&self.entries).get_mut(uid) {
            slot.phase = phase;
        }
    }

    /// How many objects are in each phase.
    pub fn phases(&self) -> HashMap<&'static str, usize> {
        let mut counts = HashMap::new();
        for slot in lock(&self.entries).values() {
            *counts.entry(slot.phase).or_default() += 1;
        }
        counts
    }

    /// Forgets the objects that are not there any more: someone took the finalizer away. Their engines are stopped; the work stays in MySQL.
    pub async fn sweep(&self, present: &HashSet<Uid>) {
        let gone: Vec<Slot> = {
            let mut entries = lock(&self.entries);
            let uids: Vec<Uid> = entries.keys().filter(|uid| !present.contains(*uid)).cloned().collect();
            uids.into_iter().filter_map(|uid| entries.remove(&uid)).collect()
        };
        for slot in gone {
            let engine = slot.entry.lock().await.engine.take();
            if let Some(engine) = engine {
                tracing::warn!(
                    namespace = slot.identity.namespace,
                    name = slot.identity.name,
                    "the object was removed without its clean-up; stopping the engine"
                );
                engine.stop();
                engine.join().await;
            }
            self.leave(&slot.identity.uid);
        }
    }

    /// Waits for the end of all engines at once, each for at most `limit`; returns all entries, and how the engines ended. To be called when the
    /// term has ended and no visits are made any more.
    pub async fn stop(&self, limit: Duration) -> Vec<(Identity, Arc<AsyncMutex<Entry>>, Option<EngineEnd>)> {
        self.term.cancel();
        let entries: Vec<_> = lock(&self.entries).values().map(|slot| (slot.identity.clone(), slot.entry.clone())).collect();
        let stops = entries.into_iter().map(|(identity, entry)| async move {
            let engine = entry.lock().await.engine.take();
            let ended = match engine {
                Some(engine) => {
                    engine.stop();
                    Some(engine.join_within(limit).await)
                }
                None => None,
            };
            (identity, entry, ended)
        });
        futures::future::join_all(stops).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_queue_settles_when_each_object_of_the_first_list_was_visited() {
        let uids = |list: &[&str]| list.iter().map(|uid| (*uid).to_owned()).collect::<Vec<_>>();
        let settled = |registry: &Registry| lock(&registry.queue).is_settled();
        for (visited_before, listed, visited_after, expected) in [
            (&[][..], &[][..], &[][..], true),
            (&["a"], &["a"], &[], true),
            (&["a"], &["a", "b"], &[], false),
            (&["a"], &["a", "b"], &["b"], true),
            (&[], &["a", "b"], &["b"], false),
            (&[], &["a", "b"], &["b", "new", "a"], true),
        ] {
            let registry = Registry::new(1, Wakers::default(), CancellationToken::new());
            visited_before.iter().for_each(|uid| registry.visited(uid));
            assert!(!settled(&registry));
            registry.expect(uids(listed));
            visited_after.iter().for_each(|uid| registry.visited(uid));
            assert_eq!(settled(&registry), expected, "{visited_before:?} {listed:?} {visited_after:?}");
        }
    }
}
