//! Until when this process may write as the leader: one that stood still may have lost the Lease without knowing, and writes nothing until it
//! knows who leads.
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the Lease lasts without renewal. With the poll of a standby, a request and the start of the engines, those of a standby are at work within 15 s after
/// the leader was killed. Shorter would mean that a brief absence of the API server stops all engines.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// A leader that could not renew stops its engines this long before the Lease ends: they need about a second.
pub(crate) const MARGIN: Duration = Duration::from_secs(2);

/// Until when this process may write as the leader. A clone is the same validity.
#[derive(Clone, Debug)]
pub struct Validity(Option<Arc<Mutex<Instant>>>);

impl Validity {
    /// Without a Lease there is nobody else.
    pub fn endless() -> Self {
        Self(None)
    }

    /// Of a Lease that was renewed by a request sent at that time.
    pub(crate) fn renewed(sent: Instant) -> Self {
        Self(Some(Arc::new(Mutex::new(sent + (LEASE - MARGIN)))))
    }

    pub(crate) fn renew(&self, sent: Instant) {
        if let Some(until) = &self.0 {
            *until.lock() = sent + (LEASE - MARGIN);
        }
    }

    pub(crate) fn until(&self) -> Option<Instant> {
        self.0.as_ref().map(|until| *until.lock())
    }

    pub(crate) fn holds_at(&self, now: Instant) -> bool {
        self.until().is_none_or(|until| now < until)
    }

    /// Whether this process may still write.
    pub fn holds(&self) -> bool {
        self.holds_at(Instant::now())
    }
}
