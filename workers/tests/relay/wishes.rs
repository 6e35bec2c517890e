//! What a party can wish of a subscription: what it hears of, in which order, how fast, with what; and what becomes of one that fails.

use domain::delivery::{Attempt, Heard};
use domain::id::{DeliveryId, EventId};
use domain::subscription::{Ordering as Order, Pattern, Payload};
use domain::wait::Retry;
use workers::relay::keys::{self, SigningKeys};
use workers::relay::ping::{self, ping};
use workers::store::subscriptions::{Failing, Redelivered, Trouble};

use super::*;

impl Installation {
    async fn wish(&self, change: impl FnOnce(&mut Subscription)) {
        self.change(|subscription, _| change(subscription)).await;
    }

    async fn pause(&self) {
        self.wish(|subscription| subscription.status = Status::Paused { at: subscription.created_at }).await;
    }

    async fn resume(&self) {
        let (mut subscription, _) = self.store.subscription(self.subscription).await.unwrap().unwrap();
        subscription.status = Status::Enabled;
        subscription.version += 1;
        self.store.begin_afresh(&subscription, None).await.unwrap();
    }

    async fn status(&self) -> Status {
        self.store.subscription(self.subscription).await.unwrap().unwrap().0.status
    }

    fn kinds(&self) -> Vec<String> {
        self.receiver.take().iter().map(|message| message.json()["type"].as_str().unwrap().to_owned()).collect()
    }
}

fn patterns(texts: &[&str]) -> EventTypes {
    EventTypes::These(texts.iter().map(|text| Pattern::parse(text).unwrap()).collect())
}

#[tokio::test]
async fn a_family_of_types_is_all_of_them() {
    let at = installation().await;
    at.wish(|subscription| subscription.event_types = patterns(&["payout.canceled"])).await;
    at.cancel(&at.open("a").await).await;
    at.crank().await;
    assert_eq!(at.kinds(), ["payout.canceled"]);
    at.wish(|subscription| subscription.event_types = patterns(&["payout.*"])).await;
    at.cancel(&at.open("b").await).await;
    at.crank().await;
    assert_eq!(at.kinds(), ["payout.requested", "payout.canceled"]);
}

/// Later events of a payout are matched too, whose commits do not bring the metadata along.
#[tokio::test]
async fn metadata_is_matched_exactly() {
    let at = installation().await;
    let case = |value: &str| BTreeMap::from([("case".to_owned(), value.to_owned())]);
    at.wish(|subscription| subscription.metadata = case("a \"b\" é")).await;
    at.cancel(&at.open("a").await).await;
    at.crank().await;
    assert_eq!(at.kinds(), ["payout.requested", "payout.canceled"]);
    for (key, other) in [("b", case("a")), ("c", BTreeMap::from([("region".to_owned(), "eu".to_owned())]))] {
        at.wish(|subscription| subscription.metadata = other).await;
        at.cancel(&at.open(key).await).await;
        assert_eq!(at.crank().await, 0);
    }
}

/// Nothing is lost, nothing is sent in the meantime, and afterwards each payout's events come in order.
#[tokio::test]
async fn a_pause_accumulates() {
    let at = installation().await;
    at.pause().await;
    for key in ["a", "b", "c"] {
        at.cancel(&at.open(key).await).await;
    }
    assert_eq!(at.crank().await, 0);
    at.later(3_600).await;
    assert_eq!(at.crank().await, 0);
    assert_eq!(at.store.standing(at.subscription).await.unwrap().waiting, 3);
    at.resume().await;
    assert_eq!(at.crank().await, 6);
    let mut last = BTreeMap::new();
    for message in at.receiver.take() {
        let data = &message.json()["data"];
        let before = last.insert(data["payout_id"].as_str().unwrap().to_owned(), data["sequence"].as_u64().unwrap());
        assert_eq!(before.unwrap_or(0) + 1, data["sequence"].as_u64().unwrap());
    }
    assert_eq!(last.into_values().collect::<Vec<_>>(), [2, 2, 2]);
}

/// What was leased before a pause is not sent any more, and a failure that is recorded later does not end the pause.
#[tokio::test]
async fn a_pause_outlasts_what_was_under_way() {
    let at = &installation().await;
    at.open("a").await;
    let turn = at.turn_by(|context, job| async {
        at.pause().await;
        at.open("b").await;
        assert!(at.lanes.lease(10).await.unwrap().items.is_empty(), "nothing more is handed out");
        relay(context, job).await;
    });
    assert_eq!(turn.await, Turn::Did(1));
    at.later(3_600).await;
    assert_eq!((at.crank().await, at.receiver.take().len()), (0, 0));
    at.resume().await;
    let mut leased = at.lanes.lease(10).await.unwrap().items;
    assert_eq!(leased.len(), 2);
    at.pause().await;
    let (work, ticket) = leased.remove(0);
    let now = at.store.clock().now();
    let mut delivery = Delivery::new(now);
    let attempt = Attempt { at: now, latency_ms: 1, result: Attempted::Answered { status: 503, retry_after_ms: Some(1_000) }, heard: None };
    let decision =
        delivery.record(DeliveryId::new(work.event.id, work.subscription), attempt, &Retry::three_days(), SignedDuration::from_hours(1), now);
    let trouble = Trouble { failures: 1, wait_first_ms: 1_000, wait_cap_ms: 1_000, asked: Some(now + SignedDuration::from_secs(1)) };
    at.store.relayed(&ticket, &delivery, decision, Some(trouble)).await.unwrap();
    at.later(3_600).await;
    assert_eq!((at.crank().await, at.receiver.take().len()), (0, 0));
    at.resume().await;
    assert_eq!((at.crank().await, at.receiver.take().len()), (2, 2));
}

#[tokio::test]
async fn without_order_a_failure_holds_up_nothing() {
    let at = installation().await;
    at.wish(|subscription| subscription.ordering = Order::None).await;
    let payout = at.open("a").await;
    at.receiver.mood(Mood::Status(500));
    assert_eq!(at.crank().await, 1);
    at.receiver.mood(Mood::Status(200));
    at.cancel(&payout).await;
    assert_eq!(at.crank().await, 1);
    at.later(6).await;
    assert_eq!(at.crank().await, 1);
    assert_eq!(sequences(&at.receiver.take()), [1, 2, 1]);
    at.later(100_000).await;
    assert_eq!(at.crank().await, 0);
}

/// Whoever changes from order to none and back loses nothing on the way, and hears nothing twice.
#[tokio::test]
async fn a_change_of_the_order_loses_nothing() {
    let at = installation().await;
    let payout = at.open("a").await;
    at.receiver.mood(Mood::Status(500));
    assert_eq!(at.crank().await, 1);
    at.wish(|subscription| subscription.ordering = Order::None).await;
    at.cancel(&payout).await;
    at.receiver.mood(Mood::Status(200));
    assert_eq!(at.crank().await, 1);
    at.wish(|subscription| subscription.ordering = Order::Strict).await;
    at.later(6).await;
    assert_eq!(at.crank().await, 1);
    assert_eq!(sequences(&at.receiver.take()), [1, 2, 1]);
    at.later(100_000).await;
    assert_eq!(at.crank().await, 0);
}

#[tokio::test]
async fn a_limit_holds_for_what_is_under_way() {
    let at = installation().await;
    at.wish(|subscription| subscription.max_in_flight = Some(2)).await;
    for key in ["a", "b", "c", "d", "e", "f"] {
        at.open(key).await;
    }
    assert_eq!(at.lanes.lease(100).await.unwrap().items.len(), 2);
    at.later(31).await;
    assert_eq!(at.crank().await, 6);
    for key in ["g", "h", "i", "j"] {
        at.open(key).await;
    }
    assert_eq!(at.lanes.lease(100).await.unwrap().items.len(), 2, "acknowledgements do not widen it");
    at.wish(|subscription| subscription.max_in_flight = None).await;
    assert_eq!(at.lanes.lease(100).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_rate_is_kept_and_nothing_waits_longer_than_it_must() {
    let at = installation().await;
    at.wish(|subscription| subscription.rate_per_s = Some(2)).await;
    for number in 0..12 {
        at.open(&number.to_string()).await;
    }
    // The server's clock runs on while the test does, so the counts are bounds.
    let begun = std::time::Instant::now();
    let mut sent = at.crank().await;
    for step in 1..=12_u8 {
        at.store.move_clock(Duration::from_millis(500)).await.unwrap();
        sent += at.crank().await;
        let most = f64::from(step) + 2.0 * begun.elapsed().as_secs_f64() + 2.0;
        assert!(sent >= usize::from(step).min(12) && sent as f64 <= most, "after {step} half seconds: {sent} of at most {most}");
    }
    assert_eq!(sent, 12);
    assert_eq!(at.receiver.take().len(), 12);
}

#[tokio::test]
async fn own_headers_go_with_every_delivery() {
    let at = installation().await;
    at.change(|_, secrets| secrets.as_mut().unwrap().headers.add("X-Api-Key", "of the merchant").unwrap()).await;
    at.open("a").await;
    at.crank().await;
    let [message] = &at.receiver.take()[..] else { panic!("one message") };
    assert_eq!(message.header("x-api-key"), "of the merchant");
    assert_eq!(message.verify(&secret(1), at.now_s()), Ok(()));
}

/// Every key signs, and the bytes that were sent are the bytes that were signed.
#[tokio::test]
async fn the_installations_own_keys_sign_for_those_who_want_it() {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let made = [keys::make(&[1; 32]).unwrap(), keys::make(&[2; 32]).unwrap()];
    let signing_keys = SigningKeys::read(made.iter().map(|(private, _)| private.as_str())).unwrap();
    let at = installation_with(RelaySettings { signing_keys, ..RelaySettings::default() }).await;
    at.open("a").await;
    at.crank().await;
    at.wish(|subscription| subscription.asymmetric = true).await;
    at.open("b").await;
    at.crank().await;
    let [without, with] = &at.receiver.take()[..] else { panic!("two messages") };
    assert!(!without.header("webhook-signature").contains("v1a,"));
    assert_eq!(with.verify(&secret(1), at.now_s()), Ok(()), "the shared secret signs as before");
    let signatures: Vec<_> = with.header("webhook-signature").split(' ').filter_map(|part| part.strip_prefix("v1a,")).collect();
    assert_eq!(signatures.len(), 2);
    let signed = [with.header("webhook-id").as_bytes(), b".", with.header("webhook-timestamp").as_bytes(), b".", &with.body].concat();
    for ((_, public), signature) in made.iter().zip(signatures) {
        let key = base64.decode(public.text.strip_prefix("whpk_").unwrap()).unwrap();
        UnparsedPublicKey::new(&ED25519, key).verify(&signed, &base64.decode(signature).unwrap()).unwrap();
    }
}

/// In full: more, but no name and no whole account; and the same bytes each time.
#[tokio::test]
async fn a_full_event_says_where_to() {
    let at = installation().await;
    at.wish(|subscription| subscription.payload = Payload::Full).await;
    at.open("a").await;
    at.receiver.mood(Mood::Status(500));
    at.crank().await;
    at.receiver.mood(Mood::Status(200));
    at.later(6).await;
    at.crank().await;
    let [first, second] = &at.receiver.take()[..] else { panic!("two messages") };
    assert_eq!(first.body, second.body);
    assert_eq!(second.verify(&secret(1), at.now_s()), Ok(()));
    let data = &second.json()["data"];
    assert_eq!((&data["beneficiary_reference"], &data["destination"]), (&"Withdrawal 204".into(), &"GB33…5555".into()));
    assert_eq!(data["metadata"]["case"], "a \"b\" é");
    assert!(!String::from_utf8_lossy(&second.body).contains("Smith"));
}

#[tokio::test]
async fn a_ping_is_signed_and_tells_how_it_went() {
    let at = installation().await;
    let (subscription, secrets) = at.store.subscription(at.subscription).await.unwrap().unwrap();
    let send = async |number| {
        ping(at.context.egress(), &SigningKeys::default(), &subscription, &secrets, number, Duration::from_millis(300), at.store.clock().now()).await
    };
    assert_eq!(send(1).await.result, Attempted::Acknowledged { status: 200 });
    let [message] = &at.receiver.take()[..] else { panic!("one message") };
    assert_eq!(message.verify(&secret(1), at.now_s()), Ok(()));
    assert_eq!((message.json()["type"].as_str(), message.header("webhook-id")), (Some(ping::KIND), "ping_0000000000000001"));
    at.receiver.mood(Mood::Status(401));
    assert_eq!(send(2).await.result, Attempted::Answered { status: 401, retry_after_ms: None });
    at.receiver.mood(Mood::Hang);
    assert_eq!(send(3).await.result, unreachable("timeout"));
}

/// A subscriber that is throttled is left alone as a whole, for as long as it asks.
#[tokio::test]
async fn who_asks_for_less_is_left_alone() {
    let at = installation().await;
    for status in [429, 502, 503, 504] {
        at.open(&format!("a{status}")).await;
        at.receiver.mood(Mood::ComeBackIn(status, 60));
        assert_eq!(at.crank().await, 1);
        at.receiver.mood(Mood::Status(200));
        at.open(&format!("b{status}")).await;
        assert_eq!(at.crank().await, 0, "{status}: others wait too");
        assert!(at.store.standing(at.subscription).await.unwrap().held_until.is_some());
        at.later(61).await;
        assert_eq!(at.crank().await, 2, "{status}");
        assert!(at.store.standing(at.subscription).await.unwrap().held_until.is_none());
    }
    at.open("c").await;
    at.receiver.mood(Mood::ComeBackIn(400, 60));
    assert_eq!(at.crank().await, 1);
    at.open("d").await;
    assert_eq!(at.crank().await, 1, "an answer of another kind concerns its delivery only");
}

/// A subscriber that takes nothing is asked ever more seldom, one delivery at a time, and gets all once it is back.
#[tokio::test]
async fn a_black_hole_is_asked_seldom_and_nothing_is_lost() {
    let at = installation_with(RelaySettings { circuit_failures: 3, ..RelaySettings::default() }).await;
    at.receiver.mood(Mood::Status(500));
    for number in 0..100 {
        at.open(&number.to_string()).await;
    }
    let tried = at.crank().await;
    assert!(tried < 20, "{tried} of 100 were tried");
    let standing = at.store.standing(at.subscription).await.unwrap();
    assert!(standing.failing.is_some_and(|Failing { failures, .. }| failures >= 3) && standing.held_until.is_some(), "{standing:?}");
    at.receiver.take();
    for _ in 0..60 {
        at.later(60).await;
        at.crank().await;
    }
    let asked = at.receiver.take().len();
    assert!((5..=25).contains(&asked), "in an hour it was asked {asked} times");
    at.receiver.mood(Mood::Status(200));
    at.later(100_000).await;
    at.crank().await;
    at.later(100_000).await;
    at.crank().await;
    let ids: std::collections::BTreeSet<_> = at.receiver.take().iter().map(|message| message.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 100);
    assert_eq!(at.store.standing(at.subscription).await.unwrap().failing, None);
}

/// A moment in which everything under way fails at once is one failure, however much that was.
#[tokio::test]
async fn one_stumble_is_one_failure() {
    let at = installation_with(RelaySettings { circuit_failures: 2, ..RelaySettings::default() }).await;
    at.wish(|subscription| subscription.max_in_flight = Some(64)).await;
    for number in 0..40 {
        at.open(&number.to_string()).await;
    }
    assert_eq!(at.crank().await, 40, "each acknowledgement earns it one more at a time");
    for number in 40..100 {
        at.open(&number.to_string()).await;
    }
    let leased = at.lanes.lease(100).await.unwrap().items;
    assert!(leased.len() > 20, "{}", leased.len());
    for (work, ticket) in leased {
        let now = at.store.clock().now();
        let mut delivery = Delivery::new(now);
        let attempt = Attempt { at: now, latency_ms: 1, result: unreachable("timeout"), heard: None };
        let decision = delivery.record(DeliveryId::new(work.event.id, work.subscription), attempt, &Retry::three_days(), SignedDuration::ZERO, now);
        let trouble = Trouble { failures: 2, wait_first_ms: 5_000, wait_cap_ms: 300_000, asked: None };
        at.store.relayed(&ticket, &delivery, decision, Some(trouble)).await.unwrap();
    }
    let standing = at.store.standing(at.subscription).await.unwrap();
    assert!(standing.held_until.is_none() && standing.failing.is_none_or(|failing| failing.failures == 1), "{standing:?}");
}

/// Days of failure are warned of, then end the subscription; whoever resumes it begins anew.
#[tokio::test]
async fn days_of_failure_disable() {
    let at = installation().await;
    at.receiver.mood(Mood::Status(500));
    let mut hours = 0;
    while at.status().await == Status::Enabled {
        at.open(&hours.to_string()).await;
        at.crank().await;
        at.later(3_600).await;
        hours += 1;
        assert!(hours < 200);
    }
    let Status::Disabled { reason, .. } = at.status().await else { panic!("disabled") };
    assert_eq!((reason, hours >= 120), (Reason::new("failing"), true), "after {hours} hours");
    at.receiver.mood(Mood::Status(200));
    at.later(100_000).await;
    at.crank().await;
    at.receiver.take();
    let given_up = at.store.abandoned(1_000).await.unwrap().len();
    assert_eq!(given_up, hours, "what was open is given up and listed");
    at.resume().await;
    at.open("new").await;
    assert_eq!((at.crank().await, at.receiver.take().len()), (1, 1));
    assert_eq!(at.store.standing(at.subscription).await.unwrap().failing, None);
}

#[tokio::test]
async fn a_warning_is_given_once_and_again_after_a_recovery() {
    let at = installation().await;
    assert!(at.store.note_warning(at.subscription, 24).await.unwrap());
    assert!(!at.store.note_warning(at.subscription, 24).await.unwrap());
    assert!(at.store.note_warning(at.subscription, 72).await.unwrap());
    at.resume().await;
    assert!(at.store.note_warning(at.subscription, 24).await.unwrap());
    assert!(!at.store.note_warning(SubscriptionId::new(Shard::new(0), [9; 11]), 24).await.unwrap());
}

/// What has ended is sent once more and says so; what waits is sent sooner; and none of it disturbs the order of the rest.
#[tokio::test]
async fn one_event_is_delivered_again() {
    let at = installation_with(RelaySettings { waits_s: Some(vec![3_600]), ..RelaySettings::default() }).await;
    let payout = at.open("a").await;
    let again = async |sequence: u32| {
        let seen = at.deliveries(&payout).await.get(sequence as usize - 1).cloned().flatten();
        at.store.redeliver((&party(), Mode::Test), at.subscription, EventId::new(payout.id, sequence), seen.as_ref()).await.unwrap()
    };
    at.receiver.mood(Mood::Status(500));
    at.crank().await;
    at.cancel(&payout).await;
    assert_eq!(again(2).await, Redelivered::Queued);
    at.receiver.mood(Mood::Status(200));
    assert_eq!(again(1).await, Redelivered::Due, "an hour sooner");
    assert_eq!(again(1).await, Redelivered::Due, "a repeat makes no second one");
    assert_eq!(at.crank().await, 2);
    let received = at.receiver.take();
    assert_eq!(sequences(&received), [1, 1, 2]);
    assert!(received.iter().all(|message| message.header("payrelay-replay").is_empty()));

    assert_eq!(again(1).await, Redelivered::Due);
    assert_eq!(at.crank().await, 1);
    let [replayed] = &at.receiver.take()[..] else { panic!("one message") };
    assert_eq!((replayed.header("payrelay-replay"), replayed.header("webhook-id")), ("1", received[0].header("webhook-id")));
    assert_eq!(replayed.verify(&secret(1), at.now_s()), Ok(()));
    at.receiver.mood(Mood::Status(500));
    assert_eq!(again(2).await, Redelivered::Due);
    assert_eq!(at.crank().await, 1);
    at.later(4_000).await;
    at.crank().await;
    assert_eq!(at.store.abandoned(10).await.unwrap().len(), 1);
    assert!(matches!(at.deliveries(&payout).await[1].as_ref().unwrap().status, DeliveryStatus::Abandoned { .. }));
    let unknown = EventId::new(payout.id, 9);
    assert_eq!(at.store.redeliver((&party(), Mode::Test), at.subscription, unknown, None).await.unwrap(), Redelivered::Missing);
    let stale = at.deliveries(&payout).await.remove(0);
    assert_eq!(
        at.store.redeliver((&party(), Mode::Test), at.subscription, EventId::new(payout.id, 2), stale.as_ref()).await.unwrap(),
        Redelivered::Stale
    );
}

/// What a subscriber said beside a refusal is kept for its owner, cut and without control characters.
#[tokio::test]
async fn a_refusal_is_kept_with_what_was_said() {
    let at = installation().await;
    let payout = at.open("a").await;
    at.receiver.mood(Mood::Status(500));
    at.crank().await;
    let attempts = at.deliveries(&payout).await.remove(0).unwrap().attempts;
    assert_eq!(attempts[0].heard.as_ref().unwrap().excerpt, "thanks");
    assert_eq!(Heard::of(" a\nb\u{1b}[0m", Some("x")), Some(Heard { excerpt: "a b [0m".to_owned(), request_id: Some("x".to_owned()) }));
    assert_eq!(Heard::of(&"é".repeat(2_000), None).unwrap().excerpt.chars().count(), 256);
    assert_eq!(Heard::of(" ", None), None);
}

/// One event that is never taken, then days without any: the next failure is the first of its time, and nothing is disabled by it.
#[tokio::test]
async fn a_failure_after_quiet_days_is_the_first_one() {
    let at = installation().await;
    at.receiver.mood(Mood::Status(500));
    at.open("poison").await;
    // Its whole schedule: three days.
    for _ in 0..100 {
        at.crank().await;
        at.later(3_600).await;
    }
    assert_eq!(at.store.abandoned(10).await.unwrap().len(), 1);
    at.later(48 * 3_600).await;
    at.open("next").await;
    at.crank().await;
    assert_eq!(at.status().await, Status::Enabled);
    at.receiver.mood(Mood::Status(200));
    at.receiver.take();
    at.later(3_600).await;
    at.crank().await;
    assert_eq!((at.receiver.take().len(), at.store.abandoned(10).await.unwrap().len()), (1, 1));
}

/// What was given up and is delivered after all is not listed as given up.
#[tokio::test]
async fn what_is_delivered_again_is_not_abandoned() {
    let at = installation_with(RelaySettings { waits_s: Some(vec![1]), ..RelaySettings::default() }).await;
    let payout = at.open("a").await;
    at.receiver.mood(Mood::Status(500));
    at.crank().await;
    at.later(2).await;
    at.crank().await;
    assert_eq!(at.store.abandoned(10).await.unwrap().len(), 1);
    at.receiver.mood(Mood::Status(200));
    let seen = at.deliveries(&payout).await.remove(0);
    at.store.redeliver((&party(), Mode::Test), at.subscription, EventId::new(payout.id, 1), seen.as_ref()).await.unwrap();
    at.crank().await;
    assert_eq!(at.store.abandoned(10).await.unwrap().len(), 0);
}
