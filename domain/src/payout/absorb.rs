//! How a fact is put into the record: a command is decided at once, evidence is added to what is known of its attempt.

use jiff::Timestamp;

use super::attempt::{Attempt, Ended, Evidence, Fate, Outcome, Send};
use super::state::{Cause, Clash, State, StateName};
use super::{Declined, Payout, Plan, Resolved, What, Withdrawal};
use crate::amount::Amount;
use crate::id::ProviderKey;
use crate::work::Next;

/// What a command decided.
pub(super) enum Command {
    Enter(State),
    Remember(Next),
}

impl Payout {
    /// Ready to go now, or waiting for its day.
    pub(super) fn dispatchable(&self, now: Timestamp) -> State {
        match self.scheduled_for {
            Some(until) if until > now => State::Scheduled { until },
            _ => State::Requested,
        }
    }

    /// Puts a fact into the record. A command answers what it decided; evidence answers nothing, the fold decides.
    pub(super) fn absorb(&mut self, what: &What, plan: &Plan, now: Timestamp) -> Result<Option<Command>, Declined> {
        let name = self.state.name();
        match what {
            What::Approve { .. } if name != StateName::AwaitingApproval => Err(Declined::NotAwaitingApproval),
            What::Approve { .. } if matches!(self.state, State::AwaitingApproval { until } if until <= now) => Err(Declined::ApprovalExpired),
            What::Approve { by } => {
                self.may_approve(by)?;
                self.approved_by = Some(by.clone());
                Ok(Some(Command::Enter(self.dispatchable(now))))
            }
            What::Cancel { reason } => {
                self.withdraw(Withdrawal::Canceled { reason: reason.clone() })?;
                Ok(Some(Command::Enter(State::Canceled { reason: reason.clone() })))
            }
            What::AskToCancel { .. } if name != StateName::Authorised || !plan.cancelable || self.cancel_refused => Err(Declined::TooLate),
            What::AskToCancel { reason } => {
                self.cancel_asked.get_or_insert_with(|| reason.clone());
                // Whoever wants it stopped does not want the next provider to pay it, whatever this one answers.
                self.end_route();
                Ok(Some(Command::Remember(Next::Poll(now))))
            }
            // Where there is nothing to pay, there is nothing for the next provider either.
            What::Decline { reason, .. } if self.amount.exact().is_some() && self.can_pass_on(now) => {
                let ended = Ended { at: now, reason: reason.clone() };
                self.next_attempt(now)?.passed_over = Some(ended);
                Ok(None)
            }
            What::Decline { reason, rule } => {
                self.withdraw(Withdrawal::Rejected { reason: reason.clone() })?;
                self.rule = rule.clone().or_else(|| self.rule.take());
                Ok(Some(Command::Enter(State::Rejected { reason: reason.clone() })))
            }
            What::Fix { .. } if !self.is_due(now) => Err(Declined::NotDispatchable),
            What::Fix { money } if self.amount != Amount::Whole(money.currency()) => Err(Declined::AmountFixed),
            What::Fix { money } => {
                self.amount = Amount::Exact(*money);
                Ok(Some(Command::Remember(Next::Keep)))
            }
            // Who waits already, for its day or for another send, goes on waiting.
            What::Hold { .. } if name == StateName::Requested => Ok(Some(Command::Enter(State::Scheduled { until: now }))),
            What::Hold { .. } => Err(Declined::NotDispatchable),
            What::Initiate { send_by, aside_until } => {
                self.begin(None, *send_by, now)?.was_aside(*aside_until);
                Ok(Some(Command::Enter(State::Initiated)))
            }
            What::Join { group, send_by } => {
                if let Some(attempt) = self.attempts.last_mut().filter(|attempt| name == StateName::Inconclusive && attempt.group == Some(*group)) {
                    attempt.begin_send(*send_by, now);
                    return Ok(Some(Command::Remember(Next::Keep)));
                }
                self.begin(Some(*group), *send_by, now)?;
                Ok(Some(Command::Enter(State::Initiated)))
            }
            What::Resend { send_by } => {
                let Some(attempt) = self.attempts.last_mut().filter(|_| name == StateName::Inconclusive) else {
                    return Err(Declined::NotInconclusive);
                };
                // The provider would not recognise it as what it may have, and might pay it again.
                if attempt.group.is_some() {
                    return Err(Declined::SentWithOthers);
                }
                attempt.begin_send(*send_by, now);
                Ok(Some(Command::Remember(Next::Keep)))
            }
            What::Check if !self.is_checkable() => Err(Declined::NothingToCheck),
            What::Check => Ok(Some(Command::Remember(Next::Poll(now)))),
            What::Stuck { .. } if name.is_final() || name == StateName::InReview => Ok(Some(Command::Remember(Next::Nothing))),
            What::Stuck { .. } => Ok(Some(Command::Enter(State::InReview { cause: Cause::Stuck }))),
            What::Resolve(resolution) => {
                if name != StateName::InReview {
                    return Err(Declined::NotInReview);
                }
                if self.amount.exact().is_none() && resolution.outcome != Resolved::Failed {
                    return Err(Declined::AmountUnknown);
                }
                self.resolution = Some(resolution.clone());
                Ok(Some(Command::Enter(resolution.state())))
            }
            What::NotSent { attempt, send, .. } | What::Unprocessed { attempt, send, .. } => {
                self.with_attempt(*attempt, |attempt| attempt.forget_send(*send));
                Ok(None)
            }
            What::NoAnswer { attempt, send, .. } => {
                self.with_attempt(*attempt, |attempt| attempt.settle_send(*send, Fate::Ambiguous));
                Ok(None)
            }
            What::Refused { attempt, send, reason } => {
                let ended = Ended { at: now, reason: reason.clone() };
                self.with_attempt(*attempt, |attempt| attempt.settle_send(*send, Fate::Refused(ended)));
                Ok(None)
            }
            What::Elsewhere { .. } => {
                self.contradictions.insert(Clash::UnknownAttempt);
                Ok(None)
            }
            // Anything else is no silence that this could end.
            What::NeverDone { .. } if name != StateName::Inconclusive => Err(Declined::NotInconclusive),
            What::NeverDone { attempt, send, reason } => {
                let ended = Ended { at: now, reason: reason.clone() };
                self.with_attempt(*attempt, |attempt| attempt.settle_sends_up_to(*send, &Fate::Refused(ended)));
                Ok(None)
            }
            What::KeyConflict { attempt } => {
                self.with_attempt(*attempt, |_| {});
                self.contradictions.insert(Clash::KeyConflict);
                Ok(None)
            }
            What::Reported { attempt, report } | What::NotCanceled { attempt, report } => {
                if matches!(what, What::NotCanceled { .. }) {
                    self.cancel_asked = None;
                    self.cancel_refused = true;
                }
                if report.amount.is_some_and(|amount| self.amount != Amount::Exact(amount)) {
                    self.contradictions.insert(Clash::AmountDiffers);
                }
                self.with_attempt(*attempt, |attempt| attempt.absorb(report, now));
                self.note_times();
                Ok(None)
            }
            // Neither says anything about an attempt, so also not that there was one.
            What::NotFound { .. } | What::NoNews { .. } => Ok(None),
        }
    }

    /// Whether that owner is a second person: one who has decided nothing about it yet.
    fn may_approve(&self, by: &str) -> Result<(), Declined> {
        // Keys of one person may be written "Ann" and "ann ".
        let written = |owner: &str| owner.trim().to_lowercase();
        let is_same = |owner: &str| written(owner) == written(by);
        if is_same(&self.maker) || self.decided_by.iter().flatten().any(|made| is_same(made)) {
            return Err(Declined::MakerIsChecker);
        }
        // Those that schedules opened before anybody was kept.
        let nobody_kept = self.due_date.is_some() && self.decided_by.is_empty();
        if nobody_kept || self.decided_by.contains(&None) { Err(Declined::MakerUnknown) } else { Ok(()) }
    }

    fn withdraw(&mut self, withdrawal: Withdrawal) -> Result<(), Declined> {
        if !self.state.name().is_before_dispatch() {
            return Err(Declined::TooLate);
        }
        self.withdrawn = Some(withdrawal);
        Ok(())
    }

    /// Begins the next send.
    fn begin(&mut self, group: Option<ProviderKey>, send_by: Timestamp, now: Timestamp) -> Result<&mut Attempt, Declined> {
        if self.amount.exact().is_none() {
            return Err(Declined::NotDispatchable);
        }
        let attempt = self.next_attempt(now)?;
        // Nothing of it was processed, in whatever company it was sent.
        attempt.group = group;
        attempt.begin_send(send_by, now);
        Ok(attempt)
    }

    /// Whether there is a provider after the one whose turn it is.
    fn can_pass_on(&self, now: Timestamp) -> bool {
        let again = self.attempts.last().is_some_and(|attempt| attempt.outcome() == Outcome::Unsent);
        let turn = self.attempts.len().saturating_add(usize::from(!again));
        self.is_due(now) && turn < self.route.len()
    }

    fn is_due(&self, now: Timestamp) -> bool {
        match self.state {
            State::Requested => true,
            State::Scheduled { until } => until <= now,
            State::AwaitingApproval { .. }
            | State::Initiated
            | State::Inconclusive
            | State::Authorised
            | State::Submitted
            | State::Settled
            | State::Returned { .. }
            | State::Failed { .. }
            | State::Rejected { .. }
            | State::Canceled { .. }
            | State::InReview { .. } => false,
        }
    }

    /// The attempt whose turn it is: the same one where nothing of it was processed, else the next one.
    fn next_attempt(&mut self, now: Timestamp) -> Result<&mut Attempt, Declined> {
        if !self.is_due(now) {
            return Err(Declined::NotDispatchable);
        }
        match self.attempts.last().map(Attempt::outcome) {
            Some(Outcome::Unsent) => return self.attempts.last_mut().ok_or(Declined::NotDispatchable),
            None | Some(Outcome::Rejected(_) | Outcome::Failed(_)) => {}
            // The next attempt exists only if this one was closed.
            Some(
                Outcome::Open
                | Outcome::Ambiguous
                | Outcome::Authorised(_)
                | Outcome::Submitted(_)
                | Outcome::Settled(_)
                | Outcome::Returned(_)
                | Outcome::Canceled(_)
                | Outcome::Clash(_),
            ) => return Err(Declined::NotDispatchable),
        }
        let Some(provider) = self.route.get(self.attempts.len()).copied() else { return Err(Declined::NotDispatchable) };
        let number = u8::try_from(self.attempts.len().saturating_add(1)).map_err(|_| Declined::NotDispatchable)?;
        self.attempts.push(Attempt {
            number,
            provider,
            key: ProviderKey::derive(self.id, number),
            group: None,
            initiated_at: now,
            aside_until: None,
            sends: 0,
            live: Vec::new(),
            evidence: Evidence::default(),
            passed_over: None,
            reference: None,
            provider_status: None,
        });
        self.attempts.last_mut().ok_or(Declined::NotDispatchable)
    }

    fn with_attempt(&mut self, number: u8, change: impl FnOnce(&mut Attempt)) {
        match self.attempts.iter_mut().find(|attempt| attempt.number == number) {
            Some(attempt) => change(attempt),
            None => {
                self.contradictions.insert(Clash::UnknownAttempt);
            }
        }
    }

    fn note_times(&mut self) {
        for attempt in &self.attempts {
            let evidence = &attempt.evidence;
            for (state, at) in
                [(StateName::Authorised, evidence.authorised), (StateName::Submitted, evidence.submitted), (StateName::Settled, evidence.settled)]
            {
                if let Some(at) = at {
                    self.reached.entry(state).and_modify(|held| *held = at.min(*held)).or_insert(at);
                }
            }
        }
    }
}

// === impl Attempt ===

impl Attempt {
    fn begin_send(&mut self, by: Timestamp, now: Timestamp) {
        self.sends = self.sends.saturating_add(1);
        self.live.push(Send { number: self.sends, at: now, by, fate: Fate::Open });
    }

    fn was_aside(&mut self, until: Option<Timestamp>) {
        self.aside_until = self.aside_until.max(until.filter(|until| *until > self.initiated_at));
    }
}
