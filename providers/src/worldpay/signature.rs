//! `Event-Signature`: the HMAC of a webhook's raw body under a secret that both sides know (H).
//!
//! `Event-Signature: {keyId}/{hashFunction}/{signature}[,…]`, where several keys are in use while one replaces another, in any order. The only function so
//! far is `SHA256`. How the signature is written is not documented: hexadecimal in any case and both alphabets of base64 are read; the sandbox
//! writes lower-case hexadecimal. All of that is ASSUMED.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::SetupError;

/// The header of signatures (H).
pub const EVENT_SIGNATURE: HeaderName = HeaderName::from_static("event-signature");

/// Signatures of one webhook that are looked at.
const MAX_SIGNATURES: usize = 8;

/// A secret, under the id that signatures name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventKey {
    /// Grows by one with each replacement (H).
    pub id: String,
    pub secret: SecretString,
    /// What the text of the secret stands for; ASSUMED.
    #[serde(default)]
    pub encoding: Encoding,
}

/// How a secret is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// The bytes of the text itself.
    #[default]
    Utf8,
    Hex,
    Base64,
}

/// Why a webhook is not believed. Answer 400 (H).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    #[error("there is no signature")]
    Missing,
    #[error("the signature cannot be read")]
    Malformed,
    #[error("no signature is by a key that we have")]
    UnknownKey,
    #[error("the signature does not match")]
    Mismatch,
}

/// The keys of one account.
#[derive(Clone, Default)]
pub struct Keyring(Vec<(String, hmac::Key)>);

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

impl Keyring {
    /// # Errors
    ///
    /// [`SetupError::Unusable`] for an empty or repeated id, and for a secret that is empty or not in its encoding.
    pub fn new(keys: &[EventKey]) -> Result<Self, SetupError> {
        let mut ring: Vec<(String, hmac::Key)> = Vec::new();
        for EventKey { id, secret, encoding } in keys {
            let text = secret.expose_secret();
            let bytes = match encoding {
                Encoding::Utf8 => Some(text.as_bytes().to_vec()),
                Encoding::Hex => from_hex(text),
                Encoding::Base64 => STANDARD.decode(text).ok(),
            };
            let bytes = bytes
                .filter(|bytes| !bytes.is_empty())
                .ok_or(SetupError::Unusable("event_keys", "has a secret that is empty or not in its encoding"))?;
            if id.is_empty() || id.contains(['/', ',', ' ']) || ring.iter().any(|(known, _)| known == id) {
                return Err(SetupError::Unusable("event_keys", "has an id that is empty, repeated, or holds one of the separators"));
            }
            ring.push((id.clone(), hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
        }
        Ok(Self(ring))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the signatures is by one of these keys, over exactly these bytes. Takes the same time wherever they differ.
    ///
    /// # Errors
    ///
    /// [`Unsigned`].
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Unsigned> {
        let mut failure = Unsigned::Missing;
        let values = headers.get_all(EVENT_SIGNATURE).iter().flat_map(|value| value.to_str().unwrap_or("?").split(','));
        for value in values.map(str::trim).take(MAX_SIGNATURES) {
            // Base64 may hold a slash.
            let mut parts = value.splitn(3, '/');
            let (Some(id), Some(function), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
                failure = worse(failure, Unsigned::Malformed);
                continue;
            };
            if !function.eq_ignore_ascii_case("SHA256") {
                failure = worse(failure, Unsigned::Malformed);
                continue;
            }
            let Some((_, key)) = self.0.iter().find(|(known, _)| known == id) else {
                failure = worse(failure, Unsigned::UnknownKey);
                continue;
            };
            if readings(signature).iter().any(|tag| hmac::verify(key, body, tag).is_ok()) {
                return Ok(());
            }
            failure = Unsigned::Mismatch;
        }
        Err(failure)
    }

    /// The value of the header, with one signature per key.
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> String {
        let one = |(id, key): &(String, hmac::Key)| format!("{id}/SHA256/{}", const_hex::encode(hmac::sign(key, body)));
        self.0.iter().map(one).collect::<Vec<_>>().join(",")
    }
}

/// What is told about several signatures: the one that came closest.
fn worse(held: Unsigned, found: Unsigned) -> Unsigned {
    let rank = |unsigned| match unsigned {
        Unsigned::Missing => 0,
        Unsigned::Malformed => 1,
        Unsigned::UnknownKey => 2,
        Unsigned::Mismatch => 3,
    };
    if rank(found) > rank(held) { found } else { held }
}

/// The bytes that a signature may stand for.
fn readings(text: &str) -> Vec<Vec<u8>> {
    let base64 = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].into_iter().filter_map(|alphabet| alphabet.decode(text).ok());
    from_hex(text).into_iter().chain(base64).filter(|bytes| bytes.len() == 32).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn key(id: &str, secret: &str, encoding: Encoding) -> EventKey {
        EventKey { id: id.to_owned(), secret: SecretString::from(secret), encoding }
    }

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(EVENT_SIGNATURE, HeaderValue::from_str(value).expect("a value"))])
    }

    /// RFC 4231, test case 2.
    const BODY: &[u8] = b"what do ya want for nothing?";
    const TAG: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    fn in_base64(body: &[u8]) -> String {
        STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"Jefe"), body))
    }

    #[test]
    fn signatures_are_found_by_key_in_any_order_and_spelling() {
        let ring = Keyring::new(&[key("2", "Jefe", Encoding::Utf8), key("3", "other", Encoding::Utf8)]).expect("keys");
        let base64 = STANDARD.encode(from_hex(TAG).expect("hex"));
        // The case that a careless split loses.
        let body = (0_u32..).map(|number| number.to_string()).find(|body| in_base64(body.as_bytes()).contains('/')).expect("one of many");
        assert_eq!(ring.verify(&with(&format!("2/SHA256/{}", in_base64(body.as_bytes()))), body.as_bytes()), Ok(()));
        let url_safe = URL_SAFE_NO_PAD.encode(from_hex(TAG).expect("hex"));
        for value in [
            format!("2/SHA256/{TAG}"),
            format!("2/sha256/{}", TAG.to_uppercase()),
            format!("2/SHA256/{base64}"),
            format!("2/SHA256/{url_safe}"),
            format!("1/SHA256/{TAG},2/SHA256/{TAG}"),
            format!("2/SHA256/{TAG} , 1/SHA256/00"),
            format!("3/SHA256/{TAG},2/SHA256/{TAG}"),
        ] {
            assert_eq!(ring.verify(&with(&value), BODY), Ok(()), "{value}");
        }
        let mut two = with(&format!("1/SHA256/{TAG}"));
        two.append(EVENT_SIGNATURE, HeaderValue::from_str(&format!("2/SHA256/{TAG}")).expect("a value"));
        assert_eq!(ring.verify(&two, BODY), Ok(()));
        assert!(ring.sign(BODY).starts_with(&format!("2/SHA256/{TAG},3/SHA256/")));
        assert_eq!(ring.verify(&with(&ring.sign(BODY)), BODY), Ok(()));
    }

    #[test]
    fn what_is_not_believed() {
        let ring = Keyring::new(&[key("2", "Jefe", Encoding::Utf8)]).expect("keys");
        for (value, error) in [
            (format!("1/SHA256/{TAG}"), Unsigned::UnknownKey),
            (format!("2/SHA512/{TAG}"), Unsigned::Malformed),
            (format!("2/{TAG}"), Unsigned::Malformed),
            (TAG.to_owned(), Unsigned::Malformed),
            ("2/SHA256/".to_owned(), Unsigned::Mismatch),
            (format!("2/SHA256/{}", &TAG[..62]), Unsigned::Mismatch),
            (format!("2/SHA256/{}", TAG.replace('5', "6")), Unsigned::Mismatch),
            (format!("2/SHA256/00,1/SHA256/{TAG}"), Unsigned::Mismatch),
        ] {
            assert_eq!(ring.verify(&with(&value), BODY), Err(error), "{value}");
        }
        assert_eq!(ring.verify(&HeaderMap::new(), BODY), Err(Unsigned::Missing));
        assert_eq!(ring.verify(&with(&format!("2/SHA256/{TAG}")), b"what do ya want for nothing!"), Err(Unsigned::Mismatch));
        assert_eq!(Keyring::default().verify(&with(&format!("2/SHA256/{TAG}")), BODY), Err(Unsigned::UnknownKey));
        let many = format!("{}2/SHA256/{TAG}", "1/SHA256/00,".repeat(MAX_SIGNATURES));
        assert_eq!(ring.verify(&with(&many), BODY), Err(Unsigned::UnknownKey), "bounded");
    }

    #[test]
    fn secrets_come_in_three_spellings_and_are_not_shown() {
        for one in [key("2", "Jefe", Encoding::Utf8), key("2", "4a656665", Encoding::Hex), key("2", "SmVmZQ==", Encoding::Base64)] {
            let shown = format!("{one:?}");
            let ring = Keyring::new(&[one]).expect("a key");
            assert_eq!(ring.verify(&with(&format!("2/SHA256/{TAG}")), BODY), Ok(()));
            assert!(!shown.contains("Jefe") && format!("{ring:?}") == "[\"2\"]", "{shown}");
        }
        for bad in [
            key("2", "", Encoding::Utf8),
            key("2", "4a6", Encoding::Hex),
            key("2", "!", Encoding::Base64),
            key("", "x", Encoding::Utf8),
            key("1/2", "x", Encoding::Utf8),
        ] {
            assert!(matches!(Keyring::new(&[bad]), Err(SetupError::Unusable("event_keys", _))));
        }
        assert!(Keyring::new(&[key("1", "a", Encoding::Utf8), key("1", "b", Encoding::Utf8)]).is_err());
    }
}
