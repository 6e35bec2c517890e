//! Subscribers that speak HTTP/2: all deliveries to one of them share a connection, and none of them is lost with it.

use std::convert::Infallible;
use std::pin::pin;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::hostile::{Authority, HOST, THANKS, acknowledged, answering};
use super::*;

/// What came to a server: the number of its connections, and the requests.
#[derive(Clone, Default)]
struct Came {
    connections: Arc<Mutex<usize>>,
    requests: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone, Debug)]
struct Asked {
    version: Version,
    authority: String,
    host: String,
    body: Bytes,
}

/// What a connection does next, as a path of it asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Serves,
    /// It lets go of its client: what is under way is answered, and nothing more is taken.
    Leaves,
    /// It is there and says nothing any more.
    IsMute,
}

async fn speaking_http_2(tls: TlsAcceptor) -> (u16, Came) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, came) = (listener.local_addr().unwrap().port(), Came::default());
    let told = came.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = tls.accept(stream).await else { continue };
            *told.connections.lock().unwrap() += 1;
            tokio::spawn(converse(stream, told.clone()));
        }
    });
    (port, came)
}

async fn converse(stream: TlsStream<TcpStream>, came: Came) {
    let (course, mut changes) = watch::channel(Course::Serves);
    let service = service_fn(|request: Request<Incoming>| {
        let (came, course) = (came.clone(), course.clone());
        async move { answer(request, &came, &course).await }
    });
    let mut connection = pin!(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            changed = changes.changed() => changed.unwrap(),
        }
        let now = *changes.borrow_and_update();
        match now {
            Course::Serves => {}
            Course::Leaves => connection.as_mut().graceful_shutdown(),
            Course::IsMute => return std::future::pending().await,
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    came: &Came,
    course: &watch::Sender<Course>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, &'static str> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let authority = head.uri.authority().unwrap().to_string();
    let host = head.headers["host"].to_str().unwrap().to_owned();
    came.requests.lock().unwrap().push(Asked { version: head.version, authority, host, body });
    let answer = Response::builder().status(200);
    match head.uri.path() {
        "/hang" => std::future::pending().await,
        "/reset" => Err("as asked"),
        "/endless" => {
            let more = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; 10_000])));
            Ok(answer.body(StreamBody::new(stream::repeat_with(more)).boxed()).unwrap())
        }
        "/wordy" => Ok(answer.header("x-long", "x".repeat(100_000)).body(Empty::new().boxed()).unwrap()),
        path => {
            match path {
                "/leave" => course.send_replace(Course::Leaves),
                "/mute" => {
                    course.send_replace(Course::IsMute);
                    std::future::pending().await
                }
                _ => Course::Serves,
            };
            Ok(answer.body(Empty::new().boxed()).unwrap())
        }
    }
}

impl Installation {
    /// A subscriber in HTTP/2, and where it is.
    async fn speaking_http_2(change: impl FnOnce(&mut egress::Settings)) -> (Self, String, Came, Authority) {
        let authority = Authority::new();
        let mut settings = egress::Settings { idle_max_per_host: 4, http2: true, ..authority.egress() };
        change(&mut settings);
        let at = installation_of(RelaySettings::default(), &settings).await;
        let (port, came) = speaking_http_2(authority.serves(&authority.signs(HOST, |_| ()), false, &["h2"])).await;
        (at, format!("https://{HOST}:{port}"), came, authority)
    }

    /// What becomes of one try there.
    async fn tries_at(&self, url: String, key: &str) -> Attempted {
        self.leads_to(url).await;
        self.wish_afresh().await;
        self.tries(key).await
    }
}

/// Whoever would rather have HTTP/2 gets it, whoever does not offer it gets HTTP/1.1.
#[tokio::test]
async fn a_server_is_spoken_to_in_the_version_that_it_chooses() {
    let authority = Authority::new();
    let at = installation_of(RelaySettings::default(), &egress::Settings { http2: true, ..authority.egress() }).await;
    let certificate = authority.signs(HOST, |_| ());
    for (name, protocols) in [("only 2", &["h2"][..]), ("rather 2", &["h2", "http/1.1"])] {
        let (port, came) = speaking_http_2(authority.serves(&certificate, false, protocols)).await;
        assert_eq!(at.tries_at(format!("https://{HOST}:{port}/hooks?a=b"), name).await, acknowledged(), "{name}");
        let [asked] = came.requests.lock().unwrap().clone().try_into().unwrap();
        let at_host = format!("{HOST}:{port}");
        assert_eq!((asked.version, &asked.authority, &asked.host), (Version::HTTP_2, &at_host, &at_host), "{name}");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&asked.body).unwrap()["data"]["transaction_id"], name);
    }
    for (name, protocols) in [("only 1.1", &["http/1.1"][..]), ("nothing", &[])] {
        let (port, _) = answering(Some(authority.serves(&certificate, false, protocols)), THANKS).await;
        assert_eq!(at.tries_at(format!("https://{HOST}:{port}/"), name).await, acknowledged(), "{name}");
    }
}

/// Unless it is wanted, nobody is spoken to so.
#[tokio::test]
async fn http_2_is_off_by_default() {
    let authority = Authority::new();
    let at = installation_of(RelaySettings::default(), &authority.egress()).await;
    let certificate = authority.signs(HOST, |_| ());
    for (name, protocols, expected) in [("both", &["h2", "http/1.1"][..], acknowledged()), ("only 2", &["h2"], unreachable("tls"))] {
        let (port, _) = answering(Some(authority.serves(&certificate, false, protocols)), THANKS).await;
        assert_eq!(at.tries_at(format!("https://{HOST}:{port}/"), name).await, expected, "{name}");
    }
}

#[tokio::test]
async fn all_deliveries_share_one_connection() {
    let (at, url, came, _authority) = Installation::speaking_http_2(|_| ()).await;
    assert_eq!(at.tries_at(format!("{url}/"), "first").await, acknowledged());
    for number in 0..40 {
        at.open(&number.to_string()).await;
    }
    assert_eq!(at.crank().await, 40);
    assert_eq!((*came.connections.lock().unwrap(), came.requests.lock().unwrap().len()), (1, 41));
}

/// One answer that never comes, breaks off, or never ends concerns no other, and neither does a connection that its server ends.
#[tokio::test]
async fn what_goes_wrong_with_one_delivery_concerns_no_other() {
    let (at, url, came, _authority) = Installation::speaking_http_2(|settings| settings.timeout_ms = 700).await;
    for (path, expected, connections) in [
        ("/", acknowledged(), 1),
        // Whoever does not answer in time may never answer again, whatever else its connection says.
        ("/hang", unreachable("timeout"), 1),
        ("/", acknowledged(), 2),
        // Cut where the limit of the body is.
        ("/endless", acknowledged(), 2),
        ("/", acknowledged(), 2),
        ("/leave", acknowledged(), 2),
    ] {
        let key = came.requests.lock().unwrap().len().to_string();
        assert_eq!(at.tries_at(format!("{url}{path}"), &key).await, expected, "{path} after {key}");
        assert_eq!(*came.connections.lock().unwrap(), connections, "{path} after {key}");
    }
    // Until its last word has arrived, the server takes what comes.
    let mut later = 0;
    while *came.connections.lock().unwrap() == 2 {
        later += 1;
        assert_eq!(at.tries_at(format!("{url}/"), &format!("later {later}")).await, acknowledged());
    }
    for path in ["/reset", "/wordy"] {
        let before = came.requests.lock().unwrap().len();
        assert_eq!(at.tries_at(format!("{url}{path}"), path).await, unreachable("closed"));
        assert_eq!(came.requests.lock().unwrap().len(), before + 1, "{path} is not sent once more");
        assert_eq!(at.tries_at(format!("{url}/"), &format!("after {path}")).await, acknowledged());
    }
}

/// A server that has gone without a word is found out by a ping, long before the system notices; whoever comes next gets another connection.
#[tokio::test]
async fn a_connection_that_is_dead_takes_no_delivery_after_the_first() {
    let (at, url, came, _authority) =
        Installation::speaking_http_2(|settings| (settings.timeout_ms, settings.connect_timeout_ms) = (20_000, 300)).await;
    assert_eq!(at.tries_at(format!("{url}/mute"), "first").await, unreachable("timeout"));
    assert_eq!(at.tries_at(format!("{url}/"), "second").await, acknowledged());
    assert_eq!(*came.connections.lock().unwrap(), 2);
}
