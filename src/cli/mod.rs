//! The command line: what each subcommand takes, and what its end means to the shell.
//!
//! One file per subcommand; each has a clap `Args` struct and a function that returns the process's [`std::process::ExitCode`].
pub mod check;
pub mod crd;
pub mod ctl;
pub mod operator;
pub mod run;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Online schema changes for MySQL as Kubernetes resources.
#[derive(Debug, Parser)]
#[command(name = "theseus", version, about, max_term_width = 110)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller until SIGTERM.
    Operator(operator::Args),
    /// Run one SchemaMigration to its end without a cluster.
    Run(Box<run::Args>),
    /// Report what a SchemaMigration would do and what would be refused, without writing anything.
    Check(check::Args),
    /// Send a command to a running `theseus run`.
    Ctl(ctl::Args),
    /// Print the custom resource definitions as YAML.
    Crd(crd::Args),
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Runs what was requested.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Operator(args) => operator::run(args),
        Command::Run(args) => run::run(*args),
        Command::Check(args) => check::run(&args),
        Command::Ctl(args) => ctl::run(&args),
        Command::Crd(args) => crd::run(&args),
    }
}
