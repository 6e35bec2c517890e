//! A subscriber's server, whose mood a test can change.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, Response, StatusCode, Uri};
use axum::routing::any;
use bytes::Bytes;
use domain::signature::{Mismatch, Secret, verify};

/// How it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mood {
    Status(u16),
    /// A status and, in seconds, when to come back.
    ComeBackIn(u16, u64),
    /// To `/elsewhere`, which would be recorded.
    Redirect,
    /// 200 at once, then a byte a second.
    Drip,
    /// 200 and 100 MB.
    Flood,
    Hang,
}

pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) flooded: Arc<AtomicUsize>,
    mood: Arc<Mutex<Mood>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let receiver = Self {
            url: format!("http://{}/hooks", listener.local_addr().expect("an address")),
            flooded: Arc::default(),
            mood: Arc::new(Mutex::new(Mood::Status(200))),
            received: Arc::default(),
        };
        let state = (receiver.mood.clone(), receiver.received.clone(), receiver.flooded.clone());
        let router = Router::new().fallback(any(answer)).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    pub(crate) fn mood(&self, mood: Mood) {
        *self.mood.lock().expect("no panic") = mood;
    }

    /// What came since the last call.
    pub(crate) fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.received.lock().expect("no panic"))
    }
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    pub(crate) fn verify(&self, secret: &Secret, now_s: i64) -> Result<(), Mismatch> {
        let [id, timestamp, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| self.header(name));
        verify(std::slice::from_ref(secret), id, timestamp, signature, &self.body, now_s, 5)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

type Shared = (Arc<Mutex<Mood>>, Arc<Mutex<Vec<Received>>>, Arc<AtomicUsize>);

async fn answer(State((mood, received, flooded)): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<Body> {
    // In this order: what a test has heard of is answered in the mood of then, whatever it becomes.
    let mood = *mood.lock().expect("no panic");
    received.lock().expect("no panic").push(Received { path: uri.path().to_owned(), headers, body });
    let answer = |status| Response::builder().status(status);
    let answer = match mood {
        Mood::Status(status) => answer(status).body(Body::from("thanks")),
        Mood::ComeBackIn(status, seconds) => answer(status).header(RETRY_AFTER, seconds).body(Body::empty()),
        Mood::Redirect => answer(308).header(LOCATION, "/elsewhere").body(Body::empty()),
        Mood::Drip => answer(200).body(Body::from_stream(futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b".")), ()))
        }))),
        Mood::Flood => answer(200).body(Body::from_stream(futures_util::stream::iter((0..100).map(move |_| {
            flooded.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from(vec![b'.'; 1_000_000]))
        })))),
        Mood::Hang => std::future::pending().await,
    };
    answer.unwrap_or_else(|_| {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer
    })
}
