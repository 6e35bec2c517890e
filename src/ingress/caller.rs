//! Who calls: API keys by their token, what they may do, and whose data they reach.
//!
//! The token is sent as `Authorization: Bearer <token>`, or with HTTP Basic as the password with any user name, or, where the password is empty, as
//! the user name (`curl -u "$TOKEN:"`). Keys are held in memory for a short while, so a revoked key ends within that time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::credential::{ApiKey, Reach, Scope, token_hash, token_mode};
use domain::id::{Mode, PartyId};
use providers::jws::{Algorithm, VerifyingKey};

use super::Ingress;
use super::problem::{Kind, Problem};

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Credential>);

/// An API key with its public keys parsed: reading one costs as much as using it.
#[derive(Debug)]
pub struct Credential {
    pub key: ApiKey,
    pub verifying: HashMap<String, Arc<VerifyingKey>>,
}

/// The keys that were asked for lately. What exists and what does not are kept apart, so that guessing cannot push real keys out.
#[derive(Debug)]
pub struct Keys {
    known: Mutex<Memory<Arc<Credential>>>,
    unknown: Mutex<Memory<()>>,
}

#[derive(Debug)]
struct Memory<T> {
    entries: HashMap<String, (Instant, T)>,
    keep: Duration,
    max: usize,
}

// === impl Memory ===

impl<T: Clone> Memory<T> {
    fn get(&self, hash: &str, now: Instant) -> Option<T> {
        self.entries.get(hash).filter(|(until, _)| now < *until).map(|(_, value)| value.clone())
    }

    fn put(&mut self, hash: String, value: T, now: Instant) {
        if self.entries.len() >= self.max {
            self.entries.retain(|_, (until, _)| now < *until);
        }
        if self.entries.len() >= self.max {
            // Full of what is still fresh: forgetting all of it costs one look-up each, and needs no order of age.
            self.entries.clear();
        }
        self.entries.insert(hash, (now + self.keep, value));
    }
}

fn lock<T>(memory: &Mutex<Memory<T>>) -> MutexGuard<'_, Memory<T>> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Keys ===

impl Keys {
    #[must_use]
    pub fn new(keep: Duration, max: usize) -> Self {
        Self { known: Mutex::new(Memory { entries: HashMap::new(), keep, max }), unknown: Mutex::new(Memory { entries: HashMap::new(), keep, max }) }
    }
}

// === impl Credential ===

impl Credential {
    fn new(key: ApiKey) -> Self {
        let mut verifying = HashMap::new();
        for registered in &key.signing_keys {
            match VerifyingKey::from_pem(&registered.public_key_pem) {
                Ok(parsed) if parsed.algorithm() == Algorithm::Es512 => _ = verifying.insert(registered.kid.clone(), Arc::new(parsed)),
                Ok(_) => tracing::warn!(key.id = %key.id, kid = registered.kid, "a registered public key is not ES512; it is ignored"),
                Err(error) => tracing::warn!(key.id = %key.id, kid = registered.kid, %error, "a registered public key is ignored"),
            }
        }
        Self { key, verifying }
    }
}

// === impl Ingress ===

impl Ingress {
    /// Finds out who calls, and whether they may do this.
    ///
    /// # Errors
    /// 401 without a valid token, 403 without the scope, 503 while the store does not answer.
    pub(super) async fn admit(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
        let unauthenticated = |detail: &str| Problem::new(Kind::Unauthenticated, detail);
        let token = token(headers).ok_or_else(|| unauthenticated("Send an API key as `Authorization: Bearer`, once, or with HTTP Basic."))?;
        let refused = || unauthenticated("The API key is not accepted.");
        let mode = token_mode(&token).filter(|mode| *mode == Mode::Test || self.settings.live).ok_or_else(refused)?;
        let credential = self.credential(token_hash(&self.pepper, &token)).await?.ok_or_else(refused)?;
        if credential.key.revoked_at.is_some() || credential.key.mode != mode {
            return Err(refused());
        }
        let span = tracing::Span::current();
        span.record("key.id", tracing::field::display(credential.key.id));
        span.record("mode", mode.as_str());
        if let Err(wait) = self.rates.take(credential.key.id, Instant::now()) {
            return Err(Problem::new(
                Kind::RateLimited,
                format!("The key may make {} requests a second. Try again in {} ms.", self.settings.rate.per_s, wait.as_millis()),
            ));
        }
        if !credential.key.may(scope) {
            return Err(Problem::new(Kind::MissingScope, format!("The scope `{}` is needed.", scope.name())));
        }
        Ok(Caller(credential))
    }

    /// The key that is stored under this hash of a token, revoked ones too.
    ///
    /// # Errors
    /// 503 while the store does not answer.
    pub(crate) async fn credential(&self, hash: String) -> Result<Option<Arc<Credential>>, Problem> {
        let now = Instant::now();
        if let Some(credential) = lock(&self.keys.known).get(&hash, now) {
            return Ok(Some(credential));
        }
        if lock(&self.keys.unknown).get(&hash, now).is_some() {
            return Ok(None);
        }
        let Some(key) = self.recorder.store.key(&hash).await? else {
            lock(&self.keys.unknown).put(hash, (), now);
            return Ok(None);
        };
        let credential = Arc::new(Credential::new(key));
        lock(&self.keys.known).put(hash, Arc::clone(&credential), now);
        Ok(Some(credential))
    }

    /// The party that a request is about: the one that the key is bound to, else the one that it names, else the default one.
    ///
    /// # Errors
    /// 403 when a key of one party names another. That says nothing about whether the other exists.
    pub(super) fn party(&self, caller: &Caller, named: Option<PartyId>) -> Result<PartyId, Problem> {
        let party = match (&caller.key().reach, named) {
            (Reach::Party(own), None) => own.clone(),
            (Reach::Party(own), Some(named)) if *own == named => named,
            (Reach::Party(_), Some(_)) => return Err(Problem::new(Kind::OtherParty, "Leave `party_id` out, or name the party of the key.")),
            (Reach::Platform, named) => named.unwrap_or_else(|| self.settings.default_party.clone()),
        };
        tracing::Span::current().record("party", party.as_str());
        Ok(party)
    }
}

// === impl Caller ===

impl Caller {
    /// Whoever acts as this key, without having its token.
    pub(crate) fn of(key: ApiKey) -> Self {
        Self(Arc::new(Credential::new(key)))
    }

    #[must_use]
    pub fn key(&self) -> &ApiKey {
        &self.0.key
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.key.mode
    }

    pub(super) fn credential(&self) -> &Arc<Credential> {
        &self.0
    }

    /// Whether data of this party are within reach.
    #[must_use]
    pub fn reaches(&self, party: &PartyId, mode: Mode) -> bool {
        mode == self.mode()
            && match &self.key().reach {
                Reach::Platform => true,
                Reach::Party(own) => own == party,
            }
    }
}

/// The token of a request, if it has exactly one.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some(if password.is_empty() { user } else { password }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_as_bearer_or_basic() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            token(&headers)
        };
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(of(&["Bearer test_x"]).as_deref(), Some("test_x"));
        assert_eq!(of(&["bearer  test_x"]).as_deref(), Some("test_x"));
        assert_eq!(of(&[&basic("shop:test_x")]).as_deref(), Some("test_x"));
        assert_eq!(of(&[&basic("test_x:")]).as_deref(), Some("test_x"));
        assert_eq!(of(&[&basic("test_x")]), None);
        assert_eq!(of(&["Basic %%%"]), None);
        assert_eq!(of(&["Digest test_x"]), None);
        assert_eq!(of(&["test_x"]), None);
        assert_eq!(of(&["Bearer test_x", "Bearer test_y"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn memory_is_bounded_and_ends() {
        let now = Instant::now();
        let mut memory = Memory { entries: HashMap::new(), keep: Duration::from_secs(5), max: 3 };
        for i in 0..100 {
            memory.put(i.to_string(), i, now);
            assert!(memory.entries.len() <= 3);
        }
        assert_eq!(memory.get("99", now), Some(99));
        assert_eq!(memory.get("99", now + Duration::from_secs(5)), None);
    }
}
