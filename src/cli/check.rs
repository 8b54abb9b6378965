//! `theseus check`: the preflight of one SchemaMigration, by reading only; a front end to [`crate::engine::preflight`].
use super::OutputFormat;
use super::run::document::{Refused, Source};
use super::run::{DONE, REFUSED};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::MigrationSpec;
use crate::engine::preflight::{self, Finding, Report, Severity, Topic};
use crate::sql::quote;
use crate::telemetry::{LogFormat, logging};
use serde_json::json;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// The end of `--help`.
const AFTER_HELP: &str = "\
Writes nothing and locks nothing; an account with SELECT on the database, REPLICATION CLIENT and PROCESS can check nearly everything.
The report says what cannot be checked by reading; `theseus run --dry-run` tries it on the server.

Exit status:
  0  nothing found would refuse or fail the migration; there may be warnings
  2  something would, or the file or the command line is not valid

Environment:
  THESEUS_PASSWORD  the account's password; --password-file and THESEUS_PASSWORD win over a Secret";

/// `theseus check`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// text or json.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "text")]
    output: OutputFormat,
}

/// 0, or 2 when something would be refused.
pub fn run(args: &Args) -> ExitCode {
    let refuse = |refused: Refused| {
        if args.output == OutputFormat::Json {
            let finding = json!({"severity": "refuse", "reason": refused.reason.as_str(), "object": "the file", "message": refused.message, "advice": ""});
            print(&json!({"refused": true, "findings": [finding]}).to_string());
        }
        super::run::refuse(&refused)
    };
    if let Err(error) = logging::init_with(LogFormat::Text, "warn", std::io::stderr) {
        return refuse(Refused { reason: Reason::InvalidSpec, message: error.to_string() });
    }
    let job = match args.source.job() {
        Ok(job) => job,
        Err(refused) => return refuse(refused),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(Refused { reason: Reason::Internal, message: format!("cannot start the runtime: {error}") }),
    };
    let mut report = runtime.block_on(preflight::check(&job.migration, &job.controls));
    report.findings.extend(order(&job.after));
    match args.output {
        OutputFormat::Json => print(&json(&job.migration, &report).to_string()),
        OutputFormat::Text => print(&text(&job.migration, &report)),
    }
    ExitCode::from(if report.refused() { REFUSED } else { DONE })
}

/// What the file says of others that come first; the check itself looks at the table as it is now.
fn order(after: &[String]) -> Option<Finding> {
    (!after.is_empty()).then(|| Finding {
        severity: Severity::Info,
        reason: Topic::Order.as_str(),
        object: "spec.after".to_owned(),
        message: format!("{} must have succeeded first; this report is about the table as it is now", after.join(", ")),
        advice: "where they change what this migration builds on, check it again after them".to_owned(),
    })
}

/// A reader that has gone is no error.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn text(spec: &MigrationSpec, report: &Report) -> String {
    let mut text = format!("{} on {}:{}\n{}\n\n", spec.display_name, spec.server.host, spec.server.port, change(spec, report));
    for finding in &report.findings {
        let _ = writeln!(text, "{:<8} {} [{}]\n         {}", finding.severity.as_str(), finding.reason, finding.object, finding.message);
        if !finding.advice.is_empty() {
            let _ = writeln!(text, "         → {}", finding.advice);
        }
    }
    let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    let counted = |n: usize, what| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let verdict = match (count(Severity::Refuse), count(Severity::Warning)) {
        (0, 0) => "No problems found.".to_owned(),
        (0, warnings) => format!("It would not be refused; {}.", counted(warnings, "warning")),
        (refusals, warnings) => {
            format!("It would be refused, or fail: {}, {}.", counted(refusals, "problem"), counted(warnings, "warning"))
        }
    };
    let _ = write!(text, "\n{verdict}");
    text
}

/// The statement that the change is.
fn change(spec: &MigrationSpec, report: &Report) -> String {
    let table = quote::qualified(&spec.database, &spec.table);
    match (&spec.desired, report.clauses.as_deref()) {
        (None, _) => format!("ALTER TABLE {table} {}", spec.alter),
        (Some(_), Some("")) => format!("{table} has the definition in spec.desired: nothing to do"),
        (Some(_), Some(clauses)) => format!("ALTER TABLE {table} {clauses}"),
        (Some(_), None) => format!("{table}, to the definition in spec.desired"),
    }
}

fn json(spec: &MigrationSpec, report: &Report) -> serde_json::Value {
    json!({
        "migration": spec.display_name,
        "server": {"host": spec.server.host, "port": spec.server.port, "version": report.product.as_ref().map(|p| &p.text),
            "flavour": report.product.as_ref().map(|p| p.flavour.as_str()),
            "support": report.product.as_ref().map(|p| p.standing().as_str())},
        "database": spec.database,
        "table": spec.table,
        "alter": if spec.desired.is_some() { report.clauses.as_deref() } else { Some(spec.alter.as_str()) },
        "desired": spec.definition(),
        "refused": report.refused(),
        "algorithm": report.algorithm.map(|a| format!("{a:?}")),
        "key": report.key,
        "rowsEstimated": report.rows_estimated,
        "bytesEstimated": report.bytes_estimated,
        "findings": report.findings.iter().map(|f| json!({
            "severity": f.severity.as_str(),
            "reason": f.reason,
            "object": f.object,
            "message": f.message,
            "advice": f.advice,
        })).collect::<Vec<_>>(),
    })
}
