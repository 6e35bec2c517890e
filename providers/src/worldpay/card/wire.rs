//! Worldpay's card payouts on the wire, versions 2 to 4, and the events about them. Version 1 is read by the sandbox only.
//!
//! Requests are strict (unknown fields are errors, as at the provider since version 2), answers tolerant. Types that hold cards or names show nothing but
//! references and outcomes in `Debug`. Labels: **(H)** read in the provider's documents, **ASSUMED** found nowhere.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::worldpay::lenient;

/// The body of `POST /payouts/basicDisbursement` and `POST /payouts/fastAccess` (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreatePayout {
    /// 1 to 64 characters, ours, unique: that a second one is refused is documented nowhere.
    pub transaction_reference: String,
    pub merchant: Merchant,
    pub instruction: Instruction,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merchant {
    /// 1 to 32 letters, digits and spaces.
    pub entity: String,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instruction {
    pub narrative: Narrative,
    pub value: Value,
    pub payout_instrument: Instrument,
    /// With fast access only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<Routing>,
}

/// What the cardholder reads: at most 24 characters a line (H); in version 1 a text of at most 25 (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrative {
    pub line1: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line2: Option<String>,
}

/// Longest line of a narrative (H).
pub const MAX_NARRATIVE: usize = 24;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    pub currency: String,
    /// An integer in the currency's minor unit (H).
    pub amount: i64,
}

/// What is paid to (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Instrument {
    #[serde(rename = "card/plain", rename_all = "camelCase")]
    Plain {
        card_number: String,
        card_expiry_date: ExpiryDate,
        /// Required in version 1 (H).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        card_holder_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        billing_address: Option<serde_json::Value>,
    },
    #[serde(rename = "card/tokenized")]
    Tokenized { href: String },
    #[serde(rename = "card/networkToken", rename_all = "camelCase")]
    NetworkToken { token_number: String, expiry_date: ExpiryDate },
    #[serde(rename = "card/networkToken+applepay", rename_all = "camelCase")]
    ApplePay {
        dpan: String,
        card_expiry_date: ExpiryDate,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        card_holder_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        billing_address: Option<serde_json::Value>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpiryDate {
    pub month: i8,
    pub year: i16,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Routing {
    /// `maestro` or `mastercard`, in the United States (H).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_card_brand: Option<String>,
    /// `enabled` or `disabled`; without, a payout that the scheme does not answer goes by basic disbursement (H).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_to_basic: Option<String>,
}

/// The answer to a create, with 201, and to a look, with 200 (H).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payout {
    pub outcome: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub received_at: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub refusal_code: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    #[serde(default, rename = "_links", deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub links: Option<Links>,
    /// Where version 1, and until 2020 version 2, had them (H); later they are inside the links.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub curies: Option<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheme {
    pub name: String,
    pub reference: String,
}

/// Where to ask about a payout. The one for updates has been seen with the same address only (H).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Links {
    #[serde(rename = "payouts:payout", deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub payout: Option<Link>,
    #[serde(rename = "payouts:update", deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub update: Option<Link>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub curies: Option<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub href: String,
}

/// The path of card payouts (H).
pub const PAYOUTS: &str = "/payouts";

impl Payout {
    /// The part of its link that names the payout: opaque, at most 1,024 characters (H). Whatever host the link names, we ask our own.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        let links = self.links.as_ref()?;
        let Link { href } = links.payout.as_ref().or(links.update.as_ref())?;
        let (_, resource) = href.split_once("/payouts/")?;
        is_resource(resource).then_some(resource)
    }
}

/// Whether a text can be the last part of a path, and nothing else: characters that need no escape, and no step to another path.
#[must_use]
pub fn is_resource(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'=' | b'+' | b':' | b',' | b'%');
    (1..=1024).contains(&text.len()) && text.bytes().all(plain) && !text.bytes().all(|byte| byte == b'.') && !text.to_ascii_lowercase().contains("%2")
}

/// The body of an event (H).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub event_id: String,
    /// Without a zone: UTC (ASSUMED).
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub event_timestamp: Option<String>,
    pub event_details: EventDetails,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventDetails {
    /// `payout`; for what becomes of a basic disbursement `payment` (H).
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub classification: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub transaction_reference: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub amount: Option<EventAmount>,
}

/// An integer in minor units (H).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventAmount {
    pub value: i64,
    pub currency_code: String,
}

macro_rules! shows_nothing {
    ($($kind:ident),+ $(,)?) => {$(
        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($kind)).finish_non_exhaustive()
            }
        }
    )+};
}

shows_nothing!(Merchant, Instruction, Narrative, Value, Instrument, ExpiryDate, Routing);

impl fmt::Debug for CreatePayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatePayout").field("transaction_reference", &self.transaction_reference).finish_non_exhaustive()
    }
}
