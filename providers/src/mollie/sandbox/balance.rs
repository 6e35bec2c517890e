//! The sandbox's balances: what is in them, and what can be wrong with them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::money::{Currency, Money};
use serde::Deserialize;

use crate::mollie::wire::{Amount, Balance, Moment};
use crate::sandbox::book::Out;

/// A balance of the sandbox's own. One per currency.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// `bal_…`.
    pub id: String,
    pub currency: String,
    pub balance_in_minor: i64,
}

/// Why payouts of a balance are refused: the documented reasons, one by one (H).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trouble {
    pub inactive: bool,
    pub blocked: bool,
    pub queued_refunds: bool,
    pub negative_balance: bool,
    pub no_destination: bool,
}

impl Trouble {
    /// The sentence of the documentation for the first trouble; that it is the text of the error is ASSUMED.
    pub(super) const fn sentence(self) -> Option<&'static str> {
        let Self { inactive, blocked, queued_refunds, negative_balance, no_destination } = self;
        if inactive {
            Some("The balance is not active.")
        } else if blocked {
            Some("Payouts are blocked for this organization.")
        } else if queued_refunds {
            Some("The balance has queued refunds.")
        } else if negative_balance {
            Some("One of the organization's balances is below the negative balance threshold.")
        } else if no_destination {
            Some("The payout destination (bank account) is invalid or not configured.")
        } else {
            None
        }
    }
}

pub(super) struct Balances(Mutex<Vec<State>>);

#[derive(Clone)]
pub(super) struct State {
    pub(super) account: Account,
    pub(super) trouble: Trouble,
    /// `never` once a payout was made through the API (H).
    frequency: &'static str,
}

impl Balances {
    pub(super) fn new(accounts: &[Account]) -> Self {
        let state = |account: &Account| State { account: account.clone(), trouble: Trouble::default(), frequency: "daily" };
        Self(Mutex::new(accounts.iter().map(state).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, id: &str) -> Option<State> {
        self.lock().iter().find(|state| state.account.id == id).cloned()
    }

    /// False if there is no such balance.
    pub(super) fn trouble(&self, id: &str, trouble: Trouble) -> bool {
        self.lock().iter_mut().find(|state| state.account.id == id).map(|state| state.trouble = trouble).is_some()
    }

    /// What a payout through the API does to the balance beside moving its money (H).
    pub(super) fn pause(&self, id: &str) {
        if let Some(state) = self.lock().iter_mut().find(|state| state.account.id == id) {
            state.frequency = "never";
        }
    }

    pub(super) fn all(&self, mode: &str, out: &Out, now: Moment) -> Vec<Balance> {
        self.lock().iter().map(|state| state.shown(mode, out, now)).collect()
    }
}

impl State {
    /// What is in the balance and has not left, in minor units.
    pub(super) fn available(&self, out: &Out) -> i128 {
        i128::from(self.account.balance_in_minor) - out.get(&self.account.currency).copied().unwrap_or_default()
    }

    pub(super) fn shown(&self, mode: &str, out: &Out, now: Moment) -> Balance {
        let zero = || decimal(0, &self.account.currency);
        Balance {
            resource: "balance".to_owned(),
            id: self.account.id.clone(),
            mode: mode.to_owned(),
            created_at: now,
            currency: self.account.currency.clone(),
            description: "Sandbox balance".to_owned(),
            available_amount: decimal(self.available(out), &self.account.currency),
            pending_amount: zero(),
            transfer_frequency: self.frequency.to_owned(),
            transfer_threshold: None,
            status: if self.trouble.inactive { "inactive" } else { "active" }.to_owned(),
        }
    }
}

/// An amount that may be zero or less, which [`Money`] is not.
fn decimal(minor: i128, currency: &str) -> Amount {
    let exact = Currency::parse(currency).ok().and_then(|code| Money::new(i64::try_from(minor.unsigned_abs()).ok()?, code).ok());
    let digits = exact.map_or_else(|| "0.00".to_owned(), Money::to_decimal);
    Amount { currency: currency.to_owned(), value: if minor < 0 { format!("-{digits}") } else { digits } }
}
