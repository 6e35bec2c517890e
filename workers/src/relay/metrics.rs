//! What the relay counts. Labels are bounded: outcome classes and event types; never an id, never a URL.

use domain::delivery::{Attempt, Attempted, Decision};
use domain::event::EventType;
use jiff::Timestamp;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use crate::store::payouts::StoredEvent;

pub(super) struct Metrics {
    attempts: Counter<u64>,
    latency: Histogram<f64>,
    acknowledged_after: Histogram<f64>,
    abandoned: Counter<u64>,
    disabled: Counter<u64>,
    warned: Counter<u64>,
}

impl Metrics {
    pub(super) fn new(meter: &Meter) -> Self {
        let latencies = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];
        let waits = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 259_200.0];
        let metrics = Self {
            attempts: meter
                .u64_counter("payrelay_delivery_attempts_total")
                .with_description("Attempts to deliver an event, by how they went")
                .build(),
            latency: meter
                .f64_histogram("payrelay_delivery_latency_seconds")
                .with_unit("s")
                .with_description("From the beginning of a call to the end of the subscriber's answer")
                .with_boundaries(latencies)
                .build(),
            acknowledged_after: meter
                .f64_histogram("payrelay_delivery_acknowledged_seconds")
                .with_unit("s")
                .with_description("From an event to its acknowledgement by a subscriber, waits included")
                .with_boundaries(waits)
                .build(),
            abandoned: meter.u64_counter("payrelay_deliveries_abandoned_total").with_description("Deliveries that were given up").build(),
            disabled: meter.u64_counter("payrelay_subscriptions_disabled_total").with_description("Subscriptions disabled by the relay").build(),
            warned: meter
                .u64_counter("payrelay_subscriptions_failing_total")
                .with_description("Warnings that nothing has got through to a subscriber for a long time")
                .build(),
        };
        // What counts faults only is 0 from the start: a counter that has never counted is not shown, and an alert would wait for it in vain.
        for kind in EventType::ALL {
            metrics.abandoned.add(0, &[KeyValue::new("event", kind.name())]);
        }
        for reason in ["gone", "failing"] {
            metrics.disabled.add(0, &[KeyValue::new("reason", reason)]);
        }
        metrics.warned.add(0, &[]);
        metrics
    }

    pub(super) fn attempted(&self, attempt: &Attempt) {
        let outcome = outcome(&attempt.result);
        self.attempts.add(1, &[KeyValue::new("outcome", outcome)]);
        if !matches!(attempt.result, Attempted::Unwanted) {
            self.latency.record(f64::from(attempt.latency_ms) / 1_000.0, &[KeyValue::new("outcome", outcome)]);
        }
    }

    pub(super) fn decided(&self, decision: Decision, event: &StoredEvent, now: Timestamp) {
        let kind = || KeyValue::new("event", EventType::named(&event.kind).map_or("other", EventType::name));
        match decision {
            Decision::Delivered => self.acknowledged_after.record(now.duration_since(event.at).as_secs_f64().max(0.0), &[kind()]),
            Decision::Abandon => self.abandoned.add(1, &[kind()]),
            Decision::RetryAt(_) => {}
        }
    }

    pub(super) fn disabled(&self, reason: &'static str) {
        self.disabled.add(1, &[KeyValue::new("reason", reason)]);
    }

    pub(super) fn warned(&self) {
        self.warned.add(1, &[]);
    }
}

/// The class of an outcome.
pub(super) fn outcome(result: &Attempted) -> &'static str {
    match result {
        Attempted::Acknowledged { .. } => "acknowledged",
        Attempted::Answered { status: 300..=399, .. } => "redirected",
        Attempted::Answered { status: 410, .. } => "gone",
        Attempted::Answered { status: 429, .. } => "throttled",
        Attempted::Answered { status: 400..=499, .. } => "client_error",
        Attempted::Answered { .. } => "server_error",
        Attempted::Unwanted => "unwanted",
        Attempted::Unreachable { why } => match why.as_str() {
            "timeout" => "timeout",
            "worker_lost" => "worker_lost",
            "address_refused" | "url_refused" => "refused",
            _ => "unreachable",
        },
    }
}
