//! The sandbox's webhooks: really signed, over real HTTP, tried again a bounded number of times.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use super::{Embedded, Payout, random_uuid, wire};
use crate::clock;
use crate::http::{Call, Client};
use crate::mollie::inbox::{SIGNATURE, sign};
use crate::sandbox::calls::SentNotice;
use crate::sandbox::outbox::Outbox;

/// How long a receiver may take (H).
const RECEIVER: Duration = Duration::from_secs(15);

/// What a notice holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// An event with the payout inside.
    #[default]
    Snapshot,
    /// An event that names the payout.
    Simple,
    /// The payout and nothing around it, as one page of the documentation shows it.
    Bare,
}

/// How the signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spelling {
    /// `sha256=` and hex.
    #[default]
    Prefixed,
    /// Hex only.
    Bare,
}

/// A move that was made, and the payout after it. Every copy of its notice has the same id.
pub(crate) struct Told {
    pub(super) key: Uuid,
    event_id: String,
    pub(super) payout: Payout,
}

impl Told {
    pub(super) fn new(key: Uuid, payout: Payout) -> Self {
        Self { key, event_id: format!("event_{}", random_uuid().simple()), payout }
    }
}

/// Where notices go, and how.
pub(super) struct Sender {
    pub(super) outbox: Outbox,
    /// All of them sign: several while one replaces the other. An HTTP header for each.
    pub(super) secrets: Vec<SecretString>,
    pub(super) payload: Payload,
    pub(super) spelling: Spelling,
}

impl Sender {
    /// Delivers a notice, and notes each try with `note`. A forgery says that the payout failed, is signed with a secret of its own, and is tried once.
    pub(super) async fn send(&self, told: &Told, forged: bool, note: impl Fn(SentNotice)) {
        let mut payout = told.payout.clone();
        let mut event_id = told.event_id.clone();
        if forged {
            event_id = format!("event_{}", random_uuid().simple());
            payout.status = "failed".to_owned();
            payout.status_reason.code = "bank_processing_failed".to_owned();
        }
        let event_type = format!("payout.{}", payout.status);
        let Some(body) = self.body(&event_id, &event_type, &payout) else { return };
        let note = |status: Option<http::StatusCode>| {
            note(SentNotice {
                event_id: event_id.clone(),
                event_type: event_type.clone(),
                at: clock::now(),
                forged,
                status: status.map(|status| status.as_u16()),
            });
        };
        // Any success, "such as 200" (H).
        self.outbox.deliver(forged, |_: &Client| self.signed(&body, forged), |status| status.is_success(), note).await;
    }

    fn body(&self, event_id: &str, event_type: &str, payout: &Payout) -> Option<Bytes> {
        let entity = serde_json::to_value(payout).ok()?;
        if self.payload == Payload::Bare {
            return serde_json::to_vec(&entity).ok().map(Bytes::from);
        }
        let event = wire::Event {
            resource: "event".to_owned(),
            id: event_id.to_owned(),
            event_type: event_type.to_owned(),
            entity_id: payout.id.clone(),
            created_at: wire::Moment(clock::now()).to_string(),
            embedded: (self.payload == Payload::Snapshot).then_some(Embedded { entity }),
        };
        serde_json::to_vec(&event).ok().map(Bytes::from)
    }

    fn signed(&self, body: &Bytes, forged: bool) -> Option<Call> {
        let forger = [SecretString::from("known to nobody")];
        let secrets = if forged { &forger[..] } else { &self.secrets };
        let mut call = Call::new(Method::POST, "", RECEIVER).body("application/json", body.clone());
        for secret in secrets {
            let signature = sign(secret.expose_secret(), body);
            let value = match self.spelling {
                Spelling::Prefixed => &signature,
                Spelling::Bare => signature.trim_start_matches("sha256="),
            };
            call = call.append(SIGNATURE, HeaderValue::from_str(value).ok()?);
        }
        Some(call)
    }
}
