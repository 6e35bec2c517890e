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
        use super::{Deserializer, Serializer, SignedDuration, read};
        use serde::Deserialize as _;

        pub(in super::super) fn serialize<S: Serializer>(durations: &[SignedDuration], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(durations.iter().map(|duration| super::super::millis(*duration)))
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SignedDuration>, D::Error> {
            Vec::<i64>::deserialize(deserializer)?.into_iter().map(read).collect()
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `1h2m3s`, `250ms`, `0s`.
    fn duration(text: &str) -> SignedDuration {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn durations(text: &str) -> Vec<SignedDuration> {
        text.split(',').filter(|part| *part != "-").map(duration).collect()
    }

    fn ms(number: i64) -> SignedDuration {
        SignedDuration::from_millis(number)
    }

    /// What can come out over many seeds, as `from..to`: every result lies within, and both ends come near enough to be sure that they are the ends.
    fn spread_of(wait: impl Fn(&[u8]) -> SignedDuration) -> (SignedDuration, SignedDuration) {
        let all: Vec<_> = (0_u32..2_000).map(|seed| wait(&seed.to_be_bytes())).collect();
        (all.iter().copied().min().expect("some"), all.iter().copied().max().expect("some"))
    }

    fn is_spread(found: (SignedDuration, SignedDuration), from: SignedDuration, to: SignedDuration) -> bool {
        let slack = ms((millis(to) - millis(from)) / 100);
        found.0 >= from && found.1 <= to && found.0 <= from + slack && found.1 >= to - slack
    }

    /// Rows of a table: one line each, columns by white space, the first line names them.
    fn rows<const N: usize>(table: &str) -> Vec<[&str; N]> {
        let lines = table.lines().map(str::trim).filter(|line| !line.is_empty()).skip(1);
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{N} columns: {line}"))).collect()
    }

    /// The first bytes of digests that another implementation computed.
    #[test]
    fn jitter_is_fixed_for_ever() {
        assert_eq!(Jitter::new(b"", 0), Jitter(0xdf3f_6198));
        assert_eq!(Jitter::new(b"po_1", 7), Jitter(0xbe13_f52a));
        assert_eq!(Jitter(0).within(ms(10)), ms(0));
        assert_eq!(Jitter(u32::MAX).within(ms(10)), ms(10));
        assert_eq!(Jitter(1 << 31).within(ms(9)), ms(5));
        assert_eq!(Jitter(u32::MAX).within(ms(0)), ms(0));
        assert_eq!(Jitter(u32::MAX).within(ms(-5)), ms(0));
        assert!(Jitter(u32::MAX).within(SignedDuration::MAX) <= ms(i64::MAX));
    }

    #[test]
    fn backoff_grows_to_its_cap() {
        for row in rows(
            "
            first   factor  cap     attempt      from    to
            1s      2       1m      0            500ms   1s
            1s      2       1m      1            500ms   1s
            1s      2       1m      2            1s      2s
            1s      2       1m      3            2s      4s
            1s      2       1m      6            16s     32s
            1s      2       1m      7            30s     1m
            1s      2       1m      4294967295   30s     1m
            1s      1       1m      9            500ms   1s
            1s      0       1m      9            500ms   1s
            1s      4294967295 1h   2            30m     1h
            5ms     1       1s      1            3ms     5ms
            1m      2       1s      1            500ms   1s
            0s      2       1m      5            0s      0s
            -1s     2       1m      5            0s      0s
            ",
        ) {
            let [first, factor, cap, attempt, from, to] = row;
            let backoff = Backoff { first: duration(first), factor: factor.parse().expect("a factor"), cap: duration(cap) };
            let attempt = attempt.parse().expect("an attempt");
            let found = spread_of(|seed| backoff.wait(attempt, seed));
            assert!(is_spread(found, duration(from), duration(to)), "{row:?}: {found:?}");
        }
    }

    #[test]
    fn three_days_of_webhooks() {
        let retry = Retry::three_days();
        for row in rows(
            "
            failed       wait      after
            0            5s        -
            1            5s        5s
            2            30s       35s
            3            2m        2m35s
            4            5m        7m35s
            5            15m       22m35s
            6            30m       52m35s
            7            1h        1h52m35s
            8            2h        3h52m35s
            9            4h        7h52m35s
            10           8h        15h52m35s
            11           8h        23h52m35s
            16           8h        63h52m35s
            17           8h7m25s   72h
            18           -         -
            4294967295   -         -
            ",
        ) {
            let [failed, wait, after] = row;
            let failed: u32 = failed.parse().expect("a number");
            if wait == "-" {
                assert_eq!(retry.wait(failed, b"seed"), None, "{row:?}");
                continue;
            }
            let listed = duration(wait);
            let found = spread_of(|seed| retry.wait(failed, seed).expect("another attempt"));
            assert!(is_spread(found, listed, listed + ms(millis(listed) / 10)), "{row:?}: {found:?}");
            if after != "-" {
                let total = retry.waits[..failed as usize].iter().sum::<SignedDuration>();
                assert_eq!(total, duration(after), "{row:?}");
            }
        }
        assert_eq!(Retry { waits: Vec::new() }.wait(1, b"seed"), None);
    }

    /// `since` is time zero. A next look is written as its earliest and latest time; they differ by the spread.
    #[test]
    fn polls_end_with_a_look_at_the_bound() {
        for row in rows(
            "
            waits         bound   polls        now     from     to
            10s,1m,10m    1h      0            0s      10s      11s
            10s,1m,10m    1h      1            10s     1m10s    1m16s
            10s,1m,10m    1h      2            70s     11m10s   12m10s
            10s,1m,10m    1h      3            12m     22m      23m
            10s,1m,10m    1h      4294967295   12m     22m      23m
            10s,1m,10m    1h      7            50m     1h       1h
            10s,1m,10m    1h      7            55m     1h       1h
            10s,1m,10m    1h      7            59m59s  1h       1h
            10s,1m,10m    1h      8            1h      -        -
            10s,1m,10m    1h      8            2h      -        -
            10s           1h      0            -1m     -50s     -49s
            -             1h      0            0s      1h       1h
            -             1h      1            1h      -        -
            0s            1h      5            1m      1m       1m
            10s           0s      0            0s      -        -
            10s           -1s     0            0s      -        -
            ",
        ) {
            let [waits, bound, polls, now, from, to] = row;
            let polling = Polling { waits: durations(waits), bound: duration(bound) };
            let (polls, now) = (polls.parse().expect("a number"), Timestamp::UNIX_EPOCH + duration(now));
            let next = |seed: &[u8]| polling.next(polls, Timestamp::UNIX_EPOCH, now, seed).map(|at| at.duration_since(Timestamp::UNIX_EPOCH));
            if from == "-" {
                assert_eq!(next(b"seed"), None, "{row:?}");
            } else {
                let found = spread_of(|seed| next(seed).expect("another look"));
                assert!(is_spread(found, duration(from), duration(to)), "{row:?}: {found:?}");
            }
        }
    }

    #[test]
    fn json_is_whole_milliseconds() {
        let backoff = Backoff { first: ms(250), factor: 2, cap: ms(60_000) };
        let retry = Retry { waits: vec![ms(5_000), ms(30_000)] };
        let polling = Polling { waits: vec![ms(1)], bound: ms(i64::MAX) };
        for (text, json) in [
            (serde_json::to_string(&backoff), r#"{"first_ms":250,"factor":2,"cap_ms":60000}"#),
            (serde_json::to_string(&retry), r#"{"waits_ms":[5000,30000]}"#),
            (serde_json::to_string(&polling), r#"{"waits_ms":[1],"bound_ms":9223372036854775807}"#),
        ] {
            assert_eq!(text.expect("serialises"), json);
        }
        assert_eq!(serde_json::from_str::<Backoff>(r#"{"first_ms":250,"factor":2,"cap_ms":60000}"#).expect("reads"), backoff);
        assert_eq!(serde_json::from_str::<Retry>(r#"{"waits_ms":[5000,30000]}"#).expect("reads"), retry);
        assert_eq!(serde_json::from_str::<Polling>(r#"{"waits_ms":[1],"bound_ms":9223372036854775807}"#).expect("reads"), polling);
        for bad in [r#"{"waits_ms":[-1]}"#, r#"{"waits_ms":[1.0]}"#, r#"{"waits_ms":["1s"]}"#, r#"{"waits":[1]}"#, r#"{"waits_ms":[1],"cap_ms":1}"#] {
            assert!(serde_json::from_str::<Retry>(bad).is_err(), "{bad}");
        }
    }

    fn any_wait() -> impl Strategy<Value = SignedDuration> {
        prop_oneof![
            (0_i64..100_000_000).prop_map(ms),
            (any::<i64>(), -999_999_999_i32..=999_999_999).prop_map(|(s, ns)| SignedDuration::new(s / 2, ns)),
            Just(SignedDuration::MAX),
            Just(SignedDuration::MIN),
        ]
    }

    fn any_time() -> impl Strategy<Value = Timestamp> {
        let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        prop_oneof![0_i64..4_000_000_000, first..=last, Just(first), Just(last)].prop_map(|second| Timestamp::from_second(second).expect("in range"))
    }

    fn any_number() -> impl Strategy<Value = u32> {
        prop_oneof![0_u32..40, any::<u32>(), Just(u32::MAX)]
    }

    proptest! {
        #[test]
        fn backoff_is_repeatable_and_never_beyond_its_cap(first in any_wait(), factor in any_number(), cap in any_wait(), attempt in any_number(), seed: Vec<u8>) {
            let backoff = Backoff { first, factor, cap };
            let wait = backoff.wait(attempt, &seed);
            prop_assert_eq!(wait, backoff.wait(attempt, &seed));
            prop_assert!(wait >= SignedDuration::ZERO && wait <= cap.max(SignedDuration::ZERO));
            prop_assert!(wait >= ms(millis(first).min(millis(cap)) / 2));
        }

        #[test]
        fn retries_are_repeatable_and_within_a_tenth(waits in prop::collection::vec(any_wait(), 0..6), failed in any_number(), seed: Vec<u8>) {
            let retry = Retry { waits };
            let wait = retry.wait(failed, &seed);
            prop_assert_eq!(wait, retry.wait(failed, &seed));
            prop_assert_eq!(wait.is_some(), failed.max(1) as usize <= retry.waits.len());
            if let Some(wait) = wait {
                let listed = millis(retry.waits[failed.saturating_sub(1) as usize]);
                prop_assert!(wait >= ms(listed) && wait <= ms(listed).saturating_add(ms(listed / 10)));
            }
        }

        /// The time of each attempt is after that of the one before, and the whole takes three days to three days and a tenth.
        #[test]
        fn three_days_only_go_forward(seed: Vec<u8>) {
            let retry = Retry::three_days();
            let mut total = SignedDuration::ZERO;
            let mut failed = 0;
            while let Some(wait) = retry.wait(failed + 1, &seed) {
                prop_assert!(wait > SignedDuration::ZERO);
                total += wait;
                failed += 1;
            }
            prop_assert_eq!(failed, 17);
            prop_assert!(total >= SignedDuration::from_hours(72) && total <= SignedDuration::from_mins(4752));
        }

        #[test]
        fn a_look_is_never_before_now_nor_after_the_bound(
            waits in prop::collection::vec(any_wait(), 0..6), bound in any_wait(), polls in any_number(),
            since in any_time(), now in any_time(), seed: Vec<u8>,
        ) {
            let polling = Polling { waits, bound };
            let next = polling.next(polls, since, now, &seed);
            prop_assert_eq!(next, polling.next(polls, since, now, &seed));
            let end = later(since, ms(millis(bound)));
            prop_assert_eq!(next.is_none(), now >= end);
            prop_assert!(next.is_none_or(|at| at >= now && at <= end));
        }

        /// Followed from look to look, polling goes forward, takes its last look exactly at the bound, and stops.
        #[test]
        fn polling_ends_at_its_bound(waits in prop::collection::vec(1_000_i64..600_000, 0..5), bound in 0_i64..7_200_000, seed: Vec<u8>) {
            let polling = Polling { waits: waits.into_iter().map(ms).collect(), bound: ms(bound) };
            let since = Timestamp::UNIX_EPOCH;
            let (mut now, mut polls) = (since, 0);
            while let Some(next) = polling.next(polls, since, now, &seed) {
                prop_assert!(next > now);
                (now, polls) = (next, polls + 1);
            }
            prop_assert_eq!(now, since + ms(bound));
        }
    }
}
