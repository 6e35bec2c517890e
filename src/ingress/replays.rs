//! `/v1/webhooks/{id}/replays` and `/abandoned`: what a subscription did not get, and what it is told once more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use domain::credential::Scope;
use domain::id::{PartyId, ReplayId, SubscriptionId};
use domain::subscription::{EventTypes, Pattern, Status, Subscription};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use workers::replay::{self, Counted, Replay, Spec, What};
use workers::store::replays::Begun;

use super::caller::Caller;
use super::commands::optional_body;
use super::intake::Duty;
use super::json::{Fields, Value};
use super::payouts::party_in;
use super::problem::{Errors, Kind, Problem};
use super::view::{Moment, answer, result, set};
use super::webhooks::random;
use super::{Ingress, order};

/// Limits of replays.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Deliveries that a replay makes due in a second, if its caller names no rate. 50.
    pub rate_per_s: u16,
    /// The highest rate that can be asked for. 1,000.
    pub rate_max_per_s: u16,
    /// Payouts that a dry run looks at, at most. 10,000.
    pub dry_run_payouts_max: u64,
    /// Dry runs under way, at most; of one party a fourth of them, one at least. More are answered 503. 4.
    pub dry_runs: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rate_per_s: 50, rate_max_per_s: 1_000, dry_run_payouts_max: 10_000, dry_runs: 4 }
    }
}

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new()
        .route("/v1/webhooks/{id}/replays", post(create).get(list))
        .route("/v1/webhooks/{id}/replays/{replay_id}", get(one).delete(cancel))
        .route("/v1/webhooks/{id}/abandoned/retry", post(retry_abandoned))
}

#[derive(Serialize)]
struct View<'a> {
    id: ReplayId,
    subscription_id: SubscriptionId,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Moment>,
    what: &'static str,
    from: Moment,
    to: Moment,
    event_types: Vec<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
    rate_per_s: u16,
    asked_at: Moment,
    /// Payouts, or entries of what was given up, that it has gone through.
    looked_at: u64,
    /// Deliveries that it has made due.
    deliveries: u64,
}

impl<'a> View<'a> {
    fn new(replay: &'a Replay) -> Self {
        Self {
            id: replay.id,
            subscription_id: replay.spec.subscription,
            status: replay.standing.name(),
            ended_at: replay.standing.ended_at().map(Moment),
            what: replay.spec.what.name(),
            from: Moment(replay.spec.from),
            to: Moment(replay.spec.to),
            event_types: match &replay.spec.types {
                EventTypes::All => vec!["*"],
                EventTypes::These(patterns) => patterns.iter().map(Pattern::as_str).collect(),
            },
            metadata: &replay.spec.metadata,
            rate_per_s: replay.spec.rate_per_s,
            asked_at: Moment(replay.spec.asked_at),
            looked_at: replay.payouts_looked_at,
            deliveries: replay.deliveries,
        }
    }
}

/// What a caller says of a replay.
struct Asked {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    types: Option<EventTypes>,
    what: What,
    dry_run: bool,
    rate_per_s: u16,
}

impl Asked {
    fn read(fields: &mut Fields, settings: &Settings, errors: &mut Errors) -> Self {
        let (from, to) = (instant(fields, "from", errors), instant(fields, "to", errors));
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            errors.field("/to", "out_of_range", "must be after `from`");
        }
        let what =
            fields.optional_text("what", errors).and_then(|text| What::named(&text).map_err(|why| errors.field("/what", "unknown_value", why)).ok());
        let types = types(fields, errors);
        let dry_run = fields.optional_bool("dry_run", errors).unwrap_or(false);
        let rate = fields.optional_integer("rate_per_s", errors);
        let within = rate.map(|rate| u16::try_from(rate).ok().filter(|rate| (1..=settings.rate_max_per_s).contains(rate)));
        if within == Some(None) {
            errors.field("/rate_per_s", "out_of_range", format_args!("must be from 1 to {}", settings.rate_max_per_s));
        }
        Self { from, to, types, what: what.unwrap_or(What::Ended), dry_run, rate_per_s: within.flatten().unwrap_or(settings.rate_per_s) }
    }

    /// All that was given up.
    const fn abandoned(settings: &Settings) -> Self {
        Self { from: None, to: None, types: None, what: What::Abandoned, dry_run: false, rate_per_s: settings.rate_per_s }
    }
}

/// A moment that may be absent.
pub(super) fn instant(fields: &mut Fields, name: &str, errors: &mut Errors) -> Option<Timestamp> {
    let text = fields.optional_text(name, errors)?;
    let instant = order::timestamp(&text);
    if instant.is_none() {
        errors.field(fields.pointer(name), "not_an_instant", "must be a date and time with offset by RFC 3339");
    }
    instant
}

fn types(fields: &mut Fields, errors: &mut Errors) -> Option<EventTypes> {
    let names = match fields.take("event_types")? {
        Value::List(names) if !names.is_empty() => names,
        _ => {
            errors.field("/event_types", "wrong_type", "must be a list of event types");
            return None;
        }
    };
    let mut patterns = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        match if let Value::Text(name) = name { Pattern::parse(name).ok() } else { None } {
            Some(pattern) => _ = patterns.insert(pattern),
            None => errors.field(format!("/event_types/{index}"), "unknown_event_type", "is neither an event type nor the beginning of some"),
        }
    }
    Some(EventTypes::These(patterns))
}

/// With an optional body `{"from", "to", "event_types", "what", "dry_run", "rate_per_s", "party_id"}`: 202 and the replay, or how much it would be.
async fn create(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    let mut errors = Errors::default();
    let fields = optional_body(&parts, &body, &mut errors)?;
    Ok(answer_of(&ingress.replay_to(&caller, &id, fields, errors).await?))
}

/// With an optional body `{"party_id"}`: all that was given up is delivered again.
async fn retry_abandoned(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    let (subscription, _) = ingress.subscription(&caller, super::commands::only_party(&parts, &body)?, &id).await?;
    Ok(answer_of(&ingress.begin_replay(&subscription, Asked::abandoned(&ingress.settings.replays)).await?))
}

/// What came of asking for a replay.
pub(crate) enum Replayed {
    Begun(Box<Replay>),
    /// Of a dry run.
    Counted(Counted),
}

fn answer_of(replayed: &Replayed) -> Response {
    #[derive(Serialize)]
    struct DryRun {
        deliveries: u64,
        looked_at: u64,
        /// Else there are more than it has looked at.
        complete: bool,
    }
    match replayed {
        Replayed::Begun(replay) => {
            let mut response = result(StatusCode::ACCEPTED, &View::new(replay));
            set(&mut response, header::LOCATION, &format!("/v1/webhooks/{}/replays/{}", replay.spec.subscription, replay.id));
            response
        }
        Replayed::Counted(counted) => {
            result(StatusCode::OK, &DryRun { deliveries: counted.deliveries, looked_at: counted.payouts_looked_at, complete: counted.complete })
        }
    }
}

async fn list(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List<'a> {
        results: Vec<View<'a>>,
    }
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let (subscription, _) = ingress.subscription(&caller, party_in(query.as_deref())?, &id).await?;
    let replays = ingress.recorder.store.replays(subscription.id).await?;
    Ok(answer(StatusCode::OK, &List { results: replays.iter().map(View::new).collect() }))
}

async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path((id, replay)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let replay = ingress.replay_of(&caller, party_in(query.as_deref())?, &id, &replay).await?;
    Ok(result(StatusCode::OK, &View::new(&replay)))
}

async fn cancel(
    State(ingress): State<Arc<Ingress>>,
    Path((id, replay)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksWrite).await?;
    let canceled = ingress.cancel_replay(&caller, party_in(query.as_deref())?, &id, &replay).await?;
    Ok(result(StatusCode::OK, &View::new(&canceled)))
}

impl Ingress {
    /// Tells a subscription once more what the fields ask for, or counts it.
    ///
    /// # Errors
    /// Every field that is wrong; [`Kind::NotPossibleNow`] while it is disabled or another replay of it is under way; trouble with the store.
    pub(crate) async fn replay_to(&self, caller: &Caller, id: &str, mut fields: Fields, mut errors: Errors) -> Result<Replayed, Problem> {
        let asked = Asked::read(&mut fields, &self.settings.replays, &mut errors);
        let party = order::party_id(&mut fields, &mut errors);
        fields.finish(&mut errors);
        errors.check()?;
        let (subscription, _) = self.subscription(caller, party, id).await?;
        self.begin_replay(&subscription, asked).await
    }

    /// Ends a replay. What it has made due is delivered all the same. One that has ended is answered as it is.
    ///
    /// # Errors
    /// There is none, or trouble with the store.
    pub(crate) async fn cancel_replay(&self, caller: &Caller, party: Option<PartyId>, id: &str, replay: &str) -> Result<Replay, Problem> {
        let found = self.replay_of(caller, party, id, replay).await?;
        replay::cancel(&self.recorder.store, found.id).await?.ok_or_else(|| Problem::not_found("replay"))
    }

    async fn begin_replay(&self, subscription: &Subscription, asked: Asked) -> Result<Replayed, Problem> {
        if let Status::Disabled { .. } = subscription.status {
            return Err(Problem::new(Kind::NotPossibleNow, "The subscription is `disabled`; resume it first."));
        }
        let store = &self.recorder.store;
        let now = store.clock().now();
        if asked.what != What::Abandoned && asked.types.as_ref().is_some_and(|types| !types.wants_payouts()) {
            let why = "must name events of payouts: others are delivered again one by one, by `/retry`, or with `what` abandoned";
            return Err(Problem::field("/event_types", "not_allowed", why));
        }
        let (types, metadata) = asked.what.filter(subscription, asked.types);
        let spec = Spec {
            subscription: subscription.id,
            party: subscription.party.clone(),
            mode: subscription.mode,
            from: asked.from.unwrap_or(Timestamp::UNIX_EPOCH),
            to: asked.to.unwrap_or(now),
            looks_back_s: self.recorder.looks_back.as_secs(),
            types,
            metadata,
            what: asked.what,
            rate_per_s: asked.rate_per_s,
            asked_at: now,
        };
        if asked.dry_run {
            let Ok(_seat) = self.dry_runs.enter(&spec.party, spec.mode) else {
                return Err(Problem::new(Kind::Overloaded, "As many dry runs as can be are under way, or as many of the party."));
            };
            return Ok(Replayed::Counted(replay::count(store, &spec, self.settings.replays.dry_run_payouts_max).await?));
        }
        let replay = Replay::new(ReplayId::new(subscription.id.shard(), random()), spec);
        match store.begin_replay(&replay).await? {
            Begun::Done => Ok(Replayed::Begun(Box::new(replay))),
            Begun::Busy(other) => Err(Problem::new(Kind::NotPossibleNow, format!("The replay {other} of this subscription is under way."))),
            Begun::Missing => Err(Problem::not_found("webhook")),
        }
    }

    async fn replay_of(&self, caller: &Caller, party: Option<PartyId>, id: &str, replay: &str) -> Result<Replay, Problem> {
        let missing = || Problem::not_found("replay");
        let (subscription, _) = self.subscription(caller, party, id).await?;
        let replay: ReplayId = replay.parse().map_err(|_| missing())?;
        if replay.shard() != subscription.id.shard() {
            return Err(missing());
        }
        let found = self.recorder.store.replay(replay).await?.map(|(replay, _)| replay);
        found.filter(|replay| replay.spec.subscription == subscription.id).ok_or_else(missing)
    }
}
