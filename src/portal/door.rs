//! Who comes in: links become sessions, sessions are recognised by a cookie, forms by a token, and other sites' requests are turned away.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use domain::credential::token_hash;
use domain::portal::{Access, Grant, Session, form_token, is_form_token, session_token};
use jiff::SignedDuration;

use super::link::random;
use super::{harden, page};
use crate::ingress::Ingress;
use crate::ingress::caller::Caller;
use crate::ingress::problem::{Errors, Kind, Problem};
use crate::ingress::query::Parameters;

/// How exactly it is known when a session was last used.
const SEEN_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// Says of a request that nobody has asked for it: a page looks whether there is news.
const BY_ITSELF: &str = "x-by-itself";
/// Where a link is turned into a session.
const ENTER: &str = "/portal/enter";
/// Time for such a request to arrive whole. It holds one short field, and may be anybody's.
const ENTERS_WITHIN: Duration = Duration::from_secs(1);
const FORM: &str = "application/x-www-form-urlencoded";

/// Somebody with a session.
pub(super) struct Visitor {
    pub(super) caller: Caller,
    pub(super) grant: Grant,
    /// For the forms of the pages that are shown.
    pub(super) form_token: String,
}

/// What every request passes.
pub(super) async fn guard(State(ingress): State<Arc<Ingress>>, request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let foreign = !matches!(site, None | Some(b"same-origin" | b"none"));
    // A link from elsewhere may be followed; a form from elsewhere is not taken.
    if foreign && !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::new(Kind::FormRefused, "It came from another site.").into_response();
    }
    let enters = request.method() == Method::POST && request.uri().path() == ENTER;
    let slots = if enters { &ingress.door_slots } else { &ingress.portal_slots };
    let Ok(_slot) = slots.try_acquire() else {
        ingress.shed();
        return Problem::new(Kind::Overloaded, "Nothing was done. Try again in a moment.").into_response();
    };
    let mut response = next.run(request).await;
    harden(response.headers_mut());
    response
}

/// The page that a link leads to. A script of it passes on what stands behind `#`.
pub(super) async fn show() -> Result<Response, Problem> {
    page::enter()
}

/// With the token of a link: the session begins, and the browser gets its cookie. A browser that has one of another party is asked first, and the link stays good meanwhile.
pub(super) async fn enter(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let form = tokio::time::timeout(ENTERS_WITHIN, ingress.form(request)).await;
    let (headers, mut form) = form.map_err(|_| Problem::new(Kind::BodyTimeout, "It must arrive within a second."))??;
    let refused = || Problem::new(Kind::Unauthenticated, "The link was used, is too old, or is no link. Ask for a new one.");
    let token = form.one("link", &mut Errors::default()).filter(|token| token.len() <= 128).ok_or_else(refused)?;
    let settings = &ingress.settings().portal;
    let store = &ingress.recorder().store;
    let hash = token_hash(ingress.pepper(), token.trim());
    let now = store.clock().now();
    let grant = store.link(&hash).await?.filter(|grant| grant.is_usable(now)).ok_or_else(refused)?;
    if !ingress.stands(&grant).await? {
        return Err(refused());
    }
    let other = ingress.present(&headers).await?.filter(|visitor| !visitor.grant.is_for_whom(&grant));
    let before = if other.is_some() { session_of(&headers, settings.is_secure()) } else { None };
    if let (Some(visitor), Some(before)) = (&other, before) {
        let agreed = form.one("instead_of", &mut Errors::default()).unwrap_or_default();
        if !is_form_token(ingress.pepper(), before, &agreed) {
            return page::another(visitor, &grant, token.trim());
        }
    }
    let session = session_token(random());
    let life = Duration::from_secs(60 * u64::from(settings.session_minutes));
    if !store.enter(&hash, &token_hash(ingress.pepper(), &session), now, life).await? {
        return Err(refused());
    }
    // Nobody has its token any more.
    if let Some(before) = before {
        store.end_session(&token_hash(ingress.pepper(), before)).await?;
    }
    tracing::info!(key.id = %grant.id, party = %grant.party, mode = grant.mode.as_str(), access = grant.access.name(), "a session of the portal begins");
    Ok(([(header::SET_COOKIE, cookie(settings.is_secure(), &session, life.as_secs())?)], page::see_other("/portal")).into_response())
}

/// Ends the session, here and in the browser.
pub(super) async fn leave(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let secure = ingress.settings().portal.is_secure();
    let token = session_of(request.headers(), secure).map(ToOwned::to_owned);
    let (visitor, _) = ingress.posted(request, Access::Read).await?;
    if let Some(token) = token {
        ingress.recorder().store.end_session(&token_hash(ingress.pepper(), &token)).await?;
    }
    tracing::info!(key.id = %visitor.grant.id, "a session of the portal was ended");
    Ok(([(header::SET_COOKIE, cookie(secure, "", 0)?)], page::left()?).into_response())
}

impl Ingress {
    /// Whoever has the session of this request.
    ///
    /// # Errors
    /// 401 without a session that is alive; 503 while the store does not answer.
    pub(super) async fn visitor(&self, headers: &HeaderMap) -> Result<Visitor, Problem> {
        let ended = || Problem::new(Kind::Unauthenticated, "You are not signed in, or were away for too long.");
        let settings = &self.settings().portal;
        let token = session_of(headers, settings.is_secure()).ok_or_else(ended)?;
        let store = &self.recorder().store;
        let hash = token_hash(self.pepper(), token);
        let now = store.clock().now();
        let found = store.session(&hash).await?.filter(|session| session.is_live(settings.lasts(), now)).ok_or_else(ended)?;
        let Session { grant, seen_at, .. } = found;
        if !self.stands(&grant).await? {
            return Err(ended());
        }
        if !headers.contains_key(BY_ITSELF) && now.duration_since(seen_at) >= SEEN_EVERY {
            store.session_seen(&hash, now).await?;
        }
        let span = tracing::Span::current();
        span.record("key.id", tracing::field::display(grant.id));
        span.record("mode", grant.mode.as_str());
        Ok(Visitor { caller: Caller::of(grant.as_key()), form_token: form_token(self.pepper(), token), grant })
    }

    /// As [`Ingress::visitor`], where it may be that nobody has.
    async fn present(&self, headers: &HeaderMap) -> Result<Option<Visitor>, Problem> {
        match self.visitor(headers).await {
            Ok(visitor) => Ok(Some(visitor)),
            Err(problem) if problem.kind == Kind::Unauthenticated => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// A form of one of the pages, from a session that may do as much.
    ///
    /// # Errors
    /// 401 without a session, 403 for a form that is not one of the session's, or that it may not send; what is wrong with the body.
    pub(super) async fn posted(&self, request: Request, access: Access) -> Result<(Visitor, Parameters), Problem> {
        let visitor = self.visitor(request.headers()).await?;
        let token = session_of(request.headers(), self.settings().portal.is_secure()).unwrap_or_default().to_owned();
        let (_, mut form) = self.form(request).await?;
        let sent = form.one("form_token", &mut Errors::default()).unwrap_or_default();
        if !is_form_token(self.pepper(), &token, &sent) {
            return Err(Problem::new(Kind::FormRefused, "It is not a form of this session. Open the page again."));
        }
        if !visitor.caller.key().may(access.scope()) {
            return Err(Problem::new(Kind::FormRefused, "This session may look on, but not change anything."));
        }
        Ok((visitor, form))
    }

    /// The fields of a form, whoever sends it.
    async fn form(&self, request: Request) -> Result<(HeaderMap, Parameters), Problem> {
        let (parts, body) = request.into_parts();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().map(str::trim) != Some(FORM) {
            return Err(Problem::new(Kind::MediaType, "Send a form."));
        }
        let body = self.read_body(&parts, body, self.settings().body_max_bytes).await?;
        let text = std::str::from_utf8(&body).map_err(|_| Problem::new(Kind::NotUtf8, "The form is no text."))?;
        Ok((parts.headers, Parameters::read(Some(text))))
    }

    /// Whether what was granted was not taken back, and the key that granted it, if one did, still counts.
    async fn stands(&self, grant: &Grant) -> Result<bool, Problem> {
        if grant.mode == domain::id::Mode::Live && !self.settings().live {
            return Ok(false);
        }
        if grant.is_taken_back(&self.recorder().store.portal_generation(&grant.party, grant.mode).await?) {
            return Ok(false);
        }
        let Some(key) = &grant.key else { return Ok(true) };
        Ok(self.credential(key.clone()).await?.is_some_and(|credential| credential.key.revoked_at.is_none()))
    }
}

/// With `__Host-` a browser takes it by https only, and for this very host.
const fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-payrelay-portal" } else { "payrelay-portal" }
}

fn cookie(secure: bool, token: &str, seconds: u64) -> Result<HeaderValue, Problem> {
    let only = if secure { "; Secure" } else { "" };
    let text = format!("{}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{only}", cookie_name(secure));
    HeaderValue::from_str(&text).map_err(|_| Problem::new(Kind::Internal, "The session could not begin."))
}

/// The token of the session, if exactly one is sent.
fn session_of(headers: &HeaderMap, secure: bool) -> Option<&str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut values = texts.flat_map(|text| text.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == cookie_name(secure)).then_some(value)
    });
    match (values.next(), values.next()) {
        (Some(token), None) if (1..=128).contains(&token.len()) => Some(token),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cookie_of_the_right_name_is_a_session() {
        let of = |values: &[&str], secure| {
            let headers: HeaderMap = values.iter().map(|value| (header::COOKIE, HeaderValue::from_str(value).unwrap())).collect();
            session_of(&headers, secure).map(ToOwned::to_owned)
        };
        assert_eq!(of(&["a=b; payrelay-portal=x; c=d"], false).as_deref(), Some("x"));
        assert_eq!(of(&["__Host-payrelay-portal=x"], true).as_deref(), Some("x"));
        assert_eq!(of(&["payrelay-portal=x"], true), None, "one that a plain page could have set");
        assert_eq!(of(&["payrelay-portal=x; payrelay-portal=y"], false), None);
        assert_eq!(of(&["payrelay-portal=x", "payrelay-portal=y"], false), None);
        assert_eq!(of(&["payrelay-portal="], false), None);
    }

    #[test]
    fn cookies_are_for_this_host_and_for_no_script() {
        assert_eq!(cookie(true, "t", 60).unwrap(), "__Host-payrelay-portal=t; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure");
        assert_eq!(cookie(false, "t", 60).unwrap(), "payrelay-portal=t; Path=/; Max-Age=60; HttpOnly; SameSite=Strict");
    }
}
