//! Banking days with their hours: which day it is, and whether that day can still be used.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::Calendar;

/// Business days as somebody lives them: in a zone, from a time of day until a cut-off.
///
/// **A time of day is reached when the clocks of the zone first show it or a later one on that day.** So where clocks go forward over it, it is reached
/// when they jump; where they go back over it, it is reached the first time, and the hour that is repeated does not bring it back. Every day has each time
/// once, and a later time never comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankingDays {
    calendar: Calendar,
    zone: TimeZone,
    opens: Time,
    cut_off: Option<Time>,
}

/// A day that is over before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cut-off must be later than the opening")]
pub struct OpensTooLate;

impl BankingDays {
    /// `opens`: from when on a payout that is planned for a day goes. `cut_off`: from when on it is too late for that day; without it, midnight.
    ///
    /// # Errors
    /// A cut-off that is not after the opening.
    pub fn new(calendar: Calendar, zone: TimeZone, opens: Time, cut_off: Option<Time>) -> Result<Self, OpensTooLate> {
        if cut_off.is_some_and(|cut_off| cut_off <= opens) {
            return Err(OpensTooLate);
        }
        Ok(Self { calendar, zone, opens, cut_off })
    }

    #[must_use]
    pub const fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    #[must_use]
    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Which day it is there.
    #[must_use]
    pub fn date(&self, now: Timestamp) -> Date {
        self.zone.to_datetime(now).date()
    }

    /// When that day opens, be it a business day or not.
    #[must_use]
    pub fn opens_on(&self, date: Date) -> Timestamp {
        self.reached(date, self.opens)
    }

    /// From when on it is too late for that day, be it a business day or not: at this very instant it already is.
    #[must_use]
    pub fn cut_off_on(&self, date: Date) -> Timestamp {
        match (self.cut_off, date.tomorrow()) {
            (Some(cut_off), _) => self.reached(date, cut_off),
            (None, Ok(tomorrow)) => self.reached(tomorrow, Time::midnight()),
            (None, Err(_)) => Timestamp::MAX,
        }
    }

    /// The business day on which something is executed that is handed in now: today before the cut-off of a business day (before it opens, too), else the next one.
    #[must_use]
    pub fn executed_on(&self, now: Timestamp) -> Date {
        let today = self.date(now);
        if self.calendar.is_business_day(today) && now < self.cut_off_on(today) { today } else { self.calendar.next_business_day(today) }
    }

    /// The cut-off that something handed in now still makes.
    #[must_use]
    pub fn next_cut_off(&self, now: Timestamp) -> Timestamp {
        self.cut_off_on(self.executed_on(now))
    }

    /// The first instant at which the clocks of the zone show that time or a later one on that day. The end of time where there is none.
    fn reached(&self, date: Date, time: Time) -> Timestamp {
        let wanted = date.to_datetime(time);
        let found = self.zone.to_ambiguous_timestamp(wanted);
        let instant = match found.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => found.earlier().ok(),
            // Read with the offset that comes after the gap, it is an instant before the gap.
            AmbiguousOffset::Gap { after, .. } => {
                after.to_timestamp(wanted).ok().and_then(|before| self.zone.following(before).next()).map(|transition| transition.timestamp())
            }
        };
        instant.unwrap_or(Timestamp::MAX)
    }
}
