//! A message that tells nothing, sent now: for whoever wants to know whether a subscriber is there and verifies.

use std::time::Duration;

use bytes::Bytes;
use domain::delivery::{Attempt, Attempted};
use domain::id::SubscriptionId;
use domain::snapshot;
use domain::subscription::{Payload, Secrets, Subscription};
use jiff::Timestamp;
use serde::Serialize;

use super::keys::SigningKeys;
use super::post;
use super::subscribers::Way;
use crate::egress::Egress;

/// The type of the message, which is no event: nothing of it is kept.
pub const KIND: &str = "webhook.ping";

#[derive(Serialize)]
struct Body {
    r#type: &'static str,
    timestamp: Timestamp,
    data: Data,
}

#[derive(Serialize)]
struct Data {
    subscription_id: SubscriptionId,
}

/// Posts a signed [`KIND`] to a subscriber, whatever the status of its subscription, and says how that went. `number` is the part of its `webhook-id` that
/// nobody else has. Takes at most `timeout`, and nothing is recorded.
pub async fn ping(
    egress: &Egress,
    keys: &SigningKeys,
    subscription: &Subscription,
    secrets: &Secrets,
    number: u64,
    timeout: Duration,
    now: Timestamp,
) -> Attempt {
    let unreachable = |why: &str, latency_ms| Attempt { at: now, latency_ms, result: Attempted::Unreachable { why: why.to_owned() }, heard: None };
    let Ok(way) = Way::of(subscription, secrets, egress, keys, now) else { return unreachable("url_refused", 0) };
    let body = match subscription.payload {
        Payload::Thin | Payload::Full => {
            let body = Body { r#type: KIND, timestamp: now, data: Data { subscription_id: subscription.id } };
            serde_json::to_vec(&body).unwrap_or_default()
        }
        Payload::Snapshot => snapshot::ping(&snapshot::hook_id(subscription.id), number, now).into_bytes(),
    };
    let sent = tokio::time::timeout(timeout, post(egress, &way, format!("ping_{number:016x}"), Bytes::from(body), 0, now));
    sent.await.unwrap_or_else(|_| unreachable("timeout", u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)))
}
