//! What happened to one payout, told line by line: a fact, and what became of it. A line such as `+1h` is time that passes.

use super::*;

/// Tells a story and checks each line. The columns: the fact; `moved`, `known`, `refused` (to review) or `declined`; the state after it; the event,
/// without its first word; where the money lies; what is to be done next.
fn tell(how: &str, providers: usize, story: &str) -> Bench {
    let mut bench = Bench::open(how, providers);
    let (_, lines) = rows(story);
    for (number, line) in lines.into_iter().enumerate() {
        if let [time] = *line {
            bench.lead(time);
            continue;
        }
        let verdict = bench.meets(line[0]);
        let outcome = match &verdict {
            Verdict::Moved(_) => "moved",
            Verdict::Known(_) => "known",
            Verdict::Refused(..) => "refused",
            Verdict::Declined(_) => "declined",
        };
        let event = verdict.step().and_then(|step| step.events.last()).map_or("-", |event| event.kind.name().trim_start_matches("payout."));
        let next = verdict.step().map_or("-", |step| match step.next {
            Next::Execute(_) => "execute",
            Next::Poll(_) => "poll",
            Next::Keep => "keep",
            Next::Nothing => "nothing",
        });
        let state = &bench.payout.state;
        let found = [line[0], outcome, state.name().as_str(), event, bench.payout.holds_funds_in().name(), next];
        assert_eq!(*line, found, "line {} of the story", number + 1);
    }
    bench
}

fn reason(bench: &Bench) -> &str {
    bench.payout.state.reason().map_or("-", Reason::as_str)
}

fn last_body(bench: &Bench) -> serde_json::Value {
    serde_json::from_str(&bench.events.last().expect("an event").body).expect("is JSON")
}

/// A whole balance is fixed once, when it is due, and from then on it is as any other payout.
#[test]
fn a_whole_balance_is_reserved_when_it_is_fixed() {
    let bench = tell(
        "whole",
        1,
        "fact      outcome   state      event      money      next
         Fix       declined  scheduled  -          available  -
         Initiate  declined  scheduled  -          available  -
         +24h
         Initiate  declined  scheduled  -          available  -
         Fix       known     scheduled  -          reserved   keep
         Fix       declined  scheduled  -          reserved   -
         Initiate  moved     initiated  initiated  reserved   keep
         Settled   moved     settled    completed  settled    nothing",
    );
    let amounts = bench.events.iter().map(|event| serde_json::from_str::<serde_json::Value>(&event.body).expect("is JSON"));
    let amounts: Vec<_> = amounts.map(|body| body["data"]["amount_in_minor"].as_i64()).collect();
    assert_eq!(amounts, [None, None, Some(10_000), Some(10_000)], "what is not known is not told");
    tell(
        "whole",
        1,
        "fact      outcome   state      event      money      next
         Cancel    moved     canceled   canceled   available  nothing
         Fix       declined  canceled   -          available  -",
    );
    tell(
        "whole",
        1,
        "fact      outcome   state      event      money      next
         +24h
         Fix       known     scheduled  -          reserved   keep
         Cancel    moved     canceled   canceled   available  nothing",
    );
    tell(
        "whole",
        1,
        "fact      outcome   state      event      money      next
         +24h
         Decline   moved     rejected   failed     available  nothing
         Fix       declined  rejected   -          available  -",
    );
    let mut euros = Bench::led("whole", 1, "+24h");
    let money = Money::new(1, Currency::EUR).expect("an amount");
    assert_eq!(euros.hears(&Fact::new(Source::Worker, What::Fix { money })), Verdict::Declined(Declined::AmountFixed), "in its own currency");
}

/// What its account does not allow has ended with its opening; only a provider that knows it all the same brings it up again.
#[test]
fn a_payout_that_its_account_refuses_is_never_sent() {
    let bench = tell(
        "refused",
        2,
        "fact      outcome   state      event            money      next
         Initiate  declined  rejected   -                available  -
         Cancel    declined  rejected   -                available  -
         Approve   declined  rejected   -                available  -
         Decline   declined  rejected   -                available  -
         Check     declined  rejected   -                available  -
         +48h
         Settled   refused   in_review  review-required  reserved   nothing",
    );
    assert_eq!(
        bench.events.iter().map(|event| event.kind.name()).collect::<Vec<_>>(),
        ["payout.requested", "payout.failed", "payout.review-required"]
    );
}

/// Some providers never say that money arrived. After the last that they say, nobody is asked to find out more, and looks become rare.
#[test]
fn the_last_word_of_a_provider_leads_to_no_review() {
    let mut bench = Bench::led("at-once", 1, "Initiate Authorised +73h");
    bench.plan.last_words = &["as they say"];
    let verdict = bench.meets("NoNews");
    let Verdict::Known(step) = &verdict else { panic!("{verdict:?}") };
    assert_eq!((step.payout.state.name(), step.next), (StateName::Authorised, Next::Poll(bench.now + bench.plan.polling.bound)));
    let mut bench = Bench::led("at-once", 1, "Initiate Authorised +73h");
    bench.plan.last_words = &["another word"];
    assert_eq!(bench.meets("NoNews").step().map(|step| step.payout.state.name()), Some(StateName::InReview));
    // An event has told of the bank, and a look still answers with the word that would be the last one without events.
    let mut bench = Bench::led("at-once", 1, "Initiate Authorised Submitted +73h");
    bench.plan.last_words = &["as they say"];
    assert_eq!(bench.meets("Authorised").step().map(|step| step.payout.state.name()), Some(StateName::Submitted), "a notice is no look");
    assert_eq!(bench.meets("NoNews").step().map(|step| step.payout.state.name()), Some(StateName::InReview));
}

/// Whoever asks again and again makes no more of it: the provider has said no, and is not called each time.
#[test]
fn a_provider_that_would_not_cancel_is_not_asked_again() {
    tell(
        "at-once",
        2,
        "
        fact         outcome   state       event          money      next
        Initiate     moved     initiated   initiated      reserved   keep
        Authorised   moved     authorised  authorised     reserved   poll
        AskToCancel  known     authorised  -              reserved   poll
        NotCanceled  known     authorised  -              reserved   poll
        AskToCancel  declined  authorised  -              reserved   -
        ",
    );
    // And whoever wanted it stopped does not want the next provider to pay it.
    tell(
        "at-once",
        2,
        "
        fact         outcome  state       event       money      next
        Initiate     moved    initiated   initiated   reserved   keep
        Authorised   moved    authorised  authorised  reserved   poll
        AskToCancel  known    authorised  -           reserved   poll
        Failed       moved    failed      failed      available  nothing
        ",
    );
}

/// A provider that would not stop it, or was further on by then, and does not pay it after all: nobody else is to, however often that is told.
#[test]
fn nobody_else_pays_what_was_to_be_stopped() {
    for said in ["NotCanceled Submitted", "NotCanceled", "Submitted", ""] {
        let mut bench = Bench::led("at-once", 2, &format!("Initiate Authorised AskToCancel {said} Failed"));
        assert_eq!((bench.payout.state.name(), bench.due), (StateName::Failed, None), "after {said:?}");
        bench.lead("Failed");
        assert_eq!((bench.payout.state.name(), bench.due), (StateName::Failed, None), "told again, after {said:?}");
    }
}

/// How long a provider remembers a key counts from the first send that it may have got: not from a try long ago that is proved to have told it to nobody.
#[test]
fn what_never_left_has_told_nobody_the_key() {
    let first_sent = |bench: &Bench| bench.payout.attempts[0].first_sent().duration_since(bench.payout.attempts[0].initiated_at);
    let bench = Bench::led("at-once", 1, "Initiate NotSent +72h Released NoAnswer +1h Resend");
    assert_eq!(first_sent(&bench), duration("72h"));
    let mut bench = Bench::led("at-once", 1, "Initiate NoAnswer +1h Resend Unprocessed");
    assert_eq!(first_sent(&bench), duration("0s"), "the first one may have arrived");
    bench.lead("+1h Resend NotSent/1.1");
    assert_eq!(first_sent(&bench), duration("2h"), "it comes out late that it did not");
}

/// "It was never done" says nothing about what was sent after the question.
#[test]
fn what_was_never_done_are_the_sends_before_the_question() {
    tell(
        "at-once",
        1,
        "
        fact           outcome  state         event         money      next
        Initiate       moved    initiated     initiated     reserved   keep
        NoAnswer       moved    inconclusive  inconclusive  reserved   poll
        Resend         known    inconclusive  -             reserved   keep
        NoAnswer       known    inconclusive  -             reserved   poll
        NeverDone/1.1  known    inconclusive  -             reserved   poll
        NeverDone      moved    rejected      failed        available  nothing
        ",
    );
}

/// A provider recognises the repeat of a request for many payouts, whole, and of no other: one of them by itself might be paid twice.
#[test]
fn what_was_sent_with_others_is_sent_again_with_them_or_not_at_all() {
    let bench = tell(
        "at-once",
        1,
        "
        fact         outcome   state         event         money     next
        Join         moved     initiated     initiated     reserved  keep
        NoAnswer     moved     inconclusive  inconclusive  reserved  poll
        Resend       declined  inconclusive  -             reserved  -
        Initiate     declined  inconclusive  -             reserved  -
        Join         known     inconclusive  -             reserved  keep
        Unprocessed  known     inconclusive  -             reserved  poll
        Join         known     inconclusive  -             reserved  keep
        NotSent      known     inconclusive  -             reserved  poll
        Settled      moved     settled       completed     settled   nothing
        ",
    );
    assert_eq!(bench.payout.attempt().map(|attempt| (attempt.number, attempt.sends, attempt.live.len())), Some((1, 3, 1)));
}

/// What a whole request was refused for may be the fault of another payout: each goes by itself then, under the same key, and is like any other.
#[test]
fn a_request_for_many_that_was_refused_leads_to_one_for_each() {
    let bench = tell(
        "at-once",
        1,
        "
        fact         outcome   state         event         money     next
        Join         moved  initiated     initiated     reserved   keep
        Unprocessed  moved  scheduled     scheduled     reserved   execute
        +1m
        Initiate     moved  initiated     initiated     reserved   keep
        NoAnswer     moved  inconclusive  inconclusive  reserved   poll
        Resend       known  inconclusive  -             reserved   keep
        ",
    );
    assert_eq!(bench.payout.attempt().map(|attempt| (attempt.number, attempt.sends, attempt.group)), Some((1, 3, None)));
}

#[test]
fn answer_lost_then_notice_says_settled() {
    tell(
        "at-once",
        1,
        "
        fact      outcome  state         event         money     next
        Initiate  moved    initiated     initiated     reserved  keep
        +30s
        NoAnswer  moved    inconclusive  inconclusive  reserved  poll
        +10s
        NotFound  known    inconclusive  -             reserved  poll
        Settled   moved    settled       completed     settled   nothing
        NoNews    known    settled       -             settled   nothing
        ",
    );
}

/// The lease of a worker ended, somebody else presumed silence and went to look; then the answer of the first one is recorded after all.
#[test]
fn late_answer_of_a_worker_that_was_presumed_dead() {
    let presumed_dead = "
        fact        outcome   state         event         money      next
        Initiate    moved     initiated     initiated     reserved   keep
        +1m
        NoAnswer    moved     inconclusive  inconclusive  reserved   poll
    ";
    let refused = "
        Refused/1.1 moved     rejected      failed        available  nothing
        NoAnswer    known     rejected      -             available  nothing
    ";
    let not_sent = "
        NotSent/1.1 moved     scheduled     scheduled     reserved   execute
    ";
    let accepted = "
        Authorised  moved     authorised    authorised    reserved   poll
    ";
    // The repeat of somebody else is under way: the first send is settled, the second one is not.
    let meanwhile = "
        Resend      known     inconclusive  -             reserved   keep
        Refused/1.1 known     inconclusive  -             reserved   poll
        Refused/1.2 moved     rejected      failed        available  nothing
    ";
    for ending in [refused, not_sent, accepted, meanwhile] {
        tell("at-once", 1, &format!("{presumed_dead}{ending}"));
    }
}

#[test]
fn refusal_of_a_resend_says_nothing_about_the_first_send() {
    tell(
        "at-once",
        2,
        "
        fact         outcome   state         event         money     next
        Initiate     moved     initiated     initiated     reserved  keep
        NoAnswer     moved     inconclusive  inconclusive  reserved  poll
        +20s
        Resend       known     inconclusive  -             reserved  keep
        Refused/1.2  known     inconclusive  -             reserved  poll
        Cancel       declined  inconclusive  -             reserved  -
        Initiate     declined  inconclusive  -             reserved  -
        NotFound     known     inconclusive  -             reserved  poll
        Authorised   moved     authorised    authorised    reserved  poll
        Settled      moved     settled       completed     settled   nothing
        ",
    );
}

/// Only the provider's own word about the attempt closes it, and then the next provider is tried.
#[test]
fn a_status_closes_an_ambiguous_attempt() {
    let bench = tell(
        "at-once",
        2,
        "
        fact      outcome  state         event           money     next
        Initiate  moved    initiated     initiated       reserved  keep
        NoAnswer  moved    inconclusive  inconclusive    reserved  poll
        Rejected  moved    scheduled     attempt-failed  reserved  execute
        ",
    );
    let data = &last_body(&bench)["data"];
    assert_eq!((&data["attempt"], &data["attempts_remaining"], &data["status"]), (&1.into(), &1.into(), &"scheduled".into()));
    let mut bench = bench;
    bench.lead("+1m Initiate");
    let keys: Vec<_> = bench.payout.attempts.iter().map(|attempt| attempt.key).collect();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn failed_then_settled_goes_to_review() {
    let bench = tell(
        "at-once",
        1,
        "
        fact        outcome  state       event            money      next
        Initiate    moved    initiated   initiated        reserved   keep
        Authorised  moved    authorised  authorised       reserved   poll
        Failed      moved    failed      failed           available  nothing
        Settled     refused  in_review   review-required  reserved   nothing
        Returned    known    in_review   -                reserved   keep
        AtBound     known    in_review   -                reserved   nothing
        ",
    );
    assert_eq!(bench.payout.state, State::InReview { cause: Cause::Clash(Clash::EndedAndSettled) });
}

#[test]
fn settled_then_returned() {
    let bench = tell(
        "at-once",
        1,
        "
        fact        outcome  state       event               money      next
        Initiate    moved    initiated   initiated           reserved   keep
        Authorised  moved    authorised  authorised          reserved   poll
        Submitted   moved    submitted   processing-at-bank  reserved   poll
        Settled     moved    settled     completed           settled    nothing
        +48h
        Returned    moved    returned    returned            available  nothing
        Settled     known    returned    -                   available  keep
        ",
    );
    assert_eq!(reason(&bench), "account_closed");
    assert_eq!(last_body(&bench)["data"]["reason"], "account_closed");
    assert_eq!(last_body(&bench)["data"]["previous_status"], "settled");
}

/// A provider may tell only the end. What it skipped happened at the latest then; what it tells later, with an earlier time, corrects that.
#[test]
fn settled_straight_from_initiated_back_fills_authorised_at_and_submitted_at() {
    let mut bench = Bench::led("at-once", 1, "Initiate +1m");
    let at = |minutes| Some(bench.payout.since + SignedDuration::from_mins(minutes));
    let (early, settled) = (at(10), at(40));
    bench.hears(&Fact::new(Source::Notice, reported(1, Status::Settled, settled)));
    let times = bench.payout.timestamps();
    for state in [StateName::Authorised, StateName::Submitted, StateName::Settled] {
        assert_eq!(times.get(&state).copied(), settled, "{state:?}");
    }
    bench.hears(&Fact::new(Source::Notice, reported(1, Status::Authorised, early)));
    let times = bench.payout.timestamps();
    assert_eq!(times.get(&StateName::Authorised).copied(), early);
    assert_eq!(times.get(&StateName::Submitted).copied(), settled);
    assert_eq!(bench.events.len(), 3);
}

#[test]
fn not_sent_is_retried_under_the_same_attempt_and_key() {
    let mut bench = tell(
        "at-once",
        2,
        "
        fact         outcome   state      event      money     next
        Initiate     moved     initiated  initiated  reserved  keep
        NotSent      moved     scheduled  scheduled  reserved  execute
        Initiate     declined  scheduled  -          reserved  -
        +10s
        Initiate     moved     initiated  initiated  reserved  keep
        Unprocessed  moved     scheduled  scheduled  reserved  execute
        +10s
        Initiate     moved     initiated  initiated  reserved  keep
        ",
    );
    let [attempt] = &*bench.payout.attempts else { panic!("one attempt") };
    assert_eq!((attempt.number, attempt.sends, attempt.live.len()), (1, 3, 1));
    assert_eq!(attempt.key, ProviderKey::derive(bench.payout.id, 1));
    // A word about an earlier send comes late, and says nothing about the one under way.
    bench.lead("NotSent/1.1");
    assert_eq!(bench.payout.state.name(), StateName::Initiated);
}

/// The provider's wish is honoured, but not beyond the time in which sending may fail at all.
#[test]
fn retry_after_is_honoured_within_the_dispatch_bound() {
    for (asked_ms, waits) in [(0, "1s"), (5_000, "5s"), (1_800_000, "30m"), (u64::MAX, "1h")] {
        let mut bench = Bench::led("at-once", 1, "Initiate");
        let what = What::Unprocessed { attempt: 1, send: 1, why: Reason::new("429"), retry_after_ms: Some(asked_ms) };
        bench.hears(&Fact::new(Source::Answer, what));
        let State::Scheduled { until } = bench.payout.state else { panic!("{:?}", bench.payout.state) };
        let wait = until.duration_since(bench.now);
        assert!(wait <= duration(waits) && wait >= duration(waits) / 2, "{asked_ms}: {wait}");
        assert!(asked_ms == 0 || wait == duration(waits), "{asked_ms}: {wait}");
        assert_eq!(bench.due, Some(Next::Execute(until)));
    }
}

#[test]
fn unreachable_for_the_whole_dispatch_bound_is_rejected_and_funds_released() {
    let bench = tell(
        "at-once",
        1,
        "
        fact      outcome   state      event      money      next
        Initiate  moved     initiated  initiated  reserved   keep
        NotSent   moved     scheduled  scheduled  reserved   execute
        +59m
        Initiate  moved     initiated  initiated  reserved   keep
        NotSent   moved     scheduled  scheduled  reserved   execute
        +1m
        Initiate  moved     initiated  initiated  reserved   keep
        NotSent   moved     rejected   failed     available  nothing
        NotSent   known     rejected   -          available  nothing
        Initiate  declined  rejected   -          available  -
        ",
    );
    assert_eq!(reason(&bench), "provider_unreachable");
}

/// The bound of dispatching is about sends of which none left. One silent send among them, and nobody rejects anything.
#[test]
fn a_silent_send_is_never_rejected_as_unreachable() {
    tell(
        "at-once",
        1,
        "
        fact         outcome  state         event         money     next
        Initiate     moved    initiated     initiated     reserved  keep
        NoAnswer     moved    inconclusive  inconclusive  reserved  poll
        Resend       known    inconclusive  -             reserved  keep
        +2h
        NotSent/1.2  known    inconclusive  -             reserved  poll
        ",
    );
}

#[test]
fn a_notice_for_an_attempt_nobody_recorded_goes_to_review() {
    for (walk, word) in [("", "Authorised"), ("", "Unmapped"), ("Cancel", "Settled"), ("Initiate", "Submitted/2"), ("Initiate Settled", "Failed/2")] {
        let mut bench = Bench::led("at-once", 2, walk);
        let verdict = bench.meets(word);
        assert!(matches!(verdict, Verdict::Refused(Clash::UnknownAttempt, _)), "{word} after {walk}: {verdict:?}");
        assert_eq!(bench.payout.state.name(), StateName::InReview);
    }
    // To look before the first dispatch, and to find nothing, is no reason for a review.
    tell(
        "at-once",
        1,
        "
        fact      outcome  state      event      money     next
        NotFound  known    requested  -          reserved  execute
        NoNews    known    requested  -          reserved  execute
        Initiate  moved    initiated  initiated  reserved  keep
        ",
    );
}

#[test]
fn amount_differs_goes_to_review() {
    for walk in ["Initiate", "Initiate NoAnswer", "Initiate Authorised", "Initiate Settled", "Initiate Failed"] {
        let mut bench = Bench::led("at-once", 1, walk);
        let verdict = bench.meets("OtherAmount");
        assert!(matches!(verdict, Verdict::Refused(Clash::AmountDiffers, _)), "{walk}: {verdict:?}");
        let funds = bench.payout.holds_funds_in();
        assert_eq!(funds, Account::Reserved);
    }
}

#[test]
fn operator_resolution_then_contradicting_evidence_goes_to_review_again() {
    let bench = tell(
        "at-once",
        1,
        "
        fact            outcome  state         event            money      next
        Initiate        moved    initiated     initiated        reserved   keep
        NoAnswer        moved    inconclusive  inconclusive     reserved   poll
        AtBound         moved    in_review     review-required  reserved   nothing
        ResolveFailed   moved    failed        failed           available  nothing
        Settled         refused  in_review     review-required  reserved   nothing
        Settled         known    in_review     -                reserved   keep
        ResolveSettled  moved    settled       completed        settled    nothing
        Settled         known    settled       -                settled    keep
        Failed          refused  in_review     review-required  reserved   nothing
        ",
    );
    assert_eq!(bench.payout.state, State::InReview { cause: Cause::Clash(Clash::ResolutionContradicted) });
}

/// Funds were released because an operator found that nothing had been sent; then the provider says that it has taken the payout.
#[test]
fn accepted_after_an_operator_said_failed_goes_to_review() {
    for word in ["Authorised", "Submitted", "Settled", "Returned"] {
        let mut bench = Bench::led("at-once", 1, "Initiate NoAnswer AtBound ResolveFailed");
        assert!(matches!(bench.meets(word), Verdict::Refused(Clash::ResolutionContradicted, _)), "{word}");
    }
}

/// Also where a second provider is left: a refusal does not agree with a settlement because there would be something else to try.
#[test]
fn refused_after_an_operator_said_settled_goes_to_review() {
    for word in ["Refused", "NotSent", "Rejected", "Failed"] {
        let mut bench = Bench::led("at-once", 2, "Initiate NoAnswer AtBound ResolveSettled");
        assert!(matches!(bench.meets(word), Verdict::Refused(Clash::ResolutionContradicted, _)), "{word}");
    }
}

#[test]
fn repeated_evidence_after_a_resolution_is_known() {
    tell(
        "at-once",
        1,
        "
        fact            outcome  state       event            money      next
        Initiate        moved    initiated   initiated        reserved   keep
        Authorised      moved    authorised  authorised       reserved   poll
        Failed          moved    failed      failed           available  nothing
        Settled         refused  in_review   review-required  reserved   nothing
        OtherAmount     known    in_review   -                reserved   keep
        KeyConflict     known    in_review   -                reserved   nothing
        ResolveSettled  moved    settled     completed        settled    nothing
        Authorised      known    settled     -                settled    keep
        Submitted       known    settled     -                settled    keep
        Failed          known    settled     -                settled    keep
        Settled         known    settled     -                settled    keep
        OtherAmount     known    settled     -                settled    keep
        KeyConflict     known    settled     -                settled    nothing
        NotFound        known    settled     -                settled    nothing
        Returned        moved    returned    returned         available  nothing
        Returned        known    returned    -                available  keep
        ",
    );
    // Nor is it news that the same happened a little earlier than was thought, nor a refusal that is recorded twice.
    let mut bench = Bench::led("at-once", 1, "Initiate Authorised Failed Settled ResolveSettled +1m");
    let earlier = Some(bench.payout.since - duration("1h"));
    let failed = Status::Failed { reason: Reason::new("another_word") };
    assert!(matches!(bench.hears(&Fact::new(Source::Notice, reported(1, failed, earlier))), Verdict::Known(_)));
    let mut bench = Bench::led("at-once", 1, "Initiate Refused Authorised ResolveSettled +1m");
    assert!(matches!(bench.meets("Refused"), Verdict::Known(_)));
}

#[test]
fn a_review_by_bound_is_left_by_a_definite_fact_and_one_by_clash_is_not() {
    tell(
        "at-once",
        1,
        "
        fact         outcome  state       event               money     next
        Initiate     moved    initiated   initiated           reserved  keep
        Authorised   moved    authorised  authorised          reserved  poll
        AtBound      moved    in_review   review-required     reserved  nothing
        NotFound     known    in_review   -                   reserved  nothing
        Authorised   known    in_review   -                   reserved  keep
        Check        known    in_review   -                   reserved  poll
        NoNews       known    in_review   -                   reserved  nothing
        Submitted    moved    submitted   processing-at-bank  reserved  poll
        AtBound      moved    in_review   review-required     reserved  nothing
        KeyConflict  refused  in_review   review-required     reserved  nothing
        Settled      known    in_review   -                   reserved  keep
        Check        known    in_review   -                   reserved  poll
        ",
    );
}

/// The refusal of the first provider, found out after the bound, is as definite as any, but it ends the payout: while it was in review a person may
/// have paid by other means, and nobody expects a second provider to be asked days later.
#[test]
fn a_refusal_leads_from_review_to_the_end_and_not_to_the_next_provider() {
    tell(
        "at-once",
        2,
        "
        fact       outcome  state         event            money     next
        Initiate   moved    initiated     initiated        reserved  keep
        NoAnswer   moved    inconclusive  inconclusive     reserved  poll
        AtBound    moved    in_review     review-required  reserved  nothing
        Rejected   moved    rejected      failed           available nothing
        +1m
        Initiate   declined rejected      -                available -
        Settled/1  refused  in_review     review-required  reserved  nothing
        ",
    );
}

/// The last repeat is answered by silence when the bound has come: that is the end of waiting, whoever was silent.
#[test]
fn a_resend_across_the_bound_is_not_forgotten() {
    tell(
        "at-once",
        1,
        "
        fact      outcome  state         event            money     next
        Initiate  moved    initiated     initiated        reserved  keep
        NoAnswer  moved    inconclusive  inconclusive     reserved  poll
        +71h
        Resend    known    inconclusive  -                reserved  keep
        +1h
        NoAnswer  moved    in_review     review-required  reserved  nothing
        ",
    );
}

/// What the first provider accepted and then failed is no obstacle to taking the payout back before the second one is asked.
#[test]
fn canceled_between_two_providers() {
    tell(
        "at-once",
        2,
        "
        fact        outcome   state       event            money      next
        Initiate    moved     initiated   initiated        reserved   keep
        Authorised  moved     authorised  authorised       reserved   poll
        Failed      moved     scheduled   attempt-failed   reserved   execute
        Cancel      moved     canceled    canceled         available  nothing
        Failed      known     canceled    -                available  keep
        Submitted   known     canceled    -                available  keep
        NotFound    known     canceled    -                available  nothing
        Initiate    declined  canceled    -                available  -
        Settled     refused   in_review   review-required  reserved   nothing
        ",
    );
}

/// Whoever cancels at the provider means the payout: it does not come to life at the next one, whichever word comes first.
#[test]
fn canceled_at_the_provider_ends_it() {
    for (one, other) in [("Canceled", "Failed"), ("Failed", "Canceled"), ("Rejected", "Canceled")] {
        let bench = Bench::led("at-once", 2, &format!("Initiate Authorised {one} {other}"));
        assert_eq!(bench.payout.state.name(), StateName::Canceled);
        assert_eq!(reason(&bench), "canceled_there");
    }
}

#[test]
fn the_maker_is_not_the_checker() {
    let mut bench = Bench::open("approval", 1);
    assert_eq!(bench.meets("ApproveOwn"), Verdict::Declined(Declined::MakerIsChecker));
    assert_eq!(bench.meets("Initiate"), Verdict::Declined(Declined::NotDispatchable));
    assert!(matches!(bench.meets("Approve"), Verdict::Moved(_)));
    assert_eq!(bench.meets("Approve"), Verdict::Declined(Declined::NotAwaitingApproval));
    assert_eq!(bench.payout.approved_by.as_deref(), Some("checker"));
}

/// It is due when its time is over, and then nobody can approve it any more.
#[test]
fn an_approval_comes_in_time_or_not_at_all() {
    let mut bench = Bench::open("approval", 1);
    assert_eq!(bench.due, Some(Next::Execute(bench.now + duration("72h"))));
    bench.lead("+72h");
    assert_eq!(bench.meets("Approve"), Verdict::Declined(Declined::ApprovalExpired));
    assert!(matches!(bench.meets("Cancel"), Verdict::Moved(_)));
}

/// The earliest statement gives the reason, whichever came first.
#[test]
fn the_reason_is_that_of_the_earliest_statement() {
    let mut bench = Bench::led("at-once", 1, "Initiate +1h");
    let failed = |reason: &str, minutes| {
        let at = Some(bench.payout.since + SignedDuration::from_mins(minutes));
        Fact::new(Source::Notice, reported(1, Status::Failed { reason: Reason::new(reason) }, at))
    };
    let (late, early) = (failed("late", 30), failed("early", 20));
    bench.hears(&late);
    assert_eq!(reason(&bench), "late");
    assert!(matches!(bench.hears(&early), Verdict::Known(_)));
    assert_eq!(reason(&bench), "early");
    assert_eq!(bench.payout.timestamps().get(&StateName::Failed), Some(&(bench.payout.since - duration("40m"))));
}

/// An answer that is recorded twice is one answer.
#[test]
fn the_first_record_of_a_refusal_counts() {
    let mut bench = Bench::led("at-once", 1, "Initiate Refused +1m");
    let again = Fact::new(Source::Answer, What::Refused { attempt: 1, send: 1, reason: Reason::new("another_word") });
    assert!(matches!(bench.hears(&again), Verdict::Known(_)));
    assert_eq!(reason(&bench), "no_such_account");
}

/// A provider that is not worth waiting for is still asked once.
#[test]
fn a_bound_of_nothing_leaves_one_look() {
    let mut bench = Bench::open("at-once", 1);
    bench.plan.polling.bound = SignedDuration::ZERO;
    bench.lead("Initiate NoAnswer");
    assert_eq!(bench.due, Some(Next::Poll(bench.now)));
    bench.lead("NotFound");
    assert_eq!(bench.payout.state, State::InReview { cause: Cause::Unresolved });
}

/// Two sends that were both refused, their answers recorded in either order: the reason is that of the first send.
#[test]
fn the_first_send_gives_the_reason() {
    for order in [[1, 2], [2, 1]] {
        let mut bench = Bench::led("at-once", 1, "Initiate NoAnswer Resend");
        for send in order {
            let what = What::Refused { attempt: 1, send, reason: Reason::new(&format!("refusal_{send}")) };
            bench.now += duration("1s");
            bench.hears(&Fact::new(Source::Answer, what));
        }
        assert_eq!((bench.payout.state.name(), reason(&bench)), (StateName::Rejected, "refusal_1"));
    }
}

/// Its provider was paused, or dispatch frozen, for longer than a payout is tried: after that it is tried for as long again.
#[test]
fn the_time_in_which_nobody_may_send_it_does_not_count() {
    let bench = tell(
        "at-once",
        1,
        "fact       outcome  state      event      funds     next
         Initiate   moved    initiated  initiated  reserved  keep
         NotSent    moved    scheduled  scheduled  reserved  execute
         +72h
         Released   moved    initiated  initiated  reserved  keep
         NotSent    moved    scheduled  scheduled  reserved  execute
         +59m
         Initiate   moved    initiated  initiated  reserved  keep
         NotSent    moved    scheduled  scheduled  reserved  execute
         +1m
         Initiate   moved    initiated  initiated  reserved  keep
         NotSent    moved    rejected   failed     available nothing",
    );
    assert_eq!(reason(&bench), "provider_unreachable");
}
