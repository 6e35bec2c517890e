//! One event for one subscription: what was tried, and what follows from how it went.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::id::DeliveryId;
use crate::schedule::Retry;

/// The longest tail of attempts that is kept. Older ones are only counted.
const KEPT_ATTEMPTS: usize = 20;

/// The record of a delivery. It exists from the first attempt on; before that, the open delivery is an entry of its lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    pub id: DeliveryId,
    pub status: Status,
    /// All attempts ever, also those no longer listed.
    pub attempt_count: u32,
    /// The latest attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Status {
    Pending { next_at: Timestamp },
    Delivered { at: Timestamp },
    /// Given up; listed, so that somebody can replay it.
    Abandoned { at: Timestamp },
}

/// One try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: Timestamp,
    pub latency_ms: u32,
    pub result: Attempted,
}

/// How one try went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Attempted {
    /// Any 2xx.
    Acknowledged { status: u16 },
    /// Any other status. `retry_after_ms` is what the subscriber asked for, as sent.
    Answered {
        status: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// No answer: a short code such as `connect`, `timeout`, `address_refused`, `tls`.
    Unreachable { why: String },
    /// The subscription had been disabled or deleted.
    Unwanted,
}

/// What follows from a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Delivered,
    RetryAt(Timestamp),
    Abandon,
}

// === impl Delivery ===

impl Delivery {
    #[must_use]
    pub const fn new(id: DeliveryId, now: Timestamp) -> Self {
        Self { id, status: Status::Pending { next_at: now }, attempt_count: 0, attempts: Vec::new() }
    }

    /// Records a try and decides what follows: done, again later by the schedule (never before the subscriber's `Retry-After`, of which at most
    /// `retry_after_cap` is honoured), or given up.
    pub fn record(&mut self, attempt: Attempt, retry: &Retry, retry_after_cap: SignedDuration, now: Timestamp) -> Decision {
        self.attempt_count = self.attempt_count.saturating_add(1);
        let decision = match &attempt.result {
            Attempted::Acknowledged { .. } => Decision::Delivered,
            Attempted::Unwanted => Decision::Abandon,
            Attempted::Answered { status: 410, .. } => Decision::Abandon,
            Attempted::Answered { retry_after_ms, .. } => self.again(retry, *retry_after_ms, retry_after_cap, now),
            Attempted::Unreachable { .. } => self.again(retry, None, retry_after_cap, now),
        };
        if self.attempts.len() >= KEPT_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
        self.status = match decision {
            Decision::Delivered => Status::Delivered { at: now },
            Decision::RetryAt(next_at) => Status::Pending { next_at },
            Decision::Abandon => Status::Abandoned { at: now },
        };
        decision
    }

    fn again(&self, retry: &Retry, asked_ms: Option<u64>, cap: SignedDuration, now: Timestamp) -> Decision {
        let Some(wait) = retry.wait(self.attempt_count, self.id.as_bytes()) else { return Decision::Abandon };
        let asked = SignedDuration::from_millis(asked_ms.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(0)).min(cap);
        Decision::RetryAt(now.saturating_add(wait.max(asked)).unwrap_or(Timestamp::MAX))
    }
}
