//! What may be said to a running migration: one line in, an answer out. Pure.
use super::lines;
use crate::api::bounds::{self, NumberBounds};
use crate::api::duration::KubeDuration;
use crate::engine::contract::snapshot::{Snapshot, Waits};
use crate::engine::contract::spec::{Controls, MigrationSpec};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// The answer to `help`, and the end of `theseus ctl --help`.
pub const HELP: &str = "\
status              progress, and what the migration is waiting for
sup                 the same in one line
throttle            stop copying; changes are still applied
no-throttle         continue copying
pause               stop, keep the work, release the connections
resume              continue
approve             allow the swap (policy Manual)
unapprove           withdraw the approval; possible until the tables are locked
force-cut-over      the next attempt may kill the sessions that block it
cancel              stop, and drop the tables that the migration created
chunk-time=500ms    the time one chunk should take, 10ms to 10s
workers=2           copy workers, 0 to 64; 0 lets the engine choose
exact-row-count=true    count the rows during the copy, for exact progress; true or false
nice-ratio=50       sleep after each chunk for this percentage of its time, 0 to 1000
lock-timeout=3s     the longest that one cut-over attempt may block clients, 1s to 1m
kill-blockers-after=0s  kill sessions that have blocked the cut-over for this long, 1s to 24h; 0s never
max-lag=10s         the replica lag above which copying stops, 1s to 24h; 0s checks no replica
max-load=Threads_running=50,…       status variables above which copying stops
critical-load=Threads_running=1000  … and above which the migration fails
help                this list";

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Several lines, or all as JSON.
    Status,
    /// One line.
    Sup,
    /// The commands.
    Help,
    /// A change of the controls.
    Change(Change),
}

/// A change of the controls. None of them is remembered: the next run starts from its file again.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// `throttle`, `no-throttle`
    Throttle(bool),
    /// `pause`, `resume`
    Pause(bool),
    /// `approve`, `unapprove`
    Approve(bool),
    /// `force-cut-over`
    ForceCutOver,
    /// `cancel`
    Cancel,
    /// `chunk-time`
    ChunkTime(Duration),
    /// `workers`
    Workers(u16),
    /// `exact-row-count`
    ExactRowCount(bool),
    /// `nice-ratio`
    NiceRatio(u16),
    /// `lock-timeout`
    LockTimeout(Duration),
    /// `kill-blockers-after`
    KillBlockersAfter(Option<Duration>),
    /// `max-lag`
    MaxLag(Option<Duration>),
    /// `max-load`
    MaxLoad(BTreeMap<String, u64>),
    /// `critical-load`
    CriticalLoad(BTreeMap<String, u64>),
}

impl Command {
    /// Reads a command.
    ///
    /// # Errors
    /// What is not understood, and what would be.
    pub fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (line, None),
        };
        let needs = || value.ok_or_else(|| format!("{name} needs a value: {name}=…"));
        let change = match name {
            "chunk-time" => Change::ChunkTime(bounds::TARGET_CHUNK_TIME.check(name, duration(name, needs()?)?)?),
            "lock-timeout" => Change::LockTimeout(bounds::LOCK_TIMEOUT.check(name, duration(name, needs()?)?)?),
            "workers" => Change::Workers(number(bounds::WORKERS, name, needs()?)?),
            "exact-row-count" => Change::ExactRowCount(needs()?.parse().map_err(|_| format!("{name} must be true or false"))?),
            "nice-ratio" => Change::NiceRatio(number(bounds::NICE_RATIO_PERCENT, name, needs()?)?),
            "kill-blockers-after" => Change::KillBlockersAfter(bounds::KILL_BLOCKERS_AFTER.check_or_off(name, duration(name, needs()?)?)?),
            "max-lag" => Change::MaxLag(bounds::MAX_REPLICA_LAG.check_or_off(name, duration(name, needs()?)?)?),
            "max-load" => Change::MaxLoad(load(name, needs()?)?),
            "critical-load" => Change::CriticalLoad(load(name, needs()?)?),
            _ if value.is_some() => return Err(format!("{name} is not a setting; `help` lists them")),
            "status" => return Ok(Self::Status),
            "sup" => return Ok(Self::Sup),
            "help" => return Ok(Self::Help),
            "throttle" => Change::Throttle(true),
            "no-throttle" => Change::Throttle(false),
            "pause" => Change::Pause(true),
            "resume" => Change::Pause(false),
            "approve" => Change::Approve(true),
            "unapprove" => Change::Approve(false),
            "force-cut-over" => Change::ForceCutOver,
            "cancel" => Change::Cancel,
            _ => return Err(format!("{:?} is not a command; `help` lists them", name.chars().take(40).collect::<String>())),
        };
        Ok(Self::Change(change))
    }
}

fn duration(name: &str, text: &str) -> Result<Duration, String> {
    text.parse::<KubeDuration>().map(|value| value.0).map_err(|error| format!("{name}: {error}"))
}

fn number(bounds: NumberBounds, name: &str, text: &str) -> Result<u16, String> {
    let value = text.parse().map_err(|_| format!("{name} must be a number between {} and {}", bounds.least, bounds.most))?;
    bounds.check(name, value)
}

/// `Threads_running=50,Threads_connected=900`; nothing is no limit.
fn load(name: &str, text: &str) -> Result<BTreeMap<String, u64>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| {
        let (variable, limit) = part.split_once('=').ok_or_else(|| format!("{name}: {part:?} is not VARIABLE=NUMBER"))?;
        let limit = limit.trim().parse::<i64>().map_err(|_| format!("{name}: {limit:?} is not a number"))?;
        Ok((variable.trim().to_owned(), limit))
    });
    bounds::load(name, parts.collect::<Result<Vec<_>, String>>()?)
}

impl Change {
    /// Makes the change, and says so.
    pub fn apply(self, controls: &mut Controls) -> String {
        match self {
            Self::Throttle(on) => {
                controls.throttled_by_user = on;
                if on {
                    "copying stops; changes are still applied".into()
                } else {
                    "copying continues, unless something else throttles it".into()
                }
            }
            Self::Pause(on) => {
                controls.paused = on;
                if on { "pausing; the work is kept".into() } else { "resuming".into() }
            }
            Self::Approve(on) => {
                controls.approved = on;
                let windows = !controls.windows.is_empty();
                match (on, controls.cut_over_policy) {
                    (true, _) if windows => {
                        "approved: the tables are swapped as soon as everything is ready, also outside the windows".into()
                    }
                    (false, crate::engine::contract::spec::CutOverPolicy::Automatic) if windows => {
                        "approval withdrawn: the windows apply again".into()
                    }
                    (true, crate::engine::contract::spec::CutOverPolicy::Automatic) => {
                        "approved, though the policy Automatic needs no approval".into()
                    }
                    (true, _) => "approved: the tables are swapped as soon as everything is ready".into(),
                    (false, crate::engine::contract::spec::CutOverPolicy::Automatic) => {
                        "the policy Automatic needs no approval; use throttle or pause to delay the swap".into()
                    }
                    (false, _) => "approval withdrawn, unless the swap is already under way".into(),
                }
            }
            Self::ForceCutOver => {
                // Random, so that it is new after any token of the file or of an earlier command.
                controls.force_cut_over = Some(format!("ctl-{:016x}", fastrand::u64(..)));
                "the next attempt may kill the sessions that block it".into()
            }
            Self::Cancel => {
                controls.cancel = true;
                "cancelling".into()
            }
            Self::ChunkTime(time) => {
                controls.target_chunk_time = time;
                format!("chunk-time={}", KubeDuration(time))
            }
            Self::Workers(n) => {
                controls.workers = n;
                format!("workers={n}")
            }
            Self::ExactRowCount(on) => {
                controls.exact_row_count = on;
                format!("exact-row-count={on}")
            }
            Self::NiceRatio(percent) => {
                controls.nice_ratio_percent = percent;
                format!("nice-ratio={percent}")
            }
            Self::LockTimeout(time) => {
                controls.lock_timeout = time;
                format!("lock-timeout={}", KubeDuration(time))
            }
            Self::KillBlockersAfter(time) => {
                controls.kill_blockers_after = time;
                time.map_or_else(|| "no sessions are killed".into(), |time| format!("kill-blockers-after={}", KubeDuration(time)))
            }
            Self::MaxLag(lag) => {
                controls.limits.max_replica_lag = lag;
                lag.map_or_else(|| "replica lag is not checked".into(), |lag| format!("max-lag={}", KubeDuration(lag)))
            }
            Self::MaxLoad(load) => {
                let text = format!("max-load={}", shown(&load));
                controls.limits.max_load = load;
                text
            }
            Self::CriticalLoad(load) => {
                let text = format!("critical-load={}", shown(&load));
                controls.limits.critical_load = load;
                text
            }
        }
    }
}

fn shown(load: &BTreeMap<String, u64>) -> String {
    load.iter().map(|(name, limit)| format!("{name}={limit}")).collect::<Vec<_>>().join(",")
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether the command was understood and taken.
    pub ok: bool,
    /// Text or JSON.
    pub text: String,
}

/// Answers a line; a change is made in `controls`. `json ` before the command asks for JSON.
pub fn answer(line: &str, spec: &MigrationSpec, s: &Snapshot, controls: &mut Controls, running: Duration) -> Answer {
    let (json, line) = match line.trim().strip_prefix("json ") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (ok, text) = match Command::parse(line) {
        Err(problem) => (false, problem),
        Ok(Command::Help) => (true, HELP.to_owned()),
        Ok(Command::Sup) if !json => (true, lines::line(s, controls, running)),
        Ok(Command::Status) if !json => (true, lines::status(spec, s, controls, running)),
        Ok(Command::Sup | Command::Status) => return Answer { ok: true, text: status_json(spec, s, controls, running).to_string() },
        Ok(Command::Change(change)) => (true, change.apply(controls)),
    };
    match (json, ok) {
        (true, _) => Answer { ok, text: json!({"ok": ok, "message": text}).to_string() },
        (false, true) => Answer { ok, text },
        (false, false) => Answer { ok, text: format!("error: {text}") },
    }
}

/// Everything, for programs. Durations are milliseconds.
fn status_json(spec: &MigrationSpec, s: &Snapshot, controls: &Controls, running: Duration) -> serde_json::Value {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let since_1970 = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok().map(millis);
    let p = &s.progress;
    json!({
        "migration": spec.display_name,
        "server": format!("{}:{}", spec.server.host, spec.server.port),
        "database": spec.database,
        "table": spec.table,
        "alter": if spec.desired.is_some() { s.clauses.as_deref() } else { Some(spec.alter.as_str()) },
        "phase": format!("{:?}", s.phase),
        "state": lines::state(s, controls),
        "algorithm": s.algorithm.as_ref().map(|a| json!({"chosen": format!("{:?}", a.chosen), "reason": a.reason})),
        "progress": {
            "rowsCopied": p.rows_copied,
            "rowsEstimated": p.rows_estimated,
            "percent": p.percent(),
            "copyComplete": p.copy_complete,
            "etaMilliseconds": p.eta.map(millis),
            "changesSeen": p.changes_seen,
            "changesApplied": p.changes_applied,
            "backlog": p.backlog,
            "binlogLagMilliseconds": p.binlog_lag.map(millis),
            "chunks": p.chunks,
            "copyWorkers": p.copy_workers,
        },
        "throttle": s.throttle.as_ref().map(|t| json!({"reason": t.reason, "detail": t.detail})),
        "throttledMilliseconds": millis(s.throttled_total),
        "cutOver": {
            "manual": controls.cut_over_policy == crate::engine::contract::spec::CutOverPolicy::Manual,
            "approved": controls.approved,
            "attempts": s.cut_over.attempts,
            "lastFailure": s.cut_over.last_failure,
            "lastAttemptMilliseconds": s.cut_over.last_attempt.and_then(since_1970),
            "blockedBy": s.cut_over.blocked_by,
            "vetoedBy": s.cut_over.vetoed_by,
            "windowOpensMilliseconds": match s.cut_over.waits {
                Some(Waits::Window { opens }) => opens.and_then(since_1970),
                _ => None,
            },
            "lockedMilliseconds": s.cut_over.locked.map(millis),
        },
        "verification": s.verification.as_ref().map(|v| json!({"chunksChecked": v.chunks_checked, "rowsRepaired": v.rows_repaired, "complete": v.complete, "scope": v.scope})),
        "retrying": s.retrying.as_ref().map(|r| json!({"reason": r.reason.as_str(), "message": r.message})),
        "tables": {"ghost": s.tables.ghost, "state": s.tables.state, "old": s.tables.old},
        "controls": {
            "throttle": controls.throttled_by_user,
            "pause": controls.paused,
            "cancel": controls.cancel,
            "workers": controls.workers,
            "exactRowCount": controls.exact_row_count,
            "chunkTimeMilliseconds": millis(controls.target_chunk_time),
            "niceRatioPercent": controls.nice_ratio_percent,
            "lockTimeoutMilliseconds": millis(controls.lock_timeout),
            "killBlockersAfterMilliseconds": controls.kill_blockers_after.map(millis),
        },
        "resumedCount": s.resumed_count,
        "session": s.session,
        "runningMilliseconds": millis(running),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line of the help that speaks of a bound has the bound that is held.
    #[test]
    fn the_help_has_the_bounds() {
        use crate::api::bounds::{KILL_BLOCKERS_AFTER, LOCK_TIMEOUT, MAX_REPLICA_LAG, NICE_RATIO_PERCENT, TARGET_CHUNK_TIME, WORKERS};
        let line = |name: &str| HELP.lines().find(|line| line.starts_with(&format!("{name}="))).unwrap();
        for (name, bounds) in [
            ("chunk-time", TARGET_CHUNK_TIME),
            ("lock-timeout", LOCK_TIMEOUT),
            ("kill-blockers-after", KILL_BLOCKERS_AFTER),
            ("max-lag", MAX_REPLICA_LAG),
        ] {
            let words = format!("{} to {}", KubeDuration(bounds.least), KubeDuration(bounds.most));
            assert!(line(name).contains(&words) && line(name).contains("; 0s ") == bounds.zero, "{words}: {}", line(name));
        }
        for (name, bounds) in [("workers", WORKERS), ("nice-ratio", NICE_RATIO_PERCENT)] {
            assert!(line(name).contains(&format!("0 to {}", bounds.most)), "{}", line(name));
        }
    }

    #[test]
    fn every_command_of_the_help_is_understood() {
        for line in HELP.lines() {
            let command = line.split_whitespace().next().unwrap_or_default().trim_end_matches(",…");
            assert!(Command::parse(command).is_ok(), "{command}: {:?}", Command::parse(command));
        }
    }

    #[test]
    fn changes_change_what_they_say() {
        let mut c = Controls::default();
        for line in [
            "throttle",
            "pause",
            "approve",
            "cancel",
            "chunk-time = 1s",
            "workers=3",
            "exact-row-count=true",
            "nice-ratio=70",
            "lock-timeout=2s",
            "kill-blockers-after=30s",
            "max-lag=5s",
            "max-load=Threads_running=9, Threads_connected=100",
            "critical-load=",
        ] {
            match Command::parse(line) {
                Ok(Command::Change(change)) => change.apply(&mut c),
                other => panic!("{line}: {other:?}"),
            };
        }
        let mut expected = Controls {
            throttled_by_user: true,
            paused: true,
            approved: true,
            cancel: true,
            target_chunk_time: Duration::from_secs(1),
            workers: 3,
            exact_row_count: true,
            nice_ratio_percent: 70,
            lock_timeout: Duration::from_secs(2),
            kill_blockers_after: Some(Duration::from_secs(30)),
            ..Controls::default()
        };
        expected.limits.max_replica_lag = Some(Duration::from_secs(5));
        expected.limits.max_load = [("Threads_running".to_owned(), 9), ("Threads_connected".to_owned(), 100)].into();
        expected.limits.critical_load = BTreeMap::new();
        assert_eq!(c, expected);
        for line in ["no-throttle", "resume", "unapprove"] {
            if let Ok(Command::Change(change)) = Command::parse(line) {
                change.apply(&mut c);
            }
        }
        assert!(!c.throttled_by_user && !c.paused && !c.approved);
        // Each time a new token.
        let mut force = || match Command::parse("force-cut-over") {
            Ok(Command::Change(change)) => {
                change.apply(&mut c);
                c.force_cut_over.clone()
            }
            other => panic!("{other:?}"),
        };
        assert_ne!(force(), force());
        assert!(force().is_some());
    }

    #[test]
    fn an_invalid_line_says_what_is_valid() {
        for (line, word) in [
            ("", "help"),
            ("stop", "help"),
            ("trottle=1", "help"),
            ("workers", "workers="),
            ("workers=65", "64"),
            ("workers=-1", "64"),
            ("exact-row-count=1", "true or false"),
            ("chunk-time=1", "500ms"),
            ("chunk-time=1m", "10s"),
            ("lock-timeout=500ms", "1s"),
            ("kill-blockers-after=500ms", "1s"),
            ("kill-blockers-after=25h", "24h"),
            ("max-lag=1ms", "0s, or between 1s and 24h"),
            ("max-lag=25h", "24h"),
            ("max-load=Threads running=1", "status variables"),
            ("critical-load=Threads_running=-1", "0 or more"),
            ("max-load=50", "VARIABLE=NUMBER"),
            ("max-load=a=b", "number"),
        ] {
            let error = Command::parse(line).expect_err(line);
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
