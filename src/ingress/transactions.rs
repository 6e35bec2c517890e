//! `/v1/transactions`: payouts and top-ups of a time, as seed 003 lists them, newest first and in pages.
//!
//! The time of a payout is that of its request. Values of the query may be in double quotes, as the seed's example sends them, and words in
//! any case.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::account::TopUp;
use domain::credential::Scope;
use domain::id::{PartyId, PayoutId, TopUpId};
use domain::money::Currency;
use domain::payout::Payout;
use jiff::Timestamp;
use serde::Serialize;
use workers::store::lists::{Page, Position, Range};

use super::payouts::{instant, limit};
use super::problem::{Errors, Problem};
use super::query::Parameters;
use super::view::{PayoutView, answer};
use super::{Ingress, top_ups};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/v1/transactions", get(list))
}

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Payout,
    TopUp,
}

/// A place in the list. At the same instant payouts come before top-ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Payout(Position),
    TopUp(Position<TopUpId>),
}

#[derive(Debug)]
struct Listing {
    party: Option<PartyId>,
    from: Timestamp,
    to: Timestamp,
    kind: Option<Kind>,
    currency: Option<Currency>,
    limit: usize,
    after: Option<Place>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum View<'a> {
    Payout {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(flatten)]
        payout: Box<PayoutView<'a>>,
    },
    TopUp(top_ups::View<'a>),
}

impl Place {
    /// As the caller hands it back. It leads only through the caller's own list, whatever is made of it.
    fn write(self) -> String {
        URL_SAFE_NO_PAD.encode(match self {
            Self::Payout(position) => format!("1:{}:{}", position.at_ms, position.id),
            Self::TopUp(position) => format!("1:{}:{}", position.at_ms, position.id),
        })
    }

    fn read(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (at_ms, id) = text.strip_prefix("1:")?.split_once(':')?;
        let at_ms = at_ms.parse().ok()?;
        let payout = id.parse::<PayoutId>().map(|id| Self::Payout(Position { at_ms, id }));
        payout.or_else(|_| id.parse::<TopUpId>().map(|id| Self::TopUp(Position { at_ms, id }))).ok()
    }
}

impl Listing {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut errors = Errors::default();
        let mut parameters = Parameters::read(query).unquoted();
        let errs = &mut errors;
        let party = parameters.parsed("party_id", "invalid", errs, PartyId::parse);
        let from = parameters.parsed("from", "not_an_instant", errs, instant);
        let to = parameters.parsed("to", "not_an_instant", errs, instant);
        let kind = parameters.parsed("type", "unknown_type", errs, |word| match word.to_ascii_lowercase().as_str() {
            "payout" => Ok(Kind::Payout),
            "topup" => Ok(Kind::TopUp),
            _ => Err("must be payout or topup"),
        });
        let currency = parameters.parsed("currency", "unknown_currency", errs, |code| Currency::parse(&code.to_ascii_uppercase()));
        let limit = limit(&mut parameters, errs);
        let after = parameters.parsed("cursor", "invalid", errs, |text| Place::read(text).ok_or("must be the `next_cursor` of a page of this list"));
        for (name, given) in [("from", from.is_some()), ("to", to.is_some())] {
            if !given && !errs.names(name) {
                errs.parameter(name, "missing", "is required");
            }
        }
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            errs.parameter("to", "out_of_range", "must be after `from`");
        }
        parameters.finish(errors)?;
        let (from, to) = (from.unwrap_or(Timestamp::UNIX_EPOCH), to.unwrap_or(Timestamp::MAX));
        Ok(Self { party, from, to, kind, currency, limit, after })
    }

    fn keeps(&self, currency: Currency) -> bool {
        self.currency.is_none_or(|asked| asked == currency)
    }
}

async fn list(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List<'a> {
        results: Vec<View<'a>>,
        /// Absent on the last page.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_cursor: Option<String>,
    }

    let caller = ingress.admit(&headers, Scope::PayoutsRead).await?;
    let mut listing = Listing::read(query.as_deref())?;
    let party = ingress.party(&caller, listing.party.take())?;
    let store = &ingress.recorder.store;
    let (mode, from, limit) = (caller.mode(), listing.from, listing.limit);
    // What came before the place, in the order of the list, is not asked for again.
    let (payouts_to, payouts_after, top_ups_to, top_ups_after) = match listing.after {
        None => (listing.to, None, listing.to, None),
        Some(Place::Payout(place)) => (listing.to, Some(place), listing.to.min(behind(place.at_ms)), None),
        Some(Place::TopUp(place)) => (listing.to.min(at(place.at_ms)), None, listing.to, Some(place)),
    };
    let mut payouts = Page { items: Vec::new(), next: None };
    if listing.kind != Some(Kind::TopUp) {
        let range = Range { party: &party, mode, from, to: payouts_to, after: payouts_after, limit };
        payouts = store.list(&range, |payout| listing.keeps(payout.amount.currency())).await?;
    }
    let mut top_ups = Page { items: Vec::new(), next: None };
    if listing.kind != Some(Kind::Payout) {
        let range = Range { party: &party, mode, from, to: top_ups_to, after: top_ups_after, limit };
        top_ups = store.top_ups(&range, |top_up| listing.keeps(top_up.money.currency())).await?;
    }
    let (merged, next) = merge(payouts, top_ups, limit);
    let beneficiaries = merged.iter().filter_map(|item| if let Item::Payout(payout) = item { Some(store.beneficiary(payout.id)) } else { None });
    let beneficiaries = futures_util::future::try_join_all(beneficiaries).await?;
    let mut beneficiary = beneficiaries.iter();
    let results = merged.iter().filter_map(|item| match item {
        Item::Payout(payout) => Some(View::Payout { kind: "payout", payout: Box::new(PayoutView::new(payout, beneficiary.next()?)) }),
        Item::TopUp(top_up) => Some(View::TopUp(top_ups::View::new(top_up))),
    });
    Ok(answer(StatusCode::OK, &List { results: results.collect(), next_cursor: next.map(Place::write) }))
}

enum Item {
    Payout(Box<Payout>),
    TopUp(TopUp),
}

/// The first `limit` of both, and where the next page begins.
///
/// A page that ended early, because it had looked at all that one page may look at, says how far it got: behind that the other one must not run ahead.
fn merge(payouts: Page, top_ups: Page<TopUp, TopUpId>, limit: usize) -> (Vec<Item>, Option<Place>) {
    let ends = [payouts.next.map(Place::Payout), top_ups.next.map(Place::TopUp)];
    let payouts = payouts.items.into_iter().map(|(place, payout)| (Place::Payout(place), Item::Payout(Box::new(payout))));
    let top_ups = top_ups.items.into_iter().map(|(place, top_up)| (Place::TopUp(place), Item::TopUp(top_up)));
    let mut all: Vec<(Place, Item)> = payouts.chain(top_ups).collect();
    all.sort_by_key(|(place, _)| std::cmp::Reverse(order(*place)));
    // The nearer of the two ends is as far as this page is known to be whole.
    let end = ends.into_iter().flatten().max_by_key(|place| order(*place));
    let whole = all.iter().take_while(|(place, _)| end.is_none_or(|end| order(*place) >= order(end))).count();
    let next = if whole > limit { all.get(limit.saturating_sub(1)).map(|(place, _)| *place) } else { end };
    all.truncate(whole.min(limit));
    (all.into_iter().map(|(_, item)| item).collect(), next)
}

/// Newest first means by the highest of these.
fn order(place: Place) -> (i64, u8, [u8; 14]) {
    match place {
        Place::Payout(Position { at_ms, id }) => (at_ms, 1, *id.as_bytes()),
        Place::TopUp(Position { at_ms, id }) => (at_ms, 0, *id.as_bytes()),
    }
}

fn at(at_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::MAX)
}

/// The end of a millisecond, as the exclusive end of a range.
fn behind(at_ms: i64) -> Timestamp {
    at(at_ms.saturating_add(1))
}
