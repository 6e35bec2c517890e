//! `payrelay schedule`: on which dates a balance account would be paid out, without a server or a store.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use domain::calendar::BankingDays;
use domain::money::Currency;
use domain::schedule::{Day, DueDate, Field, Fields, Frequency, Recurrence, Schedule};
use jiff::ToSpan as _;
use jiff::civil::{Date, date};
use serde_json::json;

use super::print;
use crate::config::{Config, Sections};

/// The first and the last day of a preview. The holidays that were proclaimed for single years are known from the first one on.
const KNOWN: (Date, Date) = (date(2020, 1, 1), date(2199, 12, 31));

/// The longest preview.
const YEARS_MAX: i8 = 10;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print the dates on which a schedule pays out, holidays taken into account. Reads the configuration (`[calendars]`), and asks nobody.
    Preview(Preview),
}

#[derive(Debug, clap::Args)]
pub struct Preview {
    /// How often.
    #[arg(long, value_parser = PossibleValuesParser::new(Frequency::WORDS))]
    frequency: String,
    /// The day of the week, for `weekly` and `monthly`.
    #[arg(long, value_parser = PossibleValuesParser::new(Day::WORDS))]
    day: Option<String>,
    /// Which such day of the month, for `monthly`.
    #[arg(long, value_parser = PossibleValuesParser::new(Recurrence::WORDS))]
    recurrence: Option<String>,
    /// The currency of the account, which decides on the calendar: EUR, GBP, …
    #[arg(long, value_parser = Currency::parse)]
    currency: Currency,
    /// The first day, such as 2026-01-01.
    #[arg(long, value_parser = day)]
    from: Date,
    /// The last day, at most ten years later.
    #[arg(long, value_parser = day)]
    to: Date,
    /// How many dates, at most.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=5000))]
    count: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
///
/// # Errors
/// Arguments that are no schedule or no range, or a configuration whose calendars cannot be used.
pub fn run(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    let Command::Preview(Preview { frequency, day, recurrence, currency, from, to, count, json }) = command;
    let fields = Fields { frequency: Some(frequency.as_str()), scheduled_payout_day: day.as_deref(), recurrence: recurrence.as_deref() };
    let schedule = Schedule::read(fields).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(|error| format!("{} {error}", flag(error.field))).collect();
        anyhow::anyhow!(errors.join("; "))
    })?;
    anyhow::ensure!(from <= to, "--to must not be before --from");
    anyhow::ensure!(from.saturating_add(YEARS_MAX.years()) >= to, "--to must be at most {YEARS_MAX} years after --from");
    let config = Config::load(file)?;
    config.demand(Sections::Calendars)?;
    let calendars = config.calendars.read().map_err(|problems| crate::config::BadConfig { problems })?;
    let days = calendars.of(currency);

    let after = from.yesterday().context("there is no day before --from")?;
    let mut dates = schedule.due_dates(days.calendar(), after).take_while(|due| due.date <= to);
    let due: Vec<_> = dates.by_ref().take(count.into()).collect();
    let more = dates.next().is_some();
    print(&if json {
        serde_json::to_string_pretty(&document(schedule, currency, days, (from, to), &due, more))?
    } else {
        table(days, to, &due, more)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn document(schedule: Schedule, currency: Currency, days: &BankingDays, (from, to): (Date, Date), due: &[DueDate], more: bool) -> serde_json::Value {
    let payouts = due.iter().map(|due| {
        json!({
            "date": due.date,
            "instead_of": (due.named != due.date).then_some(due.named),
            "opens_at": days.opens_on(due.date),
            "cut_off_at": days.cut_off_on(due.date),
        })
    });
    json!({
        "schedule": schedule,
        "currency": currency,
        "calendar": days.calendar().name(),
        "calendar_ends": days.calendar().ends(),
        "zone": days.zone().iana_name(),
        "from": from,
        "to": to,
        "payouts": payouts.collect::<Vec<_>>(),
        "complete": !more,
    })
}

fn table(days: &BankingDays, to: Date, due: &[DueDate], more: bool) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["date", "day", "instead of", "opens", "cut-off"]);
    for DueDate { date, named } in due {
        let instead_of = if named == date { String::new() } else { format!("{} {}", named.strftime("%A").to_string().to_lowercase(), named) };
        let day = date.strftime("%A").to_string().to_lowercase();
        table.add_row([date.to_string(), day, instead_of, days.opens_on(*date).to_string(), days.cut_off_on(*date).to_string()]);
    }
    let calendar = days.calendar();
    let (name, zone) = (calendar.name(), days.zone().iana_name().unwrap_or_default());
    let mut text = format!("{table}\n{} payouts; calendar {name}, zone {zone}", due.len());
    if more {
        text += "\nThere are more before --to: see --count.";
    }
    if let Some(ends) = calendar.ends().filter(|ends| *ends < to) {
        text += &format!("\nThe calendar {name} lists no closed days after {ends}: later dates know weekends only.");
    }
    text
}

/// The flag of a field.
const fn flag(field: Field) -> &'static str {
    match field {
        Field::Frequency => "--frequency",
        Field::Day => "--day",
        Field::Recurrence => "--recurrence",
    }
}

fn day(text: &str) -> Result<Date, String> {
    let (first, last) = KNOWN;
    let day = text.parse::<Date>().ok().filter(|day| day.to_string() == text && (first..=last).contains(day));
    day.ok_or_else(|| format!("expected a date from {first} to {last}, such as 2026-01-31"))
}
