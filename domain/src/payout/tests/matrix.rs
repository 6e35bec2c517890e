//! The transition matrix: what each fact does to a payout in each state. For product owners first, for the compiler second.
//!
//! A cell is the state that the fact leads to, or
//!
//! - `.` for known: it was so already, or says nothing that changes anything; it is kept in the timeline and nothing else happens;
//! - `-` for declined: a command that is not possible now, nothing is written;
//! - `review` for a contradiction: the payout goes to review, and only a person leads it out;
//! - `in_review` where it goes to review without a contradiction: any definite word still leads it out.
//!
//! A row is a state and, after the stroke, how it came about where that matters; [`WALKS`] tells it in facts.

use std::collections::BTreeSet;

use super::*;

/// How a payout comes into each row. "Providers" is how many there are to try; facts are about the latest attempt and send.
const WALKS: &str = "
    row                      opened    providers  facts
    requested                at-once   1
    awaiting_approval        approval  1
    scheduled/day            day       1
    scheduled/due            day       1          +25h
    scheduled/held           at-once   1          Hold
    scheduled/unsent         at-once   1          Initiate NotSent +1m
    scheduled/next           at-once   2          Initiate Refused +1m
    scheduled/next-failed    at-once   2          Initiate Authorised Failed +1m
    initiated                at-once   1          Initiate
    initiated/again          at-once   1          Initiate NotSent +1m Initiate
    inconclusive             at-once   1          Initiate NoAnswer
    inconclusive/resent      at-once   1          Initiate NoAnswer Resend
    authorised               at-once   1          Initiate Authorised
    submitted                at-once   1          Initiate Authorised Submitted
    settled                  at-once   1          Initiate Authorised Submitted Settled
    returned                 at-once   1          Initiate Authorised Submitted Settled Returned
    returned/early           at-once   1          Initiate Authorised Returned
    failed                   at-once   1          Initiate Authorised Failed
    rejected/door            at-once   1          Initiate Refused
    rejected/status          at-once   1          Initiate Rejected
    rejected/unreachable     at-once   1          Initiate NotSent +1h Initiate NotSent
    rejected/declined        at-once   1          Decline
    canceled                 at-once   1          Cancel
    canceled/unsent          at-once   1          Initiate NotSent Cancel
    canceled/next            at-once   2          Initiate Refused Cancel
    canceled/next-failed     at-once   2          Initiate Authorised Failed Cancel
    canceled/there           at-once   1          Initiate Authorised Canceled
    in_review/clash          at-once   1          Initiate Authorised Failed Settled
    in_review/unresolved     at-once   1          Initiate NoAnswer AtBound
    in_review/unconfirmed    at-once   1          Initiate Authorised AtBound
    in_review/stuck          at-once   1          Initiate NoAnswer Stuck
    in_review/never-sent     at-once   1          Stuck
    settled/decided          at-once   1          Initiate NoAnswer AtBound ResolveSettled
    returned/decided         at-once   1          Initiate NoAnswer AtBound ResolveReturned
    failed/decided           at-once   1          Initiate NoAnswer AtBound ResolveFailed

    initiated/1of2           at-once   2          Initiate
    inconclusive/1of2        at-once   2          Initiate NoAnswer
    authorised/1of2          at-once   2          Initiate Authorised
    submitted/1of2           at-once   2          Initiate Submitted
    in_review/1of2           at-once   2          Initiate NoAnswer AtBound

    requested/1of2           at-once   2
    scheduled/unsent-1of2    at-once   2          Initiate NotSent +1m
    scheduled/2of3           at-once   3          Initiate Refused +1m
    scheduled/passed-over    at-once   2          Decline +1m
    initiated/passed-over    at-once   2          Decline +1m Initiate

    scheduled/refused        at-once   2          Initiate Refused +1m
    initiated/refused        at-once   2          Initiate Refused +1m Initiate
    initiated/rejected       at-once   2          Initiate Rejected +1m Initiate
    initiated/failed         at-once   2          Initiate Authorised Failed +1m Initiate
    inconclusive/refused     at-once   2          Initiate Refused +1m Initiate NoAnswer
    authorised/rejected      at-once   2          Initiate Rejected +1m Initiate Authorised
    settled/refused          at-once   2          Initiate Refused +1m Initiate Settled
    settled/rejected         at-once   2          Initiate Rejected +1m Initiate Settled
    failed/rejected          at-once   2          Initiate Rejected +1m Initiate Failed
    rejected/refused         at-once   2          Initiate Refused +1m Initiate Refused
    settled/decided-2        at-once   2          Initiate Rejected +1m Initiate NoAnswer AtBound ResolveSettled

    scheduled/whole-day      whole     1
    scheduled/whole          whole     1          +25h
    scheduled/whole-1of2     whole     2          +25h
    scheduled/fixed-1of2     whole     2          +25h Fix
    scheduled/fixed          whole     1          +25h Fix
    initiated/fixed          whole     1          +25h Fix Initiate
    canceled/whole           whole     1          Cancel
    rejected/whole           whole     1          +25h Decline
    in_review/whole          whole     1          Stuck
";

/// What people and our own workers do. A payout that may be with a provider cannot be taken back (the provider may be asked to, where it has accepted
/// it), and one that was taken back cannot be dispatched.
const COMMANDS: &str = "
    state                  Approve    Cancel    AskToCancel  Decline   Hold       Initiate   Resend  Check  Stuck      ResolveSettled  ResolveReturned  ResolveFailed
    requested              -          canceled  -            rejected  scheduled  initiated  -       -      in_review  -               -                -
    awaiting_approval      requested  canceled  -            rejected  -          -          -       -      in_review  -               -                -
    scheduled/day          -          canceled  -            rejected  -          -          -       -      in_review  -               -                -
    scheduled/due          -          canceled  -            rejected  -          initiated  -       -      in_review  -               -                -
    scheduled/held         -          canceled  -            rejected  -          initiated  -       -      in_review  -               -                -
    scheduled/unsent       -          canceled  -            rejected  -          initiated  -       -      in_review  -               -                -
    scheduled/next         -          canceled  -            rejected  -          initiated  -       -      in_review  -               -                -
    scheduled/next-failed  -          canceled  -            rejected  -          initiated  -       -      in_review  -               -                -
    initiated              -          -         -            -         -          -          -       -      in_review  -               -                -
    initiated/again        -          -         -            -         -          -          -       -      in_review  -               -                -
    inconclusive           -          -         -            -         -          -          .       .      in_review  -               -                -
    inconclusive/resent    -          -         -            -         -          -          .       .      in_review  -               -                -
    authorised             -          -         .            -         -          -          -       .      in_review  -               -                -
    submitted              -          -         -            -         -          -          -       .      in_review  -               -                -
    settled                -          -         -            -         -          -          -       .      .          -               -                -
    returned               -          -         -            -         -          -          -       -      .          -               -                -
    returned/early         -          -         -            -         -          -          -       -      .          -               -                -
    failed                 -          -         -            -         -          -          -       -      .          -               -                -
    rejected/door          -          -         -            -         -          -          -       -      .          -               -                -
    rejected/status        -          -         -            -         -          -          -       -      .          -               -                -
    rejected/unreachable   -          -         -            -         -          -          -       -      .          -               -                -
    rejected/declined      -          -         -            -         -          -          -       -      .          -               -                -
    canceled               -          -         -            -         -          -          -       -      .          -               -                -
    canceled/unsent        -          -         -            -         -          -          -       -      .          -               -                -
    canceled/next          -          -         -            -         -          -          -       -      .          -               -                -
    canceled/next-failed   -          -         -            -         -          -          -       -      .          -               -                -
    canceled/there         -          -         -            -         -          -          -       -      .          -               -                -
    in_review/clash        -          -         -            -         -          -          -       .      .          settled         returned         failed
    in_review/unresolved   -          -         -            -         -          -          -       .      .          settled         returned         failed
    in_review/unconfirmed  -          -         -            -         -          -          -       .      .          settled         returned         failed
    in_review/stuck        -          -         -            -         -          -          -       .      .          settled         returned         failed
    in_review/never-sent   -          -         -            -         -          -          -       -      .          settled         returned         failed
    settled/decided        -          -         -            -         -          -          -       .      .          -               -                -
    returned/decided       -          -         -            -         -          -          -       -      .          -               -                -
    failed/decided         -          -         -            -         -          -          -       -      .          -               -                -
";

/// How a send ended, and what came of asking. The send is the latest one; `AtBound` is a question without news when the bound of the state has come.
///
/// - Before any attempt, talk of a send means that a record was lost: review. That nobody knows of one is what one would expect.
/// - `Elsewhere`, as `KeyConflict`, tells of something that our record cannot explain: review.
/// - `NeverDone` is the word of a provider that remembers everything: all that was sent is refused. What is no silence cannot be ended by it.
/// - A refused second send says nothing about a silent first one (`inconclusive/resent`).
/// - A refusal together with an acceptance is a contradiction, in whichever order they come.
/// - What was not sent is free again once the bound of dispatching, which is shorter than that of asking, has passed.
const SENDS: &str = "
    state                  NotSent    Unprocessed  NoAnswer      Refused   KeyConflict  Elsewhere  NotFound  NeverDone  NoNews  AtBound    Unmapped
    requested              review     review       review        review    review       review     .         -          .       .          review
    awaiting_approval      review     review       review        review    review       review     .         -          .       .          review
    scheduled/day          review     review       review        review    review       review     .         -          .       .          review
    scheduled/due          review     review       review        review    review       review     .         -          .       .          review
    scheduled/unsent       .          .            .             .         review       review     .         -          .       rejected   .
    scheduled/next         .          .            .             .         review       review     .         -          .       .          .
    scheduled/next-failed  .          .            .             review    review       review     .         -          .       .          .
    initiated              scheduled  scheduled    inconclusive  rejected  review       review     .         -          .       in_review  .
    initiated/again        scheduled  scheduled    inconclusive  rejected  review       review     .         -          .       in_review  .
    inconclusive           scheduled  scheduled    .             rejected  review       review     .         rejected   .       in_review  .
    inconclusive/resent    .          .            .             .         review       review     .         rejected   .       in_review  .
    authorised             .          .            .             review    review       review     .         -          .       in_review  .
    submitted              .          .            .             review    review       review     .         -          .       in_review  .
    settled                .          .            .             review    review       review     .         -          .       .          .
    returned               .          .            .             review    review       review     .         -          .       .          .
    returned/early         .          .            .             review    review       review     .         -          .       .          .
    failed                 .          .            .             review    review       review     .         -          .       .          .
    rejected/door          .          .            .             .         review       review     .         -          .       .          .
    rejected/status        .          .            .             .         review       review     .         -          .       .          .
    rejected/unreachable   .          .            .             .         review       review     .         -          .       .          .
    rejected/declined      review     review       review        review    review       review     .         -          .       .          review
    canceled               review     review       review        review    review       review     .         -          .       .          review
    canceled/unsent        .          .            .             .         review       review     .         -          .       .          .
    canceled/next          .          .            .             .         review       review     .         -          .       .          .
    canceled/next-failed   .          .            .             review    review       review     .         -          .       .          .
    canceled/there         .          .            .             review    review       review     .         -          .       .          .
    in_review/clash        .          .            .             .         .            .          .         -          .       .          .
    in_review/unresolved   rejected   rejected     .             rejected  review       review     .         -          .       .          .
    in_review/unconfirmed  .          .            .             review    review       review     .         -          .       .          .
    in_review/stuck        scheduled  scheduled    .             rejected  review       review     .         -          .       .          .
    in_review/never-sent   review     review       review        review    review       review     .         -          .       .          review
    settled/decided        review     review       .             review    review       review     .         -          .       .          .
    returned/decided       review     review       .             review    review       review     .         -          .       .          .
    failed/decided         .          .            .             .         review       review     .         -          .       .          .
";

/// What the provider says about the attempt, in an answer, a poll or a notice; as an answer to a cancellation that came too late (`NotCanceled`, with
/// `Authorised` as the rest of it). `OtherAmount` is any of it with an amount that is not ours.
///
/// - It wins over whatever we thought of our own sends, as in `scheduled/unsent`.
/// - What ended does not come to life by a late `Authorised` or `Submitted`, unless the door had been shut (`rejected/door`) or it had been taken back.
/// - Money is known to be in two places at once, so to say, wherever `Settled` meets an end: review.
/// - What a person decided is opened again by a statement that cannot be true together with the decision. A return after a settlement can be.
const STATUSES: &str = "
    state                  Authorised  Submitted  Settled  Rejected  Failed  Returned  Canceled  NotCanceled  OtherAmount
    requested              review      review     review   review    review  review    review    review       review
    awaiting_approval      review      review     review   review    review  review    review    review       review
    scheduled/day          review      review     review   review    review  review    review    review       review
    scheduled/due          review      review     review   review    review  review    review    review       review
    scheduled/unsent       authorised  submitted  settled  rejected  failed  returned  canceled  authorised   review
    scheduled/next         review      review     review   .         .       review    canceled  review       review
    scheduled/next-failed  .           .          review   .         .       returned  canceled  .            review
    initiated              authorised  submitted  settled  rejected  failed  returned  canceled  authorised   review
    initiated/again        authorised  submitted  settled  rejected  failed  returned  canceled  authorised   review
    inconclusive           authorised  submitted  settled  rejected  failed  returned  canceled  authorised   review
    inconclusive/resent    authorised  submitted  settled  rejected  failed  returned  canceled  authorised   review
    authorised             .           submitted  settled  rejected  failed  returned  canceled  .            review
    submitted              .           .          settled  rejected  failed  returned  canceled  .            review
    settled                .           .          .        review    review  returned  review    .            review
    returned               .           .          .        review    review  .         review    .            review
    returned/early         .           .          .        .         .       .         .         .            review
    failed                 .           .          review   .         .       returned  canceled  .            review
    rejected/door          review      review     review   .         failed  review    canceled  review       review
    rejected/status        .           .          review   .         failed  returned  canceled  .            review
    rejected/unreachable   review      review     review   .         .       review    .         review       review
    rejected/declined      review      review     review   review    review  review    review    review       review
    canceled               review      review     review   review    review  review    review    review       review
    canceled/unsent        review      review     review   .         .       review    .         review       review
    canceled/next          review      review     review   .         .       review    .         review       review
    canceled/next-failed   .           .          review   .         .       review    .         .            review
    canceled/there         .           .          review   .         .       returned  .         .            review
    in_review/clash        .           .          .        .         .       .         .         .            .
    in_review/unresolved   authorised  submitted  settled  rejected  failed  returned  canceled  authorised   review
    in_review/unconfirmed  .           submitted  settled  rejected  failed  returned  canceled  .            review
    in_review/stuck        authorised  submitted  settled  rejected  failed  returned  canceled  authorised   review
    in_review/never-sent   review      review     review   review    review  review    review    review       review
    settled/decided        .           .          .        review    review  returned  review    .            review
    returned/decided       .           .          .        review    review  .         review    .            review
    failed/decided         review      review     review   .         .       review    .         review       review
";

/// Where a second provider is left, a refusal or a failure leads to it, but not out of a review, in which a person may have paid by other means. A cancellation at the provider does not: somebody meant to stop the payout.
const ROUTE: &str = "
    state                  Decline    NotSent    NoAnswer      Refused    Authorised  Settled  Rejected   Failed     Returned  Canceled
    requested/1of2         scheduled  review     review        review     review      review   review     review     review    review
    scheduled/unsent-1of2  .          .          .             .          authorised  settled  .          .          returned  canceled
    scheduled/2of3         .          .          .             .          review      review   .          .          review    canceled
    initiated/1of2         -          scheduled  inconclusive  scheduled  authorised  settled  scheduled  scheduled  returned  canceled
    inconclusive/1of2      -          scheduled  .             scheduled  authorised  settled  scheduled  scheduled  returned  canceled
    authorised/1of2        -          .          .             review     .           settled  scheduled  scheduled  returned  canceled
    submitted/1of2         -          .          .             review     .           settled  scheduled  scheduled  returned  canceled
    in_review/1of2         -          rejected   .             rejected   authorised  settled  rejected   failed     returned  canceled
";

/// What is said about the first attempt after it was closed: by a refusal of its send, or by the provider's status. Signs of money there are a matter
/// for a person, because the second attempt may pay too.
const CLOSED: &str = "
    state                  NotSent/1  NoAnswer/1  Refused/1  Authorised/1  Submitted/1  Settled/1  Rejected/1  Failed/1  Returned/1  Canceled/1  KeyConflict/1
    scheduled/refused      .          .           .          review        review       review     .           .         review      canceled    review
    initiated/refused      .          .           .          review        review       review     .           .         review      .           review
    initiated/rejected     .          .           .          .             .            review     .           .         review      .           review
    initiated/failed       .          .           review     .             .            review     .           .         review      .           review
    inconclusive/refused   .          .           .          review        review       review     .           .         review      .           review
    authorised/rejected    .          .           .          .             .            review     .           .         review      .           review
    settled/refused        .          .           .          review        review       review     .           .         review      .           review
    settled/rejected       .          .           .          .             .            review     .           .         review      .           review
    failed/rejected        .          .           .          .             .            review     .           .         review      .           review
    rejected/refused       .          .           .          review        review       review     .           .         review      .           review
    settled/decided-2      .          .           .          .             .            review     .           .         review      .           review
    scheduled/passed-over  .          .           .          review        review       review     .           .         review      canceled    review
    initiated/passed-over  .          .           .          review        review       review     .           .         review      .           review
";

/// The balance of an account is to be paid out whole: when it is due its amount is fixed, once, and before that nothing is sent.
const WHOLE: &str = "
    state                Fix  Cancel    Decline   Hold  Initiate   Join       Stuck      ResolveFailed  NotSent    Authorised
    scheduled/due        -    canceled  rejected  -     initiated  initiated  in_review  -              review     review
    scheduled/whole-day  -    canceled  rejected  -     -          -          in_review  -              review     review
    scheduled/whole      .    canceled  rejected  -     -          -          in_review  -              review     review
    scheduled/whole-1of2 .    canceled  rejected  -     -          -          in_review  -              review     review
    scheduled/fixed-1of2 -    canceled  .         -     initiated  initiated  in_review  -              review     review
    scheduled/fixed      -    canceled  rejected  -     initiated  initiated  in_review  -              review     review
    initiated/fixed      -    -         -         -     -          -          in_review  -              scheduled  authorised
    canceled/whole       -    -         -         -     -          -          .          -              review     review
    rejected/whole       -    -         -         -     -          -          .          -              review     review
    in_review/whole      -    -         -         -     -          -          .          failed         review     review
";

const TABLES: [&str; 6] = [COMMANDS, SENDS, STATUSES, ROUTE, CLOSED, WHOLE];

/// One row of [`WALKS`], walked.
fn walked(row: &str) -> Bench {
    let (_, walks) = rows(WALKS);
    let [_, opened, providers, facts @ ..] = &*walks.into_iter().find(|walk| walk[0] == row).unwrap_or_else(|| panic!("no walk to {row}")) else {
        panic!("{row}: a name, how it is opened, how many providers, facts")
    };
    Bench::led(opened, providers.parse().expect("a number"), &facts.join(" "))
}

fn state_of(row: &str) -> StateName {
    let name = row.split('/').next().expect("a first part");
    StateName::named(name).unwrap_or_else(|| panic!("{row} starts with no state"))
}

/// A verdict as a cell.
fn cell(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Moved(step) => step.payout.state.name().as_str(),
        Verdict::Known(_) => ".",
        Verdict::Refused(..) => "review",
        Verdict::Declined(_) => "-",
    }
}

/// Compares every cell with what [`Payout::apply`] does, and tells all that differ.
fn check(table: &str) {
    let (facts, rows) = rows(table);
    let mut wrong = Vec::new();
    for row in rows {
        assert_eq!(row.len(), facts.len(), "{row:?}");
        let payout = walked(row[0]);
        assert_eq!(payout.payout.state.name(), state_of(row[0]), "the walk to {}", row[0]);
        for (fact, expected) in facts.iter().zip(&row).skip(1) {
            let found = cell(&payout.clone().meets(fact));
            if found != *expected {
                wrong.push(format!("{} meets {fact}: {expected} in the table, {found} in fact", row[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The edges of the tables: which state may follow which.
pub(super) fn edges() -> BTreeSet<(StateName, StateName)> {
    let mut edges = BTreeSet::new();
    for table in TABLES {
        for row in rows(table).1 {
            for cell in row[1..].iter().filter(|cell| !matches!(**cell, "." | "-")) {
                let to = if *cell == "review" { StateName::InReview } else { state_of(cell) };
                edges.insert((state_of(row[0]), to));
            }
        }
    }
    edges
}

#[test]
fn every_cell_of_the_matrix() {
    TABLES.iter().for_each(|table| check(table));
}

/// The samples of events are of payouts that could be. What opens a payout is in no table: that it waits is told as its second event.
#[test]
fn the_ways_of_samples_are_edges() {
    let mut edges = edges();
    edges.extend([StateName::AwaitingApproval, StateName::Scheduled].map(|waits| (StateName::Requested, waits)));
    for kind in EventType::ALL {
        let way = crate::sample::way_to(kind);
        assert_eq!((way[0], way.len() == 1), (StateName::Requested, kind == EventType::Requested));
        for edge in way.windows(2) {
            assert!(edges.contains(&(edge[0], edge[1])), "{kind:?}: {edge:?}");
        }
        let end = *way.last().expect("an end");
        let tells = if kind == EventType::AttemptFailed { EventType::Scheduled } else { kind };
        assert_eq!(EventType::entering(end), tells);
    }
}

/// A state, a fact or a walk that is in no table would be tested nowhere.
#[test]
fn the_matrix_is_complete() {
    let walks: BTreeSet<_> = rows(WALKS).1.iter().map(|walk| walk[0]).collect();
    let used: BTreeSet<_> = TABLES.iter().flat_map(|table| rows(table).1).map(|row| row[0]).collect();
    assert_eq!(walks, used);
    for table in [COMMANDS, SENDS, STATUSES] {
        let states: BTreeSet<_> = rows(table).1.iter().map(|row| state_of(row[0])).collect();
        assert_eq!(states, StateName::ALL.into());
    }
}
