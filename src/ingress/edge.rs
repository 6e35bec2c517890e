//! What every request passes on its way in and every response on its way out: id, trace, host, share of the machine, time limit, panics, problems, log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::problem::{Kind, Problem, UNKNOWN};
use super::{Ingress, hal};
use crate::portal;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: &str = "traceparent";

/// The W3C `traceparent` that a request belongs to: the caller's, if it sent one, else one of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent(String);

/// The outermost layer, of every route and of what is not found.
pub async fn edge(State(ingress): State<Arc<Ingress>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let trace = TraceParent::of(request.headers());
    let method = request.method().clone();
    // The pattern, not the path: ids of payouts stay out of names and labels.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!(
        "request",
        request.id = %id,
        http.method = %method,
        http.route = route,
        http.status = Empty,
        key.id = Empty,
        mode = Empty,
        party = Empty,
        payout.id = Empty,
    );
    workers::trace::continues(&span, Some(&trace.0));
    request.extensions_mut().insert(trace);
    let is_hal = request.uri().path().starts_with(hal::ROOT);
    let is_page = request.uri().path().starts_with(portal::ROOT);
    let within = Duration::from_millis(ingress.settings.timeout_ms);
    let served = async {
        if !is_host_served(request.headers(), &ingress.settings.hosts) {
            return Problem::new(Kind::MisdirectedRequest, "Use one of the host names of this service.").into_response();
        }
        match tokio::time::timeout(within, AssertUnwindSafe(next.run(request)).catch_unwind()).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => {
                tracing::error!("a request handler panicked");
                Problem::new(Kind::Internal, "The operators have been told.").into_response()
            }
            Err(_) => Problem::new(Kind::Timeout, UNKNOWN).into_response(),
        }
    };
    let mut response = served.instrument(span.clone()).await;
    let problem = response.extensions_mut().remove::<Problem>().map(|problem| if method.is_safe() { problem.of_a_read() } else { problem });
    if let Some(problem) = &problem {
        let document = match (is_hal, is_page) {
            (true, _) => hal::refused(&mut response, problem),
            (_, true) => portal::refused(&mut response, problem),
            _ => problem.document(&id),
        };
        response.headers_mut().insert(header::CONTENT_LENGTH, document.len().into());
        *response.body_mut() = Body::from(document);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status();
    span.record("http.status", status.as_u16());
    ingress.metrics.served(&route, method.as_str(), status, began.elapsed());
    span.in_scope(|| log(status, problem.as_ref(), began.elapsed()));
    response
}

/// Takes a share of the machine, or says at once that there is none.
pub async fn share(State(ingress): State<Arc<Ingress>>, request: Request, next: Next) -> Response {
    within(&ingress, &ingress.slots, request, next).await
}

/// As [`share`], of a smaller share that strangers cannot exceed.
pub async fn share_notices(State(ingress): State<Arc<Ingress>>, request: Request, next: Next) -> Response {
    within(&ingress, &ingress.notice_slots, request, next).await
}

async fn within(ingress: &Ingress, slots: &Semaphore, request: Request, next: Next) -> Response {
    let Ok(_slot) = slots.try_acquire() else {
        ingress.metrics.shed();
        return Problem::new(Kind::Overloaded, "Nothing was done. Try again in a moment.").into_response();
    };
    next.run(request).await
}

fn log(status: StatusCode, problem: Option<&Problem>, took: Duration) {
    let duration_ms = took.as_secs_f64() * 1_000.0;
    let status = status.as_u16();
    match problem.map(Problem::name) {
        None => tracing::debug!(status, duration_ms, "served"),
        Some(problem) if status < 500 => tracing::info!(status, duration_ms, problem, "refused"),
        Some(problem) => tracing::warn!(status, duration_ms, problem, "not served"),
    }
}

/// The caller's id for the request, if it is one that can stand in a log, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let sane = |id: &&str| (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(sane);
    sent.map_or_else(|| format!("req_{:016x}", rand::random::<u64>()), ToOwned::to_owned)
}

fn is_host_served(headers: &HeaderMap, hosts: &[String]) -> bool {
    hosts.is_empty()
        || headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .is_some_and(|host| hosts.iter().any(|served| served.eq_ignore_ascii_case(host)))
}

// === impl TraceParent ===

impl TraceParent {
    fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let sent = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().filter(|text| is_traceparent(text)),
            _ => None,
        };
        // An id of zeros is no id; the odds of drawing one are those of never.
        Self(sent.map_or_else(|| format!("00-{:032x}-{:016x}-01", rand::random::<u128>(), rand::random::<u64>()), ToOwned::to_owned))
    }

    /// The `traceparent` for what follows from the request: that of its span where spans are recorded, else the one that it came with.
    #[must_use]
    pub fn onwards(&self) -> String {
        workers::trace::traceparent(&tracing::Span::current()).unwrap_or_else(|| self.0.clone())
    }
}

/// Version 00 only; later versions may have more parts, and nobody sends them yet.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length| part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let some = |part: &str| part.bytes().any(|byte| byte != b'0');
    matches!(parts[..], ["00", trace, span, flags] if hex(trace, 32) && some(trace) && hex(span, 16) && some(span) && hex(flags, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_taken_over_only_if_sane() {
        let of = |id: &str| request_id(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_str(id).unwrap())]));
        assert_eq!(of("req-1_a.B"), "req-1_a.B");
        for odd in ["", "a b", "a\tb", "x\u{e9}", &"x".repeat(65), "<script>"] {
            assert!(of(odd).starts_with("req_"), "{odd}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn traceparents_are_taken_over_only_if_valid() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (text, valid) in [
            (good, true),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", false),
            ("", false),
        ] {
            assert_eq!(is_traceparent(text), valid, "{text}");
        }
        let headers = HeaderMap::from_iter([(HeaderName::from_static(TRACEPARENT), HeaderValue::from_static(good))]);
        assert_eq!(TraceParent::of(&headers).0, good);
        assert!(is_traceparent(&TraceParent::of(&HeaderMap::new()).0));
    }

    #[test]
    fn hosts_are_compared_with_their_port() {
        let of = |host: &'static str, served: &[&str]| {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            is_host_served(&headers, &served.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert!(of("anything", &[]));
        assert!(of("Pay.Example:8443", &["pay.example:8443"]));
        assert!(!of("pay.example", &["pay.example:8443"]));
        assert!(!is_host_served(&HeaderMap::new(), &["pay.example".to_owned()]));
    }
}
