//! What is measured, what it is held against, and the arithmetic between the two.

use std::collections::BTreeMap;

/// What one round found, by the names of [`FIGURES`]. What this system does not tell is not there.
pub(super) type Figures = BTreeMap<&'static str, f64>;

/// A number of the report.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) decimals: usize,
    /// What it must reach with `appendfsync always`.
    pub(super) floor: Option<Floor>,
    pub(super) about: &'static str,
}

/// Where a figure begins to be good enough.
#[derive(Clone, Copy)]
pub(super) enum Floor {
    AtLeast(f64),
    AtMost(f64),
}

const fn figure(name: &'static str, decimals: usize, about: &'static str) -> Figure {
    Figure { name, decimals, floor: None, about }
}

const fn floor(name: &'static str, decimals: usize, floor: Floor, about: &'static str) -> Figure {
    Figure { name, decimals, floor: Some(floor), about }
}

/// Every figure, in the order of the table.
pub(super) const FIGURES: &[Figure] = &[
    figure("limit_signed_post_per_s", 0, "signed webhooks by the product's own client, without queue and store"),
    figure("limit_evalsha_per_s", 0, "calls of a small script that stores 1 KB, 32 connections"),
    figure("fsync_ms", 3, "writing 4 KB and flushing them, 50 times a second"),
    figure("accepted_per_s", 0, "payouts accepted, 1 KB each, 32 connections"),
    floor("accepted_to_limit", 3, Floor::AtLeast(0.20), "of limit_evalsha_per_s"),
    figure("accepted_signed_per_s", 0, "the same with X-TL-Signature"),
    figure("delivered_per_s", 0, "from the request to the verified webhook, all of them"),
    floor("delivered_to_limit", 3, Floor::AtLeast(0.10), "of limit_signed_post_per_s"),
    figure("drain_per_s", 0, "a backlog of due deliveries, from the start of the process"),
    floor("drain_to_limit", 3, Floor::AtLeast(0.20), "of limit_signed_post_per_s"),
    figure("settled_per_s", 0, "from the request over the sandbox to the webhook about the settlement: TrueLayer v1"),
    figure("settled_truelayer_v3_per_s", 0, "the same at TrueLayer v3"),
    figure("settled_worldpay_account_per_s", 0, "the same at Worldpay to accounts, where a notice is only an occasion to look"),
    figure("settled_worldpay_card_per_s", 0, "the same at Worldpay to cards by fast access"),
    figure("settled_mollie_per_s", 0, "the same at Mollie"),
    figure("send_to_sink_p50_ms", 2, "from the request to the webhook, at 50 a second"),
    floor("send_to_sink_p50_to_bound", 2, Floor::AtMost(1.0), "of 1 ms + 2 fsync_ms"),
    figure("send_to_sink_p99_ms", 2, "the same, the slowest hundredth"),
    floor("send_to_sink_p99_to_bound", 2, Floor::AtMost(1.0), "of three times that"),
    figure("fanout_1000_s", 3, "one event to 1,000 subscriptions, from the request to the last verified webhook"),
    floor("fanout_1000_to_limit", 3, Floor::AtLeast(0.10), "webhooks of that a second, of limit_signed_post_per_s"),
    floor(
        "blackhole_p99_ratio",
        2,
        Floor::AtMost(1.25),
        "slowest hundredth to 99 subscriptions beside one that never answers, by that without; of 5 pairs",
    ),
    floor("idle_rss_mb", 1, Floor::AtMost(40.0), "memory of the process after its start"),
    figure("peak_rss_mb", 1, "its most memory in all of this"),
    floor("cold_start_ms", 1, Floor::AtMost(60.0), "from the start of the process until it is ready"),
    figure("redis_bytes_per_delivery", 0, "memory of the store per delivered payout of 1 KB, all records"),
];

impl Floor {
    pub(super) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// Adds what follows from the figures of a round.
pub(super) fn derive(figures: &mut Figures) {
    let ratio = |of: &str, to: f64| figures.get(of).map(|value| value / to);
    let limit = |name: &str| figures.get(name).copied().unwrap_or(f64::NAN);
    let (posts, scripts, bound) = (limit("limit_signed_post_per_s"), limit("limit_evalsha_per_s"), 1.0 + 2.0 * limit("fsync_ms"));
    let fanned = figures.get("fanout_1000_s").map(|took| 1_000.0 / took / posts);
    let derived = [
        ("fanout_1000_to_limit", fanned),
        ("accepted_to_limit", ratio("accepted_per_s", scripts)),
        ("delivered_to_limit", ratio("delivered_per_s", posts)),
        ("drain_to_limit", ratio("drain_per_s", posts)),
        ("send_to_sink_p50_to_bound", ratio("send_to_sink_p50_ms", bound)),
        ("send_to_sink_p99_to_bound", ratio("send_to_sink_p99_ms", 3.0 * bound)),
    ];
    for (name, value) in derived {
        if let Some(value) = value {
            figures.insert(name, value);
        }
    }
}

/// The value below which `part` of all values are: 0.5 is the median. None are not a number.
pub(super) fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index of a slice in memory")]
    let rank = (part * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|part| quantile(&mut values, part)), [1.0, 100.0, 198.0, 200.0]);
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), 2.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn every_floor_follows_from_what_is_measured() {
        let measured = FIGURES.iter().filter(|figure| !figure.name.contains("_to_limit") && !figure.name.contains("_to_bound"));
        let mut figures: Figures = measured.map(|figure| (figure.name, 2.0)).collect();
        derive(&mut figures);
        assert!(FIGURES.iter().all(|figure| figures.contains_key(figure.name)) && figures.len() == FIGURES.len());
        assert_eq!(figures["send_to_sink_p99_to_bound"], 2.0 / 15.0);
        // A round without limits proves nothing.
        figures.remove("limit_evalsha_per_s");
        derive(&mut figures);
        assert!(!Floor::AtLeast(0.2).is_met(figures["accepted_to_limit"]));
    }
}
