//! Deliveries: signs an event and posts it to a subscriber, records how that went, and thereby decides what follows.
//!
//! One lease is one attempt. The attempt is recorded by the same script that acknowledges the lease, so every attempt that a subscriber saw is
//! either on record or made again with the same `webhook-id`: **at least once**. Order and fairness are the business of the lanes in the store; the
//! schedule is that of [`Delivery::record`].

pub mod keys;
mod metrics;
pub mod ping;
mod subscribers;

use std::sync::Arc;

use bytes::Bytes;
use domain::bulletin::News;
use domain::delivery::{Attempt, Attempted, Delivery, Digest, Heard, Sent};
use domain::event::{self, EventType};
use domain::fact::Reason;
use domain::id::{DeliveryId, SubscriptionId};
use domain::snapshot;
use domain::subscription::{Payload, Status};
use domain::wait::Retry;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tracing::{Instrument as _, Span, field};

use self::keys::SigningKeys;
use self::metrics::Metrics;
use self::subscribers::{Course, Subscriber, Subscribers, Way};
use crate::egress::{Egress, Failure, Posted};
use crate::queue::Job;
use crate::store::bulletins::Notice;
use crate::store::fan_out::FannedOut;
use crate::store::lanes::{RelayTicket, RelayWork};
use crate::store::payouts::StoredEvent;
use crate::store::subscriptions::{Relayed, Subscribed, Trouble};
use crate::store::{Store, StoreError};
use crate::{trace, waits};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// As often as there are secrets; the only header that signs a snapshot.
const X_MOLLIE_SIGNATURE: HeaderName = HeaderName::from_static("x-mollie-signature");

const JSON: (HeaderName, HeaderValue) = (CONTENT_TYPE, HeaderValue::from_static("application/json"));

/// How often this event was asked for once more, after it had been delivered or given up.
const PAYRELAY_REPLAY: HeaderName = HeaderName::from_static("payrelay-replay");

/// How often a call of the store is made before the work is left to its next lease. Each has the store's deadline.
const STORE_TRIES: u32 = 5;

/// The status by which a subscriber says that it will never want another message.
const GONE: u16 = 410;

/// How events are delivered. Every field has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelaySettings {
    /// The waits after the first failed attempt, after the second, and so on, in seconds; after the last one the delivery is abandoned.
    /// Seventeen waits over three days, from 5 s to 8 h.
    pub waits_s: Option<Vec<u32>>,
    /// Of a subscriber's `Retry-After`, this much is honoured for the delivery that it answers. One day.
    pub retry_after_cap_ms: u64,
    /// How long all deliveries of a subscription wait that has answered 429, 502, 503 or 504 without `Retry-After`. 1 s.
    pub throttle_ms: u64,
    /// Of the `Retry-After` of such an answer, this much is honoured for all of them. An hour.
    pub throttle_cap_ms: u64,
    /// A subscription whose share has shrunk to one delivery at a time, and of which so many more in a row fail, is held back. 10.
    pub circuit_failures: u32,
    /// How long it is held back then; each further failure doubles that. 5 s.
    pub circuit_wait_first_ms: u64,
    /// The longest such wait. 5 min.
    pub circuit_wait_cap_ms: u64,
    /// Somebody is warned of a subscription to which nothing has got through for so many hours. 24 and 72.
    pub warn_after_hours: Vec<u32>,
    /// After so many hours it is disabled. 120.
    pub disable_after_hours: u32,
    /// Deliveries under way to one subscription, at most. It begins with 4, earns one more by each acknowledgement, and loses half by each failure. 64.
    pub per_subscription: usize,
    /// Work that was leased more often than this without being recorded is recorded as a failed attempt, so that work that kills its worker is
    /// spread by the schedule too. 5.
    pub leases_max: u32,
    /// Subscriptions kept in memory, at most. 4,096.
    pub subscriptions_cached: usize,
    /// The installation's keys for subscriptions that want `v1a` signatures, `whsk_…`, newest first. All of them sign. None.
    pub signing_keys: SigningKeys,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            waits_s: None,
            retry_after_cap_ms: 86_400_000,
            throttle_ms: 1_000,
            throttle_cap_ms: 3_600_000,
            circuit_failures: 10,
            circuit_wait_first_ms: 5_000,
            circuit_wait_cap_ms: 300_000,
            warn_after_hours: vec![24, 72],
            disable_after_hours: 120,
            per_subscription: 64,
            leases_max: 5,
            subscriptions_cached: 4_096,
            signing_keys: SigningKeys::default(),
        }
    }
}

/// What deliveries need.
pub struct RelayContext {
    store: Store,
    egress: Egress,
    retry: Retry,
    retry_after_cap: SignedDuration,
    settings: RelaySettings,
    subscribers: Subscribers,
    metrics: Metrics,
}

/// Makes one attempt of a delivery.
pub async fn relay(context: Arc<RelayContext>, job: Job<RelayWork, RelayTicket>) {
    let (work, lease) = job.into_parts();
    let event = work.event.id;
    let span = if work.subscription.is_fan_out() {
        tracing::debug_span!("relay.fan_out", payout.id = %event.payout(), event.sequence = event.sequence())
    } else {
        tracing::debug_span!(
            "relay.deliver",
            otel.kind = "client",
            payout.id = %event.payout(),
            event.sequence = event.sequence(),
            subscription.id = %work.subscription,
            attempt = work.delivery.as_ref().map_or(0, |delivery| delivery.attempt_count) + 1,
            outcome = field::Empty,
            http.response.status_code = field::Empty,
        )
    };
    trace::continues(&span, work.event.trace.as_deref());
    // In a box: a large future is otherwise copied by every layer of the worker.
    let attempt = Box::pin(async {
        let subscription = work.subscription;
        let done = if subscription.is_fan_out() { context.fan_out(lease.ticket()).await } else { context.deliver(work, lease.ticket()).await };
        match done {
            Ok(Delivered::Recorded) => lease.settled(),
            // Given back; its lane is not looked at while it is paused.
            Ok(Delivered::NotNow) => tracing::debug!(event.id = %event, subscription.id = %subscription, "the subscription was paused meanwhile"),
            Err(error) => {
                tracing::warn!(event.id = %event, subscription.id = %subscription, %error, "an attempt could not be made or recorded; it will be repeated");
            }
        }
    });
    attempt.instrument(span).await;
}

impl RelayContext {
    /// Metrics go to the meter provider that is installed now, so install it first.
    #[must_use]
    pub fn new(store: Store, egress: Egress, settings: &RelaySettings) -> Self {
        let waits = |seconds: &Vec<u32>| seconds.iter().map(|seconds| SignedDuration::from_secs(i64::from(*seconds))).collect();
        Self {
            store,
            egress,
            retry: settings.waits_s.as_ref().map_or_else(Retry::three_days, |seconds| Retry { waits: waits(seconds) }),
            retry_after_cap: SignedDuration::from_millis(i64::try_from(settings.retry_after_cap_ms).unwrap_or(i64::MAX)),
            settings: settings.clone(),
            subscribers: Subscribers::new(settings.subscriptions_cached),
            metrics: Metrics::new(&opentelemetry::global::meter("payrelay")),
        }
    }

    /// Deliveries under way to one subscription, at most.
    #[must_use]
    pub fn per_subscription(&self) -> usize {
        self.settings.per_subscription.max(1)
    }

    pub(crate) const fn store(&self) -> &Store {
        &self.store
    }

    #[must_use]
    pub const fn egress(&self) -> &Egress {
        &self.egress
    }

    async fn deliver(&self, mut work: RelayWork, ticket: &RelayTicket) -> Result<Delivered, StoreError> {
        let clock = self.store.clock();
        let at = clock.now();
        let body = std::mem::take(&mut work.event.body);
        let Some(Made { attempt, sent, subscriber }) = self.attempt(&work, body, at).await? else { return Ok(Delivered::NotNow) };
        fail::fail_point!("delivered-not-marked");
        self.metrics.attempted(&attempt);
        Span::current().record("outcome", metrics::outcome(&attempt.result));

        let mut delivery = work.delivery.unwrap_or_else(|| Delivery::new(at));
        let now = clock.now();
        let trouble = self.trouble(&attempt.result, now);
        let retry = subscriber.as_ref().map_or(&self.retry, |subscriber| subscriber.retry(&self.retry, work.event.at, now));
        delivery.sends(sent);
        let decision = delivery.record(DeliveryId::new(work.event.id, work.subscription), attempt, retry, self.retry_after_cap, now);
        match self.patiently(|| self.store.relayed(ticket, &delivery, decision, trouble)).await? {
            Relayed::Done { more, failing_since } => {
                if more {
                    self.store.wakes().relay.notify_one();
                }
                self.metrics.decided(decision, &work.event, now);
                if let Some(since) = failing_since
                    && let Err(error) = self.watch(work.subscription, since, now).await
                {
                    tracing::warn!(subscription.id = %work.subscription, %error, "a failing subscription could not be looked at; its next failure will");
                }
            }
            // Also the answer to a repeat of a call that was applied.
            Relayed::LeaseLost => tracing::debug!(event.id = %work.event.id, "the lease had ended before the attempt was recorded"),
        }
        Ok(Delivered::Recorded)
    }

    /// Makes the deliveries of an event to the subscriptions that its commit did not match. Whoever dies on the way is followed by somebody who goes on, however often that was.
    async fn fan_out(&self, ticket: &RelayTicket) -> Result<Delivered, StoreError> {
        while self.patiently(|| self.store.fan_out(ticket)).await? == FannedOut::Page {
            fail::fail_point!("fanned-out-page");
        }
        self.store.wakes().relay.notify_one();
        Ok(Delivered::Recorded)
    }

    /// What a failure means for the whole subscription; `None` where there was none, or it was not the subscriber's.
    fn trouble(&self, result: &Attempted, now: Timestamp) -> Option<Trouble> {
        let asked = match result {
            Attempted::Acknowledged { .. } | Attempted::Unwanted | Attempted::Answered { status: GONE, .. } => return None,
            Attempted::Answered { status: 429 | 502 | 503 | 504, retry_after_ms } => {
                let wait_ms = retry_after_ms.unwrap_or(self.settings.throttle_ms).min(self.settings.throttle_cap_ms);
                now.checked_add(SignedDuration::from_millis(i64::try_from(wait_ms).unwrap_or(i64::MAX))).ok()
            }
            Attempted::Answered { .. } | Attempted::Unreachable { .. } => None,
        };
        let RelaySettings { circuit_failures, circuit_wait_first_ms, circuit_wait_cap_ms, .. } = self.settings;
        Some(Trouble { failures: circuit_failures, wait_first_ms: circuit_wait_first_ms, wait_cap_ms: circuit_wait_cap_ms, asked })
    }

    /// Warns of a subscription that has been failing for long, and disables it after days.
    async fn watch(&self, id: SubscriptionId, since: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let hours = u32::try_from(now.duration_since(since).as_hours()).unwrap_or(0);
        if hours >= self.settings.disable_after_hours {
            return self.disable(id, None, "failing").await;
        }
        let Some(passed) = self.settings.warn_after_hours.iter().copied().filter(|limit| hours >= *limit).max() else { return Ok(()) };
        let Some((subscription, _)) = self.store.subscription(id).await? else { return Ok(()) };
        if subscription.farewell {
            return Ok(());
        }
        let disabled_at = since.saturating_add(SignedDuration::from_hours(i64::from(self.settings.disable_after_hours))).unwrap_or(Timestamp::MAX);
        let news = News::Failing { of: subscription.hook(), failing_since: since, disabled_at };
        // Before it is noted: a crash in between tells it again, which is told once.
        let once = format!("failing {id} {} {passed}", since.as_millisecond());
        self.store.announce(&subscription.party, subscription.mode, &news, &once).await?;
        if self.store.note_warning(id, passed).await? {
            self.metrics.warned();
            let disabled_after_hours = self.settings.disable_after_hours;
            tracing::warn!(subscription.id = %id, failing.hours = hours, disabled_after_hours, "nothing has got through to a subscriber for long");
        }
        Ok(())
    }

    /// Makes an attempt; `None` if there is to be none now. Fails only if the subscription or the payout cannot be read, and then nothing was sent.
    async fn attempt(&self, work: &RelayWork, body: String, at: Timestamp) -> Result<Option<Made>, StoreError> {
        let unsent = |result| Ok(Some(Made { attempt: Attempt { at, latency_ms: 0, result, heard: None }, sent: None, subscriber: None }));
        if work.times_leased > self.settings.leases_max {
            return unsent(Attempted::Unreachable { why: "worker_lost".to_owned() });
        }
        let Some(version) = work.subscription_version else { return unsent(Attempted::Unwanted) };
        let Some(subscriber) = self.subscriber(work.subscription, version, at).await? else { return unsent(Attempted::Unwanted) };
        let (attempt, sent) = match &subscriber.course {
            Course::Paused => return Ok(None),
            Course::Disabled => return unsent(Attempted::Unwanted),
            Course::Refused => return unsent(Attempted::Unreachable { why: "url_refused".to_owned() }),
            Course::Send(way) => {
                let (body, is_kept) = match way.payload {
                    Payload::Thin => (body, true),
                    // No payout's: there is no more to say.
                    Payload::Full if EventType::named(&work.event.kind).is_none() => (body, true),
                    Payload::Full => (event::full(body, &self.store.beneficiary(work.event.id.payout()).await?), false),
                    Payload::Snapshot => match self.snapshot(&work.event, &body).await? {
                        Some(body) => (body, false),
                        None => return unsent(Attempted::Unwanted),
                    },
                };
                // What is kept anyway costs a delivery nothing. Another body cannot be made again for sure: the subscription may change, and so may what snapshots show.
                let sent = Sent { to: way.to, body: (!is_kept).then(|| Digest::of(body.as_bytes())) };
                fail::fail_point!("relay-before-post");
                let replays = work.delivery.as_ref().map_or(0, |delivery| delivery.replays);
                (post(&self.egress, way, work.event.id.to_string(), Bytes::from(body), replays, at).await, sent)
            }
        };
        if matches!(attempt.result, Attempted::Answered { status: GONE, .. }) {
            // Before the attempt is recorded: a crash in between makes the attempt again, instead of forgetting what the subscriber said.
            if let Err(error) = self.disable(work.subscription, Some(&subscriber.url), "gone").await {
                tracing::warn!(subscription.id = %work.subscription, %error, "a subscription that is gone could not be disabled; its next delivery will try");
            }
        }
        Ok(Some(Made { attempt, sent: Some(sent), subscriber: Some(subscriber) }))
    }

    /// The event with its payout inside; `None` if there is no word for it.
    async fn snapshot(&self, event: &StoredEvent, body: &str) -> Result<Option<String>, StoreError> {
        let Some(kind) = EventType::named(&event.kind) else { return Ok(None) };
        let id = event.id.payout();
        let (payout, beneficiary) = futures_util::try_join!(self.store.load(id), self.store.beneficiary(id))?;
        Ok(payout.and_then(|payout| snapshot::message(event.id, kind, event.at, body, &payout, &beneficiary, self.store.shards())))
    }

    /// The subscriber as of `version` or later.
    async fn subscriber(&self, id: SubscriptionId, version: u64, now: Timestamp) -> Result<Option<Arc<Subscriber>>, StoreError> {
        if let Some(subscriber) = self.subscribers.get(id).filter(|held| held.is_current(version, now)) {
            return Ok(Some(subscriber));
        }
        let Some((subscription, secrets)) = self.patiently(|| self.store.subscription(id)).await? else { return Ok(None) };
        let subscriber = Arc::new(Subscriber::of(subscription, &secrets, &self.egress, &self.settings.signing_keys, now));
        self.subscribers.put(id, subscriber.clone());
        Ok(Some(subscriber))
    }

    /// Disables a subscription that is served, unless it leads to another URL by now than the one that this was decided by.
    async fn disable(&self, id: SubscriptionId, url: Option<&str>, why: &'static str) -> Result<(), StoreError> {
        for _ in 0..STORE_TRIES {
            let Some((mut subscription, secrets)) = self.patiently(|| self.store.subscription(id)).await? else { return Ok(()) };
            // What is left at a former URL ends with its only delivery.
            if matches!(subscription.status, Status::Disabled { .. }) || subscription.farewell || url.is_some_and(|url| subscription.url != url) {
                return Ok(());
            }
            subscription.status = Status::Disabled { reason: Reason::new(why), at: self.store.clock().now() };
            subscription.version += 1;
            let news = News::Disabled { of: subscription.hook(), reason: Reason::new(why) };
            let notice = Notice { news: &news, farewell: None };
            match self.patiently(|| self.store.begin_afresh_telling(&subscription, None, notice)).await? {
                Subscribed::Done => {
                    // Deliveries whose leases are older than this find it too.
                    let now = self.store.clock().now();
                    self.subscribers.put(id, Arc::new(Subscriber::of(subscription, &secrets, &self.egress, &self.settings.signing_keys, now)));
                    self.metrics.disabled(why);
                    tracing::warn!(subscription.id = %id, reason = why, "a subscription was disabled: its subscriber is gone, or nothing has got through for days");
                    return Ok(());
                }
                Subscribed::Missing => return Ok(()),
                Subscribed::Stale | Subscribed::Full => {}
            }
        }
        Ok(())
    }

    /// Repeats a call of the store that got no answer, a few times. Each of them may be repeated.
    async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut wait = None;
        for _ in 1..STORE_TRIES {
            match call().await {
                Err(StoreError::Unavailable(_) | StoreError::Full) => waits::pause(wait.get_or_insert_with(waits::reconnect)).await,
                answered => return answered,
            }
        }
        call().await
    }
}

/// An attempt that was made.
struct Made {
    attempt: Attempt,
    /// `None` where no request was.
    sent: Option<Sent>,
    /// Where it was read.
    subscriber: Option<Arc<Subscriber>>,
}

/// What became of a delivery that was leased.
enum Delivered {
    Recorded,
    NotNow,
}

/// Signs a message and posts it.
async fn post(egress: &Egress, way: &Way, id: String, body: Bytes, replays: u32, at: Timestamp) -> Attempt {
    tried(send(egress, way, id, body, replays, at).await, at)
}

async fn send(egress: &Egress, way: &Way, id: String, body: Bytes, replays: u32, at: Timestamp) -> Result<Posted, Failure> {
    let replay = (replays > 0).then(|| (PAYRELAY_REPLAY, HeaderValue::from(replays)));
    if way.payload == Payload::Snapshot {
        let signed = way.signer.of_body(&body).map(|signature| (X_MOLLIE_SIGNATURE, text(signature)));
        let headers: Vec<_> = signed.chain([JSON]).chain(replay).chain(way.headers.iter().cloned()).collect();
        return egress.post(&way.target, &headers, body, at).await;
    }
    let timestamp_s = at.as_second();
    let mut signature = way.signer.header(&id, timestamp_s, &body);
    if let Some(keys) = &way.keys {
        keys.add_to(&mut signature, &id, timestamp_s, &body);
    }
    let own = [(WEBHOOK_ID, text(id)), (WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp_s)), (WEBHOOK_SIGNATURE, text(signature)), JSON];
    if way.headers.is_empty() && replays == 0 {
        egress.post(&way.target, &own, body, at).await
    } else {
        let headers: Vec<_> = own.into_iter().chain(replay).chain(way.headers.iter().cloned()).collect();
        egress.post(&way.target, &headers, body, at).await
    }
}

fn tried(posted: Result<Posted, Failure>, at: Timestamp) -> Attempt {
    match posted {
        Ok(posted) => {
            Span::current().record("http.response.status_code", posted.status);
            let (result, heard) = match posted.status {
                status @ 200..=299 => (Attempted::Acknowledged { status }, None),
                status => {
                    let heard = Heard::of(&posted.excerpt, posted.request_id.as_deref());
                    (Attempted::Answered { status, retry_after_ms: posted.retry_after_ms }, heard)
                }
            };
            Attempt { at, latency_ms: posted.latency_ms, result, heard }
        }
        Err(failure) => {
            Attempt { at, latency_ms: failure.latency_ms, result: Attempted::Unreachable { why: failure.why.code().to_owned() }, heard: None }
        }
    }
}

/// Ids and signatures are ASCII without spaces at their ends.
fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("ids and signatures are made of characters that a header may hold")
}
