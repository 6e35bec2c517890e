//! One trace per payout: the request's `traceparent` travels in the record, and whatever is done for the payout later goes on with it.

use std::collections::HashMap;

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";

/// A `traceparent` and no other header.
struct Carrier<'a>(&'a str);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// Makes a span part of the trace that a W3C `traceparent` names. Costs nothing where spans are not recorded.
pub fn continues(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent.filter(|_| !span.is_disabled()) else { return };
    let context = TraceContextPropagator::new().extract(&Carrier(traceparent));
    if context.span().span_context().is_valid() {
        // Fails only where no OpenTelemetry layer is installed, and then there is no trace to be part of.
        let _ = span.set_parent(context);
    }
}

/// The `traceparent` of a span, if it is recorded.
#[must_use]
pub fn traceparent(span: &Span) -> Option<String> {
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT)
}
