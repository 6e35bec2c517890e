//! Messages that tell nothing, sent now: for whoever wants to know whether a subscriber is there and verifies, and to learn whether a URL wants to be told.

use std::time::Duration;

use bytes::Bytes;
use domain::delivery::{Attempt, Attempted};
use domain::id::SubscriptionId;
use domain::snapshot;
use domain::subscription::{Payload, Secrets, Subscription};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::SigningKeys;
use super::subscribers::Way;
use super::{send, tried};
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

/// The type of the message that asks for its own value back.
pub const CHALLENGE: &str = "webhook.challenge";

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
    let body = match subscription.payload {
        Payload::Thin | Payload::Full => {
            let body = Body { r#type: KIND, timestamp: now, data: Data { subscription_id: subscription.id } };
            serde_json::to_vec(&body).unwrap_or_default()
        }
        Payload::Snapshot => snapshot::ping(&snapshot::hook_id(subscription.id), number, now).into_bytes(),
    };
    sent(egress, keys, subscription, secrets, format!("ping_{number:016x}"), body, timeout, now).await.0
}

/// Posts a signed [`CHALLENGE`] whose `data.challenge` is `value`, and says how that went, and whether its answer shows that the URL wants to be told: a 2xx whose
/// body is that value, or JSON `{"challenge": value}`. A receiver of snapshots knows no such message: it gets a ping, and any 2xx will do.
#[expect(clippy::too_many_arguments, reason = "as a ping, and the value")]
pub async fn challenge(
    egress: &Egress,
    keys: &SigningKeys,
    subscription: &Subscription,
    secrets: &Secrets,
    value: &str,
    number: u64,
    timeout: Duration,
    now: Timestamp,
) -> (Attempt, bool) {
    #[derive(Deserialize)]
    struct Echo {
        challenge: String,
    }
    if subscription.payload == Payload::Snapshot {
        let attempt = ping(egress, keys, subscription, secrets, number, timeout, now).await;
        let wants = matches!(attempt.result, Attempted::Acknowledged { .. });
        return (attempt, wants);
    }
    let data = serde_json::json!({ "subscription_id": subscription.id, "challenge": value });
    let body = serde_json::json!({ "type": CHALLENGE, "timestamp": now, "data": data }).to_string().into_bytes();
    let (attempt, said) = sent(egress, keys, subscription, secrets, format!("challenge_{number:016x}"), body, timeout, now).await;
    let echoes = said.trim() == value || serde_json::from_str(&said).is_ok_and(|echo: Echo| echo.challenge == value);
    let wants = echoes && matches!(attempt.result, Attempted::Acknowledged { .. });
    (attempt, wants)
}

/// Posts any message, signed as a delivery of this subscription would be, and says how that went. Nothing is recorded.
#[expect(clippy::too_many_arguments, reason = "as a ping, and the message")]
pub async fn tell(
    egress: &Egress,
    keys: &SigningKeys,
    subscription: &Subscription,
    secrets: &Secrets,
    id: String,
    body: Vec<u8>,
    timeout: Duration,
    now: Timestamp,
) -> Attempt {
    sent(egress, keys, subscription, secrets, id, body, timeout, now).await.0
}

/// How it went, and the beginning of what was answered.
#[expect(clippy::too_many_arguments, reason = "what its callers were given, and the message")]
async fn sent(
    egress: &Egress,
    keys: &SigningKeys,
    subscription: &Subscription,
    secrets: &Secrets,
    id: String,
    body: Vec<u8>,
    timeout: Duration,
    now: Timestamp,
) -> (Attempt, String) {
    let unreachable = |why: &str, latency_ms| Attempt { at: now, latency_ms, result: Attempted::Unreachable { why: why.to_owned() }, heard: None };
    let Ok(way) = Way::of(subscription, secrets, egress, keys, now) else { return (unreachable("url_refused", 0), String::new()) };
    match tokio::time::timeout(timeout, send(egress, &way, id, Bytes::from(body), 0, now)).await {
        Ok(posted) => {
            let said = posted.as_ref().map(|posted| posted.excerpt.clone()).unwrap_or_default();
            (tried(posted, now), said)
        }
        Err(_) => (unreachable("timeout", u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)), String::new()),
    }
}
