//! The routes under `/sandbox` that every sandbox has. They have no authentication: the listener belongs on an address that only testers reach.
//!
//! | route | what it is |
//! |---|---|
//! | `GET /sandbox/ledger` | movements, and how many were double |
//! | `GET /sandbox/payouts/{key}` | the calls that it got and the notices that it sent |
//! | `POST /sandbox/payouts/{key}/advance` | `{"to": "…"}`: moves a payout by hand |
//! | `GET`, `POST /sandbox/moods` | the list; `{"next": 3, "mood": "fail"}` or `{"fault_percent": 20, "seed": 7}` |

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::audit::Ledger;
use super::mood::{Distribution, Mood};

/// A sandbox, as far as its admin needs it.
pub(crate) trait Desk: Clone + Send + Sync + 'static {
    type Stage: DeserializeOwned + Send;

    /// The moods that exist here.
    const MOODS: &'static [Mood];

    fn ledger(&self) -> Ledger;
    /// Everything about one key of ours, if it was ever seen.
    fn view(&self, key: &str) -> Option<serde_json::Value>;
    /// False if there is no such payout or it cannot go there from where it is.
    fn advance(&self, key: &str, to: Self::Stage) -> bool;
    fn set_mood(&self, count: u32, mood: Mood);
    fn set_random(&self, distribution: Option<Distribution>);
}

pub(crate) fn routes<D: Desk>() -> Router<D> {
    Router::new()
        .route("/sandbox/ledger", get(ledger::<D>))
        .route("/sandbox/payouts/{key}", get(view::<D>))
        .route("/sandbox/payouts/{key}/advance", post(advance::<D>))
        .route("/sandbox/moods", get(list_moods::<D>).post(set_moods::<D>))
}

/// A JSON body of an admin route, or the answer that says what is wrong with it.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    serde_json::from_slice(body).map_err(|problem| Box::new((StatusCode::BAD_REQUEST, problem.to_string()).into_response()))
}

async fn ledger<D: Desk>(State(desk): State<D>) -> Response {
    Json(desk.ledger()).into_response()
}

async fn view<D: Desk>(State(desk): State<D>, Path(key): Path<String>) -> Response {
    desk.view(&key).map_or_else(|| StatusCode::NOT_FOUND.into_response(), |view| Json(view).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance<S> {
    to: S,
}

async fn advance<D: Desk>(State(desk): State<D>, Path(key): Path<String>, body: Bytes) -> Response {
    match read::<Advance<D::Stage>>(&body) {
        Ok(Advance { to }) => {
            let status = if desk.advance(&key, to) { StatusCode::NO_CONTENT } else { StatusCode::CONFLICT };
            status.into_response()
        }
        Err(response) => *response,
    }
}

async fn list_moods<D: Desk>() -> Response {
    Json(serde_json::json!({"moods": described(D::MOODS)})).into_response()
}

/// Moods for people: what they do, and how a payout asks for them.
pub(crate) fn described(moods: &[Mood]) -> Vec<serde_json::Value> {
    let describe = |mood: &Mood| {
        let reference: String = format!("MOOD {}", mood.name()).chars().take(SHORTEST_REFERENCE).collect();
        serde_json::json!({"mood": mood, "what": mood.sentence(), "amount_in_minor": mood.amount(), "beneficiary_reference": reference})
    };
    moods.iter().map(describe).collect()
}

/// The longest reference that every provider takes, in characters.
const SHORTEST_REFERENCE: usize = 18;

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

async fn set_moods<D: Desk>(State(desk): State<D>, body: Bytes) -> Response {
    match read(&body) {
        Ok(SetMoods::Next(NextMoods { mood, .. })) if !D::MOODS.contains(&mood) => {
            return (StatusCode::BAD_REQUEST, "this provider does not have that mood").into_response();
        }
        Ok(SetMoods::Next(NextMoods { next, mood })) => desk.set_mood(next, mood),
        Ok(SetMoods::Random(distribution)) => desk.set_random(Some(distribution)),
        Err(response) => return *response,
    }
    StatusCode::NO_CONTENT.into_response()
}
