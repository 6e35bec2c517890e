//! Double quotes in the first line of a connection, as seed 003's `curl` sends them: `?from="2019-10-01T17:00:00Z"`. No URL holds them so, and hyper refuses the
//! request before anybody else sees it; here they are read as `%22`.
//!
//! Only up to the first line break of a connection, which always is within a request's own line: where later requests begin, only hyper knows.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Read at one time as long as the first line lasts.
const CHUNK: usize = 1_024;

/// What comes by a connection, with no quotes in its first line.
pub(super) struct Unquoted<S> {
    stream: S,
    /// Read, and not handed on yet.
    pending: Vec<u8>,
    within_first_line: bool,
}

impl<S> Unquoted<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, pending: Vec::new(), within_first_line: true }
    }

    fn take_in(&mut self, read: &[u8]) {
        let line = read.iter().position(|byte| *byte == b'\n').unwrap_or(read.len());
        let (line, rest) = read.split_at(line);
        for byte in line {
            match byte {
                b'"' => self.pending.extend_from_slice(b"%22"),
                byte => self.pending.push(*byte),
            }
        }
        self.pending.extend_from_slice(rest);
        self.within_first_line = rest.is_empty();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unquoted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.pending.is_empty() {
            if !self.within_first_line {
                return Pin::new(&mut self.stream).poll_read(cx, buffer);
            }
            let mut chunk = [0; CHUNK];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            self.take_in(read.filled());
        }
        let count = self.pending.len().min(buffer.remaining());
        buffer.put_slice(&self.pending[..count]);
        self.pending.drain(..count);
        if self.pending.is_empty() {
            // Connections are many, and stay.
            self.pending = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Whatever comes together: the first line loses its quotes, and nothing else changes.
    #[tokio::test]
    async fn the_first_line_alone_loses_its_quotes() {
        let rest = "\r\nx: \"y\"\r\n\r\n{\"a\":\"b\"}\nGET /\"c\" HTTP/1.1\r\n".repeat(40);
        let sent = format!("GET /a?b=\"c\"&d=\"{}\" HTTP/1.1{rest}", "e".repeat(2_000));
        let expected = format!("GET /a?b=%22c%22&d=%22{}%22 HTTP/1.1{rest}", "e".repeat(2_000));
        for (size, room) in [(1, 1), (7, 5), (1_000, 3), (1_024, 4_096), (100_000, 100_000)] {
            let (mut there, here) = tokio::io::duplex(200_000);
            let sent = sent.clone();
            let sending = async move {
                for part in sent.as_bytes().chunks(size) {
                    there.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let reading = async {
                let (mut unquoted, mut read, mut part) = (Unquoted::new(here), Vec::new(), vec![0; room]);
                loop {
                    match unquoted.read(&mut part).await.unwrap() {
                        0 => return read,
                        count => read.extend_from_slice(&part[..count]),
                    }
                }
            };
            let ((), read) = tokio::join!(sending, reading);
            assert_eq!(String::from_utf8(read).unwrap(), expected, "{size} at a time, read by {room}");
        }
    }
}
