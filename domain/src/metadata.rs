//! What a caller attaches to a payout for the merchant's own use: kept and given back, never read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The entries as the text of a JSON object, written once: every event of the payout repeats it byte for byte.
#[derive(Clone, Default)]
pub struct Metadata(Option<Arc<RawValue>>);

impl Metadata {
    /// Reads back what [`Self::json`] gave; the empty text is no metadata.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn from_json(text: String) -> Result<Self, serde_json::Error> {
        if text.is_empty() { Ok(Self::default()) } else { RawValue::from_string(text).map(|text| Self(Some(text.into()))) }
    }

    /// The text of a JSON object, or nothing.
    #[must_use]
    pub fn json(&self) -> &str {
        self.0.as_ref().map_or("", |text| text.get())
    }

    /// Whether each of these entries is among them.
    #[must_use]
    pub fn has(&self, entries: &BTreeMap<String, String>) -> bool {
        let own: BTreeMap<String, String> = serde_json::from_str(self.json()).unwrap_or_default();
        entries.iter().all(|(name, value)| own.get(name) == Some(value))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl From<&BTreeMap<String, String>> for Metadata {
    fn from(entries: &BTreeMap<String, String>) -> Self {
        if entries.is_empty() {
            return Self::default();
        }
        let text = serde_json::value::to_raw_value(entries).expect("a map of strings is always JSON");
        Self(Some(text.into()))
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(text) => text.serialize(serializer),
            None => BTreeMap::<&str, &str>::new().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(|entries| Self::from(&entries))
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Eq for Metadata {}

/// What merchants write there is nobody's business.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({} bytes)", self.json().len())
    }
}
