//! What a party can wish of a subscription, over the API; how deliveries go by it is tested with the relay.

mod challenge;

use std::time::Duration;

use domain::signature::Secret;
use payrelay::subscriber::Subscriber;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use workers::egress;

use crate::receiver::Receiver;
use crate::support::{Caller, Installation, Plan, payout, transaction};

fn wishes() -> Value {
    json!({
        "url": "https://hooks.example.com/",
        "event_types": ["payout.*"],
        "name": "books",
        "description": "for the books",
        "metadata": { "region": "eu" },
        "ordering": "none",
        "payload": "full",
        "max_in_flight": 3,
        "rate_per_s": 50,
        "retry_waits_s": [5, 60],
        "retry_max_age_s": 3600,
        "payload_version": 1,
    })
}

async fn made(shop: &Caller, wishes: &Value) -> (String, Value) {
    let made = shop.post("/v1/webhooks", wishes).await;
    assert_eq!(made.status, 201, "{made:?}");
    (made.header("location").unwrap().to_owned(), made.json["result"].clone())
}

async fn patch(shop: &Caller, path: &str, body: &Value) -> crate::support::Reply {
    let request = shop.request(reqwest::Method::PATCH, path).header("content-type", "application/json").body(body.to_string());
    shop.send(request).await
}

#[tokio::test]
async fn every_wish_is_kept_shown_and_changed_by_version() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let mut asked = wishes();
    asked["headers"] = json!({ "X-Api-Key": "of-the-merchant" });
    let (path, shown) = made(&shop, &asked).await;
    for (name, value) in wishes().as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
    assert_eq!((&shown["header_names"], &shown["version"]), (&json!(["x-api-key"]), &json!(1)));

    let changed = patch(
        &shop,
        &path,
        &json!({ "version": 1, "description": "", "rate_per_s": 0, "retry_waits_s": [], "retry_max_age_s": 0, "metadata": {}, "ordering": "strict" }),
    )
    .await;
    let result = &changed.json["result"];
    assert_eq!((changed.status, &result["version"], &result["ordering"]), (200, &json!(2), &json!("strict")));
    assert!(["description", "rate_per_s", "retry_waits_s", "retry_max_age_s", "metadata"].iter().all(|name| result.get(name).is_none()), "{result}");
    assert_eq!((&result["name"], &result["header_names"]), (&json!("books"), &json!(["x-api-key"])), "the rest stays");
    assert_eq!(patch(&shop, &path, &json!({ "version": 1, "name": "x" })).await.problem(), "version-stale");
    assert_eq!(patch(&shop, &path, &json!({ "name": "x" })).await.errors(), [("/version", "missing")]);
    let moved = patch(&shop, &path, &json!({ "version": 2, "url": "https://elsewhere.example/hooks" })).await;
    assert_eq!(moved.errors(), [("/headers", "required")], "what headers hold is not told to another address");
    let without = patch(&shop, &path, &json!({ "version": 2, "headers": {} })).await;
    assert!(without.json["result"].get("header_names").is_none());
    for reply in [shop.get(&path).await, shop.get("/v1/webhooks").await, changed, without] {
        assert!(!reply.text.contains("of-the-merchant"), "{}", reply.text);
    }
    // Nor is it in the store as it was sent.
    let id = path.rsplit_once('/').unwrap().1;
    let shard = &id[4..6];
    let stored = installation.redis.say(&["HGETALL", &format!("t:{{s{shard}}}:sub:{id}")]);
    assert!(stored.contains("payout.*") && !stored.contains("of-the-merchant"), "{stored}");
}

/// In a change; in a body that makes one, `null` is nothing.
#[tokio::test]
async fn null_takes_away_what_need_not_be_there() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let mut asked = wishes();
    asked["headers"] = json!({ "X-Api-Key": "of-the-merchant" });
    let certified = rcgen::generate_simple_self_signed(["client.example".to_owned()]).unwrap();
    asked["client_certificate"] = json!({ "certificate": certified.cert.pem(), "key": certified.signing_key.serialize_pem() });
    let (path, shown) = made(&shop, &asked).await;
    assert!(shown["client_certificate"]["fingerprint"].is_string(), "{shown}");

    for name in ["url", "event_types", "ordering", "payload", "signatures", "payload_version"] {
        let refused = patch(&shop, &path, &json!({ "version": 1, name: null })).await;
        assert_eq!((refused.status, refused.errors()), (400, vec![(&*format!("/{name}"), "wrong_type")]), "{name}");
    }
    assert_eq!(shop.get(&path).await.json["result"]["version"], 1, "nothing was changed");

    let optional = [
        ("name", "name"),
        ("description", "description"),
        ("metadata", "metadata"),
        ("headers", "header_names"),
        ("max_in_flight", "max_in_flight"),
        ("rate_per_s", "rate_per_s"),
        ("retry_waits_s", "retry_waits_s"),
        ("retry_max_age_s", "retry_max_age_s"),
        ("client_certificate", "client_certificate"),
    ];
    for (version, (name, as_shown)) in (1..).zip(optional) {
        assert!(shop.get(&path).await.json["result"].get(as_shown).is_some(), "{name}");
        let changed = patch(&shop, &path, &json!({ "version": version, name: null })).await;
        assert_eq!((changed.status, changed.json["result"].get(as_shown)), (200, None), "{name}");
        assert_eq!(shop.get(&path).await.json["result"], changed.json["result"]);
    }
    let left = shop.get(&path).await.json["result"].clone();
    assert_eq!((&left["url"], &left["ordering"], &left["payload"]), (&asked["url"], &asked["ordering"], &asked["payload"]));

    let nothing =
        json!({ "url": "https://hooks.example.com/", "event_types": "*", "name": null, "ordering": null, "headers": null, "payload_version": null });
    assert_eq!(made(&shop, &nothing).await.1["ordering"], "strict");
}

#[tokio::test]
async fn wishes_that_cannot_be_are_named() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let cases = [
        ("event_types", json!(["payouts.*", "payout.completed"]), "/event_types/0", "unknown_event_type"),
        ("event_types", json!(["payout.com*"]), "/event_types/0", "unknown_event_type"),
        ("ordering", json!("loose"), "/ordering", "unknown_value"),
        ("payload", json!("fat"), "/payload", "unknown_value"),
        ("max_in_flight", json!(-1), "/max_in_flight", "out_of_range"),
        ("max_in_flight", json!(1001), "/max_in_flight", "out_of_range"),
        ("rate_per_s", json!("5"), "/rate_per_s", "wrong_type"),
        ("retry_waits_s", json!([5, 0]), "/retry_waits_s/1", "out_of_range"),
        ("retry_waits_s", json!([86_401]), "/retry_waits_s/0", "out_of_range"),
        ("retry_waits_s", json!(vec![86_400; 8]), "/retry_waits_s", "out_of_range"),
        ("retry_waits_s", json!(5), "/retry_waits_s", "wrong_type"),
        ("retry_max_age_s", json!(604_801), "/retry_max_age_s", "out_of_range"),
        ("payload_version", json!(2), "/payload_version", "unknown_value"),
        ("client_certificate", json!({ "pem": "x" }), "/client_certificate/pem", "unknown_field"),
        ("metadata", json!({ "a": 1 }), "/metadata/a", "wrong_type"),
        ("headers", json!({ "Webhook-Id": "x" }), "/headers/Webhook-Id", "not_allowed"),
        ("headers", json!({ "Host": "x" }), "/headers/Host", "not_allowed"),
        ("headers", json!({ "Content-Length": "1" }), "/headers/Content-Length", "not_allowed"),
        ("headers", json!({ "a": "b\r\nc: d" }), "/headers/a", "not_allowed"),
        ("headers", json!({ "a": 1 }), "/headers/a", "wrong_type"),
        ("headers", json!({ "X-A": "a", "x-a": "b" }), "/headers/x-a", "not_allowed"),
        ("description", json!(" "), "/description", "invalid"),
        ("description", json!("a\u{202e}b"), "/description", "invalid"),
        ("name", json!("a\u{2066}b"), "/name", "invalid"),
        ("url", json!("https://a..example.com/"), "/url", "not_allowed"),
        ("filters", json!([]), "/filters", "unknown_field"),
    ];
    for (name, value, at, code) in cases {
        let mut asked = wishes();
        asked[name] = value;
        assert_eq!(shop.post("/v1/webhooks", &asked).await.errors(), [(at, code)], "{asked}");
    }
}

#[tokio::test]
async fn a_subscription_is_paused_and_resumed() {
    let installation = Installation::start().await;
    let (shop, cafe) = (installation.caller("shop").await, installation.caller("cafe").await);
    let (path, _) = made(&shop, &wishes()).await;
    assert_eq!(cafe.post_bytes(&format!("{path}/pause"), "", &[]).await.problem(), "not-found");
    let turned = async |verb: &str| shop.post_bytes(&format!("{path}/{verb}"), "", &[]).await.json["result"].clone();
    let paused = turned("pause").await;
    assert_eq!((&paused["status"], &paused["status_reason"], &paused["version"]), (&json!("paused"), &json!("asked"), &json!(2)));
    assert_eq!(turned("pause").await, paused, "a repeat changes nothing");
    assert_eq!(turned("resume").await["status"], "enabled");

    let id = path.rsplit_once('/').unwrap().1.parse().unwrap();
    let (mut gone, _) = installation.store.subscription(id).await.unwrap().unwrap();
    gone.status = domain::subscription::Status::Disabled { reason: domain::fact::Reason::new("gone"), at: installation.store.clock().now() };
    gone.version += 1;
    installation.store.subscribe(&gone, None).await.unwrap();
    let read = shop.get(&path).await.json["result"].clone();
    assert_eq!((&read["status"], &read["status_reason"]), (&json!("disabled"), &json!("gone")));
    assert_eq!(shop.post_bytes(&format!("{path}/pause"), "", &[]).await.problem(), "not-possible-now");
    let resumed = turned("resume").await;
    assert_eq!((&resumed["status"], resumed.get("status_reason")), (&json!("enabled"), None));
}

#[tokio::test]
async fn a_ping_arrives_signed_and_its_answer_tells() {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
    let installation = Installation::with(Plan { egress, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (subscriber, stop) = (Subscriber::default(), CancellationToken::new());
    subscriber.count_only(true);
    let serving = tokio::spawn(subscriber.clone().serve(listener, stop.clone()));
    let mut asked = wishes();
    asked["url"] = json!(format!("http://{address}/"));
    let (path, shown) = made(&shop, &asked).await;
    let ping = async || shop.post_bytes(&format!("{path}/ping"), "", &[]).await.json["result"].clone();
    // It does not know the secret yet.
    let refused = ping().await;
    assert_eq!((&refused["delivered"], &refused["status"]), (&json!(false), &json!(401)));
    subscriber.trust(vec![domain::signature::Secret::parse(shown["secret"].as_str().unwrap()).unwrap()]);
    let pinged = ping().await;
    assert_eq!((&pinged["delivered"], &pinged["status"]), (&json!(true), &json!(200)));
    assert!(pinged["latency_ms"].is_u64());
    assert_eq!((subscriber.verified(), subscriber.refused()), (1, 1));
    stop.cancel();
    serving.await.unwrap().unwrap();
    let failed = ping().await;
    assert!(failed["delivered"] == false && failed["status"].is_null() && failed["error"].is_string(), "{failed}");
}

/// The keys are public, and who wants their signatures is told where there are none.
#[tokio::test]
async fn keys_are_published_and_wanted_by_name() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let anybody = installation.http.get(format!("{}/.well-known/webhook-keys.json", installation.url)).send().await.unwrap();
    assert_eq!(anybody.text().await.unwrap(), r#"{"keys":[]}"#);
    for (signatures, code) in [(json!(["v1", "v1a"]), "not_available"), (json!(["v2"]), "unknown_value"), (json!("v1"), "wrong_type")] {
        let mut asked = wishes();
        asked["signatures"] = signatures;
        assert_eq!(shop.post("/v1/webhooks", &asked).await.errors(), [("/signatures", code)]);
    }
    assert_eq!(made(&shop, &wishes()).await.1["signatures"], json!(["v1"]));

    let (private, public) = workers::relay::keys::make(&[7; 32]).unwrap();
    let signing_keys = workers::relay::keys::SigningKeys::read([private.as_str()]).unwrap();
    let installation = Installation::with(Plan { signing_keys, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let anybody = installation.http.get(format!("{}/.well-known/webhook-keys.json", installation.url)).send().await.unwrap();
    let published: Value = serde_json::from_str(&anybody.text().await.unwrap()).unwrap();
    assert_eq!((&published["keys"][0]["whpk"], &published["keys"][0]["kid"]), (&json!(public.text), &json!(public.kid)));
    let mut asked = wishes();
    asked["signatures"] = json!(["v1", "v1a"]);
    let (path, shown) = made(&shop, &asked).await;
    assert_eq!(shown["signatures"], asked["signatures"]);
    assert_eq!(patch(&shop, &path, &json!({ "version": 1, "signatures": ["v1"] })).await.json["result"]["signatures"], json!(["v1"]));
}

#[tokio::test]
async fn an_event_is_read_and_delivered_again_within_its_party() {
    let installation = Installation::start().await;
    let (shop, cafe) = (installation.caller("shop").await, installation.caller("cafe").await);
    let (path, _) = made(&shop, &json!({ "url": "https://hooks.example.com/", "event_types": "*" })).await;
    let (elsewhere, _) = made(&cafe, &wishes()).await;
    let id = transaction();
    assert_eq!(shop.post("/v1/payouts", &payout(&id)).await.status, 202);
    let timeline = shop.get(&format!("/v1/payouts/{id}/timeline")).await;
    let event = timeline.json["result"]["events"][0]["id"].as_str().unwrap().to_owned();
    let read = shop.get(&format!("/v1/events/{event}")).await;
    let result = &read.json["result"];
    assert_eq!((&result["type"], &result["payload"]["data"]["transaction_id"]), (&json!("payout.requested"), &json!(id)));
    assert_eq!(result["deliveries"][0]["status"], "pending");
    assert_eq!(cafe.get(&format!("/v1/events/{event}")).await.problem(), "not-found");
    assert_eq!(shop.get("/v1/events/ev_1").await.problem(), "not-found");

    let retry = async |caller: &Caller, path: &str| caller.post(&format!("{path}/retry"), &json!({ "event_id": event })).await;
    assert_eq!(retry(&shop, &path).await.status, 202);
    assert_eq!(retry(&cafe, &elsewhere).await.problem(), "not-found", "an event of another party");
    assert_eq!(retry(&cafe, &path).await.problem(), "not-found", "a subscription of another party");
    assert_eq!(shop.post(&format!("{path}/retry"), &json!({ "event_id": "x" })).await.errors(), [("/event_id", "invalid")]);
}

/// What never came is by default what the subscription asks for: its types, and payouts that have its metadata. Counted and done by the same.
#[tokio::test]
async fn what_is_missing_is_what_the_subscription_asks_for() {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
    let installation = Installation::with(Plan { egress, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let mut names = Vec::new();
    for shop_name in ["mine", "other"] {
        let mut order = payout(&transaction());
        order["metadata"] = json!({ "only": shop_name, "more": "x" });
        assert_eq!(shop.post("/v1/payouts", &order).await.status, 202);
        let id = order["transaction_id"].as_str().unwrap().to_owned();
        assert_eq!(shop.post_bytes(&format!("/v1/payouts/{id}/cancel"), "", &[]).await.status, 200);
        let timeline = shop.get(&format!("/v1/payouts/{id}/timeline")).await;
        names.extend(timeline.json["result"]["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()));
    }
    let receiver = Receiver::start().await;
    let asked = json!({ "url": receiver.url, "event_types": ["payout.canceled"], "metadata": { "only": "mine" } });
    let (path, _) = made(&shop, &asked).await;
    let replays = format!("{path}/replays");
    let count = async |more: Value| {
        let mut body = json!({ "what": "missing", "dry_run": true });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        shop.post(&replays, &body).await.json["result"]["deliveries"].as_u64()
    };
    assert_eq!(count(json!({})).await, Some(1));
    // Named types are told, whatever it asks for; those of other payouts never are.
    assert_eq!(count(json!({ "event_types": ["payout.*"] })).await, Some(2));
    assert_eq!(count(json!({ "event_types": ["payout.completed"] })).await, Some(0));
    let begun = shop.post(&replays, &json!({ "what": "missing" })).await;
    assert_eq!(
        (begun.status, &begun.json["result"]["event_types"], &begun.json["result"]["metadata"]),
        (202, &json!(["payout.canceled"]), &asked["metadata"])
    );
    installation.replay().await;
    installation.deliver().await;
    let came: Vec<_> = receiver.take().iter().map(|message| message.header("webhook-id").to_owned()).collect();
    assert_eq!(came, [names[1].clone()], "the cancellation of the one that has the metadata");
    let done = shop.get(begun.header("location").unwrap()).await;
    assert_eq!((&done.json["result"]["status"], &done.json["result"]["deliveries"]), (&json!("done"), &json!(1)));
}

/// A retry is accepted while nothing is sent, says so, and is made when the subscription is served again.
#[tokio::test]
async fn what_is_retried_while_it_is_paused_waits() {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
    let installation = Installation::with(Plan { egress, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let receiver = Receiver::start().await;
    let (path, _) = made(&shop, &json!({ "url": receiver.url, "event_types": "*" })).await;
    assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    installation.deliver().await;
    let event = json!({ "event_id": receiver.take()[0].header("webhook-id") });
    let retry = async || {
        let retried = shop.post(&format!("{path}/retry"), &event).await;
        assert_eq!((retried.status, &retried.json["result"]["status"]), (202, &json!("pending")), "{retried:?}");
        retried.json["result"]["subscription_status"].clone()
    };
    assert_eq!(shop.post_bytes(&format!("{path}/pause"), "", &[]).await.status, 200);
    assert_eq!(retry().await, "paused");
    installation.deliver().await;
    assert_eq!(receiver.take().len(), 0);
    assert_eq!(shop.post_bytes(&format!("{path}/resume"), "", &[]).await.status, 200);
    installation.deliver().await;
    assert_eq!(receiver.take().len(), 1);
    assert_eq!(retry().await, "enabled");
}

/// A rotation within the overlap of another one ends no secret before the time that it was promised; each is shown, and each signs.
#[tokio::test]
async fn a_secret_signs_as_long_as_it_was_promised_whatever_is_rotated() {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
    let installation = Installation::with(Plan { egress, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let receiver = Receiver::start().await;
    let (path, first) = made(&shop, &json!({ "url": receiver.url, "event_types": "*" })).await;
    let mut secrets = vec![Secret::parse(first["secret"].as_str().unwrap()).unwrap()];
    let rotate = async |hours: u32| shop.post(&format!("{path}/rotate"), &json!({ "overlap_hours": hours })).await;
    let mut ends = Vec::new();
    for hours in [3, 1] {
        let rotated = rotate(hours).await;
        let result = &rotated.json["result"];
        secrets.push(Secret::parse(result["secret"].as_str().unwrap()).unwrap());
        ends.insert(0, json!({ "until": result["previous_secret_until"] }));
        assert_eq!(result["previous_secrets"], Value::from(ends.clone()), "newest first");
        assert_eq!(shop.get(&path).await.json["result"]["previous_secrets"], Value::from(ends.clone()));
    }
    let signed_by = async || -> Vec<bool> {
        assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
        installation.deliver().await;
        let came = receiver.take().remove(0);
        let now_s = installation.store.clock().now().as_second();
        secrets.iter().map(|secret| came.verify(secret, now_s).is_ok()).collect()
    };
    assert_eq!(signed_by().await, [true, true, true]);
    installation.store.move_clock(Duration::from_hours(2)).await.unwrap();
    assert_eq!(signed_by().await, [true, false, true], "the second had the shorter overlap");
    assert_eq!(shop.get(&path).await.json["result"]["previous_secrets"], json!([ends[1]]));

    // There is a limit, which ends nothing either, and a way out.
    for _ in 0..3 {
        assert_eq!(rotate(24).await.status, 200);
    }
    let full = rotate(24).await;
    assert_eq!((full.status, full.problem()), (409, "not-possible-now"), "{full:?}");
    assert!(full.text.contains("5 secrets sign already"), "{full:?}");
    assert_eq!(signed_by().await, [true, false, true]);
    let alone = rotate(0).await.json["result"].clone();
    assert!(alone.get("previous_secrets").is_none() && alone.get("previous_secret_until").is_none(), "{alone}");
    assert_eq!(signed_by().await, [false, false, false]);
}

#[tokio::test]
async fn a_replay_is_asked_for_seen_and_canceled_within_its_party() {
    let installation = Installation::start().await;
    let (shop, cafe) = (installation.caller("shop").await, installation.caller("cafe").await);
    let (path, shown) = made(&shop, &json!({ "url": "https://hooks.example.com/", "event_types": ["payout.completed"] })).await;
    assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    let replays = format!("{path}/replays");
    let missing = json!({ "what": "missing", "event_types": ["payout.requested"], "dry_run": true });
    let dry = shop.post(&replays, &missing).await;
    assert_eq!((dry.status, &dry.json["result"]), (200, &json!({ "deliveries": 1, "looked_at": 1, "complete": true })));
    assert!(shop.get(&replays).await.json["results"].as_array().unwrap().is_empty(), "a dry run leaves nothing");
    for (body, at, code) in [
        (json!({ "what": "all" }), "/what", "unknown_value"),
        (json!({ "dry_run": "yes" }), "/dry_run", "wrong_type"),
        (json!({ "rate_per_s": 0 }), "/rate_per_s", "out_of_range"),
        (json!({ "rate_per_s": 1_001 }), "/rate_per_s", "out_of_range"),
        (json!({ "event_types": ["x"] }), "/event_types/0", "unknown_event_type"),
        (json!({ "from": "today" }), "/from", "not_an_instant"),
        (json!({ "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z" }), "/to", "out_of_range"),
        (json!({ "since": 1 }), "/since", "unknown_field"),
    ] {
        assert_eq!(shop.post(&replays, &body).await.errors(), [(at, code)], "{body}");
    }
    let begun = shop.post(&replays, &json!({ "what": "missing", "rate_per_s": 7 })).await;
    assert_eq!(begun.json["result"]["event_types"], json!(["payout.completed"]), "by default what the subscription asks for");
    assert_eq!((begun.status, &begun.json["result"]["status"], &begun.json["result"]["rate_per_s"]), (202, &json!("running"), &json!(7)));
    assert_eq!(begun.json["result"]["subscription_id"], shown["id"]);
    let one = begun.header("location").unwrap().to_owned();
    assert_eq!(shop.post_bytes(&format!("{path}/abandoned/retry"), "", &[]).await.problem(), "not-possible-now", "one at a time");
    assert_eq!((cafe.get(&one).await.problem(), cafe.delete(&one).await.problem()), ("not-found", "not-found"));
    assert_eq!(cafe.post(&replays, &json!({})).await.problem(), "not-found");
    assert_eq!(shop.get(&one).await.json["result"]["status"], "running");
    let canceled = shop.delete(&one).await;
    assert_eq!((canceled.status, &canceled.json["result"]["status"]), (200, &json!("canceled")));
    assert_eq!(shop.delete(&one).await.json["result"], canceled.json["result"]);
    assert_eq!(shop.get(&replays).await.json["results"].as_array().unwrap().len(), 1);
    let given_up = shop.get(&format!("{path}/abandoned")).await;
    assert_eq!(given_up.json["results"], json!([]));
    assert_eq!(shop.post_bytes(&format!("{path}/abandoned/retry"), "", &[]).await.status, 202);
    assert_eq!(shop.get(&format!("{replays}/rp_00")).await.problem(), "not-found");
}
