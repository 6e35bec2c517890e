//! All lanes together: run until told to stop, or cranked one turn at a time by a test.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::batch::expand;
use crate::circuit::release;
use crate::execute::{Payouts, execute};
use crate::group;
use crate::poll::poll;
use crate::queue::{self, Health, Queue, Turn};
use crate::relay::{RelayContext, relay};
use crate::replay::replay;
use crate::schedule;
use crate::settle::settle;
use crate::store::StoreError;
use crate::store::batches::ExpandLane;
use crate::store::groups::GroupLane;
use crate::store::lanes::{CircuitLane, ExecuteLane, Lane, PollLane, RelayLanes, SettleLane};
use crate::store::replays::ReplayLane;
use crate::store::schedules::ScheduleLane;

/// How the lanes are run.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub execute: LaneSettings,
    pub poll: LaneSettings,
    pub settle: LaneSettings,
    pub expand: LaneSettings,
    pub group: LaneSettings,
    pub relay: LaneSettings,
    pub schedule: LaneSettings,
    /// How long a lease lasts. Longer than the longest handler, so that nothing is handed out twice while it is being done.
    pub lease_ms: u64,
    /// The longest time that a handler may take.
    pub handler_deadline_ms: u64,
    /// The longest sleep of an idle lane: what a lost wake-up costs.
    pub tick_ms: u64,
    /// When work whose handler failed is due again.
    pub failure_wait_ms: u64,
    /// How long a stop waits for work under way.
    pub drain_ms: u64,
    /// How often the open payouts are looked over.
    pub sweep_ms: u64,
}

/// How one lane is run.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneSettings {
    /// Work under way at one time, at most, per shard.
    pub concurrency: usize,
    /// Items of one lease call, at most.
    pub batch: usize,
}

/// Circuits are few, and a look at one is one call of the store.
const CIRCUIT: LaneSettings = LaneSettings { concurrency: 4, batch: 4 };

/// Replays are few, and each takes turns of a second or less.
const REPLAY: LaneSettings = LaneSettings { concurrency: 4, batch: 4 };

/// Everything that works through what is due.
#[derive(Clone)]
pub struct Lanes {
    pub payouts: Arc<Payouts>,
    pub relay: Arc<RelayContext>,
    pub settings: Settings,
}

/// The state of each running lane, for readiness and metrics.
pub type LaneHealth = Vec<(&'static str, Arc<Health>)>;

impl Lanes {
    /// Runs every lane of every shard until `stop`, then drains. `health` is called once, with what can be asked meanwhile.
    ///
    /// # Errors
    /// A lane ended although nobody told it to: the process should end too.
    pub async fn run(&self, stop: &CancellationToken, health: impl FnOnce(LaneHealth)) -> anyhow::Result<()> {
        let mut running = JoinSet::new();
        let mut states = LaneHealth::new();
        let wakes = self.payouts.recorder.store.wakes().clone();
        let shards: Vec<_> = self.payouts.recorder.store.shards().all().collect();
        // With several shards one wake-up has to reach the lanes of all: each has a notification of its own, fed from the store's.
        let fan = |wake: &Arc<Notify>, count: usize| -> Vec<Arc<Notify>> {
            if count == 1 {
                return vec![wake.clone()];
            }
            let each: Vec<_> = (0..count).map(|_| Arc::new(Notify::new())).collect();
            let (wake, lanes, stop) = (wake.clone(), each.clone(), stop.clone());
            tokio::spawn(async move {
                while stop.run_until_cancelled(wake.notified()).await.is_some() {
                    lanes.iter().for_each(|lane| lane.notify_one());
                }
            });
            each
        };
        let [execute_wakes, poll_wakes, settle_wakes, expand_wakes, group_wakes, relay_wakes, circuit_wakes, schedule_wakes, replay_wakes] =
            [&wakes.execute, &wakes.poll, &wakes.settle, &wakes.expand, &wakes.group, &wakes.relay, &wakes.circuit, &wakes.schedule, &wakes.replay]
                .map(|wake| fan(wake, shards.len()));
        for (index, shard) in shards.into_iter().enumerate() {
            let lane = self.lane(shard);
            let queue = Queue::new(ExecuteLane(lane.clone()), self.queue_settings("execute", self.settings.execute), execute_wakes[index].clone());
            states.push(("execute", queue.health()));
            running.spawn(queue::run(queue, self.payouts.clone(), execute, stop.clone()));
            let queue = Queue::new(PollLane(lane.clone()), self.queue_settings("poll", self.settings.poll), poll_wakes[index].clone());
            states.push(("poll", queue.health()));
            running.spawn(queue::run(queue, self.payouts.clone(), poll, stop.clone()));
            let queue = Queue::new(SettleLane(lane.clone()), self.queue_settings("settle", self.settings.settle), settle_wakes[index].clone());
            states.push(("settle", queue.health()));
            running.spawn(queue::run(queue, self.payouts.clone(), settle, stop.clone()));
            let queue = Queue::new(CircuitLane(lane.clone()), self.queue_settings("circuit", CIRCUIT), circuit_wakes[index].clone());
            states.push(("circuit", queue.health()));
            running.spawn(queue::run(queue, self.payouts.clone(), release, stop.clone()));
            let queue = Queue::new(ExpandLane(lane.clone()), self.queue_settings("expand", self.settings.expand), expand_wakes[index].clone());
            states.push(("expand", queue.health()));
            running.spawn(queue::run(queue, self.payouts.clone(), expand, stop.clone()));
            let queue = Queue::new(GroupLane(lane.clone()), self.queue_settings("group", self.settings.group), group_wakes[index].clone());
            states.push(("group", queue.health()));
            running.spawn(queue::run(queue, self.payouts.clone(), group::dispatch, stop.clone()));
            let queue =
                Queue::new(ScheduleLane(lane.clone()), self.queue_settings("schedule", self.settings.schedule), schedule_wakes[index].clone());
            states.push(("schedule", queue.health()));
            running.spawn(queue::run(queue, self.payouts.clone(), schedule::look, stop.clone()));
            let queue = Queue::new(ReplayLane(lane.clone()), self.queue_settings("replay", REPLAY), replay_wakes[index].clone());
            states.push(("replay", queue.health()));
            running.spawn(queue::run(queue, self.relay.clone(), replay, stop.clone()));
            let lanes = self.relay_lanes(lane);
            let queue = Queue::new(lanes.clone(), self.queue_settings("relay", self.settings.relay), relay_wakes[index].clone());
            lanes.lane.store.hand_over_to(&lanes, queue.door());
            states.push(("relay", queue.health()));
            running.spawn(queue::run(queue, self.relay.clone(), relay, stop.clone()));
        }
        health(states);
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// One turn by hand: a batch of every lane that has something due.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn turn(&self) -> Result<Turn, StoreError> {
        let mut did = 0;
        for shard in self.payouts.recorder.store.shards().all() {
            let lane = self.lane(shard);
            did += count(queue::turn(&SettleLane(lane.clone()), &self.queue_settings("settle", self.settings.settle), &self.payouts, settle).await?);
            did += count(queue::turn(&CircuitLane(lane.clone()), &self.queue_settings("circuit", CIRCUIT), &self.payouts, release).await?);
            did += count(
                queue::turn(&ScheduleLane(lane.clone()), &self.queue_settings("schedule", self.settings.schedule), &self.payouts, schedule::look)
                    .await?,
            );
            did += count(queue::turn(&ExpandLane(lane.clone()), &self.queue_settings("expand", self.settings.expand), &self.payouts, expand).await?);
            did += count(
                queue::turn(&GroupLane(lane.clone()), &self.queue_settings("group", self.settings.group), &self.payouts, group::dispatch).await?,
            );
            did +=
                count(queue::turn(&ExecuteLane(lane.clone()), &self.queue_settings("execute", self.settings.execute), &self.payouts, execute).await?);
            did += count(queue::turn(&PollLane(lane.clone()), &self.queue_settings("poll", self.settings.poll), &self.payouts, poll).await?);
            did += count(queue::turn(&ReplayLane(lane.clone()), &self.queue_settings("replay", REPLAY), &self.relay, replay).await?);
            did += count(queue::turn(&self.relay_lanes(lane), &self.queue_settings("relay", self.settings.relay), &self.relay, relay).await?);
        }
        Ok(if did == 0 { Turn::Idle } else { Turn::Did(did) })
    }

    fn lane(&self, shard: domain::id::Shard) -> Lane {
        Lane { store: self.payouts.recorder.store.clone(), shard, lease: Duration::from_millis(self.settings.lease_ms) }
    }

    fn relay_lanes(&self, lane: Lane) -> RelayLanes {
        RelayLanes::new(lane, self.relay.per_subscription(), self.settings.relay.concurrency)
    }

    fn queue_settings(&self, name: &'static str, lane: LaneSettings) -> queue::Settings {
        queue::Settings {
            name,
            concurrency: lane.concurrency,
            batch: lane.batch,
            tick: Duration::from_millis(self.settings.tick_ms),
            handler_deadline: Duration::from_millis(self.settings.handler_deadline_ms),
            panic_backoff: Duration::from_millis(self.settings.failure_wait_ms),
            drain: Duration::from_millis(self.settings.drain_ms),
        }
    }
}

fn count(turn: Turn) -> usize {
    match turn {
        Turn::Did(jobs) => jobs,
        Turn::Idle => 0,
    }
}
