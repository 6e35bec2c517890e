//! Events about card payouts: with keys, signed and evidence; without, an occasion to look.
//!
//! Signing is opt-in at the provider (H), and there is no time in a signature, so a repeated event is recognised by its id.

use bytes::Bytes;
use domain::fact::{About, Reason, Report, Status, Told};
use domain::id::Mode;
use domain::money::{Currency, Money};
use http::{HeaderMap, HeaderName, Method};

use super::{Settings, wire};
pub use crate::Notice;
use crate::worldpay::signature::{EVENT_SIGNATURE, Keyring, Unsigned};
use crate::worldpay::{SetupError, dedupe_id, key_of, sanitised, time_of};

/// Reads events. One per account.
#[derive(Debug)]
pub struct Inbox {
    keys: Keyring,
}

/// Why a request is not a notice. Answer 400 (H).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    #[error("the event cannot be read: {0}")]
    Unreadable(&'static str),
}

impl Inbox {
    /// # Errors
    ///
    /// [`SetupError::Unusable`] for a key that is none.
    pub fn new(settings: &Settings, _mode: Mode) -> Result<Self, SetupError> {
        Ok(Self { keys: Keyring::new(&settings.event_keys)? })
    }

    /// The headers of which a webhook needs one.
    #[must_use]
    pub fn proofs(&self) -> Vec<HeaderName> {
        if self.keys.is_empty() { Vec::new() } else { vec![EVENT_SIGNATURE] }
    }

    /// Verifies a request over its raw bytes where there are keys, then reads it. Reading the same request again gives the same notice.
    ///
    /// # Errors
    ///
    /// [`NoticeError`].
    #[expect(clippy::unused_async, reason = "inboxes of other providers fetch keys, and all are asked alike")]
    pub async fn read(&self, _method: &Method, _path: &str, headers: &HeaderMap, body: &Bytes) -> Result<Notice, NoticeError> {
        let signed = !self.keys.is_empty();
        if signed {
            self.keys.verify(headers, body)?;
        }
        notice(body, signed)
    }
}

fn notice(body: &[u8], signed: bool) -> Result<Notice, NoticeError> {
    let event: wire::Event = serde_json::from_slice(body).map_err(|_| NoticeError::Unreadable("the envelope"))?;
    let details = &event.event_details;
    if event.event_id.is_empty() || details.kind.is_empty() {
        return Err(NoticeError::Unreadable("eventId or type"));
    }
    let key = details.transaction_reference.as_deref().and_then(key_of);
    let told = key.filter(|_| signed).map(|key| Told { about: About::Key(key), report: report(&event) });
    let hint = key.filter(|_| !signed).map(About::Key);
    Ok(Notice { dedupe_id: dedupe_id(Some(&event.event_id), body), event_type: sanitised(&details.kind), told, hint, deposit: None, signed })
}

/// The words of both classifications (H): a payout's own, and those of the refund that a basic disbursement is.
fn report(event: &wire::Event) -> Report {
    let details = &event.event_details;
    let word = details.kind.as_str();
    let status = match (details.classification.as_deref(), word) {
        (Some("payout"), "requested") => Status::Authorised,
        (Some("payout"), "pending") | (Some("payment"), "sentForRefund") => Status::Submitted,
        (Some("payout"), "approved" | "disbursed") | (Some("payment"), "refunded") => Status::Settled,
        (Some("payout"), "refused") => Status::Failed { reason: Reason::new("refused") },
        (Some("payment"), "refundFailed") => Status::Returned { reason: Reason::new("refundFailed") },
        _ => Status::Unmapped,
    };
    let amount = details.amount.as_ref().and_then(|amount| Money::new(amount.value, Currency::parse(&amount.currency_code).ok()?).ok());
    let at = event.event_timestamp.as_deref().and_then(time_of);
    Report { status, provider_status: sanitised(word), at, reference: None, amount }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "00000000000040008000000000000004";

    fn event(classification: &str, kind: &str) -> serde_json::Value {
        serde_json::json!({"eventId": "bb55ca5a-e05c-47e1-8e94-e88bac1a0a17", "eventTimestamp": "2018-06-13T14:18:13.407", "eventDetails": {
            "classification": classification, "transactionReference": KEY, "type": kind, "date": "2017-11-03",
            "amount": {"value": 100, "currencyCode": "EUR"}, "_links": {"payment": {"href": ""}}}})
    }

    fn read(json: &serde_json::Value, signed: bool) -> Notice {
        notice(json.to_string().as_bytes(), signed).expect("reads")
    }

    /// Each documented event in, what it says about the attempt out.
    #[test]
    fn events_become_reports() {
        for (classification, kind, status) in [
            ("payout", "requested", Status::Authorised),
            ("payout", "pending", Status::Submitted),
            ("payout", "approved", Status::Settled),
            ("payout", "disbursed", Status::Settled),
            ("payout", "refused", Status::Failed { reason: Reason::new("refused") }),
            ("payout", "error", Status::Unmapped),
            ("payout", "teleported", Status::Unmapped),
            ("payment", "sentForRefund", Status::Submitted),
            ("payment", "refunded", Status::Settled),
            ("payment", "refundFailed", Status::Returned { reason: Reason::new("refundfailed") }),
            ("payment", "refused", Status::Unmapped),
            ("payout", "refunded", Status::Unmapped),
        ] {
            let notice = read(&event(classification, kind), true);
            let told = notice.told().expect("told");
            assert_eq!((&told.about, &told.report.status), (&About::Key(key_of(KEY).expect("a key")), &status), "{classification} {kind}");
            assert_eq!(told.report.at, Some("2018-06-13T14:18:13.407Z".parse().expect("a time")));
            assert_eq!(told.report.amount.map(|amount| amount.to_string()).as_deref(), Some("EUR 1.00"));
            assert_eq!((notice.event_type(), notice.hint(), notice.dedupe_id()), (kind, None, "bb55ca5a-e05c-47e1-8e94-e88bac1a0a17"));
        }
    }

    #[test]
    fn an_unsigned_event_is_a_hint() {
        let notice = read(&event("payout", "disbursed"), false);
        assert_eq!((notice.told(), notice.hint()), (None, Some(&About::Key(key_of(KEY).expect("a key")))));
        let mut foreign = event("payment", "authorised");
        foreign["eventDetails"]["transactionReference"] = "Memory265-13/08/1876".into();
        for signed in [true, false] {
            let notice = read(&foreign, signed);
            assert_eq!((notice.told(), notice.hint(), notice.event_type()), (None, None, "authorised"));
        }
    }

    #[test]
    fn surprises() {
        let mut odd = event("payout", "disbursed");
        odd["eventTimestamp"] = 5.into();
        odd["eventDetails"]["amount"] = serde_json::json!({"value": 1.5});
        let notice = read(&odd, true);
        let report = &notice.told().expect("told").report;
        assert_eq!((&report.status, report.at, report.amount), (&Status::Settled, None, None));
        for bad in [serde_json::json!([]), serde_json::json!({"eventId": "x"}), serde_json::json!({"eventId": "", "eventDetails": {"type": "x"}})] {
            assert!(matches!(super::notice(bad.to_string().as_bytes(), true), Err(NoticeError::Unreadable(_))), "{bad}");
        }
    }
}
