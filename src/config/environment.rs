//! Variables of the environment as a layer of the configuration: `PAYRELAY__A__B` is `a.b`.
//!
//! Values stay texts and become numbers or booleans only where the key wants them, so that a secret of digits remains a text. A value in
//! brackets is a list. An empty variable counts as unset, because that is what compose files make of variables that are not there.

use std::collections::HashMap;

use ::config::{ConfigError, File, FileFormat, Source, Value, ValueKind};

const PREFIX: &str = "PAYRELAY__";

/// Where keys are codes of currencies.
const CURRENCIES: &str = "calendars.currencies.";

/// Names by which other tools know the same thing. Our own name wins.
const ALIASES: [(&str, &str); 3] =
    [("REDIS_URL", "redis.url"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"), ("OTEL_SERVICE_NAME", "telemetry.service_name")];

/// The variables that are meant for us. The last one of a key counts.
#[derive(Clone, Default)]
pub(super) struct Environment {
    variables: Vec<Variable>,
}

#[derive(Clone)]
struct Variable {
    name: String,
    /// `a.b`
    key: String,
    value: String,
}

impl Environment {
    pub(super) fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut ours = Vec::new();
        let mut aliased = Vec::new();
        for (name, value) in variables.into_iter().filter(|(_, value)| !value.is_empty()) {
            if let Some((_, key)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
                aliased.push(Variable { name, key: (*key).to_owned(), value });
            } else if let Some(rest) = name.strip_prefix(PREFIX) {
                let key = key(rest);
                ours.push(Variable { name, key, value });
            }
        }
        aliased.extend(ours);
        Self { variables: aliased }
    }

    /// The variable that a key, or something in it, comes from.
    pub(super) fn variable(&self, key: &str) -> Option<&str> {
        let is_of = |variable: &&Variable| variable.key == key || variable.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        self.variables.iter().rev().find(is_of).map(|variable| variable.name.as_str())
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.variables.iter().map(|variable| &variable.name)).finish()
    }
}

impl Source for Environment {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<HashMap<String, Value>, ConfigError> {
        let mut tree = HashMap::new();
        for variable in &self.variables {
            insert(&mut tree, &variable.key, value(&variable.name, &variable.value));
        }
        Ok(tree)
    }
}

/// In lower case, as all keys are but the codes of currencies.
fn key(rest: &str) -> String {
    let key = rest.to_ascii_lowercase().replace("__", ".");
    match key.strip_prefix(CURRENCIES).and_then(|rest| rest.split_once('.')) {
        Some((code, rest)) => format!("{CURRENCIES}{}.{rest}", code.to_ascii_uppercase()),
        None => key,
    }
}

fn insert(tree: &mut HashMap<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            tree.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let section = tree.entry(section.to_owned()).or_insert_with(|| Value::new(None, ValueKind::Table(HashMap::new())));
            if !matches!(section.kind, ValueKind::Table(_)) {
                section.kind = ValueKind::Table(HashMap::new());
            }
            if let ValueKind::Table(section) = &mut section.kind {
                insert(section, rest, value);
            }
        }
    }
}

fn value(name: &str, text: &str) -> Value {
    let origin = format!("the variable {name}");
    if text.starts_with('[') {
        let list = File::from_str(&format!("list = {text}"), FileFormat::Toml).collect();
        if let Some(list) = list.ok().and_then(|mut list| list.remove("list")) {
            return list;
        }
    }
    Value::new(Some(&origin), ValueKind::String(text.to_owned()))
}
