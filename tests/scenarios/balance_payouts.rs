//! Balances that are paid out as in seed 004: `/v2/payouts` and `/v2/balances`.

mod hooks;
mod lists;
mod reasons;
mod whole;

use std::time::Duration;

use domain::credential::{Reach, Scope};
use domain::fact::{Reason, Report, Source, Status};
use domain::id::{Mode, PartyId, PayoutId};
use domain::money::Currency;
use domain::payout::{Fact, What};
use futures_util::future::join_all;
use jiff::Timestamp;
use jiff::civil::Date;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Caller, Installation, Plan, Reply, payout, signing_key, transaction};

const BALANCES: &str = "/v2/balances";
const PAYOUTS: &str = "/v2/payouts";

/// A party whose euros are kept here, with the caller that acts for it.
struct Shop {
    installation: Installation,
    platform: Caller,
    acme: Caller,
    balance: String,
}

impl Shop {
    async fn with(minor: i64) -> Self {
        Self::at(Plan::default(), minor).await
    }

    async fn at(plan: Plan, minor: i64) -> Self {
        let installation = Installation::with(plan).await;
        let platform = installation.caller_with(|_| {}).await;
        let acme = installation.caller("acme").await;
        let balance = open_for(&platform, "acme").await;
        let shop = Self { installation, platform, acme, balance };
        if minor > 0 {
            shop.top_up(minor).await;
        }
        shop
    }

    async fn top_up(&self, minor: i64) {
        let body = json!({ "transaction_id": transaction(), "party_id": "acme", "currency": "EUR", "amount_in_minor": minor });
        let reply = self.platform.post("/v1/top-ups", &body).await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }

    /// Changes what the platform says of the balance.
    async fn change(&self, change: Value) {
        self.change_of("EUR", change).await;
    }

    async fn change_of(&self, currency: &str, mut change: Value) {
        change["party_id"] = json!("acme");
        let reply = self.platform.patch(&format!("/v1/balances/{currency}"), &change).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    fn body(&self, value: Option<&str>) -> Value {
        let amount = value.map(|value| json!({ "currency": "EUR", "value": value }));
        json!({ "balanceId": self.balance, "amount": amount })
    }

    async fn ask(&self, value: Option<&str>) -> Reply {
        self.acme.post(PAYOUTS, &self.body(value)).await
    }

    /// Asks for a payout that is accepted.
    async fn asked(&self, value: Option<&str>) -> Value {
        let reply = self.ask(value).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json
    }

    async fn read(&self, payout: &Value) -> Value {
        let reply = self.acme.get(&format!("{PAYOUTS}/{}", payout["id"].as_str().unwrap())).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json
    }

    async fn cancel(&self, payout: &Value) -> Reply {
        self.acme.delete(&format!("{PAYOUTS}/{}", payout["id"].as_str().unwrap())).await
    }

    /// Available, reserved, in minor units.
    async fn funds(&self) -> (i64, i64) {
        let shown = self.acme.get("/v1/balances/EUR").await.json["result"].clone();
        let [available, current] = ["available_balance_in_minor", "current_balance_in_minor"].map(|name| shown[name].as_i64().unwrap());
        (available, current - available)
    }

    /// The business day after today.
    fn day(&self) -> (Date, Timestamp) {
        let calendars = payrelay::config::Config::read(None, []).unwrap().calendars.read().unwrap();
        let days = calendars.of(Currency::EUR);
        let day = days.calendar().next_business_day(days.date(self.installation.store.clock().now()));
        (day, days.opens_on(day))
    }

    /// Goes to when the next business day opens.
    async fn next_day(&self) {
        let store = &self.installation.store;
        let (_, opens) = self.day();
        let wait = Duration::try_from(opens.duration_since(store.clock().now())).unwrap();
        store.move_clock(wait + Duration::from_millis(1)).await.unwrap();
    }

    /// What the provider is said to have said about the attempt of a payout.
    async fn reported(&self, payout: &Value, status: Status) {
        let report = Report { status, provider_status: "word".to_owned(), at: None, reference: None, amount: None };
        let held = self.installation.store.load(id(payout)).await.unwrap().unwrap();
        self.installation.recorder.record(held, &Fact::new(Source::Notice, What::Reported { attempt: 1, report })).await.unwrap();
    }
}

/// Gives a party a record, an instrument and a balance in euros that is paid out every day. Says the id of the balance.
async fn open_for(platform: &Caller, party: &str) -> String {
    let body = json!({
        "partyReference": party, "displayName": "Acme & Sons", "country": "NL",
        "payoutInstruments": [{
            "payoutInstrumentReference": "main", "currency": "EUR", "beneficiaryName": "John Smith",
            "destination": { "type": "iban", "iban": "NL91ABNA0417164300" },
        }],
        "balanceAccounts": [{ "currency": "EUR", "payoutInstrumentReference": "main", "frequency": "daily" }],
    });
    let made = platform.post("/parties", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json["balanceAccounts"][0]["balanceAccountId"].as_str().unwrap().to_owned()
}

fn id(payout: &Value) -> PayoutId {
    payout["id"].as_str().unwrap().replace("payout_", "po_").parse().unwrap()
}

/// The code and the field of an error in the shape of the seed.
fn refusal(reply: &Reply) -> (u16, String, Option<String>) {
    let json = &reply.json;
    assert_eq!(reply.header("content-type"), Some("application/hal+json"), "{reply:?}");
    assert_eq!(json["status"], reply.status, "{reply:?}");
    assert!(json["title"].is_string() && json["detail"].is_string() && json["_links"]["documentation"]["href"].is_string(), "{reply:?}");
    let known = ["status", "title", "detail", "field", "code", "_links"];
    assert!(json.as_object().unwrap().keys().all(|name| known.contains(&name.as_str())), "{reply:?}");
    (reply.status, json["code"].as_str().unwrap().to_owned(), json["field"].as_str().map(str::to_owned))
}

/// The example of the seed's documentation, whole.
#[tokio::test]
async fn a_payout_looks_as_in_the_seed() {
    let shop = Shop::with(5_000).await;
    let (_, opens) = shop.day();
    let body = json!({ "balanceId": shop.balance, "amount": { "currency": "EUR", "value": "10.00" }, "description": "My payout description" });
    let reply = shop.acme.post(PAYOUTS, &body).await;
    assert_eq!((reply.status, reply.header("content-type")), (201, Some("application/hal+json")), "{reply:?}");
    let id = reply.json["id"].as_str().unwrap();
    assert!(id.starts_with("payout_") && shop.balance.starts_with("bal_"));
    let at = format!("/v2/payouts/{id}");
    assert_eq!(reply.header("location"), Some(at.as_str()));
    let moment = |timestamp: Timestamp| timestamp.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    let created = reply.json["createdAt"].as_str().unwrap();
    assert_eq!(created, moment(created.parse().unwrap()), "as the seed writes times");
    let hal = "application/hal+json";
    let mut expected = json!({
        "resource": "payout", "id": id, "balanceId": shop.balance, "amount": { "currency": "EUR", "value": "10.00" },
        "description": "My payout description", "status": "requested",
        "statusReason": { "code": "requested", "message": "The payout has been requested." },
        "createdAt": created, "scheduledFor": moment(opens), "initiatedAt": null, "completedAt": null, "canceledAt": null, "mode": "test",
        "_links": { "self": { "href": at, "type": hal }, "balance": { "href": format!("/v2/balances/{}", shop.balance), "type": hal } },
    });
    assert_eq!(shop.read(&reply.json).await, expected);
    // The answer to the request says what it did to the schedule.
    expected["transferFrequency"] = json!("never");
    assert_eq!(reply.json, expected);
    assert_eq!(shop.funds().await, (4_000, 1_000), "reserved when it was accepted");

    // The same payout, in the words of the other routes.
    let listed = shop.acme.get("/v1/payouts").await.json["results"][0].clone();
    assert_eq!(
        (&listed["status"], &listed["amount_in_minor"], &listed["beneficiary_reference"]),
        (&json!("scheduled"), &json!(1_000), &json!("My payout descript"))
    );
    assert_eq!(listed["payout_id"], id.replace("payout_", "po_"));
    // Its account comes from an instrument, which is masked wherever it is shown.
    let at = format!("/v1/payouts/{}", listed["transaction_id"].as_str().unwrap());
    let read = [
        shop.acme.get("/v1/payouts").await,
        shop.acme.get(&at).await,
        shop.acme.get("/v1/transactions?type=payout&from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z").await,
    ];
    for reply in read {
        let shown = reply.json.get("result").unwrap_or(&reply.json["results"][0]);
        let who = ["payout_instrument_reference", "beneficiary_name", "beneficiary_masked"].map(|field| shown[field].as_str().unwrap());
        assert_eq!(who, ["main", "J…", "NL91…4300"], "{reply:?}");
        assert!(!reply.text.contains("NL91ABNA0417164300") && !reply.text.contains("John Smith"), "{reply:?}");
    }
    let timeline = shop.acme.get(&format!("/v1/payouts/{}/timeline", listed["transaction_id"].as_str().unwrap())).await.json;
    let events: Vec<_> = timeline["result"]["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(events, ["payout.requested", "payout.scheduled"]);
}

#[tokio::test]
async fn descriptions_have_up_to_255_characters() {
    let shop = Shop::with(10_000).await;
    let with = |description: Value| {
        let mut body = shop.body(Some("1.00"));
        body["description"] = description;
        body
    };
    let (day, _) = shop.day();
    for (given, shown) in [
        (json!("é".repeat(255)), "é".repeat(255)),
        (json!(null), format!("Payout {day}")),
        (json!(""), format!("Payout {day}")),
        (json!("x"), "x".to_owned()),
    ] {
        let reply = shop.acme.post(PAYOUTS, &with(given.clone())).await;
        assert_eq!((reply.status, &reply.json["description"]), (201, &json!(shown)), "{reply:?}");
        assert_eq!(shop.cancel(&reply.json).await.status, 200);
    }
    let long = shop.acme.post(PAYOUTS, &with(json!("x".repeat(255)))).await;
    assert_eq!((long.status, &long.json["description"]), (201, &json!("x".repeat(255))), "{long:?}");
    for (wrong, code) in [(json!("x".repeat(256)), "too long"), (json!("a\nb"), "control"), (json!(1), "type")] {
        let reply = shop.acme.post(PAYOUTS, &with(wrong)).await;
        assert_eq!(refusal(&reply), (422, "invalid_fields".to_owned(), Some("description".to_owned())), "{code}");
    }
}

/// A payout by request ends the schedule, with it and not after it; a PUT of the schedule begins it again.
#[tokio::test]
async fn a_payout_by_request_ends_the_schedule_of_its_balance() {
    let shop = Shop::with(5_000).await;
    let account = format!("/parties/acme/balanceAccount/{}", shop.balance);
    let before = shop.platform.get(&account).await.json;
    assert_eq!((&before["frequency"], &before["version"]), (&json!("daily"), &json!(1)));
    let frequency = async || shop.acme.get(&format!("{BALANCES}/{}", shop.balance)).await.json["transferFrequency"].clone();
    assert_eq!(frequency().await, "daily");
    let payout = shop.asked(Some("1.00")).await;
    assert_eq!((payout["transferFrequency"].as_str(), frequency().await), (Some("never"), json!("never")));
    let paused = shop.platform.get(&account).await.json;
    assert_eq!((paused.get("frequency"), paused.get("nextPayoutDate"), &paused["version"]), (None, None, &json!(2)));
    shop.cancel(&payout).await;
    assert_eq!(frequency().await, "never", "taking it back does not begin the schedule again");
    let resumed = shop.platform.put(&account, &json!({ "version": 2, "frequency": "weekly", "scheduledPayoutDay": "friday" })).await;
    assert_eq!((resumed.status, resumed.json["nextPayoutDate"].is_string()), (200, true), "{resumed:?}");
    assert_eq!(frequency().await, "every-friday");
    // What is refused leaves it as it is.
    assert_eq!(shop.ask(Some("1000.00")).await.status, 422);
    assert_eq!(frequency().await, "every-friday");
    shop.asked(Some("1.00")).await;
    assert_eq!(shop.platform.get(&account).await.json["version"], 4);
}

/// The schedule that was ended opens nothing, and is not looked at; one that was begun again leaves the reserve.
#[tokio::test]
async fn a_schedule_that_was_ended_opens_nothing() {
    let shop = Shop::with(1_000).await;
    let payout = shop.asked(Some("1.00")).await;
    shop.next_day().await;
    assert_eq!(shop.installation.look_at_schedules().await, 0);
    let listed = async || shop.acme.get(PAYOUTS).await.json["_embedded"]["payouts"].clone();
    assert_eq!(listed().await.as_array().unwrap().len(), 1);
    shop.cancel(&payout).await;
    shop.change(json!({ "reserve_in_minor": 300 })).await;
    let account = format!("/parties/acme/balanceAccount/{}", shop.balance);
    assert_eq!(shop.platform.put(&account, &json!({ "version": 3, "frequency": "daily" })).await.status, 200);
    shop.next_day().await;
    assert!(shop.installation.look_at_schedules().await > 0);
    let opened = listed().await[0].clone();
    assert_eq!((&opened["amount"]["value"], &opened["status"]), (&json!("7.00"), &json!("requested")), "{opened}");
    assert_eq!(shop.funds().await, (300, 700));
}

/// A schedule that opens its payout and a request that ends it, at the same time: one decides on what the other has written.
#[tokio::test]
async fn a_request_and_a_schedule_do_not_take_the_same_money() {
    for delay in 0..6 {
        let shop = Shop::with(1_000).await;
        shop.next_day().await;
        let request = async {
            for _ in 0..delay {
                shop.funds().await;
            }
            shop.ask(Some("10.00")).await
        };
        let (reply, _) = tokio::join!(request, shop.installation.look_at_schedules());
        let opened = shop.acme.get(PAYOUTS).await.json["count"].as_u64().unwrap();
        match reply.status {
            201 => assert!(shop.acme.get("/v2/balances/primary").await.json["transferFrequency"] == "never"),
            _ => assert_eq!(refusal(&reply).1, "insufficient_funds"),
        }
        assert_eq!((opened, shop.funds().await), (1, (0, 1_000)), "{reply:?}");
    }
}

/// One key, one payout, whatever has become of the balance since; what was refused leaves its key free.
#[tokio::test]
async fn a_key_is_for_one_payout() {
    let shop = Shop::with(1_000).await;
    let ask = async |key: &str, body: Value| shop.acme.post_bytes(PAYOUTS, body.to_string(), &[("Idempotency-Key", key)]).await;
    let body = shop.body(Some("6.00"));
    let replies = join_all((0..20).map(|_| ask("one", body.clone()))).await;
    assert!(replies.iter().all(|reply| reply.status == 201 && reply.json == replies[0].json), "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| reply.header("idempotency-replayed").is_none()).count(), 1);
    assert_eq!(shop.funds().await, (400, 600));
    for other in [shop.body(Some("6.01")), shop.body(None), json!({ "balanceId": shop.balance, "amount": body["amount"], "description": "x" })] {
        assert_eq!(refusal(&ask("one", other).await), (422, "key_conflict".to_owned(), None));
    }
    shop.change(json!({ "status": "disabled" })).await;
    let again = ask("one", body.clone()).await;
    assert_eq!((again.status, again.header("idempotency-replayed"), &again.json["id"]), (201, Some("true"), &replies[0].json["id"]));
    shop.change(json!({ "status": "enabled" })).await;

    // Without a key each request is one of its own: here the day is taken.
    assert_eq!(refusal(&shop.ask(Some("1.00")).await).1, "already_scheduled");
    shop.cancel(&again.json).await;
    let too_much = shop.body(Some("10.01"));
    assert_eq!(refusal(&ask("two", too_much.clone()).await).1, "insufficient_funds");
    shop.top_up(1).await;
    let now = ask("two", too_much).await;
    assert_eq!((now.status, now.header("idempotency-replayed")), (201, None), "the key was free: {now:?}");
    // A canceled payout is what its key is for, for ever.
    let canceled = ask("one", body).await;
    assert_eq!((canceled.status, &canceled.json["status"]), (201, &json!("canceled")));
    for wrong in ["", &"k".repeat(256)] {
        assert_eq!(refusal(&ask(wrong, shop.body(None)).await), (400, "invalid_parameters".to_owned(), Some("Idempotency-Key".to_owned())));
    }
    // It is no transaction_id.
    let key = transaction();
    shop.cancel(&now.json).await;
    assert_eq!(ask(&key, shop.body(Some("1.00"))).await.status, 201);
    assert_eq!(shop.acme.post("/v1/payouts", &payout(&key)).await.status, 202);
}

/// Every state on the way, in the seed's words.
#[tokio::test]
async fn statuses_are_those_of_the_seed() {
    let shop = Shop::with(100_000).await;
    let expect = async |payout: &Value, status: &str, code: &str| {
        let shown = shop.read(payout).await;
        assert_eq!((shown["status"].as_str(), shown["statusReason"]["code"].as_str()), (Some(status), Some(code)), "{shown}");
        assert_ne!(shown["statusReason"]["message"], "");
        let times = ["initiatedAt", "completedAt", "canceledAt"].map(|name| shown[name].is_string());
        assert_eq!(times, [!matches!(status, "requested" | "canceled"), status == "completed", status == "canceled"], "{shown}");
    };
    let reason = |code: &str| Reason::new(code);
    let payout = shop.asked(Some("10.00")).await;
    expect(&payout, "requested", "requested").await;
    shop.installation.execute().await;
    expect(&payout, "requested", "requested").await;
    shop.next_day().await;
    shop.installation.execute().await;
    // Nobody listens there: it waits for its next try, and is not what it was.
    expect(&payout, "initiated", "initiated").await;
    let late = shop.cancel(&payout).await;
    assert_eq!(refusal(&late), (409, "not_possible_now".to_owned(), None));
    assert_eq!(late.json["title"], "Conflict");
    for (said, status, code) in [
        (Status::Authorised, "initiated", "initiated"),
        (Status::Submitted, "processing-at-bank", "processing_at_bank"),
        (Status::Settled, "completed", "completed"),
        (Status::Returned { reason: reason("account_closed") }, "failed", "returned"),
    ] {
        shop.reported(&payout, said).await;
        expect(&payout, status, code).await;
        assert_eq!(shop.cancel(&payout).await.status, 409);
    }
    let second = shop.asked(Some("10.00")).await;
    shop.next_day().await;
    shop.installation.execute().await;
    shop.reported(&second, Status::Authorised).await;
    shop.reported(&second, Status::Canceled { reason: reason("canceled_there") }).await;
    // As the seed: it was canceled before it was submitted to the bank.
    let shown = shop.read(&second).await;
    assert_eq!((&shown["status"], &shown["statusReason"]["code"]), (&json!("canceled"), &json!("canceled")), "{shown}");
    assert!(shown["initiatedAt"].is_string() && shown["canceledAt"].is_string(), "{shown}");
    assert_eq!(shop.cancel(&second).await.json, shown, "it is canceled already");
    let third = shop.asked(Some("10.00")).await;
    let canceled = shop.cancel(&third).await;
    assert_eq!((canceled.status, &canceled.json["status"]), (200, &json!("canceled")), "{canceled:?}");
    expect(&third, "canceled", "canceled").await;
    assert_eq!(shop.cancel(&third).await.json, canceled.json, "a repeat tells the same");
    assert_eq!(shop.funds().await, (100_000, 0));
}

/// Cancel and dispatch at the same time, again and again: one of them wins.
#[tokio::test]
async fn a_cancel_wins_or_loses() {
    let shop = Shop::with(100_000).await;
    let (mut won, mut lost, mut delay) = (0, 0, 0);
    // Later after a cancel that won and sooner after one that lost, so that they meet.
    for round in 0..40 {
        let payout = shop.asked(if round % 2 == 0 { None } else { Some("10.00") }).await;
        shop.next_day().await;
        let cancel = async {
            for _ in 0..delay {
                shop.read(&payout).await;
            }
            shop.cancel(&payout).await
        };
        let (reply, ()) = tokio::join!(cancel, shop.installation.execute());
        let held = shop.installation.store.load(id(&payout)).await.unwrap().unwrap();
        match reply.status {
            200 => {
                assert!(held.attempts.is_empty() && shop.read(&payout).await["status"] == "canceled", "{held:?}");
                assert_eq!(shop.funds().await, (100_000, 0));
                won += 1;
                delay += 1;
            }
            409 => {
                assert_eq!((held.attempts.len(), &shop.read(&payout).await["status"]), (1, &json!("initiated")), "{held:?}");
                shop.reported(&payout, Status::Authorised).await;
                shop.reported(&payout, Status::Failed { reason: Reason::new("x") }).await;
                lost += 1;
                delay -= delay.min(1);
            }
            other => panic!("{other}: {reply:?}"),
        }
    }
    assert!(won > 2 && lost > 2, "{won} won, {lost} lost");
}

#[tokio::test]
async fn test_and_live_never_see_each_other() {
    let providers = {
        let account = |base| Some(crate::support::truelayer(base));
        let (truelayer_test, truelayer_live) = (account("http://127.0.0.1:9"), account("https://127.0.0.1:9"));
        providers::Settings { truelayer_test, truelayer_live, ..providers::Settings::default() }
    };
    let shop = Shop::at(Plan { providers, ..Plan::default() }, 5_000).await;
    let live = |reach: Reach| shop.installation.caller_with(|key| (key.mode, key.reach) = (Mode::Live, reach));
    let (platform, acme) = (live(Reach::Platform).await, live(Reach::Party(PartyId::parse("acme").unwrap())).await);
    let payout = shop.asked(Some("1.00")).await;
    let own = format!("{PAYOUTS}/{}", payout["id"].as_str().unwrap());
    assert_eq!(acme.get(PAYOUTS).await.json["count"], 0);
    assert_eq!(acme.get(BALANCES).await.json["count"], 0);
    for reply in [acme.get(&own).await, acme.delete(&own).await, platform.get(&own).await, acme.get(&format!("{BALANCES}/{}", shop.balance)).await] {
        assert_eq!(refusal(&reply), (404, "not_found".to_owned(), None));
    }
    assert_eq!(refusal(&acme.post(PAYOUTS, &shop.body(Some("1.00"))).await).2.as_deref(), Some("balanceId"));
    let balance = open_for(&platform, "acme").await;
    assert_ne!(balance, shop.balance);
    let top_up = json!({ "transaction_id": transaction(), "party_id": "acme", "currency": "EUR", "amount_in_minor": 700 });
    platform.post("/v1/top-ups", &top_up).await;
    let paid = acme.post(PAYOUTS, &json!({ "balanceId": balance })).await;
    assert_eq!((paid.status, &paid.json["mode"]), (201, &json!("live")), "{paid:?}");
    assert_eq!(shop.funds().await, (4_900, 100), "neither is the other's money");
    let other = shop.installation.caller("other").await;
    assert_eq!(refusal(&other.get(&own).await).0, 404);
    assert_eq!(refusal(&other.delete(&own).await).0, 404);
    assert_eq!(refusal(&other.post(PAYOUTS, &shop.body(None)).await).2.as_deref(), Some("balanceId"));
    // The mode is the key's, and nobody else's to say.
    for value in [json!(true), json!(false)] {
        let mut body = shop.body(Some("1.00"));
        body["testmode"] = value;
        assert_eq!(refusal(&shop.acme.post(PAYOUTS, &body).await), (422, "invalid_fields".to_owned(), Some("testmode".to_owned())));
    }
    for path in [PAYOUTS.to_owned(), own.clone(), BALANCES.to_owned(), format!("{BALANCES}/primary")] {
        let reply = shop.acme.get(&format!("{path}?testmode=true")).await;
        assert_eq!(refusal(&reply), (422, "invalid_fields".to_owned(), Some("testmode".to_owned())), "{path}");
    }
    let query = shop.acme.post(&format!("{PAYOUTS}?testmode=true"), &shop.body(Some("1.00"))).await;
    assert_eq!(refusal(&query).2.as_deref(), Some("testmode"));
    assert_eq!(refusal(&shop.acme.delete(&format!("{own}?testmode=false")).await).2.as_deref(), Some("testmode"));
}

#[tokio::test]
async fn payouts_of_balances_are_signed_with_their_key() {
    let shop = Shop::with(5_000).await;
    let (signer, registered) = signing_key("kid-1");
    let signing = shop.installation.caller_with(|key| {
        key.reach = Reach::Party(PartyId::parse("acme").unwrap());
        (key.must_sign, key.signing_keys) = (true, vec![registered]);
    });
    let signing = signing.await;
    let body = shop.body(Some("1.00")).to_string();
    let sign = |headers: &[(&str, &str)]| signer.sign_request(&axum::http::Method::POST, PAYOUTS, headers, body.as_bytes(), None).unwrap();
    let send = async |headers: &[(&str, &str)]| signing.send_bytes(Method::POST, PAYOUTS, body.clone(), headers).await;
    let of_body = signer.sign_body(body.as_bytes(), None).unwrap();
    assert_eq!(refusal(&send(&[]).await), (401, "signature_missing".to_owned(), None));
    let missing = send(&[("X-TL-Signature", &of_body), ("Idempotency-Key", "k")]).await;
    assert_eq!(refusal(&missing).1, "signature_missing", "the body does not say under which key");
    let without = sign(&[]);
    let with = sign(&[("Idempotency-Key", "k")]);
    for headers in [
        vec![("Tl-Signature", without.as_str()), ("Idempotency-Key", "k")],
        vec![("Tl-Signature", without.as_str())],
        vec![("Tl-Signature", with.as_str()), ("Idempotency-Key", "other")],
        vec![("Tl-Signature", with.as_str())],
    ] {
        assert_eq!(refusal(&send(&headers).await), (401, "signature_invalid".to_owned(), None), "{headers:?}");
    }
    assert_eq!(shop.funds().await, (5_000, 0));
    let paid = send(&[("Tl-Signature", &with), ("Idempotency-Key", "k")]).await;
    assert_eq!(paid.status, 201, "{paid:?}");
    let replayed = send(&[("Tl-Signature", &with), ("Idempotency-Key", "k")]).await;
    assert_eq!((replayed.status, replayed.header("idempotency-replayed")), (201, Some("true")));
    // It moves no money, and needs no signature.
    assert_eq!(signing.delete(&format!("{PAYOUTS}/{}", paid.json["id"].as_str().unwrap())).await.status, 200);

    for (scope, refused) in [(Scope::PayoutsWrite, true), (Scope::PayoutsRead, false)] {
        let lacking = shop.installation.caller_with(|key| key.scopes.retain(|held| *held != scope)).await;
        let one = format!("{PAYOUTS}/{}", paid.json["id"].as_str().unwrap());
        assert_eq!(lacking.post(PAYOUTS, &shop.body(None)).await.status == 403, refused);
        assert_eq!(lacking.delete(&one).await.status == 403, refused);
        assert_eq!(lacking.get(&one).await.status == 403, !refused);
        assert_eq!(lacking.get(PAYOUTS).await.status == 403, !refused);
    }
    let blind = shop.installation.caller_with(|key| key.scopes.retain(|held| *held != Scope::BalancesRead)).await;
    for path in [BALANCES, "/v2/balances/primary"] {
        assert_eq!(refusal(&blind.get(path).await), (403, "missing_scope".to_owned(), None));
    }
}
