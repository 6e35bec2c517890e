//! The slots of one relay worker, by the party whose deliveries are in them, so that no party has them all.
//!
//! A party may have [`PER_FREE`] times as many as are left free: seven eighths while it is alone, an equal share beside others that want as many, and always one. So whoever comes
//! finds something free at once, and whatever a party has too much of is not given to it again as it ends; nobody has to know who waits. The slots for subscriptions to which nothing gets
//! through, or has yet, are shared out in the same way among themselves.
//!
//! It is counted in the memory of the worker, by what is alive there: nothing is left of it after a crash, and each process keeps something free of its own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a party may have for each slot that is left free.
pub(super) const PER_FREE: usize = 7;

/// Lanes that are remembered as passed over, at most, of all parties together. Another one is looked at when its pause ends.
const PASSED_OVER_MAX: usize = 16_384;

/// Who has the slots of a worker.
#[derive(Debug)]
pub(super) struct Slots {
    all: usize,
    /// Those of them that may be taken by tries.
    tries: usize,
    /// Rung when a party has room again for a lane that was passed over.
    wake: Arc<Notify>,
    parties: Mutex<Parties>,
}

#[derive(Debug, Default)]
struct Parties {
    held: HashMap<Arc<str>, Held>,
    /// Lanes whose turn had come when their party had its share, in the order in which they were passed over.
    passed_over: HashMap<Arc<str>, VecDeque<String>>,
    /// All of them.
    known: HashSet<String>,
}

/// What one party has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) slots: usize,
    /// Those of them for subscriptions to which nothing gets through, or has yet.
    pub(super) tries: usize,
}

/// A slot that a delivery has. Free again when this is dropped.
#[derive(Debug)]
pub struct Slot {
    of: Arc<Slots>,
    party: Arc<str>,
    is_try: bool,
}

impl Slots {
    /// `tries`: how many of the worker's slots may be taken by tries. `wake` is that of the worker's lane.
    pub(super) fn new(all: usize, tries: usize, wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { all, tries, wake, parties: Mutex::default() })
    }

    /// Always succeeds: who leases has asked before.
    pub(super) fn take(self: &Arc<Self>, party: &Arc<str>, is_try: bool) -> Slot {
        let mut parties = self.lock();
        let of_party = parties.held.entry(party.clone()).or_default();
        of_party.slots += 1;
        of_party.tries += usize::from(is_try);
        Slot { of: self.clone(), party: party.clone(), is_try }
    }

    pub(super) fn free(&self) -> usize {
        self.lock().free(self.all)
    }

    /// How many tries may be added.
    pub(super) fn tries_left(&self) -> usize {
        self.tries.saturating_sub(self.lock().held.values().map(|held| held.tries).sum())
    }

    /// Whether a party may put something in the place of what ends.
    pub(super) fn may_go_on(&self, party: &str) -> bool {
        let parties = self.lock();
        parties.held.get(party).is_none_or(|held| held.slots <= parties.free(self.all).saturating_mul(PER_FREE).max(1))
    }

    /// The parties that may come to their share while up to `more` of `free` slots are taken, by whomever; few, unless nearly all are.
    pub(super) fn near_their_share(&self, more: usize, free: usize) -> Vec<(Arc<str>, Held)> {
        let tries = self.tries_left();
        let comes_near = |held: usize, more: usize, free: usize| held + more * (2 * PER_FREE + 1) > free * PER_FREE;
        let parties = self.lock();
        let near = |held: &Held| comes_near(held.slots, more, free) || held.tries > 0 && comes_near(held.tries, more.min(tries), tries);
        parties.held.iter().filter(|(_, held)| near(held)).map(|(party, held)| (party.clone(), *held)).collect()
    }

    /// Notes lanes whose turn had come when their party had its share: pairs of party and lane.
    pub(super) fn passed_over(&self, pairs: Vec<String>) {
        let mut parties = self.lock();
        let mut pairs = pairs.into_iter();
        while let (Some(party), Some(lane)) = (pairs.next(), pairs.next()) {
            if parties.known.len() < PASSED_OVER_MAX && parties.known.insert(lane.clone()) {
                parties.passed_over.entry(party.into()).or_default().push_back(lane);
            }
        }
        // What ended while the store was asked has rung for nobody.
        let free = parties.free(self.all);
        let room = |party: &Arc<str>| allowance(parties.held.get(party).copied().unwrap_or_default(), free) > 0;
        let waits = parties.passed_over.keys().any(room);
        drop(parties);
        if waits {
            self.wake.notify_one();
        }
    }

    /// Lanes that were passed over and whose parties have room by now, at most `most`. They are forgotten: whoever asks looks at them.
    pub(super) fn with_room_again(&self, most: usize) -> Vec<String> {
        let mut parties = self.lock();
        let mut again = Vec::new();
        if parties.passed_over.is_empty() {
            return again;
        }
        let free = parties.free(self.all);
        let Parties { held, passed_over, known } = &mut *parties;
        for (party, lanes) in passed_over.iter_mut() {
            let room = allowance(held.get(party).copied().unwrap_or_default(), free).min(most.saturating_sub(again.len()));
            again.extend(lanes.drain(..room.min(lanes.len())));
        }
        passed_over.retain(|_, lanes| !lanes.is_empty());
        again.iter().for_each(|lane| _ = known.remove(lane));
        again
    }

    fn lock(&self) -> MutexGuard<'_, Parties> {
        self.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parties {
    fn free(&self, all: usize) -> usize {
        all.saturating_sub(self.held.values().map(|held| held.slots).sum())
    }
}

/// What a party may take besides what it has.
fn allowance(held: Held, free: usize) -> usize {
    let least = usize::from(held.slots == 0);
    (free.saturating_mul(PER_FREE).saturating_sub(held.slots) / (PER_FREE + 1)).max(least)
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut parties = self.of.lock();
        if let Some(held) = parties.held.get_mut(&self.party) {
            held.slots -= 1;
            held.tries -= usize::from(self.is_try);
            if held.slots == 0 {
                parties.held.remove(&self.party);
            }
        }
        let waits = parties.passed_over.contains_key(&self.party);
        drop(parties);
        if waits {
            self.of.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(all: usize, tries: usize) -> Arc<Slots> {
        Slots::new(all, tries, Arc::default())
    }

    #[test]
    fn what_ends_is_free_again_and_a_party_that_has_none_may_always_have_one() {
        let slots = slots(8, 4);
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        let mut of_a: Vec<Slot> = (0..7).map(|at| slots.take(&a, at < 3)).collect();
        assert_eq!((slots.free(), slots.tries_left()), (1, 1));
        assert!(slots.may_go_on(&a) && slots.may_go_on(&b));
        let of_b = slots.take(&b, false);
        assert!(!slots.may_go_on(&a) && slots.may_go_on(&b), "one is always its own");
        of_a.truncate(1);
        assert_eq!((slots.free(), slots.tries_left()), (6, 3));
        drop((of_a, of_b));
        assert_eq!((slots.free(), slots.tries_left()), (8, 4));
        assert!(slots.lock().held.is_empty(), "who has none is forgotten");
    }

    /// Whoever is not named has less than a share at the end of any call.
    #[test]
    fn those_near_their_share_are_named() {
        let slots = slots(512, 0);
        let [many, few]: [Arc<str>; 2] = ["many".into(), "few".into()];
        let _held: Vec<Slot> = (0..300).map(|_| slots.take(&many, false)).chain((0..3).map(|_| slots.take(&few, false))).collect();
        let named = |more, free| -> Vec<Held> { slots.near_their_share(more, free).into_iter().map(|(_, held)| held).collect() };
        assert!(named(64, slots.free()).is_empty(), "an ordinary call names nobody");
        assert_eq!(named(4, 40), [Held { slots: 300, tries: 0 }]);
        assert_eq!(named(64, 100).len(), 2, "nearly all that are free are asked for");
    }

    #[tokio::test]
    async fn a_lane_that_was_passed_over_is_named_once_as_soon_as_its_party_has_room() {
        let slots = slots(8, 8);
        let party: Arc<str> = "a".into();
        let mut held: Vec<Slot> = (0..7).map(|_| slots.take(&party, false)).collect();
        slots.passed_over(["a", "one", "a", "two", "a", "one"].map(str::to_owned).to_vec());
        assert!(slots.with_room_again(8).is_empty());
        held.pop();
        slots.wake.notified().await;
        assert_eq!(slots.with_room_again(8), ["one"]);
        held.clear();
        assert_eq!((slots.with_room_again(8), slots.with_room_again(8)), (vec!["two".to_owned()], Vec::new()));
        assert!(slots.lock().known.is_empty());
        slots.passed_over((0..=PASSED_OVER_MAX).flat_map(|number| ["a".to_owned(), number.to_string()]).collect());
        assert_eq!(slots.lock().known.len(), PASSED_OVER_MAX);
    }
}
