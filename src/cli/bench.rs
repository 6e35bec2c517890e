//! `payrelay bench`: how fast this machine is with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::bench::{self, Options, Part};
use crate::config::Config;

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
    /// Measure this part alone.
    #[arg(long, value_name = "PART")]
    pub only: Option<Part>,
    /// Be the poster of the limit: a process of its own, as the server under test is one. Posts to that URL, and prints how many a second.
    #[arg(long, hide = true, value_name = "URL")]
    pub post_to: Option<String>,
    #[arg(long, hide = true, default_value_t = 1000, value_name = "MS")]
    pub post_for_ms: u64,
}

/// Measures, prints a table and writes `out`.
///
/// # Errors
/// A measurement could not be made; with `--check`, a figure is below its floor.
pub async fn run(file: Option<&Path>, arguments: Arguments, stop: CancellationToken) -> anyhow::Result<()> {
    let Arguments { out, rounds, quick, check, only, post_to, post_for_ms } = arguments;
    if let Some(url) = post_to {
        let config = Config::load(file)?;
        println!("{}", bench::posts_per_s(&config, &url, Duration::from_millis(post_for_ms)).await?);
        return Ok(());
    }
    bench::run(Options { out, rounds, quick, check, only }, stop).await
}
