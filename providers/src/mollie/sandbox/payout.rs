//! The states of a payout in the sandbox, what each move needs, and the words that the provider has for it (H).

use serde::{Deserialize, Serialize};

use crate::mollie::wire::{Moment, Payout, StatusReason};
use crate::sandbox::audit::Direction;

/// A state that a payout can be moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Initiated,
    ProcessingAtBank,
    Completed,
    Failed,
    Returned,
    /// Not enough money on the day: failed, before anything moved.
    Unfunded,
    Canceled,
}

impl Stage {
    /// Status, code of its reason, message.
    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Initiated => ("initiated", "initiated", "The payout has been initiated."),
            Self::ProcessingAtBank => ("processing-at-bank", "processing_at_bank", "The payout is being processed by the bank."),
            Self::Completed => ("completed", "completed", "The payout has been completed successfully."),
            Self::Failed => ("failed", "bank_processing_failed", "The payout could not be completed due to a processing error."),
            Self::Returned => ("failed", "returned", "The payout has been returned by the bank."),
            Self::Unfunded => ("failed", "insufficient_funds", "Insufficient funds on the balance to complete the payout."),
            Self::Canceled => ("canceled", "canceled", "The payout has been canceled."),
        }
    }

    /// Moves a payout, and says which way money went; `None` if it cannot go there from where it is. That a completed payout can be returned is ASSUMED.
    pub(super) fn apply(self, payout: &mut Payout, now: Moment) -> Option<Option<Direction>> {
        let status = payout.status.as_str();
        let allowed = match self {
            Self::Initiated | Self::Unfunded | Self::Canceled => status == "requested",
            Self::ProcessingAtBank => status == "initiated",
            Self::Completed => status == "processing-at-bank",
            Self::Failed => matches!(status, "initiated" | "processing-at-bank"),
            Self::Returned => matches!(status, "processing-at-bank" | "completed"),
        };
        if !allowed {
            return None;
        }
        match self {
            Self::Initiated => payout.initiated_at = Some(now),
            Self::Completed => payout.completed_at = Some(now),
            Self::Canceled => payout.canceled_at = Some(now),
            Self::ProcessingAtBank | Self::Failed | Self::Returned | Self::Unfunded => {}
        }
        let (status, code, message) = self.words();
        payout.status = status.to_owned();
        payout.status_reason = StatusReason { code: code.to_owned(), message: message.to_owned() };
        Some(match self {
            Self::Initiated => Some(Direction::Out),
            Self::Failed | Self::Returned => Some(Direction::Back),
            Self::ProcessingAtBank | Self::Completed | Self::Unfunded | Self::Canceled => None,
        })
    }
}
