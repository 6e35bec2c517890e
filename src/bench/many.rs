//! One event for many subscriptions: how long it takes to come to all of them, and what the others notice of one that accepts everything and answers nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use domain::id::{Mode, PartyId, Shard, SubscriptionId};
use domain::subscription::{EventTypes, Pattern, Secrets, Status, Subscription};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;
use workers::store::Store;
use workers::store::subscriptions::Subscribed;

use super::figures::quantile;
use super::limits::secret;
use super::load::{self, Connection, Orders};
use crate::local::Local;
use crate::subscriber::Received;

/// Subscriptions that are told the one event.
pub(super) const FANNED: usize = 1_000;
/// Subscriptions that answer, beside the one that does not.
const HEALTHY: usize = 99;
/// Events, of which the first does not count: it opens connections.
const EVENTS: usize = 6;
/// Pairs of runs without and with the one that does not answer.
const PAIRS: usize = 5;
/// Between two events of such a run.
const PACE: Duration = Duration::from_millis(100);
/// How long webhooks may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// The parties of these events.
pub(super) const FAN_OUT: &str = "fan-out";
pub(super) const BLACK_HOLE: &str = "black-hole";

/// A receiver that accepts connections, and lets whoever comes wait for ever.
struct BlackHole {
    url: String,
    held: Arc<Mutex<Vec<TcpStream>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl BlackHole {
    async fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (url, held) = (format!("http://{}/", listener.local_addr()?), Arc::new(Mutex::new(Vec::new())));
        let holding = held.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                holding.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            }
        });
        Ok(Self { url, held, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// Ends every connection, and says how many there were.
    fn let_go(&self) -> usize {
        std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner)).len()
    }
}

/// From the request that makes an event until the last of [`FANNED`] subscriptions has it, verified: the median of several, in s.
pub(super) async fn fan_out_s(local: &Local, orders: &Orders) -> anyhow::Result<f64> {
    subscribe(&local.store, FAN_OUT, &local.subscriber_url, FANNED).await?;
    local.subscriber.trust(vec![secret()?]);
    local.subscriber.count_only(true);
    let mut connection = Connection::open(orders.host()).await?;
    let mut took = Vec::new();
    for _ in 0..EVENTS {
        let request = orders.request(Uuid::new_v4())?;
        let (before, began) = (local.subscriber.verified(), Instant::now());
        connection.ask(&request).await?;
        while local.subscriber.verified() < before + FANNED as u64 {
            ensure!(began.elapsed() < PATIENCE, "{} of {FANNED} webhooks are missing", before + FANNED as u64 - local.subscriber.verified());
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        took.push(began.elapsed().as_secs_f64());
    }
    Ok(quantile(&mut took[1..], 0.5))
}

/// The slowest hundredth of the deliveries to [`HEALTHY`] subscriptions beside one that answers nothing, by that without it: the median of pairs, each run once in this order
/// and once in the other.
pub(super) async fn black_hole_p99_ratio(local: &Local, orders: &Orders, during: Duration) -> anyhow::Result<f64> {
    subscribe(&local.store, BLACK_HOLE, &local.subscriber_url, HEALTHY).await?;
    let hole = BlackHole::open().await?;
    let id = subscribe(&local.store, BLACK_HOLE, &hole.url, 1).await?.pop().context("a subscription")?;
    local.subscriber.trust(vec![secret()?]);
    local.subscriber.count_only(false);
    let mut told = local.subscriber.tell();
    serve(&local.store, id, false).await?;
    p99_ms(orders, &mut told, during).await?;
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        let mut p99 = [f64::NAN; 2];
        for open in [pair % 2 == 1, pair % 2 == 0] {
            serve(&local.store, id, open).await?;
            p99[usize::from(open)] = p99_ms(orders, &mut told, during).await?;
            serve(&local.store, id, false).await?;
            ensure!((hole.let_go() > 0) == open, "the black hole was called when it should not be, or was not");
        }
        ratios.push(p99[1] / p99[0]);
    }
    local.subscriber.count_only(true);
    Ok(quantile(&mut ratios, 0.5))
}

/// Sends events at a steady pace, and gives the time within which all but the slowest hundredth of their deliveries came, in ms.
async fn p99_ms(orders: &Orders, told: &mut UnboundedReceiver<Received>, during: Duration) -> anyhow::Result<f64> {
    let sent = load::paced(orders, PACE, during).await?;
    let sent: HashMap<String, Instant> = sent.into_iter().map(|(id, at)| (id.to_string(), at)).collect();
    let mut took = Vec::with_capacity(sent.len() * HEALTHY);
    while took.len() < sent.len() * HEALTHY {
        let received = tokio::time::timeout(PATIENCE, told.recv()).await.context("a webhook did not arrive")?.context("the subscriber has gone")?;
        took.extend(sent.get(&received.transaction).map(|at| received.at.duration_since(*at).as_secs_f64() * 1_000.0));
    }
    Ok(quantile(&mut took, 0.99))
}

/// Subscriptions of a party to one type of events, all of which lead to one URL and are signed with one secret: what is measured is not how that is verified.
async fn subscribe(store: &Store, party: &str, url: &str, count: usize) -> anyhow::Result<Vec<SubscriptionId>> {
    let (party, secrets) = (PartyId::parse(party)?, Secrets::new(secret()?));
    let wanted = EventTypes::These([Pattern::parse("payout.requested")?].into());
    let mut made = Vec::with_capacity(count);
    for _ in 0..count {
        let [.., a, b, c, d, e, f, g, h, i, j, k] = Uuid::new_v4().into_bytes();
        let id = SubscriptionId::new(Shard::new(0), [a, b, c, d, e, f, g, h, i, j, k]);
        let subscription = Subscription::new(id, party.clone(), Mode::Test, url.to_owned(), wanted.clone(), store.clock().now());
        ensure!(store.subscribe(&subscription, Some(&secrets)).await? == Subscribed::Done, "a subscription could not be made");
        made.push(id);
    }
    Ok(made)
}

/// Whether events are sent to a subscription; otherwise they accumulate.
async fn serve(store: &Store, id: SubscriptionId, open: bool) -> anyhow::Result<()> {
    let (mut subscription, _) = store.subscription(id).await?.context("the subscription")?;
    subscription.status = if open { Status::Enabled } else { Status::Paused { at: store.clock().now() } };
    subscription.version += 1;
    ensure!(store.begin_afresh(&subscription, None).await? == Subscribed::Done, "somebody else changes the subscription");
    Ok(())
}
