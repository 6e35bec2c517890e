//! How long to wait, as pure functions: before a request is tried again, before a webhook is sent again, before a provider is asked again.
//!
//! Nothing here draws a random number or reads a clock. The spread that keeps many waits from ending together comes from a seed, usually the id of
//! what waits, so a repeated decision comes to the same time and a test needs no tolerance. The due index keeps what was decided; business days and
//! cut-offs are another matter.
//!
//! All waits are whole milliseconds, and that is how records and configuration hold them; a smaller rest of a [`SignedDuration`] is dropped, and a
//! negative one counts as zero.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A point between 0 and 1 that depends on a seed and a number only: the first four bytes of SHA-256 over the number (four big-endian bytes) and
/// the seed, read big-endian, over 2^32. Even over seeds and numbers, and unrelated between neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter(u32);

impl Jitter {
    /// `seed` tells apart what waits, such as an id; `attempt` tells apart its waits.
    #[must_use]
    pub fn new(seed: &[u8], attempt: u32) -> Self {
        let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::new().chain_update(attempt.to_be_bytes()).chain_update(seed).finalize());
        Self(u32::from_be_bytes([a, b, c, d]))
    }

    /// A whole number of milliseconds from 0 to `width`, both included.
    #[must_use]
    pub fn within(self, width: SignedDuration) -> SignedDuration {
        // At most 2^63 times 2^32 before the shift, and at most the width after it.
        let share = i128::from(millis(width)).saturating_add(1).saturating_mul(i128::from(self.0)) >> 32;
        SignedDuration::from_millis(i64::try_from(share).unwrap_or(i64::MAX))
    }
}

/// Waits that grow by a factor up to a cap, for as long as somebody asks: for trouble of our own, such as a provider that cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// The longest first wait.
    #[serde(rename = "first_ms", with = "milliseconds")]
    pub first: SignedDuration,
    /// How much longer each wait is than the one before; 0 counts as 1.
    pub factor: u32,
    /// No wait is longer.
    #[serde(rename = "cap_ms", with = "milliseconds")]
    pub cap: SignedDuration,
}

impl Backoff {
    /// The wait after the `attempt`th failure in a row, counted from 1 (0 counts as 1).
    ///
    /// With full = `first` × `factor` ^ (`attempt` − 1), or `cap` if that is less, the wait is between half of full and full, both included
    /// ("equal jitter"): half is certain, half is spread.
    #[must_use]
    pub fn wait(&self, attempt: u32, seed: &[u8]) -> SignedDuration {
        let growth = i64::from(self.factor.max(1)).saturating_pow(attempt.saturating_sub(1));
        let full = millis(self.first).saturating_mul(growth).min(millis(self.cap));
        let spread = SignedDuration::from_millis(full >> 1);
        SignedDuration::from_millis(full).saturating_sub(spread).saturating_add(Jitter::new(seed, attempt).within(spread))
    }
}

/// A list of waits after which one gives up: for webhooks.
///
/// Each wait is spread upwards by at most a tenth: between the listed wait and 1.1 times that. Upwards only, so that nobody is asked again
/// sooner than the list says and a list that grows by more than a tenth per step still grows when spread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// The wait after the first failure, after the second, and so on. Empty means one attempt and no second.
    #[serde(rename = "waits_ms", with = "milliseconds::list")]
    pub waits: Vec<SignedDuration>,
}

impl Retry {
    /// Seventeen waits, so eighteen attempts, over 72 hours; over at most 79.2 hours when spread.
    #[must_use]
    pub fn three_days() -> Self {
        const SECOND: i64 = 1;
        const MINUTE: i64 = 60;
        const HOUR: i64 = 3600;
        let waits = [
            5 * SECOND,
            30 * SECOND,
            2 * MINUTE,
            5 * MINUTE,
            15 * MINUTE,
            30 * MINUTE,
            HOUR,
            2 * HOUR,
            4 * HOUR,
            8 * HOUR,
            8 * HOUR,
            8 * HOUR,
            8 * HOUR,
            8 * HOUR,
            8 * HOUR,
            8 * HOUR,
            // The rest of the three days.
            8 * HOUR + 7 * MINUTE + 25 * SECOND,
        ];
        Self { waits: waits.into_iter().map(SignedDuration::from_secs).collect() }
    }

    /// The wait after that many failures, counted from 1 (0 counts as 1), or `None` to give up.
    #[must_use]
    pub fn wait(&self, failed_attempts: u32, seed: &[u8]) -> Option<SignedDuration> {
        let index = usize::try_from(failed_attempts.saturating_sub(1)).ok()?;
        self.waits.get(index).map(|wait| spread_upwards(*wait, seed, failed_attempts))
    }
}

/// When to ask a provider about something unresolved, and when to stop: a list of waits, the last of which repeats, until a bound.
///
/// Each wait is spread upwards by at most a tenth, like those of [`Retry`]. Without waits there is only the last look, at the bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polling {
    /// The wait before the first look, before the second, and so on; the last repeats.
    #[serde(rename = "waits_ms", with = "milliseconds::list")]
    pub waits: Vec<SignedDuration>,
    /// How long after `since` the last look is taken.
    #[serde(rename = "bound_ms", with = "milliseconds")]
    pub bound: SignedDuration,
}

impl Polling {
    /// The time of the next look, after `polls_so_far` looks at something that is unresolved since `since`.
    ///
    /// Never after `since` + `bound`: a look that would be is taken exactly then, so the bound does not pass without one. `None` once it has come,
    /// and a look that is still without result means that a person must decide. Never before `now` either; a wait of zero means now.
    /// A clock that went back behind `since` only makes the time of waiting longer, not the bound.
    #[must_use]
    pub fn next(&self, polls_so_far: u32, since: Timestamp, now: Timestamp, seed: &[u8]) -> Option<Timestamp> {
        let bound = later(since, SignedDuration::from_millis(millis(self.bound)));
        if now >= bound {
            return None;
        }
        let listed = usize::try_from(polls_so_far).ok().and_then(|index| self.waits.get(index)).or(self.waits.last());
        Some(listed.map_or(bound, |wait| later(now, spread_upwards(*wait, seed, polls_so_far)).min(bound)))
    }
}

/// From the wait itself to 1.1 times that, both included.
fn spread_upwards(wait: SignedDuration, seed: &[u8], attempt: u32) -> SignedDuration {
    let listed = millis(wait);
    let tenth = SignedDuration::from_millis(listed.checked_div(10).unwrap_or_default());
    SignedDuration::from_millis(listed).saturating_add(Jitter::new(seed, attempt).within(tenth))
}

/// `at` plus a wait, or the end of time if that is earlier.
fn later(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// Whole milliseconds; zero for what is negative, the largest number for what is longer than that many milliseconds.
fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis().max(0)).unwrap_or(i64::MAX)
}

/// serde of a duration as a whole number of milliseconds, 0 or more.
mod milliseconds {
    use jiff::SignedDuration;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &SignedDuration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(super::millis(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SignedDuration, D::Error> {
        read(i64::deserialize(deserializer)?)
    }

    fn read<E: serde::de::Error>(number: i64) -> Result<SignedDuration, E> {
        if number < 0 { Err(E::custom("a wait is 0 milliseconds or more")) } else { Ok(SignedDuration::from_millis(number)) }
    }

    pub(super) mod list {
        use super::{Deserializer, SignedDuration, Serializer, read};
        use serde::Deserialize as _;

        pub(in super::super) fn serialize<S: Serializer>(durations: &[SignedDuration], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(durations.iter().map(|duration| super::super::millis(*duration)))
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SignedDuration>, D::Error> {
            Vec::<i64>::deserialize(deserializer)?.into_iter().map(read).collect()
        }
    }
}
