//! `/v1/webhooks`: where a party's events go. The signing secret is shown in the answer that makes it and never again.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use domain::credential::Scope;
use domain::event::EventType;
use domain::fact::Reason;
use domain::id::{Mode, PartyId, SubscriptionId};
use domain::signature::Secret;
use domain::subscription::{EventTypes, Secrets, Status, Subscription};
use jiff::SignedDuration;
use serde::Serialize;
use workers::egress::Egress;
use workers::store::StoreError;
use workers::store::subscriptions::{SUBSCRIPTIONS_MAX, Subscribed};

use super::caller::Caller;
use super::commands::optional_body;
use super::intake::Duty;
use super::json::{Fields, Value};
use super::payouts::party_in;
use super::problem::{Errors, Kind, Problem};
use super::view::{Moment, answer, result, set};
use super::{DECISIONS_MAX, Ingress, json, order};

const NAME_MAX: usize = 64;
const OVERLAP_HOURS_DEFAULT: i64 = 24;
const OVERLAP_HOURS_MAX: i64 = 168;

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new()
        .route("/v1/webhooks", post(create).get(list))
        .route("/v1/webhooks/{id}", get(one).delete(remove))
        .route("/v1/webhooks/{id}/rotate", post(rotate))
}

#[derive(Serialize)]
struct View<'a> {
    id: SubscriptionId,
    party_id: &'a PartyId,
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    url: &'a str,
    /// Every name, or `*`.
    event_types: Vec<&'static str>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<&'a Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<Moment>,
    created_at: Moment,
    /// Only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Until when the secret before it signs as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_secret_until: Option<Moment>,
}

impl<'a> View<'a> {
    fn new(subscription: &'a Subscription) -> Self {
        let (status, disabled_reason, disabled_at) = match &subscription.status {
            Status::Enabled => ("enabled", None, None),
            Status::Disabled { reason, at } => ("disabled", Some(reason), Some(Moment(*at))),
        };
        Self {
            id: subscription.id,
            party_id: &subscription.party,
            mode: subscription.mode,
            name: subscription.name.as_deref(),
            url: &subscription.url,
            event_types: match &subscription.event_types {
                EventTypes::All => vec!["*"],
                EventTypes::These(kinds) => kinds.iter().map(|kind| kind.name()).collect(),
            },
            status,
            disabled_reason,
            disabled_at,
            created_at: Moment(subscription.created_at),
            secret: None,
            previous_secret_until: None,
        }
    }
}

async fn create(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let mut fields = json::read(&body, &mut errors)?;
    let url = fields.text("url", &mut errors).and_then(|url| allowed_url(&ingress.egress, &url, caller.mode(), &mut errors));
    let event_types = event_types(&mut fields, &mut errors);
    let name = name(&mut fields, &mut errors);
    let party = order::party_id(&mut fields, &mut errors);
    fields.finish(&mut errors);
    let (Some(url), Some(event_types), true) = (url, event_types, errors.is_empty()) else { return Err(errors.into_problem()) };
    let party = ingress.party(&caller, party)?;
    let store = &ingress.recorder.store;
    let mode = caller.mode();
    let subscription = Subscription {
        id: SubscriptionId::new(store.shards().of(&party, mode), random()),
        party,
        mode,
        name,
        url,
        event_types,
        created_at: store.clock().now(),
        status: Status::Enabled,
        version: 1,
    };
    let secret = new_secret();
    match store.subscribe(&subscription, Some(&Secrets::new(secret.clone()))).await? {
        Subscribed::Done => {
            let mut response = result(StatusCode::CREATED, &View { secret: Some(secret.to_text()), ..View::new(&subscription) });
            set(&mut response, header::LOCATION, &format!("/v1/webhooks/{}", subscription.id));
            no_store(&mut response);
            Ok(response)
        }
        Subscribed::Full => Err(Problem::new(Kind::SubscriptionsFull, format!("A party can have {SUBSCRIPTIONS_MAX}. Delete one first."))),
        Subscribed::Stale | Subscribed::Missing => Err(StoreError::Unavailable(None).into()),
    }
}

async fn list(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List<'a> {
        results: Vec<View<'a>>,
    }
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let party = ingress.party(&caller, party_in(query.as_deref())?)?;
    let subscriptions = ingress.recorder.store.subscriptions(&party, caller.mode()).await?;
    Ok(answer(StatusCode::OK, &List { results: subscriptions.iter().map(View::new).collect() }))
}

async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let (subscription, _) = ingress.subscription(&caller, party_in(query.as_deref())?, &id).await?;
    Ok(result(StatusCode::OK, &View::new(&subscription)))
}

/// With an optional body `{"overlap_hours", "party_id"}`. The secret before goes on signing for that long.
async fn rotate(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    let mut errors = Errors::default();
    let mut fields = optional_body(&parts, &body, &mut errors)?;
    let hours = fields.optional_integer("overlap_hours", &mut errors).unwrap_or(OVERLAP_HOURS_DEFAULT);
    if !(0..=OVERLAP_HOURS_MAX).contains(&hours) {
        errors.field("/overlap_hours", "out_of_range", format_args!("must be from 0 to {OVERLAP_HOURS_MAX}"));
    }
    let party = order::party_id(&mut fields, &mut errors);
    fields.finish(&mut errors);
    errors.check()?;
    let secret = new_secret();
    let store = &ingress.recorder.store;
    let until = store.clock().now().saturating_add(SignedDuration::from_hours(hours)).unwrap_or(jiff::Timestamp::MAX);
    for _ in 0..DECISIONS_MAX {
        let (mut subscription, secrets) = ingress.subscription(&caller, party.clone(), &id).await?;
        subscription.version = subscription.version.saturating_add(1);
        match store.subscribe(&subscription, Some(&secrets.rotated(secret.clone(), until))).await? {
            Subscribed::Done => {
                let view = View { secret: Some(secret.to_text()), previous_secret_until: Some(Moment(until)), ..View::new(&subscription) };
                let mut response = result(StatusCode::OK, &view);
                no_store(&mut response);
                return Ok(response);
            }
            Subscribed::Stale => {}
            Subscribed::Missing | Subscribed::Full => return Err(Problem::not_found("webhook")),
        }
    }
    Err(StoreError::Unavailable(None).into())
}

async fn remove(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksWrite).await?;
    let party = party_in(query.as_deref())?;
    for _ in 0..DECISIONS_MAX {
        let (subscription, _) = ingress.subscription(&caller, party.clone(), &id).await?;
        match ingress.recorder.store.unsubscribe(&subscription).await? {
            Subscribed::Done | Subscribed::Missing => return Ok(StatusCode::NO_CONTENT.into_response()),
            Subscribed::Stale => {}
            Subscribed::Full => break,
        }
    }
    Err(StoreError::Unavailable(None).into())
}

impl Ingress {
    /// A subscription within the caller's reach. Its id says all, so a platform key need not name the party; if it does, it must be right.
    async fn subscription(&self, caller: &Caller, named: Option<PartyId>, id: &str) -> Result<(Subscription, Secrets), Problem> {
        let missing = || Problem::not_found("webhook");
        let named = match named {
            Some(party) => Some(self.party(caller, Some(party))?),
            None => None,
        };
        let id: SubscriptionId = id.parse().map_err(|_| missing())?;
        let store = &self.recorder.store;
        if !store.shards().contains(id.shard()) {
            return Err(missing());
        }
        let found = store.subscription(id).await?;
        let within = |found: &Subscription| caller.reaches(&found.party, found.mode) && named.as_ref().is_none_or(|party| *party == found.party);
        found.filter(|(subscription, _)| within(subscription)).ok_or_else(missing)
    }
}

/// The URL as it will be called. It is checked again at each call, and so is the address that its name leads to.
fn allowed_url(egress: &Egress, url: &str, mode: Mode, errors: &mut Errors) -> Option<String> {
    egress.check_url(url, mode).map(String::from).map_err(|refusal| errors.field("/url", "not_allowed", refusal)).ok()
}

/// `"*"`, alone or in a list, or a list of names.
fn event_types(fields: &mut Fields, errors: &mut Errors) -> Option<EventTypes> {
    const AT: &str = "/event_types";
    let names = match fields.required("event_types", errors)? {
        Value::Text(text) if text == "*" => return Some(EventTypes::All),
        Value::List(names) if matches!(names.as_slice(), [Value::Text(text)] if text == "*") => return Some(EventTypes::All),
        Value::List(names) if !names.is_empty() => names,
        Value::List(_) => {
            errors.field(AT, "empty", "must name at least one event type, or be \"*\"");
            return None;
        }
        Value::Null | Value::Bool | Value::Integer(_) | Value::OtherNumber | Value::Text(_) | Value::Object(_) => {
            errors.field(AT, "wrong_type", "must be a list of event types, or \"*\"");
            return None;
        }
    };
    let mut kinds = BTreeSet::new();
    let mut good = true;
    for (index, name) in names.iter().enumerate() {
        let kind = if let Value::Text(name) = name { EventType::named(name) } else { None };
        match kind {
            Some(kind) => _ = kinds.insert(kind),
            None => {
                good = false;
                errors.field(format!("{AT}/{index}"), "unknown_event_type", "is not an event type");
            }
        }
    }
    good.then_some(EventTypes::These(kinds))
}

fn name(fields: &mut Fields, errors: &mut Errors) -> Option<String> {
    let text = fields.optional_text("name", errors)?;
    if text.trim().is_empty() || text.chars().count() > NAME_MAX || text.chars().any(char::is_control) {
        errors.field("/name", "invalid", format_args!("must be 1 to {NAME_MAX} characters, none of them a control character"));
        return None;
    }
    Some(text)
}

fn new_secret() -> Secret {
    Secret::from_bytes(&random::<32>()).expect("32 bytes are a secret")
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system's random source works");
    bytes
}

/// An answer with a secret stays in no cache.
fn no_store(response: &mut Response) {
    set(response, header::CACHE_CONTROL, "no-store");
}
