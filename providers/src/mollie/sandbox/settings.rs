//! What a sandbox is like.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use super::balance::Account;
use super::notices::{Payload, Spelling};
use crate::sandbox::mood::Distribution;

/// What a sandbox is like. Everything has a default except the client's key and the balances.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `test_…` or `live_…` is an API key, anything else the token of an organisation.
    pub api_key: SecretString,
    /// The first one is the primary balance.
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
    /// For the mood `return`: from completed to returned.
    #[serde(default = "defaults::stage_ms")]
    pub return_after_ms: u64,
    /// Whether a return comes instead of the completion (H) and not after it (ASSUMED).
    #[serde(default)]
    pub return_uncompleted: bool,
    #[serde(default = "defaults::slow_answer_ms")]
    pub slow_answer_ms: u64,
    /// How long every answer to a create takes.
    #[serde(default)]
    pub answer_after_ms: u64,
    #[serde(default = "defaults::late_appear_ms")]
    pub late_appear_ms: u64,
    /// How long the list does not show a new payout.
    #[serde(default)]
    pub list_lag_ms: u64,
    /// Whether the list leaves descriptions out, which it may (H).
    #[serde(default)]
    pub list_undescribed: bool,
    /// In whole seconds, for the mood `rate-limit`.
    #[serde(default = "defaults::retry_after_s")]
    pub retry_after_s: u64,
    /// How long a key is remembered: an hour (H).
    #[serde(default = "defaults::remembered_ms")]
    pub remembered_ms: u64,
    /// Whether a payout is refused while another of its balance waits for its day (H).
    #[serde(default = "defaults::yes")]
    pub one_per_balance: bool,
    /// Whether amounts and references choose moods.
    #[serde(default = "defaults::yes")]
    pub magic: bool,
    /// Random moods for payouts that chose none.
    #[serde(default)]
    pub random: Option<Distribution>,
    /// A file, appended to, from which keys, payouts and movements are read again at the next start. May hold names and accounts.
    #[serde(default)]
    pub journal: Option<PathBuf>,
    /// Above this many keys, creates are answered with 503.
    #[serde(default = "defaults::keys_max")]
    pub keys_max: usize,
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
    pub(super) const fn slow_answer_ms() -> u64 {
        30_000
    }
    pub(super) const fn late_appear_ms() -> u64 {
        10_000
    }
    pub(super) const fn retry_after_s() -> u64 {
        1
    }
    pub(super) const fn remembered_ms() -> u64 {
        3_600_000
    }
    pub(super) const fn yes() -> bool {
        true
    }
    pub(super) const fn keys_max() -> usize {
        1_000_000
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
            return_after_ms: defaults::stage_ms(),
            return_uncompleted: false,
            slow_answer_ms: defaults::slow_answer_ms(),
            answer_after_ms: 0,
            late_appear_ms: defaults::late_appear_ms(),
            list_lag_ms: 0,
            list_undescribed: false,
            retry_after_s: defaults::retry_after_s(),
            remembered_ms: defaults::remembered_ms(),
            one_per_balance: true,
            magic: true,
            random: None,
            journal: None,
            keys_max: defaults::keys_max(),
        }
    }
}
