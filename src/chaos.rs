//! `payrelay chaos`: what still holds when everything falls over.
//!
//! A whole installation under load: the sandbox with random moods, a subscriber that fails, two worker processes that are killed, aborted at failpoints and
//! stopped past their leases, and a store that is killed and frozen. When it is calm again and all work is done, three witnesses who know nothing
//! of each other are heard: the provider's own ledger, the store, and the subscriber. What they must not say is counted, and each count must be 0.

mod audit;
mod dice;
mod load;
mod storm;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use providers::truelayer::sandbox::Settings;
use providers::truelayer::sandbox::mood::{Distribution, Mood};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use workers::store::private_server::Fsync;

pub use self::audit::{Findings, audit};
pub use self::load::Sent;
use self::storm::{Counts, Storm};
use crate::child::Program;
use crate::local::{Local, Plan};
use crate::run::Role;
use crate::subscriber::Moods;

/// Of a hundred payouts, about so many meet a provider in a mood.
const PROVIDER_FAULTS: u8 = 30;
/// Of a hundred webhooks, about so many are mistreated by the subscriber.
const SUBSCRIBER_FAULTS: u8 = 10;
/// How long all work may take to end after the last fault.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked whether it has.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Everything that usually takes minutes takes seconds here, so that no clock has to be moved. A provider may hide a payout for longer than it promises:
/// then the same request goes again, and its key is all that keeps it from being carried out twice.
pub const SHORT: &str = r"
redis.deadline_ms = 700
egress.timeout_ms = 500
egress.connect_timeout_ms = 300
providers.truelayer_test.connect_timeout_ms = 300
providers.truelayer_test.token_timeout_ms = 500
providers.truelayer_test.read_timeout_ms = 600
providers.truelayer_test.profile.polls_ms = [150, 400, 1000]
providers.truelayer_test.profile.propagation_ms = 800
providers.truelayer_test.profile.bound_ms = 6000
execute.send_window_ms = 400
execute.call_ms = 600
circuit.wait_first_ms = 300
circuit.wait_cap_ms = 1000
rules.redispatch_first_ms = 200
rules.redispatch_cap_ms = 2000
workers.handler_deadline_ms = 3000
workers.lease_ms = 4800
workers.drain_ms = 2400
workers.tick_ms = 200
workers.failure_wait_ms = 300
workers.sweep_ms = 3600000
relay.waits_s = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
telemetry.level = 'warn'
";

/// A provider that would carry out a repeat, and sends no notices. Nothing may be sent to it twice, whatever is not known: the rest goes to a person.
const NO_REPEATS: &str = "providers.truelayer_test.profile.recognises_duplicates = false\n";

/// Longer than `workers.lease_ms` and `execute.send_window_ms` above.
pub const PAST_THE_LEASE: Duration = Duration::from_millis(5_000);

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub payouts: u32,
    pub seed: u64,
    /// Where the counts go, as JSON.
    pub out: PathBuf,
}

impl Options {
    /// By odd seeds the provider recognises a repeated request by its key. By even ones it would carry it out again, and sends no notices.
    const fn recognises_repeats(&self) -> bool {
        self.seed % 2 == 1
    }
}

/// What happened, and what must not have.
#[derive(Serialize)]
struct Report {
    seed: u64,
    payouts: u32,
    accepted: usize,
    seconds: f64,
    recognises_repeats: bool,
    /// By the provider and by the subscriber.
    faults: u64,
    provider_faults: u64,
    subscriber_faults: u64,
    #[serde(flatten)]
    counts: Counts,
    webhooks: u64,
    #[serde(flatten)]
    findings: Findings,
}

/// Runs to the end of the last payout, or until `stop`.
///
/// # Errors
/// It could not be run, or something happened that must not: then the payouts are named.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let provider = if options.recognises_repeats() { "recognises repeats" } else { "would pay repeats and sends no notices" };
    println!("chaos: {} payouts, seed {}, a provider that {provider}", options.payouts, options.seed);
    let folder = tempfile::Builder::new().prefix("payrelay-chaos-").tempdir()?;
    let Some(report) = stop.run_until_cancelled(storm_and_audit(&options, folder.path())).await else { bail!("stopped before the end") };
    let report = report.inspect_err(|_| println!("chaos: what the processes wrote is in {}", folder.path().display()));
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            let _ = folder.keep();
            return Err(error);
        }
    };
    if let Some(parent) = options.out.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&options.out, serde_json::to_string_pretty(&report)? + "\n").with_context(|| format!("writing {}", options.out.display()))?;
    println!("{}", report.table());
    if report.findings.is_clean() {
        println!(
            "chaos: {} payouts, {} kills, {} double payments, nothing lost",
            report.accepted, report.counts.kills, report.findings.double_movements
        );
        return Ok(());
    }
    for line in &report.findings.named {
        println!("  {line}");
    }
    println!("chaos: what the processes wrote is in {}", folder.keep().display());
    bail!("something happened that must not; try again with --payouts {} --seed {}", options.payouts, options.seed)
}

async fn storm_and_audit(options: &Options, folder: &Path) -> anyhow::Result<Report> {
    let began = Instant::now();
    let recognises_repeats = options.recognises_repeats();
    let more = if recognises_repeats { SHORT.to_owned() } else { format!("{SHORT}{NO_REPEATS}") };
    let plan = Plan {
        folder,
        redis_url: None,
        fsync: Fsync::Always,
        listen: "127.0.0.1:0",
        more: &more,
        sandbox: if recognises_repeats { impatient } else { unforgiving },
        // The ingress is in this process: it is not killed.
        role: Some(Role::Serve),
    };
    let mut local = Local::start(plan).await?;
    let unfit = if recognises_repeats { Mood::Stuck } else { Mood::Return };
    let moods = Mood::ALL.into_iter().filter(|mood| ![Mood::Plain, Mood::Stuck, unfit].contains(mood)).collect();
    local.sandbox.set_random(Some(Distribution { fault_percent: PROVIDER_FAULTS, seed: options.seed, moods }));
    local.subscribe(&["*"]).await?;
    local.subscriber.misbehave(Some(Moods { fault_percent: SUBSCRIBER_FAULTS, seed: options.seed, late: Duration::from_millis(800) }));

    let program = Program::worker(std::env::current_exe().context("the path of this program")?, &local.config_file, folder);
    let server = local.server.take().context("a private server")?;
    let storm = Storm::rise(&program, server, options.seed);
    let sent = load::send(&local, options.payouts, options.seed, spread(options.payouts)).await?;
    let calm = storm.calm_down().await?;

    let findings = until_done(&local, &sent).await?;
    let counts = calm.end().await?;
    let findings = findings.with_logs(&program, &storm::WORKERS)?;
    let provider_faults = sent.iter().filter(|sent| local.sandbox.payout(sent.provider_id()).is_some_and(|view| view.mood != Mood::Plain)).count();
    let (provider_faults, subscriber_faults) = (provider_faults as u64, local.subscriber.failed());
    let report = Report {
        seed: options.seed,
        payouts: options.payouts,
        accepted: sent.iter().filter(|sent| sent.accepted).count(),
        seconds: began.elapsed().as_secs_f64(),
        recognises_repeats,
        faults: provider_faults + subscriber_faults,
        provider_faults,
        subscriber_faults,
        counts,
        webhooks: local.subscriber.verified(),
        findings,
    };
    local.stop().await?;
    Ok(report)
}

/// The time over which the payouts are sent, and so also that of the storm.
fn spread(payouts: u32) -> Duration {
    Duration::from_secs(6) + Duration::from_millis(75) * payouts
}

fn impatient(settings: &mut Settings) {
    settings.magic = false;
    settings.authorise_after_ms = 100;
    settings.submit_after_ms = 150;
    settings.settle_after_ms = 200;
    settings.return_after_ms = 300;
    settings.slow_answer_ms = 1_000;
    settings.answer_after_ms = 100;
    settings.late_appear_ms = 1_200;
    settings.retry_after_s = 1;
    settings.notice_attempts = 40;
}

fn unforgiving(settings: &mut Settings) {
    impatient(settings);
    settings.pays_repeats = true;
    settings.notice_url = None;
}

/// Waits until the witnesses have nothing to say and nothing is left to do; after a time takes what they say as it is.
async fn until_done(local: &Local, sent: &[Sent]) -> anyhow::Result<Findings> {
    let began = Instant::now();
    loop {
        let heard = audit(local, sent).await;
        let done = heard.as_ref().is_ok_and(|findings| findings.is_clean() && findings.left == 0) && audit::provider_is_done(local, sent);
        if done || began.elapsed() > PATIENCE {
            // The store may have been restarted a moment ago, but now it has to answer.
            return heard;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

impl Report {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["what happened", "", "what must be 0", ""]);
        let states: BTreeMap<&str, u64> = self.findings.by_state.iter().map(|(state, count)| (*state, *count)).collect();
        let mut left: Vec<(String, String)> = vec![
            ("payouts accepted".to_owned(), format!("{} of {}", self.accepted, self.payouts)),
            ("seconds".to_owned(), format!("{:.1}", self.seconds)),
            ("faults of the provider".to_owned(), self.provider_faults.to_string()),
            ("faults of the subscriber".to_owned(), self.subscriber_faults.to_string()),
            ("workers killed".to_owned(), self.counts.kills.to_string()),
            ("  of them at failpoints".to_owned(), self.counts.aborts.values().sum::<u64>().to_string()),
            ("workers stopped past their lease".to_owned(), self.counts.stops.to_string()),
            ("store killed".to_owned(), self.counts.redis_kills.to_string()),
            ("store frozen".to_owned(), self.counts.redis_stops.to_string()),
            ("webhooks verified".to_owned(), self.webhooks.to_string()),
        ];
        left.extend(states.into_iter().map(|(state, count)| (format!("payouts {state}"), count.to_string())));
        left.extend(self.findings.in_review_after.iter().map(|(why, count)| (format!("  in review after {why}"), count.to_string())));
        let right = self.findings.figures();
        for row in 0..left.len().max(right.len()) {
            let (name, value) = left.get(row).cloned().unwrap_or_default();
            let (must, zero) = right.get(row).map(|(must, zero)| ((*must).to_owned(), zero.to_string())).unwrap_or_default();
            table.add_row([name, value, must, zero]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_times_are_a_configuration_that_would_be_started_with() {
        let text = format!(
            "redis.url = 'redis://127.0.0.1:1'\nvault.keys = {{ 1 = '{key}' }}\ningress.key_pepper = '{key}'\n{SHORT}",
            key = "A".repeat(43) + "="
        );
        let lines = text.lines().filter(|line| !line.starts_with("providers.")).collect::<Vec<_>>().join("\n");
        let config = crate::config::Config::read(Some(("short", &lines)), []).unwrap();
        assert_eq!(config.check(), []);
        let lease = config.workers.lease_ms.max(config.execute.send_window_ms);
        assert!(PAST_THE_LEASE > Duration::from_millis(lease));
    }
}
