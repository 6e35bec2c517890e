//! Business days: on which days banks move money, and until when on such a day.
//!
//! A [`Calendar`] says which days those are. [`BankingDays`] adds the clock: in which zone a day is looked at, when it opens and when it is too late.
//! [`Calendars`] gives each currency its banking days. Nothing here reads a clock or a file: dates, times and tables are arguments.

mod banking_days;
mod holidays;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Weekday};

pub use self::banking_days::{BankingDays, OpensTooLate};
use crate::money::Currency;

/// The most days in a row on which a calendar may be closed. So a payout never waits longer for a business day.
pub const CLOSED_RUN_MAX: usize = 31;

/// The most dates that the exceptions of a calendar may name.
pub const EXCEPTIONS_MAX: usize = 2_000;

/// What is a business day by rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Monday to Friday.
    Weekdays,
    /// The euro's settlement system: Monday to Friday but for 1 January, Good Friday, Easter Monday, 1 May, 25 and 26 December.
    Target2,
    /// Monday to Friday but for the bank holidays of England and Wales, substitute days and what was proclaimed for single years from 2020 on included.
    Uk,
}

/// Which days are business days: a rule, and dates that differ from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    name: String,
    base: Base,
    closed: BTreeSet<Date>,
    open: BTreeSet<Date>,
}

/// Why a table of dates is no calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTable {
    #[error("names {0} as closed and as open")]
    Both(Date),
    #[error("is closed for more than {CLOSED_RUN_MAX} days in a row around {0}")]
    ClosedTooLong(Date),
    #[error("names more than {EXCEPTIONS_MAX} dates")]
    TooMany,
}

/// The banking days of every currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendars {
    /// Of the currencies that have their own.
    pub currencies: BTreeMap<Currency, BankingDays>,
    /// Of all others.
    pub others: BankingDays,
}

// === impl Base ===

impl Base {
    pub const ALL: [Self; 3] = [Self::Weekdays, Self::Target2, Self::Uk];

    /// The name in configuration: `weekdays`, `TARGET2`, `UK`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Weekdays => "weekdays",
            Self::Target2 => "TARGET2",
            Self::Uk => "UK",
        }
    }

    /// The one of that name, compared exactly.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|base| base.name() == name)
    }

    fn is_business_day(self, date: Date) -> bool {
        let weekend = matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        !weekend
            && match self {
                Self::Weekdays => true,
                Self::Target2 => !holidays::target2(date),
                Self::Uk => !holidays::uk(date),
            }
    }
}

// === impl Calendar ===

impl From<Base> for Calendar {
    fn from(base: Base) -> Self {
        Self { name: base.name().to_owned(), base, closed: BTreeSet::new(), open: BTreeSet::new() }
    }
}

impl Calendar {
    /// A calendar of one's own: `base`, but closed on the dates in `closed` and open on those in `open`, weekends included.
    ///
    /// # Errors
    /// A date in both lists, more than [`EXCEPTIONS_MAX`] dates, or more than [`CLOSED_RUN_MAX`] days in a row without a business day.
    pub fn table(name: &str, base: Base, closed: BTreeSet<Date>, open: BTreeSet<Date>) -> Result<Self, BadTable> {
        if let Some(date) = closed.intersection(&open).next() {
            return Err(BadTable::Both(*date));
        }
        if closed.len().saturating_add(open.len()) > EXCEPTIONS_MAX {
            return Err(BadTable::TooMany);
        }
        let calendar = Self { name: name.to_owned(), base, closed, open };
        match calendar.closed.iter().find(|date| calendar.closed_around(**date) > CLOSED_RUN_MAX) {
            Some(date) => Err(BadTable::ClosedTooLong(*date)),
            None => Ok(calendar),
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether banks move money on that day.
    #[must_use]
    pub fn is_business_day(&self, date: Date) -> bool {
        !self.closed.contains(&date) && (self.open.contains(&date) || self.base.is_business_day(date))
    }

    /// The day itself if it is a business day, else the next one, in the next month too. At most [`CLOSED_RUN_MAX`] days later.
    ///
    /// The last day of the year 9999 stands for everything after it.
    #[must_use]
    pub fn roll_forward(&self, date: Date) -> Date {
        let mut date = date;
        while !self.is_business_day(date) {
            let Ok(tomorrow) = date.tomorrow() else { break };
            date = tomorrow;
        }
        date
    }

    /// The first business day after that day.
    #[must_use]
    pub fn next_business_day(&self, date: Date) -> Date {
        date.tomorrow().map_or(date, |tomorrow| self.roll_forward(tomorrow))
    }

    /// The last day that a list of closed days knows about: the end of the last year that it names. `None` where days are closed by rule.
    ///
    /// After it, this calendar is nothing but weekdays, and whoever keeps the list should be told.
    #[must_use]
    pub fn ends(&self) -> Option<Date> {
        let last = self.closed.last().filter(|_| self.base == Base::Weekdays)?;
        Some(last.last_of_year())
    }

    /// How many days in a row, this one included, are no business days.
    fn closed_around(&self, date: Date) -> usize {
        let closed = |date: &Date| !self.is_business_day(*date);
        let before = std::iter::successors(Some(date), |date| date.yesterday().ok()).skip(1).take_while(closed);
        let from = std::iter::successors(Some(date), |date| date.tomorrow().ok()).take_while(closed);
        before.take(CLOSED_RUN_MAX).count().saturating_add(from.take(CLOSED_RUN_MAX).count())
    }
}

// === impl Calendars ===

impl Calendars {
    /// The banking days of a currency.
    #[must_use]
    pub fn of(&self, currency: Currency) -> &BankingDays {
        self.currencies.get(&currency).unwrap_or(&self.others)
    }
}
