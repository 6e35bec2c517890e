//! `payrelay doctor`: everything that is known to go wrong, looked at in one go, each with what to do about it.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::TcpStream;
use url::Url;
use workers::agreement;
use workers::store::processes::Process;
use workers::store::{Store, StoreError, limits};

use super::print;
use crate::config::Config;

/// How long anything that is only connected to may take.
const WITHIN: Duration = Duration::from_secs(3);

/// The store's answer should not take longer than this, or every request feels it.
const SLOW: Duration = Duration::from_millis(50);

/// Clocks that are further apart than this are worth a word.
const CLOCKS_APART_MS: u64 = 500;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    area: &'static str,
    what: String,
    state: State,
    found: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Works as it is configured, and would not do in live mode or on a bad day.
    Weak,
    Bad,
}

struct Findings(Vec<Finding>);

/// Exit code 0 if nothing is bad.
///
/// # Errors
/// Only that the result could not be written: what is wrong is the result.
pub async fn run(file: Option<&Path>, Arguments { json }: Arguments) -> anyhow::Result<ExitCode> {
    let mut findings = Findings(Vec::new());
    match Config::load(file) {
        Err(bad) => bad.problems.iter().for_each(|problem| findings.add("configuration", &problem.key, State::Bad, &problem.text)),
        Ok(config) => look(&config, &mut findings).await,
    }
    let Findings(findings) = findings;
    print(&if json { serde_json::to_string_pretty(&findings)? } else { table(&findings) })?;
    let bad = findings.iter().any(|finding| finding.state == State::Bad);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn look(config: &Config, findings: &mut Findings) {
    let problems = config.check();
    problems.iter().for_each(|problem| findings.add("configuration", &problem.key, State::Bad, &problem.text));
    if problems.is_empty() {
        findings.add("configuration", "all keys", State::Ok, if config.server.live { "live keys are served" } else { "only test keys are served" });
    }
    for (name, meant) in near_misses(std::env::vars().map(|(name, _)| name)) {
        findings.add("configuration", &name, State::Weak, &format!("is not read; did you mean {meant}?"));
    }
    if config.providers.overrides().is_empty() {
        findings.add(
            "configuration",
            "providers",
            State::Weak,
            "no account is configured: every payout is refused; `payrelay sandbox --new FILE` writes a configuration to try with",
        );
    }
    // Without a vault the store cannot be opened, and that has been said above.
    if let Ok(vault) = config.vault() {
        let asked = Instant::now();
        match Store::open(&config.redis, vault).await {
            Ok(store) => {
                findings.add("store", "connection", State::Ok, &format!("{}, in {} ms", place(&config.redis.url), asked.elapsed().as_millis()));
                if let Ok(version) = limits::version(&config.redis.url).await {
                    findings.add("store", "version", State::Ok, &version);
                }
                look_at_clock(config, findings).await;
                look_at_store(config, &store, findings).await;
                look_at_processes(config, &store, findings).await;
            }
            Err(error) => findings.add("store", "connection", State::Bad, &format!("{}: {}", place(&config.redis.url), explained(&error))),
        }
    }
    for (key, url) in config.endpoints() {
        reach("provider", &key, url, findings).await;
    }
    if let Some(endpoint) = &config.telemetry.otlp_endpoint {
        reach("telemetry", "telemetry.otlp_endpoint", endpoint, findings).await;
    }
}

async fn look_at_clock(config: &Config, findings: &mut Findings) {
    let Ok(ahead_ms) = limits::clock_ahead_ms(&config.redis.url).await else { return };
    let apart = ahead_ms.unsigned_abs();
    let (state, advice) = match apart {
        0..CLOCKS_APART_MS => (State::Ok, ""),
        _ => (State::Weak, "; requests leave too late or not at all, and signed times are off: run a time service on both"),
    };
    let direction = if ahead_ms < 0 { "behind" } else { "ahead of" };
    findings.add("store", "clock", state, &format!("this machine is {apart} ms {direction} the store{advice}"));
}

async fn look_at_store(config: &Config, store: &Store, findings: &mut Findings) {
    let live = config.server.live && !config.server.trust_store;
    match store.durability().await {
        Ok(checks) => {
            for check in checks {
                let state = if check.ok {
                    State::Ok
                } else if live {
                    State::Bad
                } else {
                    State::Weak
                };
                findings.add("store", check.name, state, &check.found);
            }
        }
        Err(error) => findings.add("store", "durability", State::Bad, &explained(&error)),
    }
    let asked = Instant::now();
    if store.ping().await.is_ok() {
        let took = asked.elapsed();
        let (state, advice) = if took > SLOW { (State::Weak, "; every request waits for this several times") } else { (State::Ok, "") };
        findings.add("store", "answer", state, &format!("in {:.1} ms{advice}", took.as_secs_f64() * 1_000.0));
    }
    for shard in store.shards().all() {
        match store.vitals(shard).await {
            Ok(vitals) => {
                let oldest_s = vitals.lanes.iter().map(|lane| lane.oldest_due_ms).max().unwrap_or(0) / 1_000;
                let late = if oldest_s > 60 { State::Weak } else { State::Ok };
                let mib = vitals.memory_bytes >> 20;
                findings.add(
                    "store",
                    &format!("shard {shard}"),
                    late,
                    &format!("{} open payouts, oldest due work {oldest_s} s, {mib} MiB in use", vitals.open),
                );
                let frozen = "dispatch is frozen: nothing is sent to providers until `payrelay thaw` (see docs/runbooks/dispatch-frozen.md)";
                if vitals.frozen {
                    findings.add("store", &format!("shard {shard}"), State::Bad, frozen);
                }
                match store.accounts_at_fault(shard).await {
                    Ok(0) => {}
                    Ok(faulty) => {
                        let text =
                            format!("the ledgers of {faulty} accounts do not add up: their payouts are not sent (see docs/runbooks/the-ledger.md)");
                        findings.add("store", &format!("shard {shard}"), State::Bad, &text);
                    }
                    Err(error) => findings.add("store", &format!("shard {shard}"), State::Bad, &explained(&error)),
                }
                let waiting = |count: u64, what: &str, findings: &mut Findings| {
                    if count > 0 {
                        findings.add("store", &format!("shard {shard}"), State::Weak, &format!("{count} {what}"));
                    }
                };
                waiting(vitals.abandoned, "deliveries were given up and not replayed", findings);
                waiting(vitals.orphans, "notices never found their payout, or could not be read", findings);
            }
            Err(error) => findings.add("store", &format!("shard {shard}"), State::Bad, &explained(&error)),
        }
    }
}

/// Whether all that run were told the same, and what this command was told.
async fn look_at_processes(config: &Config, store: &Store, findings: &mut Findings) {
    let mut processes = match store.processes().await {
        Ok(processes) => processes,
        Err(error) => return findings.add("processes", "running", State::Bad, &explained(&error)),
    };
    if processes.is_empty() {
        return findings.add("processes", "running", State::Ok, "none, or none that has lately said so");
    }
    processes.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<_> = processes.iter().map(|process| process.name.as_str()).collect();
    findings.add("processes", "running", State::Ok, &names.join(", "));
    let me = Process {
        id: String::new(),
        name: "this command".to_owned(),
        told: config.told.clone(),
        lease_ms: config.workers.lease_ms,
        until: Timestamp::MAX,
    };
    processes.push(me);
    for (section, groups) in agreement::disagreements(&processes) {
        let text = format!("not told alike: {} (see docs/runbooks/configuration-differs.md)", agreement::shown(&groups));
        findings.add("processes", &section, State::Weak, &text);
    }
}

/// Whether somebody listens there. Nothing is asked.
async fn reach(area: &'static str, what: &str, url: &str, findings: &mut Findings) {
    let parsed = Url::parse(url).ok().and_then(|url| Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default()?)));
    // An address that cannot be read is a problem of the configuration, and listed there.
    let Some((host, port)) = parsed else { return };
    match tokio::time::timeout(WITHIN, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => findings.add(area, what, State::Ok, &format!("{host}:{port} accepts connections")),
        Ok(Err(error)) => findings.add(area, what, State::Bad, &format!("{host}:{port}: {error}")),
        Err(_) => findings.add(area, what, State::Bad, &format!("{host}:{port} does not answer within {} s", WITHIN.as_secs())),
    }
}

/// Variables that begin like ours but have too few underscores: `PAYRELAY_REDIS_URL`.
fn near_misses(names: impl Iterator<Item = String>) -> Vec<(String, String)> {
    const SECTIONS: [&str; 12] =
        ["SERVER", "REDIS", "VAULT", "INGRESS", "FENCE", "WORKERS", "EXECUTE", "RULES", "RELAY", "EGRESS", "PROVIDERS", "TELEMETRY"];
    let near = |name: &String| {
        let rest = name.strip_prefix("PAYRELAY_")?;
        let section = SECTIONS.into_iter().find(|section| rest.trim_start_matches('_').starts_with(&format!("{section}_")))?;
        let key = rest.trim_start_matches('_').strip_prefix(section)?.trim_start_matches('_');
        // `make test` says with it where the server's program is.
        let meant = format!("PAYRELAY__{section}__{key}");
        (*name != meant && !name.starts_with(&format!("PAYRELAY__{section}__")) && name != "PAYRELAY_REDIS_SERVER").then(|| (name.clone(), meant))
    };
    names.filter_map(|name| near(&name)).collect()
}

/// Where the store is, without who we are there.
fn place(url: &str) -> String {
    Url::parse(url).ok().and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port().unwrap_or(6379)))).unwrap_or_else(|| "the store".to_owned())
}

fn explained(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn table(findings: &[Finding]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    for Finding { area, what, state, found } in findings {
        let state = match state {
            State::Ok => "ok",
            State::Weak => "weak",
            State::Bad => "BAD",
        };
        table.add_row([state, area, what, found]);
    }
    let count = |wanted: State| findings.iter().filter(|finding| finding.state == wanted).count();
    format!("{table}\n\n{} ok, {} weak, {} bad", count(State::Ok), count(State::Weak), count(State::Bad))
}

// === impl Findings ===

impl Findings {
    fn add(&mut self, area: &'static str, what: &str, state: State, found: &str) {
        self.0.push(Finding { area, what: what.to_owned(), state, found: found.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_underscore_too_few_is_noticed() {
        let names = ["PAYRELAY_REDIS_URL", "PAYRELAY__REDIS__URL", "PAYRELAY__REDIS_URL", "PAYRELAY_CONFIG", "PAYRELAY_REDIS_SERVER", "HOME"];
        let found = near_misses(names.into_iter().map(str::to_owned));
        let meant = "PAYRELAY__REDIS__URL".to_owned();
        assert_eq!(found, [("PAYRELAY_REDIS_URL".to_owned(), meant.clone()), ("PAYRELAY__REDIS_URL".to_owned(), meant)]);
    }

    #[test]
    fn the_address_of_the_store_is_shown_without_its_password() {
        assert_eq!(place("redis://user:secret@store.internal/0"), "store.internal:6379");
        assert_eq!(place("nonsense secret"), "the store");
    }
}
