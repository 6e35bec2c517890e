//! Is the process alive, can it serve, what does it count.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::json;

use super::Ingress;
use super::view::answer;

/// Writes the metrics in Prometheus' text format.
pub type Scrape = Arc<dyn Fn() -> String + std::marker::Send + Sync>;

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/livez", get(alive)).route("/readyz", get(ready))
}

/// `/metrics`, on the admin listener only.
pub(super) fn metrics(scrape: Scrape) -> Router<Arc<Ingress>> {
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))];
    Router::new().route("/metrics", get(async move || (content_type, scrape()).into_response()))
}

/// The process answers: nothing else is asked, so that trouble with the store does not lead to restarts.
async fn alive() -> Response {
    answer(StatusCode::OK, &json!({ "status": "alive" }))
}

/// New requests make sense: the store answers, and we are not about to go.
async fn ready(State(ingress): State<Arc<Ingress>>) -> Response {
    let store = ingress.recorder.store.ping().await.is_ok();
    let staying = !ingress.shutdown.is_cancelled();
    let word = |good: bool, bad: &'static str| if good { "ok" } else { bad };
    let checks = json!({ "store": word(store, "does not answer"), "shutdown": word(staying, "draining") });
    let (status, text) = if store && staying { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    answer(status, &json!({ "status": text, "checks": checks }))
}
