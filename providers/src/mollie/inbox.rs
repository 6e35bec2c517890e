//! Mollie's webhooks: proof first, content second.
//!
//! The proof is an HMAC-SHA256 over the raw body with the secret of the subscription, in hex, with or without `sha256=` in front; the header may occur several
//! times and there may be several secrets while one replaces another, and **one pair that matches is enough** (H). There is no timestamp in it, so a copy of an
//! old notice verifies for ever: the event's id tells it apart, and an old status changes nothing about a payout that went on.
//!
//! A notice comes in three forms. A snapshot holds the payout and is evidence, about the key in its description, or about the provider's id where that is
//! of somebody else's making. A simple one names the payout only and is an occasion to look. A bare payout without an envelope is read as a snapshot.

use aws_lc_rs::hmac;
use bytes::Bytes;
use domain::fact::{About, ProviderReference, Told};
use domain::id::Mode;
use http::{HeaderMap, HeaderName, Method};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use super::{Settings, SetupError, wire};
pub use crate::Notice;
use crate::reading::{is_plain_id, sanitised};

/// The header of a webhook's signature (H).
pub const SIGNATURE: HeaderName = HeaderName::from_static("x-mollie-signature");

/// Reads and verifies webhooks. One per account; cheap to share.
pub struct Inbox {
    secrets: Vec<hmac::Key>,
    mode: Mode,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

/// Why a request is not a notice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// Also of the older kind of webhook, which is not signed. Answer 400.
    #[error("no signature")]
    NoSignature,
    /// The request is forged, damaged, or signed with a secret that we do not have. Answer 401.
    #[error("the signature was not accepted")]
    Unverified,
    /// Verified, but not what the provider documents. Answer 400, and look into it.
    #[error("the notice cannot be read: {0}")]
    Unreadable(&'static str),
}

const MAX_ID: usize = 128;
/// Signatures in one request that are looked at.
const MAX_SIGNATURES: usize = 8;

impl Inbox {
    /// With no secrets configured it refuses every notice.
    ///
    /// # Errors
    ///
    /// [`SetupError::Missing`] for a secret that is empty: anybody could sign with it.
    pub fn new(settings: &Settings, mode: Mode) -> Result<Self, SetupError> {
        let secrets = settings.webhook_secrets.iter().map(|secret| secret.expose_secret());
        let key = |secret: &str| {
            if secret.is_empty() { Err(SetupError::Missing("webhook_secrets")) } else { Ok(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())) }
        };
        Ok(Self { secrets: secrets.map(key).collect::<Result<_, _>>()?, mode })
    }

    /// The headers of which a webhook needs one.
    #[must_use]
    pub fn proofs(&self) -> Vec<HeaderName> {
        vec![SIGNATURE]
    }

    /// Verifies a request over its raw bytes, then reads it. Reading the same request again gives the same notice.
    ///
    /// # Errors
    ///
    /// [`NoticeError`] says what to answer.
    #[expect(clippy::unused_async, reason = "the same signature as that of inboxes which fetch keys")]
    pub async fn read(&self, _method: &Method, _path: &str, headers: &HeaderMap, body: &Bytes) -> Result<Notice, NoticeError> {
        let mut signatures = headers.get_all(SIGNATURE).iter().take(MAX_SIGNATURES).peekable();
        if signatures.peek().is_none() {
            return Err(NoticeError::NoSignature);
        }
        let verifies = |signature: &[u8]| self.secrets.iter().any(|secret| hmac::verify(secret, body, signature).is_ok());
        if signatures.filter_map(|value| tag(value.to_str().ok()?)).any(|signature| verifies(&signature)) {
            notice(body, self.mode)
        } else {
            Err(NoticeError::Unverified)
        }
    }
}

/// The value of the header for a body: `sha256=` and lower-case hex (H).
pub(super) fn sign(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    format!("sha256={}", const_hex::encode(tag))
}

fn tag(value: &str) -> Option<Vec<u8>> {
    let value = value.trim();
    let digits = value.strip_prefix("sha256=").unwrap_or(value).as_bytes();
    if digits.len() == 64 { const_hex::decode(digits).ok().filter(|tag| tag.len() == 32) } else { None }
}

/// Reads a body that has been verified.
fn notice(body: &[u8], mode: Mode) -> Result<Notice, NoticeError> {
    let value: serde_json::Value = serde_json::from_slice(body).map_err(|_| NoticeError::Unreadable("not JSON"))?;
    if value.get("resource").and_then(serde_json::Value::as_str) == Some("payout") {
        let payout: wire::Payout = serde_json::from_value(value).map_err(|_| NoticeError::Unreadable("the payout"))?;
        let (told, hint) = (about(&payout, mode)?, None);
        let event_type = format!("payout.{}", sanitised(&payout.status));
        return Ok(Notice { dedupe_id: const_hex::encode(Sha256::digest(body)), event_type, told, hint, deposit: None, signed: true });
    }
    let event: wire::Event = serde_json::from_value(value).map_err(|_| NoticeError::Unreadable("the envelope"))?;
    if event.id.is_empty() || event.id.len() > MAX_ID || event.event_type.is_empty() {
        return Err(NoticeError::Unreadable("id or type"));
    }
    let (told, hint) = match (event.event_type.starts_with("payout."), event.embedded) {
        (true, Some(wire::Embedded { entity })) => {
            let payout: wire::Payout = serde_json::from_value(entity).map_err(|_| NoticeError::Unreadable("the payout"))?;
            if payout.id != event.entity_id {
                return Err(NoticeError::Unreadable("entityId"));
            }
            (about(&payout, mode)?, None)
        }
        (true, None) if is_plain_id(&event.entity_id) => (None, Some(About::Reference(ProviderReference(event.entity_id)))),
        (true, None) => return Err(NoticeError::Unreadable("entityId")),
        (false, _) => (None, None),
    };
    Ok(Notice { dedupe_id: event.id, event_type: sanitised(&event.event_type), told, hint, deposit: None, signed: true })
}

fn about(payout: &wire::Payout, mode: Mode) -> Result<Option<Told>, NoticeError> {
    if payout.mode != mode.as_str() {
        return Err(NoticeError::Unreadable("of the other mode"));
    }
    let report = super::report(payout).ok_or(NoticeError::Unreadable("id or amount"))?;
    let key = payout.description.as_deref().and_then(wire::described_key);
    let about = key.map(About::Key).or_else(|| report.reference.clone().map(About::Reference));
    Ok(about.map(|about| Told { about, report }))
}

#[cfg(test)]
mod tests {
    use domain::fact::{Reason, Status};

    use super::*;

    /// The fixtures are of live mode.
    fn notice(body: &[u8]) -> Result<Notice, NoticeError> {
        super::notice(body, Mode::Live)
    }

    fn fixture(name: &str) -> Vec<u8> {
        let path = format!("{}/fixtures/mollie/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).expect(&path)
    }

    fn inbox(secrets: &[&str]) -> Inbox {
        let settings = serde_json::json!({"api_key": "test_x", "balances": {"EUR": "bal_1"}, "webhook_secrets": secrets});
        Inbox::new(&serde_json::from_value(settings).expect("settings"), Mode::Test).expect("an inbox")
    }

    async fn read(inbox: &Inbox, signatures: &[&str], body: &[u8]) -> Result<Notice, NoticeError> {
        let headers = signatures.iter().map(|value| (SIGNATURE, http::HeaderValue::from_str(value).expect("a value")));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        inbox.read(&Method::POST, "/", &map, &Bytes::copy_from_slice(body)).await
    }

    /// A vector from another implementation, in both spellings, and everything that is nearly it.
    #[tokio::test]
    async fn signatures_verify_or_not() {
        let body = br#"{"id":"tr_12345","event_type":"payment-link.paid"}"#;
        let hex = "3576009ce91769ab297d20a82fcc53acb040674c14882f0546a7922247c8d8c0";
        let whole = format!("sha256={hex}");
        let ours = inbox(&["foobar"]);
        let unreadable = Err(NoticeError::Unreadable("the envelope"));
        let unverified = Err(NoticeError::Unverified);
        assert_eq!(sign("foobar", body), whole);
        assert_eq!(read(&ours, &[&whole], body).await, unreadable, "verified, and then not an event");
        assert_eq!(read(&ours, &[hex], body).await, unreadable);
        assert_eq!(read(&ours, &[], body).await, Err(NoticeError::NoSignature));
        assert_eq!(read(&ours, &[&whole], &[body, &b"\n"[..]].concat()).await, unverified);
        for value in ["", "sha256=", "sha256=zz", "sha1=00", &hex[2..], &format!("{hex}00"), &format!("sha512={hex}"), &hex.replace('3', "4")] {
            assert_eq!(read(&ours, &[value], body).await, unverified, "{value}");
        }
        // Rotation: several headers, several secrets, one match.
        let (old, new) = (sign("old", body), sign("new", body));
        assert_eq!(read(&inbox(&["new"]), &[&old, &new], body).await, unreadable);
        assert_eq!(read(&inbox(&["old", "new"]), &[&old], body).await, unreadable);
        assert_eq!(read(&inbox(&["new"]), &[&old], body).await, unverified);
        assert_eq!(read(&inbox(&[]), &[&whole], body).await, unverified, "no secret, no notice");
        let empty = serde_json::json!({"api_key": "test_x", "balances": {"EUR": "bal_1"}, "webhook_secrets": [""]});
        assert!(Inbox::new(&serde_json::from_value(empty).expect("settings"), Mode::Test).is_err());
        // The older, unsigned kind.
        assert_eq!(read(&ours, &[], b"id=tr_12345").await, Err(NoticeError::NoSignature));
    }

    #[test]
    fn snapshots_are_evidence_and_ids_are_hints() {
        let completed = notice(&fixture("notice-completed")).expect("reads");
        let told = completed.told().expect("evidence");
        assert_eq!(told.about, About::Key("7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20".parse().expect("a key")));
        assert_eq!((&told.report.status, told.report.amount.map(domain::money::Money::minor)), (&Status::Settled, Some(1000)));
        assert_eq!(told.report.at, Some("2026-05-21T14:02:00Z".parse().expect("a timestamp")));
        assert_eq!((completed.dedupe_id(), completed.event_type(), completed.hint()), ("event_GvJ8WHrp5isUdRub9CJyH", "payout.completed", None));
        let returned = notice(&fixture("notice-returned")).expect("reads");
        assert_eq!(returned.told().expect("evidence").report.status, Status::Returned { reason: Reason::new("returned") });

        let simple = notice(&fixture("notice-simple")).expect("reads");
        let reference = About::Reference(ProviderReference("payout_Xa1Mq8".to_owned()));
        assert_eq!((simple.told(), simple.hint(), simple.event_type()), (None, Some(&reference), "payout.canceled"));

        let bare = notice(&fixture("payout-completed")).expect("reads");
        assert_eq!((bare.told(), bare.event_type(), bare.dedupe_id().len()), (Some(told), "payout.completed", 64));
        assert_eq!(notice(&fixture("payout-completed")), Ok(bare.clone()), "the same again");
        assert_ne!(notice(&fixture("payout-returned")).expect("reads").dedupe_id(), bare.dedupe_id());

        // Without our key it is told about the provider's id.
        let theirs = String::from_utf8(fixture("notice-completed")).expect("text").replace("Week 12 7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20", "Weekly");
        let theirs = notice(theirs.as_bytes()).expect("reads");
        assert_eq!((theirs.told().map(|told| (&told.about, &told.report.status)), theirs.hint()), (Some((&reference, &Status::Settled)), None));
    }

    #[test]
    fn surprises() {
        let with = |change: fn(&mut serde_json::Value)| {
            let mut value = serde_json::from_slice(&fixture("notice-completed")).expect("JSON");
            change(&mut value);
            notice(value.to_string().as_bytes())
        };
        let other = with(|event| event["type"] = "balance-transaction.created".into()).expect("reads");
        assert_eq!((other.told(), other.hint(), other.event_type()), (None, None, "balance-transaction.created"));
        let ping = notice(br#"{"resource":"event","id":"event_1","type":"hook.ping","entityId":"hook_1"}"#).expect("reads");
        assert_eq!((ping.told(), ping.hint()), (None, None));
        let odd = with(|event| event["_embedded"]["entity"]["status"] = "on <hold>".into()).expect("reads");
        let report = &odd.told().expect("a payout").report;
        assert_eq!((&report.status, report.provider_status.as_str()), (&Status::Unmapped, "on__hold_"));
        let unreadable = |why| Err(NoticeError::Unreadable(why));
        assert_eq!(with(|event| event["id"] = "".into()), unreadable("id or type"));
        assert_eq!(with(|event| event["entityId"] = "payout_other".into()), unreadable("entityId"));
        assert_eq!(with(|event| event["_embedded"]["entity"]["amount"]["value"] = "10.005".into()), unreadable("id or amount"));
        assert_eq!(super::notice(&fixture("notice-completed"), Mode::Test), unreadable("of the other mode"));
        assert_eq!(with(|event| event["_embedded"]["entity"] = serde_json::json!([])), unreadable("the payout"));
        assert_eq!(notice(br#"{"id":"event_1","type":"payout.failed","entityId":"../x"}"#), unreadable("entityId"));
        assert_eq!(notice(b"[]"), unreadable("the envelope"));
        assert_eq!(notice(b"id=tr_1"), unreadable("not JSON"));
    }
}
