//! `payrelay trigger`: samples of events, signed as real ones, for those who build a receiver. Nothing happened, and nothing is recorded.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use domain::delivery::Attempted;
use domain::id::{Mode, PartyId, Shard, SubscriptionId};
use domain::sample::Sample;
use domain::signature::Secret;
use domain::subscription::{EventTypes, Payload, Secrets, Subscription};
use workers::clock::Clock;
use workers::egress::{self, Egress};
use workers::relay::keys::SigningKeys;
use workers::relay::ping;
use workers::store::Store;

use super::print;
use crate::config::{Config, Sections};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, to a server on this machine:\n  payrelay trigger --url http://127.0.0.1:3000/hooks --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw --type payout.completed"
)]
pub struct Arguments {
    /// Where to, whatever address that is.
    #[arg(long, requires = "secret", required_unless_present = "subscription")]
    url: Option<String>,
    /// The secret that signs, `whsec_…`; of a subscription of `/v2/webhooks`, the text that was shown. Better in the environment than on the command line, which others can see.
    #[arg(long, env = "PAYRELAY_WEBHOOK_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// A subscription of the installation, in place of a URL: its own URL, secrets, headers, payload and certificate. Needs the configuration and the store.
    #[arg(long, conflicts_with = "url")]
    subscription: Option<SubscriptionId>,
    /// What the events hold: as `payload` of a subscription, or `snapshot`, as those of `/v2/webhooks` get them.
    #[arg(long, conflicts_with = "subscription", default_value = "thin", value_parser = payload)]
    payload: Payload,
    /// Only this type; several times for several. Without it: each that such a subscription can get.
    #[arg(long = "type", value_parser = kind)]
    kinds: Vec<&'static str>,
    /// The longest time for each, in seconds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=60))]
    timeout: u16,
}

fn kind(name: &str) -> Result<&'static str, String> {
    EventTypes::names().find(|known| *known == name).ok_or_else(|| format!("the types are {}", EventTypes::names().collect::<Vec<_>>().join(", ")))
}

fn payload(name: &str) -> Result<Payload, String> {
    match name {
        "thin" => Ok(Payload::Thin),
        "full" => Ok(Payload::Full),
        "snapshot" => Ok(Payload::Snapshot),
        _ => Err("thin, full or snapshot".to_owned()),
    }
}

/// Ends with 0 if each was acknowledged, 1 if not.
///
/// # Errors
/// The URL, the secret or the subscription is none, or the store does not answer.
pub async fn run(file: Option<&Path>, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let now = Clock::of_the_machine();
    let (egress, keys, subscription, secrets) = match (&arguments.subscription, &arguments.url, &arguments.secret) {
        (Some(id), _, _) => {
            let config = Config::load(file)?;
            config.demand(Sections::Store)?;
            let store = Store::open(&config.redis, config.vault()?).await.context("opening the store")?;
            let (subscription, secrets) = store.subscription(*id).await?.context("there is no such subscription")?;
            (Egress::new(&config.egress), config.relay.signing_keys.clone(), subscription, secrets)
        }
        (None, Some(url), Some(secret)) => {
            let secret = secret.trim();
            let secret = if arguments.payload == Payload::Snapshot { Secret::from_bytes(secret.as_bytes()) } else { Secret::parse(secret) };
            let secret = secret.context("the secret is not one; copy it whole")?;
            let (id, party) = (SubscriptionId::new(Shard::new(0), [0; 11]), PartyId::parse("sample").context("the party of the samples")?);
            let subscription = Subscription::new(id, party, Mode::Test, url.clone(), EventTypes::All, now);
            (anywhere(url)?, SigningKeys::default(), Subscription { payload: arguments.payload, ..subscription }, Secrets::new(secret))
        }
        (None, _, _) => bail!("a URL and its secret are needed, or a subscription"),
    };
    egress.check_url(&subscription.url, subscription.mode)?;
    let wanted: Vec<&str> = if arguments.kinds.is_empty() { EventTypes::names().collect() } else { arguments.kinds.clone() };
    let mut run = [0; 16];
    getrandom::fill(&mut run).context("the operating system's random source")?;
    // A receiver takes no notice of an id that it has seen.
    let key = |number: usize| format!("{} {number}", const_hex::encode(run));
    let samples = wanted.into_iter().enumerate().filter_map(|(number, name)| Sample::named(name, &key(number), now));
    let sent = samples.filter_map(|sample| Some((sample.as_sent(subscription.payload)?, sample))).collect::<Vec<_>>();
    ensure!(sent.len() >= arguments.kinds.len(), "subscriptions of /v2/webhooks are not told of each of these types");
    let timeout = Duration::from_secs(arguments.timeout.into());
    let (mut table, mut all) = (Table::new(), true);
    table.load_style(NOTHING).set_header(["type", "id", "answer", "ms"]);
    for (body, Sample { id, kind, .. }) in sent {
        let attempt = ping::tell(&egress, &keys, &subscription, &secrets, id.to_string(), body.into_bytes(), timeout, Clock::of_the_machine()).await;
        all &= matches!(attempt.result, Attempted::Acknowledged { .. });
        table.add_row([kind.to_owned(), id.to_string(), said(&attempt.result), attempt.latency_ms.to_string()]);
    }
    print(&table.to_string())?;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A client for what somebody has typed, who may call whatever they please.
pub(super) fn anywhere(url: &str) -> anyhow::Result<Egress> {
    let host = url::Url::parse(url).context("the URL is none")?.host_str().context("the URL has no host")?.to_owned();
    let allow = ["0.0.0.0/0", "::/0", &host].into_iter().filter_map(|entry| entry.parse().ok()).collect();
    Ok(Egress::new(&egress::Settings { allow, timeout_ms: 60_000, ..egress::Settings::default() }))
}

fn said(result: &Attempted) -> String {
    match result {
        Attempted::Acknowledged { status } | Attempted::Answered { status, .. } => status.to_string(),
        Attempted::Unreachable { why } => why.clone(),
        Attempted::Unwanted => "unwanted".to_owned(),
    }
}
