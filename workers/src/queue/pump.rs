//! The pump: the one task of a lane that waits for the store. It leases when there is work and room for it, and gives
//! back what comes home unsettled.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::lease::Returned;
use super::{Batch, Settings, Shared, Source};
use crate::waits;

/// The pause after a lease that got nothing although something is due: the source is at a cap of its own.
pub(super) const CAPPED_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Pump<S: Source> {
    shared: Arc<Shared<S>>,
    returned: UnboundedReceiver<Returned<S::Ticket>>,
    arrivals: Vec<Returned<S::Ticket>>,
    unstarted: Vec<S::Ticket>,
    failed: Vec<S::Ticket>,
    next_lease: When,
    /// Whether the last lease call failed.
    failing: bool,
    lease_retry: waits::Waits,
    /// Set while tickets are kept because giving them back has failed.
    give_back_at: Option<Instant>,
    give_back_retry: waits::Waits,
}

/// When to ask for work again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// As soon as there is room.
    Now,
    /// Then, or when woken.
    At(Instant),
    /// Then, or when woken, or when a job has ended.
    AtOrFreed(Instant),
    /// Not before then: the source is failing, and neither work nor room is a reason to hurry it.
    NotBefore(Instant),
}

impl<S: Source> Pump<S> {
    pub(super) fn new(shared: Arc<Shared<S>>, returned: UnboundedReceiver<Returned<S::Ticket>>) -> Self {
        Self {
            shared,
            returned,
            arrivals: Vec::new(),
            unstarted: Vec::new(),
            failed: Vec::new(),
            next_lease: When::Now,
            failing: false,
            lease_retry: waits::reconnect(),
            give_back_at: None,
            give_back_retry: waits::reconnect(),
        }
    }

    /// Ends when the lane was closed, every lease has come home, and those unsettled have been given back.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        let Settings { batch, concurrency, .. } = shared.settings;

        // In both loops the arms only wait, for something that is not lost when another arm wins. The source is called
        // in the bodies, where nothing cancels it: a lease call dropped half way leaves its leases to expire.
        loop {
            tokio::select! {
                biased;
                () = shared.closed.cancelled() => break,
                _ = self.returned.recv_many(&mut self.arrivals, batch) => self.came_home().await,
                () = until(self.give_back_at) => self.give_back().await,
                () = self.next_lease.comes(&shared), if self.next_lease != When::Now => self.next_lease = When::Now,
                permits = permits(&shared.permits, batch), if self.next_lease == When::Now => {
                    self.lease(permits).await;
                }
            }
        }

        let everything = u32::try_from(concurrency).unwrap_or(u32::MAX);
        loop {
            tokio::select! {
                biased;
                _ = self.returned.recv_many(&mut self.arrivals, batch) => self.came_home().await,
                () = until(self.give_back_at) => self.give_back().await,
                _ = shared.permits.acquire_many(everything) => break,
            }
        }
        // A lease sends its ticket before it lets go of its permit, so what is not in the channel now never will be.
        while let Ok(arrival) = self.returned.try_recv() {
            self.arrivals.push(arrival);
        }
        self.came_home().await;
        while let Some(at) = self.give_back_at {
            sleep_until(at).await;
            self.give_back().await;
        }
    }

    /// Leases as many items as there are permits, so that the concurrency cannot be exceeded.
    async fn lease(&mut self, mut permits: OwnedSemaphorePermit) {
        let Shared { source, settings, home, .. } = &*self.shared;
        let health = &home.health;
        let asked = permits.num_permits();
        let batch = match source.lease(asked).await {
            Ok(batch) => batch,
            Err(error) => {
                health.source_errors.fetch_add(1, Ordering::Relaxed);
                health.answering.store(false, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    let error: &dyn Error = &error;
                    tracing::warn!(lane = settings.name, error, "work cannot be leased; trying again until it can");
                }
                self.next_lease = When::NotBefore(Instant::now() + waits::next(&mut self.lease_retry));
                return;
            }
        };
        health.answering.store(true, Ordering::Relaxed);
        if std::mem::take(&mut self.failing) {
            tracing::info!(lane = settings.name, "work can be leased again");
            self.lease_retry = waits::reconnect();
        }
        self.next_lease = When::after(asked, &batch, settings.tick);
        let mut jobs = Vec::with_capacity(batch.items.len());
        for (item, ticket) in batch.items {
            match permits.split(1) {
                Some(permit) => jobs.push(home.job(item, ticket, Some(permit))),
                // More than was asked for: a fault of the source, but no reason to exceed the concurrency.
                None => self.unstarted.push(ticket),
            }
        }
        if !jobs.is_empty() {
            self.shared.ready.add(jobs);
        }
        if !self.unstarted.is_empty() {
            self.came_home().await;
        }
    }

    async fn came_home(&mut self) {
        for arrival in self.arrivals.drain(..) {
            match arrival {
                Returned::Unstarted(ticket) => self.unstarted.push(ticket),
                Returned::Failed(ticket) => self.failed.push(ticket),
            }
        }
        // While giving back fails, more tickets are no reason to hurry it.
        if self.give_back_at.is_none() {
            self.give_back().await;
        }
    }

    async fn give_back(&mut self) {
        let Shared { source, settings, home, .. } = &*self.shared;
        let failing = self.give_back_at.take().is_some();
        let kinds = [(&mut self.unstarted, Duration::ZERO), (&mut self.failed, settings.panic_backoff)];
        for (tickets, wait) in kinds {
            while !tickets.is_empty() {
                let some = tickets.len().min(settings.batch);
                if let Err(error) = source.give_back(tickets[..some].to_vec(), wait).await {
                    home.health.source_errors.fetch_add(1, Ordering::Relaxed);
                    if !failing {
                        let error: &dyn Error = &error;
                        tracing::warn!(lane = settings.name, error, "leases cannot be given back; trying again until they can");
                    }
                    self.give_back_at = Some(Instant::now() + waits::next(&mut self.give_back_retry));
                    return;
                }
                tickets.drain(..some);
                self.give_back_retry = waits::reconnect();
                self.next_lease = self.next_lease.no_later_than(Instant::now() + wait);
            }
        }
    }
}

impl When {
    fn after<I, T>(asked: usize, batch: &Batch<I, T>, tick: Duration) -> Self {
        let leased = batch.items.len();
        match batch.next_due_in {
            _ if leased >= asked => Self::Now,
            Some(Duration::ZERO) if leased > 0 => Self::Now,
            Some(Duration::ZERO) => Self::AtOrFreed(Instant::now() + CAPPED_PAUSE),
            Some(wait) => Self::At(Instant::now() + wait.min(tick)),
            None => Self::At(Instant::now() + tick),
        }
    }

    fn no_later_than(self, latest: Instant) -> Self {
        match self {
            Self::At(at) => Self::At(at.min(latest)),
            Self::Now | Self::AtOrFreed(_) | Self::NotBefore(_) => self,
        }
    }

    async fn comes<S: Source>(self, shared: &Shared<S>) {
        match self {
            Self::Now => {}
            Self::At(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = shared.wake.notified() => {}
            },
            Self::AtOrFreed(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = shared.wake.notified() => {}
                () = shared.home.freed.notified() => {}
            },
            Self::NotBefore(at) => sleep_until(at).await,
        }
    }
}

/// Waits for one permit and takes what else is free, up to `most`. Nobody else acquires any while the lane is open.
async fn permits(free: &Arc<Semaphore>, most: usize) -> OwnedSemaphorePermit {
    let mut permits = free.clone().acquire_owned().await.expect("the semaphore of a lane is never closed");
    let more = free.available_permits().min(most - 1);
    if let Some(more) = u32::try_from(more).ok().and_then(|more| free.clone().try_acquire_many_owned(more).ok()) {
        permits.merge(more);
    }
    permits
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
