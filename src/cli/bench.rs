//! `payrelay bench`: how fast this machine is with it.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::bench::{self, Options};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the numbers go, as JSON.
    #[arg(long, default_value = "target/bench.json", value_name = "FILE")]
    pub out: PathBuf,
    /// How often everything is measured; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// One short round, to see whether it works.
    #[arg(long, conflicts_with = "rounds")]
    pub quick: bool,
    /// Fail when a figure is below its floor.
    #[arg(long)]
    pub check: bool,
}

/// Measures, prints a table and writes `out`.
///
/// # Errors
/// A measurement could not be made; with `--check`, a figure is below its floor.
pub async fn run(arguments: Arguments, stop: CancellationToken) -> anyhow::Result<()> {
    let Arguments { out, rounds, quick, check } = arguments;
    bench::run(Options { out, rounds, quick, check }, stop).await
}
