//! The ways in which the sandbox can misbehave on purpose. A payout has one mood, decided when its `transaction_id` is seen for the first time.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::sandbox::draw;

/// How the sandbox treats one payout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mood {
    #[default]
    Plain,
    LostAnswer,
    SlowAnswer,
    ErrorBefore,
    ErrorAfter,
    LateAppear,
    DuplicateNotices,
    ShuffledNotices,
    BadSignature,
    NoNotices,
    Reject,
    Refuse,
    Fail,
    Return,
    RateLimit,
    Stuck,
}

impl Mood {
    /// Every mood. The place in this list is the last digits of its magic amount.
    pub const ALL: [Self; 16] = [
        Self::Plain,
        Self::LostAnswer,
        Self::SlowAnswer,
        Self::ErrorBefore,
        Self::ErrorAfter,
        Self::LateAppear,
        Self::DuplicateNotices,
        Self::ShuffledNotices,
        Self::BadSignature,
        Self::NoNotices,
        Self::Reject,
        Self::Refuse,
        Self::Fail,
        Self::Return,
        Self::RateLimit,
        Self::Stuck,
    ];

    /// The amount of [`Mood::Plain`] in minor units; the other moods follow, one unit apart.
    pub const FIRST_AMOUNT: i64 = 10_000;

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::LostAnswer => "lost-answer",
            Self::SlowAnswer => "slow-answer",
            Self::ErrorBefore => "error-before",
            Self::ErrorAfter => "error-after",
            Self::LateAppear => "late-appear",
            Self::DuplicateNotices => "duplicate-notices",
            Self::ShuffledNotices => "shuffled-notices",
            Self::BadSignature => "bad-signature",
            Self::NoNotices => "no-notices",
            Self::Reject => "reject",
            Self::Refuse => "refuse",
            Self::Fail => "fail",
            Self::Return => "return",
            Self::RateLimit => "rate-limit",
            Self::Stuck => "stuck",
        }
    }

    /// One sentence for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Plain => "Accepted, authorised, submitted, settled, with one notice each.",
            Self::LostAnswer => "The first create is carried out, then the connection is dropped without an answer.",
            Self::SlowAnswer => "The first create is carried out and answered with 202 after slow_answer_ms.",
            Self::ErrorBefore => "The first create is answered with 500 and not carried out; the next one is.",
            Self::ErrorAfter => "The first create is carried out and answered with 500.",
            Self::LateAppear => {
                "The first create is carried out and its connection dropped; for late_appear_ms GET answers 404 and no notice is sent."
            }
            Self::DuplicateNotices => "Every notice is delivered twice.",
            Self::ShuffledNotices => "Notices are held back until the payout has ended, then sent last first.",
            Self::BadSignature => "Before each notice comes a forged one that says the payout failed.",
            Self::NoNotices => "No notice is ever sent.",
            Self::Reject => "Accepted with 202, then rejected for insufficient_funds; no money moves.",
            Self::Refuse => "Every create is answered with 400 validation_error and not carried out.",
            Self::Fail => "Authorised, submitted, then failed with scheme_error; the money goes back.",
            Self::Return => "Settled, and returned after return_after_ms: status failed with the code returned, notice payout_returned (ASSUMED).",
            Self::RateLimit => "The first create is answered with 429 and Retry-After, and not carried out; the next one is.",
            Self::Stuck => "Stays submitted until somebody advances it.",
        }
    }

    /// The mood that an amount asks for: [`Mood::FIRST_AMOUNT`] and the fifteen above it.
    #[must_use]
    pub fn of_amount(minor: i64) -> Option<Self> {
        let index = usize::try_from(minor.checked_sub(Self::FIRST_AMOUNT)?).ok()?;
        Self::ALL.get(index).copied()
    }

    /// The mood that a reference asks for: `MOOD ` and the beginning of a name that fits no other, so that the long names fit into 18 characters.
    #[must_use]
    pub fn of_reference(reference: &str) -> Option<Self> {
        let name = reference.strip_prefix("MOOD ")?.trim();
        let mut fitting = Self::ALL.into_iter().filter(|mood| mood.name().starts_with(name));
        match (fitting.next(), fitting.next()) {
            (Some(mood), None) if !name.is_empty() => Some(mood),
            _ => None,
        }
    }
}

/// Moods drawn at random, the same for the same seed and the same `transaction_id`, whatever the order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Of a hundred payouts, about so many get a mood other than plain.
    pub fault_percent: u8,
    pub seed: u64,
    /// What is drawn from. By default every mood but plain and stuck, which never ends by itself.
    #[serde(default = "Distribution::usual")]
    pub moods: Vec<Mood>,
}

impl Distribution {
    fn usual() -> Vec<Mood> {
        Mood::ALL.into_iter().filter(|mood| !matches!(mood, Mood::Plain | Mood::Stuck)).collect()
    }

    /// The mood of that payout.
    #[must_use]
    pub fn draw(&self, transaction_id: Uuid) -> Mood {
        draw::one_of(&self.moods, self.fault_percent, self.seed, transaction_id.as_bytes()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moods_are_found_by_amount_name_and_reference() {
        for (index, mood) in Mood::ALL.into_iter().enumerate() {
            assert_eq!(Mood::of_amount(10_000 + i64::try_from(index).expect("small")), Some(mood));
            assert_eq!(serde_json::to_value(mood).expect("serialises"), mood.name());
            let reference: String = format!("MOOD {}", mood.name()).chars().take(18).collect();
            assert_eq!(Mood::of_reference(&reference), Some(mood), "{reference}");
        }
        assert_eq!(Mood::of_amount(9_999), None);
        assert_eq!(Mood::of_amount(10_016), None);
        assert_eq!(Mood::of_amount(i64::MIN), None);
        for reference in ["MOOD ", "MOOD re", "MOOD unknown", "lost-answer", "mood fail"] {
            assert_eq!(Mood::of_reference(reference), None, "{reference}");
        }
    }

    #[test]
    fn a_distribution_depends_on_seed_and_id_only() {
        let draw = |fault_percent, seed| {
            let distribution = Distribution { fault_percent, seed, moods: Distribution::usual() };
            (0..1000).map(|id| distribution.draw(Uuid::from_u128(id))).collect::<Vec<_>>()
        };
        assert_eq!(draw(30, 7), draw(30, 7));
        assert_ne!(draw(30, 7), draw(30, 8));
        let faults = draw(30, 7).iter().filter(|mood| **mood != Mood::Plain).count();
        assert!((250..350).contains(&faults), "{faults}");
        assert!(draw(0, 7).iter().all(|mood| *mood == Mood::Plain));
        assert!(draw(100, 7).iter().all(|mood| *mood != Mood::Plain));
    }
}
