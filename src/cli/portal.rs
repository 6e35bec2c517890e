//! `payrelay portal`: the way into the portal for a party, handed out by an operator.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use domain::id::{Mode, PartyId};
use domain::portal::Access;
use serde_json::json;
use workers::store::Store;

use super::keys::mode;
use super::print;
use crate::config::{Config, Sections};
use crate::portal::link::{self, Wish};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a link that opens the portal for a party, once. It is shown here and can never be shown again.
    Link(Link),
    /// End all sessions of a party, and all links that it was given.
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
pub struct Link {
    #[command(flatten)]
    whose: Whose,
    /// What the session may do: `read`, or `manage` subscriptions.
    #[arg(long, default_value = "read", value_parser = access)]
    access: Access,
    /// Who hands it out, for the log.
    #[arg(long, default_value = "operator")]
    by: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Revoke {
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, clap::Args)]
struct Whose {
    /// The party.
    #[arg(long)]
    party: PartyId,
    /// `test` or `live`.
    #[arg(long, value_parser = mode)]
    mode: Mode,
}

/// Runs one of the commands.
///
/// # Errors
/// There is no portal, or the store does not answer.
pub async fn run(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    config.demand(Sections::Store)?;
    ensure!(config.portal.enabled, "there is no portal: set `portal.enabled` for the processes that serve, and for this one");
    let store = Store::open(&config.redis, config.vault()?).await.context("opening the store")?;
    match command {
        Command::Link(Link { whose: Whose { party, mode }, access, by, json }) => {
            ensure!(mode == Mode::Test || config.server.live, "live sessions are not served: `server.live` is false");
            let base = config.portal.url.clone().unwrap_or_else(|| format!("http://{}", config.ingress.listen));
            let wish = Wish { party, mode, access, by, key: None };
            let made = link::make(&store, config.pepper(), &config.portal, &base, wish).await.context("storing the link")?;
            let Some(made) = made else { bail!("the party was given {} links lately; wait, or revoke them", config.portal.links_max) };
            let until = made.use_by.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
            print(&if json {
                serde_json::to_string_pretty(&json!({ "url": made.url, "expires_at": made.use_by }))?
            } else {
                format!("{}\nopens once, until {until}", made.url)
            })?;
        }
        Command::Revoke(Revoke { whose: Whose { party, mode } }) => {
            link::take_back(&store, &party, mode).await.context("revoking")?;
            print(&format!("the links and sessions of {party} are of no use any more"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn access(text: &str) -> Result<Access, &'static str> {
    Access::named(text).ok_or("expected read or manage")
}
