//! The relay against a real store and a subscriber on a real socket. Cranked by hand; time is moved, not waited for.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "relay/fan_out.rs"]
mod fan_out;
#[path = "relay/history.rs"]
mod history;
#[path = "relay/hostile.rs"]
mod hostile;
#[path = "relay/http2.rs"]
mod http2;
#[path = "relay/order.rs"]
mod order;
#[path = "relay/receipts.rs"]
mod receipts;
#[path = "relay/receiver.rs"]
mod receiver;
#[path = "relay/replays.rs"]
mod replays;
#[path = "relay/retention.rs"]
mod retention;
#[path = "relay/shares.rs"]
mod shares;
#[path = "relay/wishes.rs"]
mod wishes;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::delivery::{Attempted, Delivery, Status as DeliveryStatus};
use domain::destination::{Beneficiary, BeneficiaryName, Destination, Iban, StatementReference};
use domain::fact::{Provider, Reason, Source as Origin};
use domain::id::{Mode, PartyId, PayoutId, Shard, SubscriptionId};
use domain::metadata::Metadata;
use domain::money::{Currency, Money};
use domain::payout::{Fact, Order, Payout, Plan, Step, Verdict, What};
use domain::signature::Secret;
use domain::subscription::{EventTypes, Secrets, Status, Subscription};
use domain::wait::{Backoff, Polling};
use jiff::SignedDuration;
use receiver::{Mood, Received, Receiver};
use workers::egress::{self, Egress};
use workers::queue::{self, Job, Source as _, Turn};
use workers::relay::{RelayContext, RelaySettings, relay};
use workers::store::lanes::{Lane, RelayLanes, RelayTicket, RelayWork};
use workers::store::private_server::{Fsync, PrivateServer};
use workers::store::vault::Vault;
use workers::store::{Settings, Store};

struct Installation {
    store: Store,
    context: Arc<RelayContext>,
    lanes: RelayLanes,
    settings: queue::Settings,
    receiver: Receiver,
    subscription: SubscriptionId,
    server: Arc<Mutex<PrivateServer>>,
    _folder: tempfile::TempDir,
}

async fn installation() -> Installation {
    installation_with(RelaySettings::default()).await
}

/// A store, a relay, and a subscriber to all events.
async fn installation_with(settings: RelaySettings) -> Installation {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], timeout_ms: 400, ..egress::Settings::default() };
    installation_of(settings, &egress).await
}

/// The same, reaching subscribers by other rules.
async fn installation_of(settings: RelaySettings, egress: &egress::Settings) -> Installation {
    installation_on(Fsync::Always, 2_000, settings, egress).await
}

/// The same, on a server that flushes and is waited for otherwise.
async fn installation_on(fsync: Fsync, deadline_ms: u64, settings: RelaySettings, egress: &egress::Settings) -> Installation {
    let folder = tempfile::tempdir().unwrap();
    let server = PrivateServer::start(folder.path(), fsync).unwrap();
    let store_settings = Settings { url: server.url(), prefix: "t:".to_owned(), shards: 1, connections: 4, deadline_ms };
    let keys = BTreeMap::from([(1, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".into())]);
    let store = Store::open(&store_settings, Vault::new(&keys, 1).unwrap()).await.unwrap();
    let context = Arc::new(RelayContext::new(store.clone(), Egress::new(egress), &settings));
    let lane = Lane { store: store.clone(), shard: Shard::new(0), lease: Duration::from_secs(30) };
    let receiver = Receiver::start().await;
    let subscription = SubscriptionId::new(Shard::new(0), [1; 11]);
    let record = Subscription::new(subscription, party(), Mode::Test, receiver.url.clone(), EventTypes::All, store.clock().now());
    store.subscribe(&record, Some(&Secrets::new(secret(1)))).await.unwrap();
    Installation {
        lanes: RelayLanes::new(lane, context.per_subscription(), 64),
        settings: queue::Settings {
            name: "relay",
            concurrency: 64,
            batch: 64,
            tick: Duration::from_secs(1),
            handler_deadline: Duration::from_secs(20),
            panic_backoff: Duration::from_secs(1),
            drain: Duration::from_secs(1),
        },
        context,
        store,
        receiver,
        subscription,
        server: Arc::new(Mutex::new(server)),
        _folder: folder,
    }
}

impl Installation {
    fn step(&self, key: &str) -> (Step, Beneficiary) {
        self.step_of(party(), key)
    }

    fn step_of(&self, party: PartyId, key: &str) -> (Step, Beneficiary) {
        let order = Order {
            id: PayoutId::derive(&party, Mode::Test, key, self.store.shards()),
            party,
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
            trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        };
        let beneficiary = Beneficiary {
            name: BeneficiaryName::parse("John Smith", 18).unwrap(),
            reference: StatementReference::parse("Withdrawal 204", 18).unwrap(),
            destination: Destination::Iban(Iban::parse("GB33BUKB20201555555555").unwrap()),
            description: None,
            instrument: None,
        };
        (Payout::open(order, self.store.clock().now()), beneficiary)
    }

    async fn open(&self, key: &str) -> Payout {
        let (step, beneficiary) = self.step(key);
        self.store.open_payout(&step, &beneficiary, "fingerprint of the request").await.unwrap();
        step.payout
    }

    /// The second event of a payout.
    async fn cancel(&self, payout: &Payout) {
        self.happens(payout, What::Cancel { reason: Reason::new("asked") }).await;
    }

    /// Commits what follows from a worker's fact, and gives the payout as it is then.
    async fn happens(&self, payout: &Payout, what: What) -> Payout {
        let plan = Plan {
            cancelable: false,
            polling: Polling { waits: Vec::new(), bound: SignedDuration::from_hours(72) },
            redispatch: Backoff { first: SignedDuration::from_secs(1), factor: 2, cap: SignedDuration::from_mins(5) },
            last_words: &[],
            dispatch_bound: SignedDuration::from_hours(24),
        };
        let Verdict::Moved(step) = payout.apply(&Fact::new(Origin::Worker, what), &plan, self.store.clock().now()) else { panic!("it is possible") };
        self.store.commit(&step).await.unwrap();
        step.payout
    }

    /// Works until nothing is due.
    async fn crank(&self) -> usize {
        let mut did = 0;
        while let Turn::Did(jobs) = queue::turn(&self.lanes, &self.settings, &self.context, relay).await.unwrap() {
            did += jobs;
        }
        did
    }

    async fn turn_by<F: Future<Output = ()>>(&self, handler: impl Fn(Arc<RelayContext>, Job<RelayWork, RelayTicket>) -> F) -> Turn {
        queue::turn(&self.lanes, &self.settings, &self.context, handler).await.unwrap()
    }

    async fn later(&self, seconds: u64) {
        self.store.move_clock(Duration::from_secs(seconds)).await.unwrap();
    }

    /// The deliveries of a payout, by sequence.
    async fn deliveries(&self, payout: &Payout) -> Vec<Option<Delivery>> {
        let timeline = self.store.timeline(payout.id).await.unwrap().unwrap();
        timeline.deliveries.into_iter().map(|listed| listed.delivery).collect()
    }

    async fn results(&self, payout: &Payout) -> Vec<Attempted> {
        let delivery = self.deliveries(payout).await.remove(0).unwrap();
        delivery.attempts.into_iter().map(|attempt| attempt.result).collect()
    }

    async fn change(&self, change: impl FnOnce(&mut Subscription, &mut Option<Secrets>)) {
        let (mut subscription, secrets) = self.store.subscription(self.subscription).await.unwrap().unwrap();
        let mut secrets = Some(secrets);
        change(&mut subscription, &mut secrets);
        subscription.version += 1;
        let done = self.store.subscribe(&subscription, secrets.as_ref()).await.unwrap();
        assert_eq!(done, workers::store::subscriptions::Subscribed::Done);
    }

    fn now_s(&self) -> i64 {
        self.store.clock().now().as_second()
    }
}

fn party() -> PartyId {
    PartyId::parse("acme").unwrap()
}

fn secret(byte: u8) -> Secret {
    Secret::from_bytes(&[byte; 32]).unwrap()
}

fn sequences(received: &[Received]) -> Vec<u64> {
    received.iter().map(|message| message.json()["data"]["sequence"].as_u64().unwrap()).collect()
}

fn unreachable(why: &str) -> Attempted {
    Attempted::Unreachable { why: why.to_owned() }
}

#[tokio::test]
async fn an_event_arrives_signed_and_whole() {
    let at = installation().await;
    let payout = at.open("a").await;
    assert_eq!(at.crank().await, 1);
    let [message] = &at.receiver.take()[..] else { panic!("one message") };
    assert_eq!(message.verify(&secret(1), at.now_s()), Ok(()));
    assert_eq!(message.header("webhook-id"), format!("ev_{}_1", payout.id.to_string().trim_start_matches("po_")));
    assert_eq!(message.header("content-type"), "application/json");
    assert_eq!(message.header("user-agent"), concat!("payrelay/", env!("CARGO_PKG_VERSION")));
    assert_eq!((message.header("traceparent"), message.header("baggage")), ("", ""));
    let body = message.json();
    assert_eq!((&body["type"], &body["data"]["payout_id"]), (&"payout.requested".into(), &payout.id.to_string().into()));
    let delivery = at.deliveries(&payout).await.remove(0).unwrap();
    assert!(matches!(delivery.status, DeliveryStatus::Delivered { .. }));
    assert_eq!(at.results(&payout).await, [Attempted::Acknowledged { status: 200 }]);
    assert_eq!(at.crank().await, 0);
}

/// The same id and body each time, the timestamp and signature of the attempt.
#[tokio::test]
async fn a_failure_is_tried_again_when_its_time_has_come() {
    let at = installation().await;
    let payout = at.open("a").await;
    at.receiver.mood(Mood::Status(500));
    assert_eq!(at.crank().await, 1);
    at.later(4).await;
    assert_eq!(at.crank().await, 0, "not before the schedule says");
    at.receiver.mood(Mood::Status(204));
    at.later(2).await;
    assert_eq!(at.crank().await, 1);
    let [first, second] = &at.receiver.take()[..] else { panic!("two messages") };
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(first.body, second.body);
    assert_ne!(first.header("webhook-timestamp"), second.header("webhook-timestamp"));
    assert_eq!(second.verify(&secret(1), at.now_s()), Ok(()));
    assert_eq!(at.results(&payout).await, [Attempted::Answered { status: 500, retry_after_ms: None }, Attempted::Acknowledged { status: 204 }]);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let at = installation().await;
    at.open("a").await;
    at.receiver.mood(Mood::ComeBackIn(429, 3_600));
    assert_eq!(at.crank().await, 1);
    at.receiver.mood(Mood::Status(200));
    at.later(3_590).await;
    assert_eq!(at.crank().await, 0);
    at.later(15).await;
    assert_eq!(at.crank().await, 1);
}

#[tokio::test]
async fn gone_ends_the_subscription() {
    let at = installation().await;
    let (first, second) = (at.open("a").await, at.open("b").await);
    at.receiver.mood(Mood::Status(410));
    assert_eq!(at.crank().await, 2);
    assert_eq!(at.receiver.take().len(), 1, "who is gone is not called again");
    let (subscription, _) = at.store.subscription(at.subscription).await.unwrap().unwrap();
    let Status::Disabled { reason, .. } = &subscription.status else { panic!("disabled") };
    assert_eq!((reason.as_str(), subscription.version), ("gone", 2));
    let mut results = [at.results(&first).await.remove(0), at.results(&second).await.remove(0)];
    results.sort_by_key(|result| matches!(result, Attempted::Unwanted));
    assert_eq!(results, [Attempted::Answered { status: 410, retry_after_ms: None }, Attempted::Unwanted]);
    assert_eq!(at.store.abandoned(10).await.unwrap().len(), 2, "what was given up is listed");
    at.open("c").await;
    assert_eq!(at.crank().await, 0, "new events make no deliveries");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let at = installation().await;
    let payout = at.open("a").await;
    at.receiver.mood(Mood::Redirect);
    assert_eq!(at.crank().await, 1);
    assert_eq!(at.receiver.take().iter().map(|message| message.path.clone()).collect::<Vec<_>>(), ["/hooks"]);
    assert_eq!(at.results(&payout).await, [Attempted::Answered { status: 308, retry_after_ms: None }]);
}

/// An answer that trickles is held to the same deadline as one that never comes, and is no acknowledgement.
#[tokio::test]
async fn the_deadline_covers_the_body() {
    for mood in [Mood::Drip, Mood::Hang] {
        let at = installation().await;
        let payout = at.open("a").await;
        at.receiver.mood(mood);
        assert_eq!(at.crank().await, 1);
        let delivery = at.deliveries(&payout).await.remove(0).unwrap();
        assert_eq!(delivery.attempts[0].result, unreachable("timeout"), "{mood:?}");
        assert!((400..5_000).contains(&delivery.attempts[0].latency_ms), "{mood:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let at = installation().await;
    let payout = at.open("a").await;
    at.receiver.mood(Mood::Flood);
    assert_eq!(at.crank().await, 1);
    assert_eq!(at.results(&payout).await, [Attempted::Acknowledged { status: 200 }]);
    let megabytes = at.receiver.flooded.load(Ordering::Relaxed);
    assert!(megabytes < 30, "{megabytes} MB were sent, which is more than sockets buffer");
}

/// Within a payout one event waits for the other; between payouts nothing waits.
#[tokio::test]
async fn a_payout_keeps_its_order_and_holds_up_no_other() {
    let at = installation().await;
    let slow = at.open("slow").await;
    at.cancel(&slow).await;
    at.receiver.mood(Mood::Status(500));
    assert_eq!(at.crank().await, 1);
    at.receiver.mood(Mood::Status(200));
    let other = at.open("other").await;
    assert_eq!(at.crank().await, 1);
    let received = at.receiver.take();
    assert_eq!(received[1].json()["data"]["payout_id"], other.id.to_string());
    assert_eq!(sequences(&received), [1, 1]);
    at.later(6).await;
    assert_eq!(at.crank().await, 2);
    assert_eq!(sequences(&at.receiver.take()), [1, 2]);
}

#[tokio::test]
async fn whoever_lost_the_lease_records_nothing() {
    let at = &installation().await;
    let payout = at.open("a").await;
    let taken_over = Mutex::new(Vec::new());
    let turn = at.turn_by(|context, job| async {
        at.later(31).await;
        let again = at.lanes.lease(10).await.unwrap();
        taken_over.lock().unwrap().extend(again.items);
        relay(context, job).await;
    });
    assert_eq!(turn.await, Turn::Did(1));
    assert_eq!(at.receiver.take().len(), 1);
    assert_eq!(at.deliveries(&payout).await, [None], "sent, and not recorded: the other worker will send again");
    let (work, ticket) = taken_over.lock().unwrap().remove(0);
    assert_eq!(work.times_leased, 2);
    at.lanes.give_back(vec![ticket], Duration::ZERO).await.unwrap();
    assert_eq!(at.crank().await, 1);
    assert_eq!(at.results(&payout).await.len(), 1);
}

/// After the last wait the delivery is given up and listed, and the payout's next event gets its chance.
#[tokio::test]
async fn a_hopeless_delivery_is_abandoned_and_listed() {
    let at = installation_with(RelaySettings { waits_s: Some(vec![1]), ..RelaySettings::default() }).await;
    let payout = at.open("a").await;
    at.cancel(&payout).await;
    at.receiver.mood(Mood::Status(500));
    assert_eq!(at.crank().await, 1);
    at.receiver.mood(Mood::Status(404));
    at.later(2).await;
    assert_eq!(at.crank().await, 2);
    assert_eq!(sequences(&at.receiver.take()), [1, 1, 2]);
    let abandoned = at.store.abandoned(10).await.unwrap();
    assert_eq!(abandoned.iter().map(|entry| (entry.event.payout(), entry.event.sequence())).collect::<Vec<_>>(), [(payout.id, 1)]);
    assert!(matches!(at.deliveries(&payout).await[0].as_ref().unwrap().status, DeliveryStatus::Abandoned { .. }));
}

/// While secrets overlap, both sign; afterwards only the new one does, without any change to the subscription.
#[tokio::test]
async fn a_rotation_overlaps_and_ends_by_itself() {
    let at = installation().await;
    at.open("a").await;
    at.crank().await;
    let until = at.store.clock().now() + SignedDuration::from_secs(60);
    at.change(|_, secrets| *secrets = secrets.as_ref().map(|secrets| secrets.rotated(secret(2), at.store.clock().now(), until).unwrap())).await;
    at.open("b").await;
    at.crank().await;
    at.later(61).await;
    at.open("c").await;
    at.crank().await;
    let [before, during, after] = &at.receiver.take()[..] else { panic!("three messages") };
    let signed_by =
        |message: &Received| [1, 2].map(|byte| message.verify(&secret(byte), message.header("webhook-timestamp").parse().unwrap()).is_ok());
    assert_eq!([before, during, after].map(signed_by), [[true, false], [true, true], [false, true]]);
    assert_eq!(during.header("webhook-signature").split(' ').count(), 2);
}

/// The lease names the version of the subscription, so nothing is sent by an older one.
#[tokio::test]
async fn a_change_of_the_subscription_is_seen_at_once() {
    let at = installation().await;
    at.open("a").await;
    at.crank().await;
    let moved = Receiver::start().await;
    at.change(|subscription, _| subscription.url.clone_from(&moved.url)).await;
    at.open("b").await;
    at.crank().await;
    assert_eq!((at.receiver.take().len(), moved.take().len()), (1, 1));

    let waiting = at.open("c").await;
    at.change(|subscription, _| subscription.status = Status::Disabled { reason: Reason::new("asked"), at: at.store.clock().now() }).await;
    assert_eq!(at.crank().await, 1);
    assert_eq!(at.results(&waiting).await, [Attempted::Unwanted]);

    at.change(|subscription, _| subscription.status = Status::Enabled).await;
    let waiting = at.open("d").await;
    let (subscription, _) = at.store.subscription(at.subscription).await.unwrap().unwrap();
    at.store.unsubscribe(&subscription).await.unwrap();
    assert_eq!(at.crank().await, 1);
    assert_eq!(at.results(&waiting).await, [Attempted::Unwanted]);
    assert!(moved.take().is_empty());
}

/// A 410 from an address that the subscription has left says nothing about the new one.
#[tokio::test]
async fn gone_from_a_former_address_disables_nothing() {
    let at = &installation().await;
    at.open("warm").await;
    at.crank().await;
    at.receiver.mood(Mood::Status(410));
    at.open("a").await;
    // The lease is older than the change.
    at.turn_by(|context, job| async {
        at.change(|subscription, _| subscription.url = "http://127.0.0.1:9999/new".to_owned()).await;
        relay(context, job).await;
    })
    .await;
    assert_eq!(at.receiver.take().len(), 2);
    let (subscription, _) = at.store.subscription(at.subscription).await.unwrap().unwrap();
    assert_eq!((subscription.status, subscription.version), (Status::Enabled, 2));
}

/// A refused address is a failed attempt like any other, and nothing is connected to.
#[tokio::test]
async fn a_url_that_is_no_longer_allowed_is_not_called() {
    let at = installation().await;
    at.change(|subscription, _| subscription.url = "http://169.254.169.254/latest/meta-data/".to_owned()).await;
    let payout = at.open("a").await;
    assert_eq!(at.crank().await, 1);
    assert_eq!(at.results(&payout).await, [unreachable("url_refused")]);
}

/// Work that takes its worker down with it, again and again, is put on the schedule without being tried.
#[tokio::test]
async fn work_that_kills_its_worker_goes_by_the_schedule() {
    let at = installation().await;
    let payout = at.open("a").await;
    // Leases that no handler began do not count.
    for _ in 0..10 {
        let tickets = at.lanes.lease(10).await.unwrap().items.into_iter().map(|(_, ticket)| ticket).collect();
        at.lanes.give_back(tickets, Duration::ZERO).await.unwrap();
    }
    for _ in 0..5 {
        assert_eq!(at.lanes.lease(10).await.unwrap().items.len(), 1);
        at.later(31).await;
    }
    assert_eq!(at.crank().await, 1);
    assert_eq!(at.results(&payout).await, [unreachable("worker_lost")]);
    assert!(at.receiver.take().is_empty());
    at.later(6).await;
    assert_eq!(at.crank().await, 1);
    assert_eq!(at.results(&payout).await, [unreachable("worker_lost"), Attempted::Acknowledged { status: 200 }]);
}

/// The store restarts between the call and the record: the record waits for it, and the message is not sent twice.
#[tokio::test]
async fn a_restart_of_the_store_is_outwaited() {
    let at = &installation().await;
    at.open("warm").await;
    at.crank().await;
    let payout = at.open("a").await;
    let turn = at.turn_by(|context, job| async {
        at.server.lock().unwrap().kill();
        let server = at.server.clone();
        let resumed = tokio::task::spawn_blocking(move || server.lock().unwrap().resume());
        relay(context, job).await;
        resumed.await.unwrap().unwrap();
    });
    assert_eq!(turn.await, Turn::Did(1));
    assert_eq!(at.results(&payout).await, [Attempted::Acknowledged { status: 200 }]);
    assert_eq!(at.receiver.take().len(), 2);
}
