//! The store against a real server: what the scripts promise, one story each.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

#[path = "store/gate.rs"]
mod gate;
#[path = "store/ledger.rs"]
mod ledger;
#[path = "store/parties.rs"]
mod parties;
#[path = "store/processes.rs"]
mod processes;
#[path = "store/property.rs"]
mod property;
#[path = "store/turns.rs"]
mod turns;

use std::collections::BTreeMap;

use domain::delivery::{Attempt, Attempted, Decision, Delivery};
use domain::destination::{Beneficiary, BeneficiaryName, Destination, Iban, StatementReference};
use domain::fact::{Provider, Reason, Source};
use domain::id::{BatchId, DeliveryId, Mode, NoticeId, PartyId, PayoutId, Shard, SubscriptionId};
use domain::metadata::Metadata;
use domain::money::{Currency, Money};
use domain::payout::state::StateName;
use domain::payout::{Fact, Order, Payout, Plan, Step, Verdict, What};
use domain::signature::Secret;
use domain::subscription::{EventTypes, Pattern, Secrets, Subscription};
use domain::wait::{Backoff, Polling, Retry};
use jiff::SignedDuration;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use workers::batch::{Batch, Item, ItemResult, Outcome, PAGE};
use workers::circuit::Passed;
use workers::group::Group;
use workers::queue::{self, Job, Queue, Source as _};
use workers::store::accounts::Audited;
use workers::store::batches::{Accepted, ExpandLane, Expanded, Kept};
use workers::store::books::Walk;
use workers::store::freeze::Freeze;
use workers::store::groups::{Begun, GroupLane, Phase};
use workers::store::lanes::{ExecuteLane, Lane, PollLane, RelayLanes, RelayTicket, RelayWork, SettleLane, Token};
use workers::store::notices::{Remembered, Settled, Worth};
use workers::store::payouts::{Committed, Opened, Permit, Permitted};
use workers::store::private_server::{Fsync, PrivateServer};
use workers::store::subscriptions::Trouble;
use workers::store::vault::Vault;
use workers::store::{Settings, Store};

struct Installation {
    store: Store,
    server: PrivateServer,
    _folder: tempfile::TempDir,
}

async fn installation() -> Installation {
    let folder = tempfile::tempdir().unwrap();
    let server = PrivateServer::start(folder.path(), Fsync::Always).unwrap();
    let settings = Settings { url: server.url(), prefix: "t:".to_owned(), shards: 1, connections: 4, deadline_ms: 2_000 };
    let keys = BTreeMap::from([(1, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".into())]);
    let store = Store::open(&settings, Vault::new(&keys, 1).unwrap()).await.unwrap();
    Installation { store, server, _folder: folder }
}

fn party() -> PartyId {
    PartyId::parse("acme").unwrap()
}

fn order(store: &Store, key: &str) -> Step {
    Payout::open(order_for(store, key), store.clock().now())
}

fn order_for(store: &Store, key: &str) -> Order {
    let id = PayoutId::derive(&party(), Mode::Test, key, store.shards());
    Order {
        id,
        party: party(),
        mode: Mode::Test,
        transaction_id: key.to_owned(),
        amount: Money::new(10_000, Currency::GBP).unwrap().into(),
        keeps: 0,
        context_code: "withdrawal".to_owned(),
        metadata: Metadata::from(&BTreeMap::from([("case".to_owned(), "a \"b\" é".to_owned())])),
        scheduled_for: None,
        route: vec![Provider::Truelayer],
        maker: "ops".to_owned(),
        batch_id: None,
        replaces: None,
        due_date: None,
        decided_by: std::collections::BTreeSet::new(),
        approve_by: None,
        rule: None,
        trace: None,
    }
}

fn beneficiary() -> Beneficiary {
    Beneficiary {
        name: BeneficiaryName::parse("John Smith", 18).unwrap(),
        reference: StatementReference::parse("Withdrawal 204", 18).unwrap(),
        destination: Destination::Iban(Iban::parse("GB33BUKB20201555555555").unwrap()),
        description: None,
        instrument: None,
    }
}

fn plan() -> Plan {
    Plan {
        cancelable: false,
        polling: Polling { waits: vec![SignedDuration::from_secs(1)], bound: SignedDuration::from_hours(72) },
        redispatch: Backoff { first: SignedDuration::from_secs(1), factor: 2, cap: SignedDuration::from_mins(5) },
        last_words: &[],
        dispatch_bound: SignedDuration::from_hours(24),
    }
}

fn lane(store: &Store) -> Lane {
    Lane { store: store.clone(), shard: Shard::new(0), lease: Duration::from_secs(30) }
}

fn decide(payout: &Payout, store: &Store, what: What) -> Step {
    let verdict = payout.apply(&Fact::new(Source::Worker, what), &plan(), store.clock().now());
    let Verdict::Moved(step) = verdict else { panic!("{verdict:?}") };
    step
}

async fn subscription(store: &Store, event_types: EventTypes) -> SubscriptionId {
    let id = SubscriptionId::new(store.shards().of(&party(), Mode::Test), rand::random());
    let url = "https://merchant.example/hooks".to_owned();
    let subscription = Subscription::new(id, party(), Mode::Test, url, event_types, store.clock().now());
    store.subscribe(&subscription, Some(&Secrets::new(Secret::from_bytes(&[7; 32]).unwrap()))).await.unwrap();
    id
}

fn acknowledged(store: &Store, work: &RelayWork) -> (Delivery, Decision) {
    let now = store.clock().now();
    let mut delivery = Delivery::new(now);
    let attempt = Attempt { at: now, latency_ms: 1, result: Attempted::Acknowledged { status: 200 }, heard: None };
    let decision = delivery.record(DeliveryId::new(work.event.id, work.subscription), attempt, &Retry::three_days(), SignedDuration::ZERO, now);
    (delivery, decision)
}

/// A relay lane that scripts hand deliveries to, and that nobody works at.
fn taking(store: &Store, per_subscription: usize, concurrency: usize) -> (RelayLanes, Queue<RelayLanes>) {
    let relay = RelayLanes::new(lane(store), per_subscription, 64);
    let settings = queue::Settings {
        name: "relay",
        concurrency,
        batch: 10,
        tick: Duration::from_secs(1),
        handler_deadline: Duration::from_secs(10),
        panic_backoff: Duration::from_secs(1),
        drain: Duration::from_secs(1),
    };
    let queue = Queue::new(relay.clone(), settings, store.wakes().relay.clone());
    store.hand_over_to(&relay, queue.door());
    (relay, queue)
}

/// How many scripts the server has run.
async fn scripts_called(raw: &mut redis::aio::MultiplexedConnection) -> u32 {
    let said: String = redis::cmd("INFO").arg("commandstats").query_async(raw).await.unwrap();
    let calls = said.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse().ok());
    calls.unwrap_or_default()
}

async fn open(store: &Store, key: &str) {
    assert!(matches!(store.open_payout(&order(store, key), &beneficiary(), "f").await.unwrap(), Opened::New));
}

#[tokio::test]
async fn the_same_key_makes_one_payout_and_other_content_is_a_conflict() {
    let Installation { store, server: _server, .. } = &installation().await;
    let step = order(store, "k1");
    assert!(matches!(store.open_payout(&step, &beneficiary(), "f1").await.unwrap(), Opened::New));
    let Opened::Exists(found) = store.open_payout(&order(store, "k1"), &beneficiary(), "f1").await.unwrap() else { panic!() };
    assert_eq!(*found, step.payout);
    assert!(matches!(store.open_payout(&order(store, "k1"), &beneficiary(), "f2").await.unwrap(), Opened::Conflict));
    assert_eq!(store.beneficiary(step.payout.id).await.unwrap(), beneficiary());
    assert_eq!(store.audit(Shard::new(0)).await.unwrap(), Audited::default());
}

#[tokio::test]
async fn fifty_at_once_make_one_payout() {
    let Installation { store, server: _server, .. } = &installation().await;
    let beneficiary = beneficiary();
    let calls = (0..50).map(|_| async { store.open_payout(&order(store, "k1"), &beneficiary, "f1").await.unwrap() });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Opened::New)).count(), 1);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Opened::Exists(_))).count(), 49);
}

#[tokio::test]
async fn a_commit_is_repeatable_and_stale_ones_are_told() {
    let Installation { store, server: _server, .. } = &installation().await;
    let opened = order(store, "k1");
    store.open_payout(&opened, &beneficiary(), "f1").await.unwrap();
    let canceled = decide(&opened.payout, store, What::Cancel { reason: Reason::new("asked") });
    let other = decide(&opened.payout, store, What::Decline { reason: Reason::new("limit"), rule: None });
    assert_eq!(store.commit(&canceled).await.unwrap(), Committed::Done);
    assert_eq!(store.commit(&other).await.unwrap(), Committed::Stale);
    assert_eq!(store.load(opened.payout.id).await.unwrap().unwrap().state.name(), StateName::Canceled);
    assert!(ExecuteLane(lane(store)).lease(10).await.unwrap().items.is_empty(), "a canceled payout has no work");
    let timeline = store.timeline(opened.payout.id).await.unwrap().unwrap();
    assert_eq!(timeline.events.iter().map(|event| event.id.sequence()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(timeline.observations.len(), 2);
}

#[tokio::test]
async fn only_the_holder_of_the_lease_may_dispatch() {
    let Installation { store, server: _server, .. } = &installation().await;
    let opened = order(store, "k1");
    store.open_payout(&opened, &beneficiary(), "f1").await.unwrap();
    let lane = ExecuteLane(lane(store));
    let mut leased = lane.lease(10).await.unwrap().items;
    assert_eq!(leased.len(), 1);
    assert!(lane.lease(10).await.unwrap().items.is_empty(), "leased work is not due");
    let (work, ticket) = leased.remove(0);
    assert_eq!(work.payout, opened.payout);
    let intent = decide(&work.payout, store, What::Initiate { send_by: store.clock().now(), aside_until: None });

    let stranger = Token(ticket.token.0 - 1);
    assert_eq!(store.commit_intent(&intent, Permit::Execute(stranger), Some(b"{}")).await.unwrap(), Permitted::LeaseLost);
    store.move_clock(Duration::from_secs(31)).await.unwrap();
    assert_eq!(store.commit_intent(&intent, Permit::Execute(ticket.token), Some(b"{}")).await.unwrap(), Permitted::LeaseLost, "it has ended");
    let mut again = lane.lease(10).await.unwrap().items;
    assert_eq!(again.len(), 1, "a lease that ended leads to the next");
    assert_eq!(again[0].0.times_leased, 2);
    assert_eq!(store.commit_intent(&intent, Permit::Execute(ticket.token), Some(b"{}")).await.unwrap(), Permitted::LeaseLost);
    let (_, ticket) = again.remove(0);
    let permitted = store.commit_intent(&intent, Permit::Execute(ticket.token), Some(b"{}")).await.unwrap();
    assert_eq!(permitted, Permitted::Yes { epoch: 1, look_first: false, passed: Passed::Closed });
    assert_eq!(store.request(opened.payout.id).await.unwrap().unwrap(), b"{}");
    let settled = decide(&intent.payout, store, What::NoAnswer { attempt: 1, send: 1, why: Reason::new("timeout") });
    assert_eq!(store.commit(&settled).await.unwrap(), Committed::Done);
    store.move_clock(Duration::from_secs(5)).await.unwrap();
    assert_eq!(PollLane(self::lane(store)).lease(10).await.unwrap().items.len(), 1);
    assert!(lane.lease(10).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn events_go_to_whom_they_concern_one_after_the_other() {
    let Installation { store, server: _server, .. } = &installation().await;
    let all = subscription(store, EventTypes::All).await;
    let only = subscription(store, EventTypes::These([Pattern::parse("payout.canceled").unwrap()].into())).await;
    let opened = order(store, "k1");
    store.open_payout(&opened, &beneficiary(), "f1").await.unwrap();
    let canceled = decide(&opened.payout, store, What::Cancel { reason: Reason::new("asked") });
    store.commit(&canceled).await.unwrap();

    let relay = RelayLanes::new(lane(store), 8, 64);
    let first = relay.lease(10).await.unwrap();
    let mut found: Vec<_> = first.items.iter().map(|(work, _)| (work.subscription, work.event.kind.clone())).collect();
    let mut expected = vec![(all, "payout.requested".to_owned()), (only, "payout.canceled".to_owned())];
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "the second event waits for the first");
    assert!(relay.lease(10).await.unwrap().items.is_empty());

    let (work, ticket) = first.items.into_iter().find(|(work, _)| work.subscription == all).unwrap();
    let (delivery, decision) = acknowledged(store, &work);
    let relayed = store.relayed(&ticket, &delivery, decision, None).await.unwrap();
    assert_eq!(relayed, workers::store::subscriptions::Relayed::Done { more: true, failing_since: None });
    assert_eq!(store.relayed(&ticket, &delivery, decision, None).await.unwrap(), workers::store::subscriptions::Relayed::LeaseLost);
    let next = relay.lease(10).await.unwrap().items;
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].0.event.kind, "payout.canceled");
    let timeline = store.timeline(opened.payout.id).await.unwrap().unwrap();
    assert_eq!(timeline.deliveries.len(), 3);
    assert_eq!(timeline.deliveries.iter().filter(|listed| listed.delivery.is_some()).count(), 1);
}

/// What the caller attached is in the record of the store once, and comes back with everything that is made of it.
#[tokio::test]
async fn metadata_is_kept_once_and_comes_back_everywhere() {
    let Installation { store, server, .. } = &installation().await;
    subscription(store, EventTypes::All).await;
    let opened = order(store, "k1");
    store.open_payout(&opened, &beneficiary(), "f1").await.unwrap();
    let metadata = opened.payout.metadata.clone();
    assert!(!metadata.is_empty());
    let Opened::Exists(known) = store.open_payout(&opened, &beneficiary(), "f1").await.unwrap() else { panic!() };
    let executed = ExecuteLane(lane(store)).lease(1).await.unwrap().items.remove(0).0.payout;
    let canceled = decide(&known, store, What::Cancel { reason: Reason::new("asked") });
    store.commit(&canceled).await.unwrap();
    let timeline = store.timeline(opened.payout.id).await.unwrap().unwrap();
    let loaded = store.load(opened.payout.id).await.unwrap().unwrap();
    assert!([&*known, &executed, &timeline.payout, &loaded].iter().all(|payout| payout.metadata == metadata));

    let bodies: Vec<&str> = [&opened, &canceled].iter().flat_map(|step| step.events.iter().map(|event| event.body.as_str())).collect();
    assert!(bodies.len() > 1 && bodies.iter().all(|body| body.contains(metadata.json())));
    assert_eq!(timeline.events.iter().map(|event| event.body.as_str()).collect::<Vec<_>>(), bodies);
    let relay = RelayLanes::new(lane(store), 8, 64);
    let (work, _) = relay.lease(1).await.unwrap().items.remove(0);
    assert_eq!(work.event.body, bodies[0]);

    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let fields: Vec<Vec<u8>> = redis::cmd("HVALS").arg(format!("t:{{s00}}:po:{}", opened.payout.id)).query_async(&mut raw).await.unwrap();
    assert_eq!(fields.iter().filter(|field| String::from_utf8_lossy(field).contains(metadata.json())).count(), 1);
}

#[tokio::test]
async fn a_black_hole_uses_only_its_share() {
    let Installation { store, server: _server, .. } = &installation().await;
    let hole = subscription(store, EventTypes::All).await;
    for n in 0..20 {
        store.open_payout(&order(store, &format!("k{n}")), &beneficiary(), "f").await.unwrap();
    }
    let relay = RelayLanes::new(lane(store), 4, 64);
    let leased = relay.lease(100).await.unwrap();
    assert_eq!(leased.items.len(), 4, "the cap of a lane holds");
    assert!(relay.lease(100).await.unwrap().items.is_empty());
    let healthy = subscription(store, EventTypes::All).await;
    store.open_payout(&order(store, "x"), &beneficiary(), "f").await.unwrap();
    let leased = relay.lease(100).await.unwrap().items;
    assert_eq!(leased.len(), 1);
    assert_eq!(leased[0].0.subscription, healthy);
    let tickets = leased.into_iter().map(|(_, ticket)| ticket).collect();
    relay.give_back(tickets, Duration::ZERO).await.unwrap();
    assert_eq!(relay.lease(100).await.unwrap().items.len(), 1, "what is given back is due again");
    store.move_clock(Duration::from_secs(31)).await.unwrap();
    let again = relay.lease(100).await.unwrap().items;
    assert_eq!(again.iter().filter(|(work, _)| work.subscription == hole).count(), 4, "leases of a lost worker come back");
}

#[tokio::test]
async fn a_subscription_earns_its_window() {
    let Installation { store, server: _server, .. } = &installation().await;
    subscription(store, EventTypes::All).await;
    for n in 0..40 {
        open(store, &format!("k{n}")).await;
    }
    let relay = RelayLanes::new(lane(store), 6, 64);
    let (_, queue) = taking(store, 6, 1);
    let mut leased = relay.lease(100).await.unwrap().items;
    assert_eq!(leased.len(), 4, "a new one begins with little");
    let door = queue.door();
    let _room = door.room(1).unwrap();
    for _ in 0..3 {
        let (work, ticket) = leased.remove(0);
        let (delivery, decision) = acknowledged(store, &work);
        store.relayed(&ticket, &delivery, decision, None).await.unwrap();
    }
    leased.extend(relay.lease(100).await.unwrap().items);
    assert_eq!(leased.len(), 6, "acknowledgements widen it, up to the limit");
    for _ in 0..3 {
        let (work, ticket) = leased.remove(0);
        let (mut delivery, _) = acknowledged(store, &work);
        let now = store.clock().now();
        let attempt = Attempt { at: now, latency_ms: 1, result: Attempted::Unreachable { why: "timeout".to_owned() }, heard: None };
        let decision = delivery.record(DeliveryId::new(work.event.id, work.subscription), attempt, &Retry::three_days(), SignedDuration::ZERO, now);
        let trouble = Trouble { failures: 10, wait_first_ms: 1_000, wait_cap_ms: 1_000, asked: None };
        store.relayed(&ticket, &delivery, decision, Some(trouble)).await.unwrap();
        assert!(relay.lease(100).await.unwrap().items.is_empty());
    }
    store.move_clock(Duration::from_secs(31)).await.unwrap();
    assert_eq!(relay.lease(100).await.unwrap().items.len(), 1, "failures narrow it");
}

/// Tries that end at the same time share a call, and each of them fails alone.
#[tokio::test]
async fn tries_are_recorded_together_and_each_for_itself() {
    let Installation { store, server, .. } = &installation().await;
    let id = subscription(store, EventTypes::All).await;
    for n in 0..8 {
        open(store, &format!("k{n}")).await;
    }
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let relay = RelayLanes::new(lane(store), 4, 64);
    // From now on the script is known. Whoever comes first goes at once and alone, the others together.
    let (work, ticket) = relay.lease(1).await.unwrap().items.remove(0);
    let (delivery, decision) = acknowledged(store, &work);
    store.relayed(&ticket, &delivery, decision, None).await.unwrap();
    let leased = relay.lease(4).await.unwrap().items;
    let unreadable = format!("t:{{s00}}:po:{}", leased[1].1.event.payout());
    let () = redis::cmd("SET").arg(unreadable).arg("not a payout").query_async(&mut raw).await.unwrap();
    let (_, queue) = taking(store, 4, 8);
    let before = scripts_called(&mut raw).await;
    let recorded = futures_util::future::join_all(leased.iter().map(async |(work, ticket)| {
        let (delivery, decision) = acknowledged(store, work);
        store.relayed(ticket, &delivery, decision, None).await
    }))
    .await;
    assert!(scripts_called(&mut raw).await - before <= 2);
    assert!(matches!(recorded[1], Err(workers::store::StoreError::Corrupt(_))), "{:?}", recorded[1]);
    let done = |at: usize| matches!(recorded[at], Ok(workers::store::subscriptions::Relayed::Done { more: false, .. }));
    assert!(done(0) && done(2) && done(3), "{recorded:?}");
    assert_eq!(queue.health().in_flight(), 3, "one for each that ended");
    let flying: usize = redis::cmd("ZCARD").arg(format!("t:{{s00}}:fly:{id}")).query_async(&mut raw).await.unwrap();
    assert_eq!(flying, 4, "what failed is found again when its lease ends");
}

/// Steps that come at the same time share a call, and each of them stands for itself: the same request twice, one that is refused, two that meet an error, sooner
/// or when it is nearly written.
#[tokio::test]
async fn steps_are_committed_together_and_each_for_itself() {
    let Installation { store, server, .. } = &installation().await;
    let id = subscription(store, EventTypes::All).await;
    open(store, "first").await;
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut steps = Vec::from(["a", "b", "b", "c", "d", "e"].map(|key| order(store, key)));
    let elsewhere = PartyId::parse("elsewhere").unwrap();
    let id_elsewhere = PayoutId::derive(&elsewhere, Mode::Test, "f", store.shards());
    steps.push(Payout::open(Order { id: id_elsewhere, party: elsewhere, ..order_for(store, "f") }, store.clock().now()));
    let () = redis::cmd("SET").arg("t:{s00}:subs:elsewhere:test").arg("no subscriptions").query_async(&mut raw).await.unwrap();
    let unreadable = format!("t:{{s00}}:po:{}", steps[4].payout.id);
    let () = redis::cmd("SET").arg(&unreadable).arg("not a payout").query_async(&mut raw).await.unwrap();
    let (before, beneficiary) = (scripts_called(&mut raw).await, beneficiary());
    let opened = futures_util::future::join_all(steps.iter().enumerate().map(|(n, step)| {
        // The third asks for something else by the key of the second.
        store.open_payout(step, &beneficiary, if n == 2 { "other" } else { "print" })
    }))
    .await;
    // The first alone, the others together, and those with the errors once more by themselves.
    assert_eq!(scripts_called(&mut raw).await - before, 4);
    let new = |n: usize| matches!(opened[n], Ok(Opened::New));
    assert!(new(0) && new(1) && new(3) && new(5), "{opened:?}");
    assert!(matches!(opened[2], Ok(Opened::Conflict)), "{:?}", opened[2]);
    assert!([4, 6].iter().all(|n| matches!(opened[*n], Err(workers::store::StoreError::Refused(_)))), "{opened:?}");
    // Nothing of what failed was written, and everything of the others: work, indexes, ledger, deliveries.
    let of = async |raw: &mut redis::aio::MultiplexedConnection, key: &str| -> Vec<String> {
        redis::cmd("ZRANGE").arg(format!("t:{{s00}}:{key}")).arg(0).arg(-1).query_async(raw).await.unwrap()
    };
    let ids = |at: &[usize]| -> Vec<String> { at.iter().map(|at| steps[*at].payout.id.to_string()).collect() };
    for key in ["due:execute", "open", "list:acme:test"] {
        let found = of(&mut raw, key).await;
        assert!(ids(&[0, 1, 3, 5]).iter().all(|id| found.contains(id)) && !ids(&[4, 6]).iter().any(|id| found.contains(id)), "{key}: {found:?}");
    }
    assert!(of(&mut raw, "list:elsewhere:test").await.is_empty());
    assert_eq!(of(&mut raw, &format!("wait:{id}")).await.len(), 5, "one for each that was opened");
    let reserved: i64 = redis::cmd("HGET").arg("t:{s00}:acct:acme:test:GBP").arg("reserved").query_async(&mut raw).await.unwrap();
    assert_eq!(reserved, 50_000);
}

/// Steps and tries that come at the same time are one transaction, so the disk is flushed once for both. What goes wrong with one of the two scripts there
/// concerns only what was asked of it, and is put right.
#[tokio::test]
async fn steps_and_tries_go_together() {
    let Installation { store, server, .. } = &installation().await;
    let id = subscription(store, EventTypes::All).await;
    for n in 0..6 {
        open(store, &format!("k{n}")).await;
    }
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let relay = RelayLanes::new(lane(store), 4, 64);
    let mut transactions = 0;
    for (round, forgotten) in [false, true].into_iter().enumerate() {
        let leased = relay.lease(3).await.unwrap().items;
        let first = order(store, &format!("first of {round}"));
        let steps = ["a", "b", "c"].map(|key| order(store, &format!("{key}{round}")));
        let beneficiary = beneficiary();
        if forgotten {
            // The first step loads one of the scripts again, and the transaction misses the other.
            let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut raw).await.unwrap();
        }
        let tries = futures_util::future::join_all(leased.iter().map(async |(work, ticket)| {
            let (delivery, decision) = acknowledged(store, work);
            store.relayed(ticket, &delivery, decision, None).await
        }));
        let opened = futures_util::future::join_all(steps.iter().map(|step| store.open_payout(step, &beneficiary, "print")));
        let (alone, opened, recorded) = futures_util::join!(store.open_payout(&first, &beneficiary, "print"), opened, tries);
        assert!(matches!(alone, Ok(Opened::New)) && opened.iter().all(|opened| matches!(opened, Ok(Opened::New))), "{opened:?}");
        let done = |recorded: &_| matches!(recorded, Ok(workers::store::subscriptions::Relayed::Done { .. }));
        assert!(recorded.len() == 3 && recorded.iter().all(done), "{recorded:?}");
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_exec:")).unwrap_or("=0,");
        let now: u32 = line.split(['=', ',']).nth(1).unwrap().parse().unwrap();
        assert_eq!(now - std::mem::replace(&mut transactions, now), 1, "{line}");
    }
    let reserved: i64 = redis::cmd("HGET").arg("t:{s00}:acct:acme:test:GBP").arg("reserved").query_async(&mut raw).await.unwrap();
    assert_eq!(reserved, 14 * 10_000, "each of them once");
    let count = async |raw: &mut redis::aio::MultiplexedConnection, key: &str| -> usize {
        redis::cmd("ZCARD").arg(format!("t:{{s00}}:{key}:{id}")).query_async(raw).await.unwrap()
    };
    assert_eq!((count(&mut raw, "fly").await, count(&mut raw, "wait").await), (0, 8));
}

/// The record of a try may come after its subscription is gone. It leaves nothing behind.
#[tokio::test]
async fn a_late_record_leaves_nothing_of_a_subscription_that_is_gone() {
    let Installation { store, server, .. } = &installation().await;
    let id = subscription(store, EventTypes::All).await;
    open(store, "k").await;
    let (relay, _queue) = taking(store, 6, 1);
    let (work, ticket) = relay.lease(1).await.unwrap().items.remove(0);
    let (record, _) = store.subscription(id).await.unwrap().unwrap();
    store.unsubscribe(&record).await.unwrap();
    let (delivery, decision) = acknowledged(store, &work);
    store.relayed(&ticket, &delivery, decision, None).await.unwrap();
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let left: Vec<String> = redis::cmd("HKEYS").arg(format!("t:{{s00}}:sub:{id}")).query_async(&mut raw).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

/// However many commits are on their way to the store, half of the lane goes on working.
#[tokio::test]
async fn commits_leave_half_of_the_lane_to_itself() {
    let Installation { store, server: _server, .. } = &installation().await;
    let (_, queue) = taking(store, 8, 16);
    let door = queue.door();
    let rooms: Vec<_> = std::iter::from_fn(|| door.spare_room(3)).collect();
    assert_eq!(rooms.iter().map(queue::Room::size).sum::<usize>(), 8);
    assert_eq!(door.room(100).unwrap().size(), 8, "the next delivery of a lane is no guess");
}

#[tokio::test]
async fn a_commit_hands_its_deliveries_to_the_lane_of_its_process() {
    let Installation { store, server: _server, .. } = &installation().await;
    subscription(store, EventTypes::All).await;
    let (relay, queue) = taking(store, 2, 3);
    for key in ["k1", "k2"] {
        open(store, key).await;
    }
    assert_eq!(queue.health().in_flight(), 2);
    assert!(relay.lease(10).await.unwrap().items.is_empty(), "they are leased");
    open(store, "k3").await;
    assert_eq!(queue.health().in_flight(), 2, "the cap of a lane holds here too");
    store.move_clock(Duration::from_secs(31)).await.unwrap();
    let again = relay.lease(10).await.unwrap().items;
    assert_eq!(
        again.iter().map(|(work, _)| work.times_leased).collect::<Vec<_>>(),
        [1, 2],
        "what a lost process was handed comes back, behind what waits"
    );
}

#[tokio::test]
async fn nothing_is_handed_over_past_those_who_wait() {
    let Installation { store, server: _server, .. } = &installation().await;
    subscription(store, EventTypes::All).await;
    open(store, "k1").await;
    let (relay, queue) = taking(store, 8, 8);
    open(store, "k2").await;
    assert_eq!(queue.health().in_flight(), 0);
    assert_eq!(relay.lease(10).await.unwrap().items.len(), 2);
    let (relay, busy) = taking(store, 8, 1);
    open(store, "k3").await;
    open(store, "k4").await;
    assert_eq!(busy.health().in_flight(), 1, "a lane takes what it has room for");
    assert_eq!(relay.lease(10).await.unwrap().items.len(), 1, "the rest waits as ever");
}

/// By the commit, and by the acknowledgement of the one before.
#[tokio::test]
async fn what_is_handed_over_is_what_was_written() {
    let Installation { store, server: _server, .. } = &installation().await;
    subscription(store, EventTypes::All).await;
    let (_, queue) = taking(store, 1, 4);
    let steps = ["k1", "k2", "k3"].map(|key| order(store, key));
    for step in &steps {
        store.open_payout(step, &beneficiary(), "f").await.unwrap();
    }
    let (told, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |store: Arc<Store>, job: Job<RelayWork, RelayTicket>| {
        let told = told.clone();
        async move {
            let (delivery, decision) = acknowledged(&store, &job.item);
            store.relayed(job.ticket(), &delivery, decision, None).await.unwrap();
            told.send(job.item.event.body.clone()).unwrap();
            job.settled();
        }
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(queue::run(queue, Arc::new(store.clone()), handler, stop.clone()));
    // The commit hands over the first one. What becomes due within one millisecond has no order among payouts.
    let mut wanted: Vec<&str> = steps.iter().map(|step| step.events[0].body.as_str()).collect();
    for turn in 0..steps.len() {
        let body = tokio::time::timeout(Duration::from_secs(10), bodies.recv()).await.unwrap().unwrap();
        let at = wanted.iter().position(|&wanted| wanted == body).expect("what was written");
        assert!(turn > 0 || at == 0);
        wanted.remove(at);
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_acknowledgement_hands_over_the_next_unless_another_lane_waits() {
    let Installation { store, server: _server, .. } = &installation().await;
    let backlog = subscription(store, EventTypes::All).await;
    for key in ["k1", "k2", "k3", "k4"] {
        open(store, key).await;
    }
    let relay = RelayLanes::new(lane(store), 2, 64);
    let mut leased = relay.lease(10).await.unwrap().items;
    let (relay, queue) = taking(store, 2, 4);
    let (work, ticket) = leased.remove(0);
    let (delivery, decision) = acknowledged(store, &work);
    let done = workers::store::subscriptions::Relayed::Done { more: false, failing_since: None };
    assert_eq!(store.relayed(&ticket, &delivery, decision, None).await.unwrap(), done);
    assert_eq!(queue.health().in_flight(), 1, "the third took the place of the first");
    assert!(relay.lease(10).await.unwrap().items.is_empty());

    let waiting = subscription(store, EventTypes::These([Pattern::parse("payout.requested").unwrap()].into())).await;
    let (_, full) = taking(store, 2, 1);
    let _room = full.door().room(1);
    open(store, "k5").await;
    let (relay, queue) = taking(store, 2, 4);
    let (work, ticket) = leased.remove(0);
    let (delivery, decision) = acknowledged(store, &work);
    assert_eq!(store.relayed(&ticket, &delivery, decision, None).await.unwrap(), done);
    assert_eq!(queue.health().in_flight(), 0, "another lane's turn has come");
    let next: Vec<_> = relay.lease(10).await.unwrap().items.iter().map(|(work, _)| work.subscription).collect();
    assert!(next.contains(&waiting) && next.contains(&backlog), "{next:?}");
}

#[tokio::test]
async fn a_lane_that_has_stopped_is_handed_nothing() {
    let Installation { store, server: _server, .. } = &installation().await;
    subscription(store, EventTypes::All).await;
    let (relay, queue) = taking(store, 8, 8);
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    queue::run(queue, std::sync::Arc::new(()), async |_, _| {}, stop).await.unwrap();
    open(store, "k1").await;
    assert_eq!(relay.lease(10).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn the_store_comes_back_after_a_restart_of_its_server() {
    let mut installation = installation().await;
    let store = installation.store.clone();
    let opened = order(&store, "k1");
    store.open_payout(&opened, &beneficiary(), "f1").await.unwrap();
    installation.server.kill();
    assert!(store.load(opened.payout.id).await.is_err());
    assert!(!store.is_healthy());
    installation.server.resume().unwrap();
    assert_eq!(store.load(opened.payout.id).await.unwrap().unwrap(), opened.payout, "what was acknowledged is there");
    let canceled = decide(&opened.payout, &store, What::Cancel { reason: Reason::new("asked") });
    assert_eq!(store.commit(&canceled).await.unwrap(), Committed::Done, "scripts are loaded again");
    assert!(store.durability().await.unwrap().iter().all(|check| check.ok));
}

/// Two people end the same freeze, and a third one freezes between the two: what the second one has read is not what is there.
#[tokio::test]
async fn a_late_thaw_leaves_a_newer_freeze() {
    let Installation { store, server, .. } = &installation().await;
    let shard = Shard::new(0);
    let freeze = |at_ms, epoch_seen| workers::store::freeze::Freeze { reason: "test".to_owned(), at_ms, epoch_seen, nothing_lost: false };
    store.freeze(shard, &freeze(1, 7)).await.unwrap();
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let read: String = redis::cmd("GET").arg("t:{s00}:frozen").query_async(&mut raw).await.unwrap();
    store.thaw(shard, Duration::ZERO).await.unwrap();
    assert_eq!((store.frozen(shard).await.unwrap(), store.epoch(shard).await.unwrap()), (None, 7));
    store.freeze(shard, &freeze(2, 0)).await.unwrap();
    let mut late = redis::cmd("EVAL");
    late.arg(include_str!("../src/store/thaw.lua")).arg(3).arg(&["t:{s00}:frozen", "t:{s00}:look-first", "t:{s00}:epoch"]).arg(&read).arg("5").arg(9);
    assert_eq!(late.query_async::<u8>(&mut raw).await.unwrap(), 0);
    assert_eq!((store.frozen(shard).await.unwrap(), store.epoch(shard).await.unwrap()), (Some(freeze(2, 0)), 7));
    assert_eq!(store.suspect_until(shard).await.unwrap(), jiff::Timestamp::MAX, "it is frozen");
    store.thaw(shard, Duration::ZERO).await.unwrap();
    assert_eq!((store.epoch(shard).await.unwrap(), store.suspect_until(shard).await.unwrap()), (7, jiff::Timestamp::MIN), "an epoch never goes back");
}

/// The answer to a thaw is lost, so it is sent once more; a freeze that came in between is not its own.
#[tokio::test]
async fn a_repeated_thaw_of_a_party_leaves_a_newer_freeze() {
    let Installation { store, server: _server, .. } = &installation().await;
    let party = PartyId::parse("acme").unwrap();
    let order = |at| workers::store::circuits::Order { by: "ops".to_owned(), reason: None, at: jiff::Timestamp::from_millisecond(at).unwrap() };
    let is_frozen = async || store.party_freeze(&party, Mode::Test).await.unwrap().frozen.is_some();
    let thaw = async |at, of: Option<i64>| {
        let of = of.map(|of| order(of).at);
        store.thaw_party(&party, Mode::Test, &order(at), of).await.unwrap()
    };
    store.freeze_party(&party, Mode::Test, &order(1)).await.unwrap();
    assert!(thaw(2, Some(1)).await && !is_frozen().await);
    store.freeze_party(&party, Mode::Test, &order(3)).await.unwrap();
    assert!(!thaw(2, Some(1)).await && is_frozen().await);
    assert!(!thaw(4, Some(2)).await && is_frozen().await);
    assert!(thaw(5, None).await && !is_frozen().await);
    assert!(!thaw(6, None).await && !is_frozen().await);
}

/// While the server takes no writes, nobody may think that a delivery can never be recorded.
#[tokio::test]
async fn a_try_that_cannot_be_recorded_now_can_be_later() {
    let Installation { store, server, .. } = &installation().await;
    subscription(store, EventTypes::All).await;
    open(store, "k").await;
    let (work, ticket) = RelayLanes::new(lane(store), 4, 64).lease(1).await.unwrap().items.remove(0);
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let set = async |raw: &mut redis::aio::MultiplexedConnection, replicas: u8| {
        let () = redis::cmd("CONFIG").arg("SET").arg("min-replicas-to-write").arg(replicas).query_async(raw).await.unwrap();
    };
    set(&mut raw, 1).await;
    let (delivery, decision) = acknowledged(store, &work);
    let refused = store.relayed(&ticket, &delivery, decision, None).await;
    assert!(matches!(refused, Err(workers::store::StoreError::Unavailable(_))), "{refused:?}");
    set(&mut raw, 0).await;
    assert!(matches!(store.relayed(&ticket, &delivery, decision, None).await, Ok(workers::store::subscriptions::Relayed::Done { .. })));
}

#[tokio::test]
async fn a_frozen_store_permits_nothing_and_looks_first_afterwards() {
    let Installation { store, server: _server, .. } = &installation().await;
    let opened = order(store, "k1");
    store.open_payout(&opened, &beneficiary(), "f1").await.unwrap();
    let lane = ExecuteLane(lane(store));
    let (work, ticket) = lane.lease(1).await.unwrap().items.remove(0);
    let intent = decide(&work.payout, store, What::Initiate { send_by: store.clock().now(), aside_until: None });
    let freeze = workers::store::freeze::Freeze { reason: "test".to_owned(), at_ms: 0, epoch_seen: 41, nothing_lost: false };
    store.freeze(Shard::new(0), &freeze).await.unwrap();
    assert_eq!(store.commit_intent(&intent, Permit::Execute(ticket.token), Some(b"{}")).await.unwrap(), Permitted::Frozen);
    store.thaw(Shard::new(0), Duration::from_secs(60)).await.unwrap();
    // However long it then waits, at a circuit perhaps: what was asked for before the loss may have been sent before it.
    store.move_clock(Duration::from_hours(30)).await.unwrap();
    assert!(store.is_suspect(&work.payout).await.unwrap());
    let (_, ticket) = lane.lease(1).await.unwrap().items.remove(0);
    let permitted = store.commit_intent(&intent, Permit::Execute(ticket.token), Some(b"{}")).await.unwrap();
    assert_eq!(permitted, Permitted::Yes { epoch: 42, look_first: true, passed: Passed::Closed });

    let later = order(store, "k2");
    store.open_payout(&later, &beneficiary(), "f2").await.unwrap();
    assert!(!store.is_suspect(&later.payout).await.unwrap());
    let (work, ticket) = lane.lease(2).await.unwrap().items.into_iter().find(|(work, _)| work.payout.id == later.payout.id).unwrap();
    let intent = decide(&work.payout, store, What::Initiate { send_by: store.clock().now(), aside_until: None });
    let permitted = store.commit_intent(&intent, Permit::Execute(ticket.token), Some(b"{}")).await.unwrap();
    assert_eq!(permitted, Permitted::Yes { epoch: 43, look_first: false, passed: Passed::Closed });
}

#[tokio::test]
async fn another_layout_or_another_secret_is_noticed_before_anything_is_done() {
    let installation = installation().await;
    let store = &installation.store;
    store.recognise(b"a pepper of some length", "default").await.unwrap();
    store.recognise(b"a pepper of some length", "default").await.unwrap();
    let named = |result: Result<(), workers::store::StoreError>| result.unwrap_err().to_string();
    assert!(named(store.recognise(b"another pepper", "default").await).contains("ingress.key_pepper"));
    assert!(named(store.recognise(b"a pepper of some length", "other").await).contains("ingress.default_party"));

    let settings = |shards| Settings { url: installation.server.url(), prefix: "t:".to_owned(), shards, connections: 1, deadline_ms: 2_000 };
    let vault = |key: &str| Vault::new(&BTreeMap::from([(1, key.to_owned().into())]), 1).unwrap();
    let four = Store::open(&settings(4), vault("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")).await.unwrap();
    assert!(named(four.recognise(b"a pepper of some length", "default").await).contains("redis.shards"));
    let sealed_otherwise = Store::open(&settings(1), vault("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=")).await.unwrap();
    assert!(sealed_otherwise.recognise(b"a pepper of some length", "default").await.is_err());
}

#[tokio::test]
async fn a_look_over_skips_what_cannot_be_read_and_does_the_rest() {
    let Installation { store, server, .. } = &installation().await;
    for key in ["k1", "k2", "k3"] {
        open(store, key).await;
    }
    let shard = Shard::new(0);
    let [unreadable, lost, sound] = ["k1", "k2", "k3"].map(|key| order(store, key).payout.id);
    // What no store handle does: a record of a later version, and work that is gone.
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let (record, index) = (format!("t:{{s00}}:po:{unreadable}"), "t:{s00}:due:execute");
    let () = redis::cmd("HSET").arg(record).arg("rec").arg(r#"{"v":2}"#).query_async(&mut raw).await.unwrap();
    let removed: u32 = redis::cmd("ZREM").arg(index).arg(unreadable.to_string()).arg(lost.to_string()).query_async(&mut raw).await.unwrap();
    assert_eq!(removed, 2);
    assert!(store.load(unreadable).await.is_err());

    let found = store.look_over(shard, &mut Walk::default()).await.unwrap();
    assert_eq!((found.ended, &found.repaired), (true, &vec![lost]));
    assert!(matches!(found.states[..], [(StateName::Requested, 2, _)]), "{found:?}");
    let leased = ExecuteLane(lane(store)).lease(10).await.unwrap().items;
    let mut leased: Vec<_> = leased.iter().map(|(work, _)| work.payout.id).collect();
    leased.sort();
    let mut expected = vec![lost, sound];
    expected.sort();
    assert_eq!(leased, expected);
    assert!(store.look_over(shard, &mut Walk::default()).await.unwrap().repaired.is_empty());
}

/// A batch of items that are none: enough to be stored, leased and recorded.
fn batch(store: &Store, items: usize) -> (Batch, Vec<Item>) {
    let id = BatchId::derive(&party(), Mode::Test, "batch", store.shards());
    let (accepted_at, upload) = (store.clock().now(), Store::new_upload());
    let batch = Batch { id, party: party(), mode: Mode::Test, batch_id: "batch".to_owned(), items, accepted_at, upload, trace: None };
    (batch, vec![Item::Invalid { transaction_id: None, problem: serde_json::json!({}) }; items])
}

async fn put(store: &Store, batch: &Batch, items: &[Item]) {
    for (page, items) in items.chunks(PAGE).enumerate() {
        store.put_batch_page(batch, page, &store.seal_batch_page(batch, page, items)).await.unwrap();
    }
}

/// For how long each key of pages lives on, in ms; -1 is for ever.
async fn page_lives(server: &PrivateServer) -> Vec<i64> {
    let mut connection = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let pages: Vec<String> = redis::cmd("KEYS").arg("t:*bi:*").query_async(&mut connection).await.unwrap();
    let mut lives = Vec::new();
    for page in pages {
        lives.push(redis::cmd("PTTL").arg(page).query_async(&mut connection).await.unwrap());
    }
    lives
}

/// Pages that nobody accepts go away by themselves; those that were accepted never do.
#[tokio::test]
async fn only_an_accepted_batch_stays() {
    let Installation { store, server, _folder } = installation().await;
    let (batch, items) = batch(&store, 2 * PAGE + 1);
    put(&store, &batch, &items[..2 * PAGE]).await;
    assert!(matches!(store.accept_batch(&batch, "print", 10).await.unwrap(), Accepted::Expired), "a page is missing");
    assert!(store.batch(batch.id).await.unwrap().is_none());
    put(&store, &batch, &items).await;
    let lives = page_lives(&server).await;
    assert!(lives.len() == 3 && lives.iter().all(|left| (1..=3_600_000).contains(left)), "{lives:?}");

    assert!(matches!(store.accept_batch(&batch, "print", 10).await.unwrap(), Accepted::New));
    assert_eq!(page_lives(&server).await, [-1; 3]);
    // The answer was lost, and the call is made again: it was and is the first.
    assert!(matches!(store.accept_batch(&batch, "print", 10).await.unwrap(), Accepted::New));
    let again = Batch { upload: Store::new_upload(), ..batch.clone() };
    assert!(matches!(store.accept_batch(&again, "print", 10).await.unwrap(), Accepted::Exists));
    assert!(matches!(store.accept_batch(&again, "another", 10).await.unwrap(), Accepted::Conflict));
}

/// Whoever has lost the lease records nothing, and a repeat of what was recorded does nothing.
#[tokio::test]
async fn a_page_of_a_batch_is_recorded_once() {
    let Installation { store, server: _server, _folder } = installation().await;
    let (batch, items) = batch(&store, PAGE + 1);
    put(&store, &batch, &items).await;
    store.accept_batch(&batch, "print", 10).await.unwrap();
    let lane = ExpandLane(lane(&store));
    let result = ItemResult { transaction_id: None, outcome: Outcome::Invalid, payout_id: None, problem: None };
    let lease = async || lane.lease(10).await.unwrap().items.into_iter().map(|(work, ticket)| (work.page, ticket)).next();

    let (page, lost) = lease().await.unwrap();
    store.move_clock(Duration::from_mins(10)).await.unwrap();
    let (_, held) = lease().await.unwrap();
    assert_eq!(store.batch_expanded(&batch, page, &vec![result.clone(); PAGE], &[], &lost).await.unwrap(), Expanded::Before);
    assert_eq!(store.batch_expanded(&batch, page, &vec![result.clone(); PAGE], &[], &held).await.unwrap(), Expanded::Done);
    assert_eq!(store.batch_expanded(&batch, page, &vec![result.clone(); PAGE], &[], &held).await.unwrap(), Expanded::Before);
    let Some(Kept::Whole(progress)) = store.batch(batch.id).await.unwrap() else { panic!() };
    assert_eq!((progress.pages_done, progress.outcomes[&Outcome::Invalid], progress.expanded_at), (1, PAGE as u64, None));
    assert_eq!(store.batch_page(&batch, 0).await.unwrap().map(|items| items.len()), None, "what was opened is not kept sealed");

    let shard = batch.id.shard();
    assert!(store.look_over_batches(shard).await.unwrap().0 >= 600_000, "it has waited since it was accepted");
    let (page, held) = lease().await.unwrap();
    assert_eq!(store.batch_expanded(&batch, page, &[result], &[], &held).await.unwrap(), Expanded::Done);
    let Some(Kept::Whole(progress)) = store.batch(batch.id).await.unwrap() else { panic!() };
    assert_eq!((progress.pages_done, progress.outcomes[&Outcome::Invalid], progress.expanded_at.is_some()), (2, PAGE as u64 + 1, true));
    assert!(lease().await.is_none());
    assert_eq!(store.look_over_batches(shard).await.unwrap(), (0, 0));
}

#[tokio::test]
async fn lost_work_of_a_batch_is_put_back() {
    let Installation { store, server, _folder } = installation().await;
    let (batch, items) = batch(&store, 1);
    put(&store, &batch, &items).await;
    store.accept_batch(&batch, "print", 10).await.unwrap();
    let mut connection = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let removed: i64 = redis::cmd("DEL").arg("t:{s00}:due:expand").query_async(&mut connection).await.unwrap();
    assert_eq!(removed, 1);
    let shard = batch.id.shard();
    assert_eq!(store.look_over_batches(shard).await.unwrap().1, 1);
    assert_eq!(store.look_over_batches(shard).await.unwrap().1, 0);
    assert_eq!(ExpandLane(lane(&store)).lease(10).await.unwrap().items.len(), 1);
}

/// A page that cannot be read is put off, not hammered at, and not forgotten: its age goes on growing.
#[tokio::test]
async fn work_of_a_batch_can_be_put_off() {
    let Installation { store, server: _server, _folder } = installation().await;
    let (batch, items) = batch(&store, 1);
    put(&store, &batch, &items).await;
    store.accept_batch(&batch, "print", 10).await.unwrap();
    let lane = ExpandLane(lane(&store));
    let (_, ticket) = lane.lease(1).await.unwrap().items.pop().unwrap();
    store.put_off_batch(batch.id, &ticket, Duration::from_mins(10)).await.unwrap();
    store.move_clock(Duration::from_mins(9)).await.unwrap();
    assert!(lane.lease(1).await.unwrap().items.is_empty());
    assert!(store.look_over_batches(batch.id.shard()).await.unwrap().0 >= 540_000);
    store.move_clock(Duration::from_mins(1)).await.unwrap();
    assert_eq!(lane.lease(1).await.unwrap().items.len(), 1);
}

/// A group that is due, of a batch that was opened.
async fn grouped(store: &Store, members: Vec<PayoutId>) -> Group {
    let (batch, items) = batch(store, 2);
    put(store, &batch, &items).await;
    store.accept_batch(&batch, "print", 10).await.unwrap();
    let (_, page) = ExpandLane(lane(store)).lease(1).await.unwrap().items.pop().unwrap();
    let result = ItemResult { transaction_id: None, outcome: Outcome::Invalid, payout_id: None, problem: None };
    let group = Group { batch: batch.id, number: 0, provider: Provider::WorldpayAccount, mode: Mode::Test, members, trace: None };
    store.batch_expanded(&batch, 0, &[result.clone(), result], std::slice::from_ref(&group), &page).await.unwrap();
    group
}

/// The lease of a group permits its payouts to be sent, nobody else's does, and a payout whose group dies is found when that lease ends.
#[tokio::test]
async fn the_lease_of_a_group_permits_and_watches() {
    let Installation { store, server: _server, _folder } = installation().await;
    let step = order(&store, "together");
    open(&store, "together").await;
    let group = grouped(&store, vec![step.payout.id]).await;
    let groups = GroupLane(lane(&store));
    let (work, lost) = groups.lease(1).await.unwrap().items.pop().unwrap();
    assert_eq!((&work.group, work.phase, work.times_leased), (&group, Phase::Open, 1));
    store.move_clock(Duration::from_secs(31)).await.unwrap();
    let (_, held) = groups.lease(1).await.unwrap().items.pop().unwrap();

    let intent = decide(&step.payout, &store, What::Join { group: group.key(), send_by: store.clock().now() });
    let permit = |token| Permit::Group { token, group: group.id(), again: false };
    assert_eq!(store.commit_intent(&intent, permit(lost.token), None).await.unwrap(), Permitted::LeaseLost);
    assert_eq!(store.begin_group(&group, &lost, b"bytes").await.unwrap(), Begun::Lost);
    assert_eq!(store.close_group(group.id(), &lost).await.unwrap(), None);
    assert!(matches!(store.commit_intent(&intent, permit(held.token), Some(b"one")).await.unwrap(), Permitted::Yes { .. }));
    let execute = ExecuteLane(lane(&store));
    assert!(execute.lease(10).await.unwrap().items.is_empty(), "it is with the group");

    // Begun once, by the holder; a repeat of the very call answers the same, and what is begun cannot be closed.
    assert_eq!(store.begin_group(&group, &held, b"bytes").await.unwrap(), Begun::Yes);
    assert_eq!(store.begin_group(&group, &held, b"bytes").await.unwrap(), Begun::Yes);
    assert_eq!(store.close_group(group.id(), &held).await.unwrap(), Some(Phase::Sent));
    assert_eq!(store.group_request(group.id()).await.unwrap().as_deref(), Some(&b"bytes"[..]));
    store.move_clock(Duration::from_secs(31)).await.unwrap();
    let found = execute.lease(10).await.unwrap().items;
    assert_eq!(found.iter().map(|(work, _)| work.payout.state.name()).collect::<Vec<_>>(), [StateName::Initiated]);
    let (work, held) = groups.lease(1).await.unwrap().items.pop().unwrap();
    assert_eq!(work.phase, Phase::Sent);
    store.end_group(group.id(), &held).await.unwrap();
    store.move_clock(Duration::from_secs(31)).await.unwrap();
    assert!(groups.lease(1).await.unwrap().items.is_empty());
}

/// What is closed is never begun, and nothing is begun while dispatch is frozen.
#[tokio::test]
async fn a_group_is_closed_or_begun_and_never_both() {
    let Installation { store, server: _server, _folder } = installation().await;
    let group = grouped(&store, Vec::new()).await;
    let (_, held) = GroupLane(lane(&store)).lease(1).await.unwrap().items.pop().unwrap();
    let shard = group.batch.shard();
    store.freeze(shard, &Freeze { reason: "a drill".to_owned(), at_ms: 0, epoch_seen: 0, nothing_lost: false }).await.unwrap();
    assert_eq!(store.begin_group(&group, &held, b"bytes").await.unwrap(), Begun::Frozen);
    store.thaw(shard, Duration::ZERO).await.unwrap();
    assert_eq!(store.close_group(group.id(), &held).await.unwrap(), Some(Phase::Closed));
    assert_eq!(store.begin_group(&group, &held, b"bytes").await.unwrap(), Begun::Lost);
    assert_eq!(store.group_request(group.id()).await.unwrap(), None);
}

/// A hint that comes while the look that it caused is under way may tell of something newer: it leads to another look. Nothing stays of one that was followed.
#[tokio::test]
async fn a_hint_that_comes_again_meanwhile_is_followed_again() {
    let Installation { store, server: _server, .. } = &installation().await;
    let id = NoticeId::derive("worldpay-account", "test:hint:key", Shard::new(0));
    let settle = SettleLane(lane(store));
    assert_eq!(store.remember(id, Worth::Hint, b"look").await.unwrap(), Remembered::New);
    let (work, ticket) = settle.lease(10).await.unwrap().items.remove(0);
    assert_eq!(store.remember(id, Worth::Hint, b"look").await.unwrap(), Remembered::Known);
    let again = store.clock().now();
    store.settled(&work, &ticket, Settled::Followed { again }).await.unwrap();
    let (work, ticket) = settle.lease(10).await.unwrap().items.remove(0);
    store.settled(&work, &ticket, Settled::Followed { again }).await.unwrap();
    assert!(settle.lease(10).await.unwrap().items.is_empty());
    assert_eq!(store.remember(id, Worth::Hint, b"look").await.unwrap(), Remembered::New, "forgotten");
}

/// A notice is remembered for as long as its provider may repeat it; one that nobody could read stays for whoever can.
#[tokio::test]
async fn a_notice_that_was_put_aside_unread_stays() {
    let Installation { store, server, .. } = &installation().await;
    let settle = SettleLane(lane(store));
    let mut connection = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    for (outcome, orphans, stays) in [(Settled::Done, 0, false), (Settled::Orphan, 1, false), (Settled::Aside, 2, true)] {
        let id = NoticeId::derive("truelayer", &format!("{outcome:?}"), Shard::new(0));
        store.remember(id, Worth::Evidence, b"a return").await.unwrap();
        let (work, ticket) = settle.lease(10).await.unwrap().items.remove(0);
        store.settled(&work, &ticket, outcome).await.unwrap();
        let life: i64 = redis::cmd("PTTL").arg(format!("t:{{s00}}:nt:{id}")).query_async(&mut connection).await.unwrap();
        assert_eq!((life == -1, life > 0), (stays, !stays), "{outcome:?}");
        assert_eq!(store.vitals(Shard::new(0)).await.unwrap().orphans, orphans);
        assert_eq!(store.remember(id, Worth::Evidence, b"a return").await.unwrap(), Remembered::Known);
        assert!(settle.lease(10).await.unwrap().items.is_empty());
    }
}
