//! What follows from a fact: the step to commit, or why there is none.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::{Clash, StateName};
use super::{Fact, Payout};
use crate::event::Event;
use crate::ledger::Entry;
use crate::work::Next;

/// What a fact came to. The steps are to be committed, whole, on the version that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The state changes.
    Moved(Step),
    /// Already so, or older than what is known: the observation is kept, the state stays.
    Known(Step),
    /// Contradicts what is known: the step moves the payout to review.
    Refused(Clash, Step),
    /// A command that is not possible now. Nothing is to be written.
    Declined(Declined),
}

/// Why a command is not possible now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    #[error("the payout can no longer be stopped here, because it has ended or may already be with the provider")]
    TooLate,
    #[error("the payout is not waiting for approval")]
    NotAwaitingApproval,
    #[error("the time for an approval is over")]
    ApprovalExpired,
    #[error("the person who asked for the payout, or has decided where it goes or how much, cannot approve it")]
    MakerIsChecker,
    #[error(
        "it is not on record who has decided where it goes: write its payout instrument and its account once more; this payout can only be canceled"
    )]
    MakerUnknown,
    #[error("the payout is not due for dispatch")]
    NotDispatchable,
    #[error("the amount of the payout is fixed")]
    AmountFixed,
    #[error("the payout is not inconclusive")]
    NotInconclusive,
    #[error("the payout was sent with others, and is sent again with them or not at all")]
    SentWithOthers,
    #[error("the payout is not in review")]
    NotInReview,
    #[error("its amount was never fixed, so nothing can be booked as paid: resolve it as failed, and pay or top up the difference by itself")]
    AmountUnknown,
    #[error("the provider has not been asked about this payout, or its word is final")]
    NothingToCheck,
}

/// A decision and all that follows from it. Committed whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The record as it is after the step; its version is one more than the one decided on.
    pub payout: Payout,
    pub observation: Observation,
    pub events: Vec<Event>,
    pub entries: Vec<Entry>,
    pub next: Next,
}

/// A line of a payout's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    pub version: u64,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StateName>,
    pub to: StateName,
    /// `None` for the opening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<Fact>,
}

// === impl Verdict ===

impl Verdict {
    /// The step to commit, if there is one.
    #[must_use]
    pub fn step(&self) -> Option<&Step> {
        match self {
            Self::Moved(step) | Self::Known(step) | Self::Refused(_, step) => Some(step),
            Self::Declined(_) => None,
        }
    }
}
