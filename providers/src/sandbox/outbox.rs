//! How sandboxes send their notices: over real HTTP, to one receiver, tried again a bounded number of times.

use std::time::Duration;

use http::StatusCode;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::http::{Call, Client, Waits};

/// Deliveries at the same time.
const CONCURRENT: usize = 128;

/// When a notice is sent again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    /// Deliveries of one notice, the first included. At least one is made.
    pub(crate) attempts: u32,
    /// The wait before the second delivery; later waits grow.
    pub(crate) first_wait: Duration,
    pub(crate) longest_wait: Duration,
    /// No further delivery after this.
    pub(crate) total: Duration,
}

/// Where notices go. Without a receiver nothing is sent.
pub(crate) struct Outbox {
    receiver: Option<Client>,
    retries: Retries,
    permits: Semaphore,
    stopped: CancellationToken,
}

impl Outbox {
    pub(crate) fn new(receiver: Option<Client>, retries: Retries, stopped: CancellationToken) -> Self {
        Self { receiver, retries, permits: Semaphore::new(CONCURRENT), stopped }
    }

    /// Delivers one notice until `accepted`, until the tries are used up, or until the sandbox stops. `once` for those that are not repeated.
    ///
    /// `call` makes the request anew for each try, with the receiver at hand for what has to be signed; `note` is told the status, or that there was none.
    pub(crate) async fn deliver(
        &self,
        once: bool,
        call: impl Fn(&Client) -> Option<Call>,
        accepted: impl Fn(StatusCode) -> bool,
        note: impl Fn(Option<StatusCode>),
    ) {
        let Some(client) = &self.receiver else { return };
        let attempts = if once { 1 } else { self.retries.attempts.max(1) };
        let mut waits = Waits::new(self.retries.first_wait, self.retries.longest_wait, self.retries.total);
        for attempt in 1..=attempts {
            let Ok(permit) = self.permits.acquire().await else { return };
            let Some(call) = call(client) else { return };
            let sent = tokio::select! {
                sent = client.call(call) => sent,
                () = self.stopped.cancelled() => return,
            };
            // The wait for the next try is nobody else's.
            drop(permit);
            let status = sent.ok().map(|response| response.status);
            note(status);
            if status.is_some_and(&accepted) || attempt == attempts {
                return;
            }
            let Some(wait) = waits.next() else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stopped.cancelled() => return,
            }
        }
    }
}
