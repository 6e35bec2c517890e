//! `payrelay dev`: a whole installation on this machine, and with `--demo` some payouts that travel through it while one watches.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use domain::fact::Provider;
use http::{Method, StatusCode};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use providers::sandbox::mood::Mood;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::store::private_server::Fsync;

use crate::local::{Local, Plan, order};
use crate::run::{Role, Watch};
use crate::subscriber::Received;

/// How long the payouts of the demo may take together.
const PATIENCE: Duration = Duration::from_secs(90);

/// A payout of the demo.
struct Scene {
    title: &'static str,
    provider: Provider,
    mood: Mood,
    /// The event that ends it.
    ends_with: &'static str,
    /// How often the same request is sent.
    sent: usize,
}

const fn scene(title: &'static str, mood: Mood, ends_with: &'static str, sent: usize) -> Scene {
    Scene { title, provider: Provider::Truelayer, mood, ends_with, sent }
}

const fn at(title: &'static str, provider: Provider, ends_with: &'static str) -> Scene {
    Scene { title, provider, mood: Mood::Plain, ends_with, sent: 1 }
}

const SCENES: [Scene; 9] = [
    scene("settles", Mood::Plain, "payout.completed", 1),
    scene("loses its answer", Mood::LostAnswer, "payout.completed", 1),
    scene("is rejected", Mood::Reject, "payout.failed", 1),
    scene("is returned", Mood::Return, "payout.returned", 1),
    scene("is sent twice", Mood::DuplicateNotices, "payout.completed", 2),
    at("at truelayer-v3", Provider::TruelayerV3, "payout.completed"),
    at("at worldpay-account", Provider::WorldpayAccount, "payout.completed"),
    // Without keys for events, Worldpay tells of a basic disbursement only that it was taken.
    at("at worldpay-card", Provider::WorldpayCard, "payout.authorised"),
    at("at mollie", Provider::Mollie, "payout.completed"),
];

/// What `dev` is asked to do.
#[derive(Clone)]
pub struct Options {
    /// Send the payouts of the demo.
    pub demo: bool,
    /// Keep running afterwards.
    pub stay: bool,
    /// Use this store instead of a private server.
    pub redis_url: Option<String>,
    /// More configuration, in TOML, of keys that the local installation does not set itself.
    pub more: String,
    /// For `/metrics`.
    pub watch: Option<Watch>,
}

#[derive(serde::Serialize)]
struct Report {
    payouts: usize,
    requests: usize,
    webhooks_verified: u64,
    webhooks_refused: u64,
    double_payments: u64,
    seconds: f64,
    scenes: Vec<SceneReport>,
}

#[derive(serde::Serialize)]
struct SceneReport {
    title: &'static str,
    provider: &'static str,
    transaction_id: Uuid,
    status: String,
    events: Vec<String>,
    /// How often money left for it, by the books of its provider.
    movements: u32,
}

/// Starts the installation, shows what was asked for, and ends with it, or with `stop`.
///
/// # Errors
/// It does not start, or the demo did not go as it should.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("payrelay-").tempdir()?;
    let listen = if std::net::TcpListener::bind("127.0.0.1:8080").is_ok() && !options.demo { "127.0.0.1:8080" } else { "127.0.0.1:0" };
    let plan = Plan {
        folder: folder.path(),
        redis_url: options.redis_url,
        fsync: Fsync::Always,
        listen,
        more: &options.more,
        providers: &Provider::ALL,
        sandbox: |settings| {
            let settings = &mut settings.truelayer;
            settings.authorise_after_ms = 150;
            settings.submit_after_ms = 250;
            settings.settle_after_ms = 350;
            settings.behaviour.return_after_ms = 600;
        },
        role: Some(Role::All),
    };
    let local = Local::start_watched(plan, options.watch).await?;
    println!("payrelay   {}", local.caller.base());
    if let Some(listening) = local.listening {
        println!("operators  http://{}/metrics", listening.admin);
    }
    println!("sandboxes  {}", local.sandbox_url);
    println!("subscriber {}", local.subscriber_url);
    println!("store      {}\n", local.config.redis.url);
    let mut told = local.subscriber.tell();
    local.subscribe(&["*"]).await?;

    let report = if options.demo { Some(show(&local, &mut told).await?) } else { None };
    print_commands(&local, report.as_ref(), options.stay || !options.demo);
    if options.stay || !options.demo {
        if local.config.portal.enabled {
            let wish = json!({ "access": "manage" });
            let link = local.caller.expect(Method::POST, "/v1/portal-links", Some(&wish)).await?;
            println!("\nportal     {}  (opens once, within 15 minutes)", link["result"]["url"].as_str().context("the address of a link")?);
        }
        println!("\nrunning until Ctrl-C, which leaves nothing behind; each webhook is shown when it has arrived and its signature was verified\n");
        while let Some(Some(received)) = stop.run_until_cancelled(told.recv()).await {
            println!("webhook    {:<28} {} #{}  {}", received.kind, received.transaction, received.sequence, received.status);
        }
    }
    local.stop().await?;
    if let Some(report) = report {
        std::fs::create_dir_all("target")?;
        std::fs::write(Path::new("target/demo.json"), serde_json::to_string_pretty(&report)? + "\n").context("writing target/demo.json")?;
        println!("\ndemo: {} payouts, {} webhooks verified, {} double payments", report.payouts, report.webhooks_verified, report.double_payments);
        ensure!(report.double_payments == 0, "a payout was paid twice");
        ensure!(report.webhooks_refused == 0, "a webhook did not verify");
    }
    Ok(())
}

/// Sends the payouts and follows them to their ends.
async fn show(local: &Local, told: &mut UnboundedReceiver<Received>) -> anyhow::Result<Report> {
    // A new subscription's URL may have been asked before it could know the secret.
    let (began, refused) = (Instant::now(), local.subscriber.refused());
    let screen = Screen::new();
    let mut ids = BTreeMap::new();
    for (place, scene) in SCENES.iter().enumerate() {
        let id = Uuid::new_v4();
        for n in 0..scene.sent {
            let answer = local.caller.call(Method::POST, "/v1/payouts", Some(&order(scene.provider, id, scene.mood.amount()))).await?;
            if answer.status != StatusCode::ACCEPTED {
                bail!("a payout was answered {}: {}", answer.status, answer.body);
            }
            ensure!(answer.replayed == (n > 0), "the same request, sent twice, must be answered as one");
        }
        ids.insert(id.to_string(), place);
    }
    let mut events: Vec<Vec<(u32, String)>> = SCENES.iter().map(|_| Vec::new()).collect();
    let mut open = SCENES.len();
    while open > 0 {
        let left = PATIENCE.checked_sub(began.elapsed()).context("the payouts of the demo did not end in time")?;
        let received = tokio::time::timeout(left, told.recv()).await.context("the payouts of the demo did not end in time")?;
        let Some(received) = received else { bail!("the subscriber has gone") };
        let Some(place) = ids.get(&received.transaction).copied() else { continue };
        let (scene, seen) = (&SCENES[place], &mut events[place]);
        if seen.iter().any(|(sequence, _)| *sequence == received.sequence) {
            continue;
        }
        seen.push((received.sequence, received.kind.clone()));
        let ended = received.kind == scene.ends_with;
        open -= usize::from(ended);
        screen.event(place, scene, &received, ended, began.elapsed());
    }
    screen.end();

    let moved = local.sandboxes.moved();
    let mut scenes = Vec::new();
    for (id, place) in &ids {
        let seen = &events[*place];
        ensure!(seen.iter().map(|(sequence, _)| *sequence).eq(1..=u32::try_from(seen.len())?), "events of a payout came out of order: {seen:?}");
        let found = local.caller.expect(Method::GET, &format!("/v1/payouts/{id}"), None).await?;
        let payout: domain::id::PayoutId = found["result"]["payout_id"].as_str().context("a payout_id")?.parse()?;
        let scene = &SCENES[*place];
        let movements = moved.get(&(payout, scene.provider)).map_or(0, |moved| moved.out);
        ensure!(
            movements == u32::from(scene.mood != Mood::Reject),
            "{}: by the books of {}, money left {movements} times",
            scene.title,
            scene.provider.name()
        );
        scenes.push((
            *place,
            SceneReport {
                title: scene.title,
                provider: scene.provider.name(),
                transaction_id: id.parse()?,
                status: found["result"]["status"].as_str().unwrap_or_default().to_owned(),
                events: seen.iter().map(|(_, kind)| kind.clone()).collect(),
                movements,
            },
        ));
    }
    scenes.sort_by_key(|(place, _)| *place);
    Ok(Report {
        payouts: SCENES.len(),
        requests: SCENES.iter().map(|scene| scene.sent).sum(),
        webhooks_verified: local.subscriber.verified(),
        webhooks_refused: local.subscriber.refused() - refused,
        double_payments: local.sandboxes.ledger().double_movements,
        seconds: began.elapsed().as_secs_f64(),
        scenes: scenes.into_iter().map(|(_, scene)| scene).collect(),
    })
}

fn print_commands(local: &Local, report: Option<&Report>, runs: bool) {
    let base = local.caller.base();
    let token = local.unsigned.token().expose_secret();
    let new = Uuid::new_v4();
    let first = report.and_then(|report| report.scenes.get(1)).map_or(new, |scene| scene.transaction_id);
    println!("\ntry next{}:", if runs { "" } else { " (while it runs: make demo STAY=1)" });
    println!("  TOKEN={token}");
    println!(
        "  curl -s -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' {base}/v1/payouts -d '{}'",
        order(Provider::Truelayer, new, Mood::Plain.amount())
    );
    println!("  curl -s -H \"Authorization: Bearer $TOKEN\" {base}/v1/payouts/{first}");
    println!("  curl -s -H \"Authorization: Bearer $TOKEN\" {base}/v1/payouts/{first}/timeline");
    println!("  curl -s -H \"Authorization: Bearer $TOKEN\" '{base}/v1/payouts?status=settled&limit=5'");
    let batch = json!({ "batch_id": Uuid::new_v4(), "items": [order(Provider::Truelayer, Uuid::new_v4(), Mood::Plain.amount()), {}] });
    println!("  curl -s -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' {base}/v1/payouts/batches -d '{batch}'");
    println!(
        "  curl -s -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' {base}/v1/providers/truelayer/pause -d '{{\"reason\":\"a try\"}}'"
    );
    println!("  curl -s -H \"Authorization: Bearer $TOKEN\" -X POST {base}/v1/providers/truelayer/resume");
    let program = std::env::current_exe().map_or_else(|_| "payrelay".to_owned(), |path| path.display().to_string());
    let command = format!("{program} --config {} providers", local.config_file.display());
    println!("  {command} list");
    println!("  {command} pause truelayer --mode test --reason 'a try'");
    println!("  {command} resume truelayer --mode test");
    println!("  curl -s {}          # the providers, and how the amount of a payout chooses the way in which they misbehave", local.sandbox_url);
    println!("  curl -s {}/ledgers  # the providers' own books", local.sandbox_url);
}

/// The live display: a line per payout with its state, above it the events as they arrive. Plain lines where nobody watches.
struct Screen {
    bars: Option<(MultiProgress, Vec<ProgressBar>)>,
}

impl Screen {
    fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let style = ProgressStyle::with_template("{spinner} {prefix:<20} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bars = SCENES.iter().map(|scene| {
                let bar = all.add(ProgressBar::new_spinner());
                bar.set_style(style.clone());
                bar.set_prefix(scene.title);
                bar.enable_steady_tick(Duration::from_millis(80));
                bar
            });
            let bars = bars.collect();
            (all, bars)
        });
        Self { bars }
    }

    fn event(&self, place: usize, scene: &Scene, received: &Received, ended: bool, after: Duration) {
        let line = format!("{:>7.3} s  {:<20} #{} {:<28} signature verified", after.as_secs_f64(), scene.title, received.sequence, received.kind);
        match &self.bars {
            Some((all, bars)) => {
                let _ = all.println(line);
                bars[place].set_message(received.status.clone());
                if ended {
                    bars[place].finish();
                }
            }
            None => println!("{line}"),
        }
    }

    fn end(&self) {
        if let Some((_, bars)) = &self.bars {
            for bar in bars {
                bar.finish();
            }
        }
    }
}
