//! `/v2/webhooks` and `/v2/events`: subscriptions in the shape of Mollie's Webhook Subscriptions API, for receivers that are written against it.
//!
//! They are the subscriptions of `/v1/webhooks`, which lists them too, with the payload `snapshot`: events of five types with the payout inside, signed by
//! `X-Mollie-Signature`. What came back is told to them as `payout.failed`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use domain::credential::Scope;
use domain::event::EventType;
use domain::id::{Mode, PartyId, SubscriptionId};
use domain::snapshot::{self, KINDS, Link, Moment, hook_id, read_event_id, read_hook_id};
use domain::subscription::{EventTypes, Pattern, Payload, Secrets, Status, Subscription};
use serde::Serialize;
use workers::store::StoreError;
use workers::store::subscriptions::Subscribed;

use super::caller::Caller;
use super::commands::optional_body;
use super::hal::{self, answer, refuse_testmode};
use super::intake::Duty;
use super::json::{self, Fields, Value};
use super::payouts::named_party;
use super::problem::{Errors, Kind, Problem};
use super::query::Parameters;
use super::view::set;
use super::webhook_fields::{NAME_MAX, allowed_url, check_certificate_shown, text};
use super::webhooks::{check_certificate_stays, check_headers_stay, new_secret, no_store, random, told};
use super::{DECISIONS_MAX, Ingress, order};

/// Subscriptions that are read at a time to find those that a list is of, at least.
const READ_AT_A_TIME: usize = 50;
/// Those that a page looks at in each direction, at most, when a party has many that are not of the list. The page ends there, and its links go on.
const LOOKED_AT_MAX: usize = 1_000;

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new()
        .route("/v2/webhooks", post(create).get(list))
        .route("/v2/webhooks/{id}", get(one).patch(change).delete(remove))
        .route("/v2/webhooks/{id}/ping", post(ping))
        .route("/v2/events/{id}", get(event))
}

/// A subscription as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    resource: &'static str,
    id: String,
    url: &'a str,
    profile_id: Option<&'static str>,
    created_at: Moment,
    name: &'a str,
    event_types: Vec<&'static str>,
    status: &'static str,
    mode: Mode,
    /// Only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_secret: Option<&'a str>,
    #[serde(rename = "_links")]
    links: Links,
}

#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    own: Link,
}

impl<'a> View<'a> {
    fn new(subscription: &'a Subscription, webhook_secret: Option<&'a str>) -> Self {
        let id = hook_id(subscription.id);
        Self {
            resource: "webhook",
            url: &subscription.url,
            profile_id: None,
            created_at: Moment(subscription.created_at),
            name: subscription.name.as_deref().unwrap_or_default(),
            event_types: KINDS.into_iter().filter(|kind| subscription.event_types.wants(*kind)).map(EventType::name).collect(),
            status: match subscription.status {
                Status::Enabled => "enabled",
                Status::Pending { .. } | Status::Paused { .. } => "disabled",
                // By us, because nothing got through.
                Status::Disabled { .. } => "blocked",
            },
            mode: subscription.mode,
            webhook_secret,
            links: Links { own: Link::to(format!("/v2/webhooks/{id}")) },
            id,
        }
    }
}

/// What a body says of a subscription.
struct Asked {
    url: Option<String>,
    name: Option<String>,
    event_types: Option<EventTypes>,
    party: Option<PartyId>,
}

impl Asked {
    /// `make`: all must be there.
    fn read(body: &[u8], make: bool, ingress: &Ingress, mode: Mode) -> Result<Self, Problem> {
        let mut errors = Errors::default();
        let mut fields = json::read(body, &mut errors)?;
        let errs = &mut errors;
        let url = if make { fields.text("url", errs) } else { fields.optional_text("url", errs) };
        let url = url.and_then(|url| allowed_url(&ingress.egress, &url, mode, errs));
        // What is there may not be empty.
        let name = text(&mut fields, "name", NAME_MAX, true, errs);
        if make && name.is_none() && !errs.names("/name") {
            errs.field("/name", "missing", "is required");
        }
        let kinds = if make { fields.required("eventTypes", errs) } else { fields.take("eventTypes") };
        let event_types = kinds.and_then(|kinds| event_types(&kinds, errs));
        refuse_testmode_in(&mut fields, errs);
        let party = order::party_id(&mut fields, errs);
        fields.finish(errs);
        errors.check()?;
        Ok(Self { url, name, event_types, party })
    }

    fn apply(self, subscription: &mut Subscription) {
        let Self { url, name, event_types, party: _ } = self;
        subscription.url = url.unwrap_or_else(|| std::mem::take(&mut subscription.url));
        subscription.name = name.or_else(|| subscription.name.take());
        if let Some(event_types) = event_types {
            subscription.event_types = event_types;
        }
    }
}

/// A type, or a list of them; `"*"`: all five. Who wants failures is told of returns too.
fn event_types(value: &Value, errors: &mut Errors) -> Option<EventTypes> {
    const AT: &str = "/eventTypes";
    let names = match value {
        Value::Text(_) => std::slice::from_ref(value),
        Value::List(names) if !names.is_empty() => names,
        Value::List(_) | Value::Null | Value::Bool(_) | Value::Integer(_) | Value::OtherNumber | Value::Object(_) => {
            errors.field(AT, "wrong_type", "must be an event type, or a list of at least one");
            return None;
        }
    };
    let mut patterns = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let name = if let Value::Text(name) = name { name.as_str() } else { "" };
        let wanted: Vec<EventType> = KINDS.into_iter().filter(|kind| name == "*" || name == kind.name()).collect();
        if wanted.is_empty() {
            errors.field(format!("{AT}/{index}"), "unknown_event_type", "is not an event type of payouts");
        }
        let told = EventType::ALL.into_iter().filter(|kind| snapshot::told_as(*kind).is_some_and(|(name, _)| wanted.contains(&name)));
        patterns.extend(told.map(Pattern::from));
    }
    errors.is_empty().then_some(EventTypes::These(patterns))
}

fn refuse_testmode_in(fields: &mut Fields, errors: &mut Errors) {
    if fields.take("testmode").is_some() {
        errors.field("/testmode", "not_allowed", hal::TESTMODE);
    }
}

async fn create(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    json::check_media_type(&parts.headers)?;
    let mut asked = Asked::read(&body, true, &ingress, caller.mode())?;
    let party = ingress.party(&caller, asked.party.take())?;
    let store = &ingress.recorder.store;
    let id = SubscriptionId::new(store.shards().of(&party, caller.mode()), random());
    let mut subscription = Subscription::new(id, party, caller.mode(), String::new(), EventTypes::All, store.clock().now());
    subscription.payload = Payload::Snapshot;
    asked.apply(&mut subscription);
    subscription.status = ingress.status_of_new_url(subscription.mode, subscription.created_at);
    let secret = new_secret(subscription.payload);
    let secrets = Secrets::new(secret.clone());
    match store.subscribe(&subscription, Some(&secrets)).await? {
        Subscribed::Done => {
            let (subscription, _) = ingress.challenged(subscription, &secrets).await;
            let shown = told(&secret, subscription.payload);
            let mut response = answer(StatusCode::CREATED, &View::new(&subscription, Some(&shown)));
            set(&mut response, header::LOCATION, &format!("/v2/webhooks/{}", hook_id(subscription.id)));
            no_store(&mut response);
            Ok(response)
        }
        Subscribed::Full => Err(ingress.full()),
        Subscribed::Stale | Subscribed::Missing => Err(StoreError::Unavailable(None).into()),
    }
}

/// What is in the body is changed, the rest stays. Another URL begins without the troubles of the one before.
async fn change(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    json::check_media_type(&parts.headers)?;
    let store = &ingress.recorder.store;
    for _ in 0..DECISIONS_MAX {
        let mut asked = Asked::read(&body, false, &ingress, caller.mode())?;
        let (mut subscription, secrets) = ingress.hook(&caller, asked.party.take(), &id).await?;
        let elsewhere = asked.url.as_ref().is_some_and(|url| *url != subscription.url);
        if elsewhere {
            check_headers_stay(&secrets)?;
            check_certificate_stays(&secrets)?;
        }
        let before = (subscription.clone(), secrets.clone());
        asked.apply(&mut subscription);
        check_certificate_shown(&subscription)?;
        if elsewhere {
            ingress.asks_anew(&mut subscription);
        }
        subscription.version = subscription.version.saturating_add(1);
        let written =
            if elsewhere { ingress.lead_elsewhere(before, &subscription, None).await? } else { store.subscribe(&subscription, None).await? };
        match written {
            Subscribed::Done => {
                let (subscription, _) = ingress.challenged(subscription, &secrets).await;
                return Ok(answer(StatusCode::OK, &View::new(&subscription, None)));
            }
            Subscribed::Stale => {}
            Subscribed::Missing | Subscribed::Full => return Err(Problem::not_found("webhook")),
        }
    }
    Err(StoreError::Unavailable(None).into())
}

async fn list(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Webhooks<'a> {
        webhooks: Vec<View<'a>>,
    }
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let mut errors = Errors::default();
    let mut parameters = Parameters::read(query.as_deref());
    refuse_testmode(&mut parameters, &mut errors);
    let named = parameters.parsed("party_id", "invalid", &mut errors, hal::party);
    let from = parameters.one("from", &mut errors);
    let sort = parameters.parsed("sort", "unknown", &mut errors, |order| match order {
        "asc" | "desc" => Ok(order.to_owned()),
        _ => Err("must be asc or desc"),
    });
    let kind = parameters.parsed("eventTypes", "unknown_event_type", &mut errors, |name| {
        KINDS.into_iter().find(|kind| kind.name() == name).ok_or("is not an event type of payouts")
    });
    let limit = hal::limit(&mut parameters, &mut errors);
    parameters.finish(errors)?;
    let party = ingress.party(&caller, named)?;
    let begin = match &from {
        None => None,
        Some(from) => Some(ingress.place_of_hook(&party, caller.mode(), from).await?.ok_or_else(|| {
            let mut errors = Errors::default();
            errors.parameter("from", "invalid", "must be the id of a webhook of this list");
            errors.into_problem()
        })?),
    };
    let newest_first = sort.as_deref() != Some("asc");
    let of = Hooks { party: &party, mode: caller.mode(), kind };
    let (found, next) = ingress.hooks(&of, begin, newest_first, limit).await?;
    let previous = match begin {
        None => None,
        Some(begin) => {
            // Those beside it, the other way round.
            let beside = if newest_first { begin.saturating_add(1) } else { begin.saturating_sub(1) };
            let (before, more) = ingress.hooks(&of, Some(beside), !newest_first, limit).await?;
            let farthest = before.last().map(|subscription| subscription.id);
            if before.len() == limit { farthest } else { more.or(farthest) }
        }
    };
    let (previous, next) = (previous.map(hook_id), next.map(hook_id));
    let webhooks: Vec<View<'_>> = found.iter().map(|subscription| View::new(subscription, None)).collect();
    let mut same = vec![("limit", limit.to_string())];
    same.extend(sort.map(|sort| ("sort", sort)));
    same.extend(kind.map(|kind| ("eventTypes", kind.name().to_owned())));
    same.extend(named_party(&caller, &party));
    Ok(answer(StatusCode::OK, &hal::Page::new("/v2/webhooks", &same, (previous, from, next), webhooks.len(), Webhooks { webhooks })))
}

async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let (subscription, _) = ingress.hook(&caller, hal::party_in(query.as_deref())?, &id).await?;
    Ok(answer(StatusCode::OK, &View::new(&subscription, None)))
}

/// `DELETE /v2/webhooks/{id}`, as `/v1` does; a second time it was deleted already.
async fn remove(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, party) = ingress.bare(request).await?;
    let (subscription, _) = ingress.hook(&caller, party.clone(), &id).await?;
    ingress.unsubscribe(&caller, party, &subscription.id.to_string()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Sends a signed `hook.ping` now, whatever the status. How that went is not told here.
async fn ping(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, party) = ingress.bare(request).await?;
    let (subscription, _) = ingress.hook(&caller, party.clone(), &id).await?;
    ingress.ping_subscription(&caller, party, &subscription.id.to_string()).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// `GET /v2/events/{id}`: the event as it is told to these subscriptions.
async fn event(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let named = hal::party_in(query.as_deref())?;
    let missing = || Problem::not_found("event");
    let id = read_event_id(&id).ok_or_else(missing)?;
    let timeline = ingress.event(&caller, id).await?;
    let payout = &timeline.payout;
    let of_party = named.is_none_or(|party| party == payout.party);
    let found = timeline.events.iter().find(|event| event.id == id && of_party).ok_or_else(missing)?;
    let kind = EventType::named(&found.kind).ok_or_else(missing)?;
    let store = &ingress.recorder.store;
    let beneficiary = store.beneficiary(payout.id).await?;
    let message = snapshot::message(id, kind, found.at, &found.body, payout, &beneficiary, store.shards()).ok_or_else(missing)?;
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, snapshot::MEDIA_TYPE)], message).into_response())
}

/// Which subscriptions a list is of.
struct Hooks<'a> {
    party: &'a PartyId,
    mode: Mode,
    kind: Option<EventType>,
}

impl Ingress {
    /// The first `count` of these from a place on, itself among them, and with which one the list goes on.
    async fn hooks(
        &self,
        of: &Hooks<'_>,
        begin: Option<u64>,
        newest_first: bool,
        count: usize,
    ) -> Result<(Vec<Subscription>, Option<SubscriptionId>), Problem> {
        let store = &self.recorder.store;
        let is_wanted = |subscription: &Subscription| {
            subscription.payload == Payload::Snapshot && of.kind.is_none_or(|kind| subscription.event_types.wants(kind))
        };
        let mut behind = begin.map(|begin| if newest_first { begin.saturating_add(1) } else { begin.saturating_sub(1) });
        let (mut found, mut looked_at) = (Vec::new(), 0);
        let chunk = count.saturating_add(1).max(READ_AT_A_TIME);
        loop {
            let (page, next) = if newest_first {
                store.subscriptions_before(of.party, of.mode, behind, chunk).await?
            } else {
                store.subscriptions(of.party, of.mode, behind, chunk).await?
            };
            for (subscription, _) in page {
                let wanted = is_wanted(&subscription);
                if looked_at == LOOKED_AT_MAX || (wanted && found.len() == count) {
                    return Ok((found, Some(subscription.id)));
                }
                looked_at += 1;
                if wanted {
                    found.push(subscription);
                }
            }
            behind = next;
            if behind.is_none() {
                return Ok((found, None));
            }
        }
    }

    /// Where a list begins. Any subscription of the party can be named, for a page may end with one that is not of the list.
    async fn place_of_hook(&self, party: &PartyId, mode: Mode, id: &str) -> Result<Option<u64>, Problem> {
        let Some(id) = read_hook_id(id) else { return Ok(None) };
        Ok(self.recorder.store.place_of(party, mode, id).await?)
    }

    /// A subscription of this kind within the caller's reach.
    ///
    /// # Errors
    /// [`Kind::SubscriptionDeleted`] for one that was; [`Kind::NotFound`]; trouble with the store.
    async fn hook(&self, caller: &Caller, named: Option<PartyId>, id: &str) -> Result<(Subscription, Secrets), Problem> {
        let missing = || Problem::not_found("webhook");
        let id = read_hook_id(id).ok_or_else(missing)?;
        match self.subscription(caller, named.clone(), &id.to_string()).await {
            Ok(found) if found.0.payload == Payload::Snapshot => return Ok(found),
            Ok(_) => return Err(missing()),
            Err(problem) if problem.kind != Kind::NotFound => return Err(problem),
            Err(_) => {}
        }
        let store = &self.recorder.store;
        let was = if store.shards().contains(id.shard()) { store.deleted_subscription(id).await? } else { None };
        match was {
            Some((party, mode)) if caller.reaches(&party, mode) && named.is_none_or(|named| named == party) => {
                Err(Problem::new(Kind::SubscriptionDeleted, "This subscription was already deleted."))
            }
            _ => Err(missing()),
        }
    }

    /// A request whose body, if it has one, says nothing.
    async fn bare(self: &Arc<Self>, request: Request) -> Result<(Caller, Option<PartyId>), Problem> {
        let (caller, parts, body) = self.receive(request, Scope::WebhooksWrite, Duty::None).await?;
        let named = hal::party_in(parts.uri.query())?;
        let mut errors = Errors::default();
        let mut fields = optional_body(&parts, &body, &mut errors)?;
        refuse_testmode_in(&mut fields, &mut errors);
        let party = order::party_id(&mut fields, &mut errors);
        fields.finish(&mut errors);
        errors.check()?;
        Ok((caller, named.or(party)))
    }
}
