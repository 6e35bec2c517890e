//! What all routes below `/v2` share: HAL documents in the shape of seed 004. How payouts, amounts, times and links look in them is [`domain::snapshot`]'s; a
//! balance is the balance account.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use domain::id::PartyId;
use domain::snapshot::{Link, MEDIA_TYPE};
use serde::Serialize;

use super::problem::{Errors, Problem};
use super::query::Parameters;

/// The root of the routes that speak HAL.
pub(super) const ROOT: &str = "/v2/";
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 250;

/// A page of a list.
#[derive(Serialize)]
pub(super) struct Page<T> {
    count: usize,
    #[serde(rename = "_embedded")]
    embedded: T,
    #[serde(rename = "_links")]
    links: PageLinks,
}

#[derive(Serialize)]
struct PageLinks {
    #[serde(rename = "self")]
    own: Link,
    /// `null` on the first page.
    previous: Option<Link>,
    /// `null` on the last page.
    next: Option<Link>,
}

impl<T> Page<T> {
    /// The page of `path` that begins at `from`. `query` is what else it was asked for by, and goes on.
    pub(super) fn new(
        path: &str,
        query: &[(&str, String)],
        (previous, from, next): (Option<String>, Option<String>, Option<String>),
        count: usize,
        embedded: T,
    ) -> Self {
        let at = |from: Option<String>| {
            let mut pairs = url::form_urlencoded::Serializer::new(String::new());
            query.iter().for_each(|(name, value)| _ = pairs.append_pair(name, value));
            from.iter().for_each(|from| _ = pairs.append_pair("from", from));
            Link::to(format!("{path}?{}", pairs.finish()))
        };
        let links = PageLinks { own: at(from), previous: previous.map(|from| at(Some(from))), next: next.map(|from| at(Some(from))) };
        Self { count, embedded, links }
    }
}

/// A document.
pub(super) fn answer<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let body = serde_json::to_vec(body).expect("answers have string keys only, so they are always JSON");
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))], Body::from(body)).into_response()
}

/// Gives a response that a problem has made the status and the media type of its HAL document, and hands that out.
pub(super) fn refused(response: &mut Response, problem: &Problem) -> Vec<u8> {
    let (status, document) = problem.hal();
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    document
}

/// Every key is for one mode, so nobody may name one.
pub(super) fn refuse_testmode(parameters: &mut Parameters, errors: &mut Errors) {
    if !parameters.all("testmode").is_empty() {
        errors.field("/testmode", "not_allowed", TESTMODE);
    }
}

/// The party of a query that may hold nothing else. An id says whose it is, so it need not be named.
pub(super) fn party_in(query: Option<&str>) -> Result<Option<PartyId>, Problem> {
    let mut errors = Errors::default();
    let mut parameters = Parameters::read(query);
    refuse_testmode(&mut parameters, &mut errors);
    let party = parameters.parsed("party_id", "invalid", &mut errors, party);
    parameters.finish(errors)?;
    Ok(party)
}

/// A party in a query. What is wrong goes on from the name of the field.
pub(super) fn party(text: &str) -> Result<PartyId, String> {
    PartyId::parse(text).map_err(|error| format!("must be {}", error.expected))
}

pub(super) const TESTMODE: &str = "must not be sent: the API key says which mode is meant";

/// How many items a page may have.
pub(super) fn limit(parameters: &mut Parameters, errors: &mut Errors) -> usize {
    let limit = parameters.parsed("limit", "out_of_range", errors, |text| {
        let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit) && text.bytes().all(|byte| byte.is_ascii_digit()));
        limit.ok_or("must be a number from 1 to 250")
    });
    limit.unwrap_or(LIMIT_DEFAULT)
}
