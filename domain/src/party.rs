//! The record of a party: what the platform calls it, where it is at home, and whether it may be paid out for.
//!
//! Keys and payouts know a party by its [`PartyId`] alone, and need no record. One that has a record can be deactivated: then no payout of it is opened
//! any more, by whatever way, while those that are open go on.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::destination::{TextError, checked_text, one_line, redacted};
use crate::id::{Mode, PartyId};
use crate::revision::Revision;

/// A party as it is kept, sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// [`PartyId::of_reference`].
    pub id: PartyId,
    pub mode: Mode,
    pub reference: PartyReference,
    pub details: Details,
    /// What tells the request that made it from another one under the same reference.
    pub fingerprint: String,
    /// Counts the changes, from 1.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What the platform may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Details {
    pub display_name: DisplayName,
    pub country: Country,
    pub status: Status,
}

/// Whether payouts of a party may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Active,
    /// They are refused. What is open goes on.
    Inactive,
}

redacted!(PartyReference, DisplayName);
checked_text!(PartyReference, TextError, Self::parse);
checked_text!(DisplayName, TextError, Self::parse);

/// What the platform calls a party: 1 to 64 characters on one line, white space only inside. It may be a name, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartyReference(String);

/// The name of a party for people: 1 to 140 characters on one line, white space only inside.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DisplayName(String);

/// A country by its code of ISO 3166-1: two capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country(iso_country::Country);

/// A text that is no country's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a country of ISO 3166-1, as two capital letters")]
pub struct NotACountry;

// === impl Party ===

impl Party {
    /// A party that the platform makes now: active, at version 1.
    #[must_use]
    pub fn new(reference: PartyReference, mode: Mode, display_name: DisplayName, country: Country, fingerprint: String, now: Timestamp) -> Self {
        Self {
            id: PartyId::of_reference(reference.as_str()),
            mode,
            reference,
            details: Details { display_name, country, status: Status::Active },
            fingerprint,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// The party with other details, decided on a version.
    #[must_use]
    pub fn revise(&self, details: Details, decided_on: u64, now: Timestamp) -> Revision<Self> {
        let same = details == self.details;
        Revision::decide(self.version, decided_on, same, |version| Self { details, version, updated_at: now, ..self.clone() })
    }
}

// === impl Status ===

impl Status {
    pub const ALL: [Self; 2] = [Self::Active, Self::Inactive];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

// === impl PartyReference, DisplayName ===

impl PartyReference {
    pub const MAX_CHARS: usize = 64;

    /// # Errors
    /// [`TextError`].
    pub fn parse(text: &str) -> Result<Self, TextError> {
        one_line(text, Self::MAX_CHARS).map(Self)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DisplayName {
    pub const MAX_CHARS: usize = 140;

    /// # Errors
    /// [`TextError`].
    pub fn parse(text: &str) -> Result<Self, TextError> {
        one_line(text, Self::MAX_CHARS).map(Self)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl Country ===

impl Country {
    /// # Errors
    /// [`NotACountry`]: lower case, another form, or a code that is not given out.
    pub fn parse(code: &str) -> Result<Self, NotACountry> {
        // The crate takes an empty text for an unspecified country.
        code.parse().ok().filter(|country| *country != iso_country::Country::Unspecified).map(Self).ok_or(NotACountry)
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Country {
    type Error = NotACountry;

    fn try_from(code: String) -> Result<Self, NotACountry> {
        Self::parse(&code)
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    fn party() -> Party {
        let reference = PartyReference::parse("acme").expect("a reference");
        let name = DisplayName::parse("Acme & Sons").expect("a name");
        Party::new(reference, Mode::Test, name, Country::parse("GB").expect("a country"), "f".to_owned(), at(1))
    }

    #[test]
    fn a_new_party_is_active_and_a_change_makes_the_next_version() {
        let party = party();
        assert_eq!((party.id.as_str(), party.details.status, party.version), ("acme", Status::Active, 1));
        let off = Details { status: Status::Inactive, ..party.details.clone() };
        let Revision::Changed(changed) = party.revise(off.clone(), 1, at(2)) else { panic!("a change") };
        assert_eq!(changed, Party { details: off.clone(), version: 2, updated_at: at(2), ..party.clone() });
        assert_eq!(changed.revise(off.clone(), 2, at(3)), Revision::Same);
        assert_eq!(changed.revise(off, 1, at(3)), Revision::Repeated);
        assert_eq!(changed.revise(party.details, 1, at(3)), Revision::Stale);
    }

    #[test]
    fn countries_are_those_of_the_standard() {
        for code in ["GB", "DE", "US", "SS", "CW", "ZW"] {
            assert_eq!(Country::parse(code).map(|country| country.to_string()).as_deref(), Ok(code));
        }
        for code in ["", "gb", "UK", "EU", "GBR", "G", "XX", " GB", "ＧＢ"] {
            assert_eq!(Country::parse(code), Err(NotACountry), "{code:?}");
        }
    }

    #[test]
    fn the_record_is_fixed_and_shows_no_name() {
        let party = party();
        let json = serde_json::to_string(&party).expect("serialises");
        let expected = concat!(
            r#"{"id":"acme","mode":"test","reference":"acme","details":{"display_name":"Acme & Sons","country":"GB","status":"active"},"#,
            r#""fingerprint":"f","version":1,"created_at":"1970-01-01T00:00:01Z","updated_at":"1970-01-01T00:00:01Z"}"#
        );
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Party>(&json).expect("reads"), party);
        assert!(!format!("{party:?}").contains("Sons"));
    }

    #[test]
    fn references_and_names_stay_on_one_line() {
        for (text, good) in [("Acme & Sons", true), ("", false), (" x", false), ("a\nb", false), (&"x".repeat(64), true)] {
            assert_eq!((PartyReference::parse(text).is_ok(), DisplayName::parse(text).is_ok()), (good, good), "{text:?}");
        }
        assert!(PartyReference::parse(&"x".repeat(65)).is_err());
        assert!(DisplayName::parse(&"x".repeat(140)).is_ok() && DisplayName::parse(&"x".repeat(141)).is_err());
    }
}
