//! The load: prepared requests for payouts on kept connections, one request at a time on each.
//!
//! The generator shares the machine with what it measures, so it does as little as it can: requests are bytes, and of an answer it looks at the
//! status and finds the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use domain::fact::Provider;
use futures_util::future::try_join_all;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::caller::Caller;
use crate::local::order;

/// Connections, and so requests under way.
pub(super) const CONNECTIONS: usize = 32;
/// The size of a request's body.
pub(super) const BODY: usize = 1_024;

/// The longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_MAX: usize = 64 * 1_024;

/// Requests for payouts that differ in their `transaction_id` only.
#[derive(Clone)]
pub(super) struct Orders {
    host: SocketAddr,
    token: String,
    /// What comes before the `transaction_id` of a body, and after it.
    body: (Arc<str>, Arc<str>),
    party: &'static str,
    /// Who signs, if anybody does.
    signing: Option<Caller>,
}

/// Requests that were answered, and the time from the first one to the last answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) count: usize,
    pub(super) took: Duration,
}

/// A connection to the server.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Answered {
    pub(super) fn per_s(self) -> f64 {
        per_s(self.count, self.took)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
pub(super) fn per_s(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

// === impl Orders ===

impl Orders {
    pub(super) fn new(host: SocketAddr, token: &SecretString, party: &'static str) -> Self {
        Self { host, token: token.expose_secret().to_owned(), body: body(party, None), party, signing: None }
    }

    /// By that provider, wherever else it could go.
    pub(super) fn paid_by(mut self, provider: Provider) -> Self {
        let body = order(provider, Uuid::nil(), 12_345).to_string();
        if let Some((before, after)) = body.strip_suffix('}').and_then(|body| body.split_once(&Uuid::nil().to_string())) {
            self.body = padded(before, &format!(r#"{after},"party_id":"{}","metadata":{{"#, self.party));
        }
        self
    }

    /// For later, so that no provider is called.
    pub(super) fn scheduled(mut self, at: &str) -> Self {
        self.body = body(self.party, Some(at));
        self
    }

    /// By another caller, who signs.
    pub(super) fn signed(mut self, caller: &Caller) -> Self {
        self.token = caller.token().expose_secret().to_owned();
        self.signing = Some(caller.clone());
        self
    }

    pub(super) fn host(&self) -> SocketAddr {
        self.host
    }

    /// The bytes of a request.
    pub(super) fn request(&self, id: Uuid) -> anyhow::Result<Vec<u8>> {
        let Self { host, token, body: (before, after), .. } = self;
        let signature = match self.signing.as_ref().and_then(Caller::signing_key) {
            Some(key) => {
                let body = format!("{before}{id}{after}");
                format!("x-tl-signature: {}\r\n", key.sign_body(body.as_bytes(), None).context("signing a request")?)
            }
            None => String::new(),
        };
        Ok(format!(
            "POST /v1/payouts HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{signature}\
             content-length: {BODY}\r\n\r\n{before}{id}{after}"
        )
        .into_bytes())
    }
}

/// A body of [`BODY`] bytes, less the `transaction_id`.
fn body(party: &str, scheduled_for: Option<&str>) -> (Arc<str>, Arc<str>) {
    let before = r#"{"transaction_id":""#;
    let scheduled = scheduled_for.map(|at| format!(r#","scheduled_for":"{at}""#)).unwrap_or_default();
    let after = format!(
        r#"","beneficiary_name":"John Smith","beneficiary_iban":"GB33BUKB20201555555555","beneficiary_reference":"Withdrawal 204","currency":"GBP","amount_in_minor":12345,"context_code":"withdrawal","party_id":"{party}"{scheduled},"metadata":{{"#
    );
    padded(before, &after)
}

/// The rest of a body, which ends within an object, made as long as it is to be. Two values, as the longest one has 500 characters.
fn padded(before: &str, after: &str) -> (Arc<str>, Arc<str>) {
    let room = BODY.saturating_sub(before.len() + Uuid::nil().hyphenated().to_string().len() + after.len() + r#""a":"","b":""}}"#.len());
    let (first, second) = (room / 2, room - room / 2);
    (before.into(), format!(r#"{after}"a":"{:x<first$}","b":"{:x<second$}"}}}}"#, "", "").into())
}

// === impl Connection ===

impl Connection {
    pub(super) async fn open(host: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(host).await.with_context(|| format!("connecting to {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4_096) })
    }

    /// Sends a request and gives the status of its answer.
    pub(super) async fn call(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        let calling = async {
            self.stream.write_all(request).await.context("sending a request")?;
            self.buffer.clear();
            loop {
                ensure!(self.stream.read_buf(&mut self.buffer).await.context("reading an answer")? > 0, "the server ended the connection");
                if let Some(status) = complete(&self.buffer)? {
                    return Ok(status);
                }
            }
        };
        tokio::time::timeout(TIMEOUT, calling).await.context("the server does not answer")?
    }

    /// The same, and it must accept.
    pub(super) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        match self.call(request).await? {
            202 => Ok(()),
            status => bail!("a payout was answered {status}: {}", String::from_utf8_lossy(&self.buffer)),
        }
    }
}

/// The status of an answer, once all of it is there.
fn complete(answer: &[u8]) -> anyhow::Result<Option<u16>> {
    ensure!(answer.len() <= ANSWER_MAX, "an answer is too large");
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end])?;
    let status = head.get(9..12).and_then(|text| text.parse().ok()).context("an answer without a status")?;
    let length = head.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.context("an answer without a length")?.1.trim().parse()?;
    Ok((answer.len() >= end + 4 + length).then_some(status))
}

/// Sends what `next` gives, on all connections, until it gives nothing. Every request must be accepted.
async fn send_all(host: SocketAddr, next: impl Fn() -> anyhow::Result<Option<Vec<u8>>> + Clone + Send + 'static) -> anyhow::Result<Answered> {
    let connections = try_join_all((0..CONNECTIONS).map(|_| Connection::open(host))).await?;
    let began = Instant::now();
    let sending = connections.into_iter().map(|mut connection| {
        let next = next.clone();
        tokio::spawn(async move {
            let mut count = 0;
            while let Some(request) = next()? {
                connection.ask(&request).await?;
                count += 1;
            }
            anyhow::Ok(count)
        })
    });
    let ended = try_join_all(sending).await.context("sending requests")?;
    Ok(Answered { took: began.elapsed(), count: ended.into_iter().sum::<anyhow::Result<usize>>()? })
}

/// Sends requests for a while.
pub(super) async fn for_a_while(orders: Orders, during: Duration) -> anyhow::Result<Answered> {
    let (host, ends) = (orders.host, Instant::now() + during);
    send_all(host, move || if Instant::now() < ends { orders.request(Uuid::new_v4()).map(Some) } else { Ok(None) }).await
}

/// Sends so many requests, which are made beforehand.
pub(super) async fn exactly(orders: Orders, count: usize) -> anyhow::Result<Answered> {
    let (host, cores) = (orders.host, std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let making = (0..cores).map(|core| {
        let orders = orders.clone();
        let share = count / cores + usize::from(core < count % cores);
        tokio::task::spawn_blocking(move || (0..share).map(|_| orders.request(Uuid::new_v4())).collect::<anyhow::Result<Vec<_>>>())
    });
    let made = try_join_all(making).await.context("making requests")?;
    let requests: Vec<Vec<u8>> = made.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    let (requests, turn) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    send_all(host, move || Ok(requests.get(turn.fetch_add(1, Ordering::Relaxed)).cloned())).await
}

/// Sends a request every `pace`, in turn on a few connections, so that a slow answer delays no other request. Says what was sent when, in order.
pub(super) async fn paced(orders: &Orders, pace: Duration, during: Duration) -> anyhow::Result<Vec<(Uuid, Instant)>> {
    const LANES: u32 = 10;
    let began = tokio::time::Instant::now() + pace;
    let lanes = (0..LANES).map(|lane| {
        let orders = orders.clone();
        tokio::spawn(async move {
            let mut connection = Connection::open(orders.host).await?;
            let mut turn = tokio::time::interval_at(began + pace * lane, pace * LANES);
            let mut sent = Vec::new();
            while turn.tick().await < began + during {
                let id = Uuid::new_v4();
                let request = orders.request(id)?;
                sent.push((id, Instant::now()));
                connection.ask(&request).await?;
            }
            anyhow::Ok(sent)
        })
    });
    let ended = try_join_all(lanes).await.context("sending requests")?;
    let mut sent = ended.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    sent.sort_by_key(|(_, at)| *at);
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_their_size_and_are_json() {
        let host = SocketAddr::from(([127, 0, 0, 1], 1));
        let orders = Orders::new(host, &"test_x".to_owned().into(), "quiet");
        let by_each = Provider::ALL.map(|provider| orders.clone().paid_by(provider));
        for orders in by_each.into_iter().chain([orders.clone(), orders.scheduled("2030-01-01T00:00:00Z")]) {
            let request = String::from_utf8(orders.request(Uuid::nil()).unwrap()).unwrap();
            let (_, body) = request.split_once("\r\n\r\n").unwrap();
            assert_eq!(body.len(), BODY);
            serde_json::from_str::<serde_json::Value>(body).unwrap();
        }
    }

    #[test]
    fn an_answer_is_complete_when_all_of_it_is_there() {
        let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
        for end in 0..answer.len() {
            assert_eq!(complete(&answer[..end]).unwrap(), None, "{end}");
        }
        assert_eq!(complete(answer).unwrap(), Some(202));
    }
}
