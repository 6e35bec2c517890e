//! Deliveries and their attempts, as people read them.

use std::collections::BTreeMap;

use domain::delivery::{Attempt, Attempted, Delivery, Heard, Progress, Status};
use domain::id::{EventId, Mode, PartyId, SubscriptionId};
use domain::subscription::Payload;
use jiff::{SignedDuration, Timestamp};
use workers::store::deliveries::{Told, Wanted};
use workers::store::lists::Range;
use workers::store::payouts::{StoredEvent, Timeline};

use super::door::Visitor;
use super::page::{Pill, When};
use crate::ingress::Ingress;
use crate::ingress::problem::Problem;

/// The payouts of a party that a page looks at: those that were asked for last.
pub(super) const PAYOUTS: usize = 40;
/// Deliveries of one payout that a page shows, at most.
const SHOWN: usize = 100;
/// Of these payouts, so many that have very many deliveries.
const LARGE: usize = 4;

/// A delivery of one event.
pub(super) struct Row {
    pub(super) event: EventId,
    pub(super) kind: String,
    pub(super) at: When,
    pub(super) transaction: String,
    pub(super) subscription: SubscriptionId,
    /// What the subscription is called, where that is not known anyway.
    pub(super) name: Option<String>,
    pub(super) progress: Progress,
    pub(super) next_at: Option<When>,
    pub(super) ended_at: Option<When>,
    pub(super) attempts: Vec<Try>,
    /// Attempts that are no longer listed.
    pub(super) earlier: u32,
}

/// One attempt.
pub(super) struct Try {
    pub(super) at: When,
    pub(super) good: bool,
    pub(super) what: String,
    pub(super) latency_ms: u32,
    pub(super) heard: Option<Heard>,
}

impl Row {
    fn new(transaction: &str, event: &StoredEvent, subscription: SubscriptionId, delivery: Option<&Delivery>) -> Self {
        let (mut next_at, mut ended_at) = (None, None);
        match delivery.map(|delivery| delivery.status) {
            None => {}
            Some(Status::Pending { next_at: at }) => next_at = Some(When(at)),
            Some(Status::Delivered { at } | Status::Abandoned { at }) => ended_at = Some(When(at)),
        }
        let attempts: Vec<Try> = delivery.map(|delivery| delivery.attempts.iter().rev().map(Try::new).collect()).unwrap_or_default();
        let listed = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
        Self {
            event: event.id,
            kind: event.kind.clone(),
            at: When(event.at),
            transaction: transaction.to_owned(),
            subscription,
            name: None,
            progress: Progress::of(delivery),
            next_at,
            ended_at,
            earlier: delivery.map_or(0, |delivery| delivery.attempt_count.saturating_sub(listed)),
            attempts,
        }
    }

    pub(super) fn of(told: &Told) -> Self {
        Self::new(told.transaction_id.as_deref().unwrap_or_default(), &told.event, told.subscription, told.delivery.as_ref())
    }

    pub(super) fn pill(&self) -> Pill {
        Pill(self.progress.name())
    }

    /// Whether it has not ended, so that the page may have news soon.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.progress, Progress::Pending | Progress::Failing)
    }

    pub(super) fn last(&self) -> Option<&Try> {
        self.attempts.first()
    }

    /// What the button says that makes it due now, unless it is.
    pub(super) fn again(&self) -> Option<&'static str> {
        match self.progress {
            Progress::Pending => None,
            Progress::Failing => Some("Try now"),
            Progress::Delivered | Progress::Abandoned => Some("Send again"),
        }
    }
}

impl Try {
    pub(super) fn new(attempt: &Attempt) -> Self {
        let (good, what) = how(&attempt.result);
        Self { at: When(attempt.at), good, what, latency_ms: attempt.latency_ms, heard: attempt.heard.clone() }
    }
}

/// How an attempt went, in words.
pub(super) fn how(result: &Attempted) -> (bool, String) {
    match result {
        Attempted::Acknowledged { status } => (true, format!("HTTP {status}")),
        Attempted::Answered { status, retry_after_ms: None } => (false, format!("HTTP {status}")),
        Attempted::Answered { status, retry_after_ms: Some(ms) } => (false, format!("HTTP {status}, retry after {} s", ms / 1_000)),
        Attempted::Unreachable { why } => (false, format!("no answer: {}", why.replace('_', " "))),
        Attempted::Unwanted => (false, "not sent: the subscription was disabled or deleted".to_owned()),
    }
}

/// The latest payouts of a party, with their events and deliveries; those of payouts with many are not among them, but for some subscriptions.
pub(super) struct Recent {
    timelines: Vec<Timeline>,
}

impl Recent {
    /// `shown`: the subscriptions whose deliveries are read of the latest payouts that have many.
    pub(super) async fn of(ingress: &Ingress, visitor: &Visitor, shown: &[SubscriptionId]) -> Result<Self, Problem> {
        let store = &ingress.recorder().store;
        let to = store.clock().now().saturating_add(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MAX);
        let grant = &visitor.grant;
        let range = Range { party: &grant.party, mode: grant.mode, from: Timestamp::UNIX_EPOCH, to, after: None, limit: PAYOUTS };
        let page = store.list(&range, |_| true).await?;
        let found = futures_util::future::try_join_all(page.items.iter().map(|(place, _)| store.timeline(place.id))).await?;
        let mut timelines: Vec<Timeline> = found.into_iter().flatten().collect();
        for timeline in timelines.iter_mut().filter(|timeline| timeline.many).take(LARGE) {
            let Timeline { events, deliveries, .. } = timeline;
            let listed = futures_util::future::try_join_all(events.iter().map(|event| store.listed(event.id, shown))).await?;
            deliveries.extend(listed.into_iter().flatten().flatten());
        }
        Ok(Self { timelines })
    }

    pub(super) fn timelines(&self) -> &[Timeline] {
        &self.timelines
    }

    /// When something got through to each subscription for the last time.
    pub(super) fn last_successes(&self) -> BTreeMap<SubscriptionId, When> {
        let mut last = BTreeMap::new();
        for listed in self.timelines.iter().flat_map(|timeline| &timeline.deliveries) {
            if let Some(Status::Delivered { at }) = listed.delivery.as_ref().map(|delivery| delivery.status) {
                let known = last.entry(listed.subscription).or_insert(When(at));
                *known = (*known).max(When(at));
            }
        }
        last
    }
}

/// The deliveries of one event, the first ones where there are many, with the names of their subscriptions and what these want to be sent, and whether there are more.
pub(super) async fn rows(ingress: &Ingress, party: &PartyId, mode: Mode, event: EventId) -> Result<(Vec<(Row, Option<Payload>)>, bool), Problem> {
    let store = &ingress.recorder().store;
    let wanted = Wanted::of(party, mode, event.payout(), Some(event.sequence()));
    let (mut told, next) = store.deliveries(&wanted, None, SHOWN).await?;
    told.sort_by_key(|told| told.subscription);
    let found = futures_util::future::try_join_all(told.iter().map(|told| store.subscription(told.subscription))).await?;
    let rows = told.iter().zip(found).map(|(told, found)| {
        // One that was deleted has neither.
        let (name, payload) = found.map(|(subscription, _)| (subscription.name.unwrap_or(subscription.url), subscription.payload)).unzip();
        (Row { name, ..Row::of(told) }, payload)
    });
    Ok((rows.collect(), next.is_some()))
}
