//! `theseus run`: one SchemaMigration to its end without a cluster: a second front end to the engine.
//!
//! The file is read and checked as the API server and the operator would ([`document`]); then one engine runs, and this task shows what it
//! tells ([`lines`], on a terminal as a bar), hands it what is said on the socket ([`socket`], [`command`]), and turns signals into a
//! graceful stop. It owns the engine and the socket, and joins both before it returns; a second signal leaves at once, which is safe: the
//! work is in MySQL and the same command continues with it.
pub mod command;
pub mod document;
pub mod hook;
pub mod lines;
pub mod socket;

use crate::engine::contract::hook::Hook;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::{Outcome, Phase, Snapshot, Waits};
use crate::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, MigrationSpec, Mode, OldTable};
use crate::engine::{self, Handle};
use crate::telemetry::{LogFormat, logging};
use document::{Job, Refused, Source};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lines::Mark;
use socket::{Request, Socket};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Done.
pub(super) const DONE: u8 = 0;
/// Failed; the original is untouched, what is left is in the message.
pub const FAILED: u8 = 1;
/// Refused before anything was touched.
pub(super) const REFUSED: u8 = 2;
/// Cancelled.
const CANCELLED: u8 = 3;
/// Whether the swap happened cannot be told.
const UNKNOWN: u8 = 4;

/// After the end, what is left of the runtime is given this long.
const RUNTIME_LIMIT: Duration = Duration::from_secs(1);
/// The clock of status lines.
const TICK: Duration = Duration::from_secs(1);
/// How many lines of clients may wait to be answered.
const REQUESTS: usize = 16;

/// The end of `--help`.
const AFTER_HELP: &str = "\
Exit status:
  0    done: the table has its new definition (--dry-run: the server accepts it)
  1    failed: the original is untouched; the message says what is left
  2    refused before anything was touched, or the command line is not valid
  3    cancelled
  4    outcome unknown: the connection was lost during the swap, and nothing shows whether it happened
  130  stopped by SIGINT, 143 by SIGTERM: the work is kept, and the same command resumes it.
       A second signal ends the program at once.

Programs as hooks (--hook BeforeCutOver=./may-i) get a CloudEvent in JSON on standard input, and its main fields as
THESEUS_EVENT, THESEUS_NAME, THESEUS_DATABASE and THESEUS_TABLE in the environment, which is otherwise that of theseus
without THESEUS_PASSWORD. After 10 s they are killed, with every process they started. Before the cut-over, exit status 0 agrees; 1 to
125 is a veto, with the program's first line of output as the reason; anything else is a veto too. It is asked again every 10 s.

Environment:
  THESEUS_PASSWORD  the account's password; --password-file and THESEUS_PASSWORD win over a Secret
  THESEUS_LOG       log level on standard error: error, warn (the default), info, debug, …

Logs and errors go to standard error, status lines and the summary to standard output.";

/// `theseus run`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Try the ALTER on an empty copy of the table, drop the copy, and change nothing: as `mode: DryRun`.
    #[arg(long)]
    dry_run: bool,
    /// Cancel the change and remove what an earlier run of it left: as the annotation theseus.dev/cancel.
    #[arg(long, conflicts_with = "dry_run")]
    cancel: bool,
    /// Drop the old table right after the swap: as `oldTable.retention: 0s`. After a run that kept it, drop it now.
    #[arg(long, conflicts_with_all = ["dry_run", "cancel"])]
    drop_old_table: bool,
    /// Run although the file has `spec.after`: the migrations that it names have succeeded. Whether they have is not known here.
    #[arg(long)]
    ignore_after: bool,
    /// Socket on which to listen for `theseus ctl`. Without it, a socket in the temporary folder is opened when the migration waits for a command.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Run a program at these moments, separated by commas: BeforeCutOver, Succeeded, Failed. May be repeated.
    #[arg(long = "hook", value_name = "WHEN=PROGRAM", value_parser = hook::parse)]
    hooks: Vec<Hook>,
    /// Give up if, before the migration begins, the server cannot be reached or another engine works on the table for this long.
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    wait: crate::api::duration::KubeDuration,
    /// Log format: json or text.
    #[arg(long, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Runs it; see the constants for the exit codes.
pub fn run(args: Args) -> ExitCode {
    let mut show = Show::new();
    let writer = show.clone();
    if let Err(error) = logging::init_with(args.log_format, "warn", move || LogWriter { show: writer.clone(), line: Vec::new() }) {
        return refuse(&Refused { reason: Reason::InvalidSpec, message: error.to_string() });
    }
    let job = match args.source.job().and_then(|job| in_order(&args, job)).and_then(|job| to_its_end(&args, job)) {
        Ok(job) => job,
        Err(refused) => return refuse(&refused),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&Refused { reason: Reason::Internal, message: format!("cannot start the runtime: {error}") }),
    };
    let code = runtime.block_on(execute(&args, job, &mut show));
    runtime.shutdown_timeout(RUNTIME_LIMIT);
    ExitCode::from(code)
}

/// Says why nothing was done.
pub(super) fn refuse(refused: &Refused) -> ExitCode {
    eprintln!("theseus: Refused ({}): {refused}", refused.reason);
    ExitCode::from(REFUSED)
}

/// Refuses a change that others have to come before: what became of them is known in a cluster only. A dry run changes nothing, and a
/// cancellation needs no order.
fn in_order(args: &Args, job: Job) -> Result<Job, Refused> {
    if job.after.is_empty() || args.ignore_after || args.cancel || args.dry_run || job.migration.mode == Mode::DryRun {
        return Ok(job);
    }
    let message = format!(
        "spec.after says that {} must have succeeded first, and without a cluster this cannot be known: run them, then this one with --ignore-after",
        job.after.join(", ")
    );
    Err(Refused { reason: Reason::InvalidSpec, message })
}

/// A run ends when the tables are swapped: it is not there to keep the old one current.
fn to_its_end(args: &Args, job: Job) -> Result<Job, Refused> {
    if job.controls.revert_window.is_zero() || args.cancel || args.dry_run || job.migration.mode == Mode::DryRun {
        return Ok(job);
    }
    let message = "spec.revert.window needs the operator, which keeps the old table current for that time: apply the file to a cluster, or set it to 0s";
    Err(Refused { reason: Reason::InvalidSpec, message: message.to_owned() })
}

/// What the flags add to the file.
fn with_flags(args: &Args, mut job: Job) -> Job {
    if args.dry_run {
        job.migration.mode = Mode::DryRun;
        job.migration.id = document::identity(&job.migration);
    }
    if args.cancel {
        job.controls.cancel = true;
    }
    if args.drop_old_table {
        job.controls.old_table = OldTable::DropNow;
    }
    job.controls.hooks.extend(args.hooks.iter().cloned());
    job
}

/// Whether it would wait for someone who has no way to speak to it.
fn waits(controls: &Controls, mode: Mode) -> bool {
    mode != Mode::DryRun
        && !controls.cancel
        && (controls.paused
            || controls.throttled_by_user
            || (!controls.approved && (controls.cut_over_policy == CutOverPolicy::Manual || !controls.windows.is_empty())))
}

/// The two signals that ask for an end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The exit code of the next one. Cancel-safe.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 128 + 2,
            _ = self.terminate.recv() => 128 + 15,
        }
    }
}

async fn execute(args: &Args, job: Job, show: &mut Show) -> u8 {
    let Job { migration, mut controls, invalid_annotations, .. } = with_flags(args, job);
    let refused = |reason, message: String| {
        let _ = refuse(&Refused { reason, message });
        REFUSED
    };
    for invalid in &invalid_annotations {
        show.say(&format!("Warning: {invalid}"));
    }
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return refused(Reason::Internal, format!("cannot listen for signals: {error}")),
    };
    let (sender, mut requests) = mpsc::channel::<Request>(REQUESTS);
    let path = args.socket.clone().or_else(|| {
        waits(&controls, migration.mode)
            .then(|| std::env::temp_dir().join(format!("theseus-{}.sock", migration.id.chars().take(16).collect::<String>())))
    });
    let socket = match path {
        None => None,
        Some(path) => match Socket::listen(&path, sender).await {
            Ok(socket) => Some(socket),
            Err(error) => return refused(Reason::InvalidSpec, error.to_string()),
        },
    };
    let shown_path = socket.as_ref().map(|s| s.path().display().to_string());
    if let Some(path) = &shown_path {
        show.say(&format!("Listening: theseus ctl --socket {path} help"));
    }

    let began = Instant::now();
    let handle = engine::start(migration.clone(), controls.clone());
    let mut view = View { began, mark: None, last_line: None, notices: 0, socket: shown_path, approval_asked: false };
    let ended = attend(&handle, &migration, &mut controls, &mut requests, &mut signals, &mut view, show, args.wait.0).await;
    let last = handle.watch().borrow().clone();
    let (outcome, signalled) = match ended {
        RunEnd::AtOnce(code) => {
            show.finish();
            eprintln!(
                "theseus: exited without waiting for the engine; the server rolls back what it was doing. Run the same command to resume"
            );
            return code;
        }
        RunEnd::GivenUp { reason, message } => {
            handle.stop();
            let _ = handle.join().await;
            (Outcome::Refused { reason, message }, None)
        }
        RunEnd::Over { signalled } => (handle.join().await, signalled),
    };
    drop(socket);
    // A change that the server made itself has no old table to keep, and what proves whose it was would refuse the next change of the table.
    let native = last.algorithm.as_ref().is_some_and(|a| matches!(a.chosen, Algorithm::Instant | Algorithm::Inplace));
    if outcome == Outcome::Succeeded
        && native
        && controls.old_table == OldTable::Keep
        && let Err(error) = engine::clean_up(&migration, true).await
    {
        show.say(&format!("Warning: could not drop the state table {} ({error}); run the same command to drop it", last.tables.state));
    }
    view.notices(&last, show);
    show.finish();
    let file = args.source.file.display().to_string();
    match lines::summary(&migration, &last, &controls, &outcome, began.elapsed(), &file) {
        Ok(text) => println!("{text}"),
        Err(text) => eprintln!("theseus: {text}"),
    }
    match outcome {
        Outcome::Succeeded | Outcome::Proven | Outcome::Tested | Outcome::Reverted => DONE,
        Outcome::Failed { .. } => FAILED,
        Outcome::Refused { .. } => REFUSED,
        Outcome::Cancelled => CANCELLED,
        Outcome::Unknown { .. } => UNKNOWN,
        Outcome::Stopped => signalled.unwrap_or(FAILED),
    }
}

/// Why [`attend`] ended.
enum RunEnd {
    /// The engine is over, or about to be.
    Over { signalled: Option<u8> },
    /// A second signal.
    AtOnce(u8),
    /// It did not get to work in time.
    GivenUp { reason: Reason, message: String },
}

async fn attend(
    handle: &Handle,
    migration: &MigrationSpec,
    controls: &mut Controls,
    requests: &mut mpsc::Receiver<Request>,
    signals: &mut Signals,
    view: &mut View,
    show: &mut Show,
    patience: Duration,
) -> RunEnd {
    let mut watch = handle.watch();
    let mut clock = tokio::time::interval(TICK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut signalled = None;
    // The channel is closed when there is no socket.
    let mut listening = true;
    loop {
        // All of these are cancel-safe.
        tokio::select! {
            changed = watch.changed() => {
                if changed.is_err() {
                    return RunEnd::Over { signalled };
                }
            }
            _ = clock.tick() => {}
            code = signals.next() => {
                if signalled.is_some() {
                    return RunEnd::AtOnce(code);
                }
                signalled = Some(code);
                handle.stop();
                show.say("Stopping after the current chunk; the work is kept. Send a second signal to exit at once");
            }
            request = requests.recv(), if listening => match request {
                None => listening = false,
                Some((line, reply)) => {
                    let snapshot = watch.borrow().clone();
                    let answer = command::answer(&line, migration, &snapshot, controls, view.began.elapsed());
                    handle.control(controls.clone());
                    // A client that has gone does not want to know.
                    let _ = reply.send(answer);
                }
            },
        }
        let snapshot = watch.borrow_and_update().clone();
        if snapshot.phase == Phase::Finished {
            return RunEnd::Over { signalled };
        }
        view.show(&snapshot, controls, show);
        if let Some(retrying) = snapshot.retrying.as_ref().filter(|_| !snapshot.validated && view.began.elapsed() > patience) {
            return RunEnd::GivenUp {
                reason: retrying.reason,
                message: format!("{}. Gave up after {}; this run touched nothing", retrying.message, lines::seconds(view.began.elapsed())),
            };
        }
    }
}

/// What has been shown.
struct View {
    began: Instant,
    mark: Option<Mark>,
    last_line: Option<Instant>,
    notices: u64,
    socket: Option<String>,
    approval_asked: bool,
}

impl View {
    fn show(&mut self, s: &Snapshot, controls: &Controls, show: &mut Show) {
        self.notices(s, show);
        let running = self.began.elapsed();
        let mark = Mark::of(s);
        let changed = self.mark.as_ref() != Some(&mark);
        self.mark = Some(mark);
        if show.bar(s, controls) {
            // The bar is the status line; what it waits for is said once.
        } else if changed || self.last_line.is_none_or(|at| lines::due(running, at.elapsed(), s.progress.eta)) {
            self.last_line = Some(Instant::now());
            show.say(&lines::line(s, controls, running));
        }
        let asks = s.phase == Phase::AwaitingCutOver && matches!(s.cut_over.waits, Some(Waits::Approval | Waits::Window { .. }));
        if asks
            && !self.approval_asked
            && let Some(path) = &self.socket
        {
            show.say(&format!("Everything is ready. To swap the tables: theseus ctl --socket {path} approve"));
        }
        self.approval_asked = asks;
    }

    /// What people should see once. Warnings are in the log.
    fn notices(&mut self, s: &Snapshot, show: &mut Show) {
        for notice in s.notices.iter().filter(|n| n.sequence > self.notices) {
            if !notice.warning {
                show.say(&format!("{}: {}", notice.reason, notice.message));
            }
        }
        self.notices = s.notices.last().map_or(self.notices, |n| n.sequence.max(self.notices));
    }
}

/// A bar on a terminal, lines elsewhere. Cheap to clone.
#[derive(Clone)]
struct Show {
    bar: Option<ProgressBar>,
}

impl Show {
    fn new() -> Self {
        if !(std::io::stderr().is_terminal() && std::io::stdout().is_terminal()) {
            return Self { bar: None };
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        // The template is a constant, and a bar without style is a bar.
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}% {human_pos}/{human_len} rows  {wide_msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar: Some(bar) }
    }

    /// Moves the bar; false: there is none.
    fn bar(&self, s: &Snapshot, controls: &Controls) -> bool {
        let Some(bar) = &self.bar else { return false };
        let p = &s.progress;
        bar.set_length(if p.copy_complete { p.rows_copied.max(1) } else { p.rows_estimated.max(p.rows_copied).max(1) });
        bar.set_position(p.rows_copied);
        let mut message = lines::state(s, controls);
        if let Some(left) = p.eta {
            let when = if s.throttle.is_some() { " once the throttle ends" } else { "" };
            message.push_str(&format!(", {} left{when}", lines::seconds(left)));
        }
        bar.set_message(message);
        true
    }

    /// A line for people, above the bar.
    fn say(&self, line: &str) {
        // A reader that has gone (`| head`) does not end a migration.
        let write = || {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Logs, above the bar.
struct LogWriter {
    show: Show,
    line: Vec<u8>,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let write = || {
            let _ = std::io::stderr().lock().write_all(&self.line);
        };
        match &self.show.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}
