//! `/v1/events`: one event as it was told, with its deliveries, and one delivery made again.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use domain::credential::Scope;
use domain::id::{DeliveryId, EventId, PartyId, PayoutId, SubscriptionId};
use domain::subscription::{Status, Subscription};
use serde::Serialize;
use serde_json::value::RawValue;
use workers::store::StoreError;
use workers::store::deliveries::{Found, Told, Wanted};
use workers::store::payouts::{StoredEvent, Timeline};
use workers::store::subscriptions::Redelivered;

use super::caller::Caller;
use super::deliveries::write_cursor;
use super::intake::Duty;
use super::payouts::party_in;
use super::problem::{Errors, Kind, Problem};
use super::timeline::{DELIVERIES_MAX, DeliveryView};
use super::view::{Moment, result};
use super::webhooks::condition;
use super::{DECISIONS_MAX, Ingress, json, order};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/v1/events/{event_id}", get(one)).route("/v1/webhooks/{id}/retry", post(retry))
}

#[derive(Serialize)]
struct View<'a> {
    id: EventId,
    /// Absent where it is no payout's.
    #[serde(skip_serializing_if = "Option::is_none")]
    payout_id: Option<PayoutId>,
    sequence: u32,
    r#type: &'a str,
    at: Moment,
    /// What is signed and sent to subscriptions that want it thin, byte for byte.
    payload: &'a RawValue,
    /// The first ones.
    deliveries: Vec<DeliveryView<'a>>,
    /// Where `/v1/deliveries?event_id=…` goes on with the others, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries_next_cursor: Option<String>,
}

/// An event of a payout within the caller's reach, or of the party's bulletin.
async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let named = party_in(query.as_deref())?;
    let id: EventId = id.parse().map_err(|_| Problem::not_found("event"))?;
    let store = &ingress.recorder.store;
    if let Ok(party) = ingress.party(&caller, named.clone())
        && id.payout() == PayoutId::of_bulletin(&party, caller.mode(), store.shards())
    {
        let event = store.bulletin_event(&party, caller.mode(), id.sequence()).await?.ok_or_else(|| Problem::not_found("event"))?;
        let wanted = Wanted::of(&party, caller.mode(), id.payout(), Some(id.sequence()));
        let (told, next) = store.deliveries(&wanted, None, DELIVERIES_MAX).await?;
        return View::answer(&event, None, &told, next.map(write_cursor));
    }
    let timeline = ingress.event(&caller, id).await?;
    let event = timeline.events.iter().find(|event| event.id == id && named.as_ref().is_none_or(|party| *party == timeline.payout.party));
    let event = event.ok_or_else(|| Problem::not_found("event"))?;
    let (told, next) = ingress.deliveries_shown(&timeline, Some(id.sequence())).await?;
    View::answer(event, Some(id.payout()), &told, next)
}

impl View<'_> {
    fn answer(event: &StoredEvent, payout_id: Option<PayoutId>, told: &[Told], deliveries_next_cursor: Option<String>) -> Result<Response, Problem> {
        let id = event.id;
        let payload = serde_json::from_str(&event.body).map_err(|_| StoreError::Corrupt(format!("the body of {id}")))?;
        let view = View {
            id,
            payout_id,
            sequence: id.sequence(),
            r#type: &event.kind,
            at: Moment(event.at),
            payload,
            deliveries: told.iter().map(DeliveryView::of).collect(),
            deliveries_next_cursor,
        };
        Ok(result(StatusCode::OK, &view))
    }
}

/// With `{"event_id", "party_id"}`.
async fn retry(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Retried {
        event_id: EventId,
        subscription_id: SubscriptionId,
        status: &'static str,
        /// Of one that is paused or pending it waits.
        subscription_status: &'static str,
    }
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let mut fields = json::read(&body, &mut errors)?;
    let event: Option<EventId> =
        fields.text("event_id", &mut errors).and_then(|text| text.parse().map_err(|error| errors.field("/event_id", "invalid", error)).ok());
    let party = order::party_id(&mut fields, &mut errors);
    fields.finish(&mut errors);
    let (Some(event), true) = (event, errors.is_empty()) else { return Err(errors.into_problem()) };
    let subscription = ingress.deliver_again(&caller, party, &id, event).await?;
    let standing = ingress.recorder.store.standing(subscription.id).await?;
    let (subscription_status, ..) = condition(&subscription, &standing);
    Ok(result(StatusCode::ACCEPTED, &Retried { event_id: event, subscription_id: subscription.id, status: "pending", subscription_status }))
}

impl Ingress {
    /// Delivers an event to a subscription, sooner if it was to be tried again later, or once more if it was delivered or given up, or was never meant for
    /// it. What is sent once more says so in `payrelay-replay`. Gives the subscription: while that is paused or pending, the delivery waits.
    ///
    /// # Errors
    /// [`Kind::NotPossibleNow`] while it is being delivered, waits for an earlier event, is still to come by the party's fan-out, or the subscription is disabled. Trouble with the store; a repeat is safe.
    pub(crate) async fn deliver_again(&self, caller: &Caller, party: Option<PartyId>, id: &str, event: EventId) -> Result<Subscription, Problem> {
        for _ in 0..DECISIONS_MAX {
            let (subscription, _) = self.subscription(caller, party.clone(), id).await?;
            if let Status::Disabled { .. } = subscription.status {
                return Err(Problem::new(Kind::NotPossibleNow, "The subscription is `disabled`; resume it first."));
            }
            let store = &self.recorder.store;
            let missing = || Problem::not_found("event");
            if event.shard() != subscription.id.shard() {
                return Err(missing());
            }
            let found = store.event_for(DeliveryId::new(event, subscription.id)).await?;
            let found = found.filter(|found| (&found.party, found.mode) == (&subscription.party, subscription.mode));
            let Found { told, .. } = found.ok_or_else(missing)?;
            match store.redeliver((&subscription.party, subscription.mode), subscription.id, event, told.delivery.as_ref()).await? {
                Redelivered::Due => return Ok(subscription),
                Redelivered::UnderWay => return Err(Problem::new(Kind::NotPossibleNow, "It is being delivered.")),
                Redelivered::Queued => {
                    return Err(Problem::new(Kind::NotPossibleNow, "It waits for an earlier event of its payout; retry that one."));
                }
                Redelivered::Coming => {
                    let text = "The event is on its way to the party's subscriptions and has not come to this one. It comes in its turn; retry it after that.";
                    return Err(Problem::new(Kind::NotPossibleNow, text));
                }
                Redelivered::Stale => {}
                Redelivered::Missing => return Err(missing()),
            }
        }
        Err(StoreError::Unavailable(None).into())
    }

    /// The payout of an event with all its events, if the caller may see it.
    pub(crate) async fn event(&self, caller: &Caller, id: EventId) -> Result<Timeline, Problem> {
        let missing = || Problem::not_found("event");
        let store = &self.recorder.store;
        if !store.shards().contains(id.shard()) {
            return Err(missing());
        }
        let found = store.timeline(id.payout()).await?;
        found.filter(|timeline| caller.reaches(&timeline.payout.party, timeline.payout.mode)).ok_or_else(missing)
    }
}
