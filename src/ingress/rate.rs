//! How many requests a second an API key may make: a bucket of tokens per key, in the memory of this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::id::ApiKeyId;
use serde::Deserialize;

/// Keys that are remembered at one time, at most. A key that was not used for as long as its bucket takes to fill again is as good as new.
const KEYS_MAX: usize = 100_000;

/// The rate of each key.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Requests a second, in the long run. 0: no limit.
    pub per_s: u32,
    /// Requests at once, after a rest; at least `per_s`. 0: as many as in two seconds.
    pub burst: u32,
}

/// The buckets of those who came lately.
#[derive(Debug)]
pub(super) struct Rates {
    settings: Settings,
    /// When each bucket is full again.
    full_at: Mutex<HashMap<ApiKeyId, Instant>>,
}

impl Rates {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, full_at: Mutex::default() }
    }

    /// Takes a token of the key.
    ///
    /// # Errors
    /// How long until there is one.
    pub(super) fn take(&self, key: ApiKeyId, now: Instant) -> Result<(), Duration> {
        let Settings { per_s, burst } = self.settings;
        if per_s == 0 {
            return Ok(());
        }
        let one = Duration::from_secs(1) / per_s;
        let all = one * if burst == 0 { per_s.saturating_mul(2) } else { burst };
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEYS_MAX {
            buckets.retain(|_, full_at| *full_at > now);
            if buckets.len() >= KEYS_MAX {
                buckets.clear();
            }
        }
        let full_at = buckets.entry(key).or_insert(now);
        let next = (*full_at).max(now) + one;
        let wait = next.duration_since(now).saturating_sub(all);
        if !wait.is_zero() {
            return Err(wait);
        }
        *full_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_burst_and_then_its_rate() {
        let (now, key, other) = (Instant::now(), ApiKeyId::new([1; 8]), ApiKeyId::new([2; 8]));
        let rates = Rates::new(Settings { per_s: 10, burst: 30 });
        let taken = |key, at| (0..100).take_while(|_| rates.take(key, at).is_ok()).count();
        assert_eq!((taken(key, now), taken(other, now)), (30, 30));
        assert_eq!(rates.take(key, now), Err(Duration::from_millis(100)));
        assert_eq!(taken(key, now + Duration::from_secs(1)), 10, "what was refused took nothing");
        assert_eq!(taken(key, now + Duration::from_secs(3_600)), 30, "a rest fills it, and no further");
        let rates = Rates::new(Settings::default());
        assert!((0..10_000).all(|_| rates.take(key, now).is_ok()), "without a limit");
    }
}
