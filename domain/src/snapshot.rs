//! How a payout looks to those who speak Mollie's API: seven statuses for our thirteen, and reasons of a closed list. `/v2` answers with it, and the webhooks of
//! `/v2/webhooks` carry it, with the event around it ([`message`]).
//!
//! Our own ids are behind theirs: `payout_…` has the digits of `po_…`, `event_…` those of `ev_…`. Links are relative, as nobody here knows by which name the
//! service is reached.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize, Serializer};

use crate::destination::Beneficiary;
use crate::event::EventType;
use crate::fact::Reason;
use crate::id::{BalanceAccountId, EventId, Mode, PartyId, PayoutId, Shards, SubscriptionId};
use crate::money::{Currency, Money};
use crate::payout::Payout;
use crate::payout::state::{State, StateName};
use crate::subscription::{EventTypes, Pattern};

/// The media type of every document here.
pub const MEDIA_TYPE: &str = "application/hal+json";

/// The event types that subscribers to [`message`]s can name.
pub const KINDS: [EventType; 5] = [EventType::Initiated, EventType::ProcessingAtBank, EventType::Completed, EventType::Canceled, EventType::Failed];

/// An amount in major units, with as many decimals as its currency has.
#[derive(Serialize)]
pub struct Amount {
    currency: &'static str,
    value: String,
}

/// A time as Mollie writes it: `2024-03-20T09:13:37+00:00`.
#[derive(Clone, Copy)]
pub struct Moment(pub Timestamp);

/// A place that belongs to a document.
#[derive(Serialize)]
pub struct Link {
    href: String,
    r#type: &'static str,
}

/// A payout as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View<'a> {
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
pub enum Status {
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
    /// One that was handed to a provider is never again `requested`, wherever it waits. Whatever is canceled is so before it reached a bank: what a provider takes back after that,
    /// it tells as failed.
    #[must_use]
    pub fn of(payout: &Payout) -> Self {
        let dispatched = payout.reached.contains_key(&StateName::Initiated);
        match &payout.state {
            State::Requested | State::AwaitingApproval { .. } | State::Scheduled { .. } if !dispatched => Self::Requested,
            State::Submitted => Self::ProcessingAtBank,
            State::Settled => Self::Completed,
            State::Canceled { .. } => Self::Canceled,
            State::Returned { .. } | State::Failed { .. } | State::Rejected { .. } => Self::Failed,
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
    fn of(status: Status, returned: bool, reason: Option<&Reason>) -> Self {
        let code = match status {
            Status::Requested => "requested",
            Status::Initiated => "initiated",
            Status::ProcessingAtBank => "processing_at_bank",
            Status::Completed => "completed",
            Status::Canceled => "canceled",
            Status::Failed if returned => "returned",
            Status::Failed => match reason.map_or("", Reason::as_str) {
                "insufficient_funds" | "nothing_available" => "insufficient_funds",
                "invalid_request" => "invalid_request",
                "party_inactive" => "organization_inactive",
                "account_disabled" => "payouts_blocked",
                _ => "failed",
            },
        };
        Self { code, message: sentence(code) }
    }
}

/// The sentence that goes with a code.
fn sentence(code: &str) -> &'static str {
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
    /// For a caller who has to say whose balance it asks for.
    #[must_use]
    pub fn naming(mut self, party: &PartyId) -> Self {
        self.links.balance = Link::to(format!("{}?party_id={party}", balance_path(self.balance_id)));
        self
    }

    /// With the word that the request for it has ended the schedule of its balance.
    #[must_use]
    pub const fn paused(mut self) -> Self {
        self.transfer_frequency = Some("never");
        self
    }

    /// As it stands.
    #[must_use]
    pub fn new(payout: &'a Payout, beneficiary: &'a Beneficiary, shards: Shards) -> Self {
        let status = Status::of(payout);
        let returned = matches!(payout.state, State::Returned { .. });
        Self::with(payout, beneficiary, shards, status, StatusReason::of(status, returned, payout.state.reason()))
    }

    fn with(payout: &'a Payout, beneficiary: &'a Beneficiary, shards: Shards, status: Status, status_reason: StatusReason) -> Self {
        let currency = payout.amount.currency();
        let balance_id = BalanceAccountId::derive(&payout.party, payout.mode, currency, shards);
        let at = |state| payout.reached.get(&state).copied().map(Moment);
        Self {
            resource: "payout",
            id: payout_id(payout.id),
            balance_id,
            amount: payout.amount.exact().map(|money: Money| Amount::of(money.minor(), currency)),
            description: beneficiary.description.as_ref().map_or(beneficiary.reference.as_str(), |description| description.as_str()),
            status,
            status_reason,
            created_at: Moment(payout.requested_at()),
            scheduled_for: payout.scheduled_for.map(Moment),
            initiated_at: at(StateName::Initiated),
            completed_at: if status == Status::Completed { at(StateName::Settled) } else { None },
            canceled_at: if status == Status::Canceled { at(StateName::Canceled) } else { None },
            mode: payout.mode,
            transfer_frequency: None,
            links: Links { own: Link::to(payout_path(payout.id)), balance: Link::to(balance_path(balance_id)) },
        }
    }
}

// === events ===

/// An event as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<T> {
    resource: &'static str,
    id: String,
    r#type: &'static str,
    entity_id: String,
    created_at: Moment,
    #[serde(rename = "_embedded", skip_serializing_if = "Option::is_none")]
    embedded: Option<Embedded<T>>,
    #[serde(rename = "_links")]
    links: EnvelopeLinks,
}

#[derive(Serialize)]
struct Embedded<T> {
    entity: T,
}

#[derive(Serialize)]
struct EnvelopeLinks {
    #[serde(rename = "self", skip_serializing_if = "Option::is_none")]
    own: Option<Link>,
    entity: Link,
}

/// What [`message`] needs of the body of an event.
#[derive(Deserialize)]
struct Told {
    data: ToldData,
}

#[derive(Deserialize)]
struct ToldData {
    #[serde(default)]
    reason: Option<Reason>,
}

/// An event with the payout as it stood then: the same bytes each time, but for times that the provider has corrected since. `body` is that of the event.
/// `None` where there is no word for the event, or the body cannot be read.
#[must_use]
pub fn message(
    id: EventId,
    kind: EventType,
    at: Timestamp,
    body: &str,
    payout: &Payout,
    beneficiary: &Beneficiary,
    shards: Shards,
) -> Option<String> {
    let (name, status) = told_as(kind)?;
    let told: Told = serde_json::from_str(body).ok()?;
    let reason = StatusReason::of(status, kind == EventType::Returned, told.data.reason.as_ref());
    let entity = View::with(payout, beneficiary, shards, status, reason);
    let id = event_id(id);
    let links = EnvelopeLinks { own: Some(Link::to(format!("/v2/events/{id}"))), entity: Link::to(payout_path(payout.id)) };
    let (entity_id, created_at) = (payout_id(payout.id), Moment(at));
    let envelope = Envelope { resource: "event", id, r#type: name.name(), entity_id, created_at, embedded: Some(Embedded { entity }), links };
    serde_json::to_string(&envelope).ok()
}

/// The message that tells nothing but that somebody is there, about the subscription `hook` ([`hook_id`]). `number`
/// is the part of its id that nobody else has.
#[must_use]
pub fn ping(hook: &str, number: u64, at: Timestamp) -> String {
    let links = EnvelopeLinks { own: None, entity: Link::to(format!("/v2/webhooks/{hook}")) };
    let (id, entity_id) = (format!("event_{number:016x}"), hook.to_owned());
    let envelope = Envelope::<()> { resource: "event", id, r#type: "hook.ping", entity_id, created_at: Moment(at), embedded: None, links };
    serde_json::to_string(&envelope).unwrap_or_default()
}

/// The type that an event is told as, and the status of the payout then: a return is a failure. `None` for what has no word.
#[must_use]
pub const fn told_as(kind: EventType) -> Option<(EventType, Status)> {
    match kind {
        EventType::Initiated => Some((kind, Status::Initiated)),
        EventType::ProcessingAtBank => Some((kind, Status::ProcessingAtBank)),
        EventType::Completed => Some((kind, Status::Completed)),
        EventType::Canceled => Some((kind, Status::Canceled)),
        EventType::Failed | EventType::Returned => Some((EventType::Failed, Status::Failed)),
        EventType::Requested
        | EventType::ApprovalRequired
        | EventType::Scheduled
        | EventType::Inconclusive
        | EventType::Authorised
        | EventType::ReviewRequired
        | EventType::AttemptFailed => None,
    }
}

/// What a subscriber to [`message`]s is told of who asks for these: the types that there is a word for. `None` where it asks for something that there is none for.
#[must_use]
pub fn told_of(types: &EventTypes) -> Option<EventTypes> {
    let told = EventType::ALL.into_iter().filter(|kind| told_as(*kind).is_some());
    match types {
        EventTypes::These(patterns) if !patterns.iter().all(|pattern| told.clone().any(|kind| pattern.matches(kind.name()))) => None,
        EventTypes::All | EventTypes::These(_) => Some(EventTypes::These(told.filter(|kind| types.wants(*kind)).map(Pattern::from).collect())),
    }
}

// === impl Amount, Moment, Link ===

impl Amount {
    /// So many minor units, which may be none or a debt.
    #[must_use]
    pub fn of(minor: i64, currency: Currency) -> Self {
        Self { currency: currency.code(), value: currency.decimal(minor) }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S%:z"))
    }
}

impl Link {
    #[must_use]
    pub const fn to(href: String) -> Self {
        Self { href, r#type: MEDIA_TYPE }
    }
}

// === ids ===

/// The id of a payout, as it is written here.
#[must_use]
pub fn payout_id(id: PayoutId) -> String {
    id.to_string().replacen("po_", "payout_", 1)
}

/// Reads what [`payout_id`] writes.
#[must_use]
pub fn read_payout_id(text: &str) -> Option<PayoutId> {
    format!("po_{}", text.strip_prefix("payout_")?).parse().ok()
}

/// The id of an event, as it is written here.
#[must_use]
pub fn event_id(id: EventId) -> String {
    id.to_string().replacen("ev_", "event_", 1)
}

/// Reads what [`event_id`] writes.
#[must_use]
pub fn read_event_id(text: &str) -> Option<EventId> {
    format!("ev_{}", text.strip_prefix("event_")?).parse().ok()
}

/// The id of a subscription, as it is written here.
#[must_use]
pub fn hook_id(id: SubscriptionId) -> String {
    id.to_string().replacen("sub_", "hook_", 1)
}

/// Reads what [`hook_id`] writes.
#[must_use]
pub fn read_hook_id(text: &str) -> Option<SubscriptionId> {
    format!("sub_{}", text.strip_prefix("hook_")?).parse().ok()
}

fn payout_path(id: PayoutId) -> String {
    format!("/v2/payouts/{}", payout_id(id))
}

fn balance_path(id: BalanceAccountId) -> String {
    format!("/v2/balances/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_times_look_as_in_the_seed() {
        let id: PayoutId = "po_108b18049462e43939ac383bbcce".parse().unwrap();
        assert_eq!(payout_id(id), "payout_108b18049462e43939ac383bbcce");
        assert_eq!(read_payout_id(&payout_id(id)), Some(id));
        for wrong in
            ["po_108b18049462e43939ac383bbcce", "payout_", "payout_po_108b18049462e43939ac383bbcce", "payout_108B18049462e43939ac383bbcce", ""]
        {
            assert_eq!(read_payout_id(wrong), None, "{wrong}");
        }
        let event = EventId::new(id, 7);
        assert_eq!((event_id(event).as_str(), read_event_id(&event_id(event))), ("event_108b18049462e43939ac383bbcce_7", Some(event)));
        let moment = serde_json::to_string(&Moment("2024-03-20T10:13:37.9+01:00".parse().unwrap())).unwrap();
        assert_eq!(moment, "\"2024-03-20T09:13:37+00:00\"");
        let amounts = [(1_000, "EUR", "10.00"), (0, "EUR", "0.00"), (-5, "EUR", "-0.05"), (1_200, "JPY", "1200"), (-1, "BHD", "-0.001")];
        for (minor, currency, value) in amounts {
            assert_eq!(Amount::of(minor, Currency::parse(currency).unwrap()).value, value);
        }
    }

    /// Every code has the sentence of the documentation; only `failed` is without a known reason.
    #[test]
    fn codes_have_messages() {
        for code in ["requested", "initiated", "processing_at_bank", "completed", "canceled", "insufficient_funds", "returned", "invalid_request"] {
            assert_ne!(sentence(code), sentence("failed"), "{code}");
        }
        assert_eq!(serde_json::to_string(&Status::ProcessingAtBank).unwrap(), "\"processing-at-bank\"");
    }
}
