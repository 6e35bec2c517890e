//! `payrelay freeze` and `payrelay thaw`: the button for the bad day, and the way back.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use domain::id::{Shard, Shards};
use jiff::Timestamp;
use workers::store::Store;
use workers::store::freeze::Freeze;

use super::print;
use crate::config::{Config, Sections};

#[derive(Debug, clap::Args)]
pub struct FreezeArguments {
    /// Why, for those who find it frozen.
    #[arg(long)]
    reason: String,
    /// Only this shard. Without it: all.
    #[arg(long)]
    shard: Option<u8>,
}

#[derive(Debug, clap::Args)]
pub struct ThawArguments {
    /// For so long no payout is sent before its provider was asked whether it knows it, and none can be canceled. 0 only if the store is known to have forgotten nothing.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(0..=720))]
    look_first_hours: u64,
    /// Only this shard. Without it: all.
    #[arg(long)]
    shard: Option<u8>,
}

/// Stops dispatch: from now on no call that moves money is begun. Calls that were permitted before may be under way for one more lease.
///
/// # Errors
/// The store does not answer.
pub async fn freeze(file: Option<&Path>, arguments: FreezeArguments) -> anyhow::Result<ExitCode> {
    let (_, store) = open(file).await?;
    for shard in chosen(store.shards(), arguments.shard)? {
        let epoch_seen = store.epoch(shard).await?;
        store.freeze(shard, &Freeze { reason: arguments.reason.clone(), at_ms: store.clock().now().as_millisecond(), epoch_seen }).await?;
        let draining = store.draining_until(shard).await?;
        print(&format!("{shard}: frozen; {}", effective(draining, store.clock().now())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets dispatch go on.
///
/// # Errors
/// The store does not answer.
pub async fn thaw(file: Option<&Path>, arguments: ThawArguments) -> anyhow::Result<ExitCode> {
    let (_, store) = open(file).await?;
    for shard in chosen(store.shards(), arguments.shard)? {
        let Some(freeze) = store.frozen(shard).await? else {
            print(&format!("{shard}: not frozen"))?;
            continue;
        };
        store.thaw(shard, Duration::from_hours(arguments.look_first_hours)).await?;
        print(&format!("{shard}: thawed (it was frozen because: {}); looks first for {} h", freeze.reason, arguments.look_first_hours))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How far a stop of dispatch has come: it is effective once the leases that were let through before have ended.
pub(super) fn effective(draining_until: Option<Timestamp>, now: Timestamp) -> String {
    match draining_until {
        None => "effective".to_owned(),
        Some(until) => format!("draining; effective in {} s, when the calls permitted before have ended", until.duration_since(now).as_secs() + 1),
    }
}

pub(super) async fn open(file: Option<&Path>) -> anyhow::Result<(Config, Store)> {
    let config = Config::load(file)?;
    config.demand(Sections::Store)?;
    let store = Store::open(&config.redis, config.vault()?).await.context("opening the store")?;
    store.leases_last(Duration::from_millis(config.workers.lease_ms));
    Ok((config, store))
}

fn chosen(shards: Shards, one: Option<u8>) -> anyhow::Result<Vec<Shard>> {
    match one.map(Shard::new) {
        None => Ok(shards.all().collect()),
        Some(shard) if shards.contains(shard) => Ok(vec![shard]),
        Some(shard) => anyhow::bail!("there is no shard {shard}; there are {}", shards.count()),
    }
}
