//! The sandbox's notices: events of card payouts and notifications of account payouts, really signed, over real HTTP, repeated as the provider does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::book::{Api, Book, SentNotice, Stored};
use super::mood::Mood;
use crate::clock;
use crate::http::{Call, Client};
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
}

/// A move that was made: what a notice about it says.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    pub(super) stored: Stored,
    /// Whether the money had arrived before.
    pub(super) late: bool,
    pub(super) at: Timestamp,
}

impl Sender {
    /// Takes the moves of one payout and sends a notice about each that has one, one after the other, until there are no more.
    pub(super) async fn run(self: Arc<Self>, book: Arc<Book>, key: String, mood: Mood, mut moves: mpsc::UnboundedReceiver<Moved>) {
        let mut held = Vec::new();
        while let Some(moved) = moves.recv().await {
            match mood {
                Mood::NoNotices => {}
                Mood::ShuffledNotices => held.push(moved),
                _ => self.send(&book, &key, mood, &moved).await,
            }
        }
        for moved in held.iter().rev() {
            self.send(&book, &key, mood, moved).await;
        }
    }

    async fn send(&self, book: &Book, key: &str, mood: Mood, moved: &Moved) {
        let Some(notice) = self.notice(moved) else { return };
        let wait = moved.stored.visible_at.duration_since(clock::now()).max(SignedDuration::ZERO);
        tokio::time::sleep(wait.unsigned_abs()).await;
        if mood == Mood::BadSignature {
            let mut lie = moved.clone();
            lie.stored.status = if self.api == Api::Account { "REVERSED" } else { "refused" }.to_owned();
            if let Some(lie) = self.notice(&lie) {
                self.deliver(book, key, &lie, true).await;
            }
        }
        for _ in 0..if mood == Mood::DuplicateNotices { 2 } else { 1 } {
            self.deliver(book, key, &notice, false).await;
        }
    }

    /// Delivers one notice until it is acknowledged: an event with 200 (H), a notification with any 2xx (ASSUMED). A forgery is tried once.
    async fn deliver(&self, book: &Book, key: &str, (id, event_type, body): &(String, &'static str, Bytes), forged: bool) {
        let keys = if forged { &self.forger } else { &self.keys };
        let call = |_: &Client| {
            let media_type = if self.api == Api::Card { "application/vnd.worldpay.events-v1.hal+json" } else { "application/json" };
            let call = Call::new(Method::POST, "", RECEIVER).body(media_type, body.clone());
            if keys.is_empty() { Some(call) } else { Some(call.header(EVENT_SIGNATURE, HeaderValue::try_from(keys.sign(body)).ok()?)) }
        };
        let accepted = |status: StatusCode| if self.api == Api::Card { status == StatusCode::OK } else { status.is_success() };
        let note = |status: Option<StatusCode>| {
            let (id, event_type) = (id.clone(), (*event_type).to_owned());
            book.notified(self.api, key, SentNotice { id, event_type, at: clock::now(), forged, status: status.map(|status| status.as_u16()) });
        };
        self.outbox.deliver(forged, call, accepted, note).await;
    }

    /// Id, type and body of the notice about a move; `None` for moves of which the provider tells nothing.
    fn notice(&self, moved: &Moved) -> Option<(String, &'static str, Bytes)> {
        let Moved { stored, late, at } = moved;
        let id = random_uuid().to_string();
        let (event_type, body) = match self.api {
            Api::Account => {
                let event_type = match stored.status.as_str() {
                    "COMPLETED" => "payoutSuccess",
                    "REVERSED" if *late => "payoutReturn",
                    "REVERSED" => "payoutReversal",
                    "RFI_IN_PROGRESS" => "rfiInProgress",
                    _ => return None,
                };
                let state = &stored.status;
                let reference = &stored.transaction_reference;
                let body = serde_json::json!({
                    "notificationId": id, "notificationType": event_type, "notificationDateTime": format!("{at:.3}"), "paymentState": state,
                    "originalPaymentInfo": {"payoutRequestID": stored.id, "ubr": stored.id, "transactionReference": reference},
                });
                (event_type, body)
            }
            Api::Card => {
                let (event_type, classification) = match stored.status.as_str() {
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
