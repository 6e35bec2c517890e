//! The freeze of dispatch for one party.

use std::time::Duration;

use domain::id::{Mode, PartyId, PayoutId, Shard};
use serde_json::{Value, json};
use workers::store::books::Walk;
use workers::store::lanes::{ExecuteLane, Lane};
use workers::{execute, queue, sweep};

use crate::support::{Caller, Installation, Plan, payout, transaction};

const FREEZE: &str = "/parties/shop/freeze";
const THAW: &str = "/parties/shop/thaw";
/// Longer than the leases by hand.
const LEASE: Duration = Duration::from_secs(31);

struct Site {
    installation: Installation,
    platform: Caller,
    shop: Caller,
    other: Caller,
}

impl Site {
    async fn with(ingress: Value) -> Self {
        let installation = Installation::with(Plan { ingress, ..Plan::default() }).await;
        let platform = installation.caller_with(|_| {}).await;
        let (shop, other) = (installation.caller("shop").await, installation.caller("other").await);
        Self { installation, platform, shop, other }
    }

    async fn freeze(&self) -> Value {
        let reply = self.platform.post(FREEZE, &json!({ "reason": "a warrant", "mode": "test" })).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json["result"].clone()
    }

    async fn thaw(&self) -> Value {
        let reply = self.platform.post(THAW, &json!({})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json["result"].clone()
    }

    /// Some time passes, and what is due is done.
    async fn after(&self, wait: Duration) {
        self.installation.store.move_clock(wait).await.unwrap();
        self.installation.execute().await;
    }

    /// Turns of a busy worker, as many as it takes to have had all of two thousand payouts once.
    async fn work(&self) {
        let (store, second) = (&self.installation.store, Duration::from_secs(1));
        let settings = queue::Settings {
            name: "many",
            concurrency: 32,
            batch: 100,
            tick: second,
            handler_deadline: 10 * second,
            panic_backoff: second,
            drain: second,
        };
        for shard in store.shards().all() {
            let lane = ExecuteLane(Lane { store: store.clone(), shard, lease: Duration::from_secs(30) });
            for _ in 0..25 {
                queue::turn(&lane, &settings, &self.installation.worker(), execute::execute).await.unwrap();
            }
        }
    }

    fn shard(&self) -> Shard {
        self.installation.store.shards().of(&PartyId::parse("shop").unwrap(), Mode::Test)
    }
}

async fn ask(caller: &Caller) -> String {
    let key = transaction();
    let mut body = payout(&key);
    body["beneficiary_reference"] = json!(format!("W {}", &key[..8]));
    let reply = caller.post("/v1/payouts", &body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    key
}

/// The status, and how many providers were tried.
async fn stands(caller: &Caller, key: &str) -> (String, u64) {
    let shown = caller.get(&format!("/v1/payouts/{key}")).await.json["result"].clone();
    (shown["status"].as_str().unwrap().to_owned(), shown["attempts"].as_u64().unwrap())
}

/// Nothing of the party is sent, however long it takes and whoever else's payouts go on; what was asked for meanwhile waits, has its whole time
/// afterwards, and can be taken back.
#[tokio::test]
async fn a_frozen_party_waits_and_nobody_else_does() {
    let site = Site::with(json!({})).await;
    let before = ask(&site.shop).await;
    site.installation.execute().await;
    assert_eq!(stands(&site.shop, &before).await.1, 1, "it was tried; the provider is nowhere");
    let frozen = site.freeze().await;
    assert_eq!((&frozen["frozen"], &frozen["progress"]), (&json!(true), &json!("draining")), "{frozen}");
    assert!(frozen["effective_at"].is_string() && frozen["reason"] == "a warrant", "{frozen}");
    let (ours, taken_back) = (ask(&site.shop).await, ask(&site.shop).await);
    let mut last = String::new();
    for _ in 0..2 {
        last = ask(&site.other).await;
        site.after(LEASE / 2 + Duration::from_secs(1)).await;
        assert_eq!(stands(&site.other, &last).await.1, 1, "others go on");
    }
    let shown = site.platform.get(FREEZE).await.json["result"].clone();
    assert_eq!((&shown["progress"], &shown["held"]), (&json!("effective"), &json!(3)), "whatever others send: {shown}");
    assert_eq!(stands(&site.shop, &ours).await, ("scheduled".to_owned(), 0));
    let reply = site.shop.post(&format!("/v1/payouts/{taken_back}/cancel"), &json!({})).await;
    assert_eq!((reply.status, &reply.json["result"]["status"]), (200, &json!("canceled")));
    assert_eq!(site.platform.get(FREEZE).await.json["result"]["held"], 2);
    assert_eq!(site.freeze().await["reason"], "a warrant", "the first freeze stays");

    // Longer than a payout is tried at all.
    site.after(Duration::from_hours(3)).await;
    assert_eq!(stands(&site.shop, &before).await.0, "scheduled", "that is not its fault");
    let thawed = site.thaw().await;
    assert_eq!((&thawed["frozen"], &thawed["held"]), (&json!(false), &json!(0)), "{thawed}");
    site.installation.execute().await;
    assert_eq!(stands(&site.shop, &ours).await.1, 1);
    assert_eq!(stands(&site.shop, &before).await.0, "scheduled", "its time to be tried has begun anew");
    assert_eq!(stands(&site.other, &last).await.1, 1);
    assert_eq!(site.thaw().await["frozen"], false, "again, and nothing changes");
}

/// Nobody's turn comes to an end meanwhile: neither by the time for an approval, nor by a rule of ours.
#[tokio::test]
async fn nothing_ends_while_its_party_is_frozen() {
    let site = Site::with(json!({ "approvals": [{ "parties": ["shop"] }], "approval_hours": 1 })).await;
    let waits = ask(&site.shop).await;
    site.freeze().await;
    site.after(Duration::from_hours(2)).await;
    assert_eq!(stands(&site.shop, &waits).await.0, "awaiting_approval");
    site.thaw().await;
    site.after(Duration::from_secs(60)).await;
    assert_eq!(stands(&site.shop, &waits).await.0, "canceled");
}

/// The answer to a thaw was lost, a colleague has frozen the party again, and the caller repeats its request: the newer freeze stays.
#[tokio::test]
async fn a_thaw_ends_the_freeze_that_it_names() {
    let site = Site::with(json!({})).await;
    let frozen = site.freeze().await;
    let thaw = json!({ "frozen_at": frozen["at"] });
    for _ in 0..2 {
        let thawed = site.platform.post(THAW, &thaw).await;
        assert_eq!((thawed.status, &thawed.json["result"]["frozen"]), (200, &json!(false)), "{thawed:?}");
    }
    site.after(Duration::from_secs(1)).await;
    assert_ne!(site.freeze().await["at"], frozen["at"]);
    let refused = site.platform.post(THAW, &thaw).await;
    assert_eq!((refused.status, refused.problem()), (409, "version-stale"), "{refused:?}");
    assert_eq!(site.platform.get(FREEZE).await.json["result"]["frozen"], true);
    let wrong = site.platform.post(THAW, &json!({ "frozen_at": "yesterday" })).await;
    assert_eq!((wrong.status, wrong.errors()), (400, vec![("/frozen_at", "not_an_instant")]), "{wrong:?}");
    assert_eq!(site.thaw().await["frozen"], false);
}

/// Whoever thaws a party may die after the first page: the sweep goes on, so nothing waits for a freeze that is over.
#[tokio::test]
async fn a_thaw_that_was_cut_short_is_gone_on_with() {
    let site = Site::with(json!({})).await;
    let ours = ask(&site.shop).await;
    site.freeze().await;
    site.installation.execute().await;
    let (worker, shard) = (site.installation.worker(), site.shard());
    let swept = sweep::sweep(&worker, shard, &mut Walk::default()).await.unwrap();
    assert_eq!((swept.vitals.stopped.parties, swept.vitals.stopped.held), (1, 1), "seen while it is frozen, and left alone");
    // What the first page of a thaw leaves where more wait.
    site.installation.redis.say(&["HDEL", &format!("t:{{{}}}:stop:shop:test", shard.tag()), "frozen"]);
    let swept = sweep::sweep(&worker, shard, &mut Walk::default()).await.unwrap();
    assert_eq!((swept.vitals.stopped.parties, swept.vitals.stopped.held), (0, 0));
    assert!(swept.looked_over.repaired.is_empty());
    site.installation.execute().await;
    assert_eq!(stands(&site.shop, &ours).await.1, 1);
}

/// What was permitted before may still be sent; what a worker decides after the freeze is not, however long ago it was leased.
#[tokio::test]
async fn an_intent_that_comes_after_the_freeze_is_not_committed() {
    use domain::fact::Source;
    use domain::payout::{Fact, What};
    use workers::queue::Source as _;
    use workers::store::payouts::{Permit, Permitted};
    let site = Site::with(json!({})).await;
    let key = ask(&site.shop).await;
    let store = &site.installation.store;
    let lane = ExecuteLane(Lane { store: store.clone(), shard: site.shard(), lease: Duration::from_secs(30) });
    let (work, ticket) = lane.lease(1).await.unwrap().items.remove(0);
    assert_eq!(work.payout.id, PayoutId::derive(&PartyId::parse("shop").unwrap(), Mode::Test, &key, store.shards()));
    site.freeze().await;
    let now = store.clock().now();
    let intent = Fact::new(Source::Worker, What::Initiate { send_by: now, aside_until: None });
    let verdict = work.payout.apply(&intent, &site.installation.recorder.plan(&work.payout), now);
    let permitted = store.commit_intent(verdict.step().unwrap(), Permit::Execute(ticket.token), Some(b"{}")).await.unwrap();
    assert_eq!(permitted, Permitted::Held { why: "party_frozen" });
    assert!(store.request(work.payout.id).await.unwrap().is_none(), "nothing was written");
}

#[tokio::test]
async fn only_operators_of_the_platform_freeze() {
    let site = Site::with(json!({})).await;
    let own = site.shop.post(FREEZE, &json!({ "reason": "x" })).await;
    assert_eq!((own.status, own.problem()), (403, "missing-scope"), "{own:?}");
    let writer = |key: &mut domain::credential::ApiKey| key.scopes = [domain::credential::Scope::PayoutsWrite].into();
    let reply = site.installation.caller_with(writer).await.post(FREEZE, &json!({ "reason": "x" })).await;
    assert_eq!((reply.status, reply.problem()), (403, "missing-scope"));
    for body in [json!({}), json!({ "reason": " " }), json!({ "reason": "x", "mode": "live" }), json!({ "reason": "x", "more": 1 })] {
        assert_eq!(site.platform.post(FREEZE, &body).await.problem(), "invalid-fields", "{body}");
    }
    assert_eq!(site.platform.get(FREEZE).await.json["result"]["frozen"], false);
}

/// Many due payouts that nobody may send are in nobody's way: those of an account whose ledger is at fault, and approvals that expire while their party is frozen. They come
/// back by themselves when that has ended.
#[tokio::test]
async fn what_nobody_may_send_costs_its_neighbours_nothing() {
    const MANY: usize = 1_000;
    let site = Site::with(json!({ "approvals": [{ "parties": ["shop"] }], "approval_hours": 1 })).await;
    let faulty = site.installation.caller("faulty").await;
    let mut asked = Vec::new();
    for caller in [&site.shop, &faulty] {
        let items: Vec<Value> = (0..MANY)
            .map(|n| {
                let mut body = payout(&transaction());
                body["beneficiary_reference"] = json!(format!("W {n}"));
                body
            })
            .collect();
        asked.push(items[MANY / 2]["transaction_id"].as_str().unwrap().to_owned());
        let batch = json!({ "batch_id": transaction(), "items": items });
        assert_eq!(caller.post("/v1/payouts/batches", &batch).await.status, 202);
        while site.installation.expand().await.unwrap() > 0 {}
    }
    site.freeze().await;
    let shard = site.installation.store.shards().of(&PartyId::parse("faulty").unwrap(), Mode::Test);
    let ledger = format!("t:{{{}}}:acct:faulty:test:GBP", shard.tag());
    let off_by = |minor: &str| site.installation.redis.say(&["HINCRBY", &ledger, "settled", minor]);
    off_by("3");
    site.installation.store.audit(shard).await.unwrap();
    site.installation.store.move_clock(Duration::from_hours(2)).await.unwrap();
    let in_shard = |shard: Shard, lane: &str| {
        site.installation.redis.say(&["ZCARD", &format!("t:{{{}}}:{lane}", shard.tag())]).trim_start_matches(':').trim().parse::<usize>().unwrap()
    };
    let waiting = |lane: &str| site.installation.store.shards().all().map(|shard| in_shard(shard, lane)).sum::<usize>();
    site.work().await;
    assert_eq!((waiting("held:party:shop:test"), waiting("held:account:faulty:test:GBP"), waiting("due:execute")), (MANY, MANY, 0));
    let neighbour = ask(&site.other).await;
    site.installation.execute().await;
    assert_eq!(stands(&site.other, &neighbour).await.1, 1, "it has its turn at once");
    assert_eq!(stands(&faulty, &asked[1]).await, ("scheduled".to_owned(), 0));
    assert_eq!(stands(&site.shop, &asked[0]).await.0, "awaiting_approval");

    let worker = site.installation.worker();
    let swept = sweep::sweep(&worker, shard, &mut Walk::default()).await.unwrap();
    assert_eq!((swept.vitals.held_by_faults, swept.looked_over.repaired.len()), (MANY as u64, 0));
    off_by("-3");
    let swept = sweep::sweep(&worker, shard, &mut Walk::default()).await.unwrap();
    assert_eq!((swept.vitals.held_by_faults, waiting("held:account:faulty:test:GBP")), (0, 0));
    site.thaw().await;
    site.work().await;
    assert!(waiting("held:truelayer:test") > MANY / 2, "they went on, until some of them had found that the provider is nowhere");
    assert_eq!(stands(&site.shop, &asked[0]).await.0, "canceled");
}

/// When a freeze is effective is decided with it, and not by what a freeze before it has left behind that was ended while it was written.
#[tokio::test]
async fn a_freeze_is_effective_by_its_own_time() {
    let site = Site::with(json!({})).await;
    ask(&site.shop).await;
    site.installation.execute().await;
    let stop = format!("t:{{{}}}:stop:shop:test", site.shard().tag());
    site.installation.redis.say(&["HSET", &stop, "drained", "1"]);
    let frozen = site.freeze().await;
    assert_eq!(frozen["progress"], "draining", "what it has sent just now is on its way: {frozen}");
    let drained = site.installation.redis.say(&["HGET", &stop, "drained"]);
    site.after(Duration::from_secs(5)).await;
    site.freeze().await;
    assert_eq!(site.installation.redis.say(&["HGET", &stop, "drained"]), drained, "the first freeze stays");
}
