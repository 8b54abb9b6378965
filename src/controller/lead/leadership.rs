//! One active operator: a Lease, taken before any engine runs, renewed while they run, and given back at the end.
//!
//! # Guarantees
//! Of two takers one wins: each write names the version of the Lease that it was decided on, and the API server refuses it when there is a newer one.
//! Nobody's clock is compared with another's. A standby takes the Lease over when it has seen the same record for as long as the record says that it
//! lasts, by its own clock. A leader counts from before it sent its last successful renewal, which is earlier than anybody can have seen it, and stops
//! a margin sooner. What its writes ask is [`Validity`]: a process that was stopped and goes on finds out before it writes anything.
//!
//! # Caveats
//! A Lease is advisory. What keeps two engines from writing to one table is the fence in MySQL; the Lease keeps them from trying.
use crate::controller::fleet::validity::{LEASE, Validity};
use crate::telemetry::Metrics;
use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config};
use serde_json::json;
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// From one renewal to the next.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often a standby looks, and a failed renewal is tried again.
const POLL: Duration = Duration::from_secs(1);
/// One request. After one that hangs there is time for another before a leader has to stop.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// Giving the Lease back is a courtesy to the next leader.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);
/// A record that says that it lasts longer is no operator's.
const LONGEST_LEASE: Duration = Duration::from_secs(60);

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

/// Why one request did not do what it should.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the API server did not answer within {REQUEST_LIMIT:?}")]
    Silence,
    #[error(transparent)]
    Kube(#[from] kube::Error),
}

impl Refusal {
    fn has_code(&self, wanted: u16) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(status)) if status.code == wanted)
    }
}

/// A conflict: someone has written the Lease since.
const CONFLICT: u16 = 409;
const NOT_FOUND: u16 = 404;

/// What a standby has seen, and since when: whether the Lease may be taken. Pure.
#[derive(Debug, Default)]
struct Watch(Option<(LeaseSpec, Instant)>);

impl Watch {
    /// Whether a record that was read just now may be replaced by one of ours: it is nobody's, or ours, or has not changed for as long as it lasts.
    fn may_take(&mut self, record: &LeaseSpec, me: &str, now: Instant) -> bool {
        let Some(holder) = record.holder_identity.as_deref().filter(|holder| !holder.is_empty()) else { return true };
        if holder == me {
            // A request of ours that was carried out, while its answer was lost.
            return true;
        }
        match &self.0 {
            Some((seen, since)) if seen == record => now.duration_since(*since) >= lasts(record),
            _ => {
                self.0 = Some((record.clone(), now));
                false
            }
        }
    }
}

/// How long a record lasts by its own words, where they make sense.
fn lasts(record: &LeaseSpec) -> Duration {
    let said = record.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    said.filter(|said| (Duration::from_secs(1)..=LONGEST_LEASE).contains(said)).unwrap_or(LEASE)
}

/// Waits for the Lease, runs `work` while it is held, and starts over when it is lost, until `shutdown`.
///
/// `work` gets a token that is cancelled when the Lease is lost or at shutdown, and the validity of its term; it is always waited for; the Lease is
/// renewed meanwhile and given back only afterwards.
///
/// # Errors
/// `work` ended before its token was cancelled.
pub async fn lead<F, W>(config: &Config, lease: &Lease, metrics: &Metrics, shutdown: &CancellationToken, work: F) -> Result<(), Error>
where
    F: Fn(CancellationToken, Validity) -> W,
    W: Future<Output = Result<(), String>>,
{
    // The client's usual patience (none at all for reads, since watches last) would keep a dead connection in its pool.
    let mut config = config.clone();
    config.connect_timeout = Some(REQUEST_LIMIT);
    config.read_timeout = Some(REQUEST_LIMIT);
    config.write_timeout = Some(REQUEST_LIMIT);
    let client = Client::try_from(config).map_err(Error::Client)?;
    loop {
        // An identity for each term: a Lease that was held under the last one is not taken for ours, it has to end first.
        let lock = Lock {
            api: Api::namespaced(client.clone(), &lease.namespace),
            name: lease.name.clone(),
            me: format!("{}_{:08x}", lease.identity, fastrand::u32(..)),
        };
        let Some(mut held) = lock.stand_by(shutdown).await else { return Ok(()) };
        tracing::info!("this process is the leader");
        metrics.leader(true);
        let term = shutdown.child_token();
        let work = work(term.clone(), held.validity.clone());
        let ended = lock.hold(&mut held, &term, work).await;
        metrics.leader(false);
        if let (TermEnd::Lost, false) = (&ended, shutdown.is_cancelled()) {
            tracing::warn!("the Lease was lost; stopping all engines");
            continue;
        }
        lock.release(held.version).await;
        return match ended {
            TermEnd::Lost | TermEnd::Finished(Ok(())) if shutdown.is_cancelled() => Ok(()),
            TermEnd::Lost | TermEnd::Finished(Ok(())) => Err(Error::Work("without a reason".to_owned())),
            TermEnd::Finished(Err(reason)) => Err(Error::Work(reason)),
        };
    }
}

/// The Lease of one term.
struct Lock {
    api: Api<coordination::Lease>,
    name: String,
    me: String,
}

/// A Lease that is ours.
struct Held {
    /// `metadata.resourceVersion` of our last write.
    version: String,
    validity: Validity,
}

enum TermEnd {
    Lost,
    Finished(Result<(), String>),
}

async fn request<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Refusal> {
    Ok(timeout(REQUEST_LIMIT, asked).await.map_err(|_| Refusal::Silence)??)
}

fn version(lease: &coordination::Lease) -> String {
    lease.metadata.resource_version.clone().unwrap_or_default()
}

impl Lock {
    /// The Lease as it is now; made if it is not there.
    async fn read(&self) -> Result<coordination::Lease, Refusal> {
        match request(self.api.get(&self.name)).await {
            Err(refusal) if refusal.has_code(NOT_FOUND) => {
                let empty =
                    coordination::Lease { metadata: ObjectMeta { name: Some(self.name.clone()), ..Default::default() }, spec: None };
                request(self.api.create(&PostParams::default(), &empty)).await
            }
            answer => answer,
        }
    }

    /// Writes the Lease if it is still of this version; says its new one.
    async fn write(&self, version: &str, spec: serde_json::Value) -> Result<String, Refusal> {
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": spec});
        let written = request(self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch))).await?;
        Ok(self::version(&written))
    }

    async fn take(&self, read: &coordination::Lease) -> Result<Held, Refusal> {
        let (sent, now) = (Instant::now(), MicroTime(Timestamp::now()));
        let transitions = read.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0).saturating_add(1);
        let spec = json!({"holderIdentity": self.me, "leaseDurationSeconds": LEASE.as_secs(), "leaseTransitions": transitions, "acquireTime": now, "renewTime": now});
        Ok(Held { version: self.write(&version(read), spec).await?, validity: Validity::renewed(sent) })
    }

    /// Waits until this process holds the Lease; `None` at shutdown.
    async fn stand_by(&self, shutdown: &CancellationToken) -> Option<Held> {
        tracing::info!("waiting for the Lease");
        let mut watch = Watch::default();
        loop {
            // Dropped in the middle, a request that was carried out nevertheless leaves a Lease that ends by itself.
            let tried = tokio::select! {
                tried = async {
                    let lease = self.read().await?;
                    let record = lease.spec.clone().unwrap_or_default();
                    if watch.may_take(&record, &self.me, Instant::now()) { self.take(&lease).await.map(Some) } else { Ok(None) }
                } => tried,
                () = shutdown.cancelled() => return None,
            };
            match tried {
                Ok(Some(held)) => return Some(held),
                Ok(None) => {}
                // Someone else was quicker.
                Err(refusal) if refusal.has_code(CONFLICT) => {}
                Err(error) => tracing::warn!(%error, name = self.name, "cannot read or acquire the Lease; retrying"),
            }
            tokio::select! {
                () = sleep(POLL) => {}
                () = shutdown.cancelled() => return None,
            }
        }
    }

    /// One renewal, at its time. `Ok(None)`: another process holds the Lease, or gone.
    async fn renew(&self, at: Instant, version: String) -> Result<Option<(String, Instant)>, Refusal> {
        sleep_until(at).await;
        let sent = Instant::now();
        let renewal = || json!({"holderIdentity": self.me, "renewTime": MicroTime(Timestamp::now())});
        let refusal = match self.write(&version, renewal()).await {
            Ok(version) => return Ok(Some((version, sent))),
            Err(refusal) => refusal,
        };
        if refusal.has_code(NOT_FOUND) {
            return Ok(None);
        }
        if !refusal.has_code(CONFLICT) {
            return Err(refusal);
        }
        // A label that someone has set, or our own renewal whose answer was lost.
        let lease = request(self.api.get(&self.name)).await?;
        if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) != Some(self.me.as_str()) {
            return Ok(None);
        }
        let sent = Instant::now();
        Ok(Some((self.write(&self::version(&lease), renewal()).await?, sent)))
    }

    /// Renews the Lease while the work goes on. When it is lost, cancels the term and waits for the work, which must then end within its own limits.
    async fn hold(&self, held: &mut Held, term: &CancellationToken, work: impl Future<Output = Result<(), String>>) -> TermEnd {
        let mut work = std::pin::pin!(work);
        // Polled by reference: a request is not dropped in its middle.
        let mut renewal = Box::pin(self.renew(Instant::now() + RENEW_EVERY, held.version.clone()));
        while held.validity.holds() {
            tokio::select! {
                result = &mut work => return TermEnd::Finished(result),
                () = sleep_until(held.validity.until().unwrap_or_else(Instant::now)) => {}
                renewed = &mut renewal => {
                    let next = match renewed {
                        Ok(Some((version, sent))) => {
                            held.version = version;
                            held.validity.renew(sent);
                            sent + RENEW_EVERY
                        }
                        Ok(None) => {
                            tracing::warn!("another process holds the Lease");
                            break;
                        }
                        Err(error) => {
                            tracing::warn!(%error, "cannot renew the Lease");
                            Instant::now() + POLL
                        }
                    };
                    renewal = Box::pin(self.renew(next, held.version.clone()));
                }
            }
        }
        drop(renewal);
        term.cancel();
        if let Err(error) = work.await {
            tracing::error!(error, "the leader's work failed");
        }
        TermEnd::Lost
    }

    async fn release(&self, version: String) {
        let nobody = || json!({"holderIdentity": null, "acquireTime": null, "renewTime": null});
        let released = timeout(RELEASE_LIMIT, async {
            match self.write(&version, nobody()).await {
                Err(refusal) if refusal.has_code(CONFLICT) => {
                    let lease = request(self.api.get(&self.name)).await?;
                    if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) != Some(self.me.as_str()) {
                        return Ok(());
                    }
                    self.write(&self::version(&lease), nobody()).await.map(drop)
                }
                written => written.map(drop),
            }
        });
        match released.await {
            Ok(Ok(())) => tracing::info!("the Lease was released"),
            Ok(Err(error)) => tracing::warn!(%error, "could not release the Lease; it will expire"),
            Err(_) => tracing::warn!("could not release the Lease in time; it will expire"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::controller::fleet::validity::MARGIN;

    fn record(holder: &str, renewed: i64, lasts: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
            lease_duration_seconds: Some(lasts),
            ..Default::default()
        }
    }

    #[test]
    fn a_standby_waits_for_as_long_as_it_has_itself_seen_no_renewal() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut watch = Watch::default();
        // However old or young the record says that it is: the holder's clock is not ours.
        for renewed in [0, 4_000_000_000] {
            assert!(!watch.may_take(&record("a", renewed, 10), "me", at(0)));
            assert!(!watch.may_take(&record("a", renewed, 10), "me", at(9)));
        }
        assert!(!watch.may_take(&record("a", 1, 10), "me", at(10)), "renewed");
        assert!(!watch.may_take(&record("a", 1, 10), "me", at(19)));
        assert!(!watch.may_take(&record("b", 1, 10), "me", at(20)), "another holder");
        assert!(watch.may_take(&record("b", 1, 10), "me", at(30)));
        // A standby that was stopped has seen nothing meanwhile: what it reads now is what counts.
        assert!(!watch.may_take(&record("b", 2, 10), "me", at(1000)));
    }

    #[test]
    fn a_lease_of_nobody_or_of_a_lost_answer_is_taken_at_once() {
        let now = Instant::now();
        let mut watch = Watch::default();
        assert!(watch.may_take(&LeaseSpec::default(), "me", now));
        assert!(watch.may_take(&record("", 1, 10), "me", now));
        assert!(watch.may_take(&record("me", 1, 10), "me", now));
        assert!(!watch.may_take(&record("me2", 1, 10), "me", now));
    }

    #[test]
    fn what_a_record_says_of_its_length_counts_where_it_makes_sense() {
        for (said, counts) in [(30, 30), (1, 1), (60, 60), (0, 10), (-5, 10), (i32::MAX, 10)] {
            assert_eq!(lasts(&record("a", 1, said)), Duration::from_secs(counts), "{said}");
        }
        assert_eq!(lasts(&LeaseSpec::default()), LEASE);
    }

    #[test]
    fn a_leader_has_stopped_before_anybody_may_take_over() {
        let sent = Instant::now();
        let validity = Validity::renewed(sent);
        assert!(validity.holds_at(sent + LEASE - MARGIN - Duration::from_millis(1)));
        assert!(!validity.holds_at(sent + LEASE - MARGIN));
        // The first that another can have seen of this renewal was the moment it was sent.
        let mut watch = Watch::default();
        let ours = record("a", 1, i32::try_from(LEASE.as_secs()).unwrap());
        assert!(!watch.may_take(&ours, "b", sent));
        assert!(!watch.may_take(&ours, "b", sent + LEASE - Duration::from_millis(1)));
        // A clone is the same; an answer that comes late extends nothing beyond what its request was worth.
        let clone = validity.clone();
        validity.renew(sent + RENEW_EVERY);
        assert!(clone.holds_at(sent + LEASE - MARGIN) && !clone.holds_at(sent + RENEW_EVERY + LEASE - MARGIN));
        assert!(Validity::endless().holds_at(sent + Duration::from_secs(1_000_000)));
        // A renewal that hangs leaves time for another.
        assert!(RENEW_EVERY + REQUEST_LIMIT + POLL < LEASE - MARGIN);
    }
}
