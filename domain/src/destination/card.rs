//! Cards, and what stands for them: tokens of a provider, network tokens, numbers of a device.
//!
//! A card number only ever lives inside a [`super::Beneficiary`], which records keep encrypted. The security code of a card is not needed for a payout
//! and has no type here.

use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::DestinationError;

redacted!(CardNumber, CardExpiry, CardToken);
checked_text!(CardNumber, DestinationError, Self::parse);
checked_text!(CardExpiry, DestinationError, Self::parse);
checked_text!(CardToken, DestinationError, Self::parse);

/// The number of a card, or the number that a network or a device uses in its place: 12 to 19 digits whose check digit is right.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CardNumber(String);

impl CardNumber {
    /// Reads digits only: no spaces, no hyphens.
    ///
    /// # Errors
    ///
    /// [`DestinationError::CardNumber`], [`DestinationError::CardCheckDigit`].
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        if !(12..=19).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DestinationError::CardNumber);
        }
        // Luhn: from the right, every second digit counts double, and the digits of what that makes are added up.
        let doubled = |digit: u32| digit.saturating_mul(2);
        let digits = text.chars().rev().filter_map(|digit| digit.to_digit(10)).enumerate();
        let counted =
            digits.map(|(place, digit)| if place.is_multiple_of(2) { digit } else { (doubled(digit) / 10).saturating_add(doubled(digit) % 10) });
        let sum: u32 = counted.sum();
        if sum.is_multiple_of(10) { Ok(Self(text.to_owned())) } else { Err(DestinationError::CardCheckDigit) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The last month in which a card is valid. In text `2031-05`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CardExpiry(String);

impl CardExpiry {
    /// Reads `YYYY-MM`, of the years 2000 to 2099. Whether that is past is another question: some payouts go to cards that have expired.
    ///
    /// # Errors
    ///
    /// [`DestinationError::CardExpiry`].
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        let form = match text.as_bytes() {
            [b'2', b'0', y, z, b'-', m, n] => [y, z, m, n].into_iter().all(u8::is_ascii_digit),
            _ => false,
        };
        let expiry = Self(text.to_owned());
        if form && (1..=12).contains(&expiry.month()) { Ok(expiry) } else { Err(DestinationError::CardExpiry) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// 2000 to 2099.
    #[must_use]
    pub fn year(&self) -> i16 {
        self.0.get(..4).and_then(|year| year.parse().ok()).unwrap_or_default()
    }

    /// 1 to 12.
    #[must_use]
    pub fn month(&self) -> i8 {
        self.0.get(5..).and_then(|month| month.parse().ok()).unwrap_or_default()
    }

    /// Whether the month is over on that day.
    #[must_use]
    pub fn is_past(&self, today: Date) -> bool {
        (self.year(), self.month()) < (today.year(), today.month())
    }
}

/// The address of a card that a provider keeps: an https URL of at most 2,048 visible ASCII characters. Who has it can pay to the card.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CardToken(String);

impl CardToken {
    /// # Errors
    ///
    /// [`DestinationError::CardToken`].
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        let rest = text.strip_prefix("https://").unwrap_or_default();
        let good = rest.contains('/') && !rest.starts_with('/') && text.len() <= 2048 && rest.bytes().all(|byte| byte.is_ascii_graphic());
        if good { Ok(Self(text.to_owned())) } else { Err(DestinationError::CardToken) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_card_number_has_its_check_digit() {
        for (text, error) in [
            ("4444333322221111", None),
            ("5555555555554444", None),
            ("4917610000000000003", None),
            ("676770000000", Some(DestinationError::CardCheckDigit)),
            ("4444333322221112", Some(DestinationError::CardCheckDigit)),
            ("4443433322221111", Some(DestinationError::CardCheckDigit)),
            ("4444 3333 2222 1111", Some(DestinationError::CardNumber)),
            ("44443333222", Some(DestinationError::CardNumber)),
            ("44443333222211110000", Some(DestinationError::CardNumber)),
            ("٤٤٤٤٣٣", Some(DestinationError::CardNumber)),
            ("", Some(DestinationError::CardNumber)),
        ] {
            assert_eq!(CardNumber::parse(text).err(), error, "{text:?}");
        }
    }

    #[test]
    fn an_expiry_is_a_month() {
        let expiry = CardExpiry::parse("2031-05").expect("an expiry");
        assert_eq!((expiry.year(), expiry.month(), expiry.as_str()), (2031, 5, "2031-05"));
        assert!(!expiry.is_past(date(2031, 5, 31)) && expiry.is_past(date(2031, 6, 1)) && expiry.is_past(date(2032, 1, 1)));
        assert!(!expiry.is_past(date(2030, 12, 31)));
        for text in ["2031-00", "2031-13", "2031-5", "31-05", "05/2031", "2131-05", "2031-+5", "2031-05-01", "20x1-05", ""] {
            assert_eq!(CardExpiry::parse(text), Err(DestinationError::CardExpiry), "{text:?}");
        }
    }

    #[test]
    fn a_token_is_an_address() {
        assert!(CardToken::parse("https://try.access.worldpay.com/tokens/MTIz").is_ok());
        for text in ["http://a/b", "https://", "https:///b", "https://a", "https://a/b c", "https://a/\u{e9}", "tokens/MTIz", ""] {
            assert_eq!(CardToken::parse(text), Err(DestinationError::CardToken), "{text:?}");
        }
        assert!(CardToken::parse(&format!("https://a/{}", "x".repeat(2038))).is_ok());
        assert!(CardToken::parse(&format!("https://a/{}", "x".repeat(2039))).is_err());
    }

    proptest! {
        /// One wrong digit never passes: that is what the check digit is for.
        #[test]
        fn one_wrong_digit_is_noticed(digits in "[0-9]{11,18}", place in 0_usize..12, by in 1_u32..10) {
            let number = (0..10).map(|check| format!("{digits}{check}")).find(|text| CardNumber::parse(text).is_ok());
            let number = number.expect("one of ten check digits fits");
            let other = |digit: u32| char::from_digit((digit.saturating_add(by)) % 10, 10).expect("a digit");
            let change = |(at, digit): (usize, char)| if at == place { other(digit.to_digit(10).expect("a digit")) } else { digit };
            let wrong: String = number.chars().enumerate().map(change).collect();
            prop_assert_eq!(CardNumber::parse(&wrong).err(), Some(DestinationError::CardCheckDigit));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
            let _ = (CardNumber::parse(&text), CardExpiry::parse(&text), CardToken::parse(&text));
        }
    }
}
