//! The ways in which a sandbox can misbehave on purpose, the same at every provider as far as they exist there. A payout has one mood, decided when its key
//! is seen for the first time.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::sandbox::draw;

/// How a sandbox treats one payout.
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
    /// Every mood. The place in this list is the last digits of its magic amount.
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

    /// The moods that exist at every provider: the first sixteen.
    pub const COMMON: &'static [Self] = Self::ALL.split_at(16).0;

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
            Self::Unauthorised => "unauthorised",
            Self::Forbidden => "forbidden",
            Self::Interim => "interim",
            Self::Inconclusive => "inconclusive",
            Self::Vanished => "vanished",
            Self::Silent => "silent",
        }
    }

    /// One sentence for people. The states are named in the words of TrueLayer v1; each provider has its own for them.
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
            Self::BadSignature => "Before each notice comes a forged one that says that the payout failed.",
            Self::NoNotices => "No notice is ever sent.",
            Self::Reject => "Accepted, then rejected; no money moves. At Worldpay to a card: answered with 201 and the outcome refused.",
            Self::Refuse => "Every create is answered with a documented refusal (400; at Mollie 422) and not carried out.",
            Self::Fail => "Submitted, then failed; the money goes back.",
            Self::Return => "Settled, and returned after return_after_ms (ASSUMED at TrueLayer v1). At Worldpay by fast access to a card: as plain.",
            Self::RateLimit => "The first create is answered with 429 and Retry-After, and not carried out; the next one is.",
            Self::Stuck => "Stays submitted until somebody advances it.",
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

    /// The magic amount of this mood, in minor units.
    #[must_use]
    pub fn amount(self) -> i64 {
        Self::ALL.into_iter().zip(Self::FIRST_AMOUNT..).find(|(mood, _)| *mood == self).map_or(Self::FIRST_AMOUNT, |(_, amount)| amount)
    }

    /// The mood that an amount asks for: [`Mood::FIRST_AMOUNT`] and those above it.
    #[must_use]
    pub fn of_amount(minor: i64) -> Option<Self> {
        let index = usize::try_from(minor.checked_sub(Self::FIRST_AMOUNT)?).ok()?;
        Self::ALL.get(index).copied()
    }

    /// The mood that a reference or a name asks for: `MOOD ` and the beginning of a name that fits no other, so that the long names fit into 18 characters.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        let name = text.strip_prefix("MOOD ")?.trim();
        let mut fitting = Self::ALL.into_iter().filter(|mood| mood.name().starts_with(name));
        match (fitting.next(), fitting.next()) {
            (Some(mood), None) if !name.is_empty() => Some(mood),
            _ => None,
        }
    }
}

/// Moods drawn at random, the same for the same seed and the same key, whatever the order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Of a hundred payouts, about so many get a mood other than plain.
    pub fault_percent: u8,
    pub seed: u64,
    /// What is drawn from, as far as it exists at the provider. By default every mood but plain and those which never end by themselves.
    #[serde(default = "Distribution::usual")]
    pub moods: Vec<Mood>,
}

impl Distribution {
    /// The moods of payouts that end by themselves.
    #[must_use]
    pub fn usual() -> Vec<Mood> {
        Mood::ALL.into_iter().filter(|mood| !matches!(mood, Mood::Plain | Mood::Stuck | Mood::Silent)).collect()
    }

    /// The mood of the payout with that key, at a provider where these moods exist.
    #[must_use]
    pub fn draw(&self, key: &[u8], existing: &[Mood]) -> Mood {
        let moods: Vec<Mood> = self.moods.iter().copied().filter(|mood| existing.contains(mood)).collect();
        draw::one_of(&moods, self.fault_percent, self.seed, key).unwrap_or_default()
    }
}

/// What decides about new payouts: what they ask for themselves, then what was ordered for the next ones, then chance.
pub(crate) struct Chooser {
    existing: &'static [Mood],
    /// Whether amounts and texts choose.
    magic: bool,
    ordered: VecDeque<(u32, Mood)>,
    random: Option<Distribution>,
}

impl Chooser {
    pub(crate) const fn new(existing: &'static [Mood], magic: bool, random: Option<Distribution>) -> Self {
        Self { existing, magic, ordered: VecDeque::new(), random }
    }

    pub(crate) fn choose(&mut self, key: &[u8], texts: &[&str], minor: i64) -> Mood {
        let asked = || texts.iter().find_map(|text| Mood::of_text(text)).or_else(|| Mood::of_amount(minor));
        if let Some(mood) = self.magic.then(asked).flatten().filter(|mood| self.existing.contains(mood)) {
            return mood;
        }
        while let Some((count, mood)) = self.ordered.front_mut() {
            let mood = *mood;
            if let Some(rest) = count.checked_sub(1) {
                *count = rest;
                return mood;
            }
            self.ordered.pop_front();
        }
        self.random.as_ref().map_or(Mood::Plain, |random| random.draw(key, self.existing))
    }

    /// The next `count` payouts get that mood, after those of earlier orders.
    pub(crate) fn order(&mut self, count: u32, mood: Mood) {
        self.ordered.push_back((count, mood));
    }

    pub(crate) fn randomly(&mut self, random: Option<Distribution>) {
        self.random = random;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn moods_are_found_by_amount_name_and_text() {
        for (index, mood) in Mood::ALL.into_iter().enumerate() {
            let amount = 10_000 + i64::try_from(index).expect("small");
            assert_eq!((Mood::of_amount(amount), mood.amount()), (Some(mood), amount));
            assert_eq!(serde_json::to_value(mood).expect("serialises"), mood.name());
            let text: String = format!("MOOD {}", mood.name()).chars().take(18).collect();
            assert!(text.len() >= 6, "{text} is long enough for every provider");
            assert_eq!(Mood::of_text(&text), Some(mood), "{text}");
        }
        assert_eq!((Mood::of_amount(9_999), Mood::of_amount(10_022), Mood::of_amount(i64::MIN)), (None, None, None));
        for text in ["MOOD ", "MOOD re", "MOOD unknown", "lost-answer", "mood fail"] {
            assert_eq!(Mood::of_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_distribution_depends_on_seed_and_key_only() {
        let draw = |fault_percent, seed| {
            let distribution = Distribution { fault_percent, seed, moods: Distribution::usual() };
            (0..1000).map(|id| distribution.draw(Uuid::from_u128(id).as_bytes(), Mood::COMMON)).collect::<Vec<_>>()
        };
        assert_eq!(draw(30, 7), draw(30, 7));
        assert_ne!(draw(30, 7), draw(30, 8));
        let faults = draw(30, 7).iter().filter(|mood| **mood != Mood::Plain).count();
        assert!((250..350).contains(&faults), "{faults}");
        assert!(draw(0, 7).iter().all(|mood| *mood == Mood::Plain));
        assert!(draw(100, 7).iter().all(|mood| *mood != Mood::Plain && Mood::COMMON.contains(mood)));
    }

    /// A mood that does not exist at a provider is not asked for there, and whoever asks for nothing gets what was ordered, then what chance says.
    #[test]
    fn what_a_payout_asks_for_comes_first() {
        let random = Distribution { fault_percent: 100, seed: 1, moods: vec![Mood::Fail] };
        let mut chooser = Chooser::new(Mood::COMMON, true, Some(random.clone()));
        chooser.order(1, Mood::Reject);
        assert_eq!(chooser.choose(b"1", &["", "MOOD return"], Mood::Stuck.amount()), Mood::Return, "a text before an amount");
        assert_eq!(chooser.choose(b"2", &[], Mood::Stuck.amount()), Mood::Stuck);
        assert_eq!(chooser.choose(b"3", &["MOOD silent"], Mood::Silent.amount()), Mood::Reject, "not there, so what was ordered");
        assert_eq!(chooser.choose(b"4", &["MOOD silent"], 1), Mood::Fail);
        let mut chooser = Chooser::new(&Mood::ALL, false, None);
        assert_eq!(chooser.choose(b"1", &["MOOD return"], Mood::Stuck.amount()), Mood::Plain, "without magic");
    }
}
