//! One event to a thousand subscriptions over real sockets, at the size limit, and what a party then sees of it.

use domain::id::{Mode, PartyId, SubscriptionId};
use domain::signature::Secret;
use domain::subscription::{EventTypes, Payload, Secrets, Subscription};
use serde_json::{Value, json};
use workers::egress;

use crate::receiver::Receiver;
use crate::support::{Installation, Plan, payout, random, transaction};

const THOUSAND: usize = 1_000;
/// `ingress.body_max_bytes`.
const BODY_MAX: usize = 65_536;

/// The largest request that is taken: all that metadata may hold, in characters of four bytes, and the rest is white space.
fn largest(id: &str) -> String {
    let mut asked = payout(id);
    let value = "\u{1f4b6}".repeat(500);
    asked["metadata"] = (0..20).map(|number| (format!("{:x<38}{number:02}", ""), json!(value))).collect::<serde_json::Map<_, _>>().into();
    let text = asked.to_string();
    format!("{text}{:1$}", "", BODY_MAX - text.len())
}

async fn installation() -> Installation {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
    let ingress = json!({ "webhooks": { "subscriptions_max": THOUSAND } });
    let at = Installation::with(Plan { live: false, egress, ingress, ..Plan::default() }).await;
    // For thousands of writes: what is on the disk is not looked at.
    at.redis.say(&["CONFIG", "SET", "appendfsync", "no"]);
    at
}

fn secret() -> Secret {
    Secret::from_bytes(&[7; 32]).unwrap()
}

/// Subscriptions of a party, each at a path of its own.
async fn subscribe(at: &Installation, party: &str, sink: &Receiver, count: usize, payload: Payload) {
    let (party, secrets) = (PartyId::parse(party).unwrap(), Secrets::new(secret()));
    for number in 0..count {
        let id = SubscriptionId::new(at.store.shards().of(&party, Mode::Test), random());
        let url = format!("{}/{number}", sink.url);
        let subscription = Subscription::new(id, party.clone(), Mode::Test, url, EventTypes::All, at.store.clock().now());
        at.store.subscribe(&Subscription { payload, ..subscription }, Some(&secrets)).await.unwrap();
    }
}

/// Delivers what is due, and gives what came: once to each, and signed while that went on.
async fn heard(at: &Installation, sink: &Receiver, count: usize) -> Vec<Value> {
    let began_s = at.store.clock().now().as_second();
    assert_eq!(at.deliver().await, count + 1, "each, and the fan-out");
    let (messages, ended_s) = (sink.take(), at.store.clock().now().as_second());
    let paths: std::collections::BTreeSet<_> = messages.iter().map(|message| &message.path).collect();
    assert_eq!((messages.len(), paths.len()), (count, count));
    for message in &messages {
        let timestamp: i64 = message.header("webhook-timestamp").parse().unwrap();
        assert!((began_s..=ended_s).contains(&timestamp));
        assert_eq!(message.verify(&secret(), timestamp), Ok(()));
    }
    messages.iter().map(crate::receiver::Received::json).collect()
}

#[tokio::test]
async fn the_largest_event_comes_to_all() {
    let (at, sink) = (installation().await, Receiver::start().await);
    let shop = at.caller("shop").await;
    subscribe(&at, "shop", &sink, 20, Payload::Full).await;
    let id = transaction();
    let asked = largest(&id);
    let refused = shop.post_bytes("/v1/payouts", format!("{asked} "), &[]).await;
    assert_eq!(refused.status, 413);
    let opened = shop.post_bytes("/v1/payouts", asked.clone(), &[]).await;
    assert_eq!((asked.len(), opened.status), (BODY_MAX, 202), "{opened:?}");
    let sent: Value = serde_json::from_str(&asked).unwrap();
    for message in heard(&at, &sink, 20).await {
        let data = &message["data"];
        assert_eq!((&data["transaction_id"], &data["metadata"]), (&json!(id), &sent["metadata"]));
        assert!(data["destination"].is_string());
    }
}

#[tokio::test]
async fn a_thousand_subscriptions_are_told() {
    let (at, sink) = (installation().await, Receiver::start().await);
    let shop = at.caller("shop").await;
    subscribe(&at, "shop", &sink, THOUSAND, Payload::Thin).await;
    let full = shop.post("/v1/webhooks", &json!({ "url": "https://hooks.example.com/", "event_types": "*" })).await;
    assert_eq!((full.status, full.problem()), (409, "subscriptions-full"));
    let id = transaction();
    assert_eq!(shop.post("/v1/payouts", &payout(&id)).await.status, 202);
    assert!(heard(&at, &sink, THOUSAND).await.iter().all(|message| message["data"]["transaction_id"] == id));

    // What is shown of it is bounded, and all of it can be paged through.
    let timeline = shop.get(&format!("/v1/payouts/{id}/timeline")).await.json["result"].clone();
    let length = |list: &Value| list.as_array().map_or(0, Vec::len);
    let event = timeline["events"][0]["id"].as_str().unwrap().to_owned();
    let shown = shop.get(&format!("/v1/events/{event}")).await.json["result"].clone();
    assert_eq!((length(&timeline["deliveries"]), length(&shown["deliveries"])), (250, 250));
    let seen_in = |shown: &Value| -> std::collections::BTreeSet<String> {
        shown["deliveries"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let cursor_of = |shown: &Value| format!("&cursor={}", shown["deliveries_next_cursor"].as_str().unwrap());
    let by_payout = format!("/v1/deliveries?payout={id}&limit=200");
    let by_event = format!("/v1/deliveries?event_id={event}&limit=200");
    let none = std::collections::BTreeSet::new();
    for (list, mut seen, mut cursor, expected) in [
        (&by_payout, seen_in(&timeline), cursor_of(&timeline), 4),
        (&by_event, seen_in(&shown), cursor_of(&shown), 4),
        (&by_event, none.clone(), String::new(), 5),
        (&by_payout, none.clone(), String::new(), 5),
        (&"/v1/webhooks?limit=200".to_owned(), none.clone(), String::new(), 5),
    ] {
        let mut pages = 0;
        loop {
            let page = shop.get(&format!("{list}{cursor}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            let results = page.json["results"].as_array().unwrap().iter();
            assert!(results.map(|item| item["id"].as_str().unwrap().to_owned()).all(|id| seen.insert(id)), "each once");
            pages += 1;
            let Some(next) = page.json["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!((seen.len(), pages), (THOUSAND, expected), "{list}");
    }
    for status in ["pending", "failing", "abandoned"] {
        assert_eq!(shop.get(&format!("/v1/deliveries?status={status}")).await.errors(), [("subscription_id", "required")]);
        let one = shop.get(&format!("/v1/deliveries?status={status}&payout={id}")).await;
        assert_eq!((one.status, length(&one.json["results"])), (200, 0));
    }
    assert_eq!(shop.get("/v1/webhooks?cursor=x&limit=0").await.errors(), [("limit", "out_of_range"), ("cursor", "invalid")]);
}
