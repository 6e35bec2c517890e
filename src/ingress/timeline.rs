//! `GET /v1/payouts/{transaction_id}/timeline`: all that happened to a payout, and who was told. Holds no account and no name.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use domain::credential::Scope;
use domain::delivery::{self, Delivery, Progress};
use domain::fact::{Provider, ProviderReference};
use domain::id::{DeliveryId, EventId, Mode, PartyId, PayoutId, ProviderKey, SubscriptionId};
use domain::payout::Observation;
use domain::payout::attempt::{Attempt, Evidence, Send};
use domain::payout::state::StateName;
use serde::Serialize;
use workers::store::payouts::{ListedDelivery, StoredEvent, Timeline};

use super::Ingress;
use super::payouts::party_in;
use super::problem::Problem;
use super::view::{Moment, result};

/// Deliveries of one answer, at most, where it is not a list of them.
pub(super) const DELIVERIES_MAX: usize = 250;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
pub(super) const fn is_none(omitted: &usize) -> bool {
    *omitted == 0
}

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
    /// The first ones; all of them are listed by `/v1/deliveries?payout=…`.
    deliveries: Vec<DeliveryView<'a>>,
    /// How many there are beside those.
    #[serde(skip_serializing_if = "is_none")]
    deliveries_omitted: usize,
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
    Ok(result(StatusCode::OK, &TimelineView::new(&timeline)))
}

impl<'a> TimelineView<'a> {
    fn new(timeline: &'a Timeline) -> Self {
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
            deliveries: timeline.deliveries.iter().take(DELIVERIES_MAX).map(|listed| DeliveryView::of(payout.id, listed)).collect(),
            deliveries_omitted: timeline.deliveries.len().saturating_sub(DELIVERIES_MAX),
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
    pub(super) fn of(payout: PayoutId, listed: &'a ListedDelivery) -> Self {
        Self::new(DeliveryId::new(EventId::new(payout, listed.sequence), listed.subscription), listed.delivery.as_ref())
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
