//! The way to Worldpay Access: credentials, the headers that every request carries, and links to resources.
//!
//! Resources have stable addresses (H), so nothing has to be discovered. With [`Settings::discover`] the links are taken from the root and from the documents
//! that it leads to, and kept, as the provider asks; where a document cannot be had, or says something unusable, the stable address is used.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::id::Mode;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use super::{SetupError, unread};
use crate::ReadError;
use crate::http as net;
use crate::http::{Call, Failure, Limits, Response};

/// Who calls, for the provider's support (H).
pub const CALLER_ID: HeaderName = HeaderName::from_static("wp-callerid");
/// Which payout a call is about: a UUID (H). The provider repeats it, or makes one.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("wp-correlationid");
/// The version of the APIs that are versioned by date (H).
pub const API_VERSION: HeaderName = HeaderName::from_static("wp-api-version");

/// How long links are kept if the answer does not say (ASSUMED), and at most.
const LINKS_LAST: Duration = Duration::from_secs(24 * 3600);
/// How long links are kept at least, and a failure to get them is.
const LINKS_REST: Duration = Duration::from_secs(60);
const MAX_LINKS: usize = 200;

/// Where Worldpay Access is, and who we are there. `Debug` shows no secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Scheme, host and port; a path is put before every path. See [`super::host`].
    pub base_url: String,
    pub username: String,
    pub password: SecretString,
    /// Sent as `WP-CallerId` with every request.
    #[serde(default)]
    pub caller_id: Option<String>,
    /// Whether links are discovered from the root instead of taken from the documentation.
    #[serde(default)]
    pub discover: bool,
    /// The most that discovery may add to a call.
    #[serde(default = "defaults::discover_timeout_ms")]
    pub discover_timeout_ms: u64,
    /// DNS, TCP and TLS together.
    #[serde(default = "defaults::connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// The whole of a question: a look, a search.
    #[serde(default = "defaults::read_timeout_ms")]
    pub read_timeout_ms: u64,
    /// Largest answer that is read, in bytes.
    #[serde(default = "defaults::response_limit_bytes")]
    pub response_limit_bytes: usize,
}

mod defaults {
    pub(super) const fn discover_timeout_ms() -> u64 {
        2_000
    }
    pub(super) const fn connect_timeout_ms() -> u64 {
        5_000
    }
    pub(super) const fn read_timeout_ms() -> u64 {
        10_000
    }
    pub(super) const fn response_limit_bytes() -> usize {
        512 * 1024
    }
}

/// How a version of an API is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// By a media type, the same in `Accept` and `Content-Type` (H).
    MediaType(String),
    /// By the header `WP-Api-Version`, with `application/json` (H).
    Dated(String),
}

impl Version {
    const JSON: &'static str = "application/json";

    /// What goes into `Accept` and `Content-Type`.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            Self::MediaType(media_type) => media_type,
            Self::Dated(_) => Self::JSON,
        }
    }
}

/// A document's links, by relation: paths below our base.
type Links = Arc<HashMap<String, String>>;

struct Kept {
    links: Option<Links>,
    until: Instant,
}

/// The client of one account at Worldpay Access.
pub(super) struct Access {
    http: net::Client,
    base: Url,
    authorization: HeaderValue,
    caller_id: Option<HeaderValue>,
    discover: Option<Duration>,
    read_timeout: Duration,
    kept: Mutex<HashMap<String, Kept>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("http", &self.http).finish_non_exhaustive()
    }
}

impl Access {
    /// In live mode the address must be https.
    pub(super) fn new(settings: &Settings, mode: Mode) -> Result<Self, SetupError> {
        if settings.username.is_empty() || settings.password.expose_secret().is_empty() {
            return Err(SetupError::Empty("access.username and access.password"));
        }
        if settings.username.contains(':') {
            return Err(SetupError::Unusable("access.username", "must not hold a colon: Basic authentication has no place for one"));
        }
        let limits = Limits { connect: Duration::from_millis(settings.connect_timeout_ms), body: settings.response_limit_bytes, ..Limits::default() };
        let http = net::Client::new(&settings.base_url, mode == Mode::Live, limits).map_err(SetupError::BaseUrl)?;
        let base = Url::parse(&settings.base_url).map_err(|_| SetupError::Unusable("access.base_url", "is not an address"))?;
        let credentials = STANDARD.encode(format!("{}:{}", settings.username, settings.password.expose_secret()));
        let mut authorization = HeaderValue::try_from(format!("Basic {credentials}")).map_err(|_| SetupError::Empty("access.password"))?;
        authorization.set_sensitive(true);
        let caller_id = settings.caller_id.as_deref().map(HeaderValue::from_str).transpose();
        Ok(Self {
            http,
            base,
            authorization,
            caller_id: caller_id.map_err(|_| SetupError::Unusable("access.caller_id", "must be plain text"))?,
            discover: settings.discover.then(|| Duration::from_millis(settings.discover_timeout_ms)),
            read_timeout: Duration::from_millis(settings.read_timeout_ms),
            kept: Mutex::default(),
        })
    }

    pub(super) fn read_deadline(&self) -> Instant {
        Instant::now() + self.read_timeout
    }

    /// A request without a body. `about` becomes the correlation id; without, the provider makes one (H).
    ///
    /// A version that is not a header's value cannot come about: settings are checked, and prepared requests hold what was checked.
    pub(super) fn get(&self, path: impl Into<String>, version: &Version, about: Option<Uuid>, deadline: Instant) -> Option<Call> {
        self.call(Method::GET, path.into(), version, about, deadline)
    }

    /// A request with a body.
    pub(super) fn post(&self, path: impl Into<String>, version: &Version, about: Option<Uuid>, body: Bytes, deadline: Instant) -> Option<Call> {
        let content_type = HeaderValue::from_str(version.media_type()).ok()?;
        let call = self.call(Method::POST, path.into(), version, about, deadline)?;
        Some(call.body(Version::JSON, body).header(header::CONTENT_TYPE, content_type))
    }

    fn call(&self, method: Method, path: String, version: &Version, about: Option<Uuid>, deadline: Instant) -> Option<Call> {
        let mut call = Call::new(method, path, deadline.saturating_duration_since(Instant::now()))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::ACCEPT, HeaderValue::from_str(version.media_type()).ok()?);
        if let Some(about) = about {
            call = call.header(CORRELATION_ID, HeaderValue::from_str(&about.to_string()).ok()?);
        }
        if let Some(caller_id) = &self.caller_id {
            call = call.header(CALLER_ID, caller_id.clone());
        }
        if let Version::Dated(date) = version {
            call = call.header(API_VERSION, HeaderValue::from_str(date).ok()?);
        }
        Some(call)
    }

    pub(super) async fn send(&self, call: Call) -> Result<Response, Failure> {
        let response = self.http.call(call).await?;
        let correlation = response.headers.get(CORRELATION_ID).and_then(|value| value.to_str().ok()).unwrap_or_default();
        tracing::debug!(status = response.status.as_u16(), correlation_id = super::sanitised(correlation), "Worldpay answered");
        Ok(response)
    }

    /// The answer to a question, whatever its status.
    pub(super) async fn ask(&self, call: Option<Call>) -> Result<Response, ReadError> {
        let call = call.ok_or_else(|| unread("unusable_version"))?;
        self.send(call).await.map_err(|failure| match failure {
            Failure::NotSent(why) | Failure::Ambiguous(why) => unread(why),
        })
    }

    /// The path of a resource: the one that `document` links to under `relation`, else `stable`.
    pub(super) async fn path_of(&self, document: &str, version: &Version, relation: &str, stable: &str, deadline: Instant) -> String {
        let Some(most) = self.discover else { return stable.to_owned() };
        // Never more than half of what is left: the call itself matters more.
        let now = Instant::now();
        let deadline = now + most.min(deadline.saturating_duration_since(now) / 2);
        let links = tokio::time::timeout_at(deadline, self.links(document, version, deadline)).await.ok().flatten();
        links.and_then(|links| links.get(relation).cloned()).unwrap_or_else(|| stable.to_owned())
    }

    /// What a document links to, kept as long as it said. Callers that come together wait for one fetch.
    async fn links(&self, document: &str, version: &Version, deadline: Instant) -> Option<Links> {
        let mut kept = self.kept.lock().await;
        if let Some(Kept { links, until }) = kept.get(document)
            && Instant::now() < *until
        {
            return links.clone();
        }
        // Noted first: if the fetch takes too long and is given up, others do not wait for the same again.
        kept.insert(document.to_owned(), Kept { links: None, until: Instant::now() + LINKS_REST });
        let found = match self.ask(self.get(document, version, None, deadline)).await {
            Ok(response) if response.status == StatusCode::OK => response.json().map(|found: Hal| (self.ours(found), lasts(&response))),
            Ok(_) | Err(_) => None,
        };
        let Some((links, lasts)) = found else {
            tracing::warn!(document, "the links of Worldpay could not be read; using the documented addresses");
            return None;
        };
        kept.insert(document.to_owned(), Kept { links: Some(Arc::clone(&links)), until: Instant::now() + lasts });
        Some(links)
    }

    /// The links that lead to our own origin, without what a template would add. Others would carry our credentials elsewhere.
    fn ours(&self, hal: Hal) -> Links {
        let link = |(relation, value): (String, serde_json::Value)| {
            let href = value.get("href")?.as_str()?;
            Some((relation, self.below(href)?))
        };
        Arc::new(hal.links.into_iter().filter_map(link).take(MAX_LINKS).collect())
    }

    /// The path of an address of this origin, below our base, without query; `None` for any other address.
    pub(super) fn below(&self, href: &str) -> Option<String> {
        let href = href.split(['{', '?', '#']).next().unwrap_or_default();
        let url = self.base.join(href).ok()?;
        let path = url.path().strip_prefix(self.base.path().trim_end_matches('/'))?;
        (url.origin() == self.base.origin() && url.username().is_empty() && path.starts_with('/')).then(|| path.to_owned())
    }
}

/// A document with links. Some are lists: they name abbreviations, not resources.
#[derive(Deserialize)]
struct Hal {
    #[serde(rename = "_links")]
    links: HashMap<String, serde_json::Value>,
}

/// How long an answer may be kept.
fn lasts(response: &Response) -> Duration {
    let directives = response.headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let age = directives.split(',').find_map(|directive| directive.trim().strip_prefix("max-age=")?.parse().ok());
    age.map_or(LINKS_LAST, |seconds| Duration::from_secs(seconds).clamp(LINKS_REST, LINKS_LAST))
}
