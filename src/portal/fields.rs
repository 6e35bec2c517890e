//! The form of a subscription: what stands in it, and what it says in the terms of the API, whose checks then judge it.

use std::collections::BTreeMap;

use domain::subscription::{EventTypes, Ordering, Payload, Secrets, Subscription};

use crate::ingress::json::{Fields, Value};
use crate::ingress::problem::{Errors, Problem};
use crate::ingress::query::Parameters;

const SNAPSHOT: &str = "snapshot";

/// What stands in the fields, and what is wrong with them.
pub(super) struct Filled {
    pub(super) url: String,
    pub(super) name: String,
    pub(super) description: String,
    /// `*`, or some of the types.
    pub(super) event_types: Vec<String>,
    pub(super) ordering: String,
    pub(super) payload: String,
    pub(super) asymmetric: bool,
    pub(super) max_in_flight: String,
    pub(super) rate_per_s: String,
    /// Lines of `name: value`.
    pub(super) metadata: String,
    /// The same. Never filled in with what there is: values of headers are not shown.
    pub(super) headers: String,
    /// The names of those that there are.
    pub(super) header_names: Vec<String>,
    pub(super) no_headers: bool,
    /// 0 for a new subscription.
    pub(super) version: i64,
    errors: BTreeMap<String, Vec<String>>,
    /// What is wrong with none of the fields.
    pub(super) problem: Option<String>,
}

impl Filled {
    pub(super) fn blank() -> Self {
        Self {
            url: String::new(),
            name: String::new(),
            description: String::new(),
            event_types: vec!["*".to_owned()],
            ordering: "strict".to_owned(),
            payload: "thin".to_owned(),
            asymmetric: false,
            max_in_flight: String::new(),
            rate_per_s: String::new(),
            metadata: String::new(),
            headers: String::new(),
            header_names: Vec::new(),
            no_headers: false,
            version: 0,
            errors: BTreeMap::new(),
            problem: None,
        }
    }

    /// As a subscription is.
    pub(super) fn of(subscription: &Subscription, secrets: &Secrets) -> Self {
        let limit = |limit: Option<u16>| limit.map(|limit| limit.to_string()).unwrap_or_default();
        Self {
            url: subscription.url.clone(),
            name: subscription.name.clone().unwrap_or_default(),
            description: subscription.description.clone().unwrap_or_default(),
            event_types: match &subscription.event_types {
                EventTypes::All => vec!["*".to_owned()],
                EventTypes::These(patterns) => patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
            },
            ordering: if subscription.ordering == Ordering::None { "none" } else { "strict" }.to_owned(),
            payload: match subscription.payload {
                Payload::Thin => "thin",
                Payload::Full => "full",
                Payload::Snapshot => SNAPSHOT,
            }
            .to_owned(),
            asymmetric: subscription.asymmetric,
            max_in_flight: limit(subscription.max_in_flight),
            rate_per_s: limit(subscription.rate_per_s),
            metadata: subscription.metadata.iter().map(|(name, value)| format!("{name}: {value}\n")).collect(),
            header_names: secrets.headers.names().map(ToOwned::to_owned).collect(),
            version: i64::try_from(subscription.version).unwrap_or(i64::MAX),
            ..Self::blank()
        }
    }

    /// As somebody has sent it.
    pub(super) fn sent(form: &mut Parameters) -> Self {
        let mut text = |name: &str| form.all(name).pop().unwrap_or_default();
        let all = text("events") != "some";
        Self {
            url: text("url").trim().to_owned(),
            name: text("name").trim().to_owned(),
            description: text("description").trim().to_owned(),
            ordering: text("ordering"),
            payload: text("payload"),
            asymmetric: !text("asymmetric").is_empty(),
            max_in_flight: text("max_in_flight").trim().to_owned(),
            rate_per_s: text("rate_per_s").trim().to_owned(),
            metadata: text("metadata"),
            headers: text("headers"),
            no_headers: !text("no_headers").is_empty(),
            version: text("version").parse().unwrap_or(0),
            event_types: if all { vec!["*".to_owned()] } else { form.all("event_types") },
            ..Self::blank()
        }
    }

    /// What is wished, as the body of a request would say it. With a version it is a change: what is empty is taken away.
    pub(super) fn wishes(&self) -> (Fields, Errors) {
        let mut errors = Errors::default();
        let change = self.version > 0;
        let mut members = vec![("url".to_owned(), Value::Text(self.url.clone()))];
        let mut put = |name: &str, value: Value| members.push((name.to_owned(), value));
        for (name, value) in [("name", &self.name), ("description", &self.description)] {
            if change || !value.is_empty() {
                put(name, Value::Text(value.clone()));
            }
        }
        put("event_types", Value::List(self.event_types.iter().cloned().map(Value::Text).collect()));
        put("ordering", Value::Text(self.ordering.clone()));
        // It stays what it is, and is chosen by other routes.
        if self.payload != SNAPSHOT {
            put("payload", Value::Text(self.payload.clone()));
        }
        let signatures: &[&str] = if self.asymmetric { &["v1", "v1a"] } else { &["v1"] };
        put("signatures", Value::List(signatures.iter().map(|name| Value::Text((*name).to_owned())).collect()));
        for (name, text) in [("max_in_flight", &self.max_in_flight), ("rate_per_s", &self.rate_per_s)] {
            match text.parse::<i64>() {
                Ok(number) => put(name, Value::Integer(number)),
                Err(_) if text.is_empty() && !change => {}
                Err(_) if text.is_empty() => put(name, Value::Integer(0)),
                Err(_) => put(name, Value::OtherNumber),
            }
        }
        let metadata = lines("/metadata", &self.metadata, &mut errors);
        if change || !metadata.is_empty() {
            put("metadata", Value::Object(metadata));
        }
        let headers = lines("/headers", &self.headers, &mut errors);
        if self.no_headers || !headers.is_empty() {
            put("headers", Value::Object(headers));
        }
        if change {
            put("version", Value::Integer(self.version));
        }
        (Fields::of(members), errors)
    }

    /// The same, with what is wrong beside each field.
    pub(super) fn refused(mut self, problem: &Problem) -> Self {
        for (place, detail) in problem.errors() {
            let field = place.trim_start_matches('/').split('/').next().unwrap_or_default();
            let named = place.trim_start_matches('/').split_once('/').map_or(String::new(), |(_, item)| format!("“{}” ", self.item(field, item)));
            self.errors.entry(field.to_owned()).or_default().push(format!("{named}{detail}"));
        }
        if self.errors.is_empty() {
            self.problem = Some(problem.detail().to_owned());
        }
        self
    }

    /// What an item of a list is called, by its number, or of an object.
    fn item(&self, field: &str, item: &str) -> String {
        let listed = if field == "event_types" { item.parse().ok().and_then(|number: usize| self.event_types.get(number)).cloned() } else { None };
        listed.unwrap_or_else(|| item.replace("~1", "/").replace("~0", "~"))
    }

    pub(super) fn wrong(&self, field: &str) -> Vec<String> {
        self.errors.get(field).cloned().unwrap_or_default()
    }

    pub(super) fn wants_all(&self) -> bool {
        self.event_types.iter().any(|name| name == "*")
    }

    /// Each family with its types behind it, and whether they are chosen. All that a subscription can name is among them: what had no box would be taken away by
    /// whoever saves the form.
    pub(super) fn choices(&self) -> Vec<(String, bool)> {
        let mut names: Vec<String> = Vec::new();
        for name in EventTypes::names() {
            let family = name.split_once('.').map(|(family, _)| format!("{family}.*"));
            names.extend(family.filter(|family| !names.contains(family)));
            names.push(name.to_owned());
        }
        names.into_iter().map(|name| (name.clone(), self.event_types.contains(&name))).collect()
    }
}

/// Lines of `name: value`.
fn lines(at: &str, text: &str, errors: &mut Errors) -> Vec<(String, Value)> {
    let mut entries: Vec<(String, Value)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.split_once(':') {
            Some((name, _)) if entries.iter().any(|(known, _)| known == name.trim()) => errors.field(at, "duplicate_field", "has a name twice"),
            Some((name, value)) => entries.push((name.trim().to_owned(), Value::Text(value.trim().to_owned()))),
            // The line may hold a secret: it is not repeated.
            None => errors.field(at, "invalid", "must be lines of “name: value”"),
        }
    }
    entries
}

/// A time as the field for one says it, in UTC, as the API reads it: it has minutes, and seconds where they are not 0.
pub(super) fn instant(text: &str) -> String {
    if text.len() == 16 { format!("{text}:00Z") } else { format!("{text}Z") }
}
