//! After a loss of writes every provider is asked for every payout before it is sent. They are many, and no provider is asked more often than is allowed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use jiff::{SignedDuration, Timestamp};
use payrelay::config::Config;
use tokio::net::TcpListener;
use workers::clock::Clock;
use workers::execute;
use workers::queue::{self, Turn};
use workers::store::freeze::Freeze;
use workers::store::lanes::{ExecuteLane, Lane};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_suspects_are_looked_for_at_the_rate_and_each_is_sent_once() {
    let rate = LOOKS_PER_S.to_string();
    let site = Site::with(&[&CRANKED[..], &[("execute.suspect_looks_per_s", rate.as_str())]].concat(), silent).await;
    let store = site.local.store.clone();
    let ids = site.stock(SUSPECTS, None).await;
    let shard = ids[0].shard();
    store.freeze(shard, &Freeze { reason: "a drill".to_owned(), at_ms: 0, epoch_seen: 0 }).await.unwrap();
    store.thaw(shard, Duration::from_hours(1)).await.unwrap();

    let base = site.local.config.providers.truelayer_test.as_ref().unwrap().base_url.clone();
    let (url, looks, creates) = watched(&base, store.clock().clone()).await;
    let alone = |config: &mut Config| {
        let of = &mut config.providers;
        (of.truelayer_v3_test, of.worldpay_account_test, of.worldpay_card_test, of.mollie_test) = (None, None, None, None);
        of.truelayer_test.as_mut().unwrap().base_url = url;
    };
    let mut config = site.local.config.clone();
    alone(&mut config);
    let worker = site.cranked(&config).await.payouts;
    let lane = ExecuteLane(Lane { store: store.clone(), shard, lease: Duration::from_secs(30) });
    let second = Duration::from_secs(1);
    let settings = queue::Settings {
        name: "suspects",
        concurrency: 32,
        batch: 32,
        tick: second,
        handler_deadline: 25 * second,
        panic_backoff: second,
        drain: second,
    };
    let began = store.clock().now();
    let waiting = async || site.vitals().await.lanes.iter().find(|lane| lane.lane == "execute").unwrap().entries;
    while waiting().await > 0 {
        assert!(store.clock().now().duration_since(began) < LATEST, "{} wait", waiting().await);
        while let Turn::Did(_) = queue::turn(&lane, &settings, &worker, execute::execute).await.unwrap() {}
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
