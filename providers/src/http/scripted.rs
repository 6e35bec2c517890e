//! A server for tests that does on a real socket exactly what it is told, which no well-behaved server library would.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// `POST /v1/payouts`, with query.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What to do with a request.
pub(crate) enum Reply {
    /// Answers and keeps the connection.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Writes these bytes and closes.
    Raw(Vec<u8>),
    /// Writes these bytes, and nothing more.
    Stall(Vec<u8>),
    /// Closes without a byte.
    Drop,
    /// Answers nothing and keeps the connection.
    Hang,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Answer(status, vec![("content-type", "application/json".to_owned())], body.to_string().into_bytes())
    }

    pub(crate) const fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }
}

/// An address that refuses connections, for as long as the socket is kept: bound, so that nobody else gets it, and not listening.
pub(crate) fn refusing() -> (String, tokio::net::TcpSocket) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    (format!("http://{}", socket.local_addr().expect("an address")), socket)
}

pub(crate) struct Scripted {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    /// `script` sees every request in order of arrival.
    pub(crate) async fn start(script: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (script, received) = (Arc::new(Mutex::new(script)), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&received);
        let task = tokio::spawn(async move {
            // Connections live in the set, so that dropping the server ends them.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                connections.spawn(serve(stream, script, seen));
            }
        });
        Self { url, received, task }
    }

    /// What has arrived so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic").clone()
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        self.received().iter().filter(|received| received.line == line).count()
    }
}

async fn serve<S: FnMut(&Received) -> Reply>(mut stream: TcpStream, script: Arc<Mutex<S>>, seen: Arc<Mutex<Vec<Received>>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await {
        seen.lock().expect("no panic").push(request.clone());
        let reply = (script.lock().expect("no panic"))(&request);
        let bytes = match reply {
            Reply::Answer(status, headers, body) => {
                let mut bytes = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len()).into_bytes();
                for (name, value) in headers {
                    bytes.extend(format!("{name}: {value}\r\n").into_bytes());
                }
                bytes.extend(b"\r\n");
                bytes.extend(body);
                bytes
            }
            Reply::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Stall(bytes) => {
                let _ = stream.write_all(&bytes).await;
                std::future::pending().await
            }
            Reply::Drop => return,
            Reply::Hang => std::future::pending().await,
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// The next complete request; what came after it stays in the buffer.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    loop {
        if let Some((request, used)) = parse(buffer) {
            buffer.drain(..used);
            return Some(request);
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
        }
    }
}

fn parse(buffer: &[u8]) -> Option<(Received, usize)> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..end]).expect("text");
    let mut lines = head.lines();
    let line = lines.next().expect("a request line").trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(HeaderName::try_from(name).expect("a name"), HeaderValue::from_str(value).expect("a value"));
    }
    let length = headers.get("content-length").map_or(0, |value| value.to_str().expect("text").parse::<usize>().expect("a number"));
    let body = buffer.get(end..end + length)?;
    Some((Received { line, headers, body: Bytes::copy_from_slice(body) }, end + length))
}
