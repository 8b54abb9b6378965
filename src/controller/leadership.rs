//! One active operator: a Lease, taken before any engine runs and given back at the end.
//!
//! kube-lease-manager does the locking (a server-side apply without force, so that of two takers one gets a conflict). It says when the lock
//! has been taken by somebody else, but not when it merely cannot be renewed; that is judged here by `Renewal`: a leader that the API
//! server does not answer steps down before its Lease can be taken over.
//!
//! A process that was stopped and goes on has missed all of this: it finds out by its [`Pulse`], before it writes anything. Still, a Lease is
//! advisory. What keeps two engines from writing to one table is the fence in MySQL; the Lease keeps them from trying.
use crate::telemetry::Metrics;
use kube::{Client, Config};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How long a Lease lasts without renewal: how long a failover takes at most.
const LEASE_SECONDS: u64 = 30;
/// It is renewed this long before its end, thus every 10 s.
const GRACE_SECONDS: u64 = 20;
/// One request. Shorter than [`QUIET`], so that a request that hangs has failed before silence is taken for success.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// A renewal that has failed and then does not fail for this long has succeeded.
const QUIET: Duration = Duration::from_secs(5);
/// A leader whose renewals fail for this long steps down. With the first failure at 10–13 s after the last renewal and
/// engines that take a second to stop, it is silent before the Lease ends at 30 s.
const STEP_DOWN_AFTER: Duration = Duration::from_secs(12);
/// Between two attempts after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Giving the Lease back is a courtesy to the next leader.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// How often the pulse is taken.
const BEAT: Duration = Duration::from_secs(1);
/// Without a beat for so long the process stood still (or its runtime was starved), and somebody else may lead.
const STOOD_STILL: Duration = Duration::from_secs(10);

/// Whether this process has been running without a gap. A clone is the same pulse.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Mutex<Instant>>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Pulse {
    /// Whether the last beat was a moment ago.
    pub fn is_regular(&self) -> bool {
        self.was_regular(Instant::now())
    }

    fn was_regular(&self, now: Instant) -> bool {
        now.duration_since(*self.0.lock().unwrap_or_else(PoisonError::into_inner)) < STOOD_STILL
    }

    /// One beat; `false` after a gap.
    fn beat(&self, now: Instant) -> bool {
        let regular = self.was_regular(now);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
        regular
    }

    /// Beats while no Lease is asked for: then a gap is of no interest.
    pub async fn beat_until(&self, term: CancellationToken) {
        loop {
            self.beat(Instant::now());
            tokio::select! {
                () = sleep(BEAT) => {}
                () = term.cancelled() => return,
            }
        }
    }
}

/// Which Lease, and who asks.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Name of the Lease; one per shard.
    pub name: String,
    /// Its namespace: the operator's own.
    pub namespace: String,
    /// The Pod. Each term adds something random: two processes with one identity would both lead.
    pub identity: String,
}

/// What went wrong for good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No client can be made of the configuration.
    #[error("cannot make a client for the Lease: {0}")]
    Client(#[source] kube::Error),
    /// What the leader does ended by itself, which it never should.
    #[error("the leader's work ended: {0}")]
    Work(String),
}

/// Whether a leader may go on, from what its renewals say. Pure.
#[derive(Debug, Default, Clone, Copy)]
struct Renewal {
    failing: Option<(Instant, Instant)>,
}

impl Renewal {
    fn failed(&mut self, now: Instant) {
        let since = match self.failing {
            Some((since, last)) if now.duration_since(last) < QUIET => since,
            _ => now,
        };
        self.failing = Some((since, now));
    }

    /// When to judge again, while there is doubt.
    fn deadline(&self) -> Option<Instant> {
        self.failing.map(|(since, last)| (since + STEP_DOWN_AFTER).min(last + QUIET))
    }

    /// Whether it is too late.
    fn is_lost(&mut self, now: Instant) -> bool {
        match self.failing {
            Some((_, last)) if now.duration_since(last) >= QUIET => {
                self.failing = None;
                false
            }
            Some((since, _)) => now.duration_since(since) >= STEP_DOWN_AFTER,
            None => false,
        }
    }
}

/// Waits for the Lease, runs `work` while it is held, and starts over when it is lost, until `shutdown`.
///
/// `work` gets a token that is cancelled when the Lease is lost or at shutdown, and the pulse of its term; it is always waited for; the Lease is renewed meanwhile and
/// given back only afterwards.
///
/// # Errors
/// `work` ended before its token was cancelled.
pub async fn lead<F, W>(config: &Config, lease: &Lease, metrics: &Metrics, shutdown: &CancellationToken, work: F) -> Result<(), Error>
where
    F: Fn(CancellationToken, Pulse) -> W,
    W: Future<Output = Result<(), String>>,
{
    // The client's usual patience (none at all for reads, since watches last) would hide that the API server is away.
    let mut config = config.clone();
    config.connect_timeout = Some(REQUEST_LIMIT);
    config.read_timeout = Some(REQUEST_LIMIT);
    config.write_timeout = Some(REQUEST_LIMIT);
    let client = Client::try_from(config).map_err(Error::Client)?;
    loop {
        // A manager that has missed its renewals still believes that it leads, so each term has a new one, with an identity of its own: a Lease
        // that was held under the last one is not taken for ours, it has to end first.
        let Some(manager) = build(&client, lease, shutdown).await else { return Ok(()) };
        let ended = match stand_by(&manager, shutdown).await {
            Waited::Leads => {
                tracing::info!("this process leads");
                metrics.leader(true);
                let (term, pulse) = (shutdown.child_token(), Pulse::default());
                let ended = hold(&manager, &term, &pulse, work(term.clone(), pulse.clone())).await;
                metrics.leader(false);
                ended
            }
            Waited::Failed => continue,
            Waited::Shutdown => return Ok(()),
        };
        if let (Ended::Lost, false) = (&ended, shutdown.is_cancelled()) {
            tracing::warn!("the Lease was lost; all engines are stopped");
            continue;
        }
        release(&manager).await;
        return match ended {
            Ended::Lost | Ended::Finished(Ok(())) if shutdown.is_cancelled() => Ok(()),
            Ended::Lost | Ended::Finished(Ok(())) => Err(Error::Work("without a reason".to_owned())),
            Ended::Finished(Err(reason)) => Err(Error::Work(reason)),
        };
    }
}

async fn release(manager: &LeaseManager) {
    match timeout(RELEASE_LIMIT, manager.release()).await {
        Ok(Ok(())) => tracing::info!("the Lease was given back"),
        Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be given back; it ends by itself"),
        Err(_) => tracing::warn!("the Lease could not be given back in time; it ends by itself"),
    }
}

/// Finds or makes the Lease object; tries until it works or `shutdown`.
async fn build(client: &Client, lease: &Lease, shutdown: &CancellationToken) -> Option<LeaseManager> {
    loop {
        let attempt = LeaseManagerBuilder::new(client.clone(), lease.name.as_str())
            .with_namespace(lease.namespace.as_str())
            .with_identity(format!("{}_{:08x}", lease.identity, fastrand::u32(..)))
            .with_duration(LEASE_SECONDS)
            .with_grace(GRACE_SECONDS)
            .build();
        // Dropping the attempt leaves at most an empty Lease object.
        let error: LeaseManagerError = tokio::select! {
            built = attempt => match built {
                Ok(manager) => return Some(manager),
                Err(error) => error,
            },
            () = shutdown.cancelled() => return None,
        };
        tracing::warn!(%error, namespace = lease.namespace, name = lease.name, "cannot read or make the Lease; trying again");
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}

enum Waited {
    Leads,
    /// The API server did not answer, or the Lease object was deleted.
    Failed,
    Shutdown,
}

/// Waits until this process holds the Lease.
async fn stand_by(manager: &LeaseManager, shutdown: &CancellationToken) -> Waited {
    tracing::info!("waiting for the Lease");
    loop {
        // `changed` may be dropped at any await: what it knows is read again from the API server when it has expired.
        let changed = tokio::select! {
            changed = manager.changed() => changed,
            () = shutdown.cancelled() => return Waited::Shutdown,
        };
        match changed {
            Ok(true) => return Waited::Leads,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot ask for the Lease");
                tokio::select! {
                    () = sleep(PAUSE) => return Waited::Failed,
                    () = shutdown.cancelled() => return Waited::Shutdown,
                }
            }
        }
    }
}

enum Ended {
    Lost,
    Finished(Result<(), String>),
}

/// Renews the Lease while the work goes on. When it is lost, cancels the term and waits for the work, which must then end within its own limits.
async fn hold(manager: &LeaseManager, term: &CancellationToken, pulse: &Pulse, work: impl Future<Output = Result<(), String>>) -> Ended {
    let mut work = std::pin::pin!(work);
    let mut renewal = Renewal::default();
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Made anew only when it has said something: it must not be dropped in the middle of a request at each beat.
    let mut changed: Pin<Box<dyn Future<Output = Result<bool, LeaseManagerError>> + Send + '_>> = Box::pin(manager.changed());
    loop {
        let judgement = renewal.deadline();
        // Nothing is lost by dropping the losing branches: they are polled by reference, or only wait for a time.
        tokio::select! {
            result = &mut work => return Ended::Finished(result),
            _ = beats.tick() => {
                if !pulse.beat(Instant::now()) {
                    tracing::warn!("this process stood still; somebody else may lead");
                    break;
                }
            }
            () = sleep_until(judgement.unwrap_or_else(Instant::now)), if judgement.is_some() => {
                if renewal.is_lost(Instant::now()) {
                    break;
                }
            }
            said = &mut changed => {
                match said {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(%error, "cannot renew the Lease");
                        renewal.failed(Instant::now());
                        if renewal.is_lost(Instant::now()) {
                            break;
                        }
                    }
                }
                let pause = if renewal.failing.is_some() { PAUSE } else { Duration::ZERO };
                changed = Box::pin(async move {
                    sleep(pause).await;
                    manager.changed().await
                });
            }
        }
    }
    term.cancel();
    if let Err(error) = work.await {
        tracing::error!(error, "the leader's work ended badly");
    }
    Ended::Lost
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_leader_that_cannot_renew_steps_down_in_time() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut renewal = Renewal::default();
        assert_eq!(renewal.deadline(), None);
        assert!(!renewal.is_lost(at(0)));
        for second in [0, 4, 8] {
            renewal.failed(at(second));
            assert!(!renewal.is_lost(at(second)), "at {second} s");
        }
        assert_eq!(renewal.deadline(), Some(at(12)));
        assert!(renewal.is_lost(at(12)));
        // The first failure comes at the latest with the first renewal's time-out; then the wait; all before the Lease ends.
        let renewed_every = Duration::from_secs(LEASE_SECONDS - GRACE_SECONDS);
        assert!(renewed_every + REQUEST_LIMIT + STEP_DOWN_AFTER < Duration::from_secs(LEASE_SECONDS));
        assert!(REQUEST_LIMIT + PAUSE < QUIET, "a hanging request must fail before silence counts as success");
    }

    #[test]
    fn a_gap_in_the_pulse_is_seen_before_the_next_beat_and_by_it() {
        let pulse = Pulse::default();
        let start = Instant::now();
        let at = |time: Duration| start + time;
        assert!(pulse.beat(at(BEAT)));
        assert!(pulse.was_regular(at(BEAT * 2)) && pulse.beat(at(BEAT * 2)));
        let late = BEAT * 2 + STOOD_STILL;
        assert!(!pulse.was_regular(at(late)) && !pulse.beat(at(late)));
        assert!(pulse.beat(at(late + BEAT)));
    }

    #[test]
    fn silence_after_a_failure_is_success() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut renewal = Renewal::default();
        renewal.failed(at(0));
        assert_eq!(renewal.deadline(), Some(at(5)));
        assert!(!renewal.is_lost(at(5)));
        assert_eq!(renewal.deadline(), None);
        // A later failure counts from its own time.
        renewal.failed(at(20));
        assert!(!renewal.is_lost(at(21)));
        assert_eq!(renewal.deadline(), Some(at(25)));
    }
}
