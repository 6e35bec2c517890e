//! How a payout looks in the words of seed 004: seven statuses for our thirteen, and reasons of a closed list.

use domain::destination::Beneficiary;
use domain::id::{BalanceAccountId, Mode, Shards};
use domain::money::Money;
use domain::payout::Payout;
use domain::payout::state::{State, StateName};
use serde::Serialize;

use super::hal::{Amount, Link, Moment, payout_id};

/// A payout as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View<'a> {
    resource: &'static str,
    id: String,
    balance_id: BalanceAccountId,
    /// `null` as long as a whole balance is to be paid out and is not fixed.
    amount: Option<Amount>,
    description: &'a str,
    status: Status,
    status_reason: StatusReason,
    created_at: Moment,
    /// When its business day opens, if it was given one.
    scheduled_for: Option<Moment>,
    initiated_at: Option<Moment>,
    completed_at: Option<Moment>,
    canceled_at: Option<Moment>,
    mode: Mode,
    /// What became of the schedule of the balance by this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer_frequency: Option<&'static str>,
    #[serde(rename = "_links")]
    links: Links,
}

#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    own: Link,
    balance: Link,
}

/// Where a payout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    Requested,
    Initiated,
    ProcessingAtBank,
    Completed,
    Canceled,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct StatusReason {
    code: &'static str,
    message: &'static str,
}

impl Status {
    /// One that was handed to a provider is never again `requested`, wherever it waits; and what is canceled after that has failed.
    pub(super) fn of(payout: &Payout) -> Self {
        let dispatched = payout.reached.contains_key(&StateName::Initiated);
        match &payout.state {
            State::Requested | State::AwaitingApproval { .. } | State::Scheduled { .. } if !dispatched => Self::Requested,
            State::Submitted => Self::ProcessingAtBank,
            State::Settled => Self::Completed,
            State::Canceled { .. } if !dispatched => Self::Canceled,
            State::Canceled { .. } | State::Returned { .. } | State::Failed { .. } | State::Rejected { .. } => Self::Failed,
            State::InReview { .. } if payout.reached.contains_key(&StateName::Submitted) => Self::ProcessingAtBank,
            State::Requested
            | State::AwaitingApproval { .. }
            | State::Scheduled { .. }
            | State::Initiated
            | State::Inconclusive
            | State::Authorised
            | State::InReview { .. } => Self::Initiated,
        }
    }
}

impl StatusReason {
    fn of(payout: &Payout, status: Status) -> Self {
        let code = match status {
            Status::Requested => "requested",
            Status::Initiated => "initiated",
            Status::ProcessingAtBank => "processing_at_bank",
            Status::Completed => "completed",
            Status::Canceled => "canceled",
            Status::Failed if matches!(payout.state, State::Returned { .. }) => "returned",
            Status::Failed => match payout.state.reason().map_or("", |reason| reason.as_str()) {
                "insufficient_funds" | "nothing_available" => "insufficient_funds",
                "invalid_request" => "invalid_request",
                "party_inactive" => "organization_inactive",
                "account_disabled" => "payouts_blocked",
                _ => "failed",
            },
        };
        Self { code, message: message(code) }
    }
}

/// The sentence that goes with a code.
fn message(code: &str) -> &'static str {
    match code {
        "requested" => "The payout has been requested.",
        "initiated" => "The payout has been initiated.",
        "processing_at_bank" => "The payout is being processed by the bank.",
        "completed" => "The payout has been completed successfully.",
        "canceled" => "The payout has been canceled.",
        "insufficient_funds" => "Insufficient funds on the balance to complete the payout.",
        "returned" => "The payout has been returned by the bank.",
        "invalid_request" => "The payout request contained invalid data.",
        "organization_inactive" => "The organization has been deactivated.",
        "payouts_blocked" => "Payouts have been blocked for this organization.",
        _ => "The payout failed for an unknown reason.",
    }
}

impl<'a> View<'a> {
    /// With the word that the request for it has ended the schedule of its balance.
    pub(super) const fn paused(mut self) -> Self {
        self.transfer_frequency = Some("never");
        self
    }

    pub(super) fn new(payout: &'a Payout, beneficiary: &'a Beneficiary, shards: Shards) -> Self {
        let currency = payout.amount.currency();
        let balance_id = BalanceAccountId::derive(&payout.party, payout.mode, currency, shards);
        let status = Status::of(payout);
        let at = |state| payout.reached.get(&state).copied().map(Moment);
        Self {
            resource: "payout",
            id: payout_id(payout.id),
            balance_id,
            amount: payout.amount.exact().map(|money: Money| Amount::of(money.minor(), currency)),
            description: beneficiary.description.as_ref().map_or(beneficiary.reference.as_str(), |description| description.as_str()),
            status,
            status_reason: StatusReason::of(payout, status),
            created_at: Moment(payout.requested_at()),
            scheduled_for: payout.scheduled_for.map(Moment),
            initiated_at: at(StateName::Initiated),
            completed_at: if status == Status::Completed { at(StateName::Settled) } else { None },
            canceled_at: if status == Status::Canceled { at(StateName::Canceled) } else { None },
            mode: payout.mode,
            transfer_frequency: None,
            links: Links { own: Link::to(format!("/v2/payouts/{}", payout_id(payout.id))), balance: Link::to(format!("/v2/balances/{balance_id}")) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code has the sentence of the documentation; only `failed` is without a known reason.
    #[test]
    fn codes_have_messages() {
        for code in ["requested", "initiated", "processing_at_bank", "completed", "canceled", "insufficient_funds", "returned", "invalid_request"] {
            assert_ne!(message(code), message("failed"), "{code}");
        }
        assert_eq!(serde_json::to_string(&Status::ProcessingAtBank).unwrap(), "\"processing-at-bank\"");
    }
}
