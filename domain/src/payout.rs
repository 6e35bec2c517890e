//! The payout: a record, and the one function that changes it.
//!
//! [`Payout::apply`] takes everything that can happen to a payout, whoever says so, and answers with a [`Step`] to commit. It is pure, and it is
//! **the only place where a state changes**. What a provider says is folded over a set per attempt ([`attempt`]), so repeated, late and
//! reordered statements lead to the same end; what cannot be true together moves the payout to review and never overwrites anything.

mod absorb;
pub mod attempt;
mod fact;
pub mod rule;
mod standing;
pub mod state;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::account::is_zero;
use crate::amount::Amount;
use crate::event::{AttemptCount, Event, EventType};
use crate::fact::{Provider, Reason, Source};
use crate::id::{Mode, PartyId, PayoutId};
use crate::ledger::{Account, Entry};
use crate::metadata::Metadata;
use crate::wait::{Backoff, Polling};
use crate::work::Next;
use absorb::Command;
use attempt::{Attempt, Outcome};
pub use fact::{Fact, Resolution, Resolved, What};
use rule::{Approval, RuleMet};
use standing::Target;
use state::{Cause, Clash, State, StateName};
pub use step::{Declined, Observation, Step, Verdict};

/// Who asks for a payout that no credential has asked for.
pub const SCHEDULE: &str = "schedule";

/// Why a payout is rejected that goes beyond a limit of the platform.
pub const LIMIT_EXCEEDED: &str = "limit_exceeded";

/// An intent to send an amount to a beneficiary, and all that is known about it, less the beneficiary, who is stored encrypted beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payout {
    pub id: PayoutId,
    /// Counts the commits, from 1. A commit names the version that it was decided on.
    pub version: u64,
    /// The number of the latest event.
    pub sequence: u32,
    pub party: PartyId,
    pub mode: Mode,
    /// The caller's key, unique per party and mode.
    pub transaction_id: String,
    /// The caller's key of the batch that asked for it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
    /// The key of the payout that it stands for, which has ended without arriving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// The due date that it bears, if the schedule of its balance account opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_date: Option<Date>,
    #[serde(rename = "money")]
    pub amount: Amount,
    /// Of a whole balance: what stays in its account at least, in minor units, because the account kept that back when the payout was asked for. Whoever
    /// approves it goes by that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub keeps: i64,
    pub context_code: String,
    /// Not part of the record: it never changes, so the store keeps it once, beside the record.
    #[serde(skip)]
    pub metadata: Metadata,
    /// The caller's wish: not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_for: Option<Timestamp>,
    /// The providers to try, in this order. Attempt `n` goes to the `n`th. Ends with the latest attempt once the payout has been in review, or its caller
    /// has asked that provider to cancel it: what comes out afterwards sends nobody to the next one.
    pub route: Vec<Provider>,
    /// The owner of the credential that asked for it, who may not approve it, or [`SCHEDULE`].
    pub maker: String,
    /// The owners of the credentials that have decided beforehand where it goes, or how much: by the payout instrument and the account that it comes from. They
    /// may not approve it either. `None` among them: somebody who is not on record, and so may be anybody.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub decided_by: BTreeSet<Option<String>>,
    /// Which rule of the platform has asked for an approval, or has refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleMet>,
    /// W3C `traceparent` of the request that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    pub state: State,
    /// When the present state was entered.
    pub since: Timestamp,
    /// Polls without news since then.
    #[serde(default)]
    pub polls: u32,
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// The caller wants it stopped although the provider has it: the next look asks for that. Gone when the provider has decided, or is further on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_asked: Option<Reason>,
    /// The provider was asked to and would not, in this state: it is not asked again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_refused: bool,
    /// The owner of the credential that approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// Ended by us before any provider was asked, or when all of them had said no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Withdrawal>,
    /// Contradictions that are not visible in the attempts themselves. A decision of an operator leaves them here, so that a repetition is no news.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub contradictions: BTreeSet<Clash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// When each state was first reached, by the provider's clock where it says so.
    pub reached: BTreeMap<StateName, Timestamp>,
}

/// How a payout was ended without a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case", deny_unknown_fields)]
pub enum Withdrawal {
    Canceled { reason: Reason },
    Rejected { reason: Reason },
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub id: PayoutId,
    pub party: PartyId,
    pub mode: Mode,
    pub transaction_id: String,
    pub batch_id: Option<String>,
    pub replaces: Option<String>,
    pub due_date: Option<Date>,
    #[serde(rename = "money")]
    pub amount: Amount,
    /// As of the payout.
    #[serde(default)]
    pub keeps: i64,
    pub context_code: String,
    pub metadata: Metadata,
    pub scheduled_for: Option<Timestamp>,
    pub route: Vec<Provider>,
    pub maker: String,
    #[serde(default)]
    pub decided_by: BTreeSet<Option<String>>,
    /// Until when a second person must have approved it, if one must.
    pub approve_by: Option<Timestamp>,
    pub rule: Option<RuleMet>,
    pub trace: Option<String>,
}

/// The provider's rules that a decision needs, taken from its profile.
#[derive(Clone, Debug)]
pub struct Plan {
    pub polling: Polling,
    /// The raw statuses that are the last ones this provider will ever tell: after one of them silence leads to nobody's review.
    pub last_words: &'static [&'static str],
    /// Whether this provider can be asked to cancel what it has accepted.
    pub cancelable: bool,
    /// The wait before a send that was not processed goes again.
    pub redispatch: Backoff,
    /// How long sending may fail to reach the provider at all before the payout is rejected. Begins anew when dispatch was stopped meanwhile.
    pub dispatch_bound: SignedDuration,
}

// === impl Order ===

impl Order {
    /// The same, to be approved by a second person, if one must.
    #[must_use]
    pub fn awaiting(self, approval: Option<Approval>) -> Self {
        match approval {
            None => self,
            Some(Approval { by, rule }) => Self { approve_by: Some(by), rule: Some(rule), ..self },
        }
    }
}

// === impl Payout ===

impl Payout {
    /// Opens a payout: funds reserved (of a whole balance later, by [`What::Fix`]), first event told, dispatch due at once or on its day. Decided on
    /// version 0, which is "no record".
    #[must_use]
    pub fn open(order: Order, now: Timestamp) -> Step {
        let approve_by = order.approve_by;
        let payout = Self::requested(order, now);
        let waits = approve_by.map_or_else(|| payout.dispatchable(now), |until| State::AwaitingApproval { until });
        let entries = payout.entries_since(Account::Available);
        payout.opened(waits, entries, now)
    }

    /// Opens a payout whose account refuses it: it has ended, and nothing was reserved. Decided on version 0.
    #[must_use]
    pub fn open_refused(order: Order, reason: Reason, now: Timestamp) -> Step {
        let mut payout = Self::requested(order, now);
        payout.withdrawn = Some(Withdrawal::Rejected { reason: reason.clone() });
        payout.opened(State::Rejected { reason }, Vec::new(), now)
    }

    /// [`SCHEDULE`], if that of its balance account opened it.
    #[must_use]
    pub fn initiated_by(&self) -> Option<&'static str> {
        self.due_date.map(|_| SCHEDULE)
    }

    fn requested(order: Order, now: Timestamp) -> Self {
        Self {
            id: order.id,
            version: 1,
            sequence: 0,
            party: order.party,
            mode: order.mode,
            transaction_id: order.transaction_id,
            batch_id: order.batch_id,
            replaces: order.replaces,
            due_date: order.due_date,
            amount: order.amount,
            keeps: order.keeps,
            context_code: order.context_code,
            metadata: order.metadata,
            scheduled_for: order.scheduled_for,
            route: order.route,
            maker: order.maker,
            decided_by: order.decided_by,
            rule: order.rule,
            trace: order.trace,
            state: State::Requested,
            since: now,
            polls: 0,
            attempts: Vec::new(),
            cancel_asked: None,
            cancel_refused: false,
            approved_by: None,
            withdrawn: None,
            contradictions: BTreeSet::new(),
            resolution: None,
            reached: BTreeMap::from([(StateName::Requested, now)]),
        }
    }

    /// The first step: requested, and at once in the state that comes of it.
    fn opened(mut self, state: State, entries: Vec<Entry>, now: Timestamp) -> Step {
        let mut events = vec![Event::of(&mut self, EventType::Requested, None, None, now)];
        if state.name() != StateName::Requested {
            self.enter(state, now, now);
            let kind = EventType::entering(self.state.name());
            events.push(Event::of(&mut self, kind, Some(StateName::Requested), None, now));
        }
        let observation = Observation { version: 1, at: now, from: None, to: self.state.name(), fact: None };
        let next = self.work_on_entry(None, now);
        Step { payout: self, observation, events, entries, next }
    }

    /// Takes in something that happened. Pure: the same payout, fact and time give the same verdict.
    #[must_use]
    pub fn apply(&self, fact: &Fact, plan: &Plan, now: Timestamp) -> Verdict {
        let mut payout = self.clone();
        match payout.absorb(&fact.what, plan, now) {
            Ok(None) => {}
            Ok(Some(Command::Enter(state))) => return Verdict::Moved(self.moved(payout, Target::now(state), fact, plan, now)),
            Ok(Some(Command::Remember(next))) => return Verdict::Known(self.known(payout, fact, next, now)),
            Err(declined) => return Verdict::Declined(declined),
        }
        let target = payout.stands(self, fact, plan, now);
        let clash = if let State::InReview { cause: Cause::Clash(clash) } = target.state { Some(clash) } else { None };
        let in_clash = matches!(self.state, State::InReview { cause: Cause::Clash(_) });
        // A contradiction in a review that had another cause is a change, although the state keeps its name: the way out is another one.
        if target.state.name() == self.state.name() && (clash.is_none() || in_clash) {
            if target.state.reason().is_some() {
                if let Some(at) = target.at {
                    payout.reached.entry(target.state.name()).and_modify(|held| *held = at.min(*held));
                }
                payout.state = target.state;
            }
            let next = payout.work_without_news(fact.source, plan, now);
            return Verdict::Known(self.known(payout, fact, next, now));
        }
        let step = self.moved(payout, target, fact, plan, now);
        match clash {
            Some(clash) => Verdict::Refused(clash, step),
            None => Verdict::Moved(step),
        }
    }

    /// The account that holds the payout's money. Of a whole balance that is not fixed nothing is taken yet.
    #[must_use]
    pub const fn holds_funds_in(&self) -> Account {
        match self.amount {
            Amount::Exact(_) => self.state.holds_funds_in(),
            Amount::Whole(_) => Account::Available,
        }
    }

    /// What brings the payout's money from `held` to where it belongs now.
    fn entries_since(&self, held: Account) -> Vec<Entry> {
        let holds = self.holds_funds_in();
        let moves = self.amount.exact().filter(|_| held != holds);
        moves.map(|money| Entry { from: held, to: holds, minor: money.minor() }).into_iter().collect()
    }

    /// The provider that has that attempt, or would get it. What another provider says about it is nothing.
    #[must_use]
    pub fn provider_of(&self, attempt: u8) -> Option<Provider> {
        let made = self.attempts.iter().find(|made| made.number == attempt).map(|made| made.provider);
        made.or_else(|| self.route.get(usize::from(attempt).checked_sub(1)?).copied())
    }

    /// Whether a look at the provider can bring news: it was asked, and its word is not final. What has settled can come back.
    #[must_use]
    pub fn is_checkable(&self) -> bool {
        let name = self.state.name();
        !self.attempts.is_empty() && (name.has_provider_status() || name == StateName::Settled)
    }

    /// Whether it is where [`Payout::rule`] has put it.
    #[must_use]
    pub fn is_ruled(&self) -> bool {
        let refused = self.state.reason().is_some_and(|reason| reason.as_str() == LIMIT_EXCEEDED);
        matches!(self.state, State::AwaitingApproval { .. }) || (refused && self.state.name() == StateName::Rejected)
    }

    /// When it was asked for, by the store's clock.
    #[must_use]
    pub fn requested_at(&self) -> Timestamp {
        self.reached.get(&StateName::Requested).copied().unwrap_or(self.since)
    }

    /// The attempt that is, or was last, under way.
    #[must_use]
    pub fn attempt(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// When each state was reached, with those that a provider skipped filled in from the next later one.
    #[must_use]
    pub fn timestamps(&self) -> BTreeMap<StateName, Timestamp> {
        let mut reached = self.reached.clone();
        for (skipped, later) in [
            (StateName::Submitted, &[StateName::Settled, StateName::Returned][..]),
            (StateName::Authorised, &[StateName::Submitted, StateName::Settled, StateName::Returned, StateName::Failed]),
        ] {
            if let Some(at) = later.iter().filter_map(|state| reached.get(state)).min().copied() {
                reached.entry(skipped).or_insert(at);
            }
        }
        reached
    }

    fn next_poll(&self, plan: &Plan, now: Timestamp) -> Option<Timestamp> {
        plan.polling.next(self.polls, self.since, now, self.id.as_bytes())
    }

    /// Whether the provider has told all that it will: then it is still asked, but as rarely as the bound is long. Where it has told of the bank, by an
    /// event perhaps, it has more to tell, whatever word a look still answers.
    fn has_last_word(&self, plan: &Plan) -> bool {
        let told = self.attempts.last().and_then(|attempt| attempt.provider_status.as_deref());
        matches!(self.state, State::Authorised) && told.is_some_and(|told| plan.last_words.contains(&told))
    }

    /// The work that a state asks for when it is entered.
    fn work_on_entry(&self, plan: Option<&Plan>, now: Timestamp) -> Next {
        match &self.state {
            State::Requested => Next::Execute(now),
            // When the time for an approval is over, it is canceled.
            State::AwaitingApproval { until } | State::Scheduled { until } => Next::Execute(*until),
            State::Initiated => Next::Keep,
            // Past the bound too there is a last look, which leads to a person: silence never ends the work.
            State::Inconclusive | State::Authorised | State::Submitted => {
                let rarely = |plan: &Plan| now.saturating_add(plan.polling.bound).unwrap_or(Timestamp::MAX);
                let next = |plan: &Plan| self.next_poll(plan, now).or_else(|| self.has_last_word(plan).then(|| rarely(plan)));
                Next::Poll(plan.and_then(next).unwrap_or(now))
            }
            State::Settled
            | State::Returned { .. }
            | State::Failed { .. }
            | State::Rejected { .. }
            | State::Canceled { .. }
            | State::InReview { .. } => Next::Nothing,
        }
    }

    /// The work after a fact that changed nothing. A notice leaves the poll plan alone; our own look was one of the plan.
    fn work_without_news(&mut self, source: Source, plan: &Plan, now: Timestamp) -> Next {
        if !is_our_doing(source) {
            return Next::Keep;
        }
        self.polls = self.polls.saturating_add(1);
        self.work_on_entry(Some(plan), now)
    }

    fn enter(&mut self, state: State, at: Timestamp, now: Timestamp) {
        let name = state.name();
        if name == StateName::InReview {
            self.end_route();
        }
        self.cancel_asked = None;
        self.cancel_refused = false;
        let at = if let State::Scheduled { until } = state { until } else { at };
        self.reached.entry(name).or_insert(at);
        self.state = state;
        self.since = now;
        self.polls = 0;
    }

    /// The latest attempt is the last one, whatever comes of it.
    fn end_route(&mut self) {
        self.route.truncate(self.attempts.len());
    }

    /// The step from `self` to `payout` in a new state.
    fn moved(&self, mut payout: Self, target: Target, fact: &Fact, plan: &Plan, now: Timestamp) -> Step {
        let from = self.state.name();
        payout.version = self.version.saturating_add(1);
        payout.enter(target.state, target.at.unwrap_or(now), now);
        if let (State::Rejected { reason }, None) = (&payout.state, &payout.withdrawn)
            && payout.attempts.last().is_some_and(|attempt| attempt.outcome() == Outcome::Unsent)
        {
            payout.withdrawn = Some(Withdrawal::Rejected { reason: reason.clone() });
        }
        let count = payout.attempt_count().filter(|_| target.attempt_failed);
        let kind = if count.is_some() { EventType::AttemptFailed } else { EventType::entering(payout.state.name()) };
        let events = vec![Event::of(&mut payout, kind, Some(from), count.as_ref(), now)];
        let entries = payout.entries_since(self.holds_funds_in());
        // What is held has been set aside, and comes back when its provider does: not when its time has come, for that it has.
        let next = if let What::Hold { .. } = fact.what { Next::Keep } else { payout.work_on_entry(Some(plan), now) };
        let observation = Observation { version: payout.version, at: now, from: Some(from), to: payout.state.name(), fact: Some(fact.clone()) };
        Step { payout, observation, events, entries, next }
    }

    fn attempt_count(&self) -> Option<AttemptCount> {
        let State::Scheduled { until } = self.state else { return None };
        let remaining = self.route.len().saturating_sub(self.attempts.len());
        Some(AttemptCount {
            attempt: u8::try_from(self.attempts.len()).unwrap_or(u8::MAX),
            attempts_remaining: u8::try_from(remaining).unwrap_or(u8::MAX),
            next_attempt_at: until,
        })
    }

    /// The step that only adds what was observed, and fixes the amount where that is what was observed.
    fn known(&self, mut payout: Self, fact: &Fact, next: Next, now: Timestamp) -> Step {
        payout.version = self.version.saturating_add(1);
        let name = self.state.name();
        let observation = Observation { version: payout.version, at: now, from: Some(name), to: name, fact: Some(fact.clone()) };
        let entries = payout.entries_since(self.holds_funds_in());
        Step { payout, observation, events: Vec::new(), entries, next }
    }
}

/// Whether the fact comes from the work that is planned for the payout, so that its plan goes on from here.
const fn is_our_doing(source: Source) -> bool {
    match source {
        Source::Worker | Source::Answer | Source::Poll | Source::Clock => true,
        Source::Notice | Source::Caller | Source::Operator => false,
    }
}
