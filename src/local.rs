//! A whole installation on this machine, for trying out, measuring and breaking: a private store, the sandboxes of all providers, a subscriber, keys, and a
//! configuration that joins them. Every port is picked by the system and on loopback.

mod accounts;
mod order;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::credential::{ApiKey, Reach, Scope, token, token_hash};
use domain::fact::Provider;
use domain::id::{ApiKeyId, Mode};
use domain::signature::Secret;
use http::Method;
use providers::Providers;
use providers::jws::{Algorithm, SigningKey};
use providers::sandbox::all::{self, All};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use workers::store::Store;
use workers::store::private_server::{Fsync, PrivateServer};

pub(crate) use self::accounts::Accounts;
pub use self::order::order;
use crate::caller::Caller;
use crate::config::Config;
use crate::run::{self, Listening, Role, Watch};
use crate::subscriber::Subscriber;

/// How long whoever looks on waits for the store at least, in ms.
const ONLOOKER_MS: u64 = 2_000;
const CALLER_KID: &str = "5f0ee2a3-3c55-4f6c-9a0e-6f6c1b0d6a02";

/// What a local installation is made of.
pub struct Plan<'a> {
    /// For data, the fence and the configuration file; must exist.
    pub folder: &'a Path,
    /// The store to use; without one a private server is started.
    pub redis_url: Option<String>,
    pub fsync: Fsync,
    /// Where the ingress listens; port 0 lets the system choose, where this process has a role.
    pub listen: &'a str,
    /// More configuration, in TOML: dotted keys (`redis.deadline_ms = 500`) that the generated file does not have, then whole sections.
    pub more: &'a str,
    /// The providers at which the installation has accounts. Every sandbox runs, whoever uses it.
    pub providers: &'a [Provider],
    /// Changes what the sandboxes are like.
    pub sandbox: fn(&mut all::Settings),
    /// What this process does itself, if anything; other processes can be started with [`Local::config_file`].
    pub role: Option<Role>,
}

/// A running installation. Ends when dropped; [`Local::stop`] ends it in order.
pub struct Local {
    pub server: Option<PrivateServer>,
    pub sandboxes: All,
    /// Where the sandboxes are, with a page that lists them.
    pub sandbox_url: String,
    pub config: Config,
    /// What is known of the providers at which there are accounts.
    pub providers: Providers,
    /// The same configuration, for other processes.
    pub config_file: PathBuf,
    /// Where this process listens, if it has a role.
    pub listening: Option<Listening>,
    /// For whoever looks on. It waits longer for an answer than the processes of an impatient installation do.
    pub store: Store,
    pub subscriber: Subscriber,
    pub subscriber_url: String,
    /// Holds a platform key that must sign.
    pub caller: Caller,
    /// A platform key without that duty.
    pub unsigned: Caller,
    accounts: Accounts,
    stop: CancellationToken,
    stop_last: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
}

impl Local {
    /// Starts everything and waits until it listens.
    ///
    /// # Errors
    /// Whatever could not be started.
    pub async fn start(plan: Plan<'_>) -> anyhow::Result<Self> {
        Self::start_watched(plan, None).await
    }

    /// As [`Local::start`], with `/metrics` for what this process does itself.
    ///
    /// # Errors
    /// Whatever could not be started.
    pub async fn start_watched(plan: Plan<'_>, watch: Option<Watch>) -> anyhow::Result<Self> {
        let data = plan.folder.join("redis");
        std::fs::create_dir_all(&data)?;
        let fsync = plan.fsync;
        let server =
            if plan.redis_url.is_none() { Some(tokio::task::spawn_blocking(move || PrivateServer::start(&data, fsync)).await??) } else { None };
        let url = server.as_ref().map(PrivateServer::url).or_else(|| plan.redis_url.clone()).unwrap_or_default();

        let sandbox_listener = TcpListener::bind("127.0.0.1:0").await?;
        let sandbox_url = format!("http://{}", sandbox_listener.local_addr()?);
        let accounts = Accounts::new()?;
        let text = configuration(&plan, &url, &sandbox_url, &accounts)?;
        let config_file = plan.folder.join("payrelay.toml");
        private(&config_file, &text).with_context(|| format!("writing {}", config_file.display()))?;
        let config = Config::read(Some((&config_file.display().to_string(), &text)), [])?;
        config.demand(crate::config::Sections::All)?;

        let (stop, stop_last) = (CancellationToken::new(), CancellationToken::new());
        let mut running = JoinSet::new();
        let listening = match plan.role {
            Some(role) => Some(play(role, config.clone(), watch, stop.clone(), &mut running).await.context("starting payrelay")?),
            None => None,
        };
        let ingress = match listening {
            Some(listening) => listening.ingress,
            None => Some(plan.listen.parse().with_context(|| format!("`{}` is not an address", plan.listen))?),
        };
        let base = ingress.map_or_else(String::new, |address| format!("http://{address}"));

        let mut settings = config.sandbox.clone().context("the sandboxes of a local installation")?;
        settings.notices = ingress.map(|address| format!("http://{address}"));
        (plan.sandbox)(&mut settings);
        let sandboxes = All::new(settings, &sandbox_url)?;
        let (serving, ends) = (sandboxes.clone(), stop_last.clone());
        running.spawn(async move { Ok(serving.serve(sandbox_listener, ends).await?) });

        let subscriber = Subscriber::default();
        let subscriber_listener = TcpListener::bind("127.0.0.1:0").await?;
        let subscriber_url = format!("http://{}/", subscriber_listener.local_addr()?);
        let (serving, ends) = (subscriber.clone(), stop_last.clone());
        running.spawn(async move { Ok(serving.serve(subscriber_listener, ends).await?) });

        let patient = workers::store::Settings { deadline_ms: config.redis.deadline_ms.max(ONLOOKER_MS), ..config.redis.clone() };
        let store = Store::open(&patient, config.vault()?).await?;
        let signing = Arc::new(SigningKey::generate(CALLER_KID, Algorithm::Es512)?);
        let caller = Caller::new(&base, make_key(&config, &store, Some(&signing)).await?, Some(signing));
        let unsigned = caller.unsigned(make_key(&config, &store, None).await?);
        Ok(Self {
            providers: Providers::new(&config.providers)?,
            server,
            sandboxes,
            sandbox_url,
            config,
            config_file,
            listening,
            store,
            subscriber,
            subscriber_url,
            caller,
            unsigned,
            accounts,
            stop,
            stop_last,
            running,
        })
    }

    /// Subscribes the local subscriber to these event types and makes it trust the secret.
    ///
    /// # Errors
    /// The subscription is refused.
    pub async fn subscribe(&self, event_types: &[&str]) -> anyhow::Result<()> {
        let body = json!({ "url": self.subscriber_url, "event_types": event_types, "name": "local subscriber" });
        let answer = self.caller.expect(Method::POST, "/v1/webhooks", Some(&body)).await?;
        let secret = answer["result"]["secret"].as_str().or_else(|| answer["secret"].as_str()).context("the secret of the subscription")?;
        self.subscriber.trust(vec![Secret::parse(secret)?]);
        // It was asked before it could know the secret.
        if answer["result"]["status"] == "pending" {
            let id = answer["result"]["id"].as_str().context("the id of the subscription")?;
            self.caller.expect(Method::POST, &format!("/v1/webhooks/{id}/challenge"), None).await?;
        }
        Ok(())
    }

    /// Another configuration file of the same installation, with accounts at these providers too, and more keys.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn config_with(&self, providers: &[Provider], more: &str) -> anyhow::Result<PathBuf> {
        let path = self.config_file.with_extension("more.toml");
        let text = std::fs::read_to_string(&self.config_file)? + &self.accounts.of(providers, &self.sandbox_url)? + more;
        private(&path, &text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Lets what is under way finish, then ends everything, the private server last.
    ///
    /// # Errors
    /// A part had failed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        if self.listening.is_some()
            && let Some(ended) = self.running.join_next().await
        {
            ended??;
        }
        self.stop_last.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Starts a role in this process and waits until it listens.
async fn play(
    role: Role,
    config: Config,
    watch: Option<Watch>,
    stop: CancellationToken,
    running: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Listening> {
    let (listening, told) = oneshot::channel();
    running.spawn(async move { run::run(&config, role, watch, stop, Some(listening)).await });
    if let Ok(listening) = told.await {
        return Ok(listening);
    }
    match running.join_next().await {
        Some(ended) => Err(ended?.err().unwrap_or_else(|| anyhow::anyhow!("it ended at once"))),
        None => anyhow::bail!("it did not start"),
    }
}

/// Writes a file that nobody else reads: its keys and tokens are real, though what they open is not.
fn private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn configuration(plan: &Plan<'_>, redis: &str, sandbox: &str, accounts: &Accounts) -> anyhow::Result<String> {
    let fence = plan.folder.join("fence");
    let Plan { listen, more, providers, .. } = plan;
    let own = format!(
        r#"redis.url = {redis:?}
{prefix}
vault.keys = {{ 1 = "{vault}" }}
ingress.listen = "{listen}"
ingress.admin_listen = "127.0.0.1:0"
ingress.key_pepper = "{pepper}"
fence.path = {fence:?}
egress.allow = ["127.0.0.1"]
{account}{sandboxes}"#,
        // A store of its own needs no name of its own.
        prefix = plan.redis_url.as_ref().map_or_else(String::new, |_| format!("redis.prefix = \"local-{}:\"", uuid::Uuid::new_v4().simple())),
        vault = random_text()?,
        pepper = random_text()?,
        account = accounts.of(providers, sandbox)?,
        sandboxes = accounts.sandboxes("127.0.0.1:0", None)?,
    );
    if let Some(key) = set_by_both(&keys(&own)?, &keys(more)?) {
        anyhow::bail!("`{key}` is set here already, and cannot be set beside it");
    }
    Ok(format!("{own}{more}\n"))
}

fn keys(text: &str) -> anyhow::Result<Value> {
    let source = ::config::File::from_str(text, ::config::FileFormat::Toml);
    Ok(::config::Config::builder().add_source(source).build()?.try_deserialize()?)
}

/// A key, with dots, that two files set.
fn set_by_both(one: &Value, other: &Value) -> Option<String> {
    one.as_object()?.iter().find_map(|(name, value)| {
        let beside = other.get(name)?;
        if !(value.is_object() && beside.is_object()) {
            return Some(name.clone());
        }
        set_by_both(value, beside).map(|key| format!("{name}.{key}"))
    })
}

/// A key of the platform that may do everything, made as `payrelay keys create` makes it.
async fn make_key(config: &Config, store: &Store, signing: Option<&SigningKey>) -> anyhow::Result<SecretString> {
    let signing_keys = signing
        .map(|key| anyhow::Ok(domain::credential::SigningKey { kid: key.kid().to_owned(), public_key_pem: key.verifying_key()?.to_pem()? }))
        .transpose()?;
    let mut id = [0_u8; 8];
    getrandom::fill(&mut id)?;
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random)?;
    let key = ApiKey {
        id: ApiKeyId::new(id),
        mode: Mode::Test,
        owner: "local".to_owned(),
        reach: Reach::Platform,
        scopes: BTreeSet::from(Scope::ALL),
        must_sign: signing_keys.is_some(),
        signing_keys: signing_keys.into_iter().collect(),
        created_at: store.clock().now(),
        revoked_at: None,
    };
    key.check()?;
    let text = token(Mode::Test, random);
    store.put_key(&token_hash(config.pepper(), &text), &key).await?;
    Ok(text.into())
}

pub(crate) fn random_text() -> anyhow::Result<String> {
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random)?;
    Ok(STANDARD.encode(random))
}
