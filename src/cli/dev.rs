//! `payrelay dev`: everything on this machine.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::config::Config;
use crate::demo::Options;
use crate::telemetry;

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

/// Runs until a signal, or until the demo is over. Warnings go to standard error, numbers to `/metrics`. `file` is configuration beside that which joins the parts: it can set
/// what this does not, such as `ingress.approvals`.
///
/// # Errors
/// It could not be started, or the demo found something wrong.
pub fn run(file: Option<&Path>, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { demo, stay, redis_url } = arguments;
    let mut settings = Config::read(None, [])?.telemetry;
    "warn".clone_into(&mut settings.level);
    let telemetry = telemetry::start(&settings)?;
    let more = file.map(|file| std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))).transpose()?.unwrap_or_default();
    let options = Options { demo, stay, redis_url, more, watch: Some(telemetry.watch()) };
    let ended = super::attended(|stop| crate::demo::run(options, stop));
    telemetry.shutdown(super::TELEMETRY_END);
    ended
}
