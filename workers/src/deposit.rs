//! Deposits: money that a provider says came in becomes a top-up of the balance account that it belongs to.
//!
//! Whose it is, the platform has said in `deposits.accounts`: an account at a provider belongs to one party. The top-up bears the provider's id of the movement
//! as its key, so it is recorded once however many notices tell of it, and once too where the platform tells of it by `POST /v1/top-ups` under the same key.
//! What belongs to nobody here, or to an account that does not keep money of its own, is tried again for a day and then put aside: it is counted among the
//! orphans, and kept until a person has seen to it.

use std::collections::BTreeSet;

use domain::account::{Funding, TopUp};
use domain::fact::{Deposit, Provider};
use domain::id::{Mode, PartyId, TopUpId};
use serde::{Deserialize, Serialize};

use crate::execute::Payouts;
use crate::queue::Lease;
use crate::settle::put_off_before;
use crate::store::StoreError;
use crate::store::accounts::ToppedUp;
use crate::store::lanes::{SettleWork, Ticket};
use crate::store::notices::Settled;

/// Whose the money at providers is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub accounts: Vec<AccountOf>,
}

/// An account at a provider, and whose money comes into it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountOf {
    pub provider: Provider,
    pub mode: Mode,
    /// The provider's own name of it.
    pub account: String,
    /// Its balance account in the currency of the money is topped up.
    pub party: PartyId,
}

/// A deposit as it is stored between the request that brought it and its settlement.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredDeposit {
    /// The version of this form.
    pub v: u8,
    pub provider: Provider,
    /// Whose keys verified it.
    pub mode: Mode,
    pub deposit: Deposit,
}

/// The version of the form. Others are those of other notices.
pub(crate) const VERSION: u8 = 3;

/// What became of a deposit, when it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It topped an account up.
    Recorded,
    /// It had done so before.
    Known,
    /// Its key had, with another amount.
    Conflict,
    /// No party has that account.
    Unclaimed,
    /// The provider funds the balance account, so there is nothing to top up.
    ProviderFunded,
    /// The account would hold too much.
    Full,
}

impl Outcome {
    pub const ALL: [Self; 6] = [Self::Recorded, Self::Known, Self::Conflict, Self::Unclaimed, Self::ProviderFunded, Self::Full];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Known => "known",
            Self::Conflict => "conflict",
            Self::Unclaimed => "unclaimed",
            Self::ProviderFunded => "provider_funded",
            Self::Full => "full",
        }
    }
}

impl Settings {
    /// What is wrong, each with its place in the list and its key.
    #[must_use]
    pub fn problems(&self) -> Vec<(usize, &'static str, &'static str)> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (place, AccountOf { provider, mode, account, .. }) in self.accounts.iter().enumerate() {
            if account.is_empty() {
                found.push((place, "account", "must not be empty"));
            }
            if !seen.insert((provider, mode.as_str(), account)) {
                found.push((place, "account", "is named twice: its money belongs to one party"));
            }
        }
        found
    }

    fn party(&self, StoredDeposit { provider, mode, deposit, .. }: &StoredDeposit) -> Option<&PartyId> {
        let is_it = |of: &&AccountOf| (of.provider, of.mode, &of.account) == (*provider, *mode, &deposit.account);
        self.accounts.iter().find(is_it).map(|of| &of.party)
    }
}

impl StoredDeposit {
    #[must_use]
    pub const fn new(provider: Provider, mode: Mode, deposit: Deposit) -> Self {
        Self { v: VERSION, provider, mode, deposit }
    }
}

impl Payouts {
    /// Settles a deposit. Running it twice records it once.
    ///
    /// # Errors
    /// As every call of the store.
    pub(crate) async fn deposit(&self, work: &SettleWork, lease: &Lease<Ticket>, stored: &StoredDeposit) -> Result<(), StoreError> {
        let store = &self.recorder.store;
        let outcome = self.top_up(stored).await?;
        self.recorder.metrics.deposited(stored.provider, stored.mode, outcome);
        let settled = match outcome {
            Outcome::Recorded | Outcome::Known => Settled::Done,
            // No time mends that.
            Outcome::Conflict => Settled::Aside,
            Outcome::Unclaimed | Outcome::ProviderFunded | Outcome::Full => put_off_before(Settled::Aside, work, store.clock().now()),
        };
        if settled != Settled::Done {
            let (provider, outcome) = (stored.provider.name(), outcome.as_str());
            if settled == Settled::Aside {
                tracing::error!(notice.id = %work.id, provider, outcome, "money came in that no account could be given; it is put aside");
            } else {
                tracing::warn!(notice.id = %work.id, provider, outcome, "money came in that no account can be given yet");
            }
        }
        fail::fail_point!("deposit-not-settled");
        store.settled(work, lease.ticket(), settled).await
    }

    async fn top_up(&self, stored: &StoredDeposit) -> Result<Outcome, StoreError> {
        let Some(party) = self.deposits.party(stored) else { return Ok(Outcome::Unclaimed) };
        let store = &self.recorder.store;
        let StoredDeposit { provider, mode, deposit: Deposit { transaction_id, money, .. }, .. } = stored;
        let transaction_id = transaction_id.to_string();
        let keeps_money = store.account(party, *mode, money.currency()).await?.account.funding == Funding::Balance;
        // Whose it is stays so, whatever the configuration says by now: the process that claimed it may have died before it was booked.
        let owner = store.owner_of_deposit(*provider, *mode, &transaction_id, keeps_money.then_some(party)).await?;
        let Some(party) = owner else { return Ok(Outcome::ProviderFunded) };
        let id = TopUpId::derive(&party, *mode, &transaction_id, store.shards());
        let top_up = TopUp { id, party, mode: *mode, transaction_id, money: *money, recorded_at: store.clock().now() };
        Ok(match store.top_up(&top_up).await? {
            ToppedUp::New => Outcome::Recorded,
            ToppedUp::Exists(held) if held.money == *money => Outcome::Known,
            ToppedUp::Exists(_) => Outcome::Conflict,
            ToppedUp::ProviderFunded => Outcome::ProviderFunded,
            ToppedUp::Full => Outcome::Full,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_belongs_to_one_party() {
        let of = |account: &str, party: &str| {
            let party = PartyId::parse(party).expect("a party");
            AccountOf { provider: Provider::TruelayerV3, mode: Mode::Test, account: account.to_owned(), party }
        };
        let problems = |accounts: Vec<AccountOf>| Settings { accounts }.problems();
        assert_eq!(problems(vec![of("a", "x"), of("b", "x"), AccountOf { mode: Mode::Live, ..of("a", "y") }]), []);
        assert_eq!(problems(vec![of("a", "x"), of("", "x"), of("a", "y")]).iter().map(|(place, ..)| *place).collect::<Vec<_>>(), [1, 2]);
    }
}
