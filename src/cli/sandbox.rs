//! `payrelay sandbox`: providers that are not ones.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use domain::fact::Provider;
use providers::sandbox::all::All;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{keys, print};
use crate::config::Config;
use crate::local::{Accounts, random_text};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to listen; wins over `sandbox.address`.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Instead of running: write a configuration with fresh keys, for the sandboxes and an installation that uses them, to this new file.
    #[arg(long, value_name = "FILE")]
    pub new: Option<PathBuf>,
}

/// Runs the sandboxes of section `[sandbox]` until `stop`.
///
/// # Errors
/// It could not be started.
pub async fn run(file: Option<&Path>, arguments: Arguments, stop: CancellationToken) -> anyhow::Result<()> {
    crate::telemetry::lines_only("info");
    if let Some(new) = arguments.new {
        return write_new(&new);
    }
    let sandbox = Config::load(file)?.sandbox;
    let sandbox = sandbox.context("there is no section `sandbox` in the configuration: `payrelay sandbox --new FILE` writes a whole one")?;
    let address = arguments.listen.unwrap_or(sandbox.address);
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address} (`sandbox.address`)"))?;
    let url = format!("http://{}", listener.local_addr()?);
    let served = All::new(sandbox, &url)?;
    print(&format!("sandboxes        {url}"))?;
    for provider in Provider::ALL {
        print(&format!("{:<16} {}", provider.name(), served.url(provider)))?;
    }
    print(&format!("their books      {url}/ledgers"))?;
    Ok(served.serve(listener, stop).await?)
}

fn write_new(path: &Path) -> anyhow::Result<()> {
    let text = new_configuration()?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("writing {}", path.display()))?;
    print(&format!("{} is written, readable by you only", path.display()))
}

fn new_configuration() -> anyhow::Result<String> {
    let accounts = Accounts::new()?;
    Ok(format!(
        r#"# The sandboxes and an installation that uses them, for trying out: `payrelay --config THIS sandbox`, and beside it `payrelay --config THIS all`.
# Its keys are fresh. Needs a Redis or Valkey at `redis.url`, and the ports 8080, 9090 and 8090: another one of the installation goes into `ingress.listen` and `sandbox.notices`,
# another one for its metrics and health into `ingress.admin_listen`, another one of the sandboxes into `sandbox.address` and each address of a provider below.

redis.url = "redis://127.0.0.1:6379"
vault.keys = {{ 1 = "{vault}" }}
ingress.key_pepper = "{pepper}"
ingress.listen = "127.0.0.1:8080"
ingress.admin_listen = "127.0.0.1:9090"
# Subscribers on this machine may be called.
egress.allow = ["127.0.0.1", "localhost"]
# For `v1a` signatures and receipts.
relay.signing_keys = ["{signing}"]
# Parties can look at their webhooks: `payrelay portal` makes a link.
portal.enabled = true

# An account at every provider.
{accounts}
# The sandboxes, which know these accounts.
{sandboxes}"#,
        vault = random_text()?,
        pepper = random_text()?,
        signing = keys::new_webhook_key()?.0,
        accounts = accounts.of(&Provider::ALL, "http://127.0.0.1:8090")?,
        sandboxes = accounts.sandboxes("127.0.0.1:8090", Some("http://127.0.0.1:8080"))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_configuration_can_be_used_by_the_sandboxes_and_by_an_installation() {
        let text = new_configuration().unwrap();
        let config = Config::read(Some(("new", &text)), []).unwrap();
        assert_eq!(config.check(), []);
        let providers = providers::Providers::new(&config.providers).unwrap();
        assert_eq!(providers.configured(domain::id::Mode::Test).collect::<Vec<_>>(), Provider::ALL);
        All::new(config.sandbox.unwrap(), "http://127.0.0.1:8090").unwrap();
        assert_ne!(text, new_configuration().unwrap(), "the keys are fresh");
    }
}
