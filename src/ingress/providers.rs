//! `/v1/providers`: what the configured providers are like, as the workers see them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use domain::credential::Scope;
use domain::fact::Provider;
use providers::profile::Profile;
use serde::Serialize;

use super::Ingress;
use super::problem::Problem;
use super::view::{answer, result};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/v1/providers", get(list)).route("/v1/providers/{name}", get(one))
}

/// A profile, and whether payouts of the caller's mode can go there.
#[derive(Serialize)]
struct View {
    configured: bool,
    #[serde(flatten)]
    profile: Profile,
}

async fn list(State(ingress): State<Arc<Ingress>>, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List {
        results: Vec<View>,
    }
    let mode = ingress.admit(&headers, Scope::PayoutsRead).await?.mode();
    let results = Provider::ALL.into_iter().map(|provider| View::new(&ingress, provider, mode)).collect();
    Ok(answer(StatusCode::OK, &List { results }))
}

async fn one(State(ingress): State<Arc<Ingress>>, Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let mode = ingress.admit(&headers, Scope::PayoutsRead).await?.mode();
    let provider = Provider::named(&name).ok_or_else(|| Problem::not_found("provider"))?;
    Ok(result(StatusCode::OK, &View::new(&ingress, provider, mode)))
}

impl View {
    fn new(ingress: &Ingress, provider: Provider, mode: domain::id::Mode) -> Self {
        let providers = &ingress.recorder.providers;
        Self { configured: providers.configured(mode).any(|configured| configured == provider), profile: providers.profile(provider, mode) }
    }
}
