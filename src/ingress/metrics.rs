//! What the ingress counts. Labels are bounded: routes by their pattern, statuses, providers; never an id.

use std::time::Duration;

use axum::http::StatusCode;
use domain::id::Mode;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

/// Counters and histograms of the ingress.
pub struct Metrics {
    duration: Histogram<f64>,
    shed: Counter<u64>,
    notices: Counter<u64>,
}

impl Metrics {
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let metrics = Self {
            duration: meter
                .f64_histogram("payrelay_http_request_duration_seconds")
                .with_unit("s")
                .with_description("Requests to the ingress, by route, method and status")
                .build(),
            shed: meter.u64_counter("payrelay_http_shed_total").with_description("Requests refused because too many were under way").build(),
            notices: meter.u64_counter("payrelay_notices_total").with_description("Providers' webhooks by what became of them").build(),
        };
        // 0 from the start: a counter that has never counted is not shown, and an alert would wait for it in vain.
        metrics.shed.add(0, &[]);
        metrics
    }

    /// A request was answered.
    pub fn served(&self, route: &str, method: &str, status: StatusCode, took: Duration) {
        // Anybody can invent methods; only those that a route can have are told apart.
        let method = ["GET", "HEAD", "POST", "DELETE"].into_iter().find(|known| *known == method).unwrap_or("other");
        let labels = [KeyValue::new("route", route.to_owned()), KeyValue::new("method", method), KeyValue::new("status", i64::from(status.as_u16()))];
        self.duration.record(took.as_secs_f64(), &labels);
    }

    /// A request found no room.
    pub fn shed(&self) {
        self.shed.add(1, &[]);
    }

    /// A provider's webhook was dealt with.
    pub fn notice(&self, provider: &'static str, mode: Mode, outcome: &'static str) {
        self.notices.add(1, &[KeyValue::new("provider", provider), KeyValue::new("mode", mode.as_str()), KeyValue::new("outcome", outcome)]);
    }
}
