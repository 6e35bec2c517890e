//! Chance from a seed: whoever throws dice has some of their own, so that what one draws does not depend on the speed of another.

use std::ops::Range;
use std::time::Duration;

/// A sequence of numbers that looks random (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64, whose: &str) -> Self {
        let mut dice = Self(seed);
        for byte in whose.bytes() {
            dice.0 ^= dice.next().wrapping_add(byte.into());
        }
        dice
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start).max(1)
    }

    pub(super) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// A time within that one, in whole milliseconds.
    pub(super) fn within_time(&mut self, time: Duration) -> Duration {
        self.millis(0..u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.within(0..100) < chance
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let place = self.within(0..from.len() as u64);
        from.get(usize::try_from(place).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_repeat_themselves_by_seed_and_owner() {
        let thrown = |seed, whose| {
            let mut dice = Dice::new(seed, whose);
            (0..100).map(|_| dice.within(0..6)).collect::<Vec<_>>()
        };
        assert_eq!(thrown(7, "load"), thrown(7, "load"));
        assert_ne!(thrown(7, "load"), thrown(8, "load"));
        assert_ne!(thrown(7, "load"), thrown(7, "store"));
        assert!((0..6).all(|side| thrown(7, "load").contains(&side)));
    }
}
