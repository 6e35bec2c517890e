//! What a sandbox is like.

use secrecy::SecretString;
use serde::Deserialize;

use super::balance::Account;
use super::notices::{Payload, Spelling};
use crate::sandbox::behaviour::Behaviour;

/// What a sandbox is like. Everything has a default except the client's key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `test_…` or `live_…` is an API key, anything else the token of an organisation.
    pub api_key: SecretString,
    /// The first one is the primary balance.
    #[serde(default = "defaults::balances")]
    pub balances: Vec<Account>,
    /// Where notices go; none are sent without it.
    #[serde(default)]
    pub notice_url: Option<String>,
    /// All of them sign every notice.
    #[serde(default)]
    pub notice_secrets: Vec<SecretString>,
    #[serde(default)]
    pub payload: Payload,
    #[serde(default)]
    pub spelling: Spelling,
    /// Deliveries of one notice until a success: 10 over about a day (ASSUMED).
    #[serde(default = "defaults::notice_attempts")]
    pub notice_attempts: u32,
    /// The wait before the second; later waits grow, up to 2 h (ASSUMED).
    #[serde(default = "defaults::notice_wait_ms")]
    pub notice_wait_ms: u64,
    /// What stands for "the next business day".
    #[serde(default = "defaults::stage_ms")]
    pub initiate_after_ms: u64,
    #[serde(default = "defaults::stage_ms")]
    pub process_after_ms: u64,
    #[serde(default = "defaults::stage_ms")]
    pub complete_after_ms: u64,
    /// Whether a return comes instead of the completion (H) and not after it (ASSUMED).
    #[serde(default)]
    pub return_uncompleted: bool,
    /// How long the list does not show a new payout.
    #[serde(default)]
    pub list_lag_ms: u64,
    /// Whether the list leaves descriptions out, which it may (H).
    #[serde(default)]
    pub list_undescribed: bool,
    /// How long a key is remembered: an hour (H).
    #[serde(default = "defaults::remembered_ms")]
    pub remembered_ms: u64,
    /// Whether a payout is refused while another of its balance waits for its day (H).
    #[serde(default = "defaults::yes")]
    pub one_per_balance: bool,
    #[serde(default)]
    pub behaviour: Behaviour,
}

mod defaults {
    pub(super) const fn notice_attempts() -> u32 {
        10
    }
    pub(super) const fn notice_wait_ms() -> u64 {
        60_000
    }
    pub(super) const fn stage_ms() -> u64 {
        200
    }
    pub(super) const fn remembered_ms() -> u64 {
        3_600_000
    }
    pub(super) const fn yes() -> bool {
        true
    }
    pub(super) fn balances() -> Vec<super::Account> {
        let balance =
            |id: &str, currency: &str| super::Account { id: id.to_owned(), currency: currency.to_owned(), balance_in_minor: 1_000_000_000_000 };
        vec![balance("bal_sandboxEuros", "EUR"), balance("bal_sandboxPounds", "GBP")]
    }
}

impl Settings {
    /// The defaults for a client with this key and these balances.
    #[must_use]
    pub fn new(api_key: SecretString, balances: Vec<Account>) -> Self {
        Self {
            api_key,
            balances,
            notice_url: None,
            notice_secrets: Vec::new(),
            payload: Payload::default(),
            spelling: Spelling::default(),
            notice_attempts: defaults::notice_attempts(),
            notice_wait_ms: defaults::notice_wait_ms(),
            initiate_after_ms: defaults::stage_ms(),
            process_after_ms: defaults::stage_ms(),
            complete_after_ms: defaults::stage_ms(),
            return_uncompleted: false,
            list_lag_ms: 0,
            list_undescribed: false,
            remembered_ms: defaults::remembered_ms(),
            one_per_balance: true,
            behaviour: Behaviour::default(),
        }
    }
}
