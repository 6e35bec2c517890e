//! `payrelay sandbox`: a provider that is not one.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to listen; wins over `sandbox.address`.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

/// Runs the sandbox of section `[sandbox]` until `stop`.
///
/// # Errors
/// It could not be started.
#[expect(clippy::unused_async, reason = "not built yet")]
pub async fn run(_file: Option<&Path>, _arguments: Arguments, _stop: CancellationToken) -> anyhow::Result<()> {
    bail!("not built yet")
}
