//! Worldpay's account payouts on the wire: requests of both generations, answers that both share, notices.
//!
//! Requests are strict (unknown fields are errors, as at the provider), answers tolerant. Types that hold names or accounts show nothing but references
//! in `Debug`. Labels: **(H)** read in the provider's documents, **ASSUMED** found nowhere.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::worldpay::decimal::Decimal;
use crate::worldpay::lenient;

/// The body of `POST /accountPayouts` (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreatePayout {
    pub merchant: Merchant,
    /// 6 to 50 characters.
    pub transaction_reference: String,
    pub instruction: Instruction,
}

/// The body of `POST /accountPayouts/batch`: 1 to 500 payouts (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateBatch {
    pub merchant: Merchant,
    pub payouts: Vec<BatchItem>,
}

/// Most payouts of one batch (H).
pub const MAX_BATCH: usize = 500;

/// One payout of a batch. Its reference is unique in the batch (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchItem {
    pub instruction: Instruction,
    pub transaction_reference: String,
    /// In place of that of the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant: Option<Merchant>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merchant {
    /// 1 to 32 characters.
    pub entity: String,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instruction {
    /// ISO 3166, two letters.
    pub country_code: String,
    pub value: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrative: Option<Narrative>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose_of_payment: Option<Purpose>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_type: Option<String>,
    /// Preferences, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceAccount>,
    pub beneficiary_bank_details: BankDetails,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parties: Vec<Party>,
}

/// Exactly one of the two amounts; a 0 counts as none (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Value {
    pub source_currency: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_amount: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_currency: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_amount: Option<Decimal>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrative {
    /// 6 to 50 characters.
    pub line1: String,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    pub code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceAccount {
    /// Exactly 16 characters.
    pub account_number: String,
}

/// An IBAN, or an account number with what its country needs (H).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BankDetails {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iban: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_number: Option<String>,
    /// A sort code, a routing number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bank_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swift_bic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bank_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<serde_json::Value>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Party {
    pub party_type: String,
    pub personal_details: PersonalDetails,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<serde_json::Value>,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonalDetails {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
}

/// The body of `POST /payouts/accounts/single`, version 2, and, without requester, an item of a batch of version 1 (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LegacyPayout {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    pub transaction_reference: String,
    pub country_code: String,
    pub source_currency: String,
    /// 0 beside a target amount, as in the provider's example (H).
    pub source_amount: Decimal,
    pub target_currency: String,
    pub target_amount: Decimal,
    pub narrative: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose_of_payment_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_type_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    pub bank_details: LegacyBankDetails,
    pub parties: Vec<LegacyParty>,
}

/// Who asks, and under which reference: `instructing_treasury_id` and `api_request_reference` are what a repeat is recognised by (H).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requester {
    /// Exactly 6 characters.
    pub instructing_treasury_id: String,
    /// Exactly 6 characters.
    pub entity: String,
    pub api_request_reference: String,
}

/// The body of `POST /payouts/accounts/batch`, version 1. The guide writes the outer names with capitals (H); that any are read is ASSUMED.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegacyBatch {
    #[serde(rename = "RequesterDetails", alias = "requesterDetails")]
    pub requester: LegacyBatchRequester,
    #[serde(rename = "Payouts", alias = "payouts")]
    pub payouts: Vec<LegacyPayout>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegacyBatchRequester {
    #[serde(rename = "InstructingTreasuryId", alias = "instructingTreasuryId")]
    pub instructing_treasury_id: String,
    #[serde(alias = "Entity")]
    pub entity: String,
    #[serde(rename = "ApiRequestReference", alias = "apiRequestReference")]
    pub api_request_reference: String,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LegacyBankDetails {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beneficiary_account_type_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beneficiary_account_number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iban: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bank_code: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LegacyParty {
    pub party_type_code: String,
    pub personal_details: LegacyPerson,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LegacyPerson {
    pub type_code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
}

/// The answer to a single create: 202 for a new payout, 200 for a repeat (H). The older generation's names are ASSUMED.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Accepted {
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub payout_request_id: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub ubr: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub api_request_reference: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
}

/// One line of the answer to a new batch (H); a repeat of a batch is answered with an object without ids (H).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AcceptedItem {
    pub transaction_reference: String,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub payout_request_id: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub ubr: Option<String>,
}

/// A payout as a read or a search shows it (H). Only its state and what it can be told by matter to us.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<String>,
    /// When it was submitted; no other time is told (H).
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub payment_datetime: Option<String>,
    pub payment_state: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub payout_request_id: Option<String>,
    /// The older generation's name of it (ASSUMED).
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub ubr: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub transaction_reference: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub target_currency: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_amount: Option<Decimal>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub source_currency: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_amount: Option<Decimal>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub payee_name: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub iban: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub account_number: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub bank_code: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub narrative: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub country_code: Option<String>,
}

impl Item {
    /// The provider's id, by whichever name.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.payout_request_id.as_deref().or(self.ubr.as_deref())
    }
}

/// A page of a search (H).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub items: Vec<Item>,
    #[serde(default)]
    pub pagination: Pagination,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pagination {
    pub page_number: u32,
    pub page_size: u32,
    pub page_count: u32,
    pub total_number_of_records: u32,
}

/// A notification. Its envelope is ASSUMED; that the ids are inside `originalPaymentInfo` is (H), with a name per generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Notification {
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub notification_id: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub notification_type: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub notification_date_time: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub original_payment_info: Option<OriginalPayment>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub payment_state: Option<String>,
}

/// Which payout a notification is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OriginalPayment {
    #[serde(rename = "payoutRequestID", deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub payout_request_id: Option<String>,
    /// The same with the capitals of the rest of the API, in case.
    #[serde(rename = "payoutRequestId", deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub payout_request_id_too: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub ubr: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub api_request_reference: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub transaction_reference: Option<String>,
}

macro_rules! shows_only {
    ($($kind:ident $field:ident),+ $(,)?) => {$(
        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($kind)).field(stringify!($field), &self.$field).finish_non_exhaustive()
            }
        }
    )+};
}

shows_only!(CreatePayout transaction_reference, BatchItem transaction_reference, CreateBatch merchant, Merchant entity, Instruction value);
shows_only!(Value target_currency, LegacyPayout transaction_reference, Requester api_request_reference, LegacyBatch requester);
shows_only!(LegacyBatchRequester api_request_reference, Item payment_state);
