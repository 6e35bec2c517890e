//! What merchants are told: one event per change of a payout's state, numbered per payout without gaps.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::destination::Beneficiary;
use crate::fact::Reason;
use crate::id::{EventId, Mode, PartyId, PayoutId};
use crate::metadata::Metadata;
use crate::money::Money;
use crate::payout::Payout;
use crate::payout::rule::RuleMet;
use crate::payout::state::{State, StateName};

/// What happened, in the words that a subscription names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventType {
    #[serde(rename = "payout.requested")]
    Requested,
    #[serde(rename = "payout.approval-required")]
    ApprovalRequired,
    #[serde(rename = "payout.scheduled")]
    Scheduled,
    #[serde(rename = "payout.initiated")]
    Initiated,
    #[serde(rename = "payout.inconclusive")]
    Inconclusive,
    #[serde(rename = "payout.authorised")]
    Authorised,
    #[serde(rename = "payout.processing-at-bank")]
    ProcessingAtBank,
    #[serde(rename = "payout.completed")]
    Completed,
    #[serde(rename = "payout.returned")]
    Returned,
    #[serde(rename = "payout.failed")]
    Failed,
    #[serde(rename = "payout.canceled")]
    Canceled,
    #[serde(rename = "payout.review-required")]
    ReviewRequired,
    #[serde(rename = "payout.attempt-failed")]
    AttemptFailed,
}

impl EventType {
    /// Every type, in the order of a payout's life.
    pub const ALL: [Self; 13] = [
        Self::Requested,
        Self::ApprovalRequired,
        Self::Scheduled,
        Self::Initiated,
        Self::Inconclusive,
        Self::Authorised,
        Self::ProcessingAtBank,
        Self::Completed,
        Self::Returned,
        Self::Failed,
        Self::Canceled,
        Self::ReviewRequired,
        Self::AttemptFailed,
    ];

    /// The name that subscribers use, such as `payout.completed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "payout.requested",
            Self::ApprovalRequired => "payout.approval-required",
            Self::Scheduled => "payout.scheduled",
            Self::Initiated => "payout.initiated",
            Self::Inconclusive => "payout.inconclusive",
            Self::Authorised => "payout.authorised",
            Self::ProcessingAtBank => "payout.processing-at-bank",
            Self::Completed => "payout.completed",
            Self::Returned => "payout.returned",
            Self::Failed => "payout.failed",
            Self::Canceled => "payout.canceled",
            Self::ReviewRequired => "payout.review-required",
            Self::AttemptFailed => "payout.attempt-failed",
        }
    }

    /// The type of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The event of entering a state.
    #[must_use]
    pub const fn entering(state: StateName) -> Self {
        match state {
            StateName::Requested => Self::Requested,
            StateName::AwaitingApproval => Self::ApprovalRequired,
            StateName::Scheduled => Self::Scheduled,
            StateName::Initiated => Self::Initiated,
            StateName::Inconclusive => Self::Inconclusive,
            StateName::Authorised => Self::Authorised,
            StateName::Submitted => Self::ProcessingAtBank,
            StateName::Settled => Self::Completed,
            StateName::Returned => Self::Returned,
            StateName::Failed | StateName::Rejected => Self::Failed,
            StateName::Canceled => Self::Canceled,
            StateName::InReview => Self::ReviewRequired,
        }
    }
}

/// One thing that merchants are told about a payout. Its body is made once, with the step that it belongs to, and delivered byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: EventId,
    pub kind: EventType,
    pub at: Timestamp,
    /// The JSON that is signed and sent. Holds no account number and no name.
    pub body: String,
}

/// How far dispatching has come, for `payout.attempt-failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptCount {
    pub attempt: u8,
    pub attempts_remaining: u8,
    pub next_attempt_at: Timestamp,
}

/// What stands before the metadata of a body, and after it.
const BEFORE: &str = r#""metadata":"#;
const END: &str = "}}";

#[derive(Serialize)]
struct Body<'a> {
    r#type: EventType,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    payout_id: PayoutId,
    transaction_id: &'a str,
    party_id: &'a PartyId,
    mode: Mode,
    sequence: u32,
    status: StateName,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_status: Option<StateName>,
    /// Absent as long as a whole balance is to be paid out and is not fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_in_minor: Option<i64>,
    currency: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a Reason>,
    /// The rule that has asked for an approval, or has refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a RuleMet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_for: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initiated_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_date: Option<Date>,
    #[serde(flatten)]
    attempt: Option<&'a AttemptCount>,
    // The last one, on which `Event::stem` relies.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: &'a Metadata,
}

impl Event {
    /// The next event of `payout`, which has just entered its state; counts the payout's sequence up.
    pub(crate) fn of(payout: &mut Payout, kind: EventType, previous: Option<StateName>, attempt: Option<&AttemptCount>, at: Timestamp) -> Self {
        payout.sequence = payout.sequence.saturating_add(1);
        let id = EventId::new(payout.id, payout.sequence);
        let data = Data {
            payout_id: payout.id,
            transaction_id: &payout.transaction_id,
            party_id: &payout.party,
            mode: payout.mode,
            sequence: payout.sequence,
            status: payout.state.name(),
            previous_status: previous,
            amount_in_minor: payout.amount.exact().map(Money::minor),
            currency: payout.amount.currency().code(),
            reason: payout.state.reason(),
            rule: payout.rule.as_ref().filter(|_| payout.is_ruled()),
            scheduled_for: if let State::Scheduled { until } = payout.state { Some(until) } else { None },
            initiated_by: payout.initiated_by(),
            due_date: payout.due_date,
            attempt,
            metadata: &payout.metadata,
        };
        let body = Body { r#type: kind, timestamp: at, data };
        let mut text = Vec::with_capacity(payout.metadata.json().len().saturating_add(512));
        serde_json::to_writer(&mut text, &body).expect("an event body has string keys only, so it is always JSON");
        Self { id, kind, at, body: String::from_utf8(text).expect("JSON is UTF-8") }
    }

    /// The body less the payout's metadata and what follows it: what is kept of an event, as the metadata is kept once for all of them.
    #[must_use]
    pub fn stem<'a>(&'a self, metadata: &Metadata) -> &'a str {
        let stem = if metadata.is_empty() { None } else { self.body.strip_suffix(END).and_then(|body| body.strip_suffix(metadata.json())) };
        stem.filter(|stem| stem.ends_with(BEFORE)).unwrap_or(&self.body)
    }

    /// The whole body again.
    #[must_use]
    pub fn body_of(stem: String, metadata: &str) -> String {
        if stem.ends_with(BEFORE) { stem + metadata + END } else { stem }
    }
}

/// The body of an event for those who want it in full: what it is paid with, and where to, as far as both may be shown. The same each time.
#[must_use]
pub fn full(body: String, beneficiary: &Beneficiary) -> String {
    #[derive(Serialize)]
    struct More<'a> {
        beneficiary_reference: &'a str,
        destination: String,
    }
    let more = More { beneficiary_reference: beneficiary.reference.as_str(), destination: beneficiary.destination.masked() };
    match (body.strip_suffix(END), serde_json::to_string(&more)) {
        (Some(stem), Ok(more)) => [stem, ",", more.trim_start_matches('{'), "}"].concat(),
        _ => body,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn event(body: &str) -> Event {
        let payout = PayoutId::derive(&PartyId::parse("acme").expect("a party id"), Mode::Test, "one", crate::id::Shards::ONE);
        Event { id: EventId::new(payout, 1), kind: EventType::Requested, at: Timestamp::UNIX_EPOCH, body: body.to_owned() }
    }

    #[test]
    fn a_body_is_put_together_again_byte_for_byte() {
        let of = |entries: &[(&str, &str)]| {
            Metadata::from(&entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>())
        };
        let entries = of(&[("a", "\"}}\\ é"), ("b", r#""metadata":"#)]);
        let whole = format!(r#"{{"data":{{"sequence":1,"metadata":{}}}}}"#, entries.json());
        for (metadata, body, stem) in [
            (&entries, whole.as_str(), r#"{"data":{"sequence":1,"metadata":"#),
            // What has none, or other metadata, is kept as it is.
            (&of(&[]), r#"{"data":{"sequence":1}}"#, r#"{"data":{"sequence":1}}"#),
            (&of(&[("c", "")]), whole.as_str(), whole.as_str()),
        ] {
            let event = event(body);
            assert_eq!(event.stem(metadata), stem);
            assert_eq!(Event::body_of(stem.to_owned(), metadata.json()), body);
        }
    }
}
