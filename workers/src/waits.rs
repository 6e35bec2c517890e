//! Waits between tries inside one process, such as taking up a lost connection again. The one file that uses the `backoff` crate; what has to
//! survive a restart waits in the due index instead.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// A sequence of waits.
pub type Waits = ExponentialBackoff;

/// From 50 ms to 2 s, with jitter, for ever: the caller ends it.
#[must_use]
pub fn reconnect() -> Waits {
    ExponentialBackoff {
        initial_interval: Duration::from_millis(50),
        current_interval: Duration::from_millis(50),
        max_interval: Duration::from_secs(2),
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    }
}

/// The next wait. Begin anew with [`reconnect`] after a success.
#[must_use]
pub fn next(waits: &mut Waits) -> Duration {
    waits.next_backoff().unwrap_or(Duration::from_secs(2))
}

/// Waits for the next interval.
pub async fn pause(waits: &mut Waits) {
    tokio::time::sleep(next(waits)).await;
}
