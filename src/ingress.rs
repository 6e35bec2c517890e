//! The HTTP interface for platforms, merchants, operators and providers. It commits, it never enqueues and never calls a provider.
//!
//! A request passes, in this order: id and trace ([`edge`]) → panics caught, time limit → share of the machine, or 503 → authentication ([`caller`]) →
//! raw body within its limit, then its signature ([`intake`]) → strict parsing ([`json`], [`query`]) → the route. Whatever goes wrong is a [`problem`].
//! The secrets, accounts and names that pass through are in no log, span, metric or error.

mod balance_accounts;
mod balances;
pub mod batches;
pub mod caller;
mod commands;
pub(crate) mod deliveries;
pub mod edge;
mod events;
pub mod feed;
mod hal;
mod hal_balances;
mod hal_payout_list;
mod hal_payouts;
mod hal_webhooks;
pub mod health;
mod instruments;
pub mod intake;
pub mod json;
pub mod metrics;
pub mod notices;
mod opening;
pub mod order;
mod parties;
mod party_freeze;
pub mod payouts;
mod portal_links;
pub mod problem;
mod providers;
pub mod query;
mod quotes;
pub mod rate;
mod receipts;
mod reconciliations;
pub mod replays;
mod revision;
mod room;
mod serve;
mod timeline;
mod top_ups;
mod transactions;
pub mod view;
mod webhook_challenge;
mod webhook_fields;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use axum::Router;
use axum::middleware::from_fn_with_state;
use domain::calendar::Calendars;
use domain::id::{Mode, PartyId};
use domain::party::Country;
use opentelemetry::metrics::Meter;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use workers::egress::Egress;
use workers::gate;
use workers::record::Recorder;
use workers::routing;

use caller::Keys;
use health::Scrape;
use problem::{Kind, Problem};
use rate::Rates;
use room::Room;

/// How often a change is decided again. Each time, somebody else's write got through.
const DECISIONS_MAX: u32 = 5;

/// Limits and defaults of the ingress. Every field but the pepper has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whether live keys are served: `server.live`, which also decides what the store must promise.
    #[serde(skip)]
    pub live: bool,
    /// The address that callers and providers reach.
    #[serde(default = "defaults::listen")]
    pub listen: String,
    /// The address for operators: health and metrics. Not for the internet.
    #[serde(default = "defaults::admin_listen")]
    pub admin_listen: String,
    /// The values of `Host` that are served, with their port where it is not the usual one. Empty: any.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The party of requests with a platform key that name none.
    #[serde(default = "defaults::default_party")]
    pub default_party: PartyId,
    /// Which providers payouts go to that ask for none, and in which order. Without a rule that fits: the first provider that is configured and can take them.
    #[serde(default)]
    pub routes: Vec<routing::Rule>,
    /// Which payouts a second person must approve: those that one of these rules fits.
    #[serde(default)]
    pub approvals: Vec<routing::Rule>,
    /// How long an approval is waited for, in hours. Then the payout is canceled.
    #[serde(default = "defaults::approval_hours")]
    pub approval_hours: u16,
    /// How much may go within a time.
    #[serde(default)]
    pub limits: Vec<gate::Limit>,
    /// How long a beneficiary's account is known after the last send to it.
    #[serde(default = "defaults::known_days")]
    pub known_days: u16,
    /// The most accounts that a party can have that are known.
    #[serde(default = "defaults::known_max")]
    pub known_max: u32,
    /// Whether a payout is refused while an equal one is inconclusive or in review.
    #[serde(default = "defaults::refuse_twins")]
    pub refuse_twins: bool,
    /// The secret that API keys and requests are hashed with, at least 16 bytes. With another one, all keys have to be made again and no repeat of an
    /// earlier request is recognised as one (it is refused, not paid).
    pub key_pepper: SecretString,
    /// How long an API key is kept in memory, and so how long a revoked one goes on working.
    #[serde(default = "defaults::key_cache_ms")]
    pub key_cache_ms: u64,
    /// How many API keys are kept in memory; as many again of tokens that are none.
    #[serde(default = "defaults::key_cache_max")]
    pub key_cache_max: usize,
    /// How many requests a second an API key may make.
    #[serde(default)]
    pub rate: rate::Settings,
    /// The largest body of a request.
    #[serde(default = "defaults::body_max_bytes")]
    pub body_max_bytes: usize,
    /// The countries of parties whose balance accounts must have a schedule.
    #[serde(default)]
    pub schedule_countries: Vec<Country>,
    /// The most payout instruments of a party.
    #[serde(default = "defaults::instruments_max")]
    pub instruments_max: usize,
    /// Limits of batches.
    #[serde(default)]
    pub batches: batches::Settings,
    /// Limits of what is done for subscriptions while their party waits.
    #[serde(default)]
    pub webhooks: webhooks::Settings,
    /// The pages for parties: `[portal]`.
    #[serde(skip)]
    pub portal: crate::portal::Settings,
    /// Limits of what waits for events.
    #[serde(default)]
    pub feed: feed::Settings,
    /// Limits of replays.
    #[serde(default)]
    pub replays: replays::Settings,
    /// The installation's keys for webhooks: `relay.signing_keys`.
    #[serde(skip)]
    pub signing_keys: workers::relay::keys::SigningKeys,
    /// The largest body of a provider's notice.
    #[serde(default = "defaults::notice_max_bytes")]
    pub notice_max_bytes: usize,
    /// The time for a body to arrive. Less than `timeout_ms`.
    #[serde(default = "defaults::body_timeout_ms")]
    pub body_timeout_ms: u64,
    /// The time for a request from its headers to its answer.
    #[serde(default = "defaults::timeout_ms")]
    pub timeout_ms: u64,
    /// The time for headers to arrive, and so also that for which an idle connection is kept. Longer than a load balancer keeps its own.
    #[serde(default = "defaults::header_timeout_ms")]
    pub header_timeout_ms: u64,
    /// The largest head of a request, at least 8192.
    #[serde(default = "defaults::header_max_bytes")]
    pub header_max_bytes: usize,
    /// The most headers of a request.
    #[serde(default = "defaults::headers_max")]
    pub headers_max: usize,
    /// The most connections. More wait to be accepted.
    #[serde(default = "defaults::connections_max")]
    pub connections_max: usize,
    /// The most requests under way. More are answered 503 at once.
    #[serde(default = "defaults::concurrency")]
    pub concurrency: usize,
    /// The time for requests under way to finish at the end.
    #[serde(default = "defaults::drain_ms")]
    pub drain_ms: u64,
}

impl Settings {
    /// What payouts have to pass when they are opened, whoever opens them.
    #[must_use]
    pub fn gate(&self) -> gate::Gate {
        let rules = gate::Rules {
            approvals: self.approvals.clone(),
            approval_hours: self.approval_hours,
            limits: self.limits.clone(),
            known_days: self.known_days,
            known_max: self.known_max,
            refuse_twins: self.refuse_twins,
        };
        gate::Gate::new(self.key_pepper.expose_secret().as_bytes(), rules)
    }
}

mod defaults {
    use domain::id::PartyId;

    pub(super) fn listen() -> String {
        "127.0.0.1:8080".to_owned()
    }
    pub(super) fn admin_listen() -> String {
        "127.0.0.1:9090".to_owned()
    }
    pub(super) fn default_party() -> PartyId {
        PartyId::parse("default").expect("the name of the default party is one")
    }
    pub(super) const fn approval_hours() -> u16 {
        72
    }
    pub(super) const fn known_days() -> u16 {
        400
    }
    pub(super) const fn known_max() -> u32 {
        10_000
    }
    pub(super) const fn refuse_twins() -> bool {
        true
    }
    pub(super) const fn key_cache_ms() -> u64 {
        5_000
    }
    pub(super) const fn key_cache_max() -> usize {
        10_000
    }
    pub(super) const fn body_max_bytes() -> usize {
        64 * 1024
    }
    pub(super) const fn instruments_max() -> usize {
        50
    }
    pub(super) const fn notice_max_bytes() -> usize {
        64 * 1024
    }
    pub(super) const fn body_timeout_ms() -> u64 {
        5_000
    }
    pub(super) const fn timeout_ms() -> u64 {
        10_000
    }
    pub(super) const fn header_timeout_ms() -> u64 {
        75_000
    }
    pub(super) const fn header_max_bytes() -> usize {
        32 * 1024
    }
    pub(super) const fn headers_max() -> usize {
        100
    }
    pub(super) const fn connections_max() -> usize {
        10_000
    }
    pub(super) const fn concurrency() -> usize {
        512
    }
    pub(super) const fn drain_ms() -> u64 {
        10_000
    }
}

/// All that the routes need.
pub struct Ingress {
    recorder: Recorder,
    /// Knows where webhooks may go. Nothing is sent from here but pings.
    egress: Egress,
    /// On which days balance accounts are paid out.
    calendars: Calendars,
    settings: Settings,
    pepper: Vec<u8>,
    keys: Keys,
    metrics: metrics::Metrics,
    /// Requests of callers under way.
    slots: Semaphore,
    /// Notices under way. Kept apart, because anybody can send something to their address.
    notice_slots: Semaphore,
    /// Batches being taken in.
    batch_slots: Arc<Semaphore>,
    /// Pings under way, of each mode: nobody who tries something keeps a live URL waiting.
    pings: [Room; 2],
    /// Dry runs of replays, which read much.
    dry_runs: Room,
    rates: Rates,
    /// Requests of browsers under way. Kept apart, because they come from people, and anybody can open the first page.
    pub(crate) portal_slots: Semaphore,
    /// Those who come with a link. Kept apart from people who are in, because anybody can begin such a request and not end it.
    pub(crate) door_slots: Semaphore,
    /// Requests that wait for events.
    feed_slots: Room,
    /// Signatures being verified.
    verifying: Semaphore,
    shutdown: CancellationToken,
}

impl std::fmt::Debug for Ingress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingress").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Ingress {
    /// Room for calls to subscribers that somebody waits for.
    fn pings(&self, mode: Mode) -> &Room {
        let [test, live] = &self.pings;
        if mode == Mode::Live { live } else { test }
    }

    /// `shutdown` is what ends [`serve()`]; readiness looks at it.
    ///
    /// # Errors
    /// Settings that contradict each other or themselves.
    pub fn new(
        recorder: Recorder,
        egress: Egress,
        calendars: Calendars,
        settings: Settings,
        meter: &Meter,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let pepper = settings.key_pepper.expose_secret().as_bytes().to_vec();
        ensure!(pepper.len() >= 16, "ingress.key_pepper must have at least 16 bytes");
        ensure!(settings.body_timeout_ms < settings.timeout_ms, "ingress.body_timeout_ms must be less than ingress.timeout_ms");
        ensure!(
            settings.concurrency > 0 && settings.connections_max > 0 && settings.headers_max > 0 && settings.key_cache_max > 0,
            "ingress.concurrency, connections_max, headers_max and key_cache_max must not be 0"
        );
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        recorder.store.subscriptions_at_most(settings.webhooks.subscriptions_max);
        Ok(Arc::new(Self {
            recorder,
            egress,
            calendars,
            pepper,
            keys: Keys::new(Duration::from_millis(settings.key_cache_ms), settings.key_cache_max),
            metrics: metrics::Metrics::new(meter),
            slots: Semaphore::new(settings.concurrency),
            notice_slots: Semaphore::new((settings.concurrency / 4).max(1)),
            batch_slots: Arc::new(Semaphore::new(settings.batches.concurrency)),
            pings: [(); 2].map(|()| Room::new(settings.webhooks.pings)),
            dry_runs: Room::new(settings.replays.dry_runs),
            rates: Rates::new(settings.rate),
            portal_slots: Semaphore::new(settings.portal.concurrency),
            door_slots: Semaphore::new((settings.portal.concurrency / 4).max(1)),
            feed_slots: Room::new(settings.feed.waiting_max),
            verifying: Semaphore::new(cores),
            settings,
            shutdown,
        }))
    }

    /// What the portal needs of it; the routes here see it all.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What tokens are hashed with.
    pub(crate) fn pepper(&self) -> &[u8] {
        &self.pepper
    }

    /// Counts a request for which there was no room.
    pub(crate) fn shed(&self) {
        self.metrics.shed();
    }
}

/// The routes for callers and providers, and health.
pub fn router(ingress: &Arc<Ingress>) -> Router {
    let shared = payouts::routes()
        .merge(batches::routes())
        .merge(webhooks::routes())
        .merge(events::routes())
        .merge(deliveries::routes())
        .merge(receipts::routes())
        .merge(feed::routes())
        .merge(replays::routes())
        .merge(balances::routes())
        .merge(top_ups::routes())
        .merge(transactions::routes())
        .merge(providers::routes())
        .merge(reconciliations::routes())
        .merge(parties::routes())
        .merge(party_freeze::routes())
        .merge(instruments::routes())
        .merge(balance_accounts::routes())
        .merge(hal_payouts::routes())
        .merge(hal_balances::routes())
        .merge(hal_webhooks::routes())
        .merge(portal_links::routes())
        .layer(from_fn_with_state(Arc::clone(ingress), edge::share));
    let noticed = notices::routes().layer(from_fn_with_state(Arc::clone(ingress), edge::share_notices));
    let routes = shared.merge(noticed).merge(health::routes());
    finish(ingress, if ingress.settings.portal.enabled { routes.merge(crate::portal::routes(ingress)) } else { routes })
}

/// The routes for operators: health, and metrics where something can write them.
pub fn admin_router(ingress: &Arc<Ingress>, scrape: Option<Scrape>) -> Router {
    let routes = health::routes();
    finish(ingress, if let Some(scrape) = scrape { routes.merge(health::metrics(scrape)) } else { routes })
}

fn finish(ingress: &Arc<Ingress>, routes: Router<Arc<Ingress>>) -> Router {
    routes
        .fallback(async || Problem::not_found("resource"))
        .method_not_allowed_fallback(async || Problem::new(Kind::MethodNotAllowed, "The `Allow` header lists its methods."))
        .layer(from_fn_with_state(Arc::clone(ingress), edge::edge))
        .with_state(Arc::clone(ingress))
}

/// Serves callers and providers until the shutdown that [`Ingress::new`] was given, then lets requests finish, up to `drain_ms`.
///
/// # Errors
/// None at present: trouble with single connections is theirs.
pub async fn serve(listener: TcpListener, ingress: &Arc<Ingress>) -> anyhow::Result<()> {
    serve::serve(listener, router(ingress), &ingress.settings, ingress.shutdown.clone()).await
}

/// Serves operators, as [`serve()`].
///
/// # Errors
/// None at present.
pub async fn serve_admin(listener: TcpListener, ingress: &Arc<Ingress>, scrape: Option<Scrape>) -> anyhow::Result<()> {
    serve::serve(listener, admin_router(ingress, scrape), &ingress.settings, ingress.shutdown.clone()).await
}
