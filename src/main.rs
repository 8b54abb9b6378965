//! The `theseus` binary.
fn main() {}
