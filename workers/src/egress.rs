//! The one client for calls to merchants: whatever URL a merchant registers, nothing of the platform's own network can be reached through it.
//!
//! A URL is checked when it is registered and again before each send ([`Egress::check_url`]). That says nothing about where its name leads, so every
//! connection asks the resolver, **all** addresses of the answer must pass, and the socket is connected to one of these very addresses: a name
//! that leads elsewhere a moment later gains nothing. There are no redirects, no proxy from the environment, no cookies, no decompression, and the
//! deadline covers the last byte of the answer.
//!
//! HTTP/1.1 with kept connections, or HTTP/2 where the configuration wants it and the server offers it: then all deliveries to a host share a connection, and one that
//! is not answered in time is the last to be sent on it.

mod address;
mod connect;
mod identity;

use std::error::Error as _;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use domain::id::Mode;
use domain::subscription::ClientCertificate;
use http::header::{HOST, RETRY_AFTER, USER_AGENT};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::time::Instant;
use url::{Host, ParseError, Position, Url};

pub use self::address::{Allowed, NotAnEntry, Place};
use self::address::{Policy, is_http_port};
use self::connect::{ConnectError, Connector, Reused, SystemResolver};
use self::identity::Clients;
pub use self::identity::{Identity, IdentityError};

/// How much of an answer's head is read.
const HEAD_BYTES: usize = 64 * 1024;
/// A wait that a subscriber asks for counts as a year if it is longer.
const RETRY_AFTER_MAX_MS: u64 = 365 * 86_400_000;
/// What a server of HTTP/2 may send unread, of one answer and of all of a connection.
const H2_STREAM_BYTES: u32 = 64 * 1024;
const H2_CONNECTION_BYTES: u32 = 1024 * 1024;

/// How merchants are reached. Every field has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The longest time for one call, from waiting for a connection to the last byte of the answer. 15 s.
    pub timeout_ms: u64,
    /// The longest time for DNS, TCP and TLS together. 5 s.
    pub connect_timeout_ms: u64,
    /// How much of an answer's body is read; then the connection is closed. 64 KiB.
    pub response_body_max_bytes: usize,
    /// How much of the body of an answer that is no 2xx is handed on, to stand with the attempt. At most 256 characters of it are kept. 1 KiB.
    pub excerpt_max_bytes: usize,
    /// What may be called although it is not public: host names (`hooks.example.internal`, `*.example.internal`), addresses and networks
    /// (`10.1.0.0/16`). For private installations and tests. A name does not permit link-local addresses, where clouds keep their metadata. Empty.
    pub allow: Vec<Allowed>,
    /// Refuse `http:` in live mode. True.
    pub https_only_in_live: bool,
    /// How long an unused connection is kept. 10 s.
    pub idle_timeout_ms: u64,
    /// How many unused connections to one host are kept. 64.
    pub idle_max_per_host: usize,
    /// The longest URL, in bytes. 2,048.
    pub url_max_bytes: usize,
    /// A file of root certificates (PEM) that are trusted beside the system's: those of a private installation. None.
    pub ca_file: Option<PathBuf>,
    /// A file of addresses by name, in the form of `/etc/hosts`, that is read at each connection and comes before the system's resolver. What it says is
    /// checked like any other answer. None.
    pub hosts_file: Option<PathBuf>,
    /// Speak HTTP/2 to servers whose TLS offers it. Of a server that lets few requests run at one time, a slow one holds up those of others. False.
    pub http2: bool,
    /// Clients kept for subscriptions with a client certificate, at most, one per certificate. 256.
    pub certificates_cached: usize,
    /// A client certificate that expires within so many days is warned of. 30.
    pub certificate_warn_days: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout_ms: 15_000,
            connect_timeout_ms: 5_000,
            response_body_max_bytes: 64 * 1024,
            excerpt_max_bytes: 1024,
            allow: Vec::new(),
            https_only_in_live: true,
            idle_timeout_ms: 10_000,
            http2: false,
            idle_max_per_host: 64,
            url_max_bytes: 2_048,
            ca_file: None,
            hosts_file: None,
            certificates_cached: 256,
            certificate_warn_days: 30,
        }
    }
}

/// Why a URL is not called. The texts are for whoever registered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the URL has more than {max} bytes")]
    TooLong { max: usize },
    #[error("the URL must be absolute, such as https://example.com/webhooks, without spaces and backslashes")]
    Unreadable,
    #[error("the URL must begin with https:// or http://")]
    Scheme,
    #[error("the URL must begin with https:// in live mode")]
    Insecure,
    #[error("the URL must not hold a user name or password; a webhook is authenticated by its signature")]
    Credentials,
    #[error("the URL must not have a fragment (#…); it would never be sent")]
    Fragment,
    #[error("the host must not end in a dot")]
    TrailingDot,
    #[error("the address must be written in the usual way: four decimal numbers without leading zeros")]
    ObscureAddress,
    #[error("the host must have 1 to 63 characters between its dots, and 253 at most")]
    NoName,
    #[error("the host must be a full public name, such as hooks.example.com")]
    SingleLabel,
    #[error("the host is a name of a local network or of a machine itself")]
    LocalName,
    #[error("the port must be a number up to 65535")]
    NoPort,
    #[error("port {0} is not one for webhooks: use 443, 80 or one from 1024 up that no well-known other service has")]
    Port(u16),
    #[error("the host has {0}")]
    Address(Place),
}

/// A URL that was checked, ready to be called.
#[derive(Clone, Debug)]
pub struct Target {
    uri: Uri,
    host: HeaderValue,
    identity: Option<Identity>,
}

type Client = legacy::Client<Connector, Full<Bytes>>;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    pub status: u16,
    /// `Retry-After`, seconds or date, in milliseconds from now on: a year at most.
    pub retry_after_ms: Option<u64>,
    pub latency_ms: u32,
    /// The beginning of the body. Foreign text: not for logs.
    pub excerpt: String,
    /// `X-Request-Id` as sent. Foreign text too.
    pub request_id: Option<String>,
}

/// That nothing usable came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub why: Why,
    pub latency_ms: u32,
}

/// Why nothing usable came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The deadline passed, at whatever point.
    Timeout,
    /// The name has no address, or the resolver did not say.
    Dns,
    /// One of the host's addresses is not public.
    AddressRefused,
    /// No TCP connection.
    Connect,
    /// No TLS session: a certificate that is not valid for the host, no common version.
    Tls,
    /// The connection ended before the answer was complete.
    Closed,
    /// The answer is not HTTP, or its head is larger than is read.
    NotHttp,
}

/// The client. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Egress {
    client: Client,
    /// Those that show a certificate.
    identified: Arc<Clients>,
    connector: Connector,
    idle_timeout: Duration,
    idle_max_per_host: usize,
    http2: bool,
    certificate_warning: SignedDuration,
    timeout: Duration,
    body_max: usize,
    excerpt_max: usize,
    https_only_in_live: bool,
    url_max: usize,
}

// === impl Egress ===

impl Egress {
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self::with_resolver(settings, SystemResolver { hosts: settings.hosts_file.clone() })
    }

    fn with_resolver(settings: &Settings, resolver: impl connect::Resolve) -> Self {
        let policy = Policy { allow: settings.allow.clone() };
        let connector =
            Connector::new(policy, resolver, Duration::from_millis(settings.connect_timeout_ms), settings.ca_file.clone(), settings.http2);
        let (idle_timeout, idle_max_per_host) = (Duration::from_millis(settings.idle_timeout_ms), settings.idle_max_per_host);
        Self {
            client: client(connector.clone(), idle_timeout, idle_max_per_host),
            identified: Arc::new(Clients::new(settings.certificates_cached)),
            connector,
            idle_timeout,
            idle_max_per_host,
            http2: settings.http2,
            certificate_warning: SignedDuration::from_hours(24 * i64::from(settings.certificate_warn_days)),
            timeout: Duration::from_millis(settings.timeout_ms),
            body_max: settings.response_body_max_bytes,
            excerpt_max: settings.excerpt_max_bytes,
            https_only_in_live: settings.https_only_in_live,
            url_max: settings.url_max_bytes,
        }
    }

    /// The longest time that [`post`](Self::post) takes.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Loads the system's root certificates, which otherwise the first `https:` call does.
    ///
    /// # Errors
    /// There are none: no `https:` call can succeed until there are.
    pub async fn warm_up(&self) -> Result<(), NoRoots> {
        self.connector.tls().await.map(drop)
    }

    /// Whether a URL may be called, as far as the URL itself tells: for its registration. Where its name leads is checked at each connection.
    ///
    /// # Errors
    /// [`Refusal`]: the first thing that is wrong.
    pub fn check_url(&self, url: &str, mode: Mode) -> Result<Url, Refusal> {
        if url.len() > self.url_max {
            return Err(Refusal::TooLong { max: self.url_max });
        }
        // Browsers forgive more than this, and every leniency is a way to be misread.
        if url.chars().any(|character| character == '\\' || character.is_whitespace() || character.is_control()) {
            return Err(Refusal::Unreadable);
        }
        let (scheme, rest) = url.split_once("://").ok_or(Refusal::Unreadable)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(Refusal::Scheme),
        };
        if !secure && mode == Mode::Live && self.https_only_in_live {
            return Err(Refusal::Insecure);
        }
        if authority.contains('@') {
            return Err(Refusal::Credentials);
        }
        if authority.is_empty() {
            return Err(Refusal::Unreadable);
        }
        let url = Url::parse(url).map_err(|error| if error == ParseError::InvalidPort { Refusal::NoPort } else { Refusal::Unreadable })?;
        if url.fragment().is_some() {
            return Err(Refusal::Fragment);
        }
        let policy = self.connector.policy();
        let trusted = match url.host().ok_or(Refusal::Unreadable)? {
            Host::Ipv4(address) => {
                let plain = address.to_string();
                if authority != plain && !authority.strip_prefix(&plain).is_some_and(|rest| rest.starts_with(':')) {
                    return Err(Refusal::ObscureAddress);
                }
                policy.check(None, address.into())?
            }
            Host::Ipv6(address) => policy.check(None, address.into())?,
            Host::Domain(name) => policy.check_name(name)?,
        };
        match url.port_or_known_default() {
            Some(port) if is_http_port(port) || trusted && port > 0 => Ok(url),
            port => Err(Refusal::Port(port.unwrap_or_default())),
        }
    }

    /// A URL made ready to be called, by the same check.
    ///
    /// # Errors
    /// As [`check_url`](Self::check_url).
    pub fn target(&self, url: &str, mode: Mode) -> Result<Target, Refusal> {
        let url = self.check_url(url, mode)?;
        let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]).map_err(|_| Refusal::Unreadable)?;
        Ok(Target { uri: Uri::try_from(url.as_str()).map_err(|_| Refusal::Unreadable)?, host, identity: None })
    }

    /// Whether somebody should see to it that a certificate is replaced.
    #[must_use]
    pub fn expires_soon(&self, certificate: &ClientCertificate, now: Timestamp) -> bool {
        certificate.expires_at.duration_since(now) < self.certificate_warning
    }

    /// Posts `body` to `target`. `now` is what a `Retry-After` date is read against.
    ///
    /// A 2xx counts only when the answer is complete, or was cut at the limit of the body: a subscriber that begins an answer and then hangs has
    /// not acknowledged. Any other status counts as soon as its head is there.
    ///
    /// A kept connection that ends without an answer was most likely closed while idle, so the message is sent once more, on another one. That
    /// may send it twice, which receivers have to expect anyway.
    ///
    /// # Errors
    /// [`Failure`]: there is no answer. It may have arrived all the same.
    pub async fn post(&self, target: &Target, headers: &[(HeaderName, HeaderValue)], body: Bytes, now: Timestamp) -> Result<Posted, Failure> {
        let start = Instant::now();
        let latency_ms = || u32::try_from(start.elapsed().as_millis()).unwrap_or(u32::MAX);
        let ends = start + self.timeout;
        let result = match tokio::time::timeout_at(ends, self.send(target, headers, body)).await {
            Err(_) => Err(Why::Timeout),
            Ok(Err(why)) => Err(why),
            Ok(Ok(response)) => {
                let (head, body) = response.into_parts();
                let retry_after_ms = retry_after_ms(&head.headers, now);
                let request_id = head.headers.get("x-request-id").filter(|_| !head.status.is_success());
                let request_id = request_id.and_then(|id| id.to_str().ok()).map(ToOwned::to_owned);
                let read = tokio::time::timeout_at(ends, self.read(body)).await;
                let read = read.unwrap_or(Err(Why::Timeout));
                if head.status.is_success() { read } else { Ok(read.unwrap_or_default()) }
                    .map(|excerpt| (head.status.as_u16(), retry_after_ms, excerpt, request_id))
            }
        };
        match result {
            Ok((status, retry_after_ms, excerpt, request_id)) => Ok(Posted { status, retry_after_ms, latency_ms: latency_ms(), excerpt, request_id }),
            Err(why) => Err(Failure { why, latency_ms: latency_ms() }),
        }
    }

    async fn send(&self, target: &Target, headers: &[(HeaderName, HeaderValue)], body: Bytes) -> Result<Response<Incoming>, Why> {
        let request = || {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = target.uri.clone();
            let map = request.headers_mut();
            map.reserve(headers.len() + 3);
            map.insert(HOST, target.host.clone());
            map.insert(USER_AGENT, HeaderValue::from_static(concat!("payrelay/", env!("CARGO_PKG_VERSION"))));
            map.extend(headers.iter().cloned());
            request
        };
        let identified = target.identity.as_ref().map(|identity| {
            let connector = || self.connector.clone().showing(identity.clone());
            self.identified.of(identity, || client(connector(), self.idle_timeout, self.idle_max_per_host))
        });
        let client = identified.as_ref().unwrap_or(&self.client);
        let send = async || {
            let mut request = request();
            let unanswered = Unanswered(self.http2.then(|| capture_connection(&mut request)));
            let answered = client.request(request).await;
            unanswered.end();
            answered
        };
        let mut answered = send().await;
        if answered.as_ref().is_err_and(ended_while_kept) {
            answered = send().await;
        }
        let response = answered.map_err(|error| why(&error))?;
        if let Some(reused) = response.extensions().get::<Reused>() {
            reused.mark();
        }
        Ok(response)
    }

    /// Reads to the end or the limit, whichever comes first. A body that is dropped unread closes its connection.
    async fn read(&self, mut body: Incoming) -> Result<String, Why> {
        let mut excerpt = Vec::new();
        let mut read = 0;
        while !body.is_end_stream() && read < self.body_max {
            let Some(frame) = body.frame().await else { break };
            let Ok(data) = frame.map_err(|_| Why::Closed)?.into_data() else { continue };
            read += data.len();
            let room = self.excerpt_max - excerpt.len();
            excerpt.extend_from_slice(&data[..data.len().min(room)]);
        }
        Ok(String::from_utf8_lossy(&excerpt).into_owned())
    }
}

/// A request under way. Given up before its time, it lets its connection take no other: of HTTP/1.1 none could follow anyway; one of HTTP/2 may live, and answer
/// pings, without ever answering a request again.
struct Unanswered(Option<CaptureConnection>);

impl Unanswered {
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(capture) = &self.0
            && let Some(connected) = capture.connection_metadata().as_ref()
        {
            connected.poison();
        }
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// The system has no root certificates, or those of `ca_file` cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the root certificates cannot be loaded")]
pub struct NoRoots(#[source] rustls::Error);

// === impl Target ===

impl Target {
    /// The same, called with a certificate.
    #[must_use]
    pub fn showing(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }
}

/// HTTP/2 where a server offers it in the TLS handshake, else HTTP/1.1.
fn client(connector: Connector, idle_timeout: Duration, idle_max_per_host: usize) -> Client {
    let patience = connector.timeout();
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(idle_timeout)
        .pool_max_idle_per_host(idle_max_per_host)
        .http1_max_buf_size(HEAD_BYTES)
        .http2_max_header_list_size(HEAD_BYTES as u32)
        .http2_initial_stream_window_size(H2_STREAM_BYTES)
        .http2_initial_connection_window_size(H2_CONNECTION_BYTES)
        // All deliveries to a host share one connection: a dead one must not take their whole time until the system notices.
        .http2_keep_alive_interval(patience)
        .http2_keep_alive_timeout(patience)
        // The header comes with the target. A request that a kept connection did not begin to write is repeated on another one;
        // what may have been written is our own decision, in `send`.
        .set_host(false)
        .retry_canceled_requests(true)
        .build(connector)
}

// === impl Why ===

impl Why {
    /// The short word that records and metrics hold.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::AddressRefused => "address_refused",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Closed => "closed",
            Self::NotHttp => "not_http",
        }
    }
}

/// Whether a request failed on a connection that had answered before. Requests that were not begun have been repeated already.
fn ended_while_kept(error: &legacy::Error) -> bool {
    let mut extras = Extensions::new();
    // Of HTTP/2 a single request can end so, and the next one no less.
    if let Some(connection) = error.connect_info().filter(|connection| !connection.is_negotiated_h2()) {
        connection.get_extras(&mut extras);
    }
    extras.get::<Reused>().is_some_and(Reused::is_marked) && why(error) == Why::Closed
}

fn why(error: &legacy::Error) -> Why {
    let Some(cause) = error.source() else { return Why::Closed };
    if let Some(refused) = cause.downcast_ref::<ConnectError>() {
        return match refused {
            ConnectError::Refused(_) => Why::AddressRefused,
            ConnectError::Dns(_) | ConnectError::NoAddress => Why::Dns,
            ConnectError::Tcp(_) => Why::Connect,
            ConnectError::Tls(_) | ConnectError::NoRoots(_) => Why::Tls,
            ConnectError::Timeout => Why::Timeout,
        };
    }
    match cause.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_parse() => Why::NotHttp,
        // Of HTTP/2: it has not answered a ping.
        Some(error) if error.is_timeout() => Why::Timeout,
        _ if error.is_connect() => Why::Connect,
        _ => Why::Closed,
    }
}

/// Seconds, or an HTTP date in any of the three forms of RFC 9110 against `now`; a year at most. What cannot be read counts as absent.
fn retry_after_ms(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long wait all the same.
        return Some(text.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1_000).min(RETRY_AFTER_MAX_MS));
    }
    // Some write another zone than GMT.
    let with_zone = || jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok().map(SystemTime::from);
    let at = httpdate::parse_http_date(text).ok().or_else(with_zone)?;
    let wait = at.duration_since(now.into()).unwrap_or_default();
    Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).min(RETRY_AFTER_MAX_MS))
}

#[cfg(test)]
mod tests;
