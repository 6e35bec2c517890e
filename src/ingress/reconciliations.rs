//! `/v1/reconciliations`: what the comparisons of `payrelay reconcile` came to, for as many days as `reconciliation.kept_days` says.
//!
//! They are about the payouts of all parties, so only keys of the platform see them: those of their mode.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use domain::credential::Scope;
use domain::fact::Provider;
use domain::id::Mode;
use jiff::civil::Date;
use serde::Serialize;
use workers::store::reconciliations::Reconciled;

use super::Ingress;
use super::balances::platform;
use super::problem::Problem;
use super::view::{Moment, answer};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/v1/reconciliations", get(list)).route("/v1/reconciliations/{day}", get(of_day))
}

/// A day at a provider, as JSON.
#[derive(Serialize)]
struct View {
    /// In UTC.
    day: Date,
    provider: Provider,
    mode: Mode,
    compared_at: Moment,
    /// `unfinished`: the day was not over, so there may be more; `whole`: it was, and both sides were read whole.
    status: &'static str,
    matched: u64,
    /// How many there are of each kind; empty if nothing differs.
    breaks: BTreeMap<&'static str, u64>,
}

impl View {
    fn new(of: &Reconciled) -> Self {
        let breaks = of.breaks.iter().map(|(kind, count)| (kind.name(), *count)).collect();
        Self {
            day: of.day,
            provider: of.provider,
            mode: of.mode,
            compared_at: Moment(of.at),
            status: if of.is_finished() { "whole" } else { "unfinished" },
            matched: of.matched,
            breaks,
        }
    }
}

async fn list(State(ingress): State<Arc<Ingress>>, headers: HeaderMap) -> Result<Response, Problem> {
    ingress.reconciliations(&headers, |_| true).await
}

async fn of_day(State(ingress): State<Arc<Ingress>>, Path(day): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let day = day.parse::<Date>().ok().filter(|date| date.to_string() == day).ok_or_else(|| Problem::not_found("day"))?;
    ingress.reconciliations(&headers, |of| of.day == day).await
}

impl Ingress {
    /// Newest first. A day that nobody has compared, or that is no longer kept, has none.
    async fn reconciliations(&self, headers: &HeaderMap, keep: impl Fn(&Reconciled) -> bool) -> Result<Response, Problem> {
        #[derive(Serialize)]
        struct List {
            results: Vec<View>,
        }
        let caller = self.admit(headers, Scope::PayoutsRead).await?;
        platform(&caller)?;
        let mut found = self.recorder.store.reconciled().await?;
        found.retain(|of| of.mode == caller.mode() && keep(of));
        found.sort_by_key(|of| (std::cmp::Reverse(of.day), of.provider));
        Ok(answer(StatusCode::OK, &List { results: found.iter().map(View::new).collect() }))
    }
}
