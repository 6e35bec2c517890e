//! One round: an installation of its own, measured from its limits to its last payout.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use domain::fact::Provider;
use domain::id::Shard;
use domain::signature::Secret;
use http::Method;
use jiff::SignedDuration;
use providers::sandbox::all::Settings;
use providers::truelayer::sandbox::notices::NoticeSignature;
use secrecy::SecretString;
use serde_json::json;
use workers::store::limits;
use workers::store::private_server::Fsync;

use super::figures::{Figures, derive, quantile};
use super::limits::{fsyncs_ms, secret, signed_posts_per_s};
use super::load::{self, CONNECTIONS, Orders, per_s};
use super::server::Server;
use super::{Effort, Part, many};
use crate::local::{Local, Plan};

/// How long a process is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(1);
/// How long webhooks may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests at a steady pace: one each.
const PACE: Duration = Duration::from_millis(20);
/// So many of them do not count.
const WARMING: usize = 25;

/// Payouts of this party are delivered to nobody.
const QUIET: &str = "quiet";
/// Events about the request, and nothing else, are delivered for this one.
const TOLD: &str = "told";
/// Events about the settlement, and nothing else, are delivered for this one.
const PAID: &str = "paid";

/// The figures of the providers that are measured after TrueLayer's v1.
const SETTLED_ELSEWHERE: [(Provider, &str); 4] = [
    (Provider::TruelayerV3, "settled_truelayer_v3_per_s"),
    (Provider::WorldpayAccount, "settled_worldpay_account_per_s"),
    (Provider::WorldpayCard, "settled_worldpay_card_per_s"),
    (Provider::Mollie, "settled_mollie_per_s"),
];

/// What a round found.
pub(super) struct Measured {
    pub(super) figures: Figures,
    /// Name and version of the server.
    pub(super) store: String,
}

/// An installation under measurement.
struct Bench<'a> {
    local: Local,
    folder: &'a Path,
    address: SocketAddr,
    token: SecretString,
    effort: &'a Effort,
    figures: Figures,
    /// What has been found for the limit of signed posts.
    posts: Vec<f64>,
}

/// Measures everything once, in `folder`.
pub(super) async fn measure(folder: &Path, fsync: Fsync, effort: &Effort, only: Option<Part>) -> anyhow::Result<Measured> {
    // The system chooses, and its choice is the same for every process that is started here.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let local = Local::start(Plan {
        folder,
        redis_url: None,
        fsync,
        listen: &address.to_string(),
        more: "",
        // The others have accounts when it is their turn.
        providers: &[Provider::Truelayer],
        sandbox: |settings| {
            let Settings { truelayer, truelayer_v3, worldpay, mollie, .. } = settings;
            (truelayer.authorise_after_ms, truelayer.submit_after_ms, truelayer.settle_after_ms) = (0, 0, 0);
            (truelayer_v3.authorize_after_ms, truelayer_v3.execute_after_ms) = (0, 0);
            (mollie.initiate_after_ms, mollie.process_after_ms, mollie.complete_after_ms) = (0, 0, 0);
            worldpay.stage_ms = 0;
            for behaviour in [&mut truelayer.behaviour, &mut truelayer_v3.behaviour, &mut worldpay.behaviour, &mut mollie.behaviour] {
                behaviour.magic = false;
            }
            // RSA signatures of 2 ms each would measure the sandbox.
            truelayer.notice_signature = NoticeSignature::Request;
            // All of them from one balance at once.
            mollie.one_per_balance = false;
        },
        role: None,
    })
    .await?;
    let store = limits::version(&local.config.redis.url).await?;
    let token = local.unsigned.token().clone();
    let mut bench = Bench { local, folder, address, token, effort, figures: Figures::new(), posts: Vec::new() };
    match only {
        None => bench.everything().await?,
        Some(part) => bench.alone(part).await?,
    }
    let Bench { local, mut figures, .. } = bench;
    ensure!(local.subscriber.refused() == 0, "webhooks did not verify");
    local.stop().await?;
    derive(&mut figures);
    Ok(Measured { figures, store })
}

impl Bench<'_> {
    async fn everything(&mut self) -> anyhow::Result<()> {
        self.limits().await?;
        let server = self.starts().await?;
        self.accepted().await?;
        self.paced().await?;
        self.posts().await?;
        self.delivered().await?;
        self.posts().await?;
        let mut peaks: Vec<f64> = server.memory_mb().into_iter().map(|(_, peak)| peak).collect();
        server.stop().await?;
        let server = self.drained().await?;
        self.posts().await?;
        self.fanned_out().await?;
        self.beside_a_black_hole().await?;
        // The subscriber trusts the secret of whoever came last, and what follows is this one's.
        self.settled().await?;
        peaks.extend(server.memory_mb().map(|(_, peak)| peak));
        server.stop().await?;
        self.settled_elsewhere().await?;
        self.figures.extend(peaks.into_iter().reduce(f64::max).map(|peak| ("peak_rss_mb", peak)));
        Ok(())
    }

    async fn alone(&mut self, part: Part) -> anyhow::Result<()> {
        self.local.subscriber.count_only(true);
        let mut server = self.server("all").await?;
        match part {
            Part::Delivered => {
                self.subscribe(TOLD, "payout.requested").await?;
                load::for_a_while(self.for_later(QUIET)?, self.effort.warm_up).await?;
                self.posts().await?;
                self.delivered().await?;
                self.posts().await?;
                server.stop().await?;
                server = self.drained().await?;
                self.posts().await?;
            }
            Part::FanOut => {
                self.posts().await?;
                self.fanned_out().await?;
            }
            Part::BlackHole => self.beside_a_black_hole().await?,
        }
        server.stop().await
    }

    async fn fanned_out(&mut self) -> anyhow::Result<()> {
        println!("  fanned out");
        self.figures.insert("fanout_1000_s", many::fan_out_s(&self.local, &self.for_later(many::FAN_OUT)?).await?);
        Ok(())
    }

    async fn beside_a_black_hole(&mut self) -> anyhow::Result<()> {
        println!("  beside a black hole");
        let ratio = many::black_hole_p99_ratio(&self.local, &self.for_later(many::BLACK_HOLE)?, self.effort.black_hole).await?;
        self.figures.insert("blackhole_p99_ratio", ratio);
        Ok(())
    }

    /// Nothing of ours runs yet.
    async fn limits(&mut self) -> anyhow::Result<()> {
        println!("  limits");
        let url = &self.local.config.redis.url;
        self.figures.insert("limit_evalsha_per_s", limits::scripts_per_s(url, CONNECTIONS, self.effort.rate).await?);
        self.local.subscriber.count_only(true);
        self.posts().await
    }

    /// A machine that others share is now faster and now slower, so this limit is taken close to what is compared with it; the median counts.
    async fn posts(&mut self) -> anyhow::Result<()> {
        let before = self.local.subscriber.trust(vec![secret()?]);
        self.posts.push(signed_posts_per_s(&self.local.config_file, &self.local.subscriber_url, self.effort.rate).await?);
        self.local.subscriber.trust(before);
        self.figures.insert("limit_signed_post_per_s", quantile(&mut self.posts, 0.5));
        Ok(())
    }

    async fn server(&self, command: &'static str) -> anyhow::Result<Server> {
        Server::start(command, &self.local.config_file, self.folder, self.address).await
    }

    /// Starts the server a few times, and leaves the last one running.
    async fn starts(&mut self) -> anyhow::Result<Server> {
        println!("  starts");
        let mut took = Vec::new();
        for _ in 1..self.effort.starts {
            let server = self.server("all").await?;
            took.push(server.started_ms);
            server.stop().await?;
        }
        let server = self.server("all").await?;
        took.push(server.started_ms);
        self.figures.insert("cold_start_ms", quantile(&mut took, 0.5));
        tokio::time::sleep(IDLE).await;
        self.figures.extend(server.memory_mb().map(|(now, _)| ("idle_rss_mb", now)));
        Ok(server)
    }

    /// Payouts for later, for which nothing follows.
    async fn accepted(&mut self) -> anyhow::Result<()> {
        println!("  accepted");
        let orders = self.for_later(QUIET)?;
        load::for_a_while(orders.clone(), self.effort.warm_up).await?;
        self.figures.insert("accepted_per_s", load::for_a_while(orders.clone(), self.effort.rate).await?.per_s());
        let signed = load::exactly(orders.signed(&self.local.caller), self.effort.signed).await?;
        self.figures.insert("accepted_signed_per_s", signed.per_s());
        Ok(())
    }

    /// Requests at a steady pace, each on its own time, whatever becomes of the others. Halfway between two of them a flush shows what one costs there.
    async fn paced(&mut self) -> anyhow::Result<()> {
        println!("  paced");
        self.subscribe(TOLD, "payout.requested").await?;
        let orders = self.for_later(TOLD)?;
        let mut told = self.local.subscriber.tell();
        self.local.subscriber.count_only(false);
        let folder = self.folder.join("redis");
        let flushes = u32::try_from(self.effort.pace.as_millis() / PACE.as_millis())?;
        let flushing = tokio::task::spawn_blocking(move || fsyncs_ms(&folder, flushes, PACE));
        let sent = load::paced(&orders, PACE, self.effort.pace).await?;
        self.figures.insert("fsync_ms", quantile(&mut flushing.await??, 0.5));
        let mut arrived = HashMap::new();
        while arrived.len() < sent.len() {
            let received =
                tokio::time::timeout(PATIENCE, told.recv()).await.context("a webhook did not arrive")?.context("the subscriber has gone")?;
            arrived.insert(received.transaction, received.at);
        }
        self.local.subscriber.count_only(true);
        // The first ones open connections and fill caches.
        let counted = sent.iter().skip(WARMING);
        let took = counted.filter_map(|(id, at)| Some(arrived.get(&id.to_string())?.duration_since(*at).as_secs_f64() * 1_000.0));
        let mut took: Vec<f64> = took.collect();
        self.figures.insert("send_to_sink_p50_ms", quantile(&mut took, 0.5));
        self.figures.insert("send_to_sink_p99_ms", quantile(&mut took, 0.99));
        Ok(())
    }

    /// From the first request until every webhook is there.
    async fn delivered(&mut self) -> anyhow::Result<()> {
        println!("  delivered");
        let orders = self.for_later(TOLD)?;
        let (memory, before, began) = (self.store_bytes().await?, self.local.subscriber.verified(), Instant::now());
        let sent = load::for_a_while(orders, self.effort.warm_up + self.effort.rate).await?;
        let took = self.verified(before, sent.count, began).await?;
        self.figures.insert("delivered_per_s", per_s(sent.count, took));
        self.figures.insert("redis_bytes_per_delivery", (self.store_bytes().await? - memory) / per_s(sent.count, Duration::from_secs(1)));
        Ok(())
    }

    /// A backlog that was taken in while nobody delivered. Leaves the server running that has drained it.
    async fn drained(&mut self) -> anyhow::Result<Server> {
        println!("  drained");
        let serving = self.server("serve").await?;
        let before = self.local.subscriber.verified();
        load::exactly(self.for_later(TOLD)?, self.effort.backlog).await?;
        serving.stop().await?;
        ensure!(self.local.subscriber.verified() == before, "somebody else delivers");
        let began = Instant::now();
        let server = self.server("all").await?;
        let took = self.verified(before, self.effort.backlog, began).await?;
        self.figures.insert("drain_per_s", per_s(self.effort.backlog, took));
        Ok(server)
    }

    /// Payouts for now, to their ends.
    async fn settled(&mut self) -> anyhow::Result<()> {
        println!("  settled");
        self.subscribe(PAID, "payout.completed").await?;
        let per_s = self.to_their_ends(Orders::new(self.address, &self.token, PAID)).await?;
        self.figures.insert("settled_per_s", per_s);
        Ok(())
    }

    /// The same at each of the other providers, by a server that has accounts at all of them. Cards by fast access, which is told the end.
    async fn settled_elsewhere(&mut self) -> anyhow::Result<()> {
        println!("  settled elsewhere");
        let others = SETTLED_ELSEWHERE.map(|(provider, _)| provider);
        let config = self.local.config_with(&others, "providers.worldpay_card_test.endpoint = 'fast-access'\n")?;
        let server = Server::start("all", &config, self.folder, self.address).await?;
        for (provider, name) in SETTLED_ELSEWHERE {
            let orders = Orders::new(self.address, &self.token, PAID).paid_by(provider);
            let per_s = self.to_their_ends(orders).await.with_context(|| provider.name())?;
            self.figures.insert(name, per_s);
        }
        server.stop().await
    }

    async fn to_their_ends(&self, orders: Orders) -> anyhow::Result<f64> {
        let (before, began) = (self.local.subscriber.verified(), Instant::now());
        load::exactly(orders, self.effort.settled).await?;
        let took = self.verified(before, self.effort.settled, began).await?;
        ensure!(self.local.sandboxes.ledger().double_movements == 0, "a payout was paid twice");
        Ok(per_s(self.effort.settled, took))
    }

    fn for_later(&self, party: &'static str) -> anyhow::Result<Orders> {
        let at = self.local.store.clock().now().checked_add(SignedDuration::from_hours(24 * 30))?;
        Ok(Orders::new(self.address, &self.token, party).scheduled(&at.to_string()))
    }

    /// Subscribes the local subscriber to one type of events of a party. It trusts that subscription only.
    async fn subscribe(&self, party: &str, event_type: &str) -> anyhow::Result<()> {
        let body = json!({ "url": self.local.subscriber_url, "event_types": [event_type], "party_id": party });
        let answer = self.local.unsigned.expect(Method::POST, "/v1/webhooks", Some(&body)).await?;
        let secret = answer["result"]["secret"].as_str().or_else(|| answer["secret"].as_str()).context("the secret of the subscription")?;
        self.local.subscriber.trust(vec![Secret::parse(secret)?]);
        Ok(())
    }

    /// Waits for the last of `count` webhooks, after the first `before`, and gives the time since `began`.
    async fn verified(&self, before: u64, count: usize, began: Instant) -> anyhow::Result<Duration> {
        let wanted = before + count as u64;
        loop {
            let (verified, took) = (self.local.subscriber.verified(), began.elapsed());
            if verified >= wanted {
                return Ok(took);
            }
            ensure!(took < PATIENCE, "{} of {count} webhooks are missing", wanted - verified);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn store_bytes(&self) -> anyhow::Result<f64> {
        let bytes = self.local.store.vitals(Shard::new(0)).await?.memory_bytes;
        #[expect(clippy::cast_precision_loss, reason = "a size far below 2^52")]
        Ok(bytes as f64)
    }
}
