//! What a run says, as text: the status line, its rhythm, and the summary. Pure.
use crate::engine::contract::snapshot::{Outcome, Phase, Snapshot, Waits};
use crate::engine::contract::spec::{Controls, CutOverPolicy, MigrationSpec, Mode, OldTable};
use crate::sql::names::TableNames;
use crate::sql::quote;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// A line each second while everybody is looking.
const FIRST: Duration = Duration::from_secs(10);
/// Then each [`OFTEN`] while it may still go wrong soon, and again towards the end.
const EARLY: Duration = Duration::from_secs(180);
const LATE: Duration = Duration::from_secs(60);
const OFTEN: Duration = Duration::from_secs(5);
/// Then each 30 s: a day makes 3000 lines.
const SELDOM: Duration = Duration::from_secs(30);

/// Whether the next status line is due, when nothing has changed since the last one.
pub fn due(running: Duration, since_last: Duration, eta: Option<Duration>) -> bool {
    let pause = if running <= FIRST {
        Duration::from_secs(1)
    } else if running <= EARLY || eta.is_some_and(|left| left <= LATE) {
        OFTEN
    } else {
        SELDOM
    };
    // The clock that asks ticks each second, not exactly.
    since_last + Duration::from_millis(100) >= pause
}

/// What a line is written for at once when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    phase: Phase,
    throttle: Option<&'static str>,
    retrying: Option<String>,
    waits: Option<Waits>,
    cut_over: (Option<String>, Option<String>),
}

impl Mark {
    /// Of this snapshot.
    pub fn of(s: &Snapshot) -> Self {
        Self {
            phase: s.phase,
            throttle: s.throttle.as_ref().map(|t| t.reason),
            retrying: s.retrying.as_ref().map(|r| r.message.clone()),
            waits: s.cut_over.waits,
            cut_over: (s.cut_over.blocked_by.clone(), s.cut_over.last_failure.clone()),
        }
    }
}

/// A length of time in whole seconds: `1h2m3s`.
pub fn seconds(d: Duration) -> String {
    let s = d.as_secs();
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

/// The word for where it is.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Inspecting => "inspecting",
        Phase::Copying => "copying",
        Phase::CatchingUp => "catching up",
        Phase::Verifying => "verifying",
        Phase::AwaitingCutOver => "awaiting cut-over",
        Phase::CuttingOver => "cutting over",
        Phase::Revertible => "can be reverted",
        Phase::CleaningUp => "cleaning up",
        Phase::Paused => "paused",
        Phase::Finished => "finished",
    }
}

/// Where it is and what it waits for.
pub fn state(s: &Snapshot, controls: &Controls) -> String {
    let mut text = phase(s.phase).to_owned();
    if let Some(retrying) = &s.retrying {
        let left = retrying.next_attempt.duration_since(SystemTime::now()).unwrap_or_default();
        let _ = write!(text, ", retrying in {} ({}: {})", seconds(left + Duration::from_millis(999)), retrying.reason, retrying.message);
    } else if let Some(throttle) = &s.throttle {
        let _ = write!(text, ", throttled by {}", throttle.reason);
        if !throttle.detail.is_empty() {
            let _ = write!(text, " ({})", throttle.detail);
        }
    } else if s.phase == Phase::AwaitingCutOver && controls.cut_over_policy == CutOverPolicy::Manual && !controls.approved {
        text.push_str(", not approved");
    } else if let (Phase::AwaitingCutOver, Some(Waits::Window { opens })) = (s.phase, s.cut_over.waits) {
        match opens.and_then(|opens| jiff::Timestamp::try_from(opens).ok()) {
            Some(opens) => {
                let _ = write!(text, ", the next window opens at {opens:.0}");
            }
            None => text.push_str(", none of the windows ever opens"),
        }
    } else if let (Phase::AwaitingCutOver, Some(why)) = (s.phase, &s.cut_over.vetoed_by) {
        let _ = write!(text, ", vetoed by a hook: {why}");
    } else if s.phase == Phase::CuttingOver {
        if let Some(blocker) = &s.cut_over.blocked_by {
            let _ = write!(text, ", blocked by {blocker}");
        } else if let Some(failure) = &s.cut_over.last_failure {
            let _ = write!(text, ", attempt {} was abandoned: {failure}", s.cut_over.attempts);
        }
    }
    text
}

/// The status line. Its fields and their order are documented: people and scripts have read gh-ost's for years.
pub fn line(s: &Snapshot, controls: &Controls, running: Duration) -> String {
    let p = &s.progress;
    let eta = match p.eta {
        _ if p.copy_complete => "due".to_owned(),
        Some(left) => seconds(left),
        None => "N/A".to_owned(),
    };
    let lag = p.binlog_lag.map_or_else(|| "N/A".to_owned(), |lag| format!("{:.2}s", lag.as_secs_f64()));
    format!(
        "Copy: {}/{} {}%; Applied: {}; Backlog: {}; Time: {}; Lag: {lag}; State: {}; ETA: {eta}",
        p.rows_copied,
        p.rows_estimated.max(p.rows_copied),
        p.percent(),
        p.changes_applied,
        p.backlog,
        seconds(running),
        state(s, controls),
    )
}

/// Several lines for a person who asks.
pub fn status(spec: &MigrationSpec, s: &Snapshot, controls: &Controls, running: Duration) -> String {
    let change = match (&spec.desired, s.clauses.as_deref()) {
        (None, _) => format!("ALTER TABLE {} {}", table(spec), spec.alter),
        (Some(_), Some("")) => format!("{} has the definition in spec.desired", table(spec)),
        (Some(_), Some(clauses)) => format!("ALTER TABLE {} {clauses}", table(spec)),
        (Some(_), None) => format!("{}, to the definition in spec.desired", table(spec)),
    };
    let mut text = format!("{} on {}:{}\n{change}\n", spec.display_name, spec.server.host, spec.server.port);
    text.push_str(&line(s, controls, running));
    if let Some(chosen) = &s.algorithm {
        let _ = write!(text, "\nalgorithm: {:?}: {}", chosen.chosen, chosen.reason);
    }
    let _ = write!(text, "\ntables: ghost {}, state {}, old {}", s.tables.ghost, s.tables.state, s.tables.old);
    if let Some(v) = &s.verification {
        let _ = write!(
            text,
            "\nverification: {} chunks compared, {} rows repaired{}",
            v.chunks_checked,
            v.rows_repaired,
            if v.complete { "; a complete pass found both tables identical" } else { "" }
        );
    }
    let _ = write!(
        text,
        "\ncut-over: {}, {} attempts{}",
        match controls.cut_over_policy {
            CutOverPolicy::Automatic => "automatic",
            CutOverPolicy::Manual if controls.approved => "manual, approved",
            CutOverPolicy::Manual => "manual, not approved",
        },
        s.cut_over.attempts,
        s.cut_over.last_failure.as_ref().map(|f| format!("; the last one was abandoned: {f}")).unwrap_or_default()
    );
    let _ = write!(
        text,
        "\ncontrols: workers={} chunk-time={}ms nice-ratio={} lock-timeout={}ms throttle={} pause={}",
        controls.workers,
        controls.target_chunk_time.as_millis(),
        controls.nice_ratio_percent,
        controls.lock_timeout.as_millis(),
        controls.throttled_by_user,
        controls.paused
    );
    text
}

/// The table, quoted.
pub fn table(spec: &MigrationSpec) -> String {
    quote::qualified(&spec.database, &spec.table)
}

/// The last words, for standard output (`Ok`) or standard error (`Err`).
pub(super) fn summary(
    spec: &MigrationSpec,
    s: &Snapshot,
    controls: &Controls,
    outcome: &Outcome,
    running: Duration,
    file: &str,
) -> Result<String, String> {
    let table = table(spec);
    let names = spec.names();
    match outcome {
        Outcome::Reverted => Ok(format!("Reverted: {table} has its former definition")),
        Outcome::Succeeded | Outcome::Tested => Ok(succeeded(spec, s, controls, running, file, &names)),
        Outcome::Proven => Ok(format!(
            "Proven: the server accepts the ALTER on an empty copy of {table}, and the table has a usable key. Nothing was changed, and nothing is left behind."
        )),
        Outcome::Cancelled if spec.deletion_policy == crate::engine::contract::spec::DeletionPolicy::Orphan => Err(format!(
            "Cancelled: {table} is unchanged; {} and {} are kept, as spec.deletionPolicy Orphan requests",
            names.ghost, names.state
        )),
        Outcome::Cancelled => Err(format!("Cancelled: {table} is unchanged, and the migration's own tables are dropped")),
        Outcome::Stopped if s.validated => Err(format!(
            "Stopped: {table} is unchanged; the work so far ({} rows) is kept in {} and {}. Run the same command to resume, or add --cancel to drop them",
            s.progress.rows_copied, names.ghost, names.state
        )),
        Outcome::Stopped => Err(format!("Stopped before this run touched {table}")),
        Outcome::Refused { reason, message } => Err(format!("Refused ({reason}): {message}")),
        Outcome::Failed { reason, message } => Err(format!(
            "Failed ({reason}): {message}. Run the same command to retry, from the work so far if possible, or add --cancel to remove what is left"
        )),
        Outcome::Unknown { message } => Err(format!("Outcome unknown: {message}")),
    }
}

fn succeeded(spec: &MigrationSpec, s: &Snapshot, controls: &Controls, running: Duration, file: &str, names: &TableNames) -> String {
    let ghost = quote::qualified(&spec.database, &names.ghost);
    let test = spec.mode == Mode::TestOnReplica;
    let mut text = match spec.mode {
        Mode::TestOnReplica => format!("Tested: {} was swapped with {ghost} and swapped back; it is unchanged.\n", table(spec)),
        _ => format!("Succeeded: {} has its new definition.\n", table(spec)),
    };
    let algorithm = s.algorithm.as_ref();
    let copied = algorithm.is_some_and(|a| a.chosen == crate::engine::contract::spec::Algorithm::Copy);
    match algorithm {
        None if test => text.push_str("  An earlier run had already done it; this one only cleaned up.\n"),
        None => text.push_str("  An earlier run had already swapped the tables; this one only cleaned up.\n"),
        Some(chosen) => {
            if copied {
                let _ = writeln!(text, "  rows       {} copied, {} changes applied", s.progress.rows_copied, s.progress.changes_applied);
            }
            if let Some(v) = s.verification.as_ref().filter(|v| v.complete) {
                let _ = writeln!(text, "  compared   {} chunks, {} rows repaired", v.chunks_checked, v.rows_repaired);
            }
            let _ = write!(text, "  time       {:.1} s", running.as_secs_f64());
            if !s.throttled_total.is_zero() {
                let _ = write!(text, ", of which throttled {:.1} s", s.throttled_total.as_secs_f64());
            }
            if s.resumed_count > 0 {
                let _ = write!(text, "; run {} of this migration", s.resumed_count + 1);
            }
            if let Some(locked) = s.cut_over.locked {
                let _ = write!(text, "\n  locked     {:.0} ms, at attempt {}", locked.as_secs_f64() * 1000.0, s.cut_over.attempts);
            }
            let _ = writeln!(text, "\n  algorithm  {:?}: {}", chosen.chosen, chosen.reason);
        }
    }
    if test {
        match controls.old_table {
            OldTable::DropNow => text.push_str("  new table  dropped\n"),
            OldTable::Keep => {
                let _ = writeln!(
                    text,
                    "  new table  kept as {ghost}, with the rows it had at the swap. To drop it: theseus run -f {file} --drop-old-table"
                );
            }
        }
    } else if copied || algorithm.is_none() {
        match controls.old_table {
            OldTable::DropNow => text.push_str("  old table  dropped\n"),
            OldTable::Keep => {
                let _ = writeln!(
                    text,
                    "  old table  kept as {}. To drop it: theseus run -f {file} --drop-old-table",
                    quote::qualified(&spec.database, if s.tables.old.is_empty() { &names.old } else { &s.tables.old })
                );
            }
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::contract::snapshot::{Progress, Throttle};

    #[test]
    fn the_rhythm_is_often_first_then_seldom_and_often_at_the_end() {
        let s = Duration::from_secs;
        for (running, since, eta, expected) in [
            (1, 1, None, true),
            (9, 1, Some(900), true),
            (20, 4, None, false),
            (20, 5, None, true),
            (170, 5, Some(900), true),
            (200, 5, Some(900), false),
            (200, 29, None, false),
            (200, 30, Some(900), true),
            (9000, 5, Some(59), true),
            (9000, 4, Some(59), false),
        ] {
            assert_eq!(due(s(running), s(since), eta.map(s)), expected, "{running} s, last {since} s ago, {eta:?} left");
        }
        assert!(due(s(20), Duration::from_millis(4950), None), "a clock that is early does not lose a line");
    }

    #[test]
    fn the_line() {
        let mut s = Snapshot {
            phase: Phase::Copying,
            progress: Progress {
                rows_copied: 410_233,
                rows_estimated: 1_000_000,
                changes_applied: 80_100,
                backlog: 12,
                eta: Some(Duration::from_secs(130)),
                binlog_lag: Some(Duration::from_millis(100)),
                ..Progress::default()
            },
            ..Snapshot::default()
        };
        let controls = Controls { cut_over_policy: CutOverPolicy::Manual, ..Controls::default() };
        let at = Duration::from_secs(63);
        assert_eq!(
            line(&s, &controls, at),
            "Copy: 410233/1000000 41%; Applied: 80100; Backlog: 12; Time: 1m3s; Lag: 0.10s; State: copying; ETA: 2m10s"
        );
        s.throttle = Some(Throttle { reason: "ReplicaLag", detail: "12 s on db-2".into(), since: SystemTime::now() });
        assert!(line(&s, &controls, at).contains("State: copying, throttled by ReplicaLag (12 s on db-2); ETA"));
        s.throttle = None;
        s.phase = Phase::AwaitingCutOver;
        s.progress.copy_complete = true;
        assert!(line(&s, &controls, at).ends_with("State: awaiting cut-over, not approved; ETA: due"));
    }
}
