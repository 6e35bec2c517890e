//! Limits of velocity, new beneficiaries and equal payouts, as callers meet them: alone, in batches, out of balances and by schedules.

use domain::credential::Reach;
use domain::fact::{Reason, Source};
use domain::id::{Mode, PartyId, PayoutId};
use domain::payout::{Fact, What};
use futures_util::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::{Caller, Installation, Plan, payout, transaction};

async fn with(ingress: Value) -> (Installation, Caller) {
    let installation = Installation::with(Plan { ingress, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    (installation, shop)
}

#[expect(clippy::needless_pass_by_value, reason = "limits read better without borrows")]
fn limit(change: Value) -> Value {
    let mut limit = json!({ "scope": "party", "currency": "GBP", "hours": 24, "beyond": "reject" });
    limit.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    limit
}

fn of(minor: i64) -> Value {
    let mut body = payout(&transaction());
    body["amount_in_minor"] = json!(minor);
    body
}

fn key(body: &Value) -> &str {
    body["transaction_id"].as_str().unwrap()
}

/// The status of a payout, and why.
async fn stands(caller: &Caller, body: &Value) -> (String, String) {
    let shown = caller.get(&format!("/v1/payouts/{}", key(body))).await.json["result"].clone();
    (shown["status"].as_str().unwrap_or_default().to_owned(), shown["reason"].as_str().unwrap_or_default().to_owned())
}

/// Something happens to a payout behind its caller's back.
async fn happens(installation: &Installation, body: &Value, what: What) {
    let (store, recorder) = (&installation.store, &installation.recorder);
    let id = PayoutId::derive(&PartyId::parse("shop").unwrap(), Mode::Test, key(body), store.shards());
    let payout = store.load(id).await.unwrap().unwrap();
    recorder.record(payout, &Fact::new(Source::Worker, what)).await.unwrap();
}

async fn becomes_inconclusive(installation: &Installation, body: &Value) {
    let send_by = installation.store.clock().now().saturating_add(SignedDuration::from_secs(10)).unwrap();
    happens(installation, body, What::Initiate { send_by, aside_until: None }).await;
    happens(installation, body, What::NoAnswer { attempt: 1, send: 1, why: Reason::new("lost") }).await;
}

/// Requests at once, and then a batch: together they get no further than the limit.
#[tokio::test]
async fn requests_and_batches_share_a_limit() {
    let (installation, shop) = with(json!({ "limits": [limit(json!({ "amount_max": 1_000 }))] })).await;
    let bodies: Vec<Value> = (0..12).map(|_| of(100)).collect();
    let replies = join_all(bodies.iter().take(6).map(|body| shop.post("/v1/payouts", body))).await;
    assert!(replies.iter().all(|reply| reply.status == 202 && reply.json["result"]["status"] == "requested"), "{replies:?}");
    let batch = json!({ "batch_id": transaction(), "items": bodies[6..] });
    assert_eq!(shop.post("/v1/payouts/batches", &batch).await.status, 202);
    while installation.expand().await.unwrap() > 0 {}
    let stood = join_all(bodies[6..].iter().map(|body| stands(&shop, body))).await;
    let exceeded = ("rejected".to_owned(), "limit_exceeded".to_owned());
    assert_eq!(stood.iter().filter(|stood| **stood == exceeded).count(), 2, "{stood:?}");
    // A repeat is answered as before, and what is canceled makes room.
    assert_eq!(shop.post("/v1/payouts", &bodies[0]).await.json["result"]["status"], "requested");
    let refused = shop.post("/v1/payouts", &of(100)).await.json["result"].clone();
    assert_eq!((&refused["reason"], &refused["rule"]), (&json!("limit_exceeded"), &json!({ "name": "limits[0]", "kind": "party_limit" })));
    let told = installation.store.timeline(refused["payout_id"].as_str().unwrap().parse().unwrap()).await.unwrap().unwrap().events;
    let last: Value = serde_json::from_str(&told.last().unwrap().body).unwrap();
    assert_eq!((&last["type"], &last["data"]["rule"]["name"]), (&json!("payout.failed"), &json!("limits[0]")));
    assert_eq!(shop.post(&format!("/v1/payouts/{}/cancel", key(&bodies[0])), &json!({})).await.status, 200);
    assert_eq!(shop.post("/v1/payouts", &of(100)).await.json["result"]["status"], "requested");
    let other = installation.caller("other").await;
    assert_eq!(other.post("/v1/payouts", &of(1_000)).await.json["result"]["status"], "requested", "it has a limit of its own");
}

/// Beyond a limit of approval, and to an account that is new, a second person is asked, of batches too.
#[tokio::test]
async fn beyond_a_limit_and_to_a_new_account_a_second_person_is_asked() {
    let limits = json!([limit(json!({ "scope": "beneficiary", "count_max": 1, "beyond": "approve" }))]);
    let (installation, shop) = with(json!({ "limits": limits })).await;
    let (first, second) = (of(1), of(2));
    let batch = json!({ "batch_id": transaction(), "items": [first, second] });
    assert_eq!(shop.post("/v1/payouts/batches", &batch).await.status, 202);
    while installation.expand().await.unwrap() > 0 {}
    let mut stood = [stands(&shop, &first).await.0, stands(&shop, &second).await.0];
    stood.sort();
    assert_eq!(stood, ["awaiting_approval", "requested"]);
    let third = shop.post("/v1/payouts", &of(3)).await.json["result"].clone();
    assert_eq!(third["status"], "awaiting_approval");
    assert!(third["approve_by"].is_string());
    assert_eq!(third["rule"]["kind"], "beneficiary_limit");

    let (installation, shop) = with(json!({ "approvals": [{ "new_beneficiary": true, "currencies": ["GBP"] }] })).await;
    let (first, second) = (of(1), of(2));
    assert_eq!(shop.post("/v1/payouts", &first).await.json["result"]["status"], "awaiting_approval");
    let checker = installation.caller_with(|key| (key.owner, key.reach) = ("bob".to_owned(), Reach::Party(PartyId::parse("shop").unwrap()))).await;
    let approve = format!("/v1/payouts/{}/approve", key(&first));
    assert_eq!(shop.post(&approve, &json!({})).await.problem(), "second-person");
    assert_eq!(checker.post(&approve, &json!({})).await.json["result"]["status"], "requested");
    // The provider is nowhere, and the intent to send there is enough.
    installation.execute().await;
    assert_eq!(shop.post("/v1/payouts", &second).await.json["result"]["status"], "requested");
}

/// A payout whose outcome is unknown is not asked for again in other words, and one that has ended is replaced by name.
#[tokio::test]
async fn an_equal_payout_is_refused_and_an_ended_one_is_replaced() {
    let (installation, shop) = with(json!({})).await;
    let (first, second) = (of(5), of(5));
    assert_eq!(shop.post("/v1/payouts", &first).await.status, 202);
    becomes_inconclusive(&installation, &first).await;
    let refused = shop.post("/v1/payouts", &second).await;
    assert_eq!((refused.status, refused.problem()), (409, "twin-unresolved"));
    assert!(refused.json["detail"].as_str().unwrap().contains(key(&first)), "{refused:?}");
    let mut replacing = second.clone();
    replacing["replaces"] = first["transaction_id"].clone();
    let refused = shop.post("/v1/payouts", &replacing).await;
    assert_eq!((refused.status, refused.problem()), (409, "not-replaceable"));
    let batch = json!({ "batch_id": transaction(), "items": [second, of(6)] });
    assert_eq!(shop.post("/v1/payouts/batches", &batch).await.status, 202);
    while installation.expand().await.unwrap() > 0 {}
    let items = shop.get(&format!("/v1/payouts/batches/{}/items", batch["batch_id"].as_str().unwrap())).await.json;
    let item = &items["results"][0];
    assert_eq!((&item["result"], &item["problem"]["status"]), (&json!("twin_unresolved"), &json!(409)), "{items}");
    assert_eq!(items["results"][1]["result"], "opened");

    happens(&installation, &first, What::Refused { attempt: 1, send: 1, reason: Reason::new("closed") }).await;
    happens(&installation, &first, What::NeverDone { attempt: 1, send: 1, reason: Reason::new("closed") }).await;
    assert_eq!(stands(&shop, &first).await.0, "rejected");
    let accepted = shop.post("/v1/payouts", &replacing).await;
    assert_eq!((accepted.status, &accepted.json["result"]["replaces"]), (202, &first["transaction_id"]), "{accepted:?}");
    let again = shop.post("/v1/payouts", &second).await;
    assert_eq!((again.status, again.problem()), (422, "key-conflict"), "to replace is another request than not to");
}

#[tokio::test]
async fn whoever_wants_no_guard_gets_none() {
    let (installation, shop) = with(json!({ "refuse_twins": false })).await;
    let first = of(5);
    assert_eq!(shop.post("/v1/payouts", &first).await.status, 202);
    becomes_inconclusive(&installation, &first).await;
    assert_eq!(shop.post("/v1/payouts", &of(5)).await.status, 202);
}
