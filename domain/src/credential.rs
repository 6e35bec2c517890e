//! Who may do what: API keys, their scopes and the public keys that their requests are signed with.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::id::{ApiKeyId, Mode, PartyId};

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    #[serde(rename = "payouts.read")]
    PayoutsRead,
    #[serde(rename = "payouts.write")]
    PayoutsWrite,
    /// Approve payouts that somebody else has asked for.
    #[serde(rename = "payouts.approve")]
    PayoutsApprove,
    #[serde(rename = "webhooks.read")]
    WebhooksRead,
    #[serde(rename = "webhooks.write")]
    WebhooksWrite,
    #[serde(rename = "balances.read")]
    BalancesRead,
    /// Set accounts up and top them up. Of no use to a key that is bound to a party.
    #[serde(rename = "balances.write")]
    BalancesWrite,
    /// Read parties and their payout instruments.
    #[serde(rename = "parties.read")]
    PartiesRead,
    /// Make, change and deactivate them: for keys of the platform.
    #[serde(rename = "parties.write")]
    PartiesWrite,
    /// Decide payouts in review, freeze, replay.
    #[serde(rename = "operator")]
    Operator,
}

/// Whose data a key reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Every party; requests name the party, or mean the default one.
    Platform,
    Party(PartyId),
}

/// A public key that a caller signs with, ES512, by the id that the signature names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    pub kid: String,
    /// SubjectPublicKeyInfo, PEM.
    pub public_key_pem: String,
}

/// An API key as it is stored. The token itself is shown once and never stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub mode: Mode,
    /// The person or system that holds it. Maker and checker are compared by this, not by key.
    pub owner: String,
    pub reach: Reach,
    pub scopes: BTreeSet<Scope>,
    /// Whether requests that move money or change a destination must be signed. Only a test key can be made without this duty.
    pub must_sign: bool,
    pub signing_keys: Vec<SigningKey>,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// Why a key cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("only a test key can be made without the duty to sign")]
    LiveKeyMustSign,
    #[error("a key that must sign needs a registered public key")]
    NoSigningKey,
    #[error("a key needs at least one scope")]
    NoScope,
    #[error("a key needs an owner of 1 to 64 characters")]
    NoOwner,
}

// === impl Scope ===

impl Scope {
    pub const ALL: [Self; 10] = [
        Self::PayoutsRead,
        Self::PayoutsWrite,
        Self::PayoutsApprove,
        Self::WebhooksRead,
        Self::WebhooksWrite,
        Self::BalancesRead,
        Self::BalancesWrite,
        Self::PartiesRead,
        Self::PartiesWrite,
        Self::Operator,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PayoutsRead => "payouts.read",
            Self::PayoutsWrite => "payouts.write",
            Self::PayoutsApprove => "payouts.approve",
            Self::WebhooksRead => "webhooks.read",
            Self::WebhooksWrite => "webhooks.write",
            Self::BalancesRead => "balances.read",
            Self::BalancesWrite => "balances.write",
            Self::PartiesRead => "parties.read",
            Self::PartiesWrite => "parties.write",
            Self::Operator => "operator",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

// === impl ApiKey ===

impl ApiKey {
    /// Checks the rules that hold for every key.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub fn check(&self) -> Result<(), CredentialError> {
        if self.owner.is_empty() || self.owner.chars().count() > 64 {
            return Err(CredentialError::NoOwner);
        }
        if self.scopes.is_empty() {
            return Err(CredentialError::NoScope);
        }
        if self.mode == Mode::Live && !self.must_sign {
            return Err(CredentialError::LiveKeyMustSign);
        }
        let signed = [Scope::PayoutsWrite, Scope::PayoutsApprove, Scope::BalancesWrite, Scope::PartiesWrite];
        if self.must_sign && self.signing_keys.is_empty() && signed.iter().any(|scope| self.scopes.contains(scope)) {
            return Err(CredentialError::NoSigningKey);
        }
        Ok(())
    }

    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.revoked_at.is_none() && self.scopes.contains(&scope)
    }
}

/// The text of a token: `test_` or `live_` and 32 random bytes in base64url.
#[must_use]
pub fn token(mode: Mode, random: [u8; 32]) -> String {
    format!("{}_{}", mode.as_str(), URL_SAFE_NO_PAD.encode(random))
}

/// The mode that a token's text claims, if it has the shape of a token at all. Saves a look-up for nonsense.
#[must_use]
pub fn token_mode(token: &str) -> Option<Mode> {
    let (mode, random) = token.split_once('_')?;
    let mode = [Mode::Test, Mode::Live].into_iter().find(|known| known.as_str() == mode)?;
    (URL_SAFE_NO_PAD.decode(random).ok()?.len() == 32).then_some(mode)
}

/// What a token is stored and found under: HMAC-SHA256 with the installation's pepper, in hex. The token is 256 random bits, so no slow hash is needed.
#[must_use]
pub fn token_hash(pepper: &[u8], token: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(pepper).expect("HMAC takes keys of every length");
    mac.update(token.as_bytes());
    const_hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_its_mode_and_is_found_by_its_hash_only() {
        let text = token(Mode::Live, [7; 32]);
        assert!(text.starts_with("live_"));
        assert_eq!(token_mode(&text), Some(Mode::Live));
        assert_eq!(token_mode("live_abc"), None);
        assert_eq!(token_mode("prod_AAAA"), None);
        assert_eq!(token_hash(b"p", &text), token_hash(b"p", &text));
        assert_ne!(token_hash(b"p", &text), token_hash(b"q", &text));
    }
}
