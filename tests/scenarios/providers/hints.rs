//! What providers tell by an id of their own, and what proves nothing: webhooks that lead somewhere only by way of the directory, or to a look.

use std::time::{Duration, Instant};

use domain::fact::{About, Provider, ProviderReference, Reason, Report, Status};
use domain::id::{Mode, NoticeId, PayoutId, ProviderKey};
use http::{Method, StatusCode};
use providers::mollie::sandbox::Payload;
use providers::sandbox::all::Settings;
use providers::{mollie, truelayer_v3};
use serde_json::json;
use workers::settle::StoredNotice;
use workers::store::notices::Worth;

use super::{House, PATIENCE, iban, own_account, quick, unhurried};

/// A payout settles, and much later the provider tells of its return by its own id only: nobody polls any more, so that webhook is all there is.
#[tokio::test]
async fn a_return_told_by_the_providers_own_id_is_understood() {
    let theirs = |settings: &mut Settings| {
        quick(settings);
        settings.mollie.payload = Payload::Simple;
        settings.truelayer_v3.tells_metadata = false;
        settings.worldpay.tells_reference = false;
    };
    let house = House::with(&unhurried(), "", theirs).await;
    for (provider, currency, destination) in [("worldpay-account", "GBP", iban()), ("truelayer-v3", "GBP", iban()), ("mollie", "EUR", own_account())]
    {
        let paid = house.pay(provider, "Withdrawal 204", currency, destination).await;
        house.becomes(paid, &["settled"]).await;
        house.told(paid, "payout.completed").await;
        let key = ProviderKey::derive(house.id(paid), 1);
        let returns = match provider {
            "worldpay-account" => house.local.sandboxes.worldpay.advance(key, "REVERSED"),
            "truelayer-v3" => house.local.sandboxes.truelayer_v3.advance(key.as_uuid(), truelayer_v3::sandbox::Stage::Returned),
            _ => house.local.sandboxes.mollie.advance(key.as_uuid(), mollie::sandbox::Stage::Returned),
        };
        assert!(returns, "{provider}");
        assert_eq!(house.becomes(paid, &["returned", "failed", "in_review"]).await, "returned", "{provider}");
        house.told(paid, "payout.returned").await;
        let events = house.local.store.timeline(house.id(paid)).await.unwrap().unwrap().events;
        assert_eq!(events.iter().filter(|event| event.kind == "payout.returned").count(), 1, "{provider}");
    }
}

/// A signed webhook may be faster than the answer that tells the id. It waits for it, and is an orphan after a day.
#[tokio::test]
async fn a_reference_that_is_not_known_yet_is_waited_for() {
    let house = House::open().await;
    let paid = house.pay("truelayer-v3", "MOOD no-notices", "GBP", iban()).await;
    house.becomes(paid, &["settled"]).await;
    let store = &house.local.store;
    let id = house.id(paid);
    let reference = ProviderReference("not-told-yet".to_owned());
    let status = Status::Returned { reason: Reason::new("returned") };
    let report = Report { status, provider_status: "failed".to_owned(), at: None, reference: Some(reference.clone()), amount: None };
    for (number, about) in [About::Reference(reference.clone()), About::Reference(ProviderReference("nobodys".to_owned()))].into_iter().enumerate() {
        let notice = StoredNotice::new(Provider::TruelayerV3, Mode::Test, about, Some(report.clone()));
        let notice_id = NoticeId::derive("truelayer-v3", &format!("test:{number}"), id.shard());
        store.remember(notice_id, Worth::Evidence, &serde_json::to_vec(&notice).unwrap()).await.unwrap();
    }
    let provider = (Provider::TruelayerV3, Mode::Test);
    assert_eq!(store.referred(provider.0, provider.1, &reference).await.unwrap(), None);
    store.refer(provider, &reference, (id, 1), Duration::from_secs(600)).await.unwrap();
    // Another payout under the same id does not take it over.
    store.refer(provider, &reference, (id, 2), Duration::from_secs(600)).await.unwrap();
    assert_eq!(store.referred(provider.0, provider.1, &reference).await.unwrap(), Some((id, 1)));
    assert_eq!(store.referred(provider.0, Mode::Live, &reference).await.unwrap(), None);
    house.becomes(paid, &["returned"]).await;
    assert_eq!(store.vitals(id.shard()).await.unwrap().orphans, 0, "the other one still waits");
}

/// Anybody can send a hint to an account without event keys: it leads to looks at its own provider only, to few of them, and to nothing on record.
#[tokio::test]
async fn hints_are_bounded() {
    let house = House::open().await;
    let paid = house.pay("worldpay-account", "MOOD no-notices", "GBP", iban()).await;
    house.becomes(paid, &["settled"]).await;
    let store = &house.local.store;
    let id = house.id(paid);
    let key = ProviderKey::derive(id, 1);
    let looks = || house.local.sandboxes.worldpay.payout(key).unwrap().calls.gets;
    let settled = async || {
        let began = Instant::now();
        while store.vitals(id.shard()).await.unwrap().lanes.iter().any(|lane| lane.lane == "settle" && lane.entries > 0) {
            assert!(began.elapsed() < PATIENCE, "the hint is followed");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    let hint = async |provider: &str, key: String| {
        let body = if provider == "worldpay-card" {
            json!({ "eventId": "e1", "eventTimestamp": "2026-01-01T00:00:00Z", "eventDetails": { "type": "disbursed", "classification": "payout", "transactionReference": key } })
        } else {
            json!({ "paymentState": "REVERSED", "originalPaymentInfo": { "idempotencyKey": key } })
        };
        let path = format!("/notices/{provider}/test");
        assert_eq!(house.local.unsigned.call(Method::POST, &path, Some(&body)).await.unwrap().status, StatusCode::OK);
    };
    let text = |key: ProviderKey| key.as_uuid().simple().to_string();
    let (before, version) = (looks(), store.load(id).await.unwrap().unwrap().version);
    hint("worldpay-card", text(key)).await;
    let nobody = PayoutId::derive(&house.local.config.ingress.default_party, Mode::Test, "nobody", store.shards());
    hint("worldpay-account", text(ProviderKey::derive(nobody, 1))).await;
    settled().await;
    assert_eq!(looks(), before, "another provider's attempt, and one that there is not");
    hint("worldpay-account", text(key)).await;
    settled().await;
    assert_eq!(looks(), before + 1);
    for _ in 0..20 {
        hint("worldpay-account", text(key)).await;
    }
    assert_eq!(looks(), before + 1, "not again so soon");
    let waiting: u64 = store.vitals(id.shard()).await.unwrap().lanes.iter().filter(|lane| lane.lane == "settle").map(|lane| lane.entries).sum();
    assert_eq!(waiting, 1, "however many came");
    store.move_clock(Duration::from_secs(6)).await.unwrap();
    settled().await;
    assert_eq!(looks(), before + 2, "and none is lost");
    assert_eq!(store.load(id).await.unwrap().unwrap().version, version, "no news is not kept");
}
