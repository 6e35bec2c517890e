//! What becomes of a payout in every mood at every provider, by the magic amount that means the same mood everywhere: the state that it ends in, and how
//! often money left. Each table is one installation with all its payouts at once; at the end all witnesses of a chaos run must agree.

use domain::fact::Provider;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use payrelay::chaos::{self, Load, Sent};
use payrelay::local::order;
use providers::sandbox::mood::Mood;
use uuid::Uuid;

use super::{House, PATIENCE, quick};

/// A mood, and what follows at each of the providers of a table: the last state and the movements out.
type Row<const N: usize> = (Mood, [(&'static str, u32); N]);

const SETTLED: (&str, u32) = ("settled", 1);
/// Worldpay tells of a basic disbursement only that it was taken.
const TAKEN: (&str, u32) = ("authorised", 1);
const REFUSED: (&str, u32) = ("rejected", 0);
const REVIEW: (&str, u32) = ("in_review", 0);

async fn ends_as<const N: usize>(keys: &str, providers: [Provider; N], table: &[Row<N>]) {
    let house = House::with(chaos::SHORT, keys, quick).await;
    let asked = table.iter().flat_map(|(mood, ends)| providers.into_iter().zip(ends).map(move |(provider, end)| (*mood, provider, *end)));
    let ask = |(mood, provider, end): (Mood, Provider, (&'static str, u32))| {
        let house = &house;
        async move {
            let transaction = Uuid::new_v4();
            let answer = house.local.caller.call(Method::POST, "/v1/payouts", Some(&order(provider, transaction, mood.amount()))).await.unwrap();
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
            let sent = Sent { transaction, id: house.id(transaction), provider, accepted: true, canceled: None };
            (mood, end, sent)
        }
    };
    let asked = join_all(asked.map(ask)).await;
    let load = Load { sent: asked.iter().map(|(.., sent)| sent.clone()).collect(), ..Load::default() };
    let began = std::time::Instant::now();
    let found = loop {
        let found = chaos::audit(&house.local, &load).await;
        match found {
            Ok(found) if found.is_clean() && found.left == 0 && house.local.sandboxes.are_done() => break found,
            _ => {}
        }
        assert!(began.elapsed() < PATIENCE, "{found:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    let mut wrong = Vec::new();
    let moved = house.local.sandboxes.moved();
    for (mood, (state, out), sent) in &asked {
        let payout = house.local.store.load(sent.id).await.unwrap().unwrap();
        let paid = moved.get(&(sent.id, sent.provider)).map_or(0, |moved| moved.out);
        let took = house.local.sandboxes.mood(sent.provider, sent.provider_key());
        if (payout.state.name().as_str(), paid, took) != (*state, *out, Some(*mood)) {
            wrong.push(format!("{} {mood:?}: {} {paid} ({took:?}), not {state} {out}", sent.provider.name(), payout.state.name().as_str()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{found:#?}");
}

#[tokio::test]
async fn every_mood_at_every_provider() {
    let (failed, returned) = (("failed", 1), ("returned", 1));
    // In the order of `Provider::ALL`: TrueLayer v1, TrueLayer v3, Worldpay to an account, Worldpay to a card by v4, Mollie.
    let all = |end| [end, end, end, TAKEN, end];
    ends_as(
        "",
        Provider::ALL,
        &[
            (Mood::Plain, all(SETTLED)),
            (Mood::LostAnswer, all(SETTLED)),
            (Mood::SlowAnswer, all(SETTLED)),
            // Of a card payout that is not found nobody knows whether it was made, and its repeat would be paid.
            (Mood::ErrorBefore, [SETTLED, SETTLED, SETTLED, REVIEW, SETTLED]),
            (Mood::ErrorAfter, all(SETTLED)),
            (Mood::LateAppear, all(SETTLED)),
            (Mood::DuplicateNotices, all(SETTLED)),
            (Mood::ShuffledNotices, all(SETTLED)),
            (Mood::BadSignature, all(SETTLED)),
            (Mood::NoNotices, all(SETTLED)),
            (Mood::Reject, [REFUSED, ("failed", 0), REFUSED, REFUSED, ("failed", 0)]),
            (Mood::Refuse, [REFUSED; 5]),
            (Mood::Fail, all(failed)),
            (Mood::Return, all(returned)),
            (Mood::RateLimit, all(SETTLED)),
        ],
    )
    .await;
}

/// The older generation for accounts, and v3 for cards, whose `payoutNotFound` is a proof; the moods that only Worldpay has.
#[tokio::test]
async fn worldpay_legacy_and_v3() {
    ends_as(
        "providers.worldpay_account_test.generation = 'legacy'\nproviders.worldpay_card_test.version = 'v3'\n",
        [Provider::WorldpayAccount, Provider::WorldpayCard],
        &[
            (Mood::Plain, [SETTLED, TAKEN]),
            (Mood::LostAnswer, [SETTLED, TAKEN]),
            (Mood::SlowAnswer, [SETTLED, TAKEN]),
            (Mood::ErrorBefore, [SETTLED, REVIEW]),
            (Mood::ErrorAfter, [SETTLED, TAKEN]),
            (Mood::LateAppear, [SETTLED, TAKEN]),
            (Mood::DuplicateNotices, [SETTLED, TAKEN]),
            (Mood::ShuffledNotices, [SETTLED, TAKEN]),
            (Mood::BadSignature, [SETTLED, TAKEN]),
            (Mood::Reject, [REFUSED, REFUSED]),
            (Mood::Refuse, [REFUSED, REFUSED]),
            (Mood::Fail, [("failed", 1), TAKEN]),
            (Mood::Return, [("returned", 1), TAKEN]),
            (Mood::RateLimit, [SETTLED, TAKEN]),
            (Mood::Unauthorised, [SETTLED, TAKEN]),
            (Mood::Forbidden, [SETTLED, TAKEN]),
            (Mood::Interim, [SETTLED, TAKEN]),
            (Mood::Inconclusive, [SETTLED, TAKEN]),
            (Mood::Vanished, [SETTLED, REFUSED]),
        ],
    )
    .await;
}

/// The oldest version for cards, by fast access, where the scheme answers.
#[tokio::test]
async fn worldpay_v2_by_fast_access() {
    ends_as(
        "providers.worldpay_card_test.version = 'v2'\nproviders.worldpay_card_test.endpoint = 'fast-access'\n",
        [Provider::WorldpayCard],
        &[
            (Mood::Plain, [SETTLED]),
            (Mood::LostAnswer, [SETTLED]),
            (Mood::ErrorBefore, [REVIEW]),
            (Mood::LateAppear, [SETTLED]),
            (Mood::Reject, [REFUSED]),
            (Mood::Refuse, [REFUSED]),
            (Mood::Fail, [("failed", 0)]),
            (Mood::Interim, [SETTLED]),
            (Mood::Inconclusive, [SETTLED]),
            (Mood::Vanished, [REFUSED]),
            // Two days of silence, and then an error that says nothing about the money.
            (Mood::Silent, [REVIEW]),
        ],
    )
    .await;
}

/// With keys for events, they are evidence, and tell what a look at a basic disbursement never shows. Each is repeated until it is answered with 200, and
/// holds back the next.
#[tokio::test]
async fn worldpay_v4_with_events() {
    ends_as(
        "providers.worldpay_card_test.event_keys = [{ id = '1', secret = 'for scenarios only' }]\n",
        [Provider::WorldpayCard],
        &[
            (Mood::Plain, [SETTLED]),
            (Mood::LostAnswer, [SETTLED]),
            (Mood::DuplicateNotices, [SETTLED]),
            (Mood::ShuffledNotices, [SETTLED]),
            (Mood::BadSignature, [SETTLED]),
            (Mood::NoNotices, [TAKEN]),
            (Mood::Fail, [("returned", 1)]),
            (Mood::Return, [("returned", 1)]),
            (Mood::Inconclusive, [SETTLED]),
            // In v4 what vanished is never known to be nothing.
            (Mood::Vanished, [REVIEW]),
        ],
    )
    .await;
}
