//! One SchemaMigration and everything that its watch has ever said about it.
use crate::cluster::{PATIENCE, Plane, Shared, complaints};
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::watcher::{self, watcher};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use theseus::api::{SchemaMigration, SchemaMigrationStatus};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// One version of the object.
#[derive(Clone, Debug)]
pub struct Version {
    pub at: Instant,
    pub object: SchemaMigration,
}

impl Version {
    pub fn status(&self) -> SchemaMigrationStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// `True/Reason`; empty when the condition is not there.
    pub fn condition(&self, type_: &str) -> String {
        let status = self.status();
        let found = status.conditions.iter().find(|condition| condition.type_ == type_);
        found.map(|condition| format!("{}/{}", condition.status, condition.reason)).unwrap_or_default()
    }

    pub fn is(&self, type_: &str, status: &str) -> bool {
        self.condition(type_).split('/').next() == Some(status)
    }

    /// The message of a condition.
    pub fn message(&self, type_: &str) -> String {
        let found = self.status().conditions.into_iter().find(|condition| condition.type_ == type_);
        found.map(|condition| condition.message).unwrap_or_default()
    }

    pub fn phase(&self) -> String {
        self.status().phase.unwrap_or_default()
    }

    /// The reason of `Ready`.
    pub fn reason(&self) -> String {
        self.condition("Ready").split('/').nth(1).unwrap_or_default().to_owned()
    }
}

#[derive(Default)]
struct Seen {
    versions: Vec<Version>,
    gone: bool,
}

/// A migration under observation.
pub struct Migration {
    pub name: String,
    pub api: Api<SchemaMigration>,
    seen: Arc<Mutex<Seen>>,
    news: Arc<Notify>,
    /// Versions before this one have been looked at.
    cursor: usize,
    task: JoinHandle<()>,
}

impl Migration {
    /// Begins to watch.
    pub fn watch(api: Api<SchemaMigration>, name: &str) -> Self {
        let (seen, news) = (Arc::<Mutex<Seen>>::default(), Arc::new(Notify::new()));
        let events = watcher(api.clone(), watcher::Config::default().fields(&format!("metadata.name={name}")));
        let (into, notify) = (seen.clone(), news.clone());
        let task = tokio::spawn(async move {
            let mut events = events.boxed();
            // A watch that breaks begins anew by itself.
            while let Some(event) = events.next().await {
                let mut seen = into.lock().unwrap();
                match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                        seen.versions.push(Version { at: Instant::now(), object });
                    }
                    Ok(watcher::Event::Delete(_)) => seen.gone = true,
                    Ok(_) => continue,
                    Err(_) => continue,
                }
                notify.notify_one();
            }
        });
        Self { name: name.to_owned(), api, seen, news, cursor: 0, task }
    }

    /// All versions so far.
    pub fn versions(&self) -> Vec<Version> {
        self.seen.lock().unwrap().versions.clone()
    }

    /// Waits for a version, from the one that was found last time on.
    pub async fn until(&mut self, what: &str, condition: impl Fn(&Version) -> bool) -> Version {
        self.within(PATIENCE, what, condition).await
    }

    /// The same with a limit of one's own.
    pub async fn within(&mut self, limit: Duration, what: &str, condition: impl Fn(&Version) -> bool) -> Version {
        let end = Instant::now() + limit;
        loop {
            {
                let seen = self.seen.lock().unwrap();
                while let Some(version) = seen.versions.get(self.cursor) {
                    keeps_to_the_table(version);
                    if condition(version) {
                        return version.clone();
                    }
                    if self.cursor + 1 == seen.versions.len() {
                        break;
                    }
                    self.cursor += 1;
                }
                assert!(!seen.gone, "{} is gone; waited until {what}; last: {:#?}", self.name, seen.versions.last());
            }
            if tokio::time::timeout_at(end.into(), self.news.notified()).await.is_err() {
                let last = self.versions().last().map(|last| serde_yaml::to_string(&last.object).unwrap());
                let log = Shared::get().await.log_file().to_owned();
                panic!(
                    "{} was not within {limit:?}: {what}\n{}\nthe shared operator complained:\n{}",
                    self.name,
                    last.unwrap_or_default(),
                    complaints(&log)
                );
            }
        }
    }

    /// Waits for a phase.
    pub async fn phase(&mut self, phase: &str) -> Version {
        self.until(&format!("the phase is {phase}"), |version| version.phase() == phase).await
    }

    /// Waits for the good end.
    pub async fn succeeded(&mut self) -> Version {
        let end = self
            .until("it is over", |version| {
                version.is("Succeeded", "True") || version.is("Succeeded", "False") || version.is("Stalled", "True")
            })
            .await;
        assert!(end.is("Ready", "True"), "it failed: {:#?}", end.status());
        end
    }

    /// Waits until the object is gone.
    pub async fn gone(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        while !self.seen.lock().unwrap().gone {
            let news = tokio::time::timeout_at(end.into(), self.news.notified()).await;
            assert!(news.is_ok(), "{} was not gone within {limit:?}: {:#?}", self.name, self.versions().last());
        }
    }

    /// The newest version that the watch has sent.
    pub fn latest(&self) -> Version {
        self.versions().pop().unwrap()
    }

    /// The object as the API server has it now.
    pub async fn now(&self) -> SchemaMigration {
        self.api.get(&self.name).await.unwrap()
    }

    /// Sets (or takes away) annotations `theseus.dev/…`.
    pub async fn annotate(&self, name: &str, value: Option<&str>) {
        let name = format!("theseus.dev/{name}");
        self.patch(json!({"metadata": {"annotations": {name: value}}})).await;
    }

    /// Changes the object.
    pub async fn patch(&self, change: Value) {
        self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    /// As `kubectl delete --wait=false`.
    pub async fn delete(&self) {
        self.api.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }

    /// The reasons of its Events, the first first.
    pub async fn events(&self) -> Vec<String> {
        self.event_notes().await.into_iter().map(|(reason, ..)| reason).collect()
    }

    /// Reason, type and note of its Events.
    pub async fn event_notes(&self) -> Vec<(String, String, String)> {
        let client = Plane::get().client().await;
        let namespace = self.latest().object.metadata.namespace.unwrap();
        let api: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(client, &namespace);
        let mut events = api.list(&Default::default()).await.unwrap().items;
        events.retain(|event| event.regarding.as_ref().is_some_and(|object| object.name.as_deref() == Some(&self.name)));
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        events
            .into_iter()
            .map(|event| (event.reason.unwrap_or_default(), event.type_.unwrap_or_default(), event.note.unwrap_or_default()))
            .collect()
    }

    /// Waits for an Event: it follows the status that it is about.
    pub async fn event(&self, reason: &str) -> (String, String) {
        let mut found = None;
        crate::cluster::until(&format!("the Event {reason} of {}", self.name), async || {
            found = self.event_notes().await.into_iter().find(|(word, ..)| word == reason);
            found.is_some()
        })
        .await;
        found.map(|(_, type_, note)| (type_, note)).unwrap()
    }
}

impl Drop for Migration {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Holds a version to the condition table of the contract.
#[track_caller]
fn keeps_to_the_table(version: &Version) {
    let status = version.status();
    if status.conditions.is_empty() {
        // Not visited yet.
        return;
    }
    let word = |type_: &str| version.condition(type_);
    let reason = version.reason();
    let row = match reason.as_str() {
        "Queued" | "Inspecting" | "Copying" | "Paused" | "AwaitingCutOver" | "CuttingOver" | "Retrying" => {
            ["False", "True", "False", "Unknown"]
        }
        "Succeeded" | "Reverted" => ["True", "False", "False", "True"],
        _ if word("Succeeded").starts_with("Unknown") => ["False", "False", "True", "Unknown"],
        _ => ["False", "False", "True", "False"],
    };
    let conditions = ["Ready", "Reconciling", "Stalled", "Succeeded"];
    for (type_, truth) in conditions.iter().zip(row) {
        assert_eq!(word(type_), format!("{truth}/{reason}"), "{type_} while {reason}: {:#?}", status.conditions);
    }
    for type_ in ["Accepted", "Validated", "Throttled", "Paused", "CutOverReady", "RevertPossible"] {
        assert!(!word(type_).is_empty(), "{type_} is missing while {reason}: {:#?}", status.conditions);
    }
    match reason.as_str() {
        "Copying" | "CuttingOver" | "Succeeded" | "Reverted" => assert!(version.is("Validated", "True"), "{:#?}", status.conditions),
        "AwaitingCutOver" => assert!(version.is("CutOverReady", "True") && version.is("Validated", "True"), "{:#?}", status.conditions),
        _ => {}
    }
    // Whoever pauses in a revert window has what was waited for.
    let made = version.is("RevertPossible", "True");
    assert!(version.is("Paused", "True") == (reason == "Paused") || made, "{:#?}", status.conditions);
    assert!(!version.is("CutOverReady", "True") || ["AwaitingCutOver", "CuttingOver", "Retrying"].contains(&reason.as_str()));
    let ends = row[3] != "Unknown";
    assert_eq!(status.completed_at.is_some(), ends || reason == "OutcomeUnknown", "completedAt while {reason}");
    assert!(status.phase.is_some() && status.message.is_some());
    for Condition { observed_generation, type_, .. } in &status.conditions {
        assert_eq!(*observed_generation, status.observed_generation, "{type_}");
    }
}
