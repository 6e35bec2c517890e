#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

use domain::fact::{Reason, Report};
use domain::id::{PartyId, Shards};
use domain::metadata::Metadata;
use domain::money::Currency;
use domain::payout::Order;
use domain::payout::attempt::{Evidence, Fate, Send};
use domain::payout::state::State;
use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

const DAY_S: i64 = 1_800_000_000 / 86_400 * 86_400;

/// So many seconds after the day has begun.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(DAY_S + seconds).expect("a time")
}

fn scope() -> Scope {
    Scope { provider: Provider::Mollie, mode: Mode::Test, from: at(0), to: at(86_400) }
}

fn pounds(minor: i64) -> Money {
    Money::new(minor, Currency::parse("GBP").expect("a currency")).expect("an amount")
}

fn payout(name: &str, state: State, sent: Timestamp) -> Payout {
    let party = PartyId::parse("acme").expect("a party");
    let id = PayoutId::derive(&party, Mode::Test, name, Shards::ONE);
    let order = Order {
        id,
        party,
        mode: Mode::Test,
        transaction_id: name.to_owned(),
        batch_id: None,
        replaces: None,
        due_date: None,
        amount: pounds(500).into(),
        keeps: 0,
        context_code: "withdrawal".to_owned(),
        metadata: Metadata::default(),
        scheduled_for: None,
        route: vec![Provider::Mollie],
        maker: "maker".to_owned(),
        decided_by: std::collections::BTreeSet::new(),
        approve_by: None,
        rule: None,
        trace: None,
    };
    let mut payout = Payout::open(order, sent).payout;
    payout.state = state;
    payout.attempts.push(attempt(id, 1, sent));
    payout
}

fn attempt(id: PayoutId, number: u8, sent: Timestamp) -> Attempt {
    Attempt {
        number,
        provider: Provider::Mollie,
        key: ProviderKey::derive(id, number),
        group: None,
        initiated_at: sent,
        aside_until: None,
        sends: 1,
        live: vec![Send { number: 1, at: sent, by: sent, fate: Fate::Open }],
        evidence: Evidence::default(),
        passed_over: None,
        reference: Some(ProviderReference(format!("payout_{}{number}", id.to_string().replace(['_', '-'], "")))),
        provider_status: None,
    }
}

/// What a provider would list of an attempt.
fn line(payout: &Payout, number: usize, status: Status) -> Line {
    let attempt = &payout.attempts[number - 1];
    let report = Report { status, provider_status: "word".to_owned(), at: None, reference: attempt.reference.clone(), amount: payout.amount.exact() };
    Line { key: Some(attempt.key), at: Some(attempt.first_sent()), report }
}

fn whole(lines: Vec<Line>) -> Statement {
    Statement { lines, whole: true }
}

fn kinds(ours: &[Payout], statement: &Statement) -> (usize, Vec<Kind>) {
    let compared = compare(&scope(), ours, statement);
    (compared.matched.len(), compared.breaks.iter().map(|found| found.kind).collect())
}

fn reason() -> Reason {
    Reason::new("some")
}

fn states() -> Vec<State> {
    let cause = domain::payout::state::Cause::Unresolved;
    vec![
        State::Scheduled { until: at(0) },
        State::Initiated,
        State::Inconclusive,
        State::Authorised,
        State::Submitted,
        State::Settled,
        State::Returned { reason: reason() },
        State::Failed { reason: reason() },
        State::Rejected { reason: reason() },
        State::Canceled { reason: reason() },
        State::InReview { cause },
    ]
}

/// What each state of ours means beside what a provider lists: `=` nothing differs, `s` the status does, `t` it is missing there.
#[test]
fn what_differs() {
    let statuses = [
        None,
        Some(Status::Authorised),
        Some(Status::Submitted),
        Some(Status::Settled),
        Some(Status::Returned { reason: reason() }),
        Some(Status::Failed { reason: reason() }),
        Some(Status::Rejected { reason: reason() }),
        Some(Status::Canceled { reason: reason() }),
        Some(Status::Unmapped),
    ];
    // unlisted, authorised, submitted, settled, returned, failed, rejected, canceled, unmapped
    let table = "
        scheduled    = s s s s = = = =
        initiated    = s s s s s s s =
        inconclusive = s s s s s s s =
        authorised   t = = s s s s s =
        submitted    t = = s s s s s =
        settled      t s s = s s s s =
        returned     t s s s = s s s =
        failed       = s s s s = = = =
        rejected     = s s s s = = = =
        canceled     = s s s s = = = =
        in_review    = s s s s s s s =";
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>()).filter(|row| !row.is_empty());
    let mut count = 0;
    for (row, state) in rows.zip(states()) {
        let ours = payout("a", state, at(10));
        assert_eq!(row[0], ours.state.name().as_str());
        for (cell, status) in row[1..].iter().zip(&statuses) {
            let lines = status.iter().map(|status| line(&ours, 1, status.clone())).collect();
            let found = kinds(std::slice::from_ref(&ours), &whole(lines)).1;
            let expected = match *cell {
                "s" => vec![Kind::DifferentStatus],
                "t" => vec![Kind::MissingThere],
                _ => Vec::new(),
            };
            assert_eq!(found, expected, "{} {status:?}", row[0]);
            count += 1;
        }
    }
    assert_eq!(count, 11 * 9);
}

#[test]
fn a_list_that_was_cut_misses_nothing() {
    let ours = [payout("a", State::Settled, at(10))];
    assert_eq!(kinds(&ours, &Statement { lines: Vec::new(), whole: false }), (0, Vec::new()));
    assert_eq!(kinds(&ours, &whole(Vec::new())), (0, vec![Kind::MissingThere]));
}

#[test]
fn amounts_keys_and_references() {
    let ours = [payout("a", State::Settled, at(10))];
    let good = line(&ours[0], 1, Status::Settled);
    let with = |change: fn(&mut Line)| {
        let mut line = good.clone();
        change(&mut line);
        kinds(&ours, &whole(vec![line]))
    };
    assert_eq!(with(|_| {}), (1, vec![]));
    assert_eq!(with(|line| line.key = None), (1, vec![]), "by the provider's id");
    assert_eq!(with(|line| line.report.reference = None), (1, vec![]), "by our key");
    assert_eq!(with(|line| line.report.amount = None), (1, vec![]), "no amount is no other amount");
    assert_eq!(with(|line| line.report.amount = Some(pounds(501))), (0, vec![Kind::DifferentAmount]));
    assert_eq!(with(|line| (line.key, line.report.reference) = (None, None)), (0, vec![Kind::MissingHere, Kind::MissingThere]));
    assert_eq!(kinds(&ours, &whole(vec![good.clone(), good])), (1, vec![Kind::TwiceThere]));
}

/// What our books say of an attempt that another one follows: it moved no money.
#[test]
fn an_attempt_that_was_closed_is_not_to_move() {
    let mut ours = payout("a", State::Settled, at(10));
    ours.attempts.push(attempt(ours.id, 2, at(20)));
    let second = line(&ours, 2, Status::Settled);
    assert_eq!(kinds(std::slice::from_ref(&ours), &whole(vec![second.clone()])), (1, vec![]));
    let both = whole(vec![line(&ours, 1, Status::Settled), second]);
    assert_eq!(kinds(&[ours], &both), (1, vec![Kind::DifferentStatus]));
}

#[test]
fn the_edges_of_the_day() {
    let minute = SignedDuration::from_mins(1);
    // Sent in the last second, listed in the next day; and the other way round.
    for (sent, listed, matched) in [(at(86_399), at(86_400) + minute, 1), (at(-1), at(0), 0), (at(86_400), at(86_399), 0), (at(0), at(-1), 1)] {
        let ours = payout("a", State::Settled, sent);
        let mut line = line(&ours, 1, Status::Settled);
        line.at = Some(listed);
        assert_eq!(kinds(std::slice::from_ref(&ours), &whole(vec![line.clone()])), (matched, vec![]), "{sent} {listed}");
        // A stranger is told on the day of its line only.
        let here = scope().from <= listed && listed < scope().to;
        assert_eq!(kinds(&[], &whole(vec![line])).1.len(), usize::from(here), "{listed}");
    }
    let neighbour = payout("b", State::Settled, at(-1));
    assert_eq!(kinds(&[neighbour], &whole(Vec::new())), (0, vec![]), "its own day misses it");
    let mut untimed = line(&payout("c", State::Settled, at(10)), 1, Status::Settled);
    untimed.at = None;
    assert_eq!(kinds(&[], &whole(vec![untimed])).1, [Kind::MissingHere], "too often rather than never");
}

#[test]
fn other_accounts_are_others() {
    let mut ours = payout("a", State::Settled, at(10));
    let listed = whole(vec![line(&ours, 1, Status::Settled)]);
    ours.mode = Mode::Live;
    assert_eq!(kinds(std::slice::from_ref(&ours), &listed).1, [Kind::MissingHere]);
    ours.mode = Mode::Test;
    ours.attempts[0].provider = Provider::Truelayer;
    assert_eq!(kinds(&[ours], &listed).1, [Kind::MissingHere]);
}

proptest! {
    /// Three days in a row over the same two sides: each payout and each stranger is told once, on one of them, whatever the order of the lines.
    #[test]
    fn each_is_told_on_one_day(
        sides in prop::collection::vec((-86_400_i64..172_800, -3_600_i64..3_600, 0..3_u8), 0..12),
        turn in 0_usize..12,
    ) {
        let (mut ours, mut lines) = (Vec::new(), Vec::new());
        for (index, (sent, later, side)) in sides.iter().enumerate() {
            let payout = payout(&index.to_string(), State::Settled, at(*sent));
            let mut line = line(&payout, 1, Status::Settled);
            line.at = Some(at((*sent + later).clamp(-86_400, 172_799)));
            // 0: both, 1: only ours, 2: only theirs.
            if *side < 2 { ours.push(payout); }
            if *side != 1 { lines.push(line); }
        }
        let turned = if lines.is_empty() { 0 } else { turn % lines.len() };
        lines.rotate_left(turned);
        let count = |side: u8| sides.iter().filter(|(_, _, of)| *of == side).count();
        let statement = whole(lines);
        let (mut matched, mut here, mut there) = (0, 0, 0);
        for day in [-86_400, 0, 86_400] {
            let scope = Scope { from: at(day), to: at(day + 86_400), ..scope() };
            let compared = compare(&scope, &ours, &statement);
            matched += compared.matched.len();
            here += compared.breaks.iter().filter(|found| found.kind == Kind::MissingHere).count();
            there += compared.breaks.iter().filter(|found| found.kind == Kind::MissingThere).count();
            prop_assert!(compared.breaks.iter().all(|found| matches!(found.kind, Kind::MissingHere | Kind::MissingThere)));
        }
        prop_assert_eq!((matched, there, here), (count(0), count(1), count(2)));
    }
}
