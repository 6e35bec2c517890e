//! What a collector gets from a real process: one trace per payout, every metric that the README names, and nothing that is nobody's business.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{self, State};
use axum::http::StatusCode;
use axum::routing::post;
use domain::fact::Provider;
use domain::signature::Secret;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use payrelay::child::{Program, Signal};
use payrelay::local::{Local, Plan};
use prost::Message;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use workers::store::private_server::Fsync;
use workers::store::reconciliations::Reconciled;

use crate::support::{Reply, payout, transaction};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a platform that traces sends along.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER_SPAN: &str = "00f067aa0ba902b7";

/// An OTLP receiver: the bodies that arrived, by signal.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<BTreeMap<String, Vec<Bytes>>>>);

impl Collector {
    async fn take(State(Self(bodies)): State<Self>, extract::Path(signal): extract::Path<String>, body: Bytes) {
        bodies.lock().unwrap().entry(signal).or_default().push(body);
    }

    fn all<M: Message + Default>(&self, signal: &str) -> Vec<M> {
        self.0.lock().unwrap().get(signal).into_iter().flatten().map(|body| M::decode(body.clone()).expect("OTLP")).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.all::<ExportTraceServiceRequest>("traces");
        requests
            .into_iter()
            .flat_map(|request| request.resource_spans)
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect()
    }

    fn metrics(&self) -> BTreeSet<String> {
        let requests = self.all::<ExportMetricsServiceRequest>("metrics");
        let scopes = requests.into_iter().flat_map(|request| request.resource_metrics).flat_map(|resource| resource.scope_metrics);
        scopes.flat_map(|scope| scope.metrics).filter(|metric| metric.data.is_some()).map(|metric| metric.name).collect()
    }
}

/// Serves on a free port for as long as the test lives.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// A port that nothing listens on, for a process that is told where to listen.
async fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// Asks again and again until there is an answer.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(text.clone()),
        Any::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

/// The metrics of the README's table.
fn documented() -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = text.split_once("<!-- metrics -->").expect("where the table begins");
    let (table, _) = rest.split_once("<!-- /metrics -->").expect("where the table ends");
    table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(ToOwned::to_owned).collect()
}

/// The value of a metric at `/metrics`, summed over its labels.
fn total(text: &str, name: &str) -> f64 {
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// Subscribes a URL to everything. Returns the secret.
async fn subscribe(local: &Local, url: &str) -> String {
    let body = json!({ "url": url, "event_types": ["*"] });
    let answer = local.caller.expect(Method::POST, "/v1/webhooks", Some(&body)).await.unwrap();
    answer["result"]["secret"].as_str().expect("the secret is shown").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_sees_one_trace_every_metric_and_no_secret() {
    let collector = Collector::default();
    let endpoint = serve(Router::new().route("/v1/{signal}", post(Collector::take)).with_state(collector.clone())).await;
    let gone = serve(Router::new().route("/", post(async || StatusCode::GONE))).await;
    let folder = tempfile::tempdir().unwrap();
    let (listen, admin) = (free_address().await, free_address().await);
    let more = format!(
        "workers.sweep_ms = 1000\n[telemetry]\notlp_endpoint = {endpoint:?}\nmetrics_interval_ms = 1000\n\
         level = \"info,payrelay=trace,workers=trace,providers=trace,domain=trace\"\n"
    );
    let plan = Plan {
        folder: folder.path(),
        redis_url: None,
        fsync: Fsync::Always,
        listen: &listen,
        more: &more,
        providers: &domain::fact::Provider::ALL,
        sandbox: |_| {},
        role: None,
    };
    let local = Local::start(plan).await.unwrap();
    // The file is read as it is by the process, but for the address of its operators.
    let config = std::fs::read_to_string(&local.config_file).unwrap();
    std::fs::write(&local.config_file, config.replace("ingress.admin_listen = \"127.0.0.1:0\"", &format!("ingress.admin_listen = {admin:?}")))
        .unwrap();
    // A process of its own: telemetry is one per process, and this one has many tests.
    let program = Program {
        path: PathBuf::from(env!("CARGO_BIN_EXE_payrelay")),
        command: "all",
        config: local.config_file.clone(),
        folder: folder.path().to_owned(),
    };
    let mut process = program.start("all", "").unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| http.get(format!("http://{admin}{path}")).send().await.ok()?.error_for_status().ok()?.text().await.ok();
    eventually("payrelay is ready", || get("/readyz")).await;

    let secrets = [subscribe(&local, &local.subscriber_url).await, subscribe(&local, &format!("{gone}/")).await];
    local.subscriber.trust(vec![Secret::parse(&secrets[0]).unwrap()]);
    let transaction = transaction();
    let mut order = payout(&transaction);
    order["beneficiary_name"] = "Zebedee Quill".into();
    order["beneficiary_reference"] = "Quillpen 7719".into();
    let token = local.unsigned.token().expose_secret();
    let request = http.post(format!("{}/v1/payouts", local.caller.base())).bearer_auth(token).header("content-type", "application/json");
    let reply = Reply::of(request.header("traceparent", format!("00-{TRACE}-{CALLER_SPAN}-01")).body(order.to_string())).await;
    assert_eq!(reply.status, 202, "{reply:?}");

    // Settled, with its webhooks acknowledged by one subscriber and refused for good by the other.
    let (path, caller) = (format!("/v1/payouts/{transaction}/timeline"), &local.caller);
    let acknowledged = |timeline: &Value| timeline["deliveries"].as_array().into_iter().flatten().filter(|one| one["status"] == "delivered").count();
    let timeline = eventually("the payout is settled and everybody told", || async {
        let answer = caller.call(Method::GET, &path, None).await.ok()?.body;
        let timeline = answer.get("result").cloned().unwrap_or(answer);
        let ended = timeline["events"].as_array().is_some_and(|events| events.iter().any(|event| event["type"] == "payout.completed"));
        (ended && acknowledged(&timeline) == timeline["events"].as_array()?.len()).then_some(timeline)
    })
    .await;
    let events = timeline["events"].as_array().unwrap().len();
    // Somebody has compared a day.
    let (provider, mode, day) = (Provider::TruelayerV3, domain::id::Mode::Test, jiff::civil::date(2026, 1, 2));
    let compared = Reconciled { provider, mode, day, at: local.store.clock().now(), matched: 0, breaks: Vec::new() };
    local.store.keep_reconciled(&compared, day).await.unwrap();
    // The same payout in a batch is a replay, which nobody is told about.
    let batch = json!({ "batch_id": crate::support::transaction(), "items": [order] });
    caller.expect(Method::POST, "/v1/payouts/batches", Some(&batch)).await.unwrap();
    let scraped = eventually("a subscription is disabled, a batch is opened, and a sweep has seen it all", || async {
        let text = get("/metrics").await?;
        let seen = total(&text, "payrelay_subscriptions_disabled_total") > 0.0 && total(&text, "payrelay_deliveries_abandoned_total") > 0.0;
        let opened = total(&text, "payrelay_batch_items_total") > 0.0;
        (seen && opened && text.contains("payrelay_lane_entries") && text.contains("payrelay_reconciliation_breaks")).then_some(text)
    })
    .await;
    process.signal(Signal::TERM).unwrap();
    let ended = process.ended(PATIENCE).await.unwrap().expect("it ends when told to");
    assert!(ended.success(), "{ended}");

    // One trace, connected, from the request to the acknowledgements.
    let spans = collector.spans();
    let ours: Vec<_> = spans.iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let ids: BTreeSet<_> = ours.iter().map(|span| hex(&span.span_id)).collect();
    let of = |name: &str| ours.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let told = || ours.iter().map(|span| format!("{} {} under {}", span.name, hex(&span.span_id), hex(&span.parent_span_id))).collect::<Vec<_>>();
    for name in ["request", "payout.execute", "provider.submit", "notice.settle", "relay.deliver"] {
        assert!(!of(name).is_empty(), "no {name} in {:#?}", told());
    }
    for span in &ours {
        let parent = hex(&span.parent_span_id);
        assert_eq!(parent == CALLER_SPAN, span.name == "request", "only the request is under the caller's span: {:#?}", told());
        assert!(parent == CALLER_SPAN || ids.contains(&parent), "{} has a parent that is not in the trace: {:#?}", span.name, told());
    }
    assert_eq!(of("request").len(), 1);
    let acknowledgements = of("relay.deliver").iter().filter(|span| attribute(span, "outcome").as_deref() == Some("acknowledged")).count();
    assert_eq!(acknowledgements, events, "{:#?}", told());
    let payout_id = attribute(of("payout.execute")[0], "payout.id").expect("an id");
    let astray: Vec<_> = spans
        .iter()
        .filter(|span| span.name != "request" && hex(&span.trace_id) != TRACE && attribute(span, "payout.id").as_ref() == Some(&payout_id))
        .map(|span| &span.name)
        .collect();
    assert!(astray.is_empty(), "work on the payout outside of its trace: {astray:?}");

    // Every metric that is documented is told, to collectors and to Prometheus.
    let (sent, names) = (collector.metrics(), documented());
    assert!(names.len() > 20, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !sent.contains(*name)).collect();
    assert!(missing.is_empty(), "not among what was sent: {missing:?}");
    let missing: Vec<_> = names.iter().filter(|name| !scraped.contains(&format!("# TYPE {name} "))).collect();
    assert!(missing.is_empty(), "not at /metrics: {missing:?}");

    // I14: nothing of the beneficiary and no secret, in no signal and no line.
    let logged = std::fs::read(program.log("all")).unwrap();
    assert!(!logged.is_empty());
    let bodies = collector.0.lock().unwrap().clone();
    assert_eq!(bodies.keys().map(String::as_str).collect::<Vec<_>>(), ["logs", "metrics", "traces"]);
    let sources = bodies.iter().flat_map(|(signal, bodies)| bodies.iter().map(move |body| (signal.as_str(), body.as_ref())));
    let sources: Vec<_> = sources.chain([("lines", logged.as_slice()), ("/metrics", scraped.as_bytes())]).collect();
    let keys = [local.caller.token(), local.unsigned.token()].map(|token| token.expose_secret());
    let webhook_secrets = secrets.iter().map(|secret| secret.trim_start_matches("whsec_"));
    let private = ["GB33BUKB20201555555555", "20201555555555", "Zebedee", "Quillpen"];
    for text in private.into_iter().chain(keys).chain(webhook_secrets) {
        for (source, bytes) in &sources {
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "{source} holds {text:?}");
        }
    }
    local.stop().await.unwrap();
}
