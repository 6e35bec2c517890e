use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::post;
use domain::fact::Provider;
use domain::id::{Mode, Shard};
use domain::payout::state::StateName;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use tokio::net::TcpListener;
use workers::reconcile::Kind;
use workers::store::accounts::Audited;
use workers::store::circuits::{Circuit, Order};
use workers::store::reconciliations::Reconciled;
use workers::store::schedules::LookedOverSchedules;
use workers::store::vitals::{LaneVitals, LookedOver};
use workers::sweep::Swept;

use super::*;

/// An OTLP receiver: what arrived, by signal.
#[derive(Clone, Default)]
struct Received(Arc<std::sync::Mutex<BTreeMap<String, Vec<Bytes>>>>);

impl Received {
    async fn listen() -> (Self, SocketAddr) {
        let received = Self::default();
        let take = async |Path(signal): Path<String>, State(Self(bodies)): State<Self>, body: Bytes| {
            bodies.lock().unwrap().entry(signal).or_default().push(body);
        };
        let router = Router::new().route("/v1/{signal}", post(take)).with_state(received.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (received, at)
    }

    fn all<M: prost::Message + Default>(&self, signal: &str) -> Vec<M> {
        let bodies = self.0.lock().unwrap();
        bodies.get(signal).into_iter().flatten().map(|body| M::decode(body.clone()).expect("OTLP")).collect()
    }
}

fn settings(endpoint: Option<String>) -> Settings {
    Settings {
        level: "off".to_owned(),
        format: Format::Compact,
        otlp_endpoint: endpoint,
        service_name: "payrelay-test".to_owned(),
        trace_ratio: 1.0,
        metrics_interval_ms: 60_000,
    }
}

async fn end(telemetry: Telemetry, within: Duration) {
    tokio::task::spawn_blocking(move || telemetry.shutdown(within)).await.unwrap();
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}

/// A span, a log line in it and a count arrive with their content, tied together, and nothing of the exporters themselves does.
#[tokio::test(flavor = "multi_thread")]
async fn spans_logs_and_metrics_arrive() {
    let (received, at) = Received::listen().await;
    let (dispatch, telemetry) = build(&settings(Some(format!("http://{at}/"))), io::sink).unwrap();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    tracing::dispatcher::with_default(&dispatch, || {
        let span = tracing::info_span!("payout.execute", payout.id = "po_1", attempt = 1);
        workers::trace::continues(&span, Some(parent));
        assert!(workers::trace::traceparent(&span).unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        span.in_scope(|| tracing::warn!(duration_ms = 12, "the provider did not answer"));
        tracing::info!(target: "hyper::client", "of the exporter itself");
        tracing::info_span!(target: "reqwest::connect", "connect").in_scope(|| ());
    });
    telemetry.meter().u64_counter("payrelay_payouts_total").build().add(3, &[KeyValue::new("state", "settled")]);
    end(telemetry, Duration::from_secs(10)).await;

    let traces = received.all::<ExportTraceServiceRequest>("traces");
    let resources: Vec<_> = traces.iter().flat_map(|request| &request.resource_spans).collect();
    let service = resources[0].resource.as_ref().unwrap().attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
    assert_eq!(text(service.value.as_ref()), "payrelay-test");
    let spans: Vec<_> = resources.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).collect();
    assert_eq!(spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["payout.execute"]);
    assert_eq!(spans[0].trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert_eq!(spans[0].parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    let id = spans[0].attributes.iter().find(|attribute| attribute.key == "payout.id").unwrap();
    assert_eq!(text(id.value.as_ref()), "po_1");

    let logs = received.all::<ExportLogsServiceRequest>("logs");
    let records: Vec<_> = logs
        .iter()
        .flat_map(|request| &request.resource_logs)
        .flat_map(|resource| &resource.scope_logs)
        .flat_map(|scope| &scope.log_records)
        .collect();
    assert_eq!(records.iter().map(|record| text(record.body.as_ref())).collect::<Vec<_>>(), ["the provider did not answer"]);
    assert_eq!(records[0].trace_id, spans[0].trace_id, "a line belongs to its trace");
    assert_eq!(records[0].span_id, spans[0].span_id);

    let metrics = received.all::<ExportMetricsServiceRequest>("metrics");
    let metrics: Vec<_> = metrics
        .iter()
        .flat_map(|request| &request.resource_metrics)
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics)
        .collect();
    let payouts = metrics.iter().find(|metric| metric.name == "payrelay_payouts_total").expect("the counter");
    assert!(format!("{payouts:?}").contains("AsInt(3)"), "{payouts:?}");
    assert!(metrics.iter().any(|metric| metric.name == "payrelay_build_info"));
}

/// `/metrics` has the names of the table, the numbers that OTLP would get, and seconds-sized buckets.
#[test]
fn prometheus_reads_the_same_meters() {
    let (_, telemetry) = build(&settings(None), io::sink).unwrap();
    let scrape = telemetry.scrape();
    let meter = telemetry.meter();
    meter.u64_counter("payrelay_payouts_total").with_description("Payouts that entered a state").build().add(2, &[KeyValue::new("state", "settled")]);
    meter.f64_histogram("payrelay_http_request_duration_seconds").with_unit("s").build().record(0.003, &[KeyValue::new("route", "/v1/payouts")]);
    let text = scrape();
    assert!(text.contains("# TYPE payrelay_payouts_total counter\npayrelay_payouts_total{state=\"settled\"} 2\n"), "{text}");
    assert!(text.contains("payrelay_http_request_duration_seconds_bucket{route=\"/v1/payouts\",le=\"0.0025\"} 0\n"), "{text}");
    assert!(text.contains("payrelay_http_request_duration_seconds_bucket{route=\"/v1/payouts\",le=\"0.005\"} 1\n"), "{text}");
    assert!(text.contains(&format!("payrelay_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"))), "{text}");
    assert!(!cfg!(target_os = "linux") || text.contains("payrelay_process_memory_bytes"), "{text}");
    assert!(!text.contains("payrelay_lane_entries"), "what nobody has looked at is not reported as 0");
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let metric = metrics::named(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(kind, format!("{:?}", metric.kind).to_lowercase(), "{name}");
    }
}

fn swept(shard: u8, ended: bool, states: &[(StateName, u64, u64)], due_ms: u64) -> Swept {
    let mut looked_over = LookedOver::default();
    (looked_over.ended, looked_over.states) = (ended, states.to_vec());
    let vitals = workers::store::vitals::Vitals {
        lanes: vec![LaneVitals { lane: "poll", entries: 4, oldest_due_ms: due_ms }],
        abandoned: 1,
        circuits: vec![circuit(shard == 1)],
        reconciled: vec![reconciled(1, 9), reconciled(2, 4)],
        memory_bytes: 1 << 20,
        ..Default::default()
    };
    Swept {
        shard: Shard::new(shard),
        vitals,
        looked_over,
        audited: Audited { imbalance: -5, overdrawn: 1, unmatched: 0 },
        schedules: LookedOverSchedules { overdue_ms: 90_000, ..LookedOverSchedules::default() },
        batch_age_ms: 0,
        batches_repaired: 0,
    }
}

/// A day in January, compared so many seconds before the sweep.
fn reconciled(day: i8, ago_s: i64) -> Reconciled {
    let at = jiff::Timestamp::UNIX_EPOCH - jiff::SignedDuration::from_secs(ago_s);
    let (provider, mode, day) = (Provider::Mollie, Mode::Test, jiff::civil::date(1970, 1, day));
    Reconciled { provider, mode, day, at, matched: 5, breaks: vec![(Kind::MissingHere, 3)] }
}

fn circuit(paused: bool) -> Circuit {
    let at = jiff::Timestamp::UNIX_EPOCH;
    let paused = paused.then(|| Order { by: "somebody".to_owned(), reason: None, at });
    let (provider, mode) = (Provider::Mollie, Mode::Test);
    Circuit { provider, mode, paused, resumed: None, tripped: None, failures: 0, last_lease: None, held: 7 }
}

/// Numbers of several shards are added up, or the worst counts; open payouts are read in pages and reported when the round is complete.
#[test]
fn what_a_sweep_found_becomes_metrics() {
    let (_, telemetry) = build(&settings(None), io::sink).unwrap();
    let (scrape, vitals) = (telemetry.scrape(), telemetry.vitals());
    vitals.observe(&swept(0, false, &[(StateName::Inconclusive, 2, 9_000)], 1_500));
    vitals.observe(&swept(1, true, &[(StateName::Inconclusive, 1, 4_000)], 2_500));
    let text = scrape();
    for line in [
        "payrelay_lane_entries{lane=\"poll\"} 8",
        "payrelay_lane_oldest_due_seconds{lane=\"poll\"} 2.5",
        "payrelay_provider_circuit{mode=\"test\",provider=\"mollie\",state=\"paused\"} 1",
        "payrelay_provider_circuit{mode=\"test\",provider=\"mollie\",state=\"closed\"} 0",
        "payrelay_held_payouts{mode=\"test\",provider=\"mollie\"} 14",
        "payrelay_abandoned_deliveries 2",
        "payrelay_ledger_imbalance 10",
        // Of both days, and not of both shards.
        "payrelay_reconciliation_breaks{kind=\"missing_here\",mode=\"test\",provider=\"mollie\"} 6",
        "payrelay_reconciliation_breaks{kind=\"twice_there\",mode=\"test\",provider=\"mollie\"} 0",
        "payrelay_reconciliation_age_seconds{mode=\"test\",provider=\"mollie\"} 4",
        "payrelay_ledger_overdrawn_accounts 2",
        "payrelay_frozen_shards 0",
        "payrelay_store_memory_bytes 1048576",
        "payrelay_work_repaired_total 0",
        // The first shard's round is not complete.
        "payrelay_open_payouts{state=\"inconclusive\"} 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("payrelay_config_disagreements"), "nobody has compared anything yet");
    vitals.observe(&swept(0, true, &[(StateName::Inconclusive, 3, 1_000), (StateName::InReview, 1, 60_000)], 0));
    vitals.compared(&["calendars", "ingress.limits"].map(|section| (section.to_owned(), Vec::new())).into());
    let text = scrape();
    for line in [
        "payrelay_config_disagreements 2",
        "payrelay_open_payouts{state=\"inconclusive\"} 6",
        "payrelay_open_payout_age_seconds{state=\"inconclusive\"} 9",
        "payrelay_open_payout_age_seconds{state=\"in_review\"} 60",
        "payrelay_open_payouts{state=\"submitted\"} 0",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("state=\"settled\""), "a payout that has ended is not open");
}

/// A collector that takes connections and never answers costs a stop no more than it was given.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_collector_does_not_hold_up_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dispatch, telemetry) = build(&settings(Some(format!("http://{}", silent.local_addr().unwrap()))), io::sink).unwrap();
    tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("payout.execute").in_scope(|| tracing::info!("on its way")));
    let begin = Instant::now();
    end(telemetry, Duration::from_millis(300)).await;
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn without_an_endpoint_no_span_is_recorded() {
    let (dispatch, telemetry) = build(&settings(None), io::sink).unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        let span = tracing::info_span!("payout.execute");
        assert_eq!(workers::trace::traceparent(&span), None, "there is no trace to pass on");
    });
    telemetry.shutdown(Duration::from_secs(1));
}

/// Lines as machines read them: one JSON object each, with the message and the fields.
#[test]
fn lines_for_machines_are_json() {
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);
    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let settings = Settings { level: "info".to_owned(), format: Format::Json, ..settings(None) };
    let (dispatch, _telemetry) = build(&settings, move || writer.clone()).unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info!(payout.id = "po_1", "started");
        tracing::debug!("not of this level");
        tracing::info!(target: "hyper", "not ours");
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.trim()).expect("one line, JSON");
    assert_eq!((&line["message"], &line["payout.id"], &line["level"]), (&"started".into(), &"po_1".into(), &"INFO".into()));
}
