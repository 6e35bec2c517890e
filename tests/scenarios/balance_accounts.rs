//! Balance accounts as seed 001 shows them: where their money goes, and on which days.

use std::time::Duration;

use domain::credential::Scope;
use domain::id::{Mode, PartyId};
use domain::money::Currency;
use domain::schedule::{Day, Schedule};
use futures_util::future::join_all;
use jiff::civil::Date;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Caller, Installation, Plan, payout, signing_key, transaction};

const ACCOUNT: &str = "/parties/acme/balanceAccount";

/// A platform, and a party "acme" with an instrument in each of three currencies.
async fn platform(installation: &Installation) -> Caller {
    let platform = installation.caller_with(|_| {}).await;
    let made = platform.post("/parties", &party("acme")).await;
    assert_eq!(made.status, 201, "{made:?}");
    platform
}

fn party(reference: &str) -> Value {
    let instrument = |reference: &str, currency: &str, destination: Value| json!({ "payoutInstrumentReference": reference, "currency": currency, "beneficiaryName": "John Smith", "destination": destination });
    let us =
        json!({ "type": "routing_number_account_number", "routing_number": "021000021", "account_number": "87654321", "account_type": "checking" });
    json!({
        "partyReference": reference,
        "displayName": "Acme & Sons",
        "country": "GB",
        "payoutInstruments": [
            instrument("personalCheckingAccount2", "EUR", json!({ "type": "iban", "iban": "NL91ABNA0417164300" })),
            instrument("otherEuros", "EUR", json!({ "type": "own_account" })),
            instrument("primaryBusinessAccount", "USD", us),
            instrument("pounds", "GBP", json!({ "type": "iban", "iban": "GB33BUKB20201555555555" })),
        ],
    })
}

/// The first request of seed 001, as it stands there.
fn fridays() -> Value {
    json!({ "currency": "EUR", "payoutInstrumentReference": "personalCheckingAccount2", "scheduledPayoutDay": "friday", "frequency": "weekly" })
}

fn with(mut body: Value, name: &str, value: impl Into<Value>) -> Value {
    body[name] = value.into();
    body
}

fn without(mut body: Value, names: &[&str]) -> Value {
    names.iter().for_each(|name| _ = body.as_object_mut().unwrap().remove(*name));
    body
}

fn path(account: &Value) -> String {
    format!("{ACCOUNT}/{}", account["balanceAccountId"].as_str().unwrap())
}

/// The first date of a schedule after today, by the calendar of its currency.
fn first(installation: &Installation, currency: &str, schedule: Schedule) -> String {
    let calendars = payrelay::config::Config::read(None, []).unwrap().calendars.read().unwrap();
    let days = calendars.of(Currency::parse(currency).unwrap());
    schedule.next(days.calendar(), days.date(installation.store.clock().now())).unwrap().date.to_string()
}

#[tokio::test]
async fn the_examples_of_the_seed_work_as_they_stand() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    let expected = first(&installation, "EUR", Schedule::Weekly(Day::Friday));
    let made = platform.post(ACCOUNT, &fridays()).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("location"), Some(path(&made.json).as_str()));
    for (name, value) in fridays().as_object().unwrap() {
        assert_eq!(&made.json[name], value, "{name}");
    }
    assert_eq!((&made.json["nextPayoutDate"], &made.json["version"]), (&json!(expected), &json!(1)));
    let at = made.json["dateTimeCreated"].as_str().unwrap();
    assert!(at.len() == "2025-01-23T12:23:45.222Z".len() && made.json["dateTimeUpdated"] == json!(at), "{at}");
    let number = made.json["accountNumber"].as_str().unwrap();
    assert!(number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_digit()), "{number}");
    assert_eq!(platform.get(&path(&made.json)).await.json, made.json);

    // The second one changes another account: what the service has written is filled in.
    let dollars =
        platform.post(ACCOUNT, &json!({ "currency": "USD", "payoutInstrumentReference": "primaryBusinessAccount", "frequency": "daily" })).await;
    let mut change = json!({
        "currency": "USD", "payoutInstrumentReference": "primaryBusinessAccount", "scheduledPayoutDay": "thursday", "frequency": "weekly",
        "balanceAccountId": "", "dateTimeCreated": "", "dateTimeUpdated": "", "version": 1, "accountNumber": "", "nextPayoutDate": "",
    });
    for name in ["balanceAccountId", "dateTimeCreated", "dateTimeUpdated", "version", "accountNumber", "nextPayoutDate"] {
        change[name] = dollars.json[name].clone();
    }
    let changed = platform.put(&path(&dollars.json), &change).await;
    assert_eq!((changed.status, &changed.json["version"]), (200, &json!(2)), "{changed:?}");
    assert_eq!(changed.json["nextPayoutDate"], json!(first(&installation, "USD", Schedule::Weekly(Day::Thursday))));
    assert_eq!((&changed.json["frequency"], &changed.json["scheduledPayoutDay"]), (&json!("weekly"), &json!("thursday")));
    assert_eq!(platform.get("/parties/acme/balanceAccounts").await.json, json!({ "balanceAccounts": [made.json, changed.json] }));
    // It is not offered yet.
    let deleted = platform.delete(&path(&made.json)).await;
    assert_eq!((deleted.status, deleted.problem()), (405, "method-not-allowed"));
    assert_eq!(platform.get(&path(&made.json)).await.json, made.json);
}

#[tokio::test]
async fn a_party_has_one_account_in_a_currency() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    let body = fridays();
    let replies = join_all((0..20).map(|_| platform.post(ACCOUNT, &body))).await;
    assert!(replies.iter().all(|reply| reply.status == 201 && reply.json == replies[0].json), "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| reply.header("idempotency-replayed").is_none()).count(), 1);
    for other in [
        json!({ "currency": "EUR" }),
        with(body.clone(), "scheduledPayoutDay", "monday"),
        with(body.clone(), "payoutInstrumentReference", "otherEuros"),
    ] {
        let refused = platform.post(ACCOUNT, &other).await;
        assert_eq!((refused.status, refused.problem()), (422, "account-conflict"), "{other}");
    }
    // A replay shows it as it is by now.
    let change = with(replies[0].json.clone(), "payoutInstrumentReference", "otherEuros");
    let changed = platform.put(&path(&change), &change).await;
    let again = platform.post(ACCOUNT, &body).await;
    assert_eq!((again.header("idempotency-replayed"), &again.json), (Some("true"), &changed.json));

    for (body, errors) in [
        (json!({}), vec![("/currency", "missing")]),
        (json!({ "currency": "eur" }), vec![("/currency", "not_a_code")]),
        (json!({ "currency": "GBP", "frequency": "daily" }), vec![("/payoutInstrumentReference", "missing")]),
        (json!({ "currency": "GBP", "payoutInstrumentReference": "nothing" }), vec![("/payoutInstrumentReference", "unknown_instrument")]),
        (json!({ "currency": "GBP", "payoutInstrumentReference": "otherEuros" }), vec![("/payoutInstrumentReference", "other_currency")]),
        (json!({ "currency": "GBP", "payoutInstrumentReference": "a/b" }), vec![("/payoutInstrumentReference", "invalid")]),
        (with(fridays(), "frequency", "hourly"), vec![("/frequency", "unknown")]),
        (without(fridays(), &["frequency"]), vec![("/frequency", "missing")]),
        (without(fridays(), &["scheduledPayoutDay"]), vec![("/scheduledPayoutDay", "missing")]),
        (with(fridays(), "scheduledPayoutDay", "sunday"), vec![("/scheduledPayoutDay", "unknown")]),
        (with(fridays(), "scheduledPayoutDay", 5), vec![("/scheduledPayoutDay", "wrong_type")]),
        (with(fridays(), "recurrence", "first"), vec![("/recurrence", "not_for_frequency")]),
        (with(fridays(), "frequency", "monthly"), vec![("/recurrence", "missing")]),
        (with(fridays(), "accountNumber", "12345678"), vec![("/accountNumber", "unknown_field")]),
    ] {
        let refused = platform.post(ACCOUNT, &body).await;
        assert_eq!((refused.status, refused.errors()), (400, errors), "{body}");
    }
    assert_eq!(platform.get("/parties/acme/balanceAccounts").await.json["balanceAccounts"].as_array().unwrap().len(), 1);
    // A schedule is no duty.
    let pounds = platform.post(ACCOUNT, &json!({ "currency": "GBP" })).await;
    assert_eq!((pounds.status, pounds.json.get("nextPayoutDate"), pounds.json.get("frequency")), (201, None, None), "{pounds:?}");
    assert_eq!(platform.post("/parties/nobody/balanceAccount", &fridays()).await.problem(), "not-found");
    assert_eq!(platform.get("/parties/nobody/balanceAccounts").await.problem(), "not-found");
}

#[tokio::test]
async fn an_account_is_changed_by_who_has_seen_it_as_it_is() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    let made = platform.post(ACCOUNT, &fridays()).await.json;
    let own = path(&made);
    let change = with(made.clone(), "scheduledPayoutDay", "monday");

    for name in ["currency", "balanceAccountId", "accountNumber", "dateTimeCreated", "dateTimeUpdated"] {
        let refused = platform.put(&own, &with(change.clone(), name, "x")).await;
        assert_eq!((refused.status, refused.errors()), (400, vec![(format!("/{name}").as_str(), "read_only")]));
    }
    for (body, error) in [
        (without(change.clone(), &["version"]), ("/version", "missing")),
        (without(change.clone(), &["nextPayoutDate"]), ("/nextPayoutDate", "missing")),
        (with(change.clone(), "nextPayoutDate", "tomorrow"), ("/nextPayoutDate", "not_a_date")),
        (with(change.clone(), "payoutInstrumentReference", "pounds"), ("/payoutInstrumentReference", "other_currency")),
        (with(change.clone(), "payoutInstrumentReference", "nothing"), ("/payoutInstrumentReference", "unknown_instrument")),
        (with(change.clone(), "recurrence", "first"), ("/recurrence", "not_for_frequency")),
        (with(change.clone(), "status", "enabled"), ("/status", "unknown_field")),
    ] {
        assert_eq!(platform.put(&own, &body).await.errors(), [error], "{body}");
    }
    let tomorrow: Date = made["nextPayoutDate"].as_str().unwrap().parse().unwrap();
    for stale in [
        with(change.clone(), "version", 0),
        with(change.clone(), "version", 2),
        with(change.clone(), "nextPayoutDate", tomorrow.tomorrow().unwrap().to_string()),
    ] {
        let refused = platform.put(&own, &stale).await;
        assert_eq!((refused.status, refused.problem()), (409, "version-stale"), "{stale}");
    }
    assert_eq!(platform.get(&own).await.json, made, "nothing of all that was written");

    // Once, whoever asks how often.
    let replies = join_all((0..10).map(|_| platform.put(&own, &change))).await;
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.json == replies[0].json && reply.json["version"] == 2), "{replies:?}");
    assert_eq!(replies[0].json["nextPayoutDate"], json!(first(&installation, "EUR", Schedule::Weekly(Day::Monday))));
    assert_eq!(platform.put(&own, &with(change, "scheduledPayoutDay", "tuesday")).await.problem(), "version-stale");
    // What is left out stays, and what is like that already makes no version.
    let seen = json!({ "version": 2, "nextPayoutDate": replies[0].json["nextPayoutDate"] });
    let same = platform.put(&own, &seen).await;
    assert_eq!((same.status, same.header("idempotency-replayed"), &same.json), (200, None, &replies[0].json));
    let moved = platform.put(&own, &with(seen, "payoutInstrumentReference", "otherEuros")).await;
    assert_eq!((&moved.json["version"], &moved.json["scheduledPayoutDay"]), (&json!(3), &json!("monday")));
    assert_eq!(moved.json["payoutInstrumentReference"], "otherEuros");

    // The date that was read passes.
    installation.store.move_clock(Duration::from_hours(24 * 12)).await.unwrap();
    let late = platform.put(&own, &with(moved.json.clone(), "scheduledPayoutDay", "friday")).await;
    assert_eq!((late.status, late.problem()), (409, "version-stale"), "{late:?}");
    let now = platform.get(&own).await.json;
    assert_ne!(now["nextPayoutDate"], moved.json["nextPayoutDate"]);
    assert_eq!(platform.put(&own, &with(now, "scheduledPayoutDay", "friday")).await.status, 200);

    // An account without a schedule has no date to be seen, and can be given both.
    let pounds = platform.post(ACCOUNT, &json!({ "currency": "GBP" })).await.json;
    let daily = with(pounds.clone(), "frequency", "daily");
    assert_eq!(platform.put(&path(&pounds), &daily).await.errors(), [("/payoutInstrumentReference", "missing")]);
    assert_eq!(platform.put(&path(&pounds), &with(daily.clone(), "nextPayoutDate", "2026-03-19")).await.problem(), "version-stale");
    let planned = platform.put(&path(&pounds), &with(daily, "payoutInstrumentReference", "pounds")).await;
    assert_eq!((planned.status, &planned.json["nextPayoutDate"]), (200, &json!(first(&installation, "GBP", Schedule::Daily))), "{planned:?}");
    for other in ["bal_00", "x", made["accountNumber"].as_str().unwrap()] {
        assert_eq!(platform.get(&format!("{ACCOUNT}/{other}")).await.problem(), "not-found", "{other}");
    }
}

/// One account, two views: what is set up in one of them stays in the other, and payouts that the provider funds are in nobody's way unless they are open.
#[tokio::test]
async fn it_is_the_account_that_balances_are_shown_of() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    let acme = installation.caller("acme").await;
    let open = payout(&transaction());
    assert_eq!(acme.post("/v1/payouts", &open).await.status, 202);
    assert_eq!(platform.get("/parties/acme/balanceAccounts").await.json, json!({ "balanceAccounts": [] }), "nobody has set it up");
    let unset = platform.get("/v1/balances/GBP?party_id=acme").await.json["result"].clone();
    assert_eq!(platform.get(&format!("{ACCOUNT}/{}", unset["balance_account_id"].as_str().unwrap())).await.problem(), "not-found");
    let body = json!({ "currency": "GBP", "payoutInstrumentReference": "pounds", "frequency": "daily" });
    let busy = platform.post(ACCOUNT, &body).await;
    assert_eq!((busy.status, busy.problem()), (409, "account-busy"), "{busy:?}");
    acme.post_bytes(&format!("/v1/payouts/{}/cancel", open["transaction_id"].as_str().unwrap()), "", &[]).await;
    let made = platform.post(ACCOUNT, &body).await;
    assert_eq!(made.status, 201, "{made:?}");

    let balance = platform.get("/v1/balances/GBP?party_id=acme").await.json["result"].clone();
    assert_eq!((&balance["funding"], &balance["balance_account_id"]), (&json!("balance"), &made.json["balanceAccountId"]));
    assert_eq!(acme.post("/v1/payouts", &payout(&transaction())).await.json["result"]["reason"], "insufficient_funds");
    let named = platform.patch("/v1/balances/GBP", &json!({ "party_id": "acme", "account_owner": "Acme Ltd" })).await;
    assert_eq!(named.status, 200, "{named:?}");
    let after = platform.get(&path(&made.json)).await.json;
    assert_eq!(after["version"], 2);
    assert_eq!(without(after.clone(), &["version", "dateTimeUpdated"]), without(made.json.clone(), &["version", "dateTimeUpdated"]));
    let moved = platform.put(&path(&after), &without(with(after, "frequency", "weekly"), &[])).await;
    assert_eq!(moved.errors(), [("/scheduledPayoutDay", "missing")]);
    assert_eq!(platform.get("/v1/balances/GBP?party_id=acme").await.json["result"]["account_owner"], "Acme Ltd");
}

/// A party comes with its accounts or not at all.
#[tokio::test]
async fn a_party_is_made_with_its_accounts_or_not_at_all() {
    let installation = Installation::start().await;
    let platform = installation.caller_with(|_| {}).await;
    let shop = installation.caller("shop").await;
    let pounds = json!({ "currency": "GBP", "payoutInstrumentReference": "pounds", "frequency": "daily" });
    let body = |accounts: Value| with(party("shop"), "balanceAccounts", accounts);
    for (accounts, errors) in [
        (json!([fridays(), fridays()]), vec![("/balanceAccounts/1/currency", "duplicate")]),
        (
            json!([pounds, with(fridays(), "payoutInstrumentReference", "pounds")]),
            vec![("/balanceAccounts/1/payoutInstrumentReference", "other_currency")],
        ),
        (json!([with(fridays(), "payoutInstrumentReference", "x")]), vec![("/balanceAccounts/0/payoutInstrumentReference", "unknown_instrument")]),
        (
            json!([with(fridays(), "frequency", "monthly"), 1]),
            vec![("/balanceAccounts/1", "wrong_type"), ("/balanceAccounts/0/recurrence", "missing")],
        ),
        (json!({}), vec![("/balanceAccounts", "wrong_type")]),
    ] {
        assert_eq!(platform.post("/parties", &body(accounts.clone())).await.errors(), errors, "{accounts}");
    }
    // A payout that the provider funds is open: its account cannot be set up, so there is no party, no instrument and no other account either.
    let open = payout(&transaction());
    shop.post("/v1/payouts", &open).await;
    let whole = body(json!([fridays(), pounds]));
    let busy = platform.post("/parties", &whole).await;
    assert_eq!((busy.status, busy.problem()), (409, "account-busy"), "{busy:?}");
    assert_eq!(platform.get("/parties/shop").await.problem(), "not-found");
    assert_eq!(platform.get("/v1/balances/EUR?party_id=shop").await.json["result"]["version"], 0);
    shop.post_bytes(&format!("/v1/payouts/{}/cancel", open["transaction_id"].as_str().unwrap()), "", &[]).await;

    // The platform has named its holder before there was a record of the party.
    platform.patch("/v1/balances/EUR", &json!({ "party_id": "shop", "account_owner": "Shop Ltd" })).await;
    let replies = join_all((0..10).map(|_| platform.post("/parties", &whole))).await;
    assert!(replies.iter().all(|reply| reply.status == 201 && reply.json == replies[0].json), "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| reply.header("idempotency-replayed").is_none()).count(), 1);
    let accounts = replies[0].json["balanceAccounts"].as_array().unwrap();
    assert_eq!(accounts.iter().map(|account| &account["version"]).collect::<Vec<_>>(), [&json!(2), &json!(1)]);
    assert_eq!(accounts[0]["nextPayoutDate"], json!(first(&installation, "EUR", Schedule::Weekly(Day::Friday))));
    assert_eq!(platform.get("/parties/shop/balanceAccounts").await.json["balanceAccounts"], replies[0].json["balanceAccounts"]);
    assert_eq!(platform.get("/v1/balances/EUR?party_id=shop").await.json["result"]["account_owner"], "Shop Ltd");
    // Each is as if it had been asked for alone.
    let again = platform.post("/parties/shop/balanceAccount", &fridays()).await;
    assert_eq!((again.status, again.header("idempotency-replayed"), &again.json), (201, Some("true"), &accounts[0]), "{again:?}");
    assert_eq!(platform.post("/parties", &body(json!([fridays()]))).await.problem(), "reference-conflict");
}

#[tokio::test]
async fn accounts_are_changed_by_the_platform_and_signed() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    let made = platform.post(ACCOUNT, &fridays()).await.json;
    let own = path(&made);
    let acme = installation.caller("acme").await;
    let other = installation.caller("other").await;
    for at in [own.as_str(), "/parties/acme/balanceAccounts"] {
        assert_eq!(acme.get(at).await.json, platform.get(at).await.json, "{at}");
        assert_eq!(other.get(at).await.problem(), "not-found", "{at}");
    }
    for (method, at) in [(Method::POST, ACCOUNT), (Method::PUT, own.as_str())] {
        assert_eq!(acme.send_bytes(method.clone(), at, made.to_string(), &[]).await.problem(), "missing-scope", "{at}");
        assert_eq!(other.send_bytes(method.clone(), at, made.to_string(), &[]).await.problem(), "not-found", "{at}");
        let stranger = installation.caller_with(|key| key.scopes.retain(|scope| *scope != Scope::BalancesWrite)).await;
        assert_eq!(stranger.send_bytes(method, at, made.to_string(), &[]).await.problem(), "missing-scope", "{at}");
    }
    let live = installation.caller_with(|key| key.mode = Mode::Live).await;
    assert_eq!(live.get(&own).await.problem(), "not-found");
    live.post("/parties", &party("acme")).await;
    assert_eq!(live.get(&own).await.problem(), "not-found", "it is the account of the other mode");
    assert_eq!(live.get("/parties/acme/balanceAccounts").await.json, json!({ "balanceAccounts": [] }));
    // Nor does an id lead from one party to another.
    platform.post("/parties", &party("other")).await;
    assert_eq!(platform.get(&own.replace("acme", "other")).await.problem(), "not-found");
    assert!(installation.store.is_active(&PartyId::parse("other").unwrap(), Mode::Test).await.unwrap());

    let (signer, registered) = signing_key("kid-1");
    let signing = installation.caller_with(|key| (key.must_sign, key.signing_keys) = (true, vec![registered])).await;
    let (pounds, change) = (json!({ "currency": "GBP" }).to_string(), with(made, "scheduledPayoutDay", "monday").to_string());
    for (method, at, body, status) in [(Method::POST, ACCOUNT, pounds, 201), (Method::PUT, own.as_str(), change, 200)] {
        let of_body = signer.sign_body(body.as_bytes(), None).unwrap();
        let sign = |path: &str| {
            let method = axum::http::Method::from_bytes(method.as_str().as_bytes()).unwrap();
            signer.sign_request(&method, path, &[], body.as_bytes(), None).unwrap()
        };
        let send = async |headers: &[(&str, &str)]| signing.send_bytes(method.clone(), at, body.clone(), headers).await;
        assert_eq!(send(&[]).await.problem(), "signature-missing");
        assert_eq!(send(&[("X-TL-Signature", &of_body)]).await.problem(), "signature-missing", "the body does not say whose it is");
        assert_eq!(send(&[("Tl-Signature", &sign(&at.replace("acme", "other")))]).await.problem(), "signature-invalid");
        assert_eq!(send(&[("Tl-Signature", &sign(at))]).await.status, status);
    }
}

/// Seed 001: "Some regions require you to assign a regular schedule to their balance accounts."
#[tokio::test]
async fn accounts_in_some_countries_must_have_a_schedule() {
    let strict = Plan { ingress: json!({ "schedule_countries": ["US"] }), ..Plan::default() };
    let installation = Installation::with(strict).await;
    let platform = platform(&installation).await;
    let unplanned = json!({ "currency": "USD", "payoutInstrumentReference": "primaryBusinessAccount" });
    let made = platform.post(ACCOUNT, &unplanned).await;
    assert_eq!(made.status, 201, "another country: {made:?}");

    let mut american = with(party("us"), "country", "US");
    american["balanceAccounts"] = json!([unplanned]);
    let refused = platform.post("/parties", &american).await;
    assert_eq!((refused.status, refused.errors()), (400, vec![("/balanceAccounts/0/frequency", "missing")]), "{refused:?}");
    american["balanceAccounts"] = json!([]);
    assert_eq!(platform.post("/parties", &american).await.status, 201, "nothing of it was made");
    let refused = platform.post("/parties/us/balanceAccount", &unplanned).await;
    assert_eq!((refused.status, refused.errors()), (400, vec![("/frequency", "missing")]), "{refused:?}");
    let planned = platform.post("/parties/us/balanceAccount", &with(unplanned, "frequency", "daily")).await;
    assert_eq!(planned.status, 201, "{planned:?}");
    let refused = platform.patch("/v1/balances/USD", &json!({ "party_id": "us", "schedule": null })).await;
    assert_eq!((refused.status, refused.errors()), (400, vec![("/schedule", "missing")]), "{refused:?}");

    // One from before the rule gets a schedule with its next change.
    let body = json!({ "party_id": "us", "funding": "balance" });
    assert_eq!(platform.patch("/v1/balances/EUR", &body).await.status, 200);
    let listed = platform.get("/parties/us/balanceAccounts").await;
    let euros = listed.json["balanceAccounts"].as_array().unwrap().iter().find(|account| account["currency"] == "EUR").unwrap();
    let path = format!("/parties/us/balanceAccount/{}", euros["balanceAccountId"].as_str().unwrap());
    let change = json!({ "version": 1, "payoutInstrumentReference": "personalCheckingAccount2" });
    let refused = platform.put(&path, &change).await;
    assert_eq!((refused.status, refused.errors()), (400, vec![("/frequency", "missing")]), "{refused:?}");
    assert_eq!(platform.put(&path, &with(change, "frequency", "daily")).await.status, 200);

    // Nor does a party come to such a country without.
    let read = platform.get("/parties/acme").await.json;
    let moves = json!({ "version": read["version"], "displayName": read["displayName"], "country": "US" });
    let refused = platform.put("/parties/acme", &moves).await;
    assert_eq!((refused.status, refused.errors()), (400, vec![("/country", "not_allowed")]), "{refused:?}");
    // What is asked for by hand leaves the schedule there.
    let top_up = json!({ "transaction_id": transaction(), "party_id": "us", "currency": "EUR", "amount_in_minor": 1_000 });
    assert_eq!(platform.post("/v1/top-ups", &top_up).await.status, 201);
    let asked = json!({ "balanceId": euros["balanceAccountId"], "amount": { "currency": "EUR", "value": "1.00" } });
    let payout = platform.post("/v2/payouts", &with(asked, "party_id", "us")).await;
    assert_eq!((payout.status, payout.json.get("transferFrequency")), (201, None), "{payout:?}");
    let balance = platform.get(payout.json["_links"]["balance"]["href"].as_str().unwrap()).await;
    assert_eq!((balance.status, &balance.json["transferFrequency"]), (200, &json!("daily")), "{balance:?}");
    assert_eq!(platform.get(balance.json["_links"]["self"]["href"].as_str().unwrap()).await.status, 200);
}
