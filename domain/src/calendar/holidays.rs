//! The holidays that fall on weekdays, by rule. Saturdays and Sundays are closed anyway, so a holiday on one is not named here, only its substitute.

use jiff::civil::{Date, Weekday, date};

/// What was proclaimed for a single year in England and Wales: that a weekday is a holiday (`true`), or that one which the rule names is none.
/// New ones are not known in advance; until they stand here, a table of one's own names them.
const PROCLAIMED: [(Date, bool); 7] = [
    // The early May holiday was moved to the anniversary of the end of the war.
    (date(2020, 5, 4), false),
    (date(2020, 5, 8), true),
    // The spring holiday was moved, and a day was added to it, for a jubilee.
    (date(2022, 5, 30), false),
    (date(2022, 6, 2), true),
    (date(2022, 6, 3), true),
    // A funeral and a coronation.
    (date(2022, 9, 19), true),
    (date(2023, 5, 8), true),
];

pub(super) fn target2(date: Date) -> bool {
    matches!((date.month(), date.day()), (1 | 5, 1) | (12, 25 | 26)) || around_easter(date)
}

pub(super) fn uk(date: Date) -> bool {
    if let Some((_, closed)) = PROCLAIMED.iter().find(|(proclaimed, _)| *proclaimed == date) {
        return *closed;
    }
    let weekday = date.weekday();
    match (date.month(), date.day()) {
        (1, 1) | (12, 25 | 26) => true,
        // New Year's Day was on the weekend before.
        (1, 2 | 3) => weekday == Weekday::Monday,
        // The first and the last Monday of May, and the last one of August.
        (5, 1..=7 | 25..=31) | (8, 25..=31) => weekday == Weekday::Monday,
        // Christmas Day, Boxing Day or both were on the weekend before; both have a substitute of their own.
        (12, 27 | 28) => matches!(weekday, Weekday::Monday | Weekday::Tuesday),
        _ => around_easter(date),
    }
}

/// Good Friday and Easter Monday.
fn around_easter(date: Date) -> bool {
    let good_friday = |sunday: Date| sunday.yesterday().and_then(Date::yesterday).ok();
    easter_sunday(date.year()).is_some_and(|sunday| good_friday(sunday) == Some(date) || sunday.tomorrow().ok() == Some(date))
}

/// Easter Sunday of the Gregorian calendar, by the algorithm that is known as Meeus, Jones and Butcher's, with its letters.
#[expect(clippy::arithmetic_side_effects, reason = "years have four digits, so nothing comes near the limits of the type")]
fn easter_sunday(year: i16) -> Option<Date> {
    let y = i32::from(year);
    let (a, b, c) = (y.rem_euclid(19), y.div_euclid(100), y.rem_euclid(100));
    let (d, e) = (b.div_euclid(4), b.rem_euclid(4));
    let g = (b - (b + 8).div_euclid(25) + 1).div_euclid(3);
    let h = (19 * a + b - d - g + 15).rem_euclid(30);
    let l = (32 + 2 * e + 2 * (c / 4) - h - c % 4).rem_euclid(7);
    let m = (a + 11 * h + 22 * l) / 451;
    let days = h + l - 7 * m + 114;
    Date::new(year, i8::try_from(days / 31).ok()?, i8::try_from(days % 31 + 1).ok()?).ok()
}
