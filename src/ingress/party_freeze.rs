//! `/parties/{partyId}/freeze`: whether payouts of a party are sent, and the button that stops them. Not its status: what is asked for is accepted, and waits.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use domain::credential::Scope;
use domain::id::{Mode, PartyId};
use serde::Serialize;
use workers::store::circuits::Order;
use workers::store::party_freeze::PartyFreeze;

use super::balances::platform;
use super::intake::Duty;
use super::parties::within_reach;
use super::problem::{Errors, Kind, Problem};
use super::providers::same_mode;
use super::replays::instant;
use super::view::{Moment, result};
use super::{Ingress, commands, json};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/parties/{partyId}/freeze", get(one).post(freeze)).route("/parties/{partyId}/thaw", post(thaw))
}

#[derive(Serialize)]
struct View<'a> {
    party_id: &'a PartyId,
    mode: Mode,
    frozen: bool,
    /// `draining`: what was permitted before the freeze may still be on its way. `effective`: nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_at: Option<Moment>,
    /// Payouts that wait for the end.
    held: u64,
    /// Who said so last, and why.
    #[serde(flatten)]
    order: Option<OrderView>,
}

#[derive(Serialize)]
struct OrderView {
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    at: Moment,
}

async fn one(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::Operator).await?;
    let party = within_reach(&caller, &id)?;
    platform(&caller)?;
    ingress.freeze_shown(&party, caller.mode()).await
}

/// `POST /parties/{partyId}/freeze` with `{"reason", "mode"}`: from now on no payout of the party is sent. The first freeze stays, and so does its reason.
async fn freeze(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::Operator, Duty::None).await?;
    let party = within_reach(&caller, &id)?;
    platform(&caller)?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let mut fields = json::read(&body, &mut errors)?;
    let reason = fields.text("reason", &mut errors).and_then(|text| commands::note("/reason", text, &mut errors));
    same_mode(&mut fields, caller.mode(), &mut errors);
    fields.finish(&mut errors);
    let (Some(reason), true) = (reason, errors.is_empty()) else { return Err(errors.into_problem()) };
    let store = &ingress.recorder.store;
    let order = Order { by: caller.key().owner.clone(), reason: Some(reason), at: store.clock().now() };
    store.freeze_party(&party, caller.mode(), &order).await?;
    tracing::warn!(party.id = %party, mode = caller.mode().as_str(), by = order.by, "dispatch for a party is frozen");
    ingress.freeze_shown(&party, caller.mode()).await
}

/// `POST /parties/{partyId}/thaw`, with an optional body `{"reason", "mode", "frozen_at"}`. It lets money move, so keys that must sign sign the whole request.
async fn thaw(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::Operator, Duty::Request).await?;
    let party = within_reach(&caller, &id)?;
    platform(&caller)?;
    let mut errors = Errors::default();
    let mut fields = commands::optional_body(&parts, &body, &mut errors)?;
    let reason = fields.optional_text("reason", &mut errors).and_then(|text| commands::note("/reason", text, &mut errors));
    let frozen_at = instant(&mut fields, "frozen_at", &mut errors);
    same_mode(&mut fields, caller.mode(), &mut errors);
    fields.finish(&mut errors);
    errors.check()?;
    let store = &ingress.recorder.store;
    let order = Order { by: caller.key().owner.clone(), reason, at: store.clock().now() };
    if store.thaw_party(&party, caller.mode(), &order, frozen_at).await? {
        tracing::warn!(party.id = %party, mode = caller.mode().as_str(), by = order.by, "dispatch for a party is thawed");
    } else if let (Some(_), Some(frozen)) = (frozen_at, store.party_freeze(&party, caller.mode()).await?.frozen) {
        let detail = format!("The party is frozen since {:.7}. Nothing was thawed.", frozen.at);
        return Err(Problem::new(Kind::VersionStale, detail));
    }
    ingress.freeze_shown(&party, caller.mode()).await
}

impl Ingress {
    async fn freeze_shown(&self, party: &PartyId, mode: Mode) -> Result<Response, Problem> {
        let PartyFreeze { frozen, thawed, draining_until, held } = self.recorder.store.party_freeze(party, mode).await?;
        let progress = frozen.as_ref().map(|_| if draining_until.is_some() { "draining" } else { "effective" });
        let view = View {
            party_id: party,
            mode,
            frozen: frozen.is_some(),
            progress,
            effective_at: draining_until.map(Moment),
            held,
            order: frozen.or(thawed).map(|Order { by, reason, at }| OrderView { by, reason, at: Moment(at) }),
        };
        Ok(result(StatusCode::OK, &view))
    }
}
