//! A platform's end of the API: signs and sends requests. Used by the demo, the measurements and the chaos run.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use providers::jws::SigningKey;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use std::sync::Arc;

/// The longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Calls the API of one installation with one key.
#[derive(Clone)]
pub struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Scheme, host and port.
    base: String,
    token: SecretString,
    signing: Option<Arc<SigningKey>>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub replayed: bool,
    pub body: Value,
}

impl Caller {
    #[must_use]
    pub fn new(base: impl Into<String>, token: SecretString, signing: Option<Arc<SigningKey>>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(256).build(connector);
        Self { client, base: base.into(), token, signing }
    }

    /// The same caller without a signing key.
    #[must_use]
    pub fn unsigned(&self, token: SecretString) -> Self {
        Self { token, signing: None, ..self.clone() }
    }

    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    #[must_use]
    pub fn token(&self) -> &SecretString {
        &self.token
    }

    /// What this caller signs with, if it signs.
    #[must_use]
    pub fn signing_key(&self) -> Option<&SigningKey> {
        self.signing.as_deref()
    }

    /// Sends a request, signed with `X-TL-Signature` where this caller signs and there is a body.
    ///
    /// # Errors
    /// No answer, or one that cannot be read.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        self.send(method, path, body).await
    }

    /// As [`Caller::call`], with the bytes of a body.
    ///
    /// # Errors
    /// No answer, or one that cannot be read.
    pub async fn send(&self, method: Method, path: &str, body: Option<Bytes>) -> anyhow::Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose_secret()));
        if let Some(body) = &body {
            request = request.header(header::CONTENT_TYPE, "application/json");
            if let Some(key) = &self.signing {
                request = request.header("x-tl-signature", key.sign_body(body, None).context("signing a request")?);
            }
        }
        let request = request.body(Full::new(body.unwrap_or_default()))?;
        let answering = async {
            let response = self.client.request(request).await.context("calling payrelay")?;
            let (head, body) = response.into_parts();
            let read = Limited::new(body, ANSWER_MAX).collect().await;
            let body = read.map_err(|error| anyhow::anyhow!("reading an answer: {error}"))?.to_bytes();
            let replayed = head.headers.get("idempotency-replayed").is_some();
            Ok(Answer { status: head.status, replayed, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
        };
        tokio::time::timeout(TIMEOUT, answering).await.context("payrelay does not answer")?
    }

    /// As [`Caller::call`], and the answer must be a success.
    ///
    /// # Errors
    /// No answer, or a status that is not 2xx.
    pub async fn expect(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let answer = self.call(method, path, body).await?;
        if !answer.status.is_success() {
            bail!("{path} answered {}: {}", answer.status, answer.body);
        }
        Ok(answer.body)
    }
}
