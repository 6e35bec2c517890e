//! Receipts the whole way: delivered, made, read again, found in the chain, verified by the tool; and refused once a byte of them is another one.

use std::process::Command;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use workers::egress;
use workers::relay::keys::{self, SigningKeys};

use crate::receiver::{Mood, Received, Receiver};
use crate::support::{Caller, Installation, Plan, payout, transaction};
use domain::credential::{Reach, Scope};
use domain::fact::Reason;
use domain::id::PartyId;
use domain::subscription::Status;

/// What `payrelay verify --receipt` ends with, and what it says.
fn verified(receipt: &str, key: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("receipt.json");
    std::fs::write(&file, receipt).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_payrelay")).args(["verify", "--key", key, "--receipt"]).arg(&file).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

async fn delivered(shop: &Caller) -> Vec<String> {
    let page = shop.get("/v1/deliveries?status=delivered").await;
    page.json["results"].as_array().unwrap().iter().map(|told| told["id"].as_str().unwrap().to_owned()).collect()
}

fn sha256(bytes: &[u8]) -> Value {
    json!(const_hex::encode(digest(&SHA256, bytes)))
}

/// An installation that reaches receivers of this machine and signs, and the public key.
async fn signing() -> (Installation, String) {
    let (private, public) = keys::make(&[7; 32]).unwrap();
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
    let signing_keys = SigningKeys::read([private.as_str()]).unwrap();
    (Installation::with(Plan { egress, signing_keys, ..Plan::default() }).await, public.text)
}

/// What is on record by the receipts of all deliveries to a subscription, by event.
async fn records(shop: &Caller, subscription: &str) -> Vec<Value> {
    let page = shop.get(&format!("/v1/deliveries?subscription_id={subscription}")).await;
    let mut told: Vec<_> = page.json["results"].as_array().unwrap().iter().map(|told| (told["event_id"].to_string(), told["id"].clone())).collect();
    told.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut records = Vec::new();
    for (_, id) in told {
        let made = shop.post_bytes(&format!("/v1/deliveries/{}/receipt", id.as_str().unwrap()), "", &[]).await;
        let statement: Value = serde_json::from_str(made.json["result"]["statement"].as_str().unwrap()).unwrap();
        records.push(serde_json::from_str(statement["record"].as_str().unwrap()).unwrap());
    }
    records
}

fn tries(records: &[Value]) -> Vec<Value> {
    records.iter().flat_map(|record| record["attempts"].as_array().unwrap().clone()).collect()
}

/// Whatever the form of the payload, each try has the hash of the very bytes that came, and of the address that they came to.
#[tokio::test]
async fn a_receipt_has_the_hashes_of_what_came_and_where_to() {
    let (installation, _) = signing().await;
    let shop = installation.caller("shop").await;
    let receiver = Receiver::start().await;
    let mut subscriptions = Vec::new();
    for payload in ["thin", "full"] {
        let wishes = json!({ "url": format!("{}/{payload}?key=1", receiver.url), "event_types": "*", "payload": payload });
        let made = shop.post("/v1/webhooks", &wishes).await;
        subscriptions.push((payload, made.json["result"]["id"].as_str().unwrap().to_owned()));
    }
    let hook = shop.post("/v2/webhooks", &json!({ "name": "books", "url": format!("{}/snapshot", receiver.url), "eventTypes": "*" })).await;
    subscriptions.push(("snapshot", hook.json["id"].as_str().unwrap().replace("hook_", "sub_")));

    let mut order = payout(&transaction());
    order["metadata"] = json!({ "order": "7" });
    assert_eq!(shop.post("/v1/payouts", &order).await.status, 202);
    let cancel = format!("/v1/payouts/{}/cancel", order["transaction_id"].as_str().unwrap());
    assert_eq!(shop.post_bytes(&cancel, "", &[]).await.status, 200);
    receiver.mood(Mood::Status(500));
    installation.deliver().await;
    receiver.mood(Mood::Status(204));
    installation.store.move_clock(Duration::from_secs(60)).await.unwrap();
    installation.deliver().await;

    let came = receiver.take();
    let bodies = |came: &[Received], place: &str| -> Vec<Value> {
        came.iter().filter(|message| message.path == place).map(|message| sha256(&message.body)).collect()
    };
    let mut distinct = std::collections::BTreeSet::new();
    for ((payload, id), count) in subscriptions.iter().zip([3, 3, 2]) {
        let place = format!("/hooks/{payload}");
        let records = records(&shop, id).await;
        let tries = tries(&records);
        assert_eq!(tries.iter().map(|tried| tried["payload_sha256"].clone()).collect::<Vec<_>>(), bodies(&came, &place), "{payload}");
        assert_eq!(tries.len(), count, "{payload}");
        let url = sha256(receiver.url.replace("/hooks", &place).as_bytes());
        assert!(tries.iter().all(|tried| tried["url_sha256"] == url), "{payload}: without its query");
        for record in &records {
            let last = record["attempts"].as_array().unwrap().last().unwrap();
            assert_eq!((&record["payload_sha256"], &record["url_sha256"]), (&last["payload_sha256"], &last["url_sha256"]));
        }
        distinct.extend(bodies(&came, &place).iter().map(Value::to_string));
    }
    assert_eq!(distinct.len(), 5, "two events in two forms, one in a third");

    // Another form and another address from now on: what was sent before was what it was.
    let full = &subscriptions[1].1;
    let before = records(&shop, full).await;
    let elsewhere = json!({ "version": 1, "payload": "thin", "url": format!("{}/elsewhere", receiver.url) });
    assert_eq!(shop.patch(&format!("/v1/webhooks/{full}"), &elsewhere).await.status, 200);
    let event = json!({ "event_id": before[1]["event_id"] });
    assert_eq!(shop.post(&format!("/v1/webhooks/{full}/retry"), &event).await.status, 202);
    installation.deliver().await;
    let again = receiver.take();
    let after = records(&shop, full).await;
    assert_eq!((&after[0], &after[1]["attempts"][0]), (&before[0], &before[1]["attempts"][0]));
    let last = &after[1]["attempts"][1];
    assert_eq!(vec![last["payload_sha256"].clone()], bodies(&again, "/hooks/elsewhere"));
    assert_eq!(last["url_sha256"], sha256(format!("{}/elsewhere", receiver.url).as_bytes()));
    assert_ne!(last["payload_sha256"], before[1]["payload_sha256"]);

    // Where nothing is sent, nothing is said of it.
    let waiting = payout(&transaction());
    assert_eq!(shop.post("/v1/payouts", &waiting).await.status, 202);
    let (thin, now) = (subscriptions[0].1.parse().unwrap(), installation.store.clock().now());
    let (mut subscription, _) = installation.store.subscription(thin).await.unwrap().unwrap();
    subscription.status = Status::Disabled { reason: Reason::new("asked"), at: now };
    subscription.version += 1;
    installation.store.subscribe(&subscription, None).await.unwrap();
    installation.deliver().await;
    let records = records(&shop, &subscriptions[0].1).await;
    let unwanted = records.iter().find(|record| record["status"] == "abandoned").unwrap();
    assert_eq!(unwanted["attempts"][0]["result"], json!({ "result": "unwanted" }));
    for of in [unwanted, &unwanted["attempts"][0]] {
        assert!(of.get("payload_sha256").is_none() && of.get("url_sha256").is_none(), "{of}");
    }
}

#[tokio::test]
async fn a_receipt_is_made_found_in_the_chain_and_verified() {
    let (installation, public) = signing().await;
    let (shop, cafe) = (installation.caller("shop").await, installation.caller("cafe").await);
    let reader = installation
        .caller_with(|key| {
            key.reach = Reach::Party(PartyId::parse("shop").unwrap());
            key.scopes = [Scope::WebhooksRead].into();
        })
        .await;
    let receiver = Receiver::start().await;
    assert_eq!(shop.post("/v1/webhooks", &json!({ "url": receiver.url, "event_types": "*" })).await.status, 201);
    for _ in 0..3 {
        assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    }
    receiver.mood(Mood::Status(204));
    installation.deliver().await;
    let ids = delivered(&shop).await;
    assert_eq!(ids.len(), 3);
    let path = |id: &str| format!("/v1/deliveries/{id}/receipt");

    // Whoever may only read makes none.
    assert_eq!(reader.get(&path(&ids[0])).await.problem(), "not-found");
    assert_eq!(reader.post_bytes(&path(&ids[0]), "", &[]).await.problem(), "missing-scope");
    assert_eq!(reader.get("/v1/receipts").await.json, json!({ "results": [], "length": 0 }));
    let mut receipts = Vec::new();
    for id in &ids {
        let made = shop.post_bytes(&path(id), "", &[]).await;
        assert_eq!(made.status, 200, "{made:?}");
        assert_eq!(shop.post_bytes(&path(id), "", &[]).await.json["result"]["statement"], made.json["result"]["statement"], "the same place");
        assert_eq!(reader.get(&path(id)).await.json["result"]["statement"], made.json["result"]["statement"]);
        receipts.push(made);
    }
    assert_eq!((cafe.get(&path(&ids[0])).await.problem(), cafe.post_bytes(&path(&ids[0]), "", &[]).await.problem()), ("not-found", "not-found"));

    // The chain, page by page, is that of the receipts.
    let (mut links, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let page = reader.get(&format!("/v1/receipts?{query}")).await;
        links.extend(page.json["results"].as_array().unwrap().clone());
        let Some(next) = page.json["next_cursor"].as_str() else { break };
        query = format!("limit=2&cursor={next}");
    }
    let mut previous = json!("");
    for (link, (receipt, id)) in links.iter().zip(receipts.iter().zip(&ids)) {
        let statement: Value = serde_json::from_str(receipt.json["result"]["statement"].as_str().unwrap()).unwrap();
        assert_eq!((&link["delivery_id"], &link["previous"], &link["hash"]), (&json!(id), &previous, &statement["link"]["hash"]));
        assert_eq!(link["place"], statement["link"]["place"]);
        previous = link["hash"].clone();
    }
    assert_eq!(links.len(), 3);
    assert_eq!(reader.get("/v1/receipts?cursor=x").await.errors(), [("cursor", "invalid")]);

    // As answered; and as it is inside.
    let published = shop.get("/.well-known/webhook-keys.json").await;
    assert!(published.text.contains(&public));
    let (code, said) = verified(&receipts[0].text, &public);
    assert!(code == Some(0) && said.starts_with("genuine: ") && said.contains("place 1 of the chain") && said.contains("\"status\":204"), "{said}");
    let (code, said) = verified(&receipts[1].json["result"].to_string(), &public);
    assert!(code == Some(0) && said.contains("place 2 of the chain"), "{said}");
    let changed = receipts[0].text.replacen("204", "200", 1);
    assert_ne!(changed, receipts[0].text);
    assert_eq!(verified(&changed, &public), (Some(1), "not genuine: no signature of it was made with one of these keys\n".to_owned()));
    let other = keys::make(&[8; 32]).unwrap().1;
    assert_eq!(verified(&receipts[0].text, &other.text), (Some(1), "not genuine: no signature of it was made with one of these keys\n".to_owned()));
    let (code, said) = verified("{}", &public);
    assert!(code == Some(2) && said.contains("receipt"), "{code:?} {said}");
}

/// Where a subscriber has said nothing but its name for the call, there is no excerpt.
#[tokio::test]
async fn what_was_not_said_is_in_no_receipt() {
    let (installation, public) = signing().await;
    let shop = installation.caller("shop").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let busy = axum::Router::new().fallback(async || (axum::http::StatusCode::SERVICE_UNAVAILABLE, [("x-request-id", "r-1")]));
    tokio::spawn(async move { axum::serve(listener, busy).await });
    assert_eq!(shop.post("/v1/webhooks", &json!({ "url": url, "event_types": "*" })).await.status, 201);
    assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    installation.deliver().await;
    let listed = shop.get("/v1/deliveries?status=failing").await;
    let path = format!("/v1/deliveries/{}/receipt", listed.json["results"][0]["id"].as_str().unwrap());
    let stated = |receipt: &Value| -> Value { serde_json::from_str(receipt["result"]["statement"].as_str().unwrap()).unwrap() };
    let made = shop.post_bytes(&path, "", &[]).await;
    let (statement, heard) = (stated(&made.json), r#""heard":{"request_id":"r-1"}"#);
    let record = statement["record"].as_str().unwrap();
    assert!(record.contains(heard), "{record}");
    assert_eq!(verified(&made.text, &public).0, Some(0));
}
