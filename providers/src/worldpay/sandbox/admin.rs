//! The routes for testers: what was asked for, what moved, and what is to go wrong next.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use super::Sandbox;
use super::mood::{Distribution, Mood};
use super::refusals::{body_of, error};

pub(super) fn routes(router: Router<Sandbox>) -> Router<Sandbox> {
    router
        .route("/sandbox/ledger", get(ledger))
        .route("/sandbox/payouts/{key}", get(view))
        .route("/sandbox/payouts/{key}/advance", post(advance))
        .route("/sandbox/moods", get(list_moods).post(set_moods))
}

async fn ledger(State(sandbox): State<Sandbox>) -> Response {
    Json(sandbox.ledger()).into_response()
}

async fn view(State(sandbox): State<Sandbox>, Path(key): Path<String>) -> Response {
    let view = sandbox.shared.book.view(&key);
    view.map_or_else(|| error(StatusCode::NOT_FOUND, "notFound", "Payment not found"), |view| Json(view).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    to: String,
}

async fn advance(State(sandbox): State<Sandbox>, Path(key): Path<String>, body: Bytes) -> Response {
    match body_of::<Advance>(&body) {
        Ok(Advance { to }) if sandbox.advance_text(&key, &to) => StatusCode::NO_CONTENT.into_response(),
        Ok(Advance { .. }) => error(StatusCode::CONFLICT, "conflict", "It cannot go there from where it is."),
        Err(response) => *response,
    }
}

async fn list_moods() -> Response {
    let describe = |(amount, mood): (i64, Mood)| serde_json::json!({"mood": mood, "what": mood.sentence(), "amount_in_minor": amount, "narrative": format!("MOOD {}", mood.name())});
    let moods = (Mood::FIRST_AMOUNT..).zip(Mood::ALL).map(describe).collect::<Vec<_>>();
    Json(serde_json::json!({"moods": moods})).into_response()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SetMoods {
    Next(NextMoods),
    Random(Distribution),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NextMoods {
    next: u32,
    mood: Mood,
}

async fn set_moods(State(sandbox): State<Sandbox>, body: Bytes) -> Response {
    match body_of(&body) {
        Ok(SetMoods::Next(NextMoods { next, mood })) => sandbox.set_mood(next, mood),
        Ok(SetMoods::Random(distribution)) => sandbox.set_random(Some(distribution)),
        Err(response) => return *response,
    }
    StatusCode::NO_CONTENT.into_response()
}
