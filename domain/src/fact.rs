//! What happened, whoever told us: the words that connectors, notices, the clock and operators speak to [`crate::payout`].
//!
//! A connector speaks in [`Answer`] (to a send) and [`Look`] (to a question about the state of a send); a worker adds which attempt and
//! which send it was about, and the result is a [`crate::payout::Fact`].

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::ProviderKey;
use crate::money::Money;

/// A provider that this build knows. The list is closed: adding a provider is adding a variant, and the compiler lists the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// TrueLayer Payouts API, version 1.
    Truelayer,
    /// TrueLayer Payments API, version 3: its payouts.
    #[serde(rename = "truelayer-v3")]
    TruelayerV3,
    /// Worldpay Access, payouts to bank accounts.
    WorldpayAccount,
    /// Worldpay Access, payouts to cards.
    WorldpayCard,
    /// Mollie, payouts of a balance to its own account.
    Mollie,
}

impl Provider {
    /// Every provider, in the order in which pages list them.
    pub const ALL: [Self; 5] = [Self::Truelayer, Self::TruelayerV3, Self::WorldpayAccount, Self::WorldpayCard, Self::Mollie];

    /// The name in URLs, configuration, metrics and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truelayer => "truelayer",
            Self::TruelayerV3 => "truelayer-v3",
            Self::WorldpayAccount => "worldpay-account",
            Self::WorldpayCard => "worldpay-card",
            Self::Mollie => "mollie",
        }
    }

    /// The provider of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }
}

/// Why money did not move, or came back: a short lower-case code such as `insufficient_funds`. Never free text of a provider, which may hold personal data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reason(String);

impl Reason {
    /// Keeps letters, digits, `_`, `-` and `.` of the first 64 characters, in lower case; everything else becomes `_`. An empty code becomes `unspecified`.
    #[must_use]
    pub fn new(code: &str) -> Self {
        let code: String = code
            .trim()
            .chars()
            .take(64)
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c.to_ascii_lowercase() } else { '_' })
            .collect();
        Self(if code.is_empty() { "unspecified".to_owned() } else { code })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An id that the provider made. Not to be confused with [`ProviderKey`], which is ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProviderReference(pub String);

/// What a provider says about an attempt that it knows, in our words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Status {
    /// Accepted by the provider; money is committed.
    Authorised,
    /// At the bank or in the scheme.
    Submitted,
    /// Arrived, as far as the provider can tell.
    Settled,
    /// Refused by the provider before it did anything with the money.
    Rejected { reason: Reason },
    /// Did not move, after the provider had accepted it.
    Failed { reason: Reason },
    /// Moved and came back.
    Returned { reason: Reason },
    /// Cancelled at the provider before money moved.
    Canceled { reason: Reason },
    /// A word that the connector does not know. Kept and counted, never guessed.
    Unmapped,
}

/// A provider's statement about one attempt, from a poll, an answer or a verified notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub status: Status,
    /// The provider's own word, for people.
    pub provider_status: String,
    /// When it happened by the provider's clock, where the provider says so.
    pub at: Option<Timestamp>,
    pub reference: Option<ProviderReference>,
    /// The amount that the provider holds for our key, where it says so: must be ours.
    pub amount: Option<Money>,
}

/// How one send of a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No byte of the request left: DNS, connect, TLS, pool wait, or `send_by` had passed.
    NotSent { why: Reason },
    /// The provider answered that it did not process the request (429, 401, 403). The same attempt and key may go again.
    Unprocessed { why: Reason, retry_after: Option<SignedDuration> },
    /// **Ambiguous**: bytes left, and no usable answer came. Also any status that the connector does not know.
    NoAnswer { why: Reason },
    /// A documented refusal: the provider will not do this.
    Refused { reason: Reason },
    /// Our key is known there with other content.
    KeyConflict,
    /// The provider took it, or already had it.
    Says(Report),
}

/// How a question about the state of an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    Found(Report),
    /// The provider does not know our key *now*. Not a proof that it never will.
    NotFound,
    /// The question itself failed.
    Nothing {
        why: Reason,
    },
}

/// Which of our attempts a notice speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// By our key, which leads to the attempt by itself.
    Key(ProviderKey),
    /// By the provider's own id, which only a directory leads from.
    Reference(ProviderReference),
}

/// What a verified notice says about which of our attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub about: About,
    pub report: Report,
}

/// Money that a provider says has come into an account that it keeps for the platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deposit {
    /// The provider's own name of that account.
    pub account: String,
    /// The provider's id of the movement, and the key of the top-up that comes of it. The same in every notice about it.
    pub transaction_id: Uuid,
    pub money: Money,
}

/// Who told us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A worker, about its own doing.
    Worker,
    /// The provider's answer to a send.
    Answer,
    /// The provider's answer to a question.
    Poll,
    /// A verified notice of the provider.
    Notice,
    /// Time passed.
    Clock,
    /// The owner of the payout, through the API.
    Caller,
    /// A person with the operator scope.
    Operator,
}
