//! `payrelay notices`: webhooks of providers that nobody could do anything with.

use std::path::Path;
use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use domain::id::NoticeId;
use jiff::Timestamp;
use workers::settle;

use super::dispatch::open;
use super::print;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List those whose payout or account never came, or that nobody could read, newest first.
    Orphans {
        /// How many, at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
    },
    /// Settle one again, as if it had come now: after its account was named in `deposits.accounts`, say.
    Retry {
        /// As `orphans` lists it.
        id: NoticeId,
    },
}

/// Runs one of the commands.
///
/// # Errors
/// The store does not answer, or there is no such notice.
pub async fn run(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    let (_, store) = open(file).await?;
    match command {
        Command::Orphans { limit } => {
            let mut table = Table::new();
            table.load_style(NOTHING).set_header(["put aside", "notice", "provider", "mode", "about"]);
            for orphan in store.orphans(limit.into()).await? {
                let at = Timestamp::from_millisecond(orphan.put_aside_at_ms).map_or_else(|_| String::new(), |at| at.to_string());
                let (provider, mode, about) = match orphan.body.as_ref().map(settle::about) {
                    Some(Some((provider, mode, about))) => (provider.name(), mode.as_str(), about),
                    Some(None) => ("?", "?", "cannot be read here".to_owned()),
                    None => ("?", "?", "forgotten".to_owned()),
                };
                table.add_row([&at, &orphan.id.to_string(), provider, mode, &about]);
            }
            print(&table.to_string())?;
        }
        Command::Retry { id } => {
            anyhow::ensure!(store.retry_notice(id).await?, "{id} is not among the orphans, or is forgotten");
            print(&format!("{id}: due again"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
