//! What time it is. The one place that reads the clock of the machine; tests move time by an offset that live mode refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// The clock of a store handle: the machine's, plus the store's offset, which is zero outside tests and simulations.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset_ms: Arc<AtomicI64>,
}

impl Clock {
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = Self::of_the_machine();
        match self.offset_ms.load(Ordering::Relaxed) {
            0 => now,
            offset => now.saturating_add(SignedDuration::from_millis(offset)).unwrap_or(now),
        }
    }

    /// The machine's clock, whatever the store's offset: for limits on what this process does itself. To the millisecond, as everything that is stored and shown.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is given the time from")]
    pub fn of_the_machine() -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    pub(crate) fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_offset(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }
}
