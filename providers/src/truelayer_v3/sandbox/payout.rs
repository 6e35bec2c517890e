//! The states of a payout in the sandbox, what each move needs, and what a notice says about it (H).

use domain::id::ProviderKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::sandbox::audit::{Direction, Movement, mask_of};
use crate::sandbox::random_uuid;
use crate::truelayer_v3::wire::{Event, Moment, Payout, key_in};

/// A state that a payout can be moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Authorized,
    Executed,
    Failed,
    Returned,
    /// Not enough money in the account: failed, before anything moved.
    Unfunded,
}

impl Stage {
    /// Moves a payout, and says which way money went; `None` if it cannot go there from where it is.
    pub(super) fn apply(self, payout: &mut Payout, now: Timestamp) -> Option<Option<Direction>> {
        let status = payout.status.as_str();
        let allowed = match self {
            Self::Authorized | Self::Unfunded => status == "pending",
            Self::Executed | Self::Failed => status == "authorized",
            Self::Returned => status == "executed",
        };
        if !allowed {
            return None;
        }
        let (status, reason, direction) = match self {
            Self::Authorized => ("authorized", None, Some(Direction::Out)),
            Self::Executed => ("executed", None, None),
            Self::Failed => ("failed", Some("scheme_error"), Some(Direction::Back)),
            Self::Returned => ("failed", Some("returned"), Some(Direction::Back)),
            Self::Unfunded => ("failed", Some("insufficient_funds"), None),
        };
        payout.status = status.to_owned();
        match status {
            "executed" => payout.executed_at = Some(Moment(now)),
            "failed" => payout.failed_at = Some(Moment(now)),
            _ => {}
        }
        payout.failure_reason = reason.map(str::to_owned);
        Some(direction)
    }
}

/// A move that was made, and the payout after it. Every copy of its notice has the same id.
pub(crate) struct Told {
    pub(super) key: Uuid,
    event_id: String,
    payout: Payout,
}

impl Told {
    pub(super) fn new(key: Uuid, payout: Payout) -> Self {
        Self { key, event_id: random_uuid().to_string(), payout }
    }
}

/// The notice about a move; `None` for those that are not told (H). A forged one says that the payout failed.
pub(super) fn event(told: &Told, forged: bool) -> Option<Event> {
    let payout = &told.payout;
    let event_type = match payout.status.as_str() {
        "executed" | "failed" if forged => "payout_failed",
        "executed" => "payout_executed",
        "failed" => "payout_failed",
        _ => return None,
    };
    Some(Event {
        event_type: event_type.to_owned(),
        event_id: if forged { random_uuid().to_string() } else { told.event_id.clone() },
        event_version: 1,
        payout_id: Some(payout.id.clone()),
        executed_at: payout.executed_at.filter(|_| event_type == "payout_executed"),
        failed_at: if forged { payout.executed_at } else { payout.failed_at },
        failure_reason: if forged { Some("scheme_error".to_owned()) } else { payout.failure_reason.clone() },
        metadata: payout.metadata.clone(),
    })
}

/// What a move did to the account. Our key is the one in the metadata: it is the same under whatever key a request came.
pub(super) fn movement(key: Uuid, payout: &Payout, direction: Direction, at: Timestamp) -> Movement {
    let text = |name: &str| payout.beneficiary.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let account = payout.beneficiary.get("account_identifier").map(ToString::to_string).unwrap_or_default();
    Movement {
        transaction_id: payout.metadata.as_ref().and_then(key_in).map_or(key, ProviderKey::as_uuid),
        direction,
        amount_in_minor: payout.amount_in_minor,
        currency: payout.currency.clone(),
        beneficiary: mask_of(&[&account, text("account_holder_name")]),
        reference: text("reference").to_owned(),
        at,
    }
}
