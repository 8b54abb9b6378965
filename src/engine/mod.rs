//! The migration engine: rebuilds a table beside the live one and swaps it in. No Kubernetes in it.
//!
//! # Front ends
//! A front end builds a [`contract::spec::MigrationSpec`], calls [`start`], steers by sending whole [`contract::spec::Controls`] values and watches
//! [`contract::snapshot::Snapshot`]s. The engine's task is owned by the returned [`Handle`]: dropping it stops the engine at once (the work is kept
//! in MySQL), [`Handle::join`] waits for its [`contract::snapshot::Outcome`].

pub mod contract;
pub mod cutover;
pub mod lifecycle;
pub mod outside;
pub mod preflight;
pub mod rows;
pub mod state;
pub mod table;
pub mod throttle;

pub use crate::mysql::Class;
pub use contract::error::EngineError;
use contract::snapshot::{Outcome, Snapshot};
use contract::spec::{Controls, MigrationSpec};
pub use lifecycle::migrator::Environment;
pub use rows::copier::ChunkRows;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A running engine.
pub struct Handle {
    controls: watch::Sender<Controls>,
    snapshot: watch::Receiver<Snapshot>,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<Outcome>>,
}

impl Handle {
    /// Replaces the controls; a value equal to the present one wakes nobody.
    pub fn control(&self, controls: Controls) {
        self.controls.send_if_modified(|now| {
            let changed = *now != controls;
            *now = controls;
            changed
        });
    }

    /// The latest snapshot and a way to wait for the next.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }

    /// Asks for a graceful stop: the present chunk ends or rolls back, a cut-over that holds the lock finishes, the state is kept.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether the engine is over.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
    }

    /// Waits for the end.
    pub async fn join(mut self) -> Outcome {
        let Some(task) = self.task.as_mut() else {
            return Outcome::Stopped;
        };
        match task.await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed {
                reason: contract::reason::Reason::Internal,
                message: format!("the engine's task ended without an outcome: {error}"),
            },
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Starts an engine for one migration on the present tokio runtime.
pub fn start(spec: MigrationSpec, controls: Controls) -> Handle {
    start_in(Environment::default(), spec, controls)
}

/// As [`start`], with another clock or other sizes of chunks.
pub fn start_in(environment: Environment, spec: MigrationSpec, controls: Controls) -> Handle {
    let (controls, controls_rx) = watch::channel(controls);
    let (publisher, snapshot) = contract::progress::Publisher::new(format!("{:016x}", fastrand::u64(..)));
    let stop = CancellationToken::new();
    let migrator = lifecycle::migrator::Migrator::new(spec.settled(), controls_rx, publisher, stop.clone(), environment);
    let task = tokio::spawn(migrator.run());
    Handle { controls, snapshot, stop, task: Some(task) }
}

/// Drops the tables that a finished or cancelled migration left (ghost, state, and, where `old_too`, the old table), after proving by the
/// state table that this migration made them. Without `old_too` an old table stays and is its user's from then on: the state table, which
/// proves whose it was, goes. Dropping nothing because nothing is there is success.
///
/// # Errors
/// The server cannot be reached, or a table of that name is not ours ([`contract::reason::Reason::NameTaken`]).
pub async fn clean_up(spec: &MigrationSpec, old_too: bool) -> Result<(), EngineError> {
    lifecycle::migrator::clean_up(&spec.clone().settled(), old_too).await
}
