//! Years of several schedules with ten workers each, in a second: they read the same progress, plan at the same time, and race for the key of the payout.

use std::collections::HashSet;

use jiff::SignedDuration;

use super::*;
use crate::id::{BalanceAccountId, Mode, PartyId, Shards};
use crate::money::Currency;
use crate::wait::Jitter;

const WORKERS: usize = 10;

/// A schedule and what became of it.
struct Account {
    id: BalanceAccountId,
    schedule: Schedule,
    days: BankingDays,
    progress: Progress,
    /// What was opened, by the clock of whoever opened it.
    opened: Vec<(Opening, Timestamp)>,
}

/// The part of the store that matters: keys that are claimed for ever.
#[derive(Default)]
struct Keys(HashSet<uuid::Uuid>);

impl Account {
    fn all(set_on: Date) -> Vec<Self> {
        let zone = |name| TimeZone::get(name).expect("a zone");
        let time = |text: &str| text.parse::<Time>().expect("a time");
        let pound = BankingDays::new(Base::Uk.into(), zone("Europe/London"), time("00:00"), None).expect("hours");
        let dollar = BankingDays::new(Base::Weekdays.into(), zone("America/New_York"), time("09:30"), Some(time("10:00"))).expect("hours");
        let accounts = [
            ("daily", euro(), "EUR"),
            ("daily", pound.clone(), "GBP"),
            ("weekly friday", euro(), "CHF"),
            ("weekly monday", pound, "NOK"),
            ("weekly thursday", dollar.clone(), "USD"),
            ("monthly monday first", dollar, "CAD"),
            ("monthly friday fourth", euro(), "SEK"),
        ];
        let party = PartyId::parse("acme").expect("a party");
        let account = |(text, days, currency)| Self {
            id: BalanceAccountId::derive(&party, Mode::Test, Currency::parse(currency).expect("a currency"), Shards::ONE),
            schedule: schedule(text),
            days,
            progress: Progress::set_on(set_on),
            opened: Vec::new(),
        };
        accounts.map(account).into()
    }

    /// All workers plan on the same reading, each by its own clock, and then try to commit, one after the other.
    ///
    /// Returns when each wants to look again, by its own clock.
    fn race(&mut self, keys: &mut Keys, clocks: &[Timestamp]) -> Vec<Timestamp> {
        loop {
            let read = self.progress;
            let plans: Vec<_> = clocks.iter().map(|now| self.schedule.plan(&self.days, read, *now)).collect();
            for (plan, now) in plans.iter().zip(clocks) {
                // Decided on what was read: the second one to commit has to read again.
                if let Plan::Open(opening) = plan
                    && self.progress == read
                {
                    if keys.0.insert(self.id.scheduled(opening.due)) {
                        self.progress = opening.progress();
                        self.opened.push((*opening, *now));
                    } else {
                        self.progress = opening.borne_before();
                    }
                }
            }
            if self.progress == read {
                let until = |plan| if let Plan::Wait { until, .. } = plan { until } else { panic!("{:?}: {plan:?} is not opened", self.schedule) };
                return plans.into_iter().map(until).collect();
            }
        }
    }

    /// The dates on which a calendar and a person with a pencil would pay.
    fn expected(&self, after: Date, last: Date) -> Vec<Date> {
        let calendar = self.days.calendar();
        let named = (after - 40.days()).series(1.day()).take_while(|day| *day <= last).filter(|day| names(self.schedule, calendar, *day));
        let mut dates: Vec<_> = named.map(|day| day.series(1.day()).find(|day| calendar.is_business_day(*day)).expect("a business day")).collect();
        dates.dedup();
        dates.retain(|date| *date > after && *date <= last);
        dates
    }

    /// Whether a payout can be opened at that instant.
    fn in_hours(&self, now: Timestamp) -> bool {
        let today = self.days.date(now);
        self.days.calendar().is_business_day(today) && self.days.opens_on(today) <= now && now < self.days.cut_off_on(today)
    }
}

/// Something between zero and the width, by a seed.
fn draw(seed: u64, number: usize, width: SignedDuration) -> SignedDuration {
    Jitter::new(&seed.to_be_bytes(), u32::try_from(number).expect("a number")).within(width)
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Each due date is opened once, by one of ten, at the moment when its day opens; nothing else is.
    #[test]
    fn a_year_of_ten_workers_has_exactly_the_expected_payouts(seed: u64, year in 2024_i16..=2030) {
        let (set_on, last) = (date(year - 1, 12, 31), date(year, 12, 31));
        let mut keys = Keys::default();
        for mut account in Account::all(set_on) {
            // Each clock is right, or up to twenty minutes behind, and nobody wakes before its own clock says so.
            let behind: Vec<_> = (0..WORKERS).map(|worker| draw(seed, worker, HOUR / 3)).collect();
            let mut now = account.days.cut_off_on(set_on);
            while account.days.date(now) <= last {
                let clocks: Vec<_> = behind.iter().map(|behind| now - *behind).collect();
                let wanted = account.race(&mut keys, &clocks);
                now = wanted.iter().zip(&behind).map(|(until, behind)| *until + *behind).min().expect("ten workers");
            }
            let opened: Vec<_> = account.opened.iter().filter(|(opening, _)| opening.due <= last).collect();
            prop_assert_eq!(opened.iter().map(|(opening, _)| opening.due).collect::<Vec<_>>(), account.expected(set_on, last));
            for (opening, at) in opened {
                prop_assert_eq!((opening.through, *at), (opening.due, account.days.opens_on(opening.due)));
            }
        }
    }

    /// Nobody works for hours, days or weeks: what was missed is one payout, at the first moment at which there can be one, and each due date is in exactly one.
    #[test]
    fn what_was_missed_is_made_up_for_once(year in 2024_i16..=2030, gaps in prop::collection::vec((0_i64..365 * 24, 1_i64..500), 0..12)) {
        let (set_on, last) = (date(year - 1, 12, 31), date(year, 12, 31));
        let mut keys = Keys::default();
        for mut account in Account::all(set_on) {
            let start = account.days.cut_off_on(set_on);
            let gaps: Vec<_> = gaps.iter().map(|(from, hours)| (start + HOUR * i32::try_from(*from).expect("hours"), HOUR * i32::try_from(*hours).expect("hours"))).collect();
            let down = |now: Timestamp| gaps.iter().any(|(from, length)| *from <= now && now < *from + *length);
            let awake = |mut now: Timestamp| {
                while let Some((from, length)) = gaps.iter().find(|(from, length)| *from <= now && now < *from + *length) {
                    now = *from + *length;
                }
                now
            };
            let mut now = awake(start);
            while account.days.date(now) <= last {
                let wanted = account.race(&mut keys, &[now; WORKERS]);
                now = awake(wanted[0]);
            }
            let expected = account.expected(set_on, last);
            let mut moments: Vec<_> = set_on.series(1.day()).take(450).map(|day| account.days.opens_on(day)).chain(gaps.iter().map(|(from, length)| *from + *length)).collect();
            moments.sort();
            let mut unpaid = expected.iter().copied().peekable();
            for (opening, at) in &account.opened {
                prop_assert_eq!(Some(opening.due), unpaid.peek().copied());
                let first = moments.iter().find(|moment| **moment >= account.days.opens_on(opening.due) && account.in_hours(**moment) && !down(**moment));
                prop_assert_eq!((Some(at), opening.through), (first, account.days.date(*at)));
                while unpaid.next_if(|due| *due <= opening.through).is_some() {}
            }
            // What is left is what nobody was awake for until the end of the year.
            prop_assert!(unpaid.all(|due| !account.opened.iter().any(|(opening, _)| opening.through >= due)));
        }
    }

    /// The clock jumps, forward and back, by minutes or by months, and is set right again: no due date is borne twice, none is left out, and soon
    /// after the last jump everything is on its day again.
    #[test]
    fn a_clock_that_jumps_opens_nothing_twice(seed: u64, year in 2024_i16..=2030, unit in prop::sample::select(&[1_i64, 60]), jumps in prop::collection::vec((0_i64..300 * 24, 1_i64..200, -1_000_i64..1_000), 1..8)) {
        let (set_on, last) = (date(year - 1, 12, 31), date(year, 12, 31));
        let mut keys = Keys::default();
        for mut account in Account::all(set_on) {
            let start = account.days.cut_off_on(set_on);
            let hours = |hours: i64| start + SignedDuration::from_hours(hours);
            let apart: Vec<_> = (0..WORKERS).map(|worker| draw(seed, worker, HOUR / 60)).collect();
            let ends = hours(jumps.iter().map(|(from, length, _)| from + length).max().expect("a jump"));
            let (mut now, mut borne_early) = (start, HashSet::new());
            while account.days.date(now) <= last {
                // Of several jumps at a time the first one counts.
                let jump = jumps.iter().find(|(from, length, _)| hours(*from) <= now && now < hours(from + length)).map_or(0, |(_, _, by)| *by);
                let clocks: Vec<_> = apart.iter().map(|apart| now + SignedDuration::from_mins(jump * unit) + *apart).collect();
                let wanted = account.race(&mut keys, &clocks);
                if let Some((opening, _)) = account.opened.last().filter(|_| now < ends) {
                    borne_early.insert(opening.due);
                }
                let woken = wanted.iter().zip(&clocks).map(|(until, clock)| now + until.duration_since(*clock));
                let jumped = jumps.iter().flat_map(|(from, length, _)| [hours(*from), hours(from + length)]).filter(|at| *at > now);
                now = woken.chain(jumped).min().expect("ten workers");
            }
            prop_assert!(account.opened.iter().all(|(opening, at)| account.in_hours(*at) && opening.due <= opening.through));
            prop_assert_eq!(account.opened.iter().map(|(opening, _)| opening.due).collect::<HashSet<_>>().len(), account.opened.len());
            let settled = account.days.date(ends) + 2.days();
            for due in account.expected(set_on, last) {
                let gone_with = account.opened.iter().filter(|(opening, _)| opening.due <= due && due <= opening.through).count();
                prop_assert!(gone_with > 0, "{due} was left out");
                // Soon after the last jump, unless a payout bears it that was opened while the clock was ahead.
                let on_its_day = account.opened.iter().any(|(opening, _)| opening.through == due);
                prop_assert!(due <= settled || on_its_day || borne_early.contains(&due), "{due} was not on its day");
            }
            // A clock that is behind when the schedule is set may come upon days of before.
            let all: HashSet<Date> = account.expected(set_on - 60.days(), last + 200.days()).into_iter().collect();
            prop_assert!(account.opened.iter().all(|(opening, _)| all.contains(&opening.due)));
        }
    }
}
