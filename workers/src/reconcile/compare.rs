//! The comparison itself: our payouts of a day against a provider's lines. Pure.
//!
//! A pair belongs to the day on which we first sent it, so that each is told on one day only; a line without a payout of ours belongs to the day of its own time. What lies
//! near the edges of the day is found because both sides are read with a margin.

use std::collections::{BTreeMap, BTreeSet};

use domain::fact::{Provider, ProviderReference, Status};
use domain::id::{Mode, PayoutId, ProviderKey};
use domain::money::Money;
use domain::payout::Payout;
use domain::payout::attempt::Attempt;
use domain::payout::state::StateName;
use jiff::Timestamp;
use providers::{Line, Statement};
use serde::{Deserialize, Serialize};

/// How the two sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The provider lists a payout that no record of ours stands for.
    MissingHere,
    /// By our record the provider has it, and its whole list does not.
    MissingThere,
    /// Both have it, with other amounts.
    DifferentAmount,
    /// Both have it; whether money moved, or came back, is told differently.
    DifferentStatus,
    /// The provider lists more than one payout under one key of ours.
    TwiceThere,
}

/// A difference for a person to look at. Has no name and no account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Break {
    pub kind: Kind,
    /// Ours, where it is known which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payout: Option<Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<ProviderKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<ProviderReference>,
    /// The amount by our record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours: Option<Money>,
    /// The amount that the provider lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theirs: Option<Money>,
    /// The provider's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_status: Option<String>,
}

/// A payout of ours, as far as a break tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    pub id: PayoutId,
    pub attempt: u8,
    pub status: StateName,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    pub provider: Provider,
    pub mode: Mode,
    /// Inclusive.
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// The amounts of those on which both sides agree, one each.
    pub matched: Vec<Money>,
    pub breaks: Vec<Break>,
}

/// What one side says became of the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Underway,
    Moved,
    CameBack,
    NotMoved,
    /// It does not know, or has no word for it.
    Unknown,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::MissingHere, Self::MissingThere, Self::DifferentAmount, Self::DifferentStatus, Self::TwiceThere];

    /// The word in metrics, logs and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingHere => "missing_here",
            Self::MissingThere => "missing_there",
            Self::DifferentAmount => "different_amount",
            Self::DifferentStatus => "different_status",
            Self::TwiceThere => "twice_there",
        }
    }
}

impl Scope {
    /// The attempts of a payout that are compared.
    pub fn attempts<'a>(&self, payout: &'a Payout) -> impl Iterator<Item = &'a Attempt> + use<'a> {
        let (provider, here) = (self.provider, payout.mode == self.mode);
        payout.attempts.iter().filter(move |attempt| here && attempt.provider == provider)
    }

    fn holds(&self, at: Timestamp) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// Compares. `ours` are all payouts with an attempt in the scope, and any others: those that lines lead to, and neighbours.
#[must_use]
pub fn compare(scope: &Scope, ours: &[Payout], statement: &Statement) -> Compared {
    let attempts: Vec<(&Payout, &Attempt)> = ours.iter().flat_map(|payout| scope.attempts(payout).map(move |attempt| (payout, attempt))).collect();
    let by_key: BTreeMap<_, _> = attempts.iter().map(|pair| (pair.1.key, *pair)).collect();
    let by_reference: BTreeMap<_, _> = attempts.iter().filter_map(|pair| Some((pair.1.reference.as_ref()?, *pair))).collect();
    let mut compared = Compared::default();
    let mut seen = BTreeSet::new();
    for line in &statement.lines {
        let pair = line.key.and_then(|key| by_key.get(&key)).or_else(|| by_reference.get(line.reference()?));
        match pair {
            None if line.at.is_none_or(|at| scope.holds(at)) => compared.breaks.push(found(Kind::MissingHere, None, Some(line))),
            // A neighbouring day tells of it.
            None => {}
            Some((_, attempt)) if !scope.holds(attempt.first_sent()) => {}
            Some(pair @ (payout, attempt)) => {
                let first = seen.insert(attempt.key);
                match difference(payout, attempt, line, first) {
                    Some(kind) => compared.breaks.push(found(kind, Some(*pair), Some(line))),
                    None => compared.matched.extend(payout.amount.exact()),
                }
            }
        }
    }
    let unlisted = attempts.iter().filter(|(_, attempt)| statement.whole && scope.holds(attempt.first_sent()) && !seen.contains(&attempt.key));
    for pair in unlisted.filter(|(payout, attempt)| is_there(standing(payout, attempt))) {
        compared.breaks.push(found(Kind::MissingThere, Some(*pair), None));
    }
    compared
}

fn difference(payout: &Payout, attempt: &Attempt, line: &Line, first: bool) -> Option<Kind> {
    let theirs = told(&line.report.status);
    if !first {
        return Some(Kind::TwiceThere);
    }
    if line.report.amount.is_some_and(|amount| payout.amount.exact() != Some(amount)) {
        return Some(Kind::DifferentAmount);
    }
    let ours = standing(payout, attempt);
    (theirs != Standing::Unknown && ours != theirs).then_some(Kind::DifferentStatus)
}

fn found(kind: Kind, pair: Option<(&Payout, &Attempt)>, line: Option<&Line>) -> Break {
    Break {
        kind,
        payout: pair.map(|(payout, attempt)| Told { id: payout.id, attempt: attempt.number, status: payout.state.name() }),
        key: pair.map(|(_, attempt)| attempt.key).or_else(|| line?.key),
        reference: line.and_then(Line::reference).or_else(|| pair?.1.reference.as_ref()).cloned(),
        ours: pair.and_then(|(payout, _)| payout.amount.exact()),
        theirs: line.and_then(|line| line.report.amount),
        provider_status: line.map(|line| line.report.provider_status.clone()),
    }
}

/// Whether the provider must have it.
fn is_there(standing: Standing) -> bool {
    matches!(standing, Standing::Underway | Standing::Moved | Standing::CameBack)
}

/// What our record says. Of an attempt that another one follows it says that no money moved: else there would be no other one.
fn standing(payout: &Payout, attempt: &Attempt) -> Standing {
    if payout.attempts.last().is_some_and(|last| last.number != attempt.number) {
        return Standing::NotMoved;
    }
    match payout.state.name() {
        StateName::Authorised | StateName::Submitted => Standing::Underway,
        StateName::Settled => Standing::Moved,
        StateName::Returned => Standing::CameBack,
        StateName::Initiated | StateName::Inconclusive | StateName::InReview => Standing::Unknown,
        StateName::Requested | StateName::AwaitingApproval | StateName::Scheduled | StateName::Failed | StateName::Rejected | StateName::Canceled => {
            Standing::NotMoved
        }
    }
}

const fn told(status: &Status) -> Standing {
    match status {
        Status::Authorised | Status::Submitted => Standing::Underway,
        Status::Settled => Standing::Moved,
        Status::Returned { .. } => Standing::CameBack,
        Status::Rejected { .. } | Status::Failed { .. } | Status::Canceled { .. } => Standing::NotMoved,
        Status::Unmapped => Standing::Unknown,
    }
}

#[cfg(test)]
mod tests;
