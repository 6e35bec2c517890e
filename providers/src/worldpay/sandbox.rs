//! A server that speaks Worldpay Access, moves imaginary money, and can misbehave on purpose: account payouts of both generations, and card payouts.
//!
//! It is as strict as the provider is documented to be: credentials, media types, dated headers, unknown fields. What it does with a payout is decided by a
//! [`Mood`], or by the provider's own magic values. What moved is kept in a ledger of its own, against which "at most one movement per payout" is
//! checked. Shapes follow the documentation; what that leaves open is marked ASSUMED where it is decided.
//!
//! | route | what it is |
//! |---|---|
//! | `GET /`, `GET /payouts` | links |
//! | `POST /accountPayouts`, `POST /accountPayouts/batch`, `GET /accountPayouts/{id}`, `GET /accountPayouts/events` | account payouts |
//! | `POST /payouts/accounts/single`, `POST /payouts/accounts/batch`, `GET /payouts/events`, `GET /payouts/events/{id}` | the same, older |
//! | `POST /payouts/basicDisbursement`, `POST /payouts/fastAccess`, `GET /payouts/{resource}`, `GET /payouts/query` | card payouts |
//! | `GET /sandbox/ledger` | movements, and how many were double |
//! | `GET /sandbox/payouts/{key}` | the calls that it got and the notices that it sent |
//! | `POST /sandbox/payouts/{key}/advance` | `{"to": "COMPLETED"}`: moves a payout by hand |
//! | `GET`, `POST /sandbox/moods` | the list; `{"next": 3, "mood": "fail"}` or `{"fault_percent": 20, "seed": 7}` |
//!
//! The `/sandbox` routes have no authentication: the listener belongs on an address that only testers reach.

mod account;
pub mod book;
mod card;
pub mod mood;
mod notices;

use std::collections::HashSet;
use std::future::IntoFuture as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::id::ProviderKey;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::SignedDuration;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::book::{Api, Book, Created, Rules, Stored, View};
use self::mood::{Distribution, Mood};
use self::notices::{Moved, Sender};
use super::access::CORRELATION_ID;
use super::error::ErrorBody;
use super::signature::{EventKey, Keyring};
use super::{SetupError, key_text};
use crate::clock;
use crate::http::{Client, ClientError, Limits};
use crate::sandbox::audit::{Ledger, Movement};
use crate::sandbox::line::{Cut, Lines};
use crate::sandbox::outbox::{Outbox, Retries};
use crate::sandbox::random_uuid;

/// Largest request body that is read, in bytes: a batch of 500.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// What a sandbox is like. Everything has a default except the client's credentials.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub username: String,
    pub password: SecretString,
    /// Who may pay. Another entity is answered as the provider does: 403 to accounts, 422 to cards.
    #[serde(default = "defaults::entity")]
    pub entity: String,
    /// Where notifications of account payouts go; none are sent without it.
    #[serde(default)]
    pub account_notice_url: Option<String>,
    /// Where events of card payouts go; none are sent without it.
    #[serde(default)]
    pub card_notice_url: Option<String>,
    /// The keys with which notices are signed, all of them at once; not signed without.
    #[serde(default)]
    pub event_keys: Vec<EventKey>,
    /// The wait before a notice is sent again: 15 minutes (H), growing.
    #[serde(default = "defaults::notice_wait_ms")]
    pub notice_wait_ms: u64,
    /// Up to 2 hours (H).
    #[serde(default = "defaults::notice_longest_wait_ms")]
    pub notice_longest_wait_ms: u64,
    /// For one week (H).
    #[serde(default = "defaults::notice_total_ms")]
    pub notice_total_ms: u64,
    /// The address under which others reach the sandbox, for links; by default that of the listener.
    #[serde(default)]
    pub public_url: Option<String>,
    /// From one state to the next.
    #[serde(default = "defaults::stage_ms")]
    pub stage_ms: u64,
    /// For the mood `return`: from arrived to returned.
    #[serde(default = "defaults::stage_ms")]
    pub return_after_ms: u64,
    /// For the mood `silent`: stands for the 48 hours after which a scheme's silence becomes an error (H).
    #[serde(default = "defaults::stage_ms")]
    pub silent_after_ms: u64,
    #[serde(default = "defaults::slow_answer_ms")]
    pub slow_answer_ms: u64,
    /// How long every answer to a create takes.
    #[serde(default)]
    pub answer_after_ms: u64,
    #[serde(default = "defaults::late_appear_ms")]
    pub late_appear_ms: u64,
    /// In whole seconds, for the mood `rate-limit`.
    #[serde(default = "defaults::retry_after_s")]
    pub retry_after_s: u64,
    /// The status of `checkOutcome`, which is documented nowhere.
    #[serde(default = "defaults::check_outcome_status")]
    pub check_outcome_status: u16,
    /// Whether a second card payout under one reference is refused with 409 instead of paid again. Both are ASSUMED; the worse is the default.
    #[serde(default)]
    pub rejects_card_repeats: bool,
    /// Whether a repeated account payout is carried out again, as by a provider that does not recognise repeats.
    #[serde(default)]
    pub pays_account_repeats: bool,
    /// Whether `payoutNotFound` has its older text.
    #[serde(default)]
    pub older_not_found_text: bool,
    /// Whether amounts, narratives and names choose moods.
    #[serde(default = "defaults::magic")]
    pub magic: bool,
    /// Random moods for payouts that chose none.
    #[serde(default)]
    pub random: Option<Distribution>,
    /// Above this many, creates are answered with 503.
    #[serde(default = "defaults::max_payouts")]
    pub max_payouts: usize,
}

mod defaults {
    pub(super) fn entity() -> String {
        "default".to_owned()
    }
    pub(super) const fn notice_wait_ms() -> u64 {
        15 * 60 * 1000
    }
    pub(super) const fn notice_longest_wait_ms() -> u64 {
        2 * 3600 * 1000
    }
    pub(super) const fn notice_total_ms() -> u64 {
        7 * 24 * 3600 * 1000
    }
    pub(super) const fn stage_ms() -> u64 {
        200
    }
    pub(super) const fn slow_answer_ms() -> u64 {
        30_000
    }
    pub(super) const fn late_appear_ms() -> u64 {
        10_000
    }
    pub(super) const fn retry_after_s() -> u64 {
        1
    }
    pub(super) const fn check_outcome_status() -> u16 {
        500
    }
    pub(super) const fn magic() -> bool {
        true
    }
    pub(super) const fn max_payouts() -> usize {
        1_000_000
    }
}

impl Settings {
    /// The defaults for a client with these credentials.
    #[must_use]
    pub fn new(username: impl Into<String>, password: SecretString) -> Self {
        Self {
            username: username.into(),
            password,
            entity: defaults::entity(),
            account_notice_url: None,
            card_notice_url: None,
            event_keys: Vec::new(),
            notice_wait_ms: defaults::notice_wait_ms(),
            notice_longest_wait_ms: defaults::notice_longest_wait_ms(),
            notice_total_ms: defaults::notice_total_ms(),
            public_url: None,
            stage_ms: defaults::stage_ms(),
            return_after_ms: defaults::stage_ms(),
            silent_after_ms: defaults::stage_ms(),
            slow_answer_ms: defaults::slow_answer_ms(),
            answer_after_ms: 0,
            late_appear_ms: defaults::late_appear_ms(),
            retry_after_s: defaults::retry_after_s(),
            check_outcome_status: defaults::check_outcome_status(),
            rejects_card_repeats: false,
            pays_account_repeats: false,
            older_not_found_text: false,
            magic: defaults::magic(),
            random: None,
            max_payouts: defaults::max_payouts(),
        }
    }
}

/// Why a sandbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("account_notice_url or card_notice_url")]
    NoticeUrl(#[source] ClientError),
    #[error(transparent)]
    Keys(#[from] SetupError),
}

/// A sandbox. Cloning shares it.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("url", &self.url()).finish_non_exhaustive()
    }
}

struct Shared {
    settings: Settings,
    authorization: String,
    book: Arc<Book>,
    accounts: Arc<Sender>,
    cards: Arc<Sender>,
    /// The keys of the batches that were carried out.
    batches: Mutex<HashSet<String>>,
    public_url: RwLock<String>,
    stopped: CancellationToken,
}

impl Sandbox {
    /// Opens a sandbox. Sends and serves nothing yet.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names the setting.
    pub fn new(settings: Settings) -> Result<Self, OpenError> {
        let stopped = CancellationToken::new();
        let retries = Retries {
            attempts: u32::MAX,
            first_wait: Duration::from_millis(settings.notice_wait_ms),
            longest_wait: Duration::from_millis(settings.notice_longest_wait_ms),
            total: Duration::from_millis(settings.notice_total_ms),
        };
        let forged = settings.event_keys.iter().map(|key| EventKey {
            secret: SecretString::from(random_uuid().to_string()),
            encoding: Default::default(),
            ..key.clone()
        });
        let forger = Keyring::new(&forged.collect::<Vec<_>>())?;
        let sender = |api, url: &Option<String>| {
            let receiver = url.as_deref().map(|url| Client::new(url, false, Limits::default())).transpose().map_err(OpenError::NoticeUrl)?;
            let keys = Keyring::new(&settings.event_keys)?;
            Ok::<_, OpenError>(Arc::new(Sender { api, keys, forger: forger.clone(), outbox: Outbox::new(receiver, retries, stopped.clone()) }))
        };
        let rules = Rules {
            magic: settings.magic,
            max_payouts: settings.max_payouts,
            pays_repeats: [settings.pays_account_repeats, !settings.rejects_card_repeats],
            late_appear: SignedDuration::from_millis(i64::try_from(settings.late_appear_ms).unwrap_or(i64::MAX)),
            distribution: settings.random.clone(),
        };
        let shared = Shared {
            authorization: format!("Basic {}", STANDARD.encode(format!("{}:{}", settings.username, settings.password.expose_secret()))),
            book: Arc::new(Book::new(rules)),
            accounts: sender(Api::Account, &settings.account_notice_url)?,
            cards: sender(Api::Card, &settings.card_notice_url)?,
            batches: Mutex::default(),
            public_url: RwLock::new(settings.public_url.clone().unwrap_or_default()),
            stopped: stopped.clone(),
            settings,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The auditor's report, over both APIs.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.book.ledger()
    }

    /// Every movement of money, oldest first.
    #[must_use]
    pub fn movements(&self) -> Vec<Movement> {
        self.ledger().movements
    }

    /// Everything about one of our keys, if it was ever seen.
    #[must_use]
    pub fn payout(&self, key: ProviderKey) -> Option<View> {
        self.shared.book.view(&key_text(key))
    }

    /// The next `count` new payouts get that mood, unless they choose one by amount or text.
    pub fn set_mood(&self, count: u32, mood: Mood) {
        self.shared.book.set_mood(count, mood);
    }

    /// Random moods for payouts that get none otherwise; `None` for plain.
    pub fn set_random(&self, distribution: Option<Distribution>) {
        self.shared.book.set_distribution(distribution);
    }

    /// Moves a payout by hand and sends the notice, as for one in the mood `stuck`. Must be called inside a tokio runtime.
    ///
    /// False if there is no such payout or it cannot go there from where it is.
    pub fn advance(&self, key: ProviderKey, status: &str) -> bool {
        self.advance_text(&key_text(key), status)
    }

    fn advance_text(&self, key: &str, status: &str) -> bool {
        let Some(view) = self.shared.book.view(key) else { return false };
        let late = view.payout.is_some_and(|stored| matches!(stored.status.as_str(), "COMPLETED" | "refunded"));
        let Some(stored) = self.shared.book.advance(view.api, key, status, clock::now()) else { return false };
        let (moves, receiver) = mpsc::unbounded_channel();
        let sent = moves.send(Moved { stored, late, at: clock::now() }).is_ok();
        tokio::spawn(self.sender(view.api).run(Arc::clone(&self.shared.book), key.to_owned(), Mood::Plain, receiver));
        sent
    }

    /// All routes. Dropping a connection (moods `lost-answer`, `late-appear`) needs [`Sandbox::serve`]; elsewhere the answer is a 500.
    pub fn router(&self) -> Router {
        card::routes(account::routes(Router::new()))
            .route("/", get(root))
            .route("/sandbox/ledger", get(ledger))
            .route("/sandbox/payouts/{key}", get(view))
            .route("/sandbox/payouts/{key}/advance", post(advance))
            .route("/sandbox/moods", get(list_moods).post(set_moods))
            .fallback(|| async { error(StatusCode::NOT_FOUND, "endpointNotFound", "There is nothing here.") })
            .layer(axum::middleware::from_fn(correlated))
            .with_state(self.clone())
    }

    /// Serves until `shutdown`, then cuts every connection and stops sending notices, as a process that ends would.
    ///
    /// # Errors
    ///
    /// If the listener has no address.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        if self.shared.settings.public_url.is_none() {
            let address = listener.local_addr()?;
            *self.shared.public_url.write().unwrap_or_else(PoisonError::into_inner) = format!("http://{address}");
        }
        let stopped = self.shared.stopped.clone();
        let service = self.router().into_make_service_with_connect_info::<Cut>();
        let served = axum::serve(Lines { listener, stopped: stopped.clone() }, service).into_future();
        tokio::select! {
            served = served => served?,
            () = shutdown.cancelled() => {}
        }
        stopped.cancel();
        Ok(())
    }

    fn url(&self) -> String {
        self.shared.public_url.read().unwrap_or_else(PoisonError::into_inner).trim_end_matches('/').to_owned()
    }

    fn sender(&self, api: Api) -> Arc<Sender> {
        Arc::clone(if api == Api::Account { &self.shared.accounts } else { &self.shared.cards })
    }

    fn authorised(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        aws_lc_rs::constant_time::verify_slices_are_equal(given, self.shared.authorization.as_bytes()).is_ok()
    }

    /// Tells what was created and moves it on, stage by stage, in a task of its own.
    fn progress(&self, api: Api, key: &str, mood: Mood, created: Stored, plan: Vec<(u64, &'static str)>) {
        let (moves, receiver) = mpsc::unbounded_channel();
        let (book, stopped, key) = (Arc::clone(&self.shared.book), self.shared.stopped.clone(), key.to_owned());
        tokio::spawn(self.sender(api).run(Arc::clone(&book), key.clone(), mood, receiver));
        tokio::spawn(async move {
            let mut arrived = false;
            let first = moves.send(Moved { stored: created, late: false, at: clock::now() });
            if first.is_err() {
                return;
            }
            for (wait, status) in plan {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                    () = stopped.cancelled() => return,
                }
                let Some(stored) = book.advance(api, &key, status, clock::now()) else { continue };
                if moves.send(Moved { stored, late: arrived, at: clock::now() }).is_err() {
                    return;
                }
                arrived |= matches!(status, "COMPLETED" | "refunded");
            }
        });
    }

    /// Answers a create as its mood wants it. `accepted` is the answer of a plain one, to a new payout or a repeated one.
    async fn answer(&self, api: Api, key: &str, parts: &http::request::Parts, created: &Created, accepted: impl Fn() -> Response) -> Response {
        let (settings, book) = (&self.shared.settings, &self.shared.book);
        let response = match created {
            Created::Known(_) => accepted(),
            Created::Refused(Mood::RateLimit) => {
                let mut response = error(StatusCode::TOO_MANY_REQUESTS, "tooManyRequests", "Slow down.");
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(settings.retry_after_s));
                response
            }
            Created::Refused(Mood::Refuse) => invalid("fieldHasInvalidValue", "$.instruction", "The sandbox was asked to refuse this."),
            Created::Refused(Mood::Unauthorised) => unauthorised(api),
            Created::Refused(Mood::Forbidden) => forbidden(),
            Created::Refused(_) => broken(api),
            Created::New(mood, _) => match mood {
                Mood::LostAnswer | Mood::LateAppear => {
                    book.answered(api, key, "dropped".to_owned());
                    if let Some(ConnectInfo(Cut(cut))) = parts.extensions.get::<ConnectInfo<Cut>>() {
                        cut.cancel();
                    }
                    return broken(api);
                }
                Mood::SlowAnswer => {
                    let response = accepted();
                    // Noted before the wait: the caller may be gone by then.
                    book.answered(api, key, response.status().as_u16().to_string());
                    tokio::time::sleep(Duration::from_millis(settings.slow_answer_ms)).await;
                    return response;
                }
                Mood::ErrorAfter => broken(api),
                Mood::Inconclusive if api == Api::Account => broken(api),
                _ => accepted(),
            },
        };
        book.answered(api, key, response.status().as_u16().to_string());
        if settings.answer_after_ms > 0 {
            tokio::time::sleep(Duration::from_millis(settings.answer_after_ms)).await;
        }
        response
    }
}

/// An error in the provider's shape.
fn error(status: StatusCode, name: &str, message: &str) -> Response {
    (status, Json(ErrorBody::named(name, message))).into_response()
}

/// A problem with a field, as both APIs report it.
fn invalid(name: &str, path: &str, message: &str) -> Response {
    let detail = ErrorBody { json_path: Some(path.to_owned()), ..ErrorBody::named(name, message) };
    let body = ErrorBody { validation_errors: vec![detail], ..ErrorBody::named("bodyDoesNotMatchSchema", "There was an error in the request") };
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn header_problem(status: StatusCode, name: &str, header: &str) -> Response {
    let body = ErrorBody { header_name: Some(header.to_owned()), ..ErrorBody::named(name, "The header is missing or not what this resource needs.") };
    (status, Json(body)).into_response()
}

fn unauthorised(api: Api) -> Response {
    match api {
        Api::Account => error(StatusCode::UNAUTHORIZED, "unauthorized", "Invalid token"),
        Api::Card => error(StatusCode::UNAUTHORIZED, "accessDenied", "Access to the requested resource has been denied"),
    }
}

fn forbidden() -> Response {
    // The spaces are the provider's (H).
    error(StatusCode::FORBIDDEN, "forbidden", "Forbidden.\u{a0}Unauthorised\u{a0}request")
}

fn broken(api: Api) -> Response {
    match api {
        Api::Account => {
            let body = serde_json::json!({"errorName": null, "message": "Unexpected Issue. Please try again"});
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
        }
        Api::Card => {
            let message = "An error occurred within the service (potentially due to an interaction with a downstream service)";
            error(StatusCode::INTERNAL_SERVER_ERROR, "internalErrorOccurred", message)
        }
    }
}

/// The parts of a request, with its raw body.
async fn taken_apart(request: Request) -> Result<(http::request::Parts, Bytes), Response> {
    let (parts, body) = request.into_parts();
    match axum::body::to_bytes(body, MAX_BODY).await {
        Ok(body) => Ok((parts, body)),
        Err(_) => Err(error(StatusCode::PAYLOAD_TOO_LARGE, "bodyIsTooLarge", "The body is too large.")),
    }
}

/// What every request must bring: credentials, and a correlation id that is a UUID, if any (H).
fn admitted(sandbox: &Sandbox, api: Api, headers: &HeaderMap) -> Result<(), Box<Response>> {
    if !sandbox.authorised(headers) {
        return Err(Box::new(unauthorised(api)));
    }
    match headers.get(CORRELATION_ID).map(|value| value.to_str().ok().and_then(|text| Uuid::try_parse(text).ok())) {
        Some(None) => Err(Box::new(header_problem(StatusCode::BAD_REQUEST, "headerHasInvalidValue", "WP-CorrelationId"))),
        Some(Some(_)) | None => Ok(()),
    }
}

/// Media types of the older kind: the same in `Accept` and, with a body, in `Content-Type` (H). That the statuses are 406 and 415 is ASSUMED.
fn media_types(headers: &HeaderMap, known: &[&str], with_body: bool) -> Result<usize, Box<Response>> {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wrong = |status, name| Err(Box::new(header_problem(status, "headerHasInvalidValue", name)));
    let accept = value(header::ACCEPT);
    let Some(index) = known.iter().position(|known| *known == accept) else { return wrong(StatusCode::NOT_ACCEPTABLE, "Accept") };
    if with_body && value(header::CONTENT_TYPE) != accept {
        return wrong(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type");
    }
    Ok(index)
}

/// A JSON body, with the provider's errors: unknown and missing fields are named.
fn body_of<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    if body.is_empty() {
        return Err(Box::new(error(StatusCode::BAD_REQUEST, "bodyIsEmpty", "The body within the request is empty.")));
    }
    serde_json::from_slice(body).map_err(|problem| {
        let text = problem.to_string();
        let field = text.split('`').nth(1).unwrap_or_default();
        Box::new(match problem.classify() {
            serde_json::error::Category::Data if text.starts_with("unknown field") => {
                invalid("fieldIsNotAllowed", &format!("$.{field}"), "Not a field.")
            }
            serde_json::error::Category::Data if text.starts_with("missing field") => invalid("fieldIsMissing", &format!("$.{field}"), "Required."),
            serde_json::error::Category::Data => invalid("fieldHasInvalidValue", "$", "Of the wrong type."),
            _ => error(StatusCode::BAD_REQUEST, "bodyIsNotJson", "The body within the request is not valid JSON."),
        })
    })
}

/// Repeats the correlation id of a request in its answer, or makes one (H).
async fn correlated(request: Request, next: axum::middleware::Next) -> Response {
    let id = request.headers().get(CORRELATION_ID).cloned().or_else(|| HeaderValue::try_from(random_uuid().to_string()).ok());
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(CORRELATION_ID, id);
    }
    response
}

/// The root, with the links of seed 000.
async fn root(State(sandbox): State<Sandbox>, headers: HeaderMap) -> Response {
    if let Err(response) = admitted(&sandbox, Api::Account, &headers) {
        return *response;
    }
    let url = sandbox.url();
    let mut links: serde_json::Map<_, _> =
        ROOT.into_iter().map(|(rel, path)| (rel.to_owned(), serde_json::json!({"href": format!("{url}{path}")}))).collect();
    links.insert("curies".to_owned(), serde_json::json!([{"href": format!("{url}/rels/payments/{{rel}}"), "name": "payments", "templated": true}]));
    Json(serde_json::json!({"_links": links})).into_response()
}

const ROOT: [(&str, &str); 20] = [
    ("payments:authorize", "/payments/authorizations"),
    ("service:payments", "/payments"),
    ("service:sessions", "/sessions"),
    ("service:tokens", "/tokens"),
    ("service:verifications/accounts", "/verifications/accounts"),
    ("service:verifications/customers/3ds", "/verifications/customers/3ds"),
    ("service:verifiedTokens", "/verifiedTokens"),
    ("service:fraudsight", "/fraudsight"),
    ("service:exemptions", "/exemptions"),
    ("service:payouts", "/payouts"),
    ("service:payments/alternative/direct", "/payments/alternative/direct"),
    ("service:payments/alternative/action/paypal", "/payments/alternative/action/paypal"),
    ("service:payments/alternative/action/ideal", "/payments/alternative/action/ideal"),
    ("service:payouts/accounts", "/payouts/accounts"),
    ("service:payouts/events", "/payouts/events"),
    ("service:moneyTransfers", "/moneyTransfers"),
    ("service:foreignExchange", "/foreignExchange"),
    ("service:accounts/statements", "/accounts/statements"),
    ("service:accounts/balance", "/accounts/balance"),
    ("service:accounts/transfer", "/accounts/transfer"),
];

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
