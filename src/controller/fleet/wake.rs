//! How something that is not a Kubernetes event asks for a visit to an object: an engine's news, a slot that became free.
//!
//! A set, not a list: asking twice before the visit is asking once, so it never holds more than there are objects.
use crate::api::SchemaMigration;
use futures::Stream;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tokio::sync::Notify;

/// A migration, or the reason why it cannot be read: one bad object must not end the watch of all others.
pub type Guarded = DeserializeGuard<SchemaMigration>;

/// The objects of one controller that want a visit.
#[derive(Default)]
pub struct WakeQueue {
    waiting: Mutex<HashSet<ObjectRef<Guarded>>>,
    news: Notify,
}

impl WakeQueue {
    /// Asks for a visit.
    pub fn wake(&self, object: ObjectRef<Guarded>) {
        self.waiting.lock().insert(object);
        self.news.notify_one();
    }

    fn take(&self) -> Option<ObjectRef<Guarded>> {
        let mut waiting = self.waiting.lock();
        let next = waiting.iter().next().cloned()?;
        waiting.take(&next)
    }

    /// The visits asked for, as they come. To be used by one controller only.
    pub fn stream(self: Arc<Self>) -> impl Stream<Item = ObjectRef<Guarded>> + Send + 'static {
        futures::stream::unfold(self, |queue| async move {
            loop {
                if let Some(next) = queue.take() {
                    return Some((next, queue));
                }
                // A permit is kept if the news came before this wait.
                queue.news.notified().await;
            }
        })
    }
}

/// The wake queues of all controllers: one for all namespaces, or one for each that is watched.
#[derive(Clone, Default)]
pub struct Wakers(BTreeMap<String, Arc<WakeQueue>>);

impl Wakers {
    /// For these namespaces; for all when there is none.
    pub fn new(namespaces: &[String]) -> Self {
        if namespaces.is_empty() {
            return Self([(String::new(), Arc::default())].into());
        }
        Self(namespaces.iter().map(|namespace| (namespace.clone(), Arc::default())).collect())
    }

    /// The queue of the controller that watches this namespace; the empty name is that of the one for all.
    pub fn of(&self, namespace: &str) -> Option<Arc<WakeQueue>> {
        self.0.get("").or_else(|| self.0.get(namespace)).cloned()
    }

    /// Asks for a visit to an object.
    pub fn wake(&self, namespace: &str, name: &str) {
        if let Some(queue) = self.of(namespace) {
            queue.wake(ObjectRef::new(name).within(namespace));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::StreamExt;

    #[tokio::test]
    async fn asking_twice_is_asking_once_and_nothing_is_lost() {
        let wakers = Wakers::new(&["a".to_owned(), "b".to_owned()]);
        wakers.wake("a", "x");
        wakers.wake("a", "x");
        wakers.wake("a", "y");
        wakers.wake("b", "z");
        wakers.wake("not-watched", "z");
        let names =
            |namespace: &str, count| wakers.of(namespace).unwrap().stream().take(count).map(|object| object.name).collect::<Vec<_>>();
        let mut a = names("a", 2).await;
        a.sort();
        assert_eq!(a, ["x", "y"]);
        assert_eq!(names("b", 1).await, ["z"]);
        assert!(wakers.of("a").unwrap().take().is_none());
        let all = Wakers::new(&[]);
        all.wake("anywhere", "x");
        assert!(all.of("elsewhere").unwrap().take().is_some());
    }
}
