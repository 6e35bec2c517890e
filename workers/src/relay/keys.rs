//! The installation's own keys for webhooks: Ed25519, the `v1a` of Standard Webhooks. Who verifies by them needs no secret, only the published keys.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer};

/// Keys of an installation, at most: each of them signs.
pub const KEYS_MAX: usize = 4;
/// Signatures of a message that are looked at, at most: each takes a look at all of it.
const SIGNATURES_MAX: usize = 16;

const PRIVATE: &str = "whsk_";
const PUBLIC: &str = "whpk_";

/// The keys that sign for those who want it, all of them at once, so that one can be replaced while receivers still trust only the other. Cheap to clone.
#[derive(Clone, Default)]
pub struct SigningKeys(Arc<Vec<Ed25519KeyPair>>);

/// What everybody may know of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Follows from the key: the beginning of its SHA-256.
    pub kid: String,
    /// Its 32 bytes in base64url, as a JWK holds them.
    pub x: String,
    /// `whpk_` and their base64, as libraries for Standard Webhooks take it.
    pub text: String,
}

/// Why a text is not a key. Never repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a signing key for webhooks is whsk_ and the base64 of 64 bytes, the seed and the public key")]
    Form,
    #[error("a public key for webhooks is whpk_ and the base64 of 32 bytes")]
    Public,
    #[error("the two halves of a signing key for webhooks do not belong together")]
    Halves,
    #[error("there can be 4 signing keys for webhooks")]
    Many,
}

impl SigningKeys {
    /// Reads `whsk_…`, newest first.
    ///
    /// # Errors
    /// [`KeyError`]: the first thing that is wrong.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let pair = |text: &str| {
            let bytes = text.strip_prefix(PRIVATE).and_then(|encoded| STANDARD.decode(encoded).ok()).ok_or(KeyError::Form)?;
            let (seed, public) = bytes.split_at_checked(32).filter(|(_, public)| public.len() == 32).ok_or(KeyError::Form)?;
            Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| KeyError::Halves)
        };
        let pairs = texts.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        if pairs.len() > KEYS_MAX { Err(KeyError::Many) } else { Ok(Self(Arc::new(pairs))) }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys to verify with, in the order in which they sign.
    #[must_use]
    pub fn published(&self) -> Vec<PublicKey> {
        self.0.iter().map(|pair| PublicKey::of(pair.public_key().as_ref())).collect()
    }

    /// The signatures of a message, one per key, as they stand in `webhook-signature`. Empty if there are no keys.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mut signatures = String::new();
        self.add_to(&mut signatures, id, timestamp_s, body);
        signatures.trim_start().to_owned()
    }

    /// Adds a signature of each key to those of a message.
    pub(super) fn add_to(&self, signatures: &mut String, id: &str, timestamp_s: i64, body: &[u8]) {
        let message = message(id, timestamp_s, body);
        for pair in self.0.iter() {
            let _ = write!(signatures, " v1a,{}", STANDARD.encode(pair.sign(&message)));
        }
    }
}

/// What is signed.
fn message(id: &str, timestamp_s: i64, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{id}.{timestamp_s}.").into_bytes();
    message.extend_from_slice(body);
    message
}

impl PublicKey {
    /// Reads `whpk_…`.
    ///
    /// # Errors
    /// [`KeyError::Public`].
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let bytes = text.strip_prefix(PUBLIC).and_then(|encoded| STANDARD.decode(encoded).ok()).filter(|bytes| bytes.len() == 32);
        bytes.map(|bytes| Self::of(&bytes)).ok_or(KeyError::Public)
    }

    /// Whether one of these `v1a` signatures of a message was made with this key.
    #[must_use]
    pub fn has_signed(&self, signatures: &str, id: &str, timestamp_s: i64, body: &[u8]) -> bool {
        let Ok(key) = URL_SAFE_NO_PAD.decode(&self.x) else { return false };
        let (key, message) = (UnparsedPublicKey::new(&ED25519, key), message(id, timestamp_s, body));
        let signatures = signatures.split(' ').filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1a,")?).ok()).take(SIGNATURES_MAX);
        signatures.into_iter().any(|signature| key.verify(&message, &signature).is_ok())
    }

    fn of(bytes: &[u8]) -> Self {
        let kid = URL_SAFE_NO_PAD.encode(&digest(&SHA256, bytes).as_ref()[..12]);
        Self { kid, x: URL_SAFE_NO_PAD.encode(bytes), text: format!("{PUBLIC}{}", STANDARD.encode(bytes)) }
    }
}

/// Makes a key of this seed, which must come from a source that nobody can guess: the text for the configuration, and its public half.
///
/// # Errors
/// [`KeyError::Form`] if the library does not take the seed.
pub fn make(seed: &[u8; 32]) -> Result<(String, PublicKey), KeyError> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Form)?;
    let public = pair.public_key().as_ref();
    Ok((format!("{PRIVATE}{}", STANDARD.encode([seed, public].concat())), PublicKey::of(public)))
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({} redacted)", self.0.len())
    }
}

impl<'de> Deserialize<'de> for SigningKeys {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(input)?;
        Self::read(texts.iter().map(String::as_str)).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";

    /// The published example of the specification.
    #[test]
    fn the_published_vector_agrees() {
        let keys = SigningKeys::read([KEY]).unwrap();
        let mut signatures = "v1,x".to_owned();
        keys.add_to(&mut signatures, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signatures, "v1,x v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==");
        assert_eq!(keys.published()[0].text, "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=");
    }

    /// More signatures than anybody has sent are not worth the time that each takes.
    #[test]
    fn only_so_many_signatures_are_looked_at() {
        let keys = SigningKeys::read([KEY]).unwrap();
        let (right, wrong) = (keys.sign("msg_1", 5, b"{}"), format!("v1a,{}", STANDARD.encode([1; 64])));
        let behind = |others: usize| format!("{}{right}", format!("{wrong} ").repeat(others));
        let has_signed = |signatures: &str| keys.published()[0].has_signed(signatures, "msg_1", 5, b"{}");
        assert!(has_signed(&behind(SIGNATURES_MAX - 1)) && !has_signed(&behind(SIGNATURES_MAX)));
    }

    #[test]
    fn keys_are_read_strictly_and_never_shown() {
        let (made, public) = make(&[7; 32]).unwrap();
        let keys = SigningKeys::read([made.as_str(), KEY]).unwrap();
        assert_eq!((keys.published().len(), &keys.published()[0]), (2, &public));
        assert_eq!(format!("{keys:?}"), "SigningKeys(2 redacted)");
        let crossed = format!("whsk_{}", STANDARD.encode([[7; 32], [8; 32]].concat()));
        for (text, expected) in [(&KEY[5..], KeyError::Form), ("whsk_AAAA", KeyError::Form), ("whsk_!", KeyError::Form), (&crossed, KeyError::Halves)]
        {
            assert_eq!(SigningKeys::read([text]).err(), Some(expected));
        }
        assert_eq!(SigningKeys::read([KEY; 5]).err(), Some(KeyError::Many));
    }
}
