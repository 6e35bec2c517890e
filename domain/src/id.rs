//! Ids: typed, prefixed, and carrying the shard that they live in, so that an id alone says where its record is.
//!
//! Most are *derived*, not drawn: the same request always gets the same [`PayoutId`], and the same attempt the same [`ProviderKey`]. If the store
//! loses its tail and a caller asks again, the ids come out as before and the provider recognises them. So the derivations below are fixed for ever: a
//! change of a label, of an order or of a length would pay old requests a second time. The tests pin them to values from another implementation.
//!
//! An id that came from outside may name a shard that does not exist here; [`Shards::contains`] tells.

use std::fmt;
use std::marker::PhantomData;
use std::num::{NonZeroU8, NonZeroU64};
use std::str::FromStr;
use std::sync::Arc;

use jiff::civil::Date;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::money::Currency;

/// A text that is not the id that was asked for: wrong prefix, length, case or character. The text itself is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct IdError {
    /// The form that was expected, for people.
    pub expected: &'static str,
}

/// A part of the store whose keys live on one node. The same index in another installation is another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    #[must_use]
    pub const fn new(index: u8) -> Self {
        Self(index)
    }

    /// The number of the shard, from 0.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }

    /// What goes between the braces of a key: `s07`; at least two decimal digits.
    #[must_use]
    pub fn tag(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{:02}", self.0)
    }
}

/// How many shards an installation has: 1 to 255, fixed when its store is created.
///
/// Changing it later sends parties, and so their idempotency keys, elsewhere; nothing here can notice that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shards(NonZeroU8);

impl Shards {
    /// One shard, the default of an installation.
    pub const ONE: Self = Self(NonZeroU8::MIN);

    /// `None` for no shards at all.
    #[must_use]
    pub const fn new(count: u8) -> Option<Self> {
        match NonZeroU8::new(count) {
            Some(count) => Some(Self(count)),
            None => None,
        }
    }

    #[must_use]
    pub const fn count(self) -> u8 {
        self.0.get()
    }

    /// Every shard, from 0.
    pub fn all(self) -> impl Iterator<Item = Shard> + Clone {
        (0..self.count()).map(Shard)
    }

    /// Whether that shard exists in an installation of this many.
    #[must_use]
    pub const fn contains(self, shard: Shard) -> bool {
        shard.0 < self.count()
    }

    /// The shard of everything that a party owns in a mode, for ever: the first eight bytes, read big-endian, of
    /// the digest of `(party, mode)` under the label `payrelay shard 1`, modulo the number of shards.
    #[must_use]
    pub fn of(self, party: &PartyId, mode: Mode) -> Shard {
        let [a, b, c, d, e, f, g, h, ..] = digest("payrelay shard 1", &[party.as_str().as_bytes(), mode.as_str().as_bytes()]);
        let [.., remainder] = (u64::from_be_bytes([a, b, c, d, e, f, g, h]) % NonZeroU64::from(self.0)).to_be_bytes();
        Shard(remainder)
    }
}

/// Whether money is real. Test and live never see each other's data; the mode is part of every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Test,
    Live,
}

impl Mode {
    /// `test` or `live`, in keys, records, URLs and log fields.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A party, by the name that the platform gave it: 1 to 64 of `A-Z a-z 0-9 _ -`, compared exactly. Cheap to clone, safe in keys and URLs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartyId(Arc<str>);

impl PartyId {
    const EXPECTED: &'static str = "a party id: 1 to 64 letters, digits, _ or -";

    /// # Errors
    ///
    /// [`IdError`] when the text is empty, longer than 64 or holds another character.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(IdError { expected: Self::EXPECTED })
        }
    }

    /// The party that the platform calls so: the reference itself where it can be an id, else `par_` and the first 13 bytes of its digest under the
    /// label `payrelay party 1`, in lower-case hexadecimal digits.
    #[must_use]
    pub fn of_reference(reference: &str) -> Self {
        Self::parse(reference).unwrap_or_else(|_| {
            let digest = digest("payrelay party 1", &[reference.as_bytes()]);
            Self(format!("par_{}", const_hex::encode(&digest[..13])).into())
        })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PartyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl fmt::Display for PartyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Debug and serde of a type whose `Display` and `FromStr` are inverse: both are that text.
macro_rules! as_text {
    ($($id:ident),+) => {$(
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        }
    )+};
}

/// An id of `$bytes` bytes, written as `$prefix` and `$digits` lower-case hexadecimal digits.
macro_rules! hex_id {
    ($(#[$doc:meta])* $id:ident, $prefix:literal, $bytes:literal, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $id([u8; $bytes]);

        impl $id {
            /// The id without its prefix, as the store packs it.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                write_hex(f, &self.0)
            }
        }

        impl FromStr for $id {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .and_then(read_hex)
                    .map(Self)
                    .ok_or(IdError { expected: concat!($prefix, " and ", $digits, " lower-case hexadecimal digits") })
            }
        }

        as_text!($id);
    };
}

/// For ids whose first byte is their shard.
macro_rules! in_shard {
    ($($id:ident),+) => {$(
        impl $id {
            /// The shard that the record lives in.
            #[must_use]
            pub const fn shard(self) -> Shard {
                Shard(self.0[0])
            }
        }
    )+};
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
        Self([shard.0, a, b, c, d, e, f, g, h, i, j, k])
    }

    /// The name under which events wait for the subscriptions of a party that commits do not match. No subscription has it: the shard of the party, twice `ff`, then the first
    /// 9 bytes of the digest of `(party, mode)` under the label `payrelay fan-out 1`.
    #[must_use]
    pub fn of_fan_out(party: &PartyId, mode: Mode, shards: Shards) -> Self {
        let [a, b, c, d, e, f, g, h, i, ..] = digest("payrelay fan-out 1", &[party.as_str().as_bytes(), mode.as_str().as_bytes()]);
        Self([shards.of(party, mode).0, FAN_OUT, FAN_OUT, a, b, c, d, e, f, g, h, i])
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

const VERSION_4: u128 = 4 << 76;
const VARIANT: u128 = 0b10 << 62;
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

/// One event of a payout: `ev_`, 28 hexadecimal digits of the payout, `_`, its number within the payout. Ordered by payout, then by number.
///
/// Never holds a `.`, which separates the id from what follows in a signed webhook.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    payout: PayoutId,
    sequence: u32,
}

impl EventId {
    #[must_use]
    pub const fn new(payout: PayoutId, sequence: u32) -> Self {
        Self { payout, sequence }
    }

    #[must_use]
    pub const fn payout(self) -> PayoutId {
        self.payout
    }

    /// The number of the event within its payout; numbers have no gaps.
    #[must_use]
    pub const fn sequence(self) -> u32 {
        self.sequence
    }

    /// The shard of the payout.
    #[must_use]
    pub const fn shard(self) -> Shard {
        self.payout.shard()
    }

    fn read(payout: &str, number: &str) -> Option<Self> {
        let canonical = number == "0" || (number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0'));
        let sequence = if canonical { number.parse().ok()? } else { return None };
        Some(Self { payout: PayoutId(read_hex(payout)?), sequence })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ev_")?;
        write_hex(f, &self.payout.0)?;
        write!(f, "_{}", self.sequence)
    }
}

impl FromStr for EventId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let read = || {
            let (payout, number) = text.strip_prefix("ev_")?.split_once('_')?;
            Self::read(payout, number)
        };
        read().ok_or(IdError { expected: "ev_, 28 lower-case hexadecimal digits, _ and a number" })
    }
}

/// One event on its way to one subscription: `dl_`, 28 hexadecimal digits of the payout, `_`, the number of the event within it, `_`, 24 hexadecimal digits of the
/// subscription. Made of what it is of: it leads there without a directory, and a fan-out that runs twice makes it once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    event: EventId,
    subscription: SubscriptionId,
}

impl DeliveryId {
    #[must_use]
    pub const fn new(event: EventId, subscription: SubscriptionId) -> Self {
        Self { event, subscription }
    }

    #[must_use]
    pub const fn event(self) -> EventId {
        self.event
    }

    #[must_use]
    pub const fn subscription(self) -> SubscriptionId {
        self.subscription
    }

    /// What its waits are spread by: deliveries that fail together do not come back together.
    #[must_use]
    pub fn seed(self) -> [u8; 30] {
        let mut seed = [0; 30];
        seed[..14].copy_from_slice(self.event.payout.as_bytes());
        seed[14..18].copy_from_slice(&self.event.sequence.to_be_bytes());
        seed[18..].copy_from_slice(self.subscription.as_bytes());
        seed
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dl_")?;
        write_hex(f, &self.event.payout.0)?;
        write!(f, "_{}_", self.event.sequence)?;
        write_hex(f, &self.subscription.0)
    }
}

impl FromStr for DeliveryId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let read = || {
            let mut parts = text.strip_prefix("dl_")?.splitn(3, '_');
            let event = EventId::read(parts.next()?, parts.next()?)?;
            Some(Self { event, subscription: SubscriptionId(read_hex(parts.next()?)?) })
        };
        read().ok_or(IdError { expected: "dl_, 28 lower-case hexadecimal digits, _, a number, _ and 24 such digits" })
    }
}

/// SHA-256 over the label and the parts, each preceded by its length in bytes as eight big-endian bytes: no two different lists read the same.
fn digest(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(label.as_bytes()).chain(parts.iter().copied()) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The shard and the first 13 bytes of a digest.
fn in_front(shard: Shard, digest: [u8; 32]) -> [u8; 14] {
    let mut id = [shard.0; 14];
    id[1..].copy_from_slice(&digest[..13]);
    id
}

fn write_hex<const N: usize>(f: &mut fmt::Formatter<'_>, bytes: &[u8; N]) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // One call for all of them: ids are written several times a request.
    let pairs = bytes.map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
    f.write_str(std::str::from_utf8(pairs.as_flattened()).map_err(|_| fmt::Error)?)
}

/// Exactly `N` bytes, two lower-case digits each.
fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a' - 10),
        _ => None,
    }
}

/// Reads a text with `FromStr`, without a copy of it.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = IdError>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAYOUT: &str = "po_108b18049462e43939ac383bbcce";

    fn party(text: &str) -> PartyId {
        PartyId::parse(text).expect("a party id")
    }

    fn shards(count: u8) -> Shards {
        Shards::new(count).expect("at least one shard")
    }

    /// Values computed by another implementation of the documented derivations. If this fails, the code is wrong, not the test.
    #[test]
    fn derivations_are_fixed_for_ever() {
        let acme = party("acme");
        for (count, live, test) in [(1, 0, 0), (16, 0, 7), (255, 16, 208)] {
            assert_eq!((shards(count).of(&acme, Mode::Live).index(), shards(count).of(&acme, Mode::Test).index()), (live, test), "{count}");
        }
        let payout = PayoutId::derive(&acme, Mode::Live, "invoice-42", shards(255));
        assert_eq!(payout.to_string(), PAYOUT);
        assert_eq!(PayoutId::derive(&acme, Mode::Test, "ключ", Shards::ONE).to_string(), "po_0053eb26929a9ec43daec873448e");
        assert_eq!(BatchId::derive(&acme, Mode::Live, "invoice-42", shards(255)).to_string(), "ba_1093a5a106bd8431772dcfa646c8");
        assert_eq!(ProviderKey::derive(payout, 1).to_string(), "108b1804-9462-4e43-a4e6-b0e0eef33804");
        let group = ProviderKey::of_group(BatchId::derive(&acme, Mode::Live, "invoice-42", shards(255)), 7);
        assert_eq!((group.to_string().as_str(), group.payout_and_attempt()), ("112ef10d-e18c-497b-9223-d981fdc86f2f", None));
        assert_eq!(ProviderKey::derive(payout, 255).to_string(), "108b1804-9462-4e43-a4e6-b0e0eef33bfc");
        assert_eq!(ProviderKey::derive(PayoutId([0; 14]), 0).to_string(), "00000000-0000-4000-8000-000000000000");
        assert_eq!(ProviderKey::derive(PayoutId([255; 14]), 255).to_string(), "ffffffff-ffff-4fff-bfff-fffffffffffc");
        assert_eq!(PartyId::of_reference("acme"), acme);
        assert_eq!(PartyId::of_reference("Ачме & Sons").as_str(), "par_03a4a964f6cf5c1c9b893a76eb");
        let account = BalanceAccountId::derive(&acme, Mode::Live, Currency::EUR, shards(255));
        assert_eq!(account.to_string(), "bal_100372b0382f9c624b3ec737830c");
        assert_eq!(account.number(), "8555207476368526");
        assert_eq!(account.scheduled(jiff::civil::date(2026, 11, 27)).to_string(), "01630f68-01f2-89e3-9d4e-73c8a35f183a");
        assert_eq!(transaction_of_key("invoice-42").to_string(), "f64aa5b4-fcab-8857-9198-a5ade85c1124");
        let top_up = TopUpId::derive(&acme, Mode::Live, "4b2d9f5e-6d0b-4f0e-9a55-0a1b2c3d4e5f", shards(255));
        assert_eq!(top_up.to_string(), "tu_100a9b61c56d85f39651058aaeaf");
        let subscription = SubscriptionId::new(Shard::new(3), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(subscription.to_string(), "sub_030102030405060708090a0b");
        let fan_out = SubscriptionId::of_fan_out(&acme, Mode::Live, shards(255));
        assert!(fan_out.to_string().starts_with("sub_10ffff") && fan_out.is_fan_out() && !subscription.is_fan_out());
        assert_ne!(fan_out, SubscriptionId::of_fan_out(&acme, Mode::Test, shards(255)));
        assert!(!SubscriptionId::new(Shard::new(3), [0xff; 11]).is_fan_out(), "what is drawn is never a fan-out");
        let delivery = DeliveryId::new(EventId::new(payout, 7), subscription);
        assert_eq!(delivery.to_string(), "dl_108b18049462e43939ac383bbcce_7_030102030405060708090a0b");
        assert_eq!(NoticeId::derive("truelayer", "evt-1", Shard::new(5)).to_string(), "nt_05ee3cebaf1d718cde257b1a03cf");
        assert_eq!(EventId::new(payout, 7).to_string(), "ev_108b18049462e43939ac383bbcce_7");
        assert_eq!(ApiKeyId::new([0, 1, 2, 3, 4, 5, 6, 255]).to_string(), "key_00010203040506ff");
    }

    #[test]
    fn shards_are_counted_and_tagged() {
        assert_eq!(Shards::new(0), None);
        assert_eq!(shards(3).all().map(Shard::tag).collect::<Vec<_>>(), ["s00", "s01", "s02"]);
        assert_eq!(shards(255).all().map(Shard::tag).last().as_deref(), Some("s254"));
        assert!(shards(3).contains(Shard::new(2)) && !shards(3).contains(Shard::new(3)));
    }

    #[test]
    fn only_the_exact_form_is_an_id() {
        assert!(PAYOUT.parse::<PayoutId>().is_ok());
        for text in [
            "",
            "po_",
            "po",
            "108b18049462e43939ac383bbcce",
            "PO_108b18049462e43939ac383bbcce",
            "nt_108b18049462e43939ac383bbcce",
            "po-108b18049462e43939ac383bbcce",
            "po_108B18049462E43939AC383BBCCE",
            "po_108b18049462e43939ac383bbcce0",
            "po_108b18049462e43939ac383bbcce00",
            "po_108b18049462e43939ac383bbc",
            " po_108b18049462e43939ac383bbcce",
            "po_108b18049462e43939ac383bbcce ",
            "po_108b18049462e43939ac383bbcg0",
            "po_108b18049462e43939ac383bbc+1",
            "po_108b18049462e43939ac383bbcé",
        ] {
            assert!(text.parse::<PayoutId>().is_err(), "{text:?}");
        }
        assert!("ev_108b18049462e43939ac383bbcce_0".parse::<EventId>().is_ok());
        assert!("ev_108b18049462e43939ac383bbcce_4294967295".parse::<EventId>().is_ok());
        for text in [
            "ev_108b18049462e43939ac383bbcce",
            "ev_108b18049462e43939ac383bbcce_",
            "ev_108b18049462e43939ac383bbcce_01",
            "ev_108b18049462e43939ac383bbcce_00",
            "ev_108b18049462e43939ac383bbcce_+1",
            "ev_108b18049462e43939ac383bbcce_-1",
            "ev_108b18049462e43939ac383bbcce_4294967296",
            "ev_108b18049462e43939ac383bbcce_1_1",
            "ev_108b18049462e43939ac383bbcce.1",
            "ev_108B18049462E43939AC383BBCCE_1",
            "po_108b18049462e43939ac383bbcce_1",
        ] {
            assert!(text.parse::<EventId>().is_err(), "{text:?}");
        }
        let key = "108b1804-9462-4e43-a4e6-b0e0eef33804";
        assert!(key.parse::<ProviderKey>().is_ok());
        for text in [key.to_uppercase(), key.replace('-', ""), format!("{{{key}}}"), format!("urn:uuid:{key}"), String::new()] {
            assert!(text.parse::<ProviderKey>().is_err(), "{text:?}");
        }
        let error = "po_".parse::<PayoutId>().expect_err("no digits");
        assert_eq!(error.to_string(), "expected po_ and 28 lower-case hexadecimal digits");
    }

    #[test]
    fn party_ids_are_plain() {
        for (text, good) in [("a", true), ("Acme_1-x", true), (&*"x".repeat(64), true), (&*"x".repeat(65), false)] {
            assert_eq!(PartyId::parse(text).is_ok(), good, "{text:?}");
        }
        for text in ["", " ", "a b", "a.b", "a:b", "{s00}", "a/b", "é", "a\n"] {
            assert!(PartyId::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn json_is_the_text_and_is_checked() {
        let payout: PayoutId = PAYOUT.parse().expect("an id");
        assert_eq!(serde_json::to_string(&payout).expect("serialises"), format!("\"{PAYOUT}\""));
        assert_eq!(serde_json::to_string(&Mode::Live).expect("serialises"), "\"live\"");
        assert_eq!(serde_json::from_str::<Mode>("\"test\"").expect("reads"), Mode::Test);
        assert!(serde_json::from_str::<PartyId>("\"a b\"").is_err());
        assert!(serde_json::from_str::<PayoutId>("\"po_\"").is_err());
        assert!(serde_json::from_str::<PayoutId>("1").is_err());
        // Also where the reader has only an owned text: through a value, and with escapes.
        assert_eq!(serde_json::from_value::<PayoutId>(serde_json::json!(PAYOUT)).expect("reads"), payout);
        assert_eq!(serde_json::from_str::<PartyId>("\"a\\u0062\"").expect("reads"), party("ab"));
        // And as keys of maps.
        let map = std::collections::BTreeMap::from([(payout, 1)]);
        let json = serde_json::to_string(&map).expect("serialises");
        assert_eq!(serde_json::from_str::<std::collections::BTreeMap<PayoutId, i32>>(&json).expect("reads"), map);
    }

    /// Moving a boundary between two parts makes another id.
    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(digest("a", &[b"bc"]), digest("ab", &[b"c"]));
        assert_ne!(digest("a", &[b"b", b"c"]), digest("a", &[b"bc", b""]));
        let id = |party_id: &str, mode, key| PayoutId::derive(&party(party_id), mode, key, Shards::ONE);
        assert_ne!(id("acme", Mode::Live, "k"), id("acme", Mode::Test, "k"));
        assert_ne!(id("acme", Mode::Live, "k"), id("acm", Mode::Live, "ek"));
    }

    #[test]
    fn foreign_uuids_are_not_inverted() {
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "00000000-0000-5000-8000-000000000000",
            "00000000-0000-4000-0000-000000000000",
            "00000000-0000-4000-c000-000000000000",
            "00000000-0000-4000-8000-000000000001",
            "00000000-0000-4000-8000-000000000002",
        ] {
            assert_eq!(text.parse::<ProviderKey>().expect("a UUID").payout_and_attempt(), None, "{text}");
        }
    }

    fn back<T: FromStr<Err = IdError> + fmt::Display + PartialEq + Serialize + for<'de> Deserialize<'de>>(id: &T) -> bool {
        let json = serde_json::to_string(id).expect("serialises");
        id.to_string().parse::<T>().as_ref() == Ok(id) && serde_json::from_str::<T>(&json).as_ref().ok() == Some(id)
    }

    proptest! {
        #[test]
        fn ids_round_trip(bytes: [u8; 14], random: [u8; 11], short: [u8; 8], sequence: u32, attempt: u8, name in "[A-Za-z0-9_-]{1,64}") {
            let payout = PayoutId(bytes);
            let event = EventId::new(payout, sequence);
            let subscription = SubscriptionId::new(Shard::new(bytes[1]), random);
            let delivery = DeliveryId::new(event, subscription);
            let notice = NoticeId::derive("truelayer", &name, Shard::new(bytes[2]));
            prop_assert!(back(&payout) && back(&BatchId(bytes)) && back(&BalanceAccountId(bytes)) && back(&event) && back(&subscription) && back(&delivery) && back(&notice));
            prop_assert!(back(&ApiKeyId::new(short)) && back(&party(&name)) && back(&ProviderKey::derive(payout, attempt)));
            prop_assert_eq!((payout.shard().index(), event.shard(), delivery.event().shard()), (bytes[0], payout.shard(), payout.shard()));
            prop_assert_eq!((subscription.shard().index(), notice.shard().index()), (bytes[1], bytes[2]));
            prop_assert!(!event.to_string().contains('.'));
        }

        #[test]
        fn provider_keys_are_version_4_and_invertible(bytes: [u8; 14], attempt: u8) {
            let key = ProviderKey::derive(PayoutId(bytes), attempt);
            prop_assert_eq!(key.as_uuid().get_version_num(), 4);
            prop_assert_eq!(key.as_uuid().get_variant(), uuid::Variant::RFC4122);
            prop_assert_eq!(key.payout_and_attempt(), Some((PayoutId(bytes), attempt)));
        }

        #[test]
        fn a_key_that_inverts_is_the_one_that_is_derived(bits: u128) {
            let key = ProviderKey::from_uuid(Uuid::from_u128(bits & !(0xf << 76) & !(0b11 << 62) & !0b11 | VERSION_4 | VARIANT));
            let Some((payout, attempt)) = key.payout_and_attempt() else { panic!("it has the form") };
            prop_assert_eq!(ProviderKey::derive(payout, attempt), key);
        }

        #[test]
        fn distinct_attempts_have_distinct_keys(bytes: [u8; 14], one: u8, other: u8) {
            let key = |attempt| ProviderKey::derive(PayoutId(bytes), attempt);
            prop_assert_eq!(key(one) == key(other), one == other);
        }

        #[test]
        fn a_party_stays_in_one_existing_shard(name in "[A-Za-z0-9_-]{1,64}", count in 1_u8.., key: String) {
            let (party, shards) = (party(&name), shards(count));
            let payout = PayoutId::derive(&party, Mode::Live, &key, shards);
            prop_assert_eq!(payout.shard(), shards.of(&party, Mode::Live));
            prop_assert!(shards.contains(payout.shard()));
            prop_assert_eq!(payout, PayoutId::derive(&party, Mode::Live, &key, shards));
        }

        #[test]
        fn any_text_is_an_id_in_its_only_form_or_an_error(text in "(po_|ev_|key_)?[0-9a-fA-F_é]{0,34}") {
            if let Ok(id) = text.parse::<PayoutId>() { prop_assert_eq!(id.to_string(), &*text); }
            if let Ok(id) = text.parse::<EventId>() { prop_assert_eq!(id.to_string(), &*text); }
            if let Ok(id) = text.parse::<ApiKeyId>() { prop_assert_eq!(id.to_string(), &*text); }
        }

        #[test]
        fn a_delivery_has_one_form(text in "dl_[0-9a-f]{27,29}_[0-9]{1,3}_[0-9a-fA-F]{23,24}(_1)?") {
            if let Ok(id) = text.parse::<DeliveryId>() { prop_assert_eq!(id.to_string(), &*text); }
        }
    }
}
