//! `/v1/portal-links`: the way into the portal for a party, handed out by the platform or with a key of the party's own.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use domain::credential::{Scope, token_hash};
use domain::id::{Mode, PartyId};
use domain::portal::Access;
use serde::Serialize;

use super::intake::Duty;
use super::payouts::party_in;
use super::problem::{Errors, Kind, Problem};
use super::view::{Moment, result, set};
use super::{Ingress, caller, json, order};
use crate::portal::link::{self, Wish};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/v1/portal-links", post(make).delete(take_back))
}

#[derive(Serialize)]
struct View<'a> {
    /// To be opened once, in a browser, by whoever it is for.
    url: &'a str,
    party_id: &'a PartyId,
    mode: Mode,
    access: &'static str,
    expires_at: Moment,
}

/// With `{"access", "party_id"}`. A key hands out no more than it may itself.
async fn make(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::WebhooksRead, Duty::None).await?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let mut fields = json::read(&body, &mut errors)?;
    let access = fields.text("access", &mut errors).and_then(|name| {
        let access = Access::named(&name);
        if access.is_none() {
            errors.field("/access", "unknown_value", "must be read or manage");
        }
        access
    });
    let party = order::party_id(&mut fields, &mut errors);
    fields.finish(&mut errors);
    let (Some(access), true) = (access, errors.is_empty()) else { return Err(errors.into_problem()) };
    let party = ingress.party(&caller, party)?;
    if !caller.key().may(access.scope()) {
        return Err(Problem::new(Kind::MissingScope, format!("The scope `{}` is needed.", access.scope().name())));
    }
    let settings = ingress.enabled_portal()?;
    let host = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or(&ingress.settings.listen);
    let base = settings.url.clone().unwrap_or_else(|| format!("http://{}", host()));
    let key = caller::token(&parts.headers).map(|token| token_hash(&ingress.pepper, &token));
    let wish = Wish { party: party.clone(), mode: caller.mode(), access, by: caller.key().owner.clone(), key };
    let made = link::make(&ingress.recorder.store, &ingress.pepper, settings, &base, wish).await?;
    let Some(made) = made else {
        return Err(Problem::new(Kind::Overloaded, "The party was given as many links lately as it can have. Nothing was made."));
    };
    let view = View { url: &made.url, party_id: &party, mode: caller.mode(), access: access.name(), expires_at: Moment(made.use_by) };
    let mut response = result(StatusCode::CREATED, &view);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    Ok(response)
}

/// All links and sessions of the party that were made until now are of no use any more.
async fn take_back(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksWrite).await?;
    let party = ingress.party(&caller, party_in(query.as_deref())?)?;
    ingress.enabled_portal()?;
    link::take_back(&ingress.recorder.store, &party, caller.mode()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Ingress {
    fn enabled_portal(&self) -> Result<&crate::portal::Settings, Problem> {
        let portal = &self.settings.portal;
        if portal.enabled { Ok(portal) } else { Err(Problem::new(Kind::NotFound, "This installation has no portal (`portal.enabled`).")) }
    }
}
