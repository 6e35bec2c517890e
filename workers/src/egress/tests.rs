use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::connect::Resolve;
use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Answers each look-up with the next list of addresses; the last one stays.
#[derive(Clone)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Vec<IpAddr>>>>,
    asked: Arc<AtomicUsize>,
}

impl Scripted {
    fn new(answers: &[&[&str]]) -> Self {
        let answers = answers.iter().map(|addresses| addresses.iter().map(|address| address.parse().unwrap()).collect()).collect();
        Self { answers: Arc::new(Mutex::new(answers)), asked: Arc::default() }
    }
}

impl Resolve for Scripted {
    fn resolve(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

fn settings(allow: &[&str]) -> Settings {
    Settings {
        allow: allow.iter().map(|entry| entry.parse().unwrap()).collect(),
        timeout_ms: 2_000,
        connect_timeout_ms: 1_000,
        ..Settings::default()
    }
}

/// A server that answers the requests of its connections by a script: one list per connection, `""` closes without an answer.
async fn serve(connections: Vec<Vec<&'static str>>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, accepted) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let count = accepted.clone();
    tokio::spawn(async move {
        for answers in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut read = Vec::new();
                for answer in answers {
                    while !read.ends_with(b"{}") {
                        if stream.read_buf(&mut read).await.unwrap() == 0 {
                            return;
                        }
                    }
                    read.clear();
                    if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            });
        }
    });
    (port, accepted)
}

async fn post(egress: &Egress, url: &str) -> Result<Posted, Why> {
    let target = egress.target(url, Mode::Test).unwrap();
    egress.post(&target, &[], Bytes::from_static(b"{}"), Timestamp::UNIX_EPOCH).await.map_err(|failure| failure.why)
}

/// Each way to write something that must not be called, and why it is refused.
#[test]
fn hostile_urls_are_refused_for_a_stated_reason() {
    let egress = Egress::new(&Settings::default());
    let table = "
        https://example.com/hooks?a=b               ok
        https://example.com:8443/                   ok
        HTTPS://EXAMPLE.com                         ok
        http://example.com/                         ok
        https://93.184.215.14/                      ok
        https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/  ok
        https://bücher.example/                     ok

        ftp://example.com/                          Scheme
        file:///etc/passwd                          Scheme
        gopher://127.0.0.1:6379/_INFO               Scheme
        javascript://example.com/                   Scheme
        //example.com/                              Unreadable
        example.com                                 Unreadable
        https:example.com                           Unreadable
        https:/example.com                          Unreadable
        https:///example.com                        Unreadable
        https://                                    Unreadable
        https://exa\\mple.com/                      Unreadable
        https://example.com\\@127.0.0.1/            Unreadable
        https://exam%20ple.com/                     Unreadable
        https://example.com:65536/                  NoPort
        https://user:secret@example.com/            Credentials
        https://example.com@127.0.0.1/              Credentials
        https://@example.com/                       Credentials
        https://example.com/#part                   Fragment
        https://example.com./                       TrailingDot
        https://a..example.com/                     NoName
        https://.example.com/                       NoName
        https://localhost./                         TrailingDot

        http://127.0.0.1/                           Loopback
        http://127.8.9.10/                          Loopback
        http://[::1]/                               Loopback
        http://[::ffff:127.0.0.1]/                  Loopback
        http://[::ffff:7f00:1]/                     Loopback
        http://[64:ff9b::127.0.0.1]/                Loopback
        http://[2002:7f00:1::]/                     Loopback
        http://2130706433/                          ObscureAddress
        http://017700000001/                        ObscureAddress
        http://0x7f000001/                          ObscureAddress
        http://0x7f.1/                              ObscureAddress
        http://127.1/                               ObscureAddress
        http://0177.0.0.1/                          ObscureAddress
        http://127.0.0.01/                          ObscureAddress
        http://127.0.0.1./                          ObscureAddress
        http://１２７.0.0.1/                        ObscureAddress
        http://127.0.0.%31/                         ObscureAddress
        http://1572395042/                          ObscureAddress
        http://0/                                   ObscureAddress
        http://0.0.0.0/                             Unspecified
        http://[::]/                                Unspecified
        http://0.1.2.3/                             Reserved
        http://10.0.0.1/                            Private
        http://172.16.0.1/                          Private
        http://172.31.255.255/                      Private
        http://172.32.0.1/                          ok
        http://192.168.1.1/                         Private
        http://100.64.0.1/                          Private
        http://100.100.100.200/                     Private
        http://[fd00:ec2::254]/                     Private
        http://[fc00::1]/                           Private
        http://[fec0::1]/                           Private
        http://[::ffff:10.0.0.1]/                   Private
        http://[64:ff9b::10.0.0.1]/                 Private
        http://[2002:a00:1::1]/                     Private
        http://169.254.169.254/latest/meta-data/    LinkLocal
        http://[::ffff:169.254.169.254]/            LinkLocal
        http://[fe80::1]/                           LinkLocal
        http://168.63.129.16/                       Metadata
        http://192.0.0.192/                         Reserved
        http://224.0.0.1/                           Multicast
        http://[ff02::1]/                           Multicast
        http://255.255.255.255/                     Broadcast
        http://240.0.0.1/                           Reserved
        http://192.0.2.1/                           Documentation
        http://198.51.100.1/                        Documentation
        http://203.0.113.1/                         Documentation
        http://[2001:db8::1]/                       Documentation
        http://[3fff::1]/                           Documentation
        http://198.18.0.1/                          Benchmarking
        http://[2001:2::1]/                         Benchmarking
        http://192.88.99.1/                         Reserved
        http://[2001::1]/                           Reserved
        http://[2002:5db8:d70e::]/                  Reserved
        http://[64:ff9b:1::1]/                      Reserved
        http://[::7f00:1]/                          Reserved
        http://[4000::1]/                           Reserved
        http://[100::1]/                            Reserved

        http://localhost/                           LocalName
        http://LOCALHOST/                           LocalName
        http://a.localhost/                         LocalName
        http://metadata.google.internal/            LocalName
        http://metadata.goog/                       LocalName
        http://instance-data/latest/                LocalName
        http://printer.local/                       LocalName
        http://db.prod.svc.cluster.local/           LocalName
        http://router.home.arpa/                    LocalName
        http://metadata/                            SingleLabel
        http://redis/                               SingleLabel
        http://notlocal.example/                    ok

        http://example.com:22/                      Port(22)
        http://example.com:25/                      Port(25)
        http://example.com:0/                       Port(0)
        http://example.com:1023/                    Port(1023)
        http://example.com:6379/                    Port(6379)
        http://example.com:2375/                    Port(2375)
        http://example.com:1024/                    ok
        https://example.com:99999/hooks             NoPort
        https://example.com:https/                  NoPort
    ";
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (url, expected) = line.rsplit_once(' ').unwrap();
        let url = url.trim().replace("\\\\", "\\");
        let found = match egress.check_url(&url, Mode::Test) {
            Ok(_) => "ok".to_owned(),
            Err(Refusal::Address(place)) => format!("{place:?}"),
            Err(refusal) => format!("{refusal:?}"),
        };
        assert_eq!(found, expected, "{url}");
    }
    for url in [" https://example.com", "https://example.com/a b", "https://example.com/\n", "https://exam\tple.com/", "https://example.com/\0"] {
        assert_eq!(egress.check_url(url, Mode::Test), Err(Refusal::Unreadable), "{url:?}");
    }
    for (label, times, expected) in [(63, 1, true), (64, 1, false), (48, 5, true), (49, 5, false)] {
        let name = format!("{}example", format!("{}.", "a".repeat(label)).repeat(times));
        let found = egress.check_url(&format!("https://{name}/"), Mode::Test);
        assert_eq!((found.is_ok(), found.err()), (expected, (!expected).then_some(Refusal::NoName)), "{} characters", name.len());
    }
    let local = Egress::new(&settings(&["127.0.0.1", "*.b"]));
    assert_eq!(local.check_url("http://127.0.0.1:0/", Mode::Test), Err(Refusal::Port(0)), "whatever is allowed");
    assert_eq!(local.check_url("http://a..b/", Mode::Test), Err(Refusal::NoName), "whatever is allowed");
    let long = format!("https://example.com/{}", "a".repeat(2_048));
    assert_eq!(egress.check_url(&long, Mode::Test), Err(Refusal::TooLong { max: 2_048 }));
    assert_eq!(egress.check_url("http://example.com/", Mode::Live), Err(Refusal::Insecure));
    let lenient = Egress::new(&Settings { https_only_in_live: false, ..Settings::default() });
    assert!(lenient.check_url("http://example.com/", Mode::Live).is_ok());
}

#[test]
fn a_refusal_reads_well() {
    assert_eq!(Refusal::Address(Place::Loopback).to_string(), "the host has an address of the machine itself");
    assert_eq!(Refusal::Insecure.to_string(), "the URL must begin with https:// in live mode");
}

/// Only the configuration opens a private place, and only the one that it names.
#[test]
fn the_allow_list_permits_what_it_names() {
    let egress = Egress::new(&settings(&["127.0.0.1", "10.1.0.0/16", "fd00:1::/32", "Billing", "*.svc.internal"]));
    for (url, good) in [
        ("http://127.0.0.1:81/", true),
        ("http://[::ffff:127.0.0.1]/", true),
        ("http://127.0.0.2/", false),
        ("http://10.1.255.255/", true),
        ("http://10.2.0.1/", false),
        ("http://[fd00:1::9]/", true),
        ("http://[fd00:2::9]/", false),
        ("http://billing:25/", true),
        ("http://billings/", false),
        ("http://a.svc.internal/", true),
        ("http://a.b.svc.internal/", true),
        ("http://svc.internal/", false),
        ("http://asvc.internal/", false),
        // Still the same rules of form.
        ("http://2130706433/", false),
        ("http://u@127.0.0.1/", false),
    ] {
        assert_eq!(egress.check_url(url, Mode::Test).is_ok(), good, "{url}");
    }
    assert_eq!(egress.check_url("http://127.0.0.1/", Mode::Live), Err(Refusal::Insecure));
}

#[test]
fn settings_are_read_strictly() {
    let read = |text: &str| serde_json::from_str::<Settings>(text);
    let all = read(r#"{"timeout_ms":1,"allow":["127.0.0.0/8","::1","hooks.local","*.local"]}"#).unwrap();
    assert_eq!((all.timeout_ms, all.connect_timeout_ms, all.allow.len()), (1, 5_000, 4));
    for bad in ["http://a", "a:80", "a b", "", "*", "*.", "10.0.0.0/33", "300.1.1.1", "a..b", "a."] {
        let error = read(&format!(r#"{{"allow":["{bad}"]}}"#)).unwrap_err();
        assert!(error.to_string().contains("neither a host name"), "{bad}: {error}");
    }
    assert!(read(r#"{"timeout":1}"#).is_err());
}

/// One bad address among good ones refuses the host, at whatever place, and no connection is tried.
#[tokio::test]
async fn every_resolved_address_must_pass() {
    let (port, accepted) = serve(vec![vec![OK]]).await;
    for bad in ["10.0.0.1", "127.0.0.2", "169.254.169.254", "::ffff:10.0.0.1", "::1", "0.0.0.0", "fd00::1", "64:ff9b::a00:1"] {
        for addresses in [[bad, "127.0.0.1"], ["127.0.0.1", bad]] {
            let egress = Egress::with_resolver(&settings(&["127.0.0.1"]), Scripted::new(&[&addresses]));
            assert_eq!(post(&egress, &format!("http://hooks.example:{port}/")).await, Err(Why::AddressRefused), "{addresses:?}");
        }
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 0);
}

/// A name may lead anywhere when it is looked up again; the connection goes where the check looked, and the next one is checked again.
#[tokio::test]
async fn rebinding_gains_nothing() {
    let (port, accepted) = serve(vec![vec!["HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"], vec![OK]]).await;
    let resolver = Scripted::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let egress = Egress::with_resolver(&settings(&["127.0.0.1"]), resolver.clone());
    let url = format!("http://hooks.example:{port}/");
    assert!(egress.check_url(&url, Mode::Test).is_ok());
    assert_eq!(post(&egress, &url).await.unwrap().status, 204);
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 1, "what was checked is what was connected to");
    assert_eq!(post(&egress, &url).await, Err(Why::AddressRefused));
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

/// A name on the allow-list may lead into a private network, but never to where a cloud hands out credentials.
#[tokio::test]
async fn a_trusted_name_does_not_open_the_local_link() {
    let (port, _) = serve(vec![vec![OK]]).await;
    let to = |address| Egress::with_resolver(&settings(&["hooks.internal"]), Scripted::new(&[&[address]]));
    let url = format!("http://hooks.internal:{port}/");
    assert_eq!(post(&to("127.0.0.1"), &url).await.unwrap().status, 200);
    assert_eq!(post(&to("169.254.169.254"), &url).await, Err(Why::AddressRefused));
    assert_eq!(post(&to("168.63.129.16"), &url).await, Err(Why::AddressRefused));
}

/// A dead first address leaves time for the second.
#[tokio::test]
async fn the_next_address_is_tried() {
    let (port, _) = serve(vec![vec![OK]]).await;
    let egress = Egress::with_resolver(&settings(&["127.0.0.0/8"]), Scripted::new(&[&["127.0.0.9", "127.0.0.1"]]));
    assert_eq!(post(&egress, &format!("http://hooks.example:{port}/")).await.unwrap().status, 200);
}

#[tokio::test]
async fn failures_have_names() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut allowed = settings(&["127.0.0.1"]);
    allowed.timeout_ms = 300;
    let egress = Egress::with_resolver(&allowed, Scripted::new(&[]));
    assert_eq!(post(&egress, &format!("http://127.0.0.1:{unused}/")).await, Err(Why::Connect));
    assert_eq!(post(&egress, "http://nowhere.example/").await, Err(Why::Dns));
    let silent = Egress::with_resolver(&allowed, Scripted::new(&[&[]]));
    assert_eq!(post(&silent, "http://nowhere.example/").await, Err(Why::Dns));
    let (port, _) = serve(vec![
        vec!["SSH-2.0-OpenSSH_9.2\r\n"],
        vec!["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"],
        vec!["HTTP/1.1 410 Gone\r\ncontent-length: 9\r\nretry-after: 7\r\n\r\nshort"],
        vec!["HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"],
    ])
    .await;
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(post(&egress, &url).await, Err(Why::NotHttp));
    assert_eq!(post(&egress, &url).await, Err(Why::Timeout), "a 2xx counts only when complete");
    let gone = post(&egress, &url).await.unwrap();
    assert_eq!((gone.status, gone.retry_after_ms), (410, Some(7_000)), "any other status counts by its head");
    assert_eq!(post(&egress, &url).await.unwrap().status, 302, "not followed");
}

/// Plain text where TLS should be. Also shows that the system's roots can be loaded.
#[tokio::test]
async fn a_server_without_tls_is_named() {
    let egress = Egress::new(&settings(&["127.0.0.1"]));
    egress.warm_up().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("https://127.0.0.1:{port}/");
    let plain = async { listener.accept().await.unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await };
    let (posted, _) = tokio::join!(post(&egress, &url), plain);
    assert_eq!(posted, Err(Why::Tls));
}

/// A kept connection that was closed in the meantime costs the message nothing; a fresh one that is closed is a failure.
#[tokio::test]
async fn a_closed_kept_connection_is_replaced_once() {
    let (port, accepted) = serve(vec![vec![OK, OK, ""], vec![OK]]).await;
    let egress = Egress::new(&settings(&["127.0.0.1"]));
    let url = format!("http://127.0.0.1:{port}/");
    for _ in 0..3 {
        assert_eq!(post(&egress, &url).await.unwrap().excerpt, "ok");
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 2);
    let (port, accepted) = serve(vec![vec![""], vec![OK]]).await;
    assert_eq!(post(&egress, &format!("http://127.0.0.1:{port}/")).await, Err(Why::Closed));
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    for (text, expected) in [
        ("0", Some(0)),
        ("120", Some(120_000)),
        (" 7 ", Some(7_000)),
        ("31536000", Some(31_536_000_000)),
        ("31536001", Some(31_536_000_000)),
        ("99999999999999999999999", Some(31_536_000_000)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", Some(31_536_000_000)),
        ("Friday, 02-Jan-26 03:05:05 GMT", Some(60_000)),
        ("Fri Jan  2 03:05:05 2026", Some(60_000)),
        ("Fri, 02 Jan 2026 04:05:05 +0100", Some(60_000)),
        ("Fri, 02 Jan 2026 03:05:05 GMT", Some(60_000)),
        ("Fri, 02 Jan 2026 03:00:00 GMT", Some(0)),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ] {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
        assert_eq!(retry_after_ms(&headers, now), expected, "{text:?}");
    }
    assert_eq!(retry_after_ms(&HeaderMap::new(), now), None);
}
