//! The chart and `config/`: rendered by the real Helm and kubectl, and put to a real API server.
//!
//! Run it with the parts beside it: `hack/with-parts --kube -- cargo test --test chart`. Helm and kubectl come from where `hack/kube`
//! keeps them, else from the PATH; a part that is missing fails the tests that need it, none is skipped.
//! There is no kubelet, so nothing here sees a Pod run: that the operator works with these rights is what the operator's own suites show,
//! which run it as a process with the token of the chart's ServiceAccount.
#![allow(clippy::unwrap_used)]

mod cluster;
mod readme;
mod rights;
mod templates;
mod tools;
mod yaml;
