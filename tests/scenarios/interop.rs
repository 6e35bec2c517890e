//! A merchant who has nothing of ours: a server that verifies with the stock library of Standard Webhooks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use payrelay::local::{Local, Plan};
use payrelay::run::Role;
use reqwest::Method;
use serde_json::{Value, json};
use standardwebhooks::{Webhook, WebhookError};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use workers::store::private_server::Fsync;

use crate::support::{payout, transaction};

/// How long a payout and its webhook may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A webhook as it came, and whether the merchant accepted it.
struct Delivered {
    accepted: bool,
    headers: HeaderMap,
    body: Bytes,
}

/// Knows one secret at a time, as the library's users do.
#[derive(Clone)]
struct Merchant {
    secret: Arc<Mutex<String>>,
    told: UnboundedSender<Delivered>,
}

impl Merchant {
    /// Answers 204 to what the library accepts, else 401.
    async fn receive(State(merchant): State<Self>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let secret = merchant.secret.lock().unwrap().clone();
        let accepted = Webhook::new(&secret).unwrap().verify(&body, &headers).is_ok();
        merchant.told.send(Delivered { accepted, headers, body }).unwrap();
        if accepted { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED }
    }
}

/// A subscription of a merchant, and what came of it.
struct Subscription {
    id: String,
    secret: Arc<Mutex<String>>,
    came: UnboundedReceiver<Delivered>,
}

impl Subscription {
    /// A merchant's server on a free port, subscribed to the ends of payouts.
    async fn open(local: &Local) -> Self {
        let (told, came) = mpsc::unbounded_channel();
        let secret = Arc::new(Mutex::new(String::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap());
        let router = Router::new().route("/hooks", post(Merchant::receive)).with_state(Merchant { secret: secret.clone(), told });
        tokio::spawn(async move { axum::serve(listener, router).await });
        let body = json!({ "url": url, "event_types": ["payout.completed"] });
        let made = local.caller.expect(Method::POST, "/v1/webhooks", Some(&body)).await.unwrap();
        let id = made["result"]["id"].as_str().expect("an id").to_owned();
        *secret.lock().unwrap() = shown(&made);
        Self { id, secret, came }
    }

    async fn rotate(&self, local: &Local, overlap_hours: u32) -> String {
        let path = format!("/v1/webhooks/{}/rotate", self.id);
        shown(&local.caller.expect(Method::POST, &path, Some(&json!({ "overlap_hours": overlap_hours }))).await.unwrap())
    }

    fn trust(&self, secret: &str) {
        secret.clone_into(&mut self.secret.lock().unwrap());
    }

    /// The webhook that says that this payout has been paid.
    async fn about(&mut self, transaction: &str) -> Delivered {
        let waiting = async {
            loop {
                let delivered = self.came.recv().await.expect("the server lives");
                let body: Value = serde_json::from_slice(&delivered.body).expect("JSON");
                if body["data"]["transaction_id"] == transaction {
                    assert_eq!(body["type"], "payout.completed");
                    return delivered;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("a webhook in time")
    }
}

fn shown(answer: &Value) -> String {
    answer["result"]["secret"].as_str().expect("the secret is shown").to_owned()
}

async fn pay(local: &Local) -> String {
    let transaction = transaction();
    local.caller.expect(Method::POST, "/v1/payouts", Some(&payout(&transaction))).await.unwrap();
    transaction
}

fn verify(secret: &str, Delivered { headers, body, .. }: &Delivered) -> Result<(), WebhookError> {
    Webhook::new(secret).unwrap().verify(body, headers)
}

/// Whether the library, given the time that a webhook says, makes one of the signatures that the webhook has.
fn signs(secret: &str, Delivered { headers, body, .. }: &Delivered) -> bool {
    let text = |name: &str| headers[name].to_str().unwrap();
    let signature = Webhook::new(secret).unwrap().sign(text("webhook-id"), text("webhook-timestamp").parse().unwrap(), body).unwrap();
    text("webhook-signature").split(' ').any(|one| one == signature)
}

fn signatures(delivered: &Delivered) -> usize {
    delivered.headers["webhook-signature"].to_str().unwrap().split(' ').count()
}

fn is_refused(result: &Result<(), WebhookError>) -> bool {
    matches!(result, Err(WebhookError::InvalidSignature))
}

/// The stock library accepts what the relay sends before, during and after a rotation, by each secret for as long as it counts, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_stock_library_accepts_webhooks_through_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        folder: folder.path(),
        redis_url: None,
        fsync: Fsync::Always,
        listen: "127.0.0.1:0",
        // The sweep is what notices that the time was moved.
        more: "workers.sweep_ms = 1000",
        providers: &domain::fact::Provider::ALL,
        sandbox: |_| {},
        role: Some(Role::All),
    };
    let local = Local::start(plan).await.unwrap();
    // One rotates with an overlap, the other at once.
    let (mut patient, mut hasty) = (Subscription::open(&local).await, Subscription::open(&local).await);
    let (patient_first, hasty_first) = (patient.secret.lock().unwrap().clone(), hasty.secret.lock().unwrap().clone());

    let before = pay(&local).await;
    let delivered = patient.about(&before).await;
    assert!(delivered.accepted && signatures(&delivered) == 1);
    assert!(hasty.about(&before).await.accepted);
    assert!(is_refused(&verify(&hasty_first, &delivered)), "the secret of another subscription");
    let mut tampered = Delivered { headers: delivered.headers.clone(), ..delivered };
    tampered.body = String::from_utf8(tampered.body.to_vec()).unwrap().replace("10000", "10001").into();
    assert!(is_refused(&verify(&patient_first, &tampered)), "a body that was changed");
    tampered.headers.insert("webhook-id", "evt_of_another_webhook".parse().unwrap());
    assert!(is_refused(&verify(&patient_first, &tampered)), "an id that was changed");

    let patient_second = patient.rotate(&local, 1).await;
    let hasty_second = hasty.rotate(&local, 0).await;
    hasty.trust(&hasty_second);
    let during = pay(&local).await;
    let delivered = patient.about(&during).await;
    assert!(delivered.accepted, "the merchant still has the first secret");
    assert_eq!(signatures(&delivered), 2);
    verify(&patient_first, &delivered).expect("the first secret, until the overlap ends");
    verify(&patient_second, &delivered).expect("the second secret, from the rotation on");
    let delivered = hasty.about(&during).await;
    assert!(delivered.accepted, "the merchant has the second secret");
    assert!(is_refused(&verify(&hasty_first, &delivered)) && signatures(&delivered) == 1, "there was no overlap");

    patient.trust(&patient_second);
    let switched = pay(&local).await;
    assert!(patient.about(&switched).await.accepted, "the merchant has gone over to the second secret");

    // The overlap ends. The library goes by the machine's time and refuses what comes from the future, so its signature is compared instead.
    local.store.move_clock(Duration::from_secs(2 * 3600)).await.unwrap();
    let moved = local.store.clock().now().as_second() - 60;
    let mut payouts = 0..30;
    let delivered = loop {
        payouts.next().expect("the workers notice that the time was moved");
        let after = pay(&local).await;
        let delivered = patient.about(&after).await;
        if delivered.headers["webhook-timestamp"].to_str().unwrap().parse::<i64>().unwrap() >= moved {
            break delivered;
        }
    };
    assert!(signs(&patient_second, &delivered), "the second secret");
    assert!(!signs(&patient_first, &delivered) && signatures(&delivered) == 1, "the first secret counts no longer");
    assert!(matches!(verify(&patient_second, &delivered), Err(WebhookError::FutureTimestampError)));
    local.stop().await.unwrap();
}
