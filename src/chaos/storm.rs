//! What breaks: two worker processes and the store, each with dice of its own.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use workers::failpoints;
use workers::store::private_server::PrivateServer;

use super::PAST_THE_LEASE;
use super::dice::Dice;
use crate::child::{Child, Program, Signal};

/// The worker processes, by name.
pub(super) const WORKERS: [&str; 2] = ["worker-1", "worker-2"];

/// What a process that was aborted ends with.
const SIGABRT: i32 = 6;
/// How long a worker may take until it listens for signals. Before it does, they end it.
const BEGINS: Duration = Duration::from_secs(20);
/// The pause before it is looked at again whether it does.
const LOOK: Duration = Duration::from_millis(20);
/// How long a worker may take to end when it is asked to.
const GOODBYE: Duration = Duration::from_secs(10);
/// The pause before a worker that could not be started, because the store was away, is started again.
const AGAIN: Duration = Duration::from_millis(200);

/// How often what was broken.
#[derive(Debug, Default, Serialize)]
pub(super) struct Counts {
    /// Workers ended without warning, by a signal or at a failpoint.
    pub(super) kills: u64,
    /// By failpoint.
    pub(super) aborts: BTreeMap<&'static str, u64>,
    /// Workers that stood still for longer than their leases and went on.
    pub(super) stops: u64,
    /// Workers that ended because the store was away when they began.
    pub(super) failed_starts: u64,
    pub(super) redis_kills: u64,
    pub(super) redis_stops: u64,
}

/// What becomes of one worker process.
enum Fate {
    Killed { after: Duration },
    Aborted { point: &'static str, pass: u64, or_killed_after: Duration },
    Stopped { after: Duration, by: Duration },
}

/// Everything that is being broken.
pub(super) struct Storm {
    calm: CancellationToken,
    end: CancellationToken,
    workers: JoinSet<anyhow::Result<Counts>>,
    store: JoinHandle<anyhow::Result<(PrivateServer, Counts)>>,
}

/// Nothing is broken any more; what runs still runs.
pub(super) struct Calm {
    end: CancellationToken,
    workers: JoinSet<anyhow::Result<Counts>>,
    server: PrivateServer,
    counts: Counts,
}

impl Storm {
    pub(super) fn rise(program: &Program, server: PrivateServer, seed: u64) -> Self {
        let (calm, end) = (CancellationToken::new(), CancellationToken::new());
        let mut workers = JoinSet::new();
        for (place, name) in WORKERS.into_iter().enumerate() {
            let worker = Worker { program: program.clone(), name, dice: Dice::new(seed, name), counts: Counts::default() };
            workers.spawn(worker.live(place, calm.clone(), end.clone()));
        }
        let store = tokio::spawn(break_store(server, Dice::new(seed, "store"), calm.clone()));
        Self { calm, end, workers, store }
    }

    /// Breaks nothing more, and waits until the store is back and each worker has been replaced by one that nobody kills.
    pub(super) async fn calm_down(self) -> anyhow::Result<Calm> {
        self.calm.cancel();
        let (server, counts) = self.store.await??;
        Ok(Calm { end: self.end, workers: self.workers, server, counts })
    }
}

impl Calm {
    /// Ends the workers in good order, which must work too.
    pub(super) async fn end(mut self) -> anyhow::Result<Counts> {
        self.end.cancel();
        while let Some(ended) = self.workers.join_next().await {
            self.counts.add(ended??);
        }
        drop(self.server);
        Ok(self.counts)
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        let Self { kills, aborts, stops, failed_starts, redis_kills, redis_stops } = other;
        self.kills += kills;
        self.stops += stops;
        self.failed_starts += failed_starts;
        self.redis_kills += redis_kills;
        self.redis_stops += redis_stops;
        for (point, count) in aborts {
            *self.aborts.entry(point).or_default() += count;
        }
    }
}

impl Fate {
    /// The first two rounds are settled, so that a short run sees both; the second worker begins with the second.
    fn draw(dice: &mut Dice, round: usize) -> Self {
        let choice = match round {
            0 => 0,
            1 => 99,
            _ => dice.within(0..100),
        };
        match choice {
            0..50 => {
                let pass = dice.within(1..5);
                let point = dice.pick(&failpoints::POINTS).unwrap_or(failpoints::POINTS[0]);
                Self::Aborted { point, pass, or_killed_after: dice.millis(1_500..3_500) }
            }
            50..80 => Self::Killed { after: dice.millis(300..3_000) },
            _ => Self::Stopped { after: dice.millis(300..1_200), by: PAST_THE_LEASE + dice.millis(0..800) },
        }
    }

    fn failpoints(&self) -> String {
        if let Self::Aborted { point, pass, .. } = self { format!("{point}=abort@{pass}") } else { String::new() }
    }
}

/// One place of a worker, which processes take one after the other.
struct Worker {
    program: Program,
    name: &'static str,
    dice: Dice,
    counts: Counts,
}

impl Worker {
    async fn live(mut self, place: usize, calm: CancellationToken, end: CancellationToken) -> anyhow::Result<Counts> {
        for round in place.. {
            if calm.is_cancelled() {
                break;
            }
            let fate = Fate::draw(&mut self.dice, round);
            let mut child = self.program.start(self.name, &fate.failpoints())?;
            self.suffer(&mut child, fate, &calm).await?;
            tokio::time::sleep(self.dice.millis(0..300)).await;
        }
        self.live_in_peace(&end).await?;
        Ok(self.counts)
    }

    async fn suffer(&mut self, child: &mut Child, fate: Fate, calm: &CancellationToken) -> anyhow::Result<()> {
        let alive = match fate {
            Fate::Killed { after } => self.runs(child, after, None, calm).await?,
            Fate::Aborted { point, or_killed_after, .. } => self.runs(child, or_killed_after, Some(point), calm).await?,
            Fate::Stopped { after, by } => {
                let alive = self.runs(child, after, None, calm).await?;
                if alive {
                    child.signal(Signal::STOP)?;
                    // Not cut short: what is interesting comes after it.
                    tokio::time::sleep(by).await;
                    child.signal(Signal::CONT)?;
                    self.counts.stops += 1;
                }
                alive && self.runs(child, Duration::from_secs(1), None, calm).await?
            }
        };
        if alive {
            child.kill().await?;
            self.counts.kills += 1;
        }
        Ok(())
    }

    /// Lets it run; whether it still does then. What ends it in between is either the failpoint or a store that was away when it began.
    async fn runs(&mut self, child: &mut Child, time: Duration, point: Option<&'static str>, calm: &CancellationToken) -> anyhow::Result<bool> {
        let Some(ended) = calm.run_until_cancelled(child.ended(time)).await else { return Ok(true) };
        let Some(status) = ended? else { return Ok(true) };
        match (status.signal(), point) {
            (Some(SIGABRT), Some(point)) => {
                self.counts.kills += 1;
                *self.counts.aborts.entry(point).or_default() += 1;
            }
            (None, _) if !status.success() => self.counts.failed_starts += 1,
            _ => bail!("{} ended by itself: {status}", self.name),
        }
        Ok(false)
    }

    /// Runs until `end`, and then ends in good order.
    async fn live_in_peace(&mut self, end: &CancellationToken) -> anyhow::Result<()> {
        loop {
            let (mut child, begun) = (self.program.start(self.name, "")?, Instant::now());
            let ended = tokio::select! {
                ended = child.ended(Duration::MAX) => ended?,
                () = end.cancelled() => {
                    while !child.heeds(Signal::TERM) && begun.elapsed() < BEGINS {
                        tokio::time::sleep(LOOK).await;
                    }
                    child.signal(Signal::TERM)?;
                    let status = child.ended(GOODBYE).await?.with_context(|| format!("{} does not end when it is asked to", self.name))?;
                    if !status.success() {
                        bail!("{} was asked to end and ended with {status}", self.name);
                    }
                    return Ok(());
                }
            };
            let status = ended.context("a process that has ended")?;
            if status.signal().is_some() {
                bail!("{} ended by itself: {status}", self.name);
            }
            self.counts.failed_starts += 1;
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn break_store(mut server: PrivateServer, mut dice: Dice, calm: CancellationToken) -> anyhow::Result<(PrivateServer, Counts)> {
    let mut counts = Counts::default();
    for round in 0_u64.. {
        if calm.run_until_cancelled(tokio::time::sleep(dice.millis(1_000..3_000))).await.is_none() {
            break;
        }
        if round % 3 == 1 {
            server = apart(server, |server| {
                server.signal(Signal::STOP);
                Ok(())
            })
            .await?;
            tokio::time::sleep(dice.millis(500..3_000)).await;
            server = apart(server, |server| {
                server.signal(Signal::CONT);
                Ok(())
            })
            .await?;
            counts.redis_stops += 1;
        } else {
            server = apart(server, |server| {
                server.kill();
                Ok(())
            })
            .await?;
            tokio::time::sleep(dice.millis(0..1_000)).await;
            server = apart(server, PrivateServer::resume).await?;
            counts.redis_kills += 1;
        }
    }
    Ok((server, counts))
}

/// Does something that blocks to the server.
async fn apart(
    mut server: PrivateServer,
    deed: impl FnOnce(&mut PrivateServer) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<PrivateServer> {
    tokio::task::spawn_blocking(move || deed(&mut server).map(|()| server)).await?
}
