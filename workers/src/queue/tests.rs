use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::pump::CAPPED_PAUSE;
use super::*;

const BACKOFF: Duration = Duration::from_millis(20);
/// A tick that never comes: whatever happens did not wait for it.
const NEVER: Duration = Duration::from_secs(3600);

fn settings() -> Settings {
    Settings { name: "test", concurrency: 8, batch: 4, tick: NEVER, handler_deadline: NEVER, panic_backoff: BACKOFF, drain: NEVER }
}

// === a source in memory, with the semantics of the store's ===

#[derive(Clone)]
struct Shelf(Arc<watch::Sender<State>>);

#[derive(Default)]
struct State {
    due: BTreeSet<(Instant, u64)>,
    leased: BTreeMap<u64, u64>,
    deliveries: BTreeMap<u64, u32>,
    committed: Vec<u64>,
    given_back: Vec<(u64, Duration)>,
    last_token: u64,
    calls: usize,
    most_asked: usize,
    /// The most leases that there would have been if each lease call had got all it asked for.
    most_promised: usize,
    /// At most so many leases at a time, as with lanes.
    cap: Option<usize>,
    /// How many items more than asked for are leased.
    surplus: usize,
    broken: bool,
    refused: usize,
}

struct Item {
    id: u64,
    delivery: u32,
}

#[derive(Clone)]
struct Ticket {
    id: u64,
    token: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the shelf is broken")]
struct Broken;

impl Shelf {
    fn with(ids: impl IntoIterator<Item = u64>) -> Self {
        let now = Instant::now();
        let due = ids.into_iter().map(|id| (now, id)).collect();
        Self(Arc::new(watch::Sender::new(State { due, ..State::default() })))
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut result = None;
        self.0.send_modify(|state| result = Some(change(state)));
        result.unwrap()
    }

    async fn until(&self, condition: impl FnMut(&State) -> bool) {
        let mut changes = self.0.subscribe();
        within(changes.wait_for(condition)).await.unwrap();
    }

    fn commit(&self, ticket: &Ticket) {
        self.change(|state| {
            if state.leased.get(&ticket.id) == Some(&ticket.token) {
                state.leased.remove(&ticket.id);
                state.committed.push(ticket.id);
            }
        });
    }

    fn committed(&self) -> Vec<u64> {
        let mut committed = self.0.borrow().committed.clone();
        committed.sort_unstable();
        committed
    }

    fn given_back(&self) -> Vec<(u64, Duration)> {
        self.0.borrow().given_back.clone()
    }
}

impl Source for Shelf {
    type Item = Item;
    type Ticket = Ticket;
    type Error = Broken;

    async fn lease(&self, max: usize) -> Result<Batch<Item, Ticket>, Broken> {
        self.change(|state| {
            state.calls += 1;
            if state.broken {
                state.refused += 1;
                return Err(Broken);
            }
            state.most_asked = state.most_asked.max(max);
            state.most_promised = state.most_promised.max(state.leased.len() + max);
            let room = state.cap.map_or(max + state.surplus, |cap| max.min(cap.saturating_sub(state.leased.len())));
            let now = Instant::now();
            let mut items = Vec::new();
            while items.len() < room && state.due.first().is_some_and(|&(due, _)| due <= now) {
                let (_, id) = state.due.pop_first().unwrap();
                state.last_token += 1;
                let token = state.last_token;
                state.leased.insert(id, token);
                let delivery = state.deliveries.entry(id).or_default();
                *delivery += 1;
                items.push((Item { id, delivery: *delivery }, Ticket { id, token }));
            }
            let next_due_in = state.due.first().map(|&(due, _)| due.saturating_duration_since(now));
            Ok(Batch { items, next_due_in })
        })
    }

    async fn give_back(&self, tickets: Vec<Ticket>, wait: Duration) -> Result<(), Broken> {
        self.change(|state| {
            if state.broken {
                state.refused += 1;
                return Err(Broken);
            }
            for Ticket { id, token } in tickets {
                if state.leased.get(&id) == Some(&token) {
                    state.leased.remove(&id);
                    state.given_back.push((id, wait));
                    state.due.insert((Instant::now() + wait, id));
                }
            }
            Ok(())
        })
    }
}

/// Turns a wait that would never end into a failure.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("happens within 20 s")
}

struct Lane {
    wake: Arc<Notify>,
    health: Arc<Health>,
    closed: CancellationToken,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

fn start<H, Fut>(shelf: &Shelf, settings: Settings, handler: H) -> Lane
where
    H: Fn(Arc<Shelf>, Job<Item, Ticket>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let wake = Arc::new(Notify::new());
    let queue = Queue::new(shelf.clone(), settings, wake.clone());
    let (health, closed, stop) = (queue.health(), queue.shared.closed.clone(), CancellationToken::new());
    let running = tokio::spawn(run(queue, Arc::new(shelf.clone()), handler, stop.clone()));
    Lane { wake, health, closed, stop, running }
}

impl Lane {
    async fn ends(self) -> anyhow::Result<()> {
        within(self.running).await.unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ends().await.unwrap();
    }
}

/// Holds a handler until the test lets it go on.
#[derive(Default)]
struct Gate {
    reached: Notify,
    open: Notify,
}

impl Gate {
    async fn pass(&self) {
        self.reached.notify_one();
        self.open.notified().await;
    }
}

async fn commit(shelf: Arc<Shelf>, job: Job<Item, Ticket>) {
    shelf.commit(job.ticket());
    job.settled();
}

// === the good case ===

/// Every item reaches its handler once, nothing is given back, and no lease call asks for more than there is room for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_item_is_handled_exactly_once() {
    let shelf = Shelf::with(1..=500);
    let lane = start(&shelf, settings(), |shelf, job| async move {
        tokio::task::yield_now().await;
        commit(shelf, job).await;
    });
    shelf.until(|state| state.committed.len() == 500).await;
    assert!(lane.health.is_answering());
    lane.stop().await;

    assert_eq!(shelf.committed(), (1..=500).collect::<Vec<_>>());
    assert_eq!(shelf.given_back(), []);
    let state = shelf.0.borrow();
    assert!(state.deliveries.values().all(|&deliveries| deliveries == 1));
    assert_eq!(state.most_asked, 4, "a batch");
    assert!(state.most_promised <= 8, "the concurrency, not {}", state.most_promised);
}

/// A backlog far above any limit of the lane drains to the last item, without a tick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_twenty_thousand_drains_completely() {
    let shelf = Shelf::with(1..=20_000);
    let lane = start(&shelf, Settings { concurrency: 64, batch: 16, ..settings() }, commit);
    shelf.until(|state| state.committed.len() == 20_000).await;
    lane.stop().await;
    assert_eq!(shelf.committed(), (1..=20_000).collect::<Vec<_>>());
    assert!(shelf.0.borrow().deliveries.values().all(|&deliveries| deliveries == 1));
}

/// The tick never comes here: the ring alone brings the item.
#[tokio::test]
async fn a_ring_wakes_an_idle_lane() {
    let shelf = Shelf::with([]);
    let lane = start(&shelf, settings(), commit);
    for id in 1..=3 {
        shelf.change(|state| state.due.insert((Instant::now(), id)));
        lane.wake.notify_one();
        shelf.until(|state| state.committed.len() as u64 == id).await;
    }
    lane.stop().await;
}

/// The tick never comes here: the answer to the first lease says when to come back.
#[tokio::test]
async fn a_lane_sleeps_until_its_next_item_is_due() {
    let shelf = Shelf::with([]);
    let due = Instant::now() + Duration::from_millis(40);
    shelf.change(|state| state.due.insert((due, 1)));
    let lane = start(&shelf, settings(), commit);
    shelf.until(|state| state.committed.len() == 1).await;
    assert!(Instant::now() >= due);
    assert!(shelf.0.borrow().calls <= 4, "slept instead of asking {} times", shelf.0.borrow().calls);
    lane.stop().await;
}

// === jobs that are not settled ===

/// The panicking job is given back with the backoff, is delivered again, and the other jobs do not notice.
#[tokio::test]
async fn a_panic_gives_the_lease_back_and_the_worker_lives() {
    let shelf = Shelf::with(1..=6);
    let lane = start(&shelf, settings(), |shelf, job| {
        // One panics before there is a future, the other inside it.
        assert!(job.item.id != 2 || job.item.delivery > 1, "a panic that the test wants");
        async move {
            tokio::task::yield_now().await;
            assert!(job.item.id != 5 || job.item.delivery > 1, "a panic that the test wants");
            commit(shelf, job).await;
        }
    });
    shelf.until(|state| state.committed.len() == 6).await;
    assert_eq!(lane.health.unsettled(), 2);
    lane.stop().await;
    let mut given_back = shelf.given_back();
    given_back.sort_unstable();
    assert_eq!(given_back, [(2, BACKOFF), (5, BACKOFF)]);
}

/// A handler that hangs is dropped at its deadline, its job with it.
#[tokio::test]
async fn a_handler_past_its_deadline_gives_its_lease_back() {
    let shelf = Shelf::with(1..=3);
    let settings = Settings { handler_deadline: Duration::from_millis(20), ..settings() };
    let lane = start(&shelf, settings, |shelf, job| async move {
        if job.item.id == 2 && job.item.delivery == 1 {
            std::future::pending::<()>().await;
        }
        commit(shelf, job).await;
    });
    shelf.until(|state| state.committed.len() == 3).await;
    lane.stop().await;
    assert_eq!(shelf.given_back(), [(2, BACKOFF)]);
}

/// A handler that returns without having settled has failed, also when it took the job apart.
#[tokio::test]
async fn a_handler_that_settles_nothing_gives_its_lease_back() {
    let shelf = Shelf::with([1]);
    let lane = start(&shelf, settings(), |shelf, job| async move {
        let (item, lease) = job.into_parts();
        if item.delivery > 2 {
            shelf.commit(lease.ticket());
            lease.settled();
        }
    });
    shelf.until(|state| state.committed.len() == 1).await;
    lane.stop().await;
    assert_eq!(shelf.given_back(), [(1, BACKOFF), (1, BACKOFF)]);
}

// === stopping ===

/// Without a worker nothing is ever started, so a closed lane gives back all it had leased, due again at once.
#[tokio::test]
async fn a_stop_gives_back_what_was_not_started() {
    let shelf = Shelf::with(1..=20);
    let Queue { shared, pump } = Queue::new(shelf.clone(), settings(), Arc::default());
    let pump = tokio::spawn(pump.run());
    shelf.until(|state| state.leased.len() == 8).await;
    shared.close();
    within(pump).await.unwrap();

    let mut given_back = shelf.given_back();
    given_back.sort_unstable();
    assert_eq!(given_back, (1..=8).map(|id| (id, Duration::ZERO)).collect::<Vec<_>>());
    assert_eq!(shelf.0.borrow().due.len(), 20);
    assert_eq!(shared.home.health.unsettled(), 0);
}

/// A job in flight ends in peace after the stop, and nothing new is leased meanwhile.
#[tokio::test]
async fn a_stop_waits_for_what_is_in_flight() {
    let shelf = Shelf::with([1]);
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let lane = start(&shelf, settings(), move |shelf, job| {
        let gate = held.clone();
        async move {
            gate.pass().await;
            commit(shelf, job).await;
        }
    });
    within(gate.reached.notified()).await;
    lane.stop.cancel();
    within(lane.closed.cancelled()).await;
    shelf.change(|state| state.due.insert((Instant::now(), 2)));
    lane.wake.notify_one();
    assert!(!lane.running.is_finished());
    gate.open.notify_one();
    lane.ends().await.unwrap();

    assert_eq!(shelf.committed(), [1]);
    assert_eq!(shelf.0.borrow().deliveries.get(&2), None);
    assert_eq!(shelf.given_back(), []);
}

/// A stop that comes first is kept too.
#[tokio::test]
async fn a_lane_that_is_stopped_before_it_begins_ends_at_once() {
    let shelf = Shelf::with([1]);
    let queue = Queue::new(shelf.clone(), settings(), Arc::default());
    let stop = CancellationToken::new();
    stop.cancel();
    within(run(queue, Arc::new(shelf.clone()), commit, stop)).await.unwrap();
    assert_eq!(shelf.0.borrow().leased, BTreeMap::new());
}

/// A job that outlasts the drain is aborted, and its lease is given back before `run` returns.
#[tokio::test]
async fn a_stop_aborts_what_outlasts_the_drain() {
    let shelf = Shelf::with([1]);
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let lane = start(&shelf, Settings { drain: Duration::from_millis(20), ..settings() }, move |_, job| {
        let gate = held.clone();
        async move {
            gate.pass().await;
            job.settled();
        }
    });
    within(gate.reached.notified()).await;
    let health = lane.health.clone();
    lane.stop().await;
    assert_eq!(shelf.given_back(), [(1, BACKOFF)]);
    assert_eq!(health.in_flight(), 0);
}

// === a source in trouble ===

/// While leasing fails, a job in flight goes on and commits; when the source is back, so is the lane.
#[tokio::test]
async fn errors_of_the_source_are_survived() {
    let shelf = Shelf::with([1]);
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let lane = start(&shelf, settings(), move |shelf, job| {
        let gate = held.clone();
        async move {
            if job.item.id == 1 {
                gate.pass().await;
            }
            commit(shelf, job).await;
        }
    });
    within(gate.reached.notified()).await;
    assert!(lane.health.is_answering());

    shelf.change(|state| {
        state.broken = true;
        state.due.insert((Instant::now(), 2));
    });
    lane.wake.notify_one();
    shelf.until(|state| state.refused >= 3).await;
    assert!(!lane.health.is_answering());
    gate.open.notify_one();
    shelf.until(|state| state.committed == [1]).await;

    shelf.change(|state| state.broken = false);
    shelf.until(|state| state.committed == [1, 2]).await;
    assert!(lane.health.is_answering());
    assert!(lane.health.source_errors() >= 3);
    lane.stop().await;
    assert_eq!(shelf.given_back(), []);
}

/// A lease that could not be given back is kept and given back later; a stop waits for that too.
#[tokio::test]
async fn a_give_back_that_fails_is_repeated() {
    let shelf = Shelf::with([1]);
    let lane = start(&shelf, settings(), |shelf: Arc<Shelf>, _job| async move {
        shelf.change(|state| state.broken = true);
    });
    shelf.until(|state| state.refused >= 1).await;
    lane.stop.cancel();
    shelf.until(|state| state.refused >= 2).await;
    shelf.change(|state| state.broken = false);
    lane.ends().await.unwrap();
    assert_eq!(shelf.given_back(), [(1, BACKOFF)]);
}

/// When all that is due is held back by a cap, the end of a job is what brings the next, and no tick is needed.
#[tokio::test]
async fn a_capped_lane_goes_on_when_a_job_ends() {
    let shelf = Shelf::with(1..=50);
    shelf.change(|state| state.cap = Some(1));
    let lane = start(&shelf, settings(), commit);
    shelf.until(|state| state.committed.len() == 50).await;
    lane.stop().await;
}

/// A source that leases more than it was asked for is at fault, but its lane does not exceed its concurrency.
#[tokio::test]
async fn a_generous_source_gets_the_surplus_back() {
    let shelf = Shelf::with(1..=12);
    shelf.change(|state| state.surplus = 2);
    let lane = start(&shelf, settings(), |shelf, job| async move {
        tokio::task::yield_now().await;
        commit(shelf, job).await;
    });
    shelf.until(|state| state.committed.len() == 12).await;
    lane.stop().await;
    let given_back = shelf.given_back();
    assert!(!given_back.is_empty() && given_back.iter().all(|(_, wait)| wait.is_zero()));
}

/// A source that says "now" and gives nothing is asked with a pause in between.
#[tokio::test]
async fn a_capped_lane_does_not_spin() {
    let shelf = Shelf::with([1]);
    shelf.change(|state| state.cap = Some(0));
    let began = Instant::now();
    let lane = start(&shelf, settings(), commit);
    shelf.until(|state| state.calls >= 10).await;
    let calls = u32::try_from(shelf.0.borrow().calls).unwrap();
    assert!(began.elapsed() >= CAPPED_PAUSE * (calls - 1), "{calls} calls in {:?}", began.elapsed());
    lane.stop().await;
}

/// A pump that dies takes its lane with it, as an error and not as silence.
#[tokio::test]
async fn a_lane_that_ends_by_itself_is_an_error() {
    #[derive(Clone)]
    struct Faulty;
    impl Source for Faulty {
        type Item = ();
        type Ticket = ();
        type Error = Broken;
        async fn lease(&self, _: usize) -> Result<Batch<(), ()>, Broken> {
            panic!("a panic that the test wants");
        }
        async fn give_back(&self, _: Vec<()>, _: Duration) -> Result<(), Broken> {
            Ok(())
        }
    }
    let queue = Queue::new(Faulty, settings(), Arc::default());
    let ended = within(run(queue, Arc::new(()), |_, job| async { job.settled() }, CancellationToken::new())).await;
    assert_eq!(ended.unwrap_err().to_string(), "the pump of lane test failed");
}

// === turns by hand ===

/// A turn handles one batch, in order, gives back what was not settled, and then there is nothing to do.
#[tokio::test]
async fn a_turn_by_hand_handles_one_batch() {
    let shelf = Shelf::with(1..=3);
    let context = Arc::new(shelf.clone());
    let settings = Settings { batch: 2, panic_backoff: NEVER, ..settings() };
    let handler = |shelf: Arc<Shelf>, job: Job<Item, Ticket>| async move {
        assert!(job.item.id != 2, "a panic that the test wants");
        commit(shelf, job).await;
    };
    assert_eq!(turn(&shelf, &settings, &context, handler).await.unwrap(), Turn::Did(2));
    assert_eq!(shelf.committed(), [1]);
    assert_eq!(shelf.given_back(), [(2, NEVER)]);
    assert_eq!(turn(&shelf, &settings, &context, handler).await.unwrap(), Turn::Did(1));
    assert_eq!(shelf.committed(), [1, 3]);
    assert_eq!(turn(&shelf, &settings, &context, handler).await.unwrap(), Turn::Idle);
    shelf.change(|state| state.broken = true);
    turn(&shelf, &settings, &context, handler).await.unwrap_err();
}

// === speed ===

/// What the lane itself costs: `cargo test --release -p workers queue -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput() {
    const JOBS: usize = 200_000;
    #[derive(Clone)]
    struct Counter {
        left: Arc<AtomicUsize>,
        calls: Arc<AtomicUsize>,
    }
    impl Source for Counter {
        type Item = usize;
        type Ticket = usize;
        type Error = Broken;
        async fn lease(&self, max: usize) -> Result<Batch<usize, usize>, Broken> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let left = self.left.load(Ordering::Relaxed);
            let items = (left.saturating_sub(max)..left).map(|id| (id, id)).collect::<Vec<_>>();
            self.left.store(left - items.len(), Ordering::Relaxed);
            Ok(Batch { items, next_due_in: None })
        }
        async fn give_back(&self, _: Vec<usize>, _: Duration) -> Result<(), Broken> {
            unreachable!("every job is settled");
        }
    }
    struct Done {
        count: AtomicUsize,
        all: Notify,
    }
    for (concurrency, batch) in [(16, 16), (64, 64), (256, 64), (1024, 256)] {
        let source = Counter { left: Arc::new(AtomicUsize::new(JOBS)), calls: Arc::default() };
        let done = Arc::new(Done { count: AtomicUsize::new(0), all: Notify::new() });
        let queue = Queue::new(source.clone(), Settings { concurrency, batch, ..settings() }, Arc::default());
        let stop = CancellationToken::new();
        let handler = |done: Arc<Done>, job: Job<usize, usize>| async move {
            job.settled();
            if done.count.fetch_add(1, Ordering::Relaxed) + 1 == JOBS {
                done.all.notify_one();
            }
        };
        let began = Instant::now();
        let running = tokio::spawn(run(queue, done.clone(), handler, stop.clone()));
        done.all.notified().await;
        let took = began.elapsed();
        stop.cancel();
        running.await.unwrap().unwrap();
        let per_second = JOBS as f64 / took.as_secs_f64();
        let per_call = JOBS / source.calls.load(Ordering::Relaxed);
        println!("concurrency {concurrency}, batch {batch}: {per_second:.0} jobs/s, {per_call} jobs per lease call");
    }
}

/// From the ring to the handler: run as [`throughput`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn latency() {
    const RINGS: usize = 10_000;
    let shelf = Shelf::with([]);
    let started = Arc::new(Mutex::new(Vec::with_capacity(RINGS)));
    let times = started.clone();
    let lane = start(&shelf, settings(), move |shelf, job| {
        times.lock().unwrap().push(Instant::now());
        commit(shelf, job)
    });
    let mut took = Vec::with_capacity(RINGS);
    for id in 0..RINGS {
        let rung = Instant::now();
        shelf.change(|state| state.due.insert((rung, id as u64)));
        lane.wake.notify_one();
        shelf.until(|state| state.committed.len() == id + 1).await;
        took.push(started.lock().unwrap()[id] - rung);
    }
    lane.stop().await;
    took.sort_unstable();
    println!("from ring to handler: p50 {:?}, p99 {:?}", took[RINGS / 2], took[RINGS * 99 / 100]);
}
