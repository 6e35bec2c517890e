//! Encryption at rest: XChaCha20-Poly1305 with the key's id in the header and the owner of the text as associated data, so that a ciphertext
//! cannot be moved to another record unnoticed.

use std::collections::BTreeMap;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretString};

const VERSION: u8 = 1;
const NONCE: usize = 24;

/// Seals and opens what must not be readable in the store.
#[derive(Clone)]
pub struct Vault {
    keys: BTreeMap<u8, XChaCha20Poly1305>,
    current: u8,
}

/// Why a vault cannot be made, or a sealed text not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VaultError {
    #[error("vault key {0} is not 32 bytes in base64")]
    BadKey(u8),
    #[error("the current vault key {0} is not among the keys")]
    NoCurrentKey(u8),
    #[error("sealed with vault key {0}, which is not configured")]
    UnknownKey(u8),
    #[error("a sealed text does not open: it was changed, moved, or sealed with another key")]
    DoesNotOpen,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault of these keys (id → 32 bytes, base64), sealing with `current`; the others only open.
    ///
    /// # Errors
    /// A key of another length, or a `current` that is not there.
    pub fn new(keys: &BTreeMap<u8, SecretString>, current: u8) -> Result<Self, VaultError> {
        use base64::Engine as _;
        let mut ciphers = BTreeMap::new();
        for (id, key) in keys {
            let bytes = base64::engine::general_purpose::STANDARD.decode(key.expose_secret().trim()).map_err(|_| VaultError::BadKey(*id))?;
            let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| VaultError::BadKey(*id))?;
            ciphers.insert(*id, cipher);
        }
        if !ciphers.contains_key(&current) {
            return Err(VaultError::NoCurrentKey(current));
        }
        Ok(Self { keys: ciphers, current })
    }

    /// Seals `plain` for `owner` (a record id and a field name).
    #[must_use]
    pub fn seal(&self, owner: &str, plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let cipher = &self.keys[&self.current];
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: owner.as_bytes() })
            .expect("a text of less than 256 GiB can be encrypted");
        let mut out = Vec::with_capacity(2 + NONCE + sealed.len());
        out.extend([VERSION, self.current]);
        out.extend(nonce);
        out.extend(sealed);
        out
    }

    /// Opens what [`Vault::seal`] made for the same owner.
    ///
    /// # Errors
    /// An unknown key id, or a text that was changed, cut or sealed for another owner.
    pub fn open(&self, owner: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let Some(([VERSION, key], rest)) = sealed.split_first_chunk::<2>().map(|(head, rest)| (*head, rest)) else {
            return Err(VaultError::DoesNotOpen);
        };
        let Some((nonce, text)) = rest.split_first_chunk::<NONCE>() else { return Err(VaultError::DoesNotOpen) };
        let cipher = self.keys.get(&key).ok_or(VaultError::UnknownKey(key))?;
        cipher.decrypt(&XNonce::from(*nonce), Payload { msg: text, aad: owner.as_bytes() }).map_err(|_| VaultError::DoesNotOpen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(current: u8, ids: &[u8]) -> Vault {
        use base64::Engine as _;
        let keys = ids.iter().map(|id| (*id, base64::engine::general_purpose::STANDARD.encode([*id; 32]).into())).collect();
        Vault::new(&keys, current).unwrap()
    }

    #[test]
    fn opens_only_for_the_same_owner_and_unchanged() {
        let vault = vault(1, &[1]);
        let sealed = vault.seal("po_1/beneficiary", b"GB33");
        assert_eq!(vault.open("po_1/beneficiary", &sealed).unwrap(), b"GB33");
        assert!(matches!(vault.open("po_2/beneficiary", &sealed), Err(VaultError::DoesNotOpen)));
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert!(vault.open("po_1/beneficiary", &changed).is_err(), "byte {i} can be changed unnoticed");
        }
        assert!(vault.open("po_1/beneficiary", &sealed[..10]).is_err());
    }

    #[test]
    fn an_older_key_still_opens_after_rotation() {
        let sealed = vault(1, &[1]).seal("x", b"plain");
        assert_eq!(vault(2, &[1, 2]).open("x", &sealed).unwrap(), b"plain");
        assert!(matches!(vault(2, &[2]).open("x", &sealed), Err(VaultError::UnknownKey(1))));
    }
}
