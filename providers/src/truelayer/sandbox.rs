//! A server that speaks TrueLayer's Payouts API v1, moves imaginary money, and can misbehave on purpose.
//!
//! It is as strict as the provider is documented to be: tokens expire, signatures are verified against registered public keys, unknown fields are refused.
//! What it does with a payout is decided by a [`Mood`]. What moved is kept in a [`Ledger`] of its own, against which "at most one movement per
//! payout" is checked. Shapes follow the documentation; what that leaves open is marked ASSUMED in [`super::wire`] and here.
//!
//! | route | what it is |
//! |---|---|
//! | `POST /connect/token` | tokens |
//! | `POST /v1/payouts`, `GET /v1/payouts/{transaction_id}` | payouts |
//! | `GET /v1/transactions`, `GET /v1/balances`, `POST /v1/test` | the rest of the API |
//! | `GET /.well-known/jwks` | the keys of its webhooks |
//! | `GET /sandbox/ledger` | movements, and how many were double |
//! | `GET /sandbox/payouts/{transaction_id}` | the calls that it got and the notices that it sent |
//! | `POST /sandbox/payouts/{transaction_id}/advance` | `{"to": "settled"}`: moves a payout by hand |
//! | `GET`, `POST /sandbox/moods` | the list; `{"next": 3, "mood": "fail"}` or `{"fault_percent": 20, "seed": 7}` |
//! | `POST /sandbox/topups` | `{"currency": "GBP", "amount_in_minor": 500}` |
//! | `POST /sandbox/tokens/revoke` | every token is refused from now on |
//!
//! The `/sandbox` routes have no authentication: the listener belongs on an address that only testers reach.

pub mod book;
pub(crate) mod door;
pub mod notices;
mod settings;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use domain::destination::Iban;
use domain::money::Currency;
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::book::{Book, Created, Ledger, Moved, Movement, SentNotice, Stage, View};
pub use self::door::ClientKey;
use self::door::Door;
use self::notices::Keys;
pub use self::settings::Settings;
use super::wire::{CONTEXT_CODES, CreatePayout, ErrorBody, Event, MAX_TEXT, Many, Moment, One, TopUp, Transaction};
use crate::clock;
use crate::http::{Client, ClientError};
use crate::jws::{Jwks, KeyError};
use crate::sandbox::admin::{self, Desk};
use crate::sandbox::course::{self, Course, Errands};
use crate::sandbox::line::{self, PublicUrl};
use crate::sandbox::mood::{Distribution, Mood};
use crate::sandbox::outbox::{Outbox, Retries};
use crate::sandbox::random_uuid;

/// Why a sandbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("client_keys: {kid}")]
    ClientKey { kid: String, source: KeyError },
    #[error("notice_url")]
    NoticeUrl(#[source] ClientError),
    #[error("the sandbox's keys")]
    Keys(#[source] KeyError),
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
        f.debug_struct("Sandbox").field("jku", &self.jku()).finish_non_exhaustive()
    }
}

struct Shared {
    settings: Settings,
    door: Door,
    keys: Keys,
    book: Book,
    outbox: Outbox,
    public_url: PublicUrl,
    errands: Errands,
}

impl Desk for Sandbox {
    type Stage = Stage;

    const MOODS: &'static [Mood] = Mood::COMMON;

    fn ledger(&self) -> Ledger {
        self.shared.book.ledger()
    }

    fn view(&self, transaction_id: &str) -> Option<serde_json::Value> {
        serde_json::to_value(self.payout(transaction_id.parse().ok()?)?).ok()
    }

    fn advance(&self, transaction_id: &str, to: Stage) -> bool {
        transaction_id.parse().is_ok_and(|id| Self::advance(self, id, to))
    }

    fn set_mood(&self, count: u32, mood: Mood) {
        self.shared.book.set_mood(count, mood);
    }

    fn set_random(&self, distribution: Option<Distribution>) {
        self.shared.book.set_distribution(distribution);
    }
}

impl Sandbox {
    /// Opens a sandbox, with the payouts of its journal if it has one. Sends and serves nothing yet.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names the setting.
    pub fn new(settings: Settings) -> Result<Self, OpenError> {
        let door = Door::new(&settings.client_id, &settings.client_secret, &settings.client_keys, "payouts", settings.token_life_s)?;
        let retries = Retries {
            attempts: settings.notice_attempts,
            first_wait: Duration::from_millis(settings.notice_wait_ms),
            longest_wait: Duration::from_secs(30),
            total: Duration::from_secs(3600),
        };
        let shared = Shared {
            door,
            keys: Keys::generate().map_err(OpenError::Keys)?,
            book: Book::open(&settings.behaviour, settings.accounts.clone(), settings.pays_repeats).map_err(OpenError::Journal)?,
            outbox: Outbox::new(settings.notice_url.as_deref(), retries).map_err(OpenError::NoticeUrl)?,
            public_url: PublicUrl::new(settings.public_url.as_deref()),
            errands: Errands::default(),
            settings,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The public keys of its webhooks.
    ///
    /// # Errors
    ///
    /// [`KeyError::Failed`] if they could not be made.
    pub fn keys(&self) -> Result<Jwks, KeyError> {
        self.shared.keys.public(self.shared.settings.notice_signature)
    }

    /// The address of [`Sandbox::keys`], as its webhooks name it. Complete once it is served, or with `public_url`.
    #[must_use]
    pub fn jku(&self) -> String {
        format!("{}/.well-known/jwks", self.shared.public_url.get())
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

    /// Everything about one `transaction_id`, if it was ever seen.
    #[must_use]
    pub fn payout(&self, transaction_id: Uuid) -> Option<View> {
        self.shared.book.view(transaction_id)
    }

    /// The next `count` new payouts get that mood, unless they choose one by amount or reference.
    pub fn set_mood(&self, count: u32, mood: Mood) {
        self.shared.book.set_mood(count, mood);
    }

    /// Random moods for payouts that get none otherwise; `None` for plain.
    pub fn set_random(&self, distribution: Option<Distribution>) {
        self.shared.book.set_distribution(distribution);
    }

    /// Refuses every token that was given out.
    pub fn revoke_tokens(&self) {
        self.shared.door.revoke();
    }

    /// Moves a payout by hand and sends the notice, as for one in the mood `stuck`. Must be called inside a tokio runtime.
    ///
    /// False if there is no such payout or it cannot go there from where it is.
    pub fn advance(&self, transaction_id: Uuid, stage: Stage) -> bool {
        let Some(moved) = self.step(&transaction_id, stage) else { return false };
        course::announce(self, transaction_id, moved);
        true
    }

    /// All routes. Dropping a connection (moods `lost-answer`, `late-appear`) needs [`Sandbox::serve`]; elsewhere the answer is a 500.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/connect/token", post(token))
            .route("/v1/payouts", post(create_payout))
            .route("/v1/payouts/{transaction_id}", get(get_payout))
            .route("/v1/transactions", get(transactions))
            .route("/v1/balances", get(balances))
            .route("/v1/test", post(test_signature))
            .route("/.well-known/jwks", get(jwks))
            .merge(admin::routes())
            .route("/sandbox/topups", post(top_up))
            .route("/sandbox/tokens/revoke", post(revoke))
            .fallback(|| async { not_found() })
            .with_state(self.clone())
    }

    /// Serves until `shutdown`, then cuts every connection and stops sending notices, as a process that ends would.
    /// Payouts of the journal that have not ended go on.
    ///
    /// # Errors
    ///
    /// If the listener has no address.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        self.shared.public_url.or_that_of(&listener)?;
        self.resume();
        let served = line::serve(self.router(), listener, shutdown).await;
        self.stop();
        served
    }

    /// Goes on with the payouts of the journal that have not ended. Must be called inside a tokio runtime.
    pub(crate) fn resume(&self) {
        for (transaction_id, mood) in self.shared.book.unfinished() {
            course::begin(self, transaction_id, mood, None);
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
}

impl Course for Sandbox {
    type Id = Uuid;
    type Stage = Stage;
    type Moved = Moved;

    fn plan(&self, _: &Uuid, mood: Mood) -> Vec<(u64, Stage)> {
        let settings = &self.shared.settings;
        let mut plan = vec![(settings.authorise_after_ms, Stage::Authorised), (settings.submit_after_ms, Stage::Submitted)];
        match mood {
            Mood::Reject => plan = vec![(settings.authorise_after_ms, Stage::Rejected)],
            Mood::Fail => plan.push((settings.settle_after_ms, Stage::Failed)),
            Mood::Stuck => {}
            Mood::Return => plan.extend([(settings.settle_after_ms, Stage::Settled), (settings.behaviour.return_after_ms, Stage::Returned)]),
            _ => plan.push((settings.settle_after_ms, Stage::Settled)),
        }
        plan
    }

    fn step(&self, id: &Uuid, stage: Stage) -> Option<Moved> {
        self.shared.book.advance(*id, stage, clock::now())
    }

    async fn tell(&self, moved: &Moved, forged: bool) {
        self.deliver(moved.transaction_id, &notices::event(moved, forged), forged).await;
    }

    fn visible_at(&self, id: &Uuid) -> Option<Timestamp> {
        self.shared.book.visible_at(*id)
    }

    fn errands(&self) -> &Errands {
        &self.shared.errands
    }
}

impl Sandbox {
    /// Delivers one event, trying until a 2xx or until the tries are used up. A forgery is tried once.
    async fn deliver(&self, id: Uuid, event: &Event, forged: bool) {
        let Ok(body) = serde_json::to_vec(event).map(Bytes::from) else { return };
        let jku = self.jku();
        let call = |client: &Client| self.shared.keys.signed(self.shared.settings.notice_signature, client, &jku, &body, forged).ok();
        let note = |status: Option<StatusCode>| {
            let (event_id, event_type) = (event.event_id.clone(), event.event_type.clone());
            let notice = SentNotice { event_id, event_type, at: clock::now(), forged, status: status.map(|status| status.as_u16()) };
            self.shared.book.notified(id, notice);
        };
        self.shared.outbox.deliver(forged, call, |status| status.is_success(), note).await;
    }
}

/// An error in the provider's shape.
fn error(status: StatusCode, code: &str, description: Option<String>) -> Response {
    (status, Json(ErrorBody { error: code.to_owned(), error_description: description, error_details: None })).into_response()
}

fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "not_found", None)
}

fn unauthorized() -> Response {
    error(StatusCode::UNAUTHORIZED, "unauthorized", None)
}

fn invalid_field(field: &str, message: &str) -> Response {
    let details = serde_json::json!({"parameters": {field: [message]}});
    let body = ErrorBody {
        error: "validation_error".to_owned(),
        error_description: Some("The request is not valid.".to_owned()),
        error_details: Some(details),
    };
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// The parts of a request, with its raw body.
async fn taken_apart(request: Request) -> Result<(http::request::Parts, Bytes), Response> {
    crate::sandbox::taken_apart(request).await.ok_or_else(|| error(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", None))
}

/// A JSON body.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    serde_json::from_slice(body).map_err(|problem| Box::new(error(StatusCode::BAD_REQUEST, "invalid_request", Some(problem.to_string()))))
}

async fn token(State(sandbox): State<Sandbox>, request: Request) -> Response {
    match taken_apart(request).await {
        Ok((_, body)) => sandbox.shared.door.token(&body),
        Err(response) => response,
    }
}

async fn create_payout(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let (parts, body) = match taken_apart(request).await {
        Ok(taken) => taken,
        Err(response) => return response,
    };
    if !sandbox.shared.door.admits(&parts.headers) {
        return unauthorized();
    }
    if !sandbox.shared.door.signed(&parts, &body) {
        return error(StatusCode::UNAUTHORIZED, "invalid_signature", None);
    }
    let create = match valid_create(&sandbox, &body) {
        Ok(create) => create,
        Err(response) => return *response,
    };
    let (settings, book) = (&sandbox.shared.settings, &sandbox.shared.book);
    let id = create.transaction_id;
    let Some(created) = book.create(&create, clock::now()) else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "internal_server_error", None);
    };
    let accepted = || (StatusCode::ACCEPTED, Json(serde_json::json!({}))).into_response();
    let broken = || error(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", None);
    let note = |answer| book.answered(id, answer);
    let response = match created {
        Created::Known { .. } if settings.duplicates_conflict => error(StatusCode::CONFLICT, "duplicate_transaction_id", None),
        Created::Known { same } => {
            tracing::debug!(same, "the sandbox got a transaction_id again");
            accepted()
        }
        Created::Refused(Mood::RateLimit) => settings.behaviour.slowed_down(error(StatusCode::TOO_MANY_REQUESTS, "rate_limited", None)),
        Created::Refused(Mood::Refuse) => invalid_field("beneficiary_name", "does not match the account"),
        Created::Refused(_) => broken(),
        Created::New(mood) => {
            course::begin(&sandbox, id, mood, None);
            return settings.behaviour.answer(mood, &parts, accepted(), broken(), note).await;
        }
    };
    settings.behaviour.answered(response, note).await
}

/// Reads a create request as strictly as the provider documents it.
fn valid_create(sandbox: &Sandbox, body: &[u8]) -> Result<CreatePayout, Box<Response>> {
    let refuse = |field: &str, message: &str| Err(Box::new(invalid_field(field, message)));
    let create: CreatePayout = read(body)?;
    for (field, text) in [("beneficiary_name", &create.beneficiary_name), ("beneficiary_reference", &create.beneficiary_reference)] {
        if !(1..=MAX_TEXT).contains(&text.chars().count()) || text.chars().any(char::is_control) {
            return refuse(field, "must be 1 to 18 characters");
        }
    }
    if Iban::parse(&create.beneficiary_iban).is_err() {
        return refuse("beneficiary_iban", "is not an IBAN");
    }
    if Currency::parse(&create.currency).is_err() || !sandbox.shared.book.pays_in(&create.currency) {
        return refuse("currency", "is not the currency of an account");
    }
    if create.amount_in_minor < 1 {
        return refuse("amount_in_minor", "must be positive");
    }
    if !CONTEXT_CODES.contains(&create.context_code.as_str()) {
        return refuse("context_code", "is not one of the codes");
    }
    Ok(create)
}

async fn get_payout(State(sandbox): State<Sandbox>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if !sandbox.shared.door.admits(&headers) {
        return unauthorized();
    }
    let payout = id.parse().ok().and_then(|id| sandbox.shared.book.get(id, clock::now()));
    payout.map_or_else(not_found, |result| Json(One { result }).into_response())
}

async fn transactions(State(sandbox): State<Sandbox>, Query(query): Query<HashMap<String, String>>, headers: HeaderMap) -> Response {
    if !sandbox.shared.door.admits(&headers) {
        return unauthorized();
    }
    // The documentation's own example puts the values into quotes and writes "Payout".
    let value = |name: &str| query.get(name).map(|value| value.trim_matches('"').to_owned());
    let time = |name| value(name).and_then(|value| value.parse::<Timestamp>().ok());
    let (Some(from), Some(to)) = (time("from"), time("to")) else {
        return error(StatusCode::BAD_REQUEST, "invalid_request", Some("from and to are required timestamps".to_owned()));
    };
    let kind = value("type").map(|kind| kind.to_ascii_lowercase());
    if kind.as_deref().is_some_and(|kind| kind != "payout" && kind != "topup") {
        return error(StatusCode::BAD_REQUEST, "invalid_request", Some("type is payout or topup".to_owned()));
    }
    let currency = value("currency");
    let wanted = |transaction: &Transaction| {
        let (is, in_currency) = match transaction {
            Transaction::Payout(payout) => ("payout", &payout.currency),
            Transaction::TopUp(top_up) => ("topup", &top_up.currency),
            Transaction::Other => return false,
        };
        kind.as_deref().is_none_or(|kind| kind == is) && currency.as_ref().is_none_or(|currency| currency == in_currency)
    };
    let mut results = sandbox.shared.book.transactions(from, to, clock::now());
    results.retain(wanted);
    Json(Many { results }).into_response()
}

async fn balances(State(sandbox): State<Sandbox>, headers: HeaderMap) -> Response {
    if !sandbox.shared.door.admits(&headers) {
        return unauthorized();
    }
    Json(Many { results: sandbox.shared.book.balances() }).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nonce {
    #[serde(rename = "nonce")]
    _nonce: Uuid,
}

async fn test_signature(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let (parts, body) = match taken_apart(request).await {
        Ok(taken) => taken,
        Err(response) => return response,
    };
    if !sandbox.shared.door.admits(&parts.headers) {
        return unauthorized();
    }
    if !sandbox.shared.door.signed(&parts, &body) {
        return error(StatusCode::UNAUTHORIZED, "invalid_signature", None);
    }
    read::<Nonce>(&body).map_or_else(|response| *response, |_| StatusCode::NO_CONTENT.into_response())
}

async fn jwks(State(sandbox): State<Sandbox>) -> Response {
    // The first call may have to make an RSA key.
    match tokio::task::spawn_blocking(move || sandbox.keys()).await {
        Ok(Ok(keys)) => ([(header::CACHE_CONTROL, "max-age=300")], Json(keys)).into_response(),
        Ok(Err(_)) | Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", None),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTopUp {
    currency: String,
    amount_in_minor: i64,
    #[serde(default)]
    remitter_reference: Option<String>,
}

async fn top_up(State(sandbox): State<Sandbox>, body: Bytes) -> Response {
    let NewTopUp { currency, amount_in_minor, remitter_reference } = match read(&body) {
        Ok(new) => new,
        Err(response) => return *response,
    };
    if amount_in_minor < 1 || !sandbox.shared.book.pays_in(&currency) {
        return invalid_field("amount_in_minor", "must be positive, in the currency of an account");
    }
    let transaction_id = random_uuid();
    let received_at = Moment(clock::now());
    let settled_at = Some(received_at);
    let status = "settled".to_owned();
    let top_up = TopUp { transaction_id, amount_in_minor, currency, settled_at, status, remitter_reference };
    let event = Event {
        event_type: "topup_received".to_owned(),
        event_id: random_uuid().to_string(),
        event_schema_version: 1,
        event_body: serde_json::json!({
            "transaction_id": transaction_id,
            "currency": top_up.currency,
            "amount_in_minor": amount_in_minor,
            "received_at": received_at,
        }),
    };
    sandbox.shared.book.top_up(top_up.clone());
    let teller = sandbox.clone();
    sandbox.shared.errands.run(async move { teller.deliver(transaction_id, &event, false).await });
    (StatusCode::CREATED, Json(top_up)).into_response()
}

async fn revoke(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.revoke_tokens();
    StatusCode::NO_CONTENT
}
