//! Payouts wait while it makes no sense to send them, or while somebody said so; they can be taken back, and each is paid once in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use domain::fact::Reason;
use domain::payout::state::State;
use payrelay::config::Config;
use serde_json::Value;
use tokio::net::TcpListener;
use workers::circuit::release;
use workers::lanes::Lanes;
use workers::queue::{self, Turn};
use workers::store::circuits::{Circuit, CircuitState};
use workers::store::freeze::Freeze;
use workers::store::lanes::{CircuitLane, Lane};

use super::turns::{CRANKED, after, silent};
use super::*;

/// Three failures open a circuit, for five to ten seconds at first. Each turn takes one payout, so that two workers share what is due.
const BREAKER: [(&str, &str); 4] = [
    ("circuit.failures", "3"),
    ("circuit.wait_first_ms", "10000"),
    ("circuit.wait_cap_ms", "40000"),
    ("workers.execute", "{ concurrency = 4, batch = 1 }"),
];
const MOMENT: Duration = Duration::from_secs(1);
/// Longer than any wait of the circuit.
const LONG: Duration = Duration::from_secs(41);

/// A provider that answers everything alike, after a while.
struct Facade {
    url: String,
    creates: Arc<AtomicUsize>,
    questions: Arc<AtomicUsize>,
}

impl Facade {
    async fn answers(status: StatusCode, delay: Duration) -> Self {
        let (creates, questions) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counters = (creates.clone(), questions.clone());
        let answer = move |request: Request| {
            let counter = if request.method() == Method::POST { &counters.0 } else { &counters.1 };
            counter.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(delay).await;
                status
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Self { url, creates, questions }
    }

    fn creates(&self) -> usize {
        self.creates.load(Ordering::SeqCst)
    }
}

impl Site {
    async fn with_breaker() -> Self {
        Self::with(&[&CRANKED[..], &BREAKER].concat(), silent).await
    }

    /// Workers whose provider is elsewhere. Tokens come from the sandbox all the same.
    async fn cranked_at(&self, url: &str) -> Lanes {
        self.cranked_with(|config| config.providers.truelayer_test.as_mut().unwrap().base_url = url.to_owned()).await
    }

    async fn cranked_with(&self, change: impl FnOnce(&mut Config)) -> Lanes {
        let mut config = self.local.config.clone();
        change(&mut config);
        self.cranked(&config).await
    }

    async fn posted(&self, count: usize) -> Vec<Sent> {
        stream::iter(0..count).then(|_| self.post()).collect().await
    }

    async fn circuit(&self) -> Circuit {
        self.local.store.circuit(Provider::Truelayer, Mode::Test).await.unwrap()
    }

    async fn circuit_state(&self) -> CircuitState {
        let store = &self.local.store;
        store.refresh_clock().await.unwrap();
        self.circuit().await.state(store.clock().now())
    }

    /// Payouts that are due for dispatch, or leased for it.
    async fn queued(&self) -> u64 {
        self.vitals().await.lanes.iter().find(|lane| lane.lane == "execute").unwrap().entries
    }

    /// How often these were sent, by our own records.
    async fn sends(&self, all: &[Sent]) -> u32 {
        let mut sends = 0;
        for sent in all {
            sends += self.payout(sent).await.attempts.iter().map(|attempt| attempt.sends).sum::<u32>();
        }
        sends
    }

    /// Cranks until these are settled, and each was paid once.
    async fn ends_well(&self, lanes: &Lanes, paid: &[Sent]) {
        let began = Instant::now();
        for sent in paid {
            while self.state(sent).await != StateName::Settled {
                assert!(began.elapsed() < PATIENCE, "{:#?}", self.payout(sent).await);
                after(MOMENT, lanes).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(self.movements(sent), 1, "{}", sent.id);
        }
    }

    /// As an operator sees it.
    async fn shown(&self) -> Value {
        let shown = self.local.unsigned.expect(Method::GET, "/v1/providers/truelayer", None).await.unwrap();
        shown["result"]["circuit"].clone()
    }

    async fn command(&self, words: &[&str]) -> String {
        let mut command = tokio::process::Command::new(&self.program.path);
        let output = command.arg("--config").arg(&self.program.config).args(words).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn all_creates(&self, sent: &[Sent]) -> u64 {
        sent.iter().map(|sent| self.calls(sent).creates).sum()
    }
}

async fn turns(lanes: &Lanes, count: usize) {
    for _ in 0..count {
        lanes.turn().await.unwrap();
    }
}

/// A port where nobody listens.
async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn payouts_wait_for_a_provider_that_cannot_be_reached() {
    let site = Site::with_breaker().await;
    let mut sent = site.posted(7).await;
    let down = site.cranked_at(&nowhere().await).await;
    turns(&down, 7).await;
    let circuit = site.circuit().await;
    assert_eq!((site.circuit_state().await, circuit.held), (CircuitState::Open, 4));
    assert_eq!(circuit.tripped.unwrap().why, "connect");
    // Those that were tried wait too, once their own wait is over.
    for _ in 0..6 {
        after(Duration::from_millis(500), &down).await;
    }
    assert_eq!((site.circuit().await.held, site.queued().await, site.sends(&sent).await), (7, 0, 3));
    for payout in &sent {
        assert_eq!(site.state(payout).await, StateName::Scheduled);
    }
    assert_eq!(site.payout(&sent[6]).await.attempts.len(), 0);

    // Reserved, and cancelable.
    let canceled = sent.pop().unwrap();
    site.local.caller.expect(Method::POST, &format!("/v1/payouts/{}/cancel", canceled.transaction), None).await.unwrap();
    assert_eq!((site.state(&canceled).await, site.circuit().await.held), (StateName::Canceled, 6));

    // One is tried, and keeps the circuit open for longer.
    after(Duration::from_secs(10), &down).await;
    turns(&down, 3).await;
    assert_eq!((site.circuit_state().await, site.sends(&sent).await), (CircuitState::Open, 4));
    assert_eq!(site.circuit().await.tripped.unwrap().trips, 2);

    let up = site.cranked(&site.local.config).await;
    after(LONG, &up).await;
    assert_eq!(site.circuit_state().await, CircuitState::Closed);
    site.ends_well(&up, &sent).await;
    assert_eq!((site.movements(&canceled), site.calls(&canceled).creates), (0, 0));
    assert_eq!((site.circuit().await.held, site.circuit().await.failures), (0, 0));
}

/// The trial is on the wire when another worker has something due too.
#[tokio::test]
async fn a_half_open_circuit_lets_one_through_of_two_workers() {
    let site = Site::with_breaker().await;
    let facade = Facade::answers(StatusCode::SERVICE_UNAVAILABLE, Duration::from_millis(300)).await;
    let (first, second) = (site.cranked_at(&facade.url).await, site.cranked_at(&facade.url).await);
    let mut sent = site.posted(3).await;
    turns(&first, 3).await;
    assert_eq!((site.circuit_state().await, facade.creates()), (CircuitState::Open, 3));
    assert_eq!(site.circuit().await.tripped.unwrap().why, "status_503");
    let asked = facade.questions.load(Ordering::SeqCst);
    for _ in 0..3 {
        after(MOMENT, &first).await;
    }
    assert!(facade.questions.load(Ordering::SeqCst) > asked, "what is inconclusive is asked about while the circuit is open");
    for payout in &sent {
        assert_eq!(site.state(payout).await, StateName::Inconclusive);
    }

    site.local.store.move_clock(LONG).await.unwrap();
    for workers in [&first, &second] {
        workers.payouts.recorder.store.refresh_clock().await.unwrap();
    }
    assert_eq!(site.circuit_state().await, CircuitState::HalfOpen);
    let more = site.posted(4).await;
    tokio::join!(turns(&first, 2), turns(&second, 2));
    assert_eq!(facade.creates(), 4, "one trial");
    assert_eq!(site.sends(&more).await, 1);
    assert_eq!((site.circuit_state().await, site.circuit().await.held), (CircuitState::Open, 3));

    let up = site.cranked(&site.local.config).await;
    after(LONG, &up).await;
    assert_eq!(site.circuit_state().await, CircuitState::Closed);
    sent.extend(more);
    site.ends_well(&up, &sent).await;
    assert_eq!(facade.creates(), 4);
}

#[tokio::test]
async fn what_is_inconclusive_is_found_while_the_circuit_is_open() {
    let site = Site::with_breaker().await;
    let lanes = site.cranked(&site.local.config).await;
    let mut lost = Vec::new();
    for _ in 0..3 {
        lost.push(site.post_in(Mood::LostAnswer).await);
    }
    turns(&lanes, 3).await;
    let waits = site.post().await;
    for _ in 0..4 {
        after(MOMENT, &lanes).await;
    }
    assert_eq!((site.circuit_state().await, site.state(&waits).await), (CircuitState::Open, StateName::Scheduled));
    for payout in &lost {
        assert!(matches!(site.state(payout).await, StateName::Authorised | StateName::Submitted | StateName::Settled), "it is found");
    }
    assert_eq!(site.calls(&waits).creates, 0);
    after(LONG, &lanes).await;
    lost.push(waits);
    site.ends_well(&lanes, &lost).await;
}

#[tokio::test]
async fn credentials_that_are_not_accepted_open_the_circuit_at_once() {
    let site = Site::with_breaker().await;
    let mut sent = vec![site.post().await];
    let wrong = site.cranked_with(|config| config.providers.truelayer_test.as_mut().unwrap().client_secret = "not it".into()).await;
    turns(&wrong, 1).await;
    let shown = site.shown().await;
    assert_eq!((&shown["state"], &shown["tripped"]["why"], &shown["tripped"]["trips"]), (&json!("open"), &json!("token_invalid_client"), &json!(1)));

    let facade = Facade::answers(StatusCode::UNAUTHORIZED, Duration::ZERO).await;
    let refused = site.cranked_at(&facade.url).await;
    after(LONG, &refused).await;
    let shown = site.shown().await;
    assert_eq!((&shown["state"], &shown["tripped"]["why"], &shown["tripped"]["trips"]), (&json!("open"), &json!("unauthorized"), &json!(2)));
    assert!(site.command(&["providers", "list"]).await.contains("unauthorized"));

    // The credentials are mended, and nobody wants to wait.
    let printed = site.command(&["providers", "resume", "truelayer", "--mode", "test"]).await;
    assert!(printed.contains("no pause was ended") && printed.contains("one payout is tried at once"), "{printed}");
    let up = site.cranked(&site.local.config).await;
    after(MOMENT, &up).await;
    sent.push(site.post().await);
    site.ends_well(&up, &sent).await;
    assert_eq!(site.shown().await["state"], "closed");
}

#[tokio::test]
async fn refusals_of_payouts_are_no_failures_of_the_provider() {
    let site = Site::with_breaker().await;
    let lanes = site.cranked(&site.local.config).await;
    for _ in 0..4 {
        let refused = site.post_in(Mood::Refuse).await;
        turns(&lanes, 1).await;
        assert_eq!(site.state(&refused).await, StateName::Rejected);
    }
    assert_eq!((site.circuit_state().await, site.circuit().await.failures), (CircuitState::Closed, 0));

    // And what goes well ends a count.
    for mood in [Mood::ErrorBefore, Mood::ErrorBefore, Mood::Plain, Mood::ErrorBefore] {
        site.post_in(mood).await;
        turns(&lanes, 1).await;
    }
    assert_eq!((site.circuit_state().await, site.circuit().await.failures), (CircuitState::Closed, 1));
}

/// However many wait, they cost nothing while they wait, and are due within moments when they need not any more.
#[tokio::test]
async fn many_wait_in_nobodys_way() {
    let count = if long() { 10_000 } else { 1_200 };
    let wide = [("workers.execute", "{ concurrency = 64, batch = 64 }"), ("redis.deadline_ms", "1900")];
    let site = Site::with(&[&CRANKED[..], &BREAKER[..3], &wide].concat(), silent).await;
    let operator = &site.local.unsigned;
    let reason = json!({ "reason": "settlement account is being moved", "mode": "test" });
    operator.expect(Method::POST, "/v1/providers/truelayer/pause", Some(&reason)).await.unwrap();
    let ids = site.stock(count, None).await;
    let lanes = site.cranked(&site.local.config).await;
    while site.queued().await > 0 {
        lanes.turn().await.unwrap();
    }
    let held = site.circuit().await.held;
    assert_eq!(held, count as u64);
    let one = site.local.store.load(ids[0]).await.unwrap().unwrap();
    assert_eq!((one.state.name(), one.version, one.attempts.len()), (StateName::Scheduled, 2, 0));
    for _ in 0..3 {
        after(LONG, &lanes).await;
        assert_eq!(site.queued().await, 0, "nobody looks at them again and again");
    }
    assert_eq!(site.local.store.load(ids[0]).await.unwrap().unwrap().version, 2);
    let sweep = workers::sweep::sweep(&lanes.payouts, ids[0].shard(), &mut Default::default()).await.unwrap();
    assert_eq!((sweep.looked_over.repaired.len(), sweep.vitals.circuits[0].held), (0, held), "what is held is not lost");

    operator.expect(Method::POST, "/v1/providers/truelayer/resume", None).await.unwrap();
    // The lane of circuits alone, which is not held up by what it makes due.
    let lane = CircuitLane(Lane { store: site.local.store.clone(), shard: ids[0].shard(), lease: LONG });
    let settings =
        queue::Settings { name: "circuit", concurrency: 1, batch: 1, tick: MOMENT, handler_deadline: MOMENT, panic_backoff: MOMENT, drain: MOMENT };
    let (began, mut pages) = (Instant::now(), 0);
    while queue::turn(&lane, &settings, &lanes.payouts, release).await.unwrap() != Turn::Idle {
        pages += 1;
    }
    assert_eq!((site.circuit().await.held, site.queued().await), (0, held));
    assert!(pages <= count / 500 + 1 && began.elapsed() < Duration::from_secs(5), "{pages} pages, {:?}", began.elapsed());
    println!("{count} were due again after {pages} pages, {:?}", began.elapsed());
}

/// I12 for one provider: two processes at work, and from the moment that the pause is effective nothing reaches it, whatever is asked for or restarted.
#[tokio::test]
async fn a_pause_against_dispatch() {
    let mut site =
        Site::with(&[("workers.execute", "{ concurrency = 4, batch = 4 }")], |settings| settings.truelayer.behaviour.answer_after_ms = 300).await;
    let operator = site.local.unsigned.clone();
    let mut first = site.worker("first", "");
    let _second = site.worker("second", "");
    let mut sent: Vec<Sent> = stream::iter(0..40).map(|_| site.post()).buffer_unordered(8).collect().await;
    eventually("some are sent", PATIENCE, async || site.all_creates(&sent) > 4).await;
    let reason = json!({ "reason": "a drill" });
    let paused = operator.expect(Method::POST, "/v1/providers/truelayer/pause", Some(&reason)).await.unwrap();
    assert_eq!(paused["result"]["circuit"]["paused"]["progress"], "draining", "{paused}");
    let again = operator.expect(Method::POST, "/v1/providers/truelayer/pause", Some(&json!({ "reason": "another" }))).await.unwrap();
    assert_eq!(again["result"]["circuit"]["paused"]["reason"], "a drill", "the first one stays");
    eventually("it is effective", PATIENCE, async || site.shown().await["paused"]["progress"] == "effective").await;

    let reached = site.all_creates(&sent);
    assert!(reached < 40, "it came too late to be a test");
    sent.extend(stream::iter(0..5).map(|_| site.post()).buffer_unordered(4).collect::<Vec<_>>().await);
    let waiting = sent.iter().filter(|sent| site.calls(sent).creates == 0).count();
    eventually("the rest waits", PATIENCE, async || site.circuit().await.held == waiting as u64).await;
    first.kill().await.unwrap();
    site.server().kill();
    site.server().resume().unwrap();
    let store = site.local.store.clone();
    eventually("the store answers", PATIENCE, async || store.ping().await.is_ok()).await;
    let _third = site.worker("third", "");
    sent.push(site.post().await);
    eventually("the new one waits too", PATIENCE, async || site.circuit().await.held == waiting as u64 + 1).await;
    assert_eq!(site.all_creates(&sent), reached);
    let list = site.command(&["providers", "list"]).await;
    assert!(list.contains("paused") && list.contains("a drill") && list.contains("effective"), "{list}");

    let printed = site.command(&["providers", "resume", "truelayer", "--mode", "test", "--reason", "over", "--by", "ops"]).await;
    assert_eq!(printed.trim(), "truelayer, test: resumed");
    let resumed = Instant::now();
    eventually("all are due", PATIENCE, async || site.circuit().await.held == 0).await;
    assert!(resumed.elapsed() < Duration::from_secs(3), "{:?}", resumed.elapsed());
    assert_eq!(site.shown().await["resumed"]["by"], "ops");
    site.is_well(&sent).await;
}

/// However long nobody may send it: what waited is tried for as long as any other payout afterwards, and is neither rejected nor declined for the time before.
#[tokio::test]
async fn what_was_set_aside_for_longer_than_it_is_tried_is_not_rejected_for_that() {
    let site = Site::with(&[&CRANKED[..], &[("circuit.failures", "100")]].concat(), silent).await;
    let (store, operator) = (&site.local.store, &site.local.unsigned);
    let down = site.cranked_at(&nowhere().await).await;
    let without = site.cranked_with(|config| config.providers.truelayer_test = None).await;
    let shard = store.shards().all().next().unwrap();
    let (day, moment) = (Duration::from_hours(24), 6 * MOMENT);
    let mut sent = Vec::new();
    for frozen in [false, true] {
        let tried = site.post().await;
        turns(&down, 1).await;
        assert_eq!((site.state(&tried).await, site.payout(&tried).await.attempts[0].sends), (StateName::Scheduled, 1));
        if frozen {
            store.freeze(shard, &Freeze { reason: "a drill".to_owned(), at_ms: 0, epoch_seen: 0, nothing_lost: false }).await.unwrap();
        } else {
            operator.expect(Method::POST, "/v1/providers/truelayer/pause", Some(&json!({ "reason": "a drill" }))).await.unwrap();
        }
        let new = site.post().await;
        for by in [moment, day, moment, moment] {
            after(by, &down).await;
            after(moment, &without).await;
        }
        if frozen {
            store.thaw(shard, Duration::ZERO).await.unwrap();
        } else {
            operator.expect(Method::POST, "/v1/providers/truelayer/resume", None).await.unwrap();
        }
        for lanes in [&without, &down] {
            for _ in 0..3 {
                after(moment, lanes).await;
            }
        }
        for (payout, least) in [(&tried, 2), (&new, 1)] {
            let payout = site.payout(payout).await;
            assert_eq!(payout.state.name(), StateName::Scheduled, "{payout:#?}");
            assert!(payout.attempts[0].sends >= least, "it was tried again: {payout:#?}");
        }
        sent.extend([tried, new]);
    }
    let up = site.cranked(&site.local.config).await;
    after(LONG, &up).await;
    site.ends_well(&up, &sent).await;
}

/// Nobody can reach the provider any more. Each payout is tried as often as the circuit lets it, which is no reason to try it for ever. A pause is: what was
/// kept from being tried by a person has all of its time again.
#[tokio::test]
async fn a_payout_to_a_provider_that_never_comes_back_is_rejected_in_the_end() {
    let rules = [("rules.dispatch_bound_ms", "7200000"), ("circuit.wait_first_ms", "300000"), ("circuit.wait_cap_ms", "300000")];
    let site = Site::with(&[&CRANKED[..], &rules].concat(), silent).await;
    let operator = &site.local.unsigned;
    let sent = site.post().await;
    let down = site.cranked_at(&nowhere().await).await;
    let moment = 6 * MOMENT;
    // It is held in the first moment, and is the trial when the circuit has waited.
    let round = async || {
        for by in [moment, Duration::from_mins(6)] {
            after(by, &down).await;
        }
        site.payout(&sent).await
    };
    while site.circuit_state().await == CircuitState::Closed {
        after(moment, &down).await;
    }
    assert_eq!(site.sends(std::slice::from_ref(&sent)).await, 10, "the default");
    operator.expect(Method::POST, "/v1/providers/truelayer/pause", Some(&json!({ "reason": "a drill" }))).await.unwrap();
    after(moment, &down).await;
    after(Duration::from_hours(3), &down).await;
    operator.expect(Method::POST, "/v1/providers/truelayer/resume", None).await.unwrap();
    let mut tried = site.sends(std::slice::from_ref(&sent)).await;
    for _ in 0..19 {
        let payout = round().await;
        assert_eq!(payout.state.name(), StateName::Scheduled, "{payout:#?}");
        assert!(payout.attempts[0].sends > tried, "it is a trial each time");
        tried = payout.attempts[0].sends;
    }
    for _ in 0..2 {
        round().await;
    }
    let payout = site.payout(&sent).await;
    assert_eq!(payout.state, State::Rejected { reason: Reason::new("provider_unreachable") }, "{payout:#?}");
    assert_eq!(site.circuit().await.held, 0);
}

/// The first try never left, and it takes long until there is a second one. For how long that can be repeated does not count from the first.
#[tokio::test]
async fn what_is_sent_after_a_long_pause_can_be_sent_again() {
    let keys = [("circuit.failures", "100"), ("providers.truelayer_test.profile.retention_ms", "3600000")];
    let site = Site::with(&[&CRANKED[..], &keys].concat(), silent).await;
    let operator = &site.local.unsigned;
    let sent = site.post_in(Mood::ErrorBefore).await;
    let down = site.cranked_at(&nowhere().await).await;
    turns(&down, 1).await;
    assert_eq!(site.state(&sent).await, StateName::Scheduled);
    operator.expect(Method::POST, "/v1/providers/truelayer/pause", Some(&json!({ "reason": "a drill" }))).await.unwrap();
    after(Duration::from_hours(2), &down).await;
    operator.expect(Method::POST, "/v1/providers/truelayer/resume", None).await.unwrap();
    let up = site.cranked(&site.local.config).await;
    after(MOMENT, &up).await;
    assert_eq!((site.state(&sent).await, site.calls(&sent).creates), (StateName::Inconclusive, 1));
    for _ in 0..4 {
        after(6 * MOMENT, &up).await;
    }
    assert_eq!(site.calls(&sent).creates, 2, "it was not found, and its key is remembered");
    site.ends_well(&up, &[sent]).await;
}

/// What the store has forgotten is with another provider. That is found out and told, however slowly its own one answers, and whatever that says.
#[tokio::test]
async fn what_another_provider_has_is_told_whatever_its_own_one_says() {
    enum Own {
        Slow,
        Silent,
        HasItToo,
    }
    for own in [Own::Slow, Own::Silent, Own::HasItToo] {
        let mut site = Site::with(&[&CRANKED[..], &[("execute.look_ms", "2000")]].concat(), silent).await;
        let bytes = site.server().log_bytes().unwrap();
        let other = Provider::WorldpayAccount;
        let sent = site.post_to(other, Uuid::new_v4(), Mood::Plain).await;
        let up = site.cranked(&site.local.config).await;
        turns(&up, 1).await;
        assert_eq!(site.state(&sent).await, StateName::Authorised);
        let (store, shard) = (site.local.store.clone(), sent.id.shard());
        // Somebody who goes on without a look first has it paid twice.
        let losses = if matches!(own, Own::HasItToo) { &[Duration::ZERO, Duration::from_hours(1)][..] } else { &[Duration::from_hours(1)] };
        for look_first in losses {
            site.server().forget_since(bytes).unwrap();
            eventually("the store answers", PATIENCE, async || store.ping().await.is_ok()).await;
            assert!(store.load(sent.id).await.unwrap().is_none());
            // That its time was moved is forgotten too.
            up.payouts.recorder.store.refresh_clock().await.unwrap();
            site.post_again(sent.transaction, Mood::Plain).await;
            turns(&up, 1).await;
            assert!(store.frozen(shard).await.unwrap().is_some());
            store.thaw(shard, *look_first).await.unwrap();
            if look_first.is_zero() {
                after(LONG, &up).await;
                assert_eq!(site.state(&sent).await, StateName::Authorised);
            }
        }
        match own {
            Own::Slow => {
                let facade = Facade::answers(StatusCode::NOT_FOUND, Duration::from_secs(4)).await;
                after(LONG, &site.cranked_at(&facade.url).await).await;
            }
            Own::Silent => {
                let facade = Facade::answers(StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO).await;
                let at = |config: &mut Config| config.providers.truelayer_test.as_mut().unwrap().base_url.clone_from(&facade.url);
                let nowhere = nowhere().await;
                let both_away = site.cranked_with(|config| {
                    at(config);
                    config.providers.worldpay_account_test.as_mut().unwrap().access.base_url.clone_from(&nowhere);
                });
                after(LONG, &both_away.await).await;
                assert_eq!(site.state(&sent).await, StateName::Inconclusive);
                after(LONG, &site.cranked_with(at).await).await;
                assert_eq!(facade.creates(), 0);
            }
            Own::HasItToo => _ = after(LONG, &up).await,
        }
        let told = site.observed(&sent, |what| matches!(what, What::Elsewhere { provider, .. } if *provider == other)).await;
        assert!(told && site.state(&sent).await == StateName::InReview, "{:#?}", site.payout(&sent).await);
    }
}

/// The store may have forgotten the payout, and the provider is slower to say so than the window of a send is long: it is sent all the same, in the end, and once.
#[tokio::test]
async fn a_look_that_takes_longer_than_a_send_may_does_not_go_on_for_ever() {
    let windows = [("execute.send_window_ms", "600"), ("execute.look_ms", "300"), ("providers.truelayer_test.profile.propagation_ms", "1000")];
    let keys: Vec<_> = CRANKED.into_iter().filter(|(key, _)| !key.starts_with("execute.send")).chain(windows).collect();
    let site = Site::with(&keys, silent).await;
    let store = &site.local.store;
    let sent = site.post().await;
    store.freeze(sent.id.shard(), &Freeze { reason: "a drill".to_owned(), at_ms: 0, epoch_seen: 0, nothing_lost: false }).await.unwrap();
    store.thaw(sent.id.shard(), Duration::from_hours(1)).await.unwrap();
    let facade = Facade::answers(StatusCode::NOT_FOUND, Duration::from_millis(900)).await;
    // The only one that could have it, and it remembers its keys.
    let alone = |config: &mut Config| {
        let of = &mut config.providers;
        (of.truelayer_v3_test, of.worldpay_account_test, of.worldpay_card_test, of.mollie_test) = (None, None, None, None);
    };
    let at = |config: &mut Config| config.providers.truelayer_test.as_mut().unwrap().base_url.clone_from(&facade.url);
    let slow = site.cranked_with(|config| (alone(config), at(config)).0).await;
    turns(&slow, 1).await;
    assert_eq!((site.state(&sent).await, facade.creates()), (StateName::Inconclusive, 0), "nothing was sent, and polls are to find out");
    for _ in 0..4 {
        after(MOMENT, &slow).await;
    }
    assert!(facade.creates() >= 1, "a poll has the time");
    let up = site.cranked_with(alone).await;
    site.ends_well(&up, &[sent]).await;
}

/// The store has forgotten whom it let through, and they may be at it still: neither a pause nor a freeze is called effective before their leases have ended.
#[tokio::test]
async fn a_store_that_was_rolled_back_does_not_call_a_stop_effective_too_early() {
    let mut site = Site::with_breaker().await;
    let lanes = site.cranked(&site.local.config).await;
    site.post().await;
    turns(&lanes, 1).await;
    let pause = ["providers", "pause", "truelayer", "--mode", "test", "--reason", "a drill"];
    let resume = ["providers", "resume", "truelayer", "--mode", "test"];
    assert!(site.command(&pause).await.contains("draining"));
    after(LONG, &lanes).await;
    assert!(site.command(&pause).await.contains("paused; effective"));
    site.command(&resume).await;

    let bytes = site.server().log_bytes().unwrap();
    site.post().await;
    turns(&lanes, 1).await;
    site.server().forget_since(bytes).unwrap();
    let store = site.local.store.clone();
    eventually("the store answers", PATIENCE, async || store.ping().await.is_ok()).await;
    assert!(site.command(&pause).await.contains("paused; draining"));
    assert!(site.command(&["freeze", "--reason", "a drill"]).await.contains("frozen; draining"));
    store.move_clock(LONG).await.unwrap();
    assert!(site.command(&pause).await.contains("paused; effective"));
    assert!(site.command(&["freeze", "--reason", "a drill"]).await.contains("frozen; effective"));
}
