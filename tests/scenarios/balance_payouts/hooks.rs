//! `/v2/webhooks` and what their receivers are told.

use aws_lc_rs::hmac;
use domain::fact::{Reason, Status};
use domain::id::{Mode, PartyId, SubscriptionId};
use domain::signature::Secret;
use domain::subscription::{EventTypes, Secrets, Subscription};
use serde_json::{Value, json};
use workers::egress;

use super::Shop;
use crate::receiver::{Mood, Received, Receiver};
use crate::support::{Caller, Plan, Reply, random};

const HOOKS: &str = "/v2/webhooks";
const KINDS: [&str; 5] = ["payout.initiated", "payout.processing-at-bank", "payout.completed", "payout.canceled", "payout.failed"];

async fn shop() -> Shop {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
    Shop::at(Plan { egress, ..Plan::default() }, 100_000).await
}

fn wish(url: &str, kinds: &Value) -> Value {
    json!({ "name": "books", "url": url, "eventTypes": kinds })
}

async fn made(acme: &Caller, wish: &Value) -> Value {
    let reply = acme.post(HOOKS, wish).await;
    assert_eq!((reply.status, reply.header("content-type"), reply.header("cache-control")), (201, Some("application/hal+json"), Some("no-store")));
    assert_eq!(reply.header("location").unwrap(), format!("{HOOKS}/{}", reply.json["id"].as_str().unwrap()));
    reply.json
}

/// Status, code and field of a refusal.
fn refusal(reply: &Reply) -> (u16, &str, Option<&str>) {
    (reply.status, reply.json["code"].as_str().unwrap_or_default(), reply.json["field"].as_str())
}

fn signed(secret: &str, message: &Received) -> bool {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &message.body);
    message.header("x-mollie-signature") == format!("sha256={}", const_hex::encode(tag))
}

#[tokio::test]
async fn a_hook_is_made_read_changed_and_removed() {
    let shop = shop().await;
    let (acme, cafe) = (&shop.acme, shop.installation.caller("cafe").await);
    let hook = made(acme, &wish("https://hooks.example.com/", &json!("payout.failed"))).await;
    let id = hook["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("hook_") && hook["webhookSecret"].as_str().unwrap().len() == 32, "{hook}");
    let path = format!("{HOOKS}/{id}");
    let mut shown = hook.clone();
    shown.as_object_mut().unwrap().remove("webhookSecret");
    let expected = json!({
        "resource": "webhook", "id": id, "url": "https://hooks.example.com/", "profileId": null, "createdAt": hook["createdAt"], "name": "books",
        "eventTypes": ["payout.failed"], "status": "enabled", "mode": "test",
        "_links": { "self": { "href": path, "type": "application/hal+json" } },
    });
    assert_eq!(shown, expected);
    assert_eq!(acme.get(&path).await.json, shown, "the secret is shown once");
    assert_eq!(refusal(&cafe.get(&path).await), (404, "not_found", None));

    let changed = acme.patch(&path, &json!({ "name": "till", "eventTypes": "*", "url": "https://elsewhere.example/" })).await;
    assert_eq!((changed.status, &changed.json["name"], &changed.json["eventTypes"]), (200, &json!("till"), &json!(KINDS)));
    assert!(changed.json.get("webhookSecret").is_none());
    // The same subscription, where it can be paused.
    let own = format!("/v1/webhooks/{}", id.replace("hook_", "sub_"));
    let paused = acme.post_bytes(&format!("{own}/pause"), "", &[]).await.json["result"].clone();
    assert_eq!((&paused["payload"], &paused["url"]), (&json!("snapshot"), &json!("https://elsewhere.example/")));
    assert_eq!(acme.get(&path).await.json["status"], "disabled");
    let version = paused["version"].as_u64().unwrap();
    assert_eq!(acme.patch(&own, &json!({ "version": version, "payload": "thin" })).await.errors(), [("/payload", "not_allowed")]);
    for never in [json!(["payout.requested"]), json!(["payout.completed", "payout.authorised"]), json!(["payout.*", "webhook.*"])] {
        let refused = acme.patch(&own, &json!({ "version": version, "event_types": never })).await;
        assert_eq!((refused.status, refused.errors()), (400, vec![("/event_types", "not_allowed")]), "{never}");
    }
    // What begins so, or all, is what there is a word for.
    let types = |reply: &Reply| reply.json["result"]["event_types"].clone();
    let some = acme.patch(&own, &json!({ "version": version, "event_types": ["payout.completed"] })).await;
    assert_eq!((types(&some), &acme.get(&path).await.json["eventTypes"]), (json!(["payout.completed"]), &json!(["payout.completed"])));
    for (more, all) in (1..).zip([json!("*"), json!(["payout.*", "payout.failed"])]) {
        let all = acme.patch(&own, &json!({ "version": version + more, "event_types": all })).await;
        assert_eq!((types(&all), &acme.get(&path).await.json["eventTypes"]), (paused["event_types"].clone(), &json!(KINDS)));
    }
    let other = acme.post("/v1/webhooks", &json!({ "url": "https://hooks.example.com/", "event_types": "*" })).await;
    let other = format!("{HOOKS}/{}", other.json["result"]["id"].as_str().unwrap().replace("sub_", "hook_"));
    assert_eq!(acme.get(&other).await.status, 404, "one of the other kind");

    let second = made(acme, &wish("https://hooks.example.com/2", &json!(["payout.initiated", "payout.completed"]))).await;
    let ids = async |query: &str| {
        let page = acme.get(&format!("{HOOKS}{query}")).await.json;
        let webhooks = page["_embedded"]["webhooks"].as_array().unwrap().clone();
        assert!(webhooks.iter().all(|hook| hook.get("webhookSecret").is_none()));
        (webhooks.iter().map(|hook| hook["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), page["_links"]["next"]["href"].clone())
    };
    let newer = second["id"].as_str().unwrap().to_owned();
    assert_eq!(ids("").await.0, [newer.clone(), id.clone()]);
    assert_eq!(ids("?sort=asc").await.0, [id.clone(), newer.clone()]);
    assert_eq!(ids("?eventTypes=payout.canceled").await.0, std::slice::from_ref(&id));
    let (first, next) = ids("?limit=1").await;
    assert_eq!((first, next), (vec![newer.clone()], json!(format!("{HOOKS}?limit=1&from={id}"))));
    let last = acme.get(&format!("{HOOKS}?limit=1&from={id}")).await.json;
    assert_eq!((&last["_links"]["previous"]["href"], &last["_links"]["next"]), (&json!(format!("{HOOKS}?limit=1&from={newer}")), &Value::Null));
    assert_eq!(refusal(&acme.get(&format!("{HOOKS}?from=hook_1")).await).2, Some("from"));

    assert_eq!(acme.delete(&path).await.status, 204);
    // As Mollie says it; others have never heard of it.
    for again in [
        acme.delete(&path).await,
        acme.get(&path).await,
        acme.patch(&path, &json!({ "name": "x" })).await,
        acme.post_bytes(&format!("{path}/ping"), "", &[]).await,
    ] {
        assert_eq!((again.status, &again.json["detail"]), (422, &json!("This subscription was already deleted.")), "{again:?}");
    }
    assert_eq!(cafe.delete(&path).await.status, 404);
    assert_eq!(acme.delete(&format!("{HOOKS}/hook_{}", "0".repeat(28))).await.status, 404);
    assert_eq!(acme.delete(&other).await.status, 404);
}

/// A page looks at so many subscriptions only; links lead on to what is behind them, and back.
#[tokio::test]
async fn hooks_are_found_among_very_many_other_subscriptions() {
    let shop = shop().await;
    shop.installation.redis.say(&["CONFIG", "SET", "appendfsync", "no"]);
    let acme = &shop.acme;
    let hook = async |number: usize| {
        let hook = made(acme, &wish(&format!("https://hooks.example.com/{number}"), &json!("*"))).await;
        hook["id"].as_str().unwrap().to_owned()
    };
    let old = hook(1).await;
    let (store, party) = (&shop.installation.store, PartyId::parse("acme").unwrap());
    for _ in 0..1_050 {
        let id = SubscriptionId::new(store.shards().of(&party, Mode::Test), random());
        let url = "https://hooks.example.com/".to_owned();
        let other = Subscription::new(id, party.clone(), Mode::Test, url, EventTypes::All, store.clock().now());
        store.subscribe(&other, Some(&Secrets::new(Secret::from_bytes(&[7; 32]).unwrap()))).await.unwrap();
    }
    let new = hook(2).await;
    for (sort, expected) in [("desc", [&new, &old]), ("asc", [&old, &new])] {
        for (direction, expected) in [("next", expected), ("previous", [expected[1], expected[0]])] {
            let mut href = match direction {
                "next" => format!("{HOOKS}?sort={sort}"),
                _ => format!("{HOOKS}?sort={sort}&from={}", expected[0]),
            };
            let (mut found, mut pages) = (Vec::new(), 0);
            loop {
                let page = acme.get(&href).await.json;
                found.extend(page["_embedded"]["webhooks"].as_array().unwrap().iter().map(|hook| hook["id"].as_str().unwrap().to_owned()));
                pages += 1;
                let Some(next) = page["_links"][direction]["href"].as_str() else { break };
                href = next.to_owned();
            }
            assert_eq!((found, pages > 1), (expected.map(String::clone).to_vec(), true), "{sort} {direction}");
        }
    }
}

#[tokio::test]
async fn a_hook_that_cannot_be_is_refused_in_their_shape() {
    let shop = shop().await;
    let url = "https://hooks.example.com/";
    for (body, field, code) in [
        (wish("http://10.0.0.1/", &json!("*")), "url", "invalid_fields"),
        (wish(url, &json!("payout.requested")), "eventTypes.0", "invalid_fields"),
        (wish(url, &json!(["payout.failed", "payout.returned"])), "eventTypes.1", "invalid_fields"),
        (wish(url, &json!([])), "eventTypes", "invalid_fields"),
        (json!({ "url": url, "eventTypes": "*" }), "name", "invalid_fields"),
        (json!({ "name": "books", "url": url, "eventTypes": "*", "testmode": true }), "testmode", "invalid_fields"),
        (json!({ "name": "books", "url": url, "eventTypes": "*", "event_types": "*" }), "event_types", "invalid_fields"),
    ] {
        assert_eq!(refusal(&shop.acme.post(HOOKS, &body).await), (422, code, Some(field)), "{body}");
    }
    for (name, url, detail) in [
        (
            "books",
            "hooks.example.com",
            "The 'url' field is not allowed: the URL must be absolute, such as https://example.com/webhooks, without spaces and backslashes.",
        ),
        ("books", "http://10.0.0.1/", "The 'url' field is not allowed: the host has an address of a private network."),
        (
            "bo\u{202e}oks",
            url,
            "The 'name' field must be 1 to 64 characters, without control characters, line breaks or marks that change the direction of writing.",
        ),
    ] {
        let refused = shop.acme.post(HOOKS, &json!({ "name": name, "url": url, "eventTypes": "*" })).await;
        assert_eq!((refused.status, &refused.json["detail"]), (422, &json!(detail)));
    }
    let nobody = shop.acme.get(&format!("{HOOKS}?party_id=a%20b")).await;
    assert!(nobody.json["detail"].as_str().unwrap().starts_with("The 'party_id' field must be "), "{nobody:?}");
    assert_eq!(refusal(&shop.acme.get(&format!("{HOOKS}?testmode=true")).await).2, Some("testmode"));
    assert_eq!(shop.acme.get("/v2/events/event_1").await.status, 404);
}

/// What is taken back at its provider is told by the type that says what `GET` shows, whether a receiver asked for that one alone or for all.
#[tokio::test]
async fn what_is_canceled_at_its_provider_is_told_as_it_is_shown() {
    let shop = shop().await;
    let (all, only) = (Receiver::start().await, Receiver::start().await);
    made(&shop.acme, &wish(&all.url, &json!("*"))).await;
    made(&shop.acme, &wish(&only.url, &json!("payout.canceled"))).await;
    let payout = shop.asked(Some("10.00")).await;
    shop.next_day().await;
    shop.installation.execute().await;
    shop.reported(&payout, Status::Authorised).await;
    shop.reported(&payout, Status::Canceled { reason: Reason::new("canceled_there") }).await;
    shop.installation.deliver().await;
    let shown = shop.read(&payout).await;
    let [initiated, canceled] = &all.take()[..] else { panic!("two messages") };
    assert_eq!((&initiated.json()["type"], &canceled.json()["type"]), (&json!("payout.initiated"), &json!("payout.canceled")));
    assert_eq!((&shown["status"], &canceled.json()["_embedded"]["entity"]), (&json!("canceled"), &shown));
    let [told] = &only.take()[..] else { panic!("one message") };
    assert_eq!(told.json()["id"], canceled.json()["id"]);
}

/// Five types, the payout inside, one signature over the body; and a return is a failure.
#[tokio::test]
async fn a_receiver_is_told_in_their_shape() {
    let shop = shop().await;
    let receiver = Receiver::start().await;
    let hook = made(&shop.acme, &wish(&receiver.url, &json!("*"))).await;
    let only = Receiver::start().await;
    made(&shop.acme, &wish(&only.url, &json!("payout.failed"))).await;
    let secret = hook["webhookSecret"].as_str().unwrap();
    let payout = shop.asked(Some("10.00")).await;
    shop.next_day().await;
    shop.installation.execute().await;
    let reason = Reason::new("account_closed");
    for said in [Status::Authorised, Status::Submitted, Status::Settled, Status::Returned { reason }] {
        shop.reported(&payout, said).await;
    }
    receiver.mood(Mood::Status(500));
    assert_eq!(shop.installation.deliver().await, 2);
    receiver.mood(Mood::Status(200));
    shop.installation.store.move_clock(std::time::Duration::from_secs(6)).await.unwrap();
    shop.installation.deliver().await;
    let told = receiver.take();
    let kinds: Vec<_> = told.iter().map(|message| message.json()["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["payout.initiated", "payout.initiated", "payout.processing-at-bank", "payout.completed", "payout.failed"]);
    assert_eq!(told[0].body, told[1].body, "a repeat is the same, byte for byte");
    for message in &told {
        assert!(signed(secret, message), "{:?}", message.headers);
        assert_eq!((message.header("webhook-signature"), message.header("content-type")), ("", "application/json"));
        let event = message.json();
        assert_eq!((&event["resource"], &event["entityId"], &event["_embedded"]["entity"]["id"]), (&json!("event"), &payout["id"], &payout["id"]));
        let read = shop.acme.get(&format!("/v2/events/{}", event["id"].as_str().unwrap())).await;
        assert_eq!((read.status, read.text.as_bytes()), (200, &message.body[..]), "the event is read as it was told");
        assert_eq!(event["_links"]["self"]["href"], format!("/v2/events/{}", event["id"].as_str().unwrap()));
    }
    // As it stood then, and by now as `GET` shows it.
    let entity = |number: usize| told[number].json()["_embedded"]["entity"].clone();
    assert_eq!((&entity(1)["status"], &entity(3)["status"]), (&json!("initiated"), &json!("completed")));
    assert_eq!(entity(4), shop.read(&payout).await);
    assert_eq!((&entity(4)["status"], &entity(4)["statusReason"]["code"]), (&json!("failed"), &json!("returned")));
    let [failure] = &only.take()[..] else { panic!("one message") };
    assert_eq!((&failure.json()["type"], failure.json()["id"] == told[4].json()["id"]), (&json!("payout.failed"), true));
    assert!(!signed(secret, failure), "each has a secret of its own");
    // What has no word in their language has no event either.
    let sequence = |number: u32| format!("/v2/events/{}_{number}", payout["id"].as_str().unwrap().replace("payout_", "event_"));
    assert_eq!(shop.acme.get(&sequence(1)).await.status, 404);
    let cafe = shop.installation.caller("cafe").await;
    let known = told[4].json()["id"].as_str().unwrap().to_owned();
    assert_eq!(cafe.get(&format!("/v2/events/{known}")).await.status, 404);
}

#[tokio::test]
async fn a_ping_is_signed_as_everything() {
    let shop = shop().await;
    let receiver = Receiver::start().await;
    let hook = made(&shop.acme, &wish(&receiver.url, &json!("*"))).await;
    let path = format!("{HOOKS}/{}", hook["id"].as_str().unwrap());
    let pinged = shop.acme.post_bytes(&format!("{path}/ping"), "", &[]).await;
    assert_eq!((pinged.status, pinged.text.as_str()), (202, ""));
    let [message] = &receiver.take()[..] else { panic!("one message") };
    assert!(signed(hook["webhookSecret"].as_str().unwrap(), message));
    assert_eq!((&message.json()["type"], &message.json()["entityId"]), (&json!("hook.ping"), &hook["id"]));
    crate::openapi::is_message("HookPing", &message.json());
    // A new secret is shown in the form of the first one, and both sign for a while.
    let rotated = shop.acme.post_bytes(&format!("/v1/webhooks/{}/rotate", hook["id"].as_str().unwrap().replace("hook_", "sub_")), "", &[]).await;
    assert_eq!(rotated.json["result"]["secret"].as_str().unwrap().len(), 32, "{rotated:?}");
    shop.acme.post_bytes(&format!("{path}/ping"), "", &[]).await;
    assert_eq!(receiver.take()[0].headers.get_all("x-mollie-signature").iter().count(), 2);
}
