//! Signatures of webhooks by the Standard Webhooks specification, scheme `v1`: HMAC-SHA256 over `id "." timestamp "." body`.
//!
//! The body is signed as the bytes that travel; nothing here looks inside. While a secret is rotated, the old and the new one both sign, and a receiver
//! accepts a message if any of its secrets matches any of the signatures. Drawing secrets and keeping them encrypted is left to others.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

/// A shared secret: 24 to 64 bytes. In text `whsec_` and their base64, which is what a merchant is given once.
///
/// `Debug` does not show it, there is no `Display` and no serde, and comparing two takes the same time wherever they differ.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

/// Why a text or bytes are not a secret. Never repeats them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("a webhook secret starts with whsec_")]
    Prefix,
    #[error("a webhook secret is base64 with padding after whsec_")]
    Base64,
    #[error("a webhook secret has 24 to 64 bytes, not {bytes}")]
    Length { bytes: usize },
}

impl Secret {
    const PREFIX: &str = "whsec_";

    /// Reads `whsec_…`.
    ///
    /// # Errors
    ///
    /// [`SecretError`]: no prefix, no canonical base64, or too few or too many bytes.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(Self::PREFIX).ok_or(SecretError::Prefix)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?;
        Self::from_bytes(&bytes)
    }

    /// A secret of these bytes, which must come from a source that nobody can guess.
    ///
    /// # Errors
    ///
    /// [`SecretError::Length`] outside 24 to 64 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretError> {
        if (24..=64).contains(&bytes.len()) { Ok(Self(Box::from(bytes))) } else { Err(SecretError::Length { bytes: bytes.len() }) }
    }

    /// `whsec_…`, for the merchant and for the encrypted record; nowhere else.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}{}", Self::PREFIX, STANDARD.encode(&self.0))
    }
}

impl Secret {
    /// The bytes as text, for receivers whose secret is a text; as [`to_text`](Self::to_text) for nobody else.
    #[must_use]
    pub fn to_plain_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Secrets made ready to sign: whoever signs many messages with the same secrets keeps one of these, and saves half the work of a short message.
///
/// Holds what the secrets are worth, so it is as secret as they are.
#[derive(Clone)]
pub struct Signer(Vec<Hmac<Sha256>>);

impl Signer {
    /// Signs with each of these secrets, newest first.
    #[must_use]
    pub fn new(secrets: &[Secret]) -> Self {
        Self(secrets.iter().map(keyed).collect())
    }

    /// The value of `webhook-signature`: one signature per secret, in their order, separated by spaces. Empty if there are no secrets.
    #[must_use]
    pub fn header(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let signatures: Vec<String> = self.0.iter().map(|state| one(state.clone(), id, timestamp_s, body)).collect();
        signatures.join(" ")
    }

    /// What Mollie's receivers verify: over the body alone, `sha256=` and hexadecimal digits. One per secret, each the value of an `X-Mollie-Signature`.
    pub fn of_body(&self, body: &[u8]) -> impl Iterator<Item = String> {
        self.0.iter().map(move |state| format!("sha256={}", const_hex::encode(state.clone().chain_update(body).finalize().into_bytes())))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(redacted)")
    }
}

/// The signature of a message: `v1,` and the base64 of 32 bytes.
///
/// `id` is the value of `webhook-id` and holds no `.`; `timestamp_s` is that of `webhook-timestamp`, seconds since 1970 at *this* attempt.
#[must_use]
pub fn sign(secret: &Secret, id: &str, timestamp_s: i64, body: &[u8]) -> String {
    one(keyed(secret), id, timestamp_s, body)
}

/// The value of `webhook-signature` for these secrets, newest first. See [`Signer`] for many messages with the same secrets.
#[must_use]
pub fn header(secrets: &[Secret], id: &str, timestamp_s: i64, body: &[u8]) -> String {
    Signer::new(secrets).header(id, timestamp_s, body)
}

/// Why a message is not taken for genuine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The header of that name is not there, or empty.
    #[error("{header} is missing")]
    Missing { header: &'static str },
    /// Not whole seconds in plain decimal digits.
    #[error("webhook-timestamp is not a number of seconds")]
    Timestamp,
    /// A replay, or the sender's clock is behind or the receiver's ahead.
    #[error("webhook-timestamp is {by_s} s further back than allowed")]
    TooOld { by_s: i64 },
    /// The sender's clock is ahead or the receiver's behind.
    #[error("webhook-timestamp is {by_s} s further ahead than allowed")]
    InTheFuture { by_s: i64 },
    /// There are signatures, but of other schemes.
    #[error("webhook-signature holds no v1 signature")]
    NoV1,
    /// Another secret, or the body, the id or the timestamp was changed on the way.
    #[error("no signature matches")]
    NoMatch,
}

/// Checks the three headers of a message against its raw body. Any secret may match any `v1` signature; other schemes are passed over.
///
/// A header that is absent is passed as `""`. A timestamp exactly `tolerance_s` away from `now_s` is still good; the usual tolerance is 300.
/// The time taken tells how many secrets and signatures there are, but not which of them was nearly right.
///
/// # Errors
///
/// [`Mismatch`]: the first thing that is wrong, in the order of its variants.
pub fn verify(
    secrets: &[Secret],
    id: &str,
    timestamp: &str,
    signature_header: &str,
    body: &[u8],
    now_s: i64,
    tolerance_s: i64,
) -> Result<(), Mismatch> {
    for (header, value) in [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature_header)] {
        if value.trim().is_empty() {
            return Err(Mismatch::Missing { header });
        }
    }
    // The number is what is signed again below, so only the one text that it has may stand for it.
    let timestamp_s = timestamp.parse::<i64>().ok().filter(|number| number.to_string() == timestamp).ok_or(Mismatch::Timestamp)?;
    let late = now_s.saturating_sub(timestamp_s).saturating_sub(tolerance_s);
    if late > 0 {
        return Err(Mismatch::TooOld { by_s: late });
    }
    let early = timestamp_s.saturating_sub(now_s).saturating_sub(tolerance_s);
    if early > 0 {
        return Err(Mismatch::InTheFuture { by_s: early });
    }

    let candidates: Vec<&str> = signature_header.split_whitespace().filter(|candidate| candidate.starts_with("v1,")).collect();
    if candidates.is_empty() {
        return Err(Mismatch::NoV1);
    }
    // No early end: every secret is tried against every candidate.
    let mut matches = Choice::from(0);
    for secret in secrets {
        let expected = sign(secret, id, timestamp_s, body);
        for candidate in &candidates {
            matches |= expected.as_bytes().ct_eq(candidate.as_bytes());
        }
    }
    if bool::from(matches) { Ok(()) } else { Err(Mismatch::NoMatch) }
}

fn keyed(secret: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(&secret.0).expect("HMAC takes a key of any length")
}

fn one(mut state: Hmac<Sha256>, id: &str, timestamp_s: i64, body: &[u8]) -> String {
    state.update(id.as_bytes());
    state.update(b".");
    state.update(timestamp_s.to_string().as_bytes());
    state.update(b".");
    state.update(body);
    let mut text = String::with_capacity(47);
    text.push_str("v1,");
    STANDARD.encode_string(state.finalize().into_bytes(), &mut text);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secret() -> Secret {
        Secret::parse(SECRET).expect("a secret")
    }

    fn other(byte: u8) -> Secret {
        Secret::from_bytes(&[byte; 32]).expect("a secret")
    }

    fn check(secrets: &[Secret], signatures: &str) -> Result<(), Mismatch> {
        verify(secrets, ID, &AT.to_string(), signatures, BODY, AT, 300)
    }

    /// The published example of the specification, in both directions.
    #[test]
    fn the_published_vector_agrees() {
        assert_eq!(sign(&secret(), ID, AT, BODY), SIGNATURE);
        assert_eq!(header(&[secret()], ID, AT, BODY), SIGNATURE);
        assert_eq!(check(&[secret()], SIGNATURE), Ok(()));
    }

    /// The example of Mollie's own documentation of its client.
    #[test]
    fn a_body_is_signed_as_mollie_does() {
        let body = br#"{"id":"tr_12345","event_type":"payment-link.paid"}"#;
        let secret = Secret(Box::from(&b"foobar"[..]));
        let signatures: Vec<String> = Signer::new(&[secret]).of_body(body).collect();
        assert_eq!(signatures, ["sha256=3576009ce91769ab297d20a82fcc53acb040674c14882f0546a7922247c8d8c0"]);
    }

    #[test]
    fn secrets_are_read_strictly_and_never_shown() {
        assert_eq!(secret().to_text(), SECRET);
        let encoded = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (text, expected) in [
            (encoded(23), Some(SecretError::Length { bytes: 23 })),
            (encoded(24), None),
            (encoded(64), None),
            (encoded(65), Some(SecretError::Length { bytes: 65 })),
            ("whsec_".to_owned(), Some(SecretError::Length { bytes: 0 })),
            (encoded(25).trim_end_matches('=').to_owned(), Some(SecretError::Base64)),
            (format!("{SECRET} "), Some(SecretError::Base64)),
            (SECRET.replace("whsec_", "whsk_"), Some(SecretError::Prefix)),
            (SECRET.replace("whsec_", ""), Some(SecretError::Prefix)),
            (String::new(), Some(SecretError::Prefix)),
        ] {
            assert_eq!(Secret::parse(&text).err(), expected, "{text}");
        }
        assert_eq!(format!("{:?} {:?}", secret(), Signer::new(&[secret()])), "Secret(redacted) Signer(redacted)");
        assert!(secret() == secret() && secret() != other(1));
    }

    /// Each reason, and that it is said before the later ones.
    #[test]
    fn a_mismatch_says_why() {
        let good = AT.to_string();
        for (id, timestamp, signatures, now_s, expected) in [
            (ID, &*good, SIGNATURE, AT, Ok(())),
            (ID, &good, SIGNATURE, AT + 300, Ok(())),
            (ID, &good, SIGNATURE, AT - 300, Ok(())),
            ("", &good, SIGNATURE, AT, Err(Mismatch::Missing { header: "webhook-id" })),
            (ID, "", SIGNATURE, AT, Err(Mismatch::Missing { header: "webhook-timestamp" })),
            (ID, &good, "", AT, Err(Mismatch::Missing { header: "webhook-signature" })),
            (ID, &good, " ", AT, Err(Mismatch::Missing { header: "webhook-signature" })),
            (ID, "soon", SIGNATURE, AT, Err(Mismatch::Timestamp)),
            (ID, "1614265330.0", SIGNATURE, AT, Err(Mismatch::Timestamp)),
            (ID, "+1614265330", SIGNATURE, AT, Err(Mismatch::Timestamp)),
            (ID, "01614265330", SIGNATURE, AT, Err(Mismatch::Timestamp)),
            (ID, " 1614265330", SIGNATURE, AT, Err(Mismatch::Timestamp)),
            (ID, "99999999999999999999", SIGNATURE, AT, Err(Mismatch::Timestamp)),
            (ID, &good, SIGNATURE, AT + 301, Err(Mismatch::TooOld { by_s: 1 })),
            (ID, &good, "v1,bad", AT + 310, Err(Mismatch::TooOld { by_s: 10 })),
            (ID, &good, SIGNATURE, AT - 301, Err(Mismatch::InTheFuture { by_s: 1 })),
            (ID, &good, "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5Bdqz=", AT, Err(Mismatch::NoV1)),
            (ID, &good, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", AT, Err(Mismatch::NoV1)),
            (ID, &good, "v1,", AT, Err(Mismatch::NoMatch)),
            (ID, &good, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF=", AT, Err(Mismatch::NoMatch)),
            (ID, &good, "v1,g0hM9SsE", AT, Err(Mismatch::NoMatch)),
            ("msg_other", &good, SIGNATURE, AT, Err(Mismatch::NoMatch)),
            (ID, "1614265331", SIGNATURE, AT, Err(Mismatch::NoMatch)),
        ] {
            assert_eq!(verify(&[secret()], id, timestamp, signatures, BODY, now_s, 300), expected, "{id:?} {timestamp:?} {signatures:?} {now_s}");
        }
        assert_eq!(verify(&[secret()], ID, &good, SIGNATURE, b"{}", AT, 300), Err(Mismatch::NoMatch));
        assert_eq!(check(&[], SIGNATURE), Err(Mismatch::NoMatch));
        // The ends of the clock do not overflow.
        let end = i64::MAX.to_string();
        assert!(matches!(verify(&[secret()], ID, &end, SIGNATURE, BODY, i64::MIN, 300), Err(Mismatch::InTheFuture { .. })));
    }

    /// A rotation: the sender goes from old to both to new, and a receiver on either secret misses nothing while both sign.
    #[test]
    fn a_rotation_overlaps() {
        let (old, new) = (other(1), other(2));
        let before = header(std::slice::from_ref(&old), ID, AT, BODY);
        let during = header(&[new.clone(), old.clone()], ID, AT, BODY);
        let after = header(std::slice::from_ref(&new), ID, AT, BODY);
        assert_eq!(during, format!("{after} {before}"), "newest first");

        let table = "
            signed   old-only  both      new-only
            before   yes       yes       no
            during   yes       yes       yes
            after    no        yes       yes
        ";
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()).skip(1) {
            let [signed, cells @ ..] = &line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("columns: {line}") };
            let signatures = match *signed {
                "before" => &before,
                "during" => &during,
                _ => &after,
            };
            let receivers = [vec![old.clone()], vec![new.clone(), old.clone()], vec![new.clone()]];
            for (receiver, cell) in receivers.iter().zip(cells) {
                assert_eq!(check(receiver, signatures).is_ok(), *cell == "yes", "{line}: {cell}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_and_what_is_changed_does_not(
            keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 24..=64), 1..4),
            id in "[A-Za-z0-9_]{1,40}",
            timestamp_s: i64,
            body: Vec<u8>,
            flipped: prop::sample::Index,
        ) {
            let secrets: Vec<Secret> = keys.iter().map(|key| Secret::from_bytes(key).expect("a secret")).collect();
            let signatures = header(&secrets, &id, timestamp_s, &body);
            let timestamp = timestamp_s.to_string();
            for secret in &secrets {
                let one = std::slice::from_ref(secret);
                prop_assert_eq!(verify(one, &id, &timestamp, &signatures, &body, timestamp_s, 0), Ok(()));
                prop_assert!(Secret::parse(&secret.to_text()).is_ok_and(|read| read == *secret));
            }
            let mut changed = body;
            changed.push(0);
            let at = flipped.index(changed.len());
            changed[at] ^= 1;
            prop_assert_eq!(verify(&secrets, &id, &timestamp, &signatures, &changed, timestamp_s, 0), Err(Mismatch::NoMatch));
        }

        #[test]
        fn no_header_is_a_panic(id: String, timestamp: String, signatures: String, now_s: i64, tolerance_s: i64) {
            prop_assert!(verify(&[secret()], &id, &timestamp, &signatures, b"", now_s, tolerance_s).is_err());
        }
    }
}
