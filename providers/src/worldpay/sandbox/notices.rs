//! The sandbox's notices: events of card payouts and notifications of account payouts, really signed, over real HTTP, repeated as the provider does.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};

use super::book::{Api, Moved};
use crate::clock;
use crate::http::{Call, Client};
use crate::sandbox::calls::SentNotice;
use crate::sandbox::outbox::Outbox;
use crate::sandbox::random_uuid;
use crate::worldpay::signature::{EVENT_SIGNATURE, Keyring};

/// How long a receiver may take (H).
const RECEIVER: Duration = Duration::from_secs(10);

/// Where notices of one API go, and how.
pub(super) struct Sender {
    pub(super) api: Api,
    pub(super) keys: Keyring,
    /// The same ids with other secrets: for forgeries.
    pub(super) forger: Keyring,
    pub(super) outbox: Outbox,
    /// Whether a notification carries the client's own reference.
    pub(super) tells_reference: bool,
}

impl Sender {
    /// Tells of a move, if it is one that is told. A forgery says that the payout failed, and is signed with the wrong secret.
    pub(super) async fn tell(&self, moved: &Moved, forged: bool, note: impl Fn(SentNotice)) {
        let Some(mut notice) = self.notice(moved, &moved.stored.status) else { return };
        if forged {
            let Some(lie) = self.notice(moved, if self.api == Api::Account { "REVERSED" } else { "refused" }) else { return };
            notice = lie;
        }
        self.deliver(&notice, forged, note).await;
    }

    /// Delivers one notice until it is acknowledged: an event with 200 (H), a notification with any 2xx (ASSUMED). A forgery is tried once.
    async fn deliver(&self, (id, event_type, body): &(String, &'static str, Bytes), forged: bool, note: impl Fn(SentNotice)) {
        let keys = if forged { &self.forger } else { &self.keys };
        let call = |_: &Client| {
            let media_type = if self.api == Api::Card { "application/vnd.worldpay.events-v1.hal+json" } else { "application/json" };
            let call = Call::new(Method::POST, "", RECEIVER).body(media_type, body.clone());
            if keys.is_empty() { Some(call) } else { Some(call.header(EVENT_SIGNATURE, HeaderValue::try_from(keys.sign(body)).ok()?)) }
        };
        let accepted = |status: StatusCode| if self.api == Api::Card { status == StatusCode::OK } else { status.is_success() };
        let note = |status: Option<StatusCode>| {
            let (event_id, event_type) = (id.clone(), (*event_type).to_owned());
            note(SentNotice { event_id, event_type, at: clock::now(), forged, status: status.map(|status| status.as_u16()) });
        };
        self.outbox.deliver(forged, call, accepted, note).await;
    }

    /// Id, type and body of the notice that a payout has come to a state; `None` for states of which the provider tells nothing.
    fn notice(&self, moved: &Moved, state: &str) -> Option<(String, &'static str, Bytes)> {
        let Moved { stored, late, at, .. } = moved;
        let id = if state == stored.status { moved.notice_id.clone() } else { random_uuid().to_string() };
        let (event_type, body) = match self.api {
            Api::Account => {
                let event_type = match state {
                    "COMPLETED" => "payoutSuccess",
                    "REVERSED" if *late => "payoutReturn",
                    "REVERSED" => "payoutReversal",
                    "RFI_IN_PROGRESS" => "rfiInProgress",
                    _ => return None,
                };
                let reference = self.tells_reference.then_some(&stored.transaction_reference);
                let body = serde_json::json!({
                    "notificationId": id, "notificationType": event_type, "notificationDateTime": format!("{at:.3}"), "paymentState": state,
                    "originalPaymentInfo": {"payoutRequestID": stored.id, "ubr": stored.id, "transactionReference": reference},
                });
                (event_type, body)
            }
            Api::Card => {
                let (event_type, classification) = match state {
                    "requested" => ("requested", "payout"),
                    "pending" => ("pending", "payout"),
                    "approved" => ("approved", "payout"),
                    "disbursed" => ("disbursed", "payout"),
                    "refused" => ("refused", "payout"),
                    "error" => ("error", "payout"),
                    "sentForRefund" => ("sentForRefund", "payment"),
                    "refunded" => ("refunded", "payment"),
                    "refundFailed" => ("refundFailed", "payment"),
                    _ => return None,
                };
                let body = serde_json::json!({
                    "eventId": id,
                    // Without a zone, as the provider writes it (H).
                    "eventTimestamp": format!("{at:.3}").trim_end_matches('Z'),
                    "eventDetails": {
                        "classification": classification, "transactionReference": stored.transaction_reference, "type": event_type,
                        "date": format!("{at:.0}").split('T').next().unwrap_or_default(),
                        "amount": {"value": stored.amount_in_minor, "currencyCode": stored.currency},
                    },
                });
                (event_type, body)
            }
        };
        Some((id, event_type, Bytes::from(body.to_string())))
    }
}
