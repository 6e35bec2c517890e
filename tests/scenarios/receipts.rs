//! Receipts the whole way: delivered, made, read again, found in the chain, verified by the tool; and refused once a byte of them is another one.

use std::process::Command;

use serde_json::{Value, json};
use workers::egress;
use workers::relay::keys::{self, SigningKeys};

use crate::receiver::{Mood, Receiver};
use crate::support::{Caller, Installation, Plan, payout, transaction};
use domain::credential::{Reach, Scope};
use domain::id::PartyId;

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

#[tokio::test]
async fn a_receipt_is_made_found_in_the_chain_and_verified() {
    let (private, public) = keys::make(&[7; 32]).unwrap();
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
    let signing_keys = SigningKeys::read([private.as_str()]).unwrap();
    let installation = Installation::with(Plan { egress, signing_keys, ..Plan::default() }).await;
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
    assert!(published.text.contains(&public.text));
    let (code, said) = verified(&receipts[0].text, &public.text);
    assert!(code == Some(0) && said.starts_with("genuine: ") && said.contains("place 1 of the chain") && said.contains("\"status\":204"), "{said}");
    let (code, said) = verified(&receipts[1].json["result"].to_string(), &public.text);
    assert!(code == Some(0) && said.contains("place 2 of the chain"), "{said}");
    let changed = receipts[0].text.replacen("204", "200", 1);
    assert_ne!(changed, receipts[0].text);
    assert_eq!(verified(&changed, &public.text), (Some(1), "not genuine: no signature of it was made with one of these keys\n".to_owned()));
    let other = keys::make(&[8; 32]).unwrap().1;
    assert_eq!(verified(&receipts[0].text, &other.text), (Some(1), "not genuine: no signature of it was made with one of these keys\n".to_owned()));
    let (code, said) = verified("{}", &public.text);
    assert!(code == Some(2) || code == Some(1), "{code:?} {said}");
    assert!(said.contains("receipt"), "{said}");
}
