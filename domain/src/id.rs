//! Ids: typed, prefixed, and carrying the shard that they live in, so that an id alone says where its record is.
//!
//! Most are *derived*, not drawn: the same request always gets the same [`PayoutId`], and the same attempt the same [`ProviderKey`]. If the store
//! loses its tail and a caller asks again, the ids come out as before and the provider recognises them. So the derivations below are fixed for ever: a
//! change of a label, of an order or of a length would pay old requests a second time. The tests pin them to values from another implementation.
//!
//! An id that came from outside may name a shard that does not exist here; [`Shards::contains`] tells.

#[macro_use]
mod form;
mod event;
mod party;
mod provider_key;
mod shard;
#[cfg(test)]
mod tests;

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use jiff::civil::Date;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use self::form::{Text, digest, in_front, read_hex, write_hex};
use crate::money::Currency;

pub use self::event::{DeliveryId, EventId};
pub use self::party::{Mode, PartyId};
pub use self::provider_key::ProviderKey;
pub use self::shard::{Shard, Shards};

/// A text that is not the id that was asked for: wrong prefix, length, case or character. The text itself is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct IdError {
    /// The form that was expected, for people.
    pub expected: &'static str,
}

hex_id! {
    /// A payout: `po_` and 28 hexadecimal digits. One per (party, mode, caller's key), for ever, and the same one whenever it is asked for again.
    PayoutId, "po_", 14, "28"
}
hex_id! {
    /// A webhook subscription: `sub_` and 24 hexadecimal digits. Drawn, not derived: the same URL may be subscribed twice.
    SubscriptionId, "sub_", 12, "24"
}
hex_id! {
    /// An API key's public half, by which it is found and talked about: `key_` and 16 hexadecimal digits. Not a secret. Lives in no shard.
    ApiKeyId, "key_", 8, "16"
}
hex_id! {
    /// A provider's verified webhook: `nt_` and 28 hexadecimal digits. Derived, so that a notice that arrives twice is one.
    NoticeId, "nt_", 14, "28"
}

hex_id! {
    /// A replay of deliveries: `rp_` and 24 hexadecimal digits. Drawn, not derived: the same may be asked for twice.
    ReplayId, "rp_", 12, "24"
}

hex_id! {
    /// A batch of payouts as a caller asked for it: `ba_` and 28 hexadecimal digits. One per (party, mode, caller's key), for ever.
    BatchId, "ba_", 14, "28"
}

hex_id! {
    /// A party's account in one currency: `bal_` and 28 hexadecimal digits. One per (party, mode, currency), for ever.
    BalanceAccountId, "bal_", 14, "28"
}

hex_id! {
    /// Money that came into a balance account: `tu_` and 28 hexadecimal digits. One per (party, mode, caller's key), for ever.
    TopUpId, "tu_", 14, "28"
}

in_shard!(PayoutId, SubscriptionId, ReplayId, NoticeId, BatchId, BalanceAccountId, TopUpId);
as_text!(PartyId, EventId, DeliveryId, ProviderKey);

impl PayoutId {
    /// The shard of the party, then the first 13 bytes of the digest of `(party, mode, key)` under the label `payrelay payout 1`.
    ///
    /// `key` is the caller's own key for the request, taken byte for byte. 104 bits: a collision within a party is as likely as never.
    #[must_use]
    pub fn derive(party: &PartyId, mode: Mode, key: &str, shards: Shards) -> Self {
        let parts = [party.as_str().as_bytes(), mode.as_str().as_bytes(), key.as_bytes()];
        Self(in_front(shards.of(party, mode), digest("payrelay payout 1", &parts)))
    }
}

impl PayoutId {
    /// The record of a party's events that are no payout's: the shard of the party, then the first 13 bytes of the digest of `(party, mode)` under the label
    /// `payrelay bulletin 1`. No caller's key leads to it.
    #[must_use]
    pub fn of_bulletin(party: &PartyId, mode: Mode, shards: Shards) -> Self {
        Self(in_front(shards.of(party, mode), digest("payrelay bulletin 1", &[party.as_str().as_bytes(), mode.as_str().as_bytes()])))
    }
}

/// The `transaction_id` of a payout that is asked for in seed 004's way, under a key that may be any text: from the digest of the key under the label
/// `payrelay balance payout 1`.
///
/// In the form of version 8, as [`BalanceAccountId::scheduled`], so that it is never that of a request which brings a `transaction_id` itself.
#[must_use]
pub fn transaction_of_key(key: &str) -> Uuid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest("payrelay balance payout 1", &[key.as_bytes()]);
    uuid::Builder::from_custom_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]).into_uuid()
}

impl BatchId {
    /// The shard of the party, then the first 13 bytes of the digest of `(party, mode, key)` under the label `payrelay batch 1`.
    #[must_use]
    pub fn derive(party: &PartyId, mode: Mode, key: &str, shards: Shards) -> Self {
        let parts = [party.as_str().as_bytes(), mode.as_str().as_bytes(), key.as_bytes()];
        Self(in_front(shards.of(party, mode), digest("payrelay batch 1", &parts)))
    }
}

impl BalanceAccountId {
    /// The shard of the party, then the first 13 bytes of the digest of `(party, mode, currency)` under the label `payrelay balance account 1`.
    #[must_use]
    pub fn derive(party: &PartyId, mode: Mode, currency: Currency, shards: Shards) -> Self {
        let parts = [party.as_str().as_bytes(), mode.as_str().as_bytes(), currency.code().as_bytes()];
        Self(in_front(shards.of(party, mode), digest("payrelay balance account 1", &parts)))
    }

    /// A number for people, 16 decimal digits: the first eight bytes of the digest of the account under the label `payrelay account number 1`, big-endian,
    /// modulo 10^16. Nothing is found by it, and no bank knows it.
    #[must_use]
    pub fn number(self) -> String {
        let [a, b, c, d, e, f, g, h, ..] = digest("payrelay account number 1", &[&self.0]);
        format!("{:016}", u64::from_be_bytes([a, b, c, d, e, f, g, h]) % 10_000_000_000_000_000)
    }

    /// The `transaction_id` of the payout that the account's schedule opens for a due date, and so what [`PayoutId::derive`] takes as its key:
    /// from the digest of `(account, due date as YYYY-MM-DD)` under the label `payrelay scheduled payout 1`.
    ///
    /// In the form of version 8, which callers that draw their keys do not come upon.
    #[must_use]
    pub fn scheduled(self, due: Date) -> Uuid {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest("payrelay scheduled payout 1", &[&self.0, due.to_string().as_bytes()]);
        uuid::Builder::from_custom_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]).into_uuid()
    }
}

impl TopUpId {
    /// The shard of the party, then the first 13 bytes of the digest of `(party, mode, key)` under the label `payrelay top-up 1`.
    #[must_use]
    pub fn derive(party: &PartyId, mode: Mode, key: &str, shards: Shards) -> Self {
        let parts = [party.as_str().as_bytes(), mode.as_str().as_bytes(), key.as_bytes()];
        Self(in_front(shards.of(party, mode), digest("payrelay top-up 1", &parts)))
    }
}

impl SubscriptionId {
    /// The shard of the party, then 11 bytes that the caller drew from a source that nobody can guess. The few that begin as [`Self::of_fan_out`] are made others.
    #[must_use]
    pub const fn new(shard: Shard, random: [u8; 11]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k] = random;
        let b = if a == FAN_OUT && b == FAN_OUT { 0 } else { b };
        Self([shard.index(), a, b, c, d, e, f, g, h, i, j, k])
    }

    /// The name under which events wait for the subscriptions of a party that commits do not match. No subscription has it: the shard of the party, twice `ff`, then the first
    /// 9 bytes of the digest of `(party, mode)` under the label `payrelay fan-out 1`.
    #[must_use]
    pub fn of_fan_out(party: &PartyId, mode: Mode, shards: Shards) -> Self {
        let [a, b, c, d, e, f, g, h, i, ..] = digest("payrelay fan-out 1", &[party.as_str().as_bytes(), mode.as_str().as_bytes()]);
        Self([shards.of(party, mode).index(), FAN_OUT, FAN_OUT, a, b, c, d, e, f, g, h, i])
    }

    #[must_use]
    pub const fn is_fan_out(self) -> bool {
        let [_, a, b, ..] = self.0;
        a == FAN_OUT && b == FAN_OUT
    }
}

/// Twice the beginning of a fan-out's name.
const FAN_OUT: u8 = 0xff;

impl ReplayId {
    /// The shard of the subscription, then 11 random bytes.
    #[must_use]
    pub const fn new(shard: Shard, random: [u8; 11]) -> Self {
        Self(SubscriptionId::new(shard, random).0)
    }
}

impl ApiKeyId {
    #[must_use]
    pub const fn new(random: [u8; 8]) -> Self {
        Self(random)
    }
}

impl NoticeId {
    /// The shard in which the notice lands, then the first 13 bytes of the digest of `(provider, dedupe)` under the label `payrelay notice 1`.
    ///
    /// `dedupe` is the provider's event id, else the hash of the body. Two copies of a notice must be given the same shard to be one.
    #[must_use]
    pub fn derive(provider: &str, dedupe: &str, shard: Shard) -> Self {
        Self(in_front(shard, digest("payrelay notice 1", &[provider.as_bytes(), dedupe.as_bytes()])))
    }
}
