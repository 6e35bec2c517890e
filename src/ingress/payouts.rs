//! `/v1/payouts`: ask for a payout, look at one, list them.
//!
//! A request that has a body names its party there (`party_id`), so that a signature covers it; one that has none names it in the query.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::credential::{Reach, Scope};
use domain::destination::Beneficiary;
use domain::fact::Provider;
use domain::id::{Mode, PartyId, PayoutId};
use domain::money::Currency;
use domain::payout::Payout;
use domain::payout::state::StateName;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use workers::open::Opening;
use workers::store::lists::{Position, Range};

use super::caller::Caller;
use super::edge::TraceParent;
use super::intake::Duty;
use super::opening::{Circumstances, archived, conflict, inactive, not_replaceable, twin};
use super::problem::{Errors, Problem};
use super::query::Parameters;
use super::view::{PayoutView, answer, result, set};
use super::{Ingress, commands, json, order, timeline};

/// Whether the answer is that to an earlier, equal request.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new()
        .route("/v1/payouts", post(create).get(list))
        .route("/v1/payouts/{transaction_id}", get(one))
        .route("/v1/payouts/{transaction_id}/approve", post(commands::approve))
        .route("/v1/payouts/{transaction_id}/cancel", post(commands::cancel))
        .route("/v1/payouts/{transaction_id}/check", post(commands::check))
        .route("/v1/payouts/{transaction_id}/resolve", post(commands::resolve))
        .route("/v1/payouts/{transaction_id}/timeline", get(timeline::timeline))
}

async fn create(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::PayoutsWrite, Duty::Body).await?;
    json::check_media_type(&parts.headers)?;
    let mut asked = order::read(&body)?;
    let party = ingress.party(&caller, asked.party.take())?;
    let trace = parts.extensions.get().map(TraceParent::onwards);
    let of = Circumstances {
        party: &party,
        mode: caller.mode(),
        maker: &caller.key().owner,
        batch_id: None,
        trace: trace.as_deref(),
        now: ingress.recorder.store.clock().now(),
    };
    let wanted = ingress.wanted(asked, &of);
    tracing::Span::current().record("payout.id", tracing::field::display(wanted.order.id));
    let (payout, replayed) = match ingress.recorder.open(&wanted, SignedDuration::ZERO).await? {
        Opening::Opened(payout) => (payout, false),
        Opening::Replayed(payout) => (payout, true),
        Opening::Unreadable(error) => return Err(error.into()),
        Opening::Conflict => return Err(conflict()),
        Opening::Archived => return Err(archived()),
        Opening::Inactive => return Err(inactive()),
        Opening::Twin(key) => return Err(twin(Some(&key))),
        Opening::NotReplaceable(why) => return Err(not_replaceable(Some(why))),
        Opening::Objected(problem) => return Err(problem),
    };
    let mut response = result(StatusCode::ACCEPTED, &PayoutView::new(&payout, &wanted.beneficiary));
    set(&mut response, header::LOCATION, &location(&caller, &payout));
    if replayed {
        set(&mut response, REPLAYED, "true");
    }
    Ok(response)
}

/// Where the payout can be read by whoever asked for it.
fn location(caller: &Caller, payout: &Payout) -> String {
    let path = format!("/v1/payouts/{}", payout.transaction_id);
    named_party(caller, &payout.party).map_or_else(|| path.clone(), |(name, party)| format!("{path}?{name}={party}"))
}

/// The parameter with which this caller has to name the party, if it has to.
pub(super) fn named_party(caller: &Caller, party: &PartyId) -> Option<(&'static str, String)> {
    match caller.key().reach {
        Reach::Platform => Some(("party_id", party.to_string())),
        Reach::Party(_) => None,
    }
}

async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path(key): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::PayoutsRead).await?;
    let payout = ingress.find(&caller, party_in(query.as_deref())?, &key).await?;
    let beneficiary = ingress.recorder.store.beneficiary(payout.id).await?;
    Ok(result(StatusCode::OK, &PayoutView::new(&payout, &beneficiary)))
}

/// The party of a query that may hold nothing else.
pub(super) fn party_in(query: Option<&str>) -> Result<Option<PartyId>, Problem> {
    let mut errors = Errors::default();
    let mut parameters = Parameters::read(query);
    let party = parameters.parsed("party_id", "invalid", &mut errors, PartyId::parse);
    parameters.finish(errors)?;
    Ok(party)
}

/// An instant in a query.
pub(super) fn instant(text: &str) -> Result<Timestamp, &'static str> {
    order::timestamp(text).ok_or("must be a date and time with offset by RFC 3339; `+` is written %2B")
}

/// How many items a page of a list may have.
pub(super) fn limit(parameters: &mut Parameters, errors: &mut Errors) -> usize {
    let limit = parameters.parsed("limit", "out_of_range", errors, |text| {
        let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit) && text.bytes().all(|byte| byte.is_ascii_digit()));
        limit.ok_or("must be a number from 1 to 200")
    });
    limit.unwrap_or(LIMIT_DEFAULT)
}

impl Ingress {
    /// The payout with that `transaction_id`. One of another party or mode is not found, like one that does not exist.
    pub(super) async fn find(&self, caller: &Caller, named: Option<PartyId>, key: &str) -> Result<Payout, Problem> {
        let party = self.party(caller, named)?;
        let missing = || Problem::not_found("payout");
        let key = order::transaction_id(key).ok_or_else(missing)?;
        let id = PayoutId::derive(&party, caller.mode(), &key, self.recorder.store.shards());
        tracing::Span::current().record("payout.id", tracing::field::display(id));
        self.recorder.store.load(id).await?.ok_or_else(missing)
    }
}

/// What a list is asked for.
#[derive(Debug)]
struct Listing {
    party: Option<PartyId>,
    statuses: Vec<StateName>,
    currency: Option<Currency>,
    provider: Option<Provider>,
    from: Timestamp,
    to: Timestamp,
    limit: usize,
    after: Option<Position>,
}

impl Listing {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut errors = Errors::default();
        let mut parameters = Parameters::read(query);
        let errs = &mut errors;
        let mut statuses = Vec::new();
        for name in parameters.all("status") {
            match StateName::named(&name) {
                Some(state) => statuses.push(state),
                None => errs.parameter("status", "unknown_status", "is not a status of a payout"),
            }
        }
        let party = parameters.parsed("party_id", "invalid", errs, PartyId::parse);
        let currency = parameters.parsed("currency", "unknown_currency", errs, Currency::parse);
        let provider =
            parameters.parsed("provider", "unknown_provider", errs, |name| Provider::named(name).ok_or("is not a provider of this service"));
        let from = parameters.parsed("from", "not_an_instant", errs, instant);
        let to = parameters.parsed("to", "not_an_instant", errs, instant);
        let limit = limit(&mut parameters, errs);
        let after = parameters.parsed("cursor", "invalid", errs, |text| read_cursor(text).ok_or("must be the `next_cursor` of a page of this list"));
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            errs.parameter("to", "out_of_range", "must be after `from`");
        }
        parameters.finish(errors)?;
        Ok(Self { party, statuses, currency, provider, from: from.unwrap_or(Timestamp::UNIX_EPOCH), to: to.unwrap_or(Timestamp::MAX), limit, after })
    }

    fn keeps(&self, payout: &Payout) -> bool {
        let provider = payout.attempt().map(|attempt| attempt.provider).or_else(|| payout.route.first().copied());
        (self.statuses.is_empty() || self.statuses.contains(&payout.state.name()))
            && self.currency.is_none_or(|currency| currency == payout.amount.currency())
            && self.provider.is_none_or(|wanted| provider == Some(wanted))
    }
}

/// A place in a list, for the caller to hand back. It leads only through the caller's own list, whatever is made of it.
fn write_cursor(position: Position) -> String {
    URL_SAFE_NO_PAD.encode(format!("1:{}:{}", position.at_ms, position.id))
}

fn read_cursor(text: &str) -> Option<Position> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let mut parts = text.splitn(3, ':');
    match (parts.next()?, parts.next()?, parts.next()?) {
        ("1", at_ms, id) => Some(Position { at_ms: at_ms.parse().ok()?, id: id.parse().ok()? }),
        _ => None,
    }
}

async fn list(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List<'a> {
        results: Vec<PayoutView<'a>>,
        /// Absent on the last page.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_cursor: Option<String>,
    }

    let caller = ingress.admit(&headers, Scope::PayoutsRead).await?;
    let mut listing = Listing::read(query.as_deref())?;
    let party = ingress.party(&caller, listing.party.take())?;
    let store = &ingress.recorder.store;
    let mode: Mode = caller.mode();
    let page = store
        .list(&Range { party: &party, mode, from: listing.from, to: listing.to, after: listing.after, limit: listing.limit }, |payout| {
            listing.keeps(payout)
        })
        .await?;
    let beneficiaries: Vec<Beneficiary> =
        futures_util::future::try_join_all(page.items.iter().map(|(_, payout)| store.beneficiary(payout.id))).await?;
    let results = page.items.iter().zip(&beneficiaries).map(|((_, payout), beneficiary)| PayoutView::new(payout, beneficiary)).collect();
    Ok(answer(StatusCode::OK, &List { results, next_cursor: page.next.map(write_cursor) }))
}

#[cfg(test)]
mod tests {
    use domain::id::Shards;

    use super::*;
    use crate::ingress::problem::Kind;

    #[test]
    fn cursors_survive_and_nonsense_does_not() {
        let party = PartyId::parse("shop").unwrap();
        let position = Position { at_ms: 1_764_000_000_123, id: PayoutId::derive(&party, Mode::Test, "x", Shards::ONE) };
        assert_eq!(read_cursor(&write_cursor(position)), Some(position));
        for text in ["", "x", "MTox", &URL_SAFE_NO_PAD.encode("2:1:po_00"), &URL_SAFE_NO_PAD.encode("1:1:po_00")] {
            assert_eq!(read_cursor(text), None, "{text}");
        }
    }

    #[test]
    fn lists_are_asked_for_strictly() {
        let listing = Listing::read(Some("status=failed&status=returned&currency=GBP&from=2026-01-01T00:00:00Z&limit=200")).unwrap();
        assert_eq!(listing.statuses, [StateName::Failed, StateName::Returned]);
        assert_eq!((listing.limit, listing.currency), (200, Some(Currency::GBP)));
        for query in [
            "status=Failed",
            "status=new",
            "currency=gbp",
            "limit=0",
            "limit=201",
            "limit=+5",
            "limit=5&limit=6",
            "from=2026-01-01",
            "from=2026-01-01T00:00:00+02:00",
            "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
            "cursor=x",
            "page=2",
            "Limit=5",
            "provider=stripe",
            "party_id=a%20b",
        ] {
            assert_eq!(Listing::read(Some(query)).unwrap_err().kind, Kind::InvalidParameters, "{query}");
        }
        assert!(Listing::read(Some("from=2026-01-01T00:00:00%2B02:00")).is_ok());
    }
}
