//! `payrelay chaos`: what still holds when everything falls over, here or at a merchant's endpoint.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::probe;
use crate::chaos::{self, Options};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub at: Option<At>,
    /// How many payouts are sent.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub payouts: u32,
    /// What chance begins with: the same seed makes the same faults.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the counts go, as JSON.
    #[arg(long, default_value = "target/chaos.json", value_name = "FILE")]
    pub out: PathBuf,
}

/// Where, if not on this machine.
#[derive(Debug, clap::Subcommand)]
pub enum At {
    /// At a merchant's endpoint: duplicates, reordered, delayed and forged webhooks, as `payrelay probe` sends them.
    Endpoint(probe::Arguments),
}

/// Runs to the end of the last payout, or until `stop`.
///
/// # Errors
/// It could not be run, or something happened that must not.
pub async fn run(Arguments { payouts, seed, out, .. }: Arguments, stop: CancellationToken) -> anyhow::Result<()> {
    chaos::run(Options { payouts, seed, out }, stop).await
}
