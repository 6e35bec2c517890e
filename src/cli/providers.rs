//! `payrelay providers`: whether payouts go to the providers, and the button that stops those to one of them.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use domain::fact::Provider;
use domain::id::Mode;
use jiff::Timestamp;
use providers::Providers;
use workers::store::circuits::{Circuit, CircuitState, Order};

use super::dispatch::{effective, open};
use super::{keys, print};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the providers that are configured, or that payouts wait for.
    List,
    /// Stop payouts to a provider. They wait, can be canceled, and go on when it is resumed; what was sent before is still asked about.
    Pause(Pause),
    /// Let payouts go to a provider again. Where sends had failed, one is tried at once.
    Resume(Resume),
}

#[derive(Debug, clap::Args)]
pub struct Pause {
    #[command(flatten)]
    to: To,
    /// Why, for those who find it paused.
    #[arg(long)]
    reason: String,
}

#[derive(Debug, clap::Args)]
pub struct Resume {
    #[command(flatten)]
    to: To,
    /// Why, for those who read about it later.
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
struct To {
    /// truelayer, truelayer-v3, worldpay-account, worldpay-card, mollie.
    #[arg(value_parser = provider)]
    provider: Provider,
    /// `test` or `live`.
    #[arg(long, value_parser = keys::mode)]
    mode: Mode,
    /// Who does it.
    #[arg(long, env = "USER", default_value = "operator")]
    by: String,
}

/// Runs one of the commands.
///
/// # Errors
/// A configuration that cannot be used, or a store that does not answer. A pause or its end may then have reached some shards: repeat it.
pub async fn run(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    let (config, store) = open(file).await?;
    let now = store.clock().now();
    match command {
        Command::List => {
            let accounts = Providers::new(&config.providers).context("setting up the providers")?;
            let mut table = Table::new();
            table.load_style(NOTHING).set_header(["provider", "mode", "circuit", "held", "why"]);
            for (provider, mode) in Provider::ALL.into_iter().flat_map(|provider| [Mode::Test, Mode::Live].map(|mode| (provider, mode))) {
                let circuit = store.circuit(provider, mode).await?;
                let configured = accounts.configured(mode).any(|configured| configured == provider);
                if configured || circuit.held > 0 || circuit.state(now) != CircuitState::Closed {
                    let (state, held, why) = (circuit.state(now).name(), circuit.held.to_string(), why(&circuit, now));
                    table.add_row([provider.name(), mode.as_str(), state, &held, &why]);
                }
            }
            print(&table.to_string())?;
        }
        Command::Pause(Pause { to: To { provider, mode, by }, reason }) => {
            store.pause(provider, mode, &Order { by, reason: Some(reason), at: now }).await?;
            let draining = store.circuit(provider, mode).await?.draining_until(now);
            print(&format!("{}, {mode}: paused; {}", provider.name(), effective(draining, now)))?;
        }
        Command::Resume(Resume { to: To { provider, mode, by }, reason }) => {
            let before = store.circuit(provider, mode).await?;
            let changed = store.resume(provider, mode, &Order { by, reason, at: now }).await?;
            let done = match (changed, before.paused, before.tripped) {
                (false, ..) => "was neither paused nor open",
                (true, Some(_), None) => "resumed",
                (true, Some(_), Some(_)) => "resumed; its circuit is open, and one payout is tried at once",
                (true, None, _) => "was not paused, so no pause was ended; its circuit is open, and one payout is tried at once",
            };
            print(&format!("{}, {mode}: {done}", provider.name()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn why(circuit: &Circuit, now: Timestamp) -> String {
    let paused = circuit.paused.as_ref().map(|order| {
        let reason = order.reason.as_deref().unwrap_or_default();
        format!("{} ({} at {}; {})", reason, order.by, order.at, effective(circuit.draining_until(now), now))
    });
    let tripped = circuit.tripped.as_ref().map(|trip| format!("{} since {}, next trial at {}", trip.why, trip.since, trip.until));
    [paused, tripped].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

pub(super) fn provider(text: &str) -> Result<Provider, String> {
    Provider::named(text).ok_or_else(|| format!("expected one of {}", Provider::ALL.map(Provider::name).join(", ")))
}
