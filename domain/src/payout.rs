//! The payout: a record, and the one function that changes it.
//!
//! [`Payout::apply`] takes everything that can happen to a payout, whoever says so, and answers with a [`Step`] to commit. It is pure, and it is
//! **the only place where a state changes**. What a provider says is folded over a set per attempt ([`attempt`]), so repeated, late and
//! reordered statements lead to the same end; what cannot be true together moves the payout to review and never overwrites anything.

pub mod attempt;
pub mod rule;
pub mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::event::{AttemptCount, Event, EventType};
use crate::fact::{Provider, Reason, Report, Source};
use crate::id::{Mode, PartyId, PayoutId, ProviderKey};
use crate::ledger::{Account, Entry};
use crate::metadata::Metadata;
use crate::money::Money;
use crate::wait::{Backoff, Polling};
use crate::work::Next;
use attempt::{Attempt, Ended, Evidence, Fate, News, Outcome, Send};
use rule::{Approval, RuleMet};
use state::{Cause, Clash, State, StateName};

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

/// What an operator decided about a payout in review, and on what grounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    pub outcome: Resolved,
    pub reason: Reason,
    /// Where the proof can be found, such as a ticket or a bank statement line.
    pub evidence: String,
    /// The owner of the operator's credential.
    pub by: String,
    pub at: Timestamp,
}

/// What an operator can decide about a payout in review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolved {
    Settled,
    Returned,
    Failed,
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

/// Something that happened to a payout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub source: Source,
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Statements about an attempt name it; statements about a send name that too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// A second person agrees.
    Approve { by: String },
    /// The caller or an operator takes it back.
    Cancel { reason: Reason },
    /// The caller or an operator wants the provider, which has it, to cancel it. The provider decides.
    AskToCancel { reason: Reason },
    /// The provider was asked to cancel that attempt, and says where it is instead.
    NotCanceled { attempt: u8, report: Report },
    /// A rule of ours, or the lack of an account, says no before dispatch: to the provider whose turn it is while there is another one, else to the payout.
    Decline {
        reason: Reason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<RuleMet>,
    },
    /// A whole balance is to be paid out, and that much is in it now: from here on this is the amount, and it is reserved.
    Fix { money: Money },
    /// It is due, and its provider is not being dispatched to: it waits until it is.
    Hold { why: Reason },
    /// **The intent to send**: committed before the first byte leaves, after `send_by` none does. Until `aside_until` nobody was allowed to send it.
    Initiate {
        send_by: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aside_until: Option<Timestamp>,
    },
    /// As `Initiate`, in one request with others, which has a key of its own. While inconclusive: the intent to send that request again.
    Join { group: ProviderKey, send_by: Timestamp },
    /// The intent to send the same bytes under the same key again.
    Resend { send_by: Timestamp },
    /// No byte of that send left.
    NotSent { attempt: u8, send: u32, why: Reason },
    /// The provider answered that it did not process that send.
    Unprocessed {
        attempt: u8,
        send: u32,
        why: Reason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// That send ended without a usable answer.
    NoAnswer { attempt: u8, send: u32, why: Reason },
    /// A documented refusal in the answer to that send.
    Refused { attempt: u8, send: u32, reason: Reason },
    /// The provider holds other content under our key.
    KeyConflict { attempt: u8 },
    /// What the provider says about that attempt.
    Reported { attempt: u8, report: Report },
    /// The provider does not know that attempt now.
    NotFound { attempt: u8 },
    /// The provider does not know that attempt, and by its documents that proves by now that nothing was done, nor will be.
    /// Says nothing about sends after `send`, which was the latest when it was asked.
    NeverDone { attempt: u8, send: u32, reason: Reason },
    /// That provider has an attempt of this payout of which there is no record: the store has forgotten it.
    Elsewhere { provider: Provider, attempt: u8, report: Report },
    /// A question to the provider led nowhere.
    NoNews { attempt: u8, why: Reason },
    /// Somebody wants to know now.
    Check,
    /// Handling it failed again and again.
    Stuck { why: Reason },
    /// An operator decides a payout in review.
    Resolve(Resolution),
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

/// What a fact came to. The steps are to be committed, whole, on the version that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The state changes.
    Moved(Step),
    /// Already so, or older than what is known: the observation is kept, the state stays.
    Known(Step),
    /// Contradicts what is known: the step moves the payout to review.
    Refused(Clash, Step),
    /// A command that is not possible now. Nothing is to be written.
    Declined(Declined),
}

/// Why a command is not possible now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    #[error("the payout can no longer be stopped here: it may already be with the provider, or it has ended")]
    TooLate,
    #[error("the payout is not waiting for approval")]
    NotAwaitingApproval,
    #[error("the time for an approval is over")]
    ApprovalExpired,
    #[error("the person who asked for the payout, or has decided where it goes or how much, cannot approve it")]
    MakerIsChecker,
    #[error(
        "it is not on record who has decided where it goes: write its payout instrument and its account once more; this payout can only be canceled"
    )]
    MakerUnknown,
    #[error("the payout is not due for dispatch")]
    NotDispatchable,
    #[error("the amount of the payout is fixed")]
    AmountFixed,
    #[error("the payout is not inconclusive")]
    NotInconclusive,
    #[error("the payout was sent with others, and is sent again with them or not at all")]
    SentWithOthers,
    #[error("the payout is not in review")]
    NotInReview,
    #[error("its amount was never fixed, so nothing can be booked as paid: resolve it as failed, and pay or top up the difference by itself")]
    AmountUnknown,
    #[error("the provider has not been asked about this payout, or its word is final")]
    NothingToCheck,
}

/// A decision and all that follows from it. Committed whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The record as it is after the step; its version is one more than the one decided on.
    pub payout: Payout,
    pub observation: Observation,
    pub events: Vec<Event>,
    pub entries: Vec<Entry>,
    pub next: Next,
}

/// A line of a payout's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    pub version: u64,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StateName>,
    pub to: StateName,
    /// `None` for the opening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<Fact>,
}

/// Where a payout should stand by the evidence.
struct Target {
    state: State,
    /// When the provider says that it got there.
    at: Option<Timestamp>,
    attempt_failed: bool,
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

// === impl Verdict ===

impl Verdict {
    /// The step to commit, if there is one.
    #[must_use]
    pub fn step(&self) -> Option<&Step> {
        match self {
            Self::Moved(step) | Self::Known(step) | Self::Refused(_, step) => Some(step),
            Self::Declined(_) => None,
        }
    }
}

// === impl Fact ===

impl Fact {
    #[must_use]
    pub const fn new(source: Source, what: What) -> Self {
        Self { source, what }
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

    /// Ready to go now, or waiting for its day.
    fn dispatchable(&self, now: Timestamp) -> State {
        match self.scheduled_for {
            Some(until) if until > now => State::Scheduled { until },
            _ => State::Requested,
        }
    }

    /// Puts a fact into the record. A command answers what it decided; evidence answers nothing, the fold decides.
    fn absorb(&mut self, what: &What, plan: &Plan, now: Timestamp) -> Result<Option<Command>, Declined> {
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
        if by == self.maker || self.decided_by.iter().flatten().any(|made| made == by) {
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

    /// Where the payout should stand, by all that is known now. `before` is the record that `fact` met.
    fn stands(&self, before: &Self, fact: &Fact, plan: &Plan, now: Timestamp) -> Target {
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

/// What a command decided.
enum Command {
    Enter(State),
    Remember(Next),
}

// === impl Target ===

impl Target {
    const fn now(state: State) -> Self {
        Self { state, at: None, attempt_failed: false }
    }

    const fn at(state: State, at: Timestamp) -> Self {
        Self { state, at: Some(at), attempt_failed: false }
    }
}

// === impl Resolution ===

impl Resolution {
    fn state(&self) -> State {
        let reason = self.reason.clone();
        match self.outcome {
            Resolved::Settled => State::Settled,
            Resolved::Returned => State::Returned { reason },
            Resolved::Failed => State::Failed { reason },
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

/// Whether the fact comes from the work that is planned for the payout, so that its plan goes on from here.
const fn is_our_doing(source: Source) -> bool {
    match source {
        Source::Worker | Source::Answer | Source::Poll | Source::Clock => true,
        Source::Notice | Source::Caller | Source::Operator => false,
    }
}

fn retry_after(what: &What) -> SignedDuration {
    if let What::Unprocessed { retry_after_ms: Some(ms), .. } = what {
        SignedDuration::from_millis(i64::try_from(*ms).unwrap_or(i64::MAX))
    } else {
        SignedDuration::ZERO
    }
}
