//! TrueLayer's Payouts API v3 on the wire: the same types serve the client and the sandbox, and the fixtures keep both honest.
//!
//! Requests are strict (unknown fields are errors), answers tolerant. Types that hold names or accounts show nothing of them in `Debug`.
//! Labels: **(H)** read in the provider's documents or libraries, **ASSUMED** found nowhere.

use std::collections::BTreeMap;
use std::fmt;

use domain::id::ProviderKey;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The body of `POST /v3/payouts` (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreatePayout {
    /// The account that pays; it has one currency.
    pub merchant_account_id: String,
    pub amount_in_minor: i64,
    /// ISO 4217.
    pub currency: String,
    pub beneficiary: Beneficiary,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme_selection: Option<SchemeSelection>,
    /// At most ten pairs; a key has at most 40 characters, a value 500 (H). Ours holds [`METADATA_KEY`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// The metadata under which our key travels: the provider repeats it in the payout and in its notices (H).
pub const METADATA_KEY: &str = "payrelay_key";

impl CreatePayout {
    /// Our key, from the metadata.
    #[must_use]
    pub fn key(&self) -> Option<ProviderKey> {
        key_in(&self.metadata)
    }
}

/// Our key in somebody's metadata, if it is there.
#[must_use]
pub fn key_in(metadata: &BTreeMap<String, String>) -> Option<ProviderKey> {
    metadata.get(METADATA_KEY)?.parse().ok()
}

/// Who is paid. The other kinds of the API pay to accounts that the provider knows, and are not used (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Beneficiary {
    ExternalAccount { account_holder_name: String, account_identifier: AccountIdentifier, reference: String },
}

/// An account (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum AccountIdentifier {
    Iban { iban: String },
    SortCodeAccountNumber { sort_code: String, account_number: String },
}

/// Which payment scheme carries the money (H).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum SchemeSelection {
    /// Braces, because serde lets unknown fields pass beside a variant without any.
    InstantOnly {},
    InstantPreferred {},
    Preselected {
        scheme_id: String,
    },
}

/// The answer to a create (H): an id, and nothing else that is certain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub id: String,
}

/// A payout as the provider shows it (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    pub id: String,
    pub merchant_account_id: String,
    pub amount_in_minor: i64,
    pub currency: String,
    /// One of several kinds, of which nothing is needed.
    pub beneficiary: serde_json::Value,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme_id: Option<String>,
    /// `pending`, `authorized`, `executed`, `failed` (H).
    pub status: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub executed_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Moment>,
    /// `blocked`, `insufficient_funds`, `invalid_iban`, `returned`, `scheme_error`, `server_error`, … (H).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
}

/// The answer to `GET /v3/merchant-accounts/{id}/transactions` (H).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transactions {
    pub items: Vec<Transaction>,
    /// Absent where nobody asked for pages; then nothing says that this is all (H).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagination: Option<Pagination>,
}

/// Where a list goes on (H).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pagination {
    /// Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What moved money into or out of a merchant account (H). Of `merchant_account_payment`, `external_payment`, `refund` and types that we do not know nothing is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Transaction {
    Payout(Box<PayoutTransaction>),
    #[serde(other)]
    Other,
}

/// A payout as the account's list shows it (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutTransaction {
    /// The payout's own id: those of payouts and of their transactions are the same (H).
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout_id: Option<String>,
    pub amount_in_minor: i64,
    pub currency: String,
    /// `pending`, `executed`; older libraries know `settled` (H).
    pub status: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub executed_at: Option<Moment>,
    /// The id of the payment that brought the money back (H).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_code: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// As in [`Payout`].
    #[serde(default)]
    pub beneficiary: serde_json::Value,
}

/// An account of ours at the provider (H). The account's numbers and its holder are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MerchantAccount {
    pub id: String,
    pub currency: String,
    pub available_balance_in_minor: i64,
    pub current_balance_in_minor: i64,
}

/// The answer to `GET /v3/merchant-accounts` (H).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MerchantAccounts {
    pub items: Vec<MerchantAccount>,
}

/// An error: RFC 7807 (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// An address whose fragment names the kind.
    #[serde(rename = "type", default)]
    pub kind: String,
    pub title: String,
    #[serde(default)]
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The id under which the provider's support finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// By field, what is wrong with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "lenient_errors")]
    pub errors: BTreeMap<String, serde_json::Value>,
}

impl Problem {
    /// The title as a code: `Invalid Parameters` is `invalid_parameters`.
    #[must_use]
    pub fn code(&self) -> String {
        self.title.trim().chars().take(64).map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
    }

    /// The code, and the first of our own fields that the errors name: `invalid_parameters.currency`. Never the provider's free text.
    #[must_use]
    pub fn reason(&self) -> String {
        let plain = |field: &str| field.trim_start_matches("$.").to_ascii_lowercase();
        let named = |known: &&'static str| self.errors.keys().any(|field| plain(field) == *known);
        match FIELDS.into_iter().find(named) {
            Some(field) => format!("{}.{}", self.code(), field.rsplit('.').next().unwrap_or(field)),
            None => self.code(),
        }
    }
}

/// The fields of [`CreatePayout`], as errors name them.
const FIELDS: [&str; 10] = [
    "merchant_account_id",
    "amount_in_minor",
    "currency",
    "beneficiary.account_holder_name",
    "beneficiary.reference",
    "beneficiary.account_identifier.iban",
    "beneficiary.account_identifier.sort_code",
    "beneficiary.account_identifier.account_number",
    "scheme_selection.scheme_id",
    "metadata",
];

/// The body of a webhook (H). Only `payout_executed` and `payout_failed` are about payouts; others have other fields.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    #[serde(rename = "type")]
    pub event_type: String,
    pub event_id: String,
    #[serde(default)]
    pub event_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout_id: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub executed_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// The webhook about money that came into a merchant account. Who sent it is not read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalPayment {
    #[serde(rename = "type")]
    pub event_type: String,
    pub event_id: String,
    #[serde(default)]
    pub event_version: u32,
    pub transaction_id: Uuid,
    pub merchant_account_id: String,
    pub currency: String,
    pub amount_in_minor: i64,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Moment>,
}

/// A timestamp as the provider writes it: with six fractional digits (H). Any RFC 3339 text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.6}", self.0))
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

fn lenient_errors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, serde_json::Value>, D::Error> {
    lenient(deserializer).map(Option::unwrap_or_default)
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

shows_only!(CreatePayout: currency, Payout: id, PayoutTransaction: id, Problem: title, Event: event_type);

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    /// Parses a fixture, writes it again and compares, so that no field is lost or renamed on either way.
    fn survives<T: Serialize + DeserializeOwned>(name: &str) -> T {
        let path = format!("{}/fixtures/truelayer_v3/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect(&path);
        let parsed: T = serde_json::from_str(&text).expect(name);
        let expected: serde_json::Value = serde_json::from_str(&text).expect(name);
        assert_eq!(serde_json::to_value(&parsed).expect(name), expected, "{name}");
        parsed
    }

    #[test]
    fn fixtures_survive_both_ways() {
        let create: CreatePayout = survives("create-request");
        assert_eq!(create.key().map(|key| key.to_string()).as_deref(), Some("7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20"));
        survives::<CreatePayout>("create-request-uk");
        survives::<Created>("created");
        for status in ["pending", "authorized", "executed", "failed", "returned"] {
            survives::<Payout>(&format!("payout-{status}"));
        }
        let problem: Problem = survives("error-parameters");
        assert_eq!((problem.code().as_str(), problem.reason().as_str()), ("invalid_parameters", "invalid_parameters.iban"));
        let problem: Problem = survives("error-reuse");
        assert_eq!(problem.reason(), "idempotency_key_reuse");
        for event in ["executed", "failed", "returned"] {
            survives::<Event>(&format!("notice-payout-{event}"));
        }
        survives::<ExternalPayment>("notice-external-payment-received");
    }

    /// The documented types of transactions: only payouts are read, and of them everything.
    #[test]
    fn transactions_are_read_as_far_as_they_are_payouts() {
        let path = format!("{}/fixtures/truelayer_v3/transactions.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect(&path);
        let read: Transactions = serde_json::from_str(&text).expect("transactions");
        let expected: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read.pagination.and_then(|pagination| pagination.next_cursor).as_deref(), expected["pagination"]["next_cursor"].as_str());
        for (item, expected) in read.items.iter().zip(expected["items"].as_array().expect("items")) {
            match item {
                Transaction::Payout(_) => assert_eq!(&serde_json::to_value(item).expect("serialises"), expected),
                Transaction::Other => assert_ne!(expected["type"], "payout"),
            }
        }
        assert_eq!(read.items.iter().filter(|item| matches!(item, Transaction::Payout(_))).count(), 3);
        assert!(!format!("{:?}", read.items).contains("Quill"));
    }

    /// The bytes of the create request are what is signed, stored and sent again: their order and spacing are fixed.
    #[test]
    fn the_create_request_has_fixed_bytes() {
        let create: CreatePayout = survives("create-request");
        assert_eq!(
            serde_json::to_string(&create).expect("serialises"),
            r#"{"merchant_account_id":"822f8dfe-0874-481b-b966-5b14f767792f","amount_in_minor":12345,"currency":"EUR","beneficiary":{"type":"external_account","account_holder_name":"Ada Quill","account_identifier":{"type":"iban","iban":"DE89370400440532013000"},"reference":"Invoice 1187"},"scheme_selection":{"type":"instant_preferred"},"metadata":{"payrelay_key":"7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20"}}"#
        );
    }

    #[test]
    fn requests_are_strict_and_answers_tolerant() {
        let create = serde_json::to_value(survives::<CreatePayout>("create-request")).expect("serialises");
        type Change = fn(&mut serde_json::Value);
        let changes: [Change; 5] = [
            |create| create["amount_in_minor"] = serde_json::json!(1.0),
            |create| create["note"] = serde_json::json!("x"),
            |create| create["beneficiary"]["note"] = serde_json::json!("x"),
            |create| create["beneficiary"]["account_identifier"]["bic"] = serde_json::json!("x"),
            |create| create["scheme_selection"]["note"] = serde_json::json!("x"),
        ];
        for change in changes {
            let mut changed = create.clone();
            change(&mut changed);
            assert!(serde_json::from_value::<CreatePayout>(changed.clone()).is_err(), "{changed}");
        }
        let mut payout = serde_json::to_value(survives::<Payout>("payout-executed")).expect("serialises");
        payout["executed_at"] = "yesterday".into();
        payout["metadata"] = serde_json::json!({"a": 1});
        payout["new_field"] = serde_json::json!([]);
        payout["status"] = "teleported".into();
        let payout: Payout = serde_json::from_value(payout).expect("reads");
        assert_eq!((payout.executed_at, payout.metadata, payout.status.as_str()), (None, None, "teleported"));
    }

    #[test]
    fn debug_shows_no_names_or_accounts() {
        let text = format!(
            "{:?} {:?} {:?} {:?}",
            survives::<CreatePayout>("create-request"),
            survives::<Payout>("payout-executed"),
            survives::<Problem>("error-parameters"),
            survives::<Event>("notice-payout-executed"),
        );
        for secret in ["Ada", "DE89", "Invoice", "Quill", "not valid"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
