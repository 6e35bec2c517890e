//! Who may come in to a sandbox of TrueLayer: tokens that it gave out, and signatures of registered keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::OriginalUri;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::Instant;

use super::{OpenError, error};
use crate::jws::{self, VerifyingKey};
use crate::sandbox::random_uuid;
use crate::truelayer::wire::Token;
use crate::truelayer::{BODY_SIGNATURE, REQUEST_SIGNATURE};

const MAX_TOKENS: usize = 10_000;

/// A client's public key, under the id that its signatures name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientKey {
    pub kid: String,
    /// SPKI PEM.
    pub public_key_pem: String,
}

/// The door of one sandbox.
pub(crate) struct Door {
    client_id: String,
    client_secret: SecretString,
    client_keys: HashMap<String, Arc<VerifyingKey>>,
    /// The scope that a token must be for.
    scope: &'static str,
    token_life: Duration,
    tokens: Mutex<HashMap<String, Instant>>,
}

#[derive(Deserialize)]
struct TokenForm {
    grant_type: String,
    client_id: String,
    client_secret: String,
    scope: String,
}

impl Door {
    pub(crate) fn new(
        client_id: &str,
        client_secret: &SecretString,
        client_keys: &[ClientKey],
        scope: &'static str,
        token_life_s: u64,
    ) -> Result<Self, OpenError> {
        let client_key = |key: &ClientKey| match VerifyingKey::from_pem(&key.public_key_pem) {
            Ok(public) => Ok((key.kid.clone(), Arc::new(public))),
            Err(source) => Err(OpenError::ClientKey { kid: key.kid.clone(), source }),
        };
        Ok(Self {
            client_id: client_id.to_owned(),
            client_secret: client_secret.clone(),
            client_keys: client_keys.iter().map(client_key).collect::<Result<_, _>>()?,
            scope,
            token_life: Duration::from_secs(token_life_s),
            tokens: Mutex::default(),
        })
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers `POST /connect/token`.
    pub(crate) fn token(&self, body: &[u8]) -> Response {
        let pairs: HashMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
        let form = serde_json::to_value(pairs).and_then(serde_json::from_value::<TokenForm>);
        let Ok(form) = form else { return error(StatusCode::BAD_REQUEST, "invalid_request", None) };
        let secret = self.client_secret.expose_secret().as_bytes();
        let known =
            form.client_id == self.client_id && aws_lc_rs::constant_time::verify_slices_are_equal(form.client_secret.as_bytes(), secret).is_ok();
        if !known {
            return error(StatusCode::BAD_REQUEST, "invalid_client", None);
        }
        if form.grant_type != "client_credentials" {
            return error(StatusCode::BAD_REQUEST, "unsupported_grant_type", None);
        }
        if !form.scope.split(' ').any(|scope| scope == self.scope) {
            return error(StatusCode::BAD_REQUEST, "invalid_scope", None);
        }
        let token = Token {
            access_token: format!("sandbox-{}", random_uuid().simple()),
            expires_in: self.token_life.as_secs(),
            token_type: "Bearer".to_owned(),
            scope: form.scope,
        };
        let mut tokens = self.tokens();
        let now = Instant::now();
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, until| now < *until);
        }
        tokens.insert(token.access_token.clone(), now + self.token_life);
        Json(token).into_response()
    }

    /// Refuses every token that was given out.
    pub(crate) fn revoke(&self) {
        self.tokens().clear();
    }

    /// Whether the request has a token that is still good.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
        token.is_some_and(|token| self.tokens().get(token).is_some_and(|until| Instant::now() < *until))
    }

    /// Whether at least one signature is there, and every one that is there verifies.
    pub(crate) fn signed(&self, request: &Parts, body: &[u8]) -> bool {
        let text = |name| request.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
        let key = |kid: &str| self.client_keys.get(kid).cloned();
        let request = whole(request, body);
        let over_request = text(REQUEST_SIGNATURE).map(|value| jws::verify_request(key, value, &request, &[]).is_ok());
        let over_body = text(BODY_SIGNATURE).map(|value| jws::verify_body(key, jws::Algorithm::Es512, value, body).is_ok());
        (over_request.is_some() || over_body.is_some()) && over_request.unwrap_or(true) && over_body.unwrap_or(true)
    }

    /// As [`Door::signed`], by the generation that covers the whole request, and this header with it.
    pub(crate) fn signed_with(&self, required: &str, request: &Parts, body: &[u8]) -> bool {
        let Some(value) = request.headers.get(REQUEST_SIGNATURE).and_then(|value| value.to_str().ok()) else { return false };
        jws::verify_request(|kid: &str| self.client_keys.get(kid).cloned(), value, &whole(request, body), &[required]).is_ok()
    }
}

/// A request as it was signed: with the path that it had on the wire, whatever the sandbox is mounted under.
fn whole<'a>(request: &'a Parts, body: &'a [u8]) -> jws::Request<'a> {
    let path = request.extensions.get::<OriginalUri>().map_or(request.uri.path(), |OriginalUri(uri)| uri.path());
    jws::Request { method: &request.method, path, headers: &request.headers, body }
}
