//! What the process tells about itself: lines on standard error, traces, metrics and logs over OTLP, and metrics for Prometheus.
//!
//! Without an OTLP endpoint nothing is sent, spans are not recorded, and counting costs an atomic addition. The exporters work on threads of their own
//! and are built and ended outside the async runtime, because their HTTP client blocks. What they and their client log never becomes an exported
//! log, or each export would cause the next.

pub mod metrics;
#[cfg(test)]
mod tests;
mod vitals;

use std::io::IsTerminal as _;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use prometheus::TextEncoder;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Metadata};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use url::Url;

pub use self::vitals::Vitals;

/// The longest time for one export.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The scope of our instruments and spans.
const SCOPE: &str = "payrelay";

/// Whose spans and logs are exported: ours. An allow-list, because whatever the exporters' HTTP client is made of must not be among them.
const EXPORTED: [&str; 4] = ["payrelay", "workers", "providers", "domain"];

/// What is told where.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is logged to standard error: a level, or levels by module.
    pub level: String,
    pub format: Format,
    /// Where OTLP over HTTP goes, without `/v1/…`. Nothing is sent without it.
    pub otlp_endpoint: Option<String>,
    pub service_name: String,
    /// The part of traces that is kept, from 0 to 1. A caller's decision for its own trace comes first.
    pub trace_ratio: f64,
    /// How often metrics are sent.
    pub metrics_interval_ms: u64,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Compact,
    /// For machines.
    Json,
}

/// Running telemetry. [`Telemetry::shutdown`] sends what has not been sent.
pub struct Telemetry {
    tracers: Option<SdkTracerProvider>,
    loggers: Option<SdkLoggerProvider>,
    meters: SdkMeterProvider,
    registry: prometheus::Registry,
    vitals: Arc<Vitals>,
}

/// What is wrong with the settings, by key. For `Config::check`.
pub(crate) fn problems(settings: &Settings) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    if let Err(error) = filter(&settings.level) {
        problems.push(("telemetry.level", format!("is not a filter such as `info` or `info,payrelay=debug`: {error}")));
    }
    if let Some(endpoint) = &settings.otlp_endpoint {
        let usable = Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !usable {
            problems.push(("telemetry.otlp_endpoint", "must be http://HOST:PORT or https://HOST:PORT".to_owned()));
        }
    }
    if !(0.0..=1.0).contains(&settings.trace_ratio) {
        problems.push(("telemetry.trace_ratio", "must be from 0.0 to 1.0".to_owned()));
    }
    if !(1_000..=300_000).contains(&settings.metrics_interval_ms) {
        problems.push(("telemetry.metrics_interval_ms", "must be from 1000 to 300000".to_owned()));
    }
    problems
}

/// Starts telemetry for the process. Once, and before anything asks for [`global::meter`].
///
/// # Errors
/// Settings that are not usable, or a subscriber that is there already.
pub fn start(settings: &Settings) -> anyhow::Result<Telemetry> {
    let (dispatch, telemetry) = build(settings, std::io::stderr)?;
    global::set_meter_provider(telemetry.meters.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    tracing::dispatcher::set_global_default(dispatch).context("telemetry runs already")?;
    Ok(telemetry)
}

/// Lines on standard error and nothing else: for commands that do one thing and end.
pub fn lines_only(level: &str) {
    let lines = tracing_subscriber::fmt::layer().compact().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let dispatch = Dispatch::new(
        tracing_subscriber::registry().with(lines.with_filter(filter(level).unwrap_or_else(|_| Targets::new().with_default(LevelFilter::WARN)))),
    );
    // Who has set up more than that keeps it.
    let _ = tracing::dispatcher::set_global_default(dispatch);
}

fn build<W>(settings: &Settings, writer: W) -> anyhow::Result<(Dispatch, Telemetry)>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let resource = Resource::builder()
        .with_service_name(settings.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", uuid::Builder::from_random_bytes(random()?).into_uuid().to_string()))
        .build();
    let address = |signal: &str| settings.otlp_endpoint.as_ref().map(|base| format!("{}/v1/{signal}", base.trim_end_matches('/')));

    let registry = prometheus::Registry::new();
    let prometheus = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        // Names, units and suffixes are as in `metrics::METRICS`.
        .without_units()
        .without_counter_suffixes()
        .without_target_info()
        .scope_info_enabled(false)
        .build()
        .context("setting up the metrics for Prometheus")?;
    let mut meters = SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(prometheus).with_view(metrics::buckets);
    if let Some(endpoint) = address("metrics") {
        let exporter =
            MetricExporter::builder().with_http().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT).build().context("exporting metrics")?;
        meters = meters.with_reader(PeriodicReader::builder(exporter).with_interval(Duration::from_millis(settings.metrics_interval_ms)).build());
    }
    let meters = meters.build();

    let tracers = address("traces").map(|endpoint| {
        let exporter =
            SpanExporter::builder().with_http().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT).build().context("exporting traces")?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.trace_ratio)));
        anyhow::Ok(SdkTracerProvider::builder().with_resource(resource.clone()).with_sampler(sampler).with_batch_exporter(exporter).build())
    });
    let tracers = tracers.transpose()?;

    let loggers = address("logs").map(|endpoint| {
        let exporter = LogExporter::builder().with_http().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT).build().context("exporting logs")?;
        anyhow::Ok(SdkLoggerProvider::builder().with_resource(resource.clone()).with_batch_exporter(exporter).build())
    });
    let loggers = loggers.transpose()?;

    let filter = filter(&settings.level).map_err(|error| anyhow!("telemetry.level is not a filter: {error}"))?;
    let lines = tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(writer);
    let lines = match settings.format {
        Format::Compact => lines.compact().with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    // A list, because an absent layer in an `Option` would count as one that wants every span.
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![lines];
    if let Some(tracers) = &tracers {
        layers.push(tracing_opentelemetry::layer().with_tracer(tracers.tracer(SCOPE)).with_filter(filter_fn(is_exported)).boxed());
    }
    if let Some(loggers) = &loggers {
        layers.push(OpenTelemetryTracingBridge::new(loggers).with_filter(filter_fn(is_exported)).boxed());
    }
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layers));
    let vitals = Vitals::new(&meters.meter(SCOPE));
    Ok((dispatch, Telemetry { tracers, loggers, meters, registry, vitals }))
}

/// Our own levels first, so that what the operator writes wins over them. Levels by module and nothing finer: a filter that looks into spans would be
/// asked at every one of them.
fn filter(level: &str) -> anyhow::Result<Targets> {
    // The parser would take a misspelt level for a module.
    for word in level.split(',').map(str::trim).filter(|word| !word.contains('=')) {
        word.parse::<LevelFilter>().map_err(|_| anyhow!("`{word}` is not a level"))?;
    }
    Ok(format!("apalis_core=warn,opentelemetry=warn,hyper=warn,reqwest=warn,rustls=warn,{level}").parse()?)
}

fn is_exported(metadata: &Metadata<'_>) -> bool {
    let package = metadata.target().split("::").next().unwrap_or_default();
    // The workers' spans are at debug, so that they cost nothing where no trace is sent: their lines name what they are about.
    let least = if metadata.is_span() { LevelFilter::DEBUG } else { LevelFilter::INFO };
    *metadata.level() <= least && EXPORTED.contains(&package)
}

fn random() -> anyhow::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("reading the system's random numbers")?;
    Ok(bytes)
}

// === impl Telemetry ===

impl Telemetry {
    /// The meter of our instruments.
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.meters.meter(SCOPE)
    }

    /// Both, for [`crate::run::run`].
    #[must_use]
    pub fn watch(&self) -> crate::run::Watch {
        crate::run::Watch { scrape: Arc::new(self.scrape()), vitals: self.vitals() }
    }

    /// Where the numbers of the store and of the lanes go.
    #[must_use]
    pub fn vitals(&self) -> Arc<Vitals> {
        self.vitals.clone()
    }

    /// Writes the metrics in Prometheus' text format, the same numbers that OTLP gets.
    pub fn scrape(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let registry = self.registry.clone();
        move || {
            let mut text = String::new();
            if let Err(error) = TextEncoder::new().encode_utf8(&registry.gather(), &mut text) {
                tracing::warn!(%error, "the metrics cannot be written");
            }
            text
        }
    }

    /// Sends what has not been sent, for `within` at most. Blocks: not for async code.
    pub fn shutdown(self, within: Duration) {
        let (done, ended) = mpsc::channel();
        let Self { tracers, loggers, meters, .. } = self;
        // A thread of its own: the exporters' own limits add up to more than `within`, and some of their calls have none.
        let spawned = std::thread::Builder::new().name("telemetry-end".to_owned()).spawn(move || {
            let mut failed = Vec::new();
            for (what, result) in [
                ("traces", tracers.map(|tracers| tracers.shutdown_with_timeout(within))),
                ("metrics", Some(meters.shutdown_with_timeout(within))),
                ("logs", loggers.map(|loggers| loggers.shutdown_with_timeout(within))),
            ] {
                if let Some(Err(error)) = result {
                    failed.push(format!("{what}: {error}"));
                }
            }
            let _ = done.send(failed);
        });
        match spawned.ok().and_then(|_| ended.recv_timeout(within).ok()) {
            Some(failed) if failed.is_empty() => {}
            Some(failed) => tracing::warn!(failed = failed.join(", "), "some telemetry was not sent"),
            None => tracing::warn!("telemetry did not end in time; its rest is lost"),
        }
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("exports", &self.tracers.is_some()).finish_non_exhaustive()
    }
}
