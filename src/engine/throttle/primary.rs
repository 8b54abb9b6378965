//! Signals of the primary: status variables, the length of the history list, the size of its files, and a person's query.

use super::decide::{Readings, Signal, Status};
use super::signals::{PolledSession, Signals, number, pause_after, text};
use crate::engine::contract::notice;
use crate::engine::table::sight;
use crate::mysql::own::own_connections;
use crate::mysql::{MySqlError, ServerAddress};
use crate::sql::quote;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const RUNNING: &str = "Threads_running";
const CONNECTED: &str = "Threads_connected";
/// How long it takes until a signal that the account is not shown is tried again, on a new connection: the privilege may have come.
const TRY_HIDDEN_AGAIN: Duration = Duration::from_secs(60);

fn load(readings: &mut Readings) -> &mut Option<Signal<Status>> {
    &mut readings.load
}

fn history(readings: &mut Readings) -> &mut Option<Signal<u64>> {
    &mut readings.history
}

fn disk(readings: &mut Readings) -> &mut Option<Signal<u64>> {
    &mut readings.disk
}

fn query(readings: &mut Readings) -> &mut Option<Signal<f64>> {
    &mut readings.query
}

/// Nothing to read until the controls change.
const IDLE: Duration = Duration::from_secs(3600);

/// Reads the status variables that limits name. Never ends.
pub(super) async fn watch_load(signals: &Signals) {
    let mut line = PolledSession::primary(signals, "");
    let mut live = signals.live_limits();
    loop {
        let limits = live.limits();
        let names: BTreeSet<&str> = limits.max_load.keys().chain(limits.critical_load.keys()).map(String::as_str).collect();
        if names.is_empty() {
            signals.forget(load);
            line.close().await;
            live.wait(IDLE).await;
            continue;
        }
        signals.begin(load);
        let began = Instant::now();
        let least = |name: &str| [&limits.max_load, &limits.critical_load].into_iter().filter_map(|l| l.get(name).copied()).min();
        let reading = read_status(&mut line, &signals.server, &names, least).await;
        let pause = pause_after(began.elapsed(), reading.is_err());
        signals.put(load, reading.map_err(|error| error.to_string()));
        live.wait(pause).await;
    }
}

/// The variables, and for counts of threads only those that are not of an engine.
async fn read_status(
    line: &mut PolledSession,
    server: &ServerAddress,
    names: &BTreeSet<&str>,
    least: impl Fn(&str) -> Option<u64>,
) -> Result<Status, MySqlError> {
    let what = "read the server's status";
    let list = names.iter().map(|name| quote::string(name)).collect::<Vec<_>>().join(", ");
    let rows = line.rows(what, &format!("SHOW GLOBAL STATUS WHERE Variable_name IN ({list})"), false).await?;
    let found: BTreeMap<String, u64> = rows
        .iter()
        .filter_map(|row| {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "counters are not negative; a cast from float saturates"
            )]
            let value = number(row, 1)? as u64;
            Some((text(row, 0)?.to_lowercase(), value))
        })
        .collect();
    let mut status: Status = names.iter().map(|name| ((*name).to_owned(), found.get(&name.to_lowercase()).copied())).collect();
    // Whose threads they are costs more than how many there are, so it is asked only when it matters.
    let matters = status.iter().any(|(name, value)| {
        (name.eq_ignore_ascii_case(RUNNING) || name.eq_ignore_ascii_case(CONNECTED))
            && least(name).is_some_and(|limit| value.is_some_and(|v| v > limit))
    });
    if matters {
        let (connected, running) = own_threads(line, server).await?;
        for (name, value) in &mut status {
            let own = if name.eq_ignore_ascii_case(RUNNING) { running } else { connected };
            if name.eq_ignore_ascii_case(RUNNING) || name.eq_ignore_ascii_case(CONNECTED) {
                *value = value.map(|v| v.saturating_sub(own));
            }
        }
    }
    Ok(status)
}

/// How many connections this process has to the server, of all its migrations, and how many of them are at work. An account may always see
/// its own sessions (manual: "The processlist Table"). A server that lacks the table counts them all.
async fn own_threads(line: &mut PolledSession, server: &ServerAddress) -> Result<(u64, u64), MySqlError> {
    let own = own_connections(server).iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT COUNT(*), SUM(COMMAND <> 'Sleep') FROM performance_schema.processlist WHERE ID IN ({own})");
    let rows = match line.rows("identify the engine's own threads", &sql, false).await {
        Ok(rows) => rows,
        Err(error) if error.is_connection() => return Err(error),
        Err(error) => {
            tracing::debug!("could not identify the engine's own threads: {error}");
            return Ok((0, 0));
        }
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
    let count = |index| rows.first().and_then(|row| number(row, index)).unwrap_or(0.0) as u64;
    Ok((count(0), count(1)))
}

/// Reads the length of the history list. Never ends.
pub(super) async fn watch_history(signals: &Signals) {
    let what = "read the length of the history list";
    // In the table since 5.6; the counter is on by default (manual: "The INFORMATION_SCHEMA INNODB_METRICS Table").
    let sql = "SELECT `COUNT` FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len'";
    let mut line = PolledSession::primary(signals, "");
    let mut live = signals.live_limits();
    loop {
        if live.limits().max_history_list_length.is_none() {
            signals.forget(history);
            line.close().await;
            live.wait(IDLE).await;
            continue;
        }
        signals.begin(history);
        let began = Instant::now();
        let reading = line.rows(what, sql, false).await;
        let pause = pause_after(began.elapsed(), reading.is_err());
        match reading {
            Ok(rows) => {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length")]
                let length = rows.first().and_then(|row| number(row, 0)).map(|n| n as u64);
                signals.put(history, length.ok_or_else(|| "INNODB_METRICS has no row trx_rseg_history_len".to_owned()));
            }
            // It is a limit by default: an account that may not read it must not stand still for that.
            Err(error) if sight::is_refusal(&error) => {
                let fact = sight::Fact::HistoryList;
                signals.notice(
                    notice::SIGNAL_NOT_AVAILABLE,
                    format!("{}: {error}. {}, or remove the limit", sight::plain(fact.consequence()), fact.grant("")),
                );
                signals.hide(history);
                line.close().await;
                live.wait(TRY_HIDDEN_AGAIN).await;
                // The controls may have changed in the meantime.
                continue;
            }
            Err(error) => signals.put(history, Err(error.to_string())),
        }
        live.wait(pause).await;
    }
}

/// What fills the disk, as statements whose rows have bytes in this column. `ALLOCATED_SIZE` is what a file really takes (manual: "The
/// INFORMATION_SCHEMA INNODB_TABLESPACES Table"). The redo log has a size of its own and stays there.
const SIZES: [(&str, usize); 2] = [("SELECT SUM(ALLOCATED_SIZE) FROM information_schema.INNODB_TABLESPACES", 0), ("SHOW BINARY LOGS", 1)];

/// Reads how much the server's files take. Never ends.
pub(super) async fn watch_disk(signals: &Signals) {
    let mut line = PolledSession::primary(signals, "");
    let mut live = signals.live_limits();
    loop {
        if live.limits().max_disk_usage.is_none() {
            signals.forget(disk);
            line.close().await;
            live.wait(IDLE).await;
            continue;
        }
        signals.begin(disk);
        let began = Instant::now();
        let mut reading = Ok(0);
        for (sql, column) in SIZES {
            match line.rows("read the size of tablespaces and binary logs (PROCESS, REPLICATION CLIENT)", sql, false).await {
                Ok(rows) => {
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes")]
                    let bytes: u64 = rows.iter().filter_map(|row| number(row, column)).map(|n| n as u64).sum();
                    reading = reading.map(|sum| sum + bytes);
                }
                Err(error) => {
                    // A limit that someone has set holds while it cannot be read.
                    let refused = sight::is_refusal(&error);
                    reading = Err(if refused { format!("{error}. {}", sight::Fact::DiskUsage.grant("")) } else { error.to_string() });
                    if refused {
                        // With the privilege a new connection reads it.
                        line.close().await;
                    }
                    break;
                }
            }
        }
        let pause = pause_after(began.elapsed(), reading.is_err());
        signals.put(disk, reading);
        live.wait(pause).await;
    }
}

/// Runs the person's query. Never ends.
///
/// It cannot write, and it is one statement: the session is read only, and prepared statements hold exactly one.
pub(super) async fn watch_query(signals: &Signals) {
    let mut line = PolledSession::primary(signals, "SET SESSION transaction_read_only=ON, max_execution_time=3000");
    let mut live = signals.live_limits();
    loop {
        let Some(sql) = live.limits().throttle_query else {
            signals.forget(query);
            line.close().await;
            live.wait(IDLE).await;
            continue;
        };
        signals.begin(query);
        let began = Instant::now();
        let reading = line.rows("run the query", &sql, true).await;
        let pause = pause_after(began.elapsed(), reading.is_err());
        let value = match reading {
            // No row and NULL are not above zero.
            Ok(rows) => match rows.first() {
                Some(row) if !matches!(row.as_ref(0), None | Some(mysql_async::Value::NULL)) => {
                    number(row, 0).ok_or_else(|| "its first column is not a number".to_owned())
                }
                _ => Ok(0.0),
            },
            Err(error) => Err(error.to_string()),
        };
        if live.unchanged(|limits| &limits.throttle_query, &Some(sql)) {
            signals.put(query, value);
            live.wait(pause).await;
        }
    }
}
