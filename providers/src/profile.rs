//! What a provider is like, as data: the decisions of a worker read it, and a route shows it to people.
//!
//! A profile states facts and bounds and decides nothing but [`Profile::may_resend`]. Durations are shown as whole milliseconds.

use domain::fact::Provider;
use domain::money::Currency;
use domain::wait::Polling;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, Serializer};

/// One provider as the worker sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    pub provider: Provider,
    /// The provider's API and its version, for people.
    pub api: &'static str,
    pub key: KeyFormat,
    /// Whether a second request under the same key is recognised instead of carried out.
    pub recognises_duplicates: bool,
    /// How long a key is remembered; `None`: as long as the provider keeps the payout itself.
    #[serde(rename = "retention_ms", serialize_with = "optional_milliseconds")]
    pub retention: Option<SignedDuration>,
    /// Whether an attempt can be looked up by the key that we chose.
    pub looked_up_by_our_key: bool,
    /// How long the provider may answer "not found" to something that it has accepted.
    #[serde(rename = "propagation_ms", serialize_with = "milliseconds")]
    pub propagation: SignedDuration,
    /// Whether "not found", once `send_by` and then `propagation` have passed, proves that nothing was or will be done. If not, it permits a re-send at most.
    pub not_found_is_final: bool,
    /// When to ask about something unresolved, and the bound after which a person decides.
    pub polling: Polling,
    /// The raw statuses after which the provider tells no more, and polling ends without review.
    pub last_words: &'static [&'static str],
    /// Whether a payout can be cancelled at the provider after it was sent.
    pub cancelable: bool,
    /// Whether the provider refuses a payout while an earlier one from the same balance has not begun.
    pub one_open_per_balance: bool,
    /// How many payouts one request can hold; `None` where each needs one of its own. Such a request has its own key: a repeat of it is recognised as
    /// a whole, and none of its payouts by itself.
    pub batch_max: Option<usize>,
    pub amount: AmountFormat,
    pub limits: Limits,
    pub destinations: &'static [&'static str],
    /// What the account pays in, where somebody has said so. Others are refused before dispatch, or go to the next provider.
    pub currencies: Option<Vec<Currency>>,
    pub notices: NoticeProof,
    /// Whether a webhook may name a payout by the provider's own id only. Then those ids are kept in a directory.
    pub told_by_reference: bool,
    /// Whether the provider lists the payouts of a period, so that a day can be reconciled.
    pub lists_payouts: bool,
    /// Whether a 503 means that nothing was processed. If not, it is as ambiguous as any other answer without content.
    pub unavailable_means_unprocessed: bool,
    /// What a payout does beyond moving its amount, for people.
    pub side_effects: &'static [&'static str],
    /// The times of day after which a payout waits for the next business day, for people. Empty: none known.
    pub cut_offs: &'static [&'static str],
}

/// The form of the key that we give an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyFormat {
    /// 36 characters, lower case, with hyphens.
    Uuid,
    /// 32 lower-case hexadecimal digits: a UUID without hyphens.
    Hex,
}

/// How an amount is written to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AmountFormat {
    /// A JSON integer in the currency's minor unit.
    MinorUnits,
    /// A JSON text in the major unit, with exactly as many decimals as the currency has.
    DecimalText,
    /// A JSON number in the currency's major unit, exact.
    DecimalNumber,
}

/// Longest texts, and the shortest reference where one character is too short, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    pub beneficiary_name: usize,
    pub reference: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_min: Option<usize>,
}

/// What makes a provider's webhook believable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeProof {
    /// Signed with a key that the provider publishes: the notice itself is evidence.
    Signature,
    /// Signed with a secret that both sides know: evidence where a secret is configured.
    SharedSecret,
    /// Nothing: a notice is an occasion to look.
    None,
}

/// Values of a profile that configuration may replace, because no document states them or an account differs. Absent means the built-in value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    pub recognises_duplicates: Option<bool>,
    pub retention_ms: Option<u64>,
    pub propagation_ms: Option<u64>,
    /// The waits before the first look, the second, and so on; the last repeats.
    pub polls_ms: Option<Vec<u64>>,
    pub bound_ms: Option<u64>,
    /// At most what the provider takes; less than 2: payouts always go one by one.
    pub batch_max: Option<usize>,
    pub currencies: Option<Vec<Currency>>,
}

impl Profile {
    /// Whether the same bytes may go out again under the same key: only where duplicates are recognised, and within 0.8 of the time that the key is remembered.
    #[must_use]
    pub fn may_resend(&self, first_sent: Timestamp, now: Timestamp) -> bool {
        let remembered = |retention: SignedDuration| {
            let safe = retention.checked_mul(4).map_or(retention, |four| four / 5);
            now.duration_since(first_sent) < safe
        };
        self.recognises_duplicates && self.retention.is_none_or(remembered)
    }

    /// Whether a repeat is recognised however old the first request is.
    #[must_use]
    pub fn recognises_for_ever(&self) -> bool {
        self.recognises_duplicates && self.retention.is_none()
    }

    /// The profile with the configured values in place of the built-in ones.
    #[must_use]
    pub fn with(mut self, overrides: &Overrides) -> Self {
        let Overrides { recognises_duplicates, retention_ms, propagation_ms, polls_ms, bound_ms, batch_max, currencies } = overrides;
        if let Some(value) = recognises_duplicates {
            self.recognises_duplicates = *value;
        }
        if let Some(value) = retention_ms {
            self.retention = Some(from_milliseconds(*value));
        }
        if let Some(value) = propagation_ms {
            self.propagation = from_milliseconds(*value);
        }
        if let Some(values) = polls_ms {
            self.polling.waits = values.iter().copied().map(from_milliseconds).collect();
        }
        if let Some(value) = bound_ms {
            self.polling.bound = from_milliseconds(*value);
        }
        if let Some(value) = batch_max {
            self.batch_max = self.batch_max.map(|most| most.min(*value)).filter(|most| *most > 1);
        }
        if currencies.is_some() {
            self.currencies.clone_from(currencies);
        }
        self
    }
}

fn from_milliseconds(value: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(value).unwrap_or(i64::MAX))
}

fn milliseconds<S: Serializer>(value: &SignedDuration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i128(value.as_millis())
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn optional_milliseconds<S: Serializer>(value: &Option<SignedDuration>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|value| value.as_millis()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a timestamp")
    }

    #[test]
    fn a_resend_needs_recognition_and_time() {
        let profile = crate::truelayer::profile();
        assert!(profile.may_resend(at(0), at(1_000_000)), "remembered as long as the payout");
        let hour = profile.clone().with(&Overrides { retention_ms: Some(3_600_000), ..Overrides::default() });
        assert!(hour.may_resend(at(0), at(2879)));
        assert!(!hour.may_resend(at(0), at(2880)));
        let unrecognised = profile.with(&Overrides { recognises_duplicates: Some(false), ..Overrides::default() });
        assert!(!unrecognised.may_resend(at(0), at(0)));
    }

    #[test]
    fn the_profile_is_shown_in_milliseconds() {
        let overrides: Overrides = serde_json::from_str(r#"{"propagation_ms": 5, "polls_ms": [1, 2], "bound_ms": 30}"#).expect("reads");
        let shown = serde_json::to_value(crate::truelayer::profile().with(&overrides)).expect("serialises");
        assert_eq!(shown["propagation_ms"], 5);
        assert_eq!(shown["polling"], serde_json::json!({"waits_ms": [1, 2], "bound_ms": 30}));
        assert_eq!(shown["retention_ms"], serde_json::Value::Null);
        assert_eq!(shown["provider"], "truelayer");
        assert_eq!(shown["limits"], serde_json::json!({"beneficiary_name": 18, "reference": 18}));
        let shown = serde_json::to_value(crate::truelayer::profile()).expect("serialises");
        assert_eq!(shown["polling"]["waits_ms"], serde_json::json!([1000, 5000, 30_000, 120_000, 600_000, 1_800_000]));
        assert!(serde_json::from_str::<Overrides>(r#"{"bound": 1}"#).is_err());
    }
}
