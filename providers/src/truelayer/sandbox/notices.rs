//! The sandbox's webhooks and their signatures.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;

use super::book::{Moved, Stage};
use crate::clock;
use crate::http::{Call, Client};
use crate::jws::{Algorithm, Jwks, KeyError, SigningKey};
use crate::sandbox::random_uuid;
use crate::truelayer::{BODY_SIGNATURE, REQUEST_SIGNATURE, wire};

/// How long a receiver may take (ASSUMED).
const RECEIVER: Duration = Duration::from_secs(10);

/// Which signatures a notice carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeSignature {
    /// `Tl-Signature` and `X-TL-Signature`.
    #[default]
    Both,
    /// `Tl-Signature` only: ES512 over the request.
    Request,
    /// `X-TL-Signature` only: RS512 over the body.
    Legacy,
}

/// The sandbox's own keys. The RSA key takes a while to make, so it is made when it is needed.
pub(crate) struct Keys {
    request: SigningKey,
    legacy: OnceLock<Result<SigningKey, KeyError>>,
    /// Known to nobody: for forgeries.
    forger: SigningKey,
}

impl Keys {
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let request = SigningKey::generate(random_uuid().to_string(), Algorithm::Es512)?;
        // A forger claims a kid that exists.
        let forger = SigningKey::generate(request.kid(), Algorithm::Es512)?;
        Ok(Self { request, legacy: OnceLock::new(), forger })
    }

    fn legacy(&self) -> Result<&SigningKey, KeyError> {
        let key = self.legacy.get_or_init(|| SigningKey::generate(random_uuid().to_string(), Algorithm::Rs512));
        key.as_ref().map_err(|error| *error)
    }

    /// The set at `/.well-known/jwks`.
    pub(crate) fn public(&self, signature: NoticeSignature) -> Result<Jwks, KeyError> {
        let mut keys = vec![self.request.verifying_key()?.to_jwk(self.request.kid())];
        if signature != NoticeSignature::Request {
            let legacy = self.legacy()?;
            keys.insert(0, legacy.verifying_key()?.to_jwk(legacy.kid()));
        }
        Ok(Jwks { keys })
    }

    /// A notice as a request to the receiver; a forged one is signed with a key that nobody knows under an id that exists.
    pub(crate) fn signed(&self, signature: NoticeSignature, client: &Client, jku: &str, body: &Bytes, forged: bool) -> Result<Call, KeyError> {
        let value = |text: String| HeaderValue::try_from(text).map_err(|_| KeyError::Failed);
        let timestamp = format!("{:.0}", clock::now());
        let timestamp_name = "X-TL-Webhook-Timestamp";
        let mut call = Call::new(Method::POST, "", RECEIVER)
            .header(HeaderName::from_static("x-tl-webhook-timestamp"), value(timestamp.clone())?)
            .body("application/json", body.clone());
        if forged {
            let headers = [(timestamp_name, timestamp.as_str())];
            let proof = self.forger.sign_request(&Method::POST, &client.path(""), &headers, body, Some(jku))?;
            return Ok(call.header(REQUEST_SIGNATURE, value(proof)?));
        }
        if signature != NoticeSignature::Legacy {
            let headers = [(timestamp_name, timestamp.as_str()), ("Content-Type", "application/json")];
            let proof = self.request.sign_request(&Method::POST, &client.path(""), &headers, body, Some(jku))?;
            call = call.header(REQUEST_SIGNATURE, value(proof)?);
        }
        if signature != NoticeSignature::Request {
            call = call.header(BODY_SIGNATURE, value(self.legacy()?.sign_body(body, Some(jku))?)?);
        }
        Ok(call)
    }
}

/// The notice about a move. A forged one says that the payout failed.
pub(super) fn event(moved: &Moved, forged: bool) -> wire::Event {
    let (stage, reason) = if forged { (Stage::Failed, Some("scheme_error")) } else { (moved.stage, moved.reason) };
    let mut body = wire::EventBody { transaction_id: moved.transaction_id, reason: reason.map(str::to_owned), ..wire::EventBody::default() };
    let at = Some(moved.at);
    match stage {
        Stage::Authorised => body.authorised_at = at,
        Stage::Submitted => body.submitted_at = at,
        Stage::Settled => body.settled_at = at,
        Stage::Rejected => body.rejected_at = at,
        Stage::Failed => body.failed_at = at,
        Stage::Returned => body.returned_at = at,
    }
    wire::Event {
        event_type: format!("payout_{}", stage.word()),
        event_id: if forged { random_uuid().to_string() } else { moved.event_id.clone() },
        event_schema_version: 1,
        event_body: serde_json::to_value(body).unwrap_or_default(),
    }
}
