//! Money that a provider says came in: a top-up, once, of the account that it belongs to.

use std::time::{Duration, Instant};

use domain::fact::{Deposit, Provider};
use domain::id::{Mode, NoticeId, PartyId, Shard};
use domain::ledger::Account;
use domain::money::{Currency, Money};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;
use workers::deposit::{AccountOf, StoredDeposit};
use workers::store::notices::Worth;

use super::{House, PATIENCE, quick, unhurried};
use crate::support::Installation;

/// The sandbox's account in pounds.
const POUNDS: &str = "sandbox-pounds";
const DEPOSITS: &str = "deposits.accounts = [{ provider = 'truelayer-v3', mode = 'test', account = 'sandbox-pounds', party = 'shop' }]\n";

impl House {
    /// A house where the pounds at TrueLayer are those of "shop", whose account keeps money of its own.
    async fn with_shop() -> Self {
        let house = Self::with(&unhurried(), DEPOSITS, quick).await;
        let body = json!({ "party_id": "shop", "funding": "balance" });
        house.local.unsigned.expect(Method::PATCH, "/v1/balances/GBP", Some(&body)).await.unwrap();
        house
    }

    async fn deposit(&self, account: &str, body: &Value) {
        let url = format!("{}/truelayer-v3/sandbox/merchant-accounts/{account}/deposits", self.local.sandbox_url);
        let sent = reqwest::Client::builder().no_proxy().build().unwrap().post(url).json(body).send().await.unwrap();
        assert_eq!(sent.status(), StatusCode::NO_CONTENT);
    }

    async fn balance(&self) -> i64 {
        let shown = self.local.unsigned.call(Method::GET, "/v1/balances/GBP?party_id=shop", None).await.unwrap();
        shown.body["result"]["available_balance_in_minor"].as_i64().unwrap()
    }

    /// The top-ups of "shop": key and amount, by key.
    async fn top_ups(&self) -> Vec<(String, i64)> {
        let path = "/v1/transactions?party_id=shop&type=topup&limit=200&from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z";
        let listed = self.local.unsigned.call(Method::GET, path, None).await.unwrap();
        let items = listed.body["results"].as_array().unwrap();
        let mut found: Vec<_> =
            items.iter().map(|item| (item["transaction_id"].as_str().unwrap().to_owned(), item["amount_in_minor"].as_i64().unwrap())).collect();
        found.sort();
        found
    }

    /// Waits until every notice that is due was looked at, and says how many wait for later, and how many are put aside.
    async fn notices(&self) -> (u64, u64) {
        let began = Instant::now();
        loop {
            let idle = self.local.sandboxes.truelayer_v3.is_done();
            let vitals = self.local.store.vitals(Shard::new(0)).await.unwrap();
            let lane = vitals.lanes.iter().find(|lane| lane.lane == "settle").unwrap();
            if idle && lane.oldest_due_ms == 0 {
                return (lane.entries, vitals.orphans);
            }
            assert!(began.elapsed() < PATIENCE, "{vitals:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

/// Twenty movements, each told by two events that come twice, in any order, some of them known to the platform before or after: each counts once.
#[tokio::test]
async fn money_that_came_in_is_recorded_once_however_it_is_told() {
    let house = House::with_shop().await;
    let mut expected = Vec::new();
    for number in 0..20_i64 {
        let (transaction, minor) = (Uuid::new_v4(), 100 + number);
        let body = json!({ "transaction_id": transaction, "party_id": "shop", "currency": "GBP", "amount_in_minor": minor });
        let by_platform = async || house.local.unsigned.expect(Method::POST, "/v1/top-ups", Some(&body)).await.unwrap();
        if number % 3 == 0 {
            by_platform().await;
        }
        house.deposit(POUNDS, &json!({ "amount_in_minor": minor, "transaction_id": transaction, "events": 2, "copies": 2 })).await;
        if number % 3 == 1 {
            by_platform().await;
        }
        expected.push((transaction.to_string(), minor));
    }
    expected.sort();
    let began = Instant::now();
    while house.top_ups().await.len() < expected.len() {
        assert!(began.elapsed() < PATIENCE, "{:?}", house.top_ups().await);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(house.notices().await.1, 0, "nothing is put aside");
    assert_eq!(house.top_ups().await, expected);
    assert_eq!(house.balance().await, expected.iter().map(|(_, minor)| minor).sum::<i64>());
}

/// A notice that the provider did not sign tops nothing up, and the provider's own one of the same movement still does.
#[tokio::test]
async fn money_is_believed_only_with_a_signature() {
    let house = House::with_shop().await;
    let transaction = Uuid::new_v4();
    house.deposit(POUNDS, &json!({ "amount_in_minor": 9_999, "transaction_id": transaction, "forged": true })).await;
    let unsigned = json!({
        "type": "external_payment_received", "event_id": Uuid::new_v4(), "event_version": 1, "transaction_id": transaction,
        "merchant_account_id": POUNDS, "currency": "GBP", "amount_in_minor": 9_999,
    });
    let sent = house.local.unsigned.call(Method::POST, "/notices/truelayer-v3/test", Some(&unsigned)).await.unwrap();
    assert_eq!(sent.status, StatusCode::UNAUTHORIZED, "{}", sent.body);
    assert_eq!((house.notices().await, house.top_ups().await), ((0, 0), vec![]));
    house.deposit(POUNDS, &json!({ "amount_in_minor": 5, "transaction_id": transaction })).await;
    let began = Instant::now();
    while house.top_ups().await != [(transaction.to_string(), 5)] {
        assert!(began.elapsed() < PATIENCE, "{:?}", house.top_ups().await);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Nobody's money waits for a day and is then put aside, counted, listed and kept, until somebody has said whose it is.
#[tokio::test]
async fn money_that_belongs_to_nobody_is_not_lost() {
    let mut installation = Installation::start().await;
    let platform = installation.caller_with(|_| {}).await;
    assert_eq!(platform.patch("/v1/balances/GBP", &json!({ "party_id": "shop", "funding": "balance" })).await.status, 200);
    let store = installation.store.clone();
    let money = |minor: i64| Money::new(minor, Currency::GBP).unwrap();
    let told = async |event: &str, transaction_id: Uuid, minor: i64| {
        let deposit = Deposit { account: "GBP".to_owned(), transaction_id, money: money(minor) };
        let body = serde_json::to_vec(&StoredDeposit::new(Provider::Truelayer, Mode::Test, deposit)).unwrap();
        store.remember(NoticeId::derive("truelayer", event, Shard::new(0)), Worth::Evidence, &body).await.unwrap();
    };
    let orphans = async || store.orphans(10).await.unwrap();
    let transaction = Uuid::new_v4();
    told("one", transaction, 700).await;
    installation.settle().await;
    assert_eq!(orphans().await.len(), 0, "whose it is may be said any moment");
    store.move_clock(Duration::from_hours(25)).await.unwrap();
    installation.settle().await;
    let [orphan] = orphans().await.try_into().unwrap();
    let about = workers::settle::about(orphan.body.as_ref().unwrap()).unwrap();
    assert_eq!(about, (Provider::Truelayer, Mode::Test, format!("deposit {transaction} into GBP: 700 GBP")));
    // Long after what is only remembered was forgotten.
    assert_eq!(installation.redis.say(&["TTL", &format!("t:{{s00}}:nt:{}", orphan.id)]).trim(), ":-1");

    let party = PartyId::parse("shop").unwrap();
    installation.deposits.accounts =
        vec![AccountOf { provider: Provider::Truelayer, mode: Mode::Test, account: "GBP".to_owned(), party: party.clone() }];
    assert!(store.retry_notice(orphan.id).await.unwrap());
    assert!(!store.retry_notice(orphan.id).await.unwrap(), "once");
    installation.settle().await;
    let available = async || store.account(&party, Mode::Test, Currency::GBP).await.unwrap().balances.of(Account::Available);
    assert_eq!((orphans().await.len(), available().await), (0, 700));
    // The same movement with another amount is a person's business, at once.
    told("two", transaction, 701).await;
    installation.settle().await;
    assert_eq!((orphans().await.len(), available().await), (1, 700));
    // An account that the provider funds has nothing to top up.
    assert_eq!(platform.patch("/v1/balances/GBP", &json!({ "party_id": "shop", "version": 1, "funding": "provider" })).await.status, 200);
    told("three", Uuid::new_v4(), 5).await;
    installation.settle().await;
    store.move_clock(Duration::from_hours(25)).await.unwrap();
    installation.settle().await;
    assert_eq!(orphans().await.len(), 2);
}

/// While a configuration is rolled out, processes name different parties for an account: a movement is given to one of them.
#[tokio::test]
async fn two_processes_that_disagree_give_it_to_one_party() {
    let mut installation = Installation::start().await;
    let platform = installation.caller_with(|_| {}).await;
    let store = installation.store.clone();
    let parties = ["shop", "mall"].map(|party| PartyId::parse(party).unwrap());
    for party in &parties {
        assert_eq!(platform.patch("/v1/balances/GBP", &json!({ "party_id": party, "funding": "balance" })).await.status, 200);
    }
    let transaction_id = Uuid::new_v4();
    for (number, party) in [0, 1, 0, 1].map(|of| &parties[of]).into_iter().enumerate() {
        installation.deposits.accounts =
            vec![AccountOf { provider: Provider::Truelayer, mode: Mode::Test, account: "GBP".to_owned(), party: party.clone() }];
        let deposit = Deposit { account: "GBP".to_owned(), transaction_id, money: Money::new(700, Currency::GBP).unwrap() };
        let body = serde_json::to_vec(&StoredDeposit::new(Provider::Truelayer, Mode::Test, deposit)).unwrap();
        store.remember(NoticeId::derive("truelayer", &number.to_string(), Shard::new(0)), Worth::Evidence, &body).await.unwrap();
        installation.settle().await;
    }
    let mut available = Vec::new();
    for party in &parties {
        available.push(store.account(party, Mode::Test, Currency::GBP).await.unwrap().balances.of(Account::Available));
    }
    assert_eq!(available, [700, 0]);
    assert_eq!(store.vitals(Shard::new(0)).await.unwrap().lanes.iter().map(|lane| lane.entries).sum::<u64>(), 0, "nothing waits");
}
