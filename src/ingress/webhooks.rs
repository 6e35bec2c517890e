//! `/v1/webhooks`: where a party's events go. The signing secret is shown in the answer that makes it and never again; of a header only its name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::bulletin::News;
use domain::credential::Scope;
use domain::delivery::{Attempt, Attempted};
use domain::id::{Mode, PartyId, SubscriptionId};
use domain::signature::Secret;
use domain::snapshot;
use domain::subscription::{EventTypes, Ordering, Payload, Secrets, Status, Subscription};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use workers::egress::Egress;
use workers::relay::ping;
use workers::store::StoreError;
use workers::store::bulletins::Notice;
use workers::store::subscriptions::{Standing, Subscribed};

use super::caller::Caller;
use super::commands::{only_party, optional_body};
use super::intake::Duty;
use super::json::Fields;
use super::payouts::{limit, party_in};
use super::problem::{Errors, Kind, Problem};
use super::query::Parameters;
use super::view::{Moment, answer, result, set};
use super::webhook_fields::{Wishes, check_certificate_shown};
use super::{DECISIONS_MAX, Ingress, json, order, revision};

const OVERLAP_HOURS_DEFAULT: i64 = 24;
const OVERLAP_HOURS_MAX: i64 = 168;

/// Limits of what is done for subscriptions while their party waits.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The longest time for a ping. 5 s.
    pub ping_timeout_ms: u64,
    /// Pings under way at one time, at most; more are answered with 503. 8.
    pub pings: usize,
    /// Subscriptions that a party may have in each mode, at most. 10,000.
    pub subscriptions_max: usize,
    /// The modes in which a URL has to answer a challenge before it is told anything. Live.
    pub challenge: Vec<Mode>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ping_timeout_ms: 5_000, pings: 8, subscriptions_max: 10_000, challenge: vec![Mode::Live] }
    }
}

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new()
        .route("/v1/webhooks", post(create).get(list))
        .route("/v1/webhooks/{id}", get(one).patch(change).delete(remove))
        .route("/v1/webhooks/{id}/rotate", post(rotate))
        .route("/v1/webhooks/{id}/pause", post(pause))
        .route("/v1/webhooks/{id}/resume", post(resume))
        .route("/v1/webhooks/{id}/ping", post(ping))
        .route("/v1/webhooks/{id}/challenge", post(challenge))
        .route("/.well-known/webhook-keys.json", get(keys))
}

#[derive(Serialize)]
struct View<'a> {
    id: SubscriptionId,
    party_id: &'a PartyId,
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    url: &'a str,
    /// Names and families of them, or `*`.
    event_types: Vec<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
    ordering: Ordering,
    payload: Payload,
    signatures: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_s: Option<u16>,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    retry_waits_s: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_max_age_s: Option<u32>,
    payload_version: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<Certificate<'a>>,
    /// Their values are not shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    header_names: Vec<&'a str>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_since: Option<Moment>,
    /// Nothing is sent until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_until: Option<Moment>,
    waiting: u64,
    in_flight: u64,
    created_at: Moment,
    version: u64,
    /// Only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Until when the secret before it signs as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_secret_until: Option<Moment>,
    /// All former secrets that sign as well, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    previous_secrets: Vec<FormerSecret>,
}

#[derive(Serialize)]
struct FormerSecret {
    until: Moment,
}

/// What everybody may know of it.
#[derive(Serialize)]
struct Certificate<'a> {
    subject: &'a str,
    fingerprint: &'a str,
    expires_at: Moment,
    /// Somebody should see to it.
    expires_soon: bool,
}

impl<'a> View<'a> {
    fn new(egress: &Egress, subscription: &'a Subscription, secrets: &'a Secrets, standing: &Standing, now: Timestamp) -> Self {
        let (status, status_reason, status_since) = condition(subscription, standing);
        let former = secrets.former_until(now);
        Self {
            id: subscription.id,
            party_id: &subscription.party,
            mode: subscription.mode,
            name: subscription.name.as_deref(),
            description: subscription.description.as_deref(),
            url: &subscription.url,
            event_types: match &subscription.event_types {
                EventTypes::All => vec!["*"],
                EventTypes::These(patterns) => patterns.iter().map(domain::subscription::Pattern::as_str).collect(),
            },
            metadata: &subscription.metadata,
            ordering: subscription.ordering,
            payload: subscription.payload,
            signatures: if subscription.asymmetric { &["v1", "v1a"] } else { &["v1"] },
            max_in_flight: subscription.max_in_flight,
            rate_per_s: subscription.rate_per_s,
            retry_waits_s: &subscription.retry_waits_s,
            retry_max_age_s: subscription.retry_max_age_s,
            payload_version: subscription.payload_version,
            client_certificate: subscription.client_certificate.as_ref().map(|certificate| Certificate {
                subject: &certificate.subject,
                fingerprint: &certificate.fingerprint,
                expires_at: Moment(certificate.expires_at),
                expires_soon: egress.expires_soon(certificate, now),
            }),
            header_names: secrets.headers.names().collect(),
            status,
            status_reason,
            status_since: status_since.map(Moment),
            held_until: standing.held_until.map(Moment),
            waiting: standing.waiting,
            in_flight: standing.in_flight,
            created_at: Moment(subscription.created_at),
            version: subscription.version,
            secret: None,
            previous_secret_until: former.first().copied().map(Moment),
            previous_secrets: former.into_iter().map(|until| FormerSecret { until: Moment(until) }).collect(),
        }
    }
}

/// How a subscription is: a word for it, why, and since when.
pub(crate) fn condition<'a>(subscription: &'a Subscription, standing: &Standing) -> (&'static str, Option<&'a str>, Option<Timestamp>) {
    match (&subscription.status, standing.failing) {
        (Status::Enabled, None) => ("enabled", None, None),
        (Status::Enabled, Some(failing)) => ("failing", Some("nothing_gets_through"), Some(failing.since)),
        (Status::Pending { at }, _) => ("pending", Some("challenge_unanswered"), Some(*at)),
        (Status::Paused { at }, _) => ("paused", Some("asked"), Some(*at)),
        (Status::Disabled { reason, at }, _) => ("disabled", Some(reason.as_str()), Some(*at)),
    }
}

async fn create(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let fields = json::read(&body, &mut errors)?;
    let (subscription, secrets, secret) = ingress.subscribe(&caller, fields, errors).await?;
    let view = View::new(&ingress.egress, &subscription, &secrets, &Standing::default(), subscription.created_at);
    let mut response = result(StatusCode::CREATED, &View { secret: Some(told(&secret, subscription.payload)), ..view });
    set(&mut response, header::LOCATION, &format!("/v1/webhooks/{}", subscription.id));
    no_store(&mut response);
    Ok(response)
}

async fn change(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let fields = json::read(&body, &mut errors)?;
    let (subscription, secrets) = ingress.change_subscription(&caller, &id, fields, errors).await?;
    ingress.shown_subscription(&subscription, &secrets).await
}

/// With an optional body `{"party_id"}`.
async fn pause(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    let (subscription, secrets) = ingress.pause_subscription(&caller, only_party(&parts, &body)?, &id).await?;
    ingress.shown_subscription(&subscription, &secrets).await
}

/// With an optional body `{"party_id"}`.
async fn resume(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    let (subscription, secrets) = ingress.resume_subscription(&caller, only_party(&parts, &body)?, &id).await?;
    ingress.shown_subscription(&subscription, &secrets).await
}

/// With an optional body `{"party_id"}`. Answers how it went.
async fn ping(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Pinged {
        delivered: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        latency_ms: u32,
    }
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    let Attempt { latency_ms, result: how, .. } = ingress.ping_subscription(&caller, only_party(&parts, &body)?, &id).await?;
    let (delivered, status, error) = match how {
        Attempted::Acknowledged { status } => (true, Some(status), None),
        Attempted::Answered { status, .. } => (false, Some(status), None),
        Attempted::Unreachable { why } => (false, None, Some(why)),
        Attempted::Unwanted => (false, None, None),
    };
    Ok(result(StatusCode::OK, &Pinged { delivered, status, error, latency_ms }))
}

/// With an optional body `{"party_id"}`. Asks the URL of a pending subscription once more.
async fn challenge(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    let (subscription, secrets) = ingress.challenge_subscription(&caller, only_party(&parts, &body)?, &id).await?;
    ingress.shown_subscription(&subscription, &secrets).await
}

/// The keys that `v1a` signatures verify with: a JWK set, each key in the text of Standard Webhooks as well. For everybody.
async fn keys(State(ingress): State<Arc<Ingress>>) -> Response {
    #[derive(Serialize)]
    struct Jwks {
        keys: Vec<Jwk>,
    }
    #[derive(Serialize)]
    struct Jwk {
        kty: &'static str,
        crv: &'static str,
        alg: &'static str,
        r#use: &'static str,
        kid: String,
        x: String,
        whpk: String,
    }
    let published = ingress.settings.signing_keys.published().into_iter();
    let keys = published.map(|key| Jwk { kty: "OKP", crv: "Ed25519", alg: "EdDSA", r#use: "sig", kid: key.kid, x: key.x, whpk: key.text });
    let mut response = answer(StatusCode::OK, &Jwks { keys: keys.collect() });
    set(&mut response, header::CACHE_CONTROL, "public, max-age=300");
    response
}

async fn list(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List<'a> {
        results: Vec<View<'a>>,
        /// Absent on the last page.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_cursor: Option<String>,
    }
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let mut errors = Errors::default();
    let mut parameters = Parameters::read(query.as_deref());
    let party = parameters.parsed("party_id", "invalid", &mut errors, PartyId::parse);
    let limit = limit(&mut parameters, &mut errors);
    let wrong = "must be the `next_cursor` of a page of this list";
    let after = parameters.parsed("cursor", "invalid", &mut errors, |text| read_cursor(text).ok_or(wrong));
    parameters.finish(errors)?;
    let (listed, next) = ingress.subscriptions(&caller, party, after, limit).await?;
    let now = ingress.recorder.store.clock().now();
    let views = listed.iter().map(|(subscription, secrets, standing)| View::new(&ingress.egress, subscription, secrets, standing, now));
    Ok(answer(StatusCode::OK, &List { results: views.collect(), next_cursor: next.map(write_cursor) }))
}

/// A place in the list of subscriptions, for the caller to hand back. It leads only through those of the party.
pub(crate) fn write_cursor(place: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("1:{place}"))
}

pub(crate) fn read_cursor(text: &str) -> Option<u64> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?.strip_prefix("1:")?.parse().ok()
}

async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let (subscription, secrets) = ingress.subscription(&caller, party_in(query.as_deref())?, &id).await?;
    ingress.shown_subscription(&subscription, &secrets).await
}

/// With an optional body `{"overlap_hours", "party_id"}`. The secret before goes on signing for that long, and those before it until their time.
async fn rotate(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksWrite, Duty::None).await?;
    let mut errors = Errors::default();
    let fields = optional_body(&parts, &body, &mut errors)?;
    let (subscription, secrets, secret) = ingress.rotate_secret(&caller, &id, fields, errors).await?;
    let store = &ingress.recorder.store;
    let standing = store.standing(subscription.id).await?;
    let view = View {
        secret: Some(told(&secret, subscription.payload)),
        ..View::new(&ingress.egress, &subscription, &secrets, &standing, store.clock().now())
    };
    let mut response = result(StatusCode::OK, &view);
    no_store(&mut response);
    Ok(response)
}

async fn remove(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksWrite).await?;
    ingress.unsubscribe(&caller, party_in(query.as_deref())?, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Ingress {
    async fn shown_subscription(&self, subscription: &Subscription, secrets: &Secrets) -> Result<Response, Problem> {
        let store = &self.recorder.store;
        let standing = store.standing(subscription.id).await?;
        Ok(result(StatusCode::OK, &View::new(&self.egress, subscription, secrets, &standing, store.clock().now())))
    }

    /// Makes a subscription of what the fields wish. The secret is shown to whoever asked, now and never again.
    ///
    /// # Errors
    /// Every field that is wrong, [`Kind::SubscriptionsFull`], or trouble with the store. A repeat makes another one.
    pub(crate) async fn subscribe(
        &self,
        caller: &Caller,
        mut fields: Fields,
        mut errors: Errors,
    ) -> Result<(Subscription, Secrets, Secret), Problem> {
        let mode = caller.mode();
        let mut wishes = Wishes::read(&mut fields, true, self, mode, &mut errors);
        let party = order::party_id(&mut fields, &mut errors);
        fields.finish(&mut errors);
        let (Some(url), Some(event_types), true) = (wishes.url.take(), wishes.event_types.take(), errors.is_empty()) else {
            return Err(errors.into_problem());
        };
        let party = self.party(caller, party)?;
        let store = &self.recorder.store;
        let id = SubscriptionId::new(store.shards().of(&party, mode), random());
        let mut subscription = Subscription::new(id, party, mode, url, event_types, store.clock().now());
        wishes.apply(&mut subscription);
        check_certificate_shown(&subscription)?;
        subscription.status = self.status_of_new_url(mode, subscription.created_at);
        let secret = new_secret(subscription.payload);
        let mut secrets = Secrets::new(secret.clone());
        wishes.seal(&mut secrets);
        match store.subscribe(&subscription, Some(&secrets)).await? {
            Subscribed::Done => Ok((self.challenged(subscription, &secrets).await.0, secrets, secret)),
            Subscribed::Full => Err(self.full()),
            Subscribed::Stale | Subscribed::Missing => Err(StoreError::Unavailable(None).into()),
        }
    }

    /// What the fields wish is changed, the rest stays. They say the `version` that was read. Another URL begins without the troubles of the one before.
    ///
    /// # Errors
    /// Every field that is wrong, [`Kind::VersionStale`], which a repeat gets too, or trouble with the store.
    pub(crate) async fn change_subscription(
        &self,
        caller: &Caller,
        id: &str,
        mut fields: Fields,
        mut errors: Errors,
    ) -> Result<(Subscription, Secrets), Problem> {
        let mut wishes = Wishes::read(&mut fields, false, self, caller.mode(), &mut errors);
        let revised = revision::Revised::take(&mut fields, &[], &[], &mut errors);
        let party = order::party_id(&mut fields, &mut errors);
        fields.finish(&mut errors);
        let (Some(revised), true) = (revised, errors.is_empty()) else { return Err(errors.into_problem()) };
        let (mut subscription, mut secrets) = self.subscription(caller, party, id).await?;
        if subscription.version != revised.version {
            return Err(revision::stale(subscription.version));
        }
        let before = (subscription.clone(), secrets.clone());
        let elsewhere = wishes.url.as_ref().is_some_and(|url| *url != subscription.url);
        if elsewhere && wishes.headers.is_none() {
            check_headers_stay(&secrets)?;
        }
        // Its receiver knows neither the form nor the signature of the other payloads.
        if subscription.payload == Payload::Snapshot && wishes.payload.is_some() {
            return Err(Problem::field("/payload", "not_allowed", "stays as it is for a subscription of /v2/webhooks"));
        }
        if let (Payload::Snapshot, Some(types)) = (subscription.payload, &wishes.event_types) {
            let never = "names what a subscription of /v2/webhooks is never told of";
            wishes.event_types = Some(snapshot::told_of(types).ok_or_else(|| Problem::field("/event_types", "not_allowed", never))?);
        }
        wishes.apply(&mut subscription);
        check_certificate_shown(&subscription)?;
        if elsewhere && !wishes.says_certificate() {
            check_certificate_stays(&secrets)?;
        }
        if elsewhere {
            self.asks_anew(&mut subscription);
        }
        subscription.version = subscription.version.saturating_add(1);
        let changed = wishes.seal(&mut secrets).then_some(&secrets);
        let store = &self.recorder.store;
        let written =
            if elsewhere { self.lead_elsewhere(before, &subscription, changed).await? } else { store.subscribe(&subscription, changed).await? };
        match written {
            Subscribed::Done if elsewhere => Ok((self.challenged(subscription, &secrets).await.0, secrets)),
            Subscribed::Done => Ok((subscription, secrets)),
            Subscribed::Stale => Err(revision::stale(subscription.version)),
            Subscribed::Missing | Subscribed::Full => Err(Problem::not_found("webhook")),
        }
    }

    /// Writes a subscription that has got another status. That one is served again which was not is told.
    async fn turned(&self, was: &Status, subscription: &Subscription) -> Result<Subscribed, StoreError> {
        let store = &self.recorder.store;
        if !matches!((was, &subscription.status), (Status::Disabled { .. }, Status::Enabled)) {
            return store.begin_afresh(subscription, None).await;
        }
        let news = News::Enabled { of: subscription.hook() };
        store.begin_afresh_telling(subscription, None, Notice { news: &news, farewell: None }).await
    }

    /// Writes a subscription that leads to another URL by now. Those of the party that ask for it are told, and the receiver that it had, once, whatever it asks
    /// for: if it was not its owner who changed that, the owner hears of it.
    pub(crate) async fn lead_elsewhere(
        &self,
        (before, its): (Subscription, Secrets),
        subscription: &Subscription,
        changed: Option<&Secrets>,
    ) -> Result<Subscribed, StoreError> {
        let news = News::Changed { of: subscription.hook(), changed: &["url"] };
        // One that is disabled wants nothing, one that is pending has not asked for anything, and receivers of snapshots have no word for it.
        let is_told = !matches!(before.status, Status::Disabled { .. } | Status::Pending { .. }) && before.payload != Payload::Snapshot;
        let id = SubscriptionId::new(before.id.shard(), random());
        let left = before.farewell(id);
        let notice = Notice { news: &news, farewell: is_told.then_some((&left, &its)) };
        self.recorder.store.begin_afresh_telling(subscription, changed, notice).await
    }

    /// Events go on making deliveries, and none is sent: they wait, in order. What is under way is finished. A repeat changes nothing.
    ///
    /// # Errors
    /// [`Kind::NotPossibleNow`] while it is disabled or pending, or trouble with the store.
    pub(crate) async fn pause_subscription(&self, caller: &Caller, party: Option<PartyId>, id: &str) -> Result<(Subscription, Secrets), Problem> {
        self.turn_subscription(caller, party, id, |status, now| match status {
            Status::Enabled => Ok(Some(Status::Paused { at: now })),
            Status::Paused { .. } => Ok(None),
            Status::Pending { .. } => Err(pending()),
            Status::Disabled { .. } => Err(Problem::new(Kind::NotPossibleNow, "The subscription is `disabled`; resume it first.")),
        })
        .await
    }

    /// Ends a pause, a disablement, and whatever it is held back for after failures.
    ///
    /// # Errors
    /// [`Kind::NotPossibleNow`] while it is pending, or trouble with the store.
    pub(crate) async fn resume_subscription(&self, caller: &Caller, party: Option<PartyId>, id: &str) -> Result<(Subscription, Secrets), Problem> {
        self.turn_subscription(caller, party, id, |status, _| match status {
            Status::Pending { .. } => Err(pending()),
            Status::Enabled | Status::Paused { .. } | Status::Disabled { .. } => Ok(Some(Status::Enabled)),
        })
        .await
    }

    /// Sends a signed `webhook.ping` now, whatever the status, and tells how that went.
    ///
    /// # Errors
    /// [`Kind::Overloaded`] when too many are under way; nothing was sent then. Trouble with the store.
    pub(crate) async fn ping_subscription(&self, caller: &Caller, party: Option<PartyId>, id: &str) -> Result<Attempt, Problem> {
        let (subscription, secrets) = self.subscription(caller, party, id).await?;
        let Ok(_seat) = self.pings(caller.mode()).enter(&subscription.party, subscription.mode) else {
            return Err(Problem::new(Kind::Overloaded, "As many pings as can be are under way, or as many of the party. Nothing was sent."));
        };
        let timeout = Duration::from_millis(self.settings.webhooks.ping_timeout_ms);
        let now = self.recorder.store.clock().now();
        let keys = &self.settings.signing_keys;
        Ok(ping::ping(&self.egress, keys, &subscription, &secrets, u64::from_ne_bytes(random()), timeout, now).await)
    }

    /// A page of a party's subscriptions, oldest first, and how each is doing; and behind what the next page begins, if there is one.
    ///
    /// # Errors
    /// Another party than the caller's, or trouble with the store.
    pub(crate) async fn subscriptions(
        &self,
        caller: &Caller,
        party: Option<PartyId>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Subscriptions, Problem> {
        let party = self.party(caller, party)?;
        let store = &self.recorder.store;
        let (found, next) = store.subscriptions(&party, caller.mode(), after, limit).await?;
        let standings = futures_util::future::try_join_all(found.iter().map(|(subscription, _)| store.standing(subscription.id))).await?;
        Ok((found.into_iter().zip(standings).map(|((subscription, secrets), standing)| (subscription, secrets, standing)).collect(), next))
    }

    pub(super) fn full(&self) -> Problem {
        Problem::new(Kind::SubscriptionsFull, format!("A party can have {}. Delete one first.", self.settings.webhooks.subscriptions_max))
    }

    /// Gives a subscription a new secret, which is shown to whoever asked, now and never again. The one before goes on signing for `overlap_hours`, and those before it
    /// until the time that each was given; with 0 the new one signs alone.
    ///
    /// # Errors
    /// Every field that is wrong; [`Kind::NotPossibleNow`] where [`Secrets::SIGNING_MAX`] sign already; trouble with the store. A repeat rotates once more, so that only what it answers signs at the end.
    pub(crate) async fn rotate_secret(
        &self,
        caller: &Caller,
        id: &str,
        mut fields: Fields,
        mut errors: Errors,
    ) -> Result<(Subscription, Secrets, Secret), Problem> {
        let hours = fields.optional_integer("overlap_hours", &mut errors).unwrap_or(OVERLAP_HOURS_DEFAULT);
        if !(0..=OVERLAP_HOURS_MAX).contains(&hours) {
            errors.field("/overlap_hours", "out_of_range", format_args!("must be from 0 to {OVERLAP_HOURS_MAX}"));
        }
        let party = order::party_id(&mut fields, &mut errors);
        fields.finish(&mut errors);
        errors.check()?;
        let store = &self.recorder.store;
        let now = store.clock().now();
        let until = now.saturating_add(SignedDuration::from_hours(hours)).unwrap_or(jiff::Timestamp::MAX);
        for _ in 0..DECISIONS_MAX {
            let (mut subscription, secrets) = self.subscription(caller, party.clone(), id).await?;
            subscription.version = subscription.version.saturating_add(1);
            let secret = new_secret(subscription.payload);
            let secrets = secrets.rotated(secret.clone(), now, until).map_err(|full| {
                Problem::new(Kind::NotPossibleNow, format!("{full}. With `overlap_hours` 0 the new secret signs alone, from now on."))
            })?;
            match store.subscribe(&subscription, Some(&secrets)).await? {
                Subscribed::Done => return Ok((subscription, secrets, secret)),
                Subscribed::Stale => {}
                Subscribed::Missing | Subscribed::Full => return Err(Problem::not_found("webhook")),
            }
        }
        Err(StoreError::Unavailable(None).into())
    }

    /// Ends a subscription. What waits for it is given up.
    ///
    /// # Errors
    /// There is none (any more), or trouble with the store.
    pub(crate) async fn unsubscribe(&self, caller: &Caller, party: Option<PartyId>, id: &str) -> Result<(), Problem> {
        for _ in 0..DECISIONS_MAX {
            let (subscription, _) = self.subscription(caller, party.clone(), id).await?;
            match self.recorder.store.unsubscribe(&subscription).await? {
                Subscribed::Done | Subscribed::Missing => return Ok(()),
                Subscribed::Stale => {}
                Subscribed::Full => break,
            }
        }
        Err(StoreError::Unavailable(None).into())
    }

    /// Gives a subscription the status that `turn` decides on, if any, and forgets what went wrong before.
    async fn turn_subscription(
        &self,
        caller: &Caller,
        party: Option<PartyId>,
        id: &str,
        turn: impl Fn(&Status, Timestamp) -> Result<Option<Status>, Problem>,
    ) -> Result<(Subscription, Secrets), Problem> {
        let store = &self.recorder.store;
        for _ in 0..DECISIONS_MAX {
            let (mut subscription, secrets) = self.subscription(caller, party.clone(), id).await?;
            let Some(status) = turn(&subscription.status, store.clock().now())? else { return Ok((subscription, secrets)) };
            let was = std::mem::replace(&mut subscription.status, status);
            subscription.version = subscription.version.saturating_add(1);
            match self.turned(&was, &subscription).await? {
                Subscribed::Done => return Ok((subscription, secrets)),
                Subscribed::Stale => {}
                Subscribed::Missing | Subscribed::Full => return Err(Problem::not_found("webhook")),
            }
        }
        Err(StoreError::Unavailable(None).into())
    }

    /// A subscription within the caller's reach. Its id says all, so a platform key need not name the party; if it does, it must be right.
    pub(crate) async fn subscription(&self, caller: &Caller, named: Option<PartyId>, id: &str) -> Result<(Subscription, Secrets), Problem> {
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
        let within = |found: &Subscription| {
            !found.farewell && caller.reaches(&found.party, found.mode) && named.as_ref().is_none_or(|party| *party == found.party)
        };
        found.filter(|(subscription, _)| within(subscription)).ok_or_else(missing)
    }
}

/// Subscriptions with what is secret of them and how each is doing, and behind what the next page begins.
pub(crate) type Subscriptions = (Vec<(Subscription, Secrets, Standing)>, Option<u64>);

/// A new secret. Where the payload is a snapshot, the secret is a text of 32 characters.
pub(super) fn new_secret(payload: Payload) -> Secret {
    let secret = match payload {
        Payload::Thin | Payload::Full => Secret::from_bytes(&random::<32>()),
        Payload::Snapshot => Secret::from_bytes(URL_SAFE_NO_PAD.encode(random::<24>()).as_bytes()),
    };
    secret.expect("32 bytes are a secret")
}

/// A secret as its receiver is told it: `whsec_…`, or that text.
pub(crate) fn told(secret: &Secret, payload: Payload) -> String {
    match payload {
        Payload::Thin | Payload::Full => secret.to_text(),
        Payload::Snapshot => secret.to_plain_text(),
    }
}

fn pending() -> Problem {
    Problem::new(Kind::NotPossibleNow, "The subscription is `pending`: its URL has to answer a challenge first.")
}

/// Whoever may change the address need not know what the headers hold: they are not told to another one.
pub(super) fn check_headers_stay(secrets: &Secrets) -> Result<(), Problem> {
    if secrets.headers.is_empty() {
        return Ok(());
    }
    Err(Problem::field("/headers", "required", "must be said again with another `url`: what they hold is not told to another address"))
}

/// Nor need they have the certificate: nobody proves to another address who the party is.
pub(super) fn check_certificate_stays(secrets: &Secrets) -> Result<(), Problem> {
    if secrets.client_certificate.is_none() {
        return Ok(());
    }
    Err(Problem::field("/client_certificate", "required", "must be said again with another `url`, or be `{}`: it is not shown to another address"))
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system's random source works");
    bytes
}

/// An answer with a secret stays in no cache.
pub(super) fn no_store(response: &mut Response) {
    set(response, header::CACHE_CONTROL, "no-store");
}
