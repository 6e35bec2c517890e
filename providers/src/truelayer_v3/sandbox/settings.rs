//! What a sandbox is like.

use secrecy::SecretString;
use serde::Deserialize;

use super::transactions::ListFault;
use crate::sandbox::behaviour::Behaviour;
use crate::truelayer::sandbox::ClientKey;

/// A merchant account of the sandbox's own. One per currency.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub id: String,
    pub currency: String,
    pub balance_in_minor: i64,
}

/// What a sandbox is like. Everything has a default except the client's credentials.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub client_id: String,
    pub client_secret: SecretString,
    /// The keys that requests may be signed with.
    pub client_keys: Vec<ClientKey>,
    #[serde(default = "defaults::accounts")]
    pub accounts: Vec<Account>,
    /// Where notices go; none are sent without it.
    #[serde(default)]
    pub notice_url: Option<String>,
    /// The address under which others reach the sandbox; by default that of the listener. Webhooks name it as the source of keys.
    #[serde(default)]
    pub public_url: Option<String>,
    /// Deliveries of one notice until a 2xx.
    #[serde(default = "defaults::notice_attempts")]
    pub notice_attempts: u32,
    /// The wait before the second; later waits grow, up to an hour.
    #[serde(default = "defaults::stage_ms")]
    pub notice_wait_ms: u64,
    #[serde(default = "defaults::stage_ms")]
    pub authorize_after_ms: u64,
    #[serde(default = "defaults::stage_ms")]
    pub execute_after_ms: u64,
    /// Whether a look shows a return; if not, only the notice tells of it. Documents differ (H).
    #[serde(default = "defaults::yes")]
    pub returns_shown: bool,
    /// Transactions on a page of a list (H).
    #[serde(default = "defaults::page_size")]
    pub page_size: usize,
    /// How lists of transactions are wrong.
    #[serde(default)]
    pub list_faults: Vec<ListFault>,
    /// Whether notices carry the metadata of the create, and with it the client's own key.
    #[serde(default = "defaults::yes")]
    pub tells_metadata: bool,
    #[serde(default = "defaults::token_life_s")]
    pub token_life_s: u64,
    /// How long a key is remembered: a day (ASSUMED).
    #[serde(default = "defaults::remembered_ms")]
    pub remembered_ms: u64,
    #[serde(default)]
    pub behaviour: Behaviour,
}

mod defaults {
    pub(super) const fn notice_attempts() -> u32 {
        10
    }
    pub(super) const fn stage_ms() -> u64 {
        200
    }
    pub(super) const fn yes() -> bool {
        true
    }
    pub(super) const fn page_size() -> usize {
        1_000
    }
    pub(super) const fn token_life_s() -> u64 {
        3600
    }
    pub(super) const fn remembered_ms() -> u64 {
        24 * 3_600_000
    }
    pub(super) fn accounts() -> Vec<super::Account> {
        let account =
            |id: &str, currency: &str| super::Account { id: id.to_owned(), currency: currency.to_owned(), balance_in_minor: 1_000_000_000_000 };
        vec![account("sandbox-pounds", "GBP"), account("sandbox-euros", "EUR")]
    }
}

impl Settings {
    /// The defaults for a client with these credentials, and these accounts.
    #[must_use]
    pub fn new(client_id: impl Into<String>, client_secret: SecretString, client_keys: Vec<ClientKey>, accounts: Vec<Account>) -> Self {
        Self {
            client_id: client_id.into(),
            client_secret,
            client_keys,
            accounts,
            notice_url: None,
            public_url: None,
            notice_attempts: defaults::notice_attempts(),
            notice_wait_ms: defaults::stage_ms(),
            authorize_after_ms: defaults::stage_ms(),
            execute_after_ms: defaults::stage_ms(),
            returns_shown: true,
            page_size: defaults::page_size(),
            list_faults: Vec::new(),
            tells_metadata: true,
            token_life_s: defaults::token_life_s(),
            remembered_ms: defaults::remembered_ms(),
            behaviour: Behaviour::default(),
        }
    }
}
