//! Access tokens of TrueLayer: fetched once for all who wait, kept until shortly before they end, renewed once when one is refused.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::wire;
use crate::http::{Call, Client, Failure, Response};
use crate::reading::{ReadError, remaining};

/// What tokens are asked for with.
pub(crate) struct Credentials {
    pub(crate) client_id: String,
    pub(crate) client_secret: SecretString,
    pub(crate) scope: String,
    /// The whole of a token request.
    pub(crate) timeout: Duration,
}

/// The tokens of one account and scope.
pub(crate) struct Tokens {
    auth: Client,
    credentials: Credentials,
    grant: tokio::sync::Mutex<Grant>,
}

/// What is known about a token.
enum Grant {
    None,
    Token {
        value: HeaderValue,
        until: Instant,
        serial: u64,
    },
    /// The server just said no, or nothing: the next calls share that instead of asking again one after the other.
    Failed {
        why: &'static str,
        until: Instant,
    },
}

/// Tokens are renewed so long before they end.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);
/// How long a failure to get a token is shared.
const TOKEN_RETRY: Duration = Duration::from_secs(1);
const MAX_TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
static NEXT_SERIAL: AtomicU64 = AtomicU64::new(0);

impl Tokens {
    pub(crate) fn new(auth: Client, credentials: Credentials) -> Self {
        Self { auth, credentials, grant: tokio::sync::Mutex::new(Grant::None) }
    }

    /// A GET, with one fresh token if the first was not accepted. Any status but 401 is returned.
    pub(crate) async fn read(&self, api: &Client, call: impl Fn(Duration) -> Call, deadline: Instant) -> Result<Response, ReadError> {
        let mut refreshed = false;
        loop {
            let (token, serial) = self.get(deadline).await.map_err(ReadError::new)?;
            let call = call(remaining(deadline)).header(header::AUTHORIZATION, token);
            let response = api.call(call).await?;
            if response.status != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            if refreshed {
                return Err(ReadError::new("unauthorized"));
            }
            refreshed = true;
            self.forget(serial).await;
        }
    }

    /// A token, from the cache or fetched. Callers that come together wait for one fetch.
    pub(crate) async fn get(&self, deadline: Instant) -> Result<(HeaderValue, u64), &'static str> {
        let fetch = async {
            let mut grant = self.grant.lock().await;
            let now = Instant::now();
            match &*grant {
                Grant::Token { value, until, serial } if now < *until => return Ok((value.clone(), *serial)),
                Grant::Failed { why, until } if now < *until => return Err(*why),
                Grant::None | Grant::Token { .. } | Grant::Failed { .. } => {}
            }
            let within = self.credentials.timeout.min(remaining(deadline));
            match self.fetch(within).await {
                Ok((value, life)) => {
                    let serial = NEXT_SERIAL.fetch_add(1, Ordering::Relaxed);
                    *grant = Grant::Token { value: value.clone(), until: now + life.saturating_sub(TOKEN_MARGIN), serial };
                    Ok((value, serial))
                }
                Err(why) => {
                    *grant = Grant::Failed { why, until: Instant::now() + TOKEN_RETRY };
                    Err(why)
                }
            }
        };
        tokio::time::timeout_at(deadline, fetch).await.unwrap_or(Err("token_deadline"))
    }

    async fn fetch(&self, within: Duration) -> Result<(HeaderValue, Duration), &'static str> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.credentials.client_id)
            .append_pair("client_secret", self.credentials.client_secret.expose_secret())
            .append_pair("scope", &self.credentials.scope)
            .finish();
        let call = Call::new(Method::POST, "/connect/token", within).body("application/x-www-form-urlencoded", form.into());
        let response = self.auth.call(call).await.map_err(|failure| match failure {
            Failure::NotSent("deadline") | Failure::Ambiguous("deadline") => "token_deadline",
            Failure::NotSent(_) | Failure::Ambiguous(_) => "token_unreachable",
        })?;
        if response.status != StatusCode::OK {
            // The words of OAuth errors are few and fixed; which one it was helps, and the rest of the body does not.
            let invalid = response.json::<wire::ErrorBody>().is_some_and(|error| error.error == "invalid_client");
            return Err(if invalid { "token_invalid_client" } else { "token_refused" });
        }
        let token: wire::Token = response.json().ok_or("token_unreadable")?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.access_token)).map_err(|_| "token_unreadable")?;
        value.set_sensitive(true);
        Ok((value, Duration::from_secs(token.expires_in).min(MAX_TOKEN_LIFE)))
    }

    /// Drops a token that was not accepted, unless somebody has replaced it already.
    pub(crate) async fn forget(&self, refused: u64) {
        let mut grant = self.grant.lock().await;
        if matches!(&*grant, Grant::Token { serial, .. } if *serial == refused) {
            *grant = Grant::None;
        }
    }
}
