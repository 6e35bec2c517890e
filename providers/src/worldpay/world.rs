//! A sandbox, and a platform that receives its notices, over real sockets: the ground that the tests of both APIs stand on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use bytes::Bytes;
use domain::destination::{Beneficiary, BeneficiaryName, Destination, StatementReference};
use domain::id::{Mode, PartyId, PayoutId, ProviderKey, Shards};
use domain::money::{Currency, Money};
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::sandbox::book::Stored;
use super::sandbox::{self, Sandbox};
use super::signature::{Encoding, EventKey};
use crate::clock;

/// What is received is kept raw: inboxes read it later.
#[derive(Clone, Default)]
pub(super) struct Platform {
    raw: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    /// Answer 500 this many times first.
    failures: Arc<Mutex<u32>>,
}

async fn receive(State(platform): State<Platform>, request: Request) -> StatusCode {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 10_000).await.expect("a body");
    let mut failures = platform.failures.lock().expect("no panic");
    if let Some(left) = failures.checked_sub(1) {
        *failures = left;
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    platform.raw.lock().expect("no panic").push((parts.headers, body));
    StatusCode::OK
}

pub(super) struct World {
    pub(super) sandbox: Sandbox,
    pub(super) url: String,
    platform: Platform,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl World {
    pub(super) async fn start(change: impl FnOnce(&mut sandbox::Settings)) -> Self {
        let platform = Platform::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let notice_url = format!("http://{}/notices/worldpay?unguessable=1", listener.local_addr().expect("an address"));
        let router = Router::new().route("/notices/worldpay", axum::routing::post(receive)).with_state(platform.clone());
        let receiving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mut settings = sandbox::Settings::new("acme", SecretString::from("hunter2"));
        (settings.account_notice_url, settings.card_notice_url) = (Some(notice_url.clone()), Some(notice_url));
        settings.event_keys = event_keys();
        (settings.notice_wait_ms, settings.stage_ms, settings.behaviour.return_after_ms, settings.silent_after_ms) = (5, 0, 0, 0);
        change(&mut settings);
        let sandbox = Sandbox::new(settings).expect("a sandbox");
        let serving = sandbox.clone().serve(listener, CancellationToken::new());
        let serving = tokio::spawn(async move { serving.await.expect("serves") });
        Self { sandbox, url, platform, _tasks: vec![AbortOnDropHandle::new(receiving), AbortOnDropHandle::new(serving)] }
    }

    /// Waits until what is asked for is there: things happen in the sandbox's own time.
    pub(super) async fn until<T>(&self, mut ready: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = ready(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "did not happen");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    pub(super) fn stored(&self, number: u8) -> Option<Stored> {
        self.sandbox.payout(key(number))?.payout
    }

    pub(super) async fn status_is(&self, number: u8, status: &str) {
        self.until(|world| (world.stored(number)?.status == status).then_some(())).await;
    }

    /// At least so many notices, as they came.
    pub(super) async fn notices(&self, count: usize) -> Vec<(HeaderMap, Bytes)> {
        self.until(|world| {
            let raw = world.platform.raw.lock().expect("no panic");
            (raw.len() >= count).then(|| raw.clone())
        })
        .await
    }

    pub(super) fn fail_notices(&self, count: u32) {
        *self.platform.failures.lock().expect("no panic") = count;
    }

    pub(super) fn answers(&self, number: u8) -> String {
        Vec::from(self.sandbox.payout(key(number)).expect("known").calls.answers).join(" ")
    }

    /// Movements of one payout.
    pub(super) fn moved(&self, number: u8) -> usize {
        self.sandbox.movements().iter().filter(|movement| movement.transaction_id == key(number).as_uuid()).count()
    }
}

/// Two keys, as while one replaces the other.
pub(super) fn event_keys() -> Vec<EventKey> {
    let key = |id: &str, secret: &str| EventKey { id: id.to_owned(), secret: SecretString::from(secret), encoding: Encoding::Utf8 };
    vec![key("1", "an old secret"), key("2", "a new secret")]
}

pub(super) fn access(url: &str) -> serde_json::Value {
    serde_json::json!({"base_url": url, "username": "acme", "password": "hunter2", "caller_id": "payrelay-tests"})
}

pub(super) fn key(number: u8) -> ProviderKey {
    let payout = PayoutId::derive(&PartyId::parse("acme").expect("a party"), Mode::Test, &number.to_string(), Shards::ONE);
    ProviderKey::derive(payout, 1)
}

pub(super) fn beneficiary(name: &str, reference: &str, destination: Destination) -> Beneficiary {
    Beneficiary {
        name: BeneficiaryName::parse(name, 140).expect("a name"),
        reference: StatementReference::parse(reference, 140).expect("a reference"),
        destination,
        description: None,
        instrument: None,
    }
}

pub(super) fn money(minor: i64, currency: &str) -> Money {
    Money::new(minor, Currency::parse(currency).expect("a currency")).expect("an amount")
}

pub(super) fn soon() -> Timestamp {
    clock::now() + SignedDuration::from_secs(60)
}
