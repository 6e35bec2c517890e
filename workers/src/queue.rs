//! Runs leased work: from a [`Source`] (the store's due index, one per lane) through an apalis worker to a handler.
//!
//! The due index is the queue; nothing here is durable. A [`Job`] holds a lease, and the commit script of its handler is
//! the acknowledgement. Whatever becomes of a job that was not [settled](Job::settled) (an early return, a panic, the
//! deadline, a shutdown, no turn at all), its lease is given back, and if that fails too, it expires in the store. So
//! work is done **at least once**; doing it at most once is the business of the commits, not of this file.
//!
//! One pump per lane does everything that waits for the store. It never has more leases out than the lane has permits,
//! and **no error of the source reaches the worker loop**: apalis ends a worker at the first one and drops its handlers
//! in mid-flight, so the backend's error type is [`Infallible`](std::convert::Infallible).

mod door;
mod feed;
mod lease;
mod pump;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use apalis::layers::catch_panic::{CatchPanicLayer, PanicError};
use apalis_core::monitor::Monitor;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::ext::parallelize::ParallelizeExt as _;
use futures_util::FutureExt as _;
use tokio::sync::{Notify, Semaphore};
use tokio::task::coop::{Unconstrained, unconstrained};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use self::door::{Door, Room};
use self::feed::{Feed, Ready};
pub use self::lease::{Health, Job, Lease};
use self::lease::{Home, Returned};
use self::pump::Pump;

/// How long a stop waits, after the drain, for the last leases to be given back. What is missed expires in the store.
pub const FLUSH: Duration = Duration::from_secs(5);

/// Where leased work comes from. Implemented by the store, once per lane.
///
/// Each call ends by itself (the store puts a deadline on every command): a call that hangs holds up its lane.
pub trait Source: Clone + Send + Sync + 'static {
    /// What a handler starts from: the work and, where the lease script returns it, the record.
    type Item: Send + 'static;
    /// Identifies one lease of one piece of work: lane, member, token.
    type Ticket: Clone + Send + Sync + 'static;
    /// Whatever it is, the call is repeated with backoff, for ever.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Leases up to `max` due items.
    fn lease(&self, max: usize) -> impl Future<Output = Result<Batch<Self::Item, Self::Ticket>, Self::Error>> + Send;

    /// Gives leases back, so that their work is due again after `wait`. Repeatable, and without effect on a lease that
    /// has ended otherwise (committed, expired, taken over).
    fn give_back(&self, tickets: Vec<Self::Ticket>, wait: Duration) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// The answer to one lease call.
#[derive(Debug)]
pub struct Batch<I, T> {
    /// What was leased, each with the ticket of its lease.
    pub items: Vec<(I, T)>,
    /// How long until the next item of this source is due: zero when something due was left behind (its lane is at its
    /// cap, say), `None` when nothing waits.
    pub next_due_in: Option<Duration>,
}

/// How one lane is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The lane: execute, poll, settle, expand, group, relay. Names the worker, the log lines and the metrics.
    pub name: &'static str,
    /// The most jobs that hold a lease at one time, running or about to.
    pub concurrency: usize,
    /// The most items of one lease call, and the most tickets of one give-back.
    pub batch: usize,
    /// The longest that the lane sleeps: what a lost notification costs.
    pub tick: Duration,
    /// How long a handler may run before it is dropped. Shorter than the lease.
    pub handler_deadline: Duration,
    /// When work whose handler started but did not settle it is due again.
    pub panic_backoff: Duration,
    /// How long a stop waits for the jobs in flight before it aborts them.
    pub drain: Duration,
}

/// One lane of a source, ready to be [`run`] once.
pub struct Queue<S: Source> {
    shared: Arc<Shared<S>>,
    pump: Pump<S>,
}

/// What the pump and the worker have in common.
struct Shared<S: Source> {
    source: S,
    settings: Settings,
    wake: Arc<Notify>,
    permits: Arc<Semaphore>,
    ready: Arc<Ready<S::Item, S::Ticket>>,
    home: Arc<Home<S::Ticket>>,
    closed: CancellationToken,
}

/// What one [`turn`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This many jobs were handed to the handler, whatever became of them.
    Did(usize),
    /// Nothing was due.
    Idle,
}

/// Leases one batch and handles it by hand, one job after the other: for tests that crank the system.
///
/// Deadline, panics and give-backs are as in [`run`]; all leases that were not settled have been given back on return.
///
/// # Errors
/// The source could not be reached; the leases that it may have made expire.
pub async fn turn<S, C, H, Fut>(source: &S, settings: &Settings, context: &Arc<C>, handler: H) -> Result<Turn, S::Error>
where
    S: Source,
    H: Fn(Arc<C>, Job<S::Item, S::Ticket>) -> Fut,
    Fut: Future<Output = ()>,
{
    let batch = source.lease(settings.batch).await?;
    if batch.items.is_empty() {
        return Ok(Turn::Idle);
    }
    let did = batch.items.len();
    let (home, mut returned) = Home::new();
    for (item, ticket) in batch.items {
        let job = home.job(item, ticket, None);
        let attended = AssertUnwindSafe(attend(settings, &handler, context.clone(), job));
        if attended.catch_unwind().await.is_err() {
            panicked(settings.name);
        }
    }
    let mut tickets = Vec::new();
    while let Ok(Returned::Unstarted(ticket) | Returned::Failed(ticket)) = returned.try_recv() {
        tickets.push(ticket);
    }
    if !tickets.is_empty() {
        source.give_back(tickets, settings.panic_backoff).await?;
    }
    Ok(Turn::Did(did))
}

/// Runs a lane until `stop`: leases, hands each job to `handler` in a task of its own, gives back what was not settled.
///
/// On `stop` nothing more is leased or started; what was waiting goes back at once, what is in flight has `drain` to
/// end and is then aborted, and returned leases are flushed for at most [`FLUSH`]. Dropping the future instead aborts
/// everything; leases then expire. Give each lane a task of its own, since the worker's bookkeeping runs in this future.
///
/// A handler commits its outcome ("try again at" included) and settles its job; there is nothing for it to return.
///
/// # Errors
/// The worker or the pump ended without being told to. The lane is dead, so the process should end.
pub async fn run<S, C, H, Fut>(queue: Queue<S>, context: Arc<C>, handler: H, stop: CancellationToken) -> anyhow::Result<()>
where
    S: Source,
    C: Send + Sync + 'static,
    H: Fn(Arc<C>, Job<S::Item, S::Ticket>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let Queue { shared, pump } = queue;
    let lane = shared.settings.name;
    let drain = shared.settings.drain;
    let mut pump = AbortOnDropHandle::new(tokio::spawn(pump.run()));
    let mut pump_ended = None;

    let feed = shared.clone();
    let monitor = Monitor::new()
        .register(move |starts| {
            let (shared, context, handler) = (feed.clone(), context.clone(), handler.clone());
            // Handlers run in tasks of their own: in the worker's task a long computation in one would hold up them
            // all. Panics are caught inside that task, because one that unwinds into the worker ends it. No tracing
            // layer: handlers open the spans that mean something.
            WorkerBuilder::new(worker_name(lane, starts))
                .backend(Feed(feed.clone()))
                .parallelize(spawn)
                .layer(CatchPanicLayer::with_panic_handler(move |_| panicked(lane)))
                .build(move |job: Job<S::Item, S::Ticket>| {
                    let (shared, context, handler) = (shared.clone(), context.clone(), handler.clone());
                    async move { attend(&shared.settings, &handler, context, job).await }
                })
        })
        // Not `shutdown_timeout`: it keeps time on a thread of its own, which a paused test clock does not reach.
        .with_terminator(async move { tokio::time::sleep(drain).await });

    // apalis tells a backend to close only after the drain, so the lane is closed here, when the signal comes.
    let monitored = monitor
        .run_with_signal(async {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = &mut pump => pump_ended = Some(ended),
            }
            shared.close();
            Ok(())
        })
        .await;
    shared.close();

    // The worker is gone, and with it the handles of its handlers: what had not ended is being aborted.
    let aborted = shared.home.health.in_flight();
    if aborted > 0 {
        tracing::warn!(lane, aborted, "jobs had not ended when the drain was over and were aborted");
    }
    if let Some(ended) = pump_ended {
        ended.with_context(|| format!("the pump of lane {lane} failed"))?;
        bail!("the pump of lane {lane} ended without being told to");
    }
    match tokio::time::timeout(FLUSH, pump).await {
        Ok(ended) => ended.with_context(|| format!("the pump of lane {lane} failed"))?,
        Err(_) => tracing::warn!(lane, "leases could not be given back in time and will expire"),
    }
    monitored.with_context(|| format!("the worker of lane {lane} failed"))?;
    // With a terminator the monitor reports a dead worker as success.
    ensure!(stop.is_cancelled(), "the worker of lane {lane} ended without being told to");
    Ok(())
}

/// Unlike a bare [`tokio::spawn`], a handler cannot outlive its worker.
///
/// The handle ignores the budget of the worker's task: tokio tells a handle without budget to come again later, and the
/// worker then asks all the others too, which is quadratic in a backlog of ended handlers (measured: 35 s to end after
/// 200,000 jobs). [`Feed`] spends the budget instead, so that the worker still yields.
fn spawn<F>(future: F) -> Unconstrained<AbortOnDropHandle<F::Output>>
where
    F: Future<Output: Send> + Send + 'static,
{
    unconstrained(AbortOnDropHandle::new(tokio::spawn(future)))
}

/// The deadline is in here, around the handler and its job, so that a late handler is dropped together with its lease.
async fn attend<C, I, T, H, Fut>(settings: &Settings, handler: &H, context: Arc<C>, mut job: Job<I, T>)
where
    T: Clone,
    H: Fn(Arc<C>, Job<I, T>) -> Fut,
    Fut: Future<Output = ()>,
{
    job.started();
    let handled = tokio::time::timeout(settings.handler_deadline, handler(context, job));
    if handled.await.is_err() {
        let deadline_ms = settings.handler_deadline.as_millis();
        tracing::warn!(lane = settings.name, deadline_ms, "a handler was dropped at its deadline");
    }
}

/// The panic's message is left to the panic hook: it may quote data that does not belong in our log.
fn panicked(lane: &'static str) -> PanicError {
    tracing::error!(lane, "a handler panicked; its lease is given back");
    PanicError(format!("a handler of lane {lane} panicked"))
}

/// Unique among the starts of this process, which is as far as the name is seen: in apalis's own log lines.
fn worker_name(lane: &str, starts: usize) -> String {
    static WORKERS: AtomicU64 = AtomicU64::new(0);
    format!("{lane}-{}-{starts}", WORKERS.fetch_add(1, Ordering::Relaxed))
}

// === impl Queue, Shared ===

impl<S: Source> Queue<S> {
    /// `wake` is rung with `notify_one` (a waiter for each queue, and a ring that nobody waits for is kept) when work
    /// became due earlier than the source last said, or when a commit made room under a cap of the source.
    ///
    /// # Panics
    /// `concurrency` or `batch` is zero: nothing would ever be leased.
    pub fn new(source: S, settings: Settings, wake: Arc<Notify>) -> Self {
        assert!(settings.concurrency > 0 && settings.batch > 0, "a lane can hold at least one job");
        let (home, returned) = Home::new();
        let shared = Arc::new(Shared {
            source,
            permits: Arc::new(Semaphore::new(settings.concurrency)),
            settings,
            wake,
            ready: Arc::new(Ready::new()),
            home,
            closed: CancellationToken::new(),
        });
        Self { pump: Pump::new(shared.clone(), returned), shared }
    }

    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        self.shared.home.health.clone()
    }

    /// For work that another script than the lane's own leases.
    #[must_use]
    pub fn door(&self) -> Door<S::Item, S::Ticket> {
        Door {
            ready: self.shared.ready.clone(),
            home: self.shared.home.clone(),
            permits: self.shared.permits.clone(),
            concurrency: self.shared.settings.concurrency,
        }
    }
}

impl<S: Source> Shared<S> {
    /// Ends leasing and gives back what no handler has begun. Repeatable.
    fn close(&self) {
        // In this order the pump finds what goes back all in one batch.
        self.ready.close();
        self.closed.cancel();
    }
}
