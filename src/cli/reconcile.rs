//! `payrelay reconcile`: our payouts of a day against the provider's own list.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use domain::fact::Provider;
use domain::id::Mode;
use domain::money::{Currency, Money};
use jiff::civil::Date;
use providers::Providers;
use serde_json::{Value, json};
use workers::metrics::Metrics;
use workers::reconcile::{self, Break, Kind, Outcome, Unreconciled};
use workers::record::Recorder;

use super::dispatch::open;
use super::{keys, print, providers as accounts};

/// The two sides differ.
const EXIT_BREAKS: u8 = 3;

/// A side could not be read, or not whole: whatever was found, there may be more.
const EXIT_INCOMPLETE: u8 = 4;

/// Breaks that the table shows. All are counted, and `--json` tells all of them.
const SHOWN_MAX: usize = 200;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// truelayer, truelayer-v3, worldpay-account, mollie. Payouts to cards by Worldpay are not listed.
    #[arg(long, value_parser = accounts::provider)]
    provider: Provider,
    /// `test` or `live`.
    #[arg(long, value_parser = keys::mode)]
    mode: Mode,
    /// The day in UTC, such as 2026-01-31; one that has begun, and better one that is over. A payout belongs to the day on which it was first sent.
    #[arg(long)]
    day: Date,
    /// Have the workers ask the provider at once about each payout that is `missing_there` or has a `different_status`, about 1000 of them at most: a webhook of its may have been lost.
    #[arg(long)]
    check: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Compares, and prints what came out.
///
/// # Errors
/// A configuration that cannot be used, or a store that does not answer.
pub async fn run(file: Option<&Path>, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (config, store) = open(file).await?;
    let providers = Arc::new(Providers::new(&config.providers).context("setting up the providers")?);
    let Arguments { provider, mode, day, check, json } = arguments;
    match reconcile::reconcile(&store, &providers, &config.reconciliation, (provider, mode), day).await {
        Ok(outcome) => {
            let metrics = Metrics::new(&opentelemetry::global::meter("payrelay"));
            let recorder = Recorder::new(store, providers, metrics, config.ingress.gate(), &config.rules);
            let checked = if check { Some(reconcile::check(&recorder, &outcome.compared).await.context("asking about what differs")?) } else { None };
            print(&if json { shown_as_json(&arguments, &outcome, checked) } else { shown(&arguments, &outcome, checked) })?;
            Ok(match (outcome.whole, outcome.compared.breaks.is_empty()) {
                (false, _) => ExitCode::from(EXIT_INCOMPLETE),
                (true, false) => ExitCode::from(EXIT_BREAKS),
                (true, true) => ExitCode::SUCCESS,
            })
        }
        Err(Unreconciled::NotAsked(error)) => {
            tracing::error!(provider = provider.name(), %mode, %error, "nothing was compared");
            Ok(ExitCode::from(EXIT_INCOMPLETE))
        }
        Err(error) => Err(error.into()),
    }
}

fn shown(of: &Arguments, outcome: &Outcome, checked: Option<usize>) -> String {
    let compared = &outcome.compared;
    let mut text = String::new();
    if !compared.breaks.is_empty() {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["kind", "payout", "status", "key", "reference", "ours", "theirs", "their status"]);
        for found in compared.breaks.iter().take(SHOWN_MAX) {
            table.add_row(row(found));
        }
        text += &format!("{table}\n");
        if compared.breaks.len() > SHOWN_MAX {
            text += &format!("… and {} more\n", compared.breaks.len().saturating_sub(SHOWN_MAX));
        }
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["outcome", "payouts", "currency", "amount"]);
    for (outcome, count, sums) in sums(outcome) {
        let (currencies, amounts): (Vec<_>, Vec<_>) = sums.into_iter().map(|(currency, minor)| (currency.code(), decimal(minor, currency))).unzip();
        table.add_row([outcome, &count.to_string(), &currencies.join("\n"), &amounts.join("\n")]);
    }
    text += &format!("{table}\n{}, {}, {}", of.provider.name(), of.mode, of.day);
    if !outcome.whole {
        text += ": INCOMPLETE, a list was cut; nothing is called missing there";
    } else if !outcome.finished {
        text += ": UNFINISHED, the day is not over; there may be more";
    }
    if let Some(checked) = checked {
        text += &format!("\n{checked} of them are asked about; compare again in a minute");
    }
    text
}

fn row(found: &Break) -> [String; 8] {
    let money = |money: Option<Money>| money.map(|money| money.to_string()).unwrap_or_default();
    [
        found.kind.name().to_owned(),
        found.payout.map(|told| told.id.to_string()).unwrap_or_default(),
        found.payout.map(|told| told.status.as_str().to_owned()).unwrap_or_default(),
        found.key.map(|key| key.to_string()).unwrap_or_default(),
        found.reference.as_ref().map(|reference| reference.0.clone()).unwrap_or_default(),
        money(found.ours),
        money(found.theirs),
        found.provider_status.clone().unwrap_or_default(),
    ]
}

fn shown_as_json(of: &Arguments, outcome: &Outcome, checked: Option<usize>) -> String {
    let sums: Vec<Value> = sums(outcome)
        .into_iter()
        .map(|(outcome, count, sums)| {
            let amounts: BTreeMap<_, _> = sums.into_iter().map(|(currency, minor)| (currency.code(), minor)).collect();
            json!({ "outcome": outcome, "payouts": count, "amounts_in_minor": amounts })
        })
        .collect();
    let (provider, mode, day) = (of.provider.name(), of.mode.as_str(), of.day);
    let mut shown = json!({ "provider": provider, "mode": mode, "day": day, "whole": outcome.whole && outcome.finished,
        "unfinished": !outcome.finished, "outcomes": sums, "breaks": outcome.compared.breaks });
    if let Some(checked) = checked {
        shown["checked"] = checked.into();
    }
    format!("{shown:#}")
}

type Sums = Vec<(&'static str, usize, Vec<(Currency, i128)>)>;

/// Per outcome how many there are, and their amounts by currency: ours, or theirs where we have none.
fn sums(outcome: &Outcome) -> Sums {
    let compared = &outcome.compared;
    let of_kind = |kind| compared.breaks.iter().filter(move |found: &&Break| found.kind == kind);
    let mut sums = vec![("matched", compared.matched.len(), by_currency(compared.matched.iter().copied()))];
    sums.extend(
        Kind::ALL.map(|kind| (kind.name(), of_kind(kind).count(), by_currency(of_kind(kind).filter_map(|found| found.ours.or(found.theirs))))),
    );
    sums
}

fn by_currency(amounts: impl Iterator<Item = Money>) -> Vec<(Currency, i128)> {
    let mut sums: Vec<(Currency, i128)> = Vec::new();
    for money in amounts {
        let minor = i128::from(money.minor());
        match sums.iter_mut().find(|(currency, _)| *currency == money.currency()) {
            Some((_, sum)) => *sum = sum.saturating_add(minor),
            None => sums.push((money.currency(), minor)),
        }
    }
    sums.sort_by_key(|(currency, _)| currency.code());
    sums
}

/// A sum may be more than any one payout.
fn decimal(minor: i128, currency: Currency) -> String {
    i64::try_from(minor).ok().and_then(|minor| Money::new(minor, currency).ok()).map_or_else(|| format!("{minor} (minor units)"), Money::to_decimal)
}
