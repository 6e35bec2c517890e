//! The parts of a process, put together: the store, the providers, and either end or both: the ingress and the workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use domain::id::Mode;
use jiff::Timestamp;
use opentelemetry::metrics::Meter;
use providers::Providers;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use workers::agreement;
use workers::egress::Egress;
use workers::execute::Payouts;
use workers::fence::Fence;
use workers::lanes::Lanes;
use workers::metrics::Metrics;
use workers::record::Recorder;
use workers::relay::RelayContext;
use workers::retention::{self, Archive};
use workers::schedule;
use workers::store::Store;
use workers::store::processes::Process;
use workers::sweep;

use crate::config::{BadConfig, Config};
use crate::ingress::health::Scrape;
use crate::ingress::{self, Ingress};
use crate::telemetry::Vitals;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes requests and notices.
    Serve,
    /// Works through what is due.
    Work,
    /// Both.
    All,
}

/// Where a process listens, once it does.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// `None` for a process that only works.
    pub ingress: Option<SocketAddr>,
    pub admin: SocketAddr,
}

/// How a process is watched.
#[derive(Clone)]
pub struct Watch {
    /// Writes the metrics.
    pub scrape: Scrape,
    /// Is told what sweeps find and which lanes run.
    pub vitals: Arc<Vitals>,
}

/// What every process has.
pub struct Parts {
    pub store: Store,
    pub recorder: Recorder,
    pub egress: Egress,
}

/// Opens the store and sets up the providers. Refuses live mode on a store that may forget.
///
/// # Errors
/// Whatever is missing or wrong.
pub async fn open(config: &Config, meter: &Meter) -> anyhow::Result<Parts> {
    let store = Store::open(&config.redis, config.vault()?).await.context("opening the store")?;
    store.leases_last(Duration::from_millis(config.workers.lease_ms));
    let party = config.ingress.default_party.as_str();
    store.recognise(config.pepper(), party).await.context("comparing the configuration with what the store was begun with")?;
    if config.server.live {
        let failed: Vec<_> = store.durability().await?.into_iter().filter(|check| !check.ok).collect();
        for check in &failed {
            tracing::error!(check = check.name, found = %check.found, "the store may forget what it has acknowledged");
        }
        if !failed.is_empty() && !config.server.trust_store {
            bail!("live mode needs a store that keeps what it has acknowledged; `payrelay doctor` explains each check");
        }
    }
    let providers = Arc::new(Providers::new(&config.providers).context("setting up the providers")?);
    let recorder = Recorder::new(store.clone(), providers, Metrics::new(meter), config.ingress.gate(), &config.rules);
    Ok(Parts { store, recorder, egress: Egress::new(&config.egress) })
}

/// The lanes of a process.
///
/// # Errors
/// A fence file that cannot be used.
pub fn lanes(config: &Config, parts: &Parts) -> anyhow::Result<Lanes> {
    let fence = Fence::open(config.fence.path.as_deref())?;
    Ok(Lanes {
        payouts: Arc::new(Payouts {
            recorder: parts.recorder.clone(),
            fence,
            settings: config.execute.clone(),
            circuit: config.circuit.clone(),
            schedules: schedule::Rules {
                settings: config.schedules,
                calendars: config.calendars.read().map_err(|problems| BadConfig { problems })?,
                routes: config.ingress.routes.clone(),
            },
            deposits: config.deposits.clone(),
        }),
        relay: Arc::new(RelayContext::new(parts.store.clone(), parts.egress.clone(), &config.relay)),
        settings: config.workers.clone(),
    })
}

/// Runs a process in its role until `stop`, and then until what was under way has ended. `listening` is told once connections are accepted.
///
/// # Errors
/// It could not be started, or a part of it ended by itself.
pub async fn run(
    config: &Config,
    role: Role,
    watch: Option<Watch>,
    stop: CancellationToken,
    listening: Option<oneshot::Sender<Listening>>,
) -> anyhow::Result<()> {
    let meter = opentelemetry::global::meter("payrelay");
    let (scrape, vitals) = watch.map(|watch| (watch.scrape, watch.vitals)).unzip();
    let parts = open(config, &meter).await?;
    let settings = ingress::Settings {
        live: config.server.live,
        portal: config.portal.clone(),
        signing_keys: config.relay.signing_keys.clone(),
        ..config.ingress.clone()
    };
    let calendars = config.calendars.read().map_err(|problems| BadConfig { problems })?;
    let ingress = Ingress::new(parts.recorder.clone(), parts.egress.clone(), calendars, settings, &meter, stop.clone())?;
    let admin = bind("ingress.admin_listen", &config.ingress.admin_listen).await?;
    let public = if role == Role::Work { None } else { Some(bind("ingress.listen", &config.ingress.listen).await?) };
    let at = Listening { ingress: public.as_ref().map(TcpListener::local_addr).transpose()?, admin: admin.local_addr()? };

    let mut running = JoinSet::new();
    let interval = Duration::from_millis(config.workers.sweep_ms);
    let me = myself(config, role, at.admin);
    let id = me.id.clone();
    let (store, watching, ends) = (parts.store.clone(), vitals.clone(), stop.clone());
    running.spawn(async move {
        let observe = move |found: &agreement::Disagreements| {
            if let Some(vitals) = &watching {
                vitals.compared(found);
            }
        };
        agreement::run(&store, &me, interval, ends, observe).await;
        Ok(())
    });
    if let Some(listener) = public {
        let ingress = ingress.clone();
        running.spawn(async move { ingress::serve(listener, &ingress).await });
    }
    running.spawn(async move { ingress::serve_admin(admin, &ingress, scrape).await });
    if role != Role::Serve {
        let lanes = lanes(config, &parts)?;
        let (store, url, ends) = (parts.store.clone(), config.redis.url.clone(), stop.clone());
        running.spawn(async move {
            ends.run_until_cancelled(store.listen(&url)).await;
            Ok(())
        });
        let (told, swept) = (vitals.clone(), vitals);
        let (payouts, ends) = (lanes.payouts.clone(), stop.clone());
        running.spawn(async move {
            let observe = move |found: &sweep::Swept| {
                if let Some(vitals) = &swept {
                    vitals.observe(found);
                }
            };
            sweep::run(&payouts, interval, ends, observe).await;
            Ok(())
        });
        let (settings, store, ends) = (config.retention.clone(), parts.store.clone(), stop.clone());
        let archive = settings.archive.as_deref().map(Archive::open).transpose().context("opening the archive (`retention.archive`)")?;
        running.spawn(async move {
            retention::run(&store, &id, &settings, archive.as_ref(), ends).await;
            Ok(())
        });
        let ends = stop.clone();
        running.spawn(async move {
            let health = |health| {
                if let Some(vitals) = &told {
                    vitals.lanes(health);
                }
            };
            lanes.run(&ends, health).await
        });
    }
    tracing::info!(ingress = ?at.ingress, admin = %at.admin, live = config.server.live, providers.test = %named(&parts, Mode::Test), "started");
    if let Some(listening) = listening {
        let _ = listening.send(at);
    }
    while let Some(ended) = running.join_next().await {
        let ended = ended.context("a part of the process panicked").and_then(|ended| ended);
        if !stop.is_cancelled() {
            // One part without the others is worse than none: a supervisor starts them all again.
            stop.cancel();
            ended?;
            bail!("a part of the process ended by itself");
        }
        ended?;
    }
    Ok(())
}

/// What this process says of itself to the others.
fn myself(config: &Config, role: Role, admin: SocketAddr) -> Process {
    let role = match role {
        Role::Serve => "serve",
        Role::Work => "work",
        Role::All => "all",
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Process {
        id: const_hex::encode(rand::random::<[u8; 16]>()),
        name: format!("{host}/{} ({role}, admin {admin}, {})", std::process::id(), env!("CARGO_PKG_VERSION")),
        told: config.told.clone(),
        lease_ms: config.workers.lease_ms,
        until: Timestamp::MIN,
    }
}

async fn bind(key: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address} (`{key}`)"))
}

fn named(parts: &Parts, mode: Mode) -> String {
    parts.recorder.providers.configured(mode).map(domain::fact::Provider::name).collect::<Vec<_>>().join(", ")
}
