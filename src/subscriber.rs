//! A merchant's end of a webhook: receives, verifies, and keeps account of what came, per payout and sequence.
//!
//! Used by the demo, the measurements and the chaos run, which all have to know what really arrived.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::time::Instant;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use domain::signature::{self, Secret};
use domain::wait::Jitter;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
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
    failed: AtomicU64,
    /// Per payout: its sequences in the order in which each arrived for the first time.
    arrived: Mutex<HashMap<String, Vec<u32>>>,
    told: Mutex<Option<mpsc::UnboundedSender<Received>>>,
    counting_only: AtomicBool,
    moods: Mutex<Option<Moods>>,
}

/// How a subscriber fails on purpose.
#[derive(Clone, Copy, Debug)]
pub struct Moods {
    /// Of a hundred webhooks, about so many are mistreated.
    pub fault_percent: u8,
    pub seed: u64,
    /// How long a late answer takes.
    pub late: Duration,
}

/// What is done with one webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Plain,
    /// Not taken: 500.
    Failing,
    /// Not taken: the connection ends without an answer.
    Gone,
    /// Taken, but the connection ends without an answer.
    Forgetful,
    /// Taken, and answered too late.
    Late,
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
    /// When it had been verified and read.
    pub at: Instant,
}

#[derive(serde::Deserialize)]
struct Body {
    r#type: String,
    data: Data,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Data {
    /// Empty in events that are no payout's.
    payout_id: String,
    transaction_id: String,
    sequence: u32,
    status: String,
    /// What a URL is asked to answer with.
    challenge: String,
}

impl Subscriber {
    /// Trusts these secrets from now on, and answers which ones it did before.
    pub fn trust(&self, secrets: Vec<Secret>) -> Vec<Secret> {
        std::mem::replace(&mut *lock(&self.inner.secrets), secrets)
    }

    /// From now on verifies and counts, and does not look into bodies, or does so again: for measurements.
    pub fn count_only(&self, only: bool) {
        self.inner.counting_only.store(only, Ordering::Relaxed);
    }

    /// Fails on purpose from now on; `None` ends that.
    pub fn misbehave(&self, moods: Option<Moods>) {
        *lock(&self.inner.moods) = moods;
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

    /// Webhooks that were mistreated on purpose.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.inner.failed.load(Ordering::Relaxed)
    }

    /// The sequences of a payout that arrived, ascending.
    #[must_use]
    pub fn sequences(&self, payout: &str) -> Vec<u32> {
        let mut found = self.arrivals(payout);
        found.sort_unstable();
        found
    }

    /// The sequences of a payout in the order in which each arrived for the first time.
    #[must_use]
    pub fn arrivals(&self, payout: &str) -> Vec<u32> {
        lock(&self.inner.arrived).get(payout).cloned().unwrap_or_default()
    }

    /// Receives on `listener` until `stop`, and then cuts every connection: whoever holds one open is of this very process or ends with it.
    ///
    /// # Errors
    /// None at present: trouble with single connections is theirs.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                () = stop.cancelled() => return Ok(()),
            };
            let Ok((stream, _)) = accepted else { continue };
            let _ = stream.set_nodelay(true);
            let subscriber = self.clone();
            connections.spawn(async move {
                let service = service_fn(|request| subscriber.answer(request));
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
            });
        }
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> io::Result<hyper::Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return Err(hung_up()) };
        let (status, answer) = self.receive(&head.headers, &body.to_bytes()).await?;
        let mut response = hyper::Response::new(Full::from(answer));
        *response.status_mut() = status;
        Ok(response)
    }

    async fn receive(&self, headers: &HeaderMap, body: &[u8]) -> io::Result<(StatusCode, String)> {
        let bare = |status| Ok((status, String::new()));
        let inner = &self.inner;
        let count = inner.received.fetch_add(1, Ordering::Relaxed);
        let Ok(id) = self.verify(headers, body) else {
            inner.refused.fetch_add(1, Ordering::Relaxed);
            return bare(StatusCode::UNAUTHORIZED);
        };
        inner.verified.fetch_add(1, Ordering::Relaxed);
        if inner.counting_only.load(Ordering::Relaxed) {
            return bare(StatusCode::OK);
        }
        let moods = *lock(&inner.moods);
        let mood = moods.map_or(Mood::Plain, |moods| moods.draw(count));
        inner.failed.fetch_add(u64::from(mood != Mood::Plain), Ordering::Relaxed);
        match mood {
            Mood::Failing => return bare(StatusCode::INTERNAL_SERVER_ERROR),
            Mood::Gone => return Err(hung_up()),
            Mood::Plain | Mood::Forgetful | Mood::Late => {}
        }
        let Some(answer) = self.take(id, body) else { return bare(StatusCode::BAD_REQUEST) };
        match mood {
            Mood::Forgetful => return Err(hung_up()),
            Mood::Late => tokio::time::sleep(moods.map_or(Duration::ZERO, |moods| moods.late)).await,
            Mood::Plain | Mood::Failing | Mood::Gone => {}
        }
        Ok((StatusCode::OK, answer))
    }

    /// What is answered with it; `None` if it cannot be read.
    fn take(&self, id: String, body: &[u8]) -> Option<String> {
        let Body { r#type: kind, data } = serde_json::from_slice::<Body>(body).ok()?;
        let Data { payout_id: payout, transaction_id: transaction, sequence, status, challenge } = data;
        if !payout.is_empty() {
            let mut arrived = lock(&self.inner.arrived);
            let sequences = arrived.entry(payout.clone()).or_default();
            if !sequences.contains(&sequence) {
                sequences.push(sequence);
            }
        }
        if let Some(told) = lock(&self.inner.told).as_ref() {
            let _ = told.send(Received { id, kind, payout, transaction, sequence, status, at: Instant::now() });
        }
        Some(challenge)
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

impl Moods {
    /// Depends on the seed and on how many webhooks came before.
    fn draw(&self, count: u64) -> Mood {
        let chance = Jitter::new(&[self.seed.to_be_bytes(), count.to_be_bytes()].concat(), 0).within(SignedDuration::from_millis(399)).as_millis();
        if chance >= i128::from(self.fault_percent) * 4 {
            return Mood::Plain;
        }
        match chance % 4 {
            0 => Mood::Failing,
            1 => Mood::Gone,
            2 => Mood::Forgetful,
            _ => Mood::Late,
        }
    }
}

/// Ends a connection in the midst of a request.
fn hung_up() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "hung up on purpose")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moods_are_drawn_by_seed_and_place() {
        let drawn = |seed| {
            let moods = Moods { fault_percent: 20, seed, late: Duration::ZERO };
            (0..1000).map(|count| moods.draw(count)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        for (mood, least, most) in
            [(Mood::Plain, 750, 850), (Mood::Failing, 30, 70), (Mood::Gone, 30, 70), (Mood::Forgetful, 30, 70), (Mood::Late, 30, 70)]
        {
            let count = drawn(7).into_iter().filter(|drawn| *drawn == mood).count();
            assert!((least..most).contains(&count), "{mood:?}: {count}");
        }
    }
}
