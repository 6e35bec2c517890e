//! The notifications of account payouts. **None of them is believed**: how they prove themselves is not documented, so they are occasions to look.
//!
//! With [`Settings::event_keys`] they must be signed as events are (ASSUMED), which keeps strangers from causing looks.

use bytes::Bytes;
use domain::fact::{About, ProviderReference};
use domain::id::Mode;
use http::{HeaderMap, HeaderName, Method};

use super::{Settings, is_id, wire};
pub use crate::Notice;
use crate::worldpay::signature::{EVENT_SIGNATURE, Keyring, Unsigned};
use crate::worldpay::{SetupError, dedupe_id, key_of, sanitised};

/// Reads notifications. One per account.
#[derive(Debug)]
pub struct Inbox {
    keys: Keyring,
}

/// Why a request is not a notice. Answer 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    #[error("the notice cannot be read: {0}")]
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

    /// Verifies a request where there are keys, then reads it. Reading the same request again gives the same notice.
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
    // A list would be read as an object whose fields have no names.
    let object = body.trim_ascii_start().starts_with(b"{").then_some(body).ok_or(NoticeError::Unreadable("not an object"))?;
    let notification: wire::Notification = serde_json::from_slice(object).map_err(|_| NoticeError::Unreadable("not an object"))?;
    let payment = notification.original_payment_info.unwrap_or_default();
    let ours = [&payment.transaction_reference, &payment.idempotency_key, &payment.api_request_reference];
    let key = ours.into_iter().flatten().find_map(|text| key_of(text));
    let ids = [payment.payout_request_id, payment.payout_request_id_too, payment.ubr];
    let reference = ids.into_iter().flatten().find(|id| is_id(id));
    let word = notification.notification_type.or(notification.payment_state);
    Ok(Notice {
        dedupe_id: dedupe_id(notification.notification_id.as_deref(), body),
        event_type: word.map_or_else(|| "unspecified".to_owned(), |word| sanitised(&word)),
        told: None,
        signed,
        deposit: None,
        hint: key.map(About::Key).or(reference.map(|id| About::Reference(ProviderReference(id)))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "00000000000040008000000000000004";

    fn read(json: &serde_json::Value) -> Notice {
        notice(json.to_string().as_bytes(), false).expect("reads")
    }

    /// Whatever of the provider's several names is used, the payout is found; nothing is ever told.
    #[test]
    fn hints_are_found_under_every_name() {
        let key = Some(About::Key(key_of(KEY).expect("a key")));
        let reference = Some(About::Reference(ProviderReference("PZ000EC4".to_owned())));
        for (payment, hint) in [
            (serde_json::json!({"transactionReference": KEY}), &key),
            (serde_json::json!({"idempotencyKey": KEY, "payoutRequestID": "PZ000EC4"}), &key),
            (serde_json::json!({"apiRequestReference": KEY, "ubr": "PZ000EC4"}), &key),
            (serde_json::json!({"payoutRequestID": "PZ000EC4", "ubr": "PZ000EC4", "payoutRequestId": "PZ000EC4"}), &reference),
            (serde_json::json!({"ubr": "PZ000EC4", "transactionReference": "ABC123456"}), &reference),
            (serde_json::json!({"payoutRequestID": "../events", "ubr": 7}), &None),
            (serde_json::json!({}), &None),
        ] {
            let notice = read(&serde_json::json!({"notificationType": "payoutSuccess", "paymentState": "COMPLETED", "originalPaymentInfo": payment}));
            assert_eq!((notice.hint(), notice.told()), (hint.as_ref(), None), "{payment}");
            assert_eq!(notice.event_type(), "payoutSuccess");
        }
    }

    #[test]
    fn notices_are_told_apart_by_id_or_by_content() {
        let with =
            |id: serde_json::Value, state: &str| read(&serde_json::json!({"notificationId": id, "paymentState": state})).dedupe_id().to_owned();
        assert_eq!(with("n1".into(), "COMPLETED"), with("n1".into(), "REVERSED"));
        assert_ne!(with("n1".into(), "COMPLETED"), with("n2".into(), "COMPLETED"));
        let hash = with(serde_json::Value::Null, "COMPLETED");
        assert_eq!((hash.len(), with(serde_json::Value::Null, "COMPLETED") == hash), (64, true));
        assert_ne!(with(serde_json::Value::Null, "REVERSED"), hash);
        assert_eq!(with("x".repeat(1000).into(), "COMPLETED").len(), 64, "an id of any length is kept short");
        assert_eq!(notice(b"[]", false), Err(NoticeError::Unreadable("not an object")));
        assert_eq!(notice(b"{}", false).expect("reads").event_type(), "unspecified");
    }
}
