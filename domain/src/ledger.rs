//! Double entry in its smallest form: money moves from one account to another of the same party, mode and currency.
//!
//! An entry names both sides and one amount, so a set of entries cannot be out of balance: Σ = 0 holds by construction, not by a check.

use serde::{Deserialize, Serialize};

/// The accounts of one party, mode and currency. The sum over all of them is always zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Account {
    /// May be paid out. Below zero only where the provider funds the payouts.
    Available,
    /// Promised to payouts that have not ended.
    Reserved,
    /// Has left.
    Settled,
}

impl Account {
    /// The field name in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Reserved => "reserved",
            Self::Settled => "settled",
        }
    }
}

/// One movement between two accounts, in minor units of the payout's currency; never negative, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub from: Account,
    pub to: Account,
    pub minor: i64,
}
