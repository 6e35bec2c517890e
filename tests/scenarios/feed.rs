//! Events that are pulled: each once, in the order of their payout, however many are committed meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domain::id::{Mode, PartyId};
use serde_json::{Value, json};

use crate::support::{Caller, Installation, Plan, Reply, payout, transaction};

async fn page(shop: &Caller, query: &str) -> (Vec<Value>, String) {
    let reply = shop.get(&format!("/v1/events?{query}")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    (reply.json["results"].as_array().unwrap().clone(), reply.json["next_cursor"].as_str().unwrap().to_owned())
}

async fn open(shop: &Caller) -> Reply {
    shop.send_bytes(reqwest::Method::PUT, "/v1/feed", "", &[]).await
}

async fn told(shop: &Caller) -> String {
    let id = transaction();
    assert_eq!(shop.post("/v1/payouts", &payout(&id)).await.status, 202);
    id
}

#[tokio::test]
async fn a_feed_is_opened_read_and_closed() {
    let installation = Installation::start().await;
    let (shop, cafe) = (installation.caller("shop").await, installation.caller("cafe").await);
    told(&shop).await;
    assert_eq!(shop.get("/v1/events").await.problem(), "feed-closed");
    let opened = open(&shop).await.json["result"].clone();
    assert_eq!((&opened["is_open"], &opened["events"]), (&json!(true), &json!(0)));
    let (events, start) = page(&shop, "").await;
    assert!(events.is_empty(), "what was before is not in it");
    let (first, second) = (told(&shop).await, told(&shop).await);
    assert_eq!(shop.post_bytes(&format!("/v1/payouts/{first}/cancel"), "", &[]).await.status, 200);
    assert_eq!(open(&shop).await.json["result"]["events"], 3, "a repeat changes nothing");

    let keys =
        |events: &[Value]| events.iter().map(|event| event["payload"]["data"]["transaction_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let (events, end) = page(&shop, &format!("after={start}")).await;
    assert_eq!(keys(&events), [first.clone(), second.clone(), first.clone()]);
    let event = shop.get(&format!("/v1/events/{}", events[2]["id"].as_str().unwrap())).await;
    assert_eq!(event.json["result"]["payload"], events[2]["payload"], "the body of the webhook");
    let (mut one_by_one, mut cursor) = (Vec::new(), start.clone());
    for _ in 0..3 {
        let (events, next) = page(&shop, &format!("after={cursor}&limit=1")).await;
        one_by_one.extend(keys(&events));
        cursor = next;
    }
    assert_eq!((one_by_one, &cursor), (keys(&events), &end));
    let (canceled, next) = page(&shop, &format!("after={start}&type=payout.canceled")).await;
    assert_eq!((keys(&canceled), next), (vec![first], end.clone()));
    assert_eq!(page(&shop, "after=now").await, (Vec::new(), end.clone()));
    assert_eq!(page(&shop, &format!("after={end}")).await, (Vec::new(), end.clone()));

    assert_eq!(cafe.get("/v1/events").await.problem(), "feed-closed");
    assert_eq!(cafe.get("/v1/events?party_id=shop").await.problem(), "other-party");
    for (query, at, code) in [
        ("after=x", "after", "invalid"),
        ("wait=-1", "wait", "out_of_range"),
        ("type=x", "type", "unknown_event_type"),
        ("limit=0", "limit", "out_of_range"),
    ] {
        assert_eq!(shop.get(&format!("/v1/events?{query}")).await.errors(), [(at, code)]);
    }
    assert_eq!(shop.delete("/v1/feed").await.status, 204);
    told(&shop).await;
    open(&shop).await;
    assert_eq!(shop.get(&format!("/v1/events?after={end}")).await.problem(), "feed-expired", "there is a gap");
    assert_eq!(page(&shop, "").await.0.len(), 0);
}

/// Ten callers commit while one reads on with pages of three: nothing is missing, nothing comes twice, and each payout's events come in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_skipped_while_others_commit() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    open(&shop).await;
    let writers: Vec<_> = (0..10)
        .map(|_| {
            let shop = shop.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    let id = told(&shop).await;
                    assert_eq!(shop.post_bytes(&format!("/v1/payouts/{id}/cancel"), "", &[]).await.status, 200);
                }
            })
        })
        .collect();
    let mut came: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut cursor, mut count) = (String::new(), 0);
    let ends = Instant::now() + Duration::from_secs(60);
    while count < 200 && Instant::now() < ends {
        let after = if cursor.is_empty() { String::new() } else { format!("&after={cursor}") };
        let (events, next) = page(&shop, &format!("limit=3&wait=1{after}")).await;
        count += events.len();
        cursor = next;
        for event in &events {
            let data = &event["payload"]["data"];
            came.entry(data["payout_id"].as_str().unwrap().to_owned()).or_default().push(data["sequence"].as_u64().unwrap());
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(came.len(), 100);
    assert!(came.values().all(|sequences| *sequences == [1, 2]), "{came:?}");
    assert_eq!(page(&shop, &format!("after={cursor}")).await.0.len(), 0);
}

#[tokio::test]
async fn a_request_waits_for_an_event_and_only_so_many_do() {
    let feed = json!({ "wait_max_ms": 5_000, "look_every_ms": 10, "waiting_max": 1 });
    let installation = Installation::with(Plan { ingress: json!({ "feed": feed }), ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    open(&shop).await;
    let (_, now) = page(&shop, "").await;
    let waiting = tokio::spawn({
        let (shop, now) = (shop.clone(), now.clone());
        async move {
            // The only place may be taken by the other one for a second.
            loop {
                let reply = shop.get(&format!("/v1/events?after={now}&wait=3600")).await;
                if reply.status == 200 {
                    return reply.json["results"].as_array().unwrap().len();
                }
            }
        }
    });
    // As soon as one waits, another one is told to come back.
    while shop.get("/v1/events?wait=1").await.status != 503 {
        assert!(!waiting.is_finished());
    }
    assert_eq!(page(&shop, "").await.0.len(), 0, "who does not wait is answered");
    told(&shop).await;
    assert_eq!(waiting.await.unwrap(), 1);
}

/// Whoever has its share waiting is answered at once, and others wait.
#[tokio::test]
async fn a_party_does_not_take_every_place_to_wait() {
    let feed = json!({ "wait_max_ms": 5_000, "look_every_ms": 10, "waiting_max": 4 });
    let installation = Installation::with(Plan { ingress: json!({ "feed": feed }), ..Plan::default() }).await;
    let (shop, cafe) = (installation.caller("shop").await, installation.caller("cafe").await);
    open(&shop).await;
    open(&cafe).await;
    let first = tokio::spawn({
        let shop = shop.clone();
        async move {
            // The place may be taken by the other one for a second.
            loop {
                let came = page(&shop, "wait=3600").await.0.len();
                if came > 0 {
                    return came;
                }
            }
        }
    });
    // One waits; every other one of the party is answered at once, with nothing.
    let began = Instant::now();
    let mut answered = 0;
    while answered < 3 {
        let asked = Instant::now();
        assert_eq!(page(&shop, "wait=1").await.0.len(), 0);
        answered += usize::from(asked.elapsed() < Duration::from_millis(900));
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    let waits = tokio::spawn({
        let cafe = cafe.clone();
        async move { page(&cafe, "wait=3600").await.0.len() }
    });
    told(&cafe).await;
    assert_eq!(waits.await.unwrap(), 1);
    told(&shop).await;
    assert_eq!(first.await.unwrap(), 1);
}

#[tokio::test]
async fn who_comes_late_is_told_so() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    open(&shop).await;
    let (_, start) = page(&shop, "").await;
    told(&shop).await;
    let (_, read) = page(&shop, &format!("after={start}")).await;
    let (party, hour) = (PartyId::parse("shop").unwrap(), Duration::from_hours(1));
    let shard = installation.store.shards().of(&party, Mode::Test);
    assert_eq!(installation.store.trim_feeds(shard, hour, 10).await.unwrap(), 0);
    installation.store.move_clock(Duration::from_hours(2)).await.unwrap();
    assert_eq!(installation.store.trim_feeds(shard, hour, 10).await.unwrap(), 1);
    assert_eq!(shop.get(&format!("/v1/events?after={start}")).await.problem(), "feed-expired");
    told(&shop).await;
    assert_eq!(page(&shop, &format!("after={read}")).await.0.len(), 1, "who had read what was forgotten goes on");
    assert_eq!(page(&shop, "").await.0.len(), 1);
}
