//! A server that speaks TrueLayer's Payouts API v3, moves imaginary money, and can misbehave on purpose.
//!
//! It is as strict as the provider is documented to be: tokens expire, every create is signed together with its `Idempotency-Key`, unknown fields are refused,
//! and a key that comes again with other content is refused too. What it does with a payout is decided by a [`Mood`]; what moved is kept in a [`Ledger`] of
//! its own. Shapes follow the documentation; what that leaves open is marked ASSUMED in [`super::wire`] and here.
//!
//! | route | what it is |
//! |---|---|
//! | `POST /connect/token`, `GET /.well-known/jwks` | tokens, and the keys of its webhooks |
//! | `POST /v3/payouts`, `GET /v3/payouts/{id}`, `GET /v3/merchant-accounts`, `…/{id}/transactions` | the API |
//! | `/sandbox/ledger`, `/sandbox/payouts/{key}`, `…/advance`, `/sandbox/moods` | as in every sandbox; `key` is the `Idempotency-Key` |
//! | `POST /sandbox/tokens/revoke` | every token is refused from now on |
//! | `POST /sandbox/merchant-accounts/{id}/deposits` | `{"amount_in_minor": 5000}`: money comes in, and a webhook tells of it |
//!
//! The `/sandbox` routes have no authentication: the listener belongs on an address that only testers reach.

mod create;
mod deposit;
mod payout;
mod settings;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::create::create_payout;
use self::deposit::Deposits;
pub use self::payout::Stage;
use self::payout::{Told, event, movement};
pub use self::settings::{Account, Settings};
pub use self::transactions::ListFault;
use self::transactions::transactions;
use super::wire::{MerchantAccount, MerchantAccounts, Payout, Problem};
use crate::clock;
use crate::http::Client;
use crate::jws::{Jwks, KeyError};
use crate::sandbox::admin::{self, Desk};
use crate::sandbox::audit::{Ledger, Movement};
use crate::sandbox::behaviour::milliseconds;
use crate::sandbox::book::{Book, View};
use crate::sandbox::calls::SentNotice;
use crate::sandbox::course::{self, Course, Errands};
use crate::sandbox::line::{self, PublicUrl};
use crate::sandbox::mood::{Distribution, Mood};
use crate::sandbox::outbox::{Outbox, Retries};
use crate::truelayer::sandbox::OpenError;
use crate::truelayer::sandbox::door::Door;
use crate::truelayer::sandbox::notices::{Keys, NoticeSignature};

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
    book: Book<Payout>,
    keys: Keys,
    outbox: Outbox,
    public_url: PublicUrl,
    errands: Errands,
    deposits: Deposits,
}

impl Sandbox {
    /// Opens a sandbox, with the payouts of its journal if it has one. Sends and serves nothing yet.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names the setting.
    pub fn new(settings: Settings) -> Result<Self, OpenError> {
        // "Jittered exponential backoff", for up to 72 hours (H); the longest wait is ASSUMED.
        let retries = Retries {
            attempts: settings.notice_attempts,
            first_wait: Duration::from_millis(settings.notice_wait_ms),
            longest_wait: Duration::from_secs(3600),
            total: Duration::from_secs(72 * 3600),
        };
        let shared = Shared {
            door: Door::new(&settings.client_id, &settings.client_secret, &settings.client_keys, "payments", settings.token_life_s)?,
            book: Book::open(&settings.behaviour, Some(milliseconds(settings.remembered_ms))).map_err(OpenError::Journal)?,
            keys: Keys::generate().map_err(OpenError::Keys)?,
            outbox: Outbox::new(settings.notice_url.as_deref(), retries).map_err(OpenError::NoticeUrl)?,
            public_url: PublicUrl::new(settings.public_url.as_deref()),
            errands: Errands::default(),
            deposits: Deposits::default(),
            settings,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The public keys of its webhooks.
    ///
    /// # Errors
    ///
    /// [`KeyError::Failed`] if they could not be written.
    pub fn keys(&self) -> Result<Jwks, KeyError> {
        self.shared.keys.public(NoticeSignature::Request)
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

    /// Refuses every token that was given out.
    pub fn revoke_tokens(&self) {
        self.shared.door.revoke();
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
            .route("/connect/token", post(token))
            .route("/v3/payouts", post(create_payout))
            .route("/v3/payouts/{id}", get(get_payout))
            .route("/v3/merchant-accounts", get(merchant_accounts))
            .route("/v3/merchant-accounts/{id}/transactions", get(transactions))
            .route("/.well-known/jwks", get(jwks))
            .merge(admin::routes())
            .route("/sandbox/tokens/revoke", post(revoke))
            .route("/sandbox/merchant-accounts/{id}/deposits", post(deposit::deposit))
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
        let ended = |mood: Mood, payout: &Payout| match payout.status.as_str() {
            "failed" => true,
            "executed" => mood != Mood::Return,
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

    /// What is in an account and has not left.
    fn available(&self, account: &Account) -> i128 {
        let out = self.shared.book.out().get(&account.currency).copied().unwrap_or_default();
        self.funds(account) - out
    }

    /// What was in an account at first, and what came in.
    fn funds(&self, account: &Account) -> i128 {
        i128::from(account.balance_in_minor) + self.shared.deposits.sum(account)
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
        let authorized = (settings.authorize_after_ms, Stage::Authorized);
        let executed = (settings.execute_after_ms, Stage::Executed);
        match mood {
            Mood::Reject => vec![(settings.authorize_after_ms, Stage::Unfunded)],
            Mood::Fail => vec![authorized, (settings.execute_after_ms, Stage::Failed)],
            Mood::Stuck => vec![authorized],
            Mood::Return => vec![authorized, executed, (settings.behaviour.return_after_ms, Stage::Returned)],
            _ => vec![authorized, executed],
        }
    }

    fn step(&self, id: &String, stage: Stage) -> Option<Told> {
        let now = clock::now();
        self.shared.book.change(id, |kept, out| {
            let payout = &kept.payout;
            let account = self.shared.settings.accounts.iter().find(|account| account.id == payout.merchant_account_id)?;
            let available = self.funds(account) - out.get(&account.currency).copied().unwrap_or_default();
            let poor = stage == Stage::Authorized && available < i128::from(payout.amount_in_minor);
            let stage = if poor { Stage::Unfunded } else { stage };
            let mut payout = payout.clone();
            let direction = stage.apply(&mut payout, now)?;
            let movement = direction.map(|direction| movement(kept.key, &payout, direction, now));
            // Documents differ on whether a return is shown, or only told (H).
            if stage != Stage::Returned || self.shared.settings.returns_shown {
                kept.payout = payout.clone();
            }
            Some((Told::new(kept.key, payout), movement))
        })
    }

    async fn tell(&self, told: &Told, forged: bool) {
        let Some(mut event) = event(told, forged) else { return };
        if !self.shared.settings.tells_metadata {
            event.metadata = None;
        }
        let Ok(body) = serde_json::to_vec(&event).map(Bytes::from) else { return };
        let jku = self.jku();
        let call = |client: &Client| self.shared.keys.signed(NoticeSignature::Request, client, &jku, &body, forged).ok();
        let note = |status: Option<StatusCode>| {
            let (event_id, event_type) = (event.event_id.clone(), event.event_type.clone());
            let notice = SentNotice { event_id, event_type, at: clock::now(), forged, status: status.map(|status| status.as_u16()) };
            self.shared.book.notified(told.key, notice);
        };
        self.shared.outbox.deliver(forged, call, |status| status.is_success(), note).await;
    }

    fn visible_at(&self, id: &String) -> Option<Timestamp> {
        self.shared.book.kept(id).map(|kept| kept.visible_at)
    }

    fn errands(&self) -> &Errands {
        &self.shared.errands
    }
}

/// An error in the provider's shape. The titles for 429 and 5xx are ASSUMED.
fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    problem_with(status, title, detail, &[])
}

fn problem_with(status: StatusCode, title: &str, detail: &str, errors: &[(&str, &str)]) -> Response {
    let slug: String = title.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let body = Problem {
        kind: format!("https://docs.truelayer.com/docs/error-types#{slug}"),
        title: title.to_owned(),
        status: status.as_u16(),
        detail: Some(detail.to_owned()),
        trace_id: Some(crate::sandbox::random_uuid().simple().to_string()),
        errors: errors.iter().map(|(field, message)| ((*field).to_owned(), serde_json::json!([message]))).collect(),
    };
    (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(body)).into_response()
}

fn unauthenticated(detail: &str) -> Response {
    problem(StatusCode::UNAUTHORIZED, "Unauthenticated", detail)
}

fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "Not Found", "Payout could not be found.")
}

async fn token(State(sandbox): State<Sandbox>, request: Request) -> Response {
    match crate::sandbox::taken_apart(request).await {
        Some((_, body)) => sandbox.shared.door.token(&body),
        None => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
    }
}

async fn get_payout(State(sandbox): State<Sandbox>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if !sandbox.shared.door.admits(&headers) {
        return unauthenticated("The access token is missing or invalid.");
    }
    sandbox.shared.book.get(&id, clock::now()).map_or_else(not_found, |payout| Json(payout).into_response())
}

async fn merchant_accounts(State(sandbox): State<Sandbox>, headers: HeaderMap) -> Response {
    if !sandbox.shared.door.admits(&headers) {
        return unauthenticated("The access token is missing or invalid.");
    }
    let shown = |account: &Account| {
        let available = i64::try_from(sandbox.available(account)).unwrap_or(i64::MAX);
        MerchantAccount {
            id: account.id.clone(),
            currency: account.currency.clone(),
            available_balance_in_minor: available,
            current_balance_in_minor: available,
        }
    };
    Json(MerchantAccounts { items: sandbox.shared.settings.accounts.iter().map(shown).collect() }).into_response()
}

async fn jwks(State(sandbox): State<Sandbox>) -> Response {
    match sandbox.keys() {
        Ok(keys) => ([(header::CACHE_CONTROL, "max-age=300")], Json(keys)).into_response(),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", "No keys."),
    }
}

async fn revoke(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.revoke_tokens();
    StatusCode::NO_CONTENT
}
