//! The provider's public keys: fetched from the allowed addresses only, cached, and never fetched more often than a bound, whatever strangers send.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};
use tokio::time::Instant;

use crate::http::{Call, Client, ClientError, Limits, Waits};
use crate::jws::{Jwks, VerifyingKey};

/// A key set holds a handful of keys; this many are looked at.
const MAX_KEYS: usize = 64;
const MAX_BODY: usize = 64 * 1024;
/// How long a set is fresh if the answer does not say, and the bounds of what it may say.
const FRESH: Duration = Duration::from_secs(3600);
const FRESH_MIN: Duration = Duration::from_secs(60);
const FRESH_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long an outdated set is still used while the address cannot be reached.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// One try, and all tries together: a sender of a notice is waiting.
const TRY: Duration = Duration::from_secs(2);
const TOTAL: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The address is not one of the allowed ones.
    Source,
    /// The set was read, recently, and does not have this key.
    Key,
    /// The set could not be read.
    Unavailable,
}

pub(super) struct Keys {
    sources: Vec<Source>,
}

struct Source {
    jku: String,
    client: Client,
    refetch: Duration,
    cache: RwLock<Arc<Cache>>,
    /// When the last fetch began. Held during a fetch, so that there is one at a time.
    fetching: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Cache {
    keys: HashMap<String, Arc<VerifyingKey>>,
    fresh_until: Option<Instant>,
}

impl Keys {
    pub(super) fn new(jku: &[String], tls_only: bool, limits: Limits, refetch: Duration) -> Result<Self, ClientError> {
        let source = |jku: &String| {
            let client = Client::new(jku, tls_only, Limits { body: MAX_BODY, ..limits })?;
            Ok(Source { jku: jku.clone(), client, refetch, cache: RwLock::default(), fetching: tokio::sync::Mutex::default() })
        };
        Ok(Self { sources: jku.iter().map(source).collect::<Result<_, _>>()? })
    }

    /// The key with that id at that address. Fetches at most once per call.
    pub(super) async fn find(&self, jku: &str, kid: &str) -> Result<Arc<VerifyingKey>, Missing> {
        let source = self.sources.iter().find(|source| source.jku == jku).ok_or(Missing::Source)?;
        source.find(kid).await
    }
}

impl Source {
    async fn find(&self, kid: &str) -> Result<Arc<VerifyingKey>, Missing> {
        let cache = self.cached();
        if let Some(key) = cache.keys.get(kid)
            && cache.fresh_until.is_some_and(|until| Instant::now() < until)
        {
            return Ok(Arc::clone(key));
        }
        self.refresh(kid).await;
        let cache = self.cached();
        let usable = cache.fresh_until.is_some_and(|until| Instant::now() < until + STALE);
        match cache.keys.get(kid) {
            Some(key) if usable => Ok(Arc::clone(key)),
            Some(_) => Err(Missing::Unavailable),
            None if usable => Err(Missing::Key),
            None => Err(Missing::Unavailable),
        }
    }

    /// Fetches the set, unless somebody just did: then what they found has to do. Who has an outdated key does not wait for another's fetch.
    async fn refresh(&self, kid: &str) {
        let mut last = match self.fetching.try_lock() {
            Ok(last) => last,
            Err(_) if self.cached().keys.contains_key(kid) => return,
            Err(_) => self.fetching.lock().await,
        };
        let now = Instant::now();
        let cache = self.cached();
        let fresh = cache.fresh_until.is_some_and(|until| now < until);
        // Somebody else may have fetched it while we waited.
        let known = fresh && cache.keys.contains_key(kid);
        if known || last.is_some_and(|last| now < last + self.refetch) {
            return;
        }
        *last = Some(now);
        let mut waits = Waits::new(Duration::from_millis(50), Duration::from_millis(500), TOTAL.saturating_sub(TRY));
        loop {
            if let Some((keys, fresh)) = self.fetch().await {
                let cache = Cache { keys, fresh_until: Some(Instant::now() + fresh) };
                *self.cache.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(cache);
                return;
            }
            let Some(wait) = waits.next() else {
                tracing::warn!(jku = self.jku, "the provider's public keys could not be fetched");
                return;
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn fetch(&self) -> Option<(HashMap<String, Arc<VerifyingKey>>, Duration)> {
        let response = self.client.call(Call::new(Method::GET, "", TRY)).await.ok()?;
        if response.status != StatusCode::OK {
            return None;
        }
        let set: Jwks = response.json()?;
        // A key of a kind that we do not know is no reason to lose the others.
        let keys = set.keys.into_iter().take(MAX_KEYS).filter_map(|jwk| Some((jwk.kid.clone(), Arc::new(VerifyingKey::from_jwk(&jwk).ok()?))));
        Some((keys.collect(), freshness(&response.headers)))
    }

    fn cached(&self) -> Arc<Cache> {
        Arc::clone(&self.cache.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `max-age` of Cache-Control, within bounds; `no-store` and `no-cache` come to the shortest.
fn freshness(headers: &HeaderMap) -> Duration {
    let Some(value) = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok()) else { return FRESH };
    let mut fresh = FRESH;
    for directive in value.split(',').map(str::trim) {
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache") {
            return FRESH_MIN;
        }
        if let Some(seconds) = directive.to_ascii_lowercase().strip_prefix("max-age=").and_then(|age| age.parse().ok()) {
            fresh = Duration::from_secs(seconds);
        }
    }
    fresh.clamp(FRESH_MIN, FRESH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_bounded() {
        for (value, seconds) in [
            ("max-age=300", 300),
            ("public, Max-Age=300", 300),
            ("max-age=0", 60),
            ("max-age=99999999", 86_400),
            ("no-store, max-age=300", 60),
            ("max-age=soon", 3600),
            ("private", 3600),
        ] {
            let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, http::HeaderValue::from_static(value))]);
            assert_eq!(freshness(&headers), Duration::from_secs(seconds), "{value}");
        }
        assert_eq!(freshness(&HeaderMap::new()), FRESH);
    }
}
