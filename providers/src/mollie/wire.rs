//! Mollie's Payouts and Balances API v2 on the wire: the same types serve the client and the sandbox, and the fixtures keep both honest.
//!
//! Requests are strict (unknown fields are errors), answers tolerant. Amounts are texts in major units and are converted exactly or not at all.
//! Labels: **(H)** read in the provider's documents or libraries, **ASSUMED** found nowhere.

use std::fmt;

use domain::id::ProviderKey;
use domain::money::{Currency, Money};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest description, in characters (H).
pub const MAX_DESCRIPTION: usize = 255;

/// An amount (H): `{"currency": "EUR", "value": "10.00"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    pub currency: String,
    /// Major units, with as many decimals as the currency has.
    pub value: String,
}

impl Amount {
    /// The same amount, digit by digit.
    #[must_use]
    pub fn of(money: Money) -> Self {
        Self { currency: money.currency().code().to_owned(), value: money.to_decimal() }
    }

    /// The amount in our words; `None` if it is none, if it is not positive, or if it is finer than the currency.
    #[must_use]
    pub fn exact(&self) -> Option<Money> {
        let currency = Currency::parse(&self.currency).ok()?;
        Money::from_decimal(&self.value, currency).ok()
    }
}

/// The body of `POST /v2/payouts` (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreatePayout {
    pub balance_id: String,
    /// Absent: all that is available. We always write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// At most 255 characters; appears on the statement. Ours ends with our key, see [`describe`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// For credentials of an organisation only; with an API key it must not be sent (H).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub testmode: Option<bool>,
}

/// The description of an attempt: the text for the statement, a space, and our key. It is what a look recognises our create by.
#[must_use]
pub fn describe(reference: &str, key: ProviderKey) -> String {
    format!("{reference} {key}")
}

/// The key at the end of a description that [`describe`] made. Any UUID in that place counts: whether it is ours, the payout's record says.
#[must_use]
pub fn described_key(description: &str) -> Option<ProviderKey> {
    description.rsplit_once(' ').and_then(|(_, key)| key.parse().ok())
}

/// A payout as the provider shows it (H). In lists the links are missing and the description may be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payout {
    /// Always `payout`.
    pub resource: String,
    /// `payout_…`.
    pub id: String,
    pub balance_id: String,
    /// Absent for the whole balance, until it is known how much that is (ASSUMED).
    #[serde(default)]
    pub amount: Option<Amount>,
    #[serde(default)]
    pub description: Option<String>,
    /// `requested`, `initiated`, `processing-at-bank`, `completed`, `canceled`, `failed` (H).
    pub status: String,
    pub status_reason: StatusReason,
    pub created_at: Moment,
    #[serde(default, deserialize_with = "lenient")]
    pub initiated_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient")]
    pub completed_at: Option<Moment>,
    #[serde(default, deserialize_with = "lenient")]
    pub canceled_at: Option<Moment>,
    /// `live` or `test`.
    pub mode: String,
    #[serde(rename = "_links", default, skip_serializing_if = "Option::is_none")]
    pub links: Option<serde_json::Value>,
}

/// Why a payout has its status (H). The code is written with underscores where the status has hyphens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReason {
    pub code: String,
    #[serde(default)]
    pub message: String,
}

/// A page of payouts (H).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payouts {
    pub count: u64,
    #[serde(rename = "_embedded")]
    pub embedded: EmbeddedPayouts,
    #[serde(rename = "_links", default, deserialize_with = "lenient_links")]
    pub links: PageLinks,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddedPayouts {
    pub payouts: Vec<Payout>,
}

/// Where the next page is (H).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageLinks {
    /// `Some(None)`, in JSON `null`, on the last page (H). Absent, or not a link, it says nothing about whether there is another.
    #[serde(default, deserialize_with = "lenient")]
    pub next: Option<Option<Link>>,
    #[serde(default)]
    pub previous: Option<Link>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub href: String,
    #[serde(rename = "type", default)]
    pub media_type: String,
}

impl PageLinks {
    /// The id with which the next page begins, `Some(None)` on the last page, and `None` where that cannot be told. Only the id is taken from the link,
    /// never its address.
    #[must_use]
    pub fn next_from(&self) -> Option<Option<String>> {
        let Some(link) = self.next.as_ref()? else { return Some(None) };
        let next = url::Url::parse("https://api.mollie.com").ok()?.join(&link.href).ok()?;
        next.query_pairs().find(|(name, _)| name == "from").map(|(_, id)| Some(id.into_owned()))
    }
}

/// A balance (H). The account that it is paid out to is left out: it is personal data that nothing here needs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Balance {
    pub resource: String,
    /// `bal_…`.
    pub id: String,
    pub mode: String,
    pub created_at: Moment,
    pub currency: String,
    #[serde(default)]
    pub description: String,
    /// May be negative or zero, so it stays a text.
    pub available_amount: Amount,
    pub pending_amount: Amount,
    /// `daily`, `every-monday`, …; `never` after a payout was made through the API (H).
    pub transfer_frequency: String,
    #[serde(default)]
    pub transfer_threshold: Option<Amount>,
    /// `active` or `inactive` (H).
    pub status: String,
}

/// The answer to `GET /v2/balances` (H).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balances {
    pub count: u64,
    #[serde(rename = "_embedded")]
    pub embedded: EmbeddedBalances,
    #[serde(rename = "_links", default)]
    pub links: PageLinks,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddedBalances {
    pub balances: Vec<Balance>,
}

/// An error (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The HTTP status again: what tells an error of the provider from one of something in between.
    pub status: u16,
    pub title: String,
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(rename = "_links", default, skip_serializing_if = "Option::is_none")]
    pub links: Option<serde_json::Value>,
}

impl ErrorBody {
    /// Whether it is about the idempotency key, wherever it says so.
    #[must_use]
    pub fn is_about_the_key(&self) -> bool {
        [&self.title, &self.detail].into_iter().any(|text| text.to_ascii_lowercase().contains("idempotency"))
    }

    /// A code for the documented reasons of a refusal, found by what their sentences are about, because the exact texts are ASSUMED.
    /// Anything else is `unprocessable` and, if it is one of ours, the field. Never the provider's free text.
    #[must_use]
    pub fn code(&self) -> String {
        let detail = self.detail.to_ascii_lowercase();
        if let Some((_, code)) = REFUSALS.iter().find(|(words, _)| detail.contains(words)) {
            return (*code).to_owned();
        }
        match self.field.as_deref().and_then(|field| FIELDS.into_iter().find(|known| *known == field)) {
            Some(field) => format!("unprocessable.{field}"),
            None => "unprocessable".to_owned(),
        }
    }
}

/// The code of the reason that is about another payout: an earlier one of the balance waits for its day.
pub const ALREADY_SCHEDULED: &str = "payout_already_scheduled";

/// The documented reasons (H), by words of their sentences (ASSUMED).
const REFUSALS: [(&str, &str); 7] = [
    ("already scheduled", ALREADY_SCHEDULED),
    ("insufficient", "insufficient_funds"),
    ("not active", "balance_inactive"),
    ("blocked", "payouts_blocked"),
    ("queued refunds", "queued_refunds"),
    ("negative balance", "negative_balance"),
    ("destination", "destination_invalid"),
];

/// The fields of [`CreatePayout`].
const FIELDS: [&str; 5] = ["balanceId", "amount", "amount.currency", "amount.value", "description"];

/// The envelope of a webhook (H). Without the entity it is a "simple" one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Always `event`.
    #[serde(default)]
    pub resource: String,
    pub id: String,
    /// `payout.completed`, …
    #[serde(rename = "type")]
    pub event_type: String,
    pub entity_id: String,
    #[serde(default)]
    pub created_at: String,
    #[serde(rename = "_embedded", default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<Embedded>,
}

/// The entity as it was when the event happened; what is in it depends on the type.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embedded {
    pub entity: serde_json::Value,
}

/// What the header `RateLimit` says (H): `"get-v2-payments";r=15;t=2;mollie-burst=60`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests that are left in the window.
    pub remaining: u64,
    /// Seconds until the window ends.
    pub resets_in_s: u64,
}

impl RateLimit {
    /// Reads the first policy of the header; `None` for anything else.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let first = header.split(',').next()?;
        let parameter = |name: &str| first.split(';').skip(1).find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=')?.parse().ok());
        Some(Self { remaining: parameter("r")?, resets_in_s: parameter("t")? })
    }
}

/// A timestamp as the provider writes it: `2024-03-20T09:13:37+00:00` (H). Any RFC 3339 text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
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

fn lenient_links<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PageLinks, D::Error> {
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

// Descriptions are texts for a statement; messages and details are free text.
shows_only!(CreatePayout: balance_id, Payout: id, StatusReason: code, Balance: id, ErrorBody: status, Event: event_type);

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    pub(super) fn fixture(name: &str) -> String {
        let path = format!("{}/fixtures/mollie/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).expect(&path)
    }

    /// Parses a fixture, writes it again and compares, so that no field is lost or renamed on either way.
    fn survives<T: Serialize + DeserializeOwned>(name: &str) -> T {
        let text = fixture(name);
        let parsed: T = serde_json::from_str(&text).expect(name);
        let expected: serde_json::Value = serde_json::from_str(&text).expect(name);
        assert_eq!(serde_json::to_value(&parsed).expect(name), expected, "{name}");
        parsed
    }

    #[test]
    fn fixtures_survive_both_ways() {
        let create: CreatePayout = survives("create-request");
        assert_eq!(create.amount.as_ref().and_then(Amount::exact).map(Money::minor), Some(1000));
        for status in ["requested", "initiated", "processing-at-bank", "completed", "canceled", "failed", "returned"] {
            let payout: Payout = survives(&format!("payout-{status}"));
            assert_eq!(payout.description, create.description, "{status}");
        }
        let page: Payouts = survives("payouts");
        assert_eq!(page.links.next_from(), Some(Some("payout_Zb7Nq2".to_owned())));
        let balance: Balance = serde_json::from_str(&fixture("balance")).expect("a balance");
        assert_eq!((balance.available_amount.value.as_str(), balance.transfer_frequency.as_str()), ("905.25", "daily"));
        let error: ErrorBody = survives("error-balance-id");
        assert_eq!(error.code(), "unprocessable.balanceId");
    }

    /// The bytes of the create request are stored and sent again: their order and spacing are fixed.
    #[test]
    fn the_create_request_has_fixed_bytes() {
        let create: CreatePayout = survives("create-request");
        assert_eq!(
            serde_json::to_string(&create).expect("serialises"),
            r#"{"balanceId":"bal_gVMhHKqSSRYJyPsuoPNFH","amount":{"currency":"EUR","value":"10.00"},"description":"Week 12 7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20"}"#
        );
        assert!(serde_json::from_str::<CreatePayout>(r#"{"balanceId":"b","note":1}"#).is_err(), "requests are strict");
    }

    /// What the wire says in, minor units or nothing out. Never rounded.
    #[test]
    fn amounts_are_exact_or_refused() {
        for (currency, value, expected) in [
            ("EUR", "10.00", Some(1000)),
            ("EUR", "0.01", Some(1)),
            ("EUR", "9999999999999.99", Some(Money::MAX_MINOR)),
            ("EUR", "10", Some(1000)),
            ("EUR", "10.001", None),
            ("EUR", "10.000", None),
            ("EUR", "1e1", None),
            ("EUR", "0.00", None),
            ("EUR", "-1.00", None),
            ("EUR", "10000000000000.00", None),
            ("JPY", "7", Some(7)),
            ("JPY", "7.0", None),
            ("eur", "1.00", None),
        ] {
            let amount = Amount { currency: currency.to_owned(), value: value.to_owned() };
            assert_eq!(amount.exact().map(Money::minor), expected, "{currency} {value}");
            if let Some(money) = amount.exact() {
                assert_eq!(Amount::of(money).exact(), Some(money));
            }
        }
        let number: Result<Amount, _> = serde_json::from_str(r#"{"currency":"EUR","value":10.00}"#);
        assert!(number.is_err(), "a JSON number has been a float on its way");
    }

    #[test]
    fn a_description_carries_our_key() {
        let key: ProviderKey = "7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20".parse().expect("a key");
        assert_eq!(described_key(&describe("Week 12", key)), Some(key));
        for text in [
            "Week 12",
            "",
            " ",
            "7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20",
            "x 7C0A3F52-94F1-4BE0-8D1C-5A9D0C6F7E20",
            "7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20 x",
        ] {
            assert_eq!(described_key(text), None, "{text:?}");
        }
    }

    /// Each sentence of the documentation in, our code out; a sentence that is not there becomes no code of its own.
    #[test]
    fn refusals_have_codes() {
        for (detail, field, code) in [
            ("A payout is already scheduled for the next business day for this balance.", None, "payout_already_scheduled"),
            ("The balance has insufficient funds.", None, "insufficient_funds"),
            ("The balance is not active.", None, "balance_inactive"),
            ("Payouts are blocked for this organization.", None, "payouts_blocked"),
            ("The balance has queued refunds.", None, "queued_refunds"),
            ("One of the organization's balances is below the negative balance threshold.", None, "negative_balance"),
            ("The payout destination (bank account) is invalid or not configured.", None, "destination_invalid"),
            ("The amount is lower than the minimum", Some("amount.value"), "unprocessable.amount.value"),
            ("Ada says no", Some("<script>"), "unprocessable"),
            ("", None, "unprocessable"),
        ] {
            let error = ErrorBody { status: 422, title: String::new(), detail: detail.to_owned(), field: field.map(str::to_owned), links: None };
            assert_eq!(error.code(), code, "{detail}");
        }
    }

    #[test]
    fn rate_limits_are_read() {
        let limit = |header| RateLimit::parse(header).map(|limit| (limit.remaining, limit.resets_in_s));
        assert_eq!(limit(r#""get-v2-payments";r=15;t=2;mollie-burst=60"#), Some((15, 2)));
        assert_eq!(limit(r#""a"; r=0; t=7, "b";r=9;t=9"#), Some((0, 7)));
        for header in ["", "r=1", r#""a";r=1"#, r#""a";r=x;t=1"#, r#""a";r=-1;t=1"#] {
            assert_eq!(limit(header), None, "{header}");
        }
    }

    #[test]
    fn answers_are_tolerant() {
        let mut value: serde_json::Value = serde_json::from_str(&fixture("payout-completed")).expect("JSON");
        value["initiatedAt"] = "soon".into();
        value["newField"] = serde_json::json!({"a": 1});
        value["status"] = "teleported".into();
        value.as_object_mut().expect("an object").remove("description");
        let payout: Payout = serde_json::from_value(value).expect("reads");
        assert_eq!((payout.initiated_at, payout.description, payout.status.as_str()), (None, None, "teleported"));
        for (text, expected) in
            [("2024-03-20T09:13:37+00:00", "2024-03-20T09:13:37+00:00"), ("2024-03-20T10:13:37.5+01:00", "2024-03-20T09:13:37+00:00")]
        {
            assert_eq!(serde_json::from_value::<Moment>(text.into()).expect(text).to_string(), expected);
        }
    }

    #[test]
    fn debug_shows_no_texts() {
        let shown = format!(
            "{:?} {:?} {:?} {:?}",
            survives::<CreatePayout>("create-request"),
            survives::<Payout>("payout-failed"),
            survives::<ErrorBody>("error-balance-id"),
            serde_json::from_str::<Balance>(&fixture("balance")).expect("a balance"),
        );
        for secret in ["Week", "John", "INGB", "field is invalid", "processing error"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
