//! A merchant's wish to be told: where, and about what.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bulletin;
use crate::event::EventType;
use crate::fact::Reason;
use crate::id::{Mode, PartyId, SubscriptionId};
use crate::signature::Secret;

/// Where events of a party go, and how. What it holds of secrets is kept apart, encrypted ([`Secrets`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub party: PartyId,
    pub mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub url: String,
    pub event_types: EventTypes,
    /// Only events of payouts whose metadata has each of these entries. Empty: of all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Ordering::is_default")]
    pub ordering: Ordering,
    #[serde(default, skip_serializing_if = "Payload::is_default")]
    pub payload: Payload,
    /// Whether deliveries carry signatures of the installation's own keys (`v1a`) as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asymmetric: bool,
    /// Deliveries under way at one time, at most. `None`: what the installation allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u16>,
    /// Deliveries that are begun in a second, at most. `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<u16>,
    /// The waits after the first failed try, after the second, and so on, in seconds. Empty: those of the installation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_waits_s: Vec<u32>,
    /// A try that fails so many seconds after its event, or later, is the last one. `None`: the waits alone decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_max_age_s: Option<u32>,
    /// The form that bodies have. There is one.
    #[serde(default = "first_version")]
    pub payload_version: u16,
    /// What deliveries are authenticated by at a subscriber that asks for it. Its key is among the secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    pub created_at: Timestamp,
    pub status: Status,
    /// What is left of one that leads elsewhere by now: it is told that once, and then it is gone. Nobody sees it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub farewell: bool,
    /// Counts the changes, from 1; a worker that holds an older one reads again.
    pub version: u64,
}

/// Which events a subscription wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventTypes {
    All,
    These(BTreeSet<Pattern>),
}

/// One event type, or all that begin with the same word: `payout.completed`, `payout.*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// No event type is like that.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("is not an event type")]
pub struct UnknownEventType;

/// Whether the events of one payout wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// The next one is sent once the one before was acknowledged, or was given up.
    #[default]
    Strict,
    /// Each is sent at once. The receiver goes by `sequence`.
    None,
}

/// What events hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    #[default]
    Thin,
    /// The reference and the masked destination as well.
    Full,
    /// Messages of another form, with the payout inside and a signature of their own: [`crate::snapshot`].
    Snapshot,
}

/// Whether a subscription is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Status {
    Enabled,
    /// As paused, until its URL has shown that it wants to be told.
    Pending {
        at: Timestamp,
    },
    /// Events make deliveries, which wait until it is resumed.
    Paused {
        at: Timestamp,
    },
    /// New events make no deliveries; open deliveries are abandoned when their turn comes.
    Disabled {
        reason: Reason,
        at: Timestamp,
    },
}

/// What a subscription has of secrets: those that sign, newest first, of which the older ones sign too until they expire, and headers of the merchant's own.
/// Stored encrypted, never in the record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Secrets {
    signing: Vec<Slot>,
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<CertifiedKey>,
}

/// What everybody may know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    pub subject: String,
    /// The SHA-256 of the certificate, in hexadecimal digits.
    pub fingerprint: String,
    pub expires_at: Timestamp,
}

/// A certificate, with those that lead to its root, and its private key, both in PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedKey {
    pub certificate: String,
    pub key: String,
}

/// So many former secrets sign still that there is no room for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} secrets sign already; the first of the former ones ends at {first_ends}", Secrets::SIGNING_MAX)]
pub struct TooManySecrets {
    pub first_ends: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Slot {
    #[serde(with = "secret_text")]
    secret: Secret,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// Headers that a merchant wants to find on each delivery, by lower-case name. Their values are secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(BTreeMap<String, String>);

/// Why a header is not accepted. Never repeats its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderRefused {
    #[error("is no name of a header: letters, digits and `-`, at most 64")]
    Name,
    #[error("is written by the service itself, or belongs to the connection")]
    Reserved,
    #[error("is there more than once: names of headers are the same in capital and small letters")]
    Repeated,
    #[error("must be 1 to 1024 visible characters of ASCII, with single spaces between them")]
    Value,
}

// === impl EventTypes ===

impl EventTypes {
    /// The name of every type that can be asked for: those of payouts, and those of bulletins.
    pub fn names() -> impl Iterator<Item = &'static str> {
        EventType::ALL.into_iter().map(EventType::name).chain(bulletin::KINDS)
    }

    /// The form that the commit script matches: `*`, or the names with a comma on both sides of each.
    #[must_use]
    pub fn to_filter(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::These(patterns) => patterns.iter().fold(String::from(","), |text, pattern| text + &pattern.0 + ","),
        }
    }

    /// Whether an event of this type is wanted.
    #[must_use]
    pub fn wants(&self, kind: EventType) -> bool {
        match self {
            Self::All => true,
            Self::These(patterns) => patterns.iter().any(|pattern| pattern.matches(kind.name())),
        }
    }

    /// Whether events of payouts are wanted at all.
    #[must_use]
    pub fn wants_payouts(&self) -> bool {
        EventType::ALL.into_iter().any(|kind| self.wants(kind))
    }

    /// As [`wants`](Self::wants), of an event as it is kept. `*` means payouts: what is in a bulletin is asked for by its name or its family.
    #[must_use]
    pub fn asks_for(&self, kind: &str) -> bool {
        match self {
            Self::All => !bulletin::KINDS.contains(&kind),
            Self::These(patterns) => patterns.iter().any(|pattern| pattern.matches(kind)),
        }
    }
}

// === impl Pattern ===

impl Pattern {
    /// # Errors
    /// There is no event type of that name, or that begins with that word.
    pub fn parse(text: &str) -> Result<Self, UnknownEventType> {
        let pattern = Self(text.to_owned());
        if EventTypes::names().any(|kind| pattern.matches(kind)) { Ok(pattern) } else { Err(UnknownEventType) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn matches(&self, kind: &str) -> bool {
        self.0 == kind || self.0.strip_suffix(".*").is_some_and(|family| kind.split('.').next() == Some(family))
    }
}

impl From<EventType> for Pattern {
    fn from(kind: EventType) -> Self {
        Self(kind.name().to_owned())
    }
}

impl TryFrom<String> for Pattern {
    type Error = UnknownEventType;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

// === impl Subscription ===

impl Subscription {
    /// One that nothing special is wished of.
    #[must_use]
    pub fn new(id: SubscriptionId, party: PartyId, mode: Mode, url: String, event_types: EventTypes, now: Timestamp) -> Self {
        Self {
            id,
            party,
            mode,
            name: None,
            description: None,
            url,
            event_types,
            metadata: BTreeMap::new(),
            ordering: Ordering::default(),
            payload: Payload::default(),
            asymmetric: false,
            max_in_flight: None,
            rate_per_s: None,
            retry_waits_s: Vec::new(),
            retry_max_age_s: None,
            payload_version: first_version(),
            client_certificate: None,
            created_at: now,
            status: Status::Enabled,
            farewell: false,
            version: 1,
        }
    }

    /// It, as it is told about.
    #[must_use]
    pub fn hook(&self) -> bulletin::Hook {
        bulletin::Hook { subscription_id: self.id, name: self.name.clone() }
    }

    /// What is left of it at its URL when it leads elsewhere.
    #[must_use]
    pub fn farewell(self, id: SubscriptionId) -> Self {
        let (max_in_flight, rate_per_s) = (None, None);
        // Whoever goes to and fro between URLs must not make it many requests.
        let (retry_waits_s, retry_max_age_s) = (Vec::new(), Some(60 * 60));
        let (status, payload) = (Status::Enabled, Payload::Thin);
        Self { id, status, farewell: true, payload, max_in_flight, rate_per_s, retry_waits_s, retry_max_age_s, version: 1, ..self }
    }

    /// What the commit script matches events with. Most say it in a word ([`EventTypes::to_filter`]); who asks for more says it as JSON. Empty: nothing.
    #[must_use]
    pub fn filter(&self) -> String {
        let kinds = match self.status {
            Status::Enabled | Status::Pending { .. } | Status::Paused { .. } => self.event_types.to_filter(),
            Status::Disabled { .. } => return String::new(),
        };
        if self.metadata.is_empty() && self.ordering == Ordering::Strict {
            return kinds;
        }
        serde_json::json!({ "kinds": kinds, "metadata": self.metadata, "unordered": self.ordering == Ordering::None }).to_string()
    }
}

impl Ordering {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Payload {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Headers ===

impl Headers {
    /// Headers that no merchant can set, beside those that begin with one of [`Self::RESERVED_BEGINNINGS`].
    const RESERVED: [&str; 18] = [
        "accept-encoding",
        "connection",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "traceparent",
        "tracestate",
        "baggage",
        "x-mollie-signature",
    ];
    const RESERVED_BEGINNINGS: [&str; 5] = ["webhook-", "payrelay-", "content-", "proxy-", "x-forwarded-"];

    /// Adds a header.
    ///
    /// # Errors
    /// [`HeaderRefused`], also if there is one of that name. Then nothing has changed.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), HeaderRefused> {
        let name = name.to_ascii_lowercase();
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(HeaderRefused::Name);
        }
        if Self::RESERVED.contains(&name.as_str()) || Self::RESERVED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) {
            return Err(HeaderRefused::Reserved);
        }
        if value.is_empty() || value.len() > 1_024 || value.trim() != value || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(HeaderRefused::Value);
        }
        match self.0.entry(name) {
            Entry::Vacant(entry) => _ = entry.insert(value.to_owned()),
            Entry::Occupied(_) => return Err(HeaderRefused::Repeated),
        }
        Ok(())
    }

    /// Names and values. The values are for the one who is called, and for nobody else.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What may be shown: names in full, and of each value that there is one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

const fn first_version() -> u16 {
    1
}

impl std::fmt::Debug for CertifiedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertifiedKey(redacted)")
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Headers({} redacted)", self.0.len())
    }
}

// === impl Secrets ===

impl Secrets {
    /// Secrets that sign at one time, at most: each is a signature of every delivery.
    pub const SIGNING_MAX: usize = 5;

    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self { signing: vec![Slot { secret, until: None }], headers: Headers::default(), client_certificate: None }
    }

    /// Puts a new secret in front. The one before it goes on signing until `overlap_until`, and older ones until the time that each was given. Without an overlap,
    /// which is one that is over `now`, the new one signs alone.
    ///
    /// # Errors
    /// [`TooManySecrets`], with an overlap only.
    pub fn rotated(&self, secret: Secret, now: Timestamp, overlap_until: Timestamp) -> Result<Self, TooManySecrets> {
        let mut signing = vec![Slot { secret, until: None }];
        if now < overlap_until {
            let signs = self.signing.iter().filter(|slot| slot.signs_at(now));
            signing.extend(signs.map(|slot| Slot { until: slot.until.or(Some(overlap_until)), ..slot.clone() }));
        }
        match self.next_change(now) {
            Some(first_ends) if signing.len() > Self::SIGNING_MAX => Err(TooManySecrets { first_ends }),
            _ => Ok(Self { signing, ..self.clone() }),
        }
    }

    /// The secrets that sign at this time, newest first. Never empty.
    #[must_use]
    pub fn valid_at(&self, now: Timestamp) -> Vec<Secret> {
        self.signing.iter().filter(|slot| slot.signs_at(now)).map(|slot| slot.secret.clone()).collect()
    }

    /// Until when each of the former secrets signs that does so at this time, newest first.
    #[must_use]
    pub fn former_until(&self, now: Timestamp) -> Vec<Timestamp> {
        self.signing.iter().filter(|slot| slot.signs_at(now)).filter_map(|slot| slot.until).collect()
    }

    /// When [`valid_at`](Self::valid_at) will next give another answer by itself: the end of an overlap. `None` if there is none ahead.
    #[must_use]
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.signing.iter().filter_map(|slot| slot.until).filter(|until| now < *until).min()
    }
}

impl Slot {
    fn signs_at(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A secret as its `whsec_` text; only for the encrypted form.
mod secret_text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::signature::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&secret.to_text())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Secret, D::Error> {
        Secret::parse(&String::deserialize(input)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> EventTypes {
        EventTypes::These(texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect())
    }

    #[test]
    fn a_pattern_is_a_type_or_a_family() {
        for text in ["payout.completed", "payout.*", "webhook.*", "webhook.disabled", "reconciliation.break"] {
            assert_eq!(Pattern::parse(text).expect("a pattern").as_str(), text);
        }
        for text in ["", "*", "payout", "payout.", "payout.com*", "payouts.*", ".*", "payout.*.*", "Payout.*"] {
            assert!(Pattern::parse(text).is_err(), "{text:?}");
        }
        assert!(EventType::ALL.into_iter().all(|kind| patterns(&["payout.*"]).wants(kind) == kind.name().starts_with("payout.")));
        assert!(patterns(&["payout.failed"]).wants(EventType::Failed) && !patterns(&["payout.failed"]).wants(EventType::Completed));
        assert_eq!(patterns(&["payout.*", "payout.failed"]).to_filter(), ",payout.*,payout.failed,");
        // As records of before wildcards are written.
        assert_eq!(serde_json::to_string(&patterns(&["payout.failed"])).expect("JSON"), r#"{"these":["payout.failed"]}"#);
    }

    /// Each former secret signs until the time that it was given, whatever is rotated meanwhile, and there are never more than the limit.
    #[test]
    fn a_rotation_ends_no_former_secret_before_its_time() {
        let now: Timestamp = "2026-03-02T09:00:00Z".parse().expect("a time");
        let after = |hours| now + jiff::SignedDuration::from_hours(hours);
        let secret = |byte| Secret::from_bytes(&[byte; 32]).expect("a secret");
        let numbers = |secrets: &Secrets, at| -> Vec<u8> {
            let valid = secrets.valid_at(at);
            valid.iter().map(|found| (1..=9).find(|byte| secret(*byte) == *found).expect("one of them")).collect()
        };
        let two = Secrets::new(secret(1)).rotated(secret(2), now, after(5)).expect("there is room");
        let three = two.rotated(secret(3), after(1), after(2)).expect("there is room");
        assert_eq!([1, 2, 4, 5].map(|hours| numbers(&three, after(hours))), [vec![3, 2, 1], vec![3, 1], vec![3, 1], vec![3]]);
        assert_eq!([1, 2, 5].map(|hours| three.former_until(after(hours))), [vec![after(2), after(5)], vec![after(5)], vec![]]);
        assert_eq!([1, 2, 5].map(|hours| three.next_change(after(hours))), [Some(after(2)), Some(after(5)), None]);
        let five = three.rotated(secret(4), after(1), after(6)).and_then(|four| four.rotated(secret(5), after(1), after(6))).expect("there is room");
        assert_eq!(numbers(&five, after(1)), [5, 4, 3, 2, 1]);
        assert_eq!(five.rotated(secret(6), after(1), after(6)).err(), Some(TooManySecrets { first_ends: after(2) }));
        // Room is made by time, or by whoever wants no overlap: then the new one signs alone.
        assert_eq!(numbers(&five.rotated(secret(6), after(2), after(6)).expect("there is room"), after(2)), [6, 5, 4, 3, 1]);
        assert_eq!(numbers(&five.rotated(secret(6), after(1), after(1)).expect("there is room"), after(1)), [6]);
        // As records of before are written.
        let written = r#"{"signing":[{"secret":"whsec_AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="},{"secret":"whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","until":"2026-03-02T14:00:00Z"}]}"#;
        assert_eq!(serde_json::to_string(&two).expect("JSON"), written);
        assert_eq!(numbers(&serde_json::from_str(written).expect("secrets"), now), [2, 1]);
    }

    #[test]
    fn headers_of_the_service_and_of_the_connection_are_refused() {
        let mut headers = Headers::default();
        assert_eq!(headers.add("X-Api-Key", "abc def"), Ok(()));
        assert_eq!(headers.add("Authorization", "Bearer x"), Ok(()));
        for name in
            ["Webhook-Id", "webhook-signature", "HOST", "Content-Length", "content-type", "Transfer-Encoding", "payrelay-replay", "user-agent"]
        {
            assert_eq!(headers.add(name, "x"), Err(HeaderRefused::Reserved), "{name}");
        }
        for name in ["", "a b", "a:b", "ä", "a\r\nb"] {
            assert_eq!(headers.add(name, "x"), Err(HeaderRefused::Name), "{name:?}");
        }
        for value in ["", " a", "a ", "a\r\nb: c", "ä", "a\tb"] {
            assert_eq!(headers.add("a", value), Err(HeaderRefused::Value), "{value:?}");
        }
        assert_eq!(headers.add("x-api-KEY", "other"), Err(HeaderRefused::Repeated));
        assert!(headers.iter().any(|header| header == ("x-api-key", "abc def")), "the first stays");
        assert_eq!(headers.names().collect::<Vec<_>>(), ["authorization", "x-api-key"]);
        assert_eq!(format!("{headers:?}"), "Headers(2 redacted)");
    }
}
