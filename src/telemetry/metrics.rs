//! Every metric there is, in one table. The README, the dashboards and the alerts name what stands here, and a test compares it with the code.
//!
//! Labels have few values: states, lanes, providers, classes of outcomes. No id, no URL, no party.

use opentelemetry_sdk::metrics::{Aggregation, Instrument, Stream};

/// A metric as it is documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As Prometheus and OTLP show it.
    pub name: &'static str,
    pub kind: Kind,
    /// `s`, `By`, or empty for plain numbers.
    pub unit: &'static str,
    pub labels: &'static [&'static str],
    pub about: &'static str,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    Gauge,
    Histogram,
}

const fn counter(name: &'static str, labels: &'static [&'static str], about: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: "", labels, about }
}

const fn gauge(name: &'static str, unit: &'static str, labels: &'static [&'static str], about: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, about }
}

const fn seconds(name: &'static str, labels: &'static [&'static str], about: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: "s", labels, about }
}

/// Every metric. What workers say about the store (lanes, payouts, abandoned, orphans, ledger, frozen, memory) is the same from each of them: take the
/// maximum, not the sum.
pub const METRICS: &[Metric] = &[
    // What happens to payouts.
    counter("payrelay_payouts_total", &["state", "mode"], "Payouts that entered a state."),
    seconds("payrelay_payout_duration_seconds", &["state"], "From the request to a final state."),
    counter("payrelay_contradictions_total", &[], "Payouts whose evidence contradicts itself; each needs a person."),
    // What becomes of batches.
    counter("payrelay_batches_total", &["mode"], "Batches that were accepted."),
    counter("payrelay_batch_items_total", &["result", "mode"], "Items of batches, by what became of them when they were opened."),
    gauge("payrelay_batch_age_seconds", "s", &[], "How long the oldest batch has waited to be opened whole; 0 when none does."),
    // What becomes of schedules.
    counter(
        "payrelay_schedule_due_dates_total",
        &["outcome", "mode"],
        "Due dates of schedules: `on_time`, `late` (one payout for all that was missed), `rejected`, or `empty` when there was nothing to pay.",
    ),
    counter(
        "payrelay_schedule_blocked_total",
        &["reason", "mode"],
        "Looks that found a payout of a schedule due and could not open it; each is repeated.",
    ),
    gauge(
        "payrelay_schedule_overdue_seconds",
        "s",
        &[],
        "How long the oldest payout of a schedule that is due has not been opened, or the oldest look at a schedule been late; 0 when none is.",
    ),
    // What providers say.
    counter("payrelay_provider_calls_total", &["provider", "call", "outcome"], "Calls to providers, by what came back."),
    counter("payrelay_provider_unmapped_total", &["provider"], "Provider statuses that no word of ours stands for."),
    counter("payrelay_notices_total", &["provider", "mode", "outcome"], "Webhooks of providers, by what became of them."),
    counter(
        "payrelay_deposits_total",
        &["provider", "mode", "outcome"],
        "Looks at money that providers say came in: `recorded` or `known`, or what keeps it from its account: `unclaimed`, `provider_funded`, `full`, `conflict`.",
    ),
    counter(
        "payrelay_provider_circuit_opened_total",
        &["provider", "mode", "why"],
        "Circuits that opened: `failing`, or `locked_out` when credentials are not accepted.",
    ),
    // What subscribers get.
    counter("payrelay_delivery_attempts_total", &["outcome"], "Attempts to deliver an event, by how they went."),
    seconds("payrelay_delivery_latency_seconds", &["outcome"], "From the beginning of a call to the end of the subscriber's answer."),
    seconds("payrelay_delivery_acknowledged_seconds", &["event"], "From an event to its acknowledgement by a subscriber, waits included."),
    counter("payrelay_deliveries_abandoned_total", &["event"], "Deliveries that were given up."),
    counter("payrelay_subscriptions_disabled_total", &["reason"], "Subscriptions that the relay disabled."),
    counter("payrelay_subscriptions_failing_total", &[], "Warnings that nothing has got through to a subscriber for a long time."),
    // What callers get.
    seconds("payrelay_http_request_duration_seconds", &["route", "method", "status"], "Requests to the ingress, from their headers to their answer."),
    counter("payrelay_http_shed_total", &[], "Requests refused because too many were under way."),
    // What waits in the store, as the last sweep found it.
    gauge("payrelay_lane_entries", "", &["lane"], "Work of a lane, waiting and leased; for the relay, subscriptions with deliveries."),
    gauge("payrelay_lane_oldest_due_seconds", "s", &["lane"], "How long the oldest due work of a lane has been due; 0 when nothing is due."),
    gauge("payrelay_open_payouts", "", &["state"], "Payouts that have not ended, by state."),
    gauge(
        "payrelay_open_payout_age_seconds",
        "s",
        &["state"],
        "How long the oldest open payout has been in its state; watch `inconclusive` and `in_review`.",
    ),
    gauge("payrelay_abandoned_deliveries", "", &[], "Deliveries that were given up and not replayed."),
    gauge("payrelay_orphan_notices", "", &[], "Webhooks of providers that were put aside: their payout never came, or no worker could read them."),
    gauge("payrelay_ledger_imbalance", "", &[], "What the ledger's accounts are off by, in minor units; anything but 0 is a fault."),
    gauge(
        "payrelay_ledger_unmatched",
        "",
        &[],
        "What accounts have reserved beyond what their open payouts hold, or less, in minor units; anything but 0 is a fault.",
    ),
    gauge(
        "payrelay_ledger_overdrawn_accounts",
        "",
        &[],
        "Accounts that fund themselves and are below zero: money arrived after it had been given back.",
    ),
    gauge("payrelay_frozen_shards", "", &[], "Shards whose dispatch is frozen."),
    gauge("payrelay_frozen_parties", "", &[], "Parties for which dispatch is frozen, per mode."),
    gauge("payrelay_frozen_parties_payouts", "", &[], "Due payouts that wait for that."),
    gauge("payrelay_ledger_held_payouts", "", &[], "Due payouts that wait because the ledger of their account is at fault."),
    gauge(
        "payrelay_provider_circuit",
        "",
        &["provider", "mode", "state"],
        "1 for the state of a provider's circuit: `closed`, `half_open`, `open`, `paused`.",
    ),
    gauge("payrelay_held_payouts", "", &["provider", "mode"], "Payouts that are due and wait for their provider's circuit."),
    gauge(
        "payrelay_reconciliation_breaks",
        "",
        &["provider", "mode", "kind"],
        "Differences between our payouts and the provider's list, over the days whose results are kept.",
    ),
    gauge("payrelay_reconciliation_age_seconds", "s", &["provider", "mode"], "How long ago `payrelay reconcile` last read both sides whole."),
    gauge("payrelay_store_memory_bytes", "By", &[], "Memory in use at the store's server."),
    counter(
        "payrelay_work_repaired_total",
        &[],
        "Payouts, batches and schedules whose work was missing and was put back; anything but 0 is a fault.",
    ),
    gauge("payrelay_sweep_age_seconds", "s", &[], "How long ago this worker last read the numbers of the store."),
    // What this process does.
    gauge(
        "payrelay_config_disagreements",
        "",
        &[],
        "Sections of the configuration that not all running processes were told alike; anything but 0, but for a deployment, is a fault.",
    ),
    gauge("payrelay_lane_in_flight", "", &["lane"], "Work that this process has leased."),
    counter("payrelay_lane_store_errors_total", &["lane"], "Calls of the store for leases that failed; each is repeated."),
    counter("payrelay_lane_unsettled_total", &["lane"], "Work that was started and not settled: errors, panics, deadlines."),
    gauge("payrelay_process_memory_bytes", "By", &[], "Resident memory of this process."),
    gauge("payrelay_build_info", "", &["version"], "Always 1; the label says which version runs."),
];

/// The bounds of histograms that do not bring their own, in seconds.
const BUCKETS: &[(&str, &[f64])] = &[
    ("payrelay_http_request_duration_seconds", &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
    (
        "payrelay_payout_duration_seconds",
        &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0],
    ),
];

/// What is documented under this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// A view for the meter provider: the bounds of [`BUCKETS`].
pub(super) fn buckets(instrument: &Instrument) -> Option<Stream> {
    let (_, boundaries) = BUCKETS.iter().find(|(name, _)| *name == instrument.name())?;
    let aggregation = Aggregation::ExplicitBucketHistogram { boundaries: boundaries.to_vec(), record_min_max: false };
    Stream::builder().with_aggregation(aggregation).build().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    /// The instruments that the sources build: name → the word of their builder.
    fn instruments(folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                instruments(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("telemetry/metrics.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for (at, _) in text.match_indices("(\"payrelay_") {
                    let name = text[at + 2..].split('"').next().unwrap();
                    let builder = text[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
                    if ["counter", "gauge", "histogram"].iter().any(|kind| builder.ends_with(kind)) {
                        found.insert(name.to_owned(), builder.to_owned());
                    }
                }
            }
        }
    }

    /// What the code counts is documented, and what is documented is counted, each as the kind that it is.
    #[test]
    fn the_table_and_the_code_agree() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeMap::new();
        for folder in ["src", "workers/src", "providers/src"] {
            instruments(&root.join(folder), &mut found);
        }
        for (name, builder) in &found {
            let metric = named(name).unwrap_or_else(|| panic!("{name} is counted but not in METRICS"));
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            assert!(builder.ends_with(kind), "{name} is documented as a {kind}, and built as a {builder}");
        }
        for metric in METRICS {
            assert!(found.contains_key(metric.name), "{} is documented but nothing counts it", metric.name);
        }
    }

    /// The README shows this table. `UPDATE=1` writes it there.
    #[test]
    fn the_readme_shows_the_table() {
        const BEGIN: &str = "<!-- metrics -->\n";
        const END: &str = "<!-- /metrics -->";
        let mut table = "| metric | kind | labels | |\n|---|---|---|---|\n".to_owned();
        for Metric { name, kind, labels, about, .. } in METRICS {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            table += &format!("| `{name}` | {} | {} | {about} |\n", format!("{kind:?}").to_lowercase(), labels.join(", "));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("where the table begins");
        let (shown, after) = rest.split_once(END).expect("where the table ends");
        if shown != table && std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, [before, BEGIN, &table, END, after].concat()).unwrap();
            return;
        }
        assert_eq!(shown, table, "the README differs from METRICS; `UPDATE=1 cargo test the_readme_shows_the_table` writes it anew");
    }

    #[test]
    fn every_entry_is_named_by_the_rules() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len(), "a name stands twice");
        for Metric { name, kind, unit, about, .. } in METRICS {
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), *unit == "s", "{name}");
            assert_eq!(name.ends_with("_bytes"), *unit == "By", "{name}");
            assert!(about.ends_with('.'), "{name}: a sentence");
        }
        for (name, boundaries) in BUCKETS {
            assert_eq!(named(name).map(|metric| metric.kind), Some(Kind::Histogram), "{name}");
            assert!(boundaries.is_sorted(), "{name}");
        }
    }
}
