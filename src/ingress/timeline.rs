//! `GET /v1/payouts/{transaction_id}/timeline`: all that happened to a payout, and who was told. Holds no account and no name.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use domain::credential::Scope;
use domain::delivery::{self, Delivery, Progress};
use domain::fact::{Provider, ProviderReference};
use domain::id::{DeliveryId, EventId, Mode, PartyId, PayoutId, ProviderKey, SubscriptionId};
use domain::payout::attempt::{Attempt, Evidence, Send};
use domain::payout::state::StateName;
use domain::payout::{Observation, Payout};
use serde::Serialize;
use workers::store::deliveries::{Told, Wanted};
use workers::store::payouts::{StoredEvent, Timeline};

use super::Ingress;
use super::deliveries::write_cursor;
use super::payouts::party_in;
use super::problem::Problem;
use super::view::{Moment, result};

/// Deliveries of one answer, at most, where it is not a list of them.
pub(crate) const DELIVERIES_MAX: usize = 250;

#[derive(Serialize)]
struct TimelineView<'a> {
    transaction_id: &'a str,
    payout_id: PayoutId,
    party_id: &'a PartyId,
    mode: Mode,
    status: StateName,
    version: u64,
    /// One line per version of the record: what was learnt, and the state before and after it.
    facts: &'a [Observation],
    attempts: Vec<AttemptView<'a>>,
    events: Vec<EventView<'a>>,
    /// By event and subscription; of many those of the latest events.
    deliveries: Vec<DeliveryView<'a>>,
    /// Where `/v1/deliveries?payout=…` goes on with the others, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries_next_cursor: Option<String>,
}

#[derive(Serialize)]
struct AttemptView<'a> {
    number: u8,
    provider: Provider,
    provider_key: ProviderKey,
    initiated_at: Moment,
    sends: u32,
    /// The sends that may have reached the provider.
    live_sends: &'a [Send],
    /// What the provider has said, and when it says that it happened.
    evidence: &'a Evidence,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_reference: Option<&'a ProviderReference>,
}

#[derive(Serialize)]
struct EventView<'a> {
    id: EventId,
    sequence: u32,
    r#type: &'a str,
    at: Moment,
}

#[derive(Serialize)]
pub(super) struct DeliveryView<'a> {
    id: DeliveryId,
    subscription_id: SubscriptionId,
    event_id: EventId,
    status: Progress,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    abandoned_at: Option<Moment>,
    attempt_count: u32,
    /// In lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt: Option<&'a delivery::Attempt>,
    /// Where one is looked at: the latest, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<&'a [delivery::Attempt]>,
}

pub(super) async fn timeline(
    State(ingress): State<Arc<Ingress>>,
    Path(key): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::PayoutsRead).await?;
    let payout = ingress.find(&caller, party_in(query.as_deref())?, &key).await?;
    let timeline = ingress.recorder.store.timeline(payout.id).await?.ok_or_else(|| Problem::not_found("payout"))?;
    let (told, next) = ingress.deliveries_shown(&timeline, None).await?;
    Ok(result(StatusCode::OK, &TimelineView::new(&timeline, &told, next)))
}

impl Ingress {
    /// The deliveries of a payout, or of one event of it, that an answer shows beside other things: by event and subscription, of many those of the latest events. And the cursor with
    /// which a list of them goes on, if there are more.
    pub(super) async fn deliveries_shown(&self, timeline: &Timeline, sequence: Option<u32>) -> Result<(Vec<Told>, Option<String>), Problem> {
        let Payout { id, party, mode, .. } = &timeline.payout;
        let wanted = Wanted::of(party, *mode, *id, sequence);
        let (mut told, next) = self.recorder.store.deliveries_of(timeline, &wanted, None, DELIVERIES_MAX).await?;
        told.sort_by_key(|told| (told.event.id.sequence(), told.subscription));
        Ok((told, next.map(write_cursor)))
    }
}

impl<'a> TimelineView<'a> {
    fn new(timeline: &'a Timeline, told: &'a [Told], deliveries_next_cursor: Option<String>) -> Self {
        let payout = &timeline.payout;
        Self {
            transaction_id: &payout.transaction_id,
            payout_id: payout.id,
            party_id: &payout.party,
            mode: payout.mode,
            status: payout.state.name(),
            version: payout.version,
            facts: &timeline.observations,
            attempts: payout.attempts.iter().map(AttemptView::new).collect(),
            events: timeline.events.iter().map(EventView::new).collect(),
            deliveries: told.iter().map(DeliveryView::of).collect(),
            deliveries_next_cursor,
        }
    }
}

impl<'a> AttemptView<'a> {
    fn new(attempt: &'a Attempt) -> Self {
        Self {
            number: attempt.number,
            provider: attempt.provider,
            provider_key: attempt.key,
            initiated_at: Moment(attempt.initiated_at),
            sends: attempt.sends,
            live_sends: &attempt.live,
            evidence: &attempt.evidence,
            provider_status: attempt.provider_status.as_deref(),
            provider_reference: attempt.reference.as_ref(),
        }
    }
}

impl<'a> EventView<'a> {
    fn new(event: &'a StoredEvent) -> Self {
        Self { id: event.id, sequence: event.id.sequence(), r#type: &event.kind, at: Moment(event.at) }
    }
}

impl<'a> DeliveryView<'a> {
    pub(super) fn of(told: &'a Told) -> Self {
        Self::new(told.id(), told.delivery.as_ref())
    }

    /// `delivery`: its record, which it has once it was tried.
    pub(super) fn new(id: DeliveryId, delivery: Option<&'a Delivery>) -> Self {
        let (mut next_attempt_at, mut delivered_at, mut abandoned_at) = (None, None, None);
        match delivery.map(|delivery| delivery.status) {
            None => {}
            Some(delivery::Status::Pending { next_at }) => next_attempt_at = Some(Moment(next_at)),
            Some(delivery::Status::Delivered { at }) => delivered_at = Some(Moment(at)),
            Some(delivery::Status::Abandoned { at }) => abandoned_at = Some(Moment(at)),
        }
        Self {
            id,
            subscription_id: id.subscription(),
            event_id: id.event(),
            status: Progress::of(delivery),
            next_attempt_at,
            delivered_at,
            abandoned_at,
            attempt_count: delivery.map_or(0, |delivery| delivery.attempt_count),
            last_attempt: None,
            attempts: Some(delivery.map_or(&[], |delivery| &delivery.attempts)),
        }
    }

    /// Less what was tried, but for the latest.
    pub(super) fn short(self) -> Self {
        Self { last_attempt: self.attempts.and_then(<[_]>::last), attempts: None, ..self }
    }
}
