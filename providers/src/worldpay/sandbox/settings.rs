//! What a sandbox is like.

use secrecy::SecretString;
use serde::Deserialize;

use crate::sandbox::behaviour::Behaviour;
use crate::worldpay::signature::EventKey;

/// What a sandbox is like. Everything has a default except the client's credentials.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub username: String,
    pub password: SecretString,
    /// Who may pay. Another entity is answered as the provider does: 403 to accounts, 422 to cards.
    #[serde(default = "defaults::entity")]
    pub entity: String,
    /// Where notifications of account payouts go; none are sent without it.
    #[serde(default)]
    pub account_notice_url: Option<String>,
    /// Where events of card payouts go; none are sent without it.
    #[serde(default)]
    pub card_notice_url: Option<String>,
    /// Whether notifications of account payouts carry the client's own reference, beside the provider's id.
    #[serde(default = "defaults::yes")]
    pub tells_reference: bool,
    /// The keys with which notices are signed, all of them at once; not signed without.
    #[serde(default)]
    pub event_keys: Vec<EventKey>,
    /// The wait before a notice is sent again: 15 minutes (H), growing.
    #[serde(default = "defaults::notice_wait_ms")]
    pub notice_wait_ms: u64,
    /// Up to 2 hours (H).
    #[serde(default = "defaults::notice_longest_wait_ms")]
    pub notice_longest_wait_ms: u64,
    /// For one week (H).
    #[serde(default = "defaults::notice_total_ms")]
    pub notice_total_ms: u64,
    /// The address under which others reach the sandbox, for links; by default that of the listener.
    #[serde(default)]
    pub public_url: Option<String>,
    /// From one state to the next.
    #[serde(default = "defaults::stage_ms")]
    pub stage_ms: u64,
    /// For the mood `silent`: stands for the 48 hours after which a scheme's silence becomes an error (H).
    #[serde(default = "defaults::stage_ms")]
    pub silent_after_ms: u64,
    /// The status of `checkOutcome`, which is documented nowhere.
    #[serde(default = "defaults::check_outcome_status")]
    pub check_outcome_status: u16,
    /// Whether a second card payout under one reference is refused with 409 instead of paid again. Both are ASSUMED; the worse is the default.
    #[serde(default)]
    pub rejects_card_repeats: bool,
    /// Whether a repeated account payout is carried out again, as by a provider that does not recognise repeats.
    #[serde(default)]
    pub pays_account_repeats: bool,
    /// Whether a batch that is refused is carried out all the same, but for the payouts at fault. That it is refused whole is ASSUMED.
    #[serde(default)]
    pub pays_refused_batches: bool,
    /// Whether `payoutNotFound` has its older text.
    #[serde(default)]
    pub older_not_found_text: bool,
    #[serde(default)]
    pub behaviour: Behaviour,
}

mod defaults {
    pub(super) fn entity() -> String {
        "default".to_owned()
    }
    pub(super) const fn notice_wait_ms() -> u64 {
        15 * 60 * 1000
    }
    pub(super) const fn notice_longest_wait_ms() -> u64 {
        2 * 3600 * 1000
    }
    pub(super) const fn notice_total_ms() -> u64 {
        7 * 24 * 3600 * 1000
    }
    pub(super) const fn stage_ms() -> u64 {
        200
    }
    pub(super) const fn check_outcome_status() -> u16 {
        500
    }
    pub(super) const fn yes() -> bool {
        true
    }
}

impl Settings {
    /// The defaults for a client with these credentials.
    #[must_use]
    pub fn new(username: impl Into<String>, password: SecretString) -> Self {
        Self {
            username: username.into(),
            password,
            entity: defaults::entity(),
            account_notice_url: None,
            card_notice_url: None,
            tells_reference: true,
            event_keys: Vec::new(),
            notice_wait_ms: defaults::notice_wait_ms(),
            notice_longest_wait_ms: defaults::notice_longest_wait_ms(),
            notice_total_ms: defaults::notice_total_ms(),
            public_url: None,
            stage_ms: defaults::stage_ms(),
            silent_after_ms: defaults::stage_ms(),
            check_outcome_status: defaults::check_outcome_status(),
            rejects_card_repeats: false,
            pays_account_repeats: false,
            pays_refused_batches: false,
            older_not_found_text: false,
            behaviour: Behaviour::default(),
        }
    }
}
