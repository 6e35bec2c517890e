//! What a party wishes of a subscription, in the bodies that make one and that change one.

use std::collections::{BTreeMap, BTreeSet};

use domain::id::Mode;
use domain::subscription::{CertifiedKey, ClientCertificate, EventTypes, Headers, Ordering, Pattern, Payload, Secrets, Subscription};
use domain::{bulletin, destination};
use jiff::Timestamp;
use workers::egress::{Egress, Identity, IdentityError};

use super::json::{self, Fields, Value};
use super::problem::{Errors, Problem};
use super::{Ingress, order};

pub(super) const NAME_MAX: usize = 64;
const DESCRIPTION_MAX: usize = 512;
const HEADERS_MAX: usize = 16;
const IN_FLIGHT_MAX: i64 = 1_000;
const RATE_MAX: i64 = 10_000;
const WAITS_MAX: usize = 32;
/// Waits of a subscription's own, one and all of them, in seconds: a day, and a week.
const WAIT_MAX_S: u32 = 86_400;
const AGE_MAX_S: u32 = 7 * 86_400;
/// The form of bodies that there is.
const PAYLOAD_VERSION: i64 = 1;

/// What a change takes back with `null`, each with the empty value that does the same.
const OPTIONAL: [(&str, Value); 9] = [
    ("name", Value::Text(String::new())),
    ("description", Value::Text(String::new())),
    ("metadata", Value::Object(Vec::new())),
    ("headers", Value::Object(Vec::new())),
    ("max_in_flight", Value::Integer(0)),
    ("rate_per_s", Value::Integer(0)),
    ("retry_waits_s", Value::List(Vec::new())),
    ("retry_max_age_s", Value::Integer(0)),
    ("client_certificate", Value::Object(Vec::new())),
];
/// What every subscription has.
const LASTING: [&str; 6] = ["url", "event_types", "ordering", "payload", "signatures", "payload_version"];

/// Each field that the body has, read. In a change, what is absent stays; `null`, an empty text, list or object, and 0 take away what there was.
pub(super) struct Wishes {
    pub(super) url: Option<String>,
    pub(super) event_types: Option<EventTypes>,
    pub(super) headers: Option<Headers>,
    name: Option<String>,
    description: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    ordering: Option<Ordering>,
    pub(super) payload: Option<Payload>,
    asymmetric: Option<bool>,
    max_in_flight: Option<u16>,
    rate_per_s: Option<u16>,
    retry_waits_s: Option<Vec<u32>>,
    retry_max_age_s: Option<u32>,
    /// With what may be shown of it, or `None` inside: none any more.
    client_certificate: Option<Option<(CertifiedKey, ClientCertificate)>>,
}

impl Wishes {
    /// `make`: the URL and the event types must be there, and `null` counts as absent.
    pub(super) fn read(fields: &mut Fields, make: bool, ingress: &Ingress, mode: Mode, errors: &mut Errors) -> Self {
        if !make {
            OPTIONAL.iter().for_each(|(name, empty)| fields.replace_null(name, empty));
            LASTING.into_iter().for_each(|name| fields.refuse_null(name, errors));
        }
        let url = if make { fields.text("url", errors) } else { fields.optional_text("url", errors) };
        let now = ingress.recorder.store.clock().now();
        payload_version(fields, errors);
        let kinds = if make { fields.required("event_types", errors) } else { fields.take("event_types") };
        Self {
            url: url.and_then(|url| allowed_url(&ingress.egress, &url, mode, errors)),
            event_types: kinds.and_then(|kinds| event_types(&kinds, errors)),
            headers: headers(fields, errors),
            name: text(fields, "name", NAME_MAX, make, errors),
            description: text(fields, "description", DESCRIPTION_MAX, make, errors),
            metadata: order::metadata_entries(fields, errors),
            ordering: word(fields, "ordering", &[("strict", Ordering::Strict), ("none", Ordering::None)], errors),
            payload: word(fields, "payload", &[("thin", Payload::Thin), ("full", Payload::Full)], errors),
            asymmetric: signatures(fields, !ingress.settings.signing_keys.is_empty(), errors),
            max_in_flight: limit(fields, "max_in_flight", IN_FLIGHT_MAX, errors).and_then(|limit| u16::try_from(limit).ok()),
            rate_per_s: limit(fields, "rate_per_s", RATE_MAX, errors).and_then(|limit| u16::try_from(limit).ok()),
            retry_waits_s: waits(fields, errors),
            retry_max_age_s: limit(fields, "retry_max_age_s", AGE_MAX_S.into(), errors),
            client_certificate: client_certificate(fields, now, errors),
        }
    }

    /// Whether they say anything of the client certificate.
    pub(super) fn says_certificate(&self) -> bool {
        self.client_certificate.is_some()
    }

    /// Writes into `secrets` what is wished of them; says whether anything is.
    pub(super) fn seal(self, secrets: &mut Secrets) -> bool {
        let changes = self.headers.is_some() || self.client_certificate.is_some();
        if let Some(headers) = self.headers {
            secrets.headers = headers;
        }
        if let Some(wish) = self.client_certificate {
            secrets.client_certificate = wish.map(|(pem, _)| pem);
        }
        changes
    }

    /// Writes into `subscription` what is wished of its record; the headers and the key of a certificate are among its secrets.
    pub(super) fn apply(&self, subscription: &mut Subscription) {
        fn put<T: Clone>(field: &mut T, wish: Option<&T>) {
            if let Some(wish) = wish {
                *field = wish.clone();
            }
        }
        let text = |wish: &Option<String>| wish.clone().map(|text| Some(text).filter(|text| !text.is_empty()));
        let limit = |wish: Option<u16>| wish.map(|limit| Some(limit).filter(|limit| *limit > 0));
        put(&mut subscription.url, self.url.as_ref());
        put(&mut subscription.event_types, self.event_types.as_ref());
        put(&mut subscription.name, text(&self.name).as_ref());
        put(&mut subscription.description, text(&self.description).as_ref());
        put(&mut subscription.metadata, self.metadata.as_ref());
        put(&mut subscription.ordering, self.ordering.as_ref());
        put(&mut subscription.payload, self.payload.as_ref());
        put(&mut subscription.asymmetric, self.asymmetric.as_ref());
        put(&mut subscription.max_in_flight, limit(self.max_in_flight).as_ref());
        put(&mut subscription.rate_per_s, limit(self.rate_per_s).as_ref());
        put(&mut subscription.retry_waits_s, self.retry_waits_s.as_ref());
        put(&mut subscription.retry_max_age_s, self.retry_max_age_s.map(|age| Some(age).filter(|age| *age > 0)).as_ref());
        let described = |wish: &Option<(CertifiedKey, ClientCertificate)>| wish.as_ref().map(|(_, described)| described.clone());
        put(&mut subscription.client_certificate, self.client_certificate.as_ref().map(described).as_ref());
    }
}

/// The URL as it will be called. It is checked again at each call, and so is the address that its name leads to.
pub(super) fn allowed_url(egress: &Egress, url: &str, mode: Mode, errors: &mut Errors) -> Option<String> {
    egress
        .check_url(url, mode)
        .map(String::from)
        .map_err(|refusal| errors.field("/url", "not_allowed", format_args!("is not allowed: {refusal}")))
        .ok()
}

/// `"*"`, alone or in a list, or a list of types and of families of them (`payout.*`).
fn event_types(value: &Value, errors: &mut Errors) -> Option<EventTypes> {
    const AT: &str = "/event_types";
    let names = match value {
        Value::Text(text) if text == "*" => return Some(EventTypes::All),
        Value::List(names) if !names.is_empty() => names,
        Value::List(_) => {
            errors.field(AT, "empty", "must name at least one event type, or be \"*\"");
            return None;
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::OtherNumber | Value::Text(_) | Value::Object(_) => {
            errors.field(AT, "wrong_type", "must be a list of event types, or \"*\"");
            return None;
        }
    };
    let (mut patterns, mut wrong, mut all) = (BTreeSet::new(), false, false);
    for (index, name) in names.iter().enumerate() {
        let name = if let Value::Text(name) = name { name.as_str() } else { "" };
        all |= name == "*";
        // Beside others it is what it means: every type of payouts.
        if let Ok(pattern) = Pattern::parse(if name == "*" { "payout.*" } else { name }) {
            patterns.insert(pattern);
        } else {
            wrong = true;
            errors.field(format!("{AT}/{index}"), "unknown_event_type", "is neither an event type nor the beginning of some, as in payout.*");
        }
    }
    let these = EventTypes::These(patterns);
    let all = all && !bulletin::KINDS.iter().any(|kind| these.asks_for(kind));
    (!wrong).then_some(if all { EventTypes::All } else { these })
}

/// Headers of the party's own. Their values are repeated nowhere.
fn headers(fields: &mut Fields, errors: &mut Errors) -> Option<Headers> {
    let entries = fields.optional_object("headers", errors)?.rest();
    let mut headers = Headers::default();
    for (name, value) in entries {
        let at = json::pointer("/headers", &name);
        let Value::Text(value) = value else {
            errors.field(at, "wrong_type", format_args!("must be a string, not {}", value.kind()));
            continue;
        };
        if let Err(refused) = headers.add(&name, &value) {
            errors.field(at, "not_allowed", refused);
        }
    }
    if headers.len() > HEADERS_MAX {
        errors.field("/headers", "too_many", format_args!("may have {HEADERS_MAX} entries"));
    }
    Some(headers)
}

/// `["v1"]`, or with `v1a` where the installation has keys for it: whether it is there.
fn signatures(fields: &mut Fields, available: bool, errors: &mut Errors) -> Option<bool> {
    const AT: &str = "/signatures";
    let Value::List(names) = fields.take("signatures")? else {
        errors.field(AT, "wrong_type", "must be a list: [\"v1\"] or [\"v1\", \"v1a\"]");
        return None;
    };
    let names: Option<Vec<&str>> = names.iter().map(|name| if let Value::Text(name) = name { Some(name.as_str()) } else { None }).collect();
    match names.as_deref() {
        Some(["v1"]) => return Some(false),
        Some(["v1", "v1a"] | ["v1a", "v1"]) if available => return Some(true),
        Some(["v1", "v1a"] | ["v1a", "v1"]) => errors.field(AT, "not_available", "this installation has no keys for v1a"),
        _ => errors.field(AT, "unknown_value", "must be [\"v1\"] or [\"v1\", \"v1a\"]"),
    }
    None
}

pub(super) fn text(fields: &mut Fields, name: &str, max: usize, make: bool, errors: &mut Errors) -> Option<String> {
    let text = fields.optional_text(name, errors)?;
    let takes_away = text.is_empty() && !make;
    if !takes_away && (text.trim().is_empty() || text.chars().count() > max || text.chars().any(destination::breaks_the_line)) {
        let none_of = "control characters, line breaks or marks that change the direction of writing";
        errors.field(fields.pointer(name), "invalid", format_args!("must be 1 to {max} characters, without {none_of}"));
        return None;
    }
    Some(text)
}

fn word<T: Copy>(fields: &mut Fields, name: &str, words: &[(&str, T)], errors: &mut Errors) -> Option<T> {
    let text = fields.optional_text(name, errors)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if found.is_none() {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        errors.field(fields.pointer(name), "unknown_value", format_args!("must be {}", known.join(" or ")));
    }
    found
}

/// The waits of its own; an empty list takes them away.
fn waits(fields: &mut Fields, errors: &mut Errors) -> Option<Vec<u32>> {
    const AT: &str = "/retry_waits_s";
    let waits = match fields.take("retry_waits_s")? {
        Value::List(waits) => waits,
        other => {
            errors.field(AT, "wrong_type", format_args!("must be a list of seconds, not {}", other.kind()));
            return None;
        }
    };
    let read =
        |wait: &Value| if let Value::Integer(wait) = wait { u32::try_from(*wait).ok().filter(|wait| (1..=WAIT_MAX_S).contains(wait)) } else { None };
    let found: Vec<u32> = waits.iter().map_while(read).collect();
    if found.len() < waits.len() {
        errors.field(format!("{AT}/{}", found.len()), "out_of_range", format_args!("must be whole seconds, from 1 to {WAIT_MAX_S}"));
    } else if found.len() > WAITS_MAX || found.iter().sum::<u32>() > AGE_MAX_S {
        errors.field(AT, "out_of_range", format_args!("may have {WAITS_MAX} waits, of {AGE_MAX_S} seconds together"));
    }
    Some(found)
}

/// `{"certificate", "key"}`, both in PEM, or an empty object. Neither is repeated anywhere.
fn client_certificate(fields: &mut Fields, now: Timestamp, errors: &mut Errors) -> Option<Option<(CertifiedKey, ClientCertificate)>> {
    const AT: &str = "/client_certificate";
    let mut wish = fields.optional_object("client_certificate", errors)?;
    let (certificate, key) = (wish.optional_text("certificate", errors), wish.optional_text("key", errors));
    wish.finish(errors);
    let pem = match (certificate, key) {
        (None, None) => return Some(None),
        (Some(certificate), Some(key)) => CertifiedKey { certificate, key },
        (None, Some(_)) | (Some(_), None) => {
            errors.field(AT, "incomplete", "needs `certificate` and `key`, or neither, which takes it away");
            return None;
        }
    };
    let found = Identity::read(&pem, Some(now)).map(|(_, described)| Some((pem, described)));
    let at = |error| if matches!(error, IdentityError::Key | IdentityError::Mismatch) { "key" } else { "certificate" };
    found.map_err(|error| errors.field(format!("{AT}/{}", at(error)), "not_acceptable", error)).ok()
}

/// A certificate is shown within TLS only.
pub(super) fn check_certificate_shown(subscription: &Subscription) -> Result<(), Problem> {
    if subscription.client_certificate.is_none() || subscription.url.starts_with("https://") {
        return Ok(());
    }
    Err(Problem::field("/client_certificate", "not_allowed", "needs a `url` that begins with https://"))
}

fn payload_version(fields: &mut Fields, errors: &mut Errors) {
    if fields.optional_integer("payload_version", errors).is_some_and(|version| version != PAYLOAD_VERSION) {
        errors.field("/payload_version", "unknown_value", format_args!("must be {PAYLOAD_VERSION}: there is no other"));
    }
}

fn limit(fields: &mut Fields, name: &str, max: i64, errors: &mut Errors) -> Option<u32> {
    let limit = fields.optional_integer(name, errors)?;
    let within = (0..=max).contains(&limit);
    if !within {
        errors.field(fields.pointer(name), "out_of_range", format_args!("must be from 1 to {max}, or 0 for no limit of its own"));
    }
    u32::try_from(limit).ok().filter(|_| within)
}
