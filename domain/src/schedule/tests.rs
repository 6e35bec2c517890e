#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

mod simulation;

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::{Time, date};
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::plan::{Opening, Plan, Progress};
use super::*;
use crate::calendar::{BankingDays, Base};

fn read(text: &str) -> Result<Schedule, Vec<ScheduleError>> {
    let mut words = text.split_whitespace().map(|word| Some(word).filter(|word| *word != "-"));
    let mut word = || words.next().flatten();
    Schedule::read(Fields { frequency: word(), scheduled_payout_day: word(), recurrence: word() })
}

fn schedule(text: &str) -> Schedule {
    read(text).expect("a schedule")
}

fn closed(from: Date, days: usize) -> Calendar {
    Calendar::table("closed", Base::Weekdays, from.series(1.day()).take(days).collect(), BTreeSet::new()).expect("a calendar")
}

// === fields ===

#[test]
fn what_is_wrong_with_a_schedule_is_said_by_field() {
    for (text, errors) in [
        ("daily", ""),
        ("weekly friday", ""),
        ("monthly monday fourth", ""),
        ("- - -", "frequency is needed: one of daily, weekly, monthly"),
        ("Daily", "frequency must be one of daily, weekly, monthly"),
        ("weekly", "scheduledPayoutDay is needed for the frequency weekly: one of monday, tuesday, wednesday, thursday, friday"),
        ("weekly sunday", "scheduledPayoutDay must be one of monday, tuesday, wednesday, thursday, friday"),
        ("weekly friday first", "recurrence has no meaning for the frequency weekly: leave it out"),
        ("daily friday", "scheduledPayoutDay has no meaning for the frequency daily: leave it out"),
        ("monthly friday", "recurrence is needed for the frequency monthly: one of first, second, third, fourth"),
        ("monthly friday fifth", "recurrence must be one of first, second, third, fourth"),
        (
            "monthly",
            "scheduledPayoutDay is needed for the frequency monthly: one of monday, tuesday, wednesday, thursday, friday; \
             recurrence is needed for the frequency monthly: one of first, second, third, fourth",
        ),
        ("yearly friday last", "frequency must be one of daily, weekly, monthly; recurrence must be one of first, second, third, fourth"),
    ] {
        let said = read(text)
            .map(|_| String::new())
            .unwrap_or_else(|errors| errors.iter().map(|error| format!("{} {error}", error.field.word())).collect::<Vec<_>>().join("; "));
        assert_eq!(said, errors, "{text}");
    }
}

#[test]
fn json_has_the_fields_of_the_api() {
    for (text, json) in [
        ("daily", r#"{"frequency":"daily"}"#),
        ("weekly friday", r#"{"frequency":"weekly","scheduledPayoutDay":"friday"}"#),
        ("monthly tuesday third", r#"{"frequency":"monthly","scheduledPayoutDay":"tuesday","recurrence":"third"}"#),
    ] {
        assert_eq!(serde_json::to_string(&schedule(text)).expect("serialises"), json);
        assert_eq!(serde_json::from_str::<Schedule>(json).expect("reads"), schedule(text));
    }
    for (json, error) in [
        (r#"{"frequency":"weekly"}"#, "`scheduledPayoutDay` is needed"),
        (r#"{"frequency":"daily","day":"friday"}"#, "unknown field `day`"),
        (r#"{}"#, "frequency"),
    ] {
        let said = serde_json::from_str::<Schedule>(json).expect_err("no schedule").to_string();
        assert!(said.contains(error), "{said}");
    }
}

// === due dates ===

/// The schedule, the calendar, the day after which it begins, and its due dates; in brackets the named day where that was moved.
const DUE: &str = "
    daily                    TARGET2    2026-03-31   2026-04-01  2026-04-02  2026-04-07  2026-04-08
    daily                    UK         2027-12-23   2027-12-24  2027-12-29  2027-12-30  2027-12-31  2028-01-04  2028-01-05
    daily                    weekdays   2028-02-25   2028-02-28  2028-02-29  2028-03-01
    weekly friday            TARGET2    2026-03-26   2026-03-27  2026-04-07(2026-04-03)  2026-04-10  2026-04-17
    weekly friday            TARGET2    2026-04-03   2026-04-07(2026-04-03)  2026-04-10
    weekly friday            TARGET2    2026-04-07   2026-04-10
    weekly monday            UK         2026-12-20   2026-12-21  2026-12-29(2026-12-28)  2027-01-04  2027-01-11
    weekly wednesday         UK         2026-12-30   2027-01-06  2027-01-13
    monthly friday first     TARGET2    2025-12-31   2026-01-02  2026-02-06  2026-03-06  2026-04-07(2026-04-03)  2026-05-04(2026-05-01)  2026-06-05
    monthly friday first     weekdays   2026-06-05   2026-07-03  2026-08-07  2026-09-04  2026-10-02  2026-11-06  2026-12-04  2027-01-01
    monthly friday fourth    TARGET2    2027-02-25   2027-02-26  2027-03-30(2027-03-26)  2027-04-23
    monthly monday fourth    UK         2028-07-24   2028-08-29(2028-08-28)  2028-09-25
    monthly thursday second  UK         2026-01-07   2026-01-08  2026-02-12  2026-03-12
    monthly thursday third   UK         2026-01-15   2026-02-19
    monthly friday fourth    27feb      2026-01-24   2026-03-02(2026-02-27)  2026-03-27
    weekly wednesday         16-27feb   2026-02-10   2026-02-11  2026-03-02(2026-02-18)  2026-03-04
    daily                    16-27feb   2026-02-12   2026-02-13  2026-03-02  2026-03-03
";

#[test]
fn due_dates_of_known_months() {
    for line in DUE.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty());
        let mut column = || columns.next().expect("a column");
        let (schedule, calendar, after) = (schedule(column()), column(), column().parse().expect("a date"));
        let calendar = match calendar {
            "27feb" => closed(date(2026, 2, 27), 1),
            "16-27feb" => closed(date(2026, 2, 16), 12),
            base => Base::named(base).expect("a calendar").into(),
        };
        let expected: Vec<_> = columns.collect();
        let due = schedule.due_dates(&calendar, after).take(expected.len());
        let said: Vec<_> = due.map(|due| if due.named == due.date { due.date.to_string() } else { format!("{}({})", due.date, due.named) }).collect();
        assert_eq!(said, expected, "{line}");
    }
}

#[test]
fn the_end_of_time_ends_a_schedule() {
    let calendar = Calendar::from(Base::Weekdays);
    for text in ["daily", "weekly friday", "monthly friday fourth"] {
        assert!(schedule(text).due_dates(&calendar, date(9999, 12, 1)).count() < 24, "{text}");
        assert_eq!(schedule(text).next(&calendar, Date::MAX), None);
    }
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    let day = || prop::sample::select(Day::ALL);
    prop_oneof![
        Just(Schedule::Daily),
        day().prop_map(Schedule::Weekly),
        (prop::sample::select(Recurrence::ALL), day()).prop_map(|(recurrence, day)| Schedule::Monthly(recurrence, day)),
    ]
}

fn any_calendar() -> impl Strategy<Value = Calendar> {
    let table = |(from, days): (i64, usize)| closed(date(2026, 1, 1) + from.days(), days);
    prop_oneof![prop::sample::select(&Base::ALL).prop_map(Calendar::from), (0_i64..700, 1_usize..25).prop_map(table),]
}

/// What the schedule names, without the code under test: every day of the range is asked.
fn names(schedule: Schedule, calendar: &Calendar, day: Date) -> bool {
    match schedule {
        Schedule::Daily => calendar.is_business_day(day),
        Schedule::Weekly(wanted) => day.strftime("%A").to_string().to_lowercase() == wanted.word(),
        Schedule::Monthly(recurrence, wanted) => {
            let nth = ["first", "second", "third", "fourth", "fifth"][usize::try_from((day.day() - 1) / 7).expect("a week")];
            nth == recurrence.word() && day.strftime("%A").to_string().to_lowercase() == wanted.word()
        }
    }
}

proptest! {
    #[test]
    fn due_dates_ascend_are_business_days_and_none_is_left_out(schedule in any_schedule(), calendar in any_calendar(), from in 0_i64..700, length in 1_i64..400) {
        let after = date(2026, 1, 1) + from.days();
        let last = after + length.days();
        let due: Vec<DueDate> = schedule.due_dates(&calendar, after).take_while(|due| due.date <= last).collect();
        prop_assert!(due.is_sorted_by(|one, next| one.date < next.date));
        for DueDate { date, named } in &due {
            prop_assert!(calendar.is_business_day(*date) && *named <= *date && names(schedule, &calendar, *named));
            // It was moved over closed days only: so it is the one payout of its week or month that is nearest to its day.
            prop_assert!(named.series(1.day()).take_while(|day| day < date).all(|day| !calendar.is_business_day(day)));
        }
        // Every named day, from long enough before the range, is paid on its own date or on the one that it is moved to, and on no other.
        let expected: BTreeSet<Date> = (after - 40.days()).series(1.day()).take_while(|day| *day <= last)
            .filter(|day| names(schedule, &calendar, *day))
            .map(|day| day.series(1.day()).find(|day| calendar.is_business_day(*day)).expect("a business day"))
            .filter(|date| *date > after && *date <= last)
            .collect();
        prop_assert_eq!(due.iter().map(|due| due.date).collect::<BTreeSet<_>>(), expected);
        prop_assert_eq!(schedule.next(&calendar, after).map(|due| due.date <= last), schedule.next(&calendar, after).map(|_| !due.is_empty()));
    }
}

// === the plan ===

fn euro() -> BankingDays {
    let time = |text: &str| text.parse::<Time>().expect("a time");
    BankingDays::new(Base::Target2.into(), TimeZone::get("Europe/Berlin").expect("a zone"), time("06:00"), Some(time("17:00"))).expect("hours")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn open(due: Date, through: Date) -> Plan {
    Plan::Open(Opening { due, through })
}

fn wait(on: Date, until: &str) -> Plan {
    Plan::Wait { on, until: at(until) }
}

#[test]
fn a_due_date_has_its_day_from_opening_to_cut_off() {
    let weekly = schedule("weekly friday");
    let progress = Progress::set_on(date(2026, 11, 13));
    for (now, plan) in [
        // Set on a Friday: the first one is the next.
        ("2026-11-13T10:00:00Z", wait(date(2026, 11, 20), "2026-11-20T05:00:00Z")),
        ("2026-11-20T04:59:59.999Z", wait(date(2026, 11, 20), "2026-11-20T05:00:00Z")),
        ("2026-11-20T05:00:00Z", open(date(2026, 11, 20), date(2026, 11, 20))),
        ("2026-11-20T15:59:59.999Z", open(date(2026, 11, 20), date(2026, 11, 20))),
        // Too late for Friday, and not before Monday morning.
        ("2026-11-20T16:00:00Z", wait(date(2026, 11, 23), "2026-11-23T05:00:00Z")),
        ("2026-11-21T12:00:00Z", wait(date(2026, 11, 23), "2026-11-23T05:00:00Z")),
        ("2026-11-23T12:00:00Z", open(date(2026, 11, 20), date(2026, 11, 23))),
        // Three weeks later: still one payout, and still that one.
        ("2026-12-11T12:00:00Z", open(date(2026, 11, 20), date(2026, 12, 11))),
    ] {
        assert_eq!(weekly.plan(&euro(), progress, at(now)), plan, "{now}");
    }
    let next = |now| weekly.next_payout_date(&euro(), progress, at(now));
    assert_eq!((next("2026-11-20T15:59:59Z"), next("2026-11-20T16:00:00Z")), (date(2026, 11, 20), date(2026, 11, 23)));
}

/// Summer and winter: it opens at six o'clock of Berlin, whatever that is elsewhere, and on Tuesday when Easter takes Friday and Monday.
#[test]
fn the_opening_follows_the_clocks_of_the_zone() {
    let weekly = schedule("weekly friday");
    for (set, now, plan) in [
        (date(2026, 3, 20), "2026-03-21T00:00:00Z", wait(date(2026, 3, 27), "2026-03-27T05:00:00Z")),
        (date(2026, 3, 27), "2026-03-28T00:00:00Z", wait(date(2026, 4, 7), "2026-04-07T04:00:00Z")),
        (date(2026, 10, 23), "2026-10-24T00:00:00Z", wait(date(2026, 10, 30), "2026-10-30T05:00:00Z")),
    ] {
        assert_eq!(weekly.plan(&euro(), Progress::set_on(set), at(now)), plan);
    }
}

#[test]
fn one_payout_makes_up_for_all_that_was_missed() {
    let daily = schedule("daily");
    // Nothing ran from Tuesday's opening until Saturday.
    let progress = Progress::set_on(date(2026, 11, 16));
    assert_eq!(daily.plan(&euro(), progress, at("2026-11-21T09:00:00Z")), wait(date(2026, 11, 23), "2026-11-23T05:00:00Z"));
    let Plan::Open(opening) = daily.plan(&euro(), progress, at("2026-11-23T05:00:00Z")) else { panic!("it opens") };
    assert_eq!(opening, Opening { due: date(2026, 11, 17), through: date(2026, 11, 23) });
    // Monday went with it; Tuesday is the next.
    assert_eq!(daily.plan(&euro(), opening.progress(), at("2026-11-23T05:00:01Z")), wait(date(2026, 11, 24), "2026-11-24T05:00:00Z"));
    // A store that forgot the opening names the same payout, however late it is.
    assert_eq!(daily.plan(&euro(), progress, at("2026-11-25T09:00:00Z")), open(date(2026, 11, 17), date(2026, 11, 25)));
}

#[test]
fn a_schedule_that_is_changed_begins_after_that_day() {
    let changed = Progress::set_on(date(2026, 11, 18));
    assert_eq!(schedule("daily").plan(&euro(), changed, at("2026-11-18T09:00:00Z")), wait(date(2026, 11, 19), "2026-11-19T05:00:00Z"));
    // One that was changed while the clock was ahead does not wait for that day.
    let ahead = Progress::set_on(date(2027, 11, 18));
    assert_eq!(schedule("daily").plan(&euro(), ahead, at("2026-11-18T04:00:00Z")), wait(date(2026, 11, 18), "2026-11-18T05:00:00Z"));
}

#[test]
fn a_clock_that_was_ahead_does_not_stop_a_schedule() {
    let daily = schedule("daily");
    let ahead = Opening { due: date(2026, 11, 17), through: date(2027, 11, 17) }.progress();
    assert_eq!(daily.plan(&euro(), ahead, at("2026-11-18T04:00:00Z")), wait(date(2026, 11, 18), "2026-11-18T05:00:00Z"));
    assert_eq!(daily.plan(&euro(), ahead, at("2026-11-18T05:00:00Z")), open(date(2026, 11, 18), date(2026, 11, 18)));
    assert_eq!(daily.plan(&euro(), ahead, at("2026-11-20T12:00:00Z")), open(date(2026, 11, 18), date(2026, 11, 20)));
    // It was ahead for two openings, so the last one bears a due date that is far away itself.
    let twice = Opening { due: date(2027, 11, 18), through: date(2027, 11, 18) }.progress();
    assert_eq!(daily.plan(&euro(), twice, at("2026-11-18T05:00:00Z")), open(date(2026, 11, 18), date(2026, 11, 18)));
    assert_eq!(daily.next_payout_date(&euro(), twice, at("2026-11-18T18:00:00Z")), date(2026, 11, 19));
    // Two clocks around midnight are no such case: what one has made up for is not made up for by the other.
    let made_up = Opening { due: date(2026, 11, 16), through: date(2026, 11, 19) }.progress();
    assert_eq!(daily.plan(&euro(), made_up, at("2026-11-18T22:30:00Z")), wait(date(2026, 11, 20), "2026-11-20T05:00:00Z"));
    // Half a day is: Thursday has its own payout, not only what a clock ahead called Thursday.
    assert_eq!(daily.plan(&euro(), made_up, at("2026-11-18T12:00:00Z")), open(date(2026, 11, 17), date(2026, 11, 18)));
}

#[test]
fn progress_round_trips() {
    let progress = Opening { due: date(2026, 11, 17), through: date(2026, 11, 23) }.progress();
    let json = serde_json::to_string(&progress).expect("serialises");
    assert_eq!(json, r#"{"last":"2026-11-17","through":"2026-11-23"}"#);
    assert_eq!(serde_json::from_str::<Progress>(&json).expect("reads"), progress);
}
