//! How a payout looks from outside: seed 003's fields, the timestamps of the states that it has been in, and what we know beyond that.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::destination::{Beneficiary, Destination};
use domain::fact::{Provider, ProviderReference, Reason};
use domain::id::{Mode, PartyId, PayoutId};
use domain::instrument::InstrumentReference;
use domain::metadata::Metadata;
use domain::money::Money;
use domain::payout::Payout;
use domain::payout::rule::RuleMet;
use domain::payout::state::{Cause, Clash, State, StateName};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Serialize, Serializer};

/// A payout as JSON. Holds the beneficiary, so it is for answers only.
#[derive(Serialize)]
pub struct PayoutView<'a> {
    transaction_id: &'a str,
    payout_id: PayoutId,
    /// Of the batch that asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_id: Option<&'a str>,
    /// The key of the payout that it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<&'a str>,
    /// `schedule`, if that of its balance account opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    initiated_by: Option<&'static str>,
    /// The due date that it then bears.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_date: Option<Date>,
    party_id: &'a PartyId,
    mode: Mode,
    status: StateName,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    review_cause: Option<String>,
    /// `requested_at` and so on: one for each state that was reached.
    #[serde(flatten)]
    timestamps: BTreeMap<&'static str, Moment>,
    /// Until when it can be approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    approve_by: Option<Moment>,
    /// The rule of the platform that has asked for an approval, or has refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a RuleMet>,
    /// Where the first dispatch did not get through: when the next one is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Moment>,
    /// Where it was taken from a payout instrument: that one, and its holder and its account as it shows them itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    payout_instrument_reference: Option<&'a InstrumentReference>,
    beneficiary_name: Cow<'a, str>,
    #[serde(flatten)]
    destination: DestinationView<'a>,
    beneficiary_reference: &'a str,
    /// Absent as long as a whole balance is to be paid out and is not fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_in_minor: Option<i64>,
    currency: &'static str,
    context_code: &'a str,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: &'a Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<Provider>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_reference: Option<&'a ProviderReference>,
    attempts: usize,
    /// The provider is to be asked to cancel it, and has not said yes or no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancel_requested: bool,
}

#[derive(Serialize)]
enum DestinationView<'a> {
    #[serde(rename = "beneficiary_iban")]
    Iban(&'a str),
    #[serde(rename = "beneficiary_account")]
    Account { sort_code: &'a str, account_number: &'a str },
    /// Cards, accounts elsewhere, those of payout instruments and the balance's own account, as a person may see them: `…1234`, `own account`.
    #[serde(rename = "beneficiary_masked")]
    Masked(String),
}

/// A time as seed 003 writes it, with seven digits after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.7}", self.0))
    }
}

impl<'a> PayoutView<'a> {
    #[must_use]
    pub fn new(payout: &'a Payout, beneficiary: &'a Beneficiary) -> Self {
        let mut timestamps: BTreeMap<_, _> = payout.timestamps().into_iter().map(|(state, at)| (state.timestamp_field(), Moment(at))).collect();
        if let Some(at) = payout.scheduled_for {
            // The caller's own wish, not a later day on which we had to try again.
            timestamps.insert(StateName::Scheduled.timestamp_field(), Moment(at));
        } else {
            timestamps.remove(StateName::Scheduled.timestamp_field());
        }
        let attempt = payout.attempt();
        // Callers are shown what they have said themselves.
        let is_callers = beneficiary.instrument.is_none();
        Self {
            transaction_id: &payout.transaction_id,
            payout_id: payout.id,
            batch_id: payout.batch_id.as_deref(),
            replaces: payout.replaces.as_deref(),
            initiated_by: payout.initiated_by(),
            due_date: payout.due_date,
            party_id: &payout.party,
            mode: payout.mode,
            status: payout.state.name(),
            reason: payout.state.reason(),
            review_cause: if let State::InReview { cause } = &payout.state { Some(word(cause)) } else { None },
            timestamps,
            approve_by: if let State::AwaitingApproval { until } = &payout.state { Some(Moment(*until)) } else { None },
            rule: payout.rule.as_ref(),
            next_attempt_at: if let (State::Scheduled { until }, Some(_)) = (&payout.state, attempt) { Some(Moment(*until)) } else { None },
            payout_instrument_reference: beneficiary.instrument.as_ref(),
            beneficiary_name: if is_callers { beneficiary.name.as_str().into() } else { beneficiary.name.masked().into() },
            destination: match &beneficiary.destination {
                Destination::Iban(iban) if is_callers => DestinationView::Iban(iban.as_str()),
                Destination::UkAccount { sort_code, account_number } if is_callers => {
                    DestinationView::Account { sort_code: sort_code.as_str(), account_number: account_number.as_str() }
                }
                other @ (Destination::Iban(_)
                | Destination::UkAccount { .. }
                | Destination::UsAccount { .. }
                | Destination::Card { .. }
                | Destination::CardToken(_)
                | Destination::NetworkToken { .. }
                | Destination::ApplePay { .. }
                | Destination::OwnAccount) => DestinationView::Masked(other.masked()),
            },
            beneficiary_reference: beneficiary.reference.as_str(),
            amount_in_minor: payout.amount.exact().map(Money::minor),
            currency: payout.amount.currency().code(),
            context_code: &payout.context_code,
            metadata: &payout.metadata,
            provider: attempt.map(|attempt| attempt.provider).or_else(|| payout.route.first().copied()),
            provider_status: attempt.and_then(|attempt| attempt.provider_status.as_deref()),
            provider_reference: attempt.and_then(|attempt| attempt.reference.as_ref()),
            attempts: payout.attempts.len(),
            cancel_requested: payout.cancel_asked.is_some(),
        }
    }
}

/// The cause of a review in one word.
#[must_use]
pub fn word(cause: &Cause) -> String {
    let clash = |clash: &Clash| serde_json::to_value(clash).ok().and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default();
    match cause {
        Cause::Unresolved => "unresolved".to_owned(),
        Cause::Stuck => "stuck".to_owned(),
        Cause::Clash(what) => clash(what),
    }
}

/// An answer with a JSON body.
#[must_use]
pub fn answer<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let mut text = Vec::with_capacity(2_048);
    serde_json::to_writer(&mut text, body).expect("answers have string keys only, so they are always JSON");
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

/// An answer in the envelope of seed 003.
#[must_use]
pub fn result<T: Serialize>(status: StatusCode, body: &T) -> Response {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        result: &'a T,
    }
    answer(status, &Envelope { result: body })
}

/// Adds a header whose value is known to be one.
pub fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_seven_digits() {
        let moment = |text: &str| serde_json::to_string(&Moment(text.parse().unwrap())).unwrap();
        assert_eq!(moment("2019-10-01T17:00:00Z"), "\"2019-10-01T17:00:00.0000000Z\"");
        assert_eq!(moment("2019-10-01T19:00:00.123456789+02:00"), "\"2019-10-01T17:00:00.1234567Z\"");
    }

    #[test]
    fn causes_are_words() {
        assert_eq!(word(&Cause::Unresolved), "unresolved");
        assert_eq!(word(&Cause::Clash(Clash::KeyConflict)), "key_conflict");
    }
}
