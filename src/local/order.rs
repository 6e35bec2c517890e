//! Requests for payouts that the providers can take.

use domain::fact::Provider;
use serde_json::{Value, json};
use uuid::Uuid;

/// A card number of the test range that passes the check digit.
const CARD: &str = "4444333322221111";

/// A request for a payout at one provider, to a destination that it pays.
#[must_use]
pub fn order(provider: Provider, transaction: Uuid, amount_in_minor: i64) -> Value {
    let (currency, field, destination) = match provider {
        Provider::Truelayer | Provider::TruelayerV3 | Provider::WorldpayAccount => ("GBP", "beneficiary_iban", json!("GB33BUKB20201555555555")),
        Provider::WorldpayCard => ("GBP", "destination", json!({ "type": "card", "number": CARD, "expiry": "2031-05" })),
        Provider::Mollie => ("EUR", "destination", json!({ "type": "own_account" })),
    };
    json!({
        "transaction_id": transaction,
        "provider": provider.name(),
        "beneficiary_name": "John Smith",
        // Of its own: an equal payout is refused while one is unresolved.
        "beneficiary_reference": format!("Withdrawal {:.7}", transaction.simple().to_string()),
        field: destination,
        "currency": currency,
        "amount_in_minor": amount_in_minor,
        "context_code": "withdrawal",
    })
}
