//! What all pages share: the frame around them, how times and states are written, and what a page says that has nothing else to show.

use std::fmt;

use askama::Template;
use askama::filters::HtmlSafe;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use domain::portal::{Access, Grant};
use jiff::Timestamp;

use super::assets;
use super::door::Visitor;
use crate::ingress::problem::{Kind, Problem};

/// The frame of a page.
pub(super) struct Frame<'a> {
    pub(super) title: String,
    /// The entry of the navigation that it belongs to.
    pub(super) place: &'static str,
    /// `None` on pages for everybody.
    pub(super) visitor: Option<&'a Visitor>,
    pub(super) notice: Option<Notice>,
}

/// What became of what was just asked for.
pub(super) struct Notice {
    pub(super) good: bool,
    pub(super) text: String,
    /// What somebody else said, word for word.
    pub(super) quoted: Option<String>,
}

/// A time: in UTC, for the script to write it in the zone of whoever reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct When(pub(super) Timestamp);

/// A state, as a word that stands out.
#[derive(Clone, Copy)]
pub(super) struct Pill(pub(super) &'static str);

// === impl Frame ===

impl<'a> Frame<'a> {
    pub(super) fn new(visitor: &'a Visitor, place: &'static str, title: impl Into<String>) -> Self {
        Self { title: title.into(), place, visitor: Some(visitor), notice: None }
    }

    pub(super) fn with(self, notice: Option<Notice>) -> Self {
        Self { notice, ..self }
    }

    fn for_everybody(title: &str) -> Self {
        Self { title: title.to_owned(), place: "", visitor: None, notice: None }
    }

    /// Whether the visitor may change something.
    pub(super) fn manages(&self) -> bool {
        self.visitor.is_some_and(|visitor| visitor.grant.access == Access::Manage)
    }

    pub(super) fn form_token(&self) -> &str {
        self.visitor.map_or("", |visitor| &visitor.form_token)
    }

    pub(super) fn asset(&self, name: &str) -> String {
        assets::address(name)
    }
}

// === impl Notice ===

impl Notice {
    pub(super) fn good(text: impl Into<String>) -> Self {
        Self { good: true, text: text.into(), quoted: None }
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self { good: false, text: text.into(), quoted: None }
    }

    /// A problem that leaves the page as it is. Those of the session and of the machine are pages of their own.
    pub(super) fn of(problem: Problem) -> Result<Self, Problem> {
        match problem.kind {
            Kind::NotPossibleNow | Kind::VersionStale | Kind::SubscriptionsFull | Kind::InvalidFields | Kind::Overloaded => {
                Ok(Self::bad(problem.detail()))
            }
            _ => Err(problem),
        }
    }
}

// === impl When, Pill ===

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (exact, read) = (self.0.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"), self.0.strftime("%Y-%m-%d %H:%M:%S UTC"));
        write!(f, r#"<time datetime="{exact}" title="{read}">{read}</time>"#)
    }
}

impl fmt::Display for Pill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"<span class="pill {0}">{0}</span>"#, self.0)
    }
}

// Made of digits and of words of our own.
impl HtmlSafe for When {}
impl HtmlSafe for Pill {}

// === pages ===

#[derive(Template)]
#[template(path = "enter.html")]
struct Enter<'a> {
    frame: Frame<'a>,
}

/// Asks whether one session is to give way to another.
#[derive(Template)]
#[template(path = "another.html")]
struct Another<'a> {
    frame: Frame<'a>,
    present: &'a Visitor,
    grant: &'a Grant,
    link: &'a str,
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    frame: Frame<'a>,
    text: &'a str,
    hint: &'a str,
    home: bool,
}

/// A page as an answer.
pub(super) fn shown(status: StatusCode, page: &impl Template) -> Result<Response, Problem> {
    let text = page.render().map_err(|error| {
        tracing::error!(%error, "a page could not be written");
        Problem::new(Kind::Internal, "The operators have been told.")
    })?;
    Ok((status, [(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], text).into_response())
}

/// Sends the browser to another page.
pub(super) fn see_other(path: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(path) = HeaderValue::from_str(path) {
        response.headers_mut().insert(header::LOCATION, path);
    }
    response
}

pub(super) fn enter() -> Result<Response, Problem> {
    shown(StatusCode::OK, &Enter { frame: Frame::for_everybody("Open the portal") })
}

/// `link`: its token, which is good until it is used.
pub(super) fn another(present: &Visitor, grant: &Grant, link: &str) -> Result<Response, Problem> {
    shown(StatusCode::OK, &Another { frame: Frame::for_everybody("Another party"), present, grant, link })
}

pub(super) fn left() -> Result<Response, Problem> {
    let text = "You are signed out.";
    shown(StatusCode::OK, &Message { frame: Frame::for_everybody("Signed out"), text, hint: "To come back, ask for a new link.", home: false })
}

/// A problem as a page.
pub(super) fn refusal(problem: &Problem) -> String {
    let (title, hint, home) = match problem.kind {
        Kind::Unauthenticated => {
            ("Not signed in", "Whoever runs your payouts gives you a link that opens this page. It works once, and for a short while.", false)
        }
        Kind::NotFound => ("Nothing here", "It may have been deleted, or never have been yours.", true),
        Kind::FormRefused => ("Nothing was changed", "", true),
        Kind::Internal => ("Something went wrong here", "", true),
        _ => (problem.title(), "", true),
    };
    let page = Message { frame: Frame::for_everybody(title), text: problem.detail(), hint, home };
    page.render().unwrap_or_else(|_| title.to_owned())
}
