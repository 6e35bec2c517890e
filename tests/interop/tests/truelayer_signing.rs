//! The provider's own signing library and ours, each verifying the other's signatures, over real HTTP.
//!
//! The library knows ES512 only. The older signature of webhooks (`X-TL-Signature`, RS512) is beyond it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;
use domain::destination::{Beneficiary, BeneficiaryName, Destination, Iban, StatementReference};
use domain::fact::{Answer, Provider};
use domain::id::{Mode, PartyId, PayoutId, ProviderKey, Shards};
use domain::money::{Currency, Money};
use payrelay::local::{Local, Plan};
use payrelay::run::Role;
use providers::jws::{Algorithm, SigningKey};
use providers::truelayer::sandbox::{self, ClientKey, Sandbox};
use providers::truelayer::{Client, Settings};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use truelayer_signing::{Error, Method as Verb, sign_with_pem, verify_with_jwks, verify_with_pem};
use workers::clock::Clock;
use workers::store::private_server::Fsync;

const PATIENCE: Duration = Duration::from_secs(30);

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client")
}

// === What the stock library signs ===

/// The ingress of a whole installation, and a key that must sign.
struct Platform {
    local: Local,
    http: reqwest::Client,
    kid: String,
    pem: String,
    _folder: tempfile::TempDir,
}

impl Platform {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let plan = Plan {
            folder: folder.path(),
            redis_url: None,
            fsync: Fsync::Always,
            listen: "127.0.0.1:0",
            more: "",
            providers: &[Provider::Truelayer],
            sandbox: |_| {},
            role: Some(Role::Serve),
        };
        let local = Local::start(plan).await.expect("an installation");
        let key = local.caller.signing_key().expect("a caller that signs");
        let (kid, pem) = (key.kid().to_owned(), key.to_pem().expect("a key").expose_secret().to_owned());
        Self { local, http: http(), kid, pem, _folder: folder }
    }

    /// Sends a request of the key that must sign. Returns the status and the last part of the type of a problem.
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let request = self.http.post(format!("{}{path}", self.local.caller.base())).bearer_auth(self.local.caller.token().expose_secret());
        let mut request = request.header("content-type", "application/json").body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let answer: Value = response.json().await.expect("JSON");
        (status, answer["type"].as_str().unwrap_or_default().trim_start_matches("urn:payrelay:problem:").to_owned())
    }
}

fn accepted() -> (u16, String) {
    (202, String::new())
}

fn refused() -> (u16, String) {
    (401, "signature-invalid".to_owned())
}

fn order(minor: u32) -> String {
    let body = json!({
        "transaction_id": uuid::Uuid::new_v4(),
        "beneficiary_name": "John Smith",
        "beneficiary_iban": "GB33BUKB20201555555555",
        "beneficiary_reference": "Withdrawal 204",
        "currency": "GBP",
        "amount_in_minor": minor,
        "context_code": "withdrawal",
    });
    body.to_string()
}

/// `Tl-Signature`, over method, path, headers and body.
#[tokio::test(flavor = "multi_thread")]
async fn requests_signed_by_the_library_are_accepted() {
    let platform = Platform::start().await;
    let sign = |path: &str, headers: &[(&str, &str)], body: &str| {
        let mut signer = sign_with_pem(&platform.kid, platform.pem.as_bytes()).method(Verb::Post).path(path).body(body.as_bytes());
        for (name, value) in headers {
            signer = signer.header(name, value.as_bytes());
        }
        signer.build_signer().sign().expect("signs")
    };
    let (path, body) = ("/v1/payouts", order(10_000));
    let bare = sign(path, &[], &body);
    assert_eq!(platform.post(path, &[("tl-signature", &bare)], &body).await, accepted());
    let slash = sign("/v1/payouts/", &[], &body);
    assert_eq!(platform.post(path, &[("tl-signature", &slash)], &body).await, accepted(), "with the trailing slash that the library allows");

    let headers = [("Idempotency-Key", "0a8ef7c5-0d33-4c2c-9c1e-5a0b8b1d8f11"), ("X-Custom", "one, two")];
    let body = order(10_000);
    let signature = sign(path, &headers, &body);
    let with = |name: &'static str, value: &'static str| {
        [headers[0], headers[1], ("tl-signature", signature.as_str())].map(|one| if one.0 == name { (name, value) } else { one })
    };
    assert_eq!(platform.post(path, &with("X-Custom", "two"), &body).await, refused(), "a header that was changed");
    assert_eq!(platform.post(path, &[headers[0], ("tl-signature", &signature)], &body).await, refused(), "a header that is not there");
    assert_eq!(platform.post(path, &with("", ""), &body.replace("10000", "10001")).await, refused(), "a body that was changed");
    assert_eq!(platform.post(path, &with("", ""), &body).await, accepted());

    let body = order(10_000);
    assert_eq!(platform.post(path, &[("tl-signature", &sign("/v1/webhooks", &[], &body))], &body).await, refused(), "signed for another path");
    let put = sign_with_pem(&platform.kid, platform.pem.as_bytes())
        .method(Verb::Put)
        .path(path)
        .body(body.as_bytes())
        .build_signer()
        .sign()
        .expect("signs");
    assert_eq!(platform.post(path, &[("tl-signature", &put)], &body).await, refused(), "signed for another method");
    let other = SigningKey::generate(&*platform.kid, Algorithm::Es512).and_then(|key| key.to_pem()).expect("a key");
    let forged =
        sign_with_pem(&platform.kid, other.expose_secret().as_bytes()).method(Verb::Post).path(path).body(body.as_bytes()).build_signer().sign();
    assert_eq!(platform.post(path, &[("tl-signature", &forged.expect("signs"))], &body).await, refused(), "signed by another key");
    platform.local.stop().await.expect("a good end");
}

/// The older `X-TL-Signature`, over the body.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_signed_by_the_library_are_accepted() {
    let platform = Platform::start().await;
    let sign =
        |body: &str| sign_with_pem(&platform.kid, platform.pem.as_bytes()).body(body.as_bytes()).build_v1_signer().sign_body_only().expect("signs");
    let body = order(10_000);
    let signature = sign(&body);
    let tampered = body.replace("10000", "10001");
    assert_eq!(platform.post("/v1/payouts", &[("x-tl-signature", &signature)], &tampered).await, refused(), "a body that was changed");
    assert_eq!(platform.post("/v1/payouts", &[("tl-signature", &signature)], &body).await, refused(), "a body's signature is not a request's");
    assert_eq!(platform.post("/v1/payouts", &[("x-tl-signature", &signature)], &body).await, accepted());
    platform.local.stop().await.expect("a good end");
}

// === What we sign ===

/// A request as it went over the wire.
#[derive(Clone, Debug)]
struct Sent {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// Listens between the connector and the sandbox, and takes the sandbox's webhooks.
#[derive(Clone)]
struct Wire {
    sandbox: String,
    http: reqwest::Client,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Wire {
    async fn pass(State(wire): State<Self>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
        let path = uri.path().to_owned();
        wire.sent.lock().unwrap().push(Sent { method: method.clone(), path: path.clone(), headers: headers.clone(), body: body.clone() });
        if path == "/notices" {
            return (StatusCode::NO_CONTENT, Bytes::new());
        }
        let answer = wire.http.request(method, format!("{}{uri}", wire.sandbox)).headers(headers).body(body).send().await.expect("an answer");
        (answer.status(), answer.bytes().await.expect("a body"))
    }

    /// The first requests to a path, once there are so many.
    async fn sent(&self, path: &str, count: usize) -> Vec<Sent> {
        let waiting = async {
            loop {
                let sent: Vec<_> = self.sent.lock().unwrap().iter().filter(|sent| sent.path == path).cloned().collect();
                if sent.len() >= count {
                    return sent;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("requests in time")
    }
}

/// A payout sent by the connector to the sandbox, and what went over the wire for it.
struct Spoken {
    wire: Wire,
    public_pem: String,
    sandbox: Sandbox,
    key: ProviderKey,
    stop: CancellationToken,
}

async fn speak(signature: &str) -> Spoken {
    let key = SigningKey::generate("our-key", Algorithm::Es512).expect("a key");
    let public_pem = key.verifying_key().and_then(|key| key.to_pem()).expect("a public key");
    let (listener, tap) = (TcpListener::bind("127.0.0.1:0").await.expect("a port"), TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("an address"));
    let wire = Wire { sandbox: url(&listener), http: http(), sent: Arc::default() };
    let base = url(&tap);
    let router = Router::new().fallback(Wire::pass).with_state(wire.clone());
    tokio::spawn(async move { axum::serve(tap, router).await });

    let keys = vec![ClientKey { kid: "our-key".to_owned(), public_key_pem: public_pem.clone() }];
    let mut settings = sandbox::Settings::new("client", "secret".into(), keys);
    settings.public_url = Some(wire.sandbox.clone());
    settings.notice_url = Some(format!("{base}/notices"));
    let sandbox = Sandbox::new(settings).expect("a sandbox");
    let stop = CancellationToken::new();
    tokio::spawn(sandbox.clone().serve(listener, stop.clone()));

    let settings: Settings = serde_json::from_value(json!({
        "base_url": base,
        "auth_url": base,
        "client_id": "client",
        "client_secret": "secret",
        "kid": "our-key",
        "private_key_pem": key.to_pem().expect("a key").expose_secret(),
        "jku": [sandbox.jku()],
        "signature": signature,
    }))
    .expect("settings");
    let client = Client::new(settings, Mode::Test).expect("a client");
    let payout = PayoutId::derive(&PartyId::parse("acme").expect("a party"), Mode::Test, signature, Shards::ONE);
    let key = ProviderKey::derive(payout, 1);
    let beneficiary = Beneficiary {
        name: BeneficiaryName::parse("Ada Quill", 140).expect("a name"),
        reference: StatementReference::parse("Invoice 1187", 140).expect("a reference"),
        destination: Destination::Iban(Iban::parse("GB82WEST12345698765432").expect("an IBAN")),
        description: None,
        instrument: None,
    };
    let amount = Money::new(12_345, Currency::GBP).expect("an amount");
    let body = Client::prepare(key, amount, &beneficiary, "withdrawal").expect("prepares");
    let answer = client.submit(&body, Clock::of_the_machine() + PATIENCE, PATIENCE).await;
    assert!(matches!(answer, Answer::Says(_)), "the sandbox takes it: {answer:?}");
    Spoken { wire, public_pem, sandbox, key, stop }
}

fn text<'a>(sent: &'a Sent, name: &str) -> &'a str {
    sent.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", sent.headers)).to_str().expect("text")
}

fn pairs(sent: &Sent) -> impl Iterator<Item = (&str, &[u8])> {
    sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

fn changed(sent: &Sent) -> Vec<u8> {
    [&sent.body[..], b"\n"].concat()
}

fn is_refused(result: Result<(), Error>) -> bool {
    matches!(result, Err(Error::JwsError(_)))
}

/// What the connector sends as `Tl-Signature` verifies with the library, with the header that the provider demands.
#[tokio::test(flavor = "multi_thread")]
async fn the_connectors_requests_verify_with_the_library() {
    let spoken = speak("request").await;
    let sent = spoken.wire.sent("/v1/payouts", 1).await.remove(0);
    assert_eq!(sent.method, Method::POST);
    let verify = |path: &str, body: &[u8], without: &str| {
        let verifier = verify_with_pem(spoken.public_pem.as_bytes()).method(Verb::Post).path(path).require_header("Idempotency-Key");
        verifier.headers(pairs(&sent).filter(|(name, _)| *name != without)).body(body).build_verifier().verify(text(&sent, "tl-signature"))
    };
    verify("/v1/payouts", &sent.body, "").expect("verifies");
    assert!(is_refused(verify("/v1/payouts", &changed(&sent), "")), "a body that was changed");
    assert!(is_refused(verify("/v1/other", &sent.body, "")), "another path");
    assert!(is_refused(verify("/v1/payouts", &sent.body, "idempotency-key")), "a header that is not there");
    spoken.stop.cancel();
}

/// What the connector sends as `X-TL-Signature` verifies with the library.
#[tokio::test(flavor = "multi_thread")]
async fn the_connectors_bodies_verify_with_the_library() {
    let spoken = speak("body").await;
    let sent = spoken.wire.sent("/v1/payouts", 1).await.remove(0);
    let verify =
        |body: &[u8]| verify_with_pem(spoken.public_pem.as_bytes()).body(body).build_v1_verifier().verify_body_only(text(&sent, "x-tl-signature"));
    verify(&sent.body).expect("verifies");
    assert!(is_refused(verify(&changed(&sent))), "a body that was changed");
    spoken.stop.cancel();
}

/// The sandbox's webhooks verify with the library and the keys at the address that they name.
#[tokio::test(flavor = "multi_thread")]
async fn the_sandboxs_webhooks_verify_with_the_library() {
    let spoken = speak("body").await;
    let notices = spoken.wire.sent("/notices", 3).await;
    assert!(spoken.sandbox.payout(spoken.key.as_uuid()).is_some());
    for notice in &notices {
        let signature = text(notice, "tl-signature");
        let header = truelayer_signing::extract_jws_header(signature).expect("a header");
        let jku = header.jku.as_deref().expect("an address of keys");
        assert_eq!(jku, spoken.sandbox.jku());
        let jwks = spoken.wire.http.get(jku).send().await.expect("an answer").bytes().await.expect("keys");
        let verify = |path: &str, body: &[u8]| {
            let verifier = verify_with_jwks(&jwks).method(Verb::Post).path(path).require_header("X-TL-Webhook-Timestamp");
            verifier.headers(pairs(notice)).body(body).build_verifier().verify(signature)
        };
        verify("/notices", &notice.body).expect("verifies");
        assert!(is_refused(verify("/notices", &changed(notice))), "a body that was changed");
        assert!(is_refused(verify("/other", &notice.body)), "another path");
    }
    spoken.stop.cancel();
}
