//! `payrelay sandbox`: a provider that is not one.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use providers::jws::{Algorithm, SigningKey};
use providers::truelayer::sandbox::Sandbox;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::print;
use crate::config::Config;
use crate::local;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to listen; wins over `sandbox.address`.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Instead of running: write a configuration with fresh keys, for a sandbox and an installation that uses it, to this new file.
    #[arg(long, value_name = "FILE")]
    pub new: Option<PathBuf>,
}

/// Runs the sandbox of section `[sandbox]` until `stop`.
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
    let mut settings = sandbox.truelayer;
    settings.public_url.get_or_insert_with(|| url.clone());
    let served = Sandbox::new(settings)?;
    print(&format!("sandbox    {url}\nmoods      {url}/sandbox/moods\nits books  {url}/sandbox/ledger"))?;
    Ok(served.serve(listener, stop).await?)
}

fn write_new(path: &Path) -> anyhow::Result<()> {
    let key = SigningKey::generate(local::PROVIDER_KID, Algorithm::Es512)?;
    let secret = local::random_text()?;
    let text = format!(
        r#"# A sandbox and an installation that uses it, for trying out: `payrelay --config THIS sandbox`, and beside it `payrelay --config THIS all`.
# Its keys are fresh. Needs a Redis or Valkey at `redis.url`.

redis.url = "redis://127.0.0.1:6379"
vault.keys = {{ 1 = "{vault}" }}
ingress.key_pepper = "{pepper}"
# Subscribers on this machine may be called.
egress.allow = ["127.0.0.1", "localhost"]
{account}
[sandbox]
address = "127.0.0.1:8090"

[sandbox.truelayer]
client_id = "{client}"
client_secret = "{secret}"
notice_url = "http://127.0.0.1:8080/notices/truelayer"

[[sandbox.truelayer.client_keys]]
kid = "{kid}"
public_key_pem = """
{public}"""
"#,
        vault = local::random_text()?,
        pepper = local::random_text()?,
        account = local::account("http://127.0.0.1:8090", &secret, &key)?,
        client = local::CLIENT,
        kid = local::PROVIDER_KID,
        public = key.verifying_key()?.to_pem()?,
    );
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("writing {}", path.display()))?;
    print(&format!("{} is written, readable by you only", path.display()))
}
