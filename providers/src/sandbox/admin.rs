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

use super::all::having;
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

/// Moods for people: what they do, how a payout asks for them, and where they exist.
pub(crate) fn described(moods: &[Mood]) -> Vec<serde_json::Value> {
    let describe = |mood: &Mood| {
        let reference: String = format!("MOOD {}", mood.name()).chars().take(SHORTEST_REFERENCE).collect();
        let (what, amount, places) = (mood.sentence(), mood.amount(), having(*mood));
        serde_json::json!({"mood": mood, "what": what, "amount_in_minor": amount, "beneficiary_reference": reference, "where": places})
    };
    moods.iter().map(describe).collect()
}

/// The longest reference that every provider takes, in characters.
const SHORTEST_REFERENCE: usize = 18;

/// Either `next` and `mood`, or `fault_percent` and `seed`, and `moods` if they are to be others than the usual ones. Moods are texts here, so that one
/// that is misspelt is told apart from other mistakes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetMoods {
    next: Option<u32>,
    mood: Option<String>,
    fault_percent: Option<u8>,
    seed: Option<u64>,
    moods: Option<Vec<String>>,
}

enum Wish {
    Next(u32, Mood),
    Random(Distribution),
}

impl SetMoods {
    /// What is wished for, at a provider where these moods exist.
    fn wish(self, existing: &[Mood]) -> Result<Wish, String> {
        let missing = |field: &str| format!("missing field `{field}`");
        let of = |name: &str, moods: &[Mood]| {
            let found = moods.iter().copied().find(|mood| mood.name() == name);
            found.ok_or_else(|| format!("this provider has no mood `{name}`: GET of this address lists those that it has"))
        };
        match self {
            Self { next: None, mood: None, fault_percent: None, seed: None, moods: None } => {
                Err("expected `next` and `mood`, or `fault_percent` and `seed`".to_owned())
            }
            Self { next, mood, fault_percent: None, seed: None, moods: None } => {
                let next = next.ok_or_else(|| missing("next"))?;
                let mood = mood.ok_or_else(|| missing("mood"))?;
                Ok(Wish::Next(next, of(&mood, existing)?))
            }
            Self { next: None, mood: None, fault_percent, seed, moods } => {
                let fault_percent = fault_percent.ok_or_else(|| missing("fault_percent"))?;
                let seed = seed.ok_or_else(|| missing("seed"))?;
                // Those that exist elsewhere only are not drawn here, so that all providers can be told the same.
                let moods = moods.map(|moods| moods.iter().map(|name| of(name, &Mood::ALL)).collect::<Result<Vec<_>, _>>()).transpose()?;
                Ok(Wish::Random(Distribution { fault_percent, seed, moods: moods.unwrap_or_else(Distribution::usual) }))
            }
            Self { .. } => Err("expected `next` and `mood`, or `fault_percent` and `seed`, and not fields of both".to_owned()),
        }
    }
}

async fn set_moods<D: Desk>(State(desk): State<D>, body: Bytes) -> Response {
    let wish = match read::<SetMoods>(&body) {
        Ok(moods) => moods.wish(D::MOODS),
        Err(response) => return *response,
    };
    match wish {
        Ok(Wish::Next(next, mood)) => desk.set_mood(next, mood),
        Ok(Wish::Random(distribution)) => desk.set_random(Some(distribution)),
        Err(problem) => return (StatusCode::BAD_REQUEST, problem).into_response(),
    }
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_a_wish_for_moods_is_named() {
        let problem = |body: &str| {
            let wish = serde_json::from_str::<SetMoods>(body).map_err(|problem| problem.to_string());
            wish.and_then(|moods| moods.wish(Mood::COMMON)).err().unwrap_or_else(|| panic!("{body}"))
        };
        for (body, named) in [
            (r#"{"next": 1, "mood": "nope"}"#, "this provider has no mood `nope`: GET of this address lists those that it has"),
            (r#"{"next": 1, "mood": "interim"}"#, "this provider has no mood `interim`"),
            (r#"{"fault_percent": 1, "seed": 1, "moods": ["fail", "nope"]}"#, "this provider has no mood `nope`"),
            (r#"{"nxt": 1}"#, "unknown field `nxt`, expected one of `next`, `mood`, `fault_percent`, `seed`, `moods`"),
            (r#"{"next": 1}"#, "missing field `mood`"),
            (r#"{"mood": "fail"}"#, "missing field `next`"),
            (r#"{"seed": 1}"#, "missing field `fault_percent`"),
            (r#"{"fault_percent": 1}"#, "missing field `seed`"),
            ("{}", "expected `next` and `mood`, or `fault_percent` and `seed`"),
            (r#"{"next": 1, "mood": "fail", "seed": 1}"#, "not fields of both"),
        ] {
            assert!(problem(body).contains(named), "{body}: {}", problem(body));
        }
        let wish = |body: &str| serde_json::from_str::<SetMoods>(body).unwrap().wish(Mood::COMMON).unwrap();
        assert!(matches!(wish(r#"{"next": 3, "mood": "fail"}"#), Wish::Next(3, Mood::Fail)));
        let Wish::Random(usual) = wish(r#"{"fault_percent": 20, "seed": 7}"#) else { panic!("chance") };
        assert_eq!(usual, Distribution { fault_percent: 20, seed: 7, moods: Distribution::usual() });
        let Wish::Random(elsewhere) = wish(r#"{"fault_percent": 20, "seed": 7, "moods": ["interim"]}"#) else { panic!("chance") };
        assert_eq!(elsewhere.moods, [Mood::Interim]);
    }
}
