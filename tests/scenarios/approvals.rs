//! Payouts that a second person must approve.

use domain::credential::{Reach, Scope};
use domain::id::PartyId;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use workers::store::freeze::Freeze;

use crate::support::{Caller, Installation, Plan, payout, signing_key, transaction};

/// From 100 pounds on.
async fn cautious() -> Installation {
    let approvals = json!([{ "currencies": ["GBP"], "amount_from": 10_000 }]);
    Installation::with(Plan { ingress: json!({ "approvals": approvals, "approval_hours": 24 }), ..Plan::default() }).await
}

/// A key of the shop that somebody holds.
async fn held_by(installation: &Installation, owner: &str) -> Caller {
    let change = |key: &mut domain::credential::ApiKey| {
        key.owner = owner.to_owned();
        key.reach = Reach::Party(PartyId::parse("shop").unwrap());
    };
    installation.caller_with(change).await
}

fn of(minor: i64) -> Value {
    let mut body = payout(&transaction());
    body["amount_in_minor"] = json!(minor);
    body
}

async fn ask(caller: &Caller, body: &Value) -> (String, Value) {
    let reply = caller.post("/v1/payouts", body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    (format!("/v1/payouts/{}", body["transaction_id"].as_str().unwrap()), reply.json["result"].clone())
}

async fn events(caller: &Caller, path: &str) -> Vec<String> {
    let timeline = caller.get(&format!("{path}/timeline")).await;
    timeline.json["result"]["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

/// Whoever asked, with whatever key, cannot approve; somebody else can, once, and is answered the same again.
#[tokio::test]
async fn somebody_else_approves() {
    let installation = cautious().await;
    let (maker, again, checker) = (held_by(&installation, "ann").await, held_by(&installation, "Ann ").await, held_by(&installation, "bob").await);
    assert_eq!(ask(&maker, &of(9_999)).await.1["status"], "requested");
    let (path, shown) = ask(&maker, &of(10_000)).await;
    assert_eq!(shown["status"], "awaiting_approval");
    assert!(shown["approve_by"].is_string() && shown["approval_requested_at"].is_string(), "{shown}");
    let rule = json!({ "name": "approvals[0]", "kind": "approval" });
    assert_eq!(shown["rule"], rule);
    let told = installation.store.timeline(shown["payout_id"].as_str().unwrap().parse().unwrap()).await.unwrap().unwrap().events;
    let rules = told.iter().map(|event| serde_json::from_str::<Value>(&event.body).unwrap()["data"]["rule"].clone()).collect::<Vec<_>>();
    assert_eq!(rules, [Value::Null, rule], "told where it is asked for");
    for own in [&maker, &again] {
        let reply = own.post(&format!("{path}/approve"), &json!({})).await;
        assert_eq!((reply.status, reply.problem()), (403, "second-person"));
    }
    for _ in 0..2 {
        let reply = checker.post(&format!("{path}/approve"), &json!({})).await;
        assert_eq!((reply.status, &reply.json["result"]["status"]), (200, &json!("requested")), "{reply:?}");
    }
    let third = held_by(&installation, "cid").await.post(&format!("{path}/approve"), &json!({})).await;
    assert_eq!((third.status, third.problem()), (409, "not-possible-now"));
    assert_eq!(
        events(&maker, &path).await,
        ["payout.requested", "payout.approval-required", "payout.requested"],
        "each change of the status is told"
    );
}

#[tokio::test]
async fn what_nobody_approves_is_canceled() {
    let installation = cautious().await;
    let (maker, checker) = (held_by(&installation, "ann").await, held_by(&installation, "bob").await);
    let (late, _) = ask(&maker, &of(10_000)).await;
    let (refused, _) = ask(&maker, &of(10_000)).await;
    let reply = checker.post(&format!("{refused}/cancel"), &json!({ "reason": "not_agreed" })).await;
    assert_eq!((reply.status, &reply.json["result"]["reason"]), (200, &json!("not_agreed")));
    installation.execute().await;
    assert_eq!(maker.get(&late).await.json["result"]["status"], "awaiting_approval", "there is time");
    installation.store.move_clock(Duration::from_secs(24 * 3_600)).await.unwrap();
    let reply = checker.post(&format!("{late}/approve"), &json!({})).await;
    assert_eq!((reply.status, reply.problem()), (409, "not-possible-now"), "the time is over, whether a worker has come by or not");
    let shards: Vec<_> = installation.store.shards().all().collect();
    let freeze = Freeze { reason: "a try".to_owned(), at_ms: installation.store.clock().now().as_millisecond(), epoch_seen: 0, nothing_lost: false };
    for shard in &shards {
        installation.store.freeze(*shard, &freeze).await.unwrap();
    }
    installation.execute().await;
    assert_eq!(maker.get(&late).await.json["result"]["status"], "awaiting_approval", "nobody's turn ends while dispatch is frozen");
    for shard in &shards {
        installation.store.thaw(*shard, Duration::ZERO).await.unwrap();
    }
    installation.store.move_clock(Duration::from_secs(60)).await.unwrap();
    installation.execute().await;
    let shown = maker.get(&late).await.json["result"].clone();
    assert_eq!((&shown["status"], &shown["reason"]), (&json!("canceled"), &json!("approval_expired")));
    assert_eq!(events(&maker, &late).await, ["payout.requested", "payout.approval-required", "payout.canceled"]);
}

/// Its money is kept for it meanwhile, and a batch's items wait like those that come alone.
#[tokio::test]
async fn what_waits_is_reserved_and_items_of_a_batch_wait_too() {
    let installation = cautious().await;
    let platform = installation.caller_with(|_| {}).await;
    platform.patch("/v1/balances/GBP", &json!({ "party_id": "shop", "funding": "balance" })).await;
    let top_up = json!({ "transaction_id": transaction(), "party_id": "shop", "currency": "GBP", "amount_in_minor": 25_000 });
    assert_eq!(platform.post("/v1/top-ups", &top_up).await.status, 201);
    let maker = held_by(&installation, "ann").await;
    let (_, first) = ask(&maker, &of(20_000)).await;
    assert_eq!(first["status"], "awaiting_approval");
    assert_eq!(ask(&maker, &of(6_000)).await.1["reason"], "insufficient_funds");
    let large = of(10_000);
    let batch = json!({ "batch_id": transaction(), "items": [large] });
    assert_eq!(maker.post("/v1/payouts/batches", &batch).await.status, 202);
    while installation.expand().await.unwrap() > 0 {}
    let path = format!("/v1/payouts/{}", large["transaction_id"].as_str().unwrap());
    assert_eq!(maker.get(&path).await.json["result"]["reason"], "insufficient_funds", "its money is not there either");
    let smaller = of(10_000);
    platform.post("/v1/top-ups", &json!({ "transaction_id": transaction(), "party_id": "shop", "currency": "GBP", "amount_in_minor": 5_000 })).await;
    let batch = json!({ "batch_id": transaction(), "items": [smaller] });
    assert_eq!(maker.post("/v1/payouts/batches", &batch).await.status, 202);
    while installation.expand().await.unwrap() > 0 {}
    let path = format!("/v1/payouts/{}", smaller["transaction_id"].as_str().unwrap());
    assert_eq!(maker.get(&path).await.json["result"]["status"], "awaiting_approval");
}

#[tokio::test]
async fn to_approve_needs_its_scope_and_its_signature() {
    let installation = cautious().await;
    let maker = held_by(&installation, "ann").await;
    let (path, _) = ask(&maker, &of(10_000)).await;
    let shop = Reach::Party(PartyId::parse("shop").unwrap());
    let writer = |key: &mut domain::credential::ApiKey| (key.scopes, key.reach) = (BTreeSet::from([Scope::PayoutsWrite]), shop.clone());
    let reply = installation.caller_with(writer).await.post(&format!("{path}/approve"), &json!({})).await;
    assert_eq!((reply.status, reply.problem()), (403, "missing-scope"));
    let (_, registered) = signing_key("k1");
    let signer = |key: &mut domain::credential::ApiKey| (key.must_sign, key.signing_keys, key.reach) = (true, vec![registered], shop.clone());
    let reply = installation.caller_with(signer).await.post(&format!("{path}/approve"), &json!({})).await;
    assert_eq!((reply.status, reply.problem()), (401, "signature-missing"));
    let stranger = installation.caller("other").await.post(&format!("{path}/approve"), &json!({})).await;
    assert_eq!(stranger.status, 404);
}
