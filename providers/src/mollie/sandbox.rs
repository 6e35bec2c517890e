//! A server that speaks Mollie's Payouts and Balances API v2, moves imaginary money, and can misbehave on purpose.
//!
//! It is as strict as the provider is documented to be: unknown fields are refused, an API key must not name the mode and a token of an organisation must,
//! one payout per balance can wait for its day, a key is remembered for an hour and then pays again. What it does with a payout is decided by a
//! [`Mood`]; what moved is kept in a [`Ledger`] of its own. Shapes follow the documentation; what that leaves open is marked ASSUMED in [`super::wire`] and here.
//!
//! | route | what it is |
//! |---|---|
//! | `POST`, `GET /v2/payouts`; `GET`, `DELETE /v2/payouts/{id}` | payouts |
//! | `GET /v2/balances`, `/v2/balances/{id}`, `/v2/balances/primary` | balances |
//! | `/sandbox/ledger`, `/sandbox/payouts/{key}`, `…/advance`, `/sandbox/moods` | as in every sandbox; `key` is the `Idempotency-Key` |
//! | `POST /sandbox/balances/{id}` | a [`Trouble`], for example `{"blocked": true}`: why payouts of that balance are refused |
//! | `POST /sandbox/lockout` | `{"next": 2}`: so many requests are answered with 401 |
//!
//! The `/sandbox` routes have no authentication: the listener belongs on an address that only testers reach.

pub mod balance;
mod create;
mod notices;
mod payout;
mod settings;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::balance::{Balances, Trouble};
use self::create::create_payout;
pub use self::notices::{Payload, Spelling};
use self::notices::{Sender, Told};
pub use self::payout::Stage;
pub use self::settings::Settings;
use super::wire;
use super::wire::{Embedded, EmbeddedBalances, EmbeddedPayouts, ErrorBody, Link, PageLinks, Payout, Payouts, described_key};
use crate::clock;
use crate::http::ClientError;
use crate::sandbox::admin::{self, Desk};
use crate::sandbox::audit::{Ledger, Movement};
use crate::sandbox::behaviour::milliseconds;
use crate::sandbox::book::{Book, View};
use crate::sandbox::course::{self, Course, Errands};
use crate::sandbox::line;
use crate::sandbox::mood::{Distribution, Mood};
use crate::sandbox::outbox::{Outbox, Retries};
use crate::sandbox::random_uuid;

/// Why a sandbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("notice_url")]
    NoticeUrl(#[source] ClientError),
    #[error("journal")]
    Journal(#[source] std::io::Error),
}

/// A sandbox. Cloning shares it.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

struct Shared {
    settings: Settings,
    book: Book<Payout>,
    balances: Balances,
    sender: Sender,
    lockout: Mutex<u32>,
    errands: Errands,
}

impl Sandbox {
    /// Opens a sandbox, with the payouts of its journal if it has one. Sends and serves nothing yet.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names the setting.
    pub fn new(settings: Settings) -> Result<Self, OpenError> {
        let retries = Retries {
            attempts: settings.notice_attempts,
            first_wait: Duration::from_millis(settings.notice_wait_ms),
            longest_wait: Duration::from_secs(2 * 3600),
            total: Duration::from_secs(26 * 3600),
        };
        let sender = Sender {
            outbox: Outbox::new(settings.notice_url.as_deref(), retries).map_err(OpenError::NoticeUrl)?,
            secrets: settings.notice_secrets.clone(),
            payload: settings.payload,
            spelling: settings.spelling,
        };
        let book = Book::open(&settings.behaviour, Some(milliseconds(settings.remembered_ms))).map_err(OpenError::Journal)?;
        let balances = Balances::new(&settings.balances);
        let shared = Shared { settings, book, balances, sender, lockout: Mutex::new(0), errands: Errands::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The auditor's report.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.book.ledger()
    }

    /// Every movement of money, oldest first.
    #[must_use]
    pub fn movements(&self) -> Vec<Movement> {
        self.ledger().movements
    }

    /// Everything about one `Idempotency-Key`, if it was ever seen.
    #[must_use]
    pub fn payout(&self, key: Uuid) -> Option<View<Payout>> {
        self.shared.book.view(key)
    }

    /// The next `count` new payouts get that mood, unless they choose one by amount or reference.
    pub fn set_mood(&self, count: u32, mood: Mood) {
        self.shared.book.set_mood(count, mood);
    }

    /// Random moods for payouts that get none otherwise; `None` for plain.
    pub fn set_random(&self, distribution: Option<Distribution>) {
        self.shared.book.set_distribution(distribution);
    }

    /// What is wrong with a balance from now on. False if there is no such balance.
    pub fn set_trouble(&self, balance_id: &str, trouble: Trouble) -> bool {
        self.shared.balances.trouble(balance_id, trouble)
    }

    /// Answers the next `count` requests with 401.
    pub fn lock_out(&self, count: u32) {
        *self.shared.lockout.lock().unwrap_or_else(PoisonError::into_inner) = count;
    }

    /// Moves the last payout of a key by hand and sends the notice, as for one in the mood `stuck`. Must be called inside a tokio runtime.
    ///
    /// False if there is no such payout or it cannot go there from where it is.
    pub fn advance(&self, key: Uuid, stage: Stage) -> bool {
        let Some(id) = self.shared.book.id_of(key) else { return false };
        let Some(told) = self.step(&id, stage) else { return false };
        course::announce(self, id, told);
        true
    }

    /// All routes. Dropping a connection (moods `lost-answer`, `late-appear`) needs [`Sandbox::serve`]; elsewhere the answer is a 500.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v2/payouts", post(create_payout).get(list_payouts))
            .route("/v2/payouts/{id}", get(get_payout).delete(cancel_payout))
            .route("/v2/balances", get(list_balances))
            .route("/v2/balances/{id}", get(get_balance))
            .merge(admin::routes())
            .route("/sandbox/balances/{id}", post(set_trouble))
            .route("/sandbox/lockout", post(set_lockout))
            .fallback(|| async { no_entity("") })
            .layer(axum::middleware::map_response(rate_limited))
            .with_state(self.clone())
    }

    /// Serves until `shutdown`, then cuts every connection and stops sending notices, as a process that ends would.
    /// Payouts of the journal that have not ended go on.
    ///
    /// # Errors
    ///
    /// If the listener fails.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        self.resume();
        let served = line::serve(self.router(), listener, shutdown).await;
        self.stop();
        served
    }

    /// Goes on with the payouts of the journal that have not ended. Must be called inside a tokio runtime.
    pub(crate) fn resume(&self) {
        let ended = |mood: Mood, payout: &Payout| match payout.status.as_str() {
            "failed" | "canceled" => true,
            "completed" => mood != Mood::Return,
            _ => false,
        };
        for (id, mood) in self.shared.book.unfinished(ended) {
            course::begin(self, id, mood, None);
        }
    }

    /// Moves and tells nothing more.
    pub(crate) fn stop(&self) {
        self.shared.errands.stopped.cancel();
    }

    /// Whether nothing will move or be told any more without somebody's doing.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.shared.errands.are_done()
    }

    /// The mode that a request is about, or what is wrong with it. Reads name it in the query, creates in the body.
    fn mode(&self, headers: &HeaderMap, testmode: Option<bool>) -> Result<&'static str, Box<Response>> {
        {
            let mut lockout = self.shared.lockout.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(left) = lockout.checked_sub(1) {
                *lockout = left;
                return Err(Box::new(unauthorized()));
            }
        }
        let ours = self.shared.settings.api_key.expose_secret();
        let theirs = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if theirs.is_none_or(|theirs| aws_lc_rs::constant_time::verify_slices_are_equal(theirs, ours.as_bytes()).is_err()) {
            return Err(Box::new(unauthorized()));
        }
        let of_key = match ours.split_once('_') {
            Some(("test", _)) => Some("test"),
            Some(("live", _)) => Some("live"),
            _ => None,
        };
        match (of_key, testmode) {
            (Some(mode), None) => Ok(mode),
            // "Must not be sent" (H); that it is an error of this kind is ASSUMED.
            (Some(_), Some(_)) => Err(Box::new(unprocessable("The 'testmode' field must not be sent with an API key.", Some("testmode")))),
            (None, Some(true)) => Ok("test"),
            (None, Some(false) | None) => Ok("live"),
        }
    }

    /// The mode of a read.
    fn reads(&self, headers: &HeaderMap, query: &HashMap<String, String>) -> Result<&'static str, Box<Response>> {
        self.mode(headers, query.get("testmode").map(|value| value == "true"))
    }
}

impl Desk for Sandbox {
    type Stage = Stage;

    const MOODS: &'static [Mood] = Mood::COMMON;

    fn ledger(&self) -> Ledger {
        Self::ledger(self)
    }

    fn view(&self, key: &str) -> Option<serde_json::Value> {
        serde_json::to_value(self.payout(key.parse().ok()?)?).ok()
    }

    fn advance(&self, key: &str, to: Stage) -> bool {
        key.parse().is_ok_and(|key| Self::advance(self, key, to))
    }

    fn set_mood(&self, count: u32, mood: Mood) {
        Self::set_mood(self, count, mood);
    }

    fn set_random(&self, distribution: Option<Distribution>) {
        Self::set_random(self, distribution);
    }
}

impl Course for Sandbox {
    type Id = String;
    type Stage = Stage;
    type Moved = Told;

    fn plan(&self, _: &String, mood: Mood) -> Vec<(u64, Stage)> {
        let settings = &self.shared.settings;
        let (initiated, completed) = ((settings.initiate_after_ms, Stage::Initiated), (settings.complete_after_ms, Stage::Completed));
        let processing = (settings.process_after_ms, Stage::ProcessingAtBank);
        match mood {
            Mood::Reject => vec![(settings.initiate_after_ms, Stage::Unfunded)],
            Mood::Fail => vec![initiated, processing, (settings.complete_after_ms, Stage::Failed)],
            Mood::Stuck => vec![initiated, processing],
            Mood::Return if settings.return_uncompleted => vec![initiated, processing, (settings.behaviour.return_after_ms, Stage::Returned)],
            Mood::Return => vec![initiated, processing, completed, (settings.behaviour.return_after_ms, Stage::Returned)],
            _ => vec![initiated, processing, completed],
        }
    }

    fn step(&self, id: &String, stage: Stage) -> Option<Told> {
        let now = clock::now();
        self.shared.book.change(id, |kept, out| {
            let amount = kept.payout.amount.as_ref()?.exact()?;
            let balance = self.shared.balances.find(&kept.payout.balance_id)?;
            // The day has come, and the money is gone.
            let poor = stage == Stage::Initiated && balance.available(out) < i128::from(amount.minor());
            let stage = if poor { Stage::Unfunded } else { stage };
            let direction = stage.apply(&mut kept.payout, wire::Moment(now))?;
            let movement = direction.map(|direction| Movement {
                // Our key, as the statement carries it: it is the same under whatever key a request came.
                transaction_id: kept.payout.description.as_deref().and_then(described_key).map_or(kept.key, |key| key.as_uuid()),
                direction,
                amount_in_minor: amount.minor(),
                currency: amount.currency().code().to_owned(),
                beneficiary: crate::sandbox::audit::mask_of(&[&kept.payout.balance_id]),
                reference: reference(kept.payout.description.as_deref().unwrap_or_default()).to_owned(),
                at: now,
            });
            Some((Told::new(kept.key, kept.payout.clone()), movement))
        })
    }

    async fn tell(&self, told: &Told, forged: bool) {
        self.shared.sender.send(told, forged, |notice| self.shared.book.notified(told.key, notice)).await;
    }

    fn visible_at(&self, id: &String) -> Option<jiff::Timestamp> {
        self.shared.book.kept(id).map(|kept| kept.visible_at)
    }

    fn errands(&self) -> &Errands {
        &self.shared.errands
    }
}

/// The text for the statement, without our key.
fn reference(description: &str) -> &str {
    match described_key(description) {
        Some(_) => description.rsplit_once(' ').map_or(description, |(reference, _)| reference),
        None => description,
    }
}

/// An error in the provider's shape.
fn error(status: StatusCode, title: &str, detail: &str, field: Option<&str>) -> ErrorBody {
    let links = serde_json::json!({"documentation": {"href": "https://docs.mollie.com/errors", "type": "text/html"}});
    ErrorBody { status: status.as_u16(), title: title.to_owned(), detail: detail.to_owned(), field: field.map(str::to_owned), links: Some(links) }
}

fn failed(status: StatusCode, title: &str, detail: &str) -> Response {
    hal(status, error(status, title, detail, None))
}

fn unprocessable(detail: &str, field: Option<&str>) -> Response {
    hal(StatusCode::UNPROCESSABLE_ENTITY, error(StatusCode::UNPROCESSABLE_ENTITY, "Unprocessable Entity", detail, field))
}

fn unauthorized() -> Response {
    failed(StatusCode::UNAUTHORIZED, "Unauthorized Request", "Missing authentication, or failed to authenticate")
}

fn no_entity(id: &str) -> Response {
    failed(StatusCode::NOT_FOUND, "Not Found", &format!("No entity exists with token '{id}'"))
}

fn broken() -> Response {
    failed(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", "Something went wrong")
}

fn hal(status: StatusCode, body: impl serde::Serialize) -> Response {
    (status, [(header::CONTENT_TYPE, "application/hal+json")], Json(body)).into_response()
}

/// The headers that every answer has (H). The numbers are made up, except that nothing is left after a 429.
async fn rate_limited(mut response: Response) -> Response {
    let value = if response.status() == StatusCode::TOO_MANY_REQUESTS { r#""sandbox";r=0;t=3"# } else { r#""sandbox";r=15;t=2"# };
    response.headers_mut().insert("ratelimit-policy", HeaderValue::from_static(r#""sandbox";q=20;w=3"#));
    response.headers_mut().insert("ratelimit", HeaderValue::from_static(value));
    response
}

type Parameters = Query<HashMap<String, String>>;

async fn get_payout(State(sandbox): State<Sandbox>, Path(id): Path<String>, Query(query): Parameters, headers: HeaderMap) -> Response {
    let mode = match sandbox.reads(&headers, &query) {
        Ok(mode) => mode,
        Err(response) => return *response,
    };
    let payout = sandbox.shared.book.get(&id, clock::now()).filter(|payout| payout.mode == mode);
    payout.map_or_else(|| no_entity(&id), |payout| hal(StatusCode::OK, payout))
}

async fn cancel_payout(State(sandbox): State<Sandbox>, Path(id): Path<String>, Query(query): Parameters, headers: HeaderMap) -> Response {
    let mode = match sandbox.reads(&headers, &query) {
        Ok(mode) => mode,
        Err(response) => return *response,
    };
    if sandbox.shared.book.get(&id, clock::now()).is_none_or(|payout| payout.mode != mode) {
        return no_entity(&id);
    }
    let Some(told) = sandbox.step(&id, Stage::Canceled) else {
        return failed(StatusCode::CONFLICT, "Conflict", "The payout cannot be canceled in its current state.");
    };
    let payout = told.payout.clone();
    course::announce(&sandbox, id, told);
    hal(StatusCode::OK, payout)
}

async fn list_payouts(State(sandbox): State<Sandbox>, Query(query): Parameters, headers: HeaderMap) -> Response {
    let mode = match sandbox.reads(&headers, &query) {
        Ok(mode) => mode,
        Err(response) => return *response,
    };
    let (shared, now) = (&sandbox.shared, clock::now());
    let bad = |detail, field| hal(StatusCode::BAD_REQUEST, error(StatusCode::BAD_REQUEST, "Bad Request", detail, Some(field)));
    let Ok(limit @ 1..=250) = query.get("limit").map_or(Ok(50), |limit| limit.parse::<usize>()) else { return bad("Invalid limit", "limit") };
    let lag = milliseconds(shared.settings.list_lag_ms);
    let mut payouts = shared.book.visible(now);
    payouts.retain(|payout| {
        payout.mode == mode && query.get("balanceId").is_none_or(|id| *id == payout.balance_id) && now.duration_since(payout.created_at.0) >= lag
    });
    if query.get("sort").is_some_and(|sort| sort == "asc") {
        payouts.reverse();
    }
    if let Some(from) = query.get("from") {
        let Some(start) = payouts.iter().position(|payout| payout.id == *from) else { return bad("Invalid cursor value", "from") };
        payouts.drain(..start);
    }
    let next = payouts.get(limit).map(|payout| {
        let mut url = format!("https://api.mollie.com/v2/payouts?from={}&limit={limit}", payout.id);
        for name in ["balanceId", "sort", "testmode"] {
            if let Some(value) = query.get(name) {
                url.push_str(&format!("&{name}={value}"));
            }
        }
        Link { href: url, media_type: "application/hal+json".to_owned() }
    });
    payouts.truncate(limit);
    for payout in &mut payouts {
        payout.links = None;
        if shared.settings.list_undescribed {
            payout.description = None;
        }
    }
    let count = payouts.len() as u64;
    hal(StatusCode::OK, Payouts { count, embedded: EmbeddedPayouts { payouts }, links: PageLinks { next: Some(next), previous: None } })
}

async fn list_balances(State(sandbox): State<Sandbox>, Query(query): Parameters, headers: HeaderMap) -> Response {
    let mode = match sandbox.reads(&headers, &query) {
        Ok(mode) => mode,
        Err(response) => return *response,
    };
    let mut balances = sandbox.shared.balances.all(mode, &sandbox.shared.book.out(), wire::Moment(clock::now()));
    balances.retain(|balance| query.get("currency").is_none_or(|currency| *currency == balance.currency));
    let count = balances.len() as u64;
    hal(StatusCode::OK, wire::Balances { count, embedded: EmbeddedBalances { balances }, links: PageLinks::default() })
}

async fn get_balance(State(sandbox): State<Sandbox>, Path(id): Path<String>, Query(query): Parameters, headers: HeaderMap) -> Response {
    let mode = match sandbox.reads(&headers, &query) {
        Ok(mode) => mode,
        Err(response) => return *response,
    };
    let balances = sandbox.shared.balances.all(mode, &sandbox.shared.book.out(), wire::Moment(clock::now()));
    let found = balances.into_iter().find(|balance| id == "primary" || balance.id == id);
    found.map_or_else(|| no_entity(&id), |balance| hal(StatusCode::OK, balance))
}

async fn set_trouble(State(sandbox): State<Sandbox>, Path(id): Path<String>, body: Bytes) -> Response {
    match admin::read::<Trouble>(&body) {
        Ok(trouble) if sandbox.set_trouble(&id, trouble) => StatusCode::NO_CONTENT.into_response(),
        Ok(_) => no_entity(&id),
        Err(response) => *response,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lockout {
    next: u32,
}

async fn set_lockout(State(sandbox): State<Sandbox>, body: Bytes) -> Response {
    match admin::read::<Lockout>(&body) {
        Ok(Lockout { next }) => sandbox.lock_out(next),
        Err(response) => return *response,
    }
    StatusCode::NO_CONTENT.into_response()
}
