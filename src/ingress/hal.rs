//! What all routes below `/v2` share: HAL documents in the shape of seed 004, and how amounts, times and links look in them.
//!
//! Our own ids are behind theirs: `payout_…` has the digits of `po_…`, and a balance is the balance account.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use domain::id::PayoutId;
use domain::money::Currency;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

use super::problem::{Errors, Problem};
use super::query::Parameters;

/// The root of the routes that speak HAL.
pub(super) const ROOT: &str = "/v2/";
const MEDIA_TYPE: &str = "application/hal+json";
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 250;

/// An amount in major units, with as many decimals as its currency has.
#[derive(Serialize)]
pub(super) struct Amount {
    currency: &'static str,
    value: String,
}

/// A time as the seed's provider writes it: `2024-03-20T09:13:37+00:00`.
#[derive(Clone, Copy)]
pub(super) struct Moment(pub(super) Timestamp);

/// A place that belongs to a document. Relative, as the service does not know by which name it is reached.
#[derive(Serialize)]
pub(super) struct Link {
    href: String,
    r#type: &'static str,
}

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

impl Amount {
    /// So many minor units, which may be none or a debt.
    pub(super) fn of(minor: i64, currency: Currency) -> Self {
        Self { currency: currency.code(), value: currency.decimal(minor) }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S%:z"))
    }
}

impl Link {
    pub(super) const fn to(href: String) -> Self {
        Self { href, r#type: MEDIA_TYPE }
    }
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

/// The id of a payout, as these routes write it.
pub(super) fn payout_id(id: PayoutId) -> String {
    id.to_string().replacen("po_", "payout_", 1)
}

/// Reads what [`payout_id`] writes.
pub(super) fn read_payout_id(text: &str) -> Option<PayoutId> {
    format!("po_{}", text.strip_prefix("payout_")?).parse().ok()
}

/// Every key is for one mode, so nobody may name one.
pub(super) fn refuse_testmode(parameters: &mut Parameters, errors: &mut Errors) {
    if !parameters.all("testmode").is_empty() {
        errors.field("/testmode", "not_allowed", TESTMODE);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_times_look_as_in_the_seed() {
        let id: PayoutId = "po_108b18049462e43939ac383bbcce".parse().unwrap();
        assert_eq!(payout_id(id), "payout_108b18049462e43939ac383bbcce");
        assert_eq!(read_payout_id(&payout_id(id)), Some(id));
        for wrong in
            ["po_108b18049462e43939ac383bbcce", "payout_", "payout_po_108b18049462e43939ac383bbcce", "payout_108B18049462e43939ac383bbcce", ""]
        {
            assert_eq!(read_payout_id(wrong), None, "{wrong}");
        }
        let moment = serde_json::to_string(&Moment("2024-03-20T10:13:37.9+01:00".parse().unwrap())).unwrap();
        assert_eq!(moment, "\"2024-03-20T09:13:37+00:00\"");
        let amounts = [(1_000, "EUR", "10.00"), (0, "EUR", "0.00"), (-5, "EUR", "-0.05"), (1_200, "JPY", "1200"), (-1, "BHD", "-0.001")];
        for (minor, currency, value) in amounts {
            assert_eq!(Amount::of(minor, Currency::parse(currency).unwrap()).value, value);
        }
    }
}
