//! What callers see of batches: accepted whole, opened page by page, each item told of by itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use domain::credential::{Reach, Scope};
use domain::id::{BatchId, Mode, PartyId, PayoutId};
use domain::payout::state::StateName;
use futures_util::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::{Caller, Installation, Log, Plan, Reply, payout, signing_key, transaction};

const BATCHES: &str = "/v1/payouts/batches";

fn batch(id: &str, items: &[Value]) -> Value {
    json!({ "batch_id": id, "items": items })
}

/// So many good items.
fn some(count: usize) -> Vec<Value> {
    (0..count).map(|_| payout(&transaction())).collect()
}

fn key(item: &Value) -> &str {
    item["transaction_id"].as_str().unwrap()
}

/// Opens what is due until nothing is.
async fn expand(installation: &Installation) {
    while installation.expand().await.unwrap() > 0 {}
}

async fn read(caller: &Caller, id: &str) -> Value {
    caller.get(&format!("{BATCHES}/{id}")).await.json["result"].clone()
}

/// All items, page by page.
async fn all_items(caller: &Caller, id: &str, query: &str) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let page = caller.get(&format!("{BATCHES}/{id}/items?limit=200{query}{after}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        items.extend(page.json["results"].as_array().unwrap().clone());
        match &page.json["next_after"] {
            Value::Null => return items,
            next => after = format!("&after={next}"),
        }
    }
}

fn results(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["result"].as_str().unwrap()).collect()
}

/// How many payouts the party has.
async fn payouts(caller: &Caller) -> usize {
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let page = caller.get(&format!("/v1/payouts?limit=200{cursor}")).await;
        count += page.json["results"].as_array().unwrap().len();
        match page.json["next_cursor"].as_str() {
            None => return count,
            Some(next) => cursor = format!("&cursor={next}"),
        }
    }
}

fn with(reply: &Reply) -> (u16, &str, Vec<(&str, &str)>) {
    (reply.status, reply.problem(), reply.errors())
}

/// Ten thousand items are accepted in one request, which holds up nobody else, and each becomes one payout.
#[tokio::test]
async fn ten_thousand_items_are_accepted_and_all_opened() {
    // Time enough for a build without optimisation on a busy machine.
    let installation = Installation::with(Plan { ingress: json!({ "timeout_ms": 60_000 }), store_deadline_ms: 10_000, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let (id, items) = (transaction(), some(10_000));
    let body = batch(&id, &items).to_string();

    // This runtime has one thread: whatever is done on it holds up the ticking.
    let ticking = tokio::spawn(async {
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            LONGEST.with(|cell| cell.set(longest));
        }
    });
    let began = Instant::now();
    let accepted = shop.post_bytes(BATCHES, body, &[]).await;
    let (took, longest) = (began.elapsed(), LONGEST.with(std::cell::Cell::get));
    ticking.abort();
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    assert!(longest * 3 < took, "nobody else was served for {longest:?} of {took:?}");
    assert_eq!(accepted.header("location"), Some(format!("{BATCHES}/{id}").as_str()));
    assert_eq!((&accepted.json["result"]["status"], &accepted.json["result"]["results"]["pending"]), (&json!("expanding"), &json!(10_000)));

    expand(&installation).await;
    let done = read(&shop, &id).await;
    assert_eq!((&done["status"], &done["items"]), (&json!("expanded"), &json!(10_000)));
    assert_eq!(
        done["results"],
        json!({ "opened": 10_000, "replayed": 0, "conflict": 0, "archived": 0, "unreadable": 0, "inactive": 0, "twin_unresolved": 0, "not_replaceable": 0,
                "invalid": 0, "pending": 0 })
    );
    assert_eq!(done["payouts"], json!({ "requested": 10_000 }));
    let listed = all_items(&shop, &id, "").await;
    assert_eq!(listed.iter().map(|item| item["index"].as_u64().unwrap()).collect::<Vec<_>>(), (0..10_000).collect::<Vec<_>>());
    assert!(listed.iter().zip(&items).all(|(listed, item)| listed["transaction_id"] == item["transaction_id"] && listed["status"] == "requested"));
    assert_eq!(listed.iter().map(|item| item["payout_id"].as_str().unwrap()).collect::<BTreeSet<_>>().len(), 10_000);
    let one = shop.get(&format!("/v1/payouts/{}", key(&items[7_777]))).await;
    assert_eq!((&one.json["result"]["batch_id"], &one.json["result"]["status"]), (&json!(id), &json!("requested")));
}

thread_local! {
    static LONGEST: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

/// What is wrong with an item is told about that item, in the words of a request of its own, and the others go on.
#[tokio::test]
async fn a_bad_item_is_told_as_if_it_had_come_alone() {
    let installation = Installation::with(Plan { ingress: json!({ "body_max_bytes": 2_048 }), ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let good = some(2);
    let changed = |name: &str, value: Value| {
        let mut item = payout(&transaction());
        item[name] = value;
        item.to_string()
    };
    let bad = [
        changed("amount_in_minor", json!(0)),
        changed("amount_in_minor", json!(1.5)),
        changed("beneficiary_iban", json!("GB33BUKB20201555555556")),
        changed("note", json!(1)),
        changed("provider", json!("mollie")),
        changed("scheduled_for", json!("2020-01-01T00:00:00Z")),
        changed("metadata", json!({ "a": { "b": 1 } })),
        payout(&transaction()).to_string().replacen('{', "{\"currency\":\"GBP\",", 1),
        format!("{{\"transaction_id\":{}1{}}}", "[".repeat(10_000 / 100), "]".repeat(10_000 / 100)),
        "1".to_owned(),
        "{}".to_owned(),
        changed("metadata", json!({ "a": "x".repeat(3_000) })),
    ];
    let texts = bad.iter().cloned().chain(good.iter().map(Value::to_string));
    let (id, body) = (transaction(), texts.collect::<Vec<_>>().join(","));
    let accepted = shop.post_bytes(BATCHES, format!("{{\"batch_id\":\"{id}\",\"items\":[{body}]}}"), &[]).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    expand(&installation).await;

    let listed = all_items(&shop, &id, "").await;
    assert_eq!(results(&listed), [vec!["invalid"; bad.len()], vec!["opened"; 2]].concat());
    for (item, text) in listed.iter().zip(&bad) {
        let mut alone = shop.post_bytes("/v1/payouts", text.clone(), &[]).await;
        assert!(alone.status >= 400, "{alone:?}");
        alone.json.as_object_mut().unwrap().remove("instance");
        if alone.json["type"] == "urn:payrelay:problem:body-too-large" {
            // There it is a body that is too large, here an item.
            alone.json["detail"] = item["problem"]["detail"].clone();
        }
        assert_eq!(item["problem"], alone.json, "{text}");
        if text == "1" {
            // In words that are true of a body and of an item.
            assert_eq!((&alone.json["title"], &alone.json["detail"]), (&json!("Not a JSON object"), &json!("It is JSON, and no object.")));
        }
        let key = serde_json::from_str::<Value>(text).ok().and_then(|item| item["transaction_id"].as_str().map(str::to_owned));
        assert_eq!(item["transaction_id"].as_str().map(str::to_owned), key, "{text}");
    }
    let done = read(&shop, &id).await;
    assert_eq!((&done["results"]["invalid"], &done["results"]["opened"]), (&json!(bad.len()), &json!(2)));
    assert_eq!(payouts(&shop).await, 2);
    assert_eq!(results(&all_items(&shop, &id, "&result=opened").await), ["opened"; 2]);
    // A filter may leave pages short; what comes after the last hit is still looked at.
    let first = shop.get(&format!("{BATCHES}/{id}/items?limit=3&result=invalid")).await;
    assert_eq!((first.json["results"].as_array().unwrap().len(), &first.json["next_after"]), (3, &json!(2)));
}

/// A payout that was asked for before is replayed, and one under a used key with other content is a conflict, as for requests of their own.
#[tokio::test]
async fn items_that_were_sent_before_are_replayed_or_refused() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let mut items = some(3);
    let single = shop.post("/v1/payouts", &items[0]).await;
    assert_eq!(single.status, 202);
    let mut other = items[1].clone();
    other["amount_in_minor"] = json!(1);
    assert_eq!(shop.post("/v1/payouts", &other).await.status, 202);
    // A day that has passed by now does not stop the repeat of what was accepted in its time.
    let day = installation.store.clock().now() + SignedDuration::from_hours(1);
    items.push(payout(&transaction()));
    items[3]["scheduled_for"] = json!(day.to_string());
    assert_eq!(shop.post("/v1/payouts", &items[3]).await.status, 202);
    installation.store.move_clock(Duration::from_hours(2)).await.unwrap();

    let id = transaction();
    assert_eq!(shop.post(BATCHES, &batch(&id, &items)).await.status, 202);
    expand(&installation).await;
    let listed = all_items(&shop, &id, "").await;
    assert_eq!(results(&listed), ["replayed", "conflict", "opened", "replayed"]);
    assert_eq!(listed[0]["payout_id"], single.json["result"]["payout_id"]);
    let mut alone = shop.post("/v1/payouts", &items[1]).await.json;
    alone.as_object_mut().unwrap().remove("instance");
    assert_eq!(listed[1]["problem"], alone);
    // The payouts of the batch are those that it opened and those that it asked for again.
    assert_eq!(read(&shop, &id).await["payouts"], json!({ "requested": 2, "scheduled": 1 }));
    assert_eq!(shop.get(&format!("/v1/payouts/{}", key(&items[0]))).await.json["result"].get("batch_id"), None);
    // And the other way round: what a batch has opened is a replay for a request of its own.
    let again = shop.post("/v1/payouts", &items[2]).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")));
    assert_eq!(payouts(&shop).await, 4);

    let at = PayoutId::derive(&PartyId::parse("shop").unwrap(), Mode::Test, key(&items[2]), installation.store.shards());
    let canceled = shop.post_bytes(&format!("/v1/payouts/{}/cancel", key(&items[2])), "", &[]).await;
    assert_eq!(canceled.status, 200);
    assert_eq!(installation.store.load(at).await.unwrap().unwrap().state.name(), StateName::Canceled);
    assert_eq!(read(&shop, &id).await["payouts"], json!({ "requested": 1, "scheduled": 1, "canceled": 1 }));
}

/// What is wrong with the request refuses it, and leaves nothing behind.
#[tokio::test]
async fn a_bad_request_is_refused_with_the_field() {
    let plan =
        Plan { ingress: json!({ "batches": { "items_max": 3, "body_max_bytes": 4_096, "concurrency": 2, "waiting_max": 10 } }), ..Plan::default() };
    let installation = Installation::with(plan).await;
    let shop = installation.caller("shop").await;
    let items = some(4);
    let twice = [items[0].clone(), items[1].clone(), { payout(&key(&items[0]).to_uppercase()) }];
    let id = transaction();
    for (body, expected) in [
        (json!({ "items": [items[0]] }), (400, "invalid-fields", vec![("/batch_id", "missing")])),
        (batch("b-1", &items[..1]), (400, "invalid-fields", vec![("/batch_id", "not_a_uuid")])),
        (json!({ "batch_id": id }), (400, "invalid-fields", vec![("/items", "missing")])),
        (json!({ "batch_id": id, "items": null }), (400, "invalid-fields", vec![("/items", "wrong_type")])),
        (json!({ "batch_id": id, "items": {} }), (400, "invalid-fields", vec![("/items", "wrong_type")])),
        (batch(&id, &[]), (400, "invalid-fields", vec![("/items", "empty")])),
        (batch(&id, &items), (400, "invalid-fields", vec![("/items", "too_many")])),
        (json!({ "batch_id": id, "items": [items[0]], "note": 1 }), (400, "invalid-fields", vec![("/note", "unknown_field")])),
        (batch(&id, &twice), (400, "invalid-fields", vec![("/items/2/transaction_id", "duplicate")])),
        (json!({ "batch_id": id, "items": [items[0]], "party_id": "a b" }), (400, "invalid-fields", vec![("/party_id", "invalid")])),
        (json!({ "batch_id": id, "items": [items[0]], "party_id": "other" }), (403, "other-party", vec![])),
    ] {
        assert_eq!(with(&shop.post(BATCHES, &body).await), expected, "{body}");
    }
    let good = batch(&id, &items[..1]).to_string();
    let doubled = good.replacen('{', &format!("{{\"batch_id\":\"{id}\","), 1);
    let lists = good.replacen('{', "{\"items\":[],", 1);
    for (body, expected) in [
        (String::new(), (400, "body-missing", vec![])),
        (good[..good.len() - 5].to_owned(), (400, "json-invalid", vec![])),
        (format!("{good}{good}"), (400, "json-invalid", vec![])),
        ("[]".to_owned(), (400, "json-invalid", vec![])),
        (format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500)), (400, "json-too-deep", vec![])),
        (" ".repeat(5_000), (413, "body-too-large", vec![])),
        (doubled, (400, "invalid-fields", vec![("/batch_id", "duplicate_field")])),
        (lists, (400, "invalid-fields", vec![("/items", "duplicate_field")])),
    ] {
        assert_eq!(with(&shop.post_bytes(BATCHES, body.clone(), &[]).await), expected, "{body}");
    }
    let not_json = shop.request(reqwest::Method::POST, BATCHES).header("content-type", "text/plain").body(good.clone());
    assert_eq!(shop.send(not_json).await.problem(), "media-type");
    assert_eq!(shop.get(&format!("{BATCHES}/{id}")).await.problem(), "not-found");
    assert_eq!(installation.expand().await.unwrap(), 0);

    // The duty to sign covers the whole body.
    let (signer, registered) = signing_key("kid-1");
    let signing = installation
        .caller_with(|key| {
            key.reach = Reach::Party(PartyId::parse("shop").unwrap());
            (key.must_sign, key.signing_keys) = (true, vec![registered]);
        })
        .await;
    assert_eq!(signing.post_bytes(BATCHES, good.clone(), &[]).await.problem(), "signature-missing");
    let signature = signer.sign_body(good.as_bytes(), None).unwrap();
    assert_eq!(signing.post_bytes(BATCHES, format!("{good} "), &[("X-TL-Signature", &signature)]).await.problem(), "signature-invalid");
    assert_eq!(signing.post_bytes(BATCHES, good, &[("X-TL-Signature", &signature)]).await.status, 202);
    let reader = installation.caller_with(|key| key.scopes = [Scope::PayoutsRead].into_iter().collect()).await;
    assert_eq!(reader.post(BATCHES, &batch(&transaction(), &items[..1])).await.problem(), "missing-scope");
}

#[tokio::test]
async fn a_repeat_is_a_replay_and_another_batch_under_its_key_a_conflict() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let (id, mut items) = (transaction(), some(3));
    items[2]["amount_in_minor"] = json!(0);
    let body = batch(&id, &items);
    let first = shop.post(BATCHES, &body).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (202, None));
    let respelled = format!("{{\"items\" : {},\n \"batch_id\":\"{}\"}}", json!(items), id.to_uppercase());
    for body in [body.to_string(), respelled] {
        let again = shop.post_bytes(BATCHES, body, &[]).await;
        assert_eq!((again.status, again.header("idempotency-replayed"), &again.json), (202, Some("true"), &first.json));
    }
    for change in [
        |items: &mut Vec<Value>| items[0]["amount_in_minor"] = json!(1),
        |items: &mut Vec<Value>| items[2]["amount_in_minor"] = json!(-1),
        |items: &mut Vec<Value>| items.truncate(2),
        |items: &mut Vec<Value>| items.swap(0, 1),
    ] {
        let mut items = items.clone();
        change(&mut items);
        let other = shop.post(BATCHES, &batch(&id, &items)).await;
        assert_eq!((other.status, other.problem()), (422, "batch-conflict"));
    }
    expand(&installation).await;
    let again = shop.post(BATCHES, &body).await;
    assert_eq!((again.status, &again.json["result"]["results"]["opened"]), (202, &json!(2)));
    assert_eq!(again.json["result"]["payouts"], json!({ "requested": 2 }));
    assert_eq!(payouts(&shop).await, 2);

    // Another party, and the other mode, neither see it nor are hindered by it.
    let market = installation.caller("market").await;
    let live = installation.caller_with(|key| (key.mode, key.reach) = (Mode::Live, Reach::Party(PartyId::parse("shop").unwrap()))).await;
    for stranger in [&market, &live] {
        assert_eq!(stranger.get(&format!("{BATCHES}/{id}")).await.problem(), "not-found");
        assert_eq!(stranger.get(&format!("{BATCHES}/{id}/items")).await.problem(), "not-found");
        assert_eq!(stranger.post(BATCHES, &body).await.header("idempotency-replayed"), None);
    }
    assert_eq!(market.get(&format!("{BATCHES}/{id}?party_id=shop")).await.problem(), "other-party");
    // A platform key names the party; an item may name the same one, and no other.
    let platform = installation.caller_with(|_| {}).await;
    assert_eq!(platform.get(&format!("{BATCHES}/{id}?party_id=shop")).await.json, json!({ "result": read(&shop, &id).await }));
    let (mut ours, mut theirs) = (payout(&transaction()), payout(&transaction()));
    (ours["party_id"], theirs["party_id"]) = (json!("market"), json!("shop"));
    let id = transaction();
    let mixed = json!({ "batch_id": id, "party_id": "market", "items": [ours, theirs] });
    let accepted = platform.post(BATCHES, &mixed).await;
    assert_eq!(accepted.header("location"), Some(format!("{BATCHES}/{id}?party_id=market").as_str()));
    expand(&installation).await;
    let listed = all_items(&market, &id, "").await;
    assert_eq!(results(&listed), ["opened", "invalid"]);
    assert_eq!(listed[1]["problem"]["errors"][0]["pointer"], "/party_id");
}

/// Whoever comes first, there is one batch, with the items of one request.
#[tokio::test]
async fn equal_batches_at_once_make_one_and_unequal_ones_do_not_mix() {
    let limits = json!({ "batches": { "items_max": 1_000, "body_max_bytes": 1_000_000, "concurrency": 50, "waiting_max": 10 } });
    let installation = Installation::with(Plan { ingress: limits, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let body = batch(&transaction(), &some(120));
    let replies = join_all((0..10).map(|_| shop.post(BATCHES, &body))).await;
    assert!(replies.iter().all(|reply| reply.status == 202));
    assert_eq!(replies.iter().filter(|reply| reply.header("idempotency-replayed").is_none()).count(), 1);
    expand(&installation).await;
    assert_eq!(read(&shop, body["batch_id"].as_str().unwrap()).await["results"]["opened"], 120);
    assert_eq!(payouts(&shop).await, 120);

    let id = transaction();
    let bodies: Vec<Value> = (0..10).map(|_| batch(&id, &some(120))).collect();
    let replies = join_all(bodies.iter().map(|body| shop.post(BATCHES, body))).await;
    let won: Vec<usize> = (0..10).filter(|place| replies[*place].status == 202).collect();
    assert_eq!(won.len(), 1);
    assert!(replies.iter().all(|reply| reply.status == 202 || reply.problem() == "batch-conflict"));
    expand(&installation).await;
    let listed: Vec<Value> = all_items(&shop, &id, "").await.iter().map(|item| item["transaction_id"].clone()).collect();
    let asked: Vec<Value> = bodies[won[0]]["items"].as_array().unwrap().iter().map(|item| item["transaction_id"].clone()).collect();
    assert_eq!(listed, asked);
    assert_eq!(payouts(&shop).await, 240);
    assert_eq!(installation.redis.say(&["KEYS", "*bi:*"]), "*0\r\n", "nor do the pages stay of those that were refused");
}

/// A damaged record keeps nobody waiting but whoever asks for that very payout.
#[tokio::test]
async fn an_item_whose_record_cannot_be_read_fails_alone() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let items = some(3);
    assert_eq!(shop.post("/v1/payouts", &items[1]).await.status, 202);
    let damaged = PayoutId::derive(&PartyId::parse("shop").unwrap(), Mode::Test, key(&items[1]), installation.store.shards());
    let record = format!("t:{{{}}}:po:{damaged}", damaged.shard().tag());
    assert_eq!(installation.redis.say(&["HSET", &record, "rec", "{\"account\":\"GB33BUKB20201555555555\""]), ":0\r\n");

    let id = transaction();
    let log = Log::default();
    let logged = tracing::subscriber::set_default(log.subscriber());
    assert_eq!(shop.post(BATCHES, &batch(&id, &items)).await.status, 202);
    expand(&installation).await;
    let listed = all_items(&shop, &id, "").await;
    assert_eq!(results(&listed), ["opened", "unreadable", "opened"]);
    assert_eq!((&listed[1]["payout_id"], listed[1].get("status")), (&json!(damaged), None));
    let batch = read(&shop, &id).await;
    assert_eq!((&batch["status"], &batch["results"]["unreadable"], &batch["payouts"]["requested"]), (&json!("expanded"), &json!(1), &json!(3)));
    assert_eq!(payouts(&shop).await, 2, "the list goes on without it");
    assert_eq!(shop.post("/v1/payouts", &items[1]).await.problem(), "internal", "and nobody pays it a second time");
    drop(logged);
    let text = log.text();
    assert!(text.contains(&damaged.to_string()) && !text.contains("GB33BUKB"), "{text}");
}

/// All that is kept of a batch is dropped once all of it ended long ago, and not before. Its key stays used, and so do those of its payouts.
#[tokio::test]
async fn a_batch_is_forgotten_long_after_the_last_of_it_has_ended() {
    let installation = Installation::start().await;
    let (shop, store) = (installation.caller("shop").await, &installation.store);
    let (day, kept) = (Duration::from_hours(24), installation.recorder.batches_kept);
    let (id, mut items) = (transaction(), some(2));
    items.push(json!({}));
    let body = batch(&id, &items);
    assert_eq!(shop.post(BATCHES, &body).await.status, 202);
    expand(&installation).await;
    let trimmed = async || {
        let mut trimmed = 0;
        for shard in store.shards().all() {
            trimmed += store.trim_batches(shard, kept).await.unwrap();
        }
        trimmed
    };
    let cancel = async |item: &Value| {
        let canceled = shop.post_bytes(&format!("/v1/payouts/{}/cancel", key(item)), "", &[]).await;
        assert_eq!(canceled.status, 200, "{canceled:?}");
    };
    cancel(&items[0]).await;
    store.move_clock(kept + day).await.unwrap();
    assert_eq!(trimmed().await, 0, "one of its payouts is under way");
    cancel(&items[1]).await;
    for (by, expected) in [(2 * day, 0), (kept - 3 * day, 0), (2 * day, 1), (day, 0)] {
        assert_eq!(read(&shop, &id).await["status"], "expanded");
        store.move_clock(by).await.unwrap();
        assert_eq!(trimmed().await, expected);
        if expected == 1 {
            break;
        }
    }
    for path in [format!("{BATCHES}/{id}"), format!("{BATCHES}/{id}/items")] {
        let gone = shop.get(&path).await;
        assert_eq!((gone.status, gone.problem()), (410, "batch-archived"));
    }
    assert_eq!(shop.post(BATCHES, &body).await.problem(), "batch-archived");
    assert_eq!(shop.post(BATCHES, &batch(&id, &some(1))).await.problem(), "batch-conflict");
    for left in ["*br:*", "*bp:*", "*bi:*"] {
        assert_eq!(installation.redis.say(&["KEYS", left]), "*0\r\n", "{left}");
    }
    assert_eq!(trimmed().await, 0);
    // Under another key its payouts are those that they were.
    let again = transaction();
    assert_eq!(shop.post(BATCHES, &batch(&again, &items)).await.status, 202);
    expand(&installation).await;
    assert_eq!(results(&all_items(&shop, &again, "").await), ["replayed", "replayed", "invalid"]);
    assert_eq!(payouts(&shop).await, 2);
}

/// It is in nobody's way, neither of other batches nor of the sweep; nor is any other trouble with what is only to be forgotten.
#[tokio::test]
async fn a_batch_that_cannot_be_read_keeps_no_other_from_being_forgotten() {
    let installation = Installation::start().await;
    let (shop, store, kept) = (installation.caller("shop").await, &installation.store, installation.recorder.batches_kept);
    let (damaged, sound) = (transaction(), transaction());
    for id in [&damaged, &sound] {
        assert_eq!(shop.post(BATCHES, &batch(id, &[json!({})])).await.status, 202);
        expand(&installation).await;
    }
    let id = BatchId::derive(&PartyId::parse("shop").unwrap(), Mode::Test, &damaged, store.shards());
    let shard = id.shard();
    let of_shard = |name: &str| format!("t:{{{}}}:{name}", shard.tag());
    installation.redis.say(&["HSET", &of_shard(&format!("ba:{id}")), "rec", "{"]);
    store.move_clock(kept + Duration::from_hours(24)).await.unwrap();
    assert_eq!(store.trim_batches(shard, kept).await.unwrap(), 1);
    assert_eq!(shop.get(&format!("{BATCHES}/{sound}")).await.status, 410);
    assert_eq!(store.trim_batches(shard, kept).await.unwrap(), 0, "it is looked at again tomorrow");
    assert_eq!(installation.redis.say(&["ZCARD", &of_shard("batches-opened")]), ":1\r\n", "and is still to be forgotten");

    installation.redis.say(&["SET", &of_shard("batches-opened"), "no list"]);
    workers::sweep::sweep(&installation.worker(), shard, &mut Default::default()).await.expect("what looks for trouble goes on");
}

/// Before they are opened, items are listed as pending.
#[tokio::test]
async fn a_batch_is_opened_page_by_page() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let (id, mut items) = (transaction(), some(250));
    items[0]["amount_in_minor"] = json!(0);
    shop.post(BATCHES, &batch(&id, &items)).await;
    assert_eq!(installation.expand().await.unwrap(), 1);
    let part = read(&shop, &id).await;
    assert_eq!((&part["status"], part.get("expanded_at")), (&json!("expanding"), None));
    assert_eq!(
        part["results"],
        json!({ "opened": 99, "replayed": 0, "conflict": 0, "archived": 0, "unreadable": 0, "inactive": 0, "twin_unresolved": 0, "not_replaceable": 0,
                "invalid": 1, "pending": 150 })
    );
    let pending = all_items(&shop, &id, "&result=pending").await;
    assert_eq!(
        pending.iter().map(|item| item["transaction_id"].as_str().unwrap()).collect::<Vec<_>>(),
        items[100..].iter().map(key).collect::<Vec<_>>()
    );
    expand(&installation).await;
    assert_eq!(read(&shop, &id).await["results"]["opened"], 249);
    assert!(all_items(&shop, &id, "&result=pending").await.is_empty());
    assert_eq!(shop.get(&format!("{BATCHES}/{id}/items?after=249")).await.json, json!({ "results": [] }));
    assert_eq!(shop.get(&format!("{BATCHES}/{id}/items?after=100000000000")).await.json, json!({ "results": [] }));
}

/// What waits, and what is being taken in, is bounded; refusing is not losing.
#[tokio::test]
async fn more_batches_than_may_wait_are_refused() {
    let limits = json!({ "batches": { "items_max": 10, "body_max_bytes": 100_000, "concurrency": 1, "waiting_max": 1 } });
    let installation = Installation::with(Plan { ingress: limits, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let (first, second) = (batch(&transaction(), &some(1)), batch(&transaction(), &some(1)));
    assert_eq!(shop.post(BATCHES, &first).await.status, 202);
    let refused = shop.post(BATCHES, &second).await;
    assert_eq!((refused.status, refused.problem(), refused.header("retry-after")), (503, "overloaded", Some("1")));
    assert_eq!(shop.post(BATCHES, &first).await.header("idempotency-replayed"), Some("true"));
    expand(&installation).await;
    assert_eq!(shop.post(BATCHES, &second).await.status, 202);
}

/// A batch is not accepted while the store is away; what was accepted is opened when it is back.
#[tokio::test]
async fn a_store_that_goes_away_loses_no_batch() {
    let mut installation = Installation::with(Plan { store_deadline_ms: 300, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let (id, items) = (transaction(), some(250));
    let body = batch(&id, &items);
    // So that the key is known.
    assert_eq!(shop.get(&format!("{BATCHES}/{id}")).await.problem(), "not-found");
    installation.redis.kill();
    let away = shop.post(BATCHES, &body).await;
    assert_eq!((away.status, away.problem()), (503, "store-unavailable"));
    installation.redis.restart();
    let accepted = eventually(&shop, &body).await;
    assert_eq!((accepted.status, accepted.header("idempotency-replayed")), (202, None));

    assert_eq!(installation.expand().await.unwrap(), 1);
    installation.redis.kill();
    assert!(installation.expand().await.is_err());
    installation.redis.restart();
    assert_eq!(eventually(&shop, &body).await.header("idempotency-replayed"), Some("true"));
    expand(&installation).await;
    let done = read(&shop, &id).await;
    assert_eq!((&done["status"], &done["results"]["opened"]), (&json!("expanded"), &json!(250)));
    assert_eq!(payouts(&shop).await, 250);
}

/// Until the connections are back.
async fn eventually(shop: &Caller, body: &Value) -> Reply {
    let began = Instant::now();
    loop {
        let reply = shop.post(BATCHES, body).await;
        if reply.status != 503 || began.elapsed() > Duration::from_secs(20) {
            return reply;
        }
    }
}
