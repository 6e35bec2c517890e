//! `/v1/deliveries`: what was told to whom, and how that went, for the party whose events they are.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::credential::Scope;
use domain::delivery::Progress;
use domain::id::{DeliveryId, EventId, Mode, PartyId, PayoutId, SubscriptionId};
use domain::subscription::{EventTypes, Pattern};
use jiff::Timestamp;
use serde::Serialize;
use workers::store::deliveries::{MERGED_MAX, Place, Told, Wanted, Within};
use workers::store::lists::Position;

use super::caller::Caller;
use super::payouts::{instant, limit, party_in};
use super::problem::{Errors, Problem};
use super::query::Parameters;
use super::timeline::DeliveryView;
use super::view::{Moment, answer, result};
use super::{Ingress, order};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new()
        .route("/v1/deliveries", get(list))
        .route("/v1/deliveries/{delivery_id}", get(one))
        .route("/v1/webhooks/{id}/abandoned", get(abandoned))
}

#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    delivery: DeliveryView<'a>,
    /// Absent where the event is no payout's.
    #[serde(skip_serializing_if = "Option::is_none")]
    payout_id: Option<PayoutId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<&'a str>,
    event_type: &'a str,
    event_at: Moment,
}

impl<'a> View<'a> {
    fn new(told: &'a Told) -> Self {
        Self {
            delivery: DeliveryView::of(told),
            payout_id: told.transaction_id.as_ref().map(|_| told.event.id.payout()),
            transaction_id: told.transaction_id.as_deref(),
            event_type: &told.event.kind,
            event_at: Moment(told.event.at),
        }
    }

    fn short(self) -> Self {
        Self { delivery: self.delivery.short(), ..self }
    }
}

/// What a list is asked for.
#[derive(Debug)]
struct Listing {
    party: Option<PartyId>,
    subscription: Option<SubscriptionId>,
    /// By its own id or by the caller's key.
    payout: Option<String>,
    event: Option<EventId>,
    progress: Option<Progress>,
    types: EventTypes,
    from: Timestamp,
    to: Timestamp,
    limit: usize,
    after: Option<Place>,
}

impl Listing {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut errors = Errors::default();
        let mut parameters = Parameters::read(query);
        let errs = &mut errors;
        let party = parameters.parsed("party_id", "invalid", errs, PartyId::parse);
        let subscription = parameters.parsed("subscription_id", "invalid", errs, str::parse);
        let payout = parameters.one("payout", errs);
        let event = parameters.parsed("event_id", "invalid", errs, str::parse::<EventId>);
        if payout.is_some() && event.is_some() {
            errs.parameter("payout", "not_allowed", "must not be named with `event_id`, which says whose it is");
        }
        let progress = parameters.parsed("status", "unknown_status", errs, |name| Progress::named(name).ok_or("is not a status of a delivery"));
        let types = types(&mut parameters, errs);
        let (from, to) = span(&mut parameters, errs);
        let limit = limit(&mut parameters, errs);
        let after = cursor(&mut parameters, errs);
        parameters.finish(errors)?;
        Ok(Self { party, subscription, payout, event, progress, types, from, to, limit, after })
    }
}

/// The event types that a list is narrowed to; all, if none is named.
pub(super) fn types(parameters: &mut Parameters, errors: &mut Errors) -> EventTypes {
    let mut patterns = std::collections::BTreeSet::new();
    for name in parameters.all("type") {
        match Pattern::parse(&name) {
            Ok(pattern) => _ = patterns.insert(pattern),
            Err(_) => errors.parameter("type", "unknown_event_type", "is neither an event type nor the beginning of some, as in payout.*"),
        }
    }
    if patterns.is_empty() { EventTypes::All } else { EventTypes::These(patterns) }
}

/// A time from when and until when; all of it where neither is named.
fn span(parameters: &mut Parameters, errors: &mut Errors) -> (Timestamp, Timestamp) {
    let from = parameters.parsed("from", "not_an_instant", errors, instant);
    let to = parameters.parsed("to", "not_an_instant", errors, instant);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        errors.parameter("to", "out_of_range", "must be after `from`");
    }
    (from.unwrap_or(Timestamp::UNIX_EPOCH), to.unwrap_or(Timestamp::MAX))
}

/// A place in a list, for the caller to hand back. It leads only through what the caller may see, whatever is made of it.
pub(crate) fn write_cursor(place: Place) -> String {
    URL_SAFE_NO_PAD.encode(match place {
        Place::Payout(Position { at_ms, id }, None) => format!("1:p:{at_ms}:{id}"),
        Place::Payout(Position { at_ms, id }, Some(Within::Delivery(sequence, subscription))) => {
            format!("1:p:{at_ms}:{id}:{sequence}:{subscription}")
        }
        Place::Payout(Position { at_ms, id }, Some(Within::Walk(sequence, place))) => format!("1:w:{at_ms}:{id}:{sequence}:{place}"),
        Place::Entry { at_ms, id, within: None } => format!("1:e:{at_ms}:{id}"),
        Place::Entry { at_ms, id, within: Some(within) } => format!("1:e:{at_ms}:{id}:{within}"),
    })
}

fn cursor(parameters: &mut Parameters, errors: &mut Errors) -> Option<Place> {
    parameters.parsed("cursor", "invalid", errors, |text| read_cursor(text).ok_or("must be the `next_cursor` of a page of this list"))
}

pub(crate) fn read_cursor(text: &str) -> Option<Place> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let mut parts = text.strip_prefix("1:")?.split(':');
    let (list, at_ms, id) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let within: Option<u32> = parts.next().map(str::parse).transpose().ok()?;
    let payout = |within| Some(Place::Payout(Position { at_ms, id: id.parse().ok()? }, within));
    match (list, within, parts.next(), parts.next()) {
        ("p", None, None, None) => payout(None),
        ("p", Some(sequence), Some(subscription), None) => payout(Some(Within::Delivery(sequence, subscription.parse().ok()?))),
        ("w", Some(sequence), Some(place), None) => payout(Some(Within::Walk(sequence, place.parse().ok()?))),
        ("e", within, None, None) => Some(Place::Entry { at_ms, id: id.parse().ok()?, within }),
        _ => None,
    }
}

async fn list(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let Listing { party, subscription, payout, event, progress, types, from, to, limit, after } = Listing::read(query.as_deref())?;
    let party = ingress.party(&caller, party)?;
    let store = &ingress.recorder.store;
    let payout = match (payout, event) {
        (Some(key), _) => Some(ingress.payout_of(&caller, &party, &key).await?),
        (None, Some(event)) if event.payout() == PayoutId::of_bulletin(&party, caller.mode(), store.shards()) => Some(event.payout()),
        (None, Some(event)) => {
            let found = ingress.payout_of(&caller, &party, &event.payout().to_string()).await;
            Some(found.map_err(|problem| if problem.status() == StatusCode::NOT_FOUND { Problem::not_found("event") } else { problem })?)
        }
        (None, None) => None,
    };
    // What is of another shard is nobody's here.
    let subscription = match subscription {
        Some(subscription) if subscription.shard() != store.shards().of(&party, caller.mode()) => return Err(Problem::not_found("webhook")),
        // Nor is anybody else's: the place where a page ends would tell of it. One that is gone has no owner, and rows are compared anyway.
        Some(id) if store.subscription(id).await?.is_some_and(|(found, _)| found.party != party || found.mode != caller.mode()) => {
            return Err(Problem::not_found("webhook"));
        }
        subscription => subscription,
    };
    if progress.is_some_and(|progress| progress != Progress::Delivered) && subscription.is_none() && payout.is_none() {
        check_few(store.count_subscriptions(&party, caller.mode()).await?)?;
    }
    let looks_back = ingress.recorder.looks_back;
    let sequence = event.map(EventId::sequence);
    let wanted = Wanted { party, mode: caller.mode(), subscription, payout, sequence, progress, types, from, to, looks_back };
    ingress.page_of_deliveries(&wanted, after, limit).await
}

/// What is not delivered stands in the lanes of each subscription: they are put together as long as they are few.
fn check_few(subscriptions: usize) -> Result<(), Problem> {
    let mut errors = Errors::default();
    if subscriptions > MERGED_MAX {
        let text = format_args!("must be named with this `status`: the party has more than {MERGED_MAX} subscriptions");
        errors.parameter("subscription_id", "required", text);
    }
    errors.check()
}

/// What a subscription did not get, latest first.
async fn abandoned(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let mut errors = Errors::default();
    let mut parameters = Parameters::read(query.as_deref());
    let party = parameters.parsed("party_id", "invalid", &mut errors, PartyId::parse);
    let limit = limit(&mut parameters, &mut errors);
    let after = cursor(&mut parameters, &mut errors);
    parameters.finish(errors)?;
    let (subscription, _) = ingress.subscription(&caller, party, &id).await?;
    let wanted = Wanted {
        party: subscription.party,
        mode: subscription.mode,
        subscription: Some(subscription.id),
        payout: None,
        sequence: None,
        progress: Some(Progress::Abandoned),
        types: EventTypes::All,
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::MAX,
        looks_back: ingress.recorder.looks_back,
    };
    ingress.page_of_deliveries(&wanted, after, limit).await
}

async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let (_, _, told) = ingress.delivery(&caller, party_in(query.as_deref())?, &id).await?;
    Ok(result(StatusCode::OK, &View::new(&told)))
}

impl Ingress {
    async fn page_of_deliveries(&self, wanted: &Wanted, after: Option<Place>, limit: usize) -> Result<Response, Problem> {
        #[derive(Serialize)]
        struct List<'a> {
            results: Vec<View<'a>>,
            /// Absent on the last page.
            #[serde(skip_serializing_if = "Option::is_none")]
            next_cursor: Option<String>,
        }
        let (told, next) = self.recorder.store.deliveries(wanted, after, limit).await?;
        let results = told.iter().map(|told| View::new(told).short()).collect();
        Ok(answer(StatusCode::OK, &List { results, next_cursor: next.map(write_cursor) }))
    }

    /// A delivery within the caller's reach. Its id says all, so a platform key need not name the party; if it does, it must be right.
    pub(super) async fn delivery(&self, caller: &Caller, named: Option<PartyId>, id: &str) -> Result<(PartyId, Mode, Told), Problem> {
        let missing = || Problem::not_found("delivery");
        let id: DeliveryId = id.parse().map_err(|_| missing())?;
        let store = &self.recorder.store;
        if !store.shards().contains(id.event().shard()) || id.event().shard() != id.subscription().shard() {
            return Err(missing());
        }
        let found = store.delivery(id).await?;
        let within = |party: &PartyId, mode| caller.reaches(party, mode) && named.as_ref().is_none_or(|named| named == party);
        found.filter(|(party, mode, _)| within(party, *mode)).ok_or_else(missing)
    }

    /// The payout that a list is narrowed to, by its own id or by the caller's key.
    async fn payout_of(&self, caller: &Caller, party: &PartyId, key: &str) -> Result<PayoutId, Problem> {
        let store = &self.recorder.store;
        let missing = || Problem::not_found("payout");
        let id = match key.parse::<PayoutId>() {
            Ok(id) if store.shards().contains(id.shard()) => id,
            Ok(_) => return Err(missing()),
            Err(_) => PayoutId::derive(party, caller.mode(), &order::transaction_id(key).ok_or_else(missing)?, store.shards()),
        };
        let found = store.load(id).await?.filter(|payout| payout.party == *party && payout.mode == caller.mode());
        found.map(|payout| payout.id).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use domain::id::{Shard, Shards};

    use super::*;

    #[test]
    fn cursors_survive_and_nonsense_does_not() {
        let party = PartyId::parse("shop").unwrap();
        let payout = PayoutId::derive(&party, Mode::Test, "x", Shards::ONE);
        let position = Position { at_ms: 1_764_000_000_123, id: payout };
        let subscription = SubscriptionId::new(Shard::new(0), [7; 11]);
        let id = DeliveryId::new(EventId::new(payout, 3), subscription);
        for place in [
            Place::Payout(position, None),
            Place::Payout(position, Some(Within::Delivery(3, subscription))),
            Place::Payout(position, Some(Within::Walk(3, u64::MAX))),
            Place::Entry { at_ms: 5, id, within: None },
            Place::Entry { at_ms: 5, id, within: Some(u32::MAX) },
        ] {
            assert_eq!(read_cursor(&write_cursor(place)), Some(place));
        }
        for text in ["x", "1:p:1", "2:p:1:po_00", "1:e:1:dl_00", "1:p:1:po_00:1", "1:w:1:po_00:1"] {
            assert_eq!(read_cursor(&URL_SAFE_NO_PAD.encode(text)), None, "{text}");
        }
    }
}
