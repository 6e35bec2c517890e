//! Where a payout stands by all that is known of it: a fold over the evidence of its attempts, so that order and repetition cannot matter.

use std::mem::discriminant;

use jiff::{SignedDuration, Timestamp};

use super::attempt::{Attempt, Ended, News, Outcome};
use super::state::{Cause, Clash, State};
use super::{Fact, Payout, Plan, Resolution, Resolved, What, is_our_doing};
use crate::fact::Reason;

/// Where a payout should stand by the evidence.
pub(super) struct Target {
    pub(super) state: State,
    /// When the provider says that it got there.
    pub(super) at: Option<Timestamp>,
    pub(super) attempt_failed: bool,
}

// === impl Target ===

impl Target {
    pub(super) const fn now(state: State) -> Self {
        Self { state, at: None, attempt_failed: false }
    }

    const fn at(state: State, at: Timestamp) -> Self {
        Self { state, at: Some(at), attempt_failed: false }
    }
}

// === impl Payout ===

impl Payout {
    /// Where the payout should stand, by all that is known now. `before` is the record that `fact` met.
    pub(super) fn stands(&self, before: &Self, fact: &Fact, plan: &Plan, now: Timestamp) -> Target {
        let review = |clash| Target::now(State::InReview { cause: Cause::Clash(clash) });
        if matches!(before.state, State::InReview { cause: Cause::Clash(_) }) {
            return Target::now(before.state.clone());
        }
        if let Some(resolution) = &self.resolution {
            return self.stands_resolved(before, resolution).unwrap_or_else(review);
        }
        let folded = match self.folded(before, fact, plan, now) {
            Ok(folded) => folded,
            Err(clash) => return review(clash),
        };
        match before.state {
            State::InReview { cause: Cause::Unresolved | Cause::Stuck } => {
                let mut attempts = self.attempts.iter().zip(&before.attempts);
                let news = attempts.any(|(after, before)| discriminant(&after.outcome()) != discriminant(&before.outcome()));
                let definite = !matches!(folded.state, State::Initiated | State::Inconclusive);
                if news && definite { folded } else { Target::now(before.state.clone()) }
            }
            State::Initiated | State::Inconclusive | State::Authorised | State::Submitted => {
                let silent = is_our_doing(fact.source) && folded.state.name() == before.state.name();
                if silent && self.next_poll(plan, now).is_none() && !self.has_last_word(plan) {
                    Target::now(State::InReview { cause: Cause::Unresolved })
                } else {
                    folded
                }
            }
            State::Requested
            | State::AwaitingApproval { .. }
            | State::Scheduled { .. }
            | State::Settled
            | State::Returned { .. }
            | State::Failed { .. }
            | State::Rejected { .. }
            | State::Canceled { .. }
            | State::InReview { cause: Cause::Clash(_) } => folded,
        }
    }

    /// Where it stands after an operator has decided. The decision covers all that was known then, so only what is new counts: it opens the review
    /// again if it cannot be true together with the decision. That money came back after it had arrived can.
    fn stands_resolved(&self, before: &Self, resolution: &Resolution) -> Result<Target, Clash> {
        if let Some(clash) = self.contradictions.difference(&before.contradictions).next() {
            return Err(*clash);
        }
        let stays = Target::now(before.state.clone());
        let (Some((last, closed)), Some((held, held_closed))) = (self.attempts.split_last(), before.attempts.split_last()) else { return Ok(stays) };
        if closed.iter().zip(held_closed).any(|(after, before)| after.moved_after_close() && !before.moved_after_close()) {
            return Err(Clash::ClosedAttemptMoved);
        }
        match (last.news(held), resolution.outcome) {
            (Some(News::CameBack(ended)), Resolved::Settled) => Ok(Target::at(State::Returned { reason: ended.reason }, ended.at)),
            (None, _)
            | (Some(News::Accepted), Resolved::Settled | Resolved::Returned)
            | (Some(News::CameBack(_)), Resolved::Returned)
            | (Some(News::NotMoved), Resolved::Failed) => Ok(stays),
            (Some(News::Accepted | News::CameBack(_)), Resolved::Failed) | (Some(News::NotMoved), Resolved::Settled | Resolved::Returned) => {
                Err(Clash::ResolutionContradicted)
            }
        }
    }

    /// The fold over all attempts, or the contradiction in them.
    fn folded(&self, before: &Self, fact: &Fact, plan: &Plan, now: Timestamp) -> Result<Target, Clash> {
        if let Some(clash) = self.contradictions.first() {
            return Err(*clash);
        }
        let Some((last, closed)) = self.attempts.split_last() else { return Ok(Target::now(self.state.clone())) };
        if closed.iter().any(Attempt::moved_after_close) {
            return Err(Clash::ClosedAttemptMoved);
        }
        if self.withdrawn.is_some() {
            let moved = before.attempts.last().is_some_and(|before| last.moved_after_withdrawal(before));
            return if moved { Err(Clash::WithdrawnAndAccepted) } else { Ok(Target::now(self.state.clone())) };
        }
        let route_left = self.attempts.len() < self.route.len();
        let closed_by = |state: State, ended: Ended| {
            if route_left {
                let until = now.saturating_add(plan.redispatch.wait(u32::from(last.number), self.id.as_bytes())).unwrap_or(Timestamp::MAX);
                let attempt_failed = !matches!(self.state, State::Scheduled { .. });
                Target { state: State::Scheduled { until }, at: None, attempt_failed }
            } else {
                Target::at(state, ended.at)
            }
        };
        Ok(match last.outcome() {
            Outcome::Clash(clash) => return Err(clash),
            Outcome::Returned(ended) => Target::at(State::Returned { reason: ended.reason.clone() }, ended.at),
            Outcome::Settled(at) => Target::at(State::Settled, at),
            Outcome::Failed(ended) => closed_by(State::Failed { reason: ended.reason.clone() }, ended),
            Outcome::Rejected(ended) => closed_by(State::Rejected { reason: ended.reason.clone() }, ended),
            Outcome::Canceled(ended) => Target::at(State::Canceled { reason: ended.reason.clone() }, ended.at),
            Outcome::Submitted(at) => Target::at(State::Submitted, at),
            Outcome::Authorised(at) => Target::at(State::Authorised, at),
            Outcome::Ambiguous => Target::now(State::Inconclusive),
            Outcome::Open => Target::now(if matches!(self.state, State::Inconclusive) { State::Inconclusive } else { State::Initiated }),
            Outcome::Unsent if now.duration_since(last.tried_since()) >= plan.dispatch_bound => {
                Target::now(State::Rejected { reason: Reason::new("provider_unreachable") })
            }
            Outcome::Unsent => {
                let wait = plan.redispatch.wait(last.sends, self.id.as_bytes()).max(retry_after(&fact.what).min(plan.dispatch_bound));
                Target::now(State::Scheduled { until: now.saturating_add(wait).unwrap_or(Timestamp::MAX) })
            }
        })
    }
}

fn retry_after(what: &What) -> SignedDuration {
    if let What::Unprocessed { retry_after_ms: Some(ms), .. } = what {
        SignedDuration::from_millis(i64::try_from(*ms).unwrap_or(i64::MAX))
    } else {
        SignedDuration::ZERO
    }
}
