//! The portal: pages under `/portal` where a party looks after its subscriptions in a browser. Off unless it is configured.
//!
//! The platform hands out a link ([`link`]), which becomes a session (`door`); the session acts as a key that is bound to the party, through the very
//! methods that the routes of the API use (`crate::ingress::webhooks`, `crate::ingress::events`). The pages are plain HTML forms; htmx, where a
//! browser runs it, takes the part of the answer that has changed, so there is one answer for both. No page holds a secret but the one that answers
//! the making or rotating of it, nothing is kept by the browser, and no script, style or address of anybody else's is used.

mod assets;
mod deliveries;
mod door;
mod events;
mod fields;
pub mod link;
mod page;
mod subscriptions;
mod verification;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};
use domain::portal::Lasts;
use jiff::SignedDuration;
use serde::Deserialize;
use url::{Host, Url};

use crate::ingress::Ingress;
use crate::ingress::problem::Problem;

/// Where all of it is.
pub(crate) const ROOT: &str = "/portal";

/// How the portal is reached, and how long what it grants lasts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether there is one.
    pub enabled: bool,
    /// Scheme, host and port under which browsers reach the ingress: https, or http on this machine. `None`: http and the `Host` of the request that asks for a link.
    pub url: Option<String>,
    /// How long a link can be opened, in minutes.
    pub link_minutes: u16,
    /// How long a session lasts, in minutes.
    pub session_minutes: u16,
    /// How long a session lasts that is not used, in minutes.
    pub idle_minutes: u16,
    /// Links of one party that are made in `link_minutes`, at most.
    pub links_max: u32,
    /// Requests of browsers under way, at most. More are answered 503 at once.
    pub concurrency: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: false, url: None, link_minutes: 15, session_minutes: 480, idle_minutes: 30, links_max: 100, concurrency: 32 }
    }
}

impl Settings {
    pub(crate) fn lasts(&self) -> Lasts {
        let minutes = |minutes: u16| SignedDuration::from_mins(minutes.into());
        Lasts { whole: minutes(self.session_minutes), idle: minutes(self.idle_minutes) }
    }

    /// Whether browsers come by https, and so may be told to send the cookie no other way.
    pub(crate) fn is_secure(&self) -> bool {
        self.url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }

    /// What is wrong with the address, if something is. `listen` is that of the ingress.
    pub(crate) fn wrong_url(&self, listen: &str, live: bool) -> Option<&'static str> {
        let Some(text) = self.url.as_deref() else {
            let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
            return (live || !is_this_machine(host)).then_some("is needed: the https address under which browsers reach the ingress");
        };
        let Ok(url) = Url::parse(text) else { return Some("must be an address such as https://pay.example") };
        let bare = url.path() == "/" && !text.ends_with('/') && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        let here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        match url.scheme() {
            _ if !bare => Some("must be scheme, host and port only, such as https://pay.example"),
            "https" => None,
            "http" if here && !live => None,
            _ => Some("must be https, or http on this machine"),
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The pages, and what they are made of.
pub(crate) fn routes(ingress: &Arc<Ingress>) -> Router<Arc<Ingress>> {
    Router::new()
        .route("/portal", get(subscriptions::list))
        .route("/portal/enter", get(door::show).post(door::enter))
        .route("/portal/leave", post(door::leave))
        .route("/portal/subscriptions/new", get(subscriptions::blank).post(subscriptions::create))
        .route("/portal/subscriptions/{id}", get(subscriptions::one).post(subscriptions::act))
        .route("/portal/subscriptions/{id}/edit", get(subscriptions::edit).post(subscriptions::change))
        .route("/portal/events", get(events::list))
        .route("/portal/events/{id}", get(events::one).post(events::retry))
        .route("/portal/verify", get(verification::guide).post(verification::check))
        .route("/portal/assets/{name}", get(assets::one))
        .layer(from_fn_with_state(Arc::clone(ingress), door::guard))
}

/// A problem as a page. Answers its text, as the edge writes it.
pub(crate) fn refused(response: &mut Response, problem: &Problem) -> Vec<u8> {
    let headers = response.headers_mut();
    // A browser would ask for a password.
    headers.remove(header::WWW_AUTHENTICATE);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    harden(headers);
    page::refusal(problem).into_bytes()
}

/// What every answer under `/portal` says to the browser: keep nothing, tell nobody where you come from, run and show only what comes from here.
pub(crate) fn harden(headers: &mut HeaderMap) {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
                          base-uri 'none'; frame-ancestors 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_come_by_https_or_from_this_machine() {
        let wrong = |url: Option<&str>, listen: &str, live| {
            Settings { url: url.map(ToOwned::to_owned), ..Settings::default() }.wrong_url(listen, live).is_some()
        };
        for (url, listen, live, expected) in [
            (None, "127.0.0.1:8080", false, false),
            (None, "[::1]:8080", false, false),
            (None, "localhost:8080", false, false),
            (None, "0.0.0.0:8080", false, true),
            (None, "127.0.0.1:8080", true, true),
            (Some("https://pay.example"), "0.0.0.0:8080", true, false),
            (Some("https://pay.example:8443"), "0.0.0.0:8080", true, false),
            (Some("http://pay.example"), "0.0.0.0:8080", false, true),
            (Some("http://localhost:8080"), "0.0.0.0:8080", false, false),
            (Some("http://localhost:8080"), "0.0.0.0:8080", true, true),
            (Some("http://127.0.0.1.evil.example"), "127.0.0.1:8080", false, true),
            (Some("https://pay.example/"), "0.0.0.0:8080", false, true),
            (Some("https://pay.example/x"), "0.0.0.0:8080", false, true),
            (Some("https://a@pay.example"), "0.0.0.0:8080", false, true),
            (Some("javascript:alert(1)"), "0.0.0.0:8080", false, true),
            (Some("pay.example"), "0.0.0.0:8080", false, true),
        ] {
            assert_eq!(wrong(url, listen, live), expected, "{url:?} {listen} {live}");
        }
    }
}
