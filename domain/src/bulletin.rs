//! What a party is told that is no payout's: how its subscriptions fare, and what did not add up. Each party has a bulletin per mode, whose events are numbered without gaps,
//! signed, ordered and delivered like those of a payout. A subscription gets them only where it names them, or their family: `webhook.*`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use crate::fact::{Provider, Reason};
use crate::id::{Mode, PartyId, SubscriptionId};

/// The types of these events, as subscriptions name them.
pub const KINDS: [&str; 5] = ["reconciliation.break", "webhook.failing", "webhook.disabled", "webhook.enabled", CHANGED];

/// That a subscription leads elsewhere.
pub const CHANGED: &str = "webhook.changed";

/// One thing that happened. Holds no secret, no address of a subscriber, and nothing of a payout but how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum News {
    /// Our payouts of a day and a provider's list of it differ.
    Break { provider: Provider, day: Date, matched: u64, breaks: BTreeMap<&'static str, u64> },
    /// Nothing has got through to a subscription for long. If that goes on, it is disabled.
    Failing {
        #[serde(flatten)]
        of: Hook,
        failing_since: Timestamp,
        disabled_at: Timestamp,
    },
    /// A subscription is not served any more.
    Disabled {
        #[serde(flatten)]
        of: Hook,
        reason: Reason,
    },
    /// A subscription that was disabled is served again.
    Enabled {
        #[serde(flatten)]
        of: Hook,
    },
    /// A subscription leads elsewhere.
    Changed {
        #[serde(flatten)]
        of: Hook,
        changed: &'static [&'static str],
    },
}

/// Of which subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hook {
    pub subscription_id: SubscriptionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl News {
    /// Its event type.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Break { .. } => KINDS[0],
            Self::Failing { .. } => KINDS[1],
            Self::Disabled { .. } => KINDS[2],
            Self::Enabled { .. } => KINDS[3],
            Self::Changed { .. } => CHANGED,
        }
    }

    /// The JSON that is signed and sent, as the event of that number.
    #[must_use]
    pub fn body(&self, party: &PartyId, mode: Mode, sequence: u32, at: Timestamp) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'static str,
            timestamp: Timestamp,
            data: Data<'a>,
        }
        #[derive(Serialize)]
        struct Data<'a> {
            party_id: &'a PartyId,
            mode: Mode,
            sequence: u32,
            #[serde(flatten)]
            news: &'a News,
        }
        let body = Body { r#type: self.kind(), timestamp: at, data: Data { party_id: party, mode, sequence, news: self } };
        serde_json::to_string(&body).expect("an event body has string keys only, so it is always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Shard;

    #[test]
    fn a_body_has_the_shape_of_all_events() {
        let of = Hook { subscription_id: SubscriptionId::new(Shard::new(0), [7; 11]), name: None };
        let news = News::Disabled { of, reason: Reason::new("failing") };
        let body = news.body(&PartyId::parse("acme").expect("a party"), Mode::Test, 3, Timestamp::UNIX_EPOCH);
        let expected = r#"{"type":"webhook.disabled","timestamp":"1970-01-01T00:00:00Z","data":{"party_id":"acme","mode":"test","sequence":3,"subscription_id":"sub_000707070707070707070707","reason":"failing"}}"#;
        assert_eq!(body, expected);
    }
}
