//! The sandboxes of all providers at one address, each under a path of its own, with a page that tells people and programs where everything is.
//!
//! | route | what it is |
//! |---|---|
//! | `GET /` | the page: for a browser as HTML, else as JSON |
//! | `GET /ledgers/{provider}` | the money that one provider has moved; `GET /ledgers`: all of them, as one |
//! | `/truelayer/…`, `/truelayer-v3/…`, `/worldpay/…`, `/mollie/…` | the sandboxes. Worldpay's two APIs have one root, as they have in the world |

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use domain::fact::Provider;
use domain::id::{PayoutId, ProviderKey};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::admin::{Desk, described};
use super::audit::{Direction, Ledger, Movement};
use super::line;
use super::mood::{Distribution, Mood};
use super::page;
use crate::worldpay::sandbox::book::Api;
use crate::{mollie, truelayer, truelayer_v3, worldpay};

/// What the sandboxes are like, and where they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where they listen.
    pub address: SocketAddr,
    /// Scheme, host and port of the installation that is told: notices go to `/notices/{provider}/test` there, unless a sandbox has an address of its own.
    #[serde(default)]
    pub notices: Option<String>,
    pub truelayer: truelayer::sandbox::Settings,
    pub truelayer_v3: truelayer_v3::sandbox::Settings,
    pub worldpay: worldpay::sandbox::Settings,
    pub mollie: mollie::sandbox::Settings,
}

/// Why they could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("sandbox.truelayer")]
    Truelayer(#[source] truelayer::sandbox::OpenError),
    #[error("sandbox.truelayer_v3")]
    TruelayerV3(#[source] truelayer::sandbox::OpenError),
    #[error("sandbox.worldpay")]
    Worldpay(#[source] worldpay::sandbox::OpenError),
    #[error("sandbox.mollie")]
    Mollie(#[source] mollie::sandbox::OpenError),
}

/// Every sandbox. Cloning shares them.
#[derive(Clone, Debug)]
pub struct All {
    pub truelayer: truelayer::sandbox::Sandbox,
    pub truelayer_v3: truelayer_v3::sandbox::Sandbox,
    pub worldpay: worldpay::sandbox::Sandbox,
    pub mollie: mollie::sandbox::Sandbox,
    url: Arc<str>,
}

/// How often money left for a payout, and came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub out: u32,
    pub back: u32,
}

/// Where a provider's sandbox is, below the address of all.
#[must_use]
pub const fn path(provider: Provider) -> &'static str {
    match provider {
        Provider::Truelayer => "/truelayer",
        Provider::TruelayerV3 => "/truelayer-v3",
        Provider::WorldpayAccount | Provider::WorldpayCard => "/worldpay",
        Provider::Mollie => "/mollie",
    }
}

/// The moods that exist at a provider.
#[must_use]
pub const fn moods(provider: Provider) -> &'static [Mood] {
    match provider {
        Provider::Truelayer => <truelayer::sandbox::Sandbox as Desk>::MOODS,
        Provider::TruelayerV3 => <truelayer_v3::sandbox::Sandbox as Desk>::MOODS,
        Provider::WorldpayAccount | Provider::WorldpayCard => <worldpay::sandbox::Sandbox as Desk>::MOODS,
        Provider::Mollie => <mollie::sandbox::Sandbox as Desk>::MOODS,
    }
}

/// The names of the providers at which a mood exists.
pub(super) fn having(mood: Mood) -> Vec<&'static str> {
    Provider::ALL.into_iter().filter(|provider| moods(*provider).contains(&mood)).map(Provider::name).collect()
}

impl All {
    /// Opens the sandboxes, which others reach at `url`. Serves nothing yet.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names the section.
    pub fn new(settings: Settings, url: &str) -> Result<Self, OpenError> {
        let Settings { address: _, notices, mut truelayer, mut truelayer_v3, mut worldpay, mut mollie } = settings;
        let url: Arc<str> = url.trim_end_matches('/').into();
        if let Some(base) = notices {
            let address = |provider: Provider| format!("{}/notices/{}/test", base.trim_end_matches('/'), provider.name());
            truelayer.notice_url.get_or_insert_with(|| address(Provider::Truelayer));
            truelayer_v3.notice_url.get_or_insert_with(|| address(Provider::TruelayerV3));
            worldpay.account_notice_url.get_or_insert_with(|| address(Provider::WorldpayAccount));
            worldpay.card_notice_url.get_or_insert_with(|| address(Provider::WorldpayCard));
            mollie.notice_url.get_or_insert_with(|| address(Provider::Mollie));
        }
        let below = |provider| format!("{url}{}", path(provider));
        truelayer.public_url.get_or_insert_with(|| below(Provider::Truelayer));
        truelayer_v3.public_url.get_or_insert_with(|| below(Provider::TruelayerV3));
        worldpay.public_url.get_or_insert_with(|| below(Provider::WorldpayAccount));
        Ok(Self {
            truelayer: truelayer::sandbox::Sandbox::new(truelayer).map_err(OpenError::Truelayer)?,
            truelayer_v3: truelayer_v3::sandbox::Sandbox::new(truelayer_v3).map_err(OpenError::TruelayerV3)?,
            worldpay: worldpay::sandbox::Sandbox::new(worldpay).map_err(OpenError::Worldpay)?,
            mollie: mollie::sandbox::Sandbox::new(mollie).map_err(OpenError::Mollie)?,
            url,
        })
    }

    /// The address under which a provider is reached.
    #[must_use]
    pub fn url(&self, provider: Provider) -> String {
        format!("{}{}", self.url, path(provider))
    }

    /// What one provider's books say.
    #[must_use]
    pub fn ledger_of(&self, provider: Provider) -> Ledger {
        match provider {
            Provider::Truelayer => self.truelayer.ledger(),
            Provider::TruelayerV3 => self.truelayer_v3.ledger(),
            Provider::WorldpayAccount => self.worldpay.ledger_of(Api::Account),
            Provider::WorldpayCard => self.worldpay.ledger_of(Api::Card),
            Provider::Mollie => self.mollie.ledger(),
        }
    }

    /// What all books say together, oldest first: a payout that two providers have paid is a double movement too.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut movements: Vec<Movement> = Provider::ALL.into_iter().flat_map(|provider| self.ledger_of(provider).movements).collect();
        movements.sort_by_key(|movement| movement.at);
        Ledger::of(movements)
    }

    /// What moved for each payout of ours, by provider.
    #[must_use]
    pub fn moved(&self) -> BTreeMap<(PayoutId, Provider), Moved> {
        let mut moved: BTreeMap<(PayoutId, Provider), Moved> = BTreeMap::new();
        for provider in Provider::ALL {
            for movement in self.ledger_of(provider).movements {
                let Some((payout, _)) = movement.payout_and_attempt() else { continue };
                let moved = moved.entry((payout, provider)).or_default();
                match movement.direction {
                    Direction::Out => moved.out += 1,
                    Direction::Back => moved.back += 1,
                }
            }
        }
        moved
    }

    /// How often money left for a payout, wherever.
    #[must_use]
    pub fn times_paid(&self, payout: PayoutId) -> usize {
        let movements = self.ledger().movements.into_iter();
        movements.filter(|one| one.direction == Direction::Out && one.payout_and_attempt().is_some_and(|(id, _)| id == payout)).count()
    }

    /// The mood in which a provider took an attempt, if it has seen it.
    #[must_use]
    pub fn mood(&self, provider: Provider, key: ProviderKey) -> Option<Mood> {
        match provider {
            Provider::Truelayer => self.truelayer.payout(key.as_uuid()).map(|view| view.mood),
            Provider::TruelayerV3 => self.truelayer_v3.payout(key.as_uuid()).map(|view| view.mood),
            Provider::WorldpayAccount | Provider::WorldpayCard => self.worldpay.payout(key).map(|view| view.mood),
            Provider::Mollie => self.mollie.payout(key.as_uuid()).map(|view| view.mood),
        }
    }

    /// Random moods everywhere for payouts that choose none; `None` for plain.
    pub fn set_random(&self, distribution: Option<&Distribution>) {
        self.truelayer.set_random(distribution.cloned());
        self.truelayer_v3.set_random(distribution.cloned());
        self.worldpay.set_random(distribution.cloned());
        self.mollie.set_random(distribution.cloned());
    }

    /// Whether nothing will move or be told any more without somebody's doing.
    #[must_use]
    pub fn are_done(&self) -> bool {
        self.truelayer.is_done() && self.truelayer_v3.is_done() && self.worldpay.is_done() && self.mollie.is_done()
    }

    /// All routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(front))
            .route("/ledgers", get(|State(all): State<Self>| async move { Json(all.ledger()) }))
            .route("/ledgers/{provider}", get(ledger))
            .with_state(self.clone())
            .nest_service(path(Provider::Truelayer), self.truelayer.router())
            .nest_service(path(Provider::TruelayerV3), self.truelayer_v3.router())
            .nest_service(path(Provider::WorldpayAccount), self.worldpay.router())
            .nest_service(path(Provider::Mollie), self.mollie.router())
    }

    /// Serves until `shutdown`, then cuts every connection and stops sending notices, as processes that end would.
    /// Payouts of journals that have not ended go on.
    ///
    /// # Errors
    ///
    /// The listener fails.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        self.truelayer.resume();
        self.truelayer_v3.resume();
        self.worldpay.resume();
        self.mollie.resume();
        let served = line::serve(self.router(), listener, shutdown).await;
        self.truelayer.stop();
        self.truelayer_v3.stop();
        self.worldpay.stop();
        self.mollie.stop();
        served
    }
}

async fn ledger(State(all): State<All>, Path(provider): Path<String>) -> Response {
    let ledger = Provider::named(&provider).map(|provider| all.ledger_of(provider));
    ledger.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |ledger| Json(ledger).into_response())
}

/// The page. A browser says that it would rather have HTML.
async fn front(State(all): State<All>, headers: HeaderMap) -> Response {
    let wants_html = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("text/html"));
    if wants_html {
        return Html(page::front(&all)).into_response();
    }
    let provider = |provider: Provider| {
        let (url, ledger) = (all.url(provider), all.ledger_of(provider));
        serde_json::json!({
            "provider": provider.name(),
            "base_url": url,
            "moods": moods(provider),
            "admin": {"moods": format!("{url}/sandbox/moods"), "payout": format!("{url}/sandbox/payouts/{{key}}"), "advance": format!("{url}/sandbox/payouts/{{key}}/advance")},
            "ledger": {"href": format!("{}/ledgers/{}", all.url, provider.name()), "movements": ledger.movements.len(), "double_movements": ledger.double_movements},
        })
    };
    let providers: Vec<_> = Provider::ALL.into_iter().map(provider).collect();
    Json(serde_json::json!({"providers": providers, "moods": described(&Mood::ALL), "how": page::HOW, "deposit": page::DEPOSIT})).into_response()
}
