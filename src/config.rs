//! What an installation is told: the documented defaults, a file, the environment, in this order, and what must hold between the values.
//!
//! `config/default.toml` is compiled in and holds every key with its default and a sentence. Nobody can misspell a key unnoticed: an unknown one in
//! the file or in the environment is an error that names it. [`Config::check`] judges the values together, before a port is bound or a connection opened.
//! No message repeats a value that could be a secret.

mod agreement;
pub mod calendars;
mod check;
mod environment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ::config::{File, FileFormat};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use workers::store::vault;

use self::environment::Environment;
use crate::{ingress, telemetry};

/// The documented defaults.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// How to make a secret, for messages.
const MAKE_ONE: &str = "make one with `payrelay keys generate-secret` or `openssl rand -base64 32`";

/// Everything that can be set. Has no `Debug`: the addresses of stores hold passwords.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub redis: workers::store::Settings,
    pub vault: Vault,
    pub ingress: ingress::Settings,
    pub fence: Fence,
    pub workers: workers::lanes::Settings,
    pub execute: workers::execute::Settings,
    pub circuit: workers::circuit::Settings,
    pub rules: workers::record::Rules,
    pub schedules: workers::schedule::Settings,
    pub relay: workers::relay::RelaySettings,
    pub egress: workers::egress::Settings,
    pub calendars: calendars::Settings,
    pub reconciliation: workers::reconcile::Settings,
    pub deposits: workers::deposit::Settings,
    pub portal: crate::portal::Settings,
    pub retention: workers::retention::Settings,
    #[serde(default)]
    pub providers: providers::Settings,
    pub telemetry: telemetry::Settings,
    /// `payrelay sandbox`.
    pub sandbox: Option<providers::sandbox::all::Settings>,
    /// What other processes must be told alike: a keyed hash by section, as it was read.
    #[serde(skip)]
    pub told: BTreeMap<String, String>,
}

/// What this process may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Whether live keys are served. Demands a store that keeps what it has acknowledged.
    pub live: bool,
    /// Serve live keys although the store does not say whether it keeps what it has acknowledged. For managed services that refuse `CONFIG GET`.
    pub trust_store: bool,
}

/// The keys that seal what must not be readable in the store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// 32 bytes in base64 each, by an id from 0 to 255. No default.
    #[serde(default)]
    pub keys: BTreeMap<u8, SecretString>,
    /// The key that seals; the others only open.
    pub current: u8,
}

/// The worker's memory outside the store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// A file that survives the process and is not part of the store. In memory only without it; live mode demands it.
    pub path: Option<PathBuf>,
}

/// A thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key that it is about, such as `workers.lease_ms`; empty when the text could not be read at all.
    pub key: String,
    /// What is wrong, and what to do about it.
    pub text: String,
}

/// A configuration that nothing is started with. One line, however much is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadConfig {
    pub problems: Vec<Problem>,
}

// === impl Problem ===

impl Problem {
    fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { key: key.into(), text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() { f.write_str(&self.text) } else { write!(f, "`{}` {}", self.key, self.text) }
    }
}

// === impl BadConfig ===

impl fmt::Display for BadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used: ")?;
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for BadConfig {}

impl BadConfig {
    fn of(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { problems: vec![Problem::new(key, text)] }
    }
}

// === impl Config ===

impl Config {
    /// Reads the defaults, the file if there is one, and the environment of this process.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, a value of the wrong kind. Nothing is judged yet: see [`Config::check`].
    pub fn load(file: Option<&Path>) -> Result<Self, BadConfig> {
        let text = |path: &Path| {
            let text = std::fs::read_to_string(path);
            text.map(|text| (path.display().to_string(), text))
                .map_err(|error| BadConfig::of("", format!("{} cannot be read: {error}", path.display())))
        };
        let file = file.map(text).transpose()?;
        Self::read(file.as_ref().map(|(name, text)| (name.as_str(), text.as_str())), std::env::vars())
    }

    /// Reads the defaults, a file (its name and text), and variables.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn read(file: Option<(&str, &str)>, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, BadConfig> {
        let environment = Environment::of(variables);
        let mut layers = ::config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some((name, text)) = file {
            // Read by itself first, so that an error of syntax says where.
            let source = File::from_str(text, FileFormat::Toml);
            ::config::Config::builder()
                .add_source(source.clone())
                .build()
                .map_err(|error| BadConfig::of("", format!("{name}: {}", one_line(&error.to_string()))))?;
            layers = layers.add_source(source);
        }
        let layers = layers.add_source(environment.clone()).build().map_err(|error| BadConfig::of("", one_line(&error.to_string())))?;
        let read: Result<Self, _> = serde_path_to_error::deserialize(layers.clone());
        let mut config = read.map_err(|error| {
            let key = error.path().to_string();
            let text = without_values(&one_line(&error.inner().to_string()));
            let text = text.split(" for key `").next().unwrap_or_default().trim_end_matches(" in the environment");
            let hint = if text.contains("expected a sequence") { ", written as [\"one\", \"two\"]" } else { "" };
            let from = match (environment.variable(&key), file) {
                _ if text.starts_with("missing ") => String::new(),
                (Some(variable), _) => format!(" (from the variable {variable})"),
                (None, Some((name, _))) => format!(" (from {name})"),
                (None, None) => String::new(),
            };
            let text = match text.split_once("`, expected ") {
                Some((unknown, known)) if unknown.starts_with("unknown field `") => format!("is not a key; expected {known}"),
                _ => text.replacen("invalid type: ", "has the wrong type: ", 1),
            };
            match text.strip_prefix("missing configuration field \"").and_then(|text| text.strip_suffix('"')) {
                Some(missing) => BadConfig::of(missing, "has no default and must be set"),
                None => BadConfig::of(key, format!("{text}{hint}{from}")),
            }
        })?;
        config.told = agreement::told(&layers, config.pepper());
        Ok(config)
    }

    /// The keys that seal.
    ///
    /// # Errors
    /// No keys, or unusable ones.
    pub fn vault(&self) -> Result<vault::Vault, BadConfig> {
        let current = self.vault.current;
        if self.vault.keys.is_empty() {
            let set = format!("set it as `vault.keys.{current}` or PAYRELAY__VAULT__KEYS__{current}");
            return Err(BadConfig::of("vault.keys", format!("holds no key to seal beneficiaries and secrets with: {MAKE_ONE}, and {set}")));
        }
        vault::Vault::new(&self.vault.keys, current).map_err(|error| BadConfig::of("vault.keys", format!("cannot be used: {error}")))
    }

    /// What API keys are hashed with.
    #[must_use]
    pub fn pepper(&self) -> &[u8] {
        self.ingress.key_pepper.expose_secret().as_bytes()
    }

    /// Succeeds if nothing is wrong with what `command` uses.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn demand(&self, sections: Sections) -> Result<(), BadConfig> {
        let problems: Vec<_> = self.check().into_iter().filter(|problem| sections.include(&problem.key)).collect();
        if problems.is_empty() { Ok(()) } else { Err(BadConfig { problems }) }
    }
}

/// What a command needs of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sections {
    /// Everything.
    All,
    /// What is needed to open the store and to make API keys.
    Store,
    /// Which days are business days.
    Calendars,
}

impl Sections {
    fn include(self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Calendars => key.starts_with("calendars."),
            Self::Store => ["redis.", "vault.", "ingress.key_pepper"].iter().any(|section| key.starts_with(section)),
        }
    }
}

/// An error of several lines as one, without the excerpts of the text that TOML's come with: a line of a configuration may hold a secret.
fn one_line(error: &str) -> String {
    let is_excerpt = |line: &str| line.split_once('|').is_some_and(|(number, _)| number.trim().chars().all(|c| c.is_ascii_digit()));
    error.lines().filter(|line| !is_excerpt(line)).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

/// serde's messages repeat the text that was found, which may be a secret.
fn without_values(error: &str) -> String {
    match error.split_once("string \"") {
        Some((before, rest)) => {
            format!("{before}a text{}", rest.rsplit_once("\", expected").map_or(String::new(), |(_, wanted)| format!(", expected{wanted}")))
        }
        None => error.to_owned(),
    }
}
