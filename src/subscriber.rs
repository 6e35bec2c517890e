//! A merchant's end of a webhook: receives, verifies, and keeps account of what came, per payout and sequence.
//!
//! Used by the demo, the measurements and the chaos run, which all have to know what really arrived.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use domain::signature::{self, Secret};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use workers::clock::Clock;

/// How far a webhook's timestamp may be from the present, in seconds.
const TOLERANCE_S: i64 = 300;

/// What arrived, shared with the server that receives it.
#[derive(Clone, Default)]
pub struct Subscriber {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    secrets: Mutex<Vec<Secret>>,
    received: AtomicU64,
    verified: AtomicU64,
    refused: AtomicU64,
    /// Per payout: how often each sequence arrived.
    sequences: Mutex<HashMap<String, HashMap<u32, u32>>>,
    told: Mutex<Option<mpsc::UnboundedSender<Received>>>,
    counting_only: std::sync::atomic::AtomicBool,
}

/// A verified webhook, less what nobody here asks for.
#[derive(Clone, Debug)]
pub struct Received {
    pub id: String,
    pub kind: String,
    pub payout: String,
    pub transaction: String,
    pub sequence: u32,
    pub status: String,
}

#[derive(serde::Deserialize)]
struct Body {
    r#type: String,
    data: Data,
}

#[derive(serde::Deserialize)]
struct Data {
    payout_id: String,
    transaction_id: String,
    sequence: u32,
    status: String,
}

impl Subscriber {
    /// Trusts these secrets from now on.
    pub fn trust(&self, secrets: Vec<Secret>) {
        *lock(&self.inner.secrets) = secrets;
    }

    /// Verifies and counts, and does not look into bodies: for measurements.
    pub fn count_only(&self) {
        self.inner.counting_only.store(true, Ordering::Relaxed);
    }

    /// Passes on every verified webhook.
    pub fn tell(&self) -> mpsc::UnboundedReceiver<Received> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *lock(&self.inner.told) = Some(sender);
        receiver
    }

    #[must_use]
    pub fn received(&self) -> u64 {
        self.inner.received.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn verified(&self) -> u64 {
        self.inner.verified.load(Ordering::Relaxed)
    }

    /// Webhooks whose signature did not verify. Each was answered with 401.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// The sequences of a payout that arrived, ascending.
    #[must_use]
    pub fn sequences(&self, payout: &str) -> Vec<u32> {
        let mut found: Vec<u32> = lock(&self.inner.sequences).get(payout).map(|counts| counts.keys().copied().collect()).unwrap_or_default();
        found.sort_unstable();
        found
    }

    /// Receives on `listener` until `stop`.
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        let router = axum::Router::new().route("/", post(receive)).with_state(self);
        let serving = axum::serve(listener, router);
        // Not graceful: whoever holds a connection open here is of this very process.
        stop.run_until_cancelled(serving.into_future()).await.unwrap_or(Ok(()))
    }

    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<String, signature::Mismatch> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let (id, timestamp, signatures) = (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"));
        let now = Clock::of_the_machine().as_second();
        // A store whose time was moved signs with that time; what is checked here is the signature, its age as far as it can be.
        let now = timestamp.parse::<i64>().map_or(now, |at| if at - now > TOLERANCE_S { at } else { now });
        signature::verify(&lock(&self.inner.secrets), &id, &timestamp, &signatures, body, now, TOLERANCE_S)?;
        Ok(id)
    }
}

async fn receive(State(subscriber): State<Subscriber>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let inner = &subscriber.inner;
    inner.received.fetch_add(1, Ordering::Relaxed);
    let Ok(id) = subscriber.verify(&headers, &body) else {
        inner.refused.fetch_add(1, Ordering::Relaxed);
        return StatusCode::UNAUTHORIZED;
    };
    inner.verified.fetch_add(1, Ordering::Relaxed);
    if inner.counting_only.load(Ordering::Relaxed) {
        return StatusCode::OK;
    }
    let Ok(Body { r#type: kind, data }) = serde_json::from_slice::<Body>(&body) else { return StatusCode::BAD_REQUEST };
    *lock(&inner.sequences).entry(data.payout_id.clone()).or_default().entry(data.sequence).or_insert(0) += 1;
    if let Some(told) = lock(&inner.told).as_ref() {
        let Data { payout_id: payout, transaction_id: transaction, sequence, status } = data;
        let _ = told.send(Received { id, kind, payout, transaction, sequence, status });
    }
    StatusCode::OK
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
