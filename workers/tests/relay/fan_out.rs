//! One event to more subscriptions than a commit matches: each gets what it wants, once and in order, whoever comes, goes, pauses or dies in the midst of it.

use domain::bulletin::News;
use domain::id::{DeliveryId, EventId};
use domain::subscription::{Ordering as Order, Pattern};
use futures_util::StreamExt as _;
use redis::aio::MultiplexedConnection;
use tokio_util::sync::CancellationToken;
use workers::queue::Queue;
use workers::store::deliveries::{Found, Place, Wanted, Within};
use workers::store::fan_out::FannedOut;
use workers::store::replays::Again;
use workers::store::subscriptions::{Redelivered, Subscribed};

use super::*;

/// Subscriptions that commits match, with the one of every installation.
const MATCHED: usize = 16;

fn numbered(number: usize) -> SubscriptionId {
    let [.., a, b] = number.to_be_bytes();
    SubscriptionId::new(Shard::new(0), [2, a, b, 0, 0, 0, 0, 0, 0, 0, 0])
}

fn path(number: usize) -> String {
    format!("/hooks/{number}")
}

impl Installation {
    /// For thousands of writes: what is on the disk is not looked at.
    async fn hurry(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.server.lock().unwrap().url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("CONFIG").arg("SET").arg("appendfsync").arg("no").exec_async(&mut connection).await.unwrap();
        connection
    }

    /// A subscription beside that of the installation, at a path of its own.
    async fn subscribe(&self, number: usize, change: impl FnOnce(&mut Subscription)) -> Subscribed {
        let url = format!("{}/{number}", self.receiver.url);
        let mut record = Subscription::new(numbered(number), party(), Mode::Test, url, EventTypes::All, self.store.clock().now());
        change(&mut record);
        self.store.subscribe(&record, Some(&Secrets::new(secret(1)))).await.unwrap()
    }

    async fn subscribe_all(&self, numbers: std::ops::Range<usize>) {
        futures_util::stream::iter(numbers).for_each_concurrent(32, |number| async move { _ = self.subscribe(number, |_| {}).await }).await;
    }

    async fn alter(&self, number: usize, change: impl FnOnce(&mut Subscription)) {
        let (mut record, _) = self.store.subscription(numbered(number)).await.unwrap().unwrap();
        change(&mut record);
        record.version += 1;
        assert_eq!(self.store.subscribe(&record, None).await.unwrap(), Subscribed::Done);
    }

    async fn remove(&self, number: usize) {
        let (record, _) = self.store.subscription(numbered(number)).await.unwrap().unwrap();
        assert_eq!(self.store.unsubscribe(&record).await.unwrap(), Subscribed::Done);
    }

    /// Leases the fan-out of an event, and nothing else.
    async fn fan_out(&self) -> RelayTicket {
        let mut others = Vec::new();
        let ticket = loop {
            let leased = self.lanes.lease(64).await.unwrap().items.into_iter().map(|(_, ticket)| ticket);
            let (mut fan_out, more): (Vec<_>, Vec<_>) = leased.partition(|ticket| ticket.subscription.is_fan_out());
            assert!(!more.is_empty() || !fan_out.is_empty(), "there is none");
            others.extend(more);
            if let Some(ticket) = fan_out.pop() {
                break ticket;
            }
        };
        self.lanes.give_back(others, Duration::ZERO).await.unwrap();
        ticket
    }

    /// What came, by path: of each payout the sequences, as they came.
    fn heard(&self) -> BTreeMap<String, BTreeMap<String, Vec<u64>>> {
        let mut heard: BTreeMap<String, BTreeMap<String, Vec<u64>>> = BTreeMap::new();
        for message in self.receiver.take() {
            assert_eq!(message.verify(&secret(1), message.header("webhook-timestamp").parse().unwrap()), Ok(()));
            let data = message.json()["data"].clone();
            let payouts = heard.entry(message.path.clone()).or_default();
            payouts.entry(data["payout_id"].as_str().unwrap().to_owned()).or_default().push(data["sequence"].as_u64().unwrap());
        }
        heard
    }

    /// Of one payout.
    fn heard_of_one(&self) -> BTreeMap<String, Vec<u64>> {
        self.heard().into_iter().map(|(path, payouts)| (path, payouts.into_values().flatten().collect())).collect()
    }
}

#[tokio::test]
async fn forty_get_what_they_want_in_order() {
    let at = installation().await;
    for number in 1..40 {
        let changed = at.subscribe(number, |record| match number % 5 {
            1 => record.event_types = EventTypes::These([Pattern::parse("payout.canceled").unwrap()].into()),
            2 => record.ordering = Order::None,
            3 => record.metadata = BTreeMap::from([("case".to_owned(), "a \"b\" é".to_owned())]),
            4 => record.metadata = BTreeMap::from([("case".to_owned(), "another".to_owned())]),
            _ => {}
        });
        assert_eq!(changed.await, Subscribed::Done);
    }
    let payouts = [at.open("a").await, at.open("b").await, at.open("c").await];
    at.cancel(&payouts[0]).await;
    at.crank().await;
    at.cancel(&payouts[1]).await;
    at.cancel(&payouts[2]).await;
    at.crank().await;
    let heard = at.heard();
    for number in 1..40 {
        let wanted: &[u64] = match number % 5 {
            1 => &[2],
            4 => &[],
            _ => &[1, 2],
        };
        let of_each: Vec<_> = heard.get(&path(number)).into_iter().flat_map(BTreeMap::values).collect();
        assert_eq!(of_each, vec![wanted; if wanted.is_empty() { 0 } else { 3 }], "{number}");
    }
    let timeline = at.store.timeline(payouts[0].id).await.unwrap().unwrap();
    assert_eq!(timeline.deliveries.len(), 2 * (1 + 7 + 8 + 8) + 8, "what nobody subscribed to is nowhere");
    assert!(timeline.queues.is_empty() && timeline.deliveries.iter().all(|listed| !listed.subscription.is_fan_out()));
    assert_eq!(at.crank().await, 0);
}

/// The second page of three has not begun. What goes before its page is told nothing, what pauses is told later, what comes is told what comes after it.
#[tokio::test]
async fn who_comes_and_goes_meanwhile_is_told_what_is_its_own() {
    let at = installation().await;
    at.hurry().await;
    at.subscribe_all(1..MATCHED).await;
    for number in 100..600 {
        at.subscribe(number, |_| {}).await;
    }
    let payout = at.open("a").await;
    let ticket = at.fan_out().await;
    assert_eq!(at.store.fan_out(&ticket).await.unwrap(), FannedOut::Page);
    at.remove(110).await;
    at.remove(590).await;
    let now = at.store.clock().now();
    at.alter(580, |record| record.status = Status::Paused { at: now }).await;
    at.alter(581, |record| record.event_types = EventTypes::These([Pattern::parse("payout.canceled").unwrap()].into())).await;
    // Who was disabled begins anew, as those do that commits match.
    at.alter(582, |record| record.status = Status::Disabled { reason: Reason::new("asked"), at: now }).await;
    at.alter(582, |record| record.status = Status::Enabled).await;
    // A place among the first has become free: whoever comes next takes it.
    at.remove(3).await;
    at.subscribe(700, |_| {}).await;
    at.subscribe(701, |_| {}).await;
    at.cancel(&payout).await;
    assert_eq!(at.store.fan_out(&ticket).await.unwrap(), FannedOut::Page);
    assert_eq!(at.store.fan_out(&ticket).await.unwrap(), FannedOut::Done);
    assert_eq!(at.store.fan_out(&ticket).await.unwrap(), FannedOut::LeaseLost);
    at.crank().await;
    let told = at.heard_of_one();
    for number in (1..MATCHED).chain(100..600).chain([700, 701]) {
        let wanted: Option<&[u64]> = match number {
            3 | 110 | 580 | 590 => None,
            581 | 582 | 700 | 701 => Some(&[2]),
            _ => Some(&[1, 2]),
        };
        assert_eq!(told.get(&path(number)).map(Vec::as_slice), wanted, "{number}");
    }
    assert_eq!(at.store.standing(numbered(580)).await.unwrap().waiting, 1);
    at.alter(580, |record| record.status = Status::Enabled).await;
    at.crank().await;
    assert_eq!(at.heard_of_one(), BTreeMap::from([(path(580), vec![1, 2])]));
}

/// A worker dies after a page, again and again: whoever comes next goes on behind it.
#[tokio::test]
async fn a_worker_that_dies_in_between_repeats_nothing() {
    let at = installation().await;
    at.hurry().await;
    at.subscribe_all(1..(MATCHED + 900)).await;
    at.open("a").await;
    let mut lost = Vec::new();
    for _ in 0..3 {
        let ticket = at.fan_out().await;
        assert_eq!(at.store.fan_out(&ticket).await.unwrap(), FannedOut::Page);
        lost.push(ticket);
        at.later(31).await;
    }
    at.crank().await;
    let told = at.heard_of_one();
    assert_eq!(told.len(), MATCHED + 900);
    assert!(told.values().all(|sequences| sequences == &[1]));
    for ticket in lost {
        assert_eq!(at.store.fan_out(&ticket).await.unwrap(), FannedOut::LeaseLost, "who was given up makes nothing any more");
    }
}

/// What the fan-out has not come by yet is not delivered before its turn, by nobody's wish: each event is delivered once, and in order.
#[tokio::test]
async fn what_is_asked_for_meanwhile_comes_in_its_turn() {
    let at = installation().await;
    at.hurry().await;
    at.subscribe_all(1..40).await;
    let payout = at.open("a").await;
    at.cancel(&payout).await;
    let event = |sequence| EventId::new(payout.id, sequence);
    let again = async |number, sequence, seen: Option<&Delivery>| {
        at.store.redeliver((&party(), Mode::Test), numbered(number), event(sequence), seen).await.unwrap()
    };
    let next = Delivery::new(at.store.clock().now()).replayed(at.store.clock().now());
    let missing = [Again { sequence: 2, seen: None, next }];
    let replayed = async |number| at.store.deliver_again((&party(), Mode::Test), numbered(number), payout.id, true, &missing).await.unwrap();
    assert_eq!((again(30, 2, None).await, again(30, 1, None).await, replayed(30).await), (Redelivered::Coming, Redelivered::Coming, 0));
    // The first event has come by, the second one has not.
    let ticket = at.fan_out().await;
    while at.store.fan_out(&ticket).await.unwrap() == FannedOut::Page {}
    assert_eq!((again(30, 1, None).await, again(30, 2, None).await, replayed(30).await), (Redelivered::Due, Redelivered::Coming, 0));
    // Whoever came later is not owed it, and can have it.
    at.subscribe(50, |_| {}).await;
    assert_eq!(again(50, 2, None).await, Redelivered::Due);
    at.crank().await;
    let mut told = at.heard_of_one();
    assert_eq!(told.remove(&path(50)), Some(vec![2]));
    assert!(told.len() == 40 && told.values().all(|sequences| sequences == &[1, 2]), "{told:?}");
    let Found { told: of, .. } = at.store.event_for(DeliveryId::new(event(2), numbered(30))).await.unwrap().unwrap();
    assert_eq!(again(30, 2, of.delivery.as_ref()).await, Redelivered::Due, "once more, for it has ended");
}

/// Bulletins come to those behind the first ones too, and the oldest goes once nobody waits for it.
#[tokio::test]
async fn a_bulletin_comes_to_all_who_ask_for_it() {
    let at = installation().await;
    let mut connection = at.hurry().await;
    at.subscribe_all(1..MATCHED).await;
    let ask = |record: &mut Subscription, kind: &str| record.event_types = EventTypes::These([Pattern::parse(kind).unwrap()].into());
    for number in 100..103 {
        at.subscribe(number, |record| ask(record, "webhook.*")).await;
    }
    at.subscribe(200, |_| {}).await;
    at.subscribe(201, |record| {
        ask(record, "webhook.disabled");
        record.ordering = Order::None;
        record.status = Status::Paused { at: record.created_at };
    })
    .await;
    let hook = at.store.subscription(at.subscription).await.unwrap().unwrap().0.hook();
    let tell = async |news: News, once: usize| at.store.announce(&party(), Mode::Test, &news, &once.to_string()).await.unwrap();
    tell(News::Disabled { of: hook.clone(), reason: Reason::new("asked") }, 1).await;
    tell(News::Disabled { of: hook.clone(), reason: Reason::new("asked") }, 1).await;
    at.crank().await;
    let paths: std::collections::BTreeSet<String> = at.receiver.take().into_iter().map(|message| message.path).collect();
    assert_eq!(paths, (100..103).map(path).collect());

    // About a thousand are kept, and what somebody waits for.
    at.remove(101).await;
    at.remove(102).await;
    for number in 2..=1_002 {
        tell(News::Enabled { of: hook.clone() }, number).await;
        if number % 100 == 2 {
            at.crank().await;
        }
    }
    assert_eq!(at.receiver.take().len(), 1_001);
    let bulletin = format!("t:{{s00}}:po:{}", PayoutId::of_bulletin(&party(), Mode::Test, at.store.shards()));
    let mut kept = async |field: &str| -> bool { redis::cmd("HEXISTS").arg(&bulletin).arg(field).query_async(&mut connection).await.unwrap() };
    let delivery = |sequence| format!("d:{}:{sequence}", numbered(100));
    assert!(kept("e:1").await, "one waits for it");
    assert!(!kept("e:2").await && !kept("told:2").await && !kept(&delivery(2)).await && kept("e:3").await && kept(&delivery(3)).await);
    assert!(!kept("f:1002").await);
    at.alter(201, |record| record.status = Status::Enabled).await;
    at.crank().await;
    let late = at.receiver.take();
    assert_eq!(late.iter().map(|message| &*message.path).collect::<Vec<_>>(), [path(201)]);
    assert_eq!(late[0].json()["type"], "webhook.disabled");

    // What was delivered to those who are gone by now goes with its event.
    assert!(kept(&format!("d:{}:1", numbered(101))).await && kept(&format!("d:{}:1", numbered(102))).await);
    let mut number = 1_003;
    while kept(&format!("d:{}:1", numbered(101))).await || kept(&format!("d:{}:1", numbered(102))).await {
        assert!(number < 1_100, "nobody comes by it");
        tell(News::Enabled { of: hook.clone() }, number).await;
        at.crank().await;
        number += 1;
    }
    assert!(!kept("e:1").await && kept(&delivery(999)).await);
}

/// The most that a party may have: listed by pages in the order in which they came, none of them in what a commit reads, and each told.
#[tokio::test]
async fn ten_thousand_are_listed_by_pages_and_owed_an_event() {
    let at = installation().await;
    let mut connection = at.hurry().await;
    at.subscribe_all(1..10_000).await;
    assert_eq!(at.store.count_subscriptions(&party(), Mode::Test).await.unwrap(), 10_000);
    assert_eq!(at.subscribe(10_000, |_| {}).await, Subscribed::Full);
    let (mut after, mut listed, mut pages) = (None, Vec::new(), 0);
    loop {
        let (page, next) = at.store.subscriptions(&party(), Mode::Test, after, 200).await.unwrap();
        listed.extend(page.into_iter().map(|(subscription, _)| subscription));
        (after, pages) = (next, pages + 1);
        if next.is_none() {
            break;
        }
    }
    let distinct: std::collections::BTreeSet<_> = listed.iter().map(|subscription| subscription.id).collect();
    assert_eq!((listed.len(), distinct.len(), pages), (10_000, 10_000, 50));
    assert_eq!(listed[0].id, at.subscription);

    at.remove(5_000).await;
    assert_eq!(at.subscribe(10_000, |_| {}).await, Subscribed::Done);
    let (last, next) = at.store.subscriptions(&party(), Mode::Test, Some(9_999), 200).await.unwrap();
    assert_eq!((last.last().map(|(subscription, _)| subscription.id), next), (Some(numbered(10_000)), None));

    let matched: usize = redis::cmd("HLEN").arg("t:{s00}:subs:acme:test").query_async(&mut connection).await.unwrap();
    assert_eq!(matched, MATCHED + 1);
    let payout = at.open("a").await;
    let ticket = at.fan_out().await;
    while at.store.fan_out(&ticket).await.unwrap() == FannedOut::Page {}
    assert_eq!(at.store.standing(numbered(10_000)).await.unwrap().waiting, 1);

    // What is read of it is bounded, whatever there is.
    let mut said = said_by(&mut connection).await;
    let mut bytes = async || {
        let before = std::mem::replace(&mut said, said_by(&mut connection).await);
        said - before
    };
    let asking = bytes().await;
    let last = DeliveryId::new(EventId::new(payout.id, 1), numbered(10_000));
    let (_, _, told) = at.store.delivery(last).await.unwrap().unwrap();
    assert_eq!((told.id(), told.delivery), (last, None));
    let one = bytes().await - asking;
    let timeline = at.store.timeline(payout.id).await.unwrap().unwrap();
    assert!(timeline.many && timeline.deliveries.is_empty() && timeline.events.len() == 1 && timeline.observations.len() == 1);
    let first = bytes().await - asking;
    let wanted = Wanted::of(&party(), Mode::Test, payout.id, None);
    let (page, next) = at.store.deliveries_of(&timeline, &wanted, None, 250).await.unwrap();
    assert!(page.len() == 250 && next.is_some());
    let shown = bytes().await - asking;
    assert!(one < 4_096 && first < 65_536 && shown < 65_536, "{one}, {first} and {shown} bytes");

    // And all of it can be read, page by page, each once.
    let (mut seen, mut after, mut pages) = (std::collections::BTreeSet::new(), None, 0);
    loop {
        let (page, next) = at.store.deliveries(&wanted, after, 500).await.unwrap();
        assert!(page.iter().all(|told| seen.insert(told.subscription)));
        (after, pages) = (next, pages + 1);
        if next.is_none() {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (10_000, 20));
    // A page that was made while it was small goes on behind the place of its last one; and one that looks for what is not there ends.
    let (page, _) = at.store.deliveries_of(&timeline, &wanted, Some(Within::Delivery(1, numbered(10_000))), 10).await.unwrap();
    assert!(page.is_empty());
    let delivered = Wanted { progress: Some(domain::delivery::Progress::Delivered), ..wanted };
    bytes().await;
    let (page, next) = at.store.deliveries(&delivered, None, 10).await.unwrap();
    assert!(page.is_empty() && matches!(next, Some(Place::Payout(_, Some(Within::Walk(1, _))))), "{next:?}");
    let looked = bytes().await - asking;
    assert!(looked < 262_144, "{looked} bytes");
}

/// What the server has sent to all of its clients, in bytes.
async fn said_by(connection: &mut MultiplexedConnection) -> u64 {
    let stats: String = redis::cmd("INFO").arg("stats").query_async(connection).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    line.unwrap().trim().parse().unwrap()
}

/// Twenty of a hundred stop answering at once. The others are told as ever, also when every slot would be taken by what hangs; and a new one is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn black_holes_leave_slots_to_the_others() {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], timeout_ms: 20_000, ..egress::Settings::default() };
    let at = Arc::new(installation_of(RelaySettings::default(), &egress).await);
    let hole = Receiver::start().await;
    for number in 1..100 {
        at.subscribe(number, |record| {
            if number % 5 == 0 {
                record.url = format!("{}/{number}", hole.url);
            }
        })
        .await;
    }
    let lanes = RelayLanes::new(at.lanes.lane.clone(), at.lanes.per_subscription, 64);
    let queue = Queue::new(lanes.clone(), at.settings.clone(), at.store.wakes().relay.clone());
    at.store.hand_over_to(&lanes, queue.door());
    let stop = CancellationToken::new();
    let running = tokio::spawn(queue::run(queue, at.context.clone(), relay, stop.clone()));
    let listening = { (at.clone(), at.server.lock().unwrap().url()) };
    let listener = tokio::spawn(async move { listening.0.store.listen(&listening.1).await });
    let all_hear = async |wanted: usize, ours: &[&Receiver]| {
        let heard = async {
            let mut heard = 0;
            while heard < wanted {
                heard += ours.iter().map(|receiver| receiver.take().len()).sum::<usize>();
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(8), heard).await.expect("the others wait for what hangs");
    };
    at.open("warm").await;
    all_hear(100, &[&at.receiver, &hole]).await;
    hole.mood(Mood::Hang);
    for number in 0..20 {
        at.open(&number.to_string()).await;
        all_hear(81, &[&at.receiver]).await;
    }
    at.subscribe(100, |_| {}).await;
    at.open("last").await;
    all_hear(82, &[&at.receiver]).await;
    assert!(hole.take().len() < 64, "what hangs has taken every slot");
    stop.cancel();
    listener.abort();
    running.abort();
}
