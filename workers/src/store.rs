//! The system of record: one Redis or Valkey, one script per decision.
//!
//! [`Store`] is a cheap handle; keys, scripts and connections are not visible outside this module. Every call has its own deadline, and every
//! mutating script can be repeated, so a call whose answer was lost is sent again. Whoever gets [`StoreError::Unavailable`] knows nothing about
//! whether the write happened, and may simply repeat it too.

pub mod accounts;
pub mod aside;
mod batch_retention;
pub mod batches;
pub mod books;
pub mod bulletins;
pub mod circuits;
mod commit;
pub mod deliveries;
pub mod durability;
pub mod fan_out;
pub mod feed;
pub mod freeze;
mod gather;
pub mod groups;
mod handover;
pub mod keys;
pub mod lanes;
pub mod limits;
pub mod lists;
pub mod notices;
pub mod parties;
pub mod party_freeze;
pub mod payouts;
pub mod portal;
pub mod private_server;
pub mod processes;
pub mod receipts;
pub mod reconciliations;
pub mod references;
pub mod replays;
pub mod retention;
pub mod schedules;
mod slots;
pub mod subscriptions;
mod together;
pub mod turns;
pub mod vault;
pub mod vitals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use domain::id::{Mode, PartyId, PayoutId, Shard, Shards, SubscriptionId, TopUpId};
use domain::money::Currency;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{RedisError, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::Clock;
use vault::{Vault, VaultError};

/// How the store is reached and laid out.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `redis://` or `rediss://` (TLS), with user, password and database.
    pub url: String,
    /// In front of every key, so that several installations can share a server.
    pub prefix: String,
    /// Into how many shards the keys are cut. Fixed when the store is created.
    pub shards: u8,
    /// Connections that share the traffic.
    pub connections: usize,
    /// The longest time for one call, repeats included. A commit waits for the one that is under way before its time begins.
    pub deadline_ms: u64,
}

/// A handle to the store.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    connections: Vec<ConnectionManager>,
    turn: AtomicUsize,
    scripts: Scripts,
    names: Names,
    shards: Shards,
    vault: Vault,
    clock: Clock,
    deadline: Duration,
    healthy: AtomicBool,
    wakes: Wakes,
    takers: handover::Takers,
    /// Of each shard.
    calls: Vec<Arc<together::Calls>>,
    longest_lease_ms: AtomicU64,
    subscriptions_max: AtomicUsize,
}

/// Told when work of a lane became due earlier than anybody expected.
#[derive(Clone, Default)]
pub struct Wakes {
    pub execute: Arc<Notify>,
    pub poll: Arc<Notify>,
    pub settle: Arc<Notify>,
    pub expand: Arc<Notify>,
    pub group: Arc<Notify>,
    pub relay: Arc<Notify>,
    pub circuit: Arc<Notify>,
    pub schedule: Arc<Notify>,
    pub replay: Arc<Notify>,
}

/// Why a call of the store did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No usable answer within the deadline. A write may or may not have happened; repeating it is safe.
    #[error("the store does not answer")]
    Unavailable(#[source] Option<RedisError>),
    /// The server is at its memory limit and refuses writes. Nothing was written.
    #[error("the store is full")]
    Full,
    /// An account does not cover a payout, but the store has lately lost what it had written: the money may have come in, and the payout may have been
    /// sent. Nothing was written. Repeating it later is safe.
    #[error("the account's balance is not certain after a restore of the store")]
    Restored,
    /// What was read is not what was written.
    #[error("a record of the store cannot be read: {0}")]
    Corrupt(String),
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The server refuses the call itself, and will again.
    #[error("the store refuses a call")]
    Refused(#[source] RedisError),
    /// A setting that must never change, because the ids of payouts or of keys follow from it, differs from what the store was begun with.
    #[error("`{0}` is not what this store was begun with: set it back, or begin with another `redis.prefix`")]
    OtherSettings(&'static str),
}

/// Every script, once.
struct Scripts {
    commit: Script,
    lease: Script,
    give_back: Script,
    lease_relay: Script,
    give_back_relay: Script,
    relayed: Script,
    fan_out: Script,
    timeline: Script,
    redeliver: Script,
    replay_begin: Script,
    replay_write: Script,
    replay_payout: Script,
    feed_open: Script,
    feed_close: Script,
    feed_trim: Script,
    payout_trim: Script,
    abandoned_trim: Script,
    excerpt_trim: Script,
    claimed: Script,
    receipt_append: Script,
    receipt_trim: Script,
    remember: Script,
    look: Script,
    look_turns: Script,
    put_off: Script,
    use_turn: Script,
    settled: Script,
    retry_notice: Script,
    subscribe: Script,
    account: Script,
    top_up: Script,
    heard: Script,
    release: Script,
    announce: Script,
    set_aside: Script,
    account_release: Script,
    party_freeze: Script,
    party_thaw: Script,
    freeze: Script,
    thaw: Script,
    resume: Script,
    batch_accept: Script,
    batch_expanded: Script,
    batch_standing: Script,
    batch_ended: Script,
    batch_trim: Script,
    group_begin: Script,
    group_end: Script,
    party_write: Script,
    schedule_advance: Script,
    schedule_put_off: Script,
    server: Script,
    portal_link: Script,
    portal_enter: Script,
    portal_seen: Script,
}

struct Script {
    body: &'static str,
    hash: String,
}

/// The names of keys. All keys of a party carry the hash tag of its shard, so that one script reaches them on a cluster too.
struct Names {
    prefix: String,
    /// `prefix{s00}:` and so on, by the number of the shard: for a commit it is needed a dozen times.
    shards: Vec<String>,
}

/// The room that most commands and records get along with. Growing into it bit by bit is a tenth of a delivery's work.
const COMMAND_PARTS: usize = 64;
const COMMAND_BYTES: usize = 4_096;
const RECORD_BYTES: usize = 1_024;

// === impl Script ===

impl Script {
    fn new(body: &'static str) -> Self {
        Self { body, hash: redis::Script::new(body).get_hash().to_owned() }
    }

    /// The beginning of a call, with room for so many parts and bytes.
    fn call(&self, keys: &[&str], (parts, bytes): (usize, usize)) -> redis::Cmd {
        let mut command = redis::Cmd::with_capacity(parts, bytes);
        command.arg("EVALSHA").arg(&self.hash).arg(keys.len()).arg(keys);
        command
    }
}

// === impl Names ===

impl Names {
    fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), shards: (0..=u8::MAX).map(|index| format!("{prefix}{{{}}}:", Shard::new(index).tag())).collect() }
    }

    fn shard(&self, shard: Shard) -> &str {
        &self.shards[usize::from(shard.index())]
    }

    fn payout(&self, id: PayoutId) -> String {
        format!("{}po:{id}", self.shard(id.shard()))
    }

    fn party(&self, shard: Shard, what: &str, party: &PartyId, mode: Mode) -> String {
        [self.shard(shard), what, ":", party.as_str(), ":", mode.as_str()].concat()
    }

    /// What the platform has set up of a balance account.
    fn account(&self, shard: Shard, party: &PartyId, mode: Mode, currency: Currency) -> String {
        [&self.party(shard, "account", party, mode), ":", currency.code()].concat()
    }

    /// What is in a balance account.
    fn ledger(&self, shard: Shard, party: &PartyId, mode: Mode, currency: Currency) -> String {
        [&self.party(shard, "acct", party, mode), ":", currency.code()].concat()
    }

    fn top_up(&self, id: TopUpId) -> String {
        format!("{}tu:{id}", self.shard(id.shard()))
    }

    fn subscription(&self, id: SubscriptionId) -> String {
        format!("{}sub:{id}", self.shard(id.shard()))
    }

    fn of(&self, shard: Shard, what: &str) -> String {
        [self.shard(shard), what].concat()
    }
}

// === impl Store ===

impl Store {
    /// Connects, and begins to listen for wake-ups. Succeeds only once the server answers, within the deadline.
    ///
    /// # Errors
    /// An unusable URL, or a server that does not answer.
    pub async fn open(settings: &Settings, vault: Vault) -> Result<Self, StoreError> {
        let shards = Shards::new(settings.shards).ok_or_else(|| StoreError::Corrupt("`redis.shards` must be from 1 to 100".to_owned()))?;
        let deadline = Duration::from_millis(settings.deadline_ms);
        let client = redis::Client::open(settings.url.as_str()).map_err(|error| StoreError::Unavailable(Some(error)))?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(2)
            .set_min_delay(Duration::from_millis(20))
            .set_max_delay(Duration::from_millis(200))
            .set_connection_timeout(Some(deadline.min(Duration::from_secs(1))))
            // Every call has a deadline of its own.
            .set_response_timeout(None);
        let connect = || ConnectionManager::new_with_config(client.clone(), config.clone());
        let opening = async { futures_util::future::try_join_all((0..settings.connections.max(1)).map(|_| connect())).await };
        let connections = tokio::time::timeout(deadline.max(Duration::from_secs(2)), opening)
            .await
            .map_err(|_| StoreError::Unavailable(None))?
            .map_err(|error| StoreError::Unavailable(Some(error)))?;
        let store = Self {
            shared: Arc::new(Shared {
                connections,
                turn: AtomicUsize::new(0),
                scripts: Scripts {
                    commit: Script::new(concat!(
                        include_str!("store/progress.lua"),
                        include_str!("store/gate.lua"),
                        include_str!("store/wants.lua"),
                        include_str!("store/tombstones.lua"),
                        include_str!("store/commit.lua")
                    )),
                    lease: Script::new(include_str!("store/lease.lua")),
                    give_back: Script::new(include_str!("store/give_back.lua")),
                    lease_relay: Script::new(include_str!("store/lease_relay.lua")),
                    give_back_relay: Script::new(include_str!("store/give_back_relay.lua")),
                    relayed: Script::new(include_str!("store/relayed.lua")),
                    fan_out: Script::new(concat!(include_str!("store/wants.lua"), include_str!("store/fan_out.lua"))),
                    timeline: Script::new(include_str!("store/timeline.lua")),
                    redeliver: Script::new(concat!(include_str!("store/coming.lua"), include_str!("store/redeliver.lua"))),
                    replay_begin: Script::new(include_str!("store/replay_begin.lua")),
                    replay_write: Script::new(include_str!("store/replay_write.lua")),
                    replay_payout: Script::new(concat!(include_str!("store/coming.lua"), include_str!("store/replay_payout.lua"))),
                    feed_open: Script::new(include_str!("store/feed_open.lua")),
                    feed_close: Script::new(include_str!("store/feed_close.lua")),
                    feed_trim: Script::new(include_str!("store/feed_trim.lua")),
                    payout_trim: Script::new(concat!(include_str!("store/tombstones.lua"), include_str!("store/payout_trim.lua"))),
                    abandoned_trim: Script::new(include_str!("store/abandoned_trim.lua")),
                    excerpt_trim: Script::new(include_str!("store/excerpt_trim.lua")),
                    claimed: Script::new(concat!(include_str!("store/tombstones.lua"), include_str!("store/claimed.lua"))),
                    receipt_append: Script::new(include_str!("store/receipt_append.lua")),
                    receipt_trim: Script::new(include_str!("store/receipt_trim.lua")),
                    remember: Script::new(include_str!("store/remember.lua")),
                    look: Script::new(include_str!("store/look.lua")),
                    look_turns: Script::new(include_str!("store/look_turns.lua")),
                    put_off: Script::new(include_str!("store/put_off.lua")),
                    use_turn: Script::new(include_str!("store/use_turn.lua")),
                    settled: Script::new(include_str!("store/settled.lua")),
                    retry_notice: Script::new(include_str!("store/retry_notice.lua")),
                    subscribe: Script::new(concat!(
                        include_str!("store/wants.lua"),
                        include_str!("store/tell.lua"),
                        include_str!("store/subscribe.lua")
                    )),
                    account: Script::new(concat!(include_str!("store/setting_up.lua"), include_str!("store/account.lua"))),
                    top_up: Script::new(include_str!("store/top_up.lua")),
                    heard: Script::new(include_str!("store/heard.lua")),
                    release: Script::new(concat!(include_str!("store/releasing.lua"), include_str!("store/release.lua"))),
                    announce: Script::new(concat!(
                        include_str!("store/wants.lua"),
                        include_str!("store/tell.lua"),
                        include_str!("store/announce.lua")
                    )),
                    set_aside: Script::new(include_str!("store/set_aside.lua")),
                    account_release: Script::new(concat!(include_str!("store/releasing.lua"), include_str!("store/account_release.lua"))),
                    party_freeze: Script::new(include_str!("store/party_freeze.lua")),
                    freeze: Script::new(include_str!("store/freeze.lua")),
                    thaw: Script::new(include_str!("store/thaw.lua")),
                    party_thaw: Script::new(concat!(include_str!("store/releasing.lua"), include_str!("store/party_thaw.lua"))),
                    resume: Script::new(include_str!("store/resume.lua")),
                    batch_accept: Script::new(include_str!("store/batch_accept.lua")),
                    batch_expanded: Script::new(include_str!("store/batch_expanded.lua")),
                    batch_standing: Script::new(include_str!("store/batch_standing.lua")),
                    batch_ended: Script::new(include_str!("store/batch_ended.lua")),
                    batch_trim: Script::new(include_str!("store/batch_trim.lua")),
                    group_begin: Script::new(include_str!("store/group_begin.lua")),
                    group_end: Script::new(include_str!("store/group_end.lua")),
                    party_write: Script::new(concat!(include_str!("store/setting_up.lua"), include_str!("store/party_write.lua"))),
                    schedule_advance: Script::new(concat!(include_str!("store/progress.lua"), include_str!("store/schedule_advance.lua"))),
                    schedule_put_off: Script::new(include_str!("store/schedule_put_off.lua")),
                    server: Script::new(include_str!("store/server.lua")),
                    portal_link: Script::new(include_str!("store/portal_link.lua")),
                    portal_enter: Script::new(include_str!("store/portal_enter.lua")),
                    portal_seen: Script::new(include_str!("store/portal_seen.lua")),
                },
                names: Names::new(&settings.prefix),
                shards,
                vault,
                clock: Clock::default(),
                deadline,
                healthy: AtomicBool::new(true),
                wakes: Wakes::default(),
                takers: handover::Takers::default(),
                calls: shards.all().map(|_| Arc::new(together::calls())).collect(),
                longest_lease_ms: AtomicU64::new(0),
                subscriptions_max: AtomicUsize::new(subscriptions::MAX),
            }),
        };
        store.refresh_clock().await?;
        Ok(store)
    }

    /// The present time, by the store's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Tells how long the leases of the workers are: for so long after a store was restored, somebody may act on a permission of which it knows nothing.
    pub fn leases_last(&self, lease: Duration) {
        self.shared.longest_lease_ms.store(lanes::millis(lease), Ordering::Relaxed);
    }

    /// How many subscriptions a party may have per mode from now on. Those that it has already stay. 10,000, unless this is called.
    pub fn subscriptions_at_most(&self, most: usize) {
        self.shared.subscriptions_max.store(most, Ordering::Relaxed);
    }

    #[must_use]
    pub fn shards(&self) -> Shards {
        self.shared.shards
    }

    #[must_use]
    pub fn wakes(&self) -> &Wakes {
        &self.shared.wakes
    }

    /// Whether the last call got an answer.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.shared.healthy.load(Ordering::Relaxed)
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// No answer within the deadline.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.query(redis::cmd("PING")).await.map(drop)
    }

    /// Moves the time of this store, for everybody who uses it. For tests and simulations; live mode refuses a store whose time was moved.
    ///
    /// # Errors
    /// As every call.
    pub async fn move_clock(&self, by: Duration) -> Result<(), StoreError> {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        for shard in self.shared.shards.all() {
            self.query(redis::cmd("INCRBY").arg(self.shared.names.of(shard, "clock")).arg(by).to_owned()).await?;
        }
        self.refresh_clock().await
    }

    /// Reads the offset that the store's time has been moved by.
    ///
    /// # Errors
    /// As every call.
    pub async fn refresh_clock(&self) -> Result<(), StoreError> {
        let Some(shard) = self.shared.shards.all().next() else { return Ok(()) };
        let offset: Option<i64> = from_value(self.query(redis::cmd("GET").arg(self.shared.names.of(shard, "clock")).to_owned()).await?)?;
        self.shared.clock.set_offset(offset.unwrap_or(0));
        Ok(())
    }

    /// Listens for wake-ups until dropped. A lost subscription is taken up again; the queue's own tick covers what is missed meanwhile.
    pub async fn listen(&self, url: &str) {
        let mut wait = crate::waits::reconnect();
        loop {
            if let Err(error) = self.listen_once(url).await {
                tracing::warn!(%error, "the wake-up channel is down; work is found by the timer until it is back");
            }
            crate::waits::pause(&mut wait).await;
        }
    }

    async fn listen_once(&self, url: &str) -> Result<(), RedisError> {
        use futures_util::StreamExt as _;
        let client = redis::Client::open(url)?;
        let (mut sink, mut messages) = client.get_async_pubsub().await?.split();
        for shard in self.shared.shards.all() {
            sink.subscribe(self.shared.names.of(shard, "wake")).await?;
        }
        let wakes = &self.shared.wakes;
        for lane in
            [&wakes.execute, &wakes.poll, &wakes.settle, &wakes.expand, &wakes.group, &wakes.relay, &wakes.circuit, &wakes.schedule, &wakes.replay]
        {
            lane.notify_one();
        }
        while let Some(message) = messages.next().await {
            match message.get_payload_bytes() {
                b"execute" => wakes.execute.notify_one(),
                b"poll" => wakes.poll.notify_one(),
                b"settle" => wakes.settle.notify_one(),
                b"expand" => wakes.expand.notify_one(),
                b"group" => wakes.group.notify_one(),
                b"relay" => wakes.relay.notify_one(),
                b"circuit" => wakes.circuit.notify_one(),
                b"schedule" => wakes.schedule.notify_one(),
                b"replay" => wakes.replay.notify_one(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Runs a script. Repeats it, within the deadline, when the connection was lost, the server is loading, or it does not know the script yet.
    async fn run(&self, script: &Script, keys: &[&str], fill: impl FnOnce(&mut redis::Cmd)) -> Result<Value, StoreError> {
        let mut command = script.call(keys, (COMMAND_PARTS, COMMAND_BYTES));
        fill(&mut command);
        self.call(command, script).await
    }

    /// A call that is written out.
    async fn call(&self, command: redis::Cmd, script: &Script) -> Result<Value, StoreError> {
        self.send(command, Some(script.body)).await
    }

    async fn query(&self, command: redis::Cmd) -> Result<Value, StoreError> {
        self.send(command, None).await
    }

    async fn send(&self, command: redis::Cmd, script: Option<&'static str>) -> Result<Value, StoreError> {
        let ends = Instant::now() + self.shared.deadline;
        let mut last = None;
        let mut wait = Duration::from_millis(10);
        loop {
            let mut connection = self.connection();
            match tokio::time::timeout_at(ends, connection.send_packed_command(&command)).await {
                Err(_) => return Err(self.unavailable(last)),
                Ok(Ok(Value::ServerError(error))) => last = Some(RedisError::from(error)),
                Ok(Ok(value)) => {
                    self.shared.healthy.store(true, Ordering::Relaxed);
                    return Ok(value);
                }
                Ok(Err(error)) => last = Some(error),
            }
            match last.as_ref().map(Trouble::of) {
                Some(Trouble::NoScript) if script.is_some() => {
                    let load = redis::cmd("SCRIPT").arg("LOAD").arg(script.unwrap_or_default()).to_owned();
                    let _ = tokio::time::timeout_at(ends, connection.send_packed_command(&load)).await;
                    continue;
                }
                Some(Trouble::Full) => return Err(StoreError::Full),
                Some(Trouble::Passing) => {}
                Some(Trouble::NoScript | Trouble::Final) | None => return Err(last.map_or(StoreError::Unavailable(None), StoreError::Refused)),
            }
            if Instant::now() + wait >= ends {
                return Err(self.unavailable(last));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(200));
        }
    }

    /// The connection whose turn it is.
    fn connection(&self) -> ConnectionManager {
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        self.shared.connections[turn % self.shared.connections.len()].clone()
    }

    fn unavailable(&self, cause: Option<RedisError>) -> StoreError {
        self.shared.healthy.store(false, Ordering::Relaxed);
        StoreError::Unavailable(cause)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("prefix", &self.shared.names.prefix).finish_non_exhaustive()
    }
}

/// What to do about an error of the server or the connection.
enum Trouble {
    NoScript,
    /// Over its memory limit.
    Full,
    /// Worth another try within the deadline: connection lost, still loading, a replica that will be promoted, a slot that moves.
    Passing,
    Final,
}

impl Trouble {
    fn of(error: &RedisError) -> Self {
        match (error.kind(), error.code()) {
            (redis::ErrorKind::Server(ServerErrorKind::NoScript), _) => Self::NoScript,
            (_, Some("OOM")) => Self::Full,
            (
                redis::ErrorKind::Server(
                    ServerErrorKind::BusyLoading
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown,
                )
                | redis::ErrorKind::Io,
                _,
            ) => Self::Passing,
            _ if error.is_timeout() || error.is_connection_dropped() || error.is_connection_refusal() => Self::Passing,
            _ => Self::Final,
        }
    }
}

/// Reads an answer of the server.
fn from_value<T: redis::FromRedisValue>(value: Value) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn from_json<T: serde::de::DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, StoreError> {
    // The parser's own words may quote what it read.
    let place = |error: serde_json::Error| format!("{what}: {:?} error at line {} column {}", error.classify(), error.line(), error.column());
    serde_json::from_slice(text).map_err(|error| StoreError::Corrupt(place(error)))
}

fn to_json<T: serde::Serialize>(value: &T) -> String {
    let mut text = Vec::with_capacity(RECORD_BYTES);
    serde_json::to_writer(&mut text, value).expect("records have string keys only, so they are always JSON");
    String::from_utf8(text).expect("JSON is UTF-8")
}
