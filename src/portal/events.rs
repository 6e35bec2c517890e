//! The pages of events: what the party was told of its latest payouts, and of how its subscriptions fare, and one event with its payload and its deliveries.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use domain::delivery::Progress;
use domain::event::{self, EventType};
use domain::id::{EventId, PayoutId};
use domain::payout::Payout;
use domain::portal::Access;
use domain::snapshot;
use domain::subscription::Payload;
use workers::store::deliveries::MERGED_MAX;
use workers::store::payouts::{ListedDelivery, StoredEvent};

use super::deliveries::{PAYOUTS, Recent, Row, rows};
use super::door::Visitor;
use super::page::{Frame, Notice, Pill, When, shown};
use super::subscriptions::{again, form_of};
use crate::ingress::Ingress;
use crate::ingress::problem::{Errors, Problem};
use crate::spelling::Spelling;

/// Events on a page, at most.
const EVENTS: usize = 100;
/// Of these, so many that are no payout's.
const OF_BULLETIN: u32 = 20;

#[derive(Template)]
#[template(path = "events.html")]
struct List<'a> {
    frame: Frame<'a>,
    events: Vec<Line>,
    payouts: usize,
}

struct Line {
    id: EventId,
    kind: String,
    at: When,
    transaction: String,
    sequence: u32,
    /// The state that most wants to be looked at, of its deliveries.
    worst: Option<Pill>,
    /// Whether they are so many that they are looked at on its own page.
    many: bool,
}

#[derive(Template)]
#[template(path = "event.html")]
struct One<'a> {
    frame: Frame<'a>,
    /// Where its buttons lead.
    path: String,
    id: EventId,
    kind: &'a str,
    at: When,
    /// `None` where it is no payout's.
    transaction: Option<&'a str>,
    /// What is sent of it, in each form in which somebody listed gets it.
    sent: Vec<Sent>,
    rows: Vec<Row>,
    /// Whether there are deliveries beside those.
    more: bool,
}

/// What subscriptions with one kind of payload are sent.
struct Sent {
    form: &'static str,
    /// The names of these subscriptions.
    to: Vec<String>,
    /// `None` where they are not told.
    body: Option<String>,
}

/// Events of the latest payouts, latest first.
pub(super) async fn list(State(ingress): State<Arc<Ingress>>, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = ingress.visitor(&headers).await?;
    let recent = Recent::of(&ingress, &visitor, &[]).await?;
    let mut events: Vec<Line> = Vec::new();
    for timeline in recent.timelines() {
        events.extend(timeline.events.iter().map(|event| {
            let (transaction, sequence) = (timeline.payout.transaction_id.clone(), event.id.sequence());
            let of_event = timeline.deliveries.iter().filter(|listed| listed.sequence == sequence);
            Line { id: event.id, kind: event.kind.clone(), at: When(event.at), transaction, sequence, worst: worst_of(of_event), many: timeline.many }
        }));
    }
    events.extend(told_to_party(&ingress, &visitor).await?);
    events.sort_by_key(|line| std::cmp::Reverse((line.at, line.sequence)));
    events.truncate(EVENTS);
    shown(StatusCode::OK, &List { frame: Frame::new(&visitor, "events", "Events"), events, payouts: PAYOUTS })
}

/// The latest events that are no payout's.
async fn told_to_party(ingress: &Ingress, visitor: &Visitor) -> Result<Vec<Line>, Problem> {
    let (store, party, mode) = (&ingress.recorder().store, &visitor.grant.party, visitor.grant.mode);
    let (events, subscriptions) = (store.latest_of_bulletin(party, mode, OF_BULLETIN).await?, store.subscription_ids(party, mode, MERGED_MAX).await?);
    let listed = futures_util::future::try_join_all(events.iter().map(|event| store.listed(event.id, &subscriptions))).await?;
    let line = |(event, listed): (StoredEvent, Vec<Option<ListedDelivery>>)| Line {
        id: event.id,
        at: When(event.at),
        transaction: String::new(),
        sequence: event.id.sequence(),
        worst: worst_of(listed.iter().flatten()),
        kind: event.kind,
        many: subscriptions.len() == MERGED_MAX,
    };
    Ok(events.into_iter().zip(listed).map(line).collect())
}

/// The state that most wants to be looked at.
fn worst_of<'a>(listed: impl Iterator<Item = &'a ListedDelivery>) -> Option<Pill> {
    listed.map(|listed| Progress::of(listed.delivery.as_ref())).min_by_key(urgency).map(|progress| Pill(progress.name()))
}

fn urgency(progress: &Progress) -> usize {
    let order = [Progress::Abandoned, Progress::Failing, Progress::Pending, Progress::Delivered];
    order.iter().position(|known| known == progress).unwrap_or(order.len())
}

/// One event, as it was sent.
pub(super) async fn one(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = ingress.visitor(&headers).await?;
    page_of(&ingress, &visitor, &id, StatusCode::OK, None).await
}

/// Has it delivered to one subscription now. The answer is the page again.
pub(super) async fn retry(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (visitor, mut form) = ingress.posted(request, Access::Manage).await?;
    let subscription = form.one("subscription", &mut Errors::default()).unwrap_or_default();
    let (status, notice) = match again(&ingress, &visitor, &subscription, &mut form).await {
        Ok(notice) => (StatusCode::OK, notice),
        Err(problem) => (problem.status(), Notice::of(problem)?),
    };
    page_of(&ingress, &visitor, &id, status, Some(notice)).await
}

async fn page_of(ingress: &Ingress, visitor: &Visitor, id: &str, status: StatusCode, notice: Option<Notice>) -> Result<Response, Problem> {
    let missing = || Problem::not_found("event");
    let id: EventId = id.parse().map_err(|_| missing())?;
    let (store, grant) = (&ingress.recorder().store, &visitor.grant);
    let (event, payout) = if id.payout() == PayoutId::of_bulletin(&grant.party, grant.mode, store.shards()) {
        (store.bulletin_event(&grant.party, grant.mode, id.sequence()).await?.ok_or_else(missing)?, None)
    } else {
        let timeline = ingress.event(&visitor.caller, id).await?;
        (timeline.events.into_iter().find(|event| event.id == id).ok_or_else(missing)?, Some(timeline.payout))
    };
    let (rows, more) = rows(ingress, &grant.party, grant.mode, id).await?;
    let mut sent = Vec::new();
    for payload in [Payload::Thin, Payload::Full, Payload::Snapshot] {
        let to: Vec<String> = rows.iter().filter(|(_, wanted)| *wanted == Some(payload)).filter_map(|(row, _)| row.name.clone()).collect();
        if !to.is_empty() {
            let body = as_sent(ingress, payout.as_ref(), &event, payload).await?;
            sent.push(Sent { form: form_of(payload), to, body });
        }
    }
    if sent.is_empty() {
        let body = as_sent(ingress, payout.as_ref(), &event, Payload::Thin).await?;
        sent.push(Sent { form: form_of(Payload::Thin), to: Vec::new(), body });
    }
    let page = One {
        frame: Frame::new(visitor, "events", event.kind.clone()).with(notice),
        path: format!("/portal/events/{id}"),
        id,
        kind: &event.kind,
        at: When(event.at),
        transaction: payout.as_ref().map(|payout| payout.transaction_id.as_str()),
        sent,
        rows: rows.into_iter().map(|(row, _)| row).collect(),
        more,
    };
    shown(status, &page)
}

/// What is signed and sent to whoever wants it like that, in lines. `None` where they are not told.
async fn as_sent(ingress: &Ingress, payout: Option<&Payout>, event: &StoredEvent, payload: Payload) -> Result<Option<String>, Problem> {
    let store = &ingress.recorder().store;
    let body = match (payload, EventType::named(&event.kind), payout) {
        (Payload::Thin, ..) | (_, None, _) | (_, _, None) => Some(event.body.clone()),
        (Payload::Full, Some(_), Some(payout)) => Some(event::full(event.body.clone(), &store.beneficiary(payout.id).await?)),
        (Payload::Snapshot, Some(kind), Some(payout)) => {
            let beneficiary = store.beneficiary(payout.id).await?;
            snapshot::message(event.id, kind, event.at, &event.body, payout, &beneficiary, store.shards())
        }
    };
    Ok(body.map(|body| Spelling::lines("  ").of(&body)))
}
