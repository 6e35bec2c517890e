//! A payout instrument: an account or a card that a party can be paid out to, kept under a name of the platform's, so that a balance account can say where
//! its money goes without saying an account number.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::destination::{BeneficiaryName, Destination};
use crate::id::{IdError, Mode, PartyId};
use crate::money::Currency;
use crate::revision::Revision;

/// A payout instrument as it is kept, sealed. Neither its reference nor its currency ever changes: balance accounts rely on both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instrument {
    pub party: PartyId,
    pub mode: Mode,
    pub reference: InstrumentReference,
    pub currency: Currency,
    pub payee: Payee,
    /// The owners of the credentials that have set the name and the destination. `None`: before owners were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_by: Option<String>,
    /// What tells the request that made it from another one under the same reference.
    pub fingerprint: String,
    /// Counts the changes, from 1.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Who is paid, and where: what the platform may change. All of it is personal data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payee {
    pub name: BeneficiaryName,
    pub destination: Destination,
}

/// The name of an instrument within its party: 1 to 64 of `A-Z a-z 0-9 _ -` and, inside, spaces. Compared exactly. Not personal data.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstrumentReference(String);

// === impl Instrument ===

impl Instrument {
    /// The instrument with another payee, decided on a version by the owner of a credential. What stays as it is stays the decision of whoever has made it,
    /// unless that is not on record.
    #[must_use]
    pub fn revise(&self, payee: Payee, decided_on: u64, by: &str, now: Timestamp) -> Revision<Self> {
        let of = |stays: bool, held: &Option<String>| held.clone().filter(|_| stays).or_else(|| Some(by.to_owned()));
        let name_by = of(payee.name == self.payee.name, &self.name_by);
        let destination_by = of(payee.destination == self.payee.destination, &self.destination_by);
        let same = payee == self.payee && name_by == self.name_by && destination_by == self.destination_by;
        Revision::decide(self.version, decided_on, same, |version| Self { payee, name_by, destination_by, version, updated_at: now, ..self.clone() })
    }

    /// Who has decided who is paid and where: the owners of credentials, [`None`] for one who is not on record.
    #[must_use]
    pub fn decided_by(&self) -> BTreeSet<Option<String>> {
        BTreeSet::from([self.name_by.clone(), self.destination_by.clone()])
    }
}

// === impl InstrumentReference ===

impl InstrumentReference {
    /// # Errors
    /// [`IdError`] when the text is empty, longer than 64, begins or ends with a space, or holds another character.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b' ');
        let is_one = (1..=64).contains(&text.len()) && text.bytes().all(allowed) && text.trim_matches(' ') == text;
        if is_one { Ok(Self(text.to_owned())) } else { Err(IdError { expected: "1 to 64 letters, digits, _, - or, inside, spaces" }) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstrumentReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for InstrumentReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for InstrumentReference {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<InstrumentReference> for String {
    fn from(reference: InstrumentReference) -> Self {
        reference.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Iban;

    fn instrument() -> Instrument {
        let now = Timestamp::from_second(1).expect("an instant");
        Instrument {
            party: PartyId::parse("acme").expect("a party"),
            mode: Mode::Test,
            reference: InstrumentReference::parse("primaryBusinessAccount").expect("a reference"),
            currency: Currency::GBP,
            payee: Payee {
                name: BeneficiaryName::parse("Ada Lovelace", 140).expect("a name"),
                destination: Destination::Iban(Iban::parse("GB29NWBK60161331926819").expect("an IBAN")),
            },
            name_by: Some("ann".to_owned()),
            destination_by: Some("ann".to_owned()),
            fingerprint: "f".to_owned(),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    #[test]
    fn references_fit_into_keys_and_paths() {
        for good in ["primaryBusinessAccount", "a", "GBP account-2", "_", &"x".repeat(64)] {
            assert_eq!(InstrumentReference::parse(good).map(|reference| reference.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", " ", "a ", " a", "a/b", "a.b", "a:b", "é", "a\nb", &"x".repeat(65)] {
            assert!(InstrumentReference::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn another_payee_makes_the_next_version() {
        let instrument = instrument();
        let later = Timestamp::from_second(9).expect("an instant");
        let payee = Payee { name: BeneficiaryName::parse("Ada King", 140).expect("a name"), ..instrument.payee.clone() };
        let Revision::Changed(changed) = instrument.revise(payee.clone(), 1, "bob", later) else { panic!("a change") };
        let name_by = Some("bob".to_owned());
        assert_eq!(changed, Instrument { payee: payee.clone(), name_by, version: 2, updated_at: later, ..instrument.clone() });
        assert_eq!(changed.decided_by(), [Some("ann".to_owned()), Some("bob".to_owned())].into(), "who named it, and who set where it is");
        assert_eq!(changed.revise(payee, 1, "bob", later), Revision::Repeated);
        assert_eq!(changed.revise(instrument.payee.clone(), 1, "ann", later), Revision::Stale);
        assert_eq!(instrument.revise(instrument.payee.clone(), 1, "bob", later), Revision::Same, "to agree is not to decide");
        let old = Instrument { name_by: None, destination_by: None, ..instrument };
        let Revision::Changed(known) = old.revise(old.payee.clone(), 1, "bob", later) else { panic!("somebody stands for it") };
        assert_eq!((old.decided_by(), known.decided_by()), ([None].into(), [Some("bob".to_owned())].into()));
    }

    #[test]
    fn the_record_is_read_as_it_was_written_and_shows_nothing() {
        let instrument = instrument();
        let json = serde_json::to_string(&instrument).expect("serialises");
        assert!(json.contains(r#""payee":{"name":"Ada Lovelace","destination":{"type":"iban","iban":"GB29NWBK60161331926819"}}"#), "{json}");
        assert_eq!(serde_json::from_str::<Instrument>(&json).expect("reads"), instrument);
        let shown = format!("{instrument:?}");
        assert!(shown.contains("primaryBusinessAccount") && !shown.contains("Ada") && !shown.contains("6819"), "{shown}");
    }
}
