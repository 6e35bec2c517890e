//! The books against the payouts: what an account has reserved must be what its open payouts hold.
//!
//! Open payouts are walked a page a sweep, in the order of their opening: a place is a time and how many of that time were read, so what leaves the list behind it hides
//! nobody. A walk sees payouts at different times, so a difference counts only if two walks in a row find the same one: the same payouts at the same versions, and the
//! same reserve. On an account that never rests none is found; on one that does it is, however small.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use domain::ledger::Account;
use domain::payout::Payout;

/// A walk over the open payouts of a shard, and what the one before it found.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Where the next page begins: a time, and how many of that time were read.
    pub(super) since_ms: i64,
    pub(super) passed: usize,
    /// By ledger.
    held: BTreeMap<String, Held>,
    /// What a payout that cannot be read holds, nobody knows.
    pub(super) unreadable: bool,
    suspects: BTreeMap<String, Difference>,
}

/// What open payouts of one ledger hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    minor: i64,
    /// Which payouts, at which versions, in any order.
    which: u64,
}

/// That an account's reserve is not what its payouts hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Difference {
    reserved: i64,
    held: Held,
}

/// A walk that has come to its end.
#[derive(Clone, Debug)]
pub(super) struct Walked {
    held: BTreeMap<String, Held>,
    before: BTreeMap<String, Difference>,
}

impl Walk {
    /// Counts an open payout of a ledger.
    pub(super) fn count(&mut self, ledger: String, payout: &Payout) {
        let minor = payout.amount.exact().filter(|_| payout.holds_funds_in() == Account::Reserved).map_or(0, domain::money::Money::minor);
        let mut hasher = DefaultHasher::new();
        (payout.id, payout.version).hash(&mut hasher);
        let held = self.held.entry(ledger).or_default();
        held.minor = held.minor.saturating_add(minor);
        held.which ^= hasher.finish();
    }

    /// Begins anew. What this walk has found, unless it missed somebody.
    pub(super) fn end(&mut self) -> Option<Walked> {
        let Self { held, suspects, unreadable, .. } = std::mem::take(self);
        (!unreadable).then_some(Walked { held, before: suspects })
    }

    /// Remembers for the next walk what this one suspects.
    pub(super) fn suspect(&mut self, ledger: String, found: Found) {
        if let Some(difference) = found.difference {
            self.suspects.insert(ledger, difference);
        }
    }
}

/// What a walk says of one ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    difference: Option<Difference>,
    /// The walk before found the very same.
    pub(super) is_sure: bool,
}

impl Found {
    /// How much more is reserved than is held, in minor units.
    pub(super) fn off(&self) -> i64 {
        self.difference.map_or(0, |difference| difference.reserved.saturating_sub(difference.held.minor))
    }
}

impl Walked {
    pub(super) fn of(&self, ledger: &str, reserved: i64) -> Found {
        let held = self.held.get(ledger).copied().unwrap_or_default();
        let difference = (held.minor != reserved).then_some(Difference { reserved, held });
        Found { difference, is_sure: difference.is_some() && self.before.get(ledger).copied() == difference }
    }
}
