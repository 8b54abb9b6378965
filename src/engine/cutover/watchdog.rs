//! What ends an attempt that does not end by itself.
//!
//! A second connection, opened before the tables are locked. It takes back a lock request that has waited for half of the budget, and kills
//! the locking session when the budget is over and the tables are not unlocked, whatever that session waits for: a slow statement, a rename
//! that is stuck behind a backup's lock, an answer that the network has swallowed.
//!
//! Against an engine that is itself frozen or cut off with both connections no watchdog helps; there the server's own bounds do, see
//! [`server_bounds`].

use super::blockers::{self, Blockers, TablesToLock};
use super::swap::Step;
use crate::engine::contract::progress::Publisher;
use crate::mysql::{MySqlError, ServerAddress, Session};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long the last statement may take: the locks are over their time, and closing our end is the next best thing.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// Session settings that make the server itself let go of the tables of an engine that has vanished without a word: a lock request waits
/// three quarters of the budget (in whole seconds, rounded up: after the watchdog's own limits), and a session that says nothing is closed
/// one second after the budget, or when its answers are not taken for as long.
pub(super) fn server_bounds(budget: Duration) -> String {
    let wait = (budget * 3 / 4).as_secs_f64().ceil();
    let silence = budget.as_secs_f64().ceil() + 1.0;
    format!(
        "SET SESSION lock_wait_timeout={wait:.0}, wait_timeout={silence:.0}, net_read_timeout={silence:.0}, net_write_timeout={silence:.0}"
    )
}

/// Whom the watchdog may kill besides, once half of the budget is over: those who hold what the attempt waits for (the force token).
pub struct Force<'a> {
    /// What is to be locked.
    pub to_lock: TablesToLock<'a>,
    /// Who remembers.
    pub blockers: &'a mut Blockers,
    /// Who tells.
    pub publisher: &'a Publisher,
}

/// The watchdog's connection.
pub struct Second<'a> {
    /// Opened before the tables are locked.
    pub session: &'a mut Session,
    /// Where to open another one, if a statement on that one had to be broken off.
    pub server: &'a ServerAddress,
}

impl Second<'_> {
    /// Says the last word to the locking session: on the connection that is there, or on a new one to the same run of the server.
    async fn say(&mut self, what: &str, sql: &str) -> Result<(), MySqlError> {
        match self.session.run(what, KILL_LIMIT, sql).await {
            Err(error) if error.is_connection() => {
                let connecting = tokio::time::timeout(KILL_LIMIT, Session::open_on(self.server, self.session.server_uuid()));
                let mut fresh = connecting.await.map_err(|_| MySqlError::timeout(what, KILL_LIMIT))??;
                if fresh.server_run() != self.session.server_run() {
                    // Started again: the session ended with the former run, and its number is someone else's.
                    return Ok(());
                }
                let said = fresh.run(what, KILL_LIMIT, sql).await;
                *self.session = fresh;
                said
            }
            said => said,
        }
    }
}

/// Watches over the session `lock_id` from `began` for `budget`. Returns only after it has tried to kill it; to be dropped when the tables
/// are unlocked. `step` tells that the lock is granted.
pub(super) async fn watch_over(
    second: &mut Second<'_>,
    lock_id: u32,
    began: Instant,
    budget: Duration,
    mut step: watch::Receiver<Step>,
    force: Option<Force<'_>>,
) {
    let end = began + budget;
    let half = began + budget / 2;
    // Cancel-safe: a watch loses nothing.
    if tokio::time::timeout_at(half.into(), step.wait_for(|step| *step >= Step::Locked)).await.is_err() {
        let mut granted = false;
        if let Some(Force { to_lock, blockers, publisher }) = force {
            // Who holds the lock now has held it since before the request: later ones queue behind it.
            let killed = async {
                let holders = blockers::find(second.session, to_lock, Duration::ZERO).await?;
                blockers.kill(second.session, &holders, publisher).await
            };
            if matches!(tokio::time::timeout_at(end.into(), killed).await, Ok(Ok(true))) {
                let rest = began + budget * 3 / 4;
                granted = tokio::time::timeout_at(rest.into(), step.wait_for(|step| *step >= Step::Locked)).await.is_ok();
            }
        }
        if !granted && *step.borrow() == Step::Waiting {
            // Dropping the connection would leave the request in the server's queue, with every client behind it.
            let _ = second.say("withdraw the lock request", &format!("KILL QUERY {lock_id}")).await;
        }
    }
    tokio::time::sleep_until(end.into()).await;
    if *step.borrow() >= Step::Renamed {
        // The tables are swapped, and only foreign keys are still on their way: that is not left half done for being late.
        tokio::time::sleep_until((end + budget).into()).await;
    }
    kill(second, lock_id).await;
}

/// Ends a session, as far as that can be done.
pub async fn kill(second: &mut Second<'_>, id: u32) {
    if let Err(error) = second.say("end the locking session", &format!("KILL {id}")).await {
        tracing::warn!("could not kill the locking session; the server will close it: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_told_its_bounds_in_whole_seconds() {
        let said = |millis| server_bounds(Duration::from_millis(millis));
        assert_eq!(said(1000), "SET SESSION lock_wait_timeout=1, wait_timeout=2, net_read_timeout=2, net_write_timeout=2");
        assert_eq!(said(3000), "SET SESSION lock_wait_timeout=3, wait_timeout=4, net_read_timeout=4, net_write_timeout=4");
        assert_eq!(said(2500), "SET SESSION lock_wait_timeout=2, wait_timeout=4, net_read_timeout=4, net_write_timeout=4");
        assert_eq!(said(60_000), "SET SESSION lock_wait_timeout=45, wait_timeout=61, net_read_timeout=61, net_write_timeout=61");
    }
}
