//! The history of deliveries over the API. What is listed in which order is tested with the relay.

use serde_json::{Value, json};

use crate::support::{Installation, payout, transaction};

#[tokio::test]
async fn a_party_sees_its_own_deliveries_and_the_platform_everybodys() {
    let installation = Installation::start().await;
    let (shop, cafe, platform) = (installation.caller("shop").await, installation.caller("cafe").await, installation.caller_with(|_| {}).await);
    let hook = shop.post("/v1/webhooks", &json!({ "url": "https://hooks.example.com/", "event_types": "*" })).await;
    let subscription = hook.json["result"]["id"].as_str().unwrap().to_owned();
    let (first, second) = (transaction(), transaction());
    for id in [&first, &second] {
        assert_eq!(shop.post("/v1/payouts", &payout(id)).await.status, 202);
    }
    let page = shop.get("/v1/deliveries?limit=1&status=pending").await;
    let [listed] = &page.json["results"].as_array().unwrap()[..] else { panic!("{page:?}") };
    assert_eq!(
        (&listed["subscription_id"], &listed["event_type"], &listed["status"]),
        (&json!(subscription), &json!("payout.requested"), &json!("pending"))
    );
    assert!(listed.get("attempts").is_none() && !page.text.contains("John Smith") && !page.text.contains("GB33BUKB"));
    let next = page.json["next_cursor"].as_str().unwrap();
    let rest = shop.get(&format!("/v1/deliveries?limit=5&status=pending&cursor={next}")).await;
    let keys: Vec<&Value> = [listed].into_iter().chain(rest.json["results"].as_array().unwrap()).map(|told| &told["transaction_id"]).collect();
    assert_eq!((keys.len(), rest.json.get("next_cursor")), (2, None));
    assert!(keys.contains(&&json!(first)) && keys.contains(&&json!(second)));

    let count = async |caller: &crate::support::Caller, query: &str| {
        caller.get(&format!("/v1/deliveries?{query}")).await.json["results"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((count(&shop, "").await, count(&cafe, "").await, count(&platform, "party_id=shop").await), (2, 0, 2));
    assert_eq!(count(&shop, &format!("payout={first}")).await, 1);
    assert_eq!(count(&shop, &format!("payout={}", listed["payout_id"].as_str().unwrap())).await, 1);
    assert_eq!(count(&shop, &format!("subscription_id={subscription}&type=payout.*")).await, 2);
    assert_eq!((count(&shop, "type=payout.completed").await, count(&shop, "status=delivered").await), (0, 0));
    assert_eq!(cafe.get(&format!("/v1/deliveries?payout={}", listed["payout_id"].as_str().unwrap())).await.problem(), "not-found");
    assert_eq!(cafe.get("/v1/deliveries?party_id=shop").await.problem(), "other-party");

    let one = format!("/v1/deliveries/{}", listed["id"].as_str().unwrap());
    let read = shop.get(&one).await;
    assert_eq!((&read.json["result"]["attempts"], &read.json["result"]["event_id"]), (&json!([]), &listed["event_id"]));
    assert_eq!(platform.get(&one).await.status, 200);
    assert_eq!((cafe.get(&one).await.problem(), platform.get(&format!("{one}?party_id=cafe")).await.problem()), ("not-found", "not-found"));
    assert_eq!(shop.get("/v1/deliveries/dl_1").await.problem(), "not-found");
}

#[tokio::test]
async fn a_list_that_cannot_be_is_refused_by_name() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    for (query, at, code) in [
        ("status=waiting", "status", "unknown_status"),
        ("type=payout.x", "type", "unknown_event_type"),
        ("subscription_id=x", "subscription_id", "invalid"),
        ("cursor=x", "cursor", "invalid"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to", "out_of_range"),
        ("limit=0", "limit", "out_of_range"),
        ("page=1", "page", "unknown_parameter"),
    ] {
        assert_eq!(shop.get(&format!("/v1/deliveries?{query}")).await.errors(), [(at, code)], "{query}");
    }
}
