//! What can happen to a payout, whoever says so.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::rule::RuleMet;
use super::state::State;
use crate::fact::{Provider, Reason, Report, Source};
use crate::id::ProviderKey;
use crate::money::Money;

/// Something that happened to a payout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub source: Source,
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Statements about an attempt name it; statements about a send name that too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// A second person agrees.
    Approve { by: String },
    /// The caller or an operator takes it back.
    Cancel { reason: Reason },
    /// The caller or an operator wants the provider, which has it, to cancel it. The provider decides.
    AskToCancel { reason: Reason },
    /// The provider was asked to cancel that attempt, and says where it is instead.
    NotCanceled { attempt: u8, report: Report },
    /// A rule of ours, or the lack of an account, says no before dispatch: to the provider whose turn it is while there is another one, else to the payout.
    Decline {
        reason: Reason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<RuleMet>,
    },
    /// A whole balance is to be paid out, and that much is in it now: from here on this is the amount, and it is reserved.
    Fix { money: Money },
    /// It is due, and its provider is not being dispatched to: it waits until it is.
    Hold { why: Reason },
    /// **The intent to send**: committed before the first byte leaves, after `send_by` none does. Until `aside_until` nobody was allowed to send it.
    Initiate {
        send_by: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aside_until: Option<Timestamp>,
    },
    /// As `Initiate`, in one request with others, which has a key of its own. While inconclusive: the intent to send that request again.
    Join { group: ProviderKey, send_by: Timestamp },
    /// The intent to send the same bytes under the same key again.
    Resend { send_by: Timestamp },
    /// No byte of that send left.
    NotSent { attempt: u8, send: u32, why: Reason },
    /// The provider answered that it did not process that send.
    Unprocessed {
        attempt: u8,
        send: u32,
        why: Reason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// That send ended without a usable answer.
    NoAnswer { attempt: u8, send: u32, why: Reason },
    /// A documented refusal in the answer to that send.
    Refused { attempt: u8, send: u32, reason: Reason },
    /// The provider holds other content under our key.
    KeyConflict { attempt: u8 },
    /// What the provider says about that attempt.
    Reported { attempt: u8, report: Report },
    /// The provider does not know that attempt now.
    NotFound { attempt: u8 },
    /// The provider does not know that attempt, and by its documents that proves by now that nothing was done, nor will be.
    /// Says nothing about sends after `send`, which was the latest when it was asked.
    NeverDone { attempt: u8, send: u32, reason: Reason },
    /// That provider has an attempt of this payout of which there is no record: the store has forgotten it.
    Elsewhere { provider: Provider, attempt: u8, report: Report },
    /// A question to the provider led nowhere.
    NoNews { attempt: u8, why: Reason },
    /// Somebody wants to know now.
    Check,
    /// Handling it failed again and again.
    Stuck { why: Reason },
    /// An operator decides a payout in review.
    Resolve(Resolution),
}

/// What an operator decided about a payout in review, and on what grounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    pub outcome: Resolved,
    pub reason: Reason,
    /// Where the proof can be found, such as a ticket or a bank statement line.
    pub evidence: String,
    /// The owner of the operator's credential.
    pub by: String,
    pub at: Timestamp,
}

/// What an operator can decide about a payout in review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolved {
    Settled,
    Returned,
    Failed,
}

// === impl Fact ===

impl Fact {
    #[must_use]
    pub const fn new(source: Source, what: What) -> Self {
        Self { source, what }
    }
}

// === impl Resolution ===

impl Resolution {
    pub(super) fn state(&self) -> State {
        let reason = self.reason.clone();
        match self.outcome {
            Resolved::Settled => State::Settled,
            Resolved::Returned => State::Returned { reason },
            Resolved::Failed => State::Failed { reason },
        }
    }
}
