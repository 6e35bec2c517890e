//! Turns of suspect payouts to be looked for.

use workers::store::turns::Looking;

use super::*;

const LONG: Duration = Duration::MAX;

fn ms(wait: Option<Duration>) -> u64 {
    u64::try_from(wait.expect("a turn").as_millis()).unwrap()
}

/// Time goes on meanwhile, so that a wait is never longer than this, and on a busy machine shorter.
fn is_about(wait: u64, most: u64) -> bool {
    (most.saturating_sub(1_000)..=most).contains(&wait)
}

#[tokio::test]
async fn turns_are_given_in_order_for_all_providers_together() {
    let Installation { store, server: _server, .. } = &installation().await;
    let (one, two) = (Provider::Truelayer, Provider::Mollie);
    let turn = async |looks: &[(Provider, u64)], longest| store.turn_to_look(Mode::Test, looks, 2, longest).await.unwrap();
    assert_eq!(ms(turn(&[(one, 20)], LONG).await), 0);
    assert!(is_about(ms(turn(&[(one, 10), (two, 40)], LONG).await), 10_000), "after the looks of the one before, two a second");
    assert!(is_about(ms(turn(&[(two, 2)], LONG).await), 30_000), "the other provider was given its looks then, and not before");
    assert!(is_about(ms(turn(&[(one, 2)], LONG).await), 15_000));
    assert_eq!(turn(&[(one, 2)], Duration::from_secs(2)).await, None, "who does not wait gets none");
    assert!(is_about(ms(turn(&[(one, 2)], LONG).await), 16_000), "and takes nobody's");
    let live = store.turn_to_look(Mode::Live, &[(one, 2), (two, 2)], 2, Duration::ZERO).await.unwrap();
    assert_eq!(live, Some(Duration::ZERO), "the other mode is another account");
    store.move_clock(Duration::from_secs(60)).await.unwrap();
    assert_eq!(ms(turn(&[(one, 2), (two, 2)], Duration::ZERO).await), 0);
}

#[tokio::test]
async fn a_payout_is_put_off_until_its_turn_and_uses_it_once() {
    let Installation { store, server: _server, .. } = &installation().await;
    let payout = order(store, "k1").payout;
    open(store, "k1").await;
    let shard = payout.id.shard();
    let lane = ExecuteLane(Lane { store: store.clone(), shard, lease: Duration::from_secs(30) });
    let (work, ticket) = lane.lease(1).await.unwrap().items.pop().unwrap();
    assert_eq!((work.is_suspect, work.aside_until, store.use_turn(payout.id).await.unwrap()), (false, None, None));
    store.freeze(shard, &Freeze { reason: "a drill".to_owned(), at_ms: 0, epoch_seen: 0, nothing_lost: false }).await.unwrap();
    store.thaw(shard, Duration::from_secs(3_600)).await.unwrap();

    let in_50_s = || store.clock().now().as_millisecond() + 50_000;
    let earliest = in_50_s();
    store.put_off(Looking::Execute, payout.id, &ticket, Duration::from_secs(50)).await.unwrap();
    let latest = in_50_s();
    store.put_off(Looking::Execute, payout.id, &ticket, Duration::from_secs(500)).await.unwrap();
    assert!(is_about(ms(store.use_turn(payout.id).await.unwrap()), 50_000), "who comes before it waits for it");
    assert!(lane.lease(1).await.unwrap().items.is_empty());
    store.move_clock(Duration::from_secs(50)).await.unwrap();
    let (work, _) = lane.lease(1).await.unwrap().items.pop().expect("it is due, and who had the lease before had no say any more");
    assert_eq!((work.is_suspect, work.times_leased), (true, 1));
    assert!((earliest..=latest).contains(&work.aside_until.unwrap().as_millisecond()), "until its turn");
    assert_eq!(store.use_turn(payout.id).await.unwrap(), Some(Duration::ZERO));
    assert_eq!(store.use_turn(payout.id).await.unwrap(), None, "it was used");

    store.move_clock(Duration::from_secs(31)).await.unwrap();
    let (_, ticket) = lane.lease(1).await.unwrap().items.pop().unwrap();
    store.put_off(Looking::Execute, payout.id, &ticket, Duration::from_secs(5)).await.unwrap();
    store.move_clock(Duration::from_secs(8)).await.unwrap();
    assert_eq!(lane.lease(1).await.unwrap().items.len(), 1);
    assert_eq!(store.use_turn(payout.id).await.unwrap(), None, "nobody was there when it was its turn");
}
