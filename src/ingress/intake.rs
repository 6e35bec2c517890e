//! Taking a request in: raw bytes first, signature next. Parsing comes after, in the routes.
//!
//! **Who must sign what.** The duty to sign belongs to the API key and covers every request that moves money or changes a
//! destination. `X-TL-Signature` covers the body, which is enough where the body says everything, as with a new payout. Where the path says which payout
//! or party is meant, only `Tl-Signature` will do: it covers method and path too, so it cannot be taken to another one. A signature that is there is
//! checked even where none is needed, unless the key has no public key to check it with.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::Method;
use axum::http::header::{CONTENT_LENGTH, HeaderName};
use axum::http::request::Parts;
use domain::credential::Scope;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use providers::jws::{self, Algorithm, Unverified};
use providers::truelayer::{BODY_SIGNATURE, REQUEST_SIGNATURE};

use super::Ingress;
use super::caller::{Caller, Credential};
use super::hal::refuse_testmode;
use super::problem::{Errors, Kind, Problem};
use super::query::Parameters;

/// What a signature has to prove, for keys that must sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Nothing: the request moves no money and changes no destination.
    None,
    /// The body says everything: either generation will do.
    Body,
    /// The path says what is meant: it must be signed too.
    Request,
    /// As `Request`, and the key of the request is in a header, which must be signed with it: under another key it would be another payout.
    Keyed,
}

/// The header with the key of a request, where no field of its body is that.
pub(super) const KEY: &str = "Idempotency-Key";

/// So much of a body that is too large is still read, so that the caller gets to read the answer instead of a reset connection.
const DISCARDED_MAX: usize = 1024 * 1024;

impl Ingress {
    /// Authenticates, reads the body and verifies the signature, in this order.
    ///
    /// # Errors
    /// The first of these that fails, as a 4xx; 503 while the store does not answer.
    pub(super) async fn receive(self: &Arc<Self>, request: Request, scope: Scope, duty: Duty) -> Result<(Caller, Parts, Bytes), Problem> {
        let (parts, body) = request.into_parts();
        let caller = self.admit(&parts.headers, scope).await?;
        let body = self.take_in(&caller, &parts, body, self.settings.body_max_bytes, duty).await?;
        Ok((caller, parts, body))
    }

    /// Reads the body of an authenticated request and verifies the signature.
    ///
    /// # Errors
    /// The first of these that fails, as a 4xx.
    pub(super) async fn take_in(self: &Arc<Self>, caller: &Caller, parts: &Parts, body: Body, max: usize, duty: Duty) -> Result<Bytes, Problem> {
        let body = self.read_body(parts, body, max).await?;
        self.check_signature(caller.credential(), parts, &body, duty).await?;
        // What is not looked at must not be taken as said: a body says whose the request is.
        if !body.is_empty() && parts.method != Method::DELETE {
            let (mut parameters, mut errors) = (Parameters::read(parts.uri.query()), Errors::default());
            refuse_testmode(&mut parameters, &mut errors);
            parameters.finish(errors)?;
        }
        Ok(body)
    }

    /// Reads a body, within its limits of size and time.
    ///
    /// # Errors
    /// 413, 408, or 400 when it ends before its end.
    pub(crate) async fn read_body(&self, parts: &Parts, body: Body, max: usize) -> Result<Bytes, Problem> {
        let too_large = || Problem::new(Kind::BodyTooLarge, format!("The body may have {max} bytes."));
        let within = Duration::from_millis(self.settings.body_timeout_ms);
        let announced = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > max) {
            let _ = tokio::time::timeout(within, discard(body)).await;
            return Err(too_large());
        }
        match tokio::time::timeout(within, Limited::new(body, max).collect()).await {
            Err(_) => Err(Problem::new(Kind::BodyTimeout, format!("It must arrive within {} ms.", self.settings.body_timeout_ms))),
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(Problem::new(Kind::BodyBroken, "The connection ended before the body did.")),
        }
    }

    async fn check_signature(self: &Arc<Self>, credential: &Arc<Credential>, parts: &Parts, body: &Bytes, duty: Duty) -> Result<(), Problem> {
        let invalid = |detail: String| Problem::new(Kind::SignatureInvalid, detail);
        let body_signature = single(parts, &BODY_SIGNATURE).map_err(invalid)?;
        let request_signature = single(parts, &REQUEST_SIGNATURE).map_err(invalid)?;
        if credential.key.must_sign {
            match duty {
                Duty::Body if body_signature.is_none() && request_signature.is_none() => {
                    return Err(Problem::new(Kind::SignatureMissing, "Sign the body as `X-TL-Signature`, or the whole request as `Tl-Signature`."));
                }
                Duty::Request if request_signature.is_none() => {
                    return Err(Problem::new(Kind::SignatureMissing, "Sign the whole request as `Tl-Signature`: the path says what is meant."));
                }
                Duty::Keyed if request_signature.is_none() => {
                    return Err(Problem::new(Kind::SignatureMissing, format!("Sign the whole request as `Tl-Signature`, with the header `{KEY}`.")));
                }
                Duty::None | Duty::Body | Duty::Request | Duty::Keyed => {}
            }
        } else if credential.verifying.is_empty() {
            return Ok(());
        }
        if body_signature.is_none() && request_signature.is_none() {
            return Ok(());
        }
        // Verifying takes about 0.4 ms of a core. With 32 callers on two busy cores, a timer of 1 ms beside them ran for 20 to 50 ms at p99 when they
        // verified on the async threads, 13 to 27 ms on a blocking thread each, and 3 to 4 ms on no more blocking threads than there are cores.
        let _turn = self.verifying.acquire().await.map_err(|_| Problem::new(Kind::Internal, "The service is going down."))?;
        let (credential, parts, body) = (Arc::clone(credential), parts.clone(), body.clone());
        let required: &[&str] = if credential.key.must_sign && duty == Duty::Keyed { &[KEY] } else { &[] };
        let verified = tokio::task::spawn_blocking(move || {
            let key = |kid: &str| credential.verifying.get(kid).map(Arc::clone);
            if let Some(value) = request_signature {
                let request = jws::Request { method: &parts.method, path: parts.uri.path(), headers: &parts.headers, body: &body };
                jws::verify_request(key, &value, &request, required)?;
            }
            if let Some(value) = body_signature {
                jws::verify_body(key, Algorithm::Es512, &value, &body)?;
            }
            Ok::<(), Unverified>(())
        });
        let verified = verified.await.map_err(|_| Problem::new(Kind::Internal, "The signature could not be checked."))?;
        verified.map_err(|error| invalid(why(&error)))
    }
}

/// What to tell a caller. Of what the signature says of itself, only the names of headers are repeated.
fn why(error: &Unverified) -> String {
    match error {
        Unverified::UnknownKey { .. } => "The `kid` is not that of a public key that is registered for this API key.".to_owned(),
        Unverified::Mismatch => "It does not match. It must be made over the exact bytes that are sent.".to_owned(),
        Unverified::Malformed(_)
        | Unverified::WrongAlgorithm
        | Unverified::WrongVersion
        | Unverified::MissingHeader(_)
        | Unverified::RepeatedHeader(_)
        | Unverified::UnsignedHeader(_) => format!("{error}."),
    }
}

/// The only value of a header, if it is there.
fn single(parts: &Parts, name: &HeaderName) -> Result<Option<String>, String> {
    let mut values = parts.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|value| Some(value.to_owned())).map_err(|_| format!("`{name}` is not text.")),
        (Some(_), Some(_)) => Err(format!("`{name}` is there more than once.")),
    }
}

async fn discard(body: Body) {
    let mut chunks = body.into_data_stream();
    let mut read = 0_usize;
    while let Some(Ok(chunk)) = chunks.next().await {
        read = read.saturating_add(chunk.len());
        if read > DISCARDED_MAX {
            return;
        }
    }
}
