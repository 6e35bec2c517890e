//! `/v1/providers`: what the configured providers are like, as the workers see them; whether payouts go there now, and the button that stops them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use domain::credential::{Reach, Scope};
use domain::fact::Provider;
use domain::id::Mode;
use jiff::Timestamp;
use providers::profile::Profile;
use serde::Serialize;
use workers::batch::PAGE;
use workers::store::circuits::{Circuit, CircuitState, Order};

use super::caller::Caller;
use super::intake::Duty;
use super::json::{self, Fields};
use super::problem::{Errors, Kind, Problem};
use super::view::{Moment, answer, result};
use super::{Ingress, commands};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new()
        .route("/v1/providers", get(list))
        .route("/v1/providers/{name}", get(one))
        .route("/v1/providers/{name}/pause", post(pause))
        .route("/v1/providers/{name}/resume", post(resume))
}

/// A profile, and whether payouts of the caller's mode can go there.
#[derive(Serialize)]
struct View {
    configured: bool,
    circuit: CircuitView,
    #[serde(flatten)]
    profile: Profile,
}

/// Whether payouts go to a provider, and who or what says so.
#[derive(Serialize)]
struct CircuitView {
    state: CircuitState,
    /// Payouts that wait for it.
    held: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<PauseView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<OrderView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tripped: Option<TripView>,
}

#[derive(Serialize)]
struct PauseView {
    #[serde(flatten)]
    order: OrderView,
    /// `draining`: what was permitted before the pause may still be on its way. `effective`: nothing is.
    progress: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_at: Option<Moment>,
}

#[derive(Serialize)]
struct OrderView {
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    at: Moment,
}

#[derive(Serialize)]
struct TripView {
    why: String,
    since: Moment,
    /// The next payout is tried then.
    next_trial_at: Moment,
    trips: u32,
}

async fn list(State(ingress): State<Arc<Ingress>>, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List {
        results: Vec<View>,
    }
    let caller = ingress.admit(&headers, Scope::PayoutsRead).await?;
    let results = futures_util::future::try_join_all(Provider::ALL.map(|provider| View::new(&ingress, provider, &caller))).await?;
    Ok(answer(StatusCode::OK, &List { results }))
}

async fn one(State(ingress): State<Arc<Ingress>>, Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::PayoutsRead).await?;
    let provider = Provider::named(&name).ok_or_else(|| Problem::not_found("provider"))?;
    Ok(result(StatusCode::OK, &View::new(&ingress, provider, &caller).await?))
}

/// `POST /v1/providers/{name}/pause` with `{"reason", "mode"}`: from now on no payout is sent there. The first pause stays, and so does its reason.
async fn pause(State(ingress): State<Arc<Ingress>>, Path(name): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::Operator, Duty::None).await?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let mut fields = json::read(&body, &mut errors)?;
    let reason = fields.text("reason", &mut errors).and_then(|text| commands::note("/reason", text, &mut errors));
    same_mode(&mut fields, caller.mode(), &mut errors);
    fields.finish(&mut errors);
    let (Some(reason), true) = (reason, errors.is_empty()) else { return Err(errors.into_problem()) };
    let provider = for_everybody(&caller, &name)?;
    let order = Order { by: caller.key().owner.clone(), reason: Some(reason), at: ingress.recorder.store.clock().now() };
    ingress.recorder.store.pause(provider, caller.mode(), &order).await?;
    tracing::warn!(provider.name = provider.name(), mode = caller.mode().as_str(), "dispatch to a provider is paused");
    Ok(result(StatusCode::OK, &View::new(&ingress, provider, &caller).await?))
}

/// `POST /v1/providers/{name}/resume`, with an optional body `{"reason", "mode"}`. It lets money move, so keys that must sign sign the whole request.
async fn resume(State(ingress): State<Arc<Ingress>>, Path(name): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::Operator, Duty::Request).await?;
    let mut errors = Errors::default();
    let mut fields = commands::optional_body(&parts, &body, &mut errors)?;
    let reason = fields.optional_text("reason", &mut errors).and_then(|text| commands::note("/reason", text, &mut errors));
    same_mode(&mut fields, caller.mode(), &mut errors);
    fields.finish(&mut errors);
    errors.check()?;
    let provider = for_everybody(&caller, &name)?;
    let order = Order { by: caller.key().owner.clone(), reason, at: ingress.recorder.store.clock().now() };
    if ingress.recorder.store.resume(provider, caller.mode(), &order).await? {
        tracing::warn!(provider.name = provider.name(), mode = caller.mode().as_str(), "dispatch to a provider is resumed");
    }
    Ok(result(StatusCode::OK, &View::new(&ingress, provider, &caller).await?))
}

/// The payouts of all parties go there, so a key of one party does not reach it.
fn for_everybody(caller: &Caller, name: &str) -> Result<Provider, Problem> {
    let provider = Provider::named(name).ok_or_else(|| Problem::not_found("provider"))?;
    match caller.key().reach {
        Reach::Platform => Ok(provider),
        Reach::Party(_) => Err(Problem::new(Kind::OtherParty, "A provider serves all parties: use a key of the platform.")),
    }
}

/// A key reaches its own mode only; naming it guards against the wrong key.
pub(super) fn same_mode(fields: &mut Fields, mode: Mode, errors: &mut Errors) {
    if fields.optional_text("mode", errors).is_some_and(|named| named != mode.as_str()) {
        errors.field("/mode", "other_mode", format_args!("must be {mode}, the mode of the key"));
    }
}

impl View {
    async fn new(ingress: &Ingress, provider: Provider, caller: &Caller) -> Result<Self, Problem> {
        let mode = caller.mode();
        let (providers, store) = (&ingress.recorder.providers, &ingress.recorder.store);
        let circuit = CircuitView::new(store.circuit(provider, mode).await?, store.clock().now(), caller.key().may(Scope::Operator));
        let configured = providers.configured(mode).any(|configured| configured == provider);
        let mut profile = providers.profile(provider, mode);
        // Payouts of different pages never share a request, however many of them the provider takes.
        profile.batch_max = profile.batch_max.map(|most| most.min(PAGE));
        Ok(Self { configured, circuit, profile })
    }
}

impl CircuitView {
    /// Merchants see that a provider is paused, and operators who did it and why.
    fn new(circuit: Circuit, now: Timestamp, for_operators: bool) -> Self {
        let (state, draining) = (circuit.state(now), circuit.draining_until(now));
        let order =
            |Order { by, reason, at }| OrderView { by: Some(by).filter(|_| for_operators), reason: reason.filter(|_| for_operators), at: Moment(at) };
        let progress = if draining.is_some() { "draining" } else { "effective" };
        Self {
            state,
            held: circuit.held,
            paused: circuit.paused.map(|paused| PauseView { order: order(paused), progress, effective_at: draining.map(Moment) }),
            resumed: circuit.resumed.map(order),
            tripped: circuit.tripped.map(|trip| TripView {
                why: trip.why,
                since: Moment(trip.since),
                next_trial_at: Moment(trip.until.max(trip.trial.unwrap_or(trip.until))),
                trips: trip.trips,
            }),
        }
    }
}
