//! Webhooks of TrueLayer's Payouts API v3: the proof is that of v1, in `truelayer/proof.rs`, and only its newer generation is accepted.
//!
//! Of payouts only `payout_executed` and `payout_failed` are sent (H). A failure with the reason `returned` is authoritative even while a look still says executed.
//! Our key comes back in the metadata; a notice without it names the provider's id only.

use std::time::Duration;

use bytes::Bytes;
use domain::fact::{About, Deposit, ProviderReference, Report, Told};
use domain::id::Mode;
use http::{HeaderMap, HeaderName, Method};

use super::{Settings, SetupError, wire};
pub use crate::Notice;
use crate::reading::{is_plain_id, sanitised};
pub use crate::truelayer::inbox::NoticeError;
use crate::truelayer::inbox::deposited;
use crate::truelayer::proof::{KeySource, Proof};

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

/// Money that came into a merchant account and belongs to no payment of the provider's (H); its fields are ASSUMED.
const EXTERNAL_PAYMENT: &str = "external_payment_received";

impl Inbox {
    /// # Errors
    ///
    /// [`SetupError::Jku`] for an address that is none, or not https in live mode; [`SetupError::Empty`] for no address at all.
    pub fn new(settings: &Settings, mode: Mode) -> Result<Self, SetupError> {
        let keys = KeySource { jku: &settings.jku, limits: settings.limits(), refetch: Duration::from_millis(settings.jwks_refetch_ms) };
        Ok(Self { proof: Proof::new(&keys, mode, false)? })
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
    let event: wire::Event = serde_json::from_slice(body).map_err(|_| NoticeError::Unreadable("the event"))?;
    if event.event_id.is_empty() || event.event_id.len() > MAX_ID || event.event_type.is_empty() {
        return Err(NoticeError::Unreadable("event_id or type"));
    }
    let (word, at) = match event.event_type.as_str() {
        "payout_executed" => ("executed", event.executed_at),
        "payout_failed" => ("failed", event.failed_at),
        kind => {
            let deposit = if kind == EXTERNAL_PAYMENT { Some(came_in(body)?) } else { None };
            let event_type = sanitised(&event.event_type);
            return Ok(Notice { dedupe_id: event.event_id, event_type, told: None, hint: None, deposit, signed: true });
        }
    };
    let id = event.payout_id.filter(|id| is_plain_id(id)).ok_or(NoticeError::Unreadable("payout_id"))?;
    let reference = ProviderReference(id);
    let about = event.metadata.as_ref().and_then(wire::key_in).map_or_else(|| About::Reference(reference.clone()), About::Key);
    let report = Report {
        status: super::status(word, event.failure_reason.as_deref()),
        provider_status: word.to_owned(),
        at: at.map(|moment| moment.0),
        reference: Some(reference),
        amount: None,
    };
    let told = Some(Told { about, report });
    Ok(Notice { dedupe_id: event.event_id, event_type: sanitised(&event.event_type), told, hint: None, deposit: None, signed: true })
}

fn came_in(body: &[u8]) -> Result<Deposit, NoticeError> {
    let payment: wire::ExternalPayment = serde_json::from_slice(body).map_err(|_| NoticeError::Unreadable("the external payment"))?;
    let account = Some(payment.merchant_account_id).filter(|id| is_plain_id(id)).ok_or(NoticeError::Unreadable("merchant_account_id"))?;
    let money = deposited(&payment.currency, payment.amount_in_minor)?;
    Ok(Deposit { account, transaction_id: payment.transaction_id, money })
}

#[cfg(test)]
mod tests {
    use domain::fact::{Reason, Status};
    use domain::money::{Currency, Money};
    use serde_json::json;

    use super::*;

    fn read(name: &str) -> Notice {
        let path = format!("{}/fixtures/truelayer_v3/{name}.json", env!("CARGO_MANIFEST_DIR"));
        notice(&std::fs::read(&path).expect(&path)).expect(name)
    }

    /// Each documented event in, what it says about the attempt out.
    #[test]
    fn events_become_reports() {
        let reason = Reason::new;
        for (name, event_type, status, at) in [
            ("executed", "payout_executed", Status::Settled, "2026-03-02T09:15:42.5Z"),
            ("failed", "payout_failed", Status::Failed { reason: reason("scheme_error") }, "2026-03-02T09:16:01Z"),
            ("returned", "payout_failed", Status::Returned { reason: reason("returned") }, "2026-03-04T11:00:00Z"),
        ] {
            let notice = read(&format!("notice-payout-{name}"));
            let told = notice.told().expect(name);
            assert_eq!(told.about, About::Key("7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20".parse().expect("a key")));
            assert_eq!((&told.report.status, told.report.at), (&status, Some(at.parse().expect("a timestamp"))));
            assert_eq!(told.report.reference, Some(ProviderReference("0cd1b0f7-71bc-4d24-b209-95259dadcc20".to_owned())));
            assert_eq!((notice.event_type(), notice.hint()), (event_type, None));
        }
    }

    #[test]
    fn money_that_came_in_is_a_deposit() {
        let notice = read("notice-external-payment-received");
        let deposit = notice.deposit().expect("money");
        assert_eq!(
            (deposit.account.as_str(), deposit.money),
            ("822f8dfe-0874-481b-b966-5b14f767792f", Money::new(5_000_000, Currency::GBP).expect("money"))
        );
        assert_eq!((deposit.transaction_id.to_string().as_str(), notice.told(), notice.hint()), ("b4e1f6a0-5d2c-4b7e-8f19-3c6a7d80e295", None, None));
        let with = |name: &str, value: serde_json::Value| {
            let path = format!("{}/fixtures/truelayer_v3/notice-external-payment-received.json", env!("CARGO_MANIFEST_DIR"));
            let mut event: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect(&path)).expect("a fixture");
            event[name] = value;
            super::notice(event.to_string().as_bytes()).map(drop)
        };
        assert_eq!(with("remitter", json!("unread")), Ok(()));
        assert_eq!(with("amount_in_minor", json!(-1)), Err(NoticeError::Unreadable("amount_in_minor")));
        assert_eq!(with("currency", json!("pounds")), Err(NoticeError::Unreadable("currency")));
        assert_eq!(with("merchant_account_id", json!("../x")), Err(NoticeError::Unreadable("merchant_account_id")));
        assert_eq!(with("transaction_id", json!(7)), Err(NoticeError::Unreadable("the external payment")));
    }

    #[test]
    fn surprises() {
        let with = |change: serde_json::Value| {
            let mut event = json!({"type": "payout_executed", "event_id": "e1", "event_version": 1, "payout_id": "p1"});
            event.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
            notice(event.to_string().as_bytes())
        };
        let by_their_id = About::Reference(ProviderReference("p1".to_owned()));
        let nameless = with(json!({})).expect("reads");
        assert_eq!(nameless.told().map(|told| (&told.about, &told.report.status)), Some((&by_their_id, &Status::Settled)));
        for metadata in [json!({"payrelay_key": "x"}), json!({"other": "7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20"}), json!([]), json!({"a": 1})] {
            assert_eq!(with(json!({"metadata": metadata})).expect("reads").told().map(|told| &told.about), Some(&by_their_id), "{metadata}");
        }
        let key = json!({"payrelay_key": "7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20"});
        let bare = with(json!({"type": "payout_failed", "metadata": key, "failed_at": 7, "beneficiary": {"type": "x"}})).expect("reads");
        let report = &bare.told().expect("a payout").report;
        assert_eq!((&report.status, report.at), (&Status::Failed { reason: Reason::new("unspecified") }, None));
        let other = notice(br#"{"type": "merchant_account_payment_settled <b>", "event_id": "e1"}"#).expect("reads");
        assert_eq!((other.told(), other.hint(), other.event_type()), (None, None, "merchant_account_payment_settled__b_"));
        let unreadable = |why| Err(NoticeError::Unreadable(why));
        assert_eq!(with(json!({"payout_id": "../x"})), unreadable("payout_id"));
        assert_eq!(with(json!({"payout_id": null})), unreadable("payout_id"));
        assert_eq!(with(json!({"event_id": ""})), unreadable("event_id or type"));
        assert_eq!(notice(b"[]"), unreadable("the event"));
    }
}
