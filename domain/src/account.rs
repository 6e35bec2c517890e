//! Balance accounts: a party's money in one currency, who funds its payouts, and how money comes in.
//!
//! There is one account for each party, mode and currency. As long as nobody has set it up it is funded by the provider and enabled.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::destination::{BeneficiaryName, Iban};
use crate::id::{BalanceAccountId, Mode, PartyId, Shards, TopUpId};
use crate::money::{Currency, Money};

/// The most that may be available and reserved together, in minor units: what the store's scripts can compare without rounding, 2^53 - 1.
pub const BALANCE_MAX: i64 = 9_007_199_254_740_991;

/// Who has the money for an account's payouts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Funding {
    /// The provider says what can be paid: the ledger only counts, and what is available falls below zero.
    #[default]
    Provider,
    /// The account itself: a payout that it does not cover is rejected.
    Balance,
}

/// Whether payouts can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    #[default]
    Enabled,
    /// A payout that is asked for now is rejected. Those that were accepted go on: to stop them, dispatch is frozen.
    Disabled,
}

/// A balance account as the platform has set it up. What is in it is told by the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceAccount {
    pub id: BalanceAccountId,
    pub party: PartyId,
    pub mode: Mode,
    pub currency: Currency,
    /// 0 for an account that nobody has set up; one more with every change.
    pub version: u64,
    pub funding: Funding,
    pub status: Status,
    /// `None` for an account that nobody has set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
}

/// Whose account it is, and where money is sent to fund it. Personal data.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<BeneficiaryName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iban: Option<Iban>,
}

/// Money that came into a balance account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopUp {
    pub id: TopUpId,
    pub party: PartyId,
    pub mode: Mode,
    /// The caller's own key.
    pub transaction_id: String,
    pub money: Money,
    pub recorded_at: Timestamp,
}

impl BalanceAccount {
    /// The account as it is until somebody sets it up.
    #[must_use]
    pub fn unset(party: &PartyId, mode: Mode, currency: Currency, shards: Shards) -> Self {
        Self {
            id: BalanceAccountId::derive(party, mode, currency, shards),
            party: party.clone(),
            mode,
            currency,
            version: 0,
            funding: Funding::default(),
            status: Status::default(),
            created_at: None,
            updated_at: None,
        }
    }
}
