//! URLs that have to show that they want to be told, and certificates that subscribers are shown.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use domain::id::Mode;
use domain::signature::{Secret, verify};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use workers::egress;

use super::{made, patch, wishes};
use crate::openapi;
use crate::support::{Caller, Installation, Plan, payout, transaction};

/// Answers a challenge as `mood` says, everything else with 200; keeps what came.
#[derive(Clone, Default)]
struct Receiver {
    mood: Arc<Mutex<&'static str>>,
    came: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Receiver {
    async fn start() -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let receiver = Self::default();
        let router = Router::new().fallback(answer).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn mood(&self, mood: &'static str) {
        *self.mood.lock().unwrap() = mood;
    }

    fn kinds(&self) -> Vec<String> {
        let came = std::mem::take(&mut *self.came.lock().unwrap());
        came.iter().map(|(_, body)| serde_json::from_slice::<Value>(body).unwrap()["type"].as_str().unwrap().to_owned()).collect()
    }
}

async fn answer(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> String {
    let value = serde_json::from_slice::<Value>(&body).unwrap()["data"]["challenge"].as_str().unwrap_or_default().to_owned();
    receiver.came.lock().unwrap().push((headers, body));
    let mood = *receiver.mood.lock().unwrap();
    match mood {
        "text" => format!("{value}\n"),
        "json" => json!({ "challenge": value, "more": 1 }).to_string(),
        "other" => format!("{value}x"),
        _ => "thanks".to_owned(),
    }
}

async fn installation() -> Installation {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
    let ingress = json!({ "webhooks": { "challenge": ["live", "test"] } });
    Installation::with(Plan { egress, ingress, ..Plan::default() }).await
}

async fn ask(shop: &Caller, path: &str) -> crate::support::Reply {
    shop.post_bytes(&format!("{path}/challenge"), "", &[]).await
}

/// What is no event has a schema of its own.
#[tokio::test]
async fn a_challenge_and_a_ping_hold_documented_fields_only() {
    let installation = installation().await;
    let shop = installation.caller("shop").await;
    let (receiver, url) = Receiver::start().await;
    let (path, _) = made(&shop, &json!({ "url": url, "event_types": ["*"] })).await;
    assert_eq!(shop.post_bytes(&format!("{path}/ping"), "", &[]).await.status, 200);
    let came = std::mem::take(&mut *receiver.came.lock().unwrap());
    let came: Vec<Value> = came.iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect();
    assert_eq!(came.iter().map(|message| &message["type"]).collect::<Vec<_>>(), ["webhook.challenge", "webhook.ping"]);
    came.iter().for_each(|message| openapi::is_message("WebhookMessage", message));
}

/// Nothing is told before the URL has answered, and nothing is lost meanwhile.
#[tokio::test]
async fn a_url_answers_before_it_is_told_anything() {
    let installation = installation().await;
    let shop = installation.caller("shop").await;
    let (receiver, url) = Receiver::start().await;
    let (path, shown) = made(&shop, &json!({ "url": url, "event_types": ["*"] })).await;
    assert_eq!((&shown["status"], &shown["status_reason"]), (&json!("pending"), &json!("challenge_unanswered")));
    assert_eq!(receiver.kinds(), ["webhook.challenge"], "it is asked at once");
    for verb in ["pause", "resume"] {
        assert_eq!(shop.post_bytes(&format!("{path}/{verb}"), "", &[]).await.problem(), "not-possible-now", "{verb}");
    }
    let id = transaction();
    assert_eq!(shop.post("/v1/payouts", &payout(&id)).await.status, 202);
    receiver.mood("other");
    let refused = ask(&shop, &path).await;
    assert_eq!((refused.problem(), refused.json["detail"].as_str().unwrap().contains("not with the value")), ("not-possible-now", true));
    assert_eq!((installation.deliver().await, receiver.kinds()), (0, vec!["webhook.challenge".to_owned()]));

    receiver.mood("text");
    let answered = ask(&shop, &path).await;
    assert_eq!((answered.status, &answered.json["result"]["status"]), (200, &json!("enabled")));
    let (headers, body) = receiver.came.lock().unwrap()[0].clone();
    let [webhook_id, timestamp, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| headers[name].to_str().unwrap());
    let secret = Secret::parse(shown["secret"].as_str().unwrap()).unwrap();
    verify(&[secret], webhook_id, timestamp, signature, &body, timestamp.parse().unwrap(), 0).unwrap();
    assert_eq!(ask(&shop, &path).await.json["result"]["version"], answered.json["result"]["version"], "one that is enabled is left alone");
    assert_eq!((installation.deliver().await, receiver.kinds()), (1, vec!["webhook.challenge".to_owned(), "payout.requested".to_owned()]));

    // Another URL has to answer for itself.
    let (other, url) = Receiver::start().await;
    let moved = patch(&shop, &path, &json!({ "version": answered.json["result"]["version"], "url": url })).await;
    assert_eq!((&moved.json["result"]["status"], other.kinds()), (&json!("pending"), vec!["webhook.challenge".to_owned()]));
    assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    // The one that it had is told that, and nothing more; the new one nothing yet.
    assert_eq!((installation.deliver().await, receiver.kinds(), other.kinds()), (1, vec!["webhook.changed".to_owned()], Vec::new()));
    other.mood("json");
    assert_eq!(ask(&shop, &path).await.json["result"]["status"], "enabled");
    assert_eq!((installation.deliver().await, receiver.kinds()), (1, Vec::new()));
    let renamed = shop.get(&path).await.json["result"]["version"].clone();
    assert_eq!(patch(&shop, &path, &json!({ "version": renamed, "name": "x" })).await.json["result"]["status"], "enabled", "the same URL as before");

    // Who answers at once is enabled at once; and a receiver of snapshots has only to be there.
    let (prompt, url) = Receiver::start().await;
    prompt.mood("json");
    assert_eq!(made(&shop, &json!({ "url": url, "event_types": ["*"] })).await.1["status"], "enabled");
    let hook = shop.post("/v2/webhooks", &json!({ "name": "books", "url": url, "eventTypes": "*" })).await;
    assert_eq!((hook.status, &hook.json["status"]), (201, &json!("enabled")));
    let nobody = shop.post("/v2/webhooks", &json!({ "name": "books", "url": "http://127.0.0.1:9999/", "eventTypes": "*" })).await;
    assert_eq!((nobody.status, &nobody.json["status"]), (201, &json!("disabled")));
}

/// In live mode by itself, in test mode not.
#[tokio::test]
async fn live_urls_are_asked() {
    let installation = Installation::start().await;
    for (mode, status) in [(Mode::Live, "pending"), (Mode::Test, "enabled")] {
        let caller = installation.caller_with(|key| key.mode = mode).await;
        assert_eq!(made(&caller, &wishes()).await.1["status"], status, "{mode:?}");
    }
}

fn certificate(name: &str, last_year: i32) -> Value {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    json!({ "certificate": params.self_signed(&key).unwrap().pem(), "key": key.serialize_pem() })
}

/// What may be known of it is shown; the key is not, nor is it in the store as it was sent.
#[tokio::test]
async fn a_client_certificate_is_kept_and_described() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let mut asked = wishes();
    asked["client_certificate"] = certificate("our client", 2090);
    let (path, shown) = made(&shop, &asked).await;
    let described = &shown["client_certificate"];
    assert_eq!((&described["subject"], &described["expires_soon"]), (&json!("CN=our client"), &json!(false)));
    assert_eq!((described["fingerprint"].as_str().unwrap().len(), &described["expires_at"]), (64, &json!("2090-01-01T00:00:00.0000000Z")));
    let id = path.rsplit_once('/').unwrap().1;
    let stored = installation.redis.say(&["HGETALL", &format!("t:{{s{}}}:sub:{id}", &id[4..6])]);
    for text in [&shop.get(&path).await.text, &shop.get("/v1/webhooks").await.text, &stored] {
        assert!(text.contains("our client") && !text.contains("PRIVATE") && !text.contains("BEGIN"), "{text}");
    }
    // It outlives a rotation of the secret.
    shop.post_bytes(&format!("{path}/rotate"), "", &[]).await;
    let sealed = installation.store.subscription(id.parse().unwrap()).await.unwrap().unwrap().1;
    assert!(sealed.client_certificate.is_some_and(|pem| pem.key.contains("PRIVATE")));

    let (mine, yours) = (certificate("a", 2090), certificate("b", 2090));
    for (wish, at, code) in [
        (json!({ "certificate": mine["certificate"], "key": yours["key"] }), "/client_certificate/key", "not_acceptable"),
        (json!({ "certificate": "x", "key": mine["key"] }), "/client_certificate/certificate", "not_acceptable"),
        (json!({ "certificate": mine["certificate"], "key": "x" }), "/client_certificate/key", "not_acceptable"),
        (json!({ "certificate": mine["certificate"] }), "/client_certificate", "incomplete"),
        (certificate("old", 2020), "/client_certificate/certificate", "not_acceptable"),
    ] {
        let refused = patch(&shop, &path, &json!({ "version": 2, "client_certificate": wish })).await;
        assert_eq!(refused.errors(), [(at, code)]);
        assert!(!refused.text.contains("BEGIN"), "{}", refused.text);
    }
    let plain = patch(&shop, &path, &json!({ "version": 2, "url": "http://hooks.example.com/" })).await;
    assert_eq!(plain.errors(), [("/client_certificate", "not_allowed")]);
    let moved = patch(&shop, &path, &json!({ "version": 2, "url": "https://elsewhere.example.com/" })).await;
    assert_eq!(moved.errors(), [("/client_certificate", "required")], "it is not shown to another address");
    // A time that is near is told.
    let near: jiff::Timestamp = "2089-12-12T00:00:00Z".parse().unwrap();
    let wait = near.duration_since(installation.store.clock().now());
    installation.store.move_clock(wait.try_into().unwrap()).await.unwrap();
    assert_eq!(shop.get(&path).await.json["result"]["client_certificate"]["expires_soon"], true);
    let without = patch(&shop, &path, &json!({ "version": 2, "client_certificate": {} })).await;
    assert_eq!((without.status, without.json["result"].get("client_certificate")), (200, None));
}
