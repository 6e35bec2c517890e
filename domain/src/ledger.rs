//! Double entry in its smallest form: money moves from one account to another of the same party, mode and currency.
//!
//! An entry names both sides and one amount, so a set of entries cannot be out of balance: Σ = 0 holds by construction, not by a check.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The accounts of one party, mode and currency. The sum over all of them is always zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Account {
    /// The account's own money that may be paid out. Payouts take it, and give it back, unless their provider funds them: then it is [`Account::Clearing`] that
    /// the store books instead.
    Available,
    /// Promised to payouts that have not ended.
    Reserved,
    /// Has left.
    Settled,
    /// Where money comes from: below zero by what was topped up.
    TopUps,
    /// Below zero by what the provider has funded: what payouts hold and what has left, of those that were asked for while it funded the account.
    Clearing,
}

impl Account {
    pub const ALL: [Self; 5] = [Self::Available, Self::Reserved, Self::Settled, Self::TopUps, Self::Clearing];

    /// The field name in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Reserved => "reserved",
            Self::Settled => "settled",
            Self::TopUps => "top-ups",
            Self::Clearing => "clearing",
        }
    }
}

/// What is in each account, in minor units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balances(BTreeMap<Account, i64>);

impl Balances {
    #[must_use]
    pub fn of(&self, account: Account) -> i64 {
        self.0.get(&account).copied().unwrap_or(0)
    }

    /// What is in one of them by a later word.
    pub fn set(&mut self, account: Account, minor: i64) {
        self.0.insert(account, minor);
    }

    /// What all accounts together are off by. Anything but 0 is a fault.
    #[must_use]
    pub fn imbalance(&self) -> i64 {
        self.0.values().fold(0, |sum: i64, minor| sum.saturating_add(*minor))
    }
}

impl FromIterator<(Account, i64)> for Balances {
    fn from_iter<I: IntoIterator<Item = (Account, i64)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

/// One movement between two accounts, in minor units of the payout's currency; never negative, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub from: Account,
    pub to: Account,
    pub minor: i64,
}
