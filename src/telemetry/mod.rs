//! Logs and metrics. The bottom room: everything may use it, it uses nothing of this crate.
//!
//! * [`logging`] sets up `tracing` once per process: JSON in a cluster, text in a terminal, always on standard error.
//! * [`metrics`] holds every series that `/metrics` serves. Values come in as plain numbers and words, so that neither the engine's nor
//!   Kubernetes' types are known here; `docs/reference/metrics.md` describes each metric and a test keeps the page and the code equal.
//!
//! No task is spawned here and nothing waits: a lock is held for the time of a few map look-ups, never over an await.
pub mod logging;
pub mod metrics;

pub use logging::LogFormat;
pub use metrics::{Metrics, MigrationSample};
