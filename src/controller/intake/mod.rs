//! What people ask for, as the engine takes it: the objects and Secrets that a migration names ([`dereference`]), and what they mean
//! ([`validate`]). The pure halves serve `theseus run` too.
pub mod dereference;
pub mod validate;
