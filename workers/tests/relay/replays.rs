//! Deliveries that are made once more, many at a time: in order, with their ids, at their rate, and none twice however often a page is done.

use domain::id::{EventId, ReplayId};
use domain::subscription::Pattern;
use jiff::Timestamp;
use workers::replay::{self, Counted, Replay, Spec, Standing, What, replay};
use workers::store::replays::{Begun, ReplayLane};

use super::*;

impl Installation {
    fn spec(&self, what: What) -> Spec {
        let now = self.store.clock().now();
        Spec {
            subscription: self.subscription,
            party: party(),
            mode: Mode::Test,
            from: Timestamp::UNIX_EPOCH,
            to: now,
            looks_back_s: 3_600,
            types: EventTypes::All,
            metadata: BTreeMap::new(),
            what,
            rate_per_s: 1_000,
            asked_at: now,
        }
    }

    async fn begin(&self, spec: Spec) -> ReplayId {
        let replay = Replay::new(ReplayId::new(Shard::new(0), [9; 11]), spec);
        assert_eq!(self.store.begin_replay(&replay).await.unwrap(), Begun::Done);
        replay.id
    }

    /// One turn of what is due.
    async fn replay_turn(&self) -> Turn {
        queue::turn(&ReplayLane(self.lanes.lane.clone()), &self.settings, &self.context, replay).await.unwrap()
    }

    async fn replay_all(&self) {
        while self.replay_turn().await != Turn::Idle {
            self.later(1).await;
        }
    }

    async fn replay(&self, id: ReplayId) -> Replay {
        self.store.replay(id).await.unwrap().unwrap().0
    }

    /// Two payouts with two events each, a second apart, and all of it delivered.
    async fn told(&self) -> [Payout; 2] {
        let mut payouts = Vec::new();
        for key in ["a", "b"] {
            payouts.push(self.open(key).await);
            self.cancel(payouts.last().unwrap()).await;
            self.crank().await;
            self.later(1).await;
        }
        payouts.try_into().unwrap()
    }
}

fn names(received: &[Received]) -> Vec<String> {
    received.iter().map(|message| message.header("webhook-id").to_owned()).collect()
}

#[tokio::test]
async fn what_was_told_is_told_again_in_order_and_marked() {
    let at = &installation().await;
    let [a, b] = at.told().await;
    let first = at.receiver.take();
    assert_eq!(first.len(), 4);
    let id = at.begin(at.spec(What::Ended)).await;
    let busy = Replay::new(ReplayId::new(Shard::new(0), [8; 11]), at.spec(What::Ended));
    assert_eq!(at.store.begin_replay(&busy).await.unwrap(), Begun::Busy(id));
    at.replay_all().await;
    at.cancel_again_is_queued_behind(&a).await;
    at.crank().await;
    let again = at.receiver.take();
    let of = |payout: &Payout| [1, 2].map(|sequence| EventId::new(payout.id, sequence).to_string());
    for payout in [&a, &b] {
        let came: Vec<_> = names(&again).into_iter().filter(|name| of(payout).contains(name)).collect();
        assert_eq!(came, of(payout), "in their order, with their ids");
    }
    assert!(again.iter().all(|message| message.header("payrelay-replay") == "1" && message.verify(&secret(1), at.now_s()).is_ok()));
    let ended = at.replay(id).await;
    assert_eq!((ended.deliveries, ended.payouts_looked_at), (4, 2));
    assert!(matches!(ended.standing, Standing::Done { .. }));
    assert_eq!(at.store.replays(at.subscription).await.unwrap(), [ended]);
    assert_eq!(at.store.begin_replay(&busy).await.unwrap(), Begun::Done, "the next one may begin");
}

impl Installation {
    /// The second event of a payout waits for the first one.
    async fn cancel_again_is_queued_behind(&self, payout: &Payout) {
        let timeline = self.store.timeline(payout.id).await.unwrap().unwrap();
        assert_eq!(timeline.queues, [(self.subscription, vec![1, 2])]);
    }
}

/// A worker that died before it noted what it had done: whoever comes next does the page again, and nothing twice.
#[tokio::test]
async fn a_page_that_is_done_again_delivers_nothing_twice() {
    let at = &installation().await;
    let [a, _] = at.told().await;
    at.receiver.take();
    let spec = at.spec(What::Ended);
    let id = at.begin(spec.clone()).await;
    let timeline = at.store.timeline_of(a.id, at.subscription).await.unwrap().unwrap();
    let picks = spec.picks(&timeline, at.store.clock().now());
    assert_eq!(at.store.deliver_again((&party(), Mode::Test), at.subscription, a.id, true, &picks).await.unwrap(), 2);
    assert_eq!(at.store.deliver_again((&party(), Mode::Test), at.subscription, a.id, true, &picks).await.unwrap(), 0, "they wait");
    at.later(1).await;
    at.crank().await;
    assert_eq!(at.store.deliver_again((&party(), Mode::Test), at.subscription, a.id, true, &picks).await.unwrap(), 0, "they were delivered since");
    at.replay_all().await;
    at.crank().await;
    let mut came = names(&at.receiver.take());
    came.sort();
    came.dedup();
    assert_eq!((came.len(), at.replay(id).await.deliveries), (4, 2));
    // The same decision by two workers is written once.
    let (standing, version) = at.store.replay(id).await.unwrap().unwrap();
    assert_eq!(at.store.write_replay(&standing, version - 1, None).await.unwrap(), workers::store::replays::Written::Stale);
}

#[tokio::test]
async fn a_replay_keeps_its_rate_and_can_be_canceled() {
    let at = &installation().await;
    at.told().await;
    at.receiver.take();
    let id = at.begin(Spec { rate_per_s: 1, ..at.spec(What::Ended) }).await;
    assert_eq!(at.replay_turn().await, Turn::Did(1));
    assert_eq!((at.replay_turn().await, at.replay(id).await.deliveries), (Turn::Idle, 2), "the payout of a turn goes whole, and is waited for");
    assert_eq!(at.replay(id).await.standing, Standing::Running);
    let canceled = replay::cancel(&at.store, id).await.unwrap().unwrap();
    assert!(matches!(canceled.standing, Standing::Canceled { .. }));
    assert_eq!(replay::cancel(&at.store, id).await.unwrap().unwrap(), canceled);
    at.later(60).await;
    assert_eq!(at.replay_turn().await, Turn::Idle);
    at.crank().await;
    assert_eq!(at.receiver.take().len(), 2);
}

#[tokio::test]
async fn only_what_is_wanted_is_replayed_and_a_dry_run_says_how_much() {
    let at = &installation_with(RelaySettings { waits_s: Some(vec![1]), ..RelaySettings::default() }).await;
    at.receiver.mood(Mood::Status(500));
    let [_, b] = at.told().await;
    for _ in 0..5 {
        at.later(2).await;
        at.crank().await;
    }
    at.receiver.mood(Mood::Status(200));
    at.open("c").await;
    // On a busy machine a call may end by its deadline: then it is made again.
    for _ in 0..3 {
        at.later(60).await;
        at.crank().await;
    }
    at.receiver.take();
    let canceled = EventTypes::These([Pattern::parse("payout.canceled").unwrap()].into());
    let since = b.requested_at();
    for (spec, expected) in [
        (at.spec(What::Ended), 5),
        (at.spec(What::Delivered), 1),
        (at.spec(What::Abandoned), 4),
        (at.spec(What::Missing), 0),
        (Spec { types: canceled, ..at.spec(What::Ended) }, 2),
        (Spec { from: since, ..at.spec(What::Ended) }, 3),
        (Spec { to: since, ..at.spec(What::Abandoned) }, 2),
        (Spec { party: PartyId::parse("cafe").unwrap(), ..at.spec(What::Abandoned) }, 0),
    ] {
        let Counted { deliveries, complete, .. } = replay::count(&at.store, &spec, 1_000).await.unwrap();
        assert_eq!((deliveries, complete), (expected, true), "{spec:?}");
    }
    assert_eq!(at.store.abandoned(10).await.unwrap().len(), 4);
    let id = at.begin(at.spec(What::Abandoned)).await;
    at.replay_all().await;
    at.crank().await;
    assert_eq!((at.receiver.take().len(), at.replay(id).await.deliveries, at.store.abandoned(10).await.unwrap().len()), (4, 4, 0));
}

/// A subscription that was made later hears of what was before, if it wants to.
#[tokio::test]
async fn events_that_were_never_meant_for_it_can_be_told() {
    let at = &installation().await;
    at.told().await;
    at.receiver.take();
    let later = SubscriptionId::new(Shard::new(0), [2; 11]);
    let record = Subscription::new(later, party(), Mode::Test, at.receiver.url.clone(), EventTypes::All, at.store.clock().now());
    at.store.subscribe(&record, Some(&Secrets::new(secret(2)))).await.unwrap();
    at.begin(Spec { subscription: later, ..at.spec(What::Missing) }).await;
    at.replay_all().await;
    at.crank().await;
    let came = at.receiver.take();
    assert_eq!(came.len(), 4);
    assert!(came.iter().all(|message| message.verify(&secret(2), at.now_s()).is_ok()));
}

#[tokio::test]
async fn a_replay_stops_with_its_subscription_and_is_forgotten() {
    let at = &installation().await;
    at.told().await;
    at.receiver.take();
    let id = at.begin(at.spec(What::Ended)).await;
    let (subscription, _) = at.store.subscription(at.subscription).await.unwrap().unwrap();
    at.store.unsubscribe(&subscription).await.unwrap();
    at.replay_all().await;
    assert!(matches!(at.replay(id).await.standing, Standing::Stopped { .. }));
    assert_eq!((at.crank().await, at.receiver.take().len()), (0, 0));
    let (shard, hour) = (Shard::new(0), Duration::from_hours(1));
    assert_eq!(at.store.trim_replays(shard, hour, 10).await.unwrap(), 0);
    at.later(7_200).await;
    assert_eq!(at.store.trim_replays(shard, hour, 10).await.unwrap(), 1);
    assert!(at.store.replay(id).await.unwrap().is_none() && at.store.replays(at.subscription).await.unwrap().is_empty());
}
