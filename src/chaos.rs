//! `payrelay chaos`: what still holds when everything falls over.
//!
//! A whole installation under load: payouts at five providers, each a sandbox with random moods, a subscriber that fails, two worker processes that are killed, aborted at failpoints and
//! stopped past their leases, and a store that is killed and frozen. When it is calm again and all work is done, three witnesses who know nothing
//! of each other are heard: the providers' own ledgers, the store, and the subscriber. What they must not say is counted, and each count must be 0.

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
use domain::fact::Provider;
use providers::sandbox::all::Settings;
use providers::sandbox::behaviour::Behaviour;
use providers::sandbox::mood::{Distribution, Mood};
use providers::worldpay::signature::{Encoding, EventKey};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use workers::store::private_server::Fsync;

pub use self::audit::{Findings, audit};
pub use self::load::{Load, Sent};
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
providers.truelayer_v3_test.connect_timeout_ms = 300
providers.truelayer_v3_test.token_timeout_ms = 500
providers.truelayer_v3_test.read_timeout_ms = 600
providers.truelayer_v3_test.profile.polls_ms = [150, 400, 1000]
providers.truelayer_v3_test.profile.propagation_ms = 800
providers.truelayer_v3_test.profile.bound_ms = 6000
providers.worldpay_account_test.access.connect_timeout_ms = 300
providers.worldpay_account_test.access.read_timeout_ms = 600
providers.worldpay_account_test.profile.polls_ms = [150, 400, 1000]
providers.worldpay_account_test.profile.propagation_ms = 800
providers.worldpay_account_test.profile.bound_ms = 6000
providers.worldpay_card_test.access.connect_timeout_ms = 300
providers.worldpay_card_test.access.read_timeout_ms = 600
providers.worldpay_card_test.profile.polls_ms = [150, 400, 1000]
providers.worldpay_card_test.profile.propagation_ms = 800
providers.worldpay_card_test.profile.bound_ms = 6000
providers.mollie_test.connect_timeout_ms = 300
providers.mollie_test.read_timeout_ms = 600
providers.mollie_test.profile.polls_ms = [150, 400, 1000]
providers.mollie_test.profile.propagation_ms = 800
providers.mollie_test.profile.bound_ms = 6000
execute.send_window_ms = 400
execute.look_ms = 300
execute.group_look_ms = 600
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

/// Providers that would carry out a repeat, and send no notices. Nothing may be sent to them twice, whatever is not known: the rest goes to a person.
/// Worldpay carries out the repeats of a card payout anyway, in all versions.
const NO_REPEATS: &str = r"
providers.truelayer_test.profile.recognises_duplicates = false
providers.truelayer_v3_test.profile.recognises_duplicates = false
providers.worldpay_account_test.profile.recognises_duplicates = false
providers.worldpay_card_test.version = 'v3'
providers.mollie_test.profile.recognises_duplicates = false
";

/// Events about card payouts are evidence: without keys, Worldpay tells of them only that they were taken.
const EVENTS: &str = "providers.worldpay_card_test.event_keys = [{ id = '1', secret = 'for chaos only' }]\n";

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
    /// By odd seeds the providers recognise a repeated request by its key, but for Worldpay with cards. By even ones they would carry it out again, and send
    /// no notices.
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
    let providers = if options.recognises_repeats() { "recognise repeats" } else { "would pay repeats and send no notices" };
    println!("chaos: {} payouts, seed {}, providers that {providers}", options.payouts, options.seed);
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
    println!("{}\n{}", report.table(), report.by_provider());
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
    let more = format!("{SHORT}{EVENTS}{}", if recognises_repeats { "" } else { NO_REPEATS });
    let plan = Plan {
        folder,
        redis_url: None,
        fsync: Fsync::Always,
        listen: "127.0.0.1:0",
        more: &more,
        providers: &Provider::ALL,
        sandbox: if recognises_repeats { impatient } else { unforgiving },
        // The ingress is in this process: it is not killed.
        role: Some(Role::Serve),
    };
    let mut local = Local::start(plan).await?;
    // Of a return after the end, nobody would know without a notice.
    let moods = Distribution::usual().into_iter().filter(|mood| recognises_repeats || *mood != Mood::Return).collect();
    local.sandboxes.set_random(Some(&Distribution { fault_percent: PROVIDER_FAULTS, seed: options.seed, moods }));
    local.subscribe(&["*"]).await?;
    local.subscriber.misbehave(Some(Moods { fault_percent: SUBSCRIBER_FAULTS, seed: options.seed, late: Duration::from_millis(800) }));

    let program = Program::worker(std::env::current_exe().context("the path of this program")?, &local.config_file, folder);
    let server = local.server.take().context("a private server")?;
    let storm = Storm::rise(&program, server, options.seed);
    let load = load::send(&local, options.payouts, options.seed, spread(options.payouts)).await?;
    let calm = storm.calm_down().await?;

    let findings = until_done(&local, &load).await?;
    let counts = calm.end().await?;
    let findings = findings.with_logs(&program, &storm::WORKERS)?;
    let (provider_faults, subscriber_faults) = (findings.provider_faults(), local.subscriber.failed());
    let report = Report {
        seed: options.seed,
        payouts: options.payouts,
        accepted: load.sent.iter().filter(|sent| sent.accepted).count(),
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
    let behaviour =
        Behaviour { magic: false, return_after_ms: 300, slow_answer_ms: 1_000, answer_after_ms: 100, late_appear_ms: 1_200, ..Behaviour::default() };
    let Settings { truelayer, truelayer_v3, worldpay, mollie, .. } = settings;
    for of_one in [&mut truelayer.behaviour, &mut truelayer_v3.behaviour, &mut worldpay.behaviour, &mut mollie.behaviour] {
        *of_one = behaviour.clone();
    }
    (truelayer.authorise_after_ms, truelayer.submit_after_ms, truelayer.settle_after_ms) = (100, 150, 200);
    (truelayer_v3.authorize_after_ms, truelayer_v3.execute_after_ms) = (150, 300);
    (mollie.initiate_after_ms, mollie.process_after_ms, mollie.complete_after_ms) = (100, 150, 200);
    worldpay.stage_ms = 100;
    worldpay.event_keys = vec![EventKey { id: "1".to_owned(), secret: "for chaos only".into(), encoding: Encoding::Utf8 }];
    // All of them from one balance at once.
    mollie.one_per_balance = false;
    for attempts in [&mut truelayer.notice_attempts, &mut truelayer_v3.notice_attempts, &mut mollie.notice_attempts] {
        *attempts = 40;
    }
    (mollie.notice_wait_ms, worldpay.notice_wait_ms, worldpay.notice_longest_wait_ms) = (200, 200, 2_000);
}

fn unforgiving(settings: &mut Settings) {
    impatient(settings);
    settings.notices = None;
    settings.truelayer.pays_repeats = true;
    settings.worldpay.pays_account_repeats = true;
    // A key that is forgotten at once is paid again.
    (settings.truelayer_v3.remembered_ms, settings.mollie.remembered_ms) = (0, 0);
}

/// Waits until the witnesses have nothing to say and nothing is left to do; after a time takes what they say as it is.
async fn until_done(local: &Local, load: &Load) -> anyhow::Result<Findings> {
    let began = Instant::now();
    loop {
        let heard = audit(local, load).await;
        let done = heard.as_ref().is_ok_and(|findings| findings.is_clean() && findings.left == 0) && local.sandboxes.are_done();
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
            ("faults of the providers".to_owned(), self.provider_faults.to_string()),
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

impl Report {
    fn by_provider(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["provider", "payouts", "faults", "double movements", "lost", "stuck", "inconclusive", "in review"]);
        for (provider, at) in &self.findings.providers {
            let counts = [at.payouts, at.faults, at.double_movements, at.lost, at.stuck, at.inconclusive_at_end, at.in_review];
            table.add_row(std::iter::once((*provider).to_owned()).chain(counts.map(|count| count.to_string())));
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
