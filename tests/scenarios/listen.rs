//! `payrelay listen`: what is pulled arrives as a webhook would, and a second run goes on where the first one had ended.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode};
use clap::Parser as _;
use domain::signature::Secret;
use payrelay::cli::listen;
use payrelay::subscriber::Subscriber;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{Caller, Installation, payout, transaction};

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: listen::Arguments,
}

/// Listens until the subscriber has verified so many.
async fn listen(shop: &Caller, to: &str, cursor: &std::path::Path, secret: &Secret, until: impl AsyncFn()) {
    let secret = secret.to_text();
    let words = ["listen", "--forward-to", to, "--url", &shop.url, "--api-key", &shop.token, "--secret", &secret, "--cursor"];
    let words = words.into_iter().map(std::ffi::OsString::from).chain([cursor.as_os_str().to_owned()]);
    let Line { arguments } = Line::try_parse_from(words).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(listen::run(arguments, stop.clone()));
    until().await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn events_are_pulled_signed_and_posted_and_a_second_run_goes_on() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/", listener.local_addr().unwrap());
    let (subscriber, stop) = (Subscriber::default(), CancellationToken::new());
    tokio::spawn(subscriber.clone().serve(listener, stop.clone()));
    let secret = Secret::from_bytes(&[7; 32]).unwrap();
    subscriber.trust(vec![secret.clone()]);
    let directory = tempfile::tempdir().unwrap();
    let cursor = directory.path().join("cursor");
    let open = async || assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    let look_again = || tokio::time::sleep(std::time::Duration::from_millis(10));

    open().await;
    listen(&shop, &to, &cursor, &secret, async || {
        // The feed is opened by it, and holds nothing of before.
        while !cursor.exists() {
            look_again().await;
        }
        open().await;
        while subscriber.verified() < 1 {
            look_again().await;
        }
        let first = std::fs::read_to_string(&cursor).unwrap();
        open().await;
        while subscriber.verified() < 2 || std::fs::read_to_string(&cursor).unwrap() == first {
            look_again().await;
        }
    })
    .await;
    open().await;
    assert_eq!(subscriber.verified(), 2);
    listen(&shop, &to, &cursor, &secret, async || {
        while subscriber.verified() < 3 {
            look_again().await;
        }
    })
    .await;
    assert_eq!((subscriber.verified(), subscriber.refused()), (3, 0));
    stop.cancel();

    let refused = Line::try_parse_from(["listen", "--forward-to", &to, "--url", &shop.url, "--api-key", "test_x"]).unwrap().arguments;
    assert!(listen::run(refused, CancellationToken::new()).await.unwrap_err().to_string().contains("401"));
}

/// A receiver that is not up to it is tried again, so often; the next event has its turn after that.
#[tokio::test]
async fn what_is_not_taken_is_posted_again_for_a_while() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let got: Arc<Mutex<Vec<String>>> = Arc::default();
    let keeps = got.clone();
    // The first event is taken at its third try, the second one never, the third one refused for good.
    let receive = async move |headers: HeaderMap| {
        let mut got = keeps.lock().unwrap();
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        let seen = got.iter().filter(|known| **known == id).count();
        let mut events = got.clone();
        events.dedup();
        got.push(id.clone());
        match events.iter().position(|known| *known == id).unwrap_or(events.len()) {
            0 if seen == 2 => StatusCode::OK,
            0 | 1 => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(receive)).await });
    let directory = tempfile::tempdir().unwrap();
    let cursor = directory.path().join("cursor");
    let words = ["listen", "--forward-to", &to, "--url", &shop.url, "--api-key", &shop.token, "--tries", "3", "--cursor", cursor.to_str().unwrap()];
    let Line { arguments } = Line::try_parse_from(words).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(listen::run(arguments, stop.clone()));
    let look_again = || tokio::time::sleep(std::time::Duration::from_millis(10));
    while !cursor.exists() {
        look_again().await;
    }
    for _ in 0..4 {
        assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    }
    let posts = || {
        let got = got.lock().unwrap().clone();
        got.chunk_by(|one, next| one == next).map(<[String]>::len).collect::<Vec<_>>()
    };
    while posts().len() < 4 {
        look_again().await;
    }
    assert_eq!(posts(), [3, 3, 1, 1]);
    stop.cancel();
    running.await.unwrap().unwrap();

    let words = ["listen", "--forward-to", &to, "--url", &shop.url, "--api-key", &shop.token, "--type", "payout.nothing"];
    let wrong = listen::run(Line::try_parse_from(words).unwrap().arguments, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(wrong.contains("\n  type: "), "{wrong}");
}
