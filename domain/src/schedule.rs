//! When a balance account is paid out by itself: every business day, on a day of the week, or on one of a month's first four such days.
//!
//! The words and fields are those of the balance-account API (`frequency`, `scheduledPayoutDay`, `recurrence`). A [`Schedule`] names days; a calendar makes
//! due dates of them. **A day that is no business day is moved to the next business day, in the next month too; days that are moved to the same date are
//! one payout.** What is to be done at a given instant, after downtime too, is decided in [`plan`].

pub mod plan;
#[cfg(test)]
mod tests;

use std::fmt;

use jiff::ToSpan as _;
use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Serialize};

use crate::calendar::{CLOSED_RUN_MAX, Calendar};

/// Which days payouts are planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Fields<String>", into = "Fields<&'static str>")]
pub enum Schedule {
    /// Every business day.
    Daily,
    /// That day of every week.
    Weekly(Day),
    /// The first, second, third or fourth such day of every month.
    Monthly(Recurrence, Day),
}

/// Names a small set of words that are compared exactly.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($word:ident = $text:literal),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($word),+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$word),+];

            /// All words, as the API spells them.
            pub const WORDS: &[&str] = &[$($text),+];

            /// The word, as the API spells it.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$word => $text),+ }
            }

            #[must_use]
            pub fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.word() == word)
            }
        }
    };
}

words! {
    /// How often.
    Frequency { Daily = "daily", Weekly = "weekly", Monthly = "monthly" }
}
words! {
    /// A day of the week on which payouts can be planned.
    Day { Monday = "monday", Tuesday = "tuesday", Wednesday = "wednesday", Thursday = "thursday", Friday = "friday" }
}
words! {
    /// Which one of a month. Every month has four of each day.
    Recurrence { First = "first", Second = "second", Third = "third", Fourth = "fourth" }
}
words! {
    /// The fields of a schedule.
    Field { Frequency = "frequency", Day = "scheduledPayoutDay", Recurrence = "recurrence" }
}

/// What is wrong with one field. Says neither its name nor its value: the caller names the field as its own users know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleError {
    pub field: Field,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is such a field, and what it says is none of its words.
    Unknown,
    /// The frequency needs it (`None`: every schedule does).
    Missing(Option<Frequency>),
    /// The frequency has no use for it. It is refused, because whoever wrote it had another schedule in mind.
    NotFor(Frequency),
}

/// The fields of a schedule as they are written.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fields<T> {
    pub frequency: Option<T>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub scheduled_payout_day: Option<T>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<T>,
}

/// A date on which a payout is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueDate {
    /// A business day.
    pub date: Date,
    /// The day that the schedule names; earlier than `date` if that one is no business day. Of several, the first.
    pub named: Date,
}

// === impl Schedule ===

impl Schedule {
    /// Reads the three fields.
    ///
    /// # Errors
    /// Everything that is wrong, at least one thing: a word that is none, a field that the frequency needs, a field that it has no use for.
    pub fn read(fields: Fields<&str>) -> Result<Self, Vec<ScheduleError>> {
        let frequency = match fields.frequency {
            None => Err(ScheduleError { field: Field::Frequency, why: Why::Missing(None) }),
            Some(word) => Frequency::named(word).ok_or(ScheduleError { field: Field::Frequency, why: Why::Unknown }),
        };
        let day = Field::Day.read(fields.scheduled_payout_day, frequency.ok(), Day::named);
        let recurrence = Field::Recurrence.read(fields.recurrence, frequency.ok(), Recurrence::named);
        match (frequency, day, recurrence) {
            (Ok(Frequency::Daily), Ok(_), Ok(_)) => Ok(Self::Daily),
            (Ok(Frequency::Weekly), Ok(Some(day)), Ok(_)) => Ok(Self::Weekly(day)),
            (Ok(Frequency::Monthly), Ok(Some(day)), Ok(Some(recurrence))) => Ok(Self::Monthly(recurrence, day)),
            (frequency, day, recurrence) => Err([frequency.err(), day.err(), recurrence.err()].into_iter().flatten().collect()),
        }
    }

    /// The three fields, as they are written.
    #[must_use]
    pub const fn fields(self) -> Fields<&'static str> {
        let (frequency, day, recurrence) = match self {
            Self::Daily => (Frequency::Daily, None, None),
            Self::Weekly(day) => (Frequency::Weekly, Some(day.word()), None),
            Self::Monthly(recurrence, day) => (Frequency::Monthly, Some(day.word()), Some(recurrence.word())),
        };
        Fields { frequency: Some(frequency.word()), scheduled_payout_day: day, recurrence }
    }

    /// The first due date after that day. `None` only at the end of the year 9999.
    #[must_use]
    pub fn next(self, calendar: &Calendar, after: Date) -> Option<DueDate> {
        let start = match self {
            Self::Daily => after.tomorrow().ok()?,
            // A day before `after` may be moved to a date behind it.
            Self::Weekly(_) | Self::Monthly(..) => after.saturating_sub(i64::try_from(CLOSED_RUN_MAX).ok()?.days()),
        };
        let mut named = self.named_from(calendar, start)?;
        loop {
            let date = calendar.roll_forward(named);
            if date > after {
                return Some(DueDate { date, named });
            }
            named = self.named_from(calendar, named.tomorrow().ok()?)?;
        }
    }

    /// All due dates after that day, each later than the one before.
    pub fn due_dates(self, calendar: &Calendar, after: Date) -> impl Iterator<Item = DueDate> + '_ {
        std::iter::successors(self.next(calendar, after), move |due| self.next(calendar, due.date))
    }

    /// The first day on or after `date` that the schedule names.
    fn named_from(self, calendar: &Calendar, date: Date) -> Option<Date> {
        match self {
            Self::Daily => Some(calendar.roll_forward(date)),
            Self::Weekly(day) => date.yesterday().ok()?.nth_weekday(1, day.weekday()).ok(),
            Self::Monthly(recurrence, day) => {
                let of_month = |month: Date| month.nth_weekday_of_month(recurrence.nth(), day.weekday()).ok();
                of_month(date).filter(|named| *named >= date).or_else(|| of_month(date.last_of_month().tomorrow().ok()?))
            }
        }
    }
}

impl TryFrom<Fields<String>> for Schedule {
    type Error = String;

    fn try_from(fields: Fields<String>) -> Result<Self, String> {
        let Fields { frequency, scheduled_payout_day, recurrence } = &fields;
        let fields =
            Fields { frequency: frequency.as_deref(), scheduled_payout_day: scheduled_payout_day.as_deref(), recurrence: recurrence.as_deref() };
        let say = |error: &ScheduleError| format!("`{}` {error}", error.field.word());
        Self::read(fields).map_err(|errors| errors.iter().map(say).collect::<Vec<_>>().join("; "))
    }
}

impl From<Schedule> for Fields<&'static str> {
    fn from(schedule: Schedule) -> Self {
        schedule.fields()
    }
}

impl Day {
    const fn weekday(self) -> Weekday {
        match self {
            Self::Monday => Weekday::Monday,
            Self::Tuesday => Weekday::Tuesday,
            Self::Wednesday => Weekday::Wednesday,
            Self::Thursday => Weekday::Thursday,
            Self::Friday => Weekday::Friday,
        }
    }
}

impl Recurrence {
    const fn nth(self) -> i8 {
        match self {
            Self::First => 1,
            Self::Second => 2,
            Self::Third => 3,
            Self::Fourth => 4,
        }
    }
}

impl Frequency {
    const fn needs(self, field: Field) -> bool {
        match field {
            Field::Frequency => true,
            Field::Day => !matches!(self, Self::Daily),
            Field::Recurrence => matches!(self, Self::Monthly),
        }
    }
}

impl Field {
    /// What the field says, if it says something and the frequency (where that is known) has a use for it.
    fn read<T>(self, said: Option<&str>, frequency: Option<Frequency>, named: fn(&str) -> Option<T>) -> Result<Option<T>, ScheduleError> {
        let why = match (said, frequency) {
            (Some(_), Some(frequency)) if !frequency.needs(self) => Why::NotFor(frequency),
            (None, Some(frequency)) if frequency.needs(self) => Why::Missing(Some(frequency)),
            (None, _) => return Ok(None),
            (Some(word), _) => match named(word) {
                Some(word) => return Ok(Some(word)),
                None => Why::Unknown,
            },
        };
        Err(ScheduleError { field: self, why })
    }

    /// The words that the field may hold.
    #[must_use]
    pub const fn allowed(self) -> &'static [&'static str] {
        match self {
            Self::Frequency => Frequency::WORDS,
            Self::Day => Day::WORDS,
            Self::Recurrence => Recurrence::WORDS,
        }
    }
}

// === impl ScheduleError ===

impl fmt::Display for ScheduleError {
    /// What is wrong, to be put behind the name of the field: `must be one of daily, weekly, monthly`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.field.allowed().join(", ");
        match self.why {
            Why::Unknown => write!(f, "must be one of {words}"),
            Why::Missing(None) => write!(f, "is needed: one of {words}"),
            Why::Missing(Some(frequency)) => write!(f, "is needed for the frequency {}: one of {words}", frequency.word()),
            Why::NotFor(frequency) => write!(f, "has no meaning for the frequency {}: leave it out", frequency.word()),
        }
    }
}

impl std::error::Error for ScheduleError {}

/// `Option`'s own default, for any type.
const fn none<T>() -> Option<T> {
    None
}
