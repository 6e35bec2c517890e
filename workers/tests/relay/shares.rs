//! A party whose subscribers are slow leaves slots to the others.

use tokio_util::sync::CancellationToken;
use workers::queue::{Batch, Queue};

use super::*;

type Leased = Batch<RelayWork, RelayTicket>;

fn numbered(number: u8) -> SubscriptionId {
    SubscriptionId::new(Shard::new(0), [3, number, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

fn quick() -> PartyId {
    PartyId::parse("quick").unwrap()
}

const QUICK: u8 = 200;

impl Installation {
    async fn add(&self, number: u8, party: PartyId, url: String) {
        let record = Subscription::new(numbered(number), party, Mode::Test, url, EventTypes::All, self.store.clock().now());
        self.store.subscribe(&record, Some(&Secrets::new(secret(1)))).await.unwrap();
    }

    /// Fifteen subscriptions of the slow party beside the one that there is.
    async fn add_fifteen(&self) {
        for number in 1..=15 {
            self.add(number, party(), format!("{}/{number}", self.receiver.url)).await;
        }
    }

    async fn open_of_quick(&self, key: &str) {
        let (step, beneficiary) = self.step_of(quick(), key);
        self.store.open_payout(&step, &beneficiary, "fingerprint of the request").await.unwrap();
    }
}

/// Fifteen subscriptions that answer, and eight events for each of them.
async fn with_a_backlog() -> Installation {
    let at = installation().await;
    at.add_fifteen().await;
    at.open("warm").await;
    at.crank().await;
    for number in 0..8 {
        at.open(&number.to_string()).await;
    }
    at
}

fn whose(leased: &Leased) -> Vec<SubscriptionId> {
    leased.items.iter().map(|(work, _)| work.subscription).collect()
}

/// Sixty-four slots: a party alone has all but an eighth; another one is served by the next call, while what the first is owed waits; and what ends goes to those who have less.
#[tokio::test]
async fn a_party_alone_has_all_but_a_reserve_and_the_next_is_served_at_once() {
    let at = with_a_backlog().await;
    let mut slow = at.lanes.lease(64).await.unwrap();
    assert_eq!(slow.items.len(), 56);
    let stalled = at.lanes.lease(8).await.unwrap();
    assert!(
        stalled.items.is_empty() && stalled.next_due_in.is_some_and(|wait| wait >= Duration::from_millis(40)),
        "it is not asked for all the time: {:?}",
        stalled.next_due_in
    );

    at.add(QUICK, quick(), at.receiver.url.clone()).await;
    for number in 0..4 {
        at.open_of_quick(&number.to_string()).await;
    }
    at.later(1).await;
    let mut served = at.lanes.lease(8).await.unwrap();
    assert!(!served.items.is_empty() && whose(&served).iter().all(|id| *id == numbered(QUICK)), "and nothing of whom has its share");
    while served.items.len() < 4 {
        let more = at.lanes.lease(4).await.unwrap();
        assert!(!more.items.is_empty() && whose(&more).iter().all(|id| *id == numbered(QUICK)), "it goes on");
        served.items.extend(more.items);
    }

    // Twelve are left under way and four of the other: of the 48 that are free the first may have what leaves it seven times the rest.
    let ended = slow.items.split_off(12).into_iter().map(|(_, ticket)| ticket).collect();
    at.lanes.give_back(ended, Duration::ZERO).await.unwrap();
    at.later(1).await;
    let more = at.lanes.lease(48).await.unwrap();
    // Up to the last few, which are for its lanes that have nothing under way.
    assert!((37..=(7 * 48 - 12) / 8).contains(&more.items.len()), "{}", more.items.len());
    assert!(!whose(&more).contains(&numbered(QUICK)));
}

/// Those to which nothing has got through yet share a quarter of the slots, and no party has it all.
#[tokio::test]
async fn new_subscriptions_of_one_party_leave_tries_to_those_of_another() {
    let at = installation().await;
    at.add_fifteen().await;
    for number in 0..4 {
        at.open(&number.to_string()).await;
    }
    let slow = at.lanes.lease(64).await.unwrap();
    assert_eq!(slow.items.len(), 14);
    at.add(QUICK, quick(), at.receiver.url.clone()).await;
    at.open_of_quick("a").await;
    at.later(1).await;
    assert_eq!(whose(&at.lanes.lease(48).await.unwrap()), [numbered(QUICK)]);
}

/// Nothing of a worker that dies counts any more: what it had is leased again when its leases have ended, and as much of it at a time as ever.
#[tokio::test]
async fn a_worker_that_dies_gives_back_the_slots_of_a_party() {
    let at = with_a_backlog().await;
    let lost = at.lanes.lease(64).await.unwrap();
    assert_eq!(lost.items.len(), 56);
    let next = RelayLanes::new(at.lanes.lane.clone(), at.lanes.per_subscription, 64);
    at.later(31).await;
    assert_eq!(next.lease(64).await.unwrap().items.len(), 56);
    // And the other way round: what is given back is free at once.
    drop(lost);
    at.later(31).await;
    assert_eq!(at.lanes.lease(64).await.unwrap().items.len(), 56);
}

/// Over real sockets, by a worker that runs: every subscriber of a party takes its time, some of them with a backlog.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_subscribers_of_one_party_hold_up_no_other() {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], timeout_ms: 20_000, ..egress::Settings::default() };
    let at = Arc::new(installation_of(RelaySettings::default(), &egress).await);
    for number in 1..100 {
        at.add(number, party(), format!("{}/{number}", at.receiver.url)).await;
    }
    let other = Receiver::start().await;
    let queue = Queue::new(at.lanes.clone(), at.settings.clone(), at.store.wakes().relay.clone());
    at.store.hand_over_to(&at.lanes, queue.door());
    let stop = CancellationToken::new();
    let running = tokio::spawn(queue::run(queue, at.context.clone(), relay, stop.clone()));
    let listening = { (at.clone(), at.server.lock().unwrap().url()) };
    let listener = tokio::spawn(async move { listening.0.store.listen(&listening.1).await });
    let hears = async |receiver: &Receiver, wanted: usize| {
        let mut heard = 0;
        let all = async {
            while heard < wanted {
                heard += receiver.take().len();
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(8), all).await.is_ok();
        assert!(in_time, "it waits for what hangs: {heard} of {wanted}");
    };
    at.open("warm").await;
    hears(&at.receiver, 100).await;
    at.receiver.mood(Mood::Hang);
    for number in 0..20 {
        at.open(&number.to_string()).await;
    }
    hears(&at.receiver, 56).await;
    at.add(QUICK, quick(), other.url.clone()).await;
    for number in 0..20 {
        at.open_of_quick(&number.to_string()).await;
        hears(&other, 1).await;
    }
    assert!(at.receiver.take().is_empty(), "all that the slow ones may have is taken");
    stop.cancel();
    listener.abort();
    running.abort();
}
