//! The `theseus` binary: parse, call, exit code.
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    theseus::cli::run(theseus::cli::Cli::parse())
}
