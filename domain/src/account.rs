//! Balance accounts: a party's money in one currency, who funds its payouts, and how money comes in.
//!
//! There is one account for each party, mode and currency. As long as nobody has set it up it is funded by the provider and enabled. What is set up may include
//! where its money goes and on which days.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::calendar::BankingDays;
use crate::destination::{BeneficiaryName, Iban};
use crate::id::{BalanceAccountId, Mode, PartyId, Shards, TopUpId};
use crate::instrument::InstrumentReference;
use crate::ledger::{Account, Balances};
use crate::money::{Currency, Money};
use crate::revision::Revision;
use crate::schedule::Schedule;
use crate::schedule::plan::{Plan, Progress};

/// The most that may be available and reserved together, in minor units: what the store's scripts can compare without rounding, 2^53 - 1.
pub const BALANCE_MAX: i64 = 9_007_199_254_740_991;

/// Who has the money for an account's payouts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Funding {
    /// The provider says what can be paid: the ledger only counts, and what is available falls below zero.
    #[default]
    Provider,
    /// The account itself: a payout that it does not cover is rejected.
    Balance,
}

/// Whether payouts can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    #[default]
    Enabled,
    /// A payout that is asked for now is rejected. Those that were accepted go on: to stop them, dispatch is frozen.
    Disabled,
}

/// A balance account as the platform has set it up. What is in it is told by the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceAccount {
    pub id: BalanceAccountId,
    pub party: PartyId,
    pub mode: Mode,
    pub currency: Currency,
    /// 0 for an account that nobody has set up; one more with every change, and with every due date that its schedule comes to.
    pub version: u64,
    pub funding: Funding,
    pub status: Status,
    /// `None` for an account that nobody has set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// The payout instrument that its money goes to: one of the party, in the same currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument: Option<InstrumentReference>,
    /// When it is paid out by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<Planned>,
    /// The owners of the credentials that have set the instrument, the schedule and the reserve. `None` for what nobody has set, or before owners were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve_by: Option<String>,
    /// What a payout of the whole balance leaves in it, in minor units; 0 or more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reserve: i64,
    /// What is to be given back to payers before its balance can be paid out by seed 004's request, in minor units; 0 or more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queued_refunds: i64,
    /// How far below zero, in minor units, it may be before no balance of its party is paid out by seed 004's request; 0 or more. `None`: however far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_threshold: Option<i64>,
    /// What tells the request that asked for the account from another one, where it was asked for as seed 001 does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// A schedule, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    pub schedule: Schedule,
    pub progress: Progress,
}

/// Whose account it is, and where money is sent to fund it. Personal data.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<BeneficiaryName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iban: Option<Iban>,
}

/// Money that came into a balance account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopUp {
    pub id: TopUpId,
    pub party: PartyId,
    pub mode: Mode,
    /// The caller's own key.
    pub transaction_id: String,
    pub money: Money,
    pub recorded_at: Timestamp,
}

impl BalanceAccount {
    /// The account as it is until somebody sets it up.
    #[must_use]
    pub fn unset(party: &PartyId, mode: Mode, currency: Currency, shards: Shards) -> Self {
        Self {
            id: BalanceAccountId::derive(party, mode, currency, shards),
            party: party.clone(),
            mode,
            currency,
            version: 0,
            funding: Funding::default(),
            status: Status::default(),
            created_at: None,
            updated_at: None,
            instrument: None,
            planned: None,
            instrument_by: None,
            schedule_by: None,
            reserve_by: None,
            reserve: 0,
            queued_refunds: 0,
            negative_threshold: None,
            fingerprint: None,
        }
    }

    /// The account with money of its own, as the owner `by` of a credential asks for it.
    #[must_use]
    pub fn asked_for(
        &self,
        instrument: Option<InstrumentReference>,
        schedule: Option<Schedule>,
        fingerprint: String,
        by: &str,
        today: Date,
        now: Timestamp,
    ) -> Self {
        let planned = schedule.map(|schedule| Planned { schedule, progress: Progress::set_on(today) });
        Self {
            funding: Funding::Balance,
            instrument_by: instrument.as_ref().map(|_| by.to_owned()),
            schedule_by: planned.map(|_| by.to_owned()),
            instrument,
            planned,
            fingerprint: Some(fingerprint),
            version: self.version.saturating_add(1),
            created_at: self.created_at.or(Some(now)),
            updated_at: Some(now),
            ..self.clone()
        }
    }

    /// The account with another instrument and schedule, decided on a version by the owner of a credential. What stays as it is stays the decision of whoever
    /// has made it, unless that is not on record. A schedule that stays as it is goes on where it is; what another one
    /// would have had due until today is not made up for.
    #[must_use]
    pub fn revise(
        &self,
        instrument: Option<InstrumentReference>,
        schedule: Option<Schedule>,
        (decided_on, by): (u64, &str),
        today: Date,
        now: Timestamp,
    ) -> Revision<Self> {
        let held = self.planned.map(|planned| planned.schedule);
        let planned = match (schedule, self.planned) {
            (Some(schedule), Some(planned)) if schedule == planned.schedule => Some(planned),
            (Some(schedule), _) => Some(Planned { schedule, progress: Progress::set_on(today) }),
            (None, _) => None,
        };
        let of = |stays: bool, held: &Option<String>| held.clone().filter(|_| stays).or_else(|| Some(by.to_owned()));
        let instrument_by = instrument.as_ref().and_then(|_| of(instrument == self.instrument, &self.instrument_by));
        let schedule_by = schedule.and_then(|_| of(schedule == held, &self.schedule_by));
        let same = instrument == self.instrument && schedule == held && instrument_by == self.instrument_by && schedule_by == self.schedule_by;
        Revision::decide(self.version, decided_on, same, |version| Self {
            instrument,
            planned,
            instrument_by,
            schedule_by,
            version,
            updated_at: Some(now),
            ..self.clone()
        })
    }

    /// What its schedule asks for now, if it has one.
    #[must_use]
    pub fn plan(&self, days: &BankingDays, now: Timestamp) -> Option<Plan> {
        self.planned.map(|Planned { schedule, progress }| schedule.plan(days, progress, now))
    }

    /// What can be paid out: of an account that its provider funds, less what the provider has paid, and so below zero.
    #[must_use]
    pub fn available(&self, balances: &Balances) -> i64 {
        let own = balances.of(Account::Available);
        match self.funding {
            Funding::Balance => own,
            Funding::Provider => own.saturating_add(balances.of(Account::Clearing)),
        }
    }

    /// What is there, promised or on its way.
    #[must_use]
    pub fn current(&self, balances: &Balances) -> i64 {
        self.available(balances).saturating_add(balances.of(Account::Reserved))
    }

    /// All of its own money that can be paid out now, if its reserve stays there, and in any case `keeps`, in minor units; `None` if there is none.
    #[must_use]
    pub fn whole(&self, balances: &Balances, keeps: i64) -> Option<Money> {
        let there = balances.of(Account::Available).saturating_sub(self.reserve.max(keeps));
        Money::new(there.min(Money::MAX_MINOR), self.currency).ok()
    }

    /// Who has decided where its money goes, when, and how much of it stays: the owners of credentials, [`None`] for one who is not on record.
    #[must_use]
    pub fn decided_by(&self) -> BTreeSet<Option<String>> {
        let reserve = (self.reserve > 0 || self.reserve_by.is_some()).then(|| self.reserve_by.clone());
        let schedule = self.planned.map(|_| self.schedule_by.clone());
        [Some(self.instrument_by.clone()), schedule, reserve].into_iter().flatten().collect()
    }

    /// Whether it is so far below zero that no balance of its party is paid out.
    #[must_use]
    pub fn is_below_threshold(&self, balances: &Balances) -> bool {
        self.negative_threshold.is_some_and(|threshold| self.available(balances) < threshold.saturating_neg())
    }

    /// The account without its schedule, if it has one: nothing is paid out by itself until it gets one again.
    #[must_use]
    pub fn paused(&self, now: Timestamp) -> Option<Self> {
        self.planned?;
        Some(Self { planned: None, schedule_by: None, version: self.version.saturating_add(1), updated_at: Some(now), ..self.clone() })
    }

    /// The day on which its schedule opens the next payout, if it has one.
    #[must_use]
    pub fn next_payout_date(&self, days: &BankingDays, now: Timestamp) -> Option<Date> {
        self.planned.map(|Planned { schedule, progress }| schedule.next_payout_date(days, progress, now))
    }

    /// The account once its schedule has come so far. Another version, but no change of anybody's: `updated_at` stays.
    #[must_use]
    pub fn come_to(&self, progress: Progress) -> Self {
        let planned = self.planned.map(|planned| Planned { progress, ..planned });
        Self { planned, version: self.version.saturating_add(1), ..self.clone() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
pub(crate) const fn is_zero(minor: &i64) -> bool {
    *minor == 0
}

#[cfg(test)]
mod tests {
    use jiff::civil::{Time, date};
    use jiff::tz::TimeZone;

    use super::*;
    use crate::calendar::{Base, Calendar};
    use crate::schedule::Day;

    fn days() -> BankingDays {
        let (opens, cut_off) = (Time::constant(6, 0, 0, 0), Time::constant(17, 0, 0, 0));
        BankingDays::new(Calendar::from(Base::Target2), TimeZone::UTC, opens, Some(cut_off)).expect("banking days")
    }

    /// At noon of a day, which day it is and when.
    fn noon(day: Date) -> (Date, Timestamp) {
        (day, day.at(12, 0, 0, 0).to_zoned(TimeZone::UTC).expect("a time of day").timestamp())
    }

    fn account() -> BalanceAccount {
        let party = PartyId::parse("acme").expect("a party");
        BalanceAccount::unset(&party, Mode::Test, Currency::EUR, Shards::ONE)
    }

    fn instrument(name: &str) -> Option<InstrumentReference> {
        Some(InstrumentReference::parse(name).expect("a reference"))
    }

    #[test]
    fn an_account_that_is_asked_for_has_money_of_its_own_and_a_next_date() {
        let (today, now) = noon(date(2026, 11, 20));
        let asked = account().asked_for(instrument("main"), Some(Schedule::Weekly(Day::Friday)), "f".to_owned(), "ann", today, now);
        assert_eq!((asked.version, asked.funding, asked.created_at, asked.updated_at), (1, Funding::Balance, Some(now), Some(now)));
        // Today is a Friday, and its payout would have to have been asked for before today.
        assert_eq!(asked.next_payout_date(&days(), now), Some(date(2026, 11, 27)));
        let unplanned = account().asked_for(None, None, "f".to_owned(), "ann", today, now);
        assert_eq!(unplanned.next_payout_date(&days(), now), None);
        let json = serde_json::to_string(&asked).expect("serialises");
        assert_eq!(serde_json::from_str::<BalanceAccount>(&json).expect("reads"), asked);
    }

    #[test]
    fn the_whole_balance_is_what_is_available_less_what_is_kept_back() {
        let with = |available: i64| Balances::from_iter([(Account::Available, available), (Account::Reserved, 700)]);
        let keeping = |reserve, keeps, available| BalanceAccount { reserve, ..account() }.whole(&with(available), keeps).map(Money::minor);
        let of = |reserve, available| keeping(reserve, 0, available);
        assert_eq!([(100, 400), (400, 100)].map(|(reserve, keeps)| keeping(reserve, keeps, 500)), [Some(100); 2]);
        assert_eq!(of(0, 500), Some(500));
        assert_eq!(of(499, 500), Some(1));
        for (reserve, available) in [(500, 500), (501, 500), (0, 0), (0, -5), (i64::MAX, -5)] {
            assert_eq!(of(reserve, available), None, "{reserve} of {available}");
        }
        assert_eq!(of(0, BALANCE_MAX), Some(Money::MAX_MINOR), "the rest goes another time");

        let below = |negative_threshold, available| BalanceAccount { negative_threshold, ..account() }.is_below_threshold(&with(available));
        assert!(!below(None, i64::MIN) && !below(Some(0), 0) && below(Some(0), -1) && !below(Some(10), -10) && below(Some(10), -11));
    }

    #[test]
    fn a_paused_account_has_no_next_date_until_it_is_planned_again() {
        let (today, now) = noon(date(2026, 11, 19));
        let asked = account().asked_for(instrument("main"), Some(Schedule::Daily), "f".to_owned(), "ann", today, now);
        let paused = asked.paused(now).expect("it had a schedule");
        assert_eq!((paused.version, paused.next_payout_date(&days(), now), &paused.instrument), (2, None, &asked.instrument));
        assert_eq!(paused.paused(now), None);
        let Revision::Changed(resumed) = paused.revise(instrument("main"), Some(Schedule::Daily), (2, "ann"), today, now) else { panic!() };
        assert_eq!(resumed.next_payout_date(&days(), now), Some(date(2026, 11, 20)));
    }

    /// Each decision is that of whoever has made it, and stays so until somebody makes another one; one of nobody becomes that of who repeats it.
    #[test]
    fn it_is_known_who_has_decided_what() {
        let (today, now) = noon(date(2026, 11, 19));
        let by = |account: &BalanceAccount| account.decided_by().into_iter().map(|by| by.unwrap_or_else(|| "?".to_owned())).collect::<Vec<_>>();
        let asked = account().asked_for(instrument("main"), Some(Schedule::Daily), "f".to_owned(), "ann", today, now);
        assert_eq!(by(&asked), ["ann"]);
        let Revision::Changed(weekly) = asked.revise(instrument("main"), Some(Schedule::Weekly(Day::Monday)), (1, "bob"), today, now) else {
            panic!()
        };
        assert_eq!(by(&weekly), ["ann", "bob"]);
        let again = weekly.revise(instrument("main"), Some(Schedule::Weekly(Day::Monday)), (2, "cid"), today, now);
        assert_eq!(again, Revision::Same, "to agree is not to decide");
        assert_eq!(by(&BalanceAccount { reserve: 5, ..asked.clone() }), ["?", "ann"]);
        assert_eq!(by(&BalanceAccount { reserve_by: Some("dan".to_owned()), ..asked.clone() }), ["ann", "dan"]);
        let old = BalanceAccount { instrument_by: None, schedule_by: None, ..asked };
        assert_eq!(by(&old), ["?"]);
        let Revision::Changed(known) = old.revise(instrument("main"), Some(Schedule::Daily), (1, "cid"), today, now) else { panic!() };
        assert_eq!((by(&known), known.planned), (vec!["cid".to_owned()], old.planned));
    }

    #[test]
    fn another_schedule_begins_after_today_and_the_same_one_goes_on() {
        let (today, now) = noon(date(2026, 11, 19));
        let asked = account().asked_for(instrument("main"), Some(Schedule::Weekly(Day::Friday)), "f".to_owned(), "ann", today, now);
        let (today, now) = noon(date(2026, 11, 20));
        assert_eq!(asked.next_payout_date(&days(), now), Some(date(2026, 11, 20)), "due today");
        let Revision::Changed(moved) = asked.revise(instrument("other"), Some(Schedule::Weekly(Day::Friday)), (1, "ann"), today, now) else {
            panic!()
        };
        assert_eq!((moved.version, moved.planned, &moved.instrument), (2, asked.planned, &instrument("other")));
        let Revision::Changed(monday) = moved.revise(instrument("other"), Some(Schedule::Weekly(Day::Monday)), (2, "ann"), today, now) else {
            panic!()
        };
        assert_eq!(monday.next_payout_date(&days(), now), Some(date(2026, 11, 23)));
        let Revision::Changed(back) = monday.revise(instrument("other"), Some(Schedule::Weekly(Day::Friday)), (3, "ann"), today, now) else {
            panic!()
        };
        assert_eq!(back.next_payout_date(&days(), now), Some(date(2026, 11, 27)), "what was due until today is not made up for");
        let again = |decided_on| back.revise(instrument("other"), Some(Schedule::Weekly(Day::Friday)), (decided_on, "ann"), today, now);
        assert_eq!((again(4), again(3), again(2)), (Revision::Same, Revision::Repeated, Revision::Stale));
    }
}
