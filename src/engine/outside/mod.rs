//! The world that is neither MySQL nor Kubernetes: programs ([`program`]), addresses ([`web`]), and the hooks that are either ([`hooks`]).
//!
//! Promises: every question has a limit of time and of size, and no secret of an address, key or answer gets into a log or an error. A
//! program is ended with its whole process group. Nothing is spawned but by the HTTP client, for the life of its connections.
pub mod hooks;
pub mod program;
pub mod web;
