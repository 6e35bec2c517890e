//! TrueLayer's webhooks: proof first, content second.
//!
//! The proof is the same for both versions of the API, in `proof.rs`.

use std::time::Duration;

use bytes::Bytes;
use domain::fact::{About, Deposit, Reason, Report, Status, Told};
use domain::id::{Mode, ProviderKey};
use domain::money::{Currency, Money};
use http::{HeaderMap, HeaderName, Method};

pub use super::proof::NoticeError;
use super::proof::{KeySource, Proof};
use super::{Settings, SetupError, wire};
pub use crate::Notice;
use crate::reading::sanitised;

/// Reads and verifies webhooks. One per account; cheap to share, and it keeps a cache of the provider's keys.
pub struct Inbox {
    proof: Proof,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

const MAX_ID: usize = 128;

impl Inbox {
    /// # Errors
    ///
    /// [`SetupError::Jku`] for an address that is none, or not https in live mode; [`SetupError::Empty`] for no address at all.
    pub fn new(settings: &Settings, mode: Mode) -> Result<Self, SetupError> {
        let keys = KeySource { jku: &settings.jku, limits: settings.limits(), refetch: Duration::from_millis(settings.jwks_refetch_ms) };
        Ok(Self { proof: Proof::new(&keys, mode, settings.accept_legacy_notices)? })
    }

    /// The headers of which a webhook needs one.
    #[must_use]
    pub fn proofs(&self) -> Vec<HeaderName> {
        self.proof.headers()
    }

    /// Verifies a request over its raw bytes, then reads it. `path` is the path that the provider called, without query.
    ///
    /// Takes at most a few seconds, when keys have to be fetched. Reading the same request again gives the same notice.
    ///
    /// # Errors
    ///
    /// [`NoticeError`] says what to answer.
    pub async fn read(&self, method: &Method, path: &str, headers: &HeaderMap, body: &Bytes) -> Result<Notice, NoticeError> {
        self.proof.verify(method, path, headers, body).await?;
        notice(body)
    }
}

/// Reads a body that has been verified.
fn notice(body: &[u8]) -> Result<Notice, NoticeError> {
    let event: wire::Event = serde_json::from_slice(body).map_err(|_| NoticeError::Unreadable("the envelope"))?;
    if event.event_id.is_empty() || event.event_id.len() > MAX_ID || event.event_type.is_empty() {
        return Err(NoticeError::Unreadable("event_id or event_type"));
    }
    let mut deposit = None;
    if event.event_type == "topup_received" {
        let body: wire::TopUpReceived = serde_json::from_value(event.event_body.clone()).map_err(|_| NoticeError::Unreadable("event_body"))?;
        deposit = Some(came_in(body)?);
    }
    let told = match event.event_type.strip_prefix("payout_") {
        Some(word @ ("authorised" | "submitted" | "settled" | "rejected" | "failed" | "returned")) => {
            let body: wire::EventBody = serde_json::from_value(event.event_body).map_err(|_| NoticeError::Unreadable("event_body"))?;
            Some(told(word, &body))
        }
        Some(_) | None => None,
    };
    Ok(Notice { dedupe_id: event.event_id, event_type: sanitised(&event.event_type), told, hint: None, deposit, signed: true })
}

/// "Each currency is associated with its own account" (H), so the currency names it.
fn came_in(body: wire::TopUpReceived) -> Result<Deposit, NoticeError> {
    let money = deposited(&body.currency, body.amount_in_minor)?;
    Ok(Deposit { account: body.currency, transaction_id: body.transaction_id, money })
}

pub(crate) fn deposited(currency: &str, minor: i64) -> Result<Money, NoticeError> {
    let currency = Currency::parse(currency).map_err(|_| NoticeError::Unreadable("currency"))?;
    Money::new(minor, currency).map_err(|_| NoticeError::Unreadable("amount_in_minor"))
}

/// `payout_returned` is ASSUMED, as is that a return may come as a failure with the reason `returned`; so are the names of reasons and most timestamps.
fn told(word: &str, body: &wire::EventBody) -> Told {
    let reason = body.reason.as_deref();
    let (status, at) = match word {
        "returned" => (Status::Returned { reason: Reason::new(reason.unwrap_or("returned")) }, body.returned_at),
        "authorised" => (super::status(word, None), body.authorised_at),
        "submitted" => (super::status(word, None), body.submitted_at),
        "settled" => (super::status(word, None), body.settled_at),
        "rejected" => (super::status(word, reason), body.rejected_at),
        _ => (super::status(word, reason), body.failed_at),
    };
    let report = Report { status, provider_status: word.to_owned(), at: at.map(|moment| moment.0), reference: None, amount: None };
    Told { about: About::Key(ProviderKey::from_uuid(body.transaction_id)), report }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> Notice {
        let path = format!("{}/fixtures/truelayer/{name}.json", env!("CARGO_MANIFEST_DIR"));
        notice(&std::fs::read(&path).expect(&path)).expect(name)
    }

    /// Each documented event in, what it says about the attempt out.
    #[test]
    fn events_become_reports() {
        let reason = |code| Reason::new(code);
        for (name, status, at) in [
            ("authorised", Status::Authorised, "2026-03-02T09:15:30.1234567Z"),
            ("submitted", Status::Submitted, "2026-03-02T09:15:31Z"),
            ("settled", Status::Settled, "2026-03-02T09:15:42.5Z"),
            ("rejected", Status::Rejected { reason: reason("insufficient_funds") }, "2026-03-02T09:16:01Z"),
            ("failed", Status::Failed { reason: reason("scheme_error") }, "2026-03-02T09:16:01Z"),
            ("returned", Status::Returned { reason: reason("returned") }, "2026-03-04T11:00:00Z"),
        ] {
            let notice = read(&format!("notice-payout-{name}"));
            let told = notice.told().expect(name);
            assert_eq!(told.about, About::Key("7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e21".parse().expect("a key")));
            assert_eq!(told.report.status, status);
            assert_eq!(told.report.provider_status, name);
            assert_eq!(told.report.at, Some(at.parse().expect("a timestamp")));
            assert_eq!(notice.event_type(), format!("payout_{name}"));
            assert!(notice.dedupe_id().starts_with("0b8f2c6e-71d3-4a5f-9e40-2d6c8b1a3f0"));
        }
        let top_up = read("notice-topup-received");
        assert_eq!((top_up.told(), top_up.event_type()), (None, "topup_received"));
        let deposit = top_up.deposit().expect("money");
        assert_eq!((deposit.account.as_str(), deposit.money), ("GBP", Money::new(5_000_000, Currency::GBP).expect("money")));
        assert_eq!(deposit.transaction_id.to_string(), "b4e1f6a0-5d2c-4b7e-8f19-3c6a7d80e295");
    }

    /// What is not documented is tolerated where it is a detail, kept where it is a word, and an error where it is the point.
    #[test]
    fn surprises() {
        let with = |event_type: &str, body: serde_json::Value| {
            let event = serde_json::json!({"event_type": event_type, "event_id": "e1", "event_schema_version": 1, "event_body": body});
            notice(event.to_string().as_bytes())
        };
        let id = "7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e21";
        let no_reason = with("payout_failed", serde_json::json!({"transaction_id": id, "failed_at": 7, "client_id": "x"})).expect("reads");
        let report = &no_reason.told().expect("a payout").report;
        assert_eq!((&report.status, report.at), (&Status::Failed { reason: Reason::new("unspecified") }, None));
        let returned = with("payout_failed", serde_json::json!({"transaction_id": id, "reason": "returned"})).expect("reads");
        assert!(matches!(returned.told().expect("a payout").report.status, Status::Returned { .. }));
        let unknown = with("payout_teleported <b>", serde_json::json!(["anything"])).expect("reads");
        assert_eq!((unknown.told(), unknown.event_type()), (None, "payout_teleported__b_"));
        assert_eq!(with("payout_settled", serde_json::json!({})), Err(NoticeError::Unreadable("event_body")));
        let top_up = |minor: i64| with("topup_received", serde_json::json!({"transaction_id": id, "currency": "GBP", "amount_in_minor": minor}));
        assert!(top_up(1).expect("reads").deposit().is_some());
        assert_eq!(top_up(0), Err(NoticeError::Unreadable("amount_in_minor")));
        assert_eq!(with("topup_received", serde_json::json!({"transaction_id": id})), Err(NoticeError::Unreadable("event_body")));
        assert_eq!(with("payout_settled", serde_json::json!({"transaction_id": "7"})), Err(NoticeError::Unreadable("event_body")));
        assert_eq!(notice(b"[]"), Err(NoticeError::Unreadable("the envelope")));
    }
}
