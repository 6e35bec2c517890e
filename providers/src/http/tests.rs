use std::future::poll_fn;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::scripted::{Reply, Scripted, refusing};
use super::*;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(150);
const BODY: &[u8] = br#"{"amount":1}"#;

fn client(url: &str) -> Client {
    Client::new(url, false, Limits { body: 1000, ..Limits::default() }).expect("a client")
}

fn post(within: Duration) -> Call {
    Call::new(Method::POST, "/payouts", within).body("application/json", Bytes::from_static(BODY))
}

/// A call arrives once, whole, with a length, and without anything that was not asked for.
#[tokio::test]
async fn a_call_is_exactly_what_was_asked_for() {
    let server = Scripted::start(|_| Reply::Answer(202, vec![("x-id", "7".to_owned())], b"{}".to_vec())).await;
    let client = client(&format!("{}/prefix/", server.url));
    let call = post(LONG).query("from", "a b&c").header(header::AUTHORIZATION, HeaderValue::from_static("Bearer t"));
    let response = client.call(call).await.expect("an answer");
    assert_eq!((response.status, response.headers["x-id"].as_bytes()), (StatusCode::ACCEPTED, b"7".as_slice()));
    assert_eq!(response.body.expect("a body"), "{}");
    let [received] = &server.received()[..] else { panic!("one request") };
    assert_eq!(received.line, "POST /prefix/payouts?from=a+b%26c");
    assert_eq!(client.path("/payouts"), "/prefix/payouts");
    assert_eq!(received.body, BODY);
    assert_eq!(received.headers[header::CONTENT_LENGTH], BODY.len().to_string().as_str());
    assert_eq!(received.headers[header::AUTHORIZATION], "Bearer t");
    for name in ["accept-encoding", "transfer-encoding", "referer", "cookie", "expect"] {
        assert!(!received.headers.contains_key(name), "{name}");
    }
}

/// Whatever ends before the body is handed to a connection is not sent, however long it took and whatever it was.
#[tokio::test]
async fn not_sent_means_that_the_body_never_left() {
    let (closed, _socket) = refusing();
    assert_eq!(client(&closed).call(post(LONG)).await.err(), Some(Failure::NotSent("connect")));
    let unknown = client("http://payrelay.invalid").call(post(LONG)).await.err();
    assert!(matches!(unknown, Some(Failure::NotSent(_))), "{unknown:?}");

    // Accepts, says nothing: the handshake never ends.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = format!("https://{}", listener.local_addr().expect("an address"));
    assert_eq!(client(&silent).call(post(SHORT)).await.err(), Some(Failure::NotSent("deadline")));
    let impatient = Client::new(&silent, true, Limits { connect: SHORT, ..Limits::default() }).expect("a client");
    assert_eq!(impatient.call(post(LONG)).await.err(), Some(Failure::NotSent("connect_timeout")));

    // Speaks, but not TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let plain = format!("https://{}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.write_all(b"HTTP/1.1 400 No\r\n\r\n").await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        bytes
    });
    assert_eq!(client(&plain).call(post(LONG)).await.err(), Some(Failure::NotSent("connect")));
    let bytes = server.await.expect("no panic");
    assert!(!bytes.windows(BODY.len()).any(|window| window == BODY));
}

/// Too late is found after the connection is there, before the first byte of the body.
#[tokio::test]
async fn nothing_leaves_after_send_by() {
    let server = Scripted::start(|_| Reply::status(202)).await;
    let client = client(&server.url);
    let past = crate::clock::now() - SignedDuration::from_millis(1);
    assert_eq!(client.call(post(LONG).send_by(past)).await.err(), Some(Failure::NotSent("send_by_passed")));
    assert_eq!(server.received().len(), 0);
    let future = crate::clock::now() + SignedDuration::from_secs(60);
    assert!(client.call(post(LONG).send_by(future)).await.is_ok());
    assert_eq!(server.received().len(), 1);
}

/// Once the body is out, only a response head is an answer.
#[tokio::test]
async fn everything_after_the_body_is_ambiguous() {
    for (reply, within, word) in [
        (Reply::Drop, LONG, "connection_lost"),
        (Reply::Hang, SHORT, "deadline"),
        (Reply::Raw(b"HTTP/1.1 20".to_vec()), LONG, "connection_lost"),
        (Reply::Raw(b"SMTP ready\r\n\r\n".to_vec()), LONG, "connection_lost"),
    ] {
        let mut reply = Some(reply);
        let server = Scripted::start(move |_| reply.take().unwrap_or(Reply::status(202))).await;
        assert_eq!(client(&server.url).call(post(within)).await.err(), Some(Failure::Ambiguous(word)));
        assert_eq!(server.received().len(), 1, "sent once, not again");
    }
    // A question has no body to watch: how it ended is never taken for proof.
    let (closed, _socket) = refusing();
    let question = Call::new(Method::GET, "/", LONG);
    assert_eq!(client(&closed).call(question).await.err(), Some(Failure::Ambiguous("connect")));
}

/// A server that closes kept connections whenever it likes: each body arrives at most once, and nothing is called unsent that arrived.
#[tokio::test]
async fn a_closed_pooled_connection_never_makes_a_second_send() {
    let server = Scripted::start(|_| Reply::Raw(b"HTTP/1.1 202 X\r\ncontent-length: 0\r\n\r\n".to_vec())).await;
    let client = client(&server.url);
    for number in 0..200 {
        let body = Bytes::from(format!("{{\"number\":{number}}}"));
        let result = client.call(Call::new(Method::POST, "/payouts", LONG).body("application/json", body.clone())).await;
        let arrived = server.received().iter().filter(|received| received.body == body).count();
        match result {
            Ok(_) => assert_eq!(arrived, 1),
            Err(Failure::NotSent(_)) => assert_eq!(arrived, 0),
            Err(Failure::Ambiguous(_)) => assert!(arrived <= 1),
        }
    }
}

/// The status counts even if the body does not fit, ends early or never ends.
#[tokio::test]
async fn bodies_are_bounded() {
    let fits = vec![b'x'; 1000];
    let too_large = vec![b'x'; 1001];
    let endless = format!("HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n3e8\r\n{}\r\n", "x".repeat(1000));
    let chunked_too_large = format!("{endless}1\r\nx\r\n");
    for (reply, within, expected) in [
        (Reply::Answer(200, Vec::new(), fits.clone()), LONG, Ok(1000)),
        (Reply::Answer(200, Vec::new(), too_large), LONG, Err(Unread::TooLarge)),
        (Reply::Raw(chunked_too_large.into_bytes()), LONG, Err(Unread::TooLarge)),
        (Reply::Raw(endless.into_bytes()), LONG, Err(Unread::CutShort)),
        (Reply::Raw(b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nhalf".to_vec()), LONG, Err(Unread::CutShort)),
        (Reply::Stall(b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nhalf".to_vec()), SHORT, Err(Unread::CutShort)),
    ] {
        let mut reply = Some(reply);
        let server = Scripted::start(move |_| reply.take().unwrap_or(Reply::Drop)).await;
        let response = client(&server.url).call(post(within)).await.expect("a head");
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(response.body.map(|body| body.len()), expected);
    }
}

#[tokio::test]
async fn redirects_are_answers() {
    let elsewhere = Scripted::start(|_| Reply::status(200)).await;
    let location = elsewhere.url.clone();
    let server = Scripted::start(move |_| Reply::Answer(307, vec![("location", location.clone())], Vec::new())).await;
    let response = client(&server.url).call(post(LONG)).await.expect("an answer");
    assert_eq!(response.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(elsewhere.received().len(), 0);
}

/// A body is given out once, and not at all after somebody has reported that it was not sent.
#[tokio::test]
async fn a_body_is_given_out_once() {
    let body = |taken: &Taken| OneShot { bytes: Some(Bytes::from_static(BODY)), send_by: None, taken: taken.clone(), broken_off: None };
    async fn frame(body: &mut OneShot) -> Option<Result<Bytes, ()>> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        Some(frame.map(|frame| frame.into_data().expect("data")).map_err(|_| ()))
    }
    let taken = Taken::new(WAITING);
    let mut given = body(&taken);
    assert_eq!(given.size_hint().exact(), Some(BODY.len() as u64));
    assert_eq!(frame(&mut given).await, Some(Ok(Bytes::from_static(BODY))));
    assert_eq!(frame(&mut given).await, None);
    assert!(given.is_end_stream());
    assert_eq!(taken.revoke(), TAKEN);
    assert_eq!(frame(&mut body(&taken)).await, Some(Err(())), "a copy of the request has nothing to send");

    let taken = Taken::new(WAITING);
    assert_eq!(taken.revoke(), WAITING);
    assert_eq!(frame(&mut body(&taken)).await, Some(Err(())), "too late: it was reported as not sent");
}

#[test]
fn only_plain_origins_are_taken() {
    let check = |address: &str, tls_only| Client::new(address, tls_only, Limits::default()).map(|client| format!("{client:?}"));
    assert!(check("https://api.example.test", true).expect("a client").contains("https://api.example.test"));
    assert!(check("http://127.0.0.1:8080/base", false).is_ok());
    assert!(matches!(check("http://api.example.test", true), Err(ClientError::Insecure)));
    for address in ["", "api.example.test", "ftp://api.example.test", "file:///etc/passwd", "https://"] {
        assert!(matches!(check(address, false), Err(ClientError::Address(_))), "{address}");
    }
    let error = check("https://user:hunter2@api.example.test", false).expect_err("credentials");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now: Timestamp = "2026-03-02T09:00:00Z".parse().expect("a timestamp");
    for (value, seconds) in [
        ("0", Some(0)),
        ("120", Some(120)),
        ("99999999", Some(3600)),
        ("99999999999999999999999", Some(3600)),
        ("Mon, 02 Mar 2026 09:02:00 GMT", Some(120)),
        ("Mon, 02 Mar 2026 08:00:00 GMT", Some(0)),
        ("Tue, 03 Mar 2026 09:00:00 GMT", Some(3600)),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ] {
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(value))]);
        let response = Response { status: StatusCode::TOO_MANY_REQUESTS, headers, body: Ok(Bytes::new()) };
        assert_eq!(response.retry_after(now), seconds.map(SignedDuration::from_secs), "{value:?}");
    }
}

/// Waits grow to a cap and end.
#[test]
fn waits_end() {
    let (first, longest) = (Duration::from_millis(1), Duration::from_millis(4));
    let mut waits = Waits::new(first, longest, Duration::from_secs(3600));
    assert!((0..100).all(|_| waits.next().is_some_and(|wait| wait <= longest * 2)));
    let mut over = Waits::new(first, longest, Duration::ZERO);
    let begun = std::time::Instant::now();
    while over.next().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(5), "gives up");
    }
}
