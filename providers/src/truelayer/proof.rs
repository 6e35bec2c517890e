//! What makes a webhook of TrueLayer believable.
//!
//! Two generations are in use (H): `Tl-Signature` (ES512 over the whole request) and the older `X-TL-Signature` (RS512 over the body). Which are sent
//! together is not documented. A notice is accepted if at least one generation that we accept is there and verifies, **and none that is there fails**.
//! The keys come from the address in the signature, `jku`, which must be exactly one of a list of ours.

use std::time::Duration;

use bytes::Bytes;
use domain::id::Mode;
use http::{HeaderMap, HeaderName, Method};

use super::jwks::{Keys, Missing};
use super::{BODY_SIGNATURE, REQUEST_SIGNATURE, SetupError};
use crate::http::Limits;
use crate::jws::{Algorithm, Detached, Request, Unverified};
use crate::reading::sanitised;

/// Why a request is not a notice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    #[error("no signature of an accepted generation")]
    NoSignature,
    /// The request is forged, damaged, or was changed on the way. Answer 401.
    #[error("the signature was not accepted")]
    Unverified(#[from] Unverified),
    /// The address of the key is missing or not on the list. Answer 401.
    #[error("the signature names a source of keys that is not allowed")]
    KeySource,
    /// Not the sender's fault: answer 503, and it will be sent again.
    #[error("the provider's keys are not available")]
    KeysUnavailable,
    /// Verified, but not what the provider documents. Answer 400, and look into it.
    #[error("the notice cannot be read: {0}")]
    Unreadable(&'static str),
}

/// Where keys come from.
pub(crate) struct KeySource<'a> {
    /// The only addresses from which keys are taken, compared exactly.
    pub(crate) jku: &'a [String],
    pub(crate) limits: Limits,
    /// The shortest time between two fetches that an unknown key id can cause.
    pub(crate) refetch: Duration,
}

/// Verifies webhooks, with a cache of the provider's keys.
pub(crate) struct Proof {
    keys: Keys,
    accept_legacy: bool,
}

impl Proof {
    pub(crate) fn new(source: &KeySource<'_>, mode: Mode, accept_legacy: bool) -> Result<Self, SetupError> {
        if source.jku.is_empty() {
            return Err(SetupError::Empty);
        }
        let keys = Keys::new(source.jku, mode == Mode::Live, source.limits, source.refetch).map_err(SetupError::Jku)?;
        Ok(Self { keys, accept_legacy })
    }

    /// The headers of which a webhook needs one.
    pub(crate) fn headers(&self) -> Vec<HeaderName> {
        if self.accept_legacy { vec![REQUEST_SIGNATURE, BODY_SIGNATURE] } else { vec![REQUEST_SIGNATURE] }
    }

    /// Verifies a request over its raw bytes. `path` is the path that the provider called, without query.
    ///
    /// Takes at most a few seconds, when keys have to be fetched.
    pub(crate) async fn verify(&self, method: &Method, path: &str, headers: &HeaderMap, body: &Bytes) -> Result<(), NoticeError> {
        let request_signature = single(headers, &REQUEST_SIGNATURE)?;
        let body_signature = if self.accept_legacy { single(headers, &BODY_SIGNATURE)? } else { None };
        if request_signature.is_none() && body_signature.is_none() {
            return Err(NoticeError::NoSignature);
        }
        for (value, algorithm) in [(request_signature, Algorithm::Es512), (body_signature, Algorithm::Rs512)] {
            let Some(value) = value else { continue };
            let detached = Detached::parse(&value)?;
            let jku = detached.jku().ok_or(NoticeError::KeySource)?;
            let key = self.keys.find(jku, detached.kid()).await.map_err(|missing| match missing {
                Missing::Source => NoticeError::KeySource,
                Missing::Key => Unverified::UnknownKey { kid: sanitised(detached.kid()) }.into(),
                Missing::Unavailable => NoticeError::KeysUnavailable,
            })?;
            drop(detached);
            let (method, path, headers, body) = (method.clone(), path.to_owned(), headers.clone(), body.clone());
            // A few hundred microseconds of arithmetic: not on the threads that serve everybody.
            let verified = tokio::task::spawn_blocking(move || {
                let detached = Detached::parse(&value)?;
                match algorithm {
                    Algorithm::Es512 => {
                        let request = Request { method: &method, path: &path, headers: &headers, body: &body };
                        detached.verify_request(&key, &request, &[])
                    }
                    Algorithm::Rs512 => detached.verify_body(&key, algorithm, &body),
                }
            });
            verified.await.map_err(|_| NoticeError::KeysUnavailable)??;
        }
        Ok(())
    }
}

/// The only value of a header, if it is there.
fn single(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Unverified> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|value| Some(value.to_owned())).map_err(|_| Unverified::Malformed("not text")),
        (Some(_), Some(_)) => Err(Unverified::RepeatedHeader(name.to_string())),
    }
}
