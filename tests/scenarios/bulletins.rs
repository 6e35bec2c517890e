//! What a party is told that is no payout's: how its subscriptions fare.

use std::time::Duration;

use domain::bulletin::News;
use domain::fact::Provider;
use domain::id::{Mode, PartyId, PayoutId};
use domain::signature::Secret;
use serde_json::{Value, json};
use workers::egress;

use crate::receiver::{Mood, Received, Receiver};
use crate::support::{Caller, Installation, Plan, payout, transaction};

struct Site {
    installation: Installation,
    shop: Caller,
}

impl Site {
    async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    async fn open_with(change: impl FnOnce(&mut Installation)) -> Self {
        let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
        let mut installation = Installation::with(Plan { egress, ..Plan::default() }).await;
        change(&mut installation);
        let shop = installation.caller("shop").await;
        Self { installation, shop }
    }

    /// A subscription: its path and its secret.
    async fn subscribed(&self, to: &Receiver, kinds: Value) -> (String, Secret) {
        let made = self.shop.post("/v1/webhooks", &json!({ "url": to.url, "event_types": kinds, "name": "n" })).await;
        assert_eq!(made.status, 201, "{made:?}");
        (made.header("location").unwrap().to_owned(), Secret::parse(made.json["result"]["secret"].as_str().unwrap()).unwrap())
    }

    /// The names of all fields of the bulletin.
    fn fields(&self) -> Vec<String> {
        let (party, shards) = (PartyId::parse("shop").unwrap(), self.installation.store.shards());
        let id = PayoutId::of_bulletin(&party, Mode::Test, shards);
        let answer = self.installation.redis.say(&["HKEYS", &format!("t:{{{}}}:po:{id}", id.shard().tag())]);
        answer.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with(['*', '$'])).map(ToOwned::to_owned).collect()
    }

    fn now_s(&self) -> i64 {
        self.installation.store.clock().now().as_second()
    }
}

fn told(received: &[Received]) -> Vec<(String, u64)> {
    let one = |message: &Received| {
        let body = message.json();
        (body["type"].as_str().unwrap().to_owned(), body["data"]["sequence"].as_u64().unwrap())
    };
    received.iter().map(one).collect()
}

/// Whoever asks for it by name hears of it in order, and `*` means payouts; the receiver before another URL hears of that once.
#[tokio::test]
async fn a_party_hears_how_its_subscriptions_fare() {
    let site = Site::open().await;
    let (watcher, old, new) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let (_, watching) = site.subscribed(&watcher, json!(["webhook.*"])).await;
    let (books, secret) = site.subscribed(&old, json!("*")).await;
    let id = books.rsplit('/').next().unwrap().to_owned();
    let moved = site.shop.patch(&books, &json!({ "version": 1, "url": new.url })).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    old.mood(Mood::Status(500));
    site.installation.deliver().await;
    old.mood(Mood::Status(200));
    site.installation.store.move_clock(Duration::from_secs(6)).await.unwrap();
    site.installation.deliver().await;
    let [first, second] = &old.take()[..] else { panic!("it is tried again, and then told") };
    assert_eq!((first.header("webhook-id"), &first.body), (second.header("webhook-id"), &second.body));
    assert_eq!(second.verify(&secret, site.now_s()), Ok(()), "with the secret that it knows");
    let body = second.json();
    assert_eq!((&body["type"], &body["data"]["subscription_id"], &body["data"]["changed"]), (&json!("webhook.changed"), &json!(id), &json!(["url"])));
    assert!(!second.body.windows(new.url.len()).any(|part| part == new.url.as_bytes()), "where it leads now is not told there");
    let subscriptions = site.shop.get("/v1/webhooks").await.json["results"].as_array().unwrap().len();
    assert_eq!(subscriptions, 2, "nobody sees what is left of it");

    new.mood(Mood::Status(410));
    assert_eq!(site.shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    site.installation.deliver().await;
    assert_eq!(told(&new.take()), [("payout.requested".to_owned(), 1)], "of itself it hears nothing unless it asks");
    assert_eq!(site.shop.get(&books).await.json["result"]["status"], "disabled");
    assert_eq!(site.shop.post(&format!("{books}/resume"), &json!({})).await.status, 200);
    assert_eq!(site.shop.post(&format!("{books}/pause"), &json!({})).await.status, 200);
    assert_eq!(site.shop.post(&format!("{books}/resume"), &json!({})).await.status, 200);
    site.installation.deliver().await;
    let heard = watcher.take();
    let expected =
        ["webhook.changed", "webhook.disabled", "webhook.enabled"].into_iter().zip(1..).map(|(kind, sequence)| (kind.to_owned(), sequence));
    assert_eq!(told(&heard), expected.collect::<Vec<_>>());
    assert_eq!(heard[1].json()["data"]["reason"], "gone");
    assert!(heard[1..].iter().all(|message| message.verify(&watching, site.now_s()) == Ok(())), "the first was signed six seconds ago");
    assert!(old.take().is_empty());
    let shard = &id[4..6];
    let left = site.installation.redis.say(&["KEYS", &format!("t:{{s{shard}}}:sub:*")]);
    assert_eq!(left.matches("sub_").count(), 2, "{left}");
}

/// A subscription is warned of before it is disabled, each time once; those who are failing themselves keep what waits for them.
#[tokio::test]
async fn a_failing_subscription_is_told_before_it_is_disabled() {
    let site = Site::open().await;
    let (watcher, failing) = (Receiver::start().await, Receiver::start().await);
    site.subscribed(&watcher, json!(["webhook.failing", "webhook.disabled"])).await;
    let (path, _) = site.subscribed(&failing, json!(["payout.*", "webhook.*"])).await;
    failing.mood(Mood::Status(500));
    let mut hours = 0;
    while site.shop.get(&path).await.json["result"]["status"] != "disabled" {
        let mut asked = payout(&transaction());
        asked["beneficiary_reference"] = json!(format!("W {hours}"));
        assert_eq!(site.shop.post("/v1/payouts", &asked).await.status, 202);
        site.installation.deliver().await;
        site.installation.store.move_clock(Duration::from_hours(2)).await.unwrap();
        hours += 2;
        assert!(hours < 200, "{hours}");
    }
    site.installation.deliver().await;
    let heard = watcher.take();
    let expected =
        ["webhook.failing", "webhook.failing", "webhook.disabled"].into_iter().zip(1..).map(|(kind, sequence)| (kind.to_owned(), sequence));
    assert_eq!(told(&heard), expected.collect::<Vec<_>>());
    let warning = heard[0].json();
    assert!(warning["data"]["failing_since"].is_string() && warning["data"]["disabled_at"].is_string(), "{warning}");
    assert_eq!(heard[2].json()["data"]["reason"], "failing");
}

/// What is told once is told once, however often it is said and whoever else speaks; numbers have no gaps.
#[tokio::test]
async fn a_bulletin_has_no_gaps() {
    let site = Site::open().await;
    let watcher = Receiver::start().await;
    site.subscribed(&watcher, json!(["reconciliation.break"])).await;
    let (store, shop) = (&site.installation.store, PartyId::parse("shop").unwrap());
    let news = |matched| News::Break { provider: Provider::Truelayer, day: jiff::civil::date(2026, 3, 2), matched, breaks: [("amount", 1)].into() };
    let say = async |n: u64| store.announce(&shop, Mode::Test, &news(n), &format!("day {n}")).await.unwrap();
    futures_util::future::join_all((0..8).chain(0..8).map(say)).await;
    site.installation.deliver().await;
    let heard = watcher.take();
    assert_eq!(told(&heard), (1..=8).map(|sequence| ("reconciliation.break".to_owned(), sequence)).collect::<Vec<_>>());
    let mut matched: Vec<_> = heard.iter().map(|message| message.json()["data"]["matched"].as_u64().unwrap()).collect();
    matched.sort_unstable();
    assert_eq!(matched, (0..8).collect::<Vec<_>>());
}

/// Who pulls asks for it by name too, and each event can be read with its deliveries: by whoever may read those of the party.
#[tokio::test]
async fn what_is_told_can_be_pulled_and_read() {
    let site = Site::open().await;
    let watcher = Receiver::start().await;
    site.shop.send_bytes(reqwest::Method::PUT, "/v1/feed", "", &[]).await;
    let (path, _) = site.subscribed(&watcher, json!(["webhook.*"])).await;
    let (other, _) = site.subscribed(&watcher, json!("*")).await;
    let moved = site.shop.patch(&other, &json!({ "version": 1, "url": format!("{}/new", watcher.url) })).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    assert_eq!(site.shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    site.installation.deliver().await;
    let pulled = async |query: &str| {
        let page = site.shop.get(&format!("/v1/events?{query}")).await;
        page.json["results"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(pulled("").await, ["payout.requested"], "all means payouts");
    assert_eq!(pulled("type=webhook.*").await, ["webhook.changed"]);
    assert_eq!(pulled("type=webhook.disabled").await, Vec::<String>::new());
    assert_eq!(pulled("type=webhook.*&type=payout.*").await, ["webhook.changed", "payout.requested"]);

    let page = site.shop.get("/v1/events?type=webhook.changed").await;
    let event = &page.json["results"][0];
    let one = format!("/v1/events/{}", event["id"].as_str().unwrap());
    let read = site.shop.get(&one).await.json["result"].clone();
    assert_eq!((&read["type"], &read["payload"], read.get("payout_id")), (&json!("webhook.changed"), &event["payload"], None));
    let [delivery] = &read["deliveries"].as_array().unwrap()[..] else { panic!("{read}") };
    assert_eq!((&delivery["subscription_id"], &delivery["status"]), (&json!(path.rsplit('/').next().unwrap()), &json!("delivered")));
    let listed = format!("/v1/deliveries?event_id={}", read["id"].as_str().unwrap());
    let list = site.shop.get(&listed).await.json;
    let [again] = &list["results"].as_array().unwrap()[..] else { panic!("{list}") };
    assert_eq!((&again["id"], &again["event_type"], again.get("payout_id")), (&delivery["id"], &json!("webhook.changed"), None));
    let platform = site.installation.caller_with(|_| {}).await;
    assert_eq!(platform.get(&format!("{one}?party_id=shop")).await.status, 200);
    let cafe = site.installation.caller("cafe").await;
    assert_eq!(
        (cafe.get(&listed).await.problem(), site.shop.get(&format!("{listed}&payout=x")).await.errors()),
        ("not-found", vec![("payout", "not_allowed")])
    );
    assert_eq!((cafe.get(&one).await.problem(), platform.get(&format!("{one}?party_id=cafe")).await.problem()), ("not-found", "not-found"));
    let (event, _) = one.rsplit_once('_').unwrap();
    assert_eq!(site.shop.get(&format!("{event}_9")).await.problem(), "not-found");
}

/// What is left at a former URL ends with its only delivery: told, refused for good, or given up.
#[tokio::test]
async fn a_farewell_leaves_nothing_behind() {
    for mood in [Mood::Status(200), Mood::Status(410), Mood::Status(500)] {
        let site = Site::open_with(|installation| installation.relay.waits_s = Some(vec![1])).await;
        let old = Receiver::start().await;
        let (books, _) = site.subscribed(&old, json!("*")).await;
        let shard = books.rsplit('/').next().unwrap()[4..6].to_owned();
        old.mood(mood);
        assert_eq!(site.shop.patch(&books, &json!({ "version": 1, "url": format!("{}/new", old.url) })).await.status, 200);
        assert!(site.fields().iter().any(|field| field.starts_with("q:")), "it is to be told");
        for _ in 0..3 {
            site.installation.deliver().await;
            site.installation.store.move_clock(Duration::from_secs(60)).await.unwrap();
        }
        assert!(!old.take().is_empty());
        let left = site.installation.redis.say(&["KEYS", &format!("t:{{s{shard}}}:sub:*")]);
        assert_eq!(left.matches("sub_").count(), 1, "{mood:?}: {left}");
        let mut fields = site.fields();
        fields.sort();
        assert_eq!(fields, ["e:1", "n"], "{mood:?}");
        assert!(!site.installation.redis.say(&["ZRANGE", &format!("t:{{s{shard}}}:lanes"), "0", "-1"]).contains("sub_"), "{mood:?}");
        assert!(!site.installation.redis.say(&["KEYS", &format!("t:{{s{shard}}}:abandoned*")]).contains("abandoned"), "{mood:?}");
    }
}

/// About a thousand are kept. One that somebody waits for stays longer, and goes with those that come after it.
#[tokio::test]
async fn what_was_kept_back_goes_later() {
    let site = Site::open().await;
    let watcher = Receiver::start().await;
    let (path, _) = site.subscribed(&watcher, json!(["reconciliation.break"])).await;
    assert_eq!(site.shop.post(&format!("{path}/pause"), &json!({})).await.status, 200);
    let (store, shop) = (&site.installation.store, PartyId::parse("shop").unwrap());
    let say = async |n: u64| {
        let news = News::Break { provider: Provider::Truelayer, day: jiff::civil::date(2026, 3, 2), matched: n, breaks: [("amount", 1)].into() };
        store.announce(&shop, Mode::Test, &news, &format!("day {n}")).await.unwrap();
    };
    for n in 0..1_020 {
        say(n).await;
    }
    let count = |beginning: &str| site.fields().iter().filter(|field| field.starts_with(beginning)).count();
    assert_eq!((count("e:"), count("told:")), (1_020, 1_020), "it waits for all of them");
    assert_eq!(site.shop.delete(&path).await.status, 204);
    say(1_020).await;
    assert_eq!(count("e:"), 1_005, "sixteen at a time");
    say(1_021).await;
    assert_eq!((count("e:"), count("told:"), count("once:")), (1_000, 1_000, 1_000));
}

/// What was told, and what did not get through, is found, read and delivered again like what is told of payouts.
#[tokio::test]
async fn what_was_told_is_found_and_told_again() {
    let site = Site::open_with(|installation| installation.relay.waits_s = Some(vec![1])).await;
    let (watcher, other) = (Receiver::start().await, Receiver::start().await);
    let (path, _) = site.subscribed(&watcher, json!(["webhook.*"])).await;
    let (books, _) = site.subscribed(&other, json!(["payout.*"])).await;
    let watching = path.rsplit('/').next().unwrap();
    let list = async |query: &str| {
        let page = site.shop.get(&format!("/v1/deliveries?{query}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        page.json
    };
    let found = async |query: &str| {
        let one = |delivery: &Value| format!("{} {}", delivery["event_type"].as_str().unwrap(), delivery["status"].as_str().unwrap());
        list(query).await["results"].as_array().unwrap().iter().map(one).collect::<Vec<_>>()
    };
    let change = async |version: u64, name: &str| {
        let body = json!({ "version": version, "name": name, "url": format!("{}/{name}", other.url) });
        assert_eq!(site.shop.patch(&books, &body).await.status, 200);
    };
    change(1, "a").await;
    site.installation.deliver().await;
    watcher.mood(Mood::Status(500));
    change(2, "b").await;
    change(3, "c").await;
    assert_eq!(found("status=pending&type=webhook.changed").await, ["webhook.changed pending"; 2]);
    for _ in 0..3 {
        site.installation.deliver().await;
        site.installation.store.move_clock(Duration::from_secs(60)).await.unwrap();
    }
    assert_eq!(site.shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    site.installation.deliver().await;
    watcher.mood(Mood::Status(200));
    watcher.take();

    let bulletin = ["webhook.changed abandoned", "webhook.changed abandoned", "webhook.changed delivered"];
    assert_eq!(found("").await, [&["payout.requested delivered"], &bulletin[..]].concat(), "behind those of payouts");
    assert_eq!(found("type=webhook.*").await, bulletin);
    assert_eq!(found(&format!("subscription_id={watching}")).await, bulletin);
    assert_eq!(found("type=payout.*").await, ["payout.requested delivered"]);
    assert_eq!(found("type=webhook.failing").await, Vec::<String>::new());
    assert_eq!(found("status=delivered&type=webhook.*").await, bulletin[2..]);
    assert_eq!(found("status=abandoned").await, bulletin[..2]);
    let (mut paged, mut query) = (Vec::new(), "limit=1".to_owned());
    loop {
        let page = list(&query).await;
        paged.extend(page["results"].as_array().unwrap().iter().map(|delivery| delivery["id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("limit=1&cursor={cursor}");
    }
    let whole: Vec<_> = list("").await["results"].as_array().unwrap().iter().map(|delivery| delivery["id"].clone()).collect();
    assert_eq!((paged.len(), &paged), (4, &whole), "one at a time");

    let lost = list("status=abandoned").await["results"][0].clone();
    let one = format!("/v1/deliveries/{}", lost["id"].as_str().unwrap());
    let read = site.shop.get(&one).await;
    assert_eq!((read.status, &read.json["result"]["status"], read.json["result"].get("payout_id")), (200, &json!("abandoned"), None));
    assert_eq!(read.json["result"]["attempts"].as_array().unwrap().len(), 2, "{read:?}");
    assert_eq!(site.installation.caller("cafe").await.get(&one).await.problem(), "not-found");

    let retried = site.shop.post(&format!("{path}/retry"), &json!({ "event_id": lost["event_id"] })).await;
    assert_eq!(retried.status, 202, "{retried:?}");
    site.installation.deliver().await;
    let [message] = &watcher.take()[..] else { panic!("it comes again") };
    assert_eq!((message.header("webhook-id"), message.header("payrelay-replay")), (lost["event_id"].as_str().unwrap(), "1"));
    assert_eq!(site.shop.get(&format!("{path}/abandoned")).await.json["results"].as_array().unwrap().len(), 1);

    let replays = format!("{path}/replays");
    let counted = site.shop.post(&replays, &json!({ "what": "abandoned", "dry_run": true })).await;
    assert_eq!(counted.json["result"]["deliveries"], 1, "{counted:?}");
    assert_eq!(site.shop.post(&format!("{path}/abandoned/retry"), &json!({})).await.status, 202);
    site.installation.replay().await;
    site.installation.deliver().await;
    assert_eq!(told(&watcher.take()), [("webhook.changed".to_owned(), 2)]);
    assert_eq!(found("").await, [&["payout.requested delivered"], &["webhook.changed delivered"; 3][..]].concat());
    let refused = site.shop.post(&replays, &json!({ "event_types": ["webhook.*"] })).await;
    assert_eq!(refused.errors(), [("/event_types", "not_allowed")]);
}

/// What did not get through is listed as long as its event is kept.
#[tokio::test]
async fn what_was_given_up_goes_with_its_event() {
    let site = Site::open_with(|installation| installation.relay.waits_s = Some(Vec::new())).await;
    let watcher = Receiver::start().await;
    let (path, _) = site.subscribed(&watcher, json!(["reconciliation.break"])).await;
    let (store, shop) = (&site.installation.store, PartyId::parse("shop").unwrap());
    let say = async |n: u64| {
        let news = News::Break { provider: Provider::Truelayer, day: jiff::civil::date(2026, 3, 2), matched: n, breaks: [("amount", 1)].into() };
        store.announce(&shop, Mode::Test, &news, &format!("day {n}")).await.unwrap();
    };
    let lists = || site.installation.redis.say(&["KEYS", "t:*abandoned*"]).matches("abandoned").count();
    watcher.mood(Mood::Status(500));
    say(0).await;
    site.installation.deliver().await;
    assert_eq!((site.shop.get(&format!("{path}/abandoned")).await.json["results"].as_array().unwrap().len(), lists()), (1, 2));
    watcher.mood(Mood::Status(200));
    site.installation.store.move_clock(Duration::from_secs(60)).await.unwrap();
    for n in 1..=1_000 {
        say(n).await;
    }
    assert_eq!(lists(), 0);
}

/// Many wait for a subscription that is paused: they are listed in pages to the last, and a page looks at so many only.
#[tokio::test]
async fn what_waits_is_listed_to_its_end() {
    let site = Site::open().await;
    let watcher = Receiver::start().await;
    let (path, _) = site.subscribed(&watcher, json!(["reconciliation.break"])).await;
    assert_eq!(site.shop.post(&format!("{path}/pause"), &json!({})).await.status, 200);
    let (store, shop) = (&site.installation.store, PartyId::parse("shop").unwrap());
    for n in 0..1_203_u64 {
        let news = News::Break { provider: Provider::Truelayer, day: jiff::civil::date(2026, 3, 2), matched: n, breaks: [("amount", 1)].into() };
        store.announce(&shop, Mode::Test, &news, &format!("day {n}")).await.unwrap();
    }
    let walk = async |query: &str| {
        let (mut found, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let page = site.shop.get(&format!("/v1/deliveries?{query}&limit=200{cursor}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            found.extend(page.json["results"].as_array().unwrap().iter().map(|delivery| delivery["id"].as_str().unwrap().to_owned()));
            pages += 1;
            let Some(next) = page.json["next_cursor"].as_str() else { return (found, pages) };
            cursor = format!("&cursor={next}");
        }
    };
    let (found, pages) = walk("status=pending").await;
    let whole = found.len();
    let different: std::collections::BTreeSet<_> = found.into_iter().collect();
    assert_eq!((whole, different.len(), pages), (1_203, 1_203, 7));
    assert_eq!(walk("status=pending&type=webhook.*").await, (Vec::new(), 2), "a thousand are looked at for a page");
    let (listed, _) = walk("type=reconciliation.break").await;
    assert_eq!(listed.into_iter().collect::<std::collections::BTreeSet<_>>(), different, "they are all there");
}

/// Of a subscription that is gone nothing stays behind in the lists of what was given up.
#[tokio::test]
async fn what_a_subscription_has_not_heard_goes_with_it() {
    let site = Site::open().await;
    let watcher = Receiver::start().await;
    let (path, _) = site.subscribed(&watcher, json!(["webhook.*"])).await;
    let (books, _) = site.subscribed(&watcher, json!("*")).await;
    assert_eq!(site.shop.post(&format!("{path}/pause"), &json!({})).await.status, 200);
    for version in 1..4_u64 {
        let change = json!({ "version": version, "url": format!("{}/{version}", watcher.url) });
        assert_eq!(site.shop.patch(&books, &change).await.status, 200);
    }
    assert_eq!(site.shop.delete(&path).await.status, 204);
    site.installation.deliver().await;
    assert!(!site.installation.redis.say(&["KEYS", "t:*abandoned*"]).contains("abandoned"));
}
