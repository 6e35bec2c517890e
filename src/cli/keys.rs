//! `payrelay keys`: API keys, the keys that requests are signed with, and secrets for the configuration.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use domain::credential::{self, ApiKey, Reach, Scope};
use domain::id::{ApiKeyId, Mode, PartyId};
use providers::jws::{Algorithm, SigningKey, VerifyingKey};
use secrecy::ExposeSecret as _;
use serde_json::json;
use workers::relay::keys::PublicKey;
use workers::store::Store;

use super::print;
use crate::config::{Config, Sections};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make an API key. Its token is shown once and can never be shown again.
    Create(Create),
    /// List the API keys, revoked ones too.
    List(List),
    /// Revoke an API key. It ends within `ingress.key_cache_ms`.
    Revoke(Revoke),
    /// Make a key pair to sign requests with (ES512). The private half stays in your file.
    GenerateSigningKey(GenerateSigningKey),
    /// Make a key for `relay.signing_keys` (Ed25519), and show its public half, which `/.well-known/webhook-keys.json` will publish.
    GenerateWebhookKey,
    /// Print 32 random bytes in base64: a vault key, a pepper.
    GenerateSecret,
}

#[derive(Debug, clap::Args)]
pub struct Create {
    /// `test` or `live`.
    #[arg(long, value_parser = mode)]
    mode: Mode,
    /// The person or system that will hold it. Who makes a payout and who approves it are told apart by this.
    #[arg(long)]
    owner: String,
    /// Whose data it reaches: `platform`, or `party:<id>`.
    #[arg(long, value_parser = reach)]
    reach: Reach,
    /// What it may do: payouts.read, payouts.write, payouts.approve, webhooks.read, webhooks.write, balances.read, balances.write, parties.read, parties.write, operator. Several with commas, or the option several times.
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',', value_parser = scope)]
    scopes: Vec<Scope>,
    /// A public key that its requests are signed with: the id that signatures name, and a PEM file. May stand several times.
    #[arg(long = "signing-key", value_name = "KID=FILE")]
    signing_keys: Vec<PublicKeyFile>,
    /// Requests that move money need not be signed. Only test keys can be like that.
    #[arg(long)]
    unsigned: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// The id that `keys list` shows, such as key_00010203040506ff.
    id: ApiKeyId,
}

#[derive(Debug, clap::Args)]
pub struct GenerateSigningKey {
    /// Where the private half goes; the public half goes beside it, as `.pub.pem`. An existing file is not touched.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// `kid=path.pem`
#[derive(Clone, Debug, PartialEq, Eq)]
struct PublicKeyFile {
    kid: String,
    path: PathBuf,
}

impl FromStr for PublicKeyFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((kid, path)) if !kid.is_empty() && !path.is_empty() => Ok(Self { kid: kid.to_owned(), path: path.into() }),
            _ => Err("expected KID=FILE"),
        }
    }
}

/// Runs one of the commands.
///
/// # Errors
/// A configuration or store that cannot be used, or a key that cannot be made.
pub async fn run(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create(create) => {
            let config = configured(file)?;
            let signing_keys = create.signing_keys.iter().map(read_public_key).collect::<anyhow::Result<_>>()?;
            let store = open(&config).await?;
            let key = ApiKey {
                id: ApiKeyId::new(random()?),
                mode: create.mode,
                owner: create.owner,
                reach: create.reach,
                scopes: create.scopes.into_iter().collect::<BTreeSet<_>>(),
                must_sign: !create.unsigned,
                signing_keys,
                created_at: store.clock().now(),
                revoked_at: None,
            };
            key.check().map_err(|error| explained(&error))?;
            let token = credential::token(key.mode, random()?);
            store.put_key(&credential::token_hash(config.pepper(), &token), &key).await.context("storing the key")?;
            if key.mode == Mode::Live && !config.server.live {
                tracing::warn!("this configuration has `server.live = false`: a process that runs with it does not serve the key");
            }
            print(&if create.json { serde_json::to_string_pretty(&json!({ "token": token, "key": key }))? } else { created(&token, &key) })?;
        }
        Command::List(List { json }) => {
            let keys = open(&configured(file)?).await?.list_keys().await.context("reading the keys")?;
            print(&if json { serde_json::to_string_pretty(&keys)? } else { table(&keys) })?;
        }
        Command::Revoke(Revoke { id }) => {
            let config = configured(file)?;
            ensure!(open(&config).await?.revoke_key(id).await.context("revoking the key")?, "there is no key {id}");
            print(&format!("{id} is revoked; running processes refuse it within {} ms", config.ingress.key_cache_ms))?;
        }
        Command::GenerateSigningKey(GenerateSigningKey { out }) => print(&generate_signing_key(&out)?)?,
        Command::GenerateWebhookKey => {
            let (private, public) = new_webhook_key()?;
            print(&format!("private  {private}\npublic   {}\nkid      {}", public.text, public.kid))?;
        }
        Command::GenerateSecret => print(&STANDARD.encode(random::<32>()?))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A key for `relay.signing_keys`: the text of its private half, and its public half.
pub(super) fn new_webhook_key() -> anyhow::Result<(String, PublicKey)> {
    Ok(workers::relay::keys::make(&random::<32>()?)?)
}

fn configured(file: Option<&Path>) -> anyhow::Result<Config> {
    let config = Config::load(file)?;
    config.demand(Sections::Store)?;
    Ok(config)
}

async fn open(config: &Config) -> anyhow::Result<Store> {
    Store::open(&config.redis, config.vault()?).await.context("opening the store")
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("reading the system's random numbers")?;
    Ok(bytes)
}

fn read_public_key(PublicKeyFile { kid, path }: &PublicKeyFile) -> anyhow::Result<credential::SigningKey> {
    let pem = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    ensure!(!pem.contains("PRIVATE KEY"), "{} is a private key; register its public half and keep this one to yourself", path.display());
    let key = VerifyingKey::from_pem(&pem).with_context(|| format!("{} is not a public key", path.display()))?;
    ensure!(key.algorithm() == Algorithm::Es512, "{} is not an ES512 key (P-521)", path.display());
    // As we write it, without what else was in the file.
    Ok(credential::SigningKey { kid: kid.clone(), public_key_pem: key.to_pem().context("writing the public key")? })
}

fn explained(error: &credential::CredentialError) -> anyhow::Error {
    use credential::CredentialError::{LiveKeyMustSign, NoOwner, NoScope, NoSigningKey};
    match error {
        NoSigningKey => anyhow::anyhow!(
            "{error}: give `--signing-key KID=FILE` (`payrelay keys generate-signing-key` makes a pair), or `--unsigned` for a test key"
        ),
        LiveKeyMustSign | NoOwner | NoScope => anyhow::anyhow!("{error}"),
    }
}

fn created(token: &str, key: &ApiKey) -> String {
    let signs = match key.signing_keys.as_slice() {
        _ if !key.must_sign => "requests need no signature".to_owned(),
        [] => "requests must be signed".to_owned(),
        keys => format!("requests must be signed by {}", keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>().join(" or ")),
    };
    format!(
        "{token}\n\nThis token is shown once. It is key {} of {}: {}, {}, {signs}.",
        key.id,
        key.owner,
        shown_reach(&key.reach),
        shown_scopes(key)
    )
}

fn table(keys: &[ApiKey]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["id", "mode", "owner", "reach", "scopes", "signs with", "made", "revoked"]);
    for key in keys {
        let signs = if key.must_sign { key.signing_keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>().join(" ") } else { "–".to_owned() };
        table.add_row([
            key.id.to_string(),
            key.mode.to_string(),
            key.owner.clone(),
            shown_reach(&key.reach),
            shown_scopes(key),
            signs,
            day(key.created_at),
            key.revoked_at.map_or_else(String::new, day),
        ]);
    }
    if keys.is_empty() { "There are no keys. `payrelay keys create` makes one.".to_owned() } else { table.to_string() }
}

fn day(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn shown_reach(reach: &Reach) -> String {
    match reach {
        Reach::Platform => "platform".to_owned(),
        Reach::Party(party) => format!("party:{party}"),
    }
}

fn shown_scopes(key: &ApiKey) -> String {
    key.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(" ")
}

fn generate_signing_key(out: &Path) -> anyhow::Result<String> {
    let public = out.with_extension("pub.pem");
    if public == out {
        bail!("{} is what the public half would be called; choose another name for the private one", out.display());
    }
    let key = SigningKey::generate("", Algorithm::Es512).context("making a key")?;
    let write = |path: &Path, permissions: u32, text: &str| {
        // Not to be readable for a moment either: the file is made with its permissions.
        let file = OpenOptions::new().write(true).create_new(true).mode(permissions).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("writing {}", path.display()))
    };
    write(out, 0o600, key.to_pem().context("writing the private key")?.expose_secret())?;
    write(&public, 0o644, &key.verifying_key().and_then(|key| key.to_pem()).context("writing the public key")?)?;
    let kid = uuid::Builder::from_random_bytes(random()?).into_uuid();
    Ok(format!(
        "{}  the private half: signs requests, stays with the caller\n{}  the public half: register it with\n    payrelay keys create … --signing-key {kid}={}",
        out.display(),
        public.display(),
        public.display()
    ))
}

pub(super) fn mode(text: &str) -> Result<Mode, &'static str> {
    [Mode::Test, Mode::Live].into_iter().find(|mode| mode.as_str() == text).ok_or("expected test or live")
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::named(text).ok_or_else(|| format!("expected one of {}", Scope::ALL.map(Scope::name).join(", ")))
}

fn reach(text: &str) -> Result<Reach, String> {
    match text.split_once(':') {
        None if text == "platform" => Ok(Reach::Platform),
        Some(("party", id)) => PartyId::parse(id).map(Reach::Party).map_err(|error| error.to_string()),
        _ => Err("expected platform or party:<id>".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_written_once_and_its_public_half_can_be_registered() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("key.pem");
        let said = generate_signing_key(&out).unwrap();
        assert!(said.contains("key.pub.pem"));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&out).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
        assert!(generate_signing_key(&out).is_err(), "an existing key is not overwritten");

        let file = |name: &str| PublicKeyFile { kid: "k1".to_owned(), path: folder.path().join(name) };
        let registered = read_public_key(&file("key.pub.pem")).unwrap();
        assert_eq!(registered.kid, "k1");
        let private = read_public_key(&file("key.pem")).unwrap_err().to_string();
        assert!(private.contains("is a private key"), "{private}");
        assert!(!private.contains("BEGIN"), "the key is not repeated");
    }

    #[test]
    fn what_is_typed_is_checked() {
        assert_eq!(reach("platform"), Ok(Reach::Platform));
        assert_eq!(reach("party:acme"), Ok(Reach::Party(PartyId::parse("acme").unwrap())));
        for text in ["party:", "party", "Platform", "party:a b", ""] {
            assert!(reach(text).is_err(), "{text}");
        }
        assert!(scope("payouts").unwrap_err().contains("payouts.write"));
        assert!(mode("prod").is_err());
        assert!("kid".parse::<PublicKeyFile>().is_err());
        assert_eq!("a=b=c".parse(), Ok(PublicKeyFile { kid: "a".to_owned(), path: "b=c".into() }));
    }
}
