#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

use jiff::civil::{Time, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use proptest::prelude::*;

use super::*;

/// The weekdays on which the banks of England and Wales are closed, as published and, for the years that are not published yet, as other software has them.
const UK: &str = "
    2020   1 Jan   10 Apr   13 Apr   8 May   25 May   31 Aug   25 Dec   28 Dec
    2021   1 Jan    2 Apr    5 Apr   3 May   31 May   30 Aug   27 Dec   28 Dec
    2022   3 Jan   15 Apr   18 Apr   2 May    2 Jun    3 Jun   29 Aug   19 Sep   26 Dec   27 Dec
    2023   2 Jan    7 Apr   10 Apr   1 May    8 May   29 May   28 Aug   25 Dec   26 Dec
    2024   1 Jan   29 Mar    1 Apr   6 May   27 May   26 Aug   25 Dec   26 Dec
    2025   1 Jan   18 Apr   21 Apr   5 May   26 May   25 Aug   25 Dec   26 Dec
    2026   1 Jan    3 Apr    6 Apr   4 May   25 May   31 Aug   25 Dec   28 Dec
    2027   1 Jan   26 Mar   29 Mar   3 May   31 May   30 Aug   27 Dec   28 Dec
    2028   3 Jan   14 Apr   17 Apr   1 May   29 May   28 Aug   25 Dec   26 Dec
    2029   1 Jan   30 Mar    2 Apr   7 May   28 May   27 Aug   25 Dec   26 Dec
    2030   1 Jan   19 Apr   22 Apr   6 May   27 May   26 Aug   25 Dec   26 Dec
";

/// The weekdays on which the euro's settlement system is closed. On weekends they have no substitute.
const TARGET2: &str = "
    2024   1 Jan   29 Mar    1 Apr   1 May   25 Dec   26 Dec
    2025   1 Jan   18 Apr   21 Apr   1 May   25 Dec   26 Dec
    2026   1 Jan    3 Apr    6 Apr   1 May   25 Dec
    2027   1 Jan   26 Mar   29 Mar
    2028          14 Apr   17 Apr   1 May   25 Dec   26 Dec
    2029   1 Jan   30 Mar    2 Apr   1 May   25 Dec   26 Dec
    2030   1 Jan   19 Apr   22 Apr   1 May   25 Dec   26 Dec
";

fn weekdays_of(year: i16) -> impl Iterator<Item = Date> {
    date(year, 1, 1).series(1.day()).take_while(move |day| day.year() == year).filter(|day| day.weekday().to_monday_one_offset() <= 5)
}

/// Every day of every year in the table: closed exactly if it stands there.
fn check(base: Base, table: &str) {
    let calendar = Calendar::from(base);
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let (year, days) = words.split_first().expect("a year");
        let year: i16 = year.parse().expect("a year");
        let listed: Vec<Date> =
            days.chunks(2).map(|day| Date::strptime("%d %b %Y", format!("{} {} {year}", day[0], day[1])).expect("a date")).collect();
        let closed: Vec<Date> = weekdays_of(year).filter(|day| !calendar.is_business_day(*day)).collect();
        assert_eq!(closed, listed, "{} {year}", base.name());
    }
}

#[test]
fn bank_holidays_of_england_and_wales() {
    check(Base::Uk, UK);
}

#[test]
fn closing_days_of_target2() {
    check(Base::Target2, TARGET2);
}

/// Easter Sundays that are known for being early, late, or exceptions of the rule.
#[test]
fn easter() {
    for sunday in [
        date(1818, 3, 22),
        date(1943, 4, 25),
        date(1954, 4, 18),
        date(1981, 4, 19),
        date(2008, 3, 23),
        date(2038, 4, 25),
        date(2049, 4, 18),
        date(2076, 4, 19),
    ] {
        let calendar = Calendar::from(Base::Target2);
        for (days, open) in [(-3, true), (-2, false), (1, false), (2, true)] {
            assert_eq!(calendar.is_business_day(sunday + days.days()), open, "{sunday} {days}");
        }
    }
}

#[test]
fn weekdays_are_open_and_weekends_closed() {
    for base in Base::ALL {
        assert_eq!(Base::named(base.name()), Some(base));
        let calendar = Calendar::from(base);
        assert!(!calendar.is_business_day(date(2026, 11, 21)) && !calendar.is_business_day(date(2026, 11, 22)));
        assert!(calendar.is_business_day(date(2026, 11, 20)) && calendar.is_business_day(date(2026, 11, 23)));
    }
    let plain = Calendar::from(Base::Weekdays);
    assert!(weekdays_of(2026).all(|day| plain.is_business_day(day)));
}

#[test]
fn days_roll_forward_over_weekends_holidays_and_ends_of_months() {
    for (base, day, rolled, next) in [
        (Base::Target2, date(2026, 4, 2), date(2026, 4, 2), date(2026, 4, 7)),
        (Base::Target2, date(2026, 4, 3), date(2026, 4, 7), date(2026, 4, 7)),
        (Base::Target2, date(2024, 3, 29), date(2024, 4, 2), date(2024, 4, 2)),
        (Base::Uk, date(2027, 12, 25), date(2027, 12, 29), date(2027, 12, 29)),
        (Base::Uk, date(2027, 12, 31), date(2027, 12, 31), date(2028, 1, 4)),
        (Base::Weekdays, date(2026, 5, 31), date(2026, 6, 1), date(2026, 6, 1)),
        (Base::Weekdays, date(2024, 2, 29), date(2024, 2, 29), date(2024, 3, 1)),
    ] {
        let calendar = Calendar::from(base);
        assert_eq!((calendar.roll_forward(day), calendar.next_business_day(day)), (rolled, next), "{} {day}", base.name());
    }
}

#[test]
fn a_table_of_ones_own_differs_from_its_base() {
    let days = |list: &[Date]| list.iter().copied().collect::<BTreeSet<_>>();
    let oslo = Calendar::table("oslo", Base::Weekdays, days(&[date(2027, 5, 17), date(2027, 5, 15)]), days(&[])).expect("a calendar");
    assert_eq!((oslo.name(), oslo.roll_forward(date(2027, 5, 15)), oslo.ends()), ("oslo", date(2027, 5, 18), Some(date(2027, 12, 31))));
    // A holiday that is moved by a proclamation.
    let moved = Calendar::table("UK", Base::Uk, days(&[date(2027, 6, 4)]), days(&[date(2027, 5, 31)])).expect("a calendar");
    assert!(moved.is_business_day(date(2027, 5, 31)) && !moved.is_business_day(date(2027, 6, 4)) && !moved.is_business_day(date(2027, 5, 3)));
    assert_eq!(moved.ends(), None);
    // A Saturday on which is worked.
    let working = Calendar::table("s", Base::Weekdays, days(&[]), days(&[date(2026, 2, 14)])).expect("a calendar");
    assert_eq!(working.next_business_day(date(2026, 2, 13)), date(2026, 2, 14));

    let both = Calendar::table("b", Base::Uk, days(&[date(2027, 6, 4)]), days(&[date(2027, 6, 4)]));
    assert_eq!(both, Err(BadTable::Both(date(2027, 6, 4))));
    let month: BTreeSet<_> = date(2027, 6, 1).series(1.day()).take(30).collect();
    // 30 days, and before them a weekend and a holiday.
    assert_eq!(Calendar::table("m", Base::Uk, month.clone(), days(&[])), Err(BadTable::ClosedTooLong(date(2027, 6, 1))));
    let month = month.into_iter().skip(2).collect();
    assert!(Calendar::table("m", Base::Uk, month, days(&[])).is_ok());
    let many = date(2027, 6, 1).series(7.days()).take(EXCEPTIONS_MAX + 1).collect();
    assert_eq!(Calendar::table("m", Base::Uk, many, days(&[])), Err(BadTable::TooMany));
}

#[test]
fn the_end_of_time_ends_every_search() {
    let closed = Calendar::table("c", Base::Weekdays, BTreeSet::from([Date::MAX]), BTreeSet::new()).expect("a calendar");
    assert_eq!((closed.roll_forward(Date::MAX), closed.next_business_day(Date::MAX)), (Date::MAX, Date::MAX));
    let days = banking(closed, "Pacific/Honolulu", "13:00", Some("17:00"));
    assert_eq!((days.opens_on(Date::MAX), days.cut_off_on(Date::MAX)), (Timestamp::MAX, Timestamp::MAX));
    for base in [Base::Target2, Base::Uk] {
        assert!(!Calendar::from(base).is_business_day(date(9999, 1, 1)) && Calendar::from(base).roll_forward(Date::MIN) <= Date::MIN + 3.days());
    }
}

// === the clock ===

fn time(text: &str) -> Time {
    text.parse().expect("a time")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn banking(calendar: Calendar, zone: &str, opens: &str, cut_off: Option<&str>) -> BankingDays {
    BankingDays::new(calendar, TimeZone::get(zone).expect("a zone"), time(opens), cut_off.map(time)).expect("hours")
}

/// When a time of day is reached, in both kinds of nights: local times that do not exist, and local times that exist twice.
#[test]
fn times_of_day_are_reached_once_a_day() {
    for (zone, day, local, instant) in [
        // Ordinary days before and after the change: an hour apart.
        ("Europe/London", date(2026, 3, 27), "17:00", "2026-03-27T17:00:00Z"),
        ("Europe/London", date(2026, 3, 30), "17:00", "2026-03-30T16:00:00Z"),
        ("Europe/Berlin", date(2026, 10, 23), "17:00", "2026-10-23T15:00:00Z"),
        ("Europe/Berlin", date(2026, 10, 26), "17:00", "2026-10-26T16:00:00Z"),
        // 02:00 to 03:00 is left out: everything in between is reached when it jumps.
        ("Europe/Berlin", date(2026, 3, 29), "01:59", "2026-03-29T00:59:00Z"),
        ("Europe/Berlin", date(2026, 3, 29), "02:00", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", date(2026, 3, 29), "02:30", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", date(2026, 3, 29), "03:00", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", date(2026, 3, 29), "03:01", "2026-03-29T01:01:00Z"),
        // 02:00 to 03:00 comes twice: the first one counts.
        ("Europe/Berlin", date(2026, 10, 25), "01:59", "2026-10-24T23:59:00Z"),
        ("Europe/Berlin", date(2026, 10, 25), "02:30", "2026-10-25T00:30:00Z"),
        ("Europe/Berlin", date(2026, 10, 25), "03:00", "2026-10-25T02:00:00Z"),
        // A day that begins at one o'clock, and one whose last hour comes twice; both are weekdays.
        ("Africa/Cairo", date(2026, 4, 24), "00:00", "2026-04-23T22:00:00Z"),
        ("Africa/Cairo", date(2026, 10, 29), "23:30", "2026-10-29T20:30:00Z"),
        // A Friday that was left out as a whole.
        ("Pacific/Apia", date(2011, 12, 30), "12:00", "2011-12-30T10:00:00Z"),
    ] {
        let days = banking(Base::Weekdays.into(), zone, local, None);
        assert_eq!(days.opens_on(day), at(instant), "{zone} {day} {local}");
    }
}

#[test]
fn what_is_handed_in_before_the_cut_off_goes_the_same_day() {
    let euro = banking(Base::Target2.into(), "Europe/Berlin", "06:00", Some("17:00"));
    let pound = banking(Base::Uk.into(), "Europe/London", "06:00", Some("17:00"));
    let daily = banking(Base::Weekdays.into(), "UTC", "00:00", None);
    let cairo = banking(Base::Weekdays.into(), "Africa/Cairo", "06:00", Some("23:30"));
    let sundays = date(2026, 1, 4).series(7.days()).take(52).collect();
    let night = banking(Calendar::table("s", Base::Weekdays, BTreeSet::new(), sundays).expect("a calendar"), "Europe/Berlin", "00:00", Some("02:30"));
    for (days, now, executed) in [
        (&euro, "2026-11-20T00:00:00Z", date(2026, 11, 20)),
        (&euro, "2026-11-20T15:59:59.999Z", date(2026, 11, 20)),
        (&euro, "2026-11-20T16:00:00Z", date(2026, 11, 23)),
        (&euro, "2026-11-21T12:00:00Z", date(2026, 11, 23)),
        // It is already Monday in Berlin.
        (&euro, "2026-11-22T23:30:00Z", date(2026, 11, 23)),
        (&euro, "2026-04-02T14:59:59Z", date(2026, 4, 2)),
        (&euro, "2026-04-02T15:00:00Z", date(2026, 4, 7)),
        (&euro, "2026-12-31T16:00:00Z", date(2027, 1, 4)),
        // The last weekday before the clocks change, and the first one after it, in spring and in autumn.
        (&pound, "2026-03-27T16:59:59Z", date(2026, 3, 27)),
        (&pound, "2026-03-30T15:59:59Z", date(2026, 3, 30)),
        (&pound, "2026-03-30T16:00:00Z", date(2026, 3, 31)),
        (&pound, "2026-10-23T15:59:59Z", date(2026, 10, 23)),
        (&pound, "2026-10-26T16:59:59Z", date(2026, 10, 26)),
        (&pound, "2026-10-26T17:00:00Z", date(2026, 10, 27)),
        (&daily, "2026-11-20T23:59:59.999999999Z", date(2026, 11, 20)),
        (&daily, "2026-11-21T00:00:00Z", date(2026, 11, 23)),
        // The half hour before the clocks go back, and the same half hour once more: the second is too late.
        (&cairo, "2026-10-29T20:29:59Z", date(2026, 10, 29)),
        (&cairo, "2026-10-29T20:30:00Z", date(2026, 10, 30)),
        (&cairo, "2026-10-29T21:10:00Z", date(2026, 10, 30)),
        // The cut-off is in the hour that is left out, or that comes twice.
        (&night, "2026-03-29T00:59:59Z", date(2026, 3, 29)),
        (&night, "2026-03-29T01:00:00Z", date(2026, 3, 30)),
        (&night, "2026-10-25T00:29:59Z", date(2026, 10, 25)),
        (&night, "2026-10-25T00:30:00Z", date(2026, 10, 26)),
        (&night, "2026-10-25T01:29:59Z", date(2026, 10, 26)),
    ] {
        assert_eq!(days.executed_on(at(now)), executed, "{now} {}", days.zone().iana_name().unwrap_or_default());
        assert!(days.next_cut_off(at(now)) > at(now));
    }
}

#[test]
fn a_day_opens_before_its_cut_off() {
    for (opens, cut_off, fine) in [("06:00", "06:01", true), ("06:00", "06:00", false), ("17:00", "06:00", false)] {
        let days = BankingDays::new(Base::Uk.into(), TimeZone::UTC, time(opens), Some(time(cut_off)));
        assert_eq!(days.is_ok(), fine, "{opens} {cut_off}");
    }
}

#[test]
fn a_currency_has_its_own_banking_days_or_those_of_the_others() {
    let euro = banking(Base::Target2.into(), "Europe/Berlin", "06:00", Some("17:00"));
    let others = banking(Base::Weekdays.into(), "UTC", "06:00", None);
    let calendars = Calendars { currencies: BTreeMap::from([(Currency::EUR, euro.clone())]), others: others.clone() };
    assert_eq!((calendars.of(Currency::EUR), calendars.of(Currency::GBP)), (&euro, &others));
}

proptest! {
    /// Whatever the zone and the hours: nothing is executed on a closed day, in the past, or after its cut-off, and no usable day is passed over.
    #[test]
    fn execution_is_on_the_first_day_that_can_be_used(
        seconds in 1_577_836_800_i64..2_208_988_800, zone in prop::sample::select(&["UTC", "Europe/London", "Europe/Berlin", "Africa/Cairo", "America/Santiago", "Pacific/Apia"]),
        base in prop::sample::select(&Base::ALL), cut_off in 1_i64..86_399, later in 0_i64..200_000,
    ) {
        let cut_off = Time::midnight().saturating_add(SignedDuration::from_secs(cut_off));
        let days = BankingDays::new(base.into(), TimeZone::get(zone).expect("a zone"), Time::midnight(), Some(cut_off)).expect("hours");
        let now = Timestamp::from_second(seconds).expect("an instant");
        let executed = days.executed_on(now);
        let today = days.date(now);
        prop_assert!(executed >= today && days.calendar().is_business_day(executed) && now < days.cut_off_on(executed));
        for passed in today.series(1.day()).take_while(|day| *day < executed) {
            prop_assert!(!days.calendar().is_business_day(passed) || days.cut_off_on(passed) <= now);
        }
        // Who hands in later is not executed earlier.
        prop_assert!(days.executed_on(now + SignedDuration::from_secs(later)) >= executed);
        prop_assert!(days.opens_on(executed) <= days.cut_off_on(executed) && days.cut_off_on(executed) < days.opens_on(executed.tomorrow().expect("a day")) + SignedDuration::from_secs(1));
    }
}
