//! What a payout has to pass, against a real server: limits at the same time, equal payouts, new beneficiaries.

use domain::amount::Amount;
use domain::destination::{Beneficiary, Destination, Iban};
use domain::fact::{Reason, Report, Source, Status as Word};
use domain::id::{Mode, PayoutId};
use domain::ledger::Account;
use domain::money::{Currency, Money};
use domain::payout::state::StateName;
use domain::payout::{Fact, Order, Payout, What};
use futures_util::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::time::Duration;
use workers::gate::{Gate, Rules};
use workers::queue::Source as _;
use workers::store::Store;
use workers::store::lanes::ExecuteLane;
use workers::store::payouts::{Claim, Committed, Fixed, Irreplaceable, Opened, Permit, Permitted};

use super::{Installation, beneficiary, installation, lane, party, plan};

fn gate(approvals: Value, limits: Value) -> Gate {
    let rules = Rules {
        approvals: serde_json::from_value(approvals).unwrap(),
        approval_hours: 24,
        limits: serde_json::from_value(limits).unwrap(),
        known_days: 10,
        known_max: 2,
        refuse_twins: true,
    };
    Gate::new(b"a pepper", rules)
}

/// A limit of pounds for a day.
#[expect(clippy::needless_pass_by_value, reason = "limits read better without borrows")]
fn limit(scope: &str, change: Value) -> Value {
    let mut limit = json!({ "scope": scope, "currency": "GBP", "hours": 24, "beyond": "reject" });
    limit.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    limit
}

fn order(store: &Store, key: &str, minor: i64) -> Order {
    Order { amount: Money::new(minor, Currency::GBP).unwrap().into(), ..super::order_for(store, key) }
}

fn to(iban: &str) -> Beneficiary {
    Beneficiary { destination: Destination::Iban(Iban::parse(iban).unwrap()), ..beneficiary() }
}

async fn open(store: &Store, gate: &Gate, order: &Order, beneficiary: &Beneficiary) -> Opened {
    let question = gate.question(order, beneficiary, store.shards());
    let claim = Claim { fingerprint: "f", question: Some(&question) };
    store.open_payout(&Payout::open(order.clone(), store.clock().now()), beneficiary, claim).await.unwrap()
}

fn id(store: &Store, key: &str) -> PayoutId {
    PayoutId::derive(&party(), Mode::Test, key, store.shards())
}

async fn happens(store: &Store, key: &str, what: What) {
    let payout = store.load(id(store, key)).await.unwrap().unwrap();
    let verdict = payout.apply(&Fact::new(Source::Worker, what), &plan(), store.clock().now());
    assert_eq!(store.commit(verdict.step().unwrap()).await.unwrap(), Committed::Done);
}

fn initiate(store: &Store) -> What {
    What::Initiate { send_by: store.clock().now().saturating_add(SignedDuration::from_secs(10)).unwrap(), aside_until: None }
}

fn lost() -> What {
    What::NoAnswer { attempt: 1, send: 1, why: Reason::new("lost") }
}

fn says(status: Word) -> What {
    What::Reported { attempt: 1, report: Report { status, provider_status: "word".to_owned(), at: None, reference: None, amount: None } }
}

/// Has the payout sent, as a worker does.
async fn send(store: &Store, key: &str) {
    let leased = ExecuteLane(lane(store)).lease(100).await.unwrap().items;
    let (work, ticket) = leased.into_iter().find(|(work, _)| work.payout.transaction_id == key).unwrap();
    let verdict = work.payout.apply(&Fact::new(Source::Worker, initiate(store)), &plan(), store.clock().now());
    let permitted = store.commit_intent(verdict.step().unwrap(), Permit::Execute(ticket.token), Some(b"request")).await.unwrap();
    assert!(matches!(permitted, Permitted::Yes { .. }), "{permitted:?}");
}

#[tokio::test]
async fn a_hundred_at_once_get_no_further_than_the_limit() {
    let Installation { store, server: _server, .. } = &installation().await;
    for (currency_limits, key) in
        [(limit("party", json!({ "amount_max": 60 * 250 + 249 })), "a"), (limit("party", json!({ "count_max": 60, "hours": 48 })), "c")]
    {
        let gate = &gate(json!([]), json!([currency_limits]));
        let asked = join_all((0..100).map(|n| async move {
            let order = order(store, &format!("{key}{n}"), 250);
            // Everyone asks twice: a repeat counts once.
            let first = open(store, gate, &order, &beneficiary()).await;
            let second = open(store, gate, &order, &beneficiary()).await;
            (first, second)
        }))
        .await;
        let accepted = asked.iter().filter(|(first, second)| matches!((first, second), (Opened::New, Opened::Exists(_)))).count();
        let refused = |opened: &Opened| matches!(opened, Opened::Refused(reason, _) if reason.as_str() == "limit_exceeded");
        assert_eq!((accepted, asked.iter().filter(|(first, _)| refused(first)).count()), (60, 40), "{key}");
    }
}

/// However long before they are asked for: what is to go on one day counts together.
#[tokio::test]
async fn what_is_dated_counts_on_its_day() {
    let Installation { store, server: _server, .. } = &installation().await;
    let gate = &gate(json!([]), json!([limit("party", json!({ "amount_max": 1_000 }))]));
    let day = store.clock().now() + SignedDuration::from_hours(240);
    let dated = async |key: &str, hours: i64| {
        let order = Order { scheduled_for: Some(day + SignedDuration::from_hours(hours)), ..order(store, key, 1_000) };
        open(store, gate, &order, &beneficiary()).await
    };
    assert!(matches!(dated("d0", 0).await, Opened::New));
    for (key, hours) in [("d1", 0), ("d2", 12), ("d3", -12)] {
        store.move_clock(Duration::from_secs(26 * 3_600)).await.unwrap();
        assert!(matches!(dated(key, hours).await, Opened::Refused(..)), "{key}");
    }
    assert!(matches!(dated("d4", 49).await, Opened::New), "another day");
    assert!(matches!(open(store, gate, &order(store, "now", 1_000), &beneficiary()).await, Opened::New), "its day is far");
    store.move_clock(Duration::from_secs((240 - 3 * 26) * 3_600)).await.unwrap();
    assert!(matches!(open(store, gate, &order(store, "k", 1), &beneficiary()).await, Opened::Refused(..)), "its day has come");
    happens(store, "d0", What::Cancel { reason: Reason::new("why") }).await;
    assert!(matches!(open(store, gate, &order(store, "k", 1), &beneficiary()).await, Opened::New), "its share is given back");
}

/// A window moves on; each beneficiary has its own; beyond a limit of approval a second person is asked.
#[tokio::test]
async fn a_window_moves_on_and_beneficiaries_are_counted_apart() {
    let Installation { store, server: _server, .. } = &installation().await;
    let limits = json!([limit("beneficiary", json!({ "amount_max": 500 })), limit("beneficiary", json!({ "count_max": 2, "beyond": "approve" }))]);
    let gate = &gate(json!([]), limits);
    let (ours, other) = (beneficiary(), to("NL91ABNA0417164300"));
    assert!(matches!(open(store, gate, &order(store, "k1", 300), &ours).await, Opened::New));
    assert!(matches!(open(store, gate, &order(store, "k2", 201), &ours).await, Opened::Refused(..)));
    assert!(matches!(open(store, gate, &order(store, "k3", 500), &other).await, Opened::New), "another account");
    assert!(matches!(open(store, gate, &order(store, "k4", 1), &ours).await, Opened::New));
    let third = order(store, "k5", 1);
    assert!(matches!(open(store, gate, &third, &ours).await, Opened::NeedsApproval(_)));
    assert!(store.load(third.id).await.unwrap().is_none(), "nothing was written");
    let to_approve = Order { approve_by: Some(gate.time_to_approve(store.clock().now())), ..third };
    assert!(matches!(open(store, gate, &to_approve, &ours).await, Opened::New));
    store.move_clock(Duration::from_hours(23)).await.unwrap();
    assert!(matches!(open(store, gate, &order(store, "k6", 499), &ours).await, Opened::Refused(..)), "still in the window");
    store.move_clock(Duration::from_hours(2)).await.unwrap();
    assert!(matches!(open(store, gate, &order(store, "k6", 499), &ours).await, Opened::New), "a day later");
    let mut raw = redis::Client::open(_server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("t:{s00}:lim:*").query_async(&mut raw).await.unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        let (ttl, fields): (i64, i64) =
            (redis::cmd("TTL").arg(&key).query_async(&mut raw).await.unwrap(), redis::cmd("HLEN").arg(&key).query_async(&mut raw).await.unwrap());
        assert!(ttl > 0 && fields <= 52, "{key}: {ttl} s, {fields} fields");
    }
}

/// What ends without money gives its share back; what came back after it had arrived does not, and what arrives after all is counted again.
#[tokio::test]
async fn a_share_is_given_back_while_no_money_is_gone() {
    let Installation { store, server: _server, .. } = &installation().await;
    let gate = &gate(json!([]), json!([limit("party", json!({ "amount_max": 100 }))]));
    let room = async |key: &str| !matches!(open(store, gate, &order(store, key, 100), &beneficiary()).await, Opened::Refused(..));
    assert!(room("k1").await && !room("k2").await);
    happens(store, "k1", What::Cancel { reason: Reason::new("why") }).await;
    assert!(room("k3").await && !room("k4").await);
    happens(store, "k3", initiate(store)).await;
    happens(store, "k3", says(Word::Settled)).await;
    happens(store, "k3", says(Word::Returned { reason: Reason::new("closed") })).await;
    assert!(!room("k5").await, "it was gone");
    store.move_clock(Duration::from_hours(26)).await.unwrap();
    assert!(room("k6").await);
    happens(store, "k6", initiate(store)).await;
    happens(store, "k6", says(Word::Failed { reason: Reason::new("closed") })).await;
    happens(store, "k6", says(Word::Settled)).await;
    assert!(matches!(open(store, gate, &order(store, "k7", 99), &beneficiary()).await, Opened::Refused(..)), "it may have arrived after all");
}

/// A whole balance is counted when it is known how much it is.
#[tokio::test]
async fn a_whole_balance_is_counted_when_it_is_fixed() {
    let Installation { store, server: _server, .. } = &installation().await;
    super::ledger::funded(store, 500).await;
    let gate = gate(json!([]), json!([limit("party", json!({ "amount_max": 499 }))]));
    let whole = Order { amount: Amount::Whole(Currency::GBP), ..super::order_for(store, "whole") };
    assert!(matches!(open(store, &gate, &whole, &beneficiary()).await, Opened::New));
    let fix = async || {
        let standing = store.account(&party(), Mode::Test, Currency::GBP).await.unwrap();
        let money = standing.account.whole(&standing.balances, 0).unwrap();
        let payout = store.load(whole.id).await.unwrap().unwrap();
        let verdict = payout.apply(&Fact::new(Source::Worker, What::Fix { money }), &plan(), store.clock().now());
        let question = gate.question_of_amount((&party(), Mode::Test), &beneficiary(), money);
        store.fix(verdict.step().unwrap(), &standing.account, standing.balances.of(Account::Available), question.as_ref()).await.unwrap()
    };
    assert!(matches!(fix().await, Fixed::LimitExceeded(Some(_))));
    assert!(matches!(open(store, &gate, &order(store, "k1", 400), &beneficiary()).await, Opened::New));
    assert!(matches!(fix().await, Fixed::LimitExceeded(Some(_))), "its share is another's");
    happens(store, "k1", What::Cancel { reason: Reason::new("why") }).await;
    store.move_clock(Duration::from_hours(26)).await.unwrap();
    assert!(matches!(open(store, &gate, &order(store, "k2", 1), &beneficiary()).await, Opened::New));
    assert!(matches!(fix().await, Fixed::LimitExceeded(Some(_))));
    super::ledger::top_up(store, "more", 1).await;
    happens(store, "k2", What::Cancel { reason: Reason::new("why") }).await;
    assert!(matches!(open(store, &gate, &order(store, "k3", 2), &beneficiary()).await, Opened::New));
    store.move_clock(Duration::from_hours(26)).await.unwrap();
    assert_eq!(fix().await, Fixed::Done);
    assert!(matches!(open(store, &gate, &order(store, "k4", 1), &beneficiary()).await, Opened::Refused(..)));
}

/// While a payout is unresolved no equal one is opened; before and after it is.
#[tokio::test]
async fn an_equal_payout_waits_until_the_other_is_resolved() {
    let Installation { store, server: _server, .. } = &installation().await;
    let gate = &gate(json!([]), json!([]));
    let opened = async |key: &str| open(store, gate, &order(store, key, 100), &beneficiary()).await;
    assert!(matches!(opened("k1").await, Opened::New));
    happens(store, "k1", initiate(store)).await;
    assert!(matches!(opened("k2").await, Opened::New), "it is on its way, and was asked for twice");
    happens(store, "k1", lost()).await;
    let Opened::Twin(twin) = opened("k3").await else { panic!("it may arrive") };
    assert_eq!(twin, id(store, "k1"));
    assert!(!store.is_claimed(id(store, "k3")).await.unwrap(), "its key is free");
    assert!(matches!(opened("k1").await, Opened::Exists(_)), "a repeat is a replay");
    assert!(matches!(open(store, gate, &order(store, "k4", 101), &beneficiary()).await, Opened::New), "another amount");
    // Both are unresolved now, and only one of them is resolved.
    happens(store, "k2", initiate(store)).await;
    happens(store, "k2", lost()).await;
    happens(store, "k1", says(Word::Settled)).await;
    assert!(matches!(opened("k3").await, Opened::Twin(twin) if twin == id(store, "k2")));
    happens(store, "k2", What::Stuck { why: Reason::new("why") }).await;
    assert!(matches!(opened("k3").await, Opened::Twin(_)), "it is in review");
    happens(store, "k2", says(Word::Failed { reason: Reason::new("closed") })).await;
    assert!(matches!(opened("k3").await, Opened::New));
    let mut raw = redis::Client::open(_server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*twin:*").query_async(&mut raw).await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");
}

/// The instant at which a payout becomes inconclusive decides: an equal one was opened before, or is refused.
#[tokio::test]
async fn the_race_for_an_equal_payout_has_one_winner() {
    let Installation { store, server: _server, .. } = &installation().await;
    let gate = &gate(json!([]), json!([]));
    let (mut opened_first, mut refused) = (0, 0);
    for n in 1..60 {
        let (first, second) = (format!("a{n}"), format!("b{n}"));
        open(store, gate, &order(store, &first, n), &beneficiary()).await;
        happens(store, &first, initiate(store)).await;
        let (order, beneficiary) = (self::order(store, &second, n), beneficiary());
        let third = self::order(store, &format!("c{n}"), n);
        let (_, outcome) = tokio::join!(happens(store, &first, lost()), open(store, gate, &order, &beneficiary));
        match outcome {
            Opened::New => opened_first += 1,
            Opened::Twin(_) => refused += 1,
            other => panic!("{other:?}"),
        }
        assert!(matches!(open(store, gate, &third, &beneficiary).await, Opened::Twin(_)));
    }
    assert_eq!(opened_first + refused, 59);
}

/// Only what has ended without arriving is replaced, and by one at a time.
#[tokio::test]
async fn a_payout_is_replaced_once_and_after_its_end() {
    let Installation { store, server: _server, .. } = &installation().await;
    let gate = &gate(json!([]), json!([]));
    let replacing = async |key: &str, other: &str| {
        let order = Order { replaces: Some(other.to_owned()), ..order(store, key, 100) };
        open(store, gate, &order, &beneficiary()).await
    };
    let is = |opened: &Opened| if let Opened::NotReplaceable(why) = opened { Some(*why) } else { None };
    assert_eq!(is(&replacing("k2", "k1").await), Some(Irreplaceable::Missing));
    open(store, gate, &order(store, "k1", 100), &beneficiary()).await;
    assert_eq!(is(&replacing("k2", "k1").await), Some(Irreplaceable::Is(StateName::Requested)));
    happens(store, "k1", initiate(store)).await;
    happens(store, "k1", lost()).await;
    assert_eq!(is(&replacing("k2", "k1").await), Some(Irreplaceable::Is(StateName::Inconclusive)));
    happens(store, "k1", says(Word::Failed { reason: Reason::new("closed") })).await;
    assert!(matches!(replacing("k2", "k1").await, Opened::New));
    assert_eq!(store.load(id(store, "k2")).await.unwrap().unwrap().replaces.as_deref(), Some("k1"));
    assert_eq!(is(&replacing("k3", "k1").await), Some(Irreplaceable::Replaced));
    assert!(matches!(replacing("k2", "k1").await, Opened::Exists(_)), "a repeat is a replay");
    happens(store, "k2", What::Cancel { reason: Reason::new("why") }).await;
    assert!(matches!(replacing("k3", "k1").await, Opened::New), "its successor did not arrive either");
}

/// An account is known once something was sent to it, not when it was asked for: of many requests at once none slips past the second person.
#[tokio::test]
async fn an_account_is_new_until_something_was_sent_to_it() {
    let Installation { store, server: _server, .. } = &installation().await;
    let gate = &gate(json!([{ "new_beneficiary": true }]), json!([]));
    let ours = beneficiary();
    let to_approve = |order: Order| Order { approve_by: Some(gate.time_to_approve(store.clock().now())), ..order };
    let is_new = async |key: &str, who: &Beneficiary| matches!(open(store, gate, &order(store, key, 5), who).await, Opened::NeedsApproval(_));
    assert!(is_new("k1", &ours).await);
    assert!(matches!(open(store, gate, &to_approve(order(store, "k1", 5)), &ours).await, Opened::New));
    assert!(is_new("k2", &ours).await, "nobody has approved it");
    happens(store, "k1", What::Approve { by: "bob".to_owned() }).await;
    assert!(is_new("k2", &ours).await, "nothing was sent");
    send(store, "k1").await;
    assert!(!is_new("k2", &ours).await);
    let by_sort_code = json!({ "type": "sort_code_account_number", "sort_code": "202015", "account_number": "55555555" });
    let spelt = Beneficiary { destination: serde_json::from_value(by_sort_code).unwrap(), ..beneficiary() };
    assert!(!is_new("k3", &spelt).await, "the same account");
    assert!(is_new("k4", &to("NL91ABNA0417164300")).await);
    store.move_clock(Duration::from_hours(24 * 11)).await.unwrap();
    assert!(is_new("k5", &ours).await, "nothing was sent to it for so long");
    let mut raw = redis::Client::open(_server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let names: Vec<String> = redis::cmd("ZRANGE").arg("t:{s00}:known:acme:test").arg(0).arg(-1).query_async(&mut raw).await.unwrap();
    assert!(names.iter().all(|name| name.len() == 32 && !name.contains("5555")), "{names:?}");
}

/// Which accounts are known is bounded: the ones of the longest ago go.
#[tokio::test]
async fn no_more_accounts_are_known_than_may_be() {
    let Installation { store, server: _server, .. } = &installation().await;
    let gate = &gate(json!([{ "new_beneficiary": true }]), json!([]));
    let free = &self::gate(json!([]), json!([]));
    for (n, iban) in ["GB33BUKB20201555555555", "NL91ABNA0417164300", "DE89370400440532013000"].into_iter().enumerate() {
        let key = format!("k{n}");
        open(store, free, &order(store, &key, 5), &to(iban)).await;
        send(store, &key).await;
        store.move_clock(Duration::from_secs(60)).await.unwrap();
    }
    let is_new = async |key: &str, iban: &str| matches!(open(store, gate, &order(store, key, 5), &to(iban)).await, Opened::NeedsApproval(_));
    open(store, free, &order(store, "k9", 7), &beneficiary()).await;
    assert!(is_new("x", "GB33BUKB20201555555555").await);
    assert!(!is_new("y", "NL91ABNA0417164300").await && !is_new("z", "DE89370400440532013000").await);
}

/// What a rule for new accounts would have asked a person about, had it been larger or in its currency, makes no account known to it; what a person has approved does.
#[tokio::test]
async fn a_small_payout_first_makes_no_account_known() {
    let Installation { store, server: _server, .. } = &installation().await;
    let gate = &gate(json!([{ "new_beneficiary": true, "currencies": ["GBP"], "amount_from": 100 }]), json!([]));
    let ours = beneficiary();
    let euros = |key: &str| Order { amount: Money::new(500, Currency::EUR).unwrap().into(), ..super::order_for(store, key) };
    for small in [order(store, "k1", 99), euros("k2")] {
        assert!(matches!(open(store, gate, &small, &ours).await, Opened::New));
        send(store, &small.transaction_id).await;
        let Opened::NeedsApproval(rule) = open(store, gate, &order(store, "k3", 100), &ours).await else { panic!("{small:?}") };
        assert_eq!(rule.name, "approvals[0]");
    }
    let approve_by = Some(gate.time_to_approve(store.clock().now()));
    assert!(matches!(open(store, gate, &Order { approve_by, ..order(store, "k3", 100) }, &ours).await, Opened::New));
    happens(store, "k3", What::Approve { by: "bob".to_owned() }).await;
    send(store, "k3").await;
    assert!(matches!(open(store, gate, &order(store, "k4", 100), &ours).await, Opened::New));
    // Small ones to a known account keep it known.
    for key in ["k5", "k6"] {
        store.move_clock(Duration::from_hours(24 * 6)).await.unwrap();
        assert!(matches!(open(store, gate, &order(store, key, 1), &ours).await, Opened::New));
        send(store, key).await;
    }
    assert!(matches!(open(store, gate, &order(store, "k7", 100), &ours).await, Opened::New));
}

/// A whole balance and an amount to the same account with the same words are twins, in whichever spelling; other amounts are none.
#[tokio::test]
async fn a_whole_balance_is_the_twin_of_any_amount() {
    let Installation { store, server: _server, .. } = &installation().await;
    let gate = &gate(json!([]), json!([]));
    let ours = beneficiary();
    let spelt = Beneficiary { reference: domain::destination::StatementReference::parse("withdrawal   204", 18).unwrap(), ..beneficiary() };
    let whole = |key: &str| Order { amount: Amount::Whole(Currency::GBP), ..super::order_for(store, key) };
    open(store, gate, &order(store, "k1", 5), &ours).await;
    send(store, "k1").await;
    assert!(matches!(open(store, gate, &order(store, "k2", 5), &ours).await, Opened::New), "it is under way, and not unresolved");
    happens(store, "k1", What::NoAnswer { attempt: 1, send: 1, why: Reason::new("lost") }).await;
    let is_twin =
        async |order: Order, who: &Beneficiary| matches!(open(store, gate, &order, who).await, Opened::Twin(id) if id == self::id(store, "k1"));
    assert!(is_twin(order(store, "k3", 5), &spelt).await);
    assert!(is_twin(whole("k4"), &ours).await, "it may be as much");
    assert!(matches!(open(store, gate, &order(store, "k5", 6), &ours).await, Opened::New));
    happens(
        store,
        "k1",
        What::Reported {
            attempt: 1,
            report: Report { status: Word::Settled, provider_status: "paid".to_owned(), at: None, reference: None, amount: None },
        },
    )
    .await;
    assert!(matches!(open(store, gate, &whole("k6"), &spelt).await, Opened::New));
}
