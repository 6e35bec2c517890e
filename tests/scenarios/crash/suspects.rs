//! After a loss of writes every provider is asked for every payout before it is sent. They are many, and no provider is asked more often than is allowed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use domain::id::Shard;
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use workers::clock::Clock;
use workers::execute::{self, Payouts};
use workers::poll;
use workers::queue::{self, Turn};
use workers::store::Store;
use workers::store::freeze::Freeze;
use workers::store::lanes::{ExecuteLane, Lane, PollLane};

use super::turns::{CRANKED, silent};
use super::*;

const SUSPECTS: usize = 1_000;
const LOOKS_PER_S: u32 = 50;
/// A payout is looked for under the keys of five attempts.
const LOOKS_EACH: usize = 5;
const STEP: Duration = Duration::from_millis(200);
/// A step, and what a turn may be late where the machine is busy.
const STEP_LATE: SignedDuration = SignedDuration::from_millis(2_200);
/// Three times as long as all looks take at the rate.
const LATEST: SignedDuration = SignedDuration::from_secs(300);

type Looks = Arc<Mutex<Vec<Timestamp>>>;

/// Has no payout that it is asked about, and notes when that was. Passes on what is sent to the provider at `base`, and counts it.
async fn watched(base: &str, clock: Clock) -> (String, Looks, Arc<AtomicUsize>) {
    let (looks, creates, base) = (Looks::default(), Arc::<AtomicUsize>::default(), base.to_owned());
    let (noted, created, http) = (looks.clone(), creates.clone(), reqwest::Client::builder().no_proxy().build().unwrap());
    let pass = move |request: Request| {
        let (http, base, clock, noted, created) = (http.clone(), base.clone(), clock.clone(), noted.clone(), created.clone());
        async move {
            let (parts, body) = request.into_parts();
            if parts.method == Method::GET {
                noted.lock().unwrap().push(clock.now());
                return StatusCode::NOT_FOUND.into_response();
            }
            created.fetch_add(1, Ordering::SeqCst);
            let (mut headers, body) = (parts.headers, to_bytes(body, 1 << 20).await.unwrap());
            headers.remove("host");
            let answer = http.request(parts.method, format!("{base}{}", parts.uri)).headers(headers).body(body).send().await.unwrap();
            let (status, bytes): (StatusCode, Bytes) = (answer.status(), answer.bytes().await.unwrap());
            (status, bytes).into_response() as Response
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(pass)).await });
    (url, looks, creates)
}

impl Site {
    /// A worker that has one provider, which has nothing that it is asked about; when that was, and how often something was sent to it.
    async fn alone_and_watched(&self) -> (Arc<Payouts>, Looks, Arc<AtomicUsize>) {
        let base = self.local.config.providers.truelayer_test.as_ref().unwrap().base_url.clone();
        let (url, looks, creates) = watched(&base, self.local.store.clock().clone()).await;
        let mut config = self.local.config.clone();
        let of = &mut config.providers;
        (of.truelayer_v3_test, of.worldpay_account_test, of.worldpay_card_test, of.mollie_test) = (None, None, None, None);
        of.truelayer_test.as_mut().unwrap().base_url = url;
        (self.cranked(&config).await.payouts, looks, creates)
    }

    async fn waiting(&self) -> u64 {
        self.vitals().await.lanes.iter().find(|lane| lane.lane == "execute").unwrap().entries
    }
}

fn lanes(store: &Store, shard: Shard) -> (ExecuteLane, PollLane) {
    let lane = || Lane { store: store.clone(), shard, lease: Duration::from_secs(30) };
    (ExecuteLane(lane()), PollLane(lane()))
}

fn settings() -> queue::Settings {
    let second = Duration::from_secs(1);
    queue::Settings {
        name: "suspects",
        concurrency: 32,
        batch: 32,
        tick: second,
        handler_deadline: 25 * second,
        panic_backoff: second,
        drain: second,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_suspects_are_looked_for_at_the_rate_and_each_is_sent_once() {
    let rate = LOOKS_PER_S.to_string();
    let site = Site::with(&[&CRANKED[..], &[("execute.suspect_looks_per_s", rate.as_str())]].concat(), silent).await;
    let store = site.local.store.clone();
    let ids = site.stock(SUSPECTS, None).await;
    let shard = ids[0].shard();
    store.freeze(shard, &Freeze { reason: "a drill".to_owned(), at_ms: 0, epoch_seen: 0, nothing_lost: false }).await.unwrap();
    store.thaw(shard, Duration::from_hours(1)).await.unwrap();

    let (worker, looks, creates) = site.alone_and_watched().await;
    let (execute_lane, _) = lanes(&store, shard);
    let settings = settings();
    let began = store.clock().now();
    while site.waiting().await > 0 {
        assert!(store.clock().now().duration_since(began) < LATEST, "{} wait", site.waiting().await);
        while let Turn::Did(_) = queue::turn(&execute_lane, &settings, &worker, execute::execute).await.unwrap() {}
        worker.recorder.store.move_clock(STEP).await.unwrap();
        store.refresh_clock().await.unwrap();
    }

    let mut looks = looks.lock().unwrap().clone();
    looks.sort_unstable();
    assert_eq!(looks.len(), SUSPECTS * LOOKS_EACH, "each was looked for once");
    // What is due within a step is done at its end, and the turn of a payout is that of all its looks.
    let at_most = |span: SignedDuration| (span + STEP_LATE).as_secs_f64() * f64::from(LOOKS_PER_S) + LOOKS_EACH as f64;
    for (first, at) in looks.iter().enumerate().step_by(LOOKS_EACH) {
        for (last, until) in looks.iter().enumerate().skip(first).step_by(25) {
            let (made, span) = (last - first + 1, until.duration_since(*at));
            assert!(made as f64 <= at_most(span), "{made} looks in {span:#}");
        }
    }
    let loading = ids.iter().map(|id| async { store.load(*id).await.unwrap().unwrap() });
    for payout in futures_util::future::join_all(loading).await {
        let attempt = payout.attempt().unwrap();
        assert_eq!((payout.state.name(), attempt.number, attempt.sends), (StateName::Authorised, 1, 1), "{payout:?}");
    }
    assert_eq!(creates.load(Ordering::SeqCst), SUSPECTS, "each was sent once");
}

/// One that may have been sent before is looked for by polls. It takes its turn with those that were never sent, however many of them come behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_has_its_turn_among_those_that_are_to_be_sent() {
    const RATE: u32 = 10;
    let rate = RATE.to_string();
    let site = Site::with(&[&CRANKED[..], &[("execute.suspect_looks_per_s", rate.as_str())]].concat(), silent).await;
    let store = site.local.store.clone();
    let sent = site.post_in(Mood::ErrorBefore).await;
    let shard = sent.id.shard();
    let (worker, ..) = site.alone_and_watched().await;
    let ((execute_lane, poll_lane), settings) = (lanes(&store, shard), settings());
    let crank = async || {
        while let Turn::Did(_) = queue::turn(&execute_lane, &settings, &worker, execute::execute).await.unwrap() {}
        // What was sent is polled too, again and again.
        for _ in 0..8 {
            queue::turn(&poll_lane, &settings, &worker, poll::poll).await.unwrap();
        }
    };
    crank().await;
    assert_eq!(site.state(&sent).await, StateName::Inconclusive);
    store.freeze(shard, &Freeze { reason: "a drill".to_owned(), at_ms: 0, epoch_seen: 0, nothing_lost: false }).await.unwrap();
    store.thaw(shard, Duration::from_hours(1)).await.unwrap();

    let sends = async || site.payout(&sent).await.attempt().unwrap().sends;
    let (began, mut stocked) = (store.clock().now(), 0);
    while sends().await < 2 {
        assert!(store.clock().now().duration_since(began) < LATEST, "it is not sent again");
        // There are always some that wait, so there is never a moment without a turn that was given.
        if site.waiting().await < 20 {
            stocked += 20;
            site.stock(stocked, None).await;
        }
        crank().await;
        worker.recorder.store.move_clock(STEP).await.unwrap();
        store.refresh_clock().await.unwrap();
    }
    // The others have moved too, no faster than is allowed.
    let (waiting, span) = (usize::try_from(site.waiting().await).unwrap(), store.clock().now().duration_since(began));
    let (looks, most) = ((stocked - waiting) * LOOKS_EACH, (span + STEP_LATE).as_secs_f64() * f64::from(RATE) + LOOKS_EACH as f64);
    assert!(waiting > 0 && looks > 0 && looks as f64 <= most, "{looks} looks in {span:#}, {waiting} wait");
}
