//! A payout on the bench: opened, led by facts, and after each of them checked for what must always hold. A fact is written as one word.

#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

mod matrix;
mod orders;
mod stories;

use super::attempt::Fate;
use super::*;
use crate::fact::{ProviderReference, Report, Status};
use crate::id::{BatchId, EventId, ProviderKey, Shards};
use crate::metadata::Metadata;
use crate::money::{Currency, Money};

/// A payout with its surroundings: the clock, the account, the events so far, the work that the due index would hold.
#[derive(Clone, Debug)]
struct Bench {
    payout: Payout,
    now: Timestamp,
    plan: Plan,
    funds: BTreeMap<Account, i64>,
    events: Vec<Event>,
    due: Option<Next>,
}

fn party() -> PartyId {
    PartyId::parse("acme").expect("a party")
}

fn pounds(minor: i64) -> Money {
    Money::new(minor, Currency::parse("GBP").expect("a currency")).expect("an amount")
}

/// `10s`, `72h`.
/// A request for many payouts.
fn group() -> ProviderKey {
    ProviderKey::of_group(BatchId::derive(&PartyId::parse("acme").expect("a party id"), Mode::Test, "batch", Shards::ONE), 1)
}

fn duration(text: &str) -> SignedDuration {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The lines of a table without its first, which names the columns.
fn rows(table: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|line| !line.is_empty());
    (lines.next().expect("a table has a line that names its columns"), lines.collect())
}

fn plan() -> Plan {
    Plan {
        polling: Polling { waits: ["10s", "1m", "10m"].map(duration).to_vec(), bound: duration("72h") },
        redispatch: Backoff { first: duration("1s"), factor: 2, cap: duration("1m") },
        last_words: &[],
        cancelable: true,
        dispatch_bound: duration("1h"),
    }
}

/// What a provider says about an attempt.
fn reported(attempt: u8, status: Status, at: Option<Timestamp>) -> What {
    let reference = Some(ProviderReference(format!("ref-{attempt}")));
    What::Reported { attempt, report: Report { status, provider_status: "as they say".to_owned(), at, reference, amount: Some(pounds(10_000)) } }
}

impl Bench {
    /// `how`: `at-once`, `approval`, `day`, which is one day ahead, or `whole`, which is a whole balance on that day. `providers`: how many there are to try.
    fn open(how: &str, providers: usize) -> Self {
        let now: Timestamp = "2026-03-02T09:00:00Z".parse().expect("a time");
        let order = Order {
            id: PayoutId::derive(&party(), Mode::Test, "order-1", Shards::ONE),
            party: party(),
            mode: Mode::Test,
            transaction_id: "order-1".to_owned(),
            amount: if how == "whole" { Amount::Whole(Currency::GBP) } else { pounds(10_000).into() },
            keeps: 0,
            context_code: "withdrawal".to_owned(),
            metadata: Metadata::from(&BTreeMap::from([("order".to_owned(), "1".to_owned())])),
            scheduled_for: matches!(how, "day" | "whole").then(|| now + duration("24h")),
            route: vec![Provider::Truelayer; providers],
            maker: "maker".to_owned(),
            batch_id: None,
            replaces: None,
            due_date: None,
            decided_by: BTreeSet::new(),
            approve_by: (how == "approval").then(|| now + duration("72h")),
            rule: None,
            trace: None,
        };
        let step = if how == "refused" { Payout::open_refused(order, Reason::new("insufficient_funds"), now) } else { Payout::open(order, now) };
        let waits = matches!(how, "approval" | "day" | "whole" | "refused");
        assert_eq!(step.events.len(), if waits { 2 } else { 1 });
        assert_eq!((step.payout.version, step.payout.sequence), (1, if waits { 2 } else { 1 }));
        let funds = BTreeMap::from([(Account::Available, 10_000), (Account::Reserved, 0), (Account::Settled, 0)]);
        let mut bench = Self { payout: step.payout.clone(), now, plan: plan(), funds, events: Vec::new(), due: None };
        bench.take(&step);
        bench
    }

    /// Opened, then led by words.
    fn led(how: &str, providers: usize, words: &str) -> Self {
        let mut bench = Self::open(how, providers);
        bench.lead(words);
        bench
    }

    /// Words are facts, or times that pass, such as `+1h`.
    fn lead(&mut self, words: &str) {
        for word in words.split_whitespace() {
            if let Some(time) = word.strip_prefix('+') {
                self.now += duration(time);
            } else if let Verdict::Declined(declined) = self.meets(word) {
                panic!("{word} of {words}: {declined}");
            }
        }
    }

    fn meets(&mut self, word: &str) -> Verdict {
        if word == "AtBound" {
            self.now = self.payout.since + self.plan.polling.bound;
        }
        let fact = self.fact(word);
        self.hears(&fact)
    }

    /// A word as a fact: its name in the tables and, where it is not about the latest attempt and send, about which: `Settled/1`, `Refused/1.2`.
    fn fact(&self, word: &str) -> Fact {
        let (name, about) = word.split_once('/').unwrap_or((word, ""));
        let (number, send) = about.split_once('.').unwrap_or((about, ""));
        let attempt = number.parse().unwrap_or_else(|_| self.payout.attempt().map_or(1, |attempt| attempt.number));
        let sends = self.payout.attempts.iter().find(|held| held.number == attempt).map_or(1, |held| held.sends);
        let send = send.parse().unwrap_or(sends);
        let code = |code: &str| Reason::new(code);
        let send_by = self.now + duration("10s");
        let resolve = |outcome| {
            What::Resolve(Resolution {
                outcome,
                reason: code("as_the_bank_says"),
                evidence: "ticket 7".to_owned(),
                by: "ops".to_owned(),
                at: self.now,
            })
        };
        let says = |status| (Source::Notice, reported(attempt, status, None));
        let (source, what) = match name {
            "Approve" => (Source::Caller, What::Approve { by: "checker".to_owned() }),
            "ApproveOwn" => (Source::Caller, What::Approve { by: "maker".to_owned() }),
            "Cancel" => (Source::Caller, What::Cancel { reason: code("asked") }),
            "AskToCancel" => (Source::Caller, What::AskToCancel { reason: code("asked") }),
            "NotCanceled" => {
                let What::Reported { attempt, report } = reported(attempt, Status::Authorised, None) else { panic!("a report") };
                (Source::Poll, What::NotCanceled { attempt, report })
            }
            "Decline" => (Source::Worker, What::Decline { reason: code("invalid_request"), rule: None }),
            "Fix" => (Source::Worker, What::Fix { money: pounds(10_000) }),
            "Initiate" => (Source::Worker, What::Initiate { send_by, aside_until: None }),
            // It had been set aside, and has just been released.
            "Released" => (Source::Worker, What::Initiate { send_by, aside_until: Some(self.now) }),
            "Join" => (Source::Worker, What::Join { group: group(), send_by }),
            "Resend" => (Source::Worker, What::Resend { send_by }),
            "NotSent" => (Source::Answer, What::NotSent { attempt, send, why: code("connect") }),
            "Unprocessed" => (Source::Answer, What::Unprocessed { attempt, send, why: code("429"), retry_after_ms: Some(5_000) }),
            "NoAnswer" => (Source::Answer, What::NoAnswer { attempt, send, why: code("timeout") }),
            "Refused" => (Source::Answer, What::Refused { attempt, send, reason: code("no_such_account") }),
            "KeyConflict" => (Source::Answer, What::KeyConflict { attempt }),
            "Authorised" => says(Status::Authorised),
            "Submitted" => says(Status::Submitted),
            "Settled" => says(Status::Settled),
            "Rejected" => says(Status::Rejected { reason: code("blocked") }),
            "Failed" => says(Status::Failed { reason: code("scheme_error") }),
            "Returned" => says(Status::Returned { reason: code("account_closed") }),
            "Canceled" => says(Status::Canceled { reason: code("canceled_there") }),
            "Unmapped" => says(Status::Unmapped),
            "OtherAmount" => {
                let (provider_status, at) = ("ok".to_owned(), Some(self.payout.reached[&StateName::Requested]));
                let report = Report { status: Status::Authorised, provider_status, at, reference: None, amount: Some(pounds(99)) };
                (Source::Notice, What::Reported { attempt, report })
            }
            "NotFound" => (Source::Poll, What::NotFound { attempt }),
            "Elsewhere" => {
                let report = Report { status: Status::Settled, provider_status: "ok".to_owned(), at: None, reference: None, amount: None };
                (Source::Poll, What::Elsewhere { provider: Provider::Mollie, attempt, report })
            }
            "NeverDone" => (Source::Poll, What::NeverDone { attempt, send, reason: code("payout_not_found") }),
            "NoNews" | "AtBound" => (Source::Poll, What::NoNews { attempt, why: code("503") }),
            "Check" => (Source::Operator, What::Check),
            "Hold" => (Source::Worker, What::Hold { why: code("circuit_open") }),
            "Stuck" => (Source::Worker, What::Stuck { why: code("leased_too_often") }),
            "ResolveSettled" => (Source::Operator, resolve(Resolved::Settled)),
            "ResolveReturned" => (Source::Operator, resolve(Resolved::Returned)),
            "ResolveFailed" => (Source::Operator, resolve(Resolved::Failed)),
            _ => panic!("{word} is no fact"),
        };
        Fact::new(source, what)
    }

    /// Takes a fact in, checks the step, and commits it.
    fn hears(&mut self, fact: &Fact) -> Verdict {
        let verdict = self.payout.apply(fact, &self.plan, self.now);
        assert_eq!(verdict, self.payout.apply(fact, &self.plan, self.now), "the same question has the same answer");
        let Some(step) = verdict.step() else { return verdict };
        let (before, after) = (&self.payout, &step.payout);
        let (from, to) = (before.state.name(), after.state.name());
        let context = || format!("{fact:?} on {before:#?}");

        // I4: one version, one observation, one event for each change, and nothing else for none.
        assert_eq!(after.version, before.version + 1);
        let seen = &step.observation;
        assert_eq!((seen.version, seen.at, seen.from, seen.to, seen.fact.as_ref()), (after.version, self.now, Some(from), to, Some(fact)));
        match &verdict {
            Verdict::Known(_) => {
                let fixed = matches!(fact.what, What::Fix { .. });
                assert!(step.events.is_empty() && step.entries.is_empty() != fixed && after.sequence == before.sequence, "{}", context());
                assert_eq!((from, before.since), (to, after.since), "{}", context());
            }
            Verdict::Moved(_) => {
                assert_eq!(step.events.len(), 1, "{}", context());
                assert_ne!(from, to, "{}", context());
            }
            Verdict::Refused(clash, _) => {
                assert_eq!(step.events.len(), 1, "{}", context());
                assert_eq!(after.state, State::InReview { cause: Cause::Clash(*clash) }, "{}", context());
                assert!(!matches!(before.state, State::InReview { cause: Cause::Clash(_) }), "{}", context());
            }
            Verdict::Declined(_) => panic!("has no step"),
        }

        // An amount is fixed once, before anything is sent, and by nothing else.
        let fixes = matches!((before.amount, &fact.what), (Amount::Whole(_), What::Fix { .. }));
        assert!(if fixes { after.amount.exact().is_some() } else { after.amount == before.amount }, "{}", context());
        assert!(after.amount.exact().is_some() || after.attempts.iter().all(|attempt| attempt.sends == 0), "{}", context());

        // I3: the next attempt exists only if the one before was closed by the provider's word, and then that one is never sent again.
        let closed = |attempt: &Attempt| {
            let refused = !attempt.live.is_empty() && attempt.live.iter().all(|send| matches!(send.fate, Fate::Refused(_)));
            refused || attempt.passed_over.is_some() || attempt.evidence.rejected.is_some() || attempt.evidence.failed.is_some()
        };
        assert!(after.attempts.len() <= before.attempts.len() + 1 && after.attempts.len() <= after.route.len());
        if after.attempts.len() > before.attempts.len() {
            assert!(before.attempts.last().is_none_or(closed), "{}", context());
        }
        for (was, is) in before.attempts.iter().zip(&after.attempts) {
            assert_eq!((was.number, was.key, was.provider), (is.number, is.key, is.provider));
            let last = usize::from(is.number) == after.attempts.len();
            assert!(is.sends == was.sends || (last && is.sends == was.sends + 1), "{}", context());
        }

        // I5: money is free again only if no send can have moved it, or somebody says that it did not move or came back.
        let freed = step.entries.iter().any(|entry| entry.to == Account::Available);
        if freed {
            assert!(matches!(to, StateName::Returned | StateName::Failed | StateName::Rejected | StateName::Canceled), "{}", context());
            if !matches!(fact.what, What::Resolve(_)) {
                for attempt in &after.attempts {
                    let silent = attempt.live.iter().any(|send| !matches!(send.fate, Fate::Refused(_)));
                    let evidence = &attempt.evidence;
                    let back = evidence.returned.is_some() || evidence.canceled.is_some() || evidence.failed.is_some() || evidence.rejected.is_some();
                    assert!(!silent || back, "{}", context());
                }
            }
        }

        // I10: what is withdrawn is not dispatched, what may be under way is not withdrawn.
        match &fact.what {
            What::Cancel { .. } => assert!(from.is_before_dispatch() && after.withdrawn.is_some()),
            What::Decline { .. } => {
                let passed_over = after.attempts.last().is_some_and(|attempt| attempt.passed_over.is_some() && attempt.live.is_empty());
                assert!(from.is_before_dispatch() && (after.withdrawn.is_some() || passed_over), "{}", context());
            }
            What::Join { .. } if from == StateName::Inconclusive => assert!(before.attempt().is_some_and(|attempt| attempt.group == Some(group()))),
            What::Resend { .. } => assert!(before.attempt().is_some_and(|attempt| attempt.group.is_none())),
            What::Initiate { .. } | What::Join { .. } => assert!(before.withdrawn.is_none() && from.is_before_dispatch(), "{}", context()),
            _ => {}
        }

        let step = step.clone();
        self.take(&step);
        verdict
    }

    /// What the store does with a step.
    fn take(&mut self, step: &Step) {
        for entry in &step.entries {
            assert_eq!(entry.minor, step.payout.amount.exact().map_or(0, Money::minor));
            *self.funds.entry(entry.from).or_default() -= entry.minor;
            *self.funds.entry(entry.to).or_default() += entry.minor;
        }
        // I5, I6: the amount lies whole where the state says, and nothing else lies anywhere.
        assert_eq!(self.funds.values().sum::<i64>(), 10_000);
        assert_eq!(self.funds[&step.payout.holds_funds_in()], 10_000, "{:?} in {:?}", self.funds, step.payout.state);

        for event in &step.events {
            self.events.push(event.clone());
            let number = u32::try_from(self.events.len()).expect("few events");
            assert_eq!(event.id, EventId::new(step.payout.id, number), "numbered without gaps");
        }
        assert_eq!(usize::try_from(step.payout.sequence).ok(), Some(self.events.len()));

        match step.next {
            Next::Keep => {}
            Next::Nothing => self.due = None,
            Next::Execute(_) | Next::Poll(_) => self.due = Some(step.next),
        }
        // I8: whatever has not ended and does not wait for a person has work, of the kind that leads on.
        let context = || format!("{:?} with {:?} after {:?}", step.payout.state, self.due, step.observation.fact);
        match step.payout.state.name() {
            StateName::Requested | StateName::AwaitingApproval | StateName::Scheduled | StateName::Initiated => {
                assert!(matches!(self.due, Some(Next::Execute(_))), "{}", context());
            }
            StateName::Inconclusive | StateName::Authorised | StateName::Submitted => {
                assert!(matches!(self.due, Some(Next::Poll(_))), "{}", context());
            }
            StateName::Settled | StateName::Returned | StateName::Failed | StateName::Rejected | StateName::Canceled | StateName::InReview => {
                assert!(!matches!(self.due, Some(Next::Execute(_))), "{}", context())
            }
        }
        self.payout = step.payout.clone();
    }
}
