//! `payrelay healthcheck`: one GET, for container images that have no curl.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::{Position, Url};

/// Shorter than what container engines allow by default.
const WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to ask, such as <http://127.0.0.1:9090/livez>.
    url: Url,
}

/// Exit code 0 for a 2xx in time.
///
/// # Errors
/// Everything else.
pub async fn run(Arguments { url }: Arguments) -> anyhow::Result<ExitCode> {
    let status = tokio::time::timeout(WITHIN, status(&url)).await.with_context(|| format!("no answer within {} s", WITHIN.as_secs()))??;
    if !(200..300).contains(&status) {
        bail!("the answer is {status}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The status of the answer to a GET. Plain HTTP/1.1 by hand: a client would be larger than what it is used for.
async fn status(url: &Url) -> anyhow::Result<u16> {
    let (Some(host), Some(port), "http") = (url.host_str(), url.port_or_known_default(), url.scheme()) else {
        bail!("the URL must be http://HOST:PORT/PATH");
    };
    let mut stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.with_context(|| format!("connecting to {host}:{port}"))?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        &url[Position::BeforePath..Position::AfterQuery],
        &url[Position::BeforeHost..Position::AfterPort]
    );
    stream.write_all(request.as_bytes()).await.context("asking")?;
    // `HTTP/1.1 200`
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.context("reading the answer")?;
    std::str::from_utf8(&head)
        .ok()
        .and_then(|head| head.strip_prefix("HTTP/1."))
        .and_then(|rest| rest.get(2..)?.parse().ok())
        .context("the answer is not HTTP")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn asked(answer: &'static str) -> anyhow::Result<ExitCode> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/readyz?x=1", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let result = run(Arguments { url }).await;
        assert!(server.await.unwrap().starts_with("GET /readyz?x=1 HTTP/1.1\r\nhost: 127.0.0.1:"));
        result
    }

    #[tokio::test]
    async fn only_a_2xx_is_healthy() {
        assert!(asked("HTTP/1.1 200 OK\r\n\r\n").await.is_ok());
        assert_eq!(asked("HTTP/1.1 503 Service Unavailable\r\n\r\n").await.unwrap_err().to_string(), "the answer is 503");
        assert!(asked("SSH-2.0-OpenSSH_9.2").await.is_err());
        assert!(asked("").await.is_err());
    }

    #[tokio::test]
    async fn nothing_but_plain_http_is_asked() {
        for url in ["https://127.0.0.1:1/", "unix:/run/x"] {
            assert!(run(Arguments { url: url.parse().unwrap() }).await.is_err(), "{url}");
        }
    }
}
