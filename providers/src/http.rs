//! The one client for calls to providers: one origin each, no redirects, no proxy, bounded in time and size, and **exact about whether a request left**.
//!
//! A payout may be sent again under another attempt only if the first send provably did not happen, so the question "did it leave?" is not answered by
//! looking at error texts. The body of every request is a `OneShot`: the connection has to take its bytes from there, once. A request whose
//! body was never taken cannot have been processed by anybody ([`Failure::NotSent`]: DNS, connect, TLS, waiting for a connection, a deadline during any of these,
//! a pooled connection that was closed before its turn); once the body has been taken, everything short of a response head is [`Failure::Ambiguous`].
//! The same cell makes a silent second send impossible: HTTP libraries may repeat a request that they consider unsent, but here there is nothing left to send.
//! It is also where "too late" is checked, after the connection is there and directly before the first byte is written.
//!
//! HTTP/1.1 only, so that one reset connection makes one payout inconclusive and not all that share the connection.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use jiff::{SignedDuration, Timestamp};
use url::{Position, Url};

use crate::clock;

/// Longest Retry-After that is believed.
const MAX_RETRY_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Bounds of a client.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// DNS, TCP and TLS together.
    pub connect: Duration,
    /// Largest response body that is read, in bytes.
    pub body: usize,
    /// How long an unused connection is kept. Keep it below the provider's own limit: a connection that they close while we write makes an ambiguous send.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), body: 256 * 1024, idle: Duration::from_secs(15) }
    }
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0:?} is not an http or https address with a host and without credentials")]
    Address(String),
    #[error("the address must be https")]
    Insecure,
    #[error("the client could not be set up")]
    Setup(#[source] reqwest::Error),
}

/// How a call ended without a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The body was never handed to a connection, so nobody can have processed the request. The word says where it ended.
    NotSent(&'static str),
    /// The request may have arrived.
    Ambiguous(&'static str),
}

/// Why a response has no usable body, although it has a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    TooLarge,
    /// The connection ended, or the deadline passed, before the body was complete.
    CutShort,
}

/// A response: a status and headers, and a body if it could be read within the bounds.
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Result<Bytes, Unread>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Response {
    /// The wait that the response asks for: seconds, or an HTTP date against `now`. Never negative, at most an hour. Unreadable values count as absent.
    #[must_use]
    pub fn retry_after(&self, now: Timestamp) -> Option<SignedDuration> {
        let value = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            // More digits than fit are a long wait all the same.
            SignedDuration::from_secs(value.parse().unwrap_or(i64::MAX))
        } else {
            jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?.duration_since(now)
        };
        Some(wait.clamp(SignedDuration::ZERO, MAX_RETRY_AFTER))
    }

    /// The body as JSON, if it could be read and is that.
    #[must_use]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.body.as_ref().ok()?).ok()
    }
}

/// A request to the client's own origin.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: Option<Bytes>,
    send_by: Option<Timestamp>,
    within: Duration,
}

impl Call {
    /// `path` is absolute; `within` bounds the whole call, from waiting for a connection to the last byte of the response.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>, within: Duration) -> Self {
        Self { method, path: path.into(), query: Vec::new(), headers: HeaderMap::new(), body: None, send_by: None, within }
    }

    #[must_use]
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a header beside others of its name.
    #[must_use]
    pub fn append(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: Bytes) -> Self {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = Some(body);
        self
    }

    /// Do not begin to write the body after this moment of the system clock. Only for requests with a body.
    #[must_use]
    pub const fn send_by(mut self, send_by: Timestamp) -> Self {
        self.send_by = Some(send_by);
        self
    }
}

/// A client for one origin. Cloning shares its connections.
#[derive(Clone)]
pub struct Client {
    base: Url,
    limits: Limits,
    inner: reqwest::Client,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("origin", &&self.base[..Position::BeforePath]).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that talks to the scheme, host and port of `base` and to nothing else. A path in `base` is put before every path.
    /// With `tls_only`, plain `http` is refused: that is for live credentials.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn new(base: &str, tls_only: bool, limits: Limits) -> Result<Self, ClientError> {
        let base = origin(base, tls_only)?;
        let inner = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .http1_only()
            .https_only(base.scheme() == "https")
            .referer(false)
            .connect_timeout(limits.connect)
            .pool_idle_timeout(limits.idle)
            .user_agent(concat!("payrelay/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError::Setup)?;
        Ok(Self { base, limits, inner })
    }

    /// The path that a call to `path` has on the wire, which a signature must cover.
    #[must_use]
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base.path().trim_end_matches('/'))
    }

    /// Makes the call, once.
    ///
    /// # Errors
    ///
    /// [`Failure`], if no response head arrived. A response with an unreadable body is not an error here: for some calls the status says it all.
    pub async fn call(&self, call: Call) -> Result<Response, Failure> {
        let mut url = self.base.clone();
        url.set_path(&self.path(&call.path));
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request = reqwest::Request::new(call.method, url);
        *request.headers_mut() = call.headers;
        // Without a body there is nothing to watch, and such requests change nothing at the provider.
        let taken = Taken::new(if call.body.is_some() { WAITING } else { TAKEN });
        if let Some(bytes) = call.body {
            let body = OneShot { bytes: Some(bytes), send_by: call.send_by, taken: taken.clone(), broken_off: None };
            *request.body_mut() = Some(reqwest::Body::wrap(body));
        }
        let failed = |word: &'static str| match taken.revoke() {
            WAITING => Failure::NotSent(word),
            LATE => Failure::NotSent("send_by_passed"),
            _ => Failure::Ambiguous(word),
        };
        let deadline = tokio::time::Instant::now() + call.within;
        let mut response = match tokio::time::timeout_at(deadline, self.inner.execute(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failed(word_for(&error))),
            Err(_) => return Err(failed("deadline")),
        };
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let body = tokio::time::timeout_at(deadline, read(response, self.limits.body)).await.unwrap_or(Err(Unread::CutShort));
        Ok(Response { status, headers, body })
    }
}

/// Checks an address and cuts it down to scheme, host, port and path.
fn origin(address: &str, tls_only: bool) -> Result<Url, ClientError> {
    let bad = || ClientError::Address(address.chars().take(100).collect());
    let mut url = Url::parse(address).map_err(|_| bad())?;
    let plain = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    // An address with credentials is not echoed: they are a secret.
    if !plain || !url.username().is_empty() || url.password().is_some() {
        return Err(if url.username().is_empty() && url.password().is_none() { bad() } else { ClientError::Address("…".to_owned()) });
    }
    if tls_only && url.scheme() != "https" {
        return Err(ClientError::Insecure);
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

async fn read(mut response: reqwest::Response, limit: usize) -> Result<Bytes, Unread> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Unread::CutShort)? {
        if chunk.len() > limit.saturating_sub(body.len()) {
            return Err(Unread::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// A word for people; nothing is decided by it.
fn word_for(error: &reqwest::Error) -> &'static str {
    if error.is_dns() {
        "dns"
    } else if error.is_connect() {
        if error.is_timeout() { "connect_timeout" } else { "connect" }
    } else if error.is_timeout() {
        "deadline"
    } else {
        "connection_lost"
    }
}

/// Whether a body was handed out. It leaves [`WAITING`] once, and then stays as it is.
#[derive(Clone)]
struct Taken(Arc<AtomicU8>);

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
/// Nobody may take it any more: the caller has reported that it was not sent.
const REVOKED: u8 = 2;
/// As [`REVOKED`], because `send_by` had passed.
const LATE: u8 = 3;

impl Taken {
    fn new(state: u8) -> Self {
        Self(Arc::new(AtomicU8::new(state)))
    }

    fn enter(&self, state: u8) -> Result<u8, u8> {
        self.0.compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire)
    }

    /// The state before. If the body was still here it stays here: a connection task that comes later, in another thread, gets an error instead.
    fn revoke(&self) -> u8 {
        self.enter(REVOKED).unwrap_or_else(|state| state)
    }
}

/// The body of a request, given out at most once. See the module's documentation.
struct OneShot {
    bytes: Option<Bytes>,
    send_by: Option<Timestamp>,
    taken: Taken,
    /// Set when the failpoint `half-written` has held back the second half of a request that must not be sent twice: how often it is still asked for.
    broken_off: Option<u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("the request was withdrawn before it was sent")]
struct Withdrawn;

impl Body for OneShot {
    type Data = Bytes;
    type Error = Withdrawn;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Withdrawn>>> {
        if let Some(asked) = &mut self.broken_off {
            return break_off(asked, context);
        }
        let Some(bytes) = self.bytes.take() else { return Poll::Ready(None) };
        let late = self.send_by.is_some_and(|send_by| clock::now() > send_by);
        // An error makes the connection give up in the middle of the request, so what may have left of its head is never a request.
        let entered = self.taken.enter(if late { LATE } else { TAKEN });
        fail::fail_point!("half-written", entered.is_ok() && !late && self.send_by.is_some(), |_| {
            let mut first = bytes.clone();
            self.bytes = Some(first.split_off(bytes.len() / 2));
            self.broken_off = Some(3);
            Poll::Ready(Some(Ok(Frame::data(first))))
        });
        Poll::Ready(Some(if entered.is_ok() && !late { Ok(Frame::data(bytes)) } else { Err(Withdrawn) }))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Ends the process in the midst of a request, once the connection has had occasion to write the first half.
fn break_off(asked: &mut u8, context: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Withdrawn>>> {
    let Some(left) = asked.checked_sub(1) else { std::process::abort() };
    *asked = left;
    context.waker().wake_by_ref();
    Poll::Pending
}

/// Waits between tries inside one process: from `first`, growing and jittered, until `total` has passed since the first call of `next`.
///
/// The one place in this package that knows the `backoff` crate. Schedules that must outlive the process are not made of this.
pub(crate) struct Waits(backoff::ExponentialBackoff);

impl Waits {
    pub(crate) fn new(first: Duration, longest: Duration, total: Duration) -> Self {
        let mut waits = backoff::ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            max_interval: longest,
            max_elapsed_time: Some(total),
            ..backoff::ExponentialBackoff::default()
        };
        backoff::backoff::Backoff::reset(&mut waits);
        Self(waits)
    }

    /// The next wait, or `None` when it is time to give up.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        backoff::backoff::Backoff::next_backoff(&mut self.0)
    }
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
