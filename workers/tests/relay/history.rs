//! What deliveries look like afterwards: listed in pages that neither repeat nor skip, whatever they are narrowed to.

use domain::delivery::Progress;
use domain::id::{DeliveryId, EventId};
use domain::subscription::{Ordering as Order, Pattern};
use jiff::Timestamp;
use workers::store::deliveries::{Told, Wanted};

use super::*;

fn wanted(progress: Option<Progress>) -> Wanted {
    Wanted {
        party: party(),
        mode: Mode::Test,
        subscription: None,
        payout: None,
        sequence: None,
        progress,
        types: EventTypes::All,
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::MAX,
        looks_back: SignedDuration::from_hours(1),
    }
}

impl Installation {
    /// All pages of so many.
    async fn listed(&self, wanted: &Wanted, limit: usize) -> Vec<Told> {
        let (mut all, mut place) = (Vec::new(), None);
        for _ in 0..1_000 {
            let (told, next) = self.store.deliveries(wanted, place, limit).await.unwrap();
            assert!(told.len() <= limit);
            all.extend(told);
            place = next;
            if place.is_none() {
                return all;
            }
        }
        panic!("the list has no end");
    }

    async fn ids(&self, wanted: &Wanted, limit: usize) -> Vec<DeliveryId> {
        self.listed(wanted, limit).await.iter().map(Told::id).collect()
    }
}

fn ids(payouts: &[&Payout], sequences: &[u32], subscription: SubscriptionId) -> Vec<DeliveryId> {
    let of =
        |payout: &&Payout| sequences.iter().map(|sequence| DeliveryId::new(EventId::new(payout.id, *sequence), subscription)).collect::<Vec<_>>();
    payouts.iter().flat_map(of).collect()
}

#[tokio::test]
async fn pages_of_any_size_are_the_whole_list() {
    let at = &installation_with(RelaySettings { waits_s: Some(vec![1]), ..RelaySettings::default() }).await;
    let mut payouts = Vec::new();
    for key in ["a", "b", "c"] {
        payouts.push(at.open(key).await);
        at.cancel(payouts.last().unwrap()).await;
        at.later(1).await;
    }
    let [a, b, c] = &payouts[..] else { panic!("three") };
    // Nothing was tried: the first of each payout is in its lane, and the second waits behind it.
    let (all, soonest) = (ids(&[c, b, a], &[2, 1], at.subscription), ids(&[a, b, c], &[1, 2], at.subscription));
    for limit in [1, 2, 3, 5, 100] {
        assert_eq!(at.ids(&wanted(None), limit).await, all, "{limit}");
        assert_eq!(at.ids(&wanted(Some(Progress::Pending)), limit).await, soonest, "{limit}");
    }
    at.receiver.mood(Mood::Status(500));
    at.crank().await;
    assert_eq!(at.ids(&wanted(Some(Progress::Failing)), 1).await.len(), 3);
    // Their waits are spread.
    let mut behind = at.ids(&wanted(Some(Progress::Pending)), 1).await;
    let mut expected = ids(&[a, b, c], &[2], at.subscription);
    behind.sort();
    expected.sort();
    assert_eq!(behind, expected);
    for _ in 0..6 {
        at.later(60).await;
        at.crank().await;
    }
    let abandoned = at.listed(&wanted(Some(Progress::Abandoned)), 1).await;
    assert_eq!(abandoned.len(), 6);
    assert!(abandoned.iter().all(|told| told.delivery.as_ref().unwrap().attempt_count > 1));
    let mut once: Vec<_> = abandoned.iter().map(Told::id).collect();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), 6);

    at.receiver.mood(Mood::Status(200));
    let d = at.open("d").await;
    at.crank().await;
    assert_eq!(at.ids(&wanted(Some(Progress::Delivered)), 1).await, ids(&[&d], &[1], at.subscription));
    assert_eq!(at.ids(&wanted(None), 2).await.len(), 7);
}

#[tokio::test]
async fn a_list_is_narrowed() {
    let at = &installation().await;
    let a = at.open("a").await;
    at.later(7_200).await;
    let between = at.store.clock().now();
    at.cancel(&a).await;
    let b = at.open("b").await;
    at.cancel(&b).await;
    at.crank().await;
    let of = |change: fn(&mut Wanted)| {
        let mut wanted = wanted(None);
        change(&mut wanted);
        wanted
    };
    let canceled = of(|wanted| wanted.types = EventTypes::These([Pattern::parse("payout.canceled").unwrap()].into()));
    assert_eq!(at.ids(&canceled, 1).await, ids(&[&b, &a], &[2], at.subscription));
    let mut late = Wanted { from: between, ..wanted(None) };
    assert_eq!(at.ids(&late, 1).await, ids(&[&b], &[2, 1], at.subscription), "a was asked for too long before");
    late.looks_back = SignedDuration::from_hours(3);
    assert_eq!(at.ids(&late, 1).await, [ids(&[&b], &[2, 1], at.subscription), ids(&[&a], &[2], at.subscription)].concat());
    let early = Wanted { to: between, ..wanted(None) };
    assert_eq!(at.ids(&early, 1).await, ids(&[&a], &[1], at.subscription));
    let one = Wanted { payout: Some(a.id), ..wanted(None) };
    assert_eq!(at.ids(&one, 1).await, ids(&[&a], &[2, 1], at.subscription));
    let elsewhere = Wanted { subscription: Some(SubscriptionId::new(Shard::new(0), [9; 11])), ..wanted(None) };
    assert!(at.ids(&elsewhere, 1).await.is_empty());
    let others = Wanted { party: PartyId::parse("cafe").unwrap(), subscription: Some(at.subscription), ..wanted(None) };
    assert!(at.ids(&others, 1).await.is_empty());
    let others = Wanted { progress: Some(Progress::Pending), ..others };
    at.pause_and_open("c").await;
    assert!(at.ids(&others, 1).await.is_empty(), "a lane of another party shows nothing");
}

/// Of a subscription without order a delivery that was not tried is in its lane only.
#[tokio::test]
async fn what_waits_without_order_is_listed_too() {
    let at = installation().await;
    at.change(|subscription, _| subscription.ordering = Order::None).await;
    let payout = at.pause_and_open("a").await;
    let expected = ids(&[&payout], &[1], at.subscription);
    assert_eq!(at.ids(&wanted(Some(Progress::Pending)), 1).await, expected);
    let (of, mode, told) = at.store.delivery(expected[0]).await.unwrap().unwrap();
    assert_eq!((of, mode, told.delivery), (party(), Mode::Test, None));
    assert!(at.store.delivery(DeliveryId::new(EventId::new(payout.id, 2), at.subscription)).await.unwrap().is_none());
    assert!(at.store.delivery(DeliveryId::new(EventId::new(payout.id, 1), SubscriptionId::new(Shard::new(0), [9; 11]))).await.unwrap().is_none());
}

impl Installation {
    async fn pause_and_open(&self, key: &str) -> Payout {
        self.change(|subscription, _| subscription.status = Status::Paused { at: subscription.created_at }).await;
        self.open(key).await
    }
}
