//! What providers document as reasons to refuse a payout, each with the code that merchants see; and that nothing moves, and nothing is tried again.

use domain::fact::Provider;
use http::Method;
use payrelay::chaos;
use payrelay::local::order;
use providers::mollie::sandbox::balance::Trouble;
use providers::sandbox::mood::Mood;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{House, quick};

impl House {
    /// Asks for a payout that will be refused, and gives its reason.
    async fn refused(&self, provider: Provider, change: impl FnOnce(&mut Value)) -> Value {
        let transaction = Uuid::new_v4();
        let mut body = order(provider, transaction, 500);
        change(&mut body);
        self.local.caller.expect(Method::POST, "/v1/payouts", Some(&body)).await.unwrap();
        assert_eq!(self.becomes(transaction, &["rejected", "settled", "authorised", "failed", "in_review"]).await, "rejected", "{body}");
        let shown = self.local.unsigned.expect(Method::GET, &format!("/v1/payouts/{transaction}"), None).await.unwrap();
        assert_eq!((self.movements(transaction), &shown["result"]["attempts"]), (0, &json!(1)), "{shown}");
        self.told(transaction, "payout.failed").await;
        shown["result"]["reason"].clone()
    }
}

#[tokio::test]
async fn documented_refusals_have_their_codes() {
    let house = House::with(chaos::SHORT, "", quick).await;
    for (provider, reason) in [
        (Provider::Truelayer, "validation_error.beneficiary_name"),
        (Provider::TruelayerV3, "invalid_parameters.account_holder_name"),
        (Provider::WorldpayAccount, "fieldhasinvalidvalue.instruction"),
        (Provider::WorldpayCard, "fieldhasinvalidvalue.instruction"),
        (Provider::Mollie, "payouts_blocked"),
    ] {
        assert_eq!(house.refused(provider, |body| body["amount_in_minor"] = json!(Mood::Refuse.amount())).await, reason, "{provider:?}");
    }
    // Worldpay's own magic amount for a card that is no Visa.
    let mastercard = |body: &mut Value| {
        body["destination"]["number"] = json!("5555555555554444");
        body["amount_in_minor"] = json!(310);
    };
    assert_eq!(house.refused(Provider::WorldpayCard, mastercard).await, "refused.05");
    let mollie = &house.local.sandboxes.mollie;
    for (trouble, reason) in [
        (Trouble { inactive: true, ..Trouble::default() }, "balance_inactive"),
        (Trouble { blocked: true, ..Trouble::default() }, "payouts_blocked"),
        (Trouble { queued_refunds: true, ..Trouble::default() }, "queued_refunds"),
        (Trouble { negative_balance: true, ..Trouble::default() }, "negative_balance"),
        (Trouble { no_destination: true, ..Trouble::default() }, "destination_invalid"),
    ] {
        assert!(mollie.set_trouble("bal_sandboxEuros", trouble));
        assert_eq!(house.refused(Provider::Mollie, |_| {}).await, reason);
    }
    assert!(mollie.set_trouble("bal_sandboxEuros", Trouble::default()));
    let paid = Uuid::new_v4();
    house.local.caller.expect(Method::POST, "/v1/payouts", Some(&order(Provider::Mollie, paid, 500))).await.unwrap();
    assert_eq!(house.becomes(paid, &["rejected", "settled", "in_review"]).await, "settled", "with the cause gone");
}

/// Mollie takes one payout of a balance for its next day. Others wait until that has begun, and can be taken back meanwhile.
#[tokio::test]
async fn mollie_takes_one_payout_of_a_balance_a_day() {
    let house = House::with(chaos::SHORT, "providers.mollie_test.scheduled_wait_ms = 1000\n", |settings| {
        quick(settings);
        // Asked again about the same key it gives the same answer, for an hour in real life.
        (settings.mollie.one_per_balance, settings.mollie.initiate_after_ms, settings.mollie.remembered_ms) = (true, 3_000, 500);
    })
    .await;
    let ask = async || {
        let transaction = Uuid::new_v4();
        house.local.caller.expect(Method::POST, "/v1/payouts", Some(&order(Provider::Mollie, transaction, 500))).await.unwrap();
        transaction
    };
    let first = ask().await;
    house.becomes(first, &["authorised"]).await;
    let (second, third) = (ask().await, ask().await);
    for waiting in [second, third] {
        assert_eq!(house.becomes(waiting, &["scheduled", "rejected", "failed", "in_review"]).await, "scheduled");
    }
    house.local.unsigned.expect(Method::POST, &format!("/v1/payouts/{third}/cancel"), Some(&json!({}))).await.unwrap();
    assert_eq!(house.becomes(third, &["canceled"]).await, "canceled");
    for paid in [first, second] {
        assert_eq!(house.becomes(paid, &["settled", "rejected", "failed", "in_review"]).await, "settled");
    }
    assert_eq!([first, second, third].map(|transaction| house.movements(transaction)), [1, 1, 0]);
    let circuit = house.local.unsigned.expect(Method::GET, "/v1/providers/mollie", None).await.unwrap();
    assert_eq!(circuit["result"]["circuit"]["state"], "closed", "an answer about one balance is none about the provider");
}
