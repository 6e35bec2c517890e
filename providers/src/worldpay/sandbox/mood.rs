//! The ways in which the sandbox can misbehave on purpose. A payout has one mood, decided when its key is seen for the first time.

use serde::{Deserialize, Serialize};

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
    Unauthorised,
    Forbidden,
    Interim,
    Inconclusive,
    Vanished,
    Silent,
}

impl Mood {
    /// Every mood. The place in this list is the last digits of its magic amount; the first sixteen are those of the other sandboxes.
    pub const ALL: [Self; 22] = [
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
        Self::Unauthorised,
        Self::Forbidden,
        Self::Interim,
        Self::Inconclusive,
        Self::Vanished,
        Self::Silent,
    ];

    /// The amount of [`Mood::Plain`] in minor units; the other moods follow, one unit apart.
    pub const FIRST_AMOUNT: i64 = 9_100_000;

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
            Self::Unauthorised => "unauthorised",
            Self::Forbidden => "forbidden",
            Self::Interim => "interim",
            Self::Inconclusive => "inconclusive",
            Self::Vanished => "vanished",
            Self::Silent => "silent",
        }
    }

    /// One sentence for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Plain => "Accepted, and paid, with the notices that this brings.",
            Self::LostAnswer => "The first create is carried out, then the connection is dropped without an answer.",
            Self::SlowAnswer => "The first create is carried out and answered after slow_answer_ms.",
            Self::ErrorBefore => "The first create is answered with 500 and not carried out; the next one is.",
            Self::ErrorAfter => "The first create is carried out and answered with 500.",
            Self::LateAppear => {
                "The first create is carried out and its connection dropped; for late_appear_ms nothing shows it, and no notice is sent."
            }
            Self::DuplicateNotices => "Every notice is delivered twice.",
            Self::ShuffledNotices => "Notices are held back until the payout has ended, then sent last first.",
            Self::BadSignature => "Before each notice comes one with a forged signature that says that the payout failed.",
            Self::NoNotices => "No notice is ever sent.",
            Self::Reject => "To an account: accepted, then INVALID. To a card: answered with 201 and the outcome refused. No money moves.",
            Self::Refuse => "Every create is answered with 400 bodyDoesNotMatchSchema and not carried out.",
            Self::Fail => "To an account: EXECUTED, then FAILED. To a card: pending, then refused. The money goes back.",
            Self::Return => {
                "To an account: COMPLETED, and after return_after_ms REVERSED. To a card, basic: refunded, then refundFailed; fast: as plain."
            }
            Self::RateLimit => "The first create is answered with 429 and Retry-After, and not carried out; the next one is.",
            Self::Stuck => "To an account: stays EXECUTED. To a card: stays pending, or requestReceived. Until somebody advances it.",
            Self::Unauthorised => "The first create is answered with 401, and not carried out; the next one is.",
            Self::Forbidden => "The first create is answered with 403, and not carried out; the next one is.",
            Self::Interim => "To an account: passes through every hold and the interim state REJECTED first. To a card: inReview, then approved.",
            Self::Inconclusive => {
                "To a card: carried out and answered with queryRequired, from v4 with checkOutcome; known after late_appear_ms. To an account: as error-after."
            }
            Self::Vanished => {
                "To a card: answered with queryRequired or checkOutcome and not carried out; later payoutNotFound, from v4 404. To an account: 500 once, not carried out."
            }
            Self::Silent => {
                "To a card, fast: requested, pending, and after silent_after_ms, which stands for 48 hours, error. To an account: as stuck."
            }
        }
    }

    /// The mood that an amount asks for: [`Mood::FIRST_AMOUNT`] and those above it.
    #[must_use]
    pub fn of_amount(minor: i64) -> Option<Self> {
        let index = usize::try_from(minor.checked_sub(Self::FIRST_AMOUNT)?).ok()?;
        Self::ALL.get(index).copied()
    }

    /// The mood that a narrative or a name asks for: `MOOD ` and its name. No name is too long for any field.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        let name = text.strip_prefix("MOOD ")?;
        Self::ALL.into_iter().find(|mood| mood.name() == name)
    }
}

/// Moods drawn at random, the same for the same seed and the same key, whatever the order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Of a hundred payouts, about so many get a mood other than plain.
    pub fault_percent: u8,
    pub seed: u64,
    /// What is drawn from. By default every mood but plain and those which never end by themselves.
    #[serde(default = "Distribution::usual")]
    pub moods: Vec<Mood>,
}

impl Distribution {
    fn usual() -> Vec<Mood> {
        Mood::ALL.into_iter().filter(|mood| !matches!(mood, Mood::Plain | Mood::Stuck | Mood::Silent)).collect()
    }

    /// The mood of that payout.
    #[must_use]
    pub fn draw(&self, key: &str) -> Mood {
        draw::one_of(&self.moods, self.fault_percent, self.seed, key.as_bytes()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moods_are_found_by_amount_and_text() {
        for (index, mood) in Mood::ALL.into_iter().enumerate() {
            assert_eq!(Mood::of_amount(9_100_000 + i64::try_from(index).expect("small")), Some(mood));
            assert_eq!(serde_json::to_value(mood).expect("serialises"), mood.name());
            let text = format!("MOOD {}", mood.name());
            assert!((6..=24).contains(&text.len()), "{text} fits into a narrative");
            assert_eq!(Mood::of_text(&text), Some(mood));
        }
        assert_eq!((Mood::of_amount(9_099_999), Mood::of_amount(9_100_022), Mood::of_amount(i64::MIN)), (None, None, None));
        assert_eq!((Mood::of_text("MOOD "), Mood::of_text("MOOD re"), Mood::of_text("fail")), (None, None, None));
        let distribution = Distribution { fault_percent: 100, seed: 1, moods: Distribution::usual() };
        assert!((0..200).all(|key| !matches!(distribution.draw(&key.to_string()), Mood::Plain | Mood::Stuck | Mood::Silent)));
    }
}
