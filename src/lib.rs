//! Theseus: online schema changes for MySQL as Kubernetes resources.
//!
//! The rooms, from top to bottom; arrows only point downwards (`tests/architecture.rs` holds that):
//! `cli` → `controller` → `engine` → `mysql` → `sql`; `api` (types only) is used by `cli` and `controller`; `telemetry` and `http` by all above.
pub mod api;
pub mod cli;
pub mod controller;
pub mod engine;
pub mod http;
pub mod mysql;
pub mod sql;
pub mod telemetry;
