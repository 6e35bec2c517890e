//! `[calendars]`: which days are banking days for a currency, as texts and as [`Calendars`].

use std::collections::{BTreeMap, BTreeSet};

use domain::calendar::{BankingDays, Base, Calendar, Calendars};
use domain::money::Currency;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::Problem;

/// How the end of a day is written: no clock shows it.
const MIDNIGHT: &str = "24:00";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// By ISO code.
    pub currencies: BTreeMap<String, Hours>,
    /// All other currencies.
    pub others: Hours,
    /// Calendars of one's own, by the name that `calendar` uses.
    #[serde(default)]
    pub tables: BTreeMap<String, Table>,
}

/// The banking days of a currency.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// `TARGET2`, `UK`, `weekdays`, or the name of a table.
    pub calendar: String,
    /// A time zone of IANA, such as `Europe/London`.
    pub zone: String,
    /// `HH:MM` there, from when on a payout that is planned for a day goes.
    pub opens: String,
    /// `HH:MM` there, from when on it is too late for that day; `24:00` for midnight.
    pub cut_off: String,
}

/// A calendar of one's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// What it differs from.
    #[serde(default = "weekdays")]
    pub base: String,
    /// `YYYY-MM-DD` each.
    #[serde(default)]
    pub closed: Vec<String>,
    /// `YYYY-MM-DD` each.
    #[serde(default)]
    pub open: Vec<String>,
}

impl Settings {
    /// The banking days of every currency.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn read(&self) -> Result<Calendars, Vec<Problem>> {
        let mut problems = Vec::new();
        let tables =
            self.tables.iter().filter_map(|(name, table)| note(&mut problems, table.read(name)).map(|table| (name.as_str(), table))).collect();
        let mut currencies = BTreeMap::new();
        for (code, hours) in &self.currencies {
            let key = format!("calendars.currencies.{code}");
            match Currency::parse(code) {
                Ok(currency) => currencies.extend(note(&mut problems, self.hours(&key, hours, &tables)).map(|days| (currency, days))),
                Err(error) => problems.push(Problem::new(key, format!("has no currency as its name: {error}"))),
            }
        }
        match note(&mut problems, self.hours("calendars.others", &self.others, &tables)) {
            Some(others) if problems.is_empty() => Ok(Calendars { currencies, others }),
            _ => Err(problems),
        }
    }

    fn hours(&self, key: &str, hours: &Hours, tables: &BTreeMap<&str, Calendar>) -> Result<BankingDays, Vec<Problem>> {
        let Hours { calendar, zone, opens, cut_off } = hours;
        let mut problems = Vec::new();
        let mut wrong = |part: &str, text: String| problems.push(Problem::new(format!("{key}.{part}"), text));
        let found = tables.get(calendar.as_str()).cloned().or_else(|| Base::named(calendar).map(Calendar::from));
        // A table that is wrong itself is named by itself.
        if found.is_none() && !self.tables.contains_key(calendar) {
            let names = Base::ALL.map(Base::name).into_iter().chain(self.tables.keys().map(String::as_str));
            wrong("calendar", format!("must be one of {}", names.collect::<Vec<_>>().join(", ")));
        }
        let zone = TimeZone::get(zone).ok();
        if zone.is_none() {
            wrong("zone", "must be a time zone of IANA, such as Europe/London".to_owned());
        }
        let opens = time(opens);
        if opens.is_none() {
            wrong("opens", "must be a time of day, such as 06:00".to_owned());
        }
        let cut_off = if cut_off == MIDNIGHT { Some(None) } else { time(cut_off).map(Some) };
        if cut_off.is_none() {
            wrong("cut_off", format!("must be a time of day, such as 17:00, or {MIDNIGHT} for midnight"));
        }
        let (Some(calendar), Some(zone), Some(opens), Some(cut_off)) = (found, zone, opens, cut_off) else { return Err(problems) };
        BankingDays::new(calendar, zone, opens, cut_off)
            .map_err(|error| vec![Problem::new(format!("{key}.cut_off"), format!("cannot be used: {error}"))])
    }
}

impl Table {
    fn read(&self, name: &str) -> Result<Calendar, Vec<Problem>> {
        let key = format!("calendars.tables.{name}");
        let mut problems = Vec::new();
        if name.is_empty() || Base::named(name).is_some() {
            problems.push(Problem::new(&key, "needs a name of its own"));
        }
        let base = Base::named(&self.base);
        if base.is_none() {
            problems.push(Problem::new(format!("{key}.base"), format!("must be one of {}", Base::ALL.map(Base::name).join(", "))));
        }
        let closed = note(&mut problems, dates(&format!("{key}.closed"), &self.closed));
        let open = note(&mut problems, dates(&format!("{key}.open"), &self.open));
        match (base, closed, open) {
            (Some(base), Some(closed), Some(open)) if problems.is_empty() => {
                Calendar::table(name, base, closed, open).map_err(|error| vec![Problem::new(key, error.to_string())])
            }
            _ => Err(problems),
        }
    }
}

/// What there is, if nothing is wrong with it.
fn note<T>(problems: &mut Vec<Problem>, read: Result<T, Vec<Problem>>) -> Option<T> {
    read.map_err(|more| problems.extend(more)).ok()
}

fn dates(key: &str, list: &[String]) -> Result<BTreeSet<Date>, Vec<Problem>> {
    let read = |(index, text): (usize, &String)| {
        let date = text.parse::<Date>().ok().filter(|date| date.to_string() == *text);
        date.ok_or_else(|| vec![Problem::new(format!("{key}[{index}]"), "must be a date, such as 2026-12-25")])
    };
    list.iter().enumerate().map(read).collect()
}

/// `HH:MM`, and nothing else that could be read as a time.
fn time(text: &str) -> Option<Time> {
    Time::strptime("%H:%M", text).ok().filter(|time| time.strftime("%H:%M").to_string() == text)
}

fn weekdays() -> String {
    Base::Weekdays.name().to_owned()
}
