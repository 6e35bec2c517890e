//! What a handler holds: the job, its lease, and the way home of a lease that was not settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

/// One leased piece of work, on its way to a handler or inside it.
///
/// Dropped, it gives its lease back, unless [`settled`](Self::settled) has said that the outcome is committed.
#[must_use = "a job that is dropped gives its lease back"]
pub struct Job<I, T: Clone> {
    pub item: I,
    lease: Lease<T>,
}

/// The guard of one lease, for a handler that takes its [`Job`] apart. Holds its share of the lane's concurrency.
#[must_use = "a lease that is dropped unsettled is given back"]
pub struct Lease<T: Clone> {
    ticket: T,
    progress: Progress,
    home: Arc<Home<T>>,
    /// `None` in a [turn](super::turn), which has no concurrency to bound. A field is dropped after `Lease::drop` has sent the
    /// ticket: whoever holds all permits knows that every ticket is in the channel.
    _permit: Option<OwnedSemaphorePermit>,
}

enum Progress {
    Unstarted,
    Started,
    Settled,
}

/// A lease that came home without having been settled.
pub(super) enum Returned<T> {
    /// Never with its handler: nothing has happened, so the work is due again at once.
    Unstarted(T),
    /// Its handler began: anything may have happened, so the work is due again only after the backoff.
    Failed(T),
}

/// Where leases come back to.
pub(super) struct Home<T> {
    returned: mpsc::UnboundedSender<Returned<T>>,
    /// Rung for each lease that ends: a source at a cap of its own may have room again.
    pub(super) freed: Notify,
    pub(super) health: Arc<Health>,
}

/// What readiness and metrics may ask of a lane while it runs.
#[derive(Debug, Default)]
pub struct Health {
    pub(super) answering: AtomicBool,
    in_flight: AtomicUsize,
    pub(super) source_errors: AtomicU64,
    unsettled: AtomicU64,
}

// === impl Job, Lease, Home ===

impl<I, T: Clone> Job<I, T> {
    pub(super) fn started(&mut self) {
        self.lease.progress = Progress::Started;
    }

    #[must_use]
    pub fn ticket(&self) -> &T {
        self.lease.ticket()
    }

    /// The outcome is committed, the work acknowledged or put off by the same script: nothing is given back. Also right
    /// for a lease that turned out to be lost, since there is nothing left to give back.
    pub fn settled(self) {
        self.lease.settled();
    }

    /// For a handler that consumes the item and settles later. The lease takes over the guard.
    pub fn into_parts(self) -> (I, Lease<T>) {
        (self.item, self.lease)
    }
}

impl<T: Clone> Lease<T> {
    #[must_use]
    pub fn ticket(&self) -> &T {
        &self.ticket
    }

    /// As [`Job::settled`].
    pub fn settled(mut self) {
        self.progress = Progress::Settled;
    }
}

impl<T: Clone> Drop for Lease<T> {
    fn drop(&mut self) {
        let returned = match self.progress {
            Progress::Settled => None,
            Progress::Unstarted => Some(Returned::Unstarted(self.ticket.clone())),
            Progress::Started => {
                self.home.health.unsettled.fetch_add(1, Ordering::Relaxed);
                Some(Returned::Failed(self.ticket.clone()))
            }
        };
        if let Some(returned) = returned {
            // Fails only when the pump is gone, and then the lease expires.
            let _ = self.home.returned.send(returned);
        }
        self.home.health.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.home.freed.notify_one();
    }
}

impl<T: Clone> Home<T> {
    pub(super) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Returned<T>>) {
        let (returned, receiver) = mpsc::unbounded_channel();
        (Arc::new(Self { returned, freed: Notify::new(), health: Arc::default() }), receiver)
    }

    pub(super) fn job<I>(self: &Arc<Self>, item: I, ticket: T, permit: Option<OwnedSemaphorePermit>) -> Job<I, T> {
        self.health.in_flight.fetch_add(1, Ordering::Relaxed);
        let lease = Lease { ticket, progress: Progress::Unstarted, home: self.clone(), _permit: permit };
        Job { item, lease }
    }
}

// === impl Health ===

impl Health {
    /// Whether the source answered when it was last asked; false until it has answered once.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// Jobs that hold a lease: running or about to.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Lease and give-back calls that failed, since the start.
    #[must_use]
    pub fn source_errors(&self) -> u64 {
        self.source_errors.load(Ordering::Relaxed)
    }

    /// Jobs that started and were not settled, since the start: errors, panics, deadlines, aborts.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.unsettled.load(Ordering::Relaxed)
    }
}
