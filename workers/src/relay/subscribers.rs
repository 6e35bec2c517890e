//! Subscriptions made ready for sending, kept in memory.
//!
//! Nothing here goes stale unnoticed: the lease names the present version of the subscription, and an entry knows when its signatures change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::delivery::{Digest, Sent};
use domain::id::SubscriptionId;
use domain::signature::Signer;
use domain::subscription::{Payload, Secrets, Status, Subscription};
use domain::wait::Retry;
use http::{HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};

use super::keys::SigningKeys;
use crate::egress::{Egress, Identity, IdentityError, Refusal, Target};

/// After the last try.
static LAST: Retry = Retry { waits: Vec::new() };

/// Why events cannot be sent as a subscription says.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum NoWay {
    #[error(transparent)]
    Url(#[from] Refusal),
    #[error("the client certificate {0}")]
    Certificate(#[from] IdentityError),
}

/// One version of a subscription, ready for sending.
pub(super) struct Subscriber {
    version: u64,
    /// When the set of secrets that sign changes by itself.
    signs_until: Option<Timestamp>,
    pub(super) url: String,
    pub(super) course: Course,
    /// The waits of its own, if it has any.
    retry: Option<Retry>,
    /// A try that fails so long after its event is the last one.
    max_age: Option<SignedDuration>,
}

/// What to do with its events.
pub(super) enum Course {
    Send(Box<Way>),
    /// Whatever was leased before is not sent either.
    Paused,
    Disabled,
    /// The URL was accepted when it was registered and is refused now, because the configuration has changed.
    Refused,
}

/// Where events go, and what goes with each.
pub(super) struct Way {
    pub(super) target: Target,
    /// The place that records of tries name.
    pub(super) to: Digest,
    pub(super) signer: Signer,
    /// The merchant's own.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) payload: Payload,
    /// Those of the installation, if it wants their signatures too.
    pub(super) keys: Option<SigningKeys>,
}

/// The subscribers used lately, at most a fixed number: those used since the last turn of generations, and those used in the one before.
pub(super) struct Subscribers {
    generations: Mutex<Generations>,
    per_generation: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<SubscriptionId, Arc<Subscriber>>,
    old: HashMap<SubscriptionId, Arc<Subscriber>>,
}

impl Subscriber {
    pub(super) fn of(subscription: Subscription, secrets: &Secrets, egress: &Egress, keys: &SigningKeys, now: Timestamp) -> Self {
        let course = match subscription.status {
            Status::Disabled { .. } => Course::Disabled,
            Status::Paused { .. } | Status::Pending { .. } => Course::Paused,
            Status::Enabled => match Way::of(&subscription, secrets, egress, keys, now) {
                Ok(way) => Course::Send(Box::new(way)),
                Err(refusal) => {
                    tracing::warn!(subscription.id = %subscription.id, %refusal, "the URL or the certificate of a subscription is refused; its deliveries fail");
                    Course::Refused
                }
            },
        };
        if let Some(certificate) = subscription.client_certificate.as_ref().filter(|certificate| egress.expires_soon(certificate, now)) {
            tracing::warn!(subscription.id = %subscription.id, expires_at = %certificate.expires_at, "a client certificate of a subscription expires soon, or has expired");
        }
        let wait = |seconds: &u32| SignedDuration::from_secs(i64::from(*seconds));
        Self {
            version: subscription.version,
            signs_until: secrets.next_change(now),
            url: subscription.url,
            course,
            retry: (!subscription.retry_waits_s.is_empty()).then(|| Retry { waits: subscription.retry_waits_s.iter().map(wait).collect() }),
            max_age: subscription.retry_max_age_s.as_ref().map(wait),
        }
    }

    /// By what a try of an event that ends now is followed, if it fails. `retry` is the installation's.
    pub(super) fn retry<'a>(&'a self, retry: &'a Retry, event: Timestamp, now: Timestamp) -> &'a Retry {
        if self.max_age.is_some_and(|most| now.duration_since(event) >= most) { &LAST } else { self.retry.as_ref().unwrap_or(retry) }
    }

    pub(super) fn is_current(&self, version: u64, now: Timestamp) -> bool {
        self.version >= version && self.signs_until.is_none_or(|until| now < until)
    }
}

impl Way {
    pub(super) fn of(subscription: &Subscription, secrets: &Secrets, egress: &Egress, keys: &SigningKeys, now: Timestamp) -> Result<Self, NoWay> {
        // Names and values were checked when they were registered.
        let header = |(name, value): (&str, &str)| Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?));
        Ok(Self {
            target: match &secrets.client_certificate {
                None => egress.target(&subscription.url, subscription.mode)?,
                // Once it has expired, whoever is shown it may say so.
                Some(pem) => egress.target(&subscription.url, subscription.mode)?.showing(Identity::read(pem, None)?.0),
            },
            to: Sent::place(&subscription.url),
            signer: Signer::new(&secrets.valid_at(now)),
            headers: secrets.headers.iter().filter_map(header).collect(),
            payload: subscription.payload,
            keys: subscription.asymmetric.then(|| keys.clone()),
        })
    }
}

impl Subscribers {
    pub(super) fn new(most: usize) -> Self {
        Self { generations: Mutex::default(), per_generation: (most / 2).max(1) }
    }

    pub(super) fn get(&self, id: SubscriptionId) -> Option<Arc<Subscriber>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subscriber) = generations.young.get(&id) {
            return Some(subscriber.clone());
        }
        let subscriber = generations.old.remove(&id)?;
        generations.put(id, subscriber.clone(), self.per_generation);
        Some(subscriber)
    }

    pub(super) fn put(&self, id: SubscriptionId, subscriber: Arc<Subscriber>) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.put(id, subscriber, self.per_generation);
    }
}

impl Generations {
    fn put(&mut self, id: SubscriptionId, subscriber: Arc<Subscriber>, most: usize) {
        if self.young.len() >= most && !self.young.contains_key(&id) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, subscriber);
    }
}

#[cfg(test)]
mod tests {
    use domain::id::Shard;

    use super::*;

    fn subscriber(version: u64, signs_until: Option<Timestamp>) -> Arc<Subscriber> {
        Arc::new(Subscriber { version, signs_until, url: String::new(), course: Course::Disabled, retry: None, max_age: None })
    }

    fn id(number: u8) -> SubscriptionId {
        SubscriptionId::new(Shard::new(0), [number; 11])
    }

    /// What is used stays, what is not goes, and there are never more than the limit.
    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_used() {
        let subscribers = Subscribers::new(8);
        for number in 0..100 {
            subscribers.put(id(number), subscriber(1, None));
            assert!(subscribers.get(id(0)).is_some(), "{number}");
            let generations = subscribers.generations.lock().unwrap();
            assert!(generations.young.len() + generations.old.len() <= 8);
        }
        assert!(subscribers.get(id(50)).is_none());
        assert!(subscribers.get(id(99)).is_some());
    }

    #[test]
    fn an_entry_is_current_by_version_and_by_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let entry = subscriber(3, Some(at(10)));
        assert!(entry.is_current(3, at(9)) && entry.is_current(2, at(9)));
        assert!(!entry.is_current(4, at(9)) && !entry.is_current(3, at(10)));
        assert!(subscriber(3, None).is_current(3, at(10)));
    }
}
