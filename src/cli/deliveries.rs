//! `payrelay deliveries`: what subscribers did not get.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use jiff::Timestamp;
use serde_json::json;
use workers::store::Store;

use super::print;
use crate::config::{Config, Sections};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the deliveries that were given up, newest first.
    Abandoned(Abandoned),
}

#[derive(Debug, clap::Args)]
pub struct Abandoned {
    /// How many, at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
///
/// # Errors
/// The store does not answer.
pub async fn run(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    let Command::Abandoned(Abandoned { limit, json }) = command;
    let config = Config::load(file)?;
    config.demand(Sections::Store)?;
    let store = Store::open(&config.redis, config.vault()?).await.context("opening the store")?;
    let found = store.abandoned(limit.into()).await?;
    let at = |ms| Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.to_string());
    if json {
        let lines = found.iter().map(|entry| {
            json!({ "subscription_id": entry.subscription, "payout_id": entry.event.payout(), "event_id": entry.event, "abandoned_at": at(entry.at_ms) })
        });
        print(&serde_json::to_string_pretty(&lines.collect::<Vec<_>>())?)?;
    } else {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["abandoned", "subscription", "payout", "event"]);
        for entry in &found {
            table.add_row([at(entry.at_ms), entry.subscription.to_string(), entry.event.payout().to_string(), entry.event.to_string()]);
        }
        print(&table.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
