//! The operator as its users meet it: the real program as a process, with the token of the chart's own ServiceAccount and no other right, on a
//! real API server, changing tables of a real MySQL server with the documented account.
//!
//! `hack/with-parts --mysql -- cargo test --test operator`. The control plane is the suite's own ([`cluster`]). Every test has a namespace, a
//! database and a MySQL account of its own ([`shop::Shop`]); most share one operator that watches every namespace, and those that kill it have a
//! release of the chart that watches theirs.
//!
//! Nothing sleeps in order to let something happen: [`migration::Migration`] keeps every version of an object that its watch has sent, so that
//! also what lasted for a moment only is seen, and holds each of them to the condition table. At the end of a test ([`shop::Shop::end`]) the
//! operator's log must not hold a refusal of the API server, and no password may be in the log, in an Event or in a status.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/cluster.rs"]
#[allow(dead_code)]
mod cluster;
#[path = "../support/mod.rs"]
mod support;
#[path = "../chart/tools.rs"]
#[allow(dead_code)]
mod tools;
#[path = "../support/workload.rs"]
#[allow(clippy::type_complexity)]
mod workload;

mod migration;
mod proxy;
mod shop;

mod cutover;
mod ending;
mod gate;
mod odd;
mod order;
mod queue;
mod refusals;
mod replicas;
mod restarts;
mod revert;
mod steering;
mod success;
