//! Rules of the platform that payouts meet, as far as their callers are told: which one, and of what kind. Not its bounds, and nothing of other payouts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The rule that has asked for a second person, or has refused the payout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleMet {
    /// As the configuration calls it: `approvals[0]` and `limits[2]` for those that have no name there.
    pub name: String,
    pub kind: RuleKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// Payouts such as this one need a second person.
    Approval,
    /// Nothing that makes the account a known one was sent to it.
    NewBeneficiary,
    /// How much may go of a party within a time.
    PartyLimit,
    /// How much may go from a party to one account within a time.
    BeneficiaryLimit,
}

/// That a second person must approve a payout, until when, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    pub by: Timestamp,
    pub rule: RuleMet,
}
