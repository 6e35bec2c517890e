//! Ids of what is told: an event of a payout, and its way to one subscription.

use std::fmt;
use std::str::FromStr;

use super::form::{read_hex, write_hex};
use super::{IdError, PayoutId, Shard, SubscriptionId};

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
