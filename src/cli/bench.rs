//! `payrelay bench`: how fast this machine is with it.

use std::path::PathBuf;

use anyhow::bail;
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the numbers go, as JSON.
    #[arg(long, default_value = "target/bench.json", value_name = "FILE")]
    pub out: PathBuf,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// How often each is made; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
}

/// Measures, prints a table and writes `out`.
///
/// # Errors
/// A measurement could not be made.
#[expect(clippy::unused_async, reason = "not built yet")]
pub async fn run(_arguments: Arguments, _stop: CancellationToken) -> anyhow::Result<()> {
    bail!("not built yet")
}
