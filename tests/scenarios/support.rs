//! An installation for one scenario: a private Redis, a store, an ingress on a free port, and keys to call it with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use domain::credential::{ApiKey, Reach, Scope, SigningKey as RegisteredKey, token, token_hash};
use domain::id::{ApiKeyId, Mode, PartyId};
use payrelay::ingress::{self, Ingress};
use providers::Providers;
use providers::jws::{Algorithm, SigningKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use workers::circuit;
use workers::egress::{self, Egress};
use workers::execute::{self, Payouts};
use workers::fence::Fence;
use workers::metrics::Metrics;
use workers::queue::Turn;
use workers::record::{Recorder, Rules};
use workers::relay::{RelayContext, RelaySettings, relay};
use workers::store::batches::ExpandLane;
use workers::store::lanes::{ExecuteLane, Lane, RelayLanes, SettleLane};
use workers::store::replays::ReplayLane;
use workers::store::schedules::ScheduleLane;
use workers::store::vault::Vault;
use workers::store::{self, Store, StoreError};
use workers::{batch, queue, replay, schedule, settle};

pub(crate) const PEPPER: &str = "a pepper for scenarios only";

/// Where a server keeps its log.
const LOG: &str = "appendonlydir";

/// A private server, ended with the test. Data and socket are in a directory of its own.
pub(crate) struct Redis {
    child: Child,
    directory: tempfile::TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let child = Self::spawn(directory.path());
        let redis = Self { child, directory };
        redis.wait_for_socket();
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Ends the server without warning, by its own process id.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.socket());
    }

    /// Starts it again on the same data.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = Self::spawn(self.directory.path());
        self.wait_for_socket();
    }

    /// Copies what is on its disk.
    pub(crate) fn back_up(&self) -> tempfile::TempDir {
        let backup = tempfile::tempdir().expect("a temporary directory");
        copy(&self.directory.path().join(LOG), backup.path());
        backup
    }

    /// Puts a copy back and starts again: what was written since is forgotten.
    pub(crate) fn restore(&mut self, backup: &tempfile::TempDir) {
        self.kill();
        let log = self.directory.path().join(LOG);
        std::fs::remove_dir_all(&log).expect("the server has written");
        std::fs::create_dir(&log).expect("a directory");
        copy(backup.path(), &log);
        self.restart();
    }

    /// Says to the server what no store would: to look behind it, and to damage what it has written. Answers with the server's own text.
    pub(crate) fn say(&self, words: &[&str]) -> String {
        say(&self.socket(), words)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    fn spawn(directory: &Path) -> Child {
        let server = server();
        let words = ["--port", "0", "--unixsocket", "redis.sock", "--dir", ".", "--appendonly", "yes", "--appendfsync", "always", "--save", ""];
        let command = Command::new(&server)
            .current_dir(directory)
            .args(words)
            .args(["--maxmemory-policy", "noeviction", "--logfile", "redis.log"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        command.unwrap_or_else(|error| panic!("{} does not start: {error}; `make setup` installs a server", server.display()))
    }

    /// The socket is there a moment after the process is.
    #[expect(clippy::disallowed_methods, reason = "before the runtime has anything to do")]
    fn wait_for_socket(&self) {
        for _ in 0..1_000 {
            if std::os::unix::net::UnixStream::connect(self.socket()).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server does not listen");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).expect("a directory") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("it is copied");
    }
}

/// As [`Redis::say`], to any server.
pub(crate) fn say(socket: &Path, words: &[&str]) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("the server listens");
    let mut text = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| text.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    stream.write_all(text.as_bytes()).expect("it listens");
    let mut answer = vec![0; 65_536];
    let read = stream.read(&mut answer).expect("it answers");
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(!answer.starts_with('-'), "{words:?}: {answer}");
    answer
}

/// `PAYRELAY_REDIS_SERVER`, else the first of the usual names in the `PATH` and where `make setup` puts one.
fn server() -> PathBuf {
    if let Some(server) = std::env::var_os("PAYRELAY_REDIS_SERVER") {
        return server.into();
    }
    let mut places: Vec<PathBuf> = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    places.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"));
    let candidates = places.iter().flat_map(|place| ["redis-server", "valkey-server"].map(|name| place.join(name)));
    candidates.into_iter().find(|server| server.is_file()).expect("a redis-server or valkey-server; `make setup` installs one")
}

/// How an installation differs from the usual one.
pub(crate) struct Plan {
    /// Replaces fields of `[ingress]`.
    pub(crate) ingress: Value,
    /// Whether live keys are served.
    pub(crate) live: bool,
    pub(crate) providers: providers::Settings,
    pub(crate) egress: egress::Settings,
    /// The longest time for one call of the store.
    pub(crate) store_deadline_ms: u64,
    /// The installation's keys for webhooks.
    pub(crate) signing_keys: workers::relay::keys::SigningKeys,
    pub(crate) portal: payrelay::portal::Settings,
}

impl Default for Plan {
    fn default() -> Self {
        let providers = providers::Settings { truelayer_test: Some(truelayer("http://127.0.0.1:9")), ..providers::Settings::default() };
        Self {
            ingress: json!({}),
            live: true,
            providers,
            egress: egress::Settings::default(),
            store_deadline_ms: 2_000,
            signing_keys: workers::relay::keys::SigningKeys::default(),
            portal: payrelay::portal::Settings::default(),
        }
    }
}

/// Settings of an account at a provider that is at `base`, or nowhere.
pub(crate) fn truelayer(base: &str) -> providers::truelayer::Settings {
    let key = SigningKey::generate("our-key", Algorithm::Es512).expect("a key");
    let pem = secrecy::ExposeSecret::expose_secret(&key.to_pem().expect("a key")).to_owned();
    serde_json::from_value(json!({
        "base_url": base,
        "auth_url": base,
        "client_id": "client",
        "client_secret": "secret",
        "kid": "our-key",
        "private_key_pem": pem,
        "jku": [format!("{base}/.well-known/jwks")],
    }))
    .expect("settings")
}

/// What a scenario runs against.
pub(crate) struct Installation {
    pub(crate) redis: Redis,
    pub(crate) store: Store,
    pub(crate) recorder: Recorder,
    pub(crate) schedules: schedule::Rules,
    pub(crate) deposits: workers::deposit::Settings,
    pub(crate) egress: egress::Settings,
    pub(crate) relay: RelaySettings,
    pub(crate) url: String,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<anyhow::Result<()>>,
    pub(crate) http: reqwest::Client,
}

impl Installation {
    pub(crate) async fn start() -> Self {
        Self::with(Plan::default()).await
    }

    pub(crate) async fn with(plan: Plan) -> Self {
        let redis = Redis::start();
        let settings = store::Settings { url: redis.url(), prefix: "t:".to_owned(), shards: 4, connections: 2, deadline_ms: plan.store_deadline_ms };
        let vault = Vault::new(&BTreeMap::from([(1, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into())]), 1).expect("a vault");
        let store = Store::open(&settings, vault).await.expect("a store");
        let meter = opentelemetry::global::meter("scenarios");
        let providers = Arc::new(Providers::new(&plan.providers).expect("providers"));
        let rules = Rules {
            redispatch_first_ms: 1_000,
            redispatch_cap_ms: 60_000,
            dispatch_bound_ms: 3_600_000,
            check_every_ms: 5_000,
            references_kept_days: 400,
            batches_kept_days: 30,
            history_days: 31,
        };
        let mut settings = json!({ "key_pepper": PEPPER, "key_cache_ms": 100 });
        for (name, value) in plan.ingress.as_object().into_iter().flatten() {
            settings[name] = value.clone();
        }
        let mut settings: ingress::Settings = serde_json::from_value(settings).expect("settings");
        settings.live = plan.live;
        settings.signing_keys = plan.signing_keys;
        settings.portal = plan.portal;
        let recorder = Recorder::new(store.clone(), providers, Metrics::new(&meter), settings.gate(), &rules);
        let shutdown = CancellationToken::new();
        let calendars = payrelay::config::Config::read(None, []).expect("the defaults").calendars.read().expect("calendars");
        let schedules = schedule::Rules {
            settings: schedule::Settings { retry_ms: 600_000, look_again_ms: 86_400_000 },
            calendars: calendars.clone(),
            routes: settings.routes.clone(),
        };
        let relay = RelaySettings { signing_keys: settings.signing_keys.clone(), ..RelaySettings::default() };
        let ingress = Ingress::new(recorder.clone(), Egress::new(&plan.egress), calendars, settings, &meter, shutdown.clone()).expect("an ingress");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(async move { ingress::serve(listener, &ingress).await });
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self {
            redis,
            store,
            recorder,
            schedules,
            deposits: workers::deposit::Settings::default(),
            egress: plan.egress,
            relay,
            url,
            shutdown,
            serving,
            http,
        }
    }

    /// Settles the notices that are due.
    pub(crate) async fn settle(&self) {
        for shard in self.store.shards().all() {
            let lane = SettleLane(Lane { store: self.store.clone(), shard, lease: Duration::from_secs(30) });
            queue::turn(&lane, &self.by_hand("settle"), &self.worker(), settle::settle).await.expect("a turn");
        }
    }

    /// Does what is due for dispatch.
    pub(crate) async fn execute(&self) {
        for shard in self.store.shards().all() {
            let lane = ExecuteLane(Lane { store: self.store.clone(), shard, lease: Duration::from_secs(30) });
            queue::turn(&lane, &self.by_hand("execute"), &self.worker(), execute::execute).await.expect("a turn");
        }
    }

    /// Delivers until nothing is due; says how many attempts there were.
    pub(crate) async fn deliver(&self) -> usize {
        let context = Arc::new(RelayContext::new(self.store.clone(), Egress::new(&self.egress), &self.relay));
        let settings = queue::Settings { concurrency: 64, batch: 64, handler_deadline: Duration::from_secs(20), ..self.by_hand("relay") };
        let mut did = 0;
        for shard in self.store.shards().all() {
            let lane = Lane { store: self.store.clone(), shard, lease: Duration::from_secs(30) };
            let lanes = RelayLanes::new(lane, context.per_subscription(), 64);
            while let Turn::Did(jobs) = queue::turn(&lanes, &settings, &context, relay).await.expect("a turn") {
                did += jobs;
            }
        }
        did
    }

    /// Does one turn of each replay that is due.
    pub(crate) async fn replay(&self) {
        let context = Arc::new(RelayContext::new(self.store.clone(), Egress::new(&self.egress), &self.relay));
        for shard in self.store.shards().all() {
            let lane = ReplayLane(Lane { store: self.store.clone(), shard, lease: Duration::from_secs(30) });
            queue::turn(&lane, &self.by_hand("replay"), &context, replay::replay).await.expect("a turn");
        }
    }

    /// Opens one page of each batch that is due; says how many there were.
    pub(crate) async fn expand(&self) -> Result<usize, StoreError> {
        let mut did = 0;
        for shard in self.store.shards().all() {
            let lane = ExpandLane(Lane { store: self.store.clone(), shard, lease: Duration::from_secs(30) });
            if let Turn::Did(pages) = queue::turn(&lane, &self.by_hand("expand"), &self.worker(), batch::expand).await? {
                did += pages;
            }
        }
        Ok(did)
    }

    /// Looks at the schedules that are due; says how many there were.
    pub(crate) async fn look_at_schedules(&self) -> usize {
        let mut did = 0;
        for shard in self.store.shards().all() {
            let lane = ScheduleLane(Lane { store: self.store.clone(), shard, lease: Duration::from_secs(30) });
            if let Turn::Did(looks) = queue::turn(&lane, &self.by_hand("schedule"), &self.worker(), schedule::look).await.expect("a turn") {
                did += looks;
            }
        }
        did
    }

    pub(crate) fn worker(&self) -> Arc<Payouts> {
        let limits = execute::Settings {
            send_window_ms: 1_000,
            look_ms: 800,
            group_look_ms: 1_000,
            call_ms: 2_000,
            leases_max: 5,
            group_hold_ms: 0,
            suspect_looks_per_s: 1_000,
        };
        let circuit = circuit::Settings { failures: 10, wait_first_ms: 1_000, wait_cap_ms: 1_000 };
        let (recorder, schedules) = (self.recorder.clone(), self.schedules.clone());
        Arc::new(Payouts {
            recorder,
            fence: Fence::open(None).expect("a fence"),
            settings: limits,
            circuit,
            schedules,
            deposits: self.deposits.clone(),
        })
    }

    fn by_hand(&self, name: &'static str) -> queue::Settings {
        let second = Duration::from_secs(1);
        let (handler_deadline, panic_backoff) = (Duration::from_secs(10), second);
        queue::Settings { name, concurrency: 1, batch: 10, tick: second, handler_deadline, panic_backoff, drain: second }
    }

    /// A key of a party in test mode, with every scope and no duty to sign.
    pub(crate) async fn caller(&self, party: &str) -> Caller {
        self.caller_with(|key| key.reach = Reach::Party(PartyId::parse(party).expect("a party"))).await
    }

    /// A key that may do everything and need not sign, but for what `change` changes.
    pub(crate) async fn caller_with(&self, change: impl FnOnce(&mut ApiKey)) -> Caller {
        let mut key = api_key(&self.store);
        change(&mut key);
        let token = token(key.mode, random());
        self.store.put_key(&token_hash(PEPPER.as_bytes(), &token), &key).await.expect("a key is stored");
        Caller { http: self.http.clone(), url: self.url.clone(), token, key }
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.serving.abort();
    }
}

/// A key that may do everything and need not sign.
pub(crate) fn api_key(store: &Store) -> ApiKey {
    ApiKey {
        id: ApiKeyId::new(random()),
        mode: Mode::Test,
        owner: "somebody".to_owned(),
        reach: Reach::Platform,
        scopes: Scope::ALL.into_iter().collect(),
        must_sign: false,
        signing_keys: Vec::new(),
        created_at: store.clock().now(),
        revoked_at: None,
    }
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("random bytes");
    bytes
}

/// A key to sign with, and its public half as an API key registers it.
pub(crate) fn signing_key(kid: &str) -> (SigningKey, RegisteredKey) {
    let key = SigningKey::generate(kid, Algorithm::Es512).expect("a key");
    let public_key_pem = key.verifying_key().and_then(|public| public.to_pem()).expect("a public key");
    (key, RegisteredKey { kid: kid.to_owned(), public_key_pem })
}

/// A transaction id that nobody else has.
pub(crate) fn transaction() -> String {
    uuid::Uuid::from_bytes(random()).to_string()
}

/// The body of seed 003.
pub(crate) fn payout(transaction_id: &str) -> Value {
    json!({
        "transaction_id": transaction_id,
        "beneficiary_name": "John Smith",
        "beneficiary_iban": "GB33BUKB20201555555555",
        "beneficiary_reference": "Withdrawal 204",
        "currency": "GBP",
        "amount_in_minor": 10000,
        "context_code": "withdrawal",
    })
}

/// Somebody with an API key.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) key: ApiKey,
}

impl Caller {
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(self.request(reqwest::Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(self.request(reqwest::Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_bytes(path, body.to_string(), &[]).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request(reqwest::Method::PATCH, path).header("content-type", "application/json").body(body.to_string())).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send_bytes(reqwest::Method::PUT, path, body.to_string(), &[]).await
    }

    /// A JSON body as it is, with more headers.
    pub(crate) async fn post_bytes(&self, path: &str, body: impl Into<reqwest::Body>, headers: &[(&str, &str)]) -> Reply {
        self.send_bytes(reqwest::Method::POST, path, body, headers).await
    }

    pub(crate) async fn send_bytes(&self, method: reqwest::Method, path: &str, body: impl Into<reqwest::Body>, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.request(method, path).header("content-type", "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        Reply::of(request).await
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
    /// `null` where the body is no JSON.
    pub(crate) json: Value,
}

impl Reply {
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, text, json }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// The last part of the `type` of a problem document.
    pub(crate) fn problem(&self) -> &str {
        let is_problem = self.header("content-type") == Some("application/problem+json");
        assert!(
            is_problem && self.json["status"] == self.status && self.json["instance"] == self.header("x-request-id").unwrap_or_default(),
            "{self:?}"
        );
        self.json["type"].as_str().and_then(|kind| kind.strip_prefix("urn:payrelay:problem:")).unwrap_or_else(|| panic!("{self:?}"))
    }

    /// The pointer or parameter and the code of each error that a problem lists.
    pub(crate) fn errors(&self) -> Vec<(&str, &str)> {
        let listed = self.json["errors"].as_array().into_iter().flatten();
        listed
            .map(|error| {
                let place = error.get("pointer").or_else(|| error.get("parameter"));
                (place.and_then(Value::as_str).unwrap_or_default(), error["code"].as_str().unwrap_or_default())
            })
            .collect()
    }
}

/// Everything that is logged on this thread, spans with their fields included.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

/// With a single dispatcher in the process, `tracing` asks the thread that comes by a call site first, and that may be another test's, which has none.
static SECOND: std::sync::LazyLock<tracing::Dispatch> = std::sync::LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));

impl Log {
    pub(crate) fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        std::sync::LazyLock::force(&SECOND);
        let log = self.clone();
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(move || log.clone()).finish()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("nobody panicked").clone()).expect("text")
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
