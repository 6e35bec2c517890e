//! Schedules, and workers that die while they open a payout.

use domain::schedule::plan::Plan as Due;
use workers::store::accounts::Standing;

use super::*;

/// A worker is aborted before or after the commit that opens a scheduled payout; another one goes on. The payout is opened once, and paid once.
async fn survives(armed: &str, opened: bool) {
    let site = Site::open().await;
    let (local, store) = (&site.local, &site.local.store);
    let party = local.config.ingress.default_party.clone();
    let expect = async |path: &str, body| local.unsigned.expect(Method::POST, path, Some(&body)).await.unwrap();
    let iban = json!({ "type": "iban", "iban": "GB33BUKB20201555555555" });
    let instrument = json!({ "payoutInstrumentReference": "pounds", "currency": "GBP", "beneficiaryName": "John Smith", "destination": iban });
    let account = json!({ "currency": "GBP", "payoutInstrumentReference": "pounds", "frequency": "daily" });
    let party_body = json!({
        "partyReference": party, "displayName": "Acme", "country": "GB", "payoutInstruments": [instrument], "balanceAccounts": [account],
    });
    expect("/parties", party_body).await;
    expect("/v1/top-ups", json!({ "transaction_id": Uuid::new_v4(), "currency": "GBP", "amount_in_minor": Mood::Plain.amount() })).await;

    let Standing { account, .. } = store.account(&party, Mode::Test, Currency::GBP).await.unwrap();
    let calendars = local.config.calendars.read().unwrap();
    let now = store.clock().now();
    let Some(Due::Wait { on, until }) = account.plan(calendars.of(Currency::GBP), now) else { panic!("nothing is due on the first day") };
    store.move_clock(until.duration_since(now).unsigned_abs() + Duration::from_mins(1)).await.unwrap();
    let transaction = account.id.scheduled(on);
    let id = PayoutId::derive(&party, Mode::Test, &transaction.to_string(), store.shards());

    aborted(site.worker("first", armed)).await;
    assert_eq!(store.load(id).await.unwrap().is_some(), opened);
    let standing = store.account(&party, Mode::Test, Currency::GBP).await.unwrap();
    assert_eq!(standing.account.version, 1 + u64::from(opened), "how far the schedule has come is told with the payout");
    site.leases_end().await;
    let _second = site.worker("second", "");
    eventually("the payout is opened", PATIENCE, async || store.load(id).await.unwrap().is_some()).await;
    site.is_well(&[Sent { transaction, id, provider: Provider::Truelayer, accepted: true, canceled: None }]).await;
}

#[tokio::test]
async fn a_crash_before_a_scheduled_payout_is_opened() {
    survives("schedule-not-opened=abort", false).await;
}

#[tokio::test]
async fn a_crash_after_a_scheduled_payout_was_opened() {
    survives("schedule-opened=abort", true).await;
}
