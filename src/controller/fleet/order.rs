//! Who waits for whom by `spec.after`: what is known of every migration, as its watch has said it, and the decision that follows. Pure, but for
//! one lock.
//!
//! A migration is known by its name in its namespace, as `spec.after` has it: who is deleted and created again under the same name is waited
//! for again. Only one that has not begun looks at the others; one that has begun has no need of them any more.
//!
//! # Guarantees
//! Nobody starts before each of the others has succeeded, or had succeeded when it was last seen. Before the first list of a namespace is
//! complete nothing is decided ([`After::NotYet`]): one that is not known yet is not one that does not exist.
//! Whoever may have to decide otherwise after a change is named by [`Order::take`], at once.
use crate::api::SchemaMigration;
use crate::api::conditions::{READY, STALLED, SUCCEEDED, Truth, find, is};
use kube::Resource as _;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};

use super::wake::Guarded;

/// What a migration that others wait for looks like to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has done what was asked for.
    Succeeded,
    /// Not over: the word of its phase.
    Under(String),
    /// Nothing goes on without someone's doing: the reason.
    Stalled(String),
    /// It was refused or has failed: the reason.
    Failed(String),
    /// It was cancelled, which is for good.
    Cancelled,
    /// It is being deleted, and has not succeeded.
    Leaving,
    /// This version of the operator cannot read it.
    Unreadable,
}

/// What is known of one migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// How it is doing.
    pub standing: Standing,
    /// Those it waits for.
    pub after: Vec<String>,
    /// It has begun: it waits for nobody.
    pub begun: bool,
}

impl Node {
    fn of(object: &Guarded) -> Self {
        match &object.0 {
            Ok(migration) => Self::of_migration(migration),
            Err(_) => Self { standing: Standing::Unreadable, after: Vec::new(), begun: true },
        }
    }

    fn of_migration(migration: &SchemaMigration) -> Self {
        let status = migration.status.clone().unwrap_or_default();
        let reason = || find(&status.conditions, READY).map(|ready| ready.reason.clone()).unwrap_or_default();
        let standing = if is(&status.conditions, SUCCEEDED, Truth::True) {
            Standing::Succeeded
        } else if migration.metadata.deletion_timestamp.is_some() {
            Standing::Leaving
        } else if is(&status.conditions, SUCCEEDED, Truth::False) {
            match reason().as_str() {
                "Cancelled" => Standing::Cancelled,
                reason => Standing::Failed(reason.to_owned()),
            }
        } else if is(&status.conditions, STALLED, Truth::True) {
            Standing::Stalled(reason())
        } else {
            Standing::Under(status.phase.clone().unwrap_or_else(|| "Queued".to_owned()))
        };
        Self { standing, after: migration.spec.after.clone(), begun: status.started_at.is_some() }
    }

    /// Whether it may still have to wait for the others: not once it has begun, nor when it will never begin.
    fn waits(&self) -> bool {
        !self.begun && !matches!(self.standing, Standing::Succeeded | Standing::Cancelled)
    }
}

/// All migrations of a namespace by name.
pub(super) type Nodes = BTreeMap<String, Node>;

/// What `spec.after` means for a migration that has not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// It waits for nobody; these have succeeded.
    Clear(Vec<String>),
    /// It has to wait.
    Waits {
        /// Those that are waited for, each with its state in brackets.
        waits_for: String,
        /// The same as a sentence that says what to do where waiting alone does not help.
        message: String,
        /// Those that have succeeded, also the ones that have gone since.
        succeeded: Vec<String>,
    },
    /// It would wait for itself: the way round, beginning and ending with its own name.
    Cycle(Vec<String>),
    /// Not all migrations are known yet.
    NotYet,
}

/// Decides. `remembered` are those that this migration has seen succeed.
pub fn decide(name: &str, after: &[String], remembered: &[String], nodes: &Nodes) -> After {
    if let Some(cycle) = cycle(name, after, nodes) {
        return After::Cycle(cycle);
    }
    let (mut succeeded, mut waits, mut hints) = (Vec::new(), Vec::new(), Vec::new());
    for other in after {
        let (state, hint) = match nodes.get(other).map(|node| &node.standing) {
            Some(Standing::Succeeded) => {
                succeeded.push(other.clone());
                continue;
            }
            // It did what was asked for and was cleared away since, as `ttlAfterFinished` does.
            None if remembered.contains(other) => {
                succeeded.push(other.clone());
                continue;
            }
            Some(Standing::Under(phase)) => (phase.clone(), None),
            Some(Standing::Stalled(reason)) => (format!("stalled: {reason}"), Some("needs someone to act")),
            Some(Standing::Failed(reason)) => (format!("failed: {reason}"), Some("has failed: retry it (theseus.dev/retry)")),
            Some(Standing::Cancelled) => ("cancelled".to_owned(), Some("was cancelled: create it again")),
            Some(Standing::Leaving) => ("being deleted".to_owned(), Some("is being deleted: create it again")),
            Some(Standing::Unreadable) => ("not readable".to_owned(), Some("cannot be read by this version of the operator")),
            None => ("does not exist".to_owned(), Some("does not exist in this namespace: create it")),
        };
        waits.push(format!("{other} ({state})"));
        hints.extend(hint.map(|hint| format!("; {other} {hint}")));
    }
    if waits.is_empty() {
        return After::Clear(succeeded);
    }
    let waits_for = waits.join(", ");
    let message = format!("waiting for {waits_for}, as spec.after says{}", hints.concat());
    After::Waits { waits_for, message, succeeded }
}

/// The shortest way from a migration back to itself.
///
/// Those that have begun wait for nobody, so no way leads through them.
fn cycle(name: &str, after: &[String], nodes: &Nodes) -> Option<Vec<String>> {
    let mut from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut layer: Vec<&str> = vec![name];
    while !layer.is_empty() {
        let mut next = Vec::new();
        for at in layer {
            let edges: &[String] =
                if at == name { after } else { nodes.get(at).filter(|node| node.waits()).map_or(&[], |node| &node.after) };
            for to in edges {
                if to == name {
                    let mut way = vec![name.to_owned()];
                    let mut step = at;
                    while step != name {
                        way.push(step.to_owned());
                        step = from.get(step).copied().unwrap_or(name);
                    }
                    way.push(name.to_owned());
                    way.reverse();
                    return Some(way);
                }
                if !from.contains_key(to.as_str()) {
                    from.insert(to, at);
                    next.push(to.as_str());
                }
            }
        }
        layer = next;
    }
    None
}

/// Who has to be visited after the node of `name` became another one.
///
/// How it is doing concerns those that wait for it; what it waits for also concerns those that wait for these: a cycle may have been closed.
fn concerned(name: &str, before: Option<&Node>, now: Option<&Node>, nodes: &Nodes) -> BTreeSet<String> {
    if before == now {
        return BTreeSet::new();
    }
    let edges = |node: Option<&Node>| node.filter(|node| node.waits()).map(|node| node.after.clone()).unwrap_or_default();
    let all_the_way = edges(before) != edges(now);
    let mut found = BTreeSet::new();
    let mut look_at = vec![name.to_owned()];
    while let Some(at) = look_at.pop() {
        for (other, node) in nodes {
            if other != name && node.waits() && node.after.contains(&at) && found.insert(other.clone()) && all_the_way {
                look_at.push(other.clone());
            }
        }
    }
    found
}

/// What the watches have said of all migrations, also those that another shard of the operator looks after.
#[derive(Default)]
pub struct Order(Mutex<Known>);

#[derive(Default)]
struct Known {
    nodes: BTreeMap<String, Nodes>,
    /// Watches whose first list was complete, by the namespace that they are for (none: all).
    listed: BTreeSet<Option<String>>,
    /// The list that is being read, per watch.
    reading: BTreeMap<Option<String>, BTreeMap<String, Nodes>>,
}

/// Namespace and name of a migration that needs a visit.
type Concerned = (String, String);

impl Order {
    /// What `spec.after` means for a migration of this namespace that has not begun.
    pub fn after(&self, namespace: &str, name: &str, after: &[String], remembered: &[String]) -> After {
        if after.is_empty() {
            return After::Clear(Vec::new());
        }
        let known = self.0.lock();
        if !known.listed.contains(&None) && !known.listed.contains(&Some(namespace.to_owned())) {
            return After::NotYet;
        }
        let none = Nodes::new();
        decide(name, after, remembered, known.nodes.get(namespace).unwrap_or(&none))
    }

    /// Takes over an event of the watch for `watched` (a namespace, or all of them): who is concerned by it.
    pub fn take(&self, watched: Option<&String>, event: &Event<Guarded>) -> Vec<Concerned> {
        let watched = watched.cloned();
        let mut known = self.0.lock();
        match event {
            Event::Init => {
                known.reading.insert(watched, BTreeMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some((namespace, name)) = place(object) {
                    known.reading.entry(watched).or_default().entry(namespace).or_default().insert(name, Node::of(object));
                }
                Vec::new()
            }
            Event::InitDone => {
                let mut read = known.reading.remove(&watched).unwrap_or_default();
                let first = known.listed.insert(watched.clone());
                let of_this_watch = |namespace: &String| watched.as_ref().is_none_or(|watched| watched == namespace);
                let gone: Vec<String> = known.nodes.keys().filter(|namespace| of_this_watch(namespace)).cloned().collect();
                for namespace in gone {
                    read.entry(namespace).or_default();
                }
                read.into_iter().flat_map(|(namespace, nodes)| known.replace(namespace, nodes, first)).collect()
            }
            Event::Apply(object) => place(object).map(|at| known.set(at, Some(Node::of(object)))).unwrap_or_default(),
            Event::Delete(object) => place(object).map(|at| known.set(at, None)).unwrap_or_default(),
        }
    }
}

impl Known {
    fn set(&mut self, (namespace, name): Concerned, node: Option<Node>) -> Vec<Concerned> {
        let nodes = self.nodes.entry(namespace.clone()).or_default();
        let before = match node.clone() {
            Some(node) => nodes.insert(name.clone(), node),
            None => nodes.remove(&name),
        };
        concerned(&name, before.as_ref(), node.as_ref(), nodes).into_iter().map(|name| (namespace.clone(), name)).collect()
    }

    /// After a whole list: whoever waits for somebody, the first time all of them.
    fn replace(&mut self, namespace: String, nodes: Nodes, first: bool) -> Vec<Concerned> {
        let changed = first || self.nodes.get(&namespace) != Some(&nodes);
        let waiting = nodes.iter().filter(|(_, node)| changed && node.waits() && !node.after.is_empty());
        let concerned = waiting.map(|(name, _)| (namespace.clone(), name.clone())).collect();
        self.nodes.insert(namespace, nodes);
        concerned
    }
}

fn place(object: &Guarded) -> Option<Concerned> {
    let meta = object.meta();
    Some((meta.namespace.clone()?, meta.name.clone()?))
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
