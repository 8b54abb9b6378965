//! Everything that needs a MySQL server and no Kubernetes, in one program that is linked once: `cargo test --test mysql cutover::`.
//!
//! A test has databases, accounts and ports of its own, so any of them may run beside any other. One that changes a global setting, restarts
//! a server or counts what a server does has a server of its own. What is measured of a process is measured of a child.

#[path = "../support/deaths.rs"]
mod deaths;
#[path = "../support/mirror.rs"]
mod mirror;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/scribe.rs"]
mod scribe;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/stall.rs"]
mod stall;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/workload.rs"]
mod workload;

mod account;
mod aftermath;
mod algorithms;
mod check;
mod conversions;
mod cutover;
mod definitions;
mod desired;
mod engine;
mod exotic;
mod failover;
mod faults;
mod fencing;
mod foreign_keys;
mod hooks;
mod keys;
mod lifecycle;
mod on_replica;
mod oracle;
mod properties;
mod refusals;
mod revert;
mod rule13;
mod run;
mod servers;
mod sessions;
mod state;
mod throttle;
mod transaction;
mod triggers;
mod variables;
mod verification;
mod visibility;
