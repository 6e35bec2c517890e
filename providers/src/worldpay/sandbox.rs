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
mod admin;
pub mod book;
mod card;
pub mod mood;
mod notices;
mod refusals;
mod root;
mod settings;

use std::collections::HashSet;
use std::future::IntoFuture as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::id::ProviderKey;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::SignedDuration;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::book::{Api, Book, Created, Rules, Stored, View};
use self::mood::{Distribution, Mood};
use self::notices::{Moved, Sender};
use self::refusals::{broken, error, forbidden, invalid, unauthorised};
pub use self::settings::Settings;
use super::access::CORRELATION_ID;
use super::signature::{EventKey, Keyring};
use super::{SetupError, key_text};
use crate::clock;
use crate::http::{Client, ClientError, Limits};
use crate::sandbox::audit::{Ledger, Movement};
use crate::sandbox::line::{Cut, Lines};
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
    book: Arc<Book>,
    accounts: Arc<Sender>,
    cards: Arc<Sender>,
    /// The keys of the batches that were carried out.
    batches: Mutex<HashSet<String>>,
    public_url: RwLock<String>,
    stopped: CancellationToken,
}

impl Sandbox {
    /// Opens a sandbox, with the payouts of its journal if it has one. Sends and serves nothing yet.
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
            book: Arc::new(Book::open(rules, settings.journal.as_deref()).map_err(OpenError::Journal)?),
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
        let late = view.payout.is_some_and(|stored| has_arrived(&stored.status));
        let Some(stored) = self.shared.book.advance(view.api, key, status, clock::now()) else { return false };
        let (moves, receiver) = mpsc::unbounded_channel();
        let sent = moves.send(Moved { stored, late, at: clock::now() }).is_ok();
        tokio::spawn(self.sender(view.api).run(Arc::clone(&self.shared.book), key.to_owned(), Mood::Plain, receiver));
        sent
    }

    /// All routes. Dropping a connection (moods `lost-answer`, `late-appear`) needs [`Sandbox::serve`]; elsewhere the answer is a 500.
    pub fn router(&self) -> Router {
        admin::routes(card::routes(account::routes(Router::new())))
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
        if self.shared.settings.public_url.is_none() {
            let address = listener.local_addr()?;
            *self.shared.public_url.write().unwrap_or_else(PoisonError::into_inner) = format!("http://{address}");
        }
        for (api, key, mood, stored) in self.shared.book.all() {
            self.progress(api, &key, mood, &stored, false);
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

    /// Moves a payout on, stage by stage, in a task of its own, and tells; if it is `new`, that it is there as well.
    fn progress(&self, api: Api, key: &str, mood: Mood, stored: &Stored, new: bool) {
        let settings = &self.shared.settings;
        let plan = match api {
            Api::Account => account::plan(settings, mood, &stored.transaction_reference),
            Api::Card => card::plan(settings, mood, &stored.status),
        };
        let (moves, receiver) = mpsc::unbounded_channel();
        let (book, stopped, key) = (Arc::clone(&self.shared.book), self.shared.stopped.clone(), key.to_owned());
        tokio::spawn(self.sender(api).run(Arc::clone(&book), key.clone(), mood, receiver));
        let mut arrived = has_arrived(&stored.status);
        let first = new.then(|| Moved { stored: stored.clone(), late: false, at: clock::now() });
        tokio::spawn(async move {
            if first.is_some_and(|first| moves.send(first).is_err()) {
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
                arrived |= has_arrived(status);
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

/// Whether the money had arrived, so that what comes next is a return.
fn has_arrived(status: &str) -> bool {
    matches!(status, "COMPLETED" | "refunded")
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
