//! What tells a request from another one under the same key: a keyed hash, because a plain one of an account and a name could be guessed.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The fingerprint of these bytes, in hex. `kind` keeps kinds of requests apart, and both are fixed for ever: a change would turn repeats into conflicts.
///
/// # Panics
/// Never: HMAC takes keys of every length.
#[must_use]
pub fn fingerprint<T: AsRef<[u8]>>(pepper: &[u8], kind: &str, parts: impl IntoIterator<Item = T>) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(pepper).expect("HMAC takes keys of every length");
    mac.update(format!("payrelay {kind}\n").as_bytes());
    parts.into_iter().for_each(|part| mac.update(part.as_ref()));
    const_hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are from another implementation, over `payrelay <kind>` and a line break, then the parts.
    #[test]
    fn fingerprints_are_fixed_for_ever() {
        assert_eq!(fingerprint(b"pepper", "fingerprint 1", [b"{}"]), "f37352fac1ffb29cdfb2e13d15dde035d938a36e9c9ce6edce38b83eafcd9334");
        assert_eq!(
            fingerprint(b"pepper", "batch fingerprint 1", [&b"w"[..], &[0, 0, 0, 0, 0, 0, 0, 2], b"ab"]),
            "205caf60de3a4c606ba1370c1a9e4066effa74aa8a35a1c784626aec9730d203"
        );
    }
}
