//! What a schedule asks for at an instant: which payout is to be opened now, or when to look again. A pure function of three things: the schedule, how
//! far it has come, and the time.
//!
//! **A due date has its day, from opening to cut-off. What was not opened by then is missed, and goes with the next payout: the first business day that can
//! still be used opens one payout for all due dates that have passed.** A balance is paid out whole, so a second one would find nothing.
//!
//! **A payout bears the first due date that it stands for, which follows from [`Progress`] and not from the clock.** So workers whose clocks differ, and
//! one that was restored to an older state of the store, name the same payout; [`crate::id::BalanceAccountId::scheduled`] makes the same key of it, and the key
//! is claimed once. A clock that is far behind the last opening is the exception: it goes on from its own day, and may come upon a due date that was borne
//! while the clock was ahead. Its key is claimed, so nothing is opened, and the next due date has its turn: **no due date is borne twice.**

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{DueDate, Schedule};
use crate::calendar::BankingDays;

/// How far the clocks of two workers may be apart. With more than that, a due date of the day before would be passed over because of an opening by a clock
/// that was a day ahead.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(1);

/// How far a schedule has come. It is kept with the schedule, and replaced by the commit that opens the payout, or finds that there is nothing to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The due date that the last payout bears; before the first one, the day on which the schedule was set.
    last: Date,
    /// The day on which it was opened. Due dates up to then went with it.
    through: Date,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Open the payout now, and keep the [`Progress`] of [`Opening::progress`] in the same commit.
    Open(Opening),
    /// Nothing before that instant.
    Wait {
        /// The day on which the next payout is opened, a business day.
        on: Date,
        /// When to look again: when that day opens.
        until: Timestamp,
    },
}

/// A payout that is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The due date that it bears: the first one that is not paid.
    pub due: Date,
    /// Today. It stands for every due date from `due` to this one.
    pub through: Date,
}

impl Progress {
    /// Of a schedule that is set today, changed or resumed: its first due date is after today. What was due before is not made up for.
    #[must_use]
    pub const fn set_on(today: Date) -> Self {
        Self { last: today, through: today }
    }

    /// The day whose due date, and those before it, are paid.
    ///
    /// A clock for which the last opening is still to come was ahead then, or is behind now. What is later than the due date that this opening bears, and
    /// today, is then not taken as paid: it has payouts of its own in its own time. Up to an hour it is taken as two clocks that differ.
    fn paid(self, days: &BankingDays, now: Timestamp) -> Date {
        let soon = now.saturating_add(CLOCKS_DIFFER).unwrap_or(now);
        if days.date(soon) >= self.through {
            return self.through;
        }
        let today = days.date(now);
        self.last.min(today.yesterday().unwrap_or(today))
    }
}

impl Opening {
    /// How far the schedule has come once this payout is opened, or there was nothing to pay.
    #[must_use]
    pub const fn progress(self) -> Progress {
        Progress { last: self.due, through: self.through }
    }

    /// How far it has come where that due date was borne before, of which the progress knew nothing: those after it are still to be paid.
    #[must_use]
    pub const fn borne_before(self) -> Progress {
        Progress::set_on(self.due)
    }
}

impl Schedule {
    /// What is to be done now.
    ///
    /// Asked at the same instant with the same progress it says the same; asked again after the payout was opened, it says when the next one is due.
    #[must_use]
    pub fn plan(self, days: &BankingDays, progress: Progress, now: Timestamp) -> Plan {
        let today = days.date(now);
        let Some(DueDate { date: due, .. }) = self.next(days.calendar(), progress.paid(days, now)) else {
            return Plan::Wait { on: Date::MAX, until: Timestamp::MAX };
        };
        // Today if it can be used, else the next day that can.
        let on = due.max(days.executed_on(now));
        let until = days.opens_on(on);
        if on == today && until <= now { Plan::Open(Opening { due, through: today }) } else { Plan::Wait { on, until } }
    }

    /// The date of the next payout, as the API tells it: today while one is to be opened today.
    #[must_use]
    pub fn next_payout_date(self, days: &BankingDays, progress: Progress, now: Timestamp) -> Date {
        match self.plan(days, progress, now) {
            Plan::Open(opening) => opening.through,
            Plan::Wait { on, .. } => on,
        }
    }
}
