//! Whose something is: a party, and whether its money is real.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::IdError;
use super::form::digest;

/// Whether money is real. Test and live never see each other's data; the mode is part of every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Test,
    Live,
}

impl Mode {
    /// `test` or `live`, in keys, records, URLs and log fields.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A party, by the name that the platform gave it: 1 to 64 of `A-Z a-z 0-9 _ -`, compared exactly. Cheap to clone, safe in keys and URLs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartyId(Arc<str>);

impl PartyId {
    const EXPECTED: &'static str = "a party id: 1 to 64 letters, digits, _ or -";

    /// # Errors
    ///
    /// [`IdError`] when the text is empty, longer than 64 or holds another character.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(IdError { expected: Self::EXPECTED })
        }
    }

    /// The party that the platform calls so: the reference itself where it can be an id, else `par_` and the first 13 bytes of its digest under the
    /// label `payrelay party 1`, in lower-case hexadecimal digits.
    #[must_use]
    pub fn of_reference(reference: &str) -> Self {
        Self::parse(reference).unwrap_or_else(|_| {
            let digest = digest("payrelay party 1", &[reference.as_bytes()]);
            Self(format!("par_{}", const_hex::encode(&digest[..13])).into())
        })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PartyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl fmt::Display for PartyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
