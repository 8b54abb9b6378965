//! `theseus ctl`: says one line to a running `theseus run` and prints its answer.
use super::OutputFormat;
use super::run::{command, socket};
use std::path::PathBuf;
use std::process::ExitCode;

/// `theseus ctl`
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Commands:\n{}", indented(command::HELP)))]
pub struct Args {
    /// The socket of the run.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// text or json.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "text")]
    output: OutputFormat,
    /// One of the commands below.
    #[arg(value_name = "COMMAND")]
    command: String,
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// 0 when the command was taken, 1 when it was not understood or nobody answers.
pub fn run(args: &Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("theseus ctl: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let line = match args.output {
        OutputFormat::Text => args.command.replace('\n', " "),
        OutputFormat::Json => format!("json {}", args.command.replace('\n', " ")),
    };
    match runtime.block_on(socket::ask(&args.socket, &line)) {
        Ok(answer) => {
            let refused = match args.output {
                OutputFormat::Text => answer.starts_with("error: "),
                OutputFormat::Json => serde_json::from_str::<serde_json::Value>(&answer).is_ok_and(|answer| answer["ok"] == false),
            };
            if refused && args.output == OutputFormat::Text {
                eprint!("theseus ctl: {answer}");
            } else {
                print!("{answer}");
            }
            if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("theseus ctl: {error}");
            ExitCode::FAILURE
        }
    }
}
