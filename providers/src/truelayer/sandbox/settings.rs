//! What a sandbox is like.

use secrecy::SecretString;
use serde::Deserialize;

use super::book::Account;
use super::door::ClientKey;
use super::notices::NoticeSignature;
use crate::sandbox::behaviour::Behaviour;

/// What a sandbox is like. Everything has a default except the client's credentials.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub client_id: String,
    pub client_secret: SecretString,
    /// The keys that requests may be signed with.
    pub client_keys: Vec<ClientKey>,
    /// Where notices go; none are sent without it.
    #[serde(default)]
    pub notice_url: Option<String>,
    /// The address under which others reach the sandbox; by default that of the listener. Webhooks name it as the source of keys.
    #[serde(default)]
    pub public_url: Option<String>,
    #[serde(default)]
    pub notice_signature: NoticeSignature,
    /// Deliveries of one notice until a 2xx.
    #[serde(default = "defaults::notice_attempts")]
    pub notice_attempts: u32,
    /// The wait before the second; later waits grow, up to 30 s.
    #[serde(default = "defaults::notice_wait_ms")]
    pub notice_wait_ms: u64,
    #[serde(default = "defaults::stage_ms")]
    pub authorise_after_ms: u64,
    #[serde(default = "defaults::stage_ms")]
    pub submit_after_ms: u64,
    #[serde(default = "defaults::stage_ms")]
    pub settle_after_ms: u64,
    #[serde(default = "defaults::token_life_s")]
    pub token_life_s: u64,
    /// Whether a second create is answered with 409 `duplicate_transaction_id` instead of 202. Both are ASSUMED; the first content wins either way (H).
    #[serde(default)]
    pub duplicates_conflict: bool,
    /// Whether a second create is carried out again, as by a provider that does not recognise repeats. The API shows one payout, the ledger two movements.
    #[serde(default)]
    pub pays_repeats: bool,
    #[serde(default = "defaults::accounts")]
    pub accounts: Vec<Account>,
    #[serde(default)]
    pub behaviour: Behaviour,
}

mod defaults {
    use super::super::book::Account;

    pub(super) const fn notice_attempts() -> u32 {
        10
    }
    pub(super) const fn notice_wait_ms() -> u64 {
        200
    }
    pub(super) const fn stage_ms() -> u64 {
        200
    }
    pub(super) const fn token_life_s() -> u64 {
        3600
    }
    pub(super) fn accounts() -> Vec<Account> {
        let account = |currency: &str, iban: &str| Account {
            currency: currency.to_owned(),
            iban: iban.to_owned(),
            balance_in_minor: 1_000_000_000_000,
            account_owner: "Sandbox Platform".to_owned(),
        };
        vec![account("GBP", "GB29NWBK60161331926819"), account("EUR", "DE89370400440532013000")]
    }
}

impl Settings {
    /// The defaults for a client with these credentials.
    #[must_use]
    pub fn new(client_id: impl Into<String>, client_secret: SecretString, client_keys: Vec<ClientKey>) -> Self {
        Self {
            client_id: client_id.into(),
            client_secret,
            client_keys,
            notice_url: None,
            public_url: None,
            notice_signature: NoticeSignature::default(),
            notice_attempts: defaults::notice_attempts(),
            notice_wait_ms: defaults::notice_wait_ms(),
            authorise_after_ms: defaults::stage_ms(),
            submit_after_ms: defaults::stage_ms(),
            settle_after_ms: defaults::stage_ms(),
            token_life_s: defaults::token_life_s(),
            duplicates_conflict: false,
            pays_repeats: false,
            accounts: defaults::accounts(),
            behaviour: Behaviour::default(),
        }
    }
}
