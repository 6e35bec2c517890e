//! What the platform and merchants see of money: accounts, top-ups, transactions, and payouts that are covered or not.

use std::collections::BTreeSet;

use domain::credential::{Reach, Scope};
use domain::id::PartyId;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Caller, Installation, payout, transaction};

const GBP: &str = "/v1/balances/GBP";

/// The platform, and an account of "shop" that holds so much.
async fn shop_with(installation: &Installation, minor: i64) -> Caller {
    let platform = installation.caller_with(|_| {}).await;
    let reply = platform.patch(GBP, &json!({ "party_id": "shop", "funding": "balance" })).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    if minor > 0 {
        let reply = platform.post("/v1/top-ups", &top_up(&transaction(), minor)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }
    platform
}

fn top_up(transaction_id: &str, minor: i64) -> Value {
    json!({ "transaction_id": transaction_id, "party_id": "shop", "currency": "GBP", "amount_in_minor": minor })
}

fn of(minor: i64) -> Value {
    let mut body = payout(&transaction());
    body["amount_in_minor"] = json!(minor);
    body
}

async fn balance(caller: &Caller) -> (i64, i64) {
    let reply = caller.get(GBP).await;
    let minor = |field: &str| reply.json["result"][field].as_i64().unwrap();
    (minor("available_balance_in_minor"), minor("current_balance_in_minor"))
}

/// Sixty are accepted; the others are answered 202 as well and told as rejected, as seed 003's provider does, and their webhooks say why.
#[tokio::test]
async fn a_hundred_payouts_at_once_take_what_is_there_and_no_more() {
    let installation = Installation::start().await;
    shop_with(&installation, 60 * 250).await;
    let shop = installation.caller("shop").await;
    let bodies: Vec<Value> = (0..100).map(|_| of(250)).collect();
    let replies = join_all(bodies.iter().map(|body| shop.post("/v1/payouts", body))).await;
    assert!(replies.iter().all(|reply| reply.status == 202), "{replies:?}");
    let states = |status: &str| replies.iter().filter(|reply| reply.json["result"]["status"] == status).count();
    assert_eq!((states("requested"), states("rejected")), (60, 40));
    let refused = replies.iter().find(|reply| reply.json["result"]["status"] == "rejected").unwrap();
    assert_eq!(refused.json["result"]["reason"], "insufficient_funds");
    assert_eq!(balance(&shop).await, (0, 15_000));

    let key = refused.json["result"]["transaction_id"].as_str().unwrap();
    let timeline = shop.get(&format!("/v1/payouts/{key}/timeline")).await;
    let events: Vec<_> = timeline.json["result"]["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(events, ["payout.requested", "payout.failed"]);

    // Whether its money comes in later or not: the decision stands, and a repeat is told it.
    let body = bodies.iter().find(|body| body["transaction_id"] == key).unwrap();
    let platform = installation.caller_with(|_| {}).await;
    platform.post("/v1/top-ups", &top_up(&transaction(), 250)).await;
    let again = shop.post("/v1/payouts", body).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")));
    assert_eq!(again.json["result"]["status"], "rejected");
    assert_eq!(balance(&shop).await, (250, 15_250));
    let canceled = replies.iter().find(|reply| reply.json["result"]["status"] == "requested").unwrap();
    let key = canceled.json["result"]["transaction_id"].as_str().unwrap();
    assert_eq!(shop.post(&format!("/v1/payouts/{key}/cancel"), &json!({})).await.status, 200);
    assert_eq!(balance(&shop).await, (500, 15_250), "what is canceled is there again");
}

/// An account as seed 003 shows it, with what the platform has said of it.
#[tokio::test]
async fn accounts_look_as_in_the_seed() {
    let installation = Installation::start().await;
    let platform = shop_with(&installation, 50_000_000).await;
    let shop = installation.caller("shop").await;
    let change = json!({ "party_id": "shop", "iban": "GB33BUKB20201555555555", "account_owner": "Owner Name", "version": 1 });
    assert_eq!(platform.patch(GBP, &change).await.status, 200);
    shop.post("/v1/payouts", &of(2_000)).await;
    let reply = shop.get("/v1/balances").await;
    let [account] = reply.json["results"].as_array().unwrap().as_slice() else { panic!("{reply:?}") };
    let shown = json!({
        "currency": account["currency"], "iban": account["iban"], "status": account["status"], "account_owner": account["account_owner"],
        "current_balance_in_minor": account["current_balance_in_minor"], "available_balance_in_minor": account["available_balance_in_minor"],
    });
    let seed = json!({
        "currency": "GBP", "iban": "GB33BUKB20201555555555", "status": "enabled", "account_owner": "Owner Name",
        "current_balance_in_minor": 50_000_000, "available_balance_in_minor": 49_998_000,
    });
    assert_eq!(shown, seed);
    let behind = platform.patch(GBP, &change).await;
    assert_eq!((behind.status, behind.problem()), (409, "version-stale"));

    platform.patch(GBP, &json!({ "party_id": "shop", "status": "disabled" })).await;
    let refused = shop.post("/v1/payouts", &of(1)).await;
    assert_eq!((refused.status, refused.json["result"]["reason"].as_str()), (202, Some("account_disabled")));
    let busy = platform.patch(GBP, &json!({ "party_id": "shop", "funding": "provider" })).await;
    assert_eq!((busy.status, busy.problem()), (409, "account-busy"));
    assert_eq!(shop.get("/v1/balances/eur").await.json["result"]["funding"], "provider", "one that nobody has set up");
    assert_eq!(shop.get("/v1/balances/XYZ").await.status, 404);
}

#[tokio::test]
async fn money_comes_in_by_the_word_of_the_platform_only_and_once() {
    let installation = Installation::start().await;
    let platform = shop_with(&installation, 0).await;
    let shop = installation.caller("shop").await;
    let key = transaction();
    let first = platform.post("/v1/top-ups", &top_up(&key, 700)).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None));
    let again = platform.post("/v1/top-ups", &top_up(&key, 700)).await;
    assert_eq!((again.status, again.header("idempotency-replayed"), &again.json), (201, Some("true"), &first.json));
    let other = platform.post("/v1/top-ups", &top_up(&key, 701)).await;
    assert_eq!((other.status, other.problem()), (422, "top-up-conflict"));
    assert_eq!(balance(&shop).await, (700, 700));

    let own = json!({ "transaction_id": transaction(), "currency": "GBP", "amount_in_minor": 1 });
    for reply in [shop.post("/v1/top-ups", &own).await, shop.patch(GBP, &json!({ "status": "enabled" })).await] {
        assert_eq!((reply.status, reply.problem()), (403, "missing-scope"));
    }
    let reader = installation.caller_with(|key| key.scopes = BTreeSet::from([Scope::BalancesRead, Scope::PayoutsWrite])).await;
    assert_eq!(reader.post("/v1/top-ups", &top_up(&transaction(), 1)).await.problem(), "missing-scope");
    let stranger = installation.caller_with(|key| key.reach = Reach::Party(PartyId::parse("other").unwrap())).await;
    assert_eq!(stranger.get("/v1/balances?party_id=shop").await.problem(), "other-party");
    assert_eq!(stranger.get("/v1/balances").await.json["results"], json!([]));

    let mut euros = top_up(&transaction(), 1);
    euros["currency"] = json!("EUR");
    let reply = platform.post("/v1/top-ups", &euros).await;
    assert_eq!((reply.status, reply.problem()), (409, "provider-funded"));
    let reply = platform.post("/v1/top-ups", &json!({ "transaction_id": "x", "currency": "gbp", "amount_in_minor": 0, "more": 1 })).await;
    assert_eq!(reply.status, 400);
    let named: BTreeSet<_> = reply.errors().into_iter().map(|(at, _)| at).collect();
    assert_eq!(named, BTreeSet::from(["/amount_in_minor", "/currency", "/more", "/transaction_id"]));
    let reply = platform.patch(GBP, &json!({ "party_id": "shop", "funding": "me", "status": "on", "iban": "GB00", "version": -1 })).await;
    let named: BTreeSet<_> = reply.errors().into_iter().map(|(at, _)| at).collect();
    assert_eq!(named, BTreeSet::from(["/funding", "/iban", "/status", "/version"]));
}

/// Keys that must sign sign these too: the body of a top-up, the whole request where the path says which account is meant.
#[tokio::test]
async fn what_brings_money_in_is_signed() {
    let installation = Installation::start().await;
    let (_, registered) = crate::support::signing_key("k1");
    let platform = installation
        .caller_with(|key| {
            key.must_sign = true;
            key.signing_keys = vec![registered];
        })
        .await;
    for reply in [platform.post("/v1/top-ups", &top_up(&transaction(), 1)).await, platform.patch(GBP, &json!({ "status": "enabled" })).await] {
        assert_eq!((reply.status, reply.problem()), (401, "signature-missing"));
    }
}

/// All transactions, in pages of every size: each once, newest first, whatever happens at the same instant.
#[tokio::test]
async fn transactions_are_listed_in_pages() {
    let installation = Installation::start().await;
    let platform = shop_with(&installation, 1_000_000).await;
    let shop = installation.caller("shop").await;
    for n in 0..7 {
        shop.post("/v1/payouts", &of(1_000 + n)).await;
        platform.post("/v1/top-ups", &top_up(&transaction(), 1 + n)).await;
    }
    let all = pages(&shop, "", 200).await;
    assert_eq!(all.len(), 15);
    for limit in [1, 2, 3, 7, 14, 15] {
        assert_eq!(pages(&shop, "", limit).await, all, "{limit}");
    }
    let kinds = |wanted: &str| all.iter().filter(|(kind, _)| kind == wanted).cloned().collect::<Vec<_>>();
    assert_eq!(pages(&shop, "&type=%22Payout%22&currency=%22gbp%22", 2).await, kinds("payout"), "as the seed's curl sends them");
    assert_eq!(pages(&shop, "&type=TopUp", 2).await, kinds("topup"));
    assert_eq!(pages(&shop, "&currency=EUR", 2).await, []);

    let seed = "/v1/transactions?from=%222019-10-01T17:00:00.0000000Z%22&to=%222019-10-02T17:00:00.0000000Z%22&type=%22Payout%22&currency=%22GBP%22";
    let reply = shop.get(seed).await;
    assert_eq!((reply.status, &reply.json), (200, &json!({ "results": [] })));
    let reply = shop.get("/v1/transactions?from=yesterday&type=refund&currency=x&limit=0").await;
    assert_eq!(reply.status, 400);
    let named: BTreeSet<_> = reply.errors().into_iter().collect();
    let expected =
        [("currency", "unknown_currency"), ("from", "not_an_instant"), ("limit", "out_of_range"), ("to", "missing"), ("type", "unknown_type")];
    assert_eq!(named, BTreeSet::from(expected));
}

/// Type and key of every transaction of a list, page by page.
async fn pages(caller: &Caller, query: &str, limit: usize) -> Vec<(String, String)> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/transactions?from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z&limit={limit}{query}{cursor}");
        let page = caller.get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        let items = page.json["results"].as_array().unwrap();
        assert!(items.len() <= limit, "{page:?}");
        let text = |item: &Value, field: &str| item[field].as_str().unwrap().to_owned();
        found.extend(items.iter().map(|item| (text(item, "type"), text(item, "transaction_id"))));
        match page.json["next_cursor"].as_str() {
            None => return found,
            Some(next) => cursor = format!("&cursor={next}"),
        }
    }
}
