//! The parts of a store, and which of them a party is in.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU64};

use super::form::digest;
use super::{Mode, PartyId};

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
