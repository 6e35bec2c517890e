//! `payrelay freeze` and `payrelay thaw`: the button for the bad day, and the way back.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use domain::id::{Mode, PartyId, Shard, Shards};
use jiff::Timestamp;
use workers::store::Store;
use workers::store::circuits::Order;
use workers::store::freeze::Freeze;

use super::{keys, print};
use crate::config::{Config, Sections};

#[derive(Debug, clap::Args)]
pub struct FreezeArguments {
    /// Why, for those who find it frozen.
    #[arg(long, value_parser = reason)]
    reason: String,
    /// Say that the store has forgotten nothing (no restore, no failover, no cut log): payouts that were not sent can be canceled meanwhile, and `thaw` need not be told.
    #[arg(long, conflicts_with = "party")]
    nothing_lost: bool,
    /// Only this shard. Without it: all.
    #[arg(long)]
    shard: Option<u8>,
    #[command(flatten)]
    of: Of,
}

/// The party that a freeze is for, if it is for one.
#[derive(Debug, clap::Args)]
struct Of {
    /// Only this party. While it is frozen, what it asks for is accepted, and waits.
    #[arg(long, requires = "mode", conflicts_with = "shard", value_parser = party)]
    party: Option<PartyId>,
    /// `test` or `live`, of a party.
    #[arg(long, requires = "party", value_parser = keys::mode)]
    mode: Option<Mode>,
    /// Who does it.
    #[arg(long, env = "USER", default_value = "operator")]
    by: String,
}

#[derive(Debug, clap::Args)]
pub struct ThawArguments {
    /// For so long no payout is sent before its provider was asked whether it knows it, and none can be canceled: what is asked for before the end of that time stays suspect for ever, and a later thaw does not shorten it. Needed after a freeze by hand: 0 if the store is known to have forgotten nothing. Without it after a loss that was noticed: 24.
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=720))]
    look_first_hours: Option<u64>,
    /// Only this shard. Without it: all.
    #[arg(long)]
    shard: Option<u8>,
    #[command(flatten)]
    of: Of,
}

/// Stops dispatch: from now on no call that moves money is begun. Calls that were permitted before may be under way for one more lease.
///
/// # Errors
/// The store does not answer.
pub async fn freeze(file: Option<&Path>, arguments: FreezeArguments) -> anyhow::Result<ExitCode> {
    let (_, store) = open(file).await?;
    if let Some((party, mode)) = arguments.of.one() {
        let now = store.clock().now();
        store.freeze_party(party, mode, &Order { by: arguments.of.by.clone(), reason: Some(arguments.reason), at: now }).await?;
        let freeze = store.party_freeze(party, mode).await?;
        print(&format!("{party}, {mode}: frozen; {}; {} payouts wait", effective(freeze.draining_until, now), freeze.held))?;
        return Ok(ExitCode::SUCCESS);
    }
    for shard in chosen(store.shards(), arguments.shard)? {
        let (reason, nothing_lost) = (arguments.reason.clone(), arguments.nothing_lost);
        let freeze = Freeze { reason, at_ms: store.clock().now().as_millisecond(), epoch_seen: store.epoch(shard).await?, nothing_lost };
        let stands = if store.freeze(shard, &freeze).await? { None } else { store.frozen(shard).await? };
        let is_other = |other: &Freeze| (&other.reason, other.nothing_lost) != (&freeze.reason, freeze.nothing_lost);
        let stands = stands.filter(is_other).map_or_else(String::new, |other| format!(" already, and that stands ({})", other.reason));
        let draining = store.draining_until(shard).await?;
        print(&format!("{shard}: frozen{stands}; {}", effective(draining, store.clock().now())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// For how long providers are asked first after the store has forgotten writes, unless the operator says otherwise.
const LOOK_FIRST_HOURS: u64 = 24;

/// Lets dispatch go on.
///
/// # Errors
/// The store does not answer, or it was frozen by hand and nobody has said whether anything was lost: then nothing is thawed.
pub async fn thaw(file: Option<&Path>, arguments: ThawArguments) -> anyhow::Result<ExitCode> {
    let (_, store) = open(file).await?;
    if let Some((party, mode)) = arguments.of.one() {
        let order = Order { by: arguments.of.by.clone(), reason: None, at: store.clock().now() };
        let was = store.thaw_party(party, mode, &order, None).await?;
        print(&format!("{party}, {mode}: {}", if was { "thawed" } else { "not frozen" }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut frozen = Vec::new();
    for shard in chosen(store.shards(), arguments.shard)? {
        let freeze = store.frozen(shard).await?;
        if let (Some(freeze), None) = (&freeze, arguments.look_first_hours) {
            // Permits that a worker has on file and the store has not: it was frozen for that.
            let is_lost = store.epoch(shard).await? < freeze.epoch_seen;
            ensure!(
                is_lost || freeze.nothing_lost,
                "{shard} was frozen by hand ({}): say --look-first-hours 0 if the store has forgotten nothing since, or for how many hours every provider is to be asked \
                 before anything is sent. Nothing was thawed",
                freeze.reason
            );
        }
        frozen.push((shard, freeze));
    }
    for (shard, freeze) in frozen {
        let Some(freeze) = freeze else {
            print(&format!("{shard}: not frozen"))?;
            continue;
        };
        // Whoever has said that nothing was lost did so before what has been found since.
        let is_sure = freeze.nothing_lost && store.epoch(shard).await? >= freeze.epoch_seen;
        let hours = arguments.look_first_hours.unwrap_or(if is_sure { 0 } else { LOOK_FIRST_HOURS });
        ensure!(
            store.end_freeze(shard, &freeze, Duration::from_hours(hours)).await?,
            "{shard}: another freeze has taken the place of this one ({}), or none is left. It was not ended",
            freeze.reason
        );
        let (suspect, now) = (store.suspect_until(shard).await?, store.clock().now());
        let looks = if suspect > now { format!("looks first until {suspect}") } else { "nothing is looked up first".to_owned() };
        print(&format!("{shard}: thawed (it was frozen because: {}); {looks}", freeze.reason))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Of {
    fn one(&self) -> Option<(&PartyId, Mode)> {
        Some((self.party.as_ref()?, self.mode?))
    }
}

fn reason(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.is_empty() { Err("must say why") } else { Ok(text.to_owned()) }
}

fn party(text: &str) -> Result<PartyId, String> {
    PartyId::parse(text).map_err(|error| format!("must be {}", error.expected))
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
