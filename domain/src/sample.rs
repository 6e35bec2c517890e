//! Events that never happened, in the form of those that do: for whoever builds a receiver. Those of payouts are about one of 100.00 GBP, those of a bulletin about the
//! party's own subscriptions; both are of the party `sample`, in test mode.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::amount::Amount;
use crate::bulletin::{Hook, News};
use crate::destination::{AccountNumber, Beneficiary, BeneficiaryName, Destination, SortCode, StatementReference};
use crate::event::{self, AttemptCount, Event, EventType};
use crate::fact::{Provider, Reason};
use crate::id::{EventId, Mode, PartyId, PayoutId, Shard, Shards, SubscriptionId};
use crate::metadata::Metadata;
use crate::money::{Currency, Money};
use crate::payout::state::{Cause, State, StateName};
use crate::payout::{Order, Payout};
use crate::snapshot;
use crate::subscription::Payload;

/// An event, and what it is about.
#[derive(Clone, Debug)]
pub struct Sample {
    pub id: EventId,
    pub kind: &'static str,
    /// As it is signed and sent to whoever wants it thin.
    pub body: String,
    /// Of which payout, if it is a payout's.
    of: Option<(EventType, Payout)>,
}

/// The states through which a payout comes to an event, the last one being where it is then.
#[must_use]
pub const fn way_to(kind: EventType) -> &'static [StateName] {
    use StateName::{
        Authorised, AwaitingApproval, Canceled, Failed, InReview, Inconclusive, Initiated, Requested, Returned, Scheduled, Settled, Submitted,
    };
    match kind {
        EventType::Requested => &[Requested],
        EventType::ApprovalRequired => &[Requested, AwaitingApproval],
        EventType::Scheduled => &[Requested, Scheduled],
        EventType::Initiated => &[Requested, Initiated],
        EventType::Inconclusive => &[Requested, Initiated, Inconclusive],
        EventType::Authorised => &[Requested, Initiated, Authorised],
        EventType::ProcessingAtBank => &[Requested, Initiated, Authorised, Submitted],
        EventType::Completed => &[Requested, Initiated, Authorised, Submitted, Settled],
        EventType::Returned => &[Requested, Initiated, Authorised, Submitted, Settled, Returned],
        EventType::Failed => &[Requested, Initiated, Authorised, Failed],
        EventType::Canceled => &[Requested, Scheduled, Canceled],
        EventType::ReviewRequired => &[Requested, Initiated, Inconclusive, InReview],
        EventType::AttemptFailed => &[Requested, Initiated, Scheduled],
    }
}

impl Sample {
    /// The event of that name, about something of its own that has come there by as many events as it takes. `key` tells it from other samples. `None` for what is no event type.
    #[must_use]
    pub fn named(name: &str, key: &str, at: Timestamp) -> Option<Self> {
        let of = PayoutId::derive(&party(), Mode::Test, &format!("{key} {name}"), Shards::ONE);
        if let Some(kind) = EventType::named(name) {
            let sequence = u32::try_from(way_to(kind).len()).unwrap_or(u32::MAX);
            return Some(Self::of(kind, of, sequence, at));
        }
        let news = news(name, at)?;
        // A party has one bulletin for all that is told of it, in which every sample would be the first.
        Some(Self { id: EventId::new(of, 1), kind: news.kind(), body: news.body(&party(), Mode::Test, 1, at), of: None })
    }

    /// The event of that number of a payout.
    #[must_use]
    pub fn of(kind: EventType, id: PayoutId, sequence: u32, at: Timestamp) -> Self {
        let mut payout = Payout::open(order(id), at).payout;
        let way = way_to(kind);
        payout.sequence = sequence.saturating_sub(1);
        payout.state = state(kind, at);
        // A second for each.
        let reached = way.iter().rev().zip(0..).map(|(state, ago)| (*state, at.saturating_sub(SignedDuration::from_secs(ago)).unwrap_or(at)));
        payout.reached = reached.collect();
        let previous = way.len().checked_sub(2).and_then(|before| way.get(before)).copied();
        let attempt = AttemptCount { attempt: 1, attempts_remaining: 2, next_attempt_at: at };
        let Event { id, body, .. } = Event::of(&mut payout, kind, previous, (kind == EventType::AttemptFailed).then_some(&attempt), at);
        Self { id, kind: kind.name(), body, of: Some((kind, payout)) }
    }

    /// As it is sent to whoever wants it like that. `None` where such subscriptions are not told of it.
    #[must_use]
    pub fn as_sent(&self, payload: Payload) -> Option<String> {
        match (payload, &self.of) {
            (Payload::Thin, _) | (Payload::Full, None) => Some(self.body.clone()),
            (Payload::Full, Some(_)) => Some(event::full(self.body.clone(), &beneficiary())),
            (Payload::Snapshot, None) => None,
            (Payload::Snapshot, Some((kind, payout))) => {
                let at = payout.reached.get(&payout.state.name()).copied().unwrap_or(payout.since);
                snapshot::message(self.id, *kind, at, &self.body, payout, &beneficiary(), Shards::ONE)
            }
        }
    }
}

fn party() -> PartyId {
    PartyId::parse("sample").expect("the name of a party")
}

fn order(id: PayoutId) -> Order {
    let money = Money::new(10_000, Currency::parse("GBP").expect("a currency")).expect("an amount");
    Order {
        id,
        party: party(),
        mode: Mode::Test,
        transaction_id: "00000000-0000-4000-8000-000000000000".to_owned(),
        batch_id: None,
        replaces: None,
        due_date: None,
        amount: Amount::Exact(money),
        keeps: 0,
        context_code: "withdrawal".to_owned(),
        metadata: Metadata::default(),
        scheduled_for: None,
        route: vec![Provider::Truelayer],
        maker: "sample".to_owned(),
        decided_by: std::collections::BTreeSet::new(),
        approve_by: None,
        rule: None,
        trace: None,
    }
}

fn beneficiary() -> Beneficiary {
    let sort_code = SortCode::parse("040004").expect("a sort code");
    Beneficiary {
        name: BeneficiaryName::parse("Sample Ltd", BeneficiaryName::MAX_CHARS).expect("a name"),
        reference: StatementReference::parse("INV 42", StatementReference::MAX_CHARS).expect("a reference"),
        destination: Destination::UkAccount { sort_code, account_number: AccountNumber::parse("12345678").expect("an account number") },
        description: None,
        instrument: None,
    }
}

fn state(kind: EventType, at: Timestamp) -> State {
    match kind {
        EventType::Requested => State::Requested,
        EventType::ApprovalRequired => State::AwaitingApproval { until: at },
        EventType::Scheduled | EventType::AttemptFailed => State::Scheduled { until: at },
        EventType::Initiated => State::Initiated,
        EventType::Inconclusive => State::Inconclusive,
        EventType::Authorised => State::Authorised,
        EventType::ProcessingAtBank => State::Submitted,
        EventType::Completed => State::Settled,
        EventType::Returned => State::Returned { reason: Reason::new("account_closed") },
        EventType::Failed => State::Failed { reason: Reason::new("insufficient_funds") },
        EventType::Canceled => State::Canceled { reason: Reason::new("canceled_by_caller") },
        EventType::ReviewRequired => State::InReview { cause: Cause::Unresolved },
    }
}

fn news(name: &str, at: Timestamp) -> Option<News> {
    let hours = |hours| at.saturating_add(SignedDuration::from_hours(hours)).unwrap_or(at);
    let of = Hook { subscription_id: SubscriptionId::new(Shard::new(0), [0; 11]), name: Some("sample".to_owned()) };
    let day = hours(-24).to_zoned(TimeZone::UTC).date();
    [
        News::Break { provider: Provider::Truelayer, day, matched: 41, breaks: BTreeMap::from([("different_amount", 1)]) },
        News::Failing { of: of.clone(), failing_since: hours(-24), disabled_at: hours(96) },
        News::Disabled { of: of.clone(), reason: Reason::new("failing") },
        News::Enabled { of: of.clone() },
        News::Changed { of, changed: &["url"] },
    ]
    .into_iter()
    .find(|news| news.kind() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulletin;
    use crate::subscription::EventTypes;

    #[test]
    fn there_is_one_of_every_type_in_every_form() {
        let at: Timestamp = "2026-01-31T09:00:00Z".parse().expect("a time");
        for name in EventTypes::names() {
            let sample = Sample::named(name, "x", at).expect("a sample");
            assert_eq!(sample.kind, name);
            let read = |payload| sample.as_sent(payload).map(|body| serde_json::from_str::<serde_json::Value>(&body).expect("JSON"));
            let thin = read(Payload::Thin).expect("all are told");
            assert_eq!((&thin["type"], &thin["data"]["party_id"]), (&name.into(), &"sample".into()));
            let full = read(Payload::Full).expect("all are told");
            let is_of_payout = !bulletin::KINDS.contains(&name);
            assert_eq!(full["data"].get("destination").is_some(), is_of_payout, "{full}");
            let snapshot = read(Payload::Snapshot);
            assert_eq!(snapshot.is_some(), EventType::named(name).is_some_and(|kind| snapshot::told_as(kind).is_some()));
            if let Some(snapshot) = snapshot {
                assert_eq!(
                    (&snapshot["createdAt"], &snapshot["_embedded"]["entity"]["amount"]["value"]),
                    (&"2026-01-31T09:00:00+00:00".into(), &"100.00".into())
                );
            }
        }
        assert!(Sample::named("payout.nothing", "x", at).is_none());
        let ids = EventTypes::names().flat_map(|name| ["x", "y"].map(|key| Sample::named(name, key, at).expect("a sample").id));
        assert_eq!(ids.collect::<std::collections::BTreeSet<_>>().len(), 2 * EventTypes::names().count(), "each has an id of its own");
        let data =
            |kind, at| serde_json::from_str::<serde_json::Value>(&Sample::named(kind, "x", at).expect("a sample").body).expect("JSON")["data"].take();
        let returned = data("payout.returned", at);
        assert_eq!(
            (&returned["status"], &returned["previous_status"], &returned["reason"]),
            (&"returned".into(), &"settled".into(), &"account_closed".into())
        );
        assert_eq!(returned["sequence"], 6);
        assert_eq!(data("payout.attempt-failed", at)["attempts_remaining"], 2);
    }
}
