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
mod notices;
mod refusals;
mod root;
mod settings;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::id::ProviderKey;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::book::{Api, Book, Created, Moved, Stored, View};
use self::notices::Sender;
use self::refusals::{broken, error, forbidden, invalid, unauthorised};
pub use self::settings::Settings;
use super::access::CORRELATION_ID;
use super::signature::{EventKey, Keyring};
use super::{SetupError, key_text};
use crate::clock;
use crate::http::ClientError;
use crate::sandbox::admin::{self, Desk};
use crate::sandbox::audit::{Ledger, Movement};
use crate::sandbox::course::{self, Course, Errands};
use crate::sandbox::line::{self, PublicUrl};
use crate::sandbox::mood::{Distribution, Mood};
use crate::sandbox::outbox::{Outbox, Retries};
use crate::sandbox::random_uuid;

/// Why a sandbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("account_notice_url or card_notice_url")]
    NoticeUrl(#[source] ClientError),
    #[error(transparent)]
    Keys(#[from] SetupError),
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
        f.debug_struct("Sandbox").field("url", &self.url()).finish_non_exhaustive()
    }
}

struct Shared {
    settings: Settings,
    authorization: String,
    book: Book,
    accounts: Sender,
    cards: Sender,
    /// The keys of the batches that were carried out.
    batches: Mutex<HashSet<String>>,
    public_url: PublicUrl,
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
            let outbox = Outbox::new(url.as_deref(), retries).map_err(OpenError::NoticeUrl)?;
            Ok::<_, OpenError>(Sender {
                api,
                keys: Keyring::new(&settings.event_keys)?,
                forger: forger.clone(),
                outbox,
                tells_reference: settings.tells_reference,
            })
        };
        let pays_repeats = [settings.pays_account_repeats, !settings.rejects_card_repeats];
        let shared = Shared {
            authorization: format!("Basic {}", STANDARD.encode(format!("{}:{}", settings.username, settings.password.expose_secret()))),
            book: Book::open(&settings.behaviour, pays_repeats).map_err(OpenError::Journal)?,
            accounts: sender(Api::Account, &settings.account_notice_url)?,
            cards: sender(Api::Card, &settings.card_notice_url)?,
            batches: Mutex::default(),
            public_url: PublicUrl::new(settings.public_url.as_deref()),
            errands: Errands::default(),
            settings,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The auditor's report, over both APIs.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.book.ledger(&[Api::Account, Api::Card])
    }

    /// The auditor's report over one API.
    #[must_use]
    pub fn ledger_of(&self, api: Api) -> Ledger {
        self.shared.book.ledger(&[api])
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
        let Some(View { api, .. }) = self.shared.book.view(key) else { return false };
        let Some(moved) = self.shared.book.advance(api, key, status, clock::now()) else { return false };
        course::announce(self, (api, key.to_owned()), moved);
        true
    }

    /// All routes. Dropping a connection (moods `lost-answer`, `late-appear`) needs [`Sandbox::serve`]; elsewhere the answer is a 500.
    pub fn router(&self) -> Router {
        card::routes(account::routes(Router::new()))
            .merge(admin::routes())
            .route("/", get(root::root))
            .fallback(|| async { error(StatusCode::NOT_FOUND, "endpointNotFound", "There is nothing here.") })
            .layer(axum::middleware::from_fn(correlated))
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
        for (api, key, mood, _) in self.shared.book.all() {
            course::begin(self, (api, key), mood, None);
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

    fn url(&self) -> &str {
        self.shared.public_url.get()
    }

    fn sender(&self, api: Api) -> &Sender {
        if api == Api::Account { &self.shared.accounts } else { &self.shared.cards }
    }

    fn authorised(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        aws_lc_rs::constant_time::verify_slices_are_equal(given, self.shared.authorization.as_bytes()).is_ok()
    }

    /// Takes a new payout through its states, and tells of the first.
    fn begin(&self, api: Api, key: &str, mood: Mood, stored: &Stored) {
        let first = Moved::new(api, key, stored.clone(), false, clock::now());
        course::begin(self, (api, key.to_owned()), mood, Some(first));
    }

    /// Answers a create as its mood wants it. `accepted` is the answer of a plain one, to a new payout or a repeated one.
    async fn answer(&self, api: Api, key: &str, parts: &http::request::Parts, created: &Created, accepted: impl Fn() -> Response) -> Response {
        let Shared { settings, book, .. } = &*self.shared;
        let note = |answer| book.answered(api, key, answer);
        let response = match created {
            Created::Known(_) => accepted(),
            Created::Refused(Mood::RateLimit) => {
                settings.behaviour.slowed_down(error(StatusCode::TOO_MANY_REQUESTS, "tooManyRequests", "Slow down."))
            }
            Created::Refused(Mood::Refuse) => invalid("fieldHasInvalidValue", "$.instruction", "The sandbox was asked to refuse this."),
            Created::Refused(Mood::Unauthorised) => unauthorised(api),
            Created::Refused(Mood::Forbidden) => forbidden(),
            Created::Refused(_) => broken(api),
            Created::New(mood, _) => {
                let mood = if (api, *mood) == (Api::Account, Mood::Inconclusive) { Mood::ErrorAfter } else { *mood };
                return settings.behaviour.answer(mood, parts, accepted(), broken(api), note).await;
            }
        };
        settings.behaviour.answered(response, note).await
    }
}

impl Desk for Sandbox {
    type Stage = String;

    const MOODS: &'static [Mood] = &Mood::ALL;

    fn ledger(&self) -> Ledger {
        Self::ledger(self)
    }

    fn view(&self, key: &str) -> Option<serde_json::Value> {
        serde_json::to_value(self.shared.book.view(key)?).ok()
    }

    fn advance(&self, key: &str, to: String) -> bool {
        self.advance_text(key, &to)
    }

    fn set_mood(&self, count: u32, mood: Mood) {
        Self::set_mood(self, count, mood);
    }

    fn set_random(&self, distribution: Option<Distribution>) {
        Self::set_random(self, distribution);
    }
}

impl Course for Sandbox {
    type Id = (Api, String);
    type Stage = &'static str;
    type Moved = Moved;

    fn plan(&self, (api, key): &(Api, String), mood: Mood) -> Vec<(u64, &'static str)> {
        let Some(stored) = self.shared.book.stored(*api, key) else { return Vec::new() };
        match api {
            Api::Account => account::plan(&self.shared.settings, mood, &stored.transaction_reference),
            Api::Card => card::plan(&self.shared.settings, mood, &stored.status),
        }
    }

    fn step(&self, (api, key): &(Api, String), status: &'static str) -> Option<Moved> {
        self.shared.book.advance(*api, key, status, clock::now())
    }

    async fn tell(&self, moved: &Moved, forged: bool) {
        self.sender(moved.api).tell(moved, forged, |notice| self.shared.book.notified(moved.api, &moved.key, notice)).await;
    }

    fn visible_at(&self, (api, key): &(Api, String)) -> Option<Timestamp> {
        self.shared.book.stored(*api, key).map(|stored| stored.visible_at)
    }

    fn errands(&self) -> &Errands {
        &self.shared.errands
    }
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
