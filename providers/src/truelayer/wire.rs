//! TrueLayer's Payouts API v1 on the wire: the same types serve the client and the sandbox, and the fixtures keep both honest.
//!
//! Requests are strict (unknown fields are errors), answers tolerant. Timestamps have seven fractional digits. Types that hold names or accounts
//! show nothing but the transaction id in `Debug`. Labels: **(H)** read in the provider's documents or libraries, **ASSUMED** found nowhere.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The body of `POST /v1/payouts`: seven fields, all required (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreatePayout {
    /// Chosen by the client: resource id and idempotency key in one.
    pub transaction_id: Uuid,
    /// At most 18 characters.
    pub beneficiary_name: String,
    pub beneficiary_iban: String,
    /// At most 18 characters.
    pub beneficiary_reference: String,
    /// ISO 4217; also selects the account that pays.
    pub currency: String,
    pub amount_in_minor: i64,
    /// One of [`CONTEXT_CODES`].
    pub context_code: String,
}

/// Longest `beneficiary_name` and `beneficiary_reference`, in characters (H).
pub const MAX_TEXT: usize = 18;

/// Why the payout is made (H).
pub const CONTEXT_CODES: [&str; 3] = ["withdrawal", "service_payment", "internal"];

/// A payout as the provider shows it. The timestamps that a status does not have are absent (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    pub transaction_id: Uuid,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub authorised_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub rejected_at: Option<Moment>,
    pub beneficiary_name: String,
    pub beneficiary_iban: String,
    pub beneficiary_reference: String,
    pub amount_in_minor: i64,
    pub currency: String,
    pub context_code: String,
    /// `new`, `authorised`, `submitted`, `settled`, `failed`, `rejected` (H).
    pub status: String,
    /// `insufficient_funds` or `server_error` (H); that the field is called so is ASSUMED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection_code: Option<String>,
    /// `scheme_error` or `server_error` (H), `returned` (ASSUMED); that the field is called so is ASSUMED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_code: Option<String>,
}

/// The answer to `GET /v1/payouts/{transaction_id}` (H).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct One<T> {
    pub result: T,
}

/// The answer to `GET /v1/transactions` and `GET /v1/balances` (H).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Many<T> {
    pub results: Vec<T>,
}

/// An item of `GET /v1/transactions` (H). A type that we do not know is kept as such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Transaction {
    Payout(Box<Payout>),
    TopUp(TopUp),
    #[serde(other)]
    Other,
}

/// Money that came in. The fields are ASSUMED: only the type is documented.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopUp {
    pub transaction_id: Uuid,
    pub amount_in_minor: i64,
    pub currency: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Moment>,
    #[serde(default)]
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remitter_reference: Option<String>,
}

/// An account of ours at the provider, one per currency (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    pub currency: String,
    pub iban: String,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Includes what is pending or in transit.
    pub current_balance_in_minor: i64,
    pub available_balance_in_minor: i64,
    pub account_owner: String,
}

/// The body of an error (H). The details come in two shapes in the official clients, so they stay JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_details: Option<serde_json::Value>,
}

impl ErrorBody {
    /// The error code, and the first of our own fields that the details name: `validation_error.beneficiary_name`. Never the provider's free text.
    #[must_use]
    pub fn code(&self) -> String {
        let named = |details: &serde_json::Value| {
            let parameters = details.get("parameters").unwrap_or(details);
            FIELDS.into_iter().find(|field| parameters.get(*field).is_some())
        };
        match self.error_details.as_ref().and_then(named) {
            Some(field) => format!("{}.{field}", self.error),
            None => self.error.clone(),
        }
    }
}

/// The fields of [`CreatePayout`].
const FIELDS: [&str; 7] =
    ["transaction_id", "beneficiary_name", "beneficiary_iban", "beneficiary_reference", "currency", "amount_in_minor", "context_code"];

/// The answer of `POST /connect/token` (H). The token is a secret: no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token {
    pub access_token: String,
    /// Seconds.
    pub expires_in: u64,
    #[serde(default)]
    pub token_type: String,
    #[serde(default)]
    pub scope: String,
}

/// The body of a webhook (H). What is inside depends on the type, so it is read later, as [`EventBody`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub event_type: String,
    pub event_id: String,
    pub event_schema_version: u32,
    pub event_body: serde_json::Value,
}

/// The inside of a payout's webhook. `transaction_id` and `authorised_at` are (H), the rest is ASSUMED and optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventBody {
    pub transaction_id: Uuid,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub authorised_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub rejected_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub returned_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The inside of the webhook about money that came in. ASSUMED, all of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopUpReceived {
    pub transaction_id: Uuid,
    pub currency: String,
    pub amount_in_minor: i64,
}

/// A timestamp as the provider writes it: `2019-10-01T17:00:00.0000000Z` (H). Any RFC 3339 text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.7}", self.0)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Timestamp::deserialize(deserializer).map(Self)
    }
}

/// A value that is nice to have: what cannot be read counts as absent, so that a provider's slip in a detail does not hide a status.
fn lenient<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(T::deserialize(value).ok())
}

macro_rules! shows_only {
    ($($kind:ident: $field:ident),+ $(,)?) => {$(
        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($kind)).field(stringify!($field), &self.$field).finish_non_exhaustive()
            }
        }
    )+};
}

shows_only!(CreatePayout: transaction_id, Payout: transaction_id, TopUp: transaction_id, Balance: currency, ErrorBody: error, Event: event_type);

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    /// Parses a fixture, writes it again and compares, so that no field is lost or renamed on either way.
    fn survives<T: Serialize + DeserializeOwned>(name: &str) -> T {
        let path = format!("{}/fixtures/truelayer/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect(&path);
        let parsed: T = serde_json::from_str(&text).expect(name);
        let expected: serde_json::Value = serde_json::from_str(&text).expect(name);
        assert_eq!(serde_json::to_value(&parsed).expect(name), expected, "{name}");
        parsed
    }

    #[test]
    fn fixtures_survive_both_ways() {
        let create: CreatePayout = survives("create-request");
        assert_eq!(create.amount_in_minor, 12_345);
        for status in ["new", "authorised", "submitted", "settled", "failed", "failed-before-submission", "rejected", "returned"] {
            let one: One<Payout> = survives(&format!("payout-{status}"));
            assert_eq!(one.result.transaction_id, create.transaction_id);
        }
        let many: Many<Transaction> = survives("transactions");
        assert!(matches!(many.results[..], [Transaction::Payout(_), Transaction::Payout(_), Transaction::TopUp(_)]));
        let balances: Many<Balance> = survives("balances");
        assert_eq!(balances.results.len(), 2);
        survives::<Token>("token");
        let error: ErrorBody = survives("error-validation");
        assert_eq!(error.code(), "validation_error.beneficiary_name");
        let error: ErrorBody = survives("error-validation-flat");
        assert_eq!(error.code(), "validation_error.beneficiary_iban");
        survives::<ErrorBody>("error-not-found");
        for event in ["authorised", "submitted", "settled", "rejected", "failed", "returned"] {
            let event: Event = survives(&format!("notice-payout-{event}"));
            let body: EventBody = serde_json::from_value(event.event_body.clone()).expect("a payout's event");
            assert_eq!(serde_json::to_value(body).expect("serialises"), event.event_body);
        }
        survives::<Event>("notice-topup-received");
    }

    /// The bytes of the create request are what is signed, stored and sent again: their order and spacing are fixed.
    #[test]
    fn the_create_request_has_fixed_bytes() {
        let create: CreatePayout = survives("create-request");
        let text = serde_json::to_string(&create).expect("serialises");
        assert_eq!(
            text,
            r#"{"transaction_id":"7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e21","beneficiary_name":"Ada Quill","beneficiary_iban":"GB82WEST12345698765432","beneficiary_reference":"Invoice 1187","currency":"GBP","amount_in_minor":12345,"context_code":"withdrawal"}"#
        );
    }

    #[test]
    fn requests_are_strict_and_answers_tolerant() {
        let create: CreatePayout = survives("create-request");
        let mut value = serde_json::to_value(&create).expect("serialises");
        value["amount_in_minor"] = serde_json::json!(1.0);
        assert!(serde_json::from_value::<CreatePayout>(value.clone()).is_err(), "a float is not an amount");
        value["amount_in_minor"] = serde_json::json!(1);
        value["note"] = serde_json::json!("x");
        assert!(serde_json::from_value::<CreatePayout>(value).is_err(), "an unknown field");

        let one: One<Payout> = survives("payout-settled");
        let mut value = serde_json::to_value(&one).expect("serialises");
        value["result"]["settled_at"] = serde_json::json!("yesterday");
        value["result"]["new_field"] = serde_json::json!({});
        let read: One<Payout> = serde_json::from_value(value).expect("reads");
        assert_eq!((read.result.settled_at, read.result.status.as_str()), (None, "settled"));
    }

    #[test]
    fn timestamps_have_seven_digits() {
        for (text, expected) in [
            ("2019-10-01T17:00:00.0000000Z", "2019-10-01T17:00:00.0000000Z"),
            ("2021-08-03T13:13:53.910Z", "2021-08-03T13:13:53.9100000Z"),
            ("2020-05-18T12:17:47+02:00", "2020-05-18T10:17:47.0000000Z"),
        ] {
            let moment: Moment = serde_json::from_value(serde_json::json!(text)).expect(text);
            assert_eq!(moment.to_string(), expected);
        }
    }

    #[test]
    fn debug_shows_no_names_or_accounts() {
        let create: CreatePayout = survives("create-request");
        let one: One<Payout> = survives("payout-settled");
        let balances: Many<Balance> = survives("balances");
        let error: ErrorBody = survives("error-validation");
        let text = format!("{create:?} {one:?} {balances:?} {error:?}");
        for secret in ["Ada", "GB82", "Invoice", "Quill"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
