//! What must hold for any facts in any order.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::matrix::edges;
use super::*;

const SENDS: u32 = 3;

/// Every fact there is, as words.
const WORDS: [&str; 36] = [
    "Approve",
    "ApproveOwn",
    "Cancel",
    "AskToCancel",
    "NotCanceled",
    "Decline",
    "Hold",
    "Fix",
    "Fix",
    "Initiate",
    "Initiate",
    "Initiate",
    "Join",
    "Resend",
    "NotSent",
    "Unprocessed",
    "NoAnswer",
    "Refused",
    "KeyConflict",
    "Elsewhere",
    "Authorised",
    "Submitted",
    "Settled",
    "Rejected",
    "Failed",
    "Returned",
    "Canceled",
    "Unmapped",
    "NotFound",
    "NeverDone",
    "NoNews",
    "Check",
    "Stuck",
    "ResolveSettled",
    "ResolveReturned",
    "ResolveFailed",
];

fn source() -> impl Strategy<Value = Source> {
    prop::sample::select(vec![Source::Worker, Source::Answer, Source::Poll, Source::Notice, Source::Clock])
}

fn status() -> impl Strategy<Value = Status> {
    let reason = || prop::sample::select(vec!["one", "two"]).prop_map(Reason::new);
    prop_oneof![
        3 => Just(Status::Authorised),
        3 => Just(Status::Submitted),
        2 => Just(Status::Settled),
        1 => reason().prop_map(|reason| Status::Rejected { reason }),
        1 => reason().prop_map(|reason| Status::Failed { reason }),
        1 => reason().prop_map(|reason| Status::Returned { reason }),
        1 => reason().prop_map(|reason| Status::Canceled { reason }),
        1 => Just(Status::Unmapped),
    ]
}

/// How each send of an attempt was answered, by the number of the send. A send has one answer, besides that it may have been given up as silent.
fn answers() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["NotSent", "Unprocessed", "NoAnswer", "Refused"]), 3)
}

/// What may be said about an attempt, before it is known how its sends were answered.
#[derive(Clone, Debug)]
enum Said {
    Status(Status, i64),
    Answer(u32),
    Silence(u32),
    Word(&'static str),
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        6 => (status(), -3_600_i64..0).prop_map(|(status, at)| Said::Status(status, at)),
        3 => (1..=SENDS).prop_map(Said::Answer),
        2 => (1..=SENDS).prop_map(Said::Silence),
        1 => prop::sample::select(vec!["NotFound", "NoNews", "NotFound", "NoNews", "OtherAmount", "KeyConflict"]).prop_map(Said::Word),
    ]
}

/// The facts of a case: what was said about which attempt.
fn facts() -> impl Strategy<Value = Vec<(u8, Said)>> {
    prop::collection::vec((1_u8..=2, said()), 0..8)
}

/// Facts by their place in a case, and who said them.
type Order = Vec<(usize, Source)>;

/// All facts of a case in some order, some of them more than once.
fn order(facts: usize) -> impl Strategy<Value = Order> {
    prop::collection::vec(any::<Index>(), 0..6).prop_flat_map(move |again| {
        let more = again.into_iter().filter(|_| facts > 0).map(|index| index.index(facts));
        let all: Vec<usize> = (0..facts).chain(more).collect();
        let sources = prop::collection::vec(source(), all.len());
        (Just(all).prop_shuffle(), sources).prop_map(|(all, sources)| all.into_iter().zip(sources).collect())
    })
}

fn two_orders() -> impl Strategy<Value = (Vec<(u8, Said)>, Order, Order)> {
    facts().prop_flat_map(|facts| {
        let count = facts.len();
        (Just(facts), order(count), order(count))
    })
}

/// Where a case starts, and which attempts it can speak of.
fn starts() -> impl Strategy<Value = Bench> {
    let walks = vec![
        (1, "Initiate"),
        (1, "Initiate NoAnswer Resend"),
        (1, "Initiate NoAnswer Resend Resend"),
        (2, "Initiate"),
        (2, "Initiate NoAnswer Resend"),
        (2, "Initiate Refused +1m Initiate"),
        (2, "Initiate Rejected +1m Initiate NoAnswer Resend"),
        (2, "Initiate Authorised Failed +1m Initiate"),
        (1, "Initiate NotSent Cancel"),
        (2, "Initiate Refused Cancel"),
    ];
    prop::sample::select(walks).prop_map(|(providers, words)| Bench::led("at-once", providers, words))
}

fn heard(mut bench: Bench, facts: &[(u8, Said)], answers: &[&str], order: &[(usize, Source)]) -> Bench {
    let told = bench.now;
    for (index, source) in order {
        let (attempt, said) = &facts[*index];
        let Some(held) = bench.payout.attempts.iter().find(|held| held.number == *attempt) else { continue };
        let mut fact = match said {
            Said::Status(status, seconds) => Fact::new(*source, reported(*attempt, status.clone(), Some(told + SignedDuration::from_secs(*seconds)))),
            Said::Answer(send) | Said::Silence(send) if *send > held.sends => continue,
            // The preludes say of these how they were answered.
            Said::Answer(1) if held.live.iter().all(|send| send.number != 1) => continue,
            Said::Answer(send) => bench.fact(&format!("{}/{attempt}.{send}", answers[*send as usize - 1])),
            Said::Silence(send) => bench.fact(&format!("NoAnswer/{attempt}.{send}")),
            Said::Word(word) => bench.fact(&format!("{word}/{attempt}")),
        };
        if let What::Refused { send, reason, .. } = &mut fact.what {
            *reason = Reason::new(&format!("refusal_{send}"));
        }
        fact.source = *source;
        bench.now += duration("1s");
        bench.hears(&fact);
    }
    bench
}

fn is_clash(payout: &Payout) -> bool {
    matches!(payout.state, State::InReview { cause: Cause::Clash(_) })
}

/// A random walk: any words, about any attempt and send, from anybody, with time passing.
#[derive(Clone, Debug)]
struct Walk {
    how: &'static str,
    providers: usize,
    steps: Vec<(&'static str, u8, u32, Option<Source>, &'static str)>,
}

fn walks() -> impl Strategy<Value = Walk> {
    let word = prop::sample::select(WORDS.to_vec());
    let time = prop::sample::select(vec!["0s", "0s", "1s", "20s", "2m", "2m", "2h", "25h", "73h"]);
    let step = (word, 0_u8..4, 0_u32..4, prop::option::weighted(0.3, source()), time);
    let how = prop::sample::select(vec!["at-once", "at-once", "at-once", "approval", "day", "whole"]);
    (how, 1_usize..=3, prop::collection::vec(step, 0..25)).prop_map(|(how, providers, steps)| Walk { how, providers, steps })
}

impl Walk {
    /// Takes the walk, and shows each step: the payout before, the fact, the verdict.
    fn take(&self, mut each: impl FnMut(&Payout, &Fact, &Verdict)) -> Bench {
        let mut bench = Bench::open(self.how, self.providers);
        for (word, attempt, send, source, time) in &self.steps {
            bench.now += duration(time);
            let about = match (attempt, send) {
                (0, _) => String::new(),
                (attempt, 0) => format!("/{attempt}"),
                (attempt, send) => format!("/{attempt}.{send}"),
            };
            let mut fact = bench.fact(&format!("{word}{about}"));
            fact.source = source.unwrap_or(fact.source);
            let before = bench.payout.clone();
            let verdict = bench.hears(&fact);
            each(&before, &fact, &verdict);
        }
        bench
    }
}

/// A provider that never says anything definite, and workers that do what is due. Answers how many steps it took until nothing was due.
fn drudge(bench: &mut Bench, moods: &[u8]) -> usize {
    let mut steps = 0;
    let mut moods = moods.iter().cycle();
    let mut mood = || moods.next().copied().unwrap_or(0);
    while let Some(due) = bench.due {
        let state = bench.payout.state.name();
        if state.is_final() || state == StateName::InReview {
            break;
        }
        if let Next::Execute(at) | Next::Poll(at) = due {
            bench.now = bench.now.max(at);
        }
        let ends = ["NoAnswer", "NotSent", "Unprocessed", "Unprocessed"];
        match (due, state) {
            // A lease that ends, or an answer at last.
            (Next::Execute(_), StateName::Initiated) => bench.lead(ends[usize::from(mood() % 4)]),
            // Nobody has approved it in time.
            (Next::Execute(_), StateName::AwaitingApproval) => bench.lead("Cancel"),
            (Next::Execute(_), _) if bench.payout.amount.exact().is_none() => bench.lead("Fix Initiate"),
            (Next::Execute(_), _) => bench.lead("Initiate"),
            (_, StateName::Inconclusive) if mood() % 2 == 0 => {
                // With the others that it was sent with, or alone.
                let together = bench.payout.attempt().is_some_and(|attempt| attempt.group.is_some());
                bench.lead(if together { "Join +20s" } else { "Resend +20s" });
                bench.lead(ends[usize::from(mood() % 4)]);
            }
            (_, _) => bench.lead(if mood() % 2 == 0 { "NotFound" } else { "NoNews" }),
        }
        steps += 1;
        assert!(steps < 5_000, "{:?} goes on and on", bench.payout);
    }
    steps
}

proptest! {
    /// I7: facts about attempts, in any order and any number, from anybody: the same end, and the money in the same place.
    #[test]
    fn order_and_repetition_cannot_matter(start in starts(), answers in answers(), (facts, one, other) in two_orders()) {
        let one = heard(start.clone(), &facts, &answers, &one);
        let other = heard(start, &facts, &answers, &other);
        prop_assert_eq!(one.payout.state.name(), other.payout.state.name());
        prop_assert_eq!(one.payout.state.reason(), other.payout.state.reason());
        prop_assert_eq!(is_clash(&one.payout), is_clash(&other.payout));
        prop_assert_eq!(&one.funds, &other.funds);
        prop_assert_eq!(&one.payout.contradictions, &other.payout.contradictions);
        for (one, other) in one.payout.attempts.iter().zip(&other.payout.attempts) {
            prop_assert_eq!(&one.evidence, &other.evidence);
        }
        for state in [StateName::Authorised, StateName::Submitted, StateName::Settled] {
            prop_assert_eq!(one.payout.reached.get(&state), other.payout.reached.get(&state), "{:?}", state);
        }
        let name = one.payout.state.name();
        // A refusal in an answer has no time of the provider's.
        if name.is_final() && name != StateName::Rejected {
            prop_assert_eq!(one.payout.reached[&name], other.payout.reached[&name]);
        }
    }

    /// I3, I4, I5, I6, I8, I10: each step of a walk is checked by the bench; here, that it follows an edge of the matrix.
    #[test]
    fn no_walk_leaves_the_table(walk in walks()) {
        let edges = edges();
        let mut strays = BTreeSet::new();
        walk.take(|before, fact, verdict| {
            if let Verdict::Moved(step) | Verdict::Refused(_, step) = verdict {
                let edge = (before.state.name(), step.payout.state.name());
                if !edges.contains(&edge) {
                    strays.insert((edge, format!("{fact:?} on {before:?}")));
                }
            }
        });
        prop_assert!(strays.is_empty(), "{strays:#?}");
    }

    /// I8: from wherever a walk led, a provider that never says anything definite ends in a state that is final or waits for a person.
    #[test]
    fn silence_ends_with_a_person(walk in walks(), moods: [u8; 16]) {
        let mut bench = walk.take(|_, _, _| {});
        // By a second person, in time or too late, or by nobody.
        if moods[0] % 2 == 0 {
            bench.meets("Approve");
        }
        let (began, waits) = (bench.now, bench.due);
        drudge(&mut bench, &moods);
        let end = bench.payout.state.name();
        prop_assert!(end.is_final() || end == StateName::InReview, "{:?}", end);
        // Its day, the bound of dispatching and twice that of asking.
        let first = if let Some(Next::Execute(at)) = waits { at.max(began) } else { began };
        let most = duration("1h") + duration("72h") + duration("72h") + duration("3h");
        prop_assert!(bench.now.duration_since(first) <= most, "{}", bench.now.duration_since(first));
    }

    /// I8: from a state that is asked about, nothing but `NotFound` and `NoNews` leads to review at the bound of that state, and not before.
    #[test]
    fn polling_without_news_ends_at_the_bound(walk in prop::sample::select(vec!["NoAnswer", "NoAnswer Resend", "Authorised", "Submitted"]), moods: [bool; 8]) {
        let mut bench = Bench::led("at-once", 1, &format!("Initiate {walk}"));
        let bound = bench.payout.since + bench.plan.polling.bound;
        let mut polls = 0;
        while bench.payout.state.name() != StateName::InReview {
            let Some(Next::Poll(at)) = bench.due else { panic!("{:?}", bench.due) };
            prop_assert!(at > bench.now && at <= bound);
            bench.now = at;
            bench.lead(if moods[polls % 8] { "NoNews" } else { "NotFound" });
            polls += 1;
        }
        prop_assert_eq!(bench.now, bound);
        prop_assert_eq!(&bench.payout.state, &State::InReview { cause: Cause::Unresolved });
        prop_assert!((400..440).contains(&polls), "72 hours by steps of 10 to 11 minutes: {}", polls);
    }

    /// I10: of a cancel and a dispatch that are decided on the same version the store takes one; the other is then declined.
    #[test]
    fn cancel_or_dispatch_never_both(walk in walks()) {
        let bench = walk.take(|_, _, _| {});
        let (mut canceled, mut dispatched) = (bench.clone(), bench);
        let cancels = matches!(canceled.meets("Cancel"), Verdict::Moved(_));
        let dispatches = matches!(dispatched.meets("Initiate"), Verdict::Moved(_));
        if cancels {
            prop_assert_eq!(canceled.meets("Initiate"), Verdict::Declined(Declined::NotDispatchable));
        }
        if dispatches {
            prop_assert!(cancels);
            prop_assert_eq!(dispatched.meets("Cancel"), Verdict::Declined(Declined::TooLate));
        }
    }

    /// Records outlive the program that wrote them: everything comes back as it was, and nothing that is not understood is dropped.
    #[test]
    fn records_come_back_as_they_were(walk in walks()) {
        walk.take(|_, fact, verdict| {
            let back: Fact = back(fact);
            assert_eq!(&back, fact);
            if let Some(step) = verdict.step() {
                // Its metadata is kept beside the record.
                let record = Payout { metadata: Metadata::default(), ..step.payout.clone() };
                assert_eq!(self::back::<Payout>(&step.payout), record);
                assert_eq!(self::back::<Observation>(&step.observation), step.observation);
            }
        });
    }
}

/// Out and in again; also in with something added at each place where the reader should speak up. `check` is the one fact without content of its own,
/// and there serde does not look.
fn back<T: Serialize + serde::de::DeserializeOwned>(record: &T) -> T {
    let text = serde_json::to_string(record).expect("serialises");
    let value: Value = serde_json::from_str(&text).expect("is JSON");
    for place in places(&value).into_iter().filter(|place| value.pointer(place).is_some_and(|fields| fields["what"] != "check")) {
        let mut strange = value.clone();
        strange.pointer_mut(&place).and_then(Value::as_object_mut).expect("an object").insert("strange".to_owned(), json!(1));
        let read = serde_json::from_value::<T>(strange);
        assert!(read.is_err(), "{place:?} of {text} takes anything");
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The objects of a record that have fixed fields.
fn places(value: &Value) -> Vec<String> {
    let mut places = Vec::new();
    let mut open = vec![(String::new(), value)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(fields) => {
                let map = ["/metadata", "/reached", "/state", "/report", "/status", "/cause", "/fate", "/money", "/amount"];
                if !map.iter().any(|map| path.ends_with(map)) {
                    places.push(path.clone());
                }
                open.extend(fields.iter().map(|(name, value)| (format!("{path}/{name}"), value)));
            }
            Value::Array(items) => open.extend(items.iter().enumerate().map(|(index, value)| (format!("{path}/{index}"), value))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    places
}
