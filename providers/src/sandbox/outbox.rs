//! How sandboxes send their notices: over real HTTP, to one receiver, tried again a bounded number of times.

use std::time::Duration;

use http::StatusCode;
use tokio::sync::Semaphore;

use crate::http::{Call, Client, ClientError, Limits, Waits};

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
}

impl Outbox {
    /// An outbox that sends to that address, if there is one.
    ///
    /// # Errors
    ///
    /// It is no address.
    pub(crate) fn new(receiver: Option<&str>, retries: Retries) -> Result<Self, ClientError> {
        let receiver = receiver.map(|url| Client::new(url, false, Limits::default())).transpose()?;
        Ok(Self { receiver, retries, permits: Semaphore::new(CONCURRENT) })
    }

    /// Delivers one notice until `accepted`, or until the tries are used up. `once` for those that are not repeated.
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
            let sent = client.call(call).await;
            // The wait for the next try is nobody else's.
            drop(permit);
            let status = sent.ok().map(|response| response.status);
            note(status);
            if status.is_some_and(&accepted) || attempt == attempts {
                return;
            }
            let Some(wait) = waits.next() else { return };
            tokio::time::sleep(wait).await;
        }
    }
}
