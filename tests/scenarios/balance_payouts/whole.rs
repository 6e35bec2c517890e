//! Payouts of a whole balance: what they take, and when.

use futures_util::{StreamExt as _, stream};
use workers::store::freeze::Freeze;

use super::*;

#[tokio::test]
async fn a_whole_balance_is_what_is_there_when_its_day_opens() {
    let shop = Shop::with(1_000).await;
    shop.change(json!({ "reserve_in_minor": 150 })).await;
    let payout = shop.asked(None).await;
    assert_eq!((&payout["amount"], &payout["status"]), (&Value::Null, &json!("requested")));
    assert_eq!(shop.funds().await, (1_000, 0), "nothing is taken yet");
    shop.top_up(500).await;
    let single = json!({ "transaction_id": transaction(), "amount_in_minor": 100, "currency": "EUR", "context_code": "withdrawal",
        "beneficiary_name": "John Smith", "beneficiary_reference": "x", "beneficiary_iban": "NL91ABNA0417164300" });
    assert_eq!(shop.acme.post("/v1/payouts", &single).await.json["result"]["status"], "requested");
    shop.change(json!({ "reserve_in_minor": 200 })).await;
    let listed = shop.acme.get("/v1/payouts").await.json["results"].clone();
    assert!(listed[1].get("amount_in_minor").is_none() && listed[1]["currency"] == "EUR", "{listed}");
    shop.next_day().await;
    shop.installation.execute().await;
    let shown = shop.read(&payout).await;
    assert_eq!((&shown["amount"], &shown["status"]), (&json!({ "currency": "EUR", "value": "12.00" }), &json!("initiated")));
    assert_eq!(shop.funds().await, (200, 1_300));
    // What comes in later is not in it, however often it is tried.
    shop.top_up(5_000).await;
    shop.installation.store.move_clock(Duration::from_secs(120)).await.unwrap();
    shop.installation.execute().await;
    assert_eq!(shop.read(&payout).await["amount"]["value"], "12.00");
    shop.reported(&payout, Status::Settled).await;
    assert_eq!(shop.funds().await, (5_200, 100));
    let events = shop.installation.store.timeline(id(&payout)).await.unwrap().unwrap().events;
    let amounts: Vec<_> =
        events.iter().map(|event| serde_json::from_str::<Value>(&event.body).unwrap()["data"]["amount_in_minor"].as_i64()).collect();
    assert_eq!(amounts[..3], [None, None, Some(1_200)]);
    assert_eq!(shop.platform.get("/v2/balances/primary?party_id=acme").await.json["reserve"]["value"], "2.00");
}

#[tokio::test]
async fn a_balance_that_has_nothing_when_its_day_opens_is_told_as_failed() {
    let shop = Shop::with(1_000).await;
    let payout = shop.asked(None).await;
    shop.change(json!({ "reserve_in_minor": 1_000 })).await;
    shop.next_day().await;
    shop.installation.execute().await;
    let shown = shop.read(&payout).await;
    assert_eq!((shown["status"].as_str(), shown["statusReason"]["code"].as_str()), (Some("failed"), Some("insufficient_funds")), "{shown}");
    let listed = shop.acme.get("/v1/payouts").await.json["results"][0].clone();
    assert_eq!((&listed["status"], &listed["reason"]), (&json!("rejected"), &json!("nothing_available")));
    assert_eq!(shop.funds().await, (1_000, 0));
    // With nothing beyond the reserve there is nothing to ask for.
    assert_eq!(refusal(&shop.ask(None).await).1, "insufficient_funds");
    assert_eq!(shop.ask(Some("10.00")).await.status, 201, "the reserve is kept from whole balances only");
}

/// What was accepted is paid from the money that the party has by then, whoever funds its payouts from now on.
#[tokio::test]
async fn a_balance_that_its_provider_funds_by_then_is_paid_out_whole() {
    let shop = Shop::with(1_000).await;
    let payout = shop.asked(None).await;
    shop.change(json!({ "funding": "provider" })).await;
    shop.next_day().await;
    shop.installation.execute().await;
    assert_eq!(shop.read(&payout).await["amount"]["value"], "10.00");
    shop.reported(&payout, Status::Settled).await;
    assert_eq!(shop.read(&payout).await["status"], "completed");
    assert_eq!(shop.funds().await, (0, 0));
    shop.change(json!({ "funding": "balance" })).await;
    assert_eq!(shop.funds().await, (0, 0), "nobody owes anybody anything");
}

/// A hundred payouts and a payout of the whole balance at the same time: every minor unit is in one of them, and no minor unit in two.
#[tokio::test]
async fn a_whole_balance_and_a_hundred_payouts_share_what_is_there() {
    for round in 0..4 {
        let shop = Shop::with(10_000).await;
        let payout = shop.asked(None).await;
        shop.next_day().await;
        let single = |_| {
            json!({ "transaction_id": transaction(), "amount_in_minor": 25, "currency": "EUR", "context_code": "withdrawal",
            "beneficiary_name": "John Smith", "beneficiary_reference": "x", "beneficiary_iban": "NL91ABNA0417164300" })
        };
        let accepted = async |number| {
            let bodies: Vec<Value> = (0..number).map(single).collect();
            let replies = stream::iter(&bodies).map(|body| shop.acme.post("/v1/payouts", body)).buffer_unordered(8).collect::<Vec<Reply>>().await;
            replies.iter().filter(|reply| reply.json["result"]["status"] != "rejected").count()
        };
        // Two workers that race for it. Where it meets a balance that moves all the time, it is put off for a while.
        let fixed = async || {
            for _ in 0..50 {
                tokio::join!(shop.installation.execute(), shop.installation.execute());
                let held = shop.installation.store.load(id(&payout)).await.unwrap().unwrap();
                if let Some(money) = held.amount.exact() {
                    return (money.minor(), held.id.shard());
                }
                shop.installation.store.move_clock(Duration::from_secs(60)).await.unwrap();
            }
            panic!("round {round}: never fixed")
        };
        let before = accepted(20).await;
        let (meanwhile, (taken, shard)) = tokio::join!(accepted(60), fixed());
        let after = accepted(20).await;
        assert_eq!((before, after), (20, 0), "round {round}: there was enough before, and nothing is left");
        assert_eq!(
            taken + 25 * i64::try_from(before + meanwhile).unwrap(),
            10_000,
            "round {round}: {meanwhile} accepted meanwhile and {taken} taken"
        );
        assert_eq!(shop.funds().await, (0, 10_000));
        let audited = shop.installation.store.audit(shard).await.unwrap();
        assert_eq!((audited.imbalance, audited.overdrawn), (0, 0));
    }
}

/// A hundred requests for payouts of one balance for one day: one of them is accepted.
#[tokio::test]
async fn a_hundred_requests_for_one_day_make_one_payout() {
    let shop = Shop::with(10_000).await;
    let replies = join_all((0..100).map(|n| {
        let value = if n % 2 == 0 { None } else { Some("1.00") };
        shop.ask(value)
    }))
    .await;
    let accepted = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(accepted, 1, "{replies:?}");
    assert!(replies.iter().filter(|reply| reply.status != 201).all(|reply| refusal(reply).1 == "already_scheduled"), "{replies:?}");
    assert_eq!(shop.acme.get(PAYOUTS).await.json["count"], 1);
    // The next day is another one.
    shop.next_day().await;
    assert_eq!(shop.ask(Some("1.00")).await.status, 201);
}

/// While dispatch is frozen nobody says that there is nothing, and what is fixed is sent when it is thawed.
#[tokio::test]
async fn a_frozen_store_refuses_nothing_for_lack_of_funds() {
    let shop = Shop::with(1_000).await;
    let payout = shop.asked(None).await;
    let shard = id(&payout).shard();
    let store = &shop.installation.store;
    shop.change(json!({ "reserve_in_minor": 1_000 })).await;
    shop.next_day().await;
    let freeze = Freeze { reason: "restored".to_owned(), at_ms: store.clock().now().as_millisecond(), epoch_seen: 7, nothing_lost: false };
    store.freeze(shard, &freeze).await.unwrap();
    shop.installation.execute().await;
    assert_eq!(shop.read(&payout).await["status"], "requested");
    let reply = shop.ask(None).await;
    assert_eq!(refusal(&reply), (503, "store_unavailable".to_owned(), None));
    assert!(reply.header("retry-after").is_some());
    shop.change(json!({ "reserve_in_minor": 0 })).await;
    store.move_clock(Duration::from_secs(60)).await.unwrap();
    shop.installation.execute().await;
    let shown = shop.read(&payout).await;
    assert_eq!((shown["status"].as_str(), shown["amount"]["value"].as_str()), (Some("requested"), Some("10.00")), "{shown}");
    let canceled = shop.cancel(&payout).await;
    assert_eq!(canceled.status, 409, "it may have been sent before what was lost");
    assert!(canceled.json["detail"].as_str().unwrap().contains("Dispatch is frozen"), "{canceled:?}");
    assert_eq!(shop.funds().await, (0, 1_000));
    store.thaw(shard, Duration::from_hours(1)).await.unwrap();
    let canceled = shop.cancel(&payout).await;
    assert!(canceled.status == 409 && canceled.json["detail"].as_str().unwrap().contains("may have forgotten"), "{canceled:?}");
}

/// How much a whole balance will be, nobody knows when it is asked for: a rule by amount fits it.
#[tokio::test]
async fn a_whole_balance_is_approved_by_every_rule_that_some_amount_fits() {
    let approvals = json!([{ "currencies": ["EUR"], "amount_from": 10_000 }, { "parties": ["somebody-else"] }]);
    let shop = Shop::at(Plan { ingress: json!({ "approvals": approvals }), ..Plan::default() }, 5_000).await;
    let exact = shop.asked(Some("50.00")).await;
    assert_eq!(shop.installation.store.load(id(&exact)).await.unwrap().unwrap().state.name().as_str(), "scheduled");
    shop.cancel(&exact).await;
    let whole = shop.asked(None).await;
    let held = shop.installation.store.load(id(&whole)).await.unwrap().unwrap();
    assert_eq!((held.state.name().as_str(), whole["status"].as_str()), ("awaiting_approval", Some("requested")));
    let checker =
        shop.installation.caller_with(|key| (key.owner, key.reach) = ("bob".to_owned(), Reach::Party(PartyId::parse("acme").unwrap()))).await;
    let approved = checker.post(&format!("/v1/payouts/{}/approve", held.transaction_id), &json!({})).await;
    assert_eq!((approved.status, &approved.json["result"]["status"]), (200, &json!("scheduled")), "{approved:?}");
    shop.next_day().await;
    shop.installation.execute().await;
    assert_eq!(shop.read(&whole).await["amount"]["value"], "50.00");
}

/// Whoever approves a whole balance goes by what the account keeps back: to lower that afterwards sends no more, to raise it sends less.
#[tokio::test]
async fn a_reserve_that_is_lowered_later_sends_no_more_than_was_approved() {
    let shop = Shop::at(Plan { ingress: json!({ "approvals": [{ "currencies": ["EUR"] }] }), ..Plan::default() }, 5_000).await;
    let checker =
        shop.installation.caller_with(|key| (key.owner, key.reach) = ("bob".to_owned(), Reach::Party(PartyId::parse("acme").unwrap()))).await;
    for (asked_with, then, sent) in [(1_000, 0, "40.00"), (100, 300, "7.00")] {
        shop.change(json!({ "reserve_in_minor": asked_with })).await;
        let whole = shop.asked(None).await;
        let held = shop.installation.store.load(id(&whole)).await.unwrap().unwrap();
        assert_eq!(checker.post(&format!("/v1/payouts/{}/approve", held.transaction_id), &json!({})).await.status, 200);
        shop.change(json!({ "reserve_in_minor": then })).await;
        shop.next_day().await;
        shop.installation.execute().await;
        assert_eq!(shop.read(&whole).await["amount"]["value"], sent);
        shop.reported(&whole, Status::Settled).await;
    }
}

/// A limit holds for payouts of balances too: one that is too much is not opened, and a whole balance is counted when it is known how much it is.
#[tokio::test]
async fn limits_hold_for_balances() {
    let limits = json!([{ "scope": "party", "currency": "EUR", "hours": 24, "amount_max": 6_000, "beyond": "reject" }]);
    let shop = Shop::at(Plan { ingress: json!({ "limits": limits }), ..Plan::default() }, 10_000).await;
    let refused = shop.ask(Some("60.01")).await;
    assert_eq!((refused.status, &refused.json["code"]), (422, &json!("limit_exceeded")), "{refused:?}");
    let whole = shop.asked(None).await;
    shop.next_day().await;
    shop.installation.execute().await;
    let held = shop.installation.store.load(id(&whole)).await.unwrap().unwrap();
    assert_eq!((held.state.name().as_str(), held.state.reason().map(Reason::as_str)), ("rejected", Some("limit_exceeded")));
    assert_eq!(shop.funds().await, (10_000, 0));
}

/// What was never fixed has no amount that could be booked as paid, whoever says that it was.
#[tokio::test]
async fn a_whole_balance_that_was_never_fixed_is_resolved_as_failed_only() {
    let shop = Shop::with(5_000).await;
    let whole = shop.asked(None).await;
    let held = shop.installation.store.load(id(&whole)).await.unwrap().unwrap();
    let path = format!("/v1/payouts/{}/resolve", held.transaction_id);
    let stuck = Fact::new(Source::Worker, What::Stuck { why: Reason::new("a_try") });
    shop.installation.recorder.record(held, &stuck).await.unwrap();
    for (outcome, status) in [("settled", 409), ("returned", 409), ("failed", 200)] {
        let body = json!({ "outcome": outcome, "reason": "seen", "evidence": "ticket 1", "party_id": "acme" });
        let reply = shop.platform.post(&path, &body).await;
        assert_eq!(reply.status, status, "{outcome}: {reply:?}");
        if status == 409 {
            assert!(reply.problem() == "not-possible-now" && reply.text.contains("never fixed"), "{reply:?}");
        }
    }
    assert_eq!(shop.funds().await, (5_000, 0));
}
