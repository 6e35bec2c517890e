//! A merchant's wish to be told: where, and about what.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::EventType;
use crate::fact::Reason;
use crate::id::{Mode, PartyId, SubscriptionId};
use crate::signature::Secret;

/// Where events of a party go. Its secrets are kept apart, encrypted ([`Secrets`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub party: PartyId,
    pub mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub url: String,
    pub event_types: EventTypes,
    pub created_at: Timestamp,
    pub status: Status,
    /// Counts the changes, from 1; a worker that holds an older one reads again.
    pub version: u64,
}

/// Which events a subscription wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventTypes {
    All,
    These(BTreeSet<EventType>),
}

/// Whether a subscription is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Status {
    Enabled,
    /// New events make no deliveries; open deliveries are abandoned when their turn comes.
    Disabled {
        reason: Reason,
        at: Timestamp,
    },
}

/// The signing secrets of a subscription, newest first. Stored encrypted, never in the record. The older one signs too until it expires.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(Vec<Slot>);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Slot {
    #[serde(with = "secret_text")]
    secret: Secret,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

// === impl EventTypes ===

impl EventTypes {
    /// The form that the commit script matches: `*`, or the names with a comma on both sides of each.
    #[must_use]
    pub fn to_filter(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::These(kinds) => kinds.iter().fold(String::from(","), |text, kind| text + kind.name() + ","),
        }
    }
}

// === impl Secrets ===

impl Secrets {
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self(vec![Slot { secret, until: None }])
    }

    /// Puts a new secret in front. The one before it goes on signing until `overlap_until`; all older ones end now.
    #[must_use]
    pub fn rotated(&self, secret: Secret, overlap_until: Timestamp) -> Self {
        let older = self.0.first().map(|slot| Slot { secret: slot.secret.clone(), until: Some(overlap_until) });
        Self([Slot { secret, until: None }].into_iter().chain(older).collect())
    }

    /// The secrets that sign at this time, newest first. Never empty.
    #[must_use]
    pub fn valid_at(&self, now: Timestamp) -> Vec<Secret> {
        self.0.iter().filter(|slot| slot.until.is_none_or(|until| now < until)).map(|slot| slot.secret.clone()).collect()
    }

    /// When [`valid_at`](Self::valid_at) will next give another answer by itself: the end of an overlap. `None` if there is none ahead.
    #[must_use]
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.iter().filter_map(|slot| slot.until).filter(|until| now < *until).min()
    }
}

/// A secret as its `whsec_` text; only for the encrypted form.
mod secret_text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::signature::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&secret.to_text())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Secret, D::Error> {
        Secret::parse(&String::deserialize(input)?).map_err(serde::de::Error::custom)
    }
}
