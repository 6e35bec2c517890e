//! Every provider behind the whole product: a request, its provider's sandbox, and a verified webhook at the end.

mod deposits;
mod doctor;
mod hints;
mod outcomes;
mod page;
mod reconciliation;
mod refusals;
mod stranded;

use std::time::{Duration, Instant};

use domain::fact::{About, Provider, Reason, Report, Status};
use domain::id::{Mode, NoticeId, PayoutId, ProviderKey};
use domain::payout::state::StateName;
use domain::payout::{Fact, What};
use http::{Method, StatusCode};
use payrelay::chaos;
use payrelay::local::{Local, Plan};
use payrelay::run::Role;
use providers::mollie;
use providers::sandbox::all::Settings;
use providers::sandbox::audit::Direction;
use providers::sandbox::mood::Mood;
use providers::worldpay::signature::{Encoding, EventKey};
use serde_json::{Value, json};
use uuid::Uuid;
use workers::settle::StoredNotice;
use workers::store::notices::{Remembered, Worth};
use workers::store::private_server::Fsync;

const PATIENCE: Duration = Duration::from_secs(60);
/// A card number of the test range that passes the check digit.
const CARD: &str = "4444333322221111";

/// An installation with an account at every provider.
struct House {
    local: Local,
    _folder: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        Self::with(&unhurried(), "", quick).await
    }

    /// With these times, other keys of the configuration, and other sandboxes.
    async fn with(times: &str, keys: &str, sandbox: fn(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut more = times.to_owned();
        // References choose moods here, and so are often the same.
        more.push_str("ingress.refuse_twins = false\n");
        more.push_str("ingress.routes = [{ parties = ['routed'], providers = ['mollie', 'truelayer-v3', 'worldpay-account'] }]\n");
        more.push_str(keys);
        let plan = Plan {
            folder: folder.path(),
            redis_url: None,
            fsync: Fsync::Always,
            listen: "127.0.0.1:0",
            more: &more,
            providers: &Provider::ALL,
            sandbox,
            role: Some(Role::All),
        };
        let local = Local::start(plan).await.unwrap();
        local.subscribe(&["*"]).await.unwrap();
        Self { local, _folder: folder }
    }

    /// Asks for a payout at that provider.
    async fn pay(&self, provider: &str, reference: &str, currency: &str, destination: Value) -> Uuid {
        let transaction = Uuid::new_v4();
        self.ask(transaction, provider, reference, currency, destination).await;
        transaction
    }

    async fn ask(&self, transaction: Uuid, provider: &str, reference: &str, currency: &str, destination: Value) {
        let mut body = json!({
            "transaction_id": transaction, "beneficiary_name": "Ada Quill", "beneficiary_reference": reference, "currency": currency,
            "amount_in_minor": 12_345, "context_code": "withdrawal", "provider": provider,
        });
        body.as_object_mut().unwrap().extend(destination.as_object().unwrap().clone());
        let answer = self.local.caller.call(Method::POST, "/v1/payouts", Some(&body)).await.unwrap();
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    }

    /// Waits until the payout is in one of these states, and gives that.
    async fn becomes(&self, transaction: Uuid, states: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let answer = self.local.unsigned.call(Method::GET, &format!("/v1/payouts/{transaction}"), None).await.unwrap();
            let shown = answer.body;
            let status = shown["result"]["status"].as_str().unwrap_or_default().to_owned();
            if states.contains(&status.as_str()) {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "not {states:?}: {shown:#}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    fn id(&self, transaction: Uuid) -> PayoutId {
        PayoutId::derive(&self.local.config.ingress.default_party, Mode::Test, &transaction.to_string(), self.local.store.shards())
    }

    /// How often money went out for it, at whatever provider.
    fn movements(&self, transaction: Uuid) -> usize {
        self.local.sandboxes.times_paid(self.id(transaction))
    }

    /// Waits until each of these providers has moved money for its payout once.
    async fn becomes_paid(&self, paid: &[(Provider, PayoutId)]) {
        let began = Instant::now();
        let once = |(provider, id): &(Provider, PayoutId)| self.local.sandboxes.moved().get(&(*id, *provider)).is_some_and(|moved| moved.out == 1);
        while !paid.iter().all(once) {
            assert!(began.elapsed() < PATIENCE, "{:?}", self.local.sandboxes.moved());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Whether the subscriber was told, in order and without a gap, up to that event.
    async fn told(&self, transaction: Uuid, last: &str) {
        let id = self.id(transaction);
        let began = Instant::now();
        loop {
            let events = self.local.store.timeline(id).await.unwrap().unwrap().events;
            let arrived = self.local.subscriber.sequences(&id.to_string());
            if arrived.len() == events.len() && events.last().is_some_and(|event| event.kind == last) {
                assert_eq!(self.local.subscriber.refused(), 0);
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{events:?} {arrived:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

/// The times of a chaos run, but for the bound.
fn unhurried() -> String {
    chaos::SHORT.replace("bound_ms = 6000", "bound_ms = 40000")
}

/// Providers that are in a hurry.
fn quick(settings: &mut Settings) {
    let Settings { truelayer, truelayer_v3, worldpay, mollie, .. } = settings;
    (truelayer.authorise_after_ms, truelayer.submit_after_ms, truelayer.settle_after_ms) = (20, 20, 20);
    (truelayer_v3.authorize_after_ms, truelayer_v3.execute_after_ms) = (20, 20);
    (mollie.initiate_after_ms, mollie.process_after_ms, mollie.complete_after_ms) = (20, 20, 20);
    (worldpay.stage_ms, worldpay.notice_wait_ms) = (20, 50);
    for behaviour in [&mut truelayer.behaviour, &mut truelayer_v3.behaviour, &mut worldpay.behaviour, &mut mollie.behaviour] {
        (behaviour.return_after_ms, behaviour.slow_answer_ms, behaviour.late_appear_ms) = (100, 1_000, 1_200);
    }
    worldpay.event_keys = vec![EventKey { id: "1".to_owned(), secret: "for scenarios only".into(), encoding: Encoding::Utf8 }];
    // Tables ask for many at once.
    mollie.one_per_balance = false;
}

fn iban() -> Value {
    json!({ "beneficiary_iban": "GB33BUKB20201555555555" })
}

fn card() -> Value {
    json!({ "destination": { "type": "card", "number": CARD, "expiry": "2031-05" } })
}

/// Worldpay tells of a basic disbursement only that it was taken.
fn last_word(provider: &str) -> &'static str {
    if provider == "worldpay-card" { "authorised" } else { "settled" }
}

fn own_account() -> Value {
    json!({ "destination": { "type": "own_account" } })
}

#[tokio::test]
async fn a_payout_settles_at_every_provider() {
    let house = House::open().await;
    for (provider, currency, destination) in
        [("worldpay-account", "GBP", iban()), ("worldpay-card", "GBP", card()), ("truelayer-v3", "GBP", iban()), ("mollie", "EUR", own_account())]
    {
        let paid = house.pay(provider, "Withdrawal 204", currency, destination).await;
        assert_eq!(house.becomes(paid, &[last_word(provider), "failed", "rejected", "in_review"]).await, last_word(provider), "{provider}");
        house.told(paid, if provider == "worldpay-card" { "payout.authorised" } else { "payout.completed" }).await;
        assert_eq!(house.movements(paid), 1, "{provider}");
    }
}

/// The answer to the create is lost after the provider has taken it: found out, and never paid twice.
#[tokio::test]
async fn a_lost_answer_is_found_out_at_every_provider() {
    let house = House::open().await;
    for (provider, currency, destination) in
        [("worldpay-account", "GBP", iban()), ("worldpay-card", "GBP", card()), ("truelayer-v3", "GBP", iban()), ("mollie", "EUR", own_account())]
    {
        let paid = house.pay(provider, "MOOD lost-answer", currency, destination).await;
        assert_eq!(house.becomes(paid, &[last_word(provider), "failed", "rejected", "in_review"]).await, last_word(provider), "{provider}");
        assert_eq!(house.movements(paid), 1, "{provider}");
    }
}

/// Mollie waits for the business day before it begins, and until then it cancels. Afterwards it does not, and neither does who cannot.
#[tokio::test]
async fn a_provider_that_can_is_asked_to_cancel() {
    let late = |settings: &mut Settings| {
        quick(settings);
        settings.mollie.initiate_after_ms = 60_000;
    };
    let house = House::with(&unhurried(), "", late).await;
    let cancel = async |transaction: Uuid| {
        let path = format!("/v1/payouts/{transaction}/cancel");
        house.local.unsigned.call(Method::POST, &path, Some(&json!({ "reason": "changed_mind" }))).await.unwrap()
    };
    let unpaid = house.pay("mollie", "Withdrawal 204", "EUR", own_account()).await;
    house.becomes(unpaid, &["authorised"]).await;
    let answer = cancel(unpaid).await;
    assert_eq!((answer.status, &answer.body["result"]["cancel_requested"]), (StatusCode::ACCEPTED, &json!(true)), "{}", answer.body);
    assert_eq!(cancel(unpaid).await.status, StatusCode::ACCEPTED, "asked again, nothing more is done");
    assert_eq!(house.becomes(unpaid, &["canceled", "settled", "failed", "in_review"]).await, "canceled");
    house.told(unpaid, "payout.canceled").await;
    assert_eq!((cancel(unpaid).await.status, house.movements(unpaid)), (StatusCode::OK, 0));

    // It began meanwhile, and nobody was told.
    let begun = house.pay("mollie", "MOOD no-notices", "EUR", own_account()).await;
    house.becomes(begun, &["authorised"]).await;
    let key = ProviderKey::derive(house.id(begun), 1).as_uuid();
    house.local.sandboxes.mollie.advance(key, mollie::sandbox::Stage::Initiated);
    assert_eq!(cancel(begun).await.status, StatusCode::ACCEPTED);
    let not_canceled = async || {
        let observed = house.local.store.timeline(house.id(begun)).await.unwrap().unwrap().observations;
        observed.iter().any(|seen| matches!(seen.fact, Some(Fact { what: What::NotCanceled { .. }, .. })))
    };
    let began = Instant::now();
    while !not_canceled().await {
        assert!(began.elapsed() < PATIENCE, "the provider is asked, and says no");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let shown = house.local.unsigned.call(Method::GET, &format!("/v1/payouts/{begun}"), None).await.unwrap().body;
    assert_eq!((&shown["result"]["status"], &shown["result"]["cancel_requested"]), (&json!("authorised"), &Value::Null), "{shown}");

    let elsewhere = house.pay("worldpay-card", "Withdrawal 204", "GBP", card()).await;
    house.becomes(elsewhere, &["authorised"]).await;
    assert_eq!(cancel(elsewhere).await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn money_that_comes_back_is_told() {
    let house = House::open().await;
    for (provider, currency, destination) in [("worldpay-account", "GBP", iban()), ("truelayer-v3", "GBP", iban()), ("mollie", "EUR", own_account())]
    {
        let paid = house.pay(provider, "MOOD return", currency, destination).await;
        assert_eq!(house.becomes(paid, &["returned", "failed", "rejected", "in_review"]).await, "returned", "{provider}");
        house.told(paid, "payout.returned").await;
    }
}

/// No card's number and no account's is shown, and a provider that cannot take a destination says so before anything is stored.
#[tokio::test]
async fn destinations_are_checked_and_masked() {
    let house = House::open().await;
    let paid = house.pay("worldpay-card", "Withdrawal 204", "GBP", card()).await;
    let answer = house.local.unsigned.call(Method::GET, &format!("/v1/payouts/{paid}"), None).await.unwrap();
    assert!(answer.body.to_string().contains("\u{2026}1111") && !answer.body.to_string().contains(CARD), "{}", answer.body);
    for (provider, destination, pointer) in [
        ("worldpay-card", iban(), "/destination"),
        ("mollie", iban(), "/destination"),
        ("truelayer-v3", card(), "/destination"),
        ("worldpay-card", json!({ "destination": { "type": "card", "number": "4444333322221112", "expiry": "2031-05" } }), "/destination/number"),
        ("worldpay-card", json!({ "destination": { "type": "cash" } }), "/destination/type"),
    ] {
        let mut body = json!({
            "transaction_id": Uuid::new_v4(), "beneficiary_name": "Ada Quill", "beneficiary_reference": "x", "currency": "GBP",
            "amount_in_minor": 500, "context_code": "withdrawal", "provider": provider,
        });
        body.as_object_mut().unwrap().extend(destination.as_object().unwrap().clone());
        let answer = house.local.caller.call(Method::POST, "/v1/payouts", Some(&body)).await.unwrap();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{provider} {}", answer.body);
        assert!(answer.body.to_string().contains(&format!("\"{pointer}")), "{provider}: {}", answer.body);
        assert!(!answer.body.to_string().contains("444433332222"), "{}", answer.body);
    }
}

#[tokio::test]
async fn profiles_are_shown() {
    let house = House::open().await;
    let all = house.local.unsigned.expect(Method::GET, "/v1/providers", None).await.unwrap();
    let names: Vec<_> =
        all["results"].as_array().unwrap().iter().map(|profile| (profile["provider"].as_str().unwrap(), profile["configured"] == true)).collect();
    assert_eq!(names, [("truelayer", true), ("truelayer-v3", true), ("worldpay-account", true), ("worldpay-card", true), ("mollie", true)]);
    let mollie = house.local.unsigned.expect(Method::GET, "/v1/providers/mollie", None).await.unwrap();
    assert_eq!((&mollie["result"]["retention_ms"], &mollie["result"]["amount"]), (&json!(3_600_000), &json!("decimal-text")));
    assert!(mollie["result"]["side_effects"].to_string().contains("never"), "{mollie}");
    let missing = house.local.unsigned.call(Method::GET, "/v1/providers/cash", None).await.unwrap();
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

/// A rule names three: the first cannot take it, the second refuses it, the third pays it.
#[tokio::test]
async fn the_next_provider_gets_what_the_first_has_refused() {
    let house = House::open().await;
    let transaction = Uuid::new_v4();
    let body = json!({
        "transaction_id": transaction, "beneficiary_name": "Ada Quill", "beneficiary_reference": "Withdrawal 204", "currency": "GBP",
        "amount_in_minor": 12_345, "context_code": "withdrawal", "beneficiary_iban": "GB33BUKB20201555555555", "party_id": "routed",
    });
    house.local.sandboxes.truelayer_v3.set_mood(1, Mood::Refuse);
    let answer = house.local.caller.call(Method::POST, "/v1/payouts", Some(&body)).await.unwrap();
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    let began = Instant::now();
    let shown = loop {
        let path = format!("/v1/payouts/{transaction}?party_id=routed");
        let shown = house.local.unsigned.call(Method::GET, &path, None).await.unwrap().body;
        if ["settled", "failed", "rejected", "in_review"].contains(&shown["result"]["status"].as_str().unwrap_or_default()) {
            break shown;
        }
        assert!(began.elapsed() < PATIENCE, "{shown:#}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    };
    let result = &shown["result"];
    assert_eq!(
        (&result["provider"], &result["attempts"], &result["status"]),
        (&json!("worldpay-account"), &json!(2), &json!("settled")),
        "{shown:#}"
    );
    let paid: Vec<_> = house.local.sandboxes.ledger().movements.into_iter().filter(|movement| movement.direction == Direction::Out).collect();
    assert_eq!(paid.len(), 1);
    assert_eq!(paid[0].payout_and_attempt().map(|(_, attempt)| attempt), Some(2));
}

/// Nobody has a rule for dollars: they go to the first provider whose account pays in them, and a provider that is asked for by name says that it does not.
#[tokio::test]
async fn a_currency_goes_to_a_provider_that_pays_in_it() {
    let house = House::open().await;
    let mut body = json!({
        "transaction_id": Uuid::new_v4(), "beneficiary_name": "Ada Quill", "beneficiary_reference": "Withdrawal 204", "currency": "USD",
        "amount_in_minor": 12_345, "context_code": "withdrawal", "beneficiary_iban": "GB33BUKB20201555555555",
    });
    let shown = house.local.unsigned.expect(Method::GET, "/v1/providers/truelayer", None).await.unwrap();
    assert_eq!(shown["result"]["currencies"], json!(["EUR", "GBP"]));
    let answer = house.local.caller.call(Method::POST, "/v1/payouts", Some(&body)).await.unwrap();
    assert_eq!((answer.status, &answer.body["result"]["provider"]), (StatusCode::ACCEPTED, &json!("worldpay-account")), "{}", answer.body);
    // What is wrong is told by who pays in dollars, and would take them otherwise.
    let short = json!({ "beneficiary_reference": "r", "transaction_id": Uuid::new_v4() });
    let mut wrong = body.clone();
    wrong.as_object_mut().unwrap().extend(short.as_object().unwrap().clone());
    let refused = house.local.caller.call(Method::POST, "/v1/payouts", Some(&wrong)).await.unwrap();
    let pointer = &refused.body["errors"][0]["pointer"];
    assert_eq!((refused.status, pointer), (StatusCode::BAD_REQUEST, &json!("/beneficiary_reference")), "{}", refused.body);
    (body["transaction_id"], body["provider"]) = (json!(Uuid::new_v4()), json!("truelayer"));
    let refused = house.local.caller.call(Method::POST, "/v1/payouts", Some(&body)).await.unwrap();
    assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (StatusCode::BAD_REQUEST, &json!("/currency")), "{}", refused.body);
}

/// A provider speaks for its own attempts only, however well its notice is signed.
#[tokio::test]
async fn what_another_provider_says_is_nothing() {
    let house = House::open().await;
    let paid = house.pay("worldpay-account", "Withdrawal 204", "GBP", iban()).await;
    house.becomes(paid, &["settled"]).await;
    let store = &house.local.store;
    let id = house.id(paid);
    let failed = Status::Failed { reason: Reason::new("so_they_say") };
    let report = Report { status: failed, provider_status: "failed".to_owned(), at: None, reference: None, amount: None };
    let notice = StoredNotice::new(Provider::Mollie, Mode::Test, About::Key(ProviderKey::derive(id, 1)), Some(report));
    let notice_id = NoticeId::derive("mollie", "test:1", id.shard());
    assert_eq!(store.remember(notice_id, Worth::Evidence, &serde_json::to_vec(&notice).unwrap()).await.unwrap(), Remembered::New);
    let began = Instant::now();
    while store.vitals(id.shard()).await.unwrap().orphans == 0 {
        assert!(began.elapsed() < PATIENCE, "it is put aside");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(store.load(id).await.unwrap().unwrap().state.name(), StateName::Settled);
}

/// The store forgets a payout that one provider has paid. It is asked for again, now of another provider: nobody pays it again, and a person is told
/// where it is.
#[tokio::test]
async fn what_was_forgotten_is_looked_for_at_every_provider() {
    let mut house = House::open().await;
    let known = house.local.server.as_ref().unwrap().log_bytes().unwrap();
    let paid = house.pay("worldpay-account", "MOOD no-notices", "GBP", iban()).await;
    house.becomes(paid, &["settled"]).await;
    house.local.server.as_mut().unwrap().forget_since(known).unwrap();
    let store = &house.local.store;
    let id = house.id(paid);
    let began = Instant::now();
    while store.ping().await.is_err() {
        assert!(began.elapsed() < PATIENCE, "the store answers");
    }
    assert!(store.load(id).await.unwrap().is_none());

    house.ask(paid, "truelayer-v3", "MOOD no-notices", "GBP", iban()).await;
    while store.frozen(id.shard()).await.unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "dispatch freezes");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    store.thaw(id.shard(), Duration::from_hours(1)).await.unwrap();
    assert_eq!(house.becomes(paid, &["in_review", "settled", "inconclusive"]).await, "in_review");
    let elsewhere = async || {
        let observed = store.timeline(id).await.unwrap().unwrap().observations;
        observed.into_iter().find_map(|seen| match seen.fact?.what {
            What::Elsewhere { provider, attempt, report } => Some((provider, attempt, report.status)),
            _ => None,
        })
    };
    assert_eq!(elsewhere().await, Some((Provider::WorldpayAccount, 1, Status::Settled)));
    assert_eq!(house.movements(paid), 1);
}

/// What waits for one provider is in nobody else's way.
#[tokio::test]
async fn a_paused_provider_holds_up_no_other() {
    let house = House::open().await;
    let operator = &house.local.unsigned;
    operator.expect(Method::POST, "/v1/providers/truelayer-v3/pause", Some(&json!({ "reason": "a drill" }))).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(house.pay("truelayer-v3", "Withdrawal 204", "GBP", iban()).await);
    }
    for payout in &waiting {
        house.becomes(*payout, &["scheduled"]).await;
    }
    let paid = house.pay("worldpay-account", "Withdrawal 204", "GBP", iban()).await;
    house.becomes(paid, &["settled"]).await;
    let circuit = |shown: Value| shown["result"]["circuit"].clone();
    let shown = circuit(operator.expect(Method::GET, "/v1/providers/truelayer-v3", None).await.unwrap());
    assert_eq!((&shown["state"], &shown["held"]), (&json!("paused"), &json!(3)));
    assert_eq!(waiting.iter().map(|payout| house.movements(*payout)).sum::<usize>(), 0);
    operator.expect(Method::POST, "/v1/providers/truelayer-v3/resume", None).await.unwrap();
    for payout in &waiting {
        house.becomes(*payout, &["settled"]).await;
        assert_eq!(house.movements(*payout), 1);
    }
}
