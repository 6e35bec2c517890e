//! Where money goes: the account, the name on it and the text on the statement. All of it is personal data.
//!
//! Values are checked once, when they are read, and carried as types. None of them has a `Display`, and `Debug` never shows what is inside, so that
//! they cannot slip into a log line; who needs the text asks for it with `as_str`. Errors say what is wrong without repeating the value.
//! They do have serde, because records keep them, encrypted. serde's own "invalid type" errors do repeat a value, so a request is parsed
//! as plain strings first and then with the `parse` functions here.

use std::fmt;

use iban::IbanLike as _;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::instrument::InstrumentReference;

/// Why a text is not an account. One variant for each thing that a caller would be told differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    #[error("an IBAN is written in upper-case letters and digits, without spaces")]
    IbanCharacters,
    #[error("an IBAN is a country code, two check digits and the account")]
    IbanForm,
    #[error("the check digits of the IBAN do not match")]
    IbanCheckDigits,
    #[error("the country of the IBAN has no IBANs")]
    IbanCountry,
    #[error("the IBAN does not have the length or form of its country")]
    IbanCountryForm,
    #[error("a sort code is six digits, or three pairs of digits with hyphens")]
    SortCode,
    #[error("an account number is eight digits")]
    AccountNumber,
    #[error("a routing number is nine digits")]
    RoutingNumber,
    #[error("the check digit of the routing number does not match")]
    RoutingCheckDigit,
    #[error("an account number in the United States is 4 to 17 digits")]
    UsAccountNumber,
    #[error("a card number is 12 to 19 digits, without spaces")]
    CardNumber,
    #[error("the check digit of the card number does not match")]
    CardCheckDigit,
    #[error("an expiry is a year and a month: 2031-05")]
    CardExpiry,
    #[error("a card token is an https address of at most 2048 characters")]
    CardToken,
}

/// Why a text is not a name or a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("must not be empty")]
    Empty,
    #[error("must be at most {max} characters")]
    TooLong { max: usize },
    #[error("must not start or end with white space")]
    Edges,
    #[error("must not hold control characters, line breaks or marks that change the direction of writing")]
    Control,
}

/// `Debug` that shows the type and nothing of the value.
macro_rules! redacted {
    ($($kind:ident),+) => {$(
        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($kind), "(redacted)"))
            }
        }
    )+};
}

/// serde as the text, checked on the way in.
macro_rules! checked_text {
    ($kind:ident, $error:ident, $parse:expr) => {
        impl TryFrom<String> for $kind {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                let parse: fn(&str) -> Result<Self, $error> = $parse;
                parse(&text)
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.as_str().to_owned()
            }
        }
    };
}

pub(crate) use {checked_text, redacted};

mod card;
mod us;

pub use card::{CardExpiry, CardNumber, CardToken};
pub use us::{RoutingNumber, UsAccountNumber, UsAccountType};

redacted!(Iban, SortCode, AccountNumber, Destination, BeneficiaryName, StatementReference, Description, Beneficiary);
checked_text!(Iban, DestinationError, Self::parse);
checked_text!(SortCode, DestinationError, Self::parse);
checked_text!(AccountNumber, DestinationError, Self::parse);
checked_text!(BeneficiaryName, TextError, |text| Self::parse(text, Self::MAX_CHARS));
checked_text!(StatementReference, TextError, |text| Self::parse(text, Self::MAX_CHARS));
checked_text!(Description, TextError, Self::parse);

/// An IBAN whose country, form and check digits are right. Whether the account exists is another question.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Iban(iban::Iban);

impl Iban {
    /// Reads the electronic form only: upper case, no spaces.
    ///
    /// # Errors
    ///
    /// The `Iban…` variants of [`DestinationError`].
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        use iban::{ParseBaseIbanError, ParseIbanError};
        // The crate also reads the paper form in groups of four, and an IBAN in two forms would be two beneficiaries.
        if !text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
            return Err(DestinationError::IbanCharacters);
        }
        // Its errors hold the value; only their kind goes on.
        text.parse().map(Self).map_err(|error| match error {
            ParseIbanError::InvalidBaseIban { source: ParseBaseIbanError::InvalidFormat } => DestinationError::IbanForm,
            ParseIbanError::InvalidBaseIban { source: ParseBaseIbanError::InvalidChecksum } => DestinationError::IbanCheckDigits,
            ParseIbanError::InvalidBban(_) => DestinationError::IbanCountryForm,
            ParseIbanError::UnknownCountry(_) => DestinationError::IbanCountry,
        })
    }

    /// The electronic form: 15 to 34 upper-case letters and digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.electronic_str()
    }

    /// The two letters of the country.
    #[must_use]
    pub fn country(&self) -> &str {
        self.0.country_code()
    }

    /// Whether accounts in a country, by its two capital letters, have IBANs.
    #[must_use]
    pub fn has_country(code: &str) -> bool {
        // An account number is judged by the country's form only once its check digits are right, and some two digits are.
        let known = |text: &str| matches!(Self::parse(text), Ok(_) | Err(DestinationError::IbanCountryForm));
        code.len() == 2 && (2..=98).any(|check| known(&format!("{code}{check:02}00000000000")))
    }
}

/// A sort code of the United Kingdom: six digits.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SortCode(String);

impl SortCode {
    /// Reads `123456` and `12-34-56`, and keeps the former.
    ///
    /// # Errors
    ///
    /// [`DestinationError::SortCode`].
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        let plain = match text.as_bytes() {
            [a, b, b'-', c, d, b'-', e, f] => [*a, *b, *c, *d, *e, *f],
            [a, b, c, d, e, f] => [*a, *b, *c, *d, *e, *f],
            _ => return Err(DestinationError::SortCode),
        };
        if plain.iter().all(u8::is_ascii_digit) { Ok(Self(plain.map(char::from).iter().collect())) } else { Err(DestinationError::SortCode) }
    }

    /// Six digits, no hyphens.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An account number of the United Kingdom: eight digits.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountNumber(String);

impl AccountNumber {
    /// # Errors
    ///
    /// [`DestinationError::AccountNumber`]. Shorter numbers are not padded here: whether that is right depends on the bank.
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        if text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(DestinationError::AccountNumber)
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The account or the card that money is sent to. Wallets become variants when a connector pays to them.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub enum Destination {
    /// In JSON `{"type": "iban", "iban": …}`.
    Iban(Iban),
    /// In JSON `{"type": "sort_code_account_number", "sort_code": …, "account_number": …}`.
    UkAccount { sort_code: SortCode, account_number: AccountNumber },
    /// In JSON `{"type": "routing_number_account_number", "routing_number": …, "account_number": …, "account_type": "checking"}`.
    UsAccount { routing_number: RoutingNumber, account_number: UsAccountNumber, account_type: UsAccountType },
    /// In JSON `{"type": "card", "number": …, "expiry": "2031-05"}`. The name on the card is that of the beneficiary.
    Card { number: CardNumber, expiry: CardExpiry },
    /// A card that the provider keeps. In JSON `{"type": "card_token", "token": "https://…"}`.
    CardToken(CardToken),
    /// The number that a card network gave out in place of a card's. In JSON `{"type": "network_token", "number": …, "expiry": …}`.
    NetworkToken { number: CardNumber, expiry: CardExpiry },
    /// The number of a card in an Apple Pay device, decrypted. In JSON `{"type": "apple_pay", "number": …, "expiry": …}`.
    ApplePay { number: CardNumber, expiry: CardExpiry },
    /// The account that is configured at the provider for the balance that pays: nobody else's account, and its number is not ours to know.
    /// In JSON `{"type": "own_account"}`.
    OwnAccount,
}

impl Destination {
    /// Every `type`.
    pub const KINDS: [&'static str; 8] =
        ["iban", "sort_code_account_number", "routing_number_account_number", "card", "card_token", "network_token", "apple_pay", "own_account"];

    /// The `type` of its JSON form: `iban`, `card`, and so on.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Iban(_) => "iban",
            Self::UkAccount { .. } => "sort_code_account_number",
            Self::UsAccount { .. } => "routing_number_account_number",
            Self::Card { .. } => "card",
            Self::CardToken(_) => "card_token",
            Self::NetworkToken { .. } => "network_token",
            Self::ApplePay { .. } => "apple_pay",
            Self::OwnAccount => "own_account",
        }
    }

    /// The account behind it, in one spelling for each: a British IBAN is its sort code and account number, and a card stays the same with another expiry.
    /// Personal data, for keyed hashes only.
    #[must_use]
    pub fn account(&self) -> String {
        match self {
            Self::Iban(iban) => match iban.as_str().strip_prefix("GB").and_then(|rest| rest.get(6..)) {
                Some(account) => format!("GB {account}"),
                None => format!("iban {}", iban.as_str()),
            },
            Self::UkAccount { sort_code, account_number } => format!("GB {}{}", sort_code.as_str(), account_number.as_str()),
            Self::UsAccount { routing_number, account_number, .. } => format!("US {} {}", routing_number.as_str(), account_number.as_str()),
            Self::Card { number, .. } | Self::NetworkToken { number, .. } | Self::ApplePay { number, .. } => format!("card {}", number.as_str()),
            Self::CardToken(token) => format!("token {}", token.as_str()),
            Self::OwnAccount => "own account".to_owned(),
        }
    }

    /// Enough for a person to recognise an account they know, and no more: `GB29…6819` for an IBAN, `…5678` for the number of an account or a card,
    /// `own account` for the balance's own.
    #[must_use]
    pub fn masked(&self) -> String {
        let last_of = |text| format!("…{}", last_four(text));
        match self {
            Self::Iban(iban) => format!("{}{}…{}", iban.0.country_code(), iban.0.check_digits_str(), last_four(iban.as_str())),
            Self::UkAccount { sort_code: _, account_number } => last_of(account_number.as_str()),
            // With four digits, the last four would be the account.
            Self::UsAccount { account_number, .. } if account_number.as_str().len() < 8 => "…".to_owned(),
            Self::UsAccount { account_number, .. } => last_of(account_number.as_str()),
            Self::Card { number, .. } | Self::NetworkToken { number, .. } | Self::ApplePay { number, .. } => last_of(number.as_str()),
            Self::CardToken(_) => "…".to_owned(),
            Self::OwnAccount => "own account".to_owned(),
        }
    }
}

/// Of an ASCII text.
fn last_four(text: &str) -> &str {
    text.get(text.len().saturating_sub(4)..).unwrap_or_default()
}

/// What [`Destination`] looks like in JSON.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Form {
    Iban { iban: Iban },
    SortCodeAccountNumber { sort_code: SortCode, account_number: AccountNumber },
    RoutingNumberAccountNumber { routing_number: RoutingNumber, account_number: UsAccountNumber, account_type: UsAccountType },
    Card { number: CardNumber, expiry: CardExpiry },
    CardToken { token: CardToken },
    NetworkToken { number: CardNumber, expiry: CardExpiry },
    ApplePay { number: CardNumber, expiry: CardExpiry },
    // Braces, because serde lets unknown fields pass beside a variant without any.
    OwnAccount {},
}

impl From<Form> for Destination {
    fn from(form: Form) -> Self {
        match form {
            Form::Iban { iban } => Self::Iban(iban),
            Form::SortCodeAccountNumber { sort_code, account_number } => Self::UkAccount { sort_code, account_number },
            Form::RoutingNumberAccountNumber { routing_number, account_number, account_type } => {
                Self::UsAccount { routing_number, account_number, account_type }
            }
            Form::Card { number, expiry } => Self::Card { number, expiry },
            Form::CardToken { token } => Self::CardToken(token),
            Form::NetworkToken { number, expiry } => Self::NetworkToken { number, expiry },
            Form::ApplePay { number, expiry } => Self::ApplePay { number, expiry },
            Form::OwnAccount {} => Self::OwnAccount,
        }
    }
}

impl From<Destination> for Form {
    fn from(destination: Destination) -> Self {
        match destination {
            Destination::Iban(iban) => Self::Iban { iban },
            Destination::UkAccount { sort_code, account_number } => Self::SortCodeAccountNumber { sort_code, account_number },
            Destination::UsAccount { routing_number, account_number, account_type } => {
                Self::RoutingNumberAccountNumber { routing_number, account_number, account_type }
            }
            Destination::Card { number, expiry } => Self::Card { number, expiry },
            Destination::CardToken(token) => Self::CardToken { token },
            Destination::NetworkToken { number, expiry } => Self::NetworkToken { number, expiry },
            Destination::ApplePay { number, expiry } => Self::ApplePay { number, expiry },
            Destination::OwnAccount => Self::OwnAccount {},
        }
    }
}

/// Who holds the account: 1 to 140 characters on one line, white space only inside.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BeneficiaryName(String);

impl BeneficiaryName {
    /// The longest name that any payment scheme carries, in characters.
    pub const MAX_CHARS: usize = 140;

    /// `max_chars` is the limit of the provider or of the route; above [`BeneficiaryName::MAX_CHARS`] it has no effect.
    ///
    /// # Errors
    ///
    /// [`TextError`]. The text is refused, never trimmed or cut: a bank may compare it with the name that it knows.
    pub fn parse(text: &str, max_chars: usize) -> Result<Self, TextError> {
        one_line(text, max_chars.min(Self::MAX_CHARS)).map(Self)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first letter, for a person who knows the name: `A…`. Of a single letter, nothing.
    #[must_use]
    pub fn masked(&self) -> String {
        let mut letters = self.0.chars();
        let first = letters.next().filter(|_| letters.next().is_some());
        first.into_iter().chain(['…']).collect()
    }
}

/// What the beneficiary reads on the statement: 1 to 140 characters on one line, white space only inside. Providers allow fewer.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StatementReference(String);

impl StatementReference {
    /// The longest reference that any payment scheme carries, in characters.
    pub const MAX_CHARS: usize = 140;

    /// `max_chars` is the limit of the provider or of the route; above [`StatementReference::MAX_CHARS`] it has no effect.
    ///
    /// # Errors
    ///
    /// [`TextError`]. The text is refused, never trimmed or cut: a beneficiary may match it to an invoice.
    pub fn parse(text: &str, max_chars: usize) -> Result<Self, TextError> {
        one_line(text, max_chars.min(Self::MAX_CHARS)).map(Self)
    }

    /// That of a payout which a schedule opens: `Payout 27 Nov 2026`. 18 letters, digits and spaces, which every provider can carry.
    #[must_use]
    pub fn of_due_date(due: Date) -> Self {
        Self(due.strftime("Payout %d %b %Y").to_string())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a payer wrote for the statement where longer texts are taken than statements have room for, as seed 004 does.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Description(String);

impl Description {
    /// The longest description of seed 004, in characters.
    pub const MAX_CHARS: usize = 255;

    /// # Errors
    ///
    /// [`TextError`]. The text is refused, never trimmed or cut.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        one_line(text, Self::MAX_CHARS).map(Self)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its beginning, as much as a statement has room for: at most `max_chars` characters, and [`StatementReference::MAX_CHARS`].
    ///
    /// # Errors
    ///
    /// [`TextError::Empty`] where there is room for none of it.
    pub fn reference(&self, max_chars: usize) -> Result<StatementReference, TextError> {
        let beginning: String = self.0.chars().take(max_chars.min(StatementReference::MAX_CHARS)).collect();
        StatementReference::parse(beginning.trim_end(), max_chars)
    }
}

/// The text itself, if it is 1 to `max` characters that can stand on one line of a statement, or of an operator's screen.
pub(crate) fn one_line(text: &str, max: usize) -> Result<String, TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if text.chars().nth(max).is_some() {
        return Err(TextError::TooLong { max });
    }
    // Control characters come first: a line break at the end is white space too, and the other message would hide it.
    if text.chars().any(breaks_the_line) {
        return Err(TextError::Control);
    }
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return Err(TextError::Edges);
    }
    Ok(text.to_owned())
}

/// Controls, line and paragraph separators, and the marks with which a text can show itself in another order than it is.
#[must_use]
pub fn breaks_the_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Everything about the person or company that is paid. Kept encrypted, apart from the payout's record.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beneficiary {
    pub name: BeneficiaryName,
    pub reference: StatementReference,
    pub destination: Destination,
    /// What `reference` is the beginning of, where there was not room for all of it on a statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// The payout instrument that it was taken from, where the caller named none of this: whom it is about is then masked in answers, as it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument: Option<InstrumentReference>,
}

impl Beneficiary {
    /// The owner of the balance that pays, at the account configured for it. The provider knows the holder and is sent no name, so the name here is only
    /// a label for people: `Own account`.
    #[must_use]
    pub fn own_account(reference: StatementReference) -> Self {
        Self { name: BeneficiaryName("Own account".to_owned()), reference, destination: Destination::OwnAccount, description: None, instrument: None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GB: &str = "GB29NWBK60161331926819";

    fn beneficiary() -> Beneficiary {
        Beneficiary {
            name: BeneficiaryName::parse("Ada Lovelace", 140).expect("a name"),
            reference: StatementReference::parse("INV 42", 18).expect("a reference"),
            destination: Destination::Iban(Iban::parse(GB).expect("an IBAN")),
            description: None,
            instrument: None,
        }
    }

    #[test]
    fn an_iban_is_strict_and_says_what_is_wrong() {
        assert_eq!(Iban::parse(GB).map(|iban| iban.as_str().to_owned()), Ok(GB.to_owned()));
        assert_eq!(Iban::parse("NO9386011117947").map(|iban| iban.country().to_owned()), Ok("NO".to_owned()));
        for (text, error) in [
            ("GB29 NWBK 6016 1331 9268 19", DestinationError::IbanCharacters),
            ("gb29NWBK60161331926819", DestinationError::IbanCharacters),
            ("GB29NWBK60161331926819\n", DestinationError::IbanCharacters),
            ("ＧB29NWBK60161331926819", DestinationError::IbanCharacters),
            ("", DestinationError::IbanForm),
            ("2929NWBK60161331926819", DestinationError::IbanForm),
            ("GB29NWBK60161331926818", DestinationError::IbanCheckDigits),
            ("GB92NWBK60161331926819", DestinationError::IbanCheckDigits),
            ("AL84212110090000AB023569874", DestinationError::IbanCountryForm),
        ] {
            assert_eq!(Iban::parse(text).err(), Some(error), "{text:?}");
        }
    }

    #[test]
    fn a_country_without_ibans_is_told_apart() {
        // The check digits of "US" and ten zeros, by the rule: 98 - (number mod 97).
        let found = (2..=98).map(|check| format!("US{check:02}0000000000000")).find_map(|text| match Iban::parse(&text) {
            Err(DestinationError::IbanCheckDigits) => None,
            other => Some(other),
        });
        assert_eq!(found, Some(Err(DestinationError::IbanCountry)));
    }

    #[test]
    fn uk_accounts_are_digits() {
        for (text, expected) in [
            ("123456", Some("123456")),
            ("12-34-56", Some("123456")),
            ("00-00-00", Some("000000")),
            ("12-3456", None),
            ("1234-56", None),
            ("12 34 56", None),
            ("12345", None),
            ("1234567", None),
            ("12345a", None),
            ("12-34-5x", None),
            ("١٢٣", None),
            ("", None),
        ] {
            assert_eq!(SortCode::parse(text).ok().as_ref().map(SortCode::as_str), expected, "{text:?}");
        }
        for (text, good) in [("12345678", true), ("00000000", true), ("1234567", false), ("123456789", false), ("1234567x", false), ("١٢٣٤", false)]
        {
            assert_eq!(AccountNumber::parse(text).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn names_and_references_stay_on_one_line() {
        for (text, max, error) in [
            ("Ada", 18, None),
            ("Żółć & Søn (1) 株式会社", 140, None),
            ("123456789012345678", 18, None),
            ("1234567890123456789", 18, Some(TextError::TooLong { max: 18 })),
            ("éééé", 4, None),
            ("éééé", 3, Some(TextError::TooLong { max: 3 })),
            ("a", 0, Some(TextError::TooLong { max: 0 })),
            ("", 18, Some(TextError::Empty)),
            (" Ada", 18, Some(TextError::Edges)),
            ("Ada ", 18, Some(TextError::Edges)),
            ("\u{a0}Ada", 18, Some(TextError::Edges)),
            ("A\nda", 18, Some(TextError::Control)),
            ("Ada\n", 18, Some(TextError::Control)),
            ("A\u{0}da", 18, Some(TextError::Control)),
            ("A\u{85}da", 18, Some(TextError::Control)),
            ("A\u{202e}da", 18, Some(TextError::Control)),
            ("A\u{2028}da", 18, Some(TextError::Control)),
        ] {
            assert_eq!(BeneficiaryName::parse(text, max).err(), error, "{text:?}");
            assert_eq!(StatementReference::parse(text, max).err(), error, "{text:?}");
        }
        let long = "x".repeat(141);
        assert_eq!(BeneficiaryName::parse(&long, usize::MAX).err(), Some(TextError::TooLong { max: 140 }));
        assert!(BeneficiaryName::parse(&long[1..], usize::MAX).is_ok());
    }

    #[test]
    fn a_due_date_is_a_reference_that_every_provider_can_carry() {
        let reference = StatementReference::of_due_date(jiff::civil::date(2026, 11, 2));
        assert_eq!(reference.as_str(), "Payout 02 Nov 2026");
        assert_eq!(StatementReference::parse(reference.as_str(), 18), Ok(reference.clone()));
        assert!(reference.as_str().chars().all(|c| c.is_ascii_alphanumeric() || c == ' '));
    }

    #[test]
    fn json_is_fixed_and_checked() {
        let json = format!(r#"{{"name":"Ada Lovelace","reference":"INV 42","destination":{{"type":"iban","iban":"{GB}"}}}}"#);
        assert_eq!(serde_json::to_string(&beneficiary()).expect("serialises"), json);
        assert_eq!(serde_json::from_str::<Beneficiary>(&json).expect("reads"), beneficiary());

        let json = r#"{"type":"sort_code_account_number","sort_code":"123456","account_number":"12345678"}"#;
        let account: Destination = serde_json::from_str(json).expect("reads");
        assert_eq!(serde_json::to_string(&account).expect("serialises"), json);

        let own = Beneficiary::own_account(StatementReference::parse("Week 12", 18).expect("a reference"));
        let json = r#"{"name":"Own account","reference":"Week 12","destination":{"type":"own_account"}}"#;
        assert_eq!(serde_json::to_string(&own).expect("serialises"), json);
        assert_eq!(serde_json::from_str::<Beneficiary>(json).expect("reads"), own);
        for bad in [
            r#"{"type":"own_account","iban":"GB29NWBK60161331926819"}"#,
            r#"{"type":"own_account","note":1}"#,
            r#"{"type":"iban","iban":"GB00NWBK60161331926819"}"#,
            r#"{"type":"iban"}"#,
            r#"{"type":"card","iban":"GB29NWBK60161331926819"}"#,
            r#"{"type":"card","number":"4444333322221112","expiry":"2031-05"}"#,
            r#"{"type":"card","number":"4444333322221111","expiry":"05/31"}"#,
            r#"{"type":"card","number":"4444333322221111","expiry":"2031-05","cvc":"123"}"#,
            r#"{"type":"card_token","token":"http://a/b"}"#,
            r#"{"type":"routing_number_account_number","routing_number":"021000022","account_number":"1234","account_type":"checking"}"#,
            r#"{"type":"routing_number_account_number","routing_number":"021000021","account_number":"1234","account_type":"gold"}"#,
            r#"{"iban":"GB29NWBK60161331926819"}"#,
            r#"{"type":"iban","iban":"GB29NWBK60161331926819","sort_code":"123456"}"#,
            r#"{"type":"sort_code_account_number","sort_code":"123456"}"#,
            r#"{"type":"sort_code_account_number","sort_code":"123456","account_number":"1234"}"#,
        ] {
            assert!(serde_json::from_str::<Destination>(bad).is_err(), "{bad}");
        }
    }

    /// Every other kind of destination: its JSON, and what a person may see of it.
    const KINDS: [(&str, &str); 6] = [
        (r#"{"type":"routing_number_account_number","routing_number":"021000021","account_number":"87654321","account_type":"savings"}"#, "…4321"),
        (r#"{"type":"routing_number_account_number","routing_number":"021000021","account_number":"7654321","account_type":"checking"}"#, "…"),
        (r#"{"type":"card","number":"4444333322221111","expiry":"2031-05"}"#, "…1111"),
        (r#"{"type":"card_token","token":"https://try.access.worldpay.com/tokens/MTIz"}"#, "…"),
        (r#"{"type":"network_token","number":"4917610000000000003","expiry":"2031-05"}"#, "…0003"),
        (r#"{"type":"apple_pay","number":"5555555555554444","expiry":"2031-05"}"#, "…4444"),
    ];

    #[test]
    fn every_kind_survives_both_ways_masked_and_redacted() {
        for (json, masked) in KINDS {
            let destination: Destination = serde_json::from_str(json).expect(json);
            assert_eq!(serde_json::to_string(&destination).expect("serialises"), json);
            assert_eq!(destination.masked(), masked, "{json}");
            assert_eq!(format!("{destination:?} {destination:#?}"), "Destination(redacted) Destination(redacted)");
        }
        let error =
            serde_json::from_str::<Destination>(r#"{"type":"card","number":"4444333322221112","expiry":"2031-05"}"#).expect_err("a typing error");
        assert!(!error.to_string().contains("4444"), "{error}");
        let number = CardNumber::parse("4444333322221111").expect("a number");
        let routing = RoutingNumber::parse("021000021").expect("a routing number");
        let (expiry, token) = (CardExpiry::parse("2031-05").expect("an expiry"), CardToken::parse("https://a/secret").expect("a token"));
        let shown = format!("{number:?} {routing:?} {expiry:?} {token:?} {:?}", UsAccountNumber::parse("7654321").expect("an account"));
        for secret in ["4444", "0210", "2031", "secret", "7654"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }

    #[test]
    fn masks_show_the_ends_only() {
        assert_eq!(beneficiary().destination.masked(), "GB29…6819");
        let account = Destination::UkAccount {
            sort_code: SortCode::parse("12-34-56").expect("a sort code"),
            account_number: AccountNumber::parse("00015678").expect("an account number"),
        };
        assert_eq!(account.masked(), "…5678");
        assert_eq!(Destination::OwnAccount.masked(), "own account");
        for (name, masked) in [("Ada Lovelace", "A…"), ("王小明", "王…"), ("X", "…")] {
            assert_eq!(BeneficiaryName::parse(name, 140).expect("a name").masked(), masked);
        }
    }

    /// I14: neither `Debug`, plain or pretty, nor an error shows any part of a value.
    #[test]
    fn nothing_leaks_through_debug_or_errors() {
        let one = beneficiary();
        let Destination::Iban(iban) = &one.destination else { panic!("an IBAN") };
        let sort_code = SortCode::parse("987654").expect("a sort code");
        let account_number = AccountNumber::parse("31926819").expect("an account number");
        let bad = "GB29NWBK60161331926818";
        let mut shown =
            format!("{one:?} {one:#?} {:?} {:?} {:?} {iban:?} {sort_code:?} {account_number:?}", one.name, one.reference, one.destination);
        let error = Iban::parse(bad).expect_err("wrong check digits");
        shown += &format!(" {error} {error:?} {:?}", Destination::UkAccount { sort_code, account_number });
        shown += &serde_json::from_str::<Destination>(&format!(r#"{{"type":"iban","iban":"{bad}"}}"#)).expect_err("wrong check digits").to_string();
        for secret in ["GB29", "6819", "6818", "3192", "NWBK", "Ada", "Lovelace", "INV", "987654"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_kept_whole_or_refused(text in "\\PC{0,40}", max in 0_usize..40) {
            if let Ok(name) = BeneficiaryName::parse(&text, max) {
                prop_assert!(name.as_str() == text && text.trim() == text && (1..=max).contains(&text.chars().count()));
            }
            let _ = (Iban::parse(&text), SortCode::parse(&text), AccountNumber::parse(&text));
        }
    }
}
