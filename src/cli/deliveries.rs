//! `payrelay deliveries`: what subscribers did not get, and how it is delivered again.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use domain::id::{DeliveryId, EventId, ReplayId, SubscriptionId};
use domain::subscription::{EventTypes, Pattern, Status};
use jiff::Timestamp;
use serde_json::json;
use workers::replay::{self, Replay, Spec, What};
use workers::store::Store;
use workers::store::deliveries::Found;
use workers::store::replays::Begun;
use workers::store::subscriptions::Redelivered;

use super::print;
use crate::config::{Config, Sections};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the deliveries that were given up, newest first.
    Abandoned(Abandoned),
    /// Deliver one event to one subscription now, again if need be.
    Retry { subscription: SubscriptionId, event: EventId },
    /// Deliver again what a subscription was told in a time, or what it did not get.
    Replay(ReplayArguments),
    /// Show the latest replays of a subscription.
    Replays { subscription: SubscriptionId },
    /// End a replay that is under way. What it has made due is delivered all the same.
    Cancel { replay: ReplayId },
}

#[derive(Debug, clap::Args)]
pub struct Abandoned {
    /// How many, at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct ReplayArguments {
    subscription: SubscriptionId,
    /// Events from then on, as in 2026-01-31T09:00:00Z. Without it: all.
    #[arg(long)]
    from: Option<Timestamp>,
    /// Events before then. Without it: until now.
    #[arg(long)]
    to: Option<Timestamp>,
    /// An event type, or all that begin with a word (payout.*). Several times for several; without it: all, or of what is missing those that the subscription asks for.
    #[arg(long = "type", value_parser = |text: &str| Pattern::parse(text).map_err(|error| format!("`{text}` {error}")))]
    types: Vec<Pattern>,
    /// `ended`, `delivered`, `abandoned`, or `missing`: events that made no delivery, of payouts with the metadata that the subscription asks for.
    #[arg(long, default_value = "ended", value_parser = What::named)]
    what: What,
    /// Deliveries that become due in a second. Without it: `ingress.replays.rate_per_s`.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rate: Option<u16>,
    /// Only count them.
    #[arg(long)]
    dry_run: bool,
}

/// Runs one of the commands.
///
/// # Errors
/// The store does not answer, or what is named is not there.
pub async fn run(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    config.demand(Sections::Store)?;
    let store = Store::open(&config.redis, config.vault()?).await.context("opening the store")?;
    match command {
        Command::Abandoned(arguments) => abandoned(&store, &arguments).await?,
        Command::Retry { subscription, event } => retry(&store, subscription, event).await?,
        Command::Replay(arguments) => begin(&config, &store, arguments).await?,
        Command::Replays { subscription } => list(&store.replays(subscription).await?)?,
        Command::Cancel { replay } => list(&[replay::cancel(&store, replay).await?.context("there is no such replay")?])?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn abandoned(store: &Store, Abandoned { limit, json }: &Abandoned) -> anyhow::Result<()> {
    let found = store.abandoned((*limit).into()).await?;
    let at = |ms| Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.to_string());
    if *json {
        let lines = found.iter().map(|entry| {
            json!({ "subscription_id": entry.subscription, "payout_id": entry.event.payout(), "event_id": entry.event, "abandoned_at": at(entry.at_ms) })
        });
        return print(&serde_json::to_string_pretty(&lines.collect::<Vec<_>>())?);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["abandoned", "subscription", "payout", "event"]);
    for entry in &found {
        table.add_row([at(entry.at_ms), entry.subscription.to_string(), entry.event.payout().to_string(), entry.event.to_string()]);
    }
    print(&table.to_string())
}

async fn retry(store: &Store, subscription: SubscriptionId, event: EventId) -> anyhow::Result<()> {
    let id = DeliveryId::new(event, subscription);
    let (owner, _) = store.subscription(subscription).await?.context("there is no such subscription")?;
    let Found { party, mode, told, .. } = store.event_for(id).await?.context("there is no such event")?;
    ensure!((&party, mode) == (&owner.party, owner.mode), "the event is of another party than the subscription");
    match store.redeliver((&owner.party, owner.mode), subscription, event, told.delivery.as_ref()).await? {
        Redelivered::Due if matches!(owner.status, Status::Paused { .. } | Status::Pending { .. }) => {
            print("it waits until the subscription is served again")
        }
        Redelivered::Due => print("it is due now"),
        Redelivered::UnderWay => bail!("it is being delivered"),
        Redelivered::Queued => bail!("it waits for an earlier event of its payout; retry that one"),
        Redelivered::Coming => bail!("it will come to this subscription in its turn, with those before it; try again after that"),
        Redelivered::Stale => bail!("it has changed at this moment; try again"),
        Redelivered::Missing => bail!("there is no such event"),
    }
}

async fn begin(config: &Config, store: &Store, arguments: ReplayArguments) -> anyhow::Result<()> {
    let ReplayArguments { subscription, from, to, types, what, rate, dry_run } = arguments;
    let (owner, _) = store.subscription(subscription).await?.context("there is no such subscription")?;
    let now = store.clock().now();
    let named = (!types.is_empty()).then(|| EventTypes::These(types.into_iter().collect()));
    ensure!(
        what == What::Abandoned || named.as_ref().is_none_or(EventTypes::wants_payouts),
        "events that are no payout's are delivered again one by one, by `retry`, or with `--what abandoned`"
    );
    let (types, metadata) = what.filter(&owner, named);
    let spec = Spec {
        subscription,
        party: owner.party,
        mode: owner.mode,
        from: from.unwrap_or(Timestamp::UNIX_EPOCH),
        to: to.unwrap_or(now),
        looks_back_s: i64::from(config.rules.history_days) * 86_400,
        types,
        metadata,
        what,
        rate_per_s: rate.unwrap_or(config.ingress.replays.rate_per_s),
        asked_at: now,
    };
    if dry_run {
        let counted = replay::count(store, &spec, u64::MAX).await?;
        return print(&format!("{} deliveries", counted.deliveries));
    }
    let mut random = [0; 11];
    getrandom::fill(&mut random).context("the operating system's random source")?;
    let replay = Replay::new(ReplayId::new(subscription.shard(), random), spec);
    match store.begin_replay(&replay).await? {
        Begun::Done => print(&format!("{} has begun; workers go on with it", replay.id)),
        Begun::Busy(other) => bail!("the replay {other} of this subscription is under way"),
        Begun::Missing => bail!("there is no such subscription"),
    }
}

fn list(replays: &[Replay]) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["replay", "asked", "what", "status", "looked at", "deliveries"]);
    for replay in replays {
        let spec = &replay.spec;
        let row = [replay.id.to_string(), spec.asked_at.to_string(), spec.what.name().to_owned(), replay.standing.name().to_owned()];
        table.add_row(row.into_iter().chain([replay.payouts_looked_at.to_string(), replay.deliveries.to_string()]));
    }
    print(&table.to_string())
}
