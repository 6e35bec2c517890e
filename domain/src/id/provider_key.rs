//! The key of an attempt at its provider, which leads back to its payout.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::form::digest;
use super::{BatchId, IdError, PayoutId};

/// The key that we give a provider for one attempt of a payout: a UUID in the form of version 4, because one provider demands that and another
/// any UUID. Written in lower case with hyphens.
///
/// It is derived, so that a record that was lost makes the same key again and the provider recognises the attempt instead of paying twice. And it can
/// be inverted, so that a key in a notice leads to its payout without a directory, even before, or after the loss of, everything we wrote about it.
///
/// A version 4 UUID has 122 free bits. From the highest to the lowest: 112 bits of the payout's id, 8 bits of the attempt, 2 zero bits.
/// About one UUID in four from elsewhere has that form too, so an inverted key is a candidate until the payout's record confirms it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderKey(Uuid);

impl ProviderKey {
    /// The key of that attempt. Different attempts have different keys.
    #[must_use]
    pub fn derive(payout: PayoutId, attempt: u8) -> Self {
        let mut low = [0; 16];
        low[2..].copy_from_slice(&payout.0);
        let free = (u128::from_be_bytes(low) << 10) | (u128::from(attempt) << 2);
        Self(Uuid::from_u128(((free >> 74) << 80) | VERSION_4 | (((free >> 62) & 0xfff) << 64) | VARIANT | (free & LAST_62)))
    }

    /// The key of a request for many payouts of a batch: from the digest of the batch and the request's number in it under the label
    /// `payrelay group 1`, marked so that it is never taken for the key of an attempt.
    #[must_use]
    pub fn of_group(batch: BatchId, number: u32) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest("payrelay group 1", &[&batch.0, &number.to_be_bytes()]);
        let drawn = u128::from_be_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]);
        Self(Uuid::from_u128(drawn & !(0xf << 76) & !(0b11 << 62) | VERSION_4 | VARIANT | 0b11))
    }

    /// The inverse of [`ProviderKey::derive`]; `None` for a UUID that it cannot have made.
    #[must_use]
    pub fn payout_and_attempt(self) -> Option<(PayoutId, u8)> {
        let uuid = self.0.as_u128();
        let free = ((uuid >> 80) << 74) | (((uuid >> 64) & 0xfff) << 62) | (uuid & LAST_62);
        if uuid & (0xf << 76) != VERSION_4 || uuid & (0b11 << 62) != VARIANT || free & 0b11 != 0 {
            return None;
        }
        let [.., attempt] = (free >> 2).to_be_bytes();
        let mut id = [0; 14];
        id.copy_from_slice(&(free >> 10).to_be_bytes()[2..]);
        Some((PayoutId(id), attempt))
    }

    /// A key as a provider tells it; any UUID, ours or not.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    #[must_use]
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

pub(super) const VERSION_4: u128 = 4 << 76;
pub(super) const VARIANT: u128 = 0b10 << 62;
const LAST_62: u128 = (1 << 62) - 1;

impl fmt::Display for ProviderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}

impl FromStr for ProviderKey {
    type Err = IdError;

    /// Only the form that `Display` writes. A connector whose provider shouts its UUIDs parses them itself and uses [`ProviderKey::from_uuid`].
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut buffer = Uuid::encode_buffer();
        match Uuid::try_parse(text) {
            Ok(uuid) if uuid.as_hyphenated().encode_lower(&mut buffer) == text => Ok(Self(uuid)),
            Ok(_) | Err(_) => Err(IdError { expected: "a UUID in lower case with hyphens" }),
        }
    }
}
