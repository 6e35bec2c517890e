//! Where a payout stands, and where its money stands with it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fact::Reason;
use crate::ledger::Account;

/// Where a payout stands. Each state holds exactly what is true in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// Stored and validated; the money is reserved; dispatch is due.
    Requested,
    /// A second person must approve it until then.
    AwaitingApproval { until: Timestamp },
    /// Waits for its day, or for the next dispatch. Can be canceled.
    Scheduled { until: Timestamp },
    /// The intent to send is on disk; **the call may be under way**.
    Initiated,
    /// The call ended without a usable answer; **money may have left**.
    Inconclusive,
    /// The provider accepted it.
    Authorised,
    /// At the bank or in the scheme.
    Submitted,
    /// The provider says that it arrived. A return can still follow.
    Settled,
    /// Came back after submission or settlement.
    Returned { reason: Reason },
    /// Did not move, after the provider had accepted it.
    Failed { reason: Reason },
    /// Refused before dispatch or at the provider's door.
    Rejected { reason: Reason },
    /// Cancelled before money moved.
    Canceled { reason: Reason },
    /// Frozen until somebody decides, or (only after a bound) until the provider says something definite.
    InReview { cause: Cause },
}

/// Why a payout is in review.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Two statements that cannot both be true.
    Clash(Clash),
    /// No definite word within the provider's bound.
    Unresolved,
    /// Handling it failed again and again.
    Stuck,
}

/// Two statements about one payout that cannot both be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clash {
    /// Failed, rejected or canceled, and yet settled.
    EndedAndSettled,
    /// Refused at the door, and yet accepted.
    RefusedAndAccepted,
    /// An attempt that had been closed shows signs of money.
    ClosedAttemptMoved,
    /// The payout was withdrawn before dispatch, and yet a provider knows it.
    WithdrawnAndAccepted,
    /// A provider speaks of an attempt that we have no record of.
    UnknownAttempt,
    /// The provider holds other content under our key.
    KeyConflict,
    /// The provider holds another amount under our key.
    AmountDiffers,
    /// New evidence contradicts what an operator decided.
    ResolutionContradicted,
}

/// The name of a state, without what is true in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    Requested,
    AwaitingApproval,
    Scheduled,
    Initiated,
    Inconclusive,
    Authorised,
    Submitted,
    Settled,
    Returned,
    Failed,
    Rejected,
    Canceled,
    InReview,
}

impl StateName {
    /// All thirteen, in the order of a payout's life.
    pub const ALL: [Self; 13] = [
        Self::Requested,
        Self::AwaitingApproval,
        Self::Scheduled,
        Self::Initiated,
        Self::Inconclusive,
        Self::Authorised,
        Self::Submitted,
        Self::Settled,
        Self::Returned,
        Self::Failed,
        Self::Rejected,
        Self::Canceled,
        Self::InReview,
    ];

    /// The word in the API, in records and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Scheduled => "scheduled",
            Self::Initiated => "initiated",
            Self::Inconclusive => "inconclusive",
            Self::Authorised => "authorised",
            Self::Submitted => "submitted",
            Self::Settled => "settled",
            Self::Returned => "returned",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Canceled => "canceled",
            Self::InReview => "in_review",
        }
    }

    /// The name of the timestamp that says when a payout first reached this state.
    #[must_use]
    pub const fn timestamp_field(self) -> &'static str {
        match self {
            Self::Requested => "requested_at",
            Self::AwaitingApproval => "approval_requested_at",
            Self::Scheduled => "scheduled_for",
            Self::Initiated => "initiated_at",
            Self::Inconclusive => "inconclusive_since",
            Self::Authorised => "authorised_at",
            Self::Submitted => "submitted_at",
            Self::Settled => "settled_at",
            Self::Returned => "returned_at",
            Self::Failed => "failed_at",
            Self::Rejected => "rejected_at",
            Self::Canceled => "canceled_at",
            Self::InReview => "review_since",
        }
    }

    /// The state of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more is going to happen by itself. A return, or a contradiction, can still come from outside.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Settled | Self::Returned | Self::Failed | Self::Rejected | Self::Canceled => true,
            Self::Requested
            | Self::AwaitingApproval
            | Self::Scheduled
            | Self::Initiated
            | Self::Inconclusive
            | Self::Authorised
            | Self::Submitted
            | Self::InReview => false,
        }
    }

    /// Whether dispatch is still ahead, so that the payout can be withdrawn.
    #[must_use]
    pub const fn is_before_dispatch(self) -> bool {
        matches!(self, Self::Requested | Self::AwaitingApproval | Self::Scheduled)
    }

    /// Whether it makes sense to ask the provider.
    #[must_use]
    pub const fn has_provider_status(self) -> bool {
        matches!(self, Self::Inconclusive | Self::Authorised | Self::Submitted | Self::Settled | Self::InReview)
    }
}

impl State {
    #[must_use]
    pub const fn name(&self) -> StateName {
        match self {
            Self::Requested => StateName::Requested,
            Self::AwaitingApproval { .. } => StateName::AwaitingApproval,
            Self::Scheduled { .. } => StateName::Scheduled,
            Self::Initiated => StateName::Initiated,
            Self::Inconclusive => StateName::Inconclusive,
            Self::Authorised => StateName::Authorised,
            Self::Submitted => StateName::Submitted,
            Self::Settled => StateName::Settled,
            Self::Returned { .. } => StateName::Returned,
            Self::Failed { .. } => StateName::Failed,
            Self::Rejected { .. } => StateName::Rejected,
            Self::Canceled { .. } => StateName::Canceled,
            Self::InReview { .. } => StateName::InReview,
        }
    }

    /// The account that holds the payout's money in this state, once its amount is fixed. Only proof that nothing moved, or that it came back, makes it available again.
    #[must_use]
    pub const fn holds_funds_in(&self) -> Account {
        match self {
            Self::Requested
            | Self::AwaitingApproval { .. }
            | Self::Scheduled { .. }
            | Self::Initiated
            | Self::Inconclusive
            | Self::Authorised
            | Self::Submitted
            | Self::InReview { .. } => Account::Reserved,
            Self::Settled => Account::Settled,
            Self::Returned { .. } | Self::Failed { .. } | Self::Rejected { .. } | Self::Canceled { .. } => Account::Available,
        }
    }

    /// The reason code that goes with this state, where it has one.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Returned { reason } | Self::Failed { reason } | Self::Rejected { reason } | Self::Canceled { reason } => Some(reason),
            Self::Requested
            | Self::AwaitingApproval { .. }
            | Self::Scheduled { .. }
            | Self::Initiated
            | Self::Inconclusive
            | Self::Authorised
            | Self::Submitted
            | Self::Settled
            | Self::InReview { .. } => None,
        }
    }
}
