//! `payrelay dev`: everything on this machine.

use tokio_util::sync::CancellationToken;

use crate::demo::Options;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Send a few payouts, show them travel, and check what must hold.
    #[arg(long)]
    pub demo: bool,
    /// Keep everything running after the demo.
    #[arg(long)]
    pub stay: bool,
    /// A store to use instead of a private one.
    #[arg(long, env = "REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<String>,
}

/// Runs until `stop`, or until the demo is over.
///
/// # Errors
/// It could not be started, or the demo found something wrong.
pub async fn run(arguments: Arguments, stop: CancellationToken) -> anyhow::Result<()> {
    let Arguments { demo, stay, redis_url } = arguments;
    crate::telemetry::lines_only("warn");
    crate::demo::run(Options { demo, stay, redis_url }, stop).await
}
